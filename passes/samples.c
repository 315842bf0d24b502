/* samples.c -- calibration data as passes use it: four samples of five to learn from, the fifth
 * to judge by, and values of a module over either. */
#include "samples.h"

enum { SHARE = 5 /* one sample of so many is for judging */ };

bool
ml_is_judged(int64_t i)
{
	return i % SHARE == SHARE - 1;
}

static int
greatest_divisor(int a, int b)
{
	return b ? greatest_divisor(b, a % b) : a;
}

int
ml_spread(int i, int n)
{
	int step = (int)(0.618 * n) + 1;

	while (greatest_divisor(step, n) > 1)
		step++;
	return (int)((int64_t)i * step % n);
}

static bool
is_of(ml_part part, int64_t i)
{
	return (part == ML_JUDGE) == ml_is_judged(i);
}

ml_status
ml_for_samples(ml_pass_ctx *px, const ml_module *m, ml_part part, int64_t most,
	       ml_status (*see)(void *, const ml_tensor *), void *user)
{
	const ml_data *data = px->data;
	ml_tensor *in = ML_NEW_ARRAY(px->scratch, ml_tensor, m->main->nargs + 1);
	bool there = true;

	for (int64_t i = 0; there && (!most || i < most); i++) {
		ML_STEP(data->sample(data->user, m, i, in, &there));
		if (there && is_of(part, i))
			ML_STEP(see(user, in));
	}
	return ML_OK;
}

/* ---- values ---- */

typedef struct watch {
	ml_pass_ctx *px;
	ml_runnable *runnable;
	ml_tensor *out;
	int n;
	void (*see)(void *, int, const ml_tensor *);
	void *user;
} watch;

/* The copy's results become the values. */
static ml_status
show_values(ml_pass_ctx *px, ml_module *copy, ml_value *const *value, int n)
{
	ml_value **result = ML_NEW_ARRAY(px->scratch, ml_value *, n + 1);

	ml_values_in(copy, value, n, result, px->scratch);
	ML_STEP(ml_module_set_outputs(copy, result, n));
	ml_drop_unused(copy->main);
	return ML_OK;
}

static ml_status
see_sample(void *user, const ml_tensor *in)
{
	watch *w = user;
	const ml_exec *exec = w->px->exec;

	for (int i = 0; i < w->n; i++)
		w->out[i].data = NULL; /* lent until the next sample */
	ML_STEP(exec->run_into(exec->user, w->runnable, in, w->out));
	for (int i = 0; i < w->n; i++)
		w->see(w->user, i, &w->out[i]);
	return ML_OK;
}

ml_status
ml_watch(ml_pass_ctx *px, const ml_module *m, ml_value *const *value, int n, ml_part part,
	 int64_t most, void (*see)(void *, int, const ml_tensor *), void *user)
{
	watch w = {.px = px, .n = n, .see = see, .user = user};

	if (!px->exec || !px->data)
		return ml_error(px->cx, ML_ERR_ARG, NULL, "this needs calibration data");
	w.out = ML_NEW_ARRAY(px->scratch, ml_tensor, n + 1);
	ml_module *copy = ml_module_clone(m);
	ml_status status = show_values(px, copy, value, n);
	if (status == ML_OK)
		status = px->exec->compile(px->exec->user, copy, &w.runnable);
	ml_module_free(copy);
	ML_STEP(status);
	status = ml_for_samples(px, m, part, most, see_sample, &w);
	px->exec->free(px->exec->user, w.runnable);
	return status;
}

/* ---- tokens ---- */

static int64_t
rows_of(const ml_value *table)
{
	int64_t rows = 0;

	if (table)
		ml_dim_is_int(table->type.dim[0], &rows);
	return rows;
}

const ml_value *
ml_table_numbered_by(const ml_value *v)
{
	const ml_value *least = NULL;

	for (const ml_use *u = v->uses; u; u = u->next) {
		const ml_node *n = u->user;
		const ml_value *table = NULL;
		if (n->op == ML_OP_cast && ml_is_integer(n->out[0].type.dtype))
			table = ml_table_numbered_by(&n->out[0]);
		else if (n->op == ML_OP_gather && ml_in(n, 1) == v && ml_is_const(ml_in(n, 0)) &&
			 ml_in(n, 0)->type.rank == 2 && ML_A(n, gather, axis).i64 == 0)
			table = ml_in(n, 0);
		if (rows_of(table) > 0 && (!least || rows_of(table) < rows_of(least)))
			least = table;
	}
	return least;
}

int64_t
ml_rows_numbered_by(const ml_value *v)
{
	return rows_of(ml_table_numbered_by(v));
}
