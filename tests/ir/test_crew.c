/* test_crew.c -- every part of a job is done once, whoever does it. */
#include "ir/crew.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <cmocka.h>

enum { PARTS = 1000 };

typedef struct tally {
	int done[PARTS], of_worker[ML_MAX_CREW];
} tally;

static void
count(void *user, int worker, int64_t part)
{
	tally *t = user;

	__atomic_fetch_add(&t->done[part], 1, __ATOMIC_RELAXED);
	t->of_worker[worker]++; /* nobody else has this number */
}

static void
test_parts(void **state)
{
	static const ml_crew crews[] = {{0, false}, {1, false}, {3, false}, {3, true}, {999, true}};
	static const int sizes[] = {0, 1, 2, PARTS};

	(void)state;
	for (size_t c = 0; c < sizeof crews / sizeof *crews; c++)
		for (int i = 0; i < 4; i++) {
			tally t = {0};
			int workers = ml_crew_size(&crews[c], sizes[i]), sum = 0;
			assert_in_range(workers, 1, ML_MAX_CREW);
			ml_crew_do(&crews[c], sizes[i], count, &t);
			for (int p = 0; p < PARTS; p++)
				assert_int_equal(t.done[p], p < sizes[i]);
			for (int w = 0; w < workers; w++)
				sum += t.of_worker[w];
			assert_int_equal(sum, sizes[i]);
		}
	assert_int_equal(ml_crew_size(&crews[3], PARTS), 3);
	assert_int_equal(ml_crew_size(&crews[3], 2), 2);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {cmocka_unit_test(test_parts)};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
