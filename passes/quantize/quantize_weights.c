/* quantize_weights.c -- weights of layers as s8 with a scale per output channel; all arithmetic
 * stays in floats.  With calibration data, of as many as what may be lost allows. */
#include "../gate.h"
#include "layers.h"

static ml_value *
build(void *user, int i, int level, ml_node *n)
{
	(void)i;
	(void)level;
	return ml_build_layer(user, n, ml_in(n, 0));
}

/* The main block's layers, listed for the gate. */
static ml_status
choose_layers(ml_pass_ctx *px, ml_module *m)
{
	ml_gate g = {.px = px, .m = m, .form = {"fp32", "s8 weights"}, .build = build, .user = px};
	int most = 0;

	for (ml_node *n = m->main->first; n; n = n->next)
		most++;
	g.layer = ML_NEW_ARRAY(px->scratch, ml_gate_layer, most);
	for (ml_node *n = m->main->first; n; n = n->next)
		if (ml_is_layer(n))
			ml_list_layer(&g, n);
	if (!g.layers)
		return ML_OK;
	ML_STEP(ml_gate_run(&g));
	return ml_gate_finish(&g, m);
}

static ml_status
quantize_block(void *user, ml_block *block)
{
	ml_pass_ctx *px = user;
	bool chosen = px->data && block == block->module->main;

	for (ml_node *n = block->first; n && !chosen && *px->fuel > 0; n = n->next) {
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
	ML_STEP(ml_for_each_block(m, quantize_block, px));
	return px->data ? choose_layers(px, m) : ML_OK;
}

ML_PASS(quantize_weights, ML_LOSSY, run, "weights of layers as s8 per channel, computed in floats");
