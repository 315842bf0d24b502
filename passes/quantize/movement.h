/* movement.h -- attributes of casts and data movement in patterns: those of `i`, `j` and `k`. */
#ifndef ML_MOVEMENT_H
#define ML_MOVEMENT_H
#include "scales.h"

/* clang-format off */
#define CAST(letter, x) OPA(cast, ATTRS(ATTR(cast, dtype, letter)), x)
#define SHAPED          ATTRS(ATTR(reshape, shape, i))
#define SPREAD          ATTRS(ATTR(broadcast, shape, i))
#define CUT             ATTRS(ATTR(slice, start, i), ATTR(slice, size, j), ATTR(slice, step, k))
#define PADS            ATTRS(ATTR(pad, low, i), ATTR(pad, high, j), ATTR(pad, interior, k))
#define TURNED          ATTRS(ATTR(reverse, axes, i))
#define WINDOWS ATTRS(ATTR(window, size, i), ATTR(window, stride, j), ATTR(window, dilation, k))
#define LARGEST         ATTRS(ATTR(reduce_max, axes, i))
#define SMALLEST        ATTRS(ATTR(reduce_min, axes, i))
#define JOINED          ATTRS(ATTR(concat, axis, i))
/* clang-format on */
#endif
