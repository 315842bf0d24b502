/* attention.c -- the body of attention: in floats, and on 8-bit integers.
 *
 * Integers: every query, key and value is a row of integers with a scale of its own, by the row's
 * largest magnitude; queries are u8 around 64.  A value's scale v goes into its key's score as
 * ln v, so that e = exp(score + ln v - top) says how much of the value's integers the sum takes.
 * e is at most 1 and becomes u8 by the fixed scale 181; the softmax divides by sum(e / v).
 * Integers have about seven bits, since CPUs without a dot instruction add products in 16: four of
 * queries and keys fit, and two of probabilities and values, whatever they are in a run.
 * `top` is that of a block of keys: the blocks' sums are exact in s32, and exp(top - top of the
 * row) brings them together.  Blocks begin at multiples of their size and a row's integers depend
 * on that row alone: what a mask hides at the end changes nothing before it.
 */
#include "../attention.h"
#include "../expand.h"
#include <float.h>
#include <math.h>

/* The largest integers: four times (64 + 64) * 63 and two times 181 * 90 are below 2^15. */
enum { QUERY = 64, KEY = 63, VALUE = 90 };

/* Scores of keys behind their query become -inf: key j is seen when j <= i + t - s. */
static ml_value *
hide_later_keys(ml_builder *b, ml_value *scores)
{
	ml_dims *dims = b->m->dims;

	if (!scores)
		return NULL;
	ml_dim s = scores->type.dim[2], t = scores->type.dim[3], one = ml_dim_int(dims, 1);
	ml_value *i = ml_build_iota(b, (ml_dim[]){s, one}, 2, 0, ML_s64);
	ml_value *j = ml_build_iota(b, (ml_dim[]){one, t}, 2, 1, ML_s64);
	ml_value *last = ml_op2(b, ML_OP_add, i, ml_build_dim(b, ml_dim_sub(dims, t, s)));
	ml_value *none = ml_build_f64(b, scores->type.dtype, -INFINITY);

	return ml_op3(b, ML_OP_select, ml_op2(b, ML_OP_le, j, last), scores, none);
}

/* x[b,h,..,..] . y[b,g,..,..] over x's last and y's `contract` axis, g heads of y serving h. */
static ml_value *
per_head(ml_builder *b, ml_value *x, ml_value *y, int64_t contract)
{
	static const int64_t batch[] = {0, 1};
	int64_t three = 3, four = 4;
	ml_dim split[5], joined[4];

	if (!x)
		return NULL;
	if (x->type.dim[1] == y->type.dim[1])
		return ml_build_dot(b, x, y, batch, batch, 2, &three, &contract, 1);
	for (int i = 0; i < 4; i++)
		joined[i] = split[i + (i > 0)] = x->type.dim[i];
	split[1] = y->type.dim[1];
	split[2] = ml_dim_floordiv(b->m->dims, x->type.dim[1], y->type.dim[1]);
	joined[3] = y->type.dim[contract == 3 ? 2 : 3];
	x = ml_build_reshape(b, x, split, 5);
	x = ml_build_dot(b, x, y, batch, batch, 2, &four, &contract, 1);
	return ml_build_reshape(b, x, joined, 4);
}

/* Scores as they go into the softmax. */
static ml_value *
masked(ml_builder *b, const ml_node *n, ml_value *scores, ml_value *const *in)
{
	if (n->nin > 3)
		scores = ml_op2(b, ML_OP_add, scores, in[3]);
	return ML_A(n, attention, causal).i64 ? hide_later_keys(b, scores) : scores;
}

static ml_value *
in_floats(ml_builder *b, const ml_node *n, ml_value *const *in)
{
	ml_value *scores = per_head(b, in[0], in[1], 3);

	scores = ml_op_number(b, ML_OP_mul, scores, ML_A(n, attention, scale).f64);
	return per_head(b, ml_softmax_of(b, masked(b, n, scores, in), 3), in[2], 2);
}

/* ---- on integers ---- */

/* Sizes: b batches, g heads of keys with r heads of queries each, s queries, blocks of keys. */
typedef struct sizes {
	ml_dim b, g, r, s, t, d, e;
	ml_dim blocks, keys; /* blocks * keys >= t */
} sizes;

static sizes
sizes_of(ml_builder *b, ml_value *const *in)
{
	ml_dims *dims = b->m->dims;
	const ml_dim *q = in[0]->type.dim, *v = in[2]->type.dim;
	sizes z = {q[0], v[1], ml_dim_floordiv(dims, q[1], v[1]), q[2], v[2], q[3], v[3],
		   NULL, NULL};
	int64_t t;

	z.keys = ml_dim_int(dims, ML_ATTENTION_KEYS);
	if (ml_dim_is_int(z.t, &t) && t <= ML_ATTENTION_KEYS)
		z.keys = z.t;
	z.blocks = z.keys == z.t ? ml_dim_int(dims, 1) : ml_dim_ceildiv(dims, z.t, z.keys);
	return z;
}

/* The largest magnitude of each row of the last axis; rows as integers within +-most, moved by
 * `offset`. */
static void
integer_rows(ml_builder *b, ml_value *x, int most, int offset, ml_dtype t, ml_attention_rows *rows)
{
	int64_t last = x ? x->type.rank - 1 : 0;
	ml_value *q;

	rows->magnitude = ml_build_reduce(b, ML_OP_reduce_max, ml_op1(b, ML_OP_abs, x), &last, 1);
	rows->top = ml_op_number(b, ML_OP_max, rows->magnitude, 1e-20);
	q = ml_op2(b, ML_OP_div, ml_build_f64(b, ML_f32, most), rows->top);
	q = ml_op1(b, ML_OP_round, ml_op2(b, ML_OP_mul, x, q));
	if (offset)
		q = ml_op_number(b, ML_OP_add, q, offset);
	rows->integers = ml_build_cast(b, q, t);
}

/* One number per key, [b, g, t, 1], beside scores [b, g, r, s, t]. */
static ml_value *
beside_scores(ml_builder *b, const sizes *z, ml_value *per_key)
{
	ml_dim one = ml_dim_int(b->m->dims, 1), shape[] = {z->b, z->g, one, one, z->t};

	return per_key ? ml_build_reshape(b, per_key, shape, 5) : NULL;
}

/* Keys along the last axis of x, or along the one before it, as blocks of keys. */
static ml_value *
in_blocks(ml_builder *b, const sizes *z, ml_value *x, int axis, double none)
{
	ml_dim zero = ml_dim_int(b->m->dims, 0), low[ML_MAX_RANK], high[ML_MAX_RANK];
	ml_dim whole = ml_dim_mul(b->m->dims, z->blocks, z->keys), shape[ML_MAX_RANK];
	int64_t interior[ML_MAX_RANK] = {0};

	if (!x)
		return NULL;
	int rank = x->type.rank;
	for (int i = 0; i < rank; i++) {
		low[i] = high[i] = zero;
		shape[i + (i > axis)] = x->type.dim[i];
	}
	high[axis] = ml_dim_sub(b->m->dims, whole, z->t);
	shape[axis] = z->blocks;
	shape[axis + 1] = z->keys;
	if (z->keys != z->t)
		x = ml_build_pad(b, x, ml_build_f64(b, x->type.dtype, none), low, high, interior);
	return x ? ml_build_reshape(b, x, shape, rank + 1) : NULL;
}

/* What the softmax is taken of, [b, g, r, s, t]: scores, with the logarithms of the values'
 * scales. */
static ml_value *
integer_scores(ml_builder *b, const ml_node *n, const sizes *z, ml_value *const *in,
	       ml_attention_parts *p)
{
	static const int64_t batch[] = {0, 1}, last = 3, four = 4;
	ml_dim grouped[] = {z->b, z->g, z->r, z->s, z->d},
	       scores[] = {z->b, z->g, z->r, z->s, z->t};
	ml_value *x;

	integer_rows(b, ml_build_reshape(b, in[0], grouped, 5), QUERY, QUERY, ML_u8, &p->q);
	integer_rows(b, in[1], KEY, 0, ML_s8, &p->k);
	p->k_total = ml_build_reduce(b, ML_OP_reduce_sum, ml_build_cast(b, p->k.integers, ML_s32),
				     &last, 1);
	p->k_sum = ml_op_number(b, ML_OP_mul, p->k_total, QUERY);
	p->products =
		ml_build_dot(b, p->q.integers, p->k.integers, batch, batch, 2, &four, &last, 1);
	p->q_scale =
		ml_op_number(b, ML_OP_mul, p->q.top, ML_A(n, attention, scale).f64 / (QUERY * KEY));
	x = ml_op2(b, ML_OP_sub, p->products, beside_scores(b, z, p->k_sum));
	x = ml_build_cast(b, x, ML_f32);
	x = ml_op2(b, ML_OP_mul, x, beside_scores(b, z, p->k.top));
	x = ml_op2(b, ML_OP_mul, x, p->q_scale);
	ml_dim heads[] = {z->b, in[0]->type.dim[1], z->s, z->t};
	p->scores = masked(b, n, ml_build_reshape(b, x, heads, 4), in);
	if (p->scores && ML_A(n, attention, causal).i64)
		p->seen = p->scores->def;
	return ml_op2(b, ML_OP_add, ml_build_reshape(b, p->scores, scores, 5),
		      beside_scores(b, z, p->v_log));
}

/* Sums of the blocks, [b, g, blocks, r, s, ..], times their weights. */
static ml_value *
sum_of_blocks(ml_builder *b, ml_value *x, ml_value *weight)
{
	int64_t blocks = 2;

	return ml_build_reduce(b, ML_OP_reduce_sum, ml_op2(b, ML_OP_mul, x, weight), &blocks, 1);
}

/* Probabilities of all blocks as sums of values, [b, g, blocks, r, s, e], and what they are
 * divided by, [b, g, r, s, blocks, 1]. */
static ml_value *
sums_in_blocks(ml_builder *b, const sizes *z, ml_value *e, const ml_attention_parts *p,
	       ml_value **divisor)
{
	static const int64_t e_batch[] = {0, 1, 4}, v_batch[] = {0, 1, 2}, five = 5, three = 3;
	ml_value *v = in_blocks(b, z, p->v.integers, 2, 0);
	ml_value *by = in_blocks(b, z, beside_scores(b, z, p->v_by), 4, 0);
	ml_value *q = ml_op1(b, ML_OP_round, ml_op_number(b, ML_OP_mul, e, ML_ATTENTION_CERTAIN));

	*divisor = ml_build_reduce(b, ML_OP_reduce_sum, ml_op2(b, ML_OP_mul, e, by), &five, 1);
	*divisor = ml_op_number(b, ML_OP_mul, *divisor, ML_ATTENTION_CERTAIN);
	q = ml_build_cast(b, q, ML_u8);
	return ml_build_cast(b, ml_build_dot(b, q, v, e_batch, v_batch, 3, &five, &three, 1),
			     ML_f32);
}

ml_value *
ml_attention_on_integers(ml_builder *b, const ml_node *n, ml_value *const *in,
			 ml_attention_parts *p)
{
	static const int64_t by_block[] = {0, 1, 4, 2, 3, 5}, five = 5, four = 4;
	sizes z = sizes_of(b, in);
	ml_value *x, *top, *v_scale, *weight, *sums, *divisor;

	*p = (ml_attention_parts){.seen = NULL};
	integer_rows(b, in[2], VALUE, 0, ML_s8, &p->v);
	v_scale = ml_op_number(b, ML_OP_mul, p->v.top, 1.0 / VALUE);
	p->v_log = ml_op1(b, ML_OP_log, v_scale);
	p->v_by = ml_op2(b, ML_OP_div, ml_build_f64(b, ML_f32, 1), v_scale);
	x = in_blocks(b, &z, integer_scores(b, n, &z, in, p), 4, -INFINITY);
	top = ml_build_reduce(b, ML_OP_reduce_max, x, &five, 1);
	top = ml_op_number(b, ML_OP_max, top, -FLT_MAX); /* where nothing is seen */
	x = ml_op1(b, ML_OP_exp, ml_op2(b, ML_OP_sub, x, top));
	sums = sums_in_blocks(b, &z, x, p, &divisor);
	weight = ml_op2(b, ML_OP_sub, top, ml_build_reduce(b, ML_OP_reduce_max, top, &four, 1));
	weight = ml_build_transpose(b, ml_op1(b, ML_OP_exp, weight), by_block);
	divisor = sum_of_blocks(b, ml_build_transpose(b, divisor, by_block), weight);
	p->out = ml_op2(b, ML_OP_div, sum_of_blocks(b, sums, weight), divisor);
	return ml_build_reshape(b, p->out, n->out[0].type.dim, 4);
}

void
ml_body_attention(ml_builder *b, const ml_node *n, ml_value *const *in, ml_value **out)
{
	ml_attention_parts p;

	out[0] = ML_A(n, attention, int8).i64 ? ml_attention_on_integers(b, n, in, &p)
					      : in_floats(b, n, in);
}

bool
ml_is_for_attention(const ml_use *use)
{
	const ml_node *n = use->user;

	if (n->op == ML_OP_attention)
		return use == &n->in[1] || use == &n->in[2];
	if (n->op != ML_OP_reshape && n->op != ML_OP_transpose && n->op != ML_OP_broadcast)
		return false;
	for (const ml_use *u = n->out[0].uses; u; u = u->next)
		if (!ml_is_for_attention(u))
			return false;
	return n->out[0].uses != NULL;
}
