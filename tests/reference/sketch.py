"""Sketches by definition: the whole matrix S of each family, in plain NumPy, from the frozen bit law.

Slow on purpose and written from the law alone: entries are made one family at a time, Hadamard matrices are dense, and
nothing is transformed, hashed in blocks or summed in a tree.
"""

import math

import numpy as np

from .philox import Stream

TAG = {"entry": 0, "sign": 1, "second_sign": 2, "hash": 3, "permutation": 4, "sample": 5, "replaced": 6}


def high_word(word, span):
    """floor(word * span / 2^64) by whole numbers of any length."""
    return np.array([int(w) * int(span) >> 64 for w in np.atleast_1d(word)], dtype=np.int64)


def power_of_two(n):
    """The smallest power of two that is not below n."""
    return 1 << (n - 1).bit_length() if n > 1 else 1


def hadamard(n):
    """The Walsh-Hadamard matrix of +-1 in natural order, n a power of two."""
    h = np.ones((1, 1))
    while len(h) < n:
        h = np.block([[h, h], [h, -h]])
    return h


def gaussian(m, n, seed, generation=0):
    stream = Stream(seed, "gaussian", TAG["entry"], 0, generation)
    return stream.gaussian(np.arange(m)[:, np.newaxis], np.arange(n)) * (1.0 / math.sqrt(m))


def rademacher(m, n, seed, generation=0):
    stream = Stream(seed, "rademacher", TAG["entry"], 0, generation)
    return stream.sign(np.arange(m)[:, np.newaxis], np.arange(n)) * (1.0 / math.sqrt(m))


def row_hash(stream, j, k, nnz, m):
    """(row, sign) of nonzero k of the columns j."""
    word = stream.pair(j, k // 2, k % 2)
    begin, end = k * m // nnz, (k + 1) * m // nnz
    return begin + high_word(word, end - begin), 1.0 - 2.0 * (word & np.uint64(1)).astype(np.float64)


def sparse_sign(m, n, seed, nnz=8, generation=0):
    stream = Stream(seed, "sparse_sign", TAG["hash"], 0, generation)
    s = np.zeros((m, n))
    for k in range(nnz):
        row, sign = row_hash(stream, np.arange(n), k, nnz, m)
        s[row, np.arange(n)] += sign * (1.0 / math.sqrt(nnz))
    return s


def count_sketch(m, n, seed, generation=0):
    return sparse_sign(m, n, seed, 1, generation)


def long_axis(m, n, seed, nnz=8, generation=0):
    stream = Stream(seed, "long_axis", TAG["hash"], 0, generation)
    s = np.zeros((m, n))
    for k in range(nnz):
        column, sign = row_hash(stream, np.arange(m), k, nnz, n)
        s[np.arange(m), column] += sign * math.sqrt(n / (nnz * m))
    return s


def srht(m, n, seed, permute=True, generation=0):
    size = power_of_two(n)
    order = Stream(seed, "srht", TAG["permutation"], 0, generation)
    sample = Stream(seed, "srht", TAG["sample"], 0, generation)
    signs = Stream(seed, "srht", TAG["sign"], 0, generation).row_sign(np.arange(n))
    place = [order.permute(size, j) if permute else j for j in range(n)]
    chosen = [sample.permute(size, q) for q in range(m)]
    return hadamard(size)[np.ix_(chosen, place)] * signs * (1.0 / math.sqrt(m))


def hdhd(m, n, seed, generation=0):
    size = power_of_two(n)
    sample = Stream(seed, "srht", TAG["sample"], 0, generation)
    first = Stream(seed, "srht", TAG["sign"], 0, generation).row_sign(np.arange(n))
    second = Stream(seed, "srht", TAG["second_sign"], 0, generation).row_sign(np.arange(size))
    chosen = [sample.permute(size, q) for q in range(m)]
    h = hadamard(size)
    return (h[chosen] * second) @ (h[:, :n] * first) * (1.0 / math.sqrt(m * size))


def row_sampling(m, scores, seed, generation=0):
    scores = np.asarray(scores, dtype=np.float64)
    total = 0.0
    cumulated = []
    for score in scores:
        total += score
        cumulated.append(total)
    stream = Stream(seed, "leverage", TAG["replaced"], 0, generation)
    s = np.zeros((m, len(scores)))
    for q in range(m):
        u = (float(int(stream.pair(q)) >> 12) + 0.5) * 2.0**-52
        row = next(i for i, upper in enumerate(cumulated) if upper > u * total)
        s[q, row] = 1.0 / math.sqrt(m * (scores[row] / total))
    return s


def tensor_sketch(m, dims, seed, generation=0):
    rows, signs = np.zeros(1, dtype=np.int64), np.ones(1)
    for f, dim in enumerate(dims):
        row, sign = row_hash(Stream(seed, "tensor_sketch", TAG["hash"], f, generation), np.arange(dim), 0, 1, m)
        rows = (rows[:, np.newaxis] + row).ravel()
        signs = (signs[:, np.newaxis] * sign).ravel()
    s = np.zeros((m, len(rows)))
    s[rows % m, np.arange(len(rows))] = signs
    return s


def _pair(m, left, right, seed, number, generation):
    """The m x (left * right) matrix of pair `number`, without its scale."""
    draws = Stream(seed, "tensor_srht", TAG["replaced"], number, generation)
    sides = []
    for which, length in enumerate((left, right)):
        signs = Stream(seed, "tensor_srht", TAG["sign"], 2 * number + which, generation).row_sign(np.arange(length))
        size = power_of_two(length)
        chosen = high_word(draws.pair(np.arange(m), 0, which), size)
        sides.append(hadamard(size)[chosen, :length] * signs)
    return (sides[0][:, :, np.newaxis] * sides[1][:, np.newaxis, :]).reshape(m, -1)


def tensor_srht(m, dims, seed, generation=0):
    """Pairs of neighbours, then pairs of pairs; an odd one out waits."""
    level = [(dim, np.eye(dim)) for dim in dims]
    number = 0
    while len(level) > 1:
        above = []
        for left, right in zip(level[0::2], level[1::2], strict=False):
            pair = _pair(m, left[0], right[0], seed, number, generation) * (1.0 / math.sqrt(m))
            above.append((m, pair @ np.kron(left[1], right[1])))
            number += 1
        if len(level) % 2:
            above.append(level[-1])
        level = above
    return level[0][1]


def portable_cosine(a, n):
    """cos(2 pi a / (4 n)) by symmetry and the Taylor series of an angle of at most pi / 4, one operation at a time."""
    if a > 2 * n:
        a = 4 * n - a
    negative = a > n
    if negative:
        a = 2 * n - a
    by_sine = a > n - a
    t = float.fromhex("0x1.921fb54442d18p+0") * (float(n - a if by_sine else a) / float(n))
    z = t * t
    total = 1.0
    for k in range(19 if by_sine else 18, 1, -2):
        total = 1.0 - z / float(k * (k - 1)) * total
    if by_sine:
        total = t * total
    return -total if negative else total


def dct(m, n, seed, columns=None, generation=0):
    signs = np.ones(n)
    frequencies = columns
    if columns is None:
        sample = Stream(seed, "dct", TAG["sample"], 0, generation)
        frequencies = [sample.permute(n, q) for q in range(m)]
        signs = Stream(seed, "dct", TAG["sign"], 0, generation).row_sign(np.arange(n))
    scale = math.sqrt(2.0 / (m if columns is None else n))
    table = np.array([[portable_cosine((2 * j + 1) * k % (4 * n), n) for j in range(n)] for k in frequencies])
    table[[k == 0 for k in frequencies]] *= 0.70710678118654757
    return scale * (signs * table)


def one_generation(d, m, g):
    """The rows of generation g, m of them, as if they were the whole sketch."""
    kind, n, seed = d["kind"], d["n_in"], int(d["seed"])
    if kind == "srht":
        return srht(m, n, seed, d["permute"], g)
    if kind == "sparse_sign":
        return sparse_sign(m, n, seed, d["nnz"], g)
    if kind == "long_axis":
        return long_axis(m, n, seed, d["nnz"], g)
    if kind == "row_sampling":
        return row_sampling(m, d["scores"], seed, g)
    if kind == "tensor_sketch":
        return tensor_sketch(m, d["dims"], seed, g)
    if kind == "tensor_srht":
        return tensor_srht(m, d["dims"], seed, g)
    if kind == "dct":
        return dct(m, n, seed, d["columns"] or None, g)
    plain = {"gaussian": gaussian, "rademacher": rademacher, "hdhd": hdhd, "count_sketch": count_sketch}
    return plain[kind](m, n, seed, g)


def matrix(description):
    """S of a description as `Sketch.describe` gives it."""
    d = dict(description)
    sizes = [d["n_out"] - sum(d["appended"]), *d["appended"]]
    if len(sizes) == 1:
        return one_generation(d, sizes[0], 0)
    return np.vstack([one_generation(d, m, g) * math.sqrt(m / d["n_out"]) for g, m in enumerate(sizes)])


def tree_sum(blocks):
    """Pairwise over neighbours, level by level; one without a neighbour goes up as it is."""
    level = list(blocks)
    while len(level) > 1:
        level = [level[k] + level[k + 1] if k + 1 < len(level) else level[k] for k in range(0, len(level), 2)]
    return level[0]
