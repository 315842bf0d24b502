/* checkpoint.c -- the file that a training is kept in: whose it is, what was decided before it, and
 * what it has come to. */
#include "driver.h"
#include <stdio.h>
#include <string.h>

static const char MAGIC[16] = "mlopt training 1";

/* ---- whose it is ---- */

static uint64_t
hash_text(const char *text, uint64_t key)
{
	return text ? ml_hash_bytes(text, strlen(text) + 1, key) : ml_hash_bytes("", 0, key + 1);
}

/* Large constants are printed as what their bytes hash to. */
static uint64_t
hash_module(ml_context *cx, const ml_module *m, uint64_t key)
{
	ml_arena arena;
	ml_text t;

	ml_arena_init(&arena, &cx->memory);
	ml_text_init(&t, &arena);
	ml_print(&t, m);
	key = ml_hash_bytes(t.at, t.length, key);
	ml_arena_free(&arena);
	return key;
}

/* All that says which numbers training computes, but the data, which training itself knows. */
static uint64_t
key_of(const ml_checkpoint *c, const ml_module *m, const ml_distill_options *d)
{
	const ml_options *o = c->o;
	const char *text[] = {o->prune,  o->prune_score, o->distill_loss,
			      o->labels, o->passes,      o->skip_pass};
	uint64_t key = hash_module(o->cx, m, 1);

	for (size_t i = 0; i < sizeof text / sizeof *text; i++)
		key = hash_text(text[i], key);
	key = ml_hash_bytes(&d->minutes, sizeof d->minutes, key);
	key = ml_hash_bytes(&d->steps, sizeof d->steps, key);
	key = ml_hash_bytes(&d->seed, sizeof d->seed, key);
	key = ml_hash_bytes(&d->layers, sizeof d->layers, key);
	key = ml_hash_bytes(d->keep, (uint64_t)d->nkeep * sizeof *d->keep, key);
	key = ml_hash_bytes(&o->opt_level, sizeof o->opt_level, key);
	return d->teacher ? hash_module(o->cx, d->teacher, key) : key;
}

/* ---- writing ---- */

static void
put_text(ml_text *t, const char *text)
{
	uint32_t n = (uint32_t)strlen(text);

	ml_put_bytes(t, (const char *)&n, sizeof n);
	ml_put_bytes(t, text, n);
}

static ml_status
save(void *user, const ml_text *state)
{
	const ml_checkpoint *c = user;
	uint32_t n = (uint32_t)c->record->decisions.count;
	uint64_t sum;
	ml_arena arena;
	ml_text t;

	ml_arena_init(&arena, &c->o->cx->memory);
	ml_text_init(&t, &arena);
	ml_put_bytes(&t, MAGIC, sizeof MAGIC);
	ml_put_bytes(&t, (const char *)&c->key, sizeof c->key);
	ml_put_bytes(&t, (const char *)&n, sizeof n);
	for (uint32_t i = 0; i < n; i++) {
		const ml_decision *d = &c->record->decisions.at[i];
		put_text(&t, d->pass);
		put_text(&t, d->subject);
		put_text(&t, d->choice);
	}
	ml_put_bytes(&t, state->at, state->length);
	sum = ml_hash_bytes(t.at, t.length, 0);
	ml_put_bytes(&t, (const char *)&sum, sizeof sum);
	ml_status status = ml_write_text(c->o, c->o->checkpoint, "checkpoint", &t);
	ml_arena_free(&arena);
	return status;
}

/* ---- reading ---- */

typedef struct reader {
	const char *at;
	size_t left;
} reader;

static bool
take(reader *r, void *to, size_t bytes)
{
	if (bytes > r->left)
		return false;
	memcpy(to, r->at, bytes);
	r->at += bytes;
	r->left -= bytes;
	return true;
}

static const char *
take_text(reader *r, ml_arena *arena)
{
	uint32_t n;

	if (!take(r, &n, sizeof n) || n > r->left)
		return NULL;
	r->at += n;
	r->left -= n;
	return ml_strndup(arena, r->at - n, n);
}

/* What was measured before training is not measured again. */
static bool
take_decisions(const ml_checkpoint *c, reader *r)
{
	ml_arena *arena = c->record->arena;
	uint32_t n;

	if (!take(r, &n, sizeof n))
		return false;
	for (uint32_t i = 0; i < n; i++) {
		ml_decision d = {.pass = take_text(r, arena),
				 .subject = take_text(r, arena),
				 .choice = take_text(r, arena)};
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
	reader r = {file->at, file->length};
	char magic[sizeof MAGIC];
	uint64_t key, sum;

	if (!take(&r, magic, sizeof magic) || memcmp(magic, MAGIC, sizeof magic) ||
	    r.left < sizeof sum)
		return refuse(c, "is no checkpoint");
	memcpy(&sum, file->at + file->length - sizeof sum, sizeof sum);
	r.left -= sizeof sum;
	if (sum != ml_hash_bytes(file->at, file->length - sizeof sum, 0))
		return refuse(c, "is damaged");
	if (!take(&r, &key, sizeof key) || key != c->key)
		return refuse(c, "is of another model, or of other options");
	if (!take_decisions(c, &r))
		return refuse(c, "is damaged");
	d->saved = r.at;
	d->saved_bytes = r.left;
	return ML_OK;
}

static bool
read_whole(FILE *f, ml_text *t)
{
	char room[1 << 16];
	size_t n;

	while ((n = fread(room, 1, sizeof room, f)))
		ml_put_bytes(t, room, n);
	return !ferror(f);
}

ml_status
ml_checkpoint_open(ml_checkpoint *c, const ml_module *m, ml_distill_options *d, ml_arena *arena)
{
	const char *path = c->o->checkpoint;
	ml_text t;

	ML_STEP(ml_check_output(c->o->cx, path));
	c->key = key_of(c, m, d);
	d->save = save;
	d->save_user = c;
	FILE *f = fopen(path, "rb");
	if (!f)
		return ML_OK; /* it will be written */
	ml_text_init(&t, arena);
	bool good = read_whole(f, &t);
	fclose(f);
	return good ? take_all(c, &t, d) : refuse(c, "cannot be read");
}
