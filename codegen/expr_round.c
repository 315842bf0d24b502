/* expr_round.c -- floats rounded to 8-bit integers, what every quantization ends in, by one sum.
 *
 *   cast (round x + z) to u8 or s8,  z an integer of that kind
 *
 * Beside 1.5 * 2^23 an f32 has no room for fractions: the sum with it rounds x to even and has the
 * integer in its low bits.  Bounds are taken before z is added, there, so that what is too large
 * for the trick ends at a bound as it should; a NaN becomes 0.  The results are those of the three
 * operators one by one, in half the instructions.
 *
 * x86 without AVX-512 takes 16 numbers' bounds while it packs them, for nothing: there they are
 * converted at once.  What has no s32 becomes the least of them, which is right for all but large
 * numbers, bounded before, and NaNs of s8.
 */
#include "expr.h"
#include "scalar.h"
#include "tile.h"

#define WHOLE 12582912.0   /* 1.5 * 2^23 */
#define LARGE 1073741824.0 /* 2^30 */

/* z as a number that is exact in f32 and in the range of dtype: a constant, or cast from it. */
static bool
is_integer_of(const ml_value *z, ml_dtype dtype)
{
	double number;

	if (ml_is(z, ML_OP_cast))
		return ml_in(z->def, 0)->type.dtype == dtype;
	if (!ml_is_splat(z, &number))
		return false;
	double low = dtype == ML_u8 ? 0 : INT8_MIN, high = dtype == ML_u8 ? UINT8_MAX : INT8_MAX;
	return number >= low && number <= high && number == (double)(int64_t)number;
}

/* Takes cast (round x + z) apart; zero is NULL where nothing is added. */
bool
ml_expr_is_rounded(const ml_node *n, const ml_value **x, const ml_value **zero)
{
	const ml_value *v = n->op == ML_OP_cast ? ml_in(n, 0) : NULL;
	ml_dtype to = n->out[0].type.dtype;

	if (!v || (to != ML_u8 && to != ML_s8) || v->type.dtype != ML_f32)
		return false;
	*zero = NULL;
	for (int i = 0; i < 2 && ml_is(v, ML_OP_add) && !*zero; i++)
		if (ml_is(ml_in(v->def, i), ML_OP_round) &&
		    is_integer_of(ml_in(v->def, 1 - i), to)) {
			*zero = ml_in(v->def, 1 - i);
			v = ml_in(v->def, i);
		}
	if (!ml_is(v, ML_OP_round))
		return false;
	*x = ml_in(v->def, 0);
	return true;
}

static ml_v
number(ml_emit *e, double value, ml_v like)
{
	return ml_splat_like(e, ml_scalar_f64(e, ML_f32, value), like);
}

static bool
packs_with_bounds(const ml_target *t)
{
	return t->level == ML_LEVEL_AVX2 || t->level == ML_LEVEL_AVXVNNI;
}

/* To even, as the sum does. */
static ml_v
convert(ml_emit *e, ml_v x)
{
	ml_v half[2], places[ML_LANES];

	for (int i = 0; i < 2; i++) {
		ml_v part = ml_tile_lanes(e, x, i * ML_LANES / 2, 1, ML_LANES / 2);
		half[i] = ml_intrinsic(e, "llvm.x86.avx.cvt.ps2dq.256", NULL, 0, &part, 1);
	}
	for (int i = 0; i < ML_LANES; i++)
		places[i] = ml_i32(e, i);
	return LLVMBuildShuffleVector(e->b, half[0], half[1], LLVMConstVector(places, ML_LANES),
				      "");
}

static ml_v
round_and_pack(ml_emit *e, ml_dtype to, ml_v x, ml_v zero)
{
	LLVMBuilderRef b = e->b;
	LLVMTypeRef type = ml_vec_type(e->i32);
	double least = to == ML_u8 ? 0 : INT8_MIN, most = to == ML_u8 ? UINT8_MAX : INT8_MAX;
	ml_v bound = number(e, LARGE, x), low = number(e, -LARGE, x);

	ml_v none = zero ? LLVMBuildFNeg(b, zero, "") : number(e, 0, x);

	if (to != ML_u8)
		x = LLVMBuildSelect(b, LLVMBuildFCmp(b, LLVMRealORD, x, x, ""), x, none, "");
	x = LLVMBuildSelect(b, LLVMBuildFCmp(b, LLVMRealOLT, bound, x, ""), bound, x, "");
	if (to != ML_u8 && zero) /* the least s32 has nothing below it */
		x = LLVMBuildSelect(b, LLVMBuildFCmp(b, LLVMRealOGT, x, low, ""), x, low, "");
	ml_v q = convert(e, x);
	if (zero)
		q = LLVMBuildAdd(b, q, LLVMBuildFPToSI(b, zero, type, ""), "");
	ml_v all[] = {q, ml_splat(e, ml_i32(e, (int32_t)most))};
	q = ml_intrinsic(e, "llvm.smin", &type, 1, all, 2);
	q = ml_intrinsic(e, "llvm.smax", &type, 1,
			 (ml_v[]){q, ml_splat(e, ml_i32(e, (int32_t)least))}, 2);
	return LLVMBuildTrunc(b, q, ml_vec_type(e->i8), "");
}

ml_v
ml_emit_rounded(ml_emit *e, ml_dtype to, ml_v x, ml_v zero)
{
	LLVMBuilderRef b = e->b;
	double least = to == ML_u8 ? 0 : INT8_MIN, most = to == ML_u8 ? UINT8_MAX : INT8_MAX;
	ml_v like = zero && ml_is_vector(zero) ? zero : x;

	x = ml_splat_like(e, x, like);
	if (ml_is_vector(like) && packs_with_bounds(e->target))
		return round_and_pack(e, to, x, zero ? ml_splat_like(e, zero, like) : NULL);
	ml_v z = zero ? ml_splat_like(e, zero, like) : number(e, 0, like);
	LLVMTypeRef i32 = ml_type_like(e->i32, like);
	ml_v none = LLVMBuildFSub(b, number(e, WHOLE, like), z, "");
	ml_v low = LLVMBuildFSub(b, number(e, WHOLE + least, like), z, "");
	ml_v high = LLVMBuildFSub(b, number(e, WHOLE + most, like), z, "");
	ml_v sum = LLVMBuildFAdd(b, x, number(e, WHOLE, like), "");

	if (to != ML_u8) /* u8: the lower bound is what a NaN becomes */
		sum = LLVMBuildSelect(b, LLVMBuildFCmp(b, LLVMRealORD, sum, sum, ""), sum, none,
				      "");
	sum = LLVMBuildSelect(b, LLVMBuildFCmp(b, LLVMRealOGT, sum, low, ""), sum, low, "");
	sum = LLVMBuildSelect(b, LLVMBuildFCmp(b, LLVMRealOLT, sum, high, ""), sum, high, "");
	ml_v q = LLVMBuildBitCast(b, sum, i32, "");
	if (zero)
		q = LLVMBuildAdd(b, q, LLVMBuildFPToSI(b, z, i32, ""), "");
	return LLVMBuildTrunc(b, q, ml_type_like(e->i8, like), "");
}
