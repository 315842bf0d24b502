/* mapping.c -- files mapped for reading, found without leaving a directory. */
#include "mapping.h"
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

ml_mapping *
ml_mapping_new(ml_memory *memory)
{
	ml_mapping *m = ml_resize(memory, NULL, 0, sizeof *m);

	*m = (ml_mapping){.refs = 1, .memory = memory};
	return m;
}

ml_mapping *
ml_mapping_share(ml_mapping *m)
{
	__atomic_fetch_add(&m->refs, 1, __ATOMIC_RELAXED);
	return m;
}

void
ml_mapping_drop(ml_mapping *m)
{
	if (!m || __atomic_sub_fetch(&m->refs, 1, __ATOMIC_ACQ_REL) > 0)
		return;
	if (m->mapped)
		munmap((void *)m->bytes, (size_t)m->size);
	ml_resize(m->memory, m, sizeof *m, 0);
}

void
ml_mapping_rest(ml_mapping *m, const void *bytes, uint64_t size)
{
	uintptr_t page = (uintptr_t)sysconf(_SC_PAGESIZE), from = (uintptr_t)bytes;
	uintptr_t first = (from + page - 1) & -page, end = (from + (uintptr_t)size) & -page;

	if (m->mapped && first < end)
		madvise((char *)m->bytes + (first - (uintptr_t)m->bytes), end - first,
			MADV_DONTNEED);
}

static const char *
say(int error)
{
	switch (error) {
	case ENOENT: return "no such file";
	case EACCES:
	case EPERM: return "permission denied";
	case ELOOP: return "a symbolic link where none is allowed";
	case ENOTDIR: return "a part of the path is no directory, or a symbolic link";
	case EMFILE:
	case ENFILE: return "too many open files";
	case ENOMEM: return "no address space left to map it";
	case ENAMETOOLONG: return "name too long";
	default: return "cannot be read";
	}
}

const char *
ml_mapping_fill(ml_mapping *m, int fd)
{
	struct stat st;

	if (fstat(fd, &st))
		return say(errno);
	if (!S_ISREG(st.st_mode))
		return "not a regular file";
	if (!st.st_size)
		return NULL;
	void *bytes = mmap(NULL, (size_t)st.st_size, PROT_READ, MAP_PRIVATE, fd, 0);
	if (bytes == MAP_FAILED)
		return say(errno);
	m->bytes = bytes;
	m->size = (uint64_t)st.st_size;
	m->mapped = true;
	return NULL;
}

/* Opening must not wait for the other end of a FIFO, nor adopt a terminal. */
enum { OPEN_FLAGS = O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY };

const char *
ml_open_model(int directory, const char *path, int *fd)
{
	*fd = openat(directory, path, OPEN_FLAGS);
	return *fd < 0 ? say(errno) : NULL;
}

/* Moves the next component to `name`; NULL, or why it may not be followed. */
static const char *
next_component(const char **at, char name[NAME_MAX + 1])
{
	size_t n = strcspn(*at, "/");

	if (n > NAME_MAX)
		return "name too long";
	if (n == 2 && !memcmp(*at, "..", 2))
		return "the path leaves the model's directory by '..'";
	memcpy(name, *at, n);
	name[n] = 0;
	*at += n + strspn(*at + n, "/");
	return NULL;
}

static const char *
open_leaf(int directory, const char *name, int *fd)
{
	struct stat st;

	*fd = openat(directory, name, OPEN_FLAGS | O_NOFOLLOW);
	if (*fd < 0)
		return say(errno);
	const char *wrong = fstat(*fd, &st)        ? say(errno)
			    : !S_ISREG(st.st_mode) ? "not a regular file"
			    : st.st_nlink > 1      ? "the file has more than one hard link"
						   : NULL;
	if (wrong) {
		close(*fd);
		*fd = -1;
	}
	return wrong;
}

const char *
ml_open_beneath(int directory, const char *location, int *fd)
{
	char name[NAME_MAX + 1];
	const char *at = location, *wrong;
	int here = directory;

	*fd = -1;
	if (*at == '/')
		return "the path is absolute";
	if (!*at || at[strlen(at) - 1] == '/')
		return "the path names no file";
	for (;;) {
		wrong = next_component(&at, name);
		if (wrong || !*at)
			break;
		int next = openat(here, name, O_PATH | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
		if (next < 0) {
			wrong = say(errno);
			break;
		}
		if (here != directory)
			close(here);
		here = next;
	}
	if (!wrong)
		wrong = open_leaf(here, name, fd);
	if (here != directory)
		close(here);
	return wrong;
}
