/* harness_context.h -- one context for all tests of a program. */
#ifndef HARNESS_CONTEXT_H
#define HARNESS_CONTEXT_H
#include "ir/diag.h"
#include <setjmp.h>
#include <stdarg.h>
#include <cmocka.h>

/* Runs the tests with a context whose memory is libc's, and frees it. */
int harness_run(ml_context *, const struct CMUnitTest *, size_t count);
#define HARNESS_RUN(cx, tests) harness_run((cx), (tests), sizeof(tests) / sizeof *(tests))
#endif
