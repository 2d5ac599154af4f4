"""Kernels of infinitely wide networks, their limits, and learning a permutation, from their formulas."""

import numpy as np


def dual_values(squares, xi):
    """c(xi) = sum a_k^2 xi^k and its derivative, in longdouble."""
    squares = np.asarray(squares, dtype=np.longdouble)
    xi = np.asarray(xi, dtype=np.longdouble)
    value, slope = np.zeros_like(xi), np.zeros_like(xi)
    for k, square in enumerate(squares):
        value += square * xi**k
        if k:
            slope += k * square * xi ** (k - 1)
    return value, slope


def relu_dual(xi):
    """The arc-cosine kernel of a rectifier scaled to E f^2 = 1."""
    xi = np.asarray(xi, dtype=np.longdouble)
    angle = np.arccos(np.clip(xi, -1, 1))
    pi = np.longdouble("3.14159265358979323846264338327950288")
    return (np.sqrt(1 - xi * xi) + xi * (pi - angle)) / pi, (pi - angle) / pi


def erf_dual(xi):
    """The arcsine kernel of erf scaled to E f^2 = 1."""
    xi = np.asarray(xi, dtype=np.longdouble)
    rho = np.longdouble(2) / 3
    return np.arcsin(rho * xi) / np.arcsin(rho), rho / np.sqrt(1 - (rho * xi) ** 2) / np.arcsin(rho)


def deep_kernel(xi, dual, depth, kind):
    """S_{l+1} = c(S_l), K_{l+1} = S_{l+1} + K_l c'(S_l), without any care for rounding."""
    S = K = np.asarray(xi, dtype=np.longdouble)
    for _ in range(depth):
        S, slope = dual(S)
        K = S + K * slope
    return S if kind == "nngp" else K


def singular_shares(X, y, queries, alpha, n_classes):
    """sum over rows of class c of |x - x_i|^-alpha, over the sum of all; one query at a time."""
    out = np.zeros((len(queries), n_classes))
    for r, x in enumerate(queries):
        distance = np.sqrt(((X - x).astype(np.longdouble) ** 2).sum(axis=1))
        if alpha == 0:
            weight = np.ones(len(X))
        elif (distance == 0).any():
            weight = (distance == 0).astype(float)
        else:
            weight = (distance / distance.min()) ** -alpha
        for c in range(n_classes):
            out[r, c] = weight[y == c].sum() / weight.sum()
    return out


def binary_rows(k):
    """All 2^k - 1 rows of bits that are not all zero."""
    codes = np.arange(1, 2**k)
    return ((codes[:, np.newaxis] >> np.arange(k)) & 1).astype(float)


def permuted(rows, permutation):
    """Input bit i is output bit permutation[i]."""
    out = np.empty_like(rows)
    out[:, permutation] = rows
    return out


def predictive(K, Kx, Kxx, P, Px, Pxx, Y, ridge):
    """Mean and covariance of networks trained from random functions: K the trained kernel, P that of random weights."""
    V = np.linalg.solve(K + ridge * np.eye(len(K)), Kx.T)
    return V.T @ Y, Pxx - V.T @ Px.T - Px @ V + V.T @ P @ V


def hermite(function, degree):
    """E f(u) h_k(u) for standard normal u, h_k orthonormal: sums over a fine grid, good for smooth functions."""
    u = np.linspace(-14, 14, 40_001, dtype=np.longdouble)
    weight = np.exp(-u * u / 2) / np.sqrt(2 * np.longdouble(np.pi)) * (u[1] - u[0])
    values = np.asarray(function(u.astype(np.float64)), dtype=np.longdouble)
    out, before, now = [], np.zeros_like(u), np.ones_like(u)
    for k in range(degree + 1):
        out.append(float((weight * values * now).sum()))
        before, now = now, (u * now - np.sqrt(np.longdouble(k)) * before) / np.sqrt(np.longdouble(k + 1))
    return np.array(out)


def limit(coefficients):
    """(kind, alpha) of infinitely many layers, from Hermite coefficients: the three limits, and two that are none."""
    squares = np.asarray(coefficients, dtype=np.float64) ** 2
    squares = squares / squares.sum()
    first, expansion = np.sqrt(squares[1]) if len(squares) > 1 else 0.0, (np.arange(len(squares)) * squares).sum()
    if squares[0] > 0:
        return ("majority", 0.0) if expansion > 1 else ("constant", None)
    if first == 0:
        return "nearest", np.inf
    if len(squares) == 2 or not squares[2:].any():
        return "linear", None
    return "singular", -4 * np.log(first) / np.log(expansion)


def measured_exponent(coefficients, layers=160):
    """-d log S / d log|x - y| of the deepest layer, from gaps that lie some layers apart.

    The gap u = 1 - S of a layer goes to 1 - c(1 - u) = sum a_k^2 (1 - (1 - u)^k), summed without cancellation, until it
    is no longer small; from there S itself goes to c(S).
    """
    squares = np.asarray(coefficients, dtype=np.longdouble) ** 2
    squares = squares / squares.sum()
    expansion = float((np.arange(len(squares)) * squares).sum())

    def log_kernel(distance):
        gap = np.longdouble(distance) ** 2 / 2
        left = layers
        while gap <= 0.25:
            gap = sum(a * -np.expm1(k * np.log1p(-gap)) for k, a in enumerate(squares))
            left -= 1
        S = 1 - gap
        for _ in range(left):
            S = dual_values(squares, S)[0]
        return float(np.log(S))

    far, near = 1e-7 * expansion**4, 1e-7  # 8 layers, so the factor that repeats with each layer is the same
    return -(log_kernel(far) - log_kernel(near)) / np.log(far / near)


def threshold(kernel, k):
    """(low, high) of the mean outputs for bits that are off and on, of all 2^k - 1 rows: the fit itself, row by row."""
    rows = binary_rows(k)
    outputs = kernel(rows, np.eye(k)) @ np.linalg.inv(kernel(np.eye(k), np.eye(k)))
    return outputs[rows == 0].max(), outputs[rows == 1].min()
