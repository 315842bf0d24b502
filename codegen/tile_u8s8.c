/* tile_u8s8.c -- the u8 x s8 tile: four products per accumulator and step, always exact. */
#include "tile.h"

enum { GROUP = 4, UNROLL = 2 };

typedef struct pointers {
	ml_v row[ML_TILE_MAX], panel[ML_TILE_MAX];
} pointers;

static LLVMTypeRef
vector_of(LLVMTypeRef element, unsigned lanes)
{
	return LLVMVectorType(element, lanes);
}

/* Lanes from, from + stride, ... of a vector (or of two, concatenated). */
static ml_v
lanes_of(ml_emit *e, ml_v v, ml_v w, int from, int stride, int count)
{
	ml_v index[4 * ML_LANES];

	for (int i = 0; i < count; i++)
		index[i] = ml_i32(e, from + i * stride);
	return LLVMBuildShuffleVector(e->b, v, w ? w : LLVMGetPoison(LLVMTypeOf(v)),
				      LLVMConstVector(index, (unsigned)count), "");
}

static ml_v
concat(ml_emit *e, ml_v low, ml_v high)
{
	return lanes_of(e, low, high, 0, 1, 2 * (int)LLVMGetVectorSize(LLVMTypeOf(low)));
}

typedef ml_v part_fn(ml_emit *, const char *intrinsic, ml_v acc, ml_v a, ml_v b);

/* Runs an instruction narrower than 16 columns on slices of its operands. */
static ml_v
by_parts(ml_emit *e, part_fn *part, const char *intrinsic, int parts, ml_v acc, ml_v a, ml_v b)
{
	int n = ML_LANES / parts;
	ml_v out[ML_LANES];

	for (int i = 0; i < parts; i++)
		out[i] = part(e, intrinsic, lanes_of(e, acc, NULL, i * n, 1, n),
			      lanes_of(e, a, NULL, i * n, 1, n), lanes_of(e, b, NULL, i * n, 1, n));
	for (; parts > 1; parts /= 2)
		for (int i = 0; i < parts / 2; i++)
			out[i] = concat(e, out[2 * i], out[2 * i + 1]);
	return out[0];
}

static ml_v
call_vnni(ml_emit *e, const char *intrinsic, ml_v acc, ml_v a, ml_v b)
{
	return ml_intrinsic(e, intrinsic, NULL, 0, (ml_v[]){acc, a, b}, 3);
}

static ml_v
call_dot(ml_emit *e, const char *intrinsic, ml_v acc, ml_v a, ml_v b)
{
	LLVMTypeRef bytes = vector_of(e->i8, LLVMGetVectorSize(LLVMTypeOf(acc)) * GROUP);
	LLVMTypeRef over[] = {LLVMTypeOf(acc), bytes};
	ml_v args[] = {acc, LLVMBuildBitCast(e->b, a, bytes, ""),
		       LLVMBuildBitCast(e->b, b, bytes, "")};

	return ml_intrinsic(e, intrinsic, over, 2, args, 3);
}

/* acc + sums of neighbouring products of 16-bit lanes; all operands as 32-bit lanes. */
static ml_v
call_pairs(ml_emit *e, const char *intrinsic, ml_v acc, ml_v a, ml_v b)
{
	unsigned lanes = LLVMGetVectorSize(LLVMTypeOf(acc));
	LLVMTypeRef halves = vector_of(e->i16, 2 * lanes), wide = vector_of(e->i32, 2 * lanes);
	ml_v x = LLVMBuildBitCast(e->b, a, halves, ""), y = LLVMBuildBitCast(e->b, b, halves, "");

	if (intrinsic) {
		ml_v sums = ml_intrinsic(e, intrinsic, NULL, 0, (ml_v[]){x, y}, 2);
		return LLVMBuildAdd(e->b, acc, sums, "");
	}
	ml_v products = LLVMBuildMul(e->b, LLVMBuildSExt(e->b, x, wide, ""),
				     LLVMBuildSExt(e->b, y, wide, ""), "");
	for (int i = 0; i < 2; i++)
		acc = LLVMBuildAdd(e->b, acc, lanes_of(e, products, NULL, i, 2, (int)lanes), "");
	return acc;
}

/* sdot takes s8 alone: u8 = its low seven bits - (its high bit, which s8 reads as -128). */
static ml_v
call_sdot(ml_emit *e, const char *intrinsic, ml_v acc, ml_v a, ml_v b)
{
	LLVMTypeRef type = LLVMTypeOf(acc);
	ml_v low = ml_splat(e, ml_i32(e, 0x7f7f7f7f));

	low = lanes_of(e, low, NULL, 0, 1, (int)LLVMGetVectorSize(type));
	ml_v high = LLVMBuildAnd(e->b, a, LLVMBuildNot(e->b, low, ""), "");
	acc = call_dot(e, intrinsic, acc, LLVMBuildAnd(e->b, a, low, ""), b);
	return LLVMBuildSub(e->b, acc, call_dot(e, intrinsic, LLVMConstNull(type), high, b), "");
}

/* The four bytes of a 32-bit lane as 16-bit values, (0, 2) and (1, 3), each pair in a lane. */
static void
widen(ml_emit *e, ml_v v, bool is_signed, ml_v out[2])
{
	LLVMTypeRef type = vector_of(e->i16, 2 * ML_LANES), words = ml_vec_type(e->i32);
	ml_v eight = LLVMBuildBitCast(e->b, ml_splat(e, ml_i32(e, 0x00080008)), type, "");
	ml_v x = LLVMBuildBitCast(e->b, v, type, "");

	if (is_signed) {
		out[0] = LLVMBuildAShr(e->b, LLVMBuildShl(e->b, x, eight, ""), eight, "");
		out[1] = LLVMBuildAShr(e->b, x, eight, "");
	} else {
		ml_v low = LLVMBuildBitCast(e->b, ml_splat(e, ml_i32(e, 0x00ff00ff)), type, "");
		out[0] = LLVMBuildAnd(e->b, x, low, "");
		out[1] = LLVMBuildLShr(e->b, x, eight, "");
	}
	for (int i = 0; i < 2; i++)
		out[i] = LLVMBuildBitCast(e->b, out[i], words, "");
}

/* What a row's and a panel's four bytes per lane become before they are multiplied. */
typedef struct operand {
	ml_v v[2];
} operand;

static bool
takes_bytes(const ml_emit *e)
{
	ml_level l = e->target->level;

	return l == ML_LEVEL_AVXVNNI || l == ML_LEVEL_AVX512VNNI || l == ML_LEVEL_DOTPROD ||
	       l == ML_LEVEL_I8MM;
}

static operand
prepare(ml_emit *e, ml_v v, bool is_signed)
{
	operand o = {{v, NULL}};

	if (!takes_bytes(e))
		widen(e, v, is_signed, o.v);
	return o;
}

/* acc + a . b; never saturates: vpmaddubsw would, so levels without a dot of bytes widen. */
static ml_v
dot(ml_emit *e, ml_v acc, const operand *a, const operand *b)
{
	const char *name = NULL;
	int parts = 1;

	switch (e->target->level) {
	case ML_LEVEL_AVX512VNNI:
		return by_parts(e, call_vnni, "llvm.x86.avx512.vpdpbusd.512", 1, acc, a->v[0],
				b->v[0]);
	case ML_LEVEL_AVXVNNI:
		return by_parts(e, call_vnni, "llvm.x86.avx512.vpdpbusd.256", 2, acc, a->v[0],
				b->v[0]);
	case ML_LEVEL_I8MM:
		return by_parts(e, call_dot, "llvm.aarch64.neon.usdot", 4, acc, a->v[0], b->v[0]);
	case ML_LEVEL_DOTPROD:
		return by_parts(e, call_sdot, "llvm.aarch64.neon.sdot", 4, acc, a->v[0], b->v[0]);
	case ML_LEVEL_AVX512: name = "llvm.x86.avx512.pmaddw.d.512"; break;
	case ML_LEVEL_AVX2:
		name = "llvm.x86.avx2.pmadd.wd";
		parts = 2;
		break;
	default: break;
	}
	acc = by_parts(e, call_pairs, name, parts, acc, a->v[0], b->v[0]);
	return by_parts(e, call_pairs, name, parts, acc, a->v[1], b->v[1]);
}

/* Four bytes of A as an i32.  The last group may have fewer: it repeats the last byte instead of
 * reading on; B's panels are zero there. */
static ml_v
load_group(ml_emit *e, ml_v row, ml_v k, ml_v valid)
{
	if (!valid)
		return ml_load(e, e->i32, ml_gep(e, e->i8, row, k), 1);
	ml_v word = ml_i32(e, 0);
	for (int i = 0; i < GROUP; i++) {
		ml_v last = ml_sub(e, valid, ml_i64(e, 1));
		ml_v at = ml_add(e, k, i ? ml_min_s(e, ml_i64(e, i), last) : ml_i64(e, 0));
		ml_v byte = LLVMBuildZExt(e->b, ml_load(e, e->i8, ml_gep(e, e->i8, row, at), 1),
					  e->i32, "");
		word = LLVMBuildOr(e->b, word, LLVMBuildShl(e->b, byte, ml_i32(e, 8 * i), ""), "");
	}
	return word;
}

/* acc += A[:, k .. k + 3] . B[k .. k + 3, :], in place. */
static void
step(ml_emit *e, const ml_tile *t, const pointers *p, ml_v k, ml_v valid, ml_v *acc)
{
	operand b[ML_TILE_MAX];

	for (int j = 0; j < t->panels; j++) {
		ml_v at = ml_gep(e, e->i8, p->panel[j], ml_mul(e, k, ml_i64(e, ML_LANES)));
		b[j] = prepare(e, ml_load(e, ml_vec_type(e->i32), at, 4), true);
	}
	for (int i = 0; i < t->rows; i++) {
		operand a = prepare(e, ml_splat(e, load_group(e, p->row[i], k, valid)), false);
		for (int j = 0; j < t->panels; j++)
			acc[i * t->panels + j] = dot(e, acc[i * t->panels + j], &a, &b[j]);
	}
}

static void
run_steps(ml_emit *e, const ml_tile *t, const pointers *p, ml_v from, ml_v to, int unroll,
	  ml_v *acc)
{
	int n = t->rows * t->panels;
	ml_loop l = ml_loop_begin(e, from, to, ml_i64(e, unroll * GROUP), acc, n, "k");

	for (int i = 0; i < n; i++)
		acc[i] = l.carry[i];
	for (int u = 0; u < unroll; u++)
		step(e, t, p, ml_add(e, l.i, ml_i64(e, u * GROUP)), NULL, acc);
	ml_loop_end(e, &l, acc);
	for (int i = 0; i < n; i++)
		acc[i] = l.carry[i];
}

void
ml_tile_u8s8(ml_emit *e, const ml_tile *t)
{
	int n = t->rows * t->panels;
	ml_v acc[ML_TILE_MAX], zero = LLVMConstNull(ml_vec_type(e->i32));
	ml_v unrolled = LLVMBuildAnd(e->b, t->k, ml_i64(e, -UNROLL * GROUP), "");
	ml_v whole = LLVMBuildAnd(e->b, t->k, ml_i64(e, -GROUP), "");
	pointers p;

	for (int i = 0; i < t->rows; i++)
		p.row[i] = ml_gep(e, e->i8, t->a, ml_mul(e, t->lda, ml_i64(e, i)));
	for (int j = 0; j < t->panels; j++)
		p.panel[j] = ml_gep(e, e->i8, t->b, ml_mul(e, t->panel_stride, ml_i64(e, j)));
	for (int i = 0; i < n; i++)
		acc[i] = zero;
	run_steps(e, t, &p, ml_i64(e, 0), unrolled, UNROLL, acc);
	run_steps(e, t, &p, unrolled, whole, 1, acc);
	/* At most once: the group that k ends in. */
	ml_loop l = ml_loop_begin(e, whole, t->k, ml_i64(e, GROUP), acc, n, "rest");
	for (int i = 0; i < n; i++)
		acc[i] = l.carry[i];
	step(e, t, &p, l.i, ml_sub(e, t->k, l.i), acc);
	ml_loop_end(e, &l, acc);
	for (int i = 0; i < n; i++)
		ml_store(e, l.carry[i], ml_gep(e, e->i32, t->acc, ml_i64(e, i * ML_LANES)), 64);
}
