/* npz.c -- .npz through libzip. */
#include "npz.h"
#include "entry_name.h"
#include "npy.h"
#include "replace.h"
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <zip.h>

/* Finding duplicates is quadratic; the largest real files (a decoder's cache) have hundreds. */
enum { MOST_ENTRIES = 8192 };

/* deflate cannot do better than 1032 bytes per byte (258-byte matches of 2 bits). */
enum { DEFLATE_RATIO = 1032, DEFLATE_SLACK = 64 };

typedef struct entry {
	char *name;
	zip_uint64_t index;
} entry;

struct md_npz {
	zip_t *zip;
	entry *entry;
	size_t count;
	char *path;
};

static int
fail_zip(int code, const char *path, char *why, size_t why_size)
{
	zip_error_t error;

	zip_error_init_with_code(&error, code);
	md_fail(why, why_size, "%s: %s", path, zip_error_strerror(&error));
	zip_error_fini(&error);
	return -1;
}

static int
add_entry(md_npz *z, zip_uint64_t index, char *why, size_t why_size)
{
	static const char suffix[] = ".npy";
	const char *text = zip_get_name(z->zip, index, 0);
	size_t n = text ? strlen(text) : 0;
	char *name;

	if (n < sizeof suffix - 1 || strcmp(text + n - (sizeof suffix - 1), suffix))
		return 0;
	name = md_name_from_entry(text, n - (sizeof suffix - 1));
	if (!name)
		return md_fail(why, why_size, "no memory");
	if (md_npz_find(z, name) >= 0) {
		md_fail(why, why_size, "%s: two arrays are named '%s'", z->path, name);
		free(name);
		return -1;
	}
	z->entry[z->count++] = (entry){name, index};
	return 0;
}

static int
list_entries(md_npz *z, char *why, size_t why_size)
{
	zip_int64_t entries = zip_get_num_entries(z->zip, 0);

	if (entries > MOST_ENTRIES)
		return md_fail(why, why_size, "%s: too many entries: %" PRId64, z->path,
			       (int64_t)entries);
	z->entry = calloc((size_t)entries + 1, sizeof *z->entry);
	if (!z->entry)
		return md_fail(why, why_size, "no memory");
	for (zip_int64_t i = 0; i < entries; i++)
		if (add_entry(z, (zip_uint64_t)i, why, why_size))
			return -1;
	return 0;
}

md_npz *
md_npz_open(const char *path, char *why, size_t why_size)
{
	md_npz *z = calloc(1, sizeof *z);
	int code = 0;

	if (!z || !(z->path = strdup(path))) {
		free(z);
		md_fail(why, why_size, "no memory");
		return NULL;
	}
	z->zip = zip_open(path, ZIP_RDONLY, &code);
	if (!z->zip)
		fail_zip(code, path, why, why_size);
	else if (list_entries(z, why, why_size) == 0)
		return z;
	md_npz_close(z);
	return NULL;
}

void
md_npz_close(md_npz *z)
{
	if (!z)
		return;
	for (size_t i = 0; i < z->count; i++)
		free(z->entry[i].name);
	free(z->entry);
	if (z->zip)
		zip_discard(z->zip);
	free(z->path);
	free(z);
}

size_t
md_npz_count(const md_npz *z)
{
	return z->count;
}

const char *
md_npz_name(const md_npz *z, size_t index)
{
	return z->entry[index].name;
}

long
md_npz_find(const md_npz *z, const char *name)
{
	for (size_t i = 0; i < z->count; i++)
		if (!strcmp(z->entry[i].name, name))
			return (long)i;
	return -1;
}

/* What the archive says about the entry must be possible before it is believed. */
static int
check_entry(const zip_stat_t *st, char *why, size_t why_size)
{
	const zip_uint64_t needed = ZIP_STAT_SIZE | ZIP_STAT_COMP_SIZE | ZIP_STAT_COMP_METHOD;
	zip_uint64_t most;

	if ((st->valid & needed) != needed)
		return md_fail(why, why_size, "the archive does not tell the entry's size");
	if (st->comp_method == ZIP_CM_STORE)
		most = st->comp_size;
	else if (st->comp_method != ZIP_CM_DEFLATE)
		return md_fail(why, why_size, "compression method %d is not supported",
			       st->comp_method);
	else if (__builtin_mul_overflow(st->comp_size, DEFLATE_RATIO, &most) ||
		 __builtin_add_overflow(most, DEFLATE_SLACK, &most))
		most = UINT64_MAX;
	if (st->size > most)
		return md_fail(why, why_size,
			       "%" PRIu64 " compressed bytes cannot hold the %" PRIu64 " declared",
			       (uint64_t)st->comp_size, (uint64_t)st->size);
	return 0;
}

static int
read_entry(void *file, void *to, size_t n)
{
	for (size_t done = 0; done < n;) {
		zip_int64_t got = zip_fread(file, (char *)to + done, n - done);

		if (got <= 0)
			return -1;
		done += (size_t)got;
	}
	return 0;
}

static int
load_entry(md_npz *z, const entry *e, md_array *a, char *why, size_t why_size)
{
	zip_file_t *file;
	zip_int64_t excess = 0;
	zip_stat_t st;
	char byte;
	int status;

	if (zip_stat_index(z->zip, e->index, 0, &st))
		return md_fail(why, why_size, "%s", zip_strerror(z->zip));
	if (check_entry(&st, why, why_size))
		return -1;
	file = zip_fopen_index(z->zip, e->index, 0);
	if (!file)
		return md_fail(why, why_size, "%s", zip_strerror(z->zip));
	status = md_npy_read_stream(&(md_stream){read_entry, file, st.size}, e->name, a, why,
				    why_size);
	/* Only reading the end makes libzip check the CRC. */
	if (status == 0 && (excess = zip_fread(file, &byte, 1)) != 0) {
		md_array_clear(a);
		status = md_fail(why, why_size, "%s",
				 excess > 0 ? "the entry is longer than the archive declares"
					    : zip_file_strerror(file));
	}
	zip_fclose(file);
	return status;
}

int
md_npz_load(md_npz *z, size_t index, md_array *a, char *why, size_t why_size)
{
	const entry *e = &z->entry[index];
	char context[512];

	*a = (md_array){0};
	if (load_entry(z, e, a, why, why_size) == 0)
		return 0;
	snprintf(context, sizeof context, "%s: '%s'", z->path, e->name);
	return md_fail_in(why, why_size, context);
}

int
md_npz_read(const char *path, md_arrays *list, char *why, size_t why_size)
{
	md_npz *z = md_npz_open(path, why, why_size);
	int status = z ? 0 : -1;

	for (size_t i = 0; z && i < z->count && status == 0; i++) {
		md_array a;

		status = md_npz_load(z, i, &a, why, why_size);
		if (status == 0 && (status = md_arrays_push(list, &a, why, why_size)))
			md_array_clear(&a);
	}
	md_npz_close(z);
	return status;
}

/* The header must live until zip_close, which is when libzip reads it. */
static int
add_array(zip_t *zip, const md_array *a, char header[MD_NPY_HEADER_MAX], md_npz_packing packing)
{
	zip_buffer_fragment_t part[] = {{(zip_uint8_t *)header, md_npy_header(a, header)},
					{a->data, a->bytes}};
	zip_source_t *source = zip_source_buffer_fragment(zip, part, a->bytes ? 2 : 1, 0);
	char *name = md_entry_from_name(a->name, ".npy");
	zip_int64_t index = -1;

	if (source && name)
		index = zip_file_add(zip, name, source, ZIP_FL_ENC_UTF_8);
	if (index < 0)
		zip_source_free(source);
	free(name);
	/* 1980-01-01: equal arrays give equal files. */
	if (index < 0 || zip_file_set_dostime(zip, (zip_uint64_t)index, 0, 1 << 5 | 1, 0))
		return -1;
	return zip_set_file_compression(zip, (zip_uint64_t)index,
					packing == MD_NPZ_STORED ? ZIP_CM_STORE : ZIP_CM_DEFLATE,
					0);
}

static int
write_archive(const char *path, const md_arrays *list, md_npz_packing packing, char *why,
	      size_t why_size)
{
	char(*header)[MD_NPY_HEADER_MAX] = malloc((list->count + 1) * sizeof *header);
	int code = 0, status = 0;
	zip_t *zip;

	if (!header)
		return md_fail(why, why_size, "no memory");
	zip = zip_open(path, ZIP_CREATE | ZIP_TRUNCATE, &code);
	if (!zip) {
		free(header);
		return fail_zip(code, path, why, why_size);
	}
	for (size_t i = 0; i < list->count && status == 0; i++)
		status = add_array(zip, &list->at[i], header[i], packing);
	if (status || (status = zip_close(zip))) {
		md_fail(why, why_size, "%s", zip_strerror(zip));
		zip_discard(zip);
	}
	free(header);
	return status;
}

int
md_npz_write(const char *path, const md_arrays *list, md_npz_packing packing, char *why,
	     size_t why_size)
{
	md_replace r;

	if (list->count == 0) /* libzip deletes an archive without entries */
		return md_fail(why, why_size, "%s: no arrays to write", path);
	if (md_replace_begin(&r, path, why, why_size))
		return -1;
	if (write_archive(r.temporary, list, packing, why, why_size)) {
		md_fail_in(why, why_size, path);
		md_replace_abandon(&r);
		return -1;
	}
	return md_replace_commit(&r, why, why_size);
}
