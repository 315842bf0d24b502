/* compare.h -- how far a candidate's output is from a reference's, and how often it is right. */
#ifndef MD_COMPARE_H
#define MD_COMPARE_H
#include "array.h"

/* Running sums over pairs of arrays; zeroed = nothing seen.  All arithmetic is f64.
 *
 * A row is the last axis (a scalar is a row of one).  Places where both are NaN, or the same
 * infinity, are equal and left out of the sums; any other NaN or infinity is a mismatch and the
 * worst case of each metric. */
typedef struct md_compare {
	double max_abs, max_ref;   /* largest |ref - cand|, largest finite |ref| */
	double signal, noise;      /* sums of ref^2 and (ref - cand)^2 */
	double cosine_sum, kl_sum; /* over rows */
	int64_t rows, same_top, elements;
	int64_t mismatches; /* NaN or infinity in one of the two only */
} md_compare;

typedef struct md_metrics {
	double max_abs;        /* largest |ref - cand| */
	double max_rel;        /* max_abs / largest |ref|; 0 if both are 0 */
	double sqnr_db;        /* 10 log10(sum ref^2 / sum (ref - cand)^2); +inf if equal */
	double cosine;         /* mean over rows; two zero rows count 1, one alone 0 */
	double kl;             /* mean over rows of KL(softmax(ref) || softmax(cand)), in nats */
	double top1_agreement; /* share of rows with the same argmax; the lowest index wins ties */
	int64_t elements, rows, mismatches;
} md_metrics;

/* Adds one pair of equal shapes; dtypes may differ. */
int md_compare_add(md_compare *, const md_array *ref, const md_array *cand, char *why,
		   size_t why_size);

/* Nothing compared gives an exact agreement over 0 elements. */
md_metrics md_compare_metrics(const md_compare *);

/* Share of right answers against integer labels; zeroed = nothing seen. */
typedef struct md_accuracy {
	int64_t right, total;
} md_accuracy;

/* The labels of these rows, one per row in the same order: argmax of the last axis must be the
 * label.  An integer output with the labels' shape is taken as the class itself. */
int md_accuracy_add(md_accuracy *, const md_array *output, const md_array *labels, char *why,
		    size_t why_size);

/* right / total, NaN if nothing was added. */
double md_accuracy_value(const md_accuracy *);
#endif
