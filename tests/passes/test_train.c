/* test_train.c -- loss terms, clipping, schedule and AdamW against plain loops in double. */
#include "ir/grad.h"
#include "passes/distill/train.h"
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>
#include <cmocka.h>

enum { ROWS = 4, K = 5 };

typedef struct bench {
	ml_context cx;
	ml_module *m;
	ml_builder b;
} bench;

static void
open_bench(bench *t)
{
	*t = (bench){.cx.memory = ml_memory_libc()};
	ml_arena_init(&t->cx.arena, &t->cx.memory);
	t->m = ml_module_new(&t->cx, "train");
	t->b = ml_builder_at_end(t->m->main, NULL);
}

static void
close_bench(bench *t)
{
	ml_module_free(t->m);
	ml_arena_free(&t->cx.arena);
}

static ml_value *
input(bench *t, int rank, int64_t rows, int64_t columns)
{
	ml_type type = {.dtype = ML_f64, .rank = rank};

	type.dim[0] = ml_dim_int(t->m->dims, rows);
	type.dim[1] = ml_dim_int(t->m->dims, columns);
	return ml_block_add_arg(t->m->main, &type, "x");
}

static ml_tensor
tensor(int rank, int64_t rows, int64_t columns, double *x)
{
	int64_t count = (rank > 0 ? rows : 1) * (rank > 1 ? columns : 1);

	return (ml_tensor){ML_f64, rank, {rows, columns}, x, (size_t)count * sizeof *x};
}

static void
finish(bench *t, ml_value *const *result, int n, const ml_tensor *in, ml_tensor *out)
{
	for (int i = 0; i < n; i++) {
		assert_non_null(result[i]);
		ML_PUSH(&t->m->arena, t->m->output_names, "y");
	}
	assert_int_equal(ml_build_yield(&t->b, result, n), ML_OK);
	assert_int_equal(ml_verify(t->m), ML_OK);
	assert_int_equal(ml_evaluate(t->m, in, out, &t->cx.arena, NULL), ML_OK);
}

static double
at(const ml_tensor *t, int i)
{
	return ((const double *)t->data)[i];
}

static void
expect_close(double got, double want)
{
	if (!(fabs(got - want) <= 1e-12 * fmax(1, fabs(want))))
		fail_msg("%.17g instead of %.17g", got, want);
}

static void
fill(double *x, int n, double seed)
{
	for (int i = 0; i < n; i++)
		x[i] = 2 * sin(seed + 1.7 * i);
}

/* ---- losses ---- */

static double
row_kl(const double *t, const double *s, double temperature)
{
	double zt = 0, zs = 0, kl = 0;

	for (int k = 0; k < K; k++) {
		zt += exp(t[k] / temperature);
		zs += exp(s[k] / temperature);
	}
	for (int k = 0; k < K; k++)
		kl += exp(t[k] / temperature) / zt *
		      ((t[k] - s[k]) / temperature - log(zt) + log(zs));
	return kl * temperature * temperature;
}

static double
row_mse(const double *t, const double *s, double unused)
{
	double sum = 0;

	(void)unused;
	for (int k = 0; k < K; k++)
		sum += (t[k] - s[k]) * (t[k] - s[k]);
	return sum / K;
}

static double
row_cosine(const double *t, const double *s, double unused)
{
	double tt = 0, ss = 0, ts = 0;

	(void)unused;
	for (int k = 0; k < K; k++) {
		tt += t[k] * t[k];
		ss += s[k] * s[k];
		ts += t[k] * s[k];
	}
	return 1 - ts / sqrt(tt * ss);
}

typedef double row_loss(const double *, const double *, double);

static ml_value *
build_loss(bench *t, row_loss *f, ml_value *x, ml_value *y, ml_value *w)
{
	return f == row_kl    ? ml_loss_kl(&t->b, x, y, 2, w)
	       : f == row_mse ? ml_loss_mse(&t->b, x, y, w)
			      : ml_loss_cosine(&t->b, x, y, w);
}

static void
check_loss(row_loss *f, bool weighted)
{
	double x[ROWS * K], y[ROWS * K], w[ROWS] = {1, 0, 0.5, 1}, sum = 0, weights = 0;
	bench t;
	ml_tensor out[2];

	fill(x, ROWS * K, 1);
	fill(y, ROWS * K, 2);
	open_bench(&t);
	ml_value *teacher = input(&t, 2, ROWS, K), *student = input(&t, 2, ROWS, K);
	ml_value *weight = input(&t, 2, ROWS, 1);
	ml_value *result[] = {build_loss(&t, f, teacher, student, weighted ? weight : NULL),
			      build_loss(&t, f, teacher, teacher, weighted ? weight : NULL)};
	finish(&t, result, 2,
	       (ml_tensor[]){tensor(2, ROWS, K, x), tensor(2, ROWS, K, y), tensor(2, ROWS, 1, w)},
	       out);
	for (int i = 0; i < ROWS; i++) {
		double by = weighted ? w[i] : 1;
		sum += by * f(x + i * K, y + i * K, 2);
		weights += by;
	}
	expect_close(at(&out[0], 0), sum / weights);
	assert_true(at(&out[1], 0) == 0); /* exactly */
	close_bench(&t);
}

static void
test_losses(void **state)
{
	(void)state;
	for (int weighted = 0; weighted < 2; weighted++) {
		check_loss(row_kl, weighted);
		check_loss(row_mse, weighted);
		check_loss(row_cosine, weighted);
	}
}

/* The gradient of the KL by the student is T (q - p) / rows; at equal logits it is nothing. */
static void
test_gradient_of_kl(void **state)
{
	double x[ROWS * K], y[ROWS * K];
	ml_value *student, *gradient;
	ml_tensor out;
	bench t;

	(void)state;
	fill(x, ROWS * K, 1);
	fill(y, ROWS * K, 2);
	memcpy(y, x, K * sizeof *x);
	open_bench(&t);
	ml_value *teacher = input(&t, 2, ROWS, K);
	student = input(&t, 2, ROWS, K);
	ml_value *loss = ml_loss_kl(&t.b, teacher, student, 2, NULL);
	assert_int_equal(ml_grad(t.m, loss, &student, 1, &gradient), ML_OK);
	finish(&t, &gradient, 1, (ml_tensor[]){tensor(2, ROWS, K, x), tensor(2, ROWS, K, y)}, &out);
	for (int i = 0; i < ROWS; i++) {
		double zx = 0, zy = 0;
		for (int k = 0; k < K; k++) {
			zx += exp(x[i * K + k] / 2);
			zy += exp(y[i * K + k] / 2);
		}
		for (int k = 0; k < K; k++)
			expect_close(at(&out, i * K + k),
				     2 * (exp(y[i * K + k] / 2) / zy - exp(x[i * K + k] / 2) / zx) /
					     ROWS);
	}
	close_bench(&t);
}

/* ---- the step ---- */

static void
plain_adamw(const ml_adamw *o, double rate, double step, double clip, const double *g, double *p,
	    double *m, double *v, int n)
{
	for (int i = 0; i < n; i++) {
		double d = g[i] * clip;
		m[i] = o->beta1 * m[i] + (1 - o->beta1) * d;
		v[i] = o->beta2 * v[i] + (1 - o->beta2) * d * d;
		p[i] *= 1 - rate * o->decay;
		p[i] -= rate / (1 - pow(o->beta1, step)) * m[i] /
			(sqrt(v[i]) / sqrt(1 - pow(o->beta2, step)) + o->eps);
	}
}

static void
check_step(double step, double limit)
{
	static const ml_adamw o = {.beta1 = 0.9, .beta2 = 0.999, .eps = 1e-8, .decay = 0.01};
	double p[K], g[K], m[K], v[K], g2[ROWS], total = 40, norm = 0, rate;
	ml_tensor out[6];
	ml_value *result[6];
	bench t;

	fill(p, K, 1);
	fill(g, K, 2);
	fill(m, K, 3);
	fill(v, K, 4);
	fill(g2, ROWS, 5);
	for (int i = 0; i < K; i++) {
		v[i] *= v[i];
		norm += g[i] * g[i];
	}
	for (int i = 0; i < ROWS; i++)
		norm += g2[i] * g2[i];
	norm = sqrt(norm);
	rate = 2e-3 * fmin(fmin(1, step / 10), (total - step + 1) / 30);
	open_bench(&t);
	ml_value *vp = input(&t, 1, K, 0), *vg = input(&t, 1, K, 0), *vm = input(&t, 1, K, 0);
	ml_value *vv = input(&t, 1, K, 0), *vg2 = input(&t, 1, ROWS, 0);
	ml_value *vstep = input(&t, 0, 0, 0), *vtotal = input(&t, 0, 0, 0);
	result[3] = ml_gradient_norm(&t.b, (ml_value *[]){vg, vg2}, 2);
	result[4] = ml_clip_factor(&t.b, result[3], limit, ML_f64);
	result[5] = ml_learning_rate(&t.b, vstep, vtotal, ml_build_f64(&t.b, ML_f64, 2e-3), 0.25);
	assert_true(ml_build_adamw(
		&t.b, &o, &(ml_adamw_step){.rate = result[5], .step = vstep, .clip = result[4]}, vp,
		vg, vm, vv, result));
	finish(&t, result, 6,
	       (ml_tensor[]){tensor(1, K, 0, p), tensor(1, K, 0, g), tensor(1, K, 0, m),
			     tensor(1, K, 0, v), tensor(1, ROWS, 0, g2), tensor(0, 0, 0, &step),
			     tensor(0, 0, 0, &total)},
	       out);
	expect_close(at(&out[3], 0), norm);
	expect_close(at(&out[4], 0), fmin(1, limit / norm));
	expect_close(at(&out[5], 0), rate);
	plain_adamw(&o, rate, step, fmin(1, limit / norm), g, p, m, v, K);
	for (int i = 0; i < K; i++) {
		expect_close(at(&out[0], i), p[i]);
		expect_close(at(&out[1], i), m[i]);
		expect_close(at(&out[2], i), v[i]);
	}
	close_bench(&t);
}

static void
test_step(void **state)
{
	(void)state;
	check_step(1, 1);
	check_step(7, 100);
	check_step(10, 1);
	check_step(40, 1);
}

/* ---- the whole step as a module ---- */

enum { STEPS = 5 };

/* Least squares: the gradient by w is 2 x (x w - y) / ROWS. */
static const char least_squares[] =
	"module \"fit\" {\n in %x : f64[n, 5]\n in %y : f64[n, 1]\n"
	" %w \"w\" = const {1, -1, 0.5, 0.25, 2} : f64[5, 1]\n"
	" %p = linear %x, %w : f64[n, 1]\n %d = sub %p, %y : f64[n, 1]\n"
	" %s = mul %d, %d : f64[n, 1]\n %l = reduce_mean %s {axes = [0, 1]} : f64[1, 1]\n"
	" out \"loss\" = %l\n}";

static double
plain_gradient(const double *x, const double *y, const double *w, double *g)
{
	double loss = 0;

	memset(g, 0, K * sizeof *g);
	for (int i = 0; i < ROWS; i++) {
		double d = -y[i];
		for (int k = 0; k < K; k++)
			d += x[i * K + k] * w[k];
		loss += d * d / ROWS;
		for (int k = 0; k < K; k++)
			g[k] += 2 * x[i * K + k] * d / ROWS;
	}
	return loss;
}

static double
norm_of(const double *g)
{
	double sum = 0;

	for (int k = 0; k < K; k++)
		sum += g[k] * g[k];
	return sqrt(sum);
}

/* AdamW in the coordinates of the basis' columns, or along the axes. */
static void
step_in_basis(const ml_adamw *o, const double *basis, double rate, double step, double clip,
	      const double *g, double *w, double *m, double *v)
{
	const ml_adamw plain = {o->beta1, o->beta2, o->eps, 0};
	double turned[K] = {0}, change[K] = {0};

	if (!basis) {
		plain_adamw(o, rate, step, clip, g, w, m, v, K);
		return;
	}
	for (int i = 0; i < K * K; i++)
		turned[i / K] += basis[i] * g[i % K];
	plain_adamw(&plain, rate, step, clip, turned, change, m, v, K);
	for (int i = 0; i < K; i++)
		w[i] *= 1 - rate * o->decay;
	for (int i = 0; i < K * K; i++)
		w[i / K] += basis[i] * change[i % K];
}

static void
check_training(const double *basis)
{
	ml_train_options o = {.adamw = {.beta1 = 0.9, .beta2 = 0.99, .eps = 1e-8, .decay = 0.1},
			      .warmup = 0.4,
			      .clip = 1};
	double x[ROWS * K], y[ROWS], total = STEPS, peak = 0.05, w[K] = {1, -1, 0.5, 0.25, 2},
				     m[K] = {0};
	double v[K] = {0}, w2[K], m2[K] = {0}, v2[K] = {0}, g[K], last = INFINITY;
	ml_module *fit, *step;
	bench t;

	o.basis = basis ? &basis : NULL;
	fill(x, ROWS * K, 1);
	fill(y, ROWS, 2);
	memcpy(w2, w, sizeof w);
	open_bench(&t);
	assert_int_equal(ml_parse(&t.cx, least_squares, strlen(least_squares), NULL, NULL, &fit),
			 ML_OK);
	const ml_value *weight = &fit->main->first->out[0];
	assert_int_equal(ml_train_step(fit, 0, &weight, 1, &o, &step), ML_OK);
	assert_int_equal(ml_verify(step), ML_OK);
	assert_string_equal(step->output_names.at[3], "next first moment of w");
	for (double at_step = 1; at_step <= STEPS; at_step++) {
		ml_tensor in[] = {tensor(2, ROWS, K, x),   tensor(2, ROWS, 1, y),
				  tensor(2, K, 1, w),      tensor(2, K, 1, m),
				  tensor(2, K, 1, v),      tensor(0, 0, 0, &at_step),
				  tensor(0, 0, 0, &total), tensor(0, 0, 0, &peak)};
		ml_tensor out[5];
		assert_int_equal(ml_evaluate(step, in, out, &t.cx.arena, NULL), ML_OK);
		double loss = plain_gradient(x, y, w2, g), norm = norm_of(g);
		double rate = peak * fmin(fmin(1, at_step / 2), (total - at_step + 1) / 3);
		step_in_basis(&o.adamw, basis, rate, at_step, fmin(1, 1 / norm), g, w2, m2, v2);
		expect_close(at(&out[0], 0), loss);
		expect_close(at(&out[1], 0), norm);
		assert_true(loss < last);
		last = loss;
		memcpy(w, out[2].data, sizeof w);
		memcpy(m, out[3].data, sizeof m);
		memcpy(v, out[4].data, sizeof v);
		for (int k = 0; k < K; k++)
			expect_close(w[k], w2[k]);
	}
	assert_int_equal(
		ml_train_step(fit, 0, (const ml_value *const *)fit->main->arg, 1, &o, &step),
		ML_ERR_ARG);
	ml_module_free(step);
	ml_module_free(fit);
	close_bench(&t);
}

static void
test_training(void **state)
{
	double basis[K * K];

	(void)state;
	check_training(NULL);
	for (int i = 0; i < K * K; i++)
		basis[i] = i % (K + 1) ? 0.1 / (1 + i / K + i % K) : 1 + 0.1 * i / K;
	check_training(basis);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_losses),
		cmocka_unit_test(test_gradient_of_kl),
		cmocka_unit_test(test_step),
		cmocka_unit_test(test_training),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
