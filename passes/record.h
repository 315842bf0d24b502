/* record.h -- what one compilation decided and measured: for reports, and to be repeated.
 *
 * Passes append; the driver prints it (terminal, JSON, HTML).  All texts are copied; names from a
 * model go in as they are and are escaped where they are written.
 *
 *   ml_table *t = ml_record_table(px->record, "layers", "Layers");
 *   int row = ml_table_row(t, "/encoder/0/MatMul");
 *   ml_table_text(t, row, "precision", "u8s8");
 *   ml_table_number(t, row, "SQNR", ML_UNIT_DECIBEL, 31.2);
 *
 *   ml_curve *loss = ml_record_curve(px->record, "Distillation", "step", "KL");
 *   ml_curve_add(loss, step, kl);
 *
 *   ml_record_change(px->record, "latency", ML_UNIT_SECONDS, before, after);
 *
 * Decisions.  Whatever rested on a clock or a search is written down as (pass, subject) -> choice.
 * With --replay the record has the choices of an earlier compilation, and a pass takes them instead
 * of measuring, so that the result is the same byte for byte:
 *
 *   const char *choice;
 *   ML_STEP(ml_record_choice(px->record, px->cx, "gate", name, &choice));
 *   if (!choice)
 *           choice = measure(...);
 *   ml_record_decide(px->record, "gate", name, choice, "SQNR of 12 dB");
 */
#ifndef ML_RECORD_H
#define ML_RECORD_H
#include "../ir/ir.h"

typedef enum ml_unit {
#define ML_UNIT(name, text) ML_UNIT_##name,
#include "units.def"
	ML_UNIT_TEXT, /* of columns that hold words */
} ml_unit;

typedef struct ml_cell {
	const char *text; /* NULL: a number, or empty */
	double number;    /* NaN: empty */
} ml_cell;

typedef struct ml_column {
	const char *name;
	ml_unit unit;
} ml_column;

typedef struct ml_row {
	const char *key;
	ML_VEC(ml_cell) cells; /* the first columns', the others are empty */
} ml_row;

typedef struct ml_table {
	ml_arena *arena;
	const char *name, *title;
	ML_VEC(ml_column) columns;
	ML_VEC(ml_row) rows;
	struct ml_table *next;
} ml_table;

typedef struct ml_point {
	double x, y;
} ml_point;

/* Curves of one plot are shown beside each other. */
typedef struct ml_curve {
	ml_arena *arena;
	const char *plot, *x, *y;
	ML_VEC(ml_point) points;
	struct ml_curve *next;
} ml_curve;

/* A number before and after; NaN where there is none. */
typedef struct ml_change {
	const char *name;
	ml_unit unit;
	double before, after;
} ml_change;

typedef struct ml_decision {
	const char *pass, *subject, *choice, *why; /* the subject is escaped */
} ml_decision;

typedef struct ml_record {
	ml_arena *arena;
	ml_table *tables;
	ml_curve *curves;
	ML_VEC(ml_change) changes;
	ML_VEC(ml_decision) decisions;
	ML_VEC(const char *) notes;   /* sentences, in order */
	bool replays;                 /* all choices are given, else none or some */
	ML_VEC(ml_decision) replayed; /* those of the earlier compilation */
} ml_record;

void ml_record_init(ml_record *, ml_arena *);

/* The table of this name, made when there is none. */
ml_table *ml_record_table(ml_record *, const char *name, const char *title);
/* The number of the row with this key, which is added when there is none. */
int ml_table_row(ml_table *, const char *key);
/* Sets a cell; columns come into being as they are named. */
void ml_table_number(ml_table *, int row, const char *column, ml_unit, double);
void ml_table_text(ml_table *, int row, const char *column, const char *text);

/* The curve y over x of a plot, made when there is none. */
ml_curve *ml_record_curve(ml_record *, const char *plot, const char *x, const char *y);
void ml_curve_add(ml_curve *, double x, double y);

/* Sets a number of the whole model; NaN leaves a side as it is. */
void ml_record_change(ml_record *, const char *name, ml_unit, double before, double after);
/* A sentence for people. */
void ml_record_note(ml_record *, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

/* *choice: what is to be repeated; NULL without --replay.  ML_ERR_ARG when the earlier compilation
 * says nothing of it: it was another model, or had other options. */
ml_status ml_record_choice(const ml_record *, ml_context *, const char *pass, const char *subject,
			   const char **choice);
/* Writes a decision down, the last one counts; why may be NULL. */
void ml_record_decide(ml_record *, const char *pass, const char *subject, const char *choice,
		      const char *why);

/* `1.25 ms`, `98.7 %`, ... */
const char *ml_unit_text(ml_arena *, ml_unit, double);
/* The unit's name in JSON, and back; false when there is no such unit. */
const char *ml_unit_name(ml_unit);
bool ml_unit_named(const char *, ml_unit *);
#endif
