/* test_student.c -- ml_prune() and ml_distill(): what is written, who is asked, who may end it. */
#include "driver/driver.h"
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <cmocka.h>

/* Three layers of neurons; the second one does least. */
#define FFN(name, in, down)                                                                        \
	"  %" name "u = linear " in ", %u : f32[b, 3, 2, 3]\n"                                     \
	"  %" name "a = gelu %" name "u : f32[b, 3, 2, 3]\n"                                       \
	"  %" name "d = linear %" name "a, " down " : f32[b, 3, 2, 2]\n"                           \
	"  %" name " = add " in ", %" name "d : f32[b, 3, 2, 2]\n"
static const char text[] =
	"module \"m\" {\n  sym b\n  in %x \"x\" : f32[b, 3, 2, 2]\n"
	"  %u = const {1, -1, 0.5, 2, 0.25, 1} : f32[2, 3]\n"
	"  %d = const {1, 0.5, -1, 1, 2, -0.5} : f32[3, 2]\n"
	"  %v = const {0.1, 0.05, -0.1, 0.1, 0.2, -0.05} : f32[3, 2]\n"
	"  %c = const {0.25, -2, 1.5, 1} : f32[2, 2]\n" FFN("l", "%x", "%d") FFN("m", "%l", "%v")
		FFN("n", "%m",
		    "%d") "  %y = linear %n, %c : f32[b, 3, 2, 2]\n  out \"y\" = %y\n}\n";

enum { SAMPLES = 40, ELEMENTS = 12 };

typedef struct bench {
	ml_context *cx;
	ml_options *o;
	char model[64], output[64];
	float x[SAMPLES * ELEMENTS];
	int calls, cancel_at, asked, nodes;
} bench;

static int
lend(void *user, int set, int input, const char *name, ml_view *v, ml_message *why)
{
	bench *b = user;

	(void)why;
	if (set || input || strcmp(name, "x"))
		return 0;
	*v = (ml_view){ML_f32, 4, {SAMPLES, 3, 2, 2}, b->x, sizeof b->x};
	return 1;
}

static void
open_bench(bench *b, const char *ending)
{
	ml_calibration data = {.user = b, .array = lend};
	FILE *f;

	*b = (bench){.cancel_at = -1};
	for (int i = 0; i < SAMPLES * ELEMENTS; i++)
		b->x[i] = (float)sin(i * 1.7) * 2;
	snprintf(b->model, sizeof b->model, "/tmp/mlopt-student-%d.mlt", (int)getpid());
	snprintf(b->output, sizeof b->output, "/tmp/mlopt-student-%d-out%s", (int)getpid(), ending);
	unlink(b->output);
	assert_non_null(f = fopen(b->model, "w"));
	fputs(text, f);
	fclose(f);
	assert_int_equal(ml_context_new(NULL, &b->cx), ML_OK);
	assert_int_equal(ml_options_new(b->cx, &b->o), ML_OK);
	assert_int_equal(ml_options_calibrate(b->o, &data), ML_OK);
}

static void
close_bench(bench *b)
{
	unlink(b->model);
	unlink(b->output);
	ml_options_free(b->o);
	ml_context_free(b->cx);
}

/* How often the word stands in what was written; -1: nothing was. */
static int
count(const bench *b, const char *word)
{
	FILE *f = fopen(b->output, "r");
	char *all = calloc(1, 1 << 20);
	int n = 0;

	if (!f || !all || !fread(all, 1, (1 << 20) - 1, f)) {
		free(all);
		return -1;
	}
	fclose(f);
	for (const char *at = all; (at = strstr(at, word)); at++)
		n++;
	free(all);
	return n;
}

static bool
says(const bench *b, const char *words)
{
	for (int i = 0; ml_context_message(b->cx, i); i++)
		if (strstr(ml_context_message(b->cx, i), words))
			return true;
	return false;
}

static bool
on_prune(void *user, const ml_prune_progress *p)
{
	bench *b = user;

	assert_non_null(p->what);
	assert_true(p->step < p->steps);
	return b->calls++ != b->cancel_at;
}

static void
test_prune(void **state)
{
	bench b;

	(void)state;
	open_bench(&b, ".mlt");
	ml_options_prune(b.o, &(ml_prune_hooks){&b, on_prune});
	assert_int_equal(ml_prune(b.cx, b.model, b.o, "1", b.output), ML_OK);
	assert_int_equal(count(&b, " = gelu "), 2);
	assert_true(b.calls >= 4);
	assert_null(b.o->prune); /* the caller's options stay as they are */
	close_bench(&b);
	open_bench(&b, ".onnx");
	assert_int_equal(ml_prune(b.cx, b.model, b.o, "1", b.output), ML_OK);
	assert_int_equal(count(&b, "IR text"), 0);
	close_bench(&b);
}

/* What a run multiplies and adds, for one sample. */
static double
macs_of(const bench *b, const char *path)
{
	ml_session *s;
	ml_model *m;
	int64_t dim[] = {1, 3, 2, 2};
	double macs = 0;

	assert_int_equal(ml_compile_file(b->cx, path, NULL, &m), ML_OK);
	assert_int_equal(ml_session_new(m, NULL, &s, NULL), ML_OK);
	assert_int_equal(ml_session_set_input(s, 0, b->x, dim, 4), ML_OK);
	assert_int_equal(ml_session_run(s), ML_OK);
	ml_step_work *work = calloc((size_t)ml_model_steps(m), sizeof *work);
	assert_int_equal(ml_session_work(s, work), ML_OK);
	for (int i = 0; i < ml_model_steps(m); i++)
		macs += (double)work[i].macs;
	free(work);
	ml_session_free(s);
	ml_model_free(m);
	return macs;
}

/* Multiply-adds are counted, so that a target is met as it was said. */
static void
test_macs(void **state)
{
	bench b;

	(void)state;
	open_bench(&b, ".mlt");
	double before = macs_of(&b, b.model);
	assert_int_equal(ml_prune(b.cx, b.model, b.o, "1.2x-macs", b.output), ML_OK);
	double after = macs_of(&b, b.output);
	assert_true(after > 0 && before / after >= 1.2);
	assert_true(before / after < 1.7); /* and no more than that takes */
	assert_int_equal(ml_prune(b.cx, b.model, b.o, "100x-macs", b.output), ML_ERR_ARG);
	assert_true(says(&b, "fewer multiply-adds"));
	close_bench(&b);
}

/* Nothing is written of what was canceled or cannot be. */
static void
test_refused(void **state)
{
	bench b;

	(void)state;
	open_bench(&b, ".mlt");
	b.cancel_at = 2;
	ml_options_prune(b.o, &(ml_prune_hooks){&b, on_prune});
	assert_int_equal(ml_prune(b.cx, b.model, b.o, "1", b.output), ML_ERR_CANCELED);
	assert_int_equal(b.calls, 3);
	assert_int_equal(count(&b, ""), -1);
	b.cancel_at = -1;
	assert_int_equal(ml_prune(b.cx, b.model, b.o, "100x", b.output), ML_ERR_ARG);
	assert_true(says(&b, "without all that can go the model is"));
	assert_int_equal(ml_prune(b.cx, b.model, b.o, NULL, b.output), ML_ERR_ARG);
	assert_int_equal(ml_distill(b.cx, b.model, b.o, "4", b.output), ML_ERR_ARG);
	assert_int_equal(ml_distill(b.cx, b.model, b.o, "2,1", b.output), ML_ERR_ARG);
	assert_int_equal(count(&b, ""), -1);
	close_bench(&b);
}

/* ---- a user's own opinion ---- */

/* The first layer, which does most, is worth least. */
static double
first_goes(void *user, const ml_prune_part *part)
{
	bench *b = user;

	b->asked++;
	assert_string_equal(part->kind, "layer");
	assert_true(part->parameters == 12 && part->loss >= 0 && part->seconds == 0);
	return part->layer;
}

static double
nothing(void *user, const ml_prune_part *part)
{
	(void)user;
	(void)part;
	return NAN;
}

static ml_value *
squares(void *user, ml_pass_ctx *px, ml_node *before, ml_value *teacher, ml_value *student)
{
	ml_value *d = ml_make_node(px, before, ML_OP_sub, (ml_value *[]){teacher, student}, 2);

	((bench *)user)->nodes++;
	d = ml_make_node(px, before, ML_OP_mul, (ml_value *[]){d, d}, 2);
	return ml_make_mean(px, before, d);
}

static ml_value *
no_scalar(void *user, ml_pass_ctx *px, ml_node *before, ml_value *teacher, ml_value *student)
{
	(void)user;
	return ml_make_node(px, before, ML_OP_sub, (ml_value *[]){teacher, student}, 2);
}

static void
test_own(void **state)
{
	bench b;
	ml_score scores[] = {{"first", "", first_goes, &b}, {"nothing", "", nothing, &b}};
	ml_loss losses[] = {{"squares", "", squares, &b}, {"none", "", no_scalar, &b}};
	ml_plugin plugin = {.abi = ML_PLUGIN_ABI,
			    .name = "own",
			    .scores = scores,
			    .nscores = 2,
			    .losses = losses,
			    .nlosses = 2};

	(void)state;
	open_bench(&b, ".mlt");
	assert_int_equal(ml_options_set(b.o, "prune-score", "first"), ML_OK);
	assert_int_equal(ml_prune(b.cx, b.model, b.o, "1", b.output), ML_ERR_ARG); /* who? */
	assert_int_equal(ml_options_plugin(b.o, &plugin), ML_OK);
	assert_int_equal(ml_options_set(b.o, "remarks", NULL), ML_OK);
	assert_int_equal(ml_prune(b.cx, b.model, b.o, "1", b.output), ML_OK);
	assert_int_equal(b.asked, 3);
	assert_true(says(&b, "pruned: layer 0"));
	assert_false(says(&b, "pruned: layer 1"));
	assert_int_equal(ml_options_set(b.o, "prune-score", "nothing"), ML_OK);
	assert_int_equal(ml_prune(b.cx, b.model, b.o, "1", b.output), ML_ERR_VALUE);
	assert_int_equal(ml_options_set(b.o, "distill-steps", "20"), ML_OK);
	assert_int_equal(ml_options_set(b.o, "distill-loss", "squares"), ML_OK);
	assert_int_equal(ml_distill(b.cx, b.model, b.o, "0,2", b.output), ML_OK);
	assert_int_equal(b.nodes, 1);
	assert_int_equal(ml_options_set(b.o, "distill-loss", "none"), ML_OK);
	assert_int_equal(ml_distill(b.cx, b.model, b.o, "0,2", b.output), ML_ERR_PLUGIN);
	close_bench(&b);
}

/* ---- training ---- */

static bool
on_distill(void *user, const ml_distill_progress *p)
{
	bench *b = user;

	assert_int_equal(p->steps, 100);
	return b->calls++ != b->cancel_at;
}

/* A training that is ended still gives a student. */
static void
test_distill(void **state)
{
	bench b;

	(void)state;
	open_bench(&b, ".mlt");
	b.cancel_at = 3;
	ml_options_distill(b.o, &(ml_distill_hooks){&b, on_distill});
	assert_int_equal(ml_options_set(b.o, "distill-steps", "100"), ML_OK);
	assert_int_equal(ml_distill(b.cx, b.model, b.o, "2", b.output), ML_OK);
	assert_int_equal(count(&b, " = gelu "), 2);
	assert_int_equal(b.calls, 4);
	close_bench(&b);
}

/* Another model says what is right: one with the student's inputs and outputs. */
static void
test_teacher(void **state)
{
	char other[64];
	bench b;
	FILE *f;

	(void)state;
	open_bench(&b, ".mlt");
	snprintf(other, sizeof other, "/tmp/mlopt-teacher-%d.mlt", (int)getpid());
	assert_int_equal(ml_options_set(b.o, "distill-steps", "30"), ML_OK);
	/* The model itself has nothing to learn from itself, */
	assert_int_equal(ml_distill(b.cx, b.model, b.o, NULL, b.output), ML_ERR_ARG);
	assert_true(says(&b, "its loss is 0"));
	/* but from one that gives the opposite. */
	assert_non_null(f = fopen(other, "w"));
	for (const char *at = text; *at; at++) {
		bool last = !strncmp(at, "0.25, -2, 1.5, 1}", 17);
		fputs(last ? "-0.25, 2, -1.5, -1}" : (char[]){*at, 0}, f);
		at += last ? 16 : 0;
	}
	fclose(f);
	assert_int_equal(ml_options_set(b.o, "teacher", other), ML_OK);
	assert_int_equal(ml_distill(b.cx, b.model, b.o, NULL, b.output), ML_OK);
	assert_int_equal(count(&b, " = gelu "), 3);
	assert_int_equal(count(&b, "{0.25, -2, 1.5, 1}"), 0);
	unlink(b.output);
	/* Its inputs must be the student's. */
	assert_non_null(f = fopen(other, "w"));
	fputs("module \"m\" {\n  sym b\n  in %x \"z\" : f32[b, 3, 2, 2]\n"
	      "  %y = neg %x : f32[b, 3, 2, 2]\n  out \"y\" = %y\n}\n",
	      f);
	fclose(f);
	assert_int_equal(ml_distill(b.cx, b.model, b.o, NULL, b.output), ML_ERR_ARG);
	assert_true(says(&b, "the teacher reads 'z'"));
	assert_int_equal(count(&b, ""), -1);
	assert_int_equal(ml_options_set(b.o, "teacher", "/nowhere/model.onnx"), ML_OK);
	assert_int_equal(ml_distill(b.cx, b.model, b.o, NULL, b.output), ML_ERR_IO);
	unlink(other);
	close_bench(&b);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_prune),   cmocka_unit_test(test_macs),
		cmocka_unit_test(test_refused), cmocka_unit_test(test_own),
		cmocka_unit_test(test_distill), cmocka_unit_test(test_teacher),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
