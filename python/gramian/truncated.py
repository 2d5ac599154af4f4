"""Ridge classification on a stream from the leading directions of the features, without their Gram matrix."""

import json
import os

import numpy as np

from . import _core, _labels, _validate
from ._feature_map import seed_from_json, seed_to_json
from ._model_config import names_from_json
from ._one_label import OneLabelClassifier, weights_of_two
from .base import Estimator, thread_count
from .features import fit_map, from_handle, with_params


class TruncatedRidgeClassifier(OneLabelClassifier, Estimator):
    """Class-incremental ridge classifier that keeps the ``rank`` strongest directions of the features.

    The second moment of the features is held as a basis of ``rank`` directions with their energies: 8 rank d bytes
    instead of 4 d^2. While nothing is dropped the weights are those of one regression on all rows; what is dropped is
    counted. Weak directions, which an ill-conditioned expansion has many of, are left out rather than damped.

    Parameters
    ----------
    feature_map : feature map, default=None
        Fixed map in front of the regression. It is not changed: the model works with a fitted copy.
    rank : int, default=256
        Directions kept, at most.
    tau : float, default=None
        Directions with a singular value up to it are dropped; None drops only what is rounding.
    ridge : float, default=0.0
        Penalty of the squared weights. 0 gives the weights of least norm.
    fit_intercept : bool, default=True
    device : str, default="cpu"
        "cpu", "cuda" or "cuda:1".
    n_jobs : int, default=None
        Threads; None for the library's default, -1 for all processors.
    random_state : int, RandomState, Generator or None, default=0
        Seeds the feature map, where that has ``random_state=None``.

    Attributes
    ----------
    classes_ : ndarray of shape (n_classes,)
        Labels seen, sorted.
    class_count_ : ndarray of shape (n_classes,)
    coef_ : ndarray of shape (1, n_features) or (n_classes, n_features)
        One row for two classes, as in scikit-learn.
    intercept_ : ndarray of shape (1,) or (n_classes,)
    rank_ : int
        Directions in use.
    singular_values_ : ndarray of shape (rank_,)
        Of the rows (centred where there is an intercept), as far as they are kept; falling.
    components_ : ndarray of shape (rank_, n_features)
        The directions, orthonormal.
    dropped_energy_ : float
        Sum of the squared singular values that were dropped: the largest eigenvalue of (second moment of all rows -
        second moment kept) is at most this.
    n_samples_seen_ : int
    nbytes : int
        Bytes of the state.
    n_features_in_ : int
    feature_names_in_ : ndarray of shape (n_features_in_,)
        Only where ``X`` has column names that are all strings.
    feature_map_ : the fitted map, or None

    Notes
    -----
    About 8 rank d + 40 rank^2 flops a row and 8 (rank + n_classes) d bytes. Where directions are dropped, the result
    depends on the order of the rows, and rows cannot be forgotten. Reference: "LoRanPAC: Low-rank Random Features and
    Pre-trained Models for Bridging Theory and Practice in Continual Learning".

    Examples
    --------
    >>> import numpy as np
    >>> from gramian import TruncatedRidgeClassifier
    >>> X = np.array([[0.0, 0.0], [0.1, 0.0], [1.0, 0.0], [1.1, 0.1]])
    >>> model = TruncatedRidgeClassifier(rank=2).partial_fit(X, ["a", "a", "b", "b"])
    >>> model.predict([[0.9, 0.0]])
    array(['b'], dtype='<U1')
    """

    _learnt = None  # (compiled model, fitted map, column names, dtype of the labels)

    def __init__(
        self,
        feature_map=None,
        rank=256,
        tau=None,
        ridge=0.0,
        fit_intercept=True,
        device="cpu",
        n_jobs=None,
        random_state=0,
    ):
        self.feature_map = feature_map
        self.rank = rank
        self.tau = tau
        self.ridge = ridge
        self.fit_intercept = fit_intercept
        self.device = device
        self.n_jobs = n_jobs
        self.random_state = random_state

    def fit(self, X, y):
        """Learns from these rows alone. The old model is kept until the new one is complete.

        Parameters
        ----------
        X : array-like or CSR matrix of shape (n, d)
            Finite.
        y : array-like of shape (n,)
            Labels: bool, int, float (whole numbers), str or bytes.

        Returns
        -------
        self
        """
        learnt = self._fed(None, X, y)
        with self._lock():
            self._learnt = learnt
        return self

    def partial_fit(self, X, y, classes=None):
        """Adds rows. Classes that were never seen become classes of the model. An error leaves the model as it was.

        Parameters
        ----------
        X, y
            As in `fit`.
        classes : ignored
            Labels need not be known in advance; accepted because scikit-learn's tools pass them.

        Returns
        -------
        self
        """
        with self._lock():
            self._learnt = self._fed(self._learnt, X, y)
        return self

    def _fed(self, learnt, X, y):
        who = type(self).__name__
        y = _labels.as_array(y, who)
        if _labels.is_indicator(y):
            raise ValueError(f"{who} takes one label per row, y has shape {y.shape}")
        rows = self._rows(X, learnt)
        _validate.check_length(rows, y)
        labels = _labels.encode(y)
        if learnt is None:
            names = _validate.column_names(X)
            fitted = None if self.feature_map is None else fit_map(self.feature_map, rows, self.random_state)
            model = _core.TruncatedClassifier(
                n_inputs=rows.shape[1], feature_map=None if fitted is None else fitted._handle(), **self._config()
            )
            learnt = model, fitted, names, labels.dtype
        labels = _labels.match_kind(labels, learnt[0].classes()[0])
        learnt[0].partial_fit(rows, labels.kind, labels.listed(), labels.codes)
        return learnt

    def _config(self):
        return {
            "rank": _validate.check_count(self.rank, "rank"),
            "tau": 0.0 if self.tau is None else _validate.check_number(self.tau, "tau"),
            "ridge": _validate.check_number(self.ridge, "ridge"),
            "intercept": bool(self.fit_intercept),
            "device": _validate.device_name(self.device),
            "threads": thread_count(self.n_jobs),
        }

    def _rows(self, X, learnt):
        who = type(self).__name__
        if learnt is not None:
            _validate.check_column_names(X, learnt[2], who)
        rows = _validate.check_rows(X, who)
        if learnt is not None:
            _validate.check_width(rows, learnt[0].n_inputs, who)
        return _validate.for_products(rows, "float64")

    def _ready(self):
        if self._learnt is None:
            self._raise_not_fitted()
        return self._learnt

    def _scores(self, X):
        learnt = self._ready()
        scores, kind, values = learnt[0].scores(self._rows(X, learnt))
        return scores, _labels.from_core(kind, values, learnt[3])

    @property
    def classes_(self):
        """Labels seen, sorted."""
        model, _, _, dtype = self._ready()
        kind, values, _ = model.classes()
        return _labels.from_core(kind, values, dtype)

    @property
    def class_count_(self):
        """Rows per class."""
        return self._ready()[0].classes()[2]

    def _weights(self):
        return weights_of_two(*self._ready()[0].weights())

    @property
    def coef_(self):
        """Weights of the features."""
        return self._weights()[0]

    @property
    def intercept_(self):
        """Intercepts."""
        return self._weights()[1]

    @property
    def rank_(self):
        """Directions in use."""
        return len(self.singular_values_)

    @property
    def singular_values_(self):
        """Singular values of the directions, falling."""
        return self._ready()[0].directions()[0]

    @property
    def components_(self):
        """The directions, one a row."""
        return self._ready()[0].directions()[1]

    @property
    def dropped_energy_(self):
        """Sum of the squared singular values dropped so far."""
        return self._ready()[0].dropped_energy

    @property
    def n_samples_seen_(self):
        """Rows that the model is made of."""
        return self._ready()[0].n_rows

    @property
    def nbytes(self):
        """Bytes of the state."""
        return self._ready()[0].nbytes

    @property
    def n_features_in_(self):
        """Width of the rows."""
        return self._ready()[0].n_inputs

    @property
    def feature_names_in_(self):
        """Names of the columns of the rows, where these have names that are all strings."""
        names = self._ready()[2]
        if names is None:
            raise AttributeError("the rows had no column names, so there are no feature_names_in_")
        return names

    @property
    def feature_map_(self):
        """The fitted copy of `feature_map`, or None."""
        return self._ready()[1]

    def __sklearn_is_fitted__(self):
        return self._learnt is not None

    # Files.

    def save(self, path):
        """Writes the model to one file, in the safetensors container; `gramian.load` reads it.

        Parameters
        ----------
        path : path-like
            It holds the old file or the whole new one, never a part.
        """
        self._ready()[0].save(os.fsencode(path), self._description())

    def _description(self):
        _, _, names, dtype = self._ready()
        config = self._config()
        params = {
            "feature_map": None if self.feature_map is None else self.feature_map._as_json(),
            "rank": config["rank"],
            "tau": None if self.tau is None else config["tau"],
            "ridge": config["ridge"],
            "fit_intercept": config["intercept"],
            "random_state": seed_to_json(self),
        }
        learnt = {"feature_names_in": None if names is None else list(names), "label_dtype": dtype.str}
        return json.dumps({"params": params, "learnt": learnt}, allow_nan=False)

    @classmethod
    def _loaded(cls, parts, device, n_jobs):
        """From the compiled model and the configuration of its file."""
        model, config = parts
        fitted = from_handle(model.feature_map)
        # Whatever stands there may have been written by another program, so nothing about its form is taken on trust.
        try:
            extra = json.loads(config)["extra"]
            params, learnt = dict(extra["params"]), extra["learnt"]
            params["feature_map"] = with_params(params["feature_map"], fitted)
            params["random_state"] = seed_from_json(params["random_state"])
            names = names_from_json(learnt["feature_names_in"], model.n_inputs)
            dtype = np.dtype(learnt["label_dtype"])
            if dtype.kind not in "biufUSO":
                raise ValueError(f"labels of dtype {dtype}")
            out = cls(**params, device=device, n_jobs=n_jobs)
            out._config()
        except (KeyError, TypeError, ValueError, AttributeError, IndexError, OverflowError) as error:
            raise _core.FormatError(f"the description of the estimator in the file is damaged: {error}") from error
        out._learnt = model, fitted, names, dtype
        return out

    @classmethod
    def _load(cls, path, device, n_jobs):
        return cls._loaded(_core.load_truncated(os.fsencode(path), device, thread_count(n_jobs)), device, n_jobs)

    def __getstate__(self):
        state = dict(self.__dict__)
        state.pop("_mutex", None)
        learnt = state.get("_learnt")
        if learnt is not None:
            state["_learnt"] = learnt[1:]
            state["_bytes"] = learnt[0].save_bytes("")
        return state

    def __setstate__(self, state):
        state = dict(state)
        data = state.pop("_bytes", None)
        self.__dict__.update(self._with_defaults(state))
        if data is not None:
            model, _ = _core.load_truncated_bytes(data, _validate.device_name(self.device), thread_count(self.n_jobs))
            self._learnt = (model, *self._learnt)
