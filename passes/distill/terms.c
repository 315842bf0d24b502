/* terms.c -- which values of a student are to be like which of its teacher, as a loss. */
#include "../../ir/expand.h"
#include "../prune/blocks.h"
#include "distill.h"

static const double TEMPERATURE = 2;

/* ---- which ---- */

static int
target_of(ml_goal *g, ml_value *teacher, ml_arena *arena)
{
	for (int i = 0; i < g->target.count; i++)
		if (g->target.at[i] == teacher)
			return i;
	ML_PUSH(arena, g->target, teacher);
	return g->target.count - 1;
}

static void
add_term(ml_goal *g, ml_likeness like, ml_lesson_place place, ml_value *teacher, ml_value *student,
	 ml_arena *arena)
{
	ml_lesson t = {like, place, target_of(g, teacher, arena), student};

	ML_PUSH(arena, g->term, t);
}

static void
add_numbers(ml_goal *g, ml_value *teacher, ml_value *student, ml_arena *arena)
{
	int rank = student->type.rank;
	int64_t last = 0;

	if (!ml_is_float(student->type.dtype) || ml_is_cache(teacher))
		return;
	if (rank > 1 && rank < 4 && ml_dim_is_int(student->type.dim[rank - 1], &last) && last > 8)
		add_term(g, ML_LIKE_DIRECTION, ML_AT_OUTPUT, teacher, student, arena);
	add_term(g, ML_LIKE_NUMBERS, ML_AT_OUTPUT, teacher, student, arena);
}

static ml_status
add_outputs(ml_goal *g, ml_module *teacher, ml_module *student, const ml_agree *agree,
	    ml_arena *arena)
{
	for (int i = 0; i < agree->outputs; i++) {
		ml_value *t = ml_in(teacher->main->last, i), *s = ml_in(student->main->last, i);
		bool decides = agree->output[i].kind == ML_AGREE_LOGITS ||
			       agree->output[i].kind == ML_AGREE_PROBABILITIES;
		if (t->type.dtype != s->type.dtype || t->type.rank != s->type.rank)
			return ml_error(student->cx, ML_ERR_SHAPE, NULL,
					"output %d of the teacher is of another type than the "
					"student's",
					i);
		if (!t->def || !s->def)
			continue;
		if (g->loss && ml_is_float(s->type.dtype) && !ml_is_cache(t))
			add_term(g, ML_LIKE_OWN, ML_AT_OUTPUT, t, s, arena);
		else if (g->loss)
			continue;
		else if (decides)
			add_term(g, ML_LIKE_LOGITS, ML_AT_OUTPUT, ml_logits_of(t), ml_logits_of(s),
				 arena);
		else if (!agree->decides)
			add_numbers(g, t, s, arena);
	}
	return ML_OK;
}

/* The teacher's branch whose result has this node's id. */
static int
branch_of(const ml_blocks *teacher, const ml_value *out, int from)
{
	for (int i = from; i < teacher->branch.count; i++)
		if (teacher->branch.at[i].out->def->id == out->def->id)
			return i;
	return -1;
}

/* The last of the teacher's branches from `own` on that end before `end`, along the stream. */
static int
last_of(const ml_blocks *teacher, int own, int end)
{
	const ml_branch *b = teacher->branch.at;

	while (own + 1 < end && (b[own + 1].in == b[own].out || b[own + 1].out == b[own].out))
		own++;
	return own;
}

/* What the student's next branch reads is to be what it reads in the teacher: beside cuts, and at
 * the end. */
static void
add_hidden(ml_goal *g, ml_module *teacher, ml_module *student, ml_arena *arena)
{
	ml_blocks from, to;
	int expected = 0;

	ml_find_blocks(teacher, arena, &from);
	ml_find_blocks(student, arena, &to);
	for (int i = 0; i < to.branch.count; i++) {
		ml_value *out = to.branch.at[i].out;
		int own = branch_of(&from, out, expected), end = from.branch.count;
		if (own < 0 || (i + 1 < to.branch.count && to.branch.at[i + 1].out == out))
			continue;
		bool last = i + 1 == to.branch.count;
		int next = last ? -1 : branch_of(&from, to.branch.at[i + 1].out, own + 1);
		int target = last_of(&from, own, next < 0 ? end : next);
		ml_value *goal = from.branch.at[target].out;
		bool beside = own > expected || goal != from.branch.at[own].out;
		expected = target + 1;
		if ((beside || last) && ml_type_equal(&goal->type, &out->type))
			add_term(g, ML_LIKE_NUMBERS, ML_BETWEEN_LAYERS, goal, out, arena);
	}
}

/* What the last layer in front of a decision reads, or NULL. */
static ml_value *
read_by_head(ml_value *v)
{
	for (v = ml_logits_of(v); v->def; v = ml_in(v->def, 0))
		if (v->def->op == ML_OP_linear || v->def->op == ML_OP_dot)
			return ml_in(v->def, 0);
		else if (v->def->op != ML_OP_add && v->def->op != ML_OP_reshape)
			break;
	return NULL;
}

static bool
has_term(const ml_goal *g, const ml_value *student)
{
	for (int i = 0; i < g->term.count; i++)
		if (g->term.at[i].student == student)
			return true;
	return false;
}

/* Of the head's input as much counts as of all hidden states: in it the errors of many positions
 * may add up. */
static void
add_heads(ml_goal *g, ml_module *teacher, ml_module *student, const ml_agree *agree,
	  ml_arena *arena)
{
	for (int i = 0; i < agree->outputs; i++) {
		ml_value *t = read_by_head(ml_in(teacher->main->last, i));
		ml_value *s = read_by_head(ml_in(student->main->last, i));
		bool decides = agree->output[i].kind == ML_AGREE_LOGITS ||
			       agree->output[i].kind == ML_AGREE_PROBABILITIES;
		if (decides && t && s && t->def && s->def && !has_term(g, s) &&
		    ml_is_float(t->type.dtype) && ml_type_equal(&t->type, &s->type))
			add_term(g, ML_LIKE_NUMBERS, ML_AT_HEAD, t, s, arena);
	}
}

ml_status
ml_find_goal(ml_goal *g, ml_module *teacher, ml_module *student, bool cut, const ml_agree *agree,
	     const ml_loss *own, ml_arena *arena)
{
	*g = (ml_goal){.loss = own};
	ML_STEP(add_outputs(g, teacher, student, agree, arena));
	if (!g->term.count)
		return ml_error(student->cx, ML_ERR_ARG, NULL,
				"distill: no output of the model is a number that is computed");
	if (!cut)
		return ML_OK;
	add_hidden(g, teacher, student, arena);
	add_heads(g, teacher, student, agree, arena);
	return ML_OK;
}

/* ---- the loss ---- */

ml_status
ml_module_of_values(const ml_module *m, ml_value *const *value, int n, ml_module **result)
{
	ml_module *copy = ml_module_clone(m);
	ml_value **own = ML_NEW_ARRAY(&copy->arena, ml_value *, n);

	ml_values_in(copy, value, n, own, &copy->arena);
	ml_status status = ml_module_set_outputs(copy, own, n);
	if (status == ML_OK)
		*result = copy;
	else
		ml_module_free(copy);
	return status;
}

/* The mean of all rows of a sample. */
static ml_value *
pooled(ml_builder *b, ml_value *x)
{
	int64_t axes[ML_MAX_RANK], n = 0;

	if (!x)
		return NULL;
	for (int i = 1; i < x->type.rank - 1; i++)
		axes[n++] = i;
	return n ? ml_mean_of(b, x, axes, (int)n) : x;
}

/* What is built must be a scalar, or there is nothing to follow down. */
static ml_value *
own_loss(ml_builder *b, const ml_loss *own, ml_value *teacher, ml_value *student)
{
	ml_context *cx = b->block->module->cx;
	ml_pass_ctx px = {.cx = cx};
	ml_value *loss = own->build(own->user, &px, b->before, teacher, student);

	if (loss && !loss->type.rank && loss->type.dtype == ML_f32)
		return loss;
	b->failed = ml_error(cx, ML_ERR_PLUGIN, NULL, "the loss '%s' gives no scalar in f32",
			     own->name);
	return NULL;
}

static ml_value *
term_of(ml_builder *b, const ml_lesson *t, const ml_loss *own, ml_value *teacher, ml_value *student)
{
	teacher = ml_build_cast(b, teacher, ML_f32);
	student = ml_build_cast(b, student, ML_f32);
	switch (t->like) {
	case ML_LIKE_LOGITS: return ml_loss_kl(b, teacher, student, TEMPERATURE, NULL);
	case ML_LIKE_DIRECTION:
		return ml_loss_cosine(b, pooled(b, teacher), pooled(b, student), NULL);
	case ML_LIKE_NUMBERS: return ml_loss_mse(b, teacher, student, NULL);
	case ML_LIKE_OWN: return own_loss(b, own, teacher, student);
	}
	return NULL;
}

static ml_status
add_loss(ml_module *m, const ml_goal *g, ml_value **student)
{
	int n = g->term.count, targets = g->target.count;
	ml_value **teacher = ML_NEW_ARRAY(&m->arena, ml_value *, targets);
	ml_value **out = ML_NEW_ARRAY(&m->arena, ml_value *, n + 1);
	ml_builder b = ml_builder_before(m->main->last);

	for (int i = 0; i < targets; i++) {
		int k = 0;
		while (g->term.at[k].target != i)
			k++;
		teacher[i] = ml_block_add_arg(m->main, &student[k]->type,
					      ml_format(&m->arena, "target %d", i));
	}
	for (int i = 0; i < n; i++) {
		ml_type scalar = {.dtype = ML_f32};
		ml_value *share =
			ml_block_add_arg(m->main, &scalar, ml_format(&m->arena, "share %d", i));
		const ml_lesson *t = &g->term.at[i];
		out[i + 1] = term_of(&b, t, g->loss, teacher[t->target], student[i]);
		ml_value *part = ml_op2(&b, ML_OP_mul, out[i + 1], share);
		out[0] = i ? ml_op2(&b, ML_OP_add, out[0], part) : part;
	}
	ML_STEP(b.failed);
	return ml_module_set_outputs(m, out, n + 1);
}

ml_status
ml_build_loss(const ml_module *student, const ml_goal *g, ml_module **result)
{
	ml_module *m = ml_module_clone(student);
	int n = g->term.count;
	ml_value **from = ML_NEW_ARRAY(&m->arena, ml_value *, n);
	ml_value **own = ML_NEW_ARRAY(&m->arena, ml_value *, n);

	for (int i = 0; i < n; i++)
		from[i] = g->term.at[i].student;
	ml_values_in(m, from, n, own, &m->arena);
	ml_status status = add_loss(m, g, own);
	if (status == ML_OK)
		*result = m;
	else
		ml_module_free(m);
	return status;
}
