/* routines.c -- irregular operators: top-k, nonzero, unique and non-maximum suppression. */
#include "routines.h"
#include "mlopt/mlopt.h"

static int32_t
fail(const mlrt_routine *r, ml_status status, int64_t value, int64_t limit)
{
	int32_t fine = 0;

	if (__atomic_compare_exchange_n(&r->fault->status, &fine, (int32_t)status, 0,
					__ATOMIC_RELAXED, __ATOMIC_RELAXED)) {
		r->fault->site = r->site;
		r->fault->value = value;
		r->fault->limit = limit;
	}
	return (int32_t)status;
}

/* ---- elements ---- */

static float
f32_from_bits(uint32_t bits)
{
	float f;

	__builtin_memcpy(&f, &bits, sizeof f);
	return f;
}

/* Written out because conversions of f16 would call a compiler's support library. */
static double
f16_value(uint16_t h)
{
	uint32_t sign = (uint32_t)(h & 0x8000) << 16, exponent = h >> 10 & 31, fraction = h & 1023;

	if (exponent == 31)
		return f32_from_bits(sign | 0x7f800000 | fraction << 13);
	if (exponent)
		return f32_from_bits(sign | (exponent + 112) << 23 | fraction << 13);
	return (sign ? -1.0 : 1.0) * fraction * (1.0 / 16777216); /* 2^-24 */
}

/* Tensors promise element alignment only as far as the caller keeps it: read by bytes. */
#define READ(type, from)                                                                           \
	({                                                                                         \
		type value_;                                                                       \
		__builtin_memcpy(&value_, (from), sizeof value_);                                  \
		value_;                                                                            \
	})

static double
float_at(int32_t dtype, const uint8_t *p)
{
	switch (dtype) {
	case ML_f64: return READ(double, p);
	case ML_f16: return f16_value(READ(uint16_t, p));
	case ML_bf16: return f32_from_bits((uint32_t)READ(uint16_t, p) << 16);
	default: return READ(float, p);
	}
}

/* Unsigned 64-bit values keep their bits. */
static int64_t
integer_at(int32_t dtype, const uint8_t *p)
{
	switch (dtype) {
	case ML_s32: return READ(int32_t, p);
	case ML_s16: return READ(int16_t, p);
	case ML_s8: return READ(int8_t, p);
	case ML_u32: return READ(uint32_t, p);
	case ML_u16: return READ(uint16_t, p);
	case ML_u8:
	case ML_bool: return *p;
	default: return READ(int64_t, p);
	}
}

static int
is_float(int32_t dtype)
{
	return dtype == ML_f64 || dtype == ML_f32 || dtype == ML_f16 || dtype == ML_bf16;
}

static int64_t
bytes_of(int32_t dtype)
{
	switch (dtype) {
	case ML_f64:
	case ML_s64:
	case ML_u64: return 8;
	case ML_f32:
	case ML_s32:
	case ML_u32: return 4;
	case ML_s8:
	case ML_u8:
	case ML_bool: return 1;
	default: return 2;
	}
}

/* Equal NaNs above all numbers, as the evaluator orders them. */
static int
compare_floats(double a, double b)
{
	if (a != a || b != b)
		return (a != a) - (b != b);
	return (a > b) - (a < b);
}

/* A sequence of elements to be ordered: element i lies at base + i * stride. */
typedef struct order {
	const uint8_t *base;
	int64_t stride; /* in bytes */
	int32_t dtype;
	int descending;
} order;

static int
compare(const order *o, int64_t i, int64_t j)
{
	const uint8_t *p = o->base + i * o->stride, *q = o->base + j * o->stride;

	if (is_float(o->dtype))
		return compare_floats(float_at(o->dtype, p), float_at(o->dtype, q));
	int64_t a = integer_at(o->dtype, p), b = integer_at(o->dtype, q);
	if (o->dtype == ML_u64)
		return ((uint64_t)a > (uint64_t)b) - ((uint64_t)a < (uint64_t)b);
	return (a > b) - (a < b);
}

/* A total order: equal elements keep the order of their positions. */
static int
goes_first(const order *o, int64_t i, int64_t j)
{
	int c = compare(o, i, j);

	if (c)
		return o->descending ? c > 0 : c < 0;
	return i < j;
}

/* Positions in an array, `step` words apart: results of a strided axis, or a column of rows. */
typedef struct places {
	int64_t *at;
	int64_t step;
} places;

/* Heap with the last element of the order on top: moves the one at `hole` down to its place. */
static void
sift_down(const order *o, places p, int64_t hole, int64_t n)
{
	int64_t moved = p.at[hole * p.step];

	for (int64_t child; (child = 2 * hole + 1) < n; hole = child) {
		if (child + 1 < n &&
		    goes_first(o, p.at[child * p.step], p.at[(child + 1) * p.step]))
			child++;
		if (!goes_first(o, moved, p.at[child * p.step]))
			break;
		p.at[hole * p.step] = p.at[child * p.step];
	}
	p.at[hole * p.step] = moved;
}

static void
make_heap(const order *o, places p, int64_t n)
{
	for (int64_t i = n / 2; i-- > 0;)
		sift_down(o, p, i, n);
}

static void
sort_heap(const order *o, places p, int64_t n)
{
	while (n-- > 1) {
		int64_t last = p.at[0];
		p.at[0] = p.at[n * p.step];
		p.at[n * p.step] = last;
		sift_down(o, p, 0, n);
	}
}

/* ---- top_k ---- */

/* Keeps the first k of n in a heap, then sorts them. */
static void
select_first(const order *o, places p, int64_t k, int64_t n)
{
	for (int64_t i = 0; i < k; i++)
		p.at[i * p.step] = i;
	make_heap(o, p, k);
	for (int64_t i = k; i < n; i++)
		if (goes_first(o, i, p.at[0])) {
			p.at[0] = i;
			sift_down(o, p, 0, k);
		}
	sort_heap(o, p, k);
}

int32_t
mlrt_top_k(const mlrt_routine *r)
{
	int64_t k = r->attr[0], axis = r->attr[1] < 0 ? r->attr[1] + r->rank[0] : r->attr[1];
	int64_t n = r->dim[axis], outer = 1, inner = 1, size = bytes_of(r->dtype[0]);
	uint8_t *values = r->buffer[1];
	int64_t *indices = r->buffer[2];

	for (int64_t i = 0; i < axis; i++)
		outer *= r->dim[i];
	for (int64_t i = axis + 1; i < r->rank[0]; i++)
		inner *= r->dim[i];
	if (k > n || k < 0)
		return fail(r, ML_ERR_SHAPE, k, n);
	for (int64_t line = 0; k && line < outer * inner; line++) {
		int64_t in = line / inner * n * inner + line % inner;
		int64_t out = line / inner * k * inner + line % inner;
		order o = {(const uint8_t *)r->buffer[0] + in * size, inner * size, r->dtype[0],
			   r->attr[2] != 0};
		select_first(&o, (places){indices + out, inner}, k, n);
		for (int64_t i = 0; i < k; i++)
			__builtin_memcpy(values + (out + i * inner) * size,
					 o.base + indices[out + i * inner] * o.stride,
					 (size_t)size);
	}
	return 0;
}

/* ---- nonzero ---- */

static int
is_nonzero(int32_t dtype, const uint8_t *p)
{
	return is_float(dtype) ? float_at(dtype, p) != 0 : integer_at(dtype, p) != 0;
}

int32_t
mlrt_nonzero(const mlrt_routine *r)
{
	const uint8_t *x = r->buffer[0];
	int64_t *to = r->buffer[1], size = bytes_of(r->dtype[0]), elements = 1, found = 0,
		column = 0;

	for (int32_t d = 0; d < r->rank[0]; d++)
		elements *= r->dim[d];
	for (int64_t i = 0; i < elements; i++)
		found += is_nonzero(r->dtype[0], x + i * size);
	for (int64_t i = 0; i < elements; i++) {
		if (!is_nonzero(r->dtype[0], x + i * size))
			continue;
		int64_t rest = i;
		for (int32_t d = r->rank[0]; d-- > 0; rest /= r->dim[d])
			to[d * found + column] = rest % r->dim[d];
		column++;
	}
	*r->size = found;
	return 0;
}

/* ---- unique ---- */

/* `first` holds the sorted positions and becomes the first position of every group. */
static int64_t
group_equal(const order *o, int64_t n, int64_t *first, int64_t *group)
{
	int64_t groups = 0, previous = 0;

	for (int64_t i = 0; i < n; i++) {
		int64_t at = first[i];
		if (!i || compare(o, at, previous))
			first[groups++] = at;
		group[at] = groups - 1;
		previous = at;
	}
	return groups;
}

/* Numbers the groups by their first appearance instead of their value. */
static void
order_by_appearance(int64_t n, int64_t *first, int64_t *group, int64_t *renamed)
{
	int64_t groups = 0;

	for (int64_t i = 0; i < n; i++) {
		int64_t g = group[i];
		if (first[g] == i)
			renamed[g] = groups++;
		group[i] = renamed[g];
	}
	for (int64_t i = n; i-- > 0;)
		first[group[i]] = i;
}

int32_t
mlrt_unique(const mlrt_routine *r)
{
	int64_t n = r->dim[0], size = bytes_of(r->dtype[0]);
	order o = {r->buffer[0], size, r->dtype[0], 0};
	uint8_t *values = r->buffer[1];
	int64_t *first = r->buffer[2], *group = r->buffer[3], *counts = r->buffer[4];

	for (int64_t i = 0; i < n; i++)
		first[i] = i;
	make_heap(&o, (places){first, 1}, n);
	sort_heap(&o, (places){first, 1}, n);
	int64_t groups = group_equal(&o, n, first, group);
	if (!r->attr[0])
		order_by_appearance(n, first, group, counts);
	for (int64_t g = 0; g < groups; g++) {
		__builtin_memcpy(values + g * size, o.base + first[g] * size, (size_t)size);
		counts[g] = 0;
	}
	for (int64_t i = 0; i < n; i++)
		counts[group[i]]++;
	*r->size = groups;
	return 0;
}

/* ---- nms ---- */

/* Corners of a box, smaller ones first. */
typedef struct box {
	double y0, x0, y1, x1;
} box;

static double
smaller(double a, double b)
{
	return a < b ? a : b;
}

static double
larger(double a, double b)
{
	return a > b ? a : b;
}

static box
box_at(const mlrt_routine *r, int64_t i)
{
	const uint8_t *p = (const uint8_t *)r->buffer[0] + i * 4 * bytes_of(r->dtype[0]);
	double c[4];

	for (int k = 0; k < 4; k++)
		c[k] = float_at(r->dtype[0], p + k * bytes_of(r->dtype[0]));
	if (r->attr[0]) /* x, y, width, height */
		return (box){c[1] - c[3] / 2, c[0] - c[2] / 2, c[1] + c[3] / 2, c[0] + c[2] / 2};
	return (box){smaller(c[0], c[2]), smaller(c[1], c[3]), larger(c[0], c[2]),
		     larger(c[1], c[3])};
}

static int
overlap_more(box a, box b, double threshold)
{
	double h = smaller(a.y1, b.y1) - larger(a.y0, b.y0);
	double w = smaller(a.x1, b.x1) - larger(a.x0, b.x0);
	double area = (a.y1 - a.y0) * (a.x1 - a.x0), other = (b.y1 - b.y0) * (b.x1 - b.x0);

	if (!(h > 0 && w > 0 && area > 0 && other > 0))
		return 0;
	return h * w / (area + other - h * w) > threshold;
}

/* Selects boxes of one batch and class, best score first.  Their numbers stand in every third
 * word from `row` on, where first all candidates stood. */
static int64_t
select_boxes(const mlrt_routine *r, const order *scores, int64_t first_box, int64_t boxes,
	     int64_t *row)
{
	int64_t most = integer_at(r->dtype[2], r->buffer[2]), candidates = 0, selected = 0;
	double iou = float_at(r->dtype[3], r->buffer[3]),
	       least = float_at(r->dtype[4], r->buffer[4]);

	for (int64_t i = 0; i < boxes; i++)
		if (float_at(scores->dtype, scores->base + i * scores->stride) > least)
			row[candidates++ * 3] = i;
	make_heap(scores, (places){row, 3}, candidates);
	sort_heap(scores, (places){row, 3}, candidates);
	for (int64_t i = 0; i < candidates && selected < most; i++) {
		box b = box_at(r, first_box + row[i * 3]);
		int keep = 1;
		for (int64_t j = 0; j < selected && keep; j++)
			keep = !overlap_more(b, box_at(r, first_box + row[j * 3]), iou);
		if (keep)
			row[selected++ * 3] = row[i * 3];
	}
	return selected;
}

int32_t
mlrt_nms(const mlrt_routine *r)
{
	int64_t batches = r->dim[0], boxes = r->dim[1], classes = r->dim[4], found = 0;
	int64_t *to = r->buffer[5], size = bytes_of(r->dtype[1]);

	for (int64_t i = 0; i < batches * classes; i++) {
		order scores = {(const uint8_t *)r->buffer[1] + i * boxes * size, size, r->dtype[1],
				1};
		int64_t *row = to + found * 3;
		int64_t n = select_boxes(r, &scores, i / classes * boxes, boxes, row + 2);
		for (int64_t j = 0; j < n; j++) {
			row[j * 3] = i / classes;
			row[j * 3 + 1] = i % classes;
		}
		found += n;
	}
	*r->size = found;
	return 0;
}
