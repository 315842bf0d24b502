/* lower_activation.h -- activations by name: operators of their own, or at the end of others. */
#ifndef ML_LOWER_ACTIVATION_H
#define ML_LOWER_ACTIVATION_H
#include "lower.h"

typedef struct ml_activation_row {
	const char *name; /* in ONNX's spelling */
	ml_value *(*build)(ml_lower *, ml_value *, const double *parameters);
	int n;
	struct {
		const char *name;
		double init;
	} parameter[2];
} ml_activation_row;

/* Whatever the case of the name's letters; NULL, reported, when there is none. */
const ml_activation_row *ml_lower_find_activation(ml_lower *, const char *name);
#endif
