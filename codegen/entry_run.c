/* entry_run.c -- the generated mlopt_run: the steps of the plan, one after another. */
#include "entry.h"
#include "../ir/custom.h"
#include "../runtime/abi.h"
#include <stddef.h>
#include <stdio.h>

typedef struct run_emit {
	ml_emit *e;
	ml_plan *plan;
	ml_dim_source dims;
	ml_v frame, in, out, state, arena, weights, kernels, pool, parallel, fault;
	ml_v watch, watched;                /* i1: the frame has a watch */
	ml_v task, routine, buffers, sizes; /* allocas, shared by all steps */
	ml_v ints;                          /* alloca: ranks and dtypes of routines */
	ml_v *local;                        /* allocas of pointers: bodies' arguments and results */
} run_emit;

static ml_v
pointer_in(run_emit *r, ml_v array, int64_t i)
{
	return ml_load(r->e, r->e->ptr, ml_gep(r->e, r->e->ptr, array, ml_i64(r->e, i)), 8);
}

static ml_v
offset(run_emit *r, ml_v base, ml_v bytes)
{
	return ml_gep(r->e, r->e->i8, base, bytes);
}

static ml_v
buffer_pointer(run_emit *r, const ml_buffer *b)
{
	ml_emit *e = r->e;

	switch (b->place) {
	case ML_PLACE_INPUT: return pointer_in(r, r->in, b->index);
	case ML_PLACE_OUTPUT: return pointer_in(r, r->out, b->index);
	case ML_PLACE_WEIGHTS: return offset(r, r->weights, ml_i64(e, (int64_t)b->offset));
	case ML_PLACE_LOCAL: return ml_load(e, e->ptr, r->local[b->index], 8);
	case ML_PLACE_ARENA: break;
	}
	int word = ml_state_slots(r->plan) + b->index;
	return offset(r, r->arena,
		      ml_load(e, e->i64, ml_gep(e, e->i64, r->state, ml_i64(e, word)), 8));
}

static void
store_pointers(run_emit *r, const ml_step *s)
{
	for (int i = 0; i < s->nin + s->nout; i++)
		ml_store(r->e, buffer_pointer(r, s->buffer[i]),
			 ml_gep(r->e, r->e->ptr, r->buffers, ml_i64(r->e, i)), 8);
}

static void
return_if(run_emit *r, ml_v status)
{
	ml_emit *e = r->e;
	ml_if bad = ml_if_begin(e, LLVMBuildICmp(e->b, LLVMIntNE, status, ml_i32(e, 0), ""));

	LLVMBuildRet(e->b, status);
	LLVMPositionBuilderAtEnd(e->b, LLVMAppendBasicBlockInContext(e->lc, e->fn, "unreached"));
	ml_if_end(e, &bad);
}

static ml_v
call(run_emit *r, ml_v fn, LLVMTypeRef result, ml_v *args, int n)
{
	LLVMTypeRef types[8];

	for (int i = 0; i < n; i++)
		types[i] = LLVMTypeOf(args[i]);
	return LLVMBuildCall2(r->e->b, LLVMFunctionType(result, types, (unsigned)n, 0), fn, args,
			      (unsigned)n, "");
}

/* Handing tiles to other threads costs some microseconds; work of few more is done faster alone.
 * An estimate in nanoseconds, of what a core does at best. */
static ml_v
is_small(run_emit *r, const ml_step *s)
{
	enum { MACS = 64, BYTES = 8, SMALL = 5000 };
	ml_emit *e = r->e;
	ml_v macs = LLVMBuildUDiv(e->b, ml_emit_dim(&r->dims, s->work.macs), ml_i64(e, MACS), "");
	ml_v bytes = ml_add(e, ml_emit_dim(&r->dims, s->work.read),
			    ml_emit_dim(&r->dims, s->work.written));
	ml_v ns = ml_add(e, macs, LLVMBuildUDiv(e->b, bytes, ml_i64(e, BYTES), ""));
	ml_v small = LLVMBuildICmp(e->b, LLVMIntULT, ns, ml_i64(e, SMALL), "");

	return LLVMBuildZExt(e->b, small, e->i32, "");
}

static void
emit_kernel(run_emit *r, const ml_step *s)
{
	ml_emit *e = r->e;

	store_pointers(r, s);
	for (int i = 0; i < s->ndims; i++)
		ml_store(e, ml_emit_dim(&r->dims, s->dim[i]),
			 ml_gep(e, e->i64, r->sizes, ml_i64(e, i)), 8);
	ML_SET_FIELD(e, ml_i32(e, s->site), r->task, mlrt_task, site);
	ML_SET_FIELD(e, is_small(r, s), r->task, mlrt_task, small);
	ml_v args[] = {r->pool, pointer_in(r, r->kernels, s->spec), r->task,
		       ml_emit_dim(&r->dims, s->tiles)};
	call(r, r->parallel, e->none, args, 4);
	if (s->nsites)
		return_if(r,
			  ml_load(e, e->i32,
				  offset(r, r->fault, ml_i64(e, offsetof(mlrt_fault, status))), 4));
}

/* ---- routines ---- */

static void
store_i32(run_emit *r, int at, int32_t v)
{
	ml_store(r->e, ml_i32(r->e, v), ml_gep(r->e, r->e->i32, r->ints, ml_i64(r->e, at)), 4);
}

/* Operand dims, then integer attributes, in `sizes`; the attributes' position is returned. */
static int
store_routine_sizes(run_emit *r, const ml_node *n)
{
	const ml_op_info *info = ml_op_get(n->op);
	int at = 0, attrs;

	for (int i = 0; i < n->nin; i++)
		for (int k = 0; k < ml_in(n, i)->type.rank; k++)
			ml_store(r->e, ml_emit_dim(&r->dims, ml_in(n, i)->type.dim[k]),
				 ml_gep(r->e, r->e->i64, r->sizes, ml_i64(r->e, at++)), 8);
	attrs = at;
	for (int i = 0; i < info->nattrs; i++) {
		ml_v v = info->attr[i].kind == ML_ATTR_dims
				 ? ml_emit_dim(&r->dims, n->attr[i].dims[0])
				 : ml_i64(r->e, n->attr[i].i64);
		ml_store(r->e, v, ml_gep(r->e, r->e->i64, r->sizes, ml_i64(r->e, at++)), 8);
	}
	return attrs;
}

/* The word of state that holds the fresh symbol of a node's results, or the first word. */
static ml_v
fresh_word(run_emit *r, const ml_node *n)
{
	int index = 0;

	for (int i = 0; i < n->nout; i++)
		for (int k = 0; k < n->out[i].type.rank; k++) {
			const ml_term *t;
			if (ml_dim_terms(n->out[i].type.dim[k], &t) == 1 && t[0].natoms == 1 &&
			    t[0].coefficient == 1 && t[0].atom[0]->kind == ML_ATOM_SYM &&
			    t[0].atom[0]->sym->fresh)
				index = ml_state_symbols(r->plan) + t[0].atom[0]->sym->index;
		}
	return ml_gep(r->e, r->e->i64, r->state, ml_i64(r->e, index));
}

static void
emit_routine(run_emit *r, const ml_step *s)
{
	ml_emit *e = r->e;
	char name[64];
	LLVMTypeRef type = LLVMFunctionType(e->i32, &e->ptr, 1, 0);

	snprintf(name, sizeof name, "mlrt_%s", ml_op_get(s->node->op)->name);
	ml_v fn = LLVMGetNamedFunction(e->module, name);
	if (!fn)
		fn = LLVMAddFunction(e->module, name, type);
	store_pointers(r, s);
	int attrs = store_routine_sizes(r, s->node);
	for (int i = 0; i < s->node->nin; i++) {
		store_i32(r, i, ml_in(s->node, i)->type.rank);
		store_i32(r, s->node->nin + i, (int32_t)ml_in(s->node, i)->type.dtype);
	}
	ML_SET_FIELD(e, r->buffers, r->routine, mlrt_routine, buffer);
	ML_SET_FIELD(e, r->sizes, r->routine, mlrt_routine, dim);
	ML_SET_FIELD(e, r->ints, r->routine, mlrt_routine, rank);
	ML_SET_FIELD(e, ml_gep(e, e->i32, r->ints, ml_i64(e, s->node->nin)), r->routine,
		     mlrt_routine, dtype);
	ML_SET_FIELD(e, ml_gep(e, e->i64, r->sizes, ml_i64(e, attrs)), r->routine, mlrt_routine,
		     attr);
	ML_SET_FIELD(e, fresh_word(r, s->node), r->routine, mlrt_routine, size);
	ML_SET_FIELD(e, r->fault, r->routine, mlrt_routine, fault);
	ML_SET_FIELD(e, ml_i32(e, s->site), r->routine, mlrt_routine, site);
	return_if(r, LLVMBuildCall2(e->b, type, fn, &r->routine, 1, ""));
}

/* ---- custom operators: called by their natural C signature ---- */

static LLVMTypeRef
scalar_type(ml_emit *e, ml_dtype t)
{
	if (t == ML_f64)
		return e->f64;
	if (t == ML_f32)
		return e->f32;
	return LLVMIntTypeInContext(e->lc, (unsigned)ml_dtype_bytes(t) * 8);
}

static ml_v
custom_dim(run_emit *r, const ml_step *s, const ml_custom_op *op, int dim)
{
	for (int i = 0; i < op->nin; i++)
		for (int k = 0; k < op->in[i].rank; k++)
			if (op->in[i].dim[k] == dim)
				return ml_emit_dim(&r->dims, ml_in(s->node, i)->type.dim[k]);
	return ml_i64(r->e, 0);
}

/* The function returns 0, or an ml_status that ends the run. */
static void
emit_custom(run_emit *r, const ml_step *s)
{
	ml_emit *e = r->e;
	const ml_custom_op *op = ml_custom_find(r->plan->m->cx, ML_A(s->node, custom, domain).str,
						ML_A(s->node, custom, name).str);
	int n = 0, count = op->nin + op->nout + op->ndims;
	ml_v *args = ML_NEW_ARRAY(r->plan->arena, ml_v, count);
	LLVMTypeRef *types = ML_NEW_ARRAY(r->plan->arena, LLVMTypeRef, count);

	for (int i = 0; i < op->nin + op->nout; i++) {
		ml_v p = buffer_pointer(r, s->buffer[i]);
		bool by_value = i < op->nin && op->in[i].scalar;
		LLVMTypeRef t = by_value ? scalar_type(e, op->in[i].dtype) : e->ptr;
		args[n++] = by_value ? ml_load(e, t, p, 1) : p;
	}
	for (int i = 0; i < op->ndims; i++)
		args[n++] = custom_dim(r, s, op, i);
	for (int i = 0; i < n; i++)
		types[i] = LLVMTypeOf(args[i]);
	LLVMTypeRef type = LLVMFunctionType(e->i32, types, (unsigned)n, 0);
	ml_v fn = LLVMGetNamedFunction(e->module, op->symbol);
	if (!fn)
		fn = LLVMAddFunction(e->module, op->symbol, type);
	ml_v status = LLVMBuildCall2(e->b, type, fn, args, (unsigned)n, "");
	ML_SET_FIELD(e, status, r->fault, mlrt_fault, status);
	ML_SET_FIELD(e, ml_i32(e, s->site), r->fault, mlrt_fault, site);
	return_if(r, status);
}

/* ---- control ---- */

static void emit_sequence(run_emit *, const ml_sequence *);

static void
set_local(run_emit *r, const ml_buffer *b, ml_v pointer)
{
	ml_store(r->e, pointer, r->local[b->index], 8);
}

static void
emit_if(run_emit *r, const ml_step *s)
{
	ml_emit *e = r->e;
	ml_v c = ml_load(e, e->i8, buffer_pointer(r, s->buffer[0]), 1);
	ml_if branch =
		ml_if_begin(e, LLVMBuildICmp(e->b, LLVMIntNE, c, LLVMConstInt(e->i8, 0, 0), ""));

	for (int b = 0; b < 2; b++) {
		if (b == 1)
			ml_if_else(e, &branch);
		for (int i = 0; i < s->body[b]->nargs; i++)
			set_local(r, s->body[b]->arg[i], buffer_pointer(r, s->buffer[1 + i]));
		for (int i = 0; i < s->body[b]->nresults; i++)
			set_local(r, s->body[b]->result[i],
				  buffer_pointer(r, s->buffer[s->nin + i]));
		emit_sequence(r, s->body[b]);
	}
	ml_if_end(e, &branch);
}

static void
copy_bytes(run_emit *r, const ml_buffer *to, const ml_buffer *from)
{
	LLVMBuildMemCpy(r->e->b, buffer_pointer(r, to), 1, buffer_pointer(r, from), 1,
			ml_emit_dim(&r->dims, to->bytes));
}

/* Carried values live in the results' buffers; the body reads them there and writes spares. */
static void
emit_iteration(run_emit *r, const ml_step *s, ml_v i, ml_v counter, ml_v more)
{
	ml_emit *e = r->e;
	const ml_sequence *body = s->body[0];
	int carried = s->nout - s->scanned;
	ml_buffer **out = s->buffer + s->nin, **spare = out + s->nout;

	ml_store(e, i, counter, 8);
	set_local(r, body->arg[0], counter);
	for (int k = 1; k < body->nargs; k++)
		set_local(r, body->arg[k],
			  buffer_pointer(r, k <= carried ? out[k - 1] : s->buffer[k + 1]));
	set_local(r, body->result[0], more);
	for (int k = 0; k < carried; k++)
		set_local(r, body->result[1 + k], buffer_pointer(r, spare[k]));
	for (int k = carried; k < s->nout; k++) {
		ml_v bytes = ml_emit_dim(&r->dims, body->result[1 + k]->bytes);
		set_local(r, body->result[1 + k],
			  offset(r, buffer_pointer(r, out[k]), ml_mul(e, i, bytes)));
	}
	emit_sequence(r, body);
	for (int k = 0; k < carried; k++)
		copy_bytes(r, out[k], spare[k]);
}

static void
emit_loop(run_emit *r, const ml_step *s)
{
	ml_emit *e = r->e;
	ml_v counter = ml_entry_alloca(e, e->i64, 1), more = ml_entry_alloca(e, e->i8, 1);
	ml_v trip = ml_load(e, e->i64, buffer_pointer(r, s->buffer[0]), 8), one = ml_i64(e, 1);
	LLVMBasicBlockRef head = LLVMAppendBasicBlockInContext(e->lc, e->fn, "iterate");
	LLVMBasicBlockRef body = LLVMAppendBasicBlockInContext(e->lc, e->fn, "body");
	LLVMBasicBlockRef after = LLVMAppendBasicBlockInContext(e->lc, e->fn, "done");

	for (int k = 0; k < s->nout - s->scanned; k++)
		copy_bytes(r, s->buffer[s->nin + k], s->buffer[2 + k]);
	ml_store(e, ml_load(e, e->i8, buffer_pointer(r, s->buffer[1]), 1), more, 1);
	LLVMBasicBlockRef before = LLVMGetInsertBlock(e->b);
	LLVMBuildBr(e->b, head);
	LLVMPositionBuilderAtEnd(e->b, head);
	ml_v i = LLVMBuildPhi(e->b, e->i64, "i"), zero = ml_i64(e, 0);
	ml_v go = LLVMBuildICmp(e->b, LLVMIntNE, ml_load(e, e->i8, more, 1),
				LLVMConstInt(e->i8, 0, 0), "");
	go = LLVMBuildAnd(e->b, go, LLVMBuildICmp(e->b, LLVMIntSLT, i, trip, ""), "");
	LLVMBuildCondBr(e->b, go, body, after);
	LLVMPositionBuilderAtEnd(e->b, body);
	emit_iteration(r, s, i, counter, more);
	ml_v next = LLVMBuildAdd(e->b, i, one, "");
	LLVMBasicBlockRef latch = LLVMGetInsertBlock(e->b);
	LLVMBuildBr(e->b, head);
	LLVMAddIncoming(i, (ml_v[]){zero, next}, (LLVMBasicBlockRef[]){before, latch}, 2);
	LLVMPositionBuilderAtEnd(e->b, after);
	ml_v word = fresh_word(r, s->node), words = ml_gep(e, e->i64, r->state, zero);
	if (word != words)
		ml_store(e, i, word, 8);
}

/* ---- the function ---- */

/* Guards about the sizes that this step has just found. */
static void
check_found_sizes(run_emit *r, const ml_step *s)
{
	for (int i = 0; i < r->plan->m->guards.count; i++) {
		const ml_guard *g = &r->plan->m->guards.at[i];
		const ml_sym *a = ml_newest_fresh(g->a), *b = ml_newest_fresh(g->b);
		if (!a || (b && b->index > a->index))
			a = b;
		bool found = false;
		for (int k = 0; a && k < s->node->nout; k++)
			for (int d = 0; d < s->node->out[k].type.rank; d++)
				found |= ml_newest_fresh(s->node->out[k].type.dim[d]) == a;
		if (!found)
			continue;
		ml_requirement guard = ml_emit_guard(&r->dims, g);
		ml_emit_require(r->e, r->plan, r->fault, &guard);
	}
}

static void
tell_watch(run_emit *r, const ml_step *s, int ended)
{
	ml_emit *e = r->e;

	if (s->body[0])
		return;
	ml_if told = ml_if_begin(e, r->watched);
	ml_v args[] = {ML_FIELD(e, e->ptr, r->watch, mlrt_watch, user), ml_i32(e, s->number),
		       ml_i32(e, ended)};
	call(r, ML_FIELD(e, e->ptr, r->watch, mlrt_watch, step), e->none, args, 3);
	ml_if_end(e, &told);
}

static void
emit_sequence(run_emit *r, const ml_sequence *s)
{
	for (int i = 0; i < s->steps.count; i++) {
		const ml_step *step = &s->steps.at[i];
		tell_watch(r, step, 0);
		switch (step->kind) {
		case ML_STEP_KERNEL: emit_kernel(r, step); break;
		case ML_STEP_ROUTINE: emit_routine(r, step); break;
		case ML_STEP_IF: emit_if(r, step); break;
		case ML_STEP_LOOP: emit_loop(r, step); break;
		case ML_STEP_CUSTOM: emit_custom(r, step); break;
		}
		if (step->kind != ML_STEP_KERNEL)
			check_found_sizes(r, step);
		tell_watch(r, step, 1);
	}
}

/* Room that the steps share: buffer pointers and integers. */
static void
count_room(const ml_sequence *s, int *buffers, int *sizes)
{
	for (int i = 0; i < s->steps.count; i++) {
		const ml_step *step = &s->steps.at[i];
		int n = step->kind == ML_STEP_KERNEL
				? step->ndims
				: step->nin * ML_MAX_RANK + ml_op_get(step->node->op)->nattrs;
		if (n > *sizes)
			*sizes = n;
		if (step->nin + step->nout > *buffers)
			*buffers = step->nin + step->nout;
		for (int k = 0; k < 2 && step->body[k]; k++)
			count_room(step->body[k], buffers, sizes);
	}
}

static void
load_frame(run_emit *r)
{
	ml_emit *e = r->e;
	ml_v fault = ml_i64(e, offsetof(mlrt_frame, fault));

	r->in = ML_FIELD(e, e->ptr, r->frame, mlrt_frame, in);
	r->out = ML_FIELD(e, e->ptr, r->frame, mlrt_frame, out);
	r->state = ML_FIELD(e, e->ptr, r->frame, mlrt_frame, state);
	r->arena = ML_FIELD(e, e->ptr, r->frame, mlrt_frame, arena);
	r->weights = ML_FIELD(e, e->ptr, r->frame, mlrt_frame, weights);
	r->kernels = ML_FIELD(e, e->ptr, r->frame, mlrt_frame, kernels);
	r->pool = ML_FIELD(e, e->ptr, r->frame, mlrt_frame, pool);
	r->watch = ML_FIELD(e, e->ptr, r->frame, mlrt_frame, watch);
	r->watched = LLVMBuildIsNotNull(e->b, r->watch, "watched");
	r->parallel = ML_FIELD(e, e->ptr, r->pool, mlrt_pool, parallel);
	r->fault = ml_gep(e, e->i8, r->frame, fault);
}

/* The parts of the task that no step changes. */
static void
prepare_task(run_emit *r)
{
	ml_emit *e = r->e;
	ml_v arena_bytes =
		ml_load(e, e->i64, ml_gep(e, e->i64, r->state, ml_i64(e, MLRT_STATE_ARENA)), 8);
	ml_v scratch =
		ml_load(e, e->i64, ml_gep(e, e->i64, r->state, ml_i64(e, MLRT_STATE_SCRATCH)), 8);

	ML_SET_FIELD(e, r->buffers, r->task, mlrt_task, buffer);
	ML_SET_FIELD(e, r->sizes, r->task, mlrt_task, dim);
	ML_SET_FIELD(e, r->fault, r->task, mlrt_task, fault);
	ML_SET_FIELD(e, offset(r, r->arena, arena_bytes), r->task, mlrt_task, scratch);
	ML_SET_FIELD(e, scratch, r->task, mlrt_task, scratch_stride);
}

/* Outputs whose dims depend on data get their true dims. */
static void
update_output_dims(run_emit *r)
{
	ml_emit *e = r->e;
	int at = ml_state_outputs();

	for (int i = 0; i < r->plan->main->nresults; i++) {
		const ml_type *t = &ml_in(r->plan->m->main->last, i)->type;
		for (int k = 0; k < t->rank; k++, at++)
			if (!ml_dim_is_int(t->dim[k], NULL))
				ml_store(e, ml_emit_dim(&r->dims, t->dim[k]),
					 ml_gep(e, e->i64, r->state, ml_i64(e, at)), 8);
	}
}

ml_v
ml_emit_run_function(ml_emit *e, ml_plan *plan)
{
	run_emit r = {.e = e, .plan = plan};
	int buffers = 1, sizes = 1;
	ml_v fn = ml_emit_function(e, "mlopt_run", e->i32, &e->ptr, 1);

	count_room(plan->main, &buffers, &sizes);
	r.frame = LLVMGetParam(fn, 0);
	r.task = ml_entry_alloca(e, e->i64, (sizeof(mlrt_task) + 7) / 8);
	r.routine = ml_entry_alloca(e, e->i64, (sizeof(mlrt_routine) + 7) / 8);
	r.buffers = ml_entry_alloca(e, e->ptr, buffers);
	r.sizes = ml_entry_alloca(e, e->i64, sizes);
	r.ints = ml_entry_alloca(e, e->i32, 2 * buffers);
	r.local = ML_NEW_ARRAY(plan->arena, ml_v, plan->nlocals);
	for (int i = 0; i < plan->nlocals; i++)
		r.local[i] = ml_entry_alloca(e, e->ptr, 1);
	load_frame(&r);
	r.dims = (ml_dim_source){e, plan, r.state, NULL};
	prepare_task(&r);
	emit_sequence(&r, plan->main);
	update_output_dims(&r);
	LLVMBuildRet(e->b, ml_i32(e, 0));
	return fn;
}
