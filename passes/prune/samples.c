/* samples.c -- reads calibration samples, cuts padding, batches what has one shape. */
#include "samples.h"
#include "../samples.h"
#include <math.h>
#include <stdlib.h>
#include <string.h>

enum {
	MOST_SAMPLES = 2000,
	MOST_BYTES = 1 << 28, /* of inputs; of the teacher's outputs */
	BATCH = 32,
	TRIALS = 6,      /* samples that cutting is tried on */
	TIMED_RUNS = 11, /* whose median counts, */
	MOST_TIMED = 20, /* and the least of so many medians, */
};
static const double TIMED_SECONDS = 0.1; /* but no longer than this */

typedef struct one {
	ml_tensor *in;
	int64_t index;
	size_t bytes;
} one;

typedef struct reader {
	ml_pass_ctx *px;
	const ml_module *m;
	ml_samples *s;
	int inputs;
	ML_VEC(one) sample;
} reader;

/* ---- reading ---- */

/* Inputs and outputs share a first dim that is no number. */
static bool
takes_batches(const ml_module *m)
{
	const ml_node *yield = m->main->last;
	ml_dim first = NULL;

	for (int i = 0; i < m->main->nargs + yield->nin; i++) {
		const ml_value *v =
			i < m->main->nargs ? m->main->arg[i] : ml_in(yield, i - m->main->nargs);
		if (!v->type.rank || (first && v->type.dim[0] != first))
			return false;
		first = v->type.dim[0];
	}
	return first && !ml_dim_is_int(first, NULL);
}

static ml_status
read_all(reader *r)
{
	const ml_data *data = r->px->data;
	ml_arena *arena = r->s->arena;
	ml_tensor *lent = ML_NEW_ARRAY(arena, ml_tensor, r->inputs + 1);
	size_t total = 0;
	bool there = true;

	for (int64_t i = 0; i < MOST_SAMPLES && total < MOST_BYTES; i++) {
		ML_STEP(data->sample(data->user, r->m, i, lent, &there));
		if (!there)
			break;
		one s = {.in = ML_NEW_ARRAY(arena, ml_tensor, r->inputs + 1), .index = i};
		for (int k = 0; k < r->inputs; k++) {
			s.in[k] = lent[k];
			s.in[k].data = ml_alloc(arena, lent[k].bytes);
			if (lent[k].bytes)
				memcpy(s.in[k].data, lent[k].data, lent[k].bytes);
			s.bytes += lent[k].bytes;
		}
		total += s.bytes;
		ML_PUSH(arena, r->sample, s);
	}
	return ML_OK;
}

/* ---- cutting padding ---- */

/* How much of an axis remains when zeros behind it go. */
static int64_t
used_length(const ml_tensor *t, int axis)
{
	int64_t inner = 1, outer = 1, n = t->dim[axis], used = 0;
	size_t bytes;

	for (int i = 0; i < t->rank; i++)
		*(i < axis ? &outer : &inner) *= i == axis ? 1 : t->dim[i];
	bytes = (size_t)inner * (size_t)ml_dtype_bytes(t->dtype);
	for (int64_t o = 0; o < outer; o++)
		for (int64_t i = n - 1; i >= used; i--) {
			const char *at = (const char *)t->data + (size_t)(o * n + i) * bytes;
			bool zero = true;
			for (size_t k = 0; k < bytes && zero; k++)
				zero = !at[k];
			if (!zero)
				used = i + 1;
		}
	return used;
}

/* The prefix of an axis. */
static void
cut_axis(ml_tensor *t, int axis, int64_t length)
{
	size_t inner = (size_t)ml_dtype_bytes(t->dtype), outer = 1;
	size_t n = (size_t)t->dim[axis], left = (size_t)length;
	char *at = t->data;

	for (int i = 0; i < t->rank; i++)
		*(i < axis ? &outer : &inner) *= i == axis ? 1 : (size_t)t->dim[i];
	for (size_t o = 0; o < outer; o++)
		memmove(at + o * left * inner, at + o * n * inner, left * inner);
	t->dim[axis] = length;
	t->bytes = outer * left * inner;
}

/* A size that only integer inputs have, and not in front. */
static bool
may_cut(const reader *r, ml_dim d)
{
	for (int i = 0; i < r->inputs; i++) {
		const ml_type *t = &r->m->main->arg[i]->type;
		for (int a = 0; a < t->rank; a++)
			if (t->dim[a] == d && (a == 0 || ml_is_float(t->dtype)))
				return false;
	}
	return !ml_dim_is_int(d, NULL);
}

static void
cut_sample(const reader *r, one *s, ml_dim d)
{
	int64_t used = 1;

	for (int pass = 0; pass < 2; pass++)
		for (int i = 0; i < r->inputs; i++) {
			const ml_type *t = &r->m->main->arg[i]->type;
			for (int a = 0; a < t->rank; a++) {
				if (t->dim[a] != d)
					continue;
				int64_t own = pass ? 0 : used_length(&s->in[i], a);
				used = own > used ? own : used;
				if (pass && used < s->in[i].dim[a])
					cut_axis(&s->in[i], a, used);
			}
		}
}

static one
copy_sample(const reader *r, const one *s)
{
	one copy = *s;

	copy.in = ML_NEW_ARRAY(r->s->arena, ml_tensor, r->inputs + 1);
	for (int i = 0; i < r->inputs; i++) {
		copy.in[i] = s->in[i];
		copy.in[i].data = ml_alloc(r->s->arena, s->in[i].bytes);
		if (s->in[i].bytes)
			memcpy(copy.in[i].data, s->in[i].data, s->in[i].bytes);
	}
	return copy;
}

static one
cut_whole(const reader *r, const one *s)
{
	one cut = copy_sample(r, s);

	for (int i = 0; i < r->inputs; i++) {
		const ml_type *t = &r->m->main->arg[i]->type;
		for (int a = 0; a < t->rank; a++)
			if (may_cut(r, t->dim[a]))
				cut_sample(r, &cut, t->dim[a]);
	}
	cut.bytes = 0;
	for (int i = 0; i < r->inputs; i++)
		cut.bytes += cut.in[i].bytes;
	return cut;
}

/* The results are the same where both have them. */
static bool
agrees(const ml_tensor *whole, const ml_tensor *cut)
{
	static const double NEAR = 1e-3;
	int64_t at[ML_MAX_RANK] = {0}, count = 1, from;
	double worst = 0, largest = 0;

	if (!ml_is_float(whole->dtype))
		return true;
	for (int i = 0; i < cut->rank; i++)
		count *= cut->dim[i];
	for (int64_t k = 0; k < count; k++) {
		from = 0;
		for (int i = 0; i < cut->rank; i++)
			from = from * whole->dim[i] + at[i];
		double a = ml_read_f64(whole->dtype, whole->data, from);
		double b = ml_read_f64(cut->dtype, cut->data, k);
		worst = fmax(worst, fabs(a - b));
		largest = fmax(largest, fabs(a));
		for (int i = cut->rank - 1; i >= 0 && ++at[i] == cut->dim[i]; i--)
			at[i] = 0;
	}
	return worst <= NEAR * largest;
}

static ml_status
run_both(const reader *r, const one *whole, const one *cut, bool *same)
{
	const ml_exec *exec = r->px->exec;
	int outputs = r->m->main->last->nin;
	ml_arena arena;

	ml_arena_init(&arena, &r->px->cx->memory);
	ml_tensor *a = ML_NEW_ARRAY(&arena, ml_tensor, outputs + 1);
	ml_tensor *b = ML_NEW_ARRAY(&arena, ml_tensor, outputs + 1);
	ml_status st = exec->run(exec->user, r->s->teacher, whole->in, a, &arena);
	if (st == ML_OK)
		st = exec->run(exec->user, r->s->teacher, cut->in, b, &arena);
	for (int i = 0; i < outputs && st == ML_OK; i++)
		*same &= agrees(&a[i], &b[i]);
	ml_arena_free(&arena);
	return st;
}

/* A guard that shorter inputs break is no error: the samples then stay as they are. */
static bool
try_cutting(const reader *r, const one *whole, const one *cut)
{
	ml_context *cx = r->px->cx;
	int diags = cx->diags.count, errors = cx->errors;
	bool same = true;

	if (run_both(r, whole, cut, &same) == ML_OK)
		return same;
	cx->diags.count = diags;
	cx->errors = errors;
	return false;
}

static void
cut_padding(reader *r)
{
	one *cut = ML_NEW_ARRAY(r->s->arena, one, r->sample.count + 1);
	int tried = 0;

	for (int i = 0; i < r->sample.count; i++) {
		cut[i] = cut_whole(r, &r->sample.at[i]);
		if (cut[i].bytes == r->sample.at[i].bytes || tried == TRIALS)
			continue;
		tried++;
		if (!try_cutting(r, &r->sample.at[i], &cut[i]))
			return;
	}
	r->sample.at = cut;
}

/* ---- batches ---- */

static bool
is_held(const one *s)
{
	return s->index < ML_JUDGED_AMONG && ml_is_judged(s->index);
}

static int
by_shape(const void *pa, const void *pb)
{
	const one *a = pa, *b = pb;

	if (a->bytes != b->bytes)
		return a->bytes < b->bytes ? -1 : 1;
	if (is_held(a) != is_held(b))
		return is_held(a) ? 1 : -1;
	return a->index < b->index ? -1 : 1;
}

static bool
same_shapes(const reader *r, const one *a, const one *b)
{
	for (int i = 0; i < r->inputs; i++)
		for (int d = 0; d < a->in[i].rank; d++)
			if (a->in[i].dim[d] != b->in[i].dim[d])
				return false;
	return is_held(a) == is_held(b);
}

static void
add_batch(reader *r, const one *s, int n)
{
	ml_batch b = {.samples = n, .held = is_held(s)};

	b.number = ML_NEW_ARRAY(r->s->arena, int64_t, n);
	for (int k = 0; k < n; k++)
		b.number[k] = s[k].index;
	b.in = ML_NEW_ARRAY(r->s->arena, ml_tensor, r->inputs + 1);
	for (int i = 0; i < r->inputs; i++) {
		ml_tensor *t = &b.in[i];
		size_t bytes = s->in[i].bytes;
		*t = s->in[i];
		if (n == 1)
			continue;
		t->dim[0] *= n;
		t->bytes = bytes * (size_t)n;
		t->data = ml_alloc(r->s->arena, t->bytes);
		for (int k = 0; k < n && bytes; k++)
			memcpy((char *)t->data + (size_t)k * bytes, s[k].in[i].data, bytes);
	}
	ML_PUSH(r->s->arena, r->s->batch, b);
	r->s->count += n;
	r->s->held += b.held ? n : 0;
}

static void
make_batches(reader *r)
{
	one *s = r->sample.at;
	int count = r->sample.count;

	qsort(s, (size_t)count, sizeof *s, by_shape);
	for (int i = 0; i < ML_TIMED; i++) /* at a sixth, a half, five sixths */
		r->s->timing[i] = s[(2 * i + 1) * count / (2 * ML_TIMED)].in;
	for (int first = 0, end; first < count; first = end) {
		for (end = first + 1; end < count && end - first < BATCH && r->s->together &&
				      same_shapes(r, &s[first], &s[end]);
		     end++)
			;
		add_batch(r, &s[first], end - first);
	}
}

/* Results that are larger than what there is room for are not kept: those samples are not held. */
static ml_status
run_teacher(reader *r)
{
	const ml_exec *exec = r->px->exec;
	int outputs = r->m->main->last->nin, odd = 0;
	size_t total = 0;

	for (int i = 0; i < r->s->batch.count; i++) {
		ml_batch *b = &r->s->batch.at[i];
		if (!b->held || total > MOST_BYTES)
			continue;
		b->out = ML_NEW_ARRAY(r->s->arena, ml_tensor, outputs + 1);
		ML_STEP(exec->run(exec->user, r->s->teacher, b->in, b->out, r->s->arena));
		b->odd = odd++ % 2;
		for (int k = 0; k < outputs; k++)
			total += b->out[k].bytes;
	}
	return ML_OK;
}

ml_status
ml_samples_read(ml_samples *s, ml_pass_ctx *px, const ml_module *m, ml_arena *arena)
{
	reader r = {.px = px, .m = m, .s = s, .inputs = m->main->nargs};

	*s = (ml_samples){.arena = arena, .inputs = m->main->nargs};
	s->together = takes_batches(m);
	ML_STEP(read_all(&r));
	ml_agree_init(&s->agree, m, arena);
	ML_STEP(px->exec->compile(px->exec->user, m, &s->teacher));
	cut_padding(&r);
	make_batches(&r);
	return run_teacher(&r);
}

void
ml_samples_free(ml_samples *s, ml_pass_ctx *px)
{
	if (s->teacher)
		px->exec->free(px->exec->user, s->teacher);
	if (s->timed)
		px->exec->free(px->exec->user, s->timed);
	s->teacher = s->timed = NULL;
}

/* ---- candidates ---- */

const ml_batch *
ml_samples_spread(const ml_samples *s, int i)
{
	return &s->batch.at[ml_spread(i, s->batch.count)];
}

bool
ml_samples_judge(const ml_samples *s, const ml_batch *b)
{
	return b->out && !(s->half && b->odd);
}

static ml_status
judge_batch(ml_samples *s, ml_pass_ctx *px, ml_runnable *r, const ml_batch *b,
	    const ml_tensor *more)
{
	int inputs = s->inputs;
	ml_arena arena;

	ml_arena_init(&arena, &px->cx->memory);
	ml_tensor *in = ML_NEW_ARRAY(&arena, ml_tensor, inputs + 1);
	ml_tensor *out = ML_NEW_ARRAY(&arena, ml_tensor, s->agree.outputs + 1);
	memcpy(in, b->in, (size_t)inputs * sizeof *in);
	if (more)
		in[inputs] = *more;
	ml_status st = px->exec->run(px->exec->user, r, in, out, &arena);
	if (st == ML_OK)
		ml_agree_add(&s->agree, b->in, b->out, out);
	ml_arena_free(&arena);
	return st;
}

static ml_status
judge(ml_samples *s, ml_pass_ctx *px, ml_runnable *r, const ml_tensor *more, double *error)
{
	ml_agree_clear(&s->agree);
	for (int i = 0; i < s->batch.count; i++)
		if (ml_samples_judge(s, &s->batch.at[i]))
			ML_STEP(judge_batch(s, px, r, &s->batch.at[i], more ? &more[i] : NULL));
	*error = ml_agree_error(&s->agree);
	return ML_OK;
}

ml_status
ml_judge_runnable(ml_samples *s, ml_pass_ctx *px, ml_runnable *candidate, double *error)
{
	return judge(s, px, candidate, NULL, error);
}

ml_status
ml_judge(ml_samples *s, ml_pass_ctx *px, const ml_module *candidate, const ml_tensor *more,
	 double *error)
{
	ml_runnable *r;

	ML_STEP(px->exec->compile(px->exec->user, candidate, &r));
	ml_status st = judge(s, px, r, more, error);
	px->exec->free(px->exec->user, r);
	return st;
}

/* The least median of a sample, in turns for both. */
static ml_status
time_sample(ml_pass_ctx *px, ml_runnable *const *r, const ml_tensor *in, double *seconds)
{
	double least[2] = {INFINITY, INFINITY}, spent = 0, median;

	for (int i = 0; i < MOST_TIMED && spent < TIMED_SECONDS; i++)
		for (int k = 0; k < 2 && r[k]; k++) {
			ML_STEP(px->exec->time(px->exec->user, r[k], in, TIMED_RUNS, &median));
			spent += median * TIMED_RUNS;
			least[k] = fmin(least[k], median);
		}
	for (int k = 0; k < 2; k++)
		seconds[k] += least[k] / ML_TIMED;
	return ML_OK;
}

static ml_status
time_in_turns(const ml_samples *s, ml_pass_ctx *px, ml_runnable *candidate, double seconds[2])
{
	ml_runnable *r[] = {s->timed, candidate};

	seconds[0] = seconds[1] = 0;
	for (int i = 0; i < ML_TIMED; i++)
		ML_STEP(time_sample(px, r, s->timing[i], seconds));
	return ML_OK;
}

ml_status
ml_time_teacher(ml_samples *s, ml_pass_ctx *px, const ml_module *m, double *seconds)
{
	double both[2];

	ML_STEP(px->exec->compile(px->exec->user, m, &s->timed));
	ML_STEP(time_in_turns(s, px, NULL, both));
	*seconds = both[0];
	return ML_OK;
}

ml_status
ml_time_runnable(const ml_samples *s, ml_pass_ctx *px, ml_runnable *r, double *share)
{
	double both[2];

	ML_STEP(time_in_turns(s, px, r, both));
	*share = both[0] > 0 ? both[1] / both[0] : 1;
	return ML_OK;
}
