"""Sketched ridge regression: the exact solution, rows by the effective dimension, paths, leave-one-out errors."""

import warnings

import numpy as np
import pytest
import scipy.sparse
from reference_path import sketched_ridge as reference

import gramian as gm
from gramian import SketchedRidge, _core, sketched_ridge

EPS = np.finfo(float).eps
KINDS = ("sparse_sign", "gaussian", "rademacher", "srht", "hdhd", "dct")
SPECTRA = {
    "1/i": lambda i: 1 / i,
    "1/i^2": lambda i: 1 / i**2,
    "exp(-i)": lambda i: np.exp(-i),
}
REAL = ("reg_concrete", "reg_energy", "reg_bike", "reg_kin40k", "reg_pol", "reg_protein")


def relative(found, expected):
    return np.linalg.norm(np.asarray(found) - expected) / np.linalg.norm(expected)


def rounding(A, ridge):
    """What rounding may do to a ridge solution: a multiple of eps times the condition of [A; sqrt(ridge) I]."""
    top = np.linalg.norm(A, 2)
    return 100 * EPS * np.sqrt((top**2 + ridge) / ridge)


# --- the rule of rows and the iteration


@pytest.mark.parametrize("kind", ["sparse_sign", "gaussian", "srht"])
@pytest.mark.parametrize("name", SPECTRA)
def test_rows_iterations_and_solution(name, kind):
    rng = np.random.default_rng(0)
    A = reference.spectrum_design(rng, 3000, SPECTRA[name](np.arange(1.0, 251)))
    b = A @ rng.normal(size=250) + 0.1 * rng.normal(size=3000)
    plain = reference.Ridge(A, b)
    before = None
    for ridge in (1e-6, 1e-5, 1e-4, 1e-3, 1e-2, 1e-1):
        result = sketched_ridge(A, b, ridge, kind=kind, random_state=3)
        dimension = plain.effective_dimension(ridge)
        assert 0 < result.sketch_rows <= 8 * dimension + 32
        assert result.iterations <= 22
        assert result.converged and result.error <= 4e-10
        exact = plain.solution(ridge)[0][:, 0]
        # The default rtol of 1e-10 is of an estimate, which may be off by its own part; a tighter one reaches 1e-10.
        assert relative(result.x, exact) <= 2e-10
        tight = sketched_ridge(A, b, ridge, kind=kind, random_state=3, rtol=1e-11)
        assert relative(tight.x, exact) <= 1e-10
        assert result.effective_dimension == pytest.approx(dimension, rel=0.1, abs=0.5)
        now = (np.linalg.norm(result.x), result.effective_dimension, result.sketch_rows)
        if before is not None:
            assert now[0] < before[0] and now[1] < before[1] and now[2] <= before[2]
        before = now


def test_rows_of_the_plain_rule():
    rng = np.random.default_rng(1)
    A = reference.spectrum_design(rng, 4000, 1 / np.arange(1.0, 201))
    b = A @ rng.normal(size=200)
    for ridge in (1e-4, 1e-2):
        plain = [reference.adaptive_rows(A, ridge, np.random.default_rng(seed)) for seed in range(5)]
        mine = [sketched_ridge(A, b, ridge, kind="gaussian", random_state=seed).sketch_rows for seed in range(5)]
        assert abs(np.mean(mine) / np.mean(plain) - 1) < 0.1
        SA = rng.normal(size=(mine[0], 4000)) @ A / np.sqrt(mine[0])
        steps, x = reference.preconditioned_steps(A, b, ridge, SA, 1e-10)
        result = sketched_ridge(A, b, ridge)
        assert abs(result.iterations - steps) <= 5
        assert relative(result.x, x) < 1e-9


def test_a_sketch_alone_is_not_the_solution():
    """The negative control: without the iteration the bar is missed by far."""
    rng = np.random.default_rng(2)
    A = reference.spectrum_design(rng, 3000, 1 / np.arange(1.0, 101))
    b = A @ np.ones(100) + 0.01 * rng.normal(size=3000)
    exact = reference.solution(A, b, 1e-3)[0][:, 0]
    alone = sketched_ridge(A, b, 1e-3, refine=False)
    assert alone.iterations == 0
    assert relative(alone.x, exact) > 1e-3 and alone.error > 1e-3
    with pytest.warns(match="stopped after 2 iterations"):
        stopped = sketched_ridge(A, b, 1e-3, max_iter=2, sketch_rows=100)
    assert relative(stopped.x, exact) > 1e-8 and not stopped.converged


def test_least_squares_in_the_end_does_not_claim_more_than_it_reached():
    """The gradient is as small as rounding lets it be, and the solution is no solution yet."""
    rng = np.random.default_rng(1)
    A, b = rng.normal(size=(2000, 3)) @ rng.normal(size=(3, 100)), rng.normal(size=2000)
    with pytest.warns(match="an error of about .* a larger ridge helps"):
        result = sketched_ridge(A, b, 1e-12)
    assert not result.converged and result.error > 1e-6
    with pytest.warns(match="a larger ridge helps"):
        model = SketchedRidge(1e-12).fit(A, b)
    assert not model.report_["converged"]
    # Without a ridge the rank is 3 and the solution of least norm is well determined.
    plain = sketched_ridge(A, b, 0.0)
    assert plain.converged and plain.error <= 1e-9
    assert relative(plain.x, np.linalg.lstsq(A, b, rcond=1e-12)[0]) <= 1e-9


def test_estimates_of_the_error():
    rng = np.random.default_rng(3)
    A = reference.spectrum_design(rng, 3000, 1 / np.arange(1.0, 101))
    b = A @ np.ones(100) + 0.01 * rng.normal(size=3000)
    exact = reference.solution(A, b, 1e-3)[0][:, 0]
    for rtol in (1e-2, 1e-4, 1e-6, 1e-8):
        result = sketched_ridge(A, b, 1e-3, rtol=rtol)
        true = relative(result.x, exact)
        assert true <= 3 * result.error <= 12 * rtol
        # x solves exactly a problem that is this near: one of gradient zero, and so the bound is not too small.
        gradient = A.T @ (b - A @ result.x) - 1e-3 * result.x
        whole = np.sqrt(np.linalg.norm(A) ** 2 + 1e-3 * 100)
        assert result.backward_error >= 0.3 * np.linalg.norm(gradient) / (
            np.linalg.norm(result.x) * whole * np.sqrt(np.linalg.norm(A, 2) ** 2 + 1)
            + whole * np.linalg.norm(b - A @ result.x)
        )


@pytest.mark.parametrize("kind", [*KINDS, "count_sketch"])
def test_every_kind(kind):
    rng = np.random.default_rng(4)
    A = reference.spectrum_design(rng, 2500, 1 / np.arange(1.0, 81))
    b = A @ np.ones(80) + 0.1 * rng.normal(size=2500)
    for weight in (None, rng.uniform(0.5, 2, 2500)):
        for intercept in (False, True):
            exact, c = reference.solution(A + 3, b, 1e-2, weight, intercept)
            result = sketched_ridge(
                A + 3, b, 1e-2, kind=kind, sample_weight=weight, fit_intercept=intercept, random_state=5
            )
            assert relative(result.x, exact[:, 0]) < 1e-9
            assert result.intercept == pytest.approx(c[0], abs=1e-8)


def test_a_sketch_that_fails_grows():
    """Rows of a coherent design collide in a small CountSketch; the iteration finds out."""
    n, d = 6000, 400
    A = np.zeros((n, d))
    A[:d] = np.eye(d)
    A[d:] = 1e-4 * np.random.default_rng(5).normal(size=(n - d, d))
    b = A @ np.ones(d) + np.random.default_rng(6).normal(size=n)
    exact = reference.solution(A, b, 1e-4)[0][:, 0]
    result = sketched_ridge(A, b, 1e-4, kind="count_sketch")
    assert relative(result.x, exact) < 1e-8
    fixed = sketched_ridge(A, b, 1e-4, kind="gaussian", sketch_rows=100)  # below the effective dimension
    assert fixed.iterations > 22 and fixed.sketch_rows == 100
    assert relative(fixed.x, exact) < 1e-8


# --- real data


@pytest.mark.parametrize("name", REAL)
def test_random_feature_ridge_on_real_data(data_dir, name):
    path = data_dir / f"{name}.npz"
    if not path.exists():
        pytest.skip(f"{path.name} is not among the data sets")
    data = np.load(path)
    X, y = data["x"].astype(float)[:6000], data["y"].astype(float)[:6000]
    X = (X - X.mean(axis=0)) / np.where(X.std(axis=0) > 0, X.std(axis=0), 1)
    Z = gm.RandomFeatures(300, activation="tanh").fit_transform(X)
    plain = reference.Ridge(Z, y, intercept=True)
    for ridge in (1e-3, 1.0, 100.0):
        exact, c = plain.solution(ridge)
        model = SketchedRidge(ridge).fit(Z, y)
        assert relative(model.coef_, exact[:, 0]) <= 1e-8
        assert relative(model.predict(Z), Z @ exact[:, 0] + c) <= 1e-8
        alone = sketched_ridge(Z, y, ridge, fit_intercept=True, refine=False, sketch_rows=600)
        assert relative(alone.x, exact[:, 0]) > 1e-5


# --- paths and leave-one-out errors


def regression_set(name, rng):
    """(rows, targets), rather different from each other."""
    if name == "diabetes":
        load = pytest.importorskip("sklearn.datasets", reason="scikit-learn is not installed").load_diabetes
        X, y = load(return_X_y=True)
        return gm.RandomFeatures(120, activation="tanh").fit_transform(10 * X), y
    if name == "friedman":
        X = rng.uniform(size=(3000, 10))
        y = 10 * np.sin(np.pi * X[:, 0] * X[:, 1]) + 20 * (X[:, 2] - 0.5) ** 2 + 10 * X[:, 3] + rng.normal(size=3000)
        return gm.RandomFeatures(150, activation="tanh").fit_transform(X), y
    if name == "tall":
        A = rng.normal(size=(20000, 20)) / np.arange(1, 21)
        return A, A @ np.ones(20) + rng.normal(size=20000)
    if name == "heavy tails":
        A = rng.standard_t(2, size=(2000, 60))
        return A, A @ rng.normal(size=60) + rng.standard_t(3, size=2000)
    A = rng.normal(size=(150, 400))  # wide
    return A, A[:, 0] - A[:, 1] + 0.1 * rng.normal(size=150)


SETS = ("diabetes", "friedman", "tall", "heavy tails", "wide")


@pytest.mark.parametrize("name", SETS)
def test_path_of_fifty_ridges(name):
    A, b = regression_set(name, np.random.default_rng(7))
    path, plain = SketchedRidge().path(A, b), reference.Ridge(A, b, intercept=True)
    assert path.ridges.shape == (50,) and path.coef.shape == (50, A.shape[1])
    assert path.leverages.shape == (50, len(A)) and path.converged.all()
    errors = []
    for j in range(50):
        ridge = path.ridges[j]
        exact = plain.solution(ridge)[0]
        # Small ridges end at the rounding of A'A.
        allowed = min(1e-6, EPS * (plain.s**2).sum() / ridge)
        assert relative(path.coef[j], exact[:, 0]) <= max(1e-8, allowed)
        mine = (b - A @ path.coef[j] - path.intercept[j]) / (1 - path.leverages[j])
        theirs = plain.loo_errors(ridge)[:, 0]
        # Where a leverage is 1 up to rounding, so is that error: the ridge is too small for these features.
        if np.isinf(path.loo[j]) or (1 - path.leverages[j]).min() < 1e-5:
            continue
        errors.append(np.abs(mine / theirs - 1).max())
        assert path.loo[j] == pytest.approx(plain.loo_score(ridge), rel=0.01)
        assert path.gcv[j] == pytest.approx(plain.gcv_score(ridge), rel=0.02)
    assert len(errors) >= 20
    assert max(errors) <= 0.01


def test_leverages_of_the_sketch_alone_are_not_enough():
    A, b = regression_set("friedman", np.random.default_rng(7))
    ridges = np.logspace(-3, 1, 5)
    rough = sketched_ridge(A, b, ridges, loo=True, loo_rtol=1e9, fit_intercept=True)
    fine = sketched_ridge(A, b, ridges, loo=True, fit_intercept=True)
    plain = reference.Ridge(A, b, intercept=True)
    exact = np.array([plain.leverages(ridge) for ridge in ridges])
    assert rough.refined_rows == 0 and rough.sketch_rows > 0 and fine.refined_rows > 0
    change = np.abs(exact - rough.leverages) / (1 - exact)
    assert change.max() > 0.01  # of the leave-one-out errors
    assert (np.abs(exact - fine.leverages) / (1 - exact)).max() <= 0.01
    # What the bound says, which decided, holds; and the bias is out of the mean.
    assert (np.abs(rough.leverages - exact) <= 5 * np.sqrt(2 / (rough.sketch_rows - 150)) * exact + 1e-12).all()
    assert np.abs(rough.leverages.sum(axis=1) / exact.sum(axis=1) - 1).max() < 0.02


def test_leave_one_out_by_definition():
    rng = np.random.default_rng(8)
    A, b = rng.normal(size=(60, 8)), rng.normal(size=(60, 2))
    weight = rng.uniform(0.5, 2, 60)
    path = sketched_ridge(A, b, [0.5, 5.0], loo=True, fit_intercept=True, sample_weight=weight)
    for j, ridge in enumerate(path.ridges):
        errors = reference.left_out(A, b, ridge, weight, True)
        mine = (b - A @ path.coef[j].T - path.intercept[j]) / (1 - path.leverages[j])[:, None]
        np.testing.assert_allclose(mine, errors, rtol=1e-8, atol=1e-10)
        assert path.loo[j] == pytest.approx(np.average((errors**2).sum(axis=1), weights=weight), rel=1e-8)


def test_order_of_the_ridges():
    rng = np.random.default_rng(9)
    A, b = rng.normal(size=(800, 30)), rng.normal(size=(800, 3))
    ridges = np.array([3.0, 0.1, 30.0, 1.0])
    mixed = sketched_ridge(A, b, ridges, loo=True)
    order = np.argsort(ridges)
    sorted_ = sketched_ridge(A, b, ridges[order], loo=True)
    assert np.array_equal(mixed.ridges, ridges)
    for name in ("coef", "intercept", "effective_dimension", "gcv", "loo", "leverages", "residual_norm", "iterations"):
        assert np.array_equal(getattr(mixed, name)[order], getattr(sorted_, name)), name
    for j, ridge in enumerate(ridges):
        exact = reference.solution(A, b, ridge)[0]
        assert relative(mixed.coef[j].T, exact) < 1e-9
        np.testing.assert_allclose(mixed.residual_norm[j], np.linalg.norm(b - A @ exact, axis=0), rtol=1e-10)


@pytest.mark.parametrize("rule", ["gcv", "loo"])
def test_the_ridge_that_is_chosen(rule):
    rng = np.random.default_rng(10)
    A = rng.normal(size=(400, 100))
    b = A @ (rng.normal(size=100) / np.arange(1, 101)) + 2 * rng.normal(size=400)
    grid = np.logspace(-2, 4, 13)
    model = SketchedRidge(rule, grid).fit(A, b)
    theirs = gm.AnalyticRegressor(ridge=rule, ridges=grid).fit(A, b)
    assert model.ridge_ == theirs.ridge_
    assert model.scores_.shape == model.ridges_.shape == (13,)
    np.testing.assert_allclose(model.coef_, theirs.coef_.ravel(), rtol=1e-6, atol=1e-9)
    model.set_params(ridge=1.0).fit(A, b)
    assert not hasattr(model, "scores_")


# --- kinds of input


@pytest.mark.parametrize("power", [-900, -600, 600, 900])
def test_the_choice_for_targets_whose_squares_leave_the_range(power):
    rng = np.random.default_rng(11)
    A = rng.normal(size=(300, 40))
    b = A @ (rng.normal(size=(40, 2)) / np.arange(1, 41)[:, None]) + 2 * rng.normal(size=(300, 2))
    grid = np.logspace(4, -2, 13)
    # Targets of one size; and a second column that is too small to count, but not zero.
    for scales in ((power, power), (power, -power))[: 2 if power > 0 else 1]:
        far = np.ldexp(b, scales)
        near = sketched_ridge(A, b if scales[1] == power else b * [1.0, 0.0], grid, loo=True, fit_intercept=True)
        path = sketched_ridge(A, far, grid, loo=True, fit_intercept=True)
        for rule in ("gcv", "loo"):
            scores = getattr(path, rule)
            assert (scores == (np.inf if power > 0 else 0)).all()
            assert path.best(rule) == near.best(rule) > 0
            # The control: the scores as float64 holds them say nothing.
            assert np.argmin(scores) == 0
            model = SketchedRidge(rule, grid).fit(A, far)
            assert model.ridge_ == near.ridges[near.best(rule)]
            if scales[1] == power:
                back = np.ldexp(model.coef_, -power)
                np.testing.assert_allclose(back, near.coef[near.best(rule)], rtol=0, atol=1e-8 * np.abs(back).max())


def test_wide_problems():
    rng = np.random.default_rng(11)
    for decay in (0.0, 1.0):
        A = rng.normal(size=(400, 900)) / np.arange(1, 901) ** decay
        b = A[:, :5].sum(axis=1) + 0.1 * rng.normal(size=400)
        for intercept in (False, True):
            exact, c = reference.solution(A, b, 0.5, intercept=intercept)
            result = sketched_ridge(A, b, 0.5, fit_intercept=intercept)
            assert relative(result.x, exact[:, 0]) < 1e-9
            assert result.intercept == pytest.approx(c[0], abs=1e-9)
            if decay:  # the effective dimension is low, so rows are sketched here too
                assert 0 < result.sketch_rows < 400
            else:
                assert result.sketch_rows == 0 and "A itself" in result.why


def test_float32_is_solved_in_float64():
    rng = np.random.default_rng(12)
    A = (rng.normal(size=(4000, 90)) / np.arange(1, 91)).astype(np.float32)
    b = (A @ np.ones(90) + 0.1 * rng.normal(size=4000)).astype(np.float32)
    for options in ({}, {"sample_weight": rng.uniform(1, 2, 4000)}, {"fit_intercept": True}):
        exact = reference.solution(A, b, 1.0, options.get("sample_weight"), options.get("fit_intercept", False))[0]
        result = sketched_ridge(A, b, 1.0, **options)
        assert result.x.dtype == np.float64
        assert relative(result.x, exact[:, 0]) < 1e-9


def test_layouts_and_sparse_rows():
    rng = np.random.default_rng(13)
    S = scipy.sparse.random(3000, 200, density=0.02, random_state=1, format="csr")
    b = rng.normal(size=3000)
    weight = rng.uniform(0.1, 1, 3000)
    for intercept in (False, True):
        for w in (None, weight):
            exact = reference.solution(S.toarray(), b, 0.1, w, intercept)[0][:, 0]
            for X in (S, S.astype(np.float32), S.tocsc(), S.toarray(), np.asfortranarray(S.toarray())):
                other = exact if X.dtype == np.float64 else None
                if other is None:
                    other = reference.solution(X.toarray(), b, 0.1, w, intercept)[0][:, 0]
                result = sketched_ridge(X, b, 0.1, sample_weight=w, fit_intercept=intercept)
                assert relative(result.x, other) < 1e-9
    integers = rng.integers(-3, 4, size=(300, 6))
    exact = reference.solution(integers, b[:300], 1.0)[0][:, 0]
    assert relative(sketched_ridge(integers, b[:300], 1.0).x, exact) < 1e-9


def test_a_far_mean_is_centred_away():
    """Centring happens inside of the products: the digits of the spread are not lost to those of the mean."""
    rng = np.random.default_rng(14)
    A = rng.normal(size=(3000, 40)) + 1e5
    b = (A - 1e5) @ np.ones(40) + rng.normal(size=3000)
    exact, c = reference.solution(A, b, 1.0, intercept=True)
    result = sketched_ridge(A, b, 1.0, fit_intercept=True)
    # The data themselves are exact only to eps 1e5 in units of the spread.
    assert relative(result.x, exact[:, 0]) < 100 * EPS * 1e5 + 1e-9
    assert result.iterations <= 22


def test_weights_are_repetitions():
    rng = np.random.default_rng(15)
    A, b, times = rng.normal(size=(500, 12)), rng.normal(size=500), rng.integers(0, 4, 500)
    one = sketched_ridge(A, b, 0.7, sample_weight=times, fit_intercept=True)
    two = sketched_ridge(np.repeat(A, times, axis=0), np.repeat(b, times), 0.7, fit_intercept=True)
    assert relative(one.x, two.x) < 1e-9
    assert one.residual_norm == pytest.approx(two.residual_norm, rel=1e-9)
    assert one.intercept == pytest.approx(two.intercept, rel=1e-8)


def test_centring_makes_no_copy():
    rng = np.random.default_rng(16)
    A = rng.normal(size=(40000, 100)) / np.arange(1, 101)
    b = A @ np.ones(100) + rng.normal(size=40000)
    _core.reset_memory_stats()
    live = _core.memory_stats()["live"]
    result = sketched_ridge(A, b, 100.0, fit_intercept=True, sample_weight=rng.uniform(1, 2, 40000))
    stats = _core.memory_stats()
    assert result.sketch_rows > 0
    assert stats["peak"] - live < A.nbytes // 2


def test_same_bits_for_any_number_of_threads():
    rng = np.random.default_rng(17)
    A, b = rng.normal(size=(5000, 60)) / np.arange(1, 61), rng.normal(size=(5000, 2))
    ridges = np.logspace(-1, 2, 5)
    one, two = (sketched_ridge(A, b, ridges, loo=True, fit_intercept=True, n_jobs=jobs) for jobs in (1, 2))
    for name in ("coef", "intercept", "loo", "gcv", "effective_dimension"):
        assert np.array_equal(getattr(one, name), getattr(two, name)), name


# --- ends of the range


def test_no_ridge_is_least_squares():
    rng = np.random.default_rng(18)
    A, b = rng.normal(size=(300, 10)), rng.normal(size=(300, 2))
    result = sketched_ridge(A, b, 0.0)
    assert relative(result.x, np.linalg.lstsq(A, b)[0]) < 1e-12
    assert "least squares" in result.why
    A[:, 3] = A[:, 4]
    least = sketched_ridge(A, b, 0, fit_intercept=True)
    exact = np.linalg.lstsq(A - A.mean(axis=0), b - b.mean(axis=0))[0]
    assert relative(least.x, exact) < 1e-10
    weight = rng.uniform(0.5, 1, 300)
    exact, c = reference.solution(rng.normal(size=(300, 10)), b, 1e-300, weight, True)
    assert np.isfinite(exact).all() and np.isfinite(c).all()


def test_tiny_and_huge_ridges():
    rng = np.random.default_rng(19)
    A = reference.spectrum_design(rng, 1000, np.logspace(0, -5, 50))
    b = A @ np.ones(50) + 1e-3 * rng.normal(size=1000)
    for ridge in (1e-14, 1e-12, 1e-8, 1e8, 1e14):
        exact = reference.solution(A, b, ridge)[0][:, 0]
        result = sketched_ridge(A, b, ridge)
        assert result.converged
        assert relative(result.x, exact) < 1e-8 + 10 * rounding(A, ridge)


def test_small_shapes():
    for n, d in ((1, 1), (1, 5), (2, 1), (5, 5), (33, 2)):
        rng = np.random.default_rng(n + d)
        A, b = rng.normal(size=(n, d)), rng.normal(size=n)
        exact = reference.solution(A, b, 0.3)[0][:, 0]
        result = sketched_ridge(A, b, 0.3)
        assert relative(result.x, exact) < 1e-9
        assert sketched_ridge(A, np.zeros(n), 0.3).x == pytest.approx(np.zeros(d))
    A[:, 1] = 0
    assert sketched_ridge(A, b, 0.3).x[1] == 0
    assert np.array_equal(sketched_ridge(np.zeros((40, 3)), np.ones(40), 1.0).x, np.zeros(3))
    constant = sketched_ridge(np.ones((40, 3)), np.arange(40.0), 1.0, fit_intercept=True)
    assert np.abs(constant.x).max() < 1e-12 and constant.intercept == pytest.approx(19.5)


def test_one_row_that_cannot_be_left_out():
    A, b = np.eye(3)[:, :2], np.ones(3)
    A[0, 0] = 1e9
    path = sketched_ridge(A, b, [1e-9, 1.0], loo=True)
    assert np.isinf(path.loo).all()
    with pytest.raises(ValueError, match="finite score"):
        path.best("loo")


# --- what is refused


def test_bad_input():
    rng = np.random.default_rng(20)
    A, b = rng.normal(size=(50, 4)), rng.normal(size=50)
    holed = A.copy()
    holed[17, 2] = np.nan
    for options in ({}, {"fit_intercept": True}, {"kind": "srht"}, {"sample_weight": np.ones(50)}):
        with pytest.raises(ValueError, match="row 17"):
            sketched_ridge(holed, b, 1.0, **options)
    tall = np.zeros((5000, 4))
    tall[4321, 1] = np.inf
    for intercept in (False, True):
        with pytest.raises(ValueError, match="row 4321"):
            sketched_ridge(tall, np.ones(5000), 1.0, fit_intercept=intercept)
    cases = [
        (dict(ridge=-1.0), "ridge"),
        (dict(ridge=np.nan), "ridge"),
        (dict(ridge="loo"), "ridge"),
        (dict(ridge=[]), "ridges"),
        (dict(ridge=[1.0, 0.0]), "above 0"),
        (dict(ridge=[1.0, -2.0]), "ridges"),
        (dict(ridge=1.0, loo=True), "path"),
        (dict(ridge=1.0, kind="leverage"), "kind"),
        (dict(ridge=1.0, rtol=0.0), "rtol"),
        (dict(ridge=1.0, rtol=1.0), "rtol"),
        (dict(ridge=1.0, sketch_rows=0), "sketch_rows"),
        (dict(ridge=1.0, max_iter=0), "max_iter"),
        (dict(ridge=1.0, nnz=0), "nnz"),
        (dict(ridge=1.0, sample_weight=-np.ones(50)), "sample_weight"),
        (dict(ridge=1.0, sample_weight=np.zeros(50)), "all zero"),
        (dict(ridge=1.0, sample_weight=np.ones(49)), "sample_weight"),
        (dict(ridge=0.0, refine=False), "above 0"),
    ]
    for options, match in cases:
        with pytest.raises(ValueError, match=match):
            sketched_ridge(A, b, **options)
    with pytest.raises(ValueError, match="inconsistent"):
        sketched_ridge(A, b[:49], 1.0)
    with pytest.raises(ValueError, match="row 3"):
        sketched_ridge(A, np.where(np.arange(50) == 3, np.inf, b), 1.0)
    with pytest.raises(ValueError, match="Complex"):
        sketched_ridge(A + 1j, b, 1.0)
    with pytest.raises(ValueError, match="leave-one-out"):
        sketched_ridge(A, b, [1.0, 2.0]).best("loo")
    with pytest.raises(ValueError, match="rule"):
        sketched_ridge(A, b, [1.0, 2.0]).best("aic")
    with pytest.raises(ValueError, match="ridge must be"):
        SketchedRidge("holdout").fit(A, b)


def test_a_failed_fit_leaves_the_model():
    rng = np.random.default_rng(21)
    A, b = rng.normal(size=(50, 4)), rng.normal(size=50)
    model = SketchedRidge("gcv", [1.0, 2.0]).fit(A, b)
    coef, scores = model.coef_.copy(), model.scores_.copy()
    A[3, 1] = np.nan
    with pytest.raises(ValueError, match="row 3"):
        model.set_params(ridge=1.0).fit(A, b)
    assert np.array_equal(model.coef_, coef) and np.array_equal(model.scores_, scores)


def test_files_pickles_and_outputs(tmp_path):
    import pickle

    rng = np.random.default_rng(22)
    A, B = rng.normal(size=(200, 6)), rng.normal(size=(200, 3))
    for model in (SketchedRidge("loo", [0.1, 10.0]).fit(A, B), SketchedRidge(2.0).fit(A, B[:, 0])):
        model.save(tmp_path / "model")
        for other in (gm.load(tmp_path / "model"), pickle.loads(pickle.dumps(model))):
            assert repr(other) == repr(model)
            assert np.array_equal(other.predict(A), model.predict(A))
            assert other.report_ == model.report_
            assert hasattr(other, "scores_") == hasattr(model, "scores_")
    assert model.predict(A).shape == (200,)
    assert SketchedRidge(2.0).fit(A, B).predict(A).shape == (200, 3)
    assert 0 < SketchedRidge(2.0).fit(A, A @ np.ones((6, 2))).score(A, A @ np.ones((6, 2))) <= 1


def test_nothing_warns_on_a_plain_problem(rng):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        SketchedRidge().fit(rng.normal(size=(500, 5)), rng.normal(size=500))


# --- numbers of any size

SIZES = [
    # A, b, ridge in units of A's square
    (1.0, 1e-300, 1.0), (1.0, 1e-170, 1.0), (1.0, 1e160, 1.0), (1.0, 1e300, 1.0), (1e-90, 1e-90, 1.0),
    (1e90, 1e90, 1.0), (1e-150, 1.0, 1.0), (1e150, 1.0, 1.0), (1e-150, 1e150, 1e-8), (1e100, 1e-100, 1e20),
]  # fmt: skip


@pytest.mark.parametrize("intercept", [False, True])
@pytest.mark.parametrize("a, b, unit", SIZES)
def test_scales(a, b, unit, intercept):
    rng = np.random.default_rng(30)
    A = rng.normal(size=(400, 20))
    t = A @ np.ones(20) + rng.normal(size=400)
    exact, c = reference.solution(A, t, unit, intercept=intercept)
    found = sketched_ridge(A * a, t * b, unit * a * a, fit_intercept=intercept)
    assert relative(found.x * a / b, exact[:, 0]) <= 1e-9
    assert found.converged and found.error <= 4e-10
    assert found.intercept / b == pytest.approx(c[0], rel=1e-7, abs=1e-8)
    rest = np.linalg.norm(t - A @ exact[:, 0] - c[0])
    assert found.residual_norm / b == pytest.approx(rest, rel=1e-9)
    assert found.effective_dimension == pytest.approx(
        reference.Ridge(A, intercept=intercept).effective_dimension(unit), rel=0.2 if unit > 1e10 else 0.01
    )
    rough = sketched_ridge(A * a, t * b, unit * a * a, fit_intercept=intercept, refine=False)
    assert not rough.converged and rough.error > 1e-4 or unit > 1e10


@pytest.mark.parametrize("kind", ["dense", "sparse"])
def test_ridges_beyond_all_squares(kind):
    rng = np.random.default_rng(31)
    A = rng.normal(size=(300, 8))
    b = rng.normal(size=(300, 2))
    rows = scipy.sparse.csr_matrix(A) if kind == "sparse" else A
    # So large that x is A'b / ridge.
    for a, ridge in ((1e-160, 1.0), (1e-200, 1e-100), (1.0, 1e300), (1e-300, 1e-300)):
        found = sketched_ridge(rows * a, b, ridge)
        want = A.T @ b
        assert found.converged and relative(found.x * (ridge / a), want) <= 1e-12
        path = sketched_ridge(rows * a, b, [ridge, ridge * 2], loo=True)
        assert relative(path.coef[1].T * (2 * ridge / a), want) <= 1e-12
        assert path.loo[0] == pytest.approx((b**2).sum() / 300, rel=1e-9)
        assert (path.leverages < 1e-20).all() and np.array_equal(path.ridges, [ridge, ridge * 2])
    # The same size for all: nothing of the path may depend on it.
    grid = np.logspace(-3, 3, 7)
    base = sketched_ridge(rows, b, grid, loo=True, fit_intercept=True)
    for a in (1e-140, 1e140):
        path = sketched_ridge(rows * a, b * 1e-100, grid * a * a, loo=True, fit_intercept=True)
        np.testing.assert_allclose(path.coef * a * 1e100, base.coef, rtol=1e-7, atol=1e-9)
        np.testing.assert_allclose(path.leverages, base.leverages, rtol=1e-9)
        np.testing.assert_allclose(path.loo * 1e200, base.loo, rtol=1e-9)
        np.testing.assert_allclose(path.gcv * 1e200, base.gcv, rtol=1e-9)
        np.testing.assert_allclose(path.residual_norm * 1e100, base.residual_norm, rtol=1e-9)


def test_targets_of_different_size_side_by_side():
    rng = np.random.default_rng(32)
    A = rng.normal(size=(300, 8))
    b = rng.normal(size=300)
    sizes = np.array([1.0, 1e-200, 1e-300, 1e200])
    exact = reference.solution(A, b, 1.0)[0][:, 0]
    found = sketched_ridge(A, b[:, None] * np.r_[sizes, 0.0], 1.0)
    for t, size in enumerate(sizes):
        assert relative(found.x[:, t] / size, exact) <= 1e-9
    assert not found.x[:, 4].any()


@pytest.mark.parametrize("size", [1e-300, 1e-200, 1e200, 1e300])
def test_weights_of_any_size(size):
    rng = np.random.default_rng(33)
    A, b = rng.normal(size=(300, 8)), rng.normal(size=300)
    w = rng.uniform(size=300)
    w[:40] = 0
    exact, c = reference.solution(A, b, 2.0, w, True)
    found = sketched_ridge(A, b, 2.0 * size, sample_weight=w * size, fit_intercept=True)
    assert relative(found.x, exact[:, 0]) <= 1e-9 and found.intercept == pytest.approx(c[0], abs=1e-9)
    path = sketched_ridge(A, b, [2.0 * size, 4.0 * size], sample_weight=w * size, fit_intercept=True, loo=True)
    base = sketched_ridge(A, b, [2.0, 4.0], sample_weight=w, fit_intercept=True, loo=True)
    np.testing.assert_allclose(path.loo, base.loo, rtol=1e-9)


def test_the_default_grid_of_small_features():
    rng = np.random.default_rng(34)
    A, b = rng.normal(size=(300, 8)), rng.normal(size=300)
    base, tiny = SketchedRidge("gcv").fit(A, b), SketchedRidge("gcv").fit(A * 1e-120, b)
    assert tiny.ridge_ * 1e240 == pytest.approx(base.ridge_, rel=1e-9)
    with pytest.raises(ValueError, match="outside the range"):
        SketchedRidge("gcv").fit(A * 1e-200, b)


def test_what_is_left_to_least_squares_is_reported_as_it_is():
    """A ridge so small that A'A cannot be used: the dimension is that of A, and the error is that of the answer."""
    rng, left = np.random.default_rng(35), 0
    for shape in ((1000, 60), (2000, 100), (60, 200)):
        k = min(shape)
        A = (np.linalg.qr(rng.normal(size=(shape[0], k)))[0] * np.exp(-np.arange(k))) @ np.linalg.qr(
            rng.normal(size=(shape[1], k))
        )[0].T
        b = rng.normal(size=shape[0])
        plain = reference.Ridge(A, b)
        for ridge in (1e-13, 1e-15, 1e-18, 1e-22):
            with warnings.catch_warnings(record=True) as complaints:
                warnings.simplefilter("always")
                found = sketched_ridge(A, b, ridge)
            assert found.converged == (not complaints)
            assert not found.converged or found.error <= 1e-6
            if "least squares" not in found.why:
                continue
            left += 1
            assert found.converged or "a larger ridge helps" in str(complaints[0].message)
            assert found.effective_dimension == pytest.approx(plain.effective_dimension(ridge), rel=1e-3)
            assert found.gcv == pytest.approx(plain.gcv_score(ridge), rel=1e-2)
            true = relative(found.x, plain.solution(ridge)[0][:, 0])
            assert true <= 3 * found.error + 1e-12
    assert left >= 3
    found = sketched_ridge(rng.normal(size=(200, 5)), rng.normal(size=200), 0.0)
    assert 0 < found.error < 1e-12


def test_a_model_without_a_finite_score_is_kept(tmp_path):
    import pickle

    rng = np.random.default_rng(36)
    # Rows less their mean depend on each other, so nothing but the ridge determines one direction.
    with pytest.warns(match="a larger ridge helps"):
        model = SketchedRidge(1e-300).fit(rng.normal(size=(4, 6)), rng.normal(size=4))
    assert model.report_["gcv"] == np.inf
    model.save(tmp_path / "model")
    for other in (gm.load(tmp_path / "model"), pickle.loads(pickle.dumps(model))):
        assert other.report_ == model.report_
