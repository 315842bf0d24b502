/* training.c -- how long one step of training takes: forward, backward, clipping, AdamW.
 *
 *   bench_training MODEL.onnx FOLDER BATCH LENGTH STEPS [THREADS [bf16]]
 *
 * Trains all that distillation would, tables stay, towards numbers for the first output.  FOLDER
 * holds what each input of the model is, input-N.bin, and target.bin, of that output's size; the
 * trained weights are written there, weights.bin, one behind the other in the order that the line
 * of JSON on stdout lists them in, with the loss and the milliseconds of each step.  `--print`
 * instead of STEPS: the step as IR text, for mlopt bench --profile.  bf16: layers and their
 * gradients multiply it, as distillation has it where that is faster.
 */
#include "../../driver/driver.h"
#include "../../ir/grad.h"
#include "../../passes/distill/distill.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

static const double PEAK = 3e-4;
static const ml_train_options TRAINING = {
	.adamw = {.beta1 = 0.9, .beta2 = 0.999, .eps = 1e-8, .decay = 0.01},
	.clip = 1,
};

typedef struct bench {
	ml_context *cx;
	ml_options *options;
	const char *model, *folder;
	int64_t batch, length;
	int steps; /* 0: print */
	bool narrow;
	ml_arena arena;
	ml_module *m, *step;
	ml_goal goal;
	ml_weights weights;
	ml_candidates candidates;
	ml_runnable *runnable;
	ml_tensor *in, *out;
	float share;
	double at, total, peak;
	double *loss, *ms;
} bench;

static double
now(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return 1e3 * (double)t.tv_sec + 1e-6 * (double)t.tv_nsec;
}

static ml_status
fail(const bench *b, const char *what, const char *name)
{
	return ml_error(b->cx, ML_ERR_IO, NULL, "%s %s/%s", what, b->folder, name);
}

/* ---- the step ---- */

static ml_status
add_loss(bench *b)
{
	ml_value *out = ml_in(b->m->main->last, 0);
	ml_lesson lesson = {.like = ML_LIKE_NUMBERS, .student = out};

	ML_PUSH(&b->arena, b->goal.target, out);
	ML_PUSH(&b->arena, b->goal.term, lesson);
	return ML_OK;
}

/* Large constants are inputs as well when the step is printed, as text has no room for them. */
static void
take_out_tables(bench *b)
{
	enum { SHORT = 64 };

	for (ml_node *n = b->step->main->first, *next; n; n = next) {
		next = n->next;
		if (n->op != ML_OP_const || ml_const_blob(&n->out[0])->size <= SHORT)
			continue;
		ml_value *arg = ml_block_add_arg(b->step->main, &n->out[0].type,
						 ml_format(&b->arena, "table %u", n->id));
		ml_replace_uses(&n->out[0], arg);
		ml_node_remove(n);
	}
}

static ml_status
make_step(bench *b)
{
	ml_source source = {.path = b->model};
	ml_module *loss;

	ML_STEP(ml_read_model(b->cx, &source, b->options, &b->m));
	ML_STEP(ml_make_layers_whole(b->options, b->m, &b->arena));
	ml_find_weights(&b->weights, b->m, &b->arena);
	ML_STEP(add_loss(b));
	ML_STEP(ml_build_loss(b->m, &b->goal, &loss));
	int n = b->weights.constant.count;
	ml_value **weight = ML_NEW_ARRAY(&b->arena, ml_value *, n + 1);
	ml_values_in(loss, b->weights.constant.at, n, weight, &b->arena);
	ml_status status =
		ml_train_step(loss, 0, (const ml_value *const *)weight, n, &TRAINING, &b->step);
	ml_module_free(loss);
	return status == ML_OK && b->narrow ? ml_round_products(b->step) : status;
}

static ml_status
print_step(bench *b)
{
	ml_text t;

	take_out_tables(b);
	ml_text_init(&t, &b->arena);
	ml_print(&t, b->step);
	fputs(t.at, stdout);
	return ML_OK;
}

/* ---- its inputs ---- */

static ml_status
read_input(bench *b, int i, const char *name)
{
	const ml_type *type = &b->step->main->arg[i]->type;
	ml_tensor *t = &b->in[i];
	char path[4096];

	*t = (ml_tensor){.dtype = type->dtype, .rank = type->rank};
	t->bytes = (size_t)ml_dtype_bytes(t->dtype);
	for (int d = 0; d < t->rank; d++) {
		if (!ml_dim_is_int(type->dim[d], &t->dim[d]))
			t->dim[d] = d ? b->length : b->batch;
		t->bytes *= (size_t)t->dim[d];
	}
	t->data = ml_alloc(&b->arena, t->bytes);
	snprintf(path, sizeof path, "%s/%s", b->folder, name);
	FILE *f = fopen(path, "rb");
	bool whole = f && fread(t->data, 1, t->bytes, f) == t->bytes && fgetc(f) == EOF;
	if (f)
		fclose(f);
	return whole ? ML_OK : fail(b, "not of the size it must have:", name);
}

static ml_tensor
scalar(ml_dtype dtype, void *at)
{
	return (ml_tensor){.dtype = dtype, .data = at, .bytes = (size_t)ml_dtype_bytes(dtype)};
}

/* As the trainer does: weights and moments go where they came from. */
static ml_status
bind(bench *b)
{
	int n = b->weights.constant.count, inputs = b->m->main->nargs, at = 0, to = 3;
	const ml_tensor *part[] = {b->weights.now, b->weights.first, b->weights.second};

	b->in = ML_NEW_ARRAY(&b->arena, ml_tensor, b->step->main->nargs);
	b->out = ML_NEW_ARRAY(&b->arena, ml_tensor, to + 3 * n);
	for (; at < inputs; at++)
		ML_STEP(read_input(b, at, ml_format(&b->arena, "input-%d.bin", at)));
	ML_STEP(read_input(b, at++, "target.bin"));
	b->share = 1;
	b->in[at++] = scalar(ML_f32, &b->share);
	for (int k = 0; k < 3; k++)
		for (int i = 0; i < n; i++)
			b->in[at++] = b->out[to++] = part[k][i];
	b->in[at++] = scalar(ML_f64, &b->at);
	b->in[at++] = scalar(ML_f64, &b->total);
	b->in[at++] = scalar(ML_f64, &b->peak);
	return ML_OK;
}

/* ---- the run ---- */

static ml_status
run_steps(bench *b, const ml_exec *exec)
{
	b->total = 1e6;
	b->peak = PEAK;
	for (int i = 0; i < b->steps; i++) {
		for (int k = 0; k < 3; k++)
			b->out[k].data = NULL;
		b->at = i + 1;
		double begun = now();
		ML_STEP(exec->run_into(exec->user, b->runnable, b->in, b->out));
		b->ms[i] = now() - begun;
		b->loss[i] = ml_read_f64(ML_f32, b->out[0].data, 0);
	}
	return ML_OK;
}

static ml_status
write_weights(const bench *b)
{
	char path[4096];
	bool whole = true;

	snprintf(path, sizeof path, "%s/weights.bin", b->folder);
	FILE *f = fopen(path, "wb");
	for (int i = 0; f && i < b->weights.constant.count; i++) {
		const ml_tensor *t = &b->weights.now[i];
		whole &= fwrite(t->data, 1, t->bytes, f) == t->bytes;
	}
	whole &= f && !fclose(f);
	return whole ? ML_OK : fail(b, "cannot write", "weights.bin");
}

static void
put_numbers(const char *name, const double *x, int n)
{
	printf("\"%s\": [", name);
	for (int i = 0; i < n; i++)
		printf("%s%.9g", i ? ", " : "", x[i]);
	printf("], ");
}

/* Names of weights are the model's own. */
static void
report(const bench *b)
{
	char line[256];
	long kb = 0;
	FILE *f = fopen("/proc/self/status", "r");

	while (f && fgets(line, sizeof line, f))
		sscanf(line, "VmHWM: %ld", &kb);
	if (f)
		fclose(f);
	printf("{");
	put_numbers("loss", b->loss, b->steps);
	put_numbers("ms", b->ms, b->steps);
	printf("\"peak_mb\": %.1f, \"weights\": [", (double)kb * 1.024e-3);
	for (int i = 0; i < b->weights.constant.count; i++) {
		const ml_tensor *t = &b->weights.now[i];
		const char *name = b->weights.constant.at[i]->name;
		printf("%s[\"%s\"", i ? ", " : "", ml_escaped(&b->cx->arena, name ? name : ""));
		for (int d = 0; d < t->rank; d++)
			printf(", %lld", (long long)t->dim[d]);
		printf("]");
	}
	printf("]}\n");
}

static ml_status
work(void *job)
{
	bench *b = job;
	ml_exec exec = ml_exec_by_jit(&b->candidates);

	ML_STEP(make_step(b));
	if (!b->steps)
		return print_step(b);
	ML_STEP(exec.compile(exec.user, b->step, &b->runnable));
	ML_STEP(bind(b));
	b->loss = ML_NEW_ARRAY(&b->arena, double, b->steps);
	b->ms = ML_NEW_ARRAY(&b->arena, double, b->steps);
	ML_STEP(run_steps(b, &exec));
	report(b);
	return write_weights(b);
}

static void
put_message(void *user, ml_severity severity, const char *text)
{
	(void)user;
	(void)severity;
	fprintf(stderr, "%s\n", text);
}

static int
close_bench(bench *b, ml_status status)
{
	ml_candidates_end(&b->candidates);
	if (b->step)
		ml_module_free(b->step);
	if (b->m)
		ml_module_free(b->m);
	ml_arena_free(&b->arena);
	ml_options_free(b->options);
	ml_context_free(b->cx);
	return status == ML_OK ? 0 : 1;
}

int
main(int argc, char **argv)
{
	bench b = {0};

	if (argc < 6) {
		fputs("usage: bench_training MODEL.onnx FOLDER BATCH LENGTH STEPS "
		      "[THREADS [bf16]]\n",
		      stderr);
		return 2;
	}
	b.model = argv[1];
	b.folder = argv[2];
	b.batch = atoll(argv[3]);
	b.length = atoll(argv[4]);
	b.steps = strcmp(argv[5], "--print") ? atoi(argv[5]) : 0;
	if (ml_context_new(NULL, &b.cx) != ML_OK || ml_options_new(b.cx, &b.options) != ML_OK)
		return 1;
	ml_context_log(b.cx, put_message, NULL);
	b.options->threads = argc > 6 ? atoi(argv[6]) : 0;
	b.narrow = argc > 7 && !strcmp(argv[7], "bf16");
	b.candidates.o = b.options;
	ml_arena_init(&b.arena, &b.cx->memory);
	return close_bench(&b, ml_enter(b.cx, work, &b));
}
