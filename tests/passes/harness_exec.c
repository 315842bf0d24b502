/* harness_exec.c -- candidates of passes run by the reference evaluator, on random samples. */
#include "harness_exec.h"
#include <string.h>

enum { SAMPLES = 8 };

double
harness_random(uint64_t *seed)
{
	*seed = *seed * 6364136223846793005u + 1442695040888963407u;
	return (double)(int64_t)(*seed >> 11) / (double)(1ll << 52) - 1;
}

typedef struct numbers {
	ml_memory *memory;
	harness_number *number;
	ml_blob *lent; /* the last one */
} numbers;

static ml_blob *
lend(void *user, uint64_t reference, const ml_type *t)
{
	numbers *n = user;
	uint64_t seed = reference;
	int64_t count;
	void *bytes;

	if (!ml_type_static_count(t, &count))
		return NULL;
	ml_blob_drop(n->lent);
	n->lent = ml_blob_new(n->memory, (uint64_t)count * (uint64_t)ml_dtype_bytes(t->dtype),
			      &bytes);
	for (int64_t i = 0; i < count; i++)
		ml_write_f64(t->dtype, bytes, i,
			     n->number ? n->number(reference, i, &seed) : harness_random(&seed));
	return n->lent;
}

ml_status
harness_parse(ml_context *cx, const char *text, harness_number *number, ml_module **m)
{
	numbers n = {.memory = &cx->memory, .number = number};
	ml_status st = ml_parse(cx, text, strlen(text), lend, &n, m);

	ml_blob_drop(n.lent);
	return st;
}

ml_tensor
harness_input(ml_arena *arena, const ml_module *m, const ml_value *arg, uint64_t *seed)
{
	ml_tensor t = {.dtype = arg->type.dtype, .rank = arg->type.rank};
	int nsyms = ml_sym_count(m->dims);
	int64_t *sizes = ML_NEW_ARRAY(arena, int64_t, nsyms), count = 1;

	for (int i = 0; i < nsyms; i++) {
		const ml_sym *s = ml_sym_at(m->dims, i);
		sizes[i] = s->lo > HARNESS_DIM ? s->lo : s->hi < HARNESS_DIM ? s->hi : HARNESS_DIM;
	}
	for (int i = 0; i < t.rank; i++) {
		if (!ml_dim_eval(arg->type.dim[i], sizes, &t.dim[i]))
			t.dim[i] = 0;
		count *= t.dim[i];
	}
	t.bytes = (size_t)count * (size_t)ml_dtype_bytes(t.dtype);
	t.data = ml_alloc(arena, t.bytes);
	for (int64_t i = 0; i < count; i++) {
		double x = harness_random(seed);
		if (ml_is_float(t.dtype))
			ml_write_f64(t.dtype, t.data, i, x * 2);
		else
			ml_write_s64(t.dtype, t.data, i,
				     x > 0); /* valid as index, bool and count */
	}
	return t;
}

/* ---- exec ---- */

struct ml_runnable {
	ml_module *m;
	ml_arena lent; /* outputs of the last run_into */
};

static ml_status
exec_compile(void *user, const ml_module *m, ml_runnable **out)
{
	ml_context *cx = user;

	*out = ML_NEW(&cx->arena, ml_runnable);
	(*out)->m = ml_module_clone(m);
	ml_arena_init(&(*out)->lent, &cx->memory);
	return ML_OK;
}

static ml_status
exec_run(void *user, ml_runnable *r, const ml_tensor *inputs, ml_tensor *outputs, ml_arena *arena)
{
	ml_eval_options o = {0};

	(void)user;
	return ml_evaluate(r->m, inputs, outputs, arena, &o);
}

static ml_status
exec_run_into(void *user, ml_runnable *r, const ml_tensor *inputs, ml_tensor *outputs)
{
	ml_context *cx = user;
	int n = r->m->main->last->nin;
	ml_tensor *made = ML_NEW_ARRAY(&cx->arena, ml_tensor, n + 1);
	ml_eval_options o = {0};

	ml_arena_free(&r->lent);
	ml_arena_init(&r->lent, &cx->memory);
	ML_STEP(ml_evaluate(r->m, inputs, made, &r->lent, &o));
	for (int i = 0; i < n; i++) {
		void *theirs = outputs[i].data;
		if (theirs && outputs[i].bytes < made[i].bytes)
			return ML_ERR_ARG;
		outputs[i] = made[i];
		if (theirs)
			outputs[i].data = memcpy(theirs, made[i].data, made[i].bytes);
	}
	return ML_OK;
}

static ml_status
exec_time(void *user, ml_runnable *r, const ml_tensor *inputs, int runs, double *seconds)
{
	(void)user;
	(void)r;
	(void)inputs;
	*seconds = runs;
	return ML_OK;
}

static void
exec_free(void *user, ml_runnable *r)
{
	(void)user;
	ml_arena_free(&r->lent);
	ml_module_free(r->m);
}

ml_exec
harness_exec(ml_context *cx)
{
	return (ml_exec){.user = cx,
			 .compile = exec_compile,
			 .run = exec_run,
			 .run_into = exec_run_into,
			 .time = exec_time,
			 .free = exec_free};
}

/* ---- data ---- */

static ml_status
sample(void *user, const ml_module *m, int64_t i, ml_tensor *inputs, bool *there)
{
	harness_samples *s = user;
	uint64_t seed = (uint64_t)i + 1;

	ml_arena_free(&s->arena);
	ml_arena_init(&s->arena, &m->cx->memory);
	*there = i < SAMPLES;
	for (int k = 0; *there && k < m->main->nargs; k++)
		inputs[k] = harness_input(&s->arena, m, m->main->arg[k], &seed);
	return ML_OK;
}

ml_data
harness_data(harness_samples *s)
{
	return (ml_data){.user = s, .sample = sample};
}
