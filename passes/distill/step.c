/* step.c -- a training step as a module: forward, backward, clipping, AdamW. */
#include "../../ir/grad.h"
#include "train.h"

typedef struct training {
	ml_module *m;
	ml_builder b;
	int n;
	int kept; /* outputs that the module has without training */
	ml_value **keep, **weight, **gradient, **first, **second;
	ml_value *step, *total, *peak;
	const ml_train_options *options;
} training;

static ml_value *
add_input(training *t, const ml_type *type, const char *what, const ml_value *of)
{
	const char *name = of && of->name ? of->name : "";

	return ml_block_add_arg(t->m->main, type,
				ml_format(&t->m->arena, of ? "%s of %s" : "%s", what, name));
}

/* Of a module with gradients: takes these away, and adds what else a step reads. */
static void
open_module(training *t)
{
	ml_arena *arena = &t->m->arena;
	ml_node *yield = t->m->main->last;
	int ninputs = t->m->main->nargs - t->n;
	ml_type scalar = {.dtype = ML_f64};

	t->kept = yield->nin - t->n;
	t->keep = ML_NEW_ARRAY(arena, ml_value *, t->kept);
	for (int i = 0; i < t->kept; i++)
		t->keep[i] = ml_in(yield, i);
	t->weight = ML_NEW_ARRAY(arena, ml_value *, t->n);
	t->gradient = ML_NEW_ARRAY(arena, ml_value *, t->n);
	t->first = ML_NEW_ARRAY(arena, ml_value *, t->n);
	t->second = ML_NEW_ARRAY(arena, ml_value *, t->n);
	for (int i = 0; i < t->n; i++) {
		t->weight[i] = t->m->main->arg[ninputs + i];
		t->gradient[i] = ml_in(yield, yield->nin - t->n + i);
	}
	for (int i = 0; i < t->n; i++)
		t->first[i] = add_input(t, &t->weight[i]->type, "first moment", t->weight[i]);
	for (int i = 0; i < t->n; i++)
		t->second[i] = add_input(t, &t->weight[i]->type, "second moment", t->weight[i]);
	t->step = add_input(t, &scalar, "step", NULL);
	t->total = add_input(t, &scalar, "total", NULL);
	t->peak = add_input(t, &scalar, "peak", NULL);
	ml_node_remove(yield);
	t->m->output_names.count = t->kept;
	t->b = ml_builder_at_end(t->m->main, NULL);
}

static void
add_output(training *t, ml_value **out, int *nout, ml_value *v, const char *name)
{
	out[(*nout)++] = v;
	ML_PUSH(&t->m->arena, t->m->output_names, ml_strdup(&t->m->arena, name));
}

static ml_value *
basis_of(training *t, int i)
{
	const ml_type *w = &t->weight[i]->type;
	const double *basis = t->options->basis ? t->options->basis[i] : NULL;
	ml_type type = {.dtype = w->dtype, .rank = 2, .dim = {w->dim[0], w->dim[0]}};
	int64_t d = 0;
	void *bytes;

	if (!basis || !ml_dim_is_int(w->dim[0], &d))
		return NULL;
	uint64_t size = (uint64_t)(d * d) * (uint64_t)ml_dtype_bytes(w->dtype);
	ml_blob *blob = ml_blob_new(t->m->arena.memory, size, &bytes);
	for (int64_t k = 0; k < d * d; k++)
		ml_write_f64(w->dtype, bytes, k, basis[k]);
	return ml_build_const(&t->b, &type, blob);
}

static bool
update(training *t, const ml_adamw_step *step, double clip, ml_value *norm, int i, ml_value **out)
{
	ml_adamw_step own = *step;

	if (clip > 0)
		own.clip = ml_clip_factor(&t->b, norm, clip, t->weight[i]->type.dtype);
	own.basis = basis_of(t, i);
	return ml_build_adamw(&t->b, &t->options->adamw, &own, t->weight[i], t->gradient[i],
			      t->first[i], t->second[i], out);
}

static ml_status
close_module(training *t)
{
	const ml_train_options *o = t->options;
	ml_value **out = ML_NEW_ARRAY(&t->m->arena, ml_value *, t->kept + 1 + 3 * t->n);
	ml_value *(*after)[3] = ml_alloc_array(&t->m->arena, (size_t)t->n, sizeof *after);
	ml_value *norm = ml_gradient_norm(&t->b, t->gradient, t->n);
	ml_adamw_step step = {.step = t->step};
	int nout = 0;

	step.rate = ml_learning_rate(&t->b, t->step, t->total, t->peak, o->warmup);
	for (int i = 0; i < t->n; i++)
		if (!update(t, &step, o->clip, norm, i, after[i]))
			return t->b.failed;
	for (int i = 0; i < t->kept; i++)
		out[nout++] = t->keep[i];
	add_output(t, out, &nout, norm, "norm");
	for (int k = 0; k < 3; k++)
		for (int i = 0; i < t->n; i++) {
			const ml_value *in = k == 0   ? t->weight[i]
					     : k == 1 ? t->first[i]
						      : t->second[i];
			add_output(t, out, &nout, after[i][k],
				   ml_format(&t->m->arena, "next %s", in->name));
		}
	return ml_build_yield(&t->b, out, nout);
}

ml_status
ml_train_step(const ml_module *m, int loss, const ml_value *const *weight, int n,
	      const ml_train_options *options, ml_module **result)
{
	training t = {.n = n, .options = options};

	for (int i = 0; i < n; i++)
		if (!ml_is_const(weight[i]))
			return ml_error(m->cx, ML_ERR_ARG, NULL, "only constants can be trained");
	ML_STEP(ml_grad_module(m, ml_in(m->main->last, loss), weight, n, &t.m));
	open_module(&t);
	ml_status status = close_module(&t);
	if (status != ML_OK) {
		ml_module_free(t.m);
		return status;
	}
	*result = t.m;
	return ML_OK;
}
