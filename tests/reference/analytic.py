"""Ridge regression on all rows at once, and the two recursions of class-incremental learning, as their formulas say.

Rows are rows of features (already mapped); weights come as (coef of shape (k, d), intercept of shape (k,)).
"""

import numpy as np

EPS = np.finfo(np.float64).eps


def one_hot(y, classes):
    """Targets of a classifier: rows x classes of 0 and 1."""
    return (np.asarray(y)[:, np.newaxis] == np.asarray(classes)[np.newaxis, :]).astype(np.float64)


class Problem:
    """Weighted rows, centred for an unpenalised intercept and scaled to unit variance, where asked for."""

    def __init__(self, X, Y, weight=None, fit_intercept=True, standardize=False, dtype=np.float64):
        X = np.asarray(X).astype(dtype)
        Y = np.asarray(Y).astype(dtype).reshape(len(X), -1)
        w = np.ones(len(X), dtype=dtype) if weight is None else np.asarray(weight).astype(dtype)
        self.weight_sum = w.sum()
        self.fit_intercept = fit_intercept
        if fit_intercept:
            # Twice: the mean of what the first mean left over takes the rounding of a large mean out.
            self.x_mean = (w @ X) / self.weight_sum
            self.x_mean = self.x_mean + (w @ (X - self.x_mean)) / self.weight_sum
            self.y_mean = (w @ Y) / self.weight_sum
        else:
            self.x_mean, self.y_mean = np.zeros(X.shape[1], dtype=dtype), np.zeros(Y.shape[1], dtype=dtype)
        root = np.sqrt(w)[:, np.newaxis]
        self.X, self.Y = (X - self.x_mean) * root, (Y - self.y_mean) * root
        self.scale = np.ones(X.shape[1], dtype=dtype)
        if standardize:
            deviation = np.sqrt((w @ (X - (w @ X) / self.weight_sum) ** 2) / self.weight_sum)
            self.scale = np.where(deviation > 0, deviation, 1)
        self.X = self.X / self.scale

    def gram(self, ridge):
        """X'X + ridge I of the centred, weighted and scaled rows."""
        return self.X.T @ self.X + ridge * np.eye(self.X.shape[1], dtype=self.X.dtype)

    def solve(self, ridge):
        """(coef, intercept) in the units of the rows as they came."""
        A, B = self.gram(ridge), self.X.T @ self.Y
        W = np.linalg.solve(A.astype(np.float64), B.astype(np.float64)).astype(A.dtype)
        if A.dtype != np.float64:
            # Refinement with residuals in the longer type gives the answer to (nearly) all of its digits.
            for _ in range(4):
                W = W + np.linalg.solve(A.astype(np.float64), (B - A @ W).astype(np.float64))
        coef = (W / self.scale[:, np.newaxis]).T
        return coef, self.y_mean - coef @ self.x_mean

    def gcv(self, ridge):
        """(score, trace of the hat matrix), from the hat matrix of the rows."""
        hat = self.X @ np.linalg.solve(self.gram(ridge), self.X.T)
        trace = np.trace(hat) + (1 if self.fit_intercept else 0)
        residual = ((self.Y - hat @ self.Y) ** 2).sum()
        return self.weight_sum * residual / (self.weight_sum - trace) ** 2, trace

    def gcv_curve(self, ridges):
        """The same for many ridges, by the singular values of the rows: (scores, traces)."""
        U, s, _ = np.linalg.svd(self.X, full_matrices=False)
        inside = U.T @ self.Y
        outside = ((self.Y - U @ inside) ** 2).sum()
        scores, traces = [], []
        for ridge in ridges:
            keep = ridge / (s**2 + ridge)
            trace = (s**2 / (s**2 + ridge)).sum() + (1 if self.fit_intercept else 0)
            residual = outside + ((keep[:, np.newaxis] * inside) ** 2).sum()
            scores.append(self.weight_sum * residual / (self.weight_sum - trace) ** 2)
            traces.append(trace)
        return np.array(scores), np.array(traces)


def ridge(X, Y, ridge, weight=None, fit_intercept=True, standardize=False, dtype=np.float64):
    """(coef, intercept) that minimise sum_r w_r |y_r - x_r W - b|^2 + ridge |W|^2, the intercept b free of charge."""
    return Problem(X, Y, weight, fit_intercept, standardize, dtype).solve(ridge)


def joint_classifier(X, y, ridge_, weight=None, fit_intercept=True, dtype=np.float64):
    """(classes, coef, intercept) of one ridge regression on one-hot targets, all rows at once."""
    classes = np.unique(y)
    coef, intercept = ridge(X, one_hot(y, classes), ridge_, weight, fit_intercept, dtype=dtype)
    return classes, coef, intercept


def incremental(batches, ridge, gain=True):
    """(classes, coef) by the literal recursion of generalised class-incremental learning, without intercept.

    The state is W and R = (X'X + ridge I)^-1. Classes come in order of arrival and are sorted at the end. With
    ``gain=False`` the labels of classes that were seen before the batch are left out, which is what plain
    class-incremental learning does and is wrong as soon as a class comes back.
    """
    classes, R, W = [], None, None
    for X, y in batches:
        if len(X) == 0:
            continue
        if R is None:
            R, W = np.eye(X.shape[1]) / ridge, np.zeros((X.shape[1], 0))
        old = len(classes)
        classes += [label for label in np.unique(y) if label not in classes]
        W = np.hstack([W, np.zeros((W.shape[0], len(classes) - old))])
        Y = one_hot(y, classes)
        if not gain:
            Y[:, :old] = 0
        K = np.linalg.solve(np.eye(len(X)) + X @ R @ X.T, X @ R)
        R = R - R @ X.T @ K
        R = (R + R.T) / 2
        W = W + R @ X.T @ (Y - X @ W)
    order = np.argsort(classes)
    return np.array(classes)[order], W.T[order]


def noise_variance(X, Y, ridge_, fit_intercept=True):
    """Mean over outputs of (|Y - X W|^2 + ridge |W|^2) / n: the temperature of a classifier without calibration."""
    P = Problem(X, Y, None, fit_intercept)
    W = np.linalg.solve(P.gram(ridge_), P.X.T @ P.Y)
    return (((P.Y - P.X @ W) ** 2).sum() + ridge_ * (W**2).sum()) / (len(X) * P.Y.shape[1])


def best_temperature(scores, places, low=1e-6, high=1e3):
    """Of the softmax of these scores, the one of the greatest likelihood: ever finer grids of its logarithm."""
    a, b = np.log(low), np.log(high)
    for _ in range(12):
        grid = np.linspace(a, b, 101)
        losses = []
        for log_temperature in grid:
            Z = scores / np.exp(log_temperature)
            Z = Z - Z.max(axis=1, keepdims=True)
            losses.append((np.log(np.exp(Z).sum(axis=1)) - Z[np.arange(len(Z)), places]).mean())
        best = int(np.argmin(losses))
        a, b = grid[max(best - 1, 0)], grid[min(best + 1, 100)]
    return float(np.exp((a + b) / 2))
