/* weights.c -- the weights image: constants laid out as kernels want to read them. */
#include "../ir/crew.h"
#include "contract.h"
#include "linear_u4.h"
#include "plan.h"
#include <string.h>

enum { ALIGN = 64 };

static bool
same_weight(const ml_weight *a, const ml_weight *b)
{
	if (a->nk != b->nk)
		return false;
	for (int i = 0; i < a->nk; i++)
		if (a->k_size[i] != b->k_size[i] || a->k_step[i] != b->k_step[i])
			return false;
	return a->form == b->form && a->k == b->k && a->n == b->n && a->n_stride == b->n_stride &&
	       a->batches == b->batches && a->batch_stride == b->batch_stride &&
	       a->blob->size == b->blob->size &&
	       (a->blob == b->blob || ml_blob_hash(a->blob) == ml_blob_hash(b->blob));
}

static ml_contract_form
contract_form(ml_weight_form form)
{
	return form == ML_WEIGHT_PANELS_F32    ? ML_CONTRACT_F32
	       : form == ML_WEIGHT_PANELS_BF16 ? ML_CONTRACT_BF16
					       : ML_CONTRACT_U8S8;
}

static uint64_t
bytes_of(const ml_weight *w)
{
	switch (w->form) {
	case ML_WEIGHT_PLAIN: return w->blob->size;
	case ML_WEIGHT_NIBBLES: return (uint64_t)ml_u4_nibble_bytes(w->k, w->n);
	case ML_WEIGHT_COLUMNS: return (uint64_t)ml_u4_panel_bytes(w->k, w->n, w->element);
	default:
		return (uint64_t)w->batches *
		       (uint64_t)ml_pack_bytes(contract_form(w->form), w->k, w->n);
	}
}

uint64_t
ml_plan_weight(ml_plan *plan, const ml_weight *w)
{
	ml_weight added = *w;

	for (int i = 0; i < plan->weights.count; i++)
		if (same_weight(&plan->weights.at[i], w))
			return plan->weights.at[i].offset;
	added.bytes = bytes_of(w);
	added.offset = plan->weights_bytes;
	plan->weights_bytes += (added.bytes + ALIGN - 1) / ALIGN * ALIGN;
	ML_PUSH(plan->arena, plan->weights, added);
	return added.offset;
}

/* ---- the image ---- */

#define GATHER(bytes)                                                                              \
	case bytes:                                                                                \
		for (; n > 0; n--, to += bytes, from += step * bytes)                              \
			memcpy(to, from, bytes);                                                   \
		break

/* Elements that are `step` apart. */
static char *
gather(char *to, const char *from, int64_t n, int64_t step, int64_t size)
{
	switch (size) {
		GATHER(1);
		GATHER(2);
		GATHER(4);
	}
	return to;
}

/* One batch with its columns as rows of contiguous k: what has several axes of k is brought there
 * first. */
static const char *
columns_of(const ml_weight *w, const char *from, int64_t size, char *columns)
{
	int last = w->nk - 1;
	int64_t run = w->k_size[last];
	char *to = columns;

	for (int64_t j = 0; j < w->n; j++)
		for (int64_t k = 0; k < w->k; k += run) {
			int64_t at = j * w->n_stride, left = k / run;
			for (int i = last; i-- > 0; left /= w->k_size[i])
				at += left % w->k_size[i] * w->k_step[i];
			to = gather(to, from + at * size, run, w->k_step[last], size);
		}
	return columns;
}

/* Bytes that columns_of() needs. */
static int64_t
turned_bytes(const ml_weight *w)
{
	return w->nk > 1 ? w->k * w->n * ml_form_get(contract_form(w->form))->bytes : 0;
}

static void
pack(uint8_t *to, const ml_weight *w, bool pairs, char *scratch)
{
	ml_contract_form form = contract_form(w->form);
	uint64_t bytes = (uint64_t)ml_pack_bytes(form, w->k, w->n);
	int64_t size = ml_form_get(form)->bytes;
	bool turn = w->nk > 1;
	int64_t n_stride = turn ? w->k : w->n_stride;

	for (int64_t b = 0; b < w->batches; b++, to += bytes) {
		const char *from = (const char *)w->blob->bytes + b * w->batch_stride * size;
		if (turn)
			from = columns_of(w, from, size, scratch);
		if (form == ML_CONTRACT_F32)
			ml_pack_f32((float *)(void *)to, from, w->k, w->n, w->k_stride, n_stride);
		else if (form == ML_CONTRACT_BF16)
			ml_pack_bf16((uint16_t *)(void *)to, from, w->k, w->n, w->k_stride,
				     n_stride);
		else
			ml_pack_s8((int8_t *)to, (const int8_t *)from, w->k, w->n, w->k_stride,
				   n_stride);
		if (form == ML_CONTRACT_U8S8 && pairs)
			ml_pack_pairs((int8_t *)to, w->k, w->n);
	}
}

typedef struct writing {
	const ml_plan *plan;
	bool pairs;
	uint8_t *image;
	char **scratch; /* of each worker */
} writing;

/* One weight, and the zeros behind it. */
static void
write_weight(void *user, int worker, int64_t i)
{
	const writing *t = user;
	const ml_plan *plan = t->plan;
	const ml_weight *w = &plan->weights.at[i];
	uint8_t *to = t->image + w->offset;
	bool last = i + 1 == plan->weights.count;
	uint64_t end = last ? plan->weights_bytes : w[1].offset;

	if (w->form == ML_WEIGHT_PLAIN)
		memcpy(to, w->blob->bytes, (size_t)w->bytes);
	else if (w->form == ML_WEIGHT_NIBBLES)
		ml_u4_pack_nibbles(to, w->blob->bytes, w->k, w->n);
	else if (w->form == ML_WEIGHT_COLUMNS)
		ml_u4_pack(to, w->blob->bytes, w->k, w->n, w->element);
	else
		pack(to, w, t->pairs, t->scratch[worker]);
	memset(to + w->bytes, 0, (size_t)(end - w->offset - w->bytes));
	ml_blob_rest(w->blob);
}

void
ml_write_weights(const ml_plan *plan, bool pairs, int workers, uint8_t *image)
{
	ml_crew crew = {.workers = workers};
	int64_t bytes = 0;
	writing t = {.plan = plan, .pairs = pairs, .image = image};

	workers = ml_crew_size(&crew, plan->weights.count);
	for (int i = 0; i < plan->weights.count; i++) {
		int64_t turned = turned_bytes(&plan->weights.at[i]);
		bytes = turned > bytes ? turned : bytes;
	}
	t.scratch = ML_NEW_ARRAY(plan->arena, char *, workers);
	for (int i = 0; i < workers; i++)
		t.scratch[i] = ml_alloc(plan->arena, (size_t)bytes);
	ml_crew_do(&crew, plan->weights.count, write_weight, &t);
}
