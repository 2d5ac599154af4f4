"""Sketched gradients by definition: every matrix is written out, and expectations are sums over all draws.

`second_moment` knows nothing of formulas: it goes through all signs, hashes, orders and choices of the ideal
distribution of a small sketch, and through a quadrature that is exact for the Gaussian one.
"""

import itertools
import math

import numpy as np

from . import sketch
from .philox import Stream, mix64

_MASK64 = (1 << 64) - 1


def round_seed(seed, number):
    """Seed of a round by the frozen law."""
    return mix64((seed + number * 0x9E3779B97F4A7C15) & _MASK64)


def matrix(kind, n_sketch, n_params, seed, number, nnz=8):
    """R of a round."""
    seed = round_seed(seed, number)
    if kind == "sparse_sign":
        return sketch.sparse_sign(n_sketch, n_params, seed, nnz)
    return getattr(sketch, kind)(n_sketch, n_params, seed)


def noise(seed, row, size):
    """Standard normal noise of one message."""
    return Stream(round_seed(seed, row), "noise", 7).gaussian(np.arange(size), 0)


def encode(R, gradients, clip=None, place="none", deviation=0.0, noise_seed=0):
    """Messages of gradients, one a row."""
    out = []
    for row, g in enumerate(np.atleast_2d(gradients)):
        length = math.sqrt(math.fsum(g * g))
        if clip is not None and length > clip:
            g = g * (clip / length)
        if place == "gradient":
            g = g + deviation * noise(noise_seed, row, len(g))
        y = R @ g
        if place == "sketch":
            y = y + deviation * noise(noise_seed, row, len(y))
        out.append(y)
    return np.array(out)


def _all_signs(n):
    return (np.array(signs) for signs in itertools.product((-1.0, 1.0), repeat=n))


def _draws(kind, s, d, nnz):
    """(weight, R) of every draw of the ideal distribution."""
    if kind == "gaussian":
        # |R'R g|^2 has degree 4 in each entry, for which three points of Gauss and Hermite are exact.
        points, weights = np.polynomial.hermite_e.hermegauss(3)
        for at in itertools.product(range(3), repeat=s * d):
            yield np.prod(weights[list(at)]), points[list(at)].reshape(s, d) / math.sqrt(s)
    elif kind == "rademacher":
        for signs in _all_signs(s * d):
            yield 1.0, signs.reshape(s, d) / math.sqrt(s)
    elif kind in ("count_sketch", "sparse_sign"):
        nnz = 1 if kind == "count_sketch" else nnz
        blocks = [range(b * s // nnz, (b + 1) * s // nnz) for b in range(nnz)]
        columns = []
        for rows in itertools.product(*blocks):
            for signs in _all_signs(nnz):
                column = np.zeros(s)
                column[list(rows)] = signs / math.sqrt(nnz)
                columns.append((math.prod(1.0 / len(block) for block in blocks), column))
        for chosen in itertools.product(columns, repeat=d):
            yield math.prod(weight for weight, _ in chosen), np.array([column for _, column in chosen]).T
    elif kind == "dct":
        k, j = np.arange(d)[:, np.newaxis], np.arange(d)
        cosines = math.sqrt(2 / d) * np.cos(np.pi * (2 * j + 1) * k / (2 * d))
        cosines[0] /= math.sqrt(2)
        for chosen in itertools.combinations(range(d), s):
            for signs in _all_signs(d):
                yield 1.0, math.sqrt(d / s) * cosines[list(chosen)] * signs
    else:
        size = sketch.power_of_two(d)
        h = sketch.hadamard(size)
        orders = itertools.permutations(range(size), d) if kind == "srht" else [range(d)]
        seconds = [np.ones(size)] if kind == "srht" else list(_all_signs(size))
        for order in orders:
            for chosen in itertools.combinations(range(size), s):
                for signs in _all_signs(d):
                    for second in seconds:
                        if kind == "srht":
                            yield 1.0, h[np.ix_(chosen, order)] * signs / math.sqrt(s)
                        else:
                            yield 1.0, (h[list(chosen)] * second) @ (h[:, :d] * signs) / math.sqrt(s * size)


def second_moment(kind, s, d, g, nnz=1):
    """E |R'R g|^2 / |g|^2 over all draws, and the mean of R'R g, which must be g."""
    total, value, mean = 0.0, 0.0, np.zeros(d)
    for weight, R in _draws(kind, s, d, nnz):
        image = R.T @ (R @ g)
        total += weight
        value += weight * (image @ image)
        mean += weight * image
    return value / total / (g @ g), mean / total


def concentrated_epsilon(rho, delta):
    """The usual bound of epsilon from zero-concentrated differential privacy."""
    return rho + 2 * math.sqrt(rho * math.log(1 / delta))


def descent(gradient, start, step, rounds, images):
    """Gradient descent on estimates R'R g, one matrix of `images` a round; None for plain gradients."""
    x = np.array(start, dtype=np.float64)
    for t in range(rounds):
        g = gradient(x)
        if images is not None:
            R = images(t)
            g = R.T @ (R @ g)
        x = x - step * g
    return x
