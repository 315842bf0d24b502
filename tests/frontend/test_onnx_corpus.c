/* test_onnx_corpus.c -- loading real, hostile and damaged models: an error or every tensor, never a
 * crash. */
#include "harness_bytes.h"
#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* What loading one model came to. */
typedef struct outcome {
	ml_status open; /* of ml_onnx_open */
	int tensors, refused, unsupported;
} outcome;

static void read_graph(ml_onnx_model *, const Onnx__GraphProto *, outcome *);

static void
count(ml_status status, ml_onnx_tensor_view *view, outcome *o)
{
	o->tensors++;
	if (status == ML_ERR_UNSUPPORTED)
		o->unsupported++;
	else if (status != ML_OK)
		o->refused++;
	if (status != ML_OK)
		return;
	ml_blob_hash(view->bytes); /* touches every byte */
	ml_blob_drop(view->bytes);
}

static void
read_tensor(ml_onnx_model *m, const Onnx__TensorProto *t, outcome *o)
{
	ml_onnx_tensor_view view;

	count(ml_onnx_tensor(&cx, m, t, NULL, &view), &view, o);
}

static void
read_nodes(ml_onnx_model *m, Onnx__NodeProto *const *node, size_t n, outcome *o)
{
	for (size_t i = 0; i < n; i++)
		for (size_t k = 0; k < node[i]->n_attribute; k++) {
			const Onnx__AttributeProto *a = node[i]->attribute[k];
			if (a->t)
				read_tensor(m, a->t, o);
			for (size_t j = 0; j < a->n_tensors; j++)
				read_tensor(m, a->tensors[j], o);
			if (a->g)
				read_graph(m, a->g, o);
			for (size_t j = 0; j < a->n_graphs; j++)
				read_graph(m, a->graphs[j], o);
		}
}

static void
read_graph(ml_onnx_model *m, const Onnx__GraphProto *g, outcome *o)
{
	ml_onnx_tensor_view view;

	for (size_t i = 0; i < g->n_initializer; i++)
		read_tensor(m, g->initializer[i], o);
	for (size_t i = 0; i < g->n_sparse_initializer; i++)
		count(ml_onnx_sparse_tensor(&cx, m, g->sparse_initializer[i], NULL, &view), &view,
		      o);
	read_nodes(m, g->node, g->n_node, o);
}

static outcome
read_all(ml_status status, ml_onnx_model *m)
{
	outcome o = {.open = status};

	if (status == ML_OK) {
		read_graph(m, m->proto->graph, &o);
		for (size_t i = 0; i < m->proto->n_functions; i++)
			read_nodes(m, m->proto->functions[i]->node, m->proto->functions[i]->n_node,
				   &o);
	}
	ml_onnx_close(m);
	return o;
}

/* Opens in a context of its own, as there may be thousands; every failure must say why. */
static outcome
load(const char *path, const void *bytes, size_t size)
{
	ml_onnx_model *m;

	cx = (ml_context){.memory = ml_memory_libc()};
	ml_arena_init(&cx.arena, &cx.memory);
	ml_status status =
		path ? ml_onnx_open(&cx, path, &m) : ml_onnx_open_bytes(&cx, bytes, size, NULL, &m);
	outcome o = read_all(status, m);
	if (o.open != ML_OK || o.refused)
		assert_true(cx.errors > 0);
	ml_arena_free(&cx.arena);
	return o;
}

/* A bit of everything the format has: subgraph, function, sparse tensor, types, all payloads. */
static msg
varied_model(void)
{
	const int64_t index[] = {0, 2};
	msg graph = new_msg(), raw = new_msg(), floats = new_msg(), ints = new_msg();
	msg sparse = new_msg(), values = new_msg(), indices = new_msg();

	put_string(&raw, TENSOR_NAME, "raw");
	put_int(&raw, TENSOR_DATA_TYPE, 1);
	put_int(&raw, TENSOR_DIMS, 2);
	put_bytes(&raw, TENSOR_RAW_DATA, "01234567", 8);
	put_string(&floats, TENSOR_NAME, "floats");
	put_int(&floats, TENSOR_DATA_TYPE, 1);
	put_bytes(&floats, TENSOR_DIMS, "\1\2", 2);
	put_bytes(&floats, TENSOR_FLOAT_DATA, "01234567", 8);
	put_string(&ints, TENSOR_NAME, "ints");
	put_int(&ints, TENSOR_DATA_TYPE, 7);
	put_int(&ints, TENSOR_DIMS, 2);
	put_int(&ints, TENSOR_INT64_DATA, -1);
	put_int(&ints, TENSOR_INT64_DATA, 300);
	put_string(&values, TENSOR_NAME, "sparse");
	put_int(&values, TENSOR_DATA_TYPE, 6);
	put_int(&values, TENSOR_DIMS, 2);
	put_bytes(&values, TENSOR_INT32_DATA, "\1\2", 2);
	put_int(&indices, TENSOR_DATA_TYPE, 7);
	put_int(&indices, TENSOR_DIMS, 2);
	put_bytes(&indices, TENSOR_RAW_DATA, index, sizeof index);
	put_msg(&sparse, 1, values);
	put_msg(&sparse, 2, indices);
	put_int(&sparse, 3, 3);
	put_msg(&graph, GRAPH_INITIALIZER, raw);
	put_msg(&graph, GRAPH_INITIALIZER, floats);
	put_msg(&graph, GRAPH_INITIALIZER, ints);
	put_msg(&graph, 15, sparse);
	put_value(&graph, GRAPH_INPUT, "x");

	msg body = new_msg(), holder = new_msg(), node = new_node("If", "x -> y");
	put_msg(&body, GRAPH_NODE, new_node("Add", "x, raw -> b"));
	put_value(&body, GRAPH_OUTPUT, "b");
	put_string(&holder, ATTRIBUTE_NAME, "then_branch");
	put_msg(&holder, ATTRIBUTE_G, body);
	put_msg(&node, NODE_ATTRIBUTE, holder);
	put_msg(&graph, GRAPH_NODE, node);
	msg called = new_node("F", "y -> z"), function = new_msg();
	put_string(&called, NODE_DOMAIN, "d");
	put_msg(&graph, GRAPH_NODE, called);
	put_value(&graph, GRAPH_OUTPUT, "z");
	put_string(&function, FUNCTION_NAME, "F");
	put_string(&function, FUNCTION_DOMAIN, "d");
	put_string(&function, FUNCTION_INPUT, "p");
	put_string(&function, FUNCTION_OUTPUT, "q");
	put_msg(&function, FUNCTION_NODE, new_node("Relu", "p -> q"));
	msg model = new_model(graph);
	put_msg(&model, MODEL_FUNCTIONS, function);
	return model;
}

/* The model's bytes outside of any context, as each load has its own. */
static unsigned char *
varied_bytes(size_t *n)
{
	setup(NULL);
	msg m = varied_model();
	unsigned char *bytes = malloc(m.length);
	*n = m.length;
	assert_non_null(bytes);
	memcpy(bytes, m.at, m.length);
	teardown(NULL);
	return bytes;
}

static void
test_varied_model_loads(void **state)
{
	size_t n;
	unsigned char *bytes = varied_bytes(&n);
	outcome o = load(NULL, bytes, n);

	(void)state;
	assert_int_equal(o.open, ML_OK);
	assert_int_equal(o.tensors, 4);
	assert_int_equal(o.refused + o.unsupported, 0);
	free(bytes);
}

static void
test_every_bit_flipped(void **state)
{
	size_t n;
	unsigned char *bytes = varied_bytes(&n);
	int loaded = 0;

	(void)state;
	for (size_t bit = 0; bit < 8 * n; bit++) {
		bytes[bit / 8] ^= (unsigned char)(1 << bit % 8);
		loaded += load(NULL, bytes, n).open == ML_OK;
		bytes[bit / 8] ^= (unsigned char)(1 << bit % 8);
	}
	assert_in_range(loaded, 1, 8 * n - 1); /* payload bits are free, structure is not */
	free(bytes);
}

static void
test_every_truncation(void **state)
{
	size_t n;
	unsigned char *bytes = varied_bytes(&n);

	(void)state;
	for (size_t length = 0; length < n; length++) {
		unsigned char *shorter = malloc(length + !length); /* ends where it ends */
		assert_non_null(shorter);
		memcpy(shorter, bytes, length);
		load(NULL, shorter, length);
		free(shorter);
	}
	free(bytes);
}

static void
test_random_damage(void **state)
{
	size_t n;
	unsigned char *bytes = varied_bytes(&n), *damaged = malloc(n);
	uint64_t random = 1;

	(void)state;
	assert_non_null(damaged);
	for (int turn = 0; turn < 20000; turn++) {
		memcpy(damaged, bytes, n);
		for (int i = 0; i < 1 + turn % 4; i++) {
			random = random * 6364136223846793005u + 1442695040888963407u;
			damaged[(random >> 33) % n] = (unsigned char)(random >> 24);
		}
		load(NULL, damaged, n);
	}
	free(damaged);
	free(bytes);
}

/* Calls `visit` for every .onnx file below the folder; returns how many. */
static int
each_model(const char *folder, void (*visit)(const char *path))
{
	DIR *dir = opendir(folder);
	int n = 0;

	for (struct dirent *e; dir && (e = readdir(dir));) {
		char path[4096];
		size_t length = strlen(e->d_name);
		if (e->d_name[0] == '.')
			continue;
		snprintf(path, sizeof path, "%s/%s", folder, e->d_name);
		if (length > 5 && !strcmp(e->d_name + length - 5, ".onnx")) {
			visit(path);
			n++;
		} else if (e->d_type == DT_DIR) {
			n += each_model(path, visit);
		}
	}
	if (dir)
		closedir(dir);
	return n;
}

static int
each_shared(const char *name, void (*visit)(const char *path))
{
	const char *shared = getenv("MLOPT_SHARED");
	char folder[4096];

	if (!shared) {
		print_message("SKIPPED: MLOPT_SHARED is not set, no models of '%s' are read\n",
			      name);
		skip();
	}
	snprintf(folder, sizeof folder, "%s/%s", shared, name);
	return each_model(folder, visit);
}

static void
must_load(const char *path)
{
	outcome o = load(path, NULL, 0);

	if (o.open != ML_OK || o.refused)
		fail_msg("%s: status %d, %d of %d tensors refused", path, o.open, o.refused,
			 o.tensors);
}

static void
must_not_crash(const char *path)
{
	load(path, NULL, 0);
}

static void
test_shared_models(void **state)
{
	(void)state;
	assert_true(each_shared("models", must_load) > 0);
	assert_true(each_shared("cases", must_load) > 0);
}

static void
test_shared_bad_models(void **state)
{
	(void)state;
	assert_true(each_shared("bad", must_not_crash) > 0);
}

/* Bad models that the loader alone must refuse. */
static void
test_shared_bad_models_refused(void **state)
{
	static const struct {
		const char *name;
		ml_status status; /* ML_OK: opens, but a tensor is refused */
	} cases[] = {
		{"bitflip_0", ML_ERR_FORMAT},
		{"cycle_long_300", ML_ERR_FORMAT},
		{"cycle_two", ML_ERR_FORMAT},
		{"dim_huge_nodata", ML_OK},
		{"dim_product_overflow", ML_OK},
		{"dtype_mismatch_raw", ML_OK},
		{"dtype_undefined", ML_OK},
		{"dup_initializer", ML_ERR_FORMAT},
		{"dup_output_name", ML_ERR_FORMAT},
		{"empty_file", ML_ERR_FORMAT},
		{"ext_absolute", ML_OK},
		{"ext_dev_zero", ML_OK},
		{"ext_length_mismatch", ML_OK},
		{"ext_missing", ML_OK},
		{"ext_nan", ML_OK},
		{"ext_no_location", ML_OK},
		{"ext_short", ML_OK},
		{"float_data_short", ML_OK},
		{"function_explosion", ML_ERR_LIMIT},
		{"len_overflow_u64", ML_ERR_FORMAT},
		{"missing_graph", ML_ERR_FORMAT},
		{"nest_graph_90", ML_ERR_LIMIT},
		{"nest_seqtype_50000", ML_ERR_LIMIT},
		{"no_opset", ML_ERR_FORMAT},
		{"opset_negative", ML_ERR_FORMAT},
		{"output_not_produced", ML_ERR_FORMAT},
		{"raw_long", ML_OK},
		{"text_file", ML_ERR_FORMAT},
		{"trunc_last_byte", ML_ERR_FORMAT},
		{"wiretype_groups", ML_ERR_FORMAT},
	};
	const char *shared = getenv("MLOPT_SHARED");

	(void)state;
	if (!shared) {
		print_message("SKIPPED: MLOPT_SHARED is not set\n");
		skip();
	}
	for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
		char path[4096];
		snprintf(path, sizeof path, "%s/bad/%s/model.onnx", shared, cases[i].name);
		outcome o = load(path, NULL, 0);
		if (o.open != cases[i].status || (o.open == ML_OK && !o.refused))
			fail_msg("%s: status %d, %d of %d tensors refused", cases[i].name, o.open,
				 o.refused, o.tensors);
	}
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_varied_model_loads),
		cmocka_unit_test(test_every_bit_flipped),
		cmocka_unit_test(test_every_truncation),
		cmocka_unit_test(test_random_damage),
		cmocka_unit_test(test_shared_models),
		cmocka_unit_test(test_shared_bad_models),
		cmocka_unit_test(test_shared_bad_models_refused),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
