"""gm.sketch.leverage_scores: against the singular vectors, and the relative error that a sketch promises."""

import numpy as np
import pytest
import scipy.sparse
import scipy.stats
from tests.reference import lowrank as reference

from gramian import sketch


@pytest.mark.parametrize("condition", [1.0, 1e6, 1e12])
@pytest.mark.parametrize("shape", [(300, 20), (20, 20), (10, 30), (50, 1)])
def test_exact(shape, condition):
    rng = np.random.default_rng(0)
    k = min(shape)
    A = (reference.orthogonal(rng, shape[0], k) * np.geomspace(1, 1 / condition, k)) @ reference.orthogonal(
        rng, shape[1], k
    ).T
    found = sketch.leverage_scores(A, "exact")
    # The left singular vectors are known to eps times the condition only; their span is better where the scales are
    # those of the columns.
    np.testing.assert_allclose(found, reference.leverage(A, 1e-14), atol=1e-15 * condition * 100 + 1e-13)
    np.testing.assert_allclose(found.sum(), k, rtol=1e-10)


def test_column_scales_cost_nothing():
    A = np.random.default_rng(0).normal(size=(200, 12))
    base = sketch.leverage_scores(A, "exact")
    np.testing.assert_allclose(sketch.leverage_scores(A * np.logspace(-100, 100, 12), "exact"), base, rtol=1e-9)


@pytest.mark.parametrize("method", ["exact", "sketched"])
def test_rank_deficient(method):
    rng = np.random.default_rng(0)
    A = rng.normal(size=(6000, 4)) @ rng.normal(size=(4, 9))
    A[:, 3] = 0
    A[17] = 0
    found = sketch.leverage_scores(A, method)
    want = reference.leverage(A)
    assert found[17] == 0
    if method == "exact":
        np.testing.assert_allclose(found, want, atol=1e-12)
        np.testing.assert_allclose(found.sum(), 4, rtol=1e-12)
    else:
        keep = want > 0
        assert (np.abs(found[keep] / want[keep] - 1) <= 0.5).all()
    assert not sketch.leverage_scores(np.zeros((6000, 3)), method).any()


@pytest.mark.parametrize(("method", "n", "d"), [("exact", 1500, 600), ("sketched", 20_000, 100)])
def test_rank_of_ill_conditioned_matrices(method, n, d):
    rng = np.random.default_rng(0)
    left, right = reference.orthogonal(rng, n, d), reference.orthogonal(rng, d, d)

    def rank(A):
        found = sketch._core.leverage_scores(A, method, 0.9, 0.1, 0, -1.0, 0, "cpu", 0)
        assert found["method"] == method
        return found["rank"]

    for condition in (1e13, 1e14):
        assert rank((left * np.geomspace(1, 1 / condition, d)) @ right.T) == d
    half = d // 2
    assert rank((left[:, :half] * np.geomspace(1, 1e-3, half)) @ right[:half]) == half
    sums = rng.normal(size=(n, d))
    sums[:, d - 1] = sums[:, 0] - sums[:, 1]
    assert rank(sums) == d - 1


@pytest.mark.parametrize("kind", ["gaussian", "spiky", "ill-conditioned", "sparse"])
@pytest.mark.parametrize("eps", [0.3, 0.6])
def test_sketched_within_eps(kind, eps):
    for seed in range(6):
        rng = np.random.default_rng(seed)
        A = rng.normal(size=(20000, 10))
        if kind == "spiky":
            A = rng.standard_t(2, size=A.shape)
            A[:5] = 1e3 * np.eye(10)[:5]
        elif kind == "ill-conditioned":
            A = A * np.logspace(0, -8, 10) @ reference.orthogonal(rng, 10, 10).T
        elif kind == "sparse":
            A *= rng.random(A.shape) < 0.3
        want = reference.leverage(A)
        rows = scipy.sparse.csr_matrix(A) if kind == "sparse" else A
        found = sketch.leverage_scores(rows, "sketched", eps=eps, random_state=seed)
        keep = want > 1e-9
        assert (np.abs(found[keep] / want[keep] - 1) <= eps).all()
        assert (found != want).any()


def test_projection_has_the_law_of_chi_square():
    # With c columns a score is that of the sketch times chi-square with c degrees over c, over many seeds of the
    # projection, at a sketch of so many rows that it is nearly exact.
    A = np.random.default_rng(0).normal(size=(40000, 12))
    want = reference.leverage(A)
    draws = []
    for seed in range(150):
        found = sketch.leverage_scores(A, "sketched", eps=0.07, n_projections=6, random_state=seed)
        draws.append(6 * found[7] / want[7])
    assert scipy.stats.kstest(draws, scipy.stats.chi2(6).cdf).pvalue > 1e-3
    # The control: another number of degrees is seen.
    assert scipy.stats.kstest(draws, scipy.stats.chi2(9).cdf).pvalue < 1e-3


def test_projection_is_planned_where_it_pays():
    # The bound of the chi-square tail wants more columns than there are here, so none is made.
    A = np.random.default_rng(0).normal(size=(60000, 20)).astype("float32")
    info = sketch._core.leverage_scores(A, "sketched", 0.95, 0.01, 0, -1.0, 0, "cpu", 0)
    assert info["method"] == "sketched" and info["projection"] == 0 and info["sketch_rows"] < 800


def test_choice_and_sampling():
    rng = np.random.default_rng(0)
    A = rng.normal(size=(30000, 8))
    A[:4] *= 300
    small = rng.normal(size=(200, 8))
    np.testing.assert_allclose(sketch.leverage_scores(small), sketch.leverage_scores(small, "exact"))
    scores = sketch.leverage_scores(A, random_state=3)
    assert not np.allclose(scores, sketch.leverage_scores(A, "exact"), rtol=1e-6)
    for threads in (2, 3):
        assert scores.tobytes() == sketch.leverage_scores(A, random_state=3, n_jobs=threads).tobytes()
    # Rows drawn by these scores keep the geometry of A; rows drawn evenly lose the four that matter.
    R = np.linalg.qr(A, mode="r")
    U = np.linalg.solve(R.T, A.T).T
    drawn = sketch.RowSampling(2000, scores, seed=1).apply(U)
    evenly = sketch.RowSampling(2000, np.ones(30000), seed=1).apply(U)
    assert np.abs(np.linalg.svd(drawn, compute_uv=False) - 1).max() < 0.25
    assert np.abs(np.linalg.svd(evenly, compute_uv=False) - 1).max() > 0.5


@pytest.mark.parametrize("method", ["exact", "sketched", "auto"])
def test_bad_input(method):
    A = np.random.default_rng(0).normal(size=(9000, 3))
    A[4000, 1] = np.nan
    for rows in (A, scipy.sparse.csr_matrix(A), np.asfortranarray(A)):
        with pytest.raises(ValueError, match="row 4000"):
            sketch.leverage_scores(rows, method)
    with pytest.raises(ValueError, match="method"):
        sketch.leverage_scores(A, "fast")
    for bad in ({"eps": 0}, {"eps": 1.0}, {"delta": 2}, {"rtol": -1}):
        with pytest.raises(ValueError):
            sketch.leverage_scores(A, method, **bad)


@pytest.mark.parametrize("method", ["exact", "sketched"])
def test_any_scale(method):
    A = np.random.default_rng(0).normal(size=(3000, 6))
    base = sketch.leverage_scores(A, method)
    for scale in (1e-300, 1e-200, 1e200, 1e300, 1e307):
        np.testing.assert_allclose(sketch.leverage_scores(A * scale, method), base, rtol=1e-9)
    mixed = A * [1e-310, 1e300, 1.0, 1e-170, 1e160, 1e307]
    # Numbers of 1e-310 have four digits.
    np.testing.assert_allclose(sketch.leverage_scores(mixed, method), base, rtol=1e-3)
    mixed[:, 2] = 0
    np.testing.assert_allclose(
        sketch.leverage_scores(mixed, method), sketch.leverage_scores(np.delete(A, 2, axis=1), method), rtol=0.7
    )
    assert sketch.leverage_scores(scipy.sparse.csr_matrix(mixed), method).min() > 0


@pytest.mark.parametrize("d", [1, 2, 3, 5])
def test_few_columns_within_eps(d):
    # A squared length is off by sqrt(2 / m), not sqrt(d / m): few columns want more rows than their number suggests.
    missed = 0
    for seed in range(300):
        A = np.random.default_rng(seed).normal(size=(2000, d))
        found = sketch.leverage_scores(A, "sketched", random_state=seed)
        missed += np.abs(found / reference.leverage(A) - 1).max() > 0.5
    assert missed <= 1


def test_an_eps_that_no_sketch_can_keep_is_exact():
    A = np.random.default_rng(0).normal(size=(500, 4))
    np.testing.assert_allclose(sketch.leverage_scores(A, "sketched", eps=1e-9), reference.leverage(A), rtol=1e-10)
