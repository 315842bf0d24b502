/* test_session.c -- sessions on a program written by hand: y[n] = 2 * x[n], the even x collected.
 */
#include "runtime/model.h"
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

/* ---- the program ---- */

static const char signature[] = "mlopt 1\nmodel \"double\"\nentry twice\n"
				"input \"x\" s32 x [n]\n"
				"output \"y\" s32 y [n]\noutput \"even\" s32 even [?0]\n"
				"dim \"n\" 1 1000 n\nsize \"?0\" count\n";
/* state: arena, scratch, n of y, count of even, n, count */
enum { Y_DIM = MLRT_STATE_DIMS, EVEN_DIM, WORDS };
static const char *const sites[] = {"input 'x', dim 0: size out of range", "an element is 13"};

static int32_t
plan(const int64_t *in_dims, int32_t threads, int64_t *state, mlrt_fault *fault)
{
	(void)threads;
	if (in_dims[0] < 1 || in_dims[0] > 1000) {
		*fault = (mlrt_fault){ML_ERR_SHAPE, 0, in_dims[0], 1000};
		return ML_ERR_SHAPE;
	}
	state[MLRT_STATE_ARENA] = in_dims[0] * 4;
	state[MLRT_STATE_SCRATCH] = 64;
	state[Y_DIM] = state[EVEN_DIM] = in_dims[0];
	return 0;
}

static void
twice(const mlrt_task *t, int64_t begin, int64_t end, uint8_t *scratch)
{
	const int32_t *x = t->buffer[0];
	int32_t *y = t->buffer[1];

	memset(scratch, 0x55, 64);
	for (int64_t i = begin; i < end; i++) {
		int32_t fine = 0;
		y[i] = 2 * x[i];
		if (x[i] == 13 &&
		    __atomic_compare_exchange_n(&t->fault->status, &fine, ML_ERR_VALUE, 0,
						__ATOMIC_RELAXED, __ATOMIC_RELAXED))
			t->fault->site = 1;
	}
}

static mlrt_kernel *const kernels[] = {twice};

static int32_t
run(mlrt_frame *f)
{
	int64_t n = f->state[Y_DIM], even = 0;
	const int32_t *x = f->in[0];
	mlrt_task t = {.buffer = (void *[]){f->in[0], f->arena},
		       .fault = &f->fault,
		       .scratch = f->arena + f->state[MLRT_STATE_ARENA],
		       .scratch_stride = 64};

	if (f->watch)
		f->watch->step(f->watch->user, 0, 0);
	f->pool->parallel(f->pool, f->kernels[0], &t, n);
	if (f->fault.status)
		return f->fault.status;
	if (f->watch)
		f->watch->step(f->watch->user, 0, 1);
	memcpy(f->out[0], f->arena, (size_t)n * 4);
	for (int64_t i = 0; i < n; i++)
		if (x[i] % 2 == 0)
			((int32_t *)f->out[1])[even++] = x[i];
	f->state[EVEN_DIM] = even;
	return 0;
}

static const mlrt_step steps[] = {{"/mul\n/select", "rows", 0, ML_none}};

static void
work(const int64_t *state, int64_t *of)
{
	of[MLRT_WORK_MACS] = of[MLRT_WORK_WEIGHTS] = 0;
	of[MLRT_WORK_READ] = of[MLRT_WORK_WRITTEN] = 4 * state[Y_DIM];
}

static const mlrt_level levels[] = {
#if defined(__x86_64__)
	{"avx2", 3, 0, kernels},
#else
	{"neon", 0, 0, kernels},
#endif
};
static const mlrt_program program = {
	.magic = MLRT_MAGIC,
	.abi = MLRT_ABI,
	.signature = signature,
	.plan = plan,
	.run = run,
	.sites = sites,
	.nsites = 2,
	.nkernels = 1,
	.nlevels = 1,
	.nstate = WORDS,
	.level = levels,
	.step = steps,
	.nsteps = 1,
	.work = work,
};

/* ---- helpers ---- */

/* An allocator that counts, and fails from the n-th call on. */
typedef struct counter {
	int calls, blocks;
	size_t bytes;
	int fail_at;
} counter;

static void *
count(void *user, void *p, size_t old_size, size_t new_size)
{
	counter *c = user;

	c->calls++;
	if (new_size && c->fail_at && c->calls >= c->fail_at)
		return NULL;
	c->blocks += (!p && new_size) - (p && !new_size);
	c->bytes += new_size - old_size;
	if (new_size)
		return realloc(p, new_size);
	free(p);
	return NULL;
}

static ml_session *
open_session(ml_model **m, const ml_session_options *o)
{
	ml_session *s;

	assert_int_equal(ml_model_from_program(&program, NULL, m, NULL), ML_OK);
	assert_int_equal(ml_session_new(*m, o, &s, NULL), ML_OK);
	return s;
}

static ml_status
give(ml_session *s, const int32_t *x, int64_t n)
{
	return ml_session_set_input(s, 0, x, &n, 1);
}

/* ---- tests ---- */

static void
test_run(void **state)
{
	const int32_t x[] = {1, 2, 3, 4};
	ml_model *m;
	ml_session *s = open_session(&m, NULL);
	ml_view v;

	(void)state;
	assert_int_equal(ml_session_output(s, 0, &v), ML_ERR_ARG); /* not before a run */
	assert_int_equal(give(s, x, 4), ML_OK);
	assert_int_equal(ml_session_run(s), ML_OK);
	assert_int_equal(ml_session_output(s, 0, &v), ML_OK);
	assert_int_equal(v.dtype, ML_s32);
	assert_int_equal(v.dim[0], 4);
	assert_int_equal(v.bytes, 16);
	assert_memory_equal(v.data, ((int32_t[]){2, 4, 6, 8}), 16);
	assert_int_equal(ml_session_output(s, 1, &v), ML_OK);
	assert_int_equal(v.dim[0], 2); /* the true size, not its bound */
	assert_memory_equal(v.data, ((int32_t[]){2, 4}), 8);
	assert_string_equal(ml_session_message(s), "");
	assert_string_equal(ml_session_level(s), levels[0].name);
	/* again: bounds are planned anew */
	assert_int_equal(give(s, (int32_t[]){8, 8, 8}, 3), ML_OK);
	assert_int_equal(ml_session_run(s), ML_OK);
	assert_int_equal(ml_session_output(s, 1, &v), ML_OK);
	assert_int_equal(v.dim[0], 3);
	ml_session_free(s);
	ml_model_free(m);
}

static void
test_wrong_arguments(void **state)
{
	const int32_t x[] = {1, 13};
	ml_model *m;
	ml_session *s = open_session(&m, NULL);

	(void)state;
	assert_int_equal(ml_session_run(s), ML_ERR_ARG);
	assert_string_equal(ml_session_message(s), "input 'x' is missing [argument]");
	assert_int_equal(ml_session_set_input(s, 1, x, (int64_t[]){2}, 1), ML_ERR_ARG);
	assert_int_equal(ml_session_set_input(s, -1, x, (int64_t[]){2}, 1), ML_ERR_ARG);
	assert_int_equal(ml_session_set_input(s, 0, x, (int64_t[]){2, 1}, 2), ML_ERR_SHAPE);
	assert_int_equal(ml_session_set_input(s, 0, x, (int64_t[]){-2}, 1), ML_ERR_SHAPE);
	assert_int_equal(ml_session_set_input(s, 0, NULL, (int64_t[]){2}, 1), ML_ERR_ARG);
	assert_int_equal(ml_session_set_output(s, 2, NULL, 0), ML_ERR_ARG);
	assert_int_equal(give(s, NULL, 0), ML_OK); /* no elements, no data */
	assert_int_equal(ml_session_run(s), ML_ERR_SHAPE);
	assert_string_equal(ml_session_message(s),
			    "input 'x', dim 0: size out of range: got 0, limit 1000 [shape]");
	assert_int_equal(give(s, x, 2), ML_OK);
	assert_int_equal(ml_session_run(s), ML_ERR_VALUE);
	assert_string_equal(ml_session_message(s), "an element is 13 [value]");
	assert_int_equal(give(s, x, 1), ML_OK);
	assert_int_equal(ml_session_run(s), ML_OK); /* a failure leaves no trace */
	ml_session_free(s);
	ml_model_free(m);
}

static void
test_callers_memory(void **state)
{
	const int32_t x[] = {1, 2, 3};
	int32_t y[3];
	ml_model *m;
	ml_session *s = open_session(&m, NULL);
	ml_view v;

	(void)state;
	assert_int_equal(ml_session_set_output(s, 0, y, 8), ML_OK);
	assert_int_equal(give(s, x, 3), ML_OK);
	assert_int_equal(ml_session_run(s), ML_ERR_ARG);
	assert_non_null(strstr(ml_session_message(s), "output 'y' needs 12 bytes"));
	assert_int_equal(ml_session_set_output(s, 0, y, sizeof y), ML_OK);
	assert_int_equal(ml_session_run(s), ML_OK);
	assert_memory_equal(y, ((int32_t[]){2, 4, 6}), sizeof y);
	assert_int_equal(ml_session_output(s, 0, &v), ML_OK);
	assert_ptr_equal(v.data, y);
	assert_int_equal(ml_session_set_output(s, 0, NULL, 0), ML_OK);
	assert_int_equal(ml_session_run(s), ML_OK);
	assert_int_equal(ml_session_output(s, 0, &v), ML_OK);
	assert_ptr_not_equal(v.data, y);
	ml_session_free(s);
	ml_model_free(m);
}

/* Memory comes from the given allocator, only when dims grow, and all of it goes back. */
static void
test_memory(void **state)
{
	static int32_t x[1000];
	counter c = {0};
	ml_allocator a = {count, &c};
	ml_model *m;
	ml_session *s = open_session(&m, &(ml_session_options){.allocator = &a, .threads = 2});

	(void)state;
	assert_int_equal(ml_session_reserve(s, (int64_t[]){2000}), ML_ERR_SHAPE);
	assert_int_equal(ml_session_reserve(s, (int64_t[]){500}), ML_OK);
	int calls = c.calls;
	for (int64_t n = 500; n > 0; n -= 99) {
		give(s, x, n);
		assert_int_equal(ml_session_run(s), ML_OK);
	}
	assert_int_equal(c.calls, calls);
	give(s, x, 501);
	assert_int_equal(ml_session_run(s), ML_OK);
	assert_true(c.calls > calls);
	ml_session_free(s);
	assert_int_equal(c.blocks, 0);
	assert_int_equal(c.bytes, 0);
	ml_model_free(m);
}

/* Whichever allocation fails: ML_ERR_NOMEM, nothing lost, and the session still works. */
static void
test_no_memory(void **state)
{
	static int32_t x[100];
	counter c;
	ml_allocator a = {count, &c};
	int failures = 0;

	(void)state;
	for (int n = 1;; n++) {
		ml_model *m;
		ml_session *s;
		c = (counter){.fail_at = n};
		ml_status status = ml_model_from_program(&program, &a, &m, NULL);
		if (status == ML_OK) {
			status = ml_session_new(m, &(ml_session_options){.threads = 2}, &s, NULL);
			if (status == ML_OK) {
				give(s, x, 100);
				status = ml_session_run(s);
				c.fail_at = 0;
				assert_int_equal(ml_session_run(s), ML_OK);
				ml_session_free(s);
			}
			ml_model_free(m);
		}
		assert_int_equal(c.blocks, 0);
		assert_int_equal(c.bytes, 0);
		if (status == ML_OK)
			break;
		assert_int_equal(status, ML_ERR_NOMEM);
		failures++;
	}
	assert_true(failures > 4);
}

/* ---- the application's threads ---- */

static void
run_backwards(void *user, void (*work)(void *, int), void *argument, int count)
{
	*(int *)user += 1;
	while (count-- > 0)
		work(argument, count);
}

static void
test_callers_threads(void **state)
{
	static int32_t x[10] = {0, 1, 2, 3, 4, 5, 6, 7, 8, 9};
	int calls = 0;
	ml_thread_pool pool = {run_backwards, &calls, 3};
	ml_model *m;
	ml_session *s = open_session(&m, &(ml_session_options){.pool = &pool});
	ml_view v;

	(void)state;
	assert_int_equal(ml_session_threads(s), 3);
	for (int64_t n = 1; n <= 10; n++) {
		give(s, x, n);
		assert_int_equal(ml_session_run(s), ML_OK);
		ml_session_output(s, 0, &v);
		for (int64_t i = 0; i < n; i++)
			assert_int_equal(((int32_t *)v.data)[i], 2 * i);
	}
	assert_int_equal(calls, 9); /* one tile needs no threads */
	ml_session_free(s);
	ml_model_free(m);
}

/* ---- models ---- */

static void
note_release(void *owner)
{
	*(int *)owner += 1;
}

static void
test_model_outlives_handle(void **state)
{
	int released = 0;
	ml_model *m;
	ml_session *one, *two;

	(void)state;
	assert_int_equal(mlrt_model_new(&program, NULL, &released, note_release, &m, NULL), ML_OK);
	assert_int_equal(ml_session_new(m, NULL, &one, NULL), ML_OK);
	assert_int_equal(ml_session_new(m, NULL, &two, NULL), ML_OK);
	assert_null(ml_model_function(m, ""));
	ml_model_free(m);
	ml_session_free(one);
	assert_int_equal(released, 0);
	ml_session_free(two);
	assert_int_equal(released, 1);
	ml_model_free(NULL);
	ml_session_free(NULL);
}

static void
expect_no_model(mlrt_program p, const char *text)
{
	ml_message why = {""};
	ml_model *m;

	assert_int_equal(ml_model_from_program(&p, NULL, &m, &why), ML_ERR_FORMAT);
	assert_null(m);
	assert_non_null(strstr(why.text, text));
}

static void
test_refused(void **state)
{
	mlrt_program p = program;
	ml_message why = {""};
	ml_model *m;
	ml_session *s;
	const mlrt_level foreign = {"sparc", 99, 0, kernels};

	(void)state;
	p.magic = 1;
	expect_no_model(p, "not a program");
	p = program;
	p.abi = MLRT_ABI + 1;
	expect_no_model(p, "compile it again");
	p = program;
	p.signature = "mlopt 1\nmodel ?\n";
	expect_no_model(p, "line 2");
	p = program;
	p.level = &foreign;
	assert_int_equal(ml_model_from_program(&p, NULL, &m, NULL), ML_OK);
	assert_int_equal(ml_session_new(m, NULL, &s, &why), ML_ERR_TARGET);
	assert_null(s);
	assert_non_null(strstr(why.text, "needs at least sparc"));
	ml_model_free(m);
}

/* ---- steps ---- */

static void
note(void *user, int step, int ended)
{
	char *seen = user;

	snprintf(seen + strlen(seen), 8, "%d%c", step, ended ? ')' : '(');
}

static void
test_steps(void **state)
{
	const int32_t x[] = {1, 2, 3, 13};
	char seen[64] = "";
	ml_step_info info;
	ml_step_work w;
	ml_model *m;
	ml_session *s = open_session(&m, NULL);

	(void)state;
	assert_int_equal(ml_model_steps(m), 1);
	assert_int_equal(ml_model_step(m, -1, &info), ML_ERR_ARG);
	assert_int_equal(ml_model_step(m, 1, &info), ML_ERR_ARG);
	assert_int_equal(ml_model_step(m, 0, &info), ML_OK);
	assert_string_equal(info.nodes, "/mul\n/select");
	assert_string_equal(info.kind, "rows");
	assert_int_equal(info.kernel, 0);
	assert_int_equal(info.dtype, ML_none);
	assert_int_equal(ml_session_work(s, &w), ML_ERR_ARG); /* not before a run */
	give(s, x, 3);
	assert_int_equal(ml_session_run(s), ML_OK);
	assert_int_equal(ml_session_work(s, &w), ML_OK);
	assert_int_equal(w.macs, 0);
	assert_int_equal(w.read_bytes, 12);
	assert_int_equal(w.written_bytes, 12);
	ml_session_watch(s, note, seen);
	assert_int_equal(ml_session_run(s), ML_OK);
	assert_string_equal(seen, "0(0)");
	give(s, x, 4);
	assert_int_equal(ml_session_run(s), ML_ERR_VALUE);
	assert_string_equal(seen, "0(0)0(");
	ml_session_watch(s, NULL, NULL);
	give(s, x, 3);
	assert_int_equal(ml_session_run(s), ML_OK);
	assert_string_equal(seen, "0(0)0(");
	ml_session_free(s);
	ml_model_free(m);
}

/* ---- files that are no artefacts ---- */

static void
test_load_refused(void **state)
{
	ml_message why = {""};
	ml_model *m;

	(void)state;
	assert_int_equal(ml_model_load("/no/such/file.so", NULL, &m, &why), ML_ERR_IO);
	assert_non_null(strstr(why.text, "/no/such/file.so"));
	assert_int_equal(ml_model_load(ML_SOURCE_DIR "/CMakeLists.txt", NULL, &m, &why),
			 ML_ERR_FORMAT);
	assert_non_null(strstr(why.text, "no compiled model"));
	assert_int_equal(ml_model_load(ML_SOURCE_DIR, NULL, &m, &why), ML_ERR_IO);
	assert_null(m);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_run),
		cmocka_unit_test(test_wrong_arguments),
		cmocka_unit_test(test_callers_memory),
		cmocka_unit_test(test_memory),
		cmocka_unit_test(test_no_memory),
		cmocka_unit_test(test_callers_threads),
		cmocka_unit_test(test_model_outlives_handle),
		cmocka_unit_test(test_steps),
		cmocka_unit_test(test_refused),
		cmocka_unit_test(test_load_refused),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
