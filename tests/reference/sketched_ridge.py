"""Ridge regression and what a sketch of it must know, by definition: all from singular values, slow and plain."""

import numpy as np


def centred(A, b, weight=None, intercept=False):
    """(sqrt w (A - mean), sqrt w (b - mean), mean of A, mean of b); means are zero without an intercept."""
    A, b = np.asarray(A, dtype=np.float64), np.asarray(b, dtype=np.float64)
    w = np.ones(len(A)) if weight is None else np.asarray(weight, dtype=np.float64)
    b = b.reshape(len(A), -1)
    a_mean = w @ A / w.sum() if intercept else np.zeros(A.shape[1])
    b_mean = w @ b / w.sum() if intercept else np.zeros(b.shape[1])
    root = np.sqrt(w)[:, np.newaxis]
    return root * (A - a_mean), root * (b - b_mean), a_mean, b_mean


class Ridge:
    """All ridge regressions of one problem, from one singular value decomposition of the centred, weighted rows."""

    def __init__(self, A, b=None, weight=None, intercept=False):
        self.A = np.asarray(A, dtype=np.float64)
        n = len(self.A)
        self.b = np.zeros((n, 1)) if b is None else np.asarray(b, dtype=np.float64).reshape(n, -1)
        self.w = np.ones(n) if weight is None else np.asarray(weight, dtype=np.float64)
        self.intercept = intercept
        Z, t, self.a_mean, self.b_mean = centred(self.A, self.b, self.w, intercept)
        self.U, self.s, self.Vt = np.linalg.svd(Z, full_matrices=False)
        self.t = self.U.T @ t

    def solution(self, ridge):
        """(x of shape (d, k), intercept of shape (k,))."""
        x = self.Vt.T @ ((self.s / (self.s**2 + ridge))[:, np.newaxis] * self.t)
        return x, self.b_mean - self.a_mean @ x

    def residuals(self, ridge):
        x, c = self.solution(ridge)
        return self.b - self.A @ x - c

    def effective_dimension(self, ridge):
        """tr Z'Z (Z'Z + ridge)^-1."""
        return float((self.s**2 / (self.s**2 + ridge)).sum())

    def leverages(self, ridge):
        """The diagonal of the hat matrix, an intercept counted."""
        return (self.U**2) @ (self.s**2 / (self.s**2 + ridge)) + (self.w / self.w.sum() if self.intercept else 0)

    def loo_errors(self, ridge):
        """`left_out` from one fit: residual / (1 - leverage)."""
        return self.residuals(ridge) / (1 - self.leverages(ridge))[:, np.newaxis]

    def loo_score(self, ridge):
        """Mean squared leave-one-out error, summed over outputs."""
        return float(np.average((self.loo_errors(ridge) ** 2).sum(axis=1), weights=self.w))

    def gcv_score(self, ridge):
        """Weighted sum of squares times n / (n - D)^2, D with the intercept."""
        n = self.w.sum()
        left = n - self.effective_dimension(ridge) - bool(self.intercept)
        return float((self.w[:, np.newaxis] * self.residuals(ridge) ** 2).sum() * n / left**2)


def solution(A, b, ridge, weight=None, intercept=False):
    """(x of shape (d, k), intercept of shape (k,)) of one of them."""
    return Ridge(A, b, weight, intercept).solution(ridge)


def left_out(A, b, ridge, weight=None, intercept=False):
    """b minus what the model fitted without each row predicts for it, (n, k), by as many fits."""
    A, b = np.asarray(A, dtype=np.float64), np.asarray(b, dtype=np.float64).reshape(len(A), -1)
    out = np.empty_like(b)
    for i in range(len(A)):
        rest = np.arange(len(A)) != i
        x, c = solution(A[rest], b[rest], ridge, None if weight is None else weight[rest], intercept)
        out[i] = b[i] - A[i] @ x - c
    return out


def spectrum_design(rng, n, singular):
    """U diag(singular) V' with random orthogonal factors."""
    d = len(singular)
    U = np.linalg.qr(rng.normal(size=(n, d)))[0]
    V = np.linalg.qr(rng.normal(size=(d, d)))[0]
    return (U * singular) @ V.T


def adaptive_rows(A, ridge, rng):
    """The rule of rows with Gaussian sketches: appended until they are 8 times the dimension they show, and 24."""
    SA = rng.normal(size=(32, len(A))) @ A
    while True:
        s = np.linalg.svd(SA / np.sqrt(len(SA)), compute_uv=False)
        wanted = int(np.ceil(8 * (s**2 / (s**2 + ridge)).sum())) + 24
        if wanted >= len(A):
            return len(A)
        if wanted <= 1.03 * len(SA):
            return len(SA)
        SA = np.vstack([SA, rng.normal(size=(wanted - len(SA), len(A))) @ A])


def preconditioned_steps(A, b, ridge, SA, tol):
    """Steps of conjugate gradients with (SA' SA + ridge)^-1 in front until the correction is tol of the solution."""
    d = A.shape[1]
    P = np.linalg.inv(SA.T @ SA + ridge * np.eye(d))
    x, r = np.zeros(d), A.T @ b
    z = P @ r
    p, rz = z.copy(), r @ z
    steps = 0
    while np.linalg.norm(z) > tol * np.linalg.norm(x):
        q = A.T @ (A @ p) + ridge * p
        alpha = rz / (p @ q)
        x += alpha * p
        r -= alpha * q
        z = P @ r
        before, rz = rz, r @ z
        p = z + (rz / before) * p
        steps += 1
    return steps, x
