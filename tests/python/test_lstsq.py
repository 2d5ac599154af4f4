"""Least squares: backward errors against LAPACK's gelsy, every method, every kind of input, and the plan."""

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
