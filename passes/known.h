/* known.h -- statistics of calibration data: those that files of earlier compilations hold, and
 * those that are noted to be kept in such a file.
 *
 * A pass that has learnt something of a value from samples asks for what files know of it, adds
 * that, and notes the sum.  Values are known by their place in the model, so that compilations of
 * one model with options of one kind agree about them.
 */
#ifndef ML_KNOWN_H
#define ML_KNOWN_H
#include "pass.h"

/* Numbers about one value, in the order that their kind has. */
typedef struct ml_figures {
	const char *kind, *value;
	int64_t numbers, rows; /* how many of each */
	double *number;
	float *row;
} ml_figures;

typedef struct ml_known {
	ml_arena *arena;
	uint64_t key;      /* of model and options */
	bool given, keeps; /* there are files; one will be written */
	ML_VEC(ml_figures) read, noted;
	int used; /* of those read */
} ml_known;

/* Can a pass learn, from samples or from what is known? */
bool ml_is_calibrated(const ml_pass_ctx *);
/* Will what it learns be kept? */
bool ml_keeps_figures(const ml_pass_ctx *);
/* What files say of a value, one after the other: the first behind `last` (NULL: of all) that has
 * so many numbers; NULL when there is none. */
const ml_figures *ml_next_known(const ml_pass_ctx *, const char *kind, const ml_value *,
				int64_t numbers, const ml_figures *last);
/* Notes it, if it is to be kept; what was noted of the value before is forgotten.  Copies. */
void ml_note_figures(const ml_pass_ctx *, const char *kind, const ml_value *, const ml_figures *);
#endif
