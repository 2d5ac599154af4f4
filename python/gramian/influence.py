"""What rows did to a fit: predictions without them, exactly and without solving again."""

from dataclasses import dataclass

import numpy as np

from . import _core, _labels, _validate
from ._plain_models import check_kind
from .base import Snapshot
from .classifier import AnalyticClassifier, weighed


@dataclass(frozen=True, eq=False)
class HeldOut:
    """Rows as the fit without their group sees them.

    Attributes
    ----------
    residuals : ndarray of shape (n, n_outputs)
        Target less prediction of the fit without the group of the row. The target of a row of weight 0 whose class the
        model has not is zero.
    groups : ndarray of shape (n_groups,)
        The labels of the groups, sorted; row numbers where no groups were given.
    losses : ndarray of shape (n_groups,)
        Mean over the rows of a group of the squared residuals, summed over outputs: the score of leaving it out.
    smallest : ndarray of shape (n_groups,)
        Smallest eigenvalue of I - H_SS, to about one part in a thousand: how far the other rows still determine the
        answer. Below 1e-8 nothing is answered.
    """

    residuals: np.ndarray
    groups: np.ndarray
    losses: np.ndarray
    smallest: np.ndarray


@dataclass(frozen=True, eq=False)
class HarmfulRows:
    """Rows whose removal would lower the squared error of some predictions.

    Attributes
    ----------
    rows : ndarray of shape (k,)
        Their numbers, the most harmful first.
    loss : ndarray of shape (k,)
        Squared error of the queries, summed, without row ``rows[k]`` alone, or (greedy) without ``rows[: k + 1]``.
    loss_before : float
        With all rows.
    """

    rows: np.ndarray
    loss: np.ndarray
    loss_before: float


class RidgeInfluence(Snapshot):
    """Predictions of a ridge model without given rows: equal to a new fit, at the price of the rows alone.

    For rows S left out together the residuals become ``e = (I - H_SS)^-1 (y - f(x))`` and every prediction changes by
    ``-x'A^-1 X_S' e``, with ``H`` the hat matrix and ``A = X'X + ridge I``. The inverse keeps the interaction inside
    the group, which sums of single-row influences leave out.

    Parameters
    ----------
    model : AnalyticClassifier or AnalyticRegressor
        Fitted, with its sums. It is factored once, as it is now: what it learns later is not seen. Not with
        ``standardize=True`` and not fitted with ``class_weight="balanced"``, whose scales and weights depend on all
        rows, and with all features (``width=None``). Other estimators, also those derived from these, are a TypeError.

    Notes
    -----
    Making one costs d^3 / 3 flops, a group S costs |S| d^2 + |S|^3 / 3; groups run side by side. "A new fit" is one at
    the same ridge (``ridge_``) with the same feature map. The answers hold for rows that are in the model; that they
    are cannot be checked. It does not pickle: pickle the model and make one of it again. Reference:
    "Attribute-to-Delete: Machine Unlearning via Datamodel Matching".

    Examples
    --------
    >>> import numpy as np
    >>> from gramian import AnalyticRegressor, RidgeInfluence
    >>> X = np.arange(12.0).reshape(6, 2) ** 2
    >>> y = np.array([0.0, 1.0, 2.0, 3.0, 4.0, 50.0])
    >>> influence = RidgeInfluence(AnalyticRegressor().fit(X, y))
    >>> without = AnalyticRegressor().fit(X[:5], y[:5]).predict(X[:2])
    >>> bool(np.allclose(influence.predict_without(X[:2], X[5:], y[5:]), without))
    True
    """

    def __init__(self, model):
        check_kind(model)
        learnt = model._trainable()
        if learnt.model.config["standardize"]:
            raise ValueError(
                "the scales of standardize=True depend on all rows, so the fit without some of them is not a function "
                "of this one's factor; scale the rows beforehand, or use forget"
            )
        width = learnt.params.get("width")
        if width is not None:
            raise ValueError(
                f"width={width!r} leaves features out of the answer, while the factor has all of them; give a model of "
                "width=None fitted on the first columns of the rows"
            )
        class_weight = getattr(learnt.form, "class_weight", None)
        if isinstance(class_weight, str):
            raise ValueError(
                f"class_weight={class_weight!r} weighs each row by the counts of all rows, so leaving some out changes "
                "the weights of the others; fit with a dict of weights instead"
            )
        if model.n_samples_seen_ == 0:
            model._raise_not_fitted()
        self._form = learnt.form
        self._class_weight = class_weight
        if isinstance(model, AnalyticClassifier) and not learnt.form.multi:
            kind, values, counts = learnt.model.classes()
            self._kind, self._class_counts = kind, counts
            self._classes = _labels.from_core(kind, values, learnt.form.dtype)
        else:
            self._kind = self._classes = self._class_counts = None
        self._core = _core.Influence(learnt.model)
        self._coef, self._intercept, _ = learnt.model.solution()

    # Arguments.

    def _pairs(self, X, y, sample_weight, names=("rows_X", "rows_y")):
        """(rows, targets or None, codes or None, weight): as the rows were added."""
        return self._pairs_and_strangers(X, y, sample_weight, names)[0]

    def _pairs_and_strangers(self, X, y, sample_weight, names=("rows_X", "rows_y")):
        """The same, and which rows have a label that the model has not (None for no row).

        A row of weight 0 is not in the model, and so neither is a class of such rows alone. No row of weight 0 changes
        anything, so the code of another class does for it.
        """
        who = "RidgeInfluence"
        rows = _validate.check_rows(X, who, name=names[0])
        self._check_width(rows, names[0])
        weight = _validate.check_weight(sample_weight, rows.shape[0])
        if self._classes is None:
            y = _labels.as_array(y, who) if hasattr(self._form, "multi") else _validate.check_targets(y, who)
            targets = _validate.as_columns(y)
            self._check_pair(rows, targets, names)
            return (rows, np.ascontiguousarray(targets, dtype=np.float64), None, weight), None
        y = _labels.as_array(y, who)
        if _labels.is_indicator(y):
            raise ValueError(f"the model holds one label per row, {names[1]} has multi-label targets")
        labels = _labels.match_kind(_labels.encode(y), self._kind)
        if len(labels.codes) != rows.shape[0]:
            raise ValueError(f"{names[0]} has {rows.shape[0]} rows, but {names[1]} has {len(labels.codes)}")
        weight = weighed(self._class_weight, labels, weight)
        places = np.searchsorted(self._classes, labels.values).astype(np.int64)
        unknown = _labels.outside(labels.values, self._classes)
        strangers = None
        if unknown.size:
            strangers = np.isin(labels.values, unknown)[labels.codes]
            if weight is None or (weight[strangers] > 0).any():
                raise ValueError(f"{names[1]} has labels that the model has not: {unknown.tolist()!r}")
            places[np.isin(labels.values, unknown)] = 0
        return (rows, None, places[labels.codes], weight), strangers

    def _check_width(self, rows, name):
        if rows.shape[1] != self._core.n_inputs:
            raise ValueError(f"{name} has {rows.shape[1]} features, but the model expects {self._core.n_inputs}")

    def _check_pair(self, rows, targets, names):
        if len(targets) != rows.shape[0]:
            raise ValueError(f"{names[0]} has {rows.shape[0]} rows, but {names[1]} has {len(targets)}")
        if targets.shape[1] != self._core.n_outputs:
            raise ValueError(f"{names[1]} has {targets.shape[1]} outputs, but the model has {self._core.n_outputs}")

    def _queries(self, X):
        rows = _validate.check_rows(X, "RidgeInfluence")
        self._check_width(rows, "X")
        return rows

    # Answers.

    def scores_without(self, X, rows_X, rows_y, sample_weight=None):
        """Scores of the model fitted without some of its rows.

        Parameters
        ----------
        X : array-like or CSR matrix of shape (n, d)
        rows_X, rows_y, sample_weight
            Rows that are in the model, as they were added; left out together.

        Returns
        -------
        ndarray of shape (n, n_outputs)
            Of a regressor the predictions; of a classifier one score per class of ``classes_``, before any difference
            of two (a class without remaining rows has scores of zero).

        Raises
        ------
        numpy.linalg.LinAlgError
            The remaining rows do not determine the answer to working precision (smallest eigenvalue of I - H_SS below
            1e-8): forget the rows and let the model solve again.
        """
        queries = self._queries(X)
        parts = self._pairs(rows_X, rows_y, sample_weight)
        return self._core.scores_without(*parts, [0, parts[0].shape[0]], queries)

    def weights_without(self, rows_X, rows_y, sample_weight=None):
        """Weights of the model fitted without some of its rows.

        Arguments as in `scores_without`.

        Returns
        -------
        coef : ndarray of shape (n_outputs, n_features)
        intercept : ndarray of shape (n_outputs,)
            One row per output, also for two classes.
        """
        parts = self._pairs(rows_X, rows_y, sample_weight)
        coef, intercept, _ = self._core.weight_changes(*parts, [0, parts[0].shape[0]])
        return self._coef + coef, self._intercept + intercept[0]

    def predict_without(self, X, rows_X, rows_y, sample_weight=None):
        """What the model would predict had some of its rows never been there.

        Arguments as in `scores_without`.

        Returns
        -------
        ndarray
            As ``predict`` of the model returns it; classes without remaining rows are not predicted.
        """
        scores = self.scores_without(X, rows_X, rows_y, sample_weight)
        if self._classes is None:
            if hasattr(self._form, "multi"):
                return (scores > 0.5).astype(np.int64)
            return scores[:, 0] if self._form.flat else scores
        _, _, codes, weight = self._pairs(rows_X, rows_y, sample_weight)
        gone = np.bincount(codes if weight is None else codes[weight > 0], minlength=len(self._classes))
        left = np.flatnonzero(self._class_counts - gone > 0)
        return self._classes[left[scores[:, left].argmax(axis=1)]]

    def group_effect(self, X, rows_X, rows_y, groups=None, sample_weight=None):
        """How each prediction changes when a group of rows is left out, for many groups.

        Parameters
        ----------
        X : array-like or CSR matrix of shape (q, d)
            The predictions to look at.
        rows_X, rows_y, sample_weight
            Rows that are in the model, as they were added.
        groups : array-like of shape (n,), default=None
            The group of each row; None makes each row a group.

        Returns
        -------
        ndarray of shape (n_groups, q, n_outputs)
            Score without the group less score with all rows; groups in the order of their sorted labels.
        """
        queries = self._queries(X)
        parts, offsets, names, _, _ = self._grouped(rows_X, rows_y, groups, sample_weight)
        out, _ = self._core.effects(*parts, offsets, queries)
        return out.reshape(len(names), queries.shape[0], -1)

    def leave_group_out(self, rows_X, rows_y, groups=None, sample_weight=None):
        """Residuals of rows under the fit without their own group.

        Parameters
        ----------
        rows_X, rows_y, sample_weight
            Rows that are in the model, as they were added.
        groups : array-like of shape (n,), default=None
            The group of each row; None leaves out one row at a time.

        Returns
        -------
        HeldOut
        """
        parts, offsets, names, order, strangers = self._grouped(rows_X, rows_y, groups, sample_weight)
        sorted_residuals, smallest = self._core.leave_out(*parts, offsets)
        if strangers is not None:
            sorted_residuals[strangers, 0] -= 1  # whose code was lent: no output stands for them
        squares = (sorted_residuals**2).sum(axis=1)
        losses = np.add.reduceat(squares, offsets[:-1]) / np.diff(offsets)
        residuals = np.empty_like(sorted_residuals)
        residuals[order] = sorted_residuals
        return HeldOut(residuals, names, losses, smallest)

    def harmful_rows(self, X, y, rows_X, rows_y, k=10, method="single", sample_weight=None):
        """The rows that hurt predictions most: whose removal lowers their squared error most.

        Parameters
        ----------
        X, y : array-like of shapes (q, d) and as the targets of the model
            The predictions and what they should have been.
        rows_X, rows_y, sample_weight
            Candidates: rows that are in the model, as they were added.
        k : int, default=10
            How many rows at most.
        method : {"single", "greedy"}, default="single"
            "single" ranks rows by what each does alone. "greedy" takes one row after the other, each the best for the
            fit without those before it, and stops where no row helps; exact at every step. n (d + q) flops a step.

        Returns
        -------
        HarmfulRows
        """
        if method not in ("single", "greedy"):
            raise ValueError(f"method must be 'single' or 'greedy', got {method!r}")
        k = _validate.check_count(k, "k")
        (queries, wanted, codes, _), strangers = self._pairs_and_strangers(X, y, None, ("X", "y"))
        if wanted is None:
            wanted = np.eye(self._core.n_outputs)[codes]
            if strangers is not None:
                wanted[strangers] = 0
        parts = self._pairs(rows_X, rows_y, sample_weight)
        rows, loss, before = self._core.harmful_rows(*parts, queries, wanted, k, method == "greedy")
        return HarmfulRows(rows, loss, before)

    def _grouped(self, rows_X, rows_y, groups, sample_weight):
        """(parts, offsets, labels of the groups, order of the rows, strangers): rows of a group side by side."""
        (rows, targets, codes, weight), strangers = self._pairs_and_strangers(rows_X, rows_y, sample_weight)
        n = rows.shape[0]
        if groups is None:
            return (rows, targets, codes, weight), np.arange(n + 1), np.arange(n), np.arange(n), strangers
        groups = np.asarray(groups)
        if groups.shape != (n,):
            raise ValueError(f"groups has shape {groups.shape}, but rows_X has {n} rows")
        names, places = np.unique(groups, return_inverse=True)
        offsets = np.concatenate([[0], np.cumsum(np.bincount(places))])
        order = np.argsort(places, kind="stable")
        if not np.array_equal(order, np.arange(n)):
            _validate.check_structure(rows, "rows_X")
            rows = _picked(rows, order)
            targets, codes, weight, strangers = (
                None if part is None else part[order] for part in (targets, codes, weight, strangers)
            )
        return (rows, targets, codes, weight), offsets, names, order, strangers


def _picked(rows, order):
    """Rows in another order."""
    if not isinstance(rows, _validate.CSRRows):
        return rows[order]
    lengths = np.diff(rows.indptr)[order]
    indptr = np.concatenate([[0], np.cumsum(lengths)]).astype(rows.indptr.dtype)
    stored = np.arange(indptr[-1]) + np.repeat(rows.indptr[order] - indptr[:-1], lengths)
    return _validate.CSRRows(rows.data[stored], rows.indices[stored], indptr, rows.shape)
