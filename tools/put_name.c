/* put_name.c -- names from models in what the tools print. */
#include "put_name.h"
#include <stdint.h>
#include <string.h>

/* Bytes of the UTF-8 character at s, of which n are there; 0 when it is none. */
static size_t
character(const unsigned char *s, size_t n, uint32_t *code)
{
	static const uint32_t smallest[] = {0, 0, 0x80, 0x800, 0x10000};
	size_t size = *s < 0x80   ? 1
		      : *s < 0xc0 ? 0
		      : *s < 0xe0 ? 2
		      : *s < 0xf0 ? 3
		      : *s < 0xf8 ? 4
				  : 0;

	if (!size || size > n)
		return 0;
	*code = size == 1 ? *s : *s & (0x7fu >> size);
	for (size_t i = 1; i < size; i++) {
		if (s[i] >> 6 != 2)
			return 0;
		*code = *code << 6 | (s[i] & 0x3f);
	}
	if (*code < smallest[size] || *code > 0x10ffff || (*code >= 0xd800 && *code < 0xe000))
		return 0;
	return size;
}

/* Moves the cursor, or turns the writing around. */
static bool
is_control(uint32_t code)
{
	return code < 0x20 || (code >= 0x7f && code < 0xa0) || code == 0x200e || code == 0x200f ||
	       (code >= 0x2028 && code <= 0x202e) || (code >= 0x2066 && code <= 0x2069);
}

void
cl_put_name(FILE *f, const char *name, size_t length, bool json)
{
	for (size_t i = 0, n; i < length; i += n ? n : 1) {
		const unsigned char *s = (const unsigned char *)name + i;
		uint32_t code = 0;
		n = character(s, length - i, &code);
		if (json && !n)
			fputs("\\ufffd", f);
		else if (json && is_control(code))
			fprintf(f, "\\u%04x", (unsigned)code);
		else if (json && (code == '"' || code == '\\'))
			fprintf(f, "\\%c", (int)code);
		else if (n && !is_control(code))
			fwrite(s, 1, n, f);
		else
			for (size_t k = 0; k < (n ? n : 1); k++)
				fprintf(f, "\\x%02x", s[k]);
	}
}

void
cl_put_text(FILE *f, const char *text)
{
	while (*text) {
		size_t n = strcspn(text, "\n");
		cl_put_name(f, text, n, false);
		text += n;
		if (*text)
			fputc(*text++, f);
	}
}
