/* order.h -- name resolution and the order of nodes. */
#ifndef ML_ORDER_H
#define ML_ORDER_H
#include "onnx_model.h"

/* Checks that every name of the model is defined once and before use, and fills `order` of all its
 * graphs and functions, the order of the file where that is valid already.  Reports cycles, names
 * defined twice, and names used but not defined, several at once. */
ml_status ml_order_nodes(ml_context *, ml_onnx_model *);
#endif
