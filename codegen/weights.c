/* weights.c -- the weights image: constants laid out as kernels want to read them. */
#include "contract.h"
#include "plan.h"
#include <string.h>

enum { ALIGN = 64 };

static bool
same_weight(const ml_weight *a, const ml_weight *b)
{
	return a->form == b->form && a->k == b->k && a->n == b->n && a->k_stride == b->k_stride &&
	       a->n_stride == b->n_stride && a->batches == b->batches &&
	       a->batch_stride == b->batch_stride && a->blob->size == b->blob->size &&
	       (a->blob == b->blob || ml_blob_hash(a->blob) == ml_blob_hash(b->blob));
}

static ml_contract_form
contract_form(ml_weight_form form)
{
	return form == ML_WEIGHT_PANELS_F32 ? ML_CONTRACT_F32 : ML_CONTRACT_U8S8;
}

uint64_t
ml_plan_weight(ml_plan *plan, const ml_weight *w)
{
	ml_weight added = *w;

	for (int i = 0; i < plan->weights.count; i++)
		if (same_weight(&plan->weights.at[i], w))
			return plan->weights.at[i].offset;
	added.bytes = w->form == ML_WEIGHT_PLAIN
			      ? w->blob->size
			      : (uint64_t)w->batches *
					(uint64_t)ml_pack_bytes(contract_form(w->form), w->k, w->n);
	added.offset = plan->weights_bytes;
	plan->weights_bytes += (added.bytes + ALIGN - 1) / ALIGN * ALIGN;
	ML_PUSH(plan->arena, plan->weights, added);
	return added.offset;
}

static void
pack_f32(uint8_t *to, const ml_weight *w)
{
	uint64_t bytes = (uint64_t)ml_pack_bytes(ML_CONTRACT_F32, w->k, w->n);

	for (int64_t b = 0; b < w->batches; b++)
		ml_pack_f32((float *)(void *)(to + (uint64_t)b * bytes),
			    (const char *)w->blob->bytes +
				    b * w->batch_stride * (int64_t)sizeof(float),
			    w->k, w->n, w->k_stride, w->n_stride);
}

static void
pack_s8(uint8_t *to, const ml_weight *w)
{
	uint64_t bytes = (uint64_t)ml_pack_bytes(ML_CONTRACT_U8S8, w->k, w->n);

	for (int64_t b = 0; b < w->batches; b++)
		ml_pack_s8((int8_t *)(to + (uint64_t)b * bytes),
			   (const int8_t *)w->blob->bytes + b * w->batch_stride, w->k, w->n,
			   w->k_stride, w->n_stride);
}

void
ml_write_weights(const ml_plan *plan, uint8_t *image)
{
	uint64_t end = 0;

	for (int i = 0; i < plan->weights.count; i++) {
		const ml_weight *w = &plan->weights.at[i];
		memset(image + end, 0, (size_t)(w->offset - end));
		switch (w->form) {
		case ML_WEIGHT_PLAIN:
			memcpy(image + w->offset, w->blob->bytes, (size_t)w->bytes);
			break;
		case ML_WEIGHT_PANELS_F32: pack_f32(image + w->offset, w); break;
		case ML_WEIGHT_PANELS_S8: pack_s8(image + w->offset, w); break;
		}
		end = w->offset + w->bytes;
	}
	memset(image + end, 0, (size_t)(plan->weights_bytes - end));
}
