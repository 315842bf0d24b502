"""wordpiece.py -- builds a small word-piece vocabulary and encodes text with it.

The rule an app must repeat: lower the ASCII letters, split at spaces, make every character that is
neither letter nor digit a word of its own, then cut each word greedily into the longest pieces of
vocab.txt; pieces inside a word are spelt `##piece`. A word with an unknown character is [UNK]. A
line's number in vocab.txt is the piece's id.
"""

import re
from collections import Counter

PAD, UNK, CLS, SEP = range(4)
SPECIALS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]"]


def split_words(text):
    return re.findall(r"[a-z0-9]+|[^a-z0-9\s]", text.lower())


def merge(pieces, pair):
    """`pieces` with every neighbouring `pair` joined."""
    out, at = [], 0
    while at < len(pieces):
        if tuple(pieces[at : at + 2]) == pair:
            out.append(pieces[at] + pieces[at + 1][2:])
            at += 2
        else:
            out.append(pieces[at])
            at += 1
    return out


def build(words, size):
    """A vocabulary of at most `size` pieces: all characters, then the most frequent joins."""
    counts = Counter(word for text in words for word in split_words(text))
    spelt = {w: [w[0]] + ["##" + c for c in w[1:]] for w in counts}
    letters = "abcdefghijklmnopqrstuvwxyz0123456789"
    vocab = SPECIALS + list(letters) + ["##" + c for c in letters] + list("'.,:?!-&%+")
    while len(vocab) < size:
        pairs = Counter()
        for word, pieces in spelt.items():
            for pair in zip(pieces, pieces[1:]):
                pairs[pair] += counts[word]
        if not pairs:
            break
        best = min(pairs, key=lambda pair: (-pairs[pair], pair))
        joined = best[0] + best[1][2:]
        if joined not in vocab:
            vocab.append(joined)
        spelt = {word: merge(pieces, best) for word, pieces in spelt.items()}
    return vocab


def cut(word, ids):
    """The ids of the longest pieces of `word`, left to right."""
    out, at = [], 0
    while at < len(word):
        end = len(word)
        while end > at and ("##" if at else "") + word[at:end] not in ids:
            end -= 1
        if end == at:
            return [UNK]
        out.append(ids[("##" if at else "") + word[at:end]])
        at = end
    return out


def encode(text, ids, length):
    """[CLS] pieces [SEP], cut to at most `length` ids; `ids` maps a piece to its number."""
    pieces = [piece for word in split_words(text) for piece in cut(word, ids)]
    return [CLS] + pieces[: length - 2] + [SEP]
