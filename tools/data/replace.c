/* replace.c -- temporary, fsync, rename. */
#include "replace.h"
#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

/* Not mkstemp: its mode 0600 would become the mode of the user's file, and reading the umask to
 * undo that is not safe with threads. */
static int
make_temporary(const char *path, char **made)
{
	const char *slash = strrchr(path, '/');
	int folder = slash ? (int)(slash - path) + 1 : 0;

	for (int attempt = 0; attempt < 1000; attempt++) {
		int fd;

		if (asprintf(made, "%.*s.mlopt-%ld-%d.tmp", folder, path, (long)getpid(), attempt) <
		    0) {
			*made = NULL;
			errno = ENOMEM;
			return -1;
		}
		fd = open(*made, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0666);
		if (fd >= 0)
			return close(fd);
		free(*made);
		*made = NULL;
		if (errno != EEXIST)
			return -1;
	}
	return -1;
}

int
md_replace_begin(md_replace *r, const char *path, char *why, size_t why_size)
{
	struct stat st;

	*r = (md_replace){0};
	if (stat(path, &st) == 0 && !S_ISREG(st.st_mode))
		return md_fail(why, why_size, "%s: cannot replace: not a regular file", path);
	r->target = strdup(path);
	if (!r->target)
		return md_fail(why, why_size, "no memory");
	if (make_temporary(path, &r->temporary) == 0)
		return 0;
	md_fail(why, why_size, "%s: cannot write: %s", path, strerror(errno));
	md_replace_abandon(r);
	return -1;
}

static int
sync_path(const char *path)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	int failed;

	if (fd < 0)
		return -1;
	failed = fsync(fd);
	if (failed) {
		int reason = errno;

		close(fd);
		errno = reason;
		return -1;
	}
	return close(fd);
}

int
md_replace_commit(md_replace *r, char *why, size_t why_size)
{
	if (sync_path(r->temporary) || rename(r->temporary, r->target)) {
		md_fail(why, why_size, "%s: cannot write: %s", r->target, strerror(errno));
		md_replace_abandon(r);
		return -1;
	}
	free(r->target);
	free(r->temporary);
	*r = (md_replace){0};
	return 0;
}

void
md_replace_abandon(md_replace *r)
{
	if (r->temporary)
		unlink(r->temporary);
	free(r->target);
	free(r->temporary);
	*r = (md_replace){0};
}

static bool
write_spans(const char *path, const md_span *span, size_t spans)
{
	FILE *f = fopen(path, "wbe");
	bool good = f != NULL;

	for (size_t i = 0; i < spans && good; i++)
		good = span[i].size == 0 || fwrite(span[i].data, span[i].size, 1, f) == 1;
	if (f && fclose(f))
		good = false;
	return good;
}

int
md_replace_with(const char *path, const md_span *span, size_t spans, char *why, size_t why_size)
{
	md_replace r;

	if (md_replace_begin(&r, path, why, why_size))
		return -1;
	if (!write_spans(r.temporary, span, spans)) {
		md_fail(why, why_size, "%s: cannot write: %s", path, strerror(errno));
		md_replace_abandon(&r);
		return -1;
	}
	return md_replace_commit(&r, why, why_size);
}
