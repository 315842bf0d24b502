/* sink.h -- the outputs of many runs joined into one array per name. */
#ifndef MD_SINK_H
#define MD_SINK_H
#include "array.h"

/* Zeroed = empty. */
typedef struct md_sink {
	struct md_parts *parts; /* one per output */
	size_t count;
} md_sink;

/* Copies the outputs of one run.  Every run must bring the same names with the same dtypes and
 * ranks. */
int md_sink_add(md_sink *, const md_arrays *outputs, char *why, size_t why_size);

/* Appends one array per name to an empty list and empties the sink.  The runs' arrays are joined
 * along axis 0, scalars of several runs stacked; one run alone stays as it is.  Where trailing
 * dims differ (after trimming) the smaller ones are padded with 0 at the end to the largest, and
 * `note` gets a line ("'hidden' padded with 0 to f32[872,53,384]\n") or else "". */
int md_sink_finish(md_sink *, md_arrays *joined, char *note, size_t note_size, char *why,
		   size_t why_size);

/* Drops everything. */
void md_sink_clear(md_sink *);
#endif
