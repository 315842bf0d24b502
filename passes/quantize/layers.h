/* layers.h -- layers with constant weights: what static and weight quantization work on. */
#ifndef ML_LAYERS_H
#define ML_LAYERS_H
#include "../gate.h"
#include "quantize.h"

/* A linear layer or convolution of f32 in the main block. */
bool ml_is_layer(const ml_node *);
/* Its weights as s8 with a scale per output channel, dequantized; false, with a remark, when they
 * stay as they are. */
bool ml_quantize_layer(ml_pass_ctx *, ml_node *);
/* The result of another node like it, before it, that reads x and has such weights. */
ml_value *ml_build_layer(ml_pass_ctx *, ml_node *, ml_value *x);
/* All that static quantization can have on integers is, with ranges of calibration data. */
ml_status ml_quantize_all(ml_pass_ctx *, ml_module *);
/* Lists it for the gate: in floats, or with such weights. */
ml_gate_layer *ml_list_layer(ml_gate *, const ml_node *);
#endif
