/* put_name.h -- names from models in what the tools print. */
#ifndef CL_PUT_NAME_H
#define CL_PUT_NAME_H
#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>

/* Control characters and bytes that are no UTF-8 reach neither terminals (there \xHH) nor JSON
 * (there JSON's escapes, and U+FFFD), where the caller writes the quotes around it. */
void cl_put_name(FILE *, const char *name, size_t length, bool json);

/* Text with such names in it for a terminal; its lines stay lines. */
void cl_put_text(FILE *, const char *text);
#endif
