/* test_invent.c -- samples made up for want of calibration data: what they hold, for which models,
 * that
 * layers lose less by them, and that what was found by them is kept. */
#include "driver/driver.h"
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <string.h>
#include <cmocka.h>

enum { ROWS = 7, BATCH = 2, WIDTH = 32, COLUMNS = 48, TOKENS = 40 };

typedef struct setup {
	ml_context *cx;
	ml_options *o;
	jmp_buf nomem;
} setup;

static void
begin(setup *s)
{
	assert_int_equal(ml_context_new(NULL, &s->cx), ML_OK);
	assert_int_equal(ml_options_new(s->cx, &s->o), ML_OK);
	s->cx->memory.on_fail = &s->nomem;
}

static void
end(setup *s)
{
	ml_options_free(s->o);
	ml_context_free(s->cx);
}

static ml_module *
parse(setup *s, const char *text)
{
	ml_module *m;

	assert_int_equal(ml_parse(s->cx, text, strlen(text), NULL, NULL, &m), ML_OK);
	return m;
}

/* ---- what they hold ---- */

#define MODEL(size, more)                                                                          \
	"module \"m\" {\n  sym n\n  sym s\n"                                                       \
	"  in %i \"ids\" : s64[" size ", s]\n"                                                     \
	"  in %m \"attention_mask\" : s64[" size ", s]\n" more                                     \
	"  %t = const splat 0.5 : f32[7, 3]\n"                                                     \
	"  %c = cast %i {dtype = s32} : s32[" size ", s]\n"                                        \
	"  %g = gather %t, %c {axis = 0} : f32[" size ", s, 3]\n"                                  \
	"  out \"g\" = %g\n  out \"m\" = %m\n}\n"

/* How many samples there are; each is of `batch` rows of ids that the table has, under a mask of
 * ones. */
static int
count_samples(setup *s, ml_module *m, int batch, uint64_t *sum)
{
	ml_invented invented;
	ml_tensor in[2];
	ml_feed feed;
	bool there = true;
	int n = 0;

	ml_feed_begin(&feed, s->o);
	feed.source = ml_invent(&invented, m, &s->cx->arena);
	assert_non_null(feed.source.array);
	ml_data data = ml_data_of_feed(&feed);
	for (*sum = 0; there; n += there) {
		assert_int_equal(data.sample(data.user, m, n, in, &there), ML_OK);
		if (!there)
			continue;
		assert_int_equal(in[0].dim[0], batch);
		assert_true(in[0].dim[1] > 1 && in[1].dim[1] == in[0].dim[1]);
		for (int64_t i = 0; i < batch * in[0].dim[1]; i++) {
			int64_t id = ((int64_t *)in[0].data)[i];
			assert_true(id >= 0 && id < ROWS);
			assert_int_equal(((int64_t *)in[1].data)[i], 1);
			*sum = *sum * 3 + (uint64_t)id;
		}
	}
	ml_feed_end(&feed);
	return n;
}

static void
test_samples(void **state)
{
	uint64_t sum, again, other;
	setup s;

	(void)state;
	begin(&s);
	ml_module *any = parse(&s, MODEL("n", "")), *fixed = parse(&s, MODEL("2", ""));
	int n = count_samples(&s, any, 1, &sum);
	assert_true(n >= 20);
	assert_int_equal(count_samples(&s, any, 1, &again), n);
	assert_int_equal(sum, again);
	assert_true(count_samples(&s, fixed, BATCH, &other) >= 8);
	ml_module_free(any);
	ml_module_free(fixed);
	end(&s);
}

/* Inputs that nobody can guess. */
static void
test_unknown(void **state)
{
	ml_invented invented;
	setup s;

	(void)state;
	begin(&s);
	ml_module *m = parse(&s, MODEL("n", "  in %x \"x\" : f32[n, s]\n"));
	assert_null(ml_invent(&invented, m, &s.cx->arena).array);
	ml_module_free(m);
	end(&s);
}

/* ---- what they are for ---- */

static float
pseudo(uint64_t *seed)
{
	*seed = *seed * 6364136223846793005u + 1442695040888963407u;
	return (float)(*seed >> 40) / (1 << 23) - 1;
}

/* The table's channel 5 is 30 times as large as others. */
static ml_module *
make_embedded(setup *s)
{
	ml_module *m = ml_module_new(s->cx, "m");
	ml_builder b = ml_builder_at_end(m->main, NULL);
	ml_dim any = ml_dim_sym(m->dims, ml_sym_named(m->dims, "s", 1));
	ml_type ids = {ML_s64, 2, {ml_dim_int(m->dims, 1), any}},
		table = {ML_f32, 2, {ml_dim_int(m->dims, ROWS), ml_dim_int(m->dims, WIDTH)}},
		weights = {ML_f32, 2, {ml_dim_int(m->dims, WIDTH), ml_dim_int(m->dims, COLUMNS)}};
	uint64_t seed = 3;
	void *t, *w;

	ml_value *i = ml_block_add_arg(m->main, &ids, "ids");
	ml_blob *tb = ml_blob_new(&s->cx->memory, sizeof(float) * ROWS * WIDTH, &t);
	ml_blob *wb = ml_blob_new(&s->cx->memory, sizeof(float) * WIDTH * COLUMNS, &w);
	for (int k = 0; k < ROWS * WIDTH; k++)
		((float *)t)[k] = pseudo(&seed) * (k % WIDTH == 5 ? 30 : 1);
	for (int k = 0; k < WIDTH * COLUMNS; k++)
		((float *)w)[k] = pseudo(&seed);
	ml_value *x = ml_build_gather(&b, ml_build_const(&b, &table, tb), i, 0);
	ml_value *y = ml_op2(&b, ML_OP_linear, x, ml_build_const(&b, &weights, wb));
	assert_non_null(y);
	ML_PUSH(&m->arena, m->output_names, "y");
	assert_int_equal(ml_build_yield(&b, &y, 1), ML_OK);
	return m;
}

static void
evaluate(setup *s, ml_module *m, ml_tensor *y)
{
	static int64_t ids[TOKENS];
	ml_tensor in = {ML_s64, 2, {1, TOKENS}, ids, sizeof ids};
	ml_eval_options eo = {0};

	for (int i = 0; i < TOKENS; i++)
		ids[i] = i * 5 % ROWS;
	assert_int_equal(ml_evaluate(m, &in, y, &s->cx->arena, &eo), ML_OK);
}

/* Squares of what it loses, and how often the samples made up were gone through. */
static double
loss_of(setup *s, ml_precision precision, bool guess, const ml_results *results, int *walks)
{
	ml_pipeline_options po = {.opt_level = 2,
				  .fuel = -1,
				  .precision = precision,
				  .int4.group = precision == ML_INT4 ? ML_INT4_GROUP : 0};
	ml_candidates candidates = {.o = s->o};
	ml_exec exec = ml_exec_by_jit(&candidates);
	ml_module *m = make_embedded(s);
	ml_tensor exact, y;
	ml_invented invented;
	ml_pipeline p;
	ml_feed feed;
	double sum = 0;

	evaluate(s, m, &exact);
	ml_feed_begin(&feed, s->o);
	feed.source = ml_invent(&invented, m, &s->cx->arena);
	ml_data data = ml_data_of_feed(&feed);
	po.exec = &exec;
	po.guess = guess ? &data : NULL;
	po.results = results;
	assert_int_equal(ml_pipeline_init(&p, s->cx, &s->cx->arena, &po, NULL, 0), ML_OK);
	assert_int_equal(ml_pipeline_run(&p, m, &po), ML_OK);
	evaluate(s, m, &y);
	for (int64_t i = 0; i < TOKENS * COLUMNS; i++)
		sum += pow((double)(((float *)y.data)[i] - ((float *)exact.data)[i]), 2);
	*walks = (int)feed.walk;
	ml_feed_end(&feed);
	ml_module_free(m);
	return sum;
}

static void
test_layers(void **state)
{
	int walks;
	setup s;

	(void)state;
	begin(&s);
	for (ml_precision p = ML_INT8_DYNAMIC; p <= ML_INT4; p += ML_INT4 - ML_INT8_DYNAMIC) {
		double plain = loss_of(&s, p, false, NULL, &walks),
		       guessed = loss_of(&s, p, true, NULL, &walks);
		assert_true(plain > 0);
		assert_true(guessed < .5 * plain);
	}
	end(&s);
}

/* ---- kept ---- */

/* One result. */
typedef struct shelf {
	ml_text key, body;
	int kept;
} shelf;

static bool
find(void *user, ml_bytes key, ml_bytes *body)
{
	shelf *s = user;

	*body = (ml_bytes){s->body.at, s->body.length};
	return s->body.length && s->key.length == key.size && !memcmp(s->key.at, key.at, key.size);
}

static void
keep(void *user, ml_bytes key, ml_bytes body)
{
	shelf *s = user;

	s->key.length = s->body.length = 0;
	ml_put_bytes(&s->key, key.at, key.size);
	ml_put_bytes(&s->body, body.at, body.size);
	s->kept++;
}

/* What was found by a run is taken instead of one, and is not where it is damaged. */
static void
test_kept(void **state)
{
	shelf on = {.kept = 0};
	const ml_results results = {&on, find, keep};
	int walks;
	setup s;

	(void)state;
	begin(&s);
	ml_text_init(&on.key, &s.cx->arena);
	ml_text_init(&on.body, &s.cx->arena);
	double plain = loss_of(&s, ML_INT8_DYNAMIC, true, NULL, &walks);
	assert_true(walks > 0);
	assert_true(loss_of(&s, ML_INT8_DYNAMIC, true, &results, &walks) == plain);
	assert_true(walks > 0);
	assert_int_equal(on.kept, 1);
	assert_true(loss_of(&s, ML_INT8_DYNAMIC, true, &results, &walks) == plain);
	assert_int_equal(walks, 0);
	assert_int_equal(on.kept, 1);
	/* Where nothing is made up, nothing is found, and nothing is worth keeping. */
	assert_true(loss_of(&s, ML_INT8_DYNAMIC, false, &results, &walks) != plain);
	assert_int_equal(on.kept, 1);
	for (size_t length = on.body.length; length > 0; length = length / 2) {
		int kept = on.kept;
		on.body.length = length - 1;
		assert_true(loss_of(&s, ML_INT8_DYNAMIC, true, &results, &walks) == plain);
		assert_int_equal(on.kept, kept + 1);
	}
	end(&s);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_samples),
		cmocka_unit_test(test_unknown),
		cmocka_unit_test(test_layers),
		cmocka_unit_test(test_kept),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
