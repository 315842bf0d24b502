/* weights.c -- which constants of a student are trained, and their way out of it and back. */
#include "../../ir/grad.h"
#include "distill.h"
#include <string.h>

/* ---- which ---- */

static bool
is_layer(const ml_node *n)
{
	return n->op == ML_OP_linear || n->op == ML_OP_conv || n->op == ML_OP_layer_norm ||
	       n->op == ML_OP_rms_norm || n->op == ML_OP_rnn;
}

/* The running mean and variance of a batch_norm are no weights. */
static bool
is_weight_of(const ml_node *n, int i)
{
	if (n->op == ML_OP_batch_norm)
		return i == 1 || i == 2;
	return (is_layer(n) && i > 0) || n->op == ML_OP_dot;
}

static bool
is_trained(const ml_value *v)
{
	ml_dtype t = v->type.dtype;

	if ((t != ML_f32 && t != ML_f64) || !v->type.rank || !v->uses)
		return false;
	for (const ml_use *u = v->uses; u; u = u->next)
		if (!is_weight_of(u->user, (int)(u - u->user->in)))
			return false;
	return true;
}

static ml_tensor
tensor_of(const ml_value *v, ml_arena *arena)
{
	ml_tensor t = {.dtype = v->type.dtype, .rank = v->type.rank};

	t.bytes = (size_t)ml_dtype_bytes(t.dtype);
	for (int i = 0; i < t.rank; i++) {
		if (!ml_dim_is_int(v->type.dim[i], &t.dim[i]))
			t.dim[i] = 0; /* constants have numbers */
		t.bytes *= (size_t)t.dim[i];
	}
	t.data = ml_alloc(arena, t.bytes);
	memset(t.data, 0, t.bytes);
	return t;
}

void
ml_find_weights(ml_weights *w, const ml_module *m, ml_arena *arena)
{
	*w = (ml_weights){0};
	for (ml_node *n = m->main->first; n; n = n->next)
		if (n->op == ML_OP_const && is_trained(&n->out[0]))
			ML_PUSH(arena, w->constant, &n->out[0]);
	int n = w->constant.count;
	w->now = ML_NEW_ARRAY(arena, ml_tensor, n + 1);
	w->first = ML_NEW_ARRAY(arena, ml_tensor, n + 1);
	w->second = ML_NEW_ARRAY(arena, ml_tensor, n + 1);
	w->best = ML_NEW_ARRAY(arena, ml_tensor, n + 1);
	for (int i = 0; i < n; i++) {
		const ml_value *v = w->constant.at[i];
		w->now[i] = tensor_of(v, arena);
		w->first[i] = tensor_of(v, arena);
		w->second[i] = tensor_of(v, arena);
		w->best[i] = tensor_of(v, arena);
		memcpy(w->now[i].data, ml_const_blob(v)->bytes, w->now[i].bytes);
		w->bytes += w->now[i].bytes;
	}
	ml_keep_best(w);
}

/* ---- copies ---- */

ml_status
ml_module_of_weights(const ml_module *m, const ml_weights *w, ml_module **result)
{
	ml_module *copy = ml_module_clone(m);
	int n = w->constant.count;
	ml_value **own = ML_NEW_ARRAY(&copy->arena, ml_value *, n + 1), *arg;
	ml_status status = ML_OK;

	ml_values_in(copy, w->constant.at, n, own, &copy->arena);
	for (int i = 0; i < n && status == ML_OK; i++)
		status = ml_promote_constant(copy, own[i],
					     ml_format(&copy->arena, "parameter %d", i), &arg);
	if (status == ML_OK)
		*result = copy;
	else
		ml_module_free(copy);
	return status;
}

/* ---- back ---- */

static void
copy_all(const ml_tensor *from, ml_tensor *to, int n)
{
	for (int i = 0; i < n; i++)
		memcpy(to[i].data, from[i].data, from[i].bytes);
}

void
ml_keep_best(ml_weights *w)
{
	copy_all(w->now, w->best, w->constant.count);
}

void
ml_restore_best(ml_weights *w)
{
	copy_all(w->best, w->now, w->constant.count);
}

void
ml_pull_back(ml_weights *w, double share)
{
	for (int i = 0; i < w->constant.count; i++) {
		ml_tensor *t = &w->now[i];
		const void *was = ml_const_blob(w->constant.at[i])->bytes;
		int64_t n = (int64_t)t->bytes / ml_dtype_bytes(t->dtype);
		for (int64_t k = 0; k < n; k++) {
			double from = ml_read_f64(t->dtype, was, k);
			double to = ml_read_f64(t->dtype, t->data, k);
			ml_write_f64(t->dtype, t->data, k, from + share * (to - from));
		}
	}
}

ml_status
ml_put_weights(ml_module *m, const ml_weights *w)
{
	for (int i = 0; i < w->constant.count; i++) {
		ml_value *old = w->constant.at[i];
		ml_node *node = old->def;
		ml_builder b = ml_builder_before(node);
		void *bytes;
		ml_blob *blob = ml_blob_new(&m->cx->memory, w->now[i].bytes, &bytes);
		memcpy(bytes, w->now[i].data, w->now[i].bytes);
		ml_value *v = ml_build_const(&b, &old->type, blob);
		if (!v)
			return b.failed;
		v->name = old->name;
		ml_replace_uses(old, v);
		ml_node_remove(node);
	}
	return ML_OK;
}
