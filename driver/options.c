/* options.c -- the compiler's options: one list gives struct, names and kinds; values are checked.
 */
#include "../passes/quantize/observe.h"
#include "driver.h"
#include <stdlib.h>
#include <string.h>

typedef enum option_kind { FLAG, TEXT, INT, LIST, MODE } option_kind;

typedef struct option_row {
	const char *name;
	option_kind kind;
	size_t offset;
} option_row;

static const option_row rows[] = {
#define ML_OPTION(kind, field, name, value, group, help) {name, kind, offsetof(ml_options, field)},
#include "mlopt/options.def"
};
enum { ROWS = sizeof rows / sizeof *rows };

/* ---- lists ---- */

/* NAME=REST; the name may contain '=' no more than dims and inputs usually do. */
static bool
split(ml_options *o, const char *text, const char **name, const char **rest)
{
	const char *equals = strrchr(text, '=');

	if (!equals || equals == text || !equals[1])
		return false;
	*name = ml_strndup(&o->arena, text, (size_t)(equals - text));
	*rest = equals + 1;
	return true;
}

/* Decimal digits; *at moves behind them. */
static bool
number(const char **at, int64_t *out)
{
	const char *start = *at;

	for (*out = 0; **at >= '0' && **at <= '9'; ++*at) {
		if (*out > (INT64_MAX - 9) / 10)
			return false;
		*out = *out * 10 + (**at - '0');
	}
	return *at > start;
}

static ml_status
add_dim(ml_options *o, const char *text)
{
	ml_import_dim d;
	const char *rest;

	if (!split(o, text, &d.name, &rest) || !number(&rest, &d.value) || *rest)
		return ml_error(o->cx, ML_ERR_ARG, NULL, "dim '%s' is not NAME=NUMBER", text);
	ML_PUSH(&o->arena, o->import_dims, d);
	return ML_OK;
}

/* 1x128, 1,128, ?x128; a scalar is written as `scalar`. */
static bool
sizes(const char *text, ml_import_shape *s)
{
	if (!strcmp(text, "scalar"))
		return true;
	for (;;) {
		if (s->rank == ML_MAX_RANK)
			return false;
		s->dim[s->rank] = -1;
		if (*text == '?')
			text++;
		else if (!number(&text, &s->dim[s->rank]))
			return false;
		s->rank++;
		if (!*text)
			return true;
		if (*text != 'x' && *text != ',')
			return false;
		text++;
	}
}

static ml_status
add_shape(ml_options *o, const char *text)
{
	ml_import_shape s = {0};
	const char *rest;

	if (!split(o, text, &s.input, &rest) || !sizes(rest, &s))
		return ml_error(o->cx, ML_ERR_ARG, NULL, "shape '%s' is not INPUT=1x128", text);
	ML_PUSH(&o->arena, o->import_shapes, s);
	return ML_OK;
}

/* ---- setting ---- */

static ml_status
set_number(ml_options *o, const option_row *r, int64_t *field, const char *value)
{
	const char *at = value;
	int64_t n, most = field == &o->opt_level    ? 3
			  : field == &o->threads    ? 1024
			  : field == &o->cache_size ? 1 << 20
						    : INT64_MAX;

	if (!number(&at, &n) || *at || n > most)
		return ml_error(o->cx, ML_ERR_ARG, NULL, "option '%s' cannot be '%s'", r->name,
				value);
	*field = n;
	return ML_OK;
}

bool
ml_int8_form_named(const char *name, ml_precision *mode)
{
	static const char *const names[] = {[ML_INT8_DYNAMIC] = "dynamic",
					    [ML_INT8_STATIC] = "static",
					    [ML_INT8_WEIGHTS] = "weights"};

	for (int i = ML_INT8_DYNAMIC; i <= ML_INT8_WEIGHTS; i++)
		if (!strcmp(names[i], name)) {
			*mode = (ml_precision)i;
			return true;
		}
	return false;
}

/* Is `word` what the text goes on with?  Then it is passed over. */
static bool
skip_word(const char **text, const char *word)
{
	size_t n = strlen(word);
	bool found = !strncmp(*text, word, n);

	*text += found ? n : 0;
	return found;
}

bool
ml_int4_named(const char *name, ml_int4 *int4)
{
	static const char *const groups[] = {"32", "64", "128"};

	for (int i = 0; i < 3; i++) {
		const char *rest = name;
		if (!skip_word(&rest, groups[i]))
			continue;
		*int4 = (ml_int4){.group = 32 << i};
		int4->symmetric = skip_word(&rest, ",symmetric");
		int4->inner = skip_word(&rest, ",inner");
		return !*rest;
	}
	return false;
}

static ml_status
set_mode(ml_options *o, const option_row *r, const char **field, const char *value)
{
	bool is_int8 = field == &o->int8;
	ml_precision mode;
	ml_int4 int4;

	if (field == &o->distill)
		return ml_add_distill(o, value);
	if (value && !(is_int8 ? ml_int8_form_named(value, &mode) : ml_int4_named(value, &int4))) {
		ml_error(o->cx, ML_ERR_ARG, NULL, "option '%s' cannot be '%s'", r->name, value);
		ml_hint(o->cx,
			is_int8 ? "it is dynamic, static or weights"
				: "it is 32, 64 or 128, and perhaps \",symmetric\" and \",inner\"");
		return ML_ERR_ARG;
	}
	*field = ml_strdup(&o->arena, value ? value : "");
	return ML_OK;
}

double
ml_max_loss(const ml_options *o)
{
	char *end;
	double x = o->max_loss ? strtod(o->max_loss, &end) : .01;

	if (!o->max_loss)
		return x;
	x = !strcmp(end, "%") ? x / 100 : x;
	bool whole = end != o->max_loss && (!*end || !strcmp(end, "%"));
	return whole && x > 0 && x <= 1 ? x : -1;
}

static ml_status
set_text(ml_options *o, const option_row *r, const char **field, const char *value)
{
	*field = ml_strdup(&o->arena, value);
	if (field == &o->observer && !ml_is_observer(value)) {
		*field = NULL;
		ml_error(o->cx, ML_ERR_ARG, NULL, "option '%s' cannot be '%s'", r->name, value);
		ml_hint(o->cx, "it is minmax, average, percentile, entropy or mse");
		return ML_ERR_ARG;
	}
	if (field == &o->kv_cache && strcmp(value, "int8")) {
		*field = NULL;
		ml_error(o->cx, ML_ERR_ARG, NULL, "option '%s' cannot be '%s'", r->name, value);
		ml_hint(o->cx, "it is int8");
		return ML_ERR_ARG;
	}
	if (field != &o->max_loss || ml_max_loss(o) > 0)
		return ML_OK;
	*field = NULL;
	ml_error(o->cx, ML_ERR_ARG, NULL, "option '%s' cannot be '%s'", r->name, value);
	ml_hint(o->cx, "it is a share above 0, as 1%% or 0.01");
	return ML_ERR_ARG;
}

static ml_status
set(ml_options *o, const option_row *r, const char *value)
{
	void *field = (char *)o + r->offset;

	if (r->kind != MODE && (r->kind == FLAG) != !value)
		return ml_error(o->cx, ML_ERR_ARG, NULL, "option '%s' %s", r->name,
				value ? "takes no value" : "needs a value");
	switch (r->kind) {
	case FLAG: *(bool *)field = true; return ML_OK;
	case TEXT: return set_text(o, r, field, value);
	case INT: return set_number(o, r, field, value);
	case MODE: return set_mode(o, r, field, value);
	case LIST: break;
	}
	ml_texts *list = field;
	ML_PUSH(&o->arena, *list, ml_strdup(&o->arena, value));
	if (list == &o->dim)
		return add_dim(o, value);
	return list == &o->shape ? add_shape(o, value) : ML_OK;
}

typedef struct setting {
	ml_options *o;
	const char *name, *value;
} setting;

static ml_status
set_named(void *job)
{
	const setting *s = job;

	s->o->cx->stage = "options";
	for (int i = 0; i < ROWS; i++)
		if (!strcmp(rows[i].name, s->name))
			return set(s->o, &rows[i], s->value);
	return ml_error(s->o->cx, ML_ERR_ARG, NULL, "there is no option '%s'", s->name);
}

ml_status
ml_options_set(ml_options *o, const char *name, const char *value)
{
	return ml_enter(o->cx, set_named, &(setting){o, name, value});
}

/* ---- frozen inputs ---- */

typedef struct freezing {
	ml_options *o;
	const char *input;
	ml_tensor value;
} freezing;

static ml_status
freeze(void *job)
{
	const freezing *f = job;
	ml_import_freeze frozen = {ml_strdup(&f->o->arena, f->input), f->value};
	uint64_t bytes = (uint64_t)ml_dtype_bytes(f->value.dtype);

	for (int i = 0; i < f->value.rank; i++)
		if (f->value.dim[i] < 0 ||
		    __builtin_mul_overflow(bytes, (uint64_t)f->value.dim[i], &bytes))
			return ml_error(f->o->cx, ML_ERR_ARG, NULL,
					"input '%s' has an impossible shape", f->input);
	frozen.value.bytes = bytes;
	frozen.value.data = ml_alloc(&f->o->arena, bytes);
	if (bytes)
		memcpy(frozen.value.data, f->value.data, bytes);
	ML_PUSH(&f->o->arena, f->o->import_freezes, frozen);
	return ML_OK;
}

ml_status
ml_options_freeze(ml_options *o, const char *input, ml_dtype dtype, int rank, const int64_t *dim,
		  const void *data)
{
	freezing f = {o, input, {.dtype = dtype, .rank = rank, .data = (void *)data}};

	if (rank < 0 || rank > ML_MAX_RANK || !ml_dtype_bytes(dtype))
		return ML_ERR_ARG;
	if (rank)
		memcpy(f.value.dim, dim, (size_t)rank * sizeof *dim);
	return ml_enter(o->cx, freeze, &f);
}

ml_status
ml_options_calibrate(ml_options *o, const ml_calibration *c)
{
	if (!c->array)
		return ML_ERR_ARG;
	o->calibration = *c;
	return ML_OK;
}

typedef struct addition {
	ml_options *o;
	const char *path;
} addition;

static ml_status
add_statistics(void *job)
{
	const addition *a = job;

	ML_PUSH(&a->o->arena, a->o->statistics, ml_strdup(&a->o->arena, a->path));
	return ML_OK;
}

ml_status
ml_options_statistics(ml_options *o, const char *path)
{
	return ml_enter(o->cx, add_statistics, &(addition){o, path});
}

void
ml_options_prune(ml_options *o, const ml_prune_hooks *hooks)
{
	o->prune_hooks = *hooks;
}

/* ---- life ---- */

typedef struct birth {
	ml_context *cx;
	ml_options *o;
} birth;

static ml_status
make(void *job)
{
	birth *b = job;
	ml_options *o = ml_resize(&b->cx->memory, NULL, 0, sizeof *o);

	*o = (ml_options){.cx = b->cx,
			  .opt_level = 3,
			  .threads = -1,
			  .fuel = -1,
			  .cache_size = 256,
			  .distill_steps = -1,
			  .seed = 0};
	ml_arena_init(&o->arena, &b->cx->memory);
	b->o = o;
	return ML_OK;
}

ml_status
ml_options_new(ml_context *cx, ml_options **out)
{
	birth b = {cx, NULL};
	ml_status status = ml_enter(cx, make, &b);

	*out = b.o;
	return status;
}

void
ml_options_free(ml_options *o)
{
	if (!o)
		return;
	ml_memory *memory = &o->cx->memory;
	ml_arena_free(&o->arena);
	ml_resize(memory, o, sizeof *o, 0);
}

void
ml_options_show(ml_options *o, void (*show)(void *, const char *, const char *), void *user)
{
	o->show_fn = show;
	o->show_user = user;
}

void
ml_options_progress(ml_options *o, void (*progress)(void *, int, int, const char *), void *user)
{
	o->progress_fn = progress;
	o->progress_user = user;
}

void
ml_show(const ml_options *o, const char *title, const char *text)
{
	if (o->show_fn)
		o->show_fn(o->show_user, title, text);
}
