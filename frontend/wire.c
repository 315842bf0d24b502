/* wire.c -- reading the protobuf wire format from bytes nobody has checked yet. */
#include "wire.h"
#include <stddef.h>

bool
ml_wire_varint(ml_wire *w, uint64_t *value)
{
	uint64_t v = 0;

	for (int i = 0; i < 10 && i < w->end - w->at; i++) {
		uint8_t byte = w->at[i];
		if (i == 9 && byte > 1)
			return false;
		v |= (uint64_t)(byte & 0x7f) << (7 * i);
		if (byte & 0x80)
			continue;
		w->at += i + 1;
		*value = v;
		return true;
	}
	return false;
}

const char *
ml_wire_next(ml_wire *w, ml_wire_field *f)
{
	uint64_t tag, length = 0;

	*f = (ml_wire_field){.tag = w->at};
	if (!ml_wire_varint(w, &tag))
		return "malformed field tag";
	if (tag > UINT32_MAX || tag >> 3 == 0)
		return "field number out of range";
	f->number = (uint32_t)(tag >> 3);
	f->type = (ml_wire_type)(tag & 7);
	f->value = w->at;
	switch (f->type) {
	case ML_WIRE_VARINT:
		if (!ml_wire_varint(w, &f->varint))
			return "malformed integer";
		f->after = w->at;
		return NULL;
	case ML_WIRE_64: length = 8; break;
	case ML_WIRE_32: length = 4; break;
	case ML_WIRE_BYTES:
		if (!ml_wire_varint(w, &length))
			return "malformed length";
		f->value = w->at;
		break;
	default: return "wire type that ONNX does not use";
	}
	if (length > (uint64_t)(w->end - f->value))
		return "length runs past the end of the enclosing message";
	f->after = w->at = f->value + length;
	return NULL;
}
