"""Quantile predictions of several models made one: weighted, in order, and with the coverage they claim."""

import fractions
import math

import numpy as np

from . import _core, _validate
from ._composite import Composite, Parts
from .base import Estimator, thread_count


class QuantileAggregator(Composite, Estimator):
    """Combines the quantile predictions of several models.

    Predictions are averaged with weights, crossing quantiles are put in order (which never raises the pinball loss or
    the weighted interval score), and held-out rows shift each quantile to the level it claims.

    Parameters
    ----------
    levels : array-like of shape (n_levels,)
        Quantile levels in (0, 1), rising.
    weights : {"uniform", "stacked"} or array-like of shape (n_models,), default="uniform"
        "stacked" fits weights >= 0 with sum 1 by least squares of the targets on the models' predictions of the level
        nearest 1/2: the one kind of weights that has a closed form. Their rows must not be those the models were fitted
        on; leave-one-out predictions will do.
    repair : {"sort", "isotonic", None}, default="sort"
        How crossing quantiles are put in order.
    calibration : {"levels", "pairs", None}, default="levels"
        What `calibrate` makes. "levels" moves each level on its own, so that a share of at least the level falls below
        it. "pairs" widens or narrows the interval of each pair of levels t and 1 - t on both sides alike, so that it
        covers at least 1 - 2 t; the level 1/2 stays, others without a partner are an error.
    n_jobs : int, default=None

    Attributes
    ----------
    weights_ : ndarray of shape (n_models,)
    shifts_ : ndarray of shape (n_levels,)
        Added to each level; zeros before `calibrate`. Infinite where there are too few rows for a level.

    Notes
    -----
    References: "Flexible Model Aggregation for Quantile Regression"; "Quantile and Probability Curves Without
    Crossing"; "Conformalized Quantile Regression".

    Examples
    --------
    >>> import numpy as np
    >>> from gramian import QuantileAggregator
    >>> crossing = np.array([[[0.0, 2.0, 1.0], [0.0, 1.0, 3.0]]])
    >>> QuantileAggregator([0.1, 0.5, 0.9]).fit(crossing, [1.0]).predict(crossing)
    array([[0. , 1.5, 2. ]])
    """

    _held = ("weights_", "levels_", "shifts_")

    def __init__(self, levels, weights="uniform", repair="sort", calibration="levels", n_jobs=None):
        self.levels = levels
        self.weights = weights
        self.repair = repair
        self.calibration = calibration
        self.n_jobs = n_jobs

    def _checked_levels(self):
        try:
            levels = np.asarray(self.levels, dtype=np.float64)
        except (TypeError, ValueError):
            levels = np.empty(0)
        bad = levels.ndim != 1 or levels.size == 0 or not np.isfinite(levels).all()
        if bad or levels[0] <= 0 or levels[-1] >= 1 or (np.diff(levels) <= 0).any():
            raise ValueError(f"levels must rise strictly inside (0, 1), got {self.levels!r}")
        if self.repair not in ("sort", "isotonic", None):
            raise ValueError(f"repair must be 'sort', 'isotonic' or None, got {self.repair!r}")
        if self.calibration not in ("levels", "pairs", None):
            raise ValueError(f"calibration must be 'levels', 'pairs' or None, got {self.calibration!r}")
        return levels

    @staticmethod
    def _predictions(predictions, n_levels, n_models=None):
        """Finite float64 of shape (n, n_models, n_levels)."""
        array = _validate.readable(np.asarray(predictions), "predictions").astype(np.float64, copy=False)
        if array.ndim != 3 or array.shape[2] != n_levels or array.shape[1] == 0:
            raise ValueError(
                f"predictions must have shape (n, n_models, {n_levels}), one column per level, got {array.shape}"
            )
        if n_models is not None and array.shape[1] != n_models:
            raise ValueError(f"predictions are of {array.shape[1]} models, but {n_models} have weights")
        _validate.check_finite(array.reshape(len(array), array.shape[1] * n_levels), "predictions")
        return array

    @staticmethod
    def _targets(y, n):
        y = _validate.check_targets(y, "QuantileAggregator")
        if y.shape != (n,):
            raise ValueError(f"y has shape {y.shape}, but {(n,)} is needed: one target per row of predictions")
        return y.astype(np.float64)

    def fit(self, predictions, y):
        """Chooses the weights; drops an earlier calibration.

        Parameters
        ----------
        predictions : array-like of shape (n, n_models, n_levels)
            Of rows that the models were not fitted on.
        y : array-like of shape (n,)

        Returns
        -------
        self
        """
        levels = self._checked_levels()
        predictions = self._predictions(predictions, len(levels))
        n, m, _ = predictions.shape
        y = self._targets(y, n)
        if n == 0:
            raise ValueError("predictions have no rows")
        if isinstance(self.weights, str):
            if self.weights not in ("uniform", "stacked"):
                raise ValueError(f"weights must be 'uniform', 'stacked' or numbers, got {self.weights!r}")
            if self.weights == "uniform":
                weights = np.full(m, 1 / m)
            else:
                middle = np.abs(levels - 0.5).argmin()
                errors = np.ascontiguousarray(predictions[:, :, middle] - y[:, np.newaxis])
                weights = _core.stacking_weights(errors, thread_count(self.n_jobs))
        else:
            weights = np.asarray(self.weights, dtype=np.float64)
            if weights.shape != (m,) or not np.isfinite(weights).all() or (weights < 0).any() or weights.sum() <= 0:
                raise ValueError(f"weights must be {m} numbers >= 0, not all zero, got {self.weights!r}")
            weights = weights / weights.sum()
        self.levels_, self.weights_, self.shifts_ = levels, weights, np.zeros(len(levels))
        return self

    def calibrate(self, predictions, y):
        """Moves the quantiles so that held-out rows fall below them as often as they claim.

        Parameters
        ----------
        predictions : array-like of shape (n, n_models, n_levels)
            Of rows that neither the models nor `fit` have seen; only then does the coverage hold for new rows.
        y : array-like of shape (n,)

        Returns
        -------
        self

        Notes
        -----
        n log n operations a level. Source: "Conformalized Quantile Regression".
        """
        levels = self._fitted_levels()
        if self.calibration is None:
            raise ValueError("calibration=None: there is nothing to calibrate")
        combined = self._combined(predictions, np.zeros(len(levels)))
        y = self._targets(y, len(combined))[:, np.newaxis]
        n, threads = len(y), thread_count(self.n_jobs)
        if self.calibration == "levels":
            # P(y <= q + shift) >= level: the ceil(level (n + 1))-th smallest of y - q.
            ranks = [math.ceil(fractions.Fraction(repr(float(level))) * (n + 1)) for level in levels]
            self.shifts_ = _core.column_order_statistics(y - combined, ranks, threads)
            return self
        shifts = np.zeros(len(levels))
        low, high = self._pairs(levels)
        outside = np.maximum(combined[:, low] - y, y - combined[:, high])
        # 1 - 2 t as decimals read, so that rounding moves no rank.
        ranks = [math.ceil((1 - 2 * fractions.Fraction(repr(float(t)))) * (n + 1)) for t in levels[low]]
        margins = _core.column_order_statistics(np.ascontiguousarray(outside), ranks, threads)
        shifts[low], shifts[high] = -margins, margins
        self.shifts_ = shifts
        return self

    @staticmethod
    def _pairs(levels):
        """Places of the levels below 1/2 and of their partners above."""
        low = np.flatnonzero(levels < 0.5)
        high = np.array([np.abs(levels - (1 - level)).argmin() for level in levels[low]], dtype=np.int64)
        if not np.allclose(levels[high], 1 - levels[low], rtol=0, atol=1e-9) or len(low) != (levels > 0.5).sum():
            raise ValueError(f"calibration='pairs' needs levels t and 1 - t, got {levels.tolist()}")
        return low, high

    def _fitted_levels(self):
        if not hasattr(self, "weights_"):
            self._raise_not_fitted()
        return self.levels_

    def _combined(self, predictions, shifts):
        predictions = self._predictions(predictions, len(self.levels_), len(self.weights_))
        combined = self._repaired(np.einsum("nmq,m->nq", predictions, self.weights_))
        return self._repaired(combined + shifts) if shifts.any() else combined

    def _repaired(self, q):
        if self.repair is None:
            return q
        return _core.repair_quantiles(np.ascontiguousarray(q), self.repair == "isotonic", thread_count(self.n_jobs))

    def predict(self, predictions):
        """One prediction per level, in order.

        Parameters
        ----------
        predictions : array-like of shape (n, n_models, n_levels)

        Returns
        -------
        ndarray of shape (n, n_levels)
        """
        self._fitted_levels()
        return self._combined(predictions, self.shifts_)

    def score(self, predictions, y):
        """Less the mean pinball loss, over rows and levels (so that higher is better)."""
        q = self.predict(predictions)
        return -pinball_loss(self._targets(y, len(q)), q, self.levels_)

    def _parts(self):
        levels = self._fitted_levels()
        # A shift is infinite where there were too few rows for a level.
        infinite = np.isinf(self.shifts_)
        arrays = {
            "levels": levels,
            "weights": self.weights_,
            "shifts": np.where(infinite, np.sign(self.shifts_), self.shifts_),
            "infinite": infinite.astype(np.uint8),
        }
        return Parts({}, arrays)

    def _take_parts(self, parts, device, n_jobs):
        levels = parts.array("levels", np.float64, (-1,))
        weights = parts.array("weights", np.float64, (-1,))
        shifts = parts.array("shifts", np.float64, levels.shape)
        infinite = parts.array("infinite", np.uint8, levels.shape).astype(bool)
        if not levels.size or levels[0] <= 0 or levels[-1] >= 1 or (np.diff(levels) <= 0).any():
            raise ValueError("levels that do not rise inside (0, 1)")
        if not weights.size or (weights < 0).any():
            raise ValueError("weights below zero, or none")
        shifts = np.where(infinite, np.copysign(np.inf, shifts), shifts)
        self.levels_, self.weights_, self.shifts_ = levels, weights, shifts


def pinball_loss(y, quantiles, levels):
    """Mean pinball loss over rows and levels: twice it is the mean weighted interval score of pairs of levels.

    Parameters
    ----------
    y : array-like of shape (n,)
    quantiles : array-like of shape (n, n_levels)
    levels : array-like of shape (n_levels,)
        In (0, 1), in any order.

    Returns
    -------
    float

    Raises
    ------
    ValueError
        Levels outside (0, 1), shapes that do not fit, no rows, NaN or infinity in y, NaN in quantiles.

    Notes
    -----
    Source: "Flexible Model Aggregation for Quantile Regression".
    """
    try:
        grid = np.asarray(levels, dtype=np.float64)
    except (TypeError, ValueError):
        grid = np.empty(0)
    if grid.ndim != 1 or grid.size == 0 or not ((grid > 0) & (grid < 1)).all():
        raise ValueError(f"levels must be numbers inside (0, 1), got {levels!r}")
    y = _validate.check_targets(y, "pinball_loss")
    quantiles = _validate.readable(np.asarray(quantiles), "quantiles").astype(np.float64, copy=False)
    if y.ndim != 1 or len(y) == 0:
        raise ValueError(f"y must have one dimension and a row or more, got shape {y.shape}")
    if quantiles.shape != (len(y), grid.size):
        raise ValueError(
            f"quantiles must have shape {(len(y), grid.size)}, one row per target and one column per level, "
            f"got {quantiles.shape}"
        )
    # Ends of calibrated intervals may be infinite; the loss then is.
    missing = np.isnan(quantiles).any(axis=1)
    if missing.any():
        raise ValueError(f"quantiles contains NaN, first in row {missing.argmax()}")
    below = y.astype(np.float64)[:, np.newaxis] - quantiles
    levels = grid
    return float(np.maximum(levels * below, (levels - 1) * below).mean())
