"""Published methods as presets: each equals the joint solve of its own formula, on streams that mix classes."""

import functools

import numpy as np
import pytest
from oracle import one_hot, relative_error, ridge_weights
from reference_path import analytic, class_incremental

from gramian import AnalyticClassifier, DualStreamClassifier, presets

NAMES = ("acil", "g_acil", "air", "f_oal")


@pytest.fixture
def data(rng):
    """600 rows of 7 classes of very different sizes, 5 times as many as features."""
    y = rng.choice(7, size=600, p=np.array([40, 20, 10, 10, 10, 5, 5]) / 100)
    return rng.normal(size=(7, 10))[y] + rng.normal(size=(600, 10)), y


def joint(model, X, y, factor=1.0):
    Z = model.feature_map_.transform(X)
    weight = class_incremental.balanced_weights(y) if model.class_weight == "air" else None
    return ridge_weights(Z, one_hot(y, np.unique(y)), factor * model.ridge, weight, fit_intercept=False)[0]


@pytest.mark.parametrize("name", NAMES)
def test_equals_joint_ridge(data, rng, name):
    X, y = data
    model = getattr(presets, name)(n_features=100, random_state=3)
    for edges in ([0, 600], [0, 1, 2, 150, 151, 600], sorted(rng.choice(601, size=20))):
        edges = sorted({0, *edges, 600})
        order = np.argsort(y, kind="stable") if len(edges) == 6 else rng.permutation(600)
        stream = type(model)(**model.get_params(deep=False))
        for a, b in zip(edges[:-1], edges[1:], strict=True):
            stream.partial_fit(X[order[a:b]], y[order[a:b]])
        # 10 eps |G| / ridge: |G| is under 1e4 here.
        assert relative_error(stream.coef_, joint(stream, X, y)) < 1e-9
        assert stream.n_samples_seen_ == 600  # no row is dropped
        assert not np.any(stream.intercept_)


@pytest.mark.parametrize("name", NAMES)
def test_a_ridge_of_a_hundredth_costs_no_digits(data, rng, name):
    """Section 1.1 at its least ridge, 1e-2: (a) batches, (b) their order, (c) names of classes, (d) single rows."""
    X, y = data
    fresh = functools.partial(getattr(presets, name), n_features=100, ridge=1e-2, random_state=3)
    batches = np.array_split(np.argsort(y, kind="stable"), 13)
    streams = {
        "batches": batches,
        "order of batches": [batches[k] for k in rng.permutation(13)],
        "single rows": rng.permutation(600)[:, np.newaxis],
    }
    for what, stream in streams.items():
        model = fresh()
        for rows in stream:
            model.partial_fit(X[rows], y[rows])
        assert relative_error(model.coef_, joint(model, X, y)) < 1e-9, what
    renamed = rng.permutation(7)
    other = fresh()
    for rows in batches:
        other.partial_fit(X[rows], renamed[y[rows]])
    assert relative_error(other.coef_[renamed], model.coef_) < 1e-9


def test_the_recursion_of_the_inverse_loses_them(rng):
    """Section 1.1, the control: large features and a ridge of 1e-2, since R begins as 100 I and forgets that slowly."""
    y = np.sort(rng.choice(7, size=900))
    X = rng.normal(size=(7, 10))[y] + rng.normal(size=(900, 10))
    model = presets.acil(n_features=200, ridge=1e-2, scale=10.0, random_state=3)
    batches = np.array_split(np.arange(900), 14)
    for rows in batches:
        model.partial_fit(X[rows], y[rows])
    mapped = [(model.feature_map_.transform(X[rows]), y[rows]) for rows in batches]
    expected = joint(model, X, y)
    assert relative_error(model.coef_, expected) < 1e-9
    assert relative_error(analytic.incremental(mapped, 1e-2)[1], expected) > 1e-9


def test_published_settings():
    assert presets.acil().ridge == 0.1
    assert presets.acil().feature_map.n_features == 8192
    assert presets.g_acil().ridge == 100.0
    assert presets.g_acil().feature_map.n_features == 5000
    assert presets.f_oal().ridge == 1.0
    assert presets.f_oal().feature_map.activation == "sigmoid"
    assert presets.f_oal().feature_map.n_features == 1000
    assert presets.air().class_weight == "air"
    for name in NAMES:
        assert isinstance(getattr(presets, name)(), AnalyticClassifier)
        assert not getattr(presets, name)().fit_intercept
    model = presets.ds_al()
    assert isinstance(model, DualStreamClassifier)
    assert (model.n_features, model.ridge, model.compensation_ridge, model.compensation) == (8192, 0.1, 0.1, 0.6)
    assert (model.activation, model.compensation_activation) == ("relu", "tanh")
    assert presets.ds_al(variant="published").variant == "published"
    assert presets.acil(fit_intercept=True, dtype="float32").fit_intercept


def test_three_passes_are_a_third_of_the_ridge(data):
    X, y = data
    model = presets.g_acil(n_features=100)
    for begin in range(0, 600, 64):
        for _ in range(3):
            model.partial_fit(X[begin : begin + 64], y[begin : begin + 64])
    assert relative_error(model.coef_, joint(model, X, y, 1 / 3)) < 1e-11
    assert relative_error(model.coef_, joint(model, X, y)) > 1e-2


def test_scale_is_worth_a_ridge(data):
    X, y = data
    small = presets.acil(n_features=100, ridge=0.1, scale=(3 * 10) ** -0.5).fit(X, y)
    large = presets.acil(n_features=100, ridge=0.3).fit(X, y)
    assert relative_error(small.decision_function(X), large.decision_function(X)) < 1e-10


def test_dropping_the_gain_of_exposed_classes_fails(data):
    """The recursion without labels of old classes is another model as soon as a class comes back."""
    X, y = data
    model = presets.g_acil(n_features=100)
    batches = [(X[a : a + 100], y[a : a + 100]) for a in range(0, 600, 100)]
    for rows, labels in batches:
        model.partial_fit(rows, labels)
    mapped = [(model.feature_map_.transform(rows), labels) for rows, labels in batches]
    assert relative_error(analytic.incremental(mapped, 100.0)[1], model.coef_) < 1e-10
    assert relative_error(analytic.incremental(mapped, 100.0, gain=False)[1], model.coef_) > 1e-2
