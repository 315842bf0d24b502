/* report.h -- where a tool's results go: standard output, or the file of -o. */
#ifndef CL_REPORT_H
#define CL_REPORT_H
#include "options.h"

typedef struct cl_report {
	const cl_command *command;
	const char *path; /* NULL: standard output */
	FILE *to;         /* write here */
	char *text;
	size_t size;
} cl_report;

#define CL_REPORT_ROW(path)                                                                        \
	{CL_TEXT, "o", "FILE", "Other", "write the results here (default: standard output)",       \
	 &(path)}

/* 0, or 1 with a message.  End with cl_report_close(). */
int cl_report_open(cl_report *, const cl_command *, const char *path);
/* Writes the file, whole or not at all, unless `failed`; returns `failed`, or 1 with a message. */
int cl_report_close(cl_report *, int failed);
#endif
