/* checkpoint.c -- the file that a training is kept in: whose it is, what was decided before it, and
 * what it has come to. */
#include "driver.h"
#include "saved.h"
#include <string.h>
#include <sys/stat.h>

static const char KIND[ML_SAVED_KIND] = "mlopt training 1";

/* ---- whose it is ---- */

static uint64_t
hash_text(const char *text, uint64_t key)
{
	return text ? ml_hash_bytes(text, strlen(text) + 1, key) : ml_hash_bytes("", 0, key + 1);
}

/* All that says which numbers training computes, but the data, which training itself knows. */
static uint64_t
key_of(const ml_checkpoint *c, const ml_module *m, const ml_distill_options *d)
{
	const ml_options *o = c->o;
	const char *text[] = {o->prune,  o->prune_score, o->distill_loss,
			      o->labels, o->passes,      o->skip_pass};
	uint64_t key = ml_hash_module(o->cx, m, 1);

	for (size_t i = 0; i < sizeof text / sizeof *text; i++)
		key = hash_text(text[i], key);
	key = ml_hash_bytes(&d->minutes, sizeof d->minutes, key);
	key = ml_hash_bytes(&d->steps, sizeof d->steps, key);
	key = ml_hash_bytes(&d->seed, sizeof d->seed, key);
	key = ml_hash_bytes(&d->layers, sizeof d->layers, key);
	key = ml_hash_bytes(d->keep, (uint64_t)d->nkeep * sizeof *d->keep, key);
	key = ml_hash_bytes(&o->opt_level, sizeof o->opt_level, key);
	return d->teacher ? ml_hash_module(o->cx, d->teacher, key) : key;
}

/* ---- writing ---- */

static ml_status
save(void *user, const ml_text *state)
{
	const ml_checkpoint *c = user;
	uint32_t n = (uint32_t)c->record->decisions.count;
	ml_arena arena;
	ml_text t;

	ml_arena_init(&arena, &c->o->cx->memory);
	ml_text_init(&t, &arena);
	ml_saved_begin(&t, KIND, c->key);
	ml_put_bytes(&t, (const char *)&n, sizeof n);
	for (uint32_t i = 0; i < n; i++) {
		const ml_decision *d = &c->record->decisions.at[i];
		ml_saved_put_text(&t, d->pass);
		ml_saved_put_text(&t, d->subject);
		ml_saved_put_text(&t, d->choice);
	}
	ml_put_bytes(&t, state->at, state->length);
	ml_saved_end(&t);
	ml_status status = ml_write_text(c->o, c->o->checkpoint, "checkpoint", &t);
	ml_arena_free(&arena);
	return status;
}

/* ---- reading ---- */

/* What was measured before training is not measured again. */
static bool
take_decisions(const ml_checkpoint *c, ml_bytes *r)
{
	ml_arena *arena = c->record->arena;
	uint32_t n;

	if (!ml_take(r, &n, sizeof n))
		return false;
	for (uint32_t i = 0; i < n; i++) {
		ml_decision d = {.pass = ml_take_text(r, arena),
				 .subject = ml_take_text(r, arena),
				 .choice = ml_take_text(r, arena)};
		if (!d.choice)
			return false;
		if (!c->record->replays) /* a report that was given knows as much */
			ML_PUSH(arena, c->record->replayed, d);
	}
	return true;
}

static ml_status
refuse(const ml_checkpoint *c, const char *what)
{
	ml_context *cx = c->o->cx;

	ml_error(cx, ML_ERR_ARG, NULL, "checkpoint: '%s' %s",
		 ml_escaped(&cx->arena, c->o->checkpoint), what);
	ml_hint(cx, "give another file, or remove this one to begin again");
	return ML_ERR_ARG;
}

static ml_status
take_all(ml_checkpoint *c, const ml_text *file, ml_distill_options *d)
{
	ml_bytes r;
	uint64_t key;

	switch (ml_saved_open(file, KIND, &key, &r)) {
	case ML_SAVED_GOOD: break;
	case ML_SAVED_OTHER: return refuse(c, "is no checkpoint");
	case ML_SAVED_DAMAGED: return refuse(c, "is damaged");
	}
	if (key != c->key)
		return refuse(c, "is of another model, or of other options");
	if (!take_decisions(c, &r))
		return refuse(c, "is damaged");
	d->saved = r.at;
	d->saved_bytes = r.size;
	return ML_OK;
}

ml_status
ml_checkpoint_open(ml_checkpoint *c, const ml_module *m, ml_distill_options *d, ml_arena *arena)
{
	const char *path = c->o->checkpoint;
	struct stat there;
	ml_text t;

	ML_STEP(ml_check_output(c->o->cx, path));
	c->key = key_of(c, m, d);
	d->save = save;
	d->save_user = c;
	if (stat(path, &there))
		return ML_OK; /* it will be written */
	ml_text_init(&t, arena);
	return ml_read_whole(path, &t) ? take_all(c, &t, d) : refuse(c, "cannot be read");
}
