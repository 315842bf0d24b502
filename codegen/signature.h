/* signature.h -- what a compiled model is from outside: its C parameters, and the same as text.
 *
 * The text is in the artefact; runtime/signature.c reads it.  One line per fact, names in quotes
 * escaped as in messages:
 *   mlopt 1
 *   model "minilm"
 *   entry minilm
 *   input "input_ids" s64 input_ids [batch, sequence]
 *   output "embedding" f32 embedding [batch, 384]
 *   dim "batch" 1 * batch               range (* = unbounded), C name
 *   size "?0" count0                    a size known after the run
 *   state 3 1 2                         output 1 is input 3 with more rows behind, along axis 2
 *   custom "com.acme" "Foo" acme_foo
 */
#ifndef ML_SIGNATURE_H
#define ML_SIGNATURE_H
#include "plan.h"

/* Parameters of the natural C function, in this order: inputs, outputs, dims, sizes, workspace. */
typedef enum ml_c_kind { ML_C_INPUT, ML_C_OUTPUT, ML_C_DIM, ML_C_SIZE, ML_C_WORKSPACE } ml_c_kind;
typedef struct ml_c_param {
	ml_c_kind kind;
	int index;         /* of the input or output; of the symbol for DIM and SIZE */
	const char *name;  /* C identifier, unique */
	const char *known; /* the model's name for it, raw */
} ml_c_param;

typedef struct ml_custom_op ml_custom_op;
typedef struct ml_signature {
	const ml_module *m;
	const char *entry; /* C identifier */
	ML_VEC(ml_c_param) params;
	ML_VEC(const ml_custom_op *) custom; /* registered operators that the model calls */
	const char *text;
} ml_signature;

/* `entry`: the wanted name of the C function, made an identifier; NULL = the module's name. */
void ml_signature_make(const ml_plan *, const char *entry, ml_signature *);
/* The C header that declares the functions and says what they take. */
void ml_header_print(ml_text *, const ml_signature *);
#endif
