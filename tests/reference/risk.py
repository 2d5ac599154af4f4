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


def gradient_flow(X, Y, time, start=None, ridge=0.0):
    """W(t) of dW/dt = -((G + ridge I) W - Q) / n: the exponential of one matrix, by Taylor terms and squarings."""
    n, d = X.shape
    k = Y.shape[1]
    W = np.zeros((d, k)) if start is None else np.array(start, dtype=np.longdouble)
    G, Q = X.T.astype(np.longdouble) @ X, X.T.astype(np.longdouble) @ Y
    A = np.zeros((d + k, d + k), dtype=np.longdouble)  # of [W; I]
    A[:d, :d], A[:d, d:] = -(G + ridge * np.eye(d)) * (time / n), Q * (time / n)
    halvings = max(0, int(np.ceil(np.log2(float(np.abs(A).sum()) + 1e-300))) + 1)
    A = A / np.longdouble(2) ** halvings
    E, term = np.eye(d + k, dtype=np.longdouble), np.eye(d + k, dtype=np.longdouble)
    for j in range(1, 30):
        term = term @ A / j
        E = E + term
    for _ in range(halvings):
        E = E @ E
    return (E[:d, :d] @ W + E[:d, d:]).astype(np.float64)


def flow_left_out(X, Y, time, fit_intercept=True):
    """Mean squared error of rows left out one by one, the others followed to the same time of the sum of gradients."""
    total = 0.0
    for row in range(len(X)):
        keep = np.arange(len(X)) != row
        x_mean = X[keep].mean(axis=0) if fit_intercept else np.zeros(X.shape[1])
        y_mean = Y[keep].mean(axis=0) if fit_intercept else np.zeros(Y.shape[1])
        W = gradient_flow(X[keep] - x_mean, Y[keep] - y_mean, time * (len(X) - 1) / len(X))
        total += ((Y[row] - y_mean - (X[row] - x_mean) @ W) ** 2).mean()
    return total / len(X)


class Pilot:
    """What a kernel matrix of some rows and their targets say about other numbers of rows and features.

    At a ridge d on the pilot itself: z = tr K (K + d)^-1, kappa = d / (p - z), g = kappa / (1 - z / width), and
    A = kappa y'(K + d)^-1 y is what all modes leave unlearnt at g. Nothing is tabulated; the ridge of a g is searched.
    """

    def __init__(self, K, Y, width=np.inf, centred=True):
        p = len(K)
        if centred:
            C = np.eye(p) - 1 / p
            K, Y = C @ K @ C, Y - Y.mean(axis=0)
        self.K, self.Y, self.width, self.own = K, Y, width, 1.0 if centred else 0.0
        self.values, vectors = np.linalg.eigh(K)
        self.values = np.maximum(self.values, 0)
        self.energies = ((vectors.T @ Y) ** 2).mean(axis=1)
        self.vectors = vectors

    def _at_ridge(self, d):
        z = (self.values / (self.values + d)).sum()
        room = len(self.K) - self.own - z
        if not (room > 0 and z < self.width):
            return z, np.inf, 0.0  # everything is learnt
        return z, d / room, d / room / (1 - z / self.width)

    def ridge_of(self, g):
        """The ridge on the pilot at which it sees this g."""
        top = self.values.max()
        low, high = np.log(1e-13 * top), np.log(1e6 * top)
        for _ in range(200):
            middle = (low + high) / 2
            low, high = (low, middle) if self._at_ridge(np.exp(middle))[2] > g else (middle, high)
        return np.exp(high)

    def at(self, g):
        """(z, A) at g."""
        d = self.ridge_of(g)
        z, kappa, _ = self._at_ridge(d)
        return z, kappa * (self.energies / (self.values + d)).sum()

    def left_out_over_gcv(self, g):
        """How much larger leave-one-out errors of the pilot are than generalised cross-validation says."""
        d, p = self.ridge_of(g), len(self.K)
        H = self.vectors * (self.values / (self.values + d)) @ self.vectors.T + self.own / p
        residual = ((self.Y - H @ self.Y) ** 2).sum(axis=1)
        h = np.diag(H)
        return max(1.0, (residual / (1 - h) ** 2).sum() / (residual.sum() / (1 - h.mean()) ** 2))

    def predict(self, n_rows, k, delta):
        """Test error for n rows, k features and this ridge; slopes are differences."""
        n = n_rows - self.own

        def excess(log_g):
            g = np.exp(log_g)
            z = self.at(g)[0]
            kappa = g * (1 - z / k)
            return z + delta / kappa - n if kappa > 0 else np.inf

        low, high = np.log(1e-9 * self.values.max()), np.log(1e6 * self.values.max())
        for _ in range(60):
            middle = (low + high) / 2
            low, high = (middle, high) if excess(middle) > 0 else (low, middle)
        g, step = np.exp(high), 1e-4
        (z, a), (z_up, a_up), (z_down, a_down) = self.at(g), self.at(g * (1 + step)), self.at(g * (1 - step))
        z_slope, a_slope = (z_up - z_down) / (2 * step * g), (a_up - a_down) / (2 * step * g)
        kappa, q = g * (1 - z / k), z + g * z_slope
        factor, share = (1.0, q / n) if np.isinf(k) else (k / (k - q), (q * (k - 2 * z) + z * z) / (n * (k - q)))
        test = (a - factor * kappa * a_slope) / (1 - share)
        return test * self.left_out_over_gcv(g) * (1 + self.own / n_rows)
