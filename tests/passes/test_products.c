/* test_products.c -- products of a training in bf16: what is rounded, and what is not. */
#include "passes/distill/distill.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>
#include <cmocka.h>

/* %w is multiplied twice; %k is of attention's kind, and the sum reads %x as it is. */
static const char model[] =
	"module \"m\" {\n  sym b\n  in %x \"x\" : f32[b, 2]\n  in %k \"k\" : f32[b, 1, 2, 2]\n"
	"  %w = const {1, 0.5, 2, 1} : f32[2, 2]\n"
	"  %l = linear %x, %w : f32[b, 2]\n  %s = add %l, %x : f32[b, 2]\n"
	"  %y = linear %s, %w : f32[b, 2]\n"
	"  %d = dot %k, %k {lhs_batch = [0, 1], rhs_batch = [0, 1], lhs_contract = [3], "
	"rhs_contract = [3]} : f32[b, 1, 2, 2]\n"
	"  out \"y\" = %y\n  out \"d\" = %d\n}\n";

static bool
is_rounded(const ml_value *v, const ml_value *of)
{
	return ml_is(v, ML_OP_cast) && ml_is(ml_in(v->def, 0), ML_OP_cast) &&
	       ml_in(v->def, 0)->type.dtype == ML_bf16 && ml_in(ml_in(v->def, 0)->def, 0) == of;
}

static void
test_rounds(void **state)
{
	ml_context cx = {.memory = ml_memory_libc()};
	ml_module *m;

	(void)state;
	ml_arena_init(&cx.arena, &cx.memory);
	assert_int_equal(ml_parse(&cx, model, strlen(model), NULL, NULL, &m), ML_OK);
	assert_int_equal(ml_round_products(m), ML_OK);
	const ml_node *y = ml_in(m->main->last, 0)->def, *d = ml_in(m->main->last, 1)->def;
	const ml_value *w = ml_in(ml_in(ml_in(y, 1)->def, 0)->def, 0);
	const ml_node *s = ml_in(ml_in(ml_in(y, 0)->def, 0)->def, 0)->def;
	const ml_node *l = ml_in(s, 0)->def;
	assert_true(is_rounded(ml_in(y, 0), &s->out[0]));
	assert_true(is_rounded(ml_in(y, 1), w));
	assert_true(is_rounded(ml_in(l, 0), m->main->arg[0]));
	assert_ptr_equal(ml_in(l, 1), ml_in(y, 1));
	assert_ptr_equal(ml_in(s, 1), m->main->arg[0]);
	assert_ptr_equal(ml_in(d, 0), m->main->arg[1]);
	assert_int_equal(ml_verify(m), ML_OK);
	ml_module_free(m);
	ml_arena_free(&cx.arena);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {cmocka_unit_test(test_rounds)};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
