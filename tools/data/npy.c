/* npy.c -- reading and writing .npy: magic, header, data. */
#include "npy.h"
#include "npy_header.h"
#include "replace.h"
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

enum { MAGIC = 6, PREFIX_1 = 10, PREFIX_2 = 12, ALIGN = 64, LONGEST_TEXT = 65536 };

static const char magic[] = "\x93NUMPY";

/* Reads up to the first data byte; `*used` says how many bytes that were. */
static int
read_header(const md_stream *s, md_npy_layout *layout, size_t *used, char *why, size_t why_size)
{
	uint8_t prefix[PREFIX_2];
	size_t prefix_size = PREFIX_1;
	size_t text_size;
	char *text;
	int status;

	if (s->size < PREFIX_1 || s->read(s->from, prefix, PREFIX_1) ||
	    memcmp(prefix, magic, MAGIC))
		return md_fail(why, why_size, "not a .npy file");
	if (prefix[6] < 1 || prefix[6] > 3 || prefix[7] != 0)
		return md_fail(why, why_size, ".npy version %d.%d is not supported", prefix[6],
			       prefix[7]);
	text_size = prefix[8] | (size_t)prefix[9] << 8;
	if (prefix[6] > 1) {
		prefix_size = PREFIX_2;
		if (s->size < PREFIX_2 || s->read(s->from, prefix + PREFIX_1, 2))
			return md_fail(why, why_size, "the file ends inside the .npy header");
		text_size |= (size_t)prefix[10] << 16 | (size_t)prefix[11] << 24;
	}
	if (text_size > s->size - prefix_size)
		return md_fail(why, why_size, "the file ends inside the .npy header");
	if (text_size > LONGEST_TEXT)
		return md_fail(why, why_size, "the .npy header is too long: %zu bytes", text_size);
	text = malloc(text_size + 1);
	if (!text)
		return md_fail(why, why_size, "no memory");
	if (s->read(s->from, text, text_size))
		status = md_fail(why, why_size, "the file ends inside the .npy header");
	else
		status = md_npy_parse(text, text_size, layout, why, why_size);
	free(text);
	*used = prefix_size + text_size;
	return status;
}

static void
swap_bytes(md_array *a)
{
	size_t size = md_dtype_size(a->dtype);

	for (unsigned char *p = a->data, *end = p + a->bytes; p < end; p += size)
		for (size_t lo = 0, hi = size - 1; lo < hi; lo++, hi--) {
			unsigned char kept = p[lo];

			p[lo] = p[hi];
			p[hi] = kept;
		}
}

/* From first axis fastest to last axis fastest: walks the result in order and keeps the place in
 * the source that belongs to it. */
static int
reorder_fortran(md_array *a, char *why, size_t why_size)
{
	size_t size = md_dtype_size(a->dtype);
	size_t stride[MD_MAX_RANK], from = 0;
	int64_t index[MD_MAX_RANK] = {0};
	char *source = a->data;
	char *sorted = malloc(a->bytes ? a->bytes : 1);

	if (!sorted)
		return md_fail(why, why_size, "no memory for %zu bytes", a->bytes);
	for (int i = 0; i < a->rank; i++)
		stride[i] = i ? stride[i - 1] * (size_t)a->dim[i - 1] : size;
	for (size_t to = 0; to < a->bytes; to += size) {
		memcpy(sorted + to, source + from, size);
		for (int i = a->rank - 1; i >= 0; i--) {
			from += stride[i];
			if (++index[i] < a->dim[i])
				break;
			from -= stride[i] * (size_t)a->dim[i];
			index[i] = 0;
		}
	}
	free(a->block);
	a->block = a->data = sorted;
	return 0;
}

/* A byte that is neither 0 nor 1 would be undefined behaviour in whoever reads it as a bool. */
static void
normalise_bools(md_array *a)
{
	for (unsigned char *p = a->data, *end = p + a->bytes; p < end; p++)
		*p = *p != 0;
}

static int
convert(md_array *a, const md_npy_layout *layout, char *why, size_t why_size)
{
	if (layout->swapped)
		swap_bytes(a);
	if (layout->dtype == MD_BOOL)
		normalise_bools(a);
	if (layout->fortran && layout->rank > 1)
		return reorder_fortran(a, why, why_size);
	return 0;
}

int
md_npy_read_stream(const md_stream *s, const char *name, md_array *a, char *why, size_t why_size)
{
	md_npy_layout layout = {0};
	size_t used = 0, bytes;

	*a = (md_array){0};
	if (read_header(s, &layout, &used, why, why_size) ||
	    md_shape_bytes(layout.dtype, layout.rank, layout.dim, &bytes, why, why_size))
		return -1;
	if (bytes != s->size - used)
		return md_fail(why, why_size,
			       "the .npy header declares %zu bytes of data, the file has %" PRIu64,
			       bytes, s->size - used);
	if (md_array_init(a, name, layout.dtype, layout.rank, layout.dim, why, why_size))
		return -1;
	if (bytes && s->read(s->from, a->data, bytes)) {
		md_array_clear(a);
		return md_fail(why, why_size, "the data cannot be read");
	}
	if (convert(a, &layout, why, why_size)) {
		md_array_clear(a);
		return -1;
	}
	return 0;
}

static int
read_file(void *file, void *to, size_t n)
{
	return n == 0 || fread(to, n, 1, file) == 1 ? 0 : -1;
}

int
md_npy_read(const char *path, const char *name, md_array *a, char *why, size_t why_size)
{
	FILE *f = fopen(path, "rbe");
	struct stat st;
	int status;

	*a = (md_array){0};
	if (!f)
		return md_fail(why, why_size, "%s: %s", path, strerror(errno));
	if (fstat(fileno(f), &st) || !S_ISREG(st.st_mode)) {
		status = md_fail(why, why_size, "%s: not a regular file", path);
	} else {
		md_stream s = {read_file, f, (uint64_t)st.st_size};

		status = md_npy_read_stream(&s, name, a, why, why_size);
		if (status)
			md_fail_in(why, why_size, path);
	}
	fclose(f);
	return status;
}

size_t
md_npy_header(const md_array *a, char header[MD_NPY_HEADER_MAX])
{
	size_t n = PREFIX_1 + md_npy_print(a, header + PREFIX_1, MD_NPY_HEADER_MAX - PREFIX_1);
	size_t total = (n + ALIGN) / ALIGN * ALIGN; /* at least one byte for the newline */
	size_t text_size = total - PREFIX_1;

	memcpy(header, magic, MAGIC);
	header[6] = 1;
	header[7] = 0;
	header[8] = (char)(text_size & 255);
	header[9] = (char)(text_size >> 8);
	memset(header + n, ' ', total - n);
	header[total - 1] = '\n';
	return total;
}

int
md_npy_write(const char *path, const md_array *a, char *why, size_t why_size)
{
	char header[MD_NPY_HEADER_MAX];
	md_span spans[] = {{header, md_npy_header(a, header)}, {a->data, a->bytes}};

	return md_replace_with(path, spans, 2, why, why_size);
}
