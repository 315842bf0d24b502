/* calibrate_linear.c -- linear layers on 8-bit integers: as planned, and with calibration data as
 * many as what may be lost allows.
 */
#include "../gate.h"
#include "../known.h"
#include "describe.h"
#include "linear.h"

static ml_value *
build(void *user, int i, int level, ml_node *n)
{
	const ml_planned_list *planned = user;

	(void)level;
	return ml_build_linear(n, &planned->at[i].plan);
}

void
ml_describe_planned(ml_gate *g, int i, const ml_planned *l, int levels)
{
	ml_gate_layer *layer = ml_gate_add(g, i, l->node, levels);

	layer->bytes[0] = 4 * (double)l->rows * (double)l->columns;
	layer->bytes[1] = (double)l->rows * (double)l->columns + 8 * (double)l->columns;
	ml_describe_weights(g->px, layer->name, ml_in(l->node, 1), l->plan.q.scales, ML_f32);
	if (l->alpha >= 0)
		ml_describe_number(g->px, layer->name, "smoothing", l->alpha);
}

ml_status
ml_calibrate_linear(ml_pass_ctx *px, ml_module *m)
{
	ml_planned_list planned = {0};

	ML_STEP(ml_plan_linear(px, m, &planned));
	if (!planned.count)
		return ML_OK;
	ml_gate g = {.px = px,
		     .m = m,
		     .layers = planned.count,
		     .form = {"fp32", "u8s8"},
		     .build = build,
		     .user = &planned};
	g.layer = ML_NEW_ARRAY(px->scratch, ml_gate_layer, g.layers + 1);
	for (int i = 0; i < g.layers; i++)
		ml_describe_planned(&g, i, &planned.at[i], 2);
	if (ml_is_calibrated(px))
		ML_STEP(ml_gate_run(&g));
	return ml_gate_finish(&g, m);
}
