/* test_compile.c -- compilations through the API: from files and memory, with hooks, on failing
 * allocators. */
#include "driver/driver.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <cmocka.h>

#define DIGITS ML_SOURCE_DIR "/examples/digits/model.onnx"

/* ---- an allocator that counts, and fails when told to ---- */

typedef struct counter {
	long live, calls, fail_at; /* fail_at < 0: never */
} counter;

static void *
counted_resize(void *user, void *p, size_t old_size, size_t new_size)
{
	counter *c = user;

	if (new_size && __atomic_fetch_add(&c->calls, 1, __ATOMIC_RELAXED) == c->fail_at)
		return NULL;
	void *q = NULL;
	if (new_size && !(q = realloc(p, new_size)))
		return NULL;
	if (!new_size)
		free(p);
	__atomic_fetch_add(&c->live, (long)new_size - (long)old_size, __ATOMIC_RELAXED);
	return q;
}

static const char text[] = "module \"m\" {\n"
			   "  sym n\n"
			   "  in %0 \"x\" : f32[n, 4]\n"
			   "  %1 = softmax %0 {axis = 1} : f32[n, 4]\n"
			   "  out \"y\" = %1\n"
			   "}\n";

static void
write_text(char *path)
{
	int fd = mkstemps(path, 4);

	assert_true(fd >= 0);
	assert_int_equal(write(fd, text, sizeof text - 1), sizeof text - 1);
	close(fd);
}

/* Graph to plan, without LLVM, whose memory is its own. */
static ml_status
check_once(const char *path, counter *c)
{
	ml_allocator allocator = {counted_resize, c};
	ml_context *cx;
	ml_status status = ml_context_new(&allocator, &cx);

	if (status != ML_OK)
		return status;
	status = ml_check(cx, path, NULL);
	ml_context_free(cx);
	return status;
}

static void
test_every_allocation_may_fail(void **state)
{
	char path[] = "/tmp/mlopt-compile.XXXXXX.mlt";
	counter all = {.fail_at = -1};

	(void)state;
	write_text(path);
	assert_int_equal(check_once(path, &all), ML_OK);
	assert_int_equal(all.live, 0);
	assert_true(all.calls > 10);
	for (long at = 0; at < all.calls; at++) {
		counter c = {.fail_at = at};
		assert_int_equal(check_once(path, &c), ML_ERR_NOMEM);
		assert_int_equal(c.live, 0);
	}
	unlink(path);
}

/* ---- models in memory ---- */

static void *
read_file(const char *path, size_t *size)
{
	FILE *f = fopen(path, "rb");

	assert_non_null(f);
	fseek(f, 0, SEEK_END);
	*size = (size_t)ftell(f);
	rewind(f);
	void *bytes = malloc(*size);
	assert_int_equal(fread(bytes, 1, *size, f), *size);
	fclose(f);
	return bytes;
}

static void
run(ml_model *model, float logits[10])
{
	float image[64];
	ml_session *s;
	ml_view v;

	for (int i = 0; i < 64; i++)
		image[i] = (float)(i % 7) / 7;
	assert_int_equal(ml_session_new(model, NULL, &s, NULL), ML_OK);
	assert_int_equal(ml_session_set_input(s, 0, image, (int64_t[]){1, 1, 8, 8}, 4), ML_OK);
	assert_int_equal(ml_session_run(s), ML_OK);
	assert_int_equal(ml_session_output(s, 0, &v), ML_OK);
	assert_int_equal(v.bytes, 10 * sizeof *logits);
	memcpy(logits, v.data, v.bytes);
	ml_session_free(s);
}

/* The model outlives context and bytes. */
static void
test_memory_is_file(void **state)
{
	float from_file[10], from_memory[10];
	ml_model *model;
	ml_context *cx;
	size_t size;

	(void)state;
	assert_int_equal(ml_context_new(NULL, &cx), ML_OK);
	assert_int_equal(ml_compile_file(cx, DIGITS, NULL, &model), ML_OK);
	run(model, from_file);
	ml_model_free(model);
	void *bytes = read_file(DIGITS, &size);
	assert_int_equal(ml_compile_memory(cx, bytes, size, NULL, &model), ML_OK);
	free(bytes);
	ml_context_free(cx);
	run(model, from_memory);
	ml_model_free(model);
	assert_memory_equal(from_file, from_memory, sizeof from_file);
}

/* ---- hooks ---- */

typedef struct heard {
	int stages, errors;
	char line[1000];
} heard;

static void
on_progress(void *user, int stage, int stages, const char *what)
{
	heard *h = user;

	assert_int_equal(stage, h->stages + 1);
	assert_true(stage <= stages);
	assert_true(*what);
	h->stages = stage;
}

static void
on_log(void *user, ml_severity severity, const char *line)
{
	heard *h = user;

	h->errors += severity == ML_ERROR;
	snprintf(h->line, sizeof h->line, "%s", line);
}

static void
test_hooks(void **state)
{
	heard h = {0};
	ml_context *cx;
	ml_options *o;
	ml_model *model;

	(void)state;
	assert_int_equal(ml_context_new(NULL, &cx), ML_OK);
	ml_context_log(cx, on_log, &h);
	assert_int_equal(ml_options_new(cx, &o), ML_OK);
	ml_options_progress(o, on_progress, &h);
	assert_int_equal(ml_compile_file(cx, DIGITS, o, &model), ML_OK);
	ml_model_free(model);
	assert_int_equal(h.stages, 4);
	assert_int_equal(h.errors, 0);
	assert_int_equal(ml_compile_file(cx, "no/such.onnx", NULL, &model), ML_ERR_IO);
	assert_null(model);
	assert_int_equal(h.errors, 1);
	assert_non_null(strstr(h.line, "no/such.onnx"));
	assert_non_null(strstr(h.line, "[io"));
	assert_string_equal(ml_context_message(cx, 0), h.line);
	assert_null(ml_context_message(cx, 1));
	ml_options_free(o);
	ml_context_free(cx);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_every_allocation_may_fail),
		cmocka_unit_test(test_memory_is_file),
		cmocka_unit_test(test_hooks),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
