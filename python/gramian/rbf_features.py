"""Radial features around centres that are given, or drawn from rows."""

import numpy as np

from . import _core, _validate
from ._feature_map import FeatureMap
from ._feature_rows import SAMPLE_SEED, dense_rows, pick_rows, sample_rows
from .base import draw_seed

TOO_FEW = ("all", "mix", "raise")
ORIGINS = ("given", "rows")

# Rows that the median distance is taken over.
_MEDIAN_ROWS = 1000


def unrecorded_origin(centers):
    """The ``origin`` for maps of versions that did not keep it: what may be made of rows must not pass for clean."""
    return "given" if isinstance(centers, (int, np.integer)) else "rows"


class _Reservoir:
    """The rows of the smallest priorities among all that came, in the order of these."""

    def __init__(self, count, key):
        self._count = count
        self._bits = np.random.Philox(key=key)  # one number a row, in the order in which rows come
        self._priorities = np.empty(0, dtype=np.uint64)
        self.rows = None
        self.seen = 0

    def add(self, rows):
        """Rows that come next."""
        fresh = self._bits.random_raw(rows.shape[0])
        self.seen += rows.shape[0]
        if len(self._priorities) == self._count:
            places = np.flatnonzero(fresh < self._priorities[-1])
        else:
            places = np.arange(rows.shape[0])
        places = places[np.argsort(fresh[places], kind="stable")[: self._count]]
        picked = pick_rows(rows, places)
        held = picked if self.rows is None else np.vstack([self.rows, picked])
        priorities = np.concatenate([self._priorities, fresh[places]])
        order = np.argsort(priorities, kind="stable")[: self._count]
        self.rows, self._priorities = held[order], priorities[order]


def _median_distance(rows, centers):
    """Median distance between up to 1000 rows and up to 1000 centres, pairs of equal points left out."""
    middle = centers.mean(axis=0)
    rows, centers = rows - middle, centers[:_MEDIAN_ROWS] - middle
    squares = (rows**2).sum(axis=1)[:, np.newaxis] + (centers**2).sum(axis=1) - 2 * (rows @ centers.T)
    positive = squares[squares > 1e-12 * max(squares.max(), 1e-300)]
    return float(np.sqrt(np.median(positive))) if positive.size else 1.0


class RBFFeatures(FeatureMap):
    """Radial features ``z_j = exp(-gamma |x - centre_j|^2)``.

    Parameters
    ----------
    centers : int or array-like of shape (k, d), default=100
        The centres, or how many rows to draw as centres, all rows of the first ``X`` having the same chance: those of
        ``fit``, or of the first ``partial_fit`` of a model, and of no later call. `from_stream` draws them from more.
    gamma : float or "median", default="median"
        "median" stands for ``1 / (2 sigma^2)`` with sigma the median distance between the centres and 1000 rows drawn
        from the ``X`` of ``fit``.
    random_state : int, RandomState, Generator or None, default=0
        Picks the rows, where ``centers`` is a number.
    too_few : {"all", "mix", "raise"}, default="all"
        Where ``X`` has fewer rows than ``centers``: take all rows and have fewer features; add convex mixtures of the
        rows (weights uniform on the simplex, so each mixture lies among them); or raise ValueError.
    origin : {"given", "rows"}, default="given"
        What given ``centers`` and ``gamma`` were made from: "rows" where they were drawn, clustered or otherwise
        computed from rows, as `from_stream` says of its own. The features are the same, but the record of `unlearn`
        does not call such a map clean. Without effect where ``centers`` is a number: those are rows.

    Attributes
    ----------
    centers_ : ndarray of shape (k, d)
    gamma_ : float
    n_features_in_ : int
    feature_names_in_ : ndarray of shape (n_features_in_,)
        Only where ``X`` has column names that are all strings.

    Notes
    -----
    2 n k d flops. Sums of kernel features cannot change their centres after the rows are gone, so a model has those it
    began with. They are part of a model and of its file: where they are rows of ``X``, so are these rows, and
    ``forget`` does not take them out. Which rows are drawn depends on the seed and the number of rows alone, by the
    keyed permutation of the row numbers, and never on where the rows stand. Reference: "GKEAL: Gaussian Kernel Embedded
    Analytic Learning for Few-Shot Class Incremental Task".

    Examples
    --------
    >>> import numpy as np
    >>> from gramian import RBFFeatures
    >>> RBFFeatures(centers=[[0.0], [1.0]], gamma=1.0).fit_transform([[0.0]]).round(4)
    array([[1.    , 0.3679]])
    """

    def __init__(self, centers=100, gamma="median", random_state=0, too_few="all", origin="given"):
        self.centers = centers
        self.gamma = gamma
        self.random_state = random_state
        self.too_few = too_few
        self.origin = origin

    @classmethod
    def from_stream(cls, batches, centers=100, gamma="median", random_state=0, too_few="all"):
        """A map whose centres are drawn from all rows of a stream: a first pass, before the one that learns.

        Parameters
        ----------
        batches : iterable of array-like or CSR matrix of shape (n_i, d)
            Taken once, one after the other; a generator will do.
        centers : int, default=100
            How many rows to draw, all of them having the same chance.
        gamma : float or "median", default="median"
            As for the map; the 1000 rows behind the median are drawn from the whole stream too.
        random_state : int, RandomState, Generator or None, default=0
        too_few : {"all", "mix", "raise"}, default="all"
            As for the map, where the stream has fewer rows than ``centers``.

        Returns
        -------
        RBFFeatures
            With the centres and the gamma as its parameters, so it is the same map in front of any model, and with
            ``origin="rows"``.

        Raises
        ------
        ValueError
            No rows, batches of different widths, NaN or infinity (names the batch and its row).

        Notes
        -----
        Each row has a priority that depends on the seed and its number in the stream alone, and those of the smallest
        priorities are kept: a uniform draw without replacement, the same however the rows are cut into batches. It is
        not the draw that ``fit`` makes, which knows the number of rows. Memory: centers + 1000 rows and a batch.

        Source: "Random Sampling with a Reservoir".

        Examples
        --------
        >>> import numpy as np
        >>> from gramian import RBFFeatures
        >>> rows = np.arange(1000.0)[:, np.newaxis]
        >>> drawn = RBFFeatures.from_stream(np.split(rows, 10), centers=5)
        >>> np.array_equal(drawn.centers, RBFFeatures.from_stream([rows], centers=5).centers)
        True
        """
        wanted, seed = _validate.check_count(centers, "centers"), draw_seed(random_state)
        if too_few not in TOO_FEW:
            raise ValueError(f"too_few must be one of {TOO_FEW}, got {too_few!r}")
        drawn, near = _Reservoir(wanted, (seed, 0)), _Reservoir(_MEDIAN_ROWS, (SAMPLE_SEED, 1))
        width = None
        for number, X in enumerate(batches):
            rows = _validate.check_rows(X, cls.__name__, min_rows=0)
            _validate.check_structure(rows)
            bad = _validate.first_bad_row(rows)
            if bad is not None:
                raise ValueError(f"batch {number} contains NaN or infinity, first in row {bad}")
            if width not in (None, rows.shape[1]):
                raise ValueError(f"a batch has {rows.shape[1]} features, those before it have {width}")
            width = rows.shape[1]
            for reservoir in (drawn, near):
                reservoir.add(rows)
        if drawn.seen == 0:
            raise ValueError("the stream has no rows to draw centres from")
        if wanted > drawn.seen and too_few == "raise":
            raise ValueError(f"centers is {wanted}, but the stream has only {drawn.seen} rows to draw them from")
        chosen = drawn.rows
        if wanted > drawn.seen and too_few == "mix":
            chosen = np.vstack([chosen, _core.convex_weights(seed, wanted - drawn.seen, drawn.seen) @ chosen])
        if isinstance(gamma, str) and gamma == "median":
            gamma = 0.5 / _median_distance(near.rows, chosen) ** 2
        return cls(chosen, gamma=gamma, random_state=random_state, too_few=too_few, origin="rows")

    def __setstate__(self, state):
        super().__setstate__({"origin": unrecorded_origin(state.get("centers")), **state})

    def _drawn_centers(self, rows):
        wanted, have, seed = _validate.check_count(self.centers, "centers"), rows.shape[0], draw_seed(self.random_state)
        if wanted > have and self.too_few == "raise":
            raise ValueError(f"centers is {wanted}, but X has only {have} rows to draw them from")
        places = _core.permutation_head(seed, have, min(wanted, have))
        centers = pick_rows(rows, np.asarray(places, dtype=np.int64))
        if wanted > have and self.too_few == "mix":
            centers = np.vstack([centers, _core.convex_weights(seed, wanted - have, have) @ centers])
        return centers

    def _fit_rows(self, rows):
        if self.too_few not in TOO_FEW:
            raise ValueError(f"too_few must be one of {TOO_FEW}, got {self.too_few!r}")
        if self.origin not in ORIGINS:
            raise ValueError(f"origin must be one of {ORIGINS}, got {self.origin!r}")
        if isinstance(self.centers, (int, np.integer)):
            centers = self._drawn_centers(rows)
        else:
            centers = self._given_centers()
            if centers.shape[1] != rows.shape[1]:
                raise ValueError(f"X has {rows.shape[1]} features, but the centers have {centers.shape[1]}")
        sample = dense_rows(sample_rows(rows, _MEDIAN_ROWS))
        if not (np.isfinite(centers).all() and np.isfinite(sample).all()):
            _validate.check_finite(rows)  # names the row as X has it
        if isinstance(self.gamma, str):
            if self.gamma != "median":
                raise ValueError(f"gamma must be a number > 0 or 'median', got {self.gamma!r}")
            gamma = 0.5 / _median_distance(sample, centers) ** 2
        else:
            gamma = _validate.check_number(self.gamma, "gamma", strict=True)
        self._take({"centers": np.ascontiguousarray(centers), "gamma": float(gamma)})

    def _given_centers(self):
        centers = _validate.check_rows(self.centers, "RBFFeatures", name="centers")
        _validate.check_structure(centers, "centers")
        _validate.check_finite(centers, "centers")
        return dense_rows(centers)

    def _can_have_made(self, fitted):
        # What was chosen by the rows that were there is not known any more.
        if isinstance(self.centers, (int, np.integer)):
            same = len(fitted.centers_) <= self.centers
        else:
            same = np.array_equal(self._given_centers(), fitted.centers_)
        return same and (isinstance(self.gamma, str) or self.gamma == fitted.gamma_)

    @staticmethod
    def _build(recipe):
        return _core.rbf_features(**recipe)

    @property
    def centers_(self):
        """The centres in use."""
        self._handle()
        return self._recipe["centers"]

    @property
    def gamma_(self):
        """The gamma in use."""
        self._handle()
        return self._recipe["gamma"]

    def _params_json(self):
        given = isinstance(self.centers, (int, np.integer))
        return {
            "centers": int(self.centers) if given else None,  # None: those of the map in the file
            "gamma": self.gamma if isinstance(self.gamma, str) else float(self.gamma),
            "too_few": self.too_few,
            "origin": self.origin,
        }
