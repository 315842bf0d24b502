"""tasks.py -- what is measured: a model, its data in batches, and figures from its outputs.

A task is a class with a row's name, `model`, `mode` (mlopt's --int8), and
  calib()          {input: array} to learn from
  batches()        [{input: array}], the same for every engine
  figures(out, base)  {name: number} from the outputs of all batches and those of fp32
A new row is a new class in TASKS.
"""

import os
import pathlib

import numpy as np

SHARED = pathlib.Path(os.environ["MLOPT_SHARED"])


def load(name):
    with np.load(SHARED / "data" / f"{name}.npz") as z:
        return {k: z[k] for k in z.files}


def batched(inputs, size=16, mask=None):
    """Batches, without the columns that are padding for all of a batch."""
    n = len(next(iter(inputs.values())))
    for at in range(0, n, size):
        part = {k: v[at:at + size] for k, v in inputs.items()}
        if mask:
            length = int(part[mask].sum(1).max())
            part = {k: np.ascontiguousarray(v[:, :length]) for k, v in part.items()}
        yield part


def softmax(x):
    e = np.exp(x - x.max(-1, keepdims=True))
    return e / e.sum(-1, keepdims=True)


def classes(out, base, labels):
    """Accuracy, agreement with fp32, and paired flips: right answers gained and lost."""
    got, was = out.argmax(-1), base.argmax(-1)
    gained = int(((got == labels) & (was != labels)).sum())
    lost = int(((got != labels) & (was == labels)).sum())
    p, q = softmax(base.astype(np.float64)), softmax(out.astype(np.float64))
    return {"accuracy": float((got == labels).mean()), "agreement": float((got == was).mean()),
            "gained": gained, "lost": lost, "net": gained - lost,
            "KL": float((p * (np.log(p + 1e-30) - np.log(q + 1e-30))).sum(-1).mean())}


class Sentiment:
    name, model, mode, decimals = "sst2", "minilm/minilm-sst2", "dynamic", 4

    def calib(self):
        return load("sst2_calib")

    def batches(self):
        data = load("sst2_dev")
        self.labels = data.pop("labels")
        return list(batched(data, mask="attention_mask"))

    def figures(self, out, base):
        return classes(np.concatenate(out), np.concatenate(base), self.labels)


class Embeddings:
    name, model, mode = "minilm", "minilm/minilm-encoder", "dynamic"

    def calib(self):
        return {k: v[:512] for k, v in load("sts_calib").items()}

    def batches(self):
        data = load("sts14_dev")
        self.score, made = data["score"], []
        for side in "ab":
            ids, mask = data["ids_" + side], data["mask_" + side]
            made += batched({"input_ids": ids, "attention_mask": mask,
                             "token_type_ids": np.zeros_like(ids)}, mask="attention_mask")
        self.masks = [b["attention_mask"] for b in made]
        return made

    def pooled(self, out):
        means = [(h * m[..., None]).sum(1) / m.sum(1, keepdims=True)
                 for h, m in zip(out, self.masks)]
        e = np.concatenate(means).astype(np.float64)
        return e / np.linalg.norm(e, axis=1, keepdims=True)

    def figures(self, out, base):
        from scipy.stats import spearmanr
        got, was = self.pooled(out), self.pooled(base)
        half = len(got) // 2
        rho = spearmanr((got[:half] * got[half:]).sum(1), self.score).statistic
        return {"Spearman": float(rho), "cosine": float((got * was).sum(1).mean())}


class Characters:
    name, model, mode, has_cache = "gpt", "gpt_kv", "dynamic", True

    def prefill(self, ids):
        batch, length = ids.shape
        past = {f"past_key_values.{i}.{kind}": np.zeros((batch, 6, 0, 64), np.float32)
                for i in range(self.layers()) for kind in ("key", "value")}
        positions = np.tile(np.arange(length, dtype=np.int64), (batch, 1))
        return {"input_ids": ids, "attention_mask": np.ones_like(ids), "position_ids": positions,
                **past}

    def layers(self):
        import onnx
        inputs = onnx.load(SHARED / "models" / f"{self.model}.onnx").graph.input
        return sum(i.name.endswith(".key") for i in inputs)

    def calib(self):
        return self.prefill(load("gpt_calib")["input_ids"])

    def batches(self):
        data = load("gpt_eval_dev")
        self.labels = data["labels"]
        return list(batched(self.prefill(data["input_ids"]), 8))

    def loss(self, out):
        p = softmax(np.concatenate(out).astype(np.float64))
        return float(-np.log(np.take_along_axis(p, self.labels[..., None], -1)).mean())

    def figures(self, out, base):
        got, was = self.loss(out), self.loss(base)
        same = np.concatenate(out).argmax(-1) == np.concatenate(base).argmax(-1)
        return {"loss": got, "rise": got / was - 1, "agreement": float(same.mean())}


class Digits:
    name, model, mode, key, stem = "digits", "digits_cnn", "static", "image", "digits"

    def calib(self):
        return {self.key: load(f"{self.stem}_calib")[self.key]}

    def batches(self):
        data = load(f"{self.stem}_eval")
        self.labels = data["labels"]
        return list(batched({self.key: data[self.key]}))

    def figures(self, out, base):
        return classes(np.concatenate(out), np.concatenate(base), self.labels)


class Spoken(Digits):
    name, model, mode, key, stem = "fsdd", "fsdd_rnn", "static", "mel", "fsdd"


class Characters4(Characters):
    """Four bits for the weights of the same model."""

    name, four_bits, has_cache = "gpt-int4", True, False


TASKS = [Sentiment, Embeddings, Characters, Characters4, Digits, Spoken]
