/* plan_text.c -- plans and places in the user's model as text. */
#include "plan.h"

const char *
ml_site_text(ml_arena *arena, const ml_prov *at, const char *what)
{
	ml_text t;

	ml_text_init(&t, arena);
	if (at) {
		ml_put_prov(&t, at);
		ml_put(&t, ": ");
	}
	ml_put(&t, "%s", what);
	return t.at;
}

static void
print_sequence(ml_text *t, const ml_plan *plan, const ml_sequence *s, int indent)
{
	static const char *const kind[] = {"kernel", "routine", "if", "loop", "custom"};

	for (int i = 0; i < s->steps.count; i++) {
		const ml_step *step = &s->steps.at[i];
		ml_put(t, "%*s%d: %s", indent, "", i, kind[step->kind]);
		if (step->kind == ML_STEP_KERNEL) {
			ml_put(t, " %s #%d tiles ", ml_step_kind_name(plan, step), step->spec);
			ml_dim_print(t, step->tiles);
		}
		for (int k = 0; k < step->nin + step->nout; k++) {
			const ml_buffer *b = step->buffer[k];
			ml_put(t, "%s%c%d", k == step->nin ? " -> " : " ", "iowal"[b->place],
			       b -> place == ML_PLACE_WEIGHTS ? (int)(b->offset / 64) : b -> index);
		}
		ml_put(t, "  %s\n",
		       ml_site_text(t->arena, step->node->prov, ml_op_get(step->node->op)->name));
		for (int k = 0; k < 2 && step->body[k]; k++)
			print_sequence(t, plan, step->body[k], indent + 4);
	}
}

static void
print_sizes(ml_text *t, const ml_sizes *sizes)
{
	for (int i = 0; i < sizes->count; i++) {
		ml_put(t, i ? " or " : "");
		ml_dim_print(t, sizes->at[i]);
	}
	ml_put(t, " bytes\n");
}

void
ml_plan_print(ml_text *t, const ml_plan *plan)
{
	print_sequence(t, plan, plan->main, 0);
	for (int i = 0; i < plan->slots.count; i++) {
		ml_put(t, "a%d: ", i);
		print_sizes(t, &plan->slots.at[i].bytes);
	}
	for (int i = 0; i < plan->specs.count; i++)
		ml_put(t, "\n-- specification #%d\n%s", i, plan->specs.at[i].text);
}
