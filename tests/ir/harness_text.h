/* harness_text.h -- modules from text, for tests of the IR. */
#ifndef HARNESS_TEXT_H
#define HARNESS_TEXT_H
#include "ir/ir.h"
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <cmocka.h>

/* cmocka's setup and teardown: *state is an ml_context with libc memory. */
int text_setup(void **state);
int text_teardown(void **state);

/* Fails the test when the text does not parse or the verifier objects. */
ml_module *text_module(ml_context *, const char *text);
const char *text_printed(ml_context *, const ml_module *);
/* The newest diagnostic in its printed form, "" when there is none. */
const char *text_newest(ml_context *);
/* The first node with this operator in the main block. */
ml_node *text_node(const ml_module *, ml_op);
#endif
