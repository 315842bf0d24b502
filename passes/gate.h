/* gate.h -- which layers stay in floats, so that the whole model loses no more than it may.
 *
 * The model with all layers quantized is compared with the teacher on samples that nothing was
 * learnt from.  If it loses too much, each layer's share in the error is measured (one module in
 * which every layer can be switched), what each costs in floats and in integers is timed, and the
 * layers to keep are those that cost least time and bring the error down far enough (a knapsack):
 * as often as it takes.
 */
#ifndef ML_GATE_H
#define ML_GATE_H
#include "agree.h"
#include "samples.h"

typedef struct ml_gate_layer {
	uint32_t id;              /* of its node */
	const char *name;         /* unique */
	double bytes[2];          /* of its weights: as they are, quantized */
	int64_t dim[ML_MAX_RANK]; /* of its operand in a usual sample, to be timed with */
	/* found by the gate; NaN or 0 where there was no need */
	double error;      /* of the outputs, when it alone is quantized */
	double seconds[2]; /* of one run of its own */
	bool kept;
} ml_gate_layer;

typedef struct ml_gate {
	ml_pass_ctx *px;
	const ml_module *m; /* before anything is quantized */
	ml_gate_layer *layer;
	int layers;
	const char *after; /* what the layers that are not kept become: "u8s8" */
	/* Builds the quantized result of layer i, whose node in some copy this is, before it. */
	ml_value *(*build)(void *user, int i, ml_node *);
	void *user;
} ml_gate;

/* Sets `kept` of the layers, and writes decisions and measurements down. */
ml_status ml_gate_run(ml_gate *);
/* The knapsack: keeps what costs the least time so that the errors of the others sum up to `most`
 * at most. */
void ml_gate_choose(ml_gate_layer *, int n, double most, ml_arena *);
/* Replaces the results of all layers that are not kept in a copy of m, or in m. */
ml_status ml_gate_apply(const ml_gate *, ml_module *);
#endif
