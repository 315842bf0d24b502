/* test_sink.c -- joining the outputs of many runs. */
#include "scratch.h"
#include "tools/data/sink.h"

/* Adds one output "y" holding from, from + 1, ... */
static int
add(scratch *s, md_sink *sink, int rank, const int64_t *dim, int16_t from)
{
	md_arrays outputs = {0};
	md_array a;
	int status;

	assert_int_equal(md_array_init(&a, "y", MD_I16, rank, dim, WHY(s)), 0);
	for (int64_t i = 0; i < md_array_elements(&a); i++)
		((int16_t *)a.data)[i] = (int16_t)(from + i);
	assert_int_equal(md_arrays_push(&outputs, &a, WHY(s)), 0);
	status = md_sink_add(sink, &outputs, WHY(s));
	md_arrays_clear(&outputs);
	return status;
}

static void
assert_joined(scratch *s, md_sink *sink, const char *type, const int16_t *data, const char *note)
{
	char got_note[128], got_type[64];
	md_arrays joined = {0};

	assert_int_equal(md_sink_finish(sink, &joined, got_note, sizeof got_note, WHY(s)), 0);
	assert_int_equal(joined.count, 1);
	assert_string_equal(joined.at[0].name, "y");
	assert_string_equal(md_array_type(&joined.at[0], got_type, sizeof got_type), type);
	assert_memory_equal(joined.at[0].data, data, joined.at[0].bytes);
	assert_string_equal(got_note, note);
	assert_int_equal(sink->count, 0);
	md_arrays_clear(&joined);
}

static void
test_batches_are_joined(void **state)
{
	scratch *s = *state;
	md_sink sink = {0};

	assert_int_equal(add(s, &sink, 2, (int64_t[]){2, 2}, 0), 0);
	assert_int_equal(add(s, &sink, 2, (int64_t[]){1, 2}, 4), 0);
	assert_int_equal(add(s, &sink, 2, (int64_t[]){0, 2}, 9), 0);
	assert_joined(s, &sink, "i16[3,2]", (int16_t[]){0, 1, 2, 3, 4, 5}, "");
}

static void
test_one_run_stays(void **state)
{
	scratch *s = *state;
	md_sink sink = {0};

	assert_int_equal(add(s, &sink, 0, NULL, 7), 0);
	assert_joined(s, &sink, "i16[]", (int16_t[]){7}, "");
}

static void
test_scalars_are_stacked(void **state)
{
	scratch *s = *state;
	md_sink sink = {0};

	for (int16_t i = 0; i < 9; i++)
		assert_int_equal(add(s, &sink, 0, NULL, i), 0);
	assert_joined(s, &sink, "i16[9]", (int16_t[]){0, 1, 2, 3, 4, 5, 6, 7, 8}, "");
}

static void
test_ragged_is_padded(void **state)
{
	scratch *s = *state;
	md_sink sink = {0};

	assert_int_equal(add(s, &sink, 2, (int64_t[]){2, 1}, 1), 0);
	assert_int_equal(add(s, &sink, 2, (int64_t[]){1, 3}, 3), 0);
	assert_int_equal(add(s, &sink, 2, (int64_t[]){1, 2}, 6), 0);
	assert_joined(s, &sink, "i16[4,3]", (int16_t[]){1, 0, 0, 2, 0, 0, 3, 4, 5, 6, 7, 0},
		      "'y' padded with 0 to i16[4,3]\n");
}

static void
test_ragged_in_the_middle(void **state)
{
	scratch *s = *state;
	md_sink sink = {0};

	assert_int_equal(add(s, &sink, 4, (int64_t[]){2, 1, 2, 2}, 1), 0);
	assert_int_equal(add(s, &sink, 4, (int64_t[]){1, 2, 1, 2}, 9), 0);
	assert_joined(s, &sink, "i16[3,2,2,2]", (int16_t[]){1, 2,  3, 4, 0,  0,  0, 0, /**/
							    5, 6,  7, 8, 0,  0,  0, 0, /**/
							    9, 10, 0, 0, 11, 12, 0, 0},
		      "'y' padded with 0 to i16[3,2,2,2]\n");
}

static void
test_changes_refused(void **state)
{
	scratch *s = *state;
	md_sink sink = {0};
	md_arrays other = {0};
	md_array a;

	assert_int_equal(add(s, &sink, 1, (int64_t[]){2}, 0), 0);
	assert_int_equal(add(s, &sink, 2, (int64_t[]){2, 1}, 0), -1);
	assert_why(s, "output 'y' changed its type from i16 rank 1 to i16 rank 2");
	assert_int_equal(md_sink_add(&sink, &other, WHY(s)), -1);
	assert_why(s, "1 outputs became 0");
	assert_int_equal(md_array_init(&a, "z", MD_I16, 1, (int64_t[]){2}, WHY(s)), 0);
	assert_int_equal(md_arrays_push(&other, &a, WHY(s)), 0);
	assert_int_equal(md_sink_add(&sink, &other, WHY(s)), -1);
	assert_why(s, "output 'y' became 'z'");
	md_arrays_clear(&other);
	assert_joined(s, &sink, "i16[2]", (int16_t[]){0, 1}, "");
}

static void
test_clear(void **state)
{
	scratch *s = *state;
	md_sink sink = {0};
	md_arrays joined = {0};
	char note[8] = "x";

	assert_int_equal(add(s, &sink, 1, (int64_t[]){2}, 0), 0);
	md_sink_clear(&sink);
	assert_int_equal(md_sink_finish(&sink, &joined, note, sizeof note, WHY(s)), 0);
	assert_int_equal(joined.count, 0);
	assert_string_equal(note, "");
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		SCRATCH_TEST(test_batches_are_joined),
		SCRATCH_TEST(test_one_run_stays),
		SCRATCH_TEST(test_scalars_are_stacked),
		SCRATCH_TEST(test_ragged_is_padded),
		SCRATCH_TEST(test_ragged_in_the_middle),
		SCRATCH_TEST(test_changes_refused),
		SCRATCH_TEST(test_clear),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
