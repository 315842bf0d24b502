/* student.c -- a plugin with a score for pruning and a loss for distillation.
 *
 *   cc -shared -fPIC student.c -o student.so $(pkg-config --cflags mlopt)
 *   mloptc model.onnx --load-pass-plugin=./student.so --calib=inputs.npz \
 *          --prune=2 --prune-score=late_and_large --distill --distill-loss=log_cosh
 */
#include <mlopt/pass.h>

/* ---- which parts matter ---- */

/* What is lost without a part, for each of its weights: large parts that do little go first. */
static double
late_and_large(void *user, const ml_prune_part *part)
{
	(void)user;
	return part->loss / (double)(part->parameters + 1) / (1 + part->layer);
}

static const ml_score scores[] = {
	{"late_and_large", "loss for each weight, later layers sooner", late_and_large, NULL},
};

/* ---- what training makes small ---- */

/* The mean of log(cosh(teacher - student)): squares near 0, absolute values far from it. */
static ml_value *
log_cosh(void *user, ml_pass_ctx *px, ml_node *before, ml_value *teacher, ml_value *student)
{
	ml_value *d = ml_make_node(px, before, ML_OP_sub, (ml_value *[]){teacher, student}, 2);
	ml_value *cosh = ml_make_node(px, before, ML_OP_cosh, &d, 1);
	ml_value *log = ml_make_node(px, before, ML_OP_log, &cosh, 1);

	(void)user;
	return ml_make_mean(px, before, log);
}

static const ml_loss losses[] = {
	{"log_cosh", "squares of small differences, size of large ones", log_cosh, NULL},
};

/* ---- what mlopt looks for ---- */

static const ml_plugin plugin = {.abi = ML_PLUGIN_ABI,
				 .name = "student",
				 .scores = scores,
				 .nscores = sizeof scores / sizeof *scores,
				 .losses = losses,
				 .nlosses = sizeof losses / sizeof *losses};

const ml_plugin *
ml_plugin_info(void)
{
	return &plugin;
}
