"""Sketched least squares with a guarantee for every coordinate: the frozen acceptance test and its negative controls.

The suite runs it with some of the seeds; GRAMIAN_FULL=1, or tests/bench/check_linf.py, with all of them.
"""

import os

import numpy as np
import pytest
import scipy.sparse
import scipy.stats
from reference_path import lstsq as reference

from gramian import _core, linf_lstsq, linf_rows

FULL = os.environ.get("GRAMIAN_FULL") == "1"
N, D, EPS, M, ALPHA = 8192, 64, 0.5, 4096, 64
SEEDS = range(1000, 1200) if FULL else range(1000, 1008)
DESIGNS = ("D1", "D2", "D3", "D4")


@pytest.fixture(scope="module")
def problems():
    return {name: reference.LinfProblem(*reference.linf_design(name, N, D, 7, ALPHA)) for name in DESIGNS}


def solve(problem, seed, **options):
    options = {"rows": M, "redraws": 0, "random_state": seed, **options}
    return linf_lstsq(problem.A, problem.b, EPS, 0.05, **options)


@pytest.mark.parametrize("family", ["srht", "hdhd", "gaussian", "rademacher"])
@pytest.mark.parametrize("design", DESIGNS)
def test_acceptance(problems, design, family):
    problem = problems[design]
    # A Gaussian sketch makes M N numbers, so the suite tries fewer of them.
    seeds = SEEDS if FULL or family in ("srht", "hdhd") else SEEDS[:2]
    results = [solve(problem, seed, family=family) for seed in seeds]
    assert not any(result.exact for result in results)
    within = np.mean([problem.rho(result.x) <= EPS for result in results])
    assert within >= (0.975 if FULL else 1 - 1 / len(seeds))
    if family == "gaussian" and FULL:
        t = [problem.studentised(result.x, M) for result in results]
        assert scipy.stats.kstest(t, scipy.stats.t(M - D + 1).cdf).pvalue > 1e-3
        excess = np.mean([problem.excess(result.x) for result in results]) / (D / (M - D - 1))
        assert abs(excess - 1) <= 0.1


def test_negative_control_of_count_sketch(problems):
    """On D2 it collides: most of its solutions are wrong or cannot be had."""
    problem = problems["D2"]
    seeds = range(1000, 1200)
    results = [solve(problem, seed, family="count_sketch") for seed in seeds]
    # Without a redraw, a sketch that has lost rank is not solved but answered by the exact solution.
    singular = np.mean([result.exact for result in results])
    within = np.mean([not result.exact and problem.rho(result.x) <= EPS for result in results])
    assert within <= 0.35 and singular >= 0.25


def test_negative_control_of_leverage_sampling(problems):
    """On D3 the residual stays where it is: sampled rows cannot spread it over the coordinates."""
    problem = problems["D3"]
    Q = np.linalg.qr(problem.A)[0]
    scores = (Q * Q).sum(axis=1) / D
    within = []
    for seed in SEEDS if FULL else range(1000, 1016):
        rng = np.random.default_rng(seed)
        rows = rng.choice(N, size=M, p=scores / scores.sum())
        weight = 1 / np.sqrt(M * scores[rows])
        x = np.linalg.lstsq(problem.A[rows] * weight[:, None], problem.b[rows] * weight, rcond=None)[0]
        within.append(problem.rho(x) <= EPS)
    assert np.mean(within) <= 0.5


def test_a_sketch_without_rank_is_reported_not_solved():
    """SRHT in natural order on [I; 0] repeats its rows: reported, and answered by the exact solution."""
    A, b = reference.linf_design("D2", N, D, 0, ALPHA)
    problem = reference.LinfProblem(A, b)
    seeds = SEEDS if FULL else range(1000, 1020)
    found = [linf_lstsq(A, b, rows=256, permute=False, redraws=0, random_state=seed) for seed in seeds]
    exact = [result for result in found if result.exact]
    assert len(exact) >= 0.4 * len(found)
    for result in exact:
        assert "rank-deficient" in result.why and problem.error(result.x) <= 1e-12
    for result in found:
        # Nothing finite and wrong: the error is the sketch's, never that of a lost pivot.
        assert problem.rho(result.x) < 10
    # A random order mends it.
    assert not any(linf_lstsq(A, b, rows=256, redraws=0, random_state=seed).exact for seed in seeds)
    # With redraws the rows are doubled until the sketch has full rank.
    again = [linf_lstsq(A, b, rows=256, permute=False, redraws=3, random_state=seed) for seed in seeds]
    assert any(result.redraws for result in again)
    assert all(result.n_rows == 256 << result.redraws for result in again if not result.exact)


@pytest.mark.parametrize("d, eps, delta", [(2, 0.9, 0.1), (16, 0.5, 0.05), (16, 0.3, 0.2)])
@pytest.mark.parametrize("design", ["D2", "D3"])
def test_calibrated_rule(design, d, eps, delta):
    """Failures stay below delta and three standard deviations."""
    problem = reference.LinfProblem(*reference.linf_design(design, 4096, d, 3))
    runs = 400 if FULL else 60
    failures = 0
    for seed in range(runs):
        result = linf_lstsq(problem.A, problem.b, eps, delta, random_state=seed)
        assert not result.exact and result.n_rows == linf_rows(4096, d, eps, delta)
        failures += problem.rho(result.x) > eps
    assert failures / runs <= delta + 3 * np.sqrt(delta * (1 - delta) / runs)


@pytest.mark.parametrize("family", ["srht", "sparse_sign"])
def test_certificate(problems, family):
    """Never below the true error, and not far above it."""
    ratios = []
    for problem in problems.values():
        for seed in SEEDS:
            result = solve(problem, seed, family=family)
            assert not result.exact
            ratios.append(result.bound / problem.error(result.x))
            assert (np.abs(result.x - problem.x) <= result.bounds).mean() > 0.99
            np.testing.assert_allclose(result.target, EPS * problem.scale, rtol=0.3)
    assert np.mean(np.array(ratios) >= 1) > 0.99 and np.median(ratios) <= 4


def test_rows():
    # The figures of the Gaussian law at d = 64.
    assert linf_rows(8192, 64, 0.5, 0.05) == 2959
    assert linf_rows(8192, 64, 0.5, 0.05, "theorem") == 443104
    for d, eps, delta in ((1, 0.5, 0.1), (7, 0.2, 0.01), (300, 0.9, 1e-6)):
        m = linf_rows(10**9, d, eps, delta)

        def spent(m, d=d, eps=eps):
            nu = m - d + 1
            return 2 * d * scipy.stats.t.sf(eps * np.sqrt(nu / d), nu)

        assert spent(m) <= delta < spent(m - 1)


def test_student_t():
    for freedom in (1, 2.5, 30, 4000):
        for t in (0.0, 0.1, 1.0, 3.0, 8.0, 30.0):
            want = scipy.stats.t.sf(t, freedom)
            np.testing.assert_allclose(_core.student_t_tail(t, freedom), want, rtol=1e-10, atol=1e-300)


def test_exact_where_a_sketch_does_not_pay():
    rng = np.random.default_rng(1)
    A, b = rng.normal(size=(600, 20)), rng.normal(size=600)
    want = np.linalg.lstsq(A, b, rcond=None)[0]
    for options in ({}, {"rows": "theorem"}, {"rows": 600}, {"eps": 0.05}):
        result = linf_lstsq(A, b, **options)
        assert result.exact and result.n_rows == 0 and "without a sketch" in result.why
        assert np.abs(result.x - want).max() <= result.bound <= 1e-10
        np.testing.assert_allclose(result.x, want, atol=1e-14)
    A[:, 3] = A[:, 4]
    dependent = linf_lstsq(A, b, rows=300)
    assert dependent.exact and dependent.rank == 19
    np.testing.assert_allclose(dependent.x, np.linalg.pinv(A) @ b, atol=1e-13)


def test_kinds_of_input():
    problem = reference.LinfProblem(*reference.linf_design("D1", 4096, 8, 2))
    B = np.stack([problem.b, 2 * problem.b], axis=1)
    result = linf_lstsq(problem.A, B)
    assert result.x.shape == result.bounds.shape == (8, 2) and result.bound.shape == result.target.shape == (2,)
    assert result.n_rows == linf_rows(4096, 8, 0.5, 0.025)
    np.testing.assert_allclose(result.x[:, 1], 2 * result.x[:, 0], rtol=1e-12)
    flat = linf_lstsq(problem.A, problem.b, rows=result.n_rows)
    for kind in (np.asfortranarray(problem.A), scipy.sparse.csr_matrix(problem.A)):
        np.testing.assert_allclose(linf_lstsq(kind, problem.b, rows=result.n_rows).x, flat.x, atol=1e-12)
    one = linf_lstsq(problem.A, problem.b, n_jobs=1)
    assert (one.x == linf_lstsq(problem.A, problem.b, n_jobs=4).x).all()


def test_bad_arguments():
    A, b = np.ones((5000, 2)), np.ones(5000)
    A[:, 1] = np.arange(5000)
    for wrong, match in (
        ({"eps": 0.0}, "eps"),
        ({"eps": 1.0}, "eps"),
        ({"delta": 1.5}, "delta"),
        ({"rows": "some"}, "rows"),
        ({"rows": 1}, "rows must be at least the number of columns, 2"),
        ({"family": "magic"}, "family"),
        ({"rtol": 0.0}, "rtol"),
        ({"redraws": -1}, "redraws"),
    ):
        with pytest.raises(ValueError, match=match):
            linf_lstsq(A, b, **wrong)
    with pytest.raises(ValueError, match="as many rows as columns"):
        linf_lstsq(np.ones((2, 3)), np.ones(2))
    with pytest.raises(ValueError, match="A has 5000 rows, but b has 4"):
        linf_lstsq(A, b[:4])
    A[4321, 1] = np.nan
    with pytest.raises(ValueError, match="A contains NaN or infinity, first in row 4321"):
        linf_lstsq(A, b)
