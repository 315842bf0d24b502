/* harness_files.h -- main() of a program that has run_file() for each file of files.def: a test of
 * its own each. */
#define FILE(name, at_least)                                                                       \
	static void test_##name(void **state)                                                      \
	{                                                                                          \
		(void)state;                                                                       \
		run_file(#name, at_least);                                                         \
	}
#include "files.def"
#undef FILE

int
main(void)
{
	const struct CMUnitTest tests[] = {
#define FILE(name, at_least) cmocka_unit_test(test_##name),
#include "files.def"
#undef FILE
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
