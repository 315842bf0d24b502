/* make_tiles.c -- a program of the build: compiles the contraction tiles of all levels and forms
 * into one file, which becomes a part of the library. */
#include "../../ir/crew.h"
#include "../job.h"
#include "../ready_tiles.h"
#include <stdio.h>
#include <stdlib.h>

enum { JOBS = ML_LEVEL_COUNT * ML_CONTRACT_FORMS };

/* None are ready yet. */
const unsigned char ml_embedded_tiles[1];
const size_t ml_embedded_tiles_size;

static void
make_tiles(void *user, int number, int64_t i)
{
	const ml_memory memory = ml_memory_libc();
	ml_cache none = {.folder = -1};
	ml_worker w = {.cache = &none};

	(void)number;
	ml_worker_open(&w, &memory);
	ml_worker_do(&w, (ml_job *)user + i);
	ml_worker_close(&w);
}

static bool
write_object(FILE *to, const ml_job *j)
{
	static const char zeros[sizeof(ml_ready_head)];
	size_t bytes = LLVMGetBufferSize(j->object);
	size_t rest = (sizeof zeros - bytes % sizeof zeros) % sizeof zeros;
	ml_ready_head h = {j->target->level, j->form, bytes};

	return fwrite(&h, sizeof h, 1, to) == 1 &&
	       fwrite(LLVMGetBufferStart(j->object), 1, bytes, to) == bytes &&
	       fwrite(zeros, 1, rest, to) == rest;
}

int
main(int argc, char **argv)
{
	ml_memory memory = ml_memory_libc();
	ml_arena arena;
	ml_job jobs[JOBS];
	FILE *to = argc == 2 ? fopen(argv[1], "wb") : NULL;
	bool fine = to;

	ml_arena_init(&arena, &memory);
	for (int i = 0; i < JOBS; i++)
		jobs[i] = ml_tiles_job(&arena, ml_target_level((ml_level)(i / ML_CONTRACT_FORMS)),
				       (ml_contract_form)(i % ML_CONTRACT_FORMS));
	ml_crew_do(&(ml_crew){.deep = true}, JOBS, make_tiles, jobs);
	for (int i = 0; i < JOBS; i++) {
		if (jobs[i].status)
			fprintf(stderr, "make_tiles: %s\n", jobs[i].message);
		fine = fine && !jobs[i].status && write_object(to, &jobs[i]);
		if (jobs[i].object)
			LLVMDisposeMemoryBuffer(jobs[i].object);
	}
	ml_arena_free(&arena);
	if (to && fclose(to))
		fine = false;
	return fine ? EXIT_SUCCESS : EXIT_FAILURE;
}
