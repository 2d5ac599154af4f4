"""What classifiers of one label a row share."""

import time

import numpy as np

from . import _labels, _validate


def of_two(scores):
    """One column for two classes, positive for the second."""
    return scores[:, 1] - scores[:, 0] if scores.shape[1] == 2 else scores


def weights_of_two(coef, intercept):
    """The same for weights, of shapes (n_classes, n_features) and (n_classes,)."""
    return (coef[1:] - coef[:1], intercept[1:] - intercept[:1]) if len(coef) == 2 else (coef, intercept)


def one_label_each(y, who):
    """Labels of one call; indicators are refused."""
    y = _labels.as_array(y, who)
    if y.ndim == 2 and y.shape[1] > 1:
        raise ValueError(f"y should be a 1d array, got an array of shape {y.shape} instead.")
    return _labels.encode(y)


class OneLabel:
    """What is asked of every classifier of one label a row, given `predict`."""

    _estimator_type = "classifier"

    def score(self, X, y, sample_weight=None):
        """Mean accuracy.

        Parameters
        ----------
        X : array-like or CSR matrix of shape (n, d)
        y : array-like of shape (n,)
        sample_weight : array-like of shape (n,), default=None
            Not zero for all rows.

        Returns
        -------
        float
        """
        y = _labels.as_array(y, type(self).__name__)
        predicted = self.predict(X)
        y = y.ravel() if y.ndim == 2 and y.shape[1] == 1 else y
        if y.shape != predicted.shape:
            raise ValueError(f"y has shape {y.shape}, but the predictions have shape {predicted.shape}")
        weight = _validate.check_weight_of_score(sample_weight, len(y))
        return float(np.average(predicted == y, weights=weight))

    def __sklearn_tags__(self):
        from sklearn.utils import ClassifierTags

        tags = self._tags("classifier", target_required=True)
        tags.classifier_tags = ClassifierTags(multi_class=True, multi_label=False)
        return tags


class OneLabelClassifier(OneLabel):
    """Answers of a classifier that has `_scores`: those of all classes and, of the same moment, the classes."""

    def decision_function(self, X):
        """Scores.

        Parameters
        ----------
        X : array-like or CSR matrix of shape (n, d)

        Returns
        -------
        ndarray of shape (n,) or (n, n_classes)
            One column for two classes, positive for ``classes_[1]``.
        """
        return of_two(self._scores(X)[0])

    def predict(self, X):
        """The class of the highest score for each row, the first of equals.

        Parameters
        ----------
        X : array-like or CSR matrix of shape (n, d)

        Returns
        -------
        ndarray of shape (n,)
        """
        scores, classes = self._scores(X)
        return classes[scores.argmax(axis=1)]


class OneLabelStream:
    """Learning of a streaming estimator that has one label for each row: `_first` makes the model of the first rows."""

    def fit(self, X, y, sample_weight=None):
        """Learns from these rows alone. The old model is kept until the new one is complete.

        Parameters
        ----------
        X : array-like or CSR matrix of shape (n, d)
        y : array-like of shape (n,)
            Labels: bool, int, float (whole numbers), str or bytes.
        sample_weight : array-like of shape (n,), default=None
            Weights >= 0. Rows of weight 0 are as if they were not there.

        Returns
        -------
        self
        """
        began = time.perf_counter()
        rows, labels, weight = self._batch(X, y, sample_weight, None)
        if weight is not None and not weight.any():
            raise ValueError("sample_weight is zero for all rows")
        learnt = self._first(X, rows, labels, weight)
        with self._lock():
            self._learnt = learnt
        self._say("fitted", rows, began)
        return self

    def _batch(self, X, y, sample_weight, learnt):
        y = _labels.as_array(y, type(self).__name__)
        rows = self._first_rows(X) if learnt is None else self._checked_rows(X, learnt)
        _validate.check_length(rows, y)
        if y.ndim == 2 and y.shape[1] > 1:
            raise ValueError(f"y must have one label per row, got an array of shape {y.shape}")
        return rows, _labels.encode(y), _validate.check_weight(sample_weight, rows.shape[0])
