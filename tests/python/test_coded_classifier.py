"""Classifiers on target codes against one-hot ridge regression and against fits on all rows at once."""

import pickle

import numpy as np
import pytest
from oracle import one_hot, relative_error, ridge_weights

import gramian as gm
from gramian import AnalyticClassifier, CodedClassifier


@pytest.fixture
def data(rng):
    X = rng.normal(size=(400, 8)) + 2.0
    y = np.argmax(X[:, :6] + 0.5 * rng.normal(size=(400, 6)), axis=1)
    return X, y


CODES = {
    "simplex": lambda: CodedClassifier(ridge=0.5),
    "wide simplex": lambda: CodedClassifier(code_dim=11, ridge=0.5),
    "equiangular": lambda: CodedClassifier("equiangular", 4, ridge=0.5),
    "random": lambda: CodedClassifier("random", 16, ridge=0.5),
    "one_hot": lambda: CodedClassifier("one_hot", ridge=0.5),
    "array": lambda: CodedClassifier(np.eye(9)[:, ::-1], ridge=0.5),
}


@pytest.mark.parametrize("name", CODES)
@pytest.mark.parametrize("fit_intercept", [True, False])
def test_weights_are_those_of_one_hot_times_the_code(data, name, fit_intercept):
    X, y = data
    model = CODES[name]().set_params(fit_intercept=fit_intercept).fit(X, y)
    coef, intercept = ridge_weights(X, one_hot(y, np.arange(6)), 0.5, fit_intercept=fit_intercept)
    assert relative_error(model.coef_, model.class_codes_.T @ coef) <= 1e-12
    assert np.abs(model.intercept_ - model.class_codes_.T @ intercept).max() <= 1e-12
    scores = (X @ coef.T + intercept) @ model.class_codes_ @ model.class_codes_.T
    np.testing.assert_allclose(model.decision_function(X), scores, rtol=0, atol=1e-11)
    assert np.array_equal(model.predict(X), np.argmax(scores, axis=1))


@pytest.mark.parametrize("code_dim", [None, 5, 40])
def test_simplex_is_neutral(data, code_dim):
    X, y = data
    plain = AnalyticClassifier(ridge=0.5).fit(X, y)
    assert np.array_equal(CodedClassifier(code_dim=code_dim, ridge=0.5).fit(X, y).predict(X), plain.predict(X))
    # Negative control: cross-talk in few dimensions changes predictions.
    narrow = CodedClassifier("equiangular", 2, ridge=0.5).fit(X, y)
    assert (narrow.predict(X) != plain.predict(X)).any()


def test_more_columns_are_better(rng):
    centres = rng.normal(size=(40, 60))
    y = rng.integers(0, 40, size=4000)
    X = centres[y] + 1.2 * rng.normal(size=(4000, 60))
    scores = [
        CodedClassifier("equiangular", m).fit(X[:3000], y[:3000]).score(X[3000:], y[3000:]) for m in (3, 8, 20, 39)
    ]
    assert all(later > earlier - 0.02 for earlier, later in zip(scores[:-1], scores[1:], strict=True)), scores
    assert scores[-1] > scores[0] + 0.1
    plain = AnalyticClassifier().fit(X[:3000], y[:3000]).score(X[3000:], y[3000:])
    assert scores[-1] == pytest.approx(plain, abs=1e-12)  # 40 codes in 39 dimensions are a simplex


@pytest.mark.parametrize("name", ["wide simplex", "equiangular", "random", "array"])
def test_classes_that_come_later(data, name):
    X, y = data
    model = CODES[name]()
    order = np.argsort(y, kind="stable")
    seen = {}
    for rows in np.array_split(order, 7):
        model.partial_fit(X[rows], y[rows])
        for label, code in zip(model.classes_, model.class_codes_, strict=True):
            assert np.array_equal(seen.setdefault(label, code), code)
    coef, intercept = ridge_weights(X, model.class_codes_[y], 0.5)
    assert relative_error(model.coef_, coef) <= 1e-10
    assert np.abs(model.intercept_ - intercept).max() <= 1e-10
    assert np.array_equal(model.class_count_, np.bincount(y))


def test_no_room(data):
    X, y = data
    model = CodedClassifier().partial_fit(X[y < 2], y[y < 2])
    before = model.coef_
    with pytest.raises(ValueError, match="simplex code of 2 codes has no room for 6"):
        model.partial_fit(X, y)
    assert np.array_equal(model.coef_, before) and list(model.classes_) == [0, 1]
    model = CodedClassifier().partial_fit(X[y < 2], y[y < 2], classes=range(6)).partial_fit(X[y >= 2], y[y >= 2])
    assert np.array_equal(model.predict(X), AnalyticClassifier().fit(X, y).predict(X))
    with pytest.raises(ValueError, match="not in classes"):
        model.partial_fit(X[:1], [17])


def test_forget(data):
    X, y = data
    gone = y == 3
    model = CodedClassifier("random", 7, ridge=0.5).fit(X, y)
    code = model.class_codes_[3]
    model.forget(X[gone], y[gone])
    assert list(model.classes_) == [0, 1, 2, 4, 5]
    coef, _ = ridge_weights(X[~gone], model.code_.vectors[y[~gone]], 0.5)
    assert relative_error(model.coef_, coef) <= 1e-10
    assert 3 not in model.predict(X)
    for label, text in ((3, r"holds 0"), (77, r"holds 0")):
        with pytest.raises(ValueError, match=text):
            model.forget(X[:1], [label])
    model.partial_fit(X[gone], y[gone])
    assert np.array_equal(model.class_codes_[3], code)
    model.forget(X, y)
    assert model.n_samples_seen_ == 0 and model.classes_.shape == (0,)


def test_weights_of_rows(data, rng):
    X, y = data
    weight = rng.integers(0, 3, size=400)
    model = CodedClassifier("random", 7).fit(X, y, sample_weight=weight)
    again = CodedClassifier("random", 7).fit(np.repeat(X, weight, axis=0), np.repeat(y, weight))
    assert relative_error(model.coef_, again.coef_) <= 1e-10
    assert np.array_equal(model.class_count_, np.bincount(y[weight > 0]))
    # Rows of weight zero bring no class.
    model.partial_fit(X[:2], [50, 51], sample_weight=[0, 1])
    assert list(model.classes_[-2:]) == [5, 51]


def test_merge(data):
    X, y = data
    parts = [CodedClassifier(ridge=0.5).partial_fit(X[rows], y[rows], classes=np.arange(6)) for rows in (y < 2, y >= 2)]
    total = CodedClassifier(ridge=0.5)
    for part in parts:
        total.merge(part)
    whole = CodedClassifier(ridge=0.5).fit(X, y)
    assert relative_error(total.coef_, whole.coef_) <= 1e-10
    assert np.array_equal(total.class_count_, whole.class_count_)
    total.unmerge(parts[0])
    assert list(total.classes_) == [2, 3, 4, 5]
    assert relative_error(total.coef_, parts[1].coef_) <= 1e-10
    with pytest.raises(ValueError, match="more rows of class 0"):
        total.unmerge(parts[0])
    # Without the classes, the same code has gone to different labels.
    one, other = (CodedClassifier("random", 9).fit(X[rows], y[rows]) for rows in (y < 2, y >= 2))
    with pytest.raises(ValueError, match="declare the same classes"):
        one.merge(other)
    with pytest.raises(ValueError, match="different codes"):
        one.merge(CodedClassifier("random", 9, random_state=1).fit(X, y))
    with pytest.raises(ValueError, match="cannot have become"):
        CodedClassifier("equiangular", 9).merge(one)
    longer = CodedClassifier("random", 9).fit(X, y)
    one.merge(longer)
    assert np.array_equal(one.class_count_, np.bincount(y) + np.bincount(y[y < 2], minlength=6))


@pytest.mark.parametrize("name", CODES)
def test_round_trips(data, name, tmp_path):
    X, y = data
    model = CODES[name]().fit(X, np.array(["a", "b", "c", "d", "e", "ff"])[y])
    for what in ("full", "weights"):
        model.save(tmp_path / "model", what=what)
        read = gm.load(tmp_path / "model")
        assert isinstance(read, CodedClassifier)
        assert read.code_ == model.code_
        assert np.array_equal(read.predict(X), model.predict(X))
        assert np.array_equal(read.classes_, model.classes_) and read.classes_.dtype == model.classes_.dtype
        np.testing.assert_array_equal(read.decision_function(X), model.decision_function(X))
    copy = pickle.loads(pickle.dumps(model)).partial_fit(X, np.repeat("a", 400))
    assert copy.class_count_[0] == model.class_count_[0] + 400
    with pytest.raises(NotImplementedError, match="weights only"):
        read.partial_fit(X, np.repeat("a", 400))


@pytest.mark.parametrize("kind", [np.array([True, False]), np.array([3.0, -1.0]), np.array([b"x", b"\xff"])])
def test_kinds_of_labels(rng, tmp_path, kind):
    X = rng.normal(size=(40, 3))
    y = kind[(X[:, 0] > 0).astype(int)]
    model = CodedClassifier().fit(X, y)
    model.save(tmp_path / "model")
    read = gm.load(tmp_path / "model")
    for one in (model, read):
        assert np.array_equal(one.predict(X), AnalyticClassifier().fit(X, y).predict(X))
    with pytest.raises((TypeError, ValueError)):
        model.partial_fit(X[:1], ["other"])


def test_probabilities(data):
    X, y = data
    model = CodedClassifier("random", 7).fit(X, y)
    P = model.predict_proba(X)
    scores = model.decision_function(X) / model.temperature_
    expected = np.exp(scores - scores.max(axis=1, keepdims=True))
    np.testing.assert_allclose(P, expected / expected.sum(axis=1, keepdims=True), rtol=1e-12, atol=1e-300)
    residual = model.code_.vectors[y] - model.predict_codes(X)
    penalty = (model.coef_**2).sum()
    assert model.temperature_ == pytest.approx(((residual**2).sum() + penalty) / residual.size, rel=1e-9)


def test_bad_parameters(data):
    X, y = data
    for model, text in (
        (CodedClassifier("best"), "code must be one of"),
        (CodedClassifier("random"), "needs code_dim"),
        (CodedClassifier("random", 1), "at least 2"),
        (CodedClassifier(np.ones((6, 2))), "unit vectors"),
        (CodedClassifier(np.eye(6), 5), "code_dim=5"),
        (CodedClassifier(np.eye(4)), "no room for 6"),
        (CodedClassifier(code_dim=3), "no room for 6"),
    ):
        with pytest.raises(ValueError, match=text):
            model.fit(X, y)
    with pytest.raises(ValueError, match="one label per row"):
        CodedClassifier().fit(X, np.eye(6)[y])
    model = CodedClassifier("random", 4).fit(X, y)
    before = model.coef_
    broken = X[:5].copy()
    broken[3, 1] = np.nan
    with pytest.raises(ValueError, match="row 3"):
        model.partial_fit(broken, [9, 9, 9, 9, 9])
    assert np.array_equal(model.coef_, before) and len(model.classes_) == 6


def test_a_call_that_fails_part_way_counts_what_is_in(data):
    X, y = np.tile(data[0], (50, 1)), np.tile(data[1], 50)
    X[-1, 0] = np.inf
    model = CodedClassifier("random", 4)
    with pytest.raises(ValueError, match="row 19999"):
        model.partial_fit(X, y, atomic=False)
    inside = model.n_samples_seen_
    assert 0 < inside < 20000
    assert np.array_equal(model.class_count_, np.bincount(y[:inside]))
    model.forget(X[:inside], y[:inside])
    assert model.n_samples_seen_ == 0


@pytest.mark.parametrize("kind", ["equiangular", "random"])
def test_arrival_decides_who_has_which_code(rng, kind):
    X = rng.normal(size=(600, 10))
    y = np.argmax(X @ rng.normal(size=(10, 20)), axis=1)
    batches = [np.flatnonzero(y == label) for label in range(19, -1, -1)]  # the other way round

    def streamed(order, classes=None):
        model = CodedClassifier(kind, 6, ridge=0.5)
        for rows in order:
            model.partial_fit(X[rows], y[rows], classes=classes)
        return model

    once, late = CodedClassifier(kind, 6, ridge=0.5).fit(X, y), streamed(batches)
    assert not np.array_equal(once.class_codes_, late.class_codes_)
    assert (once.predict(X) != late.predict(X)).any()
    labels = np.arange(20)
    first, last = streamed(batches, labels), streamed(np.array_split(rng.permutation(600), 7), labels)
    assert np.array_equal(first.class_codes_, last.class_codes_)
    assert relative_error(first.coef_, last.coef_) <= 1e-10
    assert np.array_equal(first.predict(X), last.predict(X))
    assert relative_error(first.coef_, once.coef_) <= 1e-10


def test_labels_of_another_kind_after_all_rows_are_forgotten(data):
    X, y = data
    text = np.array(list("uvwxyz"))[y]
    model, plain = CodedClassifier().fit(X, y), AnalyticClassifier().fit(X, y)
    with pytest.raises(TypeError, match="kind"):
        model.partial_fit(X, text)  # while there are rows
    for each in (model, plain):
        each.forget(X, y).partial_fit(X, text)
    assert list(model.classes_) == list("uvwxyz")
    assert np.array_equal(model.predict(X), plain.predict(X))
    assert relative_error(model.coef_, CodedClassifier().fit(X, text).coef_) <= 1e-9
    assert np.array_equal(pickle.loads(pickle.dumps(model)).predict(X), model.predict(X))


def test_ridges_chosen_by_rows_are_refused_by_name(data):
    X, y = data
    for ridge in ("loo", "holdout"):
        for learn in (CodedClassifier(ridge=ridge).fit, CodedClassifier(ridge=ridge).partial_fit):
            with pytest.raises(ValueError, match=f"ridge='{ridge}' is not for target codes; ridge='gcv' chooses"):
                learn(X, y)
