"""The dual-stream classifier: a second head on other features learns what the first one leaves over."""

import json
import time

import numpy as np

from . import _core, _labels, _validate
from ._analytic_base import UNCHANGED, AnalyticEstimator, Learnt, absent
from ._feature_map import seed_from_json, seed_to_json
from ._model_config import LabelForm, names_from_json
from ._one_label import OneLabelClassifier, OneLabelStream
from .base import draw_seed, thread_count
from .classifier import AnalyticClassifier
from .features import RandomFeatures, fit_map, from_handle
from .gram import report_of

VARIANTS = ("invariant", "published")
_PLAIN_PARAMS = (
    "n_features",
    "kind",
    "activation",
    "compensation_activation",
    "scale",
    "bias",
    "ridge",
    "compensation_ridge",
    "compensation",
    "variant",
    "dtype",
    "verbose",
)


class DualStreamClassifier(OneLabelClassifier, OneLabelStream, AnalyticEstimator):
    """DS-AL: a ridge classifier on random features, and a second one, on other features of the same random projection,
    that learns what the first leaves over.

    Scores are ``X_m W_m + compensation * X_c W_c``. Rows come in phases: `partial_fit` adds to the present one and
    `end_phase` ends it; `fit` is one phase that has ended. The second head learns the residual ``Y - X_m W_m`` in the
    columns of the classes that are new in the phase; the columns of older classes count as zero (the paper's previous
    label cleansing).

    Parameters
    ----------
    n_features : int, default=1000
        Of each stream.
    kind, scale, bias
        Of the projection, as in `RandomFeatures`.
    activation : str, default="relu"
        Of the main stream; one of those of `RandomFeatures`.
    compensation_activation : str, default="tanh"
        Of the second stream.
    ridge : float, default=1.0
        Above 0.
    compensation_ridge : float, default=None
        Ridge of the second stream, above 0; None for ``ridge``.
    compensation : float, default=0.6
        Factor of the second score; 0 is the main stream alone, exactly. `compensate` changes it later.
    variant : {"invariant", "published"}, default="invariant"
        Which main weights the residual is taken with. "invariant": those of the end of the phase, so the model does not
        depend on how a phase is cut into batches, nor on their order. "published": those right after the batch of the
        row; the model then depends on both, by tens of percent of ``compensation_coef_``. They agree where every phase
        is one batch.
    dtype : {None, "float64", "float32"}, default=None
        Type of the products of each stream.
    device, n_jobs, random_state, verbose
        As in `AnalyticClassifier`; ``random_state`` is the seed of the projection.

    Attributes
    ----------
    classes_ : ndarray of shape (n_classes,)
    class_count_ : ndarray of shape (n_classes,)
    coef_, compensation_coef_ : ndarray of shape (n_classes, n_features)
        W_m and W_c, transposed; there is no intercept.
    temperature_ : float
        Of `predict_proba`: the noise variance of the main scores.
    n_phases_ : int
        Phases that have ended.
    n_samples_seen_, n_features_in_, feature_names_in_, ridge_, report_, nbytes
        As in `AnalyticClassifier`.
    feature_map_ : RandomFeatures
        Of the main stream.

    Notes
    -----
    For D features: "invariant" takes 4 n D^2 flops for n rows and 16 D^2 bytes, and adds 16 D^2 bytes while a batch is
    staged, so batches of a thousand rows or more are worth their while; "published" 2 n D^2 flops, 8 D^2 bytes, and one
    solve of D^3 / 3 flops for each batch. Rows cannot be forgotten and models not be merged: both would need the
    residuals of rows that are gone.

    Reference: "DS-AL: A Dual-Stream Analytic Learning for Exemplar-Free Class-Incremental Learning".

    Examples
    --------
    >>> import numpy as np
    >>> from gramian import DualStreamClassifier
    >>> X = np.array([[0.0, 0.0], [0.1, 0.1], [1.0, 0.0], [1.1, 0.1], [0.0, 1.0], [0.1, 1.1]])
    >>> model = DualStreamClassifier(n_features=50, bias=1.0, ridge=1e-3)
    >>> model = model.partial_fit(X[:4], ["a", "a", "b", "b"]).end_phase()
    >>> model.partial_fit(X[4:], ["c", "c"]).predict([[0.0, 0.9]])
    array(['c'], dtype='<U1')
    """

    _file_forms = ("full", "weights")  # the weights of a narrower model are not a part of these

    def __init__(
        self,
        n_features=1000,
        kind="gaussian",
        activation="relu",
        compensation_activation="tanh",
        scale=None,
        bias=0.0,
        ridge=1.0,
        compensation_ridge=None,
        compensation=0.6,
        variant="invariant",
        dtype=None,
        device="cpu",
        n_jobs=None,
        random_state=0,
        verbose=0,
    ):
        self.n_features = n_features
        self.kind = kind
        self.activation = activation
        self.compensation_activation = compensation_activation
        self.scale = scale
        self.bias = bias
        self.ridge = ridge
        self.compensation_ridge = compensation_ridge
        self.compensation = compensation
        self.variant = variant
        self.dtype = dtype
        self.device = device
        self.n_jobs = n_jobs
        self.random_state = random_state
        self.verbose = verbose

    # Learning.

    def _first(self, X, rows, labels, weight):
        learnt = self._begin_model(X, rows, labels)
        self._feed(learnt, rows, labels, weight)
        learnt.model.end_phase()
        return learnt

    def partial_fit(self, X, y, classes=None, sample_weight=None, new_phase=False):
        """Adds rows to the present phase. On an error the model stays as it was.

        Parameters
        ----------
        X, y, sample_weight
            As in `fit`.
        classes : array-like of shape (n_classes,), default=None
            All labels that may ever come. Not needed; where given, any other label is a ValueError from then on.
        new_phase : bool, default=False
            Ends the present phase first, if the model has rows. That is done on a copy, which needs memory for two more
            of the model meanwhile; `end_phase` before the call does without.

        Returns
        -------
        self
        """
        began = time.perf_counter()
        with self._lock():
            learnt = None if self._learnt is None else self._trainable()
            rows, labels, weight = self._batch(X, y, sample_weight, learnt)
            declared = AnalyticClassifier._declare(classes, learnt, labels)
            if learnt is None:
                learnt = self._begin_model(X, rows, labels)
            elif new_phase and learnt.model.n_rows > 0:
                # On a copy: a batch that is refused or interrupted must not have ended the phase.
                learnt = _DualLearnt.unpacked(*learnt.packed())
                learnt.model.end_phase()
            n_rows, before = learnt.model.n_rows, learnt.form.declared
            learnt.form.declared = declared  # before the rows, since Ctrl-C while they go in is raised with them in
            try:
                self._feed(learnt, rows, labels, weight)
            except BaseException:
                if learnt.model.n_rows == n_rows:
                    learnt.form.declared = before
                raise
            self._learnt = learnt
        self._say("added", rows, began)
        return self

    def end_phase(self):
        """Ends the phase: classes that come from now on are new ones, the others are not any more.

        Predictions do not change by it. Returns self.
        """
        with self._lock():
            self._trainable().model.end_phase()
        return self

    def compensate(self, factor):
        """Changes the factor of the second score (``compensation``) of the fitted model; nothing is solved again.

        Parameters
        ----------
        factor : float
            >= 0; the paper tries 0 to 2.

        Returns
        -------
        self
        """
        factor = _validate.check_number(factor, "factor")
        with self._lock():
            learnt = self._ready()
            learnt.model.set_compensation(factor)
            learnt.params["compensation"] = factor
            self.compensation = factor
        return self

    # Answers.

    def _scores(self, X):
        """Scores of all classes, and these, of one moment."""
        learnt = self._ready()
        scores, kind, values = learnt.model.scores(self._checked_rows(X, learnt))
        return scores, _labels.from_core(kind, values, learnt.form.dtype)

    def predict_proba(self, X):
        """Softmax of the scores over `temperature_`; ndarray of shape (n, n_classes)."""
        scores = self._scores(X)[0] / max(self.temperature_, 1e-12)
        scores = np.exp(scores - scores.max(axis=1, keepdims=True))
        return scores / scores.sum(axis=1, keepdims=True)

    def save(self, path, what="full"):
        """Writes the model to one file, in the safetensors container.

        Parameters
        ----------
        path : path-like
            It holds the old file or the whole new one, never a part.
        what : {"full", "weights"}, default="full"
            "full" keeps the sums, so training can go on after `gramian.load`; "weights" is smaller and predicts only.
            There is no "nested": a narrower model of two streams is no part of a wider one.

        Notes
        -----
        The file holds the parameters that the model was begun with; later ones of ``set_params`` are for the next fit.
        """
        super().save(path, what)

    @property
    def classes_(self):
        """Labels seen, sorted."""
        learnt = self._ready()
        kind, values, _ = learnt.model.classes()
        return _labels.from_core(kind, values, learnt.form.dtype)

    @property
    def class_count_(self):
        """Rows per class."""
        return self._ready().model.classes()[2]

    @property
    def coef_(self):
        """Weights of the main stream, one row per class."""
        return self._ready().model.solution()[0]

    @property
    def compensation_coef_(self):
        """Weights of the second stream, one row per class."""
        return self._ready().model.solution()[1]

    @property
    def temperature_(self):
        """Temperature of `predict_proba`."""
        return self._ready().model.temperature

    @property
    def n_phases_(self):
        """Phases that have ended."""
        return self._ready().model.n_phases

    @property
    def report_(self):
        """How the weights of the main stream were solved (SolveReport)."""
        return report_of(self._ready().model.solution()[2])

    # What the base has and this cannot have.

    @property
    def state_(self):
        """Not there: two streams have no single state."""
        raise AttributeError("a DualStreamClassifier has no single state_")

    @property
    def gcv_at_edge_(self):
        """Not there: the ridges are given."""
        raise AttributeError("a DualStreamClassifier chooses no ridge, so there is no gcv_at_edge_")

    @property
    def merge(self):
        """Not there: the residuals of one model depend on the rows of the other."""
        raise AttributeError("DualStreamClassifier models cannot be merged")

    unmerge = absent("unmerge")

    # How it is done.

    _routed = {**AnalyticEstimator._routed, "partial_fit": ("classes", "new_phase", "sample_weight")}

    def set_partial_fit_request(self, *, classes=UNCHANGED, new_phase=UNCHANGED, sample_weight=UNCHANGED):
        """Whether routing hands these to `partial_fit`, as in `set_fit_request`. Returns self."""
        return self._request("partial_fit", classes=classes, new_phase=new_phase, sample_weight=sample_weight)

    def _begin_model(self, X, rows, labels):
        """An empty model for rows like these; nothing of self changes."""
        if self.variant not in VARIANTS:
            raise ValueError(f"variant must be one of {VARIANTS}, got {self.variant!r}")
        if not isinstance(self.verbose, (bool, int, np.bool_, np.integer)):
            raise ValueError(f"verbose must be an integer, got {self.verbose!r}")
        ridge = _validate.check_number(self.ridge, "ridge", strict=True)
        second = self.compensation_ridge
        second = ridge if second is None else _validate.check_number(second, "compensation_ridge", strict=True)
        seed = draw_seed(self.random_state)
        maps = [
            fit_map(RandomFeatures(self.n_features, self.kind, activation, self.scale, self.bias, seed), rows, seed)
            for activation in (self.activation, self.compensation_activation)
        ]
        device, threads = _validate.device_name(self.device), thread_count(self.n_jobs)
        model = _core.DualStream(
            n_inputs=rows.shape[1],
            main_map=maps[0]._handle(),
            compensation_map=maps[1]._handle(),
            ridge=ridge,
            compensation_ridge=second,
            compensation=_validate.check_number(self.compensation, "compensation"),
            invariant=self.variant == "invariant",
            products=_validate.product_dtype(self.dtype),
            device=device,
            threads=threads,
        )
        form = LabelForm(False, labels.dtype, None, None)
        return _DualLearnt(model, maps[0], _validate.column_names(X), form, _params_of(self), device, threads)

    @staticmethod
    def _feed(learnt, rows, labels, weight):
        labels = _labels.match_kind(labels, learnt.model.classes()[0])
        shown = _validate.blanked(rows, weight)
        learnt.model.partial_fit(shown, labels.kind, labels.listed(), labels.codes, weight)

    @classmethod
    def _from_model(cls, model, config, device, n_jobs):
        """The estimator of a model read from a file with this configuration."""
        try:
            extra = json.loads(config)["extra"]
            params, learnt = dict(extra["params"]), extra["learnt"]
            params["random_state"] = seed_from_json(params["random_state"])
            estimator = cls(**params, device=device, n_jobs=n_jobs)
            form = LabelForm.from_json(learnt, model, None)
            fitted, params = from_handle(model.main_map), _params_of(estimator)
            names = names_from_json(learnt.get("feature_names_in"), fitted.n_features_in_)
        except (KeyError, TypeError, ValueError, AttributeError, IndexError, OverflowError) as error:
            raise _core.FormatError(f"the description of the estimator in the file is damaged: {error}") from error
        estimator._learnt = _DualLearnt(model, fitted, names, form, params, device, thread_count(n_jobs))
        return estimator

    def __setstate__(self, state):
        state = dict(state)
        data = state.pop("_bytes", None)
        self.__dict__.update(self._with_defaults(state))
        if data is not None:
            self._learnt = _DualLearnt.unpacked(self._learnt, data)


class _DualLearnt(Learnt):
    """Learnt with a model of two streams."""

    @classmethod
    def unpacked(cls, rest, data):
        """The opposite of `packed`."""
        return cls(_core.load_dual_stream_bytes(data, rest["device"], rest["threads"])[0], **rest)


def _params_of(estimator):
    """The parameters that make a model what it is, for JSON. Checked ones are expected."""
    params = {name: getattr(estimator, name) for name in _PLAIN_PARAMS}
    for name, value in params.items():
        if isinstance(value, np.generic):
            params[name] = value.item()
    params["dtype"] = None if estimator.dtype is None else np.dtype(estimator.dtype).name
    return {**params, "random_state": seed_to_json(estimator)}
