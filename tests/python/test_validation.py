"""Bad input: each a precise exception, the model unchanged. Good input in any layout and dtype: the same answer."""

import numpy as np
import pytest
from oracle import relative_error, ridge_weights

import gramian
from gramian import AnalyticClassifier, AnalyticRegressor, GramState, RandomFeatures, _validate, ridge_solve

ALL_MODELS = [AnalyticClassifier, AnalyticRegressor]


@pytest.fixture
def data(rng):
    return rng.normal(size=(60, 4)), np.arange(60) % 3


@pytest.fixture(params=ALL_MODELS, ids=lambda kind: kind.__name__)
def fitted(request, data):
    return request.param().fit(*data)


def unchanged_after(model, call, error, match):
    before = model.coef_.copy(), model.n_samples_seen_
    with pytest.raises(error, match=match):
        call()
    assert np.array_equal(model.coef_, before[0])
    assert model.n_samples_seen_ == before[1]


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("verb", ["partial_fit", "forget", "fit"])
def test_non_finite_rows_are_named(fitted, data, value, verb):
    X, y = data[0].copy(), data[1]
    X[37, 2] = value
    unchanged_after(fitted, lambda: getattr(fitted, verb)(X, y), ValueError, r"(?s)37.*(NaN|inf)|(NaN|inf).*37")


def test_non_finite_rows_to_predict(fitted, data):
    X = data[0].copy()
    X[5, 0] = np.nan
    with pytest.raises(ValueError, match="5"):
        fitted.predict(X)


def test_non_finite_targets(data):
    X, y = data[0], data[1].astype(float)
    model = AnalyticRegressor().fit(X, y)
    y[3] = np.nan
    unchanged_after(model, lambda: model.partial_fit(X, y), ValueError, "Input y contains NaN, first in row 3")
    y[3] = np.inf
    unchanged_after(model, lambda: model.partial_fit(X, y), ValueError, "infinity.*first in row 3")
    with pytest.raises(ValueError, match="Input y contains NaN, first in row 3"):
        AnalyticClassifier().fit(X, np.where(np.arange(60) == 3, np.nan, 1.0))


def test_width(fitted, data):
    X, y = data
    message = "X has 3 features, but .* is expecting 4 features as input"
    unchanged_after(fitted, lambda: fitted.partial_fit(X[:, :3], y), ValueError, message)
    unchanged_after(fitted, lambda: fitted.forget(X[:, :3], y), ValueError, message)
    unchanged_after(fitted, lambda: fitted.predict(X[:, :3]), ValueError, message)


def test_lengths(fitted, data):
    X, y = data
    message = r"inconsistent numbers of samples: \[60, 59\]"
    unchanged_after(fitted, lambda: fitted.partial_fit(X, y[:-1]), ValueError, message)
    unchanged_after(fitted, lambda: fitted.fit(X, y[:-1]), ValueError, message)


@pytest.mark.parametrize(
    "X, message",
    [
        (np.zeros((0, 4)), r"Found array with 0 sample\(s\) \(shape=\(0, 4\)\) while a minimum of 1 is required"),
        (np.zeros((60, 0)), r"Found array with 0 feature\(s\) \(shape=\(60, 0\)\) while a minimum of 1 is required"),
        (np.zeros(60), "(?s)Expected 2D array, got 1D array instead.*Reshape your data"),
        (3.0, "(?s)Expected 2D array, got scalar array instead.*Reshape your data"),
        (np.zeros((60, 2, 2)), "dim 3"),
        (np.zeros((60, 4), dtype=complex), "Complex data not supported"),
        (np.full((60, 4), "1"), "not compatible with arrays of bytes/strings"),
        (np.full((60, 4), "x", dtype=object), "could not convert string to float"),
        (None, "X is None"),
    ],
)
def test_rows_that_are_refused(fitted, data, X, message):
    unchanged_after(fitted, lambda: fitted.partial_fit(X, data[1]), ValueError, message)
    unchanged_after(fitted, lambda: fitted.predict(X), ValueError, message)


@pytest.mark.parametrize(
    "weight, message",
    [
        (np.ones(59), "sample_weight.shape"),
        (np.ones((60, 1)), "must be 1D array or scalar"),
        (-np.ones(60), "Negative values"),
        (np.full(60, np.nan), "NaN or infinity, first in row 0"),
        (np.r_[np.ones(7), np.inf, np.ones(52)], "Input sample_weight contains NaN or infinity, first in row 7"),
        (np.r_[np.ones(7), -1.0, np.ones(52)], "Negative values.*first in row 7"),
    ],
)
def test_weights_that_are_refused(fitted, data, weight, message):
    unchanged_after(fitted, lambda: fitted.partial_fit(*data, sample_weight=weight), ValueError, message)


def test_all_weights_zero(data):
    with pytest.raises(ValueError, match="zero for all rows"):
        AnalyticClassifier().fit(*data, sample_weight=np.zeros(60))


def test_scores_need_weight(fitted, data):
    with pytest.raises(ValueError, match="zero for all rows"):
        fitted.score(*data, sample_weight=np.zeros(60))


def test_missing_values_of_nullable_frames(fitted, data):
    pandas = pytest.importorskip("pandas", reason="pandas is not installed")
    X, y = data
    frame = pandas.DataFrame(X).astype("Float64")
    frame.iloc[5, 1] = pandas.NA
    with pytest.raises(ValueError, match="X contains missing values.*row 5"):
        fitted.partial_fit(frame, y)
    with pytest.raises(ValueError, match="sample_weight contains missing values.*row 5"):
        fitted.partial_fit(X, y, sample_weight=frame[1].astype(object))
    with pytest.raises(ValueError, match="y contains missing values.*row 5"):
        AnalyticRegressor().fit(X, frame[1].astype(object))


def test_masked_entries(fitted, data):
    """What stands behind a mask is no value. A mask that hides nothing is no matter."""
    X, y = data
    mask = np.zeros(X.shape, dtype=bool)
    everything = np.ma.masked_array(X, mask.copy())
    assert np.array_equal(fitted.predict(everything), fitted.predict(X))
    mask[41, 2] = True
    holes = np.ma.masked_array(X, mask)
    message = "X contains masked entries, first in row 41"
    unchanged_after(fitted, lambda: fitted.partial_fit(holes, y), ValueError, message)
    unchanged_after(fitted, lambda: fitted.forget(holes, y), ValueError, message)
    with pytest.raises(ValueError, match=message):
        fitted.predict(holes)
    targets = np.ma.masked_array(y, mask[:, 2])
    unchanged_after(fitted, lambda: fitted.partial_fit(X, targets), ValueError, "y contains masked .* row 41")
    weight = np.ma.masked_array(np.ones(60), mask[:, 2])
    unchanged_after(
        fitted, lambda: fitted.partial_fit(X, y, sample_weight=weight), ValueError, "sample_weight .* masked .* row 41"
    )


def test_integers_beyond_float64(fitted, data):
    X, y = data
    large = X.astype(object)
    large[3, 1] = 10**400
    unchanged_after(fitted, lambda: fitted.partial_fit(large, y), ValueError, "X contains an integer that is too large")
    with pytest.raises(ValueError, match="y contains an integer that is too large"):
        AnalyticRegressor().fit(X, large[:, 1])


def test_numbers_are_no_paths_and_no_bytes(tmp_path):
    """open() would take a number for an open file of the process, and close it."""
    with open(tmp_path / "file", "wb") as file:
        for load in (gramian.load, GramState.load, gramian.RFactor.load, gramian.sketch.load):
            with pytest.raises(TypeError):
                load(file.fileno())
        file.write(b"still open")
        file.flush()
    for wrong in (5, "text", None):
        with pytest.raises(TypeError):
            GramState.from_bytes(wrong)


@pytest.mark.parametrize("device", [None, 0])
def test_device_that_is_no_text(fitted, data, device, tmp_path):
    state = GramState(4)
    state.save(tmp_path / "state.gramian")
    for call in (
        lambda: type(fitted)(device=device).fit(*data),
        lambda: GramState(4, device=device),
        lambda: GramState.load(tmp_path / "state.gramian", device=device),
        lambda: GramState.from_bytes(state.to_bytes(), device=device),
        lambda: gramian.load(tmp_path / "state.gramian", device=device),
        lambda: ridge_solve(data[0], data[1], device=device),
    ):
        with pytest.raises(TypeError, match="device must be a text"):
            call()


@pytest.mark.parametrize(
    "params, message",
    [
        ({"ridge": -1.0}, "ridge must be a finite number >= 0"),
        ({"ridge": np.nan}, "ridge must be a finite number >= 0"),
        ({"ridge": "best"}, "ridge must be a number >= 0, 'gcv', 'holdout' or 'loo'"),
        ({"ridge": True}, "ridge must be a number"),
        ({"ridges": [1.0]}, "must be None otherwise"),
        ({"ridge": "gcv", "ridges": []}, "ridges must be a sequence"),
        ({"ridge": None}, "ridge must be a number, got None"),
        ({"ridge": 10**400}, "ridge must be a number"),
        ({"ridge": "gcv", "ridges": ["x"]}, "ridges must be a sequence"),
        ({"verbose": "loud"}, "verbose must be an integer"),
        ({"n_jobs": 2**40}, "n_jobs must be at most"),
        ({"dtype": "float16"}, "dtype must be None, 'float64' or 'float32'"),
        ({"n_jobs": 0}, "n_jobs must be"),
        ({"device": "tpu"}, "tpu"),
    ],
)
@pytest.mark.parametrize("kind", ALL_MODELS)
def test_parameters_that_are_refused(data, kind, params, message):
    with pytest.raises(ValueError, match=message):
        kind(**params).fit(*data)


def test_feature_map_of_another_kind(data):
    with pytest.raises(TypeError, match="RBFFeatures, FusedFeatures or FeatureChain needed, got str"):
        AnalyticClassifier(feature_map="relu").fit(*data)


def test_ridge_zero_needs_full_rank(data):
    X = np.hstack([data[0], data[0][:, :1]])
    model = AnalyticRegressor(ridge=0.0).fit(X, data[1])
    with pytest.raises(np.linalg.LinAlgError, match="rank"):
        model.predict(X)


LAYOUTS = {
    "c": lambda X: np.ascontiguousarray(X),
    "fortran": lambda X: np.asfortranarray(X),
    "columns_apart": lambda X: np.repeat(X, 2, axis=1)[:, ::2],
    "rows_apart": lambda X: np.repeat(X, 3, axis=0)[::3],
    "backwards": lambda X: X[::-1, ::-1].copy()[::-1, ::-1],
    "big_endian": lambda X: X.astype(X.dtype.newbyteorder(">")),
    "unaligned": lambda X: np.frombuffer(b"\0" + X.tobytes(), dtype=np.uint8)[1:].view(X.dtype).reshape(X.shape),
    "list": lambda X: X.tolist(),
    "object": lambda X: X.astype(object),
}


@pytest.mark.parametrize("layout", LAYOUTS)
def test_layout_does_not_change_a_bit(data, layout):
    X, y = data
    same = LAYOUTS[layout](X)
    expected = AnalyticClassifier(RandomFeatures(30)).fit(X, y)
    found = AnalyticClassifier(RandomFeatures(30)).fit(same, y)
    assert np.array_equal(expected.coef_, found.coef_)
    assert np.array_equal(expected.decision_function(X), found.decision_function(same))


def test_broadcast_rows():
    X = np.broadcast_to(np.array([1.0, 2.0, 3.0]), (10, 3))
    state = GramState(3, fit_intercept=False).add(X)
    np.testing.assert_allclose(state.moments()[0], 10 * np.outer(X[0], X[0]))


@pytest.mark.parametrize(
    "dtype", "float16 float32 float64 longdouble bool uint8 int8 int16 uint16 int32 uint32 int64 uint64".split()
)
def test_dtypes(rng, dtype):
    X = rng.integers(0, 2 if dtype == "bool" else 50, size=(40, 5)).astype(dtype)
    Y = rng.normal(size=(40, 2))
    coef, intercept = ridge_weights(X.astype(np.float64), Y, 0.5)
    model = AnalyticRegressor(ridge=0.5).fit(X, Y)
    assert relative_error(model.coef_, coef) < 1e-12
    np.testing.assert_allclose(model.predict(X), X.astype(np.float64) @ coef.T + intercept, rtol=1e-9, atol=1e-9)


def test_read_only_input(data):
    X, y = (part.copy() for part in data)
    X.flags.writeable = y.flags.writeable = False
    AnalyticClassifier().fit(X, y).predict(X)


def test_input_is_not_written(data):
    X, y = (part.copy() for part in data)
    AnalyticRegressor(RandomFeatures(8), dtype="float32").fit(X, y).partial_fit(X, y).forget(X, y).predict(X)
    assert np.array_equal(X, data[0])
    assert np.array_equal(y, data[1])


@pytest.mark.parametrize("index", [np.int32, np.int64])
@pytest.mark.parametrize("values", [np.float32, np.float64, np.int16, np.bool_])
def test_sparse_rows(rng, index, values):
    sparse = pytest.importorskip("scipy.sparse", reason="SciPy is not installed")
    dense = (rng.random((50, 6)) < 0.3).astype(values) * (rng.integers(1, 2 if values == np.bool_ else 9, (50, 6)))
    dense = dense.astype(values)
    y = np.arange(50) % 3
    X = sparse.csr_matrix(dense)
    X.indices, X.indptr = X.indices.astype(index), X.indptr.astype(index)
    expected = AnalyticClassifier().fit(dense, y)
    for rows in (X, X.tocsc(), X.tocoo(), sparse.csr_array(X)):
        found = AnalyticClassifier().fit(rows, y)
        assert relative_error(found.coef_, expected.coef_) < 1e-12
        np.testing.assert_allclose(found.predict_proba(rows), expected.predict_proba(dense), rtol=1e-9, atol=1e-12)


def damage_index(X):
    X.indices[3] = 99


def damage_indptr(X):
    X.indptr[4] = 10**6


def damage_order(X):
    X.indptr[4], X.indptr[5] = X.indptr[5], X.indptr[4]


def damage_sign(X):
    X.indices[2] = -1


@pytest.mark.parametrize("damage", [damage_index, damage_indptr, damage_order, damage_sign])
def test_damaged_sparse_rows(rng, damage):
    sparse = pytest.importorskip("scipy.sparse", reason="SciPy is not installed")
    X = sparse.random(20, 6, density=0.5, format="csr", random_state=0)
    model = AnalyticRegressor().fit(X, np.arange(20.0))
    damage(X)
    unchanged_after(model, lambda: model.partial_fit(X, np.arange(20.0)), ValueError, ".")


def test_sparse_rows_with_nan(rng):
    sparse = pytest.importorskip("scipy.sparse", reason="SciPy is not installed")
    X = sparse.random(20, 6, density=0.5, format="csr", random_state=0)
    X.data[X.indptr[7]] = np.nan
    with pytest.raises(ValueError, match="7"):
        AnalyticRegressor().fit(X, np.arange(20.0))


def test_ridge_solve(rng):
    X, Y = rng.normal(size=(30, 8)), rng.normal(size=(30, 2))
    weight = rng.random(30)
    for rows, form in ((X, "primal"), (X, "dual"), (X[:5], "auto")):
        n = len(rows)
        coef, intercept = ridge_weights(rows, Y[:n], 0.3, weight[:n])
        found = ridge_solve(rows, Y[:n], 0.3, sample_weight=weight[:n], form=form)
        assert relative_error(found.coef, coef) < 1e-10
        assert relative_error(found.intercept, intercept) < 1e-10
        assert found.report.form == ("dual" if form == "auto" else form)
    with pytest.raises(ValueError, match="form must be"):
        ridge_solve(X, Y, form="both")
    with pytest.raises(ValueError, match="NaN"):
        ridge_solve(np.where(np.arange(30)[:, np.newaxis] == 2, np.nan, X), Y)


CONVERTED = [
    "uint32", "uint64", "int8", "longdouble", ">f8", ">i4", "float64", "bool", "object", "<U9", "S9"
]  # fmt: skip


@pytest.mark.parametrize("dtype", CONVERTED)
@pytest.mark.parametrize("layout", ["C", "F", "strided", "vector", "empty", "scalar"])
def test_conversions_by_blocks_are_those_of_numpy(rng, monkeypatch, dtype, layout):
    monkeypatch.setattr(_validate, "_ENTRIES_AT_ONCE", 7)
    values = rng.integers(0, 2 if dtype == "bool" else 100, (23, 3)).astype(dtype)
    whole = {
        "C": values,
        "F": np.asfortranarray(values),
        "strided": values[::-2, ::2],
        "vector": values[:, 1],
        "empty": values[:0],
        "scalar": values[3, 1:2].reshape(()),
    }[layout]
    found, expected = _validate.converted(whole, np.float64), whole.astype(np.float64)
    assert found.dtype == np.float64 and found.shape == expected.shape and found.flags.owndata
    assert found.strides == expected.strides or found.size < 2
    np.testing.assert_array_equal(found, expected)
    same = _validate.converted(whole, whole.dtype)
    assert same.dtype == whole.dtype and not np.shares_memory(same, whole)
    np.testing.assert_array_equal(same, whole)


@pytest.mark.parametrize("entries", [1, 7, 10**6])
@pytest.mark.parametrize("offset", [0, 4])
def test_rows_by_blocks_dense_and_sparse(rng, monkeypatch, entries, offset):
    """Rows taken, rows blanked and the first bad row, whatever is looked at at once."""
    scipy_sparse = pytest.importorskip("scipy.sparse")
    monkeypatch.setattr(_validate, "_ENTRIES_AT_ONCE", entries)
    dense = rng.normal(size=(40, 6)) * (rng.random((40, 6)) < 0.4)
    dense[[0, 11, 12, 13, 39]] = 0
    dense[14] = 1
    whole = scipy_sparse.csr_matrix(dense)
    # As a slice of a larger one has them: the entries of the first row do not begin at 0.
    data, indices = np.r_[np.full(offset, np.nan), whole.data], np.r_[np.zeros(offset, np.int32), whole.indices]
    rows = _validate.CSRRows(data, indices, (whole.indptr + offset).astype(np.int32), whole.shape)

    def as_dense(csr):
        begin = csr.indptr[0]
        parts = csr.data[begin:], csr.indices[begin:], csr.indptr - begin
        return scipy_sparse.csr_matrix(parts, csr.shape).toarray()

    weight = np.where(rng.random(40) < 0.3, 0.0, 1.0)
    weight[14] = 0
    expected = dense * weight[:, np.newaxis]
    before = data.copy()
    np.testing.assert_array_equal(_validate.blanked(dense, weight), expected)
    np.testing.assert_array_equal(as_dense(_validate.blanked(rows, weight)), expected)
    np.testing.assert_array_equal(data, before)

    places = np.flatnonzero(weight)
    np.testing.assert_array_equal(_validate.take_rows(dense, places), dense[places])
    taken = _validate.take_rows(rows, places)
    np.testing.assert_array_equal(as_dense(taken), dense[places])
    assert taken.indptr.dtype == rows.indptr.dtype and taken.indices.dtype == rows.indices.dtype

    assert _validate.first_bad_row(dense) is None and _validate.first_bad_row(rows) is None
    for row in (14, 30):
        bad = dense.copy()
        bad[row:, 2] = np.nan
        assert _validate.first_bad_row(bad) == row
        bad = scipy_sparse.csr_matrix(bad)
        rows_of_bad = _validate.CSRRows(bad.data, bad.indices, bad.indptr, bad.shape)
        assert _validate.first_bad_row(rows_of_bad) == row


@pytest.mark.parametrize("verb", ["decision_function", "predict", "predict_proba"])
def test_answers_for_indicators_by_blocks(rng, monkeypatch, verb):
    X = rng.normal(size=(50, 4))
    model = AnalyticClassifier().fit(X, (X[:, :3] > 0).astype(int))
    whole = getattr(model, verb)(X)
    monkeypatch.setattr(_validate, "_ENTRIES_AT_ONCE", 7)
    parts = getattr(model, verb)(X)
    assert whole.dtype == parts.dtype
    np.testing.assert_array_equal(whole, parts)
