/* pack_pairs.c -- the table behind u8s8 panels: what CPUs without a dot instruction need to know.
 *
 * Such CPUs add products in 16 bits (tile_u8s8_fold.c).  The table is, for all panels:
 *   s32 [panels][16]  of each column, the sum over k of 128 w + max(-w, 0) in groups that are
 *                     not plain
 *   u8  [panels][...] for every chunk of up to 256 whole groups of four k: the numbers of plain
 *                     and of other pairs, then the chunk's groups, those of pairs first
 * and the same once more for registers of 8 columns, whose lists differ: [panels][2][...].  What
 * must hold in 8 columns does so far more often than what must in 16.
 *
 * Two groups are a plain pair when in each of their places (column, half of the group) of
 * the four weights those above zero sum to 128 at most, and those below to -128 at least: then
 * their products with u8 are within 16 bits.  They are a pair when in no place the four magnitudes
 * sum to more than 256: then the folded products are.  Since any two may be paired, nearly every
 * group finds a partner.  Where those that find none for a plain pair are plain by themselves, as
 * all are that passes/quantize/channels.c makes for convolutions, nothing is folded.
 */
#include "contract.h"
#include <string.h>

enum {
	PARTS = 2,               /* of a panel */
	PART = ML_PANEL / PARTS, /* columns */
	PLACES = 2 * PART,
	SUMS = ML_PANEL * sizeof(int32_t), /* bytes */
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

/* Of one list. */
static int64_t
order_bytes(int64_t k)
{
	int64_t groups = k / 4;

	return groups + HEAD * ((groups + ML_FOLD_CHUNK - 1) / ML_FOLD_CHUNK);
}

ml_v
ml_list_bytes(ml_emit *e, ml_v k)
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
	int64_t table = 2 * SUMS + (1 + PARTS) * order_bytes(k);
	return round_up(panels * (ML_PANEL * round_up(k, 4) + table), 64);
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
	ml_dim lines = ml_dim_add(dims, ml_dim_ceildiv(dims, k, four), ml_dim_int(dims, 2));
	ml_dim order =
		ml_dim_mul(dims, ml_dim_add(dims, groups, chunks), ml_dim_int(dims, 1 + PARTS));
	ml_dim bytes = ml_dim_add(dims, ml_dim_mul(dims, lines, line), order);
	bytes = ml_dim_ceildiv(dims, ml_dim_mul(dims, panels, bytes), line);
	return ml_dim_mul(dims, bytes, line);
}

/* ---- on the host ---- */

/* Of a group, the columns of a part. */
typedef struct part {
	uint8_t sign[2 * PLACES]; /* of each place, the sums of one sign: above zero, and below */
	int16_t all[PLACES];      /* the sums of magnitudes */
	int16_t top;              /* of all places, the largest of these */
} part;

/* A chunk's groups while a list is made of them. */
typedef struct listing {
	const part (*g)[PARTS]; /* of each group; what is compared begins with the first part */
	int parts, n;
	bool taken[ML_FOLD_CHUNK];
	uint8_t heavy[ML_FOLD_CHUNK]; /* not taken, heaviest first: these still have a choice */
	int left;                     /* of them */
	uint8_t *to;
} listing;

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
sum_part(part *g, const int8_t *w)
{
	*g = (part){0};
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
fit(const part *a, const part *b)
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
fit_plain(const part *a, const part *b)
{
	uint8_t most = 0;

	for (int place = 0; place < 2 * PLACES; place++) {
		uint8_t half = (uint8_t)((a->sign[place] + b->sign[place] + 1) >> 1);
		most = half > most ? half : most;
	}
	return most <= PLAIN_FITS / 2;
}

static int
top_of(const listing *l, int i)
{
	int top = 0;

	for (int p = 0; p < l->parts; p++)
		top = l->g[i][p].top > top ? l->g[i][p].top : top;
	return top;
}

/* What is not taken. */
static void
sort_by_weight(listing *l)
{
	int start[FITS + 2] = {0};

	l->left = 0;
	for (int i = 0; i < l->n; i++)
		if (!l->taken[i]) {
			start[FITS - top_of(l, i) + 1]++;
			l->left++;
		}
	for (int i = 0; i < FITS; i++)
		start[i + 1] += start[i];
	for (int i = 0; i < l->n; i++)
		if (!l->taken[i])
			l->heavy[start[FITS - top_of(l, i)]++] = (uint8_t)i;
}

static bool
is_pair(const listing *l, int i, int j, bool (*fits)(const part *, const part *))
{
	for (int p = 0; p < l->parts; p++)
		if (!fits(&l->g[i][p], &l->g[j][p]))
			return false;
	return true;
}

static void
take(listing *l, int i)
{
	l->taken[i] = true;
	*l->to++ = (uint8_t)i;
}

/* Pairs as convolutions are quantized (passes/quantize/channels.c); returns how many. */
static int
take_neighbours(listing *l)
{
	int pairs = 0;

	for (int i = 0; i + 1 < l->n; i += 2)
		if (is_pair(l, i, i + 1, fit_plain)) {
			take(l, i);
			take(l, i + 1);
			pairs++;
		}
	return pairs;
}

/* Of the heavy one at `i` the lightest, not trying for long: that would be most of the time a
 * compilation takes.  0: there is none. */
static int
plain_partner(const listing *l, int i)
{
	int least = l->left - TRIES > i + 1 ? l->left - TRIES : i + 1;

	for (int j = l->left - 1; j >= least; j--)
		if (is_pair(l, l->heavy[i], l->heavy[j], fit_plain))
			return j;
	return 0;
}

static int
partner(const listing *l, int i)
{
	for (int j = i + 1; j < l->left; j++)
		if (is_pair(l, l->heavy[i], l->heavy[j], fit))
			return j;
	return 0;
}

static void
drop_heavy(listing *l, int at)
{
	l->left--;
	memmove(l->heavy + at, l->heavy + at + 1, (size_t)(l->left - at));
}

static int
take_pairs(listing *l, int (*find)(const listing *, int i))
{
	int pairs = 0;

	sort_by_weight(l);
	for (int i = 0, j; i < l->left;) {
		if (!(j = find(l, i))) {
			i++;
			continue;
		}
		take(l, l->heavy[i]);
		take(l, l->heavy[j]);
		drop_heavy(l, j);
		drop_heavy(l, i);
		pairs++;
	}
	return pairs;
}

/* Of a group of four k, some columns; the bytes are summed one after another, as vectors. */
static void
add_corrections(uint32_t *sum, const int8_t *w, int columns)
{
	int16_t all[4 * ML_PANEL];

	for (int i = 0; i < 4 * columns; i++)
		all[i] = (int16_t)(128 * w[i] + (w[i] < 0 ? -w[i] : 0));
	for (int column = 0; column < columns; column++) {
		const int16_t *four = all + 4 * (ptrdiff_t)column;
		sum[column] += (uint32_t)(four[0] + four[1] + four[2] + four[3]);
	}
}

/* Whether the groups that are left are plain by themselves. */
static bool
rest_is_plain(const listing *l)
{
	static const part none;

	for (int i = 0; i < l->left; i++)
		for (int p = 0; p < l->parts; p++)
			if (!fit_plain(&l->g[l->heavy[i]][p], &none))
				return false;
	return true;
}

static void
take_singles(listing *l)
{
	for (int i = 0; i < l->n; i++)
		if (!l->taken[i])
			take(l, i);
}

/* What is said of n groups all of which are plain. */
static uint8_t
mark_of_plain(const uint8_t *head, int n)
{
	bool in_order = n > ML_FOLD_FEW && head[0] == n / 2;

	for (int i = 0; i < n && in_order; i++)
		in_order = head[HEAD + i] == i;
	return in_order ? ML_FOLD_IN_ORDER : ML_FOLD_PLAIN;
}

/* Writes counts and order of a chunk's groups, of `parts` parts of the columns from w on. */
static uint8_t *
list_groups(uint8_t *head, const part (*g)[PARTS], int parts, int n, const int8_t *w, uint32_t *sum)
{
	listing l = {.g = g, .parts = parts, .n = n, .to = head + HEAD};

	head[0] = (uint8_t)take_neighbours(&l);
	head[0] += (uint8_t)take_pairs(&l, plain_partner);
	if (rest_is_plain(&l)) {
		take_singles(&l);
		head[1] = mark_of_plain(head, n);
		return l.to;
	}
	if (head[0] < LEAST_PLAIN) {
		memset(l.taken, 0, sizeof l.taken);
		head[0] = 0;
		l.to = head + HEAD;
	}
	const uint8_t *folded = l.to;
	head[1] = (uint8_t)take_pairs(&l, partner);
	take_singles(&l);
	for (; folded < l.to; folded++)
		add_corrections(sum, w + (ptrdiff_t)*folded * 4 * ML_PANEL, parts * PART);
	return l.to;
}

/* One panel's lists: of all columns, and of each part. */
typedef struct lists {
	uint8_t *whole, *part[PARTS];
	uint32_t whole_sum[ML_PANEL], part_sum[ML_PANEL]; /* wrap around as the accumulators do */
} lists;

static void
list_chunk(lists *to, const int8_t *w, int n)
{
	part g[ML_FOLD_CHUNK][PARTS];

	for (int i = 0; i < n; i++)
		for (int p = 0; p < PARTS; p++)
			sum_part(&g[i][p], w + ((ptrdiff_t)i * ML_PANEL + (ptrdiff_t)p * PART) * 4);
	to->whole = list_groups(to->whole, g, PARTS, n, w, to->whole_sum);
	for (int p = 0; p < PARTS; p++)
		to->part[p] = list_groups(to->part[p], (const part(*)[PARTS]) & g[0][p], 1, n,
					  w + (ptrdiff_t)p * PART * 4, to->part_sum + p * PART);
}

static void
list_panel(lists *to, const int8_t *w, int64_t k)
{
	int64_t groups = k / 4;

	for (int64_t i = 0; i < groups; i += ML_FOLD_CHUNK) {
		int64_t left = groups - i;
		list_chunk(to, w + i * 4 * ML_PANEL,
			   (int)(left < ML_FOLD_CHUNK ? left : ML_FOLD_CHUNK));
	}
	if (k % 4) { /* the last group is in no list, and folded */
		add_corrections(to->whole_sum, w + groups * 4 * ML_PANEL, ML_PANEL);
		add_corrections(to->part_sum, w + groups * 4 * ML_PANEL, ML_PANEL);
	}
}

void
ml_pack_pairs(int8_t *panels, int64_t k, int64_t n)
{
	int64_t count = round_up(n, ML_PANEL) / ML_PANEL, bytes = ML_PANEL * round_up(k, 4);
	int64_t order = order_bytes(k), table = count * (SUMS + order);
	uint8_t *whole = (uint8_t *)panels + count * bytes, *part = whole + table;
	uint8_t *end = (uint8_t *)panels + ml_pack_bytes(ML_CONTRACT_U8S8, k, n);

	for (int64_t p = 0; p < count; p++) {
		lists to = {.whole = whole + count * SUMS + p * order};
		for (int i = 0; i < PARTS; i++)
			to.part[i] = part + count * SUMS + (p * PARTS + i) * order;
		list_panel(&to, panels + p * bytes, k);
		memcpy(whole + p * SUMS, to.whole_sum, SUMS);
		memcpy(part + p * SUMS, to.part_sum, SUMS);
	}
	part += count * (SUMS + PARTS * order);
	memset(part, 0, (size_t)(end - part));
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

/* Lists of a panel that the target reads. */
static int
lists_of(const ml_emit *e)
{
	return ML_LANES * 32 / e->target->vector_bits;
}

ml_pairs
ml_find_pairs(ml_emit *e, ml_v panels, ml_v k, ml_v n)
{
	LLVMTypeRef line = ml_vec_type(e->i32);
	ml_v groups = LLVMBuildLShr(e->b, ml_add(e, k, ml_i64(e, 3)), ml_i64(e, 2), "");
	ml_v count = ml_add(e, n, ml_i64(e, ML_PANEL - 1)), list = ml_list_bytes(e, k);

	count = LLVMBuildUDiv(e->b, count, ml_i64(e, ML_PANEL), "");
	ml_v sums = ml_gep(e, line, panels, ml_mul(e, count, groups));
	if (lists_of(e) == PARTS) /* behind the lists of whole panels */
		sums = ml_gep(e, e->i8, ml_gep(e, line, sums, count), ml_mul(e, count, list));
	return (ml_pairs){.sums = sums,
			  .lists = ml_gep(e, line, sums, count),
			  .bytes = ml_mul(e, list, ml_i64(e, lists_of(e)))};
}

/* Byte `at` of all lists of a panel. */
static void
store_listed(ml_emit *e, const ml_pairs *t, ml_v panel, ml_v k, ml_v at, ml_v number)
{
	ml_v list = ml_gep(e, e->i8, t->lists, ml_mul(e, panel, t->bytes));
	ml_v byte = LLVMBuildTrunc(e->b, number, e->i8, "");

	for (int i = 0; i < lists_of(e); i++) {
		ml_v first = ml_mul(e, ml_list_bytes(e, k), ml_i64(e, i));
		ml_store(e, byte, ml_gep(e, e->i8, list, ml_add(e, first, at)), 1);
	}
}

/* Weights that are known at run time only: no pairs, groups as they lie. */
void
ml_emit_pack_singles(ml_emit *e, ml_v panels, ml_v panel, ml_v k, ml_v n)
{
	LLVMTypeRef type = ml_vec_type(e->i32);
	ml_v zero = ml_i64(e, 0), one = ml_i64(e, 1), sum = LLVMConstNull(type);
	ml_v groups = LLVMBuildLShr(e->b, ml_add(e, k, ml_i64(e, 3)), ml_i64(e, 2), "");
	ml_v from = ml_gep(e, type, panels, ml_mul(e, panel, groups));
	ml_pairs t = ml_find_pairs(e, panels, k, n);

	ml_loop l = ml_loop_begin(e, zero, groups, one, &sum, 1, "group");
	sum = add_group(e, l.carry[0], ml_load(e, type, ml_gep(e, type, from, l.i), 4));
	ml_loop_end(e, &l, &sum);
	ml_store(e, l.carry[0], ml_gep(e, type, t.sums, panel), 4);
	ml_loop o = ml_loop_begin(e, zero, ml_list_bytes(e, k), one, NULL, 0, "order");
	ml_v at = LLVMBuildURem(e->b, o.i, ml_i64(e, ML_FOLD_CHUNK + HEAD), "");
	ml_v head = LLVMBuildICmp(e->b, LLVMIntULT, at, ml_i64(e, HEAD), "");
	ml_v group = LLVMBuildSelect(e->b, head, zero, ml_sub(e, at, ml_i64(e, HEAD)), "");
	store_listed(e, &t, panel, k, o.i, group);
	ml_loop_end(e, &o, NULL);
}

/* Of such a panel no more is read than what sums begin with, where its pairs end, and the mark. */
void
ml_emit_pack_in_order(ml_emit *e, ml_v panels, ml_v panel, ml_v k, ml_v n, int plain)
{
	ml_pairs t = ml_find_pairs(e, panels, k, n);
	ml_v pairs = plain == 2 ? LLVMBuildLShr(e->b, k, ml_i64(e, 3), "") : ml_i64(e, 0);
	LLVMTypeRef type = ml_vec_type(e->i32);

	ml_store(e, LLVMConstNull(type), ml_gep(e, type, t.sums, panel), 4);
	store_listed(e, &t, panel, k, ml_i64(e, 0), pairs);
	store_listed(e, &t, panel, k, ml_i64(e, 1), ml_i64(e, ML_FOLD_IN_ORDER));
}
