/* tile.h -- what a contraction's tile generators take: one block of accumulators over all of k. */
#ifndef ML_TILE_H
#define ML_TILE_H
#include "contract.h"

enum {
	ML_TILE_MAX = 32,   /* accumulators of 16 lanes in the largest register tile */
	ML_TILE_GROUP = 4,  /* consecutive k that an s8 panel keeps together */
	ML_TILE_ALIGN = 64, /* of the accumulator buffer */
	ML_AMX_ROWS = 32,   /* that AMX multiplies together */
};

/* Code at the insertion point; `panels` panels side by side in registers. */
typedef struct ml_tile {
	int rows, panels;
	ml_v a, lda;          /* first row; row stride in elements */
	ml_v b, panel_stride; /* first panel; distance of panels in elements */
	ml_v k;
	ml_v acc;  /* receives [rows][panels][16] f32 or i32 */
	ml_v pass; /* in registers: 0: sums begin with zero, else with what acc holds */
	/* in registers: where a panel that comes next is fetched into the L2 cache, and how many
	 * bytes further on with each step; or NULL */
	ml_v ahead, ahead_step;
	ml_v rest;   /* u8s8, bf16: [rows] groups, the last of each row, read if k ends in one */
	bool stream; /* u8s8 in registers: so few rows that the weights' way here sets the pace */
	/* Of the forms that loop: how many there are. */
	ml_v rows_given, panels_given;
	ml_v columns_given;      /* fold: the last panel's may be fewer than 16 */
	ml_v corrections, lists; /* fold: the first panel's parts of the table behind the panels */
} ml_tile;

void ml_tile_f32(ml_emit *, const ml_tile *);
/* Two k at a time: by the instruction that multiplies pairs of bf16, or by fma on f32. */
void ml_tile_bf16(ml_emit *, const ml_tile *);
/* By instructions that multiply u8 by s8 and add four products to s32; a stream ignores
 * `panels`. */
void ml_tile_u8s8(ml_emit *, const ml_tile *);
bool ml_tile_has_dot(const ml_target *);
/* Its instruction: acc + a . b, four bytes to a lane of 16. */
ml_v ml_tile_dot(ml_emit *, ml_v acc, ml_v a, ml_v b);
/* By multiplications of matrices of bytes or of bf16, for up to 32 rows; ignores `rows` and
 * `panels`.  Only between a begin and an end for all of them: so many rows, or 16 and more at a
 * time. */
void ml_tile_amx(ml_emit *, const ml_tile *, ml_contract_form);
void ml_tile_amx_begin(ml_emit *, ml_contract_form, ml_v rows, ml_v k);
void ml_tile_amx_end(ml_emit *);
/* By 16-bit multiplications, for levels that have no such instruction; ignores `panels`. */
void ml_tile_u8s8_wide(ml_emit *, const ml_tile *);
/* By byte multiplications that saturate, on weights of which that is known not to happen, for x86
 * without VNNI; ignores `rows` and `panels`. */
void ml_tile_u8s8_fold(ml_emit *, const ml_tile *);
/* For the same, but one row, on halves of its bytes; ignores `rows` and `panels`. */
void ml_tile_u8s8_single(ml_emit *, const ml_tile *);

/* Copies the 1..3 bytes that a row of A ends with to a whole group; the others repeat the last,
 * since nothing behind it may be read and B's panels are zero there. */
ml_v ml_tile_group(ml_emit *, ml_v from, ml_v bytes);

/* What loops over k carry: [rows * panels] sums, and behind them, if there is any, where to fetch.
 */
int ml_tile_carried(const ml_tile *);
/* n sums: acc = fresh ? first : what lies at `at`, so aligned. */
void ml_tile_begin(ml_emit *, ml_v fresh, const ml_v *first, const ml_v *at, int n, int align,
		   ml_v *acc);
/* What they begin with: nothing in the first pass over k, else what they were. */
void ml_tile_begin_sums(ml_emit *, const ml_tile *, LLVMTypeRef element, ml_v *carry);
/* Into a cache: 1 = the nearest, 2 = the next. */
void ml_tile_fetch(ml_emit *, ml_v line, int level);
/* Of a function that has the registers to itself. */
void ml_tile_forbid_inlining(ml_emit *, ml_v fn);
/* A line of what comes next, once in so many steps. */
void ml_tile_fetch_ahead(ml_emit *, const ml_tile *, int steps, ml_v *carry);

/* Sums of what several k of A, a word in all lanes, and words of B make; of forms whose panels keep
 * so many k together. */
typedef ml_v ml_tile_multiply(ml_emit *, ml_v acc, ml_v a, ml_v b);
void ml_tile_words(ml_emit *, const ml_tile *, ml_contract_form, ml_tile_multiply *);

/* A word in all of so many lanes; a word as v is: where v is a vector, in all of its lanes. */
ml_v ml_tile_all_lanes(ml_emit *, int lanes, ml_v word);
ml_v ml_tile_constant_like(ml_emit *, ml_v v, int32_t word);
/* Lanes from, from + stride, ... of v. */
ml_v ml_tile_lanes(ml_emit *, ml_v v, int from, int stride, int count);
/* Runs an instruction narrower than 16 lanes of i32 on slices of its operands. */
typedef ml_v ml_tile_part(ml_emit *, const char *intrinsic, ml_v acc, ml_v a, ml_v b);
ml_v ml_tile_by_parts(ml_emit *, ml_tile_part *, const char *intrinsic, int parts, ml_v acc, ml_v a,
		      ml_v b);
#endif
