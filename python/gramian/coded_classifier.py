"""A classifier on target codes: a column per entry of a code instead of one per class."""

import time

import numpy as np

from . import _core, _labels, _validate, codes
from ._analytic_base import UNCHANGED, AnalyticEstimator
from ._model_config import LabelForm
from ._one_label import OneLabelClassifier, OneLabelStream
from .base import draw_seed, thread_count

# Targets that the sums fit without any error would make a temperature of zero.
_VARIANCE_FLOOR = 1e-12
_NAMED = ("simplex", "equiangular", "random", "one_hot")


class _Book:
    """Which label has which code, and its rows. Never changed: a reader that holds one sees one moment."""

    __slots__ = ("kind", "labels", "counts", "order", "index")

    def __init__(self, kind="none", labels=(), counts=()):
        self.kind = kind
        self.labels = list(labels)  # plain values; number k has code k
        self.counts = np.asarray(counts, dtype=np.int64)
        self.index = {label: place for place, label in enumerate(self.labels)}
        present = [place for place in range(len(self.labels)) if self.counts[place] > 0]
        # The codes of the classes there are, in the order of their labels.
        self.order = np.array(sorted(present, key=self.labels.__getitem__), dtype=np.int64)

    def __getstate__(self):
        return self.kind, self.labels, self.counts

    def __setstate__(self, state):
        self.__init__(*state)

    def with_labels(self, kind, labels):
        """The book with codes for these labels too, in this order."""
        more = [label for label in labels if label not in self.index]
        counts = np.concatenate([self.counts, np.zeros(len(more), dtype=np.int64)])
        return _Book(kind, self.labels + more, counts)

    def with_counts(self, counts):
        """The book with other numbers of rows."""
        return _Book(self.kind, self.labels, counts)

    def classes(self, dtype):
        """Labels that have rows, sorted."""
        return _labels.from_core(self.kind, [self.labels[place] for place in self.order], dtype)


class _CodedForm:
    """Targets of a coded classifier."""

    multi = False
    class_weight = None

    def __init__(self, dtype, declared, book, code):
        self.dtype = dtype  # of the first y
        self.declared = declared  # sorted array of the labels that may come, or None
        self.state = book, code  # replaced in one step; the code is at least as long as the book

    def to_json(self):
        """Parts of a description."""
        book, code = self.state
        labels = [label.hex() for label in book.labels] if book.kind == "bytes" else book.labels
        return {
            **LabelForm(False, self.dtype, self.declared, None).to_json(),
            "label_kind": book.kind,
            "labels": labels,
            "label_counts": book.counts.tolist(),
            "code": code._as_json(),
        }

    @classmethod
    def from_json(cls, learnt, model):
        """The opposite of to_json."""
        kind, labels, counts = learnt["label_kind"], learnt["labels"], learnt["label_counts"]
        if kind not in ("none", "boolean", "integer", "real", "text", "bytes"):
            raise ValueError(f"labels of kind {kind!r}")
        labels = [bytes.fromhex(label) for label in labels] if kind == "bytes" else labels
        plain = {"text": str, "bytes": bytes, "real": float}.get(kind, int)
        code = codes.TargetCode._from_json(learnt["code"])
        fits = (
            all(type(label) is plain for label in labels)
            and len(set(labels)) == len(labels) == len(counts) <= len(code)
            and all(type(count) is int and count >= 0 for count in counts)
            and code.dim == model.n_outputs
            and (not model.has_state or sum(counts) == model.n_rows)
        )
        if not fits:
            raise ValueError("labels, counts and code do not belong together")
        read = LabelForm.from_json({**learnt, "multi_label": True}, model, None, kind)
        return cls(read.dtype, read.declared, _Book(kind, labels, counts), code)


class CodedClassifier(OneLabelClassifier, OneLabelStream, AnalyticEstimator):
    """Exact class-incremental classifier on target codes: ridge regression from features to codes, decoded by the
    largest inner product.

    Every class has a fixed unit vector of m entries, given to it when it first comes; no code ever changes. The cross
    products are d x m instead of d x K for K classes, and the weights are those of one-hot targets times the code.
    With "equiangular" and "random" predictions depend, a little, on which class has which code, and so on the batches
    and the order in which classes arrive: declare ``classes`` in the first `partial_fit`, and they do not.

    Parameters
    ----------
    code : {"simplex", "equiangular", "random", "one_hot"}, TargetCode or array of shape (K, m), default="simplex"
        "simplex" predicts what one-hot targets do (`gramian.codes`), in K - 1 columns that never move. "equiangular"
        and "random" put any number of classes into ``code_dim`` columns, at the price of cross-talk between classes.
        Rows of an array are unit vectors.
    code_dim : int, default=None
        Columns m. Needed for "equiangular" and "random". For "simplex" it makes room for ``code_dim + 1`` classes;
        None makes room for those of the first call (or of ``classes``).
    feature_map : RandomFeatures, RBFFeatures or FeatureChain, default=None
        Fixed map in front of the regression. It is not changed: the model works with a fitted copy.
    ridge : float or "gcv", default=1.0
    ridges : array-like of float, default=None
    standardize : bool, default=False
    fit_intercept : bool, default=True
    dtype : {None, "float64", "float32"}, default=None
    device : str, default="cpu"
    n_jobs : int, default=None
    random_state : int, RandomState, Generator or None, default=0
        Of the code, and of the feature map where that has ``random_state=None``.
    verbose : int, default=0
        All as in `AnalyticClassifier`.

    Attributes
    ----------
    classes_ : ndarray of shape (n_classes,)
        Labels that have rows, sorted.
    class_count_ : ndarray of shape (n_classes,)
    code_ : TargetCode
        All codes, also those no class has yet.
    class_codes_ : ndarray of shape (n_classes, m)
        Codes of ``classes_``.
    coef_ : ndarray of shape (m, n_features)
    intercept_ : ndarray of shape (m,)
    temperature_ : float
        Of `predict_proba`.
    ridge_, gcv_at_edge_, report_, n_samples_seen_, n_features_in_, feature_names_in_, feature_map_, state_
        As in `AnalyticClassifier`.

    Notes
    -----
    n (d^2 + 2 d m) flops to learn, 2 n m (d + K) to predict; memory 4 d^2 + 8 d m bytes. References: "Equiangular Basis
    Vectors"; "Stationary Representations: Optimally Approximating Compatibility and Implications for Improved Model
    Replacements".

    Examples
    --------
    >>> import numpy as np
    >>> from gramian import CodedClassifier
    >>> model = CodedClassifier(code_dim=4, ridge=0.1)
    >>> model = model.partial_fit([[0.0, 0.0], [0.1, 0.0], [1.0, 0.0], [1.1, 0.1]], ["a", "a", "b", "b"])
    >>> model.partial_fit([[0.0, 1.0], [0.1, 1.1]], ["c", "c"]).predict([[0.0, 0.9]])
    array(['c'], dtype='<U1')
    """

    def __init__(
        self,
        code="simplex",
        code_dim=None,
        feature_map=None,
        ridge=1.0,
        ridges=None,
        standardize=False,
        fit_intercept=True,
        dtype=None,
        device="cpu",
        n_jobs=None,
        random_state=0,
        verbose=0,
    ):
        self.code = code
        self.code_dim = code_dim
        self.feature_map = feature_map
        self.ridge = ridge
        self.ridges = ridges
        self.standardize = standardize
        self.fit_intercept = fit_intercept
        self.dtype = dtype
        self.device = device
        self.n_jobs = n_jobs
        self.random_state = random_state
        self.verbose = verbose

    # Learning.

    def _first(self, X, rows, labels, weight):
        learnt = self._begin_with(X, rows, labels, weight, None)
        self._add(learnt, rows, labels, weight, True)
        return learnt

    def partial_fit(self, X, y, classes=None, sample_weight=None, atomic=True):
        """Adds rows. A class that was never seen gets the next code.

        Parameters
        ----------
        X, y, sample_weight
            As in `fit`.
        classes : array-like of shape (n_classes,), default=None
            All labels that may ever come. They get their codes at once, in sorted order, so that models which declare
            the same classes can be merged, whatever they saw first; any other label is a ValueError from then on.
        atomic : bool, default=True
            As in `AnalyticClassifier.partial_fit`.

        Returns
        -------
        self
        """
        began = time.perf_counter()
        with self._lock():
            learnt = None if self._learnt is None else self._trainable()
            rows, labels, weight = self._batch(X, y, sample_weight, learnt)
            declared = self._declare(classes, learnt, labels)
            if learnt is None:
                learnt = self._begin_with(X, rows, labels, weight, declared)
                if not atomic:
                    self._learnt = learnt
                self._add(learnt, rows, labels, weight, bool(atomic))
                self._learnt = learnt
            else:
                self._add(learnt, rows, labels, weight, bool(atomic), declared)
        self._say("added", rows, began)
        return self

    def forget(self, X, y, sample_weight=None, atomic=True):
        """Takes rows out again, exactly: the model is then that of the rows that are left.

        A class without rows leaves ``classes_``, but keeps its code for when it comes back.

        Parameters
        ----------
        X, y, sample_weight
            Rows that were added before, with the labels and weights they were added with. Fewer rows in a class than
            asked for, or a class never seen, is a ValueError.
        atomic : bool, default=True

        Returns
        -------
        self
        """
        began = time.perf_counter()
        with self._lock():
            learnt = self._trainable()
            rows, labels, weight = self._batch(X, y, sample_weight, learnt)
            book, code = learnt.form.state
            labels = _labels.match_kind(labels, book.kind)
            places, asked = self._places(book, labels, weight), np.zeros(len(book.labels), dtype=np.int64)
            counting = _counting(weight, len(labels.codes))
            for label, place, count in zip(labels.values, places, self._rows_per_label(labels, counting), strict=True):
                if count == 0:
                    continue
                held = 0 if place < 0 else int(book.counts[place])
                if count > held:
                    raise ValueError(f"cannot forget {count} row(s) of class {label!r}: the model holds {held}")
                asked[place] += count
            if book.labels:
                self._change(_core.remove_coded, learnt, book, code, places, rows, labels, weight, bool(atomic), -1)
        self._say("forgot", rows, began)
        return self

    # Answers.

    def predict(self, X):
        """The class whose code has the largest inner product with the predicted one, the first of equals.

        Parameters
        ----------
        X : array-like or CSR matrix of shape (n, d)

        Returns
        -------
        ndarray of shape (n,)
        """
        learnt = self._ready()
        rows = self._checked_rows(X, learnt)
        predicted = learnt.model.scores(rows)
        book, code = learnt.form.state
        places = codes.decode(predicted, code.vectors[book.order], learnt.device, learnt.threads)
        return book.classes(learnt.form.dtype)[places]

    def predict_codes(self, X):
        """Predicted codes.

        Parameters
        ----------
        X : array-like or CSR matrix of shape (n, d)

        Returns
        -------
        ndarray of shape (n, m)
        """
        learnt = self._ready()
        return learnt.model.scores(self._checked_rows(X, learnt))

    def predict_proba(self, X):
        """Softmax of the inner products over `temperature_`: the posterior of classes if predicted codes scatter
        around the true ones with the noise variance that the sums know of.

        Parameters
        ----------
        X : array-like or CSR matrix of shape (n, d)

        Returns
        -------
        ndarray of shape (n, n_classes)
        """
        scores = self._scores(X)[0]
        _core.probabilities(scores, "softmax", self.temperature_, thread_count(self.n_jobs))
        return scores

    def _scores(self, X):
        """Inner products of the predicted codes with those of the classes, and these."""
        learnt = self._ready()
        predicted = learnt.model.scores(self._checked_rows(X, learnt))
        book, code = learnt.form.state
        return _core.code_scores(predicted, code.vectors[book.order], learnt.threads), book.classes(learnt.form.dtype)

    @property
    def classes_(self):
        """Labels that have rows, sorted."""
        learnt = self._ready()
        return learnt.form.state[0].classes(learnt.form.dtype)

    @property
    def class_count_(self):
        """Rows per class."""
        book = self._ready().form.state[0]
        return book.counts[book.order]

    @property
    def code_(self):
        """All codes."""
        return self._ready().form.state[1]

    @property
    def class_codes_(self):
        """Codes of the classes, one row each."""
        book, code = self._ready().form.state
        return code.vectors[book.order]

    @property
    def temperature_(self):
        """Temperature of `predict_proba`: the noise variance of a predicted entry."""
        return max(self._ready().model.noise_variance, _VARIANCE_FLOOR)

    @property
    def coef_(self):
        """Weights of the features, one row per entry of a code."""
        return self._ready().model.solution()[0]

    @property
    def intercept_(self):
        """Intercepts, one per entry of a code."""
        return self._ready().model.solution()[1]

    # How it is done.

    def _config(self):
        if isinstance(self.ridge, str) and self.ridge in ("loo", "holdout"):
            raise ValueError(
                f"ridge={self.ridge!r} is not for target codes; ridge='gcv' chooses from the sums and works with fit "
                "and partial_fit"
            )
        if isinstance(self.ridge, str) and self.ridge != "gcv":
            raise ValueError(f"ridge must be a number >= 0 or 'gcv', got {self.ridge!r}")
        return super()._config()

    _routed = {**AnalyticEstimator._routed, "partial_fit": ("classes", "sample_weight")}

    def set_partial_fit_request(self, *, classes=UNCHANGED, sample_weight=UNCHANGED):
        """Whether routing hands these to `partial_fit`, as in `set_fit_request`. Returns self."""
        return self._request("partial_fit", classes=classes, sample_weight=sample_weight)

    def _begin_with(self, X, rows, labels, weight, declared):
        """An empty model for rows and labels like these; nothing of self changes."""
        expected = len(self._carried(labels, weight)) if declared is None else len(declared)
        code = self._make_code(max(expected, 1))
        book = _Book()
        if declared is not None:
            book = book.with_labels(labels.kind, _core_labels(declared, labels.kind))
        form = _CodedForm(labels.dtype, declared, book, code)
        return self._begin(X, rows, form, code.dim, weight)

    def _make_code(self, n_classes):
        """The code of a new model for so many classes."""
        code, dim = self.code, self.code_dim
        if dim is not None:
            dim = _validate.check_count(dim, "code_dim")
        if isinstance(code, str):
            if code not in _NAMED:
                raise ValueError(f"code must be one of {_NAMED}, a TargetCode or an array, got {code!r}")
            if code in ("simplex", "one_hot"):
                room = n_classes if dim is None else dim + 1 if code == "simplex" else dim
                made = codes.simplex(max(room, 2)) if code == "simplex" else codes.one_hot(room)
            else:
                if dim is None:
                    raise ValueError(f"code={code!r} needs code_dim, the number of columns")
                seed = draw_seed(self.random_state)
                made = getattr(codes, code)(n_classes, dim, seed)
        else:
            made = code if isinstance(code, codes.TargetCode) else codes.custom(code)
            if dim is not None and dim != made.dim:
                raise ValueError(f"code_dim={dim}, but the code has {made.dim} columns")
        return made.grow(n_classes)

    @staticmethod
    def _rows_per_label(labels, counting):
        return np.bincount(labels.codes[counting], minlength=len(labels.values))

    def _carried(self, labels, weight):
        """Plain labels of the rows that count, sorted."""
        rows = self._rows_per_label(labels, _counting(weight, len(labels.codes)))
        return [label for label, count in zip(labels.listed(), rows, strict=True) if count > 0]

    @staticmethod
    def _places(book, labels, weight):
        """Codes of the labels of a call; -1 for unknown ones."""
        if book.kind not in ("none", labels.kind):
            raise TypeError(f"y has labels of kind {labels.kind}, but those of the model are of kind {book.kind}")
        return np.array([book.index.get(label, -1) for label in labels.listed()], dtype=np.int64)

    def _add(self, learnt, rows, labels, weight, atomic, declared=None):
        book, code = learnt.form.state
        kinds = {book.kind, _labels.match_kind(labels, book.kind).kind}
        if len(kinds) > 1 and learnt.form.declared is None and not book.counts.any():
            book = _Book()  # all rows were forgotten: nothing is left that labels of another kind could mix with
        dtype = labels.dtype if not book.labels else learnt.form.dtype
        labels = _labels.match_kind(labels, book.kind)
        self._places(book, labels, weight)  # refuses other kinds
        if declared is not None:
            book = book.with_labels(labels.kind, _core_labels(declared, labels.kind))
        book = book.with_labels(labels.kind, self._carried(labels, weight))
        if not book.labels:  # only rows of weight zero, and no class yet
            return
        code = code.grow(len(book.labels))
        places = self._places(book, labels, weight)
        self._change(_core.add_coded, learnt, book, code, places, rows, labels, weight, atomic, 1)
        learnt.form.dtype = dtype
        if declared is not None:
            learnt.form.declared = declared

    @staticmethod
    def _change(call, learnt, book, code, places, rows, labels, weight, atomic, sign):
        """Changes the sums, then the book: by all rows, or by those that are in (out) when a call fails part way."""
        # A label without a code has rows of weight zero only, which may point anywhere.
        of_row = np.maximum(places, 0)[labels.codes]
        counting = _counting(weight, len(of_row))
        before, done = learnt.model.n_rows, len(counting)
        try:
            call(learnt.model, rows, code.vectors, of_row, weight, atomic)
        except BaseException:
            done = abs(learnt.model.n_rows - before)
            if done == 0:
                raise
            learnt.form.state = _counted(book, of_row[counting[:done]], sign), code
            raise
        learnt.form.state = _counted(book, of_row[counting], sign), code

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
            if learnt is not None:
                missing = _labels.outside(learnt.form.state[0].classes(learnt.form.dtype), given)
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

    def _form_like(self, source):
        book, code = source.form.state
        named = isinstance(self.code, str)
        fits = code.kind == self.code if named else code == self._make_code(1)
        if not fits or (self.code_dim is not None and self.code_dim != code.dim):
            raise ValueError(
                f"code={self.code!r} with code_dim={self.code_dim!r} cannot have become the code of the other model, "
                f"{code!r}"
            )
        return _CodedForm(source.form.dtype, source.form.declared, book, code)

    @staticmethod
    def _joined(mine, source, sign):
        """The book and the code of two models together, or ValueError where codes mean different classes."""
        book, code = mine.form.state
        its_book, its_code = source.form.state
        shared = min(len(code), len(its_code))
        if code.dim != its_code.dim or not np.array_equal(code.vectors[:shared], its_code.vectors[:shared]):
            raise ValueError(f"models with different codes cannot be merged: {code!r} and {its_code!r}")
        kind = book.kind if book.labels else its_book.kind
        labels = _labels.LabelledRows(its_book.kind, np.asarray(its_book.labels), None, None)
        if its_book.labels and _labels.match_kind(labels, kind).kind != kind:
            raise TypeError(f"labels of kind {its_book.kind} cannot join those of kind {kind}")
        for place, (one, other) in enumerate(zip(book.labels, its_book.labels, strict=False)):
            if one != other:
                raise ValueError(
                    f"code {place} belongs to {one!r} in one model and to {other!r} in the other: declare the same "
                    "classes in the first partial_fit of both"
                )
        longer = book if len(book.labels) >= len(its_book.labels) else its_book
        counts = np.zeros(len(longer.labels), dtype=np.int64)
        counts[: len(book.labels)] += book.counts
        counts[: len(its_book.labels)] += sign * its_book.counts
        if (counts < 0).any():
            label = longer.labels[int(np.argmax(counts < 0))]
            raise ValueError(f"cannot unmerge: the other model has more rows of class {label!r} than this one")
        listed = [float(label) if kind == "real" else label for label in longer.labels]
        return _Book(kind, listed, counts), code if len(code) >= len(its_code) else its_code

    @classmethod
    def _merge(cls, mine, source):
        if source.form.declared is None:
            _labels.refuse_undeclared(source.form.state[0].classes(source.form.dtype), mine.form.declared)
        state, first = cls._joined(mine, source, 1), not mine.form.state[0].labels
        mine.model.merge(source.model)
        mine.form.state = state
        if first:
            mine.form.dtype = source.form.dtype
        if mine.form.declared is not None and source.form.declared is not None:
            mine.form.declared = np.union1d(mine.form.declared, source.form.declared)

    @classmethod
    def _unmerge(cls, mine, source):
        state = cls._joined(mine, source, -1)
        mine.model.unmerge(source.model)
        mine.form.state = state

    # In files.

    _form_from_json = staticmethod(_CodedForm.from_json)

    def _more_params(self):
        code = self.code
        if not isinstance(code, str):
            code = (code if isinstance(code, codes.TargetCode) else codes.custom(code))._as_json()
        return {"code": code, "code_dim": None if self.code_dim is None else int(self.code_dim)}

    @staticmethod
    def _params_from_json(params):
        code = params["code"]
        return {**params, "code": code if isinstance(code, str) else codes.TargetCode._from_json(code)}


def _counting(weight, n_rows):
    """Rows that count."""
    return np.arange(n_rows) if weight is None else np.flatnonzero(weight)


def _counted(book, places, sign):
    return book.with_counts(book.counts + sign * np.bincount(places, minlength=len(book.labels)))


def _core_labels(values, kind):
    """Declared labels as plain values of the kind of a call."""
    labels = _labels.encode(values)
    return _labels.match_kind(labels, kind).listed()
