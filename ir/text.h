/* text.h -- inside of printer and parser: numbers and what both agree on. */
#ifndef ML_TEXT_H
#define ML_TEXT_H
#include "ir.h"

enum {
	ML_TEXT_ELEMENTS = 16,         /* constants up to this size are printed in full */
	ML_TEXT_SPLAT_BYTES = 1 << 20, /* larger constants are never written as a splat */
	ML_TEXT_DEPTH = 64,            /* of bodies within bodies */
};

/* Element i of a constant so that reading it gives the same bits. */
void ml_put_element(ml_text *, ml_dtype, const void *bytes, int64_t i);
/* Reads such a number; *at moves behind it.  False when there is none or it does not fit. */
bool ml_read_element(ml_dtype, const char **at, const char *end, void *bytes, int64_t i);

static inline bool
ml_is_name_char(char c, bool first)
{
	return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '_' ||
	       (!first && c >= '0' && c <= '9');
}
#endif
