/* width.c -- neurons, heads and channels: which can go, what each is worth, and taking them out.
 *
 * A group is worth the squares that its going leaves in the result of the layer that reads it, when
 * all other places are fitted to stand for it: |w_j|^2 / (H^-1)_jj, H the covariance of what the
 * layer reads (Hassibi and Stork, "Optimal brain surgeon").  What such squares cost in results of
 * the model is measured once for each layer, with half of its groups gone.
 */
#include "../../ir/crew.h"
#include "matrix.h"
#include "narrow.h"
#include "prune.h"
#include <stdlib.h>
#include <string.h>

static const double RIDGE = 0.01;
enum {
	WIDEST = 4096,      /* columns that are fitted */
	TOGETHER = 1 << 24, /* sums of one run */
	ROWS = 8,           /* to learn from, for each column */
	CHUNK = 16,
	SMALL = 64 /* of wide layers: what kernels compute at once */
};

/* ---- what can be narrowed ---- */

/* All groups but the first `gone`, or those that are not marked. */
static ml_places
places_but(ml_arena *arena, int64_t groups, int64_t step, const bool *gone, int64_t first)
{
	int64_t *at = ML_NEW_ARRAY(arena, int64_t, groups *step + 1), count = 0;

	for (int64_t g = 0; g < groups; g++)
		for (int64_t i = 0; i < step && !(gone ? gone[g] : g < first); i++)
			at[count++] = g * step + i;
	return (ml_places){at, count, groups * step};
}

/* The smallest step that lets groups of neighbours go; 0 when none does.  The module has then lost
 * one. */
static int64_t
find_step(ml_pruning *p, ml_module *m, ml_node *n)
{
	int64_t width = ml_input_width(n);

	for (int64_t step = 1; 2 * step <= width; step++) {
		if (width % step)
			continue;
		ml_places all = places_but(p->arena, width / step, step, NULL, 1);
		if (ml_narrow_input(m, &n, &all, p->arena))
			return step;
	}
	return 0;
}

static ml_status
try_layer(ml_pruning *p, const ml_node *n)
{
	ml_module *clone = ml_module_clone(p->m);
	double before = ml_weight_bytes(clone);
	ml_node *own = ml_node_by_id(clone, n->id);
	int64_t width = ml_input_width(own), step = find_step(p, clone, own);
	double bytes = before - ml_weight_bytes(clone);

	ml_module_free(clone);
	if (!step || bytes <= 0)
		return ML_OK;
	ml_width w = {.layer = n->id, .step = step, .groups = width / step, .bytes = bytes};
	w.most = w.groups * 3 / 4;
	w.chunk = step > 1 || w.groups < SMALL ? 1 : CHUNK;
	w.score = ML_NEW_ARRAY(p->arena, double, w.groups);
	w.order = ML_NEW_ARRAY(p->arena, int, w.groups);
	for (int i = 0; i < w.groups; i++)
		w.order[i] = i; /* until they are scored: what runs take is measured before */
	ML_PUSH(p->arena, p->width, w);
	return ML_OK;
}

ml_status
ml_find_widths(ml_pruning *p)
{
	int64_t d, o;

	for (const ml_node *n = p->m->main->first; n; n = n->next) {
		if (!ml_is_narrowable(n))
			continue;
		ml_matrix_size(n, &d, &o);
		if (d <= WIDEST)
			ML_STEP(try_layer(p, n));
	}
	return ML_OK;
}

/* ---- what layers read ---- */

/* Of each layer, with the products of a triangle behind them. */
enum { X, COUNT, SUMS };

static int
results_of(const ml_gram *g)
{
	return SUMS + ml_triangle_products(g->d);
}

static int
count_results(const ml_pruning *p, int first, int end)
{
	int n = 0;

	for (int i = first; i < end; i++)
		n += results_of(&p->width.at[i].gram);
	return n;
}

static ml_status
watch_inputs(ml_pruning *p, ml_module *copy, int first, int end)
{
	int count = count_results(p, first, end);
	ml_value **result = ML_NEW_ARRAY(p->arena, ml_value *, count), **at = result;
	const int64_t rows[] = {0};

	ml_builder b = ml_builder_before(copy->main->last);
	for (int i = first; i < end; i++) {
		ml_node *n = ml_node_by_id(copy, p->width.at[i].layer);
		ml_value *x = ml_matrix_x(&b, n, ml_in(n, 0));
		ML_STEP(ml_triangle_build(&b, x, at + SUMS));
		ml_dim shape[] = {x->type.dim[0], ml_dim_int(copy->dims, 1)};
		at[X] = ml_build_reduce(&b, ML_OP_reduce_sum, x, rows, 1);
		x = ml_build_broadcast(&b, ml_build_f64(&b, ML_f32, 1), shape, 2);
		at[COUNT] = ml_build_reduce(&b, ML_OP_reduce_sum, x, rows, 1);
		at += results_of(&p->width.at[i].gram);
	}
	ML_STEP(b.failed);
	ML_STEP(ml_module_set_outputs(copy, result, count));
	ml_drop_unused(copy->main);
	return ML_OK;
}

static void
add_floats(double *to, const ml_tensor *t)
{
	const float *from = t->data;

	for (size_t i = 0; i < t->bytes / sizeof *from; i++)
		to[i] += (double)from[i];
}

/* Whether all that are learnt from in one run have seen enough. */
static bool
know_enough(const ml_pruning *p, int first, int end)
{
	for (int i = first; i < end; i++)
		if (p->width.at[i].gram.rows < (double)(ROWS * p->width.at[i].gram.d))
			return false;
	return true;
}

static ml_status
run_batches(ml_pruning *p, ml_runnable *r, int first, int end)
{
	int count = count_results(p, first, end);
	ml_tensor *out = ML_NEW_ARRAY(p->arena, ml_tensor, count);
	const ml_exec *exec = p->px->exec;

	for (int k = 0; k < p->samples.batch.count && !know_enough(p, first, end); k++) {
		const ml_batch *b = ml_samples_spread(&p->samples, k);
		if (b->held)
			continue;
		for (int i = 0; i < count; i++)
			out[i].data = NULL; /* lent */
		ML_STEP(exec->run_into(exec->user, r, b->in, out));
		const ml_tensor *sums = out;
		for (int i = first; i < end; i++) {
			ml_gram *g = &p->width.at[i].gram;
			ml_triangle_add(g->xx, g->d, sums + SUMS);
			add_floats(g->x, &sums[X]);
			add_floats(&g->rows, &sums[COUNT]);
			sums += results_of(g);
		}
	}
	return ML_OK;
}

static ml_status
collect(ml_pruning *p, int first, int end)
{
	ml_module *copy = ml_module_clone(p->m);
	ml_runnable *r = NULL;
	ml_status st = watch_inputs(p, copy, first, end);

	if (st == ML_OK)
		st = p->px->exec->compile(p->px->exec->user, copy, &r);
	ml_module_free(copy);
	ML_STEP(st);
	st = run_batches(p, r, first, end);
	p->px->exec->free(p->px->exec->user, r);
	return st;
}

/* As many at once as there is room for their sums. */
static ml_status
collect_all(ml_pruning *p)
{
	for (int first = 0, end; first < p->width.count; first = end) {
		int64_t sums = 0, d, o;
		for (end = first; end < p->width.count; end++) {
			ml_width *w = &p->width.at[end];
			ml_matrix_size(ml_node_by_id(p->m, w->layer), &d, &o);
			sums += d * d;
			if (end > first && sums > TOGETHER)
				break;
			w->gram = ml_gram_new(p->arena, d, 0);
		}
		ML_STEP(collect(p, first, end));
	}
	return ML_OK;
}

/* ---- what groups are worth ---- */

static int
by_score(const void *a, const void *b, void *scores)
{
	double d = ((double *)scores)[*(const int *)a] - ((double *)scores)[*(const int *)b];

	return d ? (d > 0) - (d < 0) : *(const int *)a - *(const int *)b;
}

static ml_status
score_groups(ml_pruning *p, ml_width *w)
{
	const ml_node *n = ml_node_by_id(p->m, w->layer);
	int64_t d, o, each;
	ml_arena arena;

	ml_matrix_size(n, &d, &o);
	each = d / w->groups;
	ml_arena_init(&arena, &p->px->cx->memory);
	double *weight = ML_NEW_ARRAY(&arena, double, d *o);
	double *bias = ML_NEW_ARRAY(&arena, double, o), *left = ML_NEW_ARRAY(&arena, double, d);
	ml_matrix_weights(n, weight, bias);
	if (!ml_gram_conditional(&w->gram, RIDGE, &arena, left))
		memset(left, 0, (size_t)d * sizeof *left);
	for (int64_t i = 0; i < d; i++) {
		double squares = 0;
		for (int64_t k = 0; k < o; k++)
			squares += weight[i * o + k] * weight[i * o + k];
		w->score[i / each] += squares * left[i];
	}
	ml_arena_free(&arena);
	for (int i = 0; i < w->groups; i++)
		w->order[i] = i;
	qsort_r(w->order, (size_t)w->groups, sizeof *w->order, by_score, w->score);
	return ML_OK;
}

/* The loss with half of the groups gone, by the score of those. */
ml_status
ml_weigh_width(ml_pruning *p, int i)
{
	ml_cuts cuts = ml_no_cuts(p);
	ml_width *w = &p->width.at[i];
	double error, score = 0;

	cuts.cut[i] = w->groups / 2;
	ML_STEP(ml_prune_tell(p, "scoring"));
	ML_STEP(ml_prefix_judge(p, &cuts, &error));
	for (int64_t g = 0; g < cuts.cut[i]; g++)
		score += w->score[w->order[g]];
	w->weight = score > 0 ? error / score : 0;
	return ML_OK;
}

ml_status
ml_learn_widths(ml_pruning *p)
{
	ML_STEP(collect_all(p));
	for (int i = 0; i < p->width.count; i++)
		ML_STEP(score_groups(p, &p->width.at[i]));
	return ML_OK;
}

/* ---- taking them out ---- */

/* Columns of the matrix that stay, and those that go. */
typedef struct split {
	int64_t *kept, *gone;
	int64_t nkept, ngone;
} split;

/* What is missing when some columns go, as a problem for those that stay. */
typedef struct missing {
	const ml_gram *all;
	const split *split;
	const double *weight;
	ml_gram left;
} missing;

static void
add_scaled(double *restrict y, double a, const double *restrict x, int64_t n)
{
	for (int64_t i = 0; i < n; i++)
		y[i] += a * x[i];
}

static void
miss_row(void *user, int worker, int64_t i)
{
	const missing *m = user;
	const split *s = m->split;
	const ml_gram *g = &m->left;
	const double *xx = m->all->xx;
	int64_t own = s->kept[i];

	(void)worker;
	g->x[i] = m->all->x[own];
	for (int64_t j = 0; j <= i; j++)
		g->xx[ml_triangle_at(i, j)] = xx[ml_triangle_at(own, s->kept[j])];
	for (int64_t j = 0; j < s->ngone; j++) {
		int64_t at = s->gone[j];
		add_scaled(g->xe + i * g->o, xx[ml_triangle_at(own, at)], m->weight + at * g->o,
			   g->o);
	}
}

static ml_gram
find_missing(const ml_gram *all, const split *s, const double *weight, int64_t o, ml_arena *arena)
{
	missing m = {all, s, weight, ml_gram_new(arena, s->nkept, o)};
	ml_crew crew = {.workers = s->nkept < SMALL ? 1 : 0};

	m.left.rows = all->rows;
	ml_crew_do(&crew, s->nkept, miss_row, &m);
	for (int64_t j = 0; j < s->ngone; j++)
		add_scaled(m.left.e, all->x[s->gone[j]], weight + s->gone[j] * o, o);
	return m.left;
}

static ml_status
fit_others(const ml_width *w, ml_node **n, const bool *gone, ml_arena *arena)
{
	int64_t d, o;
	split s = {0};

	ml_matrix_size(*n, &d, &o);
	s.kept = ML_NEW_ARRAY(arena, int64_t, d);
	s.gone = ML_NEW_ARRAY(arena, int64_t, d);
	for (int64_t i = 0; i < d; i++) {
		if (gone[i / (d / w->groups)])
			s.gone[s.ngone++] = i;
		else
			s.kept[s.nkept++] = i;
	}
	double *weight = ML_NEW_ARRAY(arena, double, d *o), *dw = ML_NEW_ARRAY(arena, double, d *o);
	double *kept = ML_NEW_ARRAY(arena, double, d *o), *db = ML_NEW_ARRAY(arena, double, o);
	ml_matrix_weights(*n, weight, db);
	ml_gram g = find_missing(&w->gram, &s, weight, o, arena);
	if (!ml_gram_solve(&g, RIDGE, arena, kept, db))
		return ML_OK;
	for (int64_t i = 0; i < s.nkept; i++)
		memcpy(dw + s.kept[i] * o, kept + i * o, (size_t)o * sizeof *dw);
	return ml_matrix_change(*n, dw, db, n);
}

ml_status
ml_cut_width(ml_pruning *p, ml_module *m, const ml_width *w, int64_t cut)
{
	ml_node *n = cut ? ml_node_by_id(m, w->layer) : NULL;
	ml_arena arena;
	ml_status st = ML_OK;

	if (!n)
		return ML_OK;
	ml_arena_init(&arena, &p->px->cx->memory);
	bool *gone = ML_NEW_ARRAY(&arena, bool, w->groups);
	for (int64_t i = 0; i < cut; i++)
		gone[w->order[i]] = true;
	if (w->gram.rows > 0)
		st = fit_others(w, &n, gone, &arena);
	ml_places places = places_but(&arena, w->groups, w->step, gone, 0);
	if (st == ML_OK)
		ml_narrow_input(m, &n, &places, &arena);
	ml_arena_free(&arena);
	return st;
}
