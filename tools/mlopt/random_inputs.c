/* random_inputs.c -- made-up inputs for a model. */
#include "random_inputs.h"
#include "../put_name.h"
#include <stdlib.h>
#include <string.h>

enum { CHOSEN_SEQUENCE = 128, MAX_DIMS = 4096 };

typedef struct chooser {
	const mo_model *m;
	const cl_list *dims; /* of the command line */
	int64_t sequence;    /* for what looks like one and is not given */
} chooser;

/* What --dim says about a symbol; -1 when nothing. */
static int64_t
given_size(const cl_list *dims, const char *symbol)
{
	size_t n = strlen(symbol);

	for (int i = dims->count; i-- > 0;)
		if (!strncmp(dims->at[i], symbol, n) && dims->at[i][n] == '=')
			return strtoll(dims->at[i] + n + 1, NULL, 10);
	return -1;
}

static int
known_symbol(const mo_model *m, const char *symbol, size_t n)
{
	for (int i = 0; i < m->info->ndims; i++)
		if (strlen(m->info->dim[i].name) == n && !memcmp(m->info->dim[i].name, symbol, n))
			return 1;
	return 0;
}

/* A --dim that names no dimension of an artefact is a mistake; the compiler checks its own. */
static int
check_dims(const mo_model *m, const cl_list *dims)
{
	for (int i = 0; !m->compiled && i < dims->count; i++) {
		const char *equals = strrchr(dims->at[i], '=');
		if (!equals || !known_symbol(m, dims->at[i], (size_t)(equals - dims->at[i])))
			return cl_fail(m->command, "--dim %s: the model has no such dimension",
				       dims->at[i]);
	}
	return 0;
}

static int64_t size_of(const chooser *, const char *dim);

/* "past + sequence", also as the quoted name of one symbol that nobody gives a size, is the sum of
 * its parts; -1 when it is no sum. */
static int64_t
sum_of(const chooser *c, const char *dim)
{
	char text[256];
	bool quoted = *dim == '"';
	int n = snprintf(text, sizeof text, "%s", dim + quoted);

	if (n < 0 || (size_t)n >= sizeof text)
		return -1;
	if (quoted && n)
		text[n - 1] = 0;
	char *plus = strstr(text, " + ");
	if (!plus || given_size(c->dims, text) >= 0)
		return -1;
	*plus = 0;
	return size_of(c, text) + size_of(c, plus + 3);
}

static int64_t
size_of(const chooser *c, const char *dim)
{
	char *end;
	int64_t sum = sum_of(c, dim);

	if (sum >= 0)
		return sum;
	int64_t size = strtoll(dim, &end, 10);

	if (!*end)
		return size;
	size = given_size(c->dims, dim);
	if (size < 0)
		size = strstr(dim, "seq") ? c->sequence : 1;
	for (int i = 0; i < c->m->info->ndims; i++) {
		const ml_dim_info *d = &c->m->info->dim[i];
		if (!strcmp(d->name, dim) && given_size(c->dims, dim) < 0)
			size = size < d->lo ? d->lo : size > d->hi ? d->hi : size;
	}
	return size;
}

static bool
is_planned(const chooser *c)
{
	int64_t dim[MAX_DIMS];
	int n = 0;

	for (int i = 0; i < c->m->info->ninputs; i++)
		for (int k = 0; k < c->m->info->input[i].rank; k++)
			if (n < MAX_DIMS)
				dim[n++] = size_of(c, c->m->info->input[i].dim[k]);
	return n == MAX_DIMS || ml_session_reserve(c->m->session, dim) != ML_ERR_SHAPE;
}

/* Models with a table of positions take sequences no longer than that, which only their planning
 * tells: halves until it agrees. */
static void
choose_sequence(chooser *c)
{
	int64_t wanted = c->sequence;

	while (!is_planned(c) && c->sequence > 1)
		c->sequence /= 2;
	if (!is_planned(c))
		c->sequence = wanted;
}

static void
fill(md_array *array, uint64_t *state)
{
	size_t n = (size_t)md_array_elements(array);

	for (size_t i = 0; i < n; i++) {
		*state = *state * 6364136223846793005u + 1442695040888963407u;
		double x = (double)(*state >> 11) / 4503599627370496.0 - 1;
		switch (array->dtype) {
		case MD_F32: ((float *)array->data)[i] = (float)x; break;
		case MD_F64: ((double *)array->data)[i] = x; break;
		case MD_F16: ((uint16_t *)array->data)[i] = 0x3800; break; /* 0.5 */
		case MD_BF16: ((uint16_t *)array->data)[i] = 0x3f00; break;
		default: ((uint8_t *)array->data)[i * md_dtype_size(array->dtype)] = 1;
		}
	}
}

static void
say_what_is_fed(const md_array *array)
{
	char type[256];

	cl_put_name(stderr, array->name, strlen(array->name), false);
	fprintf(stderr, ": %s\n", md_array_type(array, type, sizeof type));
}

int
mo_random_inputs(const mo_model *m, const cl_list *dims, unsigned long seed, bool loud,
		 md_arrays *list)
{
	chooser c = {m, dims, CHOSEN_SEQUENCE};
	uint64_t state = seed;
	char why[512];

	if (check_dims(m, dims))
		return 1;
	choose_sequence(&c);
	for (int i = 0; i < m->info->ninputs; i++) {
		const ml_tensor_info *t = &m->info->input[i];
		int64_t dim[ML_MAX_RANK];
		md_array a = {0};
		for (int k = 0; k < t->rank; k++)
			dim[k] = size_of(&c, t->dim[k]);
		if (md_array_init(&a, t->name, mo_file_dtype(t->dtype), t->rank, dim, why,
				  sizeof why) ||
		    md_arrays_push(list, &a, why, sizeof why)) {
			md_array_clear(&a);
			return cl_fail(m->command, "%s", why);
		}
		fill(&list->at[list->count - 1], &state);
		if (loud)
			say_what_is_fed(&list->at[list->count - 1]);
	}
	return 0;
}
