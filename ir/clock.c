/* clock.c -- the clock that is only read to see how long something takes. */
#include "exec.h"
#include <time.h>

double
ml_seconds_now(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}
