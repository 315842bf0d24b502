/* agree.c -- how far a candidate's outputs are from the teacher's, summed up sample by sample. */
#include "agree.h"
#include <math.h>
#include <string.h>

enum {
	SHORTEST = 8, /* elements of a row that has a direction; all shorter ones are one vector */
	DEEPEST = 16, /* nodes looked through */
};
static const double MOST_DB = 300;
/* A cosine that is lost counts as so many decisions. */
static const double COSINES = 10;

/* ---- what an output is ---- */

static bool
has_word(const char *name, const char *word)
{
	return name && strcasestr(name, word);
}

/* What an output is computed by, through what keeps the meaning of its last axis. */
static const ml_node *
origin(const ml_value *v)
{
	ml_dim last = v->type.dim[v->type.rank - 1];
	const ml_node *n = v->def;

	for (int depth = 0; n && depth < DEEPEST; depth++) {
		bool looks = n->op == ML_OP_reshape || n->op == ML_OP_cast ||
			     n->op == ML_OP_slice || n->op == ML_OP_concat;
		const ml_type *t = looks || n->op == ML_OP_add || n->op == ML_OP_mul
					   ? &ml_in(n, 0)->type
					   : NULL;
		if (!t || !t->rank || t->dim[t->rank - 1] != last)
			return n;
		n = ml_in(n, 0)->def;
	}
	return n;
}

static ml_agree_kind
kind_of(const ml_value *v, const char *name)
{
	int64_t last;

	if (!ml_is_float(v->type.dtype))
		return ML_AGREE_LABELS;
	if (v->type.rank < 2)
		return ML_AGREE_VALUES;
	if (!ml_dim_is_int(v->type.dim[v->type.rank - 1], &last) || last < 2)
		return ML_AGREE_VALUES;
	const ml_node *n = origin(v);
	if (n && n->op == ML_OP_softmax)
		return ML_AGREE_PROBABILITIES;
	if (has_word(name, "embed") || has_word(name, "hidden"))
		return ML_AGREE_VALUES;
	return (n && (n->op == ML_OP_linear || n->op == ML_OP_dot)) || has_word(name, "logit")
		       ? ML_AGREE_LOGITS
		       : ML_AGREE_VALUES;
}

ml_value *
ml_logits_of(ml_value *v)
{
	return ml_is(v, ML_OP_softmax) ? ml_in(v->def, 0) : v;
}

bool
ml_is_cache(const ml_value *v)
{
	if (!ml_is(v, ML_OP_concat))
		return false;
	for (int i = 0; i < v->def->nin; i++)
		if (!ml_in(v->def, i)->def)
			return true;
	return false;
}

static bool
is_mask(const ml_value *input)
{
	return has_word(input->name, "mask") && input->type.rank == 2;
}

/* The output has the mask's batch axis first, and its other axis before the last one. */
static void
find_mask(ml_agree_output *o, const ml_type *t, const ml_module *m)
{
	o->mask = -1;
	for (int i = 0; i < m->main->nargs && t->rank; i++) {
		const ml_type *mask = &m->main->arg[i]->type;
		if (!is_mask(m->main->arg[i]) || mask->dim[0] != t->dim[0])
			continue;
		for (int axis = 1; axis < t->rank - 1; axis++)
			if (t->dim[axis] == mask->dim[1]) {
				*o = (ml_agree_output){.mask = i, .axis = {0, axis}};
				return;
			}
	}
}

void
ml_agree_init(ml_agree *a, const ml_module *m, ml_arena *arena)
{
	const ml_node *yield = m->main->last;

	*a = (ml_agree){.outputs = yield->nin};
	a->output = ML_NEW_ARRAY(arena, ml_agree_output, yield->nin + 1);
	for (int i = 0; i < yield->nin; i++) {
		const ml_value *v = ml_in(yield, i);
		ml_agree_output *o = &a->output[i];
		find_mask(o, &v->type, m);
		o->name = i < m->output_names.count ? m->output_names.at[i] : v->name;
		o->kind = kind_of(v, o->name);
		a->decides |= o->kind != ML_AGREE_VALUES;
	}
}

void
ml_agree_clear(ml_agree *a)
{
	for (int i = 0; i < a->outputs; i++)
		a->output[i].sums = (ml_agree_sums){0};
	a->samples = 0;
}

/* ---- rows ---- */

typedef struct row {
	const ml_tensor *teacher, *candidate;
	int64_t first, length;
} row;

static double
at(const ml_tensor *t, int64_t i)
{
	return t->dtype == ML_f32 ? (double)((const float *)t->data)[i]
				  : ml_read_f64(t->dtype, t->data, i);
}

static bool
is_finite(const ml_tensor *t, const row *r)
{
	bool finite = true;

	for (int64_t i = 0; i < r->length; i++)
		finite &= isfinite(at(t, r->first + i)) != 0;
	return finite;
}

static int64_t
largest(const ml_tensor *t, const row *r)
{
	int64_t best = 0;

	for (int64_t i = 1; i < r->length; i++)
		if (at(t, r->first + i) > at(t, r->first + best))
			best = i;
	return best;
}

/* log(sum(exp)), the largest taken out. */
static double
log_sum(const ml_tensor *t, const row *r)
{
	double top = at(t, r->first + largest(t, r)), sum = 0;

	for (int64_t i = 0; i < r->length; i++)
		sum += exp(at(t, r->first + i) - top);
	return top + log(sum);
}

static double
kl_of_logits(const row *r)
{
	double p = log_sum(r->teacher, r), q = log_sum(r->candidate, r), kl = 0;

	for (int64_t i = r->first; i < r->first + r->length; i++) {
		double log_p = at(r->teacher, i) - p;
		kl += exp(log_p) * (log_p - (at(r->candidate, i) - q));
	}
	return fmax(kl, 0);
}

static double
kl_of_probabilities(const row *r)
{
	static const double LEAST = 1e-12;
	double kl = 0;

	for (int64_t i = r->first; i < r->first + r->length; i++) {
		double p = at(r->teacher, i), q = at(r->candidate, i);
		if (p > 0)
			kl += p * (log(fmax(p, LEAST)) - log(fmax(q, LEAST)));
	}
	return fmax(kl, 0);
}

static void
add_row(ml_agree_output *o, const row *r)
{
	double tt = 0, cc = 0, tc = 0, noise = 0;
	ml_agree_sums *s = &o->sums;

	if (!is_finite(r->teacher, r))
		return;
	s->rows++;
	if (!is_finite(r->candidate, r)) {
		s->broken++;
		return;
	}
	for (int64_t i = r->first; i < r->first + r->length; i++) {
		double t = at(r->teacher, i), c = at(r->candidate, i);
		tt += t * t;
		cc += c * c;
		tc += t * c;
		noise += (t - c) * (t - c);
	}
	s->teacher += tt;
	s->candidate += cc;
	s->product += tc;
	s->noise += noise;
	s->cosine += noise == 0 ? 1 : tt > 0 && cc > 0 ? tc / sqrt(tt) / sqrt(cc) : 0;
	if (o->kind == ML_AGREE_LABELS)
		s->same += noise == 0;
	else
		s->same += largest(r->teacher, r) == largest(r->candidate, r);
	if (o->kind == ML_AGREE_PROBABILITIES)
		s->kl += kl_of_probabilities(r);
	else if (o->kind == ML_AGREE_LOGITS)
		s->kl += kl_of_logits(r);
}

/* Is row number `number` of the output one that the mask leaves out? */
static bool
is_padding(const ml_agree_output *o, const ml_tensor *t, const ml_tensor *mask, int64_t number)
{
	int64_t place[2] = {0, 0};

	for (int axis = t->rank - 2; axis >= 0; axis--) {
		int64_t index = number % t->dim[axis];
		number /= t->dim[axis];
		for (int k = 0; k < 2; k++)
			if (o->axis[k] == axis)
				place[k] = index;
	}
	if (place[0] >= mask->dim[0] || place[1] >= mask->dim[1])
		return false;
	return ml_read_f64(mask->dtype, mask->data, place[0] * mask->dim[1] + place[1]) == 0;
}

bool
ml_agree_counts_row(const ml_agree_output *o, const ml_tensor *inputs, const ml_tensor *out,
		    int64_t row)
{
	return o->mask < 0 || !is_padding(o, out, &inputs[o->mask], row);
}

static void
add_output(ml_agree_output *o, const ml_tensor *inputs, const ml_tensor *t, const ml_tensor *c)
{
	int64_t length = t->rank && o->kind != ML_AGREE_LABELS ? t->dim[t->rank - 1] : 1, rows = 1;

	for (int i = 0; i < t->rank; i++)
		rows *= t->dim[i];
	if (!rows)
		return;
	rows /= length;
	o->has_direction = length >= SHORTEST;
	if (t->bytes != c->bytes || t->dtype != c->dtype) {
		o->sums.rows += rows;
		o->sums.broken += rows;
		return;
	}
	for (int64_t i = 0; i < rows; i++) {
		row r = {t, c, i * length, length};
		if (ml_agree_counts_row(o, inputs, t, i))
			add_row(o, &r);
	}
}

void
ml_agree_add(ml_agree *a, const ml_tensor *inputs, const ml_tensor *teacher,
	     const ml_tensor *candidate)
{
	for (int i = 0; i < a->outputs; i++)
		add_output(&a->output[i], inputs, &teacher[i], &candidate[i]);
	a->samples++;
}

/* ---- what it comes to ---- */

ml_agree_means
ml_agree_of(const ml_agree_output *o)
{
	const ml_agree_sums *s = &o->sums;
	double n = (double)s->rows, both = sqrt(s->teacher) * sqrt(s->candidate);
	ml_agree_means m = {.rows = s->rows, .agreement = 1, .cosine = 1, .sqnr = MOST_DB};

	if (!s->rows)
		return m;
	m.agreement = (double)s->same / n;
	m.kl = s->kl / n;
	if (o->has_direction)
		m.cosine = s->cosine / n;
	else if (s->noise > 0)
		m.cosine = both > 0 ? s->product / both : 0;
	if (s->noise > 0)
		m.sqnr = 10 * log10(s->teacher / s->noise);
	m.sqnr = fmin(fmax(m.sqnr, -MOST_DB), MOST_DB);
	return m;
}

static bool
counts(const ml_agree *a, const ml_agree_output *o)
{
	return o->sums.rows && (!a->decides || o->kind != ML_AGREE_VALUES);
}

/* Means weighted by rows; the noise of all against the signal of all. */
ml_agree_means
ml_agree_total(const ml_agree *a)
{
	ml_agree_means sum = {.agreement = 1, .cosine = 1, .sqnr = MOST_DB};
	double agreement = 0, kl = 0, cosine = 0, signal = 0, noise = 0;

	for (int i = 0; i < a->outputs; i++) {
		const ml_agree_output *o = &a->output[i];
		ml_agree_means m = ml_agree_of(o);
		if (!counts(a, o))
			continue;
		sum.rows += m.rows;
		agreement += m.agreement * (double)m.rows;
		kl += m.kl * (double)m.rows;
		cosine += m.cosine * (double)m.rows;
		signal += o->sums.teacher;
		noise += o->sums.noise;
	}
	if (!sum.rows)
		return sum;
	sum.agreement = agreement / (double)sum.rows;
	sum.kl = kl / (double)sum.rows;
	sum.cosine = cosine / (double)sum.rows;
	if (noise > 0)
		sum.sqnr = fmin(fmax(10 * log10(signal / noise), -MOST_DB), MOST_DB);
	return sum;
}

double
ml_agree_loss(const ml_agree *a)
{
	double worst = 0;

	for (int i = 0; i < a->outputs; i++) {
		const ml_agree_output *o = &a->output[i];
		ml_agree_means m = ml_agree_of(o);
		if (!counts(a, o))
			continue;
		if (o->sums.broken)
			return 1;
		worst = fmax(worst, a->decides ? 1 - m.agreement : COSINES * (1 - m.cosine));
	}
	return worst;
}

double
ml_agree_error(const ml_agree *a)
{
	double sum = 0;

	for (int i = 0; i < a->outputs; i++) {
		const ml_agree_output *o = &a->output[i];
		ml_agree_means m = ml_agree_of(o);
		if (!counts(a, o))
			continue;
		if (o->sums.broken)
			return INFINITY;
		if (o->kind == ML_AGREE_LABELS)
			sum += 1 - m.agreement;
		else
			sum += a->decides ? m.kl : COSINES * (1 - m.cosine);
	}
	return sum;
}

void
ml_agree_put(ml_text *t, const ml_agree *a)
{
	ml_agree_means m = ml_agree_total(a);

	if (a->decides)
		ml_put(t, "agreement %.4g %% of %lld rows, KL %.3g, ", 100 * m.agreement,
		       (long long)m.rows, m.kl);
	ml_put(t, "cosine %.6g", m.cosine);
	if (!a->decides)
		ml_put(t, " over %lld rows", (long long)m.rows);
	if (m.sqnr < MOST_DB)
		ml_put(t, ", SQNR %.1f dB", m.sqnr);
}
