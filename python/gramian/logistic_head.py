"""Logistic and softmax regression on fixed features, and their loss for loops of one's own."""

import sys

import numpy as np

from . import _core, _labels, _validate
from ._composite import Composite, Parts, labels_from_json, labels_to_json, names_from_json, names_to_json
from .base import Estimator, draw_seed, thread_count, warn_not_converged

_REPORT = {"loss": float, "gradient": float, "iterations": int, "evaluations": int, "products": int, "converged": bool}
_RULES = {"newton": (100, 1e-10), "adahessian": (2000, 1e-6), "sophia": (2000, 1e-6)}


class LogisticLoss:
    """The loss that `LogisticHead` minimises, with its gradient and products with its Hessian, for loops of one's own.

    ``sum_i w_i loss_i / sum w + ridge / (2 sum w) |W|^2`` on fixed features, intercepts unpenalised.

    Parameters
    ----------
    X : array-like or CSR matrix of shape (n, d)
    y : array-like of shape (n,)
    ridge : float, default=1.0
    fit_intercept : bool, default=True
    sample_weight : array-like of shape (n,), default=None
    device : str, default="cpu"
    n_jobs : int, default=None

    Attributes
    ----------
    classes_ : ndarray of shape (n_classes,)
    shape_ : (int, int)
        Of the weights: a row per feature and one of intercepts; a column per class, one for two classes.

    Notes
    -----
    An evaluation and a product cost 4 n d c flops and one pass over the rows. Source: textbook identity, the gradient
    and the Hessian of the logistic loss.
    """

    def __init__(self, X, y, ridge=1.0, fit_intercept=True, sample_weight=None, device="cpu", n_jobs=None):
        rows, labels, weight = _labelled(X, y, sample_weight, type(self).__name__)
        self.classes_ = labels.values
        self._core = _core.LogisticObjective(
            rows,
            labels.codes,
            weight,
            len(labels.values),
            _validate.check_number(ridge, "ridge"),
            bool(fit_intercept),
            _validate.device_name(device),
            thread_count(n_jobs),
        )
        self.shape_ = self._core.rows, self._core.columns

    def _shaped(self, values, name):
        values = _validate.readable(np.asarray(values), name).astype(np.float64, copy=False)
        if values.size != self.shape_[0] * self.shape_[1]:
            raise ValueError(f"{name} has the shape {values.shape}, expected {self.shape_} or a vector of as many")
        _validate.check_finite(values.reshape(self.shape_), name)
        return np.ascontiguousarray(values.reshape(self.shape_))

    def value_gradient(self, weights):
        """(value, gradient in the shape of the argument) at weights of `shape_` or of the same size flat."""
        value, gradient = self._core.evaluate(self._shaped(weights, "weights"))
        return value, gradient.reshape(np.shape(weights))

    def hessian_product(self, v):
        """``H v`` at the weights of the last `value_gradient`."""
        return self._core.product(self._shaped(v, "v")).reshape(np.shape(v))


def _labelled(X, y, sample_weight, who):
    """Rows, labels of two classes or more, and weights."""
    y = _labels.as_array(y, who)
    if y.ndim == 2 and y.shape[1] > 1:
        raise ValueError(f"y should be a 1d array, got an array of shape {y.shape} instead.")
    rows = _validate.check_rows(X, who)
    _validate.check_length(rows, y)
    labels = _labels.encode(y)
    if len(labels.values) < 2:
        raise ValueError(
            f"{who} needs samples of at least 2 classes in the data, but the data contains only one class: "
            f"{labels.values[0]!r}"
        )
    return rows, labels, _validate.check_weight(sample_weight, rows.shape[0])


class LogisticHead(Composite, Estimator):
    """Logistic and softmax regression on fixed features, by second-order steps.

    Minimises ``sum_i w_i loss_i + ridge / 2 |W|^2`` with unpenalised intercepts: scikit-learn's ``LogisticRegression``
    with ``C = 1 / ridge``. Two classes have one column of weights, more have one each.

    Parameters
    ----------
    ridge : float, default=1.0
        >= 0. 0 has no minimum where the classes can be separated.
    solver : {"newton", "adahessian", "sophia"}, default="newton"
        "newton" solves with the Hessian, regularised by the square root of the gradient's norm, by conjugate gradients
        in coordinates that do not depend on the scale of the features; it ends at the minimum to rounding. The other
        two take the rules of `adahessian_step` and `sophia_step` on all rows with one random diagonal a step: they
        reach the minimum slowly, and are there for comparison and as a test of the rules.
    fit_intercept : bool, default=True
    max_iter : int, default=None
        None is 100 for "newton", else 2000.
    tol : float, default=None
        Largest entry of the gradient of the mean loss at which to stop; None is 1e-10 for "newton", else 1e-6.
    learning_rate : float, default=None
        Of "adahessian" and "sophia"; None is 1 and 0.3. Halved after 100 steps without a lower loss.
    device : str, default="cpu"
    n_jobs : int, default=None
    random_state : int, RandomState, Generator or None, default=0
        Of the random diagonals.
    verbose : int, default=0
        1 writes a line to stderr after each fit.

    Attributes
    ----------
    classes_ : ndarray of shape (n_classes,)
    coef_ : ndarray of shape (1, n_features) or (n_classes, n_features)
    intercept_ : ndarray of shape (1,) or (n_classes,)
    n_iter_ : int
    report_ : dict
        "loss" and "gradient" (largest entry) of the mean loss, "iterations", "evaluations" of it, "products" with the
        Hessian, "converged".
    n_features_in_ : int
    feature_names_in_ : ndarray, only where ``X`` has column names that are all strings.

    Notes
    -----
    An iteration of "newton" costs 4 n d c flops an evaluation and a product, some ten products; its coordinates n d^2
    once (not beyond 4096 features). Rows are kept as float64 up to 256 MiB and read anew in each pass beyond. Rows of
    weight 0 take no part, but for naming classes.
    Sources: "Regularized Newton Method with Global O(1/k^2) Convergence"; the coordinates come from the bound of
    "Multinomial logistic regression algorithm".

    Examples
    --------
    >>> from gramian import LogisticHead
    >>> head = LogisticHead(ridge=0.1).fit([[0.0], [1.0], [3.0], [4.0]], ["no", "no", "yes", "yes"])
    >>> head.predict([[0.5], [3.5]])
    array(['no', 'yes'], dtype='<U3')
    """

    _estimator_type = "classifier"
    _held = ("coef_", "intercept_", "classes_", "n_iter_", "report_")

    def __init__(
        self,
        ridge=1.0,
        solver="newton",
        fit_intercept=True,
        max_iter=None,
        tol=None,
        learning_rate=None,
        device="cpu",
        n_jobs=None,
        random_state=0,
        verbose=0,
    ):
        self.ridge = ridge
        self.solver = solver
        self.fit_intercept = fit_intercept
        self.max_iter = max_iter
        self.tol = tol
        self.learning_rate = learning_rate
        self.device = device
        self.n_jobs = n_jobs
        self.random_state = random_state
        self.verbose = verbose

    def fit(self, X, y, sample_weight=None):
        """Learns from these rows alone. The old model is kept until the new one is complete.

        Parameters
        ----------
        X : array-like or CSR matrix of shape (n, d)
        y : array-like of shape (n,)
            Labels of two classes or more: bool, int, float (whole numbers), str or bytes.
        sample_weight : array-like of shape (n,), default=None
            >= 0, not all zero.

        Returns
        -------
        self
        """
        if self.solver not in _RULES:
            raise ValueError(f"solver must be one of {', '.join(map(repr, _RULES))}, got {self.solver!r}")
        most, tol = _RULES[self.solver]
        who = type(self).__name__
        rows, labels, weight = _labelled(X, y, sample_weight, who)
        names = _validate.column_names(X)
        weights, report = _core.fit_logistic(
            rows,
            labels.codes,
            weight,
            len(labels.values),
            self.solver,
            _validate.check_number(self.ridge, "ridge"),
            bool(self.fit_intercept),
            most if self.max_iter is None else _validate.check_count(self.max_iter, "max_iter"),
            tol if self.tol is None else _validate.check_number(self.tol, "tol"),
            0.0
            if self.learning_rate is None
            else _validate.check_number(self.learning_rate, "learning_rate", strict=True),
            draw_seed(self.random_state) if self.solver != "newton" else 0,
            _validate.device_name(self.device),
            thread_count(self.n_jobs),
        )
        width = rows.shape[1]
        self.classes_ = _labels.from_core(labels.kind, labels.listed(), labels.dtype)
        self.coef_ = np.ascontiguousarray(weights[:width].T)
        self.intercept_ = weights[width].copy() if self.fit_intercept else np.zeros(weights.shape[1])
        self.n_iter_ = max(1, report["iterations"])
        self.report_ = report
        self.n_features_in_ = width
        self._set_feature_names(names)
        if self.verbose:
            print(f"[{who}] {report['iterations']} steps, gradient {report['gradient']:.1e}", file=sys.stderr)
        if not report["converged"]:
            warn_not_converged(
                f"{who} stopped after {report['iterations']} steps with a gradient of {report['gradient']:.1e}; more "
                "steps (max_iter), scaled features or a larger ridge help"
            )
        return self

    def decision_function(self, X):
        """Scores: (n,), positive for ``classes_[1]``, for two classes, else (n, n_classes)."""
        scores = self._scores(X)
        return scores[:, 0] if len(self.classes_) == 2 else scores

    def _scores(self, X):
        if not hasattr(self, "coef_"):
            self._raise_not_fitted()
        who = type(self).__name__
        _validate.check_column_names(X, getattr(self, "feature_names_in_", None), who)
        rows = _validate.check_rows(X, who)
        _validate.check_width(rows, self.n_features_in_, who)
        weights = np.vstack([self.coef_.T, self.intercept_])
        return _core.linear_scores(rows, weights, True, _validate.device_name(self.device), thread_count(self.n_jobs))

    def predict_log_proba(self, X):
        """Logarithms of `predict_proba`."""
        scores = self._scores(X)
        if scores.shape[1] == 1:
            return -np.logaddexp(0, np.hstack([scores, -scores]))
        scores -= scores.max(axis=1, keepdims=True)
        return scores - np.log(np.exp(scores).sum(axis=1, keepdims=True))

    def predict_proba(self, X):
        """Probabilities of the classes, (n, n_classes)."""
        return np.exp(self.predict_log_proba(X))

    def predict(self, X):
        """The most probable class of each row, the first of equals."""
        scores = self._scores(X)
        return self.classes_[(scores[:, 0] > 0).astype(int) if scores.shape[1] == 1 else scores.argmax(axis=1)]

    def score(self, X, y, sample_weight=None):
        """Mean accuracy."""
        y = _labels.as_array(y, type(self).__name__).reshape(-1)
        predicted = self.predict(X)
        if y.shape != predicted.shape:
            raise ValueError(f"y has shape {y.shape}, but the predictions have shape {predicted.shape}")
        return float(np.average(predicted == y, weights=_validate.check_weight_of_score(sample_weight, len(y))))

    def _parts(self):
        if not hasattr(self, "coef_"):
            self._raise_not_fitted()
        learnt = {
            "labels": labels_to_json(self.classes_, self.classes_.dtype),
            "names": names_to_json(getattr(self, "feature_names_in_", None)),
            "report": self.report_,
        }
        return Parts(learnt, {"coef": self.coef_, "intercept": self.intercept_})

    def _take_parts(self, parts, device, n_jobs):
        coef = parts.array("coef", np.float64, (-1, -1))
        intercept = parts.array("intercept", np.float64, (len(coef),))
        classes, _, _ = labels_from_json(parts.learnt["labels"])
        if len(classes) < 2 or len(coef) != (1 if len(classes) == 2 else len(classes)):
            raise ValueError(f"{len(coef)} rows of weights for {len(classes)} classes")
        names = names_from_json(parts.learnt["names"], coef.shape[1])
        report = {name: kind(parts.learnt["report"][name]) for name, kind in _REPORT.items()}
        self.coef_, self.intercept_, self.classes_ = coef, intercept, classes
        self.n_iter_, self.report_, self.n_features_in_ = max(1, report["iterations"]), report, coef.shape[1]
        self._set_feature_names(names)

    def __sklearn_tags__(self):
        from sklearn.utils import ClassifierTags

        tags = self._tags("classifier", target_required=True)
        tags.classifier_tags = ClassifierTags()
        return tags
