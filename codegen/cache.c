/* cache.c -- compiled objects kept in a folder between compilations. */
#include "cache.h"
#include "../ir/blob.h"
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

enum { NAME = 40, OTHERS_MAY_WRITE = 022, FORGOTTEN_SECONDS = 3600 };

static const char ending[] = ".mlo", temporary[] = "tmp-";

/* ---- the folder ---- */

static ml_status
refuse(ml_context *cx, const char *folder, const char *why)
{
	return ml_error(cx, ML_ERR_IO, NULL, "the cache folder '%s' %s",
			ml_escaped(&cx->arena, folder), why);
}

/* Everything later goes through the folder's descriptor: what is judged here is what is used. */
ml_status
ml_cache_open(ml_context *cx, const ml_cache_place *place, ml_cache *c)
{
	struct stat s;

	*c = (ml_cache){.folder = -1, .bytes = place->bytes, .memory = place->kept};
	if (!place->folder)
		return ML_OK;
	if (mkdir(place->folder, 0700) && errno != EEXIST)
		return refuse(cx, place->folder, strerror(errno));
	int fd = open(place->folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (fd < 0)
		return refuse(cx, place->folder, strerror(errno));
	const char *why = fstat(fd, &s)                  ? strerror(errno)
			  : s.st_uid != geteuid()        ? "belongs to another user"
			  : s.st_mode & OTHERS_MAY_WRITE ? "can be written to by others"
							 : NULL;
	if (!why) {
		c->folder = fd;
		return ML_OK;
	}
	close(fd);
	refuse(cx, place->folder, why);
	ml_hint(cx, "whoever can write there decides what code runs here: chmod go-w, or another "
		    "folder");
	return ML_ERR_IO;
}

bool
ml_cache_is_open(const ml_cache *c)
{
	return c->folder >= 0 || c->memory;
}

/* ---- entries ---- */

typedef struct entry_head {
	char magic[8];
	uint64_t key_bytes, body_bytes;
	uint64_t checksum; /* of key and body */
} entry_head;

static const char magic[8] = "mlopt\0o1";

static void
entry_name(ml_bytes key, char name[NAME])
{
	snprintf(name, NAME, "%016llx%016llx%s",
		 (unsigned long long)ml_hash_bytes(key.at, key.size, 1),
		 (unsigned long long)ml_hash_bytes(key.at, key.size, 2), ending);
}

static bool
read_all(int fd, void *to, size_t size)
{
	char *at = to;

	while (size) {
		ssize_t n = read(fd, at, size);
		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			return false;
		at += n;
		size -= (size_t)n;
	}
	return true;
}

static bool
write_all(int fd, ml_bytes b)
{
	const char *at = b.at;

	while (b.size) {
		ssize_t n = write(fd, at, b.size);
		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			return false;
		at += n;
		b.size -= (size_t)n;
	}
	return true;
}

static uint64_t
checksum(ml_bytes key, ml_bytes body)
{
	return ml_hash_bytes(body.at, body.size, ml_hash_bytes(key.at, key.size, 0));
}

/* The key is compared, not only hashed: a collision must not become another kernel's code. */
static bool
read_key(int fd, ml_bytes key)
{
	char part[4096];

	for (size_t at = 0, n; at < key.size; at += n) {
		n = key.size - at < sizeof part ? key.size - at : sizeof part;
		if (!read_all(fd, part, n) || memcmp(part, (const char *)key.at + at, n))
			return false;
	}
	return true;
}

static bool
read_entry(int fd, const ml_memory *m, ml_bytes key, ml_bytes *body)
{
	struct stat s;
	entry_head h;

	if (fstat(fd, &s) || !S_ISREG(s.st_mode) || s.st_uid != geteuid() ||
	    !read_all(fd, &h, sizeof h) || memcmp(h.magic, magic, sizeof magic) ||
	    h.key_bytes != key.size || !h.body_bytes ||
	    (uint64_t)s.st_size - sizeof h - key.size != h.body_bytes || !read_key(fd, key))
		return false;
	void *at = m->resize(m->user, NULL, 0, h.body_bytes);
	if (!at)
		return false;
	*body = (ml_bytes){at, h.body_bytes};
	if (read_all(fd, at, h.body_bytes) && h.checksum == checksum(key, *body))
		return true;
	ml_cache_drop(m, body);
	return false;
}

static bool
get_from_memory(ml_kept *kept, const ml_memory *m, ml_bytes key, ml_bytes *body)
{
	ml_bytes lent;

	if (!kept || !ml_kept_get(kept, key, &lent))
		return false;
	void *at = m->resize(m->user, NULL, 0, lent.size);
	if (!at)
		return false;
	memcpy(at, lent.at, lent.size);
	*body = (ml_bytes){at, lent.size};
	return true;
}

bool
ml_cache_get(ml_cache *c, const ml_memory *m, ml_bytes key, ml_bytes *body)
{
	char name[NAME];

	*body = (ml_bytes){0};
	if (get_from_memory(c->memory, m, key, body))
		return true;
	if (c->folder < 0)
		return false;
	entry_name(key, name);
	int fd = openat(c->folder, name, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
	bool found = fd >= 0 && read_entry(fd, m, key, body);
	if (found)
		futimens(fd, NULL); /* used now */
	if (fd >= 0)
		close(fd);
	__atomic_fetch_add(found ? &c->hits : &c->misses, 1, __ATOMIC_RELAXED);
	return found;
}

void
ml_cache_drop(const ml_memory *m, ml_bytes *body)
{
	if (body->at)
		m->resize(m->user, (void *)(uintptr_t)body->at, body->size, 0);
	*body = (ml_bytes){0};
}

static bool
write_entry(int fd, ml_bytes key, ml_bytes body)
{
	entry_head h = {
		.key_bytes = key.size, .body_bytes = body.size, .checksum = checksum(key, body)};

	memcpy(h.magic, magic, sizeof magic);
	return write_all(fd, (ml_bytes){&h, sizeof h}) && write_all(fd, key) && write_all(fd, body);
}

void
ml_cache_put(ml_cache *c, ml_bytes key, ml_bytes body)
{
	char name[NAME], beside[NAME];
	uint64_t unique;

	if (c->memory)
		ml_kept_put(c->memory, key, body);
	if (c->folder < 0 || getrandom(&unique, sizeof unique, 0) != sizeof unique)
		return;
	entry_name(key, name);
	snprintf(beside, sizeof beside, "%s%016llx", temporary, (unsigned long long)unique);
	int fd = openat(c->folder, beside, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
	if (fd < 0)
		return;
	bool fine = write_entry(fd, key, body);
	if (close(fd) || !fine || renameat(c->folder, beside, c->folder, name))
		unlinkat(c->folder, beside, 0);
	else
		__atomic_fetch_add(&c->kept, 1, __ATOMIC_RELAXED);
}

/* ---- the bound ---- */

typedef struct file {
	char name[NAME];
	struct timespec used;
	int64_t bytes;
} file;

typedef struct file_list {
	file *at;
	size_t count, room;
	const ml_memory *memory;
} file_list;

static bool
add_file(file_list *l, const file *f)
{
	if (l->count == l->room) {
		size_t room = l->room ? 2 * l->room : 256;
		file *at = l->memory->resize(l->memory->user, l->at, l->room * sizeof *at,
					     room * sizeof *at);
		if (!at)
			return false;
		l->at = at;
		l->room = room;
	}
	l->at[l->count++] = *f;
	return true;
}

static bool
ends_with(const char *name, const char *end)
{
	size_t n = strlen(name), k = strlen(end);

	return n > k && !strcmp(name + n - k, end);
}

/* Looks at one name; files that are not the cache's own are left alone. */
static bool
note_file(const ml_cache *c, file_list *l, const char *name)
{
	bool entry = ends_with(name, ending), rest = !strncmp(name, temporary, strlen(temporary));
	file f = {.bytes = 0};
	struct stat s;

	if ((!entry && !rest) || strlen(name) >= sizeof f.name ||
	    fstatat(c->folder, name, &s, AT_SYMLINK_NOFOLLOW) || !S_ISREG(s.st_mode))
		return true;
	if (rest) { /* of a process that was killed, if it is old */
		if (time(NULL) - s.st_mtim.tv_sec > FORGOTTEN_SECONDS)
			unlinkat(c->folder, name, 0);
		return true;
	}
	memcpy(f.name, name, strlen(name) + 1);
	f.used = s.st_mtim;
	f.bytes = s.st_size;
	return add_file(l, &f);
}

static int
by_use(const void *x, const void *y)
{
	const struct timespec *a = &((const file *)x)->used, *b = &((const file *)y)->used;

	if (a->tv_sec != b->tv_sec)
		return a->tv_sec < b->tv_sec ? -1 : 1;
	return (a->tv_nsec > b->tv_nsec) - (a->tv_nsec < b->tv_nsec);
}

static void
trim(const ml_cache *c, const ml_memory *m)
{
	int fd = openat(c->folder, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	DIR *d = fd < 0 ? NULL : fdopendir(fd);
	file_list l = {.memory = m};
	int64_t bytes = 0;

	if (!d && fd >= 0)
		close(fd);
	for (struct dirent *entry; d && (entry = readdir(d));)
		if (!note_file(c, &l, entry->d_name))
			break;
	if (d)
		closedir(d);
	for (size_t i = 0; i < l.count; i++)
		bytes += l.at[i].bytes;
	if (l.count)
		qsort(l.at, l.count, sizeof *l.at, by_use);
	for (size_t i = 0; i < l.count && bytes > c->bytes; bytes -= l.at[i++].bytes)
		unlinkat(c->folder, l.at[i].name, 0);
	if (l.at)
		m->resize(m->user, l.at, l.room * sizeof *l.at, 0);
}

void
ml_cache_close(ml_cache *c, const ml_memory *m)
{
	if (c->folder < 0)
		return;
	if (c->kept)
		trim(c, m);
	close(c->folder);
	c->folder = -1;
}
