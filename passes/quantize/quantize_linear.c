/* quantize_linear.c -- linear layers on 8-bit integers.
 *
 * Weights: s8, symmetric, one scale per output channel.  Activations: u8 with a zero point per row,
 * at run time.  q . wq is exact in s32; (q . wq - zero * colsum(wq)) * s * sw + b is the result in
 * f32.
 */
#include "linear.h"

enum {
	SMALLEST = 1024, /* weights: below, quantizing rows costs more than it saves */
	LONGEST = 66000, /* inner size: 255 * 127 * k must fit s32 */
};

static ml_value *
const_of(ml_builder *b, ml_dtype dtype, const ml_type *like, int rank, ml_blob *blob)
{
	ml_type t = {.dtype = dtype, .rank = rank};

	for (int i = 0; i < rank; i++)
		t.dim[i] = like->dim[like->rank - rank + i];
	return ml_build_const(b, &t, blob);
}

void
ml_keep_quantized(ml_module *m, const ml_quantized *q)
{
	ML_PUSH(&m->arena, m->blobs, q->values);
	ML_PUSH(&m->arena, m->blobs, q->scales);
	ML_PUSH(&m->arena, m->blobs, q->sums);
}

static ml_value *
shared(ml_builder *b, ml_dtype dtype, const ml_type *like, int rank, ml_blob *blob)
{
	return const_of(b, dtype, like, rank, ml_blob_share(blob));
}

ml_value *
ml_build_linear(ml_node *n, const ml_linear_plan *plan)
{
	ml_value *x = ml_in(n, 0), *w = ml_in(n, 1), *bias = ml_in(n, 2);
	const int64_t last = x->type.rank - 1, first = 0;
	ml_builder at = ml_builder_before(n), *b = &at;

	ml_value *wq = shared(b, ML_s8, &w->type, 2, plan->q.values);
	ml_value *sw = shared(b, ML_f32, &w->type, 1, plan->q.scales);
	ml_value *sums = shared(b, ML_s32, &w->type, 1, plan->q.sums);
	if (plan->factor)
		x = ml_op2(b, ML_OP_mul, x, shared(b, ML_f32, &x->type, 1, plan->factor));
	if (plan->bias)
		bias = shared(b, ML_f32, &w->type, 1, plan->bias);
	ml_node *row = ml_begin(b, ML_OP_quantize_row, &x, 1);
	row = row ? ml_finish(b, row) : NULL;
	if (!row)
		return NULL;
	ml_value *acc = ml_build_dot(b, &row->out[0], wq, NULL, NULL, 0, &last, &first, 1);
	acc = ml_op2(b, ML_OP_sub, acc, ml_op2(b, ML_OP_mul, &row->out[2], sums));
	ml_value *y = ml_build_cast(b, acc, ML_f32);
	y = ml_op2(b, ML_OP_mul, ml_op2(b, ML_OP_mul, y, &row->out[1]), sw);
	return bias ? ml_op2(b, ML_OP_add, y, bias) : y;
}

const char *
ml_linear_objection(const ml_node *n, int64_t *k, int64_t *columns)
{
	const ml_value *w = ml_in(n, 1);

	if (!ml_is_const(w) || w->type.dtype != ML_f32)
		return "the weights are no f32 constant";
	ml_dim_is_int(w->type.dim[0], k);
	ml_dim_is_int(w->type.dim[1], columns);
	if (*k * *columns < SMALLEST)
		return "it has few weights";
	return *k > LONGEST ? "its sums may leave 32 bits" : NULL;
}

static ml_status
quantize_node(ml_pass_ctx *px, ml_node *n)
{
	int64_t k, columns;
	const char *why = ml_linear_objection(n, &k, &columns);
	ml_linear_plan plan = {0};

	if (!why && *px->fuel <= 0)
		return ML_OK;
	if (!why && !ml_quantize_columns(px, ml_in(n, 1), k, columns,
					 &(ml_row_facts){.bytes = true}, &plan.q))
		why = "its weights are not finite";
	if (why) {
		ml_remark(px->cx, n->prov, "kept in fp32: %s", why);
		return ML_OK;
	}
	ml_spend_fuel(px);
	ml_keep_quantized(n->block->module, &plan.q);
	ml_value *y = ml_build_linear(n, &plan);
	if (!y)
		return ML_ERR_PASS;
	y->name = n->out[0].name;
	ml_replace_uses(&n->out[0], y);
	ml_node_remove(n);
	ml_remark(px->cx, y->def->prov,
		  "quantized: s8 weights per channel, u8 activations per row");
	px->changes++;
	return ML_OK;
}

static ml_status
quantize_block(void *user, ml_block *block)
{
	ml_pass_ctx *px = user;
	bool planned = block == block->module->main;

	for (ml_node *n = block->first, *next; n; n = next) {
		next = n->next;
		if (n->op == ML_OP_linear && !planned)
			ML_STEP(quantize_node(px, n));
		else if (n->op == ML_OP_conv)
			ml_remark(px->cx, n->prov,
				  "kept in fp32: convolutions need --int8=static and --calib");
	}
	ml_drop_unused(block);
	return ML_OK;
}

static ml_status
run(ml_pass_ctx *px, ml_module *m)
{
	ML_STEP(ml_for_each_block(m, quantize_block, px));
	/* Where data shows what is lost, quantize_u4 has decided about all layers. */
	return px->data && px->int4.group ? ML_OK : ml_calibrate_linear(px, m);
}

ML_PASS(quantize_linear, ML_LOSSY, run, "linear layers on s8 weights and u8 activations");
