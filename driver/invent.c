/* invent.c -- calibration data for want of any: sequences of tokens drawn at random.
 *
 * What layers read in a model of language depends on its weights more than on what is written: the
 * tokens' embeddings are the model's own, and norms, attention and activations do the rest.  Ranges
 * of channels over random tokens are near those over text, and how channels go together partly is;
 * of images nothing like that holds.
 */
#include "../passes/samples.h"
#include "driver.h"

enum {
	SAMPLES = 160, /* four of five are learnt from */
	FEWEST = 10,
	TOKENS = 32,            /* of a sample, where the model takes any number */
	MOST = SAMPLES * TOKENS /* tokens at once */
};

static uint64_t
next_random(uint64_t *state)
{
	*state = *state * 6364136223846793005u + 1442695040888963407u;
	return *state >> 33;
}

static bool
is_tokens(const ml_value *v)
{
	return ml_is_integer(v->type.dtype) && v->type.rank == 2 && !ml_can_derive(v);
}

/* Of what is asked for at once. */
static bool
shape(const ml_value *v, ml_view *a)
{
	const int64_t usual[] = {SAMPLES, TOKENS};

	*a = (ml_view){.dtype = v->type.dtype, .rank = 2};
	for (int d = 0; d < 2; d++) {
		int64_t lo, hi;
		if (ml_dim_is_int(v->type.dim[d], &a->dim[d]))
			continue;
		ml_dim_range(v->type.dim[d], &lo, &hi);
		a->dim[d] = usual[d] < lo ? lo : usual[d] > hi ? hi : usual[d];
	}
	return a->dim[0] > 0 && a->dim[1] > 0 && a->dim[0] <= MOST / a->dim[1];
}

/* How often it is asked for: once where that gives many samples. */
static int64_t
sets(const ml_value *v, const ml_view *a)
{
	int64_t n = SAMPLES * TOKENS / (a->dim[0] * a->dim[1]);

	if (!ml_dim_is_int(v->type.dim[0], NULL) && a->dim[0] >= FEWEST)
		return 1;
	return n < FEWEST ? FEWEST : n;
}

static int
array(void *user, int set, int input, const char *name, ml_view *a, ml_message *why)
{
	ml_invented *v = user;
	uint64_t state = (uint64_t)(set * SAMPLES + input);

	(void)name;
	(void)why;
	if (!v->rows[input])
		return ML_NO_ARRAY;
	if (!shape(v->m->main->arg[input], a) || set >= sets(v->m->main->arg[input], a))
		return 0;
	int64_t n = a->dim[0] * a->dim[1];
	a->bytes = (size_t)(n * ml_dtype_bytes(a->dtype));
	a->data = ml_alloc(v->arena, a->bytes);
	for (int64_t i = 0; i < n; i++)
		ml_write_s64(a->dtype, a->data, i,
			     (int64_t)(next_random(&state) % (uint64_t)v->rows[input]));
	return 1;
}

ml_calibration
ml_invent(ml_invented *v, const ml_module *m, ml_arena *arena)
{
	bool any = false;

	*v = (ml_invented){m, ML_NEW_ARRAY(arena, int64_t, m->main->nargs + 1), arena};
	for (int i = 0; i < m->main->nargs; i++) {
		const ml_value *in = m->main->arg[i];
		v->rows[i] = is_tokens(in) ? ml_rows_numbered_by(in) : 0;
		if (!v->rows[i] && !ml_can_derive(in))
			return (ml_calibration){0};
		any |= v->rows[i] > 0;
	}
	return any ? (ml_calibration){.user = v, .array = array} : (ml_calibration){0};
}
