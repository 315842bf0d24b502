/* samples.h -- calibration data as passes use it: four samples of five to learn from, the fifth
 * to judge by, and values of a module over either. */
#ifndef ML_SAMPLES_H
#define ML_SAMPLES_H
#include "pass.h"

/* Judged samples are never learnt from. */
typedef enum ml_part { ML_LEARN, ML_JUDGE } ml_part;

/* Those behind so many judge nothing: whoever needs all samples may learn from these. */
enum { ML_JUDGED_AMONG = 640 };

/* Of whatever learns: what was fitted to by one pass is no judge of another. */
bool ml_is_judged(int64_t sample);

/* Which of n things is the i-th of a walk whose every beginning is spread over all of them. */
int ml_spread(int i, int n);

/* Shows samples of this part, of the first `most` of the data; 0 = of all. */
ml_status ml_for_samples(ml_pass_ctx *, const ml_module *, ml_part, int64_t most,
			 ml_status (*see)(void *user, const ml_tensor *inputs), void *user);
/* Runs a copy of the module over them and shows f32 values of its main block: which one, and what
 * it is.  ML_ERR_ARG when there is nothing to run it with. */
ml_status ml_watch(ml_pass_ctx *, const ml_module *, ml_value *const *value, int n, ml_part,
		   int64_t most, void (*see)(void *user, int which, const ml_tensor *), void *user);
/* Of the constant tables that an input numbers the rows of, as tokens do, perhaps behind casts, the
 * one with the fewest rows, or NULL; and how many these are, or 0. */
const ml_value *ml_table_numbered_by(const ml_value *);
int64_t ml_rows_numbered_by(const ml_value *);
#endif
