/* why.c -- formatting of failure lines. */
#include "why.h"
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

static void
replace_controls(char *s)
{
	for (; *s; s++)
		if ((unsigned char)*s < 0x20 || *s == 0x7f)
			*s = '?';
}

int
md_fail(char *why, size_t why_size, const char *format, ...)
{
	va_list args;

	if (why_size == 0)
		return -1;
	va_start(args, format);
	vsnprintf(why, why_size, format, args);
	va_end(args);
	replace_controls(why);
	return -1;
}

int
md_fail_in(char *why, size_t why_size, const char *context)
{
	size_t prefix = strlen(context) + 2;
	size_t line;

	if (why_size == 0)
		return -1;
	line = strlen(why);
	if (prefix + line + 1 > why_size) /* too small for both: the reason matters more */
		return -1;
	memmove(why + prefix, why, line + 1);
	memcpy(why, context, prefix - 2);
	memcpy(why + prefix - 2, ": ", 2);
	replace_controls(why);
	return -1;
}
