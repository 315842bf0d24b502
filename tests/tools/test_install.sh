#!/bin/sh
# test_install.sh -- what an application sees: installs, builds the examples against the installed
# headers and libraries alone, and runs them.  Arguments: source folder, build folder.
set -eu
source=$1 build=$2
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT

fail() {
	echo "test_install: $*" >&2
	exit 1
}

cmake --install "$build" --prefix "$dir/prefix" >/dev/null
PKG_CONFIG_PATH=$(dirname "$(find "$dir/prefix" -name mlopt.pc)")
export PKG_CONFIG_PATH
LD_LIBRARY_PATH=$(dirname "$PKG_CONFIG_PATH")
export LD_LIBRARY_PATH
bin=$dir/prefix/bin
cc="${CC:-cc} ${CFLAGS-} -std=c11 -Wall -Wextra -Werror"
cd "$dir"

# app: compiled in memory, and from an artefact
# shellcheck disable=SC2046
$cc "$source/examples/app/digit.c" -o digit $(pkg-config --cflags --libs mlopt)
[ "$(./digit "$source/examples/digits/model.onnx" "$source/examples/app/seven.txt")" = 7 ] ||
	fail "the drawn seven is another digit when compiled in memory"
"$bin/mloptc" "$source/examples/digits/model.onnx" --mcpu=native -q -o digits.so
[ "$(./digit digits.so "$source/examples/app/seven.txt")" = 7 ] ||
	fail "the drawn seven is another digit with the artefact"
if ./digit nothing.so "$source/examples/app/seven.txt" 2>message; then
	fail "an artefact that does not exist was loaded"
fi
grep -q "nothing.so" message || fail "the message does not name the file"

# custom operator
# shellcheck disable=SC2046
$cc "$source/examples/custom_op/scale.c" -o scale $(pkg-config --cflags --libs mlopt)
./scale "$source/examples/custom_op/model.onnx" >scaled
printf '4 7 10 13\n16 19 22 25\n' | cmp - scaled || fail "the custom operator gives other numbers"

# plugin: headers alone
# shellcheck disable=SC2046
$cc -shared -fPIC "$source/examples/plugin/hard_tanh.c" -o hard_tanh.so $(pkg-config --cflags mlopt)
cat >in.mlt <<'END'
module "m" {
  sym n
  in %0 "x" : f32[n]
  %1 = tanh %0 : f32[n]
  %2 = const {0} : f32[]
  %3 = max %1, %2 : f32[n]
  %4 = max %3, %2 : f32[n]
  out "y" = %4
}
END
"$bin/mlopt-opt" in.mlt --load-pass-plugin=hard_tanh.so \
	--passes=hard_tanh,drop_second_relu,drop_dead --verify-each >out.mlt
if grep -q tanh out.mlt; then fail "the plugin's rule did not fire"; fi
[ "$(grep -c ' max ' out.mlt)" = 2 ] || fail "the plugin's pass left $(grep -c ' max ' out.mlt) max"
"$bin/mlopt-opt" in.mlt --load-pass-plugin=./hard_tanh.so --list-passes 2>&1 | grep -q "^hard_tanh *lossy" ||
	fail "the plugin's passes are not listed"

# a plugin with a score and a loss
# shellcheck disable=SC2046
$cc -shared -fPIC "$source/examples/plugin/student.c" -o student.so $(pkg-config --cflags mlopt)
if "$bin/mloptc" in.mlt --load-pass-plugin=student.so --prune-score=late --prune=1 >/dev/null 2>message; then
	fail "a score that no plugin has was found"
fi
grep -q "no plugin has 'late'" message || fail "the message does not speak of the score"
if "$bin/mloptc" in.mlt --load-pass-plugin=student.so --prune-score=late_and_large --distill-loss=log_cosh \
	--prune=1 --distill >/dev/null 2>message; then
	fail "a model was pruned without data"
fi
grep -q "prune needs calibration data" message || fail "the plugin's score or loss was not found"

# a plugin of another version
sed 's/= ML_PLUGIN_ABI,/= ML_PLUGIN_ABI + 1,/' "$source/examples/plugin/hard_tanh.c" >other.c
# shellcheck disable=SC2046
$cc -shared -fPIC other.c -o other.so $(pkg-config --cflags mlopt)
if "$bin/mlopt-opt" in.mlt --load-pass-plugin=other.so >/dev/null 2>message; then
	fail "a plugin of another ABI version was loaded"
fi
grep -q "ABI version" message || fail "the message does not speak of the ABI version"
