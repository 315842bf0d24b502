/* model.h -- models as the verbs run them: an artefact, or a model compiled in this process. */
#ifndef MO_MODEL_H
#define MO_MODEL_H
#include "../compiler.h"
#include "../data/dataset.h"

typedef struct mo_settings {
	long threads;      /* of compiling and running; 0 = as many as CPUs */
	const char *isa;   /* level to use, NULL = the best */
	bool layer_errors; /* the model of ml_compile_layer_errors() instead */
	cl_inputs inputs;
	cl_list dims;
	cl_talk talk;
} mo_settings;

typedef struct mo_model {
	const cl_command *command;
	cl_compiler compiler; /* used when `compiled` */
	bool compiled, layer_errors;
	ml_model *model;
	ml_session *session;
	const ml_model_info *info;
	bool has_states, *is_state, *is_kept; /* inputs and outputs that the session keeps */
	double compile_ms, load_ms;
} mo_model;

/* By its name: .so. */
bool mo_is_artefact(const char *path);

/* An artefact is loaded, by libmlopt-rt alone; else compiled with the command's settings.  0, or 1
 * with a message.  End with mo_model_close(), also after a failure. */
int mo_model_open(mo_model *, const cl_command *, const char *path, const mo_settings *);
void mo_model_close(mo_model *);

/* The arrays that a model needs, from files: by its inputs' names, else in0, in1, ... */
int mo_model_load(const mo_model *, const cl_list *paths, md_dataset *);

/* How to feed a data set: `batch` < 0 takes single samples where the model allows that, which it
 * does when its inputs and outputs share their first dimension or have 1 there. */
md_feed mo_model_feed(const mo_model *, const md_dataset *, long batch, const char *trim);

/* The data files' name for an element type, bytes for the codes of one that they have not;
 * MD_DTYPE_COUNT when they have none. */
md_dtype mo_file_dtype(ml_dtype);

/* Gives the session its inputs: arrays in any order, found by name; states need none. */
int mo_model_set(mo_model *, const md_arrays *);
/* Runs and appends a copy of every output that is no state to an empty list. */
int mo_model_run(mo_model *, const md_arrays *in, md_arrays *out);

/* Rows of the options that all verbs share. */
#define MO_SHARED_ROWS(settings)                                                                   \
	{CL_INT,                                                                                   \
	 "threads",                                                                                \
	 "N",                                                                                      \
	 "Running",                                                                                \
	 "threads to use (default: as many as CPUs)",                                              \
	 &(settings).threads},                                                                     \
		{CL_TEXT,                                                                          \
		 "isa",                                                                            \
		 "LEVEL",                                                                          \
		 "Running",                                                                        \
		 "use the code of this level: avx2, avx512, ...",                                  \
		 &(settings).isa},                                                                 \
		CL_INPUT_ROWS((settings).inputs), CL_TALK_ROWS((settings).talk)
#endif
