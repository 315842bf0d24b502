/* host.h -- all that the embedded runtime takes from the C library and the kernel, declared here.
 *
 * The files of this folder are compiled once per target without that target's headers, so they
 * include nothing but the compiler's own, and use no type whose layout a libc decides.
 */
#ifndef MLRT_HOST_H
#define MLRT_HOST_H
#include <stddef.h>
#include <stdint.h>

long syscall(long number, ...);
int pthread_create(unsigned long *thread, const void *attributes, void *(*)(void *), void *);
int pthread_join(unsigned long thread, void **result);
char *getenv(const char *name);
unsigned long getauxval(unsigned long type);
void *malloc(size_t);
void *calloc(size_t count, size_t size);
int printf(const char *, ...);
void free(void *);

enum {
#if defined(__x86_64__)
	MLRT_SYS_FUTEX = 202,
	MLRT_SYS_SCHED_GETAFFINITY = 204,
	MLRT_SYS_SIGPROCMASK = 14,
	MLRT_SYS_CLOCK_GETTIME = 228,
	MLRT_SYS_ARCH_PRCTL = 158,
	MLRT_ARCH_REQ_XCOMP_PERM = 0x1023,
#elif defined(__aarch64__)
	MLRT_SYS_FUTEX = 98,
	MLRT_SYS_SCHED_GETAFFINITY = 123,
	MLRT_SYS_SIGPROCMASK = 135,
	MLRT_SYS_CLOCK_GETTIME = 113,
#else
#error "this architecture has no row here"
#endif
	MLRT_FUTEX_WAIT = 128, /* private to the process */
	MLRT_FUTEX_WAKE = 128 + 1,
	MLRT_SIG_SETMASK = 2,
};
#endif
