/* linear.h -- linear layers on 8-bit integers: what one becomes, with and without calibration. */
#ifndef ML_QUANTIZE_LINEAR_H
#define ML_QUANTIZE_LINEAR_H
#include "../gate.h"
#include "quantize.h"

/* x w + b becomes ((x * factor) -> u8 per row) . q, scaled, + bias. */
typedef struct ml_linear_plan {
	ml_quantized q;
	ml_blob *factor; /* f32[rows of w]: 1 / s of smooth.h; NULL: 1 */
	ml_blob *bias;   /* f32[columns]: instead of the layer's; NULL: that one */
} ml_linear_plan;

/* Gives the references to the module. */
void ml_keep_quantized(ml_module *, const ml_quantized *);
/* What speaks against quantizing it; NULL when nothing does. */
const char *ml_linear_objection(const ml_node *, int64_t *rows, int64_t *columns);
/* The layer's result by integers, before the node; shares the plan's blobs. */
ml_value *ml_build_linear(ml_node *, const ml_linear_plan *);
/* A layer of the main block that can become integers. */
typedef struct ml_planned {
	ml_node *node;
	int64_t rows, columns; /* of the weights */
	int input;             /* among the distinct inputs */
	float *w;              /* aligned copy while it is planned */
	float *factor;         /* s of smooth.h */
	double alpha;          /* of those factors; negative: none */
	ml_linear_plan plan;
} ml_planned;
typedef ML_VEC(ml_planned) ml_planned_list;
/* Plans all of them; the module keeps the blobs. */
ml_status ml_plan_linear(ml_pass_ctx *, ml_module *, ml_planned_list *);
/* kept_linear.c: under what plans of this module's layers are kept; nothing where they are not, as
 * with calibration data. */
ml_bytes ml_planned_key(const ml_pass_ctx *, ml_module *);
/* Fills in what an earlier compilation has planned; false where there is nothing, or not of all
 * these layers. */
bool ml_find_planned(ml_pass_ctx *, ml_module *, ml_bytes key, ml_planned_list *);
void ml_keep_planned(ml_pass_ctx *, ml_bytes key, const ml_planned_list *);
/* Lists it as the gate's layer i: in floats, on 8-bit integers, and what the caller adds. */
void ml_describe_planned(ml_gate *, int i, const ml_planned *, int levels);
/* Plans and quantizes the main block's layers, with calibration data within what may be lost. */
ml_status ml_calibrate_linear(ml_pass_ctx *, ml_module *);
#endif
