/* limits.h -- what this machine can do at best: multiply-adds in registers, reading from memory. */
#ifndef BENCH_LIMITS_H
#define BENCH_LIMITS_H
#include "../../codegen/target.h"

/* The kinds; names as they are printed, units GMAC/s and GB/s. */
enum {
	LIMIT_FP32,       /* fma */
	LIMIT_INT8,       /* u8 x s8: vpdpbusd; without it two vpmaddubsw whose sum is widened */
	LIMIT_INT8_EXACT, /* u8 x s8: vpdpbusd; without it vpmaddwd on s16, which never saturates */
	LIMIT_READ,       /* from memory, far more than caches hold */
	LIMIT_KINDS
};
extern const char *const limit_names[LIMIT_KINDS];

typedef struct limits limits; /* the loops, compiled for one level */
limits *limits_open(const ml_target *);
void limits_close(limits *);
/* Each kind's rate on so many threads at once, for so long. */
void limits_measure(const limits *, int threads, double seconds, double rate[LIMIT_KINDS]);
/* GB/s of reading so many bytes again and again: from the cache that holds them. */
double limits_read(const limits *, size_t bytes, double seconds);
double now(void); /* seconds */
#endif
