"""Leave-one-out errors and leverages against n refits, against scikit-learn, and where they choose a ridge."""

import numpy as np
import pytest
from reference_path import analytic, class_incremental, leave_one_out

import gramian as gm

EPS = np.finfo(np.float64).eps


def problem(rng, n=60, d=7, k=3, offset=3.0):
    X = rng.normal(size=(n, d)) * np.linspace(0.3, 2.0, d) + offset
    Y = X @ rng.normal(size=(d, k)) + rng.normal(size=(n, k))
    return X, Y


@pytest.mark.parametrize("standardize", [False, True])
@pytest.mark.parametrize("fit_intercept", [False, True])
@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("ridge", [1e-3, 1.0, 100.0])
def test_errors_equal_n_refits(rng, standardize, fit_intercept, weighted, ridge):
    X, Y = problem(rng)
    weight = rng.uniform(0.2, 3.0, size=len(X)) if weighted else None
    found = gm.loo_errors(X, Y, ridge, sample_weight=weight, standardize=standardize, fit_intercept=fit_intercept)
    expected = leave_one_out.loo_errors(X, Y, ridge, weight, fit_intercept, standardize)
    np.testing.assert_allclose(found, expected, rtol=1e-10, atol=1e-10)
    # Negative control: plain residuals, and errors without the share of the intercept, are something else.
    state = gm.GramState(X.shape[1], Y.shape[1], fit_intercept=fit_intercept).add(X, Y, weight)
    weights = state.solve(ridge, standardize=standardize)
    residuals = Y - X @ weights.coef.T - weights.intercept
    assert np.abs(residuals - expected).max() > 1e-3
    h = gm.leverage(state, X, ridge=ridge, sample_weight=weight, standardize=standardize)
    np.testing.assert_allclose(residuals / (1 - h)[:, np.newaxis], expected, rtol=1e-9, atol=1e-9)
    if fit_intercept:
        w = np.ones(len(X)) if weight is None else weight
        assert np.abs(residuals / (1 - h + w / w.sum())[:, np.newaxis] - expected).max() > 1e-4


@pytest.mark.parametrize("fit_intercept", [False, True])
@pytest.mark.parametrize("standardize", [False, True])
def test_leverages_are_the_diagonal_of_the_hat_matrix(rng, fit_intercept, standardize):
    X, Y = problem(rng)
    weight = rng.uniform(0.0, 2.0, size=len(X))
    weight[5] = 0.0
    state = gm.GramState(X.shape[1], 3, fit_intercept=fit_intercept).add(X, Y, weight)
    found = gm.leverage(state, X, ridge=0.7, sample_weight=weight, standardize=standardize)
    expected = leave_one_out.leverages(X, 0.7, weight, fit_intercept, standardize)
    np.testing.assert_allclose(found, expected, rtol=1e-11, atol=1e-14)
    assert found[5] == 0
    freedom = state.gcv([0.7], standardize=standardize).degrees_of_freedom[0]
    assert found.sum() == pytest.approx(freedom, rel=1e-11)


def test_leverages_of_an_estimator(rng):
    X, Y = problem(rng, d=5)
    y = rng.integers(0, 3, size=len(X))
    scaled, classifier = gm.AnalyticRegressor(ridge=0.4, standardize=True), gm.AnalyticClassifier(ridge=0.4)
    for model in (scaled.fit(X, Y), classifier.fit(X, y)):
        expected = leave_one_out.leverages(X, 0.4, standardize=bool(model.standardize))
        np.testing.assert_allclose(gm.leverage(model, X), expected, rtol=1e-11)
    mapped = gm.AnalyticRegressor(gm.RandomFeatures(12, activation="tanh"), ridge=0.4).fit(X, Y)
    Z = mapped.feature_map_.transform(X)
    np.testing.assert_allclose(gm.leverage(mapped, X), leave_one_out.leverages(Z, 0.4), rtol=1e-9)
    narrow = gm.AnalyticRegressor(ridge=0.4, width=2).fit(X, Y)
    np.testing.assert_allclose(gm.leverage(narrow, X), leave_one_out.leverages(X[:, :2], 0.4), rtol=1e-11)
    with pytest.raises(ValueError, match="ridge is needed"):
        gm.leverage(gm.GramState(5).add(X), X)
    with pytest.raises(ValueError, match="features"):
        gm.leverage(mapped, X[:, :3])


def test_several_ridges_and_shapes(rng):
    X, Y = problem(rng, n=30)
    both = gm.loo_errors(X, Y, [0.1, 10.0])
    assert both.shape == (2, 30, 3)
    for found, ridge in zip(both, (0.1, 10.0), strict=True):
        np.testing.assert_allclose(found, leave_one_out.loo_errors(X, Y, ridge), rtol=1e-10, atol=1e-10)
    assert gm.loo_errors(X, Y[:, 0], [0.1, 10.0]).shape == (2, 30)
    np.testing.assert_allclose(gm.loo_errors(X, Y[:, 0], 0.1), both[0][:, 0], rtol=0, atol=1e-12)
    np.testing.assert_allclose(
        gm.loo_errors(X, Y, 0.1, width=3), leave_one_out.loo_errors(X[:, :3], Y, 0.1), rtol=1e-10, atol=1e-10
    )


@pytest.mark.parametrize("standardize", [False, True])
@pytest.mark.parametrize("fit_intercept", [False, True])
def test_curve_equals_refits(rng, standardize, fit_intercept):
    X, Y = problem(rng)
    weight = rng.uniform(0.0, 3.0, size=len(X))
    ridges = [1e-2, 1.0, 7.0, 300.0]
    curve = gm.loo_curve(X, Y, ridges, sample_weight=weight, standardize=standardize, fit_intercept=fit_intercept)
    expected = [leave_one_out.loo_score(X, Y, r, weight, fit_intercept, standardize) for r in ridges]
    np.testing.assert_allclose(curve.scores, expected, rtol=1e-10)
    assert curve.best == np.argmin(expected)
    assert curve.ridge == ridges[curve.best]


def test_a_long_table_needs_fewer_passes_and_keeps_its_word(rng):
    # Modes are spread by about a factor of 4, ridges are small beside them: the case where leverages at one ridge say
    # almost all about those at another. The full curve by residuals and leverages of each ridge is the oracle.
    X = rng.normal(size=(4000, 40)) * np.linspace(1.0, 2.0, 40)
    Y = X @ rng.normal(size=(40, 5)) + 4 * rng.normal(size=(4000, 5))
    ridges = np.logspace(-2, 2, 9)
    curve = gm.loo_curve(X, Y, ridges)
    errors = gm.loo_errors(X, Y, ridges)
    expected = (errors**2).sum(axis=(1, 2)) / len(X)
    assert curve.passes < len(ridges)
    assert curve.bounds.max() <= 1e-9
    assert (np.abs(curve.scores - expected) <= (curve.bounds + 1e-12) * expected).all()
    assert curve.best == np.argmin(expected)


def test_a_wide_spectrum_takes_every_pass(rng):
    X = rng.normal(size=(400, 20)) * np.logspace(-6, 1, 20)
    Y = X @ rng.normal(size=(20, 2)) + 0.1 * rng.normal(size=(400, 2))
    ridges = [1e-8, 1e-4, 1.0, 1e4]
    curve = gm.loo_curve(X, Y, ridges)
    expected = [leave_one_out.loo_score(X, Y, ridge) for ridge in ridges]
    np.testing.assert_allclose(curve.scores, expected, rtol=1e-8)
    assert curve.passes == 4
    assert (curve.bounds == 0).all()


def assert_curve_is_that_of_errors(X, y, ridges, weight=None):
    """Every score, its bound and the choice, by the errors of each ridge on its own."""
    curve = gm.loo_curve(X, y, ridges, sample_weight=weight)
    share = np.full(len(X), 1 / len(X)) if weight is None else weight / weight.sum()
    expected = gm.loo_errors(X, y, ridges, sample_weight=weight) ** 2 @ share
    # Beside the bound there is rounding: 1e-15 of a score for each of a few hundred nodes, amplified by 8 at most.
    assert (np.abs(curve.scores - expected) <= (curve.bounds + 1e-11) * expected).all()
    assert curve.bounds.max() <= 1e-9
    assert curve.best == np.argmin(expected)
    return curve


@pytest.mark.parametrize(("low", "high", "count"), [(-6, 6, 200), (-14, 6, 120), (-10, 10, 200), (-6, 6, 13)])
def test_long_grids(rng, low, high, count):
    # Products over that many nodes are far outside the range of double.
    X = rng.normal(size=(300, 8)) * np.logspace(0, -2, 8)
    y = X @ rng.normal(size=8) * 3 + rng.normal(size=300)
    ridges = np.logspace(low, high, count)
    curve = assert_curve_is_that_of_errors(X, y, ridges)
    assert curve.passes < count  # so that there were mixtures to check
    # Negative control: the scores of the ridges beside them are not within the bounds.
    moved = np.roll(curve.scores, 1)
    assert (np.abs(moved / curve.scores - 1) > 1e-6).any()


@pytest.mark.parametrize("exponent", [-480, -200, -120, -80, 80, 200])
def test_curves_do_not_depend_on_the_unit(rng, exponent):
    X, Y = problem(rng, n=60, d=4, k=1, offset=0.0)
    ridges, unit = 60 * np.logspace(-8, 4, 13), 2.0**exponent
    curve = assert_curve_is_that_of_errors(X * unit, Y[:, 0], ridges * unit**2)
    plain = gm.loo_curve(X, Y[:, 0], ridges)
    # Powers of two change no digit of what is summed; the bounds stand for the rest.
    np.testing.assert_allclose(curve.scores, plain.scores, rtol=2e-9)
    assert (curve.best, curve.passes) == (plain.best, plain.passes) and curve.passes < 13
    model = gm.AnalyticRegressor(ridge="loo").fit(X * unit, Y[:, 0])
    assert model.ridge_ / unit**2 == pytest.approx(gm.AnalyticRegressor(ridge="loo").fit(X, Y[:, 0]).ridge_, rel=1e-12)


@pytest.mark.parametrize("size", [1e-300, 1e-160, 1e-120, 1e-50, 1e150])
def test_curves_of_small_weights(rng, size):
    X, Y = problem(rng, n=60, d=4, k=1, offset=0.0)
    ridges = np.logspace(-4, 4, 13)
    weight = rng.uniform(0.5, 2.0, size=60)
    curve = assert_curve_is_that_of_errors(X, Y[:, 0], ridges * size, weight * size)
    plain = gm.loo_curve(X, Y[:, 0], ridges, sample_weight=weight)
    np.testing.assert_allclose(curve.scores, plain.scores, rtol=2e-9)
    assert curve.passes == plain.passes < 13


def test_too_small_a_ridge_names_one_that_would_do(rng):
    X, y = rng.normal(size=(40, 60)) * 1e8, rng.normal(size=40)
    with pytest.raises(np.linalg.LinAlgError, match="rounding of the sums of these features is about") as refused:
        gm.AnalyticRegressor(ridge=0.5, width="loo").fit(X, y)
    rounding = float(str(refused.value).rsplit(" ", 1)[1])
    assert 60 * EPS * 1e16 < rounding < 60 * EPS * 1e18
    assert gm.AnalyticRegressor(ridge=10 * rounding, width="loo").fit(X, y).width_ >= 1


def test_float32_products(rng):
    X = rng.normal(size=(3000, 30)).astype(np.float32)
    Y = (X @ rng.normal(size=(30, 4)) + rng.normal(size=(3000, 4))).astype(np.float32)
    ridges = [0.1, 1.0, 10.0, 100.0, 1000.0]
    single, double = gm.loo_curve(X, Y, ridges, dtype="float32"), gm.loo_curve(X, Y, ridges)
    # Rounding of sums of d terms in float, once for the residual and once for the leverage.
    np.testing.assert_allclose(single.scores, double.scores, rtol=4 * 30 * 6e-8)
    assert single.best == double.best
    assert single.bounds.max() <= 2 * np.sqrt(30) * 6e-8


def test_edges_of_the_grid(rng):
    X, Y = problem(rng)
    assert gm.loo_curve(X, Y, [1e5, 1e6]).at_edge
    assert not gm.loo_curve(X, Y, [1.0]).at_edge
    assert gm.loo_curve(X, Y, [2.0, 2.0, 2.0]).passes == 1


def test_impossible_rows(rng):
    X, Y = rng.normal(size=(6, 6)), rng.normal(size=(6, 1))
    with pytest.raises(ValueError, match="row 0 has a leverage of 1"):
        gm.loo_errors(X, Y, 1e-14, fit_intercept=False)
    curve = gm.loo_curve(X, Y, [1e-14, 1.0], fit_intercept=False)
    assert np.isinf(curve.scores[0])
    assert curve.best == 1
    with pytest.raises(ValueError, match="no ridge of the grid leaves a model"):
        gm.loo_curve(X, Y, [1e-14], fit_intercept=False)
    flat = np.ones((8, 2)) * rng.normal(size=(8, 1))
    assert np.isinf(gm.loo_curve(flat, Y[[0] * 8], [0.0, 1.0]).scores[0])
    with pytest.raises(ValueError, match="numerically singular"):
        gm.loo_curve(flat, rng.normal(size=8), [0.0])


def test_bad_input(rng):
    X, Y = problem(rng, n=20)
    bad = X.copy()
    bad[7, 2] = np.nan
    with pytest.raises(ValueError, match="row 7"):
        gm.loo_errors(bad, Y)
    state = gm.GramState(7).add(X)
    with pytest.raises(ValueError, match="row 7"):
        gm.leverage(state, bad, ridge=1.0)
    with pytest.raises(ValueError, match="inconsistent"):
        gm.loo_errors(X, Y[:5])
    with pytest.raises(ValueError, match="width"):
        gm.loo_errors(X, Y, width=8)
    with pytest.raises(ValueError, match="width must be None or an integer"):
        gm.loo_errors(X, Y, width="loo")
    with pytest.raises(ValueError, match="ridges"):
        gm.loo_curve(X, Y, [])
    with pytest.raises(ValueError, match="Negative values"):
        gm.leverage(state, X, ridge=1.0, sample_weight=-np.ones(20))


@pytest.mark.parametrize("dtype", [None, "float32"])
def test_estimators_choose_what_refits_choose(rng, dtype):
    X, Y = problem(rng, n=80, d=20)
    ridges = np.logspace(-2, 4, 7)
    model = gm.AnalyticRegressor(ridge="loo", ridges=ridges, dtype=dtype).fit(X, Y)
    expected = [leave_one_out.loo_score(X, Y, ridge) for ridge in ridges]
    np.testing.assert_allclose(model.loo_scores_, expected, rtol=1e-9 if dtype is None else 1e-4)
    assert model.ridge_ == ridges[np.argmin(expected)] == model.report_.ridge
    assert np.array_equal(model.loo_ridges_, ridges)
    fixed = gm.AnalyticRegressor(ridge=model.ridge_, dtype=dtype).fit(X, Y)
    assert np.array_equal(model.coef_, fixed.coef_)
    assert gm.AnalyticRegressor(ridge="loo", ridges=[1e6, 1e7], dtype=dtype).fit(X, Y).loo_at_edge_ is True
    assert gm.AnalyticRegressor(ridge="loo").fit(X, Y).loo_scores_.shape == (13,)


def test_classifier_with_weights_and_a_map(rng):
    X = rng.normal(size=(90, 6))
    y = np.array(["a", "b", "c"])[np.argmax(X[:, :3] + 0.5 * rng.normal(size=(90, 3)), axis=1)]
    weight = rng.uniform(0.0, 2.0, size=90)
    weight[[3, 4]] = 0
    grid = [0.01, 0.1, 1.0, 10.0]
    model = gm.AnalyticClassifier(
        gm.RandomFeatures(30, activation="tanh"), ridge="loo", ridges=grid, class_weight={"a": 2.0}
    ).fit(X, y, sample_weight=weight)
    Z = model.feature_map_.transform(X)
    w = weight * np.where(y == "a", 2.0, 1.0)
    targets = analytic.one_hot(y, model.classes_)
    expected = [leave_one_out.loo_score(Z, targets, ridge, w) for ridge in grid]
    np.testing.assert_allclose(model.loo_scores_, expected, rtol=1e-8)
    assert model.ridge_ == grid[np.argmin(expected)]
    multi = gm.AnalyticClassifier(ridge="loo", ridges=grid).fit(X, targets.astype(int))
    np.testing.assert_allclose(multi.loo_scores_, [leave_one_out.loo_score(X, targets, r) for r in grid], rtol=1e-9)


def imbalanced(rng, n=70, d=8):
    """Rows of three classes of about 45, 18 and 7 rows, around means of their own."""
    y = rng.choice(np.array(["a", "b", "c"]), size=n, p=[0.65, 0.25, 0.1])
    y[:6] = ["a", "a", "b", "b", "c", "c"]
    X = rng.normal(size=(n, d)) * np.linspace(0.5, 2.0, d) + 2.0 + 0.4 * (y == "b")[:, np.newaxis]
    return X, y


@pytest.mark.parametrize("kind", ["balanced", "air"])
@pytest.mark.parametrize("fit_intercept", [True, False])
@pytest.mark.parametrize("standardize", [True, False])
@pytest.mark.parametrize("weighted", [True, False])
def test_balanced_classes_equal_n_weighted_refits(rng, kind, fit_intercept, standardize, weighted):
    X, y = imbalanced(rng)
    given = rng.uniform(0.3, 2.0, size=len(y)) if weighted else np.ones(len(y))
    if weighted:
        given[[7, 20]] = 0
    grid = [0.03, 0.5, 8.0, 100.0]
    model = gm.AnalyticClassifier(
        ridge="loo", ridges=grid, class_weight=kind, fit_intercept=fit_intercept, standardize=standardize
    ).fit(X, y, sample_weight=given if weighted else None)
    over = {"balanced": "rows", "air": "classes"}[kind]
    w = class_incremental.balanced_weights(y, given, over)
    targets = analytic.one_hot(y, model.classes_)
    expected = [leave_one_out.loo_score(X, targets, r, w, fit_intercept, standardize) for r in grid]
    np.testing.assert_allclose(model.loo_scores_, expected, rtol=1e-9)
    assert model.ridge_ == grid[np.argmin(expected)] == model.report_.ridge
    # The weights of the model are those at the chosen ridge.
    fixed = gm.AnalyticClassifier(
        ridge=model.ridge_, class_weight=kind, fit_intercept=fit_intercept, standardize=standardize
    ).fit(X, y, sample_weight=given if weighted else None)
    np.testing.assert_allclose(model.coef_, fixed.coef_, rtol=1e-12)
    # Negative control: leaving out rows without their weights is something else.
    plain = [leave_one_out.loo_score(X, targets, r, None, fit_intercept, standardize) for r in grid]
    assert np.abs(model.loo_scores_ / plain - 1).min() > 1e-2
    if weighted:
        kept = given > 0
        without = gm.AnalyticClassifier(
            ridge="loo", ridges=grid, class_weight=kind, fit_intercept=fit_intercept, standardize=standardize
        ).fit(X[kept], y[kept], sample_weight=given[kept])
        np.testing.assert_allclose(without.loo_scores_, model.loo_scores_, rtol=1e-12)


@pytest.mark.parametrize("class_weight", ["balanced", "air", {"a": 0.3, "c": 4.0}])
def test_widths_of_weighted_classes_equal_refits(rng, class_weight):
    X, y = imbalanced(rng)
    given = rng.uniform(0.3, 2.0, size=len(y))
    given[11] = 0
    if isinstance(class_weight, dict):
        w = given * np.vectorize(lambda label: class_weight.get(label, 1.0))(y)
    else:
        w = class_incremental.balanced_weights(y, given, {"balanced": "rows", "air": "classes"}[class_weight])
    targets = analytic.one_hot(y, np.array(["a", "b", "c"]))
    grid = [0.1, 20.0]
    table = np.array(
        [[leave_one_out.loo_score(X[:, :k], targets, r, w) for k in range(1, X.shape[1] + 1)] for r in grid]
    )
    by_width = gm.AnalyticClassifier(ridge=0.1, width="loo", class_weight=class_weight).fit(X, y, given)
    np.testing.assert_allclose(by_width.loo_curve_, table[0], rtol=1e-9)
    assert by_width.width_ == np.argmin(table[0]) + 1
    both = gm.AnalyticClassifier(ridge="loo", ridges=grid, width="loo", class_weight=class_weight).fit(X, y, given)
    np.testing.assert_allclose(both.loo_scores_, table.min(axis=1), rtol=1e-9)
    assert (both.ridge_, both.width_) == (grid[np.argmin(table.min(axis=1))], np.argmin(table.min(axis=0)) + 1)
    # Negative control: rows without their weights.
    plain = [leave_one_out.loo_score(X[:, :k], targets, 0.1) for k in range(1, X.shape[1] + 1)]
    assert np.abs(by_width.loo_curve_ / plain - 1).min() > 1e-2


def test_balanced_choices_in_files_and_pickles(rng, tmp_path):
    import pickle

    X, y = imbalanced(rng)
    model = gm.AnalyticClassifier(ridge="loo", ridges=[0.1, 1.0, 30.0], width="loo", class_weight="balanced").fit(X, y)
    copies = [pickle.loads(pickle.dumps(model))]
    for what in ("full", "weights"):
        model.save(tmp_path / "model", what=what)
        copies.append(gm.load(tmp_path / "model"))
    for again in copies:
        assert (again.ridge_, again.width_) == (model.ridge_, model.width_)
        assert np.array_equal(again.loo_scores_, model.loo_scores_)
        assert np.array_equal(again.predict(X), model.predict(X))


def test_width_by_rows_at_a_ridge_by_held_out_rows(rng):
    X, Y = problem(rng, n=90, d=9)
    grid = [0.1, 3.0, 90.0]
    model = gm.AnalyticRegressor(ridge="holdout", ridges=grid, width="loo").fit(X, Y)
    ridge = gm.AnalyticRegressor(ridge="holdout", ridges=grid).fit(X, Y).ridge_
    assert model.ridge_ == ridge
    expected = [leave_one_out.loo_score(X[:, :k], Y, ridge) for k in range(1, 10)]
    np.testing.assert_allclose(model.loo_curve_, expected, rtol=1e-9)
    assert model.width_ == np.argmin(expected) + 1


def test_weights_that_leave_one_row(rng):
    X, y = imbalanced(rng)
    weight = np.zeros(len(y))
    weight[3] = 1.0
    for class_weight in ("balanced", {"a": 2.0}):
        with pytest.raises(ValueError, match="two rows of positive weight"):
            gm.AnalyticClassifier(ridge="loo", class_weight=class_weight).fit(X, y, sample_weight=weight)


def test_same_balanced_choice_as_scikit_learn(rng):
    linear_model = pytest.importorskip("sklearn.linear_model")
    alphas = np.logspace(-3, 4, 15)
    for noise in (0.7, 2.0, 5.0):
        y = rng.choice(3, size=150, p=[0.7, 0.2, 0.1])
        X = rng.normal(size=(3, 30))[y] + noise * rng.normal(size=(150, 30))
        ours = gm.AnalyticClassifier(ridge="loo", ridges=alphas, class_weight="balanced").fit(X, y)
        theirs = linear_model.RidgeClassifierCV(alphas=alphas, class_weight="balanced").fit(X, y)
        assert ours.ridge_ == theirs.alpha_


@pytest.mark.parametrize("n_classes", [2, 5])
def test_same_choice_as_scikit_learn(rng, n_classes):
    linear_model = pytest.importorskip("sklearn.linear_model")
    alphas = np.logspace(-3, 5, 17)
    X = rng.normal(size=(150, 40))
    centres = rng.normal(size=(n_classes, 40))
    for noise in (0.5, 3.0, 8.0):
        y = rng.integers(0, n_classes, size=150)
        rows = centres[y] + noise * X
        ours = gm.AnalyticClassifier(ridge="loo", ridges=alphas).fit(rows, y)
        theirs = linear_model.RidgeClassifierCV(alphas=alphas).fit(rows, y)
        assert ours.ridge_ == theirs.alpha_
        Y = rows @ rng.normal(size=(40, 3)) + rng.normal(size=(150, 3))
        assert (
            gm.AnalyticRegressor(ridge="loo", ridges=alphas).fit(rows, Y).ridge_
            == linear_model.RidgeCV(alphas=alphas).fit(rows, Y).alpha_
        )


def test_kinds_of_models(rng, other_kinds):
    X, _ = problem(rng)
    y = rng.integers(0, 3, size=len(X))
    expected = leave_one_out.leverages(X, 0.4)
    np.testing.assert_allclose(gm.leverage(gm.CodedClassifier(ridge=0.4).fit(X, y), X), expected, rtol=1e-11)
    scaled = gm.CodedClassifier(ridge=0.4, standardize=True).fit(X, y)
    expected = leave_one_out.leverages(X, 0.4, standardize=True)
    np.testing.assert_allclose(gm.leverage(scaled, X), expected, rtol=1e-11)
    for other in other_kinds:
        if other is not gm.CodedClassifier:
            with pytest.raises(TypeError, match=f"CodedClassifier or GramState, got {other.__name__}"):
                gm.leverage(other().fit(X, y), X)


def test_streams_are_refused(rng):
    X, Y = problem(rng)
    for model in (gm.AnalyticRegressor(ridge="loo"), gm.AnalyticRegressor(ridge="loo").fit(X, Y)):
        with pytest.raises(ValueError, match="gcv"):
            model.partial_fit(X, Y)
    y = np.arange(60) % 2
    model = gm.AnalyticClassifier(ridge="loo").fit(X, y)
    before = model.coef_
    for stream in (model, gm.AnalyticClassifier(ridge="loo")):
        with pytest.raises(ValueError, match="gcv"):
            stream.partial_fit(X, y)
    assert np.array_equal(model.coef_, before)
    with pytest.raises(ValueError, match="gcv"):
        gm.AnalyticClassifier(ridge="loo").merge(model)
    with pytest.raises(ValueError, match="'holdout' or 'loo'"):
        gm.AnalyticRegressor(ridge="best").fit(X, Y)
    with pytest.raises(AttributeError):
        gm.AnalyticRegressor().fit(X, Y).loo_scores_  # noqa: B018


def test_the_choice_outlives_forgetting_files_and_pickles(rng, tmp_path):
    import pickle

    X, Y = problem(rng)
    model = gm.AnalyticRegressor(ridge="loo", ridges=[0.1, 1.0, 30.0]).fit(X, Y)
    for what in ("full", "weights"):
        model.save(tmp_path / "model", what=what)
        again = gm.load(tmp_path / "model")
        assert again.ridge_ == model.ridge_
        assert np.array_equal(again.loo_scores_, model.loo_scores_)
        assert np.array_equal(again.predict(X), model.predict(X))
        with pytest.raises((ValueError, NotImplementedError)):
            again.partial_fit(X, Y)
    again = pickle.loads(pickle.dumps(model))
    assert np.array_equal(again.loo_scores_, model.loo_scores_)
    ridge = model.ridge_
    model.forget(X[:10], Y[:10])
    assert model.ridge_ == ridge
    fixed = gm.AnalyticRegressor(ridge=ridge).fit(X[10:], Y[10:])
    np.testing.assert_allclose(model.coef_, fixed.coef_, rtol=1e-9, atol=1e-11)


def test_a_failed_fit_leaves_the_old_model(rng):
    X, Y = problem(rng)
    model = gm.AnalyticRegressor(ridge="loo", ridges=[0.1, 1.0]).fit(X, Y)
    before = model.coef_
    model.set_params(ridges=[1e-16], fit_intercept=False)
    with pytest.raises(ValueError):
        model.fit(X[:7], Y[:7])
    assert np.array_equal(model.coef_, before)


def test_sparse_rows_and_threads_give_the_same(rng):
    sparse = pytest.importorskip("scipy.sparse")
    X, Y = problem(rng, n=700, d=15, offset=0.0)
    X[rng.random(X.shape) < 0.7] = 0
    dense = gm.AnalyticRegressor(ridge="loo", n_jobs=1).fit(X, Y)
    threads = gm.AnalyticRegressor(ridge="loo", n_jobs=3).fit(X, Y)
    assert np.array_equal(dense.loo_scores_, threads.loo_scores_)
    csr = gm.AnalyticRegressor(ridge="loo").fit(sparse.csr_matrix(X), Y)
    np.testing.assert_allclose(csr.loo_scores_, dense.loo_scores_, rtol=1e-10)


def test_leverages_of_weighted_classes_need_the_weights():
    rng = np.random.default_rng(0)
    X, y = rng.normal(size=(40, 3)), np.repeat([0, 1], [30, 10])
    model = gm.AnalyticClassifier(class_weight="balanced").fit(X, y)
    with pytest.raises(ValueError, match="sample_weight"):
        gm.leverage(model, X)
    weight = np.where(y == 0, 40 / (2 * 30), 40 / (2 * 10))
    weighted = gm.AnalyticClassifier().fit(X, y, weight)
    assert np.allclose(gm.leverage(model, X, sample_weight=weight), gm.leverage(weighted, X, sample_weight=weight))
