/* profile.c -- where the time of a run goes: mlopt bench --profile and --trace. */
#include "profile.h"
#include "../put_name.h"
#include "states.h"
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum { MIN_RUNS = 5, MAX_RUNS = 4096, MAX_ROW_BYTES = 32 << 20, MAX_EVENTS = 1 << 16 };

static const double LIMIT_SECONDS = 0.02; /* for each of the machine's limits, at most */
static const double LEAST_SECONDS = 5e-5;

/* ---- numbers ---- */

static double
share(double part, double whole)
{
	return whole > 0 ? part / whole : 0;
}

static double
gmacs(const mo_step *s)
{
	return share((double)s->work.macs * s->calls, s->ms * 1e6);
}

/* How near the step is to its limit; 0: unknown. */
static double
limit_percent(const mo_step *s)
{
	return 100 * share(s->limit_ms, s->ms);
}

static double
steps_ms(const mo_profile *p)
{
	double ms = 0;

	for (int i = 0; i < p->steps; i++)
		ms += p->step[i].ms;
	return ms;
}

static const char *
dtype_name(ml_dtype t)
{
	static const char *const names[] = {
#define ML_DTYPE(number, name, bits, kind, onnx, ctype) [number] = #name,
#include "mlopt/types.def"
	};

	return names[t];
}

/* ---- measuring ---- */

static int64_t
now(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (int64_t)t.tv_sec * 1000000000 + t.tv_nsec;
}

static void
note_step(void *user, int step, int ended)
{
	mo_profile *p = user;
	int64_t at = now();

	if (!ended) {
		p->begun = at;
		return;
	}
	p->row[step] += (double)(at - p->begun) * 1e-6;
	p->calls[step]++;
	if (p->events < MAX_EVENTS)
		p->event[p->events++] = (mo_event){step, p->begun, at};
}

/* ms of every step and of the run, rates of multiply-adds around it. */
static size_t
row_length(const mo_profile *p)
{
	return (size_t)p->steps + 1 + LM_READ;
}

static int
by_run(const void *x, const void *y, void *column)
{
	const double *const *a = x, *const *b = y;
	double d = (*a)[*(int *)column] - (*b)[*(int *)column];

	return (d > 0) - (d < 0);
}

/* Averages the fastest quarter of the runs, in which the machine was least disturbed. */
static int
average(mo_profile *p, double *rows)
{
	double **run = malloc((size_t)p->runs * sizeof *run);

	if (!run)
		return 1;
	for (int r = 0; r < p->runs; r++)
		run[r] = rows + (size_t)r * row_length(p);
	qsort_r(run, (size_t)p->runs, sizeof *run, by_run, &p->steps);
	p->used = (p->runs + 3) / 4;
	for (int r = 0; r < p->used; r++) {
		for (int i = 0; i < p->steps; i++)
			p->step[i].ms += run[r][i] / p->used;
		p->run_ms += run[r][p->steps] / p->used;
		for (int i = 0; i < LM_READ; i++)
			p->rate[i] += run[r][p->steps + 1 + i] / p->used;
	}
	for (int i = 0; i < p->steps; i++)
		p->step[i].calls = (double)p->calls[i] / p->runs;
	free(run);
	return 0;
}

static int
run_watched(mo_profile *p, mo_model *m, const md_arrays *in, double *row)
{
	if (mo_states_restore(m, in))
		return 1;
	p->row = row;
	p->events = 0;
	p->last_begun = now();
	if (ml_session_run(m->session) != ML_OK)
		return cl_fail(m->command, "%s", ml_session_message(m->session));
	p->last_ended = now();
	row[p->steps] = (double)(p->last_ended - p->last_begun) * 1e-6;
	p->runs++;
	return 0;
}

/* By what a step multiplies. */
static lm_kind
kind_of(const mo_step *s)
{
	ml_dtype t = s->info.dtype;

	return t == ML_f32 ? LM_FP32 : t == ML_bf16 ? LM_BF16 : LM_INT8;
}

/* Gauges of what the model's steps multiply with; no others, whose windows would be for nothing. */
static void
open_gauges(const mo_profile *p, const mo_model *m, lm_gauge **gauge)
{
	const char *level = ml_session_level(m->session);

	for (int i = 0; i < p->steps; i++) {
		lm_kind kind = kind_of(&p->step[i]);
		if (p->step[i].work.macs && !gauge[kind])
			gauge[kind] = lm_open(level, kind, 0, ml_session_threads(m->session));
	}
}

static void
read_gauges(lm_gauge **gauge, double seconds, double *rate)
{
	double most = seconds < LIMIT_SECONDS ? seconds : LIMIT_SECONDS;

	for (int i = 0; i < LM_READ; i++)
		rate[i] = lm_rate(gauge[i], most < LEAST_SECONDS ? LEAST_SECONDS : most);
}

/* Between two runs the machine multiplies and does nothing else, as long as a run lasts: the clock
 * is that of the runs, whatever it is. */
static int
run_many(mo_profile *p, mo_model *m, const md_arrays *in, double seconds, double *rows, int room)
{
	double begun = cl_seconds(), rate[2][LM_READ];
	lm_gauge *gauge[LM_READ] = {NULL};
	int failed = 0;

	open_gauges(p, m, gauge);
	read_gauges(gauge, LIMIT_SECONDS, rate[1]);
	ml_session_watch(m->session, note_step, p);
	while (!failed &&
	       (p->runs < MIN_RUNS || (p->runs < room && cl_seconds() - begun < seconds))) {
		double *row = rows + (size_t)p->runs * row_length(p);
		double *before = rate[p->runs % 2 ? 0 : 1], *behind = rate[p->runs % 2];
		failed = run_watched(p, m, in, row);
		read_gauges(gauge, row[p->steps] * 1e-3, behind);
		for (int i = 0; i < LM_READ; i++)
			row[p->steps + 1 + i] = (before[i] + behind[i]) / 2;
	}
	ml_session_watch(m->session, NULL, NULL);
	for (int i = 0; i < LM_READ; i++)
		lm_close(gauge[i]);
	return failed;
}

static void
describe(mo_profile *p, const mo_model *m, const ml_step_work *work)
{
	for (int i = 0; i < p->steps; i++) {
		ml_model_step(m->model, i, &p->step[i].info);
		p->step[i].work = work[i];
	}
}

/* Reading speeds by the size of what is read, each measured once. */
typedef struct reading {
	const char *level;
	int threads;
	double gbs[64]; /* of up to 2^i bytes */
} reading;

static double
read_ms(reading *r, int64_t bytes)
{
	int i = 14; /* all smaller sizes are in the same cache */

	while (i < 40 && (int64_t)1 << i < bytes)
		i++;
	/* what no cache holds is all alike */
	i = i < 28 ? i : 28;
	if (!r->gbs[i])
		r->gbs[i] = lm_best(r->level, LM_READ, (size_t)1 << i, r->threads, LIMIT_SECONDS);
	return r->gbs[i] > 0 ? (double)bytes / r->gbs[i] * 1e-6 : 0;
}

/* A step's multiply-adds in registers alone; or reading its weights from where all of the model's
 * weights fit, and what else it reads and writes from where that fits; whichever is longer. */
static void
measure_limits(mo_profile *p, const mo_model *m)
{
	reading r = {ml_session_level(m->session), ml_session_threads(m->session), {0}};
	int64_t weights = 1;

	for (int i = 0; i < LM_READ; i++)
		if (!(p->rate[i] > 0)) /* no step multiplies like that */
			p->rate[i] = lm_best(r.level, (lm_kind)i, 0, r.threads, LIMIT_SECONDS);
	for (int i = 0; i < p->steps; i++)
		weights += p->step[i].work.weight_bytes;
	p->rate[LM_READ] = (double)weights / read_ms(&r, weights) * 1e-6;
	for (int i = 0; i < p->steps; i++) {
		mo_step *s = &p->step[i];
		int64_t rest = s->work.read_bytes - s->work.weight_bytes + s->work.written_bytes;
		double rate = p->rate[kind_of(s)];
		double macs = s->work.macs ? share((double)s->work.macs, rate * 1e6) : 0;
		double bytes = share((double)s->work.weight_bytes, p->rate[LM_READ] * 1e6) +
			       read_ms(&r, rest);
		s->limit_ms = s->calls * (macs > bytes ? macs : bytes);
	}
}

int
mo_profile_measure(mo_profile *p, mo_model *m, const md_arrays *in, double seconds)
{
	*p = (mo_profile){.steps = ml_model_steps(m->model)};
	size_t n = (size_t)p->steps, row_bytes = row_length(p) * sizeof(double);
	size_t room = MAX_ROW_BYTES / row_bytes;

	room = room < MIN_RUNS ? MIN_RUNS : room > MAX_RUNS ? MAX_RUNS : room;
	p->step = calloc(n + 1, sizeof *p->step);
	p->calls = calloc(n + 1, sizeof *p->calls);
	p->event = calloc(MAX_EVENTS, sizeof *p->event);
	double *rows = calloc(room, row_bytes);
	ml_step_work *work = calloc(n + 1, sizeof *work);
	int failed = 1;
	if (!p->step || !p->calls || !p->event || !rows || !work) {
		cl_fail(m->command, "out of memory");
	} else {
		if (ml_session_work(m->session, work) == ML_OK)
			describe(p, m, work);
		failed = run_many(p, m, in, seconds, rows, (int)room) || average(p, rows);
	}
	if (!failed)
		measure_limits(p, m);
	free(rows);
	free(work);
	return failed;
}

void
mo_profile_free(mo_profile *p)
{
	free(p->step);
	free(p->calls);
	free(p->event);
}

/* ---- table ---- */

static int
by_time(const void *x, const void *y)
{
	double d = (*(const mo_step *const *)y)->ms - (*(const mo_step *const *)x)->ms;

	return (d > 0) - (d < 0);
}

static void
put_nodes(const mo_step *s, FILE *f)
{
	const char *nodes = s->info.nodes;
	size_t first = strcspn(nodes, "\n");
	int others = 0;

	for (const char *c = nodes; *c; c++)
		others += *c == '\n';
	cl_put_name(f, nodes, first, false);
	if (others)
		fprintf(f, " and %d more", others);
	fputc('\n', f);
}

static void
put_row(const mo_profile *p, const mo_step *s, FILE *f)
{
	char kernel[16] = "-", speed[32] = "-", limit[32] = "-";

	if (s->info.kernel >= 0)
		snprintf(kernel, sizeof kernel, "%d", s->info.kernel);
	if (s->work.macs)
		snprintf(speed, sizeof speed, "%.1f", gmacs(s));
	if (s->limit_ms > 0)
		snprintf(limit, sizeof limit, "%.0f", limit_percent(s));
	fprintf(f, "%10.4f %6.1f %6.0f %8s %7s %9.1f %9.1f %9.1f %6s  %-10s ", s->ms,
		100 * share(s->ms, p->run_ms), s->calls, speed, limit,
		(double)(s->work.read_bytes - s->work.weight_bytes) * 1e-3,
		(double)s->work.weight_bytes * 1e-3, (double)s->work.written_bytes * 1e-3, kernel,
		s->info.kind);
	put_nodes(s, f);
}

static void
put_sum(const mo_profile *p, const char *what, const mo_step *sum, FILE *f)
{
	fprintf(f, "%10.4f %6.1f", sum->ms, 100 * share(sum->ms, p->run_ms));
	if (sum->work.macs)
		fprintf(f, "        %8.1f", share((double)sum->work.macs, sum->ms * 1e6));
	if (sum->limit_ms > 0)
		fprintf(f, "%*s %7.0f", sum->work.macs ? 0 : 16, "", limit_percent(sum));
	fprintf(f, "  %s\n", what);
}

static void
add_step(mo_step *sum, const mo_step *s)
{
	sum->ms += s->ms;
	sum->limit_ms += s->limit_ms;
	sum->work.macs += (int64_t)((double)s->work.macs * s->calls);
}

/* One line for every kind of step, in the order of the steps. */
static void
put_kinds(const mo_profile *p, FILE *f)
{
	for (int i = 0; i < p->steps; i++) {
		const char *kind = p->step[i].info.kind;
		mo_step sum = {.ms = 0};
		bool seen = false;
		for (int k = 0; k < i; k++)
			seen |= !strcmp(p->step[k].info.kind, kind);
		for (int k = i; !seen && k < p->steps; k++)
			if (!strcmp(p->step[k].info.kind, kind))
				add_step(&sum, &p->step[k]);
		if (!seen)
			put_sum(p, kind, &sum, f);
	}
}

void
mo_profile_table(const mo_profile *p, FILE *f)
{
	const mo_step **row = malloc((size_t)(p->steps + 1) * sizeof *row);
	mo_step outside = {.ms = p->run_ms - steps_ms(p)}, all = {.ms = 0};

	for (int i = 0; row && i < p->steps; i++)
		row[i] = &p->step[i];
	if (row)
		qsort(row, (size_t)p->steps, sizeof *row, by_time);
	fprintf(f, "\n%10s %6s %6s %8s %7s %9s %9s %9s %6s  %-10s %s\n", "ms", "%", "calls",
		"GMAC/s", "% limit", "kB read", "weights", "written", "kernel", "region", "nodes");
	for (int i = 0; row && i < p->steps; i++)
		if (row[i]->calls > 0)
			put_row(p, row[i], f);
	free(row);
	fputc('\n', f);
	put_kinds(p, f);
	put_sum(p, "outside of regions", &outside, f);
	for (int i = 0; i < p->steps; i++)
		add_step(&all, &p->step[i]);
	all.ms = p->run_ms;
	put_sum(p, "", &all, f);
	fprintf(f,
		"means of the fastest %d of %d runs; limits: fp32 %.0f, bf16 %.0f, int8 %.0f "
		"GMAC/s, "
		"weights %.1f GB/s\n",
		p->used, p->runs, p->rate[LM_FP32], p->rate[LM_BF16], p->rate[LM_INT8],
		p->rate[LM_READ]);
}

/* ---- JSON ---- */

static void
put_node_list(const mo_step *s, FILE *f)
{
	fprintf(f, "\"nodes\": [");
	for (const char *at = s->info.nodes, *end; *at; at = end + (*end == '\n')) {
		end = at + strcspn(at, "\n");
		fprintf(f, at == s->info.nodes ? "\"" : ", \"");
		cl_put_name(f, at, (size_t)(end - at), true);
		fputc('"', f);
	}
	fputc(']', f);
}

static void
put_facts(const mo_step *s, FILE *f)
{
	fprintf(f,
		"\"kernel\": %d, \"dtype\": \"%s\", \"macs\": %lld, \"read_bytes\": %lld, "
		"\"weight_bytes\": %lld, \"written_bytes\": %lld, ",
		s->info.kernel, dtype_name(s->info.dtype), (long long)s->work.macs,
		(long long)s->work.read_bytes, (long long)s->work.weight_bytes,
		(long long)s->work.written_bytes);
	put_node_list(s, f);
}

void
mo_profile_json(const mo_profile *p, FILE *f)
{
	fprintf(f,
		"\"profile\": {\"runs\": %d, \"used\": %d, \"run_ms\": %.6f, \"outside_ms\": %.6f, "
		"\"limits\": {",
		p->runs, p->used, p->run_ms, p->run_ms - steps_ms(p));
	for (int i = 0; i < LM_KINDS; i++)
		fprintf(f, "%s\"%s\": %.3f", i ? ", " : "", lm_names[i], p->rate[i]);
	fprintf(f, "}, \"steps\": [");
	for (int i = 0; i < p->steps; i++) {
		const mo_step *s = &p->step[i];
		fprintf(f,
			"%s\n  {\"step\": %d, \"kind\": \"%s\", \"ms\": %.6f, \"percent\": %.3f, "
			"\"calls\": %.3f, \"gmacs_per_s\": %.3f, \"limit_ms\": %.6f, "
			"\"limit_percent\": %.2f, ",
			i ? "," : "", i, s->info.kind, s->ms, 100 * share(s->ms, p->run_ms),
			s->calls, gmacs(s), s->limit_ms, limit_percent(s));
		put_facts(s, f);
		fputc('}', f);
	}
	fprintf(f, "]}");
}

/* ---- trace ---- */

static void
put_event(const mo_profile *p, const mo_event *v, FILE *f)
{
	const mo_step *s = &p->step[v->step];
	double us = (double)(v->ended - v->begun) * 1e-3;

	fprintf(f, ",\n{\"name\": \"");
	cl_put_name(f, s->info.nodes, strcspn(s->info.nodes, "\n"), true);
	fprintf(f,
		"\", \"cat\": \"%s\", \"ph\": \"X\", \"pid\": 1, \"tid\": 1, \"ts\": %.3f, "
		"\"dur\": %.3f, \"args\": {\"step\": %d, \"gmacs_per_s\": %.3f, "
		"\"limit_percent\": %.2f, ",
		s->info.kind, (double)(v->begun - p->last_begun) * 1e-3, us, v->step,
		share((double)s->work.macs, us * 1e3),
		100 * share(share(s->limit_ms, s->calls), us * 1e-3));
	put_facts(s, f);
	fprintf(f, "}}");
}

int
mo_profile_trace(const mo_profile *p, const cl_command *command, const char *path)
{
	FILE *f = fopen(path, "w");

	if (!f)
		return cl_fail(command, "cannot write '%s': %s", path, strerror(errno));
	fprintf(f,
		"{\"displayTimeUnit\": \"ns\", \"traceEvents\": [\n"
		"{\"name\": \"run\", \"ph\": \"X\", \"pid\": 1, \"tid\": 1, \"ts\": 0, "
		"\"dur\": %.3f, \"args\": {\"events_left_out\": %s}}",
		(double)(p->last_ended - p->last_begun) * 1e-3,
		p->events == MAX_EVENTS ? "true" : "false");
	for (int i = 0; i < p->events; i++)
		put_event(p, &p->event[i], f);
	fprintf(f, "\n]}\n");
	bool fine = !ferror(f);
	if (fclose(f) || !fine)
		return cl_fail(command, "cannot write '%s': %s", path, strerror(errno));
	return 0;
}
