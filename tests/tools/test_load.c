/* test_load.c -- data files by their names, wanted arrays, ONNX test data folders. */
#include "scratch.h"
#include "tools/data/load.h"

static void
push_value(scratch *s, md_arrays *list, const char *name, int32_t value)
{
	md_array a;

	assert_int_equal(md_array_init(&a, name, MD_I32, 0, NULL, WHY(s)), 0);
	*(int32_t *)a.data = value;
	assert_int_equal(md_arrays_push(list, &a, WHY(s)), 0);
}

static void
store_one(scratch *s, const char *file, const char *name, int32_t value)
{
	md_arrays list = {0};

	push_value(s, &list, name, value);
	assert_int_equal(md_store(scratch_path(s, file), &list, WHY(s)), 0);
	md_arrays_clear(&list);
}

static int32_t
value_of(const md_arrays *list, const char *name)
{
	const md_array *a = md_arrays_find(list, name);

	assert_non_null(a);
	return *(int32_t *)a->data;
}

static void
test_npz_wanted(void **state)
{
	static const md_want want[] = {{"b", false}, {"absent", true}, {"a", true}};
	static const md_want missing[] = {{"a", false}, {"d", false}};
	scratch *s = *state;
	const char *path = scratch_path(s, "x.npz");
	md_arrays list = {0}, in = {0};

	push_value(s, &list, "a", 1);
	push_value(s, &list, "b", 2);
	push_value(s, &list, "c", 3);
	assert_int_equal(md_store(path, &list, WHY(s)), 0);
	assert_int_equal(md_load(path, want, 3, &in, WHY(s)), 0);
	assert_int_equal(in.count, 2);
	assert_int_equal(value_of(&in, "a"), 1);
	assert_int_equal(value_of(&in, "b"), 2);
	md_arrays_clear(&in);
	assert_int_equal(md_load(path, NULL, 0, &in, WHY(s)), 0);
	assert_int_equal(in.count, 3);
	md_arrays_clear(&in);
	assert_int_equal(md_load(path, missing, 2, &in, WHY(s)), -1);
	assert_why_has(s, "x.npz: no array named 'd' (it has: a, b, c)");
	assert_int_equal(in.count, 0);
	md_arrays_clear(&list);
}

static void
test_single_files(void **state)
{
	static const char *const file[] = {"labels.npy", "labels.pb"};
	static const md_want one[] = {{"only", false}};
	static const md_want one_needed[] = {{"spare", true}, {"needed", false}};
	static const md_want two[] = {{"x", false}, {"y", false}};
	scratch *s = *state;

	for (int i = 0; i < 2; i++) {
		const char *path = scratch_path(s, file[i]);
		md_arrays in = {0};

		store_one(s, file[i], "", 7);
		assert_int_equal(md_load(path, one, 1, &in, WHY(s)), 0);
		assert_int_equal(value_of(&in, "only"), 7);
		md_arrays_clear(&in);
		assert_int_equal(md_load(path, one_needed, 2, &in, WHY(s)), 0);
		assert_int_equal(value_of(&in, "needed"), 7);
		md_arrays_clear(&in);
		assert_int_equal(md_load(path, NULL, 0, &in, WHY(s)), 0);
		assert_int_equal(value_of(&in, "labels"), 7);
		md_arrays_clear(&in);
		assert_int_equal(md_load(path, two, 2, &in, WHY(s)), -1);
		assert_why_has(s, "holds one array, 2 are needed: give a .npz");
	}
}

static void
test_folder(void **state)
{
	static const md_want by_position[] = {{"p", false}, {"q", false}, {"r", true}};
	static const md_want by_name[] = {{"two", false}, {"one", false}};
	static const md_want more[] = {{"one", false}, {"two", false}, {"three", false}};
	static const md_want fewer[] = {{"one", false}};
	scratch *s = *state;
	md_arrays in = {0};

	store_one(s, "input_0.pb", "one", 1);
	store_one(s, "input_1.pb", "two", 2);
	store_one(s, "input_3.pb", "beyond the gap", 4);
	assert_true(md_is_folder(s->folder));
	assert_int_equal(md_load(s->folder, by_position, 3, &in, WHY(s)), 0);
	assert_int_equal(in.count, 2);
	assert_int_equal(value_of(&in, "p"), 1);
	assert_int_equal(value_of(&in, "q"), 2);
	md_arrays_clear(&in);
	assert_int_equal(md_load(s->folder, by_name, 2, &in, WHY(s)), 0);
	assert_int_equal(value_of(&in, "two"), 2);
	md_arrays_clear(&in);
	assert_int_equal(md_load(s->folder, NULL, 0, &in, WHY(s)), 0);
	assert_int_equal(value_of(&in, "one"), 1);
	md_arrays_clear(&in);
	assert_int_equal(md_load(s->folder, more, 3, &in, WHY(s)), -1);
	assert_why_has(s, "no array named 'three' (it has: one, two)");
	assert_int_equal(md_load(s->folder, fewer, 1, &in, WHY(s)), -1);
	assert_why_has(s, "input_1.pb: the model has only 1 inputs");
	assert_int_equal(in.count, 0);
}

/* Names decide, where they are none the order of the files. */
static void
test_several_files(void **state)
{
	static const md_want by_position[] = {{"p", false}, {"q", false}};
	static const md_want by_name[] = {{"two", false}, {"one", false}};
	static const md_want more[] = {{"one", false}, {"two", false}, {"three", false}};
	static const md_want fewer[] = {{"one", false}};
	scratch *s = *state;
	const char *path[] = {scratch_path(s, "a.pb"), scratch_path(s, "b.npy")};
	md_arrays in = {0};

	store_one(s, "a.pb", "one", 1);
	store_one(s, "b.npy", "two", 2);
	assert_int_equal(md_load_all(path, 2, by_position, 2, &in, WHY(s)), 0);
	assert_int_equal(value_of(&in, "p"), 1);
	assert_int_equal(value_of(&in, "q"), 2);
	md_arrays_clear(&in);
	assert_int_equal(md_load_all(path, 1, fewer, 1, &in, WHY(s)), 0);
	assert_int_equal(value_of(&in, "one"), 1);
	md_arrays_clear(&in);
	path[1] = scratch_path(s, "two.npy");
	store_one(s, "two.npy", "", 2);
	assert_int_equal(md_load_all(path, 2, by_name, 2, &in, WHY(s)), 0);
	assert_int_equal(value_of(&in, "two"), 2);
	md_arrays_clear(&in);
	assert_int_equal(md_load_all(path, 2, more, 3, &in, WHY(s)), -1);
	assert_why_has(s, "no array named 'three' (it has: one, two)");
	md_arrays_clear(&in);
	path[1] = scratch_path(s, "c.pb");
	store_one(s, "c.pb", "two", 3);
	assert_int_equal(md_load_all(path, 2, fewer, 1, &in, WHY(s)), -1);
	assert_why_has(s, "c.pb: no input is named 'two'");
	md_arrays_clear(&in);
	path[0] = path[1];
	assert_int_equal(md_load_all(path, 2, by_name, 2, &in, WHY(s)), -1);
	assert_why_has(s, "two arrays are named 'two'");
	md_arrays_clear(&in);
	assert_true(md_is_one_set(path, 2));
	assert_false(md_is_one_set(path, 1));
}

static void
test_refused(void **state)
{
	scratch *s = *state;
	md_arrays in = {0}, two = {0};

	assert_int_equal(md_load(s->folder, NULL, 0, &in, WHY(s)), -1);
	assert_why_has(s, "no input_0.pb in this folder");
	assert_int_equal(md_load("x.csv", NULL, 0, &in, WHY(s)), -1);
	assert_why(s, "x.csv: data must be .npz, .npy, .pb or a folder with input_0.pb");
	push_value(s, &two, "a", 1);
	push_value(s, &two, "b", 1);
	assert_int_equal(md_store(scratch_path(s, "x.npy"), &two, WHY(s)), -1);
	assert_why_has(s, "x.npy holds one array, there are 2: use a .npz");
	assert_int_equal(md_store(scratch_path(s, "x.txt"), &two, WHY(s)), -1);
	assert_why_has(s, "x.txt: data must be .npz, .npy or .pb");
	assert_int_equal(scratch_files(s), 0);
	md_arrays_clear(&two);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		SCRATCH_TEST(test_npz_wanted), SCRATCH_TEST(test_single_files),
		SCRATCH_TEST(test_folder),     SCRATCH_TEST(test_several_files),
		SCRATCH_TEST(test_refused),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
