/* eval_fold.c -- constant folding: the evaluator on a module of one node; transposes by themselves.
 */
#include "eval.h"
#include <string.h>

enum { FOLD_STEPS = 1 << 28 }; /* about a second; a compiler should not do more */

/* The attribute in another module's table of dims, which must be plain numbers. */
static bool
copy_attr(ml_module *to, ml_attr_kind kind, const ml_attr *from, ml_attr *copy)
{
	*copy = *from;
	if (kind != ML_ATTR_dims)
		return kind != ML_ATTR_blob;
	ml_dim *dims = ML_NEW_ARRAY(&to->arena, ml_dim, from->count);
	for (int i = 0; i < from->count; i++) {
		int64_t value;
		if (!ml_dim_is_int(from->dims[i], &value))
			return false;
		dims[i] = ml_dim_int(to->dims, value);
	}
	copy->dims = dims;
	return true;
}

static bool
copy_type(ml_module *to, const ml_type *from, ml_type *copy)
{
	int64_t value;

	*copy = (ml_type){.dtype = from->dtype, .rank = from->rank};
	for (int i = 0; i < from->rank; i++) {
		if (!ml_dim_is_int(from->dim[i], &value))
			return false;
		copy->dim[i] = ml_dim_int(to->dims, value);
	}
	return true;
}

static bool
fits(const ml_type *type, uint64_t max_bytes)
{
	int64_t count;

	return ml_type_static_count(type, &count) &&
	       (uint64_t)count <= max_bytes / (unsigned)ml_dtype_bytes(type->dtype);
}

/* A module that computes the node's results from its constants; false when a size is unknown. */
static bool
isolate(ml_module *m, const ml_node *n)
{
	const ml_op_info *info = ml_op_get(n->op);
	ml_builder b = ml_builder_at_end(m->main, n->prov);
	ml_value **v = ML_NEW_ARRAY(&m->arena, ml_value *, n->nin + n->nout);

	for (int i = 0; i < n->nin; i++) {
		ml_type type;
		if (!ml_is_const(ml_in(n, i)) || !copy_type(m, &ml_in(n, i)->type, &type))
			return false;
		v[i] = ml_build_const(&b, &type, ml_blob_share(ml_const_blob(ml_in(n, i))));
	}
	ml_node *copy = ml_begin(&b, n->op, v, n->nin);
	for (int i = 0; copy && i < info->nattrs; i++)
		if (!copy_attr(m, info->attr[i].kind, &n->attr[i], &copy->attr[i]))
			return false;
	if (!copy || !ml_finish(&b, copy))
		return false;
	for (int i = 0; i < n->nout; i++)
		v[i] = &copy->out[i];
	return ml_build_yield(&b, v, n->nout) == ML_OK;
}

/* ---- transposed weights ---- */

#define MOVE(bytes)                                                                                \
	case bytes:                                                                                \
		for (; to < end; to += bytes, ml_walk_next(w))                                     \
			memcpy(to, from + w->pos[0] * bytes, bytes);                               \
		break

/* The walk has the result's shape. */
static void
move_elements(char *to, const char *end, const char *from, int size, ml_walk *w)
{
	switch (size) {
		MOVE(1);
		MOVE(2);
		MOVE(4);
		MOVE(8);
	}
}

/* Elements change places, whatever they mean: the evaluator's wide cells would cost several times
 * as much.  False when they are not there, or how many is unknown. */
static bool
transpose(const ml_node *n, ml_blob **result)
{
	const ml_value *x = ml_in(n, 0);
	const int64_t *perm = ML_A(n, transpose, perm).ints;
	int64_t dim[ML_MAX_RANK] = {0}, stride[ML_MAX_RANK], count = 1;
	int size = ml_dtype_bytes(x->type.dtype);
	ml_walk w = {.n = 1, .rank = x->type.rank};
	void *to;

	for (int d = 0; d < w.rank; count *= dim[d++])
		if (!ml_dim_is_int(x->type.dim[d], &dim[d]))
			return false;
	const ml_blob *from = ml_is_const(x) ? ml_const_blob(x) : NULL;
	if (!from || !from->bytes || from->size < (uint64_t)(count * size))
		return false;
	ml_strides(w.rank, dim, stride);
	for (int d = 0; d < w.rank; d++) {
		w.dim[d] = dim[perm[d]];
		w.stride[0][d] = stride[perm[d]];
	}
	*result = ml_blob_new(&n->block->module->cx->memory, (uint64_t)(count * size), &to);
	move_elements(to, (char *)to + count * size, from->bytes, size, &w);
	return true;
}

/* Nothing is said when it fails: the node then stays and fails, if it must, at run time. */
ml_status
ml_fold_node(const ml_node *n, ml_blob **results, uint64_t max_bytes)
{
	ml_memory *memory = &n->block->module->cx->memory;
	ml_context quiet = {.memory = *memory};
	ml_eval_options options = {.max_steps = FOLD_STEPS};
	const ml_op_info *info = ml_op_get(n->op);
	ml_status status = ML_ERR_UNSUPPORTED;

	if (info->cls == ML_CONTROL || !(info->traits & (ML_PURE | ML_CHECKS)))
		return status;
	for (int i = 0; i < n->nout; i++)
		if (!fits(&n->out[i].type, max_bytes))
			return status;
	if (n->op == ML_OP_transpose)
		return transpose(n, results) ? ML_OK : status;
	ml_arena_init(&quiet.arena, &quiet.memory);
	ml_module *m = ml_module_new(&quiet, "fold");
	if (isolate(m, n)) {
		ml_tensor *out = ML_NEW_ARRAY(&m->arena, ml_tensor, n->nout);
		status = ml_evaluate(m, NULL, out, &m->arena, &options);
		for (int i = 0; i < n->nout && !status; i++) {
			void *bytes;
			results[i] = ml_blob_new(memory, out[i].bytes, &bytes);
			memcpy(bytes, out[i].data, out[i].bytes);
		}
	}
	ml_module_free(m);
	ml_arena_free(&quiet.arena);
	return status;
}
