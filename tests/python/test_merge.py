"""Models merged into models: what must agree, what is kept, and models that are empty."""

import numpy as np
import pytest

from gramian import (
    AnalyticClassifier,
    AnalyticRegressor,
    CodedClassifier,
    FeatureChain,
    GramState,
    RandomFeatures,
    RBFFeatures,
)
from gramian.federated import merge_sums


@pytest.fixture
def data(rng):
    return rng.normal(size=(60, 5)), np.arange(60) % 3


def test_column_names_must_agree(data):
    pandas = pytest.importorskip("pandas", reason="pandas is not installed")
    X, y = data
    one, other = (AnalyticClassifier().fit(pandas.DataFrame(X, columns=list(names)), y) for names in ("abcde", "edcba"))
    with pytest.raises(ValueError, match="in the same order as they were in fit"):
        one.merge(other)
    assert one.n_samples_seen_ == 60
    assert one.merge(AnalyticClassifier().fit(X, y)).n_samples_seen_ == 120
    assert list(AnalyticClassifier().merge(one).feature_names_in_) == list("abcde")


MAPS = {
    "random": (lambda: RandomFeatures(9), RandomFeatures(8)),
    "seed": (lambda: RandomFeatures(9, random_state=3), RandomFeatures(9, random_state=4)),
    "seed of the estimator": (lambda: RandomFeatures(9, random_state=None), RandomFeatures(9, random_state=1)),
    "drawn centers": (lambda: RBFFeatures(7), RBFFeatures(6)),
    "given centers": (lambda: RBFFeatures(np.eye(5), gamma=0.5), RBFFeatures(np.eye(5), gamma=0.25)),
    "chain": (
        lambda: FeatureChain([RandomFeatures(9), RBFFeatures(4)]),
        FeatureChain([RandomFeatures(9), RandomFeatures(4)]),
    ),
    "none": (lambda: None, RandomFeatures(9)),
}


@pytest.mark.parametrize("name", MAPS)
@pytest.mark.parametrize("kind", [AnalyticClassifier, AnalyticRegressor])
def test_an_unfitted_model_takes_the_map_it_may_have_made(data, kind, name):
    X, y = data
    make, different = MAPS[name]
    fitted = kind(make()).fit(X, y)
    assert np.array_equal(kind(make()).merge(fitted).predict(X), fitted.predict(X))
    for other in (different, None if make() is not None else RandomFeatures(3)):
        model = kind(other)
        with pytest.raises(ValueError, match="only models with the same feature map"):
            model.merge(fitted)
        assert not hasattr(model, "coef_")


def test_a_generator_may_have_drawn_any_seed(data):
    X, y = data
    make = lambda: AnalyticRegressor(RandomFeatures(9, random_state=np.random.default_rng(5)))  # noqa: E731
    fitted = make().fit(X, y)
    assert np.array_equal(make().merge(fitted).coef_, fitted.coef_)


def test_int_and_float_labels(data):
    X, y = data
    whole = AnalyticClassifier().fit(np.vstack([X, X]), np.r_[y, y + 1])
    for first, second in ((y, (y + 1).astype(float)), (y.astype(np.float32), y + 1)):
        other = AnalyticClassifier().fit(X, second)
        model = AnalyticClassifier().fit(X, first).merge(other)
        assert model.classes_.dtype == first.dtype
        assert list(model.classes_) == [0, 1, 2, 3]
        assert list(model.class_count_) == [20, 40, 40, 20]
        np.testing.assert_allclose(model.coef_, whole.coef_, rtol=1e-9, atol=1e-12)
        assert other.classes_.dtype == second.dtype
    with pytest.raises(ValueError, match="not the same number as float64"):
        AnalyticClassifier().fit(X, y * 1.0).merge(AnalyticClassifier().fit(X, y + 2**53 + 1))
    with pytest.raises(TypeError, match="text"):
        AnalyticClassifier().fit(X, y).merge(AnalyticClassifier().fit(X, y.astype(str)))


@pytest.mark.parametrize("call", ["merge", "unmerge"])
def test_models_of_another_class_are_named(data, call):
    X, y = data
    classifier, regressor = AnalyticClassifier().fit(X, y), AnalyticRegressor().fit(X, y)
    for model, other in ((classifier, regressor), (regressor, classifier)):
        wanted = f"^an {type(model).__name__} is needed, got {type(other).__name__}$"
        with pytest.raises(TypeError, match=wanted):
            getattr(model, call)(other)


def test_an_emptied_model_takes_the_labels_it_merges(data):
    X, y = data
    model = AnalyticClassifier().fit(X, y.astype(np.int8)).forget(X, y)
    model.merge(AnalyticClassifier().fit(X, y.astype(str)))
    assert list(model.classes_) == ["0", "1", "2"]
    model = AnalyticClassifier().fit(X, y.astype(np.int8)).forget(X, y)
    assert model.merge(AnalyticClassifier().fit(X, y)).classes_.dtype == np.int64


def copy_of(model):
    return type(model)(**model.get_params(deep=False))


@pytest.mark.parametrize(
    "model", [AnalyticClassifier(), CodedClassifier("one_hot", code_dim=4)], ids=lambda model: type(model).__name__
)
@pytest.mark.parametrize("label", [np.int64, np.float64, str, bytes, bool], ids=lambda label: label.__name__)
def test_declared_classes_are_all_that_is_merged(data, model, label):
    X, y = data
    few, y = y == 0 if label is bool else y < 2, (y > 0 if label is bool else y).astype(label)
    declared = np.unique(y[few])
    model = copy_of(model).partial_fit(X[few], y[few], classes=declared)
    before = model.to_bytes()
    with pytest.raises(ValueError, match="not among the declared classes"):
        model.merge(copy_of(model).partial_fit(X, y))
    assert model.to_bytes() == before
    # One that has seen no more than the declared classes, or nothing at all, may come.
    model.merge(copy_of(model).partial_fit(X[few], y[few]))
    model.merge(copy_of(model).partial_fit(X, y, sample_weight=np.zeros(60)))
    assert model.n_samples_seen_ == 2 * few.sum()
    assert np.array_equal(model.classes_, declared)


def test_declared_classes_are_all_that_bare_sums_bring(data):
    X, y = data
    model = AnalyticClassifier().partial_fit(X[y < 2], y[y < 2], classes=[0, 1])
    before = model.to_bytes()
    with pytest.raises(ValueError, match="not among the declared classes"):
        merge_sums(model, GramState(5, 3).add_labels(X, y), classes=[0, 1, 2])
    assert model.to_bytes() == before


def test_float32_sums_stay_float32(data, tmp_path):
    X, y = data
    single = AnalyticRegressor(dtype="float32").fit(X, y)
    for model in (AnalyticRegressor().fit(X, y).merge(single), AnalyticRegressor().merge(single)):
        assert model.state_.dtype == "float32"
        large = np.full((2, 5), 2**24 + 1)  # is no float32
        assert model.partial_fit(large, [1.0, 2.0]).state_.moments()[0][0, 0] > 2 * (2.0**24 + 0.9) ** 2
