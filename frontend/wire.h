/* wire.h -- reading the protobuf wire format from bytes nobody has checked yet. */
#ifndef ML_WIRE_H
#define ML_WIRE_H
#include <stdbool.h>
#include <stdint.h>

typedef enum ml_wire_type {
	ML_WIRE_VARINT,
	ML_WIRE_64,
	ML_WIRE_BYTES,
	ML_WIRE_32 = 5
} ml_wire_type;

typedef struct ml_wire {
	const uint8_t *at, *end;
} ml_wire;

typedef struct ml_wire_field {
	uint32_t number;
	ml_wire_type type;
	const uint8_t *tag;           /* where the field begins */
	const uint8_t *value, *after; /* without tag and length prefix */
	uint64_t varint;              /* ML_WIRE_VARINT: the value */
} ml_wire_field;

/* Moves behind a varint; false, unmoved, when it is truncated or exceeds 64 bits. */
bool ml_wire_varint(ml_wire *, uint64_t *value);

/* Moves behind a field, in constant time and without reading ML_WIRE_BYTES.  NULL, or what is wrong
 * with the field, and then `tag` says where. */
const char *ml_wire_next(ml_wire *, ml_wire_field *);
#endif
