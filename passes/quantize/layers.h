/* layers.h -- layers with constant weights: what static and weight quantization work on. */
#ifndef ML_LAYERS_H
#define ML_LAYERS_H
#include "quantize.h"

/* A linear layer or convolution of f32 in the main block. */
bool ml_is_layer(const ml_node *);
/* Its weights as s8 with a scale per output channel, dequantized; false, with a remark, when they
 * stay as they are. */
bool ml_quantize_layer(ml_pass_ctx *, ml_node *);
#endif
