/* fold_constants.c -- computes at compile time what depends on constants and dims only.
 *
 * The reference evaluator does the computing.  Integer tensors whose contents are known dims
 * (shape arithmetic) become constants or `dim` nodes.  Results much larger than what they are made
 * from stay computed: a small model must not become a large one.
 */
#include "pass.h"

enum { ALWAYS_BYTES = 1 << 16, GROWTH = 2 };

static int64_t
type_bytes(const ml_type *t)
{
	int64_t count;

	return ml_type_static_count(t, &count) ? count * ml_dtype_bytes(t->dtype) : INT64_MAX;
}

/* Weights that layers of integers read; what is left over, fold_dequantize folds. */
static bool
is_quantized_weight(const ml_node *n)
{
	return n->op == ML_OP_dequantize && n->out[0].type.rank >= 2 &&
	       ml_dtype_bytes(ml_in(n, 0)->type.dtype) == 1;
}

/* Of a layer or a product that reads nothing but bf16, and multiplies it as such. */
static bool
is_narrow_weight(const ml_node *n)
{
	if (!ml_is_widening(&n->out[0]) || n->out[0].type.rank < 2)
		return false;
	for (const ml_use *u = n->out[0].uses; u; u = u->next) {
		const ml_node *user = u->user;
		int i = (int)(u - user->in);
		bool multiplies =
			user->op == ML_OP_linear || user->op == ML_OP_conv || user->op == ML_OP_dot;
		if (multiplies && i < 2 && ml_is_widening(ml_in(user, 1 - i)))
			return true;
	}
	return false;
}

static bool
is_foldable(const ml_node *n)
{
	int64_t in = 0, out = 0;

	if (!(ml_op_get(n->op)->traits & (ML_PURE | ML_CHECKS)) ||
	    ml_op_get(n->op)->cls == ML_SOURCE || n->nin == 0 || is_quantized_weight(n) ||
	    is_narrow_weight(n))
		return false;
	for (int i = 0; i < n->nin; i++) {
		if (!ml_is_const(ml_in(n, i)))
			return false;
		in += type_bytes(&ml_in(n, i)->type);
	}
	for (int i = 0; i < n->nout; i++) {
		int64_t bytes = type_bytes(&n->out[i].type);
		if (bytes == INT64_MAX)
			return false;
		out += bytes;
	}
	return out <= ALWAYS_BYTES || out <= in * GROWTH;
}

static bool
fold_node(ml_pass_ctx *px, ml_node *n)
{
	ml_blob **blobs = ML_NEW_ARRAY(px->scratch, ml_blob *, n->nout);
	uint64_t limit = 0;

	for (int i = 0; i < n->nout; i++)
		limit += (uint64_t)type_bytes(&n->out[i].type);
	if (ml_fold_node(n, blobs, limit) != ML_OK)
		return false; /* it fails at run time, with its own message */
	ml_builder b = ml_builder_before(n);
	for (int i = 0; i < n->nout; i++) {
		ml_value *v = ml_build_const(&b, &n->out[i].type, blobs[i]);
		if (v && n->out[i].uses)
			ml_replace_uses(&n->out[i], v);
	}
	return true;
}

/* A scalar known as a dim, or a tensor known as integers. */
static bool
fold_content(ml_node *n)
{
	ml_value *v = &n->out[0];
	ml_builder b = ml_builder_before(n);
	int64_t count, number;

	if (!v->content || n->nout != 1 || ml_op_get(n->op)->cls == ML_SOURCE ||
	    !ml_type_static_count(&v->type, &count))
		return false;
	for (int64_t i = 0; i < count; i++)
		if (!ml_dim_is_int(v->content[i], NULL)) {
			if (v->type.rank != 0 || v->type.dtype != ML_s64)
				return false;
			ml_replace_uses(v, ml_build_dim(&b, v->content[0]));
			return true;
		}
	void *bytes;
	ml_blob *blob =
		ml_blob_new(&n->block->module->cx->memory,
			    (uint64_t)count * (uint64_t)ml_dtype_bytes(v->type.dtype), &bytes);
	for (int64_t i = 0; i < count; i++) {
		ml_dim_is_int(v->content[i], &number);
		ml_write_s64(v->type.dtype, bytes, i, number);
	}
	ml_replace_uses(v, ml_build_const(&b, &v->type, blob));
	return true;
}

static ml_status
fold_block(void *user, ml_block *block)
{
	ml_pass_ctx *px = user;

	for (ml_node *n = block->first, *next; n; n = next) {
		bool used = false;
		next = n->next;
		for (int i = 0; i < n->nout; i++)
			used |= n->out[i].uses != NULL;
		if (!used || *px->fuel <= 0)
			continue;
		if (fold_content(n) || (is_foldable(n) && fold_node(px, n))) {
			px->changes++;
			ml_spend_fuel(px);
		}
	}
	ml_drop_unused(block);
	return ML_OK;
}

static ml_status
run(ml_pass_ctx *px, ml_module *m)
{
	return ml_for_each_block(m, fold_block, px);
}

ML_PASS(fold_constants, ML_EXACT, run, "compute what depends on constants and dims only");
