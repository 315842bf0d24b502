/* student.c -- a student from layers of the teacher, and which hidden states correspond. */
#include "student.h"

static ml_status
check_layers(const ml_module *m, const ml_blocks *b, const int *keep, int n)
{
	for (int i = 0; i < n; i++)
		if (keep[i] < (i ? keep[i - 1] + 1 : 0) || keep[i] >= b->layer.count)
			return ml_error(m->cx, ML_ERR_ARG, NULL,
					"layer %d cannot be kept: the model has %d layers, to be "
					"given in rising order",
					keep[i], b->layer.count);
	return ML_OK;
}

/* The student's values of these layers, found before anything is taken out. */
static void
pair_layers(ml_student *s, const ml_blocks *teacher, const ml_blocks *student, const int *keep,
	    int n)
{
	const ml_layer *layer = teacher->layer.at;

	for (int i = 0; i < n; i++) {
		int last = keep[i], end = i + 1 < n ? keep[i + 1] : teacher->layer.count;
		while (last + 1 < end && layer[last + 1].in == layer[last].out)
			last++;
		s->hidden[i] = (ml_hidden){.layer = keep[i],
					   .student = student->layer.at[keep[i]].out,
					   .teacher = layer[keep[i]].out,
					   .target = layer[last].out};
	}
}

ml_status
ml_build_student(ml_module *teacher, const int *keep, int n, ml_arena *arena, ml_student *s)
{
	ml_blocks from, to;

	*s = (ml_student){.nhidden = n};
	ml_find_blocks(teacher, arena, &from);
	ML_STEP(check_layers(teacher, &from, keep, n));
	s->m = ml_module_clone(teacher);
	ml_find_blocks(s->m, arena, &to);
	s->hidden = ML_NEW_ARRAY(arena, ml_hidden, n);
	pair_layers(s, &from, &to, keep, n);
	bool *stays = ML_NEW_ARRAY(arena, bool, to.branch.count);
	for (int i = 0; i < n; i++)
		for (int k = 0; k < to.layer.at[keep[i]].count; k++)
			stays[to.layer.at[keep[i]].first + k] = true;
	ml_status status = ml_remove_branches(s->m, &to, stays);
	if (status != ML_OK) {
		ml_module_free(s->m);
		*s = (ml_student){0};
	}
	return status;
}
