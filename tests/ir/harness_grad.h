/* harness_grad.h -- gradients judged by central differences of the evaluator in f64. */
#ifndef HARNESS_GRAD_H
#define HARNESS_GRAD_H
#include "ir/ir.h"

/* Gradients of a weighted sum of the module's float outputs by all of its inputs, which are f64
 * and get random numbers of [lo, hi); symbols are small sizes. */
void grad_check(ml_context *, const char *text, double lo, double hi, uint32_t seed);
#endif
