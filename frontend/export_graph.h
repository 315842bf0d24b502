/* export_graph.h -- an ONNX graph under construction, and how operators are spelled in it.
 *
 * Every tensor is a name.  Spelling functions add nodes and return the name of what they computed;
 * the name of a value lies in its scratch.  Sizes are tensors s64[1].
 */
#ifndef ML_EXPORT_GRAPH_H
#define ML_EXPORT_GRAPH_H
#include "../ir/ir.h"
#include "export.h"
#include "onnx.pb-c.h"

/* An initializer: bytes of a blob, or of the exporter's arena. */
typedef struct ml_export_weight {
	Onnx__TensorProto *header; /* without data */
	const void *bytes;
	uint64_t size;
} ml_export_weight;

/* Where a symbol's value can be read: dim `axis` of a tensor. */
typedef struct ml_export_source {
	const char *tensor;
	int axis;
} ml_export_source;

typedef struct ml_export_dim {
	ml_dim dim;
	const char *name;
} ml_export_dim;

typedef ML_VEC(Onnx__NodeProto *) ml_export_nodes;

typedef struct ml_export {
	ml_context *cx;
	ml_module *m;
	ml_arena arena;
	ml_builder b;           /* failures */
	const ml_node *node;    /* being spelled */
	ml_export_nodes *nodes; /* of the graph being written */
	ML_VEC(ml_export_weight) weights;
	ml_export_source *source;     /* of each symbol, by index */
	ML_VEC(ml_export_dim) sizes;  /* computed so far, visible here */
	ML_VEC(const char *) domains; /* of custom operators */
	const char *prefix;           /* of names we make; no input or output begins with it */
	int named;
	int opset; /* what has been written needs at least this one */
	ml_status status;
} ml_export;

typedef const char *ml_spell_fn(ml_export *, const ml_node *);

/* ONNX's number of an element type, which what is written is to use. */
int ml_spell_type(ml_export *, ml_dtype);

/* ---- nodes ---- */

const char *ml_spell_name(ml_export *);
/* A node with `nin` inputs (NULL: omitted) and one output; more are added by ml_spell_output. */
Onnx__NodeProto *ml_spell_node(ml_export *, const char *op, const char *const *in, int nin);
const char *ml_spell_output(ml_export *, Onnx__NodeProto *, int i);
const char *ml_spell1(ml_export *, const char *op, const char *a);
const char *ml_spell2(ml_export *, const char *op, const char *a, const char *b);
const char *ml_spell3(ml_export *, const char *op, const char *a, const char *b, const char *c);
void ml_spell_int(ml_export *, Onnx__NodeProto *, const char *name, int64_t);
void ml_spell_float(ml_export *, Onnx__NodeProto *, const char *name, double);
void ml_spell_text(ml_export *, Onnx__NodeProto *, const char *name, const char *);
void ml_spell_ints(ml_export *, Onnx__NodeProto *, const char *name, const int64_t *, int n);
void ml_spell_graph(ml_export *, Onnx__NodeProto *, const char *name, Onnx__GraphProto *);
Onnx__AttributeProto *ml_spell_attribute(ml_export *, Onnx__NodeProto *, const char *name,
					 int type);

/* ---- tensors ---- */

const char *ml_spell_weight(ml_export *, ml_dtype, const int64_t *dims, int rank, const void *,
			    uint64_t size);
const char *ml_spell_list(ml_export *, const int64_t *, int n); /* s64[n] */
const char *ml_spell_number(ml_export *, ml_dtype, double);     /* a scalar */
const char *ml_spell_cast(ml_export *, const char *, ml_dtype);
/* The name of operand i, NULL when there is none. */
const char *ml_spell_in(const ml_node *, int i);
void ml_spell_set(const ml_value *, const char *name);
/* Reports that ONNX has no spelling for this, returns NULL. */
const char *ml_spell_fail(ml_export *, const char *why);

/* Declares a tensor; without names, dims that are no numbers stay open. */
Onnx__ValueInfoProto *ml_spell_info(ml_export *, const ml_type *, const char *name,
				    bool dims_named);

/* ---- sizes: export_dims.c ---- */

const char *ml_spell_dim(ml_export *, ml_dim);                  /* s64[1] */
const char *ml_spell_shape(ml_export *, const ml_dim *, int n); /* s64[n] */
const char *ml_spell_reshape(ml_export *, const char *, const ml_dim *, int n);
const char *ml_spell_axes(ml_export *, const char *op, const char *, const int64_t *, int n);
/* A value is there now: its dims may tell symbols. */
void ml_spell_sources(ml_export *, const ml_value *, const char *name);

/* ---- operators: export_ops.def ---- */

/* Composites without a spelling of their own are replaced by their bodies first. */
bool ml_export_expands(const ml_node *);
/* Does QuantizeLinear or DequantizeLinear say what quantize or dequantize does? */
bool ml_export_quantizes(const ml_node *);
/* A linear_u4 whose weights are constants. */
bool ml_export_stores_u4(const ml_node *);
ml_status ml_export_block(ml_export *, const ml_block *);
/* Writes the model; export_write.c */
ml_status ml_export_write(ml_export *, Onnx__ModelProto *, const char *path);

#define ML_SPELL(op, fn, name) ml_spell_fn ml_spell_##fn;
#include "export_ops.def"
#endif
