/* harness_model.h -- IR texts compiled into memory or into files, run, compared with the evaluator.
 */
#ifndef ML_HARNESS_MODEL_H
#define ML_HARNESS_MODEL_H
#include "../../codegen/aot.h"
#include "../../codegen/jit.h"
#include "../../runtime/model.h"

/* A linear layer with softmax: contraction, packed weights, rows, symbolic sizes. */
extern const char model_linear[];
/* Positions of non-zero elements: a routine, and a size known after the run. */
extern const char model_nonzero[];
/* x times a matrix, so many times: a loop, and a name with quotes. */
extern const char model_loop[];
/* Rows of a table: a check at run time. */
extern const char model_gather[];

typedef struct model {
	ml_context cx;
	ml_module *m; /* as parsed, for the evaluator */
	ml_arena arena;
	ml_jit *jit;
	ml_model *model;
} model;

/* Everything here fails the running test when it goes wrong. */
void model_open(model *, const char *text);
void model_close(model *);
/* A plan of a fresh copy of the module; it lives until model_close(). */
ml_plan *model_plan(model *);
void model_compile(model *, const ml_target *); /* into memory */
/* Into a file; the options' levels are all that run here if there are none. */
void model_write(model *, ml_aot_options, const char *path);
void model_load(model *, const char *path);

/* Runs the model and the evaluator on the same random inputs, sizes by number of their symbol. */
void model_check(model *, const int64_t *sizes);
/* The levels that this CPU runs. */
int model_levels(const ml_target **at);
#endif
