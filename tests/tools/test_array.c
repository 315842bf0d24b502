/* test_array.c -- shapes, views, conversions and lists of arrays. */
#include "scratch.h"
#include "tools/data/array.h"
#include <math.h>

static void
test_shape_bytes(void **state)
{
	scratch *s = *state;
	size_t bytes;

	assert_int_equal(md_shape_bytes(MD_F32, 2, (int64_t[]){3, 5}, &bytes, WHY(s)), 0);
	assert_int_equal(bytes, 60);
	assert_int_equal(md_shape_bytes(MD_I64, 0, NULL, &bytes, WHY(s)), 0);
	assert_int_equal(bytes, 8);
	assert_int_equal(md_shape_bytes(MD_U8, 2, (int64_t[]){0, 7}, &bytes, WHY(s)), 0);
	assert_int_equal(bytes, 0);
}

static void
test_shape_refused(void **state)
{
	scratch *s = *state;
	int64_t huge = INT64_C(1) << 40;
	size_t bytes;

	assert_int_equal(md_shape_bytes(MD_U8, 1, (int64_t[]){-1}, &bytes, WHY(s)), -1);
	assert_why(s, "dim 0 is negative: -1");
	assert_int_equal(md_shape_bytes(MD_U8, 2, (int64_t[]){huge, huge}, &bytes, WHY(s)), -1);
	assert_why(s, "the shape exceeds the address space");
	assert_int_equal(md_shape_bytes(MD_U8, 3, (int64_t[]){huge, 0, huge}, &bytes, WHY(s)), -1);
	assert_int_equal(md_shape_bytes(MD_F64, 1, (int64_t[]){INT64_MAX / 8 + 1}, &bytes, WHY(s)),
			 -1);
	assert_int_equal(md_shape_bytes(MD_U8, 33, NULL, &bytes, WHY(s)), -1);
	assert_why(s, "rank 33 is not in 0..32");
}

static void
test_slice_is_a_view(void **state)
{
	scratch *s = *state;
	md_array whole, view;

	assert_int_equal(md_array_init(&whole, "x", MD_I32, 2, (int64_t[]){4, 3}, WHY(s)), 0);
	assert_int_equal(md_array_slice(&view, &whole, 1, 2, WHY(s)), 0);
	assert_ptr_equal(view.data, (int32_t *)whole.data + 3);
	assert_int_equal(view.bytes, 24);
	assert_int_equal(view.dim[0], 2);
	md_array_clear(&view);
	assert_int_equal(md_array_slice(&view, &whole, 4, 0, WHY(s)), 0);
	md_array_clear(&view);
	assert_int_equal(md_array_slice(&view, &whole, 3, 2, WHY(s)), -1);
	assert_why(s, "samples 3+2 lie outside the 4 of 'x'");
	assert_int_equal(md_array_slice(&view, &whole, 2, INT64_MAX, WHY(s)), -1);
	md_array_clear(&whole);
}

static void
test_copy_outlives_a_view(void **state)
{
	scratch *s = *state;
	md_array whole, view, copy;

	assert_int_equal(md_array_init(&whole, "x", MD_U8, 1, (int64_t[]){4}, WHY(s)), 0);
	memcpy(whole.data, "abcd", 4);
	assert_int_equal(md_array_slice(&view, &whole, 1, 2, WHY(s)), 0);
	assert_int_equal(md_array_copy(&copy, &view, WHY(s)), 0);
	md_array_clear(&view);
	md_array_clear(&whole);
	assert_memory_equal(copy.data, "bc", 2);
	md_array_clear(&copy);
}

static double
read_one(md_dtype dtype, const void *bits)
{
	md_array a = {.dtype = dtype, .bytes = md_dtype_size(dtype), .data = (void *)bits};
	double value;

	md_array_read_f64(&a, 0, 1, &value);
	return value;
}

static void
test_conversion_to_f64(void **state)
{
	(void)state;
	assert_true(read_one(MD_F16, &(uint16_t){0x3C00}) == 1);
	assert_true(read_one(MD_F16, &(uint16_t){0xC248}) == -3.140625);
	assert_true(read_one(MD_F16, &(uint16_t){0x7BFF}) == 65504);
	assert_true(read_one(MD_F16, &(uint16_t){0x0001}) == 0x1p-24);
	assert_true(read_one(MD_F16, &(uint16_t){0x03FF}) == 1023 * 0x1p-24);
	assert_true(signbit(read_one(MD_F16, &(uint16_t){0x8000})));
	assert_true(read_one(MD_F16, &(uint16_t){0xFC00}) == -INFINITY);
	assert_true(isnan(read_one(MD_F16, &(uint16_t){0x7E00})));
	assert_true(read_one(MD_BF16, &(uint16_t){0x3FC0}) == 1.5);
	assert_true(read_one(MD_I8, &(int8_t){-7}) == -7);
	assert_true(read_one(MD_U8, &(uint8_t){249}) == 249);
	assert_true(read_one(MD_I16, &(int16_t){-300}) == -300);
	assert_true(read_one(MD_U16, &(uint16_t){65535}) == 65535);
	assert_true(read_one(MD_U32, &(uint32_t){UINT32_MAX}) == 4294967295.0);
	assert_true(read_one(MD_I64, &(int64_t){-5}) == -5);
	assert_true(read_one(MD_U64, &(uint64_t){UINT64_MAX}) == 0x1p64);
	assert_true(read_one(MD_F64, &(double){0.1}) == 0.1);
	assert_true(read_one(MD_BOOL, &(uint8_t){1}) == 1);
}

static void
push_named(scratch *s, md_arrays *list, const char *name)
{
	md_array a;

	assert_int_equal(md_array_init(&a, name, MD_U8, 0, NULL, WHY(s)), 0);
	assert_int_equal(md_arrays_push(list, &a, WHY(s)), 0);
	assert_null(a.name);
}

static void
test_list(void **state)
{
	scratch *s = *state;
	md_arrays list = {0};
	char text[16];
	md_array a;

	for (int i = 0; i < 20; i++) {
		snprintf(text, sizeof text, "n%d", i);
		push_named(s, &list, text);
	}
	assert_ptr_equal(md_arrays_find(&list, "n13"), &list.at[13]);
	assert_null(md_arrays_find(&list, "n20"));
	assert_int_equal(md_array_init(&a, "n7", MD_U8, 0, NULL, WHY(s)), 0);
	assert_int_equal(md_arrays_push(&list, &a, WHY(s)), -1);
	assert_why(s, "two arrays are named 'n7'");
	md_array_clear(&a);
	assert_string_equal(md_arrays_names(&list, text, sizeof text), "n0, n1, n2, ...");
	md_arrays_clear(&list);
}

static void
test_type_text(void **state)
{
	md_array a = {.dtype = MD_BF16, .rank = 2, .dim = {2, 300}};
	char text[32];

	(void)state;
	assert_string_equal(md_array_type(&a, text, sizeof text), "bf16[2,300]");
	assert_string_equal(md_array_type(&a, text, 8), "bf16[2,");
}

static void
test_why(void **state)
{
	char why[24];

	(void)state;
	assert_int_equal(md_fail(why, sizeof why, "no '%s'", "a\x1b[31m\n"), -1);
	assert_string_equal(why, "no 'a?[31m?'");
	assert_int_equal(md_fail_in(why, sizeof why, "f.npz"), -1);
	assert_string_equal(why, "f.npz: no 'a?[31m?'");
	md_fail_in(why, sizeof why, "a longer context");
	assert_string_equal(why, "f.npz: no 'a?[31m?'");
	assert_int_equal(md_fail(NULL, 0, "x"), -1);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		SCRATCH_TEST(test_shape_bytes),
		SCRATCH_TEST(test_shape_refused),
		SCRATCH_TEST(test_slice_is_a_view),
		SCRATCH_TEST(test_copy_outlives_a_view),
		SCRATCH_TEST(test_list),
		cmocka_unit_test(test_conversion_to_f64),
		cmocka_unit_test(test_type_text),
		cmocka_unit_test(test_why),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
