/* rules.h -- the pattern language of rewrite rules, for plugins and for the compiler itself.
 *
 * A rule is a row: a name, its law in a comment, a pattern, a replacement, perhaps a guard.
 *
 *   {"linear_bias",                     // x.W + b  =>  linear(x, W, b)
 *    .lhs = OP(add, AS(d, OP(dot, ANY(x), CST(w))), CST(b)),
 *    .rhs = OP(linear, ANY(x), CST(w), CST(b)),
 *    .when = is_plain_matmul},
 *
 * ANY(x) captures a value; the same letter again must be the same value.  AS(d, p) names an inner
 * value (refer to it as ANY(d)).  ATTRS captures attributes in patterns and sets them in
 * replacements.  The engine guarantees: inner values are used only inside the match (unless the
 * rule says `shared`), commuting operators match both ways, the new value has the old one's type,
 * provenance is merged, every firing costs one unit of fuel.
 */
#ifndef MLOPT_RULES_H
#define MLOPT_RULES_H
#include "mlopt/ir.h"

#ifdef __cplusplus
extern "C" {
#endif

/* Capture letters. */
enum {
	ML_LET_a = 1,
	ML_LET_b,
	ML_LET_c,
	ML_LET_d,
	ML_LET_e,
	ML_LET_f,
	ML_LET_g,
	ML_LET_h,
	ML_LET_i,
	ML_LET_j,
	ML_LET_k,
	ML_LET_l,
	ML_LET_m,
	ML_LET_n,
	ML_LET_o,
	ML_LET_p,
	ML_LET_q,
	ML_LET_r,
	ML_LET_s,
	ML_LET_t,
	ML_LET_u,
	ML_LET_v,
	ML_LET_w,
	ML_LET_x,
	ML_LET_y,
	ML_LET_z,
	ML_LETTERS
};

enum { ML_PATTERN_ARGS = 7, ML_PATTERN_ATTRS = 6 };

typedef enum ml_pattern_kind { ML_PAT_ANY = 1, ML_PAT_CST, ML_PAT_NUM, ML_PAT_OP } ml_pattern_kind;

typedef struct ml_pattern ml_pattern;
struct ml_pattern {
	ml_pattern_kind kind;
	int letter; /* ANY, CST: captures; OP: names the value when not 0 */
	ml_op op;
	double number;
	struct {
		int slot;   /* attribute of op, plus one; 0 ends the list */
		int letter; /* captured into, or set from */
	} attr[ML_PATTERN_ATTRS];
	const ml_pattern *arg[ML_PATTERN_ARGS];
};

#define ANY(v) (&(const ml_pattern){.kind = ML_PAT_ANY, .letter = ML_LET_##v})
/* A constant tensor. */
#define CST(v) (&(const ml_pattern){.kind = ML_PAT_CST, .letter = ML_LET_##v})
/* A constant whose elements all equal c: exactly when c is a multiple of 1/2, else within a
 * relative 1e-5, as exporters write few digits.  In a replacement: a scalar of the root's dtype. */
#define NUM(c)     (&(const ml_pattern){.kind = ML_PAT_NUM, .number = (c)})
#define OP(o, ...) (&(const ml_pattern){.kind = ML_PAT_OP, .op = ML_OP_##o, .arg = {__VA_ARGS__}})
/* OP with a name for its value. */
#define AS(v, o, ...)                                                                              \
	(&(const ml_pattern){                                                                      \
		.kind = ML_PAT_OP, .letter = ML_LET_##v, .op = ML_OP_##o, .arg = {__VA_ARGS__}})
/* OP with attributes: OPA(softmax, ATTRS(ATTR(softmax, axis, a)), ANY(x)). */
#define OPA(o, attrs, ...)                                                                         \
	(&(const ml_pattern){                                                                      \
		.kind = ML_PAT_OP, .op = ML_OP_##o, .attr = attrs, .arg = {__VA_ARGS__}})
#define ATTRS(...)       {__VA_ARGS__}
#define ATTR(o, name, v) {ML_ATTR_SLOT(o, name) + 1, ML_LET_##v}
/* A match while a guard looks at it. */
typedef struct ml_match ml_match;
/* What a letter captured; NULL when it captured nothing. */
ML_API ml_value *ml_match_value(const ml_match *, int letter);

typedef struct ml_rule ml_rule;
struct ml_rule {
	const char *name;
	const ml_pattern *lhs, *rhs;
	/* Facts a pattern cannot state; may compute attributes and constants for the replacement.
	 */
	bool (*when)(ml_match *);
	bool shared; /* inner values may have other users: they stay for those */
};

#ifdef __cplusplus
}
#endif
#endif
