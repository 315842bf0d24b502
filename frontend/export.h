/* export.h -- IR to ONNX. */
#ifndef ML_EXPORT_H
#define ML_EXPORT_H
#include "../ir/ir.h"

enum { ML_EXPORT_OPSET = 20 };

/* Writes the module as a standard ONNX model: operator set ML_EXPORT_OPSET of the default domain
 * alone, a later one where an element type or scales in blocks need it, but for custom operators.
 * Inputs, outputs and the names of their dims are kept; sizes that are not numbers are computed by
 * the graph.  Weights go straight from their blobs to the file; above 1.9 GB they go to PATH.data
 * beside it.  The file appears whole or not at all.  ML_ERR_IO, or ML_ERR_UNSUPPORTED where ONNX
 * has no spelling. */
ml_status ml_export_onnx(ml_context *, const ml_module *, const char *path);
#endif
