/* onnx_tensor.c -- tensors of a model as plain little-endian arrays. */
#include "../ir/ir.h"
#include "external.h"
#include "onnx_model.h"
#include "wire.h"
#include <assert.h>
#include <string.h>

enum {
	FLOAT_DATA = 4,
	INT32_DATA = 5,
	INT64_DATA = 7,
	RAW_DATA = 9,
	DOUBLE_DATA = 10,
	UINT64_DATA = 11,
	LARGEST_SPARSE = 256 << 20, /* dense bytes: nothing in the file stands behind them */
};

/* ONNX's element types by number: ours from the list, then those we know by name alone. */
static const struct onnx_type {
	const char *name;
	ml_dtype dtype; /* ML_none: not supported */
	int bits;
} types[] = {
#define ML_DTYPE(number, name, bits, kind, onnx, ctype) [onnx] = {#name, ML_##name, bits},
#include "mlopt/types.def"
	[8] = {.name = "string"},      [14] = {.name = "complex64"},  [15] = {.name = "complex128"},
	[24] = {.name = "float8e8m0"}, [27] = {.name = "float6e2m3"}, [28] = {.name = "float6e3m2"},
};
enum { TYPES = sizeof types / sizeof *types };

const char *
ml_onnx_dtype_name(int32_t number)
{
	return number > 0 && number < TYPES ? types[number].name : "undefined";
}

ml_status
ml_onnx_dtype(int32_t number, ml_dtype *out)
{
	*out = ML_none;
	if (number <= 0 || number >= TYPES)
		return ML_ERR_FORMAT;
	if (types[number].dtype == ML_none)
		return ML_ERR_UNSUPPORTED;
	*out = types[number].dtype;
	return ML_OK;
}

/* The typed field that elements of a type are kept in, when they are not raw. */
static uint32_t
field_of(ml_dtype dtype)
{
	switch (dtype) {
	case ML_f32: return FLOAT_DATA;
	case ML_f64: return DOUBLE_DATA;
	case ML_s64: return INT64_DATA;
	case ML_u32:
	case ML_u64: return UINT64_DATA;
	default: return INT32_DATA;
	}
}

/* A tensor being read. */
typedef struct reading {
	ml_context *cx;
	ml_onnx_model *model;
	const Onnx__TensorProto *tensor;
	const ml_prov *at;
	struct onnx_type type;
	uint64_t count; /* elements */
	uint64_t units; /* stored units: elements, or bytes that hold several */
	uint64_t size;  /* bytes as stored */
} reading;

static ml_status
refuse(const reading *r, ml_status status, const char *what)
{
	ml_arena *arena = &r->cx->arena;

	return ml_error(r->cx, status, r->at, "tensor '%s': %s", ml_escaped(arena, r->tensor->name),
			what);
}

/* The product of dims; 0 as soon as one of them is, whatever the others say. */
static bool
count_elements(const int64_t *dim, size_t rank, uint64_t *count)
{
	uint64_t n = 1;
	bool fits = true, empty = false;

	for (size_t i = 0; i < rank; i++) {
		if (dim[i] < 0)
			return false;
		empty |= dim[i] == 0;
		fits &= !__builtin_mul_overflow(n, (uint64_t)dim[i], &n);
	}
	*count = empty ? 0 : n;
	return empty || fits;
}

static ml_status
measure(reading *r)
{
	const Onnx__TensorProto *t = r->tensor;
	ml_arena *arena = &r->cx->arena;

	if (t->data_type <= 0 || t->data_type >= TYPES)
		return refuse(r, ML_ERR_FORMAT,
			      ml_format(arena, "%d is no element type", t->data_type));
	r->type = types[t->data_type];
	if (r->type.dtype == ML_none)
		return refuse(r, ML_ERR_UNSUPPORTED,
			      ml_format(arena, "element type %s is not supported", r->type.name));
	if (t->segment)
		return refuse(r, ML_ERR_UNSUPPORTED, "tensors in segments are not supported");
	if (!count_elements(t->dims, t->n_dims, &r->count))
		return refuse(r, ML_ERR_FORMAT, "a dim is negative or their product overflows");
	uint64_t several = r->type.bits < 8 ? 8 / (uint64_t)r->type.bits : 1;
	r->units = r->count / several + (r->count % several != 0);
	if (__builtin_mul_overflow(r->units, (uint64_t)(r->type.bits + 7) / 8, &r->size))
		return refuse(r, ML_ERR_FORMAT, "its size overflows");
	return ML_OK;
}

static void
release_mapping(void *mapping)
{
	ml_mapping_drop(mapping);
}

static void
rest_mapping(void *mapping, const void *bytes, uint64_t size)
{
	ml_mapping_rest(mapping, bytes, size);
}

/* Bools other than 0 and 1 would be a third truth value to compiled code. */
static bool
is_plain(const reading *r, const uint8_t *bytes)
{
	if (r->type.bits < 8)
		return false;
	if (r->type.dtype == ML_bool)
		for (uint64_t i = 0; i < r->count; i++)
			if (bytes[i] > 1)
				return false;
	return true;
}

/* Gives elements of few bits, lowest first, a byte each, and makes bools 0 or 1. */
static void
widen(const reading *r, const uint8_t *from, uint8_t *to)
{
	uint64_t bits = (uint64_t)r->type.bits, several = 8 / bits;
	uint8_t all = (uint8_t)((1 << bits) - 1);
	uint8_t sign = ml_dtype_kind_of(r->type.dtype) == ML_KIND_SIGNED ? all / 2 + 1 : 0;

	for (uint64_t i = 0; i < r->count; i++)
		if (bits == 8)
			to[i] = from[i] != 0;
		else
			to[i] = (uint8_t)(((from[i / several] >> (i % several * bits) & all) ^
					   sign) -
					  sign);
}

static ml_blob *
blob_of_raw(reading *r, ml_mapping *file, const uint8_t *bytes)
{
	ml_memory *memory = r->model->memory;
	void *owned;

	if (!is_plain(r, bytes)) {
		ml_blob *blob = ml_blob_new(memory, r->count, &owned);
		widen(r, bytes, owned);
		return blob;
	}
	ml_blob *blob = ml_blob_wrap(memory, bytes, r->size, file, release_mapping);
	blob->rest = rest_mapping;
	ml_mapping_share(file);
	return blob;
}

/* Elements of the typed fields as they come, in order. */
typedef struct elements {
	uint8_t *to;
	uint64_t i, n;
	int bytes; /* of one stored element */
	bool is_bool;
} elements;

static bool
store(elements *e, uint64_t value)
{
	if (e->i == e->n)
		return false;
	if (e->is_bool)
		value = value != 0;
	memcpy(e->to + e->i++ * (uint64_t)e->bytes, &value, (size_t)e->bytes); /* low bytes */
	return true;
}

static bool
decode_fixed(elements *e, const uint8_t *at, const uint8_t *end, int bytes)
{
	if ((end - at) % bytes || (uint64_t)(end - at) / (uint64_t)bytes > e->n - e->i)
		return false;
	memcpy(e->to + e->i * (uint64_t)bytes, at, (size_t)(end - at));
	e->i += (uint64_t)(end - at) / (uint64_t)bytes;
	return true;
}

static bool
decode_packed(elements *e, uint32_t field, ml_wire w)
{
	uint64_t value;

	if (field == FLOAT_DATA || field == DOUBLE_DATA)
		return decode_fixed(e, w.at, w.end, e->bytes);
	while (w.at < w.end)
		if (!ml_wire_varint(&w, &value) || !store(e, value))
			return false;
	return true;
}

static bool
decode_tagged(elements *e, uint32_t field, ml_wire w)
{
	ml_wire_field f;

	while (w.at < w.end) {
		if (ml_wire_next(&w, &f) || f.number != field || f.type == ML_WIRE_BYTES)
			return false;
		bool stored = f.type == ML_WIRE_VARINT
				      ? store(e, f.varint)
				      : decode_fixed(e, f.value, f.after, e->bytes);
		if (!stored)
			return false;
	}
	return true;
}

/* Copies piece i; false when there is none. */
static bool
piece(const reading *r, size_t i, ml_payload *p)
{
	if (i >= r->tensor->n_payload)
		return false;
	assert(r->tensor->payload[i].len == sizeof *p);
	memcpy(p, r->tensor->payload[i].data, sizeof *p);
	return true;
}

static ml_status
decode_pieces(reading *r, uint32_t field, uint64_t available, ml_blob **out)
{
	const uint8_t *file = r->model->mapping->bytes;
	ml_memory *memory = r->model->memory;
	elements e = {.n = r->units,
		      .bytes = (r->type.bits + 7) / 8,
		      .is_bool = r->type.dtype == ML_bool};
	ml_payload p;
	void *bytes;
	bool right = true;

	/* Every element takes a byte at least, so that memory stays in proportion to the file. */
	if (r->units > available)
		return refuse(r, ML_ERR_FORMAT, "it has fewer elements than its shape");
	/* Packed elements go to the end, from where they are widened in place. */
	uint64_t room = r->type.bits < 8 ? r->count : r->size;
	*out = ml_blob_new(memory, room, &bytes);
	e.to = (uint8_t *)bytes + (room - r->size);
	for (size_t i = 0; right && piece(r, i, &p); i++) {
		ml_wire w = {file + p.offset, file + p.offset + p.size};
		right = p.packed ? decode_packed(&e, field, w) : decode_tagged(&e, field, w);
	}
	if (!right || e.i != e.n) {
		ml_blob_drop(*out);
		*out = NULL;
		return refuse(r, ML_ERR_FORMAT,
			      right ? "it has fewer elements than its shape"
				    : "it has more elements than its shape, or malformed ones");
	}
	if (r->type.bits < 8)
		widen(r, e.to, bytes);
	return ML_OK;
}

/* Elements inside the model file. */
static ml_status
read_inline(reading *r, ml_blob **out)
{
	ml_arena *arena = &r->cx->arena;
	ml_payload first = {0}, p;
	uint64_t available = 0;
	void *none;

	piece(r, 0, &first);
	for (size_t i = 0; piece(r, i, &p); i++) {
		available += p.size;
		if (p.field != first.field || (i && p.field == RAW_DATA))
			return refuse(r, ML_ERR_FORMAT, "its data is given twice");
	}
	if (!available && r->count)
		return refuse(
			r, ML_ERR_FORMAT,
			r->tensor->n_string_data
				? "it holds strings, which its element type does not allow"
				: ml_format(arena,
					    "its shape has %llu elements, but there is no data",
					    (unsigned long long)r->count));
	if (!available) {
		*out = ml_blob_new(r->model->memory, 0, &none);
		return ML_OK;
	}
	if (first.field != RAW_DATA && first.field != field_of(r->type.dtype))
		return refuse(r, ML_ERR_FORMAT,
			      ml_format(arena, "its data is in a field that type %s does not use",
					r->type.name));
	bool whole = r->tensor->n_payload == 1 && first.packed &&
		     (first.field == RAW_DATA || first.field == FLOAT_DATA ||
		      first.field == DOUBLE_DATA);
	if (!whole)
		return decode_pieces(r, first.field, available, out);
	if (first.size != r->size)
		return refuse(r, ML_ERR_FORMAT,
			      ml_format(arena, "its shape needs %llu bytes, the data has %llu",
					(unsigned long long)r->size,
					(unsigned long long)first.size));
	*out = blob_of_raw(r, r->model->mapping, r->model->mapping->bytes + first.offset);
	return ML_OK;
}

static ml_status
read_external(reading *r, ml_blob **out)
{
	ml_mapping *file;
	const uint8_t *bytes;

	if (r->tensor->n_payload)
		return refuse(r, ML_ERR_FORMAT, "its data is both in the model and external");
	ML_STEP(ml_external_find(r->cx, r->model, r->tensor, r->size, r->at, &file, &bytes));
	*out = blob_of_raw(r, file, bytes);
	return ML_OK;
}

ml_status
ml_onnx_tensor(ml_context *cx, ml_onnx_model *m, const Onnx__TensorProto *t, const ml_prov *at,
	       ml_onnx_tensor_view *out)
{
	reading r = {.cx = cx, .model = m, .tensor = t, .at = at};
	ml_blob *bytes = NULL;
	bool external = t->data_location == ONNX__TENSOR_PROTO__DATA_LOCATION__EXTERNAL;

	ML_STEP(measure(&r));
	ML_STEP(external ? read_external(&r, &bytes) : read_inline(&r, &bytes));
	*out = (ml_onnx_tensor_view){.dtype = r.type.dtype,
				     .rank = (int)t->n_dims,
				     .dims = t->dims,
				     .count = r.count,
				     .bytes = bytes};
	return ML_OK;
}

/* The position of element i of a sparse tensor in the dense one; false when out of range.  Indices
 * are linear, or one row of coordinates per element. */
static bool
dense_position(const Onnx__SparseTensorProto *s, const ml_onnx_tensor_view *index, uint64_t i,
	       uint64_t count, uint64_t *position)
{
	size_t columns = index->rank == 2 ? s->n_dims : 1;

	*position = 0;
	for (size_t k = 0; k < columns; k++) {
		uint64_t at, limit = index->rank == 2 ? (uint64_t)s->dims[k] : count;
		memcpy(&at, (const char *)index->bytes->bytes + (i * columns + k) * sizeof at,
		       sizeof at);
		if (at >= limit)
			return false;
		*position = *position * limit + at;
	}
	return true;
}

static ml_status
scatter(const reading *r, const Onnx__SparseTensorProto *s, const ml_onnx_tensor_view *value,
	const ml_onnx_tensor_view *index, ml_onnx_tensor_view *out)
{
	bool rows = index->rank == 2 && (uint64_t)index->dims[1] == s->n_dims;
	uint64_t size = ((uint64_t)r->type.bits + 7) / 8, count, position;
	void *dense;

	if (value->rank != 1 || index->dtype != ML_s64 || !(rows || index->rank == 1) ||
	    index->dims[0] != value->dims[0])
		return refuse(r, ML_ERR_FORMAT, "values and indices do not fit each other");
	if (!count_elements(s->dims, s->n_dims, &count))
		return refuse(r, ML_ERR_FORMAT, "a dim is negative or their product overflows");
	if (count > LARGEST_SPARSE / size)
		return refuse(r, ML_ERR_LIMIT,
			      ml_format(&r->cx->arena, "more than %d MiB when made dense",
					LARGEST_SPARSE >> 20));
	ml_blob *blob = ml_blob_new(r->model->memory, count * size, &dense);
	memset(dense, 0, (size_t)(count * size));
	for (uint64_t i = 0; i < value->count; i++) {
		if (!dense_position(s, index, i, count, &position)) {
			ml_blob_drop(blob);
			return refuse(r, ML_ERR_FORMAT, "an index is out of range");
		}
		memcpy((char *)dense + position * size,
		       (const char *)value->bytes->bytes + i * size, (size_t)size);
	}
	*out = (ml_onnx_tensor_view){.dtype = value->dtype,
				     .rank = (int)s->n_dims,
				     .dims = s->dims,
				     .count = count,
				     .bytes = blob};
	return ML_OK;
}

ml_status
ml_onnx_sparse_tensor(ml_context *cx, ml_onnx_model *m, const Onnx__SparseTensorProto *s,
		      const ml_prov *at, ml_onnx_tensor_view *out)
{
	reading r = {.cx = cx, .model = m, .tensor = s->values, .at = at};
	ml_onnx_tensor_view value, index;

	if (!s->values || !s->indices)
		return ml_error(cx, ML_ERR_FORMAT, at, "sparse tensor without values or indices");
	/* Held by the model, so that nothing is lost when a later allocation unwinds. */
	ml_status status = ml_onnx_tensor(cx, m, s->values, at, &value);
	if (status == ML_OK) {
		m->held[0] = value.bytes;
		status = ml_onnx_tensor(cx, m, s->indices, at, &index);
	}
	if (status == ML_OK) {
		m->held[1] = index.bytes;
		r.type = types[s->values->data_type];
		status = scatter(&r, s, &value, &index, out);
	}
	for (int i = 0; i < 2; i++) {
		ml_blob_drop(m->held[i]);
		m->held[i] = NULL;
	}
	return status;
}
