/* test_calibrate.c -- calibration data from C: samples in sets, and every way in which they may not
 * be what the model takes. */
#include "driver/driver.h"
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <cmocka.h>

static const char model[] =
	"module \"m\" {\n"
	"  sym n\n"
	"  in %x \"x\" : f32[n, 1, 2, 2]\n"
	"  in %b \"b\" : f32[n, 2, 1, 1]\n"
	"  %w = const {1, 2, 3, 4, -1, -2, -3, -4} : f32[2, 1, 2, 2]\n"
	"  %y = conv %x, %w {stride = [1, 1], dilation = [1, 1], low = [0, 0], high = [0, 0]}"
	" : f32[n, 2, 1, 1]\n"
	"  %z = add %y, %b : f32[n, 2, 1, 1]\n"
	"  out \"z\" = %z\n"
	"}\n";

enum { SAMPLES = 12 };

/* What is lent, set by set. */
typedef struct source {
	float x[SAMPLES * 4], b[SAMPLES * 2];
	ml_view view[2];
	int sets, asked;
} source;

static int
lend(void *user, int set, int input, const char *name, ml_view *v, ml_message *why)
{
	source *s = user;

	s->asked++;
	if (set >= s->sets)
		return 0;
	if (strcmp(name, input ? "b" : "x") || !s->view[input].rank) {
		snprintf(why->text, sizeof why->text, "no array named '%s'", name);
		return -1;
	}
	*v = s->view[input];
	return 1;
}

static source *
make_good(source *s)
{
	*s = (source){.sets = 1};
	for (int i = 0; i < SAMPLES * 4; i++)
		s->x[i] = (float)(i - 20) / 16;
	s->view[0] = (ml_view){ML_f32, 4, {SAMPLES, 1, 2, 2}, s->x, sizeof s->x};
	s->view[1] = (ml_view){ML_f32, 4, {SAMPLES, 2, 1, 1}, s->b, sizeof s->b};
	return s;
}

typedef struct setup {
	ml_context *cx;
	ml_options *o;
} setup;

static void
begin(setup *s)
{
	*s = (setup){0};
	assert_int_equal(ml_context_new(NULL, &s->cx), ML_OK);
	assert_int_equal(ml_options_new(s->cx, &s->o), ML_OK);
}

static void
end(setup *s)
{
	ml_options_free(s->o);
	ml_context_free(s->cx);
}

static ml_status
compile(setup *s, source *data, const char *int8)
{
	ml_calibration c = {.user = data, .array = lend};
	ml_model *m;

	if (data)
		assert_int_equal(ml_options_calibrate(s->o, &c), ML_OK);
	assert_int_equal(ml_options_set(s->o, "int8", int8), ML_OK);
	ml_status status = ml_compile_memory(s->cx, model, sizeof model - 1, s->o, &m);
	ml_model_free(m);
	return status;
}

/* Fails with the status and a message that contains the text. */
static void
refused(source *data, ml_status status, const char *text)
{
	setup s;

	begin(&s);
	assert_int_equal(compile(&s, data, "static"), status);
	const char *message = ml_context_message(s.cx, 0);
	assert_non_null(message);
	if (!strstr(message, text))
		fail_msg("'%s' is not in: %s", text, message);
	end(&s);
}

static void
test_result(void **state)
{
	source data;
	ml_calibration c = {.user = &data, .array = lend};
	setup s;
	ml_model *m;
	ml_session *session;
	ml_message why;
	ml_view z;

	(void)state;
	make_good(&data);
	begin(&s);
	assert_int_equal(ml_options_calibrate(s.o, &c), ML_OK);
	assert_int_equal(ml_options_set(s.o, "int8", NULL), ML_OK); /* has a conv: static */
	assert_int_equal(ml_compile_memory(s.cx, model, sizeof model - 1, s.o, &m), ML_OK);
	assert_true(data.asked > 0);
	assert_int_equal(ml_session_new(m, NULL, &session, &why), ML_OK);
	ml_session_set_input(session, 0, data.x, data.view[0].dim, 4);
	ml_session_set_input(session, 1, data.b, data.view[1].dim, 4);
	assert_int_equal(ml_session_run(session), ML_OK);
	assert_int_equal(ml_session_output(session, 0, &z), ML_OK);
	double far = 0;
	for (int i = 0; i < SAMPLES; i++) {
		const float *x = data.x + 4 * i;
		double y = x[0] + 2.0 * x[1] + 3.0 * x[2] + 4.0 * x[3];
		far = fmax(far, fabs(y - ((float *)z.data)[2 * i]));
		far = fmax(far, fabs(y + ((float *)z.data)[2 * i + 1]));
	}
	assert_true(far > 0); /* integers were at work */
	assert_true(far < 0.2);
	ml_session_free(session);
	ml_model_free(m);
	end(&s);
}

/* Two sets of six samples each are twelve. */
static void
test_sets(void **state)
{
	source data;
	setup s;

	(void)state;
	make_good(&data)->sets = 2;
	data.view[0].dim[0] = data.view[1].dim[0] = 6;
	begin(&s);
	assert_int_equal(compile(&s, &data, "static"), ML_OK);
	end(&s);
	data.sets = 1;
	refused(&data, ML_ERR_ARG, "6 samples are too few, at least 8 are needed");
	data.sets = 0;
	refused(&data, ML_ERR_ARG, "no samples");
	make_good(&data);
	data.view[0].dim[0] = data.view[1].dim[0] = 0;
	refused(&data, ML_ERR_ARG, "no samples");
}

/* ---- progress ---- */

typedef struct watched {
	source data; /* first: lend() takes it for one */
	ml_calibration_progress told[64];
	int count, last; /* false comes with that one */
} watched;

static bool
watch(void *user, const ml_calibration_progress *p)
{
	watched *w = user;

	assert_true(w->count < 64);
	w->told[w->count++] = *p;
	return w->count != w->last;
}

static ml_status
compile_watched(setup *s, watched *w)
{
	ml_calibration c = {w, lend, watch};
	ml_model *m;

	assert_int_equal(ml_options_calibrate(s->o, &c), ML_OK);
	assert_int_equal(ml_options_set(s->o, "int8", "static"), ML_OK);
	ml_status status = ml_compile_memory(s->cx, model, sizeof model - 1, s->o, &m);
	ml_model_free(m);
	return status;
}

static void
test_progress(void **state)
{
	watched w = {.last = 0};
	setup s;

	(void)state;
	make_good(&w.data)->sets = 2;
	w.data.view[0].dim[0] = w.data.view[1].dim[0] = 6;
	begin(&s);
	assert_int_equal(compile_watched(&s, &w), ML_OK);
	end(&s);
	for (int i = 0; i < SAMPLES; i++) {
		assert_int_equal(w.told[i].walk, 1);
		assert_int_equal(w.told[i].set, i / 6);
		assert_int_equal(w.told[i].sample, i % 6);
		assert_int_equal(w.told[i].samples, 6);
	}
	assert_int_equal(w.told[SAMPLES].set, -1);
	assert_int_equal(w.told[SAMPLES].sample, SAMPLES);
	assert_int_equal(w.told[SAMPLES].samples, SAMPLES);
	assert_true(w.count > SAMPLES + 1);
	assert_int_equal(w.told[SAMPLES + 1].walk, 2);

	w.count = 0;
	w.last = 4;
	begin(&s);
	assert_int_equal(compile_watched(&s, &w), ML_ERR_CANCELED);
	assert_non_null(strstr(ml_context_message(s.cx, 0), "calibration was canceled"));
	assert_int_equal(w.count, 4);
	end(&s);
}

static void
test_refused(void **state)
{
	source data;

	(void)state;
	make_good(&data);
	refused(NULL, ML_ERR_ARG, "int8=static needs calibration data");
	data.view[1].rank = 0;
	refused(&data, ML_ERR_ARG, "no array named 'b'");
	make_good(&data);
	data.view[0].dtype = ML_f64;
	refused(&data, ML_ERR_TYPE, "input 'x' is f32[n, 1, 2, 2], the array is f64[12, 1, 2, 2]");
	make_good(&data);
	data.view[0].dim[2] = 1;
	refused(&data, ML_ERR_SHAPE, "the array is f32[12, 1, 1, 2]");
	make_good(&data);
	data.view[0].rank = 3;
	refused(&data, ML_ERR_SHAPE, "the array is f32[12, 1, 2]");
	make_good(&data);
	data.view[0].dim[0] = 11;
	refused(&data, ML_ERR_SHAPE, "different numbers of samples");
	make_good(&data);
	data.x[4 * 9] = NAN;
	refused(&data, ML_ERR_VALUE, "sample 9 of input 'x' is not finite");
	make_good(&data);
	data.x[0] = INFINITY;
	refused(&data, ML_ERR_VALUE, "sample 0 of input 'x' is not finite");
	make_good(&data);
	data.view[0].dim[3] = -2;
	refused(&data, ML_ERR_SHAPE, "the array is");
	make_good(&data);
	data.view[0].data = NULL;
	refused(&data, ML_ERR_ARG, "the array is");
	make_good(&data);
	data.view[0].rank = 99;
	refused(&data, ML_ERR_ARG, "input 'x'");
}

/* ---- the shipped network: what the evaluator says is what the compiled code gives ---- */

enum { IMAGES = 8, PIXELS = 64 };

static float image[IMAGES * PIXELS];

static int
lend_images(void *user, int set, int input, const char *name, ml_view *v, ml_message *why)
{
	(void)user;
	(void)input;
	(void)name;
	(void)why;
	*v = (ml_view){ML_f32, 4, {IMAGES, 1, 8, 8}, image, sizeof image};
	return set == 0;
}

/* The module behind the pipeline. */
static ml_module *
quantize_digits(setup *s, ml_exec *exec)
{
	ml_source source = {.path = ML_SOURCE_DIR "/examples/digits/model.onnx"};
	ml_calibration c = {.array = lend_images};
	ml_pipeline_options po = {.opt_level = 2, .fuel = -1, .precision = ML_INT8_STATIC};
	ml_pipeline p;
	ml_module *m;
	ml_feed feed;

	assert_int_equal(ml_options_calibrate(s->o, &c), ML_OK);
	ml_feed_begin(&feed, s->o);
	ml_data data = ml_data_of_feed(&feed);
	po.exec = exec;
	po.data = &data;
	assert_int_equal(ml_read_model(s->cx, &source, s->o, &m), ML_OK);
	assert_int_equal(ml_pipeline_init(&p, s->cx, &s->cx->arena, &po, NULL, 0), ML_OK);
	assert_int_equal(ml_pipeline_run(&p, m, &po), ML_OK);
	ml_feed_end(&feed);
	return m;
}

static void
test_evaluator(void **state)
{
	jmp_buf nomem;
	setup s;
	ml_runnable *r;
	ml_tensor in = {ML_f32, 4, {IMAGES, 1, 8, 8}, image, sizeof image}, want, got;
	ml_eval_options eo = {0};

	(void)state;
	begin(&s);
	s.cx->memory.on_fail = &nomem;
	for (int i = 0; i < IMAGES * PIXELS; i++)
		image[i] = (float)(i * 37 % 17) / 16;
	ml_candidates candidates = {.o = s.o};
	ml_exec exec = ml_exec_by_jit(&candidates);
	ml_module *m = quantize_digits(&s, &exec);
	int layers = 0;
	for (const ml_node *n = m->main->first; n; n = n->next) {
		layers += n->op == ML_OP_conv || n->op == ML_OP_dot;
		if (n->op == ML_OP_conv || n->op == ML_OP_dot || n->op == ML_OP_linear)
			assert_int_equal(n->out[0].type.dtype, ML_s32);
	}
	assert_true(layers >= 6);
	assert_int_equal(ml_evaluate(m, &in, &want, &s.cx->arena, &eo), ML_OK);
	assert_int_equal(exec.compile(exec.user, m, &r), ML_OK);
	assert_int_equal(exec.run(exec.user, r, &in, &got, &s.cx->arena), ML_OK);
	assert_int_equal(got.bytes, IMAGES * 10 * sizeof(float));
	assert_memory_equal(got.data, want.data, got.bytes);
	exec.free(exec.user, r);
	ml_module_free(m);
	end(&s);
}

/* Without linear layers dynamic quantization does not look at the data; that of weights judges by
 * it. */
static void
test_not_asked(void **state)
{
	source data;
	setup s;

	(void)state;
	make_good(&data);
	begin(&s);
	assert_int_equal(compile(&s, &data, "dynamic"), ML_OK);
	assert_int_equal(data.asked, 0);
	assert_int_equal(compile(&s, &data, "weights"), ML_OK);
	assert_true(data.asked > 0);
	end(&s);
}

/* ---- padding ---- */

static const char masked[] = "module \"m\" {\n"
			     "  sym n\n"
			     "  sym s\n"
			     "  in %x \"x\" : f32[n, s, 2]\n"
			     "  in %m \"attention_mask\" : s64[n, s]\n"
			     "  out \"y\" = %x\n"
			     "}\n";

enum { LENGTH = 5 };

typedef struct padded {
	float x[SAMPLES * LENGTH * 2];
	int64_t mask[SAMPLES * LENGTH];
} padded;

static int
lend_padded(void *user, int set, int input, const char *name, ml_view *v, ml_message *why)
{
	padded *p = user;

	(void)name;
	(void)why;
	if (input)
		*v = (ml_view){ML_s64, 2, {SAMPLES, LENGTH}, p->mask, sizeof p->mask};
	else
		*v = (ml_view){ML_f32, 3, {SAMPLES, LENGTH, 2}, p->x, sizeof p->x};
	return set == 0;
}

/* Sample i has i % 6 tokens; one is left where there are none. */
static void
test_padding(void **state)
{
	padded p = {0};
	ml_calibration c = {.user = &p, .array = lend_padded};
	ml_tensor in[2];
	jmp_buf nomem;
	ml_module *m;
	ml_feed feed;
	setup s;
	bool there;

	(void)state;
	begin(&s);
	s.cx->memory.on_fail = &nomem;
	for (int i = 0; i < SAMPLES * LENGTH; i++)
		p.mask[i] = i % LENGTH < i / LENGTH % 6;
	for (int i = 0; i < SAMPLES * LENGTH * 2; i++)
		p.x[i] = (float)i;
	assert_int_equal(ml_options_calibrate(s.o, &c), ML_OK);
	assert_int_equal(ml_parse(s.cx, masked, sizeof masked - 1, NULL, NULL, &m), ML_OK);
	ml_feed_begin(&feed, s.o);
	ml_data data = ml_data_of_feed(&feed);
	for (int i = 0; i < SAMPLES; i++) {
		int length = i % 6 ? i % 6 : 1;
		assert_int_equal(data.sample(data.user, m, i, in, &there), ML_OK);
		assert_true(there);
		assert_int_equal(in[0].dim[1], length);
		assert_int_equal(in[1].dim[1], length);
		assert_int_equal(in[0].bytes, length * 2 * sizeof(float));
		assert_true(((float *)in[0].data)[2 * length - 1] ==
			    (float)(i * LENGTH * 2 + 2 * length - 1));
	}
	ml_feed_end(&feed);
	ml_module_free(m);
	end(&s);
}

/* ---- inputs that need not be there ---- */

static const char decoder[] =
	"module \"m\" {\n"
	"  sym n\n  sym s\n  sym t\n  sym p\n"
	"  in %i \"ids\" : s64[n, s]\n"
	"  in %m \"attention_mask\" : s64[n, t]\n"
	"  in %q \"position_ids\" : s64[n, s]\n"
	"  in %y \"token_type_ids\" : s64[n, s]\n"
	"  in %k \"past\" : f32[n, p, 2]\n"
	"  %f = cast %i {dtype = f32} : f32[n, s]\n"
	"  %g = reshape %f {shape = [n, s, 1]} : f32[n, s, 1]\n"
	"  %h = broadcast %g {shape = [n, s, 2]} : f32[n, s, 2]\n"
	"  %c = concat %k, %h {axis = 1} : f32[n, p + s, 2]\n"
	"  out \"a\" = %i\n  out \"b\" = %m\n  out \"c\" = %q\n  out \"d\" = %y\n"
	"  out \"present\" = %c\n"
	"}\n";

typedef struct tokens {
	int64_t ids[SAMPLES * 3];
	bool has_ids;
} tokens;

static int
lend_tokens(void *user, int set, int input, const char *name, ml_view *v, ml_message *why)
{
	tokens *t = user;

	(void)input;
	if (set)
		return 0;
	snprintf(why->text, sizeof why->text, "no array named '%s'", name);
	if (strcmp(name, "ids") || !t->has_ids)
		return -2;
	*v = (ml_view){ML_s64, 2, {SAMPLES, 3}, t->ids, sizeof t->ids};
	return 1;
}

static void
test_derived(void **state)
{
	tokens t = {.has_ids = true};
	ml_calibration c = {.user = &t, .array = lend_tokens};
	ml_source source = {.bytes = decoder, .size = sizeof decoder - 1};
	ml_tensor in[5];
	ml_module *m;
	ml_feed f;
	setup s;
	bool there;

	(void)state;
	for (int i = 0; i < SAMPLES * 3; i++)
		t.ids[i] = i;
	begin(&s);
	assert_int_equal(ml_options_calibrate(s.o, &c), ML_OK);
	assert_int_equal(ml_read_model(s.cx, &source, s.o, &m), ML_OK);
	ml_feed_begin(&f, s.o);
	ml_data data = ml_data_of_feed(&f);
	assert_int_equal(data.sample(data.user, m, 2, in, &there), ML_OK);
	assert_true(there);
	for (int k = 0; k < 4; k++) {
		assert_int_equal(in[k].dim[0], 1);
		assert_int_equal(in[k].dim[1], 3);
	}
	for (int i = 0; i < 3; i++) {
		assert_int_equal(((int64_t *)in[0].data)[i], 6 + i);
		assert_int_equal(((int64_t *)in[1].data)[i], 1);
		assert_int_equal(((int64_t *)in[2].data)[i], i);
		assert_int_equal(((int64_t *)in[3].data)[i], 0);
	}
	assert_true(in[4].rank == 3 && in[4].dim[0] == 1 && !in[4].dim[1] && in[4].dim[2] == 2);
	ml_feed_end(&f);
	t.has_ids = false;
	ml_feed_begin(&f, s.o);
	data = ml_data_of_feed(&f);
	assert_int_equal(data.sample(data.user, m, 0, in, &there), ML_ERR_ARG);
	assert_non_null(strstr(ml_context_message(s.cx, 0), "no array named 'ids'"));
	ml_feed_end(&f);
	ml_module_free(m);
	end(&s);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_derived),   cmocka_unit_test(test_result),
		cmocka_unit_test(test_sets),      cmocka_unit_test(test_refused),
		cmocka_unit_test(test_not_asked), cmocka_unit_test(test_evaluator),
		cmocka_unit_test(test_padding),   cmocka_unit_test(test_progress),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
