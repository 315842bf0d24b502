/* pass.h -- what a pass is, and what it is given.
 *
 * A pass is one file, one test and one row in pipeline.def.  It changes the module and counts its
 * changes; verifying, timing, dumping, fuel and diagnostics are the pipeline's business.
 */
#ifndef ML_PASS_H
#define ML_PASS_H
#include "../ir/exec.h"
#include "../ir/ir.h"
#include "mlopt/pass.h"
#include "record.h"

/* Weights of four bits: rows that share a scale, whether their zero point is always 8, and whether
 * layers that compute a result of the model keep eight. */
enum { ML_INT4_GROUP = 32 }; /* unless told */
typedef struct ml_int4 {
	int group;
	bool symmetric, inner;
} ml_int4;

/* What a pass is given. */
struct ml_pass_ctx {
	ml_context *cx;
	const ml_pass *pass;
	ml_arena *scratch; /* freed after the pass */
	int opt_level;
	int workers;   /* threads for loops over many numbers; 0: as many as CPUs */
	int changes;   /* counted by the pass; engine and builders of rules do it for rules */
	int64_t *fuel; /* rewrites left; stop at 0 */
	int *fired;    /* per rule of this pass, for --rule-stats */
	/* Only for the phases calibrate, prune, distill and gate. */
	const ml_exec *exec;
	const ml_data *data;
	struct ml_known *known; /* statistics from files and for one: known.h; or NULL */
	const ml_data *guess;   /* inputs made up, to learn from where there are no data; or NULL */
	const ml_results *results; /* of earlier compilations, kept; or NULL */
	const ml_module *teacher;  /* the module before any of them */
	const char *observer;      /* how ranges are taken: quantize/observe.h; NULL = extremes */
	double max_loss;           /* what the result may lose, by the rule of agree.h */
	bool must_hold;            /* the user has said so */
	ml_record *record;         /* what the compilation decides and measures; always there */
	const char *prune;         /* what --prune= asks for, or NULL */
	const ml_score *score;     /* the user's own, or NULL */
	const struct ml_prune_hooks *prune_hooks; /* or NULL */
	const ml_loss *loss;                      /* the user's own, or NULL */
	const struct ml_distill_options *distill; /* or NULL */
	ml_int4 int4;                             /* group 0: nobody asked for four bits */
};

/* Takes one unit of fuel; false when there is none left. */
bool ml_spend_fuel(ml_pass_ctx *);
/* Calls visit for every block of the module, bodies first. */
ml_status ml_for_each_block(ml_module *, ml_status (*visit)(void *, ml_block *), void *user);
/* Removes nodes whose results nobody reads, in one block, and counts them. */
int ml_drop_unused(ml_block *);

/* The pipeline's rows. */
typedef enum ml_precision {
	ML_FLOATS,
	ML_INT8_DYNAMIC,
	ML_INT8_STATIC,
	ML_INT8_WEIGHTS,
	ML_INT4, /* four bits, where they do eight, dynamic */
	ML_BF16,
} ml_precision;
typedef enum ml_when {
	ML_WHEN_FLOATS = 1 << ML_FLOATS,
	ML_WHEN_STATIC = 1 << ML_INT8_STATIC,
	ML_WHEN_WEIGHTS = 1 << ML_INT8_WEIGHTS,
	ML_WHEN_INT4 = 1 << ML_INT4,
	ML_WHEN_BF16 = 1 << ML_BF16,
	ML_WHEN_DYNAMIC = 1 << ML_INT8_DYNAMIC | ML_WHEN_INT4,
	ML_WHEN_INT8 = ML_WHEN_DYNAMIC | ML_WHEN_STATIC | ML_WHEN_WEIGHTS,
	ML_WHEN_INTEGERS = ML_WHEN_DYNAMIC | ML_WHEN_STATIC,
	ML_WHEN_NARROWED = ML_WHEN_INT8 | ML_WHEN_BF16,
	ML_WHEN_ALWAYS = ML_WHEN_FLOATS | ML_WHEN_NARROWED,
	ML_WHEN_FOLDING = ML_WHEN_ALWAYS & ~ML_WHEN_WEIGHTS, /* weights may become floats again */
	ML_WHEN_PRUNE = 1 << 8,                              /* whatever the precision */
	ML_WHEN_DISTILL = 1 << 9,                            /* whatever the precision */
	ML_WHEN_CACHE = 1 << 10,                             /* whatever the precision */
	ML_WHEN_STUDENT = ML_WHEN_PRUNE | ML_WHEN_DISTILL,
} ml_when;
typedef struct ml_stage {
	const char *phase;
	const ml_pass *pass;
	int level; /* lowest -O that runs it */
	ml_when when;
} ml_stage;
extern const ml_stage ml_stages[];
extern const int ml_stage_count;
#endif
