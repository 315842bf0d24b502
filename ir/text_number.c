/* text_number.c -- numbers of the text form: exact, and the same in every locale. */
#include "text.h"
#include <errno.h>
#include <inttypes.h>
#include <locale.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { NUMBER_SIZE = 64 };

/* The application may have set a locale with another decimal point.  Nothing may unwind while the
 * thread's locale is changed, so these two touch no arena. */
static void
print_plainly(char *to, int digits, double v)
{
	locale_t c = newlocale(LC_ALL_MASK, "C", (locale_t)0), old = uselocale(c);

	snprintf(to, NUMBER_SIZE, "%.*g", digits, v);
	uselocale(old);
	if (c)
		freelocale(c);
}

static double
scan_plainly(const char *text, char **end)
{
	locale_t c = newlocale(LC_ALL_MASK, "C", (locale_t)0), old = uselocale(c);
	double v = strtod(text, end);

	uselocale(old);
	if (c)
		freelocale(c);
	return v;
}

static uint64_t
bits_of(int size, const void *bytes)
{
	uint64_t bits = 0;

	memcpy(&bits, bytes, (size_t)size); /* little endian, as tensors are */
	return bits;
}

static void
put_float(ml_text *t, ml_dtype dtype, const void *element)
{
	int size = ml_dtype_bytes(dtype);
	double v = ml_read_f64(dtype, element, 0);
	char text[NUMBER_SIZE], again[8];

	if (isnan(v)) {
		ml_write_f64(dtype, again, 0, NAN);
		if (memcmp(again, element, (size_t)size))
			ml_put(t, "nan(0x%" PRIx64 ")", bits_of(size, element));
		else
			ml_put(t, "nan");
		return;
	}
	if (isinf(v)) {
		ml_put(t, v < 0 ? "-inf" : "inf");
		return;
	}
	for (int digits = 1; digits <= 17; digits++) {
		print_plainly(text, digits, v);
		ml_write_f64(dtype, again, 0, scan_plainly(text, NULL));
		if (!memcmp(again, element, (size_t)size))
			break; /* 17 digits are enough for every f64 */
	}
	ml_put(t, "%s", text);
}

void
ml_put_element(ml_text *t, ml_dtype dtype, const void *bytes, int64_t i)
{
	switch (ml_dtype_kind_of(dtype)) {
	case ML_KIND_FLOAT: {
		char element[8];
		memcpy(element, (const char *)bytes + i * ml_dtype_bytes(dtype),
		       (size_t)ml_dtype_bytes(dtype));
		put_float(t, dtype, element);
		break;
	}
	case ML_KIND_UNSIGNED: ml_put(t, "%" PRIu64, (uint64_t)ml_read_s64(dtype, bytes, i)); break;
	case ML_KIND_BOOL: ml_put(t, ml_read_s64(dtype, bytes, i) ? "true" : "false"); break;
	default: ml_put(t, "%" PRId64, ml_read_s64(dtype, bytes, i));
	}
}

static bool
read_float(ml_dtype dtype, const char *word, void *element)
{
	char *end;

	if (!strncmp(word, "nan(0x", 6)) {
		uint64_t bits = strtoull(word + 6, &end, 16);
		memcpy(element, &bits, (size_t)ml_dtype_bytes(dtype));
		return !strcmp(end, ")") && isnan(ml_read_f64(dtype, element, 0));
	}
	double v = scan_plainly(word, &end);
	ml_write_f64(dtype, element, 0, v);
	return end != word && !*end;
}

static bool
read_integer(ml_dtype dtype, const char *word, void *element)
{
	bool is_unsigned = ml_dtype_kind_of(dtype) == ML_KIND_UNSIGNED;
	char *end;

	errno = 0;
	uint64_t v = is_unsigned ? strtoull(word, &end, 10) : (uint64_t)strtoll(word, &end, 10);
	if (errno || end == word || *end || (is_unsigned && *word == '-'))
		return false;
	ml_write_s64(dtype, element, 0, (int64_t)v);
	return ml_read_s64(dtype, element, 0) == (int64_t)v;
}

static bool
in_number(char c)
{
	return ml_is_name_char(c, false) || c == '.' || c == '+' || c == '-' || c == '(' ||
	       c == ')';
}

bool
ml_read_element(ml_dtype dtype, const char **at, const char *end, void *bytes, int64_t i)
{
	char word[NUMBER_SIZE], element[8] = {0};
	size_t n = 0, size = (size_t)ml_dtype_bytes(dtype);
	bool good;

	while (*at + n < end && n + 1 < sizeof word && in_number((*at)[n])) {
		word[n] = (*at)[n];
		n++;
	}
	word[n] = 0;
	switch (ml_dtype_kind_of(dtype)) {
	case ML_KIND_FLOAT: good = read_float(dtype, word, element); break;
	case ML_KIND_BOOL:
		element[0] = !strcmp(word, "true");
		good = element[0] || !strcmp(word, "false");
		break;
	default: good = read_integer(dtype, word, element);
	}
	if (!good)
		return false;
	memcpy((char *)bytes + (size_t)i * size, element, size);
	*at += n;
	return true;
}
