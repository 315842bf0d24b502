/* model.c -- compiled models: checked, described, shared between sessions. */
#include "model.h"
#include <string.h>

static ml_status
check(const mlrt_program *p, ml_message *why)
{
	if (!p || p->magic != MLRT_MAGIC)
		return mlrt_say(why, ML_ERR_FORMAT, "not a program made by mlopt");
	if (p->abi != MLRT_ABI)
		return mlrt_say(why, ML_ERR_FORMAT,
				"the artefact has ABI version %u, this runtime reads %d: compile "
				"it again",
				p->abi, MLRT_ABI);
	return ML_OK;
}

static ml_status
describe(ml_model *m, ml_message *why)
{
	const mlrt_program *p = m->program;
	ml_model_info *info = &m->signature.info;
	ml_status status = mlrt_signature_read(p->signature, &m->allocator, &m->signature, why);

	if (status)
		return status;
	m->levels = mlrt_new(&m->allocator, (size_t)p->nlevels * sizeof *m->levels);
	if (!m->levels)
		return mlrt_say(why, ML_ERR_NOMEM, "no memory for a model");
	for (int32_t i = 0; i < p->nlevels; i++)
		m->levels[i] = p->level[i].name;
	info->weights_bytes = p->weights_bytes;
	info->nlevels = p->nlevels;
	info->level = m->levels;
	return ML_OK;
}

static void
discard(ml_model *m)
{
	ml_allocator a = m->allocator;

	mlrt_signature_free(&m->signature, &a);
	mlrt_delete(&a, m->levels, (size_t)m->program->nlevels * sizeof *m->levels);
	mlrt_delete(&a, m, sizeof *m);
}

ml_status
mlrt_model_new(const mlrt_program *p, const ml_allocator *allocator, void *owner,
	       void (*release)(void *owner), ml_model **out, ml_message *why)
{
	ml_status status = check(p, why);

	*out = NULL;
	if (status)
		return status;
	allocator = allocator ? allocator : &mlrt_libc_allocator;
	ml_model *m = mlrt_new(allocator, sizeof *m);
	if (!m)
		return mlrt_say(why, ML_ERR_NOMEM, "no memory for a model");
	*m = (ml_model){.allocator = *allocator, .program = p, .references = 1};
	status = describe(m, why);
	if (status) {
		discard(m);
		return status;
	}
	m->owner = owner;
	m->release = release;
	*out = m;
	return ML_OK;
}

ml_status
ml_model_from_program(const void *program, const ml_allocator *allocator, ml_model **out,
		      ml_message *why)
{
	return mlrt_model_new(program, allocator, NULL, NULL, out, why);
}

void
mlrt_model_keep(ml_model *m)
{
	__atomic_fetch_add(&m->references, 1, __ATOMIC_RELAXED);
}

void
ml_model_free(ml_model *m)
{
	if (!m || __atomic_sub_fetch(&m->references, 1, __ATOMIC_ACQ_REL))
		return;
	void (*release)(void *) = m->release;
	void *owner = m->owner;
	discard(m);
	if (release)
		release(owner);
}

const ml_model_info *
ml_model_describe(const ml_model *m)
{
	return &m->signature.info;
}

static int
find(const ml_tensor_info *at, int n, const char *name)
{
	for (int i = 0; i < n; i++)
		if (!strcmp(at[i].name, name))
			return i;
	return -1;
}

int
ml_model_find_input(const ml_model *m, const char *name)
{
	return find(m->signature.info.input, m->signature.info.ninputs, name);
}

int
ml_model_find_output(const ml_model *m, const char *name)
{
	return find(m->signature.info.output, m->signature.info.noutputs, name);
}

int
ml_model_steps(const ml_model *m)
{
	return m->program->nsteps;
}

ml_status
ml_model_step(const ml_model *m, int i, ml_step_info *info)
{
	if (i < 0 || i >= m->program->nsteps)
		return ML_ERR_ARG;
	const mlrt_step *s = &m->program->step[i];
	*info = (ml_step_info){s->nodes, s->kind, s->kernel, (ml_dtype)s->dtype};
	return ML_OK;
}

ml_function *
ml_model_function(const ml_model *m, const char *suffix)
{
	char name[512];
	size_t n = strlen(m->signature.info.entry), k = strlen(suffix);

	if (!m->find || n + k >= sizeof name)
		return NULL;
	memcpy(name, m->signature.info.entry, n);
	memcpy(name + n, suffix, k + 1);
	return m->find(m->owner, name);
}
