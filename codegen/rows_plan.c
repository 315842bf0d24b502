/* rows_plan.c -- finds the stages of a row kernel and what is worth keeping between them. */
#include "rows.h"
#include <string.h>

enum {
	PLAIN_TILE = 2048, /* elements */
	DEAR_TILE = 512,   /* with transcendental functions */
	LOOP_TILE = 64     /* with loops inside of elements */
};

static bool
is_plain_reduce(const ml_node *n)
{
	return n->op >= ML_OP_reduce_sum && n->op <= ML_OP_reduce_max;
}

/* Reduces exactly the last `axes` dims of its operand. */
static bool
reduces_suffix(const ml_node *n, int axes)
{
	const ml_attr *a = &ML_A(n, reduce_sum, axes);
	int rank = ml_in(n, 0)->type.rank;
	unsigned seen = 0;

	if (a->count != axes)
		return false;
	for (int i = 0; i < axes; i++)
		seen |= 1u << a->ints[i];
	return seen == ((1u << axes) - 1) << (rank - axes);
}

bool
ml_rows_is_reduction(const ml_rows *r, const ml_node *n)
{
	return !r->is_map && is_plain_reduce(n) &&
	       ml_type_same_shape(&ml_in(n, 0)->type, &r->space) &&
	       reduces_suffix(n, r->space.rank - r->outer);
}

bool
ml_rows_is_scalar(const ml_rows *r, const ml_type *t)
{
	if (r->is_map || t->rank != r->space.rank ||
	    memcmp(t->dim, r->space.dim, (size_t)r->outer * sizeof *t->dim))
		return false;
	for (int i = r->outer; i < t->rank; i++)
		if (!ml_dim_equals(t->dim[i], 1))
			return false;
	return true;
}

/* ---- space ---- */

static bool
fits_space(const ml_rows *r, const ml_value *v)
{
	return ml_type_same_shape(&v->type, &r->space) || ml_rows_is_scalar(r, &v->type);
}

const ml_value *
ml_rows_result(const ml_rows *r, int result)
{
	const ml_value *v = ml_in(r->kernel->m->main->last, result);
	const ml_value *last = ml_expr_computed(r->kernel, v);
	const ml_value *found = last;

	for (bool fits = fits_space(r, last); !fits && v != last; v = ml_in(v->def, 0))
		if (fits_space(r, v))
			found = v;
	return found;
}

static bool
results_fit(const ml_rows *r)
{
	for (int i = 0; i < r->kernel->m->main->last->nin; i++)
		if (!fits_space(r, ml_rows_result(r, i)))
			return false;
	return true;
}

/* The space of a reduction along rows that the results have, too; else that of the results. */
static ml_status
find_space(ml_rows *r)
{
	const ml_block *main = r->kernel->m->main;
	int axes = r->kernel->row_axes;

	for (const ml_node *n = main->first; axes > 0 && n; n = n->next) {
		if (!is_plain_reduce(n) || !reduces_suffix(n, axes))
			continue;
		r->space = ml_in(n, 0)->type;
		r->outer = r->space.rank - axes;
		if (results_fit(r))
			return ML_OK;
	}
	r->is_map = true;
	for (int i = 0; i < main->last->nin; i++) {
		r->space = ml_expr_computed(r->kernel, ml_in(main->last, i))->type;
		r->outer = r->space.rank;
		if (results_fit(r))
			return ML_OK;
	}
	return ml_error(r->kernel->m->cx, ML_ERR_CODEGEN, NULL,
			"the results of a kernel do not share a space");
}

/* ---- stages ---- */

/* Levels live in node->scratch: the stage in which the node's value can first be computed. */
int
ml_rows_stage_of(const ml_value *v)
{
	return v->def ? (int)v->def->scratch : 0;
}

static ml_status
find_stages(ml_rows *r)
{
	ml_block *main = r->kernel->m->main;

	for (ml_node *n = main->first; n; n = n->next) {
		int level = 0;
		for (int i = 0; i < n->nin; i++)
			if (ml_rows_stage_of(ml_in(n, i)) > level)
				level = ml_rows_stage_of(ml_in(n, i));
		if (level >= ML_MAX_STAGES - 1)
			return ml_error(r->kernel->m->cx, ML_ERR_CODEGEN, n->prov,
					"too many reductions depend on each other");
		n->scratch = level;
		if (!ml_rows_is_reduction(r, n))
			continue;
		ML_PUSH(r->arena, r->stage[level].reductions, n);
		n->scratch = level + 1;
		if (r->nstages < level + 1)
			r->nstages = level + 1;
	}
	return ML_OK;
}

static void
place_results(ml_rows *r)
{
	const ml_node *yield = r->kernel->m->main->last;

	for (int i = 0; i < yield->nin; i++) {
		const ml_value *v = ml_rows_result(r, i);
		int stage = ml_rows_stage_of(v);
		if (r->nstages < stage + 1)
			r->nstages = stage + 1;
		if (ml_type_same_shape(&v->type, &r->space))
			ML_PUSH(r->arena, r->stage[stage].results, i);
		else
			ML_PUSH(r->arena, r->stage[stage].scalars, i);
	}
}

/* ---- what is kept ---- */

/* SLOW: worth a load and a store, but no reason for smaller tiles. */
typedef enum price { CHEAP, SLOW, DEAR, LOOP } price;

static price
price_of(const ml_rows *r, const ml_node *n)
{
	if ((n->op >= ML_OP_exp && n->op <= ML_OP_erf) || n->op == ML_OP_xcdf)
		return DEAR;
	if (n->op == ML_OP_div || n->op == ML_OP_sqrt)
		return SLOW;
	if (n->op == ML_OP_pow || n->op == ML_OP_rem || n->op == ML_OP_mod)
		return DEAR;
	ml_class c = ml_op_get(n->op)->cls;
	return c == ML_CONTRACT || (c == ML_REDUCE && !ml_rows_is_reduction(r, n)) ? LOOP : CHEAP;
}

static void
demand(const ml_value *v, uint32_t *need, uint32_t stages)
{
	if (v->def)
		need[v->def->id] |= stages;
}

static uint32_t
lowest_bit(uint32_t x)
{
	return x & (0u - x);
}

static int
bit_number(uint32_t bit)
{
	int n = 0;

	while (bit >>= 1)
		n++;
	return n;
}

/* Row scalars are computed once per row; only values with a lane for every element are kept, so
 * none where a row is a single element. */
static void
visit(ml_rows *r, const ml_node *n, uint32_t *need)
{
	uint32_t stages = need[n->id];
	price p = price_of(r, n);

	if (p >= DEAR && r->tile_elements > (p == LOOP ? LOOP_TILE : DEAR_TILE))
		r->tile_elements = p == LOOP ? LOOP_TILE : DEAR_TILE;
	if (p != CHEAP && stages != lowest_bit(stages) &&
	    ml_type_same_shape(&n->out[0].type, &r->space) &&
	    !ml_rows_is_scalar(r, &n->out[0].type)) {
		stages = lowest_bit(stages);
		ml_kept k = {.value = &n->out[0], .stage = bit_number(stages)};
		ML_PUSH(r->arena, r->kept, k);
	}
	if (ml_rows_is_reduction(r, n))
		stages = 1u << (n->scratch - 1);
	for (int i = 0; i < n->nin; i++)
		demand(ml_in(n, i), need, stages);
}

static void
find_kept(ml_rows *r)
{
	const ml_module *m = r->kernel->m;
	ml_dims *dims = m->dims;
	uint32_t *need = ML_NEW_ARRAY(r->arena, uint32_t, m->next_id + 1);
	ml_dim row = ml_dim_int(dims, 1), line = ml_dim_int(dims, 64);

	for (int s = 0; s < r->nstages; s++)
		for (int i = 0; i < r->stage[s].results.count; i++) {
			const ml_value *v = ml_rows_result(r, r->stage[s].results.at[i]);
			demand(v, need, 1u << s);
		}
	for (const ml_node *n = m->main->last->prev; n; n = n->prev)
		visit(r, n, need);
	for (int i = r->outer; i < r->space.rank; i++)
		row = ml_dim_mul(dims, row, r->space.dim[i]);
	for (int i = 0; i < r->kept.count; i++) {
		ml_kept *k = &r->kept.at[i];
		int64_t size = ml_dtype_bytes(k->value->type.dtype);
		ml_dim bytes = ml_dim_mul(dims, row, ml_dim_int(dims, size < 4 ? 4 : size));
		k->offset = r->scratch_bytes;
		bytes = ml_dim_mul(dims, ml_dim_ceildiv(dims, bytes, line), line);
		r->scratch_bytes = ml_dim_add(dims, r->scratch_bytes, bytes);
	}
}

ml_status
ml_rows_plan(ml_kernel *k, ml_arena *arena, ml_rows *r)
{
	*r = (ml_rows){.kernel = k,
		       .arena = arena,
		       .tile_elements = PLAIN_TILE,
		       .scratch_bytes = ml_dim_int(k->m->dims, 0)};
	ML_STEP(find_space(r));
	ML_STEP(find_stages(r));
	place_results(r);
	find_kept(r);
	return ML_OK;
}

/* A row without elements still has results. */
ml_dim
ml_rows_tiles(const ml_rows *r)
{
	ml_dims *dims = r->kernel->m->dims;
	ml_dim rows = ml_dim_int(dims, 1), row = rows;

	for (int i = 0; i < r->space.rank; i++) {
		ml_dim *into = i < r->outer ? &rows : &row;
		*into = ml_dim_mul(dims, *into, r->space.dim[i]);
	}
	row = ml_dim_max(dims, row, ml_dim_int(dims, 1));
	return ml_dim_ceildiv(dims, ml_dim_mul(dims, rows, row),
			      ml_dim_int(dims, r->tile_elements));
}

ml_status
ml_rows_grid(ml_kernel *k, ml_grid *grid)
{
	ml_rows r;
	ml_depthwise d;

	ML_STEP(ml_rows_plan(k, &k->m->arena, &r));
	if (ml_depthwise_find(&r, &d)) {
		ml_depthwise_grid(&d, grid);
		return ML_OK;
	}
	grid->tiles = ml_rows_tiles(&r);
	grid->scratch_bytes = r.scratch_bytes;
	return ML_OK;
}
