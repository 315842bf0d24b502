/* report.c -- where a tool's results go: standard output, or the file of -o. */
#include "report.h"
#include "data/replace.h"
#include <stdlib.h>
#include <string.h>

int
cl_report_open(cl_report *r, const cl_command *command, const char *path)
{
	*r = (cl_report){.command = command, .path = path, .to = stdout};
	if (path && !strcmp(path, "-"))
		r->path = NULL;
	if (r->path)
		r->to = open_memstream(&r->text, &r->size);
	return r->to ? 0 : cl_fail(command, "out of memory");
}

int
cl_report_close(cl_report *r, int failed)
{
	char why[1000];
	bool lost = r->path ? fclose(r->to) != 0 : fflush(stdout) != 0;

	if (!failed && lost)
		failed = cl_fail(r->command, "the results cannot be written");
	if (!failed && r->path &&
	    md_replace_with(r->path, &(md_span){r->text, r->size}, 1, why, sizeof why))
		failed = cl_fail(r->command, "%s", why);
	free(r->text);
	return failed;
}
