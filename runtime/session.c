/* session.c -- runs of a model: tensors bound, dims planned, memory grown, faults put into words.
 */
#include "session.h"
#include "embed/level.h"
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const ml_model_info *
info_of(const ml_session *s)
{
	return &s->model->signature.info;
}

int
mlrt_element_bytes(ml_dtype t)
{
	switch (t) {
#define ML_DTYPE(number, name, bits, kind, onnx, ctype)                                            \
	case ML_##name: return (bits + 7) / 8;
#include "mlopt/types.def"
	}
	return 0;
}

static int
count_dims(const ml_tensor_info *t, int n)
{
	int dims = 0;

	for (int i = 0; i < n; i++)
		dims += t[i].rank;
	return dims;
}

/* ---- life ---- */

/* The next n * size bytes behind the struct; at NULL only counts. */
static void *
carve(char *memory, size_t *used, int n, size_t size)
{
	void *p = memory ? memory + *used : NULL;

	*used += ((size_t)n * size + 15) & ~(size_t)15;
	return p;
}

/* Sets the arrays' places (s not NULL) and returns the size of everything. */
static size_t
lay_out(ml_session *s, const ml_model *m)
{
	ml_session counted;
	char *memory = (char *)s;
	size_t used = (sizeof *s + 15) & ~(size_t)15;
	int nin = m->signature.info.ninputs, nout = m->signature.info.noutputs;

	s = s ? s : &counted;
	s->in = carve(memory, &used, nin, sizeof *s->in);
	s->given = carve(memory, &used, nin, sizeof *s->given);
	s->in_dim =
		carve(memory, &used, count_dims(m->signature.info.input, nin), sizeof *s->in_dim);
	s->in_at = carve(memory, &used, nin, sizeof *s->in_at);
	s->out = carve(memory, &used, nout, sizeof *s->out);
	s->theirs = carve(memory, &used, nout, sizeof *s->theirs);
	s->their_bytes = carve(memory, &used, nout, sizeof *s->their_bytes);
	s->own = carve(memory, &used, nout, sizeof *s->own);
	s->out_at = carve(memory, &used, nout, sizeof *s->out_at);
	s->state = carve(memory, &used, m->program->nstate, sizeof *s->state);
	s->planned = carve(memory, &used, m->program->nstate, sizeof *s->planned);
	s->bound = carve(memory, &used, nin, sizeof *s->bound);
	s->in_bound = carve(memory, &used, nin, sizeof(mlrt_bound *));
	s->out_bound = carve(memory, &used, nout, sizeof(mlrt_bound *));
	return used;
}

static void
number_dims(ml_session *s)
{
	const ml_model_info *info = info_of(s);

	for (int i = 0, at = 0; i < info->ninputs; at += info->input[i++].rank)
		s->in_at[i] = at;
	for (int i = 0, at = MLRT_STATE_DIMS; i < info->noutputs; at += info->output[i++].rank)
		s->out_at[i] = at;
}

static ml_status
choose_level(const ml_model *m, const mlrt_level **level, ml_message *why)
{
	ml_status status = (ml_status)mlrt_choose_level(m->program, level);
	const char *forced = getenv("MLOPT_ISA");

	if (status == ML_OK)
		return status;
	if (forced && *forced)
		return mlrt_say(why, status,
				"MLOPT_ISA asks for %s, which this CPU or model '%s' does not have",
				forced, m->signature.info.name);
	return mlrt_say(why, status, "this CPU is too old for model '%s': it needs at least %s",
			m->signature.info.name,
			m->program->nlevels ? m->program->level[0].name : "?");
}

ml_status
ml_session_new(ml_model *m, const ml_session_options *o, ml_session **out, ml_message *why)
{
	static const ml_session_options defaults;
	const mlrt_level *level = NULL;
	ml_status status = choose_level(m, &level, why);

	*out = NULL;
	if (status)
		return status;
	o = o ? o : &defaults;
	const ml_allocator *a = o->allocator ? o->allocator : &m->allocator;
	size_t bytes = lay_out(NULL, m);
	ml_session *s = mlrt_new(a, bytes);
	if (!s)
		return mlrt_say(why, ML_ERR_NOMEM, "no memory for a session");
	s->allocator = *a;
	s->model = m;
	s->level = level;
	s->bytes = bytes;
	lay_out(s, m);
	number_dims(s);
	status = mlrt_threads_start(&s->threads, a, o->threads, o->pool);
	if (status) {
		mlrt_delete(a, s, bytes);
		return mlrt_say(why, status, "no memory for threads");
	}
	mlrt_model_keep(m);
	*out = s;
	return ML_OK;
}

void
ml_session_free(ml_session *s)
{
	if (!s)
		return;
	ml_allocator a = s->allocator;
	ml_model *m = s->model;
	mlrt_threads_stop(&s->threads, &a);
	mlrt_block_free(&s->arena, &a);
	for (int i = 0; i < info_of(s)->noutputs; i++)
		mlrt_block_free(&s->own[i], &a);
	for (int i = 0; i < s->nbound; i++) {
		mlrt_block_free(&s->bound[i].now, &a);
		mlrt_block_free(&s->bound[i].next, &a);
	}
	mlrt_delete(&a, s, s->bytes);
	ml_model_free(m);
}

/* ---- tensors ---- */

ml_status
ml_session_set_input(ml_session *s, int i, const void *data, const int64_t *dim, int rank)
{
	const ml_model_info *info = info_of(s);
	int64_t elements = 1;

	if (i < 0 || i >= info->ninputs)
		return mlrt_say(&s->message, ML_ERR_ARG, "there is no input number %d", i);
	if (rank != info->input[i].rank)
		return mlrt_say(&s->message, ML_ERR_SHAPE, "input '%s' has %d dims, given were %d",
				info->input[i].name, info->input[i].rank, rank);
	for (int k = 0; k < rank; k++) {
		if (dim[k] < 0)
			return mlrt_say(&s->message, ML_ERR_SHAPE,
					"input '%s', dim %d: %lld is negative", info->input[i].name,
					k, (long long)dim[k]);
		elements = dim[k] ? elements : 0;
	}
	if (!data && elements)
		return mlrt_say(&s->message, ML_ERR_ARG, "input '%s' has no data",
				info->input[i].name);
	if (s->in_bound[i])
		return mlrt_bound_set(s, s->in_bound[i], data, dim);
	if (rank)
		memcpy(s->in_dim + s->in_at[i], dim, (size_t)rank * sizeof *dim);
	s->in[i] = data;
	s->given[i] = true;
	return ML_OK;
}

ml_status
ml_session_set_output(ml_session *s, int i, void *data, size_t bytes)
{
	if (i < 0 || i >= info_of(s)->noutputs)
		return mlrt_say(&s->message, ML_ERR_ARG, "there is no output number %d", i);
	if (s->out_bound[i])
		return mlrt_say(&s->message, ML_ERR_ARG, "output '%s' is kept by the session",
				info_of(s)->output[i].name);
	s->theirs[i] = data;
	s->their_bytes[i] = bytes;
	return ML_OK;
}

ml_status
ml_session_output(const ml_session *s, int i, ml_view *v)
{
	if (i < 0 || i >= info_of(s)->noutputs || !s->ran)
		return ML_ERR_ARG;
	const ml_tensor_info *t = &info_of(s)->output[i];
	*v = (ml_view){.dtype = t->dtype,
		       .rank = t->rank,
		       .data = s->out[i],
		       .bytes = (size_t)mlrt_element_bytes(t->dtype)};
	for (int k = 0; k < t->rank; k++) {
		v->dim[k] = s->state[s->out_at[i] + k];
		v->bytes *= (size_t)v->dim[k];
	}
	if (s->out_bound[i])
		v->data = mlrt_bound_data(s->out_bound[i]);
	return ML_OK;
}

/* ---- planning and memory ---- */

/* A failed check of the compiled code in words: its site names node and rule. */
static ml_status
explain(ml_session *s, int32_t status, const mlrt_fault *f)
{
	const mlrt_program *p = s->model->program;

	if (f->site < 0 || f->site >= p->nsites || !f->status)
		return mlrt_say(&s->message, (ml_status)status, "%s",
				ml_status_text((ml_status)status));
	if (!f->value && !f->limit)
		return mlrt_say(&s->message, (ml_status)status, "%s", p->sites[f->site]);
	return mlrt_say(&s->message, (ml_status)status, "%s: got %lld, limit %lld",
			p->sites[f->site], (long long)f->value, (long long)f->limit);
}

static ml_status
plan(ml_session *s, const int64_t *dims, int64_t *state)
{
	mlrt_fault fault = {.site = -1};
	int32_t status = s->model->program->plan(dims, s->threads.pool->threads, state, &fault);

	return status ? explain(s, status, &fault) : ML_OK;
}

static ml_status
too_large(ml_session *s, ml_status status)
{
	return mlrt_say(&s->message, status, "no memory for tensors of these sizes");
}

static ml_status
grow_arena(ml_session *s, const int64_t *state)
{
	uint64_t scratch, bytes;

	if (__builtin_mul_overflow((uint64_t)state[MLRT_STATE_SCRATCH],
				   (uint64_t)s->threads.pool->threads, &scratch) ||
	    __builtin_add_overflow((uint64_t)state[MLRT_STATE_ARENA], scratch, &bytes))
		return too_large(s, ML_ERR_LIMIT);
	ml_status status = mlrt_block_grow(&s->arena, &s->allocator, (size_t)bytes + 1);
	return status ? too_large(s, status) : ML_OK;
}

/* Bytes of output i; false when they cannot be counted. */
static bool
output_bytes(const ml_session *s, int i, const int64_t *state, size_t *bytes)
{
	const ml_tensor_info *t = &info_of(s)->output[i];

	*bytes = (size_t)mlrt_element_bytes(t->dtype);
	for (int k = 0; k < t->rank; k++)
		if (state[s->out_at[i] + k] < 0 ||
		    __builtin_mul_overflow(*bytes, (size_t)state[s->out_at[i] + k], bytes))
			return false;
	return true;
}

/* Gives output i a place to be written to. */
static ml_status
place_output(ml_session *s, int i, const int64_t *state)
{
	size_t bytes;

	if (!output_bytes(s, i, state, &bytes))
		return too_large(s, ML_ERR_LIMIT);
	if (s->theirs[i]) {
		s->out[i] = s->theirs[i];
		if (bytes > s->their_bytes[i])
			return mlrt_say(&s->message, ML_ERR_ARG,
					"output '%s' needs %zu bytes, the caller gave %zu",
					info_of(s)->output[i].name, bytes, s->their_bytes[i]);
		return ML_OK;
	}
	if (s->out_bound[i])
		return mlrt_bound_place(s, s->out_bound[i], bytes);
	/* One byte at least: a pointer to an empty tensor is still a pointer. */
	ml_status status = mlrt_block_grow(&s->own[i], &s->allocator, bytes + 1);
	s->out[i] = s->own[i].at;
	return status ? too_large(s, status) : ML_OK;
}

static ml_status
get_memory(ml_session *s, const int64_t *state)
{
	ml_status status = grow_arena(s, state);

	for (int i = 0; i < info_of(s)->noutputs && status == ML_OK; i++)
		if (!s->theirs[i] || state == s->state) /* only a run needs the caller's memory */
			status = place_output(s, i, state);
	return status;
}

/* Plans with the room that states have; where they need more, again with that. */
static ml_status
plan_with_states(ml_session *s, const int64_t *dims, int64_t *state)
{
	bool changed = false;

	mlrt_bound_rooms(s, state);
	ml_status status = plan(s, dims, state);
	if (status == ML_OK)
		status = mlrt_bound_grow(s, state, &changed);
	if (status || !changed)
		return status;
	mlrt_bound_rooms(s, state);
	return plan(s, dims, state);
}

ml_status
ml_session_reserve(ml_session *s, const int64_t *dims)
{
	ml_status status = plan_with_states(s, dims, s->planned);

	s->ran = false; /* outputs may have moved */
	return status ? status : get_memory(s, s->planned);
}

/* ---- running ---- */

static ml_status
check_inputs(ml_session *s)
{
	for (int i = 0; i < info_of(s)->ninputs; i++)
		if (!s->given[i])
			return mlrt_say(&s->message, ML_ERR_ARG, "input '%s' is missing",
					info_of(s)->input[i].name);
	return ML_OK;
}

ml_status
ml_session_run(ml_session *s)
{
	ml_status status = check_inputs(s);

	s->ran = false;
	if (status == ML_OK)
		status = mlrt_bound_begin(s);
	if (status == ML_OK)
		status = plan_with_states(s, s->in_dim, s->state);
	if (status == ML_OK)
		status = get_memory(s, s->state);
	if (status)
		return status;
	mlrt_frame f = {
		.in = (void *const *)s->in,
		.out = s->out,
		.state = s->state,
		.arena = s->arena.at,
		.weights = s->model->program->weights,
		.kernels = s->level->kernels,
		.pool = s->threads.pool,
		.watch = s->watch.step ? &s->watch : NULL,
		.fault = {.site = -1},
	};
	int32_t failed = s->model->program->run(&f);
	if (failed)
		return explain(s, failed, &f.fault);
	s->ran = true;
	mlrt_bound_advance(s);
	s->message.text[0] = 0;
	return ML_OK;
}

void
ml_session_watch(ml_session *s, void (*step)(void *user, int step, int ended), void *user)
{
	s->watch = (mlrt_watch){step, user};
}

ml_status
ml_session_work(const ml_session *s, ml_step_work *work)
{
	_Static_assert(sizeof *work == MLRT_WORK_COUNT * sizeof(int64_t) &&
			       offsetof(ml_step_work, written_bytes) ==
				       MLRT_WORK_WRITTEN * sizeof(int64_t),
		       "compiled code fills it as an array");
	if (!s->ran)
		return ML_ERR_ARG;
	if (s->model->program->nsteps)
		s->model->program->work(s->state, (int64_t *)work);
	return ML_OK;
}

const char *
ml_session_message(const ml_session *s)
{
	return s->message.text;
}

const char *
ml_session_level(const ml_session *s)
{
	return s->level->name;
}

int
ml_session_threads(const ml_session *s)
{
	return s->threads.pool->threads;
}
