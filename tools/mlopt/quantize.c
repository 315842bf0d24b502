/* quantize.c -- mlopt quantize: a quantized model as standard ONNX. */
#include "../compiler.h"
#include "../put_name.h"
#include "verbs.h"
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
	{CL_TEXT, "o", "FILE", "Output", "the quantized model, .onnx", &a.output},
	CL_INPUT_ROWS(a.inputs),
	CL_TALK_ROWS(a.talk),
};

static const cl_command command = {
	.name = "mlopt quantize",
	.usage = "MODEL.onnx -o QUANTIZED.onnx [options]",
	.about =
		"Quantizes a model and writes it as standard ONNX, which any runtime loads and "
		"which\n"
		"compiles to the same integers: QuantizeLinear and DequantizeLinear with constant "
		"scales,\n"
		"or MatMulInteger where activations are quantized row by row at run time.  Weights "
		"stay\n"
		"8 bits wide; with --int4, 4 bits, in blocks (DequantizeLinear of operator set "
		"21).\n"
		"Without a precision of its own, --int8 decides as mloptc's does.\n\n"
		"  mlopt quantize model.onnx -o model.int8.onnx\n"
		"  mlopt quantize cnn.onnx --calib=inputs.npz -o cnn.int8.onnx\n"
		"  mlopt quantize gpt.onnx --int4 -o gpt.int4.onnx\n",
	.row = rows,
	.rows = sizeof rows / sizeof *rows,
	.compile = &a.compile,
	.compile_brief = true,
};

static void
set(const char *name, const char *value)
{
	a.compile.name[a.compile.count] = name;
	a.compile.value[a.compile.count++] = value;
}

/* What is written is a graph; --int8 where nothing else says how to quantize. */
static int
complete_settings(void)
{
	bool quantizes = false;

	for (int i = 0; i < a.compile.count; i++) {
		const char *name = a.compile.name[i];
		if (!strcmp(name, "emit"))
			return cl_fail(&command, "--emit is onnx here");
		quantizes |= !strncmp(name, "int", 3) || !strcmp(name, "bf16");
	}
	if (a.compile.count + 2 > CL_MAX_VALUES)
		return cl_fail(&command, "too many options");
	if (!quantizes)
		set("int8", NULL);
	set("emit", "onnx");
	return 0;
}

static long long
bytes_of(const char *path)
{
	struct stat st;

	return stat(path, &st) ? 0 : (long long)st.st_size;
}

static void
report(const char *model)
{
	if (a.talk.json) {
		printf("{\"file\": \"");
		cl_put_name(stdout, a.output, strlen(a.output), true);
		printf("\", \"bytes\": %lld, \"bytes_before\": %lld}\n", bytes_of(a.output),
		       bytes_of(model));
	} else if (!a.talk.quiet) {
		cl_put_name(stdout, a.output, strlen(a.output), false);
		printf(": %.2f MB, before %.2f MB\n", (double)bytes_of(a.output) * 1e-6,
		       (double)bytes_of(model) * 1e-6);
	}
}

static int
quantize(const char *model)
{
	cl_compiler c;

	if (complete_settings())
		return 1;
	int failed = cl_compiler_open(&c, &command, &a.inputs, a.talk);
	if (!failed)
		failed = c.ml_compile_to(c.cx, model, c.options, a.output) != ML_OK;
	if (!failed)
		report(model);
	cl_compiler_close(&c);
	return failed;
}

int
mo_quantize(int argc, char **argv)
{
	cl_list args = {0};
	int code;

	if (cl_parse(&command, argc, argv, &args, &code))
		return code;
	if (args.count != 1 || !a.output) {
		cl_fail(&command, args.count == 1
					  ? "-o FILE is needed"
					  : "one model is needed; see mlopt quantize --help");
		return 2;
	}
	return quantize(args.at[0]);
}
