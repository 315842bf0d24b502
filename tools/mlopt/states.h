/* states.h -- the option --state of the verbs that run a model. */
#ifndef MO_STATES_H
#define MO_STATES_H
#include "model.h"

/* Binds what the option's values say: "auto" or INPUT=OUTPUT. */
int mo_states_bind(mo_model *, const cl_list *states);
/* The next run finds the states that `in` says, none if it says nothing; does nothing without. */
int mo_states_restore(mo_model *, const md_arrays *in);

#define MO_STATE_ROW(states)                                                                       \
	{CL_LIST,                                                                                  \
	 "state",                                                                                  \
	 "auto|IN=OUT",                                                                            \
	 "Running",                                                                                \
	 "the next run finds output OUT as its input IN; auto: past and present are recognised",   \
	 &(states)}
#endif
