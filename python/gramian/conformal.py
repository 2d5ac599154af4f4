"""Prediction intervals of ridge regression with coverage for any distribution, in closed form."""

import fractions
import math

import numpy as np

from . import _core, _labels, _validate
from ._composite import Composite, Parts
from ._one_label import OneLabelClassifier
from .base import Estimator, draw_seed, thread_count
from .classifier import AnalyticClassifier
from .model_files import load_bytes
from .regressor import AnalyticRegressor


def _ranks(alpha, n):
    """(floor(alpha (n + 1)), ceil((1 - alpha) (n + 1))), exactly as alpha reads in decimals.

    In floating point 0.7 * 10 or 1 - 0.9 are off by a bit, which would move a rank by one.
    """
    lower = math.floor(fractions.Fraction(repr(alpha)) * (n + 1))
    return lower, n + 1 - lower


class _ConformalEstimator(Composite, Estimator):
    """What all share: one ridge fit, `_estimator()`, and its rows as intervals and sets need them."""

    def __init__(self, feature_map, ridge, ridges, alpha, fit_intercept, device, n_jobs, random_state):
        self.feature_map = feature_map
        self.ridge = ridge
        self.ridges = ridges
        self.alpha = alpha
        self.fit_intercept = fit_intercept
        self.device = device
        self.n_jobs = n_jobs
        self.random_state = random_state

    def _unfitted(self, kind):
        """The ridge estimator of this kind."""
        return kind(
            self.feature_map,
            ridge=self.ridge,
            ridges=self.ridges,
            fit_intercept=self.fit_intercept,
            device=self.device,
            n_jobs=self.n_jobs,
            random_state=self.random_state,
        )

    def _take(self, X, rows, targets, folds):
        """Keeps the rows of the fit that `_estimator()` has."""
        count = 0 if folds is None else int(folds.max()) + 1
        self._rows = _core.ConformalRows(self._estimator()._learnt.model, rows, targets, folds, count)
        self.n_features_in_ = rows.shape[1]
        self._set_feature_names(_validate.column_names(X))

    def _fitted(self):
        rows = self.__dict__.get("_rows")
        if rows is None:
            self._raise_not_fitted()
        learnt = self._estimator()._learnt
        threads = thread_count(self.n_jobs)
        if threads != learnt.threads:
            learnt.model.set_threads(threads)
            learnt.threads = threads
        return rows

    def _queries(self, X):
        who = type(self).__name__
        _validate.check_column_names(X, getattr(self, "feature_names_in_", None), who)
        rows = _validate.check_rows(X, who)
        _validate.check_width(rows, self.n_features_in_, who)
        return rows

    def _check_ridge(self):
        """ValueError where the ridge is chosen in a way that the rows of the fit do not know."""
        if isinstance(self.ridge, str) and self.ridge != "gcv":
            raise ValueError(f"ridge must be a number >= 0 or 'gcv', got {self.ridge!r}")

    def _alpha(self, alpha=None):
        alpha = _validate.check_number(self.alpha if alpha is None else alpha, "alpha", strict=True)
        if alpha >= 1:
            raise ValueError(f"alpha must be below 1, got {alpha!r}")
        return alpha

    @property
    def ridge_(self):
        """The ridge in use."""
        self._fitted()
        return self._estimator().ridge_

    def __sklearn_is_fitted__(self):
        return "_rows" in self.__dict__

    # In files.

    def _parts(self):
        rows, residuals, order, offsets = self._fitted().parts()
        estimator = self._estimator()
        arrays = {
            "rows": rows,
            "residuals": residuals,
            "order": np.asarray(order, dtype=np.int64),
            "offsets": np.asarray(offsets, dtype=np.int64),
        }
        return Parts(self._more_parts(arrays), arrays, {"ridge": estimator.to_bytes()})

    def _take_parts(self, parts, device, n_jobs):
        estimator = load_bytes(parts.models["ridge"], device=device, n_jobs=n_jobs)
        if type(estimator) is not self._kind:
            raise ValueError(f"the model inside is a {type(estimator).__name__}, not a {self._kind.__name__}")
        rows, residuals = (parts.array(name, np.float64, (-1, -1)) for name in ("rows", "residuals"))
        order, offsets = (parts.array(name, np.int64, (-1,)).tolist() for name in ("order", "offsets"))
        made = _core.ConformalRows.from_parts(estimator._learnt.model, rows, residuals, order, offsets)
        self._take_more(parts, estimator)
        self._rows = made
        self.n_features_in_ = estimator.n_features_in_
        self._set_feature_names(estimator._learnt.names)

    def _fitted_map(self):
        return self._estimator().feature_map_


class _ConformalRegressor(_ConformalEstimator):
    """Intervals around one ridge regression."""

    _estimator_type = "regressor"
    _kind = AnalyticRegressor
    _held = ("_rows", "regressor_", "_flat", "_rule", "n_features_in_", "feature_names_in_")

    def _estimator(self):
        return self.regressor_

    def _more_parts(self, arrays):
        return {"flat": self._flat, "rule": self._rule}

    def _take_more(self, parts, regressor):
        flat = bool(parts.learnt["flat"])
        if flat and regressor._learnt.model.n_outputs != 1:
            raise ValueError("several outputs for one target")
        self.regressor_, self._flat, self._rule = regressor, flat, bool(parts.learnt["rule"])

    def _fit_with(self, X, y, fold_count):
        """fold_count: how many folds are left out in turn, or None for one row at a time."""
        who = type(self).__name__
        self._alpha()
        self._check_ridge()
        y = _validate.check_targets(y, who)
        rows = _validate.check_rows(X, who, min_rows=2)
        _validate.check_length(rows, y)
        regressor = self._unfitted(AnalyticRegressor).fit(X, y)
        folds = None
        if fold_count is not None:
            count = min(fold_count, rows.shape[0])
            order = np.asarray(_core.permutation_head(draw_seed(self.random_state), rows.shape[0], rows.shape[0]))
            folds = np.empty(rows.shape[0], dtype=np.int64)
            folds[order] = np.arange(rows.shape[0]) % count
        self.regressor_ = regressor
        self._flat = y.ndim == 1
        self._take(X, rows, _validate.as_columns(y), folds)
        return self

    def predict(self, X):
        """Predictions of the fit on all rows.

        Parameters
        ----------
        X : array-like or CSR matrix of shape (n, d)

        Returns
        -------
        ndarray of shape (n,) or (n, k), as the ``y`` of the fit
        """
        self._fitted()
        rows = self._queries(X)
        scores = self.regressor_._learnt.model.scores(rows)
        return scores[:, 0] if self._flat else scores

    score = AnalyticRegressor.score  # of what `predict` says

    def _stacked(self, lower, upper):
        """(n, 2), or (n, k, 2) for several outputs."""
        out = np.stack([lower, upper], axis=-1)
        return out[:, 0] if self._flat else out

    @property
    def held_out_residuals_(self):
        """``y`` less the prediction of the fit without the row (or, for "cv+", without its fold), shape as ``y``."""
        residuals = self._fitted().held_out()
        return residuals[:, 0] if self._flat else residuals

    def __sklearn_tags__(self):
        from sklearn.utils import RegressorTags

        tags = self._tags("regressor", target_required=True)
        tags.target_tags.multi_output = True
        tags.regressor_tags = RegressorTags()
        return tags


class JackknifePlus(_ConformalRegressor):
    """Ridge regression with jackknife+ prediction intervals, exact and from one fit.

    The interval of a new row is made of the predictions of all n fits with one row left out, widened by the errors of
    these fits on the row they have not seen. For ridge regression all n are read off one factor. Coverage is at least
    ``1 - 2 alpha`` for any distribution of exchangeable rows and any number of features, and about ``1 - alpha`` as a
    rule; intervals from training residuals have no such bound and fall far short where features are not few.

    Parameters
    ----------
    feature_map : RandomFeatures, RBFFeatures or FeatureChain, default=None
        Fixed map in front of the regression. The guarantee wants one that is not fitted to the rows.
    ridge : float or "gcv", default=1.0
        As in `AnalyticRegressor`. Fits with a row left out use the ridge that was chosen with it; with "gcv" the bound
        on coverage then holds only in so far as one row does not move the choice.
    ridges : array-like of float, default=None
        The grid of "gcv".
    alpha : float, default=0.1
        Share of rows that may fall outside, in (0, 1).
    method : {"plus", "minmax", "cv+"}, default="plus"
        "plus" is jackknife+. "minmax" covers at least ``1 - alpha`` and is wider. "cv+" leaves out folds instead of
        rows: ``1 - 2 alpha`` less a term of about ``1 / n + cv / n``.
    cv : int, default=10
        Folds of "cv+", drawn from ``random_state``.
    fit_intercept : bool, default=True
    device : str, default="cpu"
    n_jobs : int, default=None
    random_state : int, RandomState, Generator or None, default=0

    Attributes
    ----------
    regressor_ : AnalyticRegressor
        The fit on all rows.
    held_out_residuals_ : ndarray, shape as ``y``
    ridge_ : float
    n_features_in_ : int
    feature_names_in_ : ndarray of shape (n_features_in_,)
        Only where ``X`` has column names that are all strings.

    Notes
    -----
    Fitting costs 2 n d^2 flops more than the regression (for "cv+" also n^2 d / cv), an interval 2 n d; it keeps n d
    doubles. Reference: "Predictive inference with the jackknife+".

    Examples
    --------
    >>> import numpy as np
    >>> from gramian import JackknifePlus
    >>> rng = np.random.default_rng(0)
    >>> X = rng.standard_normal((60, 40))
    >>> y = X[:, 0] + rng.standard_normal(60)
    >>> JackknifePlus(alpha=0.2).fit(X, y).predict_interval(X[:3]).shape
    (3, 2)
    """

    def __init__(
        self,
        feature_map=None,
        ridge=1.0,
        ridges=None,
        alpha=0.1,
        method="plus",
        cv=10,
        fit_intercept=True,
        device="cpu",
        n_jobs=None,
        random_state=0,
    ):
        super().__init__(feature_map, ridge, ridges, alpha, fit_intercept, device, n_jobs, random_state)
        self.method = method
        self.cv = cv

    def fit(self, X, y):
        """Fits on rows that each count once.

        Parameters
        ----------
        X : array-like or CSR matrix of shape (n, d)
        y : array-like of shape (n,) or (n, k)

        Returns
        -------
        self

        Raises
        ------
        ValueError
            Bad rows or parameters.
        numpy.linalg.LinAlgError
            A row (or fold) whose leverage is 1 to eight digits: the others do not determine the answer there.
        """
        if self.method not in ("plus", "minmax", "cv+"):
            raise ValueError(f"method must be 'plus', 'minmax' or 'cv+', got {self.method!r}")
        folds = _validate.check_count(self.cv, "cv", low=2) if self.method == "cv+" else None
        self._fit_with(X, y, folds)
        self._rule = self.method == "minmax"  # what the rows are asked for, whatever the parameter becomes
        return self

    def predict_interval(self, X, alpha=None):
        """Intervals that hold the targets of new rows.

        Parameters
        ----------
        X : array-like or CSR matrix of shape (n, d)
        alpha : float, default=None
            Another one than the parameter; nothing is fitted again.

        Returns
        -------
        ndarray of shape (n, 2) or (n, k, 2)
            Lower and upper ends, infinite where ``alpha`` is too small for the number of rows. Every output has its own
            interval.
        """
        rows = self._fitted()
        alpha = self._alpha(alpha)
        queries = self._queries(X)
        lower, upper = rows.intervals(queries, *_ranks(alpha, rows.n_rows), self._rule)
        return self._stacked(lower, upper)


class ConformalRidge(_ConformalRegressor):
    """Ridge regression with full conformal prediction sets, exact.

    A candidate target belongs to the set of a new row if, in the fit on all n + 1 rows, the new row does not stand out:
    if more than ``alpha (n + 1)`` rows have a score at least as large as its own. Residuals are linear in the
    candidate, so the set is found by sorting 2 n numbers, without a grid. Coverage is at least ``1 - alpha`` for
    exchangeable rows.

    Parameters
    ----------
    feature_map, ridge, ridges, alpha, fit_intercept, device, n_jobs, random_state
        As in `JackknifePlus`. With ``ridge="gcv"`` or a map fitted to rows the bound is not exact.
    residual : {"deleted", "plain"}, default="deleted"
        What a row is judged by: |residual| / (1 - leverage), its error under the fit without it, or |residual|. Both
        cover alike; they differ where features are many.

    Attributes
    ----------
    regressor_ : AnalyticRegressor
        The fit on the n rows.
    held_out_residuals_ : ndarray, shape as ``y``
    ridge_ : float
    n_features_in_ : int
    feature_names_in_ : ndarray of shape (n_features_in_,)
        Only where ``X`` has column names that are all strings.

    Notes
    -----
    A set costs 2 n d + O(n log n) flops. References: "Ridge Regression Confidence Machine"; "Algorithmic Learning in a
    Random World".

    Examples
    --------
    >>> import numpy as np
    >>> from gramian import ConformalRidge
    >>> rng = np.random.default_rng(0)
    >>> X = rng.standard_normal((60, 5))
    >>> y = X[:, 0] + rng.standard_normal(60)
    >>> ConformalRidge().fit(X, y).predict_interval(X[:3]).shape
    (3, 2)
    """

    def __init__(
        self,
        feature_map=None,
        ridge=1.0,
        ridges=None,
        alpha=0.1,
        residual="deleted",
        fit_intercept=True,
        device="cpu",
        n_jobs=None,
        random_state=0,
    ):
        super().__init__(feature_map, ridge, ridges, alpha, fit_intercept, device, n_jobs, random_state)
        self.residual = residual

    def fit(self, X, y):
        """Fits on rows that each count once.

        Parameters
        ----------
        X : array-like or CSR matrix of shape (n, d)
        y : array-like of shape (n,) or (n, k)

        Returns
        -------
        self
        """
        if self.residual not in ("deleted", "plain"):
            raise ValueError(f"residual must be 'deleted' or 'plain', got {self.residual!r}")
        self._fit_with(X, y, None)
        self._rule = self.residual == "deleted"
        return self

    def _sets(self, X, alpha):
        rows = self._fitted()
        alpha = self._alpha(alpha)
        excluded, _ = _ranks(alpha, rows.n_rows)
        return rows.sets(self._queries(X), excluded, self._rule)

    def predict_set(self, X, alpha=None):
        """All targets that conform, for each row.

        Parameters
        ----------
        X : array-like or CSR matrix of shape (n, d)
        alpha : float, default=None
            Another one than the parameter; nothing is fitted again.

        Returns
        -------
        list of ndarray of shape (m, 2), or list of lists of them for several outputs
            Closed intervals in rising order, as a rule one; infinite ends where ``alpha`` is too small for the number
            of rows.
        """
        offsets, lower, upper = self._sets(X, alpha)
        parts = np.split(np.stack([lower, upper], axis=1), offsets[1:-1])
        k = self.regressor_._learnt.model.n_outputs
        return parts if self._flat else [parts[row : row + k] for row in range(0, len(parts), k)]

    def predict_interval(self, X, alpha=None):
        """The smallest interval around each set of `predict_set`.

        Returns
        -------
        ndarray of shape (n, 2) or (n, k, 2)
        """
        offsets, lower, upper = self._sets(X, alpha)
        k = self.regressor_._learnt.model.n_outputs
        return self._stacked(lower[offsets[:-1]].reshape(-1, k), upper[offsets[1:] - 1].reshape(-1, k))


class ConformalClassifier(OneLabelClassifier, _ConformalEstimator):
    """Ridge classification with full conformal p-values and prediction sets, exact.

    A candidate class of a new row is judged in the fit on all n + 1 rows: its p-value is the share of rows whose error
    on their own class, with themselves left out, is at least as large as that of the new row. A set holds the classes
    with p-values above ``alpha``; it may be empty (nothing fits) or hold several. It misses the true class in a share
    of at most ``alpha`` of exchangeable rows: of each class by itself with ``by_class``, of all rows together without.

    Parameters
    ----------
    feature_map, ridge, ridges, alpha, fit_intercept, device, n_jobs, random_state
        As in `JackknifePlus`. With ``ridge="gcv"`` or a map fitted to rows the bound is not exact.
    by_class : bool, default=True
        Compare a candidate with rows of its own class alone (the class-conditional or Mondrian form).

    Attributes
    ----------
    classifier_ : AnalyticClassifier
        The fit on the n rows.
    classes_ : ndarray of shape (n_classes,)
    ridge_ : float
    n_features_in_ : int
    feature_names_in_ : ndarray of shape (n_features_in_,)
        Only where ``X`` has column names that are all strings.

    Notes
    -----
    p-values of a row cost 2 n d + O(n) flops, without ``by_class`` O(n n_classes). Reference: "Algorithmic Learning in
    a Random World".

    Examples
    --------
    >>> import numpy as np
    >>> from gramian import ConformalClassifier
    >>> X = np.arange(40.0)[:, np.newaxis]
    >>> model = ConformalClassifier(alpha=0.2).fit(X, np.repeat(["low", "high"], 20))
    >>> model.predict_set([[1.0], [38.0]])
    array([[False,  True],
           [ True, False]])
    """

    _kind = AnalyticClassifier
    _held = ("_rows", "classifier_", "_codes", "classes_", "n_features_in_", "feature_names_in_")

    def __init__(
        self,
        feature_map=None,
        ridge=1.0,
        ridges=None,
        alpha=0.1,
        by_class=True,
        fit_intercept=True,
        device="cpu",
        n_jobs=None,
        random_state=0,
    ):
        super().__init__(feature_map, ridge, ridges, alpha, fit_intercept, device, n_jobs, random_state)
        self.by_class = by_class

    def _estimator(self):
        return self.classifier_

    def _more_parts(self, arrays):
        arrays["codes"] = self._codes
        return {}

    def _take_more(self, parts, classifier):
        classes = classifier.classes_
        codes = parts.array("codes", np.int64, (len(parts.arrays["rows"]),))
        if not 0 <= codes.min() <= codes.max() < len(classes):
            raise ValueError(f"codes of {len(classes)} classes that are outside of them")
        self.classifier_, self.classes_, self._codes = classifier, classes, codes

    def fit(self, X, y):
        """Fits on rows that each count once.

        Parameters
        ----------
        X : array-like or CSR matrix of shape (n, d)
        y : array-like of shape (n,)

        Returns
        -------
        self
        """
        who = type(self).__name__
        self._alpha()
        self._check_ridge()
        y = _labels.as_array(y, who)
        if _labels.is_indicator(y):
            raise ValueError(f"{who} needs one label per row, y has multi-label targets")
        rows = _validate.check_rows(X, who, min_rows=2)
        _validate.check_length(rows, y)
        self.classifier_ = self._unfitted(AnalyticClassifier).fit(X, y)
        y = y.ravel()
        self.classes_ = self.classifier_.classes_
        self._codes = np.searchsorted(self.classes_, y).astype(np.int64)
        self._take(X, rows, np.eye(len(self.classes_), dtype=np.uint8)[self._codes], None)
        return self

    def _scores(self, X):
        self._fitted()
        return self.classifier_._learnt.model.scores(self._queries(X)), self.classes_

    def p_values(self, X):
        """How well each class fits: the smallest ``alpha`` at which it leaves the set.

        Parameters
        ----------
        X : array-like or CSR matrix of shape (n, d)

        Returns
        -------
        ndarray of shape (n, n_classes)
            In (0, 1].
        """
        return self._fitted().class_p_values(self._queries(X), self._codes, bool(self.by_class))

    def predict_set(self, X, alpha=None):
        """The classes that conform.

        Parameters
        ----------
        X : array-like or CSR matrix of shape (n, d)
        alpha : float, default=None
            Another one than the parameter; nothing is fitted again.

        Returns
        -------
        ndarray of bool, shape (n, n_classes)
        """
        return self.p_values(X) > self._alpha(alpha)
