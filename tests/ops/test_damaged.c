/* test_damaged.c -- modules of the .mlt files with numbers, names and operators changed at random:
 * what still parses must verify, and run or fail with a message, within its limits. */
#include "harness_mlt.h"
#include <stdarg.h>
#include <setjmp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

enum { MAX_INPUTS = 8, MAX_TEXT = 1 << 16, ROUNDS = 40 };

static uint64_t seed = 88172645463325252;

static uint64_t
random_below(uint64_t n)
{
	seed ^= seed << 13, seed ^= seed >> 7, seed ^= seed << 17;
	return (seed >> 11) % n;
}

static bool
in_word(char c)
{
	return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || c == '_';
}

/* What may stand for a word: a number for a number, an operator for a name. */
static const char *
another_word(const char *word)
{
	static const char *const numbers[] = {"0",
					      "1",
					      "2",
					      "3",
					      "4",
					      "5",
					      "7",
					      "8",
					      "12",
					      "13",
					      "1000",
					      "s",
					      "n*2",
					      "4294967297",
					      "s mod 3",
					      "-1",
					      "6",
					      "-100",
					      "9223372036854775807",
					      "?0"};
	static const char *const types[] = {"f32", "f64", "s64", "s32", "u8", "bool", "f16"};

	if (*word >= '0' && *word <= '9')
		return numbers[random_below(sizeof numbers / sizeof *numbers)];
	for (size_t i = 0; i < sizeof types / sizeof *types; i++)
		if (!strncmp(word, types[i], strlen(types[i])))
			return types[random_below(sizeof types / sizeof *types)];
	for (;;) {
		const ml_op_info *info = ml_op_get((ml_op)random_below(ML_OP_LIMIT));
		if (info->name)
			return info->name;
	}
}

/* Copies the module without its comments, one word of it replaced. */
static size_t
damage(const mlt_case *c, char *text)
{
	const char *end = strstr(c->text, "\n# ");
	size_t length = end ? (size_t)(end - c->text) : c->length, n = 0;
	size_t at = random_below(length);

	while (at > 0 && !in_word(c->text[at]))
		at--;
	while (at > 0 && in_word(c->text[at - 1]))
		at--;
	memcpy(text, c->text, at);
	n = at + (size_t)sprintf(text + at, "%s", another_word(c->text + at));
	while (at < length && in_word(c->text[at]))
		at++;
	memcpy(text + n, c->text + at, length - at);
	return n + length - at;
}

/* Inputs of ones; unknown sizes are 2. */
static bool
make_inputs(ml_context *cx, const ml_module *m, ml_tensor *in)
{
	if (m->main->nargs > MAX_INPUTS || m->output_names.count > MAX_INPUTS)
		return false;
	for (int i = 0; i < m->main->nargs; i++) {
		const ml_type *type = &m->main->arg[i]->type;
		int64_t count = 1;
		in[i] = (ml_tensor){.dtype = type->dtype, .rank = type->rank};
		for (int d = 0; d < type->rank; d++) {
			if (!ml_dim_is_int(type->dim[d], &in[i].dim[d]))
				in[i].dim[d] = 2;
			if (in[i].dim[d] > 1000 || (count *= in[i].dim[d]) > 100000)
				return false;
		}
		in[i].bytes = (size_t)(count * ml_dtype_bytes(type->dtype));
		in[i].data = ml_alloc(&cx->arena, in[i].bytes);
		for (int64_t k = 0; k < count; k++)
			ml_write_s64(type->dtype, in[i].data, k, 1);
	}
	return true;
}

/* Returns whether it ran. */
static bool
try_text(const char *text, size_t length, bool *parsed)
{
	ml_context *cx = mlt_context();
	ml_tensor in[MAX_INPUTS], out[MAX_INPUTS];
	ml_eval_options options = {.max_bytes = 64 << 20, .max_steps = 1000000};
	ml_status status = ML_ERR_FORMAT;
	ml_module *m;

	*parsed = ml_parse(cx, text, length, NULL, NULL, &m) == ML_OK;
	if (*parsed && ml_verify(m))
		fail_msg("%s\nof\n%.*s", mlt_diags(cx), (int)length, text);
	if (*parsed && make_inputs(cx, m, in))
		status = ml_evaluate(m, in, out, &cx->arena, &options);
	if (*parsed && status && !cx->diags.count && m->main->nargs <= MAX_INPUTS)
		assert_int_equal(status, ML_ERR_FORMAT); /* not run for its sizes */
	else if (status)
		assert_true(cx->diags.count > 0);
	ml_module_free(m);
	mlt_context_free(cx);
	return status == ML_OK;
}

static void
test_damaged(void **state)
{
	static const char *const names[] = {
		"reduce",    "move",      "index",   "contract",
		"irregular", "composite", "control", "elementwise_binary"};
	ml_context *cx = mlt_context();
	char *text = malloc(MAX_TEXT);
	int total = 0, parsed = 0, ran = 0;
	const char *rounds = getenv("MLOPT_FUZZ_ROUNDS");
	int n = rounds ? atoi(rounds) : ROUNDS;

	(void)state;
	for (size_t f = 0; f < sizeof names / sizeof *names; f++) {
		const char *path =
			ml_format(&cx->arena, "%s/tests/ops/%s.mlt", ML_SOURCE_DIR, names[f]);
		mlt_file file = mlt_read(&cx->arena, path);
		for (int i = 0; i < file.count * n; i++) {
			bool good;
			size_t length = damage(&file.at[i % file.count], text);
			ran += try_text(text, length, &good);
			parsed += good;
			total++;
		}
	}
	/* Enough of them are still modules for the test to mean something. */
	assert_true(parsed > total / 20);
	assert_true(ran > total / 50);
	free(text);
	mlt_context_free(cx);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {cmocka_unit_test(test_damaged)};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
