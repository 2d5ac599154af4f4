"""The smoother that infinitely deep networks tend to."""

import math
import threading

import numpy as np

from . import _core, _labels, _validate
from ._composite import Composite, Parts, labels_from_json, labels_to_json, names_from_json, names_to_json
from ._one_label import OneLabel, one_label_each
from .base import Estimator, thread_count


class SingularKernelClassifier(Composite, OneLabel, Estimator):
    """The smoother that infinitely deep networks tend to: class c has the sum of ``|x - x_i|^-alpha`` over its rows.

    Parameters
    ----------
    alpha : float or "dimension", default="dimension"
        The exponent: 0 votes by class counts, infinity is the nearest neighbour. "dimension" takes the number of
        features, the exponent with which the smoother is consistent for rows that fill their space.
        ``kernel_limit(activation).alpha`` is the exponent of a network.
    device : str, default="cpu"
    n_jobs : int, default=None

    Attributes
    ----------
    classes_ : ndarray of shape (n_classes,)
    alpha_ : float
    n_samples_seen_ : int
        Rows in the model.
    n_features_in_ : int
    feature_names_in_ : ndarray, only where ``X`` has column names that are all strings.

    Notes
    -----
    There is nothing to solve: the rows are the model, 8 bytes a value. Learning and forgetting copy or drop rows, a
    prediction costs 2 n d flops, with memory for 4 million distances at a time. A row of the model is answered by its
    own label (equal rows by the vote of theirs), unless alpha is 0.
    Source: "Wide and Deep Neural Networks Achieve Optimality for Classification".

    Examples
    --------
    >>> import numpy as np
    >>> from gramian import SingularKernelClassifier
    >>> model = SingularKernelClassifier(alpha=2.0).fit([[0.0], [1.0], [1.5]], ["a", "b", "b"])
    >>> model.predict_proba([[0.5], [0.0]]).round(3)
    array([[0.444, 0.556],
           [1.   , 0.   ]])
    """

    _held = ("_model", "feature_names_in_")

    def __init__(self, alpha="dimension", device="cpu", n_jobs=None):
        self.alpha = alpha
        self.device = device
        self.n_jobs = n_jobs

    def _exponent(self, width):
        if isinstance(self.alpha, str):
            if self.alpha != "dimension":
                raise ValueError(f"alpha must be a number >= 0 or 'dimension', got {self.alpha!r}")
            return float(width)
        if isinstance(self.alpha, (float, np.floating)) and self.alpha == np.inf:
            return math.inf
        return _validate.check_number(self.alpha, "alpha")

    def _where(self):
        return _validate.device_name(self.device), thread_count(self.n_jobs)

    def _lock(self):
        return self.__dict__.setdefault("_mutex", threading.RLock())

    def fit(self, X, y):
        """Keeps these rows alone.

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
        alpha = self._exponent(rows.shape[1])
        names = _validate.column_names(X)
        core = _core.SingularKernel(rows.shape[1], alpha)
        core.add(rows, labels.codes, *self._where())
        with self._lock():
            self._model = _Singular(core, rows.shape[1], alpha, names, labels.kind, labels.values, labels.dtype)
            self._set_feature_names(names)
        return self

    def partial_fit(self, X, y, classes=None):
        """Adds rows; labels may be new.

        Parameters
        ----------
        X, y
            As in `fit`.
        classes : ignored
            Present for scikit-learn's convention.

        Returns
        -------
        self
        """
        with self._lock():
            if getattr(self, "_model", None) is None:
                return self.fit(X, y)
            model, rows, labels = self._batch(X, y)
            values = np.unique(np.concatenate([model.values, labels.values]))
            # Codes in the compiled model never change: new labels are numbered after the old ones.
            order = [*model.order, *(v for v in labels.values.tolist() if v not in model.place)]
            grown = model.relabelled(order, values)
            codes = np.array([grown.place[v] for v in labels.values.tolist()], dtype=np.int64)[labels.codes]
            model.core.add(rows, codes, *self._where())
            self._model = grown
        return self

    def forget(self, X, y):
        """Takes rows out again, found by their values and label.

        A row that is not in the model is a ValueError naming it, and nothing is forgotten. Returns self.
        """
        with self._lock():
            model, rows, labels = self._batch(X, y)
            unknown = [v for v in labels.values.tolist() if v not in model.place]
            if unknown:
                raise ValueError(f"label {unknown[0]!r} is not in the model")
            codes = np.array([model.place[v] for v in labels.values.tolist()], dtype=np.int64)[labels.codes]
            model.core.remove(rows, codes, *self._where())
        return self

    def _batch(self, X, y):
        model, rows = self._query(X)
        labels = one_label_each(y, type(self).__name__)
        if model.core.n_rows == 0:  # nothing is left that labels of another kind could mix with
            core = _core.SingularKernel(model.width, model.alpha)
            model = _Singular(core, model.width, model.alpha, model.names, labels.kind, labels.values, labels.dtype)
        labels = _labels.match_kind(labels, model.kind)
        if labels.kind != model.kind:
            raise ValueError(f"labels are {labels.kind}, but those of the model are {model.kind}")
        _validate.check_length(rows, labels.codes)
        return model, rows, labels

    def _ready(self):
        model = getattr(self, "_model", None)
        if model is None:
            self._raise_not_fitted()
        return model

    def _query(self, X):
        model = self._ready()
        who = type(self).__name__
        _validate.check_column_names(X, model.names, who)
        rows = _validate.check_rows(X, who)
        _validate.check_width(rows, model.width, who)
        return model, rows

    def predict_proba(self, X):
        """Shares of the classes in the sum of all weights, (n, n_classes) in the order of `classes_`."""
        model, rows = self._query(X)
        if model.core.n_rows == 0:
            self._raise_not_fitted()
        shares = model.core.probabilities(rows, len(model.order), *self._where())
        return shares[:, [model.place[v] for v in self.classes_.tolist()]]

    def predict(self, X):
        """The class of the largest share, the first of equals."""
        return self.classes_[self.predict_proba(X).argmax(axis=1)]

    @property
    def classes_(self):
        """Labels of the rows in the model, sorted."""
        model = self._ready()
        there = model.core.present(len(model.order))
        kept = [v for v in model.values.tolist() if there[model.place[v]]]
        return _labels.from_core(model.kind, kept, model.dtype)

    @property
    def alpha_(self):
        """The exponent in use."""
        return self._ready().alpha

    @property
    def n_features_in_(self):
        """Width of the rows."""
        return self._ready().width

    @property
    def n_samples_seen_(self):
        """Rows in the model."""
        return self._ready().core.n_rows

    def __sklearn_is_fitted__(self):
        model = getattr(self, "_model", None)
        return model is not None and model.core.n_rows > 0

    # In files.

    def _parts(self):
        with self._lock():
            model = self._ready()
            rows, codes = model.core.stored()
            learnt = {
                "infinite": math.isinf(model.alpha),
                "alpha": 0.0 if math.isinf(model.alpha) else model.alpha,
                "names": names_to_json(model.names),
                "labels": labels_to_json(_labels.from_core(model.kind, model.order, model.dtype), model.dtype),
            }
        return Parts(learnt, {"rows": rows, "codes": codes})

    def _take_parts(self, parts, device, n_jobs):
        learnt = parts.learnt
        rows = parts.array("rows", np.float64, (-1, -1))
        codes = parts.array("codes", np.int64, (len(rows),))
        order, kind, dtype = labels_from_json(learnt["labels"])
        if codes.size and not 0 <= codes.min() <= codes.max() < len(order):
            raise ValueError(f"codes of {len(order)} labels that are outside of them")
        alpha = math.inf if learnt["infinite"] else _validate.check_number(learnt["alpha"], "alpha")
        names = names_from_json(learnt["names"], rows.shape[1])
        core = _core.SingularKernel(rows.shape[1], alpha)
        core.add(rows, codes, _validate.device_name(device), thread_count(n_jobs))
        values = np.sort(order)
        self._model = _Singular(core, rows.shape[1], alpha, names, kind, values, dtype, order.tolist())
        self._set_feature_names(names)


class _Singular:
    """Rows in the compiled model and what their codes mean: code i is the label order[i]."""

    __slots__ = ("core", "width", "alpha", "names", "kind", "values", "dtype", "order", "place")

    def __init__(self, core, width, alpha, names, kind, values, dtype, order=None):
        self.core, self.width, self.alpha, self.names = core, width, alpha, names
        self.kind, self.values, self.dtype = kind, values, dtype  # values: sorted
        self.order = values.tolist() if order is None else order
        self.place = {value: code for code, value in enumerate(self.order)}

    def relabelled(self, order, values):
        return _Singular(self.core, **{**self.parts(), "order": order, "values": values})

    def parts(self):
        return {name: getattr(self, name) for name in self.__slots__ if name not in ("core", "place")}
