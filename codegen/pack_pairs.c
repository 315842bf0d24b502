/* pack_pairs.c -- the table behind u8s8 panels: what CPUs without a dot instruction need to know.
 *
 * Such CPUs add products in 16 bits (tile_u8s8_fold.c).  The table is, for all panels:
 *   s32 [panels][16]  of each column, the sum over k of 128 w + max(-w, 0) in groups that are
 *                     not plain
 *   u8  [panels][...] for every chunk of up to 256 whole groups of four k: the numbers of plain
 *                     and of other pairs, then the chunk's groups, those of pairs first
 * Two groups are a plain pair when in each of their 2 x 16 places (column, half of the group) of
 * the four weights those above zero sum to 128 at most, and those below to -128 at least: then
 * their products with u8 are within 16 bits.  They are a pair when in no place the four magnitudes
 * sum to more than 256: then the folded products are.  Since any two may be paired, nearly every
 * group finds a partner.
 */
#include "contract.h"
#include <string.h>

enum {
	PLACES = 2 * ML_PANEL,
	FITS = 256,       /* magnitudes of one place; times -128..127 it is within 16 bits */
	PLAIN_FITS = 128, /* weights of one sign; times 0..255 it is */
	HEAD = 2,         /* bytes before a chunk's groups */
	TRIES = 32,       /* of a group with others, for a plain pair */
	LEAST_PLAIN = 8,  /* pairs beside others: a loop for fewer costs more than it saves */
};

static int64_t
round_up(int64_t n, int64_t to)
{
	return (n + to - 1) / to * to;
}

/* Of one panel. */
static int64_t
order_bytes(int64_t k)
{
	int64_t groups = k / 4;

	return groups + HEAD * ((groups + ML_FOLD_CHUNK - 1) / ML_FOLD_CHUNK);
}

ml_v
ml_order_bytes(ml_emit *e, ml_v k)
{
	ml_v groups = LLVMBuildLShr(e->b, k, ml_i64(e, 2), "");
	ml_v chunks = ml_add(e, groups, ml_i64(e, ML_FOLD_CHUNK - 1));

	chunks = LLVMBuildUDiv(e->b, chunks, ml_i64(e, ML_FOLD_CHUNK), "");
	return ml_add(e, groups, ml_mul(e, chunks, ml_i64(e, HEAD)));
}

/* ---- sizes ---- */

int64_t
ml_pack_bytes(ml_contract_form form, int64_t k, int64_t n)
{
	int64_t panels = round_up(n, ML_PANEL) / ML_PANEL;

	if (form == ML_CONTRACT_F32)
		return panels * ML_PANEL * k * (int64_t)sizeof(float);
	if (form == ML_CONTRACT_BF16)
		return panels * ML_PANEL * round_up(k, 2) * (int64_t)sizeof(uint16_t);
	int64_t corrections = ML_PANEL * (int64_t)sizeof(int32_t);
	return round_up(panels * (ML_PANEL * round_up(k, 4) + corrections + order_bytes(k)), 64);
}

ml_dim
ml_pack_dim(ml_dims *dims, ml_contract_form form, ml_dim k, ml_dim n)
{
	ml_dim lanes = ml_dim_int(dims, ML_PANEL), four = ml_dim_int(dims, 4);
	ml_dim line = ml_dim_int(dims, 64), panels = ml_dim_ceildiv(dims, n, lanes);

	if (form == ML_CONTRACT_F32)
		return ml_dim_mul(dims, panels, ml_dim_mul(dims, k, line));
	if (form == ML_CONTRACT_BF16)
		return ml_dim_mul(
			dims, panels,
			ml_dim_mul(dims, ml_dim_ceildiv(dims, k, ml_dim_int(dims, 2)), line));
	ml_dim groups = ml_dim_floordiv(dims, k, four);
	ml_dim chunks = ml_dim_ceildiv(dims, groups, ml_dim_int(dims, ML_FOLD_CHUNK));
	chunks = ml_dim_mul(dims, chunks, ml_dim_int(dims, HEAD));
	ml_dim lines = ml_dim_add(dims, ml_dim_ceildiv(dims, k, four), ml_dim_int(dims, 1));
	ml_dim bytes =
		ml_dim_add(dims, ml_dim_mul(dims, lines, line), ml_dim_add(dims, groups, chunks));
	bytes = ml_dim_ceildiv(dims, ml_dim_mul(dims, panels, bytes), line);
	return ml_dim_mul(dims, bytes, line);
}

/* ---- on the host ---- */

typedef struct group {
	uint8_t sign[2 * PLACES]; /* of each place, the sums of one sign: above zero, and below */
	int16_t all[PLACES];      /* the sums of magnitudes */
	int16_t top;              /* of all places, the largest of these */
	bool taken;
} group;

static int
above_zero(int w)
{
	return w > 0 ? w : 0;
}

/* 256, of twice -128, counts as 255: it is as much too large for a plain pair. */
static uint8_t
as_byte(int sum)
{
	return (uint8_t)(sum < UINT8_MAX ? sum : UINT8_MAX);
}

static void
sum_group(group *g, const int8_t *w)
{
	*g = (group){0};
	for (int place = 0; place < PLACES; place++) {
		int a = w[2 * place], b = w[2 * place + 1];
		int up = above_zero(a) + above_zero(b), down = above_zero(-a) + above_zero(-b);
		g->sign[place] = as_byte(up);
		g->sign[PLACES + place] = as_byte(down);
		g->all[place] = (int16_t)(up + down);
		g->top = g->all[place] > g->top ? g->all[place] : g->top;
	}
}

/* The largest is found in 16 bits, as many places at once as registers have room for. */
static bool
fit(const group *a, const group *b)
{
	int16_t most = 0;

	for (int place = 0; place < PLACES; place++) {
		int16_t sum = (int16_t)(a->all[place] + b->all[place]);
		most = sum > most ? sum : most;
	}
	return most <= FITS;
}

/* In 8 bits, twice as many: half of a sum, rounded up, is within them, and one instruction. */
static bool
fit_plain(const group *a, const group *b)
{
	uint8_t most = 0;

	for (int place = 0; place < 2 * PLACES; place++) {
		uint8_t half = (uint8_t)((a->sign[place] + b->sign[place] + 1) >> 1);
		most = half > most ? half : most;
	}
	return most <= PLAIN_FITS / 2;
}

/* Lists the chunk's groups, heaviest first, so that these still have a choice of partners. */
static void
by_weight(const group *g, int n, uint8_t *list)
{
	int start[FITS + 2] = {0};

	for (int i = 0; i < n; i++)
		start[FITS - g[i].top + 1]++;
	for (int i = 0; i < FITS; i++)
		start[i + 1] += start[i];
	for (int i = 0; i < n; i++)
		list[start[FITS - g[i].top]++] = (uint8_t)i;
}

/* Writes a pair if it is one; returns how many it wrote. */
static int
take_pair(group *g, int i, int j, bool (*fits)(const group *, const group *), uint8_t **to)
{
	if (g[i].taken || g[j].taken || !fits(&g[i], &g[j]))
		return 0;
	g[i].taken = g[j].taken = true;
	*(*to)++ = (uint8_t)i;
	*(*to)++ = (uint8_t)j;
	return 1;
}

/* Neighbours, as convolutions are quantized (passes/quantize/channels.c); then the heavy with the
 * light, not trying for long: that would be most of the time a compilation takes. */
static int
take_plain(group *g, const uint8_t *list, int n, uint8_t **to)
{
	int pairs = 0;

	for (int i = 0; i + 1 < n; i += 2)
		pairs += take_pair(g, i, i + 1, fit_plain, to);
	for (int i = 0; i < n; i++)
		for (int j = n - 1, tries = 0; j > i && tries < TRIES && !g[list[i]].taken; j--) {
			tries += !g[list[j]].taken;
			pairs += take_pair(g, list[i], list[j], fit_plain, to);
		}
	return pairs;
}

static int
take_folded(group *g, const uint8_t *list, int n, uint8_t **to)
{
	int pairs = 0;

	for (int i = 0; i < n; i++)
		for (int j = i + 1; j < n && !g[list[i]].taken; j++)
			pairs += take_pair(g, list[i], list[j], fit, to);
	return pairs;
}

/* Of a group of four k; the bytes are summed one after another, as vectors of columns. */
static void
add_corrections(uint32_t sum[ML_PANEL], const int8_t *w)
{
	int16_t all[4 * ML_PANEL];

	for (int i = 0; i < 4 * ML_PANEL; i++)
		all[i] = (int16_t)(128 * w[i] + (w[i] < 0 ? -w[i] : 0));
	for (int column = 0; column < ML_PANEL; column++) {
		const int16_t *four = all + 4 * (ptrdiff_t)column;
		sum[column] += (uint32_t)(four[0] + four[1] + four[2] + four[3]);
	}
}

/* Writes counts and order of one chunk. */
static uint8_t *
pair_groups(uint8_t *to, const int8_t *w, int n, uint32_t *sum)
{
	group g[ML_FOLD_CHUNK];
	uint8_t list[ML_FOLD_CHUNK], *head = to;

	to += HEAD;
	for (int i = 0; i < n; i++)
		sum_group(&g[i], w + (ptrdiff_t)i * 4 * ML_PANEL);
	by_weight(g, n, list);
	head[0] = (uint8_t)take_plain(g, list, n, &to);
	if (head[0] < LEAST_PLAIN && 2 * head[0] < n) {
		for (int i = 0; i < n; i++)
			g[i].taken = false;
		head[0] = 0;
		to = head + HEAD;
	}
	const uint8_t *folded = to;
	head[1] = (uint8_t)take_folded(g, list, n, &to);
	for (int i = 0; i < n; i++)
		if (!g[i].taken)
			*to++ = (uint8_t)i;
	for (; folded < to; folded++)
		add_corrections(sum, w + (ptrdiff_t)*folded * 4 * ML_PANEL);
	bool in_order = 2 * head[0] == n;
	for (int i = 0; i < n && in_order; i++)
		in_order = head[HEAD + i] == i;
	if (in_order)
		head[1] = ML_FOLD_IN_ORDER;
	return to;
}

void
ml_pack_pairs(int8_t *panels, int64_t k, int64_t n)
{
	int64_t count = round_up(n, ML_PANEL) / ML_PANEL, bytes = ML_PANEL * round_up(k, 4);
	int8_t *sums = panels + count * bytes;
	uint8_t *order = (uint8_t *)sums + count * ML_PANEL * (int64_t)sizeof(int32_t);
	uint8_t *end = (uint8_t *)panels + ml_pack_bytes(ML_CONTRACT_U8S8, k, n);

	for (int64_t p = 0; p < count; p++) {
		const int8_t *w = panels + p * bytes;
		uint32_t sum[ML_PANEL] = {0}; /* wraps around as the accumulators do */
		for (int64_t i = 0; i < k / 4; i += ML_FOLD_CHUNK) {
			int64_t left = k / 4 - i;
			left = left < ML_FOLD_CHUNK ? left : ML_FOLD_CHUNK;
			order = pair_groups(order, w + i * 4 * ML_PANEL, (int)left, sum);
		}
		if (k % 4) /* the last group is in no list, and folded */
			add_corrections(sum, w + k / 4 * 4 * ML_PANEL);
		memcpy(sums + p * (int64_t)sizeof sum, sum, sizeof sum);
	}
	memset(order, 0, (size_t)(end - order));
}

/* ---- emitted ---- */

/* 128 w + max(-w, 0) of the four bytes of every lane, added to sum. */
static ml_v
add_group(ml_emit *e, ml_v sum, ml_v words)
{
	LLVMTypeRef type = LLVMTypeOf(words);
	ml_v up = ml_splat(e, ml_i32(e, 24)), zero = LLVMConstNull(type);

	for (int i = 0; i < 4; i++) {
		ml_v shift = ml_splat(e, ml_i32(e, 24 - 8 * i));
		ml_v w = LLVMBuildAShr(e->b, LLVMBuildShl(e->b, words, shift, ""), up, "");
		ml_v minus = LLVMBuildSub(e->b, zero, w, "");
		minus = ml_intrinsic(e, "llvm.smax", &type, 1, (ml_v[]){minus, zero}, 2);
		w = LLVMBuildShl(e->b, w, ml_splat(e, ml_i32(e, 7)), "");
		sum = LLVMBuildAdd(e->b, sum, LLVMBuildAdd(e->b, w, minus, ""), "");
	}
	return sum;
}

/* Where the table has one panel's corrections and order, among those of n columns. */
static void
find_entry(ml_emit *e, ml_v panels, ml_v panel, ml_v k, ml_v n, ml_v *sums, ml_v *order)
{
	LLVMTypeRef type = ml_vec_type(e->i32);
	ml_v groups = LLVMBuildLShr(e->b, ml_add(e, k, ml_i64(e, 3)), ml_i64(e, 2), "");
	ml_v count =
		LLVMBuildUDiv(e->b, ml_add(e, n, ml_i64(e, ML_PANEL - 1)), ml_i64(e, ML_PANEL), "");
	ml_v table = ml_gep(e, type, panels, ml_mul(e, count, groups));

	*sums = ml_gep(e, type, table, panel);
	*order = ml_gep(e, e->i8, ml_gep(e, type, table, count),
			ml_mul(e, panel, ml_order_bytes(e, k)));
}

/* Weights that are known at run time only: no pairs, groups as they lie. */
void
ml_emit_pack_singles(ml_emit *e, ml_v panels, ml_v panel, ml_v k, ml_v n)
{
	LLVMTypeRef type = ml_vec_type(e->i32);
	ml_v zero = ml_i64(e, 0), one = ml_i64(e, 1), sum = LLVMConstNull(type), sums, order;
	ml_v groups = LLVMBuildLShr(e->b, ml_add(e, k, ml_i64(e, 3)), ml_i64(e, 2), "");
	ml_v from = ml_gep(e, type, panels, ml_mul(e, panel, groups));

	find_entry(e, panels, panel, k, n, &sums, &order);
	ml_loop l = ml_loop_begin(e, zero, groups, one, &sum, 1, "group");
	sum = add_group(e, l.carry[0], ml_load(e, type, ml_gep(e, type, from, l.i), 4));
	ml_loop_end(e, &l, &sum);
	ml_store(e, l.carry[0], sums, 4);
	ml_loop o = ml_loop_begin(e, zero, ml_order_bytes(e, k), one, NULL, 0, "order");
	ml_v at = LLVMBuildURem(e->b, o.i, ml_i64(e, ML_FOLD_CHUNK + HEAD), "");
	ml_v head = LLVMBuildICmp(e->b, LLVMIntULT, at, ml_i64(e, HEAD), "");
	ml_v group = LLVMBuildSelect(e->b, head, zero, ml_sub(e, at, ml_i64(e, HEAD)), "");
	ml_store(e, LLVMBuildTrunc(e->b, group, e->i8, ""), ml_gep(e, e->i8, order, o.i), 1);
	ml_loop_end(e, &o, NULL);
}

/* Of such a panel no more is read than where its pairs end, and the mark. */
void
ml_emit_pack_in_order(ml_emit *e, ml_v panels, ml_v panel, ml_v k, ml_v n, int plain)
{
	ml_v pairs = ml_i64(e, 0), sums, order;

	find_entry(e, panels, panel, k, n, &sums, &order);
	if (plain == 2)
		pairs = LLVMBuildLShr(e->b, k, ml_i64(e, 3), "");
	ml_store(e, LLVMBuildTrunc(e->b, pairs, e->i8, ""), order, 1);
	ml_store(e, LLVMConstInt(e->i8, ML_FOLD_IN_ORDER, 0), ml_gep(e, e->i8, order, ml_i64(e, 1)),
		 1);
}
