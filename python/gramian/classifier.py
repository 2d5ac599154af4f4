"""Ridge classification on streams, exact: rows can be added, forgotten and merged at any time."""

import time

import numpy as np

from . import _labels, _validate
from ._analytic_base import UNCHANGED, AnalyticEstimator, OnStreams
from ._model_config import BALANCES, LabelForm

# Targets that the sums fit without any error would make a variance of zero.
_VARIANCE_FLOOR = 1e-12


class AnalyticClassifier(AnalyticEstimator):
    """Exact class-incremental classifier: ridge regression on one-hot targets, from a stream, with no stored rows.

    After any sequence of ``partial_fit``, ``forget`` and ``merge`` the weights are those of one ridge regression on
    all rows that are in. New classes may appear in any batch, mixed with old ones.

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
        row is left out with all its weight, of classes with weights too: those of "balanced" and "air" stay what they
        are with all rows. With ``low_latency=True`` `fit` chooses by "gcv" too, and `partial_fit`, which then needs a
        `fit` before it, keeps that ridge. 0 needs full rank: without it, what first reads the weights (`predict`,
        ``coef_``, ``report_``) raises numpy.linalg.LinAlgError. A ridge that rounding hides at a rank below full gives
        a ConvergenceWarning there, once after each change.
    ridges : array-like of float, default=None
        The grid of "gcv", "holdout" and "loo"; None stands for 13 powers of ten around the variance of the features,
        with ``holdout_rule="ranpac"`` for 10^-8 .. 10^8.
    standardize : bool, default=False
        Penalise the weights of features scaled to unit variance.
    class_weight : dict, "balanced", "air" or None, default=None
        Weight per label. "balanced" and "air" give all classes the same total weight, on streams too: a row of a class
        of n_c rows counts with s / n_c, n_c being the final count, whatever it was when the row came. They differ in
        s, so only in what a ridge is worth: "balanced" lets the weights average to one over rows (scikit-learn's),
        "air" over classes. See Notes for the memory this takes.
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
    classes_ : ndarray of shape (n_classes,)
        Labels seen, sorted; a class whose last row is forgotten leaves. For multi-label targets the column numbers, or
        what ``partial_fit(classes=...)`` called the columns.
    coef_ : ndarray of shape (1, n_features) or (n_classes, n_features)
        One row for two classes, as in scikit-learn: positive scores mean ``classes_[1]``.
    intercept_ : ndarray of shape (1,) or (n_classes,)
    class_count_ : ndarray of shape (n_classes,)
        Rows per class (not for multi-label targets).
    temperature_ : float
        Of ``predict_proba`` (not for multi-label targets).
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
    Adding n rows costs n d^2 flops for d features, reading the weights d^3 / 3 once after a change; memory is 4 d^2
    bytes. Nothing depends on the number of rows seen. That forgotten rows were once added cannot be checked beyond the
    count of their class. A model may be shared by threads: one that learns waits for those that predict.

    Balanced classes: `fit` counts first and needs one set of sums, and closes all its classes. On a stream each open
    class has sums of its own, 4 d^2 bytes, or 8 d bytes a row while it has fewer than d / 2 rows; `close_classes` and
    ``class_counts`` of `partial_fit` need one set for any number of classes (`gramian.balanced_memory` does the
    arithmetic). Solving takes 4 d^2 bytes and d^2 / 2 operations per open class more. Always ``atomic``.

    References: "G-ACIL: Analytic Learning for Exemplar-Free Generalized Class Incremental Learning"; "ACIL: Analytic
    Class-Incremental Learning with Absolute Memorization and Privacy Protection"; "AIR: Analytic Imbalance Rectifier
    for Continual Learning" (balanced classes).

    Examples
    --------
    >>> import numpy as np
    >>> from gramian import AnalyticClassifier
    >>> model = AnalyticClassifier(ridge=0.1)
    >>> model.partial_fit(np.array([[0.0, 0.0], [0.1, 0.0], [1.0, 0.0], [1.1, 0.1]]), ["a", "a", "b", "b"]).classes_
    array(['a', 'b'], dtype='<U1')
    >>> model.partial_fit(np.array([[0.0, 1.0], [0.1, 1.1]]), ["c", "c"]).predict([[0.0, 0.9]])
    array(['c'], dtype='<U1')
    """

    _estimator_type = "classifier"

    def __init__(
        self,
        feature_map=None,
        ridge=1.0,
        ridges=None,
        standardize=False,
        class_weight=None,
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
        self.class_weight = class_weight
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

    # Learning.

    def fit(self, X, y, sample_weight=None):
        """Learns from these rows alone. The old model is kept until the new one is complete.

        Parameters
        ----------
        X : array-like or CSR matrix of shape (n, d)
            Finite. NumPy arrays of any layout and of float16/32/64, bool, uint8, int16/32/64 are read in place, but
            for int32/64 with float32 products, of which a float64 copy is made.
        y : array-like of shape (n,) or indicator of shape (n, n_labels)
            Labels: bool, int, float (whole numbers), str or bytes. Two columns or more of 0 and 1 are multi-label
            targets.
        sample_weight : array-like of shape (n,), default=None
            Weights >= 0. Rows of weight 0 are as if they were not there, so NaN or infinity in such a row of ``X`` is
            not looked at.

        Returns
        -------
        self

        Raises
        ------
        ValueError
            Shapes that do not fit, NaN or infinity (names the row), labels of a kind that is not read.
        """
        began = time.perf_counter()
        y = _labels.as_array(y, type(self).__name__)
        rows = self._first_rows(X)
        _validate.check_length(rows, y)
        weight = _validate.check_weight(sample_weight, rows.shape[0])
        if weight is not None and not weight.any():
            raise ValueError("sample_weight is zero for all rows")
        labels = None if _labels.is_indicator(y) else _labels.encode(y)
        learnt = self._begin_with(X, rows, y, labels, weight, None)
        counts = None
        if isinstance(learnt.form.class_weight, str) and labels is not None:
            # All counts are known, so one set of weighted sums is enough.
            counts = np.bincount(labels.codes, weights=weight, minlength=len(labels.values)).astype(np.float64)
        self._feed(learnt, "partial_fit", rows, y, labels, weight, True, whole=True, counts=counts)
        with self._lock():
            self._learnt = learnt
        self._say("fitted", rows, began)
        return self

    @OnStreams
    def partial_fit(self, X, y, classes=None, sample_weight=None, atomic=True, class_counts=None):
        """Adds rows. Classes that were never seen become classes of the model.

        Parameters
        ----------
        X, y, sample_weight
            As in `fit`.
        classes : array-like of shape (n_classes,), default=None
            All labels that may ever come, those of the model among them. Not needed; where given, any other label is a
            ValueError from then on. For an indicator a name for each of its columns, in their order, which `classes_`
            then has.
        atomic : bool, default=True
            On an error or Ctrl-C leave the model as it was (a Ctrl-C in the last moment, while the sums are added up,
            is raised with all rows in: `n_samples_seen_` tells). False works in place, without a second set of sums:
            the model is then that of its first `n_samples_seen_` rows.
        class_counts : dict of label to float, default=None
            For balanced classes: the rows (the total weight, where there are weights) that a class will have had when
            all of them are in. Such a class needs no sums of its own; more rows than declared are a ValueError, and its
            rows cannot be forgotten. Counts must come with the first rows of their class and hold from then on.

        Returns
        -------
        self
        """
        began = time.perf_counter()
        y = _labels.as_array(y, type(self).__name__)
        with self._lock():
            learnt = None if self._learnt is None else self._trainable()
            if learnt is not None:
                self._check_balance(learnt)
            class_weight = self._checked_class_weight() if learnt is None else learnt.form.class_weight
            if class_counts is not None and not isinstance(class_weight, str):
                raise ValueError("class_counts is for class_weight='balanced' or 'air'")
            rows = self._first_rows(X) if learnt is None else self._checked_rows(X, learnt)
            _validate.check_length(rows, y)
            weight = _validate.check_weight(sample_weight, rows.shape[0])
            labels = None if _labels.is_indicator(y) else _labels.encode(y)
            if learnt is not None:
                self._check_form(learnt, labels is None, y)
            if labels is None:
                declared = self._column_labels(classes, learnt, y.shape[1])
            else:
                declared = self._declare(classes, learnt, labels)
            known = {} if learnt is None else learnt.form.class_counts
            known = {**known, **_checked_counts(class_counts)}
            counts = None if labels is None or not known else _counts_of(known, labels)
            if learnt is None:
                learnt = self._begin_with(X, rows, y, labels, weight, declared)
                learnt.form.class_counts = known
                if not atomic:
                    self._learnt = learnt
                self._feed(learnt, "partial_fit", rows, y, labels, weight, bool(atomic), counts=counts)
                self._learnt = learnt
            else:
                n_rows, form = learnt.model.n_rows, learnt.form
                before = form.declared, form.class_counts
                # Before the rows, since Ctrl-C while they go in is raised with them in.
                form.declared, form.class_counts = declared, known
                try:
                    self._feed(learnt, "partial_fit", rows, y, labels, weight, bool(atomic), counts=counts)
                except BaseException:
                    if learnt.model.n_rows == n_rows:
                        form.declared, form.class_counts = before
                    raise
        self._say("added", rows, began)
        return self

    def forget(self, X, y, sample_weight=None, atomic=True):
        """Takes rows out again, exactly: the model is then that of the rows that are left.

        Parameters
        ----------
        X, y, sample_weight
            Rows that were added before, with the labels and weights they were added with. That they were cannot be
            checked; fewer rows in a class than asked for, or a class never seen, is a ValueError, and so are rows of a
            balanced class that is closed.
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
        with self._lock():
            learnt = self._trainable()
            self._check_balance(learnt)
            y = _labels.as_array(y, type(self).__name__)
            rows = self._checked_rows(X, learnt)
            _validate.check_length(rows, y)
            weight = _validate.check_weight(sample_weight, rows.shape[0])
            labels = None if _labels.is_indicator(y) else _labels.encode(y)
            self._check_form(learnt, labels is None, y)
            self._feed(learnt, "forget", rows, y, labels, weight, bool(atomic))
        self._say("forgot", rows, began)
        return self

    def close_classes(self, labels=None):
        """Says that no more rows of these classes will come: balanced classes only, to save memory.

        Their sums, weighted by their counts as these are now, join one set of sums for all closed classes, and the
        weights of the model stay what they were. More rows of a closed class, and forgetting some, are a ValueError.

        Parameters
        ----------
        labels : array-like of shape (k,), default=None
            Classes of the model; None for all.

        Returns
        -------
        self
        """
        with self._lock():
            learnt = self._trainable()
            self._check_balance(learnt)
            if not isinstance(learnt.form.class_weight, str):
                raise ValueError("only balanced classes can be closed, class_weight is neither 'balanced' nor 'air'")
            labels = _labels.encode(np.asarray(self.classes_ if labels is None else labels))
            labels = _labels.match_kind(labels, learnt.model.classes()[0])
            learnt.model.close_classes(labels.kind, labels.listed())
        return self

    def calibrate(self, X, y):
        """Fits the temperature of `predict_proba` to held-out rows, by maximum likelihood. The scores stay.

        Parameters
        ----------
        X : array-like or CSR matrix of shape (n, d)
        y : array-like of shape (n,)

        Returns
        -------
        self

        Notes
        -----
        Golden sections of its logarithm, some 60 passes over the n x C scores. Source: "On Calibration of Modern Neural
        Networks".
        """
        with self._lock():
            learnt = self._ready()
            if learnt.form.multi:
                raise ValueError("a multi-label model has no temperature to calibrate")
            rows = self._checked_rows(X, learnt)
            y = _labels.as_array(y, type(self).__name__)
            _validate.check_length(rows, y)
            labels = _labels.match_kind(_labels.encode(y), learnt.model.classes()[0])
            learnt.model.calibrate(rows, labels.kind, labels.listed(), labels.codes)
        return self

    # Answers.

    def decision_function(self, X):
        """Scores.

        Parameters
        ----------
        X : array-like or CSR matrix of shape (n, d)

        Returns
        -------
        ndarray of shape (n,) or (n, n_classes)
            One column for two classes, positive for ``classes_[1]``. For multi-label targets the predicted target less
            0.5, positive where the label is predicted.
        """
        learnt = self._ready()
        scores = learnt.model.scores(self._checked_rows(X, learnt))
        if learnt.form.multi:
            return _validate.by_blocks(scores, np.float64, lambda part: part - 0.5)
        return scores[:, 1] - scores[:, 0] if scores.shape[1] == 2 else scores

    def predict(self, X):
        """The class of the highest score for each row, the first of equals; an indicator for multi-label targets.

        Parameters
        ----------
        X : array-like or CSR matrix of shape (n, d)

        Returns
        -------
        ndarray of shape (n,) or (n, n_labels)
        """
        learnt = self._ready()
        rows = self._checked_rows(X, learnt)
        if learnt.form.multi:
            return _validate.by_blocks(learnt.model.scores(rows), np.int64, lambda part: part > 0.5)
        places, kind, values = learnt.model.predict(rows)
        return _labels.from_core(kind, values, learnt.form.dtype)[places]

    def predict_proba(self, X):
        """Probabilities: softmax of the scores over a temperature.

        The default temperature is the noise variance of the scores as the sums know it; `calibrate` fits another. For
        multi-label targets each label has its own probability, by the same variance.

        Parameters
        ----------
        X : array-like or CSR matrix of shape (n, d)

        Returns
        -------
        ndarray of shape (n, n_classes)
        """
        learnt = self._ready()
        rows = self._checked_rows(X, learnt)
        if not learnt.form.multi:
            return learnt.model.predict_proba(rows)
        # Targets 0 and 1 with normal noise: the log odds are (score - 1/2) / variance. tanh does not overflow.
        variance = max(learnt.model.noise_variance, _VARIANCE_FLOOR)
        scores = learnt.model.scores(rows)
        return _validate.by_blocks(scores, np.float64, lambda part: 0.5 + 0.5 * np.tanh((part - 0.5) / (2 * variance)))

    def score(self, X, y, sample_weight=None):
        """Mean accuracy; for multi-label targets the share of rows with all labels right.

        Parameters
        ----------
        X : array-like or CSR matrix of shape (n, d)
        y : array-like of shape (n,) or (n, n_labels)
        sample_weight : array-like of shape (n,), default=None
            Not zero for all rows.

        Returns
        -------
        float
        """
        y = _labels.as_array(y, type(self).__name__)
        predicted = self.predict(X)
        if y.ndim == 2 and y.shape[1] == 1:
            y = y.ravel()
        if y.shape != predicted.shape:
            raise ValueError(f"y has shape {y.shape}, but the predictions have shape {predicted.shape}")
        right = predicted == y
        right = right.all(axis=1) if right.ndim == 2 else right
        return float(np.average(right, weights=_validate.check_weight_of_score(sample_weight, len(y))))

    @property
    def classes_(self):
        """Labels seen, sorted; for multi-label targets those of the columns, by default their numbers."""
        learnt = self._ready()
        if learnt.form.multi:
            named = learnt.form.declared
            return np.arange(learnt.model.n_outputs) if named is None else named.copy()
        kind, values, _ = learnt.model.classes()
        return _labels.from_core(kind, values, learnt.form.dtype)

    @property
    def class_count_(self):
        """Rows per class."""
        learnt = self._ready()
        if learnt.form.multi:
            raise AttributeError("a multi-label model has no class_count_")
        return learnt.model.classes()[2]

    @property
    def temperature_(self):
        """Temperature of `predict_proba`."""
        learnt = self._ready()
        if learnt.form.multi:
            raise AttributeError("a multi-label model has no temperature_")
        return learnt.model.temperature

    def _weights(self):
        learnt = self._ready()
        coef, intercept, _ = learnt.model.solution()
        if learnt.form.multi:
            return coef, intercept - 0.5
        if len(coef) == 2:
            return coef[1:] - coef[:1], intercept[1:] - intercept[:1]
        return coef, intercept

    @property
    def coef_(self):
        """Weights of the features."""
        return self._weights()[0]

    @property
    def intercept_(self):
        """Intercepts."""
        return self._weights()[1]

    def set_partial_fit_request(self, *, classes=UNCHANGED, sample_weight=UNCHANGED):
        """Whether routing hands these to `partial_fit`, as in `set_fit_request`. Returns self."""
        return self._request("partial_fit", classes=classes, sample_weight=sample_weight)

    # How it is done.

    _routed = {**AnalyticEstimator._routed, "partial_fit": ("classes", "sample_weight")}

    def _begin_with(self, X, rows, y, labels, weight, declared):
        """An empty model for rows and targets like these; labels: None for multi-label targets."""
        multi = labels is None
        form = LabelForm(multi, y.dtype if multi else labels.dtype, declared, self._checked_class_weight())
        weight = weight if multi else weighed(form.class_weight, labels, weight)
        return self._begin(X, rows, form, y.shape[1] if multi else None, weight)

    def _checked_class_weight(self):
        if self.class_weight is None or (isinstance(self.class_weight, str) and self.class_weight in BALANCES):
            return self.class_weight
        if not isinstance(self.class_weight, dict):
            raise ValueError(f"class_weight must be a dict, 'balanced', 'air' or None, got {self.class_weight!r}")
        return {
            label: _validate.check_number(weight, f"class_weight[{label!r}]")
            for label, weight in self.class_weight.items()
        }

    @staticmethod
    def _check_balance(learnt):
        if isinstance(learnt.form.class_weight, str) and learnt.model.config["balance"] == "none":
            raise ValueError(
                f"rows fitted with class_weight={learnt.form.class_weight!r} cannot be added to or be forgotten in "
                "this model: a file of version 0.1 holds no sums that could follow the counts"
            )

    @staticmethod
    def _feed(learnt, verb, rows, y, labels, weight, atomic, whole=False, counts=None):
        """Calls partial_fit or forget of the compiled model; whole: these are all rows there are; counts: of balanced
        classes, one per label, 0 where none is declared."""
        model, form = learnt.model, learnt.form
        call = getattr(model, verb)
        if labels is None:
            if form.class_weight is not None:
                raise ValueError("class_weight is not for multi-label targets")
            y = _validate.converted(y, np.uint8)
            call(learnt.addable(rows, weight), y, weight, atomic)
            if whole and learnt.chooses_once:
                learnt.check_choice()
                model.choose(*_validate.counting(weight, rows, y))
            return
        kind = model.classes()[0]
        labels = _labels.match_kind(labels, kind)
        weight = weighed(form.class_weight, labels, weight)
        if whole and weight is not None and not weight.any():
            raise ValueError("class_weight makes the weights of all rows zero")
        declared = {} if counts is None else {"totals": counts}
        shown, listed = learnt.addable(rows, weight), labels.listed()
        dtype = form.dtype
        if kind == "none":  # no class before, or none any more
            form.dtype = labels.dtype
        try:
            call(shown, labels.kind, listed, labels.codes, weight, atomic, **declared)
        except BaseException:
            # An error may have let rows in (atomic=False), or none. What comes after the call may be kept from running
            # by Ctrl-C, so it only takes back what is of no effect without rows.
            if kind == "none" and model.classes()[0] == "none":
                form.dtype = dtype
            raise
        if whole and learnt.chooses_once:
            learnt.check_choice()
            rows, codes, weight = _validate.counting(weight, rows, labels.codes)
            model.choose(rows, labels.kind, labels.listed(), codes, weight)

    @staticmethod
    def _declare(classes, learnt, labels):
        """The labels that may come, after this call."""
        declared = None if learnt is None else learnt.form.declared
        if classes is not None:
            given = np.asarray(classes)
            if given.ndim != 1:
                raise ValueError(f"classes must have one dimension, got an array of shape {given.shape}")
            given = _labels.encode(given).values
            if declared is not None and not np.array_equal(given, declared):
                raise ValueError(
                    f"`classes={classes!r}` is not the same as on last call to partial_fit, was: {declared!r}"
                )
            if learnt is not None and not learnt.form.multi:
                kind, values, _ = learnt.model.classes()
                missing = _labels.outside(_labels.from_core(kind, values, learnt.form.dtype), given)
                if missing.size:
                    raise ValueError(f"classes lacks labels that the model has already: {missing.tolist()!r}")
            declared = given
        if declared is not None:
            unknown = _labels.outside(labels.values, declared)
            if unknown.size:
                raise ValueError(
                    f"y has labels that are not in classes: {unknown.tolist()!r}; classes are {declared.tolist()!r}"
                )
        return declared

    @staticmethod
    def _column_labels(classes, learnt, n_columns):
        """What the columns of an indicator are called, after this call; None for their numbers."""
        named = None if learnt is None else learnt.form.declared
        if classes is None:
            return named
        given = _labels.column_labels(classes, n_columns)
        if named is not None and not np.array_equal(given, named):
            raise ValueError(f"`classes={classes!r}` is not the same as on last call to partial_fit, was: {named!r}")
        return given

    @staticmethod
    def _check_form(learnt, multi, y):
        """The targets must be of the form that the model was begun with."""
        if multi != learnt.form.multi:
            forms = {True: "multi-label targets", False: "one label per row"}
            raise ValueError(f"the model holds {forms[learnt.form.multi]}, y has {forms[multi]}")
        if multi and y.shape[1] != learnt.model.n_outputs:
            raise ValueError(f"y has {y.shape[1]} labels, but the model has {learnt.model.n_outputs}")

    def _form_like(self, source):
        form = source.form
        return LabelForm(form.multi, form.dtype, form.declared, self._checked_class_weight(), dict(form.class_counts))

    @staticmethod
    def _merge(mine, source):
        if mine.form.multi != source.form.multi:
            raise ValueError("a multi-label model and one with a label per row cannot be merged")
        if mine.form.multi:
            _check_columns(mine.form.declared, source.form.declared)
            mine.model.merge(source.model)
            if mine.form.declared is None:
                mine.form.declared = source.form.declared
            return
        kind = _kind_of(mine)
        its_kind, values, _ = source.model.classes()
        labels = _labels.match_kind(_labels.LabelledRows(its_kind, np.asarray(values), None, None), kind)
        if source.form.declared is None:
            _labels.refuse_undeclared(_labels.from_core(its_kind, values, source.form.dtype), mine.form.declared)
        same = labels.kind == its_kind
        mine.model.merge(source.model if same else source.model.relabelled(labels.kind, labels.listed()))
        if kind == "none":
            mine.form.dtype = source.form.dtype
        mine.form.class_counts = {**source.form.class_counts, **mine.form.class_counts}
        if mine.form.declared is not None and source.form.declared is not None:
            mine.form.declared = np.union1d(mine.form.declared, source.form.declared)

    @staticmethod
    def _unmerge(mine, source):
        if mine.form.multi != source.form.multi:
            raise ValueError("a multi-label model and one with a label per row cannot be unmerged")
        if mine.form.multi:
            _check_columns(mine.form.declared, source.form.declared)
            mine.model.unmerge(source.model)
            return
        its_kind, values, _ = source.model.classes()
        labels = _labels.match_kind(_labels.LabelledRows(its_kind, np.asarray(values), None, None), _kind_of(mine))
        same = labels.kind == its_kind
        mine.model.unmerge(source.model if same else source.model.relabelled(labels.kind, labels.listed()))

    def _merge_sums(self, state, classes):
        """Adds a GramState whose output k is class k of `classes`; what federated.merge_sums calls."""
        with self._lock():
            if self._learnt is None:
                form = LabelForm(False, classes.dtype, None, self._checked_class_weight())
                learnt = self._empty_for_sums(state, form, None)
            else:
                learnt = self._trainable()
                self._check_form(learnt, False, classes)
            labels = _labels.match_kind(_labels.encode(classes), _kind_of(learnt))
            if len(labels.values) != len(classes) or (labels.codes != np.arange(len(classes))).any():
                raise ValueError("classes must be sorted and without repeats")
            _labels.refuse_undeclared(classes, learnt.form.declared)
            learnt.model.merge_sums(state._core, labels.kind, labels.listed())
            self._learnt = learnt
        return self

    def __sklearn_tags__(self):
        from sklearn.utils import ClassifierTags

        tags = self._tags("classifier", target_required=True)
        # Weights per class have no meaning where a row has several labels.
        tags.classifier_tags = ClassifierTags(multi_class=True, multi_label=self.class_weight is None)
        return tags


def _kind_of(learnt):
    """Kind of the labels that a model has, "none" before the first."""
    return learnt.model.classes()[0]


def weighed(class_weight, labels, weight):
    """sample_weight times the class_weight of a dict, one per row."""
    if not isinstance(class_weight, dict):
        return weight
    factors = np.array([class_weight.get(label, 1.0) for label in labels.values.tolist()], dtype=np.float64)
    per_row = factors[labels.codes]
    return per_row if weight is None else per_row * weight


def _check_columns(mine, its):
    """ValueError where the labels of two models are called differently (None: not called anything)."""
    if mine is not None and its is not None and not np.array_equal(mine, its):
        raise ValueError(f"the labels of the other model are {its.tolist()!r}, those of this one {mine.tolist()!r}")


def _checked_counts(class_counts):
    if class_counts is None:
        return {}
    if not isinstance(class_counts, dict):
        raise ValueError(f"class_counts must be a dict of label to count, got {class_counts!r}")
    return {
        label: _validate.check_number(count, f"class_counts[{label!r}]", strict=True)
        for label, count in class_counts.items()
    }


def _counts_of(known, labels):
    """Declared counts, one per label of a call, 0 where there is none."""
    return np.array([known.get(label, 0.0) for label in labels.values.tolist()], dtype=np.float64)
