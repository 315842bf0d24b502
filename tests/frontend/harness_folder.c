/* harness_folder.c -- a temporary folder of files for one test. */
#include "harness_folder.h"
#include <ftw.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

char folder[] = "/tmp/mlopt-test-XXXXXX";

void
open_folder(void)
{
	strcpy(folder + sizeof folder - 7, "XXXXXX");
	if (!mkdtemp(folder))
		abort();
}

static int
remove_one(const char *path, const struct stat *st, int type, struct FTW *at)
{
	(void)st;
	(void)type;
	(void)at;
	return remove(path);
}

void
remove_folder(void)
{
	nftw(folder, remove_one, 8, FTW_DEPTH | FTW_PHYS);
}

const char *
in_folder(const char *name)
{
	static char paths[4][4096];
	static int next;
	char *path = paths[next++ % 4];

	snprintf(path, sizeof paths[0], "%s/%s", folder, name);
	return path;
}

void
write_file(const char *name, const void *bytes, size_t n)
{
	FILE *f = fopen(in_folder(name), "wb");

	if (!f || fwrite(bytes, 1, n, f) != n || fclose(f))
		abort();
}
