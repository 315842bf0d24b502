/* drop_dead.c -- removes nodes whose results nobody reads. */
#include "pass.h"

static ml_status
drop_in_block(void *user, ml_block *block)
{
	ml_pass_ctx *px = user;

	px->changes += ml_drop_unused(block);
	return ML_OK;
}

static ml_status
run(ml_pass_ctx *px, ml_module *m)
{
	return ml_for_each_block(m, drop_in_block, px);
}

ML_PASS(drop_dead, ML_EXACT, run, "remove nodes whose results nobody reads");
