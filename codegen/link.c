/* link.c -- linker and archiver as processes, found and run without a shell. */
#include "link.h"
#include <errno.h>
#include <fcntl.h>
#include <llvm/Config/llvm-config.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

enum { SAID = 600 }; /* bytes of a tool's output that a message repeats */

extern char **environ;

const char *
ml_find_program(ml_arena *arena, const char *name)
{
	const char *path = getenv("PATH");

	for (const char *at = path ? path : "/usr/bin:/bin"; *at;) {
		size_t n = strcspn(at, ":");
		const char *file = ml_format(arena, "%.*s/%s", (int)n, at, name);
		if (n && !access(file, X_OK))
			return file;
		at += n + (at[n] == ':');
	}
	return NULL;
}

const char *
ml_find_tool(ml_arena *arena, const char *name)
{
	const char *beside = ml_format(arena, "%s/%s", ML_LLVM_BINDIR, name);
	const char *found;

	if (!access(beside, X_OK))
		return beside;
	found = ml_find_program(arena, ml_format(arena, "%s-%d", name, LLVM_VERSION_MAJOR));
	return found ? found : ml_find_program(arena, name);
}

/* The beginning of what the tool printed, without line ends. */
static const char *
read_log(ml_arena *arena, const char *log)
{
	char said[SAID + 1];
	FILE *f = fopen(log, "rb");
	size_t n = f ? fread(said, 1, SAID, f) : 0;

	if (f)
		fclose(f);
	said[n] = 0;
	for (size_t i = 0; i < n; i++)
		if (said[i] == '\n' || !said[i])
			said[i] = ' ';
	return ml_escaped(arena, said);
}

static int
spawn(char **words, const char *log, pid_t *pid)
{
	posix_spawn_file_actions_t files;
	int error = posix_spawn_file_actions_init(&files);

	if (error)
		return error;
	posix_spawn_file_actions_addopen(&files, 0, "/dev/null", O_RDONLY, 0);
	posix_spawn_file_actions_addopen(&files, 1, log, O_WRONLY | O_CREAT | O_TRUNC, 0600);
	posix_spawn_file_actions_adddup2(&files, 1, 2);
	error = posix_spawn(pid, words[0], &files, NULL, words, environ);
	posix_spawn_file_actions_destroy(&files);
	return error;
}

static ml_status
cannot_run(ml_context *cx, const char *path, int error)
{
	return ml_error(cx, ML_ERR_CODEGEN, NULL, "cannot run %s: %s", path, strerror(error));
}

ml_status
ml_tool_start(ml_context *cx, ml_arena *arena, const ml_words *words, const char *log,
	      ml_tool *tool)
{
	char **copy = ML_NEW_ARRAY(arena, char *, words->count + 1);

	for (int i = 0; i < words->count; i++)
		copy[i] = ml_strdup(arena, words->at[i]);
	*tool = (ml_tool){.path = copy[0], .log = log};
	int error = spawn(copy, log, &tool->pid);
	return error ? cannot_run(cx, copy[0], error) : ML_OK;
}

ml_status
ml_tool_end(ml_context *cx, ml_arena *arena, const ml_tool *tool)
{
	int status = 0;

	while (waitpid(tool->pid, &status, 0) < 0)
		if (errno != EINTR)
			return cannot_run(cx, tool->path, errno);
	if (!WIFEXITED(status) || WEXITSTATUS(status))
		return ml_error(cx, ML_ERR_CODEGEN, NULL, "%s failed: %s", tool->path,
				read_log(arena, tool->log));
	return ML_OK;
}
