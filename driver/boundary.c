/* boundary.c -- where calls enter the compiler: failed allocations end here, messages leave here.
 */
#include "driver.h"

static ml_status
report(void *cx)
{
	ml_diag_report(cx);
	return ML_OK;
}

static ml_status
say_no_memory(void *cx)
{
	return ml_error(cx, ML_ERR_NOMEM, NULL, "out of memory");
}

/* Not in one function with other work: locals changed after setjmp are lost. */
static ml_status
run(ml_context *cx, ml_status (*work)(void *), void *job)
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

ml_status
ml_enter(ml_context *cx, ml_status (*work)(void *), void *job)
{
	int errors = cx->errors;
	ml_status status = run(cx, work, job);

	if (status == ML_ERR_NOMEM && cx->errors == errors)
		run(cx, say_no_memory, cx);
	run(cx, report, cx);
	cx->stage = NULL;
	return status;
}
