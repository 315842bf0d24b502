/* test_exec.c -- candidates compiled by the JIT give what the reference evaluator gives. */
#include "driver/driver.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

static const char text[] =
	"module \"m\" {\n"
	"  sym n\n"
	"  in %0 \"x\" : f32[n, 4]\n"
	"  %1 = const {0, 1, 2, 3, 4, 5, 6, 7} : f32[4, 2]\n"
	"  %2 = dot %0, %1 {lhs_contract = [1], rhs_contract = [0]} : f32[n, 2]\n"
	"  %3 = tanh %2 : f32[n, 2]\n"
	"  out \"y\" = %3\n"
	"}\n";

typedef struct setup {
	ml_context *cx;
	ml_options *o;
	ml_module *m;
	ml_exec exec;
	ml_candidates candidates;
	ml_arena arena;
	jmp_buf nomem;
	ml_tensor in;
	float x[12];
} setup;

static void
begin(setup *s)
{
	assert_int_equal(ml_context_new(NULL, &s->cx), ML_OK);
	assert_int_equal(ml_options_new(s->cx, &s->o), ML_OK);
	s->cx->memory.on_fail = &s->nomem;
	assert_int_equal(ml_parse(s->cx, text, strlen(text), NULL, NULL, &s->m), ML_OK);
	s->candidates = (ml_candidates){.o = s->o};
	s->exec = ml_exec_by_jit(&s->candidates);
	ml_arena_init(&s->arena, &s->cx->memory);
	for (int i = 0; i < 12; i++)
		s->x[i] = (float)(i - 6) / 16;
	s->in = (ml_tensor){ML_f32, 2, {3, 4}, s->x, sizeof s->x};
}

static void
end(setup *s)
{
	ml_arena_free(&s->arena);
	ml_module_free(s->m);
	ml_options_free(s->o);
	ml_context_free(s->cx);
}

static void
test_run(void **state)
{
	setup s;
	ml_runnable *r;
	ml_tensor want, got;

	(void)state;
	if (setjmp(s.nomem))
		fail_msg("out of memory");
	begin(&s);
	assert_int_equal(ml_evaluate(s.m, &s.in, &want, &s.arena, NULL), ML_OK);
	assert_int_equal(s.exec.compile(s.exec.user, s.m, &r), ML_OK);
	assert_int_equal(s.exec.run(s.exec.user, r, &s.in, &got, &s.arena), ML_OK);
	assert_int_equal(got.dtype, ML_f32);
	assert_int_equal(got.rank, 2);
	assert_int_equal(got.dim[0], 3);
	assert_int_equal(got.dim[1], 2);
	for (int i = 0; i < 6; i++)
		assert_float_equal(((float *)got.data)[i], ((float *)want.data)[i], 1e-6);
	s.exec.free(s.exec.user, r);
	assert_int_equal(ml_verify(s.m), ML_OK); /* the candidate was a clone */
	end(&s);
}

static void
test_time(void **state)
{
	setup s;
	ml_runnable *r;
	double seconds = -1;

	(void)state;
	if (setjmp(s.nomem))
		fail_msg("out of memory");
	begin(&s);
	assert_int_equal(s.exec.compile(s.exec.user, s.m, &r), ML_OK);
	assert_int_equal(s.exec.time(s.exec.user, r, &s.in, 3, &seconds), ML_OK);
	assert_true(seconds > 0);
	s.exec.free(s.exec.user, r);
	end(&s);
}

static void
test_wrong_shape(void **state)
{
	setup s;
	ml_runnable *r;
	ml_tensor got;

	(void)state;
	if (setjmp(s.nomem))
		fail_msg("out of memory");
	begin(&s);
	assert_int_equal(s.exec.compile(s.exec.user, s.m, &r), ML_OK);
	s.in.dim[1] = 3;
	assert_int_equal(s.exec.run(s.exec.user, r, &s.in, &got, &s.arena), ML_ERR_SHAPE);
	assert_non_null(strstr(ml_context_message(s.cx, 0), "x"));
	s.exec.free(s.exec.user, r);
	end(&s);
}

/* ---- memory that ends ---- */

typedef struct purse {
	bool empty;
	int64_t spent;
} purse;

static void *
spend(void *user, void *p, size_t old_size, size_t new_size)
{
	purse *a = user;

	if (new_size && a->empty)
		return NULL;
	a->spent += (int64_t)new_size - (int64_t)old_size;
	if (new_size)
		return realloc(p, new_size);
	free(p);
	return NULL;
}

/* A candidate that is lost on the way is found again. */
static void
test_lost(void **state)
{
	purse a = {0};
	ml_allocator allocator = {.resize = spend, .user = &a};
	static setup s;
	ml_runnable *r;
	ml_tensor got;

	(void)state;
	assert_int_equal(ml_context_new(&allocator, &s.cx), ML_OK);
	assert_int_equal(ml_options_new(s.cx, &s.o), ML_OK);
	s.cx->memory.on_fail = &s.nomem;
	assert_int_equal(ml_parse(s.cx, text, strlen(text), NULL, NULL, &s.m), ML_OK);
	s.candidates = (ml_candidates){.o = s.o};
	s.exec = ml_exec_by_jit(&s.candidates);
	s.in = (ml_tensor){ML_f32, 2, {3, 4}, s.x, sizeof s.x};
	ml_arena_init(&s.arena, &s.cx->memory);
	if (!setjmp(s.nomem)) {
		assert_int_equal(s.exec.compile(s.exec.user, s.m, &r), ML_OK);
		assert_int_equal(s.exec.run(s.exec.user, r, &s.in, &got, &s.arena), ML_OK);
		ml_arena_free(&s.arena);
		ml_arena_init(&s.arena, &s.cx->memory);
		a.empty = true; /* the session has what it needs, results have no place */
		s.exec.run(s.exec.user, r, &s.in, &got, &s.arena);
		fail_msg("there was memory");
	}
	a.empty = false;
	assert_non_null(s.candidates.live);
	ml_candidates_end(&s.candidates);
	assert_null(s.candidates.live);
	end(&s);
	assert_int_equal(a.spent, 0);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_run),
		cmocka_unit_test(test_time),
		cmocka_unit_test(test_wrong_shape),
		cmocka_unit_test(test_lost),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
