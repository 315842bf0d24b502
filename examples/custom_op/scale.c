/* scale.c -- an operator of the application's own, called by compiled code.
 *
 *   cc scale.c -o scale $(pkg-config --cflags --libs mlopt)
 *   ./scale model.onnx
 */
#include <mlopt/compile.h>
#include <stdio.h>

/* com.acme.Scale: y = x * by.  Its one-line signature below is all that mlopt needs to know: `by`
 * is an attribute in the model, the dims come last.  Returns 0 or an ml_status. */
static int32_t
scale(const float *x, int64_t by, float *y, int64_t n, int64_t d)
{
	for (int64_t i = 0; i < n * d; i++)
		y[i] = x[i] * (float)by;
	return 0;
}

static void
log_line(void *user, ml_severity severity, const char *text)
{
	(void)user;
	(void)severity;
	fprintf(stderr, "%s\n", text);
}

static int
run(ml_model *model)
{
	float x[2][4] = {{1, 2, 3, 4}, {5, 6, 7, 8}};
	ml_session *s;
	ml_message why;
	ml_view y;

	if (ml_session_new(model, NULL, &s, &why)) {
		fprintf(stderr, "%s\n", why.text);
		return 1;
	}
	ml_session_set_input(s, 0, x, (int64_t[]){2, 4}, 2);
	int failed = ml_session_run(s) || ml_session_output(s, 0, &y);
	if (failed)
		fprintf(stderr, "%s\n", ml_session_message(s));
	for (int i = 0; !failed && i < 8; i++)
		printf("%g%c", (double)((const float *)y.data)[i], i % 4 == 3 ? '\n' : ' ');
	ml_session_free(s);
	return failed;
}

int
main(int argc, char **argv)
{
	ml_model *model = NULL;
	ml_context *cx;

	if (argc != 2 || ml_context_new(NULL, &cx))
		return 2;
	ml_context_log(cx, log_line, NULL);
	int failed =
		ml_register_op(cx, "com.acme", "Scale", "(x: f32[n,d], by: i64) -> y: f32[n,d]",
			       (ml_function *)scale) ||
		ml_compile_file(cx, argv[1], NULL, &model) || run(model);
	ml_model_free(model);
	ml_context_free(cx); /* behind the model: its operators live in the application */
	return failed;
}
