"""Ridge regression on streams, exact: rows can be added, forgotten and merged at any time."""

import time

import numpy as np

from . import _validate
from ._analytic_base import AnalyticEstimator, OnStreams
from ._model_config import ValueForm


class AnalyticRegressor(AnalyticEstimator):
    """Ridge regression on a stream: rows can be added, forgotten and merged exactly.

    After any sequence of ``partial_fit``, ``forget`` and ``merge`` the weights are those of one fit on the rows that
    are in.

    Parameters
    ----------
    feature_map : RandomFeatures, RBFFeatures or FeatureChain, default=None
        Fixed map in front of the regression. It is not changed: the model works with a fitted copy.
    ridge : float, "gcv", "holdout" or "loo", default=1.0
        Penalty of the squared weights (scikit-learn's ``alpha``); "gcv" chooses one from ``ridges`` by generalised
        cross-validation, from the sums alone, whenever the weights are solved: a row of weight w counts as w rows, and
        where no ridge has a finite score, solving raises ValueError. "holdout" takes the one with the smallest squared
        error on held-out rows, of which only sums are kept; the weights are then solved with all rows. "loo" chooses by
        the exact leave-one-out error of the rows, so it works with `fit` only; the choice holds until the next fit. A
        row is left out with all its weight. With ``low_latency=True`` `fit` chooses by "gcv" too, and `partial_fit`,
        which then needs a `fit` before it, keeps that ridge. 0 needs full rank: without it, what first reads the
        weights (`predict`, ``coef_``, ``report_``) raises numpy.linalg.LinAlgError. A ridge that rounding hides at a
        rank below full gives a ConvergenceWarning there, once after each change.
    ridges : array-like of float, default=None
        The grid of "gcv", "holdout" and "loo"; None stands for 13 powers of ten around the variance of the features,
        with ``holdout_rule="ranpac"`` for 10^-8 .. 10^8.
    standardize : bool, default=False
        Penalise the weights of features scaled to unit variance.
    fit_intercept : bool, default=True
    width : int, "loo" or None, default=None
        Predict with the ridge weights of the first ``width`` features alone (of ``feature_map``, where there is one),
        as if the others did not exist. "loo" chooses the width of the smallest exact leave-one-out error, together
        with the ridge where that is "loo" too; it works with `fit` only.
    low_latency : bool, default=False
        Keep the weights current after every batch: the Cholesky factor behind them follows the rows, b rows for about 5
        b d^2 + 4 b d k flops (d features, k outputs) instead of d^3 / 3 at the next read. Takes 4 d^2 bytes more and
        needs ``standardize=False`` (new deviations change every entry of the system) and a ``ridge`` that is a number,
        or "gcv" or "loo" as `fit` chooses it. The factor is made anew from the sums when it is first needed, for
        batches of more than d / 8 rows, after 1024 rows (d, if more), after `merge`, and where taking rows out or a
        check of the residual says so; ``report_`` counts.
    forgetting : float, default=1.0
        What is left, with each new row, of the weight of the rows before it, in (0, 1]. As in recursive least squares
        the ridge ages with the rows: after n rows the weights minimise
        ``sum_i f**(n - i) w_i |y_i - x_i W|^2 + f**n ridge |W|^2``. Needs a ``ridge`` that is a number; `forget` then
        needs the weight that the rows have by now as ``sample_weight``.
    dtype : {None, "float64", "float32"}, default=None
        Type of the products; None is "float64". "float32" is about twice as fast, but forgetting is then exact only
        up to ``report_.removal_bound``.
    device : str, default="cpu"
        "cpu", "cuda" or "cuda:1".
    n_jobs : int, default=None
        Threads; None for the library's default, -1 for all processors.
    random_state : int, RandomState, Generator or None, default=0
        Seeds the feature map, where that has ``random_state=None``, and the choice of the held-out rows.
    verbose : int, default=0
        1 writes a line to stderr after each call that learns.
    holdout_fraction : float, default=0.2
        Share of the rows that ``ridge="holdout"`` holds out, in (0, 1).
    holdout_rule : {"moments", "ranpac"}, default="moments"
        "moments" holds out rows of all calls, by a hash of their numbers: neither order nor batches matter, equal rows
        fall on the same side, and `forget` finds them again. "ranpac" is the published rule: the last rows of the last
        call judge a fit of its other rows, and nothing else takes part. While one side is empty, "gcv" chooses; so it
        does with "ranpac" from a `forget` to the next rows.

    Attributes
    ----------
    coef_ : ndarray of shape (n_features,) or (n_outputs, n_features)
    intercept_ : float or ndarray of shape (n_outputs,)
    ridge_ : float
        The ridge in use.
    gcv_at_edge_ : bool
        Whether "gcv" or "holdout" chose an end of the grid.
    holdout_curve_ : HoldoutCurve
        Only where held-out rows chose the ridge.
    loo_ridges_, loo_scores_ : ndarray of shape (n_ridges,)
        The grid of ``ridge="loo"`` and the mean squared leave-one-out error of each, summed over outputs (of its best
        width for ``width="loo"``).
    loo_at_edge_ : bool
        Whether "loo" chose an end of its grid.
    width_ : int
        The width in use.
    loo_curve_ : ndarray of shape (n_features,)
        Mean squared leave-one-out error of each width 1, 2, ... at `ridge_` (``width="loo"``).
    report_ : SolveReport
    n_samples_seen_ : int
    n_features_in_ : int
    feature_names_in_ : ndarray of shape (n_features_in_,)
        Only where ``X`` has column names that are all strings.
    feature_map_ : the fitted map, or None
    state_ : GramState
        A copy of the sums.

    Notes
    -----
    Adding n rows costs n d^2 + 2 n d k flops for d features and k outputs, reading the weights d^3 / 3 once after a
    change; memory is 4 d^2 bytes. Nothing depends on the number of rows seen. That forgotten rows were once added
    cannot be checked beyond their number. Reference: "Ridge Regression: Biased Estimation for Nonorthogonal Problems".

    Examples
    --------
    >>> import numpy as np
    >>> from gramian import AnalyticRegressor
    >>> X = np.arange(8.0).reshape(4, 2) ** 2
    >>> model = AnalyticRegressor(ridge=1e-9).partial_fit(X[:2], X[:2, 0] + 1).partial_fit(X[2:], X[2:, 0] + 1)
    >>> model.predict([[5.0, 7.0]]).round(4)
    array([6.])
    """

    _estimator_type = "regressor"

    def __init__(
        self,
        feature_map=None,
        ridge=1.0,
        ridges=None,
        standardize=False,
        fit_intercept=True,
        width=None,
        low_latency=False,
        forgetting=1.0,
        dtype=None,
        device="cpu",
        n_jobs=None,
        random_state=0,
        verbose=0,
        holdout_fraction=0.2,
        holdout_rule="moments",
    ):
        self.feature_map = feature_map
        self.ridge = ridge
        self.ridges = ridges
        self.standardize = standardize
        self.fit_intercept = fit_intercept
        self.width = width
        self.low_latency = low_latency
        self.forgetting = forgetting
        self.dtype = dtype
        self.device = device
        self.n_jobs = n_jobs
        self.random_state = random_state
        self.verbose = verbose
        self.holdout_fraction = holdout_fraction
        self.holdout_rule = holdout_rule

    def fit(self, X, y, sample_weight=None):
        """Learns from these rows alone. The old model is kept until the new one is complete.

        Parameters
        ----------
        X : array-like or CSR matrix of shape (n, d)
            Finite. NumPy arrays of any layout and of float16/32/64, bool, uint8, int16/32/64 are read in place, but
            for int32/64 with float32 products, of which a float64 copy is made.
        y : array-like of shape (n,) or (n, k)
        sample_weight : array-like of shape (n,), default=None
            Weights >= 0. Rows of weight 0 are as if they were not there, so NaN or infinity in such a row of ``X`` is
            not looked at.

        Returns
        -------
        self
        """
        began = time.perf_counter()
        y = _validate.check_targets(y, type(self).__name__)
        rows = self._first_rows(X)
        _validate.check_length(rows, y)
        weight = _validate.check_weight(sample_weight, rows.shape[0])
        if weight is not None and not weight.any():
            raise ValueError("sample_weight is zero for all rows")
        learnt = self._begin_with(X, rows, y, weight)
        targets = self._columns(learnt, y)
        learnt.model.partial_fit(learnt.addable(rows, weight), targets, weight, True)
        if learnt.chooses_once:
            learnt.check_choice()
            learnt.model.choose(*_validate.counting(weight, rows, targets))
        with self._lock():
            self._learnt = learnt
        self._say("fitted", rows, began)
        return self

    @OnStreams
    def partial_fit(self, X, y, sample_weight=None, atomic=True):
        """Adds rows.

        Parameters
        ----------
        X, y, sample_weight
            As in `fit`.
        atomic : bool, default=True
            On an error or Ctrl-C leave the model as it was (a Ctrl-C in the last moment, while the sums are added up,
            is raised with all rows in: `n_samples_seen_` tells). False works in place, without a second set of sums:
            the model is then that of its first `n_samples_seen_` rows.

        Returns
        -------
        self
        """
        began = time.perf_counter()
        y = _validate.check_targets(y, type(self).__name__)
        with self._lock():
            if self._learnt is not None:
                learnt = self._trainable()
                rows = self._checked_rows(X, learnt)
                weight = self._checked_pair(learnt, rows, y, sample_weight)
                shown = learnt.addable(rows, weight)
                learnt.model.partial_fit(shown, self._columns(learnt, y), weight, bool(atomic))
            else:
                rows = self._first_rows(X)
                _validate.check_length(rows, y)
                weight = _validate.check_weight(sample_weight, rows.shape[0])
                learnt = self._begin_with(X, rows, y, weight)
                if not atomic:
                    self._learnt = learnt
                learnt.model.partial_fit(learnt.addable(rows, weight), self._columns(learnt, y), weight, bool(atomic))
                self._learnt = learnt
        self._say("added", rows, began)
        return self

    def forget(self, X, y, sample_weight=None, atomic=True):
        """Takes rows out again, exactly: the model is then that of the rows that are left.

        Parameters
        ----------
        X, y, sample_weight
            Rows that were added before, with the targets and weights they were added with. That they were cannot be
            checked; more rows than there are is a ValueError.
        atomic : bool, default=True
            As in `partial_fit`.

        Returns
        -------
        self

        Notes
        -----
        With ``holdout_rule="ranpac"`` the rows that chose the ridge may be among these and cannot be told from the
        others, so all of them leave the choice: until rows are added again, "gcv" chooses from the sums that are left.
        That is not the ridge of a model that never saw the rows, whose last call was another one. Source: "RanPAC:
        Random Projections and Pre-trained Models for Continual Learning", whose rule it is.
        """
        began = time.perf_counter()
        y = _validate.check_targets(y, type(self).__name__)
        with self._lock():
            learnt = self._trainable()
            rows = self._checked_rows(X, learnt)
            weight = self._checked_pair(learnt, rows, y, sample_weight)
            shown = learnt.addable(rows, weight)
            learnt.model.forget(shown, self._columns(learnt, y), weight, bool(atomic))
        self._say("forgot", rows, began)
        return self

    def predict(self, X):
        """Predicted targets.

        Parameters
        ----------
        X : array-like or CSR matrix of shape (n, d)

        Returns
        -------
        ndarray of shape (n,) or (n, k), as the ``y`` of the fit
        """
        learnt = self._ready()
        scores = learnt.model.scores(self._checked_rows(X, learnt))
        return scores[:, 0] if learnt.form.flat else scores

    def score(self, X, y, sample_weight=None):
        """Coefficient of determination R^2, averaged over outputs.

        Parameters
        ----------
        X : array-like or CSR matrix of shape (n, d)
        y : array-like of shape (n,) or (n, k)
        sample_weight : array-like of shape (n,), default=None
            Not zero for all rows.

        Returns
        -------
        float
        """
        y = _validate.as_columns(_validate.check_targets(y, type(self).__name__)).astype(np.float64)
        predicted = _validate.as_columns(self.predict(X))
        if y.shape != predicted.shape:
            raise ValueError(f"y has shape {y.shape}, but the predictions have shape {predicted.shape}")
        weight = _validate.check_weight_of_score(sample_weight, len(y))
        residual = np.average((y - predicted) ** 2, axis=0, weights=weight)
        spread = np.average((y - np.average(y, axis=0, weights=weight)) ** 2, axis=0, weights=weight)
        # A constant target is explained fully or not at all.
        constant = spread == 0
        r2 = np.where(constant, np.where(residual == 0, 1.0, 0.0), 1 - residual / np.where(constant, 1, spread))
        return float(r2.mean())

    @property
    def coef_(self):
        """Weights of the features."""
        learnt = self._ready()
        coef = learnt.model.solution()[0]
        return coef[0] if learnt.form.flat else coef

    @property
    def intercept_(self):
        """Intercepts."""
        learnt = self._ready()
        intercept = learnt.model.solution()[1]
        return float(intercept[0]) if learnt.form.flat else intercept

    def _begin_with(self, X, rows, y, weight):
        """An empty model for rows and targets like these."""
        return self._begin(X, rows, ValueForm(y.ndim == 1), 1 if y.ndim == 1 else y.shape[1], weight)

    @staticmethod
    def _columns(learnt, y):
        return _validate.for_products(_validate.as_columns(y), learnt.model.products)

    @staticmethod
    def _checked_pair(learnt, rows, y, sample_weight):
        _validate.check_length(rows, y)
        n_outputs = 1 if y.ndim == 1 else y.shape[1]
        if n_outputs != learnt.model.n_outputs:
            raise ValueError(f"y has {n_outputs} outputs, but the model has {learnt.model.n_outputs}")
        return _validate.check_weight(sample_weight, rows.shape[0])

    @staticmethod
    def _form_like(source):
        return ValueForm(source.form.flat)

    @staticmethod
    def _merge(mine, source):
        outputs = mine.model.n_outputs, source.model.n_outputs
        if outputs[0] != outputs[1]:
            raise ValueError(f"models of {outputs[0]} and {outputs[1]} outputs cannot be merged")
        mine.model.merge(source.model)

    @staticmethod
    def _unmerge(mine, source):
        outputs = mine.model.n_outputs, source.model.n_outputs
        if outputs[0] != outputs[1]:
            raise ValueError(f"models of {outputs[0]} and {outputs[1]} outputs cannot be unmerged")
        mine.model.unmerge(source.model)

    def _merge_sums(self, state, classes):
        """Adds a GramState; what federated.merge_sums calls. classes: None."""
        with self._lock():
            if self._learnt is None:
                learnt = self._empty_for_sums(state, ValueForm(state.n_outputs == 1), state.n_outputs)
            else:
                learnt = self._trainable()
            learnt.model.merge_sums(state._core)
            self._learnt = learnt
        return self

    def __sklearn_tags__(self):
        from sklearn.utils import RegressorTags

        tags = self._tags("regressor", target_required=True)
        tags.target_tags.multi_output = True
        tags.regressor_tags = RegressorTags()
        return tags
