"""What random features will cost in test error at any width and number of rows, predicted from a pilot."""

import math
from dataclasses import dataclass

import numpy as np

from . import _core, _validate
from ._feature_map import FeatureMap
from .base import thread_count

# Rows of a pilot, and features of its map per row: enough for the theory to take the finite width back out.
_PILOT_ROWS = 2000
_WIDTH_PER_ROW = 4


@dataclass(frozen=True)
class RiskPoint:
    """Predicted errors of one configuration.

    Attributes
    ----------
    test, train : float
        Mean square errors, noise included, averaged over outputs.
    ridge : float
        On the mean kernel of the features: ``K = Z Z' / k``. The ridge of `AnalyticRegressor` on features Z is
        ``k * ridge`` (``ridge`` itself for ``activation="cos"``, whose features carry the 1 / k already).
    learnt : float
        Effective number of modes learnt.
    g, kappa : float
        The two thresholds of the theory: modes far above ``g`` are learnt.
    extrapolated : bool
        Whether ``g`` lies below what the pilot has seen, so that the power laws speak.
    """

    test: float
    train: float
    ridge: float
    learnt: float
    g: float
    kappa: float
    extrapolated: bool


@dataclass(frozen=True)
class WidthPlan:
    """A recommended width.

    Attributes
    ----------
    width : int
    test : float
        Predicted mean square error.
    ridge : float
        The ridge of `AnalyticRegressor` for it.
    nbytes : int
        Of the sums: 4 width^2 + 8 width outputs.
    milliseconds : float or None
        Predicted time of a fit, where the speed is given.
    meets_target : bool
        Whether the target is predicted to be met; False means that it is the best that the budget allows.
    """

    width: int
    test: float
    ridge: float
    nbytes: int
    milliseconds: float | None
    meets_target: bool


def _noise(noise):
    return -1.0 if noise is None else _validate.check_number(noise, "noise")


class RiskCurve:
    """Predicted test error of ridge regression on k random features of n rows.

    Made by `from_pilot` from some rows, or by `theory` from a known spectrum.

    Notes
    -----
    The theory takes features as Gaussian once the spectrum of their kernel is known; real data follow it to some
    percent. A prediction is for random rows, features and targets: a single run scatters around it.
    Source: "More is Better in Modern Machine Learning".

    Examples
    --------
    >>> import numpy as np
    >>> from gramian import RiskCurve
    >>> i = np.arange(1, 1001.0)
    >>> curve = RiskCurve.theory(i**-1.5, i**-0.9, noise=0.05)
    >>> [round(curve.predict(n=200, k=k).test, 3) for k in (50, 200, 800)]
    [0.245, 0.145, 0.117]
    """

    def __init__(self, core, scaled, n_outputs):
        self._core = core
        self._scaled = scaled  # the features carry 1 / k themselves
        self._n_outputs = n_outputs

    @classmethod
    def theory(cls, eigenvalues, coefficients, noise=0.0):
        """The curve of a known problem.

        Parameters
        ----------
        eigenvalues : array-like of shape (m,)
            > 0, of the kernel that the mean kernel of the features tends to.
        coefficients : array-like of shape (m,)
            Of the target in the eigenfunctions.
        noise : float, default=0.0
            Variance of the noise of the targets.

        Returns
        -------
        RiskCurve
            A prediction costs O(m) for each of some hundred evaluations.
        """
        eigenvalues = np.asarray(eigenvalues, dtype=np.float64)
        coefficients = np.asarray(coefficients, dtype=np.float64)
        if eigenvalues.ndim != 1 or coefficients.ndim != 1:
            raise ValueError("eigenvalues and coefficients must have one dimension")
        core = _core.ModeSpectrum(eigenvalues, coefficients**2, _validate.check_number(noise, "noise"))
        return cls(core, False, 1)

    @classmethod
    def from_pilot(
        cls,
        X,
        y,
        feature_map=None,
        *,
        kernel=None,
        noise=None,
        fit_intercept=True,
        max_rows=_PILOT_ROWS,
        random_state=0,
        device="cpu",
        n_jobs=None,
    ):
        """The curve of real data, from a sample of its rows.

        Parameters
        ----------
        X : array-like or CSR matrix of shape (p, d)
        y : array-like of shape (p,) or (p, n_outputs)
            Errors are averaged over outputs.
        feature_map : RandomFeatures, default=None
            The map that shall be used; its width does not matter, the pilot takes one of 4 features per row.
        kernel : callable, default=None
            Instead of a map: ``kernel(X)`` is the (p, p) kernel matrix of rows, for example ``DeepKernel().kernel``.
            Predictions then are for features of that kernel, or with ``k=np.inf`` for the kernel itself.
        noise : float, default=None
            Variance of the noise of y; None estimates it with the tail.
        fit_intercept : bool, default=True
            Whether the regression will have an intercept.
        max_rows : int, default=2000
            A larger X is sampled down to so many rows.
        random_state : int, RandomState, Generator or None, default=0
            For that sample.
        device : str, default="cpu"
        n_jobs : int, default=None

        Returns
        -------
        RiskCurve
            4 p^3 + 9 p^3 flops once, 8 (4 p^2 + 2 p^2) bytes; a prediction then takes microseconds.

        Notes
        -----
        The p eigenvalues of the pilot's kernel matrix and the targets in its eigenvectors give the theory's functions
        without naming population eigenvalues; they reach to about half of p rows. Beyond, power laws fitted next to
        that end continue, and predictions say ``extrapolated=True``.

        Sources: "More is Better in Modern Machine Learning" (the theory); "Generalized Cross-Validation as a Method for
        Choosing a Good Ridge Parameter" (what the pilot's own errors are held against).
        """
        rows = _validate.check_rows(X, cls.__name__)
        targets = _validate.as_columns(_validate.check_targets(y, cls.__name__))
        _validate.check_length(rows, targets)
        if (feature_map is None) == (kernel is None):
            raise ValueError("give either feature_map or kernel")
        max_rows = _validate.check_count(max_rows, "max_rows", low=8)
        if rows.shape[0] > max_rows:
            chosen = np.sort(_generator(random_state).choice(rows.shape[0], max_rows, replace=False))
            X = X[chosen] if _validate.is_sparse(X) else np.asarray(X)[chosen]
            rows, targets = _validate.check_rows(X, cls.__name__), targets[chosen]
        where = {"device": _validate.device_name(device), "threads": thread_count(n_jobs)}
        common = {"centred": bool(fit_intercept), "noise": _noise(noise), **where}
        if kernel is not None:
            matrix = np.asarray(kernel(X), dtype=np.float64)
            core = _core.PilotSpectrum.of_kernel(matrix, targets, **common)
            return cls(core, False, targets.shape[1])
        if not isinstance(feature_map, FeatureMap) or "n_features" not in feature_map.get_params():
            raise TypeError(f"feature_map must be a RandomFeatures, got {feature_map!r}")
        width = _WIDTH_PER_ROW * rows.shape[0]
        pilot = type(feature_map)(**{**feature_map.get_params(deep=False), "n_features": width})
        features = pilot.fit_transform(X if _validate.is_sparse(X) else rows.astype(np.float64, copy=False))
        scaled = feature_map.activation == "cos"
        scale = 1.0 if scaled else 1.0 / width
        core = _core.PilotSpectrum.of_features(np.asarray(features), targets, scale=scale, **common)
        return cls(core, scaled, targets.shape[1])

    @property
    def energy(self):
        """Mean square of the targets (around their mean, with an intercept): the error of predicting nothing."""
        return self._core.energy

    @property
    def tail_(self):
        """Of a pilot: the power laws that continue it (dict), else None.

        ``z = learnt (g / g0)^-decay`` and ``A = noise + (left - noise) (g / g0)^rate``, g0 under "g".
        """
        return self._core.tail if isinstance(self._core, _core.PilotSpectrum) else None

    def predict(self, n, k=np.inf, ridge=None):
        """Predicted errors for n rows and k features.

        Parameters
        ----------
        n : int
            Rows of the training set, 2 or more.
        k : int or np.inf, default=np.inf
            Features; infinity is kernel ridge regression.
        ridge : float, default=None
            >= 0, on the mean kernel (see `RiskPoint`); None for the one of least test error.

        Returns
        -------
        RiskPoint
        """
        n = _validate.check_number(n, "n", low=2)
        k = np.inf if _is_infinite(k) else _validate.check_number(k, "k", strict=True)
        if ridge is None:
            return RiskPoint(**self._core.predict_best(n, k))
        return RiskPoint(**self._core.predict(n, k, _validate.check_number(ridge, "ridge")))

    def model_ridge(self, point, k):
        """The ``ridge`` of `AnalyticRegressor` on k features that a `RiskPoint` stands for."""
        return point.ridge if self._scaled else point.ridge * k


def _is_infinite(k):
    return isinstance(k, (float, np.floating)) and k == np.inf


def _generator(random_state):
    if isinstance(random_state, (np.random.Generator, np.random.RandomState)):
        return random_state
    return np.random.default_rng(random_state)


def plan_width(
    curve, n, *, target=None, max_bytes=None, max_ms=None, gflops=None, n_inputs=None, max_width=65536, slack=0.01
):
    """The smallest width that is predicted to do, within a budget of memory and time.

    Parameters
    ----------
    curve : RiskCurve
    n : int
        Rows to be trained on.
    target : float, default=None
        Test error (mean square) to reach; None asks for the best error of the budget, up to `slack`.
    max_bytes : int, default=None
        For the sums of the model: ``4 k^2 + 8 k outputs``.
    max_ms : float, default=None
        For one fit: ``n k^2 + 2 n k n_inputs + k^3 / 3`` flops at `gflops`. Needs `gflops` and `n_inputs`.
    gflops : float, default=None
        Speed of the device in 10^9 flops a second.
    n_inputs : int, default=None
        Features of the raw rows.
    max_width : int, default=65536
        Wider layers are not considered.
    slack : float, default=0.01
        Without a target: a width whose error is within this share of the best one will do.

    Returns
    -------
    WidthPlan

    Raises
    ------
    ValueError
        A budget that allows no feature at all.

    Notes
    -----
    At the best ridge the error never rises with the width, so a bisection finds the width: about 16 predictions.
    Source: "More is Better in Modern Machine Learning".
    """
    if not isinstance(curve, RiskCurve):
        raise TypeError(f"curve must be a RiskCurve, got {type(curve).__name__}")
    n = _validate.check_count(n, "n", low=2)
    max_width = _validate.check_count(max_width, "max_width")
    slack = _validate.check_number(slack, "slack")
    if target is not None:
        target = _validate.check_number(target, "target", strict=True)
    timed = gflops is not None and n_inputs is not None
    if max_ms is not None and not timed:
        raise ValueError("max_ms needs gflops and n_inputs")
    outputs = curve._n_outputs

    def nbytes(k):
        return 4 * k * k + 8 * k * outputs

    def milliseconds(k):
        return (n * k * (k + 2.0 * n_inputs) + k**3 / 3) / (gflops * 1e6) if timed else None

    if timed:
        gflops = _validate.check_number(gflops, "gflops", strict=True)
        n_inputs = _validate.check_count(n_inputs, "n_inputs")
    byte_limit = math.inf if max_bytes is None else _validate.check_number(max_bytes, "max_bytes", strict=True)
    time_limit = math.inf if max_ms is None else _validate.check_number(max_ms, "max_ms", strict=True)

    def allowed(k):
        return nbytes(k) <= byte_limit and (not timed or milliseconds(k) <= time_limit)

    if not allowed(1):
        raise ValueError("the budget does not allow a single feature")
    widest = _last(1, max_width, allowed)
    points = {}

    def error(k):
        if k not in points:
            points[k] = curve.predict(n, k)
        return points[k].test

    wanted = error(widest) * (1 + slack) if target is None else target
    width = widest
    if error(widest) <= wanted:
        width = 1 if error(1) <= wanted else _last(1, widest, lambda k: error(k) > wanted) + 1
    reached = error(width)
    return WidthPlan(
        width,
        reached,
        curve.model_ridge(points[width], width),
        nbytes(width),
        milliseconds(width),
        target is None or reached <= target,
    )


def _last(low, high, holds):
    """The largest k in [low, high] for which `holds`; it holds for `low` and, once it fails, never again."""
    if holds(high):
        return high
    while high - low > 1:
        middle = (low + high) // 2
        if holds(middle):
            low = middle
        else:
            high = middle
    return low
