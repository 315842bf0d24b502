/* test_dim_bound.c -- flattened positions taken apart again, and bounds of loop indices. */
#include "../../ir/dim_bound.h"
#include "../../ir/diag.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>
#include <string.h>

typedef struct fixture {
	ml_memory memory;
	ml_dims *dims;
	ml_dim s, h, i, j, k; /* sizes s, h; indices i < s, j < h, k < 32 */
	ml_lane_axis axis;    /* of a row of 384 */
} fixture;

static ml_dim
number(fixture *f, int64_t n)
{
	return ml_dim_int(f->dims, n);
}

static ml_dim
less_one(fixture *f, ml_dim d)
{
	return ml_dim_sub(f->dims, d, number(f, 1));
}

static ml_dim
add(fixture *f, ml_dim a, ml_dim b)
{
	return ml_dim_add(f->dims, a, b);
}

static ml_dim
mul(fixture *f, ml_dim a, ml_dim b)
{
	return ml_dim_mul(f->dims, a, b);
}

static ml_dim
loop(fixture *f, ml_dim size)
{
	return ml_dim_sym(f->dims, ml_sym_fresh(f->dims, less_one(f, size)));
}

static int
setup(void **state)
{
	static fixture f;

	f = (fixture){.memory = ml_memory_libc()};
	f.dims = ml_dims_new(&f.memory);
	f.s = ml_dim_sym(f.dims, ml_sym_named(f.dims, "s", 1));
	f.h = ml_dim_sym(f.dims, ml_sym_named(f.dims, "h", 1));
	f.i = loop(&f, f.s);
	f.j = loop(&f, f.h);
	f.k = loop(&f, number(&f, 32));
	f.axis.position = ml_sym_fresh(f.dims, number(&f, 383));
	f.axis.block = ml_sym_fresh(f.dims, number(&f, 23));
	f.axis.lane = ml_sym_fresh(f.dims, number(&f, 15));
	f.axis.lanes = 16;
	*state = &f;
	return 0;
}

static int
teardown(void **state)
{
	ml_dims_free(((fixture *)*state)->dims);
	return 0;
}

static void
test_flattened(void **state)
{
	fixture *f = *state;
	/* ((j*s + i)*32 + k) by 32, by 32*s */
	ml_dim row = add(f, mul(f, f->j, f->s), f->i);
	ml_dim at = add(f, mul(f, row, number(f, 32)), f->k);
	ml_quotient q = ml_dim_quotient(f->dims, NULL, at, number(f, 32));

	assert_ptr_equal(q.whole, row);
	assert_null(q.rest);
	q = ml_dim_quotient(f->dims, NULL, at, mul(f, number(f, 32), f->s));
	assert_ptr_equal(q.whole, f->j);
	assert_null(q.rest);
	q = ml_dim_quotient(f->dims, NULL, row, f->s);
	assert_ptr_equal(q.whole, f->j);
	assert_null(q.rest);
}

static void
test_what_is_not_proven(void **state)
{
	fixture *f = *state;
	/* (j*s + i + 1) by s: i + 1 may be s */
	ml_dim at = add(f, add(f, mul(f, f->j, f->s), f->i), number(f, 1));
	ml_quotient q = ml_dim_quotient(f->dims, NULL, at, f->s);

	assert_ptr_equal(q.whole, f->j);
	assert_ptr_equal(q.rest, add(f, f->i, number(f, 1)));
	assert_ptr_equal(q.by, f->s);
	assert_false(ml_dim_within(f->dims, NULL, at, f->s));
}

static void
test_negative_remainder(void **state)
{
	fixture *f = *state;
	/* (s*h - 1) by s = h - 1 */
	ml_dim at = less_one(f, mul(f, f->s, f->h));
	ml_dim last = less_one(f, f->h);
	ml_quotient q = ml_dim_quotient(f->dims, NULL, at, f->s);

	(void)last;
	/* s may be 0, so that 0 <= s - 1 is not known: nothing false is claimed */
	assert_true(q.rest || q.whole == last);
	q = ml_dim_quotient(f->dims, NULL, add(f, mul(f, f->i, number(f, 4)), number(f, -1)),
			    number(f, 4));
	assert_ptr_equal(q.whole, less_one(f, f->i));
	assert_null(q.rest);
}

static void
test_lanes(void **state)
{
	fixture *f = *state;
	ml_dim block = ml_dim_sym(f->dims, f->axis.block), lane = ml_dim_sym(f->dims, f->axis.lane);
	ml_dim at = add(f, mul(f, number(f, 16), block), lane);
	ml_quotient q = ml_dim_quotient(f->dims, &f->axis, at, number(f, 32));

	/* (16*block + lane) by 32 = block by 2 */
	assert_ptr_equal(q.whole, number(f, 0));
	assert_ptr_equal(q.rest, block);
	assert_ptr_equal(q.by, number(f, 2));
	/* A row of 384 behind rows: the position's bound counts, also where 16 does not divide. */
	q = ml_dim_quotient(f->dims, &f->axis, add(f, mul(f, f->i, number(f, 384)), at),
			    number(f, 384));
	assert_ptr_equal(q.whole, f->i);
	assert_null(q.rest);
	f->axis.position = ml_sym_fresh(f->dims, less_one(f, f->s));
	f->axis.block =
		ml_sym_fresh(f->dims, ml_dim_floordiv(f->dims, less_one(f, f->s), number(f, 16)));
	at = add(f, mul(f, number(f, 16), ml_dim_sym(f->dims, f->axis.block)), lane);
	q = ml_dim_quotient(f->dims, &f->axis, add(f, mul(f, f->j, f->s), at), f->s);
	assert_ptr_equal(q.whole, f->j);
	assert_null(q.rest);
}

static void
test_bounds(void **state)
{
	fixture *f = *state;
	ml_dim at = add(f, mul(f, f->j, f->s), f->i);

	assert_true(ml_dim_within(f->dims, NULL, at, less_one(f, mul(f, f->h, f->s))));
	assert_ptr_equal(ml_dim_largest(f->dims, NULL, at), less_one(f, mul(f, f->h, f->s)));
	/* s - 1 - i, a reversed index */
	ml_dim reversed = ml_dim_sub(f->dims, less_one(f, f->s), f->i);
	assert_true(ml_dim_within(f->dims, NULL, reversed, less_one(f, f->s)));
	assert_false(ml_dim_within(f->dims, NULL, ml_dim_sub(f->dims, f->i, number(f, 1)), f->s));
}

static void
test_linear(void **state)
{
	fixture *f = *state;
	const ml_term *t;
	ml_dim factor, rest, d = add(f, mul(f, f->i, f->s), f->k);

	ml_dim_terms(f->i, &t);
	const ml_sym *i = t[0].atom[0]->sym;
	assert_true(ml_dim_linear(f->dims, d, i, &factor, &rest));
	assert_ptr_equal(factor, f->s);
	assert_ptr_equal(rest, f->k);
	assert_true(ml_dim_mentions(d, i));
	assert_false(ml_dim_linear(f->dims, mul(f, f->i, f->i), i, &factor, &rest));
	assert_false(ml_dim_linear(f->dims, ml_dim_floordiv(f->dims, f->i, number(f, 3)), i,
				   &factor, &rest));
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_flattened, setup, teardown),
		cmocka_unit_test_setup_teardown(test_what_is_not_proven, setup, teardown),
		cmocka_unit_test_setup_teardown(test_negative_remainder, setup, teardown),
		cmocka_unit_test_setup_teardown(test_lanes, setup, teardown),
		cmocka_unit_test_setup_teardown(test_bounds, setup, teardown),
		cmocka_unit_test_setup_teardown(test_linear, setup, teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
