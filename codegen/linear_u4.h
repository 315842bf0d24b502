/* linear_u4.h -- weights of four bits: which layers have a kernel, and their panels.
 *
 * Four panels of 16 columns lie side by side, so that reading them is one stream; groups are
 * multiples of 16 rows:
 *   w      [ceil(n/64)][k/8][64][4]  a byte holds k + i in its low and k + 4 + i in its high half
 *   scale  [ceil(n/64)][g][64]       as it comes, f32 or f16
 *   zero   [ceil(n/64)][g][64]       u8
 */
#ifndef ML_LINEAR_U4_H
#define ML_LINEAR_U4_H
#include "contract.h"
#include "kernel.h"

enum {
	ML_U4_BLOCK = 4, /* panels side by side */
	ML_U4_COLUMNS = ML_U4_BLOCK * ML_PANEL,
	ML_U4_STEP = 8, /* k in a line of nibbles */
};

/* A linear_u4 that its kernel can compute: constant weights, groups of whole vectors. */
bool ml_u4_has_kernel(const ml_node *);

/* Bytes of the panels of k x n elements of so many bytes, or of nibbles. */
int64_t ml_u4_panel_bytes(int64_t k, int64_t n, int64_t element);
int64_t ml_u4_nibble_bytes(int64_t k, int64_t n);
/* Packs row-major matrices. */
void ml_u4_pack(void *to, const void *from, int64_t k, int64_t n, int64_t element);
void ml_u4_pack_nibbles(uint8_t *to, const uint8_t *from, int64_t k, int64_t n);
#endif
