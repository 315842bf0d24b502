/* eval_irregular.c -- operators of the reference evaluator that sort, search or select. */
#include "eval.h"
#include <math.h>
#include <string.h>

/* Positions to be ordered by the cells they point to. */
typedef struct order {
	const ml_cell *cell;
	int64_t stride;
	ml_dtype dtype;
	bool descending;
} order;

static bool
goes_first(const order *o, int64_t a, int64_t b)
{
	int c = ml_cell_compare(o->dtype, o->cell[a * o->stride], o->cell[b * o->stride]);

	if (c)
		return o->descending ? c > 0 : c < 0;
	return a < b;
}

/* Merge sort of n positions; `room` has space for n more. */
static void
sort(const order *o, int64_t *at, int64_t n, int64_t *room)
{
	int64_t half = n / 2, a = 0, b = half;

	if (n < 2)
		return;
	sort(o, at, half, room);
	sort(o, at + half, n - half, room);
	for (int64_t i = 0; i < n; i++)
		room[i] = a < half && (b == n || goes_first(o, at[a], at[b])) ? at[a++] : at[b++];
	memcpy(at, room, (size_t)n * sizeof *at);
}

/* An array for positions: s64 cells used as plain integers. */
static ml_status
positions(ml_eval *e, int64_t n, ml_array **array, int64_t **at)
{
	ML_STEP(ml_array_new(e, ML_s64, 1, &n, array));
	*at = &array[0]->cell[0].i;
	return ml_eval_charge(e, n * (n > 1 ? 64 - __builtin_clzll((uint64_t)n) : 1));
}

static ml_status
top_k(ml_eval *e, const ml_node *n, ml_array *const *in, ml_array **out)
{
	int axis = (int)ML_A(n, top_k, axis).i64;
	int64_t outer, count, inner, *at, *room;
	ml_array *first, *second;
	order o = {.dtype = in[0]->dtype, .descending = ML_A(n, top_k, largest).i64};

	axis += axis < 0 ? in[0]->rank : 0;
	ML_STEP(ml_array_result(e, n, 0, &out[0]));
	ML_STEP(ml_array_result(e, n, 1, &out[1]));
	ml_array_split(in[0], axis, &outer, &count, &inner);
	int64_t k = out[0]->dim[axis];
	if (k > count)
		return ml_eval_fail(e, ML_ERR_SHAPE, "k = %lld exceeds the %lld elements",
				    (long long)k, (long long)count);
	ML_STEP(positions(e, count, &first, &at));
	ML_STEP(positions(e, count, &second, &room));
	o.stride = inner;
	for (int64_t i = 0; i < outer * inner && count; i++) {
		o.cell = in[0]->cell + i / inner * count * inner + i % inner;
		for (int64_t j = 0; j < count; j++)
			at[j] = j;
		sort(&o, at, count, room);
		for (int64_t j = 0; j < k; j++) {
			int64_t to = (i / inner * k + j) * inner + i % inner;
			out[0]->cell[to] = o.cell[at[j] * inner];
			out[1]->cell[to].i = at[j];
		}
	}
	ml_array_release(e, first);
	ml_array_release(e, second);
	return ml_eval_charge(e, in[0]->count);
}

static ml_status
nonzero(ml_eval *e, const ml_array *in, ml_array **out)
{
	int64_t count = 0, column = 0;
	bool real = ml_is_float(in->dtype);
	ml_walk w = {.rank = in->rank};

	for (int64_t i = 0; i < in->count; i++)
		count += real ? in->cell[i].f != 0 : in->cell[i].i != 0;
	ML_STEP(ml_array_new(e, ML_s64, 2, (int64_t[]){in->rank, count}, out));
	memcpy(w.dim, in->dim, sizeof w.dim);
	for (int64_t i = 0; i < in->count; i++, ml_walk_next(&w)) {
		if (real ? in->cell[i].f == 0 : in->cell[i].i == 0)
			continue;
		for (int d = 0; d < in->rank; d++)
			out[0]->cell[d * count + column].i = w.at[d];
		column++;
	}
	return ML_OK;
}

/* Groups of equal elements: `at` is sorted, group[i] becomes the number of element i's group and
 * first[g] the position of its first element. */
static int64_t
group_equal(const ml_array *in, const int64_t *at, int64_t *group, int64_t *first)
{
	int64_t groups = 0;

	for (int64_t i = 0; i < in->count; i++) {
		if (!i || ml_cell_compare(in->dtype, in->cell[at[i]], in->cell[at[i - 1]]))
			first[groups++] = at[i];
		group[at[i]] = groups - 1;
	}
	return groups;
}

/* Numbers the groups by their first appearance instead of their value. */
static void
order_by_appearance(const ml_array *in, int64_t *group, int64_t *first, int64_t *renamed)
{
	int64_t groups = 0;

	for (int64_t i = 0; i < in->count; i++) {
		int64_t g = group[i];
		if (first[g] == i) {
			renamed[g] = groups;
			group[i] = groups++;
		} else {
			group[i] = renamed[g];
		}
	}
	for (int64_t i = in->count - 1; i >= 0; i--)
		first[group[i]] = i;
}

static ml_status
unique(ml_eval *e, const ml_node *n, const ml_array *in, ml_array **out)
{
	order o = {.cell = in->cell, .stride = 1, .dtype = in->dtype};
	ml_array *held[4];
	int64_t *at, *group, *first, *room;

	ML_STEP(positions(e, in->count, &held[0], &at));
	ML_STEP(positions(e, in->count, &held[1], &group));
	ML_STEP(positions(e, in->count, &held[2], &first));
	ML_STEP(positions(e, in->count, &held[3], &room));
	for (int64_t i = 0; i < in->count; i++)
		at[i] = i;
	sort(&o, at, in->count, room);
	int64_t groups = group_equal(in, at, group, first);
	if (!ML_A(n, unique, sorted).i64)
		order_by_appearance(in, group, first, room);
	ML_STEP(ml_array_new(e, in->dtype, 1, &groups, &out[0]));
	ML_STEP(ml_array_new(e, ML_s64, 1, &groups, &out[1]));
	ML_STEP(ml_array_new(e, ML_s64, 1, &in->count, &out[2]));
	ML_STEP(ml_array_new(e, ML_s64, 1, &groups, &out[3]));
	for (int64_t g = 0; g < groups; g++) {
		out[0]->cell[g] = in->cell[first[g]];
		out[1]->cell[g].i = first[g];
	}
	for (int64_t i = 0; i < in->count; i++) {
		out[2]->cell[i].i = group[i];
		out[3]->cell[group[i]].i++;
	}
	for (int i = 0; i < 4; i++)
		ml_array_release(e, held[i]);
	return ML_OK;
}

/* Corners of a box, smaller ones first. */
typedef struct box {
	double y0, x0, y1, x1;
} box;

static box
box_at(const ml_cell *c, bool center)
{
	double a = c[0].f, b = c[1].f, h = c[2].f, w = c[3].f;

	if (center) /* x, y, width, height */
		return (box){b - w / 2, a - h / 2, b + w / 2, a + h / 2};
	return (box){fmin(a, h), fmin(b, w), fmax(a, h), fmax(b, w)};
}

static bool
overlap_more(box a, box b, double threshold)
{
	double h = fmin(a.y1, b.y1) - fmax(a.y0, b.y0), w = fmin(a.x1, b.x1) - fmax(a.x0, b.x0);
	double area = (a.y1 - a.y0) * (a.x1 - a.x0), other = (b.y1 - b.y0) * (b.x1 - b.x0);

	if (h <= 0 || w <= 0 || area <= 0 || other <= 0)
		return false;
	return h * w / (area + other - h * w) > threshold;
}

/* Selects boxes of one batch and class, best score first; `at` holds their positions in front. */
static int64_t
select_boxes(const ml_array *const *in, int64_t batch, const ml_cell *score, bool center,
	     int64_t *at, int64_t *room)
{
	int64_t n = in[0]->dim[1], most = in[2]->cell[0].i, candidates = 0, selected = 0;
	const ml_cell *boxes = in[0]->cell + batch * n * 4;
	order o = {.cell = score, .stride = 1, .dtype = in[1]->dtype, .descending = true};

	for (int64_t i = 0; i < n; i++)
		if (score[i].f > in[4]->cell[0].f)
			at[candidates++] = i;
	sort(&o, at, candidates, room);
	for (int64_t i = 0; i < candidates && selected < most; i++) {
		bool keep = true;
		for (int64_t j = 0; j < selected && keep; j++)
			keep = !overlap_more(box_at(boxes + at[i] * 4, center),
					     box_at(boxes + at[j] * 4, center), in[3]->cell[0].f);
		if (keep)
			at[selected++] = at[i];
	}
	return selected;
}

static ml_status
nms(ml_eval *e, const ml_node *n, ml_array *const *in, ml_array **out)
{
	int64_t boxes = in[0]->dim[1], classes = in[1]->dim[1], *at, *room, *row, count = 0;
	ml_array *held[3];
	bool center = ML_A(n, nms, center_point_box).i64;

	for (int i = 2; i < 5; i++)
		if (in[i]->count != 1)
			return ml_eval_fail(e, ML_ERR_SHAPE, "operand %d is no scalar", i);
	ML_STEP(positions(e, boxes, &held[0], &at));
	ML_STEP(positions(e, boxes, &held[1], &room));
	ML_STEP(positions(e, in[1]->count * 3, &held[2], &row));
	for (int64_t i = 0; i < in[0]->dim[0] * classes; i++) {
		/* Every candidate may meet every selected box. */
		ML_STEP(ml_eval_charge(e, boxes * boxes));
		int64_t selected = select_boxes((const ml_array *const *)in, i / classes,
						in[1]->cell + i * boxes, center, at, room);
		for (int64_t j = 0; j < selected; j++, count++) {
			row[count * 3] = i / classes;
			row[count * 3 + 1] = i % classes;
			row[count * 3 + 2] = at[j];
		}
	}
	ML_STEP(ml_array_new(e, ML_s64, 2, (int64_t[]){count, 3}, out));
	memcpy(out[0]->cell, row, (size_t)count * 3 * sizeof *row);
	for (int i = 0; i < 3; i++)
		ml_array_release(e, held[i]);
	return ML_OK;
}

ml_status
ml_eval_irregular(ml_eval *e, const ml_node *n, ml_array *const *in, ml_array **out)
{
	switch (n->op) {
	case ML_OP_top_k: return top_k(e, n, in, out);
	case ML_OP_nonzero: return nonzero(e, in[0], out);
	case ML_OP_unique: return unique(e, n, in[0], out);
	case ML_OP_nms: return nms(e, n, in, out);
	default: return ml_eval_fail(e, ML_ERR_UNSUPPORTED, "has no evaluator");
	}
}
