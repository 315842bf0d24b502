/* blocks.h -- what of a model can be taken out: residual branches and the layers they form.
 *
 * Found by what the graph computes, not by names.  A branch reads a stream `in` and is added to it:
 *
 *   out = in + branch(norm(in))             pre-norm
 *   out = norm(in + branch(in))             post-norm
 *   out = in + a(norm(in)) + b(norm(in))    parallel: two branches of one sum
 *   out = max(in + branch(in), 0)           of convolutional networks
 *
 * so that putting `in` in the place of `out` leaves a model of the same inputs and outputs.  To be
 * asked when linear layers, norms and attention are whole, that is behind the phase `fuse`.
 */
#ifndef ML_PRUNE_BLOCKS_H
#define ML_PRUNE_BLOCKS_H
#include "../../ir/ir.h"

typedef enum ml_branch_kind {
	ML_BRANCH_ATTENTION,
	ML_BRANCH_FEED_FORWARD,
	ML_BRANCH_CONV,
} ml_branch_kind;
const char *ml_branch_kind_name(ml_branch_kind);

typedef enum ml_norm_place { ML_NORM_PRE, ML_NORM_POST, ML_NORM_NONE } ml_norm_place;
const char *ml_norm_place_name(ml_norm_place);

/* A residual branch: attention, feed-forward, or convolutions. */
typedef struct ml_branch {
	ml_branch_kind kind;
	ml_norm_place norm;
	ml_value *in, *out; /* the stream before and behind it; of one type */
	ml_value *term;     /* what it adds to the stream */
	ml_node *sum;       /* the last addition; shared by parallel branches */
	ml_node **node;     /* what lies between `in` and `term`, in order */
	int nodes;
	int layer;          /* which one it belongs to */
	int64_t parameters; /* elements of its constants */
	int64_t heads;      /* attention: of queries; else 0 */
	int64_t groups;     /* attention: of keys and values */
	int64_t width;      /* neurons or channels in its middle; 0 when there is no one middle */
} ml_branch;

/* Branches behind each other that repeat: attention and feed-forward, say. */
typedef struct ml_layer {
	ml_value *in, *out;
	int first, count; /* its branches */
	int64_t parameters;
} ml_layer;

typedef struct ml_blocks {
	ML_VEC(ml_branch) branch; /* in the order of the graph */
	ML_VEC(ml_layer) layer;
} ml_blocks;

/* The module's blocks; a clone has the same ones, in the same order. */
void ml_find_blocks(const ml_module *, ml_arena *, ml_blocks *);

/* Takes branches out of the module that the blocks were found in; those without `keep` go.  What is
 * computed for them alone goes, too; inputs and outputs stay: a cache that a branch appended to
 * gets zeros.  The blocks must be found again afterwards. */
ml_status ml_remove_branches(ml_module *, const ml_blocks *, const bool *keep);
#endif
