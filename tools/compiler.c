/* compiler.c -- the compiler as the tools use it: libmlopt loaded when needed, messages on stderr.
 */
#include "compiler.h"
#include "put_name.h"
#include <dlfcn.h>
#include <signal.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

enum { PROGRESS_AFTER_SECONDS = 2, BAR = 30 };

double
cl_seconds(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

/* ---- hooks ---- */

/* What is written next begins a line. */
static void
wipe_bar(cl_compiler *c)
{
	if (c->drawn > 0)
		fputs("\r\033[K", stderr);
	c->drawn = 0;
}

static void
log_line(void *user, ml_severity severity, const char *text)
{
	static const char *const colour[] = {
		[ML_ERROR] = "\033[31m", [ML_WARNING] = "\033[33m", [ML_REMARK] = "\033[36m"};
	static const char *const kind[] = {
		[ML_ERROR] = "error", [ML_WARNING] = "warning", [ML_REMARK] = "remark"};
	cl_compiler *c = user;
	bool colours = cl_colours(stderr);

	if (c->talk.quiet && severity != ML_ERROR)
		return;
	wipe_bar(c);
	if (c->messages) {
		fprintf(c->messages, "%s\n  {\"kind\": \"%s\", \"text\": \"",
			c->nmessages++ ? "," : "", kind[severity]);
		cl_put_name(c->messages, text, strlen(text), true);
		fputs("\"}", c->messages);
		return;
	}
	fprintf(stderr, "%s%s%s\n", colours ? colour[severity] : "", text,
		colours ? "\033[0m" : "");
}

/* Outputs go to stdout as they are, everything else to stderr under its title. */
static void
show(void *user, const char *title, const char *text)
{
	static const char *const outputs[] = {"ir", "dot", "llvm", "asm", "report"};

	cl_compiler *c = user;

	wipe_bar(c);
	for (size_t i = 0; i < sizeof outputs / sizeof *outputs; i++)
		if (!strcmp(title, outputs[i])) {
			fputs(text, stdout);
			return;
		}
	if (!c->talk.quiet)
		fprintf(stderr, "# ---- %s ----\n%s", title, text);
}

static void
progress(void *user, int stage, int stages, const char *what)
{
	cl_compiler *c = user;
	double spent = cl_seconds() - c->begun;

	wipe_bar(c);
	if (c->talk.verbose)
		fprintf(stderr, "[%d/%d] %s, at %.2f s\n", stage, stages, what, spent);
	else if (!c->talk.quiet && isatty(STDERR_FILENO) && spent > PROGRESS_AFTER_SECONDS)
		fprintf(stderr, "[%d/%d] %s\n", stage, stages, what);
}

/* ---- calibration ---- */

static bool
writes_over(const cl_compiler *c)
{
	return !c->talk.verbose && !c->talk.quiet && isatty(STDERR_FILENO);
}

static void
draw_bar(const cl_compiler *c, const ml_calibration_progress *p)
{
	double within = p->samples ? (double)p->sample / (double)p->samples : 1;
	double part = p->set < 0 ? 1 : ((double)p->set + within) / c->calib.files;
	int full = (int)(BAR * part);

	fprintf(stderr, "\r\033[Kcalibrating [%.*s%*s] %3.0f %%, walk %lld, sample %lld", full,
		"##############################", BAR - full, "", 100 * part, (long long)p->walk,
		(long long)p->sample);
	if (c->calib.files > 1 && p->set >= 0)
		fprintf(stderr, " of file %lld of %d", (long long)p->set + 1, c->calib.files);
}

/* A bar where a terminal shows it and somebody waits; a line for each walk with -v. */
static bool
show_calibration(void *user, const ml_calibration_progress *p)
{
	cl_compiler *c = user;
	double now = cl_seconds();

	if (c->talk.verbose && p->set < 0)
		fprintf(stderr, "calibration: walk %lld through %lld samples, at %.2f s\n",
			(long long)p->walk, (long long)p->samples, now - c->begun);
	if (!writes_over(c) || now - c->begun < PROGRESS_AFTER_SECONDS || now - c->drawn < 0.1)
		return true;
	draw_bar(c, p);
	c->drawn = now;
	return true;
}

/* ---- training ---- */

static volatile sig_atomic_t interrupted;

static void
interrupt(int signal)
{
	(void)signal;
	interrupted = 1;
}

static bool
show_pruning(void *user, const ml_prune_progress *p)
{
	cl_compiler *c = user;
	bool over = writes_over(c);
	char loss[48] = "";

	wipe_bar(c);
	if (p->loss == p->loss)
		snprintf(loss, sizeof loss, ", the last one loses %.4f", p->loss);
	if (over || c->talk.verbose)
		fprintf(stderr, "%spruning: %s, %lld of about %lld candidates run%s%s",
			over ? "\r\033[K" : "", p->what, (long long)p->step, (long long)p->steps,
			loss, over && p->step + 1 < p->steps ? "" : "\n");
	return !interrupted;
}

/* One line that is written over; every line stays with -v.  Ctrl-C ends the training, and a second
 * one the tool. */
static bool
show_training(void *user, const ml_distill_progress *p)
{
	cl_compiler *c = user;
	bool over = writes_over(c);
	char agreement[32] = "";

	wipe_bar(c);
	if (p->agreement == p->agreement)
		snprintf(agreement, sizeof agreement, ", agreement %.1f %%", 100 * p->agreement);
	if (over || c->talk.verbose)
		fprintf(stderr,
			"%sstep %lld of %lld: loss %.4f, held out %.5f (best %.5f)%s, %.0f s "
			"left%s",
			over ? "\r\033[K" : "", (long long)p->step, (long long)p->steps, p->loss,
			p->error, p->best, agreement, p->left,
			over && p->step < p->steps && !interrupted ? "" : "\n");
	return !interrupted;
}

static void
watch_training(cl_compiler *c)
{
	struct sigaction action = {.sa_handler = interrupt, .sa_flags = (int)SA_RESETHAND};
	ml_distill_hooks training = {c, show_training};
	ml_prune_hooks pruning = {c, show_pruning};

	sigemptyset(&action.sa_mask);
	sigaction(SIGINT, &action, NULL);
	c->ml_options_prune(c->options, &pruning);
	c->ml_options_distill(c->options, &training);
}

/* ---- options ---- */

static int
freeze(cl_compiler *c, const char *text)
{
	char input[256], why[512];
	const char *equals = strrchr(text, '=');
	md_arrays arrays = {0};
	int failed = 1;

	if (!equals || equals == text || (size_t)(equals - text) >= sizeof input)
		return cl_fail(c->command, "--freeze '%s' is not INPUT=FILE.npy", text);
	snprintf(input, sizeof input, "%.*s", (int)(equals - text), text);
	if (md_load(equals + 1, &(md_want){input, false}, 1, &arrays, why, sizeof why)) {
		cl_fail(c->command, "%s", why);
	} else {
		const md_array *a = &arrays.at[0];
		failed = c->ml_options_freeze(c->options, input, cl_dtype(a->dtype), a->rank,
					      a->dim, a->data) != ML_OK;
		if (failed)
			cl_fail(c->command, "input '%s' cannot be frozen to this array", input);
	}
	md_arrays_clear(&arrays);
	return failed;
}

/* The compiler stands beside the runtime library that this process has already.  Global, because
 * plugins find its functions there. */
static void *
open_library(void)
{
	char path[4096];
	Dl_info runtime;

	if (dladdr((void *)(uintptr_t)ml_model_load, &runtime) && runtime.dli_fname) {
		const char *slash = strrchr(runtime.dli_fname, '/');
		int folder = slash ? (int)(slash - runtime.dli_fname) + 1 : 0;
		snprintf(path, sizeof path, "%.*slibmlopt.so.0", folder, runtime.dli_fname);
		void *library = dlopen(path, RTLD_NOW | RTLD_GLOBAL);
		if (library)
			return library;
	}
	return dlopen("libmlopt.so.0", RTLD_NOW | RTLD_GLOBAL);
}

static int
load(cl_compiler *c)
{
	c->library = open_library();
	if (!c->library)
		return cl_fail(c->command, "the compiler cannot be loaded: %s", dlerror());
#define CL_LOAD(name)                                                                              \
	*(void **)&c->name = dlsym(c->library, #name);                                             \
	if (!c->name)                                                                              \
		return cl_fail(c->command, "the compiler has no %s: another version?", #name);
	CL_FUNCTIONS(CL_LOAD)
#undef CL_LOAD
	return 0;
}

static int
lend(void *user, int set, int input, const char *name, ml_view *v, ml_message *why)
{
	cl_compiler *c = user;

	return cl_calib_array(&c->calib, set, input, name, v, why);
}

static int
calibrate(cl_compiler *c, const cl_list *paths)
{
	char why[1000];

	cl_calib_begin(&c->calib);
	for (int i = 0; i < paths->count; i++) {
		if (!cl_is_samples(paths->at[i])) {
			if (c->ml_options_statistics(c->options, paths->at[i]) != ML_OK)
				return 1;
			continue;
		}
		if (cl_calib_add(&c->calib, paths->at[i], why, sizeof why))
			return cl_fail(c->command, "--calib: %s", why);
	}
	if (!c->calib.files)
		return 0;
	ml_calibration data = {c, lend, show_calibration};
	return c->ml_options_calibrate(c->options, &data) != ML_OK;
}

int
cl_compiler_open(cl_compiler *c, const cl_command *command, const cl_inputs *in, cl_talk talk)
{
	const cl_settings *s = command->compile;

	*c = (cl_compiler){.command = command, .talk = talk, .begun = cl_seconds()};
	if (load(c))
		return 1;
	if (c->ml_context_new(NULL, &c->cx) != ML_OK)
		return cl_fail(command, "out of memory");
	c->ml_context_log(c->cx, log_line, c);
	if (c->ml_options_new(c->cx, &c->options) != ML_OK)
		return 1;
	c->ml_options_show(c->options, show, c);
	c->ml_options_progress(c->options, progress, c);
	for (int i = 0; s && i < s->count; i++)
		if (c->ml_options_set(c->options, s->name[i], s->value[i]) != ML_OK)
			return 1;
	for (int i = 0; s && i < s->count; i++)
		if (!strncmp(s->name[i], "distill", strlen("distill")) ||
		    !strcmp(s->name[i], "prune"))
			watch_training(c);
	for (int i = 0; in && i < in->freeze.count; i++)
		if (freeze(c, in->freeze.at[i]))
			return 1;
	return in && in->calib.count ? calibrate(c, &in->calib) : 0;
}

/* The library stays: unloading LLVM gains nothing. */
void
cl_compiler_close(cl_compiler *c)
{
	wipe_bar(c);
	if (c->options)
		c->ml_options_free(c->options);
	if (c->cx)
		c->ml_context_free(c->cx);
	cl_calib_close(&c->calib);
}
