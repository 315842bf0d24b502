/* pass.h -- what a pass is, built in or from a plugin.
 *
 * A plugin is a shared object that exports ml_plugin_info(); mloptc --load-pass-plugin=FILE.so
 * loads it, and --passes=... runs its passes by name:
 *
 *   static const ml_pass *const passes[] = {&ml_pass_drop_dropout};
 *   const ml_plugin *ml_plugin_info(void)
 *   {
 *           static const ml_plugin plugin = {ML_PLUGIN_ABI, "acme", passes, 1};
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

/* Raised whenever a struct of pass.h or rules.h changes. */
enum { ML_PLUGIN_ABI = 1 };

typedef struct ml_plugin {
	uint32_t abi; /* ML_PLUGIN_ABI */
	const char *name;
	const ml_pass *const *passes;
	int npasses;
} ml_plugin;

ML_API const ml_plugin *ml_plugin_info(void); /* defined by the plugin */

#ifdef __cplusplus
}
#endif
#endif
