/* blocks.c -- what of a model pruning could take out: its branches and layers, as text or JSON. */
#include "../passes/prune/blocks.h"
#include "driver.h"
#include <inttypes.h>
#include <string.h>

ml_status
ml_make_layers_whole(const ml_options *o, ml_module *m, ml_arena *arena)
{
	enum { FUSING = 2 };
	ml_pipeline_options po = {.opt_level = FUSING, .fuel = -1};
	ml_pipeline p;
	int n = 0;

	ML_STEP(ml_pipeline_init(&p, o->cx, arena, &po, NULL, 0));
	while (n < p.stages.count && (!strcmp(p.stages.at[n].phase, "canonicalize") ||
				      !strcmp(p.stages.at[n].phase, "fuse")))
		n++;
	p.stages.count = n;
	return ml_pipeline_run(&p, m, &po);
}

/* The ONNX node of the addition. */
static const char *
name_of(const ml_branch *b)
{
	return b->sum->prov && b->sum->prov->node ? b->sum->prov->node : "";
}

static void
put_text(ml_text *t, const ml_blocks *blocks)
{
	ml_put(t, "layer branch  kind          norm  parameters  heads groups  width  added at\n");
	for (int i = 0; i < blocks->branch.count; i++) {
		const ml_branch *b = &blocks->branch.at[i];
		ml_put(t, "%5d %6d  %-12s  %-4s %11" PRId64, b->layer, i,
		       ml_branch_kind_name(b->kind), ml_norm_place_name(b->norm), b->parameters);
		ml_put(t, " %6" PRId64 " %6" PRId64 " %6" PRId64 "  ", b->heads, b->groups,
		       b->width);
		ml_put_escaped(t, name_of(b));
		ml_put(t, "\n");
	}
	ml_put(t, "%d layers, %d branches\n", blocks->layer.count, blocks->branch.count);
}

static void
put_json(ml_text *t, const ml_blocks *blocks)
{
	ml_put(t, "{\n  \"layers\": %d,\n  \"branches\": [", blocks->layer.count);
	for (int i = 0; i < blocks->branch.count; i++) {
		const ml_branch *b = &blocks->branch.at[i];
		ml_put(t, "%s\n    {\"layer\": %d, \"kind\": \"%s\", \"norm\": \"%s\", ",
		       i ? "," : "", b->layer, ml_branch_kind_name(b->kind),
		       ml_norm_place_name(b->norm));
		ml_put(t,
		       "\"parameters\": %" PRId64 ", \"heads\": %" PRId64 ", \"groups\": %" PRId64
		       ", \"width\": %" PRId64 ", \"added_at\": \"",
		       b->parameters, b->heads, b->groups, b->width);
		ml_put_json(t, name_of(b));
		ml_put(t, "\"}");
	}
	ml_put(t, "\n  ]\n}\n");
}

static ml_status
describe_blocks(const ml_options *o, ml_module *m, ml_text *t, bool json)
{
	ml_blocks blocks;

	ML_STEP(ml_make_layers_whole(o, m, t->arena));
	ml_find_blocks(m, t->arena, &blocks);
	(json ? put_json : put_text)(t, &blocks);
	return ML_OK;
}

ml_status
ml_inspect_blocks(ml_context *cx, const char *path, const ml_options *o, bool json,
		  void (*write)(void *, const char *, size_t), void *user)
{
	return ml_inspect_by(&(ml_inspect_job){.cx = cx,
					       .path = path,
					       .o = o,
					       .json = json,
					       .describe = describe_blocks,
					       .write = write,
					       .user = user});
}
