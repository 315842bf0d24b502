/* test_onnx_model.c -- opening models: what is refused as a whole, limits, sizes, lost memory. */
#include "harness_bytes.h"
#include "harness_folder.h"
#include <dirent.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* x -> Relu -> y */
static msg
small_graph(void)
{
	msg graph = new_msg();

	put_value(&graph, GRAPH_INPUT, "x");
	put_msg(&graph, GRAPH_NODE, new_node("Relu", "x -> y"));
	put_value(&graph, GRAPH_OUTPUT, "y");
	return graph;
}

static msg
opset_import(const char *domain, int64_t version)
{
	msg opset = new_msg();

	if (domain)
		put_string(&opset, OPSET_DOMAIN, domain);
	put_int(&opset, OPSET_VERSION, version);
	return opset;
}

static void
assert_refused(msg model, ml_status expected, const char *text)
{
	ml_onnx_model *m;

	assert_int_equal(open_msg(model, &m), expected);
	assert_null(m);
	assert_said(text);
}

static void
test_small_model(void **state)
{
	ml_onnx_model *m;

	(void)state;
	assert_int_equal(open_msg(new_model(small_graph()), &m), ML_OK);
	assert_int_equal(m->proto->ir_version, 8);
	assert_int_equal(m->proto->graph->n_node, 1);
	assert_string_equal(m->proto->graph->node[0]->op_type, "Relu");
	assert_string_equal(m->proto->graph->node[0]->input[0], "x");
	assert_string_equal(m->proto->graph->output[0]->name, "y");
	ml_onnx_close(m);
	ml_onnx_close(NULL);
	assert_int_equal(cx.diags.count, 0);
}

static void
test_no_model(void **state)
{
	msg no_opset = new_msg(), junk = new_msg();

	(void)state;
	assert_refused(new_msg(), ML_ERR_FORMAT, "the file is empty");
	ml_put(&junk, "this is not a model");
	assert_refused(junk, ML_ERR_FORMAT, "hint: this is no ONNX file");
	msg no_graph = new_msg();
	put_msg(&no_graph, MODEL_OPSET_IMPORT, opset_import(NULL, 17));
	assert_refused(no_graph, ML_ERR_FORMAT, "the model has no graph");
	put_msg(&no_opset, MODEL_GRAPH, small_graph());
	assert_refused(no_opset, ML_ERR_FORMAT, "the model imports no operator set");
}

static void
test_files(void **state)
{
	msg model = new_model(small_graph());
	ml_onnx_model *m;

	(void)state;
	open_folder();
	write_file("m.onnx", model.at, model.length);
	assert_int_equal(ml_onnx_open(&cx, in_folder("m.onnx"), &m), ML_OK);
	ml_onnx_close(m);
	assert_int_equal(ml_onnx_open(&cx, in_folder("none.onnx"), &m), ML_ERR_IO);
	assert_said("no such file");
	assert_int_equal(ml_onnx_open(&cx, in_folder("none/m.onnx"), &m), ML_ERR_IO);
	assert_said("cannot be opened");
	assert_int_equal(ml_onnx_open(&cx, folder, &m), ML_ERR_IO);
	assert_said("not a regular file");
	assert_int_equal(ml_onnx_open(&cx, "", &m), ML_ERR_IO);
	remove_folder();
}

static void
test_opsets(void **state)
{
	msg model = new_model(small_graph());
	ml_onnx_model *m;

	(void)state;
	put_msg(&model, MODEL_OPSET_IMPORT, opset_import("com.acme", 3));
	assert_int_equal(open_msg(model, &m), ML_OK);
	Onnx__OperatorSetIdProto **imports = m->proto->opset_import;
	size_t n = m->proto->n_opset_import;
	assert_int_equal(ml_onnx_opset(imports, n, NULL), 17);
	assert_int_equal(ml_onnx_opset(imports, n, ""), 17);
	assert_int_equal(ml_onnx_opset(imports, n, "ai.onnx"), 17);
	assert_int_equal(ml_onnx_opset(imports, n, "com.acme"), 3);
	assert_int_equal(ml_onnx_opset(imports, n, "com"), 0);
	ml_onnx_close(m);
	put_msg(&model, MODEL_OPSET_IMPORT, opset_import("ai.onnx", 16));
	assert_refused(model, ML_ERR_FORMAT, "operator set 'ai.onnx' is imported twice");
}

static void
test_opset_versions(void **state)
{
	static const struct {
		int64_t version;
		ml_status status;
	} cases[] = {{-3, ML_ERR_FORMAT},
		     {0, ML_ERR_FORMAT},
		     {6, ML_ERR_UNSUPPORTED},
		     {7, ML_OK},
		     {28, ML_OK},
		     {29, ML_ERR_UNSUPPORTED},
		     {INT64_MAX, ML_ERR_FORMAT}};
	ml_onnx_model *m;

	(void)state;
	for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
		msg model = new_msg();
		put_msg(&model, MODEL_OPSET_IMPORT, opset_import(NULL, cases[i].version));
		put_msg(&model, MODEL_GRAPH, small_graph());
		assert_int_equal(open_msg(model, &m), cases[i].status);
		ml_onnx_close(m);
	}
	assert_said("operator set 29 is outside of the versions 7 to 28 we know");
	assert_said("operator set 'ai.onnx' has version -3");
	msg model = new_model(small_graph());
	for (int i = 0; i < 1000; i++)
		put_msg(&model, MODEL_OPSET_IMPORT,
			opset_import(ml_format(&cx.arena, "d%d", i), 1));
	assert_refused(model, ML_ERR_LIMIT, "more than 1000 operator sets are imported");
}

static void
test_newer_ir_is_a_warning(void **state)
{
	msg model = new_model(small_graph());
	ml_onnx_model *m;

	(void)state;
	put_int(&model, MODEL_IR_VERSION, 99);
	assert_int_equal(open_msg(model, &m), ML_OK);
	assert_said("warning: ONNX IR version 99 is newer than 14");
	ml_onnx_close(m);
}

/* Names are bytes: whatever they are, they come through, and messages stay harmless. */
static void
test_odd_names(void **state)
{
	msg graph = small_graph(), node = new_node("Relu", "\xff\n%s -> z");
	ml_onnx_model *m;

	(void)state;
	put_value(&graph, GRAPH_INPUT, "\xff\n%s");
	put_msg(&graph, GRAPH_NODE, node);
	assert_int_equal(open_msg(new_model(graph), &m), ML_OK);
	assert_string_equal(m->proto->graph->input[1]->name, "\xff\n%s");
	ml_onnx_close(m);
	put_msg(&graph, GRAPH_NODE, new_node("Relu", "\x1b[2J -> z2"));
	assert_refused(new_model(graph), ML_ERR_FORMAT, "input '\\x1b[2J' is not defined anywhere");
}

/* Two bytes of empty node unpack to a struct of hundreds. */
static void
test_unpacked_size_is_limited(void **state)
{
	enum { NODES = 1 << 20 };
	msg graph = new_msg();

	(void)state;
	for (int i = 0; i < NODES; i++)
		put_msg(&graph, GRAPH_NODE, new_msg());
	assert_refused(new_model(graph), ML_ERR_LIMIT, "MiB when unpacked");
}

static void
test_provenance_outlives_the_model(void **state)
{
	ml_onnx_model *m;

	(void)state;
	assert_int_equal(open_msg(new_model(small_graph()), &m), ML_OK);
	const ml_prov *p = ml_onnx_prov(&cx.arena, m->proto->graph->node[0], 4, 17);
	ml_onnx_close(m);
	assert_string_equal(p->node, "");
	assert_string_equal(p->op, "Relu");
	assert_int_equal(p->opset, 17);
	assert_int_equal(p->index, 4);
}

/* A counting allocator; block number `fail_at` is refused. */
typedef struct budget {
	size_t live, peak;
	int blocks, fail_at;
} budget;

static void *
budgeted(void *user, void *p, size_t old_size, size_t new_size)
{
	budget *b = user;

	if (new_size && b->blocks++ == b->fail_at)
		return NULL;
	b->live += new_size - old_size;
	if (b->peak < b->live)
		b->peak = b->live;
	if (new_size)
		return realloc(p, new_size);
	free(p);
	return NULL;
}

/* 3 GiB of weights, of which only the ends exist on disk and nothing is read. */
static void
test_model_of_three_gigabytes(void **state)
{
	const uint64_t elements = (uint64_t)3 << 30;
	msg tensor = new_msg(), graph_end = new_msg(), head = new_msg();
	budget b = {.fail_at = -1};
	ml_onnx_tensor_view view;
	ml_onnx_model *m;
	int fd;

	(void)state;
	put_int(&tensor, TENSOR_DIMS, (int64_t)elements);
	put_int(&tensor, TENSOR_DATA_TYPE, 2);
	put_string(&tensor, TENSOR_NAME, "w");
	put_tag(&tensor, TENSOR_RAW_DATA, 2);
	put_varint(&tensor, elements);
	put_value(&graph_end, GRAPH_OUTPUT, "w");
	put_msg(&head, MODEL_OPSET_IMPORT, opset_import(NULL, 17));
	put_tag(&head, MODEL_GRAPH, 2);
	msg initializer = new_msg();
	put_tag(&initializer, GRAPH_INITIALIZER, 2);
	put_varint(&initializer, tensor.length + elements);
	put_varint(&head, initializer.length + tensor.length + elements + graph_end.length);
	ml_put_bytes(&head, initializer.at, initializer.length);
	ml_put_bytes(&head, tensor.at, tensor.length);
	open_folder();
	write_file("big.onnx", head.at, head.length);
	fd = open(in_folder("big.onnx"), O_WRONLY);
	assert_int_equal(
		pwrite(fd, graph_end.at, graph_end.length, (off_t)(head.length + elements)),
		graph_end.length);
	assert_int_equal(pwrite(fd, "Z", 1, (off_t)(head.length + elements - 1)), 1);
	close(fd);

	ml_memory outside = cx.memory;
	cx.memory = (ml_memory){.resize = budgeted, .user = &b};
	assert_int_equal(ml_onnx_open(&cx, in_folder("big.onnx"), &m), ML_OK);
	assert_int_equal(ml_onnx_tensor(&cx, m, m->proto->graph->initializer[0], NULL, &view),
			 ML_OK);
	ml_onnx_close(m);
	assert_int_equal(view.count, elements);
	assert_int_equal(view.bytes->size, elements);
	assert_int_equal(((const char *)view.bytes->bytes)[elements - 1], 'Z');
	ml_blob_drop(view.bytes);
	assert_true(b.peak < 100000);
	cx.memory = outside;
	remove_folder();
}

static int
open_descriptors(void)
{
	DIR *dir = opendir("/proc/self/fd");
	int n = 0;

	assert_non_null(dir);
	while (readdir(dir))
		n++;
	closedir(dir);
	return n;
}

/* Opens the model and reads its tensor; what was opened is left for the caller to close. */
static ml_status
open_and_read(ml_context *small, ml_onnx_model **m)
{
	jmp_buf *boundary = small->memory.on_fail;
	ml_onnx_tensor_view view;
	ml_status status = ml_onnx_open(small, in_folder("m.onnx"), m);

	assert_ptr_equal(small->memory.on_fail, boundary);
	if (status != ML_OK) {
		assert_int_equal(status, ML_ERR_NOMEM);
		assert_int_equal(small->errors, 1);
		return status;
	}
	status = ml_onnx_tensor(small, *m, (*m)->proto->graph->initializer[0], NULL, &view);
	assert_int_equal(status, ML_OK);
	ml_blob_drop(view.bytes);
	return status;
}

static bool
opens(ml_context *small, ml_onnx_model **m)
{
	jmp_buf boundary;

	small->memory.on_fail = &boundary;
	if (setjmp(boundary))
		return false;
	return open_and_read(small, m) == ML_OK;
}

/* Allocation number `fail_at` fails: the error is reported, nothing is lost.  True when there was
 * none of that number and all went well. */
static bool
survives(int fail_at)
{
	budget b = {.fail_at = fail_at};
	ml_context small = {.memory = {.resize = budgeted, .user = &b}};
	ml_onnx_model *m = NULL;
	int descriptors = open_descriptors();

	ml_arena_init(&small.arena, &small.memory);
	bool done = opens(&small, &m);
	ml_onnx_close(m);
	ml_arena_free(&small.arena);
	assert_int_equal(b.live, 0);
	assert_int_equal(open_descriptors(), descriptors);
	return done;
}

static void
test_failing_allocations(void **state)
{
	msg graph = small_graph(), tensor = new_msg();
	int fail_at = 0;

	(void)state;
	put_string(&tensor, TENSOR_NAME, "w");
	put_int(&tensor, TENSOR_DATA_TYPE, 3);
	put_int(&tensor, TENSOR_DIMS, 3);
	put_bytes(&tensor, TENSOR_INT32_DATA, "\1\2\3", 3);
	put_msg(&graph, GRAPH_INITIALIZER, tensor);
	for (int i = 0; i < 300; i++) /* more than one chunk of everything */
		put_msg(&graph, GRAPH_NODE, new_node("A", ml_format(&cx.arena, "x, w -> t%d", i)));
	msg model = new_model(graph);
	open_folder();
	write_file("m.onnx", model.at, model.length);
	while (!survives(fail_at))
		fail_at++;
	assert_true(fail_at > 10);
	remove_folder();
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_small_model),
		TEST(test_no_model),
		TEST(test_files),
		TEST(test_opsets),
		TEST(test_opset_versions),
		TEST(test_newer_ir_is_a_warning),
		TEST(test_odd_names),
		TEST(test_unpacked_size_is_limited),
		TEST(test_provenance_outlives_the_model),
		TEST(test_model_of_three_gigabytes),
		TEST(test_failing_allocations),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
