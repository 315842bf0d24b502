/* entry_name.c -- escaping of archive entry names. */
#include "entry_name.h"
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

static int
hex_digit(char c)
{
	if (c >= '0' && c <= '9')
		return c - '0';
	return c >= 'A' && c <= 'F' ? c - 'A' + 10 : -1;
}

/* Length of the well-formed UTF-8 sequence at `s`, 0 if there is none (RFC 3629, table in 4). */
static size_t
utf8_length(const unsigned char *s)
{
	unsigned char low = 0x80, high = 0xBF;
	size_t n;

	if (s[0] < 0x80)
		return s[0] != 0;
	if (s[0] < 0xC2 || s[0] > 0xF4)
		return 0;
	n = s[0] < 0xE0 ? 2 : s[0] < 0xF0 ? 3 : 4;
	if (s[0] == 0xE0)
		low = 0xA0;
	else if (s[0] == 0xED)
		high = 0x9F;
	else if (s[0] == 0xF0)
		low = 0x90;
	else if (s[0] == 0xF4)
		high = 0x8F;
	if (s[1] < low || s[1] > high)
		return 0;
	for (size_t i = 2; i < n; i++)
		if (s[i] < 0x80 || s[i] > 0xBF)
			return 0;
	return n;
}

static bool
separates(char c)
{
	return c == '\0' || c == '/' || c == '\\';
}

/* Whether the component that starts at `s` is "." or "..". */
static bool
is_dots(const char *s)
{
	return s[0] == '.' && (separates(s[1]) || (s[1] == '.' && separates(s[2])));
}

/* How many bytes at `s` may stand as they are; 0 if the byte must be escaped. */
static size_t
safe_length(const char *name, const char *s)
{
	unsigned char c = (unsigned char)*s;

	if (c < 0x20 || c == 0x7f)
		return 0;
	if (c == '%' && hex_digit(s[1]) >= 0 && hex_digit(s[2]) >= 0)
		return 0; /* or it would read back as an escape */
	if (c == '.' && (s == name || separates(s[-1])) && is_dots(s))
		return 0;
	return utf8_length((const unsigned char *)s);
}

char *
md_entry_from_name(const char *name, const char *suffix)
{
	static const char digit[] = "0123456789ABCDEF";
	char *entry = malloc(3 * strlen(name) + strlen(suffix) + 1);
	char *to = entry;

	if (!entry)
		return NULL;
	for (const char *s = name; *s;) {
		size_t n = safe_length(name, s);

		if (n) {
			memcpy(to, s, n);
			to += n;
			s += n;
		} else {
			*to++ = '%';
			*to++ = digit[(unsigned char)*s >> 4];
			*to++ = digit[(unsigned char)*s & 15];
			s++;
		}
	}
	strcpy(to, suffix);
	return entry;
}

char *
md_name_from_entry(const char *entry, size_t n)
{
	char *verbatim = strndup(entry, n);
	char *name = verbatim ? malloc(n + 1) : NULL;
	char *to = name, *again;
	bool ours;

	if (!name) {
		free(verbatim);
		return NULL;
	}
	for (const char *s = verbatim; *s; s++) {
		int high = *s == '%' ? hex_digit(s[1]) : -1;
		int low = high >= 0 ? hex_digit(s[2]) : -1;

		if (low >= 0) {
			*to++ = (char)(high << 4 | low);
			s += 2;
		} else {
			*to++ = *s;
		}
	}
	*to = '\0';
	/* A foreign "a%41" is not an escape of ours unless writing it again gives the same. */
	again = md_entry_from_name(name, "");
	ours = again && !strcmp(again, verbatim);
	free(again);
	free(ours ? verbatim : name);
	return ours ? name : verbatim;
}
