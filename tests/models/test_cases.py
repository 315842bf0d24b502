# test_cases.py -- small models from many exporters: right within their tolerances, at -O0 and -O3, in
# memory and as artefacts, or refused in words.
import os

import numpy as np

from harness import check, compile_so, finish, run, shared, tool

ENOUGH = 60


def wrong(case, io, outputs):
	"""What is wrong with the outputs, or None."""
	if len(outputs) != len(case["outputs"]):
		return f"{len(outputs)} outputs"
	for got, o in zip(outputs, case["outputs"]):
		want = io[o["npz"]]
		if got.shape != want.shape or got.dtype != want.dtype:
			return f"{o['name']}: {got.dtype}{got.shape}, not {want.dtype}{want.shape}"
		if want.dtype.kind in "fc":
			rtol, atol = case["rtol"], case["atol"]
		else:
			rtol, atol = 0, case["int8_lsb"] if want.dtype.itemsize == 1 else 0
		near = np.isclose(got.astype(np.float64), want.astype(np.float64), rtol, atol, True)
		if not near.all():
			return f"{o['name']}: {np.count_nonzero(~near)} of {want.size} elements differ"
	return None


def variants(model):
	"""The ways to run a model; each gives outputs for the path of its inputs."""
	for level in "-O0", "-O3":
		yield f"{level} in memory", lambda io: run(model, io, level)
		yield f"{level} from a file", lambda io: run(compile_so(model, "case", level), io)


def main():
	folder, manifest = shared()
	agreed, refused = 0, []
	for case in manifest["cases"]:
		model, path = os.path.join(folder, case["file"]), os.path.join(folder, case["io"])
		with np.load(path) as z:
			io = {k: z[k] for k in z.files}
		checked = tool("mlopt", "check", model)
		if not checked.ok:
			refused.append(case["name"])
			check(case["name"], checked.refused, f"refused: {checked.text.strip()[:200]}")
			continue
		faults = []
		for name, way in variants(model):
			try:
				fault = wrong(case, io, way(path))
			except AssertionError as e:
				fault = str(e)
			if fault:
				faults.append(f"{name}: {fault}")
		agreed += not faults
		check(case["name"], not faults, "; ".join(faults))
	check("enough of them", agreed >= ENOUGH, f"{agreed} agree, {len(refused)} refused")
	finish()


if __name__ == "__main__":
	main()
