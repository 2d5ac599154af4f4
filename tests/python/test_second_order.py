"""Running inverses, M-FAC and Kronecker factors against their dense definitions."""

import copy
import pickle

import numpy as np
import pytest
from reference_path import checks
from reference_path import second_order as ref

import gramian as gm
from gramian import MFAC, MKOR, AnalyticRegressor
from gramian.second_order import RunningInverse

EPS, relative_error = checks.EPS, checks.relative_error


# --- running inverses ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("forgetting", [1.0, 0.999, 0.9])
def test_running_inverse_against_the_batch(rng, forgetting):
    d, n = 12, 20000
    X = rng.normal(size=(n, d))
    inverse = RunningInverse(d, ridge=0.5, forgetting=forgetting).update(X, together=False)
    ages = forgetting ** np.arange(n - 1, -1, -1.0)
    H = (X * ages[:, np.newaxis]).T @ X + 0.5 * forgetting**n * np.eye(d)
    # Without ageing each update leaves its rounding behind: n eps cond at worst, the root of n in the mean.
    bound = 10 * np.sqrt(n) * EPS * np.linalg.cond(H)
    assert relative_error(inverse.matrix(), np.linalg.inv(H)) <= bound
    assert inverse.n_updates_ == n
    assert inverse.trace_ == pytest.approx(np.trace(np.linalg.inv(H)), rel=bound)
    wrong = ref.wrong_inverse_after(np.eye(d) / 0.5, X[:50], 0.9)
    right = RunningInverse(d, ridge=0.5, forgetting=0.9).update(X[:50], together=False).matrix()
    assert relative_error(wrong, right) > 0.1


def test_block_update_ages_once(rng):
    X = rng.normal(size=(7, 5))
    found = RunningInverse(5, ridge=2.0, forgetting=0.8).update(X, weight=0.25)
    H = 0.8 * 2.0 * np.eye(5) + 0.25 * X.T @ X
    np.testing.assert_allclose(found.matrix(), np.linalg.inv(H), rtol=0, atol=1e-13)
    np.testing.assert_allclose(found.multiply(X), X @ np.linalg.inv(H), rtol=0, atol=1e-13)


def test_ill_conditioned_inverse_is_renewed(rng):
    """Rows of very different sizes at a small ridge: the recursion loses digits, a check finds it and renews P."""
    d = 20
    X = rng.normal(size=(3000, d)) * np.logspace(0, 3, d)
    bare = RunningInverse(d, ridge=1e-6, keep_matrix=True).update(X, together=False)
    kept = RunningInverse(d, ridge=1e-6, keep_matrix=True, check_every=100, refresh_above=1e-9)
    kept.update(X, together=False)
    assert kept.refreshes_ >= 1
    assert kept.residual() < 1e-3 * bare.residual()
    before = bare.residual()
    assert bare.refine().residual() < before
    assert bare.rebuild().residual() <= 1e-8


def test_rows_that_look_into_one_direction_are_capped():
    """Without excitation the inverse grows by 1 / forgetting a step: it is held at max_trace, and says so."""
    x = np.array([1.0, 0.0, 0.0])
    free = RunningInverse(3, forgetting=0.9)
    held = RunningInverse(3, forgetting=0.9, max_trace=50.0, keep_matrix=True)
    for _ in range(400):
        free.update(x)
        held.update(x)
    assert free.trace_ > 1e15
    assert held.trace_ <= 50.0
    assert held.held_back_ > 300
    assert held.residual() <= 1e-10
    held.update(np.eye(3))  # and it still learns
    assert np.isfinite(held.matrix()).all()


def test_overflow_is_an_error_not_an_infinity():
    inverse = RunningInverse(2, forgetting=1e-3)
    with pytest.raises(ValueError, match="overflow"):
        for _ in range(200):
            inverse.update([1.0, 0.0])
    assert np.isfinite(inverse.matrix()).all()


def test_rows_whose_products_overflow_are_refused():
    """x'P x of 1e320 is infinite; a share of 1 / infinity of it would be taken in, which is none."""
    for engine, take in (
        (RunningInverse(2), lambda e: e.update([[1e160, 0.0]])),
        (RunningInverse(2), lambda e: e.update([[1e160, 0.0], [1.0, 1.0]])),
        (MKOR(2, 2), lambda e: e.update([1e200, 0.0], [1.0, 0.0])),
    ):
        before = pickle.dumps(engine)
        with pytest.raises(ValueError, match="overflow"):
            take(engine)
        assert pickle.dumps(engine) == before
    with pytest.raises(ValueError, match="inverse"):
        RunningInverse(2, ridge=1e-310)


def test_rows_along_which_the_inverse_would_be_rounding(rng):
    """At x'P x of 1e15 the inverse along x would be rounding, of any sign: an error, unless H has the digits."""
    for ridge in (1e-300, 1e-20, 1e-17):
        for keep in (False, True):
            inverse = RunningInverse(2, ridge=ridge, keep_matrix=keep)
            before = pickle.dumps(inverse)
            with pytest.raises(np.linalg.LinAlgError, match="row 0"):
                inverse.update([[0.6, 0.8]])
            assert pickle.dumps(inverse) == before
    bare = RunningInverse(3, ridge=1e-6).update([[1.0, 2.0, 3.0]])  # 1e7: seven digits are lost, and nine are left
    assert np.linalg.eigvalsh(bare.matrix()).min() > 0
    # Rows in all directions: the inverse falls from 1e20 to 1, and is made anew from a matrix of condition 10.
    X = rng.normal(size=(20, 4))
    kept = RunningInverse(4, ridge=1e-20, keep_matrix=True).update(X)
    assert kept.refreshes_ == 1 and kept.n_updates_ == 1
    expected = np.linalg.inv(X.T @ X)
    assert relative_error(kept.matrix(), expected) <= 100 * EPS * np.linalg.cond(X) ** 2
    assert kept.trace_ == pytest.approx(np.trace(expected))
    P = np.eye(4) * 1e20  # what a difference would have left
    P = P - P @ X.T @ np.linalg.solve(np.eye(20) + X @ P @ X.T, X @ P)
    assert relative_error(P, expected) > 100


def test_a_check_that_cannot_renew_leaves_the_inverse():
    """H is singular to rounding: there is nothing to make P anew from, and the update is in all the same."""
    inverse = RunningInverse(3, ridge=1e-14, keep_matrix=True, check_every=1, refresh_above=1e-30)
    for _ in range(3):
        inverse.update(np.array([1.0, 1.0, 1.0]) / 3)
    assert inverse.n_updates_ == 3
    assert np.isfinite(inverse.matrix()).all()


def test_a_million_updates(rng):
    """A million rows, in updates of one each, against the sums of all of them."""
    d, n = 4, 1_000_000
    X = rng.normal(size=(n, d))
    for forgetting in (1.0, 0.999):
        inverse = RunningInverse(d, ridge=0.5, forgetting=forgetting).update(X, together=False)
        last = X[-40000:] if forgetting < 1 else X  # 0.999^40000 = 4e-18
        ages = forgetting ** np.arange(len(last) - 1, -1, -1.0)
        H = (last * ages[:, np.newaxis]).T @ last + (0.5 * np.eye(d) if forgetting == 1 else 0)
        bound = 10 * np.sqrt(len(last)) * EPS * np.linalg.cond(H)
        assert inverse.n_updates_ == n
        assert relative_error(inverse.matrix(), np.linalg.inv(H)) <= bound


def test_taking_out_what_is_not_there():
    inverse = RunningInverse(2, ridge=1e-3).update([[1.0, 1.0]])
    before = inverse.matrix()
    with pytest.raises(np.linalg.LinAlgError, match="row 0"):
        inverse.update([[1.0, 1.0]], weight=-1.1)
    with pytest.raises(np.linalg.LinAlgError, match="row 1"):
        inverse.update([[1e-3, 0.0], [2.0, 2.0]], weight=-1.0)
    assert np.array_equal(inverse.matrix(), before)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"n_features": 0}, "n_features"),
        ({"n_features": 2, "ridge": 0.0}, "ridge"),
        ({"n_features": 2, "forgetting": 1.1}, "forgetting"),
        ({"n_features": 2, "check_every": 3}, "keep_matrix"),
        ({"n_features": 2, "max_trace": -1.0}, "max_trace"),
    ],
)
def test_running_inverse_refuses(arguments, message):
    with pytest.raises(ValueError, match=message):
        RunningInverse(**arguments)


def test_running_inverse_refuses_rows():
    inverse = RunningInverse(3)
    with pytest.raises(ValueError, match="NaN or infinity"):
        inverse.update([1.0, np.nan, 0.0])
    with pytest.raises(ValueError, match="expected 3"):
        inverse.update([1.0, 2.0])
    with pytest.raises(ValueError, match="weight"):
        inverse.update([1.0, 2.0, 3.0], weight=0.0)
    with pytest.raises(ValueError, match="not kept"):
        inverse.residual()


@pytest.mark.parametrize("forgetting", [1.0, 0.999, 0.9])
def test_recursive_least_squares_is_the_low_latency_regressor(rng, forgetting):
    """The weights of the recursion on P are those of the regressor that follows its rows."""
    d, n = 8, 3000
    X = rng.normal(size=(n, d))
    y = X @ rng.normal(size=d) + rng.normal(size=n)
    model = AnalyticRegressor(ridge=0.5, fit_intercept=False, low_latency=True, forgetting=forgetting)
    inverse, w = RunningInverse(d, ridge=0.5, forgetting=forgetting), np.zeros(d)
    for k in range(n):
        inverse.update(X[k])
        w += inverse.multiply(X[k])[0] * (y[k] - X[k] @ w)
        if k % 10 == 0:
            model.partial_fit(X[k : k + 10], y[k : k + 10])
    np.testing.assert_allclose(np.ravel(model.coef_), w, rtol=0, atol=1e-10)


# --- M-FAC -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dynamic", [True, False])
@pytest.mark.parametrize("ridge", [1e-12, 1e-9, 1e-6, 1e-3, 1.0, 1e3])
def test_mfac_against_the_dense_fisher(rng, dynamic, ridge):
    d, m = 500, 16
    G, v = rng.normal(size=(m, d)), rng.normal(size=(4, d))
    model = MFAC(m, ridge=ridge, dynamic=dynamic).push(G)
    inverse = ref.fisher_inverse(G, ridge, m)
    # Backward error of the m x m system, whose condition is at most that of G G'; errors are relative to |v| / ridge.
    bound = 20 * EPS * d * min(np.linalg.cond(G) ** 2, np.linalg.cond(ref.fisher(G, ridge, m)))
    assert bound < 1e-10
    assert relative_error(model.ivp(v), v @ inverse) <= bound
    assert model.ivp(v[0]).shape == (d,)
    assert relative_error(model.diag(), np.diag(inverse)) <= bound
    picked = [3, 499, 0, 3]
    assert relative_error(model.inverse_block(picked), inverse[np.ix_(picked, picked)]) <= bound
    # An independent way, without a d x d inverse: F applied to the answer gives v back, to the rounding of F x.
    x = model.ivp(v)
    back = ridge * x + (x @ G.T) @ G / m
    scale = ridge * np.linalg.norm(x) + np.linalg.norm(G, 2) ** 2 * np.linalg.norm(x) / m
    assert np.linalg.norm(back - v) <= 50 * EPS * d * scale


def test_mfac_window_after_ten_thousand_replacements(rng):
    d, m = 60, 24
    model = MFAC(m, ridge=1e-3)
    window = []
    v = rng.normal(size=d)
    for k in range(10000):
        g = rng.normal(size=d) * (1 + k % 7)
        model.push(g)
        window = [*window, g][-m:]
    fresh = MFAC(m, ridge=1e-3).push(np.array(window))
    dense = np.linalg.solve(ref.fisher(np.array(window), 1e-3, m), v)
    assert model.n_held_ == m
    assert relative_error(model.ivp(v), fresh.ivp(v)) <= 1e-10
    assert relative_error(model.ivp(v), dense) <= 1e-10
    stale = MFAC(m, ridge=1e-3).push(np.array(window[:-1] + window[:1]))
    assert relative_error(stale.ivp(v), dense) > 1e-3  # the oracle tells a window that missed its last gradient


def test_mfac_replaces_any_place_without_refreshing(rng):
    d, m = 50, 40
    G = rng.normal(size=(m, d))
    model = MFAC(m, ridge=1e-2).push(G)
    before = model.refreshes_
    for k in range(30):
        age = int(rng.integers(m))
        G[age] = rng.normal(size=d)
        model.replace(age, G[age])
        assert model.refreshes_ == before, k
    v = rng.normal(size=d)
    assert relative_error(model.ivp(v), np.linalg.solve(ref.fisher(G, 1e-2, m), v)) <= 1e-10


def test_mfac_duplicates(rng):
    """Equal gradients: G G' is singular and only the ridge is left."""
    d, m = 40, 10
    g = rng.normal(size=d)
    G = np.repeat(g[np.newaxis], m, axis=0)
    for ridge in (1e-3, 1e-8):
        model = MFAC(m, ridge=ridge)
        for _ in range(3):
            model.push(G)
        v = rng.normal(size=d)
        along = g * (g @ v) / (g @ g)
        expected = (v - along) / ridge + along / (ridge + g @ g)
        assert relative_error(model.ivp(v), expected) <= 1e-10
        assert model.effective_dimension_ == pytest.approx(1.0, abs=1e-4)
    with pytest.raises(np.linalg.LinAlgError, match="larger ridge"):
        MFAC(m, ridge=1e-30).push(G * 1e3)


def test_mfac_of_one_gradient_is_sherman_morrison(rng):
    g, v = rng.normal(size=30), rng.normal(size=30)
    model = MFAC(1, ridge=0.3).push(rng.normal(size=30)).push(g)
    expected = v / 0.3 - g * (g @ v) / 0.3**2 / (1 + g @ g / 0.3)
    assert relative_error(model.ivp(v), expected) <= 1e-14 * 30


def test_mfac_while_it_fills(rng):
    G, v = rng.normal(size=(3, 20)), rng.normal(size=20)
    model = MFAC(8, ridge=0.1)
    for k in range(3):
        model.push(G[k])
        expected = np.linalg.solve(ref.fisher(G[: k + 1], 0.1, 8), v)
        assert relative_error(model.ivp(v), expected) <= 1e-12
    assert model.n_held_ == 3


def test_mfac_more_gradients_than_it_holds(rng):
    G, v = rng.normal(size=(20, 15)), rng.normal(size=15)
    found = MFAC(6, ridge=0.1).push(G[:4]).push(G[4:]).ivp(v)
    assert relative_error(found, np.linalg.solve(ref.fisher(G[-6:], 0.1, 6), v)) <= 1e-12


@pytest.mark.parametrize("dynamic", [True, False])
def test_mfac_float32_storage(rng, dynamic):
    """What is stored is rounded, what is computed is not: the dynamic answer is the exact one of rounded gradients."""
    G, v = rng.normal(size=(12, 700)), rng.normal(size=(2, 700))
    model = MFAC(12, ridge=1e-2, dynamic=dynamic, dtype="float32").push(G)
    rounded = G.astype(np.float32).astype(np.float64)
    expected = np.linalg.solve(ref.fisher(rounded, 1e-2, 12), v.T).T
    assert relative_error(model.ivp(v), expected) <= (1e-11 if dynamic else 1e-5)
    if dynamic:
        model.push(G[:5])
        again = np.vstack([rounded[5:], rounded[:5]])
        expected = np.linalg.solve(ref.fisher(again, 1e-2, 12), v.T).T
        assert relative_error(model.ivp(v), expected) <= 1e-11


def test_optimal_brain_surgeon(rng):
    d, m = 25, 40
    G, w = rng.normal(size=(m, d)), rng.normal(size=d)
    model = MFAC(m, ridge=1e-2).push(G)
    F = ref.fisher(G, 1e-2, m)
    inverse = np.linalg.inv(F)
    np.testing.assert_allclose(model.obs_scores(w), w**2 / (2 * np.diag(inverse)), rtol=1e-9)
    for indices in ([7], [3, 11, 24]):
        pruned = model.obs_update(w, indices)
        assert (pruned[indices] == 0).all()
        # The constrained minimum of (u - w)'F(u - w): solved in the weights that stay.
        kept = np.setdiff1d(np.arange(d), indices)
        best = np.zeros(d)
        best[kept] = w[kept] + np.linalg.solve(F[np.ix_(kept, kept)], F[np.ix_(kept, indices)] @ w[indices])
        np.testing.assert_allclose(pruned, best, rtol=0, atol=1e-10)
        grown = (pruned - w) @ F @ (pruned - w) / 2
        if len(indices) == 1:
            assert grown == pytest.approx(model.obs_scores(w)[indices[0]], rel=1e-9)
    plain = w.copy()
    plain[7] = 0
    assert (plain - w) @ F @ (plain - w) / 2 > model.obs_scores(w)[7]


@pytest.mark.parametrize("dynamic", [True, False])
def test_mfac_diagonals_are_positive_where_nothing_but_rounding_is_left(rng, dynamic):
    """Beside gradients of 1e6 a ridge of 1e-5 is rounding: the stiffest parameters must not become the cheapest."""
    d, m = 30, 5
    G = np.zeros((m, d))
    G[:, :6] = 1e6 * rng.normal(size=(m, 6))
    model = MFAC(m, dynamic=dynamic, ridge=1e-5).push(G)
    F = ref.fisher(G, 1e-5, m)
    exact = np.diag(ref.fisher_inverse(G, 1e-5, m))
    found = model.diag()
    assert (found > 0).all()
    np.testing.assert_allclose(found[6:], 1e5, rtol=1e-12)
    if dynamic:
        assert (found >= (1 - 1e-12) / np.diag(F)).all()
    single = MFAC(1, dynamic=dynamic, ridge=1e-5).push(np.eye(1, d) * 1e6)
    np.testing.assert_allclose(single.diag()[0], 1e-12, rtol=1e-9)  # 1 / F_ii itself
    scores = single.obs_scores(np.ones(d))
    assert scores.argmax() == 0 and np.isfinite(scores).all()
    assert exact.min() > 0


def test_mfac_refuses(rng):
    with pytest.raises(ValueError, match="n_gradients"):
        MFAC(0)
    with pytest.raises(ValueError, match="ridge"):
        MFAC(3, ridge=0.0)
    with pytest.raises(ValueError, match="dtype"):
        MFAC(3, dtype="float16")
    model = MFAC(3, ridge=0.1)
    with pytest.raises(ValueError, match="no gradient yet"):
        model.ivp([1.0])
    G = rng.normal(size=(3, 4))
    model.push(G)
    v = np.ones(4)
    before = model.ivp(v)
    bad = G.copy()
    bad[1, 2] = np.inf
    with pytest.raises(ValueError, match="row 1"):
        model.push(bad)
    with pytest.raises(ValueError, match="expected 4"):
        model.push(np.ones(5))
    with pytest.raises(ValueError, match="age"):
        model.replace(3, np.ones(4))
    with pytest.raises(ValueError, match="row 1"):  # of rows that leave the window at once
        model.push(np.vstack([bad, np.ones((4, 4))]))
    with pytest.raises(ValueError, match="overflow"):
        model.ivp(np.full(4, 1.7e308))
    with pytest.raises(ValueError, match="v contains NaN"):
        model.ivp([np.nan, 0, 0, 0])
    with pytest.raises(ValueError, match="0 .. 3"):
        model.inverse_block([4])
    with pytest.raises(ValueError, match="different"):
        model.obs_update(np.ones(4), [1, 1])
    assert np.array_equal(model.ivp(v), before)
    fixed = MFAC(3, ridge=0.1, dynamic=False).push(G)
    with pytest.raises(ValueError, match="static"):
        fixed.push(G)
    with pytest.raises(ValueError, match="static"):
        fixed.replace(0, G[0])


# --- Kronecker factors -----------------------------------------------------------------------------------------------


def test_mkor_exact(rng):
    layer, oracle = MKOR(6, 9, decay=0.9, rescale=False), ref.ExactKronecker(6, 9, 0.9)
    for _ in range(60):
        l, r = rng.normal(size=6), rng.normal(size=9)  # noqa: E741
        layer.update(l, r)
        oracle.update(l, r)
    g = rng.normal(size=(6, 9))
    bound = 1000 * EPS * np.linalg.cond(oracle.L) * np.linalg.cond(oracle.R)
    assert relative_error(layer.left_inverse_ @ oracle.L, np.eye(6)) <= bound
    assert relative_error(layer.precondition(g), oracle.precondition(g)) <= bound
    W = rng.normal(size=(6, 9))
    np.testing.assert_allclose(layer.step(W, g), W - 0.1 * oracle.precondition(g), rtol=0, atol=bound * 100)


def test_mkor_paper_is_its_rule_and_not_the_exact_inverse(rng):
    layer, oracle = MKOR(5, 4, mode="paper"), ref.PaperKronecker(5, 4, 0.95, 2.0, 0.1)
    exact = ref.ExactKronecker(5, 4, 0.95)
    for _ in range(80):
        l, r = rng.normal(size=5), rng.normal(size=4)  # noqa: E741
        layer.update(l, r)
        oracle.update(l, r)
        exact.update(l, r)
    np.testing.assert_allclose(layer.left_inverse_, oracle.P[0], rtol=0, atol=1e-12)
    np.testing.assert_allclose(layer.right_inverse_, oracle.P[1], rtol=0, atol=1e-12)
    assert relative_error(layer.left_inverse_, np.linalg.inv(exact.L)) > 0.3


@pytest.mark.parametrize("mode", ["exact", "paper"])
def test_mkor_takes_both_vectors_or_none(mode, rng):
    layer = MKOR(3, 2, mode=mode).update(rng.normal(size=3), rng.normal(size=2))
    before = pickle.dumps(layer)
    bad = [([1e200, 0, 0], [1.0, 2.0]), ([1.0, 2.0, 3.0], [0.0, 1e200]), ([1.0, 2.0, 3.0], [0.0, np.inf])]
    for left, right in bad:
        with pytest.raises(ValueError):
            layer.update(left, right)
        assert pickle.dumps(layer) == before
    if mode == "exact":
        with pytest.raises(np.linalg.LinAlgError, match="rounding"):
            layer.update([1.0, 2.0, 3.0], [1e10, 1e9])
        assert pickle.dumps(layer) == before
    else:  # the blend lifts what such a vector leaves
        layer.update([1.0, 2.0, 3.0], [1e10, 1e9]).update([1.0, 2.0, 3.0], [1.0, 1.0])
        assert np.linalg.eigvalsh(layer.right_inverse_).min() > 0.01


@pytest.mark.parametrize("rescale", [True, False])
@pytest.mark.parametrize("size", [1e-320, 1e-300, 1e-170, 1e160, 1e300])
def test_mkor_steps_of_any_size(size, rescale, rng):
    layer = MKOR(3, 4, rescale=rescale).update(rng.normal(size=3), rng.normal(size=4))
    g = rng.normal(size=(3, 4))
    step = layer.step(np.zeros((3, 4)), size * g)
    tolerance = 1e-13 if size > 1e-310 else 0.05
    np.testing.assert_allclose(step / size, layer.step(np.zeros((3, 4)), g), rtol=tolerance, atol=tolerance)
    with pytest.raises(ValueError, match="step overflows"):
        MKOR(3, 4, rescale=rescale, learning_rate=1e10).step(np.zeros((3, 4)), np.full((3, 4), 1e308))


def test_mkor_resets(rng):
    layer, oracle = MKOR(3, 3, mode="paper", limit=0.5), ref.PaperKronecker(3, 3, 0.95, 0.5, 0.1)
    for _ in range(20):
        v = 0.01 * rng.normal(size=3)
        layer.update(v, v)
        oracle.update(v, v)
    assert layer.resets_ == oracle.resets > 5
    np.testing.assert_allclose(layer.left_inverse_, oracle.P[0], rtol=0, atol=1e-12)
    exact = MKOR(3, 3, decay=0.5, max_trace=100.0)
    for _ in range(200):
        exact.update([1.0, 0.0, 0.0], [0.0, 1.0, 0.0])
    assert exact.held_back_ > 300
    assert np.trace(exact.left_inverse_) <= 300


def test_mkor_step_has_the_size_of_the_gradient(rng):
    layer = MKOR(4, 5, learning_rate=0.5).update(rng.normal(size=(8, 4)), rng.normal(size=(8, 5)))
    g = rng.normal(size=(4, 5))
    assert np.linalg.norm(layer.step(np.zeros((4, 5)), g)) == pytest.approx(0.5 * np.linalg.norm(g))
    assert (layer.step(np.ones((4, 5)), np.zeros((4, 5))) == 1).all()


def test_mkor_refuses():
    for arguments, message in (
        ({"decay": 1.0}, "decay"),
        ({"mode": "other"}, "mode"),
        ({"n_out": 0}, "n_out"),
        ({"limit": 0.0}, "limit"),
        ({"stabilisation": 2.0}, "stabilisation"),
    ):
        with pytest.raises(ValueError, match=message):
            MKOR(**{"n_out": 2, "n_in": 2, **arguments})
    layer = MKOR(2, 3)
    with pytest.raises(ValueError, match="output_gradient"):
        layer.update([1.0], [1.0, 2.0, 3.0])
    with pytest.raises(ValueError, match="activation"):
        layer.update([1.0, 2.0], [1.0, np.nan, 3.0])
    with pytest.raises(ValueError, match="W contains NaN"):
        layer.step(np.full((2, 3), np.nan), np.ones((2, 3)))
    with pytest.raises(ValueError, match="Complex data"):
        layer.step(np.full((2, 3), 1j), np.ones((2, 3)))
    with pytest.raises(ValueError, match="W has the shape"):
        layer.step(np.zeros((3, 2)), np.zeros((2, 3)))
    with pytest.raises(ValueError, match="shape"):
        layer.precondition(np.zeros((3, 3)))


def test_names():
    assert gm.second_order.MFAC is gm.MFAC
    assert gm.second_order.LogisticHead is gm.LogisticHead
    assert all(hasattr(gm.second_order, name) for name in gm.second_order.__all__)


# --- what is kept ----------------------------------------------------------------------------------------------------


def aged_inverse(rng, **options):
    inverse = RunningInverse(7, ridge=0.3, forgetting=0.9, **options)
    return inverse.update(rng.normal(size=(30, 7)), together=False)


def trained_mkor(rng, mode):
    layer = MKOR(5, 9, decay=0.9, mode=mode, learning_rate=0.7, rescale=False)
    for _ in range(20):
        layer.update(rng.normal(size=5), rng.normal(size=9))
    return layer


def filled_window(rng, count, **options):
    return MFAC(n_gradients=6, ridge=1e-3, **options).push(rng.normal(size=(count, 40)))


ENGINES = {
    "RunningInverse": lambda rng: aged_inverse(rng, max_trace=40.0),
    "RunningInverse, matrix": lambda rng: aged_inverse(rng, keep_matrix=True, check_every=11),
    "RunningInverse, new": lambda rng: RunningInverse(3),
    "MKOR, exact": lambda rng: trained_mkor(rng, "exact"),
    "MKOR, paper": lambda rng: trained_mkor(rng, "paper"),
    "MFAC": lambda rng: filled_window(rng, 4),
    "MFAC, moved": lambda rng: filled_window(rng, 6).push(rng.normal(size=(5, 40))).replace(2, rng.normal(size=40)),
    "MFAC, float32": lambda rng: filled_window(rng, 6, dtype="float32").push(rng.normal(size=(2, 40))),
    "MFAC, static": lambda rng: filled_window(rng, 6, dynamic=False),
}


def answers(engine, rng):
    """Everything that is told of an engine, then some more steps and everything again."""
    if isinstance(engine, RunningInverse):
        told = [engine.matrix(), engine.trace_, engine.held_back_, engine.refreshes_, engine.n_updates_]
        told += [engine.residual()] if engine.keep_matrix else []
        engine.update(rng.normal(size=(25, engine.n_features)), together=False)
        return [*told, engine.matrix(), engine.trace_, engine.held_back_, engine.refreshes_]
    if isinstance(engine, MKOR):
        told = [engine.left_inverse_, engine.right_inverse_, engine.resets_, engine.held_back_]
        for _ in range(10):
            engine.update(rng.normal(size=5), rng.normal(size=9))
        return [*told, engine.step(np.zeros((5, 9)), rng.normal(size=(5, 9))), engine.resets_]
    told = [engine.ivp(rng.normal(size=40)), engine.diag(), engine.n_held_, engine.refreshes_]
    if engine.dynamic:
        for _ in range(8):  # past the next refresh
            engine.push(rng.normal(size=40))
    return [*told, engine.ivp(rng.normal(size=40)), engine.refreshes_]


@pytest.mark.parametrize("name", ENGINES)
@pytest.mark.parametrize("way", ["pickle", "copy", "file"])
def test_engines_are_kept_to_the_last_bit(name, way, tmp_path):
    engine = ENGINES[name](np.random.default_rng(3))
    if way == "pickle":
        kept = pickle.loads(pickle.dumps(engine))
    elif way == "copy":
        kept = copy.deepcopy(engine)
    else:
        engine.save(tmp_path / "engine")
        kept = gm.load(tmp_path / "engine", n_jobs=1)
        kept.save(tmp_path / "again")
        assert (tmp_path / "engine").read_bytes() == (tmp_path / "again").read_bytes()
        assert kept.n_jobs == 1
    assert type(kept) is type(engine)
    names = [name for name in engine._parameter_names() if name != "n_jobs"]
    assert all(getattr(kept, name) == getattr(engine, name) for name in names)
    found, expected = answers(kept, np.random.default_rng(4)), answers(engine, np.random.default_rng(4))
    assert len(found) == len(expected)
    for one, other in zip(found, expected, strict=True):
        assert np.array_equal(one, other)


def test_a_window_that_holds_nothing(rng, tmp_path):
    empty = MFAC(n_gradients=4)
    with pytest.raises(ValueError, match="nothing to save"):
        empty.save(tmp_path / "engine")
    kept = pickle.loads(pickle.dumps(empty))
    gradient = rng.normal(size=9)
    assert np.array_equal(kept.push(gradient).ivp(gradient), empty.push(gradient).ivp(gradient))


@pytest.mark.parametrize("name", ["RunningInverse, matrix", "MKOR, paper", "MFAC, moved"])
def test_states_that_fit_no_engine_are_refused(name):
    """Sizes, signs and NaN in what was kept: an error, and the engine is what it was."""
    engine = ENGINES[name](np.random.default_rng(3))
    core = engine._core
    good = core.state()
    before = pickle.dumps(engine)

    def broken(state, path, change):
        state = dict(state)
        if len(path) == 2:
            state[path[0]] = broken(state[path[0]], path[1:], change)
        else:
            state[path[0]] = change(state[path[0]])
        return state

    parts = {"RunningInverse": [("inverse",), ("matrix",)], "MKOR": [("left", "inverse"), ("right", "inverse")]}
    arrays = parts.get(name.partition(",")[0], [("wide",), ("products",), ("factor",)])
    for path in arrays:
        for change in (lambda a: a[:-1], lambda a: np.append(a, 1.0), lambda a: a * np.nan):
            with pytest.raises(ValueError, match="state"):
                core.restore(broken(good, path, change))
    numbers = {"RunningInverse": [("updates",)], "MKOR": [("resets",), ("left", "updates")]}
    for path in numbers.get(name.partition(",")[0], [("head",), ("size",), ("refreshes",)]):
        with pytest.raises(ValueError, match="state"):
            core.restore(broken(good, path, lambda value: -1))
    assert pickle.dumps(engine) == before
    core.restore(good)
    assert pickle.dumps(engine) == before


def test_files_of_engines_that_were_changed(tmp_path):
    for name in ("RunningInverse", "MKOR, exact", "MFAC"):
        ENGINES[name](np.random.default_rng(3)).save(tmp_path / "engine")
        data = (tmp_path / "engine").read_bytes()
        for size in (0, 64, len(data) - 64):
            (tmp_path / "cut").write_bytes(data[:size])
            with pytest.raises(gm.FormatError):
                gm.load(tmp_path / "cut")
