/* moments.c -- second moments of values: rows of them are piled up over samples, and a compiled
 * product makes x'x of each pile, so that short samples cost no more than long ones.
 *
 * A pile lies in blocks of columns, and a product is that of two blocks: one piece of code serves
 * values of all widths, and those right of the diagonal are not computed.
 */
#include "moments.h"
#include "../samples.h"
#include <math.h>
#include <string.h>

enum {
	PILE = 1024, /* rows */
	BLOCK = ML_TRIANGLE_BLOCK
};

/* Rows of one value, of those to come zeros. */
typedef struct pile {
	float *at; /* [blocks][PILE][width], of columns that there are not zeros */
	int64_t rows, blocks, width;
	ml_runnable *product; /* shared by values of the same width of blocks */
} pile;

typedef struct collection {
	ml_pass_ctx *px;
	ml_module *m;
	ml_moments *at;
	pile *pile;
	int n;
	float *row; /* of the widest value */
	ml_runnable *runnable;
	ml_tensor *in, *out;
} collection;

/* ---- rows in a pile ---- */

static void
open_pile(const collection *c, int i)
{
	pile *p = &c->pile[i];
	int64_t k = c->at[i].k;

	p->width = k < BLOCK ? k : BLOCK;
	p->blocks = (k + p->width - 1) / p->width;
	p->at = ML_NEW_ARRAY(c->px->scratch, float, p->blocks *PILE * p->width);
}

static float *
part_of_row(const pile *p, int64_t row, int64_t block)
{
	return p->at + (block * PILE + row) * p->width;
}

static int64_t
columns_of_block(const pile *p, int64_t k, int64_t block)
{
	int64_t left = k - block * p->width;

	return left < p->width ? left : p->width;
}

static void
put_row(const pile *p, int64_t row, const float *from, int64_t k)
{
	for (int64_t b = 0; b < p->blocks; b++)
		memcpy(part_of_row(p, row, b), from + b * p->width,
		       (size_t)columns_of_block(p, k, b) * sizeof *from);
}

static void
get_row(const pile *p, int64_t row, float *to, int64_t k)
{
	for (int64_t b = 0; b < p->blocks; b++)
		memcpy(to + b * p->width, part_of_row(p, row, b),
		       (size_t)columns_of_block(p, k, b) * sizeof *to);
}

/* ---- x'x of a pile ---- */

static ml_status
build_product(ml_module *m, int64_t width)
{
	const int64_t rows = 0;
	ml_type t = {.dtype = ML_f32, .rank = 2};

	t.dim[0] = ml_dim_int(m->dims, PILE);
	t.dim[1] = ml_dim_int(m->dims, width);
	ml_value *x = ml_block_add_arg(m->main, &t, "x");
	ml_value *y = ml_block_add_arg(m->main, &t, "y");
	ml_builder b = ml_builder_at_end(m->main, NULL);
	ml_value *sum = ml_build_dot(&b, x, y, NULL, NULL, 0, &rows, &rows, 1);
	ML_PUSH(&m->arena, m->output_names, "sum");
	return ml_build_yield(&b, &sum, 1);
}

static ml_status
compile_product(collection *c, int i)
{
	const ml_exec *exec = c->px->exec;

	for (int k = 0; k < i; k++)
		if (c->pile[k].width == c->pile[i].width) {
			c->pile[i].product = c->pile[k].product;
			return ML_OK;
		}
	ml_module *m = ml_module_new(c->px->cx, "product");
	ml_status status = build_product(m, c->pile[i].width);
	if (status == ML_OK)
		status = exec->compile(exec->user, m, &c->pile[i].product);
	ml_module_free(m);
	return status;
}

/* The first pile is drawn from, evenly: it has rows of several samples. */
static void
look_at_rows(ml_moments *m, const pile *p, float *row)
{
	int64_t step = p->rows / ML_MOMENTS_DRAWN > 1 ? p->rows / ML_MOMENTS_DRAWN : 1;

	for (int64_t r = 0; r < p->rows; r++) {
		get_row(p, r, row, m->k);
		for (int64_t j = 0; j < m->k; j++)
			m->magnitude[j] += fabs((double)row[j]);
	}
	for (int64_t r = 0; r < p->rows && !m->rows && m->drawn < ML_MOMENTS_DRAWN; r += step)
		get_row(p, r, m->row + m->drawn++ * m->k, m->k);
}

static void
add_sums(ml_moments *m, const pile *p)
{
	for (int64_t r = 0; r < p->rows; r++)
		for (int64_t b = 0; b < p->blocks; b++) {
			const float *x = part_of_row(p, r, b);
			double *sum = m->sum + b * p->width;
			for (int64_t j = 0; j < columns_of_block(p, m->k, b); j++)
				sum[j] += (double)x[j];
		}
}

static ml_status
add_products(const collection *c, int i)
{
	const ml_exec *exec = c->px->exec;
	const pile *p = &c->pile[i];
	size_t bytes = (size_t)(PILE * p->width) * sizeof(float);

	for (int64_t high = 0; high < p->blocks; high++)
		for (int64_t low = 0; low <= high; low++) {
			ml_tensor in[] = {{ML_f32, 2, {PILE, p->width}, NULL, bytes},
					  {ML_f32, 2, {PILE, p->width}, NULL, bytes}};
			ml_tensor out = {.data = NULL};
			in[0].data = part_of_row(p, 0, high);
			in[1].data = part_of_row(p, 0, low);
			ML_STEP(exec->run_into(exec->user, p->product, in, &out));
			ml_triangle_add_block(c->at[i].h, high * p->width,
					      columns_of_block(p, c->at[i].k, high), low * p->width,
					      p->width, out.data);
		}
	return ML_OK;
}

static ml_status
add_pile(collection *c, int i)
{
	pile *p = &c->pile[i];

	if (!p->rows)
		return ML_OK;
	for (int64_t b = 0; b < p->blocks; b++)
		memset(part_of_row(p, p->rows, b), 0,
		       (size_t)((PILE - p->rows) * p->width) * sizeof *p->at);
	if (c->at[i].sum)
		add_sums(&c->at[i], p);
	if (c->at[i].magnitude && c->at[i].row)
		look_at_rows(&c->at[i], p, c->row);
	c->at[i].rows += p->rows;
	p->rows = 0;
	return add_products(c, i);
}

/* ---- samples ---- */

/* The copy's results become the values. */
static ml_status
compile(collection *c)
{
	const ml_exec *exec = c->px->exec;
	ml_module *copy = ml_module_clone(c->m);
	ml_value **x = ML_NEW_ARRAY(c->px->scratch, ml_value *, c->n);

	for (int i = 0; i < c->n; i++)
		x[i] = c->at[i].value;
	ml_values_in(copy, x, c->n, x, c->px->scratch);
	ml_status status = ml_module_set_outputs(copy, x, c->n);
	ml_drop_unused(copy->main);
	if (status == ML_OK)
		status = exec->compile(exec->user, copy, &c->runnable);
	ml_module_free(copy);
	return status;
}

static ml_status
pile_up(collection *c, int i, int64_t rows)
{
	int64_t k = c->at[i].k;
	pile *p = &c->pile[i];

	for (int64_t r = 0; r < rows; r++) {
		put_row(p, p->rows++, (const float *)c->out[i].data + r * k, k);
		if (p->rows == PILE)
			ML_STEP(add_pile(c, i));
	}
	return ML_OK;
}

static ml_status
run_sample(collection *c, int64_t *left)
{
	const ml_exec *exec = c->px->exec;
	int64_t rows = 0;

	for (int i = 0; i < c->n; i++)
		c->out[i].data = NULL;
	ML_STEP(exec->run_into(exec->user, c->runnable, c->in, c->out));
	for (int i = 0; i < c->n; i++) {
		rows = (int64_t)(c->out[i].bytes / sizeof(float)) / c->at[i].k;
		ML_STEP(pile_up(c, i, rows));
	}
	*left -= rows;
	return ML_OK;
}

static ml_status
run_samples(collection *c, int64_t rows)
{
	const ml_data *data = c->px->data;
	bool there = true;

	for (int64_t i = 0; there && rows > 0; i++) {
		ML_STEP(data->sample(data->user, c->m, i, c->in, &there));
		if (there && !ml_is_judged(i))
			ML_STEP(run_sample(c, &rows));
	}
	for (int i = 0; i < c->n; i++)
		ML_STEP(add_pile(c, i));
	return ML_OK;
}

static void
free_products(const collection *c)
{
	for (int i = 0; i < c->n; i++) {
		bool shared = false;
		for (int k = 0; k < i; k++)
			shared |= c->pile[k].product == c->pile[i].product;
		if (!shared && c->pile[i].product)
			c->px->exec->free(c->px->exec->user, c->pile[i].product);
	}
}

static ml_status
collect(collection *c, int64_t rows)
{
	int64_t widest = 0;

	for (int i = 0; i < c->n; i++) {
		open_pile(c, i);
		ML_STEP(compile_product(c, i));
		widest = c->at[i].k > widest ? c->at[i].k : widest;
	}
	c->row = ML_NEW_ARRAY(c->px->scratch, float, widest + 1);
	ML_STEP(compile(c));
	ml_status status = run_samples(c, rows);
	c->px->exec->free(c->px->exec->user, c->runnable);
	return status;
}

ml_status
ml_second_moments(ml_pass_ctx *px, ml_module *m, ml_moments *at, int n, int64_t rows)
{
	collection c = {.px = px, .m = m, .at = at, .n = n};

	if (!px->exec || !px->data)
		return ml_error(px->cx, ML_ERR_ARG, NULL, "this needs calibration data");
	c.in = ML_NEW_ARRAY(px->scratch, ml_tensor, m->main->nargs + 1);
	c.out = ML_NEW_ARRAY(px->scratch, ml_tensor, n + 1);
	c.pile = ML_NEW_ARRAY(px->scratch, pile, n + 1);
	ml_status status = collect(&c, rows);
	free_products(&c);
	return status;
}
