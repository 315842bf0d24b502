/* read.c -- where modules come from: ONNX files, ONNX bytes, IR text. */
#include "driver.h"
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum { MAX_IR_TEXT = 1 << 30 };

bool
ml_is_ir_text(const char *path)
{
	size_t n = strlen(path);

	return n > 4 && !strcmp(path + n - 4, ".mlt");
}

/* ---- weights that a text only refers to ---- */

/* Blobs made for one text, dropped when the module has its references. */
typedef struct made_weights {
	ml_context *cx;
	ML_VEC(ml_blob *) blobs;
} made_weights;

/* xorshift64*, started by the hash: the same text always gives the same numbers. */
static uint64_t
next_random(uint64_t *state)
{
	*state ^= *state >> 12;
	*state ^= *state << 25;
	*state ^= *state >> 27;
	return *state * 0x2545f4914f6cdd1dull;
}

/* Small numbers: floats in [-0.1, 0.1], integers in [0, 3], which are indices of most things. */
static ml_blob *
random_weight(void *user, uint64_t hash, const ml_type *type)
{
	made_weights *w = user;
	uint64_t state = hash | 1;
	int64_t count;
	void *bytes;

	if (!ml_type_static_count(type, &count))
		return NULL;
	ml_blob *blob = ml_blob_new(
		&w->cx->memory, (uint64_t)count * (uint64_t)ml_dtype_bytes(type->dtype), &bytes);
	for (int64_t i = 0; i < count; i++) {
		uint64_t r = next_random(&state) >> 40;
		if (ml_is_float(type->dtype))
			ml_write_f64(type->dtype, bytes, i, ((double)r / 0x800000 - 1) * 0.1);
		else
			ml_write_s64(type->dtype, bytes, i,
				     (int64_t)(type->dtype == ML_bool ? r & 1 : r & 3));
	}
	ML_PUSH(&w->cx->arena, w->blobs, blob);
	return blob;
}

/* ---- IR text ---- */

static ml_status
read_all(ml_context *cx, const char *path, ml_text *text)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	struct stat st;
	char part[1 << 14];
	ssize_t n;

	if (fd < 0)
		return ml_error(cx, ML_ERR_IO, NULL, "cannot open '%s': %s", path, strerror(errno));
	if (fstat(fd, &st) || !S_ISREG(st.st_mode) || st.st_size > MAX_IR_TEXT) {
		close(fd);
		return ml_error(cx, ML_ERR_IO, NULL, "'%s' is no regular file of at most 1 GiB",
				path);
	}
	while ((n = read(fd, part, sizeof part)) > 0)
		ml_put_bytes(text, part, (size_t)n);
	close(fd);
	return n < 0 ? ml_error(cx, ML_ERR_IO, NULL, "cannot read '%s'", path) : ML_OK;
}

static ml_status
parse_ir(ml_context *cx, const char *text, size_t length, const ml_options *o, ml_module **out)
{
	made_weights made = {.cx = cx};

	cx->stage = "parse";
	if (o->import_dims.count || o->import_shapes.count || o->import_freezes.count)
		return ml_error(cx, ML_ERR_ARG, NULL, "dim, shape and freeze apply to ONNX models");
	ml_status status =
		ml_parse(cx, text, length, o->random_weights ? random_weight : NULL, &made, out);
	for (int i = 0; i < made.blobs.count; i++)
		ml_blob_drop(made.blobs.at[i]);
	return status;
}

static ml_status
read_ir_file(ml_context *cx, const char *path, const ml_options *o, ml_module **out)
{
	ml_text text;

	cx->stage = "parse";
	cx->file = ml_strdup(&cx->arena, path);
	ml_text_init(&text, &cx->arena);
	ML_STEP(read_all(cx, path, &text));
	return parse_ir(cx, text.at, text.length, o, out);
}

/* As protobuf this would begin with field 13, which models do not have. */
static bool
looks_like_ir(const ml_source *s)
{
	static const char word[] = "module ";

	return s->size >= sizeof word - 1 && !memcmp(s->bytes, word, sizeof word - 1);
}

/* ---- all kinds ---- */

ml_status
ml_read_model(ml_context *cx, const ml_source *s, const ml_options *o, ml_module **out)
{
	ml_import_options import = {
		.dims = o->import_dims.at,
		.ndims = o->import_dims.count,
		.shapes = o->import_shapes.at,
		.nshapes = o->import_shapes.count,
		.freezes = o->import_freezes.at,
		.nfreezes = o->import_freezes.count,
	};

	if (!s->path) {
		cx->file = NULL;
		if (looks_like_ir(s))
			return parse_ir(cx, s->bytes, s->size, o, out);
		return ml_import_onnx_bytes(cx, s->bytes, s->size, NULL, &import, out);
	}
	if (ml_is_ir_text(s->path))
		return read_ir_file(cx, s->path, o, out);
	return ml_import_onnx(cx, ml_strdup(&cx->arena, s->path), &import, out);
}
