/* put_name.h -- names from models in what the verbs print. */
#ifndef MO_PUT_NAME_H
#define MO_PUT_NAME_H
#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>

/* Control characters and quotes must not reach terminals or JSON, where the caller writes the
 * quotes around it. */
void mo_put_name(FILE *, const char *name, size_t length, bool json);
#endif
