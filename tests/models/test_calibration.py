# test_calibration.py -- calibration data as users have it: ONNX test sets, more than fits into
# memory, and files that are not what they should be.
import os
import pty
import re
import subprocess

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from harness import BIN, check, finish, path, tool

ROOT = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "..")
DIGITS = os.path.join(ROOT, "examples", "digits", "model.onnx")
IMAGES = np.load(os.path.join(ROOT, "examples", "digits", "calib.npz"))["image"]
MEGABYTE = 1 << 20


def compiled(model, name, *flags):
	"""The graph that quantization makes, as bytes."""
	out = path(name)
	result = tool("mloptc", model, "-O2", *flags, "--emit=ir", "-o", out)
	check(f"{name} compiles", result.ok, result)
	if not result.ok:
		return None
	with open(out, "rb") as f:
		return f.read()


def write_test_set(folder, tensors):
	os.makedirs(folder)
	for i, (name, a) in enumerate(tensors):
		with open(os.path.join(folder, f"input_{i}.pb"), "wb") as f:
			f.write(numpy_helper.from_array(a, name).SerializeToString())


def test_sets():
	sets, npz = path("sets"), path("parts")
	os.mkdir(npz)
	for i, part in enumerate(np.array_split(IMAGES, 4)):
		np.savez(os.path.join(npz, f"{i}.npz"), image=part)
		write_test_set(os.path.join(sets, f"test_data_set_{i}"),
			[("image" if i % 2 else "", part)])
	with open(os.path.join(sets, "README.txt"), "w") as f:
		f.write("no data")
	one = os.path.join(sets, "test_data_set_0")
	want = compiled(DIGITS, "parts.mlt", "--int8=static", "--calib", npz)
	got = compiled(DIGITS, "sets.mlt", "--int8=static", "--calib", sets)
	check("a folder of test sets is the same samples", want is not None and got == want)
	np.savez(path("first.npz"), image=np.array_split(IMAGES, 4)[0])
	want = compiled(DIGITS, "first.mlt", "--int8=static", "--calib", path("first.npz"))
	got = compiled(DIGITS, "one.mlt", "--int8=static", "--calib", one)
	check("a test set by itself", want is not None and got == want)


def write_wide(file):
	"""A network of one convolution over images of 4 MB."""
	w = np.random.default_rng(1).normal(size=(8, 1, 64, 64)).astype(np.float32)
	graph = helper.make_graph(
		[helper.make_node("Conv", ["x", "w"], ["y"], strides=[64, 64])], "wide",
		[helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 1, 1024, 1024])],
		[helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n", 8, 16, 16])],
		[numpy_helper.from_array(w, "w")])
	onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)],
		ir_version=8), file)


def peak(*command):
	"""The most memory a process had, in MB; what AddressSanitizer keeps of freed memory, if it is
	built in, is not the process's."""
	options = os.environ.get("ASAN_OPTIONS", "") + ":quarantine_size_mb=1"
	process = subprocess.Popen([str(c) for c in command], stdout=subprocess.DEVNULL,
		env={**os.environ, "ASAN_OPTIONS": options})
	_, status, usage = os.wait4(process.pid, 0)
	process.returncode = os.waitstatus_to_exitcode(status)
	check("the compilation for its memory", process.returncode == 0, process.returncode)
	return usage.ru_maxrss / 1024


def bounded_memory():
	model, few, many = path("wide.onnx"), path("few"), path("many")
	write_wide(model)
	x = np.zeros((4, 1, 1024, 1024), np.float32)
	x[:, :, ::64] = 1
	for folder, n in (few, 2), (many, 20):
		os.mkdir(folder)
		for i in range(n):
			np.savez_compressed(os.path.join(folder, f"{i:02}.npz"), x=x)
	command = (os.path.join(BIN, "mloptc"), model, "--int8=static", "--max-loss=100%", "-q",
		"--emit=ir", "-o", path("wide.mlt"), "--calib")
	small, large = peak(*command, few), peak(*command, many)
	size = x.nbytes / MEGABYTE
	check("ten times the data take no more memory", large < small + size,
		f"{small:.0f} -> {large:.0f} MB, files of {size:.0f} MB")


def refused(name, text, *flags, model=DIGITS):
	out = path("refused.so")
	result = tool("mloptc", model, "--int8=static", *flags, "-o", out)
	check(f"{name}: refused", result.refused and text in result.text, result)
	check(f"{name}: nothing written", not os.path.exists(out))
	check(f"{name}: one error", result.text.count("error: ") == 1, result)


def bad_data():
	def npz(name, **arrays):
		np.savez(path(name), **arrays)
		return "--calib=" + path(name)

	refused("wrong name", "no array named 'image' (it has: picture, other)",
		npz("name.npz", picture=IMAGES, other=IMAGES))
	refused("wrong type", "the array is f64", npz("type.npz", image=IMAGES.astype(np.float64)))
	refused("wrong rank", "the array is f32[", npz("rank.npz", image=IMAGES[:, 0]))
	refused("wrong shape", "the array is f32[", npz("shape.npz", image=IMAGES[..., :7]))
	for what, value in ("NaN", np.nan), ("infinity", -np.inf):
		wrong = IMAGES.copy()
		wrong[11, 0, 3, 3] = value
		refused(what, "sample 11 of input 'image' is not finite", npz("value.npz", image=wrong))
	refused("empty array", "no samples", npz("empty.npz", image=IMAGES[:0]))
	refused("too few", "7 samples are too few", npz("few.npz", image=IMAGES[:7]))
	refused("no such file", "none.npz", "--calib=" + path("none.npz"))
	with open(path("text.npz"), "w") as f:
		f.write("no zip")
	refused("no archive", "text.npz", "--calib=" + path("text.npz"))
	with open(path("name.npz"), "rb") as whole, open(path("cut.npz"), "wb") as cut:
		cut.write(whole.read()[:-200])
	refused("cut short", "cut.npz", "--calib=" + path("cut.npz"))
	refused("another file", "calibration data is .npz", "--calib=" + DIGITS)
	os.mkdir(path("nothing"))
	refused("an empty folder", "no .npz and no test set", "--calib=" + path("nothing"))
	write_test_set(path("wrong/test_data_set_0"), [("image", IMAGES[:, 0])])
	refused("a test set of another shape", "the array is f32[", "--calib=" + path("wrong"))
	os.mkdir(path("wrong/test_data_set_1"))
	with open(path("wrong/test_data_set_1/input_0.pb"), "w") as f:
		f.write("no tensor")
	refused("a damaged test set", "input_0.pb",
		"--calib=" + path("wrong/test_data_set_1"))


def write_slow(file):
	"""A convolution that takes a while."""
	r = np.random.default_rng(1)
	weights = {"a": r.normal(size=(64, 1, 3, 3)) / 3, "b": r.normal(size=(64, 64, 3, 3)) / 24}
	graph = helper.make_graph(
		[helper.make_node("Conv", ["x", "a"], ["h"]), helper.make_node("Conv", ["h", "b"], ["y"])],
		"slow", [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 1, 64, 64])],
		[helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n", 64, 60, 60])],
		[numpy_helper.from_array(w.astype(np.float32), k) for k, w in weights.items()])
	onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)],
		ir_version=8), file)


def on_terminal(*command):
	"""What a command writes to stderr when that is a terminal, and its exit code."""
	ours, theirs = pty.openpty()
	process = subprocess.Popen(command, stderr=theirs)
	os.close(theirs)
	text = b""
	while True:
		try:
			part = os.read(ours, 1 << 16)
		except OSError:  # nobody has the terminal any longer
			break
		if not part:
			break
		text += part
	os.close(ours)
	return text.decode(), process.wait()


def progress():
	write_slow(path("slow.onnx"))
	image = np.random.default_rng(2).normal(size=(64, 1, 64, 64)).astype(np.float32)
	command = [os.path.join(BIN, "mloptc"), path("slow.onnx"), "--int8=static", "-o", path("slow.so"),
		"--calib", path("half"), "--calib", path("last.npz")]
	os.mkdir(path("half"))
	np.savez(path("last.npz"), x=image)
	bars, n = [], 512
	while len({bar[1:] for bar in bars}) < 2 and n <= 1 << 14:  # two seconds are silent
		np.savez(os.path.join(path("half"), "first.npz"), x=np.resize(image, (n, *image.shape[1:])))
		text, code = on_terminal(*command)
		bars = re.findall(r"\r\x1b\[Kcalibrating \[(#*) *\] +(\d+) %, walk (\d+), sample \d+ of file "
			"[12] of 2", text)
		n *= 2
	check("on a terminal it compiles", code == 0, text)
	check("a bar is drawn", len(bars) > 1, text)
	parts = [(int(walk), int(part)) for _, part, walk in bars]  # each walk begins anew
	check("it grows", parts == sorted(parts) and parts[0] < parts[-1] and
		all(part <= 100 for _, part in parts), parts)
	check("it is wiped", all("calibrating" not in line.split("\r\x1b[K")[-1]
		for line in text.split("\n")), text)
	quiet, code = on_terminal(*command, "-q")
	check("none with -q", code == 0 and quiet == "", quiet)
	piped = subprocess.run(command, capture_output=True, text=True)
	check("none in a pipe", piped.returncode == 0 and "calibrating" not in piped.stderr
		and "\r" not in piped.stderr, piped.stderr)


def main():
	test_sets()
	progress()
	bounded_memory()
	bad_data()
	finish()


main()
