/* describe.h -- rows of the report about layers that quantization looks at. */
#ifndef ML_DESCRIBE_H
#define ML_DESCRIBE_H
#include "../pass.h"

/* The shape of its weights, and of how many scales which are the least and the largest. */
void ml_describe_weights(ml_pass_ctx *, const char *layer, const ml_value *weights,
			 const ml_blob *scales, ml_dtype);
void ml_describe_number(ml_pass_ctx *, const char *layer, const char *column, double);
#endif
