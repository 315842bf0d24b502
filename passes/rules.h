/* rules.h -- the rule engine's side of rewrite rules: what a guard sees of a match.
 *
 * The pattern language itself is public: mlopt/rules.h.
 */
#ifndef ML_RULES_H
#define ML_RULES_H
#include "pass.h"

/* Limits of one rule: nodes matched, and commuting operators whose orders are tried. */
enum { ML_MATCH_NODES = 48, ML_MATCH_COMMUTING = 8 };

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

#define GOT(m, v)      ((m)->at[ML_LET_##v])
#define GOT_ATTR(m, v) ((m)->attr[ML_LET_##v])

/* The constant that v comes to, computed now: what defines it has constant operands.  NULL when it
 * cannot be computed, or v is NULL. */
ml_value *ml_match_fold(ml_match *, ml_value *v);

/* Commuting operators of a rule's pattern: its operand orders are 2 to that power. */
int ml_rule_commuting(const ml_rule *);
#endif
