/* why.h -- the one line that says why a call failed, in a buffer of the caller. */
#ifndef MD_WHY_H
#define MD_WHY_H
#include <stddef.h>

/* Every fallible function of this folder ends in (char *why, size_t why_size) and returns 0, or -1
 * with a line in `why` (always terminated, cut to fit, control characters replaced by '?': names
 * come from files and end on a terminal).  `why` may be NULL when why_size is 0. */

/* Writes the line; returns -1, so that a failure is one statement. */
int md_fail(char *why, size_t why_size, const char *format, ...)
	__attribute__((format(printf, 3, 4)));

/* Puts "CONTEXT: " in front of the line that a callee left in `why`; returns -1. */
int md_fail_in(char *why, size_t why_size, const char *context);
#endif
