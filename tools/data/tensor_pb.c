/* tensor_pb.c -- the few fields of TensorProto, read and written on the wire level. */
#include "tensor_pb.h"
#include "replace.h"
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

enum wire { VARINT = 0, FIXED64 = 1, BYTES = 2, FIXED32 = 5 };

/* Field numbers of TensorProto. */
enum field {
	DIMS = 1,
	DATA_TYPE = 2,
	SEGMENT = 3,
	FLOAT_DATA = 4,
	INT32_DATA = 5,
	STRING_DATA = 6,
	INT64_DATA = 7,
	NAME = 8,
	RAW_DATA = 9,
	DOUBLE_DATA = 10,
	UINT64_DATA = 11,
	EXTERNAL_DATA = 13,
	DATA_LOCATION = 14,
	LAST_KNOWN = 16
};

typedef struct span {
	const uint8_t *at, *end;
} span;

/* One field as it lies on the wire: a number, or the bytes of a string or packed list. */
typedef struct field_value {
	unsigned number;
	enum wire wire;
	uint64_t bits;
	span bytes;
} field_value;

/* What the message says, gathered before anything is decoded. */
typedef struct tensor {
	int rank;
	int64_t dim[MD_MAX_RANK];
	uint64_t data_type;
	span name, raw;
	bool has_raw, is_external;
	unsigned typed_field; /* which of the typed fields has data; 0 = none */
} tensor;

typedef struct report {
	char *why;
	size_t why_size;
} report;

static bool
take_varint(span *s, uint64_t *value)
{
	*value = 0;
	for (int shift = 0; shift < 64 && s->at < s->end; shift += 7) {
		uint8_t byte = *s->at++;

		if (shift == 63 && byte > 1) /* the tenth byte holds one bit */
			return false;
		*value |= (uint64_t)(byte & 127) << shift;
		if (byte < 128)
			return true;
	}
	return false;
}

static bool
take_fixed(span *s, size_t size, uint64_t *bits)
{
	if ((size_t)(s->end - s->at) < size)
		return false;
	*bits = 0;
	for (size_t i = 0; i < size; i++)
		*bits |= (uint64_t)s->at[i] << 8 * i;
	s->at += size;
	return true;
}

static bool
take_field(span *s, field_value *f)
{
	uint64_t key;

	if (!take_varint(s, &key) || key >> 3 == 0 || key >> 3 > (1 << 29) - 1)
		return false;
	f->number = (unsigned)(key >> 3);
	f->wire = (enum wire)(key & 7);
	switch (f->wire) {
	case VARINT: return take_varint(s, &f->bits);
	case FIXED64: return take_fixed(s, 8, &f->bits);
	case FIXED32: return take_fixed(s, 4, &f->bits);
	case BYTES: break;
	default: return false; /* groups are not used by ONNX */
	}
	if (!take_varint(s, &f->bits) || f->bits > (size_t)(s->end - s->at))
		return false;
	f->bytes = (span){s->at, s->at + f->bits};
	s->at += f->bits;
	return true;
}

/* The next number of a repeated field, which may be packed or not: `rest` is the unread part of a
 * packed list.  `element` is the wire type of one number. */
static bool
take_element(span *rest, enum wire element, uint64_t *bits)
{
	if (element == VARINT)
		return take_varint(rest, bits);
	return take_fixed(rest, element == FIXED32 ? 4 : 8, bits);
}

static int
corrupt(report *to)
{
	return md_fail(to->why, to->why_size, "not a serialised ONNX tensor");
}

static int
add_dim(tensor *t, uint64_t dim, report *to)
{
	if (t->rank == MD_MAX_RANK)
		return md_fail(to->why, to->why_size, "more than %d dims", MD_MAX_RANK);
	t->dim[t->rank++] = (int64_t)dim;
	return 0;
}

static int
gather_dims(tensor *t, field_value *f, report *to)
{
	uint64_t dim;

	if (f->wire == VARINT)
		return add_dim(t, f->bits, to);
	if (f->wire != BYTES)
		return corrupt(to);
	while (f->bytes.at < f->bytes.end)
		if (!take_varint(&f->bytes, &dim))
			return corrupt(to);
		else if (add_dim(t, dim, to))
			return -1;
	return 0;
}

static enum wire
element_wire(unsigned field)
{
	return field == FLOAT_DATA ? FIXED32 : field == DOUBLE_DATA ? FIXED64 : VARINT;
}

static int
gather_typed(tensor *t, const field_value *f, report *to)
{
	if (f->wire != BYTES && f->wire != element_wire(f->number))
		return corrupt(to);
	if (f->wire == BYTES && f->bits == 0)
		return 0;
	if (t->typed_field && t->typed_field != f->number)
		return md_fail(to->why, to->why_size, "data in two typed fields");
	t->typed_field = f->number;
	return 0;
}

static int
gather_field(tensor *t, field_value *f, report *to)
{
	switch (f->number) {
	case DIMS: return gather_dims(t, f, to);
	case DATA_TYPE: t->data_type = f->bits; return f->wire == VARINT ? 0 : corrupt(to);
	case FLOAT_DATA:
	case INT32_DATA:
	case INT64_DATA:
	case DOUBLE_DATA:
	case UINT64_DATA: return gather_typed(t, f, to);
	case NAME: t->name = f->bytes; return f->wire == BYTES ? 0 : corrupt(to);
	case RAW_DATA:
		t->raw = f->bytes;
		t->has_raw = true;
		return f->wire == BYTES ? 0 : corrupt(to);
	case SEGMENT: return md_fail(to->why, to->why_size, "segmented tensors are not supported");
	case EXTERNAL_DATA: t->is_external = true; return 0;
	case DATA_LOCATION: t->is_external |= f->bits != 0; return 0;
	default: return f->number <= LAST_KNOWN ? 0 : corrupt(to);
	}
}

static int
gather(span message, tensor *t, report *to)
{
	while (message.at < message.end) {
		field_value f = {0};

		if (!take_field(&message, &f))
			return corrupt(to);
		if (gather_field(t, &f, to))
			return -1;
	}
	if (t->is_external)
		return md_fail(to->why, to->why_size, "external data is not supported here");
	if (t->has_raw && t->typed_field)
		return md_fail(to->why, to->why_size, "data in raw_data and in a typed field");
	return 0;
}

static const uint8_t onnx_type[MD_DTYPE_COUNT] = {
#define MD_DTYPE(id, name, bytes, numpy, onnx) onnx,
#include "dtype.def"
#undef MD_DTYPE
};

static int
find_dtype(uint64_t data_type, md_dtype *dtype, report *to)
{
	for (int i = 0; i < MD_DTYPE_COUNT; i++)
		if (onnx_type[i] == data_type) {
			*dtype = (md_dtype)i;
			return 0;
		}
	if (data_type == 8)
		return md_fail(to->why, to->why_size, "strings are not supported");
	if (data_type == 14 || data_type == 15)
		return md_fail(to->why, to->why_size, "complex numbers are not supported");
	return md_fail(to->why, to->why_size, "ONNX data type %" PRIu64 " is not supported",
		       data_type);
}

/* Which typed field holds the elements of a dtype (comments in onnx.proto). */
static unsigned
field_of(md_dtype dtype)
{
	switch (dtype) {
	case MD_F32: return FLOAT_DATA;
	case MD_F64: return DOUBLE_DATA;
	case MD_I64: return INT64_DATA;
	case MD_U32:
	case MD_U64: return UINT64_DATA;
	default: return INT32_DATA;
	}
}

static int
decode_list(span list, enum wire element, md_array *a, size_t *filled, report *to)
{
	size_t size = md_dtype_size(a->dtype);
	uint64_t bits;

	while (list.at < list.end) {
		if (!take_element(&list, element, &bits))
			return corrupt(to);
		if (*filled == a->bytes)
			return md_fail(to->why, to->why_size, "more elements than the dims say");
		memcpy((char *)a->data + *filled, &bits, size); /* the low bytes */
		*filled += size;
	}
	return 0;
}

static int
decode_typed(span message, const tensor *t, md_array *a, report *to)
{
	enum wire element = element_wire(t->typed_field);
	size_t filled = 0;

	if (t->typed_field && t->typed_field != field_of(a->dtype))
		return md_fail(to->why, to->why_size, "field %u does not hold data of type %s",
			       t->typed_field, md_dtype_name(a->dtype));
	while (message.at < message.end) {
		field_value f = {0};
		const uint8_t *start = message.at;
		uint64_t key;

		take_field(&message, &f); /* gather() has read the same bytes */
		if (f.number != t->typed_field)
			continue;
		if (f.wire != BYTES) { /* one number: what follows the key is a list of one */
			f.bytes = (span){start, message.at};
			take_varint(&f.bytes, &key);
		}
		if (decode_list(f.bytes, element, a, &filled, to))
			return -1;
	}
	return filled == a->bytes
		       ? 0
		       : md_fail(to->why, to->why_size, "fewer elements than the dims say");
}

static int
decode_raw(span raw, md_array *a, report *to)
{
	if ((size_t)(raw.end - raw.at) != a->bytes)
		return md_fail(to->why, to->why_size,
			       "raw_data has %zu bytes, the dims and type ask for %zu",
			       (size_t)(raw.end - raw.at), a->bytes);
	if (a->bytes)
		memcpy(a->data, raw.at, a->bytes);
	return 0;
}

/* No element takes less than one byte of the message: the bound before memory is allocated. */
static int
decode(span message, md_array *a, report *to)
{
	tensor t = {0};
	md_dtype dtype = MD_BOOL;
	size_t bytes;
	char *name;
	int status;

	if (gather(message, &t, to) || find_dtype(t.data_type, &dtype, to) ||
	    md_shape_bytes(dtype, t.rank, t.dim, &bytes, to->why, to->why_size))
		return -1;
	if (bytes / md_dtype_size(dtype) > (size_t)(message.end - message.at))
		return md_fail(to->why, to->why_size, "fewer elements than the dims say");
	name = strndup(t.name.at ? (const char *)t.name.at : "", (size_t)(t.name.end - t.name.at));
	if (!name)
		return md_fail(to->why, to->why_size, "no memory");
	status = md_array_init(a, name, dtype, t.rank, t.dim, to->why, to->why_size);
	free(name);
	if (status == 0)
		status = t.has_raw ? decode_raw(t.raw, a, to) : decode_typed(message, &t, a, to);
	if (status == 0 && dtype == MD_BOOL)
		for (size_t i = 0; i < bytes; i++)
			((uint8_t *)a->data)[i] = ((uint8_t *)a->data)[i] != 0;
	if (status)
		md_array_clear(a);
	return status;
}

static int
read_whole(const char *path, uint8_t **bytes, size_t *size, report *to)
{
	FILE *f = fopen(path, "rbe");
	struct stat st;
	int status = -1;

	*bytes = NULL;
	if (!f)
		return md_fail(to->why, to->why_size, "%s", strerror(errno));
	if (fstat(fileno(f), &st) || !S_ISREG(st.st_mode)) {
		md_fail(to->why, to->why_size, "not a regular file");
	} else {
		*size = (size_t)st.st_size;
		*bytes = malloc(*size + 1);
		if (!*bytes)
			md_fail(to->why, to->why_size, "no memory for %zu bytes", *size);
		else if (*size && fread(*bytes, *size, 1, f) != 1)
			md_fail(to->why, to->why_size, "cannot be read");
		else
			status = 0;
	}
	fclose(f);
	return status;
}

int
md_tensor_read(const char *path, md_array *a, char *why, size_t why_size)
{
	report to = {why, why_size};
	size_t size = 0;
	uint8_t *bytes;
	int status;

	*a = (md_array){0};
	status = read_whole(path, &bytes, &size, &to);
	if (status == 0)
		status = decode((span){bytes, bytes + size}, a, &to);
	free(bytes);
	return status ? md_fail_in(why, why_size, path) : 0;
}

enum { VARINT_MAX = 10 };

static uint8_t *
put_varint(uint8_t *to, uint64_t value)
{
	for (; value > 127; value >>= 7)
		*to++ = (uint8_t)(value | 128);
	*to++ = (uint8_t)value;
	return to;
}

static uint8_t *
put_key(uint8_t *to, enum field number, enum wire wire)
{
	return put_varint(to, (uint64_t)number << 3 | wire);
}

int
md_tensor_write(const char *path, const md_array *a, char *why, size_t why_size)
{
	uint8_t head[2 * VARINT_MAX * (MD_MAX_RANK + 4)];
	uint8_t middle[2 * VARINT_MAX];
	uint8_t *h = head, *m = middle;

	for (int i = 0; i < a->rank; i++)
		h = put_varint(put_key(h, DIMS, VARINT), (uint64_t)a->dim[i]);
	h = put_varint(put_key(h, DATA_TYPE, VARINT), onnx_type[a->dtype]);
	h = put_varint(put_key(h, NAME, BYTES), strlen(a->name));
	m = put_varint(put_key(m, RAW_DATA, BYTES), a->bytes);
	return md_replace_with(path,
			       (md_span[]){{head, (size_t)(h - head)},
					   {a->name, strlen(a->name)},
					   {middle, (size_t)(m - middle)},
					   {a->data, a->bytes}},
			       4, why, why_size);
}
