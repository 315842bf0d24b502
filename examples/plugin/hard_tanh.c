/* hard_tanh.c -- a plugin with two passes: one is a rewrite rule, the other a C function.
 *
 *   cc -shared -fPIC hard_tanh.c -o hard_tanh.so $(pkg-config --cflags mlopt)
 *   mloptc model.onnx --load-pass-plugin=./hard_tanh.so --passes=hard_tanh --emit=ir
 *
 * The functions it calls are found in libmlopt when mloptc loads it.
 */
#include <mlopt/pass.h>

/* ---- a pass that is a table of rules ---- */

static const ml_rule rules[] = {
	{"tanh_to_clip", /* tanh(x)  ~  max(min(x, 1), -1): two instructions, wrong by up to 0.24 */
	 .lhs = OP(tanh, ANY(x)), .rhs = OP(max, OP(min, ANY(x), NUM(1)), NUM(-1))},
};

static ML_RULE_PASS(hard_tanh, ML_LOSSY, rules, "clip in the place of tanh");

/* ---- a pass that is a function ---- */

/* relu(relu(x)): the outer maximum changes nothing. */
static bool
is_relu(const ml_node *n)
{
	double zero;

	return n && ml_see_op(n) == ML_OP_max && ml_see_number(ml_see_operand(n, 1), &zero) &&
	       zero == 0;
}

static ml_status
drop_second_relu(ml_pass_ctx *px, ml_module *m)
{
	for (ml_node *n = ml_see_first(ml_see_main(m)); n; n = ml_see_next(n)) {
		if (!is_relu(n) || !is_relu(ml_see_definition(ml_see_operand(n, 0))))
			continue;
		ml_make_remark(px, n, "the second of two relus is dropped");
		ml_make_replaced(px, ml_see_result(n, 0), ml_see_operand(n, 0));
	}
	return ML_OK;
}

static ML_PASS(drop_second_relu, ML_EXACT, drop_second_relu, "one relu in the place of two");

/* ---- what mlopt looks for ---- */

static const ml_pass *const passes[] = {&ml_pass_hard_tanh, &ml_pass_drop_second_relu};
static const ml_plugin plugin = {
	.abi = ML_PLUGIN_ABI, .name = "hard_tanh", .passes = passes, .npasses = 2};

const ml_plugin *
ml_plugin_info(void)
{
	return &plugin;
}
