"""Features of very different sizes: seconds beside flags. The small ones must keep their say."""

import numpy as np
import pytest
from sklearn.exceptions import ConvergenceWarning

import gramian as gm


def joint_ridge(X, Y, ridge):
    """Weights by a QR of the rows scaled to columns of one size, which no difference of sizes troubles."""
    rows, targets = X - X.mean(axis=0), Y - Y.mean(axis=0)
    size = np.linalg.norm(rows, axis=0)
    stacked = np.vstack([rows / size, np.sqrt(ridge) * np.diag(1 / size)])
    answer = np.linalg.lstsq(stacked, np.concatenate([targets, np.zeros(X.shape[1])]), rcond=None)[0]
    return answer / size


def table(unit):
    """A time in units of `unit` seconds and 200 flags; the label is the majority of the first three flags."""
    rng = np.random.default_rng(0)
    times = (1.7e9 + rng.integers(0, 3 * 10**7, 2000)) / unit
    flags = (rng.random((2000, 200)) < 0.5).astype(float)
    return np.column_stack([times, flags]), (flags[:, :3].sum(axis=1) >= 2).astype(int)


@pytest.mark.parametrize("unit", [1.0, 1e-3, 1e-6])
def test_a_time_beside_flags_does_not_silence_them(unit):
    linear_model = pytest.importorskip("sklearn.linear_model")
    X, y = table(unit)
    peer = linear_model.RidgeClassifier(alpha=1.0, solver="svd").fit(X, y)
    for model in (gm.AnalyticClassifier(ridge=1.0), gm.AnalyticClassifier(ridge="gcv", ridges=[0.1, 1.0, 10.0])):
        model.fit(X, y)
        assert model.report_.rank == 201
        assert model.score(X, y) >= peer.score(X, y) - 0.005 > 0.98


@pytest.mark.parametrize("d, ratio", [(2, 1e8), (200, 3e6), (200, 1e7), (200, 1e9), (1000, 1e7)])
def test_one_wide_column_costs_the_others_nothing(d, ratio):
    rng = np.random.default_rng(1)
    X = rng.normal(size=(max(400, 2 * d), d))
    X[:, 0] *= ratio
    y = X[:, 1:] @ rng.normal(size=d - 1) + 0.1 * rng.normal(size=len(X))
    model = gm.AnalyticRegressor(ridge=1.0).fit(X, y)
    exact = joint_ridge(X, y, 1.0)
    size = X.std(axis=0)
    # Each weight times the size of its feature; the condition of the scaled matrix is of order 10.
    assert np.linalg.norm((model.coef_ - exact) * size) <= 1e-9 * np.linalg.norm(exact * size)
    assert model.report_.rank == d and model.score(X, y) > 0.95


def test_paths_and_gcv_see_small_features_beside_a_wide_one():
    rng = np.random.default_rng(2)
    X = rng.normal(size=(500, 20))
    X[:, 0] *= 1e8
    y = X[:, 1:] @ rng.normal(size=19) + 0.1 * rng.normal(size=500)
    state = gm.GramState(20, 1).add(X, y)
    ridges = np.geomspace(0.1, 10, 60)
    size = X.std(axis=0)
    for ridge, solution in zip(ridges, state.path(ridges), strict=True):
        exact = joint_ridge(X, y, ridge)
        assert np.linalg.norm((solution.coef[0] - exact) * size) <= 1e-9 * np.linalg.norm(exact * size)
    rows = X - X.mean(axis=0)
    _, s, _ = np.linalg.svd(rows, full_matrices=False)
    freedom = [1 + (s**2 / (s**2 + ridge)).sum() for ridge in ridges]
    assert np.allclose(state.gcv(ridges).degrees_of_freedom, freedom, rtol=1e-8)


def test_modes_are_dropped_from_the_scaled_matrix():
    """Two equal columns at a ridge that rounding hides, beside a wide column: the least answer, and no column lost."""
    rng = np.random.default_rng(4)
    X = rng.normal(size=(500, 10))
    X[:, 0] *= 1e8
    X[:, 9] = X[:, 8]
    y = X[:, 1:9] @ np.arange(1.0, 9.0)
    with pytest.warns(ConvergenceWarning, match="rank is 9 of 10"):
        solution = gm.GramState(10, 1).add(X, y).solve(1e-13)
    assert solution.report.method == "eigh" and solution.report.rank == 9
    wanted = np.array([0.0, 1, 2, 3, 4, 5, 6, 7, 4, 4])
    assert np.abs((solution.coef[0] - wanted) * X.std(axis=0)).max() <= 1e-8


def test_without_a_ridge_the_error_says_what_helps():
    rng = np.random.default_rng(3)
    X = rng.normal(size=(400, 50))
    X[:, 0] *= 1e9
    y = X @ rng.normal(size=50)
    with pytest.raises(np.linalg.LinAlgError, match="standardize"):
        gm.AnalyticRegressor(ridge=0).fit(X, y).predict(X)
    assert gm.AnalyticRegressor(ridge=0, standardize=True).fit(X, y).score(X, y) > 0.999
