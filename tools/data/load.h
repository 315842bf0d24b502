/* load.h -- named arrays from and to whatever file the user names. */
#ifndef MD_LOAD_H
#define MD_LOAD_H
#include "array.h"

/* An array that the caller needs, in the order of the model's inputs. */
typedef struct md_want {
	const char *name;
	bool optional;
} md_want;

/* Loads from
 *   X.npz   the wanted arrays by name, the others stay unread,
 *   X.npy   one array, which is the one that is wanted (or named after the file),
 *   X.pb    the same from an ONNX TensorProto (or named by it),
 *   folder  ONNX test data: input_0.pb, input_1.pb, ...; a tensor named like a wanted array is
 *           that one, else the position decides.
 * `want` NULL takes everything.  Fails if a wanted array that is not optional is missing, naming
 * those that are there. */
int md_load(const char *path, const md_want *want, size_t wanted, md_arrays *, char *why,
	    size_t why_size);

/* The same from several files, each of which brings all that it holds: an array named as wanted is
 * that one, else the only array of file i is wanted array i. */
int md_load_all(const char *const *path, size_t paths, const md_want *want, size_t wanted,
		md_arrays *, char *why, size_t why_size);

bool md_is_folder(const char *path);

/* Whether the arrays are one set of inputs and not stacked samples: those of a folder and of
 * several .pb files, which are ONNX test data. */
bool md_is_one_set(const char *const *path, size_t paths);

/* Writes .npz (stored), or one array as .npy or .pb; whole or not at all. */
int md_store(const char *path, const md_arrays *, char *why, size_t why_size);
#endif
