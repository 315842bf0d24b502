/* attention_int8.h -- attention on integers under emission; attention_int8.c, attention_rows.c. */
#ifndef ML_ATTENTION_INT8_H
#define ML_ATTENTION_INT8_H
#include "contract.h"
#include "expr.h"
#include "../ir/attention.h"

enum {
	ML_TILE_QUERIES = 512, /* rows that share the panels of a block of keys */
	ML_WIDE = 4,           /* vectors of probabilities that become one of bytes */
	ML_WIDE_KEYS = ML_WIDE * ML_LANES
};

/* Scratch, in this order, each piece aligned. */
typedef enum ml_piece {
	ML_PIECE_QUERIES, /* u8 [rows of the tile][d] */
	ML_PIECE_KEYS,    /* s8 [keys][d], then their panels */
	ML_PIECE_KEY_PANELS,
	ML_PIECE_VALUES, /* s8 [keys][e], then their panels */
	ML_PIECE_VALUE_PANELS,
	ML_PIECE_K_TOP, /* by keys: largest magnitude of the key */
	ML_PIECE_K_SUM, /* what the offset of queries adds to its products, s32 */
	ML_PIECE_V_LOG, /* of its value's scale */
	ML_PIECE_V_BY,
	ML_PIECE_SCORES,        /* f32 [rows of a block][keys] */
	ML_PIECE_PROBABILITIES, /* u8, alike; of 64 keys, byte 4 i + j is key 16 j + i */
	ML_PIECE_OUTPUT,        /* f32 [rows of the tile][e] */
	ML_PIECE_DIVISOR,       /* f32 [rows of the tile][16]: partial sums */
	ML_PIECE_Q_SCALE,       /* by rows of the tile */
	ML_PIECE_TOP,           /* the largest score so far */
	ML_PIECE_KEPT,          /* weights of the output so far and of the block */
	ML_PIECE_ADDED,
	ML_PIECES
} ml_piece;

typedef struct ml_attention_int8 {
	ml_expr x;
	ml_node *node; /* sizes are those of its operands */
	ml_attention_parts p;
	ml_dim h, g, s, t, d, e, d_stride, e_stride;
	/* positions of the tile: batch, head, query and key */
	const ml_sym *batch, *head, *query, *key_position;
	ml_v tile_row, tile_end; /* rows of the tile */
	ml_v row, rows;          /* first row of the block, and their number */
	ml_v key, keys, wide;    /* first key of the block, their number, and rounded up */
	ml_v columns;            /* those that panels of keys have room for */
	ml_dim column;           /* 16 * block + lane */
	ml_v piece[ML_PIECES];
} ml_attention_int8;

/* Element `at` of a piece. */
ml_v ml_piece_at(ml_attention_int8 *, ml_piece, LLVMTypeRef, ml_v at);
/* Queries of the tile as rows and scales; the block's keys and values as panels, and what belongs
 * to each key. */
void ml_attention_take_queries(ml_attention_int8 *);
void ml_attention_take_keys(ml_attention_int8 *);

/* How many panels so many columns have. */
ml_v ml_attention_panels(ml_emit *, ml_v columns);

/* Does something with 16 elements of a row, `count` of them (NULL = all). */
typedef ml_v ml_row_pass(ml_attention_int8 *, const void *user, ml_v at, ml_v count, ml_v partial);
/* Elements 0..size-1, 16 at a time; the last partial result. */
ml_v ml_pass_over_row(ml_attention_int8 *, ml_v size, ml_row_pass *, const void *user,
		      ml_v partial);
#endif
