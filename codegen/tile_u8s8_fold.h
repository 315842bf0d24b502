/* tile_u8s8_fold.h -- the folded tile's loops over rows, as loops over panels and chunks call them.
 */
#ifndef ML_TILE_U8S8_FOLD_H
#define ML_TILE_U8S8_FOLD_H
#include "tile.h"

/* Whose weights: plain, kept in registers, folded on the fly, folded in a buffer, or all plain and
 * in order, of a whole panel or of one of its registers. */
typedef enum ml_fold_source {
	ML_SOURCE_PLAIN,
	ML_SOURCE_KEPT,
	ML_SOURCE_FEW,
	ML_SOURCE_MANY,
	ML_SOURCE_IN_ORDER,
	ML_SOURCE_HALF_IN_ORDER,
	ML_SOURCES
} ml_fold_source;

typedef struct ml_fold {
	ml_emit *e;
	int lanes;                        /* of 32 bits in a register */
	LLVMTypeRef words, halves, bytes; /* a register */
	ml_fold_source source;
	int rows, registers; /* of a register tile, at most */
} ml_fold;

ml_fold ml_fold_open(ml_emit *, ml_fold_source);

/* Parameters of the functions that run a register's columns over rows: what loops over k read comes
 * first, in registers. */
enum {
	ML_RUN_B,
	ML_RUN_FOLDED, /* many: the buffer */
	ML_RUN_ORDER,
	ML_RUN_PLAIN,  /* where plain pairs end in the list, */
	ML_RUN_PAIRS,  /* the other pairs, */
	ML_RUN_GROUPS, /* and all */
	ML_RUN_A,
	ML_RUN_LDA,
	ML_RUN_ROWS,
	ML_RUN_ACC,
	ML_RUN_STRIDE,
	ML_RUN_FIRST, /* what fresh sums begin with, alike in all rows */
	ML_RUN_FRESH,
	ML_RUN_N
};

/* run(b, folded, order, plain, pairs, groups, a, lda, rows, acc, stride, first, fresh):
 * acc[row * stride ...] = (fresh ? first[...] : themselves) + a tile's registers of columns.
 * Listed groups below `pairs` are taken two at a time.  ML_SOURCE_KEPT: they are fresh. */
ml_v ml_fold_define(const ml_fold *, LLVMTypeRef *type);
/* Listed groups begin..end of a panel's register, folded, in the order of the list. */
void ml_fold_prepare(const ml_fold *, ml_v b, ml_v order, ml_v begin, ml_v end, ml_v buffer);

/* Byte i of a list. */
ml_v ml_fold_listed(const ml_fold *, ml_v order, ml_v i);
#endif
