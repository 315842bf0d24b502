/* checkpoint.c -- what a training has come to, as bytes: all that the next step depends on, and the
 * curves so far, so that going on gives what an uninterrupted training gives, bit for bit. */
#include "distill.h"
#include <string.h>

/* One walk over the state, that writes or reads. */
typedef struct walk {
	ml_text *to;
	ml_bytes from;
	bool fails;
} walk;

static void
pass(walk *w, void *at, size_t bytes)
{
	if (w->to) {
		ml_put_bytes(w->to, at, bytes);
		return;
	}
	w->fails = w->fails || !ml_take(&w->from, at, bytes);
}

static void
pass_weights(walk *w, ml_weights *weights)
{
	ml_tensor *part[] = {weights->now, weights->first, weights->second, weights->best};

	for (int k = 0; k < 4; k++)
		for (int i = 0; i < weights->constant.count; i++)
			pass(w, part[k][i].data, part[k][i].bytes);
}

static void
pass_pool(walk *w, ml_pool *p)
{
	size_t n = (size_t)p->sample.count;

	pass(w, &p->random, sizeof p->random);
	pass(w, &p->nstart, sizeof p->nstart);
	pass(w, &p->next, sizeof p->next);
	pass(w, p->order, n * sizeof *p->order);
	pass(w, p->start, (n + 2) * sizeof *p->start);
}

static void
pass_curve(walk *w, ml_curve *c)
{
	int64_t n = c->points.count;
	ml_point point;

	pass(w, &n, sizeof n);
	for (int64_t i = 0; i < n && !w->fails; i++) {
		point = w->to ? c->points.at[i] : (ml_point){0, 0};
		pass(w, &point, sizeof point);
		if (!w->to && !w->fails)
			ml_curve_add(c, point.x, point.y);
	}
}

static void
pass_all(walk *w, ml_trainer *t)
{
	static const char *const curves[] = {"loss", "held-out error", "agreement"};
	double *number[] = {&t->at,    &t->steps,          &t->peak,           &t->best,
			    &t->first, &t->best_agreement, &t->first_agreement};

	for (size_t i = 0; i < sizeof number / sizeof *number; i++)
		pass(w, number[i], sizeof *number[i]);
	pass(w, t->scale, (size_t)t->goal.term.count * sizeof *t->scale);
	pass_curve(w, &t->plan);
	pass(w, &t->recoveries, sizeof t->recoveries);
	pass(w, &t->progress, sizeof t->progress);
	pass_pool(w, &t->pool);
	pass_weights(w, &t->weights);
	for (int i = 0; i < 3; i++)
		if (i < 2 || t->samples.agree.decides)
			pass_curve(w, ml_record_curve(t->px->record, ML_DISTILL_PLOT, "step",
						      curves[i]));
}

/* Of what is trained, and on what: the weights before the first step. */
static uint64_t
key_of(const ml_trainer *t)
{
	uint64_t key = (uint64_t)t->goal.term.count;

	for (int i = 0; i < t->weights.constant.count; i++)
		key = ml_hash_bytes(t->weights.now[i].data, t->weights.now[i].bytes, key);
	for (int s = 0; s < t->pool.sample.count; s++)
		for (int i = 0; i < t->pool.inputs; i++)
			key = ml_hash_bytes(t->pool.sample.at[s][i].data,
					    t->pool.sample.at[s][i].bytes, key);
	for (int s = 0; t->label && s < t->pool.number.count; s++)
		key = ml_hash_bytes(&t->label[t->pool.number.at[s]], sizeof *t->label, key);
	return key;
}

ml_status
ml_checkpoint_save(ml_trainer *t)
{
	const ml_distill_options *o = t->options;
	ml_arena arena;
	ml_text text;

	if (!o->save)
		return ML_OK;
	ml_arena_init(&arena, &t->px->cx->memory);
	ml_text_init(&text, &arena);
	ml_put_bytes(&text, (char *)&t->key, sizeof t->key);
	pass_all(&(walk){.to = &text}, t);
	ml_status status = o->save(o->save_user, &text);
	ml_arena_free(&arena);
	return status;
}

ml_status
ml_checkpoint_load(ml_trainer *t, bool *there)
{
	const ml_distill_options *o = t->options;
	walk w = {.from = {o->saved, o->saved_bytes}};
	uint64_t key;

	*there = o->saved;
	t->key = o->save ? key_of(t) : 0;
	if (!o->saved)
		return ML_OK;
	pass(&w, &key, sizeof key);
	if (!w.fails && key == t->key)
		pass_all(&w, t);
	if (!w.fails && key == t->key && !w.from.size)
		return ML_OK;
	ml_error(t->px->cx, ML_ERR_ARG, NULL,
		 "the checkpoint is of other calibration data, or of another student");
	ml_hint(t->px->cx, "give another file, or remove this one to begin again");
	return ML_ERR_ARG;
}
