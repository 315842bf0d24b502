# test_export.py -- every model that compiles survives import, canonicalization and export: ONNX Runtime
# loads what --emit=onnx wrote and gives the stored outputs.
import os

import onnxruntime

import data_models
from harness import attempt, check, distance, finish, path, shared, tool
from test_cases import wrong

TOLERANCE = 1e-4
TOLERANCES = {"kws_qdq": 0.004} # as in test_models.py
onnxruntime.set_default_logger_severity(4)


def exported(model):
	"""An ONNX Runtime session over the exported model."""
	file = path("exported.onnx")
	result = tool("mloptc", model, "--emit=onnx", "-o", file)
	assert result.ok, f"export: {result}"
	try:
		return onnxruntime.InferenceSession(file, providers=["CPUExecutionProvider"])
	except Exception as e:
		raise AssertionError(f"ONNX Runtime refuses it: {str(e)[:300]}")


def outputs(session, inputs):
	try:
		return session.run(None, {i.name: inputs[i.name] for i in session.get_inputs()})
	except Exception as e:
		raise AssertionError(f"ONNX Runtime fails: {str(e)[:300]}")


def case(folder, entry):
	model = os.path.join(folder, entry["file"])
	if not tool("mlopt", "check", model).ok:
		return
	io = data_models.load(folder, entry["io"])
	ins = {i["name"]: io[i["npz"]] for i in entry["inputs"]}
	fault = wrong(entry, io, outputs(exported(model), ins))
	check(entry["name"], not fault, fault or "")


def model(folder, entry):
	session = exported(os.path.join(folder, entry["file"]))
	original = onnxruntime.InferenceSession(os.path.join(folder, entry["file"]),
		providers=["CPUExecutionProvider"])
	check(entry["name"] + " names", [(i.name, i.shape) for i in session.get_inputs()] ==
		[(i.name, i.shape) for i in original.get_inputs()])
	for ins, want in data_models.pairs(folder, entry):
		got = outputs(session, ins)
		want = want or outputs(original, ins)
		far = max(distance(g, w) for g, w in zip(got, want))
		check(entry["name"], far <= TOLERANCES.get(entry["name"], TOLERANCE), f"{far:.2g}")


def main():
	folder, manifest = shared()
	for entry in manifest["cases"]:
		attempt(entry["name"], lambda: case(folder, entry))
	for entry in manifest["models"]:
		attempt(entry["name"], lambda: model(folder, entry))
	finish()


if __name__ == "__main__":
	main()
