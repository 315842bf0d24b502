"""agreement.py -- how often two sets of embeddings name the same nearest neighbour.

    python agreement.py BEFORE.npz AFTER.npz

Both hold `embedding` f32[n, 384] of the same sentences. Needs numpy.
"""

import sys

import numpy as np


def nearest(path):
    """For each sentence the index of the most similar other one; and the unit vectors."""
    e = np.load(path)["embedding"].astype(np.float64)
    e /= np.linalg.norm(e, axis=1, keepdims=True)
    similarity = e @ e.T
    np.fill_diagonal(similarity, -np.inf)
    return similarity.argmax(1), e


def main():
    (first, a), (second, b) = (nearest(p) for p in sys.argv[1:3])
    same = int((first == second).sum())
    print(f"nearest neighbour the same for {same} of {len(first)} sentences "
          f"({100 * same / len(first):.1f} %), mean cosine {(a * b).sum(1).mean():.5f}")


main()
