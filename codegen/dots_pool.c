/* dots_pool.c -- convolutions whose kernel pools what it computes: a few lines of the image lie in
 * scratch, from where they are pooled, so that the image as a whole is never stored.
 *
 * A tile is a line of the result, or, where all pixels of an image become one, two panels; tiles
 * that a thread has in a row are done together.  What is reduced, and in which order, does not
 * depend on the grid.
 */
#include "dots.h"
#include "family.h"
#include <string.h>

enum {
	PASS_ROWS = 512,        /* of the contraction, at most, in a pass of several lines */
	COPY_STEP = 3,          /* lines of a pass at least, where passes share some of the image */
	PASS_PANELS = 12,       /* of an image that becomes one pixel */
	MOST_SCRATCH = 1 << 18, /* bytes: a part of the level-2 cache */
	OVERLAP_BYTES = 1 << 20, /* of an image: about a level-2 cache */
	FEW_LINES = 16,
	FEW_MACS = 1 << 20,
};

/* ---- recognition ---- */

/* What a byte stands for is computed by who reads it. */
static const ml_value *
behind_widening(const ml_value *v)
{
	const ml_value *narrow = v;

	while (ml_dtype_bytes(narrow->type.dtype) > 1 && narrow->def && narrow->def->nin > 0 &&
	       ml_type_same_shape(&ml_in(narrow->def, 0)->type, &v->type)) {
		const ml_node *n = narrow->def;
		bool by_number = (n->op == ML_OP_sub || n->op == ML_OP_mul) &&
				 ml_in(n, 1)->type.rank == 0 && ml_is_const(ml_in(n, 1));
		if (n->op != ML_OP_cast && !by_number)
			break;
		narrow = ml_in(n, 0);
	}
	return ml_dtype_bytes(narrow->type.dtype) == 1 ? narrow : v;
}

static bool
reduces(const ml_node *n, int64_t first, int64_t second)
{
	const ml_attr *axes = &ML_A(n, reduce_sum, axes);

	return axes->count == 2 && axes->ints[0] == first && axes->ints[1] == second;
}

/* Windows [N, C, lines, pixels, kernel..] of which each becomes a pixel of [N, lines, pixels, C].
 */
static bool
find_windowed(const ml_node *reduce, ml_pool *p)
{
	static const int64_t wanted[] = {0, 2, 3, 1, 4, 5};
	const ml_value *v = ml_in(reduce, 0);
	ml_dots_image image;

	if (!ml_is(v, ML_OP_transpose) || v->type.rank != 6 || !reduces(reduce, 4, 5) ||
	    memcmp(ML_A(v->def, transpose, perm).ints, wanted, sizeof wanted) ||
	    !ml_find_windows(ml_in(v->def, 0), &image) ||
	    (image.pad && !ml_is_const(ml_in(image.pad, 1))))
		return false;
	const ml_node *w = image.window;
	p->image = image.image;
	p->stride = ML_A(w, window, stride).ints[0];
	p->reach = (ML_A(w, window, size).ints[0] - 1) * ML_A(w, window, dilation).ints[0] + 1;
	return (!image.pad || ml_dim_is_int(ML_A(image.pad, pad, low).dims[1], &p->low)) &&
	       ml_dim_is_int(v->type.dim[1], &p->out_lines) &&
	       ml_dim_is_int(v->type.dim[2], &p->out_pixels);
}

bool
ml_pool_find(const ml_node *reduce, ml_pool *p)
{
	*p = (ml_pool){.reduce = reduce, .out_lines = 1, .out_pixels = 1};
	p->global = ml_in(reduce, 0)->type.rank == 4 && reduces(reduce, 1, 2);
	if (p->global)
		p->image = ml_in(reduce, 0);
	else if (!find_windowed(reduce, p))
		return false;
	p->image = behind_widening(p->image);
	const ml_dim *dim = p->image->type.dim;
	if (!ml_dim_is_int(dim[1], &p->lines) || !ml_dim_is_int(dim[2], &p->pixels) ||
	    !ml_dim_is_int(dim[3], &p->channels))
		return false;
	if (p->global)
		p->stride = p->reach = p->lines;
	return p->lines > 0 && p->pixels > 0 && p->channels > 0 && p->out_lines > 0 &&
	       p->out_pixels > 0;
}

/* ---- what it takes ---- */

static int64_t
at_most(int64_t a, int64_t b)
{
	return a < b ? a : b;
}

static int64_t
ceil_div(int64_t a, int64_t b)
{
	return (a + b - 1) / b;
}

/* A pass of so many lines of the result. */
static void
set_step(ml_pool *p, int64_t step)
{
	p->step = step;
	p->kept = at_most((step - 1) * p->stride + p->reach, p->lines);
	p->kept_bytes =
		p->kept * p->pixels * p->panels * ML_PANEL * ml_dtype_bytes(p->image->type.dtype);
}

/* As many lines as leave the smallest share of a block of packed rows empty: for each block all
 * weights are read. */
static void
choose_step(ml_pool *p)
{
	int64_t best = 1, line = p->stride * p->pixels, blocks, best_blocks = 0;

	for (int64_t step = 1; step <= p->out_lines; step++) {
		set_step(p, step);
		if (step > 1 && (step * line > PASS_ROWS || p->kept_bytes > MOST_SCRATCH))
			break;
		blocks = ceil_div(step * line, ML_PACKED_ROWS);
		if (step == 1 || blocks * best < best_blocks * step) {
			best = step;
			best_blocks = blocks;
		}
	}
	set_step(p, p->reach > p->stride && best < COPY_STEP ? COPY_STEP : best);
}

/* What an image has of tiles, and a pass of them. */
static void
size_passes(ml_pool *p)
{
	int64_t panels = ceil_div(p->channels, ML_PANEL);

	p->panels = p->global ? at_most(panels, PASS_PANELS) : panels;
	if (p->global) {
		set_step(p, 1);
		p->tiles = ceil_div(panels, ML_GRID_PANELS);
		p->step = PASS_PANELS / ML_GRID_PANELS;
	} else {
		choose_step(p);
		p->tiles = p->out_lines;
	}
}

/* A window of one pixel that moves by one: rows lie in the image as it is. */
static bool
reads_pixels(const ml_node *dot)
{
	const ml_value *v = ml_in(dot, 0);

	if (!ml_is(v, ML_OP_window))
		return false;
	const ml_node *w = v->def;
	for (int i = 0; i < ML_A(w, window, size).count; i++)
		if (ML_A(w, window, size).ints[i] != 1 || ML_A(w, window, stride).ints[i] != 1)
			return false;
	return !ml_is(ml_in(w, 0), ML_OP_pad);
}

bool
ml_pool_pays(const ml_pool *found, const ml_node *dot)
{
	const ml_attr *sum = &ML_A(dot, dot, lhs_contract);
	ml_pool p = *found;
	int64_t k = 1, size;

	if (ML_A(dot, dot, lhs_batch).count || ml_in(dot, 1)->type.rank != sum->count + 1 ||
	    !ml_type_same_shape(&dot->out[0].type, &p.image->type))
		return false;
	for (int i = 0; i < sum->count; i++, k *= size)
		if (!ml_dim_is_int(ml_in(dot, 0)->type.dim[sum->ints[i]], &size))
			return false;
	size_passes(&p);
	if (p.kept_bytes > MOST_SCRATCH)
		return false;
	/* Each tile needs all pixels: windows would be packed anew for each. */
	if (p.global)
		return reads_pixels(dot);
	/* A few lines are no equal shares. */
	int64_t pixels = p.lines * p.pixels * p.channels;
	if (p.out_lines < FEW_LINES && pixels * k > FEW_MACS)
		return false;
	/* Where lines are needed twice, threads that take turns compute some twice: it costs as
	 * much as what is near costs to be read again. */
	return p.reach <= p.stride || pixels * ml_dtype_bytes(p.image->type.dtype) > OVERLAP_BYTES;
}

bool
ml_pool_of(ml_kernel *k, ml_pool *p, ml_dots *d)
{
	for (const ml_node *n = k->m->main->first; n; n = n->next)
		if (n->op >= ML_OP_reduce_sum && n->op <= ML_OP_reduce_max && ml_pool_find(n, p)) {
			size_passes(p);
			return !ml_dots_plan(k, ml_dots_find(k), 0, d);
		}
	return false;
}

/* The image's lines lie behind the packed rows. */
static ml_dim
kept_offset(const ml_dots *d)
{
	ml_dims *dims = d->kernel->m->dims;
	ml_dim line = ml_dim_int(dims, 64);

	return ml_dim_mul(dims, ml_dim_ceildiv(dims, ml_dots_scratch_bytes(d), line), line);
}

void
ml_pool_grid(const ml_pool *p, const ml_dots *d, ml_grid *grid)
{
	ml_dims *dims = d->kernel->m->dims;

	grid->tiles = ml_dim_mul(dims, p->image->type.dim[0], ml_dim_int(dims, p->tiles));
	grid->scratch_bytes = ml_dim_add(dims, kept_offset(d), ml_dim_int(dims, p->kept_bytes));
}

/* ---- code ---- */

typedef struct pool_emit {
	ml_dots_emit w;
	ml_pool p;
	ml_v kept;                    /* [lines, pixels, columns] of the image */
	ml_v first_row, first_column; /* of the contraction, kept there first */
	ml_v number;                  /* of the image */
	ml_v line, count;             /* of the result */
	ml_dim at[4];                 /* the result's index: image, line, pixel, channel */
} pool_emit;

/* The `store` of the contraction. */
static void
keep(void *user, ml_emit *e, ml_v row, ml_v column, ml_v count, ml_v acc)
{
	pool_emit *p = user;
	ml_expr *x = p->w.x;
	ml_dtype t = p->p.image->type.dtype;
	ml_dim index[ML_MAX_RANK];
	int mark = ml_expr_mark(x);

	ml_dots_bind(&p->w, row, column, count, acc, index);
	ml_v v = ml_to_memory(e, t, ml_expr_at(x, p->p.image, index));
	ml_v at = ml_sub(e, ml_add(e, row, p->w.first_row), p->first_row);
	at = ml_add(e, ml_mul(e, at, ml_i64(e, p->p.panels * ML_PANEL)), column);
	at = ml_sub(e, at, p->first_column);
	/* There is room for the lanes that do not exist. */
	ml_store(e, ml_is_vector(v) ? v : ml_splat(e, v),
		 ml_gep(e, ml_memory_type(e, t), p->kept, at), ml_dtype_bytes(t));
	x->count = NULL;
	ml_expr_release(x, mark);
}

/* The result's index in shape t, which differs by dims of size 1. */
static void
place(const pool_emit *p, const ml_type *t, ml_dim *index)
{
	ml_dims *dims = p->w.x->kernel->m->dims;
	ml_dim size[] = {p->p.image->type.dim[0], ml_dim_int(dims, p->p.out_lines),
			 ml_dim_int(dims, p->p.out_pixels), p->p.image->type.dim[3]};
	int next = 0;

	for (int i = 0; i < t->rank; i++) {
		if (ml_dim_equals(t->dim[i], 1)) {
			index[i] = ml_dim_int(dims, 0);
			continue;
		}
		while (next < 3 && ml_dim_equals(size[next], 1))
			next++;
		index[i] = p->at[next++];
	}
}

static void
store_block(pool_emit *p, ml_v block, ml_v count)
{
	ml_expr *x = p->w.x;
	const ml_node *yield = x->kernel->m->main->last;
	ml_v *v = ML_NEW_ARRAY(x->arena, ml_v, yield->nin);
	ml_dim index[ML_MAX_RANK];
	int mark = ml_expr_mark(x);

	ml_expr_set_block(x, block, count);
	for (int i = 0; i < yield->nin; i++) {
		const ml_value *computed = ml_expr_computed(x->kernel, ml_in(yield, i));
		place(p, &computed->type, index);
		v[i] = ml_expr_at(x, computed, index);
	}
	for (int i = 0; i < yield->nin; i++) {
		const ml_value *computed = ml_expr_computed(x->kernel, ml_in(yield, i));
		place(p, &computed->type, index);
		ml_expr_store(x, i, computed, index, v[i]);
	}
	x->count = NULL;
	ml_expr_release(x, mark);
}

static void
store_pixel(pool_emit *p, ml_v panel_begin, ml_v panel_end)
{
	ml_emit *e = p->w.x->e;
	ml_v full = ml_i64(e, p->p.channels / ML_PANEL);
	ml_v tail = ml_i64(e, p->p.channels % ML_PANEL);
	ml_loop b = ml_loop_begin(e, panel_begin, ml_min_s(e, panel_end, full), ml_i64(e, 1), NULL,
				  0, "block");

	store_block(p, b.i, NULL);
	ml_loop_end(e, &b, NULL);
	if (p->p.channels % ML_PANEL == 0)
		return;
	b = ml_loop_begin(e, full, panel_end, ml_i64(e, 1), NULL, 0, "tail");
	store_block(p, b.i, tail);
	ml_loop_end(e, &b, NULL);
}

/* From now on the image is read from where its lines are kept. */
static void
bind_image(pool_emit *p, ml_v first_line)
{
	ml_expr *x = p->w.x;
	ml_emit *e = x->e;
	ml_dims *dims = x->kernel->m->dims;
	int64_t width = p->p.panels * ML_PANEL, line = p->p.pixels * width;
	ml_v before = ml_add(e, ml_mul(e, first_line, ml_i64(e, line)), p->first_column);
	ml_dim bound = ml_dim_int(dims, p->p.lines * line + p->p.channels);
	ml_dim minus = ml_dim_mul(dims, ml_dim_int(dims, -1),
				  ml_dim_sym(dims, ml_expr_loop_var(x, before, bound)));
	ml_dim stride[] = {ml_dim_int(dims, 0), ml_dim_int(dims, line), ml_dim_int(dims, width),
			   ml_dim_int(dims, 1)};

	ml_expr_bind_strided(x, p->p.image, p->kept, stride, minus);
}

static void
emit_pools(pool_emit *p, ml_v first_line, const ml_contract *c)
{
	ml_expr *x = p->w.x;
	ml_emit *e = x->e;
	ml_dims *dims = x->kernel->m->dims;
	ml_dim one = ml_dim_int(dims, 1), n = ml_dim_sub(dims, p->p.image->type.dim[0], one);
	ml_v last = ml_add(e, p->line, p->count);

	bind_image(p, first_line);
	p->at[0] = ml_dim_sym(dims, ml_expr_loop_var(x, p->number, n));
	ml_loop l = ml_loop_begin(e, p->line, last, ml_i64(e, 1), NULL, 0, "line");
	p->at[1] = ml_dim_sym(dims, ml_expr_loop_var(x, l.i, ml_dim_int(dims, p->p.out_lines - 1)));
	ml_loop q = ml_loop_begin(e, ml_i64(e, 0), ml_i64(e, p->p.out_pixels), ml_i64(e, 1), NULL,
				  0, "pixel");
	p->at[2] =
		ml_dim_sym(dims, ml_expr_loop_var(x, q.i, ml_dim_int(dims, p->p.out_pixels - 1)));
	int mark = ml_expr_mark(x);
	p->at[3] = ml_expr_lanes(x, ml_i64(e, 0), p->p.image->type.dim[3]);
	store_pixel(p, c->panel_begin, c->panel_end);
	ml_expr_no_lanes(x);
	ml_expr_release(x, mark);
	ml_loop_end(e, &q, NULL);
	ml_loop_end(e, &l, NULL);
}

/* Rows begin..end-1 of the contraction, in blocks where they must be packed. */
static void
emit_rows(pool_emit *p, const ml_contract *all, ml_v begin, ml_v end)
{
	ml_expr *x = p->w.x;
	ml_emit *e = x->e;
	ml_v block = p->w.d.leaf ? ml_sub(e, end, begin) : ml_i64(e, p->w.d.row_block);
	ml_loop l = ml_loop_begin(e, begin, end, block, NULL, 0, "rows");
	int mark = ml_expr_mark(x);
	ml_contract c = *all;

	c.row_begin = l.i;
	c.row_end = ml_min_s(e, ml_add(e, l.i, block), end);
	ml_dots_place_lhs(&p->w, &c);
	p->w.column = ml_expr_lanes(x, ml_i64(e, 0), p->w.d.n);
	ml_emit_contract(e, &c);
	ml_expr_no_lanes(x);
	ml_expr_release(x, mark);
	ml_loop_end(e, &l, NULL);
}

/* The lines of the image that `count` lines of the result from `line` on need. */
static void
find_lines(const pool_emit *p, ml_v line, ml_v count, ml_v *from, ml_v *to)
{
	ml_emit *e = p->w.x->e;
	ml_v zero = ml_i64(e, 0), stride = ml_i64(e, p->p.stride);
	ml_v end = ml_mul(e, ml_sub(e, count, ml_i64(e, 1)), stride);

	*from = ml_sub(e, ml_mul(e, line, stride), ml_i64(e, p->p.low));
	end = ml_add(e, ml_add(e, *from, end), ml_i64(e, p->p.reach));
	*from = ml_scalar_op(e, ML_OP_max, ML_s64, (ml_v[]){*from, zero});
	*to = ml_min_s(e, end, ml_i64(e, p->p.lines));
}

/* Lines that the pass before has computed are moved to where this one keeps its first; returns the
 * first that is missing.  Each call begins anew: it does not know what lies in its scratch. */
static ml_v
move_lines(pool_emit *p, ml_v is_first, ml_v from)
{
	ml_emit *e = p->w.x->e;
	ml_v step = ml_i64(e, p->p.step), lanes = ml_i64(e, ML_LANES), zero = ml_i64(e, 0);
	ml_v line = ml_i64(e, p->p.pixels * p->p.panels * ML_PANEL), before, end;
	ml_dtype t = p->p.image->type.dtype;
	LLVMTypeRef element = ml_memory_type(e, t);

	if (p->p.reach <= p->p.stride)
		return from;
	find_lines(p, ml_sub(e, p->line, step), step, &before, &end);
	end = ml_scalar_op(e, ML_OP_max, ML_s64, (ml_v[]){end, from});
	end = LLVMBuildSelect(e->b, is_first, from, end, "");
	ml_v offset = ml_mul(e, ml_sub(e, from, before), line);
	ml_loop l = ml_loop_begin(e, zero, ml_mul(e, ml_sub(e, end, from), line), lanes, NULL, 0,
				  "moved");
	ml_v at = ml_gep(e, element, p->kept, ml_add(e, offset, l.i));
	ml_store(e, ml_load(e, ml_vec_type(element), at, ml_dtype_bytes(t)),
		 ml_gep(e, element, p->kept, l.i), ml_dtype_bytes(t));
	ml_loop_end(e, &l, NULL);
	return end;
}

/* What tiles first..first + count - 1 of an image are. */
static void
place_tiles(pool_emit *p, ml_v first, ml_v count, ml_contract *c)
{
	ml_emit *e = p->w.x->e;
	ml_v grid = ml_i64(e, ML_GRID_PANELS);

	p->line = p->p.global ? ml_i64(e, 0) : first;
	p->count = p->p.global ? ml_i64(e, 1) : count;
	if (p->p.global) {
		c->panel_begin = ml_mul(e, first, grid);
		c->panel_end = ml_min_s(e, ml_add(e, c->panel_begin, ml_mul(e, count, grid)),
					c->panel_end);
	}
	p->first_column = ml_mul(e, c->panel_begin, ml_i64(e, ML_PANEL));
}

/* Tiles from `first` on; returns how many. */
static ml_v
emit_pass(pool_emit *p, ml_v first, ml_v end)
{
	ml_expr *x = p->w.x;
	ml_emit *e = x->e;
	ml_v tiles = ml_i64(e, p->p.tiles), pixels = ml_i64(e, p->p.pixels), from, to;
	ml_contract c = {.store = keep, .user = p};

	p->number = first;
	ml_v tile = ml_dots_remainder(e, &p->number, tiles);
	ml_v count = ml_min_s(e, ml_sub(e, end, first), ml_sub(e, tiles, tile));
	count = ml_min_s(e, count, ml_i64(e, p->p.step));
	ml_dots_begin(&p->w, &c, ml_i64(e, 0));
	place_tiles(p, tile, count, &c);
	find_lines(p, p->line, p->count, &from, &to);
	ml_v is_first = LLVMBuildICmp(e->b, LLVMIntEQ, tile, ml_i64(e, 0), "");
	ml_v begins = LLVMBuildICmp(e->b, LLVMIntEQ, first, ml_expr_begin(x), "");
	ml_v missing = move_lines(p, LLVMBuildOr(e->b, is_first, begins, ""), from);
	ml_v image = ml_mul(e, p->number, ml_i64(e, p->p.lines));
	p->first_row = ml_mul(e, ml_add(e, image, from), pixels);
	emit_rows(p, &c, ml_mul(e, ml_add(e, image, missing), pixels),
		  ml_mul(e, ml_add(e, image, to), pixels));
	emit_pools(p, from, &c);
	return count;
}

ml_status
ml_pool_emit(const ml_pool *pool, const ml_dots *d, ml_emit *e, const char *name)
{
	ml_expr x;
	pool_emit p = {.w = {.x = &x, .d = *d}, .p = *pool};

	ml_expr_open(&x, e, d->kernel, name);
	p.kept = ml_gep(e, e->i8, x.scratch, ml_expr_dim(&x, kept_offset(d)));
	ml_loop l = ml_loop_begin(e, ml_expr_begin(&x), ml_expr_end(&x), NULL, NULL, 0, "tiles");
	int mark = ml_expr_mark(&x);
	l.step = emit_pass(&p, l.i, l.to);
	ml_expr_release(&x, mark);
	ml_loop_end(e, &l, NULL);
	return ml_expr_close(&x);
}
