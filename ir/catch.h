/* catch.h -- lets functions that hold more than memory clean up when an allocation fails. */
#ifndef ML_CATCH_H
#define ML_CATCH_H
#include "diag.h"

/* Runs work(job); a failed allocation inside unwinds to here and becomes ML_ERR_NOMEM. */
ml_status ml_catch(ml_context *, ml_status (*work)(void *), void *job);
#endif
