"""Least squares by definition: triangles, optimal backward errors and test problems, slow and plain."""

import numpy as np

EPS = np.finfo(float).eps


def r_factor(A):
    """R (d x d, diagonal >= 0) with R'R = A'A, by Householder reflections; zero rows where A has fewer than d."""
    n, d = A.shape
    R = np.zeros((d, d))
    factor = np.linalg.qr(A, mode="r")
    R[: min(n, d)] = factor
    signs = np.where(np.diag(R) < 0, -1.0, 1.0)
    return signs[:, None] * R


def min_norm(A, b, rtol):
    """The solution of least norm, singular values up to ``rtol`` times the largest taken as zero."""
    U, s, Vt = np.linalg.svd(A, full_matrices=False)
    keep = s > rtol * s[0]
    return Vt[keep].T @ ((U[:, keep].T @ b).T / s[keep]).T


def design(rng, n, d, condition):
    """U diag(s) V' with random orthogonal factors and singular values evenly spaced in their logarithm."""
    U = np.linalg.qr(rng.normal(size=(n, d)))[0]
    V = np.linalg.qr(rng.normal(size=(d, d)))[0]
    s = np.logspace(0, -np.log10(condition), d) if d > 1 else np.ones(1)
    return (U * s) @ V.T, U


def problem(rng, n, d, condition, residual):
    """A, b with |x| = 1 and a residual of this size orthogonal to the columns (up to rounding)."""
    A, U = design(rng, n, d, condition)
    x = rng.normal(size=d)
    x /= np.linalg.norm(x)
    r = rng.normal(size=n)
    r -= U @ (U.T @ r)
    r -= U @ (U.T @ r)
    norm = np.linalg.norm(r)
    return A, A @ x + (r * (residual / norm) if norm > 0 else 0)


def long_qr(A):
    """Thin Q, R by Householder reflections in long double."""
    R = np.array(A, dtype=np.longdouble)
    n, d = R.shape
    reflectors = []
    for j in range(min(n, d)):
        v = R[j:, j].copy()
        norm = np.sqrt((v * v).sum())
        if norm == 0:
            reflectors.append(None)
            continue
        v[0] += norm if v[0] >= 0 else -norm
        v /= np.sqrt((v * v).sum())
        R[j:, j:] -= 2 * np.outer(v, v @ R[j:, j:])
        reflectors.append(v)
    return reflectors, np.triu(R[: min(n, d)])


def apply_qt(reflectors, b):
    """Q'b for the reflectors of `long_qr`."""
    out = np.array(b, dtype=np.longdouble)
    for j, v in enumerate(reflectors):
        if v is not None:
            out[j:] -= 2 * v * (v @ out[j:])
    return out


class BackwardError:
    """Backward errors of least-squares solutions of one matrix, relative to |A|_F.

    The smallest |dA|_F for which x solves min |b - (A + dA) x| is, within a factor between 1 and sqrt(2), Karlson and
    Walden's |(A'A + eta^2 I)^(-1/2) A'r| / |x| with eta = |r| / |x| ("On the accuracy of the Karlson-Walden estimate of
    the backward error for linear least squares problems"). With A = U S V' it is |(S^2 + eta^2)^(-1/2) S U'r| / |x|;
    the residual and U'r are made in long double, since cancellation in them is the very thing that is measured.
    """

    def __init__(self, A):
        self.A = np.asarray(A, dtype=float)
        self.reflectors, R = long_qr(self.A)
        self.W, self.s, _ = np.linalg.svd(R.astype(float))
        self.norm = np.linalg.norm(self.A)

    def __call__(self, b, x):
        wide = np.longdouble
        x = np.asarray(x, dtype=float)
        size = np.linalg.norm(x)
        r = np.asarray(b, dtype=wide) - self.A.astype(wide) @ x.astype(wide)
        length = float(np.sqrt((r * r).sum()))
        if length == 0:
            return 0.0
        if size == 0:
            g = self.A.astype(wide).T @ r
            return float(np.sqrt((g * g).sum())) / length / self.norm
        eta = length / size
        inside = self.W.T.astype(wide) @ apply_qt(self.reflectors, r)[: len(self.W)]
        weights = self.s / np.sqrt(self.s**2 + eta**2)
        return float(np.sqrt(((weights * inside) ** 2).sum())) / size / self.norm


def optimal_backward_error(A, b, x):
    """The optimum itself, min(eta, smallest singular value of [A, eta (I - r r^+)]), over |A|_F; to about 1e-19.

    "Optimal backward perturbation bounds for the linear least squares problem". In the coordinates of Q and of what r
    has outside its range the matrix is (d + 1) x (2 d + 1); its smallest singular value comes from inverse iteration
    with its triangle, all in long double.
    """
    wide = np.longdouble
    A = np.asarray(A, dtype=wide)
    d = A.shape[1]
    reflectors, R = long_qr(A)
    r = np.asarray(b, dtype=wide) - A @ np.asarray(x, dtype=wide)
    length = np.sqrt((r * r).sum())
    if length == 0:
        return 0.0
    eta = length / np.sqrt((np.asarray(x, dtype=wide) ** 2).sum())
    rotated = apply_qt(reflectors, r)
    unit = np.append(rotated[:d], np.sqrt((rotated[d:] ** 2).sum())) / length
    B = np.zeros((2 * d + 1, d + 1), dtype=wide)
    B[:d, :d] = R.T
    B[d:] = eta * (np.eye(d + 1) - np.outer(unit, unit))
    _, T = long_qr(B)
    v = unit.copy()
    least = eta
    for _ in range(30):
        for transposed in (True, False):
            order = range(d + 1) if transposed else range(d, -1, -1)
            L = T.T if transposed else T
            for i in order:
                v[i] = (v[i] - L[i] @ v + L[i, i] * v[i]) / (L[i, i] if L[i, i] != 0 else wide(1e-40))
        size = np.sqrt((v * v).sum())
        v /= size
        least = 1 / np.sqrt(size)
    return float(min(eta, least) / np.sqrt((A * A).sum()))


# --- designs of the l-infinity test ---------------------------------------------------------------------------------


def linf_design(name, n, d, seed, alpha=None):
    """A and b of D1 to D4: dense, spiky residual on [I; 0], repeated rows with a local residual, heavy tails."""
    rng = np.random.default_rng(seed)
    if name == "D1":
        A = rng.normal(size=(n, d))
        return A, A.sum(axis=1) + rng.normal(size=n)
    if name == "D2":
        alpha = d if alpha is None else alpha
        A = np.zeros((n, d))
        A[:d] = np.eye(d)
        b = np.zeros(n)
        b[:d] = 1 / np.sqrt(d)
        b[d : d + alpha] = 1 / np.sqrt(alpha)
        return A, b
    if name == "D3":
        each = n // d
        A = np.repeat(np.eye(d), each, axis=0) / np.sqrt(each)
        b = A.sum(axis=1)
        b[:each] += np.where(np.arange(each) % 2 == 0, 1.0, -1.0) / np.sqrt(each)
        return A, b
    if name == "D4":
        U = np.linalg.qr(rng.standard_t(2, size=(n, d)))[0]
        V = np.linalg.qr(rng.normal(size=(d, d)))[0]
        A = (U * np.logspace(0, -6, d)) @ V.T
        return A, A.sum(axis=1) / np.sqrt(d) + rng.standard_t(3, size=n)
    raise ValueError(name)


class LinfProblem:
    """The exact solution of a design, and how far others are from it."""

    def __init__(self, A, b):
        self.A, self.b = A, b
        Q, R = np.linalg.qr(A)
        self.x = np.linalg.solve(R, Q.T @ b)
        self.x += np.linalg.solve(R, Q.T @ (b - A @ self.x))
        self.r = np.linalg.norm(b - A @ self.x)
        inverse = np.linalg.inv(R)
        self.scale = self.r * np.linalg.norm(inverse, 2) / np.sqrt(A.shape[1])
        self.first = self.r * np.linalg.norm(inverse[0])  # |r| sqrt((A'A)^-1_00)

    def error(self, x):
        """max |x - x*|."""
        return np.abs(x - self.x).max()

    def rho(self, x):
        """The eps that x has kept."""
        return self.error(x) / self.scale

    def excess(self, x):
        """|A (x - x*)|^2 / |r|^2."""
        return float(np.sum((self.A @ (x - self.x)) ** 2) / self.r**2)

    def studentised(self, x, m):
        """The first coordinate's error, which for a Gaussian sketch of m rows is Student's t with m - d + 1 degrees."""
        return (x - self.x)[0] * np.sqrt(m - self.A.shape[1] + 1) / self.first
