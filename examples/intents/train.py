"""train.py -- trains the intent classifier and writes every shipped file of this folder.

    python train.py [--steps N] [--show N] [--out DIR]

Needs torch (2.13, CPU), onnx and numpy. One thread and fixed seeds: the same machine gives the same
model; another may differ in the last digits.
"""

import argparse
import math
import random
import time
from pathlib import Path

import numpy as np
import torch
from torch import nn

import wordpiece
from grammar import Grammar

HIDDEN, HEADS, LAYERS, LENGTH, VOCAB = 160, 4, 4, 32, 1200
TRAIN_PER_LABEL, EVAL_PER_LABEL, CALIB, SLIPS = 800, 64, 512, 0.1


class Attention(nn.Module):
    """Self-attention over [batch, sequence, HIDDEN] under an additive mask, with its residual."""

    def __init__(self):
        super().__init__()
        self.query = nn.Linear(HIDDEN, HIDDEN)
        self.key = nn.Linear(HIDDEN, HIDDEN)
        self.value = nn.Linear(HIDDEN, HIDDEN)
        self.output = nn.Linear(HIDDEN, HIDDEN)
        self.norm = nn.LayerNorm(HIDDEN, eps=1e-12)
        self.dropout = nn.Dropout(0.1)

    def heads(self, x):
        return x.view(x.shape[0], x.shape[1], HEADS, HIDDEN // HEADS).permute(0, 2, 1, 3)

    def forward(self, x, mask):
        q, k, v = self.heads(self.query(x)), self.heads(self.key(x)), self.heads(self.value(x))
        scores = torch.matmul(q, k.transpose(-1, -2)) / math.sqrt(HIDDEN // HEADS)
        weights = self.dropout(torch.softmax(scores + mask, dim=-1))
        context = torch.matmul(weights, v).permute(0, 2, 1, 3).contiguous()
        context = context.view(x.shape[0], x.shape[1], HIDDEN)
        return self.norm(x + self.dropout(self.output(context)))


class Layer(nn.Module):
    def __init__(self):
        super().__init__()
        self.attention = Attention()
        self.intermediate = nn.Linear(HIDDEN, 4 * HIDDEN)
        self.output = nn.Linear(4 * HIDDEN, HIDDEN)
        self.norm = nn.LayerNorm(HIDDEN, eps=1e-12)
        self.dropout = nn.Dropout(0.1)

    def forward(self, x, mask):
        x = self.attention(x, mask)
        inner = nn.functional.gelu(self.intermediate(x))
        return self.norm(x + self.dropout(self.output(inner)))


class Classifier(nn.Module):
    """A BERT-like encoder, its first position pooled through tanh, and a linear head."""

    def __init__(self, vocab, labels):
        super().__init__()
        self.words = nn.Embedding(vocab, HIDDEN, padding_idx=wordpiece.PAD)
        self.positions = nn.Embedding(LENGTH, HIDDEN)
        self.register_buffer("position_ids", torch.arange(LENGTH).unsqueeze(0), persistent=False)
        self.norm = nn.LayerNorm(HIDDEN, eps=1e-12)
        self.dropout = nn.Dropout(0.1)
        self.encoder = nn.ModuleList([Layer() for _ in range(LAYERS)])
        self.pooler = nn.Linear(HIDDEN, HIDDEN)
        self.classifier = nn.Linear(HIDDEN, labels)
        self.apply(self.initialize)

    @staticmethod
    def initialize(module):
        if isinstance(module, (nn.Linear, nn.Embedding)):
            nn.init.normal_(module.weight, std=0.02 if isinstance(module, nn.Embedding) else 0.05)

    def forward(self, input_ids, attention_mask):
        mask = (1.0 - attention_mask[:, None, None, :].to(torch.float32)) * -10000.0
        position_ids = self.position_ids[:, : input_ids.shape[1]]
        x = self.dropout(self.norm(self.words(input_ids) + self.positions(position_ids)))
        for layer in self.encoder:
            x = layer(x, mask)
        return self.classifier(self.dropout(torch.tanh(self.pooler(x[:, 0]))))


def pad(rows, length=None):
    """Lists of ids as (input_ids, attention_mask), int64 [n, length or the longest]."""
    length = length or max(len(row) for row in rows)
    ids = np.full((len(rows), length), wordpiece.PAD, dtype=np.int64)
    mask = np.zeros_like(ids)
    for at, row in enumerate(rows):
        ids[at, : len(row)], mask[at, : len(row)] = row, 1
    return ids, mask


def with_slips(labels, count, rng):
    """Labels as hurried annotators give them: SLIPS of them are the intent next in the list.

    Without slips the logits of two intents lie so far apart that no quantization changes a verdict.
    """
    shift = [rng.choice([-1, 1]) if rng.random() < SLIPS else 0 for _ in labels]
    return [min(max(label + by, 0), count - 1) for label, by in zip(labels, shift)]


def train(model, rows, labels, steps, batch=64, peak=1.5e-3):
    """AdamW with warm-up and a linear decay; batches are cut from length-sorted pools."""
    rng = random.Random(4)
    optimizer = torch.optim.AdamW(model.parameters(), lr=peak, weight_decay=0.01)
    model.train()
    began, queue, total = time.time(), [], 0.0
    for step in range(steps):
        if not queue:
            pool = sorted(rng.sample(range(len(rows)), 32 * batch), key=lambda i: len(rows[i]))
            queue = [pool[at : at + batch] for at in range(0, len(pool), batch)]
            rng.shuffle(queue)
        picked = queue.pop()
        ids, mask = pad([rows[i] for i in picked])
        rate = min((step + 1) / (0.06 * steps), (steps - step) / (0.94 * steps))
        optimizer.param_groups[0]["lr"] = peak * rate
        logits = model(torch.from_numpy(ids), torch.from_numpy(mask))
        loss = nn.functional.cross_entropy(logits, torch.tensor([labels[i] for i in picked]))
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        total += loss.item()
        if (step + 1) % 100 == 0:
            seconds = time.time() - began
            print(f"step {step + 1} loss {total / 100:.4f} {seconds:.0f} s", flush=True)
            total = 0.0
    model.eval()


def predict(model, ids, mask):
    with torch.no_grad():
        return model(torch.from_numpy(ids), torch.from_numpy(mask)).argmax(-1).numpy()


def export(model, path):
    sample = torch.ones(2, 12, dtype=torch.int64)
    axes = {0: "batch", 1: "sequence"}
    torch.onnx.export(
        model, (sample, sample), str(path), dynamo=False, opset_version=17,
        input_names=["input_ids", "attention_mask"], output_names=["logits"],
        dynamic_axes={"input_ids": axes, "attention_mask": axes, "logits": {0: "batch"}},
    )


def main():
    here = Path(__file__).parent
    parser = argparse.ArgumentParser()
    parser.add_argument("--steps", type=int, default=2500)
    parser.add_argument("--show", type=int, default=0, help="misjudged utterances to print")
    parser.add_argument("--out", type=Path, default=here)
    args = parser.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
    torch.set_num_threads(1)
    torch.manual_seed(0)

    grammar = Grammar(here / "phrases.txt")
    vocab = wordpiece.build(grammar.words(), VOCAB)
    ids_of = {piece: number for number, piece in enumerate(vocab)}
    seen = grammar.sample(TRAIN_PER_LABEL, random.Random(1))
    unseen = grammar.sample(EVAL_PER_LABEL, random.Random(2), held_out=True,
                            avoid={text.lower() for text, _ in seen})
    more = grammar.sample(1 + CALIB // len(grammar.labels), random.Random(3))[:CALIB]
    rows, labels = zip(*[(wordpiece.encode(t, ids_of, LENGTH), label) for t, label in seen])
    eval_ids, eval_mask = pad([wordpiece.encode(t, ids_of, LENGTH) for t, _ in unseen])
    eval_labels = np.array([label for _, label in unseen], dtype=np.int64)
    calib_ids, calib_mask = pad([wordpiece.encode(t, ids_of, LENGTH) for t, _ in more])

    model = Classifier(len(vocab), len(grammar.labels))
    print(sum(p.numel() for p in model.parameters()), "parameters,", len(vocab), "pieces")
    train(model, rows, with_slips(labels, len(grammar.labels), random.Random(5)), args.steps)
    guesses = predict(model, eval_ids, eval_mask)
    print(f"held-out phrasings: {(guesses == eval_labels).mean():.4f}")
    wrong = [row for row, guess in zip(unseen, guesses) if guess != row[1]]
    for text, label in wrong[: args.show]:
        print(f"  {grammar.labels[label]}: {text}")
    export(model, args.out / "model.onnx")
    (args.out / "vocab.txt").write_text("\n".join(vocab) + "\n", encoding="utf-8")
    (args.out / "labels.txt").write_text("\n".join(grammar.labels) + "\n", encoding="utf-8")
    np.savez_compressed(args.out / "calib.npz", input_ids=calib_ids, attention_mask=calib_mask)
    np.savez_compressed(args.out / "eval.npz", input_ids=eval_ids, attention_mask=eval_mask)
    np.save(args.out / "eval_labels.npy", eval_labels)


if __name__ == "__main__":
    main()
