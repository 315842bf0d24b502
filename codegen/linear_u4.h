/* linear_u4.h -- weights of four bits: which layers have a kernel, and their panels.
 *
 * Panels of 16 columns, as other contractions have them; groups are multiples of 16 rows:
 *   w      [ceil(n/16)][k/8][16][4]  a byte holds k + i in its low and k + 4 + i in its high half
 *   scale  [ceil(n/16)][g][16]       as it comes, f32 or f16
 *   zero   [ceil(n/16)][g][16]       u8
 */
#ifndef ML_LINEAR_U4_H
#define ML_LINEAR_U4_H
#include "kernel.h"

/* A linear_u4 that its kernel can compute: constant weights, groups of whole vectors. */
bool ml_u4_has_kernel(const ml_node *);

/* Bytes of the panels of k x n elements of so many bytes, or of nibbles. */
int64_t ml_u4_panel_bytes(int64_t k, int64_t n, int64_t element);
int64_t ml_u4_nibble_bytes(int64_t k, int64_t n);
/* Packs row-major matrices. */
void ml_u4_pack(void *to, const void *from, int64_t k, int64_t n, int64_t element);
void ml_u4_pack_nibbles(uint8_t *to, const uint8_t *from, int64_t k, int64_t n);
#endif
