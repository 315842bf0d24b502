/* crew.c -- threads that take the parts of a job one by one. */
#include "crew.h"
#include <pthread.h>
#include <sched.h>

enum {
	DEEP_STACK = 64 << 20, /* LLVM and our parsers recurse with the depth of expressions */
	STACK = 1 << 20 /* libc keeps small ones for the next crew, which then starts much sooner */
};

typedef struct job {
	void (*work)(void *user, int worker, int64_t part);
	void *user;
	int64_t parts, next; /* next: atomic */
	int workers;         /* numbers given; atomic */
} job;

static void *
work(void *argument)
{
	job *j = argument;
	int worker = __atomic_fetch_add(&j->workers, 1, __ATOMIC_RELAXED);

	for (int64_t i; (i = __atomic_fetch_add(&j->next, 1, __ATOMIC_RELAXED)) < j->parts;)
		j->work(j->user, worker, i);
	return NULL;
}

static int
cpus(void)
{
	cpu_set_t set;

	return sched_getaffinity(0, sizeof set, &set) ? 1 : CPU_COUNT(&set);
}

int
ml_crew_size(const ml_crew *c, int64_t parts)
{
	int64_t n = c->workers > 0 ? c->workers : cpus();

	n = n > parts ? parts : n;
	return n < 1 ? 1 : n > ML_MAX_CREW ? ML_MAX_CREW : (int)n;
}

void
ml_crew_do(const ml_crew *c, int64_t parts, void (*fn)(void *user, int worker, int64_t part),
	   void *user)
{
	job j = {.work = fn, .user = user, .parts = parts};
	int threads = parts ? ml_crew_size(c, parts) - !c->deep : 0, started = 0;
	pthread_t thread[ML_MAX_CREW];
	pthread_attr_t attr;

	pthread_attr_init(&attr);
	pthread_attr_setstacksize(&attr, c->deep ? DEEP_STACK : STACK);
	while (started < threads && !pthread_create(&thread[started], &attr, work, &j))
		started++;
	pthread_attr_destroy(&attr);
	if (!c->deep || !started)
		work(&j);
	for (int i = 0; i < started; i++)
		pthread_join(thread[i], NULL);
}
