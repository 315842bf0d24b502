/* program.c -- the main() of --emit=exe: times the model on zeros, for devices without tools. */
#include "program.h"
#include "host.h"
#include "mlopt/mlopt.h"

enum { MAX_RUNS = 10000, MONOTONIC = 1 };

/* One execution of the program. */
typedef struct bench {
	const mlrt_facts *facts;
	int64_t *dim; /* by number of its name */
	int64_t runs, threads;
	int64_t *state, *in_dims;
	void **tensor; /* inputs, then outputs */
	double *ms;
} bench;

static int64_t
now_ns(void)
{
	int64_t t[2] = {0, 0};

	syscall(MLRT_SYS_CLOCK_GETTIME, (long)MONOTONIC, t);
	return t[0] * 1000000000 + t[1];
}

/* The value behind "name=", -1 when the word is another or no number. */
static int64_t
value_of(const char *word, const char *name)
{
	int64_t v = 0;

	while (*name && *word == *name)
		word++, name++;
	if (*name || *word++ != '=' || !*word)
		return -1;
	for (; *word >= '0' && *word <= '9' && v < INT32_MAX; word++)
		v = v * 10 + (*word - '0');
	return *word ? -1 : v;
}

static int
read_word(bench *b, const char *word)
{
	int64_t v;

	for (int64_t i = 0; i < b->facts->ndims; i++)
		if ((v = value_of(word, b->facts->dim_name[i])) >= 0) {
			b->dim[i] = v;
			return 1;
		}
	if ((v = value_of(word, "--threads")) >= 0)
		b->threads = v;
	else if ((v = value_of(word, "--runs")) > 0 && v <= MAX_RUNS)
		b->runs = v;
	else
		return 0;
	return 1;
}

static int32_t
usage(const bench *b, const char *program)
{
	printf("usage: %s [--threads=N] [--runs=N]", program);
	for (int64_t i = 0; i < b->facts->ndims; i++)
		printf(" %s=N", b->facts->dim_name[i]);
	printf("\ntimes the model on zeros\n%s", b->facts->signature);
	return 2;
}

/* Zeroed room for tensors t.. whose dims begin at *dim. */
static int
get_tensors(bench *b, int64_t t, int64_t end, const int64_t *dim)
{
	for (; t < end; t++) {
		int64_t bytes = b->facts->element_bytes[t];
		for (int64_t k = 0; k < b->facts->rank[t]; k++, dim++)
			if (*dim < 0 || __builtin_mul_overflow(bytes, *dim, &bytes))
				return 0;
		b->tensor[t] = calloc((size_t)bytes + 1, 1);
		if (!b->tensor[t])
			return 0;
	}
	return 1;
}

static int64_t
count_input_dims(const mlrt_facts *f)
{
	int64_t n = 0;

	for (int64_t i = 0; i < f->nin; i++)
		n += f->rank[i];
	return n;
}

static int64_t
prepare(bench *b)
{
	const mlrt_facts *f = b->facts;
	int32_t status = mlrt_direct_threads(f->direct, (int32_t)b->threads);

	b->state = calloc((size_t)f->direct->program->nstate + 1, sizeof *b->state);
	b->in_dims = calloc((size_t)count_input_dims(f) + 1, sizeof *b->in_dims);
	b->tensor = calloc((size_t)(f->nin + f->nout), sizeof *b->tensor);
	b->ms = calloc((size_t)b->runs, sizeof *b->ms);
	if (status || !b->state || !b->in_dims || !b->tensor || !b->ms)
		return -(int64_t)ML_ERR_NOMEM;
	for (int64_t i = 0; i < f->ndims; i++)
		b->state[f->dim_word[i]] = b->dim[i];
	f->input_dims(b->state, b->in_dims);
	int64_t bytes = mlrt_direct_workspace(f->direct, b->in_dims, b->state);
	if (bytes < 0)
		return bytes;
	if (!get_tensors(b, 0, f->nin, b->in_dims) ||
	    !get_tensors(b, f->nin, f->nin + f->nout, b->state + MLRT_STATE_DIMS))
		return -(int64_t)ML_ERR_NOMEM;
	return bytes;
}

/* Milliseconds in rising order: insertion, as there are few. */
static void
note_time(double *ms, int64_t n, double x)
{
	for (; n > 0 && ms[n - 1] > x; n--)
		ms[n] = ms[n - 1];
	ms[n] = x;
}

static int32_t
measure(bench *b, void *workspace, double *first)
{
	const mlrt_facts *f = b->facts;

	for (int64_t i = -1; i < b->runs; i++) {
		int64_t before = now_ns();
		int32_t status = mlrt_direct_run(f->direct, b->in_dims, b->state, b->tensor,
						 b->tensor + f->nin, workspace);
		double ms = (double)(now_ns() - before) / 1e6;
		if (status)
			return status;
		if (i < 0)
			*first = ms;
		else
			note_time(b->ms, i, ms);
	}
	return ML_OK;
}

static void
release(bench *b)
{
	for (int64_t i = 0; b->tensor && i < b->facts->nin + b->facts->nout; i++)
		free(b->tensor[i]);
	free(b->tensor);
	free(b->state);
	free(b->in_dims);
	free(b->ms);
	free(b->dim);
	mlrt_direct_threads(b->facts->direct, 1);
}

static int64_t
run(bench *b)
{
	double first = 0;
	int64_t status = prepare(b);
	void *workspace = status < 0 ? NULL : malloc((size_t)status);

	if (status >= 0)
		status = workspace ? measure(b, workspace, &first) : ML_ERR_NOMEM;
	free(workspace);
	if (status == ML_OK)
		printf("{\"first_ms\": %.4f, \"median_ms\": %.4f, \"min_ms\": %.4f, \"runs\": %ld, "
		       "\"isa\": \"%s\"}\n",
		       first, b->ms[b->runs / 2], b->ms[0], (long)b->runs,
		       b->facts->direct->level->name);
	return status < 0 ? -status : status;
}

int32_t
mlrt_main(int32_t argc, char **argv, const mlrt_facts *f)
{
	bench b = {.facts = f, .runs = 100, .threads = 1};
	int64_t status = ML_ERR_NOMEM;

	b.dim = calloc((size_t)f->ndims + 1, sizeof *b.dim);
	for (int64_t i = 0; b.dim && i < f->ndims; i++)
		b.dim[i] = f->dim_least[i] > 1 ? f->dim_least[i] : 1;
	for (int32_t i = 1; b.dim && i < argc; i++)
		if (!read_word(&b, argv[i])) {
			free(b.dim);
			return usage(&b, argv[0]);
		}
	if (b.dim)
		status = run(&b);
	if (status)
		printf("failed with status %ld\n", (long)status);
	release(&b);
	return status != ML_OK;
}
