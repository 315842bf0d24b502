/* arena.c -- chunked bump allocation; a failed allocation unwinds to the API boundary. */
#include "arena.h"
#include <assert.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct ml_chunk {
	ml_chunk *next;
	size_t size;
	_Alignas(16) char bytes[];
};

enum { FIRST_CHUNK = 4096, LARGEST_CHUNK = 1 << 20, ALIGN = 16 };

static void *
libc_resize(void *user, void *p, size_t old_size, size_t new_size)
{
	(void)user;
	(void)old_size;
	if (new_size)
		return realloc(p, new_size);
	free(p);
	return NULL;
}

ml_memory
ml_memory_libc(void)
{
	return (ml_memory){.resize = libc_resize};
}

void *
ml_resize(ml_memory *memory, void *p, size_t old_size, size_t new_size)
{
	void *q = memory->resize(memory->user, p, old_size, new_size);

	if (!q && new_size) {
		assert(memory->on_fail && "allocation outside of an API boundary");
		longjmp(*memory->on_fail, 1);
	}
	return q;
}

void
ml_arena_init(ml_arena *arena, ml_memory *memory)
{
	*arena = (ml_arena){.memory = memory};
}

void
ml_arena_free(ml_arena *arena)
{
	for (ml_chunk *c = arena->chunk, *next; c; c = next) {
		next = c->next;
		ml_resize(arena->memory, c, sizeof *c + c->size, 0);
	}
	*arena = (ml_arena){.memory = arena->memory};
}

static void
add_chunk(ml_arena *arena, size_t need)
{
	size_t size = arena->size ? arena->size * 2 : FIRST_CHUNK;

	if (size > LARGEST_CHUNK)
		size = LARGEST_CHUNK;
	if (size < need)
		size = need;
	if (size > SIZE_MAX - sizeof(ml_chunk))
		size = SIZE_MAX - sizeof(ml_chunk); /* fails in the allocator */
	ml_chunk *c = ml_resize(arena->memory, NULL, 0, sizeof *c + size);
	c->next = arena->chunk;
	c->size = size;
	arena->chunk = c;
	arena->used = 0;
	arena->size = size;
	arena->total += size;
}

void *
ml_alloc(ml_arena *arena, size_t bytes)
{
	size_t need = bytes > SIZE_MAX - ALIGN ? bytes : (bytes + ALIGN - 1) / ALIGN * ALIGN;

	if (!arena->chunk || need > arena->size - arena->used)
		add_chunk(arena, need);
	void *p = arena->chunk->bytes + arena->used;
	arena->used += need;
	return memset(p, 0, bytes);
}

void *
ml_alloc_array(ml_arena *arena, size_t count, size_t size)
{
	return ml_alloc(arena, size && count > SIZE_MAX / size ? SIZE_MAX : count * size);
}

char *
ml_strndup(ml_arena *arena, const char *s, size_t n)
{
	char *copy = ml_alloc(arena, n + 1);

	memcpy(copy, s, n);
	return copy;
}

char *
ml_strdup(ml_arena *arena, const char *s)
{
	return ml_strndup(arena, s, strlen(s));
}

char *
ml_vformat(ml_arena *arena, const char *fmt, va_list args)
{
	va_list again;

	va_copy(again, args);
	int n = vsnprintf(NULL, 0, fmt, again);
	va_end(again);
	char *s = ml_alloc(arena, (size_t)(n < 0 ? 0 : n) + 1);
	if (n > 0)
		vsnprintf(s, (size_t)n + 1, fmt, args);
	return s;
}

char *
ml_format(ml_arena *arena, const char *fmt, ...)
{
	va_list args;

	va_start(args, fmt);
	char *s = ml_vformat(arena, fmt, args);
	va_end(args);
	return s;
}

void *
ml_vec_grow(ml_arena *arena, const void *at, int count, int *room, size_t size)
{
	assert(count <= INT32_MAX / 2);
	*room = count ? count * 2 : 8;
	void *grown = ml_alloc_array(arena, (size_t)*room, size);
	if (count)
		memcpy(grown, at, (size_t)count * size);
	return grown;
}

bool
ml_take(ml_bytes *from, void *to, size_t bytes)
{
	if (bytes > from->size)
		return false;
	if (bytes)
		memcpy(to, from->at, bytes);
	from->at = (const char *)from->at + bytes;
	from->size -= bytes;
	return true;
}

void
ml_text_init(ml_text *t, ml_arena *arena)
{
	*t = (ml_text){.arena = arena, .room = 256, .at = ml_alloc(arena, 256)};
}

void
ml_put_bytes(ml_text *t, const char *bytes, size_t n)
{
	if (n >= t->room - t->length) {
		size_t room = t->room;
		while (n >= room - t->length)
			room *= 2;
		char *grown = ml_alloc(t->arena, room);
		memcpy(grown, t->at, t->length);
		t->at = grown;
		t->room = room;
	}
	memcpy(t->at + t->length, bytes, n);
	t->length += n;
	t->at[t->length] = 0;
}

void
ml_put(ml_text *t, const char *fmt, ...)
{
	char small[256];
	va_list args;

	va_start(args, fmt);
	int n = vsnprintf(small, sizeof small, fmt, args);
	va_end(args);
	if (n >= 0 && (size_t)n < sizeof small) {
		ml_put_bytes(t, small, (size_t)n);
		return;
	}
	va_start(args, fmt);
	const char *s = ml_vformat(t->arena, fmt, args);
	va_end(args);
	ml_put_bytes(t, s, strlen(s));
}
