"""The eigenframework of random-feature ridge regression by plain root finding, simulations, and gradient descent."""

import numpy as np


def predict(eigenvalues, coefficients, noise, n, k, delta):
    """(test, train) of the closed formulas; k may be infinite."""
    lam, energy = np.asarray(eigenvalues), np.asarray(coefficients) ** 2

    def state(log_g):
        g = np.exp(log_g)
        z = (lam / (lam + g)).sum()
        return g, z, g * (1 - z / k)

    def excess(log_g):
        _, z, kappa = state(log_g)
        return z + delta / kappa - n if kappa > 0 else 1e300

    low, high = -200.0, 50.0
    while high - low > 1e-13:
        middle = (low + high) / 2
        low, high = (middle, high) if excess(middle) > 0 else (low, middle)
    g, z, kappa = state(high)
    q = ((lam / (lam + g)) ** 2).sum()
    factor, share = (1.0, q / n) if np.isinf(k) else (k / (k - q), (q * (k - 2 * z) + z * z) / (n * (k - q)))
    bias = (energy * (g / (lam + g) - factor * kappa * lam / (lam + g) ** 2)).sum()
    test = (bias + noise) / (1 - share)
    return test, (delta / (n * kappa)) ** 2 * test


def simulate(eigenvalues, coefficients, noise, n, k, delta, seed, repeats):
    """(test, train) errors of fits on Gaussian modes with Gaussian random features; arrays of `repeats`."""
    rng = np.random.default_rng(seed)
    lam, v = np.asarray(eigenvalues), np.asarray(coefficients)
    out = []
    for _ in range(repeats):
        modes = rng.normal(size=(n, len(lam)))
        y = modes @ v + np.sqrt(noise) * rng.normal(size=n)
        if np.isinf(k):
            maps = np.diag(np.sqrt(lam))
        else:
            maps = np.sqrt(lam)[:, np.newaxis] * rng.normal(size=(len(lam), k)) / np.sqrt(k)
        features = modes @ maps
        dual = np.linalg.solve(features @ features.T + delta * np.eye(n), y)
        # Over new rows the modes are white, so the test error is that of the mode weights.
        test = ((v - maps @ (features.T @ dual)) ** 2).sum() + noise
        out.append((test, np.mean((delta * dual) ** 2)))
    return np.array(out).T


def predict_best(eigenvalues, coefficients, noise, n, k):
    """(test error, ridge) at the ridge of least test error, by golden sections of its logarithm."""
    golden = (np.sqrt(5) - 1) / 2
    low, high = -30.0, 15.0

    def test(log_delta):
        return predict(eigenvalues, coefficients, noise, n, k, np.exp(log_delta))[0]

    while high - low > 1e-6:
        a, b = high - golden * (high - low), low + golden * (high - low)
        low, high = (low, b) if test(a) < test(b) else (a, high)
    return test((low + high) / 2), np.exp((low + high) / 2)


def plan_width(errors, fits, target=None, slack=0.0):
    """The smallest width that does, one after the other: errors[k] of width k + 1, fits[k] whether it is allowed.

    Without a target, within the share `slack` of the best that is allowed; if none reaches the target, that best.
    """
    allowed = [k for k in range(len(errors)) if fits[k]]
    wanted = errors[allowed[-1]] * (1 + slack) if target is None else target
    return next((k + 1 for k in allowed if errors[k] <= wanted), allowed[-1] + 1)


def gradient_descent(X, Y, step, steps, start=None, ridge=0.0, momentum=0.0, nesterov=False):
    """Explicit steps on (|Y - X W|^2 + ridge |W|^2) / (2 n), with heavy-ball or Nesterov momentum."""
    n = len(X)
    W = np.zeros((X.shape[1], Y.shape[1])) if start is None else np.array(start, dtype=float)
    G, Q = X.T @ X, X.T @ Y
    last = W.copy()
    for _ in range(steps):
        ahead = W + momentum * (W - last)
        at = ahead if nesterov else W
        W, last = ahead - step / n * (G @ at - Q + ridge * at), W
    return W
