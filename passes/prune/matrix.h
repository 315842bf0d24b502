/* matrix.h -- layers as matrices: a linear layer, or a convolution by its windows, is y = x w + b
 * with a row of x for each row of y. */
#ifndef ML_PRUNE_MATRIX_H
#define ML_PRUNE_MATRIX_H
#include "../../ir/ir.h"

/* Columns of x and of y. */
void ml_matrix_size(const ml_node *layer, int64_t *d, int64_t *o);
/* The layer's input, and what has the type of its result, as rows. */
ml_value *ml_matrix_x(ml_builder *, const ml_node *layer, ml_value *x);
ml_value *ml_matrix_y(ml_builder *, const ml_node *layer, ml_value *y);
/* w as d x o, in double; b, zeros when there is none. */
void ml_matrix_weights(const ml_node *layer, double *w, double *b);
/* w + dw, b + db are the layer's weights from now on; the id stays.  *changed: what stands there.
 */
ml_status ml_matrix_change(ml_node *layer, const double *dw, const double *db, ml_node **changed);
#endif
