"""Leaving rows out of ridge regression by fitting again without them, and what is said instead of it."""

import numpy as np

from . import analytic


def without(X, Y, ridge, gone, weight=None, fit_intercept=True):
    """(coef, intercept) of the fit on the rows that are not in ``gone``."""
    keep = np.setdiff1d(np.arange(len(X)), gone)
    weight = None if weight is None else np.asarray(weight)[keep]
    return analytic.ridge(X[keep], np.asarray(Y)[keep], ridge, weight, fit_intercept)


def hat_matrix(X, ridge, weight=None, fit_intercept=True):
    """H of the weighted rows, so that sqrt(w) yhat = H sqrt(w) y; the intercept is a column that no ridge shrinks."""
    w = np.ones(len(X)) if weight is None else np.asarray(weight, dtype=np.float64)
    # Around the mean the intercept is orthogonal to the rest, and A keeps the digits of the rows.
    P = analytic.Problem(X, np.zeros(len(X)), w, fit_intercept)
    H = P.X @ np.linalg.solve(P.gram(ridge), P.X.T)
    return H + np.outer(np.sqrt(w), np.sqrt(w)) / w.sum() if fit_intercept else H


def smallest_left_over(X, ridge, gone, weight=None, fit_intercept=True):
    """The smallest eigenvalue of I - H_SS."""
    H = hat_matrix(X, ridge, weight, fit_intercept)[np.ix_(gone, gone)]
    return np.linalg.eigvalsh(np.eye(len(gone)) - H)[0]


def additive_effect(X, Y, ridge, gone, queries):
    """What adding up the effects of single rows says the group does to f(queries): the interaction is left out."""
    coef, intercept = analytic.ridge(X, Y, ridge)
    total = 0.0
    for row in gone:
        new_coef, new_intercept = without(X, Y, ridge, [row])
        total = total + queries @ (new_coef - coef).T + (new_intercept - intercept)
    return total


def greedy(X, Y, ridge, queries, wanted, count):
    """(rows, losses): one row after the other, each the one whose removal lowers the squared error most, by refits."""
    gone, losses = [], []
    for _ in range(count):
        tried = {}
        for row in range(len(X)):
            if row not in gone:
                coef, intercept = without(X, Y, ridge, [*gone, row])
                tried[row] = ((wanted - queries @ coef.T - intercept) ** 2).sum()
        best = min(tried, key=tried.get)
        gone.append(best)
        losses.append(tried[best])
    return np.array(gone), np.array(losses)


def membership_advantage(members, strangers):
    """What a threshold on the losses tells of who was in the training set: the largest |TPR - FPR|.

    0 for equal distributions, 1 for losses that a threshold parts completely.
    """
    thresholds = np.concatenate([members, strangers])
    below = [(np.asarray(losses)[:, np.newaxis] <= thresholds).mean(axis=0) for losses in (members, strangers)]
    return float(np.abs(below[0] - below[1]).max())
