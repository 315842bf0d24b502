/* parse_type.c -- the text of a type, as ml_type_print writes it: f32[batch, n*2, 384]. */
#include "text.h"

static void
skip_blanks(const char **at, const char *end)
{
	while (*at < end && (**at == ' ' || **at == '\t'))
		++*at;
}

static bool
parse_size(ml_dims *dims, const char **at, const char *end, ml_dim *size)
{
	int64_t lo, hi;

	skip_blanks(at, end);
	const char *start = *at;
	*size = ml_dim_parse(dims, at, end);
	if (!*size)
		return false;
	ml_dim_range(*size, &lo, &hi);
	if (!ml_dim_is_bad(*size) && hi >= 0)
		return true;
	*at = start;
	return false;
}

bool
ml_type_parse(ml_dims *dims, const char **at, const char *end, ml_type *type)
{
	const char *word = *at;

	*type = (ml_type){0};
	while (*at < end && ml_is_name_char(**at, *at == word))
		++*at;
	if (!ml_dtype_named(word, (size_t)(*at - word), &type->dtype) || type->dtype == ML_none) {
		*at = word;
		return false;
	}
	if (*at == end || **at != '[')
		return false;
	++*at;
	skip_blanks(at, end);
	while (*at < end && **at != ']') {
		if (type->rank == ML_MAX_RANK || !parse_size(dims, at, end, &type->dim[type->rank]))
			return false;
		type->rank++;
		skip_blanks(at, end);
		if (*at < end && **at == ',')
			++*at;
		else if (*at == end || **at != ']')
			return false;
	}
	if (*at == end)
		return false;
	++*at;
	return true;
}
