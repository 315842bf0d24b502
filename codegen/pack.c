/* pack.c -- brings B into panels of 16 columns: constants on the host, others by emitted loops. */
#include "contract.h"
#include "tile.h"
#include <string.h>

enum {
	GROUP = 4,      /* consecutive k that an s8 panel keeps together; the most of all forms */
	FEW_PANELS = 8, /* their code side by side */
};

void
ml_pack_f32(float *dst, const void *src, int64_t k, int64_t n, int64_t k_stride, int64_t n_stride)
{
	const char *bytes = src;

	for (int64_t panel = 0; panel < n; panel += ML_PANEL)
		for (int64_t i = 0; i < k; i++)
			for (int64_t j = panel; j < panel + ML_PANEL; j++, dst++) {
				int64_t at = (i * k_stride + j * n_stride) * (int64_t)sizeof *dst;
				*dst = 0;
				if (j < n)
					memcpy(dst, bytes + at, sizeof *dst);
			}
}

void
ml_pack_s8(int8_t *dst, const int8_t *src, int64_t k, int64_t n, int64_t k_stride, int64_t n_stride)
{
	for (int64_t panel = 0; panel < n; panel += ML_PANEL)
		for (int64_t group = 0; group < k; group += GROUP)
			for (int64_t j = panel; j < panel + ML_PANEL; j++)
				for (int64_t i = group; i < group + GROUP; i++)
					*dst++ = i < k && j < n ? src[i * k_stride + j * n_stride]
								: 0;
}

void
ml_pack_bf16(uint16_t *dst, const void *src, int64_t k, int64_t n, int64_t k_stride,
	     int64_t n_stride)
{
	const char *bytes = src;

	for (int64_t panel = 0; panel < n; panel += ML_PANEL)
		for (int64_t pair = 0; pair < k; pair += 2)
			for (int64_t j = panel; j < panel + ML_PANEL; j++)
				for (int64_t i = pair; i < pair + 2; i++, dst++) {
					int64_t at = i * k_stride + j * n_stride;
					*dst = 0;
					if (i < k && j < n)
						memcpy(dst, bytes + at * (int64_t)sizeof *dst,
						       sizeof *dst);
				}
}

/* --- emitted ---------------------------------------------------------------------------------- */

/* Lane i of the result is lane pick(i) of a and b taken as one vector. */
static ml_v
shuffle(ml_emit *e, ml_v a, ml_v b, int lanes, int (*pick)(int lane, int argument), int argument)
{
	ml_v index[8 * ML_LANES];

	for (int i = 0; i < lanes; i++)
		index[i] = ml_i32(e, pick(i, argument));
	return LLVMBuildShuffleVector(e->b, a, b, LLVMConstVector(index, (unsigned)lanes), "");
}

static int
pick_same(int lane, int argument)
{
	return lane + argument;
}

/* Lane pairs 0, n, 1, n + 1, ...: n = half the result's lanes. */
static int
pick_interleaved(int lane, int half)
{
	return lane / 2 + (lane % 2) * half;
}

/* For one step of a transposition with blocks of `size` lanes. */
static int
pick_low(int lane, int size)
{
	return lane & size ? ML_LANES + lane - size : lane;
}

static int
pick_high(int lane, int size)
{
	return lane & size ? ML_LANES + lane : lane + size;
}

void
ml_transpose_lanes(ml_emit *e, ml_v v[ML_LANES])
{
	for (int size = 1; size < ML_LANES; size *= 2)
		for (int i = 0; i < ML_LANES; i++) {
			if (i & size)
				continue;
			ml_v a = v[i], b = v[i + size];
			v[i] = shuffle(e, a, b, ML_LANES, pick_low, size);
			v[i + size] = shuffle(e, a, b, ML_LANES, pick_high, size);
		}
}

/* min(16, end - at), as NULL where that is known to be 16. */
static ml_v
lanes_left(ml_emit *e, ml_v end, ml_v at)
{
	return ml_min_s(e, ml_sub(e, end, at), ml_i64(e, ML_LANES));
}

/* A group of k from each of 16 columns, from as many vectors along n: 64 bytes. */
static ml_v
interleave(ml_emit *e, ml_v v[GROUP], int group)
{
	if (group == 2)
		return shuffle(e, v[0], v[1], 2 * ML_LANES, pick_interleaved, ML_LANES);
	ml_v even = shuffle(e, v[0], v[2], 2 * ML_LANES, pick_interleaved, ML_LANES);
	ml_v odd = shuffle(e, v[1], v[3], 2 * ML_LANES, pick_interleaved, ML_LANES);

	return shuffle(e, even, odd, 4 * ML_LANES, pick_interleaved, 2 * ML_LANES);
}

/* Panels from vectors along n.  Groups take their rows of k at a time, repeating none: those beyond
 * k are zero. */
static void
pack_along_n(ml_emit *e, const ml_pack *p, ml_v dst, ml_v column, ml_v count)
{
	int step = ml_form_get(p->form)->group;
	LLVMTypeRef element = ml_form_element(e, p->form);
	ml_v one = ml_i64(e, 1), last = ml_sub(e, p->k, one);
	ml_loop l = ml_loop_begin(e, ml_i64(e, 0), p->k, ml_i64(e, step), NULL, 0, "k");
	ml_v at = ml_gep(e, element, dst, ml_mul(e, l.i, ml_i64(e, ML_PANEL)));

	ml_v v[GROUP];

	for (int i = 0; i < step; i++) {
		ml_v k = ml_add(e, l.i, ml_i64(e, i));
		v[i] = p->load(p->user, e, i ? ml_min_s(e, k, last) : k, column, count);
		ml_v valid = LLVMBuildICmp(e->b, LLVMIntSLE, k, last, "");
		v[i] = i ? LLVMBuildSelect(e->b, valid, v[i], LLVMConstNull(ml_vec_type(element)),
					   "")
			 : v[i];
	}
	ml_store(e, interleave(e, v, step), at, 4);
	ml_loop_end(e, &l, NULL);
}

/* 16 columns, each a vector of 16 k; columns from `count` (NULL = 16) up are zero. */
static void
load_columns(ml_emit *e, const ml_pack *p, ml_v k, ml_v column, ml_v count, ml_v ks,
	     ml_v v[ML_LANES])
{
	ml_v last = count ? ml_sub(e, count, ml_i64(e, 1)) : NULL;

	for (int j = 0; j < ML_LANES; j++) {
		ml_v at = ml_i64(e, j);
		ml_v c = ml_add(e, column, count && j ? ml_min_s(e, at, last) : at);
		v[j] = p->load(p->user, e, k, c, ks);
		if (!count || !j)
			continue;
		ml_v exists = LLVMBuildICmp(e->b, LLVMIntSLT, at, count, "");
		v[j] = LLVMBuildSelect(e->b, exists, v[j], LLVMConstNull(LLVMTypeOf(v[j])), "");
	}
}

/* A word of k of 16 columns per result, from vectors along k that have so many words. */
static void
gather_groups(ml_emit *e, ml_v v[ML_LANES], int count, ml_v *out)
{
	LLVMTypeRef words = LLVMVectorType(e->i32, (unsigned)count);
	ml_v t[ML_LANES];

	/* Columns side by side in a vector, then one 16 x 16 transposition less its first half. */
	for (int j = 0; j < ML_LANES; j++)
		t[j] = LLVMBuildBitCast(e->b, v[j], words, "");
	for (int width = count, n = ML_LANES; n > 1; n /= 2, width *= 2)
		for (int j = 0; j < n / 2; j++) {
			/* interleave columns j and j + n / 2 word by word */
			ml_v a = t[j], b = t[j + n / 2];
			t[j] = shuffle(e, a, b, 2 * width, pick_interleaved, width);
		}
	/* t[0] holds [group][column] */
	for (int g = 0; g < count; g++)
		out[g] = shuffle(e, t[0], LLVMGetPoison(LLVMTypeOf(t[0])), ML_LANES, pick_same,
				 g * ML_LANES);
}

static void
store_rows(ml_emit *e, LLVMTypeRef row_type, ml_v dst, ml_v *v, int n, ml_v valid)
{
	ml_v all = ml_i64(e, n);
	ml_if whole = ml_if_begin(e, LLVMBuildICmp(e->b, LLVMIntSGE, valid, all, ""));

	for (int i = 0; i < n; i++)
		ml_store(e, v[i], ml_gep(e, row_type, dst, ml_i64(e, i)), 4);
	ml_if_else(e, &whole);
	ml_v slot = ml_alloca(e, LLVMArrayType2(row_type, (uint64_t)n), 64);
	for (int i = 0; i < n; i++)
		ml_store(e, v[i], ml_gep(e, row_type, slot, ml_i64(e, i)), 64);
	ml_loop l = ml_loop_begin(e, ml_i64(e, 0), valid, ml_i64(e, 1), NULL, 0, "row");
	ml_store(e, ml_load(e, row_type, ml_gep(e, row_type, slot, l.i), 64),
		 ml_gep(e, row_type, dst, l.i), 4);
	ml_loop_end(e, &l, NULL);
	ml_if_end(e, &whole);
}

/* Panels from vectors along k: blocks of 16 x 16 turned in registers. */
static void
turn_blocks(ml_emit *e, const ml_pack *p, ml_v dst, ml_v column, ml_v columns)
{
	int group = ml_form_get(p->form)->group, words = ML_LANES / group;
	ml_loop l = ml_loop_begin(e, ml_i64(e, 0), p->k, ml_i64(e, ML_LANES), NULL, 0, "k");
	ml_v at = ml_gep(e, ml_form_element(e, p->form), dst, ml_mul(e, l.i, ml_i64(e, ML_PANEL)));
	ml_v left = ml_sub(e, p->k, l.i);
	ml_v v[ML_LANES], groups[ML_LANES];

	load_columns(e, p, l.i, column, columns, lanes_left(e, p->k, l.i), v);
	if (group == 1) {
		ml_transpose_lanes(e, v);
		store_rows(e, ml_vec_type(e->f32), at, v, ML_LANES, left);
	} else {
		gather_groups(e, v, words, groups);
		ml_v left_groups = LLVMBuildSDiv(e->b, ml_add(e, left, ml_i64(e, group - 1)),
						 ml_i64(e, group), "");
		store_rows(e, ml_vec_type(e->i32), at, groups, words, left_groups);
	}
	ml_loop_end(e, &l, NULL);
}

/* Nearly all panels are whole: these need not ask for each column whether it exists. */
static void
pack_along_k(ml_emit *e, const ml_pack *p, ml_v dst, ml_v column, ml_v count)
{
	if (!count) {
		turn_blocks(e, p, dst, column, NULL);
		return;
	}
	ml_v all = LLVMBuildICmp(e->b, LLVMIntSGE, count, ml_i64(e, ML_PANEL), "");
	ml_if whole = ml_if_begin(e, all);
	turn_blocks(e, p, dst, column, NULL);
	ml_if_else(e, &whole);
	turn_blocks(e, p, dst, column, count);
	ml_if_end(e, &whole);
}

/* A row of k of all panels after the other: memory is read as it lies. */
static void
pack_rows(ml_emit *e, const ml_pack *p, ml_v stride)
{
	ml_v one = ml_i64(e, 1), lanes = ml_i64(e, ML_PANEL);
	LLVMTypeRef element = ml_form_element(e, p->form);
	ml_loop k = ml_loop_begin(e, ml_i64(e, 0), p->k, one, NULL, 0, "k");
	ml_v row = ml_gep(e, element, p->dst, ml_mul(e, k.i, lanes));
	int64_t n, begin = 0, end = FEW_PANELS + 1;
	bool whole = ml_const_i64(p->n, &n) && n % ML_PANEL == 0;
	bool few = whole && ml_const_i64(p->panel_begin, &begin) &&
		   ml_const_i64(p->panel_end, &end) && end - begin <= FEW_PANELS;
	ml_loop l = {0};

	if (p->ahead)
		p->ahead(p->user, e, k.i);
	if (!few)
		l = ml_loop_begin(e, p->panel_begin, p->panel_end, one, NULL, 0, "panel");
	for (int64_t i = few ? begin : 0; i < (few ? end : 1); i++) {
		ml_v panel = few ? ml_i64(e, i) : l.i, column = ml_mul(e, panel, lanes);
		ml_v count = whole ? NULL : lanes_left(e, p->n, column);
		ml_store(e, p->load(p->user, e, k.i, column, count),
			 ml_gep(e, element, row, ml_mul(e, panel, stride)), 4);
	}
	if (!few)
		ml_loop_end(e, &l, NULL);
	ml_loop_end(e, &k, NULL);
}

void
ml_emit_turned(ml_emit *e, const ml_pack *p, ml_v k, ml_v column, ml_v count, ml_v v[ML_LANES])
{
	load_columns(e, p, k, column, count, NULL, v);
	ml_transpose_lanes(e, v);
}

void
ml_emit_pack(ml_emit *e, const ml_pack *p)
{
	int group = ml_form_get(p->form)->group;
	ml_v lanes = ml_i64(e, ML_PANEL), stride = p->k;

	if (group > 1)
		stride = LLVMBuildAnd(e->b, ml_add(e, p->k, ml_i64(e, group - 1)),
				      ml_i64(e, -group), "");
	stride = ml_mul(e, stride, lanes);
	if (group == 1 && !p->along_k) {
		pack_rows(e, p, stride);
		return;
	}
	ml_loop l = ml_loop_begin(e, p->panel_begin, p->panel_end, ml_i64(e, 1), NULL, 0, "panel");
	ml_v dst = ml_gep(e, ml_form_element(e, p->form), p->dst, ml_mul(e, l.i, stride));
	ml_v column = ml_mul(e, l.i, lanes), count = lanes_left(e, p->n, column);
	int64_t n;

	if (ml_const_i64(p->n, &n) && n % ML_PANEL == 0)
		count = NULL;
	if (p->ahead && p->along_k)
		p->ahead(p->user, e, column);
	if (p->along_k)
		pack_along_k(e, p, dst, column, count);
	else
		pack_along_n(e, p, dst, column, count);
	if (p->form == ML_CONTRACT_U8S8 && ml_tile_folds(e->target)) {
		if (p->plain)
			ml_emit_pack_in_order(e, p->dst, l.i, p->k, p->n, p->plain);
		else
			ml_emit_pack_singles(e, p->dst, l.i, p->k, p->n);
	}
	ml_loop_end(e, &l, NULL);
}
