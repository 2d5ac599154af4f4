"""Rows in compressed sparse form: the same models as from dense rows, read in place, never dense as a whole."""

import numpy as np
import pytest
from reference_path import analytic, checks

import gramian as gm

sparse = pytest.importorskip("scipy.sparse")

MAPS = {
    "none": None,
    "gaussian": gm.RandomFeatures(40),
    "rademacher_cos": gm.RandomFeatures(40, kind="rademacher", activation="cos"),
    "hadamard": gm.RandomFeatures(40, kind="hadamard", activation="tanh"),
    "radial": gm.RBFFeatures(20),
    "chain": gm.FeatureChain([gm.RandomFeatures(30), gm.RandomFeatures(25, random_state=2)]),
}


def rows_of(n, p, seed=0, density=0.15, dtype=np.float64):
    rng = np.random.default_rng([seed, n, p])
    dense = (rng.normal(size=(n, p)) * (rng.random((n, p)) < density)).astype(dtype)
    dense[3] = 0  # a row without entries
    dense[:, 2] = 0  # a column without entries
    y = rng.integers(0, 3, n)
    return dense, y, rng.random(n) * (rng.random(n) < 0.8)


def csr(dense, index=np.int32):
    X = sparse.csr_matrix(dense)
    X.indices, X.indptr = X.indices.astype(index), X.indptr.astype(index)
    assert X.indices.dtype == index
    return X


@pytest.mark.parametrize("index", [np.int32, np.int64])
@pytest.mark.parametrize("values", [np.float64, np.float32])
@pytest.mark.parametrize("name", MAPS)
@pytest.mark.parametrize("kind", [gm.AnalyticClassifier, gm.AnalyticRegressor])
def test_sparse_equals_dense(kind, name, values, index):
    dense, y, weight = rows_of(600, 50, dtype=values)
    X = csr(dense, index)
    models = []
    for rows in (dense, X):
        model = kind(MAPS[name], ridge=0.5).fit(rows[:100], y[:100])
        model.partial_fit(rows[100:], y[100:], sample_weight=weight[100:])
        models.append(model.forget(rows[:20], y[:20]))
    Z = dense if name == "none" else models[0].feature_map_.transform(dense.astype(np.float64))
    bound = checks.weight_bound(Z[20:], 0.5, 700, factor=8)
    assert models[0].n_samples_seen_ == models[1].n_samples_seen_
    assert checks.relative_error(models[1].coef_, models[0].coef_) <= bound
    test = slice(200, 300)
    if kind is gm.AnalyticClassifier:
        assert np.array_equal(models[0].classes_, models[1].classes_)
        answers = [model.decision_function(rows[test]) for model, rows in zip(models, (dense, X), strict=True)]
    else:
        answers = [model.predict(rows[test]) for model, rows in zip(models, (dense, X), strict=True)]
    assert checks.relative_error(answers[1], answers[0]) <= bound
    assert checks.relative_error(models[0].predict(X[test]), models[0].predict(dense[test])) <= bound


@pytest.mark.parametrize("index", [np.int32, np.int64])
def test_against_the_reference(index):
    dense, y, weight = rows_of(400, 30)
    counting = weight > 0
    model = gm.AnalyticClassifier(ridge=0.2).fit(csr(dense, index), y, sample_weight=weight)
    _, coef, intercept = analytic.joint_classifier(dense[counting], y[counting], 0.2, weight[counting])
    bound = checks.weight_bound(dense[counting], 0.2, 400, weight=weight[counting])
    assert checks.relative_error(model.coef_, coef) <= bound
    assert checks.relative_error(model.intercept_, intercept) <= bound


def test_maps_of_sparse_rows():
    dense, _, _ = rows_of(300, 40)
    X = csr(dense)
    for name, chosen in MAPS.items():
        if chosen is None:
            continue
        fit = chosen.fit(dense)
        for dtype in (np.float64, np.float32):
            found, expected = fit.transform(X.astype(dtype)), fit.transform(dense.astype(dtype))
            assert found.dtype == dtype, name
            eps = float(np.finfo(dtype).eps)
            size = 1 + np.abs(dense).sum(axis=1).max()
            assert np.abs(found - expected).max() <= 64 * 40 * eps * size, name


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
@pytest.mark.parametrize("kind", ["gaussian", "rademacher", "orthogonal", "hadamard", "sparse"])
def test_the_width_of_the_indices_leaves_no_trace(kind, dtype):
    """Also in the last columns, which fill no vector, and where there are fewer columns than a vector has."""
    dense, y, _ = rows_of(300, 50, density=0.4, dtype=dtype)
    narrow, wide = csr(dense, np.int32), csr(dense, np.int64)
    for features in (1, 2, 3, 5, 7, 13, 28, 30, 31, 33, 61):
        chosen = gm.RandomFeatures(features, kind=kind).fit(narrow)
        assert np.array_equal(chosen.transform(narrow), chosen.transform(wide)), features
    for products in (None, "float32"):
        models = [
            gm.AnalyticClassifier(gm.RandomFeatures(30, kind=kind), dtype=products).fit(rows, y).to_bytes()
            for rows in (narrow, wide)
        ]
        assert models[0] == models[1], products


@pytest.mark.parametrize("kind", ["gaussian", "rademacher"])
def test_features_do_not_depend_on_how_many_there_are(kind):
    """Each column is the same whether it ends a row or stands in the middle of one."""
    dense, _, _ = rows_of(100, 50, density=0.4)
    X = csr(dense)
    plain = {"kind": kind, "activation": "identity", "scale": 1.0}
    whole = gm.RandomFeatures(64, **plain).fit_transform(X)
    for features in (1, 3, 5, 15, 17, 30, 63):
        assert np.array_equal(gm.RandomFeatures(features, **plain).fit_transform(X), whole[:, :features]), features


def test_any_order_and_repeats_inside_a_row():
    dense, y, _ = rows_of(200, 20)
    X = csr(dense)
    rng = np.random.default_rng(0)
    shuffled = X.copy()
    for r in range(200):
        span = slice(X.indptr[r], X.indptr[r + 1])
        order = rng.permutation(X.indptr[r + 1] - X.indptr[r])
        shuffled.indices[span], shuffled.data[span] = X.indices[span][order], X.data[span][order]
    shuffled.has_sorted_indices = False
    doubled = sparse.csr_matrix(
        (np.repeat(X.data / 2, 2), np.repeat(X.indices, 2), X.indptr * 2), shape=X.shape
    )  # every entry as two halves
    assert not doubled.has_canonical_format
    expected = gm.AnalyticClassifier(gm.RandomFeatures(15)).fit(X, y)
    for rows in (shuffled, doubled):
        before = rows.indices.copy(), rows.data.copy()
        for chosen in (None, gm.RandomFeatures(15), gm.RandomFeatures(15, kind="hadamard")):
            found = gm.AnalyticClassifier(chosen).fit(rows, y)
            plain = gm.AnalyticClassifier(chosen).fit(dense, y)
            assert checks.relative_error(found.coef_, plain.coef_) <= 1e-11
        assert np.array_equal(rows.indices, before[0]) and np.array_equal(rows.data, before[1])
    assert (
        checks.relative_error(expected.coef_, gm.AnalyticClassifier(gm.RandomFeatures(15)).fit(dense, y).coef_) <= 1e-11
    )


def test_other_formats_and_slices():
    dense, y, _ = rows_of(200, 20)
    X = csr(dense)
    expected = gm.AnalyticClassifier().fit(dense, y).coef_
    forms = [
        X,
        X.tocsc(),
        X.tocoo(),
        X.tolil(),
        sparse.csr_array(X),
        sparse.csc_array(X),
        sparse.vstack([X[:90], X[90:]]),
    ]
    for rows in forms:
        assert checks.relative_error(gm.AnalyticClassifier().fit(rows, y).coef_, expected) <= 1e-12
    model = gm.AnalyticClassifier().fit(dense, y)
    assert np.array_equal(model.predict(X[50:120]), model.predict(dense[50:120]))
    # Targets of a regressor may be sparse too.
    found = gm.AnalyticRegressor().fit(X, sparse.csr_matrix(dense[:, :2]))
    assert checks.relative_error(found.coef_, gm.AnalyticRegressor().fit(X, dense[:, :2]).coef_) <= 1e-12


@pytest.mark.parametrize("index", [np.int32, np.int64])
@pytest.mark.parametrize("value", [np.nan, np.inf])
@pytest.mark.parametrize("name", ["none", "gaussian", "hadamard", "radial"])
def test_bad_values_name_the_row_and_change_nothing(name, value, index):
    dense, y, _ = rows_of(20_000, 12, density=0.4)
    model = gm.AnalyticClassifier(MAPS[name]).fit(csr(dense[:500], index), y[:500])
    before = checks.file_bytes(model)
    X = csr(dense, index)
    row = 17_321
    X.data[X.indptr[row]] = value
    for call in (lambda: model.partial_fit(X, y), lambda: model.predict(X)):
        with pytest.raises(ValueError, match=rf"(NaN|infinity).*row {row}\b"):
            call()
        assert checks.file_bytes(model) == before
    # Rows of weight zero do not shift the number.
    weight = np.r_[np.zeros(5000), np.ones(15_000)]
    with pytest.raises(ValueError, match=rf"row {row}\b"):
        model.partial_fit(X, y, sample_weight=weight)
    weight[row] = 0
    expected = gm.AnalyticClassifier(MAPS[name]).fit(csr(dense[:500], index), y[:500])
    clean = weight > 0
    expected.partial_fit(X[clean], y[clean], sample_weight=weight[clean])
    assert model.partial_fit(X, y, sample_weight=weight).state_.to_bytes() == expected.state_.to_bytes()


@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("name", [name for name in MAPS if name != "radial"])  # whose centres are rows of any weight
def test_rows_of_weight_zero_leave_every_bit(name, dtype):
    dense, y, weight = rows_of(300, 50)
    X = csr(dense)
    counting = weight > 0
    assert 0 < counting.sum() < 300
    one, other = (
        gm.AnalyticClassifier(MAPS[name], dtype=dtype).fit(X[rows], y[rows], sample_weight=weight[rows])
        for rows in (np.arange(300), np.flatnonzero(counting))
    )
    assert one.state_.to_bytes() == other.state_.to_bytes()


def damaged(X, how):
    X = X.copy()
    if how == "index_too_large":
        X.indices[5] = X.shape[1]
    elif how == "index_negative":
        X.indices[5] = -1
    elif how == "indptr_falls":
        X.indptr[7] = X.indptr[6] - 1
    elif how == "indptr_beyond":
        X.indptr[-1] = len(X.data) + 3
    elif how == "indptr_negative":
        X.indptr[0] = -2
    return X


@pytest.mark.parametrize("index", [np.int32, np.int64])
@pytest.mark.parametrize(
    "how", ["index_too_large", "index_negative", "indptr_falls", "indptr_beyond", "indptr_negative"]
)
def test_a_damaged_structure_is_refused(how, index):
    dense, y, _ = rows_of(100, 12, density=0.4)
    X = csr(dense, index)
    for chosen in (None, gm.RandomFeatures(10), gm.RBFFeatures(5)):
        model = gm.AnalyticClassifier(chosen).fit(X, y)
        before = checks.file_bytes(model)
        bad = damaged(X, how)
        with pytest.raises(ValueError):
            model.partial_fit(bad, y)
        with pytest.raises(ValueError):
            model.predict(bad)
        assert checks.file_bytes(model) == before


FITTED_TO_ROWS = {
    "rbf": gm.RBFFeatures(5),
    "rbf_given": gm.RBFFeatures(np.eye(5, 30)),
    "chain": gm.FeatureChain([gm.RBFFeatures(5), gm.RandomFeatures(8)]),
    "late_chain": gm.FeatureChain([gm.RandomFeatures(8), gm.RBFFeatures(5)]),
    "fused": gm.FusedFeatures(2, gm.RBFFeatures(5)),
}


@pytest.mark.parametrize("name", FITTED_TO_ROWS)
def test_a_damaged_structure_is_refused_before_maps_see_it(name):
    # 12,000 rows: a chain draws a sample for its later maps from more than 10,000.
    X = sparse.csr_matrix((np.ones(36_000), np.tile([1, 7, 20], 12_000), np.arange(0, 36_001, 3)), shape=(12_000, 30))
    y = np.arange(12_000) % 3
    fits = (FITTED_TO_ROWS[name].fit, lambda rows: gm.AnalyticClassifier(FITTED_TO_ROWS[name]).fit(rows, y))
    bad = X.copy()
    bad.indices[5] = 99
    for fit in fits:
        with pytest.raises(ValueError, match=r"^X\.indices\[5\] = 99 is outside \[0, 30\) \(row 1\)"):
            fit(bad)
    for how, message in (
        ("index_negative", r"^X\.indices\[5\] = -1 is outside"),
        ("indptr_falls", r"^X\.indptr\[7\] = 17 is below X\.indptr\[6\] = 18"),
        ("indptr_beyond", "lies beyond the 36000 stored entries"),
        ("indptr_negative", r"^X\.indptr\[0\] = -2 is negative"),
    ):
        for fit in fits:
            with pytest.raises(ValueError, match=message):
                fit(damaged(X, how))


def test_damaged_centers_are_refused():
    centers = sparse.csr_matrix(np.eye(3, 30))
    centers.indices[1] = 40
    with pytest.raises(ValueError, match=r"^centers\.indices\[1\] = 40 is outside"):
        gm.RBFFeatures(centers).fit(np.ones((4, 30)))


def test_a_damaged_structure_is_told_by_the_name_of_the_argument():
    X, y = sparse.random(40, 6, density=0.5, format="csr", random_state=0), np.arange(40.0)
    bad = damaged(X, "index_too_large")
    for name, call in (
        ("X", lambda: gm.AnalyticRegressor().fit(bad, y)),
        ("X", lambda: gm.RFactor(6, 1).add(bad, y[:, None])),
        ("A", lambda: gm.lstsq(bad, y)),
        ("A", lambda: gm.randomized_svd(bad, 2)),
        ("A", lambda: gm.sketch.SparseSign(8, 40).apply(bad)),
        ("A", lambda: gm.sketch.leverage_scores(bad)),
    ):
        with pytest.raises(ValueError, match=rf"^{name}\.indices\[5\] = 6 is outside \[0, 6\) \(row \d+\)"):
            call()
    model = gm.AnalyticRegressor().fit(X, y)
    with pytest.raises(ValueError, match=r"^X\.indptr\[7\] = "):
        model.predict(damaged(X, "indptr_falls"))


@pytest.mark.parametrize("features", [None, gm.RandomFeatures(300)])
def test_never_dense_as_a_whole(features):
    """60,000 x 1,000 rows would be 480 MB; what is allocated is the sums and one block."""
    from gramian import _core

    n, p = 60_000, 1_000
    X = sparse.random(n, p, density=0.004, format="csr", random_state=0)
    y = np.arange(n) % 5
    _core.reset_memory_stats()
    live = _core.memory_stats()["live"]
    model = gm.AnalyticClassifier(features, dtype="float32").fit(X, y)
    model.predict(X)
    stats = _core.memory_stats()
    dense_bytes = n * p * 4
    assert stats["largest"] < dense_bytes / 4
    assert stats["peak"] - live < model.nbytes * 3 + 80 * 2**20
    assert model.n_samples_seen_ == n
