/* statistics.c -- the files that calibration leaves, for compilations without its samples: read,
 * merged by those who use them, and written. */
#include "../passes/known.h"
#include "driver.h"
#include "saved.h"
#include <string.h>

static const char KIND[ML_SAVED_KIND] = "mlopt figures 1";

/* Of the model, and of what says which nodes it has when it is quantized. */
static uint64_t
key_of(const ml_options *o, const ml_module *m)
{
	const char *text[] = {o->passes, o->skip_pass};
	uint64_t key = ml_hash_module(o->cx, m, 1);

	for (size_t i = 0; i < sizeof text / sizeof *text; i++)
		if (text[i])
			key = ml_hash_bytes(text[i], strlen(text[i]) + 1, key + i + 1);
	return ml_hash_bytes(&o->opt_level, sizeof o->opt_level, key);
}

/* ---- reading ---- */

static ml_status
refuse(ml_context *cx, const char *path, const char *what)
{
	ml_error(cx, ML_ERR_ARG, NULL, "calibration: '%s' %s", ml_escaped(&cx->arena, path), what);
	ml_hint(cx, "calibration data is .npz, an ONNX test set, a folder of them, or what "
		    "--save-calib has written of this model");
	return ML_ERR_ARG;
}

static bool
take_numbers(ml_bytes *r, ml_arena *arena, int64_t n, size_t each, void **at)
{
	if (n < 0 || (uint64_t)n > r->size / each)
		return false;
	*at = ml_alloc(arena, (size_t)n * each);
	return ml_take(r, *at, (size_t)n * each);
}

static bool
take_figures(ml_bytes *r, ml_arena *arena, ml_figures *f)
{
	void *number, *row;

	f->kind = ml_take_text(r, arena);
	f->value = ml_take_text(r, arena);
	if (!f->kind || !f->value || !ml_take(r, &f->numbers, sizeof f->numbers) ||
	    !ml_take(r, &f->rows, sizeof f->rows) ||
	    !take_numbers(r, arena, f->numbers, sizeof *f->number, &number) ||
	    !take_numbers(r, arena, f->rows, sizeof *f->row, &row))
		return false;
	f->number = number;
	f->row = row;
	return true;
}

static ml_status
read_file(ml_context *cx, const char *path, uint64_t key, ml_known *known)
{
	ml_text file;
	ml_bytes r;
	uint64_t of;

	ml_text_init(&file, known->arena);
	if (!ml_read_whole(path, &file))
		return refuse(cx, path, "cannot be read");
	switch (ml_saved_open(&file, KIND, &of, &r)) {
	case ML_SAVED_GOOD: break;
	case ML_SAVED_OTHER: return refuse(cx, path, "is no calibration data");
	case ML_SAVED_DAMAGED: return refuse(cx, path, "is damaged");
	}
	if (of != key)
		return refuse(cx, path, "is of another model, or of other options");
	while (r.size) {
		ml_figures f;
		if (!take_figures(&r, known->arena, &f))
			return refuse(cx, path, "is damaged");
		ML_PUSH(known->arena, known->read, f);
	}
	return ML_OK;
}

ml_status
ml_read_statistics(const ml_options *o, const ml_module *m, ml_arena *arena, ml_known *known)
{
	bool learns = o->calibration.array || o->statistics.count;

	*known = (ml_known){.arena = arena};
	known->keeps = o->save_calib != NULL;
	known->given = o->statistics.count > 0;
	if (known->keeps && !learns)
		return ml_error(o->cx, ML_ERR_ARG, NULL, "save-calib needs calibration data");
	if ((known->keeps || known->given) && (o->prune || o->distill))
		return ml_error(o->cx, ML_ERR_ARG, NULL,
				"statistics are of a model as it is, and not of what prune and "
				"distill make of it");
	ML_STEP(ml_check_output(o->cx, o->save_calib));
	if (!known->keeps && !known->given)
		return ML_OK;
	uint64_t key = key_of(o, m);
	for (int i = 0; i < o->statistics.count; i++)
		ML_STEP(read_file(o->cx, o->statistics.at[i], key, known));
	known->key = key;
	return ML_OK;
}

/* ---- writing ---- */

static void
put_figures(ml_text *t, const ml_figures *f)
{
	ml_saved_put_text(t, f->kind);
	ml_saved_put_text(t, f->value);
	ml_put_bytes(t, (const char *)&f->numbers, sizeof f->numbers);
	ml_put_bytes(t, (const char *)&f->rows, sizeof f->rows);
	ml_put_bytes(t, (const char *)f->number, (size_t)f->numbers * sizeof *f->number);
	ml_put_bytes(t, (const char *)f->row, (size_t)f->rows * sizeof *f->row);
}

ml_status
ml_write_statistics(const ml_options *o, const ml_known *known)
{
	ml_text t;

	if (known->given && !known->used) {
		ml_error(o->cx, ML_ERR_ARG, NULL, "calibration: nothing asks for these statistics");
		ml_hint(o->cx, "--int8 and --int4 do, each for those that were kept with it");
		return ML_ERR_ARG;
	}
	if (!known->keeps)
		return ML_OK;
	if (!known->noted.count) {
		ml_error(o->cx, ML_ERR_ARG, NULL, "save-calib: nothing was learnt from the data");
		ml_hint(o->cx, "--int8 and --int4 learn from it");
		return ML_ERR_ARG;
	}
	ml_text_init(&t, known->arena);
	ml_saved_begin(&t, KIND, known->key);
	for (int i = 0; i < known->noted.count; i++)
		put_figures(&t, &known->noted.at[i]);
	ml_saved_end(&t);
	return ml_write_text(o, o->save_calib, "statistics", &t);
}
