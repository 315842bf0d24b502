/* rows.h -- a row kernel taken apart: its space, its stages, what is kept between them. */
#ifndef ML_ROWS_H
#define ML_ROWS_H
#include "dots.h"

enum { ML_MAX_STAGES = 32 };

/* A value computed in one stage and read from the row's scratch in later ones. */
typedef struct ml_kept {
	const ml_value *value;
	int stage;     /* where it is computed */
	ml_dim offset; /* in the scratch, bytes */
} ml_kept;

/* One loop along the row. */
typedef struct ml_stage {
	ML_VEC(const ml_node *) reductions;
	ML_VEC(int) results; /* elements of rows stored here */
	ML_VEC(int) scalars; /* row scalars stored before the loop */
} ml_stage;

/* Elementwise maps (no reduction over rows) have one stage without reductions, and all dims of
 * their space are outer ones. */
typedef struct ml_rows {
	ml_kernel *kernel;
	ml_arena *arena;
	ml_type space; /* dims of what is computed; for row kernels of what is reduced */
	int outer;     /* leading dims that number the rows */
	bool is_map;
	int nstages;
	ml_stage stage[ML_MAX_STAGES];
	ML_VEC(ml_kept) kept;
	ml_dim scratch_bytes;
	int64_t tile_elements; /* elements of the space per tile */
} ml_rows;

/* rows_plan.c; makes no symbols, so that the planner can call it on its own module. */
ml_status ml_rows_plan(ml_kernel *, ml_arena *, ml_rows *);
ml_dim ml_rows_tiles(const ml_rows *);
/* The stage in which a node's value can first be computed; valid after ml_rows_plan. */
int ml_rows_stage_of(const ml_value *);
bool ml_rows_is_reduction(const ml_rows *, const ml_node *);
bool ml_rows_is_scalar(const ml_rows *, const ml_type *);
/* The value behind result number `result` that has a row kernel's space or is a row scalar: what is
 * computed, or a view of it. */
const ml_value *ml_rows_result(const ml_rows *, int result);

/* Adjacent dims that every access treats as one; rows_merge.c. */
typedef struct ml_groups {
	int n;
	int first[ML_MAX_RANK], last[ML_MAX_RANK]; /* dims of the space, inclusive */
	ml_dim size[ML_MAX_RANK];
} ml_groups;
/* Groups of the outer dims.  Tries the kernel's expressions out in a function that is deleted. */
void ml_rows_merge(ml_rows *, ml_emit *, ml_groups *);

enum { ML_DEPTHWISE_SIDE = 7, ML_DEPTHWISE_TAPS = 25 };

/* A map whose elements are one filter of few taps each over windows of an image that lies channels
 * last: a depthwise convolution, or one in small groups, and what follows it; rows_depthwise.c. */
typedef struct ml_depthwise {
	const ml_rows *rows;
	const ml_node *dot;
	ml_dots_image image;
	int64_t inputs, outputs;            /* channels of a group */
	int64_t size[2], stride[2], gap[2]; /* of the kernel, by spatial dim */
	int64_t lines;                      /* of the result in a tile */
} ml_depthwise;
bool ml_depthwise_find(const ml_rows *, ml_depthwise *); /* rows_depthwise_plan.c */
ml_dim ml_depthwise_lines(const ml_depthwise *);         /* of the result, in all images */
void ml_depthwise_grid(const ml_depthwise *, ml_grid *);
ml_status ml_depthwise_emit(const ml_depthwise *, ml_emit *, const char *name);
#endif
