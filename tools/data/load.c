/* load.c -- the kind of a data file follows from its name. */
#include "load.h"
#include "npy.h"
#include "npz.h"
#include "tensor_pb.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

typedef struct request {
	const char *path;
	const md_want *want; /* NULL = everything */
	size_t wanted;
	md_arrays *list;
	char *why;
	size_t why_size;
} request;

static bool
ends_in(const char *path, const char *suffix)
{
	size_t n = strlen(path), m = strlen(suffix);

	return n > m && !strcmp(path + n - m, suffix);
}

bool
md_is_folder(const char *path)
{
	struct stat st;

	return stat(path, &st) == 0 && S_ISDIR(st.st_mode);
}

/* Takes over `*a`, also on failure. */
static int
push(const request *q, md_array *a)
{
	if (md_arrays_push(q->list, a, q->why, q->why_size) == 0)
		return 0;
	md_array_clear(a);
	return md_fail_in(q->why, q->why_size, q->path);
}

static int
refuse_missing(const request *q, const char *missing, const char *present)
{
	return md_fail(q->why, q->why_size, "%s: no array named '%s' (it has: %s)", q->path,
		       missing, present);
}

/* Says what the archive has instead. */
static int
refuse_missing_entry(const request *q, const md_npz *z, const char *missing)
{
	char present[256] = "nothing";
	size_t used = 0;

	for (size_t i = 0; i < md_npz_count(z) && used < sizeof present; i++)
		used += (size_t)snprintf(present + used, sizeof present - used, "%s%s",
					 i ? ", " : "", md_npz_name(z, i));
	return refuse_missing(q, missing, present);
}

static int
load_wanted(const request *q, md_npz *z)
{
	for (size_t i = 0; i < q->wanted; i++) {
		long index = md_npz_find(z, q->want[i].name);
		md_array a;

		if (index < 0 && q->want[i].optional)
			continue;
		if (index < 0)
			return refuse_missing_entry(q, z, q->want[i].name);
		if (md_npz_load(z, (size_t)index, &a, q->why, q->why_size) || push(q, &a))
			return -1;
	}
	return 0;
}

static int
load_npz(const request *q)
{
	md_npz *z;
	int status;

	if (!q->want)
		return md_npz_read(q->path, q->list, q->why, q->why_size);
	z = md_npz_open(q->path, q->why, q->why_size);
	if (!z)
		return -1;
	status = load_wanted(q, z);
	md_npz_close(z);
	return status;
}

/* The one wanted array: the only one, or the only one that is not optional. */
static const char *
single_want(const request *q)
{
	const char *name = q->wanted == 1 ? q->want[0].name : NULL;
	size_t needed = 0;

	for (size_t i = 0; i < q->wanted; i++)
		if (!q->want[i].optional) {
			name = q->want[i].name;
			needed++;
		}
	return needed > 1 ? NULL : name;
}

static int
name_after_file(md_array *a, const request *q)
{
	const char *slash = strrchr(q->path, '/');
	const char *base = slash ? slash + 1 : q->path;
	char *stem = strndup(base, (size_t)(strrchr(base, '.') - base));
	int status = stem ? md_array_rename(a, stem, q->why, q->why_size)
			  : md_fail(q->why, q->why_size, "no memory");

	free(stem);
	return status;
}

/* A file of one array. */
static int
load_single(const request *q)
{
	const char *name = q->want ? single_want(q) : NULL;
	md_array a;
	int status;

	if (q->want && !name)
		return md_fail(q->why, q->why_size,
			       "%s holds one array, %zu are needed: give a .npz", q->path,
			       q->wanted);
	if (ends_in(q->path, ".npy"))
		status = md_npy_read(q->path, "", &a, q->why, q->why_size);
	else
		status = md_tensor_read(q->path, &a, q->why, q->why_size);
	if (status == 0 && name)
		status = md_array_rename(&a, name, q->why, q->why_size);
	else if (status == 0 && !*a.name)
		status = name_after_file(&a, q);
	if (status) {
		md_array_clear(&a);
		return -1;
	}
	return push(q, &a);
}

/* The name under which tensor number `position` of a folder is wanted; NULL if it is not. */
static const char *
name_in_folder(const request *q, const char *tensor, size_t position)
{
	for (size_t i = 0; i < q->wanted; i++)
		if (!strcmp(q->want[i].name, tensor))
			return q->want[i].name;
	return position < q->wanted ? q->want[position].name : NULL;
}

static int
load_folder_item(const request *q, const char *path, size_t position)
{
	char ordinal[32];
	const char *name;
	md_array a;

	if (md_tensor_read(path, &a, q->why, q->why_size))
		return -1;
	snprintf(ordinal, sizeof ordinal, "input_%zu", position);
	if (q->want)
		name = name_in_folder(q, a.name, position);
	else
		name = *a.name ? a.name : ordinal;
	if (!name) {
		md_array_clear(&a);
		return md_fail(q->why, q->why_size, "%s: the model has only %zu inputs", path,
			       q->wanted);
	}
	if (name != a.name && md_array_rename(&a, name, q->why, q->why_size)) {
		md_array_clear(&a);
		return -1;
	}
	return push(q, &a);
}

static int
find_missing(const request *q)
{
	for (size_t i = 0; i < q->wanted; i++)
		if (!q->want[i].optional && !md_arrays_find(q->list, q->want[i].name)) {
			char present[256];

			md_arrays_names(q->list, present, sizeof present);
			return refuse_missing(q, q->want[i].name, present);
		}
	return 0;
}

static int
load_folder(const request *q)
{
	int status = 0;

	for (size_t i = 0; status == 0; i++) {
		char *path = NULL;

		if (asprintf(&path, "%s/input_%zu.pb", q->path, i) < 0)
			return md_fail(q->why, q->why_size, "no memory");
		if (access(path, F_OK)) {
			free(path);
			break;
		}
		status = load_folder_item(q, path, i);
		free(path);
	}
	if (status == 0 && q->list->count == 0)
		return md_fail(q->why, q->why_size, "%s: no input_0.pb in this folder", q->path);
	return status ? status : find_missing(q);
}

int
md_load(const char *path, const md_want *want, size_t wanted, md_arrays *list, char *why,
	size_t why_size)
{
	md_arrays loaded = {0};
	request q = {path, want, wanted, &loaded, why, why_size};
	int status;

	if (md_is_folder(path))
		status = load_folder(&q);
	else if (ends_in(path, ".npz"))
		status = load_npz(&q);
	else if (ends_in(path, ".npy") || ends_in(path, ".pb"))
		status = load_single(&q);
	else
		status = md_fail(why, why_size,
				 "%s: data must be .npz, .npy, .pb or a folder with input_0.pb",
				 path);
	for (size_t i = 0; i < loaded.count && status == 0; i++)
		status = md_arrays_push(list, &loaded.at[i], why, why_size);
	md_arrays_clear(&loaded);
	return status;
}

/* The name under which an array of file number `position` is wanted. */
static const char *
wanted_name(const request *q, const md_arrays *file, const md_array *a, size_t position)
{
	for (size_t i = 0; i < q->wanted; i++)
		if (!strcmp(q->want[i].name, a->name))
			return a->name;
	return file->count == 1 && position < q->wanted ? q->want[position].name : NULL;
}

static int
take_file(const request *q, md_arrays *file, size_t position)
{
	for (size_t i = 0; i < file->count; i++) {
		md_array *a = &file->at[i];
		const char *name = q->want ? wanted_name(q, file, a, position) : a->name;
		if (!name)
			return md_fail(q->why, q->why_size, "%s: no input is named '%s'", q->path,
				       a->name);
		if (name != a->name && md_array_rename(a, name, q->why, q->why_size))
			return -1;
		if (md_arrays_push(q->list, a, q->why, q->why_size))
			return md_fail_in(q->why, q->why_size, q->path);
	}
	return 0;
}

int
md_load_all(const char *const *path, size_t paths, const md_want *want, size_t wanted,
	    md_arrays *list, char *why, size_t why_size)
{
	request q = {"these files", want, wanted, list, why, why_size};

	if (paths == 1)
		return md_load(path[0], want, wanted, list, why, why_size);
	for (size_t i = 0; i < paths; i++) {
		md_arrays file = {0};
		q.path = path[i];
		int status = md_load(path[i], NULL, 0, &file, why, why_size);
		if (status == 0)
			status = take_file(&q, &file, i);
		md_arrays_clear(&file);
		if (status)
			return -1;
	}
	q.path = "these files";
	return find_missing(&q);
}

bool
md_is_one_set(const char *const *path, size_t paths)
{
	for (size_t i = 0; i < paths; i++)
		if (md_is_folder(path[i]) || (paths > 1 && ends_in(path[i], ".pb")))
			return true;
	return false;
}

int
md_store(const char *path, const md_arrays *list, char *why, size_t why_size)
{
	if (ends_in(path, ".npz"))
		return md_npz_write(path, list, MD_NPZ_STORED, why, why_size);
	if (!ends_in(path, ".npy") && !ends_in(path, ".pb"))
		return md_fail(why, why_size, "%s: data must be .npz, .npy or .pb", path);
	if (list->count != 1)
		return md_fail(why, why_size, "%s holds one array, there are %zu: use a .npz", path,
			       list->count);
	if (ends_in(path, ".npy"))
		return md_npy_write(path, &list->at[0], why, why_size);
	return md_tensor_write(path, &list->at[0], why, why_size);
}
