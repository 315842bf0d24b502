/* tensor_pb.h -- ONNX test data: a file that is one serialised TensorProto.
 * Source: onnx.proto, message TensorProto; the protobuf wire format. */
#ifndef MD_TENSOR_PB_H
#define MD_TENSOR_PB_H
#include "array.h"

/* Either raw_data or the typed field that belongs to the data type, with exactly as many elements
 * as the dims say.  Strings, complex, 4- and 8-bit floats, packed integers, segments and external
 * data are refused.  The array's name is the tensor's, "" if it has none. */
int md_tensor_read(const char *path, md_array *, char *why, size_t why_size);

/* As raw_data; whole or not at all (replace.h). */
int md_tensor_write(const char *path, const md_array *, char *why, size_t why_size);
#endif
