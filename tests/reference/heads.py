"""Heads made of class moments, defined in plain NumPy on the rows themselves."""

import math

import numpy as np

below = np.vectorize(lambda z: math.erfc(-z / math.sqrt(2)) / 2, otypes=[float])  # the standard normal law


def density(z):
    """Density of the standard normal law."""
    return np.exp(-np.square(z) / 2) / math.sqrt(2 * math.pi)


def class_means(X, y, weight=None):
    """(classes, weights of the classes, their means)."""
    w = np.ones(len(X)) if weight is None else weight
    classes = np.unique(y)
    total = np.array([w[y == c].sum() for c in classes])
    return classes, total, np.array([w[y == c] @ X[y == c] / w[y == c].sum() for c in classes])


def pooled_covariance(X, y, shrinkage=0.0, weight=None):
    """Covariance of the rows around the means of their classes, divided by the weight of all rows."""
    w = np.ones(len(X)) if weight is None else weight
    classes, _, means = class_means(X, y, weight)
    Z = X - means[np.searchsorted(classes, y)]
    S = (Z * w[:, np.newaxis]).T @ Z / w.sum()
    return (1 - shrinkage) * S + shrinkage * np.trace(S) / len(S) * np.eye(len(S))


def mahalanobis(X, means, S):
    """Squared distances, one row and one class after the other."""
    inverse = np.linalg.inv(S)
    return np.array([[(x - m) @ inverse @ (x - m) for m in means] for x in X])


def discriminant(X, means, S, priors):
    """Scores of linear discriminant analysis."""
    coef = np.linalg.solve(S, means.T).T
    return X @ coef.T - 0.5 * np.sum(coef * means, axis=1) + np.log(priors)


def pooled_of_sums(X, y, point):
    """The pooled covariance from sums of (x - point)(x - point)' that rows enter one by one, and the means.

    Any point gives the same covariance but for rounding: what the sums hold beyond what varies is rounded away.
    """
    d = X.shape[1]
    G, s, labels = np.zeros((d, d)), {}, np.unique(y)
    for x, c in zip(X - point, y, strict=True):
        G += np.outer(x, x)
        s[c] = s.get(c, 0) + x
    counts = np.bincount(np.searchsorted(labels, y))
    total = sum(s.values())
    offsets = np.array([s[c] for c in labels]) / counts[:, np.newaxis] - total / len(y)
    S = G - np.outer(total, total) / len(y) - (offsets * counts[:, np.newaxis]).T @ offsets
    return S / len(y), offsets + total / len(y) + point


def long_distances(X, y):
    """`mahalanobis` of the rows to the means of their classes, all of it in extended precision."""
    X = X.astype(np.longdouble)
    labels = np.unique(y)
    means = np.array([X[y == c].mean(axis=0) for c in labels])
    Z = X - means[np.searchsorted(labels, y)]
    S = Z.T @ Z / len(X)
    L = np.zeros_like(S)
    for j in range(len(S)):
        L[j, j] = np.sqrt(S[j, j] - L[j, :j] @ L[j, :j])
        for i in range(j + 1, len(S)):
            L[i, j] = (S[i, j] - L[i, :j] @ L[j, :j]) / L[j, j]

    def whitened(rows):
        out = (rows - means.mean(axis=0)).T.copy()
        for i in range(len(L)):
            out[i] = (out[i] - L[i, :i] @ out[:i]) / L[i, i]
        return out.T

    between = whitened(X)[:, np.newaxis] - whitened(means)
    return (between**2).sum(axis=2)


def streamed_scatter(X, y, by_class=True):
    """Scatter within classes, updated row by row with the means as they were before the row.

    The gain of a row is n / (n + 1) with n the rows of its class so far. The update found in common code takes the rows
    of all classes for n (``by_class=False``), which is wrong.
    """
    d = X.shape[1]
    scatter, means, counts = np.zeros((d, d)), {}, {}
    for t, (x, c) in enumerate(zip(X, y, strict=False)):
        c = int(c)
        n = counts.get(c, 0)
        mean = means.get(c, np.zeros(d))
        gain = n / (n + 1) if by_class else t / (t + 1)
        scatter += gain * np.outer(x - mean, x - mean)
        means[c] = mean + (x - mean) / (n + 1)
        counts[c] = n + 1
    return scatter


def auroc(inside, outside):
    """Share of pairs in which the row in distribution has the higher score; ties count half."""
    values, places = np.unique(np.concatenate([inside, outside]), return_inverse=True)
    ins = np.bincount(places[: len(inside)], minlength=len(values))
    outs = np.bincount(places[len(inside) :], minlength=len(values))
    below = np.cumsum(outs) - outs
    return float(ins @ (below + 0.5 * outs) / (len(inside) * len(outside)))


def translated_rows(X, y, past):
    """FeTrIL's rows: those of X, and for each past centroid those of the present class whose centroid is most like it.

    past: dict of label -> centroid. Returns the rows and labels of the present classes and the pseudo classes.
    """
    classes, _, means = class_means(X, y)
    rows, labels = [X], [y]
    for label, centroid in sorted(past.items()):
        lengths = np.linalg.norm(means, axis=1)
        cosine = np.where(lengths > 0, means @ centroid / np.where(lengths > 0, lengths, 1.0), 0.0)
        like = int(np.argmax(cosine))
        rows.append(X[y == classes[like]] + (centroid - means[like]))
        labels.append(np.full((y == classes[like]).sum(), label))
    return np.vstack(rows), np.concatenate(labels)


def ridge_of_sums(n, s, t, G, Q, ridge, fit_intercept=True):
    """(coef, intercept) from sums over rows: n = sum 1, s = sum x, t = sum y, G = sum x x', Q = sum x y'."""
    if not fit_intercept:
        return np.linalg.solve(G + ridge * np.eye(len(G)), Q).T, np.zeros(len(t))
    W = np.linalg.solve(G - np.outer(s, s) / n + ridge * np.eye(len(G)), Q - np.outer(s, t) / n)
    return W.T, (t - W.T @ s) / n


def aligned(X, y, totals, ridge, covariance="full", fit_intercept=True):
    """SLCA's alignment: ridge on totals[c] rows' worth of N(mean_c, S_c), S_c of the class or of all classes."""
    classes, _, means = class_means(X, y)
    spread = [np.cov(X[y == c].T, bias=True) if covariance == "full" else pooled_covariance(X, y) for c in classes]
    totals = np.asarray(totals, dtype=np.float64)
    G = sum(w * (S + np.outer(m, m)) for w, S, m in zip(totals, spread, means, strict=True))
    Q = (means * totals[:, np.newaxis]).T
    return ridge_of_sums(totals.sum(), totals @ means, totals, G, Q, ridge, fit_intercept)


def topped_up(X, y, ridge, weight=None, fit_intercept=True):
    """AEF-OCL without its drawing: the rows, and m (mean mean' + diag(variance)) for the m rows that a class lacks."""
    w = np.ones(len(X)) if weight is None else weight
    classes, totals, means = class_means(X, y, weight)
    G, full = (X * w[:, np.newaxis]).T @ X, totals.max()
    for c, n, mean in zip(classes, totals, means, strict=True):
        variance = w[y == c] @ (X[y == c] - mean) ** 2 / n
        G = G + (full - n) * (np.outer(mean, mean) + np.diag(variance))
    filled = np.full(len(classes), full)
    return ridge_of_sums(filled.sum(), filled @ means, filled, G, (means * full).T, ridge, fit_intercept)


def rectified_moments(mean, covariance):
    """E z and E z z' for z = max(u, 0), u ~ N(mean, covariance), by one integral over the first of each pair.

    Given u_i, u_j is normal, and the mean of its positive part is known in closed form; what is left is integrated by
    60 nodes between 0, the kink that u_j >= 0 makes, and 12 deviations, cut where a strong correlation makes it sharp.
    """
    node, unit = np.polynomial.legendre.leggauss(60)
    scale = np.sqrt(np.diag(covariance))

    def positive(m, s):
        return m * below(m / s) + s * density(m / s) if s > 0 else max(m, 0.0)

    first = np.array([positive(m, s) for m, s in zip(mean, scale, strict=True)])
    second = np.outer(first, first)
    for i, j in zip(*np.tril_indices(len(mean)), strict=True):
        if scale[i] == 0 or scale[j] == 0:
            continue
        slope = covariance[i, j] / scale[i]
        rest = np.sqrt(max(scale[j] ** 2 - slope**2, 0.0)) if i != j else 0.0
        low, high = max(-mean[i] / scale[i], -12.0), 12.0
        kink = -mean[j] / slope if slope != 0 else 0.0
        width = rest / abs(slope) if slope != 0 else 1.0
        cuts = np.clip([low, high, 0, 4, *(kink + width * np.array([-9, -3, -1, 0, 1, 3, 9]))], low, high)
        total = 0.0
        for a, b in zip(np.sort(cuts)[:-1], np.sort(cuts)[1:], strict=True):
            z = (a + b) / 2 + (b - a) / 2 * node
            at = mean[j] + slope * z
            inner = at * below(at / rest) + rest * density(at / rest) if rest > 0 else np.maximum(at, 0)
            total += (b - a) / 2 * (unit @ ((mean[i] + scale[i] * z) * inner * density(z)))
        second[i, j] = second[j, i] = total
    return first, second


def topped_up_inputs(X, y, ridge, B, offset, weight=None, fit_intercept=True, rectify=True):
    """AEF-OCL in front of a map max(X B + offset, 0) (or of the same without max) without its drawing.

    The mapped rows, and for the m rows that a class lacks m times the moments of the mapped Gaussian of its rows.
    """
    w = np.ones(len(X)) if weight is None else weight
    Z = X @ B + offset
    Z = np.maximum(Z, 0) if rectify else Z
    classes, totals, means = class_means(X, y, weight)
    full, G, s = totals.max(), (Z * w[:, np.newaxis]).T @ Z, w @ Z
    Q = np.array([w[y == c] @ Z[y == c] for c in classes])
    for k, (c, n, mean) in enumerate(zip(classes, totals, means, strict=True)):
        variance = w[y == c] @ (X[y == c] - mean) ** 2 / n
        first, second = mean @ B + offset, B.T @ (variance[:, np.newaxis] * B)
        if rectify:
            first, second = rectified_moments(first, second)
        else:
            second = second + np.outer(first, first)
        G, s, Q[k] = G + (full - n) * second, s + (full - n) * first, Q[k] + (full - n) * first
    filled = np.full(len(classes), full)
    return ridge_of_sums(filled.sum(), s, filled, G, Q.T, ridge, fit_intercept)


def drawn_rows(X, y, copies, rng):
    """AEF-OCL as published: (rows, labels, weights) with Gaussian rows that are drawn, each `copies` times anew."""
    classes, totals, means = class_means(X, y)
    rows, labels, weights = [X], [y], [np.ones(len(X))]
    for c, n, mean in zip(classes, totals, means, strict=True):
        m = int(totals.max() - n) * copies
        rows.append(mean + X[y == c].std(axis=0) * rng.normal(size=(m, X.shape[1])))
        labels.append(np.full(m, c))
        weights.append(np.full(m, 1 / copies))
    return np.vstack(rows), np.concatenate(labels), np.concatenate(weights)


def combine_layers(inside, outside, ridge, steps=50):
    """(coef, intercept) of logistic regression on scaled scores, ridge / 2 |w|^2 in the loss, by Newton's method."""
    table = np.vstack([inside, outside])
    labels = np.repeat([1.0, 0.0], [len(inside), len(outside)])
    mean, deviation = table.mean(axis=0), table.std(axis=0)
    Z = np.hstack([(table - mean) / deviation, np.ones((len(table), 1))])
    penalty = ridge * np.diag([1.0] * table.shape[1] + [0.0])
    w = np.zeros(Z.shape[1])
    for _ in range(steps):
        p = 1 / (1 + np.exp(-Z @ w))
        step = np.linalg.solve((Z * (p * (1 - p))[:, np.newaxis]).T @ Z + penalty, Z.T @ (p - labels) + penalty @ w)
        w = w - step
    coef = w[:-1] / deviation
    return coef, w[-1] - coef @ mean


def oracle_shrinkage(S, n):
    """Oracle approximating shrinkage of a covariance of n rows towards its mean variance, from its entries."""
    d = len(S)
    trace = sum(S[j, j] for j in range(d))
    squares = sum(S[i, j] ** 2 for i in range(d) for j in range(d))
    spread = (n + 1) * (squares - trace**2 / d)
    return 1.0 if spread <= 0 else min(1.0, (squares + trace**2) / spread)


def ood_gradient(X, means, S):
    """Gradient of minus the squared distance to the nearest mean: -2 S^-1 (x - mean), one row after the other."""
    distances = mahalanobis(X, means, S)
    return np.array([-2 * np.linalg.solve(S, x - means[row.argmin()]) for x, row in zip(X, distances, strict=True)])


def short_scatter(blocks, rank):
    """(mean, B'B + D, bound) of rows whose scatter is cut to `rank` directions after every block, by SVD.

    What is cut leaves its squares on the diagonal D; the bound adds up the largest square of each cut.
    """
    d = blocks[0].shape[1]
    kept, diagonal, bound, seen = np.zeros((0, d)), np.zeros(d), 0.0, np.zeros((0, d))
    for rows in blocks:
        together = np.vstack([seen, rows])
        stack = np.vstack([kept, rows - rows.mean(axis=0)])
        if len(seen):
            way = rows.mean(axis=0) - seen.mean(axis=0)
            stack = np.vstack([stack, np.sqrt(len(seen) * len(rows) / len(together)) * way])
        _, s, V = np.linalg.svd(stack, full_matrices=False)
        directions = s[:, np.newaxis] * V
        kept, gone = directions[:rank], directions[rank:]
        diagonal = diagonal + (gone**2).sum(axis=0)
        bound += s[rank] ** 2 if len(s) > rank else 0.0
        seen = together
    return seen.mean(axis=0), kept.T @ kept + np.diag(diagonal), min(bound, diagonal.sum())
