/* compare_layers.h -- the error of each layer of a model in what the compiler's options make of it.
 */
#ifndef MO_COMPARE_LAYERS_H
#define MO_COMPARE_LAYERS_H
#include "model.h"

typedef struct mo_layers {
	const cl_command *command;
	const mo_settings *settings;
	const cl_list *inputs; /* none: random numbers */
	long batch;
	const char *trim, *report;
	bool worst_first;
} mo_layers;

/* Runs the model and prints the table; the exit code. */
int mo_compare_layers(const char *path, const mo_layers *);
#endif
