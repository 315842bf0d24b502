/* saved.c -- the outer form of checkpoints and statistics. */
#include "saved.h"
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

_Static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__, "files are written as memory lies");

/* ---- writing ---- */

void
ml_saved_begin(ml_text *t, const char kind[ML_SAVED_KIND], uint64_t key)
{
	ml_put_bytes(t, kind, ML_SAVED_KIND);
	ml_put_bytes(t, (const char *)&key, sizeof key);
}

void
ml_saved_put_text(ml_text *t, const char *text)
{
	uint32_t n = (uint32_t)strlen(text);

	ml_put_bytes(t, (const char *)&n, sizeof n);
	ml_put_bytes(t, text, n);
}

void
ml_saved_end(ml_text *t)
{
	uint64_t sum = ml_hash_bytes(t->at, t->length, 0);

	ml_put_bytes(t, (const char *)&sum, sizeof sum);
}

/* ---- reading ---- */

const char *
ml_take_text(ml_bytes *r, ml_arena *arena)
{
	uint32_t n;

	if (!ml_take(r, &n, sizeof n) || n > r->size)
		return NULL;
	char *text = ml_alloc(arena, (size_t)n + 1);
	ml_take(r, text, n);
	return text;
}

ml_saved
ml_saved_open(const ml_text *file, const char kind[ML_SAVED_KIND], uint64_t *key, ml_bytes *r)
{
	char is[ML_SAVED_KIND];
	uint64_t sum;

	*r = (ml_bytes){file->at, file->length};
	if (!ml_take(r, is, sizeof is) || memcmp(is, kind, sizeof is) || r->size < sizeof sum)
		return ML_SAVED_OTHER;
	memcpy(&sum, file->at + file->length - sizeof sum, sizeof sum);
	r->size -= sizeof sum;
	if (sum != ml_hash_bytes(file->at, file->length - sizeof sum, 0))
		return ML_SAVED_DAMAGED;
	return ml_take(r, key, sizeof *key) ? ML_SAVED_GOOD : ML_SAVED_DAMAGED;
}

bool
ml_read_whole(const char *path, ml_text *t)
{
	struct stat s;
	char room[1 << 16];
	size_t n;

	if (stat(path, &s) || !S_ISREG(s.st_mode))
		return false;
	FILE *f = fopen(path, "rbe");
	if (!f)
		return false;
	while ((n = fread(room, 1, sizeof room, f)))
		ml_put_bytes(t, room, n);
	bool good = !ferror(f);
	fclose(f);
	return good;
}

/* Large constants are printed as what their bytes hash to. */
uint64_t
ml_hash_module(ml_context *cx, const ml_module *m, uint64_t key)
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
