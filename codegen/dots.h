/* dots.h -- a contraction kernel taken apart: sizes, tiles, and how its left operand is read. */
#ifndef ML_DOTS_H
#define ML_DOTS_H
#include "contract.h"
#include "expr.h"

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
	int64_t row_block; /* rows of a tile */
	ml_dim row_blocks, panel_blocks;
} ml_dots;

enum { ML_PANEL_BLOCK = 8 }; /* panels of a tile */

ml_status ml_dots_plan(ml_kernel *, ml_dots *);
/* The left operand's index from batch, row and k. */
void ml_dots_lhs_index(ml_expr *x, const ml_dots *, ml_dim batch, ml_dim row, ml_dim k,
		       ml_dim *index);
/* The result's index from batch, row and column. */
void ml_dots_out_index(ml_expr *x, const ml_dots *, ml_dim batch, ml_dim row, ml_dim column,
		       ml_dim *index);
ml_v ml_dots_panel_bytes(ml_expr *x, ml_contract_form, ml_dim k, ml_dim n);
#endif
