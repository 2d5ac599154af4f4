"""Columns that depend on others exactly: the rank, the solution of least norm and the leverages of every solver.

Duplicates, sums of other columns, dummies beside an intercept, two sets of dummies, columns of ones: what rounding
leaves of them in a factorisation grows with equal terms, and must be told from singular values that count (condition
1e14).
"""

import numpy as np
import pytest
import scipy.sparse
from scipy.sparse.linalg import aslinearoperator

from gramian import RFactor, linf_lstsq, lstsq, sketched_ridge
from gramian.sketch import leverage_scores

EPS = np.finfo(float).eps
KINDS = ("duplicate", "sum", "one-hot", "two categories", "ones", "thirds")
METHODS = ("qr", "preconditioned_cholesky", "spir", "fossils")


def dummies(rng, n, levels):
    """Every level at least once."""
    out = np.zeros((n, levels))
    out[np.arange(n), np.concatenate([np.arange(levels), rng.integers(0, levels, n - levels)])] = 1
    return out


def design(kind, n, d, seed=0):
    """A matrix of d columns and its rank."""
    rng = np.random.default_rng(seed)
    A = rng.normal(size=(n, d))
    if kind == "duplicate":
        A[:, -1] = A[:, 0]
    elif kind == "sum":
        A[:, -1] = A[:, :-1].sum(axis=1)
    elif kind == "one-hot":
        A = np.hstack([dummies(rng, n, d - 1), np.ones((n, 1))])
    elif kind == "two categories":
        A = np.hstack([dummies(rng, n, d // 2), dummies(rng, n, d - d // 2)])
        if d > 3:
            rng.shuffle(A[:, d // 2 :])
    else:
        A = np.full((n, d), 1.0 if kind == "ones" else 1 / 3)
        return A, 1
    return A, d - 1


def least_norm(A, b):
    """By a cut that no singular value of these designs is near."""
    u, s, vt = np.linalg.svd(A, full_matrices=False)
    kept = s > 1e-12 * s[0]
    assert kept.sum() == len(s) or s[kept.sum()] < 1e-13 * s[0] and s[kept.sum() - 1] > 1e-6 * s[0]
    return vt[kept].T @ ((u[:, kept].T @ b) / s[kept])


def check(x, A, b, expected, slack=1e-9):
    """x against the solution of least norm: itself, its length, and its residual, which is no longer than b."""
    assert np.linalg.norm(x - expected) <= slack * np.linalg.norm(expected)
    left = np.linalg.norm(b - A @ x)
    assert left <= np.linalg.norm(b - A @ expected) * (1 + 1e-9) <= np.linalg.norm(b) * (1 + 2e-9)


def target(A, seed):
    return np.arange(len(A)) / len(A) + np.random.default_rng(seed + 99).normal(size=len(A))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("n", [200, 1000, 3000, 10_000])
def test_every_form_has_the_rank_and_the_least_norm(kind, n):
    for d in (2, 3, 5, 10, 30, 64):
        if kind == "sum" and d == 2:
            continue
        A, rank = design(kind, n, d, seed=d)
        b = target(A, d)
        expected = least_norm(A, b)
        forms = {"dense": A, "csr": scipy.sparse.csr_matrix(A), "operator": aslinearoperator(A)}
        for form, given in forms.items():
            result = lstsq(given, b)
            assert result.rank == rank, (form, d, result)
            check(result.x, A, b, expected)
        solution = RFactor(d, 1).add(A, b).solve()
        assert solution.rank == rank, d
        check(solution.x, A, b, expected)
        assert leverage_scores(A, "exact").sum() == pytest.approx(rank, abs=1e-9)
        if kind != "sum":
            # The columns are as dependent in float32.
            single = A.astype(np.float32)
            result = lstsq(single, b)
            assert result.rank == rank
            check(result.x, single.astype(float), b, least_norm(single.astype(float), b))


@pytest.mark.parametrize("kind", ["duplicate", "one-hot", "sum"])
def test_many_seeds(kind):
    for seed in range(8):
        A, rank = design(kind, 2000, 30, seed)
        b = target(A, seed)
        expected = least_norm(A, b)
        result = lstsq(A, b)
        assert result.rank == rank
        check(result.x, A, b, expected)
        assert RFactor(30, 1).add(A, b).solve().rank == rank
        check(linf_lstsq(A, b, 0.5, 0.05).x, A, b, expected)
        check(sketched_ridge(A, b, 0.0).x, A, b, expected)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("kind", KINDS)
def test_every_method(kind, method):
    A, rank = design(kind, 5000, 20, 3)
    b = target(A, 3)
    for given in (A, scipy.sparse.csr_matrix(A)):
        result = lstsq(given, b, method=method)
        assert result.rank == rank and result.method == method
        check(result.x, A, b, least_norm(A, b))


def test_the_mean_in_two_parts():
    """Known exactly: two columns of ones share the mean."""
    for n in (1000, 3000, 100_000):
        A, b = np.ones((n, 2)), np.arange(float(n))
        for x in (
            lstsq(A, b).x,
            RFactor(2, 1).add(A, b).solve().x,
            sketched_ridge(A, b, 0.0).x,
            linf_lstsq(A, b, 0.5, 0.05).x,
        ):
            np.testing.assert_allclose(np.ravel(x), (n - 1) / 4, rtol=1e-12)
        assert leverage_scores(A, "exact").sum() == pytest.approx(1, abs=1e-12)


def test_a_wide_design():
    for kind in ("duplicate", "one-hot"):
        A, rank = design(kind, 20_000, 300)
        b = target(A, 1)
        # From the factor of the independent columns: A = A_1 [I C].
        first = A[:, :-1]
        C = np.zeros((299, 1))
        if kind == "duplicate":
            C[0] = 1
        else:
            C[:] = 1
        map_ = np.hstack([np.eye(299), C])
        expected = map_.T @ np.linalg.solve(map_ @ map_.T, np.linalg.lstsq(first, b, rcond=None)[0])
        for given in (A, scipy.sparse.csr_matrix(A)) if kind == "one-hot" else (A,):
            result = lstsq(given, b)
            assert result.rank == rank
            check(result.x, A, b, expected)


def test_fewer_rows_than_columns():
    A, rank = design("duplicate", 400, 40)
    A, b = A.T, np.arange(40.0)
    b[-1] = b[0]
    result = lstsq(A, b)
    assert result.rank == rank
    np.testing.assert_allclose(result.x, np.linalg.lstsq(A, b, rcond=1e-12)[0], rtol=0, atol=1e-10)


def test_full_rank_stays():
    """The negative control: a condition of 1e14 is no dependence."""
    for n, d in ((1000, 5), (1000, 30), (2000, 64), (1500, 200), (1800, 600)):
        for seed in range(5 if d < 100 else 1):
            rng = np.random.default_rng(seed)
            left, right = np.linalg.qr(rng.normal(size=(n, d)))[0], np.linalg.qr(rng.normal(size=(d, d)))[0]
            A = (left * np.logspace(0, -14, d)) @ right.T
            assert lstsq(A, np.ones(n)).rank == d
            assert RFactor(d, 1).add(A, np.ones(n)).solve().rank == d


def test_rtol_is_raised_where_the_residual_is_longer_than_b():
    raised = 0
    for kind in ("one-hot", "two categories", "ones", "duplicate"):
        A, rank = design(kind, 2000, 20, 1)
        b = target(A, 1)
        for method in ("auto", *METHODS):
            for given in (A, scipy.sparse.csr_matrix(A)):
                try:
                    result = lstsq(given, b, method=method, rtol=0.0)
                except np.linalg.LinAlgError as error:
                    # Or the method says that it cannot.
                    assert method != "auto" and "breaks down" in str(error)
                    continue
                # Nothing that rounding of a long x may not explain.
                assert np.linalg.norm(b - A @ result.x) <= 1.01 * np.linalg.norm(b), (kind, method, result)
                if "solved anew with rtol" in result.why:
                    raised += 1
                    assert result.rank == rank
                    check(result.x, A, b, least_norm(A, b))
    assert raised >= 5
