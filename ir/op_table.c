/* op_table.c -- ops.def as a table. */
#include "ir.h"
#include <string.h>

/* All attributes in slot order; the slot before an operator's first attribute stays empty. */
static const ml_attr_info attrs[] = {
#define ML_OP(no, op, in, out, cls, traits) {0},
#define ML_ATTR(op, type, attr, value)      {#attr, ML_ATTR_##type, {.type = value}},
#include "ops.def"
};

#define MIN_IN(in) ((in) == ML_ANY ? 0 : (in) & 0xff)
#define MAX_IN(in) ((in) == ML_ANY ? ML_ANY : (in) >> 8 ? (in) >> 8 : (in))

/* Each attribute row overrides the count of its operator, so that the last one decides. */
#pragma GCC diagnostic ignored "-Woverride-init"
static const ml_op_info ops[ML_OP_LIMIT] = {
#define ML_OP(no, op, in, out, cls, traits)                                                        \
	[no] = {#op, MIN_IN(in), MAX_IN(in), out, ML_##cls, traits, 0, &attrs[ML_SLOTS_##op] + 1},
#define ML_ATTR(op, type, attr, value) [ML_OP_##op].nattrs = ML_ATTR_SLOT(op, attr) + 1,
#include "ops.def"
};

const ml_op_info *
ml_op_get(ml_op op)
{
	return &ops[op];
}

ml_op
ml_op_named(const char *name, size_t length)
{
	for (int i = 0; i < ML_OP_LIMIT; i++)
		if (ops[i].name && strlen(ops[i].name) == length &&
		    !memcmp(ops[i].name, name, length))
			return (ml_op)i;
	return ML_OP_none;
}
