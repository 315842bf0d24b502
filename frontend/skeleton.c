/* skeleton.c -- the scan that replaces tensor payloads by their place in the file. */
#include "skeleton.h"
#include "onnx_model.h"
#include "wire.h"
#include <string.h>

typedef struct scan {
	ml_context *cx;
	const uint8_t *bytes;
	ml_skeleton *out;
	int depth;
	const char *path[ML_ONNX_DEPTH + 1]; /* field names from the root */
} scan;

/* Pieces of the tensor being scanned; the last one may still grow. */
typedef struct pieces {
	ml_payload last;
	int count;
} pieces;

static ml_status scan_message(scan *, const ProtobufCMessageDescriptor *, ml_wire);

static ml_status
malformed(scan *s, const uint8_t *at, const char *what)
{
	ml_text path;

	ml_text_init(&path, &s->cx->arena);
	for (int i = 0; i < s->depth; i++)
		ml_put(&path, "%s%s", i ? "." : " in ", s->path[i]);
	return ml_error(s->cx, ML_ERR_FORMAT, NULL, "byte %zu%s: %s", (size_t)(at - s->bytes),
			path.at, what);
}

static uint8_t *
reserve(scan *s, size_t n)
{
	ml_skeleton *o = s->out;

	if (n > o->room - o->length) {
		size_t room = o->room ? o->room : 4096;
		while (n > room - o->length)
			room *= 2;
		o->at = ml_resize(&s->cx->memory, o->at, o->room, room);
		o->room = room;
	}
	return o->at + o->length;
}

static void
put_bytes(scan *s, const void *bytes, size_t n)
{
	uint8_t *at = reserve(s, n);

	if (n)
		memcpy(at, bytes, n);
	s->out->length += n;
}

static void
put_varint(scan *s, uint64_t v)
{
	uint8_t bytes[10];
	size_t n = 0;

	for (; v >= 0x80; v >>= 7)
		bytes[n++] = (uint8_t)(v | 0x80);
	bytes[n++] = (uint8_t)v;
	put_bytes(s, bytes, n);
}

static void
put_tag(scan *s, uint32_t number, ml_wire_type type)
{
	put_varint(s, (uint64_t)number << 3 | type);
}

/* A message's length is known after its fields: five bytes of varint are kept free for it. */
static ml_status
scan_submessage(scan *s, const ProtobufCFieldDescriptor *field, const ml_wire_field *f)
{
	enum { LENGTH_BYTES = 5 };

	if (s->depth == ML_ONNX_DEPTH)
		return ml_error(s->cx, ML_ERR_LIMIT, NULL,
				"messages nest deeper than %d levels at byte %zu", ML_ONNX_DEPTH,
				(size_t)(f->tag - s->bytes));
	put_tag(s, f->number, ML_WIRE_BYTES);
	reserve(s, LENGTH_BYTES);
	size_t begin = s->out->length += LENGTH_BYTES;
	s->path[s->depth++] = field->name;
	ML_STEP(scan_message(s, field->descriptor, (ml_wire){f->value, f->after}));
	s->depth--;
	size_t length = s->out->length - begin;
	for (int i = 0; i < LENGTH_BYTES; i++)
		s->out->at[begin - LENGTH_BYTES + (size_t)i] =
			(uint8_t)(length >> (7 * i) & 0x7f) | (i + 1 < LENGTH_BYTES ? 0x80 : 0);
	return ML_OK;
}

static ml_wire_type
wire_type_of(ProtobufCType type)
{
	switch (type) {
	case PROTOBUF_C_TYPE_SFIXED32:
	case PROTOBUF_C_TYPE_FIXED32:
	case PROTOBUF_C_TYPE_FLOAT: return ML_WIRE_32;
	case PROTOBUF_C_TYPE_SFIXED64:
	case PROTOBUF_C_TYPE_FIXED64:
	case PROTOBUF_C_TYPE_DOUBLE: return ML_WIRE_64;
	case PROTOBUF_C_TYPE_STRING:
	case PROTOBUF_C_TYPE_BYTES:
	case PROTOBUF_C_TYPE_MESSAGE: return ML_WIRE_BYTES;
	default: return ML_WIRE_VARINT;
	}
}

static bool
is_packed(const ProtobufCFieldDescriptor *field, const ml_wire_field *f)
{
	return f->type == ML_WIRE_BYTES && field->label == PROTOBUF_C_LABEL_REPEATED &&
	       wire_type_of(field->type) != ML_WIRE_BYTES;
}

static bool
is_well_packed(const ProtobufCFieldDescriptor *field, const ml_wire_field *f)
{
	ml_wire w = {f->value, f->after};
	uint64_t ignored;

	switch (wire_type_of(field->type)) {
	case ML_WIRE_32: return (f->after - f->value) % 4 == 0;
	case ML_WIRE_64: return (f->after - f->value) % 8 == 0;
	default:
		while (w.at < w.end)
			if (!ml_wire_varint(&w, &ignored))
				return false;
		return true;
	}
}

static ml_status
copy_field(scan *s, const ProtobufCFieldDescriptor *field, const ml_wire_field *f)
{
	size_t n = (size_t)(f->after - f->value);

	if (is_packed(field, f) && !is_well_packed(field, f))
		return malformed(s, f->tag, "malformed list of numbers");
	if (field->type == PROTOBUF_C_TYPE_STRING && n && memchr(f->value, 0, n))
		return malformed(s, f->tag, "NUL byte inside a string");
	put_tag(s, f->number, f->type);
	if (f->type == ML_WIRE_VARINT) {
		put_varint(s, f->varint);
		return ML_OK;
	}
	if (f->type == ML_WIRE_BYTES)
		put_varint(s, n);
	put_bytes(s, f->value, n);
	return ML_OK;
}

static bool
is_payload(const ProtobufCMessageDescriptor *message, uint32_t number)
{
	static const uint32_t numbers = 1u << 4 | 1u << 5 | 1u << 7 | 1u << 9 | 1u << 10 | 1u << 11;

	return message == &onnx__tensor_proto__descriptor && number < 32 && (numbers >> number & 1);
}

static ml_status
end_piece(scan *s, pieces *p, const uint8_t *at)
{
	if (!p->last.size)
		return ML_OK;
	if (p->count++ == ML_PAYLOAD_PIECES)
		return malformed(s, at, "tensor data in too many pieces");
	put_tag(s, ML_PRIVATE_FIELD, ML_WIRE_BYTES);
	put_varint(s, sizeof p->last);
	put_bytes(s, &p->last, sizeof p->last);
	p->last.size = 0;
	return ML_OK;
}

/* Old writers give each element its own tag: such a run becomes one piece. */
static ml_status
note_payload(scan *s, pieces *p, const ml_wire_field *f)
{
	bool packed = f->type == ML_WIRE_BYTES;
	const uint8_t *begin = packed ? f->value : f->tag;
	uint64_t offset = (uint64_t)(begin - s->bytes), size = (uint64_t)(f->after - begin);

	if (!packed && p->last.field == f->number && !p->last.packed && p->last.size &&
	    p->last.offset + p->last.size == offset) {
		p->last.size += size;
		return ML_OK;
	}
	ML_STEP(end_piece(s, p, f->tag));
	p->last = (ml_payload){f->number, packed, offset, size};
	return ML_OK;
}

/* What copying a field adds, beside a few bytes of tag and length. */
static size_t
grows_by(const ProtobufCMessageDescriptor *message, const ProtobufCFieldDescriptor *field,
	 const ml_wire_field *f)
{
	bool copied = field->type != PROTOBUF_C_TYPE_MESSAGE && !is_payload(message, f->number);

	return copied ? (size_t)(f->after - f->value) : 0;
}

static ml_status
scan_field(scan *s, const ProtobufCMessageDescriptor *message, const ml_wire_field *f,
	   uint64_t *seen, pieces *p)
{
	const ProtobufCFieldDescriptor *field =
		protobuf_c_message_descriptor_get_field(message, f->number);

	if (!field || f->number >= ML_PRIVATE_FIELD)
		return ML_OK;
	if (s->out->length > ML_SKELETON_LIMIT || grows_by(message, field, f) > ML_SKELETON_LIMIT)
		return ml_error(s->cx, ML_ERR_LIMIT, NULL,
				"the model has more than %d MiB of structure besides its tensors",
				ML_SKELETON_LIMIT >> 20);
	if (f->type != wire_type_of(field->type) && !is_packed(field, f)) {
		s->path[s->depth++] = field->name;
		return malformed(s, f->tag, "field of the wrong wire type");
	}
	if (is_payload(message, f->number))
		return note_payload(s, p, f);
	if (field->type != PROTOBUF_C_TYPE_MESSAGE)
		return copy_field(s, field, f);
	/* Protobuf would merge the two, in time quadratic in their number; no writer does this. */
	uint64_t bit = 1ull << (field - message->fields);
	if (field->label != PROTOBUF_C_LABEL_REPEATED && (*seen & bit)) {
		s->path[s->depth++] = field->name;
		return malformed(s, f->tag, "field given twice");
	}
	*seen |= bit;
	return scan_submessage(s, field, f);
}

static ml_status
scan_message(scan *s, const ProtobufCMessageDescriptor *message, ml_wire w)
{
	uint64_t seen = 0;
	pieces p = {.count = 0};
	ml_wire_field f;

	while (w.at < w.end) {
		const char *wrong = ml_wire_next(&w, &f);
		if (wrong)
			return malformed(s, f.tag, wrong);
		ML_STEP(scan_field(s, message, &f, &seen, &p));
	}
	return end_piece(s, &p, w.end);
}

ml_status
ml_skeleton_build(ml_context *cx, const uint8_t *bytes, size_t size,
		  const ProtobufCMessageDescriptor *root, ml_skeleton *out)
{
	scan s = {.cx = cx, .bytes = bytes, .out = out};

	out->length = 0;
	return scan_message(&s, root, (ml_wire){bytes, bytes + size});
}

void
ml_skeleton_free(ml_memory *memory, ml_skeleton *skeleton)
{
	if (skeleton->at)
		ml_resize(memory, skeleton->at, skeleton->room, 0);
	*skeleton = (ml_skeleton){0};
}
