/* contract.h -- the inner loops of dot and conv: a family of tiles and the loops that run them.
 *
 * C[row, column] = sum over k of A[row, k] * B[k, column], then `store` does what it likes with 16
 * columns of one row.  A is read where it lies, B from packed panels of 16 columns, laid out alike
 * on every ISA level:
 *   f32   [ceil(n/16)][k][16]
 *   u8s8  [ceil(n/16)][ceil(k/4)][16][4]  s8, zero padded in n and k; a table follows all panels
 *         (pack_pairs.c), for levels without a dot instruction
 *   bf16  [ceil(n/16)][ceil(k/2)][16][2]  bf16, zero padded in n and k
 * (lanes beyond n of an f32 panel are zero as well).  Panels should start at a multiple of 64.
 *
 * One output element accumulates over k in order, starting from zero, with one fma (or exact
 * integers) per step; so its bits depend neither on the tile it fell into nor on the ISA.  bf16 is
 * the exception: CPUs that multiply its pairs at once round their sums in a way of their own, so
 * that bits depend on the ISA, and on nothing else.
 *
 * The tiles know nothing of addresses or epilogues: they write accumulators to a small buffer.  So
 * a level needs them once for a whole model: ml_emit_contract() calls the function that
 * ml_emit_contract_tiles() defines, in the same module or in another one linked with it.
 */
#ifndef ML_CONTRACT_H
#define ML_CONTRACT_H
#include "emit.h"
#include "../ir/dim.h"

typedef enum ml_contract_form {
	ML_CONTRACT_F32,  /* f32 x f32 -> f32 */
	ML_CONTRACT_U8S8, /* u8 x s8 -> s32, exact (sums wrap around at 32 bits) */
	ML_CONTRACT_BF16, /* bf16 x bf16 -> f32 */
	ML_CONTRACT_FORMS
} ml_contract_form;

typedef struct ml_form_info {
	const char *name;
	int bytes; /* of an element of B */
	int group; /* consecutive k that a panel keeps together */
} ml_form_info;
const ml_form_info *ml_form_get(ml_contract_form);
/* An element of A or B in memory. */
LLVMTypeRef ml_form_element(ml_emit *, ml_contract_form);
/* By what B holds: f32, s8 or bf16. */
ml_contract_form ml_form_of(ml_dtype);

enum {
	ML_PANEL = ML_LANES, /* columns */
	/* Of a pass of one row, which leaves nothing in caches for another: so many that what a
	 * pass begins with costs little. */
	ML_ALONE_PANELS = 48,
	ML_FOLD_CHUNK = 256, /* groups of four k that the table behind u8s8 panels lists together */
	/* there, for the number of other pairs: all groups are plain; and more than these few, and
	 * 0, 1.., of which all pairs are that there can be */
	ML_FOLD_PLAIN = 254,
	ML_FOLD_IN_ORDER = 255,
	ML_FOLD_FEW = 8,
};

/* All ml_v integers are i64. */
typedef struct ml_contract {
	ml_contract_form form;
	ml_v a, lda;                 /* A: rows of k contiguous elements; row stride in elements */
	ml_v b;                      /* B: the first panel (number 0) of all `columns` */
	ml_v k;                      /* may be 0 */
	ml_v row_begin, row_end;     /* rows of this call */
	ml_v panel_begin, panel_end; /* panels of this call */
	ml_v columns;                /* n: the last panel may be partial */
	/* Emits what becomes of 16 accumulators, <16 x f32> or <16 x i32>, of columns `column` and
	 * up.  count: how many of them exist, NULL = all 16. */
	void (*store)(void *user, ml_emit *, ml_v row, ml_v column, ml_v count, ml_v acc);
	/* Fetches what that will read besides, while the sums are computed; or NULL. */
	void (*ahead)(void *user, ml_emit *, ml_v row, ml_v column);
	void *user;
} ml_contract;

/* Emits the loops at the insertion point; nothing is read or written for empty ranges. */
void ml_emit_contract(ml_emit *, const ml_contract *);

/* Defines the tile function of one form for the emitter's target: a hidden symbol whose name
 * carries form and level, for example gemm_u8s8_avx512vnni.  Once per level in a linked image. */
void ml_emit_contract_tiles(ml_emit *, ml_contract_form);

/* --- packing B ------------------------------------------------------------------------------- */

/* Bytes of the packed panels of k x n, with their table. */
int64_t ml_pack_bytes(ml_contract_form, int64_t k, int64_t n);
ml_dim ml_pack_dim(ml_dims *, ml_contract_form, ml_dim k, ml_dim n);

/* Packs a constant B on the host: element (i, j) is src[i * k_stride + j * n_stride]; src may
 * have any alignment. */
void ml_pack_f32(float *dst, const void *src, int64_t k, int64_t n, int64_t k_stride,
		 int64_t n_stride);
void ml_pack_s8(int8_t *dst, const int8_t *src, int64_t k, int64_t n, int64_t k_stride,
		int64_t n_stride);
void ml_pack_bf16(uint16_t *dst, const void *src, int64_t k, int64_t n, int64_t k_stride,
		  int64_t n_stride);

/* Whether code of this target reads the table behind u8s8 panels. */
bool ml_tile_folds(const ml_target *);
/* That table: written for panels on the host; for one panel at run time, as the
 * emitter's target reads it, of which nothing is known, or that every `plain` groups (1 or 2) may
 * be added as they are. */
void ml_pack_pairs(int8_t *panels, int64_t k, int64_t n);
void ml_emit_pack_singles(ml_emit *, ml_v panels, ml_v panel, ml_v k, ml_v n);
void ml_emit_pack_in_order(ml_emit *, ml_v panels, ml_v panel, ml_v k, ml_v n, int plain);
/* Where it lies for the emitter's target, whose registers have a list each of a panel's groups. */
typedef struct ml_pairs {
	ml_v sums;  /* s32 [panels][16] */
	ml_v lists; /* u8 [panels][registers][ml_list_bytes] */
	ml_v bytes; /* of a panel's lists */
} ml_pairs;
ml_pairs ml_find_pairs(ml_emit *, ml_v panels, ml_v k, ml_v n);
ml_v ml_list_bytes(ml_emit *, ml_v k);

/* Packs a B known at run time only: emits loops over panels panel_begin..panel_end. */
typedef struct ml_pack {
	ml_contract_form form;
	ml_v dst; /* panel 0 */
	ml_v k, n;
	ml_v panel_begin, panel_end;
	/* false: `load` gives the 16 lanes (k, column .. column + 15), count = existing columns.
	 * true: it gives the lanes (k .. k + 15, column), count = existing ks: for a B that is
	 * contiguous along k, transposed here in registers.
	 * f32, i8 or i16 lanes; lanes from count (NULL = 16) up must be zero, as ml_load_lanes
	 * gives. */
	bool along_k;
	/* u8s8: sums of 2 * plain products with any factors of this contraction are within 16 bits;
	 * 0: not known.  k is whole groups then, one chunk of them at most. */
	int plain;
	ml_v (*load)(void *user, ml_emit *, ml_v k, ml_v column, ml_v count);
	/* Fetches what is read some panels behind this column's, or some k behind this k; or NULL.
	 */
	void (*ahead)(void *user, ml_emit *, ml_v column_or_k);
	void *user;
} ml_pack;
void ml_emit_pack(ml_emit *, const ml_pack *);
/* 16 whole k of f32 columns along k, without memory in between: v[i] is columns at k + i; those
 * from `count` (NULL = 16) up are zero. */
void ml_emit_turned(ml_emit *, const ml_pack *, ml_v k, ml_v column, ml_v count, ml_v v[ML_LANES]);
/* Turns 16 vectors of 16 lanes, seen as a matrix, in place. */
void ml_transpose_lanes(ml_emit *, ml_v v[ML_LANES]);
#endif
