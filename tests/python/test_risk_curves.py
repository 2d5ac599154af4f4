"""Predicted test error against plain root finding, simulation and what the theory promises."""

import copy
import pickle

import numpy as np
import pytest
from reference_path import risk

import gramian as gm

MODES = np.arange(1, 1501.0)
LAM, V = MODES**-1.5, MODES**-0.9  # v^2 falls like i^-1.8


@pytest.mark.parametrize("n, k, delta", [(200, 400, 1e-2), (300, 1000, 1e-3), (200, 100, 1e-2), (200, np.inf, 1e-2)])
def test_the_formulas(n, k, delta):
    curve = gm.RiskCurve.theory(LAM, V, noise=0.02)
    point = curve.predict(n, k, ridge=delta)
    test, train = risk.predict(LAM, V, 0.02, n, k, delta)
    assert point.test == pytest.approx(test, rel=1e-9)
    assert point.train == pytest.approx(train, rel=1e-8)
    assert not point.extrapolated


@pytest.mark.parametrize("n, k, delta", [(60, 120, 1e-2), (100, 40, 1e-2), (80, np.inf, 1e-2)])
def test_the_formulas_against_simulation(n, k, delta):
    lam, v, noise = LAM[:400], V[:400], 0.05
    tests, trains = risk.simulate(lam, v, noise, n, k, delta, seed=7, repeats=150)
    point = gm.RiskCurve.theory(lam, v, noise).predict(n, k, ridge=delta)
    for found, expected in ((tests, point.test), (trains, point.train)):
        error = found.std(ddof=1) / np.sqrt(len(found))
        # Two standard errors, and what is of order 1 / n beyond the limit that the theory describes.
        assert abs(found.mean() - expected) < 2 * error + expected / n
    wrong = gm.RiskCurve.theory(lam, v, noise).predict(n / 3, k, ridge=delta).test
    assert abs(tests.mean() - wrong) > 10 * tests.std(ddof=1) / np.sqrt(len(tests))


# The points of the published formulas: 1500 modes of power laws 1.5 and 1.8 (traces of 1), noise 0.05.
PUBLISHED = {(200, 400, 1e-2): 0.1314, (300, 1000, 1e-3): 0.1276, (200, 100, 1e-2): 0.1704}


@pytest.mark.parametrize("n, k, delta", PUBLISHED)
def test_simulation_at_the_published_points(n, k, delta):
    """Within two standard errors, test and training error; the theory without the noise is far outside."""
    lam, v = LAM / LAM.sum(), V / np.linalg.norm(V)
    curve = gm.RiskCurve.theory(lam, v, 0.05)
    point = curve.predict(n, k, ridge=delta)
    assert point.test == pytest.approx(PUBLISHED[n, k, delta], abs=5e-5)
    if k == 1000:
        assert point.train == pytest.approx(8.56e-5, abs=5e-8)
    errors = risk.simulate(lam, v, 0.05, n, k, delta, seed=1, repeats=40)
    for found, expected in zip(errors, (point.test, point.train), strict=True):
        assert abs(found.mean() - expected) <= 2 * found.std(ddof=1) / np.sqrt(40)
    found = errors[0]
    wrong = gm.RiskCurve.theory(lam, v, 0.0).predict(n, k, ridge=delta).test
    assert abs(found.mean() - wrong) > 10 * found.std(ddof=1) / np.sqrt(40)


def test_more_is_better_in_simulation():
    """At the ridge of least predicted error, more rows and more features never cost more than two standard errors."""
    lam, v, noise, repeats = LAM[:250] / LAM.sum(), V[:250] / np.linalg.norm(V), 0.1, 80
    curve = gm.RiskCurve.theory(lam, v, noise)
    sizes = (25, 50, 100, 200)
    mean, error, theory = (np.empty((4, 4)) for _ in range(3))
    for i, n in enumerate(sizes):
        for j, k in enumerate(sizes):
            point = curve.predict(n, k)
            tests = risk.simulate(lam, v, noise, n, k, point.ridge, seed=100 * n + k, repeats=repeats)[0]
            mean[i, j], error[i, j], theory[i, j] = tests.mean(), tests.std(ddof=1) / np.sqrt(repeats), point.test
    assert (np.diff(theory, axis=0) < 0).all() and (np.diff(theory, axis=1) < 0).all()
    for axis in (0, 1):
        first, second = (np.take(error, rows, axis) for rows in ((0, 1, 2), (1, 2, 3)))
        rise = np.diff(mean, axis=axis) / np.hypot(first, second)
        assert rise.max() <= 2
        assert (rise < -2).sum() >= 6  # and most of the steps are falls beyond doubt
    # Negative control: at a small fixed ridge more features are worse on the way to as many as there are rows.
    few, many = (risk.simulate(lam, v, noise, 50, k, 1e-7, seed=k, repeats=repeats)[0] for k in (10, 50))
    assert many.mean() - few.mean() > 2 * np.hypot(many.std(), few.std()) / np.sqrt(repeats)


def test_many_features_are_the_kernel():
    curve = gm.RiskCurve.theory(LAM, V, noise=0.02)
    kernel = curve.predict(200, ridge=1e-2)
    assert curve.predict(200, 1e9, ridge=1e-2).test == pytest.approx(kernel.test, rel=1e-5)
    # Kernel ridge regression: (n / (n - q)) times bias and noise.
    g = kernel.g
    q = ((LAM / (LAM + g)) ** 2).sum()
    assert kernel.g == pytest.approx(kernel.kappa)
    by_hand = ((V * g / (LAM + g)) ** 2).sum() + 0.02
    assert kernel.test == pytest.approx(by_hand / (1 - q / 200), rel=1e-9)


def test_least_squares_without_a_ridge():
    curve = gm.RiskCurve.theory(np.ones(30), np.ones(30), noise=0.5)
    assert curve.predict(90, ridge=0.0).test == pytest.approx(0.5 / (1 - 30 / 90), rel=1e-9)
    assert np.isinf(gm.RiskCurve.theory(LAM, V, 0.5).predict(100, 100, ridge=0.0).test) or (
        gm.RiskCurve.theory(LAM, V, 0.5).predict(100, 100, ridge=0.0).test
        > 100 * gm.RiskCurve.theory(LAM, V, 0.5).predict(100, 300, ridge=0.0).test
    )


@pytest.mark.parametrize("noise", [0.0, 0.1, 1.0])
def test_more_is_better_at_the_best_ridge(noise):
    curve = gm.RiskCurve.theory(LAM, V, noise)
    sizes = np.geomspace(20, 2000, 9).round()
    table = np.array([[curve.predict(n, k).test for k in sizes] for n in sizes])
    assert (np.diff(table, axis=0) <= 1e-7 * table[1:]).all()
    assert (np.diff(table, axis=1) <= 1e-7 * table[:, 1:]).all()
    if noise == 0.1:  # negative control: at a fixed small ridge there is a peak
        fixed = [curve.predict(200, k, ridge=1e-6).test for k in (100, 200, 400)]
        assert fixed[1] > 2 * max(fixed[0], fixed[2])


def test_power_law_tasks_want_to_be_overfitted():
    point = gm.RiskCurve.theory(LAM, V, noise=1e-3).predict(300)
    assert point.train < 0.2 * point.test


def gaussian_problem(n, seed, noise=0.1, modes=400):
    """Rows whose linear kernel has the spectrum LAM: white modes, scaled."""
    rng = np.random.default_rng(seed)
    white = rng.normal(size=(n, modes))
    return white * np.sqrt(LAM[:modes]), white @ V[:modes] + np.sqrt(noise) * rng.normal(size=n)


def test_pilot_knows_the_problem():
    """From 600 rows: the predictions of the true spectrum, inside and beyond what the pilot has seen."""
    X, y = gaussian_problem(600, seed=1)
    pilot = gm.RiskCurve.from_pilot(X, y, kernel=lambda X: X @ X.T, fit_intercept=False)
    truth = gm.RiskCurve.theory(LAM[:400], V[:400], 0.1)
    assert pilot.energy == pytest.approx(np.mean(y**2))
    for n, k in [(50, np.inf), (150, 100), (250, np.inf), (250, 500)]:
        assert pilot.predict(n, k, ridge=0.1).test == pytest.approx(truth.predict(n, k, ridge=0.1).test, rel=0.12)
        assert not pilot.predict(n, k, ridge=0.1).extrapolated
    far = pilot.predict(3000, 2000, ridge=1e-2)
    assert far.extrapolated
    assert far.test == pytest.approx(truth.predict(3000, 2000, ridge=1e-2).test, rel=0.2)


@pytest.mark.parametrize("centred", [True, False])
@pytest.mark.parametrize("width", [np.inf, 150, 900])
def test_pilot_is_its_definition(width, centred):
    """Against eigenvalues, a search of the ridge for each g, and differences for slopes: no table, no cubic."""
    X, y = gaussian_problem(120, seed=3, modes=200)
    X, Y = X + 0.1, np.column_stack([y, X[:, 1] - 0.5 * y])
    if np.isinf(width):
        K = X @ X.T
        core = gm._core.PilotSpectrum.of_kernel(K, Y, centred, -1.0, "cpu", 0)
    else:
        Z = X @ np.random.default_rng(0).normal(size=(200, width))
        K = Z @ Z.T / width
        core = gm._core.PilotSpectrum.of_features(Z, Y, 1 / width, centred, -1.0, "cpu", 0)
    pilot = risk.Pilot(K, Y, width, centred)
    lowest = core.tail["g"]
    for g in lowest * np.array([1.001, 1.5, 10.0, 300.0]):
        z, z_slope, a, a_slope = core.at(g)
        expected = pilot.at(g)
        assert (z, a) == (pytest.approx(expected[0], rel=1e-6), pytest.approx(expected[1], rel=1e-6))
        up, down = pilot.at(1.001 * g), pilot.at(0.999 * g)
        assert z_slope == pytest.approx((up[0] - down[0]) / (0.002 * g), rel=1e-4)
        assert a_slope == pytest.approx((up[1] - down[1]) / (0.002 * g), rel=1e-4)
    # As far as a pilot is believed.
    assert pilot.at(lowest)[0] == pytest.approx(0.5 * min(120 - centred, width), rel=1e-6)
    for n, k, delta in ((40, np.inf, 0.1), (50, 60, 0.05), (30, 300, 1.0)):
        point = core.predict(n, k, delta)
        assert not point["extrapolated"]
        # Leave-one-out over cross-validation is interpolated between 32 ridges.
        assert point["test"] == pytest.approx(pilot.predict(n, k, delta), rel=2e-3)
        assert point["test"] != pytest.approx(pilot.predict(n + 4, k, delta), rel=4e-3)  # negative control


def test_the_width_of_a_pilot_is_taken_out():
    X, y = gaussian_problem(300, seed=2)
    rng = np.random.default_rng(0)
    wide = gm._core.PilotSpectrum.of_kernel(X @ X.T, y[:, np.newaxis], False, -1.0, "cpu", 0)
    narrow_map = rng.normal(size=(400, 900))
    narrow = gm._core.PilotSpectrum.of_features(X @ narrow_map, y[:, np.newaxis], 1 / 900, False, -1.0, "cpu", 0)
    g = np.exp(np.linspace(np.log(wide.tail["g"] * 2), 0, 10))
    found = np.array([narrow.at(value)[::2] for value in g])
    expected = np.array([wide.at(value)[::2] for value in g])
    np.testing.assert_allclose(found, expected, rtol=0.05)
    # The derivatives belong to the values.
    for value in [*g, wide.tail["g"] * 0.3]:
        z, z_slope, a, a_slope = wide.at(value)
        step = 1e-4 * value
        up, down = wide.at(value + step), wide.at(value - step)
        assert z_slope == pytest.approx((up[0] - down[0]) / (2 * step), rel=1e-3)
        assert a_slope == pytest.approx((up[2] - down[2]) / (2 * step), rel=1e-3)


def test_predicted_and_measured_error_of_random_features():
    rng = np.random.default_rng(4)
    X = rng.normal(size=(5000, 5))
    y = np.sin(X[:, 0]) * X[:, 1] + 0.5 * np.abs(X[:, 2]) + 0.3 * rng.normal(size=5000)
    curve = gm.RiskCurve.from_pilot(X[:1200], y[:1200], gm.RandomFeatures(activation="relu", bias=1.0))
    ratios = []
    for n, k in [(100, 100), (300, 50), (300, 300), (1000, 300)]:
        point = curve.predict(n, k)
        measured = []
        for seed in range(6):
            rows = 1200 + np.random.default_rng(seed).permutation(1800)[:n]
            model = gm.AnalyticRegressor(
                gm.RandomFeatures(k, activation="relu", bias=1.0, random_state=seed), ridge=curve.model_ridge(point, k)
            ).fit(X[rows], y[rows])
            measured.append(np.mean((model.predict(X[3000:]) - y[3000:]) ** 2))
        ratios.append(point.test / np.mean(measured))
    # The targets of 1,200 rows know their own mean square to some 5 %; the bars leave two of these.
    assert np.median(np.abs(np.array(ratios) - 1)) < 0.1
    assert np.abs(np.array(ratios) - 1).max() < 0.15


def test_plan_width():
    curve = gm.RiskCurve.theory(LAM, V, 0.05)
    target = curve.predict(500, 150).test * 1.0000001
    plan = gm.plan_width(curve, 500, target=target)
    assert plan.width == 150 and plan.meets_target
    assert plan.nbytes == 4 * 150**2 + 8 * 150
    assert plan.ridge == pytest.approx(curve.predict(500, 150).ridge * 150)
    tight = gm.plan_width(curve, 500, target=target, max_bytes=40_000)
    assert not tight.meets_target and tight.nbytes <= 40_000 < 4 * (tight.width + 1) ** 2 + 8 * (tight.width + 1)
    timed = gm.plan_width(curve, 500, max_ms=1.0, gflops=10.0, n_inputs=20)
    assert timed.milliseconds <= 1.0 and timed.meets_target
    free = gm.plan_width(curve, 500, slack=0.05, max_width=4096)
    best = curve.predict(500, 4096).test
    assert curve.predict(500, free.width).test <= 1.05 * best < curve.predict(500, free.width - 1).test


def test_plan_width_against_a_search_of_all_widths():
    """The plain definitions: the best ridge by golden sections, the width by trying one after the other."""
    i = np.arange(1, 121.0)
    lam, v, n, most = i**-1.4, i**-1.0, 80, 40
    curve = gm.RiskCurve.theory(lam, v, noise=0.05)
    best = [risk.predict_best(lam, v, 0.05, n, k) for k in range(1, most + 1)]
    errors = np.array([test for test, _ in best])
    np.testing.assert_allclose([curve.predict(n, k).test for k in range(1, most + 1)], errors, rtol=1e-7)
    sizes = np.array([4 * k * k + 8 * k for k in range(1, most + 1)])
    times = np.array([(n * k * (k + 2.0 * 7) + k**3 / 3) / (3.0 * 1e6) for k in range(1, most + 1)])
    everything = np.full(most, True)
    for target in (errors[0] * 1.1, (errors[3] + errors[4]) / 2, (errors[24] + errors[25]) / 2, errors[-1] * 0.5):
        plan = gm.plan_width(curve, n, target=target, max_width=most)
        assert plan.width == risk.plan_width(errors, everything, target)
        assert plan.meets_target == (plan.test <= target)
        assert plan.test == pytest.approx(errors[plan.width - 1], rel=1e-7)
        small = gm.plan_width(curve, n, target=target, max_bytes=2000, max_width=most)
        assert small.width == risk.plan_width(errors, sizes <= 2000, target)
        fast = gm.plan_width(curve, n, target=target, max_ms=0.012, gflops=3.0, n_inputs=7, max_width=most)
        assert fast.width == risk.plan_width(errors, times <= 0.012, target)
    for slack in (0.013, 0.21):
        plan = gm.plan_width(curve, n, slack=slack, max_width=most)
        assert plan.width == risk.plan_width(errors, everything, slack=slack)
        assert plan.ridge == pytest.approx(best[plan.width - 1][1] * plan.width, rel=1e-2)  # a flat optimum
    # Negative control: a width less does not do.
    assert errors[plan.width - 2] > errors[-1] * 1.21


def test_bad_input(rng):
    X, y = rng.normal(size=(30, 4)), rng.normal(size=30)
    curve = gm.RiskCurve.theory([1.0], [1.0])
    for call, text in (
        (lambda: gm.RiskCurve.theory([1.0, -1.0], [1.0, 1.0]), "eigenvalues"),
        (lambda: gm.RiskCurve.theory([1.0], [1.0, 1.0]), "1 eigenvalues"),
        (lambda: gm.RiskCurve.theory([1.0], [1.0], noise=-1), "noise"),
        (lambda: gm.RiskCurve.from_pilot(X, y), "either feature_map or kernel"),
        (lambda: gm.RiskCurve.from_pilot(X[:5], y[:5], gm.RandomFeatures()), "at least 8 rows"),
        (lambda: gm.RiskCurve.from_pilot(X, np.ones(30), gm.RandomFeatures()), "targets do not vary"),
        (lambda: gm.RiskCurve.from_pilot(X, y, kernel=lambda X: X), "square"),
        (lambda: curve.predict(1), "n must be"),
        (lambda: curve.predict(10, 0), "k must be"),
        (lambda: curve.predict(10, 5, ridge=-1.0), "ridge"),
        (lambda: gm.plan_width(curve, 10, max_ms=1.0), "needs gflops"),
        (lambda: gm.plan_width(curve, 10, max_bytes=3), "not allow a single feature"),
    ):
        with pytest.raises(ValueError, match=text):
            call()
    with pytest.raises(TypeError, match="RandomFeatures"):
        gm.RiskCurve.from_pilot(X, y, 3)
    with pytest.raises(TypeError, match="RiskCurve"):
        gm.plan_width(3, 10)


@pytest.mark.parametrize("kind", ["theory", "features", "cosines", "kernel"])
def test_pickles_and_copies_to_the_bit(rng, kind):
    X = rng.normal(size=(80, 6))
    y = np.sin(X[:, 0]) + 0.1 * rng.normal(size=80)
    curve = {
        "theory": lambda: gm.RiskCurve.theory(LAM, V, noise=0.02),
        "features": lambda: gm.RiskCurve.from_pilot(X, y, gm.RandomFeatures(activation="relu", bias=1.0)),
        "cosines": lambda: gm.RiskCurve.from_pilot(X, y, gm.RandomFeatures(activation="cos"), noise=0.01),
        "kernel": lambda: gm.RiskCurve.from_pilot(X, y, kernel=gm.DeepKernel().kernel, fit_intercept=False),
    }[kind]()
    for again in (pickle.loads(pickle.dumps(curve)), copy.deepcopy(curve)):
        assert (again.energy, again.tail_) == (curve.energy, curve.tail_)
        for n, k, ridge in ((50, 30, 0.1), (40, np.inf, None), (5000, 200, None)):
            assert again.predict(n, k, ridge) == curve.predict(n, k, ridge)
        assert gm.plan_width(again, 50) == gm.plan_width(curve, 50)
        assert again.model_ridge(curve.predict(50, 30), 30) == curve.model_ridge(curve.predict(50, 30), 30)
