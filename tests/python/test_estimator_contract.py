"""scikit-learn's own checks of an estimator, and the parts of its contract they do not cover."""

import warnings

import numpy as np
import pytest

import gramian
from gramian import (
    AlignedClassifier,
    AnalyticClassifier,
    AnalyticRegressor,
    BroadLearner,
    CodedClassifier,
    ConformalClassifier,
    ConformalRidge,
    DeepKernel,
    DeepKernelClassifier,
    DeepKernelRegressor,
    DualStreamClassifier,
    FeatureChain,
    FusedFeatures,
    GaussianClassifier,
    InfiniteWidthEnsemble,
    JackknifePlus,
    LogisticHead,
    RandomFeatures,
    RBFFeatures,
    ReplayClassifier,
    SingularKernelClassifier,
    SketchedRidge,
    SoftmaxRegression,
    TranslatedClassifier,
    TruncatedRidgeClassifier,
    presets,
)

sklearn = pytest.importorskip("sklearn", reason="scikit-learn is not installed")

from sklearn.base import clone  # noqa: E402
from sklearn.utils.estimator_checks import parametrize_with_checks  # noqa: E402

ESTIMATORS = [
    AnalyticClassifier(),
    AnalyticClassifier(RandomFeatures(64, activation="tanh"), ridge=0.5),
    AnalyticClassifier(ridge="gcv", ridges=[0.1, 1.0, 10.0]),
    AnalyticClassifier(class_weight="balanced"),
    AnalyticClassifier(class_weight="air"),
    AnalyticClassifier(ridge="holdout", ridges=[0.1, 1.0, 10.0]),
    CodedClassifier(),
    CodedClassifier("equiangular", 8),
    AnalyticRegressor(),
    AnalyticRegressor(ridge="gcv", ridges=[0.1, 1.0, 10.0]),
    AnalyticClassifier(ridge="loo", ridges=[0.1, 1.0, 10.0]),
    AnalyticRegressor(ridge="loo", ridges=[0.1, 1.0, 10.0]),
    AnalyticClassifier(width="loo"),
    AnalyticRegressor(width="loo"),
    AnalyticRegressor(dtype="float32", standardize=True),
    DualStreamClassifier(n_features=40, bias=1.0, ridge=0.1),
    DualStreamClassifier(n_features=40, bias=1.0, ridge=0.1, variant="published"),
    DeepKernelClassifier(),
    DeepKernelClassifier(DeepKernel("erf", 3, "ntk", lift=0.5), ridge=1e-2),
    DeepKernelRegressor(),
    InfiniteWidthEnsemble(),
    InfiniteWidthEnsemble(DeepKernel("erf", 2, "ntk", lift=1.0), n_members=20, ridge=0.1),
    ConformalClassifier(),
    ConformalRidge(),
    JackknifePlus(),
    JackknifePlus(RandomFeatures(30), method="cv+", ridge="gcv", ridges=[0.1, 1.0, 10.0]),
    AnalyticClassifier(low_latency=True),
    AnalyticRegressor(low_latency=True),
    AnalyticRegressor(ridge="gcv", ridges=[0.1, 1.0, 10.0], low_latency=True),
    AnalyticClassifier(ridge="loo", ridges=[0.1, 1.0, 10.0], low_latency=True),
    AnalyticRegressor(ridge="loo", ridges=[0.1, 1.0, 10.0], low_latency=True),
    AnalyticClassifier(low_latency=True, forgetting=0.9),
    AnalyticRegressor(low_latency=True, forgetting=0.9),
    BroadLearner(n_mapped=20, n_enhancement=40),
    LogisticHead(),
    LogisticHead(solver="adahessian", ridge=10.0),
    AlignedClassifier(),
    AlignedClassifier(covariance="full", class_totals="empirical"),
    AlignedClassifier(covariance="low_rank", rank=2),
    ReplayClassifier(),
    ReplayClassifier(RandomFeatures(20), space="inputs"),
    TranslatedClassifier(),
    GaussianClassifier(),
    GaussianClassifier(RandomFeatures(20), shrinkage="auto", priors="uniform"),
    RandomFeatures(n_features=20),
    RandomFeatures(n_features=20, kind="hadamard", activation="cos"),
    RandomFeatures(n_features=20, kind="orthogonal"),
    RandomFeatures(n_features=20, kind="sparse"),
    FusedFeatures(mode="project", n_features=12),
    RBFFeatures(centers=10),
    RBFFeatures(centers=10, too_few="mix"),
    RBFFeatures(centers=150, too_few="mix"),  # more than most checks have rows, so that some are mixtures
    TruncatedRidgeClassifier(),
    FeatureChain([RandomFeatures(20), RandomFeatures(10, activation="tanh", random_state=1)]),
    SingularKernelClassifier(),
    SingularKernelClassifier(alpha=3.0),
    SketchedRidge(),
    SketchedRidge(ridge="gcv"),
    SketchedRidge(ridge="loo", ridges=[0.1, 1.0, 10.0]),
    SoftmaxRegression(),
    presets.gkeal(5),
    presets.ranpac(20),
]


def expected_failures(estimator):
    """Checks that must fail, with reasons."""
    if getattr(estimator, "class_weight", None) in ("balanced", "air"):
        return {"check_fit_score_takes_y": "fit counts first and closes its classes: more rows of these are refused"}
    failures = {}
    if "loo" in (getattr(estimator, "ridge", None), getattr(estimator, "width", None)):
        reason = "a row of weight 2 is left out whole; of two equal rows the other one stays"
        failures = {f"check_sample_weight_equivalence_on_{form}_data": reason for form in ("dense", "sparse")}
    if isinstance(getattr(estimator, "feature_map", None), RBFFeatures):
        reason = "centres are drawn from the rows, where a row of weight 2 is one and a repeated row is two"
        failures = {f"check_sample_weight_equivalence_on_{form}_data": reason for form in ("dense", "sparse")}
    if getattr(estimator, "ridge", None) == "holdout" and estimator.ridges is None:
        reason = "each copy of a row is held out or not by itself, a row of weight 2 is one: the ridge may differ"
        failures = {f"check_sample_weight_equivalence_on_{form}_data": reason for form in ("dense", "sparse")}
    if getattr(estimator, "forgetting", 1.0) < 1:
        reason = "a row that comes again ages the rows before it once more; a row of weight 2 does not"
        failures = {f"check_sample_weight_equivalence_on_{form}_data": reason for form in ("dense", "sparse")}
    if getattr(estimator, "low_latency", False) and isinstance(estimator.ridge, str):
        reason = "fit chooses the ridge that partial_fit keeps, so it comes first"
        failures["check_n_features_in_after_fitting"] = reason
    if failures:
        return failures
    if isinstance(estimator, SoftmaxRegression):
        return {
            "check_methods_subset_invariance": "the softmax is over all rows of a call: none has a prediction alone",
            "check_fit_score_takes_y": "the arguments of fit are called A and b, as in the problem it solves",
        }
    if isinstance(estimator, InfiniteWidthEnsemble):
        reason = "members are functions drawn on the rows of a call: other rows, or another order, are other draws"
        # Without a ridge all members say of rows they have learnt what was learnt, alone too.
        of = ("sample_order", "subset") if estimator.ridge > 0 else ("sample_order",)
        return {f"check_methods_{what}_invariance": reason for what in of}
    if getattr(estimator, "dtype", None) != "float32":
        return {}
    reason = "float32 products of repeated rows and of weighted ones are rounded differently, beyond rtol=1e-7"
    return {f"check_sample_weight_equivalence_on_{form}_data": reason for form in ("dense", "sparse")}


def checks_of(estimators):
    """The checks of scikit-learn; that our estimators do not inherit from its base class is meant so."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*does not inherit from.*", category=UserWarning)
        return parametrize_with_checks(estimators, expected_failed_checks=expected_failures)


@checks_of(ESTIMATORS)
@pytest.mark.filterwarnings("ignore")
def test_scikit_learn_checks(estimator, check):
    np.random.seed(0)  # some checks draw from the global generator: the same draws in every run
    check(estimator)


@pytest.mark.parametrize("estimator", ESTIMATORS, ids=lambda e: type(e).__name__)
def test_clone_and_params(estimator):
    copy = clone(estimator)
    assert copy is not estimator
    assert repr(copy) == repr(estimator)
    assert copy.get_params().keys() == estimator.get_params().keys()


def test_nested_params():
    model = AnalyticClassifier(RandomFeatures(8), ridge=2.0)
    assert model.get_params()["feature_map__n_features"] == 8
    model.set_params(feature_map__n_features=16, ridge=3.0)
    assert model.feature_map.n_features == 16
    assert model.ridge == 3.0
    with pytest.raises(ValueError, match="Invalid parameter 'alpha'"):
        model.set_params(alpha=1.0)
    assert repr(model) == "AnalyticClassifier(feature_map=RandomFeatures(n_features=16), ridge=3.0)"


PUBLIC_CLASSES = [thing for thing in (getattr(gramian, name) for name in gramian.__all__) if isinstance(thing, type)]


@pytest.mark.parametrize("kind", PUBLIC_CLASSES, ids=lambda kind: kind.__name__)
def test_no_base_class_of_another_package(kind):
    homes = {base.__module__.partition(".")[0] for base in kind.__mro__}
    assert homes <= {"gramian", "builtins"}


def test_base_classes_of_scikit_learn_would_be_seen():
    """The control of the test above."""
    assert "sklearn" in {base.__module__.partition(".")[0] for base in sklearn.linear_model.Ridge.__mro__}


def test_not_fitted():
    from sklearn.exceptions import NotFittedError

    X = np.zeros((2, 3))
    for call in (
        lambda: AnalyticClassifier().predict(X),
        lambda: AnalyticRegressor().predict(X),
        lambda: AnalyticClassifier().forget(X, [0, 1]),
        lambda: AnalyticClassifier().state_,
        lambda: RandomFeatures().transform(X),
        lambda: gramian.GramState(3, 1).gcv([1.0]),
    ):
        with pytest.raises(NotFittedError):
            call()
    assert not hasattr(AnalyticClassifier(), "coef_")


def test_forgetting_everything_is_not_fitted(rng):
    from sklearn.exceptions import NotFittedError
    from sklearn.utils.validation import check_is_fitted

    X, y = rng.normal(size=(20, 3)), np.arange(20) % 2
    model = AnalyticClassifier().fit(X, y)
    check_is_fitted(model)
    model.forget(X, y)
    assert model.n_samples_seen_ == 0
    assert model.classes_.shape == (0,)
    with pytest.raises(NotFittedError):
        model.predict(X)
    with pytest.raises(NotFittedError):
        check_is_fitted(model)
    model.partial_fit(X, y)
    assert np.array_equal(model.predict(X), AnalyticClassifier().fit(X, y).predict(X))


def test_pipeline_and_grid_search(rng):
    from sklearn.model_selection import GridSearchCV
    from sklearn.pipeline import make_pipeline

    X = rng.normal(size=(120, 5))
    y = np.where(X[:, 0] * X[:, 1] > 0, "same", "other")
    search = GridSearchCV(
        make_pipeline(RandomFeatures(100), AnalyticClassifier()),
        {"randomfeatures__n_features": [20, 200], "analyticclassifier__ridge": [0.1, 10.0]},
        cv=3,
        n_jobs=2,
    ).fit(X, y)
    assert search.best_score_ > 0.6
    assert set(search.predict(X)) <= {"same", "other"}


def test_same_answers_as_scikit_learn(rng):
    from sklearn.linear_model import Ridge, RidgeClassifier

    X = rng.normal(size=(200, 6)) + 3.0
    y = rng.integers(0, 2, size=200)
    ours, theirs = AnalyticClassifier(ridge=0.7).fit(X, y), RidgeClassifier(alpha=0.7).fit(X, y)
    np.testing.assert_allclose(ours.coef_.ravel(), theirs.coef_.ravel(), rtol=1e-8, atol=1e-10)
    np.testing.assert_allclose(ours.decision_function(X), theirs.decision_function(X), rtol=1e-8, atol=1e-10)
    Y = rng.normal(size=(200, 3))
    ours, theirs = AnalyticRegressor(ridge=0.7).fit(X, Y), Ridge(alpha=0.7).fit(X, Y)
    np.testing.assert_allclose(ours.coef_, theirs.coef_, rtol=1e-8, atol=1e-10)
    np.testing.assert_allclose(ours.intercept_, theirs.intercept_, rtol=1e-8, atol=1e-10)
    assert ours.score(X, Y) == pytest.approx(theirs.score(X, Y))


def test_gcv_chooses_from_its_grid(rng):
    X = rng.normal(size=(200, 6))
    y = X[:, 0] + rng.normal(size=200)
    state = gramian.GramState(6, 1).add(X, y)
    for grid, at_edge in (([1e-3, 1e-2], True), (np.logspace(-3, 5, 17), False)):
        model = AnalyticRegressor(ridge="gcv", ridges=grid).fit(X, y)
        assert model.ridge_ == model.report_.ridge == state.gcv(grid).ridge
        assert model.gcv_at_edge_ is at_edge
    assert AnalyticRegressor(ridge="gcv").fit(X, y).ridge_ > 0


def test_data_frames(rng):
    pandas = pytest.importorskip("pandas", reason="pandas is not installed")
    frame = pandas.DataFrame(rng.normal(size=(40, 3)), columns=["a", "b", "c"])
    y = pandas.Series(np.where(frame["a"] > 0, "up", "down"), dtype=object)
    model = AnalyticClassifier().fit(frame, y)
    assert list(model.feature_names_in_) == ["a", "b", "c"]
    with pytest.raises(ValueError, match="in the same order as they were in fit"):
        model.predict(frame[["b", "a", "c"]])
    with pytest.raises(ValueError, match="unseen at fit time"):
        model.partial_fit(frame.rename(columns={"a": "z"}), y)
    with pytest.warns(UserWarning, match="does not have valid feature names"):
        model.predict(frame.to_numpy())


def test_unfitted_model_takes_the_form_of_what_it_merges(rng):
    X, y = rng.normal(size=(60, 4)), np.arange(60) % 3
    parts = [AnalyticClassifier(ridge=0.5).fit(X[k::2], y[k::2]) for k in range(2)]
    total = AnalyticClassifier(ridge=0.5)
    for part in parts:
        total.merge(part)
    whole = AnalyticClassifier(ridge=0.5).fit(X, y)
    np.testing.assert_allclose(total.coef_, whole.coef_, rtol=1e-9, atol=1e-12)
    assert total.n_samples_seen_ == 60


@pytest.fixture
def routing():
    with sklearn.config_context(enable_metadata_routing=True):
        yield


def test_metadata_routing(routing, rng):
    from sklearn.model_selection import cross_validate
    from sklearn.pipeline import make_pipeline

    X, y, weight = rng.normal(size=(60, 4)), np.arange(60) % 2, rng.random(60)
    for kind in (AnalyticClassifier, AnalyticRegressor):
        plain = make_pipeline(RandomFeatures(20), kind())
        plain.fit(X, y).predict(X)
        with pytest.raises(sklearn.exceptions.UnsetMetadataPassedError, match="sample_weight"):
            plain.fit(X, y, sample_weight=weight)
        asks = kind().set_fit_request(sample_weight=True).set_score_request(sample_weight=True)
        found = clone(make_pipeline(RandomFeatures(20), asks)).fit(X, y, sample_weight=weight)
        expected = kind(RandomFeatures(20)).fit(X, y, sample_weight=weight)
        np.testing.assert_allclose(found[-1].coef_, expected.coef_, rtol=1e-9)
        assert found.score(X, y, sample_weight=weight) == pytest.approx(expected.score(X, y, sample_weight=weight))
        asks.set_score_request(sample_weight=False)
        assert "test_score" in cross_validate(asks, X, y, params={"sample_weight": weight}, cv=3)
    requests = AnalyticClassifier().set_partial_fit_request(classes=True).get_metadata_routing()
    assert requests.partial_fit.requests == {"classes": True, "sample_weight": None}


def test_long_lists_are_shown_short():
    model = AnalyticClassifier(ridge="gcv", ridges=[float(k) for k in range(1, 1000)])
    assert repr(model) == "AnalyticClassifier(ridge='gcv', ridges=[1.0, 2.0, 3.0, ..., 997.0, 998.0, 999.0])"
