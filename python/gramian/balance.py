"""The memory that balanced classes take."""

import numpy as np

from . import _validate

_BYTES = 8


class BalancedMemory(dict):
    """Bytes of the sums by way of keeping them; printing it shows a table."""

    def __init__(self, n_classes, n_features, ways):
        super().__init__(ways)
        self.n_classes = n_classes
        self.n_features = n_features

    def __str__(self):
        lines = [f"sums of {self.n_classes} balanced classes, {self.n_features} features, float64"]
        lines += [f"  {way:<32}{size / 1e9:12.3f} GB" for way, size in self.items()]
        return "\n".join(lines)


def balanced_memory(n_classes, n_features, counts=None, rank=None):
    """Memory of the sums behind ``class_weight="balanced"`` (or "air") of `AnalyticClassifier`, way by way.

    Parameters
    ----------
    n_classes : int
    n_features : int
        After the feature map.
    counts : array-like of shape (n_classes,), default=None
        Rows per class; without them the smallest form of a small class is not in the answer.
    rank : int, default=None
        Of ``AlignedClassifier(covariance="low_rank")``, which approximates these sums.

    Returns
    -------
    BalancedMemory
        A dict of bytes, which prints as a table. "full matrices" is a d x d matrix per class, as published;
        "triangles" half of each, the most that this library takes; "small classes as blocks" a block of n_c rows of
        d + 1 numbers instead for each class of fewer than d / 2 rows; "closed or counts first" one triangle for any
        number of classes that are closed or whose counts were declared; "rank and variances", where a rank is given, so
        many directions of each class, its mean and what variances these leave. The model's ``nbytes`` is a few percent
        more for large d: a symmetric matrix is kept in tiles, and those on its diagonal are whole.

    Notes
    -----
    A stream whose classes come one after another and are closed needs "closed or counts first" and the sums of the
    classes that are open. Source: "AIR: Analytic Imbalance Rectifier for Continual Learning" for the weights; the sizes
    are those of the sums.

    Examples
    --------
    >>> from gramian import balanced_memory
    >>> print(balanced_memory(100, 8192))
    sums of 100 balanced classes, 8192 features, float64
      full matrices                         53.687 GB
      triangles                             27.135 GB
      closed or counts first                 0.275 GB
    """
    classes = _validate.check_count(n_classes, "n_classes")
    d = _validate.check_count(n_features, "n_features")
    # One symmetric matrix for closed classes is always there, and one sum of features per class.
    triangle = _BYTES * d * (d + 1) // 2
    base = triangle + _BYTES * d * (classes + 2)
    own = triangle + _BYTES * 2 * d
    ways = {"full matrices": classes * d * d * _BYTES, "triangles": base + classes * own}
    if counts is not None:
        rows = np.asarray(counts)
        if rows.shape != (classes,) or rows.dtype.kind not in "iu" or (rows < 0).any():
            raise ValueError(f"counts must be {classes} whole numbers >= 0, one per class")
        blocks = sum(_BYTES * (int(n) * (d + 1) + d) if int(n) < d // 2 else own for n in rows if n > 0)
        ways["small classes as blocks"] = base + blocks
    ways["closed or counts first"] = base
    if rank is not None:
        ways["rank and variances"] = classes * _BYTES * d * (_validate.check_count(rank, "rank", low=0) + 2)
    return BalancedMemory(classes, d, ways)
