/* moments.c -- second moments of values: a copy of the module computes x'x of each sample. */
#include "moments.h"

typedef struct collection {
	ml_pass_ctx *px;
	ml_module *m;
	ml_moments *at;
	int n;
	ml_runnable *runnable;
	ml_tensor *in, *out;
} collection;

/* x'x of the rows of v. */
static ml_value *
moments_of(ml_builder *b, ml_value *v)
{
	ml_dim shape[2] = {ml_dim_int(b->m->dims, 1), v->type.dim[v->type.rank - 1]};
	const int64_t rows = 0;

	for (int i = 0; i < v->type.rank - 1; i++)
		shape[0] = ml_dim_mul(b->m->dims, shape[0], v->type.dim[i]);
	v = ml_build_reshape(b, v, shape, 2);
	return ml_build_dot(b, v, v, NULL, NULL, 0, &rows, &rows, 1);
}

/* How many rows the last of the values has. */
static ml_value *
rows_of(ml_builder *b, const ml_value *v)
{
	ml_dim rows = ml_dim_int(b->m->dims, 1);

	for (int i = 0; i < v->type.rank - 1; i++)
		rows = ml_dim_mul(b->m->dims, rows, v->type.dim[i]);
	return ml_build_dim(b, rows);
}

/* The copy's results become the moments, and the number of rows. */
static ml_status
watch(collection *c, ml_module *copy)
{
	ml_value **x = ML_NEW_ARRAY(c->px->scratch, ml_value *, c->n);
	ml_value **result = ML_NEW_ARRAY(c->px->scratch, ml_value *, c->n + 1);

	for (int i = 0; i < c->n; i++)
		x[i] = c->at[i].value;
	ml_values_in(copy, x, c->n, x, c->px->scratch);
	ml_builder b = ml_builder_before(copy->main->last);
	for (int i = 0; i < c->n; i++) {
		result[i] = moments_of(&b, x[i]);
		result[c->n] = rows_of(&b, x[i]);
	}
	ML_STEP(b.failed);
	return ml_module_set_outputs(copy, result, c->n + 1);
}

static ml_status
compile(collection *c)
{
	const ml_exec *exec = c->px->exec;
	ml_module *copy = ml_module_clone(c->m);
	ml_status status = watch(c, copy);

	if (status == ML_OK)
		status = exec->compile(exec->user, copy, &c->runnable);
	ml_module_free(copy);
	return status;
}

static ml_status
run_sample(collection *c, int64_t *rows)
{
	const ml_exec *exec = c->px->exec;
	ml_arena arena;

	ml_arena_init(&arena, &c->px->cx->memory);
	ml_status status = exec->run(exec->user, c->runnable, c->in, c->out, &arena);
	for (int i = 0; i < c->n && status == ML_OK; i++) {
		const float *sum = c->out[i].data;
		for (int64_t j = 0; j < c->at[i].k * c->at[i].k; j++)
			c->at[i].sum[j] += (double)sum[j];
	}
	if (status == ML_OK)
		*rows -= ml_read_s64(ML_s64, c->out[c->n].data, 0);
	ml_arena_free(&arena);
	return status;
}

static ml_status
run_samples(collection *c, int64_t rows)
{
	const ml_data *data = c->px->data;
	bool there = true;

	for (int64_t i = 0; there && rows > 0; i++) {
		ML_STEP(data->sample(data->user, c->m, i, c->in, &there));
		if (there)
			ML_STEP(run_sample(c, &rows));
	}
	return ML_OK;
}

ml_status
ml_second_moments(ml_pass_ctx *px, ml_module *m, ml_moments *at, int n, int64_t rows)
{
	collection c = {.px = px, .m = m, .at = at, .n = n};

	if (!px->exec || !px->data)
		return ml_error(px->cx, ML_ERR_ARG, NULL, "this needs calibration data");
	c.in = ML_NEW_ARRAY(px->scratch, ml_tensor, m->main->nargs + 1);
	c.out = ML_NEW_ARRAY(px->scratch, ml_tensor, n + 1);
	ML_STEP(compile(&c));
	ml_status status = run_samples(&c, rows);
	px->exec->free(px->exec->user, c.runnable);
	return status;
}
