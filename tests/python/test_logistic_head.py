"""Logistic heads against scikit-learn's optimum and dense derivatives."""

import pickle

import numpy as np
import pytest
from reference_path import checks
from reference_path import second_order as ref

from gramian import LogisticHead
from gramian.second_order import LogisticLoss, adahessian_step, hutchinson_diagonal

linear_model = pytest.importorskip("sklearn.linear_model", reason="scikit-learn is not installed")


def rows(rng, n=400, d=6, classes=3):
    X = rng.normal(size=(n, d))
    scores = X @ rng.normal(size=(d, classes)) + rng.normal(size=(n, classes)) * 2
    return X, scores.argmax(axis=1)


def theirs(ridge, fit_intercept=True):
    return linear_model.LogisticRegression(
        C=1 / ridge, solver="newton-cg", tol=1e-12, max_iter=10000, fit_intercept=fit_intercept
    )


@pytest.mark.parametrize("classes", [2, 3, 5])
@pytest.mark.parametrize("ridge", [1e-2, 1.0, 100.0])
@pytest.mark.parametrize("fit_intercept", [True, False])
def test_optimum_of_scikit_learn(rng, classes, ridge, fit_intercept):
    X, y = rows(rng, classes=classes)
    weight = rng.random(len(X)) + 0.1
    ours = LogisticHead(ridge=ridge, fit_intercept=fit_intercept).fit(X, y, sample_weight=weight)
    other = theirs(ridge, fit_intercept).fit(X, y, sample_weight=weight)
    assert ours.report_["converged"] and ours.report_["gradient"] <= 1e-10
    np.testing.assert_allclose(ours.coef_, other.coef_, rtol=0, atol=2e-6)
    np.testing.assert_allclose(
        ours.intercept_ - ours.intercept_.mean(), other.intercept_ - other.intercept_.mean(), atol=2e-6
    )
    np.testing.assert_allclose(ours.predict_proba(X), other.predict_proba(X), rtol=0, atol=1e-6)
    np.testing.assert_array_equal(ours.classes_, other.classes_)
    assert ours.coef_.shape == other.coef_.shape


@pytest.mark.parametrize("classes", [2, 4])
def test_derivatives(rng, classes):
    X, y = rows(rng, n=60, d=4, classes=classes)
    weight = rng.random(60)
    loss = LogisticLoss(X, y, ridge=0.7, sample_weight=weight)
    w = rng.normal(size=loss.shape_)
    value, gradient, H = ref.logistic_parts(X, y, loss.classes_, 0.7, w.ravel(), weight)
    found, slope = loss.value_gradient(w)
    assert found == pytest.approx(value, rel=1e-13)
    np.testing.assert_allclose(slope.ravel(), gradient, rtol=0, atol=1e-14)
    for _ in range(3):
        v = rng.normal(size=w.size)
        np.testing.assert_allclose(loss.hessian_product(v), H @ v, rtol=0, atol=1e-14 * w.size)
    diagonal, error = hutchinson_diagonal(loss.hessian_product, w.size, n_samples=2000)
    assert (np.abs(diagonal - np.diag(H)) <= 5 * error + 1e-15).all()


def test_a_point_that_is_none_is_refused_and_not_remembered(rng):
    X, y = rows(rng, n=60, d=4, classes=2)
    loss, v = LogisticLoss(X, y), rng.normal(size=5)
    loss.value_gradient(np.ones(5))
    before = loss.hessian_product(v)
    for bad in (np.full(5, np.nan), np.full(5, np.inf)):
        with pytest.raises(ValueError, match="weights contains NaN or infinity"):
            loss.value_gradient(bad)
        with pytest.raises(ValueError, match="v contains NaN or infinity"):
            loss.hessian_product(bad)
    with pytest.raises(ValueError, match="Complex data"):
        loss.value_gradient(np.full(5, 1j))
    assert np.array_equal(loss.hessian_product(v), before)


@pytest.mark.parametrize("solver", ["adahessian", "sophia"])
@pytest.mark.parametrize("classes", [2, 3])
def test_first_order_budgets_reach_the_same_minimum(rng, solver, classes):
    X, y = rows(rng, classes=classes)
    best = LogisticHead(ridge=1.0).fit(X, y)
    slow = LogisticHead(ridge=1.0, solver=solver).fit(X, y)
    assert slow.report_["converged"]
    # Strong convexity, ridge / n: |w - w*| <= |gradient| n / ridge.
    distance = 1e-6 * np.sqrt(slow.coef_.size + len(slow.intercept_)) * len(X)
    assert np.linalg.norm(slow.coef_ - best.coef_) <= distance
    assert slow.report_["loss"] - best.report_["loss"] <= 1e-6 * distance
    again = LogisticHead(ridge=1.0, solver=solver).fit(X, y)
    assert np.array_equal(again.coef_, slow.coef_)
    with pytest.warns(Warning, match="stopped after 3 steps"):
        LogisticHead(ridge=1.0, solver=solver, max_iter=3).fit(X, y)


def test_steps_of_ones_own(rng):
    X, y = rows(rng, classes=2)
    loss, best = LogisticLoss(X, y), LogisticHead().fit(X, y)
    w, state = np.zeros(loss.shape_[0]), None
    for k in range(400):
        value, gradient = loss.value_gradient(w)
        diagonal, _ = hutchinson_diagonal(loss.hessian_product, w.size, random_state=k)
        w, state = adahessian_step(w, gradient, diagonal, state)
    assert value - best.report_["loss"] <= 1e-6


def test_features_of_very_different_sizes(rng):
    X, y = rows(rng, classes=3)
    scales = np.logspace(-4, 4, 6)
    plain = LogisticHead(ridge=0.0).fit(X, y)
    ours = LogisticHead(ridge=0.0).fit(X * scales, y)
    # Without a penalty that sees the scale, the answer is the same.
    np.testing.assert_allclose(ours.predict_proba(X * scales), plain.predict_proba(X), rtol=0, atol=1e-5)
    assert ours.n_iter_ <= plain.n_iter_ + 2


def test_separable_classes_without_ridge_stay_finite():
    X = np.array([[-2.0], [-1.0], [1.0], [2.0]])
    model = LogisticHead(ridge=0.0, max_iter=30, tol=0.0)
    with pytest.warns(Warning, match="larger ridge"):
        model.fit(X, [0, 0, 1, 1])
    assert np.isfinite(model.coef_).all() and model.coef_[0, 0] > 5
    assert model.score(X, [0, 0, 1, 1]) == 1
    assert np.isfinite(model.predict_log_proba([[1e6], [-1e6]])).all()


def test_rows_beyond_what_is_kept(rng):
    """Rows that do not fit beside the model are read anew in each pass: the same answer."""
    sparse = pytest.importorskip("scipy.sparse")
    X, y = rows(rng, n=9000, d=8)
    dense = LogisticHead().fit(X, y)
    np.testing.assert_allclose(LogisticHead().fit(sparse.csr_matrix(X), y).coef_, dense.coef_, rtol=0, atol=1e-9)
    np.testing.assert_allclose(LogisticHead().fit(X.astype(np.float32), y).coef_, dense.coef_, rtol=0, atol=1e-5)
    assert np.array_equal(LogisticHead(n_jobs=1).fit(X, y).coef_, LogisticHead(n_jobs=3).fit(X, y).coef_)


def test_pickle(rng):
    X, y = rows(rng)
    model = LogisticHead().fit(X, y)
    assert np.array_equal(pickle.loads(pickle.dumps(model)).predict_proba(X), model.predict_proba(X))


def test_refuses(rng):
    X, y = rows(rng)
    for arguments, message in (
        ({"solver": "sgd"}, "solver"),
        ({"ridge": -1.0}, "ridge"),
        ({"max_iter": 0}, "max_iter"),
        ({"tol": -1.0}, "tol"),
        ({"learning_rate": 0.0, "solver": "sophia"}, "learning_rate"),
    ):
        with pytest.raises(ValueError, match=message):
            LogisticHead(**arguments).fit(X, y)
    model = LogisticHead().fit(X, y)
    before = model.coef_.copy()
    with pytest.raises(ValueError, match="only one class"):
        model.fit(X, np.zeros(len(X)))
    bad = X.copy()
    bad[7, 2] = np.nan
    with pytest.raises(ValueError, match="row 7"):
        model.fit(bad, y)
    with pytest.raises(ValueError, match="zero for all rows"):
        model.fit(X, y, sample_weight=np.zeros(len(X)))
    assert np.array_equal(model.coef_, before)
    assert checks.relative_error(model.coef_, before) == 0
