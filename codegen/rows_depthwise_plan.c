/* rows_depthwise_plan.c -- finds depthwise convolutions, and those in small groups, among row
 * kernels. */
#include "rows.h"
#include <string.h>

enum { TILE = 16384, MOST_SIDE = ML_DEPTHWISE_SIDE, MOST_TAPS = ML_DEPTHWISE_TAPS };

static const ml_node *
only_dot(const ml_block *main)
{
	const ml_node *found = NULL;

	for (const ml_node *n = main->first; n; n = n->next) {
		ml_class c = ml_op_get(n->op)->cls;
		if (c == ML_REDUCE || c == ML_INDEX || (c == ML_CONTRACT && found))
			return NULL;
		found = c == ML_CONTRACT ? n : found;
	}
	return found;
}

/* dot [g, N, lines, pixels, C/g], shown as [N, lines, pixels, C]. */
static bool
shows_image(ml_dims *dims, const ml_node *dot, const ml_type *space)
{
	static const int64_t wanted[] = {1, 2, 3, 0, 4};
	const ml_use *u = dot->out[0].uses;

	if (!u || u->next || u->user->op != ML_OP_transpose || dot->out[0].type.rank != 5 ||
	    memcmp(ML_A(u->user, transpose, perm).ints, wanted, sizeof wanted))
		return false;
	u = u->user->out[0].uses;
	if (!u || u->next || u->user->op != ML_OP_reshape || space->rank != 4 ||
	    u->user->out[0].type.rank != 4)
		return false;
	const ml_type *shown = &u->user->out[0].type, *t = &dot->out[0].type;
	for (int i = 0; i < 4; i++) {
		ml_dim d = i < 3 ? t->dim[i + 1] : ml_dim_mul(dims, t->dim[0], t->dim[4]);
		if (shown->dim[i] != space->dim[i] || d != space->dim[i])
			return false;
	}
	return true;
}

/* Do lanes hold whole groups, whose inputs one load finds?  Integers have no pairs of lines then.
 */
static bool
fits_lanes(const ml_depthwise *d)
{
	return d->outputs == 1 ? d->inputs == 1
			       : d->image.image->type.dtype == ML_f32 && d->outputs > 1 &&
					 ML_LANES % d->outputs == 0 && d->inputs > 0 &&
					 d->inputs <= d->outputs;
}

bool
ml_depthwise_find(const ml_rows *r, ml_depthwise *d)
{
	const ml_node *dot = r->is_map ? only_dot(r->kernel->m->main) : NULL;
	int64_t pixels, channels;

	*d = (ml_depthwise){.rows = r, .dot = dot, .lines = 1};
	if (!dot || !shows_image(r->kernel->m->dims, dot, &r->space) ||
	    !ml_find_image(dot, &d->image) || d->image.spatial != 2 ||
	    !ml_dim_is_int(ml_in(dot, 1)->type.dim[1], &d->outputs) ||
	    !ml_dim_is_int(ml_in(dot, 1)->type.dim[2], &d->inputs) || !fits_lanes(d))
		return false;
	ml_dtype a = ml_in(dot, 0)->type.dtype, b = ml_in(dot, 1)->type.dtype;
	if (ML_A(dot, dot, rhs_batch).ints[0] != 0 || ML_A(dot, dot, rhs_contract).ints[2] != 2)
		return false;
	if (!(a == ML_f32 && b == ML_f32) && !(a == ML_u8 && b == ML_s8))
		return false;
	for (int i = 0; i < 2; i++) {
		d->size[i] = ML_A(d->image.window, window, size).ints[i];
		d->stride[i] = ML_A(d->image.window, window, stride).ints[i];
		d->gap[i] = ML_A(d->image.window, window, dilation).ints[i];
		if (d->size[i] > MOST_SIDE)
			return false;
	}
	if (ml_dim_is_int(r->space.dim[2], &pixels) && ml_dim_is_int(r->space.dim[3], &channels) &&
	    pixels > 0 && channels > 0 && pixels < TILE && pixels * channels < TILE)
		d->lines = TILE / (pixels * channels);
	return d->size[0] * d->size[1] <= MOST_TAPS;
}

ml_dim
ml_depthwise_lines(const ml_depthwise *d)
{
	return ml_dim_mul(d->rows->kernel->m->dims, d->rows->space.dim[0], d->rows->space.dim[1]);
}

void
ml_depthwise_grid(const ml_depthwise *d, ml_grid *grid)
{
	ml_dims *dims = d->rows->kernel->m->dims;
	const ml_type *image = &d->image.image->type;
	ml_dim line = ml_dim_mul(dims, image->dim[2], image->dim[3]);

	grid->tiles = ml_dim_ceildiv(dims, ml_depthwise_lines(d), ml_dim_int(dims, d->lines));
	grid->scratch_bytes = ml_dim_int(dims, 0);
	if (d->image.pad) /* whole vectors are stored */
		grid->scratch_bytes =
			ml_dim_mul(dims, ml_dim_add(dims, line, ml_dim_int(dims, ML_LANES)),
				   ml_dim_int(dims, ml_dtype_bytes(image->dtype)));
}
