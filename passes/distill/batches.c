/* batches.c -- training batches: shuffled by a seed, of one length without padding, and changed a
 * little, since the teacher says what the right answer to any input is. */
#include "../samples.h"
#include "distill.h"
#include <stdlib.h>
#include <string.h>

enum {
	LEAST_TOKENS = 16,            /* different ones, else they are flags */
	PIECE = 6,                    /* tokens of a piece, usually */
	FEWER = ML_DISTILL_BATCH / 2, /* samples of a batch, where outputs decide: steps that differ
					 more end where others are decided right as well */
};

/* How often rows are put together from others, and tokens in them replaced. */
typedef struct habit {
	double spliced, changed, replaced;
	double pieced; /* of those that are put together: from pieces of any samples */
	double near;   /* of tokens that replace others: near those */
} habit;
static const habit MODEST = {.spliced = 0.5, .changed = 0.5, .replaced = 0.15};
/* Near tokens leave texts that might have been written, and pieces are of such: of these there
 * cannot be too many. */
static const habit BOLD = {
	.spliced = 0.5, .changed = 0.7, .replaced = 0.3, .pieced = 0.7, .near = 0.8};
/* Of what else replaces tokens where numbers are to be the teacher's: any that the model knows,
 * since it will meet others than the samples have. */
static const double FOREIGN = 0.5;

static const habit *
habit_of(const ml_pool *p)
{
	return p->nnear ? &BOLD : &MODEST;
}

/* splitmix64 */
uint64_t
ml_random(uint64_t *state)
{
	uint64_t z = *state += 0x9e3779b97f4a7c15u;

	z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9u;
	z = (z ^ z >> 27) * 0x94d049bb133111ebu;
	return z ^ z >> 31;
}

static int64_t
below(ml_pool *p, int64_t n)
{
	return (int64_t)(ml_random(&p->random) % (uint64_t)n);
}

static double
uniform(ml_pool *p)
{
	return (double)(ml_random(&p->random) >> 11) * 0x1p-53;
}

static void
shuffle(ml_pool *p, int *at, int n)
{
	for (int i = n - 1; i > 0; i--) {
		int k = (int)below(p, i + 1), swap = at[i];
		at[i] = at[k];
		at[k] = swap;
	}
}

/* ---- what samples are ---- */

static int
axis_of(const ml_pool *p, int input, ml_dim d)
{
	const ml_type *t = &p->m->main->arg[input]->type;

	for (int a = 1; d && a < t->rank; a++)
		if (t->dim[a] == d)
			return a;
	return -1;
}

/* A symbolic size that integers alone have, on one axis each: a sequence of tokens. */
static ml_dim
find_cut(const ml_pool *p)
{
	ml_dim found = NULL;

	for (int i = 0; i < p->inputs; i++) {
		const ml_type *t = &p->m->main->arg[i]->type;
		int times = 0;
		for (int a = 0; a < t->rank; a++) {
			if (ml_dim_is_int(t->dim[a], NULL) || (a == 0 && p->batch > 1))
				continue;
			if (ml_is_float(t->dtype) || (found && found != t->dim[a]) || times++)
				return NULL;
			found = t->dim[a];
		}
	}
	return found;
}

static int64_t
length_of(const ml_pool *p, ml_tensor *const *sample)
{
	for (int i = 0; i < p->inputs; i++) {
		int axis = axis_of(p, i, p->cut);
		if (axis >= 0)
			return (*sample)[i].dim[axis];
	}
	return 0;
}

static int
by_number(const void *a, const void *b)
{
	int64_t x = *(const int64_t *)a, y = *(const int64_t *)b;

	return (x > y) - (x < y);
}

/* Tokens inside of the samples: what begins and ends all of them is grammar. */
static void
find_tokens(ml_pool *p, int input)
{
	const ml_type *t = &p->m->main->arg[input]->type;
	int64_t n = 0, different = 0;

	if (!ml_is_integer(t->dtype) || t->rank != 2 || axis_of(p, input, p->cut) != 1)
		return;
	for (int s = 0; s < p->sample.count; s++)
		n += p->sample.at[s][input].dim[1];
	int64_t *all = ML_NEW_ARRAY(p->arena, int64_t, n + 1);
	n = 0;
	for (int s = 0; s < p->sample.count; s++) {
		const ml_tensor *x = &p->sample.at[s][input];
		for (int64_t i = 1; i + 1 < x->dim[1]; i++)
			all[n++] = ml_read_s64(x->dtype, x->data, i);
	}
	qsort(all, (size_t)n, sizeof *all, by_number);
	for (int64_t i = 0; i < n; i++)
		different += !i || all[i] != all[i - 1];
	if (different < LEAST_TOKENS)
		return;
	p->tokens = input;
	p->usual = all;
	p->nusual = n;
}

/* ---- taking samples out of batches ---- */

static void
add_samples(ml_pool *p, const ml_batch *b)
{
	for (int64_t k = 0; k < b->samples; k++) {
		ml_tensor *one = ML_NEW_ARRAY(p->arena, ml_tensor, p->inputs + 1);
		for (int i = 0; i < p->inputs; i++) {
			one[i] = b->in[i];
			one[i].bytes /= (size_t)b->samples;
			if (b->samples > 1)
				one[i].dim[0] /= b->samples;
			one[i].data = (char *)b->in[i].data + (size_t)k * one[i].bytes;
		}
		ML_PUSH(p->arena, p->sample, one);
		ML_PUSH(p->arena, p->number, b->number[k]);
	}
}

static void
get_room(ml_pool *p)
{
	p->in = ML_NEW_ARRAY(p->arena, ml_tensor, p->inputs + 1);
	for (int i = 0; i < p->inputs; i++) {
		size_t most = 0;
		for (int s = 0; s < p->sample.count; s++)
			if (p->sample.at[s][i].bytes > most)
				most = p->sample.at[s][i].bytes;
		p->in[i].data = ml_alloc(p->arena, most * (size_t)p->batch + 1);
	}
}

void
ml_pool_init(ml_pool *p, const ml_samples *s, const ml_module *m, uint64_t seed, ml_arena *arena)
{
	*p = (ml_pool){.arena = arena,
		       .m = m,
		       .inputs = m->main->nargs,
		       .tokens = -1,
		       .batch = 1,
		       .random = seed};
	for (int i = 0; i < s->batch.count; i++) {
		if (s->batch.at[i].samples > 1)
			p->batch = s->agree.decides ? FEWER : ML_DISTILL_BATCH;
		if (!s->batch.at[i].held)
			add_samples(p, &s->batch.at[i]);
	}
	p->cut = find_cut(p);
	for (int i = 0; i < p->inputs && p->tokens < 0 && p->cut; i++)
		find_tokens(p, i);
	if (p->tokens >= 0 && !s->agree.decides)
		p->known = ml_rows_numbered_by(m->main->arg[p->tokens]);
	p->order = ML_NEW_ARRAY(arena, int, p->sample.count + 1);
	p->shuffled = ML_NEW_ARRAY(arena, int, p->sample.count + 1);
	p->start = ML_NEW_ARRAY(arena, int, p->sample.count + 2);
	get_room(p);
}

/* ---- an epoch ---- */

static size_t
bytes_of(const ml_pool *p, int sample)
{
	size_t bytes = 0;

	for (int i = 0; i < p->inputs; i++)
		bytes += p->sample.at[sample][i].bytes;
	return bytes;
}

/* Along the sizes, neighbours of one size in any order. */
static void
sort_by_size(ml_pool *p)
{
	int n = p->sample.count, at = 0;
	size_t size = 0, next = 0;

	memcpy(p->shuffled, p->order, (size_t)n * sizeof *p->order);
	for (; at < n; size = next) {
		next = SIZE_MAX;
		for (int i = 0; i < n; i++) {
			size_t own = bytes_of(p, p->shuffled[i]);
			if (own == size)
				p->order[at++] = p->shuffled[i];
			else if (own > size && own < next)
				next = own;
		}
	}
}

static bool
fit_together(const ml_pool *p, int a, int b)
{
	for (int i = 0; i < p->inputs; i++)
		for (int d = 0; d < p->sample.at[a][i].rank; d++)
			if (p->sample.at[a][i].dim[d] != p->sample.at[b][i].dim[d] &&
			    axis_of(p, i, p->cut) != d)
				return false;
	return true;
}

/* The first batches are of all sizes, since they say what a step takes; the very first is the
 * largest, for which memory is got. */
static void
spread(ml_pool *p)
{
	int n = p->nstart;

	memcpy(p->shuffled, p->start, (size_t)n * sizeof *p->start);
	for (int i = 0; i < n; i++)
		p->start[i] = p->shuffled[n - 1 - ml_spread(i, n)];
}

static void
begin_epoch(ml_pool *p)
{
	int n = p->sample.count, first = p->batch > 1 ? (int)below(p, p->batch) : 0;
	bool begins = !p->nstart;

	for (int i = 0; i < n; i++)
		p->order[i] = i;
	shuffle(p, p->order, n);
	sort_by_size(p);
	p->nstart = p->next = 0;
	/* Batches begin elsewhere each time, so that samples meet others. */
	for (int i = 0; i + p->batch <= n || !i; i += p->nstart == 1 && first ? first : p->batch)
		p->start[p->nstart++] = i;
	if (begins)
		spread(p);
	else
		shuffle(p, p->start, p->nstart);
}

/* ---- a batch ---- */

/* Which positions of a sample stay: its first and last one, and others at random. */
static void
choose_positions(ml_pool *p, int64_t length, int64_t left, int64_t *keep)
{
	int64_t inside = length - 2, need = left - 2;

	if (left < 2 || length == left) {
		for (int64_t i = 0; i < left; i++)
			keep[i] = i;
		return;
	}
	*keep++ = 0;
	for (int64_t i = 0; i < inside; i++)
		if (below(p, inside - i) < need) {
			*keep++ = i + 1;
			need--;
		}
	*keep = length - 1;
}

static void
put_sample(ml_pool *p, int row, const ml_tensor *sample, const int64_t *keep, int64_t length)
{
	for (int i = 0; i < p->inputs; i++) {
		const ml_tensor *x = &sample[i];
		ml_tensor *to = &p->in[i];
		int axis = axis_of(p, i, p->cut);
		size_t own = to->bytes, inner = (size_t)ml_dtype_bytes(x->dtype), outer = 1;
		char *at = (char *)to->data + (size_t)row * own;
		if (axis < 0) {
			memcpy(at, x->data, own);
			continue;
		}
		for (int d = 0; d < x->rank; d++)
			*(d < axis ? &outer : &inner) *= d == axis ? 1 : (size_t)x->dim[d];
		for (size_t o = 0; o < outer; o++)
			for (int64_t k = 0; k < length; k++, at += inner)
				memcpy(at,
				       (char *)x->data +
					       (o * (size_t)x->dim[axis] + (size_t)keep[k]) * inner,
				       inner);
	}
}

/* One that is near this one, or any. */
static int64_t
other_token(ml_pool *p, int64_t token)
{
	const int64_t *at =
		p->nnear ? bsearch(&token, p->near_token, (size_t)p->nnear, sizeof token, by_number)
			 : NULL;

	if (at && uniform(p) < habit_of(p)->near)
		return p->near[(at - p->near_token) * ML_NEAR + below(p, ML_NEAR)];
	if (p->known > 0 && uniform(p) < FOREIGN)
		return below(p, p->known);
	return p->usual[below(p, p->nusual)];
}

static void
replace_tokens(ml_pool *p, int row)
{
	ml_tensor *x = &p->in[p->tokens];
	int64_t length = x->dim[1];

	for (int64_t i = row * length + 1; i + 1 < (row + 1) * length; i++)
		if (uniform(p) < habit_of(p)->replaced)
			ml_write_s64(x->dtype, x->data, i,
				     other_token(p, ml_read_s64(x->dtype, x->data, i)));
}

/* Goes on as another row of the batch: beginnings and ends are more than whole samples, and what
 * stands side by side in them does so in samples. */
static void
splice(ml_pool *p, int row, int other, int64_t length)
{
	int64_t at = 1 + below(p, length - 2);

	for (int i = 0; i < p->inputs; i++) {
		ml_tensor *x = &p->in[i];
		if (axis_of(p, i, p->cut) != 1)
			continue;
		size_t one = x->bytes / (size_t)length, skipped = (size_t)at * one;
		char *to = (char *)x->data + (size_t)row * x->bytes + skipped;
		const char *from = (const char *)x->data + (size_t)other * x->bytes + skipped;
		if (to != from)
			memcpy(to, from, x->bytes - skipped);
	}
}

/* What is inside of a row, from pieces of any samples; all but tokens stays the row's. */
static void
piece_together(ml_pool *p, int row, int64_t length)
{
	ml_tensor *x = &p->in[p->tokens];
	int64_t at = row * length + 1, end = (row + 1) * length - 1;

	while (at < end) {
		int64_t n = 1 + below(p, 2 * PIECE - 1);
		const ml_tensor *from = &p->sample.at[below(p, p->sample.count)][p->tokens];
		int64_t inside = from->dim[1] - 2;
		n = n < inside ? n : inside;
		n = n < end - at ? n : end - at;
		if (n < 1)
			continue; /* there is a sample that has tokens inside */
		int64_t first = 1 + below(p, inside - n + 1);
		for (int64_t k = 0; k < n; k++)
			ml_write_s64(x->dtype, x->data, at++,
				     ml_read_s64(from->dtype, from->data, first + k));
	}
}

/* Towards another sample of the batch's: both are inputs that the model may meet. */
static void
mix_numbers(ml_pool *p, int row, const ml_tensor *other)
{
	double part = uniform(p) / 2;

	for (int i = 0; i < p->inputs; i++) {
		ml_tensor *x = &p->in[i];
		int64_t n = (int64_t)x->bytes /
			    (ml_dtype_bytes(x->dtype) ? ml_dtype_bytes(x->dtype) : 1);
		if (!ml_is_float(x->dtype))
			continue;
		for (int64_t k = 0; k < n; k++) {
			double a = ml_read_f64(x->dtype, x->data, row * n + k);
			double b = ml_read_f64(x->dtype, other[i].data, k);
			ml_write_f64(x->dtype, x->data, row * n + k, a + part * (b - a));
		}
	}
}

/* Sets the batch's types, `bytes` to those of one sample. */
static void
shape_batch(ml_pool *p, const ml_tensor *sample, int64_t length)
{
	for (int i = 0; i < p->inputs; i++) {
		void *room = p->in[i].data;
		int axis = axis_of(p, i, p->cut);
		p->in[i] = sample[i];
		p->in[i].data = room;
		if (axis >= 0) {
			p->in[i].bytes =
				p->in[i].bytes / (size_t)sample[i].dim[axis] * (size_t)length;
			p->in[i].dim[axis] = length;
		}
	}
}

static bool
all_floats(const ml_pool *p)
{
	for (int i = 0; i < p->inputs; i++)
		if (!ml_is_float(p->in[i].dtype))
			return false;
	return true;
}

static void
gather(ml_pool *p, int first, int end, int64_t length)
{
	ml_arena scratch;

	ml_arena_init(&scratch, &p->m->cx->memory);
	int64_t *keep = ML_NEW_ARRAY(&scratch, int64_t, length + 2);
	for (int k = first; k < end; k++) {
		ml_tensor *sample = p->sample.at[p->order[k]];
		if (p->cut)
			choose_positions(p, length_of(p, &sample), length, keep);
		put_sample(p, k - first, sample, keep, length);
		p->row[k - first] = p->number.at[p->order[k]];
	}
	ml_arena_free(&scratch);
}

/* All rows are there. */
static void
change(ml_pool *p, int row, int first, int end, int64_t length)
{
	const habit *h = habit_of(p);
	bool spliced = p->tokens >= 0 && length > 2 && uniform(p) < h->spliced;

	if (spliced && h->pieced > 0 && uniform(p) < h->pieced)
		piece_together(p, row, length);
	else if (spliced)
		splice(p, row, (int)below(p, end - first), length);
	bool changed = uniform(p) < h->changed;
	if (spliced || changed)
		p->row[row] = -1;
	if (!changed)
		return;
	if (p->tokens >= 0)
		replace_tokens(p, row);
	else if (all_floats(p))
		mix_numbers(p, row, p->sample.at[p->order[first + below(p, end - first)]]);
}

const ml_tensor *
ml_pool_next(ml_pool *p)
{
	if (p->next == p->nstart)
		begin_epoch(p);
	int first = p->start[p->next++], end = first, count = p->sample.count;
	int64_t length = 0;
	while (end < count && end - first < p->batch &&
	       fit_together(p, p->order[first], p->order[end]))
		end++;
	if (p->cut)
		length = length_of(p, &p->sample.at[p->order[first]]); /* the shortest */
	shape_batch(p, p->sample.at[p->order[first]], length);
	gather(p, first, end, length);
	for (int row = 0; row < end - first; row++)
		change(p, row, first, end, length);
	p->rows = end - first;
	for (int i = 0; i < p->inputs; i++) {
		p->in[i].bytes *= (size_t)(end - first);
		if (p->batch > 1)
			p->in[i].dim[0] *= end - first;
	}
	return p->in;
}
