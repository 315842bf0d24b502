/* output.c -- texts that become files: written beside the target and renamed, whole or not at all.
 */
#include "driver.h"
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static bool
write_all(int fd, const char *bytes, size_t n)
{
	while (n) {
		ssize_t written = write(fd, bytes, n);
		if (written < 0 && errno == EINTR)
			continue;
		if (written < 0)
			return false;
		bytes += written;
		n -= (size_t)written;
	}
	return true;
}

static const char *
folder_of(ml_arena *arena, const char *path)
{
	const char *slash = strrchr(path, '/');

	return slash ? ml_strndup(arena, path, (size_t)(slash - path) + 1) : ".";
}

/* Whatever is renamed onto a device or a folder destroys it; where nothing can be made, minutes of
 * training would be lost. */
ml_status
ml_check_output(ml_context *cx, const char *path)
{
	struct stat s;

	if (path && access(folder_of(&cx->arena, path), W_OK | X_OK)) {
		const char *why = strerror(errno);
		return ml_error(cx, ML_ERR_IO, NULL, "cannot write '%s': %s",
				ml_escaped(&cx->arena, path), why);
	}
	if (!path || stat(path, &s) || S_ISREG(s.st_mode))
		return ML_OK;
	return ml_error(cx, ML_ERR_IO, NULL, "cannot replace '%s': not a regular file",
			ml_escaped(&cx->arena, path));
}

/* A file without a name beside `path`: of a process that is killed while it writes, nothing stays.
 * Not mkstemp: its files are for the owner alone, and only open() applies the umask. */
static int
open_nameless(ml_arena *arena, const char *path)
{
	return open(folder_of(arena, path), O_WRONLY | O_TMPFILE | O_CLOEXEC, 0666);
}

static bool
name_file(ml_arena *arena, int fd, const char *name)
{
	const char *own = ml_format(arena, "/proc/self/fd/%d", fd);

	return !linkat(AT_FDCWD, own, AT_FDCWD, name, AT_SYMLINK_FOLLOW);
}

ml_status
ml_write_text(const ml_options *o, const char *path, const char *title, const ml_text *text)
{
	ml_context *cx = o->cx;

	if (!path) {
		ml_show(o, title, text->at);
		return ML_OK;
	}
	char *temporary = ml_format(&cx->arena, "%s.%ld.tmp", path, (long)getpid());
	bool nameless = true;
	int fd = open_nameless(&cx->arena, path);
	if (fd < 0) {
		nameless = false; /* not every file system has such files */
		fd = open(temporary, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0666);
	}
	if (fd < 0)
		return ml_error(cx, ML_ERR_IO, NULL, "cannot write '%s': %s", path,
				strerror(errno));
	bool good = write_all(fd, text->at, text->length) &&
		    (!nameless || name_file(&cx->arena, fd, temporary));
	good = !close(fd) && good && !rename(temporary, path);
	if (good)
		return ML_OK;
	int why = errno;
	unlink(temporary);
	return ml_error(cx, ML_ERR_IO, NULL, "cannot write '%s': %s", path, strerror(why));
}
