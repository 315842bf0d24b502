/* harness_shipped.h -- how the shipped models are compiled, one of which has an own operator. */
#ifndef FUZZ_SHIPPED_H
#define FUZZ_SHIPPED_H
#include "mlopt/compile.h"
#include <stdbool.h>

/* Options of -O3 in a context that knows the operator. */
ml_options *fuzz_shipped_options(ml_context *, bool int8);
#endif
