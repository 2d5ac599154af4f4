"""Softmax regression: derivatives by complex steps, planted answers, directions that do not matter."""

import numpy as np
import pytest
from reference_path import second_order as ref

from gramian import SoftmaxRegression


def planted(rng, n=30, d=5, scale=1.0):
    A, x = rng.normal(size=(n, d)), scale * rng.normal(size=d)
    b = np.exp(A @ x)
    return A, x, b / b.sum()


@pytest.mark.parametrize("ridge", [0.0, 0.3])
def test_gradient_and_hessian_by_complex_steps(rng, ridge):
    n, d = 40, 6
    A, x, b = rng.normal(size=(n, d)), rng.normal(size=d), rng.normal(size=n)  # b need not be probabilities
    model = SoftmaxRegression(ridge=ridge)

    def loss(z):
        return ref.softmax_loss(A, b, ridge, z)

    value, gradient = model.value_gradient(A, b, x)
    assert value == pytest.approx(loss(x).real, rel=1e-13)
    expected = ref.complex_gradient(loss, x)
    np.testing.assert_allclose(gradient, expected, rtol=0, atol=1e-13 * max(1, np.abs(expected).max()))

    # The Hessian from complex steps of the gradient's own formula.
    def slope(z):
        y = A @ z
        f = np.exp(y - y.real.max())
        f = f / f.sum()
        c = f - b
        return A.T @ (f * c - f * (f @ c)) + ridge * z

    np.testing.assert_allclose(slope(x).real, expected, rtol=0, atol=1e-13)
    H = np.array([slope(x + 1e-30j * np.eye(d)[k]).imag / 1e-30 for k in range(d)])
    np.testing.assert_allclose(model.hessian(A, b, x), H, rtol=0, atol=1e-13 * np.abs(H).max() * n)
    f = np.exp(A @ x - (A @ x).max())
    f /= f.sum()
    M = np.diag(f) - np.outer(f, f)
    half = model.hessian(A, b, x, gauss_newton=True)
    np.testing.assert_allclose(half, A.T @ M @ M @ A + ridge * np.eye(d), rtol=0, atol=1e-14 * n)
    assert np.linalg.eigvalsh(half).min() >= ridge - 1e-15
    assert np.abs(half - H).max() > 1e-3  # the Gauss-Newton part is not the Hessian


def test_the_closed_form_start_is_exact_for_what_can_be_met(rng):
    A, x, b = planted(rng)
    model = SoftmaxRegression(max_iter=100).fit(A, b)
    np.testing.assert_allclose(model.x_, x, rtol=0, atol=1e-12)
    assert model.report_["start_loss"] <= 1e-26
    assert model.loss_ <= 1e-28
    assert model.n_iter_ <= 8
    np.testing.assert_allclose(model.predict(A), b, rtol=0, atol=1e-13)


def test_planted_recovery_from_elsewhere(rng):
    A, x, b = planted(rng)
    near, steps = 0, []
    for _ in range(50):
        model = SoftmaxRegression(max_iter=200).fit(A, b, x0=rng.normal(size=5))
        near += np.linalg.norm(model.x_ - x) <= 1e-6
        assert np.linalg.norm(model.predict(A) - b) < 1e-8
        steps.append(model.n_iter_)
    assert near == 50
    # Eight steps are for the start in closed form; most of these need no more either.
    assert np.median(steps) <= 8 and max(steps) <= 16, steps
    assert np.linalg.norm(SoftmaxRegression(start="zeros").fit(A, b).x_ - x) <= 1e-6


def test_noisy_target_ends_without_slope(rng):
    A, _, b = planted(rng, n=200, d=8)
    b = b * np.exp(0.3 * rng.normal(size=200))
    b /= b.sum()
    model = SoftmaxRegression().fit(A, b)
    _, gradient = model.value_gradient(A, b, model.x_)
    assert model.report_["converged"]
    assert np.linalg.norm(gradient) <= 1e-10 * np.linalg.norm(A, axis=1).max()
    assert model.loss_ < model.report_["start_loss"]
    other = SoftmaxRegression().fit(A, b, x0=model.x_ + 0.1)
    np.testing.assert_allclose(other.x_, model.x_, rtol=0, atol=1e-5)


def test_a_ridge_makes_it_convex(rng):
    """|H without ridge| is bounded, so above the bound every start ends in one place; below, H can be indefinite."""
    A, x, b = planted(rng, n=12, d=3, scale=3.0)
    indefinite = max(
        -np.linalg.eigvalsh(SoftmaxRegression().hessian(A, b, rng.normal(size=3) * 4)).min() for _ in range(50)
    )
    assert indefinite > 1e-6
    # |H| <= (|diag D| + 2 |h| |f| + 3 |f|^2) |A|^2 <= 8 |A|^2.
    ridge = 8 * np.linalg.norm(A, 2) ** 2
    ends = [SoftmaxRegression(ridge=ridge).fit(A, b, x0=rng.normal(size=3) * 5).x_ for _ in range(5)]
    for end in ends[1:]:
        np.testing.assert_allclose(end, ends[0], rtol=0, atol=1e-9)
    for _ in range(20):
        H = SoftmaxRegression(ridge=ridge).hessian(A, b, rng.normal(size=3) * 5)
        assert np.linalg.eigvalsh(H).min() > 0


def test_a_constant_column_changes_nothing(rng):
    A, x, b = planted(rng)
    wide = np.hstack([A, np.ones((30, 1)), np.zeros((30, 1))])
    model = SoftmaxRegression().fit(wide, b)
    np.testing.assert_allclose(model.x_[:5], x, rtol=0, atol=1e-8)
    np.testing.assert_allclose(model.predict(wide), b, rtol=0, atol=1e-10)
    moved = SoftmaxRegression().fit(wide, b, x0=np.append(np.zeros(5), [2.0, 3.0]))
    np.testing.assert_allclose(moved.x_[5:], [2.0, 3.0], rtol=0, atol=1e-6)
    np.testing.assert_allclose(moved.x_[:5], x, rtol=0, atol=1e-6)


def test_targets_with_zeros(rng):
    A, x, b = planted(rng)
    b = np.where(np.arange(30) < 3, 0.0, b)
    model = SoftmaxRegression().fit(A, b)
    assert model.report_["rows_left_out"] == 3
    assert model.report_["converged"]
    nothing = SoftmaxRegression(ridge=1e-3).fit(A, -np.ones(30))
    assert nothing.report_["rows_left_out"] == 0  # no start to leave them out of


@pytest.mark.parametrize("start", ["closed_form", "zeros"])
@pytest.mark.parametrize("size", [1e-300, 1e-200, 1e-100, 1e-8, 1e8, 1e100, 1e160, 1e300])
def test_rows_of_any_size(rng, size, start):
    """Squares of such rows are 0 or infinity: a tolerance made of them ended every run at its start, as converged."""
    A, x, b = planted(rng)
    model = SoftmaxRegression(start=start).fit(size * A, b)
    assert model.report_["converged"]
    np.testing.assert_allclose(model.x_ * size, x, rtol=0, atol=1e-12 if start == "closed_form" else 1e-6)


@pytest.mark.parametrize("start", ["closed_form", "zeros"])
@pytest.mark.parametrize("power", [2, 4, 8, 50])
def test_columns_in_other_units(rng, power, start):
    """Units of the columns change the units of the weights, and nothing else."""
    A, x, b = planted(rng)
    noisy = b * np.exp(0.3 * rng.normal(size=30))
    noisy /= noisy.sum()
    units = np.logspace(-power, power, 5)
    for target, answer in ((b, x), (noisy, SoftmaxRegression().fit(A, noisy).x_)):
        model = SoftmaxRegression(start=start).fit(A * units, target)
        assert model.report_["converged"] and model.n_iter_ <= 20
        np.testing.assert_allclose(model.x_ * units, answer, rtol=0, atol=1e-6)


@pytest.mark.parametrize("start", ["closed_form", "zeros"])
@pytest.mark.parametrize("mean", [1e3, 1e6, 1e9])
def test_means_of_columns_do_not_count(rng, mean, start):
    A, x, b = planted(rng)
    moved = A + mean * np.arange(1, 6)
    # What is left of A when the digits behind those of the mean are gone.
    kept = moved - mean * np.arange(1, 6)
    exact = SoftmaxRegression(start="zeros").fit(kept, b).x_
    model = SoftmaxRegression(start=start).fit(moved, b)
    assert model.report_["converged"]
    np.testing.assert_allclose(model.x_, exact, rtol=0, atol=1e-6 + 1e-15 * mean)
    value, gradient = model.value_gradient(moved, b, x)
    other, slope = model.value_gradient(kept, b, x)
    assert value == pytest.approx(other, rel=1e-12 + 1e-15 * mean, abs=1e-14 * mean)
    np.testing.assert_allclose(gradient, slope, rtol=0, atol=1e-15 * mean + 1e-14)


def test_a_ridge_is_one_of_the_weights_themselves(rng):
    """In other units the ridge is another problem; the answer is that of the problem as it was given."""
    A, _, b = planted(rng)
    units = np.array([1e-2, 1.0, 30.0, 1.0, 1e2])
    model = SoftmaxRegression(ridge=1e-3).fit(A * units, b)
    _, gradient = model.value_gradient(A * units, b, model.x_)
    assert np.abs(gradient / units).max() <= 1e-9
    H = model.hessian(A * units, b, model.x_)
    best = ref.complex_gradient(lambda z: ref.softmax_loss(A * units, b, 1e-3, z), model.x_)
    assert np.abs(best / units).max() <= 1e-9
    assert np.linalg.eigvalsh(H).min() > 0


def test_weight_shift_is_a_shift_of_the_data(rng):
    A, _, b = planted(rng)
    model, x0 = SoftmaxRegression(), rng.normal(size=5)
    for eta in (1e-4, 0.1, 3.0):
        x1, delta = model.weight_shift(A, b, x0, eta)
        value, gradient = model.value_gradient(A, b, x0)
        np.testing.assert_allclose(x1, x0 - eta * gradient, rtol=1e-14)
        after = model.value_gradient(A, b, x1)[0]
        assert model.value_gradient(A, b - delta, x0)[0] == pytest.approx(after, rel=1e-12)
    x1, delta = model.weight_shift(A, b, x0, 1e-6)
    f = np.exp(A @ x0)
    f /= f.sum()
    linear = -1e-6 * (np.diag(f) - np.outer(f, f)) @ A @ gradient
    np.testing.assert_allclose(delta, linear, rtol=0, atol=1e-4 * np.abs(linear).max())


def test_inputs_of_any_kind(rng):
    sparse = pytest.importorskip("scipy.sparse")
    A, x, b = planted(rng, n=5000, d=7, scale=0.3)
    A[np.abs(A) < 0.3] = 0
    b = np.exp(A @ x)
    b /= b.sum()
    for other in (sparse.csr_matrix(A), np.asfortranarray(A), A.astype(np.float32)):
        tolerance = 1e-9 if other.dtype == np.float64 else 1e-5
        np.testing.assert_allclose(SoftmaxRegression().fit(other, b).x_, x, rtol=0, atol=tolerance)


def test_same_bits_for_any_number_of_threads(rng):
    A, _, b = planted(rng, n=3000, d=20)
    b = b * (1 + 0.2 * rng.random(3000))
    assert np.array_equal(SoftmaxRegression(n_jobs=1).fit(A, b).x_, SoftmaxRegression(n_jobs=3).fit(A, b).x_)


def test_refuses(rng):
    A, x, b = planted(rng)
    with pytest.raises(ValueError, match="ridge"):
        SoftmaxRegression(ridge=-1.0).fit(A, b)
    with pytest.raises(ValueError, match="start"):
        SoftmaxRegression(start="random").fit(A, b)
    with pytest.raises(ValueError, match="not fitted yet"):
        SoftmaxRegression().predict(A)
    for arguments, message in (
        ((A, b[:-1]), "b has the shape"),
        ((A, np.append(b[:-1], np.nan)), "b contains NaN"),
        ((A, b, x[:-1]), "x0 has the shape"),
        ((np.where(np.arange(5) == 2, np.nan, A), b), "contains NaN or infinity, first in row 0"),
        ((A, 1e200 * b), "squares of b overflow"),
        ((A * 1e3, b, np.full(5, 1.7e308)), "A x contains NaN or infinity"),
        ((np.where(np.arange(30)[:, np.newaxis] == 7, 1.7e308, -1.7e308) * np.ones(5), b), "of A overflow"),
    ):
        with pytest.raises(ValueError, match=message):
            SoftmaxRegression().fit(*arguments)
    with pytest.warns(Warning, match="stopped after 1 steps"):
        SoftmaxRegression(max_iter=1).fit(A, b, x0=rng.normal(size=5) * 3)
