/* natural.c -- an artefact's C functions, with typed pointers and named dims as parameters.
 *
 * They only fill arrays and call runtime/embed/direct.c.  They run before the ISA level is
 * checked, so they are compiled for the architecture's oldest CPU.
 */
#include "natural.h"
#include "../runtime/embed/program.h"
#include <stdio.h>
#include <string.h>

typedef struct natural {
	ml_emit *e;
	const ml_plan *plan;
	const ml_signature *s;
	ml_v direct; /* the artefact's mlrt_direct */
} natural;

static bool
is_pointer(const ml_c_param *p)
{
	return p->kind != ML_C_DIM;
}

/* Opens function `entry suffix` with the parameters for which `wanted` has a bit. */
static ml_v
open_function(natural *n, const char *suffix, LLVMTypeRef result, unsigned wanted)
{
	ml_emit *e = n->e;
	int count = 0;
	LLVMTypeRef *types = ML_NEW_ARRAY(e->arena, LLVMTypeRef, n->s->params.count);
	static const char key[] = "target-cpu";
	const char *cpu = strncmp(e->target->triple, "x86_64", 6) ? "generic" : "x86-64";

	for (int i = 0; i < n->s->params.count; i++)
		if (wanted >> n->s->params.at[i].kind & 1)
			types[count++] = is_pointer(&n->s->params.at[i]) ? e->ptr : e->i64;
	e->fn = LLVMAddFunction(e->module, ml_format(e->arena, "%s%s", n->s->entry, suffix),
				LLVMFunctionType(result, types, (unsigned)count, 0));
	LLVMAddAttributeAtIndex(
		e->fn, LLVMAttributeFunctionIndex,
		LLVMCreateStringAttribute(e->lc, key, sizeof key - 1, cpu, (unsigned)strlen(cpu)));
	LLVMPositionBuilderAtEnd(e->b, LLVMAppendBasicBlockInContext(e->lc, e->fn, "entry"));
	return e->fn;
}

static ml_v
element(ml_emit *e, LLVMTypeRef type, ml_v array, int i)
{
	return ml_gep(e, type, array, ml_i64(e, i));
}

/* Stores the dims given as parameters, from parameter number `first` on, into their words. */
static void
store_symbols(natural *n, ml_v state, int first)
{
	ml_emit *e = n->e;

	for (int i = 0; i < n->s->params.count; i++) {
		const ml_c_param *p = &n->s->params.at[i];
		if (p->kind == ML_C_DIM)
			ml_store(e, LLVMGetParam(e->fn, (unsigned)first++),
				 element(e, e->i64, state, ml_state_symbols(n->plan) + p->index),
				 8);
	}
}

/* All dims of all inputs, in order. */
static ml_v
input_dims(natural *n, ml_v state)
{
	ml_emit *e = n->e;
	const ml_block *main = n->plan->m->main;
	ml_dim_source dims = {e, n->plan, state, NULL};
	int count = 0;

	for (int i = 0; i < main->nargs; i++)
		count += main->arg[i]->type.rank;
	ml_v array = ml_entry_alloca(e, e->i64, count ? count : 1);
	for (int i = 0, at = 0; i < main->nargs; i++)
		for (int k = 0; k < main->arg[i]->type.rank; k++)
			ml_store(e, ml_emit_dim(&dims, main->arg[i]->type.dim[k]),
				 element(e, e->i64, array, at++), 8);
	return array;
}

static ml_v
call(natural *n, const char *name, LLVMTypeRef result, ml_v *args, int count)
{
	ml_emit *e = n->e;
	LLVMTypeRef types[8];

	for (int i = 0; i < count; i++)
		types[i] = LLVMTypeOf(args[i]);
	LLVMTypeRef type = LLVMFunctionType(result, types, (unsigned)count, 0);
	ml_v f = LLVMGetNamedFunction(e->module, name);
	if (!f) {
		f = LLVMAddFunction(e->module, name, type);
		LLVMSetVisibility(f, LLVMHiddenVisibility);
	}
	return LLVMBuildCall2(e->b, type, f, args, (unsigned)count, "");
}

static ml_v
new_state(natural *n)
{
	ml_v state = ml_entry_alloca(n->e, n->e->i64, ml_state_words(n->plan));

	ml_emit_plain_states(n->e, n->plan, state);
	return state;
}

static void
emit_run(natural *n)
{
	ml_emit *e = n->e;
	ml_v fn = open_function(n, "", e->i32, ~0u);
	int nin = n->plan->m->main->nargs, nout = n->plan->m->main->last->nin, at = nin + nout;
	ml_v state = new_state(n), tensors = ml_entry_alloca(e, e->ptr, at ? at : 1);

	for (int i = 0; i < at; i++)
		ml_store(e, LLVMGetParam(fn, (unsigned)i), element(e, e->ptr, tensors, i), 8);
	store_symbols(n, state, at);
	ml_v args[] = {n->direct,
		       input_dims(n, state),
		       state,
		       tensors,
		       element(e, e->ptr, tensors, nin),
		       LLVMGetLastParam(fn)};
	ml_v status = call(n, "mlrt_direct_run", e->i32, args, 6);
	for (int i = at; i < n->s->params.count; i++) {
		const ml_c_param *p = &n->s->params.at[i];
		if (p->kind != ML_C_SIZE)
			continue;
		ml_v word = element(e, e->i64, state, ml_state_symbols(n->plan) + p->index);
		ml_if ok = ml_if_begin(e, LLVMBuildICmp(e->b, LLVMIntEQ, status, ml_i32(e, 0), ""));
		ml_store(e, ml_load(e, e->i64, word, 8), LLVMGetParam(fn, (unsigned)i), 8);
		ml_if_end(e, &ok);
	}
	LLVMBuildRet(e->b, status);
}

static void
emit_workspace(natural *n)
{
	ml_emit *e = n->e;

	open_function(n, "_workspace", e->i64, 1u << ML_C_DIM);
	ml_v state = new_state(n);
	store_symbols(n, state, 0);
	ml_v args[] = {n->direct, input_dims(n, state), state};
	LLVMBuildRet(e->b, call(n, "mlrt_direct_workspace", e->i64, args, 3));
}

static void
emit_set_threads(natural *n)
{
	ml_emit *e = n->e;
	const char *name = ml_format(e->arena, "%s_set_threads", n->s->entry);

	e->fn = LLVMAddFunction(e->module, name, LLVMFunctionType(e->i32, &e->i32, 1, 0));
	LLVMPositionBuilderAtEnd(e->b, LLVMAppendBasicBlockInContext(e->lc, e->fn, "entry"));
	ml_v args[] = {n->direct, LLVMGetParam(e->fn, 0)};
	LLVMBuildRet(e->b, call(n, "mlrt_direct_threads", e->i32, args, 2));
}

/* ---- main() ---- */

static ml_v
constant_table(natural *n, LLVMTypeRef type, ml_v *at, int count)
{
	return ml_private_constant(n->e, LLVMConstArray2(type, at, (uint64_t)count), "facts");
}

/* void mlopt_input_dims(int64_t *state, int64_t *in_dims) */
static ml_v
emit_input_dims(natural *n)
{
	ml_emit *e = n->e;
	const ml_block *main = n->plan->m->main;
	LLVMTypeRef params[] = {e->ptr, e->ptr};

	e->fn = LLVMAddFunction(e->module, "mlopt_input_dims",
				LLVMFunctionType(e->none, params, 2, 0));
	LLVMSetLinkage(e->fn, LLVMInternalLinkage);
	LLVMPositionBuilderAtEnd(e->b, LLVMAppendBasicBlockInContext(e->lc, e->fn, "entry"));
	ml_dim_source dims = {e, n->plan, LLVMGetParam(e->fn, 0), NULL};
	for (int i = 0, at = 0; i < main->nargs; i++)
		for (int k = 0; k < main->arg[i]->type.rank; k++)
			ml_store(e, ml_emit_dim(&dims, main->arg[i]->type.dim[k]),
				 element(e, e->i64, LLVMGetParam(e->fn, 1), at++), 8);
	LLVMBuildRetVoid(e->b);
	return e->fn;
}

/* Tables about tensors and dims, and the struct mlrt_facts that points to them. */
static ml_v
emit_facts(natural *n, ml_v signature)
{
	ml_emit *e = n->e;
	int count = n->s->params.count, dims = 0, tensors = 0;
	const ml_block *main = n->plan->m->main;
	ml_v *name = ML_NEW_ARRAY(e->arena, ml_v, count),
	     *word = ML_NEW_ARRAY(e->arena, ml_v, count);
	ml_v *least = ML_NEW_ARRAY(e->arena, ml_v, count),
	     *rank = ML_NEW_ARRAY(e->arena, ml_v, count);
	ml_v *bytes = ML_NEW_ARRAY(e->arena, ml_v, count);

	for (int i = 0; i < count; i++) {
		const ml_c_param *p = &n->s->params.at[i];
		if (p->kind == ML_C_DIM) {
			name[dims] = ml_text_constant(e, p->name);
			word[dims] = ml_i64(e, ml_state_symbols(n->plan) + p->index);
			least[dims++] = ml_i64(e, ml_sym_at(n->plan->m->dims, p->index)->lo);
		} else if (p->kind == ML_C_INPUT || p->kind == ML_C_OUTPUT) {
			const ml_type *t = p->kind == ML_C_INPUT
						   ? &main->arg[p->index]->type
						   : &ml_in(main->last, p->index)->type;
			rank[tensors] = ml_i64(e, t->rank);
			bytes[tensors++] = ml_i64(e, ml_dtype_bytes(t->dtype));
		}
	}
	ml_v fields[] = {
		n->direct,
		signature,
		emit_input_dims(n),
		constant_table(n, e->ptr, name, dims),
		constant_table(n, e->i64, word, dims),
		constant_table(n, e->i64, least, dims),
		constant_table(n, e->i64, rank, tensors),
		constant_table(n, e->i64, bytes, tensors),
		ml_i64(e, dims),
		ml_i64(e, main->nargs),
		ml_i64(e, main->last->nin),
	};
	_Static_assert(sizeof(mlrt_facts) == 88, "the fields above are mlrt_facts");
	ml_v init = LLVMConstStructInContext(e->lc, fields, 11, 0);
	ml_v facts = LLVMAddGlobal(e->module, LLVMTypeOf(init), "mlopt_facts");
	LLVMSetInitializer(facts, init);
	LLVMSetGlobalConstant(facts, 1);
	LLVMSetLinkage(facts, LLVMInternalLinkage);
	return facts;
}

static void
emit_main(natural *n, ml_v signature)
{
	ml_emit *e = n->e;
	LLVMTypeRef params[] = {e->i32, e->ptr};
	ml_v facts = emit_facts(n, signature);

	e->fn = LLVMAddFunction(e->module, "main", LLVMFunctionType(e->i32, params, 2, 0));
	LLVMPositionBuilderAtEnd(e->b, LLVMAppendBasicBlockInContext(e->lc, e->fn, "entry"));
	ml_v args[] = {LLVMGetParam(e->fn, 0), LLVMGetParam(e->fn, 1), facts};
	LLVMBuildRet(e->b, call(n, "mlrt_main", e->i32, args, 3));
}

/* ---- all of it ---- */

/* The same table under a name of the model's own, for applications that link several models. */
static void
add_alias(natural *n, const char *suffix, ml_v global)
{
	LLVMAddAlias2(n->e->module, LLVMGlobalGetValueType(global), 0, global,
		      ml_format(n->e->arena, "%s%s", n->s->entry, suffix));
}

void
ml_emit_natural(ml_emit *e, const ml_plan *plan, const ml_signature *s, bool program)
{
	natural n = {.e = e, .plan = plan, .s = s};
	ml_v null = LLVMConstNull(e->ptr);
	ml_v fields[] = {LLVMGetNamedGlobal(e->module, "mlopt_program"), null, null, null};
	ml_v text = LLVMConstStringInContext2(e->lc, s->text, strlen(s->text), 0);

	_Static_assert(sizeof(mlrt_direct) == 32, "the fields above are mlrt_direct");
	ml_v init = LLVMConstStructInContext(e->lc, fields, 4, 0);
	n.direct = LLVMAddGlobal(e->module, LLVMTypeOf(init), "mlopt_direct");
	LLVMSetInitializer(n.direct, init);
	LLVMSetLinkage(n.direct, LLVMInternalLinkage);
	ml_v signature = LLVMAddGlobal(e->module, LLVMTypeOf(text), "mlopt_signature");
	LLVMSetInitializer(signature, text);
	LLVMSetGlobalConstant(signature, 1);
	add_alias(&n, "_signature", signature);
	add_alias(&n, "_program", fields[0]);
	emit_run(&n);
	emit_workspace(&n);
	emit_set_threads(&n);
	if (program)
		emit_main(&n, signature);
}
