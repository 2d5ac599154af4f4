"""Federated ridge regression in plain NumPy and integers of any size."""

from fractions import Fraction

import numpy as np


def pairwise_aggregate(clients, ridge):
    """The pairwise law of the AFL paper, surplus ridge taken out at the end: weights (d, C) of no ridge at all.

    clients: list of (X, Y). Each client's own system has the ridge.
    """
    d = clients[0][0].shape[1]
    total, weights = None, None
    for X, Y in clients:
        gram = X.T @ X + ridge * np.eye(d)
        own = np.linalg.solve(gram, X.T @ Y)
        if total is None:
            total, weights = gram, own
            continue
        a, b = np.linalg.inv(total), np.linalg.inv(gram)
        joint = np.linalg.inv(total + gram)
        left = np.eye(d) - a @ gram + a @ gram @ joint @ gram
        right = np.eye(d) - b @ total + b @ total @ joint @ total
        weights, total = left @ weights + right @ own, total + gram
    return np.linalg.solve(total - len(clients) * ridge * np.eye(d), total @ weights)


def fixed(value, bits):
    """round(value 2^bits), ties to even, as an integer of any size."""
    scaled = Fraction(value) * 2**bits
    return round(scaled)


def words(number):
    """A signed integer as two 64-bit words modulo 2^128."""
    number %= 2**128
    return number % 2**64, number >> 64


def gaussian_delta(epsilon, sigma, sensitivity=1.0):
    """The least delta for which noise of this deviation is (epsilon, delta) private, by its definition.

    The integral of (p - e^epsilon q)+ over the two normal densities that neighbours give, p around the sensitivity and
    q around 0, by Gauss-Legendre on pieces. The integrand is positive from one point on.
    """
    begin = sigma**2 * epsilon / sensitivity + sensitivity / 2
    edges = begin + sigma * np.linspace(0.0, 40.0, 161)
    points, weights = np.polynomial.legendre.leggauss(20)
    x = (edges[:-1, np.newaxis] + edges[1:, np.newaxis]) / 2 + np.diff(edges)[:, np.newaxis] / 2 * points

    def density(z):
        return np.exp(-0.5 * (z / sigma) ** 2) / (sigma * np.sqrt(2 * np.pi))

    gap = density(x - sensitivity) - np.exp(epsilon) * density(x)
    return float((gap * weights * np.diff(edges)[:, np.newaxis] / 2).sum())


def gaussian_sigma(epsilon, delta, sensitivity=1.0):
    """The least deviation that is (epsilon, delta) private, by bisection of the definition."""
    low, high = 1e-3 * sensitivity, 1e3 * sensitivity / min(epsilon, 1.0)
    while high - low > 1e-12 * high:
        middle = (low + high) / 2
        low, high = (low, middle) if gaussian_delta(epsilon, middle, sensitivity) <= delta else (middle, high)
    return high


def triangular_factor(X, Y):
    """R of the rows [1, x, y] = Q R, by Gram-Schmidt in the longest type there is; its diagonal is positive."""
    A = np.hstack([np.ones((len(X), 1)), X, Y]).astype(np.longdouble)
    R = np.zeros((min(A.shape), A.shape[1]), dtype=np.longdouble)
    for k in range(len(R)):
        q = A[:, k] / np.sqrt(A[:, k] @ A[:, k])
        R[k, k:] = q @ A[:, k:]
        A[:, k:] -= np.outer(q, R[k, k:])
    return R.astype(np.float64)


def composed_epsilon(sigmas, delta):
    """The epsilon of Gaussian releases of sensitivity 1 together, from the distribution of their privacy loss.

    The loss of a release is normal with mean 1 / (2 sigma^2) and variance 1 / sigma^2, and losses add up;
    delta(epsilon) = E (1 - e^(epsilon - loss))+, by Gauss-Legendre on pieces.
    """
    square = sum(sigma**-2.0 for sigma in sigmas)
    mean, deviation = square / 2, np.sqrt(square)
    points, weights = np.polynomial.legendre.leggauss(20)

    def delta_of(epsilon):
        edges = max(epsilon, mean - 40 * deviation) + deviation * np.linspace(0.0, 40.0, 161)
        x = (edges[1:, np.newaxis] + edges[:-1, np.newaxis]) / 2
        x = x + points * np.diff(edges)[:, np.newaxis] / 2
        density = np.exp(-0.5 * ((x - mean) / deviation) ** 2) / (deviation * np.sqrt(2 * np.pi))
        return float((-np.expm1(epsilon - x) * density * weights * np.diff(edges)[:, np.newaxis] / 2).sum())

    low, high = 0.0, mean + 40 * deviation
    if delta_of(0.0) <= delta:
        return 0.0
    while high - low > 1e-12 * high:
        middle = (low + high) / 2
        low, high = (low, middle) if delta_of(middle) <= delta else (middle, high)
    return high


def clipped(X, bound):
    """Rows of a norm above the bound, shortened to it."""
    return np.array([row * min(1.0, bound / max(np.linalg.norm(row), 1e-300)) for row in X])


def nearest_positive(S):
    """The nearest positive semidefinite matrix in the Frobenius norm."""
    values, vectors = np.linalg.eigh(S)
    return (vectors * np.maximum(values, 0)) @ vectors.T
