/* index.c -- type rules of gather and scatter. */
#include "../infer.h"
#include <string.h>

ml_status
ml_type_gather(ml_builder *b, ml_node *n)
{
	const ml_type *data = &ml_in(n, 0)->type, *index = &ml_in(n, 1)->type;
	ml_attr *axis = &ML_A(n, gather, axis);
	ml_type t = {.dtype = data->dtype};

	ML_STEP(ml_want_kind(b, n, 1, ML_KI));
	ML_STEP(ml_want_axis(b, n, axis, data->rank));
	if (data->rank - 1 + index->rank > ML_MAX_RANK)
		return ml_type_fail(b, n, ML_ERR_LIMIT, "the result's rank is larger than %d",
				    ML_MAX_RANK);
	for (int i = 0; i < axis->i64; i++)
		t.dim[t.rank++] = data->dim[i];
	for (int i = 0; i < index->rank; i++)
		t.dim[t.rank++] = index->dim[i];
	for (int i = (int)axis->i64 + 1; i < data->rank; i++)
		t.dim[t.rank++] = data->dim[i];
	n->out[0].type = t;
	return ML_OK;
}

ml_status
ml_type_scatter(ml_builder *b, ml_node *n)
{
	static const char *const modes[] = {"set", "add", "mul", "min", "max"};
	const ml_type *data = &ml_in(n, 0)->type, *index = &ml_in(n, 1)->type;
	const ml_type *updates = &ml_in(n, 2)->type;
	const char *mode = ML_A(n, scatter, mode).str;
	bool known = false;

	for (size_t i = 0; i < sizeof modes / sizeof *modes; i++)
		known |= !strcmp(mode, modes[i]);
	if (!known)
		return ml_type_fail(b, n, ML_ERR_VALUE, "unknown mode '%s'",
				    ml_escaped(&b->m->cx->arena, mode));
	ML_STEP(ml_want_kind(b, n, 1, ML_KI));
	ML_STEP(ml_want_same_dtype(b, n, 0, 2));
	if (data->dtype == ML_bool && strcmp(mode, "set") != 0)
		return ml_type_fail(b, n, ML_ERR_TYPE, "bools cannot be combined");
	ML_STEP(ml_want_rank(b, n, 0, 1, ML_MAX_RANK));
	ML_STEP(ml_want_rank(b, n, 1, 1, 1));
	ML_STEP(ml_want_rank(b, n, 2, data->rank, data->rank));
	ML_STEP(ml_want_equal(b, n, updates->dim[0], index->dim[0], "one update per index"));
	for (int i = 1; i < data->rank; i++)
		ML_STEP(ml_want_equal(b, n, updates->dim[i], data->dim[i],
				      "updates have the shape of rows"));
	n->out[0].type = *data;
	return ML_OK;
}
