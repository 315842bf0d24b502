/* agree.h -- how far a candidate's outputs are from the teacher's, summed up sample by sample.
 *
 * Rows are slices along an output's last axis.  Rows of padding do not count: those where an input
 * that is a mask holds 0, if the output has the mask's axes.
 *
 * One rule says what a compression may cost: outputs that decide (logits, probabilities, integers)
 * by the share of rows whose decision changed; if the model has none, all others by ten times
 * 1 - cosine.  So a loss of 0.01 is 99 % agreement, or a cosine of 0.999.
 */
#ifndef ML_AGREE_H
#define ML_AGREE_H
#include "../ir/ir.h"

typedef enum ml_agree_kind {
	ML_AGREE_VALUES,        /* numbers: embeddings, boxes, images */
	ML_AGREE_LOGITS,        /* what a linear layer gives: the largest decides */
	ML_AGREE_PROBABILITIES, /* of a softmax */
	ML_AGREE_LABELS,        /* integers: every element is a decision */
} ml_agree_kind;

/* Sums over the rows of an output. */
typedef struct ml_agree_sums {
	int64_t rows, same; /* same: with the same decision */
	int64_t broken;     /* not finite, or of another shape, where the teacher's are fine */
	double kl, cosine;
	double teacher, candidate, product, noise; /* of squares */
} ml_agree_sums;

typedef struct ml_agree_output {
	const char *name;
	ml_agree_kind kind;
	int mask;           /* number of the input, -1 for none */
	int axis[2];        /* the output's axes that are the mask's */
	bool has_direction; /* rows are long enough; else all rows together are one vector */
	ml_agree_sums sums;
} ml_agree_output;

typedef struct ml_agree {
	ml_agree_output *output;
	int outputs;
	int64_t samples;
	bool decides; /* there are outputs that decide */
} ml_agree;

/* What sums come to; agreement is a share, kl in nats, sqnr in dB (300 at most). */
typedef struct ml_agree_means {
	int64_t rows;
	double agreement, kl, cosine, sqnr;
} ml_agree_means;

/* Probabilities are looked at by what their softmax reads. */
ml_value *ml_logits_of(ml_value *output);
/* An input with rows behind it: what it holds shows in the other outputs. */
bool ml_is_cache(const ml_value *output);
/* Names live as long as the module. */
void ml_agree_init(ml_agree *, const ml_module *teacher, ml_arena *);
/* One sample, or a batch of them: what both gave for `inputs`. */
void ml_agree_add(ml_agree *, const ml_tensor *inputs, const ml_tensor *teacher,
		  const ml_tensor *candidate);
/* Whether a row of the output counts: padding does not. */
bool ml_agree_counts_row(const ml_agree_output *, const ml_tensor *inputs, const ml_tensor *out,
			 int64_t row);
/* Forgets the samples. */
void ml_agree_clear(ml_agree *);

ml_agree_means ml_agree_of(const ml_agree_output *);
/* Over the outputs that the rule looks at. */
ml_agree_means ml_agree_total(const ml_agree *);
/* The rule: 0 is no loss; 1 as soon as a row is broken. */
double ml_agree_loss(const ml_agree *);
/* The same without steps, to order candidates by: mean KL, or ten times 1 - cosine. */
double ml_agree_error(const ml_agree *);
/* `agreement 99.2 % of 128 rows, KL 0.0021, cosine 0.9993, SQNR 31.2 dB`. */
void ml_agree_put(ml_text *, const ml_agree *);
#endif
