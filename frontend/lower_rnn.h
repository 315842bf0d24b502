/* lower_rnn.h -- recurrent cells: as an rnn node, or spelled out as a loop. */
#ifndef ML_LOWER_RNN_H
#define ML_LOWER_RNN_H
#include "lower_activation.h"

/* What tells RNN, GRU and LSTM apart. */
typedef struct ml_cell {
	const char *name;
	int gates, activations;
	const char *init[3];
} ml_cell;

/* Operands as rnn takes them, for one direction. */
enum {
	ML_RNN_INPUT,
	ML_RNN_WEIGHT,
	ML_RNN_RECURRENT,
	ML_RNN_BIAS,
	ML_RNN_STATE,
	ML_RNN_CELL,
	ML_RNN_PEEPHOLE,
	ML_RNN_OPERANDS
};

typedef struct ml_activation {
	const ml_activation_row *row; /* NULL: the cell has none in this place */
	double parameter[2];
} ml_activation;

/* One direction, with what the rnn node has no place for. */
typedef struct ml_recurrence {
	ml_lower *x;
	const ml_cell *cell;
	ml_value *in[ML_RNN_OPERANDS]; /* state and cell never NULL; peephole may be */
	ml_value *lengths;             /* s64[batch]; NULL: all steps count */
	ml_activation act[3];
	double clip; /* 0: none */
	bool reverse, coupled, linear_before_reset;
} ml_recurrence;

/* The cell as a loop over steps; out: y[T,B,H], h[B,H], c[B,H]. False on failure, reported. */
bool ml_lower_rnn_loop(ml_recurrence *, ml_value **out);
#endif
