"""Broad learning: a wide layer of random nodes under ridge regression, which grows by nodes as it grows by rows."""

import hashlib

import numpy as np

from . import _core, _labels, _validate
from ._composite import Composite, Parts, labels_from_json, labels_to_json, names_from_json, names_to_json
from ._one_label import OneLabelClassifier, one_label_each
from .base import Estimator, draw_seed, thread_count
from .features import RandomFeatures, with_params
from .gram import GramState

_ROWS = 4096  # scored at a time


def _group_seed(seed, kind, place):
    """Seed of a group of nodes, of one kind ("mapped" or "enhancement"), at its place among all groups.

    The first eight bytes of BLAKE2b, little-endian, of the two numbers as eight bytes each and the kind: groups of one
    model, or of models with other seeds, share a stream only where digests collide, so for chances of 2^-64.
    """
    text = seed.to_bytes(8, "little") + place.to_bytes(8, "little") + kind.encode()
    return int.from_bytes(hashlib.blake2b(text, digest_size=8, person=b"BroadLearner").digest(), "little")


class _Group:
    """Nodes that came together: their map, and how many mapped nodes it sees (0: it sees the rows)."""

    def __init__(self, features, sees):
        self.features = features
        self.sees = sees


class BroadLearner(Composite, OneLabelClassifier, Estimator):
    """Broad learning system for classification: mapped nodes, enhancement nodes on top of them, one ridge regression.

    Mapped nodes are random features of the rows, ``Z = f(X W + b)``; enhancement nodes are random features of all
    mapped nodes there are when they are made, ``H = g(Z V + c)``; the weights of the classes are those of one ridge
    regression on ``[Z | H]``. Nodes can be added and deleted, and rows and classes added, without starting again.

    Parameters
    ----------
    n_mapped, n_enhancement : int, default=100, 400
        Nodes to begin with. Without enhancement nodes this is an extreme learning machine: ridge regression on one
        layer of random features.
    mapped_activation, enhancement_activation : str, default="tanh"
        As in `RandomFeatures`.
    bias : float, default=0.5
        Standard deviation of the random offsets.
    ridge : float, default=1.0
        Penalty of the squared weights, above 0.
    fit_intercept : bool, default=True
    n_jobs : int, default=None
        Threads; None for the library's default, -1 for all processors.
    random_state : int, RandomState, Generator or None, default=0
        Seeds the nodes: each group of nodes that come together has a seed of its own, a hash of this one, of its kind
        and of its place among the groups.

    Attributes
    ----------
    classes_ : ndarray of shape (n_classes,)
    coef_ : ndarray of shape (n_classes, n_nodes)
        Nodes in the order in which they came.
    intercept_ : ndarray of shape (n_classes,)
    n_nodes_ : int
    n_samples_seen_ : int
    n_features_in_ : int
    state_ : GramState
        A copy of the sums over the nodes.

    Notes
    -----
    Rows: n d^2 flops for n rows and d nodes, and d^3 / 3 at the next read. k more nodes: 2 n k d flops for their
    products with the others, for which all rows are needed again, and k d^2 for the factor (bordered Cholesky). k nodes
    less: 3 k d^2 or less, and no rows. Memory is that of two triangles, and of the nodes of the rows of one call.
    Reference: "Broad Learning System: An Effective and Efficient Incremental Learning System Without the Need for Deep
    Architecture".

    Examples
    --------
    >>> import numpy as np
    >>> from gramian import BroadLearner
    >>> X = np.array([[0.0, 0.0], [0.0, 1.0], [1.0, 0.0], [1.0, 1.0]])
    >>> y = np.array([0, 1, 1, 0])
    >>> model = BroadLearner(n_mapped=4, n_enhancement=0, ridge=1e-3).fit(X, y)
    >>> model.add_nodes(X, y, enhancement=30).n_nodes_
    34
    >>> model.predict(X)
    array([0, 1, 1, 0])
    """

    _ridge = None
    _held = (
        "_ridge",
        "_groups",
        "_seed",
        "_kept",
        "_fitted_ridge",
        "_cache",
        "classes_",
        "n_features_in_",
        "feature_names_in_",
    )

    def __init__(
        self,
        n_mapped=100,
        n_enhancement=400,
        mapped_activation="tanh",
        enhancement_activation="tanh",
        bias=0.5,
        ridge=1.0,
        fit_intercept=True,
        n_jobs=None,
        random_state=0,
    ):
        self.n_mapped = n_mapped
        self.n_enhancement = n_enhancement
        self.mapped_activation = mapped_activation
        self.enhancement_activation = enhancement_activation
        self.bias = bias
        self.ridge = ridge
        self.fit_intercept = fit_intercept
        self.n_jobs = n_jobs
        self.random_state = random_state

    # Learning.

    def fit(self, X, y, sample_weight=None):
        """Learns from these rows alone.

        Parameters
        ----------
        X : array-like or CSR matrix of shape (n, d)
        y : array-like of shape (n,)
            Labels: bool, int, float (whole numbers), str or bytes.
        sample_weight : array-like of shape (n,), default=None
            Weights >= 0, not all 0. Rows of weight 0 are as if they were not there.

        Returns
        -------
        self
        """
        with self._lock():
            self._fit(X, y, sample_weight)
        return self

    def _fit(self, X, y, sample_weight):
        names, rows, labels, weight = self._batch(X, y, sample_weight)
        if weight is not None and not weight.any():
            raise ValueError("sample_weight is zero for all rows")
        classes = _present(labels, weight)
        mapped = _validate.check_count(self.n_mapped, "n_mapped")
        enhancement = _validate.check_count(self.n_enhancement, "n_enhancement", low=0)
        ridge = _validate.check_number(self.ridge, "ridge", strict=True)
        seed = draw_seed(self.random_state)
        groups = self._new_groups(rows.shape[1], [], seed, mapped, enhancement)
        nodes = self._nodes(rows, groups)
        state = GramState(nodes.shape[1], len(classes), fit_intercept=bool(self.fit_intercept), n_jobs=self.n_jobs)
        growing = _core.GrowingRidge(state._core, ridge)
        growing.add(nodes, _codes_in(labels, classes), weight)
        self._ridge, self._groups, self._seed = growing, groups, seed
        self._kept = np.arange(nodes.shape[1])
        self._fitted_ridge = ridge
        self.classes_ = classes
        self.n_features_in_ = int(rows.shape[1])
        self._set_feature_names(names)
        self._cache = {}  # the weights, solved when they are first needed

    def partial_fit(self, X, y, classes=None, sample_weight=None):
        """Adds rows; labels that were never seen become classes. The first call is a `fit`.

        On an error the model stays as it was. A call that brings new classes works on a copy of the sums.

        Parameters
        ----------
        X, y, sample_weight
            As in `fit`; the weights of a later call may all be 0. Labels must be of the kind of those seen before,
            where whole numbers may be int or float; any other kind is a TypeError.
        classes : ignored
            New classes may come at any time.

        Returns
        -------
        self
        """
        with self._lock():
            if self._ridge is None:
                self._fit(X, y, sample_weight)
            else:
                self._add(X, y, sample_weight)
        return self

    def _add(self, X, y, sample_weight):
        rows, labels, weight = self._next_batch(X, y, sample_weight)
        nodes = self._nodes(rows, self._groups)[:, self._kept]
        known = self.classes_
        grown = np.union1d(known, _present(labels, weight))
        codes = _codes_in(labels, grown)
        if len(grown) == len(known):
            # Weights of older sums must not outlive the rows, whatever interrupts; rows that are refused leave both.
            cache, self._cache = self._cache, {}
            try:
                self._ridge.add(nodes, codes, weight)
            except Exception:
                self._cache = cache
                raise
            return
        places = np.searchsorted(known, grown)
        old = (places < len(known)) & (known[np.minimum(places, len(known) - 1)] == grown)
        # On a copy: a batch that is refused leaves neither outputs nor classes behind.
        growing = _core.GrowingRidge(self._ridge.state(), self._fitted_ridge)
        growing.rearrange_outputs(np.where(old, places, -1).tolist())
        growing.add(nodes, codes, weight)
        self._ridge, self.classes_, self._cache = growing, grown, {}

    def add_nodes(self, X, y, mapped=0, enhancement=0, sample_weight=None):
        """More nodes, by bordered Cholesky: the model is then what one with all its nodes would be.

        Parameters
        ----------
        X, y, sample_weight
            All rows that the model has learnt, in any order: the products of new nodes with the others need them. Other
            rows are a ValueError, as far as their number, the counts of their classes and their sums tell.
        mapped, enhancement : int, default=0
            How many. New enhancement nodes see the new mapped ones too.

        Returns
        -------
        self
        """
        mapped = _validate.check_count(mapped, "mapped", low=0)
        enhancement = _validate.check_count(enhancement, "enhancement", low=0)
        with self._lock():
            self._require_fitted()
            self._append(X, y, mapped, enhancement, sample_weight)
        return self

    def _append(self, X, y, mapped, enhancement, sample_weight):
        rows, labels, weight = self._next_batch(X, y, sample_weight)
        if mapped + enhancement == 0:
            return
        unknown = _labels.outside(_present(labels, weight), self.classes_)
        if unknown.size:
            raise ValueError(f"y has labels that the model has not learnt: {unknown.tolist()!r}")
        groups = self._new_groups(self.n_features_in_, self._groups, self._seed, mapped, enhancement)
        nodes = self._nodes(rows, groups)
        before = sum(group.features.n_features for group in self._groups)
        kept = np.concatenate([self._kept, np.arange(before, nodes.shape[1])])
        self._ridge.append_features(nodes[:, kept], _codes_in(labels, self.classes_), weight)
        self._groups, self._kept = groups, kept
        self._cache.clear()

    def delete_nodes(self, nodes):
        """Takes nodes out of the regression, exactly. Enhancement nodes on top of mapped ones stay what they are.

        Parameters
        ----------
        nodes : array-like of int, or of bool of shape (n_nodes_,)
            Places in the columns of ``coef_``, or which of these go. At least one node must stay.

        Returns
        -------
        self

        Raises
        ------
        TypeError
            Neither integers nor a mask.
        ValueError
            A place that is none, a mask of another length, or no node would stay.
        """
        nodes = np.asarray(nodes)
        with self._lock():
            self._require_fitted()
            nodes = _places_of(nodes, self.n_nodes_)
            if nodes.size and (nodes[0] < 0 or nodes[-1] >= self.n_nodes_):
                raise ValueError(f"nodes must be in [0, {self.n_nodes_}), got {nodes.tolist()!r}")
            if nodes.size >= self.n_nodes_:
                raise ValueError("at least one node must stay")
            self._ridge.delete_features(nodes.tolist())
            self._kept = np.delete(self._kept, nodes.astype(np.int64))
            self._cache.clear()
        return self

    # Answers.

    @property
    def coef_(self):
        """Weights of the nodes."""
        with self._lock():
            return self._solved()[0]

    @property
    def intercept_(self):
        """Intercepts."""
        with self._lock():
            return self._solved()[1]

    @property
    def n_nodes_(self):
        """Nodes in the regression."""
        self._require_fitted()
        return len(self._kept)

    @property
    def n_samples_seen_(self):
        """Rows of positive weight that the model is made of."""
        return self.state_.n_rows

    @property
    def state_(self):
        """A copy of the sums over the nodes (GramState)."""
        with self._lock():
            self._require_fitted()
            return GramState._wrap(self._ridge.state(), "cpu", self.n_jobs)

    # How it is done.

    def _require_fitted(self):
        if self._ridge is None:
            self._raise_not_fitted()

    def __sklearn_is_fitted__(self):
        return self._ridge is not None

    def _solved(self):
        """Weights and intercepts. The caller holds the lock."""
        self._require_fitted()
        if "weights" not in self._cache:
            self._cache["weights"] = self._ridge.weights()
        return self._cache["weights"]

    def _batch(self, X, y, sample_weight):
        who = type(self).__name__
        labels = one_label_each(y, who)
        names = _validate.column_names(X)
        rows = _validate.check_rows(X, who)
        _validate.check_length(rows, labels.codes)
        return names, rows, labels, _validate.check_weight(sample_weight, rows.shape[0])

    def _next_batch(self, X, y, sample_weight):
        _, rows, labels, weight = self._batch(X, y, sample_weight)
        self._check_width(X, rows)
        kind = _labels.kind_of(self.classes_)
        labels = _labels.match_kind(labels, kind)
        if labels.kind != kind:
            raise TypeError(f"labels of kind {labels.kind} do not mix with the labels of kind {kind} seen before")
        return rows, labels, weight

    def _check_width(self, X, rows):
        _validate.check_column_names(X, getattr(self, "feature_names_in_", None), type(self).__name__)
        _validate.check_width(rows, self.n_features_in_, type(self).__name__)

    def _new_groups(self, n_inputs, groups, seed, mapped, enhancement):
        """The groups and those of new nodes."""
        groups = list(groups)

        def add(kind, count, activation, sees):
            features = RandomFeatures(
                count, activation=activation, bias=self.bias, random_state=_group_seed(seed, kind, len(groups))
            )
            features._fit_rows(np.empty((1, sees or n_inputs)))
            groups.append(_Group(features, sees))

        if mapped:
            add("mapped", mapped, self.mapped_activation, 0)
        if enhancement:
            seen = sum(g.features.n_features for g in groups if not g.sees)
            add("enhancement", enhancement, self.enhancement_activation, seen)
        return groups

    def _nodes(self, rows, groups):
        """All nodes of rows, deleted ones among them, in the order in which they came."""
        threads = thread_count(self.n_jobs)
        mapped, nodes = None, []
        for group in groups:
            source = mapped[:, : group.sees] if group.sees else rows
            nodes.append(group.features._handle().transform(source, False, "cpu", threads))
            if not group.sees:
                mapped = nodes[-1] if mapped is None else np.hstack([mapped, nodes[-1]])
        nodes = nodes[0] if len(nodes) == 1 else np.hstack(nodes)
        bad = _validate.first_bad_row(nodes)
        if bad is not None:
            raise ValueError(f"the nodes of row {bad} overflow: X is too large")
        return nodes

    def _scores(self, X):
        """Scores of all classes, and these, of one moment."""
        with self._lock():
            coef, intercept = self._solved()
            groups, kept, classes = self._groups, self._kept, self.classes_
            rows = _validate.check_rows(X, type(self).__name__)
            self._check_width(X, rows)
        if not isinstance(rows, np.ndarray):
            return self._nodes(rows, groups)[:, kept] @ coef.T + intercept, classes
        out = np.empty((len(rows), len(coef)))
        for begin in range(0, len(rows), _ROWS):
            part = slice(begin, begin + _ROWS)
            out[part] = self._nodes(rows[part], groups)[:, kept] @ coef.T + intercept
        return out, classes

    # In files.

    def _parts(self):
        with self._lock():
            coef, intercept = self._solved()
            learnt = {
                "labels": labels_to_json(self.classes_, self.classes_.dtype),
                "names": names_to_json(getattr(self, "feature_names_in_", None)),
                "n_features_in": self.n_features_in_,
                "ridge": self._fitted_ridge,
                "seed": str(self._seed),
                "groups": [{"sees": group.sees, "map": group.features._as_json()} for group in self._groups],
            }
            # The weights too: the factor of a model that grew has other bits than one made anew.
            arrays = {"kept": self._kept.astype(np.int64), "coef": coef, "intercept": intercept}
            return Parts(learnt, arrays, {"sums": self._ridge.state().save_bytes()})

    def _take_parts(self, parts, device, n_jobs):
        learnt = parts.learnt
        width = _validate.check_count(learnt["n_features_in"], "n_features_in")
        classes = labels_from_json(learnt["labels"])[0]
        groups = [_group_from_json(group, width) for group in learnt["groups"]]
        mapped = 0
        for group in groups:
            if group.sees > mapped:
                raise ValueError(f"nodes on {group.sees} others, of which there are {mapped}")
            mapped += 0 if group.sees else group.features.n_features
        made = sum(group.features.n_features for group in groups)
        kept = parts.array("kept", np.int64, (-1,))
        if not kept.size or kept[0] < 0 or kept[-1] >= made or (np.diff(kept) <= 0).any():
            raise ValueError(f"the nodes in use are not some of {made}")
        sums = _core.GramState.load_bytes(parts.models["sums"], "cpu", thread_count(n_jobs))
        shape = len(classes), len(kept)
        if (sums.n_outputs, sums.n_features) != shape or not np.array_equal(classes, np.unique(classes)):
            raise ValueError(f"the sums are not those of {shape[0]} classes and {shape[1]} nodes")
        weights = parts.array("coef", np.float64, shape), parts.array("intercept", np.float64, shape[:1])
        ridge = _validate.check_number(learnt["ridge"], "ridge", strict=True)
        names = names_from_json(learnt["names"], width)
        self._ridge, self._groups = _core.GrowingRidge(sums, ridge), groups
        self._seed, self._kept, self._fitted_ridge = draw_seed(int(learnt["seed"])), kept, ridge
        self.classes_, self.n_features_in_, self._cache = classes, width, {"weights": weights}
        self._set_feature_names(names)


def _group_from_json(group, width):
    description, sees = group["map"], _validate.check_count(group["sees"], "sees", low=0)
    if description["type"] != "RandomFeatures":
        raise ValueError(f"nodes that are {description['type']!r}")
    features = with_params(description, None)
    features._fit_rows(np.broadcast_to(0.0, (1, sees or width)))
    return _Group(features, sees)


def _places_of(nodes, n_nodes):
    """Distinct places, sorted, from places or from a mask."""
    if nodes.dtype.kind == "b":
        if nodes.shape != (n_nodes,):
            raise ValueError(f"nodes is a mask of shape {nodes.shape}, expected ({n_nodes},)")
        return np.flatnonzero(nodes)
    if nodes.ndim > 1:
        raise ValueError(f"nodes must have one dimension, got an array of shape {nodes.shape}")
    if nodes.size and nodes.dtype.kind not in "iu":
        raise TypeError(f"nodes must be integers or a boolean mask, got an array of dtype {nodes.dtype}")
    return np.unique(nodes)


def _present(labels, weight):
    """The labels that have a row of positive weight, sorted."""
    if weight is None:
        return labels.values
    return labels.values[np.unique(labels.codes[weight > 0])]


def _codes_in(labels, classes):
    """Place of each row's label among the classes; some place for rows of weight 0, whose label may be none of them."""
    places = np.minimum(np.searchsorted(classes, labels.values), len(classes) - 1)
    return np.ascontiguousarray(places[labels.codes], dtype=np.int64)
