/* test_verify.c -- every invariant of verify.c, broken by hand, is found and named. */
#include "harness_text.h"
#include <stdio.h>
#include <string.h>

static const char sound[] = "module \"m\" {\n"
			    "  sym s\n"
			    "  sym t\n"
			    "  guard s == t \"sizes must be equal to broadcast\"\n"
			    "  in %0 \"x\" : f32[s]\n"
			    "  in %1 \"y\" : f32[t]\n"
			    "  in %2 \"c\" : bool[]\n"
			    "  in %3 \"n\" : s64[]\n"
			    "  %4 = add %0, %1 : f32[s]\n"
			    "  %5 = neg %4 : f32[s]\n"
			    "  %6 = const {1, 2} : s64[2]\n"
			    "  %7 = reduce_sum %5 {axes = [0]} : f32[1]\n"
			    "  %8 = if %2, %5 (%9 : f32[s]) {\n"
			    "    %10 = neg %9 : f32[s]\n"
			    "    yield %10\n"
			    "  } (%11 : f32[s]) {\n"
			    "    yield %11\n"
			    "  } : f32[s]\n"
			    "  %12 = loop %3, %2, %7 {carried = 1} (%13 : s64[], %14 : f32[1]) {\n"
			    "    %15 = const {true} : bool[]\n"
			    "    yield %15, %14\n"
			    "  } : f32[1]\n"
			    "  %16 = gelu %8 {form = \"tanh\"} : f32[s]\n"
			    "  out \"z\" = %16\n"
			    "  out \"w\" = %12\n"
			    "  out \"k\" = %6\n"
			    "}\n";

/* Breaks the module and tells which invariant. */
typedef int breakage(ml_module *);

static int
first_without_prev_link(ml_module *m)
{
	m->main->first->next->prev = NULL;
	return 1;
}

static int
wrong_last(ml_module *m)
{
	m->main->last = m->main->last->prev;
	return 1;
}

static int
node_of_another_block(ml_module *m)
{
	text_node(m, ML_OP_neg)->block = text_node(m, ML_OP_if)->body[0];
	return 1;
}

static int
body_of_another_owner(ml_module *m)
{
	text_node(m, ML_OP_if)->body[1]->owner = text_node(m, ML_OP_loop);
	return 1;
}

static int
no_yield(ml_module *m)
{
	ml_node_remove(m->main->last);
	return 2;
}

static int
yield_in_the_middle(ml_module *m)
{
	ml_node_move_before(m->main->last, text_node(m, ML_OP_gelu));
	return 2;
}

static int
id_taken(ml_module *m)
{
	text_node(m, ML_OP_neg)->id = text_node(m, ML_OP_add)->id;
	return 3;
}

static int
id_too_large(ml_module *m)
{
	text_node(m, ML_OP_neg)->id = m->next_id;
	return 3;
}

static int
circle(ml_module *m)
{
	ml_node *n = text_node(m, ML_OP_neg);

	m->main->last->next = n;
	n->prev = m->main->last;
	return 0; /* whichever is met first */
}

static int
unknown_operator(ml_module *m)
{
	text_node(m, ML_OP_neg)->op = (ml_op)255;
	return 4;
}

static int
too_few_operands(ml_module *m)
{
	text_node(m, ML_OP_add)->op = ML_OP_select;
	return 4;
}

static int
missing_operand(ml_module *m)
{
	text_node(m, ML_OP_add)->in[1].value = NULL;
	return 4;
}

static int
use_before_definition(ml_module *m)
{
	ml_node_move_before(text_node(m, ML_OP_neg), text_node(m, ML_OP_add));
	return 5;
}

static int
value_of_another_block(ml_module *m)
{
	ml_node *n = text_node(m, ML_OP_if)->body[0]->first;

	ml_set_operand(n, 0, &text_node(m, ML_OP_add)->out[0]);
	return 5;
}

static int
value_of_a_body(ml_module *m)
{
	ml_node *n = text_node(m, ML_OP_if);

	ml_set_operand(text_node(m, ML_OP_gelu), 0, &n->body[0]->first->out[0]);
	return 5;
}

static int
use_not_listed(ml_module *m)
{
	text_node(m, ML_OP_neg)->in[0].value = m->main->arg[0];
	return 6;
}

static int
use_of_a_removed_node(ml_module *m)
{
	ml_builder b = ml_builder_before(m->main->last);
	ml_node *n = ml_op1(&b, ML_OP_neg, m->main->arg[0])->def;

	/* Out of the list, but its operand remains registered. */
	n->prev->next = n->next;
	n->next->prev = n->prev;
	return 6;
}

static int
result_of_another_node(ml_module *m)
{
	text_node(m, ML_OP_neg)->out[0].index = 1;
	return 7;
}

static int
argument_of_another_block(ml_module *m)
{
	m->main->arg[1]->index = 0;
	return 7;
}

static int
output_without_name(ml_module *m)
{
	m->output_names.count--;
	return 8;
}

static int
no_element_type(ml_module *m)
{
	m->main->arg[0]->type.dtype = (ml_dtype)77;
	return 9;
}

static int
poison_dim(ml_module *m)
{
	ml_dim s = m->main->arg[0]->type.dim[0];

	text_node(m, ML_OP_neg)->out[0].type.dim[0] =
		ml_dim_floordiv(m->dims, s, ml_dim_int(m->dims, 0));
	return 9;
}

static int
negative_dim(ml_module *m)
{
	text_node(m, ML_OP_neg)->out[0].type.dim[0] = ml_dim_int(m->dims, -1);
	return 9;
}

static int
rank_too_large(ml_module *m)
{
	text_node(m, ML_OP_neg)->out[0].type.rank = ML_MAX_RANK + 1;
	return 9;
}

/* The table is freed with the other module, which therefore outlives the check. */
static ml_module *other;

static int
foreign_symbol(ml_module *m)
{
	ml_dims *dims = other->dims;

	text_node(m, ML_OP_neg)->out[0].type.dim[0] = ml_dim_sym(dims, ml_sym_named(dims, "s", 1));
	return 10;
}

static int
foreign_number(ml_module *m)
{
	text_node(m, ML_OP_reduce_sum)->out[0].type.dim[0] = ml_dim_int(other->dims, 1);
	return 10;
}

static int
missing_string(ml_module *m)
{
	ML_A(text_node(m, ML_OP_gelu), gelu, form).str = NULL;
	return 11;
}

static int
missing_list(ml_module *m)
{
	ML_A(text_node(m, ML_OP_reduce_sum), reduce_sum, axes).ints = NULL;
	return 11;
}

static int
constant_without_blob(ml_module *m)
{
	ML_A(text_node(m, ML_OP_const), const, value).blob = NULL;
	return 12;
}

static int
blob_not_held(ml_module *m)
{
	ml_blob_drop(m->blobs.at[0]);
	m->blobs.at[0] = m->blobs.at[--m->blobs.count];
	return 12;
}

static int
constant_of_another_size(ml_module *m)
{
	text_node(m, ML_OP_const)->out[0].type.dim[0] = ml_dim_int(m->dims, 3);
	return 0; /* its contents have too few elements, too */
}

static int
content_of_floats(ml_module *m)
{
	ml_dim *content = ML_NEW(&m->arena, ml_dim);

	*content = ml_dim_int(m->dims, 1);
	text_node(m, ML_OP_reduce_sum)->out[0].content = content;
	return 13;
}

static int
content_of_another_constant(ml_module *m)
{
	ml_dim *content = ML_NEW_ARRAY(&m->arena, ml_dim, 2);

	content[0] = content[1] = ml_dim_int(m->dims, 1);
	text_node(m, ML_OP_const)->out[0].content = content;
	return 13;
}

static int
missing_body(ml_module *m)
{
	text_node(m, ML_OP_if)->nblocks = 1;
	return 14;
}

static int
body_of_an_add(ml_module *m)
{
	ml_node *n = text_node(m, ML_OP_neg);
	ml_block *body = ml_block_new(m, n);
	ml_builder b = ml_builder_at_end(body, NULL);

	ml_build_yield(&b, NULL, 0);
	return 14;
}

static int
argument_type(ml_module *m)
{
	ml_block *b = text_node(m, ML_OP_if)->body[1];

	b->arg[0]->type.dim[0] = ml_dim_int(m->dims, 3);
	return 15;
}

static int
condition_type(ml_module *m)
{
	ml_set_operand(text_node(m, ML_OP_if), 0, m->main->arg[3]);
	return 15;
}

static int
loop_without_counter(ml_module *m)
{
	text_node(m, ML_OP_loop)->body[0]->arg[0]->type.dtype = ML_s32;
	return 15;
}

static int
result_of_a_loop(ml_module *m)
{
	text_node(m, ML_OP_loop)->out[0].type.dim[0] = ml_dim_int(m->dims, 9);
	return 15;
}

static int
guard_without_rule(ml_module *m)
{
	m->guards.at[0].text = NULL;
	return 16;
}

static int
result_type(ml_module *m)
{
	text_node(m, ML_OP_add)->out[0].type.dim[0] = m->main->arg[1]->type.dim[0];
	return 0; /* the operands of neg fit as well, so neg may be met first */
}

static int
attribute_out_of_range(ml_module *m)
{
	static const int64_t axes[] = {5};

	ML_A(text_node(m, ML_OP_reduce_sum), reduce_sum, axes).ints = axes;
	return 17;
}

static int
missing_guard(ml_module *m)
{
	m->guards.count = 0;
	return 18;
}

typedef struct breakage_row {
	const char *name;
	breakage *break_it;
} breakage_row;
#define ROW(f) {#f, f}

static const breakage_row breakages[] = {
	ROW(first_without_prev_link),
	ROW(wrong_last),
	ROW(node_of_another_block),
	ROW(body_of_another_owner),
	ROW(no_yield),
	ROW(yield_in_the_middle),
	ROW(id_taken),
	ROW(id_too_large),
	ROW(circle),
	ROW(unknown_operator),
	ROW(too_few_operands),
	ROW(missing_operand),
	ROW(use_before_definition),
	ROW(value_of_another_block),
	ROW(value_of_a_body),
	ROW(use_not_listed),
	ROW(use_of_a_removed_node),
	ROW(result_of_another_node),
	ROW(argument_of_another_block),
	ROW(output_without_name),
	ROW(no_element_type),
	ROW(poison_dim),
	ROW(negative_dim),
	ROW(rank_too_large),
	ROW(foreign_symbol),
	ROW(foreign_number),
	ROW(missing_string),
	ROW(missing_list),
	ROW(constant_without_blob),
	ROW(blob_not_held),
	ROW(constant_of_another_size),
	ROW(content_of_floats),
	ROW(content_of_another_constant),
	ROW(missing_body),
	ROW(body_of_an_add),
	ROW(argument_type),
	ROW(condition_type),
	ROW(loop_without_counter),
	ROW(result_of_a_loop),
	ROW(guard_without_rule),
	ROW(result_type),
	ROW(attribute_out_of_range),
	ROW(missing_guard),
};

static void
test_broken(void **state)
{
	ml_context *cx = *state;
	bool broken[19] = {false};

	other = text_module(cx, sound);
	for (size_t i = 0; i < sizeof breakages / sizeof *breakages; i++) {
		ml_module *m = text_module(cx, sound);
		int number = breakages[i].break_it(m);
		const char *expected = ml_format(&cx->arena, "IR invariant %d is broken", number);
		if (ml_verify(m) != ML_ERR_PASS)
			fail_msg("%s is not found", breakages[i].name);
		if (!strstr(text_newest(cx), number ? expected : "IR invariant "))
			fail_msg("%s: %s", breakages[i].name, text_newest(cx));
		broken[number] = true;
		ml_module_free(m);
	}
	for (int i = 1; i <= 18; i++)
		if (!broken[i])
			fail_msg("nothing breaks invariant %d", i);
	ml_module_free(other);
}

/* The message shows the node and whose it is. */
static void
test_message(void **state)
{
	ml_context *cx = *state;
	ml_module *m = text_module(cx, "module \"m\" {\n"
				       "  in %0 : f32[2]\n"
				       "  %1 = neg %0 : f32[2] @\"/neg\":Neg-13[3]\n"
				       "  out \"y\" = %1\n"
				       "}\n");

	text_node(m, ML_OP_neg)->out[0].type.dtype = ML_f64;
	assert_int_equal(ml_verify(m), ML_ERR_PASS);
	assert_string_equal(text_newest(cx),
			    "node '/neg' (#3, Neg-13): error: IR invariant 17 is broken: inference "
			    "gives f32[2]: %1 = neg %0 : f64[2] @\"/neg\":Neg-13[3] [pass]");
	ml_module_free(m);
}

/* Verifying changes nothing, however often it is done. */
static void
test_quiet(void **state)
{
	ml_context *cx = *state;
	ml_module *m = text_module(cx, sound);
	const char *before = text_printed(cx, m);

	for (int i = 0; i < 3; i++)
		assert_int_equal(ml_verify(m), ML_OK);
	assert_string_equal(text_printed(cx, m), before);
	assert_int_equal(cx->diags.count, 0);
	ml_module_free(m);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_broken, text_setup, text_teardown),
		cmocka_unit_test_setup_teardown(test_message, text_setup, text_teardown),
		cmocka_unit_test_setup_teardown(test_quiet, text_setup, text_teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
