#!/bin/sh
# test_emulated.sh -- the shipped models for aarch64, run under qemu: the same bits as on this machine,
# fp32 and int8.  Arguments: source folder, build folder.
set -eu
source=$1 build=$2
for tool in qemu-aarch64 aarch64-linux-gnu-gcc; do
	command -v $tool >/dev/null || {
		echo "SKIPPED: no $tool, code for aarch64 is not run"
		exit 77
	}
done
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
cd "$dir"

# Runs one model on numbers of a fixed seed and writes the bytes of its results.
cat >run.c <<'END'
#include "digits.h"
#include "intents.h"
#include <stdio.h>
#include <string.h>

enum { IMAGES = 5, BATCH = 3, LENGTH = 11 };

static unsigned
next(void)
{
	static unsigned seed = 1;

	return (seed = seed * 1664525 + 1013904223) >> 8;
}

int
main(int argc, char **argv)
{
	static float image[IMAGES * 64], scores[IMAGES * 10], logits[BATCH * 39];
	static int64_t ids[BATCH * LENGTH], mask[BATCH * LENGTH];
	int32_t status;

	for (int i = 0; i < IMAGES * 64; i++)
		image[i] = (float)(next() % 1000) / 500;
	for (int i = 0; i < BATCH * LENGTH; i++) {
		ids[i] = next() % 1000;
		mask[i] = i % LENGTH < LENGTH - i / LENGTH;
	}
	if (argc > 1 && !strcmp(argv[1], "digits")) {
		status = digits(image, scores, IMAGES, NULL);
		fwrite(scores, sizeof scores, 1, stdout);
	} else {
		status = intents(ids, mask, logits, BATCH, LENGTH, NULL);
		fwrite(logits, sizeof logits, 1, stdout);
	}
	return status;
}
END

# program TARGET COMPILER FLAGS...: run.c with both models
program() {
	target=$1 cc=$2
	shift 2
	for model in digits intents; do
		"$build/bin/mloptc" "$source/examples/$model/model.onnx" --target="$target" --name=$model \
			--emit=obj -q -o $model.o "$@"
	done
	$cc -std=c11 -Wall -Wextra -Werror run.c digits.o intents.o -lm -lpthread -o "$target"
}

for precision in "" --int8; do
	# shellcheck disable=SC2086
	program aarch64-linux-gnu aarch64-linux-gnu-gcc $precision
	# shellcheck disable=SC2086
	program x86_64-linux-gnu "${CC:-cc}" $precision
	for model in digits intents; do
		./x86_64-linux-gnu $model >here
		qemu-aarch64 -L /usr/aarch64-linux-gnu ./aarch64-linux-gnu $model >there
		cmp here there || {
			echo "test_emulated: $model ${precision:-fp32}: other bits on aarch64" >&2
			exit 1
		}
	done
done
