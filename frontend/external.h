/* external.h -- tensor data kept in files next to the model. */
#ifndef ML_EXTERNAL_H
#define ML_EXTERNAL_H
#include "mapping.h"
#include "onnx_model.h"

/* Files mapped so far, newest first, in the model's arena. */
struct ml_onnx_external {
	ml_onnx_external *next;
	const char *location;
	ml_mapping *mapping;
};

/* Finds the `need` bytes of a tensor whose data_location is EXTERNAL, mapping the file on first
 * use. *file is lent.  The entries of external_data come from the model and are believed in
 * nothing. */
ml_status ml_external_find(ml_context *, ml_onnx_model *, const Onnx__TensorProto *, uint64_t need,
			   const ml_prov *at, ml_mapping **file, const uint8_t **bytes);
#endif
