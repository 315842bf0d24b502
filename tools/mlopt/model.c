/* model.c -- models as the verbs run them: an artefact, or a model compiled in this process. */
#include "model.h"
#include "../put_name.h"
#include <stdlib.h>
#include <string.h>

/* ---- opening ---- */

bool
mo_is_artefact(const char *path)
{
	size_t n = strlen(path);

	return n > 3 && !strcmp(path + n - 3, ".so");
}

static int
compile(mo_model *m, const char *path, const mo_settings *s)
{
	double begun = cl_seconds();
	char threads[32];

	m->compiled = true;
	if (cl_compiler_open(&m->compiler, m->command, &s->inputs, s->talk))
		return 1;
	snprintf(threads, sizeof threads, "%ld", s->threads);
	if (s->threads &&
	    m->compiler.ml_options_set(m->compiler.options, "threads", threads) != ML_OK)
		return 1;
	for (int i = 0; i < s->dims.count; i++)
		if (m->compiler.ml_options_set(m->compiler.options, "dim", s->dims.at[i]) != ML_OK)
			return 1;
	begun = cl_seconds();
	m->layer_errors = s->layer_errors;
	__typeof__(ml_compile_file) *compile_model =
		s->layer_errors ? m->compiler.ml_compile_layer_errors : m->compiler.ml_compile_file;
	if (compile_model(m->compiler.cx, path, m->compiler.options, &m->model))
		return 1;
	m->compile_ms = (cl_seconds() - begun) * 1e3;
	return 0;
}

static int
load(mo_model *m, const char *path)
{
	double begun = cl_seconds();
	ml_message why;

	if (ml_model_load(path, NULL, &m->model, &why) != ML_OK)
		return cl_fail(m->command, "%s", why.text);
	m->load_ms = (cl_seconds() - begun) * 1e3;
	return 0;
}

static void
say_what_was_opened(const mo_model *m, const char *path)
{
	cl_put_name(stderr, path, strlen(path), false);
	fprintf(stderr, ": %s code, %d threads, ", ml_session_level(m->session),
		ml_session_threads(m->session));
	if (m->compiled)
		fprintf(stderr, "compiled in %.1f ms, ", m->compile_ms);
	fprintf(stderr, "loaded in %.1f ms\n", m->load_ms);
}

int
mo_model_open(mo_model *m, const cl_command *command, const char *path, const mo_settings *s)
{
	ml_session_options so = {.threads = (int)s->threads};
	double begun;
	ml_message why;

	*m = (mo_model){.command = command};
	if (s->isa && setenv("MLOPT_ISA", s->isa, 1))
		return cl_fail(command, "out of memory");
	if (mo_is_artefact(path) ? load(m, path) : compile(m, path, s))
		return 1;
	m->info = ml_model_describe(m->model);
	begun = cl_seconds();
	if (ml_session_new(m->model, &so, &m->session, &why) != ML_OK)
		return cl_fail(command, "%s", why.text);
	m->load_ms += (cl_seconds() - begun) * 1e3;
	m->is_state = calloc((size_t)m->info->ninputs + 1, sizeof *m->is_state);
	m->is_kept = calloc((size_t)m->info->noutputs + 1, sizeof *m->is_kept);
	if (!m->is_state || !m->is_kept)
		return cl_fail(command, "out of memory");
	if (s->talk.verbose)
		say_what_was_opened(m, path);
	return 0;
}

void
mo_model_close(mo_model *m)
{
	free(m->is_state);
	free(m->is_kept);
	ml_session_free(m->session);
	ml_model_free(m->model);
	if (m->compiled)
		cl_compiler_close(&m->compiler);
}

/* ---- data ---- */

enum { MAX_INPUTS = 1024 };

static int
load_positional(const mo_model *m, const cl_list *paths, md_dataset *data, char *why, size_t size)
{
	char name[MAX_INPUTS][16];
	md_want want[MAX_INPUTS];

	for (int i = 0; i < m->info->ninputs; i++) {
		snprintf(name[i], sizeof name[i], "in%d", i);
		want[i] = (md_want){name[i], false};
	}
	if (md_dataset_open(data, paths->at, (size_t)paths->count, want, (size_t)m->info->ninputs,
			    why, size))
		return 1;
	for (int i = 0; i < m->info->ninputs; i++)
		if (md_array_rename(md_arrays_find(&data->arrays, name[i]), m->info->input[i].name,
				    why, size))
			return 1;
	return 0;
}

int
mo_model_load(const mo_model *m, const cl_list *paths, md_dataset *data)
{
	md_want want[MAX_INPUTS];
	char why[1000], ignored[1000];

	if (m->info->ninputs > MAX_INPUTS)
		return cl_fail(m->command, "the model has more than %d inputs", MAX_INPUTS);
	for (int i = 0; i < m->info->ninputs; i++)
		want[i] = (md_want){m->info->input[i].name, m->is_state[i]};
	if (!md_dataset_open(data, paths->at, (size_t)paths->count, want, (size_t)m->info->ninputs,
			     why, sizeof why))
		return 0;
	md_dataset_close(data);
	if (paths->count == 1 && !load_positional(m, paths, data, ignored, sizeof ignored))
		return 0;
	return cl_fail(m->command, "%s", why);
}

static bool
is_symbol(const char *dim)
{
	return (*dim < '0' || *dim > '9') && !strpbrk(dim, "+*-(, ");
}

md_feed
mo_model_feed(const mo_model *m, const md_dataset *data, long batch, const char *trim)
{
	const char *shared = NULL;
	bool one = false, same = true;

	for (int i = 0; i < m->info->ninputs + m->info->noutputs; i++) {
		bool input = i < m->info->ninputs;
		const ml_tensor_info *t =
			input ? &m->info->input[i] : &m->info->output[i - m->info->ninputs];
		const char *first = t->rank ? t->dim[0] : NULL;
		if ((input && !first) || (!input && m->layer_errors)) /* those are sums */
			continue;
		one |= input && !strcmp(first, "1");
		if (!shared)
			shared = first;
		same &= first && shared && !strcmp(first, shared);
	}
	same = same && shared && is_symbol(shared);
	return md_feed_start(data, batch >= 0 ? batch : same, one, trim);
}

/* ---- running ---- */

int
mo_model_set(mo_model *m, const md_arrays *in)
{
	char type[256];

	for (int i = 0; i < m->info->ninputs; i++) {
		const ml_tensor_info *want = &m->info->input[i];
		const md_array *a = md_arrays_find(in, want->name);
		if (!a && m->is_state[i])
			continue;
		if (!a)
			return cl_fail(m->command, "there is no array for input '%s'", want->name);
		if (a->dtype != mo_file_dtype(want->dtype))
			return cl_fail(m->command, "input '%s' has another element type than %s",
				       want->name, md_array_type(a, type, sizeof type));
		if (ml_session_set_input(m->session, i, a->data, a->dim, a->rank) != ML_OK)
			return cl_fail(m->command, "%s", ml_session_message(m->session));
	}
	return 0;
}

md_dtype
mo_file_dtype(ml_dtype dtype)
{
	for (int t = 0; t < MD_DTYPE_COUNT; t++)
		if (cl_dtype((md_dtype)t) == dtype)
			return (md_dtype)t;
	switch (dtype) {
	case ML_s4:
	case ML_s2: return MD_I8;
	case ML_u4:
	case ML_u2:
	case ML_f8e4m3fn:
	case ML_f8e4m3fnuz:
	case ML_f8e5m2:
	case ML_f8e5m2fnuz:
	case ML_f4e2m1: return MD_U8;
	default: return MD_DTYPE_COUNT;
	}
}

static int
take_output(const mo_model *m, int i, md_arrays *out)
{
	const char *name = m->info->output[i].name;
	md_array a = {0};
	char why[512];
	ml_view view;

	if (ml_session_output(m->session, i, &view) != ML_OK)
		return cl_fail(m->command, "%s", ml_session_message(m->session));
	if (mo_file_dtype(view.dtype) == MD_DTYPE_COUNT)
		return cl_fail(m->command, "output '%s' has a type that no data file holds", name);
	if (md_array_init(&a, name, mo_file_dtype(view.dtype), view.rank, view.dim, why,
			  sizeof why))
		return cl_fail(m->command, "%s", why);
	if (view.bytes)
		memcpy(a.data, view.data, view.bytes);
	if (!md_arrays_push(out, &a, why, sizeof why))
		return 0;
	md_array_clear(&a);
	return cl_fail(m->command, "%s", why);
}

int
mo_model_run(mo_model *m, const md_arrays *in, md_arrays *out)
{
	if (mo_model_set(m, in))
		return 1;
	if (ml_session_run(m->session) != ML_OK)
		return cl_fail(m->command, "%s", ml_session_message(m->session));
	for (int i = 0; i < m->info->noutputs; i++)
		if (!m->is_kept[i] && take_output(m, i, out))
			return 1;
	return 0;
}
