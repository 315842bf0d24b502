/* tile_f32.c -- the f32 tile: one fma per accumulator and step of k. */
#include "tile.h"

typedef struct pointers {
	ml_v row[ML_TILE_MAX], panel[ML_TILE_MAX];
} pointers;

/* acc += A[:, k] (x) B[k, :], in place. */
static void
step(ml_emit *e, const ml_tile *t, const pointers *p, ml_v k, ml_v *acc)
{
	ml_v b[ML_TILE_MAX];

	for (int j = 0; j < t->panels; j++)
		b[j] = ml_load(e, ml_vec_type(e->f32),
			       ml_gep(e, e->f32, p->panel[j], ml_mul(e, k, ml_i64(e, ML_LANES))),
			       4);
	for (int i = 0; i < t->rows; i++) {
		ml_v a = ml_splat(e, ml_load(e, e->f32, ml_gep(e, e->f32, p->row[i], k), 4));
		for (int j = 0; j < t->panels; j++)
			acc[i * t->panels + j] = ml_fma(e, a, b[j], acc[i * t->panels + j]);
	}
}

/* Runs k from `from` below `to`, `steps` in a round, behind which the next line is fetched. */
static void
run_rounds(ml_emit *e, const ml_tile *t, const pointers *p, ml_v from, ml_v to, int steps,
	   ml_v *carry)
{
	int n = ml_tile_carried(t);
	ml_loop l = ml_loop_begin(e, from, to, ml_i64(e, steps), carry, n, "k");

	for (int i = 0; i < n; i++)
		carry[i] = l.carry[i];
	ml_tile_fetch_ahead(e, t, steps, carry);
	for (int i = 0; i < steps; i++)
		step(e, t, p, ml_add(e, l.i, ml_i64(e, i)), carry);
	ml_loop_end(e, &l, carry);
	for (int i = 0; i < n; i++)
		carry[i] = l.carry[i];
}

void
ml_tile_f32(ml_emit *e, const ml_tile *t)
{
	/* Where a step is few multiplications, what loops cost beside takes turns from them.  With
	 * 32 registers it is many, and LLVM would load several steps ahead and spill sums. */
	int n = t->rows * t->panels, steps = e->target->vector_bits == 256 ? 4 : 1;
	ml_v carry[ML_TILE_MAX + 1], whole = LLVMBuildAnd(e->b, t->k, ml_i64(e, -steps), "");
	pointers p;

	for (int i = 0; i < t->rows; i++)
		p.row[i] = ml_gep(e, e->f32, t->a, ml_mul(e, t->lda, ml_i64(e, i)));
	for (int j = 0; j < t->panels; j++)
		p.panel[j] = ml_gep(e, e->f32, t->b, ml_mul(e, t->panel_stride, ml_i64(e, j)));
	ml_tile_begin_sums(e, t, e->f32, carry);
	run_rounds(e, t, &p, ml_i64(e, 0), whole, steps, carry);
	if (steps > 1)
		run_rounds(e, t, &p, whole, t->k, 1, carry);
	for (int i = 0; i < n; i++)
		ml_store(e, carry[i], ml_gep(e, e->f32, t->acc, ml_i64(e, i * ML_LANES)),
			 ML_TILE_ALIGN);
}
