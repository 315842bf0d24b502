/* call.c -- calls C functions whose signature is known at run time only, through libffi. */
#include "mlopt/mlopt.h"
#include <ffi.h>

enum { MAX_ARGUMENTS = 256 };

/* The argument as C passes it. */
typedef union passed {
	void *pointer;
	double f64;
	float f32;
	int64_t s64;
	int32_t s32;
	int16_t s16;
	int8_t s8;
	uint64_t u64;
	uint32_t u32;
	uint16_t u16;
	uint8_t u8;
} passed;

static ffi_type *
pass(const ml_argument *a, passed *to)
{
	switch (a->dtype) {
	case ML_none: to->pointer = a->pointer; return &ffi_type_pointer;
	case ML_f64: to->f64 = a->real; return &ffi_type_double;
	case ML_f32: to->f32 = (float)a->real; return &ffi_type_float;
	case ML_s64: to->s64 = a->integer; return &ffi_type_sint64;
	case ML_s32: to->s32 = (int32_t)a->integer; return &ffi_type_sint32;
	case ML_s16: to->s16 = (int16_t)a->integer; return &ffi_type_sint16;
	case ML_s8: to->s8 = (int8_t)a->integer; return &ffi_type_sint8;
	case ML_u64: to->u64 = (uint64_t)a->integer; return &ffi_type_uint64;
	case ML_u32: to->u32 = (uint32_t)a->integer; return &ffi_type_uint32;
	case ML_f16: /* bits of half floats travel as uint16_t */
	case ML_bf16:
	case ML_u16: to->u16 = (uint16_t)a->integer; return &ffi_type_uint16;
	case ML_s4:
	case ML_s2: to->s8 = (int8_t)a->integer; return &ffi_type_sint8;
	case ML_bool:
	case ML_u4:
	case ML_u2:
	case ML_f8e4m3fn: /* and those of narrower ones as uint8_t */
	case ML_f8e4m3fnuz:
	case ML_f8e5m2:
	case ML_f8e5m2fnuz:
	case ML_f4e2m1:
	case ML_u8: to->u8 = (uint8_t)a->integer; return &ffi_type_uint8;
	}
	return NULL;
}

ml_status
ml_call(ml_function *fn, const ml_argument *arguments, int count, int32_t *result)
{
	ffi_type *type[MAX_ARGUMENTS];
	passed value[MAX_ARGUMENTS];
	void *at[MAX_ARGUMENTS];
	ffi_cif cif;
	ffi_arg returned = 0;

	if (!fn || count < 0 || count > MAX_ARGUMENTS)
		return ML_ERR_ARG;
	for (int i = 0; i < count; i++) {
		type[i] = pass(&arguments[i], &value[i]);
		at[i] = &value[i];
		if (!type[i])
			return ML_ERR_ARG;
	}
	if (ffi_prep_cif(&cif, FFI_DEFAULT_ABI, (unsigned)count, &ffi_type_sint32, type) != FFI_OK)
		return ML_ERR_ARG;
	ffi_call(&cif, fn, &returned, at);
	*result = (int32_t)returned;
	return ML_OK;
}
