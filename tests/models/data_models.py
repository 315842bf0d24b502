# data_models.py -- inputs and stored reference outputs of the real models, as the manifest has them.
import os

import numpy as np


def load(folder, file):
	with np.load(os.path.join(folder, file)) as z:
		return {k: z[k] for k in z.files}


def names(model):
	return [i[0] for i in model["inputs"]]


def prefill(model, ids):
	"""Inputs of the decoder for whole prompts: nothing is past."""
	batch, length = ids.shape
	empty = {n: np.zeros((batch, 6, 0, 64), np.float32) for n in names(model) if "past" in n}
	positions = np.tile(np.arange(length, dtype=np.int64), (batch, 1))
	return {"input_ids": ids, "attention_mask": np.ones_like(ids), "position_ids": positions, **empty}


def gpt(folder, model, limit):
	ids = load(folder, model["eval"])["input_ids"][:2]
	return [(prefill(model, ids), [load(folder, model["expected"])["logits_first2"]])]


def sst2(folder, model, limit):
	data, want = load(folder, model["eval"]), load(folder, model["expected"])
	return [({n: data[n][:limit] for n in names(model)}, [want["logits"][:limit]])]


def sts_batch(ids, mask):
	return {"input_ids": ids, "attention_mask": mask, "token_type_ids": np.zeros_like(ids)}


def classifier(folder, model, limit):
	name = names(model)[0]
	data, want = load(folder, model["eval"]), load(folder, model["expected"])
	return [({name: data[name][:limit]}, [want["logits"][:limit]])]


def pages(folder, model, limit):
	"""Pages of three sizes, as the text detector wants them: three channels in -1..1."""
	data, want = load(folder, model["eval"]), load(folder, model["expected"])
	made = []
	for i in range(3):
		grey = data[f"image_u8_{i}"].astype(np.float32)
		x = ((grey / 255 - 0.5) / 0.5)[None, None].repeat(3, axis=1)
		made.append(({names(model)[0]: x.astype(np.float32)}, [want[f"prob_{i}"]]))
	return made


def stored(folder, model, limit):
	io = load(folder, model["expected"])
	ins = {n: io[f"in{i}"] for i, n in enumerate(names(model))}
	return [(ins, [io[f"out{i}"] for i in range(len(model["outputs"]))])]


def pairs(folder, model, limit=64):
	"""[(inputs, reference outputs)] of a model, at most `limit` samples of a large set.  References
	may be fewer than the outputs; the encoder has none here, see test_accuracy.py."""
	makers = {"gpt_kv": gpt, "minilm/minilm-sst2": sst2, "digits_cnn": classifier,
		"fsdd_rnn": classifier, "ppocr_det": pages}
	if model["name"] == "minilm/minilm-encoder":
		data = load(folder, model["eval"])
		return [(sts_batch(data["ids_a"][:16], data["mask_a"][:16]), [])]
	return makers.get(model["name"], stored)(folder, model, limit)
