/* quantize_weights.c -- weights of layers as s8 with a scale per output channel; all arithmetic
 * stays in floats. */
#include "layers.h"

static ml_status
quantize_block(void *user, ml_block *block)
{
	ml_pass_ctx *px = user;

	for (ml_node *n = block->first; n && *px->fuel > 0; n = n->next) {
		if (!ml_is_layer(n) || !ml_quantize_layer(px, n))
			continue;
		ml_spend_fuel(px);
		ml_remark(px->cx, n->prov, "quantized: s8 weights per channel");
		px->changes++;
	}
	ml_drop_unused(block);
	return ML_OK;
}

static ml_status
run(ml_pass_ctx *px, ml_module *m)
{
	return ml_for_each_block(m, quantize_block, px);
}

ML_PASS(quantize_weights, ML_LOSSY, run, "weights of layers as s8 per channel, computed in floats");
