"""neighbours.py -- how often a sentence lies nearest to its own topic, and to a sentence of it.

    python neighbours.py DIR [--model FILE] [--show N]

DIR holds what export.py and tokenize_text.py wrote. A topic is the mean of its calibration
sentences; the evaluation sentences are judged. Needs numpy and onnxruntime.
"""

import argparse
from pathlib import Path

import numpy as np
import onnxruntime

from tokenize_text import read_sentences


def embed(model, feed, batch=16):
    """f32[n, 384], computed `batch` sentences at a time, each batch cut to its longest sentence."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(str(model), options, ["CPUExecutionProvider"])
    parts = []
    for at in range(0, len(feed["input_ids"]), batch):
        part = {name: values[at : at + batch] for name, values in feed.items()}
        length = part["attention_mask"].sum(1).max()
        part = {name: values[:, :length] for name, values in part.items()}
        parts += session.run(["embedding"], part)
    return np.concatenate(parts)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("dir", type=Path)
    parser.add_argument("--model", type=Path, help="default: DIR/model.onnx")
    parser.add_argument("--show", type=int, default=5, help="pairs to print")
    args = parser.parse_args()
    topics, calib, evaluation = read_sentences(Path(__file__).with_name("sentences.txt"))
    labels = np.load(args.dir / "eval_labels.npy")
    model = args.model or args.dir / "model.onnx"
    known = embed(model, dict(np.load(args.dir / "calib.npz")))
    vectors = embed(model, dict(np.load(args.dir / "eval.npz")))

    known_labels = np.array([topic for _, topic in calib])
    means = np.stack([known[known_labels == at].mean(0) for at in range(len(topics))])
    means /= np.linalg.norm(means, axis=1, keepdims=True)
    own = ((vectors @ means.T).argmax(1) == labels).sum()
    print(f"{own} of {len(labels)} sentences nearest to their own topic: {own / len(labels):.4f}")
    likeness = vectors @ vectors.T
    np.fill_diagonal(likeness, -1)
    nearest = likeness.argmax(1)
    hits = labels[nearest] == labels
    print(f"{hits.sum()} of {len(hits)} nearest sentences on the same topic: {hits.mean():.4f}")
    step = max(1, len(hits) // max(1, args.show))
    for at in range(0, len(hits), step)[: args.show]:
        other = nearest[at]
        print(f"{likeness[at, other]:.3f} [{topics[labels[at]]}] {evaluation[at][0]}")
        print(f"      [{topics[labels[other]]}] {evaluation[other][0]}")


if __name__ == "__main__":
    main()
