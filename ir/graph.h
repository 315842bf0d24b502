/* graph.h -- inside of building: nodes that are not yet part of a block. */
#ifndef ML_GRAPH_H
#define ML_GRAPH_H
#include "ir.h"

/* A node with default attributes, operands unset, in no block. */
ml_node *ml_node_new(ml_module *, ml_op, int nin);
void ml_node_new_results(ml_module *, ml_node *, int nout);
/* Puts a complete node before `before` (NULL: at the end, but before the yield) and registers its
 * uses. */
void ml_node_insert(ml_node *, ml_block *, ml_node *before);
/* Element count of a value whose contents may be known: rank <= 1, static, small; else -1. */
int64_t ml_content_count(const ml_type *);
#endif
