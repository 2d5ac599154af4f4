"""Prediction intervals against the fits their definitions name, and their coverage."""

import pickle

import numpy as np
import pytest
from reference_path import analytic, checks, conformal

import gramian as gm

REAL = ("reg_concrete", "reg_energy", "reg_bike")


def problem(rng, n=60, d=8):
    X = rng.normal(size=(n, d)) + 2.0
    return X, X @ rng.normal(size=d) + rng.normal(size=n), rng.normal(size=(15, d)) + 2.0


@pytest.fixture(scope="module", params=REAL)
def real(request):
    """(X, y) of one real set, features and targets standardised, constant columns dropped."""
    path = request.getfixturevalue("data_dir") / f"{request.param}.npz"
    if not path.exists():
        pytest.skip(f"{path.name} is not among the data sets")
    data = np.load(path)
    X, y = data["x"].astype(np.float64), data["y"].astype(np.float64)
    X = X[:, X.std(axis=0) > 0]
    return (X - X.mean(axis=0)) / X.std(axis=0), (y - y.mean()) / y.std()


@pytest.mark.parametrize("method", ["plus", "minmax", "cv+"])
@pytest.mark.parametrize("fit_intercept", [True, False])
@pytest.mark.parametrize("alpha", [0.1, 0.3, 0.01])
def test_equals_n_fits(rng, method, fit_intercept, alpha):
    X, y, queries = problem(rng)
    model = gm.JackknifePlus(ridge=0.2, alpha=alpha, method=method, cv=7, fit_intercept=fit_intercept).fit(X, y)
    found = model.predict_interval(queries)
    folds = None
    if method == "cv+":
        folds = folds_of(X, y, 0.2, model.held_out_residuals_, 7, fit_intercept)
    expected = conformal.jackknife_plus(X, y, 0.2, queries, alpha, folds, method == "minmax", fit_intercept)
    assert np.array_equal(np.isinf(found), np.isinf(expected))
    finite = np.isfinite(expected)
    np.testing.assert_allclose(found[finite], expected[finite], rtol=0, atol=1e-10)
    assert np.isinf(expected).any() == (alpha == 0.01)
    coef, intercept = analytic.ridge(X, y, 0.2, fit_intercept=fit_intercept)
    np.testing.assert_allclose(model.predict(queries), (queries @ coef.T + intercept)[:, 0], atol=1e-10)


def folds_of(X, y, ridge, residuals, count, fit_intercept):
    """The folds that the library drew, a permutation dealt out in turn; the residuals prove them."""
    order = np.asarray(gm._core.permutation_head(0, len(X), len(X)))
    folds = np.empty(len(X), dtype=int)
    folds[order] = np.arange(len(X)) % count
    _, expected = conformal.left_out(X, y, ridge, X[:1], folds, fit_intercept)
    np.testing.assert_allclose(residuals, expected, rtol=0, atol=1e-10)
    assert np.ptp(np.bincount(folds)) <= 1
    return folds


@pytest.mark.parametrize("method", ["plus", "cv+"])
def test_real_rows_equal_n_fits(real, method):
    X, y = real
    rows = np.random.default_rng(0).permutation(len(X))[:330]
    X, y, queries = X[rows[:300]], y[rows[:300]], X[rows[300:]]
    model = gm.JackknifePlus(ridge=1.0, method=method).fit(X, y)
    folds = folds_of(X, y, 1.0, model.held_out_residuals_, 10, True) if method == "cv+" else None
    expected = conformal.jackknife_plus(X, y, 1.0, queries, 0.1, folds)
    assert np.abs(model.predict_interval(queries) - expected).max() <= 1e-9


def test_several_outputs_and_a_map(rng):
    X, y, queries = problem(rng)
    Y = np.column_stack([y, y**2, -y])
    for method in ("plus", "minmax", "cv+"):
        both = gm.JackknifePlus(gm.RandomFeatures(50), method=method).fit(X, Y)
        found = both.predict_interval(queries)
        assert found.shape == (15, 3, 2)
        for k in range(3):
            one = gm.JackknifePlus(gm.RandomFeatures(50), method=method).fit(X, Y[:, k])
            np.testing.assert_allclose(found[:, k], one.predict_interval(queries), rtol=1e-9, atol=1e-9)
    mapped = gm.RandomFeatures(50).fit(X).transform
    expected = conformal.jackknife_plus(mapped(X), y, 1.0, mapped(queries), 0.1)
    one = gm.JackknifePlus(gm.RandomFeatures(50)).fit(X, y).predict_interval(queries)
    np.testing.assert_allclose(one, expected, rtol=0, atol=1e-9)


@pytest.mark.parametrize("residual", ["deleted", "plain"])
@pytest.mark.parametrize(("n", "d", "alpha"), [(30, 4, 0.1), (30, 25, 0.2), (12, 20, 0.25), (19, 3, 0.05)])
def test_full_conformal_is_what_a_grid_finds(rng, residual, n, d, alpha):
    X, y, queries = problem(rng, n, d)
    model = gm.ConformalRidge(ridge=0.5, alpha=alpha, residual=residual).fit(X, y)
    sets = model.predict_set(queries[:6])
    hull = model.predict_interval(queries[:6])
    for row, intervals in enumerate(sets):
        assert np.array_equal([intervals[0, 0], intervals[-1, 1]], hull[row])
        assert (intervals[:, 0] <= intervals[:, 1]).all()
        assert (intervals[1:, 0] > intervals[:-1, 1]).all()
        ends = intervals[np.isfinite(intervals)]
        near = np.concatenate([ends * (1 + s) + s for s in (1e-6, -1e-6)])  # just inside and just outside
        spread = 3 * np.abs(y).max() + np.abs(ends).max(initial=1.0)
        for candidate in np.concatenate([near, np.linspace(-spread, spread, 60)]):
            inside = ((intervals[:, 0] <= candidate) & (candidate <= intervals[:, 1])).any()
            expected = conformal.conforms(X, y, 0.5, queries[row], candidate, alpha, residual == "deleted")
            assert inside == expected, (row, candidate, intervals)


def test_full_conformal_of_few_rows_is_the_line(rng):
    X, y, queries = problem(rng, 9, 3)
    assert np.isinf(gm.ConformalRidge(alpha=0.09).fit(X, y).predict_interval(queries)).all()


def test_sets_of_several_outputs(rng):
    X, y, queries = problem(rng)
    pairs = gm.ConformalRidge(alpha=0.2).fit(X, np.column_stack([y, -y]))
    found = pairs.predict_interval(queries)
    assert found.shape == (15, 2, 2)
    np.testing.assert_allclose(found[:, 0], -found[:, 1, ::-1], rtol=1e-9)
    assert [len(row) for row in pairs.predict_set(queries)] == [2] * 15
    one = gm.ConformalRidge(alpha=0.2).fit(X, y)
    np.testing.assert_allclose(found[:, 0], one.predict_interval(queries), rtol=1e-9)


def test_sets_may_have_several_parts():
    """A far query with plain residuals: candidates in a gap stand out, those around it do not."""
    rng = np.random.default_rng(0)
    parts = 0
    for _ in range(40):
        X, y = rng.normal(size=(9, 6)), rng.normal(size=9)
        query = 6 * rng.normal(size=6)
        model = gm.ConformalRidge(ridge=0.05, alpha=0.4, residual="plain").fit(X, y)
        (intervals,) = model.predict_set([query])
        parts = max(parts, len(intervals))
        for low, high in zip(intervals[:-1, 1], intervals[1:, 0], strict=True):
            assert not conformal.conforms(X, y, 0.05, query, (low + high) / 2, 0.4, False)
    assert parts >= 2


def test_ranks_are_exact():
    from gramian.conformal import _ranks

    for n in range(1, 400):
        for alpha in (0.1, 0.2, 0.3, 0.05, 0.7, 1 / 3, 0.29):
            assert _ranks(alpha, n) == conformal.ranks(alpha, n)
    assert _ranks(0.3, 9) == (3, 7)
    assert _ranks(0.1, 9) == (1, 9)
    assert _ranks(0.1, 8) == (0, 9)


def coverage(make, repetitions=200, n=100, d=80):
    """Share of fresh rows inside of the intervals: one normal row for each of many training sets."""
    rng = np.random.default_rng(1)
    hits = []
    for _ in range(repetitions):
        truth = rng.normal(size=d) / np.sqrt(d)
        X = rng.normal(size=(n + 20, d))
        y = X @ truth + rng.normal(size=n + 20)
        low, high = make(X[:n], y[:n], X[n:]).T
        hits.append(((low <= y[n:]) & (y[n:] <= high)).mean())
    return np.mean(hits), np.std(hits) / np.sqrt(repetitions)


def from_training_residuals(X, y, queries):
    model = gm.AnalyticRegressor(ridge=0.1).fit(X, y)
    margin = np.quantile(np.abs(y - model.predict(X)), 0.9)
    return model.predict(queries)[:, np.newaxis] + [-margin, margin]


def test_coverage_where_features_are_nearly_as_many_as_rows():
    """Jackknife+ near its target (0.915), full conformal at it, training residuals far off (0.26)."""
    plus, error = coverage(lambda X, y, q: gm.JackknifePlus(ridge=0.1).fit(X, y).predict_interval(q))
    assert abs(plus - 0.915) <= 4 * error + 0.005
    assert plus >= 0.8  # 1 - 2 alpha, always
    full, error = coverage(lambda X, y, q: gm.ConformalRidge(ridge=0.1).fit(X, y).predict_interval(q), 60)
    assert full >= 0.9 - 4 * error
    naive, error = coverage(from_training_residuals)
    assert naive <= 0.35


@pytest.mark.parametrize("feature_map", [None, gm.RandomFeatures(100, activation="cos", scale=0.3)], ids=["no", "map"])
def test_coverage_on_real_rows(real, feature_map):
    """Within 1.5 points of 90 % over 50 splits."""
    X, y = real
    rng = np.random.default_rng(0)
    hits = []
    for _ in range(50):
        rows = rng.permutation(len(X))[:768]
        train, test = rows[:300], rows[300:]
        model = gm.JackknifePlus(feature_map, ridge=1.0).fit(X[train], y[train])
        low, high = model.predict_interval(X[test]).T
        hits.append(((low <= y[test]) & (y[test] <= high)).mean())
    assert abs(np.mean(hits) - 0.9) <= 0.015


def test_pickle_and_threads(rng):
    X, y, queries = problem(rng)
    for model in (
        gm.JackknifePlus(gm.RandomFeatures(30), method="cv+"),
        gm.JackknifePlus(method="minmax"),
        gm.ConformalRidge(n_jobs=2),
    ):
        model.fit(X, y)
        again = pickle.loads(pickle.dumps(model))
        assert np.array_equal(again.predict_interval(queries), model.predict_interval(queries))
        assert np.array_equal(again.held_out_residuals_, model.held_out_residuals_)
        before = model.predict_interval(queries, alpha=0.3)
        model.n_jobs = 5
        assert np.array_equal(model.predict_interval(queries, alpha=0.3), before)
        assert checks.relative_error(model.predict(queries), again.predict(queries)) == 0


def test_sparse_rows(rng):
    sparse = pytest.importorskip("scipy.sparse")
    X, y, queries = problem(rng)
    X[rng.random(X.shape) < 0.6] = 0
    for kind in (gm.JackknifePlus(), gm.JackknifePlus(method="cv+"), gm.ConformalRidge()):
        dense = kind.fit(X, y).predict_interval(queries)
        csr = kind.fit(sparse.csr_matrix(X), y).predict_interval(sparse.csr_matrix(queries))
        np.testing.assert_allclose(csr, dense, rtol=1e-10)


@pytest.mark.parametrize("by_class", [True, False])
def test_classes_are_judged_as_refits_judge_them(rng, by_class):
    X = rng.normal(size=(30, 4))
    y = np.array(["a", "b", "c"])[np.r_[0, 1, 2, rng.integers(0, 3, 27)]]
    X[:, 0] += (y == "a") * 1.5
    queries = rng.normal(size=(6, 4))
    model = gm.ConformalClassifier(ridge=0.3, by_class=by_class).fit(X, y)
    found = model.p_values(queries)
    expected = [conformal.class_p_values(X, y, model.classes_, 0.3, query, by_class) for query in queries]
    np.testing.assert_allclose(found, expected, rtol=1e-12)
    assert np.array_equal(model.predict_set(queries, 0.25), found > 0.25)
    again = pickle.loads(pickle.dumps(model))
    assert np.array_equal(again.p_values(queries), found)
    plain = gm.AnalyticClassifier(ridge=0.3).fit(X, y)
    assert np.array_equal(model.predict(queries), plain.predict(queries))
    np.testing.assert_array_equal(model.decision_function(queries), plain.decision_function(queries))
    with pytest.raises(ValueError, match="one label per row"):
        gm.ConformalClassifier().fit(X, np.column_stack([y == "a", y == "b"]))


def test_every_class_is_covered_by_its_own_p_values():
    """A rare class: by_class keeps its coverage, and all rows together do not (the negative control)."""
    rng = np.random.default_rng(2)
    missed = {True: [], False: []}
    for _ in range(100):
        y = np.r_[np.zeros(180, int), np.ones(20, int), np.zeros(50, int), np.ones(50, int)]
        X = rng.normal(size=(300, 5))
        X[:, 0] += y
        for by_class, rates in missed.items():
            sets = gm.ConformalClassifier(by_class=by_class, alpha=0.1).fit(X[:200], y[:200]).predict_set(X[200:])
            rates.append([1 - sets[:50, 0].mean(), 1 - sets[50:, 1].mean()])
    error = np.std(missed[True], axis=0) / 10
    assert (np.mean(missed[True], axis=0) <= 0.1 + 4 * error).all()
    assert np.mean(missed[False], axis=0)[1] >= 0.3


def test_bad_input(rng):
    X, y, queries = problem(rng)
    for make, message in (
        (lambda: gm.JackknifePlus(alpha=0.0), "alpha"),
        (lambda: gm.JackknifePlus(alpha=1.0), "alpha"),
        (lambda: gm.JackknifePlus(method="jackknife"), "method"),
        (lambda: gm.JackknifePlus(method="cv+", cv=1), "cv"),
        (lambda: gm.ConformalRidge(residual="studentized"), "residual"),
        (lambda: gm.ConformalRidge(ridge=-1.0), "ridge"),
        *(
            (lambda kind=kind, ridge=ridge: kind(ridge=ridge), "ridge must be a number >= 0 or 'gcv'")
            for kind in (gm.JackknifePlus, gm.ConformalRidge)
            for ridge in ("loo", "holdout", "best")
        ),
    ):
        with pytest.raises(ValueError, match=message):
            make().fit(X, y)
    for ridge in ("loo", "holdout"):
        with pytest.raises(ValueError, match="ridge must be a number >= 0 or 'gcv'"):
            gm.ConformalClassifier(ridge=ridge).fit(X, np.arange(len(X)) % 2)
    model = gm.JackknifePlus().fit(X, y)
    with pytest.raises(ValueError, match="alpha"):
        model.predict_interval(queries, alpha=2)
    with pytest.raises(ValueError, match="3 features"):
        model.predict_interval(queries[:, :3])
    with pytest.raises(ValueError, match="row 0"):
        model.predict_interval(queries * np.nan)
    # A row that alone carries a feature, without a ridge, cannot be left out.
    lonely = np.column_stack([X, np.r_[1.0, np.zeros(len(X) - 1)]])
    with pytest.raises(np.linalg.LinAlgError, match="row 0 cannot be left out"):
        gm.JackknifePlus(ridge=1e-11).fit(lonely, y)
    with pytest.raises(np.linalg.LinAlgError, match="a fold cannot be left out"):
        gm.JackknifePlus(ridge=1e-11, method="cv+").fit(lonely, y)
