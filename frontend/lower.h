/* lower.h -- what a lowering function sees: one ONNX node, its operands as IR values, its
 * attributes, and a builder.
 *
 * A new ONNX operator is one function `ml_lower_<fn>` here and one row in onnx_ops.def.  The
 * function returns the node's first result and sets `out[1]`... for further ones; a result left
 * NULL is an error only if someone uses it.  NULL means failure, which has been reported: by the
 * builder (it sets `b->failed`) or by ml_lower_fail.  Builder calls given NULL return NULL, so
 * expressions nest and are tested once, at the end or where a type is looked at.
 */
#ifndef ML_LOWER_H
#define ML_LOWER_H
#include "../ir/ir.h"
#include "onnx_model.h"

/* Functions look at operands and results that versions of an operator before had not. */
enum { ML_LOWER_SLOTS = 12 };

typedef struct ml_lower ml_lower;
typedef ml_value *ml_lower_fn(ml_lower *);

/* One row of onnx_ops.def: an operator in a range of versions of its domain. */
typedef struct ml_onnx_row {
	const char *domain, *name;
	int since, until; /* inclusive */
	int min_in, max_in, max_out;
	ml_lower_fn *lower;
	int arg; /* what tells operators with one function apart, mostly an ml_op */
} ml_onnx_row;

struct ml_lower {
	ml_context *cx;
	ml_builder *b;
	const Onnx__NodeProto *node;
	const ml_onnx_row *row;
	int64_t version; /* of the operator's domain */
	int nin, nout;   /* as written in the node */
	ml_value **in;   /* ML_LOWER_SLOTS of them at least; NULL: omitted */
	ml_value **out;  /* the same; out[0] is what the function returns */
	uint64_t read;   /* bit i: attribute i was looked at */
	struct ml_import *import;
	const struct ml_frame *frame;
};

/* The row for an operator, NULL when there is none; *known tells that other versions have one. */
const ml_onnx_row *ml_onnx_find_row(const char *domain, const char *name, int64_t version,
				    bool *known);

#define ML_ONNX(domain, name, since, until, min_in, max_in, max_out, fn, arg)                      \
	ml_value *ml_lower_##fn(ml_lower *);
#include "onnx_ops.def"

/* Reports an error at the node and returns NULL. */
void *ml_lower_fail(ml_lower *, ml_status, const char *fmt, ...)
	__attribute__((format(printf, 3, 4)));
/* Allocates in the module's arena: attributes of nodes may point there. */
#define ML_LOWER_ARRAY(x, type, n) ML_NEW_ARRAY(&(x)->b->m->arena, type, n)

/* ---- attributes: lower_attr.c ---- */

/* The attribute, or `init` when the node has none.  A wrong kind is reported and gives `init`:
 * the node is dropped afterwards, because b->failed is set. */
int64_t ml_onnx_int(ml_lower *, const char *name, int64_t init);
double ml_onnx_float(ml_lower *, const char *name, double init);
const char *ml_onnx_text(ml_lower *, const char *name, const char *init);
const int64_t *ml_onnx_ints(ml_lower *, const char *name, int *n); /* NULL when absent */
const float *ml_onnx_floats(ml_lower *, const char *name, int *n);
const char **ml_onnx_texts(ml_lower *, const char *name, int *n);
ml_value *ml_onnx_constant(ml_lower *, const char *name); /* a tensor; NULL when absent */
const Onnx__GraphProto *ml_onnx_graph(ml_lower *, const char *name);
bool ml_onnx_has(ml_lower *, const char *name);
/* An attribute that changes nothing here. */
void ml_onnx_ignore(ml_lower *, const char *name);
/* Element type given by an ONNX number in an attribute. */
bool ml_onnx_type(ml_lower *, const char *name, ml_dtype init, ml_dtype *);

/* ---- operands whose values decide ranks and shapes: lower_args.c ---- */

/* The elements of operand i, which must be known now: as sizes, as integers, as numbers.
 * What depends on data is refused with the name of the graph input to freeze. */
const ml_dim *ml_lower_dims(ml_lower *, int i, int *n);
const int64_t *ml_lower_ints(ml_lower *, int i, int *n);
const double *ml_lower_numbers(ml_lower *, int i, int64_t *n);
/* The same without a message: NULL when it cannot be known. */
ml_value *ml_lower_known(ml_lower *, ml_value *);
/* The number itself when the operand is a known scalar or splat. */
bool ml_lower_scalar(ml_lower *, ml_value *, double *);
/* Are the operands given whose bits are set?  False, reported, else: for those that the row of an
 * operator must let be omitted, as others before them may be. */
bool ml_lower_has(ml_lower *, unsigned operands);
/* Refuses operand i because its value is needed and not known. */
void *ml_lower_needs(ml_lower *, int i);

/* -1 counts from the end; false, reported, outside of [-rank, rank). */
bool ml_lower_axis(ml_lower *, int64_t axis, int rank, int *out);
/* Axes from operand `in` (-1: none) or else the attribute, normalized, without duplicates; NULL
 * with *n == 0 when neither is given, NULL with *n == -1 on error. */
int64_t *ml_lower_axes(ml_lower *, int in, const char *attr, int rank, int *n);

/* ---- building blocks: lower_build.c ---- */

/* In lowering functions, with `x` the node. */
#define ML_X1(op, a)       ml_op1(x->b, ML_OP_##op, (a))
#define ML_X2(op, a, c)    ml_op2(x->b, ML_OP_##op, (a), (c))
#define ML_X3(op, a, c, d) ml_op3(x->b, ML_OP_##op, (a), (c), (d))
#define ML_DIMS            (x->b->m->dims)
#define ML_INT(number)     ml_dim_int(ML_DIMS, (number))

/* A scalar of the value's dtype. */
ml_value *ml_lower_like(ml_lower *, const ml_value *, double);
#define ML_LIKE(value, number) ml_lower_like(x, (value), (number))
/* s64[n] holding sizes. */
ml_value *ml_lower_shape(ml_lower *, const ml_dim *, int n);
/* Any value as s64. */
ml_value *ml_lower_index(ml_lower *, ml_value *);
ml_value *ml_lower_reshape(ml_lower *, ml_value *, const ml_dim *, int n);
ml_value *ml_lower_transpose(ml_lower *, ml_value *, const int64_t *perm);
/* Moves one axis to another place, the others keep their order. */
ml_value *ml_lower_move_axis(ml_lower *, ml_value *, int from, int to);
/* Range `start`, `size` with step 1 along one axis. */
ml_value *ml_lower_cut(ml_lower *, ml_value *, int axis, ml_dim start, ml_dim size);
/* Zero or `fill` on both sides of every axis; the value itself when nothing is added.  Negative
 * amounts cut. */
ml_value *ml_lower_pad(ml_lower *, ml_value *, double fill, const ml_dim *low, const ml_dim *high);
/* x[C] or a scalar, to be broadcast along `axis` of a tensor of that rank. */
ml_value *ml_lower_along(ml_lower *, ml_value *, int axis, int rank);
/* Reduces and drops the axes. */
ml_value *ml_lower_reduce(ml_lower *, ml_op, ml_value *, const int64_t *axes, int n, bool keep);
ml_value *ml_lower_reverse(ml_lower *, ml_value *, const int64_t *axes, int n);
/* v[batch, time, ..] with the first length[b] steps of batch b in reverse. */
ml_value *ml_lower_reverse_within(ml_lower *, ml_value *, ml_value *length);
ml_value *ml_lower_arg(ml_lower *, ml_op, ml_value *, int axis, bool last);
ml_value *ml_lower_softmax(ml_lower *, ml_value *, int axis);
ml_value *ml_lower_log_softmax_at(ml_lower *, ml_value *, int axis);
ml_value *ml_lower_scan(ml_lower *, ml_op, ml_value *, int axis, bool exclusive, bool reverse);
ml_value *ml_lower_wrap(ml_lower *, ml_value *index, ml_dim size);
/* Sliding windows over the last n dims, which become n more dims at the end. */
ml_value *ml_lower_window(ml_lower *, ml_value *, const int64_t *size, const int64_t *stride,
			  const int64_t *dilation, int n);
/* A constant tensor from numbers. */
ml_value *ml_lower_table(ml_lower *, ml_dtype, const double *, const int64_t *dims, int rank);
/* NumPy's matmul for any ranks. */
ml_value *ml_lower_product(ml_lower *, ml_value *, ml_value *);
/* Its rule for lists: one on the left becomes a row, one on the right a column.  False: told why
 * these cannot be multiplied.  ml_lower_as_list() takes the row's and column's dims from the
 * product again. */
typedef struct ml_lists {
	bool row, column;
} ml_lists;
bool ml_lower_lists(ml_lower *, ml_value **a, ml_value **b, ml_lists *);
ml_value *ml_lower_as_list(ml_lower *, ml_value *product, ml_lists);
/* Half precision made f32, for sums of products and normalizations; others as they are. */
ml_value *ml_lower_wide(ml_lower *, ml_value *);
/* A cast; to floats of few bits, what is too large becomes the largest of them. */
ml_value *ml_lower_saturate(ml_lower *, ml_value *, ml_dtype);
/* The value with the dtype of another. */
ml_value *ml_lower_as(ml_lower *, ml_value *, const ml_value *like);
#endif
