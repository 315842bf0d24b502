/* test_target.c -- level names, host detection and its cap. */
#define _POSIX_C_SOURCE 200809L
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include "../../codegen/target.h"
#include "runtime/embed/level.h"
#include <stdlib.h>
#include <string.h>
#if defined(__x86_64__)
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>
#endif

static void
test_names_round_trip(void **state)
{
	(void)state;
	for (int i = 0; i < ML_LEVEL_COUNT; i++) {
		const ml_target *t = ml_target_level((ml_level)i);
		assert_int_equal(t->level, i);
		assert_ptr_equal(ml_target_named(t->name), t);
		assert_true(t->vector_bits >= 128 && t->registers >= 16 && t->l1_bytes > 0);
	}
	assert_null(ml_target_named("sse2"));
	assert_null(ml_target_named(""));
}

static void
test_host_and_cap(void **state)
{
	ml_context cx = {.memory = ml_memory_libc()};
	const ml_target *best = NULL, *t = NULL;

	(void)state;
	ml_arena_init(&cx.arena, &cx.memory);
	unsetenv("MLOPT_ISA");
	assert_int_equal(ml_target_host(&cx, &best), ML_OK);
	assert_true(ml_target_runs_here(best));
	for (int i = 0; i < ML_LEVEL_COUNT; i++) {
		const ml_target *level = ml_target_level((ml_level)i);
		setenv("MLOPT_ISA", level->name, 1);
		t = NULL;
		if (ml_target_runs_here(level)) {
			assert_true(level->level <= best->level);
			assert_int_equal(ml_target_host(&cx, &t), ML_OK);
			assert_ptr_equal(t, level);
		} else {
			assert_int_equal(ml_target_host(&cx, &t), ML_ERR_TARGET);
			assert_null(t);
		}
	}
	int before = cx.diags.count;
	setenv("MLOPT_ISA", "pentium", 1);
	assert_int_equal(ml_target_host(&cx, &t), ML_ERR_TARGET);
	assert_int_equal(cx.diags.count, before + 1);
	assert_non_null(strstr(cx.diags.at[before].text, "pentium"));
	unsetenv("MLOPT_ISA");
	ml_arena_free(&cx.arena);
}

/* What an artefact finds out for itself. */
static void
test_artefacts_agree(void **state)
{
	(void)state;
	for (int i = 0; i < ML_LEVEL_COUNT; i++) {
		const ml_target *t = ml_target_level((ml_level)i);
		assert_int_equal(mlrt_level_runs(t->name), ml_target_runs_here(t));
	}
}

#if defined(__x86_64__)
/* From here on this process gets no state that has to be asked for. */
static bool
refuse_requests(void)
{
	enum { REQUEST = 0x1023, ARGUMENT = offsetof(struct seccomp_data, args) };
	struct sock_filter code[] = {
		BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_arch_prctl, 0, 3),
		BPF_STMT(BPF_LD | BPF_W | BPF_ABS, ARGUMENT),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, REQUEST, 0, 1),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | 1),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
	};
	struct sock_fprog program = {sizeof code / sizeof *code, code};

	return !prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) &&
	       !prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program);
}

/* 0: the level is gone, the one below serves, and to force it is an error. */
static int
without_tiles(void)
{
	ml_context cx = {.memory = ml_memory_libc()};
	const ml_target *amx = ml_target_named("amx"), *t = NULL;

	if (!refuse_requests())
		return 1;
	ml_arena_init(&cx.arena, &cx.memory);
	if (ml_target_runs_here(amx) || mlrt_level_runs("amx") ||
	    ml_target_host(&cx, &t) != ML_OK || t->level >= ML_LEVEL_AMX)
		return 2;
	setenv("MLOPT_ISA", "amx", 1);
	if (ml_target_host(&cx, &t) != ML_ERR_TARGET || cx.diags.count != 1)
		return 3;
	ml_arena_free(&cx.arena);
	return 0;
}

static void
test_refused_tiles(void **state)
{
	int status = 0;
	pid_t child;

	(void)state;
	unsetenv("MLOPT_ISA");
	child = fork();
	assert_true(child >= 0);
	if (!child)
		_exit(without_tiles());
	assert_int_equal(waitpid(child, &status, 0), child);
	assert_int_equal(status, 0);
}
#endif

static void
test_machines_for_all_levels(void **state)
{
	ml_context cx = {.memory = ml_memory_libc()};

	(void)state;
	ml_arena_init(&cx.arena, &cx.memory);
	for (int i = 0; i < ML_LEVEL_COUNT; i++) {
		LLVMTargetMachineRef machine = NULL;
		assert_int_equal(ml_target_machine(&cx, ml_target_level((ml_level)i),
						   LLVMCodeGenLevelDefault, &machine),
				 ML_OK);
		assert_non_null(machine);
		LLVMDisposeTargetMachine(machine);
	}
	ml_arena_free(&cx.arena);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_names_round_trip),        cmocka_unit_test(test_host_and_cap),
		cmocka_unit_test(test_artefacts_agree),
#if defined(__x86_64__)
		cmocka_unit_test(test_refused_tiles),
#endif
		cmocka_unit_test(test_machines_for_all_levels),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
