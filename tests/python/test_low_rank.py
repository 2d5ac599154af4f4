"""gm.randomized_svd: against dense decompositions, its certificate, and everything it must not get silently wrong."""

import numpy as np
import pytest
import scipy.sparse
import scipy.sparse.linalg
from tests.reference import lowrank as reference

import gramian as gm

SHAPES = [(300, 80), (80, 300), (120, 120)]
SPECTRA = ["flat", "polynomial", "steep", "step", "exponential", "clusters", "rank 7"]


def rounding(A, dtype):
    return np.sqrt(max(A.shape)) * np.finfo(dtype).eps * np.linalg.norm(A)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("kind", SPECTRA)
@pytest.mark.parametrize("shape", SHAPES)
def test_against_the_dense_decomposition(shape, kind, dtype):
    rng = np.random.default_rng(1)
    A, s = reference.matrix(rng, *shape, kind)
    A = A.astype(dtype)
    found = gm.randomized_svd(A, 12, random_state=3)
    assert found.U.dtype == found.s.dtype == found.Vt.dtype == A.dtype
    slack = rounding(A, dtype)
    assert np.abs(found.U.T @ found.U - np.eye(12)).max() <= 30 * np.finfo(dtype).eps
    assert np.abs(found.Vt @ found.Vt.T - np.eye(12)).max() <= 30 * np.finfo(dtype).eps
    assert (found.s <= s[:12] * (1 + 1e-12) + slack).all()
    assert (np.diff(found.s) <= 0).all() and (found.s >= 0).all()
    true = reference.spectral_error(A, *found)
    assert true <= found.error
    assert np.linalg.norm(A - (found.U * found.s) @ found.Vt) <= found.frobenius_error
    assert abs(found.norm - np.linalg.norm(A)) <= slack
    assert true <= reference.expected_error(s, 12, 10, 2) + slack
    assert found.rank == min(12, int((s > 3 * slack).sum()))


@pytest.mark.parametrize("q", [0, 1, 2])
@pytest.mark.parametrize("method", ["krylov", "subspace"])
@pytest.mark.parametrize("kind", ["flat", "polynomial", "step", "exponential"])
def test_expectation_bound(kind, method, q):
    A, s = reference.matrix(np.random.default_rng(0), 200, 120, kind)
    bound = reference.expected_error(s, 10, 10, q)
    errors = [
        reference.spectral_error(A, *gm.randomized_svd(A, 10, method=method, power_iterations=q, random_state=seed))
        for seed in range(40)
    ]
    assert np.mean(np.array(errors) <= bound) >= 0.99


def test_expectation_bound_sees_a_missing_step():
    # The control: without steps the bound of two steps is broken.
    A, s = reference.matrix(np.random.default_rng(0), 400, 300, "polynomial")
    bound = reference.expected_error(s, 10, 10, 4) - s[10]
    errors = [
        reference.spectral_error(A, *gm.randomized_svd(A, 10, power_iterations=0, oversampling=2, random_state=seed))
        for seed in range(5)
    ]
    assert min(errors) > bound


def test_certificate_covers_the_error_and_is_sharp():
    rng = np.random.default_rng(5)
    ratios = []
    for seed in range(60):
        kind = SPECTRA[seed % 6]
        A, _ = reference.matrix(rng, 150, 100, kind)
        found = gm.randomized_svd(A, 8, power_iterations=seed % 3, random_state=seed)
        ratios.append(found.error / reference.spectral_error(A, *found))
    assert min(ratios) >= 1
    assert np.median(ratios) <= 4
    operator = scipy.sparse.linalg.aslinearoperator(reference.matrix(rng, 150, 100, "polynomial")[0])
    plain = [gm.randomized_svd(operator, 8, certificate_powers=p, power_iterations=0).error for p in (0, 1, 3)]
    assert plain[0] > plain[1] > plain[2]


def test_certificate_does_not_cover_another_matrix():
    # The control: what is certified is this matrix. A change in a direction that the triplets miss is seen.
    rng = np.random.default_rng(0)
    A, _ = reference.matrix(rng, 300, 100, "exponential")
    found = gm.randomized_svd(A, 30)
    u, v = rng.normal(size=300), rng.normal(size=100)
    other = A + 0.05 * np.outer(u, v) / np.linalg.norm(u) / np.linalg.norm(v)
    assert reference.spectral_error(other, *found) > found.error


@pytest.mark.parametrize("dtype, rtol", [("float64", 1e-8), ("float64", 0.03), ("float32", 0.01)])
@pytest.mark.parametrize("kind", ["polynomial", "steep", "exponential", "clusters", "step"])
def test_tolerance(kind, dtype, rtol):
    A, s = reference.matrix(np.random.default_rng(2), 400, 250, kind)
    A = A.astype(dtype)
    found = gm.randomized_svd(A, rtol=rtol, block=16)
    assert found.converged and found.error <= rtol * found.s[0] * (1 + 1e-12)
    assert reference.spectral_error(A, *found) <= found.error
    best = int((s > rtol).sum())
    assert best <= len(found.s) <= 1.8 * best + 16
    assert found.why in ("tolerance", "full")


def test_absolute_tolerance_and_its_limit():
    A, s = reference.matrix(np.random.default_rng(2), 400, 250, "polynomial")
    found = gm.randomized_svd(1000 * A, tol=50.0)
    assert found.converged and reference.spectral_error(1000 * A, *found) <= found.error <= 50
    with pytest.warns(UserWarning, match="above the tolerance"):
        capped = gm.randomized_svd(A, 5, tol=0.01)
    assert not capped.converged and capped.why == "limit" and len(capped.s) == 5
    assert reference.spectral_error(A, *capped) <= capped.error
    with pytest.warns(UserWarning, match="proven error"):
        single = gm.randomized_svd(A.astype("float32"), rtol=1e-12)
    assert single.why == "full" and not single.converged
    assert reference.spectral_error(A.astype("float32"), *single) <= single.error


def test_repeated_singular_values_beyond_the_block():
    # A block of 4 sees at most four copies of a singular value in exact arithmetic.
    Q = reference.orthogonal(np.random.default_rng(0), 200, 60)
    A = Q @ Q.T
    found = gm.randomized_svd(A, rtol=1e-6, block=4)
    assert found.converged and len(found.s) == 60
    np.testing.assert_allclose(found.s, 1, rtol=1e-10)
    np.testing.assert_allclose(gm.randomized_svd(np.eye(50), 50).s, 1, rtol=1e-12)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("shape", [(40, 15), (15, 40), (7, 1), (1, 7), (1, 1)])
def test_zero_matrix(shape, dtype):
    k = min(3, *shape)
    found = gm.randomized_svd(np.zeros(shape, dtype), k)
    assert found.rank == 0 and (found.s == 0).all() and found.error == 0
    assert np.abs(found.U.T @ found.U - np.eye(k)).max() <= 1e-5
    assert np.abs(found.Vt @ found.Vt.T - np.eye(k)).max() <= 1e-5
    assert gm.randomized_svd(np.zeros(shape, dtype), tol=1e-3).converged


def test_one_column_and_one_row():
    x = np.arange(1.0, 6.0)
    for A in (x[:, None], x[None, :]):
        U, s, Vt = gm.randomized_svd(A, 1)
        np.testing.assert_allclose(s, np.linalg.norm(x), rtol=1e-14)
        np.testing.assert_allclose((U * s) @ Vt, A, rtol=1e-13)


@pytest.mark.parametrize("scale", [1e-250, 1e-170, 1e-30, 1e30, 1e150])
def test_scale_does_not_matter(scale):
    A, s = reference.matrix(np.random.default_rng(0), 60, 30, "exponential")
    found = gm.randomized_svd(A * scale, 5)
    np.testing.assert_allclose(found.s / scale, s[:5], rtol=1e-9)
    assert found.error / scale < 2 * s[5] and found.rank == 5
    with pytest.raises(ValueError, match="too large"):
        gm.randomized_svd(A * 1e200, 5)


def test_single_precision_scales():
    A, s = reference.matrix(np.random.default_rng(0), 60, 30, "exponential")
    for scale in (1e-30, 1e30):
        found = gm.randomized_svd((A * scale).astype("float32"), 5)
        np.testing.assert_allclose(found.s / np.float32(scale), s[:5], rtol=1e-4)


def test_tiny_gaps():
    s = 1 + 1e-9 * np.arange(40)[::-1]
    rng = np.random.default_rng(0)
    A = (reference.orthogonal(rng, 90, 40) * s) @ reference.orthogonal(rng, 40, 40).T
    found = gm.randomized_svd(A, 10)
    assert reference.spectral_error(A, *found) <= found.error <= 1.1


def test_orders_and_layouts_agree():
    A, _ = reference.matrix(np.random.default_rng(0), 500, 60, "polynomial")
    base = gm.randomized_svd(A, 6)
    wide = np.zeros((500, 130))
    wide[:, ::2][:, :60] = A
    for same in (np.asfortranarray(A), wide[:, :120:2], np.asfortranarray(wide)[:, :120:2], A[::-1][::-1]):
        other = gm.randomized_svd(same, 6)
        np.testing.assert_allclose(other.s, base.s, rtol=1e-12)
        np.testing.assert_allclose(other.U, base.U, atol=1e-10)
    turned = gm.randomized_svd(A.T, 6)
    np.testing.assert_allclose(turned.s, base.s, rtol=1e-12)
    integers = np.random.default_rng(0).integers(-5, 6, size=(50, 20))
    np.testing.assert_allclose(
        gm.randomized_svd(integers, 20).s, np.linalg.svd(integers, compute_uv=False), rtol=1e-12, atol=1e-12
    )


def test_no_copy_is_made():
    A = np.random.default_rng(0).normal(size=(4000, 500)).astype("float32")
    for layout in (A, np.asfortranarray(A)):
        gm._core.reset_memory_stats()
        gm.randomized_svd(layout, 2, oversampling=4, power_iterations=0, certificate_powers=0)
        assert gm._core.memory_stats()["largest"] < A.nbytes / 2


@pytest.mark.parametrize("method", ["krylov", "subspace"])
def test_same_bits_for_any_number_of_threads(method):
    A = np.random.default_rng(0).normal(size=(9000, 90)).astype("float32")
    sparse = scipy.sparse.random(3000, 200, density=0.02, random_state=0, format="csr")
    for rows in (A, np.asfortranarray(A), A.astype(float), sparse):
        first = gm.randomized_svd(rows, 5, method=method, random_state=7, n_jobs=1)
        for threads in (2, 3):
            other = gm.randomized_svd(rows, 5, method=method, random_state=7, n_jobs=threads)
            for name in ("U", "s", "Vt"):
                assert getattr(first, name).tobytes() == getattr(other, name).tobytes()
            assert first.error == other.error
    assert gm.randomized_svd(A, 5, random_state=8).U.tobytes() != gm.randomized_svd(A, 5, random_state=7).U.tobytes()


def test_signs():
    A, _ = reference.matrix(np.random.default_rng(0), 60, 40, "exponential")
    for rows in (A, A.T):
        Vt = gm.randomized_svd(rows, 8).Vt
        assert (Vt[np.arange(8), np.abs(Vt).argmax(axis=1)] > 0).all()
        np.testing.assert_allclose(gm.randomized_svd(-rows, 8).Vt, Vt, atol=1e-10)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_sparse_rows(dtype):
    sparse = scipy.sparse.random(400, 150, density=0.05, random_state=0, format="csr", dtype=dtype)
    dense = sparse.toarray()
    for rows, full in ((sparse, dense), (sparse.T.tocsr(), dense.T), (sparse.tocsc(), dense)):
        found = gm.randomized_svd(rows, 10, power_iterations=6)
        assert found.U.dtype == dtype
        np.testing.assert_allclose(found.s, np.linalg.svd(full, compute_uv=False)[:10], rtol=1e-3)
        assert reference.spectral_error(full, *found) <= found.error
        assert abs(found.norm - np.linalg.norm(full)) <= 1e-4


def test_duplicate_entries_add_up():
    twice = scipy.sparse.csr_matrix((np.ones(6), np.array([0, 0, 1, 2, 2, 2]), np.array([0, 3, 6])), shape=(2, 3))
    np.testing.assert_allclose(gm.randomized_svd(twice, 2).norm, np.linalg.norm(twice.toarray()), rtol=1e-12)


@pytest.mark.parametrize("shape", [(400, 60), (60, 400)])
def test_centred(shape):
    rng = np.random.default_rng(0)
    dense = rng.normal(size=shape) * (rng.random(shape) < 0.2) + 3 * (rng.random(shape) < 0.5)
    want = np.linalg.svd(dense - dense.mean(axis=0), compute_uv=False)
    operator = scipy.sparse.linalg.aslinearoperator(dense)
    for rows in (dense, np.asfortranarray(dense), scipy.sparse.csr_matrix(dense), operator):
        found = gm.randomized_svd(rows, 5, center=True, power_iterations=8)
        np.testing.assert_allclose(found.s, want[:5], rtol=1e-3)
        np.testing.assert_allclose(found.mean, dense.mean(axis=0), atol=1e-12)
        assert reference.spectral_error(dense - dense.mean(axis=0), *found) <= found.error
        if rows is not operator:
            np.testing.assert_allclose(found.norm, np.linalg.norm(want), rtol=1e-10)
    # The control: without centring the mean is the first triplet.
    assert gm.randomized_svd(dense, 5).s[0] > 1.5 * want[0]


def test_constant_columns_centred_are_nothing():
    A = np.tile([3.0, -1.0, 7.0], (50, 1))
    found = gm.randomized_svd(A, 2, center=True)
    assert found.rank == 0 and found.error < 1e-11
    single = gm.randomized_svd(A.astype("float32"), 2, center=True)
    assert single.rank == 0


def test_linear_operator():
    A, s = reference.matrix(np.random.default_rng(0), 200, 90, "exponential")
    calls = []

    class Operator:
        shape, dtype = A.shape, A.dtype

        def matvec(self, x):
            return A @ x

        def rmatvec(self, y):
            calls.append(1)
            return A.T @ y

    for operator in (scipy.sparse.linalg.aslinearoperator(A), Operator()):
        found = gm.randomized_svd(operator, 10)
        np.testing.assert_allclose(found.s, s[:10], rtol=1e-9)
        assert reference.spectral_error(A, *found) <= found.error and found.frobenius_error is None
        assert gm.randomized_svd(operator, rtol=1e-3).converged
    assert calls
    with pytest.raises(ValueError, match="not finite"):
        gm.randomized_svd(scipy.sparse.linalg.aslinearoperator(np.full((5, 4), np.nan)), 2)
    with pytest.raises(TypeError, match="A must have real entries, not complex ones: its dtype is complex128"):
        gm.randomized_svd(scipy.sparse.linalg.aslinearoperator(A * 1j), 2)
    Operator.matvec = lambda self, x: A @ x * 1j
    with pytest.raises(TypeError, match="A.matvec must return real numbers, not complex ones"):
        gm.randomized_svd(Operator(), 2)


def test_passes_are_counted():
    A = np.random.default_rng(0).normal(size=(300, 100))
    for q in (0, 1, 3):
        for p in (0, 1, 2):
            found = gm.randomized_svd(A, 5, power_iterations=q, certificate_powers=p)
            assert found.passes == 2 * q + 2 + 2 * p
            assert found.basis == min(15 * (q + 1), 100)
    assert gm.randomized_svd(A, 5, method="subspace").basis == 15


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("shape", [(60, 20), (20, 60)])
def test_not_finite(shape, dtype, value):
    A = np.random.default_rng(0).normal(size=shape).astype(dtype)
    A[13, 4] = A[17, 5] = value
    for rows in (A, np.asfortranarray(A), scipy.sparse.csr_matrix(A)):
        for center in (False, True):
            with pytest.raises(ValueError, match="row 13"):
                gm.randomized_svd(rows, 3, center=center)


def test_bad_arguments():
    A = np.random.default_rng(0).normal(size=(20, 10))
    for bad, match in [
        ({}, "rank, tol or rtol"),
        ({"rank": 11}, "at most 10"),
        ({"rank": 0}, "at least 1"),
        ({"rank": 2.5}, "integer"),
        ({"rtol": 1.0}, "below 1"),
        ({"tol": -1.0}, "tol"),
        ({"rank": 3, "method": "lanczos"}, "method"),
        ({"rtol": 0.1, "method": "subspace"}, "subspace"),
        ({"rank": 3, "power_iterations": -1}, "power_iterations"),
        ({"rank": 3, "n_probes": 0}, "n_probes"),
    ]:
        with pytest.raises(ValueError, match=match):
            gm.randomized_svd(A, **bad)
    with pytest.raises(ValueError, match="Complex"):
        gm.randomized_svd(A * 1j, 2)
    with pytest.raises(ValueError, match="2D"):
        gm.randomized_svd(A[0], 1)


def longdouble_error(A, found):
    """|A - U diag(s) Vt|_2 from a difference made in extended precision."""
    U, s, Vt = (np.asarray(part, dtype=np.longdouble) for part in found)
    return np.linalg.norm((A - (U * s) @ Vt).astype(float), 2)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("layout", ["C", "F", "csr", "operator"])
def test_a_far_mean_does_not_break_the_certificate(layout, dtype):
    # |A - 1 mean'|^2 by subtraction is nothing but rounding here, and may be 0.
    rng = np.random.default_rng(0)
    for mean in [1e2, 1e3, 1e5] if dtype == "float32" else [1e6, 1e7, 1e9, 1e11]:
        A = (mean + rng.normal(size=(500, 40))).astype(dtype)
        rows = {
            "C": A,
            "F": np.asfortranarray(A),
            "csr": scipy.sparse.csr_matrix(A),
            "operator": scipy.sparse.linalg.aslinearoperator(A.astype(float)),
        }[layout]
        found = gm.randomized_svd(rows, 5, center=True)
        centred = A.astype(np.longdouble) - found.mean.astype(np.longdouble)
        assert longdouble_error(centred, found) <= found.error
        if layout == "operator":
            continue
        U, s, Vt = (np.asarray(part, dtype=np.longdouble) for part in found)
        assert np.sqrt(((centred - (U * s) @ Vt) ** 2).sum()) <= found.frobenius_error
        np.testing.assert_allclose(found.norm, np.sqrt(float((centred**2).sum())), rtol=1e-12)


@pytest.mark.filterwarnings("ignore:randomized_svd stopped")
def test_bounds_of_hundreds_of_problems():
    rng = np.random.default_rng(1)
    kinds = 0
    for seed in range(320):
        n, d = (int(side) for side in rng.integers(1, 80, 2))
        A, _ = reference.matrix(rng, n, d, SPECTRA[seed % 7])
        if seed % 5 == 0:
            A = A * 10.0 ** rng.integers(-6, 7, size=(n, 1))
        elif seed % 5 == 1:
            A = A + 100 * rng.normal(size=d)
        elif seed % 5 == 2:
            A = A[rng.integers(0, n, size=n)]
        A = A.astype(["float64", "float32"][seed // 5 % 2])
        rows = [A, np.asfortranarray(A), scipy.sparse.csr_matrix(A)][seed % 3]
        options = (
            {"rtol": 10.0 ** -rng.integers(1, 8)}
            if seed % 4 == 3
            else {"rank": int(rng.integers(1, min(n, d) + 1)), "power_iterations": seed % 3}
        )
        found = gm.randomized_svd(rows, center=seed % 6 == 0, random_state=seed, **options)
        exact = A.astype(np.longdouble)
        if seed % 6 == 0:
            exact = exact - found.mean.astype(np.longdouble)
            kinds += 1
        assert longdouble_error(exact, found) <= found.error, seed
        U, s, Vt = (np.asarray(part, dtype=np.longdouble) for part in found)
        assert np.sqrt(((exact - (U * s) @ Vt) ** 2).sum()) <= found.frobenius_error, seed
    assert kinds > 50


@pytest.mark.parametrize("scale", [1e-310, 1e-300, 1e-200, 1e-160, 1e-90, 1e90, 1e160, 1e200, 1e300])
def test_operators_of_any_scale(scale):
    A, s = reference.matrix(np.random.default_rng(0), 90, 60, "polynomial")
    found = gm.randomized_svd(scipy.sparse.linalg.aslinearoperator(A * scale), 5)
    np.testing.assert_allclose(found.s / scale, s[:5], rtol=1e-3)
    assert found.rank == 5
    true = np.linalg.norm(A - (found.U * (found.s / scale)) @ found.Vt, 2)
    assert true <= found.error / scale * (1 + 1e-6) < 3 * s[5]


def test_subnormal_values():
    A, s = reference.matrix(np.random.default_rng(0), 90, 60, "polynomial")
    tiny = A * 1e-315
    found = gm.randomized_svd(tiny, 5)
    assert found.frobenius_error > 0 and found.error > s[5] * 1e-315
    np.testing.assert_allclose(found.norm, np.linalg.norm(s) * 1e-315, rtol=1e-4)


def test_an_operator_that_lies_about_its_adjoint_is_refused():
    A, _ = reference.matrix(np.random.default_rng(0), 400, 200, "polynomial")
    n, d = A.shape
    lies = [
        lambda y: np.zeros(d),
        lambda y: -2 * (A.T @ y),
        lambda y: np.abs(A.T @ y),
        lambda y: np.where(np.arange(d) < d // 2, np.ravel(A.T @ y), 0),
    ]
    for rmatvec in lies:
        for center in (False, True):
            liar = scipy.sparse.linalg.LinearOperator((n, d), matvec=lambda x: A @ x, rmatvec=rmatvec, dtype=float)
            with pytest.raises(ValueError, match="not the adjoint"):
                gm.randomized_svd(liar, 5, center=center)
    # The control: what single precision makes of the truth passes.
    single = A.astype("float32")
    rough = scipy.sparse.linalg.LinearOperator(
        (n, d), matvec=lambda x: single @ x.astype("float32"), rmatvec=lambda y: single.T @ y.astype("float32"),
        dtype=float,
    )  # fmt: skip
    assert gm.randomized_svd(rough, 5).rank == 5


def test_counts_of_any_size():
    A, s = reference.matrix(np.random.default_rng(0), 60, 40, "exponential")
    most = 2**63 - 1
    np.testing.assert_allclose(gm.randomized_svd(A, 5, oversampling=most).s, s[:5], rtol=1e-12)
    assert gm.randomized_svd(A, 5, rtol=0.5, oversampling=most, block=most).converged


def test_results_are_compared_by_identity():
    A = np.random.default_rng(0).normal(size=(30, 10))
    K = A.T @ A
    for found in (gm.randomized_svd(A, 2), gm.nystrom(K, 2), gm.nystrom_pcg(K, np.ones(10), 1.0)):
        assert found == found and hash(found) == hash(found)
