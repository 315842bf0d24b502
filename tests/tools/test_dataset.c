/* test_dataset.c -- batches, trimming and walks over stacked samples. */
#include "scratch.h"
#include "tools/data/dataset.h"

/* An i32 array holding 0, 1, 2, ... */
static int
open_one(md_dataset *ds, const char *path, const md_want *want, size_t wanted, char *why,
	 size_t why_size)
{
	return md_dataset_open(ds, &path, 1, want, wanted, why, why_size);
}

static void
push_counting(scratch *s, md_arrays *list, const char *name, int rank, const int64_t *dim)
{
	md_array a;

	assert_int_equal(md_array_init(&a, name, MD_I32, rank, dim, WHY(s)), 0);
	for (int64_t i = 0; i < md_array_elements(&a); i++)
		((int32_t *)a.data)[i] = (int32_t)i;
	assert_int_equal(md_arrays_push(list, &a, WHY(s)), 0);
}

static int32_t *
data_of(const md_arrays *list, const char *name)
{
	const md_array *a = md_arrays_find(list, name);

	assert_non_null(a);
	return a->data;
}

/* ids [5,4], mask [5,4] with row lengths 2 1 3 0 4, other [5,7], a scalar. */
static md_dataset
tokens(scratch *s)
{
	static const int32_t length[] = {2, 1, 3, 0, 4};
	const char *path = scratch_path(s, "d.npz");
	md_arrays list = {0};
	md_dataset ds;

	push_counting(s, &list, "ids", 2, (int64_t[]){5, 4});
	push_counting(s, &list, "mask", 2, (int64_t[]){5, 4});
	push_counting(s, &list, "other", 2, (int64_t[]){5, 7});
	push_counting(s, &list, "k", 0, NULL);
	for (int i = 0; i < 20; i++)
		data_of(&list, "mask")[i] = i % 4 < length[i / 4];
	assert_int_equal(md_store(path, &list, WHY(s)), 0);
	md_arrays_clear(&list);
	assert_int_equal(open_one(&ds, path, NULL, 0, WHY(s)), 0);
	assert_int_equal(ds.samples, 5);
	return ds;
}

static void
test_batches_are_views(void **state)
{
	scratch *s = *state;
	md_dataset ds = tokens(s);
	md_arrays batch = {0};

	assert_int_equal(md_dataset_batch(&ds, 1, 3, &batch, WHY(s)), 0);
	assert_int_equal(batch.count, 4);
	assert_ptr_equal(data_of(&batch, "ids"), data_of(&ds.arrays, "ids") + 4);
	assert_int_equal(md_arrays_find(&batch, "ids")->dim[0], 3);
	assert_int_equal(md_arrays_find(&batch, "other")->bytes, 3 * 7 * 4);
	assert_ptr_equal(data_of(&batch, "k"), data_of(&ds.arrays, "k"));
	md_arrays_clear(&batch);
	assert_int_equal(md_dataset_batch(&ds, 4, 2, &batch, WHY(s)), -1);
	assert_why(s, "samples 4+2 lie outside the 5 there are");
	assert_int_equal(md_dataset_batch(&ds, 1, INT64_MAX, &batch, WHY(s)), -1);
	md_dataset_close(&ds);
}

static void
test_trim_copies_what_is_left(void **state)
{
	scratch *s = *state;
	md_dataset ds = tokens(s);
	md_arrays batch = {0};

	assert_int_equal(md_dataset_batch(&ds, 0, 3, &batch, WHY(s)), 0);
	assert_int_equal(md_arrays_trim(&batch, "mask", WHY(s)), 0);
	assert_int_equal(md_arrays_find(&batch, "ids")->dim[1], 3);
	assert_memory_equal(data_of(&batch, "ids"), ((int32_t[]){0, 1, 2, 4, 5, 6, 8, 9, 10}), 36);
	assert_memory_equal(data_of(&batch, "mask"), ((int32_t[]){1, 1, 0, 1, 0, 0, 1, 1, 1}), 36);
	assert_int_equal(md_arrays_find(&batch, "other")->dim[1], 7);
	assert_int_equal(data_of(&ds.arrays, "ids")[3], 3); /* the set itself is untouched */
	md_arrays_clear(&batch);
	md_dataset_close(&ds);
}

static void
test_trim_of_one_sample_is_a_view(void **state)
{
	scratch *s = *state;
	md_dataset ds = tokens(s);
	md_arrays batch = {0};

	assert_int_equal(md_dataset_batch(&ds, 2, 1, &batch, WHY(s)), 0);
	assert_int_equal(md_arrays_trim(&batch, "mask", WHY(s)), 0);
	assert_int_equal(md_arrays_find(&batch, "ids")->dim[1], 3);
	assert_int_equal(md_arrays_find(&batch, "ids")->bytes, 12);
	assert_ptr_equal(data_of(&batch, "ids"), data_of(&ds.arrays, "ids") + 8);
	md_arrays_clear(&batch);
	md_dataset_close(&ds);
}

static void
test_trim_limits(void **state)
{
	scratch *s = *state;
	md_dataset ds = tokens(s);
	md_arrays batch = {0};

	assert_int_equal(md_dataset_batch(&ds, 3, 1, &batch, WHY(s)), 0);
	assert_int_equal(md_arrays_trim(&batch, "mask", WHY(s)), 0);
	assert_int_equal(md_arrays_find(&batch, "mask")->dim[1], 1); /* all padding: one is left */
	md_arrays_clear(&batch);
	assert_int_equal(md_dataset_batch(&ds, 0, 5, &batch, WHY(s)), 0);
	assert_int_equal(md_arrays_trim(&batch, "mask", WHY(s)), 0);
	assert_int_equal(md_arrays_find(&batch, "mask")->dim[1], 4);
	assert_int_equal(md_arrays_trim(&batch, "absent", WHY(s)), -1);
	assert_why(s, "cannot trim: no array named 'absent'");
	assert_int_equal(md_arrays_trim(&batch, "k", WHY(s)), -1);
	assert_why(s, "cannot trim: 'k' has rank 0, not 2");
	md_arrays_clear(&batch);
	md_dataset_close(&ds);
}

/* [n,S,heads] follows the mask too. */
static void
test_trim_of_higher_rank(void **state)
{
	scratch *s = *state;
	md_arrays batch = {0};

	push_counting(s, &batch, "x", 3, (int64_t[]){2, 3, 2});
	push_counting(s, &batch, "mask", 2, (int64_t[]){2, 3});
	memcpy(data_of(&batch, "mask"), (int32_t[]){1, 0, 0, 1, 1, 0}, 24);
	assert_int_equal(md_arrays_trim(&batch, "mask", WHY(s)), 0);
	assert_int_equal(md_arrays_find(&batch, "x")->bytes, 32);
	assert_memory_equal(data_of(&batch, "x"), ((int32_t[]){0, 1, 2, 3, 6, 7, 8, 9}), 32);
	md_arrays_clear(&batch);
}

/* Walks the feed; writes the size of every batch as a digit. */
static void
walk(scratch *s, md_feed feed, char *sizes)
{
	md_arrays batch = {0};
	int got;

	while ((got = md_feed_next(&feed, &batch, WHY(s))) > 0) {
		*sizes++ = (char)('0' + md_arrays_find(&batch, "ids")->dim[0]);
		*sizes++ = (char)('0' + md_arrays_find(&batch, "ids")->dim[1]);
		*sizes++ = ' ';
		md_arrays_clear(&batch);
	}
	*sizes = '\0';
	assert_int_equal(got, 0);
	assert_int_equal(md_feed_next(&feed, &batch, WHY(s)), 0);
}

static void
test_feed(void **state)
{
	scratch *s = *state;
	md_dataset ds = tokens(s);
	md_arrays batch = {0};
	char sizes[64];
	md_feed broken;

	walk(s, md_feed_start(&ds, 2, false, NULL), sizes);
	assert_string_equal(sizes, "24 24 14 ");
	walk(s, md_feed_start(&ds, 2, false, "mask"), sizes);
	assert_string_equal(sizes, "22 23 14 ");
	walk(s, md_feed_start(&ds, 4, true, "mask"), sizes);
	assert_string_equal(sizes, "12 11 13 11 14 ");
	walk(s, md_feed_start(&ds, 0, false, NULL), sizes);
	assert_string_equal(sizes, "54 ");
	broken = md_feed_start(&ds, 1, false, "absent");
	assert_int_equal(md_feed_next(&broken, &batch, WHY(s)), -1);
	assert_int_equal(batch.count, 0);
	md_dataset_close(&ds);
}

static void
test_sets_that_are_not_stacked(void **state)
{
	scratch *s = *state;
	md_arrays list = {0}, batch = {0};
	md_dataset ds;
	char sizes[64];

	push_counting(s, &list, "ids", 2, (int64_t[]){3, 2});
	push_counting(s, &list, "b", 1, (int64_t[]){4});
	assert_int_equal(md_store(scratch_path(s, "d.npz"), &list, WHY(s)), 0);
	assert_int_equal(open_one(&ds, scratch_path(s, "d.npz"), NULL, 0, WHY(s)), 0);
	assert_int_equal(ds.samples, -1);
	assert_int_equal(md_dataset_batch(&ds, 0, 1, &batch, WHY(s)), -1);
	assert_why_has(s, "they are not stacked samples");
	walk(s, md_feed_start(&ds, 1, false, NULL), sizes);
	assert_string_equal(sizes, "32 ");
	md_dataset_close(&ds);
	md_array_clear(&list.at[--list.count]);
	assert_int_equal(md_store(scratch_path(s, "input_0.pb"), &list, WHY(s)), 0);
	assert_int_equal(open_one(&ds, s->folder, NULL, 0, WHY(s)), 0);
	assert_int_equal(ds.samples, -1); /* test data of ONNX is whole inputs */
	md_dataset_close(&ds);
	md_arrays_clear(&list);
}

static void
test_sets_without_samples(void **state)
{
	scratch *s = *state;
	md_arrays list = {0}, batch = {0};
	md_dataset ds = {0};
	md_feed feed;

	push_counting(s, &list, "k", 0, NULL);
	assert_int_equal(md_store(scratch_path(s, "d.npz"), &list, WHY(s)), 0);
	md_arrays_clear(&list);
	assert_int_equal(open_one(&ds, scratch_path(s, "d.npz"), NULL, 0, WHY(s)), 0);
	assert_int_equal(ds.samples, 1); /* only scalars: one run */
	md_dataset_close(&ds);
	push_counting(s, &list, "x", 2, (int64_t[]){0, 3});
	assert_int_equal(md_store(scratch_path(s, "d.npz"), &list, WHY(s)), 0);
	md_arrays_clear(&list);
	assert_int_equal(open_one(&ds, scratch_path(s, "d.npz"), NULL, 0, WHY(s)), 0);
	assert_int_equal(ds.samples, 0);
	feed = md_feed_start(&ds, 1, false, NULL);
	assert_int_equal(md_feed_next(&feed, &batch, WHY(s)), 0);
	md_dataset_close(&ds);
	assert_int_equal(open_one(&ds, "absent.npz", NULL, 0, WHY(s)), -1);
	md_dataset_close(&ds);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		SCRATCH_TEST(test_batches_are_views),
		SCRATCH_TEST(test_trim_copies_what_is_left),
		SCRATCH_TEST(test_trim_of_one_sample_is_a_view),
		SCRATCH_TEST(test_trim_limits),
		SCRATCH_TEST(test_trim_of_higher_rank),
		SCRATCH_TEST(test_feed),
		SCRATCH_TEST(test_sets_that_are_not_stacked),
		SCRATCH_TEST(test_sets_without_samples),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
