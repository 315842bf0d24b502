/* custom.h -- operators registered by the application: one line gives shape rule and C signature.
 *
 * "(x: f32[n,d], k: i64) -> y: f32[n,d]" is called as
 * int32_t fn(const float *x, int64_t k, float *y, int64_t n, int64_t d).
 */
#ifndef ML_CUSTOM_H
#define ML_CUSTOM_H
#include "ir.h"

typedef struct ml_custom_param {
	const char *name;
	ml_dtype dtype;
	bool scalar; /* passed by value; a tensor of rank 0 in the graph, or an attribute in ONNX */
	int rank;
	int dim[ML_MAX_RANK];      /* index into ml_custom_op.dims, or -1 for a fixed size */
	int64_t size[ML_MAX_RANK]; /* of fixed dims */
} ml_custom_param;

typedef struct ml_custom_op ml_custom_op;
struct ml_custom_op {
	ml_custom_op *next;
	const char *domain, *name, *symbol; /* symbol: the C function, for linkers */
	ml_custom_param *in, *out;
	int nin, nout;
	const char **dims; /* names in order of first use */
	int ndims;
	void (*fn)(void);
	/* Calls fn on tensors, for the evaluator; NULL where nobody can (the driver knows how). */
	ml_status (*evaluate)(const ml_custom_op *, const ml_tensor *in, int nin, ml_tensor *out,
			      int nout);
};

/* Parses the signature and adds the operator to the context; ML_ERR_ARG with the position in the
 * text when it is wrong.  Every dim of a result must occur in an operand. */
ml_status ml_custom_register(ml_context *, const char *domain, const char *name,
			     const char *signature, void (*fn)(void), ml_custom_op **);
const ml_custom_op *ml_custom_find(const ml_context *, const char *domain, const char *name);
/* The node for a call: checks operand types, binds dims (guards for repeated ones), sets results.
 */
ml_node *ml_build_custom(ml_builder *, const ml_custom_op *, ml_value *const *in, int nin);
#endif
