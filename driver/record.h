/* record.h -- the record of a compilation as texts: for terminals, as JSON, as one HTML file. */
#ifndef ML_DRIVER_RECORD_H
#define ML_DRIVER_RECORD_H
#include "../passes/record.h"
#include "driver.h"

/* `model`: what was compiled, for titles. */
void ml_record_put_terminal(ml_text *, const ml_record *, const char *model);
void ml_record_put_json(ml_text *, const ml_record *, const char *model);
void ml_record_put_html(ml_text *, const ml_record *, const char *model);

/* Takes the decisions of a JSON report. */
ml_status ml_record_replay(ml_record *, ml_context *, const char *path);

/* Are all values of --report names of files that can be written?  To be said before work is done.
 */
ml_status ml_check_reports(const ml_options *);
/* Writes what --report names. */
ml_status ml_write_reports(const ml_options *, const ml_record *, const char *model);
#endif
