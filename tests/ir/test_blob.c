/* test_blob.c -- reference counts, and a hash that is the same on every host. */
#include "ir/blob.h"
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <cmocka.h>
#include <string.h>

static void
count(void *owner)
{
	++*(int *)owner;
}

static void
test_owned(void **state)
{
	ml_memory memory = ml_memory_libc();
	void *bytes;
	ml_blob *b = ml_blob_new(&memory, 3, &bytes);

	(void)state;
	memcpy(bytes, "abc", 3);
	assert_int_equal(b->size, 3);
	assert_memory_equal(b->bytes, "abc", 3);
	assert_int_equal((uintptr_t)b->bytes % 16, 0);
	assert_ptr_equal(ml_blob_share(b), b);
	ml_blob_drop(b);
	assert_memory_equal(b->bytes, "abc", 3);
	ml_blob_drop(b);
	ml_blob_drop(NULL);
}

static void
test_borrowed(void **state)
{
	ml_memory memory = ml_memory_libc();
	int released = 0;
	ml_blob *b = ml_blob_wrap(&memory, "xyz", 3, &released, count);

	(void)state;
	ml_blob_share(b);
	ml_blob_drop(b);
	assert_int_equal(released, 0);
	ml_blob_drop(b);
	assert_int_equal(released, 1);
}

/* Like malloc, but AddressSanitizer's would stop the test. */
static void *
refuse_huge(void *user, void *p, size_t old_size, size_t new_size)
{
	ml_memory *libc = user;

	return new_size > SIZE_MAX / 4 ? NULL : libc->resize(libc->user, p, old_size, new_size);
}

static void
test_size_no_allocator_gives(void **state)
{
	ml_memory libc = ml_memory_libc(), memory = {.resize = refuse_huge, .user = &libc};
	jmp_buf fail;
	void *bytes;

	(void)state;
	memory.on_fail = &fail;
	if (!setjmp(fail)) {
		ml_blob_new(&memory, UINT64_MAX - 7, &bytes);
		fail_msg("an impossible size was allocated");
	}
}

static void
test_hash(void **state)
{
	unsigned char bytes[100] = {0};
	ml_memory memory = ml_memory_libc();

	(void)state;
	/* Fixed values: caches on disk and other hosts see the same ones. */
	assert_int_equal(ml_hash_bytes("", 0, 0), 0x39d06eb26d6a5b5e);
	assert_int_equal(ml_hash_bytes("mlopt", 5, 0), 0x97a8f872f1a8cd75);
	for (size_t n = 0; n < sizeof bytes; n++) {
		uint64_t h = ml_hash_bytes(bytes, n, 0);
		assert_true(h != ml_hash_bytes(bytes, n + 1, 0)); /* trailing zeros count */
		assert_true(h != ml_hash_bytes(bytes, n, 1));
		for (size_t i = 0; i < n; i++) {
			bytes[i] ^= 0x10;
			assert_true(h != ml_hash_bytes(bytes, n, 0));
			bytes[i] ^= 0x10;
		}
	}
	ml_blob *b = ml_blob_wrap(&memory, bytes, sizeof bytes, NULL, NULL);
	assert_int_equal(b->hash, 0);
	assert_int_equal(ml_blob_hash(b), ml_hash_bytes(bytes, sizeof bytes, 0));
	assert_int_equal(b->hash, ml_blob_hash(b));
	ml_blob_drop(b);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_owned),
		cmocka_unit_test(test_borrowed),
		cmocka_unit_test(test_size_no_allocator_gives),
		cmocka_unit_test(test_hash),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
