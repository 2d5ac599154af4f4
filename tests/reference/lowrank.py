"""Low-rank approximations by definition: spectra, shifted Nystrom, frequent directions, leverage scores."""

import numpy as np

EPS = np.finfo(float).eps


def orthogonal(rng, n, k):
    """Orthonormal columns of a uniformly random subspace."""
    return np.linalg.qr(rng.normal(size=(n, k)))[0]


def spectrum(kind, d):
    """Singular values, the largest 1."""
    i = np.arange(1.0, d + 1)
    return {
        "flat": np.ones(d),
        "polynomial": 1 / i,
        "steep": 1 / i**2,
        "step": np.where(i <= 10, 1.0, 1e-3),
        "exponential": 0.8 ** (i - 1),
        "clusters": 0.5 ** ((i - 1) // 5),
        "rank 7": (i <= 7) * 1.0,
    }[kind]


def matrix(rng, n, d, kind):
    """A = U diag(s) V' with random factors, and s."""
    k = min(n, d)
    s = spectrum(kind, k)
    return (orthogonal(rng, n, k) * s) @ orthogonal(rng, d, k).T, s


def spectral_error(A, U, s, Vt):
    """|A - U diag(s) Vt|_2 in double."""
    A, U, s, Vt = (np.asarray(part, dtype=float) for part in (A, U, s, Vt))
    return np.linalg.norm(A - (U * s) @ Vt, 2)


def expected_error(s, k, p, q):
    """Halko, Martinsson and Tropp's bound of the expected error of k + p columns after q steps, and a cut to rank k."""
    tail = s[k:] ** (2 * q + 1)
    first = (1 + np.sqrt(k / (p - 1))) * tail[0] if tail.size else 0.0
    basis = (first + np.e * np.sqrt(k + p) / p * np.sqrt((tail**2).sum())) ** (1 / (2 * q + 1))
    return basis + (s[k] if k < s.size else 0.0)


def nystrom(K, omega):
    """K Omega (Omega' K Omega)^+ Omega' K: the definition, without a shift."""
    Y = K @ omega
    core = omega.T @ Y
    return Y @ np.linalg.pinv((core + core.T) / 2, rcond=1e-13, hermitian=True) @ Y.T


def effective_dimension(eigenvalues, mu):
    return (eigenvalues / (eigenvalues + mu)).sum()


def preconditioner(U, eigenvalues, mu):
    """P^-1 of the Nystrom preconditioner as a matrix."""
    n = len(U)
    least = eigenvalues[-1] + mu
    return (U * (least / (eigenvalues + mu))) @ U.T + np.eye(n) - U @ U.T


def chebyshev_steps(condition, rtol):
    """Steps after which conjugate gradients have the energy norm of the error below rtol times that of the start."""
    root = np.sqrt(condition)
    return int(np.ceil(np.log(2 / rtol) / np.log((root + 1) / (root - 1)))) if condition > 1 else 1


def frequent_directions(A, ell):
    """(B, delta) row by row through a buffer of 2 ell rows, by dense singular value decompositions."""
    buffer, delta = np.zeros((0, A.shape[1])), 0.0
    for row in A:
        if len(buffer) == 2 * ell:
            buffer, lost = shrink(buffer, ell)
            delta += lost
        buffer = np.vstack([buffer, row])
    if len(buffer) > ell:
        buffer, lost = shrink(buffer, ell)
        delta += lost
    return buffer, delta


def shrink(buffer, ell):
    _, s, Vt = np.linalg.svd(buffer, full_matrices=False)
    lost = s[ell - 1] ** 2 if len(s) >= ell else 0.0
    kept = np.sqrt(np.maximum(s**2 - lost, 0))
    return (kept[:, None] * Vt)[: ell - 1] if len(s) >= ell else kept[:, None] * Vt, lost


def truncated_stream(A, ell):
    """Frequent directions without the shrinking: the best rows of each full buffer. No guarantee."""
    buffer = np.zeros((0, A.shape[1]))
    for row in A:
        if len(buffer) == 2 * ell:
            _, s, Vt = np.linalg.svd(buffer, full_matrices=False)
            buffer = (s[:, None] * Vt)[: ell - 1]
        buffer = np.vstack([buffer, row])
    return buffer


def tail_bound(A, ell):
    """min over k < ell of |A - A_k|_F^2 / (ell - k)."""
    squares = np.linalg.svd(A, compute_uv=False) ** 2
    return min(squares[k:].sum() / (ell - k) for k in range(ell))


def leverage(A, rtol=1e-12):
    """Squared row lengths of the left singular vectors above rtol."""
    length = np.linalg.norm(A, axis=0)
    U, s, _ = np.linalg.svd(A / np.where(length > 0, length, 1), full_matrices=False)
    U = U[:, s > rtol * s[0]] if s[0] > 0 else U[:, :0]
    return (U**2).sum(axis=1)
