"""Ridge regression with the kernel of an infinitely wide network, for labels and for numbers."""

import copy
import sys
import time

import numpy as np

from . import _core, _validate
from ._composite import (
    Composite,
    Parts,
    labels_from_json,
    labels_to_json,
    names_from_json,
    names_to_json,
    object_from_json,
)
from ._one_label import OneLabelClassifier, of_two, one_label_each
from .base import Estimator, thread_count, warn_rank_deficient
from .deep_kernel import DeepKernel
from .gram import report_of
from .regressor import AnalyticRegressor


class _Fitted:
    """What a fit leaves: nothing in it ever changes, so threads may share it."""

    __slots__ = ("kernel", "machine", "names", "width", "classes", "dtype", "flat", "seed")

    def __init__(self, **parts):
        for name in self.__slots__:
            setattr(self, name, parts.get(name))


class KernelEstimator(Composite, Estimator):
    """Ridge regression with a DeepKernel, for labels or numbers."""

    _fitted = None
    _held = ("_fitted", "feature_names_in_")

    def _learn(self, X, rows, targets, centre, default, **parts):
        """default: the kernel where the parameter is None."""
        began = time.perf_counter()
        if self.kernel is not None and not isinstance(self.kernel, DeepKernel):
            raise TypeError(f"kernel must be a DeepKernel or None, got {self.kernel!r}")
        # A copy: later changes of the parameter are for the next fit.
        kernel = copy.copy(default if self.kernel is None else self.kernel)
        ridge = _validate.check_number(self.ridge, "ridge")
        machine = _core.KernelMachine.fit(kernel._kernel(), rows, targets, ridge, centre, *_where(kernel))
        names = _validate.column_names(X)
        self._fitted = _Fitted(kernel=kernel, machine=machine, names=names, width=rows.shape[1], **parts)
        self._set_feature_names(names)
        if self.verbose:
            seconds = time.perf_counter() - began
            print(f"[{type(self).__name__}] fitted {rows.shape[0]} rows in {seconds:.2f} s", file=sys.stderr)
        warn_rank_deficient([self.report_])
        return self

    def _ready(self):
        if self._fitted is None:
            self._raise_not_fitted()
        return self._fitted

    def _query(self, X):
        fitted = self._ready()
        who = type(self).__name__
        _validate.check_column_names(X, fitted.names, who)
        rows = _validate.check_rows(X, who)
        _validate.check_width(rows, fitted.width, who)
        return fitted, rows

    @property
    def n_features_in_(self):
        """Width of the rows."""
        return self._ready().width

    @property
    def report_(self):
        """How the system was solved (SolveReport)."""
        return report_of(self._ready().machine.report)

    def __sklearn_is_fitted__(self):
        return self._fitted is not None

    # In files.

    def _parts(self):
        fitted = self._ready()
        width, rows, coef, mean, ridge = fitted.machine.parts()
        learnt = {
            "kernel": fitted.kernel._as_json(),
            "width": width,
            "ridge": ridge,
            "names": names_to_json(fitted.names),
            "classes": None if fitted.classes is None else labels_to_json(fitted.classes, fitted.dtype),
            "flat": fitted.flat,
            "seed": None if fitted.seed is None else str(fitted.seed),
        }
        return Parts(learnt, {"rows": rows, "coef": coef, "target_mean": np.asarray(mean)})

    def _take_parts(self, parts, device, n_jobs):
        learnt = parts.learnt
        kernel = object_from_json(learnt["kernel"]).set_params(device=device, n_jobs=n_jobs)
        rows, coef = parts.array("rows", np.float64, (-1, -1)), parts.array("coef", np.float64, (-1, -1))
        mean, ridge = parts.array("target_mean", np.float64, (coef.shape[1],)), float(learnt["ridge"])
        width = _validate.check_count(learnt["width"], "width")
        machine = _core.KernelMachine.restored(kernel._kernel(), width, rows, coef, mean, ridge, *_where(kernel))
        classes = dtype = None
        if isinstance(self, OneLabelClassifier):
            classes, _, dtype = labels_from_json(learnt["classes"])
            if len(classes) != coef.shape[1] or not np.array_equal(classes, np.unique(classes)):
                raise ValueError(f"{len(classes)} sorted labels are needed, one for each of {coef.shape[1]} outputs")
        names = names_from_json(learnt["names"], width)
        self._fitted = _Fitted(
            kernel=kernel,
            machine=machine,
            names=names,
            width=width,
            classes=classes,
            dtype=dtype,
            flat=None if learnt["flat"] is None else bool(learnt["flat"]) and coef.shape[1] == 1,
            seed=None if learnt["seed"] is None else int(learnt["seed"]),
        )
        self._set_feature_names(names)

    def _places(self):
        kernel = DeepKernel() if self.kernel is None else self.kernel
        return kernel.device, kernel.n_jobs

    def _set_places(self, device, n_jobs):
        if self.kernel is not None:
            self.kernel.set_params(device=device, n_jobs=n_jobs)


def _where(kernel):
    return _validate.device_name(kernel.device), thread_count(kernel.n_jobs)


class DeepKernelClassifier(OneLabelClassifier, KernelEstimator):
    """The infinitely wide network as a classifier: kernel ridge regression on one-hot targets.

    Parameters
    ----------
    kernel : DeepKernel, default=None
        None for ``DeepKernel(lift=1.0)``.
    ridge : float, default=1e-3
        >= 0, relative to a kernel of 1 on the diagonal; 0 interpolates (the minimum-norm answer where the kernel matrix
        is singular).
    verbose : int, default=0
        1 writes a line to stderr after each fit.

    Attributes
    ----------
    classes_ : ndarray of shape (n_classes,)
    n_features_in_ : int
    feature_names_in_ : ndarray, only where ``X`` has column names that are all strings.
    report_ : SolveReport

    Notes
    -----
    A kernel machine: it keeps all rows. Fitting costs n^2 d + n^3 / 3 flops and 12 n^2 bytes, a prediction n (d + C)
    and the kernel's n evaluations. It cannot learn from a stream; `AnalyticClassifier` on random features can.
    Source: "Wide and Deep Neural Networks Achieve Optimality for Classification".

    Examples
    --------
    >>> import numpy as np
    >>> from gramian import DeepKernelClassifier
    >>> X = np.array([[0.0, 0.0], [1.0, 1.0], [0.0, 1.0], [1.0, 0.0]])
    >>> DeepKernelClassifier(ridge=1e-6).fit(X, [0, 0, 1, 1]).predict(X)
    array([0, 0, 1, 1])
    """

    def __init__(self, kernel=None, ridge=1e-3, verbose=0):
        self.kernel = kernel
        self.ridge = ridge
        self.verbose = verbose

    def fit(self, X, y):
        """Learns from these rows; the old model is kept until the new one is complete.

        Parameters
        ----------
        X : array-like or CSR matrix of shape (n, d)
        y : array-like of shape (n,)
            Labels: bool, int, float (whole numbers), str or bytes.

        Returns
        -------
        self
        """
        who = type(self).__name__
        labels = one_label_each(y, who)
        rows = _validate.check_rows(X, who)
        _validate.check_length(rows, labels.codes)
        if len(labels.values) < 2:
            raise ValueError(f"{who} needs at least two classes, got {len(labels.values)} class")
        targets = np.zeros((rows.shape[0], len(labels.values)))
        targets[np.arange(rows.shape[0]), labels.codes] = 1.0
        return self._learn(X, rows, targets, False, DeepKernel(lift=1.0), classes=labels.values, dtype=labels.dtype)

    @property
    def classes_(self):
        """Labels seen, sorted."""
        return self._ready().classes

    def _scores(self, X):
        fitted, rows = self._query(X)
        return fitted.machine.predict(rows, False), fitted.classes

    def predict(self, X):
        """The class of the highest score, the first of equals; also where all scores are below the least double."""
        fitted, rows = self._query(X)
        scores = of_two(fitted.machine.predict(rows, True))
        places = (scores > 0).astype(np.int64) if scores.ndim == 1 else scores.argmax(axis=1)
        return fitted.classes[places]


class DeepKernelRegressor(KernelEstimator):
    """The infinitely wide network as a regressor: kernel ridge regression on centred targets.

    Parameters
    ----------
    kernel : DeepKernel, default=None
        None for ``DeepKernel(lift=1.0)``.
    ridge : float, default=1e-3
        >= 0, relative to a kernel of 1 on the diagonal.
    fit_intercept : bool, default=True
        Predict the mean of the targets plus what the kernel adds.
    verbose : int, default=0

    Attributes
    ----------
    n_features_in_, feature_names_in_, report_
        As of `DeepKernelClassifier`, whose notes on cost hold too.

    Notes
    -----
    Source: "Wide and Deep Neural Networks Achieve Optimality for Classification".

    Examples
    --------
    >>> import numpy as np
    >>> from gramian import DeepKernelRegressor
    >>> X = np.linspace(-1, 1, 20)[:, np.newaxis]
    >>> DeepKernelRegressor(ridge=1e-8).fit(X, X[:, 0] ** 2).predict([[0.5]]).round(2)
    array([0.25])
    """

    _estimator_type = "regressor"

    def __init__(self, kernel=None, ridge=1e-3, fit_intercept=True, verbose=0):
        self.kernel = kernel
        self.ridge = ridge
        self.fit_intercept = fit_intercept
        self.verbose = verbose

    def fit(self, X, y):
        """Learns from these rows.

        Parameters
        ----------
        X : array-like or CSR matrix of shape (n, d)
        y : array-like of shape (n,) or (n, k)

        Returns
        -------
        self
        """
        who = type(self).__name__
        y = _validate.check_targets(y, who)
        rows = _validate.check_rows(X, who)
        _validate.check_length(rows, y)
        return self._learn(
            X, rows, _validate.as_columns(y), bool(self.fit_intercept), DeepKernel(lift=1.0), flat=y.ndim == 1
        )

    def predict(self, X):
        """Predicted targets, (n,) or (n, k) as the ``y`` of the fit."""
        fitted, rows = self._query(X)
        out = fitted.machine.predict(rows, False)
        return out[:, 0] if fitted.flat else out

    score = AnalyticRegressor.score  # of what `predict` says

    def __sklearn_tags__(self):
        from sklearn.utils import RegressorTags

        tags = self._tags("regressor", target_required=True)
        tags.target_tags.multi_output = True
        tags.regressor_tags = RegressorTags()
        return tags
