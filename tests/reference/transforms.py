"""The Walsh-Hadamard transform and softmax from their definitions, in the longest type there is."""

import numpy as np

from .features import walsh_hadamard


def fwht(x, axis=-1, n=None, norm=None):
    """H times every vector along the axis, by the dense matrix; shorter vectors are filled up with zeros."""
    x = np.moveaxis(np.asarray(x, dtype=np.longdouble), axis, -1)
    n = x.shape[-1] if n is None else n
    padded = np.zeros((*x.shape[:-1], n), dtype=np.longdouble)
    padded[..., : x.shape[-1]] = x[..., :n]
    out = padded @ walsh_hadamard(n).astype(np.longdouble)
    if norm == "ortho":
        out /= np.sqrt(np.longdouble(n))
    return np.moveaxis(out, -1, axis)


def butterfly(x):
    """The textbook transform of rows: one pass over the array per stage."""
    x = x.copy()
    n = x.shape[-1]
    step = n // 2
    while step >= 1:
        pairs = x.reshape(*x.shape[:-1], n // (2 * step), 2, step)
        first, second = pairs[..., 0, :].copy(), pairs[..., 1, :].copy()
        pairs[..., 0, :] = first + second
        pairs[..., 1, :] = first - second
        step //= 2
    return x


def logsumexp(x, axis=-1, keepdims=False):
    """The logarithm of the sum of exponentials; exactly the limits for infinite values."""
    x = np.asarray(x, dtype=np.longdouble)
    top = x.max(axis=axis, keepdims=True)
    finite = np.where(np.isfinite(top), top, 0)
    with np.errstate(divide="ignore", over="ignore", invalid="ignore"):
        out = np.log(np.exp(x - finite).sum(axis=axis, keepdims=True)) + finite
    return out if keepdims else out.squeeze(axis)


def log_softmax(x, axis=-1):
    """x less its logsumexp, through the difference from the largest value."""
    x = np.asarray(x, dtype=np.longdouble)
    with np.errstate(invalid="ignore"):
        z = x - x.max(axis=axis, keepdims=True)
        return z - logsumexp(z, axis, keepdims=True)


def softmax(x, axis=-1):
    """exp(x) over its sum."""
    with np.errstate(under="ignore"):
        return np.exp(log_softmax(x, axis))
