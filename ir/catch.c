/* catch.c -- lets functions that hold more than memory clean up when an allocation fails. */
#include "catch.h"

/* Not in one function with other work: locals changed after setjmp are lost. */
ml_status
ml_catch(ml_context *cx, ml_status (*work)(void *), void *job)
{
	jmp_buf here, *outer = cx->memory.on_fail;
	volatile ml_status status = ML_ERR_NOMEM;

	if (!setjmp(here)) {
		cx->memory.on_fail = &here;
		status = work(job);
	}
	cx->memory.on_fail = outer;
	return status;
}
