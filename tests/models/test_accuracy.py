# test_accuracy.py -- --int8 keeps what the models are for: SST-2's accuracy and answers, and the
# directions of sentence embeddings.
import os

import numpy as np

import data_models
from harness import check, compile_so, finish, path, run, shared

BATCH = 16


def find(manifest, name):
	return next(m for m in manifest["models"] if m["name"] == name)


def sentiment(folder, manifest):
	model = find(manifest, "minilm/minilm-sst2")
	file, data = os.path.join(folder, model["file"]), os.path.join(folder, model["eval"])
	want = data_models.load(folder, model["expected"])["logits"].argmax(1)
	labels = data_models.load(folder, model["eval"])["labels"]
	flags = "--batch", BATCH, "--trim", "attention_mask"
	plain = run(compile_so(file, "fp32"), data, *flags)[0].argmax(1)
	small = run(compile_so(file, "int8", "--int8"), data, *flags)[0].argmax(1)
	check("fp32 answers are the reference's", (plain == want).all(), (plain == want).mean())
	net = int((small == labels).sum()) - int((plain == labels).sum())
	check("no more than two answers lost", net >= -2, net)
	same = (plain == small).mean()
	check("agreement of at least 99 %", same >= 0.99, f"{same:.4f}")


def embed(so, ids, mask):
	ins = path("sts.npz")
	np.savez(ins, **data_models.sts_batch(ids, mask))
	hidden = run(so, ins, "--batch", "10")[0]
	mean = (hidden * mask[..., None]).sum(1) / mask.sum(1, keepdims=True)
	return mean / np.linalg.norm(mean, axis=1, keepdims=True)


def sentences(folder, manifest):
	model = find(manifest, "minilm/minilm-encoder")
	file = os.path.join(folder, model["file"])
	data = data_models.load(folder, model["eval"])
	plain, small = compile_so(file, "fp32"), compile_so(file, "int8", "--int8")
	cosines, scores = [], []
	for side in "ab":
		ids, mask = data["ids_" + side], data["mask_" + side]
		exact, close = embed(plain, ids, mask), embed(small, ids, mask)
		cosines.append((exact * close).sum(1))
		scores.append(exact)
	mean = np.concatenate(cosines).mean()
	check("mean cosine of at least 0.9992", mean >= 0.9992, f"{mean:.5f}")
	want = data_models.load(folder, model["expected"])["cosine"]
	far = np.abs((scores[0] * scores[1]).sum(1) - want).max()
	check("fp32 similarities are the reference's", far < 1e-4, f"{far:.2g}")


def main():
	folder, manifest = shared()
	sentiment(folder, manifest)
	sentences(folder, manifest)
	finish()


main()
