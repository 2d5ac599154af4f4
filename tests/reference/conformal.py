"""Prediction intervals by as many fits as their definitions name, quantile repair and stacking by search."""

import fractions
import math

import numpy as np

from . import analytic, influence


def predictions(weights, X):
    """X @ coef.T + intercept."""
    coef, intercept = weights
    return X @ coef.T + intercept


def ranks(alpha, n):
    """(floor(alpha (n + 1)), ceil((1 - alpha) (n + 1))) of alpha as it reads in decimals."""
    a = fractions.Fraction(str(alpha))
    return math.floor(a * (n + 1)), math.ceil((1 - a) * (n + 1))


def kth_smallest(values, k):
    """The k-th smallest from 1; k = 0 gives -inf, k > n gives +inf."""
    if k < 1:
        return -np.inf
    return np.inf if k > len(values) else np.sort(values)[k - 1]


def left_out(X, y, ridge, queries, folds, fit_intercept=True):
    """(f_{-i}(queries) for each row i, residual of row i) by one fit per fold."""
    f, e = np.empty((len(X), len(queries))), np.empty(len(X))
    for fold in np.unique(folds):
        rows = np.flatnonzero(folds == fold)
        weights = influence.without(X, y, ridge, rows, fit_intercept=fit_intercept)
        f[rows] = predictions(weights, queries)[:, 0]
        e[rows] = y[rows] - predictions(weights, X[rows])[:, 0]
    return f, e


def jackknife_plus(X, y, ridge, queries, alpha, folds=None, minmax=False, fit_intercept=True):
    """(n_queries, 2) intervals from n (or one per fold) fits."""
    folds = np.arange(len(X)) if folds is None else folds
    f, e = left_out(X, y, ridge, queries, folds, fit_intercept)
    low, high = ranks(alpha, len(X))
    e = np.abs(e)
    out = np.empty((len(queries), 2))
    for j in range(len(queries)):
        if minmax:
            margin = kth_smallest(e, high)
            out[j] = f[:, j].min() - margin, f[:, j].max() + margin
        else:
            out[j] = kth_smallest(f[:, j] - e, low), kth_smallest(f[:, j] + e, high)
    return out


def conforms(X, y, ridge, query, candidate, alpha, deleted, fit_intercept=True):
    """Is the candidate target of the query in the full conformal set? One fit on n + 1 rows."""
    Xa, ya = np.vstack([X, query]), np.append(y, candidate)
    scores = np.abs(ya - predictions(analytic.ridge(Xa, ya, ridge, fit_intercept=fit_intercept), Xa)[:, 0])
    if deleted:
        scores = scores / (1 - np.diag(influence.hat_matrix(Xa, ridge, fit_intercept=fit_intercept)))
    # The added row counts itself; ties are ties of the mathematics, not of rounding.
    at_least = (scores[:-1] >= scores[-1] * (1 - 1e-12)).sum() + 1
    return at_least > ranks(alpha, len(X))[0]


def isotonic(row):
    """The nearest rising sequence in least squares, by the min-max formula."""
    n = len(row)
    return np.array([max(min(np.mean(row[i : j + 1]) for j in range(k, n)) for i in range(k + 1)) for k in range(n)])


def weighted_interval_score(y, quantiles, levels):
    """Mean over rows: pairs of levels t and 1 - t by width plus penalty, weighted by their 2 t / 2, and the median."""
    total, terms = np.zeros(len(y)), 0
    for k, t in enumerate(levels):
        if t < 0.5:
            low, high = quantiles[:, k], quantiles[:, len(levels) - 1 - k]
            a = 2 * t
            score = (high - low) + 2 / a * np.maximum(low - y, 0) + 2 / a * np.maximum(y - high, 0)
            total += a / 2 * score
            terms += 1
        elif t == 0.5:
            total += 0.5 * np.abs(y - quantiles[:, k])
            terms += 0.5
    return (total / terms).mean()


def class_p_values(X, y, classes, ridge, query, by_class):
    """p-value of each candidate class: one fit on n + 1 rows for each, and one more for each row that is judged."""
    out = []
    for label in classes:
        Xa, ya = np.vstack([X, query]), np.append(y, label)
        targets = analytic.one_hot(ya, classes)
        own = np.searchsorted(classes, ya)
        rows = np.flatnonzero(ya == label) if by_class else np.arange(len(ya))
        errors = [
            1 - predictions(influence.without(Xa, targets, ridge, [row]), Xa[row : row + 1])[0, own[row]]
            for row in rows
        ]
        out.append(np.mean(np.array(errors) >= errors[-1] - 1e-12))
    return np.array(out)


def stacking_weights(errors):
    """The weights >= 0 of sum 1 that make |errors @ w|^2 least: least squares on every set of models there is.

    errors: (n, m). On a set the optimum under sum 1 is A^-1 1 / (1' A^-1 1), A = E'E; the best feasible set wins.
    """
    A = errors.T @ errors
    m = len(A)
    best, best_loss = None, np.inf
    for members in range(1, 2**m):
        chosen = [k for k in range(m) if members >> k & 1]
        w = np.linalg.solve(A[np.ix_(chosen, chosen)], np.ones(len(chosen)))
        w = w / w.sum()
        if (w < 0).any():
            continue
        full = np.zeros(m)
        full[chosen] = w
        if (loss := full @ A @ full) < best_loss:
            best, best_loss = full, loss
    return best


def repaired(q, how):
    """Quantiles of each row in rising order: sorted, or the nearest rising sequence. Infinite ends stay in place."""
    out = np.array([sorted(row) if how == "sort" else row for row in q])
    for row in out if how == "isotonic" else ():
        row[np.isfinite(row)] = isotonic(row[np.isfinite(row)])
    return out


def _least_that_covers(gaps, share):
    """The least of these gaps that so many of len(gaps) + 1 rows do not exceed, by counting; infinity if none is."""
    wanted = fractions.Fraction(str(share)) if not isinstance(share, fractions.Fraction) else share
    for gap in sorted(gaps):
        if sum(other <= gap for other in gaps) >= wanted * (len(gaps) + 1):
            return gap
    return np.inf


def calibrated_shifts(q, y, levels, how):
    """What calibration adds to each quantile: "levels" each by itself, "pairs" the levels t and 1 - t together."""
    shifts = np.zeros(len(levels))
    for k, level in enumerate(levels):
        if how == "levels":
            shifts[k] = _least_that_covers([target - row[k] for target, row in zip(y, q, strict=True)], level)
        elif level < 0.5:
            other = len(levels) - 1 - k
            outside = [max(row[k] - target, target - row[other]) for target, row in zip(y, q, strict=True)]
            margin = _least_that_covers(outside, 1 - 2 * fractions.Fraction(str(level)))
            shifts[k], shifts[other] = -margin, margin
    return shifts


def pinball(y, q, levels):
    """Mean over rows and levels of t (y - q) above and (1 - t) (q - y) below."""
    losses = [
        t * (target - one) if target >= one else (1 - t) * (one - target)
        for target, row in zip(y, q, strict=True)
        for t, one in zip(levels, row, strict=True)
    ]
    return float(np.mean(losses))
