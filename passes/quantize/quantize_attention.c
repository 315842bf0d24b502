/* quantize_attention.c -- attention on 8-bit integers where that pays.
 *
 * Keys and values become integers in every run, once for a tile of queries: few queries gain less
 * than that costs.  Which form it is depends on the shapes that the module states, never on those
 * of a run, so that a sequence gives the same bits however it is padded.
 */
#include "../../ir/attention.h"
#include "quantize.h"

enum { FEWEST = 64 }; /* queries and keys */

/* Can there be as many? */
static bool
may_be_many(ml_dim d)
{
	int64_t n;

	return !ml_dim_is_int(d, &n) || n >= FEWEST;
}

/* What speaks against it; NULL when nothing does. */
static const char *
objection(const ml_node *n)
{
	const ml_type *q = &ml_in(n, 0)->type, *k = &ml_in(n, 1)->type;
	int64_t size;

	if (q->dtype != ML_f32)
		return "its operands are not f32";
	if (!ml_dim_is_int(q->dim[3], &size) || size > ML_ATTENTION_SIZE)
		return "the size of a query is not known to be small";
	if (!may_be_many(q->dim[2]) || !may_be_many(k->dim[2]))
		return "it has few queries or keys";
	if (q->dim[2] != k->dim[2] && !ml_dim_is_int(q->dim[2], &size))
		return "past keys would become integers again in every step";
	return NULL;
}

static ml_status
quantize_block(void *user, ml_block *block)
{
	ml_pass_ctx *px = user;

	for (ml_node *n = block->first; n && *px->fuel > 0; n = n->next) {
		if (n->op != ML_OP_attention || ML_A(n, attention, int8).i64)
			continue;
		const char *why = objection(n);
		if (why) {
			ml_remark(px->cx, n->prov, "kept in fp32: %s", why);
			continue;
		}
		ML_A(n, attention, int8).i64 = 1;
		ml_spend_fuel(px);
		ml_remark(px->cx, n->prov, "quantized: queries, keys, values per row");
		px->changes++;
	}
	return ML_OK;
}

static ml_status
run(ml_pass_ctx *px, ml_module *m)
{
	return ml_for_each_block(m, quantize_block, px);
}

ML_PASS(quantize_attention, ML_LOSSY, run, "attention on u8 queries, s8 keys and values");
