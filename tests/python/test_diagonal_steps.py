"""Estimated diagonals and the steps that use them against their formulas."""

import pickle

import numpy as np
import pytest
from reference_path import second_order as ref

from gramian.second_order import adahessian_step, hutchinson_diagonal, sophia_step


def test_hutchinson(rng):
    A = rng.normal(size=(30, 30))
    A = A @ A.T
    diagonal, error = hutchinson_diagonal(lambda z: A @ z, 30, n_samples=4000, random_state=3)
    # Mean of independent samples of known variance: the sum of squares of the rest of the row.
    spread = np.sqrt(((A**2).sum(axis=1) - np.diag(A) ** 2) / 4000)
    assert (np.abs(diagonal - np.diag(A)) <= 5 * spread).all()
    np.testing.assert_allclose(error, spread, rtol=0.2)
    again = hutchinson_diagonal(lambda z: A @ z, 30, n_samples=4000, random_state=3)[0]
    assert np.array_equal(diagonal, again)
    other = hutchinson_diagonal(lambda z: A @ z, 30, n_samples=4000, random_state=4)[0]
    assert not np.array_equal(diagonal, other)
    d = rng.normal(size=30)
    exact, none = hutchinson_diagonal(lambda z: d * z, 30, n_samples=3)
    np.testing.assert_array_equal(exact, d)
    assert (none == 0).all()


def test_hutchinson_refuses():
    with pytest.raises(ValueError, match="NaN or infinity, first at 1"):
        hutchinson_diagonal(lambda z: np.array([0.0, np.nan]), 2)
    with pytest.raises(ValueError, match="shape it receives"):
        hutchinson_diagonal(lambda z: z[:1], 2)
    with pytest.raises(ZeroDivisionError):
        hutchinson_diagonal(lambda z: 1 / 0, 2)
    with pytest.raises(TypeError, match="hessian_product"):
        hutchinson_diagonal(None, 2)
    with pytest.raises(TypeError, match="real numbers"):
        hutchinson_diagonal(lambda z: 1j * z, 2)
    with pytest.raises(ValueError, match="overflow"):
        hutchinson_diagonal(lambda z: 1e200 * z[::-1], 2, n_samples=20)


def test_hutchinson_owns_nothing(rng):
    """A product may change the vector it is given, and return it."""
    A = rng.normal(size=(5, 5))

    def spoiled(z):
        out = A @ z
        z[:] = np.nan
        return out

    for found, expected in zip(
        hutchinson_diagonal(spoiled, 5, 50), hutchinson_diagonal(lambda z: A @ z, 5, 50), strict=True
    ):
        assert np.array_equal(found, expected)
    assert np.array_equal(hutchinson_diagonal(lambda z: z, 5)[0], np.ones(5))


def test_hutchinson_has_the_variance_it_is_said_to_have(rng):
    """10,000 estimates of one sample each: no bias, and the documented variance, within four standard errors."""
    A = rng.normal(size=(6, 6))
    A = A + A.T
    draws = np.array([hutchinson_diagonal(lambda z: A @ z, 6, random_state=seed)[0] for seed in range(10000)])
    expected = (A**2).sum(axis=1) - np.diag(A) ** 2
    away = draws - np.diag(A)
    assert (np.abs(away.mean(axis=0)) <= 4 * np.sqrt(expected / 10000)).all()
    squares = away**2
    error = squares.std(axis=0, ddof=1) / 100
    assert (np.abs(squares.mean(axis=0) - expected) <= 4 * error).all()
    assert (np.abs(squares.mean(axis=0) - (A**2).sum(axis=1)) > 4 * error).any()  # with the diagonal it would be wrong


@pytest.mark.parametrize("rule", [adahessian_step, sophia_step])
def test_steps_change_nothing_they_are_given(rule):
    w, g, d = np.array([1.0, 2.0]), np.array([0.5, -1.0]), np.array([1.0, 3.0])
    first, state, *_ = rule(w, g, d)
    before, kept = pickle.dumps(state), first.copy()
    second, after, *_ = rule(first, g, d, state)
    assert pickle.dumps(state) == before and np.array_equal(first, kept)
    assert (state.steps, after.steps) == (1, 2)
    assert np.array_equal(rule(first, g, d, state)[0], second)  # a step can be tried twice
    assert np.array_equal(w, [1.0, 2.0])


def test_steps_that_overflow_are_errors():
    """A square of 1e200 in the state would hold that parameter still for ever."""
    _, state = adahessian_step([0.0, 0.0], [1.0, 1.0], [1.0, 1.0])
    before = pickle.dumps(state)
    for arguments in (
        ([0.0, 0.0], [1.0, 1.0], [1e200, 1.0]),
        ([1.7e308, 0.0], [-1e300, 0.0], [1e-200, 1.0]),
    ):
        with pytest.raises(ValueError, match="not finite, first at 0"):
            adahessian_step(*arguments, state, learning_rate=1e20)
        assert pickle.dumps(state) == before
    with pytest.raises(ValueError, match="not finite"):
        adahessian_step([0.0, 0.0], [1.0, 0.0], [0.0, 0.0], eps=0.0)
    with pytest.raises(ValueError, match="not finite"):
        sophia_step([0.0, 0.0], [1.0, 0.0], [0.0, 0.0], eps=0.0)


def test_adahessian_is_its_formula(rng):
    oracle, w, ours, state = ref.AdaHessian(0.1, 0.9, 0.999, 1e-4, 0.5), rng.normal(size=9), None, None
    ours = w.copy()
    for _ in range(20):
        g, d = rng.normal(size=9), rng.normal(size=9)
        w = oracle.step(w, g, d)
        ours, state = adahessian_step(ours, g, d, state, learning_rate=0.1, eps=1e-4, power=0.5)
    np.testing.assert_allclose(ours, w, rtol=1e-12)
    back = pickle.loads(pickle.dumps(state))
    assert back.steps == 20
    g, d = rng.normal(size=9), rng.normal(size=9)
    np.testing.assert_array_equal(adahessian_step(ours, g, d, back)[0], adahessian_step(ours, g, d, state)[0])
    averaged, _ = adahessian_step(np.zeros(4), np.ones(4), [1.0, 3.0, 5.0, -5.0], average=2, eps=0.0)
    np.testing.assert_allclose(averaged, [-0.15 / 2, -0.15 / 2, -0.15 / 5, -0.15 / 5])


def test_sophia_is_its_formula():
    w, state, clipped = sophia_step([0.0, 0.0, 0.0], [1.0, 0.1, -4.0], [2.0, 2.0, -1.0], learning_rate=0.5)
    # m = 0.1 g; m / h = 0.05, 0.005, and a diagonal that is not positive goes by the sign.
    np.testing.assert_allclose(w, [-0.025, -0.0025, 0.5])
    assert clipped == pytest.approx(1 / 3)
    w, state, _ = sophia_step(w, [1.0, 0.1, -4.0], None, state, learning_rate=0.5)
    assert state.steps == 2
    np.testing.assert_allclose(w[0], -0.025 - 0.5 * 0.19 / 2)
    with pytest.raises(ValueError, match="first step needs a diagonal"):
        sophia_step([0.0], [1.0])
    with pytest.raises(ValueError, match="gradient contains NaN"):
        sophia_step([0.0], [np.nan], [1.0])
    with pytest.raises(ValueError, match="belongs to 3"):
        sophia_step([0.0], [1.0], [1.0], state)
    with pytest.raises(ValueError, match="diagonal in every step"):
        adahessian_step([0.0], [1.0], None)
