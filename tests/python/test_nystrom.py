"""gm.nystrom and gm.nystrom_pcg: order of psd matrices, certificates, refusals, iterations."""

import numpy as np
import pytest
import scipy.sparse
import scipy.sparse.linalg
from tests.reference import lowrank as reference

import gramian as gm


def psd(n, eigenvalues, seed=0):
    Q = reference.orthogonal(np.random.default_rng(seed), n, len(eigenvalues))
    K = (Q * eigenvalues) @ Q.T
    return (K + K.T) / 2


def kernel(n, width=0.3, seed=0):
    x = np.random.default_rng(seed).uniform(size=(n, 3))
    return np.exp(-((x[:, None] - x) ** 2).sum(axis=2) / width)


def whole(found):
    return (found.U * found.eigenvalues) @ found.U.T


@pytest.mark.parametrize("kind", ["flat", "polynomial", "steep", "step", "exponential", "clusters"])
@pytest.mark.parametrize("rank", [5, 20, 60])
def test_never_above_and_certified(kind, rank):
    s = reference.spectrum(kind, 150)
    K = psd(150, s)
    found = gm.nystrom(K, rank, random_state=1)
    k = len(found.eigenvalues)
    slack = 1e-13 * np.sqrt(150) * np.linalg.norm(K)
    assert np.abs(found.U.T @ found.U - np.eye(k)).max() <= 1e-9
    assert np.linalg.eigvalsh(K - whole(found))[0] >= -slack
    assert (found.eigenvalues <= s[:k] + slack).all() and (np.diff(found.eigenvalues) <= 0).all()
    assert np.linalg.norm(K - whole(found), 2) <= found.error
    assert found.products == rank + 20 and found.why == "rank"


def test_equals_the_definition():
    # The range of the answer is that of K Omega: the definition for that span, of the full rank of K, is K itself.
    K = psd(80, np.r_[np.linspace(3, 1, 12), np.zeros(68)])
    found = gm.nystrom(K, 12)
    np.testing.assert_allclose(whole(found), K, atol=1e-12)
    # As many test vectors as the rank: rounding counts by the condition of a random square matrix, squared.
    assert found.error < 1e-8
    more = gm.nystrom(K, 30)
    assert len(more.eigenvalues) == 12
    np.testing.assert_allclose(whole(more), K, atol=1e-11)
    # Omega spans the same as K^-1 U, so the definition with that span must give the same matrix.
    K = psd(120, reference.spectrum("polynomial", 120))
    found = gm.nystrom(K, 10)
    np.testing.assert_allclose(reference.nystrom(K, np.linalg.solve(K, found.U)), whole(found), atol=1e-9)


@pytest.mark.parametrize("kind, rtol", [("steep", 1e-3), ("exponential", 1e-6), ("polynomial", 0.05), ("step", 0.01)])
def test_tolerance(kind, rtol):
    s = reference.spectrum(kind, 300)
    K = psd(300, s)
    found = gm.nystrom(K, rtol=rtol)
    assert found.converged and found.why == "tolerance"
    assert np.linalg.norm(K - whole(found), 2) <= found.error <= rtol * s[0] * (1 + 1e-12)
    with pytest.warns(UserWarning, match="rank 20"):
        capped = gm.nystrom(psd(300, reference.spectrum("flat", 300)), rtol=rtol, max_rank=20)
    assert not capped.converged and capped.why == "limit"


def test_certificate_covers():
    ratios = []
    for seed in range(40):
        kind = ["flat", "polynomial", "steep", "exponential"][seed % 4]
        K = psd(100, reference.spectrum(kind, 100), seed)
        found = gm.nystrom(K, 10, random_state=seed)
        ratios.append(found.error / np.linalg.norm(K - whole(found), 2))
    assert min(ratios) >= 1 and np.median(ratios) <= 12


@pytest.mark.parametrize(
    "eigenvalues",
    [
        -np.ones(100),
        np.r_[1.0, -1.0, np.zeros(98)],
        np.r_[np.ones(50), -0.1 * np.ones(50)],
        np.r_[10.0 * np.ones(5), -1e-3 * np.ones(95)],
        np.r_[np.ones(5), 1e-3 * np.ones(90), -2e-3 * np.ones(5)],
    ],
)
def test_indefinite_is_refused(eigenvalues):
    K = psd(100, eigenvalues)
    for matrix in (K, scipy.sparse.csr_matrix(K), scipy.sparse.linalg.aslinearoperator(K)):
        with pytest.raises(np.linalg.LinAlgError, match="not positive semi-definite"):
            gm.nystrom(matrix, 8)
    with pytest.raises(np.linalg.LinAlgError, match="not positive semi-definite"):
        gm.nystrom_pcg(K, np.ones(100), 1e-6, rank=8)
    # The control: the same magnitudes without the signs.
    gm.nystrom(psd(100, np.abs(eigenvalues)), 8)


def test_rounding_of_single_precision_is_not_indefinite():
    K = kernel(200, 3.0).astype("float32")
    assert np.linalg.eigvalsh(K.astype(float))[0] < 0
    found = gm.nystrom(K, 100)
    assert np.linalg.norm(K - whole(found), 2) <= found.error <= 1e-4 * np.linalg.norm(K)


def test_edges():
    found = gm.nystrom(np.zeros((30, 30)), 4)
    assert found.U.shape == (30, 0) and found.error == 0
    found = gm.nystrom([[2.0]], 1)
    np.testing.assert_allclose(whole(found), [[2.0]], rtol=1e-12)
    for n in (17, 40, 200):
        K = psd(n, np.linspace(2, 1, n))
        np.testing.assert_allclose(whole(gm.nystrom(K, n)), K, atol=1e-10)
        np.testing.assert_allclose(whole(gm.nystrom(K, rtol=1e-9)), K, atol=1e-8)
    K = kernel(90)
    base = whole(gm.nystrom(K, 20))
    for same in (scipy.sparse.csr_matrix(K), scipy.sparse.linalg.aslinearoperator(K), np.asfortranarray(K)):
        np.testing.assert_allclose(whole(gm.nystrom(same, 20)), base, atol=1e-12)
    for threads in (2, 3):
        assert gm.nystrom(K, 20, n_jobs=threads).U.tobytes() == gm.nystrom(K, 20, n_jobs=1).U.tobytes()


def test_bad_arguments():
    K = kernel(20)
    bad = K.copy()
    bad[4, 3] = bad[3, 4] = np.nan
    for matrix in (bad, scipy.sparse.csr_matrix(bad)):
        with pytest.raises(ValueError, match="row 3"):
            gm.nystrom(matrix, 3)
    lopsided = K.copy()
    lopsided[0, 1] += 1
    for matrix, options, match in [
        (K[:5], {"rank": 2}, "square"),
        (lopsided, {"rank": 2}, "not symmetric"),
        (K, {"rank": 21}, "at most 20"),
        (K, {}, "rank, tol or rtol"),
        (K, {"rank": 3, "rtol": 0.1}, "or a tolerance"),
    ]:
        with pytest.raises(ValueError, match=match):
            gm.nystrom(matrix, **options)
    with pytest.raises(ValueError, match="mu"):
        gm.nystrom_pcg(K, np.ones(20), 0.0)
    with pytest.raises(ValueError, match="shape"):
        gm.nystrom_pcg(K, np.ones(19), 1.0)


@pytest.mark.parametrize("kind", ["steep", "exponential", "step"])
@pytest.mark.parametrize("mu", [1e-2, 1e-5])
def test_ridge_solve(kind, mu):
    n = 300
    K = psd(n, reference.spectrum(kind, n))
    b = np.random.default_rng(0).normal(size=n)
    found = gm.nystrom_pcg(K, b, mu)
    want = np.linalg.solve(K + mu * np.eye(n), b)
    assert found.converged and np.linalg.norm(found.x - want) <= 1e-8 * np.linalg.norm(want) / mu**0.5
    assert found.residual_norm <= 1e-10 * np.linalg.norm(b)
    assert found.condition >= 1
    # Steps against the Chebyshev bound of the proven condition; a residual is within its root of the energy norm.
    assert found.n_iter <= reference.chebyshev_steps(found.condition, 1e-10 / np.sqrt(found.condition)) + 1
    both = gm.nystrom_pcg(K, np.c_[b, 2 * b], mu)
    np.testing.assert_allclose(both.x[:, 1], 2 * both.x[:, 0], rtol=1e-6, atol=1e-8)


def test_condition_is_that_of_the_preconditioned_matrix():
    n, mu = 200, 1e-3
    s = reference.spectrum("steep", n)
    K = psd(n, s)
    rank = int(2 * np.ceil(reference.effective_dimension(s, mu)) + 1)
    found = gm.nystrom(K, rank)
    P = reference.preconditioner(found.U, found.eigenvalues, mu)
    root = np.linalg.cholesky(P)
    values = np.linalg.eigvalsh(root.T @ (K + mu * np.eye(n)) @ root)
    true = values[-1] / values[0]
    assert true <= 28
    solved = gm.nystrom_pcg(K, np.ones(n), mu, rank=rank)
    assert solved.preconditioned and true <= solved.condition
    assert solved.n_iter <= reference.chebyshev_steps(true, 1e-10 / np.sqrt(true)) + 1
    # The control: without the preconditioner the same system takes many more steps.
    plain = gm.flexible_cg(K + mu * np.eye(n), np.ones(n), rtol=1e-10)
    assert plain.n_iter > 3 * solved.n_iter


def test_a_flat_spectrum_switches_it_off():
    side = 24
    line = scipy.sparse.diags([-np.ones(side - 1), 2 * np.ones(side), -np.ones(side - 1)], [-1, 0, 1])
    K = scipy.sparse.csr_matrix(
        scipy.sparse.kron(line, scipy.sparse.eye(side)) + scipy.sparse.kron(scipy.sparse.eye(side), line)
    )
    b = np.random.default_rng(0).normal(size=side * side)
    found = gm.nystrom_pcg(K, b, 1e-3, rank=64)
    assert found.converged and not found.preconditioned and found.rank == 0
    plain = gm.flexible_cg(K + 1e-3 * scipy.sparse.eye(side * side, format="csr"), b, rtol=1e-10)
    assert found.n_iter <= plain.n_iter + 5
    np.testing.assert_allclose((K @ found.x) + 1e-3 * found.x, b, atol=1e-7)


def test_operators_and_callables():
    K = kernel(150)
    b = np.random.default_rng(0).normal(size=150)
    want = gm.nystrom_pcg(K, b, 1e-3, rank=30).x
    for same in (scipy.sparse.linalg.aslinearoperator(K), lambda x: K @ x, scipy.sparse.csr_matrix(K)):
        np.testing.assert_allclose(gm.nystrom_pcg(same, b, 1e-3, rank=30).x, want, rtol=1e-6, atol=1e-6)
    with pytest.warns(UserWarning, match="stopped after 2 steps"):
        assert not gm.nystrom_pcg(K, b, 1e-8, rank=5, max_iter=2).converged


@pytest.mark.parametrize("scale", [1e-300, 1e-200, 1e-160, 1e150, 1e160, 1e300])
def test_scale_does_not_matter(scale):
    K = psd(100, reference.spectrum("exponential", 100))
    base = gm.nystrom(K, 10)
    found = gm.nystrom(K * scale, 10)
    np.testing.assert_allclose(found.eigenvalues / scale, base.eigenvalues, rtol=1e-9)
    np.testing.assert_allclose(found.error / scale, base.error, rtol=1e-9)
    sharp = gm.nystrom(K * scale, rtol=1e-3)
    rest = K - (sharp.U * (sharp.eigenvalues / scale)) @ sharp.U.T
    assert sharp.converged and np.linalg.norm(rest, 2) <= sharp.error / scale <= 1e-3


def test_eigenvectors_of_small_eigenvalues_are_orthonormal():
    for n in (40, 80):
        found = gm.nystrom(psd(n, np.r_[np.ones(5), 1e-9 * np.ones(n - 5)]), n // 2)
        k = len(found.eigenvalues)
        assert k == n // 2
        assert np.abs(found.U.T @ found.U - np.eye(k)).max() <= 1e-13


@pytest.mark.parametrize("factor", [1e-310, 1e-300, 1e-200, 1e-165, 1e160, 1e300])
def test_right_hand_sides_of_any_size(factor):
    K, mu = kernel(150), 1e-2
    b = np.random.default_rng(0).normal(size=150)
    found = gm.nystrom_pcg(K, np.c_[b, b * factor], mu)
    want = np.linalg.solve(K + mu * np.eye(150), b)
    assert found.converged and (found.residual_norm <= 1e-10 * np.linalg.norm(b) * np.array([1, factor])).all()
    rtol = 1e-6 if factor > 1e-305 else 1e-3
    for x in (found.x[:, 0], found.x[:, 1] / factor):
        assert np.linalg.norm(x - want) <= rtol * np.linalg.norm(want)
    plain = gm.flexible_cg(K + mu * np.eye(150), b * factor)
    assert plain.converged and np.linalg.norm(plain.x / factor - want) <= 1e-3 * np.linalg.norm(want)


@pytest.mark.parametrize("scale", [1e-300, 1e-160, 1e160, 1e300])
def test_systems_of_any_size(scale):
    K, mu = kernel(150), 1e-2
    b = np.random.default_rng(0).normal(size=150)
    want = np.linalg.solve(K + mu * np.eye(150), b)
    base = gm.nystrom_pcg(K, b, mu)
    found = gm.nystrom_pcg(K * scale, b, mu * scale)
    assert found.converged and found.preconditioned and found.n_iter <= base.n_iter + 1
    assert np.linalg.norm(found.x * scale - want) <= 1e-6 * np.linalg.norm(want)
    np.testing.assert_allclose(found.condition, base.condition, rtol=1e-6)
    np.testing.assert_allclose(gm.nystrom_pcg(K, b, 1e300).x * 1e300, b, rtol=1e-12)


def test_what_hides_from_the_products_shows_in_the_iteration():
    K = np.diag(np.r_[np.linspace(1, 0.01, 499), -0.5])
    for mu in (0.1, 0.6):  # also one that makes up for it: the bound of the condition would be wrong
        with pytest.raises(np.linalg.LinAlgError, match="not positive semi-definite: v'K v / v'v = -0.[0-9]+ for a"):
            gm.nystrom_pcg(K, np.ones(500), mu, rank=20)
    # The control: the same magnitudes.
    x = gm.nystrom_pcg(abs(K), np.ones(500), 0.6, rank=20).x
    np.testing.assert_allclose(x, 1 / (np.diag(abs(K)) + 0.6), rtol=1e-7)


@pytest.mark.parametrize(("lowest", "mu"), [(-0.1, 1.0), (-0.01, 0.1), (-0.05, 0.06)])
@pytest.mark.parametrize("scale", [1.0, 1e-200, 1e200])
def test_no_direction_alone_shows_it_but_their_span_does(lowest, mu, scale):
    # p'K p > 0 for all directions of the first two: only a combination of them is negative.
    K = scale * psd(400, np.r_[np.linspace(1, 0, 399), lowest])
    b = np.random.default_rng(3).normal(size=(400, 2))
    for matrix in (K, lambda x: K @ x):
        for right in (b, b[:, 0]):
            with pytest.raises(np.linalg.LinAlgError, match="not positive semi-definite: v'K v / v'v = -"):
                gm.nystrom_pcg(matrix, right, mu * scale, rank=5)
    # The control: semi-definite, singular, and of rounding errors below zero.
    K = scale * psd(400, np.r_[np.linspace(1, 0, 399), 0.0])
    assert gm.nystrom_pcg(K, b, mu * scale, rank=5).converged


def test_rounding_is_no_negative_curvature():
    # Thousands of eigenvalues at the level of rounding, of either sign, and a mu that is hardly above them.
    for K in (kernel(300, 3.0), kernel(300, 3.0).astype("float32")):
        K64 = K.astype("float64")
        assert np.linalg.eigvalsh(K64)[0] < 0
        mu = 30 * np.finfo(K.dtype).eps * np.linalg.norm(K64)
        found = gm.nystrom_pcg(K, K64 @ np.ones(300), mu, rtol=1e-6)
        assert np.linalg.norm(K64 @ (found.x - 1) + mu * found.x) <= 1e-5 * np.linalg.norm(K64 @ np.ones(300))


def test_refusals_name_the_curvature():
    for scale in (1e-200, 1e-9, 1e200):
        with pytest.raises(np.linalg.LinAlgError, match=r"at most -[0-9.]+e"):
            gm.nystrom(psd(60, -scale * np.ones(60)), 8)


def test_an_operator_that_is_not_symmetric_is_refused():
    rng = np.random.default_rng(0)
    K = kernel(120)
    skew = rng.normal(size=(120, 120))
    for lie in (0.1 * (skew - skew.T), np.triu(skew, 1)):
        with pytest.raises((ValueError, np.linalg.LinAlgError), match="not symmetric|not positive"):
            gm.nystrom(scipy.sparse.linalg.aslinearoperator(K + 0.1 * lie), 10)
    # The control: what single precision makes of a symmetric one passes.
    single = K.astype("float32")
    rough = scipy.sparse.linalg.LinearOperator(K.shape, matvec=lambda x: single @ x.astype("float32"), dtype="float32")
    gm.nystrom(rough, 10)


def test_complex_products_are_refused():
    K = kernel(30)
    twisted = K + 1j * K
    declared = scipy.sparse.linalg.aslinearoperator(twisted)
    hidden = scipy.sparse.linalg.LinearOperator(K.shape, matvec=lambda x: twisted @ x, dtype="float64")
    for rows, says in ((declared, "must have real"), (hidden, "must return real"), (twisted.dot, "must return real")):
        for b in (np.ones(30), np.ones((30, 2))):
            with pytest.raises(TypeError, match=rf"^K(\.mat...)? {says}.* not complex ones"):
                gm.nystrom_pcg(rows, b, 0.1)
            with pytest.raises(TypeError, match=rf"^A(\.mat...)? {says}.* not complex ones"):
                gm.flexible_cg(rows, b)
    with pytest.raises(TypeError, match=r"^K\.matmat must return real numbers, not complex ones"):
        gm.nystrom(hidden, 5)
