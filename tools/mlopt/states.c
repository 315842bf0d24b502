/* states.c -- outputs that are the next run's inputs: named by --state, or recognised. */
#include "states.h"
#include <stdlib.h>
#include <string.h>

static int
bind(mo_model *m, int in, int out)
{
	if (ml_session_bind_state(m->session, m->info->input[in].name, m->info->output[out].name))
		return cl_fail(m->command, "%s", ml_session_message(m->session));
	m->is_state[in] = m->is_kept[out] = true;
	return 0;
}

static bool
fits(const mo_model *m, int in, int out)
{
	const ml_tensor_info *i = &m->info->input[in], *o = &m->info->output[out];

	return !m->is_state[in] && !m->is_kept[out] && i->dtype == o->dtype && i->rank == o->rank;
}

/* Is `output` the name `input` with the word `present` in the place of the word `past`? */
static bool
follows(const char *input, const char *output, const char *past, const char *present)
{
	const char *at = strstr(input, past);
	size_t before = at ? (size_t)(at - input) : 0, n = strlen(present);

	return at && !strncmp(input, output, before) && !strncmp(output + before, present, n) &&
	       !strcmp(output + before + n, at + strlen(past));
}

static bool
is_pair(const char *input, const char *output)
{
	static const char *const words[][2] = {
		{"past_key_values", "present"},
		{"past_key_values", "present_key_values"},
		{"past", "present"},
	};

	for (size_t i = 0; i < sizeof words / sizeof *words; i++)
		if (follows(input, output, words[i][0], words[i][1]))
			return true;
	return false;
}

/* What compiled code appends, and what is called past and present. */
static int
bind_recognised(mo_model *m)
{
	int found = 0;

	for (int i = 0; i < m->info->nstates; i++, found++)
		if (bind(m, m->info->state[i].input, m->info->state[i].output))
			return 1;
	for (int in = 0; in < m->info->ninputs; in++)
		for (int out = 0; out < m->info->noutputs; out++)
			if (fits(m, in, out) &&
			    is_pair(m->info->input[in].name, m->info->output[out].name)) {
				if (bind(m, in, out))
					return 1;
				found++;
			}
	return found ? 0
		     : cl_fail(m->command,
			       "--state auto: no output looks like the next run's input");
}

/* IN=OUT; either name may hold an equals sign. */
static int
bind_named(mo_model *m, const char *pair)
{
	for (int in = 0; in < m->info->ninputs; in++) {
		const char *name = m->info->input[in].name;
		size_t n = strlen(name);
		int out = !strncmp(pair, name, n) && pair[n] == '='
				  ? ml_model_find_output(m->model, pair + n + 1)
				  : -1;
		if (out >= 0)
			return bind(m, in, out);
	}
	return cl_fail(m->command, "--state %s: the model has no such input and output", pair);
}

int
mo_states_bind(mo_model *m, const cl_list *states)
{
	for (int i = 0; i < states->count; i++)
		if (strcmp(states->at[i], "auto") ? bind_named(m, states->at[i])
						  : bind_recognised(m))
			return 1;
	m->has_states = states->count > 0;
	return 0;
}

int
mo_states_restore(mo_model *m, const md_arrays *in)
{
	if (!m->has_states)
		return 0;
	ml_session_reset_states(m->session);
	return mo_model_set(m, in);
}
