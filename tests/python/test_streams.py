"""Class-incremental learning on a stream is joint training: random streams against plain NumPy on all rows at once."""

import copy

import numpy as np
import pytest
from reference_path import analytic, checks, streams

import gramian as gm

RIDGE = 0.1
N_STREAMS = 50


@pytest.fixture(scope="module")
def fifty():
    return streams.first_streams(N_STREAMS)


def fed(model, batches):
    for X, y in batches:
        model.partial_fit(X, y)
    return model


def all_weights(model):
    """Weights and intercepts, a row per class, also where there are two classes."""
    solution = model.state_.solve(model.ridge)
    return checks.stacked(solution.coef, solution.intercept)


def joint_weights(stream, fit_intercept=True):
    _, coef, intercept = analytic.joint_classifier(stream.X, stream.y, RIDGE, fit_intercept=fit_intercept)
    return checks.stacked(coef, intercept)


def test_the_streams_are_what_the_claim_is_about(fifty):
    sizes = [len(X) for stream in fifty for X, _ in stream.batches]
    assert min(sizes) < 10 and max(sizes) > 450
    assert {stream.n_classes for stream in fifty} & set(range(2, 8))
    assert max(stream.n_classes for stream in fifty) > 45
    assert all(len(stream.X) >= 2 * stream.d for stream in fifty)
    kinds = [stream.kinds for stream in fifty]
    for kind in ("old", "new", "mixed"):  # without new classes, with nothing else, with both
        assert sum(kind in some for some in kinds) > 20
    assert sum(stream.reappears for stream in fifty) > 40


@pytest.mark.parametrize("fit_intercept", [True, False])
def test_fifty_streams_equal_joint_training(fifty, fit_intercept):
    worst = 0.0
    for stream in fifty:
        model = fed(gm.AnalyticClassifier(ridge=RIDGE, fit_intercept=fit_intercept), stream.batches)
        classes, coef, intercept = analytic.joint_classifier(stream.X, stream.y, RIDGE, fit_intercept=fit_intercept)
        assert np.array_equal(model.classes_, classes)
        assert np.array_equal(model.class_count_, np.bincount(np.searchsorted(classes, stream.y)))
        worst = max(worst, checks.relative_error(all_weights(model), checks.stacked(coef, intercept)))
        if len(classes) > 2:
            assert np.array_equal(model.coef_, model.state_.solve(RIDGE).coef)
    assert worst <= 1e-10


def test_fifty_streams_in_single_precision(fifty):
    worst, equal, rows = 0.0, 0, 0
    for stream in fifty:
        model = fed(gm.AnalyticClassifier(ridge=RIDGE, dtype="float32"), stream.batches)
        classes, coef, intercept = analytic.joint_classifier(stream.X, stream.y, RIDGE)
        worst = max(worst, checks.relative_error(all_weights(model), checks.stacked(coef, intercept)))
        joint = classes[(stream.test @ coef.T + intercept).argmax(axis=1)]
        equal += (model.predict(stream.test) == joint).sum()
        rows += len(joint)
    assert worst <= 1e-4
    assert equal >= 0.999 * rows


def test_without_the_gain_of_old_classes_it_fails(fifty):
    """The negative control: the same check must tell the full recursion from the one that leaves a term out."""
    reappearing = [stream for stream in fifty if stream.reappears and stream.d <= 25]
    assert len(reappearing) > 8
    for stream in reappearing:
        _, joint, _ = analytic.joint_classifier(stream.X, stream.y, RIDGE, fit_intercept=False)
        classes, full = analytic.incremental(stream.batches, RIDGE)
        assert np.array_equal(classes, np.unique(stream.y))
        assert checks.relative_error(full, joint) < 1e-7
        _, ablated = analytic.incremental(stream.batches, RIDGE, gain=False)
        assert checks.relative_error(ablated, joint) > 1e-10  # the bar of the claim ...
        assert checks.relative_error(ablated, joint) > 1e-3  # ... and far beyond any rounding


@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_one_row_at_a_time_equals_all_at_once(rng, dtype):
    n, d = 400, 12
    X, y = rng.normal(size=(n, d)) + 2.0, rng.integers(0, 5, n)
    at_once = gm.AnalyticClassifier(ridge=RIDGE, dtype=dtype).fit(X, y)
    by_row = fed(gm.AnalyticClassifier(ridge=RIDGE, dtype=dtype), ((X[r : r + 1], y[r : r + 1]) for r in range(n)))
    eps = checks.EPS if dtype == "float64" else checks.EPS32
    bound = checks.weight_bound(X, RIDGE, n, eps)
    assert checks.relative_error(by_row.coef_, at_once.coef_) <= bound
    assert checks.relative_error(by_row.intercept_, at_once.intercept_) <= bound
    # The sums themselves: each entry within n eps of the sum of its terms' sizes.
    for one, other, sizes in zip(
        by_row.state_.moments(),
        at_once.state_.moments(),
        (np.abs(X).T @ np.abs(X), analytic.one_hot(y, range(5)).T @ np.abs(X)),
        strict=True,
    ):
        assert (np.abs(one - other) <= 4 * n * eps * sizes).all()


def test_splits_agree_to_the_bound(fifty):
    stream = fifty[3]
    cut = np.random.default_rng(5)
    models = []
    for _ in range(4):
        edges = np.unique(np.r_[0, cut.integers(0, len(stream.X), 7), len(stream.X)])
        models.append(
            fed(
                gm.AnalyticClassifier(ridge=RIDGE),
                ((stream.X[a:b], stream.y[a:b]) for a, b in zip(edges[:-1], edges[1:], strict=True)),
            )
        )
    bound = checks.weight_bound(stream.X, RIDGE, len(stream.X))
    for model in models[1:]:
        assert checks.relative_error(all_weights(model), all_weights(models[0])) <= bound


def test_order_of_arrival_of_classes_does_not_matter(fifty):
    stream = fifty[7]
    forward = fed(gm.AnalyticClassifier(ridge=RIDGE), stream.batches)
    backward = fed(gm.AnalyticClassifier(ridge=RIDGE), stream.batches[::-1])
    by_class = [
        np.flatnonzero(stream.y == label) for label in np.random.default_rng(1).permutation(np.unique(stream.y))
    ]
    sorted_in = fed(gm.AnalyticClassifier(ridge=RIDGE), ((stream.X[rows], stream.y[rows]) for rows in by_class))
    bound = checks.weight_bound(stream.X, RIDGE, len(stream.X))
    scores = forward.decision_function(stream.test)
    for other in (backward, sorted_in):
        assert np.array_equal(other.classes_, forward.classes_)
        assert np.array_equal(other.classes_, np.sort(other.classes_))
        assert np.array_equal(other.class_count_, forward.class_count_)
        assert checks.relative_error(all_weights(other), all_weights(forward)) <= bound
        assert checks.relative_error(other.decision_function(stream.test), scores) <= bound
        assert (other.predict(stream.test) == forward.predict(stream.test)).mean() == 1.0


def test_a_class_seen_once_keeps_its_influence(rng):
    X, y = rng.normal(size=(600, 8)), rng.integers(0, 3, 600)
    X[10] += 4.0
    y[10] = 99
    model = fed(gm.AnalyticClassifier(ridge=RIDGE), ((X[k : k + 50], y[k : k + 50]) for k in range(0, 600, 50)))
    _, coef, intercept = analytic.joint_classifier(X, y, RIDGE)
    np.testing.assert_array_equal(model.classes_, [0, 1, 2, 99])
    assert checks.relative_error(all_weights(model), checks.stacked(coef, intercept)) <= checks.weight_bound(
        X, RIDGE, 600
    )


def test_the_model_does_not_grow_with_the_rows(rng):
    X, y = rng.normal(size=(10_000, 6)), rng.integers(0, 3, 10_000)
    features = gm.RandomFeatures(40)
    few = gm.AnalyticClassifier(features).fit(X[:10], [0, 1, 2] * 3 + [0])
    many = fed(gm.AnalyticClassifier(features), ((X[k : k + 500], y[k : k + 500]) for k in range(0, 10_000, 500)))
    for _ in range(100):  # 10^6 rows in all, of the same classes
        many.partial_fit(X[:9_900], y[:9_900])
    assert many.n_samples_seen_ == 1_000_000
    assert few.nbytes == many.nbytes
    # Only the digits of some counts in the header may differ, and the header is padded to 64 bytes.
    assert abs(len(checks.file_bytes(few)) - len(checks.file_bytes(many))) <= 128


def test_features_far_from_the_origin(rng):
    stream = streams.Stream(12)
    near = fed(gm.AnalyticClassifier(ridge=RIDGE), stream.batches)
    far = fed(gm.AnalyticClassifier(ridge=RIDGE), ((X + 1e6, y) for X, y in stream.batches))
    assert np.abs(far.predict_proba(stream.test + 1e6) - near.predict_proba(stream.test)).max() <= 1e-6
    scores = near.decision_function(stream.test)
    assert np.abs(far.decision_function(stream.test + 1e6) - scores).max() <= 1e-6 * np.abs(scores).max()
    # Single precision products do not make single precision rows of them.
    single = fed(gm.AnalyticClassifier(ridge=RIDGE, dtype="float32"), ((X + 1e6, y) for X, y in stream.batches))
    assert np.mean(single.predict(stream.test + 1e6) == near.predict(stream.test)) >= 0.999
    target = stream.X @ rng.normal(size=stream.d)
    by_regressor = [
        gm.AnalyticRegressor(ridge=RIDGE).fit(stream.X + shift, target + shift).predict(stream.test + shift) - shift
        for shift in (0.0, 1e6)
    ]
    assert np.abs(by_regressor[1] - by_regressor[0]).max() <= 1e-6 * np.abs(by_regressor[0]).max()


# --- rows that do not count, classes that go, states that empty -----------------------------------------------------


def saved_after(calls, kind, **params):
    model = kind(**params)
    for X, y, weight in calls:
        model.partial_fit(X, y, sample_weight=weight)
    return checks.file_bytes(model)


# Maps of which all but the first are fitted to rows.
MAPS = [
    gm.RandomFeatures(20),
    gm.RBFFeatures(20),
    gm.RBFFeatures(20, gamma=0.3),
    gm.FeatureChain([gm.RandomFeatures(9), gm.RBFFeatures(20)]),
]


@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("features", [None, *MAPS], ids=repr)
@pytest.mark.parametrize("kind", [gm.AnalyticClassifier, gm.AnalyticRegressor])
def test_rows_of_weight_zero_leave_every_bit(rng, kind, features, dtype):
    X, y = rng.normal(size=(9000, 5)), rng.integers(0, 3, 9000)
    weight = rng.random(9000) + 0.5
    params = {"feature_map": features, "dtype": dtype}
    counting = np.flatnonzero(rng.random(9000) < 0.9)
    zeroed = np.zeros(9000)
    zeroed[counting] = weight[counting]
    expected = saved_after([(X[counting], y[counting], weight[counting])], kind, **params)
    assert saved_after([(X, y, zeroed)], kind, **params) == expected  # inside a batch of more than one block
    alone = (X[:50], y[:50], np.zeros(50))
    assert saved_after([(X[counting], y[counting], weight[counting]), alone], kind, **params) == expected
    # Labels that only such rows carry are no classes, and such rows may hold anything.
    if kind is gm.AnalyticClassifier:
        odd = np.r_[X[:2], np.full((1, 5), np.nan)]
        call = (odd, np.array([77, 78, 79]), np.zeros(3))
        assert saved_after([(X[counting], y[counting], weight[counting]), call], kind, **params) == expected


CHOICES = [
    {"ridge": "holdout"},
    {"ridge": "holdout", "holdout_rule": "ranpac"},
    {"ridge": "loo"},
    {"width": "loo"},
    {"ridge": "gcv", "low_latency": True},
]


@pytest.mark.parametrize("params", CHOICES, ids=repr)
@pytest.mark.parametrize("features", [None, *MAPS], ids=repr)
@pytest.mark.parametrize("kind", [gm.AnalyticClassifier, gm.AnalyticRegressor])
def test_rows_of_weight_zero_choose_nothing(rng, kind, features, params):
    sparse = pytest.importorskip("scipy.sparse")
    X, y, weight = rng.normal(size=(3000, 4)), rng.integers(0, 3, 3000), rng.random(3000) + 0.5
    gone = rng.random(3000) < 0.1
    weight[gone], bad = 0, X.copy()
    bad[gone] = np.nan
    y[gone] += 5 * (rng.random(gone.sum()) < 0.5)  # some labels that only such rows have
    model = kind(features, **params)
    expected = copy.deepcopy(model).fit(X[~gone], y[~gone], sample_weight=weight[~gone])
    for rows in (X, bad, np.asfortranarray(bad), sparse.csr_matrix(bad)):
        assert copy.deepcopy(model).fit(rows, y, sample_weight=weight).to_bytes() == expected.to_bytes()
    # A row that counts is still looked at, and named as the caller has it.
    row = int(np.flatnonzero(~gone)[-1])
    bad[row, 2] = np.inf
    for rows in (bad, sparse.csr_matrix(bad)):
        with pytest.raises(ValueError, match=rf"row {row}\b"):
            copy.deepcopy(model).fit(rows, y, sample_weight=weight)


@pytest.mark.parametrize("rule", ["moments", "ranpac"])
@pytest.mark.parametrize("kind", [gm.AnalyticClassifier, gm.AnalyticRegressor])
def test_calls_of_weight_zero_leave_what_is_held_out(rng, kind, rule):
    X = rng.normal(size=(600, 30))
    y = rng.integers(0, 3, 600) if kind is gm.AnalyticClassifier else X[:, 0] + 3 * rng.normal(size=600)
    empty = kind(ridge="holdout", holdout_rule=rule)
    model = copy.deepcopy(empty).partial_fit(X[:200], y[:200]).partial_fit(X[200:], y[200:])
    before, nothing = model.to_bytes(), np.zeros(3)
    emptied = copy.deepcopy(empty).partial_fit(X[:3], y[:3]).forget(X[:3], y[:3])
    for call in (
        lambda: model.partial_fit(X[:3], y[:3], sample_weight=nothing),
        lambda: model.forget(X[:3], y[:3], sample_weight=nothing),
        lambda: model.merge(emptied),
        lambda: model.unmerge(emptied),
    ):
        call()
        assert model.to_bytes() == before
        assert model.holdout_curve_.evaluated > 0
    # Negative control: rows that count are another matter.
    assert model.partial_fit(X[:3], y[:3]).to_bytes() != before


@pytest.mark.parametrize("rule", ["moments", "ranpac"])
@pytest.mark.parametrize("kind", [gm.AnalyticClassifier, gm.AnalyticRegressor])
def test_rows_of_weight_zero_are_not_held_out_on_a_stream(rng, kind, rule):
    X, y, weight = rng.normal(size=(600, 4)), rng.integers(0, 3, 600), np.ones(600)
    weight[::7] = 0
    bad, there = X.copy(), weight > 0
    bad[::7] = np.nan
    model = kind(ridge="holdout", holdout_rule=rule)
    expected, found = copy.deepcopy(model), copy.deepcopy(model)
    for part in (slice(0, 300), slice(300, 600)):
        expected.partial_fit(X[part][there[part]], y[part][there[part]])
        found.partial_fit(bad[part], y[part], sample_weight=weight[part])
    assert found.to_bytes() == expected.to_bytes()
    expected.forget(X[:100][there[:100]], y[:100][there[:100]])
    found.forget(bad[:100], y[:100], sample_weight=weight[:100])
    assert found.to_bytes() == expected.to_bytes()


def test_rows_of_a_class_of_weight_zero_fit_no_map(rng):
    X, y = rng.normal(size=(500, 4)), rng.integers(0, 3, 500)
    model = gm.AnalyticClassifier(gm.RBFFeatures(20), class_weight={1: 0.0})
    bad = np.where((y == 1)[:, None], np.nan, X)
    expected = copy.deepcopy(model).fit(X[y != 1], y[y != 1])
    assert copy.deepcopy(model).fit(bad, y).feature_map_.gamma_ == expected.feature_map_.gamma_
    # The negative control: the rows would have made another map.
    other = copy.deepcopy(model).set_params(class_weight=None).fit(X, y)
    assert other.feature_map_.gamma_ != expected.feature_map_.gamma_


@pytest.mark.parametrize("kind", [gm.AnalyticClassifier, gm.AnalyticRegressor, gm.CodedClassifier])
def test_a_map_that_is_fitted_to_rows_needs_one_that_counts(rng, kind):
    X, y = rng.normal(size=(50, 4)), rng.integers(0, 3, 50)
    for features in (gm.RBFFeatures(5), gm.FeatureChain([gm.RandomFeatures(6), gm.RBFFeatures(5)])):
        for atomic in (True, False):
            model = kind(feature_map=features)
            with pytest.raises(ValueError, match="sample_weight is zero for all rows"):
                model.partial_fit(X, y, sample_weight=np.zeros(50), atomic=atomic)
            expected = kind(feature_map=features).partial_fit(X, y)
            assert model.partial_fit(X, y).to_bytes() == expected.to_bytes()
    for features in (None, gm.RandomFeatures(6), gm.FeatureChain([gm.RandomFeatures(6), gm.RandomFeatures(5)])):
        model = kind(feature_map=features).partial_fit(X, y, sample_weight=np.zeros(50))
        assert model.n_samples_seen_ == 0


def test_weight_one_is_no_weight(rng):
    X, y = rng.normal(size=(700, 5)), rng.integers(0, 3, 700)
    assert saved_after([(X, y, np.ones(700))], gm.AnalyticClassifier) == saved_after(
        [(X, y, None)], gm.AnalyticClassifier
    )


def test_zero_weights_and_nan_name_the_row_of_the_call(rng):
    X, y = rng.normal(size=(300, 4)), rng.integers(0, 3, 300)
    model = gm.AnalyticClassifier().fit(X, y)
    X[123, 1] = np.nan
    weight = np.ones(300)
    weight[:100] = 0
    for values in (None, weight):
        with pytest.raises(ValueError, match=r"row 123\b"):
            model.partial_fit(X, y, sample_weight=values)


@pytest.mark.parametrize(
    "model",
    [
        gm.AnalyticClassifier(),
        *(gm.AnalyticClassifier(features) for features in MAPS),
        gm.AnalyticClassifier(ridge="gcv"),
        gm.AnalyticClassifier(ridge="holdout"),
        gm.AnalyticClassifier(ridge="loo"),
        gm.AnalyticClassifier(class_weight="balanced"),
        gm.AnalyticClassifier(low_latency=True),
        gm.AnalyticRegressor(),
        gm.AnalyticRegressor(ridge="holdout"),
        gm.AnalyticRegressor(ridge="loo"),
        gm.CodedClassifier(),
        gm.CodedClassifier(feature_map=gm.RBFFeatures(20)),
        gm.DualStreamClassifier(n_features=20),
        gm.GaussianClassifier(gm.RBFFeatures(20)),
    ],
    ids=repr,
)
def test_values_in_rows_of_weight_zero_are_not_looked_at(rng, model):
    X, y, weight = rng.normal(size=(300, 4)), rng.integers(0, 3, 300), np.ones(300)
    weight[100:120] = 0
    bad = X.copy()
    bad[100:110], bad[110:120] = np.nan, np.inf
    expected = copy.deepcopy(model).fit(X, y, sample_weight=weight)
    found = copy.deepcopy(model).fit(bad, y, sample_weight=weight)
    assert checks.file_bytes(found) == checks.file_bytes(expected)
    if isinstance(model, gm.DualStreamClassifier):  # ends its phases with a look at the rows of the next
        for stream, rows in ((expected, X), (found, bad)):
            stream.partial_fit(rows, y, sample_weight=weight, new_phase=True)
        assert checks.file_bytes(found) == checks.file_bytes(expected)
    weight[105] = 1e-300
    with pytest.raises(ValueError, match=r"row 105\b"):
        copy.deepcopy(model).fit(bad, y, sample_weight=weight)


def test_a_class_without_rows_leaves(rng):
    X, y = rng.normal(size=(300, 6)), rng.integers(0, 4, 300)
    model = gm.AnalyticClassifier(ridge=RIDGE).fit(X, y)
    gone = y == 2
    model.forget(X[gone][:10], y[gone][:10])
    np.testing.assert_array_equal(model.classes_, [0, 1, 2, 3])
    model.forget(X[gone][10:], y[gone][10:])
    np.testing.assert_array_equal(model.classes_, [0, 1, 3])
    np.testing.assert_array_equal(model.class_count_, np.bincount(y)[[0, 1, 3]])
    _, coef, intercept = analytic.joint_classifier(X[~gone], y[~gone], RIDGE)
    bound = checks.weight_bound(X[~gone], RIDGE, 600)
    assert checks.relative_error(all_weights(model), checks.stacked(coef, intercept)) <= bound
    # The state beneath keeps the output, as exact zeros.
    state = gm.GramState(6, 4).add_labels(X, y).remove_labels(X[gone], y[gone])
    assert state.counts[2] == 0
    assert (state.moments()[1][2] == 0).all()
    solution = state.solve(RIDGE)
    assert (solution.coef[2] == 0).all() and solution.intercept[2] == 0
    # And it may come again.
    model.partial_fit(X[gone], y[gone])
    _, coef, intercept = analytic.joint_classifier(X, y, RIDGE)
    assert checks.relative_error(all_weights(model), checks.stacked(coef, intercept)) <= checks.weight_bound(
        X, RIDGE, 900
    )


@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("fit_intercept", [True, False])
def test_an_emptied_state_is_a_new_one(rng, dtype, fit_intercept):
    X, Y = rng.normal(size=(9000, 5)) + 3.0, rng.normal(size=(9000, 2))
    fresh = gm.GramState(5, 2, dtype=dtype, fit_intercept=fit_intercept)
    state = gm.GramState(5, 2, dtype=dtype, fit_intercept=fit_intercept).add(X, Y)
    order = rng.permutation(9000)
    for part in np.array_split(order, 3):
        assert state.n_rows > 0
        state.remove(X[part], Y[part])
    assert state.to_bytes() == fresh.to_bytes()
    state.add(X, Y).unmerge(gm.GramState(5, 2, dtype=dtype, fit_intercept=fit_intercept).add(X, Y))
    assert state.to_bytes() == fresh.to_bytes()
    # Having been in use leaves no trace in what comes after.
    again = gm.GramState(5, 2, dtype=dtype, fit_intercept=fit_intercept).add(X[:100], Y[:100])
    assert state.add(X[:100], Y[:100]).to_bytes() == again.to_bytes()


def test_an_emptied_classifier_starts_anew(rng):
    X, y = rng.normal(size=(200, 5)), rng.integers(0, 3, 200)
    model = gm.AnalyticClassifier(ridge=RIDGE).fit(X, y)
    model.forget(X[:150], y[:150]).forget(X[150:], y[150:])
    assert len(model.classes_) == 0
    assert model.n_samples_seen_ == 0
    assert model.state_.to_bytes() == gm.GramState(5, 0).to_bytes()
    with pytest.raises(ValueError, match="has not seen any rows|not fitted"):
        model.predict(X)
    again = gm.AnalyticClassifier(ridge=RIDGE).fit(X[:90], y[:90])
    assert model.partial_fit(X[:90], y[:90]).state_.to_bytes() == again.state_.to_bytes()


# --- what a stream refuses ------------------------------------------------------------------------------------------


@pytest.fixture
def fitted(rng):
    X, y = rng.normal(size=(120, 4)), np.repeat([10, 20, 30], 40)
    return gm.AnalyticClassifier(gm.RandomFeatures(9), ridge=RIDGE).fit(X, y), X, y


def bad_rows(X, at, value):
    X = X.copy()
    X[at, 1] = value
    return X


REFUSED = {
    "nan": (lambda m, X, y: m.partial_fit(bad_rows(X, 33, np.nan), y), ValueError, r"NaN or infinity.*row 33\b"),
    "inf": (lambda m, X, y: m.partial_fit(bad_rows(X, 34, -np.inf), y), ValueError, r"NaN or infinity.*row 34\b"),
    "nan_forgotten": (lambda m, X, y: m.forget(bad_rows(X, 35, np.nan), y), ValueError, r"NaN or infinity.*row 35\b"),
    "nan_new_class": (lambda m, X, y: m.partial_fit(bad_rows(X, 1, np.nan), y + 1), ValueError, r"row 1\b"),
    "width": (lambda m, X, y: m.partial_fit(X[:, :3], y), ValueError, "X has 3 features, but .* expecting 4"),
    "dtype": (lambda m, X, y: m.partial_fit(X.astype("M8[s]"), y), TypeError, "datetime64"),
    "complex": (lambda m, X, y: m.partial_fit(X + 1j, y), ValueError, "Complex data not supported"),
    "no_rows": (lambda m, X, y: m.partial_fit(X[:0], y[:0]), ValueError, r"0 sample\(s\)"),
    "no_columns": (lambda m, X, y: m.partial_fit(X[:, :0], y), ValueError, r"0 feature\(s\)"),
    "lengths": (lambda m, X, y: m.partial_fit(X, y[:-1]), ValueError, r"\[120, 119\]"),
    "label_kind": (lambda m, X, y: m.partial_fit(X, y.astype(str)), TypeError, "text|str"),
    "label_nan": (lambda m, X, y: m.partial_fit(X, np.where(y == 10, np.nan, 1.0)), ValueError, "NaN"),
    "label_continuous": (lambda m, X, y: m.partial_fit(X, y + 0.5), ValueError, "continuous"),
    "weight_negative": (lambda m, X, y: m.partial_fit(X, y, sample_weight=-np.ones(120)), ValueError, "Negative"),
    "weight_nan": (lambda m, X, y: m.partial_fit(X, y, sample_weight=np.full(120, np.nan)), ValueError, "NaN"),
    "weight_length": (lambda m, X, y: m.partial_fit(X, y, sample_weight=np.ones(7)), ValueError, r"\(7,\)"),
    "forget_too_many": (
        lambda m, X, y: m.forget(X[:41], np.full(41, 20)),
        ValueError,
        "cannot forget 41 rows of class '20': the model holds 40",
    ),
    "forget_unseen": (
        lambda m, X, y: m.forget(X[:1], [40]),
        ValueError,
        "cannot forget 1 row of class '40'.*never saw",
    ),
    "forget_mixed": (lambda m, X, y: m.forget(X, np.r_[y[:-1], 40]), ValueError, "class '40'.*never saw"),
    "merge_width": (lambda m, X, y: m.merge(gm.AnalyticClassifier().fit(X, y)), ValueError, "feature|map"),
    "merge_other": (lambda m, X, y: m.merge(gm.AnalyticRegressor().fit(X, y)), TypeError, "AnalyticClassifier"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_a_refused_call_changes_nothing(fitted, case):
    model, X, y = fitted
    call, error, message = REFUSED[case]
    before = checks.file_bytes(model)
    with pytest.raises(error, match=message):
        call(model, X, y)
    assert checks.file_bytes(model) == before
    np.testing.assert_array_equal(model.classes_, [10, 20, 30])


@pytest.mark.parametrize("verb", ["partial_fit", "forget"])
def test_a_bad_row_in_a_late_block_changes_nothing(rng, verb):
    X, y = rng.normal(size=(30_000, 3)), np.zeros(30_000, dtype=int)
    model = gm.AnalyticClassifier(ridge=RIDGE).fit(X, y)
    before = checks.file_bytes(model)
    X[29_999, 2] = np.inf
    with pytest.raises(ValueError, match=r"row 29999\b"):
        getattr(model, verb)(X, y)
    assert checks.file_bytes(model) == before


def test_in_place_a_bad_row_leaves_the_rows_before_its_block(rng):
    X, y = rng.normal(size=(30_000, 3)), rng.integers(0, 3, 30_000)
    bad = X.copy()
    bad[29_000, 0] = np.nan
    model = gm.AnalyticClassifier(ridge=RIDGE).fit(X[:500], y[:500])
    with pytest.raises(ValueError, match=r"row 29000\b"):
        model.partial_fit(bad, y, atomic=False)
    taken = model.n_samples_seen_ - 500
    assert 0 < taken <= 29_000
    same = gm.AnalyticClassifier(ridge=RIDGE).fit(X[:500], y[:500]).partial_fit(X[:taken], y[:taken], atomic=False)
    assert model.state_.to_bytes() == same.state_.to_bytes()


def test_refused_rows_leave_an_emptied_model_as_it_was(rng):
    X = rng.normal(size=(20, 3))
    model = gm.AnalyticClassifier().fit(X, np.arange(20) % 2)
    model.forget(X, np.arange(20) % 2)
    before = model.to_bytes()
    with pytest.raises(ValueError, match="NaN"):
        model.partial_fit(np.full((2, 3), np.nan), ["a", "b"])
    assert model.to_bytes() == before
    model.partial_fit(X, np.where(np.arange(20) % 2 == 0, "a", "longer"))
    assert list(model.classes_) == ["a", "longer"]
