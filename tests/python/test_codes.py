"""Target codes, soft bins and soft labels against their definitions."""

import numpy as np
import pytest
from reference_path import targets as reference

from gramian import AnalyticRegressor, codes

EPS = np.finfo(np.float64).eps


@pytest.mark.parametrize("n", [2, 3, 7, 100, 1000])
def test_simplex(n):
    code = codes.simplex(n)
    assert code.vectors.shape == (n, n - 1)
    expected = reference.simplex(n)
    np.testing.assert_allclose(code.vectors @ code.vectors.T, expected @ expected.T, rtol=0, atol=1e-14)
    assert code.coherence == pytest.approx(code.welch_bound, abs=1e-14)
    # Negative control: the axes are no simplex.
    axes = codes.one_hot(n).vectors
    assert np.abs(axes @ axes.T - expected @ expected.T).max() > 0.5 / n


def test_equiangular_reaches_the_bar():
    code = codes.equiangular(1000, 100)
    assert code.welch_bound == pytest.approx(reference.welch_bound(1000, 100), rel=1e-14)
    assert code.welch_bound <= code.coherence <= 1.5 * code.welch_bound
    np.testing.assert_allclose(np.linalg.norm(code.vectors, axis=1), 1, rtol=0, atol=1e-14)
    # Negative control: directions drawn evenly are far from it.
    assert codes.random(1000, 100).coherence > 3 * code.welch_bound


@pytest.mark.parametrize("n, dim", [(30, 8), (9, 8), (8, 8), (5, 8), (1, 2), (300, 40)])
def test_equiangular_sizes(n, dim):
    code = codes.equiangular(n, dim, random_state=3)
    assert code.vectors.shape == (n, dim)
    assert code.coherence == pytest.approx(reference.coherence(code.vectors), abs=4 * dim * EPS)
    assert code.coherence >= reference.welch_bound(n, dim) - 4 * dim * EPS
    if n <= dim + 1:  # the optimum is known
        assert code.coherence == pytest.approx(reference.welch_bound(n, dim), abs=4 * dim * EPS)
    np.testing.assert_allclose(np.linalg.norm(code.vectors, axis=1), 1, rtol=0, atol=4 * dim * EPS)


def test_codes_are_deterministic():
    one = codes.equiangular(60, 12, random_state=5, n_jobs=1)
    assert np.array_equal(one.vectors, codes.equiangular(60, 12, random_state=5, n_jobs=3).vectors)
    assert not np.array_equal(one.vectors, codes.equiangular(60, 12, random_state=6).vectors)
    assert np.array_equal(codes.random(5, 7).vectors, codes.random(9, 7).vectors[:5])


@pytest.mark.parametrize("make", [codes.equiangular, codes.random])
def test_growth_leaves_old_codes(make):
    code = make(40, 10)
    grown = code.grow(41).grow(60)
    assert np.array_equal(grown.vectors[:40], code.vectors)
    assert len(grown) == 60 and grown.kind == code.kind
    assert grown.coherence == pytest.approx(reference.coherence(grown.vectors), abs=1e-14)
    assert grown.grow(50) is grown
    if make is codes.equiangular:
        assert grown.coherence < codes.random(60, 10).coherence


def test_axes_come_before_descent():
    code = codes.equiangular(3, 6).grow(6)
    assert code.coherence == 0
    assert np.array_equal(code.vectors, np.eye(6))
    assert np.array_equal(code.grow(8).vectors[:6], np.eye(6))


def test_representation_shows_coherence_beside_the_bound():
    text = repr(codes.equiangular(30, 8))
    assert "coherence=0.3" in text and "welch_bound=0.3079" in text  # sqrt(22 / (8 * 29))
    assert "not computed" in repr(codes.random(5000, 600))


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
def test_decode(rng, dtype):
    code = codes.equiangular(50, 12)
    scores = rng.normal(size=(77, 12)).astype(dtype)
    expected = np.argmax(scores.astype(np.float64) @ code.vectors.T, axis=1)
    assert np.array_equal(code.decode(scores), expected)
    assert np.array_equal(code.decode(code.encode(np.arange(50))), np.arange(50))
    many = codes.random(9001, 5)  # several tiles
    scores = rng.normal(size=(300, 5))
    assert np.array_equal(many.decode(scores), np.argmax(scores @ many.vectors.T, axis=1))
    assert np.array_equal(codes.one_hot(4).decode(np.ones((2, 4))), [0, 0])  # the first of equals
    weights = rng.random((6, 50))
    np.testing.assert_allclose(code.encode(weights), weights @ code.vectors, rtol=1e-13)


def test_bad_codes():
    for call, text in (
        (lambda: codes.simplex(1), "n_codes must be at least 2"),
        (lambda: codes.equiangular(5, 1), "dim must be at least 2"),
        (lambda: codes.random(5, 2.0), "dim must be an integer"),
        (lambda: codes.custom([[1.0, 1.0]]), "row 0 has length 1.41421"),
        (lambda: codes.custom([[1.0, np.nan]]), "NaN or infinity, first in row 0"),
        (lambda: codes.custom([1.0]), "shape"),
        (lambda: codes.simplex(4).grow(5), "no room for 5"),
        (lambda: codes.simplex(4).encode([4]), "y has 4 in row 0"),
        (lambda: codes.simplex(4).encode([0.5]), "numbers of codes"),
        (lambda: codes.simplex(4).decode(np.ones((2, 4))), "P has 4 columns"),
    ):
        with pytest.raises(ValueError, match=text):
            call()
    with pytest.raises(ValueError, match="read-only"):
        codes.simplex(4).vectors[0, 0] = 0


def test_two_hot_bins(rng):
    centres = np.sort(rng.normal(size=9)) * 3
    y = np.concatenate([rng.uniform(centres[0], centres[-1], size=200), centres, [-99.0, 99.0]])
    bins = codes.soft_bins(centres)
    P = bins.encode(y)
    np.testing.assert_allclose(P, reference.two_hot(y, centres), rtol=0, atol=8 * EPS)
    inside = np.clip(y, centres[0], centres[-1])
    np.testing.assert_allclose(bins.decode(P), inside, rtol=0, atol=32 * EPS * np.abs(centres).max())
    assert np.array_equal(bins.decode(bins.encode(centres), "mode"), centres)
    assert np.array_equal(bins.decode(bins.encode(centres), "median"), centres)


def test_normal_bins(rng):
    centres, y = np.cumsum(rng.random(13)) - 3, rng.normal(size=50)
    P = codes.soft_bins(centres, width=0.7).encode(y)
    np.testing.assert_allclose(P, reference.normal_bins(y, centres, 0.7), rtol=0, atol=1e-14)
    np.testing.assert_allclose(P.sum(axis=1), 1, rtol=0, atol=1e-14)
    far = codes.soft_bins(centres, width=1e-3).encode([2.9, 50.0])
    assert np.array_equal(far[1], np.eye(13)[12])


@pytest.mark.parametrize("rule", ["mean", "median", "mode"])
def test_bins_decode_by_their_rules(rng, rule):
    centres = np.cumsum(rng.random(9))
    P = rng.multinomial(32, np.ones(9) / 9, size=200) / 32  # exact halves and ties
    bins = codes.soft_bins(centres)
    expected = reference.decoded_bins(P, centres, rule)
    np.testing.assert_allclose(bins.decode(P, rule), expected, rtol=1e-14)
    others = [reference.decoded_bins(P, centres, other) for other in {"mean", "median", "mode"} - {rule}]
    assert all((other != expected).mean() > 0.3 for other in others)  # negative control: rules differ


def test_bins_are_neutral_for_ridge(rng):
    X = rng.normal(size=(200, 5))
    y = X @ rng.normal(size=5) + rng.normal(size=200)
    bins = codes.soft_bins(np.linspace(y.min(), y.max(), 20))
    direct = AnalyticRegressor(ridge=0.3).fit(X, y).predict(X)
    by_bins = bins.decode(AnalyticRegressor(ridge=0.3).fit(X, bins.encode(y)).predict(X))
    np.testing.assert_allclose(by_bins, direct, rtol=0, atol=1e-11 * np.abs(y).max())
    rounded = codes.soft_bins(np.linspace(y.min(), y.max(), 20), width=3.0)  # biased, so it must differ
    other = rounded.decode(AnalyticRegressor(ridge=0.3).fit(X, rounded.encode(y)).predict(X))
    assert np.abs(other - direct).max() > 1e-3


def test_bad_bins():
    for call, text in (
        (lambda: codes.soft_bins([1.0]), "two or more"),
        (lambda: codes.soft_bins([1.0, 1.0]), "ascending"),
        (lambda: codes.soft_bins([0.0, 1.0], width=-1), "width"),
        (lambda: codes.soft_bins([0.0, 1.0]).encode([0.5, np.nan]), "first in row 1"),
        (lambda: codes.soft_bins([0.0, 1.0]).encode([[0.5]]), "one dimension"),
        (lambda: codes.soft_bins([0.0, 1.0]).decode(np.ones((2, 3))), r"shape \(n, 2\)"),
        (lambda: codes.soft_bins([0.0, 1.0]).decode(np.ones((2, 2)), "middle"), "rule"),
    ):
        with pytest.raises(ValueError, match=text):
            call()


def test_votes():
    votes = np.array([[0, 1, 1], [2, -1, 0], [-1, -1, -1], [2, 2, 2]])
    found, accuracies = codes.soft_labels(votes)
    assert accuracies is None
    np.testing.assert_allclose(found, [[1 / 3, 2 / 3, 0], [0.5, 0, 0.5], [1 / 3] * 3, [0, 0, 1]], rtol=1e-15)
    found, _ = codes.soft_labels(votes, method="majority", n_classes=4)
    np.testing.assert_allclose(found, [[0, 1, 0, 0], [0.5, 0, 0.5, 0], [0.25] * 4, [0, 0, 1, 0]], rtol=1e-15)
    found, _ = codes.soft_labels(votes, weights=[3, 1, 1])
    np.testing.assert_allclose(found[0], [0.6, 0.4, 0], rtol=1e-15)


def test_one_coin_is_exact_for_exact_agreements():
    # Every combination of right and wrong votes as often as the model says, on two classes.
    accuracy, rows = np.array([0.75, 0.875, 0.625]), []
    for pattern in np.ndindex(2, 2, 2):
        share = np.prod(np.where(np.array(pattern) == 0, accuracy, 1 - accuracy))
        rows += [pattern] * round(512 * share)
    votes = np.array(rows)
    found, estimated = codes.soft_labels(votes, method="one_coin")
    np.testing.assert_allclose(estimated, accuracy, rtol=1e-14)
    np.testing.assert_allclose(found, reference.vote_posterior(votes, accuracy, 2), rtol=1e-13)
    # The best annotator alone outweighs neither both others nor nothing: shares of votes say something else.
    assert np.abs(found - codes.soft_labels(votes)[0]).max() > 0.05


def test_one_coin_on_many_classes(rng):
    truth, accuracy = rng.integers(0, 5, size=20000), np.array([0.9, 0.6, 0.3, 0.8])
    wrong = (truth[:, np.newaxis] + rng.integers(1, 5, size=(20000, 4))) % 5
    votes = np.where(rng.random((20000, 4)) < accuracy, truth[:, np.newaxis], wrong)
    votes[rng.random(votes.shape) < 0.2] = -1
    found, estimated = codes.soft_labels(votes, n_classes=5, method="one_coin")
    np.testing.assert_allclose(estimated, accuracy, rtol=0, atol=0.02)  # some standard errors of 13000 rows
    np.testing.assert_allclose(found, reference.vote_posterior(votes, estimated, 5), rtol=1e-11, atol=1e-13)
    majority, _ = codes.soft_labels(votes, n_classes=5, method="majority")
    right = [(np.argmax(P, axis=1) == truth).mean() for P in (found, majority)]
    assert right[0] > right[1] + 0.01


def test_bad_votes():
    for call, text in (
        (lambda: codes.soft_labels([[0.5]]), "whole numbers"),
        (lambda: codes.soft_labels([[0, 1], [2, -2]]), "has -2 in row 1"),
        (lambda: codes.soft_labels([[0, 3]], n_classes=3), "has 3 in row 0"),
        (lambda: codes.soft_labels([[0, 1]], weights=[1.0]), "weights"),
        (lambda: codes.soft_labels([[0, 1]], weights=[1.0, -1.0]), "not negative"),
        (lambda: codes.soft_labels([[0, 1]], method="best"), "method"),
        (lambda: codes.soft_labels([[0, 1]], method="one_coin"), "three annotators"),
        (lambda: codes.soft_labels([[0, 1, -1], [1, 1, -1]], method="one_coin"), "annotator 0 shares no rows"),
        (lambda: codes.soft_labels([[0, 1, 1]], method="one_coin", weights=[1, 1, 1]), "estimates them"),
    ):
        with pytest.raises(ValueError, match=text):
            call()
