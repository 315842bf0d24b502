#!/bin/sh
# test_cli.sh -- the tools as users start them: results, exit codes, messages, what is left behind.
# Arguments: source folder, build folder.
set -eu
source=$1 bin=$2/bin
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
cd "$dir"
digits=$source/examples/digits intents=$source/examples/intents

fail() {
	echo "test_cli: $*" >&2
	exit 1
}

# refuses CODE TEXT COMMAND...: exits with CODE, and says TEXT on standard error
refuses() {
	code=$1 text=$2
	shift 2
	got=0
	"$@" >out 2>err || got=$?
	[ "$got" = "$code" ] || fail "$*: exit code $got, not $code: $(cat err)"
	grep -qF -- "$text" err || fail "$*: no '$text' in: $(cat err)"
}

# value KEY: its number in the JSON on standard input
value() {
	sed -n "s/.*\"$1\": \([-0-9.e+]*\).*/\1/p"
}

# holds EXPRESSION: arithmetic of awk
holds() {
	awk "BEGIN { exit !($1) }" || fail "not true: $1"
}

# ---- mloptc ----

"$bin/mloptc" "$digits/model.onnx" -O3 --mcpu=native -q -o digits.so
[ -f digits.so ] && [ -f digits.h ] || fail "no artefact or no header"
"$bin/mloptc" "$digits/model.onnx" -O3 --mcpu=native -q -threads 1 --name=digits -o digits2.so
"$bin/mloptc" "$digits/model.onnx" --name=digits -O 3 --mcpu native -q -o digits3.so
cmp digits2.so digits3.so || fail "two compilations differ"
refuses 1 "did you mean '--int8'?" "$bin/mloptc" --in8 model.onnx
refuses 1 "no such file" "$bin/mloptc" nothing.onnx -o nothing.so
[ ! -e nothing.so ] && [ ! -e nothing.h ] || fail "a failed compilation left a file"
refuses 1 "kinds: so obj" "$bin/mloptc" "$digits/model.onnx" --emit=tar -o x.so
refuses 1 "'O' cannot be '7'" "$bin/mloptc" "$digits/model.onnx" -O7
refuses 1 "no known level or CPU" "$bin/mloptc" "$digits/model.onnx" --mcpu=z80 -o x.so
refuses 1 "no code for target" "$bin/mloptc" "$digits/model.onnx" --target=pdp11 -o x.so
refuses 1 "there is no pass 'fuse_all'" "$bin/mloptc" "$digits/model.onnx" --passes=fuse_all -o x.so
refuses 1 "has no input 'img'" "$bin/mloptc" "$digits/model.onnx" --shape img=1x1x8x8 -o x.so
refuses 1 "no input of the model has a dimension 'batches'" "$bin/mloptc" "$digits/model.onnx" --dim batches=1 -o x.so
refuses 1 "is not NAME=NUMBER" "$bin/mloptc" "$digits/model.onnx" --dim batch=many -o x.so
refuses 2 "no model" "$bin/mloptc"
refuses 1 "no-such-folder" "$bin/mloptc" "$digits/model.onnx" --mcpu=native -o no-such-folder/x.so
[ ! -e x.so ] || fail "a refused compilation left a file"
printf 'not a model' >bad.onnx
echo kept >kept.so
refuses 1 "bad.onnx" "$bin/mloptc" bad.onnx -o kept.so
[ "$(cat kept.so)" = kept ] || fail "a failed compilation touched the old output"
"$bin/mloptc" "$digits/model.onnx" --dim batch=1 --emit=ir | grep -q 'f32\[1, 1, 8, 8\]' ||
	fail "--dim does not fix the batch"
"$bin/mloptc" "$digits/model.onnx" --shape image=2x?x8x8 --emit=ir | grep -q 'f32\[2, 1, 8, 8\]' ||
	fail "--shape does not fix the batch"
"$bin/mloptc" "$digits/model.onnx" --mcpu=avx2 --emit=llvm -o digits.ll
grep -q "mlopt_program" digits.ll || fail "--emit=llvm without the program"
"$bin/mloptc" "$digits/model.onnx" --mcpu=native -q --save-temps=temps -o temps.so
ls temps/*.mlt temps/*.ll temps/*.s >/dev/null || fail "--save-temps kept nothing"
refuses 1 "cannot make the folder 'no/temps'" \
	"$bin/mloptc" "$digits/model.onnx" --mcpu=native -q --save-temps=no/temps -o temps.so
[ "$(grep -c error err)" = 1 ] || fail "a folder that cannot be made is said more than once"
for i in cold warm; do
	"$bin/mloptc" "$digits/model.onnx" --mcpu=native -q --name=digits --cache-dir=cache -o $i.so
	cmp digits2.so $i.so || fail "another artefact with a $i cache"
	"$bin/mlopt" check "$digits/model.onnx" --cache-dir=cache >/dev/null
	"$bin/mloptc" "$intents/model.onnx" --int8 --mcpu=native -q --name=intents --cache-dir=cache -o int8-$i.so
done
cmp int8-cold.so int8-warm.so || fail "other integers with a warm cache"
"$bin/mlopt" run "$digits/model.onnx" --cache-dir=cache --inputs "$digits/eval.npz" --outputs cold.npz
"$bin/mlopt" run "$digits/model.onnx" --cache-dir=cache --inputs "$digits/eval.npz" --outputs warm.npz
cmp cold.npz warm.npz || fail "another result with a warm cache"
chmod 777 cache
refuses 1 "'cache' can be written to by others" "$bin/mloptc" "$digits/model.onnx" --cache-dir=cache -o x.so
refuses 1 "'cache-size' cannot be '9999999'" "$bin/mloptc" "$digits/model.onnx" --cache-size=9999999 -o x.so
"$bin/mloptc" "$digits/model.onnx" --emit=onnx -q -o digits.onnx
"$bin/mloptc" "$intents/model.onnx" --emit=ir --time-passes --rule-stats --remarks >out 2>err
grep -q "ms .* fuse_linear" err && grep -q "fuse_linear/linear_bias" err || fail "no times or no rules"

"$bin/mloptc" "$digits/model.onnx" --mcpu=native --json -o said.so >json
grep -q '"file": "said.so", "bytes": [1-9].*"file": "said.h".*"levels": \["[a-z]' json ||
	fail "mloptc --json: $(cat json)"
holds "$(value seconds <json) > 0"
refuses 1 "--json needs -o" "$bin/mloptc" "$digits/model.onnx" --emit=ir --json
refuses 1 "cannot write 'no/x.so': No such file" "$bin/mloptc" "$intents/model.onnx" \
	--distill=60 --calib="$intents/calib.npz" -o no/x.so
refuses 1 "unknown option '-w'" "$bin/mloptc" "$digits/model.onnx" -w
refuses 1 "unknown option '--loud'" "$bin/mloptc" "$digits/model.onnx" --loud

for option in skip-pass stop-after print-after; do
	refuses 1 "$option: there is no pass 'fuse_al'" \
		"$bin/mloptc" "$digits/model.onnx" --$option=fuse_al --emit=ir
done
refuses 1 "the model has no node '/conv9/Conv'" "$bin/mlopt" check "$digits/model.onnx" --explain=/conv9/Conv
"$bin/mloptc" "$digits/model.onnx" --passes=drop_dead --rule-stats --emit=ir >out 2>err
grep -q "no rule fired" err || fail "--rule-stats says nothing"
cat >twice.mlt <<'END'
module "twice" {
  in %0 "x" : f32[4]
  %1 = neg %0 : f32[4] @"n":Neg-13[0]
  %2 = neg %1 : f32[4] @"n":Neg-13[0]
  %3 = neg %2 : f32[4] @"n":Neg-13[0]
  %4 = neg %3 : f32[4] @"n":Neg-13[0]
  out "y" = %4
}
END
"$bin/mlopt-opt" twice.mlt --passes=simplify_algebra --remarks >out 2>err
[ "$(grep -c 'remark:' err)" = 1 ] && grep -q ' (2 times)$' err || fail "remarks repeat: $(cat err)"
cat >endless.mlt <<'END'
module "endless" {
  sym ?0 <= 9223372036854775807
  in %0 "x" : f32[1]
  %1 = const {9223372036854775807} : s64[] @"":Loop-11[3]
  %2 = const {true} : bool[] @"":Loop-11[3]
  %3, %4 = loop %1, %2, %0 {carried = 1} (%5 : s64[], %6 : f32[1]) {
    %7 = add %6, %6 : f32[1] @"":Add-11[0]
    %8 = lt %7, %6 : bool[1] @"":Add-11[0]
    %9 = reshape %8 : bool[] @"":Loop-11[3]
    yield %9, %7, %6 @"":Loop-11[3]
  } : f32[1], f32[?0, 1] @"":Loop-11[3]
  out "y" = %3
  out "z" = %4
}
END
refuses 1 "node (#3, Loop-11): error: the size of a result" "$bin/mlopt" check endless.mlt
grep -q "hint: give loops a constant trip count" err || fail "no hint for endless loops"

# ---- mlopt-opt ----

"$bin/mlopt-opt" "$intents/model.onnx" --passes= >imported.mlt
"$bin/mlopt-opt" imported.mlt --random-weights --passes= >again.mlt
for f in imported again; do # other weights have other hashes
	sed 's/#[0-9a-f]\{16\}/#/' $f.mlt >$f.txt
done
cmp imported.txt again.txt || fail "IR text does not round-trip"
"$bin/mlopt-opt" "$digits/model.onnx" --remarks -q >out 2>err
[ ! -s err ] || fail "mlopt-opt -q says $(cat err)"
"$bin/mlopt-opt" "$digits/model.onnx" -v >out 2>err
grep -q '\[2/4\] passes' err || fail "mlopt-opt -v says nothing"
refuses 1 "not at hand" "$bin/mlopt-opt" imported.mlt
"$bin/mlopt-opt" imported.mlt --random-weights --stop-after=fuse_activation --print-after=all >out 2>err
grep -q -- "---- fuse_activation ----" err || fail "--print-after printed nothing"
if grep -q -- "---- fuse_linear ----" err; then fail "--stop-after did not stop"; fi

# ---- mlopt run, compare ----

"$bin/mlopt" run digits.so --inputs "$digits/eval.npz" --outputs out.npz
"$bin/mlopt" run digits.so --inputs "$digits/eval.npz" --outputs out7.npz --batch 7
cmp out.npz out7.npz || fail "the batch size changes results"
"$bin/mlopt" run "$digits/model.onnx" --mcpu=native --inputs "$digits/eval.npz" --outputs jit.npz
cmp out.npz jit.npz || fail "JIT and artefact differ"
"$bin/mlopt" run digits.onnx --inputs "$digits/eval.npz" --outputs exported.npz
"$bin/mlopt" compare out.npz exported.npz --json >json
holds "$(value max_rel <json) < 1e-5"
"$bin/mlopt" compare "$digits/model.onnx" digits.so --inputs "$digits/eval.npz" \
	--labels "$digits/eval_labels.npy" --json >json
for key in max_abs max_rel sqnr_db cosine kl top1_agreement; do
	[ -n "$(value $key <json)" ] || fail "compare prints no $key"
done
holds "$(value ref <json) > 0.98 && $(value cand <json) == $(value ref <json)"
"$bin/mlopt" compare "$intents/model.onnx" "$intents/model.onnx" --int8 --inputs "$intents/eval.npz" \
	--batch 16 --trim attention_mask --labels "$intents/eval_labels.npy" --json >json
holds "$(value top1_agreement <json) > 0.99 && $(value max_abs <json) > 0"
refuses 1 "there is no output 'loggits'" "$bin/mlopt" compare out.npz jit.npz --output loggits
refuses 1 "image" "$bin/mlopt" run digits.so --inputs "$intents/eval.npz" --outputs x.npz
refuses 1 "no such file" "$bin/mlopt" run nothing.onnx --inputs "$digits/eval.npz" --outputs x.npz
refuses 2 "--inputs" "$bin/mlopt" run digits.so
refuses 1 "MLOPT_ISA" "$bin/mlopt" run digits.so --isa mmx --inputs "$digits/eval.npz" --outputs x.npz
[ ! -e x.npz ] || fail "a failed run left a file"

"$bin/mlopt" run digits.so --inputs "$digits/eval.npz" -o same.npz --json -v >json 2>err
cmp out.npz same.npz || fail "-o is not --outputs"
grep -q '"name": "logits", "dtype": "f32", "shape": \[600, 10\]' json || fail "run --json: $(cat json)"
grep -q "digits.so: .* code, .* threads" err || fail "run -v says nothing"
refuses 1 "error: nosuch.npz: " "$bin/mlopt" run digits.so --inputs nosuch.npz --outputs x.npz
"$bin/mlopt" compare out.npz same.npz -o report.txt >out
[ ! -s out ] && grep -q logits report.txt || fail "compare -o"
refuses 1 "no-such-folder/r" "$bin/mlopt" compare out.npz same.npz -o no-such-folder/r
cat >two.mlt <<'END'
module "two" {
  sym n
  in %0 "a" : f32[n, 8, 8]
  in %1 "\x1b[31mb" : f32[n, 8, 8]
  %2 = sub %0, %1 : f32[n, 8, 8]
  out "difference" = %2
}
END
cat >arrays.py <<'END'
import numpy as np
for name, value in ("x.npy", 5), ("y.npy", 3), ("a.npy", 7):
    np.save(name, np.full((2, 8, 8), value, np.float32))
END
if "${MLOPT_PYTHON:-python3}" -c 'import numpy' 2>/dev/null; then
	"${MLOPT_PYTHON:-python3}" arrays.py
	"$bin/mlopt" run two.mlt --inputs x.npy --inputs y.npy -o xy.npy
	refuses 1 "two arrays are named 'a'" "$bin/mlopt" run two.mlt --inputs x.npy --inputs a.npy -o no.npy
	"$bin/mlopt" run two.mlt --inputs a.npy --inputs y.npy -o ay.npy
	refuses 1 "holds one array, 2 are needed" "$bin/mlopt" run two.mlt --inputs x.npy -o no.npy
	[ ! -e no.npy ] || fail "a failed run left a file"
	"${MLOPT_PYTHON:-python3}" -c 'import numpy as np
assert (np.load("xy.npy") == 2).all() and (np.load("ay.npy") == 4).all()'
fi
"$bin/mlopt" bench two.mlt --seconds 0.02 >out 2>err
grep -qF '\x1b[31mb: f32[1,8,8]' err || fail "bench names: $(cat err)"

# ---- mlopt bench, inspect, check ----

"$bin/mlopt" bench digits.so --threads 1 --seconds 0.05 --dim batch=3 --json >json
for key in compile_ms load_ms first_ms median_ms min_ms p90_ms runs peak_rss_mb; do
	[ -n "$(value $key <json)" ] || fail "bench prints no $key"
done
grep -q '"isa": "[a-z0-9]' json || fail "bench prints no isa"
holds "$(value compile_ms <json) == 0 && $(value min_ms <json) <= $(value median_ms <json)"
cat >rows.mlt <<'END'
module "rows" {
  sym p
  in %0 "past.0" : f32[2, p, 3]
  in %1 "x" : f32[2, 1, 3]
  %2 = concat %0, %1 {axis = 1} : f32[2, p + 1, 3]
  %3 = reduce_sum %2 {axes = [1]} : f32[2, 1, 3]
  out "present.0" = %2
  out "sum" = %3
}
END
"$bin/mloptc" rows.mlt -q -o rows.so
"$bin/mlopt" inspect rows.so | grep -q '^state     past.0 -> present.0  axis 1$' ||
	fail "inspect shows no state"
"$bin/mlopt" bench rows.so --state auto --dim p=9 --seconds 0.02 -q >out
"$bin/mlopt" bench rows.so --state past.0=present.0 --dim p=9 --seconds 0.02 -q --profile >out
grep -q ' concat\| rows' out || fail "no profile of a model with a state"
refuses 1 "no such input and output" "$bin/mlopt" bench rows.so --state past.0=sums
refuses 1 "is a state already" "$bin/mlopt" bench rows.so --state x=sum --state x=sum
refuses 1 "no such dimension" "$bin/mlopt" bench digits.so --dim batsch=3
"$bin/mlopt" bench "$digits/model.onnx" --seconds 0.05 --json >json
holds "$(value compile_ms <json) > 0"
"$bin/mlopt" bench digits.so --seconds 0.02 --profile --trace=trace.json >out
grep -q 'GMAC/s % limit' out && grep -q 'outside of regions' out || fail "bench prints no profile"
grep -q '"ph": "X".*"limit_percent": .*"nodes": \["' trace.json || fail "a trace without nodes"
"$bin/mlopt" bench "$digits/model.onnx" --seconds 0.02 --profile --json >json
[ "$(grep -c '"step": .*"limit_ms": ' json)" -gt 1 ] || fail "a profile without steps"
grep -q '"limits": {"fp32_gmacs": ' json || fail "a profile without the machine's limits"
refuses 1 "cannot write 'no/trace.json'" "$bin/mlopt" bench digits.so --seconds 0.02 --trace=no/trace.json
"$bin/mlopt" inspect digits.so | grep -q 'input .*image .*f32\[batch, 1, 8, 8\]' || fail "inspect .so"
"$bin/mlopt" inspect "$digits/model.onnx" | grep -q 'parameters 22' || fail "inspect .onnx"
"$bin/mlopt" inspect "$digits/model.onnx" --json | grep -q '"opset": 17' || fail "inspect --json"
"$bin/mlopt" bench "$intents/model.onnx" --seconds 0.02 -o report.txt >out 2>err
[ ! -s out ] && grep -q 'median' report.txt && grep -qF 'input_ids: i64[1,32]' err ||
	fail "bench does not find how long a sequence may be: $(cat err)"
"$bin/mlopt" inspect digits.so --json -o report.txt >out
[ ! -s out ] && grep -q '"entry": "digits"' report.txt || fail "inspect -o"
"$bin/mlopt" check "$digits/model.onnx" | grep -q compiles || fail "check refuses digits"
"$bin/mlopt" check "$digits/model.onnx" --json | grep -q '"messages": \[\], "compiles": true' ||
	fail "check --json"
"$bin/mlopt" check "$source/examples/custom_op/model.onnx" --json -o report.txt && fail "check --json: 0"
grep -q '"kind": "error", "text": ".*com.acme' report.txt && grep -q '"compiles": false' report.txt ||
	fail "check --json: $(cat report.txt)"
refuses 1 "com.acme" "$bin/mlopt" check "$source/examples/custom_op/model.onnx"
refuses 2 "did you mean 'bench'?" "$bin/mlopt" bensh

# ---- mlopt reduce ----

cat >has_reduce_max.sh <<'END'
#!/bin/sh
! grep -q reduce_max "$1"
END
chmod +x has_reduce_max.sh
"$bin/mlopt" reduce "$digits/model.onnx" --test './has_reduce_max.sh {}' -o small.mlt -q
"$bin/mlopt" reduce small.mlt --random-weights --test './has_reduce_max.sh {}' -o small2.mlt --json |
	grep -q '"file": "small2.mlt", "candidates": [1-9]' || fail "reduce --json"
grep -q reduce_max small.mlt || fail "reduce lost the failure"
[ "$(wc -l <small.mlt)" -lt 7 ] || fail "reduce left $(wc -l <small.mlt) lines"
refuses 1 "does not fail" "$bin/mlopt" reduce "$digits/model.onnx" --test true -o none.mlt
