/* functions.h -- model-local functions: finding them, and bounding what inlining them costs. */
#ifndef ML_FUNCTIONS_H
#define ML_FUNCTIONS_H
#include "onnx_model.h"

/* Builds the table behind ml_onnx_find_function; no two functions may share a name. */
ml_status ml_functions_index(ml_context *, ml_onnx_model *);

/* Refuses recursion, calls that nest deeper than ML_ONNX_NESTING together with subgraphs, and more
 * than ML_ONNX_INLINED inlined nodes.  Time linear in the model. */
ml_status ml_functions_check(ml_context *, ml_onnx_model *);
#endif
