#!/bin/sh
# test_checkpoint.sh -- a training that is killed and gone on with gives the bytes of one that was
# not; checkpoints of others are refused; labels count.  Arguments: source folder, build folder,
# Python.
set -eu
build=$2 python=${MLOPT_PYTHON:-python3}
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT

fail() {
	echo "test_checkpoint: $*" >&2
	exit 1
}

if ! "$python" -c "import numpy" 2>/dev/null; then
	echo "SKIPPED: $python has no numpy; set MLOPT_PYTHON"
	exit 77
fi
cd "$dir"
"$python" - <<'END'
import numpy as np

rng = np.random.default_rng(1)
x = rng.standard_normal((400, 16)).astype(np.float32)
np.savez("x.npz", x=x, kind=(x[:, 0] > 0).astype(np.int64))
np.savez("kind.npz", labels=(x[:, 0] > 0).astype(np.int32))
np.savez("wrong.npz", labels=np.full(400, 9))
np.savez("few.npz", labels=np.zeros(10, np.int64))


def numbers(*shape):
    return "{" + ", ".join(f"{v:.6g}" for v in rng.standard_normal(shape).ravel() / 4) + "}"


text = 'module "m" {\n  sym b\n  in %h0 "x" : f32[b, 16]\n'
for i in range(3):
    text += f"""  %u{i} = const {numbers(16, 32)} : f32[16, 32]
  %d{i} = const {numbers(32, 16)} : f32[32, 16]
  %a{i} = linear %h{i}, %u{i} : f32[b, 32]
  %g{i} = gelu %a{i} : f32[b, 32]
  %o{i} = linear %g{i}, %d{i} : f32[b, 16]
  %h{i + 1} = add %h{i}, %o{i} : f32[b, 16]
"""
text += f"""  %c = const {numbers(16, 3)} : f32[16, 3]
  %y = linear %h3, %c : f32[b, 3]
  out "y" = %y
}}
"""
open("m.mlt", "w").write(text)
END
train="$build/bin/mloptc m.mlt --prune=1 --distill-steps=1200 --calib=x.npz --emit=ir -q"

$train -o whole.mlt
$train --checkpoint=state -o killed.mlt &
pid=$!
while [ ! -e state ] && kill -0 $pid 2>/dev/null; do sleep 0.02; done
kill -9 $pid 2>/dev/null || true
wait $pid 2>/dev/null || true
[ -e state ] || fail "there is no checkpoint"
[ ! -e killed.mlt ] || fail "it was not killed"
$train --checkpoint=state -o killed.mlt
cmp whole.mlt killed.mlt || fail "what went on is another student"

# of others
refused() {
	text=$1
	shift
	if "$build/bin/mloptc" "$@" -q --emit=ir -o other.mlt 2>message; then
		fail "not refused: $*"
	fi
	grep -q "$text" message || fail "'$text' is not in: $(cat message)"
	[ ! -e other.mlt ] || fail "something was written in spite of: $text"
}
ask="m.mlt --distill-steps=1200 --calib=x.npz --checkpoint=state"
# shellcheck disable=SC2086
refused "of another model, or of other options" $ask --prune=2
# shellcheck disable=SC2086
refused "of another model, or of other options" $ask --prune=1 --seed=7
sed 's/gelu/tanh/' m.mlt >n.mlt
refused "of another model, or of other options" n.mlt --prune=1 --distill-steps=1200 --calib=x.npz --checkpoint=state
head -c 3000 state >cut
refused "is damaged" m.mlt --prune=1 --distill-steps=1200 --calib=x.npz --checkpoint=cut
refused "is no checkpoint" m.mlt --prune=1 --distill-steps=1200 --calib=x.npz --checkpoint=m.mlt
refused "is for training" m.mlt --prune=1 --calib=x.npz --checkpoint=state

# labels
train="$build/bin/mloptc m.mlt --distill=student:0,2 --distill-steps=60 --calib=x.npz --emit=ir -q"
$train -o plain.mlt
$train --labels=kind -o named.mlt
$train --labels=kind.npz -o filed.mlt
cmp named.mlt filed.mlt || fail "the same labels give another student"
if cmp -s plain.mlt named.mlt; then fail "labels change nothing"; fi
ask="m.mlt --distill=student:0,2 --distill-steps=60 --calib=x.npz"
# shellcheck disable=SC2086
refused "the model knows 3" $ask --labels=wrong.npz
# shellcheck disable=SC2086
refused "has not one number for each sample" $ask --labels=few.npz
# shellcheck disable=SC2086
refused "no array named 'sort'" $ask --labels=sort

# a loss that is too much: no student, but a report that says why
refused "were allowed" m.mlt --prune=2 --calib=x.npz --max-loss=0.01% --report=why.json
grep -q '"subject": "plan"' why.json || fail "the report of a student that was refused does not say what it was"
