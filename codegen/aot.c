/* aot.c -- a plan becomes a file: objects made, weights written, linked, moved into place. */
#include "aot.h"
#include "../ir/catch.h"
#include "contract.h"
#include "embedded.h"
#include "image.h"
#include "link.h"
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

/* One artefact on its way; everything temporary lies in a folder beside it. */
typedef struct artefact {
	ml_context *cx;
	ml_plan *plan;
	ml_arena *arena; /* the plan's */
	const ml_aot_options *o;
	const char *path, *folder;
	ml_signature signature;
	ml_objects objects;
	ml_words inputs; /* of the linker: paths in the folder */
	ml_image image;
} artefact;

static const ml_target *
target_of(const artefact *a)
{
	return a->o->levels[0];
}

static bool
is_x86_64(const artefact *a)
{
	return !strncmp(target_of(a)->triple, "x86_64", 6);
}

static const char *
in_folder(const artefact *a, const char *name)
{
	return ml_format(a->arena, "%s/%s", a->folder, name);
}

static ml_status
cannot_write(const artefact *a, const char *path)
{
	return ml_error(a->cx, ML_ERR_IO, NULL, "cannot write '%s': %s", ml_escaped(a->arena, path),
			strerror(errno));
}

static ml_status
write_file(const artefact *a, const char *path, const void *bytes, size_t n)
{
	FILE *f = fopen(path, "wb");
	bool fine = f && fwrite(bytes, 1, n, f) == n;

	if (f && fclose(f))
		fine = false;
	return fine ? ML_OK : cannot_write(a, path);
}

/* ---- what is linked ---- */

static ml_status
write_objects(artefact *a)
{
	for (int i = 0; i < a->objects.count; i++) {
		ml_object *o = &a->objects.at[i];
		const char *path = in_folder(a, ml_format(a->arena, "%s.o", o->name));
		ML_STEP(write_file(a, path, LLVMGetBufferStart(o->bytes),
				   LLVMGetBufferSize(o->bytes)));
		LLVMDisposeMemoryBuffer(o->bytes);
		o->bytes = NULL;
		ML_PUSH(a->arena, a->inputs, path);
	}
	const char *weights = in_folder(a, "weights.o");
	ml_bytes room = ml_image_room(a->arena, ml_image_bytes(a->plan), target_of(a));
	ML_PUSH(a->arena, a->inputs, weights);
	return write_file(a, weights, room.at, room.size);
}

static ml_status
make_image(void *job)
{
	artefact *a = job;
	bool pairs = false;

	for (int i = 0; i < a->o->nlevels; i++)
		pairs |= ml_tile_folds(a->o->levels[i]);
	return ml_image_make(a->cx, a->plan, pairs, a->o->making.workers, &a->image);
}

static void
add_word(artefact *a, ml_words *w, const char *word)
{
	ML_PUSH(a->arena, *w, word);
}

static void
add_words(artefact *a, ml_words *w, const char *const *words)
{
	while (*words)
		add_word(a, w, *words++);
}

static void
add_inputs(artefact *a, ml_words *w)
{
	for (int i = 0; i < a->inputs.count; i++)
		add_word(a, w, a->inputs.at[i]);
}

/* The image is made while the first one, a linker, is at work. */
static ml_status
run_tool(artefact *a, const ml_words *w)
{
	ml_status made = ML_OK;
	ml_tool tool;

	ML_STEP(ml_tool_start(a->cx, a->arena, w, in_folder(a, "log"), &tool));
	if (!a->image.at)
		made = ml_catch(a->cx, make_image, a);
	ml_status ended = ml_tool_end(a->cx, a->arena, &tool);
	return made ? made : ended;
}

static ml_status
need_tool(artefact *a, const char *name, ml_words *w)
{
	const char *path = ml_find_tool(a->arena, name);

	if (!path) {
		ml_status status =
			ml_error(a->cx, ML_ERR_CODEGEN, NULL, "%s is not installed", name);
		ml_hint(a->cx, "it comes with LLVM: packages lld and llvm");
		return status;
	}
	add_word(a, w, path);
	return ML_OK;
}

/* ---- shared objects ---- */

/* -Bsymbolic: a program may link several models, and each must find its own tables. */
static ml_status
link_with_lld(artefact *a, const char *linker, const char *out)
{
	const ml_embedded libc = ml_embedded_libc(target_of(a)->triple);
	const char *stub = in_folder(a, "libc.so");
	ml_words w = {0};

	ML_STEP(write_file(a, stub, libc.at, libc.size));
	add_words(a, &w,
		  (const char *const[]){linker, "-shared", "-Bsymbolic", "-o", out,
					"--build-id=none", "--hash-style=gnu", "-z", "relro", "-z",
					"now", "-z", "noexecstack", NULL});
	if (!a->signature.custom.count) /* else the application defines some symbols */
		add_words(a, &w, (const char *const[]){"-z", "defs", NULL});
	add_inputs(a, &w);
	add_word(a, &w, stub);
	return run_tool(a, &w);
}

static bool
is_native(const artefact *a)
{
#if defined(__x86_64__)
	return is_x86_64(a);
#else
	return !is_x86_64(a);
#endif
}

static ml_status
link_shared(artefact *a, const char *out)
{
	const char *linker = ml_find_tool(a->arena, "ld.lld");
	ml_words w = {0};

	if (linker)
		return link_with_lld(a, linker, out);
	const char *cc = is_native(a) ? ml_find_program(a->arena, "cc") : NULL;
	if (!cc)
		return need_tool(a, "ld.lld", &w); /* which says that it is missing */
	add_words(a, &w,
		  (const char *const[]){cc, "-shared", "-o", out, "-Wl,--build-id=none,-Bsymbolic",
					"-Wl,-z,relro,-z,now,-z,noexecstack", NULL});
	add_inputs(a, &w);
	return run_tool(a, &w);
}

/* ---- objects, archives, programs ---- */

/* One object; of its symbols only the model's own stay global, so that an application can hold
 * several models. */
static ml_status
link_object(artefact *a, const char *out)
{
	static const char *const suffixes[] = {"", "_workspace", "_set_threads", "_signature",
					       "_program"};
	const char *joined = in_folder(a, "joined.o");
	ml_words link = {0}, hide = {0};

	ML_STEP(need_tool(a, "ld.lld", &link));
	add_words(a, &link, (const char *const[]){"-r", "-o", joined, NULL});
	add_inputs(a, &link);
	ML_STEP(run_tool(a, &link));
	ML_STEP(need_tool(a, "llvm-objcopy", &hide));
	for (size_t i = 0; i < sizeof suffixes / sizeof *suffixes; i++)
		add_word(a, &hide,
			 ml_format(a->arena, "--keep-global-symbol=%s%s", a->signature.entry,
				   suffixes[i]));
	add_words(a, &hide, (const char *const[]){joined, out, NULL});
	return run_tool(a, &hide);
}

static ml_status
link_program(artefact *a, const char *out)
{
	const char *cc = ml_find_program(a->arena, "cc");
	ml_words w = {0};

	if (!is_native(a) || !cc) {
		ml_status status = ml_error(
			a->cx, ML_ERR_UNSUPPORTED, NULL,
			is_native(a)
				? "a program needs the C compiler's driver cc to be linked"
				: "a program for another machine needs that machine's libraries");
		ml_hint(a->cx, "--emit=obj and the generated header can be linked anywhere");
		return status;
	}
	add_words(a, &w, (const char *const[]){cc, "-o", out, "-Wl,--build-id=none", NULL});
	add_inputs(a, &w);
	return run_tool(a, &w);
}

static ml_status
link_inputs(artefact *a, const char *out)
{
	switch (a->o->kind) {
	case ML_ARTEFACT_SO: return link_shared(a, out);
	case ML_ARTEFACT_OBJ:
	case ML_ARTEFACT_LIB: return link_object(a, out);
	case ML_ARTEFACT_EXE: return link_program(a, out);
	}
	return ML_ERR_ARG;
}

static ml_status
make_archive(artefact *a, const char *object, const char *out)
{
	ml_words w = {0};

	ML_STEP(need_tool(a, "llvm-ar", &w));
	add_words(a, &w, (const char *const[]){"rcsD", out, object, NULL});
	return run_tool(a, &w);
}

static ml_status
link_artefact(artefact *a, const char *out)
{
	const char *linked = in_folder(a, "linked");
	bool archive = a->o->kind == ML_ARTEFACT_LIB;
	const char *object = in_folder(a, ml_format(a->arena, "%s.o", a->signature.entry));

	ML_STEP(link_inputs(a, linked));
	ML_STEP(ml_image_place(a->cx, &a->image, linked, archive ? object : out));
	return archive ? make_archive(a, object, out) : ML_OK;
}

/* ---- into place ---- */

/* The last part of a path without its ending. */
static const char *
stem(ml_arena *arena, const char *path)
{
	const char *slash = strrchr(path, '/'), *name = slash ? slash + 1 : path;
	const char *dot = strrchr(name, '.');

	return dot && dot != name ? ml_strndup(arena, name, (size_t)(dot - name)) : name;
}

static const char *
header_path(const artefact *a)
{
	const char *slash = strrchr(a->path, '/');
	size_t folder = slash ? (size_t)(slash + 1 - a->path) : 0;

	return ml_format(a->arena, "%.*s%s.h", (int)folder, a->path, stem(a->arena, a->path));
}

/* A file that is there already changes places with the new one and goes with the folder: renaming
 * over it can wait until the new one is on the disk (ext4). */
static ml_status
move(const artefact *a, const char *from, const char *to)
{
	struct stat there;
	bool swap = !lstat(to, &there) && S_ISREG(there.st_mode);

	if (swap && !renameat2(AT_FDCWD, from, AT_FDCWD, to, RENAME_EXCHANGE))
		return ML_OK;
	return rename(from, to) ? cannot_write(a, to) : ML_OK;
}

static ml_status
build(artefact *a)
{
	const char *out = in_folder(a, "artefact"), *header = in_folder(a, "header");
	ml_text t;

	ML_STEP(write_objects(a));
	ML_STEP(link_artefact(a, out));
	ml_text_init(&t, a->arena);
	ml_header_print(&t, &a->signature);
	ML_STEP(write_file(a, header, t.at, t.length));
	ML_STEP(move(a, out, a->path));
	ml_status status = move(a, header, header_path(a));
	if (status)
		unlink(a->path); /* both or none */
	return status;
}

static void
remove_folder(const char *folder)
{
	DIR *d = opendir(folder);

	for (struct dirent *entry; d && (entry = readdir(d));)
		if (strcmp(entry->d_name, ".") && strcmp(entry->d_name, ".."))
			unlinkat(dirfd(d), entry->d_name, 0);
	if (d)
		closedir(d);
	rmdir(folder);
}

static ml_status
make(void *job)
{
	artefact *a = job;

	ml_signature_make(a->plan, a->o->entry ? a->o->entry : stem(a->arena, a->path),
			  &a->signature);
	ml_object_options options = {
		.entry = {a->o->levels, a->o->nlevels, a->signature.text, true},
		.natural = &a->signature,
		.program = a->o->kind == ML_ARTEFACT_EXE,
		.making = a->o->making,
	};
	ML_STEP(ml_objects_make(a->cx, a->plan, &options, &a->objects));
	return build(a);
}

ml_status
ml_aot_write(ml_context *cx, ml_plan *plan, const ml_aot_options *o, const char *path)
{
	artefact a = {.cx = cx, .plan = plan, .arena = plan->arena, .o = o, .path = path};
	char *folder = ml_format(plan->arena, "%s.XXXXXX", path);

	/* First the folder: a place that cannot be written to costs no compilation. */
	if (!mkdtemp(folder))
		return cannot_write(&a, path);
	a.folder = folder;
	ml_status status = ml_catch(cx, make, &a);
	ml_objects_free(&a.objects);
	ml_image_free(&a.image);
	remove_folder(folder);
	return status;
}
