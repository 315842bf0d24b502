/* dataset.h -- arrays stacked along axis 0 as samples, handed out in batches. */
#ifndef MD_DATASET_H
#define MD_DATASET_H
#include "load.h"

typedef struct md_dataset {
	md_arrays arrays;
	/* First dim that all arrays of rank 1 and more share (1 if there are none), or -1: then the
	 * arrays cannot be stacked samples and are one set of inputs, as is ONNX test data. */
	int64_t samples;
} md_dataset;

/* Opens what md_load_all() reads.  End with md_dataset_close, also after a failure. */
int md_dataset_open(md_dataset *, const char *const *path, size_t paths, const md_want *want,
		    size_t wanted, char *why, size_t why_size);
void md_dataset_close(md_dataset *);

/* Appends views of samples first .. first + count - 1 of every array to an empty list, scalars
 * as they are; the views live as long as the data set. */
int md_dataset_batch(const md_dataset *, int64_t first, int64_t count, md_arrays *batch, char *why,
		     size_t why_size);

/* Cuts common padding: with S' = 1 + the last column of `mask` ([n,S]) that is not all zero (S' is
 * at least 1), every array [n,S,...] of the batch becomes [n,S',...].  A view stays one where the
 * cut leaves it contiguous. */
int md_arrays_trim(md_arrays *batch, const char *mask, char *why, size_t why_size);

/* A walk through a data set. */
typedef struct md_feed {
	const md_dataset *data;
	int64_t step;     /* samples per batch; 0 = the arrays as they are, in one batch */
	const char *trim; /* mask for md_arrays_trim, or NULL */
	int64_t next;
} md_feed;

/* `batch` samples at a time, one when the model fixes the first dim of an input to 1.  A set that
 * is not stacked, and batch 0, give the arrays as they are. */
md_feed md_feed_start(const md_dataset *, int64_t batch, bool one_by_one, const char *trim);

/* Fills an empty list with the next batch: 1; 0 at the end; -1 on failure. */
int md_feed_next(md_feed *, md_arrays *batch, char *why, size_t why_size);
#endif
