/* bound.c -- states: outputs that a session keeps and gives to the next run as inputs.
 *
 * Where compiled code appends an output to its input, both are one piece of memory with room for
 * more rows than there are, and a run writes the new rows alone.  Room doubles when it runs out.
 */
#include "session.h"
#include <stdlib.h>
#include <string.h>

enum { FIRST_ROOM = 16 };

static const ml_model_info *
info_of(const ml_session *s)
{
	return &s->model->signature.info;
}

static const ml_tensor_info *
tensor_of(const ml_session *s, const mlrt_bound *b)
{
	return &info_of(s)->input[b->in];
}

static int64_t *
dims_of(const ml_session *s, const mlrt_bound *b)
{
	return s->in_dim + s->in_at[b->in];
}

static ml_status
too_large(ml_session *s, const mlrt_bound *b, ml_status status)
{
	return mlrt_say(&s->message, status, "no memory for state '%s' of this size",
			tensor_of(s, b)->name);
}

/* Product of dims from..to-1 times `bytes`; false when it overflows. */
static bool
product(const int64_t *dim, int from, int to, size_t *bytes)
{
	for (int i = from; i < to; i++)
		if (__builtin_mul_overflow(*bytes, (size_t)dim[i], bytes))
			return false;
	return true;
}

/* How rows lie in memory: `blocks` runs of rows of `row` bytes. */
typedef struct rows {
	size_t blocks, row, stride; /* stride: blocks * row */
} rows;

static ml_status
rows_of(ml_session *s, const mlrt_bound *b, const int64_t *dim, rows *r)
{
	const ml_tensor_info *t = tensor_of(s, b);

	*r = (rows){1, (size_t)mlrt_element_bytes(t->dtype), 0};
	if (!product(dim, 0, b->axis, &r->blocks) || !product(dim, b->axis + 1, t->rank, &r->row) ||
	    __builtin_mul_overflow(r->blocks, r->row, &r->stride))
		return too_large(s, b, ML_ERR_LIMIT);
	return ML_OK;
}

/* ---- binding ---- */

static ml_status
check_names(ml_session *s, int in, int out, const char *input, const char *output)
{
	const ml_model_info *info = info_of(s);

	if (in < 0)
		return mlrt_say(&s->message, ML_ERR_ARG, "there is no input '%s'", input);
	if (out < 0)
		return mlrt_say(&s->message, ML_ERR_ARG, "there is no output '%s'", output);
	if (s->in_bound[in] || s->out_bound[out])
		return mlrt_say(&s->message, ML_ERR_ARG, "'%s' is a state already",
				s->in_bound[in] ? input : output);
	if (info->input[in].dtype != info->output[out].dtype ||
	    info->input[in].rank != info->output[out].rank)
		return mlrt_say(&s->message, ML_ERR_SHAPE,
				"input '%s' and output '%s' differ in type or rank", input, output);
	return ML_OK;
}

/* Of state: the first state's room. */
static int
first_word(const ml_session *s)
{
	int word = MLRT_STATE_DIMS;

	for (int i = 0; i < info_of(s)->noutputs; i++)
		word += info_of(s)->output[i].rank;
	return word;
}

ml_status
ml_session_bind_state(ml_session *s, const char *input, const char *output)
{
	const ml_model_info *info = info_of(s);
	int in = ml_model_find_input(s->model, input), out = ml_model_find_output(s->model, output);
	ml_status status = check_names(s, in, out, input, output);
	if (status)
		return status;
	mlrt_bound *b = &s->bound[s->nbound++];
	*b = (mlrt_bound){.in = in, .out = out, .axis = -1};
	for (int i = 0; i < info->nstates; i++)
		if (info->state[i].input == in && info->state[i].output == out) {
			b->axis = info->state[i].axis;
			b->word = first_word(s) + i;
		}
	s->in_bound[in] = s->out_bound[out] = b;
	s->given[in] = true;
	s->theirs[out] = NULL;
	s->ran = false;
	return ML_OK;
}

void
ml_session_reset_states(ml_session *s)
{
	for (int i = 0; i < s->nbound; i++)
		s->bound[i].begun = false;
	s->ran = false;
}

/* ---- values ---- */

/* A size of a first value: a number, or what another input has under the same name. */
static bool
first_size(const ml_session *s, const char *text, int64_t *size)
{
	const ml_model_info *info = info_of(s);
	char *end;

	*size = strtoll(text, &end, 10);
	if (!*end)
		return true;
	for (int i = 0; i < info->ninputs; i++)
		for (int k = 0; k < info->input[i].rank; k++)
			if ((!s->in_bound[i] || s->in_bound[i]->begun) && s->given[i] &&
			    !strcmp(info->input[i].dim[k], text)) {
				*size = s->in_dim[s->in_at[i] + k];
				return true;
			}
	return false;
}

/* Room for n bytes; what it holds stays. */
static ml_status
widen(ml_session *s, mlrt_bound *b, size_t n)
{
	mlrt_block larger = {0};

	if (n < b->now.room)
		return ML_OK;
	ml_status status = mlrt_block_grow(&larger, &s->allocator, n + 1);
	if (status)
		return too_large(s, b, status);
	memset(larger.at, 0, n);
	if (b->now.at)
		memcpy(larger.at, b->now.at, b->now.room);
	mlrt_block_free(&b->now, &s->allocator);
	b->now = larger;
	return ML_OK;
}

static ml_status
bytes_of(ml_session *s, const mlrt_bound *b, const int64_t *dim, size_t *bytes)
{
	const ml_tensor_info *t = tensor_of(s, b);

	*bytes = (size_t)mlrt_element_bytes(t->dtype);
	return product(dim, 0, t->rank, bytes) ? ML_OK : too_large(s, b, ML_ERR_LIMIT);
}

/* No rows, or zeros. */
static ml_status
begin(ml_session *s, mlrt_bound *b)
{
	const ml_tensor_info *t = tensor_of(s, b);
	size_t bytes;

	for (int k = 0; k < t->rank; k++) {
		dims_of(s, b)[k] = 0;
		if (k != b->axis && !first_size(s, t->dim[k], &dims_of(s, b)[k]))
			return mlrt_say(&s->message, ML_ERR_SHAPE,
					"state '%s', dim %d: size '%s' is not known; set a first "
					"value",
					t->name, k, t->dim[k]);
	}
	if (b->axis >= 0)
		return ML_OK;
	ml_status status = bytes_of(s, b, dims_of(s, b), &bytes);
	if (status == ML_OK)
		status = widen(s, b, bytes);
	if (status == ML_OK)
		memset(b->now.at, 0, bytes);
	return status;
}

ml_status
mlrt_bound_begin(ml_session *s)
{
	ml_status status = ML_OK;

	for (int i = 0; i < s->nbound && status == ML_OK; i++) {
		if (!s->bound[i].begun)
			status = begin(s, &s->bound[i]);
		s->bound[i].begun |= status == ML_OK;
	}
	return status;
}

/* ---- room ---- */

/* Room for n rows of these sizes; `kept` rows stay. */
static ml_status
grow_rows(ml_session *s, mlrt_bound *b, const rows *r, int64_t kept, int64_t n)
{
	int64_t room = 2 * b->room > n ? 2 * b->room : n;
	mlrt_block larger = {0};
	size_t bytes;

	room = room > FIRST_ROOM ? room : FIRST_ROOM;
	if (__builtin_mul_overflow(r->stride, (size_t)room, &bytes) || bytes == SIZE_MAX)
		return too_large(s, b, ML_ERR_LIMIT);
	ml_status status = mlrt_block_grow(&larger, &s->allocator, bytes + 1);
	if (status)
		return too_large(s, b, status);
	for (size_t i = 0; kept && i < r->blocks; i++)
		memcpy(larger.at + i * (size_t)room * r->row,
		       b->now.at + i * (size_t)b->room * r->row, (size_t)kept * r->row);
	mlrt_block_free(&b->now, &s->allocator);
	b->now = larger;
	b->room = room;
	return ML_OK;
}

/* Room for dim[axis] rows; rows of other sizes than those that are there only when there are none,
 * which then take what room there is. */
static ml_status
make_room(ml_session *s, mlrt_bound *b, const int64_t *dim, int64_t kept)
{
	rows r, held;
	ml_status status = rows_of(s, b, dim, &r);

	if (status == ML_OK && kept)
		status = rows_of(s, b, dims_of(s, b), &held);
	if (status)
		return status;
	if (kept && (held.blocks != r.blocks || held.row != r.row))
		return mlrt_say(&s->message, ML_ERR_SHAPE,
				"state '%s' holds rows of other sizes; reset it first",
				tensor_of(s, b)->name);
	if (!kept && b->now.room)
		b->room = r.stride ? (int64_t)((b->now.room - 1) / r.stride) : dim[b->axis];
	if (b->now.at && dim[b->axis] <= b->room)
		return ML_OK;
	return grow_rows(s, b, &r, kept, dim[b->axis]);
}

void
mlrt_bound_rooms(ml_session *s, int64_t *state)
{
	int first = first_word(s);

	for (int i = 0; i < info_of(s)->nstates; i++)
		state[first + i] = 0;
	for (int i = 0; i < s->nbound; i++)
		if (s->bound[i].axis >= 0)
			state[s->bound[i].word] = s->bound[i].room;
}

ml_status
mlrt_bound_grow(ml_session *s, const int64_t *state, bool *changed)
{
	ml_status status = ML_OK;

	for (int i = 0; i < s->nbound && status == ML_OK; i++) {
		mlrt_bound *b = &s->bound[i];
		int64_t room = b->room;
		if (b->axis < 0)
			continue;
		status = make_room(s, b, state + s->out_at[b->out],
				   b->begun ? dims_of(s, b)[b->axis] : 0);
		*changed |= b->room != room;
	}
	return status;
}

ml_status
mlrt_bound_place(ml_session *s, mlrt_bound *b, size_t bytes)
{
	ml_status status = ML_OK;

	if (b->axis < 0) {
		status = widen(s, b, bytes);
		if (status == ML_OK)
			status = mlrt_block_grow(&b->next, &s->allocator, bytes + 1);
	}
	s->in[b->in] = b->now.at;
	s->out[b->out] = b->axis < 0 ? b->next.at : b->now.at;
	return status ? too_large(s, b, status) : ML_OK;
}

/* ---- from run to run ---- */

void
mlrt_bound_advance(ml_session *s)
{
	for (int i = 0; i < s->nbound; i++) {
		mlrt_bound *b = &s->bound[i];
		memcpy(dims_of(s, b), s->state + s->out_at[b->out],
		       (size_t)tensor_of(s, b)->rank * sizeof(int64_t));
		if (b->axis >= 0)
			continue;
		mlrt_block value = b->next;
		b->next = b->now;
		b->now = value;
	}
}

ml_status
mlrt_bound_set(ml_session *s, mlrt_bound *b, const void *data, const int64_t *dim)
{
	int64_t *held = dims_of(s, b);
	size_t bytes;
	ml_status status = bytes_of(s, b, dim, &bytes);
	rows r;

	b->begun = false;
	if (status == ML_OK)
		status = b->axis < 0 ? widen(s, b, bytes) : make_room(s, b, dim, 0);
	if (status)
		return status;
	if (tensor_of(s, b)->rank)
		memcpy(held, dim, (size_t)tensor_of(s, b)->rank * sizeof *dim);
	b->begun = true;
	if (b->axis < 0) {
		if (bytes)
			memcpy(b->now.at, data, bytes);
		return ML_OK;
	}
	status = rows_of(s, b, dim, &r);
	size_t run = (size_t)dim[b->axis] * r.row;
	for (size_t i = 0; status == ML_OK && run && i < r.blocks; i++)
		memcpy(b->now.at + i * (size_t)b->room * r.row, (const char *)data + i * run, run);
	return status;
}

void *
mlrt_bound_data(const mlrt_bound *b)
{
	return b->axis < 0 ? b->now.at : NULL;
}

ml_status
ml_session_state(const ml_session *s, int input, ml_view *v)
{
	if (input < 0 || input >= info_of(s)->ninputs || !s->in_bound[input] ||
	    !s->in_bound[input]->begun)
		return ML_ERR_ARG;
	const mlrt_bound *b = s->in_bound[input];
	const ml_tensor_info *t = tensor_of(s, b);
	*v = (ml_view){.dtype = t->dtype,
		       .rank = t->rank,
		       .data = mlrt_bound_data(b),
		       .bytes = (size_t)mlrt_element_bytes(t->dtype)};
	for (int k = 0; k < t->rank; k++) {
		v->dim[k] = dims_of(s, b)[k];
		v->bytes *= (size_t)v->dim[k];
	}
	return ML_OK;
}

ml_status
ml_session_copy_state(ml_session *s, int input, void *to, size_t bytes)
{
	ml_view v;
	rows r;

	if (ml_session_state(s, input, &v))
		return mlrt_say(&s->message, ML_ERR_ARG, "input number %d has no state yet", input);
	const mlrt_bound *b = s->in_bound[input];
	if (bytes < v.bytes)
		return mlrt_say(&s->message, ML_ERR_ARG,
				"state '%s' has %zu bytes, the caller gave %zu",
				tensor_of(s, b)->name, v.bytes, bytes);
	if (!v.bytes)
		return ML_OK;
	if (b->axis < 0) {
		memcpy(to, v.data, v.bytes);
		return ML_OK;
	}
	ml_status status = rows_of(s, b, v.dim, &r);
	size_t run = (size_t)v.dim[b->axis] * r.row;
	for (size_t i = 0; status == ML_OK && i < r.blocks; i++)
		memcpy((char *)to + i * run, b->now.at + i * (size_t)b->room * r.row, run);
	return status;
}
