/* test_aot.c -- models in files: loaded, linked, called by their C names, the same bytes each time.
 */
#include "harness_model.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>
#include <dirent.h>
#include <cmocka.h>

static char folder[64]; /* of this run; emptied at its end */

static int
make_folder(void **state)
{
	(void)state;
	strcpy(folder, "/tmp/mlopt-aot-XXXXXX");
	return mkdtemp(folder) ? 0 : -1;
}

static int
remove_folder(void **state)
{
	DIR *d = opendir(folder);
	struct dirent *entry;

	(void)state;
	while (d && (entry = readdir(d)))
		if (entry->d_name[0] != '.')
			unlinkat(dirfd(d), entry->d_name, 0);
	closedir(d);
	return rmdir(folder);
}

static const char *
in_folder(model *m, const char *name)
{
	return ml_format(&m->arena, "%s/%s", folder, name);
}

static char *
read_file(model *m, const char *path, size_t *size)
{
	struct stat st;
	FILE *f = fopen(path, "rb");

	if (!f)
		fail_msg("%s is not there", path);
	assert_int_equal(fstat(fileno(f), &st), 0);
	*size = (size_t)st.st_size;
	char *bytes = ml_alloc(&m->arena, *size + 1);
	assert_int_equal(fread(bytes, 1, *size, f), *size);
	fclose(f);
	return bytes;
}

/* Runs a shell command; its failure is the test's. */
static void
shell(const char *command)
{
	int status = system(command);

	if (!WIFEXITED(status) || WEXITSTATUS(status))
		fail_msg("failed: %s", command);
}

static void
test_shared_object(void **state)
{
	const ml_target *level[ML_LEVEL_COUNT];
	int n = model_levels(level);
	model m;

	(void)state;
	model_open(&m, model_linear);
	const char *path = in_folder(&m, "linear.so");
	model_write(&m, (ml_aot_options){.kind = ML_ARTEFACT_SO}, path);
	for (int i = 0; i < n; i++) {
		setenv("MLOPT_ISA", level[i]->name, 1);
		model_load(&m, path);
		assert_int_equal(ml_model_describe(m.model)->nlevels, n);
		model_check(&m, (int64_t[]){1, 1});
		model_check(&m, (int64_t[]){5, 9});
		ml_model_free(m.model);
		m.model = NULL;
	}
	unsetenv("MLOPT_ISA");
	model_close(&m);
}

static void
test_description(void **state)
{
	model m;

	(void)state;
	model_open(&m, model_nonzero);
	const char *path = in_folder(&m, "find 1.so");
	model_write(&m, (ml_aot_options){.kind = ML_ARTEFACT_SO}, path);
	model_load(&m, path);
	const ml_model_info *i = ml_model_describe(m.model);
	assert_string_equal(i->name, "nonzero");
	assert_string_equal(i->entry, "find_1");
	assert_int_equal(i->ninputs, 1);
	assert_string_equal(i->input[0].name, "x");
	assert_string_equal(i->input[0].dim[0], "n");
	assert_string_equal(i->output[0].dim[0], "1");
	assert_string_equal(i->output[0].dim[1], "?0");
	assert_int_equal(i->nsizes, 1);
	assert_int_equal(ml_model_find_input(m.model, "y"), -1);
	assert_int_equal(ml_model_find_output(m.model, "y"), 0);
	model_check(&m, (int64_t[]){100, 0});
	model_close(&m);
}

/* Called without a session, the workspace given or not, on one thread and on two. */
static void
test_natural_call(void **state)
{
	float x[6] = {0, 3, -1, 0, 2, 5};
	int64_t y[6], count = 0, workspace_bytes = 0;
	int32_t result = -1;
	model m;

	(void)state;
	model_open(&m, model_nonzero);
	const char *path = in_folder(&m, "natural.so");
	model_write(&m, (ml_aot_options){.kind = ML_ARTEFACT_SO}, path);
	model_load(&m, path);
	int64_t (*need)(int64_t) = (int64_t (*)(int64_t))ml_model_function(m.model, "_workspace");
	workspace_bytes = need(6);
	assert_true(workspace_bytes > 0);
	assert_int_equal(need(-1), -ML_ERR_SHAPE);
	for (int32_t i = 0; i < 2; i++) {
		ml_argument threads = {.dtype = ML_s32, .integer = i + 1};
		assert_int_equal(
			ml_call(ml_model_function(m.model, "_set_threads"), &threads, 1, &result),
			ML_OK);
		assert_int_equal(result, 0);
		ml_argument a[] = {
			{.pointer = x},
			{.pointer = y},
			{ML_s64, {.integer = 6}},
			{.pointer = &count},
			{.pointer = i ? malloc((size_t)workspace_bytes) : NULL},
		};
		memset(y, 0, sizeof y);
		assert_int_equal(ml_call(ml_model_function(m.model, ""), a, 5, &result), ML_OK);
		assert_int_equal(result, 0);
		assert_int_equal(count, 4);
		assert_memory_equal(y, ((int64_t[]){1, 2, 4, 5}), 4 * sizeof *y);
		free(a[4].pointer);
	}
	ml_call(ml_model_function(m.model, "_set_threads"), &(ml_argument){ML_s32, {.integer = 1}},
		1, &result);
	assert_null(ml_model_function(m.model, "_nothing"));
	model_close(&m);
}

/* Same plan and options: same bytes, whatever the number of workers and the place. */
static void
test_reproducible(void **state)
{
	static const char *const names[] = {"one.so", "two.so"};
	size_t size[2];
	char *bytes[2];
	model m;

	(void)state;
	model_open(&m, model_linear);
	for (int i = 0; i < 2; i++) {
		const char *path = in_folder(&m, names[i]);
		model_write(&m,
			    (ml_aot_options){.kind = ML_ARTEFACT_SO,
					     .entry = "same",
					     .making = {.workers = 1 + 2 * i}},
			    path);
		bytes[i] = read_file(&m, path, &size[i]);
	}
	assert_int_equal(size[0], size[1]);
	assert_memory_equal(bytes[0], bytes[1], size[0]);
	model_close(&m);
}

static int
count_files(void)
{
	DIR *d = opendir(folder);
	int n = 0;

	assert_non_null(d);
	while (readdir(d))
		n++;
	closedir(d);
	return n;
}

/* An artefact takes the place of another: whole, with its header and nothing left beside it, and
 * who has the old one open keeps it. */
static void
test_replaced(void **state)
{
	const ml_aot_options o = {.kind = ML_ARTEFACT_SO, .entry = "same"};
	size_t size[3];
	char *bytes[3];
	model m, other;

	(void)state;
	model_open(&m, model_nonzero);
	model_open(&other, model_linear);
	const char *path = in_folder(&m, "replaced.so"), *held = in_folder(&m, "held.so");
	model_write(&other, o, path);
	bytes[0] = read_file(&m, path, &size[0]);
	int files = count_files();
	assert_int_equal(link(path, held), 0);
	model_write(&m, o, path);
	assert_int_equal(count_files(), files + 1);
	model_write(&m, o, in_folder(&m, "new.so"));
	bytes[1] = read_file(&m, path, &size[1]);
	bytes[2] = read_file(&m, in_folder(&m, "new.so"), &size[2]);
	assert_int_equal(size[1], size[2]);
	assert_memory_equal(bytes[1], bytes[2], size[1]);
	bytes[1] = read_file(&m, in_folder(&m, "replaced.h"), &size[1]);
	bytes[2] = read_file(&m, in_folder(&m, "new.h"), &size[2]);
	assert_string_equal(strstr(bytes[1], "#ifdef"), strstr(bytes[2], "#ifdef"));
	bytes[2] = read_file(&m, held, &size[2]);
	assert_int_equal(size[0], size[2]);
	assert_memory_equal(bytes[0], bytes[2], size[0]);
	model_close(&m);
	model_close(&other);
}

static const char application[] =
	"#include \"first.h\"\n#include \"second.h\"\n#include <string.h>\n"
	"int main(void)\n{\n"
	"	float x[4] = {0, 1, 0, 2}, table[15] = {[9] = 7}, row[3];\n"
	"	int64_t y[4], n = 0, index = 3;\n"
	"	if (first(x, y, 4, &n, NULL) || n != 2 || y[0] != 1 || y[1] != 3) return 1;\n"
	"	if (second(&index, table, row, 1, NULL) || row[0] != 7) return 2;\n"
	"	index = 9;\n"
	"	if (second(&index, table, row, 1, NULL) != 9) return 3;\n"
	"	if (first_workspace(4) <= 0 || first_set_threads(2)) return 4;\n"
	"	if (strncmp(first_signature, \"mlopt 1\\n\", 8)) return 5;\n"
	"	return first(x, y, 4, &n, NULL);\n}\n";

static void
write_application(model *m)
{
	FILE *f = fopen(in_folder(m, "app.c"), "w");

	assert_non_null(f);
	fputs(application, f);
	fclose(f);
}

/* Two models in one program, through their headers: as object and archive, and as shared objects,
 * which must not take each other's tables. */
static void
test_linked(void **state)
{
	model first, second;

	(void)state;
	model_open(&first, model_nonzero);
	model_open(&second, model_gather);
	model_write(&first, (ml_aot_options){.kind = ML_ARTEFACT_OBJ},
		    in_folder(&first, "first.o"));
	model_write(&second, (ml_aot_options){.kind = ML_ARTEFACT_LIB},
		    in_folder(&first, "second.a"));
	write_application(&first);
	shell(ml_format(&first.arena,
			"cd %s && cc -std=c11 -Wall -Wextra -Werror app.c first.o second.a -o app "
			"&& ./app",
			folder));
	model_write(&first, (ml_aot_options){.kind = ML_ARTEFACT_SO},
		    in_folder(&first, "first.so"));
	model_write(&second, (ml_aot_options){.kind = ML_ARTEFACT_SO},
		    in_folder(&first, "second.so"));
	shell(ml_format(&first.arena,
			"cd %s && cc -std=c11 app.c ./first.so ./second.so -o app && ./app",
			folder));
	model_close(&first);
	model_close(&second);
}

/* The program times its model; wrong sizes and words are refused. */
static void
test_program(void **state)
{
	model m;

	(void)state;
	model_open(&m, model_linear);
	model_write(&m, (ml_aot_options){.kind = ML_ARTEFACT_EXE}, in_folder(&m, "timed"));
	shell(ml_format(&m.arena,
			"cd %s && ./timed batch=2 n=3 --runs=5 --threads=2 | grep -q "
			"'median_ms.*\"runs\": 5'",
			folder));
	shell(ml_format(&m.arena,
			"cd %s && ./timed > out && ! ./timed batch=65 > out && "
			"! ./timed batch=x > out && ! ./timed nothing=1 > out",
			folder));
	model_close(&m);
}

/* The other kind of machine, emulated, from headers and objects alone. */
static void
test_emulated(void **state)
{
	const ml_target *neon = ml_target_named("neon");
	ml_aot_options o = {.kind = ML_ARTEFACT_SO, .levels = &neon, .nlevels = 1};
	model first, second;

	(void)state;
	if (system("command -v qemu-aarch64 aarch64-linux-gnu-gcc > /dev/null 2>&1")) {
		print_message(
			"no qemu-aarch64 or aarch64-linux-gnu-gcc: code for aarch64 not run\n");
		skip();
	}
	model_open(&first, model_nonzero);
	model_open(&second, model_gather);
	model_write(&first, o, in_folder(&first, "first.so"));
	o.kind = ML_ARTEFACT_OBJ;
	model_write(&second, o, in_folder(&first, "second.o"));
	write_application(&first);
	shell(ml_format(&first.arena,
			"cd %s && aarch64-linux-gnu-gcc app.c ./first.so second.o -o app && "
			"qemu-aarch64 -L /usr/aarch64-linux-gnu ./app",
			folder));
	model_close(&first);
	model_close(&second);
}

/* Code for another machine is made and refused here with a clear message. */
static void
test_foreign(void **state)
{
	const ml_target *foreign = ml_target_named(
#if defined(__x86_64__)
		"neon"
#else
		"avx2"
#endif
	);
	ml_message why = {""};
	ml_model *none;
	model m;

	(void)state;
	model_open(&m, model_linear);
	const char *path = in_folder(&m, "foreign.so");
	model_write(&m, (ml_aot_options){.kind = ML_ARTEFACT_SO, .levels = &foreign, .nlevels = 1},
		    path);
	assert_int_equal(ml_model_load(path, NULL, &none, &why), ML_ERR_TARGET);
	assert_null(none);
	assert_non_null(strstr(why.text, "is compiled for"));
	model_close(&m);
}

/* What cannot be written leaves nothing behind. */
static void
test_no_place(void **state)
{
	const ml_target *level[ML_LEVEL_COUNT];
	model m;

	(void)state;
	model_open(&m, model_linear);
	ml_aot_options o = {.levels = level, .nlevels = model_levels(level)};
	ml_plan *plan = model_plan(&m);
	assert_int_equal(ml_aot_write(&m.cx, plan, &o, in_folder(&m, "no/such/place.so")),
			 ML_ERR_IO);
	assert_int_equal(mkdir(in_folder(&m, "taken.so"), 0700), 0);
	assert_int_equal(ml_aot_write(&m.cx, plan, &o, in_folder(&m, "taken.so")), ML_ERR_IO);
	assert_int_equal(rmdir(in_folder(&m, "taken.so")), 0);
	assert_int_not_equal(access(in_folder(&m, "taken.h"), F_OK), 0);
	ml_module_free(plan->m);
	model_close(&m);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_shared_object), cmocka_unit_test(test_description),
		cmocka_unit_test(test_natural_call),  cmocka_unit_test(test_reproducible),
		cmocka_unit_test(test_linked),        cmocka_unit_test(test_program),
		cmocka_unit_test(test_emulated),      cmocka_unit_test(test_foreign),
		cmocka_unit_test(test_no_place),      cmocka_unit_test(test_replaced),
	};

	return cmocka_run_group_tests(tests, make_folder, remove_folder);
}
