/* observe.h -- ranges of values over calibration data. */
#ifndef ML_OBSERVE_H
#define ML_OBSERVE_H
#include "../pass.h"

typedef struct ml_range {
	double low, high;
} ml_range;

/* One of the names that --observer takes. */
bool ml_is_observer(const char *);
/* Runs the module over all samples and gives the range of each of these f32 values of
 * its main block, as px->observer takes it.  ML_ERR_ARG when there is nothing to run it with, or
 * the data's errors. */
ml_status ml_observe(ml_pass_ctx *, ml_module *, ml_value *const *value, int n, ml_range *);
#endif
