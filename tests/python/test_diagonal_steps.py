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
