/* scratch.h -- a folder of its own for the files of one test. */
#ifndef TEST_SCRATCH_H
#define TEST_SCRATCH_H
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>
#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

typedef struct scratch {
	char folder[256];
	char *path[16]; /* handed out in turns */
	int next;
	char why[512];
} scratch;

static inline int
scratch_setup(void **state)
{
	const char *tmp = getenv("TMPDIR");
	scratch *s = calloc(1, sizeof *s);

	if (!s)
		return -1;
	snprintf(s->folder, sizeof s->folder, "%s/mlopt-test-XXXXXX", tmp ? tmp : "/tmp");
	*state = s;
	return mkdtemp(s->folder) ? 0 : -1;
}

static inline const char *
scratch_path(scratch *s, const char *name)
{
	char **path = &s->path[s->next++ % 16];

	free(*path);
	assert_true(asprintf(path, "%s/%s", s->folder, name) > 0);
	return *path;
}

/* How many files lie in the folder, hidden ones too. */
static inline int
scratch_files(scratch *s)
{
	DIR *d = opendir(s->folder);
	int files = -2; /* . and .. */

	assert_non_null(d);
	while (readdir(d))
		files++;
	closedir(d);
	return files;
}

static inline int
scratch_teardown(void **state)
{
	scratch *s = *state;
	DIR *d = opendir(s->folder);

	for (struct dirent *e; d && (e = readdir(d));)
		if (strcmp(e->d_name, ".") && strcmp(e->d_name, ".."))
			unlinkat(dirfd(d), e->d_name, 0);
	if (d)
		closedir(d);
	rmdir(s->folder);
	for (int i = 0; i < 16; i++)
		free(s->path[i]);
	free(s);
	return 0;
}

static inline const char *
scratch_write(scratch *s, const char *name, const void *bytes, size_t size)
{
	const char *path = scratch_path(s, name);
	FILE *f = fopen(path, "wb");

	assert_non_null(f);
	assert_int_equal(fwrite(bytes, 1, size, f), size);
	fclose(f);
	return path;
}

/* The bytes of a file; the caller frees them. */
static inline unsigned char *
scratch_read(const char *path, size_t *size)
{
	FILE *f = fopen(path, "rb");
	unsigned char *bytes;
	struct stat st;

	assert_non_null(f);
	assert_int_equal(fstat(fileno(f), &st), 0);
	*size = (size_t)st.st_size;
	bytes = malloc(*size + 1);
	assert_non_null(bytes);
	assert_int_equal(fread(bytes, 1, *size, f), *size);
	fclose(f);
	return bytes;
}

/* Runs Python code with `argument` as sys.argv[1]: true if it exits with 0.  Skips the test,
 * saying so, where there is no Python with numpy (MLOPT_PYTHON names one, else python3). */
static inline int
scratch_python(scratch *s, const char *code, const char *argument)
{
	const char *python = getenv("MLOPT_PYTHON");
	const char *script = scratch_write(s, "check.py", code, strlen(code));
	char command[1024];

	python = python ? python : "python3";
	snprintf(command, sizeof command, "'%s' -c 'import numpy' 2>/dev/null", python);
	if (system(command)) {
		fprintf(stderr, "SKIPPED: %s has no numpy; set MLOPT_PYTHON\n", python);
		skip();
	}
	snprintf(command, sizeof command, "'%s' '%s' '%s'", python, script, argument);
	return system(command) == 0;
}

#define assert_why(s, text) assert_string_equal((s)->why, text)
#define assert_why_has(s, text)                                                                    \
	do {                                                                                       \
		if (!strstr((s)->why, text))                                                       \
			fail_msg("\"%s\" does not say \"%s\"", (s)->why, text);                    \
	} while (0)
#define WHY(s)          (s)->why, sizeof(s)->why
#define SCRATCH_TEST(f) cmocka_unit_test_setup_teardown(f, scratch_setup, scratch_teardown)
#endif
