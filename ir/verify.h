/* verify.h -- inside of the verifier: the state of one check. */
#ifndef ML_VERIFY_H
#define ML_VERIFY_H
#include "value_map.h"

typedef struct ml_verifier {
	const ml_module *m;
	ml_arena *scratch;
	ml_value_map seen; /* values defined so far */
	uint8_t *id_taken; /* by node id */
	int64_t operands;  /* of all nodes so far */
	int64_t uses;      /* in the lists of all values so far */
} ml_verifier;

/* Reports that invariant `number` is broken at a node (or NULL) and returns ML_ERR_PASS. */
ml_status ml_broken(const ml_verifier *, int number, const ml_node *, const char *fmt, ...)
	__attribute__((format(printf, 4, 5)));

/* verify_type.c: invariants 9 to 18 */
ml_status ml_verify_type(const ml_verifier *, const ml_node *, const ml_type *, const char *what);
ml_status ml_verify_attrs(const ml_verifier *, const ml_node *);
ml_status ml_verify_constant(const ml_verifier *, const ml_node *);
ml_status ml_verify_content(const ml_verifier *, const ml_value *);
ml_status ml_verify_bodies(const ml_verifier *, const ml_node *);
ml_status ml_verify_guards(const ml_verifier *);
/* Types once more from operands and attributes. */
ml_status ml_verify_inference(const ml_verifier *);
#endif
