/* startup.c -- how soon a program that links nothing but the compiled MiniLM has its first result.
 *
 *   startup RUNS
 *
 * Starts itself RUNS times; each child runs the model once, on 16 tokens.  Prints the median and
 * the least milliseconds from before fork() to the result, and the most memory a child had.
 */
#include "model.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum { TOKENS = 16, WIDTH = 384, MAX_RUNS = 1000 };

static double
now(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (double)t.tv_sec * 1e3 + (double)t.tv_nsec * 1e-6;
}

/* In the child: milliseconds since `begun`, into the pipe. */
static int
run_model(const char *begun, const char *pipe)
{
	static int64_t ids[TOKENS], mask[TOKENS], types[TOKENS];
	static float result[TOKENS * WIDTH];

	for (int i = 0; i < TOKENS; i++) {
		ids[i] = 101 + 37 * i;
		mask[i] = 1;
	}
	int32_t status = model(ids, mask, types, result, TOKENS, NULL);
	double ms = now() - strtod(begun, NULL);
	if (status || !(result[0] * result[0] > 0))
		return 1;
	return write(atoi(pipe), &ms, sizeof ms) == sizeof ms ? 0 : 1;
}

/* Starts a child; its time and peak memory in MB. */
static int
start(char *program, double *ms, double *rss)
{
	int ends[2], status;
	struct rusage used;
	char begun[64], to[16];

	if (pipe(ends))
		return 1;
	snprintf(to, sizeof to, "%d", ends[1]);
	snprintf(begun, sizeof begun, "%.6f", now());
	pid_t child = fork();
	if (child == 0) {
		execv(program, (char *[]){program, begun, to, NULL});
		_exit(127);
	}
	close(ends[1]);
	int failed = child < 0 || read(ends[0], ms, sizeof *ms) != sizeof *ms;
	close(ends[0]);
	if (child > 0 && (wait4(child, &status, 0, &used) != child || status))
		failed = 1;
	*rss = failed ? 0 : (double)used.ru_maxrss / 1024;
	return failed;
}

static int
by_value(const void *x, const void *y)
{
	double d = *(const double *)x - *(const double *)y;

	return (d > 0) - (d < 0);
}

int
main(int argc, char **argv)
{
	static double ms[MAX_RUNS];
	double most = 0, rss;

	if (argc == 3)
		return run_model(argv[1], argv[2]);
	int runs = argc == 2 ? atoi(argv[1]) : 0;
	if (runs < 1 || runs > MAX_RUNS) {
		fprintf(stderr, "usage: startup RUNS (1 to %d)\n", MAX_RUNS);
		return 2;
	}
	for (int i = 0; i < runs; i++) {
		if (start("/proc/self/exe", &ms[i], &rss)) {
			fprintf(stderr, "startup: the model did not run\n");
			return 1;
		}
		most = rss > most ? rss : most;
	}
	qsort(ms, (size_t)runs, sizeof *ms, by_value);
	printf("%.2f %.2f %.1f\n", ms[runs / 2], ms[0], most);
	return 0;
}
