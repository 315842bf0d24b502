/* rules.h -- the rule engine's side of rewrite rules: what a guard sees of a match.
 *
 * The pattern language itself is public: mlopt/rules.h.
 */
#ifndef ML_RULES_H
#define ML_RULES_H
#include "pass.h"

enum { ML_MATCH_NODES = 48 };

/* What a match found, and what a guard may add for the replacement. */
struct ml_match {
	ml_builder *b; /* before the root; guards may build constants with it */
	ml_pass_ctx *px;
	ml_node *root;
	ml_value *at[ML_LETTERS];      /* captured values */
	ml_attr attr[ML_LETTERS];      /* captured attributes */
	ml_node *node[ML_MATCH_NODES]; /* matched nodes, root first */
	int nnodes;
	const char *why; /* a guard that refuses may say why: a remark */
};

#define GOT(m, v)        ((m)->at[ML_LET_##v])
#define GOT_ATTR(m, v)   ((m)->attr[ML_LET_##v])
#endif
