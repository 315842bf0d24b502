/* quantize_embedding.c -- embedding tables as s8 with one scale per row: a quarter of the bytes. */
#include "quantize.h"

enum { SMALLEST = 4096 /* elements */ };

static bool
is_embedding(const ml_node *n, int64_t *rows, int64_t *columns)
{
	const ml_value *table = ml_in(n, 0);

	return n->op == ML_OP_gather && ml_is_const(table) && table->type.dtype == ML_f32 &&
	       table->type.rank == 2 && ML_A(n, gather, axis).i64 == 0 &&
	       ml_dim_is_int(table->type.dim[0], rows) &&
	       ml_dim_is_int(table->type.dim[1], columns) && *rows * *columns >= SMALLEST;
}

static ml_value *
build_quantized(ml_builder *b, const ml_node *n, const ml_quantized *q)
{
	ml_value *table = ml_in(n, 0), *index = ml_in(n, 1);
	ml_type values = table->type, scales = table->type;

	values.dtype = ML_s8;
	scales.dim[1] = ml_dim_int(b->m->dims, 1);
	ml_value *row = ml_build_gather(b, ml_build_const(b, &values, q->values), index, 0);
	ml_value *scale = ml_build_gather(b, ml_build_const(b, &scales, q->scales), index, 0);
	return ml_op2(b, ML_OP_mul, ml_build_cast(b, row, ML_f32), scale);
}

static ml_status
quantize_block(void *user, ml_block *block)
{
	ml_pass_ctx *px = user;
	int64_t rows, columns;
	ml_quantized q;

	for (ml_node *n = block->first, *next; n; n = next) {
		next = n->next;
		if (!is_embedding(n, &rows, &columns) || *px->fuel <= 0)
			continue;
		if (!ml_quantize_rows(px, ml_in(n, 0), rows, columns, &q)) {
			ml_remark(px->cx, n->prov, "kept in fp32: the table is not finite");
			continue;
		}
		ml_spend_fuel(px);
		ml_blob_drop(q.sums);
		ml_builder b = ml_builder_before(n);
		ml_value *y = build_quantized(&b, n, &q);
		if (!y)
			return b.failed;
		y->name = n->out[0].name;
		ml_replace_uses(&n->out[0], y);
		ml_remark(px->cx, n->prov, "quantized: s8 table with a scale per row");
		ml_node_remove(n);
		px->changes++;
	}
	ml_drop_unused(block);
	return ML_OK;
}

static ml_status
run(ml_pass_ctx *px, ml_module *m)
{
	return ml_for_each_block(m, quantize_block, px);
}

ML_PASS(quantize_embedding, ML_LOSSY, run, "embedding tables as s8 with one scale per row");
