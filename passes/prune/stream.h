/* stream.h -- a value on the way through a module, kept for each batch: what comes behind it is
 * computed from there. */
#ifndef ML_PRUNE_STREAM_H
#define ML_PRUNE_STREAM_H
#include "samples.h"

typedef struct ml_stream {
	ml_pass_ctx *px;
	const ml_samples *samples;
	const ml_module *m;
	uint32_t node; /* that computes it; 0: nothing is kept */
	int index;
	ml_type type;
	ml_tensor *out; /* by batches; without data where it is not kept */
	ml_arena *arena;
	size_t bytes;
	ml_runnable *from_inputs;
} ml_stream;

void ml_stream_init(ml_stream *, ml_pass_ctx *, const ml_samples *);
void ml_stream_end(ml_stream *);
/* From now on this value of m, of which what comes before it must not change.  It goes on from
 * where the stream was, the value of another point of m or of a module that is alike up to there.
 * An input of m is not kept. */
ml_status ml_stream_move(ml_stream *, const ml_module *m, const ml_value *);
/* Of a batch; lent until the stream is moved, or in `scratch` where there is no room to keep it. */
ml_status ml_stream_get(ml_stream *, int batch, ml_arena *scratch, ml_tensor *);
/* The value becomes a further input of a copy of m.  False: the copy has no such value. */
bool ml_stream_read(const ml_stream *, ml_module *copy);
#endif
