/* calib.c -- calibration data of the command line: .npz files, ONNX test sets and folders of them.
 */
#include "calib.h"
#include "data/load.h"
#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

ml_dtype
cl_dtype(md_dtype dtype)
{
	static const ml_dtype known[MD_DTYPE_COUNT] = {
		[MD_BOOL] = ML_bool, [MD_I8] = ML_s8,   [MD_U8] = ML_u8,     [MD_I16] = ML_s16,
		[MD_U16] = ML_u16,   [MD_I32] = ML_s32, [MD_U32] = ML_u32,   [MD_I64] = ML_s64,
		[MD_U64] = ML_u64,   [MD_F16] = ML_f16, [MD_BF16] = ML_bf16, [MD_F32] = ML_f32,
		[MD_F64] = ML_f64,
	};

	return known[dtype];
}

/* ---- files ---- */

static bool
is_npz(const char *path)
{
	size_t n = strlen(path);

	return n > 4 && !strcmp(path + n - 4, ".npz");
}

/* ONNX test data: input_0.pb, input_1.pb, ... */
static bool
is_test_set(const char *path)
{
	char *first;

	if (!md_is_folder(path) || asprintf(&first, "%s/input_0.pb", path) < 0)
		return false;
	bool there = !access(first, F_OK);
	free(first);
	return there;
}

static int
add_file(cl_calib *c, const char *folder, const char *name, char *why, size_t why_size)
{
	char **more = realloc(c->file, ((size_t)c->files + 1) * sizeof *more);

	if (!more)
		return md_fail(why, why_size, "no memory");
	c->file = more;
	if (asprintf(&c->file[c->files], "%s%s%s", folder, *folder ? "/" : "", name) < 0)
		return md_fail(why, why_size, "no memory");
	c->files++;
	return 0;
}

static int
by_name(const void *a, const void *b)
{
	return strcmp(*(char *const *)a, *(char *const *)b);
}

/* What of a folder is data; the rest is left alone. */
static int
add_entry(cl_calib *c, const char *folder, const char *name, char *why, size_t why_size)
{
	if (*name == '.')
		return 0;
	if (add_file(c, folder, name, why, why_size))
		return -1;
	const char *path = c->file[c->files - 1];
	if (!is_npz(path) && !is_test_set(path))
		free(c->file[--c->files]);
	return 0;
}

static int
add_folder(cl_calib *c, const char *path, char *why, size_t why_size)
{
	DIR *dir = opendir(path);
	int before = c->files;
	int status = dir ? 0 : md_fail(why, why_size, "%s: cannot be read", path);

	for (struct dirent *d; !status && (d = readdir(dir));)
		status = add_entry(c, path, d->d_name, why, why_size);
	if (dir)
		closedir(dir);
	if (!status && c->files == before)
		status = md_fail(why, why_size, "%s: no .npz and no test set in this folder", path);
	if (!status)
		qsort(c->file + before, (size_t)(c->files - before), sizeof *c->file, by_name);
	return status;
}

bool
cl_is_samples(const char *path)
{
	return is_npz(path) || md_is_folder(path);
}

void
cl_calib_begin(cl_calib *c)
{
	*c = (cl_calib){.set = -1};
}

int
cl_calib_add(cl_calib *c, const char *path, char *why, size_t why_size)
{
	if (md_is_folder(path) && !is_test_set(path))
		return add_folder(c, path, why, why_size);
	return add_file(c, "", path, why, why_size);
}

static void
close_set(cl_calib *c)
{
	md_arrays_clear(&c->arrays);
	if (c->npz)
		md_npz_close(c->npz);
	c->npz = NULL;
	c->set = -1;
}

void
cl_calib_close(cl_calib *c)
{
	close_set(c);
	md_arrays_clear(&c->labels);
	for (int i = 0; i < c->files; i++)
		free(c->file[i]);
	free(c->file);
	*c = (cl_calib){.set = -1};
}

/* ---- arrays ---- */

static int
open_set(cl_calib *c, int set, ml_message *why)
{
	if (set == c->set)
		return 0;
	close_set(c);
	if (is_npz(c->file[set])) {
		c->npz = md_npz_open(c->file[set], why->text, sizeof why->text);
		if (!c->npz)
			return -1;
	} else if (md_load(c->file[set], NULL, 0, &c->arrays, why->text, sizeof why->text)) {
		return -1;
	}
	c->set = set;
	return 0;
}

/* An array of a test set: the tensor of this name, else the one at this place. */
static md_array *
find_tensor(cl_calib *c, int input, const char *name, ml_message *why)
{
	char present[256];
	md_array *a = md_arrays_find(&c->arrays, name);

	if (!a && input >= 0 && (size_t)input < c->arrays.count)
		a = &c->arrays.at[input];
	if (!a)
		md_fail(why->text, sizeof why->text, "%s: no array named '%s' (it has: %s)",
			c->file[c->set], name,
			md_arrays_names(&c->arrays, present, sizeof present));
	return a;
}

static void
say_what_there_is(const cl_calib *c, const char *name, ml_message *why)
{
	char present[256] = "nothing";
	size_t used = 0;

	for (size_t i = 0; i < md_npz_count(c->npz) && used < sizeof present; i++)
		used += (size_t)snprintf(present + used, sizeof present - used, "%s%s",
					 i ? ", " : "", md_npz_name(c->npz, i));
	md_fail(why->text, sizeof why->text, "%s: no array named '%s' (it has: %s)",
		c->file[c->set], name, present);
}

/* *there: has the file such an array?  NULL with a message when it has not, or it cannot be read.
 */
static md_array *
load(cl_calib *c, int input, const char *name, bool *there, ml_message *why)
{
	char place[16];
	const char *entry = name;
	md_array a;

	if (!c->npz) {
		md_array *tensor = find_tensor(c, input, name, why);
		*there = tensor != NULL;
		return tensor;
	}
	snprintf(place, sizeof place, "in%d", input);
	long at = md_npz_find(c->npz, name);
	if (at < 0)
		at = md_npz_find(c->npz, entry = place);
	md_array *known = at < 0 ? NULL : md_arrays_find(&c->arrays, entry);
	if (known)
		return known;
	*there = at >= 0;
	if (at < 0) {
		say_what_there_is(c, name, why);
		return NULL;
	}
	if (md_npz_load(c->npz, (size_t)at, &a, why->text, sizeof why->text))
		return NULL;
	if (!md_arrays_push(&c->arrays, &a, why->text, sizeof why->text))
		return md_arrays_find(&c->arrays, entry);
	md_array_clear(&a);
	return NULL;
}

/* ---- labels in a file of their own ---- */

static int
read_labels(cl_calib *c, const char *path, ml_message *why)
{
	md_npz *npz = md_npz_open(path, why->text, sizeof why->text);
	md_array a;

	if (!npz)
		return -1;
	long at = md_npz_find(npz, "labels");
	if (at < 0 && md_npz_count(npz) == 1)
		at = 0;
	int failed =
		at < 0 ? md_fail(why->text, sizeof why->text, "%s: no array named 'labels'", path)
		       : md_npz_load(npz, (size_t)at, &a, why->text, sizeof why->text);
	md_npz_close(npz);
	if (failed)
		return -1;
	if (!md_arrays_push(&c->labels, &a, why->text, sizeof why->text))
		return 0;
	md_array_clear(&a);
	return -1;
}

static md_array *
labels(cl_calib *c, const char *path, ml_message *why)
{
	if (c->files > 1) {
		md_fail(why->text, sizeof why->text,
			"%s: samples of several files have their labels beside them", path);
		return NULL;
	}
	return c->labels.count || !read_labels(c, path, why) ? &c->labels.at[0] : NULL;
}

int
cl_calib_array(void *calib, int set, int input, const char *name, ml_view *v, ml_message *why)
{
	cl_calib *c = calib;

	if (set >= c->files)
		return 0;
	if (open_set(c, set, why))
		return -1;
	bool own = input < 0 && is_npz(name), there = true;
	const md_array *a = own ? labels(c, name, why) : load(c, input, name, &there, why);
	if (!a)
		return there ? -1 : -2;
	*v = (ml_view){.dtype = cl_dtype(a->dtype), .rank = a->rank, .data = a->data};
	for (int i = 0; i < a->rank; i++)
		v->dim[i] = a->dim[i];
	v->bytes = a->bytes;
	return 1;
}
