/* calibrate.c -- calibration data as samples: asked for in sets, checked, cut along axis 0. */
#include "driver.h"
#include <math.h>
#include <string.h>

enum { LEAST_SAMPLES = 8 };

static const char *
type_text(ml_feed *f, const ml_type *t)
{
	ml_text text;

	ml_text_init(&text, &f->o->cx->arena);
	ml_type_print(&text, t);
	return text.at;
}

static const char *
array_text(ml_feed *f, const ml_view *a)
{
	ml_text text;

	ml_text_init(&text, &f->o->cx->arena);
	ml_put(&text, "%s[", ml_dtype_name(a->dtype));
	for (int i = 0; i < a->rank; i++)
		ml_put(&text, "%s%lld", i ? ", " : "", (long long)a->dim[i]);
	ml_put(&text, "]");
	return text.at;
}

static const char *
name_of(ml_feed *f, const ml_value *input)
{
	return ml_escaped(&f->o->cx->arena, input->name ? input->name : "");
}

static ml_status
refuse(ml_feed *f, ml_status status, const ml_value *input, int i)
{
	ml_error(f->o->cx, status, NULL, "calibration data: input '%s' is %s, the array is %s",
		 name_of(f, input), type_text(f, &input->type), array_text(f, &f->array[i]));
	return status;
}

/* ---- one set ---- */

static bool
is_cut(const ml_view *a)
{
	return a->rank > 0;
}

/* The first dim of all arrays, -1 when they differ. */
static int64_t
common_first(const ml_feed *f, int inputs)
{
	int64_t first = -2;

	for (int i = 0; i < inputs; i++) {
		if (!is_cut(&f->array[i]))
			continue;
		if (first != -2 && f->array[i].dim[0] != first)
			return -1;
		first = f->array[i].dim[0];
	}
	return first == -2 ? -1 : first;
}

/* How many elements of axis 0 the model takes at once: one where all inputs and outputs share a
 * symbolic first dim, the fixed number where the inputs have one; else 0, whatever is given. */
static int64_t
model_step(const ml_module *m)
{
	const ml_node *yield = m->main->last;
	int nargs = m->main->nargs;
	ml_dim shared = NULL;
	int64_t fixed;

	for (int i = 0; i < nargs + yield->nin; i++) {
		const ml_type *t =
			i < nargs ? &m->main->arg[i]->type : &ml_in(yield, i - nargs)->type;
		if (i < nargs && !t->rank)
			continue;
		if (shared && ml_dim_is_int(shared, NULL) && i >= nargs)
			break; /* a fixed size says enough */
		if (!t->rank || (shared && t->dim[0] != shared))
			return 0;
		shared = t->dim[0];
	}
	if (!shared)
		return 0;
	return ml_dim_is_int(shared, &fixed) ? fixed : 1;
}

static ml_status
check_array(ml_feed *f, const ml_value *input, int i)
{
	ml_view *a = &f->array[i];
	const ml_type *t = &input->type;
	int64_t size;

	if (a->rank < 0 || a->rank > ML_MAX_RANK || !ml_dtype_bytes(a->dtype))
		return ml_error(f->o->cx, ML_ERR_ARG, NULL,
				"calibration data: the array for input '%s' is none",
				name_of(f, input));
	if (a->dtype != t->dtype)
		return refuse(f, ML_ERR_TYPE, input, i);
	if (a->rank != t->rank)
		return refuse(f, ML_ERR_SHAPE, input, i);
	for (int d = f->step && a->rank ? 1 : 0; d < a->rank; d++)
		if (a->dim[d] < 0 || (ml_dim_is_int(t->dim[d], &size) && size != a->dim[d]))
			return refuse(f, ML_ERR_SHAPE, input, i);
	return ML_OK;
}

static ml_status
count_samples(ml_feed *f, const ml_module *m)
{
	int64_t first = common_first(f, m->main->nargs);

	f->count = 1;
	if (!f->step)
		return ML_OK;
	if (first < 0)
		return ml_error(f->o->cx, ML_ERR_SHAPE, NULL,
				"calibration data: the arrays hold different numbers of samples");
	if (first % f->step)
		return ml_error(f->o->cx, ML_ERR_SHAPE, NULL,
				"calibration data: the model takes %lld samples at once, %lld are "
				"no multiple of that",
				(long long)f->step, (long long)first);
	f->count = first / f->step;
	return ML_OK;
}

/* Inputs that are not in the set, of which the first one could not be given for this reason. */
static ml_status
derive_missing(ml_feed *f, const ml_module *m, const ml_message *why)
{
	ml_arena_free(&f->derived);
	ml_arena_init(&f->derived, &f->o->cx->memory);
	for (int i = 0; i < m->main->nargs; i++)
		if (!f->given[i] && !ml_derive_input(f, m, i)) {
			ml_error(f->o->cx, ML_ERR_ARG, NULL, "calibration data: %s",
				 why->text[0] ? why->text : "an input is missing");
			ml_hint(f->o->cx,
				"input '%s' does not follow from those that are given, as masks, "
				"positions and an empty past do",
				name_of(f, m->main->arg[i]));
			return ML_ERR_ARG;
		}
	return ML_OK;
}

/* *there: is there a set of this number? */
static ml_status
open_set(ml_feed *f, const ml_module *m, int set, bool *there)
{
	const ml_calibration *c = &f->source;
	ml_message missing = {""};

	f->set = -1;
	*there = true;
	for (int i = 0; i < m->main->nargs; i++) {
		const ml_value *input = m->main->arg[i];
		f->array[i] = (ml_view){0};
		ml_message why = {""};
		int got = c->array(c->user, set, i, input->name ? input->name : "", &f->array[i],
				   &why);
		why.text[sizeof why.text - 1] = 0;
		f->given[i] = got > 0;
		if (got == ML_NO_ARRAY && !missing.text[0])
			missing = why;
		else if (got < 0 && got != ML_NO_ARRAY)
			return ml_error(f->o->cx, ML_ERR_ARG, NULL, "calibration data: %s",
					why.text);
		if (!got) {
			*there = false;
			return ML_OK;
		}
	}
	ML_STEP(derive_missing(f, m, &missing));
	for (int i = 0; i < m->main->nargs; i++)
		ML_STEP(check_array(f, m->main->arg[i], i));
	ML_STEP(count_samples(f, m));
	f->set = set;
	return ML_OK;
}

/* ---- samples ---- */

static bool
is_finite(const ml_tensor *t)
{
	int64_t n = (int64_t)t->bytes / ml_dtype_bytes(t->dtype);

	if (!ml_is_float(t->dtype))
		return true;
	for (int64_t i = 0; i < n; i++)
		if (!isfinite(ml_read_f64(t->dtype, t->data, i)))
			return false;
	return true;
}

static ml_status
cut(ml_feed *f, const ml_value *input, int i, int64_t at, ml_tensor *t)
{
	const ml_view *a = &f->array[i];
	size_t bytes = (size_t)ml_dtype_bytes(a->dtype);

	*t = (ml_tensor){.dtype = a->dtype, .rank = a->rank, .data = a->data};
	memcpy(t->dim, a->dim, sizeof t->dim);
	if (f->step && is_cut(a))
		t->dim[0] = f->step;
	for (int d = 0; d < t->rank; d++)
		if (__builtin_mul_overflow(bytes, (size_t)t->dim[d], &bytes))
			return refuse(f, ML_ERR_SHAPE, input, i);
	t->bytes = bytes;
	if (f->step && is_cut(a))
		t->data = (char *)a->data + (size_t)at * bytes;
	if (bytes && !a->data)
		return refuse(f, ML_ERR_ARG, input, i);
	if (!is_finite(t))
		return ml_error(f->o->cx, ML_ERR_VALUE, NULL,
				"calibration data: sample %lld of input '%s' is not finite",
				(long long)(f->first + at), name_of(f, input));
	return ML_OK;
}

/* ---- padding ---- */

/* The input that says which columns are padding: a mask whose second dim others share. */
static int
find_mask(const ml_module *m)
{
	for (int i = 0; i < m->main->nargs; i++) {
		const ml_value *v = m->main->arg[i];
		int64_t fixed;
		if (v->type.rank != 2 || !v->name || !strcasestr(v->name, "mask") ||
		    ml_dim_is_int(v->type.dim[1], &fixed))
			continue;
		for (int k = 0; k < m->main->nargs; k++) {
			const ml_type *t = &m->main->arg[k]->type;
			if (k != i && t->rank > 1 && t->dim[1] == v->type.dim[1])
				return i;
		}
	}
	return -1;
}

/* Columns that the mask says are padding end the row: models see samples at their own length. */
static void
trim(const ml_module *m, int mask, ml_tensor *inputs)
{
	const ml_tensor *t = &inputs[mask];
	int64_t length = t->dim[1];

	while (length > 1 && ml_read_f64(t->dtype, t->data, length - 1) == 0)
		length--;
	ml_dim shared = m->main->arg[mask]->type.dim[1];
	for (int i = 0; i < m->main->nargs; i++) {
		ml_tensor *in = &inputs[i];
		if (in->rank < 2 || m->main->arg[i]->type.dim[1] != shared || !in->dim[1])
			continue;
		in->bytes = in->bytes / (size_t)in->dim[1] * (size_t)length;
		in->dim[1] = length;
	}
}

static ml_status
find_sample(ml_feed *f, const ml_module *m, int64_t i, bool *there)
{
	*there = true;
	if (f->set < 0 || i < f->first) {
		f->first = 0;
		ML_STEP(open_set(f, m, 0, there));
	}
	while (*there && i >= f->first + f->count) {
		f->first += f->count;
		ML_STEP(open_set(f, m, f->set + 1, there));
	}
	if (*there || f->first >= LEAST_SAMPLES)
		return ML_OK;
	if (!f->first)
		return ml_error(f->o->cx, ML_ERR_ARG, NULL, "calibration data: no samples");
	return ml_error(f->o->cx, ML_ERR_ARG, NULL,
			"calibration data: %lld samples are too few, at least %d are needed",
			(long long)f->first, LEAST_SAMPLES);
}

static ml_status
tell(const ml_feed *f, int64_t i, bool there)
{
	const ml_calibration *c = &f->source;
	ml_calibration_progress p = {f->walk, f->set, i - f->first, f->count};

	if (!there)
		p = (ml_calibration_progress){f->walk, -1, f->first, f->first};
	if (!c->progress || c->progress(c->user, &p))
		return ML_OK;
	return ml_error(f->o->cx, ML_ERR_CANCELED, NULL, "calibration was canceled");
}

static ml_status
sample(void *user, const ml_module *m, int64_t i, ml_tensor *inputs, bool *there)
{
	ml_feed *f = user;

	if (!f->array) {
		f->array = ML_NEW_ARRAY(&f->arena, ml_view, m->main->nargs + 1);
		f->given = ML_NEW_ARRAY(&f->arena, bool, m->main->nargs + 1);
		f->step = model_step(m);
		f->mask = find_mask(m);
	}
	f->walk += i == 0;
	ML_STEP(find_sample(f, m, i, there));
	ML_STEP(tell(f, i, *there));
	for (int k = 0; *there && k < m->main->nargs; k++)
		ML_STEP(cut(f, m->main->arg[k], k, i - f->first, &inputs[k]));
	if (*there && f->step == 1 && f->mask >= 0)
		trim(m, f->mask, inputs);
	return ML_OK;
}

/* ---- labels ---- */

static ml_status
refuse_labels(const ml_feed *f, ml_status status, const char *why)
{
	ml_context *cx = f->o->cx;

	ml_error(cx, status, NULL, "labels: the array '%s' %s",
		 ml_escaped(&cx->arena, f->o->labels), why);
	ml_hint(cx, "it holds the number of the right class of each sample, negative where nobody "
		    "knows");
	return status;
}

static ml_status
label(void *user, const ml_module *m, int64_t i, int64_t *number)
{
	ml_feed *f = user;
	const ml_calibration *c = &f->source;
	ml_message why = {""};
	bool there;
	ml_view v;

	ML_STEP(find_sample(f, m, i, &there));
	int got = there ? c->array(c->user, f->set, -1, f->o->labels, &v, &why) : 0;
	why.text[sizeof why.text - 1] = 0;
	if (got < 0)
		return ml_error(f->o->cx, ML_ERR_ARG, NULL, "labels: %s", why.text);
	if (!got || !v.data)
		return refuse_labels(f, ML_ERR_ARG, "is missing");
	if (!ml_is_integer(v.dtype))
		return refuse_labels(f, ML_ERR_TYPE, "is none of integers");
	if (v.rank != 1 || f->step != 1 || v.dim[0] != f->count)
		return refuse_labels(f, ML_ERR_SHAPE, "has not one number for each sample");
	*number = ml_read_s64(v.dtype, v.data, i - f->first);
	return ML_OK;
}

void
ml_feed_begin(ml_feed *f, const ml_options *o)
{
	*f = (ml_feed){.o = o, .source = o->calibration, .set = -1};
	ml_arena_init(&f->arena, &o->cx->memory);
	ml_arena_init(&f->derived, &o->cx->memory);
}

void
ml_feed_end(ml_feed *f)
{
	ml_arena_free(&f->arena);
	ml_arena_free(&f->derived);
}

ml_data
ml_data_of_feed(ml_feed *f)
{
	return (ml_data){.user = f, .sample = sample, .label = f->o->labels ? label : NULL};
}

/* ---- the mode ---- */

static bool
has_conv(const ml_module *m)
{
	for (const ml_node *n = m->main->first; n; n = n->next)
		if (n->op == ML_OP_conv)
			return true;
	return false;
}

ml_status
ml_choose_precision(const ml_options *o, const ml_module *m, ml_precision *mode)
{
	bool calibrated = o->calibration.array || o->statistics.count;

	*mode = o->int4 ? ML_INT4 : o->bf16 ? ML_BF16 : ML_FLOATS;
	if ((o->int4 != NULL) + (o->int8 != NULL) + o->bf16 > 1)
		return ml_error(o->cx, ML_ERR_ARG, NULL, "int8, int4 and bf16 exclude each other");
	if (!o->int8)
		return ML_OK;
	if (!ml_int8_form_named(o->int8, mode))
		*mode = calibrated && has_conv(m) ? ML_INT8_STATIC : ML_INT8_DYNAMIC;
	if (*mode != ML_INT8_STATIC || calibrated)
		return ML_OK;
	ml_error(o->cx, ML_ERR_ARG, NULL, "int8=static needs calibration data");
	ml_hint(o->cx, "give inputs without labels: --calib=DATA.npz");
	return ML_ERR_ARG;
}
