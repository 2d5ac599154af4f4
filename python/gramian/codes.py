"""Target codes: what a head shall give for each class, bin or row that several annotators labelled.

A classifier on one-hot targets keeps a column per class. With a code of m columns it keeps m, whatever the number of
classes, and decodes by the largest inner product.
"""

import base64

import numpy as np

from . import _core, _validate
from .base import draw_seed, thread_count

_SWEEPS = 300
# Inner products behind a coherence that is worth computing for a representation alone.
_CHEAP_PRODUCTS = 2_000_000
# Codes looked at together when scores are decoded.
_TILE = 4096


class TargetCode:
    """Unit vectors, one per class: row k is the target of class k.

    Made by `one_hot`, `simplex`, `equiangular`, `random` and `custom` of this module.

    Attributes
    ----------
    kind : str
        "one_hot", "simplex", "equiangular", "random" or "custom".
    vectors : ndarray of shape (n_codes, dim), float64, read-only
    coherence : float
        The largest absolute inner product of two codes: how much one class can speak for another. 2 n_codes^2 dim
        flops when it is first asked for.
    welch_bound : float
        What no code of this size can go below.
    """

    def __init__(self, kind, vectors, seed=None, sweeps=None, coherence=None):
        self.kind = kind
        self.vectors = np.ascontiguousarray(vectors, dtype=np.float64)
        self.vectors.flags.writeable = False
        self._seed = seed
        self._sweeps = sweeps
        self._coherence = coherence

    def __len__(self):
        return self.vectors.shape[0]

    @property
    def n_codes(self):
        """Number of codes."""
        return self.vectors.shape[0]

    @property
    def dim(self):
        """Length of a code."""
        return self.vectors.shape[1]

    @property
    def coherence(self):
        """The largest inner product of two codes, without its sign."""
        if self._coherence is None:
            self._coherence = _core.code_coherence(self.vectors, 0)
        return self._coherence

    @property
    def welch_bound(self):
        """sqrt((n - m) / (m (n - 1))) for n > m codes of m entries, else 0."""
        return _core.welch_bound(self.n_codes, self.dim)

    @property
    def can_grow(self):
        """Whether there is room for any number of further codes."""
        return self.kind in ("equiangular", "random")

    def __repr__(self):
        known = self._coherence is not None or self.n_codes**2 * self.dim <= _CHEAP_PRODUCTS
        coherence = f"{self.coherence:.4g}" if known else "not computed"
        return (
            f"TargetCode(kind={self.kind!r}, n_codes={self.n_codes}, dim={self.dim}, coherence={coherence}, "
            f"welch_bound={self.welch_bound:.4g})"
        )

    def __eq__(self, other):
        if not isinstance(other, TargetCode):
            return NotImplemented
        return self.kind == other.kind and np.array_equal(self.vectors, other.vectors)

    __hash__ = None

    def __array__(self, dtype=None, copy=None):
        if copy or (dtype is not None and np.dtype(dtype) != self.vectors.dtype):
            return self.vectors.astype(dtype or self.vectors.dtype)
        return self.vectors

    def grow(self, n_codes):
        """The code with further ones behind those there are, which stay the same bits.

        Parameters
        ----------
        n_codes : int
            Of the new code.

        Returns
        -------
        TargetCode
            This one, where it is long enough.

        Raises
        ------
        ValueError
            One-hot, simplex and custom codes have no room for more.

        Notes
        -----
        An equiangular code that grew is a little worse than one designed at once: only the new codes move.
        """
        n_codes = _validate.check_count(n_codes, "n_codes")
        if n_codes <= self.n_codes:
            return self
        if self.kind == "random":
            more = _core.random_code(self._seed, self.n_codes, n_codes - self.n_codes, self.dim)
            return TargetCode("random", np.vstack([self.vectors, more]), self._seed)
        if self.kind == "equiangular":
            vectors, coherence = _core.equiangular_code(self._seed, self._sweeps, self.vectors, n_codes, 0)
            return TargetCode("equiangular", vectors, self._seed, self._sweeps, coherence)
        raise ValueError(
            f"a {self.kind} code of {self.n_codes} codes has no room for {n_codes}: make it for all classes that may "
            "come (code_dim, or classes= of the first partial_fit), or take an equiangular or random one"
        )

    def encode(self, y):
        """Targets.

        Parameters
        ----------
        y : array-like of int of shape (n,), or of float of shape (n, n_codes)
            Numbers of codes, or weights of the codes (soft labels).

        Returns
        -------
        ndarray of shape (n, dim)
        """
        y = np.asarray(y)
        if y.ndim == 2:
            if y.shape[1] != self.n_codes:
                raise ValueError(f"y has {y.shape[1]} columns for {self.n_codes} codes")
            return y.astype(np.float64) @ self.vectors
        if y.ndim != 1 or y.dtype.kind not in "iu":
            raise ValueError(f"y must hold numbers of codes, got {y.dtype} of shape {y.shape}")
        wrong = (y < 0) | (y >= self.n_codes)
        if wrong.any():
            row = int(np.argmax(wrong))
            raise ValueError(f"y has {y[row]} in row {row}, but there are {self.n_codes} codes")
        return self.vectors[y]

    def decode(self, scores, n_jobs=None):
        """The code of the largest inner product with each row, the first of equals.

        Parameters
        ----------
        scores : array-like of shape (n, dim)
        n_jobs : int, default=None

        Returns
        -------
        ndarray of int64 of shape (n,)

        Notes
        -----
        2 n n_codes dim flops; codes are looked at 4096 at a time.
        """
        scores = _validate.check_rows(scores, "decode", name="scores")
        return decode(scores, self.vectors, "cpu", thread_count(n_jobs))

    def _as_json(self):
        drawn = self.kind == "random"
        data = None if drawn else base64.b64encode(self.vectors.astype("<f8").tobytes()).decode("ascii")
        return {
            "kind": self.kind,
            "n_codes": self.n_codes,
            "dim": self.dim,
            "seed": None if self._seed is None else str(self._seed),
            "sweeps": self._sweeps,
            "vectors": data,
        }

    @classmethod
    def _from_json(cls, json):
        kind, n, dim = json["kind"], int(json["n_codes"]), int(json["dim"])
        if kind not in ("one_hot", "simplex", "equiangular", "random", "custom") or n < 1 or dim < 1:
            raise ValueError(f"a code of kind {kind!r} and shape {(n, dim)}")
        seed = None if json["seed"] is None else draw_seed(int(json["seed"]))
        if kind == "random":
            return cls(kind, _core.random_code(seed, 0, n, dim), seed)
        vectors = np.frombuffer(base64.b64decode(json["vectors"], validate=True), dtype="<f8").reshape(n, dim)
        if not np.isfinite(vectors).all() or (kind == "equiangular") != (seed is not None):
            raise ValueError("a damaged code")
        return cls(kind, vectors.astype(np.float64), seed, json["sweeps"])


def decode(scores, vectors, device, threads):
    """Places among ``vectors`` of the largest inner products.

    Source: textbook identity: of unit vectors these are the nearest.
    """
    scan = _core.LabelScan(scores, "float64", device, threads)
    for begin in range(0, vectors.shape[0], _TILE):
        scan.take(begin, vectors[begin : begin + _TILE], True, -1.0, None)
    return scan.labels


def one_hot(n_codes):
    """The axes: an orthogonal code of as many dimensions as classes.

    Parameters
    ----------
    n_codes : int

    Returns
    -------
    TargetCode

    Notes
    -----
    Source: textbook identity, the axes.
    """
    return TargetCode("one_hot", np.eye(_validate.check_count(n_codes, "n_codes")))


def simplex(n_codes):
    """The corners of a regular simplex in ``n_codes - 1`` dimensions, inner products ``-1 / (n_codes - 1)``.

    For ridge regression it predicts exactly what one-hot targets do: inner products with the codes are one-hot scores
    times a constant, plus a number that is the same for all classes of a row. It is for features that must stay
    comparable while classes come, since no code ever moves.

    Parameters
    ----------
    n_codes : int
        At least 2.

    Returns
    -------
    TargetCode

    Notes
    -----
    Reference: "Stationary Representations: Optimally Approximating Compatibility and Implications for Improved Model
    Replacements".
    """
    return TargetCode("simplex", _core.simplex_code(_validate.check_count(n_codes, "n_codes", 2)))


def equiangular(n_codes, dim, random_state=0, sweeps=_SWEEPS, n_jobs=None):
    """Many codes in few dimensions, as far from parallel as descent finds.

    Parameters
    ----------
    n_codes : int
    dim : int
        At least 2. With ``dim >= n_codes`` the code is orthogonal, with ``dim = n_codes - 1`` a simplex.
    random_state : int, RandomState, Generator or None, default=0
        Of the directions that the descent begins with. The same seed gives the same code, for any number of threads.
    sweeps : int, default=300
    n_jobs : int, default=None

    Returns
    -------
    TargetCode
        Its representation shows the coherence reached beside the Welch bound.

    Notes
    -----
    ``4 n_codes^2 dim sweeps`` flops; memory for some million inner products. Beyond ten thousand codes, `random` is
    nearly as good for its price. References: "Equiangular Basis Vectors" (the idea); "Lower Bounds on the Maximum
    Cross Correlation of Signals" (the bound).
    """
    n_codes = _validate.check_count(n_codes, "n_codes")
    dim = _validate.check_count(dim, "dim", 2)
    sweeps = _validate.check_count(sweeps, "sweeps", 0)
    seed = draw_seed(random_state)
    vectors, coherence = _core.equiangular_code(seed, sweeps, np.empty((0, dim)), n_codes, thread_count(n_jobs))
    return TargetCode("equiangular", vectors, seed, sweeps, coherence)


def random(n_codes, dim, random_state=0):
    """Directions drawn evenly: nothing to design, so good for a million classes.

    Parameters
    ----------
    n_codes : int
    dim : int
        At least 2.
    random_state : int, RandomState, Generator or None, default=0

    Returns
    -------
    TargetCode
        Code k is a function of the seed and k alone.

    Notes
    -----
    Source: textbook identity: inner products of even directions have the variance 1 / dim.
    """
    n_codes = _validate.check_count(n_codes, "n_codes")
    dim = _validate.check_count(dim, "dim", 2)
    seed = draw_seed(random_state)
    return TargetCode("random", _core.random_code(seed, 0, n_codes, dim), seed)


def custom(vectors):
    """A code of your own.

    Parameters
    ----------
    vectors : array-like of shape (n_codes, dim)
        Of length 1 up to rounding: decoding by inner products needs that.

    Returns
    -------
    TargetCode

    Notes
    -----
    Source: textbook identity: the nearest of unit vectors is that of the largest inner product.
    """
    vectors = np.asarray(vectors, dtype=np.float64)
    if vectors.ndim != 2 or 0 in vectors.shape:
        raise ValueError(f"code must be an array of shape (n_codes, dim), got shape {vectors.shape}")
    _validate.check_finite(vectors, "code")
    lengths = np.linalg.norm(vectors, axis=1)
    wrong = np.abs(lengths - 1) > 1e-6
    if wrong.any():
        row = int(np.argmax(wrong))
        raise ValueError(f"codes must be unit vectors, row {row} has length {lengths[row]:.6g}")
    return TargetCode("custom", vectors.copy())


class SoftBins:
    """Numbers as distributions over bins, and back. Made by `soft_bins`.

    Attributes
    ----------
    centres : ndarray of shape (n_bins,)
    width : float
    """

    def __init__(self, centres, width):
        self.centres = centres
        self.width = width

    def __repr__(self):
        low, high = self.centres[0], self.centres[-1]
        return f"SoftBins({len(self.centres)} bins from {low:g} to {high:g}, width={self.width:g})"

    def encode(self, y, n_jobs=None):
        """Distributions.

        Parameters
        ----------
        y : array-like of shape (n,)
        n_jobs : int, default=None

        Returns
        -------
        ndarray of shape (n, n_bins)
            Rows sum to 1.
        """
        y = np.asarray(y, dtype=np.float64)
        if y.ndim != 1:
            raise ValueError(f"y must have one dimension, got an array of shape {y.shape}")
        return _core.soft_bins(y, self.centres.tolist(), self.width, thread_count(n_jobs))

    def decode(self, P, rule="mean"):
        """Numbers from weights of bins.

        Parameters
        ----------
        P : array-like of shape (n, n_bins)
            Distributions, or scores of a head fitted on some.
        rule : {"mean", "median", "mode"}, default="mean"
            "mean" is linear, so a ridge head on bins of width 0 predicts what a head on the numbers themselves does;
            "median" (the first centre with half of the weight at or below it) and "mode" are not.

        Returns
        -------
        ndarray of shape (n,)
        """
        P = np.asarray(P, dtype=np.float64)
        if P.ndim != 2 or P.shape[1] != len(self.centres):
            raise ValueError(f"P must have shape (n, {len(self.centres)}), got {P.shape}")
        if rule == "mean":
            return P @ self.centres
        if rule == "mode":
            return self.centres[np.argmax(P, axis=1)]
        if rule == "median":
            below = np.cumsum(P, axis=1)
            return self.centres[np.argmax(below >= 0.5 * below[:, -1:], axis=1)]
        raise ValueError(f"rule must be 'mean', 'median' or 'mode', got {rule!r}")


def soft_bins(centres, width=0.0):
    """Regression targets as soft histograms.

    Parameters
    ----------
    centres : array-like of shape (n_bins,)
        Ascending, two or more.
    width : float, default=0.0
        0 shares a number between the two centres around it, so that their mean gives it back; numbers beyond the ends
        belong to the last centre. Otherwise the standard deviation of a normal distribution around the number, each
        centre getting the part that falls nearest to it.

    Returns
    -------
    SoftBins

    Notes
    -----
    n n_bins operations. Reference: "Stop Regressing: Training Value Functions via Classification for Scalable Deep RL".
    """
    centres = np.asarray(centres, dtype=np.float64)
    if centres.ndim != 1 or len(centres) < 2:
        raise ValueError(f"centres must be two or more numbers, got an array of shape {centres.shape}")
    if not np.isfinite(centres).all() or not (np.diff(centres) > 0).all():
        raise ValueError("centres must be finite and ascending")
    return SoftBins(centres.copy(), _validate.check_number(width, "width"))


def soft_labels(votes, n_classes=None, method="average", weights=None, n_jobs=None):
    """Labels of several annotators as one distribution per row.

    Parameters
    ----------
    votes : array-like of int of shape (n, n_annotators)
        Classes 0, 1, ..., or -1 where an annotator gave none.
    n_classes : int, default=None
        None for the largest vote and one.
    method : {"average", "majority", "one_coin"}, default="average"
        "average": shares of the votes. "majority": all to the most frequent class, evenly among equals. "one_coin":
        how often each annotator is right is estimated from agreements, and a row gets the posterior of its class.
    weights : array-like of shape (n_annotators,), default=None
        Of the votes, >= 0; not for "one_coin", which finds its own.
    n_jobs : int, default=None

    Returns
    -------
    labels : ndarray of shape (n, n_classes)
        Rows sum to 1; a row without votes is even.
    accuracies : ndarray of shape (n_annotators,) or None
        Of "one_coin".

    Notes
    -----
    "one_coin" holds where errors are independent and even over the wrong classes, and annotators beat chance; it needs
    three annotators that share rows pairwise, n n_annotators^2 operations, and no iteration. Reference: "Maximum
    Likelihood Estimation of Observer Error-Rates Using the EM Algorithm" (the model).
    """
    votes = np.asarray(votes)
    if votes.ndim != 2 or votes.shape[1] == 0 or votes.dtype.kind not in "iu":
        raise ValueError(
            f"votes must be whole numbers of shape (n, n_annotators), got {votes.dtype} of shape {votes.shape}"
        )
    votes = votes.astype(np.int64)
    if n_classes is None:
        n_classes = int(votes.max(initial=-1)) + 1
    n_classes = _validate.check_count(n_classes, "n_classes")
    threads = thread_count(n_jobs)
    if method == "one_coin":
        if weights is not None:
            raise ValueError("weights are not for method='one_coin', which estimates them")
        return _core.vote_posteriors(votes, n_classes, threads)
    if method not in ("average", "majority"):
        raise ValueError(f"method must be 'average', 'majority' or 'one_coin', got {method!r}")
    weights = np.ones(votes.shape[1]) if weights is None else np.asarray(weights, dtype=np.float64)
    if weights.shape != (votes.shape[1],):
        raise ValueError(f"weights must have shape {(votes.shape[1],)}, got {weights.shape}")
    return _core.vote_shares(votes, weights.tolist(), method == "majority", n_classes, threads), None
