# harness.py -- what the tests over whole models share: the tools, arrays, comparisons, the verdict.
import json
import os
import resource
import subprocess
import sys
import tempfile

import numpy as np

BIN = os.environ.get("MLOPT_BIN", "build/bin")
SKIPPED = 77
CPU_SECONDS = 30
ADDRESS_SPACE = 4 << 30

scratch = tempfile.TemporaryDirectory(prefix="mlopt-models-")
counts = {"passed": 0, "failed": 0}


def shared():
	"""The folder of real models; without it the test skips, and says so."""
	folder = os.environ.get("MLOPT_SHARED")
	if not folder:
		print("SKIPPED: MLOPT_SHARED names no folder with a manifest.json of real models")
		sys.exit(SKIPPED)
	with open(os.path.join(folder, "manifest.json")) as f:
		return folder, json.load(f)


def path(name):
	return os.path.join(scratch.name, name)


def limited():
	resource.setrlimit(resource.RLIMIT_CPU, (CPU_SECONDS, CPU_SECONDS))
	resource.setrlimit(resource.RLIMIT_AS, (ADDRESS_SPACE, ADDRESS_SPACE))
	resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


class Result:
	"""How a tool ended.  `refused`: it said no, in words."""

	def __init__(self, process):
		self.code = process.returncode
		self.text = process.stderr.decode(errors="replace")
		self.out = process.stdout.decode(errors="replace")
		self.ok = self.code == 0
		self.refused = self.code == 1 and "error: " in self.text

	def __str__(self):
		return f"exit code {self.code}: {self.text.strip()[:300]}"


def tool(name, *args, env=None, limit=False):
	process = subprocess.run([os.path.join(BIN, name), *map(str, args)], capture_output=True,
		env={**os.environ, **(env or {})}, preexec_fn=limited if limit else None)
	return Result(process)


def compile_so(model, name, *flags):
	"""The artefact's path; its compilation must succeed."""
	so = path(name + ".so")
	result = tool("mloptc", model, "-o", so, *flags)
	if not result.ok:
		raise AssertionError(f"mloptc {model} {' '.join(flags)}: {result}")
	return so


def run(model, inputs, *flags, isa=None):
	"""Outputs as a list in their order; a refusal raises."""
	files = path("in.npz"), path("out.npz")
	if not isinstance(inputs, str):
		np.savez(files[0], **inputs)
		inputs = files[0]
	if "--batch" not in flags:
		flags += ("--batch", "0")
	result = tool("mlopt", "run", model, "--inputs", inputs, "--outputs", files[1], *flags,
		env={"MLOPT_ISA": isa} if isa else None)
	if not result.ok:
		raise AssertionError(f"mlopt run {model} {' '.join(map(str, flags))}: {result}")
	with np.load(files[1]) as z:
		return [z[k] for k in z.files]


def levels(bf16=False):
	"""ISA levels this CPU has of those an artefact carries; one of --bf16 has two more."""
	with open("/proc/cpuinfo") as f:
		flags = set(f.read().split())
	found = ["avx2"] if "avx2" in flags else []
	if {"avx512f", "avx512bw", "avx512vl", "avx512dq"} <= flags:
		found.append("avx512")
		if "avx512_vnni" in flags:
			found.append("avx512vnni")
			if bf16 and "avx512_bf16" in flags:
				found.append("avx512bf16")
				if {"amx_tile", "amx_int8", "amx_bf16"} <= flags:
					found.append("amx")
	return found


def same_bits(a, b):
	return len(a) == len(b) and all(
		x.shape == y.shape and x.dtype == y.dtype and x.tobytes() == y.tobytes()
		for x, y in zip(a, b))


def distance(got, want):
	"""Largest difference relative to the largest magnitude; inf when shapes or types differ or
	other elements are finite."""
	if got.shape != want.shape or got.dtype != want.dtype:
		return float("inf")
	if want.size == 0:
		return 0.0
	got, want = got.astype(np.float64), want.astype(np.float64)
	finite = np.isfinite(want)
	if not np.array_equal(got[~finite], want[~finite], equal_nan=True):
		return float("inf")
	if not np.isfinite(got[finite]).all():
		return float("inf")
	top = np.abs(want[finite]).max(initial=0)
	return float(np.abs(got - want)[finite].max(initial=0) / max(top, 1e-30))


def check(name, holds, what=""):
	counts["passed" if holds else "failed"] += 1
	print(f"{'ok  ' if holds else 'FAIL'} {name}{': ' + str(what) if what != '' else ''}", flush=True)


def attempt(name, what):
	"""Runs a test's function; an AssertionError is its failure."""
	try:
		what()
	except AssertionError as e:
		check(name, False, e)


def finish():
	print(f"{counts['passed']} passed, {counts['failed']} failed")
	sys.exit(1 if counts["failed"] or not counts["passed"] else 0)
