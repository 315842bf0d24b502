"""grammar.py -- draws labelled utterances for a phone assistant from phrases.txt.

    python grammar.py [N] [--held-out]     prints N utterances with their intents

A phrase is text with choices `(a|b|)` and slots `{name}`, both of which nest. Utterances made for
evaluation come from held-out phrasings only; the noise is the same on both sides.
"""

import random
import re
import sys
from pathlib import Path

FILLERS = ["um", "uh", "hey", "ok", "so", "well", "please", "hi there", "hmm", "just", "oh and"]
NEIGHBOURS = {
    "a": "sq", "b": "vn", "c": "xv", "d": "sf", "e": "wr", "f": "dg", "g": "fh", "h": "gj",
    "i": "uo", "j": "hk", "k": "jl", "l": "k", "m": "n", "n": "bm", "o": "ip", "p": "o",
    "q": "wa", "r": "et", "s": "ad", "t": "ry", "u": "yi", "v": "cb", "w": "qe", "x": "zc",
    "y": "tu", "z": "x",
}


class Grammar:
    """The phrase file: `slots`, `labels`, and per label its phrases `seen` and `held_out`."""

    def __init__(self, path):
        self.slots, self.labels, self.seen, self.held_out = {}, [], {}, {}
        for line in Path(path).read_text(encoding="utf-8").splitlines():
            line = line.strip()
            if not line or line.startswith("#"):
                continue
            if line.startswith("["):
                self.labels.append(line.strip("[]"))
                self.seen[self.labels[-1]], self.held_out[self.labels[-1]] = [], []
            elif not self.labels:
                name, values = line.split("=", 1)
                self.slots[name.strip()] = [value.strip() for value in values.split("|")]
            elif line.startswith("?"):
                self.held_out[self.labels[-1]].append(line[1:].strip())
            else:
                self.seen[self.labels[-1]].append(line)

    def expand(self, phrase, rng):
        """One random reading of `phrase`, without choices and slots."""
        while True:
            inner = re.search(r"\(([^()]*)\)", phrase)
            if not inner:
                break
            choice = rng.choice(inner.group(1).split("|"))
            phrase = phrase[: inner.start()] + choice + phrase[inner.end() :]
        while "{" in phrase:
            slot = re.search(r"\{(\w+)\}", phrase)
            value = rng.choice(self.slots[slot.group(1)])
            phrase = phrase[: slot.start()] + value + phrase[slot.end() :]
        return " ".join(phrase.split())

    def words(self):
        """Every word of the training phrasings and slots, with repetition, for a vocabulary."""
        text = [phrase for phrases in self.seen.values() for phrase in phrases]
        text += [value for values in self.slots.values() for value in values]
        return re.sub(r"\{\w+\}|[()|]", " ", " ".join(text)).split()

    def sample(self, per_label, rng, held_out=False, avoid=()):
        """`per_label` noisy utterances of each intent, distinct and in lower case none of `avoid`:
        a shuffled list of (text, label)."""
        rows = []
        for label, name in enumerate(self.labels):
            phrases, texts = (self.held_out if held_out else self.seen)[name], set()
            while len(texts) < per_label:
                text = add_noise(self.expand(rng.choice(phrases), rng), rng)
                if text.lower() not in avoid:
                    texts.add(text)
            rows += [(text, label) for text in sorted(texts)]
        rng.shuffle(rows)
        return rows


def misspell(word, rng):
    """`word` with one slip of the thumb: a swap, a drop, a doubling or a neighbouring key."""
    at = rng.randrange(len(word) - 1)
    slip = rng.randrange(4)
    if slip == 0:
        return word[:at] + word[at + 1] + word[at] + word[at + 2 :]
    if slip == 1:
        return word[:at] + word[at + 1 :]
    if slip == 2:
        return word[: at + 1] + word[at:]
    return word[:at] + rng.choice(NEIGHBOURS.get(word[at], word[at])) + word[at + 1 :]


def add_noise(text, rng):
    """`text` as people type it: misspelt and missing words, fillers, casing, punctuation."""
    words = text.split()
    words = [misspell(w, rng) if len(w) > 3 and rng.random() < 0.1 else w for w in words]
    if len(words) > 4 and rng.random() < 0.1:
        del words[rng.randrange(len(words))]
    if rng.random() < 0.25:
        at = rng.choice([0, 0, 0, len(words), rng.randrange(len(words) + 1)])
        words.insert(at, rng.choice(FILLERS))
    text = " ".join(words)
    if rng.random() < 0.1:
        text = text.replace("'", "")
    case = rng.random()
    text = text.upper() if case < 0.03 else text.capitalize() if case < 0.35 else text
    return text + rng.choice(["", "", "", "", ".", "?", "!"])


def main():
    grammar = Grammar(Path(__file__).with_name("phrases.txt"))
    counts = [int(arg) for arg in sys.argv[1:] if arg.isdigit()] or [40]
    rows = grammar.sample(1 + counts[0] // len(grammar.labels), random.Random(1),
                          held_out="--held-out" in sys.argv)
    for text, label in rows[: counts[0]]:
        print(f"{grammar.labels[label]:16} {text}")


if __name__ == "__main__":
    main()
