/* expand.h -- inside of ml_expand: what bodies of composites are made of.
 *
 * Every composite has a body `ml_body_<name>(b, n, in, out)` in ops/<family>.c.  `in` are n's
 * operands, 16-bit floats widened to f32; results may have the wider dtype, too.  Bodies use core
 * operators only and call builders freely: a NULL result is found by ml_expand.
 */
#ifndef ML_EXPAND_H
#define ML_EXPAND_H
#include "ir.h"

typedef void ml_body(ml_builder *, const ml_node *, ml_value *const *in, ml_value **out);

/* ML_EACH_COMPOSITE(row): row(no, name) for the composites among ops.def's rows. */
#define ML_BODY_SOURCE(row, no, name)
#define ML_BODY_ELEMENTWISE(row, no, name)
#define ML_BODY_REDUCE(row, no, name)
#define ML_BODY_MOVE(row, no, name)
#define ML_BODY_INDEX(row, no, name)
#define ML_BODY_CONTRACT(row, no, name)
#define ML_BODY_IRREGULAR(row, no, name)
#define ML_BODY_CONTROL(row, no, name)
#define ML_BODY_COMPOSITE(row, no, name) row(no, name)

#define ML_DECLARE_BODY(no, name)             ml_body ml_body_##name;
#define ML_OP(no, name, in, out, cls, traits) ML_BODY_##cls(ML_DECLARE_BODY, no, name)
#define ML_ATTR(op, kind, name, init)
#include "ops.def"

/* x op number, with a constant of x's dtype. */
ml_value *ml_op_number(ml_builder *, ml_op, ml_value *x, double number);
/* A size as a scalar of some dtype. */
ml_value *ml_size_as(ml_builder *, ml_dtype, ml_dim);
/* Elements start..start+size-1 along an axis. */
ml_value *ml_part_of(ml_builder *, ml_value *, int axis, ml_dim start, ml_dim size);
/* A vector along dim 1 of tensors of this rank: [n] -> [n, 1, ..]. */
ml_value *ml_per_channel(ml_builder *, ml_value *vector, int rank);
ml_value *ml_sigmoid_of(ml_builder *, ml_value *);
ml_value *ml_softmax_of(ml_builder *, ml_value *, int64_t axis);
/* axis, axis + 1, .. rank - 1; how many. */
int ml_axes_from(int64_t axis, int rank, int64_t *axes);
ml_value *ml_mean_of(ml_builder *, ml_value *, const int64_t *axes, int naxes);
#endif
