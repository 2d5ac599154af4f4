"""Least squares: backward errors against LAPACK's gelsy, every method, every kind of input, and the plan."""

import pathlib
import re
import subprocess
import sys
import warnings

import numpy as np
import pytest
import scipy.linalg
import scipy.sparse
import scipy.sparse.linalg
from reference_path import lstsq as reference

from gramian import LstsqSpeeds, lstsq, lstsq_plan

EPS = np.finfo(float).eps
ACCURATE = ("qr", "preconditioned_cholesky", "spir", "fossils")


def gelsy(A, b):
    return scipy.linalg.lstsq(A, b, lapack_driver="gelsy")[0]


def check_backward_error(A, b, method, factor=10, **options):
    """At most ten times that of gelsy, or what a single rounding of the solution already is."""
    measure = reference.BackwardError(A)
    result = lstsq(A, b, method=method, **options)
    mine, theirs = measure(b, result.x), measure(b, gelsy(A, b))
    assert mine <= factor * theirs + EPS / 16, (method, mine, theirs, result)
    return result, mine


@pytest.mark.parametrize("residual", [0.0, 1e-12, 1e-3, 1e3])
@pytest.mark.parametrize("condition", [1.0, 1e4, 1e8, 1e12, 1e14])
def test_backward_error_of_gelsy(condition, residual):
    rng = np.random.default_rng(int(np.log10(condition)) + 20)
    A, b = reference.problem(rng, 800, 25, condition, residual)
    for method in (*ACCURATE, "auto"):
        check_backward_error(A, b, method, random_state=1)
    if condition <= 1e4:
        check_backward_error(A, b, "cholesky")


def test_the_measure_is_the_optimum():
    rng = np.random.default_rng(5)
    for condition in (1e2, 1e8, 1e12):
        A, b = reference.problem(rng, 80, 8, condition, 1e-3)
        for x in (gelsy(A, b), np.linalg.lstsq(A, b, rcond=1e-3)[0]):
            estimate, optimum = reference.BackwardError(A)(b, x), reference.optimal_backward_error(A, b, x)
            assert optimum / 1.5 <= estimate <= 1.5 * optimum + 1e-18


def test_what_must_fail_the_test_of_backward_error_does():
    rng = np.random.default_rng(6)
    A, b = reference.problem(rng, 800, 25, 1e8, 1e-3)
    measure = reference.BackwardError(A)
    bar = 10 * measure(b, gelsy(A, b)) + EPS / 16
    assert measure(b, np.linalg.solve(A.T @ A, A.T @ b)) > bar
    assert measure(b, lstsq(A, b, method="sketch_and_solve").x) > bar
    assert lstsq(A, b, method="sketch_and_solve").backward_error > bar


@pytest.mark.parametrize("method", ["auto", *ACCURATE])
@pytest.mark.parametrize("design", ["vandermonde", "kernel", "heavy tails", "spikes", "graded"])
def test_hard_designs(design, method):
    rng = np.random.default_rng(7)
    n, d = 700, 16
    if design == "vandermonde":
        A = np.vander(np.linspace(0, 1, n), d, increasing=True)
    elif design == "kernel":
        A = np.exp(-((np.linspace(0, 1, n)[:, None] - np.linspace(0, 1, d)) ** 2) / 0.1)
    elif design == "heavy tails":
        A, _ = reference.linf_design("D4", n, d, 8)
    elif design == "spikes":
        A = np.vstack([1e6 * np.eye(d), rng.normal(size=(n - d, d))])
    else:
        A = rng.normal(size=(n, d)) * np.logspace(0, -8, n)[:, None]
    b = A @ rng.normal(size=d) + 1e-3 * rng.standard_t(3, size=n)
    check_backward_error(A, b, method)


@pytest.mark.parametrize("method", ACCURATE)
def test_estimate_of_the_backward_error(method):
    rng = np.random.default_rng(9)
    for condition, residual in ((1e3, 1e-2), (1e10, 1e-3)):
        A, b = reference.problem(rng, 800, 20, condition, residual)
        result, truth = check_backward_error(A, b, method)
        # Its own gradient has rounding errors of the size of what is left.
        assert truth / 10 - EPS / 16 <= result.backward_error <= 10 * truth + EPS
        np.testing.assert_allclose(result.residual_norm, np.linalg.norm(b - A @ result.x), rtol=1e-10)
        assert result.rank == 20 and condition / 30 < result.condition < 30 * condition
    rough = lstsq(A, b, method="sketch_and_solve")
    truth = reference.BackwardError(A)(b, rough.x)
    assert truth / 3 <= rough.backward_error <= 3 * truth


@pytest.mark.parametrize("method", ["auto", "cholesky", *ACCURATE])
def test_several_right_hand_sides(method):
    rng = np.random.default_rng(10)
    A, _ = reference.design(rng, 900, 15, 1e3)
    B = A @ rng.normal(size=(15, 7)) + rng.normal(size=(900, 7))
    B[:, 2] = 0
    B[:, 3] *= 1e8
    result = lstsq(A, B, method=method)
    assert result.x.shape == (15, 7) and result.residual_norm.shape == result.backward_error.shape == (7,)
    measure = reference.BackwardError(A)
    for j in range(7):
        theirs = measure(B[:, j], gelsy(A, B[:, j])) if B[:, j].any() else 0
        assert measure(B[:, j], result.x[:, j]) <= 10 * theirs + EPS / 16
    np.testing.assert_allclose(result.residual_norm, np.linalg.norm(B - A @ result.x, axis=0), rtol=1e-10)
    assert not result.x[:, 2].any()


@pytest.mark.parametrize("method", ["auto", "cholesky", *ACCURATE])
@pytest.mark.parametrize("ridge", [1e-6, 1.0])
def test_ridge(method, ridge):
    rng = np.random.default_rng(11)
    A, b = reference.problem(rng, 600, 12, 1e3, 1.0)
    result = lstsq(A, b, method=method, ridge=ridge)
    whole, right = np.vstack([A, np.sqrt(ridge) * np.eye(12)]), np.append(b, np.zeros(12))
    measure = reference.BackwardError(whole)
    assert measure(right, result.x) <= 10 * measure(right, gelsy(whole, right)) + EPS / 16
    np.testing.assert_allclose(result.residual_norm, np.linalg.norm(b - A @ result.x), rtol=1e-10)


@pytest.mark.parametrize("method", ["auto", *ACCURATE])
def test_rank_deficient_is_least_norm(method):
    rng = np.random.default_rng(12)
    A = rng.normal(size=(700, 9)) @ rng.normal(size=(9, 14))
    A[:, 5] = 0
    b = rng.normal(size=700)
    result = lstsq(A, b, method=method)
    assert result.rank == 9
    np.testing.assert_allclose(result.x, np.linalg.pinv(A, rcond=1e-10) @ b, atol=1e-12)
    assert result.backward_error < 10 * EPS
    # rtol says what counts as dependent.
    U, s, Vt = np.linalg.svd(rng.normal(size=(700, 6)), full_matrices=False)
    A = U * [1, 1, 1, 1, 1e-4, 1e-5] @ Vt
    assert lstsq(A, b, method=method).rank == 6
    if method in ("auto", "qr"):
        loose = lstsq(A, b, method=method, rtol=1e-3)
        assert loose.rank == 4 and loose.method == "qr"
        np.testing.assert_allclose(loose.x, reference.min_norm(A, b, 1e-3), atol=1e-12)
    else:
        with pytest.raises(np.linalg.LinAlgError, match="rtol cuts through the singular values"):
            lstsq(A, b, method=method, rtol=1e-3)


@pytest.mark.parametrize("method", ["auto", *ACCURATE])
def test_corners(method):
    rng = np.random.default_rng(13)
    A = rng.normal(size=(400, 6))
    b = rng.normal(size=400)
    assert not lstsq(A, np.zeros(400), method=method).x.any()
    assert not lstsq(np.zeros((400, 6)), b, method=method).x.any()
    assert lstsq(np.zeros((400, 6)), b, method=method).rank == 0
    one = lstsq(A[:, :1], b, method=method)
    np.testing.assert_allclose(one.x, [A[:, 0] @ b / (A[:, 0] @ A[:, 0])], rtol=1e-14)
    with_zero = A.copy()
    with_zero[:, 3] = 0
    result = lstsq(with_zero, b, method=method)
    assert result.x[3] == 0 and result.rank == 5
    keep = [0, 1, 2, 4, 5]
    np.testing.assert_allclose(result.x[keep], np.linalg.lstsq(A[:, keep], b, rcond=None)[0], atol=1e-14)


def test_square_and_single():
    rng = np.random.default_rng(14)
    A = rng.normal(size=(30, 30))
    x = rng.normal(size=30)
    check_backward_error(A, A @ x, "auto")
    assert lstsq(A, A @ x).method == "qr"
    assert lstsq([[2.0]], [3.0]).x == [1.5]


@pytest.mark.parametrize("ridge", [0.0, 0.5])
@pytest.mark.parametrize("rank", [12, 7])
def test_fewer_rows_than_columns(ridge, rank):
    rng = np.random.default_rng(15)
    A = rng.normal(size=(12, rank)) @ rng.normal(size=(rank, 40))
    B = rng.normal(size=(12, 2))
    result = lstsq(A, B, ridge=ridge)
    if ridge:
        want = A.T @ np.linalg.solve(A @ A.T + ridge * np.eye(12), B)
    else:
        want = np.linalg.pinv(A, rcond=1e-10) @ B
        assert result.rank == rank
    np.testing.assert_allclose(result.x, want, atol=1e-13)
    np.testing.assert_allclose(result.residual_norm, np.linalg.norm(B - A @ result.x, axis=0), atol=1e-13)
    assert (result.backward_error < 20 * EPS).all()
    with pytest.raises(ValueError, match="at least as many rows"):
        lstsq(A, B, method="spir")


@pytest.mark.parametrize("method", ["auto", "cholesky", *ACCURATE])
def test_kinds_of_rows(method):
    rng = np.random.default_rng(16)
    A = np.float32(rng.normal(size=(900, 10)))
    b = rng.normal(size=900)
    want = gelsy(A.astype(float), b)
    kinds = [A, A.astype(float), np.asfortranarray(A), np.repeat(A, 2, axis=1)[:, ::2], scipy.sparse.csr_matrix(A)]
    for kind in (*kinds, scipy.sparse.csr_matrix(A.astype(float))):
        # A float32 matrix is solved to the accuracy of double: its residuals are.
        np.testing.assert_allclose(lstsq(kind, b, method=method).x, want, atol=1e-14)
    whole = np.round(3 * A).astype(np.int64)
    np.testing.assert_allclose(lstsq(whole, b, method=method).x, gelsy(whole.astype(float), b), atol=1e-14)


@pytest.mark.parametrize("method", ["auto", "spir", "fossils", "qr", "preconditioned_cholesky"])
@pytest.mark.parametrize("n", [20, 900])
def test_linear_operators(method, n):
    rng = np.random.default_rng(17)
    A = scipy.sparse.random(n, 12, density=0.4, random_state=3, format="csr") + scipy.sparse.eye(n, 12)
    B = rng.normal(size=(n, 2))
    want = gelsy(A.toarray(), B)

    class Operator:
        shape = A.shape
        calls = 0

        def matvec(self, x):
            self.calls += 1
            return A @ x

        def rmatvec(self, y):
            return A.T @ y

    mine = Operator()
    for operator in (scipy.sparse.linalg.aslinearoperator(A), mine):
        result = lstsq(operator, B, method=method)
        np.testing.assert_allclose(result.x, want, atol=1e-13)
    assert mine.calls >= 12
    np.testing.assert_allclose(lstsq(mine, B[:, 0], ridge=0.1).x, lstsq(A, B[:, 0], ridge=0.1).x, atol=1e-13)


def test_errors_of_operators_come_through():
    class Operator:
        shape = (200, 4)

        def matvec(self, x):
            raise ZeroDivisionError("mine")

        def rmatvec(self, y):
            return np.zeros(4)

    with pytest.raises(ZeroDivisionError, match="mine"):
        lstsq(Operator(), np.ones(200))
    Operator.matvec = lambda self, x: np.zeros(3)
    with pytest.raises(ValueError, match="A.matvec must give an array of shape"):
        lstsq(Operator(), np.ones(200))
    Operator.matvec = lambda self, x: np.full(200, np.nan)
    with pytest.raises(ValueError, match="products of A contain NaN"):
        lstsq(Operator(), np.ones(200))


@pytest.mark.parametrize("method", ["auto", "cholesky", *ACCURATE])
def test_nan_names_the_row(method):
    rng = np.random.default_rng(18)
    A, b = rng.normal(size=(9000, 5)), rng.normal(size=9000)
    bad = A.copy()
    bad[8000, 1] = np.nan
    bad[6001, 4] = np.inf
    for rows in (bad, np.asfortranarray(bad), scipy.sparse.csr_matrix(bad)):
        with pytest.raises(ValueError, match="A contains NaN or infinity, first in row 6001"):
            lstsq(rows, b, method=method)
    worse = b.copy()
    worse[77] = np.nan
    with pytest.raises(ValueError, match="b contains NaN or infinity, first in row 77"):
        lstsq(A, worse, method=method)


@pytest.mark.parametrize("method", ["auto", "cholesky", *ACCURATE])
def test_bits(method):
    rng = np.random.default_rng(19)
    A, b = rng.normal(size=(20000, 12)), rng.normal(size=20000)
    one = lstsq(A, b, method=method, n_jobs=1)
    for n_jobs in (2, 5):
        assert (lstsq(A, b, method=method, n_jobs=n_jobs).x == one.x).all()
    assert (lstsq(A, b, method=method, random_state=0).x == one.x).all()
    if one.sketch_rows:
        assert (lstsq(A, b, method=method, random_state=1).x != one.x).any()


def test_choice():
    rng = np.random.default_rng(20)
    b = rng.normal(size=40000)
    easy = rng.normal(size=(40000, 60))
    assert lstsq(easy, b).method == "cholesky"
    hard, _ = reference.design(rng, 40000, 60, 1e10)
    found = lstsq(hard, b)
    assert found.method in ("preconditioned_cholesky", "qr") and "cost model" in found.why
    assert lstsq(easy[:60], b[:60]).method == "qr"
    asked = lstsq(easy, b, method="spir")
    assert asked.method == "spir" and asked.why == "asked for" and asked.sketch_rows == 720


def test_a_hint_that_misleads_costs_time_not_accuracy():
    # A sample of the rows sees a well-conditioned matrix; the rows it does not see make it an ill-conditioned one.
    rng = np.random.default_rng(21)
    A = rng.normal(size=(30000, 40))
    A[1::97] *= 1e9 * (np.arange(40) == 0)
    A[5] = 1e12 * np.ones(40)
    b = rng.normal(size=30000)
    check_backward_error(A, b, "auto")
    # The sample sees nothing at all.
    A = np.zeros((30000, 40))
    A[1000:1040] = np.eye(40)
    assert (lstsq(A, b).x == b[1000:1040]).all() or np.allclose(lstsq(A, b).x, b[1000:1040], atol=1e-15)


def test_a_method_that_breaks_down_says_so():
    A = np.ones((500, 3))
    with pytest.raises(np.linalg.LinAlgError, match="cholesky.*singular"):
        lstsq(A, np.ones(500), method="cholesky")
    rng = np.random.default_rng(22)
    A, b = reference.problem(rng, 500, 8, 1e9, 1.0)
    with pytest.raises(np.linalg.LinAlgError, match="cholesky"):
        lstsq(A, b, method="cholesky")


def test_plan():
    plan = lstsq_plan(200_000, 500, condition=10.0)
    assert plan.method == "cholesky" and plan.seconds > 0
    assert "cholesky" in str(plan) and "<-" in str(plan)
    assert lstsq_plan(200_000, 500, condition=1e10).method == "preconditioned_cholesky"
    assert lstsq_plan(10**6, 20_000, condition=1e10).method in ("spir", "fossils")
    assert lstsq_plan(600, 500).method == "qr"
    assert lstsq_plan(10**6, 1000, density=1e-3).method in ("spir", "fossils")
    assert lstsq_plan(10**6, 1000, rows=False).method in ("spir", "fossils")
    # A machine that multiplies for nothing would never read A forty times.
    fast = LstsqSpeeds(1e15, 1e15, 1e12, 1e12, 1e9)
    assert lstsq_plan(10**6, 20_000, condition=1e10, speeds=fast).method in ("qr", "preconditioned_cholesky")
    assert LstsqSpeeds.default() == LstsqSpeeds.default()


def test_speeds_are_measured():
    speeds = LstsqSpeeds.measure(n_jobs=1)
    assert 1e8 < speeds.qr_flops < speeds.flops32 * 2 < 1e14
    assert 1e8 < speeds.bandwidth < 1e13
    assert lstsq(np.eye(3), np.ones(3), speeds=speeds).x.tolist() == [1, 1, 1]


def scaled_problem(seed=30):
    rng = np.random.default_rng(seed)
    A = rng.normal(size=(900, 10))
    return A, A @ np.ones(10) + rng.normal(size=900)


@pytest.mark.parametrize("method", ["auto", "cholesky", *ACCURATE])
@pytest.mark.parametrize(
    "a_power, b_power",
    [(-1000, 0), (-1000, -660), (-530, 0), (-530, 400), (-280, -280), (-63, 0), (0, 530), (0, -660), (63, 0), (660, 0)],
)
def test_scale_does_not_matter(method, a_power, b_power):
    A, b = scaled_problem()
    plain = lstsq(A, b, method=method)
    result = lstsq(np.ldexp(A, a_power), np.ldexp(b, b_power), method=method)
    # Which precision the products are made in, and so the last bits, may depend on the scale.
    np.testing.assert_allclose(np.ldexp(result.x, a_power - b_power), plain.x, rtol=1e-14)
    assert 0 < result.backward_error < 2 * EPS and result.rank == 10
    np.testing.assert_allclose(np.ldexp(result.residual_norm, -b_power), plain.residual_norm, rtol=1e-14)
    if method == "auto":
        sparse = lstsq(scipy.sparse.csr_matrix(np.ldexp(A, a_power)), np.ldexp(b, b_power))
        np.testing.assert_allclose(np.ldexp(sparse.x, a_power - b_power), plain.x, rtol=1e-14)
        wide = lstsq(np.ldexp(A[:6], a_power), np.ldexp(b[:6], b_power))
        np.testing.assert_allclose(np.ldexp(wide.x, a_power - b_power), lstsq(A[:6], b[:6]).x, rtol=1e-13)
        assert 0 < wide.backward_error < 10 * EPS


@pytest.mark.parametrize("power", [-1000, -330, -280, 330, 1000])
def test_scale_of_operators(power):
    A, b = scaled_problem()
    operator = scipy.sparse.linalg.aslinearoperator(np.ldexp(A, power))
    result = lstsq(operator, np.ldexp(b, power))
    assert result.method == "spir" and 0 < result.backward_error < 2 * EPS
    np.testing.assert_allclose(result.x, lstsq(A, b).x, rtol=1e-13)


@pytest.mark.parametrize("method", ["auto", "cholesky", *ACCURATE])
def test_columns_of_b_of_any_scale(method):
    A, b = scaled_problem()
    shifts = np.array([0, -565, 400, -1000])
    B = np.stack([b, A @ np.arange(10.0) + b, np.cos(b), b**2], axis=1)
    result = lstsq(A, np.ldexp(B, shifts), method=method)
    assert ((0 < result.backward_error) & (result.backward_error < 2 * EPS)).all()
    np.testing.assert_allclose(np.ldexp(result.x, -shifts), lstsq(A, B).x, rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("method", ["auto", "cholesky", *ACCURATE])
@pytest.mark.parametrize("power", [-400, 0, 400])
def test_scale_of_the_ridge(method, power):
    A, b = scaled_problem()
    want = lstsq(A, b, ridge=3.0).x
    result = lstsq(np.ldexp(A, power), b, ridge=np.ldexp(3.0, 2 * power), method=method)
    np.testing.assert_allclose(np.ldexp(result.x, power), want, rtol=1e-14)
    assert 0 < result.backward_error < 2 * EPS
    heavy = lstsq(A, b, ridge=1e308, method=method)
    np.testing.assert_allclose(heavy.x, A.T @ b / 1e308, rtol=1e-12)
    assert heavy.backward_error < 2 * EPS


def test_what_float64_cannot_hold_raises():
    A, b = scaled_problem()
    for rows in (A * 1e-320, A[:6] * 1e-320):
        with pytest.raises(np.linalg.LinAlgError, match="outside the range of float64"):
            lstsq(rows, b[: len(rows)])
    # Products of subnormal numbers have hardly a digit.
    with pytest.raises(np.linalg.LinAlgError):
        lstsq(scipy.sparse.linalg.aslinearoperator(A * 1e-320), b)
    with pytest.raises(np.linalg.LinAlgError, match="outside the range of float64"):
        lstsq(A * 1e-200, b * 1e200)


def test_rtol_that_cuts_through_an_operator():
    rng = np.random.default_rng(31)
    U, _, V = np.linalg.svd(rng.normal(size=(2000, 6)), full_matrices=False)
    A, b = U * [1, 1, 1, 1, 1e-4, 1e-5] @ V, rng.normal(size=2000)
    operator = scipy.sparse.linalg.aslinearoperator(A)
    for method in ("auto", "spir", "fossils"):
        with pytest.raises(np.linalg.LinAlgError, match="rtol cuts through.*forms the matrix of the operator"):
            lstsq(operator, b, rtol=1e-3, method=method)
    result = lstsq(operator, b, rtol=1e-3, method="qr")
    assert result.rank == 4
    np.testing.assert_allclose(result.x, reference.min_norm(A, b, 1e-3), atol=1e-12)


@pytest.mark.parametrize(
    "d, n, method, options",
    [
        (4, 32, "preconditioned_cholesky", {"random_state": 819}),
        (4, 32, "preconditioned_cholesky", {"random_state": 9757}),
        *((2, 402, "spir", {"sketch_rows": 2, "random_state": seed}) for seed in range(8)),
        *((2, 402, "sketch_and_solve", {"sketch_rows": 2, "random_state": seed}) for seed in range(8)),
    ],
)
def test_a_sketch_that_lost_rank_is_not_the_rank_of_a(d, n, method, options):
    A, b = np.eye(n, d), np.append(np.arange(1.0, d + 1), np.zeros(n - d))
    result = lstsq(A, b, method=method, **options)
    assert result.rank == d
    np.testing.assert_allclose(result.x, b[:d], atol=1e-14)


def test_a_redraw_is_told():
    A, b = np.eye(402, 2), np.arange(402.0)
    results = [lstsq(A, b, method="spir", sketch_rows=2, random_state=seed) for seed in range(8)]
    redrawn = [result for result in results if result.sketch_rows > 2]
    assert redrawn and all("rows: a sketch of" in result.why and "lost rank" in result.why for result in redrawn)


@pytest.mark.parametrize(
    "method, options",
    [
        ("fossils", {"sketch_rows": 25}),
        ("spir", {"sketch_rows": 25, "inner_steps": 1}),
        ("spir", {"inner_steps": 1}),
        ("fossils", {"inner_steps": 1}),
        ("preconditioned_cholesky", {"sketch_rows": 25}),
    ],
)
def test_an_answer_is_accurate_or_an_error(method, options):
    rng = np.random.default_rng(32)
    for seed in range(3):
        A, b = reference.problem(rng, 3000, 25, 1e6, 1.0)
        try:
            result = lstsq(A, b, method=method, random_state=seed, **options)
        except np.linalg.LinAlgError as error:
            assert "backward error stayed" in str(error) or "breaks down" in str(error)
        else:
            assert reference.BackwardError(A)(b, result.x) < 1.5e-13


def test_a_wrong_adjoint_is_found():
    A, b = scaled_problem()

    class Operator:
        shape = A.shape

        def matvec(self, x):
            return A @ x

        def rmatvec(self, y):
            return -2 * A.T @ y

    for wrong in (lambda self, y: -2 * A.T @ y, lambda self, y: A[::-1].T @ y, lambda self, y: A[:, ::-1].T @ y):
        Operator.rmatvec = wrong
        with pytest.raises(ValueError, match="A.rmatvec is not the adjoint of A.matvec"):
            lstsq(Operator(), b)
    # The products of a single-precision adjoint pass.
    Operator.rmatvec = lambda self, y: A.T @ (y * (1 + 1e-7 * np.cos(np.arange(900))))
    try:
        lstsq(Operator(), b)
    except np.linalg.LinAlgError as error:
        assert "backward error" in str(error)


@pytest.mark.parametrize("d, condition", [(25, 5e14), (150, 1e14), (700, 1e14)])
def test_extreme_conditions_keep_their_rank(d, condition):
    n = d + 60 if d > 200 else 4 * d
    rng = np.random.default_rng(3)
    A, b = reference.problem(rng, n, d, condition, 0.0)
    result = lstsq(A, b)
    assert result.rank == d
    # Long double is slow for wide matrices: the estimate is compared with the equations' own rounding instead.
    if d > 200:
        assert result.backward_error <= EPS
    else:
        check_backward_error(A, b, "auto")


@pytest.mark.parametrize("method", ["auto", *ACCURATE])
@pytest.mark.parametrize("d", [60, 200])
def test_rank_of_wide_products(method, d):
    rng = np.random.default_rng(33)
    A = rng.normal(size=(6 * d, d // 2)) @ rng.normal(size=(d // 2, d)) * np.logspace(0, -3, d)
    b = rng.normal(size=6 * d)
    result = lstsq(A, b, method=method)
    assert result.rank == d // 2 and result.backward_error < 10 * EPS
    np.testing.assert_allclose(result.x, np.linalg.pinv(A, rcond=1e-12) @ b, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_memory_of_sparse_rows(dtype):
    if not pathlib.Path("/proc/self/clear_refs").exists():
        pytest.skip("the peak of memory cannot be reset here")
    code = f"""
import numpy as np, scipy.sparse, gramian
rng = np.random.default_rng(0)
n, d, per = 300_000, 50, 16
A = scipy.sparse.csr_matrix((rng.normal(size=n * per).astype(np.{np.dtype(dtype).name}),
                             rng.integers(0, d, n * per).astype(np.int32),
                             np.arange(0, n * per + 1, per, dtype=np.int32)), shape=(n, d))
b = rng.normal(size=n)
gramian.lstsq(A[:2000], b[:2000], method="qr", n_jobs=2)

def peak():
    lines = open("/proc/self/status").read().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM"))

open("/proc/self/clear_refs", "w").write("5")
before = peak()
gramian.lstsq(A, b, method="qr", n_jobs=2)
print((peak() - before) / 1024)
"""
    grown = float(subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout)
    # b and the residual are 5 MB, blocks of rows a few; a transposed copy would be 77.
    assert grown < 40


@pytest.mark.parametrize("method", ["auto", "spir"])
def test_duplicates_and_wide_indices_of_sparse_rows(method):
    rng = np.random.default_rng(34)
    rows, columns = rng.integers(0, 30000, 60000), rng.integers(0, 7, 60000)
    A = scipy.sparse.coo_matrix((rng.normal(size=60000), (rows, columns)), shape=(30000, 7))
    B = rng.normal(size=(30000, 2))
    want = gelsy(A.toarray(), B)
    order = np.argsort(rows, kind="stable")
    indptr = np.searchsorted(rows[order], np.arange(30001))
    raw = scipy.sparse.csr_matrix((A.data[order], columns[order], indptr), shape=A.shape)
    raw.indices, raw.indptr = raw.indices.astype(np.int64), raw.indptr.astype(np.int64)
    result = lstsq(raw, B, method=method)
    np.testing.assert_allclose(result.x, want, atol=1e-13)
    assert (lstsq(raw, B, method=method, n_jobs=1).x == lstsq(raw, B, method=method, n_jobs=3).x).all()


def test_plan_of_an_operator_is_what_is_done():
    rng = np.random.default_rng(35)
    for n, d in ((200, 20), (480, 20), (481, 20), (20, 20)):
        A = rng.normal(size=(n, d))
        found = lstsq(scipy.sparse.linalg.aslinearoperator(A), rng.normal(size=n)).method
        assert found == lstsq_plan(n, d, rows=False, condition=1.0).method
    assert hash(lstsq_plan(200, 20)) == hash(lstsq_plan(200, 20))


def test_results_compare_by_identity():
    one, two = (lstsq(np.eye(3), np.ones(3)) for _ in range(2))
    assert one == one and one != two and len({one, two}) == 2


def test_bad_operators_and_sizes():
    A, b = np.arange(900.0).reshape(300, 3) ** 0.5, np.ones(300)
    with pytest.raises(ValueError, match="sketch_rows must be (at most|below)"):
        lstsq(A, b, sketch_rows=10**30)
    for sizes in ((10**30, 10), (10**6, 10, 10**30)):
        with pytest.raises(ValueError, match="must be (at most|below)"):
            lstsq_plan(*sizes)
    with pytest.raises(ValueError, match="density must lie between 0 and 1"):
        lstsq_plan(100, 10, density=7)

    class Operator:
        shape = (300, 3)

        def matvec(self, x):
            return A @ x

        def rmatvec(self, y):
            return A.T @ y

    for shape in ((300, 3, 1), None, (300.7, 3.2), "ab", 5):
        Operator.shape = shape
        with pytest.raises(ValueError, match="A.shape must be two integers"):
            lstsq(Operator(), b)
    Operator.shape = (10**30, 3)
    with pytest.raises(ValueError, match="must be (at most|below)"):
        lstsq(Operator(), b)
    Operator.shape = (300, 3)
    Operator.matvec = lambda self, x: A @ x + 0j
    with pytest.raises(TypeError, match="A.matvec must return real numbers, not complex ones"):
        lstsq(Operator(), b)
    with pytest.raises(TypeError, match="A must have real entries, not complex ones: its dtype is complex128"):
        lstsq(scipy.sparse.linalg.aslinearoperator(A * 1j), b)
    Operator.matvec = lambda self, x: np.array(["a"] * 300)
    with pytest.raises(TypeError, match="A.matvec must give an array of numbers"):
        lstsq(Operator(), b)
    Operator.matmat = lambda self, X: A[:-1] @ X
    with pytest.raises(ValueError, match=r"A.matmat must give an array of shape \(300, "):
        lstsq(Operator(), b)


def test_bad_arguments():
    A, b = np.ones((20, 2)), np.ones(20)
    A[:, 1] = np.arange(20)
    for wrong, match in (
        ({"method": "gelsd"}, "method must be one of"),
        ({"ridge": -1.0}, "ridge"),
        ({"ridge": np.nan}, "ridge"),
        ({"rtol": 1.0}, "rtol"),
        ({"rtol": -0.5}, "rtol"),
        ({"sketch_rows": 0}, "sketch_rows"),
        ({"method": "spir", "sketch_rows": 1}, "sketch_rows must be at least the number of columns, 2"),
        ({"inner_steps": 0}, "inner_steps"),
        ({"n_jobs": 0}, "n_jobs"),
    ):
        with pytest.raises(ValueError, match=match):
            lstsq(A, b, **wrong)
    with pytest.raises(TypeError, match="speeds"):
        lstsq(A, b, speeds=3)
    with pytest.raises(ValueError, match="A has 20 rows, but b has 19"):
        lstsq(A, b[:-1])
    with pytest.raises(ValueError, match="b must have 1 or 2 dimensions"):
        lstsq(A, np.ones((20, 1, 1)))
    with pytest.raises(ValueError, match="b has no columns"):
        lstsq(A, np.ones((20, 0)))
    with pytest.raises(ValueError, match="b is None"):
        lstsq(A, None)
    with pytest.raises(ValueError, match="2D array"):
        lstsq(b, b)
    with pytest.raises(ValueError, match="Complex"):
        lstsq(A + 1j, b)
    with pytest.raises(ValueError, match="n must be at least d"):
        lstsq_plan(3, 4)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        lstsq(A, b)


def test_the_table_of_the_page_is_what_is_planned():
    page = pathlib.Path(__file__).resolve().parents[2] / "docs" / "least-squares.md"
    rows = re.findall(r"^\| (\d+) \| (1e?\d+) \| (.+) \|$", page.read_text(encoding="utf-8"), re.MULTILINE)
    assert len(rows) == 12
    for ratio, condition, cells in rows:
        for d, cell in zip((20, 100, 500, 1000, 2000, 5000), cells.split(" | "), strict=True):
            plan = lstsq_plan(int(ratio) * d, d, condition=float(condition))
            best = min((cost for cost in plan.costs if cost["method"] == plan.method), key=lambda c: c["seconds"])
            said = {"preconditioned_cholesky": "preconditioned"}.get(plan.method, plan.method)
            if plan.method == "cholesky" and best["single"]:
                said += " f32"
            assert said == cell, (ratio, condition, d)
