/* boundary.c -- where calls enter the compiler: failed allocations end here, messages leave here.
 */
#include "driver.h"
#include "../ir/catch.h"

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

ml_status
ml_enter(ml_context *cx, ml_status (*work)(void *), void *job)
{
	int errors = cx->errors;
	ml_status status = ml_catch(cx, work, job);

	if (status == ML_ERR_NOMEM && cx->errors == errors)
		ml_catch(cx, say_no_memory, cx);
	ml_catch(cx, report, cx);
	cx->stage = NULL;
	return status;
}
