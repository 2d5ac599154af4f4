"""Weights that follow their rows equal the weights that are solved from the sums, after every batch."""

import pickle

import numpy as np
import pytest
from reference_path import analytic, checks, update

import gramian as gm
from gramian import AnalyticClassifier, AnalyticRegressor, RandomFeatures

EPS, relative_error, stacked, weight_bound = checks.EPS, checks.relative_error, checks.stacked, checks.weight_bound
aged_ridge, aged_weights = update.aged_ridge, update.aged_weights


def weights_of(model):
    """Weights and intercepts of all outputs."""
    coef = np.atleast_2d(model.coef_)
    return stacked(coef, np.broadcast_to(model.intercept_, len(coef)))


def assert_same(live, lazy, bound=1e-10):
    """Equal weights, where there is a scale to compare on."""
    found, expected = weights_of(live), weights_of(lazy)
    assert np.linalg.norm(found - expected) <= bound * max(np.linalg.norm(expected), 1.0)


def stream(rng, d, n, classes, dtype=np.float64):
    """Rows around different means, new classes as time goes by."""
    y = np.minimum(rng.integers(0, classes, n), np.arange(n) * classes // n)
    X = rng.normal(size=(n, d)) + 3.0 + 0.5 * np.eye(classes, d)[y]
    return X.astype(dtype), y


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
@pytest.mark.parametrize("fit_intercept", [True, False])
@pytest.mark.parametrize("weighted", [False, True])
def test_classifier_follows_every_row(rng, dtype, fit_intercept, weighted):
    X, y = stream(rng, 20, 90, 4, dtype)
    w = rng.random(90) + 0.1 if weighted else np.ones(90)
    w[7] = 0
    live = AnalyticClassifier(ridge=0.5, low_latency=True, fit_intercept=fit_intercept)
    lazy = AnalyticClassifier(ridge=0.5, fit_intercept=fit_intercept)
    for model in (live, lazy):
        model.partial_fit(X[:3], y[:3], sample_weight=w[:3])
    live.decision_function(X[:1])
    for k in range(3, 90):
        for model in (live, lazy):
            model.partial_fit(X[k : k + 1], y[k : k + 1], sample_weight=w[k : k + 1])
        assert np.array_equal(live.classes_, lazy.classes_)
        assert_same(live, lazy)
    report = live.report_
    assert (report.method, report.updates, report.anchors) == ("cholesky_updated", 86, 1)
    assert report.residual <= 1e-12
    # And out again, oldest first, until classes leave.
    for k in range(0, 80):
        if w[k] == 0:
            continue
        for model in (live, lazy):
            model.forget(X[k : k + 1], y[k : k + 1], sample_weight=w[k : k + 1])
        assert np.array_equal(live.classes_, lazy.classes_)
        assert_same(live, lazy)
    assert live.report_.updates > 100 or live.report_.anchors > 1
    np.testing.assert_allclose(live.predict_proba(X), lazy.predict_proba(X), rtol=1e-7, atol=1e-9)


@pytest.mark.parametrize("fit_intercept", [True, False])
@pytest.mark.parametrize("batch", [2, 7, 11, 40])
def test_regressor_follows_batches(rng, batch, fit_intercept):
    d = 120
    X = rng.normal(size=(400, d)) @ np.diag(np.linspace(0.2, 2, d)) + 100.0
    Y = X[:, :3] * [1.0, -2.0, 0.5] + rng.normal(size=(400, 3))
    w = rng.random(400)
    live = AnalyticRegressor(ridge=1e-2, low_latency=True, fit_intercept=fit_intercept)
    lazy = AnalyticRegressor(ridge=1e-2, fit_intercept=fit_intercept)
    for begin in range(0, 400, batch):
        part = slice(begin, begin + batch)
        for model in (live, lazy):
            model.partial_fit(X[part], Y[part], sample_weight=w[part])
        bound = weight_bound(X[: part.stop], 1e-2, 4, fit_intercept=fit_intercept, weight=w[: part.stop], factor=10)
        assert_same(live, lazy, max(1e-10, bound))
    report = live.report_
    expected = "cholesky" if batch > d // 8 else "cholesky_updated"
    assert report.method == expected
    for begin in range(0, 200, batch):
        part = slice(begin, min(begin + batch, 200))
        for model in (live, lazy):
            model.forget(X[part], Y[part], sample_weight=w[part])
        assert_same(live, lazy, 1e-8 if not fit_intercept else 1e-9)


def test_multi_label_and_maps(rng):
    X = rng.normal(size=(150, 6))
    Y = (X[:, :3] > 0).astype(int)
    for dtype, bound in ((None, 1e-10), ("float32", 2e-4)):
        live = AnalyticClassifier(RandomFeatures(40), ridge=1.0, low_latency=True, dtype=dtype)
        lazy = AnalyticClassifier(RandomFeatures(40), ridge=1.0, dtype=dtype)
        for k in range(0, 150, 3):
            for model in (live, lazy):
                model.partial_fit(X[k : k + 3], Y[k : k + 3])
            assert_same(live, lazy, bound)
        assert live.report_.method == "cholesky_updated"


@pytest.mark.parametrize("fit_intercept", [True, False])
@pytest.mark.parametrize("low_latency", [True, False])
@pytest.mark.parametrize("batch", [1, 5, 60])
def test_forgetting_is_a_weighted_batch(rng, batch, low_latency, fit_intercept):
    d, n, f = 12, 180, 0.97
    X = rng.normal(size=(n, d)) + 5.0
    Y = rng.normal(size=(n, 2))
    w = rng.random(n) + 0.1
    w[::9] = 0
    model = AnalyticRegressor(ridge=0.3, low_latency=low_latency, forgetting=f, fit_intercept=fit_intercept)
    for begin in range(0, n, batch):
        part = slice(begin, begin + batch)
        model.partial_fit(X[part], Y[part], sample_weight=w[part])
        if begin == 0 or begin + batch >= 60:
            end = min(begin + batch, n)
            if not (w[:end] > 0).any():
                continue
            expected = stacked(*aged_ridge(X[:end], Y[:end], 0.3, f, w[:end], fit_intercept))
            assert relative_error(weights_of(model), expected) <= 1e-9
    left = aged_weights(n, f, w)[1]
    assert model.ridge_ == pytest.approx(0.3 * left, rel=1e-12)
    # Negative control: rows that do not age give other weights.
    plain = AnalyticRegressor(ridge=0.3, fit_intercept=fit_intercept).fit(X, Y, sample_weight=w)
    assert relative_error(weights_of(plain), stacked(*aged_ridge(X, Y, 0.3, f, w, fit_intercept))) > 1e-2


def test_strong_forgetting_of_a_long_batch(rng):
    X, Y = rng.normal(size=(900, 5)), rng.normal(size=(900, 1))
    model = AnalyticRegressor(ridge=1.0, forgetting=0.9).fit(X[:300], Y[:300])
    model.partial_fit(X[300:], Y[300:])
    assert relative_error(weights_of(model), stacked(*aged_ridge(X[700:], Y[700:], 1e-80, 0.9))) <= 1e-8
    with pytest.raises(ValueError, match="NaN"):
        model.partial_fit(np.full((300, 5), np.nan), Y[:300])
    assert relative_error(weights_of(model), stacked(*aged_ridge(X[700:], Y[700:], 1e-80, 0.9))) <= 1e-8


def test_forget_with_the_weight_of_the_day(rng):
    X, Y = rng.normal(size=(60, 4)), rng.normal(size=(60, 1))
    model = AnalyticRegressor(ridge=0.5, low_latency=True, forgetting=0.95)
    for k in range(60):
        model.partial_fit(X[k : k + 1], Y[k : k + 1])
        model.coef_  # noqa: B018
    model.forget(X[50:51], Y[50:51], sample_weight=[0.95**9])
    w, left = aged_weights(60, 0.95)
    w[50] = 0
    assert relative_error(weights_of(model), stacked(*analytic.ridge(X, Y, 0.5 * left, w))) <= 1e-10


def test_anchors(rng):
    X, y = rng.normal(size=(1400, 6)), rng.normal(size=1400)
    model = AnalyticRegressor(ridge=1.0, low_latency=True)
    seen = []
    for k in range(1400):
        model.partial_fit(X[k : k + 1], y[k : k + 1])
        seen.append((model.report_.method, model.report_.updates, model.report_.anchors))
    assert seen[0] == ("cholesky", 0, 1)
    assert seen[1024] == ("cholesky_updated", 1024, 1)
    assert seen[1025] == ("cholesky", 0, 2)
    assert seen[-1] == ("cholesky_updated", 374, 2)
    assert_same(model, AnalyticRegressor(ridge=1.0).fit(X, y))
    other = AnalyticRegressor(ridge=1.0, low_latency=True).fit(X[:10], y[:10])
    model.merge(other)
    assert model.report_.anchors == 3 and model.report_.updates == 0


def test_refused_removal_makes_the_factor_anew(rng):
    d = 30
    X, y = rng.normal(size=(40, d)), rng.normal(size=40)
    big = 1e6 * rng.normal(size=(1, d))
    live, lazy = (AnalyticRegressor(ridge=1e-3, low_latency=low, fit_intercept=False) for low in (True, False))
    for model in (live, lazy):
        model.fit(X, y)
        model.coef_  # noqa: B018
        model.partial_fit(big, [1.0]).coef_  # noqa: B018
        model.forget(big, [1.0])
    # 1 - leverage of the large row is far below what an update could take out.
    assert live.report_.method == "cholesky" and live.report_.anchors == 2
    assert_same(live, lazy, 1e-9)


def test_inverse_recursion_is_what_it_replaces(rng):
    """10^4 rows one at a time at a ridge of 1e-3: weights that followed to 1e-11, the recursion at 1e-7.

    Rectified features of 32 numbers of size 100, so that the largest eigenvalue of G is 6e13 ridges while the condition
    in the end is some hundred: what the recursion lost early, at that condition, stays lost. At size 5, 1.6e11 ridges,
    it is at 1e-9. (The factor itself is held against its Gram matrix, to 1e-12, in the tests of C++.)
    """
    d, n, ridge = 120, 10_000, 1e-3
    X = np.maximum(100 * rng.normal(size=(n, 32)) @ rng.normal(size=(32, d)), 0)
    Y = rng.normal(size=(n, 3))
    A = X.T @ X + ridge * np.eye(d)
    assert np.linalg.cond(A) < 2000 and np.linalg.norm(A, 2) > 1e13 * ridge
    model = AnalyticRegressor(ridge=ridge, low_latency=True, fit_intercept=False)
    peer = update.InverseRecursion(d, 3, ridge)
    for k in range(n):
        model.partial_fit(X[k : k + 1], Y[k : k + 1])
        if k % 100 == 0:
            model.coef_  # noqa: B018  a factor that was dropped is made anew when it is asked for
        peer.step(X[k : k + 1], Y[k : k + 1])
    assert model.report_.method == "cholesky_updated" and model.report_.updates > 0
    joint = np.linalg.solve(A, X.T @ Y)
    assert relative_error(model.coef_.T, joint) <= 1e-11
    assert relative_error(peer.W, joint) >= 1e-7  # negative control


def test_many_rows_one_at_a_time(rng):
    """At a ridge of 1e-3 the weights that followed every row are those of one fit: 1e-12, however long the stream.

    The first rows do not determine the weights. The factor itself follows 10^5 rows in the tests of C++.
    """
    d, n = 6, 20_000
    X = np.maximum(8 * rng.normal(size=(n, d)), 0)
    X[:1000, 3:] = X[:1000, :3]
    y = X @ rng.normal(size=d) + rng.normal(size=n)
    model = AnalyticRegressor(ridge=1e-3, low_latency=True, fit_intercept=False).fit(X[:1], y[:1])
    model.coef_  # noqa: B018
    for k in range(1, n):
        model.partial_fit(X[k : k + 1], y[k : k + 1])
        if k % 500 == 0:
            model.coef_  # noqa: B018  a factor that was dropped is made anew when it is asked for
    report = model.report_
    assert report.method == "cholesky_updated" and report.anchors >= n // 1600
    G = X.T @ X + 1e-3 * np.eye(d)
    state = model.state_.moments()[0]
    assert relative_error(state + 1e-3 * np.eye(d), G) <= 1e-12
    expected, _ = analytic.ridge(X, y, 1e-3, fit_intercept=False, dtype=np.longdouble)
    assert relative_error(model.coef_, np.asarray(expected, dtype=np.float64)[0]) <= 1e-12
    peer = update.InverseRecursion(d, 1, 1e-3)  # negative control, on a tenth of the rows
    for k in range(2000):
        peer.step(X[k : k + 1], y[k : k + 1, np.newaxis])
    joint = np.linalg.solve(X[:2000].T @ X[:2000] + 1e-3 * np.eye(d), X[:2000].T @ y[:2000])
    assert relative_error(peer.W[:, 0], joint) > 1e-12


def test_saved_and_pickled(rng, tmp_path):
    X, y = stream(rng, 10, 60, 3)
    model = AnalyticClassifier(ridge=0.5, low_latency=True, forgetting=0.99)
    for k in range(0, 40, 2):
        model.partial_fit(X[k : k + 2], y[k : k + 2]).coef_  # noqa: B018
    model.save(tmp_path / "full")
    model.save(tmp_path / "weights", what="weights")
    light = gm.load(tmp_path / "weights")
    assert relative_error(weights_of(light), weights_of(model)) <= 1e-15
    for copy in (gm.load(tmp_path / "full"), pickle.loads(pickle.dumps(model))):
        assert copy.get_params()["low_latency"] is True and copy.get_params()["forgetting"] == 0.99
        assert copy.ridge_ == model.ridge_
        assert copy.report_.method == "cholesky" and copy.report_.anchors == 1
        assert_same(copy, model)
        for k in range(40, 60):
            copy.partial_fit(X[k : k + 1], y[k : k + 1])
        assert copy.report_.method == "cholesky_updated"
        w, left = aged_weights(60, 0.99)
        expected = AnalyticClassifier(ridge=0.5 * left).fit(X, y, sample_weight=w)
        assert_same(copy, expected)


@pytest.mark.parametrize("low_latency", [True, False])
@pytest.mark.parametrize("fit_intercept", [True, False])
def test_looking_at_the_sums_changes_no_bit(rng, fit_intercept, low_latency):
    """Single rows join the Gram matrix some at a time; nothing says which of them came with which."""
    X, y = stream(rng, 40, 120, 3)
    X[60:] += 50  # the shift has to follow
    models = [
        AnalyticClassifier(ridge=0.5, low_latency=low_latency, fit_intercept=fit_intercept, n_jobs=threads)
        for threads in (1, 2)
    ]
    seen, unseen = models
    for model in models:
        model.fit(X[:20], y[:20]).coef_  # noqa: B018
    for k in range(20, 120):
        for model in models:
            model.partial_fit(X[k : k + 1], y[k : k + 1])
            if k % 30 == 0:
                model.forget(X[k : k + 1], y[k : k + 1])
        _ = seen.state_, seen.to_bytes(), pickle.dumps(seen)
        if k == 50:
            assert np.array_equal(seen.coef_, unseen.coef_)
    assert seen.to_bytes() == unseen.to_bytes()
    assert np.array_equal(seen.coef_, unseen.coef_)
    with pytest.raises(ValueError, match="NaN"):
        unseen.partial_fit(np.full((1, 40), np.nan), y[:1])
    assert seen.to_bytes() == unseen.to_bytes()
    unseen.partial_fit(X[:1], y[:1])
    assert seen.to_bytes() != unseen.to_bytes()


def test_errors_change_nothing(rng):
    X, y = stream(rng, 10, 60, 3)
    model = AnalyticClassifier(low_latency=True).fit(X, y)
    before, report = weights_of(model), model.report_
    with pytest.raises(ValueError, match="NaN"):
        model.partial_fit(np.full((1, 10), np.nan), [9])
    with pytest.raises(ValueError, match="never saw"):
        model.forget(X[:1], [7])
    assert np.array_equal(weights_of(model), before)
    assert model.report_.anchors == report.anchors
    assert np.array_equal(model.classes_, [0, 1, 2])


@pytest.mark.parametrize("rule", ["gcv", "loo"])
@pytest.mark.parametrize("kind", [AnalyticClassifier, AnalyticRegressor])
def test_fit_chooses_the_ridge_and_the_factor_follows_at_it(rng, tmp_path, rule, kind):
    X, y = stream(rng, 15, 160, 3)
    grid = np.logspace(-2, 4, 13)
    model = kind(ridge=rule, ridges=grid, low_latency=True)
    assert not hasattr(model, "partial_fit")
    with pytest.raises(ValueError, match="begin with fit"):
        model.partial_fit(X, y)
    model.fit(X[:80], y[:80])
    lazy = kind(ridge=rule, ridges=grid).fit(X[:80], y[:80])
    chosen = model.ridge_
    assert chosen == lazy.ridge_
    assert model.gcv_at_edge_ == lazy.gcv_at_edge_
    fixed = kind(ridge=chosen).fit(X[:80], y[:80])
    assert_same(model, fixed)
    for k in range(80, 120):
        for one in (model, fixed):
            one.partial_fit(X[k : k + 1], 3 * y[k : k + 1])
        assert_same(model, fixed)
    model.forget(X[:1], y[:1])
    fixed.forget(X[:1], y[:1])
    assert_same(model, fixed)
    report = model.report_
    assert (report.method, report.updates, report.anchors, report.ridge) == ("cholesky_updated", 41, 1, chosen)
    model.save(tmp_path / "model")
    for copy in (pickle.loads(pickle.dumps(model)), gm.load(tmp_path / "model")):
        assert copy.ridge_ == chosen
        copy.partial_fit(X[120:125], y[120:125])
        assert copy.ridge_ == chosen and copy.report_.method == "cholesky_updated"
    with pytest.raises(ValueError, match="begin with fit"):
        kind(ridge=rule, low_latency=True).merge(model)
    record = gm.unlearn(model, X[80:81], 3 * y[80:81])
    assert {one.what: one.status for one in record.dependencies}["ridge"] == "depends"
    # The next fit chooses again.
    noise = rng.normal(size=(200, 15))
    labels = rng.integers(0, 2, 200)
    again = model.fit(noise, labels).ridge_
    assert again == kind(ridge=rule, ridges=grid).fit(noise, labels).ridge_ != chosen


def test_a_ridge_of_the_day_is_another_one(rng):
    """Negative control: without low latency "gcv" chooses again."""
    X = rng.normal(size=(300, 10))
    y = X @ rng.normal(size=10)
    grid = np.logspace(-4, 4, 9)
    live, lazy = (AnalyticRegressor(ridge="gcv", ridges=grid, low_latency=low) for low in (True, False))
    for model in (live, lazy):
        model.fit(X[:40], y[:40])
        assert model.ridge_ < 1
        model.partial_fit(X[40:], rng.normal(size=260) * 30)
    assert live.ridge_ < 1 < lazy.ridge_


@pytest.mark.parametrize("kind", [AnalyticClassifier, AnalyticRegressor])
def test_bad_parameters(kind):
    X, y = np.arange(8.0).reshape(4, 2), [0, 1, 0, 1]
    for params, message in (
        ({"low_latency": True, "ridge": "holdout"}, "a number, 'gcv' or 'loo'"),
        ({"forgetting": 0.9, "ridge": "gcv"}, "a ridge that is a number, got"),
        ({"forgetting": 0.9, "low_latency": True, "ridge": "loo"}, "a ridge that is a number, got"),
        ({"low_latency": True, "width": "loo"}, "width"),
        ({"low_latency": True, "standardize": True}, "standardize"),
        ({"forgetting": 0.0}, "forgetting"),
        ({"forgetting": 1.5}, "forgetting"),
        ({"forgetting": "slow"}, "forgetting"),
    ):
        with pytest.raises(ValueError, match=message):
            kind(**params).fit(X, y)


def test_singular_systems_go_down_the_ladder(rng):
    X = rng.normal(size=(50, 6))
    X = np.hstack([X, X[:, :1]])
    live = AnalyticRegressor(ridge=0.0, low_latency=True, fit_intercept=False)
    with pytest.raises(np.linalg.LinAlgError, match="rank is 6 of 7"):
        live.fit(X, X[:, 0]).coef_  # noqa: B018


def test_large_means(rng):
    X = rng.normal(size=(300, 8))
    y = X @ rng.normal(size=8)
    model = AnalyticRegressor(ridge=1e-3, low_latency=True).fit(X[:30] + 1e6, y[:30])
    for k in range(30, 300):
        model.coef_  # noqa: B018
        model.partial_fit(X[k : k + 1] + 1e6, y[k : k + 1])
    assert model.report_.method == "cholesky_updated"
    plain = AnalyticRegressor(ridge=1e-3).fit(X, y)
    # The rows themselves are rounded to 1e6 eps.
    assert relative_error(model.coef_, plain.coef_) <= 1e6 * EPS * 100
