/* load.c -- artefacts in shared objects: looked at before their code is let in. */
#include "model.h"
#include <dlfcn.h>
#include <elf.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#if defined(__x86_64__)
enum { MACHINE = EM_X86_64 };
#elif defined(__aarch64__)
enum { MACHINE = EM_AARCH64 };
#endif

static const char *
machine_name(unsigned machine)
{
	return machine == EM_X86_64    ? "x86-64"
	       : machine == EM_AARCH64 ? "aarch64"
				       : "another machine";
}

/* dlopen's own messages would only speak of bad magic. */
static ml_status
check_file(const char *path, ml_message *why)
{
	Elf64_Ehdr h = {0};
	int fd = open(path, O_RDONLY | O_CLOEXEC);

	if (fd < 0)
		return mlrt_say(why, ML_ERR_IO, "cannot open '%s': %s", path, strerror(errno));
	ssize_t n = read(fd, &h, sizeof h);
	int error = errno;
	close(fd);
	if (n < 0)
		return mlrt_say(why, ML_ERR_IO, "cannot read '%s': %s", path, strerror(error));
	if (n != (ssize_t)sizeof h || memcmp(h.e_ident, ELFMAG, SELFMAG) || h.e_type != ET_DYN ||
	    h.e_ident[EI_CLASS] != ELFCLASS64)
		return mlrt_say(why, ML_ERR_FORMAT,
				"'%s' is no compiled model (a shared object from mloptc --emit=so)",
				path);
	if (h.e_machine != MACHINE)
		return mlrt_say(why, ML_ERR_TARGET, "'%s' is compiled for %s, this is %s", path,
				machine_name(h.e_machine), machine_name(MACHINE));
	return ML_OK;
}

static ml_function *
find(void *handle, const char *name)
{
	void *symbol = dlsym(handle, name);
	ml_function *f = NULL;

	memcpy(&f, &symbol, sizeof f); /* ISO C has no cast between the two kinds of pointers */
	return f;
}

static void
release(void *handle)
{
	dlclose(handle);
}

static void *
open_library(const char *path)
{
	char here[4096];

	if (strchr(path, '/'))
		return dlopen(path, RTLD_NOW | RTLD_LOCAL);
	/* Without a slash the loader would search its own folders. */
	snprintf(here, sizeof here, "./%s", path);
	return dlopen(here, RTLD_NOW | RTLD_LOCAL);
}

ml_status
ml_model_load(const char *path, const ml_allocator *allocator, ml_model **out, ml_message *why)
{
	ml_status status = check_file(path, why);

	*out = NULL;
	if (status)
		return status;
	void *handle = open_library(path);
	if (!handle)
		return mlrt_say(why, ML_ERR_FORMAT, "cannot load '%s': %s", path, dlerror());
	const mlrt_program *p = dlsym(handle, "mlopt_program");
	if (!p)
		status = mlrt_say(why, ML_ERR_FORMAT,
				  "'%s' is no compiled model: it has no mlopt_program", path);
	else
		status = mlrt_model_new(p, allocator, handle, release, out, why);
	if (status)
		dlclose(handle);
	else
		(*out)->find = find;
	return status;
}
