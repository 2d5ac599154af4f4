"""What the streaming ridge estimators share: one model of the compiled module and the calls around it."""

import copy
import functools
import os
import sys
import time
import types

import numpy as np

from . import _core, _validate
from ._model_config import BALANCES, description_of, params_of
from .base import Estimator, draw_seed, thread_count
from .features import can_have_made, fit_map
from .gram import GramState, HoldoutCurve, report_of

# scikit-learn's own value for "leave this request as it is".
UNCHANGED = "$UNCHANGED$"


class _NoSumsError(NotImplementedError, AttributeError):
    """The model came from a file of weights only; also an AttributeError, so that hasattr works."""


class _NeedsRowsError(ValueError, AttributeError):
    """The model chooses by all of its rows; also an AttributeError, so that hasattr says there is no partial_fit."""


class OnStreams:
    """A method that an estimator has only while nothing about it is to be chosen from all rows at once."""

    def __init__(self, method):
        self._method = method
        functools.update_wrapper(self, method)

    def __get__(self, instance, owner=None):
        if instance is None:
            return self._method
        instance._refuse_streams(instance._learnt)
        return types.MethodType(self._method, instance)


def absent(name):
    """A method or attribute of the base class that an estimator does not have: an AttributeError says so."""

    def raise_it(self):
        raise AttributeError(f"{_validate.with_article(type(self).__name__)} has no {name}")

    return property(raise_it, doc="Not there.")


class Learnt:
    """What one fit made. An estimator holds it whole and replaces it in one step, so a thread that predicts meanwhile
    works with one fit or with the next, never with parts of both."""

    def __init__(self, model, feature_map, names, form, params, device, threads):
        self.model = model  # of the compiled module
        self.feature_map = feature_map  # fitted, or None
        self.names = names  # of the columns, or None
        self.form = form  # of the targets, as the estimator needs it
        self.params = params  # for model files: those that were in force when the model was begun
        self.device = device
        self.threads = threads
        self._derived = None  # what was computed from the model, after the count of the changes it holds for

    def derived(self, compute):
        """What ``compute()`` makes of the model, once for each of its changes.

        The model itself counts them, since nothing that runs after a change is sure to: Ctrl-C ends it. The count is
        read first, so what a slow reader makes of older sums, or of newer ones, is not taken for that of another count.
        """
        changes = self.model.changes
        held = self._derived
        if held is None or held[0] != changes:
            held = changes, compute()
            self._derived = held
        return held[1]

    @property
    def leaves_one_out(self):
        """Whether the model chooses by leave-one-out errors."""
        return "loo" in (self.params["ridge"], self.params.get("width"))

    @property
    def chooses_once(self):
        """Whether `fit` chooses ridge or width, by leave-one-out errors or for a factor that follows the rows."""
        return self.leaves_one_out or (self.params["ridge"] == "gcv" and self.params.get("low_latency", False))

    def check_choice(self):
        """ValueError where there is no row to leave out."""
        if self.leaves_one_out and self.model.n_rows < 2:
            raise ValueError("leave-one-out errors need two rows of positive weight or more, got 1 sample")

    def addable(self, rows, weight):
        """The rows as the model shall see them: which rows are held out is told by the values of all."""
        config = getattr(self.model, "config", {})  # sums of single classes hold no rows out, and have none
        return _validate.blanked(rows, weight) if config.get("holdout") == "moments" else rows

    def packed(self):
        """All but the model, as a state of its own, and the bytes of the model."""
        rest = {**self.__dict__, "form": copy.copy(self.form)}
        model = rest.pop("model")
        rest.pop("_derived")
        return rest, model.save_bytes(not model.has_state, "")

    @classmethod
    def unpacked(cls, rest, data):
        """The opposite of `packed`."""
        return cls(_core.load_model_bytes(data, rest["device"], rest["threads"])[1], **rest)


class AnalyticEstimator(Estimator):
    """Base of `AnalyticClassifier` and `AnalyticRegressor`."""

    _learnt = None

    # What estimators without these parameters do: all features, weights solved when they are read, rows that stay.
    width = None
    low_latency = False
    forgetting = 1.0
    holdout_fraction = 0.2
    holdout_rule = "moments"

    _file_forms = ("full", "weights", "nested")

    def _config(self):
        """Arguments of the compiled models, checked."""
        rule = self.ridge if isinstance(self.ridge, str) else "fixed"
        if isinstance(self.ridge, str) and rule not in ("gcv", "holdout", "loo"):
            raise ValueError(f"ridge must be a number >= 0, 'gcv', 'holdout' or 'loo', got {self.ridge!r}")
        if self.ridges is not None and rule == "fixed":
            raise ValueError("ridges is the grid of ridge='gcv', 'holdout' and 'loo' and must be None otherwise")
        forgetting = _validate.check_number(self.forgetting, "forgetting", strict=True)
        if forgetting > 1:
            raise ValueError(f"forgetting must be above 0 and at most 1, got {self.forgetting!r}")
        if self.low_latency or forgetting < 1:
            self._check_following("low_latency=True" if self.low_latency else "forgetting below 1", rule)
        if not isinstance(self.verbose, (bool, int, np.bool_, np.integer)):
            raise ValueError(f"verbose must be an integer, got {self.verbose!r}")
        return {
            "ridge": _validate.check_number(self.ridge, "ridge") if rule == "fixed" else 1.0,
            "rule": "fixed" if rule == "holdout" else rule,
            "ridges": [] if self.ridges is None else _validate.check_ridges(self.ridges),
            "width": self._checked_width(),
            **self._holdout_config(),
            "standardize": bool(self.standardize),
            "products": _validate.product_dtype(self.dtype),
            "intercept": bool(self.fit_intercept),
            "low_latency": bool(self.low_latency),
            "forgetting": forgetting,
            "device": _validate.device_name(self.device),
            "threads": thread_count(self.n_jobs),
        }

    def _holdout_config(self):
        fraction = _validate.check_number(self.holdout_fraction, "holdout_fraction", strict=True)
        if fraction >= 1:
            raise ValueError(f"holdout_fraction must be below 1, got {fraction}")
        if self.holdout_rule not in ("moments", "ranpac"):
            raise ValueError(f"holdout_rule must be 'moments' or 'ranpac', got {self.holdout_rule!r}")
        on = isinstance(self.ridge, str) and self.ridge == "holdout"
        return {
            "holdout": self.holdout_rule if on else "none",
            "holdout_fraction": fraction,
            "holdout_seed": draw_seed(self.random_state) if on else 0,
        }

    def _check_following(self, what, rule):
        """ValueError where the weights or the ridge cannot follow the rows."""
        if rule == "holdout" or (rule != "fixed" and self.forgetting < 1):
            others = "" if self.forgetting < 1 else ", 'gcv' or 'loo'"
            raise ValueError(f"{what} needs a ridge that is a number{others}, got ridge={self.ridge!r}")
        if self.low_latency and self.standardize:
            raise ValueError(
                "low_latency=True needs standardize=False: each row changes the deviations of all features, and with "
                "them every entry of the system, so the factor would be made anew for each row"
            )
        if self.width is not None:
            raise ValueError(f"{what} needs width=None, got {self.width!r}")
        if isinstance(getattr(self, "class_weight", None), str):
            raise ValueError(f"{what} does not go with class_weight={self.class_weight!r}, which changes old weights")

    def _checked_width(self):
        """Features with weights: 0 for all, -1 to choose."""
        if self.width is None:
            return 0
        if isinstance(self.width, str):
            if self.width == "loo":
                return -1
            raise ValueError(f"width must be None, an integer or 'loo', got {self.width!r}")
        return _validate.check_count(self.width, "width")

    def _refuse_streams(self, learnt):
        """ValueError where the model, or the one to be begun (None), chooses by rows that a stream does not keep."""
        if learnt is None:
            ridge, width, follows = self.ridge, self.width, self.low_latency
        else:
            ridge, width, follows = map(learnt.params.get, ("ridge", "width", "low_latency"))
        if follows and isinstance(ridge, str):
            if learnt is not None:  # it follows at the ridge that fit has chosen
                return
            raise _NeedsRowsError(
                f"with low_latency=True ridge={ridge!r} is chosen by fit, and kept by partial_fit: begin with fit, or "
                "with a ridge that is a number"
            )
        if isinstance(ridge, str) and ridge == "loo":
            raise _NeedsRowsError(
                "ridge='loo' needs all rows at once, so it works with fit only; ridge='gcv' chooses from the sums and "
                "works with partial_fit"
            )
        if isinstance(width, str) and width == "loo":
            raise _NeedsRowsError(
                "width='loo' needs all rows at once, so it works with fit only; with partial_fit, set an integer width "
                "(ridge='gcv' chooses the ridge from the sums)"
            )

    def _begin(self, X, rows, form, n_outputs, weight):
        """An empty model for rows like these; nothing of self changes. n_outputs: None for one label per row."""
        config = self._config()
        names = _validate.column_names(X)
        fitted = None if self.feature_map is None else fit_map(self.feature_map, rows, self.random_state, weight)
        return self._empty(config, rows.shape[1], fitted, names, form, n_outputs)

    def _empty(self, config, n_inputs, fitted_map, names, form, n_outputs):
        handle = None if fitted_map is None else fitted_map._handle()
        if n_outputs is None:
            balance = BALANCES.get(form.class_weight, "none") if isinstance(form.class_weight, str) else "none"
            model = _core.Classifier(n_inputs=n_inputs, feature_map=handle, balance=balance, **config)
        else:
            model = _core.Regressor(n_inputs=n_inputs, n_outputs=n_outputs, feature_map=handle, **config)
        return Learnt(model, fitted_map, names, form, params_of(self), config["device"], config["threads"])

    def _ready(self):
        """What was learnt, its threads as the parameters say."""
        learnt = self._learnt
        if learnt is None:
            self._raise_not_fitted()
        threads = thread_count(self.n_jobs)
        if threads != learnt.threads:
            learnt.model.set_threads(threads)
            learnt.threads = threads
        return learnt

    def _trainable(self):
        learnt = self._ready()
        if not learnt.model.has_state:
            raise _NoSumsError(
                "this model was loaded from a file of weights only (save(..., what='weights')), which holds no sums: "
                "it predicts, but cannot learn, forget or merge"
            )
        return learnt

    def _first_rows(self, X):
        """Rows for a new model."""
        rows = _validate.check_rows(X, type(self).__name__)
        return _validate.for_products(rows, _validate.product_dtype(self.dtype))

    def _checked_rows(self, X, learnt):
        """Rows for the model there is."""
        who = type(self).__name__
        _validate.check_column_names(X, learnt.names, who)
        rows = _validate.check_rows(X, who)
        _validate.check_width(rows, learnt.model.n_inputs, who)
        return _validate.for_products(rows, learnt.model.products)

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
    def n_features_in_(self):
        """Width of the rows."""
        return self._ready().model.n_inputs

    @property
    def feature_names_in_(self):
        """Names of the columns of the rows, where these have names that are all strings."""
        names = self._ready().names
        if names is None:
            raise AttributeError("the rows had no column names, so there are no feature_names_in_")
        return names

    @property
    def feature_map_(self):
        """The fitted copy of `feature_map`, or None."""
        return self._ready().feature_map

    @property
    def n_samples_seen_(self):
        """Rows of positive weight that the model is made of."""
        return self._trainable().model.n_rows

    @property
    def report_(self):
        """How the weights were solved (SolveReport)."""
        return report_of(self._ready().model.solution()[2])

    @property
    def ridge_(self):
        """The ridge in use."""
        return self._ready().model.ridge_used

    @property
    def gcv_at_edge_(self):
        """Whether "gcv" or "holdout" chose the first or the last of the grid, so that a wider one may do better."""
        return self._ready().model.gcv_at_edge

    def _choice(self, name, parameter):
        learnt = self._ready()
        choice = learnt.model.choice
        if choice is None or learnt.params.get(parameter) != "loo":
            raise AttributeError(f"{name} is there after fit with {parameter}='loo' only")
        return choice

    @property
    def loo_ridges_(self):
        """The grid that ``ridge="loo"`` chose from."""
        return self._choice("loo_ridges_", "ridge")["ridges"]

    @property
    def loo_scores_(self):
        """Mean squared leave-one-out error of each ridge, summed over outputs."""
        return self._choice("loo_scores_", "ridge")["ridge_scores"]

    @property
    def loo_at_edge_(self):
        """Whether ``ridge="loo"`` chose the first or the last of its grid, so that a wider one may do better."""
        return self._choice("loo_at_edge_", "ridge")["at_edge"]

    @property
    def width_(self):
        """Features with weights; those behind them are not used."""
        return self._ready().model.width_used

    @property
    def loo_curve_(self):
        """Mean squared leave-one-out error of each width, summed over outputs, at the ridge in use."""
        return self._choice("loo_curve_", "width")["width_scores"]

    @property
    def holdout_curve_(self):
        """Errors of the ridges on the held-out rows (HoldoutCurve); only where these chose the ridge."""
        curve = self._ready().model.holdout_curve()
        if not len(curve["ridges"]):
            raise AttributeError("the ridge was not chosen by held-out rows, so there is no holdout_curve_")
        return HoldoutCurve(**curve)

    @property
    def state_(self):
        """A copy of the sums behind the model (GramState)."""
        learnt = self._trainable()
        return GramState._wrap(learnt.model.state(), learnt.device, self.n_jobs)

    @property
    def nbytes(self):
        """Bytes of the sums; but for small balanced classes they do not depend on the number of rows seen."""
        return self._trainable().model.state_nbytes

    def __sklearn_is_fitted__(self):
        learnt = self._learnt
        return learnt is not None and (not learnt.model.has_state or learnt.model.n_rows > 0)

    # Models among themselves and in files.

    def merge(self, other):
        """Adds everything another model has learnt, as if this one had seen its rows too.

        Parameters
        ----------
        other : estimator of the same class
            Fitted, with an equal feature map. It is not changed. A model that is not fitted yet keeps its own
            parameters and takes the other's fitted map, so its `feature_map` must be one that may have become that
            map; None only goes with None.

        Returns
        -------
        self

        Raises
        ------
        ValueError
            Different widths, column names, feature maps or outputs; the model is then unchanged.

        Notes
        -----
        Sums with float32 products in them are no more exact than these: merging a model of ``dtype="float32"`` makes
        the products of the merged one float32 too (``state_.dtype``) until it is empty again.
        """
        if type(other) is not type(self):
            raise TypeError(f"{_validate.with_article(type(self).__name__)} is needed, got {type(other).__name__}")
        with self._lock():
            source = other._trainable()
            if self._learnt is None:
                self._refuse_streams(None)
                config = self._config()
                if not can_have_made(self.feature_map, source.feature_map, self.random_state):
                    raise ValueError(
                        f"feature_map={self.feature_map!r} cannot have become the feature map of the other model, "
                        f"{source.feature_map!r}: only models with the same feature map can be merged"
                    )
                form = self._form_like(source)
                n_outputs = source.model.n_outputs if isinstance(source.model, _core.Regressor) else None
                mine = self._empty(config, source.model.n_inputs, source.feature_map, source.names, form, n_outputs)
                mine.model.merge(source.model)
                self._learnt = mine
            else:
                mine = self._trainable()
                if mine.names is not None and source.names is not None:
                    _validate.compare_names(mine.names, source.names)
                self._merge(mine, source)
        return self

    def unmerge(self, other):
        """Takes everything another model has learnt out again, exactly: the opposite of `merge`.

        Parameters
        ----------
        other : estimator of the same class
            Fitted, with an equal feature map, on rows that are in this model. That they are cannot be checked beyond
            their number (per class, for a classifier). It is not changed.

        Returns
        -------
        self

        Raises
        ------
        ValueError
            More rows than this model has, or a class it never saw; the model is then unchanged.
        NotImplementedError
            A classifier of ``class_weight="balanced"`` or "air", which keeps the sums of each class around a point of
            its own: `forget` takes the rows out instead.
        """
        if type(other) is not type(self):
            raise TypeError(f"{_validate.with_article(type(self).__name__)} is needed, got {type(other).__name__}")
        with self._lock():
            self._unmerge(self._trainable(), other._trainable())
        return self

    def _empty_for_sums(self, state, form, n_outputs):
        """An empty model for sums that are at hand without the rows behind them."""
        config = self._config()
        self._refuse_streams(None)
        if self.feature_map is not None:
            raise ValueError(
                "a model with a feature map must be fitted before bare sums can be merged into it: they do not say "
                "what rows the map takes"
            )
        return self._empty(config, state.n_features, None, None, form, n_outputs)

    def to_bytes(self):
        """The content of the file that `save` writes."""
        learnt = self._trainable()
        return learnt.model.save_bytes(False, description_of(type(self).__name__, learnt))

    def save(self, path, what="full"):
        """Writes the model to one file, in the safetensors container.

        Parameters
        ----------
        path : path-like
            It holds the old file or the whole new one, never a part.
        what : {"full", "weights", "nested"}, default="full"
            "full" keeps the sums, so training can go on after `gramian.load`; "weights" is smaller and predicts only.
            "nested" predicts only, with any width: ``gramian.load(path, width=k)`` reads the first rows of the file
            alone. It takes the 4 d^2 bytes of the sums.

        Notes
        -----
        The file holds the parameters that the model was begun with; later ones of ``set_params`` are for the next fit.
        """
        if what not in self._file_forms:
            *others, last = map(repr, self._file_forms)
            raise ValueError(f"what must be {', '.join(others)} or {last}, got {what!r}")
        learnt = self._ready() if what == "weights" else self._trainable()
        description = description_of(type(self).__name__, learnt)
        if what == "nested":
            learnt.model.save_nested(os.fsencode(path), description)
        else:
            learnt.model.save(os.fsencode(path), what == "weights", description)

    def __getstate__(self):
        state = dict(self.__dict__)
        state.pop("_mutex", None)
        if self._learnt is not None:
            state["_learnt"], state["_bytes"] = self._learnt.packed()
        return state

    def __setstate__(self, state):
        state = dict(state)
        data = state.pop("_bytes", None)
        self.__dict__.update(self._with_defaults(state))
        if data is not None:
            self._learnt = Learnt.unpacked(self._learnt, data)

    # scikit-learn's metadata routing.

    _routed = {"fit": ("sample_weight",), "partial_fit": ("sample_weight",), "score": ("sample_weight",)}

    def get_metadata_routing(self):
        """What each method wants of the metadata that scikit-learn routes (a MetadataRequest)."""
        from sklearn.utils.metadata_routing import MetadataRequest, get_routing_for_object

        if "_metadata_request" in self.__dict__:
            return get_routing_for_object(self._metadata_request)
        requests = MetadataRequest(owner=type(self).__name__)
        for method, names in self._routed.items():
            for name in names:
                getattr(requests, method).add_request(param=name, alias=None)
        return requests

    def _request(self, method, **wanted):
        requests = self.get_metadata_routing()
        for name, alias in wanted.items():
            if alias != UNCHANGED:
                getattr(requests, method).add_request(param=name, alias=alias)
        self._metadata_request = requests
        return self

    def set_fit_request(self, *, sample_weight=UNCHANGED):
        """Whether routing hands ``sample_weight`` to `fit`: True, False, None or another name. Returns self."""
        return self._request("fit", sample_weight=sample_weight)

    def set_partial_fit_request(self, *, sample_weight=UNCHANGED):
        """Whether routing hands ``sample_weight`` to `partial_fit`, as in `set_fit_request`. Returns self."""
        return self._request("partial_fit", sample_weight=sample_weight)

    def set_score_request(self, *, sample_weight=UNCHANGED):
        """Whether routing hands ``sample_weight`` to `score`, as in `set_fit_request`. Returns self."""
        return self._request("score", sample_weight=sample_weight)
