/* student.c -- pruning and distilling as calls of their own: a model in, a smaller graph out. */
#include "driver.h"
#include <string.h>

typedef struct asking {
	const char *prune, *student;
} asking;

/* Checked as if they had been given by name. */
static ml_status
ask(ml_options *o, const char *prune, const char *student)
{
	char value[256];

	if (prune)
		return ml_options_set(o, "prune", prune);
	if (!student)
		return o->distill ? ML_OK : ml_options_set(o, "distill", NULL);
	if (strlen(student) > sizeof value - sizeof "student:")
		return ml_options_set(o, "distill", student); /* which says what it may be */
	strcpy(value, "student:");
	strcat(value, student);
	return ml_options_set(o, "distill", value);
}

/* With the caller's options, which stay as they are. */
static ml_status
make(ml_context *cx, const char *path, const ml_options *o, const asking *what, const char *output)
{
	size_t n = output ? strlen(output) : 0;
	ml_options *own = NULL;
	ml_status status = ml_options_new(cx, &own);

	if (status != ML_OK)
		return status;
	ml_options asked = o ? *o : *own;
	asked.arena = own->arena;
	status = ask(&asked, what->prune, what->student);
	asked.emit = n > 4 && !strcmp(output + n - 4, ".mlt") ? "ir" : "onnx";
	if (status == ML_OK)
		status = output ? ml_compile_to(cx, path, &asked, output) : ML_ERR_ARG;
	own->arena = asked.arena;
	ml_options_free(own);
	return status;
}

ml_status
ml_prune(ml_context *cx, const char *path, const ml_options *o, const char *target,
	 const char *output)
{
	return make(cx, path, o, &(asking){.prune = target ? target : ""}, output);
}

ml_status
ml_distill(ml_context *cx, const char *path, const ml_options *o, const char *student,
	   const char *output)
{
	return make(cx, path, o, &(asking){.student = student}, output);
}
