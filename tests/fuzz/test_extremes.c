/* test_extremes.c -- the shipped models, compiled in memory and as artefacts, fed with the largest,
 * smallest and least numeric inputs there are: each run gives a result or an error that names a
 * node, and touches nothing beside the tensors, which lie at odd addresses between guards. */
#include "harness_shipped.h"
#include "codegen/target.h"
#include "driver/driver.h"
#include <float.h>
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <cmocka.h>

enum { GUARD = 128, MOST_BYTES = 1 << 16, MOST_TENSORS = 2, PATTERNS = 12, WORDS = 1200 };

/* A tensor between guards, aligned to nothing but its elements. */
typedef struct room {
	unsigned char *all, *at;
	size_t bytes, element;
} room;

static room
make_room(size_t bytes, size_t element)
{
	room r = {.all = malloc(bytes + 2 * GUARD + element), .bytes = bytes, .element = element};

	assert_non_null(r.all);
	memset(r.all, 0x5a, bytes + 2 * GUARD + element);
	r.at = r.all + GUARD + element;
	return r;
}

static void
check_room(room *r)
{
	for (int i = 0; i < GUARD; i++) {
		assert_int_equal(r->all[i], 0x5a);
		assert_int_equal(r->at[r->bytes + (size_t)i], 0x5a);
	}
	free(r->all);
}

/* ---- inputs ---- */

static float
extreme_float(int pattern, size_t i)
{
	const float values[] = {NAN,     INFINITY, -INFINITY, FLT_MAX, -FLT_MAX, FLT_MIN / 4,
				-1e-45f, -0.0f,    0.0f,      1e30f,   -1e-30f,  1};

	return pattern < PATTERNS - 1 ? values[pattern] : values[(i * 7 + i / 5) % PATTERNS];
}

static int64_t
extreme_integer(int pattern, size_t i)
{
	const int64_t values[] = {0,          1,  INT64_MIN, INT64_MAX, -1,      -2,
				  1000000000, 38, INT32_MAX, INT32_MIN, 1 << 20, 7};

	return pattern < PATTERNS - 1 ? values[pattern] : values[(i * 5 + i / 3) % PATTERNS];
}

/* Patterns from PATTERNS on have words that exist, so that the masks' extremes are computed with.
 */
static void
fill(room *r, ml_dtype dtype, bool words, int pattern)
{
	for (size_t i = 0; i < r->bytes / r->element; i++) {
		float f = extreme_float(pattern % PATTERNS, i);
		int64_t n = extreme_integer(pattern % PATTERNS, i);
		if (words && pattern >= PATTERNS)
			n = (int64_t)(i * 37 % WORDS);
		if (dtype == ML_f32)
			memcpy(r->at + 4 * i, &f, 4);
		else
			memcpy(r->at + 8 * i, &n, 8);
	}
}

/* ---- runs ---- */

typedef struct result {
	ml_status status;
	unsigned char bytes[MOST_BYTES];
	size_t size;
} result;

/* The sizes of a tensor whose free dims are `first` and then `other`. */
static size_t
sizes_of(const ml_tensor_info *t, int64_t first, int64_t other, int64_t *dim)
{
	size_t count = 1;

	for (int i = 0; i < t->rank; i++) {
		char *end;
		dim[i] = strtoll(t->dim[i], &end, 10);
		if (*end)
			dim[i] = i ? other : first;
		count *= (size_t)dim[i];
	}
	return count * (t->dtype == ML_f32 ? 4 : 8);
}

static void
run_once(ml_session *s, const ml_model_info *info, int pattern, int64_t batch, result *out)
{
	room in[MOST_TENSORS], to;
	unsigned char before[MOST_TENSORS][MOST_BYTES];
	int64_t dim[ML_MAX_RANK];

	assert_true(info->ninputs <= MOST_TENSORS && info->noutputs == 1);
	for (int i = 0; i < info->ninputs; i++) {
		const ml_tensor_info *t = &info->input[i];
		in[i] = make_room(sizes_of(t, batch, 5, dim), t->dtype == ML_f32 ? 4 : 8);
		assert_true(in[i].bytes <= MOST_BYTES);
		fill(&in[i], t->dtype, i == 0, pattern);
		memcpy(before[i], in[i].at, in[i].bytes);
		assert_int_equal(ml_session_set_input(s, i, in[i].at, dim, t->rank), ML_OK);
	}
	to = make_room(sizes_of(&info->output[0], batch, 5, dim), 4);
	assert_int_equal(ml_session_set_output(s, 0, to.at, to.bytes), ML_OK);
	out->status = ml_session_run(s);
	out->size = to.bytes;
	memcpy(out->bytes, to.at, to.bytes);
	if (out->status)
		assert_non_null(strstr(ml_session_message(s), "/words/Gather"));
	for (int i = 0; i < info->ninputs; i++) {
		assert_memory_equal(in[i].at, before[i], in[i].bytes);
		check_room(&in[i]);
	}
	check_room(&to);
}

/* Words that the table lacks are refused, be it one among many; everything else gives a result. */
static bool
must_fail(const ml_model_info *info, int pattern, int64_t batch)
{
	int64_t dim[ML_MAX_RANK];
	size_t count = sizes_of(&info->input[0], batch, 5, dim) / 8;

	if (info->input[0].dtype != ML_s64 || pattern >= PATTERNS)
		return false;
	for (size_t i = 0; i < count; i++) {
		int64_t id = extreme_integer(pattern, i);
		if (id < -WORDS || id >= WORDS)
			return true;
	}
	return false;
}

static void
check_model(ml_model *a, ml_model *b, const char *level)
{
	const ml_model_info *info = ml_model_describe(a);
	static const int64_t batches[] = {0, 1, 3};
	ml_session *s[2];
	static result r[2];

	assert_int_equal(ml_session_new(a, NULL, &s[0], NULL), ML_OK);
	setenv("MLOPT_ISA", level, 1);
	assert_int_equal(ml_session_new(b, NULL, &s[1], NULL), ML_OK);
	unsetenv("MLOPT_ISA");
	for (int pattern = 0; pattern < 2 * PATTERNS; pattern++)
		for (int k = 0; k < 3; k++) {
			for (int i = 0; i < 2; i++)
				run_once(s[i], info, pattern, batches[k], &r[i]);
			assert_int_equal(r[0].status, r[1].status);
			assert_int_equal(r[0].status, must_fail(info, pattern, batches[k])
							      ? ML_ERR_INDEX
							      : ML_OK);
			if (r[0].status == ML_OK)
				assert_memory_equal(r[0].bytes, r[1].bytes, r[0].size);
		}
	ml_session_free(s[0]);
	ml_session_free(s[1]);
}

static void
check_compiled(const char *file, bool int8)
{
	char so[] = "/tmp/mlopt-extremes-XXXXXX.so", header[sizeof so];
	ml_context *cx;
	ml_model *jit = NULL, *aot = NULL;

	close(mkstemps(so, 3));
	assert_int_equal(ml_context_new(NULL, &cx), ML_OK);
	ml_options *o = fuzz_shipped_options(cx, int8);
	assert_int_equal(ml_compile_file(cx, file, o, &jit), ML_OK);
	assert_int_equal(ml_compile_to(cx, file, o, so), ML_OK);
	assert_int_equal(ml_model_load(so, NULL, &aot, NULL), ML_OK);
	const ml_model_info *info = ml_model_describe(aot);
	assert_true(info->nlevels > 0);
	for (int i = 0; i < info->nlevels; i++)
		if (ml_target_runs_here(ml_target_named(info->level[i])))
			check_model(jit, aot, info->level[i]);
	ml_model_free(jit);
	ml_model_free(aot);
	ml_options_free(o);
	ml_context_free(cx);
	memcpy(header, so, sizeof so);
	memcpy(strrchr(header, '.'), ".h", 3);
	unlink(so);
	unlink(header);
}

static void
test_extremes(void **state)
{
	(void)state;
	for (int int8 = 0; int8 < 2; int8++) {
		check_compiled(ML_SOURCE_DIR "/examples/custom_op/model.onnx", int8);
		check_compiled(ML_SOURCE_DIR "/examples/digits/model.onnx", int8);
		check_compiled(ML_SOURCE_DIR "/examples/intents/model.onnx", int8);
	}
}

int
main(void)
{
	const struct CMUnitTest tests[] = {cmocka_unit_test(test_extremes)};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
