/* plan.h -- from a graph to the list of steps that the generated entry performs.
 *
 *   lower     composites become core operators (those without a kernel family of their own)
 *   group     nodes that one kernel computes together; group.c
 *   outline   each group becomes a kernel specification; outline.c
 *   schedule  steps in dependency order, with the buffers they read and write; plan.c
 *   memory    buffers share arena slots by lifetime; memory.c
 *
 * After planning every value of the graph is either inside kernels, or has a buffer, or is an
 * alias: the same bytes as another value's buffer under a different shape.
 */
#ifndef ML_PLAN_H
#define ML_PLAN_H
#include "kernel.h"

typedef enum ml_place {
	ML_PLACE_INPUT,   /* the caller's tensor number `index` */
	ML_PLACE_OUTPUT,  /* the caller's result number `index` */
	ML_PLACE_WEIGHTS, /* at `offset` of the weights image */
	ML_PLACE_ARENA,   /* in arena slot `index` */
	ML_PLACE_LOCAL, /* a pointer the entry keeps for a body's argument or result: number `index`
			 */
} ml_place;

typedef struct ml_buffer {
	ml_place place;
	int index;
	uint64_t offset;
	ml_dim bytes;    /* with fresh symbols, not yet their bounds */
	int first, last; /* steps between which it must keep its bytes (ARENA) */
	bool written;    /* by a step: others may write more of it */
} ml_buffer;

typedef enum ml_step_kind {
	ML_STEP_KERNEL,
	ML_STEP_ROUTINE,
	ML_STEP_IF,
	ML_STEP_LOOP,
	ML_STEP_CUSTOM
} ml_step_kind;

typedef struct ml_sequence ml_sequence;

/* What a step costs, each buffer counted once. */
typedef struct ml_work {
	ml_dim macs;                   /* multiply-adds of contractions */
	ml_dim read, weights, written; /* bytes; weights are part of read */
	ml_dtype dtype;                /* of the numbers that are multiplied, ML_none: none are */
} ml_work;

/* One thing the entry does. */
typedef struct ml_step {
	ml_step_kind kind;
	ml_node *node;      /* what is computed: the node itself, or a kernel's defining node */
	ml_buffer **buffer; /* inputs, then results; LOOP: then one spare for each carried value */
	int nin, nout;
	/* KERNEL */
	int spec;          /* which specification */
	const ml_dim *dim; /* values of the specification's symbols */
	int ndims;
	ml_dim tiles, scratch_bytes;
	const uint64_t *in_place; /* of each result: bits of the inputs that it may overwrite */
	int site, nsites;         /* check texts of this step in the program's site table */
	/* IF: then, else; LOOP: body */
	ml_sequence *body[2];
	int scanned; /* LOOP: results after the carried ones */
	/* For profiles; none for IF and LOOP. */
	int number;
	const ml_prov *prov; /* of everything it computes */
	ml_work work;
} ml_step;

/* The steps of one block. */
struct ml_sequence {
	ML_VEC(ml_step) steps;
	ml_buffer **arg, **result; /* of the block */
	int nargs, nresults;
	ML_VEC(ml_buffer *) arena; /* buffers to be placed */
	ml_dim bytes;              /* of the sequence's own arena slots */
};

typedef struct ml_spec {
	const char *text;
	size_t length;
	uint64_t hash;
	const char *symbol; /* of its kernel, without the level; from the text alone */
	ml_family family;
} ml_spec;

/* A part of the weights image. */
typedef enum ml_weight_form {
	ML_WEIGHT_PLAIN,
	ML_WEIGHT_PANELS_F32,
	ML_WEIGHT_PANELS_S8,
	ML_WEIGHT_PANELS_BF16,
	ML_WEIGHT_NIBBLES, /* these two as linear_u4.h says */
	ML_WEIGHT_COLUMNS,
} ml_weight_form;
typedef struct ml_weight {
	ml_blob *blob; /* borrowed from the module */
	ml_weight_form form;
	int64_t k, n;               /* of panels */
	int64_t element;            /* COLUMNS: bytes */
	int64_t k_stride, n_stride; /* in elements of the blob; k_stride of one axis of k */
	int nk;                     /* axes of k that are no neighbours in the blob, outer first */
	int64_t k_size[ML_MAX_RANK], k_step[ML_MAX_RANK];
	int64_t batches, batch_stride; /* panels of each batch follow each other */
	uint64_t offset, bytes;
} ml_weight;

/* The largest of them counts.  One dim could not say that: chosen at run time, sizes of many
 * buffers would nest into an expression too large for the algebra of dims. */
typedef ML_VEC(ml_dim) ml_sizes;

/* One arena slot: offset 64-byte aligned, in state[slot_state + i] at run time. */
typedef struct ml_slot {
	ml_sizes bytes; /* of its buffers; fresh symbols replaced by their bounds */
} ml_slot;

/* A result that is an input with more rows behind: both may be the same memory, with room for more
 * rows than there are; state.c. */
typedef struct ml_state {
	int in, out;
	int64_t axis; /* of the rows */
	ml_value *past, *present;
	/* rows between the starts of neighbouring blocks, in the past's and the present's memory;
	 * rows that must be copied: all, or none when it is the same memory */
	const ml_sym *past_room, *present_room, *copied;
} ml_state;

typedef struct ml_plan {
	ml_module *m; /* after lowering */
	ML_VEC(ml_state) states;
	ml_arena *arena;
	int opt_level; /* 0: every node its own kernel */
	ml_sequence *main;
	ML_VEC(ml_spec) specs;
	ML_VEC(ml_weight) weights;
	uint64_t weights_bytes;
	ML_VEC(ml_slot) slots;
	ML_VEC(const char *) sites;
	int nlocals, nsteps;
	ml_sizes scratch; /* bytes per thread, of all steps */
} ml_plan;

/* Plans m, which is lowered in place. */
ml_status ml_plan_module(ml_module *m, int opt_level, ml_arena *, ml_plan **);
/* Dots of what was bf16 before it was widened multiply it as it was; narrow_dots.c. */
ml_status ml_narrow_dots(ml_block *);
/* Sums of columns that a product has panels of are a product with ones; column_sums.c. */
ml_status ml_multiply_column_sums(ml_block *);
/* Whether a dot of these sizes has a micro-kernel; others are reduction loops in a row kernel. */
bool ml_has_tile(const ml_node *dot);
/* One line per step: family, specification, shapes, provenance. */
void ml_plan_print(ml_text *, const ml_plan *);

/* ---- between the planner's files ---- */
enum { ML_MAX_GROUP = 160 }; /* nodes: keeps kernels and compile times small */

/* Nodes that one kernel computes together. */
typedef struct ml_group {
	ml_family family;
	int row_axes;
	ml_type space; /* shape in which the group's nodes live */
	ML_VEC(ml_node *) nodes;
	int first, last; /* positions of its nodes in the block */
	int step;        /* scheduled as this step, -1 before */
	bool visiting;
	int stamp;
} ml_group;

/* What the planner knows of a node (node->scratch) while it works on a block. */
typedef struct ml_note {
	ml_node *node;
	int position;
	ml_group *group;  /* NULL: computed inside its users' kernels, or a step of its own */
	bool stand_alone; /* a step of its own: routine, if, loop, custom */
	bool scheduled;
	int stamp;
	int depth; /* of index maps computed inside their users */
} ml_note;

/* What the planner knows of a value (value->scratch). */
typedef struct ml_fact {
	ml_buffer *buffer; /* where its bytes are, also for aliases */
	ml_value *
		stored; /* for a group's value stored through views: the view that has the buffer */
	ml_buffer *panels; /* packed from it, first for this operand of `panels_for` */
	const ml_node *panels_for;
	int panels_operand;
	/* a part: this operand of the concat `whole`, from row `at` of it on; concat.c */
	ml_value *whole;
	int operand;
	ml_dim at;
} ml_fact;

typedef struct ml_planner {
	ml_plan *plan;
	ml_block *block;
	ml_sequence *sequence;
	ML_VEC(ml_group *) groups;
	int stamp;
} ml_planner;

static inline ml_note *
ml_note_of(const ml_node *n)
{
	return (ml_note *)(intptr_t)n->scratch;
}
static inline ml_class
ml_class_of(const ml_node *n)
{
	return ml_op_get(n->op)->cls;
}
static inline ml_fact *
ml_fact_of(const ml_value *v)
{
	return (ml_fact *)(intptr_t)v->scratch;
}
/* Numbers the block's nodes, decides what is computed together (notes), and which values get bytes.
 */
void ml_group_block(ml_planner *);
bool ml_value_needs_buffer(const ml_value *);
/* Finds what main's results append to its inputs; before nodes are grouped. */
void ml_find_states(ml_plan *);
/* The state whose past or present v is, or NULL. */
const ml_state *ml_state_of(const ml_plan *, const ml_value *v);
/* Finds concats whose operands are computed where the whole will lie; after nodes are grouped. */
void ml_place_parts(ml_planner *);
bool ml_is_part(const ml_node *concat, int operand);
bool ml_has_parts(const ml_node *concat);
/* A concat that others read: nodes do not join its kernel, so that it may be their part. */
bool ml_is_whole_for_parts(const ml_node *);
/* The outermost whole that v is a part of, or v, and v's first element in it. */
const ml_value *ml_outermost(ml_dims *, const ml_value *v, ml_dim low[ML_MAX_RANK]);
/* v's type in memory: with room for rows, if it belongs to a state. */
ml_type ml_state_memory(const ml_plan *, const ml_value *v);
/* An elementwise node that is in no group: every reader computes it; group_recompute.c. */
bool ml_is_recomputed(const ml_node *);
/* Does none of the node's operands depend on the group?  group_order.c. */
bool ml_can_join(ml_planner *, const ml_node *, const ml_group *);
/* Does nothing that g reads from elsewhere need what `map` computes? */
bool ml_is_free_of(ml_planner *, const ml_group *g, const ml_group *map);
/* The contraction whose results, `image`, this reduction pools and nobody else reads, or NULL;
 * group_pool.c. */
ml_group *ml_pooled_group(const ml_node *reduce, const ml_value **image);
/* The same dims in the same order, but for those of size 1? */
bool ml_has_same_dims(const ml_type *, const ml_type *);
/* A view by which bytes are only reinterpreted. */
bool ml_is_alias(const ml_value *);
/* What a kernel reads: a value's bytes, or the panels packed from a dot's right operand. */
typedef struct ml_read {
	ml_value *value;
	ml_node *packed_for; /* the dot or attention that reads it as panels, or NULL */
	int operand;         /* which of its operands it is */
} ml_read;
typedef struct ml_outlined {
	ML_VEC(ml_read) in;
	ML_VEC(ml_value *) out;
} ml_outlined;
/* The kernels of a state's present: the past copied, and the new rows behind it. */
ml_status ml_outline_copied(ml_planner *, const ml_state *, ml_step *, ml_outlined *);
ml_status ml_outline_appended(ml_planner *, const ml_state *, ml_step *, ml_outlined *);
/* The kernel that copies an operand which is no part. */
ml_status ml_outline_part(ml_planner *, ml_node *concat, int operand, ml_step *, ml_outlined *);
/* The kernel specification of a group: fills step (spec, dims, grid, sites) and lists what it reads
 * and writes. */
ml_status ml_outline(ml_planner *, ml_group *, ml_step *, ml_outlined *);
/* The same for the kernel that packs an operand as [batches, k, n]; writes panels. */
ml_status ml_outline_pack(ml_planner *, const ml_read *, ml_step *, ml_outlined *);
/* Batches, contraction length and columns of an operand read as panels. */
void ml_panel_sizes(ml_dims *, const ml_read *, ml_dim size[3]);
/* "node '/emb/Gather' (#3, Gather-13): what", escaped. */
const char *ml_site_text(ml_arena *, const ml_prov *, const char *what);

/* Bytes of a tensor, and of the panels made of an operand. */
ml_dim ml_type_bytes(ml_dims *, const ml_type *);
ml_dim ml_panel_bytes(ml_dims *, const ml_read *);
/* "rows", "contract", ...: the kernel's family, else the operator. */
const char *ml_step_kind_name(const ml_plan *, const ml_step *);
/* What a step costs, by the nodes it computes and what it reads and writes; work.c. */
void ml_note_work(ml_plan *, ml_step *, ml_node *const *nodes, int count, const ml_outlined *);
/* Adds a size to those of which the largest counts. */
void ml_sizes_add(ml_plan *, ml_sizes *, ml_dim);
/* Gives arena buffers their slots, by lifetime; memory.c. */
ml_status ml_assign_memory(ml_plan *);
/* Adds or finds a part of the weights image; returns its offset. weights.c */
uint64_t ml_plan_weight(ml_plan *, const ml_weight *);
/* Fills `image` (weights_bytes of zeros); pairs: with the tables that code of some levels reads
 * (ml_tile_folds); workers: threads, 0 as many as CPUs. */
void ml_write_weights(const ml_plan *, bool pairs, int workers, uint8_t *image);
#endif
