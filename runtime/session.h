/* session.h -- inside of sessions: what session.c and bound.c share. */
#ifndef MLRT_SESSION_H
#define MLRT_SESSION_H
#include "model.h"
#include "threads.h"
#include <stdbool.h>

/* An output of one run that is an input of the next. */
typedef struct mlrt_bound {
	int in, out;
	int axis;        /* along which the output appends to the input; -1: it replaces it */
	int word;        /* of state: the room, where it appends */
	int64_t room;    /* rows that `now` has room for, where it appends */
	bool begun;      /* has a value */
	mlrt_block now;  /* the value; rows `room` apart, where it appends */
	mlrt_block next; /* where a run puts what replaces it */
} mlrt_bound;

/* The arrays lie behind the struct in one piece of memory. */
struct ml_session {
	ml_allocator allocator;
	ml_model *model;
	const mlrt_level *level;
	mlrt_threads threads;
	mlrt_block arena;
	mlrt_watch watch;
	size_t bytes; /* of this struct with its arrays */
	ml_message message;
	bool ran;
	/* inputs */
	const void **in;
	bool *given;
	int64_t *in_dim; /* all inputs' dims in order */
	int *in_at;      /* first of them */
	/* outputs */
	void **out;    /* of the running or last run */
	void **theirs; /* the caller's, or NULL */
	size_t *their_bytes;
	mlrt_block *own;
	int *out_at;              /* first dim's word of state */
	int64_t *state, *planned; /* of runs; of reserve */
	/* states, and by input and output which of them is theirs, or NULL */
	mlrt_bound *bound, **in_bound, **out_bound;
	int nbound;
};

int mlrt_element_bytes(ml_dtype);

/* bound.c, in the order of a run.  Gives states without a value their first one. */
ml_status mlrt_bound_begin(ml_session *);
/* Tells the plan function the room that states have. */
void mlrt_bound_rooms(ml_session *, int64_t *state);
/* Makes room for the rows that `state` plans; *changed when the plan must know of it. */
ml_status mlrt_bound_grow(ml_session *, const int64_t *state, bool *changed);
/* Where a run reads and writes it; `bytes` of the output. */
ml_status mlrt_bound_place(ml_session *, mlrt_bound *, size_t bytes);
/* After a run: the output is the next input. */
void mlrt_bound_advance(ml_session *);
/* ml_session_set_input of a state. */
ml_status mlrt_bound_set(ml_session *, mlrt_bound *, const void *data, const int64_t *dim);
/* The value where its rows follow each other, else NULL. */
void *mlrt_bound_data(const mlrt_bound *);
#endif
