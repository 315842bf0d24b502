/* mloptc.c -- the compiler's command line: an ONNX model in, a shared object and its header out. */
#include "compiler.h"
#include "put_name.h"
#include <string.h>
#include <sys/stat.h>

typedef struct arguments {
	const char *output;
	cl_inputs inputs;
	cl_talk talk;
	cl_settings compile;
} arguments;

static arguments a;

static const cl_row rows[] = {
	{CL_TEXT, "o", "FILE", "Output",
	 "where to; the C header goes beside it (default: the model's name)", &a.output},
	CL_INPUT_ROWS(a.inputs),
	CL_TALK_ROWS(a.talk),
};

static const cl_command command = {
	.name = "mloptc",
	.usage = "MODEL.onnx [options]",
	.about = "Compiles an ONNX model (or IR text, .mlt) to native code.\n\n"
		 "  mloptc model.onnx -O3 -o model.so            model.so and model.h\n"
		 "  mloptc model.onnx --int8 -o model.so         quantized\n"
		 "  mloptc cnn.onnx --int8 --calib=inputs.npz    quantized with ranges from data\n"
		 "  mloptc model.onnx --dim batch=1 --emit=ir    the optimized graph as text\n"
		 "  mloptc model.onnx --target=aarch64-linux-gnu -o model.so\n",
	.row = rows,
	.rows = sizeof rows / sizeof *rows,
	.compile = &a.compile,
};

/* The last value given to an option of the compiler. */
static const char *
setting(const char *name)
{
	const char *value = NULL;

	for (int i = 0; i < a.compile.count; i++)
		if (!strcmp(a.compile.name[i], name))
			value = a.compile.value[i];
	return value;
}

static bool
is_given(const char *name)
{
	for (int i = 0; i < a.compile.count; i++)
		if (!strcmp(a.compile.name[i], name))
			return true;
	return false;
}

/* models/bert.onnx => bert.so, in the current folder; NULL for texts, which go to stdout. */
static const char *
default_output(const char *model, char *room, size_t size)
{
	static const struct {
		const char *kind, *ending;
	} endings[] = {
		{"so", ".so"}, {"obj", ".o"}, {"lib", ".a"}, {"exe", ""}, {"onnx", ".opt.onnx"}};
	const char *emit = setting("emit"), *slash = strrchr(model, '/');
	const char *base = slash ? slash + 1 : model;

	for (size_t i = 0; i < sizeof endings / sizeof *endings; i++)
		if (!strcmp(emit ? emit : "so", endings[i].kind)) {
			const char *dot = strrchr(base, '.');
			int n = dot ? (int)(dot - base) : (int)strlen(base);
			snprintf(room, size, "%.*s%s", n, base, endings[i].ending);
			return room;
		}
	return NULL;
}

static void
put_file(const char *path, bool first)
{
	struct stat st;

	if (stat(path, &st))
		return;
	printf("%s{\"file\": \"", first ? "" : ", ");
	cl_put_name(stdout, path, strlen(path), true);
	printf("\", \"bytes\": %lld}", (long long)st.st_size);
}

/* ISA levels of an artefact that this machine can load. */
static void
put_levels(const char *path)
{
	ml_model *model;
	ml_message why;

	if (ml_model_load(path, NULL, &model, &why) != ML_OK)
		return;
	const ml_model_info *info = ml_model_describe(model);
	printf(", \"levels\": [");
	for (int i = 0; i < info->nlevels; i++)
		printf("%s\"%s\"", i ? ", " : "", info->level[i]);
	printf("]");
	ml_model_free(model);
}

/* The C header that goes with native code; the other kinds have none. */
static void
put_json(const char *output, double seconds)
{
	static const char *const native[] = {"so", "obj", "lib"};
	const char *emit = setting("emit") ? setting("emit") : "so";
	const char *slash = strrchr(output, '/'), *dot = strrchr(slash ? slash : output, '.');
	char header[4096];

	printf("{\"files\": [");
	put_file(output, true);
	snprintf(header, sizeof header, "%.*s.h",
		 (int)(dot ? (size_t)(dot - output) : strlen(output)), output);
	for (size_t i = 0; i < sizeof native / sizeof *native; i++)
		if (!strcmp(emit, native[i]))
			put_file(header, false);
	printf("]");
	if (!strcmp(emit, "so"))
		put_levels(output);
	printf(", \"seconds\": %.3f}\n", seconds);
}

static int
compile(const char *model)
{
	char room[4096];
	const char *output = a.output ? a.output : default_output(model, room, sizeof room);
	cl_compiler c;
	struct stat st;

	int failed = cl_compiler_open(&c, &command, &a.inputs, a.talk);
	if (!failed && output && !strcmp(output, "-"))
		output = NULL;
	if (!failed && a.talk.json && !output)
		failed =
			cl_fail(&command, "--json needs -o FILE: the text goes to standard output");
	if (!failed)
		failed = is_given("list-passes") && !a.output
				 ? c.ml_check(c.cx, model, c.options) != ML_OK
				 : c.ml_compile_to(c.cx, model, c.options, output) != ML_OK;
	if (!failed && a.talk.verbose && output && !stat(output, &st))
		fprintf(stderr, "%s: %.2f MB in %.2f s\n", output, (double)st.st_size * 1e-6,
			cl_seconds() - c.begun);
	if (!failed && a.talk.json)
		put_json(output, cl_seconds() - c.begun);
	cl_compiler_close(&c);
	return failed;
}

int
main(int argc, char **argv)
{
	cl_list args = {0};
	int code;

	if (cl_parse(&command, argc, argv, &args, &code))
		return code;
	if (args.count != 1) {
		cl_fail(&command,
			args.count ? "one model at a time" : "no model; see mloptc --help");
		return 2;
	}
	return compile(args.at[0]);
}
