"""Streams of labelled batches: old and new classes mixed, in unknown numbers."""

import numpy as np


class Stream:
    """Batches of one stream and rows to predict."""

    def __init__(self, seed, max_rows=2500):
        rng = np.random.default_rng([seed, 11])
        self.n_classes = int(rng.integers(2, 51))
        self.d = int(rng.integers(3, 61))
        names = rng.permutation(10 * self.n_classes)[: self.n_classes]
        self.means = rng.normal(size=(self.n_classes, self.d))
        self.batches, self.reappears = [], False
        unseen = list(rng.permutation(self.n_classes))
        seen = []
        rows = 0
        self.kinds = set()
        while unseen or rows < 2 * self.d or len(self.batches) < 5:
            kind = rng.choice(["mixed", "old", "new"])
            fresh = [] if kind == "old" and seen else unseen[: int(rng.integers(1, 1 + max(1, len(unseen))))]
            if kind == "new" and fresh:
                present = fresh
            else:
                present = seen + fresh
            size = int(rng.integers(1, 501))
            if rows + size > max_rows and not unseen and rows >= 2 * self.d:
                size = max(1, max_rows - rows)
            shares = rng.dirichlet(np.full(len(present), 0.5))
            places = rng.choice(present, size=size, p=shares)
            arrived = set(places.tolist())
            if arrived & set(seen):
                self.reappears = True
            new = arrived - set(seen)
            self.kinds.add("old" if not new else "new" if not (arrived & set(seen)) else "mixed")
            X = self.means[places] * 0.5 + rng.normal(size=(size, self.d)) + 1.0
            self.batches.append((X, names[places]))
            seen += sorted(new)
            unseen = [place for place in unseen if place not in new]
            rows += size
        places = rng.choice(seen, size=400)
        self.test = self.means[places] * 0.5 + rng.normal(size=(400, self.d)) + 1.0
        self.X = np.vstack([X for X, _ in self.batches])
        self.y = np.concatenate([y for _, y in self.batches])


def first_streams(count):
    """The streams of the numbers 0 .. count - 1."""
    return [Stream(seed) for seed in range(count)]
