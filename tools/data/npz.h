/* npz.h -- numpy's .npz: a zip archive with one .npy per array, named after it. */
#ifndef MD_NPZ_H
#define MD_NPZ_H
#include "array.h"

typedef struct md_npz md_npz; /* an archive open for reading; arrays are loaded one by one */

/* Lists the entries that end in ".npy"; others are ignored.  NULL on failure. */
md_npz *md_npz_open(const char *path, char *why, size_t why_size);
void md_npz_close(md_npz *);

size_t md_npz_count(const md_npz *);
const char *md_npz_name(const md_npz *, size_t index); /* lent, until md_npz_close */

/* Index of the array of this name, or -1. */
long md_npz_find(const md_npz *, const char *name);

/* Loads one array.  Stored and deflated entries, also zip64; the CRC is checked.  Memory is
 * allocated only after the .npy header agrees with the entry's size, and that size with what the
 * compressed bytes can hold at most. */
int md_npz_load(md_npz *, size_t index, md_array *, char *why, size_t why_size);

/* All arrays of the archive, appended to `list`. */
int md_npz_read(const char *path, md_arrays *list, char *why, size_t why_size);

typedef enum md_npz_packing { MD_NPZ_STORED, MD_NPZ_DEFLATED } md_npz_packing;

/* Whole or not at all (replace.h); the same arrays give the same bytes.  Array names become entry
 * names unchanged (numpy.load shows them as keys) except for what would be unsafe in a zip: control
 * characters, bytes that are not UTF-8 and "." or ".." as a path component are written as %XX,
 * which reading undoes. */
int md_npz_write(const char *path, const md_arrays *, md_npz_packing, char *why, size_t why_size);
#endif
