/* export_write.c -- writing a model whose weights are not part of its protobuf structs.
 *
 * protobuf-c packs the structure alone.  Weights follow as raw_data fields written straight from
 * their blobs, into a temporary file that takes the model's name when it is complete.
 */
#include "export_graph.h"
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum {
	LARGEST_INLINE = 1900,   /* MB of weights; protobuf ends at 2 GiB */
	ALIGNMENT = 64,          /* of tensors in the external file */
	SMALLEST_OUTSIDE = 1024, /* bytes; readers want to see shapes in the model itself */
	WIRE_BYTES = 2,
	FIELD_GRAPH = 7,       /* ModelProto.graph */
	FIELD_INITIALIZER = 5, /* GraphProto.initializer */
	FIELD_RAW_DATA = 9,    /* TensorProto.raw_data */
};

/* A file under construction. */
typedef struct output {
	ml_export *e;
	const char *path;
	char *temporary;
	FILE *file;
} output;

static ml_status
io_error(ml_export *e, const char *what, const char *path)
{
	return ml_error(e->cx, ML_ERR_IO, NULL, "'%s' cannot be %s: %s",
			ml_escaped(&e->cx->arena, path), what, strerror(errno));
}

static ml_status
output_open(ml_export *e, output *o, const char *path)
{
	*o = (output){.e = e, .path = path};
	o->temporary = ml_format(&e->arena, "%s.XXXXXX", path);
	int fd = mkostemp(o->temporary, O_CLOEXEC);
	if (fd < 0)
		return io_error(e, "written", path);
	o->file = fdopen(fd, "wb");
	if (o->file)
		return ML_OK;
	close(fd);
	unlink(o->temporary);
	return io_error(e, "written", path);
}

/* Keeps the file if all went well, else leaves nothing behind. */
static ml_status
output_close(output *o, ml_status status)
{
	bool failed = ferror(o->file) || fflush(o->file);

	/* the mode any new file would have */
	mode_t mask = umask(0);
	umask(mask);
	failed = fchmod(fileno(o->file), 0666 & ~mask) || failed;
	failed = fclose(o->file) || failed;
	if (status == ML_OK && failed)
		status = io_error(o->e, "written", o->path);
	if (status == ML_OK && rename(o->temporary, o->path))
		status = io_error(o->e, "written", o->path);
	if (status != ML_OK)
		unlink(o->temporary);
	return status;
}

/* ---- the wire format ---- */

static size_t
varint(uint64_t value, uint8_t *out)
{
	size_t n = 0;

	do {
		out[n++] = (uint8_t)((value & 127) | (value > 127 ? 128 : 0));
		value >>= 7;
	} while (value);
	return n;
}

/* Tag and length of a field that holds `size` bytes. */
static size_t
prefix(int field, uint64_t size, uint8_t *out)
{
	size_t n = varint((uint64_t)field << 3 | WIRE_BYTES, out);

	return n + varint(size, out + n);
}

static uint64_t
prefix_size(int field, uint64_t size)
{
	uint8_t bytes[24];

	return prefix(field, size, bytes);
}

static void
put_prefix(output *o, int field, uint64_t size)
{
	uint8_t bytes[24];

	fwrite(bytes, 1, prefix(field, size, bytes), o->file);
}

/* protobuf-c packs into this: nothing may be allocated while a file is open, because a failed
 * allocation unwinds past it. */
typedef struct file_buffer {
	ProtobufCBuffer base;
	FILE *file;
} file_buffer;

static void
append(ProtobufCBuffer *b, size_t n, const uint8_t *bytes)
{
	fwrite(bytes, 1, n, ((file_buffer *)b)->file);
}

static void
put_message(output *o, const ProtobufCMessage *m)
{
	file_buffer b = {{append}, o->file};

	protobuf_c_message_pack_to_buffer(m, &b.base);
}

/* ---- weights ---- */

static bool
is_outside(const ml_export_weight *w)
{
	return w->header->has_data_location;
}

static uint64_t
inline_size(const ml_export_weight *w)
{
	uint64_t size = protobuf_c_message_get_packed_size(&w->header->base);

	return is_outside(w) ? size : size + prefix_size(FIELD_RAW_DATA, w->size) + w->size;
}

static void
put_weight(output *o, const ml_export_weight *w)
{
	put_prefix(o, FIELD_INITIALIZER, inline_size(w));
	put_message(o, &w->header->base);
	if (is_outside(w))
		return;
	put_prefix(o, FIELD_RAW_DATA, w->size);
	fwrite(w->bytes, 1, w->size, o->file);
}

static Onnx__StringStringEntryProto *
entry(ml_export *e, const char *key, char *value)
{
	Onnx__StringStringEntryProto *p = ML_NEW(&e->arena, Onnx__StringStringEntryProto);

	onnx__string_string_entry_proto__init(p);
	p->key = ml_strdup(&e->arena, key);
	p->value = value;
	return p;
}

/* Points a header at its bytes in the external file. */
static void
set_location(ml_export *e, ml_export_weight *w, const char *location, uint64_t offset)
{
	Onnx__TensorProto *t = w->header;

	t->has_data_location = true;
	t->data_location = ONNX__TENSOR_PROTO__DATA_LOCATION__EXTERNAL;
	t->n_external_data = 3;
	t->external_data = ML_NEW_ARRAY(&e->arena, Onnx__StringStringEntryProto *, 3);
	t->external_data[0] = entry(e, "location", ml_strdup(&e->arena, location));
	t->external_data[1] =
		entry(e, "offset", ml_format(&e->arena, "%llu", (unsigned long long)offset));
	t->external_data[2] =
		entry(e, "length", ml_format(&e->arena, "%llu", (unsigned long long)w->size));
}

static uint64_t
gap_before(uint64_t offset)
{
	return (ALIGNMENT - offset % ALIGNMENT) % ALIGNMENT;
}

static ml_status
write_external(ml_export *e, const char *data)
{
	static const char zeros[ALIGNMENT];
	const char *slash = strrchr(data, '/');
	uint64_t offset = 0;
	output o;

	for (int i = 0; i < e->weights.count; i++) {
		ml_export_weight *w = &e->weights.at[i];
		if (w->size < SMALLEST_OUTSIDE)
			continue;
		offset += gap_before(offset);
		set_location(e, w, slash ? slash + 1 : data, offset);
		offset += w->size;
	}
	ML_STEP(output_open(e, &o, data));
	offset = 0;
	for (int i = 0; i < e->weights.count; i++) {
		const ml_export_weight *w = &e->weights.at[i];
		if (!is_outside(w))
			continue;
		fwrite(zeros, 1, gap_before(offset), o.file);
		fwrite(w->bytes, 1, w->size, o.file);
		offset += gap_before(offset) + w->size;
	}
	return output_close(&o, ML_OK);
}

static ml_status
write_model(ml_export *e, Onnx__ModelProto *p, const char *path)
{
	Onnx__GraphProto *g = p->graph;
	uint64_t size = protobuf_c_message_get_packed_size(&g->base);
	output o;

	for (int i = 0; i < e->weights.count; i++) {
		uint64_t each = inline_size(&e->weights.at[i]);
		size += prefix_size(FIELD_INITIALIZER, each) + each;
	}
	ML_STEP(output_open(e, &o, path));
	p->graph = NULL;
	put_message(&o, &p->base);
	put_prefix(&o, FIELD_GRAPH, size);
	put_message(&o, &g->base);
	for (int i = 0; i < e->weights.count; i++)
		put_weight(&o, &e->weights.at[i]);
	return output_close(&o, ML_OK);
}

ml_status
ml_export_write(ml_export *e, Onnx__ModelProto *p, const char *path)
{
	const char *data = ml_format(&e->arena, "%s.data", path);
	uint64_t weights = 0;

	for (int i = 0; i < e->weights.count; i++)
		weights += e->weights.at[i].size;
	bool external = weights > (uint64_t)LARGEST_INLINE * 1000000;
	if (external)
		ML_STEP(write_external(e, data));
	ml_status status = write_model(e, p, path);
	if (external && status != ML_OK)
		unlink(data);
	return status;
}
