# test_models.py -- real models: right at -O0 and -O3, in memory and as artefacts, the same bits for any
# number of threads, fp32 and int8; one artefact for all shapes; every level of this CPU.
import os

import numpy as np

import data_models
from harness import attempt, check, compile_so, distance, finish, levels, run, same_bits, shared

TOLERANCE = 1e-4
# One step of an 8-bit softmax: the reference fused what the graph says in another order.
TOLERANCES = {"kws_qdq": 0.004}
CLOSE_INT8 = 0.35


def pooled(folder, model, ins, outputs):
	"""The encoder's reference is the mean over the mask."""
	mask = ins["attention_mask"][..., None]
	mean = (outputs[0] * mask).sum(1) / mask.sum(1)
	return [mean.astype(np.float32)], [data_models.load(folder, model["expected"])["emb_a"]]


def error(folder, model, ins, outputs, want):
	if model["name"] == "minilm/minilm-encoder":
		outputs, want = pooled(folder, model, ins, outputs)
	return max(distance(got, w) for got, w in zip(outputs, want))


def agrees(folder, model, file):
	"""-O0 and -O3, JIT and AOT, against the references; JIT = AOT, 1 = 2 threads, to the bit."""
	pairs = data_models.pairs(folder, model)
	tolerance = TOLERANCES.get(model["name"], TOLERANCE)
	for level in "-O0", "-O3":
		so = compile_so(file, "model", level)
		for i, (ins, want) in enumerate(pairs):
			name = f"{model['name']} {level} #{i}"
			one = run(so, ins, "--threads", "1")
			far = error(folder, model, ins, one, want)
			check(name, far <= tolerance, f"{far:.2g}")
			if i:
				continue
			check(name + " JIT = AOT", same_bits(run(file, ins, level, "--threads", "1"), one))
			check(name + " 1 = 2 threads", same_bits(run(so, ins, "--threads", "2"), one))
	return so, pairs


def on_levels(model, so, pairs, folder):
	"""The -O3 artefact forced to each level."""
	ins, want = pairs[0]
	tolerance = TOLERANCES.get(model["name"], TOLERANCE)
	for isa in levels():
		far = error(folder, model, ins, run(so, ins, isa=isa), want)
		check(f"{model['name']} on {isa}", far <= tolerance, f"{far:.2g}")


def int8(model, file, pairs):
	"""--int8: the same bits on every level, and close to fp32."""
	so = compile_so(file, "int8", "--int8")
	ins = pairs[0][0]
	first, wide = run(so, ins, isa="avx2"), run(file, ins)
	for isa in levels()[1:]:
		check(f"{model['name']} int8 avx2 = {isa}", same_bits(run(so, ins, isa=isa), first))
	check(f"{model['name']} int8 JIT = AOT", same_bits(run(file, ins, "--int8"), run(so, ins)))
	if model["name"] == "minilm/minilm-encoder": # what padding becomes is nobody's business
		seen = ins["attention_mask"] != 0
		first, wide = [first[0][seen]], [wide[0][seen]]
	far = max(distance(a, b) for a, b in zip(first, wide))
	check(f"{model['name']} int8 near fp32", far < CLOSE_INT8, f"{far:.2g}")


def every(folder, manifest):
	for model in manifest["models"]:
		def whole():
			file = os.path.join(folder, model["file"])
			so, pairs = agrees(folder, model, file)
			on_levels(model, so, pairs, folder)
			int8(model, file, pairs)
		attempt(model["name"], whole)


def shapes(folder, manifest):
	"""One artefact at many batches and lengths: a sample's result does not depend on its batch's
	other samples, on its place among them, or on masked padding behind it."""
	model = next(m for m in manifest["models"] if m["name"] == "minilm/minilm-sst2")
	so = compile_so(os.path.join(folder, model["file"]), "shapes")
	data = data_models.load(folder, model["eval"])
	want = data_models.load(folder, model["expected"])["logits"]
	for batch, length in (1, 53), (2, 53), (3, 40), (7, 53), (16, 32), (1, 1), (5, 17):
		rows = np.flatnonzero(data["attention_mask"].sum(1) <= length)[:batch]
		if length < 17 or len(rows) < batch:
			rows = np.arange(batch)
			ins = {n: data[n][rows, :length] for n in data_models.names(model)}
			alone = [run(so, {n: v[i:i + 1] for n, v in ins.items()})[0] for i in range(batch)]
			expected = np.concatenate(alone)
		else:
			ins = {n: data[n][rows, :length] for n in data_models.names(model)}
			expected = want[rows]
		far = distance(run(so, ins)[0], expected)
		check(f"{batch} x {length}", far <= TOLERANCE, f"{far:.2g}")
	ins = {n: data[n][:6] for n in data_models.names(model)}
	turned = run(so, {n: np.ascontiguousarray(v[::-1]) for n, v in ins.items()})[0][::-1]
	far = distance(turned, run(so, ins)[0])
	check("places in a batch", far <= 1e-6, f"{far:.2g}")


def decoding(folder, manifest):
	"""Greedy text, one token a run with a growing cache, is the reference's."""
	model = next(m for m in manifest["models"] if m["name"] == "gpt_kv")
	so = compile_so(os.path.join(folder, model["file"]), "decoder")
	want = data_models.load(folder, model["expected"])
	prompt = want["prompt_ids"][0]
	outputs = run(so, data_models.prefill(model, prompt[prompt >= 0][None]))
	made, past = [], [n for n in data_models.names(model) if "past" in n]
	for _ in range(24):
		made.append(int(outputs[0][0, -1].argmax()))
		length = outputs[1].shape[2]
		outputs = run(so, {"input_ids": np.array([[made[-1]]]),
			"attention_mask": np.ones((1, length + 1), np.int64),
			"position_ids": np.array([[length]]), **dict(zip(past, outputs[1:]))})
	check("decoding", made == list(want["greedy"][0][:24]), made)


def main():
	folder, manifest = shared()
	every(folder, manifest)
	attempt("shapes", lambda: shapes(folder, manifest))
	attempt("decoding", lambda: decoding(folder, manifest))
	finish()


main()
