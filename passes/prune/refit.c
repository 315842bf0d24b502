/* refit.c -- collects sums of products by running both models, and changes the weights. */
#include "refit.h"
#include "matrix.h"
#include "narrow.h"
#include <string.h>

/* What the weights were counts as so many rows for each column of x: of few rows they would learn
 * what other samples do not have. */
static const double PRIOR_ROWS = 2;
/* Rows for each column of x. */
enum { ROWS_FIT = 20, ROWS_ROUGH = 4, ROWS_HELD = 4, WIDEST = 8192 };

ml_node *
ml_last_layer(const ml_branch *b)
{
	ml_node *n = b->term->def;

	while (n && n->op == ML_OP_reshape && ml_use_count(ml_in(n, 0)) == 1)
		n = ml_in(n, 0)->def;
	bool plain = n && ml_is_narrowable(n) && (n->nin < 3 || ml_is_const(ml_in(n, 2))) &&
		     n->out[0].type.dtype == ML_f32 && (n->op == ML_OP_linear || n == b->term->def);
	return plain ? n : NULL;
}

/* ---- modules that are run ---- */

static ml_value *
same_value(const ml_module *copy, const ml_value *v)
{
	if (!v->def)
		return copy->main->arg[v->index];
	ml_node *n = ml_node_by_id(copy, v->def->id);
	return n ? &n->out[v->index] : NULL;
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

/* With the products of a triangle behind them. */
enum { XE, X, E, EE, SUMS };

static int
results_of(int64_t d)
{
	return SUMS + ml_triangle_products(d);
}

/* A copy of the student that goes on from what the branch reads, is also given the target, and
 * gives sums. */
static ml_status
make_student(const ml_refit *f, const ml_node *layer, const ml_value *sum, ml_module *copy,
	     bool *reads)
{
	*reads = ml_stream_read(&f->read, copy);
	ml_value *have = same_value(copy, sum);
	ml_node *n = ml_node_by_id(copy, layer->id);
	ml_builder b = ml_builder_before(copy->main->last);
	int64_t d, o;

	ml_matrix_size(n, &d, &o);
	ml_value **result = ML_NEW_ARRAY(&copy->arena, ml_value *, results_of(d));

	ml_value *want = ml_block_add_arg(copy->main, &have->type, "target");
	ml_value *missing = ml_matrix_y(&b, n, ml_op2(&b, ML_OP_sub, want, have));
	ml_value *rows = ml_matrix_x(&b, n, ml_in(n, 0));
	ML_STEP(ml_triangle_build(&b, rows, result + SUMS));
	result[XE] = sum_of_products(&b, rows, missing);
	result[X] = sum_of_rows(&b, rows);
	result[E] = sum_of_rows(&b, missing);
	result[EE] = sum_of_rows(&b, ml_op2(&b, ML_OP_mul, missing, missing));
	ML_STEP(b.failed);
	ML_STEP(ml_module_set_outputs(copy, result, results_of(d)));
	ml_drop_unused(copy->main);
	return ML_OK;
}

static ml_status
compile_student(const ml_refit *f, const ml_node *layer, const ml_value *sum, bool *reads,
		ml_runnable **out)
{
	const ml_exec *exec = f->p->px->exec;
	ml_module *copy = ml_module_clone(f->student);
	ml_status st = make_student(f, layer, sum, copy, reads);

	if (st == ML_OK)
		st = exec->compile(exec->user, copy, out);
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

	ml_triangle_add(g->xx, g->d, out + SUMS);
	add_floats(g->xe, &out[XE]);
	add_floats(g->x, &out[X]);
	add_floats(g->e, &out[E]);
	for (int64_t i = 0; i < g->o; i++)
		g->ee += (double)ee[i];
	g->rows += (double)rows;
}

static ml_status
run_batch(ml_refit *f, const ml_batch *b, ml_runnable *student, bool reads, ml_gram *to)
{
	const ml_exec *exec = f->p->px->exec;
	int inputs = f->p->m->main->nargs, n = (int)(b - f->p->samples.batch.at);
	ml_arena arena;

	ml_arena_init(&arena, &f->p->px->cx->memory);
	ml_tensor *in = ML_NEW_ARRAY(&arena, ml_tensor, inputs + 2);
	ml_tensor *out = ML_NEW_ARRAY(&arena, ml_tensor, results_of(to->d)); /* lent */
	ml_tensor *target = &in[inputs + reads];
	memcpy(in, b->in, (size_t)inputs * sizeof *in);
	ml_status st = reads ? ml_stream_get(&f->read, n, &arena, &in[inputs]) : ML_OK;
	if (st == ML_OK)
		st = ml_stream_get(&f->target, n, &arena, target);
	if (st == ML_OK)
		st = exec->run_into(exec->user, student, in, out);
	if (st == ML_OK)
		add_sums(to, out, (int64_t)(target->bytes / sizeof(float)) / to->o);
	ml_arena_free(&arena);
	return st;
}

/* Sums over the samples: x of the layer in the student, e of `target` in the teacher minus `sum` in
 * the student; held-out samples apart. */
static ml_status
collect(ml_refit *f, const ml_node *layer, const ml_value *sum, ml_gram *fit, ml_gram *held)
{
	const ml_samples *samples = &f->p->samples;
	ml_runnable *student = NULL;
	bool reads;

	ml_status st = compile_student(f, layer, sum, &reads, &student);
	for (int i = 0; i < samples->batch.count && st == ML_OK; i++) {
		const ml_batch *b = ml_samples_spread(samples, i);
		ml_gram *to = b->held ? held : fit;
		int rows = b->held ? ROWS_HELD : f->p->rough ? ROWS_ROUGH : ROWS_FIT;
		if (to->rows < (double)(to->d * rows))
			st = run_batch(f, b, student, reads, to);
	}
	if (student)
		f->p->px->exec->free(f->p->px->exec->user, student);
	return st;
}

static ml_status
fit_layer(ml_refit *f, const ml_branch *branch, ml_node *n, ml_arena *arena)
{
	int64_t d, o;

	ml_matrix_size(n, &d, &o);
	ml_gram fit = ml_gram_new(arena, d, o), held = ml_gram_new(arena, d, o);
	ML_STEP(collect(f, n, &branch->sum->out[0], &fit, &held));
	double *dw = ML_NEW_ARRAY(arena, double, d *o), *db = ML_NEW_ARRAY(arena, double, o);
	if (!ml_gram_solve(&fit, PRIOR_ROWS * (double)d / fit.rows, arena, dw, db))
		return ML_OK;
	double left = ml_gram_remaining(&held, dw, db, arena);
	bool better = left < held.ee;
	ml_remark(f->p->px->cx, branch->sum->prov,
		  "refitted layer %d, %s: %.4g of held-out squares left from %.4g%s", branch->layer,
		  ml_branch_kind_name(branch->kind), left, held.ee, better ? "" : ": rejected");
	return better ? ml_matrix_change(n, dw, db, &n) : ML_OK;
}

ml_status
ml_refit_branch(ml_refit *f, const ml_branch *branch, const ml_value *target)
{
	ml_node *n = ml_last_layer(branch);
	int64_t d = 0, o;
	ml_arena arena;

	if (n)
		ml_matrix_size(n, &d, &o);
	if (!n || d > WIDEST)
		return ML_OK;
	ML_STEP(ml_stream_move(&f->read, f->student, branch->in));
	ML_STEP(ml_stream_move(&f->target, f->teacher, target));
	ml_arena_init(&arena, &f->p->px->cx->memory);
	ml_status st = fit_layer(f, branch, n, &arena);
	ml_arena_free(&arena);
	return st;
}
