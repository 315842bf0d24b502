/* lower_graph.h -- names and values while graphs, functions and subgraphs are lowered. */
#ifndef ML_LOWER_GRAPH_H
#define ML_LOWER_GRAPH_H
#include "lower.h"

/* What a name stands for: a value, a tensor of the file not looked at yet, or nothing usable. */
typedef struct ml_binding {
	const char *name; /* NULL: free slot of the table */
	ml_value *value;
	const Onnx__TensorProto *tensor;
	const Onnx__SparseTensorProto *sparse;
	bool poisoned;         /* its node failed: users fail silently */
	const ml_prov *absent; /* its node does not compute this result: users fail */
} ml_binding;

/* The names of one graph or function body.  Nothing is looked up outside: functions see their
 * parameters only, subgraphs get what they capture bound before they are lowered. */
typedef struct ml_frame {
	ml_binding *table; /* open addressing, a power of two in size */
	size_t mask, count;
	Onnx__OperatorSetIdProto *const *imports;
	size_t n_imports;
	/* Attributes of the function call being inlined, for ref_attr_name; else NULL. */
	const Onnx__FunctionProto *function;
	const Onnx__AttributeProto *
		*argument; /* parallel to function->attribute, then attribute_proto */
} ml_frame;

typedef struct ml_import {
	ml_context *cx;
	ml_onnx_model *model;
	ml_module *m;
	ml_arena scratch;
	/* Reported so far.  The import goes on, so that the user sees all of it at once. */
	int unsupported; /* nodes */
	int faults;      /* everything else */
	ml_status first; /* the first one's status */
} ml_import;

/* Counts a reported failure.  False: it ends the import, because nothing after it would tell more,
 * or too much has been told. */
bool ml_import_goes_on(ml_import *, ml_status, bool is_node);

/* The value of an attribute of the function being inlined; NULL when it has none. */
const Onnx__AttributeProto *ml_frame_argument(const ml_frame *, const char *name);

ml_frame *ml_frame_new(ml_import *, Onnx__OperatorSetIdProto *const *imports, size_t n);
ml_binding *ml_frame_find(const ml_frame *, const char *name); /* NULL when not bound */
ml_binding *ml_frame_bind(ml_import *, ml_frame *, const char *name);

/* The value a name stands for, reading initializers into the builder's block; NULL when it is not
 * available, reported or poisoned. */
ml_value *ml_frame_value(ml_import *, ml_frame *, ml_builder *, const char *name);

/* The constant made from a binding's tensor. */
ml_value *ml_frame_read(ml_import *, const ml_binding *, ml_builder *);

/* Lowers all nodes of a graph whose inputs are bound; goes on after nodes that fail. */
ml_status ml_lower_nodes(ml_import *, ml_frame *, ml_builder *, Onnx__NodeProto *const *node,
			 const uint32_t *order, size_t n);
ml_status ml_lower_initializers(ml_import *, ml_frame *, const Onnx__GraphProto *);

/* What a subgraph takes from around it: names, in order of first use, into `names`. */
typedef ML_VEC(const char *) ml_name_list;
void ml_lower_free_names(ml_import *, const Onnx__GraphProto *, ml_name_list *names);
#endif
