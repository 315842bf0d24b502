/* eval_index.c -- gather and scatter of the reference evaluator: positions come from data. */
#include "eval.h"
#include <string.h>

/* An index in [-n, n) as a position. */
static ml_status
position(ml_eval *e, int64_t index, int64_t n, int64_t *at)
{
	*at = index < 0 ? index + n : index;
	if (index < -n || index >= n)
		return ml_eval_fail(e, ML_ERR_INDEX, "index %lld is outside of [-%lld, %lld)",
				    (long long)index, (long long)n, (long long)n);
	return ML_OK;
}

static ml_status
gather(ml_eval *e, const ml_node *n, ml_array *const *in, ml_array *out)
{
	const ml_array *data = in[0], *index = in[1];
	int64_t outer, count, inner, at;

	ml_array_split(data, (int)ML_A(n, gather, axis).i64, &outer, &count, &inner);
	for (int64_t i = 0; i < index->count; i++) {
		ML_STEP(position(e, index->cell[i].i, count, &at));
		for (int64_t o = 0; o < outer; o++)
			memcpy(out->cell + (o * index->count + i) * inner,
			       data->cell + (o * count + at) * inner,
			       (size_t)inner * sizeof *out->cell);
	}
	return ML_OK;
}

/* How an update meets the old element; ML_OP_none replaces it. */
static ml_op
scatter_mode(const char *mode)
{
	static const struct {
		const char *name;
		ml_op op;
	} modes[] = {{"add", ML_OP_reduce_sum},
		     {"mul", ML_OP_reduce_prod},
		     {"min", ML_OP_reduce_min},
		     {"max", ML_OP_reduce_max}};

	for (size_t i = 0; i < sizeof modes / sizeof *modes; i++)
		if (!strcmp(mode, modes[i].name))
			return modes[i].op;
	return ML_OP_none;
}

static ml_status
scatter(ml_eval *e, const ml_node *n, ml_array *const *in, ml_array *out)
{
	const ml_array *data = in[0], *index = in[1], *updates = in[2];
	ml_op mode = scatter_mode(ML_A(n, scatter, mode).str);
	int64_t outer, rows, inner, at;

	ml_array_split(data, 0, &outer, &rows, &inner);
	memcpy(out->cell, data->cell, (size_t)data->count * sizeof *out->cell);
	for (int64_t i = 0; i < index->count; i++) {
		ML_STEP(position(e, index->cell[i].i, rows, &at));
		ml_cell *row = out->cell + at * inner;
		const ml_cell *update = updates->cell + i * inner;
		for (int64_t k = 0; k < inner; k++)
			row[k] = mode ? ml_cell_combine(mode, data->dtype, row[k], update[k])
				      : update[k];
	}
	return ml_eval_charge(e, updates->count);
}

ml_status
ml_eval_index(ml_eval *e, const ml_node *n, ml_array *const *in, ml_array **out)
{
	ML_STEP(ml_array_result(e, n, 0, out));
	return n->op == ML_OP_gather ? gather(e, n, in, *out) : scatter(e, n, in, *out);
}
