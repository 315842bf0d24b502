# test_static.py -- --int8=static: the shipped digits network keeps its accuracy on integers;
# the real models likewise; data that does not fit is refused.
import os
import re

import numpy as np

import data_models
from harness import check, compile_so, finish, levels, path, run, same_bits, tool

ROOT = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "..")
DIGITS = os.path.join(ROOT, "examples", "digits")
POINTS = 0.003


def accurate(name, file, calib, data, labels):
	"""Accuracy before and after; the same integers on every level and in memory."""
	plain = run(file, data, "--batch", "1")[0]
	so = compile_so(file, "static", "--int8=static", "--calib", calib)
	small = run(so, data, "--batch", "1")[0]
	before, after = ((y.argmax(1) == labels).mean() for y in (plain, small))
	check(f"{name}: within 0.3 points", before - after <= POINTS, f"{before:.4f} -> {after:.4f}")
	check(f"{name}: not what floats give", not same_bits([plain], [small]))
	for isa in levels():
		check(f"{name}: {isa}", same_bits(run(so, data, "--batch", "1", isa=isa), [small]))
	memory = run(file, data, "--batch", "1", "--int8=static", "--calib", calib)
	check(f"{name}: JIT = AOT", same_bits(memory, [small]))
	return plain


def text_of(file, *calib):
	out = path("static.mlt")
	result = tool("mloptc", file, "-O2", "--int8", *(f"--calib={c}" for c in calib), "--emit=ir",
		"-o", out)
	check("digits: the text", result.ok, result)
	with open(out) as f:
		return f.read()


def only_integers(text):
	"""Between the layers' sums and the next layers lie u8 tensors: floats are read once, at once."""
	check("digits: convolutions on integers", len(re.findall(r"= conv .*: s32\[", text)) >= 5)
	check("digits: none on floats", not re.search(r"= (conv|linear) .*: f32\[", text))
	check("digits: scales are factors", "= div " not in text)
	moved = re.findall(r"= (?:window|pad|reduce_max|reshape|concat|transpose) .*: f32\[", text)
	check("digits: u8 moves", not moved, moved)


def digits():
	file, calib, data = (os.path.join(DIGITS, f) for f in ("model.onnx", "calib.npz", "eval.npz"))
	labels = np.load(os.path.join(DIGITS, "eval_labels.npy"))
	accurate("digits", file, calib, data, labels)
	text = text_of(file, calib)
	only_integers(text)
	folder = path("calib")
	os.mkdir(folder)
	images = np.load(calib)["image"]
	for i, part in enumerate(np.array_split(images, 3)):
		np.savez(os.path.join(folder, f"{i}.npz"), image=part)
	check("digits: a folder is the whole", text_of(file, folder) == text)
	parts = [os.path.join(folder, f"{i}.npz") for i in range(3)]
	check("digits: several files are, too", text_of(file, *parts) == text)


def refused():
	file = os.path.join(DIGITS, "model.onnx")
	for words, flags in {
		"int8=static needs calibration data": (),
		"cannot be 'fast'": ("--int8=fast",),
	}.items():
		result = tool("mloptc", file, "--int8=static", *flags, "-o", path("refused.so"))
		check(words, result.refused and words in result.text, result)


def real():
	"""The real models with data, where they are."""
	folder = os.environ.get("MLOPT_SHARED")
	if not folder:
		return
	for name, stem in ("digits_cnn", "digits"), ("fsdd_rnn", "fsdd"):
		file = os.path.join(folder, "models", name + ".onnx")
		calib, data = (os.path.join(folder, "data", f"{stem}_{k}.npz") for k in ("calib", "eval"))
		labels = data_models.load(folder, f"data/{stem}_eval.npz")["labels"]
		accurate(name, file, calib, data, labels)


def main():
	digits()
	refused()
	real()
	finish()


main()
