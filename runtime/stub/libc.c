/* libc.c -- what an artefact calls of the target's libc, by name only: it is linked with this, so
 * that it names the library it needs, whatever is installed where it is made. */
#define FUNCTION(name)                                                                             \
	void name(void)                                                                            \
	{                                                                                          \
	}

FUNCTION(free)
FUNCTION(getauxval)
FUNCTION(getenv)
FUNCTION(malloc)
FUNCTION(memcpy)
FUNCTION(memmove)
FUNCTION(memset)
FUNCTION(pthread_create)
FUNCTION(pthread_join)
FUNCTION(syscall)
