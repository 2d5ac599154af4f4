"""Aggregated quantiles: repair, stacking and calibration against their definitions."""

import pickle

import numpy as np
import pytest
from reference_path import conformal

import gramian as gm

LEVELS = np.array([0.05, 0.25, 0.5, 0.75, 0.95])


def noisy_models(rng, n, m=4):
    """(predictions of m models whose quantiles cross, targets): the truth is N(x, 1), the models are off and noisy."""
    x = rng.normal(size=n)
    y = x + rng.normal(size=n)
    normal = np.array([-1.6449, -0.6745, 0.0, 0.6745, 1.6449])
    off = np.linspace(-0.5, 1.5, m)[np.newaxis, :, np.newaxis]
    return x[:, np.newaxis, np.newaxis] + 0.5 * normal + off + rng.normal(size=(n, m, 5)), y


@pytest.mark.parametrize("repair", ["sort", "isotonic"])
def test_repair_puts_in_order_and_never_hurts(rng, repair):
    predictions, y = noisy_models(rng, 5000)
    raw = gm.QuantileAggregator(LEVELS, repair=None).fit(predictions, y).predict(predictions)
    fixed = gm.QuantileAggregator(LEVELS, repair=repair).fit(predictions, y).predict(predictions)
    assert (np.diff(raw, axis=1) < 0).any()
    assert (np.diff(fixed, axis=1) >= 0).all()
    fine = (np.diff(raw, axis=1) >= 0).all(axis=1)
    assert np.array_equal(fixed[fine], raw[fine])
    expected = np.sort(raw, axis=1) if repair == "sort" else np.array([conformal.isotonic(row) for row in raw[:300]])
    np.testing.assert_allclose(fixed[: len(expected)], expected, rtol=0, atol=1e-14)
    # Row by row, whatever the outcome, so also for outcomes that nobody would expect.
    for outcome in (y, y * 100, np.zeros_like(y)):
        for row in range(0, 5000, 50):
            one = outcome[row : row + 1]
            before, after = (gm.pinball_loss(one, q[row : row + 1], LEVELS) for q in (raw, fixed))
            assert after <= before + 1e-14 * (1 + abs(before))
        scores = [conformal.weighted_interval_score(outcome, q, LEVELS) for q in (raw, fixed)]
        assert scores[1] <= scores[0]
        assert scores[1] == pytest.approx(2 * gm.pinball_loss(outcome, fixed, LEVELS), rel=1e-12)


def test_a_wrong_order_hurts(rng):
    """The negative control: falling order raises the loss that repair never raises."""
    predictions, y = noisy_models(rng, 500)
    raw = gm.QuantileAggregator(LEVELS, repair=None).fit(predictions, y).predict(predictions)
    assert gm.pinball_loss(y, np.sort(raw, axis=1)[:, ::-1], LEVELS) > gm.pinball_loss(y, raw, LEVELS)


@pytest.mark.parametrize("m", [1, 2, 5, 12])
def test_stacking_is_the_best_of_the_simplex(rng, m):
    optimize = pytest.importorskip("scipy.optimize")
    predictions, y = noisy_models(rng, 400, m)
    predictions[:, m // 2] += rng.normal(size=(400, 1)) * 3
    weights = gm.QuantileAggregator(LEVELS, weights="stacked").fit(predictions, y).weights_
    errors = predictions[:, :, 2] - y[:, np.newaxis]
    assert weights.sum() == pytest.approx(1)
    assert (weights >= 0).all()
    stacked = np.vstack([errors / np.sqrt((errors**2).sum() / m), np.ones(m)])
    expected, _ = optimize.nnls(stacked, np.r_[np.zeros(400), 1.0])
    np.testing.assert_allclose(weights, expected / expected.sum(), rtol=0, atol=1e-8)
    # The conditions of the optimum: the gradient is equal where a weight is positive and not smaller elsewhere.
    gradient = errors.T @ (errors @ weights)
    positive = weights > 1e-9
    level = gradient[positive].mean()
    assert np.abs(gradient[positive] - level).max() <= 1e-7 * abs(level)
    assert (gradient[~positive] >= level * (1 - 1e-7)).all()


@pytest.mark.parametrize("m", [1, 2, 5, 8])
def test_stacking_is_the_best_set_of_models(rng, m):
    """Against least squares on every set of models that there is."""
    predictions, y = noisy_models(rng, 400, m)
    errors = predictions[:, :, 2] - y[:, np.newaxis]
    weights = gm.QuantileAggregator(LEVELS, weights="stacked").fit(predictions, y).weights_
    expected = conformal.stacking_weights(errors)
    np.testing.assert_allclose(weights, expected, rtol=0, atol=1e-7)
    equal = np.full(m, 1 / m)
    if m > 1:  # negative control: equal weights are another, and a worse, answer
        assert ((errors @ equal) ** 2).sum() > 1.001 * ((errors @ weights) ** 2).sum()
    # The aggregate is the weighted mean of the models' quantiles.
    model = gm.QuantileAggregator(LEVELS, weights="stacked", repair=None).fit(predictions, y)
    np.testing.assert_allclose(
        model.predict(predictions), np.einsum("nml,m->nl", predictions, expected), rtol=0, atol=1e-6
    )


def test_copies_of_a_model_and_perfect_models(rng):
    predictions, y = noisy_models(rng, 50, 2)
    twice = np.concatenate([predictions, predictions[:, :1]], axis=1)
    one = gm.QuantileAggregator(LEVELS, "stacked").fit(predictions, y).weights_
    three = gm.QuantileAggregator(LEVELS, "stacked").fit(twice, y).weights_
    assert three[0] + three[2] == pytest.approx(one[0], abs=1e-6)
    predictions[:, 1] = y[:, np.newaxis]
    np.testing.assert_allclose(gm.QuantileAggregator(LEVELS, "stacked").fit(predictions, y).weights_, [0, 1], atol=1e-6)
    predictions[:, 0] = y[:, np.newaxis]
    assert gm.QuantileAggregator(LEVELS, "stacked").fit(predictions, y).weights_.sum() == pytest.approx(1)


@pytest.mark.parametrize("calibration", ["levels", "pairs"])
def test_calibration_gives_the_coverage_it_claims(calibration):
    rng = np.random.default_rng(3)
    shares, repetitions, n = [], 300, 60
    for _ in range(repetitions):
        predictions, y = noisy_models(rng, 2 * n + 50)
        model = gm.QuantileAggregator(LEVELS, weights="stacked", calibration=calibration)
        model.fit(predictions[:n], y[:n]).calibrate(predictions[n : 2 * n], y[n : 2 * n])
        q, fresh = model.predict(predictions[2 * n :]), y[2 * n :, np.newaxis]
        shares.append((fresh <= q).mean(axis=0))
    shares = np.array(shares)
    error = shares.std(axis=0) / np.sqrt(repetitions)
    below = shares.mean(axis=0)
    if calibration == "levels":
        # At least the level, at most one row more: level + 1 / (n + 1).
        assert (below >= LEVELS - 4 * error).all()
        assert (below <= LEVELS + 1 / (n + 1) + 4 * error).all()
    else:
        for low, high in ((0, 4), (1, 3)):
            inside = shares[:, high] - shares[:, low]
            assert abs(inside.mean() - (1 - 2 * LEVELS[low])) <= 1 / (n + 1) + 4 * inside.std() / np.sqrt(repetitions)
    # The negative control: before it, the models are far too sure.
    predictions, y = noisy_models(rng, 4000)
    q = gm.QuantileAggregator(LEVELS).fit(predictions, y).predict(predictions)
    assert ((q[:, 0] <= y) & (y <= q[:, 4])).mean() <= 0.75


@pytest.mark.parametrize("repair", ["sort", "isotonic", None])
@pytest.mark.parametrize("how", ["levels", "pairs"])
@pytest.mark.parametrize("n", [3, 19, 20, 57])
def test_calibration_is_its_definition(rng, n, how, repair):
    """The least shift that covers as many of n + 1 rows as the level claims, by counting; then repaired again."""
    predictions, y = noisy_models(rng, n)
    predictions, y = np.round(predictions, 1), np.round(y, 1)  # with ties
    fresh, _ = noisy_models(rng, 40)
    model = gm.QuantileAggregator(LEVELS, repair=repair, calibration=how).fit(predictions, y)
    q = model.predict(predictions)
    model.calibrate(predictions, y)
    shifts = conformal.calibrated_shifts(q, y, LEVELS.tolist(), how)
    np.testing.assert_array_equal(model.shifts_, shifts)
    raw = fresh.mean(axis=1)
    expected = raw if repair is None else conformal.repaired(raw, repair)
    expected = expected + shifts if repair is None else conformal.repaired(expected + shifts, repair)
    finite = np.isfinite(expected)
    assert np.array_equal(np.isfinite(model.predict(fresh)), finite)
    np.testing.assert_allclose(model.predict(fresh)[finite], expected[finite], rtol=0, atol=1e-13)
    assert gm.pinball_loss(y, q, LEVELS) == pytest.approx(conformal.pinball(y, q, LEVELS), rel=1e-13)
    # Negative control: the other way to calibrate is another one.
    other = conformal.calibrated_shifts(q, y, LEVELS.tolist(), "pairs" if how == "levels" else "levels")
    assert not np.array_equal(other, shifts)


def test_shifts_are_order_statistics(rng):
    predictions, y = noisy_models(rng, 30)
    model = gm.QuantileAggregator(LEVELS).fit(predictions, y).calibrate(predictions, y)
    raw = gm.QuantileAggregator(LEVELS).fit(predictions, y).predict(predictions)
    gaps = np.sort(y[:, np.newaxis] - raw, axis=0)
    expected = [gaps[rank - 1, k] for k, rank in enumerate([2, 8, 16, 24, 30])]
    np.testing.assert_array_equal(model.shifts_, expected)
    few = gm.QuantileAggregator(LEVELS).fit(predictions[:5], y[:5]).calibrate(predictions[:5], y[:5])
    assert few.shifts_[-1] == np.inf
    assert np.isinf(few.predict(predictions)[:, -1]).all()
    paired = gm.QuantileAggregator(LEVELS, calibration="pairs").fit(predictions, y).calibrate(predictions, y)
    margins = [np.sort(np.maximum(raw[:, k] - y, y - raw[:, 4 - k]))[rank - 1] for k, rank in ((0, 28), (1, 16))]
    np.testing.assert_allclose(paired.shifts_, [-margins[0], -margins[1], 0, margins[1], margins[0]])


def test_estimator_manners(rng):
    predictions, y = noisy_models(rng, 40)
    model = gm.QuantileAggregator(LEVELS, weights=[1, 0, 1, 2])
    assert repr(model).startswith("QuantileAggregator(levels=")
    model.fit(predictions, y)
    np.testing.assert_allclose(model.weights_, [0.25, 0, 0.25, 0.5])
    again = pickle.loads(pickle.dumps(model))
    assert np.array_equal(again.predict(predictions), model.predict(predictions))
    assert model.set_params(repair="isotonic").get_params()["repair"] == "isotonic"
    assert model.score(predictions, y) == -gm.pinball_loss(y, model.predict(predictions), LEVELS)
    sklearn = pytest.importorskip("sklearn")
    copy = sklearn.base.clone(model)
    with pytest.raises(sklearn.exceptions.NotFittedError):
        copy.predict(predictions)


def test_bad_input_of_the_pinball_loss():
    y, q = np.arange(3.0), np.zeros((3, 2))
    gap = q.copy()
    gap[1, 0] = np.nan
    for args, message in (
        ((y, q, [0.0, 0.5]), "levels must be"),
        ((y, q, [0.5, 1.0]), "levels must be"),
        ((y, q, [0.5, np.nan]), "levels must be"),
        ((y, q, 0.5), "levels must be"),
        ((y, q, ["a", "b"]), "levels must be"),
        ((y, q, [0.5]), "quantiles must have shape"),
        ((y, q[:2], [0.1, 0.5]), "quantiles must have shape"),
        ((y, q[:, 0], [0.1, 0.5]), "quantiles must have shape"),
        ((y[:0], q[:0], [0.1, 0.5]), "a row or more"),
        ((q, q, [0.1, 0.5]), "one dimension"),
        (([0.0, np.nan, 1.0], q, [0.1, 0.5]), "y contains NaN, first in row 1"),
        ((y, gap, [0.1, 0.5]), "quantiles contains NaN, first in row 1"),
    ):
        with pytest.raises(ValueError, match=message):
            gm.pinball_loss(*args)
    # Levels may come in any order, and ends may be infinite.
    assert gm.pinball_loss([1.0], [[2.0, 0.0]], [0.9, 0.1]) == pytest.approx(0.1)
    assert gm.pinball_loss([1.0], [[np.inf]], [0.9]) == np.inf


def test_bad_input(rng):
    predictions, y = noisy_models(rng, 20)
    for make, message in (
        (lambda: gm.QuantileAggregator([0.5, 0.1]), "levels must rise"),
        (lambda: gm.QuantileAggregator([0.0, 0.5]), "levels must rise"),
        (lambda: gm.QuantileAggregator("x"), "levels must rise"),
        (lambda: gm.QuantileAggregator(LEVELS, repair="both"), "repair"),
        (lambda: gm.QuantileAggregator(LEVELS, weights="best"), "weights"),
        (lambda: gm.QuantileAggregator(LEVELS, weights=[1, -1, 1, 1]), "weights"),
        (lambda: gm.QuantileAggregator(LEVELS, weights=[1]), "weights"),
        (lambda: gm.QuantileAggregator(LEVELS, calibration="all"), "calibration"),
        (lambda: gm.QuantileAggregator(LEVELS[:4]), "predictions must have shape"),
    ):
        with pytest.raises(ValueError, match=message):
            make().fit(predictions, y)
    model = gm.QuantileAggregator(LEVELS)
    with pytest.raises(ValueError, match="y has shape"):
        model.fit(predictions, y[:3])
    predictions[3, 0, 0] = np.nan
    with pytest.raises(ValueError, match="predictions contains NaN or infinity, first in row 3"):
        model.fit(predictions, y)
    predictions[3, 0, 0] = 0
    model.fit(predictions, y)
    with pytest.raises(ValueError, match="of 3 models"):
        model.predict(predictions[:, :3])
    with pytest.raises(ValueError, match="nothing to calibrate"):
        gm.QuantileAggregator(LEVELS, calibration=None).fit(predictions, y).calibrate(predictions, y)
    with pytest.raises(ValueError, match="levels t and 1 - t"):
        gm.QuantileAggregator([0.1, 0.5], calibration="pairs").fit(predictions[:, :, :2], y).calibrate(
            predictions[:, :, :2], y
        )
