/* refit.c -- collects sums of products by running both models, and changes the weights. */
#include "refit.h"
#include <string.h>

static const double RIDGE = 0.01;
/* Rows for each column of x. */
enum { ROWS_FIT = 16, ROWS_HELD = 4 };

ml_node *
ml_last_linear(const ml_branch *b)
{
	ml_node *n = b->term->def;

	while (n && n->op == ML_OP_reshape && ml_use_count(ml_in(n, 0)) == 1)
		n = ml_in(n, 0)->def;
	bool plain = n && n->op == ML_OP_linear && ml_is_const(ml_in(n, 1)) &&
		     (n->nin < 3 || ml_is_const(ml_in(n, 2))) && n->out[0].type.dtype == ML_f32;
	return plain ? n : NULL;
}

/* ---- modules that are run ---- */

static ml_value *
same_value(const ml_module *copy, const ml_value *v)
{
	if (!v->def)
		return copy->main->arg[v->index];
	for (ml_node *n = copy->main->first; n; n = n->next)
		if (n->id == v->def->id)
			return &n->out[v->index];
	return NULL;
}

static ml_status
set_results(ml_module *m, ml_value *const *result, int n)
{
	ml_node_remove(m->main->last);
	m->output_names.count = 0;
	for (int i = 0; i < n; i++)
		ML_PUSH(&m->arena, m->output_names, ml_format(&m->arena, "result %d", i));
	ml_builder b = ml_builder_at_end(m->main, NULL);
	return ml_build_yield(&b, result, n);
}

/* Rows of the last axis. */
static ml_value *
as_rows(ml_builder *b, ml_value *v)
{
	ml_dims *dims = b->m->dims;
	ml_dim shape[2] = {ml_dim_int(dims, 1), v->type.dim[v->type.rank - 1]};

	for (int i = 0; i + 1 < v->type.rank; i++)
		shape[0] = ml_dim_mul(dims, shape[0], v->type.dim[i]);
	return ml_build_reshape(b, v, shape, 2);
}

static ml_value *
sum_of_products(ml_builder *b, ml_value *x, ml_value *y)
{
	const int64_t rows[] = {0};

	return ml_build_dot(b, x, y, NULL, NULL, 0, rows, rows, 1);
}

static ml_value *
sum_of_rows(ml_builder *b, ml_value *x)
{
	const int64_t rows[] = {0};

	return ml_build_reduce(b, ML_OP_reduce_sum, x, rows, 1);
}

enum { XX, XE, X, E, EE, RESULTS };

/* A copy of the student that is also given the target, and gives sums. */
static ml_status
make_student(const ml_module *student, const ml_value *x, const ml_value *sum, ml_module *copy)
{
	ml_value *rows = same_value(copy, x), *have = same_value(copy, sum), *result[RESULTS];
	ml_builder b;

	(void)student;
	ml_node_remove(copy->main->last);
	b = ml_builder_at_end(copy->main, NULL);
	ml_value *want = ml_block_add_arg(copy->main, &have->type, "target");
	ml_value *missing = as_rows(&b, ml_op2(&b, ML_OP_sub, want, have));
	rows = as_rows(&b, rows);
	result[XX] = sum_of_products(&b, rows, rows);
	result[XE] = sum_of_products(&b, rows, missing);
	result[X] = sum_of_rows(&b, rows);
	result[E] = sum_of_rows(&b, missing);
	result[EE] = sum_of_rows(&b, ml_op2(&b, ML_OP_mul, missing, missing));
	ML_STEP(b.failed);
	ML_STEP(ml_build_yield(&b, result, RESULTS));
	copy->output_names.count = 0;
	for (int i = 0; i < RESULTS; i++)
		ML_PUSH(&copy->arena, copy->output_names, ml_format(&copy->arena, "sums %d", i));
	ml_drop_unused(copy->main);
	return ML_OK;
}

static ml_status
compile_student(ml_pruning *p, const ml_module *student, const ml_value *x, const ml_value *sum,
		ml_runnable **out)
{
	ml_module *copy = ml_module_clone(student);
	ml_status st = make_student(student, x, sum, copy);

	if (st == ML_OK)
		st = p->px->exec->compile(p->px->exec->user, copy, out);
	ml_module_free(copy);
	return st;
}

static ml_status
compile_teacher(ml_pruning *p, const ml_module *teacher, const ml_value *target, ml_runnable **out)
{
	ml_module *copy = ml_module_clone(teacher);
	ml_value *same = same_value(copy, target);
	ml_status st = set_results(copy, &same, 1);

	if (st == ML_OK)
		ml_drop_unused(copy->main);
	if (st == ML_OK)
		st = p->px->exec->compile(p->px->exec->user, copy, out);
	ml_module_free(copy);
	return st;
}

/* ---- sums ---- */

static void
add_floats(double *to, const ml_tensor *t)
{
	const float *from = t->data;

	for (size_t i = 0; i < t->bytes / sizeof *from; i++)
		to[i] += (double)from[i];
}

static void
add_sums(ml_gram *g, const ml_tensor *out, int64_t rows)
{
	const float *ee = out[EE].data;

	add_floats(g->xx, &out[XX]);
	add_floats(g->xe, &out[XE]);
	add_floats(g->x, &out[X]);
	add_floats(g->e, &out[E]);
	for (int64_t i = 0; i < g->o; i++)
		g->ee += (double)ee[i];
	g->rows += (double)rows;
}

static ml_status
run_batch(ml_pruning *p, const ml_batch *b, ml_runnable *student, ml_runnable *teacher, ml_gram *to)
{
	const ml_exec *exec = p->px->exec;
	int inputs = p->m->main->nargs;
	ml_arena arena;
	ml_tensor out[RESULTS], target;

	ml_arena_init(&arena, &p->px->cx->memory);
	ml_tensor *in = ML_NEW_ARRAY(&arena, ml_tensor, inputs + 1);
	ml_status st = exec->run(exec->user, teacher, b->in, &target, &arena);
	if (st == ML_OK) {
		memcpy(in, b->in, (size_t)inputs * sizeof *in);
		in[inputs] = target;
		st = exec->run(exec->user, student, in, out, &arena);
	}
	if (st == ML_OK)
		add_sums(to, out, (int64_t)(target.bytes / sizeof(float)) / to->o);
	ml_arena_free(&arena);
	return st;
}

static int
greatest_divisor(int a, int b)
{
	return b ? greatest_divisor(b, a % b) : a;
}

/* Goes through n batches, which rise in size, so that any beginning of the walk has all sizes: by
 * the golden section. */
static int
spread(int i, int n)
{
	int step = (int)(0.618 * n) + 1;

	while (greatest_divisor(step, n) > 1)
		step++;
	return (int)((int64_t)i * step % n);
}

ml_status
ml_gram_collect(ml_pruning *p, const ml_module *student, const ml_value *x, const ml_value *sum,
		const ml_module *teacher, const ml_value *target, ml_arena *arena, ml_gram *fit,
		ml_gram *held)
{
	ml_runnable *s = NULL, *t = NULL;
	int64_t d = 0, o = 0;

	ml_dim_is_int(x->type.dim[x->type.rank - 1], &d);
	ml_dim_is_int(sum->type.dim[sum->type.rank - 1], &o);
	*fit = ml_gram_new(arena, d, o);
	*held = ml_gram_new(arena, d, o);
	ml_status st = compile_student(p, student, x, sum, &s);
	if (st == ML_OK)
		st = compile_teacher(p, teacher, target, &t);
	for (int i = 0; i < p->samples.batch.count && st == ML_OK; i++) {
		const ml_batch *b = &p->samples.batch.at[spread(i, p->samples.batch.count)];
		ml_gram *to = b->held ? held : fit;
		if (to->rows < (double)(d * (b->held ? ROWS_HELD : ROWS_FIT)))
			st = run_batch(p, b, s, t, to);
	}
	if (t)
		p->px->exec->free(p->px->exec->user, t);
	if (s)
		p->px->exec->free(p->px->exec->user, s);
	return st;
}

/* ---- weights ---- */

static ml_value *
changed(ml_builder *b, const ml_value *old, const ml_type *t, const double *change, int64_t n)
{
	void *bytes;
	ml_blob *blob = ml_blob_new(b->m->arena.memory, (uint64_t)n * sizeof(float), &bytes);
	float *to = bytes;

	for (int64_t i = 0; i < n; i++)
		to[i] = (float)((old ? ml_const_f64(old, i) : 0) + change[i]);
	return ml_build_const(b, t, blob);
}

static ml_status
change_layer(ml_node *n, const ml_gram *g, const double *dw, const double *db)
{
	ml_builder b = ml_builder_before(n);
	const ml_value *w = ml_in(n, 1);
	ml_type bias = {.dtype = ML_f32, .rank = 1, .dim = {w->type.dim[1]}};
	ml_value *nw = changed(&b, w, &w->type, dw, g->d * g->o);
	ml_value *nb = changed(&b, ml_in(n, 2), &bias, db, g->o);
	ml_value *y = ml_op3(&b, ML_OP_linear, ml_in(n, 0), nw, nb);

	ML_STEP(b.failed);
	y->name = n->out[0].name;
	ml_replace_uses(&n->out[0], y);
	ml_drop_unused(n->block);
	return ML_OK;
}

ml_status
ml_refit_branch(ml_pruning *p, ml_module *student, const ml_branch *branch,
		const ml_module *teacher, const ml_value *target, bool *better)
{
	ml_node *n = ml_last_linear(branch);
	ml_gram fit, held;
	ml_arena arena;

	*better = false;
	if (!n)
		return ML_OK;
	ml_arena_init(&arena, &p->px->cx->memory);
	ml_status st = ml_gram_collect(p, student, ml_in(n, 0), &branch->sum->out[0], teacher,
				       target, &arena, &fit, &held);
	double *dw = ML_NEW_ARRAY(&arena, double, fit.d *fit.o);
	double *db = ML_NEW_ARRAY(&arena, double, fit.o);
	if (st == ML_OK && ml_gram_solve(&fit, RIDGE, &arena, dw, db)) {
		double left = ml_gram_remaining(&held, dw, db);
		*better = left < held.ee;
		ml_remark(p->px->cx, branch->sum->prov,
			  "refitted layer %d, %s: %.4g of held-out squares left from %.4g%s",
			  branch->layer, ml_branch_kind_name(branch->kind), left, held.ee,
			  *better ? "" : ": rejected");
	}
	if (*better)
		st = change_layer(n, &fit, dw, db);
	ml_arena_free(&arena);
	return st;
}
