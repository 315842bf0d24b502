/* scales.c -- what rules ask about scales and zero points. */
#include "scales.h"
#include <float.h>

bool
ml_is_scale(const ml_value *v)
{
	int64_t n;

	if (!ml_is_const(v) || v->type.dtype != ML_f32 || !ml_type_static_count(&v->type, &n))
		return false;
	for (int64_t i = 0; i < n; i++) {
		double s = ml_const_f64(v, i);
		if (!(s >= FLT_MIN && s <= FLT_MAX))
			return false;
	}
	return n > 0;
}

bool
ml_is_per_tensor(const ml_value *scale, const ml_value *zero)
{
	double z;

	return scale->type.rank == 0 && zero->type.rank == 0 && ml_is_scale(scale) &&
	       ml_is_splat(zero, &z);
}

int64_t
ml_zero_of(const ml_value *v)
{
	return ml_const_s64(v, 0);
}

ml_value *
ml_build_zero(ml_builder *b, ml_dtype dtype, int64_t zero)
{
	return ml_build_f64(b, dtype, (double)zero);
}

int64_t
ml_lowest(ml_dtype t)
{
	return ml_dtype_kind_of(t) == ML_KIND_SIGNED ? -(1ll << (ml_dtype_bits(t) - 1)) : 0;
}

int64_t
ml_highest(ml_dtype t)
{
	int bits = ml_dtype_bits(t) - (ml_dtype_kind_of(t) == ML_KIND_SIGNED);

	return (1ll << bits) - 1;
}
