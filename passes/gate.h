/* gate.h -- how coarse each layer may become, so that the whole model loses no more than it may.
 *
 * A layer has levels: floats, and what it can be quantized to, from fine to coarse.  The model with
 * every layer at its coarsest is compared with the teacher on samples that nothing was learnt from.
 * If it loses too much, what each layer adds to the error at each level is measured (one module in
 * which every layer can be switched), and levels are chosen that cost least time and bring the
 * error down far enough (a knapsack): as often as it takes.
 */
#ifndef ML_GATE_H
#define ML_GATE_H
#include "agree.h"
#include "holdout.h"

enum { ML_GATE_LEVELS = 3 };

typedef struct ml_gate_layer {
	uint32_t id;                  /* of its node */
	const char *name;             /* unique */
	int levels;                   /* it has: the gate's first ones; floats are level 0 */
	double bytes[ML_GATE_LEVELS]; /* of its weights */
	/* found by the gate; 0 where there was no need */
	double error[ML_GATE_LEVELS];   /* of the outputs, when it alone is quantized so */
	double sqnr[ML_GATE_LEVELS];    /* of its own result, in dB */
	double seconds[ML_GATE_LEVELS]; /* of one run of its own */
	int64_t dim[ML_MAX_RANK]; /* of its operand in a usual sample, 0 where that is not known */
	int level;                /* chosen */
} ml_gate_layer;

typedef struct ml_gate {
	ml_pass_ctx *px;
	const ml_module *m; /* before anything is quantized */
	ml_gate_layer *layer;
	int layers;
	const char *form[ML_GATE_LEVELS]; /* what levels are called: "fp32", "u8s8" */
	/* Builds the result of layer i at a level above 0, whose node in some copy this is, before
	 * it. */
	ml_value *(*build)(void *user, int i, int level, ml_node *);
	/* Gives all layers of a copy of m the levels chosen; NULL: replaces their results. */
	ml_status (*apply)(const struct ml_gate *, ml_module *);
	void *user;
} ml_gate;

/* Sets `level` of the layers, and writes decisions and measurements down. */
ml_status ml_gate_run(ml_gate *);
/* The knapsack: levels that cost the least time so that their errors sum up to `most` at most. */
void ml_gate_choose(ml_gate_layer *, int n, double most, ml_arena *);
/* What the chosen levels make of a copy of m, or of m. */
ml_status ml_gate_apply(const ml_gate *, ml_module *);
/* The same of m itself, as the pass's changes; layers for which there is no fuel stay in floats. */
ml_status ml_gate_finish(ml_gate *, ml_module *m);
/* How much longer it takes than at its coarsest; where that is no difference, how much is larger.
 */
double ml_gate_cost(const ml_gate_layer *, int level);
/* Lists a node as layer i, of so many levels; the caller fills in bytes above 0. */
ml_gate_layer *ml_gate_add(ml_gate *, int i, const ml_node *, int levels);

/* ---- gate_measure.c ---- */

/* Each layer's own SQNR and time at every level. */
ml_status ml_gate_measure(const ml_gate *, const ml_holdout *);
/* What each layer adds to the error of the outputs; *least: what is lost with all in floats. */
ml_status ml_gate_shares(const ml_gate *, const ml_holdout *, ml_agree *, double *least);
#endif
