/* fisher.c -- what the model loses with each unit by Fisher information: half of the square by
 * which results go when the unit goes, in first order, from one run forward and backward.
 *
 * The teacher is at a minimum of the KL to itself: its gradient is zero and says nothing.  The
 * curvature does, and needs no labels: the results are drawn along a random direction u with E[u
 * u'] the curvature of the loss, and what a unit's going does to that sum, g . (in - out), is
 * squared sample by sample.  Of logits z with p = softmax(z) the sum is 2 eps . sqrt(p), whose
 * gradient sqrt(p) eps - p (sqrt(p) . eps) has the covariance diag(p) - p p'; eps is normal.  Of
 * rows that are directions it is eps . y / |y| with random signs, of other numbers eps . y.
 */
#include "../../ir/expand.h"
#include "../../ir/grad.h"
#include "../distill/distill.h"
#include "prune.h"
#include <math.h>

enum {
	MOST_SAMPLES = 512,
	MOST_DRAWS = 64,
	MOST_NUMBERS = 1 << 13, /* of integer inputs: tokens, say */
	DIRECTION = 8,          /* elements of a row that has one, as agree.c has it */
};
static const double COSINES = 10; /* the error of a cosine, as agree.c has it */

typedef struct fisher {
	ml_pruning *p;
	ML_VEC(int) output; /* those that count */
	uint64_t random;
	ml_runnable *run;
	int64_t samples, numbers;
	double rows; /* of the results */
	double *sum; /* of squares, of each unit */
} fisher;

/* ---- what is run ---- */

static const ml_agree_output *
agree_of(const fisher *f, int i)
{
	return &f->p->samples.agree.output[f->output.at[i]];
}

/* A result of rows that directions tell apart. */
static bool
has_direction(const ml_agree_output *o, const ml_type *t)
{
	int64_t last;

	return o->kind == ML_AGREE_VALUES && t->rank && ml_dim_is_int(t->dim[t->rank - 1], &last) &&
	       last >= DIRECTION;
}

/* Those that the error looks at and that gradients can pass. */
static void
find_outputs(fisher *f)
{
	const ml_agree *agree = &f->p->samples.agree;
	const ml_node *yield = f->p->m->main->last;

	for (int i = 0; i < agree->outputs; i++) {
		const ml_value *v = ml_in(yield, i);
		bool value = agree->output[i].kind == ML_AGREE_VALUES;
		if (!v->def || !ml_is_float(v->type.dtype) || (value && agree->decides))
			continue;
		if (value && ml_is_cache(v))
			continue;
		ML_PUSH(f->p->arena, f->output, i);
	}
}

/* What random numbers of the result's type are multiplied with. */
static ml_value *
drawn(ml_builder *b, const ml_agree_output *o, ml_value *y)
{
	int64_t last = y->type.rank - 1;

	if (has_direction(o, &y->type)) {
		ml_value *square = ml_op2(b, ML_OP_mul, y, y);
		square = ml_build_reduce(b, ML_OP_reduce_sum, square, &last, 1);
		return ml_op2(b, ML_OP_div, y, ml_op1(b, ML_OP_sqrt, square));
	}
	if (o->kind == ML_AGREE_VALUES)
		return y;
	ml_value *log_p = ml_log_softmax(b, ml_logits_of(y), 1);
	log_p = ml_op_number(b, ML_OP_mul, log_p, 0.5);
	return ml_op_number(b, ML_OP_mul, ml_op1(b, ML_OP_exp, log_p), 2);
}

static ml_value *
sum_behind(ml_builder *b, ml_value *x, int first)
{
	int64_t axes[ML_MAX_RANK], n = 0;

	for (int i = first; x && i < x->type.rank; i++)
		axes[n++] = i;
	return n ? ml_build_reduce(b, ML_OP_reduce_sum, x, axes, (int)n) : x;
}

/* All results along their random numbers, which are further inputs. */
static ml_value *
draw_results(const fisher *f, ml_builder *b, ml_module *m)
{
	ml_value *sum = NULL;

	for (int i = 0; i < f->output.count; i++) {
		ml_value *y = ml_in(m->main->last, f->output.at[i]);
		ml_type type = y->type;
		type.dtype = ML_f32;
		y = drawn(b, agree_of(f, i), ml_build_cast(b, y, ML_f32));
		if (!y)
			return NULL;
		ml_value *eps = ml_block_add_arg(m->main, &type, ml_format(&m->arena, "eps %d", i));
		y = sum_behind(b, ml_op2(b, ML_OP_mul, y, eps), 0);
		y = y ? ml_build_reshape(b, y, NULL, 0) : NULL;
		sum = sum ? ml_op2(b, ML_OP_add, sum, y) : y;
	}
	return sum;
}

/* Where a unit's going shows, and what is there instead of it. */
typedef struct spot {
	ml_value *at, *in, *term;
} spot;

static spot
spot_of(const ml_blocks *blocks, const ml_prunable *u)
{
	const ml_branch *b = &blocks->branch.at[u->first], *end = b + u->count - 1;
	bool shared = false;

	for (int i = 0; i < blocks->branch.count && u->count == 1; i++)
		shared |= i != u->first && blocks->branch.at[i].sum == b->sum;
	if (shared)
		return (spot){.at = &b->sum->out[0], .term = b->term};
	return (spot){.at = end->out, .in = b->in};
}

static int
place_of(ml_value *const *all, int n, const ml_value *v)
{
	int i = 0;

	while (i < n && all[i] != v)
		i++;
	return i;
}

/* g . (in - out), of each sample where the first axis is theirs, else of all. */
static ml_value *
moved(ml_builder *b, const spot *s, ml_value *gradient, ml_dim samples)
{
	ml_value *d = s->term ? s->term : ml_op2(b, ML_OP_sub, s->in, s->at);

	d = d ? ml_op2(b, ML_OP_mul, gradient, d) : NULL;
	return d ? sum_behind(b, d, d->type.rank && d->type.dim[0] == samples) : NULL;
}

static ml_status
make(const fisher *f, ml_module *m)
{
	ml_builder b = ml_builder_before(m->main->last);
	int units = f->p->units, n = 0;
	ml_dim samples = f->p->samples.together ? m->main->arg[0]->type.dim[0] : NULL;
	ml_value **at = ML_NEW_ARRAY(&m->arena, ml_value *, units);
	ml_value **gradient = ML_NEW_ARRAY(&m->arena, ml_value *, units);
	ml_value **result = ML_NEW_ARRAY(&m->arena, ml_value *, units);
	ml_blocks blocks;

	ml_find_blocks(m, &m->arena, &blocks);
	ml_value *sum = draw_results(f, &b, m);
	ML_STEP(b.failed);
	for (int i = 0; i < units; i++) {
		ml_value *v = spot_of(&blocks, &f->p->unit[i]).at;
		if (place_of(at, n, v) == n)
			at[n++] = v;
	}
	ML_STEP(ml_grad(m, sum, at, n, gradient));
	b = ml_builder_before(m->main->last);
	for (int i = 0; i < units; i++) {
		spot s = spot_of(&blocks, &f->p->unit[i]);
		result[i] = moved(&b, &s, gradient[place_of(at, n, s.at)], samples);
	}
	ML_STEP(b.failed);
	ML_STEP(ml_module_set_outputs(m, result, units));
	ml_drop_unused(m->main);
	return ML_OK;
}

static ml_status
compile(fisher *f)
{
	const ml_exec *exec = f->p->px->exec;
	ml_module *m = ml_module_clone(f->p->m);
	ml_status st = make(f, m);

	if (st == ML_OK)
		st = exec->compile(exec->user, m, &f->run);
	ml_module_free(m);
	return st;
}

/* ---- random numbers ---- */

static double
uniform(fisher *f)
{
	return ((double)(ml_random(&f->random) >> 11) + 0.5) * 0x1p-53;
}

/* Box and Muller. */
static double
normal(fisher *f)
{
	double r = sqrt(-2 * log(uniform(f)));

	return r * cos(2 * M_PI * uniform(f));
}

static int64_t
count_of(const ml_tensor *t)
{
	int64_t n = 1;

	for (int i = 0; i < t->rank; i++)
		n *= t->dim[i];
	return n;
}

/* The mean square of the rows of numbers that have no direction: they count as one vector. */
static double
mean_square(const ml_tensor *y, int64_t rows)
{
	double sum = 0;

	for (int64_t i = 0; i < count_of(y); i++) {
		double v = ml_read_f64(y->dtype, y->data, i);
		sum += v * v;
	}
	return sum / (double)rows;
}

/* Numbers for a result of a batch; zeros for rows that are padding. */
static ml_tensor
draw_numbers(fisher *f, int i, const ml_tensor *inputs, const ml_tensor *y, ml_arena *arena)
{
	const ml_agree_output *o = agree_of(f, i);
	const ml_type *type = &ml_in(f->p->m->main->last, f->output.at[i])->type;
	int64_t n = count_of(y), length = y->rank ? y->dim[y->rank - 1] : 1;
	int64_t rows = n / (length ? length : 1);
	bool signs = o->kind == ML_AGREE_VALUES;
	double factor = signs ? sqrt(COSINES) : 1;
	ml_tensor t = *y;

	if (signs && rows && !has_direction(o, type)) {
		double square = mean_square(y, rows);
		factor = square > 0 ? factor / sqrt(square) : 0;
	}
	t.dtype = ML_f32;
	t.bytes = (size_t)n * sizeof(float);
	t.data = ml_alloc(arena, t.bytes + 1);
	for (int64_t r = 0; r < rows; r++) {
		bool counts = ml_agree_counts_row(o, inputs, y, r);
		f->rows += counts;
		for (int64_t k = 0; k < length; k++) {
			double eps = !signs ? normal(f) : ml_random(&f->random) >> 63 ? 1 : -1;
			((float *)t.data)[r * length + k] = (float)(counts ? factor * eps : 0);
		}
	}
	return t;
}

/* ---- sums ---- */

static void
add_squares(fisher *f, const ml_tensor *moved)
{
	for (int i = 0; i < f->p->units; i++)
		for (int64_t k = 0; k < count_of(&moved[i]); k++) {
			double a = ml_read_f64(ML_f32, moved[i].data, k);
			f->sum[i] += a * a;
		}
}

static ml_status
run_batch(fisher *f, const ml_batch *b)
{
	const ml_exec *exec = f->p->px->exec;
	int inputs = f->p->m->main->nargs, n = f->output.count;
	ml_arena arena;

	ml_arena_init(&arena, &f->p->px->cx->memory);
	ml_tensor *y = ML_NEW_ARRAY(&arena, ml_tensor, f->p->samples.agree.outputs + 1);
	ml_tensor *in = ML_NEW_ARRAY(&arena, ml_tensor, inputs + n + 1);
	ml_tensor *out = ML_NEW_ARRAY(&arena, ml_tensor, f->p->units + 1);
	ml_status st = exec->run(exec->user, f->p->samples.teacher, b->in, y, &arena);
	for (int i = 0; i < inputs; i++) {
		in[i] = b->in[i];
		f->numbers += ml_is_integer(in[i].dtype) ? count_of(&in[i]) : 0;
	}
	for (int i = 0; i < n && st == ML_OK; i++)
		in[inputs + i] = draw_numbers(f, i, b->in, &y[f->output.at[i]], &arena);
	if (st == ML_OK)
		st = exec->run(exec->user, f->run, in, out, &arena);
	if (st == ML_OK)
		add_squares(f, out);
	f->samples += b->samples;
	ml_arena_free(&arena);
	return st;
}

/* What is held out judges, and is left alone.  Few samples are drawn for again. */
static ml_status
run_batches(fisher *f)
{
	const ml_samples *s = &f->p->samples;

	for (int draw = 0; draw < MOST_DRAWS; draw++)
		for (int i = 0; i < s->batch.count; i++) {
			const ml_batch *b = ml_samples_spread(s, i);
			bool room = f->samples + b->samples <= MOST_SAMPLES &&
				    f->numbers < MOST_NUMBERS;
			if (!b->held && (room || !f->samples))
				ML_STEP(run_batch(f, b));
		}
	for (int i = 0; i < f->p->units && f->rows > 0; i++)
		f->p->unit[i].fisher = f->sum[i] / f->rows / 2;
	return ML_OK;
}

ml_status
ml_prune_fisher(ml_pruning *p)
{
	fisher f = {.p = p, .random = 1, .sum = ML_NEW_ARRAY(p->arena, double, p->units + 1)};

	for (int i = 0; i < p->units; i++)
		p->unit[i].fisher = NAN;
	find_outputs(&f);
	if (!f.output.count || !p->units)
		return ML_OK;
	ML_STEP(ml_prune_tell(p, "following gradients"));
	ML_STEP(compile(&f));
	ml_status st = run_batches(&f);
	p->px->exec->free(p->px->exec->user, f.run);
	return st;
}
