/* crew.h -- independent parts of a job, done by several threads. */
#ifndef ML_CREW_H
#define ML_CREW_H
#include <stdbool.h>
#include <stdint.h>

enum { ML_MAX_CREW = 64 };

typedef struct ml_crew {
	int workers; /* 0: as many as there are CPUs */
	bool deep;   /* parts recurse: the caller's stack may be too small, and it only waits */
} ml_crew;

/* Workers there will be for so many parts, 1..ML_MAX_CREW. */
int ml_crew_size(const ml_crew *, int64_t parts);
/* Calls `work` for every part, each once, in any order.  `worker` is below ml_crew_size(); parts
 * of one worker follow each other.  Parts must not unwind: memory is got before.  Threads that
 * cannot be started are done without. */
void ml_crew_do(const ml_crew *, int64_t parts, void (*work)(void *user, int worker, int64_t part),
		void *user);
#endif
