/* whiten.c -- the bases in which layers are trained: those in which what they read has no direction
 * that outweighs the others.
 *
 * What a layer reads is its mean and a few directions more, most of all.  Steps of AdamW go along
 * the axes of the weights, and all of them share such a direction: a rate that results bear is too
 * low for what remains.  With c an inverse root of the products of x, the coordinates of c^-1 w
 * weigh alike, and that is where AdamW walks: c times the gradient goes in, c times its step comes
 * out.
 */
#include "../../ir/expand.h"
#include "distill.h"
#include <math.h>
#include <string.h>

enum {
	WIDEST = 512,  /* of what is read: a step in a basis costs as much as so many rows */
	SAMPLES = 512, /* that sums are taken of */
	ROUNDS = 20,   /* of Newton's iteration: each gains a factor of 2.25, then all digits */
};
/* Added to all squares, of the usual one: what is rare is not made up for without end. */
static const double RIDGE = 1;
static const double LEAST = 0.02; /* the usual square, of the mean one, should few be most of all */

/* What layers read, and the sum of its products. */
typedef struct input {
	ml_value *x;
	int64_t d;
	double *xx, *basis;
} input;

typedef struct whitening {
	ml_trainer *t;
	ml_arena *arena;
	ML_VEC(input) input;
} whitening;

/* ---- which ---- */

/* The layer that alone has this weight. */
static const ml_node *
layer_of(const ml_value *weight)
{
	const ml_node *n = weight->uses ? weight->uses->user : NULL;
	bool one = n && !weight->uses->next && n->op == ML_OP_linear && ml_in(n, 1) == weight;

	return one && weight->type.dtype == ML_f32 && weight->type.rank == 2 ? n : NULL;
}

/* Its number; -1: steps of this weight go along its axes. */
static int
input_of(whitening *w, const ml_value *weight)
{
	const ml_node *n = layer_of(weight);
	int64_t d;

	if (!n || !ml_dim_is_int(weight->type.dim[0], &d) || d < 2 || d > WIDEST)
		return -1;
	for (int i = 0; i < w->input.count; i++)
		if (w->input.at[i].x == ml_in(n, 0))
			return i;
	input one = {.x = ml_in(n, 0), .d = d};
	one.xx = ML_NEW_ARRAY(w->arena, double, d *d);
	one.basis = ML_NEW_ARRAY(w->t->arena, double, d *d);
	ML_PUSH(w->arena, w->input, one);
	return w->input.count - 1;
}

/* ---- sums ---- */

static ml_value *
products(ml_builder *b, ml_value *x)
{
	const int64_t row = 0;
	ml_dim shape[2] = {ml_dim_int(b->m->dims, 1), x->type.dim[x->type.rank - 1]};

	for (int i = 0; i + 1 < x->type.rank; i++)
		shape[0] = ml_dim_mul(b->m->dims, shape[0], x->type.dim[i]);
	x = ml_build_reshape(b, x, shape, 2);
	return ml_build_dot(b, x, x, NULL, NULL, 0, &row, &row, 1);
}

/* A copy of the student that gives the products of what its layers read. */
static ml_status
compile_sums(whitening *w, ml_runnable **r)
{
	const ml_exec *exec = w->t->px->exec;
	ml_module *m = ml_module_clone(w->t->student);
	ml_builder b = ml_builder_before(m->main->last);
	int n = w->input.count;
	ml_value **from = ML_NEW_ARRAY(&m->arena, ml_value *, n);
	ml_value **x = ML_NEW_ARRAY(&m->arena, ml_value *, n);

	for (int i = 0; i < n; i++)
		from[i] = w->input.at[i].x;
	ml_values_in(m, from, n, x, &m->arena);
	for (int i = 0; i < n; i++)
		x[i] = products(&b, x[i]);
	ml_status status = b.failed == ML_OK ? ml_module_set_outputs(m, x, n) : b.failed;
	if (status == ML_OK)
		status = exec->compile(exec->user, m, r);
	ml_module_free(m);
	return status;
}

static ml_status
add_sums(whitening *w, ml_runnable *r)
{
	const ml_exec *exec = w->t->px->exec;
	const ml_samples *s = &w->t->samples;
	int n = w->input.count;
	ml_tensor *out = ML_NEW_ARRAY(w->arena, ml_tensor, n);
	int64_t seen = 0;

	for (int i = 0; i < s->batch.count && seen < SAMPLES; i++) {
		const ml_batch *b = ml_samples_spread(s, i);
		if (b->held)
			continue;
		for (int k = 0; k < n; k++)
			out[k].data = NULL; /* lent */
		ML_STEP(exec->run_into(exec->user, r, b->in, out));
		for (int k = 0; k < n; k++) {
			const input *x = &w->input.at[k];
			for (int64_t e = 0; e < x->d * x->d; e++)
				x->xx[e] += (double)((const float *)out[k].data)[e];
		}
		seen += b->samples;
	}
	return ML_OK;
}

/* ---- the inverse root ---- */

static ml_value *
unit(ml_builder *b, const ml_type *type, int64_t d)
{
	void *bytes;
	ml_blob *blob = ml_blob_new(b->m->arena.memory, (uint64_t)(d * d) * sizeof(float), &bytes);

	memset(bytes, 0, (size_t)(d * d) * sizeof(float));
	for (int64_t i = 0; i < d; i++)
		((float *)bytes)[i * d + i] = 1;
	return ml_build_const(b, type, blob);
}

/* Newton and Schulz, for a norm below 1: y becomes a's root, z the inverse of that. */
static ml_status
build_root(ml_module *m, int64_t d)
{
	ml_dim n = ml_dim_int(m->dims, d);
	ml_type type = {.dtype = ML_f32, .rank = 2, .dim = {n, n}};
	ml_value *y = ml_block_add_arg(m->main, &type, "a");
	ml_builder b = ml_builder_at_end(m->main, NULL);
	ml_value *one = unit(&b, &type, d), *z = one;

	for (int i = 0; i < ROUNDS; i++) {
		ml_value *zy = ml_op_number(&b, ML_OP_mul, ml_build_matmul(&b, z, y), 0.5);
		ml_value *t = ml_op2(&b, ML_OP_sub, ml_op_number(&b, ML_OP_mul, one, 1.5), zy);
		y = ml_build_matmul(&b, y, t);
		z = ml_build_matmul(&b, t, z);
	}
	ML_PUSH(&m->arena, m->output_names, ml_strdup(&m->arena, "z"));
	ML_STEP(b.failed);
	return ml_build_yield(&b, &z, 1);
}

static ml_status
run_root(whitening *w, int64_t d, float *a)
{
	const ml_exec *exec = w->t->px->exec;
	size_t bytes = (size_t)(d * d) * sizeof *a;
	ml_tensor in = {.dtype = ML_f32, .rank = 2, .dim = {d, d}, .data = a, .bytes = bytes};
	ml_tensor out;
	ml_module *m = ml_module_new(w->t->px->cx, "root");
	ml_runnable *r;

	ml_status status = build_root(m, d);
	if (status == ML_OK)
		status = exec->compile(exec->user, m, &r);
	ml_module_free(m);
	ML_STEP(status);
	status = exec->run(exec->user, r, &in, &out, w->arena);
	if (status == ML_OK)
		memcpy(a, out.data, bytes);
	exec->free(exec->user, r);
	return status;
}

/* The geometric mean of what a symmetric matrix stretches by, which is destroyed. */
static double
usual_stretch(double *a, int64_t d)
{
	double sum = 0;

	for (int64_t k = 0; k < d; k++) {
		const double *pivot = &a[k * d];
		sum += log(pivot[k]);
		for (int64_t i = k + 1; i < d; i++) {
			double f = a[i * d + k] / pivot[k];
			for (int64_t j = k + 1; j < d; j++)
				a[i * d + j] -= f * pivot[j];
		}
	}
	return exp(sum / (double)d);
}

/* 1 where x is as usual, less where there is more of it.  Without any x the basis is the axes. */
static ml_status
find_basis(whitening *w, input *x)
{
	int64_t d = x->d, n = d * d;
	double mean = 0, *copy = ML_NEW_ARRAY(w->arena, double, n);
	float *a = ML_NEW_ARRAY(w->arena, float, n);

	for (int64_t i = 0; i < d; i++)
		mean += x->xx[i * d + i] / (double)d;
	bool none = !(mean > 0) || !isfinite(mean);
	for (int64_t i = 0; i < n; i++)
		copy[i] = none ? i % (d + 1) == 0 : x->xx[i] / mean;
	for (int64_t i = 0; i < d && !none; i++)
		copy[i * d + i] += 1e-4; /* the pivots stay positive */
	memcpy(x->xx, copy, (size_t)n * sizeof *copy);
	double usual = usual_stretch(copy, d);
	usual = usual > LEAST ? usual : LEAST;
	double norm = 1.01 * (double)d + RIDGE * usual; /* no less than the greatest */
	for (int64_t i = 0; i < n; i++)
		a[i] = (float)((x->xx[i] + (i % (d + 1) ? 0 : RIDGE * usual)) / norm);
	ML_STEP(run_root(w, d, a));
	double scale = sqrt((1 + RIDGE) * usual / norm);
	for (int64_t i = 0; i < n; i++)
		x->basis[i] = (double)a[i] * scale;
	return ML_OK;
}

static ml_status
find_bases(whitening *w)
{
	const ml_exec *exec = w->t->px->exec;
	ml_runnable *sums;

	ML_STEP(compile_sums(w, &sums));
	ml_status status = add_sums(w, sums);
	exec->free(exec->user, sums);
	for (int i = 0; i < w->input.count && status == ML_OK; i++)
		status = find_basis(w, &w->input.at[i]);
	return status;
}

ml_status
ml_find_bases(ml_trainer *t, const double ***bases)
{
	int n = t->weights.constant.count;
	int *which = ML_NEW_ARRAY(t->arena, int, n + 1);
	ml_status status = ML_OK;
	ml_arena arena;

	*bases = ML_NEW_ARRAY(t->arena, const double *, n + 1);
	ml_arena_init(&arena, &t->px->cx->memory);
	whitening w = {.t = t, .arena = &arena};
	for (int i = 0; i < n; i++)
		which[i] = input_of(&w, t->weights.constant.at[i]);
	if (w.input.count)
		status = find_bases(&w);
	for (int i = 0; i < n; i++)
		(*bases)[i] = which[i] < 0 ? NULL : w.input.at[which[i]].basis;
	ml_arena_free(&arena);
	return status;
}
