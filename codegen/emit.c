/* emit.c -- the vocabulary of emit.h over LLVM's builder: constants, loops, lanes, intrinsics. */
#include "emit.h"
#include <assert.h>
#include <llvm-c/Analysis.h>
#include <llvm-c/Error.h>
#include <llvm-c/Transforms/PassBuilder.h>
#include <stdio.h>
#include <string.h>

void
ml_emit_open(ml_emit *e, const ml_target *target, ml_arena *arena, const char *module_name)
{
	LLVMContextRef lc = LLVMContextCreate();

	*e = (ml_emit){
		.lc = lc,
		.module = LLVMModuleCreateWithNameInContext(module_name, lc),
		.b = LLVMCreateBuilderInContext(lc),
		.target = target,
		.arena = arena,
		.i1 = LLVMInt1TypeInContext(lc),
		.i8 = LLVMInt8TypeInContext(lc),
		.i16 = LLVMInt16TypeInContext(lc),
		.i32 = LLVMInt32TypeInContext(lc),
		.i64 = LLVMInt64TypeInContext(lc),
		.f16 = LLVMHalfTypeInContext(lc),
		.f32 = LLVMFloatTypeInContext(lc),
		.f64 = LLVMDoubleTypeInContext(lc),
		.ptr = LLVMPointerTypeInContext(lc, 0),
		.none = LLVMVoidTypeInContext(lc),
	};
	LLVMSetTarget(e->module, target->triple);
}

void
ml_emit_close(ml_emit *e)
{
	LLVMDisposeBuilder(e->b);
	LLVMDisposeModule(e->module);
	LLVMContextDispose(e->lc);
	*e = (ml_emit){0};
}

static void
add_attribute(ml_emit *e, ml_v fn, const char *key, const char *value)
{
	LLVMAddAttributeAtIndex(fn, LLVMAttributeFunctionIndex,
				LLVMCreateStringAttribute(e->lc, key, (unsigned)strlen(key), value,
							  (unsigned)strlen(value)));
}

static void
add_enum_attribute(ml_emit *e, ml_v fn, unsigned index, const char *name)
{
	unsigned kind = LLVMGetEnumAttributeKindForName(name, strlen(name));

	LLVMAddAttributeAtIndex(fn, index, LLVMCreateEnumAttribute(e->lc, kind, 0));
}

void
ml_emit_attributes(ml_emit *e, ml_v fn)
{
	char bits[16];

	snprintf(bits, sizeof bits, "%d", e->target->vector_bits);
	add_attribute(e, fn, "target-cpu", e->target->cpu);
	add_attribute(e, fn, "target-features", e->target->features);
	/* Without these LLVM splits 16-lane operations in two on CPUs it thinks slow at 512 bits.
	 */
	add_attribute(e, fn, "prefer-vector-width", bits);
	add_attribute(e, fn, "min-legal-vector-width", bits);
	/* A loop must not become a call of memcpy or memset: artefacts have no libc to rely on. */
	add_attribute(e, fn, "no-builtins", "");
	add_enum_attribute(e, fn, LLVMAttributeFunctionIndex, "nounwind");
}

ml_v
ml_emit_function(ml_emit *e, const char *name, LLVMTypeRef result, LLVMTypeRef *params, int n)
{
	e->fn = LLVMAddFunction(e->module, name, LLVMFunctionType(result, params, (unsigned)n, 0));
	ml_emit_attributes(e, e->fn);
	for (int i = 0; i < n; i++)
		if (params[i] == e->ptr)
			add_enum_attribute(e, e->fn, (unsigned)i + 1, "noalias");
	LLVMPositionBuilderAtEnd(e->b, LLVMAppendBasicBlockInContext(e->lc, e->fn, "entry"));
	return e->fn;
}

/* Kernels are written unrolled and vectorised as measured: LLVM's guesses only add code, and what
 * the rounds of its default<O2> find beyond one of these passes makes no kernel faster. */
#define COMBINE "instcombine<no-verify-fixpoint>"
static const char optimizing[] =
	"function(sroa,early-cse<memssa>,simplifycfg," COMBINE ",reassociate,"
	"loop-mssa(loop-rotate,licm),loop(indvars,loop-idiom,loop-deletion),gvn,dse,vector-"
	"combine," COMBINE ",simplifycfg,adce),globaldce";

void
ml_emit_optimize(ml_emit *e, LLVMTargetMachineRef machine)
{
	LLVMPassBuilderOptionsRef options = LLVMCreatePassBuilderOptions();
	LLVMTargetDataRef layout = LLVMCreateTargetDataLayout(machine);

	assert(!LLVMVerifyModule(e->module, LLVMAbortProcessAction, NULL));
	LLVMSetModuleDataLayout(e->module, layout);
	LLVMDisposeTargetData(layout);
	LLVMErrorRef error = LLVMRunPasses(e->module, optimizing, machine, options);
	assert(!error && "the list of passes must parse");
	LLVMConsumeError(error);
	LLVMDisposePassBuilderOptions(options);
}

ml_v
ml_i64(ml_emit *e, int64_t v)
{
	return LLVMConstInt(e->i64, (unsigned long long)v, 1);
}

ml_v
ml_private_constant(ml_emit *e, ml_v value, const char *name)
{
	ml_v global = LLVMAddGlobal(e->module, LLVMTypeOf(value), name);

	LLVMSetInitializer(global, value);
	LLVMSetGlobalConstant(global, 1);
	LLVMSetLinkage(global, LLVMPrivateLinkage);
	return global;
}

ml_v
ml_text_constant(ml_emit *e, const char *text)
{
	ml_v bytes = LLVMConstStringInContext2(e->lc, text, strlen(text), 0);

	return ml_private_constant(e, bytes, "text");
}

ml_v
ml_i32(ml_emit *e, int32_t v)
{
	return LLVMConstInt(e->i32, (unsigned long long)(int64_t)v, 1);
}

ml_v
ml_f32(ml_emit *e, double v)
{
	return LLVMConstReal(e->f32, v);
}

LLVMTypeRef
ml_vec_type(LLVMTypeRef element)
{
	return LLVMVectorType(element, ML_LANES);
}

ml_v
ml_splat(ml_emit *e, ml_v scalar)
{
	LLVMTypeRef type = ml_vec_type(LLVMTypeOf(scalar));

	if (LLVMIsConstant(scalar)) {
		ml_v lanes[ML_LANES];
		for (int i = 0; i < ML_LANES; i++)
			lanes[i] = scalar;
		return LLVMConstVector(lanes, ML_LANES);
	}
	ml_v one = LLVMBuildInsertElement(e->b, LLVMGetPoison(type), scalar, ml_i32(e, 0), "");
	return LLVMBuildShuffleVector(e->b, one, LLVMGetPoison(type),
				      LLVMConstNull(ml_vec_type(e->i32)), "");
}

static ml_v
iota(LLVMTypeRef element)
{
	ml_v lanes[ML_LANES];

	for (int i = 0; i < ML_LANES; i++)
		lanes[i] = LLVMConstInt(element, (unsigned long long)i, 0);
	return LLVMConstVector(lanes, ML_LANES);
}

ml_v
ml_iota_i64(ml_emit *e)
{
	return iota(e->i64);
}

bool
ml_const_i64(ml_v v, int64_t *value)
{
	if (!LLVMIsAConstantInt(v))
		return false;
	*value = LLVMConstIntGetSExtValue(v);
	return true;
}

static bool
is_const(ml_v v, int64_t wanted)
{
	int64_t value;

	return ml_const_i64(v, &value) && value == wanted;
}

/* LLVM's builder folds two constants; what it does not fold are the neutral elements. */
ml_v
ml_add(ml_emit *e, ml_v a, ml_v b)
{
	if (is_const(a, 0))
		return b;
	return is_const(b, 0) ? a : LLVMBuildAdd(e->b, a, b, "");
}

ml_v
ml_sub(ml_emit *e, ml_v a, ml_v b)
{
	return is_const(b, 0) ? a : LLVMBuildSub(e->b, a, b, "");
}

ml_v
ml_mul(ml_emit *e, ml_v a, ml_v b)
{
	if (is_const(a, 1) || is_const(b, 0))
		return b;
	return is_const(b, 1) || is_const(a, 0) ? a : LLVMBuildMul(e->b, a, b, "");
}

ml_v
ml_min_s(ml_emit *e, ml_v a, ml_v b)
{
	int64_t x, y;

	if (ml_const_i64(a, &x) && ml_const_i64(b, &y))
		return x < y ? a : b;
	return a == b ? a
		      : LLVMBuildSelect(e->b, LLVMBuildICmp(e->b, LLVMIntSLT, a, b, ""), a, b, "");
}

static LLVMBasicBlockRef
new_block(ml_emit *e, const char *name)
{
	return LLVMAppendBasicBlockInContext(e->lc, e->fn, name);
}

ml_loop
ml_loop_begin(ml_emit *e, ml_v from, ml_v to, ml_v step, ml_v *initial, int ncarried,
	      const char *name)
{
	LLVMBasicBlockRef before = LLVMGetInsertBlock(e->b);
	ml_loop l = {
		.to = to,
		.step = step,
		.carry = ML_NEW_ARRAY(e->arena, ml_v, ncarried),
		.ncarried = ncarried,
		.head = new_block(e, name),
		.body = new_block(e, name),
		.after = new_block(e, name),
	};

	LLVMBuildBr(e->b, l.head);
	LLVMPositionBuilderAtEnd(e->b, l.head);
	l.i = LLVMBuildPhi(e->b, e->i64, name);
	LLVMAddIncoming(l.i, &from, &before, 1);
	for (int j = 0; j < ncarried; j++) {
		l.carry[j] = LLVMBuildPhi(e->b, LLVMTypeOf(initial[j]), "");
		LLVMAddIncoming(l.carry[j], &initial[j], &before, 1);
	}
	LLVMBuildCondBr(e->b, LLVMBuildICmp(e->b, LLVMIntSLT, l.i, to, ""), l.body, l.after);
	LLVMPositionBuilderAtEnd(e->b, l.body);
	return l;
}

void
ml_loop_end(ml_emit *e, ml_loop *l, ml_v *next)
{
	ml_v i = LLVMBuildNSWAdd(e->b, l->i, l->step, "");
	LLVMBasicBlockRef latch = LLVMGetInsertBlock(e->b);

	LLVMAddIncoming(l->i, &i, &latch, 1);
	for (int j = 0; j < l->ncarried; j++)
		LLVMAddIncoming(l->carry[j], &next[j], &latch, 1);
	LLVMBuildBr(e->b, l->head);
	LLVMPositionBuilderAtEnd(e->b, l->after);
}

ml_if
ml_if_begin(ml_emit *e, ml_v condition)
{
	LLVMBasicBlockRef then = new_block(e, "then");
	ml_if f = {.otherwise = new_block(e, "else"), .after = new_block(e, "endif")};

	LLVMBuildCondBr(e->b, condition, then, f.otherwise);
	LLVMPositionBuilderAtEnd(e->b, then);
	return f;
}

void
ml_if_else(ml_emit *e, ml_if *f)
{
	LLVMBuildBr(e->b, f->after);
	LLVMPositionBuilderAtEnd(e->b, f->otherwise);
	f->otherwise = NULL;
}

void
ml_if_end(ml_emit *e, ml_if *f)
{
	LLVMBuildBr(e->b, f->after);
	if (f->otherwise) { /* no else part was written */
		LLVMPositionBuilderAtEnd(e->b, f->otherwise);
		LLVMBuildBr(e->b, f->after);
	}
	LLVMPositionBuilderAtEnd(e->b, f->after);
}

ml_v
ml_gep(ml_emit *e, LLVMTypeRef element, ml_v pointer, ml_v index)
{
	return is_const(index, 0) ? pointer
				  : LLVMBuildInBoundsGEP2(e->b, element, pointer, &index, 1, "");
}

ml_v
ml_load(ml_emit *e, LLVMTypeRef type, ml_v pointer, int align)
{
	ml_v v = LLVMBuildLoad2(e->b, type, pointer, "");

	LLVMSetAlignment(v, (unsigned)align);
	return v;
}

void
ml_store(ml_emit *e, ml_v value, ml_v pointer, int align)
{
	LLVMSetAlignment(LLVMBuildStore(e->b, value, pointer), (unsigned)align);
}

ml_v
ml_alloca(ml_emit *e, LLVMTypeRef type, int align)
{
	LLVMBasicBlockRef here = LLVMGetInsertBlock(e->b);
	LLVMBasicBlockRef entry = LLVMGetEntryBasicBlock(e->fn);
	ml_v first = LLVMGetFirstInstruction(entry);

	if (first)
		LLVMPositionBuilderBefore(e->b, first);
	else
		LLVMPositionBuilderAtEnd(e->b, entry);
	ml_v slot = LLVMBuildAlloca(e->b, type, "");
	LLVMSetAlignment(slot, (unsigned)align);
	LLVMPositionBuilderAtEnd(e->b, here);
	return slot;
}

ml_v
ml_lane_mask(ml_emit *e, ml_v count)
{
	ml_v n = ml_splat(e, LLVMBuildTrunc(e->b, count, e->i32, ""));

	return LLVMBuildICmp(e->b, LLVMIntULT, iota(e->i32), n, "");
}

static int
element_bits(ml_emit *e, LLVMTypeRef element)
{
	if (element == e->f64)
		return 64;
	if (element == e->f32)
		return 32;
	return element == e->f16 ? 16 : (int)LLVMGetIntTypeWidth(element);
}

/* Whether masked loads and stores are instructions; LLVM turns others into 16 branches each. */
static bool
has_masks(ml_emit *e, LLVMTypeRef element)
{
	ml_level level = e->target->level;

	if (level < ML_LEVEL_AVX2 || (element == e->f16 && level < ML_LEVEL_AVX512))
		return false;
	return level >= ML_LEVEL_AVX512 || element_bits(e, element) >= 32;
}

static void
copy_lanes(ml_emit *e, LLVMTypeRef element, ml_v to, int to_align, ml_v from, int from_align,
	   ml_v count)
{
	ml_loop l = ml_loop_begin(e, ml_i64(e, 0), count, ml_i64(e, 1), NULL, 0, "lane");

	ml_store(e, ml_load(e, element, ml_gep(e, element, from, l.i), from_align),
		 ml_gep(e, element, to, l.i), to_align);
	ml_loop_end(e, &l, NULL);
}

/* `align` holds for the first lane; the others have at most the element's. */
static int
lane_align(ml_emit *e, LLVMTypeRef element, int align)
{
	int bytes = element_bits(e, element) / 8;

	return align < bytes ? align : bytes;
}

/* Whether the lanes are known to be as many as a smaller vector has, which needs no mask. */
static bool
is_part(ml_v count, unsigned *lanes)
{
	int64_t n;

	if (!ml_const_i64(count, &n) || n < 1 || n > ML_LANES / 2 || (n & (n - 1)))
		return false;
	*lanes = (unsigned)n;
	return true;
}

/* The first `count` lanes of v and zeros. */
static ml_v
resize(ml_emit *e, ml_v v, unsigned count)
{
	unsigned size = LLVMGetVectorSize(LLVMTypeOf(v));
	ml_v lane[ML_LANES], zeros = LLVMConstNull(LLVMTypeOf(v));

	for (unsigned i = 0; i < count; i++)
		lane[i] = ml_i32(e, (int32_t)(i < size ? i : size));
	return LLVMBuildShuffleVector(e->b, v, zeros, LLVMConstVector(lane, count), "");
}

ml_v
ml_load_lanes(ml_emit *e, LLVMTypeRef element, ml_v pointer, ml_v count, int align)
{
	LLVMTypeRef type = ml_vec_type(element);
	unsigned part;

	if (!count || is_const(count, ML_LANES))
		return ml_load(e, type, pointer, align);
	if (is_part(count, &part))
		return resize(e, ml_load(e, LLVMVectorType(element, part), pointer, align),
			      ML_LANES);
	if (has_masks(e, element) || LLVMIsConstant(count)) {
		ml_v args[] = {pointer, ml_i32(e, align), ml_lane_mask(e, count),
			       LLVMConstNull(type)};
		return ml_intrinsic(e, "llvm.masked.load", (LLVMTypeRef[]){type, e->ptr}, 2, args,
				    4);
	}
	int lane = lane_align(e, element, align);
	ml_v slot = ml_alloca(e, type, 64);
	ml_store(e, LLVMConstNull(type), slot, 64);
	copy_lanes(e, element, slot, element_bits(e, element) / 8, pointer, lane, count);
	return ml_load(e, type, slot, 64);
}

void
ml_store_lanes(ml_emit *e, ml_v vector, ml_v pointer, ml_v count, int align)
{
	LLVMTypeRef type = LLVMTypeOf(vector), element = LLVMGetElementType(type);
	unsigned part;

	if (!count || is_const(count, ML_LANES)) {
		ml_store(e, vector, pointer, align);
	} else if (is_part(count, &part)) {
		ml_store(e, resize(e, vector, part), pointer, align);
	} else if (has_masks(e, element) || LLVMIsConstant(count)) {
		ml_v args[] = {vector, pointer, ml_i32(e, align), ml_lane_mask(e, count)};
		ml_intrinsic(e, "llvm.masked.store", (LLVMTypeRef[]){type, e->ptr}, 2, args, 4);
	} else {
		ml_v slot = ml_alloca(e, type, 64);
		ml_store(e, vector, slot, 64);
		copy_lanes(e, element, pointer, lane_align(e, element, align), slot,
			   element_bits(e, element) / 8, count);
	}
}

ml_v
ml_intrinsic(ml_emit *e, const char *name, LLVMTypeRef *overloads, int noverloads, ml_v *args,
	     int nargs)
{
	unsigned id = LLVMLookupIntrinsicID(name, strlen(name));

	assert(id && "unknown intrinsic");
	ml_v f = LLVMGetIntrinsicDeclaration(e->module, id, overloads, (size_t)noverloads);
	LLVMTypeRef type = LLVMIntrinsicGetType(e->lc, id, overloads, (size_t)noverloads);
	return LLVMBuildCall2(e->b, type, f, args, (unsigned)nargs, "");
}

ml_v
ml_fma(ml_emit *e, ml_v a, ml_v b, ml_v c)
{
	LLVMTypeRef type = LLVMTypeOf(a);

	return ml_intrinsic(e, "llvm.fma", &type, 1, (ml_v[]){a, b, c}, 3);
}

ml_v
ml_reduce_lanes(ml_emit *e, ml_v vector, ml_v (*combine)(ml_emit *, ml_v, ml_v))
{
	for (unsigned half = ML_LANES / 2; half > 1; half /= 2) {
		ml_v low[ML_LANES], high[ML_LANES];
		for (unsigned i = 0; i < half; i++) {
			low[i] = ml_i32(e, (int32_t)i);
			high[i] = ml_i32(e, (int32_t)(i + half));
		}
		ml_v none = LLVMGetPoison(LLVMTypeOf(vector));
		ml_v a = LLVMBuildShuffleVector(e->b, vector, none, LLVMConstVector(low, half), "");
		ml_v b =
			LLVMBuildShuffleVector(e->b, vector, none, LLVMConstVector(high, half), "");
		vector = combine(e, a, b);
	}
	return combine(e, LLVMBuildExtractElement(e->b, vector, ml_i32(e, 0), ""),
		       LLVMBuildExtractElement(e->b, vector, ml_i32(e, 1), ""));
}
