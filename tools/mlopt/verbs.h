/* verbs.h -- the verbs of mlopt; each file of this folder has one. */
#ifndef MO_VERBS_H
#define MO_VERBS_H

/* argv[0] is the verb; returns the exit code. */
int mo_run(int argc, char **argv);
int mo_bench(int argc, char **argv);
int mo_compare(int argc, char **argv);
int mo_inspect(int argc, char **argv);
int mo_check(int argc, char **argv);
int mo_quantize(int argc, char **argv);
int mo_reduce(int argc, char **argv);
#endif
