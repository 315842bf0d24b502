/* dataset.c -- slicing, trimming and walking a data set. */
#include "dataset.h"
#include <inttypes.h>
#include <string.h>

static int64_t
count_samples(const md_arrays *arrays)
{
	int64_t samples = -1;

	for (size_t i = 0; i < arrays->count; i++) {
		const md_array *a = &arrays->at[i];

		if (a->rank == 0)
			continue;
		if (samples >= 0 && samples != a->dim[0])
			return -1;
		samples = a->dim[0];
	}
	return samples < 0 ? 1 : samples;
}

int
md_dataset_open(md_dataset *ds, const char *const *path, size_t paths, const md_want *want,
		size_t wanted, char *why, size_t why_size)
{
	*ds = (md_dataset){0};
	if (md_load_all(path, paths, want, wanted, &ds->arrays, why, why_size))
		return -1;
	ds->samples = md_is_one_set(path, paths) ? -1 : count_samples(&ds->arrays);
	return 0;
}

void
md_dataset_close(md_dataset *ds)
{
	md_arrays_clear(&ds->arrays);
	*ds = (md_dataset){0};
}

/* A view of the whole array. */
static int
borrow(md_array *view, const md_array *a, char *why, size_t why_size)
{
	md_array copy = *a;

	copy.name = NULL;
	copy.block = NULL;
	*view = copy;
	return md_array_rename(view, a->name, why, why_size);
}

typedef struct range {
	int64_t first, count; /* count < 0: the arrays as they are */
} range;

static int
take_range(const md_dataset *ds, range r, md_arrays *batch, char *why, size_t why_size)
{
	for (size_t i = 0; i < ds->arrays.count; i++) {
		const md_array *a = &ds->arrays.at[i];
		md_array view;
		int status;

		if (r.count < 0 || a->rank == 0)
			status = borrow(&view, a, why, why_size);
		else
			status = md_array_slice(&view, a, r.first, r.count, why, why_size);
		if (status || md_arrays_push(batch, &view, why, why_size)) {
			md_array_clear(&view);
			md_arrays_clear(batch);
			return -1;
		}
	}
	return 0;
}

int
md_dataset_batch(const md_dataset *ds, int64_t first, int64_t count, md_arrays *batch, char *why,
		 size_t why_size)
{
	if (ds->samples < 0)
		return md_fail(
			why, why_size,
			"the arrays have different first dims: they are not stacked samples");
	if (first < 0 || count < 0 || first > ds->samples || count > ds->samples - first)
		return md_fail(why, why_size,
			       "samples %" PRId64 "+%" PRId64 " lie outside the %" PRId64
			       " there are",
			       first, count, ds->samples);
	return take_range(ds, (range){first, count}, batch, why, why_size);
}

static bool
is_zero(const md_array *a, int64_t index)
{
	double value;

	md_array_read_f64(a, index, 1, &value);
	return value == 0;
}

static int64_t
used_columns(const md_array *mask)
{
	int64_t rows = mask->dim[0], columns = mask->dim[1];

	for (int64_t column = columns - 1; column > 0; column--)
		for (int64_t row = 0; row < rows; row++)
			if (!is_zero(mask, row * columns + column))
				return column + 1;
	return 1;
}

static int
cut_columns(md_array *a, int64_t columns, char *why, size_t why_size)
{
	size_t column = a->bytes / (size_t)(a->dim[0] * a->dim[1]);
	size_t row = column * (size_t)a->dim[1];
	size_t kept = column * (size_t)columns;
	int64_t dim[MD_MAX_RANK];
	md_array cut;
	char *to;

	if (a->dim[0] == 1) {
		a->dim[1] = columns;
		a->bytes = kept;
		return 0;
	}
	memcpy(dim, a->dim, sizeof dim);
	dim[1] = columns;
	if (md_array_init(&cut, a->name, a->dtype, a->rank, dim, why, why_size))
		return -1;
	to = cut.data;
	for (int64_t i = 0; i < a->dim[0]; i++)
		memcpy(to + (size_t)i * kept, (char *)a->data + (size_t)i * row, kept);
	md_array_clear(a);
	*a = cut;
	return 0;
}

int
md_arrays_trim(md_arrays *batch, const char *mask, char *why, size_t why_size)
{
	const md_array *m = md_arrays_find(batch, mask);
	int64_t rows, columns, used;

	if (!m)
		return md_fail(why, why_size, "cannot trim: no array named '%s'", mask);
	if (m->rank != 2)
		return md_fail(why, why_size, "cannot trim: '%s' has rank %d, not 2", mask,
			       m->rank);
	rows = m->dim[0];
	columns = m->dim[1];
	if (m->bytes == 0)
		return 0;
	used = used_columns(m);
	for (size_t i = 0; i < batch->count && used < columns; i++) {
		md_array *a = &batch->at[i];

		if (a->rank >= 2 && a->dim[0] == rows && a->dim[1] == columns &&
		    cut_columns(a, used, why, why_size))
			return -1;
	}
	return 0;
}

md_feed
md_feed_start(const md_dataset *ds, int64_t batch, bool one_by_one, const char *trim)
{
	int64_t step = one_by_one ? 1 : batch;

	return (md_feed){.data = ds, .step = ds->samples < 0 ? 0 : step, .trim = trim};
}

int
md_feed_next(md_feed *f, md_arrays *batch, char *why, size_t why_size)
{
	int64_t total = f->step ? f->data->samples : 1;
	range r = {f->next, f->step};

	if (f->next >= total)
		return 0;
	if (f->step == 0)
		r.count = -1;
	else if (r.count > total - r.first)
		r.count = total - r.first;
	if (take_range(f->data, r, batch, why, why_size))
		return -1;
	f->next += f->step ? r.count : 1;
	if (f->trim && md_arrays_trim(batch, f->trim, why, why_size)) {
		md_arrays_clear(batch);
		return -1;
	}
	return 1;
}
