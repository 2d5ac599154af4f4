"""The ridge regression that everything is compared with: plain NumPy, float64, all rows at once."""

import numpy as np


def ridge_weights(X, Y, ridge, weight=None, fit_intercept=True):
    """(coef of shape (k, d), intercept of shape (k,)) of weighted ridge regression by the normal equations."""
    X = np.asarray(X, dtype=np.float64)
    Y = np.asarray(Y, dtype=np.float64).reshape(len(X), -1)
    w = np.ones(len(X)) if weight is None else np.asarray(weight, dtype=np.float64)
    x_mean = np.average(X, axis=0, weights=w) if fit_intercept else np.zeros(X.shape[1])
    y_mean = np.average(Y, axis=0, weights=w) if fit_intercept else np.zeros(Y.shape[1])
    Xc, Yc = X - x_mean, Y - y_mean
    gram = (Xc * w[:, np.newaxis]).T @ Xc + ridge * np.eye(X.shape[1])
    coef = np.linalg.solve(gram, (Xc * w[:, np.newaxis]).T @ Yc).T
    return coef, y_mean - coef @ x_mean


def one_hot(y, classes):
    """Targets of a classifier."""
    return (np.asarray(y)[:, np.newaxis] == np.asarray(classes)).astype(np.float64)


def relative_error(found, expected):
    """Frobenius norm of the difference over that of what was expected."""
    return np.linalg.norm(np.asarray(found) - expected) / max(np.linalg.norm(expected), 1e-300)
