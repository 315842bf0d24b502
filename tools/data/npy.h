/* npy.h -- numpy's .npy format, versions 1 to 3: one array with a text header.
 * Source: numpy/lib/format.py, "NumPy format specification". */
#ifndef MD_NPY_H
#define MD_NPY_H
#include "array.h"

/* Where the bytes of a .npy come from: a file or an entry of an archive. */
typedef struct md_stream {
	/* Fills all `n` bytes of `to`; 0, or -1 at the end or on an error. */
	int (*read)(void *from, void *to, size_t n);
	void *from;
	uint64_t size; /* of the whole .npy; the header's claim must equal it before any allocation
			*/
} md_stream;

/* Big endian and fortran order are converted, bools normalised to 0 and 1.  Strings, objects,
 * complex, dates and records are refused.  The array's name is `name`. */
int md_npy_read_stream(const md_stream *, const char *name, md_array *, char *why, size_t why_size);

int md_npy_read(const char *path, const char *name, md_array *, char *why, size_t why_size);

/* The bytes in front of the data: at most MD_NPY_HEADER_MAX, a multiple of 64; returns how many. */
enum { MD_NPY_HEADER_MAX = 1024 };
size_t md_npy_header(const md_array *, char header[MD_NPY_HEADER_MAX]);

/* Whole or not at all (replace.h). */
int md_npy_write(const char *path, const md_array *, char *why, size_t why_size);
#endif
