"""Exact deletion: against retraining, with its bound, and what the record says and refuses."""

import dataclasses
import json

import numpy as np
import pytest
import scipy.sparse
from reference_path import analytic, checks, influence

import gramian as gm
from gramian import unlearning


def rows(rng, n=300, d=20):
    X = rng.normal(size=(n, d)) @ rng.normal(size=(d, d)) / np.sqrt(d) + 1.0
    return X, X @ rng.normal(size=d) + rng.normal(size=n)


def state_bytes(model):
    return model.state_.to_bytes()


@pytest.mark.parametrize("ridge", [1e-3, 1.0, 100.0])
@pytest.mark.parametrize("size", [1, 50, 270])
def test_is_retraining(rng, ridge, size):
    X, y = rows(rng)
    model = gm.AnalyticRegressor(ridge=ridge).fit(X, y)
    gone = rng.permutation(len(X))[:size]
    keep = np.setdiff1d(np.arange(len(X)), gone)
    record = gm.unlearn(model, X[gone], y[gone])
    coef, _ = analytic.ridge(X[keep], y[keep], ridge)
    # 10 eps cond(A), A that of the rows that are left, and of no larger sums before.
    Xc, all_rows = X[keep] - X[keep].mean(axis=0), X - X.mean(axis=0)
    A = Xc.T @ Xc + ridge * np.eye(20)
    promised = 10 * checks.EPS * np.linalg.cond(A)
    error = checks.relative_error(model.coef_, coef[0])
    assert error <= promised
    # What the record says is a proven bound: every product of every sum rounded the same way, around a shift that the
    # rows had; it is no larger than that takes, with the largest trace rounded up to a power of two.
    trace, energy = np.trace(all_rows.T @ all_rows), ((y - y.mean()) ** 2).sum()
    largest = 16 * (len(X) + 20) * checks.EPS * (trace + np.sqrt(trace * energy) / np.linalg.norm(coef))
    assert error <= record.error_bound <= largest / np.linalg.eigvalsh(A)[0]
    assert record.rows == size
    # Negative control: products of single precision break the promise.
    single = gm.AnalyticRegressor(ridge=ridge, dtype="float32").fit(X, y)
    gm.unlearn(single, X[gone], y[gone])
    assert checks.relative_error(single.coef_, coef[0]) > 100 * promised


@pytest.mark.parametrize("size", [1, 100, 1500])
def test_the_promise_of_larger_sets(rng, size):
    """10 eps cond(A) for thousands of rows and a condition that the ridge does not mend."""
    X, y = rows(rng, n=2000)
    X = X * np.logspace(0, -2, 20)
    model = gm.AnalyticRegressor(ridge=1e-3).fit(X, y)
    gm.unlearn(model, X[:size], y[:size])
    coef, _ = analytic.ridge(X[size:], y[size:], 1e-3, dtype=np.longdouble)
    Xc = X[size:] - X[size:].mean(axis=0)
    promised = 10 * checks.EPS * np.linalg.cond(Xc.T @ Xc + 1e-3 * np.eye(20))
    assert checks.relative_error(model.coef_, np.asarray(coef[0], dtype=np.float64)) <= promised


def test_a_thousandfold_in_and_out(rng):
    """10^4 random batches in and out again: drift stays below 1e-12 of the largest sums held."""
    d = 6
    X, y = rows(rng, n=50, d=d)
    state = gm.GramState(d, 1).add(X, y)
    before, largest = state.moments()[0], 0.0
    batches = [(rng.normal(size=(2, d)) * rng.choice([0.1, 1.0, 30.0]), rng.normal(size=2)) for _ in range(10_000)]
    for one in batches:
        state.add(*one)
    largest = np.linalg.norm(state.moments()[0])
    for place in rng.permutation(len(batches)):
        state.remove(*batches[place])
    drift = np.linalg.norm(state.moments()[0] - before)
    assert drift <= 1e-12 * largest
    model = gm.AnalyticRegressor().fit(X, y)
    for one in batches[:50]:
        model.partial_fit(*one)
    for one in batches[:50]:
        record = gm.unlearn(model, *one)
    assert checks.relative_error(model.coef_, analytic.ridge(X, y, 1.0)[0][0]) <= record.error_bound < 1e-6


@pytest.mark.slow
def test_a_hundred_thousand_batches_in_and_out(rng):
    """10^5 random batches in and then out again in another order: drift below 1e-12 of the largest sums held."""
    d, count = 4, 100_000
    X, y = rows(rng, n=50, d=d)
    state = gm.GramState(d, 1).add(X, y)
    before = state.moments()
    batches = rng.normal(size=(count, 2, d)) * rng.choice([0.1, 1.0, 30.0], size=(count, 1, 1))
    targets = rng.normal(size=(count, 2))
    for one, target in zip(batches, targets, strict=True):
        state.add(one, target)
    flat = np.vstack([X, batches.reshape(-1, d)])
    largest = np.linalg.norm(state.moments()[0])
    # What is held in the middle is the batch answer, and the drift is what came back out of it.
    assert np.linalg.norm(state.moments()[0] - flat.T @ flat) <= 1e-12 * largest
    coef, _ = analytic.ridge(flat, np.concatenate([y, targets.ravel()]), 1.0)
    assert checks.relative_error(state.solve(1.0).coef, coef) <= 1e-11
    for place in rng.permutation(count):
        state.remove(batches[place], targets[place])
    after = state.moments()
    assert state.n_rows == 50
    assert np.linalg.norm(after[0] - before[0]) <= 1e-12 * largest
    left = state.solve(1.0)
    assert checks.relative_error(left.coef, analytic.ridge(X, y, 1.0)[0]) <= left.report.removal_bound
    # Negative control: sums of single precision drift far beyond it.
    single = np.zeros((d, d), dtype=np.float32)
    for one in batches[:2000].astype(np.float32):
        single += one.T @ one
    for one in batches[:2000][::-1].astype(np.float32):
        single -= one.T @ one
    part = batches[:2000].reshape(-1, d)
    assert np.linalg.norm(single) > 1e-9 * np.linalg.norm(part.T @ part)


def test_everything_deleted_is_exactly_nothing(rng):
    X, y = rows(rng)
    for model, targets in ((gm.AnalyticRegressor(), y), (gm.AnalyticClassifier(), np.where(y > 0, "up", "down"))):
        model.fit(X, targets)
        order = rng.permutation(len(X))
        record = gm.unlearn(model, X[order], targets[order], budget=0.0)
        assert model.n_samples_seen_ == 0
        assert record.error_bound == 0.0
        assert not np.any(model.state_.moments()[0])
        assert not np.any(model.state_.moments()[1])
        assert record.verify(model)
    assert dict(record.classes) == {("text", "up"): (y > 0).sum(), ("text", "down"): (y <= 0).sum()}
    assert set(record.classes_removed) == {("text", "up"), ("text", "down")}


def test_budget_is_checked_before_anything_changes(rng):
    X, y = rows(rng)
    model = gm.AnalyticRegressor(ridge=1e-6).fit(X, y)
    before, weights = state_bytes(model), model.coef_
    with pytest.raises(ValueError, match="above the budget of 1e-18; nothing was changed.*fit a new model"):
        gm.unlearn(model, X[:5], y[:5], budget=1e-18)
    assert state_bytes(model) == before
    assert np.array_equal(model.coef_, weights)
    record = gm.unlearn(model, X[:5], y[:5], budget=1e-6)
    assert 0 < record.error_bound <= record.budget == 1e-6
    assert record.error_bound == model.report_.removal_bound


def test_single_precision_is_refused_by_a_tight_budget(rng):
    X, y = rows(rng)
    model = gm.AnalyticRegressor(dtype="float32").fit(X.astype(np.float32), y.astype(np.float32))
    with pytest.raises(ValueError, match="above the budget"):
        gm.unlearn(model, X[:5].astype(np.float32), y[:5].astype(np.float32), budget=1e-9)


@pytest.mark.parametrize("how", ["pickle", "file"])
def test_record_survives_and_verifies(rng, how):
    X, y = rows(rng)
    labels = np.array(["a", "b", "c"])[rng.integers(0, 3, len(X))]
    model = gm.AnalyticClassifier(gm.RandomFeatures(40)).fit(X, labels)
    record = gm.unlearn(model, X[:10], labels[:10], time="2024-06-11")
    text = record.to_json()
    again = gm.DeletionRecord.from_json(text)
    assert again == record
    assert again.digest() == record.digest()
    assert json.loads(text)["time"] == again.time == "2024-06-11"
    assert sum(count for _, count in record.classes) == 10
    other = checks.reloaded(model, how, gm.load)
    assert record.verify(other)
    assert record.verify(other, X[:10], labels[:10])
    assert not record.verify(other, X[1:11], labels[1:11])
    other.partial_fit(X[:1], labels[:1])
    assert not record.verify(other)
    assert record.clean
    assert "DeletionRecord" in str(record)
    for wrong in (
        text.replace('"rows": 10', '"rows": 11'),
        "{}",
        "[]",
        "x",
        text.replace('"format": 1', '"format": 2'),
    ):
        with pytest.raises(ValueError, match="deletion record"):
            gm.DeletionRecord.from_json(wrong)


def test_records_make_a_chain(rng):
    X, y = rows(rng)
    model = gm.AnalyticRegressor().fit(X, y)
    first = gm.unlearn(model, X[:3], y[:3])
    second = gm.unlearn(model, X[3:6], y[3:6], previous=first)
    assert second.follows(first)
    assert not first.follows(second)
    assert second.error_bound >= first.error_bound
    model.partial_fit(X[:1], y[:1])
    with pytest.raises(ValueError, match="something else changed the model"):
        gm.unlearn(model, X[6:7], y[6:7], previous=second)


def test_time_is_not_in_the_digest(rng):
    X, y = rows(rng)
    record = gm.unlearn(gm.AnalyticRegressor().fit(X, y), X[:1], y[:1])
    later = dataclasses.replace(record, time="later")
    assert later.digest() == record.digest()
    assert dataclasses.replace(record, rows=2).digest() != record.digest()


def status(record, what):
    return next(one.status for one in record.dependencies if one.what == what)


def test_what_else_depends(rng):
    X, y = rows(rng)
    for feature_map, expected in (
        (None, "clean"),
        (gm.RandomFeatures(30), "clean"),
        (gm.RBFFeatures(X[:4] + 0.5, gamma=0.1), "clean"),
        (gm.RBFFeatures(X[:4] + 0.5), "unknown"),
        (gm.RBFFeatures(len(X), gamma=0.1), "depends"),  # every row is a centre
        (gm.RBFFeatures(X[:4] + 0.5, gamma=0.1, origin="rows"), "unknown"),
        (gm.RBFFeatures.from_stream([X[5:], X[:5]], centers=4), "unknown"),  # its draw holds none of the first five
        (gm.RBFFeatures.from_stream([X], centers=len(X), gamma=0.1), "depends"),
        (gm.FeatureChain([gm.RandomFeatures(8), gm.RBFFeatures(9, gamma=0.1)]), "unknown"),
        (gm.FeatureChain([gm.RandomFeatures(8), gm.RBFFeatures(np.ones((2, 8)), gamma=0.1)]), "unknown"),
        (gm.FeatureChain([gm.RandomFeatures(8), gm.RandomFeatures(8)]), "clean"),
        (gm.FeatureChain([gm.RBFFeatures(len(X), gamma=0.1), gm.RandomFeatures(8)]), "depends"),
    ):
        model = gm.AnalyticRegressor(feature_map).fit(X, y)
        before = state_bytes(model)
        if expected != "clean":
            with pytest.raises(ValueError, match="not be free of the rows.*nothing was changed"):
                gm.unlearn(model, X[:5], y[:5], strict=True)
            assert state_bytes(model) == before
        record = gm.unlearn(model, X[:5], y[:5], strict=expected == "clean")
        assert status(record, "feature map") == expected
        assert record.clean is (expected == "clean")
        assert status(record, "preprocessing") == "outside"
        assert status(record, "error account") == "counts"
        for what in ("ridge", "standardisation", "shift", "classes", "temperature", "width"):
            assert status(record, what) == "clean"


@pytest.mark.parametrize("how", ["pickle", "file", "clone"])
def test_centres_of_a_stream_stay_marked(rng, how):
    X, y = rows(rng)
    drawn = gm.RBFFeatures.from_stream([X], centers=5)
    assert drawn.origin == "rows" == drawn.get_params()["origin"]
    others = np.flatnonzero(~(X[:, np.newaxis] == drawn.centers).all(axis=2).any(axis=1))[:5]
    layers = [gm.RandomFeatures(8)]
    behind = gm.RBFFeatures.from_stream([layers[0].fit_transform(X)], centers=len(X))  # every row is a centre
    for feature_map in (drawn, gm.FeatureChain([*layers, behind]), gm.FusedFeatures(1, maps=drawn)):
        if how == "clone":
            feature_map = pytest.importorskip("sklearn").base.clone(feature_map)
        model = gm.AnalyticRegressor(feature_map).fit(X, y)
        if how != "clone":
            model = checks.reloaded(model, how, gm.load)
        before = state_bytes(model)
        with pytest.raises(ValueError, match="feature map: .*rows.*Give centres"):
            gm.unlearn(model, X[others], y[others], strict=True)
        assert state_bytes(model) == before
        assert status(gm.unlearn(model, X[others], y[others]), "feature map") == "unknown"
    with pytest.raises(ValueError, match="origin must be one of"):
        gm.RBFFeatures([[0.0]], gamma=1.0, origin="stream").fit(np.ones((2, 1)))


@pytest.mark.parametrize("standardize", [False, True])
def test_the_size_of_a_deleted_row_is_left_to_a_power_of_two(rng, standardize):
    X, y = rows(rng, n=30, d=4)

    def after(size):
        model = gm.AnalyticRegressor(fit_intercept=False, standardize=standardize).partial_fit(X, y)
        big = np.array([[1.0, 2.0, -2.0, 4.0]]) * size
        model.partial_fit(big, [3.0])
        record = gm.unlearn(model, big, [3.0], strict=True)
        assert record.clean and status(record, "error account") == "counts"
        header, tensors = unlearning._parts_of_file(model.state_.to_bytes())
        (name,) = (name for name in header if name.endswith("largest_diagonal"))
        begin, end = header[name]["data_offsets"]
        squares = np.frombuffer(tensors[begin:end])
        assert (np.frexp(squares)[0] == 0.5).all() and (squares >= big[0] ** 2).all()
        return model.state_.largest_trace, (X**2).sum() + (big**2).sum()

    (small, exact), (large, above) = after(1000.0), after(1010.0)
    assert small == large and np.frexp(small)[0] == 0.5  # one power of two for both, and no less than either
    assert exact < above <= small < 2 * exact
    # Negative control: rows of another power of two are told apart.
    assert after(4000.0)[0] == 16 * small
    # Nothing is left of it where no row is.
    model = gm.AnalyticRegressor(fit_intercept=False).fit(X, y)
    assert status(gm.unlearn(model, X, y), "error account") == "clean"
    assert model.state_.largest_trace == 0


def test_a_width_is_that_of_the_fit(rng):
    X, y = rows(rng)
    for later in ("loo", None, 3):
        model = gm.AnalyticRegressor(width="loo").fit(X, y).set_params(width=later)
        with pytest.raises(ValueError, match="width: Chosen by 'loo'"):
            gm.unlearn(model, X[:5], y[:5], strict=True)
        record = gm.unlearn(model, X[:5], y[:5])
        assert status(record, "width") == "depends"
        assert record.verify(model, X[:5], y[:5]) and not record.verify(model, X[1:6], y[1:6])
    given = gm.AnalyticRegressor(width=3).fit(X, y).set_params(width="loo")
    assert status(gm.unlearn(given, X[:5], y[:5]), "width") == "clean"
    ridge = gm.AnalyticRegressor(ridge="loo").fit(X, y)
    record = gm.unlearn(ridge, X[:5], y[:5])
    assert status(record, "ridge") == "depends"
    assert record.verify(ridge, X[:5], y[:5])


def test_deleted_rows_among_the_centres_of_a_block_are_counted(rng):
    X, y = rows(rng)
    width = X.shape[1]
    for given in (X, scipy.sparse.csr_matrix(X)):
        fused = gm.FusedFeatures([1, width - 1], maps=[None, gm.RBFFeatures(12, gamma=0.1)])
        model = gm.AnalyticRegressor(fused).fit(given, y)
        centres = model.feature_map_.maps_[1].centers_
        is_centre = (X[:, np.newaxis, 1:] == centres).all(axis=2).any(axis=1)
        others = np.flatnonzero(~is_centre)[:5]
        assert status(gm.unlearn(model, given[others], y[others], strict=True), "feature map") == "clean"
        record = gm.unlearn(model, given[np.flatnonzero(is_centre)[:3]], y[np.flatnonzero(is_centre)[:3]])
        assert status(record, "feature map") == "depends"
    blocks = np.hstack([X, X])
    for fused in (gm.FusedFeatures(2, mode="mean"), gm.FusedFeatures(2, mode="project", n_features=6)):
        model = gm.AnalyticRegressor(fused).fit(blocks, y)
        assert status(gm.unlearn(model, blocks[:5], y[:5], strict=True), "feature map") == "clean"


def test_deleted_rows_among_the_centres_are_counted(rng):
    X, y = rows(rng)
    feature_map = gm.RBFFeatures(12, gamma=0.1)
    model = gm.AnalyticRegressor(feature_map).fit(X, y)
    is_centre = (X[:, np.newaxis] == model.feature_map_.centers_).all(axis=2).any(axis=1)
    others = np.flatnonzero(~is_centre)[:5]
    assert status(gm.unlearn(model, X[others], y[others], strict=True), "feature map") == "clean"
    some = np.r_[np.flatnonzero(~is_centre)[5:9], np.flatnonzero(is_centre)[:2]]
    record = gm.unlearn(model, X[some], y[some])
    assert "2 of the deleted rows are centres" in str(record)
    # A model from a file still knows that its centres were rows.
    loaded = checks.reloaded(gm.AnalyticRegressor(feature_map).fit(X, y), "file", gm.load)
    assert status(gm.unlearn(loaded, X[some], y[some]), "feature map") == "depends"


def test_temperature_and_declared_classes(rng):
    X = rng.normal(size=(60, 4))
    y = np.arange(60) % 3
    model = gm.AnalyticClassifier().partial_fit(X, y, classes=[0, 1, 2, 3]).calibrate(X, y)
    with pytest.raises(ValueError, match="temperature: Fitted by calibrate"):
        gm.unlearn(model, X[:3], y[:3], strict=True)
    record = gm.unlearn(model, X[y == 2], y[y == 2])
    assert record.classes == ((("integer", 2), 20),)
    assert record.classes_removed == (("integer", 2),)
    assert status(record, "temperature") == "unknown"
    assert status(record, "classes") == "depends"
    assert model.classes_.tolist() == [0, 1]
    plain = gm.AnalyticClassifier().fit(X, y)
    assert status(gm.unlearn(plain, X[y == 2], y[y == 2], strict=True), "classes") == "clean"


def test_ridge_of_gcv_is_chosen_again(rng):
    X, y = rows(rng)
    model = gm.AnalyticRegressor(ridge="gcv").fit(X, y)
    record = gm.unlearn(model, X[:200], y[:200], strict=True)
    assert status(record, "ridge") == "clean"
    fresh = gm.AnalyticRegressor(ridge="gcv").fit(X[200:], y[200:])
    assert model.ridge_ == pytest.approx(fresh.ridge_, rel=1e-9)


def test_errors_leave_the_model(rng, other_kinds):
    X, y = rows(rng)
    labels = np.where(y > 0, 1, 0)
    model = gm.AnalyticClassifier().fit(X, labels)
    before = state_bytes(model)
    for args in ((X[:2, :3], labels[:2]), (X[:2], [5, 5]), (X[:2], labels[:3]), (np.full((1, 20), np.nan), [0])):
        with pytest.raises(ValueError):
            gm.unlearn(model, *args)
        assert state_bytes(model) == before
    with pytest.raises(ValueError, match="budget"):
        gm.unlearn(model, X[:1], labels[:1], budget=-1)
    with pytest.raises(TypeError):
        gm.unlearn(model.state_, X[:1], labels[:1])
    for other in other_kinds:
        fitted = other().fit(X, labels)
        with pytest.raises(TypeError, match=f"AnalyticClassifier or AnalyticRegressor, got {other.__name__}"):
            gm.unlearn(fitted, X[:1], labels[:1])
    few = gm.AnalyticRegressor(ridge=0.0).fit(X[:30], y[:30])
    before = state_bytes(few)
    with pytest.raises(np.linalg.LinAlgError):
        gm.unlearn(few, X[:20], y[:20])
    assert state_bytes(few) == before


def test_outputs_are_those_of_a_model_that_never_saw_the_rows(rng):
    """Divergence between the outputs of the unlearned and of the retrained classifier at rounding."""
    X, y = rows(rng)
    labels = (y > y.mean()).astype(int)
    model = gm.AnalyticClassifier(gm.RandomFeatures(60), ridge=1.0).fit(X, labels)
    gm.unlearn(model, X[:80], labels[:80])
    never = gm.AnalyticClassifier(gm.RandomFeatures(60), ridge=1.0).fit(X[80:], labels[80:])
    p, q = model.predict_proba(X), never.predict_proba(X)
    tiny = np.finfo(float).tiny
    divergence = (p * (np.log(p + tiny) - np.log(q + tiny))).sum(axis=1)
    assert np.abs(divergence).max() <= 1e-13


def losses(model, X, y):
    return (y - model.predict(X)) ** 2


def test_an_attack_learns_no_more_than_from_retraining(rng):
    """Membership inference by a threshold on the loss: the deleted rows look like rows that were never in.

    Nearly as many features as rows, so that the model of all rows gives its rows away.
    """
    d, n, gone = 80, 110, 25
    advantages, of_members = [], []
    for _ in range(40):
        truth = rng.normal(size=d)
        X = rng.normal(size=(2 * n, d))
        y = X @ truth + rng.normal(size=2 * n)
        train, strangers = slice(0, n), slice(n, 2 * n)
        deleted, kept = slice(0, gone), slice(gone, n)
        model = gm.AnalyticRegressor(ridge=0.1).fit(X[train], y[train])
        before = losses(model, X, y)
        of_members.append(influence.membership_advantage(before[deleted], before[strangers]))
        record = gm.unlearn(model, X[deleted], y[deleted])
        coef, intercept = analytic.ridge(X[kept], y[kept], 0.1)
        never = (y - X @ coef[0] - intercept[0]) ** 2
        found = losses(model, X, y)
        assert checks.relative_error(found, never) <= 10 * max(record.error_bound, 1e-12)
        # Unchanged, to the last count: no loss is nearer to another one than the two models are.
        advantage = influence.membership_advantage(found[deleted], found[strangers])
        assert advantage == influence.membership_advantage(never[deleted], never[strangers])
        advantages.append(advantage)
    # Against rows that were never seen, what chance gives samples of these sizes: shuffled labels of who was in.
    chance = [
        influence.membership_advantage(sample[:gone], sample[gone:]) for sample in rng.normal(size=(400, gone + n)) ** 2
    ]
    error = np.hypot(np.std(chance) / 20, np.std(advantages) / np.sqrt(len(advantages)))
    assert abs(np.mean(advantages) - np.mean(chance)) <= 4 * error
    assert np.mean(of_members) > np.mean(chance) + 0.2  # negative control: before, the attack works
