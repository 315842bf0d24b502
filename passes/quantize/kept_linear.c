/* kept_linear.c -- plans of linear layers, kept for later compilations of the same module: where
 * inputs are made up, they depend on nothing else.  Where there are none at all, planning takes no
 * longer than finding would. */
#include "../../ir/crew.h"
#include "../known.h"
#include "linear.h"
#include <string.h>

/* Of each layer, followed by the arrays of its plan. */
typedef struct layer_head {
	double alpha;
	int64_t has[2]; /* factors, a bias */
} layer_head;

/* The arrays in their order, NULL where the layer has none. */
typedef struct layer_array {
	ml_blob **blob;
	size_t bytes;
} layer_array;
enum { ARRAYS = 5 };

static void
arrays_of(ml_planned *l, const layer_head *h, layer_array a[ARRAYS])
{
	size_t rows = (size_t)l->rows, columns = (size_t)l->columns;
	ml_linear_plan *p = &l->plan;

	a[0] = (layer_array){&p->q.values, rows * columns};
	a[1] = (layer_array){&p->q.scales, columns * sizeof(float)};
	a[2] = (layer_array){&p->q.sums, columns * sizeof(int32_t)};
	a[3] = (layer_array){h->has[0] ? &p->factor : NULL, rows * sizeof(float)};
	a[4] = (layer_array){h->has[1] ? &p->bias : NULL, columns * sizeof(float)};
}

static void
hash_blob(void *user, int worker, int64_t i)
{
	const ml_module *m = user;

	(void)worker;
	ml_blob_hash(m->blobs.at[i]); /* which is printed for the bytes */
	ml_blob_rest(m->blobs.at[i]);
}

ml_bytes
ml_planned_key(const ml_pass_ctx *px, ml_module *m)
{
	ml_text t;

	if (!px->results || !px->guess || ml_is_calibrated(px))
		return (ml_bytes){0};
	ml_text_init(&t, px->scratch);
	ml_put(&t, "linear\n");
	ml_crew_do(&(ml_crew){.workers = px->workers}, m->blobs.count, hash_blob, m);
	ml_print(&t, m);
	return (ml_bytes){t.at, t.length};
}

/* ---- reading ---- */

static bool
take_layer(ml_module *m, ml_planned *l, ml_bytes *r)
{
	layer_array a[ARRAYS];
	layer_head h;

	if (!ml_take(r, &h, sizeof h))
		return false;
	l->alpha = h.alpha;
	arrays_of(l, &h, a);
	for (int k = 0; k < ARRAYS; k++) {
		void *bytes;
		if (!a[k].blob)
			continue;
		if (a[k].bytes > r->size)
			return false;
		*a[k].blob = ml_blob_new(&m->cx->memory, a[k].bytes, &bytes);
		ML_PUSH(&m->arena, m->blobs, *a[k].blob);
		ml_take(r, bytes, a[k].bytes);
	}
	return true;
}

bool
ml_find_planned(ml_pass_ctx *px, ml_module *m, ml_bytes key, ml_planned_list *list)
{
	ml_bytes body = {0};
	bool found = key.size && px->results->find(px->results->user, key, &body);

	for (int i = 0; i < list->count && found; i++)
		found = take_layer(m, &list->at[i], &body);
	found &= !body.size;
	for (int i = 0; i < list->count && !found; i++)
		list->at[i].plan = (ml_linear_plan){0};
	return found;
}

/* ---- writing ---- */

static layer_head
head_of(const ml_planned *l)
{
	return (layer_head){l->alpha, {l->plan.factor != NULL, l->plan.bias != NULL}};
}

static size_t
size_of(ml_planned *l)
{
	layer_head h = head_of(l);
	layer_array a[ARRAYS];
	size_t size = sizeof h;

	arrays_of(l, &h, a);
	for (int k = 0; k < ARRAYS; k++)
		size += a[k].blob ? a[k].bytes : 0;
	return size;
}

static char *
put_layer(ml_planned *l, char *to)
{
	layer_head h = head_of(l);
	layer_array a[ARRAYS];

	arrays_of(l, &h, a);
	memcpy(to, &h, sizeof h);
	to += sizeof h;
	for (int k = 0; k < ARRAYS; k++)
		if (a[k].blob) {
			memcpy(to, (*a[k].blob)->bytes, a[k].bytes);
			to += a[k].bytes;
		}
	return to;
}

void
ml_keep_planned(ml_pass_ctx *px, ml_bytes key, const ml_planned_list *list)
{
	ml_arena arena;
	size_t size = 0;

	if (!key.size)
		return;
	ml_arena_init(&arena, &px->cx->memory);
	for (int i = 0; i < list->count; i++)
		size += size_of(&list->at[i]);
	char *body = ml_alloc(&arena, size), *at = body;
	for (int i = 0; i < list->count; i++)
		at = put_layer(&list->at[i], at);
	px->results->keep(px->results->user, key, (ml_bytes){body, size});
	ml_arena_free(&arena);
}
