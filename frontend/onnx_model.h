/* onnx_model.h -- an ONNX file opened for reading: its structure unpacked, its weights mapped.
 *
 * What holds once ml_onnx_open has returned ML_OK, so that lowering need not check it again:
 *  - the model has a graph, and messages nest at most ML_ONNX_DEPTH deep;
 *  - every graph and function body is in static single assignment: no name is defined twice;
 *    every input of a node and every output of a graph names a value that is defined in that graph
 *    or, for subgraphs, around it; "" stands for an omitted value;
 *  - `order` of each Onnx__GraphProto and Onnx__FunctionProto lists all its nodes, each after the
 *    nodes it depends on, also through names captured by its subgraphs;
 *  - calls of functions do not recurse; calls and subgraphs together nest at most ML_ONNX_NESTING
 *    deep, and inlining all of them adds at most ML_ONNX_INLINED nodes;
 *  - strings of the model hold no NUL; they may hold any other byte, so escape them when writing.
 * A subgraph may define a name again that is defined around it: the inner one counts.
 */
#ifndef ML_ONNX_MODEL_H
#define ML_ONNX_MODEL_H
#include "../ir/arena.h"
#include "../ir/blob.h"
#include "../ir/diag.h"
#include "onnx.pb-c.h"
#include "skeleton.h"

enum {
	ML_ONNX_DEPTH = 100,
	ML_ONNX_NESTING = 100,
	ML_ONNX_INLINED = 200000,
	ML_ONNX_NEWEST_IR = 14,
};

typedef struct ml_onnx_external ml_onnx_external;

typedef struct ml_onnx_model {
	Onnx__ModelProto *proto;

	/* Private to the loader. */
	ml_memory *memory;
	ml_arena arena;             /* everything `proto` points to */
	struct ml_mapping *mapping; /* the model file */
	int directory;              /* descriptor that external data is looked up in, or -1 */
	ml_onnx_external *external; /* files mapped so far */
	const Onnx__FunctionProto **function; /* sorted by name, domain, overload */
	ml_blob *held[2];                     /* the halves of a sparse tensor while it is read */
	ml_arena scratch;                     /* while opening */
	ml_skeleton skeleton;                 /* while opening */
} ml_onnx_model;

/* Opens a model file, or a model in memory whose external data, if any, lies in `dir` (NULL: such
 * tensors are refused).  The bytes must stay as they are until the model is closed and every blob
 * of it dropped; a file that is truncated meanwhile raises SIGBUS, as with any mapped file.
 * Close with ml_onnx_close, also when unwinding past it from a failed allocation. */
ml_status ml_onnx_open(ml_context *, const char *path, ml_onnx_model **);
ml_status ml_onnx_open_bytes(ml_context *, const void *bytes, size_t size, const char *dir,
			     ml_onnx_model **);
void ml_onnx_close(ml_onnx_model *); /* NULL is allowed; blobs live on */

/* Version imported for a domain ("" and "ai.onnx" are the same one), 0 when it is not imported.
 * For the main graph give proto->opset_import, for a function the function's own. */
int64_t ml_onnx_opset(Onnx__OperatorSetIdProto *const *imports, size_t n, const char *domain);
/* "" for NULL and for "ai.onnx", else the domain itself. */
const char *ml_onnx_domain(const char *domain);

/* The model-local function a node calls, or NULL.  NULL strings count as "". */
const Onnx__FunctionProto *ml_onnx_find_function(const ml_onnx_model *, const char *domain,
						 const char *name, const char *overload);

/* Provenance of a node, strings copied to the arena: the model may be closed before it. */
const ml_prov *ml_onnx_prov(ml_arena *, const Onnx__NodeProto *, int index, int64_t opset);

/* Element type for ONNX's number; ML_ERR_UNSUPPORTED for types we do not have (strings, complex,
 * 8 bit floats ...), ML_ERR_FORMAT for numbers that are none.  `name` is for messages. */
ml_status ml_onnx_dtype(int32_t number, ml_dtype *);
const char *ml_onnx_dtype_name(int32_t number);

/* A tensor's elements, little endian, row major, densely packed; bool is 0 or 1, 4 bit integers are
 * widened to s8 and u8. */
typedef struct ml_onnx_tensor_view {
	ml_dtype dtype;
	int rank;
	const int64_t *dims; /* lives as long as the model */
	uint64_t count;      /* of elements; count * size of dtype == bytes->size */
	ml_blob *bytes;      /* one reference, the caller's; any alignment when mapped */
} ml_onnx_tensor_view;

/* Reads a tensor: borrows the mapped bytes where the layout allows, else decodes.  `at` names the
 * node it belongs to in messages, NULL for initializers. */
ml_status ml_onnx_tensor(ml_context *, ml_onnx_model *, const Onnx__TensorProto *,
			 const ml_prov *at, ml_onnx_tensor_view *out);
/* The dense form of a sparse tensor.  out->dims belongs to the model too. */
ml_status ml_onnx_sparse_tensor(ml_context *, ml_onnx_model *, const Onnx__SparseTensorProto *,
				const ml_prov *at, ml_onnx_tensor_view *out);
#endif
