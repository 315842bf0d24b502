/* mloptc.c -- the compiler's command line: an ONNX model in, a shared object and its header out. */
#include "compiler.h"
#include <string.h>
#include <sys/stat.h>

typedef struct arguments {
	const char *output;
	cl_inputs inputs;
	bool verbose, quiet;
	cl_settings compile;
} arguments;

static arguments a;

static const cl_row rows[] = {
	{CL_TEXT, "o", "FILE", "Output",
	 "where to; the C header goes beside it (default: the model's name)", &a.output},
	CL_INPUT_ROWS(a.inputs),
	{CL_FLAG, "v", NULL, "Other", "say what was made", &a.verbose},
	{CL_FLAG, "q", NULL, "Other", "say nothing but errors", &a.quiet},
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

static int
compile(const char *model)
{
	char room[4096];
	const char *output = a.output ? a.output : default_output(model, room, sizeof room);
	cl_compiler c;
	struct stat st;

	int failed = cl_compiler_open(&c, &command, &a.inputs, a.quiet);
	if (!failed && output && !strcmp(output, "-"))
		output = NULL;
	if (!failed)
		failed = is_given("list-passes") && !a.output
				 ? c.ml_check(c.cx, model, c.options) != ML_OK
				 : c.ml_compile_to(c.cx, model, c.options, output) != ML_OK;
	if (!failed && a.verbose && output && !stat(output, &st))
		fprintf(stderr, "%s: %.2f MB in %.2f s\n", output, (double)st.st_size * 1e-6,
			cl_seconds() - c.begun);
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
