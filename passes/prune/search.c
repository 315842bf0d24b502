/* search.c -- which cuts save enough: sets of branches and layers, the rest from widths, by the sum
 * of their scores; the best ones are run and judged.
 *
 * Scores of parts taken out add up badly, and repair takes most of their loss away, while widths
 * are fitted already: what is known of both is used to choose what is looked at, no more.
 */
#include "prune.h"
#include <math.h>
#include <stdlib.h>
#include <string.h>

static const double REPAIRED = 0.6; /* the share of a branch's loss that remains */
static const double NEARLY = 0.97;  /* of what is to be saved is enough: clocks are no better */
enum {
	ENUMERATED = 18,  /* units: all sets are looked at */
	CANDIDATES = 5,   /* that are run */
	DRAWS = 256,      /* of scores, when there are too many sets */
	MOST_JUDGED = 70, /* sets of layers: all are run when there are no more */
	REPAIRS = 6,      /* sets of layers that are worth more than a look, */
	FEWER = 2,        /* and cuts of all kinds */
	ROUNDS = 3,       /* until the time saved is what was predicted */
};

typedef struct candidate {
	ml_cuts cuts;
	double score;
	double need; /* to be saved by widths */
} candidate;

typedef struct search {
	ml_pruning *p;
	ML_VEC(candidate) found;
} search;

/* ---- sets of units ---- */

static double
saved_by(const ml_pruning *p, const bool *gone)
{
	double saved = 0;

	for (int i = 0; i < p->units; i++)
		saved += gone[i] ? p->unit[i].saved : 0;
	return saved;
}

static bool
overlap(const ml_prunable *a, const ml_prunable *b)
{
	return a->first < b->first + b->count && b->first < a->first + a->count;
}

/* No part goes twice, and none without need. */
static bool
is_tight(const ml_pruning *p, const bool *gone)
{
	double saved = saved_by(p, gone);

	for (int i = 0; i < p->units; i++) {
		if (gone[i] && saved - p->unit[i].saved >= p->need)
			return false;
		for (int k = 0; k < i; k++)
			if (gone[i] && gone[k] && overlap(&p->unit[i], &p->unit[k]))
				return false;
	}
	return true;
}

/* ---- widths ---- */

static double
cost_of(const ml_width *w, int64_t from, int64_t count)
{
	double score = 0;

	for (int64_t i = from; i < from + count; i++)
		score += w->score[w->order[i]];
	return w->weight * score;
}

/* Cheapest parts first until enough is saved; adds what that costs.  False: there is not enough. */
static bool
fill_by_widths(const ml_pruning *p, double need, ml_cuts *cuts, double *cost)
{
	while (need > 0) {
		double least = INFINITY;
		int best = -1;
		for (int i = 0; i < p->width.count; i++) {
			const ml_width *w = &p->width.at[i];
			if (w->saved <= 0 || cuts->cut[i] + w->chunk > w->most)
				continue;
			double c =
				cost_of(w, cuts->cut[i], w->chunk) / (w->saved * (double)w->chunk);
			if (best < 0 || c < least) {
				least = c;
				best = i;
			}
		}
		if (best < 0)
			return false;
		const ml_width *w = &p->width.at[best];
		*cost += cost_of(w, cuts->cut[best], w->chunk);
		cuts->cut[best] += w->chunk;
		need -= w->saved * (double)w->chunk;
	}
	return true;
}

/* Layers that go need not be narrowed. */
static bool
width_stays(const ml_pruning *p, const ml_width *w, const bool *keep)
{
	for (int i = 0; i < p->blocks.branch.count; i++)
		for (int k = 0; k < p->blocks.branch.at[i].nodes; k++)
			if (p->blocks.branch.at[i].node[k]->id == w->layer)
				return keep[i];
	return true;
}

/* Cuts widths so that with the branches that go `need` is saved. */
static bool
cut_widths(const ml_pruning *p, double need, ml_cuts *cuts, double *cost)
{
	for (int i = 0; i < p->width.count; i++)
		cuts->cut[i] =
			width_stays(p, &p->width.at[i], cuts->keep) ? 0 : p->width.at[i].groups;
	bool enough = fill_by_widths(p, need, cuts, cost);
	for (int i = 0; i < p->width.count; i++)
		if (cuts->cut[i] == p->width.at[i].groups)
			cuts->cut[i] = 0;
	return enough;
}

static void
add_candidate(search *s, const bool *gone)
{
	ml_pruning *p = s->p;
	candidate c = {.cuts = ml_no_cuts(p), .need = p->need - saved_by(p, gone)};

	for (int i = 0; i < p->units; i++)
		for (int k = 0; gone[i] && k < p->unit[i].count; k++)
			c.cuts.keep[p->unit[i].first + k] = false;
	for (int i = 0; i < p->units; i++)
		c.score += gone[i] ? REPAIRED * p->unit[i].error : 0;
	if (!cut_widths(p, c.need, &c.cuts, &c.score))
		return;
	for (int i = 0; i < s->found.count; i++) {
		candidate *same = &s->found.at[i];
		if (memcmp(same->cuts.keep, c.cuts.keep,
			   (size_t)p->blocks.branch.count * sizeof(bool)))
			continue;
		/* A layer, and all of its branches: what was measured together counts. */
		if (c.score < same->score)
			*same = c;
		return;
	}
	ML_PUSH(p->arena, s->found, c);
}

/* ---- which sets ---- */

static void
enumerate(search *s)
{
	const ml_pruning *p = s->p;
	bool *gone = ML_NEW_ARRAY(p->arena, bool, p->units + 1);

	for (unsigned bits = 0; bits < 1u << p->units; bits++) {
		for (int i = 0; i < p->units; i++)
			gone[i] = bits >> i & 1;
		bool filled = p->width.count > 0 && __builtin_popcount(bits) <= 2;
		if ((filled || saved_by(p, gone) >= p->need) && is_tight(p, gone))
			add_candidate(s, gone);
	}
}

/* Cheapest first by error for what is saved, then what turns out superfluous comes back. */
static void
fill_greedily(const ml_pruning *p, const double *error, int most, bool *gone)
{
	int n = p->units;

	for (int i = 0; i < n; i++)
		gone[i] = false;
	for (int k = 0; k < most && saved_by(p, gone) < p->need; k++) {
		int best = -1;
		for (int i = 0; i < n; i++) {
			bool free = !gone[i] && p->unit[i].saved > 0;
			for (int j = 0; j < n && free; j++)
				free = !gone[j] || !overlap(&p->unit[i], &p->unit[j]);
			if (free && (best < 0 || error[i] * p->unit[best].saved <
							 error[best] * p->unit[i].saved))
				best = i;
		}
		if (best < 0)
			return;
		gone[best] = true;
	}
	for (int i = n - 1; i >= 0; i--)
		if (gone[i] && saved_by(p, gone) - p->unit[i].saved >= p->need)
			gone[i] = false;
}

/* Draws around scores give other sets. */
static void
draw(search *s)
{
	const ml_pruning *p = s->p;
	bool *gone = ML_NEW_ARRAY(p->arena, bool, p->units + 1);
	double *error = ML_NEW_ARRAY(p->arena, double, p->units + 1);
	uint64_t seed = 1;

	for (int k = 0; k < DRAWS; k++) {
		for (int i = 0; i < p->units; i++) {
			seed = seed * 6364136223846793005u + 1442695040888963407u;
			double u = (double)(seed >> 11) / (double)(1ull << 53);
			error[i] = p->unit[i].error * (k ? 0.5 + u : 1);
		}
		int most = p->width.count ? k % (p->units + 1) : p->units;
		fill_greedily(p, error, most, gone);
		if (p->width.count || saved_by(p, gone) >= p->need)
			add_candidate(s, gone);
	}
}

/* ---- judging ---- */

static int
by_score(const void *a, const void *b)
{
	double d = ((const candidate *)a)->score - ((const candidate *)b)->score;

	return (d > 0) - (d < 0);
}

static bool
takes_branches(const ml_pruning *p, const ml_cuts *c)
{
	for (int i = 0; i < p->blocks.branch.count; i++)
		if (!c->keep[i])
			return true;
	return false;
}

/* A row of the table of what was tried. */
static void
write_down(const ml_pruning *p, ml_cuts *c)
{
	ml_table *t = ml_record_table(p->px->record, "prune_tried", "Cuts that were tried");
	int row = c->row = ml_table_row(t, ml_format(p->arena, "%d", t->rows.count + 1));

	ml_table_text(t, row, "the model", ml_prune_words(p, c));
	ml_table_number(t, row, "loss before repair", ML_UNIT_NONE, c->error);
	if (p->target.kind == ML_TARGET_MACS)
		ml_table_number(t, row, "MACs", ML_UNIT_COUNT, c->seconds);
	else if (c->seconds > 0)
		ml_table_number(t, row, "time", ML_UNIT_SECONDS, c->seconds);
	bool timed = p->target.kind == ML_TARGET_SPEEDUP;
	ml_remark(p->px->cx, NULL, "tried %s: loss %.4f%s", ml_prune_words(p, c), c->error,
		  timed ? ml_format(p->arena, ", %.3f ms", c->seconds * 1e3) : "");
}

/* Parts of a model that is already faster save less: what is missing is asked of the widths. */
static ml_status
try_candidate(ml_pruning *p, candidate *c)
{
	double cost;

	for (int round = 0; round < ROUNDS; round++) {
		ML_STEP(ml_prune_try(p, &c->cuts));
		c->score = c->cuts.error * (takes_branches(p, &c->cuts) ? REPAIRED : 1);
		write_down(p, &c->cuts);
		double missing = p->need - (p->seconds - c->cuts.seconds);
		double slack = p->target.kind == ML_TARGET_SPEEDUP ? (1 - NEARLY) * p->need : 0;
		if (!ml_prune_counts_runs(p) || missing <= slack)
			return ML_OK;
		double before = c->need;
		c->need = fmax(c->need, 0) + missing;
		if (before > 0 && c->need > 2 * before)
			c->need = 2 * before;
		if (!cut_widths(p, c->need, &c->cuts, &cost))
			break;
	}
	c->score = INFINITY;
	return ML_OK;
}

/* By a score of the user's the first set that saves enough is the one, however the model does. */
static ml_status
judge(search *s, int n)
{
	ml_pruning *p = s->p;
	bool done = false;

	p->steps = p->step + n + REPAIRS;
	p->samples.half = true;
	for (int i = 0; i < n; i++) {
		candidate *c = &s->found.at[i];
		if (done) {
			c->score = INFINITY;
			continue;
		}
		ML_STEP(ml_prune_tell(p, "trying"));
		ML_STEP(try_candidate(p, c));
		p->loss = c->cuts.error;
		p->last = p->target.kind == ML_TARGET_SPEEDUP ? c->cuts.seconds : 0;
		done = p->px->score && c->score < INFINITY;
	}
	p->samples.half = false;
	return ML_OK;
}

static ml_status
refuse(const ml_pruning *p)
{
	ml_error(p->px->cx, ML_ERR_ARG, NULL,
		 "prune=%s is not possible: no set of cuts that was tried saves so much",
		 p->target.text);
	ml_hint(p->px->cx, "ask for less, or for a share of the weights: prune=25%%");
	return ML_ERR_ARG;
}

ml_status
ml_prune_search(ml_pruning *p)
{
	search s = {.p = p};

	if (p->units <= ENUMERATED)
		enumerate(&s);
	else
		draw(&s);
	int n = s.found.count;
	qsort(s.found.at, (size_t)n, sizeof *s.found.at, by_score);
	bool all = p->target.kind == ML_TARGET_LAYERS && n <= MOST_JUDGED;
	n = all || n < CANDIDATES ? n : CANDIDATES;
	ML_STEP(judge(&s, n));
	qsort(s.found.at, (size_t)n, sizeof *s.found.at, by_score);
	if (!n || s.found.at[0].score == INFINITY)
		return refuse(p);
	int most = p->target.kind == ML_TARGET_LAYERS ? REPAIRS : FEWER;
	for (int i = 0; i < n && i < most && s.found.at[i].score < INFINITY; i++)
		ML_PUSH(p->arena, p->plan, s.found.at[i].cuts);
	return ML_OK;
}
