"""Sums over rows that can be added, removed, merged and solved: the state behind every closed-form learner."""

import os
from dataclasses import dataclass, fields

import numpy as np

from . import _core, _validate
from .base import thread_count, warn_rank_deficient


@dataclass(frozen=True)
class SolveReport:
    """How one solve went.

    Attributes
    ----------
    method : str
        "cholesky", "cholesky_mixed" (single precision factor, refined in double), "cholesky_updated" (the factor
        followed the rows: ``low_latency=True``), "eigh" (where Cholesky cannot answer), "zero" (no
        rows) or "loaded" (a file of weights that does not say how they were solved, as the first ones do not).
    form : str
        "primal" (features x features) or "dual" (rows x rows).
    fallback : str
        Why the method is not the first choice, "" if it is.
    ridge : float
        The ridge used.
    size, rank : int
        Order of the system solved and its numerical rank.
    condition : float
        Estimate of its condition number; of "cholesky_updated" when the factor was last made; 0 where a file does not
        say, as those of ``save(what="nested")`` do not.
    residual : float
        Scaled backward residual; of "cholesky_updated" when it was last looked at.
    refinements : int
        Sweeps of iterative refinement.
    removal_bound : float
        Bound of the relative weight error that removals caused, 0 if nothing was removed; of "cholesky_updated" when it
        was last looked at. Infinite for weights of zero.
    seconds : float
        Wall time of factor and solve, 0 of weights from a file.
    updates : int
        Rows that the factor has followed since it was last made from the sums.
    anchors : int
        How often a factor that follows its rows was made from the sums.
    """

    method: str
    form: str
    fallback: str
    ridge: float
    size: int
    rank: int
    condition: float
    residual: float
    refinements: int
    removal_bound: float
    seconds: float
    updates: int = 0
    anchors: int = 0

    def __str__(self):
        lines = [f"{field.name:>13}: {getattr(self, field.name)}" for field in fields(self)]
        return "SolveReport\n" + "\n".join(lines)


@dataclass(frozen=True, eq=False)
class Solution:
    """Weights of one solve: ``Y ~ X @ coef.T + intercept``.

    Attributes
    ----------
    coef : ndarray of shape (n_outputs, n_features)
    intercept : ndarray of shape (n_outputs,)
        Zeros without intercept.
    report : SolveReport
    """

    coef: np.ndarray
    intercept: np.ndarray
    report: SolveReport

    def __repr__(self):
        return f"Solution(coef of shape {self.coef.shape}, ridge={self.report.ridge:g}, method={self.report.method!r})"


@dataclass(frozen=True, eq=False)
class GcvCurve:
    """Generalised cross-validation over a grid of ridges.

    Attributes
    ----------
    ridges, scores, degrees_of_freedom : ndarray of shape (n_ridges,)
        The grid, the score of each ridge (lower is better) and the trace of its hat matrix, the intercept counted.
    best : int
        Place of the lowest score. Where that is no more than the rounding of its sums, nothing tells such scores apart:
        of them, the place of the smallest ridge.
    at_edge : bool
        Whether the best is the first or the last of the grid, so that a wider grid may do better.
    method : str
        "eigh" or "cholesky".
    """

    ridges: np.ndarray
    scores: np.ndarray
    degrees_of_freedom: np.ndarray
    best: int
    at_edge: bool
    method: str

    @property
    def ridge(self):
        """The best ridge."""
        return float(self.ridges[self.best])


@dataclass(frozen=True, eq=False)
class HoldoutCurve:
    """Squared errors of held-out rows over a grid of ridges.

    Attributes
    ----------
    ridges : ndarray of shape (n_ridges,)
    scores : ndarray of shape (n_ridges,)
        Mean squared error per output; NaN where the search did without, infinity where the system is singular.
    best : int
        Place of the lowest score, as in `GcvCurve`.
    at_edge : bool
        Whether the best is the first or the last of the grid, so that a wider grid may do better.
    evaluated : int
        Ridges that were solved.
    """

    ridges: np.ndarray
    scores: np.ndarray
    best: int
    at_edge: bool
    evaluated: int

    @property
    def ridge(self):
        """The best ridge."""
        return float(self.ridges[self.best])


def report_of(parts):
    """A SolveReport from what the compiled module hands out."""
    return SolveReport(**parts)


def _solution_of(parts):
    coef, intercept, report = parts
    return Solution(coef, intercept, report_of(report))


class GramState:
    """Sums over rows from which ridge weights can be solved at any time.

    Holds ``n``, ``sum x``, ``sum y``, ``X'X``, ``X'Y`` and ``sum y^2`` around a recorded point near the data, never a
    row. Rows can be added and removed again and states of different data merged, in any order; the weights are always
    those of one ridge regression on the rows that are in. Sums are float64.

    Parameters
    ----------
    n_features : int
        Width of the rows.
    n_outputs : int, default=0
        Targets per row; 0 keeps the Gram matrix alone.
    dtype : {"float64", "float32"}, default="float64"
        Type of the products. "float32" is about twice as fast: products over at most 2048 rows are made in single
        precision and added to float64 sums. Removal is then exact only up to ``report.removal_bound``.
    fit_intercept : bool, default=True
        Whether weights come with an unpenalised intercept.
    device : str, default="cpu"
        "cpu", "cuda" or "cuda:1".
    n_jobs : int, default=None
        Threads; None for the library's default, -1 for all processors.

    Notes
    -----
    Memory is 4 d^2 bytes and 8 bytes per feature and output. Adding n rows costs n d^2 flops, solving d^3 / 3.
    The point that the sums are taken around, where there is an intercept, is the mean of the first block of rows. It
    moves to the mean of all rows that are in, and the sums with it, when it has come to lie far from that (2 d^2
    flops, at most about 3.5 log(n) times) and when rows are removed; no answer depends on it but for rounding.
    The same sequence of calls gives the same bits for any number of threads. That removed rows were once added cannot
    be checked beyond their number. Sources: "ACIL: Analytic Class-Incremental Learning with Absolute Memorization and
    Privacy Protection" and "G-ACIL: Analytic Learning for Exemplar-Free Generalized Class Incremental Learning", in
    the form of plain sums instead of an inverse.

    Examples
    --------
    >>> import numpy as np
    >>> from gramian import GramState
    >>> X = np.array([[0.0, 1.0], [1.0, 0.0], [2.0, 2.0], [3.0, 1.0]])
    >>> y = X @ [1.0, -2.0] + 3.0
    >>> state = GramState(2, 1).add(X[:2], y[:2]).add(X[2:], y[2:])
    >>> weights = state.solve(0.0)
    >>> weights.coef.round(6), weights.intercept.round(6)
    (array([[ 1., -2.]]), array([3.]))
    """

    __slots__ = ("_core", "_device", "_n_jobs")

    def __init__(self, n_features, n_outputs=0, *, dtype="float64", fit_intercept=True, device="cpu", n_jobs=None):
        self._core = _core.GramState(
            n_features=_validate.check_count(n_features, "n_features"),
            n_outputs=_validate.check_count(n_outputs, "n_outputs", low=0),
            products=_validate.product_dtype(dtype),
            intercept=bool(fit_intercept),
            device=_validate.device_name(device),
            threads=thread_count(n_jobs),
        )
        self._device = device
        self._n_jobs = n_jobs

    @classmethod
    def _wrap(cls, core, device="cpu", n_jobs=None):
        self = object.__new__(cls)
        self._core, self._device, self._n_jobs = core, device, n_jobs
        return self

    # What is in it.

    @property
    def n_features(self):
        """Width of the rows."""
        return self._core.n_features

    @property
    def n_outputs(self):
        """Targets per row."""
        return self._core.n_outputs

    @property
    def n_rows(self):
        """Rows of positive weight that are in."""
        return self._core.n_rows

    @property
    def weight_sum(self):
        """Sum of their weights."""
        return self._core.weight_sum

    @property
    def weighted_rows(self):
        """How many of them have a weight that is not 1, or None where that is not known.

        The count is exact, whatever rows and states come and go. It is not known for sums from a file of a version that
        did not count, for sums that another one encoded (`gramian.federated.FixedPointCodec`), and after weights went
        out that had not come in; a state that becomes empty knows again.
        """
        rows = self._core.weighted_rows
        return None if rows < 0 else rows

    @property
    def counts(self):
        """Rows per output, where labels were added; int64 array of shape (n_outputs,)."""
        return self._core.counts

    @property
    def nbytes(self):
        """Bytes of all sums."""
        return self._core.nbytes

    @property
    def largest_trace(self):
        """The largest trace of the Gram matrix held since the state was last empty, rounded up to a power of two."""
        return self._core.largest_trace

    @property
    def largest_energy(self):
        """The largest sum of squared targets held since the state was last empty, rounded up to a power of two.

        Over all outputs and around the point that the sums are taken around; of class codes the sum of the weights.
        """
        return self._core.largest_energy

    @property
    def dtype(self):
        """Type of the products."""
        return self._core.products

    @property
    def fit_intercept(self):
        """Whether weights come with an intercept."""
        return self._core.intercept

    @property
    def device(self):
        """Where the sums are."""
        return self._device

    def __repr__(self):
        return (
            f"GramState(n_features={self.n_features}, n_outputs={self.n_outputs}, dtype={self.dtype!r}, "
            f"n_rows={self.n_rows})"
        )

    # Rows in and out.

    def _rows(self, X):
        rows = _validate.check_rows(X, "GramState")
        _validate.check_width(rows, self.n_features, "GramState")
        return _validate.for_products(rows, self.dtype)

    def _targets(self, Y, rows):
        if Y is None:
            if self.n_outputs:
                raise ValueError(f"Y is None, but the state has {self.n_outputs} outputs")
            return None
        if not self.n_outputs:
            raise ValueError("Y was passed, but the state has no outputs (n_outputs=0)")
        Y = _validate.as_columns(_validate.check_targets(Y, "GramState"))
        _validate.check_length(rows, Y)
        if Y.shape[1] != self.n_outputs:
            raise ValueError(f"Y has {Y.shape[1]} columns, but the state has {self.n_outputs} outputs")
        return _validate.for_products(Y, self.dtype)

    def _codes(self, codes, rows):
        codes = np.asarray(codes)
        if codes.ndim != 1 or codes.dtype.kind not in "iu":
            raise ValueError("codes must be a one-dimensional array of integers in [0, n_outputs)")
        _validate.check_length(rows, codes)
        codes = np.ascontiguousarray(codes, dtype=np.int64)
        if codes.size and (codes.min() < 0 or codes.max() >= self.n_outputs):
            raise ValueError(f"codes must be in [0, {self.n_outputs})")
        return codes

    def add(self, X, Y=None, sample_weight=None, *, atomic=True):
        """Adds rows.

        Parameters
        ----------
        X : array-like or CSR matrix of shape (n, n_features)
            Finite. NumPy arrays of any layout and of float16/32/64, bool, uint8, int16/32/64 are read in place, but
            for int32/64 with float32 products, of which a float64 copy is made.
        Y : array-like of shape (n,) or (n, n_outputs), default=None
            Numeric targets.
        sample_weight : array-like of shape (n,), default=None
            Weights >= 0. Rows of weight 0 are as if they were not there, so NaN or infinity in such a row of ``X`` is
            not looked at.
        atomic : bool, default=True
            On an error or Ctrl-C leave the state as it was. False works in place, without a second state: `n_rows`
            then tells how many rows are in.

        Returns
        -------
        self

        Raises
        ------
        ValueError
            No rows; shapes that do not fit; NaN or infinity (names the row).
        """
        rows = self._rows(X)
        weight = _validate.check_weight(sample_weight, rows.shape[0])
        self._core.add(rows, self._targets(Y, rows), None, weight, bool(atomic))
        return self

    def remove(self, X, Y=None, sample_weight=None, *, atomic=True):
        """Takes rows out that were added before; arguments as in `add`.

        Removing the last row leaves exactly the empty state. Removing more rows than there are raises ValueError.
        """
        rows = self._rows(X)
        weight = _validate.check_weight(sample_weight, rows.shape[0])
        self._core.remove(rows, self._targets(Y, rows), None, weight, bool(atomic))
        return self

    def add_labels(self, X, codes, sample_weight=None, *, atomic=True):
        """Adds rows whose targets are one-hot: row i has 1 in output ``codes[i]`` and 0 elsewhere.

        The targets are never written out: n d flops where `add` takes 2 n d n_outputs. Rows per output are counted.
        """
        rows = self._rows(X)
        weight = _validate.check_weight(sample_weight, rows.shape[0])
        self._core.add(rows, None, self._codes(codes, rows), weight, bool(atomic))
        return self

    def remove_labels(self, X, codes, sample_weight=None, *, atomic=True):
        """Takes rows out that `add_labels` added. More rows than an output has raise ValueError."""
        rows = self._rows(X)
        weight = _validate.check_weight(sample_weight, rows.shape[0])
        self._core.remove(rows, None, self._codes(codes, rows), weight, bool(atomic))
        return self

    # States among themselves.

    def merge(self, other):
        """Adds the rows of another state of the same sizes. d^2 flops. Returns self."""
        self._core.merge(self._partner(other))
        return self

    def unmerge(self, other):
        """Takes the rows of another state out again. Returns self."""
        self._core.unmerge(self._partner(other))
        return self

    def _partner(self, other):
        if not isinstance(other, GramState):
            raise TypeError(f"a GramState is needed, got {type(other).__name__}")
        return other._core.clone() if other._core is self._core else other._core

    def __add__(self, other):
        if not isinstance(other, GramState):
            return NotImplemented
        return self.copy().merge(other)

    def grow(self, k):
        """Appends k outputs that are zero for all rows so far. Returns self."""
        old = list(range(self.n_outputs))
        self._core.rearrange_outputs(old + [-1] * _validate.check_count(k, "k", low=0))
        return self

    def clear(self):
        """Back to the empty state with the same sizes. Returns self."""
        self._core.clear()
        return self

    def copy(self):
        """A state of its own with the same sums."""
        return self._wrap(self._core.clone(), self._device, self._n_jobs)

    __copy__ = copy

    def __deepcopy__(self, memo):
        return self.copy()

    # Answers.

    def solve(self, ridge, standardize=False):
        """Weights that minimise ``|Y - X W|^2 + ridge |W|^2``, the intercept unpenalised.

        Parameters
        ----------
        ridge : float
            >= 0; scikit-learn's ``alpha``. 0 needs full rank.
        standardize : bool, default=False
            Penalise the weights of features scaled to unit variance. The weights returned are in the original units.

        Returns
        -------
        Solution

        Raises
        ------
        numpy.linalg.LinAlgError
            ``ridge=0`` and the rows do not have full rank (names the rank).

        Warns
        -----
        ConvergenceWarning
            The system is singular to working precision in spite of its ridge (names the rank): of the weights that fit
            the rest, these are the smallest. scikit-learn's class where it is installed, else UserWarning.
        """
        ridge = _validate.check_number(ridge, "ridge")
        solution = _solution_of(self._core.solve(ridge, bool(standardize)))
        warn_rank_deficient([solution.report])
        return solution

    def path(self, ridges, standardize=False):
        """Weights for each of several ridges; a list of Solution. Warns as `solve` does, once."""
        parts = self._core.path(_validate.check_ridges(ridges), bool(standardize))
        solutions = [_solution_of(part) for part in parts]
        warn_rank_deficient([solution.report for solution in solutions])
        return solutions

    def prefix(self, widths, ridge, standardize=False):
        """Ridge weights of the first k features alone, for each width k, from one Cholesky factor.

        The leading block of the factor is the factor of the leading features, so after d^3 / 3 flops every width costs
        one back-substitution and its residual, 4 d^2 n_outputs flops. (The leading block of an inverse is not the
        inverse of the leading block.)

        Parameters
        ----------
        widths : array-like of int
            In 1 .. n_features.
        ridge : float
            >= 0, the same for all widths.
        standardize : bool, default=False
            As in `solve`.

        Returns
        -------
        list of Solution
            ``coef`` of shape (n_outputs, k). The report's condition and bound are those of the system of k features.

        Raises
        ------
        ValueError
            A width outside 1 .. n_features.
        numpy.linalg.LinAlgError
            The system of all features is numerically singular at this ridge.

        Notes
        -----
        Sources: "Matryoshka Representation Learning", "Starbucks".
        """
        wanted = np.asarray(widths)
        if wanted.ndim != 1 or (wanted.size and wanted.dtype.kind not in "iu"):
            raise ValueError(f"widths must be a sequence of integers, got {widths!r}")
        if wanted.size and (wanted.min() < 1 or wanted.max() > self.n_features):
            raise ValueError(f"widths must lie in 1 .. {self.n_features}, got {wanted.tolist()}")
        ridge = _validate.check_number(ridge, "ridge")
        return [_solution_of(part) for part in _core.prefix(self._core, wanted.tolist(), ridge, bool(standardize))]

    def nested_losses(self, ridge, standardize=False):
        """The smallest penalised loss of each width, without solving for the weights.

        Place k - 1 has the minimum of ``sum w |y - x W - b|^2 + ridge |W|^2`` over weights of the first k features,
        summed over outputs: the target energy less that of the first k rows of L^-1 B. It never rises with k.
        d^3 / 3 + d^2 n_outputs flops.

        Returns
        -------
        ndarray of shape (n_features,)
        """
        return _core.nested_losses(self._core, _validate.check_number(ridge, "ridge"), bool(standardize))

    def gcv(self, ridges, standardize=False):
        """Generalised cross-validation over a grid of ridges > 0, from the sums alone. Returns a GcvCurve.

        A row of weight w counts as w rows: the scores take the sum of the weights for the number of rows. ValueError
        where no ridge of the grid has a finite score.

        Source: "Generalized Cross-Validation as a Method for Choosing a Good Ridge Parameter".
        """
        return GcvCurve(**self._core.gcv(_validate.check_ridges(ridges), bool(standardize)))

    def holdout(self, held, ridges, standardize=False, full=False):
        """Squared errors, on the rows of another state, of this state's weights over a grid of ridges > 0.

        No row is needed: the errors follow from the sums of both states. Only for states of equal sizes.

        Parameters
        ----------
        held : GramState
            The held-out rows.
        ridges : array-like of float
        standardize : bool, default=False
        full : bool, default=False
            Solve every ridge. Otherwise a Fibonacci search looks for the valley of a rising grid, 6 ridges of 17, and
            all are solved where what it met shows a second valley.

        Returns
        -------
        HoldoutCurve

        Notes
        -----
        d^3 / 3 + 4 d^2 C flops a ridge for d features and C outputs. Reference: "RanPAC: Random Projections and
        Pre-trained Models for Continual Learning", which keeps the rows.
        """
        if not isinstance(held, GramState):
            raise TypeError(f"held must be a GramState, got {type(held).__name__}")
        return HoldoutCurve(
            **self._core.holdout(held._core, _validate.check_ridges(ridges), bool(standardize), bool(full))
        )

    def moments(self):
        """``(X'X, Y'X)`` around the origin, weighted: arrays of shape (d, d) and (n_outputs, d)."""
        return self._core.raw_moments()

    def feature_moments(self):
        """Mean and (biased) variance of each feature: two arrays of shape (d,)."""
        return self._core.feature_moments()

    # Files.

    def save(self, path):
        """Writes the state to a file; ``path`` holds the old file or the whole new one, never a part."""
        self._core.save(os.fsencode(path))

    @classmethod
    def load(cls, path, *, device="cpu", n_jobs=None):
        """Reads what `save` wrote. Raises FormatError for anything else."""
        device = _validate.device_name(device)
        _validate.check_readable(path)
        return cls._wrap(_core.GramState.load(os.fsencode(path), device, thread_count(n_jobs)), device, n_jobs)

    def to_bytes(self):
        """The content of the file that `save` writes."""
        return self._core.save_bytes()

    @classmethod
    def from_bytes(cls, data, *, device="cpu", n_jobs=None):
        """The state from `to_bytes`."""
        device = _validate.device_name(device)
        data = bytes(memoryview(data))
        return cls._wrap(_core.GramState.load_bytes(data, device, thread_count(n_jobs)), device, n_jobs)

    def __reduce__(self):
        return _unpickle, (self.to_bytes(), self._device, self._n_jobs)


def _unpickle(data, device, n_jobs):
    return GramState.from_bytes(data, device=device, n_jobs=n_jobs)


def ridge_solve(X, Y, ridge=1.0, *, sample_weight=None, fit_intercept=True, form="auto", device="cpu", n_jobs=None):
    """Ridge weights of rows at hand, by the primal (d x d) or the dual (n x n) system.

    Parameters
    ----------
    X : array-like or CSR matrix of shape (n, d)
    Y : array-like of shape (n,) or (n, k)
    ridge : float, default=1.0
        Minimises ``|Y - X W|^2 + ridge |W|^2``, the intercept unpenalised. 0 needs full rank.
    sample_weight : array-like of shape (n,), default=None
    fit_intercept : bool, default=True
    form : {"auto", "primal", "dual"}, default="auto"
        "auto" takes the smaller system.
    device : str, default="cpu"
    n_jobs : int, default=None

    Returns
    -------
    Solution
        ``coef`` has shape (k, d), also for a ``Y`` of one dimension.

    Raises
    ------
    ValueError
        Shapes that do not fit, NaN or infinity.
    numpy.linalg.LinAlgError
        ``ridge=0`` without full rank, which the dual form never has; weights beyond the range of float64.

    Warns
    -----
    ConvergenceWarning
        As `GramState.solve`.

    Notes
    -----
    Source: textbook identity, ``(X'X + ridge I)^-1 X' = X' (X X' + ridge I)^-1``.

    Examples
    --------
    >>> import numpy as np
    >>> from gramian import ridge_solve
    >>> ridge_solve(np.eye(3), [1.0, 2.0, 3.0], ridge=1.0, fit_intercept=False).coef
    array([[0.5, 1. , 1.5]])
    """
    if form not in ("auto", "primal", "dual"):
        raise ValueError(f"form must be 'auto', 'primal' or 'dual', got {form!r}")
    rows = _validate.check_rows(X, "ridge_solve")
    Y = _validate.as_columns(_validate.check_targets(Y, "ridge_solve"))
    _validate.check_length(rows, Y)
    parts = _core.ridge_solve(
        X=rows,
        Y=Y,
        ridge=_validate.check_number(ridge, "ridge"),
        intercept=bool(fit_intercept),
        form=form,
        weight=_validate.check_weight(sample_weight, rows.shape[0]),
        device=_validate.device_name(device),
        threads=thread_count(n_jobs),
    )
    solution = _solution_of(parts)
    warn_rank_deficient([solution.report])
    return solution
