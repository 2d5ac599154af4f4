"""The triangle of the QR factorisation of all rows so far: least squares on a stream without squaring the condition."""

import os
from dataclasses import dataclass

import numpy as np

from . import _core, _validate
from .base import thread_count


@dataclass(frozen=True, eq=False)
class TriangularSolution:
    """A solution read off an `RFactor`.

    Attributes
    ----------
    x : ndarray of shape (d,) or (d, k)
    residual_norm : float or ndarray of shape (k,)
        ``|Y - X x|``, column by column.
    rank : int
        Singular values above ``rtol`` times the largest.
    condition : float
        Largest over smallest singular value in use; an estimate, good to a factor of a few, where the rank was in no
        doubt.
    """

    x: np.ndarray
    residual_norm: object
    rank: int
    condition: float


class RFactor:
    """R of the QR factorisation of ``[X Y]``: rows stream in, states merge, least squares come out.

    Where `GramState` holds ``X'X`` and squares the condition number of ``X``, this holds its triangular factor: the
    solution is as accurate as a Householder QR of all rows at once, at twice the flops.

    Parameters
    ----------
    n_features : int
        Width of the rows.
    n_outputs : int, default=0
        Targets per row; 0 keeps the triangle alone.
    device : str, default="cpu"
        "cpu", "cuda" or "cuda:1".
    n_jobs : int, default=None
        Threads; None for the library's default, -1 for all processors.

    Attributes
    ----------
    R : ndarray of shape (n_features, n_features)
        Upper triangular, diagonal >= 0, ``R'R = X'X``.
    QtY : ndarray of shape (n_features, n_outputs)
        ``Q'Y``.
    n_rows : int
        Rows of positive weight that are in.
    nbytes : int

    Notes
    -----
    Memory is 8 (d + k)^2 bytes. Adding n rows costs 2 n (d + k)^2 flops and 10/3 (d + k)^3 a call, so rows should come
    in blocks of some d or more; merging costs 10/3 (d + k)^3. The same sequence of calls gives the same bits for any
    number of threads. Method of "Communication-optimal Parallel and Sequential QR and LU Factorizations".

    Examples
    --------
    >>> import numpy as np
    >>> from gramian import RFactor
    >>> X = np.array([[1.0, 0.0], [1.0, 1.0], [1.0, 2.0], [1.0, 3.0]])
    >>> y = X @ [3.0, -2.0]
    >>> left, right = RFactor(2, 1).add(X[:2], y[:2]), RFactor(2, 1).add(X[2:], y[2:])
    >>> left.merge(right).solve().x.round(6)
    array([ 3., -2.])
    """

    __slots__ = ("_core", "_device", "_n_jobs")

    def __init__(self, n_features, n_outputs=0, *, device="cpu", n_jobs=None):
        self._core = _core.RFactor(
            n_features=_validate.check_count(n_features, "n_features"),
            n_outputs=_validate.check_count(n_outputs, "n_outputs", low=0),
            device=_validate.device_name(device),
            threads=thread_count(n_jobs),
        )
        self._device, self._n_jobs = device, n_jobs

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
    def nbytes(self):
        """Bytes of the triangle."""
        return self._core.nbytes

    @property
    def device(self):
        """Where the triangle is."""
        return self._device

    @property
    def R(self):
        """The triangle of ``X``."""
        d = self.n_features
        return self._core.triangle()[:d, :d].copy()

    @property
    def QtY(self):
        """``Q'Y``."""
        d = self.n_features
        return self._core.triangle()[:d, d:].copy()

    def __repr__(self):
        return f"RFactor(n_features={self.n_features}, n_outputs={self.n_outputs}, n_rows={self.n_rows})"

    def add(self, X, Y=None, sample_weight=None):
        """Adds rows. On an error the state is as before.

        Parameters
        ----------
        X : array-like or CSR matrix of shape (n, n_features)
            Finite.
        Y : array-like of shape (n,) or (n, n_outputs), default=None
        sample_weight : array-like of shape (n,), default=None
            Weights >= 0 of the squared errors.

        Returns
        -------
        self

        Raises
        ------
        ValueError
            Shapes that do not fit; NaN or infinity (names the first such row); columns longer than 1e150, whose
            squares overflow, or an ``X`` so far of values below 1e-140, whose squares underflow.
        """
        rows = _validate.check_rows(X, "RFactor", min_rows=0)
        _validate.check_width(rows, self.n_features, "RFactor")
        weight = _validate.check_weight(sample_weight, rows.shape[0])
        if (Y is None) != (self.n_outputs == 0):
            has = "no outputs (n_outputs=0)" if self.n_outputs == 0 else f"{self.n_outputs} outputs"
            raise ValueError(f"Y is {'None' if Y is None else 'given'}, but the state has {has}")
        targets = None
        if Y is not None:
            Y = _validate.check_targets(Y, "RFactor")
            targets = _validate.as_columns(Y)
            _validate.check_length(rows, targets)
            if targets.shape[1] != self.n_outputs:
                raise ValueError(f"Y has {targets.shape[1]} columns, but the state has {self.n_outputs} outputs")
        self._core.add(rows, targets, weight, 1 if Y is None else Y.ndim)
        return self

    def merge(self, other):
        """Adds the rows of another state of the same sizes.

        Parameters
        ----------
        other : RFactor

        Returns
        -------
        self
        """
        if not isinstance(other, RFactor):
            raise TypeError(f"only an RFactor can be merged into an RFactor, got {type(other).__name__}")
        self._core.merge(other._core)
        return self

    def solve(self, rtol=None, ridge=0.0):
        """Least squares on all rows: minimises ``|Y - X x|^2 + ridge |x|^2``.

        Parameters
        ----------
        rtol : float, default=None
            Singular values up to ``rtol`` times the largest count as zero; where there are such, ``x`` has least norm.
            None for 8 eps, or 32 eps where X has more than 25 columns.
        ridge : float, default=0.0

        Returns
        -------
        TriangularSolution
            ``x`` of shape (d,) where there is one output and all targets were one-dimensional, also those of states
            that were merged or loaded. Files of the first versions do not say, and count as one-dimensional.

        Raises
        ------
        ValueError
            No rows yet; ``rtol`` or ``ridge`` out of range.
        """
        tolerance = -1.0 if rtol is None else _validate.check_number(rtol, "rtol")
        x, norms, rank, condition = self._core.solve(tolerance, _validate.check_number(ridge, "ridge"))
        if self._core.target_dims == 1 and self.n_outputs == 1:
            return TriangularSolution(x[:, 0], float(norms[0]), rank, condition)
        return TriangularSolution(x, norms, rank, condition)

    # Files.

    @classmethod
    def _wrap(cls, core, device, n_jobs):
        self = object.__new__(cls)
        self._core, self._device, self._n_jobs = core, device, n_jobs
        return self

    def save(self, path):
        """Writes the state to a file; ``path`` holds the old file or the whole new one, never a part."""
        self._core.save(os.fsencode(path))

    @classmethod
    def load(cls, path, *, device="cpu", n_jobs=None):
        """Reads what `save` wrote. Raises FormatError for anything else."""
        device = _validate.device_name(device)
        _validate.check_readable(path)
        return cls._wrap(_core.RFactor.load(os.fsencode(path), device, thread_count(n_jobs)), device, n_jobs)

    def __reduce__(self):
        return _unpickle, (self._core.save_bytes(), self._device, self._n_jobs)


def _unpickle(data, device, n_jobs, flat=True):
    """`flat` is in pickles of the first versions, whose bytes do not say it."""
    core = _core.RFactor.load_bytes(data, device, thread_count(n_jobs))
    if not flat:
        core.set_target_dims(2)
    return RFactor._wrap(core, device, n_jobs)
