/* harness_kernel.h -- compiles kernel specifications, runs them between guard pages on every level
 * this CPU has, and compares with the reference evaluator. */
#ifndef ML_HARNESS_KERNEL_H
#define ML_HARNESS_KERNEL_H
#include "../../codegen/kernel.h"
#include "../../runtime/abi.h"

typedef struct kernel_case {
	const char *text;  /* the specification */
	int64_t dim[6];    /* values of its symbols */
	double tolerance;  /* relative to the largest magnitude of a result; 0 = equal */
	int64_t low, high; /* of integer inputs, inclusive; both 0: the whole range */
	bool specials;     /* NaN, infinities, zeros, huge and tiny numbers among float inputs */
	ml_status fault;   /* expected at run time */
	/* packs input 1 as panels before the kernel sees it */
	bool packed;
} kernel_case;

/* Fails the running cmocka test when anything differs. */
void check_kernel(const kernel_case *);
#endif
