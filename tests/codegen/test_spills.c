/* test_spills.c -- the inner loops of the tiles touch no stack, on any level: an accumulator or a
 * row's address that goes to memory at every step halves a tile's speed and shows nowhere else. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include "../../codegen/contract.h"
#include "jitted.h"
#include <string.h>

enum { MAX_LABELS = 4096, MAX_LOOPS = 1024 };

/* A loop in the assembly: from its label to the jump back. */
typedef struct loop {
	const char *from, *to;
} loop;

typedef struct listing {
	const char *label[MAX_LABELS];
	loop loop[MAX_LOOPS];
	int labels, loops;
} listing;

static const char *
line_end(const char *line)
{
	const char *end = strchr(line, '\n');

	return end ? end : line + strlen(line);
}

/* `word` in from..to, or NULL. */
static const char *
find(const char *from, const char *to, const char *word)
{
	size_t n = strlen(word);

	for (; from + n <= to; from++)
		if (!memcmp(from, word, n))
			return from;
	return NULL;
}

static bool
is_name(char c)
{
	return c == '.' || c == '_' || (c >= '0' && c <= '9') || (c >= 'A' && c <= 'Z') ||
	       (c >= 'a' && c <= 'z');
}

/* A label that stands above, which the last operand of the line names. */
static const char *
jumps_back_to(const listing *l, const char *line, const char *end)
{
	const char *name = end;

	while (name > line && is_name(name[-1]))
		name--;
	for (int i = l->labels; i-- > 0;)
		if (find(name, name + 2, ".L") &&
		    !strncmp(l->label[i], name, (size_t)(end - name)) &&
		    l->label[i][end - name] == ':')
			return l->label[i];
	return NULL;
}

static void
find_loops(listing *l, const char *text)
{
	l->labels = l->loops = 0;
	for (const char *line = text; *line;) {
		const char *end = line_end(line), *back;
		if (!strncmp(line, ".LBB", 4) && find(line, end, ":")) {
			assert_true(l->labels < MAX_LABELS);
			l->label[l->labels++] = line;
		} else if (*line == '\t' && (back = jumps_back_to(l, line, end)) != NULL) {
			assert_true(l->loops < MAX_LOOPS);
			l->loop[l->loops++] = (loop){back, end};
		}
		line = *end ? end + 1 : end;
	}
}

static bool
is_innermost(const listing *l, const loop *p)
{
	for (int i = 0; i < l->loops; i++) {
		const loop *q = &l->loop[i];
		if (q != p && q->from >= p->from && q->to <= p->to)
			return false;
	}
	return true;
}

static bool
multiplies(const loop *p)
{
	static const char *const names[] = {"fma", "madd", "dpbusd", "dpbf16", "dpbf16", "fmla",
					    "dot", "mlal", "mull",   "mla\t",  "mul\tv"};

	for (size_t i = 0; i < sizeof names / sizeof *names; i++)
		if (find(p->from, p->to, names[i]))
			return true;
	return false;
}

static bool
is_prefetch(const loop *p, const char *at)
{
	const char *line = at;

	while (line > p->from && line[-1] != '\n')
		line--;
	return find(line, at, "prefetch") != NULL;
}

/* A frame pointer has a displacement before it, and no loop changes it; as any other register, %rbp
 * goes on with the loop, or has no displacement, or an index, or what it points to is fetched. */
static bool
touches_stack(const loop *p)
{
	bool goes_on = find(p->from, p->to, ", %rbp\n");

	for (const char *at = p->from; !goes_on && (at = find(at, p->to, "(%rbp)")) != NULL; at++)
		if (at[-1] >= '0' && at[-1] <= '9' && !is_prefetch(p, at))
			return true;
	return find(p->from, p->to, "(%rsp") || find(p->from, p->to, "[sp");
}

/* Prints loops that touch the stack; returns how many loops there are, spilled ones in *bad. */
static int
count_loops(const char *what, const char *text, int *bad)
{
	static listing l;
	int found = 0;

	find_loops(&l, text);
	for (int i = 0; i < l.loops; i++) {
		const loop *p = &l.loop[i];
		if (!is_innermost(&l, p) || !multiplies(p))
			continue;
		found++;
		if (!touches_stack(p))
			continue;
		print_message("%s:\n%.*s\n", what, (int)(p->to - p->from), p->from);
		++*bad;
	}
	return found;
}

/* How many loops touch the stack. */
static int
check_tiles(const ml_target *t, ml_contract_form form)
{
	LLVMMemoryBufferRef text = NULL;
	char *message = NULL;
	int bad = 0;
	jitted j;

	jitted_open(&j, t);
	ml_emit_contract_tiles(&j.e, form);
	ml_emit_optimize(&j.e, j.machine);
	assert_int_equal(LLVMTargetMachineEmitToMemoryBuffer(j.machine, j.e.module,
							     LLVMAssemblyFile, &message, &text),
			 0);
	int found = count_loops(t->name, LLVMGetBufferStart(text), &bad);
	print_message("%s %s: %d loops\n", t->name, ml_form_get(form)->name, found);
	assert_true(found > 0);
	LLVMDisposeMemoryBuffer(text);
	ml_emit_close(&j.e);
	LLVMDisposeTargetMachine(j.machine);
	ml_arena_free(&j.arena);
	ml_arena_free(&j.cx.arena);
	return bad;
}

static void
test_tiles_stay_in_registers(void **state)
{
	int bad = 0;

	(void)state;
	for (int i = 0; i < ML_LEVEL_COUNT; i++) {
		bad += check_tiles(ml_target_level((ml_level)i), ML_CONTRACT_F32);
		bad += check_tiles(ml_target_level((ml_level)i), ML_CONTRACT_BF16);
		/* There, weights that LLVM widens for several rows take more registers than it has.
		 */
		if (i != ML_LEVEL_NEON)
			bad += check_tiles(ml_target_level((ml_level)i), ML_CONTRACT_U8S8);
	}
	assert_int_equal(bad, 0);
}

/* The reader of assembly finds what it is for. */
static void
test_a_spill_is_seen(void **state)
{
	static const char clean[] =
		".LBB0_1:\n\tvfmadd231ps\t(%rax), %zmm0, %zmm1\n\tjne\t.LBB0_1\n";
	static const char spilled[] = ".LBB0_1:\n\tvmovaps\t%zmm3, 64(%rsp)\n"
				      ".LBB0_2:\n\tvfmadd231ps\t64(%rsp), %zmm0, %zmm1\n"
				      "\tjne\t.LBB0_2\n\tjne\t.LBB0_1\n";
	static const char outside[] = ".LBB0_1:\n\tvmovaps\t%zmm3, 64(%rsp)\n"
				      ".LBB0_2:\n\tvfmadd231ps\t(%rax), %zmm0, %zmm1\n"
				      "\tjne\t.LBB0_2\n\tjne\t.LBB0_1\n";
	int bad = 0;

	(void)state;
	assert_int_equal(count_loops("clean", clean, &bad), 1);
	assert_int_equal(bad, 0);
	assert_int_equal(count_loops("outside", outside, &bad), 1);
	assert_int_equal(bad, 0);
	assert_int_equal(count_loops("spilled", spilled, &bad), 1);
	assert_int_equal(bad, 1);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_a_spill_is_seen),
		cmocka_unit_test(test_tiles_stay_in_registers),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
