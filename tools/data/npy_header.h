/* npy_header.h -- the Python literal in front of a .npy's data. */
#ifndef MD_NPY_HEADER_H
#define MD_NPY_HEADER_H
#include "array.h"

typedef struct md_npy_layout {
	md_dtype dtype;
	bool swapped; /* big endian */
	bool fortran; /* first axis fastest */
	int rank;
	int64_t dim[MD_MAX_RANK];
} md_npy_layout;

/* Reads "{'descr': '<f4', 'fortran_order': False, 'shape': (3, 4), }" and padding: each key once,
 * in any order, nothing else. */
int md_npy_parse(const char *text, size_t size, md_npy_layout *, char *why, size_t why_size);

/* Writes that literal; returns its length (size is never reached: rank is bounded). */
size_t md_npy_print(const md_array *, char *text, size_t size);
#endif
