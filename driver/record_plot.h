/* record_plot.h -- inside of HTML reports: text, and plots as inline SVG. */
#ifndef ML_DRIVER_RECORD_PLOT_H
#define ML_DRIVER_RECORD_PLOT_H
#include "record.h"

/* Text that stays text. */
void ml_put_html(ml_text *, const char *);
/* A figure; colours are numbered from 0 and come again. */
void ml_put_curve(ml_text *, const ml_curve *, int colour);
/* Figures of the columns that are decibels, seconds and bytes; none of few rows. */
void ml_put_bars(ml_text *, const ml_table *);
#endif
