"""A broad learner that grew is the one that was made at once."""

import pickle

import numpy as np
import pytest
from reference_path import analytic, broad, checks

from gramian import AnalyticClassifier, BroadLearner, RandomFeatures


def nodes_of(model, X):
    """Its nodes, by the formulas: random features of the rows, and of all mapped nodes there were."""
    mapped, out = np.empty((len(X), 0)), []
    for group in model._groups:
        Z = group.features.transform(mapped[:, : group.sees] if group.sees else X)
        if not group.sees:
            mapped = np.hstack([mapped, Z])
        out.append(Z)
    return np.hstack(out)[:, model._kept]


def assert_is_ridge(model, X, y, ridge=1.0, weight=None, fit_intercept=True, bound=1e-10):
    """Its weights are those of ridge regression on its nodes."""
    _, coef, intercept = analytic.joint_classifier(nodes_of(model, X), y, ridge, weight, fit_intercept)
    found = checks.stacked(model.coef_, model.intercept_)
    assert checks.relative_error(found, checks.stacked(coef, intercept)) <= bound


@pytest.fixture
def data(rng):
    X = rng.normal(size=(300, 5))
    return X, np.digitize(X[:, 0] * X[:, 1], [-0.3, 0.3])


def test_no_enhancement_is_an_extreme_learning_machine(data):
    X, y = data
    broad = BroadLearner(60, 0, random_state=3).fit(X, y)
    seed = broad._groups[0].features.random_state
    machine = AnalyticClassifier(RandomFeatures(60, activation="tanh", bias=0.5, random_state=seed)).fit(X, y)
    np.testing.assert_allclose(broad.coef_, machine.coef_, rtol=0, atol=1e-11)
    np.testing.assert_allclose(broad.decision_function(X), machine.decision_function(X), rtol=0, atol=1e-10)


@pytest.mark.parametrize("fit_intercept", [True, False])
def test_grows_and_shrinks(data, rng, fit_intercept):
    X, y = data
    weight = rng.random(300)
    model = BroadLearner(20, 30, fit_intercept=fit_intercept).fit(X[:200], y[:200], weight[:200])
    assert_is_ridge(model, X[:200], y[:200], 1.0, weight[:200], fit_intercept)
    model.partial_fit(X[200:], y[200:], sample_weight=weight[200:])
    order = rng.permutation(300)
    for step in ({"enhancement": 40}, {"mapped": 7}, {"mapped": 3, "enhancement": 300}):
        model.coef_  # noqa: B018
        model.add_nodes(X[order], y[order], **step, sample_weight=weight[order])
        assert_is_ridge(model, X, y, 1.0, weight, fit_intercept)
    assert model.n_nodes_ == 400
    model.delete_nodes([0, 5, 399, 30])
    assert_is_ridge(model, X, y, 1.0, weight, fit_intercept)
    model.delete_nodes(np.arange(100, 200))
    assert_is_ridge(model, X, y, 1.0, weight, fit_intercept)
    model.add_nodes(X, y, mapped=10, sample_weight=weight)
    assert_is_ridge(model, X, y, 1.0, weight, fit_intercept)
    model.partial_fit(X[:20], y[:20])
    assert model.n_samples_seen_ == 320


@pytest.mark.parametrize("activations", [("tanh", "tanh"), ("relu", "sigmoid")])
def test_nodes_are_those_of_the_formulas(data, activations):
    """Weights and scores from the published construction: random features of rows, and of mapped nodes so far."""
    X, y = data
    first, second = activations
    model = BroadLearner(20, 30, first, second, bias=0.25, random_state=7).fit(X, y)
    groups = [("mapped", 20, first), ("enhancement", 30, second)]
    for added in ({}, {"mapped": 6}, {"enhancement": 9}, {"mapped": 3, "enhancement": 5}):
        model.add_nodes(X, y, **added)
        for kind, activation in (("mapped", first), ("enhancement", second)):
            if kind in added:
                groups.append((kind, added[kind], activation))
        Z = broad.nodes(X, groups, 0.25, 7)
        assert Z.shape == (300, model.n_nodes_)
        np.testing.assert_allclose(nodes_of(model, X), Z, rtol=0, atol=1e-12 * np.abs(Z).max())
        _, coef, intercept = analytic.joint_classifier(Z, y, 1.0)
        found, expected = checks.stacked(model.coef_, model.intercept_), checks.stacked(coef, intercept)
        assert checks.relative_error(found, expected) <= 1e-9
    # Negative control: enhancement nodes that see mapped ones of later are others.
    late = broad.nodes(X, [groups[0], groups[2], groups[1], *groups[3:]], 0.25, 7)
    assert np.abs(np.sort(late[0]) - np.sort(Z[0])).max() > 1e-2


def test_new_classes(data):
    X, y = data
    model = BroadLearner(20, 20).partial_fit(X[y > 0], y[y > 0]).partial_fit(X[y == 0], y[y == 0])
    assert np.array_equal(model.classes_, [0, 1, 2])
    assert_is_ridge(model, X, y)
    texts = np.array(["low", "mid", "high"])[y]
    model = BroadLearner(20, 20).fit(X[:50], texts[:50]).partial_fit(X[50:], texts[50:])
    assert set(model.predict(X)) <= set(texts)
    assert model.score(X, texts) > 0.6


def test_other_rows_are_refused(data):
    X, y = data
    model = BroadLearner(20, 20).fit(X, y)
    before = model.coef_
    for rows, labels in ((X[:-1], y[:-1]), (X + 0.1, y), (X, np.roll(y == 0, 1) * 1)):
        with pytest.raises(ValueError, match="rows that the state is made of"):
            model.add_nodes(rows, labels, mapped=3)
    assert model.coef_ is before
    with pytest.raises(ValueError, match="not learnt"):
        model.add_nodes(X, y + 5, mapped=3)
    for wrong in ([-1], [40], np.arange(40)):
        with pytest.raises(ValueError, match="node"):
            model.delete_nodes(wrong)
    for params in ({"ridge": 0.0}, {"n_mapped": 0}, {"n_enhancement": -1}, {"mapped_activation": "soft"}):
        with pytest.raises(ValueError):
            BroadLearner(**params).fit(X, y)


@pytest.mark.parametrize("known", [int, str, bool])
def test_labels_of_another_kind_are_refused(data, known):
    X, y = data
    y = (y > 0).astype(known)
    model = BroadLearner(20, 20).fit(X, y)
    before, classes = model.coef_, model.classes_
    for labels in (["a"] * 3, [b"a"] * 3, [1, 7, 1], [1.0, 7.0, 1.0], [True, False, True]):
        kind = np.asarray(labels).dtype.kind
        if kind == y.dtype.kind or (known is int and kind == "f"):
            continue
        for weight in (None, np.zeros(3)):
            with pytest.raises(TypeError, match="do not mix"):
                model.partial_fit(X[:3], labels, sample_weight=weight)
        with pytest.raises(TypeError, match="do not mix"):
            model.add_nodes(X[:3], labels, mapped=1)
    assert model.classes_ is classes and model.coef_ is before
    if known is int:
        assert np.array_equal(model.partial_fit(X[:3], [1.0, 7.0, 1.0]).classes_, [0, 1, 7])


@pytest.mark.parametrize("loaded", [False, True])
@pytest.mark.parametrize("label", [0, 7])
def test_a_refused_batch_changes_nothing(data, label, loaded):
    X, y = data
    model = BroadLearner(20, 0, "relu").fit(X, y)
    model = pickle.loads(pickle.dumps(model)) if loaded else model
    before, sums = model.coef_, model.state_.to_bytes()
    for large in (1e200, 1e307):  # the products overflow; already the nodes do
        with np.errstate(over="ignore"):
            bad = large * 10 * X[:3]
        with pytest.raises(ValueError):
            model.partial_fit(bad, [label] * 3)
    assert np.array_equal(model.classes_, [0, 1, 2])
    assert model.coef_ is before and model.state_.to_bytes() == sums
    model.partial_fit(X[:3], [label] * 3)
    assert_is_ridge(model, np.vstack([X, X[:3]]), np.append(y, [label] * 3))


def test_nodes_to_delete(data):
    X, y = data
    mask = np.zeros(40, dtype=bool)
    mask[[3, 17, 39]] = True
    model, places = (BroadLearner(20, 20).fit(X, y) for _ in range(2))
    for wrong, error in (
        ([0.9, 7.9], TypeError),
        (["3"], TypeError),
        (mask[:-1], ValueError),
        (mask[np.newaxis], ValueError),
        ([[1, 2]], ValueError),
        (~np.zeros(40, dtype=bool), ValueError),
    ):
        with pytest.raises(error, match="node"):
            model.delete_nodes(wrong)
    assert model.delete_nodes([]).delete_nodes(np.zeros(40, dtype=bool)).n_nodes_ == 40
    model.delete_nodes(mask.tolist())
    places.delete_nodes(np.array([39, 3, 17, 3], dtype=np.uint8))
    assert model.n_nodes_ == 37
    assert np.array_equal(model.coef_, places.coef_)
    assert_is_ridge(model, X, y)


def test_pickle(data):
    X, y = data
    model = BroadLearner(20, 20).fit(X, y).add_nodes(X, y, enhancement=5)
    copy = pickle.loads(pickle.dumps(model))
    np.testing.assert_allclose(copy.coef_, model.coef_, rtol=0, atol=1e-11)
    copy.add_nodes(X, y, mapped=5)
    assert_is_ridge(copy, X, y)


def test_no_two_groups_share_a_stream(data):
    X, y = data
    seeds = []
    for seed in (0, 1, 2, 3, 2**64 - 1):
        model = BroadLearner(3, 3, random_state=seed).fit(X, y).add_nodes(X, y, mapped=3, enhancement=3)
        kinds = ["mapped", "enhancement"] * 2
        for place, (group, kind) in enumerate(zip(model._groups, kinds, strict=True)):
            assert group.features.random_state == broad.group_seed(seed, kind, place)
            seeds.append(group.features.random_state)
    assert len(set(seeds)) == 20


@pytest.mark.parametrize("texts", [False, True])
def test_rows_of_weight_zero_are_as_if_not_there(data, texts):
    X, y = data
    y = np.array(["low", "mid", "tall"])[y] if texts else y
    labels = np.unique(y)
    for out in labels:
        there = y != out
        plain = BroadLearner(20, 20).fit(X[there], y[there])
        model = BroadLearner(20, 20).fit(X, y, sample_weight=there.astype(float))
        pairs = BroadLearner(20, 20).partial_fit(X[:150], y[:150], sample_weight=there[:150].astype(float))
        pairs.partial_fit(X[150:], y[150:], sample_weight=there[150:].astype(float))
        other = AnalyticClassifier().fit(X, y, sample_weight=there.astype(float))
        for found in (model, pairs):
            assert np.array_equal(found.classes_, other.classes_)
            assert np.array_equal(found.classes_, plain.classes_)
            assert found.n_samples_seen_ == plain.n_samples_seen_ == there.sum()
            np.testing.assert_allclose(found.coef_, plain.coef_, rtol=0, atol=1e-10)
        model.add_nodes(X, y, enhancement=5, sample_weight=there.astype(float))
        plain.add_nodes(X[there], y[there], enhancement=5)
        np.testing.assert_allclose(model.coef_, plain.coef_, rtol=0, atol=1e-10)
        before = model.coef_
        model.partial_fit(X[~there], y[~there], sample_weight=np.zeros((~there).sum()))
        np.testing.assert_allclose(model.coef_, before, rtol=0, atol=1e-10)
        assert np.array_equal(model.classes_, plain.classes_)
        # The class comes with its first row of positive weight.
        assert np.array_equal(model.partial_fit(X[~there], y[~there]).classes_, labels)
