/* known.c -- finding and noting statistics of calibration data. */
#include "known.h"
#include <string.h>

bool
ml_is_calibrated(const ml_pass_ctx *px)
{
	return px->data || (px->known && px->known->given);
}

bool
ml_keeps_figures(const ml_pass_ctx *px)
{
	return px->known && px->known->keeps;
}

/* Its node in the text of the module, or its number among the inputs, and how wide it is. */
static const char *
name_of(const ml_value *v, ml_arena *arena)
{
	ml_text t;

	ml_text_init(&t, arena);
	if (v->def)
		ml_put(&t, "%u.%d ", v->def->id, v->index);
	else
		ml_put(&t, "input %d ", v->index);
	ml_type_print(&t, &v->type);
	return t.at;
}

static bool
is_of(const ml_figures *f, const char *kind, const char *value)
{
	return !strcmp(f->kind, kind) && !strcmp(f->value, value);
}

const ml_figures *
ml_next_known(const ml_pass_ctx *px, const char *kind, const ml_value *v, int64_t numbers,
	      const ml_figures *last)
{
	ml_known *known = px->known;

	if (!known || !known->given)
		return NULL;
	const char *name = name_of(v, px->scratch);
	for (int i = last ? (int)(last - known->read.at) + 1 : 0; i < known->read.count; i++) {
		const ml_figures *f = &known->read.at[i];
		if (!is_of(f, kind, name) || f->numbers != numbers)
			continue;
		known->used++;
		return f;
	}
	return NULL;
}

void
ml_note_figures(const ml_pass_ctx *px, const char *kind, const ml_value *v, const ml_figures *f)
{
	ml_known *known = px->known;
	int i = 0;

	if (!ml_keeps_figures(px))
		return;
	ml_figures copy = {.kind = kind,
			   .value = name_of(v, known->arena),
			   .numbers = f->numbers,
			   .rows = f->rows,
			   .number = ML_NEW_ARRAY(known->arena, double, f->numbers),
			   .row = ML_NEW_ARRAY(known->arena, float, f->rows)};
	if (f->numbers)
		memcpy(copy.number, f->number, (size_t)f->numbers * sizeof *f->number);
	if (f->rows)
		memcpy(copy.row, f->row, (size_t)f->rows * sizeof *f->row);
	while (i < known->noted.count && !is_of(&known->noted.at[i], kind, copy.value))
		i++;
	if (i == known->noted.count)
		ML_PUSH(known->arena, known->noted, copy);
	known->noted.at[i] = copy;
}
