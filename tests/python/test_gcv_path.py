"""Model choice from the sums alone: generalised cross-validation and ridge paths against the formulas on rows."""

import numpy as np
import pytest
from reference_path import analytic, checks

import gramian as gm

FEW = np.logspace(-2, 4, 7)
MANY = np.logspace(-3, 5, 60)
# (rows, features, how many ridges): the solver changes its plan at 50 ridges and at 256 features.
SIZES = [(300, 12, "few"), (300, 12, "many"), (700, 300, "few"), (700, 300, "many")]


def problem_of(n, d, seed=0, weighted=False):
    rng = np.random.default_rng([seed, n, d])
    X = rng.normal(size=(n, d)) * np.logspace(0, -1.5, d) + 3.0
    Y = X @ rng.normal(size=(d, 3)) * 0.3 + rng.normal(size=(n, 3)) * [1.0, 0.1, 3.0] + 5.0
    return X, Y, rng.integers(1, 4, n).astype(float) if weighted else None


def ridges_of(name):
    return FEW if name == "few" else MANY


# Without an intercept the unit of a feature would be its size, not its deviation.
@pytest.mark.parametrize("fit_intercept, standardize", [(True, False), (True, True), (False, False)])
@pytest.mark.parametrize("n, d, grid", SIZES)
def test_gcv_equals_the_formula_from_rows(n, d, grid, fit_intercept, standardize):
    X, Y, _ = problem_of(n, d)
    ridges = ridges_of(grid)
    curve = gm.GramState(d, 3, fit_intercept=fit_intercept).add(X, Y).gcv(ridges, standardize=standardize)
    problem = analytic.Problem(X, Y, None, fit_intercept, standardize)
    scores, traces = problem.gcv_curve(ridges)
    # |dW| bounds what scores and traces lose: condition times rounding of the sums.
    values = np.linalg.eigvalsh(problem.gram(0))
    for k, ridge in enumerate(ridges):
        bound = 16 * n * checks.EPS * values.sum() / (values[0] + ridge)
        assert abs(curve.degrees_of_freedom[k] - traces[k]) <= max(bound, 1e-12) * traces[k]
        assert abs(curve.scores[k] - scores[k]) <= max(bound, 1e-12) * (scores[k] + (problem.Y**2).sum() / n)
    for k in (0, len(ridges) // 2):  # the same number from the hat matrix itself
        score, trace = problem.gcv(ridges[k])
        assert score == pytest.approx(scores[k], rel=1e-8)
        assert trace == pytest.approx(traces[k], rel=1e-8)
    assert curve.best == np.argmin(curve.scores)
    assert curve.ridge == ridges[np.argmin(scores)]
    assert curve.at_edge == (curve.best in (0, len(ridges) - 1))


def test_both_plans_are_taken_and_agree():
    X, Y, _ = problem_of(700, 300)
    state = gm.GramState(300, 3).add(X, Y)
    few, many = state.gcv(MANY[:20]), state.gcv(MANY)
    assert (few.method, many.method) == ("cholesky", "eigh")
    np.testing.assert_allclose(few.scores, many.scores[:20], rtol=1e-9)
    np.testing.assert_allclose(few.degrees_of_freedom, many.degrees_of_freedom[:20], rtol=1e-9)
    assert gm.GramState(12, 3).add(X[:, :12], Y).gcv(FEW).method == "eigh"
    reports = [[part.report.method for part in state.path(grid, False)] for grid in (FEW, MANY)]
    assert set(reports[0]) == {"cholesky"} and set(reports[1]) == {"eigh"}


@pytest.mark.parametrize("standardize", [False, True])
@pytest.mark.parametrize("n, d, grid", SIZES)
def test_a_path_equals_single_solves(n, d, grid, standardize):
    X, Y, weight = problem_of(n, d, weighted=True)
    ridges = ridges_of(grid)
    state = gm.GramState(d, 3).add(X, Y, weight)
    path = state.path(ridges, standardize=standardize)
    assert len(path) == len(ridges)
    problem = analytic.Problem(X, Y, weight, True, standardize)
    values = np.linalg.eigvalsh(problem.gram(0))
    for k, (ridge, found) in enumerate(zip(ridges, path, strict=True)):
        single = state.solve(ridge, standardize=standardize)
        # Columns of W in units of their features may differ in size, so the error is measured where it is made.
        unit = problem.scale[np.newaxis, :]
        bound = 8 * d * checks.EPS * (values.sum() + ridge) / (values[0] + ridge)
        assert checks.relative_error(found.coef * unit, single.coef * unit) <= bound
        assert found.report.ridge == ridge == single.report.ridge
        if k % 10 == 0:
            coef, intercept = problem.solve(ridge)
            assert checks.relative_error(found.coef * unit, coef * unit) <= bound * n
            size = np.abs(coef) @ np.abs(problem.x_mean) + np.abs(problem.y_mean)
            assert (np.abs(found.intercept - intercept) <= (bound * n + 8 * d * checks.EPS) * size.max()).all()


def test_weights_count_as_repeated_rows():
    X, Y, weight = problem_of(120, 9, weighted=True)
    repeated = np.repeat(np.arange(120), weight.astype(int))
    weighted = gm.GramState(9, 3).add(X, Y, weight).gcv(FEW)
    plain = gm.GramState(9, 3).add(X[repeated], Y[repeated]).gcv(FEW)
    np.testing.assert_allclose(weighted.scores, plain.scores, rtol=1e-10)
    np.testing.assert_allclose(weighted.degrees_of_freedom, plain.degrees_of_freedom, rtol=1e-10)
    scores, _ = analytic.Problem(X, Y, weight).gcv_curve(FEW)
    np.testing.assert_allclose(weighted.scores, scores, rtol=1e-10)


def test_a_fit_without_noise_does_not_fall_below_zero():
    """Where the residual is 1e-12 of the energy, the sum over modes keeps it, and no score is negative."""
    rng = np.random.default_rng(4)
    X = rng.normal(size=(400, 8))
    Y = X @ rng.normal(size=(8, 2)) + 1e-6 * rng.normal(size=(400, 2))
    ridges = np.logspace(-8, 2, 11)
    curve = gm.GramState(8, 2).add(X, Y).gcv(ridges)
    scores, _ = analytic.Problem(X, Y).gcv_curve(ridges)
    assert (curve.scores >= 0).all()
    # Absolute: n eps of the energy is what the sums themselves have lost.
    assert (np.abs(curve.scores - scores) <= 1e-9 * scores + 8 * 400 * checks.EPS * (Y**2).sum() / 400).all()


def test_more_features_than_rows():
    X, Y, _ = problem_of(40, 90)
    curve = gm.GramState(90, 3).add(X, Y).gcv(FEW)
    scores, traces = analytic.Problem(X, Y).gcv_curve(FEW)
    np.testing.assert_allclose(curve.degrees_of_freedom, traces, rtol=1e-8)
    np.testing.assert_allclose(curve.scores, scores, rtol=1e-6)
    assert (curve.degrees_of_freedom < 40).all()


def test_it_chooses_like_hold_out_rows():
    """Over 60 problems the test loss of GCV's ridge is within 5 % of the best of the grid on nine in ten."""
    good, total = 0, 60
    for seed in range(total):
        rng = np.random.default_rng([99, seed])
        d = 30
        truth = rng.normal(size=(d, 1)) * np.logspace(0, -1, d)[:, np.newaxis]
        noise = 10 ** rng.uniform(-0.5, 1.0)
        X, X_test = rng.normal(size=(200, d)), rng.normal(size=(3000, d))
        Y, Y_test = X @ truth + noise * rng.normal(size=(200, 1)), X_test @ truth
        state = gm.GramState(d, 1).add(X, Y)
        ridges = np.logspace(-2, 4, 25)
        losses = [((X_test @ s.coef.T + s.intercept - Y_test) ** 2).mean() + noise**2 for s in state.path(ridges)]
        good += losses[state.gcv(ridges).best] <= 1.05 * min(losses)
    assert good >= 0.9 * total


def test_estimators_choose_by_gcv(rng):
    X, Y, _ = problem_of(200, 20)
    ridges = np.logspace(-2, 4, 13)
    model = gm.AnalyticRegressor(ridge="gcv", ridges=ridges).fit(X[:120], Y[:120]).partial_fit(X[120:], Y[120:])
    scores, _ = analytic.Problem(X, Y).gcv_curve(ridges)
    assert model.ridge_ == ridges[np.argmin(scores)]
    coef, intercept = analytic.ridge(X, Y, model.ridge_)
    assert checks.relative_error(model.coef_, coef) <= checks.weight_bound(X, model.ridge_, 200)
    y = np.argmax(Y, axis=1)
    classifier = gm.AnalyticClassifier(ridge="gcv", ridges=ridges).fit(X, y)
    scores, _ = analytic.Problem(X, analytic.one_hot(y, range(3))).gcv_curve(ridges)
    assert classifier.ridge_ == ridges[np.argmin(scores)]
    # It is chosen anew after every change.
    noisy = rng.normal(size=(400, 3)) * 30
    assert model.partial_fit(rng.normal(size=(400, 20)) + 3, noisy).ridge_ > ridges[np.argmin(scores)]
    # The default grid: 13 decades around the mean variance of a feature.
    default = gm.AnalyticRegressor(ridge="gcv").fit(X, Y)
    unit = X.var(axis=0).mean() * len(X)
    assert 1e-13 * unit < default.ridge_ < 1e7 * unit


@pytest.mark.parametrize("rule", ["gcv", "holdout", "loo"])
def test_the_default_grid_of_tiny_features(rng, rule):
    """The grid follows the features as far down as their squares are numbers, and says so below."""
    X = rng.normal(size=(60, 4))
    y = np.arange(60) % 3
    plain = gm.AnalyticClassifier(ridge=rule).fit(X, y)
    tiny = gm.AnalyticClassifier(ridge=rule).fit(X * 2.0**-480, y)
    assert tiny.ridge_ == pytest.approx(plain.ridge_ * 2.0**-960, rel=1e-12)
    np.testing.assert_allclose(tiny.decision_function(X * 2.0**-480), plain.decision_function(X), rtol=1e-9, atol=1e-12)
    for size in (1e-158, 1e-160):
        with pytest.raises(ValueError, match="features are so small that their squares underflow.*multiply X"):
            gm.AnalyticClassifier(ridge=rule).fit(X * size, y).predict(X)
    constant = gm.AnalyticClassifier(ridge="gcv").fit(np.ones((60, 4)), y)
    assert constant.ridge_ > 0


def test_no_ridge_and_tiny_features(rng):
    X = rng.normal(size=(60, 4))
    y = np.arange(60) % 3
    plain = gm.AnalyticClassifier(ridge=0.0).fit(X, y).decision_function(X)
    tiny = gm.AnalyticClassifier(ridge=0.0).fit(X * 1e-150, y)
    np.testing.assert_allclose(tiny.decision_function(X * 1e-150), plain, rtol=1e-9)
    for size in (1e-157, 1e-158, 1e-160, 1e-200):
        with pytest.raises(np.linalg.LinAlgError, match="rank"):
            gm.AnalyticClassifier(ridge=0.0).fit(X * size, y).predict(X)
        with pytest.raises(np.linalg.LinAlgError, match="rank"):
            gm.ridge_solve(X * size, y, ridge=0.0)


@pytest.mark.parametrize(
    "ridges, message",
    [
        ([0.0, 1.0], "above 0"),
        ([], "ridges must be"),
        ([np.nan], "ridges must be"),
        ([-1.0], "ridges must be"),
        ([[1.0]], "ridges must be"),
    ],
)
def test_grids_that_are_refused(rng, ridges, message):
    state = gm.GramState(3, 1).add(rng.normal(size=(20, 3)), rng.normal(size=20))
    with pytest.raises(ValueError, match=message):
        state.gcv(ridges)


def test_an_empty_state_has_nothing_to_choose_from():
    with pytest.raises(ValueError, match="no rows|not fitted"):
        gm.GramState(3, 1).gcv([1.0])
