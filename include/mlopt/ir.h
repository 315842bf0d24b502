/* ir.h -- what a pass may see and change of the graph: opaque handles and accessors.
 *
 * Nodes stand in blocks in dependency order and have operands and results, which are values.
 * Names and meanings of operators and their attributes are in ops.def, the list the compiler is
 * made from.  Handles live as long as the module.
 */
#ifndef MLOPT_IR_H
#define MLOPT_IR_H
#include "mlopt/mlopt.h"
#include <stdbool.h>

#ifdef __cplusplus
extern "C" {
#endif

typedef struct ml_module ml_module;
typedef struct ml_block ml_block;
typedef struct ml_node ml_node;
typedef struct ml_value ml_value;
typedef struct ml_pass_ctx ml_pass_ctx;

/* Operators; the numbers never change. */
typedef enum ml_op {
	ML_OP_none = 0,
#define ML_OP(no, name, in, out, cls, traits) ML_OP_##name = no,
#define ML_ATTR(op, kind, name, init)
#include "mlopt/ops.def"
	ML_OP_LIMIT = 256
} ml_op;

/* ML_ATTR_SLOT(softmax, axis): which of its operator's attributes it is. */
enum {
#define ML_OP(no, name, in, out, cls, traits) ML_SLOTS_##name,
#define ML_ATTR(op, kind, name, init)         ML_SLOT_##op##_##name,
#include "mlopt/ops.def"
	ML_SLOTS_END
};
#define ML_ATTR_SLOT(op, name) (ML_SLOT_##op##_##name - ML_SLOTS_##op - 1)

/* ---- looking ---- */

ML_API ml_block *ml_see_main(const ml_module *);
ML_API ml_node *ml_see_first(const ml_block *); /* NULL when the block is empty */
ML_API ml_node *ml_see_next(const ml_node *);   /* NULL behind the last */
/* Bodies of control operators; NULL behind the last. */
ML_API ml_block *ml_see_body(const ml_node *, int i);
ML_API ml_op ml_see_op(const ml_node *);
/* Name of the ONNX node it came from; "" when it had none. */
ML_API const char *ml_see_name(const ml_node *);
/* Operand or result i; NULL behind the last. */
ML_API ml_value *ml_see_operand(const ml_node *, int i);
ML_API ml_value *ml_see_result(const ml_node *, int i);
/* The node that computes a value; NULL for inputs. */
ML_API ml_node *ml_see_definition(const ml_value *);
/* How many operands it is. */
ML_API int ml_see_uses(const ml_value *);
ML_API ml_dtype ml_see_dtype(const ml_value *);
ML_API int ml_see_rank(const ml_value *);
/* False when the size is symbolic. */
ML_API bool ml_see_size(const ml_value *, int axis, int64_t *size);
/* The number a constant holds in all its elements; false when it is no such constant. */
ML_API bool ml_see_number(const ml_value *, double *number);
/* Attributes by slot: ml_see_int(n, ML_ATTR_SLOT(softmax, axis), &axis).  False when the node has
 * no attribute of this kind there. */
ML_API bool ml_see_int(const ml_node *, int slot, int64_t *);
ML_API bool ml_see_float(const ml_node *, int slot, double *);

/* ---- changing ---- */

/* A new node in front of `before`, with its attributes' defaults; gives its first result.  NULL,
 * reported, when the operands do not fit. */
ML_API ml_value *ml_make_node(ml_pass_ctx *, ml_node *before, ml_op, ml_value *const *operand,
			      int operands);
/* A scalar constant. */
ML_API ml_value *ml_make_number(ml_pass_ctx *, ml_node *before, ml_dtype, double);
/* The mean of all elements, a scalar. */
ML_API ml_value *ml_make_mean(ml_pass_ctx *, ml_node *before, ml_value *);
/* All uses of `old` become uses of `with`, which must have the same type.  Counts as a change and
 * costs one unit of fuel; false, and nothing happens, when there is none left or types differ. */
ML_API bool ml_make_replaced(ml_pass_ctx *, ml_value *old, ml_value *with);
/* A remark at a node, shown with --remarks. */
ML_API void ml_make_remark(ml_pass_ctx *, const ml_node *, const char *text);

#ifdef __cplusplus
}
#endif
#endif
