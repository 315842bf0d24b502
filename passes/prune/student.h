/* student.h -- a model of fewer layers, made of layers of its teacher. */
#ifndef ML_PRUNE_STUDENT_H
#define ML_PRUNE_STUDENT_H
#include "blocks.h"

/* Hidden states that correspond, for losses between them. */
typedef struct ml_hidden {
	int layer; /* of the teacher's, which the student has kept */
	/* What this layer gives in the student, and in the teacher. */
	ml_value *student, *teacher;
	/* What the student's next layer reads in the teacher: the result of the last layer that was
	 * cut behind this one, or this one's own.  Equal types, too. */
	ml_value *target;
} ml_hidden;

typedef struct ml_student {
	ml_module *m;      /* the caller frees it */
	ml_hidden *hidden; /* one for each layer kept, rising */
	int nhidden;
} ml_student;

/* The layers `keep`, rising, of ml_find_blocks(teacher), in a module of the same inputs and
 * outputs.  ML_ERR_ARG when the teacher has no such layers. */
ml_status ml_build_student(ml_module *teacher, const int *keep, int n, ml_arena *, ml_student *);
#endif
