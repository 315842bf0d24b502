/* kernels.h -- the kernels that are measured: IR texts with sizes to fill in. */
#ifndef BENCH_KERNELS_H
#define BENCH_KERNELS_H
#include <stddef.h>
#include <stdint.h>

enum { MAX_SIZES = 9, MAX_CASES = 16 };

typedef struct kernel {
	const char *name;
	const char *sizes;  /* one letter each: $m in the text is the size of letter m */
	const char *macs;   /* the letters whose product is the number of multiply-adds */
	int limit;          /* LM_FP32, LM_INT8 or LM_BF16: what these run on */
	const char *option; /* "int8", "int4" or "bf16" when it is compiled with that */
	const char *text;
	int32_t cases[MAX_CASES][MAX_SIZES]; /* ends with one that begins with 0 */
} kernel;

extern const kernel kernels[];
extern const size_t nkernels;
#endif
