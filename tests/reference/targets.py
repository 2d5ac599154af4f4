"""Target codes, soft targets and Frechet-mean prediction as their definitions say, in plain NumPy."""

import math

import numpy as np


def simplex(n):
    """Corners of a regular simplex: the centred axes, scaled to unit length (n x n, of rank n - 1)."""
    return np.sqrt(n / (n - 1)) * (np.eye(n) - 1 / n)


def coherence(codes):
    """The largest |inner product| of two rows."""
    gram = np.abs(codes @ codes.T)
    return max((gram[i, j] for i in range(len(codes)) for j in range(i)), default=0.0)


def welch_bound(n, dim):
    """What n unit vectors in dim dimensions cannot go below."""
    return np.sqrt(max(0, n - dim) / (dim * (n - 1))) if n > 1 else 0.0


def two_hot(y, centres):
    """Shares of the two centres around each number."""
    out = np.zeros((len(y), len(centres)))
    for row, value in zip(out, np.clip(y, centres[0], centres[-1]), strict=True):
        above = min(max(int(np.searchsorted(centres, value, side="right")), 1), len(centres) - 1)
        row[above] = (value - centres[above - 1]) / (centres[above] - centres[above - 1])
        row[above - 1] = 1 - row[above]
    return out


def vote_posterior(votes, accuracy, n_classes):
    """Bayes' rule with equally likely classes and annotators whose errors are even."""
    out = np.ones((len(votes), n_classes))
    for row, vote in zip(out, votes, strict=True):
        for annotator, given in enumerate(vote):
            if given < 0:
                continue
            for k in range(n_classes):
                p = accuracy[annotator]
                row[k] *= p if k == given else (1 - p) / (n_classes - 1)
        row /= row.sum()
    return out


def project_to_simplex(row):
    """The nearest distribution, by bisection on the one number that is taken off all entries."""
    low, high = row.min() - 1, row.max()
    for _ in range(200):
        middle = (low + high) / 2
        if np.maximum(row - middle, 0).sum() > 1:
            low = middle
        else:
            high = middle
    return np.maximum(row - (low + high) / 2, 0)


def frechet(P, squared):
    """argmin over labels of the expected squared distance, by the full table (K x labels)."""
    return np.argmin(np.asarray(P, dtype=np.float64) @ squared, axis=1)


def tree_distances(parents, lengths, observed):
    """Distances along a tree from each observed node to all, by climbing from both ends to the common ancestor."""

    def way_up(node):
        way, length = {node: 0.0}, 0.0
        while parents[node] >= 0:
            length += lengths[node]
            node = parents[node]
            way[node] = length
        return way

    ways = [way_up(node) for node in range(len(parents))]
    out = np.empty((len(observed), len(parents)))
    for row, start in zip(out, observed, strict=True):
        for node in range(len(parents)):
            row[node] = min(length + ways[node][meet] for meet, length in ways[start].items() if meet in ways[node])
    return out


def normal_bins(y, centres, width):
    """Of a normal distribution around each number, the part that is nearest to each centre."""
    edges = [-math.inf, *((a + b) / 2 for a, b in zip(centres, centres[1:], strict=False)), math.inf]

    def below(x):
        return (1 + math.erf(x / math.sqrt(2))) / 2

    return np.array(
        [[below((b - v) / width) - below((a - v) / width) for a, b in zip(edges, edges[1:], strict=False)] for v in y]
    )


def decoded_bins(P, centres, rule):
    """Numbers from weights of bins, one row after the other."""
    out = []
    for row in P:
        if rule == "mean":
            out.append(sum(p * c for p, c in zip(row, centres, strict=True)))
        elif rule == "mode":
            out.append(centres[max(range(len(row)), key=lambda k, row=row: (row[k], -k))])
        else:
            half, seen = sum(row) / 2, 0.0
            for p, c in zip(row, centres, strict=True):
                seen += p
                if seen >= half:
                    out.append(c)
                    break
    return np.array(out)


def graph_distances(lengths, observed):
    """Shortest ways from the observed nodes to all, by relaxing every edge as often as there are nodes.

    lengths[i, j]: of the edge from i to j, 0 where there is none.
    """
    edges = [(i, j, lengths[i, j]) for i, j in zip(*np.nonzero(lengths), strict=True)]
    out = np.full((len(observed), len(lengths)), np.inf)
    for row, start in zip(out, observed, strict=True):
        row[start] = 0
        for _ in range(len(lengths)):
            before = row.copy()
            for i, j, length in edges:
                row[j] = min(row[j], row[i] + length)
            if np.array_equal(row, before):
                break
    return out


def clipped(scores):
    """Scores without those below zero, over their sum; even where nothing is left."""
    positive = [[max(value, 0.0) for value in row] for row in scores]
    return np.array([[v / sum(row) if sum(row) > 0 else 1 / len(row) for v in row] for row in positive])
