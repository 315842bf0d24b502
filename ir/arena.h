/* arena.h -- memory that is freed all at once: one arena per module, one scratch arena per pass. */
#ifndef ML_ARENA_H
#define ML_ARENA_H
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>

/* Where all memory comes from.  `resize(user, NULL, 0, n)` allocates, `resize(user, p, old, 0)`
 * frees; a failed allocation returns NULL. */
typedef struct ml_memory {
	void *(*resize)(void *user, void *p, size_t old_size, size_t new_size);
	void *user;
	jmp_buf *on_fail; /* where a failed allocation unwinds to; set by the API boundary */
} ml_memory;

typedef struct ml_chunk ml_chunk;
typedef struct ml_arena {
	ml_memory *memory;
	ml_chunk *chunk;
	size_t used, size; /* within the newest chunk */
	size_t total;      /* bytes obtained from memory */
} ml_arena;

/* malloc, realloc and free behind the interface above. */
ml_memory ml_memory_libc(void);

/* Plain blocks.  These never return NULL: on failure they unwind to memory->on_fail. */
void *ml_resize(ml_memory *, void *p, size_t old_size, size_t new_size);

void ml_arena_init(ml_arena *, ml_memory *);
void ml_arena_free(ml_arena *);

/* Zeroed, aligned to 16 bytes; never NULL (unwinds as above).  Size 0 gives a valid pointer. */
void *ml_alloc(ml_arena *, size_t bytes);
void *ml_alloc_array(ml_arena *, size_t count, size_t size);
#define ML_NEW(arena, type)          ((type *)ml_alloc((arena), sizeof(type)))
#define ML_NEW_ARRAY(arena, type, n) ((type *)ml_alloc_array((arena), (size_t)(n), sizeof(type)))

char *ml_strdup(ml_arena *, const char *);
char *ml_strndup(ml_arena *, const char *, size_t n);
char *ml_format(ml_arena *, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
char *ml_vformat(ml_arena *, const char *fmt, va_list);

/* Growable array inside an arena: ML_PUSH(arena, v, element) with fields v.at, v.count, v.room. */
#define ML_VEC(type)                                                                               \
	struct {                                                                                   \
		type *at;                                                                          \
		int count, room;                                                                   \
	}
#define ML_PUSH(arena, v, element)                                                                 \
	((v).count == (v).room ? (void)((v).at = ml_vec_grow((arena), (v).at, (v).count,           \
							     &(v).room, sizeof *(v).at))           \
			       : (void)0,                                                          \
	 (v).at[(v).count++] = (element))
void *ml_vec_grow(ml_arena *, const void *at, int count, int *room, size_t size);

/* Somebody else's. */
typedef struct ml_bytes {
	const void *at;
	size_t size;
} ml_bytes;
/* Copies from the beginning, and moves it; false, and nothing is taken, when there is less. */
bool ml_take(ml_bytes *, void *to, size_t bytes);

/* Text under construction. */
typedef struct ml_text {
	ml_arena *arena;
	char *at; /* NUL-terminated */
	size_t length, room;
} ml_text;
void ml_text_init(ml_text *, ml_arena *);
void ml_put(ml_text *, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
void ml_put_bytes(ml_text *, const char *, size_t n);
#endif
