/* array.h -- a named n-dimensional array in C order, as data files hold it, and lists of them. */
#ifndef MD_ARRAY_H
#define MD_ARRAY_H
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include "why.h"

enum { MD_MAX_RANK = 32 };

typedef enum md_dtype {
#define MD_DTYPE(id, name, bytes, numpy, onnx) MD_##id,
#include "dtype.def"
#undef MD_DTYPE
	MD_DTYPE_COUNT
} md_dtype;

_Static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__, "files are written as memory lies");

/* Elements lie in C order, little endian.  A zeroed md_array is empty and may be
 * cleared.  Views borrow: their block is NULL and their data lives as long as what they view. */
typedef struct md_array {
	char *name; /* owned; never NULL in an array that a function of this folder made */
	md_dtype dtype;
	int rank; /* 0..MD_MAX_RANK */
	int64_t dim[MD_MAX_RANK];
	void *data;   /* never NULL, also for 0 bytes */
	size_t bytes; /* product of the dims times the element size */
	void *block;  /* what md_array_clear frees; NULL in a view */
} md_array;

/* An ordered list; names are unique. */
typedef struct md_arrays {
	md_array *at;
	size_t count, capacity;
} md_arrays;

size_t md_dtype_size(md_dtype);
const char *md_dtype_name(md_dtype);

/* Bytes of an array of this type and shape.  Fails on a negative dim, a rank out of range, or when
 * the product of the dims that are not 0 exceeds PTRDIFF_MAX (so strides never overflow either). */
int md_shape_bytes(md_dtype, int rank, const int64_t *dim, size_t *bytes, char *why,
		   size_t why_size);

/* Number of elements. */
int64_t md_array_elements(const md_array *);

/* "f32[2,3]" into `text`; returns `text`. */
char *md_array_type(const md_array *, char *text, size_t size);

/* A zeroed array of its own. */
int md_array_init(md_array *, const char *name, md_dtype, int rank, const int64_t *dim, char *why,
		  size_t why_size);

/* `count` slices of `whole` along axis 0 from `first` on, borrowed.  The range must lie inside. */
int md_array_slice(md_array *view, const md_array *whole, int64_t first, int64_t count, char *why,
		   size_t why_size);

/* An owned copy, also of a view. */
int md_array_copy(md_array *copy, const md_array *, char *why, size_t why_size);

/* Takes `name` as the new name. */
int md_array_rename(md_array *, const char *name, char *why, size_t why_size);

void md_array_clear(md_array *);

/* Elements first .. first + count - 1 (C order) as f64; 64-bit integers round. */
void md_array_read_f64(const md_array *, int64_t first, int64_t count, double *out);

/* Moves `*array` to the end of the list and zeroes it.  Fails when the name is taken; the caller
 * then still owns `*array`. */
int md_arrays_push(md_arrays *, md_array *array, char *why, size_t why_size);

/* NULL when there is none of this name. */
md_array *md_arrays_find(const md_arrays *, const char *name);

/* "a, b, c", cut with ", ..." to fit; returns `text`. */
char *md_arrays_names(const md_arrays *, char *text, size_t size);

void md_arrays_clear(md_arrays *);
#endif
