/* test_lower_einsum.c -- Einsum. */
#include "harness_onnx.h"

#define Y "out y\n"

#define AB   "in a f32[2,2]\nin b f32[2,2]\n"
#define DATA "a f32[2,2] 1 2 3 4\nb f32[2,2] 5 6 7 8"

static void
test_equations(void **state)
{
	(void)state;
	expect(AB "node Einsum a b -> y equation=\"ij,jk->ik\"\n" Y, DATA,
	       "y f32[2,2] 19 22 43 50");
	expect(AB "node Einsum a b -> y equation=\"ij,jk\"\n" Y, DATA, "y f32[2,2] 19 22 43 50");
	expect(AB "node Einsum a b -> y equation=\"ij,ij->\"\n" Y, DATA, "y f32[] 70");
	expect(AB "node Einsum a b -> y equation=\"bi,bj->bji\"\n" Y, DATA,
	       "y f32[2,2,2] 5 10 6 12 21 28 24 32");
	expect("in a f32[2,2]\nnode Einsum a -> y equation=\"ii->i\"\n" Y, "a f32[2,2] 1 2 3 4",
	       "y f32[2] 1 4");
	expect("in a f32[2,2]\nnode Einsum a -> y equation=\"ij->ji\"\n" Y, "a f32[2,2] 1 2 3 4",
	       "y f32[2,2] 1 3 2 4");
	expect("in a f32[2,1,2]\nin b f32[2,1]\nnode Einsum a b -> y "
	       "equation=\"...ij,jk->...ik\"\n" Y,
	       "a f32[2,1,2] 1 2 3 4\nb f32[2,1] 1 1", "y f32[2,1,1] 3 7");
	expect(AB "in c f32[2]\nnode Einsum a b c -> y equation=\"ij,jk,k->i\"\n" Y,
	       DATA "\nc f32[2] 1 1", "y f32[2] 41 93");
}

static void
test_bad_equations(void **state)
{
	(void)state;
	static const char *const bad[] = {"ij,jk->il", "ij->i",     "ij,jk,kl->il", "ij,jk->ii",
					  "i1,jk->ik", "ijk,jk->i", "ij,jk-ik",     "ij,jk->ik,"};

	for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
		cx.diags.count = 0;
		expect_error(
			ml_format(&cx.arena, AB "node Einsum a b -> y equation=\"%s\"\n" Y, bad[i]),
			ML_ERR_VALUE, "equation");
	}
	expect_error(
		"in a f32[2,2]\nin b f32[3,2]\nnode Einsum a b -> y equation=\"ij,jk->ik\"\n" Y,
		ML_ERR_VALUE, "two sizes");
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_equations),
		TEST(test_bad_equations),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
