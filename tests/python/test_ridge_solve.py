"""Ridge regression where the rows are at hand: the primal and the dual form, and what other libraries say."""

import numpy as np
import pytest
from reference_path import analytic, checks
from sklearn.exceptions import ConvergenceWarning

import gramian as gm

SHAPES = [(200, 10), (60, 60), (40, 90), (5, 300), (1, 4), (300, 1)]


def problem_of(n, d, seed=0):
    rng = np.random.default_rng([seed, n, d])
    return rng.normal(size=(n, d)) + 1.0, rng.normal(size=(n, 2)), rng.random(n) + 0.1


def form_bound(X, ridge):
    """10 eps |G| / ridge: what either form may lose, by the size of the Gram matrix over the smallest eigenvalue."""
    Xc = X - X.mean(axis=0)
    return 10 * checks.EPS * max(np.linalg.norm(Xc, 2) ** 2 / ridge, 1.0)


@pytest.mark.parametrize("ridge", [1e100, 1e154, 1e155, 1e200, 1e300, 1e307])
def test_ridges_whose_squares_overflow(ridge):
    # |X'X| / ridge is below the rounding of 1, so the weights are X'Y / ridge of centred rows to that.
    X, Y, _ = problem_of(80, 6)
    Xc = X - X.mean(axis=0)
    expected = Xc.T @ (Y - Y.mean(axis=0)) / ridge
    bound = 100 * checks.EPS
    model = gm.AnalyticRegressor(ridge=ridge).fit(X, Y)
    assert np.abs(model.coef_.T - expected).max() <= bound * np.abs(expected).max()
    np.testing.assert_allclose(model.predict(X), np.broadcast_to(Y.mean(axis=0), Y.shape), rtol=1e-12)
    solution = gm.GramState(6, 2).add(X, Y).solve(ridge=ridge)
    assert np.abs(solution.coef.T - expected).max() <= bound * np.abs(expected).max()
    assert solution.report.method == "cholesky"
    assert solution.report.condition == pytest.approx(1, abs=1e-6)
    assert solution.report.residual <= 1e-14
    labels = np.r_[np.zeros(50, dtype=int), np.ones(30, dtype=int)]
    assert not gm.AnalyticClassifier(ridge=ridge).fit(X, labels).predict(X).any()  # the class of most rows
    Ridge = pytest.importorskip("sklearn.linear_model").Ridge
    theirs = Ridge(alpha=ridge, solver="cholesky").fit(X, Y)
    assert np.abs(model.coef_ - theirs.coef_).max() <= bound * np.abs(theirs.coef_).max()


def test_sums_that_overflow_are_an_error_still():
    X = np.full((4, 2), 1e160)
    X[0] = -1e160
    with pytest.raises(ValueError, match="overflow"):
        gm.AnalyticRegressor().fit(X, np.arange(4.0)).coef_  # noqa: B018


@pytest.mark.parametrize("fit_intercept", [True, False])
@pytest.mark.parametrize("ridge", [1e-2, 1.0, 100.0])
@pytest.mark.parametrize("n, d", SHAPES)
def test_primal_equals_dual(n, d, ridge, fit_intercept):
    X, Y, weight = problem_of(n, d)
    options = {"ridge": ridge, "sample_weight": weight, "fit_intercept": fit_intercept}
    primal, dual = (gm.ridge_solve(X, Y, form=form, **options) for form in ("primal", "dual"))
    assert (primal.report.form, dual.report.form) == ("primal", "dual")
    assert (primal.report.size, dual.report.size) == (d, n)
    if n == 1 and fit_intercept:  # nothing is left of a single row
        assert np.abs(primal.coef).max() <= 1e-12 and np.abs(dual.coef).max() <= 1e-12
        return
    centred = X - np.average(X, axis=0, weights=weight) if fit_intercept else X
    norm = np.linalg.norm(centred * np.sqrt(weight)[:, np.newaxis], 2) ** 2
    bound = 10 * checks.EPS * max(norm / ridge, 1.0)
    coef, intercept = analytic.ridge(X, Y, ridge, weight, fit_intercept, dtype=np.longdouble)
    assert checks.relative_error(primal.coef, dual.coef) <= bound
    assert checks.relative_error(primal.coef, coef) <= bound
    assert checks.relative_error(dual.coef, coef) <= bound
    size = (np.abs(coef) @ np.abs(X).max(axis=0) + np.abs(Y).max()).max()
    for found in (primal, dual):
        assert np.abs(found.intercept - intercept).max() <= bound * float(size)
    chosen = gm.ridge_solve(X, Y, **options)
    assert chosen.report.form == ("dual" if n < d else "primal")
    assert np.array_equal(chosen.coef, (dual if n < d else primal).coef)


def test_one_target_and_lists():
    X, Y, _ = problem_of(30, 4)
    assert gm.ridge_solve(X.tolist(), Y[:, 0].tolist(), 0.3).coef.shape == (1, 4)
    assert np.array_equal(gm.ridge_solve(X, Y[:, 0], 0.3).coef, gm.ridge_solve(X, Y[:, :1], 0.3).coef)


@pytest.mark.parametrize("fit_intercept", [True, False])
def test_ridge_zero_is_least_squares(fit_intercept):
    X, Y, _ = problem_of(150, 12)
    rows = np.hstack([X, np.ones((150, 1))]) if fit_intercept else X
    expected = np.linalg.lstsq(rows, Y, rcond=None)[0].T
    problem = analytic.Problem(X, Y, None, fit_intercept)
    bound = 8 * 150 * checks.EPS * np.linalg.cond(problem.X) ** 2
    for found in (
        gm.ridge_solve(X, Y, 0.0, fit_intercept=fit_intercept),
        gm.GramState(12, 2, fit_intercept=fit_intercept).add(X[:70], Y[:70]).add(X[70:], Y[70:]).solve(0.0),
    ):
        assert checks.relative_error(found.coef, expected[:, :12]) <= bound
        if fit_intercept:
            assert checks.relative_error(found.intercept, expected[:, 12]) <= bound * 4
        else:
            assert (found.intercept == 0).all()
        assert found.report.rank == 12 and found.report.fallback == ""


@pytest.mark.parametrize(
    "make, rank",
    [
        (lambda X: np.hstack([X, X[:, :3]]), 7),  # columns twice
        (lambda X: np.hstack([X, X @ np.ones((7, 1))]), 7),  # a sum of columns
        (lambda X: np.hstack([X, np.zeros((len(X), 1))]), 7),  # nothing
        (lambda X: np.hstack([X, np.full((len(X), 1), 3.0)]), 7),  # a constant, which the intercept takes
        (lambda X: X[:5], 4),  # five rows around their mean
    ],
)
def test_ridge_zero_without_full_rank_names_the_rank(make, rank):
    X = make(np.random.default_rng(3).normal(size=(60, 7)))
    d = X.shape[1]
    Y = np.arange(float(len(X)))
    state = gm.GramState(d, 1).add(X, Y)
    model = gm.AnalyticRegressor(ridge=0.0).fit(X, Y)
    calls = [
        lambda: gm.ridge_solve(X, Y, 0.0),
        lambda: gm.ridge_solve(X, Y, 0.0, form="primal"),
        lambda: state.solve(0.0),
        lambda: state.path([1.0, 0.0]),
        lambda: model.predict(X),
    ]
    for call in calls:
        with pytest.raises(np.linalg.LinAlgError, match=rf"rank is {rank} of {d}\b"):
            call()
    # Any ridge makes it well posed; the report of a hard case says what was done.
    assert checks.relative_error(state.solve(1e-3).coef, analytic.ridge(X, Y, 1e-3)[0]) <= form_bound(X, 1e-3) * len(X)


def test_a_nearly_singular_system_reports_its_fallback():
    rng = np.random.default_rng(5)
    X = rng.normal(size=(100, 6))
    X = np.hstack([X, X[:, :1] + 1e-9 * rng.normal(size=(100, 1))])
    with pytest.warns(ConvergenceWarning, match="rank is 6 of 7"):
        report = gm.GramState(7, 1).add(X, X[:, 0]).solve(1e-13).report
    assert report.method == "eigh"
    assert report.fallback != ""
    assert report.rank == 6


def test_sample_weights_are_repeated_rows():
    X, Y, _ = problem_of(80, 6)
    weight = np.random.default_rng(0).integers(0, 4, 80)
    rows = np.repeat(np.arange(80), weight)
    bound = checks.weight_bound(X[rows], 0.1, len(rows))
    for weighted, repeated in (
        (gm.ridge_solve(X, Y, 0.1, sample_weight=weight), gm.ridge_solve(X[rows], Y[rows], 0.1)),
        (gm.ridge_solve(X, Y, 0.1, sample_weight=weight, form="dual"), gm.ridge_solve(X[rows], Y[rows], 0.1)),
        (
            gm.GramState(6, 2).add(X, Y, weight.astype(float)).solve(0.1),
            gm.GramState(6, 2).add(X[rows], Y[rows]).solve(0.1),
        ),
    ):
        assert checks.relative_error(weighted.coef, repeated.coef) <= bound
        assert checks.relative_error(weighted.intercept, repeated.intercept) <= bound * 4
    y = Y[:, 0] > 0
    models = [
        gm.AnalyticClassifier(ridge=0.1).fit(X, y, sample_weight=weight),
        gm.AnalyticClassifier(ridge=0.1).fit(X[rows], y[rows]),
    ]
    assert checks.relative_error(models[0].coef_, models[1].coef_) <= bound
    assert models[0].score(X, y, sample_weight=weight) == pytest.approx(models[1].score(X[rows], y[rows]))


# --- scikit-learn ---------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def diabetes():
    datasets = pytest.importorskip("sklearn.datasets")
    X, y = datasets.load_diabetes(return_X_y=True, scaled=False)
    return X, y


@pytest.mark.parametrize("fit_intercept", [True, False])
@pytest.mark.parametrize("alpha", [1e-3, 1.0, 300.0])
def test_equals_ridge(diabetes, alpha, fit_intercept):
    linear_model = pytest.importorskip("sklearn.linear_model")
    X, y = diabetes
    expected = linear_model.Ridge(alpha=alpha, fit_intercept=fit_intercept, solver="svd").fit(X, y)
    bound = checks.weight_bound(X, alpha, len(X), fit_intercept=fit_intercept)
    model = gm.AnalyticRegressor(ridge=alpha, fit_intercept=fit_intercept)
    for part in np.array_split(np.arange(len(X)), 5):
        model.partial_fit(X[part], y[part])
    assert checks.relative_error(model.coef_, expected.coef_) <= bound
    assert abs(model.intercept_ - expected.intercept_) <= bound * (
        np.abs(expected.coef_) @ np.abs(X).mean(axis=0) + y.mean()
    )
    np.testing.assert_allclose(model.predict(X), expected.predict(X), rtol=1e-8)
    assert model.score(X, y) == pytest.approx(expected.score(X, y), rel=1e-10)
    solved = gm.ridge_solve(X, y, alpha, fit_intercept=fit_intercept)
    assert checks.relative_error(solved.coef[0], expected.coef_) <= bound


def test_standardize_equals_a_scaled_pipeline(diabetes):
    linear_model = pytest.importorskip("sklearn.linear_model")
    preprocessing = pytest.importorskip("sklearn.preprocessing")
    X, y = diabetes
    X = np.hstack([X, np.full((len(X), 1), 7.0)])  # a constant keeps its unit
    scaler = preprocessing.StandardScaler().fit(X)
    for alpha in (0.1, 50.0):
        expected = linear_model.Ridge(alpha=alpha).fit(scaler.transform(X), y)
        model = gm.AnalyticRegressor(ridge=alpha, standardize=True).fit(X, y)
        Z = scaler.transform(X)[:, :-1]
        bound = checks.weight_bound(Z, alpha, len(X))
        assert checks.relative_error((model.coef_ * scaler.scale_)[:-1], expected.coef_[:-1]) <= bound
        assert abs(model.coef_[-1]) <= bound
        np.testing.assert_allclose(model.predict(X), expected.predict(scaler.transform(X)), rtol=1e-9)


@pytest.mark.parametrize("alpha", [0.1, 10.0])
def test_predicts_digits_like_ridge_classifier(alpha):
    linear_model = pytest.importorskip("sklearn.linear_model")
    X, y = pytest.importorskip("sklearn.datasets").load_digits(return_X_y=True)
    train = np.arange(len(X)) % 4 != 0
    # Targets of -1 and 1 instead of 0 and 1: twice the scores less one, and the same winner.
    expected = linear_model.RidgeClassifier(alpha=alpha).fit(X[train], y[train])
    model = gm.AnalyticClassifier(ridge=alpha)
    for part in np.array_split(np.flatnonzero(train), 7):
        model.partial_fit(X[part], y[part])
    assert np.array_equal(model.predict(X[~train]), expected.predict(X[~train]))
    assert model.score(X[~train], y[~train]) > 0.9
    bound = checks.weight_bound(X[train], alpha, train.sum())
    assert checks.relative_error(2 * model.coef_, expected.coef_) <= bound


def test_two_classes_have_one_column_of_scores():
    linear_model = pytest.importorskip("sklearn.linear_model")
    X, y = pytest.importorskip("sklearn.datasets").load_breast_cancer(return_X_y=True)
    expected = linear_model.RidgeClassifier(alpha=5.0).fit(X, y)
    model = gm.AnalyticClassifier(ridge=5.0).fit(X, y)
    assert model.coef_.shape == (1, 30)
    bound = checks.weight_bound(X, 5.0, len(X))
    # Targets 0 and 1 for each of two classes differ by one column of targets -1 and 1.
    assert checks.relative_error(model.coef_, np.atleast_2d(expected.coef_)) <= bound
    assert np.array_equal(model.predict(X), expected.predict(X))
    assert model.decision_function(X).shape == expected.decision_function(X).shape
