/* kernel.h -- kernel specifications: what is compiled once and shared by all equal regions.
 *
 * A region of the plan is outlined into a small IR module of its own: its inputs are the tensors
 * the region reads (contiguous, row-major), its results the tensors it writes, its symbols are
 * renamed in order of first use, names and provenance are dropped.  The printed text of that
 * module, preceded by a line with the family and its parameters, is the specification; equal
 * texts are equal code.  Workers parse the text into a context of their own, so that emission
 * needs no locks and a specification can be read, saved (--save-temps) and cached.
 *
 * Generated function: mlrt_kernel of runtime/abi.h.  buffer[] holds the inputs in order, then the
 * results in order; dim[] the values of the module's symbols in order of their index.
 */
#ifndef ML_KERNEL_H
#define ML_KERNEL_H
#include "emit.h"
#include "../ir/ir.h"

typedef enum ml_family {
	ML_FAMILY_ROWS, /* elementwise, movement, gather, reductions: one pass per row; rows.c */
	ML_FAMILY_CONTRACT,  /* dot with prologue and epilogue; dots.c */
	ML_FAMILY_U4,        /* linear_u4 with epilogue; linear_u4.c */
	ML_FAMILY_PACK,      /* a dynamic right operand into panels; dots.c */
	ML_FAMILY_ATTENTION, /* q, k, v to output, scores of one row block in scratch; attention.c
			      */
	ML_FAMILY_SCATTER,   /* updates applied in order; scatter.c */
	ML_FAMILY_SCAN,      /* running sum or product along an axis; scan.c */
	ML_FAMILY_COUNT
} ml_family;

/* The tile grid and scratch need, as dims over the module's symbols; computed from the parsed
 * specification alone, so that planner and emitter agree. */
typedef struct ml_grid {
	ml_dim tiles;         /* kernel's grid: tiles 0..tiles-1 */
	ml_dim scratch_bytes; /* per thread */
} ml_grid;

/* The note of a kernel whose result is a pad: what is around the padded value stays as it is in
 * memory. */
#define ML_KERNEL_WITHIN "within"

/* A parsed specification. */
typedef struct ml_kernel {
	ml_family family;
	ml_module *m; /* main block: inputs, body, yield */
	int row_axes; /* ROWS: how many trailing dims of the space form a row (0 = elementwise map)
		       */
	const char *note; /* parameters after the family name in the first line, "" if none */
} ml_kernel;

ml_status ml_kernel_parse(ml_context *, const char *text, size_t length, ml_kernel **);
void ml_kernel_print(ml_text *, const ml_kernel *);
ml_status ml_kernel_grid(ml_kernel *, ml_grid *);
/* The inputs (bit i: input i) over which the kernel may write this result; in_place.c. */
uint64_t ml_kernel_in_place(ml_kernel *, int result);
/* Emits the kernel as function `name` into e's module. */
ml_status ml_kernel_emit(ml_emit *, ml_kernel *, const char *name);
#endif
