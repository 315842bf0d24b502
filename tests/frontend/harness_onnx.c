/* harness_onnx.c -- ONNX models and tensors written as text, and what importing them must give. */
#include "harness_onnx.h"
#include "frontend/export.h"
#include "harness_folder.h"
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { MOST = 16, ATTRIBUTE_F = 2, ATTRIBUTE_I = 3, ATTRIBUTE_S = 4, ATTRIBUTE_TYPE = 20 };

/* ---- text ---- */

/* The next word of a line, or NULL; "a[1, 2]" is not split because types hold no blanks. */
static char *
word(char **at)
{
	char *start = *at + strspn(*at, " \t");
	size_t n = strcspn(start, " \t");

	if (!n)
		return NULL;
	*at = start + n + (start[n] != 0);
	start[n] = 0;
	return start;
}

static char *
line(char **at)
{
	char *start = *at + strspn(*at, "\n\t ");
	size_t n = strcspn(start, "\n");

	if (!n)
		return NULL;
	*at = start + n + (start[n] != 0);
	start[n] = 0;
	return start;
}

static int
onnx_number(ml_dtype dtype)
{
	static const int numbers[] = {
#define ML_DTYPE(number, name, bits, kind, onnx, ctype) [number] = onnx,
#include "mlopt/types.def"
	};
	return numbers[dtype];
}

/* "f32[b,3]": dims are strings */
static ml_dtype
read_type(char *text, char **dim, int *rank)
{
	char *bracket = strchr(text, '[');
	ml_dtype dtype;

	assert_non_null(bracket);
	assert_true(ml_dtype_named(text, (size_t)(bracket - text), &dtype));
	*rank = 0;
	for (char *at = bracket + 1; *at && *at != ']';) {
		size_t n = strcspn(at, ",]");
		bool more = at[n] == ',';
		at[n] = 0;
		dim[(*rank)++] = at;
		at += n + more;
		if (!more)
			break;
	}
	return dtype;
}

static ml_tensor
read_tensor(char *rest)
{
	char *dim[ML_MAX_RANK];
	ml_tensor t = {0};
	int64_t n = 1;

	t.dtype = read_type(word(&rest), dim, &t.rank);
	for (int i = 0; i < t.rank; i++)
		n *= t.dim[i] = strtoll(dim[i], NULL, 10);
	t.bytes = (size_t)n * (size_t)ml_dtype_bytes(t.dtype);
	t.data = ml_alloc(&cx.arena, t.bytes + 1);
	for (int64_t i = 0; i < n; i++) {
		const char *number = word(&rest);
		assert_non_null(number);
		if (ml_is_integer(t.dtype))
			ml_write_s64(t.dtype, t.data, i, strtoll(number, NULL, 10));
		else
			ml_write_f64(t.dtype, t.data, i, strtod(number, NULL));
	}
	assert_null(word(&rest));
	return t;
}

ml_tensor
onnx_tensor(const char *text)
{
	return read_tensor(ml_strdup(&cx.arena, text));
}

/* ---- models ---- */

static msg
value_info(char *name, char *type)
{
	msg info = new_msg(), tensor = new_msg(), shape = new_msg(), wrap = new_msg();
	char *dim[ML_MAX_RANK];
	int rank;

	put_string(&info, VALUE_NAME, name);
	if (!type)
		return info;
	put_int(&tensor, 1, onnx_number(read_type(type, dim, &rank)));
	for (int i = 0; i < rank; i++) {
		msg d = new_msg();
		if (strspn(dim[i], "0123456789"))
			put_int(&d, 1, strtoll(dim[i], NULL, 10));
		else if (strcmp(dim[i], "?"))
			put_string(&d, 2, dim[i]);
		put_msg(&shape, 1, d);
	}
	put_msg(&tensor, 2, shape);
	put_msg(&wrap, 1, tensor);
	put_msg(&info, VALUE_TYPE, wrap);
	return info;
}

static msg
initializer(const char *name, char *rest)
{
	ml_tensor t = read_tensor(rest);
	msg m = new_msg();

	for (int i = 0; i < t.rank; i++)
		put_int(&m, TENSOR_DIMS, t.dim[i]);
	put_int(&m, TENSOR_DATA_TYPE, onnx_number(t.dtype));
	put_string(&m, TENSOR_NAME, name);
	put_bytes(&m, TENSOR_RAW_DATA, t.data, t.bytes);
	return m;
}

static msg
attribute(const char *name, char *value)
{
	msg m = new_msg();
	size_t n = strlen(value);

	put_string(&m, ATTRIBUTE_NAME, name);
	if (*value == '"') {
		put_bytes(&m, ATTRIBUTE_S, value + 1, n - 2);
		put_int(&m, ATTRIBUTE_TYPE, 3);
	} else if (*value == '[') {
		for (char *at = value + 1, *end; *at && *at != ']'; at = end + strspn(end, ",")) {
			put_int(&m, ATTRIBUTE_INTS, strtoll(at, &end, 10));
			assert_ptr_not_equal(at, end); /* anything but numbers would never end */
		}
		put_int(&m, ATTRIBUTE_TYPE, 7);
	} else if (*value == '(') {
		for (char *at = value + 1, *end; *at && *at != ')'; at = end + strspn(end, ",")) {
			float f = strtof(at, &end);
			assert_ptr_not_equal(at, end);
			put_tag(&m, ATTRIBUTE_FLOATS, 5);
			ml_put_bytes(&m, (char *)&f, sizeof f);
		}
		put_int(&m, ATTRIBUTE_TYPE, 6);
	} else if (strpbrk(value, ".e")) {
		float f = strtof(value, NULL);
		put_tag(&m, ATTRIBUTE_F, 5);
		ml_put_bytes(&m, (char *)&f, sizeof f);
		put_int(&m, ATTRIBUTE_TYPE, 1);
	} else {
		put_int(&m, ATTRIBUTE_I, strtoll(value, NULL, 10));
		put_int(&m, ATTRIBUTE_TYPE, 2);
	}
	return m;
}

static msg graph_of(char **at, msg *model, bool *versioned);

/* A subgraph: the lines that follow, up to "}". */
static msg
graph_attribute(const char *name, char **at)
{
	msg m = new_msg();

	put_string(&m, ATTRIBUTE_NAME, name);
	put_msg(&m, ATTRIBUTE_G, graph_of(at, NULL, NULL));
	put_int(&m, ATTRIBUTE_TYPE, 5);
	return m;
}

static msg
node(char *rest, char **at)
{
	msg m = new_msg();
	const char *op = word(&rest);
	int field = NODE_INPUT;

	for (char *w = word(&rest); w; w = word(&rest)) {
		char *equals = strchr(w, '=');
		if (!strcmp(w, "->")) {
			field = NODE_OUTPUT;
		} else if (!equals) {
			put_string(&m, field, strcmp(w, "-") ? w : "");
		} else {
			*equals = 0;
			if (!strcmp(equals + 1, "{"))
				put_msg(&m, NODE_ATTRIBUTE, graph_attribute(w, at));
			else if (!strcmp(w, "domain"))
				put_string(&m, NODE_DOMAIN, equals + 1);
			else
				put_msg(&m, NODE_ATTRIBUTE, attribute(w, equals + 1));
		}
	}
	put_string(&m, NODE_OP_TYPE, op);
	return m;
}

static void
put_opset(msg *model, char *rest)
{
	msg m = new_msg();
	char *first = word(&rest), *second = word(&rest);

	put_string(&m, OPSET_DOMAIN, second ? first : "");
	put_int(&m, OPSET_VERSION, strtoll(second ? second : first, NULL, 10));
	put_msg(model, MODEL_OPSET_IMPORT, m);
}

static msg
graph_of(char **at, msg *model, bool *versioned)
{
	msg graph = new_msg();

	put_string(&graph, GRAPH_NAME, "test");
	for (char *l = line(at); l && *l != '}'; l = line(at)) {
		const char *kind = word(&l);
		if (!strcmp(kind, "opset")) {
			put_opset(model, l);
			*versioned = true;
		} else if (!strcmp(kind, "node")) {
			put_msg(&graph, GRAPH_NODE, node(l, at));
		} else {
			char *name = word(&l);
			if (!strcmp(kind, "const"))
				put_msg(&graph, GRAPH_INITIALIZER, initializer(name, l));
			else
				put_msg(&graph, strcmp(kind, "in") ? GRAPH_OUTPUT : GRAPH_INPUT,
					value_info(name, word(&l)));
		}
	}
	return graph;
}

msg
onnx_model(const char *text)
{
	char *at = ml_strdup(&cx.arena, text);
	msg model = new_msg(), graph;
	bool versioned = false;

	put_int(&model, MODEL_IR_VERSION, 8);
	graph = graph_of(&at, &model, &versioned);
	if (!versioned)
		put_opset(&model, (char[]){"17"});
	put_msg(&model, MODEL_GRAPH, graph);
	return model;
}

/* ---- expectations ---- */

const char *
messages(void)
{
	ml_text t;

	ml_text_init(&t, &cx.arena);
	ml_put(&t, "%s", "");
	for (int i = 0; i < cx.diags.count; i++)
		ml_diag_print(&t, &cx, &cx.diags.at[i]);
	return t.at;
}

ml_module *
import_text(const char *text, const ml_import_options *o)
{
	msg model = onnx_model(text);
	ml_module *m;

	ml_import_onnx_bytes(&cx, model.at, model.length, NULL, o, &m);
	return m;
}

/* Tensors with names. */
typedef struct tensors {
	const char *name[MOST];
	ml_tensor at[MOST];
	bool frozen[MOST];
	int n;
} tensors;

static tensors
read_tensors(const char *text)
{
	char *at = ml_strdup(&cx.arena, text);
	tensors t = {0};

	for (char *l = line(&at); l; l = line(&at)) {
		char *name = word(&l);
		assert_true(t.n < MOST);
		t.frozen[t.n] = *name == '!';
		t.name[t.n] = name + t.frozen[t.n];
		t.at[t.n++] = read_tensor(l);
	}
	return t;
}

static const ml_tensor *
find(const tensors *t, const char *name)
{
	for (int i = 0; i < t->n; i++)
		if (!strcmp(t->name[i], name))
			return &t->at[i];
	fail_msg("there is no tensor '%s'", name);
	return NULL;
}

static void
compare(const char *name, const ml_tensor *got, const ml_tensor *want)
{
	int64_t n = 1;

	assert_string_equal(ml_dtype_name(got->dtype), ml_dtype_name(want->dtype));
	assert_int_equal(got->rank, want->rank);
	for (int i = 0; i < got->rank; i++) {
		assert_int_equal(got->dim[i], want->dim[i]);
		n *= got->dim[i];
	}
	for (int64_t i = 0; i < n; i++) {
		double a = ml_read_f64(got->dtype, got->data, i);
		double b = ml_read_f64(want->dtype, want->data, i);
		if (!(a == b || (isnan(a) && isnan(b)) || fabs(a - b) <= 1e-4 + 1e-3 * fabs(b)))
			fail_msg("'%s'[%lld] is %g, must be %g", name, (long long)i, a, b);
	}
}

/* Takes the module. */
static void
check(ml_module *m, const tensors *in, const tensors *out)
{
	ml_tensor args[MOST], results[MOST];

	if (!m)
		fail_msg("%s", messages());
	if (ml_verify(m) != ML_OK)
		fail_msg("%s", messages());
	assert_true(m->main->nargs <= MOST && m->output_names.count == out->n);
	for (int i = 0; i < m->main->nargs; i++)
		args[i] = *find(in, m->main->arg[i]->name);
	if (ml_evaluate(m, args, results, &cx.arena, &(ml_eval_options){0}) != ML_OK)
		fail_msg("%s", messages());
	for (int i = 0; i < out->n; i++)
		compare(m->output_names.at[i], &results[i], find(out, m->output_names.at[i]));
}

void
expect(const char *model, const char *inputs, const char *outputs)
{
	tensors in = read_tensors(inputs), out = read_tensors(outputs);
	ml_import_freeze freeze[MOST];
	ml_import_options o = {.freezes = freeze};
	const char *path;
	ml_module *m, *again = NULL;

	for (int i = 0; i < in.n; i++)
		if (in.frozen[i])
			freeze[o.nfreezes++] = (ml_import_freeze){in.name[i], in.at[i]};
	m = import_text(model, &o);
	check(m, &in, &out);
	open_folder();
	path = in_folder("test.onnx");
	if (ml_export_onnx(&cx, m, path) != ML_OK)
		fail_msg("%s", messages());
	ml_module_free(m);
	ml_import_onnx(&cx, path, NULL, &again);
	check(again, &in, &out);
	ml_module_free(again);
	remove_folder();
}

void
expect_error(const char *model, ml_status status, const char *text)
{
	msg bytes = onnx_model(model);
	ml_module *m;
	ml_status got = ml_import_onnx_bytes(&cx, bytes.at, bytes.length, NULL, NULL, &m);

	if (got != status || !strstr(messages(), text))
		fail_msg("%s, not %s with '%s': %s", ml_status_tag(got), ml_status_tag(status),
			 text, messages());
	assert_null(m);
}
