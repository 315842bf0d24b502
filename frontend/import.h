/* import.h -- ONNX to IR. */
#ifndef ML_IMPORT_H
#define ML_IMPORT_H
#include "../ir/ir.h"

typedef struct ml_import_dim {
	const char
		*name; /* a dim_param, or INPUT_dK for dim K of INPUT where the model names none */
	int64_t value;
} ml_import_dim;

typedef struct ml_import_shape {
	const char *input;
	int rank;
	int64_t dim[ML_MAX_RANK]; /* -1: as the model says */
} ml_import_shape;

/* An input that becomes a constant. */
typedef struct ml_import_freeze {
	const char *input;
	ml_tensor value;
} ml_import_freeze;

typedef struct ml_import_options {
	const ml_import_dim *dims;
	int ndims;
	const ml_import_shape *shapes;
	int nshapes;
	const ml_import_freeze *freezes;
	int nfreezes;
} ml_import_options;

/* Reads a model, and lowers its graph to core operators and composites.
 *
 * Arguments of the main block are the graph's inputs in their order, without those that have an
 * initializer or are frozen; results are its outputs, named in output_names.  Dims come from the
 * declared inputs: dim_param names become symbols, other dynamic dims fresh ones.  Weights stay in
 * the mapped file.  Everything that is wrong is reported, one message each, then how much that was:
 * what depends on a failed node is left out silently, the rest goes on. `options` may be NULL; an
 * option that fits nothing is ML_ERR_ARG.  On failure *out is NULL. */
ml_status ml_import_onnx(ml_context *, const char *path, const ml_import_options *options,
			 ml_module **out);
/* The same from memory, which must outlive the module; external data is looked for in `dir`
 * (NULL: refused). */
ml_status ml_import_onnx_bytes(ml_context *, const void *bytes, size_t size, const char *dir,
			       const ml_import_options *options, ml_module **out);
#endif
