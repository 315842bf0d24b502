/* limits.h -- what this machine can do at best: multiply-adds in registers, reading from memory. */
#ifndef LM_LIMITS_H
#define LM_LIMITS_H
#include <stddef.h>

/* GMAC/s of instruction mixes, GB/s of loads. */
typedef enum lm_kind {
	LM_FP32, /* fma */
	LM_INT8, /* u8 x s8: tdpbusd or vpdpbusd; without them two vpmaddubsw, their sum widened */
	LM_INT8_EXACT, /* the same; without them vpmaddwd on s16, which never saturates */
	LM_BF16,       /* tdpbf16ps or vdpbf16ps; without them fma on what is widened for free */
	LM_READ,       /* of bytes again and again: from the cache or memory that holds them */
	LM_KINDS
} lm_kind;
extern const char *const lm_names[LM_KINDS]; /* "fp32_gmacs", ... */

/* Measures one kind on a level that this CPU has ("avx2", ...), on so many threads at once.
 * `bytes` is what all threads read together.  NULL where it cannot be told: a level without a loop
 * here, no memory. */
typedef struct lm_gauge lm_gauge;
lm_gauge *lm_open(const char *level, lm_kind, size_t bytes, int threads);
void lm_close(lm_gauge *);

/* The rate of a window of so many seconds.  It is what was done in all of it, not the best of a
 * part: clocks wander, so what is compared with it is timed in a window as long just before or
 * behind, and has what it has of bursts and disturbances alike.  0 without a gauge, or where
 * threads are missing. */
double lm_rate(lm_gauge *, double seconds);
/* The best of many windows: what the machine can do when nothing slows it down. */
double lm_best(const char *level, lm_kind, size_t bytes, int threads, double seconds);
#endif
