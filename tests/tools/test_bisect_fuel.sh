#!/bin/sh
# test_bisect_fuel.sh -- tools/bisect-fuel finds the rewrite that does what is called wrong.
# Arguments: source folder, build folder.
set -eu
source=$1 bin=$2/bin
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
cd "$dir"

fail() {
	echo "test_bisect_fuel: $*" >&2
	exit 1
}

bisect() {
	"$source/tools/bisect-fuel" -b "$bin" "$@" >out 2>err
}

cat >gemm.mlt <<'END'
module "gemm" {
  in %0 "x" : f32[3, 4]
  %1 = const {1, 2, 3, 4, 5, 6, 7, 8} : f32[4, 2]
  %2 = const {1, 2} : f32[2]
  %3 = neg %0 : f32[3, 4] @"first":Neg-13[0]
  %4 = neg %3 : f32[3, 4] @"second":Neg-13[1]
  %5 = dot %4, %1 {lhs_contract = [1], rhs_contract = [0]} : f32[3, 2] @"product":MatMul-13[2]
  %6 = add %5, %2 : f32[3, 2] @"sum":Add-13[3]
  out "y" = %6
}
END
bisect -c "! '$bin/mlopt-opt' gemm.mlt --fuel={} | grep -q linear" gemm.mlt || fail "$(cat err)"
grep -q '^pass: fuse_linear$' out && grep -q "^rule: .*'product' (#2, MatMul-13).* linear_matmul" out &&
	grep -q '^+.*linear %' out || fail "another rewrite: $(cat out)"
digits=$source/examples/digits
bisect -i "$digits/eval.npz" -t 1e-4 "$digits/model.onnx" --int8=weights || fail "$(cat err)"
grep -q '^pass: quantize_' out || fail "another pass: $(cat out)"
bisect -c true gemm.mlt && fail "finds something where nothing is bad"
grep -q 'good with every rewrite' err || fail "$(cat err)"
bisect -c false gemm.mlt && fail "blames a rewrite for what is bad without"
grep -q 'bad without any rewrite' err || fail "$(cat err)"
