/* compare.c -- streaming metrics of two arrays. */
#include "compare.h"
#include <inttypes.h>
#include <math.h>
#include <string.h>

/* Rows can be whole feature maps: they are read in pieces of this many elements. */
enum { PIECE = 512 };

typedef struct pair {
	const md_array *ref, *cand;
} pair;

/* Argmax in progress.  A NaN is the largest of all, as in numpy. */
typedef struct top {
	double value;
	int64_t index; /* -1 before the first */
} top;

static void
raise_top(top *t, double value, int64_t index)
{
	if (t->index >= 0 && (isnan(t->value) || !(value > t->value || isnan(value))))
		return;
	t->value = value;
	t->index = index;
}

/* What one pass over a row gathers. */
typedef struct row_sums {
	double dot, ref_norm, cand_norm; /* of the places that count */
	top ref_top, cand_top;
	int64_t mismatches;
} row_sums;

/* Equal NaNs and equal infinities: exact, but nothing can be computed with them. */
static bool
is_same_nonfinite(double r, double c)
{
	return (isnan(r) && isnan(c)) || (isinf(r) && r == c);
}

static void
add_place(md_compare *sums, row_sums *row, double r, double c)
{
	double error;

	if (isfinite(r))
		sums->max_ref = fmax(sums->max_ref, fabs(r));
	if (is_same_nonfinite(r, c))
		return;
	if (!isfinite(r) || !isfinite(c)) {
		sums->max_abs = INFINITY;
		row->mismatches++;
		return;
	}
	error = fabs(r - c);
	sums->max_abs = fmax(sums->max_abs, error);
	sums->signal += r * r;
	sums->noise += error * error;
	row->dot += r * c;
	row->ref_norm += r * r;
	row->cand_norm += c * c;
}

static void
scan_row(md_compare *sums, row_sums *row, const pair *p, int64_t first, int64_t length)
{
	double ref[PIECE], cand[PIECE];

	*row = (row_sums){.ref_top.index = -1, .cand_top.index = -1};
	for (int64_t done = 0; done < length; done += PIECE) {
		int64_t n = length - done < PIECE ? length - done : PIECE;

		md_array_read_f64(p->ref, first + done, n, ref);
		md_array_read_f64(p->cand, first + done, n, cand);
		for (int64_t i = 0; i < n; i++) {
			raise_top(&row->ref_top, ref[i], done + i);
			raise_top(&row->cand_top, cand[i], done + i);
			add_place(sums, row, ref[i], cand[i]);
		}
	}
}

/* KL(softmax(ref) || softmax(cand)) of a row without mismatches, as
 * sum p (r - c) - log Z_ref + log Z_cand with both shifted by their largest value. */
static double
row_kl(const row_sums *row, const pair *p, int64_t first, int64_t length)
{
	double ref[PIECE], cand[PIECE];
	double ref_z = 0, cand_z = 0, moment = 0, kl;
	double ref_max = row->ref_top.value, cand_max = row->cand_top.value;

	for (int64_t done = 0; done < length; done += PIECE) {
		int64_t n = length - done < PIECE ? length - done : PIECE;

		md_array_read_f64(p->ref, first + done, n, ref);
		md_array_read_f64(p->cand, first + done, n, cand);
		for (int64_t i = 0; i < n; i++) {
			double r, c, weight;

			if (is_same_nonfinite(ref[i], cand[i]))
				continue;
			r = ref[i] - ref_max;
			c = cand[i] - cand_max;
			weight = exp(r);
			ref_z += weight;
			cand_z += exp(c);
			moment += weight * (r - c);
		}
	}
	kl = moment / ref_z - log(ref_z) + log(cand_z);
	return kl > 0 ? kl : 0; /* rounding can leave -1e-17 */
}

static double
row_cosine(const row_sums *row)
{
	if (row->mismatches)
		return 0;
	if (row->ref_norm == 0 || row->cand_norm == 0)
		return row->ref_norm == row->cand_norm;
	return row->dot / sqrt(row->ref_norm) / sqrt(row->cand_norm);
}

static void
add_row(md_compare *sums, const pair *p, int64_t first, int64_t length)
{
	row_sums row;

	scan_row(sums, &row, p, first, length);
	sums->rows++;
	sums->elements += length;
	sums->mismatches += row.mismatches;
	sums->same_top += row.ref_top.index == row.cand_top.index;
	sums->cosine_sum += row_cosine(&row);
	if (row.mismatches)
		sums->kl_sum = INFINITY;
	else if (isfinite(row.ref_top.value) && isfinite(row.cand_top.value))
		sums->kl_sum += row_kl(&row, p, first, length);
	/* Otherwise both have NaN or an infinity on top at the same places: no distribution, equal.
	 */
}

static int64_t
row_length(const md_array *a)
{
	return a->rank ? a->dim[a->rank - 1] : 1;
}

int
md_compare_add(md_compare *sums, const md_array *ref, const md_array *cand, char *why,
	       size_t why_size)
{
	int64_t length = row_length(ref), elements = md_array_elements(ref);
	char ref_type[128], cand_type[128];
	pair p = {ref, cand};

	if (ref->rank != cand->rank ||
	    memcmp(ref->dim, cand->dim, (size_t)ref->rank * sizeof *ref->dim))
		return md_fail(why, why_size, "cannot compare '%s': reference %s, candidate %s",
			       ref->name, md_array_type(ref, ref_type, sizeof ref_type),
			       md_array_type(cand, cand_type, sizeof cand_type));
	for (int64_t first = 0; first < elements; first += length)
		add_row(sums, &p, first, length);
	return 0;
}

static double
decibels(const md_compare *s)
{
	if (s->mismatches)
		return -INFINITY;
	if (s->noise == 0)
		return INFINITY;
	return 10 * log10(s->signal / s->noise);
}

md_metrics
md_compare_metrics(const md_compare *s)
{
	double rows = s->rows ? (double)s->rows : 1;

	return (md_metrics){
		.max_abs = s->max_abs,
		.max_rel = s->max_abs == 0 ? 0 : s->max_abs / s->max_ref,
		.sqnr_db = decibels(s),
		.cosine = s->rows ? s->cosine_sum / rows : 1,
		.kl = s->kl_sum / rows,
		.top1_agreement = s->rows ? (double)s->same_top / rows : 1,
		.elements = s->elements,
		.rows = s->rows,
		.mismatches = s->mismatches,
	};
}

static bool
is_integer(md_dtype dtype)
{
	return dtype >= MD_I8 && dtype <= MD_U64;
}

static int64_t
row_argmax(const md_array *a, int64_t first, int64_t length)
{
	double piece[PIECE];
	top best = {0, -1};

	for (int64_t done = 0; done < length; done += PIECE) {
		int64_t n = length - done < PIECE ? length - done : PIECE;

		md_array_read_f64(a, first + done, n, piece);
		for (int64_t i = 0; i < n; i++)
			raise_top(&best, piece[i], done + i);
	}
	return best.index;
}

int
md_accuracy_add(md_accuracy *acc, const md_array *output, const md_array *labels, char *why,
		size_t why_size)
{
	int64_t count = md_array_elements(labels), elements = md_array_elements(output);
	bool is_class =
		is_integer(output->dtype) && output->rank == labels->rank &&
		!memcmp(output->dim, labels->dim, (size_t)labels->rank * sizeof *labels->dim);
	int64_t length = is_class ? 1 : row_length(output);

	if (!is_integer(labels->dtype))
		return md_fail(why, why_size, "labels must be integers, not %s",
			       md_dtype_name(labels->dtype));
	if (length == 0 || elements / length != count)
		return md_fail(why, why_size, "%" PRId64 " labels for %" PRId64 " rows of '%s'",
			       count, length ? elements / length : 0, output->name);
	for (int64_t i = 0; i < count; i++) {
		double label, class;

		md_array_read_f64(labels, i, 1, &label);
		if (is_class)
			md_array_read_f64(output, i, 1, &class);
		else
			class = (double)row_argmax(output, i * length, length);
		acc->right += class == label;
	}
	acc->total += count;
	return 0;
}

double
md_accuracy_value(const md_accuracy *acc)
{
	return acc->total ? (double)acc->right / (double)acc->total : NAN;
}
