"""What the streaming ridge estimators share: one model of the compiled module and the calls around it."""

import os
import sys
import time

from . import _core, _validate
from ._model_config import params_to_json
from .base import Estimator, thread_count
from .features import fit_map
from .gram import GramState, report_of


class AnalyticEstimator(Estimator):
    """Base of `AnalyticClassifier` and `AnalyticRegressor`."""

    # The compiled model is `_model`; whatever else is learnt has a name that ends in an underscore or begins with one.

    def _config(self):
        """Arguments of the compiled models, checked."""
        gcv = isinstance(self.ridge, str) and self.ridge == "gcv"
        if isinstance(self.ridge, str) and not gcv:
            raise ValueError(f"ridge must be a number >= 0 or 'gcv', got {self.ridge!r}")
        if self.ridges is not None and not gcv:
            raise ValueError("ridges is the grid of ridge='gcv' and must be None otherwise")
        return {
            "ridge": 1.0 if gcv else _validate.check_number(self.ridge, "ridge"),
            "gcv": gcv,
            "ridges": [] if self.ridges is None else _validate.check_ridges(self.ridges),
            "standardize": bool(self.standardize),
            "products": _validate.product_dtype(self.dtype),
            "intercept": bool(self.fit_intercept),
            "device": str(self.device),
            "threads": thread_count(self.n_jobs),
        }

    def _start(self, X, rows):
        """The feature map of a new model, fitted, and the names of the columns; nothing of self changes."""
        names = _validate.column_names(X)
        fitted = None if self.feature_map is None else fit_map(self.feature_map, rows, self.random_state)
        return fitted, names

    def _adopt(self, model, fitted_map, names):
        """Replaces the model by a complete one."""
        self._model = model
        self._products = model.config["products"]
        self._fitted_map = fitted_map
        self.n_features_in_ = model.n_inputs
        self._set_feature_names(names)

    def _compiled(self):
        """The compiled model, its threads as the parameters say."""
        model = self.__dict__.get("_model")
        if model is None:
            self._raise_not_fitted()
        threads = thread_count(self.n_jobs)
        if threads != self._threads:
            model.set_threads(threads)
            self._threads = threads
        return model

    def _trainable(self):
        model = self._compiled()
        if not model.has_state:
            raise NotImplementedError(
                "this model was loaded from a file of weights only (save(..., what='weights')), which holds no sums: "
                "it predicts, but cannot learn, forget or merge"
            )
        return model

    def _first_rows(self, X):
        """Rows for a new model."""
        rows = _validate.check_rows(X, type(self).__name__)
        return _validate.for_products(rows, _validate.product_dtype(self.dtype))

    def _checked_rows(self, X):
        """Rows for the model there is."""
        _validate.check_column_names(X, self)
        rows = _validate.check_rows(X, type(self).__name__)
        _validate.check_width(rows, self.n_features_in_, type(self).__name__)
        return _validate.for_products(rows, self._products)

    def _say(self, verb, rows, began):
        if self.verbose:
            seconds = time.perf_counter() - began
            print(
                f"[{type(self).__name__}] {verb} {rows.shape[0]} rows in {seconds:.2f} s, "
                f"{self.n_samples_seen_} in the model",
                file=sys.stderr,
            )

    # What was learnt.

    @property
    def feature_map_(self):
        """The fitted copy of `feature_map`, or None."""
        self._compiled()
        return self._fitted_map

    @property
    def n_samples_seen_(self):
        """Rows of positive weight that the model is made of."""
        return self._trainable().n_rows

    @property
    def report_(self):
        """How the weights were solved (SolveReport)."""
        return report_of(self._compiled().solution()[2])

    @property
    def ridge_(self):
        """The ridge in use."""
        return self._compiled().ridge_used

    @property
    def gcv_at_edge_(self):
        """Whether ``ridge="gcv"`` chose the first or the last of its grid, so that a wider one may do better."""
        return self._compiled().gcv_at_edge

    @property
    def state_(self):
        """A copy of the sums behind the model (GramState)."""
        return GramState._wrap(self._trainable().state(), str(self.device), self.n_jobs)

    @property
    def nbytes(self):
        """Bytes of the sums; they do not depend on the number of rows seen."""
        return self._trainable().state_nbytes

    def __sklearn_is_fitted__(self):
        model = self.__dict__.get("_model")
        return model is not None and (not model.has_state or model.n_rows > 0)

    # Models among themselves and in files.

    def merge(self, other):
        """Adds everything another model has learnt, as if this one had seen its rows too.

        Parameters
        ----------
        other : estimator of the same class
            Fitted, with an equal feature map. It is not changed.

        Returns
        -------
        self

        Raises
        ------
        ValueError
            Different widths, feature maps or outputs; the model is then unchanged.
        """
        if type(other) is not type(self):
            raise TypeError(f"a {type(self).__name__} is needed, got {type(other).__name__}")
        source = other._trainable()
        if "_model" in self.__dict__:
            target = self._trainable()
            self._check_mergeable(other)
            target.merge(source)
            self._merged_with(other)
        else:
            target = self._empty_like(other)
            target.merge(source)
            self._adopt(target, other._fitted_map, getattr(other, "feature_names_in_", None))
            self._take_form(other)
        return self

    def save(self, path, what="full"):
        """Writes the model to one file, in the safetensors container.

        Parameters
        ----------
        path : path-like
            It holds the old file or the whole new one, never a part.
        what : {"full", "weights"}, default="full"
            "full" keeps the sums, so training can go on after `gramian.load`; "weights" is smaller and predicts only.
        """
        if what not in ("full", "weights"):
            raise ValueError(f"what must be 'full' or 'weights', got {what!r}")
        model = self._compiled() if what == "weights" else self._trainable()
        model.save(os.fspath(path), what == "weights", params_to_json(self))

    def __getstate__(self):
        state = dict(self.__dict__)
        model = state.pop("_model", None)
        if model is not None:
            state["_bytes"] = model.save_bytes(not model.has_state, "")
        return state

    def __setstate__(self, state):
        state = dict(state)
        data = state.pop("_bytes", None)
        self.__dict__.update(state)
        if data is not None:
            self._model = _core.load_model_bytes(data, str(self.device), self._threads)[1]
