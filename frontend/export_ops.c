/* export_ops.c -- ONNX spellings of constants, elementwise operators, reductions and moves. */
#include "export_graph.h"
#include <string.h>

static const char *const names[ML_OP_LIMIT] = {
#define ML_SPELL(op, fn, name) [ML_OP_##op] = name,
#include "export_ops.def"
};

/* The node with the operands as they are; attributes are for the caller. */
static Onnx__NodeProto *
same_operands(ml_export *e, const ml_node *n, const char *op)
{
	const char **in = ML_NEW_ARRAY(&e->arena, const char *, n->nin);

	for (int i = 0; i < n->nin; i++)
		in[i] = ml_spell_in(n, i);
	return ml_spell_node(e, op, in, n->nin);
}

const char *
ml_spell_plain(ml_export *e, const ml_node *n)
{
	return same_operands(e, n, names[n->op])->output[0];
}

/* ---- sources ---- */

const char *
ml_spell_const(ml_export *e, const ml_node *n)
{
	const ml_type *t = &n->out[0].type;
	const ml_blob *b = ML_A(n, const, value).blob;
	int64_t dims[ML_MAX_RANK];

	for (int i = 0; i < t->rank; i++)
		ml_dim_is_int(t->dim[i], &dims[i]);
	return ml_spell_weight(e, t->dtype, dims, t->rank, b->bytes, b->size);
}

static const char *
scalar_of(ml_export *e, const char *list)
{
	return ml_spell_reshape(e, list, NULL, 0);
}

/* 0, 1 .. n - 1 as s64[n] */
static const char *
counted(ml_export *e, ml_dim n)
{
	return ml_spell3(e, "Range", ml_spell_number(e, ML_s64, 0),
			 scalar_of(e, ml_spell_dim(e, n)), ml_spell_number(e, ML_s64, 1));
}

const char *
ml_spell_iota(ml_export *e, const ml_node *n)
{
	const ml_type *t = &n->out[0].type;
	int axis = (int)ML_A(n, iota, axis).i64;
	ml_dim column[ML_MAX_RANK];
	const char *name = counted(e, t->dim[axis]);

	if (t->dtype != ML_s64)
		name = ml_spell_cast(e, name, t->dtype);
	if (t->rank == 1)
		return name;
	for (int i = 0; i < t->rank; i++)
		column[i] = i == axis ? t->dim[i] : ml_dim_int(e->m->dims, 1);
	name = ml_spell_reshape(e, name, column, t->rank);
	return ml_spell2(e, "Expand", name, ml_spell_shape(e, t->dim, t->rank));
}

const char *
ml_spell_dim_value(ml_export *e, const ml_node *n)
{
	return scalar_of(e, ml_spell_dim(e, ML_A(n, dim, value).dims[0]));
}

/* ---- elementwise ---- */

static ml_dtype
dtype_in(const ml_node *n, int i)
{
	return ml_in(n, i)->type.dtype;
}

const char *
ml_spell_neg(ml_export *e, const ml_node *n)
{
	ml_dtype t = dtype_in(n, 0);

	if (ml_dtype_kind_of(t) != ML_KIND_UNSIGNED)
		return ml_spell_plain(e, n);
	return ml_spell2(e, "Sub", ml_spell_number(e, t, 0), ml_spell_in(n, 0));
}

const char *
ml_spell_abs(ml_export *e, const ml_node *n)
{
	bool always = ml_dtype_kind_of(dtype_in(n, 0)) == ML_KIND_UNSIGNED;

	return always ? ml_spell_in(n, 0) : ml_spell_plain(e, n);
}

/* And, Or, Xor, Not on bool; bitwise on integers */
const char *
ml_spell_logic(ml_export *e, const ml_node *n)
{
	const char *op = names[n->op];

	if (dtype_in(n, 0) != ML_bool)
		op = ml_format(&e->arena, "Bitwise%s", op);
	return same_operands(e, n, op)->output[0];
}

/* ONNX leaves conversions of numbers out of range open but for floats of 8 bits, which do not
 * saturate in ours; what becomes an integer does, NaN gives 0. */
const char *
ml_spell_cast_op(ml_export *e, const ml_node *n)
{
	return ml_spell_cast(e, ml_spell_in(n, 0), ML_A(n, cast, dtype).dtype);
}

const char *
ml_spell_rem(ml_export *e, const ml_node *n)
{
	Onnx__NodeProto *node = same_operands(e, n, "Mod");

	ml_spell_int(e, node, "fmod", 1);
	return node->output[0];
}

/* Integers have it; numbers take a - b floor(a / b). */
const char *
ml_spell_mod(ml_export *e, const ml_node *n)
{
	const char *a = ml_spell_in(n, 0), *b = ml_spell_in(n, 1), *q;

	if (!ml_is_float(dtype_in(n, 0)))
		return ml_spell_plain(e, n);
	q = ml_spell1(e, "Floor", ml_spell2(e, "Div", a, b));
	return ml_spell2(e, "Sub", a, ml_spell2(e, "Mul", b, q));
}

static const char *
bit_shift(ml_export *e, const char *a, const char *b, const char *direction)
{
	Onnx__NodeProto *node = ml_spell_node(e, "BitShift", (const char *[]){a, b}, 2);

	ml_spell_text(e, node, "direction", direction);
	return node->output[0];
}

/* ONNX shifts unsigned integers. Arithmetic shifts: those of ~a where a is negative, inverted. */
const char *
ml_spell_shift(ml_export *e, const ml_node *n)
{
	static const ml_dtype unsigned_of[] = {[ML_s64] = ML_u64,
					       [ML_s32] = ML_u32,
					       [ML_s16] = ML_u16,
					       [ML_s8] = ML_u8,
					       [ML_f4e2m1] = ML_none};
	const char *a = ml_spell_in(n, 0), *b = ml_spell_in(n, 1), *negative, *x;
	ml_dtype t = dtype_in(n, 0), u = unsigned_of[t];

	if (u == ML_none)
		return bit_shift(e, a, b, names[n->op]);
	b = ml_spell_cast(e, b, u);
	if (n->op == ML_OP_shl)
		return ml_spell_cast(e, bit_shift(e, ml_spell_cast(e, a, u), b, "LEFT"), t);
	negative = ml_spell2(e, "Less", a, ml_spell_number(e, t, 0));
	x = ml_spell3(e, "Where", negative, ml_spell1(e, "BitwiseNot", a), a);
	x = ml_spell_cast(e, bit_shift(e, ml_spell_cast(e, x, u), b, "RIGHT"), t);
	return ml_spell3(e, "Where", negative, ml_spell1(e, "BitwiseNot", x), x);
}

/* The check is left to whoever uses the index. */
const char *
ml_spell_wrap_index(ml_export *e, const ml_node *n)
{
	const char *x = ml_spell_in(n, 0), *size, *negative;
	ml_dtype t = dtype_in(n, 0);

	size = scalar_of(e, ml_spell_dim(e, ML_A(n, wrap_index, size).dims[0]));
	if (t != ML_s64)
		size = ml_spell_cast(e, size, t);
	negative = ml_spell2(e, "Less", x, ml_spell_number(e, t, 0));
	return ml_spell3(e, "Where", negative, ml_spell2(e, "Add", x, size), x);
}

/* ---- along axes ---- */

const char *
ml_spell_reduce(ml_export *e, const ml_node *n)
{
	const ml_attr *axes = &n->attr[0]; /* the only attribute of all of them */

	if (!axes->count)
		return ml_spell_in(n, 0);
	return ml_spell_axes(e, names[n->op], ml_spell_in(n, 0), axes->ints, axes->count);
}

const char *
ml_spell_arg(ml_export *e, const ml_node *n)
{
	Onnx__NodeProto *node = same_operands(e, n, names[n->op]);

	/* arg_max and arg_min have the same attributes in the same places */
	ml_spell_int(e, node, "axis", n->attr[ML_ATTR_SLOT(arg_max, axis)].i64);
	ml_spell_int(e, node, "select_last_index", n->attr[ML_ATTR_SLOT(arg_max, last)].i64);
	return node->output[0];
}

const char *
ml_spell_scan_sum(ml_export *e, const ml_node *n)
{
	const char *in[] = {ml_spell_in(n, 0),
			    ml_spell_number(e, ML_s64, (double)ML_A(n, scan_sum, axis).i64)};
	Onnx__NodeProto *node = ml_spell_node(e, "CumSum", in, 2);

	ml_spell_int(e, node, "exclusive", ML_A(n, scan_sum, exclusive).i64);
	ml_spell_int(e, node, "reverse", ML_A(n, scan_sum, reverse).i64);
	return node->output[0];
}

/* Products over the elements that count for each result: a table [.., n, n], 1 elsewhere. */
const char *
ml_spell_scan_prod(ml_export *e, const ml_node *n)
{
	const ml_type *t = &n->out[0].type;
	int64_t axis = ML_A(n, scan_prod, axis).i64, next = axis + 1;
	const char *x, *i = counted(e, t->dim[axis]), *row = i, *column, *counts;
	ml_dim shape[ML_MAX_RANK + 1];
	int r = t->rank - (int)axis + 1;

	for (int k = 0; k < r; k++)
		shape[k] = ml_dim_int(e->m->dims, 1);
	shape[0] = t->dim[axis];
	row = ml_spell_reshape(e, i, shape, r);
	shape[1] = shape[0];
	shape[0] = ml_dim_int(e->m->dims, 1);
	column = ml_spell_reshape(e, i, shape, r);
	if (ML_A(n, scan_prod, reverse).i64) {
		const char *swap = row;
		row = column;
		column = swap;
	}
	counts = ml_spell2(e, ML_A(n, scan_prod, exclusive).i64 ? "Less" : "LessOrEqual", column,
			   row);
	x = ml_spell_axes(e, "Unsqueeze", ml_spell_in(n, 0), &axis, 1);
	x = ml_spell3(e, "Where", counts, x, ml_spell_number(e, t->dtype, 1));
	x = ml_spell_axes(e, "ReduceProd", x, &next, 1);
	return ml_spell_axes(e, "Squeeze", x, &next, 1);
}

/* ---- moves ---- */

const char *
ml_spell_reshape_op(ml_export *e, const ml_node *n)
{
	const ml_type *t = &n->out[0].type;

	return ml_spell_reshape(e, ml_spell_in(n, 0), t->dim, t->rank);
}

static const char *
transposed(ml_export *e, const char *name, const int64_t *perm, int n)
{
	Onnx__NodeProto *node = ml_spell_node(e, "Transpose", &name, 1);

	ml_spell_ints(e, node, "perm", perm, n);
	return node->output[0];
}

const char *
ml_spell_transpose(ml_export *e, const ml_node *n)
{
	const ml_attr *perm = &ML_A(n, transpose, perm);

	return transposed(e, ml_spell_in(n, 0), perm->ints, perm->count);
}

const char *
ml_spell_broadcast(ml_export *e, const ml_node *n)
{
	const ml_type *t = &n->out[0].type;

	return ml_spell2(e, "Expand", ml_spell_in(n, 0), ml_spell_shape(e, t->dim, t->rank));
}

static const char *
sliced(ml_export *e, const char *name, const char *start, const char *end, const char *axes,
       const char *step)
{
	const char *in[] = {name, start, end, axes, step};

	return name && start && end ? ml_spell_node(e, "Slice", in, 5)->output[0] : NULL;
}

const char *
ml_spell_slice(ml_export *e, const ml_node *n)
{
	const ml_attr *start = &ML_A(n, slice, start), *size = &ML_A(n, slice, size);
	const ml_attr *step = &ML_A(n, slice, step);
	const ml_type *t = &ml_in(n, 0)->type;
	ml_dim from[ML_MAX_RANK], to[ML_MAX_RANK];
	int64_t axes[ML_MAX_RANK], steps[ML_MAX_RANK];
	int k = 0;

	for (int i = 0; i < t->rank; i++) {
		ml_dim way = ml_dim_mul(e->m->dims, size->dims[i],
					ml_dim_int(e->m->dims, step->ints[i]));
		if (size->dims[i] == t->dim[i] && step->ints[i] == 1)
			continue;
		axes[k] = i;
		/* at least 0 anyway, but ONNX must know it: below 0 it counts from the end */
		from[k] = ml_dim_max(e->m->dims, ml_dim_int(e->m->dims, 0), start->dims[i]);
		to[k] = ml_dim_add(e->m->dims, start->dims[i], way);
		to[k] = ml_dim_max(e->m->dims, ml_dim_int(e->m->dims, 0), to[k]);
		steps[k++] = step->ints[i];
	}
	if (!k)
		return ml_spell_in(n, 0);
	return sliced(e, ml_spell_in(n, 0), ml_spell_shape(e, from, k), ml_spell_shape(e, to, k),
		      ml_spell_list(e, axes, k), ml_spell_list(e, steps, k));
}

const char *
ml_spell_reverse(ml_export *e, const ml_node *n)
{
	const ml_attr *axes = &ML_A(n, reverse, axes);
	int64_t start[ML_MAX_RANK], end[ML_MAX_RANK];

	for (int i = 0; i < axes->count; i++) {
		start[i] = -1;
		end[i] = INT64_MIN + 1;
	}
	const char *back = ml_spell_list(e, start, axes->count); /* also the steps */
	return sliced(e, ml_spell_in(n, 0), back, ml_spell_list(e, end, axes->count),
		      ml_spell_list(e, axes->ints, axes->count), back);
}

/* Values between neighbours of one axis: pads a dim of 1 behind it, merges, cuts the end off. */
static const char *
spread(ml_export *e, const char *x, const char *fill, ml_dim *shape, int rank, int axis, int64_t k)
{
	ml_dims *dims = e->m->dims;
	ml_dim split[ML_MAX_RANK + 1], whole;
	int64_t *pads = ML_NEW_ARRAY(&e->arena, int64_t, 2 * (rank + 1)), axes = axis, one = 1;

	for (int i = 0; i < rank; i++)
		split[i + (i > axis)] = shape[i];
	split[axis + 1] = ml_dim_int(dims, 1);
	pads[rank + 1 + axis + 1] = k;
	x = ml_spell_reshape(e, x, split, rank + 1);
	x = ml_spell3(e, "Pad", x, ml_spell_list(e, pads, 2 * (rank + 1)), fill);
	whole = ml_dim_mul(dims, shape[axis], ml_dim_int(dims, k + 1));
	shape[axis] = whole;
	x = ml_spell_reshape(e, x, shape, rank);
	shape[axis] =
		ml_dim_max(dims, ml_dim_int(dims, 0), ml_dim_sub(dims, whole, ml_dim_int(dims, k)));
	return sliced(e, x, ml_spell_list(e, (int64_t[]){0}, 1), ml_spell_dim(e, shape[axis]),
		      ml_spell_list(e, &axes, 1), ml_spell_list(e, &one, 1));
}

const char *
ml_spell_pad(ml_export *e, const ml_node *n)
{
	const ml_type *t = &ml_in(n, 0)->type;
	const char *x = ml_spell_in(n, 0), *fill = ml_spell_in(n, 1);
	ml_dim shape[ML_MAX_RANK], amount[2 * ML_MAX_RANK];
	bool any = false;

	for (int i = 0; i < t->rank; i++)
		shape[i] = t->dim[i];
	for (int i = 0; i < t->rank; i++) {
		int64_t between = ML_A(n, pad, interior).ints[i];
		amount[i] = ML_A(n, pad, low).dims[i];
		amount[t->rank + i] = ML_A(n, pad, high).dims[i];
		any = any || !ml_dim_equals(amount[i], 0) || !ml_dim_equals(amount[t->rank + i], 0);
		if (between)
			x = spread(e, x, fill, shape, t->rank, i, between);
	}
	return any ? ml_spell3(e, "Pad", x, ml_spell_shape(e, amount, 2 * t->rank), fill) : x;
}

const char *
ml_spell_concat(ml_export *e, const ml_node *n)
{
	Onnx__NodeProto *node = same_operands(e, n, "Concat");

	ml_spell_int(e, node, "axis", ML_A(n, concat, axis).i64);
	return node->output[0];
}

/* Where the windows of one axis find their elements: s64[out, size] */
static const char *
window_index(ml_export *e, ml_dim out, int64_t size, int64_t stride, int64_t dilation)
{
	ml_dim column[] = {out, ml_dim_int(e->m->dims, 1)};
	int64_t *offset = ML_NEW_ARRAY(&e->arena, int64_t, size);
	const char *from = ml_spell2(e, "Mul", counted(e, out), ml_spell_list(e, &stride, 1));

	for (int64_t i = 0; i < size; i++)
		offset[i] = i * dilation;
	return ml_spell2(e, "Add", ml_spell_reshape(e, from, column, 2),
			 ml_spell_list(e, offset, (int)size));
}

static const char *
gathered(ml_export *e, const char *x, const char *index, int64_t axis)
{
	Onnx__NodeProto *node = ml_spell_node(e, "Gather", (const char *[]){x, index}, 2);

	ml_spell_int(e, node, "axis", axis);
	return node->output[0];
}

/* One gather for each axis leaves its size behind it; they move to the end together. */
const char *
ml_spell_window(ml_export *e, const ml_node *n)
{
	const ml_attr *size = &ML_A(n, window, size), *stride = &ML_A(n, window, stride);
	const ml_attr *dilation = &ML_A(n, window, dilation);
	const ml_type *t = &n->out[0].type;
	int k = size->count, lead = t->rank - 2 * k;
	const char *x = ml_spell_in(n, 0);
	int64_t perm[ML_MAX_RANK];

	for (int i = 0; i < lead; i++)
		perm[i] = i;
	for (int i = 0; i < k; i++) {
		const char *index = window_index(e, t->dim[lead + i], size->ints[i],
						 stride->ints[i], dilation->ints[i]);
		if (!x || !index)
			return NULL;
		x = gathered(e, x, index, lead + 2 * i);
		perm[lead + i] = lead + 2 * i;
		perm[lead + k + i] = lead + 2 * i + 1;
	}
	return transposed(e, x, perm, t->rank);
}

const char *
ml_spell_gather(ml_export *e, const ml_node *n)
{
	const char *index = ml_spell_in(n, 1);

	if (dtype_in(n, 1) != ML_s64 && dtype_in(n, 1) != ML_s32)
		index = ml_spell_cast(e, index, ML_s64);
	return gathered(e, ml_spell_in(n, 0), index, ML_A(n, gather, axis).i64);
}

const char *
ml_spell_scatter(ml_export *e, const ml_node *n)
{
	const char *mode = ML_A(n, scatter, mode).str, *index = ml_spell_in(n, 1);
	int64_t last = 1;

	if (dtype_in(n, 1) != ML_s64)
		index = ml_spell_cast(e, index, ML_s64);
	const char *in[] = {ml_spell_in(n, 0), ml_spell_axes(e, "Unsqueeze", index, &last, 1),
			    ml_spell_in(n, 2)};
	Onnx__NodeProto *node = ml_spell_node(e, "ScatterND", in, 3);
	if (strcmp(mode, "set"))
		ml_spell_text(e, node, "reduction", mode);
	return node->output[0];
}
