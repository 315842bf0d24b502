/* objects.h -- a plan becomes object files: the one path of JIT and AOT.
 *
 * Worker threads, each with an LLVM context and target machines of its own, compile the
 * specifications, the generated entry and the embedded runtime, or find them in the cache; the
 * contraction tiles that these use were compiled when mlopt was.
 * What goes into which object depends on the plan and the options alone, never on the number of
 * workers or on timing.
 */
#ifndef ML_OBJECTS_H
#define ML_OBJECTS_H
#include "cache.h"
#include "entry.h"
#include "signature.h"

/* How, which changes nothing about the objects. */
typedef struct ml_object_making {
	int workers;            /* 0: as many as CPUs */
	const char *save_temps; /* folder for .mlt, .ll and .s of everything, or NULL */
	ml_cache_place cache;   /* not used with save_temps, which wants to see everything */
} ml_object_making;

typedef struct ml_object_options {
	ml_entry_options entry;
	/* Adds the natural C functions and the runtime they need; NULL: the table alone (JIT). */
	const ml_signature *natural;
	bool program; /* adds the main() of --emit=exe */
	bool check;   /* emits everything, but makes no machine code and no objects */
	ml_object_making making;
} ml_object_options;

typedef struct ml_object {
	const char *name; /* "kernel3_avx2": unique, for file names */
	LLVMMemoryBufferRef bytes;
} ml_object;

typedef struct ml_objects {
	ml_object *at; /* in a fixed order; in the plan's arena */
	int count;
} ml_objects;

/* Every failure of a worker is reported to the context, in the order of the objects. */
ml_status ml_objects_make(ml_context *, ml_plan *, const ml_object_options *, ml_objects *);
void ml_objects_free(ml_objects *); /* the bytes not taken (set to NULL) by others */
#endif
