"""Predictions without rows against fits without them."""

import copy
import pickle

import numpy as np
import pytest
from reference_path import analytic, checks, influence

import gramian as gm

MAPS = {
    "none": None,
    "random": gm.RandomFeatures(80, activation="tanh"),
    "centres": gm.RBFFeatures(np.random.default_rng(5).normal(size=(30, 12)), gamma=0.02),
}


def problem(rng, n=300, d=12, k=2, offset=3.0):
    """Rows away from the origin and correlated targets."""
    X = rng.normal(size=(n, d)) @ rng.normal(size=(d, d)) / np.sqrt(d) + offset
    return X, X @ rng.normal(size=(d, k)) + rng.normal(size=(n, k)), rng.normal(size=(40, d)) + offset


@pytest.mark.parametrize("name", MAPS)
@pytest.mark.parametrize("fit_intercept", [True, False])
@pytest.mark.parametrize("weighted", [True, False])
@pytest.mark.parametrize("size", [1, 12, 200])
def test_equals_a_fit_without_the_rows(rng, name, fit_intercept, weighted, size):
    X, Y, queries = problem(rng)
    weight = rng.random(len(X)) * (rng.random(len(X)) > 0.1) if weighted else None
    gone = rng.permutation(len(X))[:size]
    keep = np.setdiff1d(np.arange(len(X)), gone)
    model = gm.AnalyticRegressor(MAPS[name], ridge=0.3, fit_intercept=fit_intercept).fit(X, Y, weight)
    of = gm.RidgeInfluence(model)
    part = (lambda rows: None) if weight is None else lambda rows: weight[rows]
    new = gm.AnalyticRegressor(MAPS[name], ridge=0.3, fit_intercept=fit_intercept).fit(X[keep], Y[keep], part(keep))
    tolerance = 1e-10 if size < 100 else 1e-9
    expected = new.predict(queries)
    args = X[gone], Y[gone], part(gone)
    assert checks.relative_error(of.predict_without(queries, *args), expected) <= tolerance
    coef, intercept = of.weights_without(*args)
    assert checks.relative_error(coef, new.coef_) <= tolerance
    assert np.abs(intercept - new.intercept_).max() <= tolerance * max(1, np.abs(new.intercept_).max())
    groups = np.zeros(size)
    effect = of.group_effect(queries, X[gone], Y[gone], groups, part(gone))[0]
    assert np.abs(effect - (expected - model.predict(queries))).max() <= tolerance * np.abs(expected).max()
    held = of.leave_group_out(X[gone], Y[gone], groups, part(gone))
    residuals = Y[gone] - new.predict(X[gone])
    assert np.abs(held.residuals - residuals).max() <= tolerance * np.abs(residuals).max()
    assert held.losses == pytest.approx((residuals**2).sum(axis=1).mean(), rel=1e-8)
    if name == "none":
        smallest = influence.smallest_left_over(X, 0.3, gone, weight, fit_intercept)
        assert held.smallest[0] == pytest.approx(smallest, rel=1e-2)
        coef, intercept = influence.without(X, Y, 0.3, gone, weight, fit_intercept)
        assert checks.relative_error(expected, queries @ coef.T + intercept) <= tolerance


def test_two_thousand_rows_at_once(rng):
    X, Y, queries = problem(rng, n=3000, d=60)
    model, new = gm.AnalyticRegressor().fit(X, Y), gm.AnalyticRegressor().fit(X[2000:], Y[2000:])
    found = gm.RidgeInfluence(model).predict_without(queries, X[:2000], Y[:2000])
    assert checks.relative_error(found, new.predict(queries)) <= 1e-9


def test_many_groups_at_once(rng):
    X, Y, queries = problem(rng, n=240)
    of = gm.RidgeInfluence(gm.AnalyticRegressor(ridge=0.1).fit(X, Y))
    names = rng.choice(["north", "south", "west"], size=len(X))
    effect = of.group_effect(queries, X, Y, names)
    held = of.leave_group_out(X, Y, names)
    assert held.groups.tolist() == ["north", "south", "west"]
    for place, name in enumerate(held.groups):
        gone = np.flatnonzero(names == name)
        coef, intercept = influence.without(X, Y, 0.1, gone)
        before = analytic.ridge(X, Y, 0.1)
        expected = queries @ (coef - before[0]).T + intercept - before[1]
        np.testing.assert_allclose(effect[place], expected, rtol=0, atol=1e-10 * np.abs(Y).max())
        residuals = Y[gone] - X[gone] @ coef.T - intercept
        np.testing.assert_allclose(held.residuals[gone], residuals, rtol=0, atol=1e-10 * np.abs(Y).max())
    # One row at a time is leave-one-out.
    alone = of.leave_group_out(X, Y)
    leverage = np.diag(influence.hat_matrix(X, 0.1))
    coef, intercept = analytic.ridge(X, Y, 0.1)
    expected = (Y - X @ coef.T - intercept) / (1 - leverage)[:, np.newaxis]
    np.testing.assert_allclose(alone.residuals, expected, rtol=0, atol=1e-10 * np.abs(expected).max())
    np.testing.assert_allclose(alone.smallest, 1 - leverage, rtol=1e-9)


def test_sparse_rows_are_as_dense_ones(rng):
    sparse = pytest.importorskip("scipy.sparse")
    X, Y, queries = problem(rng, offset=0.0)
    X[rng.random(X.shape) < 0.7] = 0
    of = gm.RidgeInfluence(gm.AnalyticRegressor().fit(X, Y))
    names = rng.integers(0, 9, len(X))
    dense, csr = (of.group_effect(queries, kind(X), Y, names) for kind in (np.asarray, sparse.csr_matrix))
    np.testing.assert_allclose(csr, dense, rtol=0, atol=1e-12)
    one, two = (of.predict_without(kind(queries), kind(X[:9]), Y[:9]) for kind in (np.asarray, sparse.csr_matrix))
    np.testing.assert_allclose(one, two, rtol=0, atol=1e-11)


def test_adding_up_single_rows_is_not_the_group():
    """The negative control: the interaction inside of the group must matter, and does."""
    rng = np.random.default_rng(0)
    n, d, size = 400, 60, 30
    X = rng.normal(size=(n, d))
    y = X @ rng.normal(size=d) + rng.normal(size=n)
    queries, gone = rng.normal(size=(100, d)), np.arange(size)
    of = gm.RidgeInfluence(gm.AnalyticRegressor().fit(X, y))
    exact = of.group_effect(queries, X[gone], y[gone], np.zeros(size))[0]
    added = of.group_effect(queries, X[gone], y[gone]).sum(axis=0)
    assert checks.relative_error(added, influence.additive_effect(X, y, 1.0, gone, queries)) <= 1e-9
    assert checks.relative_error(added, exact) >= 0.1


def test_classifier(rng):
    X, y = rng.normal(size=(200, 6)), rng.choice(["a", "b", "c"], size=200)
    y[:4], X[:4] = "d", X[:4] + 2
    queries = rng.normal(size=(50, 6)) + 1
    weights = {"a": 2.0}
    model = gm.AnalyticClassifier(class_weight=weights, ridge=0.2).fit(X, y)
    of = gm.RidgeInfluence(model)
    gone = np.arange(30)  # all rows of "d" among them
    new = gm.AnalyticClassifier(class_weight=weights, ridge=0.2).fit(X[30:], y[30:])
    scores = of.scores_without(queries, X[gone], y[gone])
    np.testing.assert_allclose(scores[:, :3], new.decision_function(queries), rtol=0, atol=1e-10)
    assert np.abs(scores[:, 3]).max() <= 1e-10
    assert np.array_equal(of.predict_without(queries, X[gone], y[gone]), new.predict(queries))
    with pytest.raises(ValueError, match="labels that the model has not"):
        of.scores_without(queries, X[:2], ["a", "z"])


def test_multi_label(rng):
    X, Y = rng.normal(size=(100, 5)), (rng.random((100, 3)) < 0.4).astype(int)
    of = gm.RidgeInfluence(gm.AnalyticClassifier().fit(X, Y))
    new = gm.AnalyticClassifier().fit(X[20:], Y[20:])
    np.testing.assert_allclose(of.scores_without(X, X[:20], Y[:20]) - 0.5, new.decision_function(X), atol=1e-11)
    assert np.array_equal(of.predict_without(X, X[:20], Y[:20]), new.predict(X))


@pytest.mark.parametrize("method", ["single", "greedy"])
def test_harmful_rows(rng, method):
    X, Y, queries = problem(rng, n=40, d=4)
    wanted = queries[:3] @ np.ones((4, 2))
    of = gm.RidgeInfluence(gm.AnalyticRegressor(ridge=0.5).fit(X, Y))
    found = of.harmful_rows(queries[:3], wanted, X, Y, k=5, method=method)
    if method == "greedy":
        rows, losses = influence.greedy(X, Y, 0.5, queries[:3], wanted, 5)
    else:
        refits = [influence.without(X, Y, 0.5, [i]) for i in range(40)]
        losses = np.array([((wanted - queries[:3] @ c.T - b) ** 2).sum() for c, b in refits])
        rows = np.argsort(losses)[:5]
        losses = losses[rows]
    assert found.rows.tolist() == rows.tolist()
    np.testing.assert_allclose(found.loss, losses, rtol=1e-9)
    coef, intercept = analytic.ridge(X, Y, 0.5)
    assert found.loss_before == pytest.approx(((wanted - queries[:3] @ coef.T - intercept) ** 2).sum(), rel=1e-10)


def test_greedy_stops_where_no_row_helps():
    X, y = np.arange(6.0)[:, np.newaxis], np.arange(6.0)
    of = gm.RidgeInfluence(gm.AnalyticRegressor(ridge=1.0).fit(X, y))
    queries = np.array([[2.0]])
    as_it_is = gm.AnalyticRegressor(ridge=1.0).fit(X, y).predict(queries)
    found = of.harmful_rows(queries, as_it_is, X, y, 3, "greedy")
    assert found.rows.size == 0


def test_what_the_rest_does_not_determine_is_refused(rng):
    X, y = rng.normal(size=(8, 5)), rng.normal(size=8)
    of = gm.RidgeInfluence(gm.AnalyticRegressor(ridge=1e-12).fit(X, y))
    with pytest.raises(np.linalg.LinAlgError, match=r"group 0 \(rows 0 to 3\).*forget"):
        of.predict_without(X, X[:4], y[:4])
    of.predict_without(X, X[:1], y[:1])
    # All rows together leave no mean behind.
    whole = gm.RidgeInfluence(gm.AnalyticRegressor(ridge=1.0).fit(X, y))
    with pytest.raises(np.linalg.LinAlgError, match="cannot be left out"):
        whole.leave_group_out(X, y, np.zeros(8))


def test_threads_make_no_difference(rng):
    X, Y, queries = problem(rng, n=900, d=30)
    names = rng.integers(0, 60, len(X))
    results = []
    for jobs in (1, 2, 5):
        of = gm.RidgeInfluence(gm.AnalyticRegressor(gm.RandomFeatures(200), n_jobs=jobs).fit(X, Y))
        results.append((of.group_effect(queries, X, Y, names), of.leave_group_out(X, Y, names).residuals))
    for effect, residuals in results[1:]:
        assert np.array_equal(effect, results[0][0])
        assert np.array_equal(residuals, results[0][1])


def test_bad_input(rng, other_kinds):
    X, Y, queries = problem(rng)
    model = gm.AnalyticRegressor().fit(X, Y)
    of = gm.RidgeInfluence(model)
    for call, message in (
        (lambda: of.predict_without(queries[:, :3], X, Y), "X has 3 features"),
        (lambda: of.predict_without(queries, X[:, :3], Y), "rows_X has 3 features"),
        (lambda: of.predict_without(queries, X, Y[:5]), "rows_y has 5"),
        (lambda: of.predict_without(queries, X, Y[:, :1]), "rows_y has 1 outputs"),
        (lambda: of.predict_without(queries, X[:2], Y[:2], [1.0]), "sample_weight"),
        (lambda: of.predict_without(queries, np.full((1, 12), np.nan), Y[:1]), "rows_X.*row 0"),
        (lambda: of.predict_without(np.full((1, 12), np.inf), X[:1], Y[:1]), "X.*row 0"),
        (lambda: of.group_effect(queries, X, Y, [1, 2]), "groups has shape"),
        (lambda: of.harmful_rows(queries, Y[:40], X, Y, k=0), "k must be"),
        (lambda: of.harmful_rows(queries, Y[:40], X, Y, method="both"), "method must be"),
        (lambda: of.harmful_rows(queries, Y[:3], X, Y), "y has 3"),
        (lambda: gm.RidgeInfluence(gm.AnalyticRegressor(standardize=True).fit(X, Y)), "standardize"),
        (lambda: gm.RidgeInfluence(gm.AnalyticClassifier(class_weight="balanced").fit(X, Y[:, 0] > 0)), "balanced"),
        (lambda: gm.RidgeInfluence(gm.AnalyticRegressor(width=3).fit(X, Y)), "width=3"),
        (lambda: gm.RidgeInfluence(gm.AnalyticRegressor(width="loo").fit(X, Y)), "width='loo'"),
        (lambda: gm.RidgeInfluence(gm.AnalyticRegressor(width=3).fit(X, Y).set_params(width=None)), "width=3"),
        (lambda: gm.RidgeInfluence(gm.AnalyticRegressor()), "not fitted"),
        (lambda: gm.RidgeInfluence(gm.AnalyticRegressor().fit(X, Y).forget(X, Y)), "not fitted"),
    ):
        with pytest.raises(ValueError, match=message):
            call()
    with pytest.raises(TypeError, match="AnalyticClassifier or AnalyticRegressor"):
        gm.RidgeInfluence(gm.GramState(3, 1))
    labels = rng.integers(0, 3, size=len(X))
    for other in other_kinds:
        with pytest.raises(TypeError, match=f"AnalyticClassifier or AnalyticRegressor, got {other.__name__}"):
            gm.RidgeInfluence(other().fit(X, labels))


@pytest.mark.parametrize("by", ["sample_weight", "class_weight"])
def test_a_class_without_weight(rng, by):
    """Rows of weight 0 are not in the model, so a class of such rows alone is no class of it."""
    X, _, queries = problem(rng, n=120)
    y = rng.integers(0, 3, size=120)
    weight = np.where(y == 2, 0.0, 1.0) if by == "sample_weight" else None
    model = gm.AnalyticClassifier(class_weight=None if by == "sample_weight" else {2: 0.0}).fit(X, y, weight)
    assert model.classes_.tolist() == [0, 1]
    of, like = gm.RidgeInfluence(model), gm.RidgeInfluence(gm.AnalyticClassifier().fit(X[y < 2], y[y < 2]))
    part = (lambda rows: None) if weight is None else lambda rows: weight[rows]
    some, seen = np.arange(40), np.flatnonzero(y[:40] < 2)
    found = of.scores_without(queries, X[some], y[some], part(some))
    np.testing.assert_allclose(found, like.scores_without(queries, X[seen], y[seen]), rtol=0, atol=1e-12)
    assert np.array_equal(
        of.predict_without(queries, X[some], y[some], part(some)), like.predict_without(queries, X[seen], y[seen])
    )
    order = rng.permutation(120)
    held = of.leave_group_out(X[order], y[order], y[order], part(order))
    expected = like.leave_group_out(X[y < 2], y[y < 2], y[y < 2])
    residuals = np.empty_like(held.residuals)
    residuals[order] = held.residuals
    np.testing.assert_allclose(residuals[y < 2], expected.residuals, rtol=0, atol=1e-12)
    nothing = np.flatnonzero(y == 2)
    scores = of.scores_without(X, X[nothing], y[nothing], part(nothing))
    np.testing.assert_allclose(residuals[y == 2], -scores[y == 2], rtol=0, atol=1e-12)  # their target is zero
    assert held.groups.tolist() == [0, 1, 2]
    effect = of.group_effect(queries, X, y, y, weight)
    assert np.abs(effect[2]).max() == 0 and np.abs(effect[:2]).min() > 0
    harmful = of.harmful_rows(queries, np.zeros(40, dtype=int), X, y, sample_weight=weight)
    assert (y[harmful.rows] < 2).all()
    # With weight they are strangers still.
    with pytest.raises(ValueError, match=r"labels that the model has not: \[3\]"):
        of.predict_without(queries, X[:4], np.full(4, 3))


def test_what_the_model_learns_later_is_not_seen(rng):
    X, Y, _ = problem(rng)
    model = gm.AnalyticRegressor().fit(X[:200], Y[:200])
    of = gm.RidgeInfluence(model)
    model.partial_fit(X[200:], Y[200:])
    assert np.isfinite(model.coef_).all()  # solved anew
    coef, _ = of.weights_without(X[:5], Y[:5])
    expected = gm.AnalyticRegressor().fit(X[5:200], Y[5:200]).coef_
    assert checks.relative_error(coef, expected) <= 1e-10


def test_copies_but_no_pickle(rng):
    X, Y, _ = problem(rng)
    of = gm.RidgeInfluence(gm.AnalyticRegressor().fit(X, Y))
    assert copy.copy(of) is of and copy.deepcopy(of) is of
    with pytest.raises(TypeError, match="RidgeInfluence cannot be pickled.*model"):
        pickle.dumps(of)


def test_float32_products(rng):
    """The factor of rounded sums: as good as these."""
    X, Y, queries = problem(rng)
    kinds = {"dtype": "float32", "ridge": 1.0}
    model = gm.AnalyticRegressor(**kinds).fit(X.astype(np.float32), Y.astype(np.float32))
    found = gm.RidgeInfluence(model).predict_without(queries, X[:9].astype(np.float32), Y[:9].astype(np.float32))
    expected = gm.AnalyticRegressor(**kinds).fit(X[9:].astype(np.float32), Y[9:].astype(np.float32)).predict(queries)
    assert checks.relative_error(found, expected) <= 1e-3
