/* merge_equal.c -- nodes that compute the same from the same operands become one.
 *
 * Value numbering within each block: a hash table of pure nodes by operator, operands and
 * attributes.  Constants are equal when they share bytes, or are small and equal.
 */
#include "pass.h"
#include <string.h>

enum { COMPARED_BYTES = 1 << 16 };

typedef struct numbering {
	ml_node **slot;
	size_t size; /* a power of two */
} numbering;

static bool
same_blob(const ml_blob *a, const ml_blob *b)
{
	return a == b || (a->size == b->size &&
			  (a->bytes == b->bytes || (a->size <= COMPARED_BYTES &&
						    !memcmp(a->bytes, b->bytes, (size_t)a->size))));
}

static bool
same_attr(ml_attr_kind kind, const ml_attr *a, const ml_attr *b)
{
	switch (kind) {
	case ML_ATTR_i64: return a->i64 == b->i64;
	case ML_ATTR_f64: return !memcmp(&a->f64, &b->f64, sizeof a->f64);
	case ML_ATTR_str: return !strcmp(a->str, b->str);
	case ML_ATTR_dtype: return a->dtype == b->dtype;
	case ML_ATTR_ints:
		return a->count == b->count &&
		       !memcmp(a->ints, b->ints, (size_t)a->count * sizeof *a->ints);
	case ML_ATTR_dims:
		return a->count == b->count &&
		       !memcmp(a->dims, b->dims, (size_t)a->count * sizeof *a->dims);
	case ML_ATTR_blob: return same_blob(a->blob, b->blob);
	}
	return false;
}

static bool
same_node(const ml_node *a, const ml_node *b)
{
	const ml_op_info *info = ml_op_get(a->op);

	if (a->op != b->op || a->nin != b->nin || a->nout != b->nout ||
	    !ml_type_equal(&a->out[0].type, &b->out[0].type))
		return false;
	for (int i = 0; i < a->nin; i++)
		if (ml_in(a, i) != ml_in(b, i))
			return false;
	for (int i = 0; i < info->nattrs; i++)
		if (!same_attr(info->attr[i].kind, &a->attr[i], &b->attr[i]))
			return false;
	return true;
}

static uint64_t
hash_node(const ml_node *n)
{
	const ml_op_info *info = ml_op_get(n->op);
	uint64_t h = (uint64_t)n->op;

	for (int i = 0; i < n->nin; i++) {
		const ml_value *v = ml_in(n, i);
		h = ml_hash_bytes(&v, sizeof v, h);
	}
	for (int i = 0; i < info->nattrs; i++) {
		const ml_attr *a = &n->attr[i];
		switch (info->attr[i].kind) {
		case ML_ATTR_ints:
			h = ml_hash_bytes(a->ints, (size_t)a->count * sizeof *a->ints, h);
			break;
		case ML_ATTR_dims:
			h = ml_hash_bytes(a->dims, (size_t)a->count * sizeof *a->dims, h);
			break;
		case ML_ATTR_blob:
			h = ml_hash_bytes(&a->blob->size, sizeof a->blob->size, h);
			break;
		case ML_ATTR_str: h = ml_hash_bytes(a->str, strlen(a->str), h); break;
		case ML_ATTR_dtype: h = ml_hash_bytes(&a->dtype, sizeof a->dtype, h); break;
		case ML_ATTR_i64:
		case ML_ATTR_f64: h = ml_hash_bytes(&a->i64, sizeof a->i64, h); break;
		}
	}
	return h;
}

/* The earlier node equal to n, or NULL after entering n. */
static ml_node *
find_or_enter(numbering *t, ml_node *n)
{
	size_t i = (size_t)hash_node(n) & (t->size - 1);

	for (; t->slot[i]; i = (i + 1) & (t->size - 1))
		if (same_node(t->slot[i], n))
			return t->slot[i];
	t->slot[i] = n;
	return NULL;
}

static ml_status
merge_in_block(void *user, ml_block *block)
{
	ml_pass_ctx *px = user;
	numbering t = {.size = 16};
	size_t nodes = 0;

	for (ml_node *n = block->first; n; n = n->next)
		nodes++;
	while (t.size < nodes * 2)
		t.size *= 2;
	t.slot = ML_NEW_ARRAY(px->scratch, ml_node *, t.size);
	for (ml_node *n = block->first, *next; n; n = next) {
		next = n->next;
		if (!(ml_op_get(n->op)->traits & (ML_PURE | ML_CHECKS)) || n->nblocks ||
		    n->nout == 0)
			continue;
		ml_node *same = find_or_enter(&t, n);
		if (!same || !ml_spend_fuel(px))
			continue;
		for (int i = 0; i < n->nout; i++)
			ml_replace_uses(&n->out[i], &same->out[i]);
		if (n->nin) /* a zero of everyone's says nothing about anyone */
			same->prov = ml_prov_merge(&block->module->arena, same->prov, n->prov);
		ml_node_remove(n);
		px->changes++;
	}
	return ML_OK;
}

static ml_status
run(ml_pass_ctx *px, ml_module *m)
{
	return ml_for_each_block(m, merge_in_block, px);
}

ML_PASS(merge_equal, ML_EXACT, run,
	"nodes that compute the same from the same operands become one");
