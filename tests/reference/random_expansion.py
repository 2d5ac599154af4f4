"""Published random-expansion learners as their formulas and their code's arithmetic say, in plain NumPy."""

import numpy as np

PUBLISHED_RIDGES = 10.0 ** np.arange(-8, 9)


def published_losses(Z, Y, fraction=0.2, ridges=PUBLISHED_RIDGES):
    """Mean squared errors of the last rows for weights of the other rows, one LU solve a ridge."""
    kept = int(len(Z) * (1 - fraction))
    Q, G = Z[:kept].T @ Y[:kept], Z[:kept].T @ Z[:kept]
    losses = []
    for ridge in ridges:
        W = np.linalg.solve(G + ridge * np.eye(G.shape[0], dtype=G.dtype), Q)
        losses.append(np.mean((Y[kept:] - Z[kept:] @ W) ** 2))
    return np.array(losses)


def published_weights(tasks, ridges=PUBLISHED_RIDGES):
    """(W, ridge) after some tasks (Z, Y): the ridge of the last task, the sums of all."""
    G, Q = sum(Z.T @ Z for Z, _ in tasks), sum(Z.T @ Y for Z, Y in tasks)
    ridge = ridges[np.argmin(published_losses(*tasks[-1], ridges=ridges))]
    return np.linalg.solve(G + ridge * np.eye(len(G)), Q), ridge


def moment_error(G, Q, energy, n, W):
    """tr(W'GW) - 2 tr(W'Q) + sum y^2, per row and output."""
    return (np.sum(W * (G @ W)) - 2 * np.sum(W * Q) + energy) / (n * W.shape[1])


def prototypes(X, y, ridge):
    """Decorrelated class prototypes: the Gram matrix of all rows inverted on the sums of each class."""
    Y = (np.asarray(y)[:, np.newaxis] == np.unique(y)).astype(np.float64)
    return np.linalg.solve(X.T @ X + ridge * np.eye(X.shape[1]), X.T @ Y)


def truncated(batches, rank, d):
    """(basis, singular values, dropped energy): SVD of the kept directions over each batch, cut to ``rank``."""
    V, s, dropped = np.zeros((0, d)), np.zeros(0), 0.0
    for X in batches:
        _, s, V = np.linalg.svd(np.vstack([s[:, np.newaxis] * V, X]), full_matrices=False)
        dropped += (s[rank:] ** 2).sum()
        s, V = s[:rank], V[:rank]
    return V, s, dropped


def fused(X, widths, maps, mode):
    """Blocks of columns through functions, side by side or averaged."""
    starts = np.cumsum([0, *widths])
    parts = [maps[k](X[:, starts[k] : starts[k + 1]]) for k in range(len(widths))]
    return np.mean(parts, axis=0) if mode == "mean" else np.hstack(parts)


def valley_search(scores):
    """Places that a Fibonacci search of a curve looks at; behind its end the curve is higher than anywhere."""
    size, looked = len(scores), []

    def at(place):
        if place >= size:
            return np.inf
        if place not in looked:
            looked.append(place)
        return scores[place]

    numbers = [1, 2]
    while numbers[-1] < size + 1:
        numbers.append(numbers[-1] + numbers[-2])
    low, k = -1, len(numbers) - 1  # the lowest place lies in low + 1 .. low + numbers[k] - 1
    while k >= 2:
        left, right = low + numbers[k - 2], low + numbers[k - 1]
        if right >= size or at(left) < at(right):
            k -= 1
        else:
            low = left
            k -= 1
    at(low + 1)
    return sorted(looked)


def is_valley(scores, flat=1e-6):
    """Falls to its smallest value and rises from there; what is nearly equal counts as either."""
    lowest = int(np.argmin(scores))
    falls = all(b <= a + flat * abs(a) for a, b in zip(scores[:lowest], scores[1 : lowest + 1], strict=True))
    return falls and all(a <= b + flat * abs(b) for a, b in zip(scores[lowest:], scores[lowest + 1 :], strict=False))


def coarse_to_fine(scores):
    """(places looked at, best place): the search, or all places where what it saw has a second valley."""
    places = valley_search(scores) if len(scores) > 3 else list(range(len(scores)))
    if not is_valley([scores[place] for place in places]):
        places = list(range(len(scores)))
    return places, min(places, key=lambda place: scores[place])


def stream_centres(rows, count, seed):
    """The rows of the smallest numbers of a generator that gives one to each row of a stream, in that order."""
    priorities = np.random.Philox(key=(seed, 0)).random_raw(len(rows))
    return rows[np.argsort(priorities)[:count]]
