/* test_entry_name.c -- array names as archive entries. */
#include "scratch.h"
#include "tools/data/entry_name.h"

static const struct {
	const char *name, *entry;
} row[] = {
	{"input_ids", "input_ids.npy"},
	{"", ".npy"},
	{"/encoder/0/MatMul_1:0", "/encoder/0/MatMul_1:0.npy"},
	{"past_key_values.0.key", "past_key_values.0.key.npy"},
	{"\xc3\xa4\xe2\x82\xac\xf0\x9f\x98\x80", "\xc3\xa4\xe2\x82\xac\xf0\x9f\x98\x80.npy"},
	{"../x", "%2E./x.npy"},
	{"a/../../x", "a/%2E./%2E./x.npy"},
	{"a\\..", "a\\%2E..npy"},
	{"./x", "%2E/x.npy"},
	{".x/..y/x.", ".x/..y/x..npy"},
	{"a\nb\x7f\x1b", "a%0Ab%7F%1B.npy"},
	{"100%", "100%.npy"},
	{"%41", "%2541.npy"},
	{"\xff", "%FF.npy"},
	{"\xc0\xaf", "%C0%AF.npy"},               /* overlong '/' */
	{"\xed\xa0\x80", "%ED%A0%80.npy"},        /* surrogate */
	{"\xe2\x82", "%E2%82.npy"},               /* cut short */
	{"\xf4\x90\x80\x80", "%F4%90%80%80.npy"}, /* above U+10FFFF */
};

static void
test_both_ways(void **state)
{
	(void)state;
	for (size_t i = 0; i < sizeof row / sizeof *row; i++) {
		char *entry = md_entry_from_name(row[i].name, ".npy");
		char *name = md_name_from_entry(entry, strlen(entry) - 4);

		assert_string_equal(entry, row[i].entry);
		assert_string_equal(name, row[i].name);
		free(entry);
		free(name);
	}
}

/* Others do not escape: a name that we would not have written so is taken as it is. */
static void
test_foreign_entries_stay(void **state)
{
	static const char *const foreign[] = {"a%41", "%2f", "a%2E", "%00", "../x", "5%"};

	(void)state;
	for (size_t i = 0; i < sizeof foreign / sizeof *foreign; i++) {
		char *name = md_name_from_entry(foreign[i], strlen(foreign[i]));

		assert_string_equal(name, foreign[i]);
		free(name);
	}
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_both_ways),
		cmocka_unit_test(test_foreign_entries_stay),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
