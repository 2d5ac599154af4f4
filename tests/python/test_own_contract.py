"""Estimators that scikit-learn's checks cannot feed pass our own; every estimator is in one list or the other."""

import inspect

import numpy as np
import pytest
from gramian_checks import check_gramian_estimator

import gramian as gm
from gramian.base import Estimator

pytest.importorskip("sklearn", reason="scikit-learn is not installed")

from test_estimator_contract import ESTIMATORS  # noqa: E402

# Why each of them is no estimator on rows X of two dimensions and any width that scikit-learn's checks could fit.
OURS = {
    "DeepKernel": "a function of pairs of rows: it neither fits nor predicts",
    "FrechetClassifier": "a rule behind a classifier that is fitted already",
    "FrechetPredictor": "fits nothing, and its rows are weights >= 0 of the labels of its metric, one column each",
    "LayerCombination": "fits nothing: its weights are its parameters, one for each column of scores",
    "QuantileAggregator": "its rows are predictions of three dimensions",
}
# With a method of an estimator's name, and none.
NO_ESTIMATORS = {
    "FrequentDirections": "a sketch: its partial_fit takes rows without targets, and nothing is predicted from it",
    "RiskCurve": "its predict takes a number of rows and a width",
}


def holed(array):
    array = np.array(array, dtype=np.float64)
    array.flat[3] = np.nan
    return array


def test_quantile_aggregator():
    rng = np.random.default_rng(0)
    predictions = np.sort(rng.normal(size=(60, 2, 3)), axis=2)
    y = rng.normal(size=60)
    check_gramian_estimator(
        gm.QuantileAggregator([0.1, 0.5, 0.9], weights="stacked"),
        lambda model, p, y: model.fit(p, y),
        lambda model, p, y: model.predict(p),
        (predictions, y),
        [
            (lambda model, p, y: model.predict(p[:, :, :2]), "shape"),
            (lambda model, p, y: model.predict(p[0]), "shape|dimension"),
            (lambda model, p, y: model.predict(holed(p)), "NaN"),
            (lambda model, p, y: model.fit(p, y[:5]), "inconsistent|shape"),
            (lambda model, p, y: model.fit(p[:0], y[:0]), "no rows"),
        ],
    )


def test_softmax_regression():
    rng = np.random.default_rng(0)
    A = rng.normal(size=(40, 3))
    b = np.exp(A @ [0.5, -1.0, 0.2] + 0.1 * rng.normal(size=40))
    check_gramian_estimator(
        gm.SoftmaxRegression(),
        lambda model, A, b: model.fit(A, b),
        lambda model, A, b: model.predict(A),
        (A, b / b.sum()),
        [
            (lambda model, A, b: model.predict(A[:, :2]), "features"),
            (lambda model, A, b: model.predict(A[0]), "2D array"),
            (lambda model, A, b: model.predict(holed(A)), "NaN"),
            (lambda model, A, b: model.fit(A, b[:5]), "shape"),
            (lambda model, A, b: model.fit(A[:0], b[:0]), "sample"),
        ],
    )


def test_frechet_predictor():
    P = np.random.default_rng(0).dirichlet(np.ones(3), size=20)
    check_gramian_estimator(
        gm.FrechetPredictor(gm.hierarchy_metric([-1, 0, 1, 1, 0]), observed=[0, 2, 4]),
        None,
        lambda model, P: model.predict(P),
        (P,),
        [
            (lambda model, P: model.predict(P[:, :2]), "observed"),
            (lambda model, P: model.predict(P[0]), "2D array"),
            (lambda model, P: model.predict(holed(P)), "NaN|negative|finite"),
            (lambda model, P: model.predict(-P), ">= 0|negative"),
        ],
    )


def test_infinite_width_ensemble():
    rng = np.random.default_rng(0)
    X, Y = rng.normal(size=(12, 4)), rng.normal(size=(12, 2))
    check_gramian_estimator(
        gm.InfiniteWidthEnsemble(gm.DeepKernel("erf", depth=2), n_members=20, ridge=0.1),
        lambda model, X, Y: model.fit(X, Y),
        lambda model, X, Y: model.predict(X),
        (X, Y),
        [
            (lambda model, X, Y: model.predict(X[:, :2]), "features"),
            (lambda model, X, Y: model.predict(holed(X)), "NaN"),
            (lambda model, X, Y: model.fit(X, Y[:3]), "inconsistent"),
            (lambda model, X, Y: model.fit(holed(X), Y), "NaN"),
            (lambda model, X, Y: model.sample(X, n_members=0), "n_members"),
        ],
    )


def test_deep_kernel():
    X = np.random.default_rng(0).normal(size=(8, 3))
    check_gramian_estimator(
        gm.DeepKernel("erf", depth=2, kind="ntk"),
        None,
        lambda kernel, X: kernel.kernel(X),
        (X,),
        [
            (lambda kernel, X: kernel.kernel(X, X[:, :2]), "features"),
            (lambda kernel, X: kernel.kernel(X[0]), "2D array"),
            (lambda kernel, X: kernel.kernel(holed(X)), "NaN"),
        ],
    )


def test_frechet_classifier():
    rng = np.random.default_rng(0)
    X, y = rng.normal(size=(30, 4)), np.array([0, 2, 4])[np.arange(30) % 3]
    predictor = gm.FrechetPredictor(gm.hierarchy_metric([-1, 0, 1, 1, 0]), observed=[0, 2, 4])
    wrapped = predictor.wrap(gm.AnalyticClassifier().fit(X, y), "clip", 2.0)
    check_gramian_estimator(
        wrapped,
        None,
        lambda model, X: model.predict(X),
        (X,),
        [
            (lambda model, X: model.predict(X[:, :2]), "features"),
            (lambda model, X: model.predict(X[0]), "2D array"),
            (lambda model, X: model.predict(holed(X)), "NaN"),
        ],
    )
    # A clone has an estimator that is not fitted, and says so.
    from sklearn.base import clone
    from sklearn.exceptions import NotFittedError

    with pytest.raises(NotFittedError):
        clone(wrapped).predict(X)
    with pytest.raises(ValueError, match="not the observed labels"):
        predictor.wrap(gm.AnalyticClassifier().fit(X, y + 1))


def test_layer_combination():
    rng = np.random.default_rng(0)
    inside, outside = rng.normal(size=(40, 3)) + 1, rng.normal(size=(30, 3))
    combined = gm.combine_layers(inside, outside)
    assert np.array_equal(
        gm.LayerCombination(combined.coef_, combined.intercept_).score(inside), combined.score(inside)
    )
    check_gramian_estimator(
        combined,
        None,
        lambda model, X: model.score(X),
        (inside,),
        [
            (lambda model, X: model.score(X[:, :2]), "2 columns, but 3 scores"),
            (lambda model, X: model.score(X[0]), "2D array"),
            (lambda model, X: model.score(holed(X)), "NaN"),
            (lambda model, X: gm.LayerCombination([np.nan] * 3, 0.0).score(X), "coef contains NaN"),
            (lambda model, X: gm.LayerCombination([1.0] * 3, None).score(X), "intercept must be a number"),
        ],
    )


def test_every_estimator_is_checked():
    theirs = {type(estimator).__name__ for estimator in ESTIMATORS}
    for name in gm.__all__:
        kind = getattr(gm, name)
        if inspect.isclass(kind) and issubclass(kind, Estimator):
            assert (name in OURS) != (name in theirs), name


def test_what_looks_like_an_estimator_is_one():
    verbs = ("fit", "partial_fit", "predict", "predict_proba", "score", "transform")
    for name in gm.__all__:
        kind = getattr(gm, name)
        if inspect.isclass(kind) and any(hasattr(kind, verb) for verb in verbs):
            assert issubclass(kind, Estimator) != (name in NO_ESTIMATORS), name
