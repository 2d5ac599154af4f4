"""What a ridge model says about rows it was not shown, exactly and without refitting: leave-one-out and leverage."""

from dataclasses import dataclass

import numpy as np

from . import _core, _validate
from ._plain_models import check_kind
from .coded_classifier import CodedClassifier
from .gram import GramState
from .regressor import AnalyticRegressor


@dataclass(frozen=True, eq=False)
class LooCurve:
    """Leave-one-out errors over a grid of ridges.

    Attributes
    ----------
    ridges, scores : ndarray of shape (n_ridges,)
        The grid and the mean squared leave-one-out error of each ridge, summed over outputs (lower is better);
        infinity where a ridge is too small for the features or leaves a row that the model cannot do without.
    bounds : ndarray of shape (n_ridges,)
        How far each score can be from the formula's, relatively, beside rounding: at most 1e-9 (for
        ``dtype="float32"`` 1.2e-7 sqrt(d), the rounding of sums of d terms), and 0 where residuals and leverages were
        computed at the ridge itself.
    best : int
        Place of the lowest score.
    at_edge : bool
        Whether the best is the first or the last of the grid, so that a wider grid may do better.
    passes : int
        Ridges at which leverages were computed row by row.
    """

    ridges: np.ndarray
    scores: np.ndarray
    bounds: np.ndarray
    best: int
    at_edge: bool
    passes: int

    @property
    def ridge(self):
        """The best ridge."""
        return float(self.ridges[self.best])


@dataclass(frozen=True, eq=False)
class NestedCurve:
    """Leave-one-out errors of all models on the first k features.

    Attributes
    ----------
    scores : ndarray of shape (n_features,)
        Place k - 1: the mean squared leave-one-out error of width k, summed over outputs; infinity where a row cannot
        be left out.
    losses : ndarray of shape (n_features,)
        The penalised loss of each width, as `GramState.nested_losses` gives it.
    best : int
        The width of the lowest score.
    """

    scores: np.ndarray
    losses: np.ndarray
    best: int


def _fitted(X, y, weight, ridge, options):
    """(state, rows, targets, map handle): sums of the rows, and the rows as the compiled module reads them again."""
    model = AnalyticRegressor(ridge=ridge, **options).fit(X, y, sample_weight=weight)
    learnt = model._learnt
    rows = model._checked_rows(X, learnt)
    targets = model._columns(learnt, _validate.check_targets(y, "leave-one-out"))
    handle = None if learnt.feature_map is None else learnt.feature_map._handle()
    return learnt.model.state(), rows, targets, handle


def leverage(model, X, *, ridge=None, sample_weight=None, standardize=False):
    """Leverages of rows that a model has learnt from: how much each pulls its own prediction to its own target.

    Parameters
    ----------
    model : AnalyticClassifier, AnalyticRegressor, CodedClassifier or GramState
    X : array-like or CSR matrix of shape (n, d)
        Rows that are in the model.
    ridge : float, default=None
        Needed for a GramState; None takes the ridge of an estimator.
    sample_weight : array-like of shape (n,), default=None
        The weights that the rows were added with.
    standardize : bool, default=False
        For a GramState; an estimator knows.

    Returns
    -------
    ndarray of shape (n,)
        In [0, 1]. Summed over all rows they are the degrees of freedom of the model.

    Raises
    ------
    TypeError
        Another kind of model, also one derived from these.
    ValueError
        Shapes that do not fit, NaN or infinity (names the row); no ridge for a GramState.

    Notes
    -----
    ``h = w (|L^-1 (x - mean)|^2 + 1 / sum w)`` with the Cholesky factor L of the centred Gram matrix and the ridge (no
    1 / sum w without intercept). d^3 / 3 + n d^2 flops, memory of a block of rows. With float32 products relative
    errors are about 6e-8 times the root of the condition number. An estimator of ``width=k`` has the leverages of the
    model on the first k features. Source: textbook identity, the diagonal of the hat matrix.

    Examples
    --------
    >>> import numpy as np
    >>> import gramian as gm
    >>> X = np.array([[0.0], [1.0], [2.0], [9.0]])
    >>> gm.leverage(gm.AnalyticRegressor(ridge=1.0).fit(X, X[:, 0]), X).round(2)
    array([0.43, 0.33, 0.27, 0.96])
    """
    if isinstance(model, GramState):
        if ridge is None:
            raise ValueError("ridge is needed for the leverages of a GramState")
        state, rows, handle, width = model._core, model._rows(X), None, 0
    else:
        check_kind(model, CodedClassifier, GramState)
        learnt = model._trainable()
        ridge = model.ridge_ if ridge is None else ridge
        standardize = learnt.params["standardize"]
        if learnt.params.get("class_weight") is not None and sample_weight is None:
            raise ValueError(
                "rows of a model with class_weight have weights: pass those of these rows as sample_weight"
            )
        state, rows, width = learnt.model.state(), model._checked_rows(X, learnt), learnt.model.width_used
        handle = None if learnt.feature_map is None else learnt.feature_map._handle()
    weight = _validate.check_weight(sample_weight, rows.shape[0])
    return _core.leverage(state, rows, weight, handle, _validate.check_number(ridge, "ridge"), bool(standardize), width)


def loo_errors(
    X,
    y,
    ridge=1.0,
    *,
    sample_weight=None,
    feature_map=None,
    standardize=False,
    fit_intercept=True,
    width=None,
    dtype=None,
    device="cpu",
    n_jobs=None,
    random_state=0,
):
    """What ridge regression without a row would miss of its target, for every row: exact, from one fit.

    Parameters
    ----------
    X : array-like or CSR matrix of shape (n, d)
    y : array-like of shape (n,) or (n, k)
    ridge : float or array-like of float, default=1.0
    sample_weight : array-like of shape (n,), default=None
        A row is left out with all its weight. Rows of weight 0 are not in the model, so their errors are plain ones.
    feature_map : RandomFeatures, RBFFeatures or FeatureChain, default=None
    standardize : bool, default=False
        Penalise weights of features scaled to unit variance, the variance of all rows.
    fit_intercept : bool, default=True
    width : int, default=None
        Use the first ``width`` features only.
    dtype, device, n_jobs, random_state
        As for `AnalyticRegressor`.

    Returns
    -------
    ndarray of shape (n,) or (n, k), or (n_ridges, n) or (n_ridges, n, k) for several ridges
        ``y`` less the prediction of the model that was fitted without the row.

    Raises
    ------
    ValueError
        Shapes that do not fit, NaN or infinity; a row of leverage 1 (names it).
    numpy.linalg.LinAlgError
        The ridge is too small for the features.

    Notes
    -----
    ``e / (1 - h)`` with the residual e and the leverage h. 2 n d^2 + d^3 / 3 flops for the first ridge and n d^2 + 2 n
    d k more for each. Source: textbook identity, the prediction sum of squares (PRESS).

    Examples
    --------
    >>> import numpy as np
    >>> import gramian as gm
    >>> X, y = np.array([[0.0], [1.0], [2.0], [9.0]]), np.array([0.0, 1.0, 2.0, 3.0])
    >>> gm.loo_errors(X, y, ridge=1.0).round(2)
    array([-1.18,  0.07,  1.06, -3.33])
    """
    single = np.ndim(ridge) == 0
    ridges = [_validate.check_number(ridge, "ridge")] if single else _validate.check_ridges(ridge)
    options = {
        "feature_map": feature_map,
        "standardize": standardize,
        "fit_intercept": fit_intercept,
        "width": width,
        "dtype": dtype,
        "device": device,
        "n_jobs": n_jobs,
        "random_state": random_state,
    }
    if isinstance(width, str):
        raise ValueError(f"width must be None or an integer, got {width!r}; nested_curve has the errors of all widths")
    state, rows, targets, handle = _fitted(X, y, sample_weight, ridges[0], options)
    weight = _validate.check_weight(sample_weight, rows.shape[0])
    out = [
        _core.loo_errors(state, rows, targets, weight, handle, value, bool(standardize), width or 0) for value in ridges
    ]
    if np.ndim(y) == 1:
        out = [errors[:, 0] for errors in out]
    return out[0] if single else np.stack(out)


def loo_curve(
    X,
    y,
    ridges,
    *,
    sample_weight=None,
    feature_map=None,
    standardize=False,
    fit_intercept=True,
    dtype=None,
    device="cpu",
    n_jobs=None,
    random_state=0,
):
    """The exact mean squared leave-one-out error of ridge regression over a grid of ridges.

    Parameters
    ----------
    X, y, sample_weight, feature_map, standardize, fit_intercept, dtype, device, n_jobs, random_state
        As for `loo_errors`.
    ridges : array-like of float
        >= 0.

    Returns
    -------
    LooCurve

    Raises
    ------
    ValueError
        As in `loo_errors`; no ridge of the grid has a finite score.

    Notes
    -----
    Leverages and predictions at some ridges follow from those at others, up to an error that is proven from bounds on
    the spectrum; `LooCurve.passes` leverages are computed, each n d^2 flops. Predictions take at most 2 n d k flops a
    ridge, factors d^3 / 3. Memory: a block of rows and 8 bytes for each row and ridge. Source: the same textbook
    identity as `loo_errors`; the choice of the ridge as in "More is Better in Modern Machine Learning".

    Examples
    --------
    >>> import numpy as np
    >>> import gramian as gm
    >>> rng = np.random.default_rng(0)
    >>> X = rng.normal(size=(50, 10))
    >>> curve = gm.loo_curve(X, X[:, 0] + rng.normal(size=50), [0.1, 1.0, 10.0, 100.0])
    >>> curve.ridge, curve.at_edge
    (10.0, False)
    """
    ridges = _validate.check_ridges(ridges)
    options = {
        "feature_map": feature_map,
        "standardize": standardize,
        "fit_intercept": fit_intercept,
        "dtype": dtype,
        "device": device,
        "n_jobs": n_jobs,
        "random_state": random_state,
    }
    state, rows, targets, handle = _fitted(X, y, sample_weight, 1.0, options)
    weight = _validate.check_weight(sample_weight, rows.shape[0])
    return LooCurve(**_core.loo_curve(state, rows, targets, weight, handle, ridges, bool(standardize)))


def nested_curve(
    X,
    y,
    ridge=1.0,
    *,
    sample_weight=None,
    feature_map=None,
    standardize=False,
    fit_intercept=True,
    dtype=None,
    device="cpu",
    n_jobs=None,
    random_state=0,
):
    """The exact leave-one-out error and the loss of all models on the first 1, 2, ..., d features, from one factor.

    Parameters
    ----------
    X, y, sample_weight, feature_map, standardize, fit_intercept, dtype, device, n_jobs, random_state
        As for `loo_errors`.
    ridge : float, default=1.0
        The same for all widths.

    Returns
    -------
    NestedCurve

    Notes
    -----
    With V = L^-1 X' the error of a row at width k is its target less a running sum of V Z over one less a running sum
    of V^2. 2 n d^2 + d^3 / 3 + 4 n d n_outputs flops, memory of a block of rows. Sources: "Matryoshka
    Representation Learning", "Starbucks".

    Examples
    --------
    >>> import numpy as np
    >>> import gramian as gm
    >>> X = np.random.default_rng(0).normal(size=(60, 8))
    >>> gm.nested_curve(X, X[:, :3].sum(axis=1), ridge=0.1).best
    3
    """
    options = {
        "feature_map": feature_map,
        "standardize": standardize,
        "fit_intercept": fit_intercept,
        "dtype": dtype,
        "device": device,
        "n_jobs": n_jobs,
        "random_state": random_state,
    }
    ridge = _validate.check_number(ridge, "ridge")
    state, rows, targets, handle = _fitted(X, y, sample_weight, ridge, options)
    weight = _validate.check_weight(sample_weight, rows.shape[0])
    return NestedCurve(**_core.nested_curve(state, rows, targets, weight, handle, ridge, bool(standardize)))
