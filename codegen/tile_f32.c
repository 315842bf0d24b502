/* tile_f32.c -- the f32 tile: one fma per accumulator and step of k. */
#include "tile.h"

enum { REACH = 3 }; /* rows that addresses of x86 name with one register and the rows' distance */

typedef struct pointers {
	ml_v row[ML_TILE_MAX], panel[ML_TILE_MAX];
} pointers;

/* The same address, of which LLVM does not know where it comes from. */
static ml_v
hide(ml_emit *e, ml_v pointer)
{
	return ml_intrinsic(e, "llvm.launder.invariant.group", &e->ptr, 1, &pointer, 1);
}

/* The rows at step k.  If LLVM knew how far apart all of them are, it would compute addresses anew
 * at each step, on ports that multiply, or keep more of them than there are registers. */
static void
place_rows(ml_emit *e, const ml_tile *t, const pointers *p, ml_v k, ml_v *row)
{
	for (int i = 0; i < t->rows; i++) {
		int near = i % REACH;
		ml_v distance = ml_mul(e, t->lda, ml_i64(e, near));
		row[i] = near ? ml_gep(e, e->f32, row[i - near], distance)
			      : hide(e, ml_gep(e, e->f32, p->row[i], k));
	}
}

/* acc += A[:, k] (x) B[k, :], in place, where k is `at` steps behind `from`, as `row` is. */
static void
step(ml_emit *e, const ml_tile *t, const pointers *p, const ml_v *row, ml_v from, int at, ml_v *acc)
{
	ml_v line = ml_mul(e, ml_add(e, from, ml_i64(e, at)), ml_i64(e, ML_LANES)), b[ML_TILE_MAX];

	for (int j = 0; j < t->panels; j++)
		b[j] = ml_load(e, ml_vec_type(e->f32), ml_gep(e, e->f32, p->panel[j], line), 4);
	for (int i = 0; i < t->rows; i++) {
		ml_v word = ml_load(e, e->f32, ml_gep(e, e->f32, row[i], ml_i64(e, at)), 4);
		ml_v a = ml_splat(e, word);
		for (int j = 0; j < t->panels; j++)
			acc[i * t->panels + j] = ml_fma(e, a, b[j], acc[i * t->panels + j]);
	}
}

/* Runs k from `from` below `to`, `steps` in a round.  A step of 512 bits is long enough to fetch
 * something: where rows are few, each has a line of the next panels to fetch. */
static void
run_rounds(ml_emit *e, const ml_tile *t, const pointers *p, ml_v from, ml_v to, int steps,
	   ml_v *carry)
{
	int n = ml_tile_carried(t), fetch = e->target->vector_bits == 512 ? 1 : steps;
	ml_loop l = ml_loop_begin(e, from, to, ml_i64(e, steps), carry, n, "k");
	ml_v row[ML_TILE_MAX];

	for (int i = 0; i < n; i++)
		carry[i] = l.carry[i];
	place_rows(e, t, p, l.i, row);
	for (int i = 0; i < steps; i++) {
		if (i % fetch == 0)
			ml_tile_fetch_ahead(e, t, fetch, carry);
		step(e, t, p, row, l.i, i, carry);
	}
	ml_loop_end(e, &l, carry);
	for (int i = 0; i < n; i++)
		carry[i] = l.carry[i];
}

void
ml_tile_f32(ml_emit *e, const ml_tile *t)
{
	/* What loops cost beside takes turns from multiplications; more steps would spill sums. */
	int n = t->rows * t->panels, bits = e->target->vector_bits;
	int steps = bits == 512 ? 2 : bits == 256 ? 4 : 1;
	ml_v carry[ML_TILE_MAX + 1], whole = LLVMBuildAnd(e->b, t->k, ml_i64(e, -steps), "");
	pointers p;

	for (int i = 0; i < t->rows; i++)
		p.row[i] = hide(e, ml_gep(e, e->f32, t->a, ml_mul(e, t->lda, ml_i64(e, i))));
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
