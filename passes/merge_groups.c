/* merge_groups.c -- convolutions of integers with narrow groups: neighbours become one group.
 *
 * A kernel computes 16 columns at a time.  Groups of fewer filters leave most of them empty, and
 * every group gathers its own windows; together, with zeros where a filter does not see a channel,
 * they fill the columns with windows gathered once.  Products with zero are 0 for integers alone:
 * floats may be infinite.
 */
#include "pass.h"
#include <string.h>

enum { COLUMNS = 16 };

/* How many neighbours become one; 1: none. */
static int64_t
choose_factor(const ml_node *n, int64_t *channels, int64_t *filters)
{
	const ml_value *w = ml_in(n, 1);
	int64_t groups = ML_A(n, conv, groups).i64, count, factor = 1;

	if (groups < 2 || !ml_is_const(w) || w->type.dtype != ML_s8 ||
	    ml_in(n, 0)->type.dtype != ML_u8 || !ml_type_static_count(&w->type, &count) ||
	    count == 0)
		return 1;
	ml_dim_is_int(w->type.dim[1], channels);
	ml_dim_is_int(w->type.dim[0], filters);
	*filters /= groups;
	if (*channels == 1 && *filters == 1) /* depthwise: a kernel of its own */
		return 1;
	for (int64_t f = 2; f <= groups && f * *filters <= COLUMNS; f++)
		if (groups % f == 0)
			factor = f;
	return factor;
}

/* Each filter's channels where its group's are among those of `factor` groups, zero elsewhere. */
static ml_value *
spread_weights(ml_pass_ctx *px, ml_node *n, int64_t factor, int64_t channels, int64_t filters)
{
	const ml_value *w = ml_in(n, 1);
	const char *from = ml_const_blob(w)->bytes;
	ml_builder b = ml_builder_before(n);
	ml_type t = w->type;
	int64_t count = 0;
	void *bytes;

	ml_type_static_count(&t, &count);
	int64_t rows = ML_A(n, conv, groups).i64 * filters, row = count / rows;
	ml_blob *blob = ml_blob_new(&px->cx->memory, (uint64_t)(count * factor), &bytes);
	memset(bytes, 0, (size_t)(count * factor));
	for (int64_t i = 0; i < rows; i++)
		memcpy((char *)bytes + (i * factor + i / filters % factor) * row, from + i * row,
		       (size_t)row);
	t.dim[1] = ml_dim_int(b.m->dims, channels * factor);
	return ml_build_const(&b, &t, blob);
}

static ml_status
merge_block(void *user, ml_block *block)
{
	ml_pass_ctx *px = user;

	for (ml_node *n = block->first; n && *px->fuel > 0; n = n->next) {
		int64_t channels = 0, filters = 0, factor;
		if (n->op != ML_OP_conv)
			continue;
		factor = choose_factor(n, &channels, &filters);
		if (factor == 1)
			continue;
		ml_value *w = spread_weights(px, n, factor, channels, filters);
		if (!w)
			return ML_ERR_PASS;
		ml_set_operand(n, 1, w);
		ML_A(n, conv, groups).i64 /= factor;
		ml_spend_fuel(px);
		ml_remark(px->cx, n->prov, "merged: every %lld groups are one", (long long)factor);
		px->changes++;
	}
	ml_drop_unused(block);
	return ML_OK;
}

static ml_status
run(ml_pass_ctx *px, ml_module *m)
{
	return ml_for_each_block(m, merge_block, px);
}

ML_PASS(merge_groups, ML_EXACT, run, "narrow groups of integer convolutions become wider ones");
