/* skeleton.h -- a copy of a protobuf message without its tensor payloads.
 *
 * A model of gigabytes is a few hundred kilobytes of structure around weights.  Only the structure
 * goes through protobuf-c: the scan here walks the file once, touches no payload page, and writes
 * the same message with each payload replaced by its place in the file.
 */
#ifndef ML_SKELETON_H
#define ML_SKELETON_H
#include "../ir/diag.h"
#include <protobuf-c/protobuf-c.h>

enum {
	ML_SKELETON_LIMIT = 256 << 20, /* bytes of structure */
	ML_PRIVATE_FIELD = 1000,       /* from here on ours, see onnx.proto */
	ML_PAYLOAD_PIECES = 64,        /* per tensor; writers give one */
};

/* Where elements of a tensor lie; TensorProto.payload holds these structs as bytes.  The scan
 * drops field `payload` from its input, so that every one found later was written by it. */
typedef struct ml_payload {
	uint32_t field;        /* TensorProto's field: float_data, raw_data ... */
	uint32_t packed;       /* 1: the values alone; 0: a run of tag and value pairs */
	uint64_t offset, size; /* within the scanned bytes, in range */
} ml_payload;

typedef struct ml_skeleton {
	uint8_t *at;
	size_t length, room;
} ml_skeleton;

/* Scans `bytes` as a message of type `root`.  What gets through is well-formed for protobuf-c:
 * depth at most ML_ONNX_DEPTH, lengths in bounds, known fields of their declared wire type, no
 * singular message given twice, no NUL inside strings.  Unknown fields are left out. */
ml_status ml_skeleton_build(ml_context *, const uint8_t *bytes, size_t size,
			    const ProtobufCMessageDescriptor *root, ml_skeleton *out);
void ml_skeleton_free(ml_memory *, ml_skeleton *);
#endif
