/* dots.h -- a contraction kernel taken apart: sizes, tiles, and how its left operand is read. */
#ifndef ML_DOTS_H
#define ML_DOTS_H
#include "contract.h"
#include "expr.h"

/* A left operand that is windows of an image [N, spatial.., C], which lies in memory as it is, and
 * outside of which everything is `fill`. */
typedef struct ml_dots_image {
	const ml_value *image;       /* NULL: the operand is nothing of that kind */
	const ml_node *window, *pad; /* pad: NULL without any */
	int spatial;
} ml_dots_image;

typedef struct ml_dots {
	ml_kernel *kernel;
	const ml_node *dot;
	ml_contract_form form;
	int nbatch, nrows, ncolumns, nk; /* dims of each kind */
	ml_dim batches, m, n, k;         /* their products */
	/* The left operand where it lies: rows of contiguous k, `lda` apart; NULL: packed in
	 * scratch. `base` is the address of row 0 as a dim over the batch symbol. */
	const ml_value *leaf;
	ml_dim lda, base;
	const ml_sym *batch;
	ml_dots_image image; /* of an operand that is packed */
	int64_t row_block;   /* rows of a pass, when they are packed or the caller says so */
	ml_dim row_blocks;
	/* The grid: small tiles, so that many threads get equal shares. */
	ml_dim row_tiles, panel_tiles;
	/* Of what lies in rows, read and written, and of the weights. */
	ml_dim row_bytes, weight_bytes;
} ml_dots;

enum { /* of a tile of the grid */
       ML_GRID_ROWS = 8,
       ML_GRID_PANELS = 2,
};
enum { ML_PACKED_ROWS = 72 }; /* go through scratch at once, at most: whole tiles of 6, 8 and 9 */

/* The kernel's last dot with a packed right operand, or NULL. */
const ml_node *ml_dots_find(const ml_kernel *);
/* Takes `dot` apart; tiles of `row_block` rows, 0 = choose. */
ml_status ml_dots_plan(ml_kernel *, const ml_node *dot, int64_t row_block, ml_dots *);
/* The left operand's index from batch, row and k. */
void ml_dots_lhs_index(ml_expr *x, const ml_dots *, ml_dim batch, ml_dim row, ml_dim k,
		       ml_dim *index);
/* The right operand's index from batch, k and column. */
void ml_dots_rhs_index(ml_expr *x, const ml_dots *, ml_dim batch, ml_dim k, ml_dim column,
		       ml_dim *index);
/* The result's index from batch, row and column. */
void ml_dots_out_index(ml_expr *x, const ml_dots *, ml_dim batch, ml_dim row, ml_dim column,
		       ml_dim *index);
/* A contraction under emission, in the place of its kernel's loops. */
typedef struct ml_dots_emit {
	ml_expr *x;
	ml_dots d;
	const ml_sym *batch, *row;
	ml_dim column;  /* 16 * block + lane */
	ml_v first_row; /* what the contraction calls row 0 */
} ml_dots_emit;
/* Declares batch and row as loop variables; c gets sizes, panels of `batch`, all columns, and the
 * left operand, which is packed into scratch when it does not lie in rows. */
void ml_dots_begin(ml_dots_emit *, ml_contract *c, ml_v batch);
void ml_dots_place_lhs(ml_dots_emit *, ml_contract *c);
/* The index of 16 accumulators, which are bound to the dot's value. */
void ml_dots_bind(ml_dots_emit *, ml_v row, ml_v column, ml_v count, ml_v acc, ml_dim *index);
/* The `store` of a contraction whose results are the kernel's. */
void ml_dots_store(void *dots_emit, ml_emit *, ml_v row, ml_v column, ml_v count, ml_v acc);
/* Packs rows begin..begin+rows-1 of the left operand into scratch; a and lda as ml_contract wants
 * them for row `begin`; dots_rows.c. */
void ml_dots_pack_rows(ml_dots_emit *, ml_v begin, ml_v rows, ml_v *a, ml_v *lda);
/* The same for windows of an image, which are copied run by run; dots_windows.c. */
bool ml_find_image(const ml_node *dot, ml_dots_image *);
/* Windows of an image that is computed or an input. */
bool ml_find_windows(const ml_value *, ml_dots_image *);
void ml_dots_pack_windows(ml_dots_emit *, ml_v first, ml_v begin, ml_v rows, ml_dim stride);
/* What that needs, 0 when the operand lies in rows. */
ml_dim ml_dots_scratch_bytes(const ml_dots *);
/* A reduction of windows of an image, or of all its pixels, that is computed from a dot's results
 * and lies channels last; dots_pool.c. */
typedef struct ml_pool {
	const ml_node *reduce;
	const ml_value *image; /* [N, lines, pixels, channels] */
	bool global;           /* all pixels become one */
	int64_t lines, pixels, channels;
	int64_t out_lines, out_pixels;
	int64_t stride, reach, low; /* of windows over lines; lines padded in front */
	/* tiles of an image and of a pass; what a pass keeps: lines of the image, panels */
	int64_t tiles, step, kept, panels;
	int64_t kept_bytes;
} ml_pool;
bool ml_pool_find(const ml_node *reduce, ml_pool *);
/* Is it faster in the kernel of the dot, which is all that the image depends on? */
bool ml_pool_pays(const ml_pool *, const ml_node *dot);
/* The pool within a contraction kernel, and its contraction. */
bool ml_pool_of(ml_kernel *, ml_pool *, ml_dots *);
void ml_pool_grid(const ml_pool *, const ml_dots *, ml_grid *);
ml_status ml_pool_emit(const ml_pool *, const ml_dots *, ml_emit *, const char *name);
/* Panels panel_begin..panel_end-1 of the right operand's rows k_begin..k_end-1, f32, brought to
 * dst: for kernels that use a block up before they read the next; dots_pack.c. */
typedef struct ml_dots_block {
	ml_v dst;
	ml_v k_begin, k_end;
	ml_v panel_begin, panel_end;
} ml_dots_block;
void ml_dots_pack_block(ml_dots_emit *, const ml_dots_block *);
/* One row, c's at row_begin, times such a block where it lies (dst is not used): for a few rows
 * panels cost more than they save.  The same bits.  Only where ml_dots_has_row(). */
bool ml_dots_has_row(const ml_dots *);
void ml_dots_row(ml_dots_emit *, const ml_dots_block *, const ml_contract *c);
/* number mod by; number becomes the quotient. */
ml_v ml_dots_remainder(ml_emit *, ml_v *number, ml_v by);
ml_v ml_dots_panel_bytes(ml_expr *x, ml_contract_form, ml_dim k, ml_dim n);
#endif
