#!/bin/sh
# test_emulated.sh -- the shipped models for aarch64, run under qemu on their data: the same bits as on
# every level of this machine, fp32 and int8.  Arguments: source folder, build folder.
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

fail() {
	echo "test_emulated: $*" >&2
	exit 1
}

# The first samples of the evaluation data, as bytes: 5 images; 5 sentences of 29 ids, and their masks.
python3 - "$source/examples" <<'END'
import sys, zipfile
for model, arrays in ("digits", ["image"]), ("intents", ["input_ids", "attention_mask"]):
    with zipfile.ZipFile(f"{sys.argv[1]}/{model}/eval.npz") as z, open(f"{model}.in", "wb") as out:
        for name in arrays:
            npy = z.read(f"{name}.npy")
            start = 10 + int.from_bytes(npy[8:10], "little")
            out.write(npy[start:start + 5 * (64 * 4 if model == "digits" else 29 * 8)])
END

# Runs one model on the bytes of its inputs and writes those of its results.
cat >run.c <<'END'
#include "digits.h"
#include "intents.h"
#include <stdio.h>
#include <string.h>

enum { BATCH = 5, LENGTH = 29 };

int
main(int argc, char **argv)
{
	static float image[BATCH * 64], scores[BATCH * 10], logits[BATCH * 39];
	static int64_t ids[BATCH * LENGTH], mask[BATCH * LENGTH];
	int32_t status;

	if (argc > 1 && !strcmp(argv[1], "digits")) {
		if (!fread(image, sizeof image, 1, stdin))
			return 100;
		status = digits(image, scores, BATCH, NULL);
		fwrite(scores, sizeof scores, 1, stdout);
	} else {
		if (!fread(ids, sizeof ids, 1, stdin) || !fread(mask, sizeof mask, 1, stdin))
			return 100;
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
	"$build/bin/mloptc" "$source/examples/digits/model.onnx" --target="$target" --name=digits \
		--emit=lib -q -o digits.a "$@"
	"$build/bin/mloptc" "$source/examples/intents/model.onnx" --target="$target" --name=intents \
		--emit=obj -q -o intents.o "$@"
	$cc -std=c11 -Wall -Wextra -Werror run.c digits.a intents.o -lm -lpthread -o "$target"
}

for precision in "" --int8; do
	# shellcheck disable=SC2086
	program aarch64-linux-gnu aarch64-linux-gnu-gcc $precision
	# shellcheck disable=SC2086
	program x86_64-linux-gnu "${CC:-cc}" $precision
	for model in digits intents; do
		qemu-aarch64 -L /usr/aarch64-linux-gnu ./aarch64-linux-gnu $model <$model.in >there
		for level in "" avx2 avx512 avx512vnni; do
			code=0
			MLOPT_ISA=$level ./x86_64-linux-gnu $model <$model.in >here || code=$?
			# 11: this CPU lacks the level (ML_ERR_TARGET); its best one must run
			[ $code = 11 ] && [ -n "$level" ] && continue
			[ $code = 0 ] || fail "$model ${precision:-fp32} $level: status $code"
			cmp here there || fail "$model ${precision:-fp32} $level: other bits on aarch64"
		done
	done
done
