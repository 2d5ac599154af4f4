"""What the oracles of sketches must refuse: each of them against something that is nearly a sketch, and is none.

The oracles themselves are in test_sketch.py; a bound that lets these pass would measure nothing.
"""

import itertools
import math

import numpy as np
import pytest

import gramian as gm

U = 2.0**-53
DENSE = (gm.sketch.Gaussian, gm.sketch.Rademacher, gm.sketch.SRHT, gm.sketch.HDHD, gm.sketch.DCT)
SPARSE = (gm.sketch.CountSketch, gm.sketch.SparseSign, gm.sketch.LongAxisSparse)
FAMILIES = (*DENSE, *SPARSE)


@pytest.mark.parametrize("family", FAMILIES)
def test_linearity_sees_a_sum_in_float32(family, rng):
    """4 u sqrt(n) of the norms: sums that leave float64 on the way are off by a million times that."""
    n = 1000
    A, B = rng.standard_normal((2, n, 4))
    s = family(32, n, seed=3)
    norms = np.linalg.norm(s.materialise(), axis=1)[:, np.newaxis] * np.linalg.norm(np.abs(A) + np.abs(B), axis=0)
    bound = 4 * U * np.sqrt(n) * norms
    assert (np.abs(s.apply(A + B) - s.apply(A) - s.apply(B)) <= bound).all()
    narrow = s.apply(A + B, dtype="float32") - s.apply(A, dtype="float32") - s.apply(B, dtype="float32")
    assert (np.abs(narrow) > bound).mean() > 0.5


@pytest.mark.parametrize("family", FAMILIES)
def test_the_adjoint_and_the_matrix_are_those_of_this_seed_and_place(family, rng):
    n, m = 96, 24
    A, Y = rng.standard_normal((n, 3)), rng.standard_normal((m, 3))
    s, other = family(m, n, seed=3), family(m, n, seed=4)
    S = s.materialise()
    size = 1e-12 * np.linalg.norm(S) * np.linalg.norm(A) * np.linalg.norm(Y)
    assert abs(np.sum(s.apply(A) * Y) - np.sum(A * s.apply_adjoint(Y))) <= size
    assert abs(np.sum(s.apply(A) * Y) - np.sum(A * other.apply_adjoint(Y))) > 1e6 * size
    assert abs(np.sum(s.apply(A) * Y) - np.sum(A[::-1] * s.apply_adjoint(Y))) > 1e6 * size
    assert np.abs(s.apply(A) - S @ A).max() <= 1e-12 * np.linalg.norm(S) * np.linalg.norm(A)
    assert np.abs(s.apply(A) - other.materialise() @ A).max() > 1e-3
    assert np.abs(s.apply(A) - np.roll(S, 1, axis=1) @ A).max() > 1e-3


def test_bias_is_seen():
    """6 sqrt(n / (m K)) = 0.38: a scale that is off, signs that are all plus, and one seed for all runs are outside."""
    m, n, runs = 16, 64, 1000
    bound = 6 * np.sqrt(n / (m * runs))
    away = lambda mean: np.linalg.norm(mean - np.eye(n)) / np.sqrt(n)  # noqa: E731
    drawn = [gm.sketch.CountSketch(m, n, seed=seed).materialise() for seed in range(runs)]
    mean = sum(S.T @ S for S in drawn) / runs
    assert away(mean) <= bound
    assert away(1.5 * mean) > bound
    assert away(sum(np.abs(S).T @ np.abs(S) for S in drawn) / runs) > bound
    assert away(drawn[0].T @ drawn[0]) > bound


@pytest.mark.parametrize("family", [gm.sketch.Gaussian, gm.sketch.SparseSign, gm.sketch.CountSketch])
def test_bits_of_streams_and_merges_are_those_of_the_tree_alone(family, rng):
    """Cuts and merges give the same bits because of the tree: plain sums of the same pieces do not."""
    n = 3 * 4096
    A = rng.standard_normal((n, 5)) * 10.0 ** rng.integers(-6, 6, size=(n, 1))
    cuts = [0, 700, 4096, 5000, 9000, n]
    one, stream, plain = family(24, n).apply(A), family(24, n), 0.0
    for begin, end in itertools.pairwise(cuts):
        stream.update(A[begin:end], begin)
        plain = plain + family(24, n).update(A[begin:end], begin).result()
    assert np.array_equal(stream.result(), one)
    assert not np.array_equal(plain, one)
    for cut, same in ((4096, True), (8192, True), (1234, False)):
        left, right = family(24, n).update(A[:cut], 0), family(24, n).update(A[cut:], cut)
        assert np.array_equal(left.merge(right).result(), one) == same
    moved = family(24, n).update(A[:4096], 4096)  # the same rows elsewhere are another sum
    assert not np.allclose(moved.result(), family(24, n).update(A[:4096], 0).result())


def test_exactness_is_of_whole_numbers_alone(rng):
    n = 5000
    whole = rng.integers(-3, 4, size=(n, 6)).astype(np.float64)
    s = gm.sketch.CountSketch(64, n)
    S = s.materialise()
    backwards = lambda A: S[:, ::-1] @ A[::-1]  # noqa: E731  the same sums in another order
    assert np.array_equal(s.apply(whole), backwards(whole))
    assert not np.array_equal(s.apply(0.1 * whole), backwards(0.1 * whole))
    gaussian = gm.sketch.Gaussian(64, n)
    assert not np.array_equal(gaussian.apply(whole), gaussian.materialise() @ whole)
    x = rng.integers(-50, 50, size=(256, 7)).astype(np.float64)
    assert np.array_equal(gm.fwht(gm.fwht(x, axis=0), axis=0), 256 * x)
    assert not np.array_equal(gm.fwht(gm.fwht(x / 3, axis=0), axis=0), 256 * (x / 3))


def test_tensor_sketch_is_one_of_the_summed_hash(rng):
    """The factors' own CountSketches give the rows and signs; hashes that are not summed mod m are another sketch."""
    dims, m = [5, 7], 33
    s = gm.sketch.TensorSketch(m, dims, seed=11)
    S = s.materialise()
    factors = [rng.standard_normal((20, dim)) for dim in dims]
    product = np.einsum("ri,rj->rij", *factors).reshape(20, -1)
    found = s.apply_factors(factors)
    assert np.abs(found - product @ S.T).max() <= 1e-10 * np.abs(found).max()
    # Rows and signs of the factors, from products of unit vectors.
    place = np.abs(S).argmax(axis=0).reshape(dims)
    sign = S.sum(axis=0).reshape(dims)
    assert ((place - place[:1] - place[:, :1] + place[0, 0]) % m == 0).all()  # a sum of two hashes
    assert (sign * sign[:1] * sign[:, :1] * sign[0, 0] == 1).all()
    other = gm.sketch.CountSketch(m, math.prod(dims), seed=11).materialise()
    rows = np.abs(other).argmax(axis=0).reshape(dims)
    assert not ((rows - rows[:1] - rows[:, :1] + rows[0, 0]) % m == 0).all()
    assert np.abs(found - product @ other.T).max() > 0.1 * np.abs(found).max()
    assert np.abs(found - gm.sketch.TensorSketch(m, dims, seed=12).apply_factors(factors)).max() > 0.1


def test_moments_of_two_to_the_twenty_four_draws():
    """Mean, variance, kurtosis and balance of signs within five standard errors, in four blocks far apart."""
    sums, signs, count = np.zeros(3), 0.0, 2**24
    for block in range(4):
        begin = block * 2**40
        draws = gm.sketch.Gaussian(4096, seed=9).materialise(columns=(begin, begin + 1024)).ravel() * 64
        sums += [draws.sum(), (draws**2).sum(), (draws**4).sum()]
        signs += (gm.sketch.Rademacher(4096, seed=9).materialise(columns=(begin, begin + 1024)) * 64).sum()
    mean, square, fourth = sums / count
    assert abs(mean) <= 5 / np.sqrt(count)
    assert abs(square - 1) <= 5 * np.sqrt(2 / count)
    assert abs(fourth - 3) <= 5 * np.sqrt(96 / count)
    assert abs(signs / count) <= 5 / np.sqrt(count)
    assert abs(1.01 * square - 1) > 5 * np.sqrt(2 / count)  # a deviation that is off by half a percent is seen
