"""Sketched least squares with a guarantee for every coordinate: the frozen acceptance test and its negative controls.

The suite runs it with some of the seeds; GRAMIAN_FULL=1, or tests/bench/check_linf.py, with all of them.
"""

import os
import subprocess
import sys

import numpy as np
import pytest
import scipy.sparse
import scipy.sparse.linalg
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
    seeds = SEEDS if FULL or family in ("srht", "hdhd") else SEEDS[:4]
    results = [solve(problem, seed, family=family) for seed in seeds]
    assert not any(result.exact for result in results)
    rho = np.array([problem.rho(result.x) for result in results])
    # At these sizes one in 40 may miss: among a few none does, but for a chance of 1e-3 each that one is just above.
    assert np.mean(rho <= EPS) >= 0.975 or (not FULL and np.sum(rho > EPS) == 1 and rho.max() <= 1.1 * EPS)
    if family == "gaussian" and FULL:
        check_gaussian_law(problem, M, results)


def check_gaussian_law(problem, m, results):
    d = problem.A.shape[1]
    t = [problem.studentised(result.x, m) for result in results]
    assert scipy.stats.kstest(t, scipy.stats.t(m - d + 1).cdf).pvalue > 1e-3
    excess = np.array([problem.excess(result.x) for result in results]) / (d / (m - d - 1))
    # Of d squares each: the mean of all is within 10 % in the frozen test, and within 4 deviations in a smaller one.
    allowed = 0.1 if FULL and d == D else 4 * excess.std() / np.sqrt(len(excess))
    assert abs(excess.mean() - 1) <= allowed


@pytest.mark.parametrize("design", ["D2", "D4"])
def test_law_of_gaussian_sketches(design):
    """Errors are Student's t and their squares add up to what the law says; those of CountSketch are and do not."""
    problem = reference.LinfProblem(*reference.linf_design(design, 1024, 8, 5, 8))
    seeds = range(400 if FULL else 200)

    def results(family):
        return [
            linf_lstsq(problem.A, problem.b, rows=128, redraws=0, family=family, random_state=seed) for seed in seeds
        ]

    check_gaussian_law(problem, 128, results("gaussian"))
    if design == "D2":
        kept = [result for result in results("count_sketch") if not result.exact]
        with pytest.raises(AssertionError):
            check_gaussian_law(problem, 128, kept)


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
    # And `why` tells it.
    for result in again:
        if result.redraws and not result.exact:
            assert "as many rows as asked for, 256, doubled" in result.why and "rank-deficient" in result.why


TRIPLES = [(2, 0.9, 0.1), (16, 0.5, 0.05), (16, 0.3, 0.2)]
if FULL:
    TRIPLES += [(1, 0.5, 0.05), (1, 0.2, 0.2), (2, 0.5, 0.01), (2, 0.3, 0.3), (3, 0.9, 0.05), (3, 0.4, 0.1)]
    TRIPLES += [(4, 0.5, 0.05), (4, 0.8, 0.02), (8, 0.5, 0.05), (8, 0.9, 0.2), (8, 0.3, 0.1), (16, 0.9, 0.01)]
    TRIPLES += [(32, 0.5, 0.05), (32, 0.7, 0.1), (32, 0.9, 0.3), (64, 0.6, 0.05), (64, 0.9, 0.1)]


@pytest.mark.parametrize("d, eps, delta", TRIPLES)
@pytest.mark.parametrize("design", ["D2", "D3"])
def test_calibrated_rule(design, d, eps, delta):
    """Failures stay below delta and three standard deviations."""
    problem = reference.LinfProblem(*reference.linf_design(design, 4096, d, 3))
    runs = 400 if FULL else 60
    failures = 0
    for seed in range(runs):
        result = linf_lstsq(problem.A, problem.b, eps, delta, random_state=seed)
        # Of 13 rows of signs two columns are alike once in some thousand draws, and that sketch is drawn again.
        assert not result.exact and result.n_rows == linf_rows(4096, d, eps, delta) << result.redraws
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
            assert (np.abs(result.x - problem.x) <= result.bounds).all()
            np.testing.assert_allclose(result.target, EPS * problem.scale, rtol=0.3)
    assert np.mean(np.array(ratios) >= 1) > 0.99 and np.median(ratios) <= 4


def certificates(d, n, runs, **options):
    """Shares of covered problems (all coordinates) and ratios of bound and error, over problems and sketches."""
    covered, ratios = [], []
    for seed in range(runs):
        rng = np.random.default_rng(seed)
        A, b = rng.normal(size=(n, d)), rng.normal(size=n)
        x = np.linalg.lstsq(A, b, rcond=None)[0]
        result = linf_lstsq(A, b, random_state=seed, **options)
        assert not result.exact
        covered.append((np.abs(result.x - x) <= result.bounds).all())
        ratios.append(result.bound / np.abs(result.x - x).max())
    return np.mean(covered), np.median(ratios)


@pytest.mark.parametrize(
    "d, n, eps, runs",
    [(1, 600, 0.5, 1500), (2, 600, 0.5, 1500), (5, 600, 0.5, 1000), (20, 1600, 0.5, 100), (64, 2048, 0.9, 40)],
)
@pytest.mark.parametrize("family", ["srht", "gaussian"])
def test_certificate_for_any_width(d, n, eps, runs, family):
    """Over 99 % of problems, and within 4 times the error in the median, at the rows of the rule."""
    if FULL:
        runs = 1500
    if family == "gaussian" and d > 2:  # it makes m n numbers for each
        runs = {5: 300, 20: 20, 64: 8}[d] * (10 if FULL else 1)
    share, ratio = certificates(d, n, runs, family=family, eps=eps)
    assert share > 0.99 and ratio <= 4


def test_certificate_of_sparse_sketches():
    """It comes from a dense sketch, so collisions do not harm it: CountSketch on [I; 0], where they make its errors."""
    problem = reference.LinfProblem(*reference.linf_design("D2", 1024, 8, 0, 8))
    covered, wrong = [], 0
    for family, options in (("count_sketch", {}), ("sparse_sign", {"nnz": 2}), ("srht", {"permute": False})):
        for seed in range(150):
            result = linf_lstsq(problem.A, problem.b, rows=96, redraws=0, family=family, random_state=seed, **options)
            covered.append((np.abs(result.x - problem.x) <= result.bounds).all())
            wrong += not result.exact and problem.rho(result.x) > 0.9
    assert np.mean(covered) > 0.99 and wrong > 10


@pytest.mark.parametrize("power", [0, 10, 26, 33])
def test_certificate_counts_rounding(power):
    """Whole numbers whose solution is known: all that the bound can come from is rounding."""
    x, covered, ratios = np.array([1.0, 2.0, -1.0, 3.0]), [], []
    for seed in range(150):
        rng = np.random.default_rng(seed)
        A = rng.integers(-8, 9, size=(2000, 4)).astype(float)
        A[:, 3] += A[:, 0] * 2.0**power
        result = linf_lstsq(A, A @ x, random_state=seed)
        covered.append((np.abs(result.x - x) <= result.bounds).all())
        ratios.append(result.bound / np.abs(result.x - x).max())
    # Not by being useless: that is the distance of the worst roundings of all from those that happen.
    assert all(covered) and np.median(ratios) < 2000


def test_exact_path_without_rank_certifies_nothing():
    """A rank below d is a statement about rounding: here the whole numbers have the one solution [1, 1]."""
    rng = np.random.default_rng(0)
    a, e = rng.integers(-8, 9, size=(2, 60)).astype(float)
    A = np.stack([a, a * 2.0**40 + e], axis=1)
    result = linf_lstsq(A, A @ np.ones(2))
    assert result.exact and (np.abs(result.x - 1) <= result.bounds).all()
    lost = linf_lstsq(np.stack([a, a], axis=1), a)
    assert lost.exact and lost.rank == 1 and np.isinf(lost.bounds).all()
    np.testing.assert_allclose(lost.x, [0.5, 0.5], rtol=1e-12)


@pytest.mark.parametrize("left, right", [(0, -300), (0, 160), (-160, 0), (200, 0), (-200, 0), (-310, -300), (306, 306)])
@pytest.mark.parametrize("exact", [False, True])
def test_scales(left, right, exact):
    """Powers of ten that squares do not survive: the same digits, the same bounds."""
    rng = np.random.default_rng(4)
    n = 100 if exact else 3000
    A = rng.normal(size=(n, 5))
    b = A @ np.ones(5) + rng.normal(size=n)
    plain = linf_lstsq(A, b)
    assert plain.exact == exact
    # Rounded to where a product with 10^-310 loses nothing.
    A, b = np.round(A * 2.0**20) / 2.0**20, np.round(b * 2.0**20) / 2.0**20
    two = [round(exponent * np.log2(10)) for exponent in (left, right)]
    want, result = linf_lstsq(A, b), linf_lstsq(np.ldexp(A, two[0]), np.ldexp(b, two[1]))
    back = two[0] - two[1]
    np.testing.assert_allclose(np.ldexp(result.x, back), want.x, rtol=1e-12)
    assert result.rank == 5 and result.exact == exact
    np.testing.assert_allclose(np.ldexp(result.bounds, back), want.bounds, rtol=1e-6 if not exact else 2)
    np.testing.assert_allclose(result.residual_norm / 2.0 ** two[1], want.residual_norm, rtol=1e-12)
    np.testing.assert_allclose(np.ldexp(result.target, back), want.target, rtol=1e-9)


def test_scales_of_columns():
    """Columns of very different sizes, in A and in b, each to its own digits."""
    rng = np.random.default_rng(5)
    A, B = rng.normal(size=(3000, 4)), rng.normal(size=(3000, 2))
    want = linf_lstsq(A, B)
    powers, sides = np.array([0, -400, 500, -300]), np.array([-460, 0])
    for rows in (np.ldexp(A, powers), scipy.sparse.csr_matrix(np.ldexp(A, powers))):
        result = linf_lstsq(rows, np.ldexp(B, sides))
        back = powers[:, None] - sides
        np.testing.assert_allclose(np.ldexp(result.x, back), want.x, rtol=1e-10)
        np.testing.assert_allclose(np.ldexp(result.bounds, back), want.bounds, rtol=1e-6)
    with pytest.raises(ValueError, match="too large for double precision"):
        linf_lstsq(A * 1e-200, B * 1e200)


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

    # Numbers of rows at which differences of lgamma have no digits left: normal quantiles hold there.
    for d, eps, delta in ((1000, 1e-6, 1e-3), (1000, 1e-5, 1e-3), (3, 1e-7, 0.1)):
        z = scipy.stats.norm.isf(delta / (2 * d))
        np.testing.assert_allclose(linf_rows(10**16, d, eps, delta), d * z * z / eps**2, rtol=1e-6)


def test_student_t():
    for freedom in (1, 2.5, 30, 999, 1000, 4000, 10**5, 10**7, 10**9):
        for t in (0.0, 0.1, 1.0, 3.0, 8.0, 30.0):
            want = scipy.stats.t.sf(t, freedom)
            np.testing.assert_allclose(_core.student_t_tail(t, freedom), want, rtol=1e-10, atol=1e-300)
    # Beyond, the expansion about the normal law: density times (t^3 + t) / (4 freedom) is all that is left of it.
    for freedom in (1e10, 1e12, 1e14, 1e16):
        for t in (0.0, 0.1, 1.0, 3.0, 8.0, 30.0):
            want = scipy.stats.norm.sf(t) + scipy.stats.norm.pdf(t) * (t**3 + t) / (4 * freedom)
            np.testing.assert_allclose(_core.student_t_tail(t, freedom), want, rtol=1e-9, atol=1e-300)
    # Across the border of the two methods the tail falls smoothly.
    for t in (0.5, 4.0, np.sqrt(1000 * np.expm1(0.25))):
        below, above = _core.student_t_tail(t, 1000 - 1e-9), _core.student_t_tail(t, 1000 + 1e-9)
        np.testing.assert_allclose(below, above, rtol=1e-9)
    values = [_core.student_t_tail(5.0, freedom) for freedom in np.geomspace(1, 1e16, 400)]
    assert (np.diff(values) <= 1e-12 * np.array(values[:-1])).all()


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
    assert dependent.exact and dependent.rank == 19 and np.isinf(dependent.bound)
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
        ({"rows": 10**30}, r"rows must be below 2\^63"),
        ({"rows": np.array(["calibrated"])}, "rows must be 'calibrated', 'theorem' or an integer"),
        ({"rows": None}, "rows must be"),
        ({"nnz": 10**30}, r"nnz must be below 2\^63"),
        ({"family": "magic"}, "family"),
        ({"rtol": 0.0}, "rtol"),
        ({"redraws": -1}, "redraws"),
    ):
        with pytest.raises(ValueError, match=match):
            linf_lstsq(A, b, **wrong)
    with pytest.raises(ValueError, match="b is None: linf_lstsq needs"):
        linf_lstsq(A, None)
    with pytest.raises(ValueError, match=r"n must be below 2\^63"):
        linf_rows(10**30, 5)
    with pytest.raises(ValueError, match="Complex data"):
        linf_lstsq(A * 1j, b)
    for dtype in (float, complex):
        with pytest.raises(TypeError, match="not a linear operator"):
            linf_lstsq(scipy.sparse.linalg.aslinearoperator(A.astype(dtype)), b)
    with pytest.raises(ValueError, match="as many rows as columns"):
        linf_lstsq(np.ones((2, 3)), np.ones(2))
    with pytest.raises(ValueError, match="A has 5000 rows, but b has 4"):
        linf_lstsq(A, b[:4])
    b[77] = np.inf
    with pytest.raises(ValueError, match="b contains NaN or infinity, first in row 77"):
        linf_lstsq(A, b)
    b[77] = 0.0
    A[4321, 1] = np.nan
    with pytest.raises(ValueError, match="A contains NaN or infinity, first in row 4321"):
        linf_lstsq(A, b)


def test_memory():
    """Beside A: the transform's work space, not a copy of A besides."""
    code = """
import resource, numpy as np, gramian as gm
A = np.ones((2**17, 32)); A[:, 1:] = np.random.default_rng(0).normal(size=(2**17, 31)); b = A[:, 0] + A[:, 1] ** 2
gm.linf_lstsq(A[:4000], b[:4000], rows=64, family=FAMILY)
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
assert not gm.linf_lstsq(A, b, rows=64, family=FAMILY).exact
print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) * 1024 / A.nbytes)
"""
    for family, allowed in (("srht", 1.4), ("rademacher", 0.4)):
        out = subprocess.run(
            [sys.executable, "-c", code.replace("FAMILY", repr(family))], capture_output=True, text=True, check=True
        )
        assert float(out.stdout) < allowed


@pytest.mark.parametrize("scale", [1.0, 2.0**300])
def test_exact_solutions_keep_sparse_rows_sparse(scale):
    if not os.path.exists("/proc/self/clear_refs"):
        pytest.skip("the peak of memory cannot be reset here")
    code = f"""
import numpy as np, scipy.sparse, gramian
rng = np.random.default_rng(0)
n, d, per = 200_000, 400, 4
A = scipy.sparse.csr_matrix((rng.normal(size=n * per) * {scale}, rng.integers(0, d, n * per).astype(np.int32),
                             np.arange(0, n * per + 1, per, dtype=np.int32)), shape=(n, d))
b = rng.normal(size=n)

def peak():
    lines = open("/proc/self/status").read().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM"))

open("/proc/self/clear_refs", "w").write("5")
before = peak()
assert gramian.linf_lstsq(A, b, rows="theorem", n_jobs=2).exact
print((peak() - before) / 1024)
"""
    grown = float(subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout)
    assert grown < 400  # the entries are 10 MB, blocks of rows and sums some 200; a dense copy alone would be 640
