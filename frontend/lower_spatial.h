/* lower_spatial.h -- kernels that slide over spatial dims: what convolutions and pools share. */
#ifndef ML_LOWER_SPATIAL_H
#define ML_LOWER_SPATIAL_H
#include "lower.h"

enum { ML_MAX_SPATIAL = ML_MAX_RANK / 2 - 1 };

/* For each of the n spatial dims; pads are sizes because SAME depends on the input. */
typedef struct ml_spatial {
	int n;
	int64_t size[ML_MAX_SPATIAL], stride[ML_MAX_SPATIAL], dilation[ML_MAX_SPATIAL];
	ml_dim low[ML_MAX_SPATIAL], high[ML_MAX_SPATIAL];
	ml_dim more[ML_MAX_SPATIAL]; /* beyond `high`, so that the last window fits (ceil_mode) */
	ml_dim out[ML_MAX_SPATIAL];
} ml_spatial;

/* Reads kernel_shape, strides, dilations, pads and auto_pad for an operand of that type, whose
 * dims from 2 on are spatial.  `weight` gives the kernel's size when the attribute does not, and
 * must agree with it; NULL for pools.  False, reported, on values that make no sense. */
bool ml_spatial_read(ml_lower *, const ml_type *, const ml_type *weight, bool ceil_mode,
		     ml_spatial *);
/* Strides, dilations and kernel only: transposed convolutions have pads of their own. */
bool ml_spatial_read_kernel(ml_lower *, const ml_type *, const ml_type *weight, ml_spatial *);
/* Attribute `group`; false, reported, when it does not divide the channels. */
bool ml_lower_groups(ml_lower *, ml_dim channels, int64_t *groups);
/* conv with those attributes, of floats, or of u8 by s8 to s32; bias may be NULL */
ml_value *ml_lower_conv_node(ml_lower *, ml_value *, ml_value *weight, ml_value *bias,
			     const ml_spatial *, int64_t groups);
/* Windows [N, C, out.., kernel..] times weights [M, C/groups, kernel..] with k spatial dims:
 * [N, M, out..], of integers in s32. */
ml_value *ml_lower_window_product(ml_lower *, ml_value *, ml_value *weight, int k, int64_t groups);
/* How far a dilated kernel reaches. */
int64_t ml_spatial_reach(const ml_spatial *, int i);
#endif
