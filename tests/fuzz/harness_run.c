/* harness_run.c -- random numbers, inputs of random graphs; comparing and showing results. */
#include "harness_graph.h"
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <cmocka.h>

int
fuzz_below(fuzz_random *r, int n)
{
	r->state = r->state * 6364136223846793005u + 1442695040888963407u;
	return (int)((r->state >> 33) % (uint64_t)n);
}

double
fuzz_number(fuzz_random *r)
{
	return (double)fuzz_below(r, 1 << 20) / (1 << 19) - 1;
}

ml_tensor *
fuzz_inputs(const ml_module *m, uint64_t seed, int64_t n, ml_arena *arena)
{
	ml_tensor *in = ML_NEW_ARRAY(arena, ml_tensor, m->main->nargs);
	fuzz_random r = {seed};

	for (int i = 0; i < m->main->nargs; i++) {
		const ml_type *type = &m->main->arg[i]->type;
		int64_t count = 1;
		in[i].dtype = type->dtype;
		in[i].rank = type->rank;
		for (int d = 0; d < type->rank; d++) {
			assert_true(ml_dim_eval(type->dim[d], &n, &in[i].dim[d]));
			count *= in[i].dim[d];
		}
		in[i].bytes = (size_t)count * (size_t)ml_dtype_bytes(type->dtype);
		in[i].data = ml_alloc(arena, in[i].bytes);
		for (int64_t e = 0; e < count; e++) {
			double x = fuzz_number(&r);
			if (ml_is_float(type->dtype))
				ml_write_f64(type->dtype, in[i].data, e, x * 2);
			else
				ml_write_s64(type->dtype, in[i].data, e,
					     type->dtype == ML_bool ? x > 0 : (int64_t)(x * 6));
		}
	}
	return in;
}

int64_t
fuzz_difference(const ml_tensor *a, const ml_tensor *b, double tolerance)
{
	int64_t count = (int64_t)a->bytes / ml_dtype_bytes(a->dtype);
	double top = ml_is_float(a->dtype) ? 1 : 0;

	if (a->dtype != b->dtype || a->bytes != b->bytes)
		return 0;
	for (int64_t i = 0; i < count; i++) {
		double x = fabs(ml_read_f64(a->dtype, a->data, i));
		if (x < 1e30 && x > top)
			top = x;
	}
	top = ml_is_float(a->dtype) ? top : 0;
	for (int64_t i = 0; i < count; i++) {
		double x = ml_read_f64(a->dtype, a->data, i), y = ml_read_f64(b->dtype, b->data, i);
		if (x == y || (isnan(x) && isnan(y)) || (fabs(x) >= 1e30 && !(fabs(y) < 1e30)))
			continue;
		if (!(fabs(x - y) <= tolerance * top))
			return i;
	}
	return -1;
}

char *
fuzz_text(const ml_module *m, ml_arena *arena)
{
	ml_text t;

	ml_text_init(&t, arena);
	ml_print(&t, m);
	return t.at;
}

void
fuzz_show(const ml_context *cx, const ml_module *m)
{
	ml_memory memory = cx->memory;
	ml_arena arena;
	ml_text t;

	ml_arena_init(&arena, &memory);
	ml_text_init(&t, &arena);
	for (int i = 0; i < cx->diags.count; i++)
		ml_diag_print(&t, cx, &cx->diags.at[i]);
	fprintf(stderr, "%s%s", fuzz_text(m, &arena), t.at);
	ml_arena_free(&arena);
}
