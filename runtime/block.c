/* block.c -- the runtime's memory: blocks aligned to 64 bytes from the application's allocator. */
#include "block.h"
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { ALIGN = 64 };

static void *
libc_resize(void *user, void *p, size_t old_size, size_t new_size)
{
	(void)user;
	(void)old_size;
	if (!new_size) {
		free(p);
		return NULL;
	}
	return realloc(p, new_size);
}

const ml_allocator mlrt_libc_allocator = {libc_resize, NULL};

ml_status
mlrt_block_grow(mlrt_block *b, const ml_allocator *a, size_t n)
{
	if (n <= b->room)
		return ML_OK;
	if (n > SIZE_MAX - ALIGN)
		return ML_ERR_NOMEM;
	void *p = a->resize(a->user, NULL, 0, n + ALIGN);
	if (!p)
		return ML_ERR_NOMEM;
	mlrt_block_free(b, a);
	b->obtained = p;
	b->at = (uint8_t *)(((uintptr_t)p + ALIGN - 1) & ~(uintptr_t)(ALIGN - 1));
	b->room = n;
	return ML_OK;
}

void
mlrt_block_free(mlrt_block *b, const ml_allocator *a)
{
	if (b->obtained)
		a->resize(a->user, b->obtained, b->room + ALIGN, 0);
	*b = (mlrt_block){0};
}

void *
mlrt_new(const ml_allocator *a, size_t n)
{
	void *p = a->resize(a->user, NULL, 0, n ? n : 1);

	return p ? memset(p, 0, n ? n : 1) : NULL;
}

void
mlrt_delete(const ml_allocator *a, void *p, size_t n)
{
	if (p)
		a->resize(a->user, p, n ? n : 1, 0);
}

ml_status
mlrt_say(ml_message *why, ml_status status, const char *fmt, ...)
{
	va_list args;

	if (!why)
		return status;
	va_start(args, fmt);
	int n = vsnprintf(why->text, sizeof why->text, fmt, args);
	va_end(args);
	if (n >= 0 && (size_t)n < sizeof why->text)
		snprintf(why->text + n, sizeof why->text - (size_t)n, " [%s]",
			 ml_status_tag(status));
	return status;
}
