/* quantize_bf16.c -- layers multiply bf16: their constant weights, and what they read, rounded.
 *
 * Both are widened again at once, so that all else is a layer of f32 as before; what multiplies
 * them sees through that (codegen/narrow_dots.c), and sums in f32.
 */
#include "layers.h"
#include <string.h>

/* Convolutions of one channel are sums of shifted products, bound by what they read. */
static bool
is_depthwise(const ml_node *n)
{
	return n->op == ML_OP_conv && ML_A(n, conv, groups).i64 > 1 &&
	       ml_dim_equals(ml_in(n, 1)->type.dim[1], 1);
}

/* To nearest, half to even; NaN stays NaN. */
static uint16_t
rounded(uint32_t bits)
{
	if ((bits & 0x7fffffff) > 0x7f800000)
		return (uint16_t)(bits >> 16 | 0x40);
	return (uint16_t)((bits + 0x7fff + (bits >> 16 & 1)) >> 16);
}

static ml_value *
rounded_weights(ml_pass_ctx *px, ml_builder *b, const ml_value *w)
{
	const char *from = ml_const_blob(w)->bytes;
	ml_type t = w->type;
	int64_t count = 0;
	void *to;

	ml_type_static_count(&t, &count);
	t.dtype = ML_bf16;
	ml_blob *blob = ml_blob_new(&px->cx->memory, (uint64_t)count * sizeof(uint16_t), &to);
	for (int64_t i = 0; i < count; i++) {
		uint32_t bits;
		memcpy(&bits, from + i * (int64_t)sizeof bits, sizeof bits);
		((uint16_t *)to)[i] = rounded(bits);
	}
	return ml_build_const(b, &t, blob);
}

static bool
quantize_layer(ml_pass_ctx *px, ml_node *n)
{
	ml_builder b = ml_builder_before(n);
	ml_value *x = ml_build_cast(&b, ml_in(n, 0), ML_bf16);
	ml_value *w = rounded_weights(px, &b, ml_in(n, 1));

	x = ml_build_cast(&b, x, ML_f32);
	w = ml_build_cast(&b, w, ML_f32);
	if (!x || !w)
		return false;
	ml_set_operand(n, 0, x);
	ml_set_operand(n, 1, w);
	return true;
}

static ml_status
quantize_block(void *user, ml_block *block)
{
	ml_pass_ctx *px = user;

	for (ml_node *n = block->first; n && *px->fuel > 0; n = n->next) {
		if (!ml_is_layer(n))
			continue;
		if (is_depthwise(n)) {
			ml_remark(px->cx, n->prov, "kept in fp32: it has one channel per group");
			continue;
		}
		if (!quantize_layer(px, n))
			return ML_ERR_PASS;
		ml_spend_fuel(px);
		ml_remark(px->cx, n->prov, "rounded: bf16 weights and activations");
		px->changes++;
	}
	ml_drop_unused(block);
	return ML_OK;
}

static ml_status
run(ml_pass_ctx *px, ml_module *m)
{
	return ml_for_each_block(m, quantize_block, px);
}

ML_PASS(quantize_bf16, ML_LOSSY, run, "layers on bf16 weights and activations, summed in f32");
