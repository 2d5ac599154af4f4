"""Labels of every kind, in any order of arrival; classes that come and go; several labels a row."""

import pickle

import numpy as np
import pytest
from oracle import one_hot, relative_error, ridge_weights
from reference_path import analytic

import gramian
from gramian import AnalyticClassifier, AnalyticRegressor, _labels


@pytest.fixture
def X(rng):
    return rng.normal(size=(60, 4))


CODES = np.arange(60) % 3
LABELS = {
    "bool": CODES > 0,
    "int8": CODES.astype(np.int8),
    "uint16": CODES.astype(np.uint16),
    "int64": CODES * 10**12 - 5,
    "float64": CODES * 2.0 - 1.0,
    "float32": CODES.astype(np.float32),
    "text": np.array(["beta", "alpha", "gamma"])[CODES],
    "unicode": np.array(["été", "zwölf", "日本"])[CODES],
    "bytes": np.array([b"b", b"a", b"\xff"])[CODES],
    "objects of text": np.array(["beta", "alpha", "gamma"], dtype=object)[CODES],
    "objects of int": np.array([3, 1, 2], dtype=object)[CODES],
    "objects of bytes": np.array([b"b", b"a", b"c"], dtype=object)[CODES],
    "objects of bool": np.array([True, False, True], dtype=object)[CODES],
    "list": ["beta" if code else "alpha" for code in CODES],
}


@pytest.mark.parametrize("kind", LABELS)
def test_kinds(X, kind):
    y = LABELS[kind]
    expected = np.unique(y)
    model = AnalyticClassifier(ridge=0.3)
    for rows in (slice(0, 1), slice(1, 20), slice(20, 60)):
        model.partial_fit(X[rows], y[rows])
    assert model.classes_.dtype == expected.dtype
    assert np.array_equal(model.classes_, expected)
    assert model.predict(X).dtype == expected.dtype
    assert np.array_equal(model.class_count_, np.unique(y, return_counts=True)[1])
    coef = ridge_weights(X, one_hot(y, expected), 0.3)[0]
    coef = coef[1:] - coef[:1] if len(expected) == 2 else coef
    assert relative_error(model.coef_, coef) < 1e-10
    assert model.score(X, y) == np.mean(model.predict(X) == np.asarray(y))
    assert model.forget(X, y).classes_.shape == (0,)


def test_scores_follow_the_sorted_classes_whatever_the_order(X):
    y = np.array(["c", "a", "b"])[CODES]
    expected = AnalyticClassifier().fit(X, y)
    for order in ("abc", "cab", "bca"):
        model = AnalyticClassifier()
        for label in order:
            model.partial_fit(X[y == label], y[y == label])
        assert list(model.classes_) == ["a", "b", "c"]
        np.testing.assert_allclose(model.decision_function(X), expected.decision_function(X), rtol=1e-9, atol=1e-11)
        assert np.array_equal(model.predict(X), expected.predict(X))


def test_one_class_then_two_then_three(X):
    model = AnalyticClassifier().partial_fit(X[:5], [7] * 5)
    assert np.array_equal(model.predict(X), [7] * 60)
    assert model.decision_function(X).shape == (60, 1)
    assert model.predict_proba(X).shape == (60, 1)
    model.partial_fit(X[5:9], [8] * 4)
    assert model.coef_.shape == (1, 4)
    scores = model.decision_function(X)
    assert scores.shape == (60,)
    assert np.array_equal(model.predict(X), np.where(scores > 0, 8, 7))
    model.partial_fit(X[9:12], [-1] * 3)
    assert list(model.classes_) == [-1, 7, 8]
    assert model.coef_.shape == (3, 4)
    assert list(model.class_count_) == [3, 5, 4]


def test_a_forgotten_class_leaves(X):
    y = CODES
    model = AnalyticClassifier().fit(X, y).forget(X[y == 1], y[y == 1])
    assert list(model.classes_) == [0, 2]
    expected = AnalyticClassifier().fit(X[y != 1], y[y != 1])
    assert relative_error(model.coef_, expected.coef_) < 1e-10
    for bad in ([1], [9]):
        with pytest.raises(ValueError, match="never saw"):
            model.forget(X[:1], bad)
    with pytest.raises(ValueError, match="holds 20"):
        model.forget(np.vstack([X[y == 0]] * 2), [0] * 40)
    assert model.n_samples_seen_ == 40


def test_wider_labels_later(X):
    model = AnalyticClassifier().partial_fit(X[:20], CODES[:20].astype(np.int8))
    assert model.classes_.dtype == np.int8
    model.partial_fit(X[:1], [1000])
    assert list(model.classes_) == [0, 1, 2, 1000]
    texts = AnalyticClassifier().partial_fit(X[:2], ["a", "b"]).partial_fit(X[:1], ["longer"])
    assert list(texts.classes_) == ["a", "b", "longer"]


def test_whole_numbers_are_the_same_label_as_int_and_float(X):
    model = AnalyticClassifier().partial_fit(X, CODES).partial_fit(X, CODES.astype(np.float64))
    assert model.classes_.dtype == np.int64
    assert list(model.class_count_) == [40, 40, 40]


def test_labels_that_are_refused(X):
    model = AnalyticClassifier().fit(X, CODES)
    with pytest.raises(TypeError, match="text.*integer|integer.*text"):
        model.partial_fit(X, np.array(["a", "b", "c"])[CODES])
    with pytest.raises(ValueError, match="Unknown label type: continuous"):
        model.partial_fit(X, X[:, 0])
    with pytest.raises(TypeError, match="labels of different kinds"):
        model.partial_fit(X[:2], np.array(["a", b"b"], dtype=object))
    with pytest.raises(TypeError, match="labels must be bool, int, float, str or bytes"):
        model.partial_fit(X[:2], np.array([None, "b"], dtype=object))
    with pytest.raises(ValueError, match="multiclass-multioutput"):
        model.partial_fit(X, np.stack([CODES, CODES], axis=1))
    with pytest.raises(ValueError, match=r"below 2\*\*63"):
        model.partial_fit(X[:2], np.array([1, 2**63], dtype=np.uint64))
    with pytest.raises(ValueError, match="y is None"):
        model.partial_fit(X, None)
    assert list(model.class_count_) == [20, 20, 20]


@pytest.mark.parametrize(
    "label, message",
    [
        (np.nan, r"real \(first in row 33\), text \(first in row 0\)"),
        (b"a", r"bytes \(first in row 33\), text \(first in row 0\)"),
        (None, "got None of type NoneType, in row 33"),
        ((1, 2), r"got \(1, 2\) of type tuple, in row 33"),
    ],
)
def test_labels_that_are_none_name_the_row(X, label, message):
    y = np.array(["a", "b", "c"], dtype=object)[CODES]
    model = AnalyticClassifier().fit(X, y)
    y[33] = label
    with pytest.raises(TypeError, match=message):
        model.partial_fit(X, y)
    assert model.n_samples_seen_ == 60


def test_declared_classes(X):
    model = AnalyticClassifier().partial_fit(X[:5], [0, 1, 0, 1, 0], classes=[0, 1, 2])
    assert list(model.classes_) == [0, 1]
    model.partial_fit(X[:2], [2, 2], classes=[2, 1, 0])
    with pytest.raises(ValueError, match=r"not in classes: \[3\]"):
        model.partial_fit(X[:1], [3])
    with pytest.raises(ValueError, match="not the same as on last call"):
        model.partial_fit(X[:1], [0], classes=[0, 1])
    assert model.n_samples_seen_ == 7
    with pytest.raises(ValueError, match="not in classes"):
        AnalyticClassifier().partial_fit(X[:1], ["x"], classes=["a", "b"])


def test_column_vector_warns(X):
    sklearn = pytest.importorskip("sklearn.exceptions", reason="scikit-learn is not installed")
    with pytest.warns(sklearn.DataConversionWarning, match="A column-vector y was passed"):
        AnalyticClassifier().fit(X, CODES[:, np.newaxis])


@pytest.mark.parametrize("as_dtype", [np.int64, np.float32, bool, object])
def test_multi_label(X, rng, as_dtype):
    Y = (X[:, :3] + 0.3 * rng.normal(size=(60, 3)) > 0).astype(as_dtype)
    model = AnalyticClassifier(ridge=0.3)
    for rows in (slice(0, 10), slice(10, 60)):
        model.partial_fit(X[rows], Y[rows])
    coef, intercept = ridge_weights(X, Y.astype(np.float64), 0.3)
    assert relative_error(model.coef_, coef) < 1e-10
    scores = model.decision_function(X)
    np.testing.assert_allclose(scores, X @ model.coef_.T + model.intercept_, rtol=1e-9, atol=1e-11)
    np.testing.assert_allclose(scores, X @ coef.T + intercept - 0.5, rtol=1e-9, atol=1e-11)
    assert np.array_equal(model.predict(X), (scores > 0).astype(int))
    assert np.array_equal(model.predict_proba(X) > 0.5, scores > 0)
    assert list(model.classes_) == [0, 1, 2]
    assert model.score(X, Y) > 0.4
    assert (
        relative_error(model.forget(X[:9], Y[:9]).coef_, ridge_weights(X[9:], Y[9:].astype(np.float64), 0.3)[0]) < 1e-9
    )
    with pytest.raises(ValueError, match="multi-label"):
        model.partial_fit(X, CODES)
    with pytest.raises(ValueError, match="2 labels, but the model has 3"):
        model.partial_fit(X, Y[:, :2])
    with pytest.raises(ValueError, match="no temperature"):
        model.calibrate(X, Y)
    with pytest.raises(ValueError, match="class_weight"):
        AnalyticClassifier(class_weight={0: 2.0}).fit(X, Y)
    assert not hasattr(model, "class_count_")


BAD_INDICATORS = {
    "NaN": (np.nan, np.float64, r"Input y contains NaN, first in row 37\."),
    "infinity": (-np.inf, np.float32, r"Input y contains infinity .*, first in row 37\."),
    "a two": (2, np.int64, r"multiclass-multioutput.* row 37 has 2 in column 1\."),
    "a half": (0.5, np.float64, r"multiclass-multioutput.* row 37 has 0\.5 in column 1\."),
    "None": (None, object, r"multiclass-multioutput.* row 37 has None in column 1\."),
    "NaN among objects": (np.nan, object, r"multiclass-multioutput.* row 37 has nan in column 1\."),
    "text among objects": ("x", object, r"multiclass-multioutput.* row 37 has 'x' in column 1\."),
}


@pytest.mark.parametrize("verb", ["fit", "partial_fit", "forget"])
@pytest.mark.parametrize("value", BAD_INDICATORS)
def test_bad_indicators_name_the_row(X, value, verb):
    wrong, dtype, message = BAD_INDICATORS[value]
    Y = np.zeros((60, 3), dtype=np.int64)
    Y[:, 0] = 1
    model = AnalyticClassifier().fit(X, Y)
    before = model.coef_.tobytes()
    Y = Y.astype(dtype)
    Y[37, 1] = wrong
    with pytest.raises(ValueError, match=message):
        getattr(model, verb)(X, Y)
    assert model.coef_.tobytes() == before and model.n_samples_seen_ == 60


@pytest.mark.parametrize("names", [["sun", "ant", "moon"], [5, -1, 3], [b"b", b"a", b"c"], [2.0, 1.0, 7.0]])
def test_columns_of_an_indicator_have_the_names_given(X, names, tmp_path):
    Y = np.eye(3, dtype=int)[CODES]
    model = AnalyticClassifier().partial_fit(X[:20], Y[:20], classes=names).partial_fit(X[20:], Y[20:])
    plain = AnalyticClassifier().partial_fit(X[:20], Y[:20]).partial_fit(X[20:], Y[20:])
    assert np.array_equal(plain.classes_, [0, 1, 2])
    model.save(tmp_path / "m")
    same = AnalyticClassifier().merge(model)
    named_late = AnalyticClassifier().fit(X, Y).partial_fit(X, Y, classes=names)
    for found in (model, gramian.load(tmp_path / "m"), pickle.loads(pickle.dumps(model)), same, named_late):
        assert found.classes_.tolist() == names  # in the order of the columns, not sorted
        with pytest.raises(ValueError, match="not the same as on last call"):
            found.partial_fit(X, Y, classes=names[::-1])
    assert np.array_equal(model.predict(X), plain.predict(X))
    assert model.coef_.tobytes() == plain.coef_.tobytes()
    plain.merge(model)
    assert plain.classes_.tolist() == names
    other = AnalyticClassifier().partial_fit(X, Y, classes=names[::-1])
    for verb in ("merge", "unmerge"):
        with pytest.raises(ValueError, match="labels of the other model are"):
            getattr(model, verb)(other)
    assert model.n_samples_seen_ == 60


@pytest.mark.parametrize("dtype", ["m8[s]", "M8[s]", "U1", "S1", "V4"])
def test_indicators_of_a_dtype_that_is_no_number(X, dtype):
    with pytest.raises(ValueError, match="multiclass-multioutput, of dtype"):
        AnalyticClassifier().fit(X, np.zeros((60, 2), dtype=int).astype(dtype))


def test_names_that_do_not_fit_the_columns(X):
    Y = np.eye(3, dtype=int)[CODES]
    model = AnalyticClassifier()
    for names, message in (
        (["a", "b"], "classes has 2 labels, but y has 3 columns"),
        (["a", "b", "a"], "names two columns of y 'a'"),
        ([["a", "b", "c"]], "one dimension"),
        ([0.5, 1, 2], "continuous"),
        (3, "one dimension"),
    ):
        with pytest.raises(ValueError, match=message):
            model.partial_fit(X, Y, classes=names)
    assert not hasattr(model, "classes_")
    model.partial_fit(X, Y, classes=["a", "b", "c"])
    with pytest.raises(ValueError, match="the model holds multi-label targets, y has one label per row"):
        model.partial_fit(X, CODES)


def test_class_weight(X, rng):
    y = np.where(np.arange(60) < 50, "many", "few")
    weight = rng.random(60)
    factors = {"few": 4.0, "many": 0.5}
    model = AnalyticClassifier(ridge=0.3, class_weight=factors).fit(X, y, sample_weight=weight)
    total = weight * np.where(y == "few", 4.0, 0.5)
    coef = ridge_weights(X, one_hot(y, ["few", "many"]), 0.3, total)[0]
    assert relative_error(model.coef_, coef[1:] - coef[:1]) < 1e-10
    parts = AnalyticClassifier(ridge=0.3, class_weight=factors)
    parts.partial_fit(X[:55], y[:55], sample_weight=weight[:55]).partial_fit(X[55:], y[55:], sample_weight=weight[55:])
    assert relative_error(parts.coef_, model.coef_) < 1e-10
    parts.forget(X[55:], y[55:], sample_weight=weight[55:])
    expected = AnalyticClassifier(ridge=0.3, class_weight=factors).fit(X[:55], y[:55], sample_weight=weight[:55])
    assert relative_error(parts.coef_, expected.coef_) < 1e-9


def test_balanced_class_weight(X):
    y = np.where(np.arange(60) < 50, "many", "few")
    model = AnalyticClassifier(ridge=0.3, class_weight="balanced").fit(X, y)
    coef = ridge_weights(X, one_hot(y, ["few", "many"]), 0.3, np.where(y == "few", 60 / 20, 60 / 100))[0]
    assert relative_error(model.coef_, coef[1:] - coef[:1]) < 1e-10
    stream = AnalyticClassifier(ridge=0.3, class_weight="balanced").partial_fit(X[:20], y[:20])
    assert relative_error(stream.partial_fit(X[20:], y[20:]).coef_, model.coef_) < 1e-10
    with pytest.raises(ValueError, match="cannot be forgotten"):
        model.forget(X[:1], y[:1])
    with pytest.raises(ValueError, match="class_weight must be"):
        AnalyticClassifier(class_weight="even").fit(X, y)


def test_classes_of_weight_zero_are_not_there(X):
    weight = np.where(CODES == 1, 0.0, 1.0)
    model = AnalyticClassifier().fit(X, CODES, sample_weight=weight)
    assert list(model.classes_) == [0, 2]


def test_probabilities(X, rng):
    y = np.argmax(X[:, :3] + rng.normal(size=(60, 3)), axis=1)
    model = AnalyticClassifier().fit(X, y)
    scores, found = model.decision_function(X), model.predict_proba(X)
    np.testing.assert_allclose(found.sum(axis=1), 1.0)
    expected = np.exp(scores / model.temperature_)
    np.testing.assert_allclose(found, expected / expected.sum(axis=1, keepdims=True), rtol=1e-9)
    before = model.temperature_
    assert before == pytest.approx(analytic.noise_variance(X, one_hot(y, model.classes_), 1.0), rel=1e-10)
    other = rng.normal(size=(300, 4))
    truth = np.argmax(other[:, :3] + rng.normal(size=(300, 3)), axis=1)

    def loss():
        return -np.log(model.predict_proba(other)[np.arange(300), truth]).mean()

    uncalibrated = loss()
    model.calibrate(other, truth)
    assert model.temperature_ != before
    # The loss is flat at its minimum: half of the digits of a double, and some.
    best = analytic.best_temperature(model.decision_function(other), truth)
    assert model.temperature_ == pytest.approx(best, rel=1e-5)
    assert loss() <= uncalibrated
    assert np.array_equal(model.decision_function(X), scores)
    with pytest.raises(ValueError):
        model.calibrate(other[:1], [9])


def test_an_emptied_model_takes_the_labels_of_what_comes_next(X):
    for empty in (
        AnalyticClassifier().fit(X, CODES.astype(np.int8)).forget(X, CODES),
        AnalyticClassifier().partial_fit(X, CODES.astype(np.int8), sample_weight=np.zeros(60)),
    ):
        assert empty.partial_fit(X, CODES).classes_.dtype == np.int64
        empty.forget(X, CODES).partial_fit(X, CODES.astype(object))
        assert empty.predict(X).dtype == object
        empty.forget(X, CODES).partial_fit(X, CODES.astype(str))
        assert list(empty.classes_) == ["0", "1", "2"]


@pytest.mark.parametrize("dtype", [np.float16, np.float32])
def test_wider_floats_later(X, dtype):
    model = AnalyticClassifier().partial_fit(X, CODES.astype(dtype)).partial_fit(X[:1], [2.0**24 + 1])
    assert model.classes_.dtype == np.float64
    assert list(model.classes_) == [0, 1, 2, 2**24 + 1]
    assert AnalyticClassifier().partial_fit(X, CODES.astype(dtype)).classes_.dtype == dtype


def test_numbers_that_are_not_the_same_as_int_and_float(X):
    floats = AnalyticClassifier().fit(X, CODES.astype(float))
    with pytest.raises(ValueError, match="9007199254740993 is not the same number as float64"):
        floats.partial_fit(X[:1], [2**53 + 1])
    assert floats.partial_fit(X[:1], [2**53]).classes_[-1] == 2**53
    with pytest.raises(ValueError, match="does not fit in int64"):
        AnalyticClassifier().fit(X, CODES).partial_fit(X[:1], [2.0**63])
    with pytest.raises(ValueError, match=r"^label 1e\+300 does not fit in int64"):
        AnalyticClassifier().fit(X, CODES).partial_fit(X[:1], [1e300])
    if np.finfo(np.longdouble).nmant > 52:
        with pytest.raises(ValueError, match="not the same number as float64"):
            AnalyticClassifier().fit(X[:2], np.array([2**53 + 1, 2**53], dtype=np.longdouble))
    with pytest.raises(ValueError, match="not the same number as float64"):
        AnalyticClassifier().fit(X[:2], np.array([2**53 + 1, 1.0], dtype=object))


def test_longdouble_labels(X, tmp_path):
    y = CODES.astype(np.longdouble)
    model = AnalyticClassifier().partial_fit(X, y, classes=np.unique(y))
    model.save(tmp_path / "model.gramian")
    for found in (model, gramian.load(tmp_path / "model.gramian").partial_fit(X, y)):
        assert found.classes_.dtype == np.float64
        assert found.score(X, y) == np.mean(found.predict(X) == CODES)


def test_labels_that_no_file_can_hold(X):
    with pytest.raises(ValueError, match="surrogate"):
        AnalyticClassifier().fit(X[:2], ["a", "\udc80"])
    for large in (2**70, -(2**70)):
        with pytest.raises(ValueError, match=r"below 2\*\*63"):
            AnalyticClassifier().fit(X[:2], np.array([large, 1], dtype=object))
    with pytest.raises(ValueError, match=r"below 2\*\*63"):
        AnalyticClassifier().fit(X[:2], np.array([10**400, 1.0], dtype=object))


def test_declared_classes_must_hold_those_of_the_model(X):
    model = AnalyticClassifier().partial_fit(X, CODES)
    with pytest.raises(ValueError, match=r"lacks labels that the model has already: \[2\]"):
        model.partial_fit(X[:1], [0], classes=[0, 1])
    model.partial_fit(X[:1], [0], classes=[0.0, 1.0, 2.0, 3.0]).partial_fit(X[:1], [3])
    with pytest.raises(ValueError, match="not in classes"):
        AnalyticClassifier().partial_fit(X[:1], ["1"], classes=[1, 2])
    with pytest.raises(ValueError, match="one dimension"):
        AnalyticClassifier().partial_fit(X[:1], [1], classes=[[1, 2]])


def test_class_weight_of_a_fitted_model_stays(X):
    model = AnalyticClassifier(class_weight={0: 5.0}).partial_fit(X, CODES).set_params(class_weight=None)
    same = AnalyticClassifier(class_weight={0: 5.0}).partial_fit(X, CODES).partial_fit(X, CODES)
    assert np.array_equal(model.partial_fit(X, CODES).coef_, same.coef_)


def test_class_weight_that_is_refused(X):
    with pytest.raises(ValueError, match="weights of all rows zero"):
        AnalyticClassifier(class_weight={0: 0.0, 1: 0.0, 2: 0.0}).fit(X, CODES)
    for value in (None, "2", -1.0):
        with pytest.raises(ValueError, match=r"class_weight\[7\]"):
            AnalyticClassifier(class_weight={7: value}).fit(X, CODES)
    with pytest.raises(TypeError, match="labels must be"):
        AnalyticClassifier(class_weight={(1, 2): 1.0}).fit(X, CODES)


def test_multi_label_probabilities_of_a_perfect_fit(X):
    Y = np.tile([0, 1], (60, 1))
    found = AnalyticClassifier().fit(X, Y).predict_proba(X)
    assert np.array_equal(found > 0.5, Y == 1)


@pytest.mark.parametrize("make", [str, int, float, bytes, object])
def test_encoding_by_blocks_is_that_of_all_at_once(make, monkeypatch):
    codes = np.random.default_rng(0).integers(-50, 50, 1000)
    y = {
        str: codes.astype("U5"),
        int: codes.astype(np.int16),
        float: codes.astype(np.float32),
        bytes: codes.astype("S5"),
        object: np.array([f"c{code}" for code in codes], dtype=object),
    }[make]
    values, places = np.unique(y, return_inverse=True)
    for entries in (1, 7, 999, 1000, 1 << 20):
        monkeypatch.setattr(_labels, "_ENTRIES_AT_ONCE", entries)
        found = _labels.encode(y)
        assert np.array_equal(found.values, values) and found.values.dtype == y.dtype
        assert np.array_equal(found.codes, places) and found.codes.dtype == np.int64
    assert len(_labels.encode(y[:0]).codes) == 0 and _labels.encode(y[:0]).values.dtype == y.dtype


@pytest.mark.parametrize("entries", [1, 6, 10, 1 << 20])
def test_indicators_are_looked_at_by_blocks(entries, monkeypatch):
    monkeypatch.setattr(_labels, "_ENTRIES_AT_ONCE", entries)
    y = np.random.default_rng(0).integers(0, 2, (11, 3))
    for dtype in (np.int64, bool, np.float64, object):
        assert _labels.is_indicator(y.astype(dtype))
    assert not _labels.is_indicator(y[:, :1]) and _labels.is_indicator(y[:0])
    y[7, 2] = 5
    y[9, 0] = 4
    for dtype in (np.int64, np.float64, object):
        with pytest.raises(ValueError, match=r"row 7 has 5(\.0)? in column 2"):
            _labels.is_indicator(y.astype(dtype))


@pytest.mark.parametrize("model", [AnalyticClassifier(), AnalyticRegressor()])
def test_weights_that_underflow_are_said_to(X, model):
    with pytest.raises(ValueError, match="the sum of sample_weight underflows"):
        model.fit(X, CODES, sample_weight=np.full(len(X), 5e-324))
    assert np.isfinite(model.fit(X, CODES, sample_weight=np.full(len(X), 1e-300)).coef_).all()
