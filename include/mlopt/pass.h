/* pass.h -- what a pass is, built in or from a plugin; and a plugin's scores and losses.
 *
 * A plugin is a shared object that exports ml_plugin_info(); mloptc --load-pass-plugin=FILE.so
 * loads it, and --passes=... runs its passes by name:
 *
 *   static const ml_pass *const passes[] = {&ml_pass_drop_dropout};
 *   const ml_plugin *ml_plugin_info(void)
 *   {
 *           static const ml_plugin plugin = {
 *                   .abi = ML_PLUGIN_ABI, .name = "acme", .passes = passes, .npasses = 1};
 *           return &plugin;
 *   }
 */
#ifndef MLOPT_PASS_H
#define MLOPT_PASS_H
#include "mlopt/ir.h"
#include "mlopt/rules.h"

#ifdef __cplusplus
extern "C" {
#endif

/* What a pass may do to the numbers: nothing, another rounding order, or more than that. */
typedef enum ml_effect { ML_EXACT, ML_ROUNDS, ML_LOSSY } ml_effect;

typedef struct ml_pass {
	const char *name, *help;
	ml_effect effect;
	ml_status (*run)(ml_pass_ctx *, ml_module *);
	const ml_rule *rules; /* when run is ml_run_rules */
	int nrules;
} ml_pass;

/* A pass that is a C function. */
#define ML_PASS(id, how, fn, text)                                                                 \
	const ml_pass ml_pass_##id = {.name = #id, .help = text, .effect = how, .run = fn}

/* A pass that is a table of rules: runs them until none fires, or fuel ends. */
ML_API ml_status ml_run_rules(ml_pass_ctx *, ml_module *);
#define ML_RULE_PASS(id, how, table, text)                                                         \
	const ml_pass ml_pass_##id = {.name = #id,                                                 \
				      .help = text,                                                \
				      .effect = how,                                               \
				      .run = ml_run_rules,                                         \
				      .rules = table,                                              \
				      .nrules = (int)(sizeof table / sizeof *table)}

/* What pruning may take out: a layer, or one of its branches. */
typedef struct ml_prune_part {
	int layer;        /* the first is 0 */
	const char *kind; /* "layer", "attention", "feed-forward", "conv" */
	const char
		*node; /* the ONNX node that adds it to what comes before; "" when it had no name */
	int64_t parameters;
	double seconds; /* saved by its going; 0 unless a speed-up is asked for */
	double loss;    /* of the model without it: KL of what it decides, or 10 (1 - cosine) */
} ml_prune_part;

/* How much a part matters, in the place of its loss: parts of the least sum go.  Chosen by
 * --prune-score=NAME. */
typedef struct ml_score {
	const char *name, *help;
	double (*score)(void *user, const ml_prune_part *);
	void *user;
} ml_score;

/* What a student is trained to make small, for each output that is computed in floats: an f32
 * scalar that is 0 where both are equal, built of nodes in front of `before`.  Gradients are the
 * compiler's work.  Chosen by --distill-loss=NAME. */
typedef struct ml_loss {
	const char *name, *help;
	ml_value *(*build)(void *user, ml_pass_ctx *, ml_node *before, ml_value *teacher,
			   ml_value *student);
	void *user;
} ml_loss;

/* Raised whenever a struct of pass.h or rules.h changes; plugins of ABI 1 have passes alone. */
enum { ML_PLUGIN_ABI = 2 };

typedef struct ml_plugin {
	uint32_t abi; /* ML_PLUGIN_ABI */
	const char *name;
	const ml_pass *const *passes;
	int npasses;
	const ml_score *scores;
	int nscores;
	const ml_loss *losses;
	int nlosses;
} ml_plugin;

ML_API const ml_plugin *ml_plugin_info(void); /* defined by the plugin */

/* A plugin that is part of the application: it must live as long as the options. */
ML_API ml_status ml_options_plugin(ml_options *, const ml_plugin *);

#ifdef __cplusplus
}
#endif
#endif
