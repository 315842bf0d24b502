/* harness_kernel.h -- compiles kernel specifications, runs them between guard pages on every level
 * this CPU has, and compares with the reference evaluator. */
#ifndef ML_HARNESS_KERNEL_H
#define ML_HARNESS_KERNEL_H
#include "../../codegen/kernel.h"
#include "../../runtime/abi.h"

enum { KERNEL_DIMS = 3 };

typedef struct kernel_case {
	const char *text; /* the specification */
	const int64_t (
		*sizes)[KERNEL_DIMS]; /* values of its symbols, each tried; NULL: no symbols */
	int nsizes;
	double tolerance;  /* relative to the largest magnitude of a result; 0 = equal */
	int64_t low, high; /* of integer inputs, inclusive; both 0: the whole range */
	bool specials; /* NaN, infinities, zeros, huge and tiny floats, except at the first size */
	ml_status fault; /* expected at run time */
	/* packs input 1 as panels before the kernel sees it */
	bool packed;
	bool halves;   /* the first half of the tiles is that of the results */
	bool by_level; /* levels may differ in their bits; one never does from itself */
} kernel_case;

/* Fails the running cmocka test when anything differs. */
void check_kernel(const kernel_case *);
#endif
