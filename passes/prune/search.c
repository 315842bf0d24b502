/* search.c -- which units go: sets that save enough, by the sum of their scores; the best ones are
 * run and judged, and the least error counts. */
#include "prune.h"
#include <stdlib.h>
#include <string.h>

enum {
	ENUMERATED = 14,  /* units: all sets are looked at */
	CANDIDATES = 24,  /* that are run */
	DRAWS = 256,      /* of scores, when there are too many sets */
	MOST_JUDGED = 70, /* sets of layers: all are run when there are no more */
};

typedef struct set {
	bool *gone;
	double score;
} set;

typedef struct search {
	ml_pruning *p;
	ML_VEC(set) sets;
} search;

static double
saved_by(const search *s, const bool *gone)
{
	double saved = 0;

	for (int i = 0; i < s->p->units; i++)
		saved += gone[i] ? s->p->unit[i].saved : 0;
	return saved;
}

/* Saves enough, and not without any one of its units. */
static bool
is_tight(const search *s, const bool *gone)
{
	double saved = saved_by(s, gone);

	if (saved < s->p->need)
		return false;
	for (int i = 0; i < s->p->units; i++)
		if (gone[i] && saved - s->p->unit[i].saved >= s->p->need)
			return false;
	return true;
}

static void
add_set(search *s, const bool *gone)
{
	size_t n = (size_t)s->p->units;
	set new = {ML_NEW_ARRAY(s->p->arena, bool, n), 0};

	for (int i = 0; i < s->sets.count; i++)
		if (!memcmp(s->sets.at[i].gone, gone, n * sizeof *gone))
			return;
	memcpy(new.gone, gone, n * sizeof *gone);
	for (size_t i = 0; i < n; i++)
		new.score += gone[i] ? s->p->unit[i].error : 0;
	ML_PUSH(s->p->arena, s->sets, new);
}

static void
enumerate(search *s)
{
	bool *gone = ML_NEW_ARRAY(s->p->arena, bool, s->p->units + 1);

	for (unsigned bits = 1; bits < 1u << s->p->units; bits++) {
		for (int i = 0; i < s->p->units; i++)
			gone[i] = bits >> i & 1;
		if (is_tight(s, gone))
			add_set(s, gone);
	}
}

/* Cheapest first by error for what is saved, then what turns out superfluous comes back. */
static void
fill_greedily(search *s, const double *error, bool *gone)
{
	int n = s->p->units;

	memset(gone, 0, (size_t)n * sizeof *gone);
	while (saved_by(s, gone) < s->p->need) {
		int best = -1;
		for (int i = 0; i < n; i++)
			if (!gone[i] && s->p->unit[i].saved > 0 &&
			    (best < 0 ||
			     error[i] * s->p->unit[best].saved < error[best] * s->p->unit[i].saved))
				best = i;
		if (best < 0)
			return;
		gone[best] = true;
	}
	for (int i = n - 1; i >= 0; i--)
		if (gone[i] && saved_by(s, gone) - s->p->unit[i].saved >= s->p->need)
			gone[i] = false;
}

/* Scores of single units mislead where several go: draws around them give other sets. */
static void
draw(search *s)
{
	bool *gone = ML_NEW_ARRAY(s->p->arena, bool, s->p->units + 1);
	double *error = ML_NEW_ARRAY(s->p->arena, double, s->p->units + 1);
	uint64_t seed = 1;

	for (int k = 0; k < DRAWS; k++) {
		for (int i = 0; i < s->p->units; i++) {
			seed = seed * 6364136223846793005u + 1442695040888963407u;
			double u = (double)(seed >> 11) / (double)(1ull << 53);
			error[i] = s->p->unit[i].error * (k ? 0.5 + u : 1);
		}
		fill_greedily(s, error, gone);
		if (saved_by(s, gone) >= s->p->need)
			add_set(s, gone);
	}
}

static int
by_score(const void *a, const void *b)
{
	double d = ((const set *)a)->score - ((const set *)b)->score;

	return (d > 0) - (d < 0);
}

static void
set_keep(const search *s, const bool *gone, bool *keep)
{
	memset(keep, 1, (size_t)s->p->blocks.branch.count * sizeof *keep);
	for (int i = 0; i < s->p->units; i++)
		for (int k = 0; gone[i] && k < s->p->unit[i].count; k++)
			keep[s->p->unit[i].first + k] = false;
}

ml_status
ml_prune_search(ml_pruning *p)
{
	search s = {.p = p};
	bool *keep = ML_NEW_ARRAY(p->arena, bool, p->blocks.branch.count);
	int judged;

	if (p->units <= ENUMERATED)
		enumerate(&s);
	else
		draw(&s);
	qsort(s.sets.at, (size_t)s.sets.count, sizeof *s.sets.at, by_score);
	judged = p->target.kind == ML_TARGET_LAYERS && s.sets.count <= MOST_JUDGED ? s.sets.count
		 : s.sets.count < CANDIDATES                                       ? s.sets.count
										   : CANDIDATES;
	for (int i = 0; i < judged; i++) {
		double error;
		set_keep(&s, s.sets.at[i].gone, keep);
		ML_STEP(ml_prune_judge(p, keep, &error));
		if (i && error >= p->error)
			continue;
		p->error = error;
		memcpy(p->keep, keep, (size_t)p->blocks.branch.count * sizeof *keep);
	}
	return ML_OK;
}
