/* test_shipped.c -- the shipped models with bytes flipped or cut off: compiled at -O3 and run, each
 * gives a clear error or a result, and never leaves its buffers. */
#include "harness_shipped.h"
#include "driver/driver.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

enum {
	MOST_INPUT_BYTES = 1 << 22, /* of one input; damaged shapes can ask for anything */
	TAIL = 300,                 /* bytes at the end */
	SMALL = 2,                  /* what free dims are */
};

typedef struct shipped {
	const char *file;
	int rounds;
	size_t nodes; /* bytes, about */
} shipped;

typedef struct tally {
	int refused, failed, ran;
} tally;

static uint64_t
next(uint64_t *seed)
{
	*seed = *seed * 6364136223846793005u + 1442695040888963407u;
	return *seed >> 33;
}

static unsigned char *
read_file(const char *path, size_t *size)
{
	FILE *f = fopen(path, "rb");

	assert_non_null(f);
	fseek(f, 0, SEEK_END);
	*size = (size_t)ftell(f);
	rewind(f);
	unsigned char *bytes = malloc(*size);
	assert_int_equal(fread(bytes, 1, *size, f), *size);
	fclose(f);
	return bytes;
}

/* ---- damage ---- */

/* Mostly in the nodes, which come first, and in the inputs and outputs, which come last. */
static size_t
place(const shipped *model, size_t size, uint64_t *seed)
{
	switch (next(seed) % 8) {
	case 0:
	case 1: return next(seed) % size;
	case 2: return size - 1 - next(seed) % (size < TAIL ? size : TAIL);
	}
	return next(seed) % (size < model->nodes ? size : model->nodes);
}

/* Returns the size that is left. */
static size_t
damage(const shipped *model, unsigned char *bytes, size_t size, uint64_t *seed)
{
	int flips = next(seed) % 4 ? 1 : 3;

	if (next(seed) % 8 == 0)
		return next(seed) % size;
	for (int i = 0; i < flips; i++) {
		size_t at = place(model, size, seed);
		if (next(seed) % 2)
			bytes[at] ^= (unsigned char)(1u << next(seed) % 8);
		else
			bytes[at] = (unsigned char)next(seed);
	}
	return size;
}

/* ---- running ---- */

/* Something of a small shape.  False: too large, or refused. */
static bool
give_input(ml_session *s, const ml_tensor_info *t, int index, unsigned char *room)
{
	int64_t dim[ML_MAX_RANK];
	int64_t count = 1;

	for (int i = 0; i < t->rank; i++) {
		char *end;
		dim[i] = strtoll(t->dim[i], &end, 10);
		dim[i] = *end ? SMALL : dim[i];
		if (dim[i] < 0 || __builtin_mul_overflow(count, dim[i], &count) ||
		    count > MOST_INPUT_BYTES / 8)
			return false;
	}
	memset(room, t->dtype == ML_f32 ? 0x3f : 0, MOST_INPUT_BYTES); /* about 0.75 */
	return ml_session_set_input(s, index, room, dim, t->rank) == ML_OK;
}

static void
run(ml_model *model, unsigned char *room[], tally *t)
{
	const ml_model_info *info = ml_model_describe(model);
	ml_session *s;
	ml_message why = {0};
	bool given = true;

	if (ml_session_new(model, NULL, &s, &why) != ML_OK) {
		assert_true(why.text[0]);
		t->failed++;
		return;
	}
	for (int i = 0; i < info->ninputs; i++)
		given &= i < 4 && give_input(s, &info->input[i], i, room[i]);
	if (!given || ml_session_run(s) != ML_OK) {
		assert_true(!given || ml_session_message(s)[0]);
		t->failed++;
	} else {
		t->ran++;
	}
	ml_session_free(s);
}

static void
try_bytes(const void *bytes, size_t size, bool int8, unsigned char *room[], tally *t)
{
	ml_context *cx;
	ml_model *model = NULL;

	assert_int_equal(ml_context_new(NULL, &cx), ML_OK);
	ml_options *o = fuzz_shipped_options(cx, int8);
	if (ml_compile_memory(cx, bytes, size, o, &model) != ML_OK) {
		assert_null(model);
		assert_true(cx->errors > 0); /* in words */
		t->refused++;
	} else {
		run(model, room, t);
		ml_model_free(model);
	}
	ml_options_free(o);
	ml_context_free(cx);
}

static void
test_damaged(void **state)
{
	const shipped models[] = {
		{ML_SOURCE_DIR "/examples/custom_op/model.onnx", 150, 120},
		{ML_SOURCE_DIR "/examples/digits/model.onnx", 80, 1000},
		{ML_SOURCE_DIR "/examples/intents/model.onnx", 24, 20000},
	};
	unsigned char *room[4];

	(void)state;
	for (int i = 0; i < 4; i++)
		room[i] = malloc(MOST_INPUT_BYTES);
	for (size_t k = 0; k < sizeof models / sizeof *models; k++) {
		tally t = {0}, whole = {0};
		size_t size;
		unsigned char *bytes = read_file(models[k].file, &size), *copy = malloc(size);
		try_bytes(bytes, size, false, room, &whole);
		assert_int_equal(whole.ran, 1);
		for (int i = 0; i < models[k].rounds; i++) {
			uint64_t seed = 1000 * k + (uint64_t)i;
			next(&seed);
			memcpy(copy, bytes, size);
			size_t left = damage(&models[k], copy, size, &seed);
			try_bytes(copy, left, i % 4 == 3, room, &t);
		}
		print_message("%s: %d refused, %d failed at run time, %d ran\n",
			      models[k].file + sizeof ML_SOURCE_DIR, t.refused, t.failed, t.ran);
		assert_true(t.refused > 0 && t.ran > 0); /* it is damage, and not all of it fatal */
		free(copy);
		free(bytes);
	}
	for (int i = 0; i < 4; i++)
		free(room[i]);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {cmocka_unit_test(test_damaged)};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
