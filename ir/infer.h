/* infer.h -- what type rules are made of.
 *
 * Every operator has a rule `ml_type_<name>(b, n)` in ops/<family>.c.  It checks operands and
 * attributes, normalises attributes in place (axes become non-negative), records guards for what
 * cannot be proven, and writes the types of n's results.  ml_finish then checks their sizes.
 */
#ifndef ML_INFER_H
#define ML_INFER_H
#include "graph.h"

typedef ml_status ml_type_rule(ml_builder *, ml_node *);
#define ML_OP(no, name, in, out, cls, traits) ml_type_rule ml_type_##name;
#define ML_ATTR(op, kind, name, init)
#include "ops.def"

/* The rule of n's operator, then the checks common to all. */
ml_status ml_infer(ml_builder *, ml_node *);
/* Contents of small integer results, where they can be told; content.c. */
void ml_infer_content(ml_builder *, ml_node *);
/* The same for those who read v, whose contents are new to them, and for their readers. */
void ml_spread_content(ml_value *v);

/* Error at the node: `add(f32[a], s32[b]): text`.  Returns status. */
ml_status ml_type_fail(ml_builder *, const ml_node *, ml_status, const char *fmt, ...)
	__attribute__((format(printf, 4, 5)));
/* A dim as text, for messages. */
const char *ml_dim_text(ml_builder *, ml_dim);

/* Sets of kinds of dtypes. */
enum {
	ML_KF = 1 << ML_KIND_FLOAT,
	ML_KI = 1 << ML_KIND_SIGNED | 1 << ML_KIND_UNSIGNED,
	ML_KS = 1 << ML_KIND_SIGNED,
	ML_KB = 1 << ML_KIND_BOOL,
	ML_KALL = ML_KF | ML_KI | ML_KB,
};
/* Operand i has a dtype of these kinds. */
ml_status ml_want_kind(ml_builder *, const ml_node *, int i, unsigned kinds);
ml_status ml_want_dtype(ml_builder *, const ml_node *, int i, ml_dtype);
ml_status ml_want_rank(ml_builder *, const ml_node *, int i, int min, int max);
/* -rank..rank-1 becomes 0..rank-1. */
ml_status ml_want_axis(ml_builder *, const ml_node *, ml_attr *axis, int rank);
/* The same for a list, whose entries must differ. */
ml_status ml_want_axes(ml_builder *, const ml_node *, ml_attr *axes, int rank);
/* A list attribute has n entries; `name` for the message. */
ml_status ml_want_count(ml_builder *, const ml_node *, const ml_attr *, int n, const char *name);
/* Entries of a list of integers are >= min. */
ml_status ml_want_least(ml_builder *, const ml_node *, const ml_attr *, int64_t min,
			const char *name);
/* a == b proven or guarded; an error that tells both otherwise. */
ml_status ml_want_equal(ml_builder *, const ml_node *, ml_dim a, ml_dim b, const char *rule);
ml_status ml_want_le(ml_builder *, const ml_node *, ml_dim a, ml_dim b, const char *rule);
/* Like ml_want_equal for all dims of two shapes of equal rank. */
ml_status ml_want_same_shape(ml_builder *, const ml_node *, const ml_type *, const ml_type *,
			     const char *rule);
/* Both operands have the same dtype. */
ml_status ml_want_same_dtype(ml_builder *, const ml_node *, int i, int k);

/* A data-dependent size for dim d of result i: fresh, or the one the text form already gave to
 * this result (ml_set_results before ml_finish). */
ml_dim ml_fresh_dim(ml_builder *, const ml_node *, int i, int d, ml_dim bound);

/* How many windows fit into `size`: (size - (kernel - 1) * dilation - 1) floordiv stride + 1. */
ml_dim ml_window_count(ml_builder *, ml_dim size, int64_t kernel, int64_t stride, int64_t dilation);

#define ML_D(b, number) ml_dim_int((b)->m->dims, (number))
#endif
