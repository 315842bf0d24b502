/* digit.c -- reads a drawn digit and says which one it is, with the CNN of examples/digits.
 *
 *   cc digit.c -o digit $(pkg-config --cflags --libs mlopt)
 *   ./digit ../digits/model.onnx seven.txt     compiles the model in memory
 *   ./digit digits.so seven.txt                loads what mloptc made of it
 *
 * The drawing has 8 lines of 8 characters: space or '.' is empty, anything else is ink.
 */
#include <mlopt/compile.h>
#include <stdio.h>
#include <string.h>

enum { SIDE = 8 };

/* The model wants intensities from 0 to 1. */
static int
read_drawing(const char *path, float image[SIDE][SIDE])
{
	FILE *f = fopen(path, "r");
	char line[256];

	if (!f)
		return 0;
	for (int y = 0; y < SIDE && fgets(line, sizeof line, f); y++)
		for (int x = 0; x < SIDE && line[x] && line[x] != '\n'; x++)
			image[y][x] = line[x] == ' ' || line[x] == '.' ? 0 : 1;
	fclose(f);
	return 1;
}

static void
log_line(void *user, ml_severity severity, const char *text)
{
	(void)user;
	(void)severity;
	fprintf(stderr, "%s\n", text);
}

/* An artefact is loaded; anything else is compiled for this CPU. */
static ml_model *
get_model(const char *path)
{
	size_t n = strlen(path);
	ml_model *model = NULL;
	ml_context *cx;
	ml_message why;

	if (n > 3 && !strcmp(path + n - 3, ".so")) {
		if (ml_model_load(path, NULL, &model, &why))
			fprintf(stderr, "%s\n", why.text);
		return model;
	}
	if (ml_context_new(NULL, &cx))
		return NULL;
	ml_context_log(cx, log_line, NULL);
	ml_compile_file(cx, path, NULL, &model);
	ml_context_free(cx); /* the model does not need it */
	return model;
}

static int
classify(ml_session *s, const float image[SIDE][SIDE])
{
	int64_t shape[] = {1, 1, SIDE, SIDE};
	ml_view logits;
	int best = 0;

	if (ml_session_set_input(s, 0, image, shape, 4) || ml_session_run(s) ||
	    ml_session_output(s, 0, &logits)) {
		fprintf(stderr, "%s\n", ml_session_message(s));
		return -1;
	}
	const float *score = logits.data;
	for (int i = 1; i < 10; i++)
		if (score[i] > score[best])
			best = i;
	return best;
}

int
main(int argc, char **argv)
{
	float image[SIDE][SIDE] = {{0}};
	ml_session *session;
	ml_message why;
	int digit = -1;

	if (argc != 3 || !read_drawing(argv[2], image)) {
		fprintf(stderr, "usage: digit MODEL DRAWING\n");
		return 2;
	}
	ml_model *model = get_model(argv[1]);
	if (!model)
		return 1;
	if (ml_session_new(model, NULL, &session, &why)) {
		fprintf(stderr, "%s\n", why.text);
	} else {
		digit = classify(session, (const float(*)[SIDE])image);
		ml_session_free(session);
	}
	ml_model_free(model);
	if (digit >= 0)
		printf("%d\n", digit);
	return digit < 0;
}
