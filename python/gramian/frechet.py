"""Prediction over a space of labels that has distances, far beyond the labels a classifier was trained on."""

import numpy as np

from . import _core, _validate
from .base import Estimator, thread_count

_METHODS = ("softmax", "simplex_projection", "clip")


def as_probabilities(scores, method="softmax", temperature=1.0, n_jobs=None):
    """Scores of a head as distributions over its classes.

    Parameters
    ----------
    scores : array-like of shape (n, n_classes), or (n,) for two classes
        One column is the difference of two, as ``decision_function`` gives it.
    method : {"softmax", "simplex_projection", "clip"}, default="softmax"
        "softmax" of ``scores / temperature``: no entry is zero. "simplex_projection": the nearest distribution, for
        ridge scores, which are estimates of probabilities already. "clip": negative scores become zero and the rest is
        divided by its sum; a row without a positive score becomes even.
    temperature : float, default=1.0
        Of "softmax" alone; ``temperature_`` of a fitted classifier is a good one.
    n_jobs : int, default=None

    Returns
    -------
    ndarray of shape (n, n_classes)
        Rows are >= 0 and sum to 1.

    Notes
    -----
    n k operations for k classes, n k log k for the projection. Reference: "Efficient Projections onto the l1-Ball for
    Learning in High Dimensions".
    """
    if method not in _METHODS:
        raise ValueError(f"method must be one of {_METHODS}, got {method!r}")
    temperature = _validate.check_number(temperature, "temperature", strict=True)
    scores = np.array(scores, dtype=np.float64)
    if scores.ndim == 1:
        scores = np.column_stack([-scores / 2, scores / 2])
        if method != "softmax":
            scores += 0.5  # two scores that sum to one, as those of one-hot targets do
    if scores.ndim != 2 or scores.shape[1] == 0:
        raise ValueError(f"scores must have shape (n, n_classes), got {scores.shape}")
    _validate.check_finite(scores, "scores")
    scores = np.ascontiguousarray(scores)
    _core.probabilities(scores, method, temperature, thread_count(n_jobs))
    return scores


class _Metric:
    """Distances between labels. ``n_labels`` of them, numbered from 0."""

    _prepared = None  # observed labels and what was last made for them

    def _for(self, observed, make):
        """make(), kept for the next call with the same observed labels."""
        prepared = self._prepared
        if prepared is None or not np.array_equal(prepared[0], observed):
            prepared = self._prepared = (observed, make())
        return prepared[1]

    def __getstate__(self):
        return {name: value for name, value in self.__dict__.items() if name != "_prepared"}

    def distances(self, observed, begin=0, end=None, n_jobs=None):
        """Distances from observed labels to those from ``begin`` to ``end``.

        Parameters
        ----------
        observed : array-like of int of shape (K,)
        begin, end : int
            None for all.
        n_jobs : int, default=None

        Returns
        -------
        ndarray of shape (K, end - begin)
        """
        observed = _checked_observed(observed, self.n_labels)
        end = self.n_labels if end is None else end
        if not 0 <= begin <= end <= self.n_labels:
            raise ValueError(f"begin and end must be labels from 0 to {self.n_labels}, got {begin} and {end}")
        return self._distances(observed, begin, end, thread_count(n_jobs))


class TreeMetric(_Metric):
    """Distances along a tree. Made by `hierarchy_metric`."""

    def __init__(self, parents, lengths):
        self.parents = parents
        self.lengths = lengths
        self.n_labels = len(parents)

    def __repr__(self):
        return f"TreeMetric({self.n_labels} labels)"

    def _observed(self, observed):
        lengths = np.empty(0) if self.lengths is None else self.lengths
        return self._for(observed, lambda: _core.TreeMetric(self.parents, lengths, observed))

    def _distances(self, observed, begin, end, threads):
        return self._observed(observed).distances(begin, end, threads)


def hierarchy_metric(parents, lengths=None):
    """The metric of a tree: the length of the way between two nodes.

    Parameters
    ----------
    parents : array-like of int of shape (n_labels,)
        Node above each node, -1 for the one root. All nodes are labels, also inner ones.
    lengths : array-like of shape (n_labels,), default=None
        Of the edge to the parent, >= 0; None for ones. That of the root is not looked at.

    Returns
    -------
    TreeMetric
        `FrechetPredictor` never makes a table of it: a row costs O(K + candidates) operations, candidates being the
        nodes on the ways from the root to the K observed labels, and memory is O(n_labels + K).

    Notes
    -----
    Source: "Geometry-Aware Adaptation for Pretrained Models".
    """
    parents = np.asarray(parents)
    if parents.ndim != 1 or parents.dtype.kind not in "iu" or len(parents) == 0:
        raise ValueError(f"parents must be whole numbers of shape (n_labels,), got {parents.dtype} {parents.shape}")
    lengths = None if lengths is None else np.array(lengths, dtype=np.float64)
    if lengths is not None and lengths.shape != parents.shape:
        raise ValueError(f"lengths must have shape {parents.shape}, got {lengths.shape}")
    metric = TreeMetric(parents.astype(np.int64), lengths)
    metric._observed(np.zeros(1, dtype=np.int64))  # refuses what is no tree
    return metric


class GraphMetric(_Metric):
    """Lengths of shortest paths. Made by `graph_metric`."""

    def __init__(self, indptr, indices, lengths):
        self.indptr, self.indices, self.lengths = indptr, indices, lengths
        self.n_labels = len(indptr) - 1

    def __repr__(self):
        return f"GraphMetric({self.n_labels} labels, {len(self.indices)} edges)"

    def _table(self, observed, threads):
        return self._for(observed, lambda: self._search(observed, threads))

    def _search(self, observed, threads):
        table = _core.graph_distances(self.indptr, self.indices, self.lengths, observed, threads)
        apart = np.isinf(table)
        if apart.any():
            place, label = np.unravel_index(int(np.argmax(apart)), table.shape)
            raise ValueError(f"no path leads from observed label {observed[place]} to label {label}")
        return table

    def _distances(self, observed, begin, end, threads):
        return self._table(observed, threads)[:, begin:end]


def graph_metric(adjacency, weighted=False):
    """The metric of a graph: lengths of the shortest paths from an observed label to any other.

    Parameters
    ----------
    adjacency : sparse matrix or array of shape (n_labels, n_labels)
        Stored entries (for arrays those that are not zero) are edges from the row to the column.
    weighted : bool, default=False
        Whether the entries are lengths, >= 0; else each edge has length 1.

    Returns
    -------
    GraphMetric
        Breadth-first search, or Dijkstra's method where there are lengths, from each of the K observed labels, in
        parallel; `FrechetPredictor` keeps the table of K n_labels distances.

    Notes
    -----
    Source: "Geometry-Aware Adaptation for Pretrained Models"; the searches are textbook ones.
    """
    if not _validate.is_sparse(adjacency):
        adjacency = np.asarray(adjacency)
    if adjacency.ndim != 2 or adjacency.shape[0] != adjacency.shape[1] or adjacency.shape[0] == 0:
        raise ValueError(f"adjacency must be square, got shape {adjacency.shape}")
    if isinstance(adjacency, np.ndarray):
        rows, columns = np.nonzero(adjacency)
        data = adjacency[rows, columns]
        indptr = np.concatenate([[0], np.cumsum(np.bincount(rows, minlength=len(adjacency)))])
    else:
        matrix = adjacency.tocsr()
        indptr, columns, data = matrix.indptr, matrix.indices, matrix.data
    lengths = np.ascontiguousarray(data, dtype=np.float64) if weighted else None
    metric = GraphMetric(np.asarray(indptr, dtype=np.int64), np.asarray(columns, dtype=np.int64), lengths)
    _core.graph_distances(metric.indptr, metric.indices, metric.lengths, [], 1)  # refuses what is no graph
    return metric


class EmbeddingMetric(_Metric):
    """Distances between vectors. Made by `embedding_metric`."""

    def __init__(self, vectors):
        self.vectors = vectors
        self.n_labels = len(vectors)

    def __repr__(self):
        return f"EmbeddingMetric({self.n_labels} labels in {self.vectors.shape[1]} dimensions)"

    def _distances(self, observed, begin, end, threads):
        ours = self.vectors[observed].astype(np.float64)
        theirs = self.vectors[begin:end].astype(np.float64)
        products = _core.code_scores(ours, theirs, threads)
        squares = (ours**2).sum(axis=1)[:, np.newaxis] + (theirs**2).sum(axis=1) - 2 * products
        return np.sqrt(np.maximum(squares, 0))


def embedding_metric(vectors):
    """The Euclidean metric of one vector per label.

    Parameters
    ----------
    vectors : array-like of shape (n_labels, m)

    Returns
    -------
    EmbeddingMetric
        `FrechetPredictor` takes the label nearest to the weighted mean of the observed ones, which is the same and
        costs 2 m n_labels flops a row instead of 2 K n_labels.

    Notes
    -----
    Source: "Geometry-Aware Adaptation for Pretrained Models"; that the mean decides alone is a textbook identity (the
    parallel axes).
    """
    vectors = _validate.check_rows(vectors, "embedding_metric", name="vectors")
    if not isinstance(vectors, np.ndarray):
        raise ValueError("vectors must be dense")
    return EmbeddingMetric(vectors)


def _checked_observed(observed, n_labels):
    observed = np.asarray(observed)
    if observed.ndim != 1 or len(observed) == 0 or observed.dtype.kind not in "iu":
        raise ValueError(f"observed must be numbers of labels, got {observed.dtype} of shape {observed.shape}")
    wrong = (observed < 0) | (observed >= n_labels)
    if wrong.any():
        raise ValueError(f"observed has {observed[np.argmax(wrong)]}, but there are {n_labels} labels")
    return observed.astype(np.int64)


class FrechetPredictor(Estimator):
    """Predicts the label of the least expected squared distance, among all labels of a metric space, from
    probabilities of those a classifier knows.

    A classifier trained on K labels can so predict any of a much larger space: one between two observed labels in a
    tree, for example, if it hesitates between them.

    Parameters
    ----------
    metric : TreeMetric, GraphMetric, EmbeddingMetric, ndarray or callable
        Of `hierarchy_metric`, `graph_metric` or `embedding_metric`; or distances, of shape (n_labels, n_labels) or
        (K, n_labels) with a row per observed label (``numpy.memmap`` is read a tile at a time); or a function of
        (begin, end) that returns those of labels ``begin`` to ``end``, of shape (K, end - begin).
    observed : array-like of shape (K,), default=None
        What the columns of ``P`` stand for, numbers of labels, or some of ``labels`` where these are given; None for
        the first labels: as many as an array has rows or a function gives, and all of any other metric.
    labels : array-like of shape (n_labels,), default=None
        Names of the labels; None for their numbers. Needed with a function.
    squared : bool, default=False
        Whether the numbers of an array or a function are squared already.
    dtype : {None, "float64", "float32"}, default=None
        Of the products; None is "float64". Trees are always "float64".
    tile : int, default=4096
        Labels looked at together.
    device : str, default="cpu"
    n_jobs : int, default=None

    Notes
    -----
    2 n K n_labels flops, memory for 256 rows and one tile; trees and embeddings need less (see there). Of labels that
    are equally good the first is taken. Where all labels are equally far from one another, no unobserved label can
    win. Reference: "Geometry-Aware Adaptation for Pretrained Models".

    Examples
    --------
    >>> from gramian import FrechetPredictor, hierarchy_metric
    >>> path = hierarchy_metric([-1, 0, 1])  # 0 - 1 - 2
    >>> FrechetPredictor(path, observed=[0, 2]).predict([[0.5, 0.5], [0.9, 0.1]])
    array([1, 0])
    """

    def __init__(
        self, metric, observed=None, labels=None, squared=False, dtype=None, tile=4096, device="cpu", n_jobs=None
    ):
        self.metric = metric
        self.observed = observed
        self.labels = labels
        self.squared = squared
        self.dtype = dtype
        self.tile = tile
        self.device = device
        self.n_jobs = n_jobs

    def predict(self, P):
        """Labels.

        Parameters
        ----------
        P : array-like of shape (n, K)
            Weights of the observed labels in each row: probabilities, or anything >= 0 that is not all zero.

        Returns
        -------
        ndarray of shape (n,)
        """
        places = self.predict_places(P)[0]
        return places if self.labels is None else np.asarray(self.labels)[places]

    def predict_places(self, P):
        """Numbers of the predicted labels, and what was least.

        Parameters
        ----------
        P : array-like of shape (n, K)

        Returns
        -------
        places : ndarray of int64 of shape (n,)
        costs : ndarray of shape (n,)
            sum_k P_k d(k, label)^2.
        """
        rows = _validate.check_rows(P, type(self).__name__, name="P")
        if not isinstance(rows, np.ndarray):
            raise ValueError("P must be dense")
        if self.squared and isinstance(self.metric, _Metric):
            raise ValueError("squared is for arrays and functions of distances")
        products, tile = _validate.product_dtype(self.dtype), _validate.check_count(self.tile, "tile")
        device, threads = _validate.device_name(self.device), thread_count(self.n_jobs)
        observed = self._observed_places(rows.shape[1])
        self._check_weights(rows)
        if isinstance(self.metric, TreeMetric):
            return self.metric._observed(observed).predict(np.ascontiguousarray(rows, dtype=np.float64), threads)
        if isinstance(self.metric, EmbeddingMetric):
            return self._nearest(rows, observed, products, tile, device, threads)
        scan = _core.LabelScan(rows, products, device, threads)
        read = self._tiles(observed, threads)
        for begin in range(0, self.n_labels_, tile):
            scan.take(begin, read(begin, min(begin + tile, self.n_labels_)), False, 1.0, None)
        return self._found(scan.labels, products), scan.costs

    def wrap(self, estimator, method="softmax", temperature=None):
        """This rule behind a fitted classifier.

        Parameters
        ----------
        estimator : classifier
            Its ``classes_`` must be the observed labels, in the same order. Without ``predict_proba`` its
            ``decision_function`` goes through `as_probabilities`.
        method, temperature
            Of `as_probabilities`; None for ``temperature_`` of the classifier, else 1.

        Returns
        -------
        FrechetClassifier
            With ``predict(X)``.
        """
        wrapped = FrechetClassifier(self, estimator, method, temperature)
        wrapped._check_classes()
        return wrapped

    @property
    def n_labels_(self):
        """Number of labels."""
        if isinstance(self.metric, _Metric):
            return self.metric.n_labels
        if callable(self.metric):
            if self.labels is None:
                raise ValueError("a metric that is a function needs labels")
            return len(self.labels)
        return self._table().shape[1]

    def _table(self):
        table = self.metric if isinstance(self.metric, np.ndarray) else np.asarray(self.metric)
        if table.ndim != 2 or table.dtype.kind not in "fiub":
            raise ValueError(f"metric must be numbers of shape (K, n_labels), got {table.dtype} of shape {table.shape}")
        return table

    def _observed_places(self, n_columns):
        n_labels = self.n_labels_
        labels = None if self.labels is None else np.asarray(self.labels)
        if labels is not None and labels.shape != (n_labels,):
            raise ValueError(f"labels must have shape {(n_labels,)}, got {labels.shape}")
        if self.observed is None:
            rows = n_columns if callable(self.metric) else n_labels
            if not isinstance(self.metric, _Metric) and not callable(self.metric):
                rows = self._table().shape[0]
            if n_columns != rows:
                raise ValueError(
                    f"P has {n_columns} columns, but the metric has {rows} observed labels; observed tells which "
                    "labels the columns stand for where they are not all"
                )
            observed = np.arange(n_columns)
        elif labels is None:
            observed = np.asarray(self.observed)
        else:
            given = np.asarray(self.observed)
            order = np.argsort(labels, kind="stable")
            at = np.minimum(np.searchsorted(labels, given, sorter=order), n_labels - 1)
            observed = order[at]
            wrong = labels[observed] != given
            if np.any(wrong):
                raise ValueError(f"observed has {given[np.argmax(wrong)]!r}, which is not among labels")
        observed = _checked_observed(observed, n_labels)
        if len(observed) != n_columns:
            raise ValueError(f"P has {n_columns} columns for {len(observed)} observed labels")
        return observed

    @staticmethod
    def _check_weights(rows):
        _validate.check_finite(rows, "P")
        wrong = (rows < 0).any(axis=1) | ~(rows > 0).any(axis=1)
        if wrong.any():
            raise ValueError(
                "P must hold weights that are not negative and not all zero (as_probabilities makes some of scores), "
                f"row {int(np.argmax(wrong))} does not"
            )

    def _tiles(self, observed, threads):
        """A function of (begin, end) that returns squared distances of shape (K, end - begin)."""
        if isinstance(self.metric, GraphMetric):
            table = self.metric._table(observed, threads)
            return lambda begin, end: np.square(table[:, begin:end])
        if callable(self.metric):

            def read(begin, end):
                return self._squares(np.asarray(self.metric(begin, end)), (len(observed), end - begin))

            return read
        table = self._table()
        if table.shape[0] == table.shape[1]:
            return lambda begin, end: self._squares(table[observed, begin:end], (len(observed), end - begin))
        if table.shape[0] != len(observed):
            raise ValueError(
                f"metric must have a row per label or per observed label, got shape {table.shape} for "
                f"{len(observed)} observed labels"
            )
        return lambda begin, end: self._squares(table[:, begin:end], (len(observed), end - begin))

    def _squares(self, tile, shape):
        if tile.shape != shape:
            raise ValueError(f"metric gave a tile of shape {tile.shape}, expected {shape}")
        if self.squared:
            return tile
        return np.square(tile if tile.dtype.kind == "f" else tile.astype(np.float64))

    def _nearest(self, rows, observed, products, tile, device, threads):
        """The label nearest to the weighted mean of the observed ones."""
        vectors = self.metric.vectors
        ours = vectors[observed].astype(np.float64)
        # Around a point among them, so that no digits go to a large mean.
        centre = ours.mean(axis=0)
        ours -= centre
        weights = rows.astype(np.float64)
        totals = weights.sum(axis=1, keepdims=True)
        means = _core.code_scores(weights / totals, np.ascontiguousarray(ours.T), threads)
        scan = _core.LabelScan(means, products, device, threads)
        for begin in range(0, len(vectors), tile):
            some = vectors[begin : begin + tile] - centre
            scan.take(begin, some, True, -2.0, np.einsum("ij,ij->i", some, some))
        spread = (weights / totals) @ (ours**2).sum(axis=1)
        return self._found(scan.labels, products), totals[:, 0] * np.maximum(scan.costs + spread, 0)

    @staticmethod
    def _found(places, products):
        if (places < 0).any():
            raise ValueError(f"the costs of row {int(np.argmax(places < 0))} overflow {products}")
        return places


class FrechetClassifier(Estimator):
    """A fitted classifier whose predictions come from a `FrechetPredictor`. Made by `FrechetPredictor.wrap`.

    It learns nothing itself: a copy that is made of the parameters alone, such as scikit-learn's ``clone`` makes, has
    an estimator that is not fitted.

    Parameters
    ----------
    predictor : FrechetPredictor
    estimator : classifier
        Fitted, its ``classes_`` the observed labels in the same order.
    method : {"softmax", "simplex_projection", "clip"}, default="softmax"
    temperature : float, default=None
        Of `as_probabilities`; None for ``temperature_`` of the classifier, else 1.
    """

    def __init__(self, predictor, estimator, method="softmax", temperature=None):
        self.predictor = predictor
        self.estimator = estimator
        self.method = method
        self.temperature = temperature

    def _check_classes(self):
        """ValueError where the estimator knows other labels than the predictor observes, or in another order."""
        classes = np.asarray(self.estimator.classes_)
        observed, labels = self.predictor.observed, self.predictor.labels
        expected = np.arange(len(classes)) if observed is None else np.asarray(observed)
        if observed is None and labels is not None:
            expected = np.asarray(labels)[: len(classes)]
        if classes.shape != expected.shape or not (classes == expected).all():
            raise ValueError(f"the classes of the estimator are not the observed labels: {classes!r} and {expected!r}")

    def predict_proba(self, X):
        """Probabilities of the observed labels, ndarray of shape (n, K)."""
        self._check_classes()
        if hasattr(self.estimator, "predict_proba") and self.method == "softmax" and self.temperature is None:
            return self.estimator.predict_proba(X)
        temperature = self.temperature
        if temperature is None:
            temperature = getattr(self.estimator, "temperature_", 1.0)
        return as_probabilities(self.estimator.decision_function(X), self.method, temperature)

    def predict(self, X):
        """Labels, ndarray of shape (n,)."""
        return self.predictor.predict(self.predict_proba(X))
