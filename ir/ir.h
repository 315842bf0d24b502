/* ir.h -- the typed graph: modules, blocks, nodes, values, attributes.
 *
 * A module has one main block.  A block has arguments, a list of nodes in dependency order and
 * ends with a `yield` node whose operands are the block's results.  Nodes own their result
 * values; values know all their uses.  Bodies of control operators are blocks that see only
 * their own arguments: captures are passed explicitly.
 */
#ifndef ML_IR_H
#define ML_IR_H
#include "blob.h"
#include "diag.h"
#include "dim.h"
#include "mlopt/ir.h"

/* ---- types ---- */

typedef struct ml_type {
	ml_dtype dtype;
	int rank;
	ml_dim dim[ML_MAX_RANK];
} ml_type;

typedef enum ml_dtype_kind {
	ML_KIND_NONE,
	ML_KIND_FLOAT,
	ML_KIND_SIGNED,
	ML_KIND_UNSIGNED,
	ML_KIND_BOOL
} ml_dtype_kind;
ml_dtype_kind ml_dtype_kind_of(ml_dtype);
int ml_dtype_bits(ml_dtype);         /* 0 for ML_none and for what is no dtype */
int ml_dtype_bytes(ml_dtype);        /* of an element in memory; 0 as above */
const char *ml_dtype_name(ml_dtype); /* "f32" */
bool ml_dtype_named(const char *, size_t length, ml_dtype *);
bool ml_is_float(ml_dtype);
bool ml_is_integer(ml_dtype); /* signed or unsigned, not bool */

/* Floats narrower than f32: a sign, an exponent, a fraction, and codes that are no number.  What
 * is too large rounds to infinity where there is one, else to NaN, else to the largest. */
typedef enum ml_special {
	ML_SPECIAL_NONE,
	ML_SPECIAL_TOP_EXPONENT, /* as IEEE: infinity, NaNs behind it */
	ML_SPECIAL_TOP_CODE,     /* all ones are NaN */
	ML_SPECIAL_MINUS_ZERO,   /* the code of -0 is the only NaN */
} ml_special;
typedef struct ml_float_format {
	int fraction, min_exponent; /* bits; of the smallest number that is not subnormal */
	double largest;
	ml_special special;
} ml_float_format;
const ml_float_format *ml_dtype_format(ml_dtype); /* NULL for all others */
/* f32 for such a float, which is what it is computed in; else the dtype itself. */
ml_dtype ml_dtype_computed(ml_dtype);

bool ml_type_same_shape(const ml_type *, const ml_type *); /* same rank and canonical dims */
bool ml_type_equal(const ml_type *, const ml_type *);      /* the same dtype, too */
/* The number of elements as a dim (1 for scalars), and as an integer when static. */
ml_dim ml_type_count(ml_dims *, const ml_type *);
bool ml_type_static_count(const ml_type *, int64_t *count);
void ml_type_print(ml_text *, const ml_type *); /* f32[b, s, 384] */
/* Reads that; *at moves behind it, or to where it stops being a type (false). */
bool ml_type_parse(ml_dims *, const char **at, const char *end, ml_type *);

/* ---- operators: generated from ops.def ---- */

typedef enum ml_class {
	ML_SOURCE,
	ML_ELEMENTWISE,
	ML_REDUCE,
	ML_MOVE,
	ML_INDEX,
	ML_CONTRACT,
	ML_IRREGULAR,
	ML_CONTROL,
	ML_COMPOSITE
} ml_class;

enum {
	ML_PURE = 1,     /* no effect, result depends on operands only, cannot fail at run time */
	ML_COMMUTES = 2, /* operands 0 and 1 may be swapped */
	ML_CHECKS = 4,   /* pure, but fails at run time for some data: removable when unused, not
			    hoistable */
};

enum { ML_ANY = 0xff };
#define ML_OPT(min, max) ((min) | (max) << 8)

typedef enum ml_attr_kind {
	ML_ATTR_i64,
	ML_ATTR_f64,
	ML_ATTR_str,
	ML_ATTR_dtype,
	ML_ATTR_ints,
	ML_ATTR_dims,
	ML_ATTR_blob
} ml_attr_kind;

typedef struct ml_attr {
	union {
		int64_t i64;
		double f64;
		const char *str;
		ml_dtype dtype;
		const int64_t *ints;
		const ml_dim *dims;
		ml_blob *blob; /* the module holds a reference */
	};
	int count; /* of ints and dims */
} ml_attr;

typedef struct ml_attr_info {
	const char *name;
	ml_attr_kind kind;
	ml_attr init;
} ml_attr_info;

typedef struct ml_op_info {
	const char *name;         /* NULL for unused numbers */
	int min_in, max_in, nout; /* ML_ANY = any number */
	ml_class cls;
	unsigned traits;
	int nattrs;
	const ml_attr_info *attr;
} ml_op_info;

const ml_op_info *ml_op_get(ml_op);
ml_op ml_op_named(const char *, size_t length); /* ML_OP_none when unknown */

/* ---- graph ---- */

typedef struct ml_use ml_use; /* one operand slot of a node */
struct ml_use {
	ml_value *value;
	ml_node *user;
	ml_use *next, **link; /* list of the value's uses */
};

struct ml_value {
	ml_type type;
	ml_node *def;    /* NULL for block arguments */
	ml_block *block; /* of the argument, NULL for node results */
	int index;       /* among the results or arguments */
	ml_use *uses;
	const char *name; /* ONNX value name, or NULL */
	/* Known contents of a small integer tensor (rank 0 or 1), element by element; else NULL.
	 * Shape arithmetic lives here and leaves no code behind. */
	const ml_dim *content;
	int64_t scratch; /* for the pass that is running */
};

struct ml_node {
	ml_op op;
	uint32_t id; /* unique in the module, rising */
	int nin, nout, nblocks;
	ml_use *in;
	ml_value *out; /* array */
	ml_attr *attr; /* ml_op_get(op)->nattrs of them */
	ml_block **body;
	ml_block *block;
	ml_node *prev, *next;
	const ml_prov *prov;
	int64_t scratch; /* for the pass that is running */
};

struct ml_block {
	ml_module *module;
	ml_node *owner; /* control node, NULL for the main block */
	ml_value **arg;
	int nargs;
	ml_node *first, *last; /* last is the yield once the block is complete */
};

/* What could not be proven at compile time; checked whenever dims change. */
typedef enum ml_guard_kind { ML_GUARD_EQ, ML_GUARD_LE, ML_GUARD_DIVIDES } ml_guard_kind;
typedef struct ml_guard {
	ml_guard_kind kind; /* a == b, a <= b, b divides a */
	ml_dim a, b;
	const ml_prov *prov;
	const char *text; /* the rule, e.g. "inner dimensions must be equal" */
} ml_guard;

struct ml_module {
	ml_context *cx;
	ml_module *prev, *next; /* of the context's modules */
	ml_arena arena;
	ml_dims *dims;
	const char *name;
	ml_block *main;
	ML_VEC(const char *) output_names; /* of main's results; inputs are named by their values */
	ML_VEC(ml_guard) guards;
	ML_VEC(ml_blob *) blobs;      /* references held */
	ML_VEC(const ml_prov *) read; /* what was imported, also what left no node; not cloned */
	uint32_t next_id;
	int opset; /* of the default domain, for messages and export; 0 if not from ONNX */
};

ml_module *ml_module_new(ml_context *, const char *name);
/* Copies nodes, never blobs; shares the dims table. */
ml_module *ml_module_clone(const ml_module *);
/* What values of a module's main block are in a copy, whose nodes have equal ids; NULL where the
 * copy has them no longer. */
void ml_values_in(const ml_module *copy, ml_value *const *, int n, ml_value **, ml_arena *);
/* The node of the main block with this id, or NULL. */
ml_node *ml_node_by_id(const ml_module *, uint32_t id);
void ml_module_free(ml_module *);
/* Two modules of one context exchange all they have: a pass that has built another module hands it
 * over so. */
void ml_module_swap(ml_module *, ml_module *);

ml_value *ml_block_add_arg(ml_block *, const ml_type *, const char *name);
ml_block *ml_block_new(ml_module *, ml_node *owner);

/* Access.  ML_A(n, softmax, axis) is the attribute itself: ML_A(n, softmax, axis).i64 */
#define ML_A(node, op_, name_)                                                                     \
	((node)->attr[((void)sizeof(char[(ML_OP_##op_) ? 1 : -1]), ML_ATTR_SLOT(op_, name_))])
static inline ml_value *
ml_in(const ml_node *n, int i)
{
	return i < n->nin ? n->in[i].value : NULL;
}
static inline bool
ml_is(const ml_value *v, ml_op op)
{
	return v && v->def && v->def->op == op;
}
int ml_use_count(const ml_value *);
bool ml_is_result(const ml_value *);   /* used by a yield */
bool ml_is_widening(const ml_value *); /* bf16 as f32 */
ml_block *ml_value_block(const ml_value *);

/* Editing.  Replacing never changes types: old and new must have equal types. */
void ml_set_operand(ml_node *, int i, ml_value *);
void ml_replace_uses(ml_value *old, ml_value *with);
void ml_node_remove(ml_node *); /* all results unused */
void ml_node_move_before(ml_node *, ml_node *position);

/* Constants. */
bool ml_is_const(const ml_value *);
ml_blob *ml_const_blob(const ml_value *);
/* Element i of a constant as a number; the constant must be numeric. */
double ml_const_f64(const ml_value *, int64_t i);
int64_t ml_const_s64(const ml_value *, int64_t i);
/* All elements of the constant are the same number. */
bool ml_is_splat(const ml_value *, double *number);
/* Conversions of one element between memory and numbers (also used by the evaluator). */
double ml_read_f64(ml_dtype, const void *bytes, int64_t i);
int64_t ml_read_s64(ml_dtype, const void *bytes, int64_t i);
void ml_write_f64(ml_dtype, void *bytes, int64_t i,
		  double); /* rounds to nearest even; saturates to integers */
void ml_write_s64(ml_dtype, void *bytes, int64_t i, int64_t); /* wraps */

/* ---- building: build.c, infer.c ---- */

/* Where new nodes go and whose they are.  A failing builder call reports the error, sets `failed`
 * and returns NULL; calls given a NULL operand return NULL silently, so that lowering code can
 * nest calls and test once. */
typedef struct ml_builder {
	ml_module *m;
	ml_block *block;
	ml_node *before; /* insert before this node; NULL = at the end */
	const ml_prov *prov;
	ml_status failed;
} ml_builder;

ml_builder ml_builder_at_end(ml_block *, const ml_prov *);
ml_builder ml_builder_before(ml_node *); /* provenance of that node */

/* Makes a node with default attributes, unfinished: set attributes, then ml_finish, which infers
 * types (and contents) and inserts it.  Returns NULL (reported) when the operands do not fit. */
ml_node *ml_begin(ml_builder *, ml_op, ml_value *const *in, int nin);
/* The same with the attributes of another node. */
ml_node *ml_begin_like(ml_builder *, const ml_node *, ml_value *const *in, int nin);
ml_node *ml_finish(ml_builder *, ml_node *);
ml_value *ml_finish1(ml_builder *, ml_node *); /* first result */
/* Gives a control or custom node its results' types before ml_finish. */
void ml_set_results(ml_builder *, ml_node *, const ml_type *types, int n);

ml_value *ml_op1(ml_builder *, ml_op, ml_value *);
ml_value *ml_op2(ml_builder *, ml_op, ml_value *, ml_value *);
ml_value *ml_op3(ml_builder *, ml_op, ml_value *, ml_value *, ml_value *);
ml_value *ml_build_const(ml_builder *, const ml_type *, ml_blob *); /* takes the reference */
ml_value *ml_build_f64(ml_builder *, ml_dtype, double);             /* scalar of any dtype */
ml_value *ml_build_ints(ml_builder *, const int64_t *, int n);      /* s64[n] */
ml_value *ml_build_dim(ml_builder *, ml_dim);                       /* s64 scalar */
ml_value *ml_build_cast(ml_builder *, ml_value *, ml_dtype); /* x itself when it has the type */
ml_value *ml_build_reshape(ml_builder *, ml_value *, const ml_dim *shape, int rank);
ml_value *ml_build_transpose(ml_builder *, ml_value *, const int64_t *perm);
ml_value *ml_build_broadcast(ml_builder *, ml_value *, const ml_dim *shape, int rank);
ml_value *ml_build_slice(ml_builder *, ml_value *, const ml_dim *start, const ml_dim *size,
			 const int64_t *step);
ml_value *ml_build_pad(ml_builder *, ml_value *, ml_value *value, const ml_dim *low,
		       const ml_dim *high, const int64_t *interior);
ml_value *ml_build_concat(ml_builder *, ml_value *const *, int n, int axis);
ml_value *ml_build_reduce(ml_builder *, ml_op, ml_value *, const int64_t *axes, int naxes);
ml_value *ml_build_gather(ml_builder *, ml_value *data, ml_value *index, int axis);
ml_value *ml_build_dot(ml_builder *, ml_value *a, ml_value *b, const int64_t *a_batch,
		       const int64_t *b_batch, int nbatch, const int64_t *a_contract,
		       const int64_t *b_contract, int ncontract);
/* x . w with NumPy matmul semantics for rank >= 2 (batch dims broadcast). */
ml_value *ml_build_matmul(ml_builder *, ml_value *, ml_value *);
ml_value *ml_build_iota(ml_builder *, const ml_dim *shape, int rank, int axis, ml_dtype);
/* Drops dims of size 1 / inserts them. */
ml_value *ml_build_squeeze(ml_builder *, ml_value *, const int64_t *axes, int naxes);
ml_value *ml_build_unsqueeze(ml_builder *, ml_value *, const int64_t *axes, int naxes);
ml_status ml_build_yield(ml_builder *, ml_value *const *, int n);
/* Values of the main block become the module's outputs, in the place of those it has. */
ml_status ml_module_set_outputs(ml_module *, ml_value *const *, int n);

/* a == b proven, or a guard recorded; false (reported by the caller) when proven different. */
bool ml_require_equal(ml_builder *, ml_dim a, ml_dim b, const char *rule);
bool ml_require_le(ml_builder *, ml_dim a, ml_dim b, const char *rule);
bool ml_require_divides(ml_builder *, ml_dim whole, ml_dim by, const char *rule);
/* Shape after NumPy broadcasting; unknown pairs become equality guards.  Reports and returns false
 * when the shapes cannot broadcast. */
bool ml_broadcast_shape(ml_builder *, const ml_type *const *, int n, ml_type *out);
/* Known contents of a small integer tensor (constant or computed); count elements, or NULL. */
const ml_dim *ml_content(ml_builder *, ml_value *, int64_t *count);

/* The body of a composite, built before the node from its operands, one value per result;
 * the node itself stays.  Bodies of elementwise composites are elementwise. */
ml_status ml_expand(ml_builder *, ml_node *, ml_value **results);
/* Bodies in the place of all nodes of the block, inner blocks' and bodies' too, that are `which`:
 * composites. */
ml_status ml_expand_where(ml_block *, bool (*which)(const ml_node *));
bool ml_is_composite(const ml_node *);
/* What a convolution reads for each of its results: x[N,C,..], padded, as [N,C,O..,K..]. */
ml_value *ml_conv_windows(ml_builder *, const ml_node *conv, ml_value *x);

/* ---- text, checks, reference ---- */

void ml_print(ml_text *, const ml_module *); /* the whole module; print.c */
void ml_print_node(ml_text *, const ml_node *);
/* Blobs too large to be printed are looked up by hash: `find(user, hash, type)` lends one
 * or NULL. */
typedef ml_blob *ml_find_blob(void *user, uint64_t hash, const ml_type *);
ml_status ml_parse(ml_context *, const char *text, size_t length, ml_find_blob *, void *user,
		   ml_module **); /* parse.c */
/* The first broken invariant as ML_ERR_PASS with a message; verify.c lists them all. */
ml_status ml_verify(const ml_module *);
void ml_print_dot(ml_text *, const ml_module *); /* Graphviz; dot.c */

/* Reference evaluator: every float is computed in f64 and rounded to its dtype after each node
 * unless `wide`; integers wrap at their width.  Slow and plainly right. */
typedef struct ml_tensor {
	ml_dtype dtype;
	int rank;
	int64_t dim[ML_MAX_RANK];
	void *data; /* contiguous, row-major */
	size_t bytes;
} ml_tensor;
typedef struct ml_eval_options {
	bool wide;
	uint64_t max_bytes; /* refuse larger intermediates; 0 = 4 GiB */
	uint64_t max_steps; /* scalar operations before giving up with ML_ERR_LIMIT; 0 = no limit */
} ml_eval_options;
/* inputs[i] matches main argument i; outputs are allocated in `arena`. */
ml_status ml_evaluate(const ml_module *, const ml_tensor *inputs, ml_tensor *outputs,
		      ml_arena *arena, const ml_eval_options *);
/* One pure node whose operands are all constants -> blobs (constant folding). */
ml_status ml_fold_node(const ml_node *, ml_blob **results, uint64_t max_bytes);
#endif
