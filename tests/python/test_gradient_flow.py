"""The path of gradient descent in closed form, against steps taken one by one and against theory."""

import copy
import pickle

import numpy as np
import pytest
from reference_path import checks, leave_one_out, risk

import gramian as gm


def problem(n, d, outputs=2, seed=0, decay=1.0):
    rng = np.random.default_rng([seed, n, d])
    X = rng.normal(size=(n, d)) * np.arange(1, d + 1) ** -decay
    return X, X @ rng.normal(size=(d, outputs)) + 0.3 * rng.normal(size=(n, outputs))


@pytest.mark.parametrize("ridge", [0.0, 0.7])
@pytest.mark.parametrize("n, d", [(60, 8), (20, 35)])
def test_ten_thousand_steps(n, d, ridge):
    X, Y = problem(n, d)
    start = np.random.default_rng(1).normal(size=(2, d))
    flow = gm.GradientFlow(X, Y, start=start, ridge=ridge, fit_intercept=False)
    step = 0.9 * flow.largest_step_
    explicit = risk.gradient_descent(X, Y, step, 10_000, start.T, ridge)
    coef, intercept = flow.weights(steps=10_000, step=step)
    assert checks.relative_error(coef, explicit.T) <= 1e-10
    assert not intercept.any()
    wrong, _ = flow.weights(t=10_000 * step * 0.01)  # another time is another answer
    assert checks.relative_error(wrong, explicit.T) > 1e-6


@pytest.mark.parametrize("nesterov", [False, True])
@pytest.mark.parametrize("momentum", [0.3, 0.9, 0.99])
@pytest.mark.parametrize("n, d, ridge", [(60, 8, 0.0), (20, 35, 0.7)])
def test_steps_with_momentum(n, d, ridge, momentum, nesterov):
    X, Y = problem(n, d)
    start = np.random.default_rng(1).normal(size=(2, d))
    options = {"start": start, "ridge": ridge, "fit_intercept": False}
    flow = gm.GradientFlow(X, Y, momentum=momentum, nesterov=nesterov, **options)
    plain = gm.GradientFlow(X, Y, **options)
    room = (1 + momentum) / (1 + 2 * momentum) if nesterov else 1 + momentum
    assert flow.largest_step_ == pytest.approx(room * plain.largest_step_, rel=1e-14)
    for share, counts in ((0.9, (0, 1, 2, 3, 17, 10_000)), (0.05, (100, 999))):
        step = share * flow.largest_step_
        for steps in counts:
            explicit = risk.gradient_descent(X, Y, step, steps, start.T, ridge, momentum, nesterov)
            coef, _ = flow.weights(steps=steps, step=step)
            assert checks.relative_error(coef, explicit.T) <= 1e-10
            if 1 < steps < 20:  # negative control: without momentum, or with the other one, the path is another
                for other in (plain, gm.GradientFlow(X, Y, momentum=momentum, nesterov=not nesterov, **options)):
                    smaller = min(step, 0.9 * other.largest_step_)
                    assert checks.relative_error(other.weights(steps=steps, step=smaller)[0], explicit.T) > 1e-7
    # Just below the largest step the fastest mode shrinks, and just above it grows.
    rate = flow.eigenvalues_[-1] + ridge
    for factor, shrinks in ((0.99, True), (1.01, False)):
        a = factor * flow.largest_step_ * rate / n
        T, D = ((1 - a) * (1 + momentum), (1 - a) * momentum) if nesterov else (1 + momentum - a, momentum)
        assert (np.abs(np.roots([1, -T, D])).max() < 1) == shrinks
    with pytest.raises(ValueError, match="diverges"):
        flow.weights(steps=3, step=flow.largest_step_)


def test_momentum_needs_fewer_steps_and_ends_where_all_do():
    X, Y = problem(60, 8)
    flow, plain = gm.GradientFlow(X, Y, momentum=0.9), gm.GradientFlow(X, Y)
    step = 0.5 * plain.largest_step_
    end = plain.weights(np.inf)[0]
    assert np.array_equal(flow.weights(np.inf)[0], end)
    errors = [checks.relative_error(one.weights(steps=300, step=step)[0], end) for one in (flow, plain)]
    assert errors[0] < 0.1 * errors[1]
    assert flow.gcv(steps=3000, step=step) == pytest.approx(plain.gcv(np.inf), rel=1e-3)
    # Slow modes keep their digits through any number of steps: 1 - p_m, not 1 less something near 1.
    tiny = 1e-9 * step
    moved = flow.weights(steps=10_000, step=tiny)[0]
    explicit = risk.gradient_descent(X - X.mean(axis=0), Y - Y.mean(axis=0), tiny, 10_000, momentum=0.9)
    assert checks.relative_error(moved, explicit.T) <= 1e-10
    many = flow.mode_weights(steps=10**12, step=tiny)
    assert checks.relative_error(many, plain.mode_weights(steps=10**13, step=tiny)) <= 1e-6
    frozen = gm.GradientFlow(*problem(12, 30), start=np.ones((2, 30)), momentum=0.5, fit_intercept=False)
    still = frozen.eigenvalues_ == 0
    begin, later = frozen.mode_weights(steps=0, step=0.1), frozen.mode_weights(steps=500, step=0.1)
    assert still.sum() == 18 and np.array_equal(later[still], begin[still])
    for call in (lambda: flow.weights(1.0), flow.best_t, lambda: flow.gcv(2.0)):
        with pytest.raises(ValueError, match="has no momentum"):
            call()
    for wrong in (-0.1, 1.0, np.nan):
        with pytest.raises(ValueError, match="momentum"):
            gm.GradientFlow(X, Y, momentum=wrong)


def test_the_centred_path_has_an_intercept():
    X, Y = problem(50, 6)
    X, Y = X + 2.0, Y - 1.0
    flow = gm.GradientFlow(X, Y)
    step = 0.3 * flow.largest_step_
    explicit = risk.gradient_descent(X - X.mean(axis=0), Y - Y.mean(axis=0), step, 500)
    coef, intercept = flow.weights(steps=500, step=step)
    assert checks.relative_error(coef, explicit.T) <= 1e-10
    np.testing.assert_allclose(intercept, Y.mean(axis=0) - X.mean(axis=0) @ explicit, atol=1e-10)


@pytest.mark.parametrize("ridge", [0.0, 0.7])
@pytest.mark.parametrize("n, d", [(40, 5), (12, 20)])
def test_the_flow_is_the_exponential_of_its_equation(n, d, ridge):
    """Against the matrix exponential of dW/dt, from any start; no eigenvalue is taken."""
    X, Y = problem(n, d)
    start = np.random.default_rng(1).normal(size=(2, d))
    flow = gm.GradientFlow(X, Y, start=start, ridge=ridge, fit_intercept=False)
    for time in (0.0, 0.3, 5.0, 200.0):
        expected = risk.gradient_flow(X, Y, time, start.T, ridge)
        assert checks.relative_error(flow.weights(time)[0], expected.T) <= 1e-11
        residual = Y - X @ expected
        assert flow.training_error(time) == pytest.approx((residual**2).mean(), rel=1e-9)
    assert checks.relative_error(flow.weights(0.9 * time)[0], expected.T) > 1e-6  # negative control: another time
    centred = gm.GradientFlow(X + 3.0, Y - 2.0, ridge=ridge)
    expected = risk.gradient_flow(X - X.mean(axis=0), Y - Y.mean(axis=0), 5.0, None, ridge)
    coef, intercept = centred.weights(5.0)
    assert checks.relative_error(coef, expected.T) <= 1e-10
    np.testing.assert_allclose(intercept, Y.mean(axis=0) - 2 - (X.mean(axis=0) + 3) @ expected, atol=1e-10)


def test_many_small_steps_are_the_flow():
    X, Y = problem(40, 5)
    flow = gm.GradientFlow(X, Y)
    time = 30.0
    errors = [
        checks.relative_error(flow.weights(steps=steps, step=time / steps)[0], flow.weights(time)[0])
        for steps in (10**3, 10**6)
    ]
    assert errors[1] < 1e-6
    assert 500 < errors[0] / errors[1] < 2000  # of first order


def test_ends_of_the_path():
    X, Y = problem(60, 8)
    flow = gm.GradientFlow(X, Y)
    assert not flow.weights(0.0)[0].any()
    least_squares = np.linalg.lstsq(X - X.mean(axis=0), Y - Y.mean(axis=0), rcond=None)[0]
    bound = 100 * checks.EPS * (flow.eigenvalues_[-1] / flow.eigenvalues_[0])
    assert checks.relative_error(flow.weights(np.inf)[0], least_squares.T) <= bound
    state = gm.GramState(8, 2).add(X, Y)
    ridged = gm.GradientFlow(state=state, ridge=0.5)
    assert checks.relative_error(ridged.weights(np.inf)[0], state.solve(0.5).coef) <= 1e-12
    residual = Y - X @ flow.weights(3.0)[0].T - flow.weights(3.0)[1]
    assert flow.training_error(3.0) == pytest.approx(np.mean(residual**2), rel=1e-11)


def test_frozen_modes_keep_their_bits():
    rng = np.random.default_rng(3)
    X, Y = problem(12, 30)
    X[:, [4, 17]] = 0.0  # features that never vary
    start = rng.normal(size=(2, 30))
    flow = gm.GradientFlow(X, Y, start=start, fit_intercept=False)
    frozen = flow.eigenvalues_ == 0
    assert frozen.sum() == 18
    begin = flow.mode_weights(0.0)
    for stop in ({"t": 5.0}, {"t": np.inf}, {"steps": 1000, "step": 0.5 * flow.largest_step_}):
        assert np.array_equal(flow.mode_weights(**stop)[frozen], begin[frozen])
        coef = flow.weights(**stop)[0]
        assert np.array_equal(coef[:, [4, 17]], start[:, [4, 17]])
        assert not np.isclose(flow.mode_weights(**stop)[~frozen], begin[~frozen]).all()
    # Negative control: with a ridge they move.
    assert not np.array_equal(
        gm.GradientFlow(X, Y, start=start, ridge=0.1, fit_intercept=False).weights(5.0)[0][:, 4], start[:, 4]
    )


def test_early_stopping_is_the_bayes_ridge_of_each_mode():
    X, Y = problem(50, 7)
    signal, noise = 0.8, 2.5
    flow = gm.GradientFlow(X, Y)
    s = flow.eigenvalues_
    least_squares = flow.mode_weights(np.inf)
    for mode, time in enumerate(flow.mode_stops(signal, noise)):
        shrunk = flow.mode_weights(time)[mode] / least_squares[mode]
        np.testing.assert_allclose(shrunk, s[mode] / (s[mode] + noise / signal), rtol=1e-12)
        # ... which no other time beats.
        best = flow.risk(time, signal=signal, noise=noise, per_mode=True)[mode]
        assert best == pytest.approx(signal * noise / (s[mode] * signal + noise), rel=1e-12)
        for other in (0.9 * time, 1.1 * time):
            assert flow.risk(other, signal=signal, noise=noise, per_mode=True)[mode] > best


def test_overtraining_is_worst_at_equal_sides():
    """Marchenko-Pastur: the risk at the end of the path peaks at n = d, and every mean is within 2 standard errors.

    At n = d the risk itself has no variance to speak of (1 / s of the least mode), but its ratio to what is expected of
    the rows has: a weighted mean of squared normals.
    """
    d, signal, noise, times, repeats = 40, 1.0, 0.25, (2.0, np.inf), 400
    risks = {}
    for n in (20, 40, 80):
        expected, ratios = {time: [] for time in times}, {time: [] for time in times}
        for seed in range(repeats):
            rng = np.random.default_rng([1, seed, n])
            X, truth = rng.normal(size=(n, d)), rng.normal(size=d)
            flow = gm.GradientFlow(X, X @ truth + 0.5 * rng.normal(size=n), fit_intercept=False)
            for time in times:
                expected[time].append(flow.risk(time, signal=signal, noise=noise))
                ratios[time].append(((flow.weights(time)[0][0] - truth) ** 2).sum() / expected[time][-1])
        for time in times:
            ratio = np.array(ratios[time])
            assert abs(ratio.mean() - 1) <= 2 * ratio.std(ddof=1) / np.sqrt(repeats), (n, time)
            risks[n, time] = np.array(expected[time])
    # The means of the Marchenko-Pastur law: noise tr 1 / s, and the signal in the directions that no row reaches.
    for n, mean in ((80, noise * d / (80 - d - 1)), (20, signal * (d - 20) + noise * 20 / (d - 20 - 1))):
        end = risks[n, np.inf]
        assert abs(end.mean() - mean) <= 2 * end.std(ddof=1) / np.sqrt(repeats)
    # The peak: medians, since the mean at n = d has none; the law's least 1 / s is of order d there.
    peak, few, many = (np.median(risks[n, np.inf]) for n in (40, 20, 80))
    assert peak > 1.5 * few > 1.5 * many
    assert risks[40, np.inf].mean() > 5 * risks[20, np.inf].mean()
    assert peak > 2 * np.median(risks[40, 2.0])  # stopped in time there is no peak
    stopped = [risks[n, 2.0].mean() for n in (20, 40, 80)]
    assert stopped[0] > stopped[1] > stopped[2]


@pytest.mark.parametrize("fit_intercept", [True, False])
def test_leave_one_out_against_refits(fit_intercept):
    X, Y = problem(60, 6, seed=5)
    flow = gm.GradientFlow(X, Y, fit_intercept=fit_intercept)
    times = flow.times(8)

    chosen, scores = flow.best_t(times=times)
    exact = np.array([risk.flow_left_out(X, Y, time, fit_intercept) for time in times])
    # Exact for the end of the path (least squares); along it an approximation, here within 3 %.
    left_out = leave_one_out.loo_errors(X, Y, 1e-12, fit_intercept=fit_intercept)
    assert flow.best_t(times=[1e9])[1][0] == pytest.approx((left_out**2).mean(), rel=1e-9)
    np.testing.assert_allclose(scores, exact, rtol=0.03)
    assert np.argmin(exact) == list(times).index(chosen)
    # Negative control: without the leverage it is the training error, which only falls.
    training = [flow.training_error(time) for time in times]
    assert abs(training[-1] / exact[-1] - 1) > 0.05


def test_gcv_from_the_state_alone():
    X, Y = problem(80, 10)
    state = gm.GramState(10, 2).add(X[:30], Y[:30]).add(X[30:], Y[30:])
    flow = gm.GradientFlow(state=state)
    time = 4.0
    Xc = X - X.mean(axis=0)
    s, U = np.linalg.eigh(Xc.T @ Xc)
    hat = Xc @ U @ np.diag((1 - np.exp(-time * s / 80)) / s) @ U.T @ Xc.T + 1 / 80
    residual = Y - hat @ (Y - Y.mean(axis=0)) - Y.mean(axis=0)
    freedom = np.trace(hat)
    assert flow.degrees_of_freedom(time) == pytest.approx(freedom, rel=1e-12)
    assert flow.gcv(time) == pytest.approx(80 * (residual**2).sum() / (80 - freedom) ** 2, rel=1e-10)
    chosen, scores = flow.best_t(loo=False)
    assert scores.min() == pytest.approx(flow.gcv(chosen) / 2)


def test_bad_input():
    X, Y = problem(20, 4)
    flow = gm.GradientFlow(X, Y)
    for call, text in (
        (lambda: gm.GradientFlow(), "either rows"),
        (lambda: gm.GradientFlow(X, Y, start=np.zeros(3)), r"start has shape \(1, 3\)"),
        (lambda: gm.GradientFlow(X, Y, start=np.full((2, 4), np.nan)), "start contains NaN"),
        (lambda: gm.GradientFlow(X, Y, ridge=-1.0), "ridge"),
        (lambda: gm.GradientFlow(X, Y[:5]), "inconsistent numbers"),
        (lambda: gm.GradientFlow(state=gm.GramState(4, 0).add(X)), "no outputs"),
        (lambda: flow.weights(-1.0), "t must be"),
        (lambda: flow.weights(1.0, steps=3), "either t, or steps"),
        (lambda: flow.weights(steps=3, step=2 * flow.largest_step_), "diverges"),
        (lambda: gm.GradientFlow(state=gm.GramState(4, 2).add(X, Y)).best_t(), "needs the rows"),
        (lambda: flow.best_t(times=[]), "times"),
    ):
        with pytest.raises(ValueError, match=text):
            call()
    with pytest.raises(TypeError, match="GramState"):
        gm.GradientFlow(state=3)


def test_copies_but_no_pickle():
    flow = gm.GradientFlow(*problem(20, 5))
    assert copy.copy(flow) is flow and copy.deepcopy(flow) is flow
    with pytest.raises(TypeError, match="GradientFlow cannot be pickled.*rows"):
        pickle.dumps(flow)
