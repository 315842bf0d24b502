/* scalar_narrow.h -- floats of 4 and 8 bits, which are f32 in registers: scalars or vectors. */
#ifndef ML_SCALAR_NARROW_H
#define ML_SCALAR_NARROW_H
#include "scalar.h"

ml_v ml_narrow_round(ml_emit *, ml_dtype, ml_v); /* an f32 to the nearest one of the format */
/* Codes in bytes, of which the high bits do not count, and back from a rounded f32. */
ml_v ml_narrow_from_memory(ml_emit *, ml_dtype, ml_v);
ml_v ml_narrow_to_memory(ml_emit *, ml_dtype, ml_v);
#endif
