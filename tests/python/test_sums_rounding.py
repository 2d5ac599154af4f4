"""What the rounding of sums hides: errors of removals, ranks without a ridge, and scores of fits that are nearly exact.

Oracles are the rows themselves in long double, or rows whose rank is known by construction.
"""

import json
import re
import struct

import numpy as np
import pytest
from reference_path import analytic, checks

import gramian as gm

KINDS = [("float64", True), ("float64", False), ("float32", True), ("float32", False)]


def went(seed, dtype, intercept, rows=1.0, targets=1e6, n=40, d=5, k=20):
    """Rows that stay, and a state that held rows of other sizes beside them for a while."""
    rng = np.random.default_rng([seed, 8])
    X, truth = rng.normal(size=(n, d)), rng.normal(size=(d, 1))
    Y = X @ truth
    A, B = rows * rng.normal(size=(k, d)), targets * rng.normal(size=(k, 1))
    state = gm.GramState(d, 1, dtype=dtype, fit_intercept=intercept).add(X, Y).add(A, B)
    # In other pieces than they came in, so that float products do not cancel.
    return X, Y, A, B, state.remove(A[:7], B[:7]).remove(A[7:], B[7:])


def error_of(solution, X, Y, ridge, intercept, standardize=False):
    coef, _ = analytic.ridge(
        X[:, : solution.coef.shape[1]], Y, ridge, None, intercept, standardize, dtype=np.longdouble
    )
    return checks.relative_error(solution.coef, coef)


# --- the bound of removals ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype, intercept", KINDS)
def test_large_targets_that_went_are_in_the_bound(dtype, intercept):
    """|dQ| <= k eps sqrt(T E) is most of it where targets were large."""
    unit = checks.EPS if dtype == "float64" else checks.EPS32
    broken = 0
    for seed in range(60):
        X, Y, _, _, state = went(seed, dtype, intercept)
        solution = state.solve(1.0)
        error, bound = error_of(solution, X, Y, 1.0, intercept), solution.report.removal_bound
        assert error <= bound
        # Not the bound of something else: at most what the formula gives for the rows that went in.
        size, trace, energy = np.linalg.norm(solution.coef), state.largest_trace, state.largest_energy
        lambda_min = np.linalg.eigvalsh(analytic.Problem(X, Y, None, intercept).gram(1.0))[0]
        assert bound <= 16 * 60 * unit * (trace + np.sqrt(trace * energy) / size) / lambda_min
        # Negative control: without the targets it is none.
        broken += error > bound * trace / (trace + np.sqrt(trace * energy) / size)
    assert broken >= (50 if dtype == "float64" else 1)


@pytest.mark.parametrize("how", ["remove", "unmerge", "copy", "file", "pickle", "merged"])
def test_every_way_keeps_the_energy(how):
    for seed in range(10):
        X, Y, A, B, state = went(seed, "float64", True)
        if how == "unmerge":
            state = gm.GramState(5, 1).add(X, Y).merge(gm.GramState(5, 1).add(A, B))
            state.unmerge(gm.GramState(5, 1).add(A, B))
        elif how == "copy":
            state = state.copy()
        elif how == "merged":
            state = gm.GramState(5, 1).merge(state)
        elif how != "remove":
            state = checks.reloaded(state, how, gm.GramState.load)
        assert state.largest_energy >= (B**2).sum() / 2  # around a mean
        solution = state.solve(1.0)
        assert error_of(solution, X, Y, 1.0, True) <= solution.report.removal_bound
    assert gm.GramState(5, 1).add(X, Y).remove(X, Y).largest_energy == 0


def test_a_bound_of_scaled_features_is_one_of_their_units():
    """Features of size 1e-4 with standardize: the trace of the system is that of the scaled features."""
    for seed in range(20):
        X, Y, A, B, state = went(seed, "float64", True, rows=1e2)
        sizes = np.logspace(-5, -3, 5)
        state = gm.GramState(5, 1).add(X * sizes, Y).add(A * sizes, B).remove(A * sizes, B)
        solution = state.solve(1.0, standardize=True)
        error, bound = error_of(solution, X * sizes, Y, 1.0, True, True), solution.report.removal_bound
        assert error <= bound < 1
    lambda_min = np.linalg.eigvalsh(analytic.Problem(X * sizes, Y, standardize=True).gram(1.0))[0]
    assert error > 4 * 100 * checks.EPS * state.largest_trace / lambda_min  # negative control: unscaled


def test_the_energy_of_a_deleted_row_is_left_to_a_power_of_two(rng):
    X, y = rng.normal(size=(30, 4)), rng.normal(size=30)

    def after(size):
        model = gm.AnalyticRegressor(fit_intercept=False).partial_fit(X, y)
        model.partial_fit(np.ones((1, 4)), [size]).forget(np.ones((1, 4)), [size])
        return model.state_.largest_energy, model.state_.to_bytes()

    (small, _), (large, data) = after(1000.0), after(1010.0)
    assert small == large and np.frexp(small)[0] == 0.5 and 1010.0**2 < small < 2 * 1000.0**2
    assert after(4000.0)[0] == 16 * small
    state = gm.GramState.from_bytes(data)
    assert state.largest_energy == small and state.to_bytes() == data
    assert b"largest_energy" in data
    # A model whose sums are the largest there were writes nothing that older readers do not know.
    assert b"largest_energy" not in gm.GramState(4, 1, fit_intercept=False).add(X, y).to_bytes()


def without_entry(data, name):
    """The bytes of a state without one entry of its description, as an older library wrote them."""
    (size,) = struct.unpack("<Q", data[:8])
    header = json.loads(data[8 : 8 + size])
    config = json.loads(header["__metadata__"]["config"])
    assert config["state"].pop(name) is not None
    header["__metadata__"]["config"] = json.dumps(config)
    text = json.dumps(header).encode()
    text += b" " * (-(len(text) + 8) % 64)
    return struct.pack("<Q", len(text)) + text + data[8 + size :]


def test_files_from_before_fall_back_to_what_they_hold():
    X, Y, _, B, state = went(0, "float64", True)
    old = gm.GramState.from_bytes(without_entry(state.to_bytes(), "largest_energy"))
    held = ((Y - Y.mean()) ** 2).sum()
    assert held <= old.largest_energy < 2 * held * (1 + 1e-9)
    assert np.array_equal(old.solve(1.0).coef, state.solve(1.0).coef)
    assert old.solve(1.0).report.removal_bound < state.solve(1.0).report.removal_bound


def test_weights_that_follow_the_rows_have_it_too():
    for seed in range(10):
        X, Y, A, B, _ = went(seed, "float64", True)
        model = gm.AnalyticRegressor(ridge=1.0, low_latency=True).partial_fit(X, Y)
        model.coef_  # noqa: B018
        for row in range(4):
            model.partial_fit(A[row : row + 1], B[row : row + 1])
        for row in range(4):
            model.forget(A[row : row + 1], B[row : row + 1])
        assert model.report_.method == "cholesky_updated"
        coef, _ = analytic.ridge(X, Y, 1.0, dtype=np.longdouble)
        assert checks.relative_error(model.coef_, coef) <= model.report_.removal_bound


def test_weights_of_zero_have_no_relative_error(rng):
    X = rng.normal(size=(20, 3))
    state = gm.GramState(3, 1, fit_intercept=False).add(X, np.zeros(20)).add(X[:1] * 0, [3.0]).remove(X[:1] * 0, [3.0])
    assert not state.solve(1.0).coef.any() and state.solve(1.0).report.removal_bound == np.inf


# --- some of the features -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("standardize", [False, True])
def test_prefixes_report_as_solves_do(rng, dtype, standardize):
    X, Y = rng.normal(size=(200, 8)) * np.logspace(0, -1, 8), rng.normal(size=(200, 2))
    A, B = 30 * rng.normal(size=(50, 8)), rng.normal(size=(50, 2))
    state = gm.GramState(8, 2, dtype=dtype).add(X, Y)
    fresh = state.prefix([3, 8], 0.5, standardize=standardize)
    assert [part.report.removal_bound for part in fresh] == [0, 0]
    state.add(A, B).remove(A, B)
    for part in state.prefix([1, 3, 8], 0.5, standardize=standardize):
        k = part.coef.shape[1]
        error = error_of(part, X, Y, 0.5, True, standardize)
        assert 0 < error <= part.report.removal_bound
        gram = analytic.Problem(X[:, :k], Y, standardize=standardize).gram(0.5)
        # Low estimates by the power method, so never above, and close on systems of this size.
        assert part.report.condition <= np.linalg.cond(gram) * (1 + 1e-4)
        assert part.report.condition >= 0.5 * np.linalg.cond(gram)
    whole = state.solve(0.5, standardize=standardize).report
    assert part.report.removal_bound == pytest.approx(whole.removal_bound, rel=1e-6)


def test_a_file_of_weights_keeps_the_bound(rng, tmp_path):
    X, y = rng.normal(size=(60, 4)), rng.normal(size=60)
    model = gm.AnalyticRegressor().partial_fit(X, y)
    for bound in (0, 1):
        model.save(tmp_path / "weights", what="weights")
        loaded = gm.load(tmp_path / "weights")
        assert loaded.report_.removal_bound == model.report_.removal_bound
        assert (loaded.report_.removal_bound > 0) == bool(bound)
        model.forget(X[:9], y[:9])


@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_a_narrow_model_spends_its_budget(rng, dtype):
    X, y = rng.normal(size=(400, 12)), rng.integers(0, 3, 400)
    far = (1e3 if dtype == "float64" else 30) * rng.normal(size=(100, 12))
    for width in (5, "loo"):
        model = gm.AnalyticClassifier(width=width, dtype=dtype)
        model.fit(np.vstack([X, far]), np.r_[y, y[:100]])
        with pytest.raises(ValueError, match="budget"):
            gm.unlearn(model, far, y[:100], budget=1e-9)
        record = gm.unlearn(model, far, y[:100])
        used = np.flatnonzero(np.abs(model.coef_).sum(axis=0)).max() + 1
        coef, _ = analytic.ridge(X[:, :used], analytic.one_hot(y, range(3)), 1.0, dtype=np.longdouble)
        assert 0 < checks.relative_error(model.coef_[:, :used], coef) <= record.error_bound


# --- full rank ------------------------------------------------------------------------------------------------------


def rank_of(solve, *args):
    """The rank in the error of a solve; None where it was accepted."""
    try:
        solve(*args)
    except np.linalg.LinAlgError as error:
        return int(re.search(r"rank is (\d+)", str(error)).group(1))
    return None


def deficient(seed, d=12, n=100):
    """Rows of rank d - 1: the last column is the sum of the others, in long double or in small whole numbers."""
    rng = np.random.default_rng([seed, 3])
    X = rng.normal(size=(n, d)) if seed % 2 else rng.integers(-3, 4, (n, d)).astype(float)
    X[:, -1] = X[:, :-1].sum(axis=1)
    return X, rng.normal(size=n)


@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("intercept", [True, False])
def test_no_ridge_and_a_column_too_many(dtype, intercept):
    for seed in range(60):
        X, y = deficient(seed)
        state = gm.GramState(12, 1, dtype=dtype, fit_intercept=intercept).add(X, y)
        assert rank_of(state.solve, 0.0) == 11
        assert rank_of(state.path, [0.0, 1.0]) == 11
        assert rank_of(state.prefix, [5], 0.0) == 11
        for extra in ({}, {"low_latency": True}, {"width": 6}):
            model = gm.AnalyticRegressor(ridge=0, dtype=dtype, fit_intercept=intercept, **extra).fit(X, y)
            assert rank_of(getattr, model, "coef_") == 11
        # Features of unlike sizes have the same rank, and float products can tell; those of float64 need no help.
        sizes = np.logspace(-2, 2, 12)
        state = gm.GramState(12, 1, dtype=dtype, fit_intercept=intercept).add(X * sizes, y)
        assert rank_of(state.solve, 0.0) == 11
        # The control: without that column there is nothing to complain of.
        less = gm.GramState(11, 1, dtype=dtype, fit_intercept=intercept).add(X[:, :-1], y)
        coef, _ = analytic.ridge(X[:, :-1], y, 0.0, None, intercept)
        bound = checks.weight_bound(X[:, :-1], 0.0, 100, checks.EPS if dtype == "float64" else checks.EPS32, intercept)
        assert checks.relative_error(less.solve(0.0).coef, coef) <= bound


@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_fewer_rows_than_features(dtype):
    """Ranks of rows whose singular values all are one, so that only rounding could count as another."""
    for seed in range(40):
        rng = np.random.default_rng([seed, 5])
        d = int(rng.integers(5, 60))
        n = int(rng.integers(2, d))
        X = np.linalg.qr(rng.normal(size=(d, n)))[0].T
        state = gm.GramState(d, 1, dtype=dtype, fit_intercept=False).add(X, rng.normal(size=n))
        assert rank_of(state.solve, 0.0) == n


@pytest.mark.parametrize("dtype, largest", [("float64", 1e3), ("float32", 1e1)])
def test_rank_that_went_with_rows(dtype, largest):
    """The rows that stay are orthogonal and of one size, those that went larger: what they leave behind is rounding."""
    for seed in range(60):
        rng = np.random.default_rng([seed, 7])
        d = int(rng.integers(5, 40))
        left = int(rng.integers(2, d)) if seed % 3 else d - 1
        X = np.sqrt(d) * np.linalg.qr(rng.normal(size=(d, left)))[0].T
        A = largest ** rng.random() * rng.normal(size=(3 * d, d))
        state = gm.GramState(d, 1, dtype=dtype, fit_intercept=False).add(X, np.ones(left)).add(A, np.ones(3 * d))
        state.remove(A, np.ones(3 * d))
        assert rank_of(state.solve, 0.0) == left
        live = gm.AnalyticRegressor(ridge=0, low_latency=True, dtype=dtype, fit_intercept=False)
        live.partial_fit(X, np.ones(left)).partial_fit(A, np.ones(3 * d))
        live.coef_  # noqa: B018
        for row in range(3 * d):
            live.forget(A[row : row + 1], [1.0])
        assert rank_of(getattr, live, "coef_") == left


@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_full_rank_stays_full_rank(dtype):
    """Features of unlike sizes, and rows that came and went: accepted, and right within their bound."""
    eps = checks.EPS if dtype == "float64" else checks.EPS32
    for seed in range(20):
        rng = np.random.default_rng([seed, 9])
        sizes = np.logspace(-2, 2, 8)
        X, y = rng.normal(size=(300, 8)), rng.normal(size=300)
        solution = gm.GramState(8, 1, dtype=dtype).add(X * sizes, y).solve(0.0)
        coef, _ = analytic.ridge(X, y, 0.0, dtype=np.longdouble)
        assert checks.relative_error(solution.coef * sizes, coef) <= checks.weight_bound(X, 0.0, 300, eps)
        A, b = 3 * rng.normal(size=(30, 8)), rng.normal(size=30)
        solution = gm.GramState(8, 1, dtype=dtype).add(X, y).add(A, b).remove(A, b).solve(0.0)
        assert checks.relative_error(solution.coef, coef) <= solution.report.removal_bound + checks.weight_bound(
            X, 0.0, 300, eps
        )


# --- held-out rows of the last call ---------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", [gm.AnalyticClassifier, gm.AnalyticRegressor])
def test_what_the_last_call_held_out_does_not_outlive_a_removal(rng, kind):
    X, y = rng.normal(size=(60, 5)), rng.integers(0, 3, 60)
    params = {"ridge": "holdout", "holdout_rule": "ranpac"}
    model = kind(**params).partial_fit(X, y)
    assert model.ridge_ in 10.0 ** np.arange(-8, 9)
    other = kind(**params).partial_fit(X[:9], y[:9])
    for gone in (slice(0, 30), slice(30, 60)):
        model.forget(X[gone], y[gone])
    assert model.to_bytes() == other.forget(X[:9], y[:9]).to_bytes()
    # After some have gone, nothing but the sums chooses.
    for gone in (slice(0, 20), slice(40, 60)):
        keep = np.setdiff1d(np.arange(60), np.arange(60)[gone])
        model = kind(**params).partial_fit(X, y).forget(X[gone], y[gone])
        target = analytic.one_hot(y, range(3)) if kind is gm.AnalyticClassifier else y[:, np.newaxis]
        # The published grid takes part no more than the rows: the ridge is that of "gcv" on the same sums.
        by_gcv = kind(ridge="gcv", ridges=10.0 ** np.arange(-8, 9)).partial_fit(X[keep], y[keep])
        assert model.ridge_ == by_gcv.ridge_
        coef, _ = analytic.ridge(X[keep], target[keep], model.ridge_)
        bound = model.report_.removal_bound + checks.weight_bound(X[keep], model.ridge_, 60)
        assert checks.relative_error(np.atleast_2d(model.coef_), coef) <= bound
        record = gm.unlearn(kind(**params).partial_fit(X, y), X[gone], y[gone], strict=True)
        assert record.clean
    # Rows that come later are held out again, and merge and unmerge keep to the same.
    model.partial_fit(X[:30], y[:30])
    fresh = kind(**params).partial_fit(X[keep], y[keep]).partial_fit(X[:30], y[:30])
    assert model.ridge_ == fresh.ridge_
    part, both = kind(**params).partial_fit(X[:20], y[:20]), kind(**params).partial_fit(X, y)
    assert both.unmerge(part).ridge_ == kind(ridge="gcv", ridges=10.0 ** np.arange(-8, 9)).fit(X[20:], y[20:]).ridge_


# --- fits that are nearly exact -------------------------------------------------------------------------------------


def nearly_exact(seed, n, d, noise):
    rng = np.random.default_rng([seed, n, d])
    X = rng.normal(size=(n, d))
    return X, X @ rng.normal(size=(d, 1)) + noise * rng.normal(size=(n, 1))


@pytest.mark.parametrize("d", [100, 300])
def test_gcv_does_not_depend_on_the_order_of_its_grid(d):
    ridges = np.logspace(-16, 4, 21)
    rng, alone = np.random.default_rng(1), []
    for seed in range(4):
        X, Y = nearly_exact(seed, 700, d, 1e-9)
        state = gm.GramState(d, 1).add(X, Y)
        scores, _ = analytic.Problem(X, Y).gcv_curve(ridges)
        for order in (np.arange(21), np.arange(21)[::-1], rng.permutation(21)):
            curve = state.gcv(ridges[order])
            assert curve.method == ("eigh" if d == 100 else "cholesky")
            # All that is left of the choice is between degrees of freedom that can differ by those of all features.
            assert scores[order][curve.best] <= (700 / (700 - d - 1)) ** 2 * scores.min()
            assert curve.ridge == state.gcv(ridges).ridge
        alone.append(scores[::-1][state.gcv(ridges[::-1]).scores.argmin()] / scores.min())
    # Negative control: the scores alone, of a falling grid, choose one that is far worse.
    assert d == 100 or max(alone) > 10


def test_gcv_of_few_rows_still_sees_noise():
    """With fewer rows than features every small ridge fits exactly; that is no reason to take the smallest."""
    ridges = np.logspace(-12, 5, 18)
    for d in (90, 300):
        for seed in range(5):
            X, Y = nearly_exact(seed, 60, d, 30.0)
            curve = gm.GramState(d, 1).add(X, Y).gcv(ridges)
            scores, _ = analytic.Problem(X, Y).gcv_curve(ridges)
            assert curve.method == ("eigh" if d == 90 else "cholesky")
            assert scores[curve.best] <= (1 + 1e-6) * scores[ridges > 1e-6].min()


def test_held_out_rows_that_are_met_exactly():
    ridges = np.logspace(-16, 4, 21)
    for seed in range(4):
        X, Y = nearly_exact(seed, 900, 60, 1e-9)
        train, held = gm.GramState(60, 1).add(X[:700], Y[:700]), gm.GramState(60, 1).add(X[700:], Y[700:])
        errors = []
        for ridge in ridges:
            coef, intercept = analytic.ridge(X[:700], Y[:700], ridge, dtype=np.longdouble)
            errors.append(float(((Y[700:] - X[700:] @ coef.T - intercept) ** 2).mean()))
        for order in (ridges, ridges[::-1]):
            for full in (True, False):
                chosen = train.holdout(held, order, full=full).ridge
                assert errors[int(np.flatnonzero(ridges == chosen)[0])] <= 2 * min(errors)


# --- the dual form --------------------------------------------------------------------------------------------------


def test_the_dual_form_names_weights_that_overflow(rng):
    X = rng.normal(size=(5, 12)) * 1e-200
    for form in ("dual", "auto"):
        with pytest.raises(np.linalg.LinAlgError, match="overflow"):
            gm.ridge_solve(X, X[:, 0] * 1e210, 1e-300, form=form)
    assert np.isfinite(gm.ridge_solve(X, X[:, 0] * 1e210, 1.0, form="dual").coef).all()


def test_no_ridge_is_the_same_error_in_every_form(rng):
    X, y = rng.normal(size=(5, 12)), rng.normal(size=5)
    for form in ("dual", "primal", "auto"):
        with pytest.raises(np.linalg.LinAlgError):
            gm.ridge_solve(X, y, 0.0, form=form)
    with pytest.raises(ValueError, match="ridge"):
        gm.ridge_solve(X, y, -1.0, form="dual")
