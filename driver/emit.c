/* emit.c -- the kinds of output that --emit names, and those that are text. */
#include "../codegen/objects.h"
#include "../frontend/export.h"
#include "driver.h"
#include <dirent.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* ---- graphs ---- */

static ml_status
write_ir(const ml_options *o, const ml_module *m, const char *output)
{
	ml_text t;

	ml_text_init(&t, &o->cx->arena);
	ml_print(&t, m);
	return ml_write_text(o, output, "ir", &t);
}

static ml_status
write_dot(const ml_options *o, const ml_module *m, const char *output)
{
	ml_text t;

	ml_text_init(&t, &o->cx->arena);
	ml_print_dot(&t, m);
	return ml_write_text(o, output, "dot", &t);
}

static ml_status
write_onnx(const ml_options *o, const ml_module *m, const char *output)
{
	if (!output)
		return ml_error(o->cx, ML_ERR_ARG, NULL, "an ONNX model needs a file to go to");
	return ml_export_onnx(o->cx, m, output);
}

/* ---- kinds ---- */

static const ml_emit_kind kinds[] = {
	{"so", .artefact = ML_ARTEFACT_SO},
	{"obj", .artefact = ML_ARTEFACT_OBJ},
	{"lib", .artefact = ML_ARTEFACT_LIB},
	{"exe", .artefact = ML_ARTEFACT_EXE},
	{"onnx", .write = write_onnx, .until = "integers"},
	{"ir", .write = write_ir},
	{"dot", .write = write_dot},
	{"llvm", .ending = ".ll"},
	{"asm", .ending = ".s"},
};

ml_status
ml_choose_emit(const ml_options *o, const ml_emit_kind **kind)
{
	for (size_t i = 0; i < sizeof kinds / sizeof *kinds; i++)
		if (!strcmp(o->emit ? o->emit : "so", kinds[i].name)) {
			*kind = &kinds[i];
			return ML_OK;
		}
	ml_error(o->cx, ML_ERR_ARG, NULL, "there is no output kind '%s'", o->emit);
	ml_hint(o->cx, "kinds: so obj lib exe onnx ir dot llvm asm");
	return ML_ERR_ARG;
}

/* ---- code as text ---- */

static int
has_ending(const struct dirent *entry, const char *ending)
{
	size_t n = strlen(entry->d_name), k = strlen(ending);

	return n > k && !strcmp(entry->d_name + n - k, ending);
}

static ml_status
add_file(ml_context *cx, ml_text *t, const char *folder, const char *name, const char *comment)
{
	FILE *f = fopen(ml_format(&cx->arena, "%s/%s", folder, name), "rb");
	char part[1 << 14];
	size_t n;

	if (!f)
		return ml_error(cx, ML_ERR_IO, NULL, "cannot read '%s/%s'", folder, name);
	ml_put(t, "%s ---- %s ----\n", comment, name);
	while ((n = fread(part, 1, sizeof part, f)) > 0)
		ml_put_bytes(t, part, n);
	fclose(f);
	return ML_OK;
}

/* Joins the files of the ending, and removes all. */
static ml_status
join_files(ml_context *cx, const char *folder, const char *ending, ml_text *t)
{
	struct dirent **entry;
	int n = scandir(folder, &entry, NULL, alphasort);
	ml_status status = ML_OK;

	for (int i = 0; i < n; i++) {
		if (status == ML_OK && has_ending(entry[i], ending))
			status = add_file(cx, t, folder, entry[i]->d_name,
					  ending[1] == 'l' ? ";" : "#");
		unlink(ml_format(&cx->arena, "%s/%s", folder, entry[i]->d_name));
		free(entry[i]);
	}
	if (n >= 0)
		free(entry);
	return status;
}

ml_status
ml_write_code_text(const ml_options *o, const ml_emit_kind *kind, ml_plan *plan,
		   const ml_levels *levels, const char *output)
{
	ml_context *cx = o->cx;
	char folder[] = "/tmp/mlopt.XXXXXX";
	ml_object_options oo = {.entry = {.levels = levels->at, .nlevels = levels->count},
				.making = {.workers = ml_workers(o), .save_temps = folder}};
	ml_signature signature;
	ml_objects objects = {0};
	ml_text t;

	if (!mkdtemp(folder))
		return ml_error(cx, ML_ERR_IO, NULL, "cannot make a folder in /tmp: %s",
				strerror(errno));
	ml_signature_make(plan, o->name, &signature);
	oo.entry.signature = signature.text;
	ml_text_init(&t, &cx->arena);
	ml_status status = ml_objects_make(cx, plan, &oo, &objects);
	ml_objects_free(&objects);
	ml_status joined = join_files(cx, folder, kind->ending, &t);
	rmdir(folder);
	if (status != ML_OK || joined != ML_OK)
		return status != ML_OK ? status : joined;
	return ml_write_text(o, output, kind->name, &t);
}
