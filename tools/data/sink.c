/* sink.c -- collecting and joining outputs. */
#include "sink.h"
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef struct md_parts {
	md_array *at;
	size_t count, capacity;
} md_parts;

static int
append(md_parts *parts, const md_array *a, char *why, size_t why_size)
{
	if (parts->count) {
		const md_array *first = &parts->at[0];

		if (strcmp(first->name, a->name))
			return md_fail(why, why_size, "output '%s' became '%s'", first->name,
				       a->name);
		if (first->dtype != a->dtype || first->rank != a->rank)
			return md_fail(why, why_size,
				       "output '%s' changed its type from %s rank %d to "
				       "%s rank %d",
				       a->name, md_dtype_name(first->dtype), first->rank,
				       md_dtype_name(a->dtype), a->rank);
	}
	if (parts->count == parts->capacity) {
		size_t capacity = parts->capacity ? 2 * parts->capacity : 4;
		md_array *at = realloc(parts->at, capacity * sizeof *at);

		if (!at)
			return md_fail(why, why_size, "no memory");
		parts->at = at;
		parts->capacity = capacity;
	}
	if (md_array_copy(&parts->at[parts->count], a, why, why_size))
		return -1;
	parts->count++;
	return 0;
}

int
md_sink_add(md_sink *s, const md_arrays *outputs, char *why, size_t why_size)
{
	if (!s->parts) {
		s->parts = calloc(outputs->count + 1, sizeof *s->parts);
		if (!s->parts)
			return md_fail(why, why_size, "no memory");
		s->count = outputs->count;
	}
	if (s->count != outputs->count)
		return md_fail(why, why_size, "%zu outputs became %zu", s->count, outputs->count);
	for (size_t i = 0; i < s->count; i++)
		if (append(&s->parts[i], &outputs->at[i], why, why_size))
			return -1;
	return 0;
}

/* The joined shape; says whether any part is smaller than it behind axis 0. */
static int
join_shape(const md_parts *parts, int64_t dim[MD_MAX_RANK], bool *ragged, char *why,
	   size_t why_size)
{
	const md_array *first = &parts->at[0];

	memcpy(dim, first->dim, sizeof first->dim);
	for (size_t i = 1; i < parts->count; i++) {
		const md_array *part = &parts->at[i];

		if (__builtin_add_overflow(dim[0], part->dim[0], &dim[0]))
			return md_fail(why, why_size, "output '%s' is too long", first->name);
		for (int k = 1; k < first->rank; k++) {
			*ragged |= part->dim[k] != dim[k];
			if (part->dim[k] > dim[k])
				dim[k] = part->dim[k];
		}
	}
	if (first->rank == 0)
		dim[0] = (int64_t)parts->count;
	return 0;
}

/* Copies `part` to the rows of `joined` from `row` on, innermost runs at a time. */
static void
place(md_array *joined, const md_array *part, int64_t row)
{
	size_t size = md_dtype_size(part->dtype);
	size_t stride[MD_MAX_RANK], run, to;
	int64_t index[MD_MAX_RANK] = {0};
	int inner = joined->rank - 1; /* the axis along which runs are contiguous in both */
	int k;

	if (part->bytes == 0)
		return;
	stride[inner] = size;
	for (k = inner; k > 0; k--)
		stride[k - 1] = stride[k] * (size_t)joined->dim[k];
	while (inner > 0 && part->rank && part->dim[inner] == joined->dim[inner])
		inner--;
	run = stride[inner] * (size_t)(part->rank ? part->dim[inner] : 1);
	to = stride[0] * (size_t)row;
	for (size_t from = 0; from < part->bytes; from += run) {
		memcpy((char *)joined->data + to, (const char *)part->data + from, run);
		for (k = inner - 1; k >= 0; k--) {
			to += stride[k];
			if (++index[k] < part->dim[k])
				break;
			to -= stride[k] * (size_t)part->dim[k];
			index[k] = 0;
		}
	}
}

static int
join(md_parts *parts, md_array *joined, bool *ragged, char *why, size_t why_size)
{
	md_array *first = &parts->at[0];
	int64_t dim[MD_MAX_RANK], row = 0;

	if (parts->count == 1) {
		*joined = *first;
		*first = (md_array){0};
		return 0;
	}
	if (join_shape(parts, dim, ragged, why, why_size) ||
	    md_array_init(joined, first->name, first->dtype, first->rank ? first->rank : 1, dim,
			  why, why_size))
		return -1;
	for (size_t i = 0; i < parts->count; i++) {
		md_array *part = &parts->at[i];

		place(joined, part, row);
		row += part->rank ? part->dim[0] : 1;
		md_array_clear(part); /* or the outputs would lie in memory twice */
	}
	return 0;
}

static void
add_note(const md_array *joined, char *note, size_t note_size)
{
	size_t used = note_size ? strlen(note) : 0;
	char type[256];

	if (used < note_size)
		snprintf(note + used, note_size - used, "'%s' padded with 0 to %s\n", joined->name,
			 md_array_type(joined, type, sizeof type));
}

int
md_sink_finish(md_sink *s, md_arrays *joined, char *note, size_t note_size, char *why,
	       size_t why_size)
{
	int status = 0;

	if (note_size)
		note[0] = '\0';
	for (size_t i = 0; i < s->count && status == 0; i++) {
		md_array a = {0};
		bool ragged = false;

		status = join(&s->parts[i], &a, &ragged, why, why_size);
		if (ragged && status == 0)
			add_note(&a, note, note_size);
		if (status == 0 && (status = md_arrays_push(joined, &a, why, why_size)))
			md_array_clear(&a);
	}
	md_sink_clear(s);
	return status;
}

void
md_sink_clear(md_sink *s)
{
	for (size_t i = 0; i < s->count; i++) {
		for (size_t k = 0; k < s->parts[i].count; k++)
			md_array_clear(&s->parts[i].at[k]);
		free(s->parts[i].at);
	}
	free(s->parts);
	*s = (md_sink){0};
}
