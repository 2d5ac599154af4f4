"""The Walsh-Hadamard transform and softmax of arrays of any shape, along any axis, in place where asked."""

import operator

import numpy as np

from . import _core, _validate
from .base import thread_count

# Types that float32 holds without loss; other integers become float64.
_NARROW = frozenset("float16 bool uint8 int16".split())


def _real(x, name):
    """float32 or float64, the array itself where it is one already."""
    array = _validate.readable(np.asarray(x), name)
    if array.dtype.name in ("float32", "float64"):
        return array
    return array.astype(np.float32 if array.dtype.name in _NARROW else np.float64)


def _axis_of(axis, x, name):
    """The axis as a number from 0."""
    try:
        place = operator.index(axis)
    except TypeError:
        raise TypeError(f"axis must be an integer, got {axis!r}") from None
    if not -x.ndim <= place < x.ndim:
        raise ValueError(f"axis {place} is out of bounds: {name} has {x.ndim} dimension(s)")
    return place % x.ndim


def _check_out(out, shape, dtype):
    if not isinstance(out, np.ndarray):
        raise TypeError(f"out must be a NumPy array, got {type(out).__name__}")
    if out.shape != shape or out.dtype != dtype:
        raise ValueError(f"out must be {dtype} of shape {shape}, got {out.dtype} of shape {out.shape}")
    if not out.flags.writeable:
        raise ValueError("out is read-only")


def _same_memory(a, b):
    """Are these two names of one array?"""
    return (
        a.shape == b.shape
        and a.strides == b.strides
        and a.__array_interface__["data"][0] == b.__array_interface__["data"][0]
    )


def _memory_order(array):
    """Axes from the widest stride to the narrowest: the order in which an array without gaps lies in memory."""
    return sorted(range(array.ndim), key=lambda k: -array.strides[k])


def _as_three(array, order, axis):
    """(outer, length, inner) view of an array that lies in memory in this order of its axes, else None."""
    view = array.transpose(order)
    if not view.flags.c_contiguous or not view.flags.aligned:
        return None
    place = order.index(axis)
    sizes = view.shape
    outer, inner = int(np.prod(sizes[:place], dtype=np.int64)), int(np.prod(sizes[place + 1 :], dtype=np.int64))
    return view.reshape(outer, sizes[place], inner)


def _apply(x, out, axis, compute):
    """compute(x, out) on three-dimensional views; copies where an array has gaps or another order than the output."""
    if x.size == 0:
        return out
    if x is not out and np.may_share_memory(x, out) and not _same_memory(x, out):
        x = x.copy()
    order = _memory_order(out)
    target = _as_three(out, order, axis)
    if target is None:
        order = list(range(out.ndim))
        work = np.empty(out.shape, out.dtype)
        target = _as_three(work, order, axis)
    source = _as_three(x, order, axis)
    if source is None:
        source = np.ascontiguousarray(x.transpose(order)).reshape(target.shape)
    compute(source, target)
    if not np.may_share_memory(target, out):
        out[...] = target.reshape(out.shape)
    return out


def fwht(x, axis=-1, n=None, norm=None, out=None, n_jobs=None):
    """Fast Walsh-Hadamard transform along one axis, in natural (Sylvester's) order.

    With ``H[i, j] = (-1)**popcount(i & j)`` of order ``n``, every vector ``v`` along the axis becomes ``H v``. It is
    its own inverse up to a factor: ``H H = n I``.

    Parameters
    ----------
    x : array-like of any shape
        float32 and float64 are transformed as they are; float16, bool, uint8 and int16 become float32, other integers
        float64.
    axis : int, default=-1
    n : int, default=None
        Length of the transform, a power of two: shorter axes are filled up with zeros, longer ones cut (as
        ``numpy.fft`` does). None: the length of the axis, which must then be a power of two.
    norm : {None, "ortho"}, default=None
        "ortho" divides by ``sqrt(n)``, so the transform keeps lengths and is its own inverse.
    out : ndarray, default=None
        Takes the result; ``out=x`` transforms in place. An ``out`` with gaps between its values costs a copy.
    n_jobs : int, default=None
        Threads; the bits do not depend on it.

    Returns
    -------
    ndarray
        Of the shape of ``x`` with ``n`` along the axis; ``out`` if it was given.

    Raises
    ------
    ValueError
        A length that is not a power of two, an ``out`` that does not fit, complex data.

    Notes
    -----
    ``n log2(n)`` additions a vector, no multiplication. Along the axis that is contiguous in memory each vector is
    transformed in cache; along the others memory is read and written once per ten factors of two of ``n``, beside the
    copy of ``x``. Integers are exact while sums of their magnitudes stay below ``2**24`` (float32) or ``2**53``.

    Examples
    --------
    >>> import gramian as gm
    >>> gm.fwht([1.0, 0.0, 1.0, 0.0])
    array([2., 2., 0., 0.])
    >>> gm.fwht([1.0, 2.0, 3.0], n=4, norm="ortho")
    array([ 3.,  1.,  0., -2.])
    """
    x = _real(x, "x")
    axis = _axis_of(axis, x, "x")
    if norm not in (None, "ortho"):
        raise ValueError(f"norm must be None or 'ortho', got {norm!r}")
    length = x.shape[axis]
    size = length if n is None else _validate.check_count(n, "n")
    if size < 1 or size & (size - 1):
        hint = f"; n={1 << length.bit_length()} fills up with zeros" if n is None and length > 0 else ""
        raise ValueError(
            f"the length of the transform must be a power of two, got {size} along axis {axis} of shape {x.shape}{hint}"
        )
    threads = thread_count(n_jobs)
    shape = (*x.shape[:axis], size, *x.shape[axis + 1 :])
    if out is not None:
        _check_out(out, shape, x.dtype)
    if size != length:
        x = _resized(x, axis, shape)
        out = x if out is None else out
    elif out is None:
        out = np.empty_like(x, subok=False)
    scale = 1.0 if norm is None else 1.0 / np.sqrt(float(size))

    def compute(source, target):
        if target.shape[2] > 1 and not _same_memory(source, target):
            target[...] = source
            source = target
        _core.fwht(source, target, scale, threads)

    return _apply(x, out, axis, compute)


def _resized(x, axis, shape):
    """A copy that is cut, or filled up with zeros, along one axis."""
    both = tuple(slice(0, min(a, b)) for a, b in zip(x.shape, shape, strict=True))
    padded = np.zeros(shape, x.dtype)
    padded[both] = x[both]
    return padded


def _softmax(x, axis, out, what, subnormals, n_jobs, passes=0):
    x = _real(x, "x")
    axis = _axis_of(axis, x, "x")
    _check_length(x, axis)
    threads = thread_count(n_jobs)
    if out is None:
        out = np.empty_like(x, subok=False)
    else:
        _check_out(out, x.shape, x.dtype)
    return _apply(
        x, out, axis, lambda source, target: _core.softmax(source, target, what, bool(subnormals), passes, threads)
    )


def _check_length(x, axis):
    if x.shape[axis] == 0:
        raise ValueError(f"x of shape {x.shape} has no entries along axis {axis}")


def softmax(x, axis=-1, out=None, subnormals=False, n_jobs=None):
    """``exp(x) / sum(exp(x))`` along one axis.

    Parameters
    ----------
    x : array-like of any shape
        float32 and float64 are read as they are; float16, bool, uint8 and int16 become float32, other integers
        float64.
    axis : int, default=-1
    out : ndarray, default=None
        Takes the result; ``out=x`` works in place. An ``out`` with gaps between its values costs a copy.
    subnormals : bool, default=False
        Keep results below the smallest normal number (1.2e-38 in float32), which are slow to compute with on some
        processors; else they are 0.
    n_jobs : int, default=None
        Threads; the bits do not depend on it.

    Returns
    -------
    ndarray
        Of the shape and memory order of ``x``; ``out`` if it was given.

    Raises
    ------
    ValueError
        An axis without entries, an ``out`` that does not fit, complex data.

    Notes
    -----
    ``-inf`` gives 0. Where the axis holds NaN, ``+inf``, or nothing but ``-inf``, all results along it are NaN.

    Relative errors stay at a few units in the last place at any length and for values far apart: sums leave the type of
    ``x`` after 16 terms, and the rounding of ``x - max`` is made good. A row has the same bits whatever else is in
    the call. Bytes moved: one read and one write while a row fits the cache; rows beyond the last-level cache are read
    twice, by the algorithm of the source (a row whose largest ``|x|`` is above 2.2e4 in float32 three times).

    Source: "The Two-Pass Softmax Algorithm".

    Examples
    --------
    >>> import gramian as gm
    >>> gm.softmax([[0.0, 0.0, 0.0, 0.0], [1000.0, 1000.0, float("-inf"), 0.0]])
    array([[0.25, 0.25, 0.25, 0.25],
           [0.5 , 0.5 , 0.  , 0.  ]])
    """
    return _softmax(x, axis, out, "softmax", subnormals, n_jobs)


def log_softmax(x, axis=-1, out=None, n_jobs=None):
    """``x - log(sum(exp(x)))`` along one axis: the logarithm of `softmax`, also where that is 0.

    Parameters
    ----------
    x : array-like of any shape
    axis : int, default=-1
    out : ndarray, default=None
        Takes the result; ``out=x`` works in place.
    n_jobs : int, default=None

    Returns
    -------
    ndarray
        Of the shape and memory order of ``x``; ``out`` if it was given.

    Raises
    ------
    ValueError
        An axis without entries, an ``out`` that does not fit, complex data.

    Notes
    -----
    ``-inf`` stays ``-inf``. Where the axis holds NaN, ``+inf``, or nothing but ``-inf``, all results are NaN. Types,
    cost and accuracy are those of `softmax`; the error is that of ``x - max``, not of the larger ``x``.

    Examples
    --------
    >>> import gramian as gm
    >>> gm.log_softmax([0.0, -2000.0])
    array([    0., -2000.])
    """
    return _softmax(x, axis, out, "log_softmax", False, n_jobs)


def logsumexp(x, axis=-1, keepdims=False, out=None, n_jobs=None):
    """``log(sum(exp(x)))`` along one axis, without overflow.

    Parameters
    ----------
    x : array-like of any shape
    axis : int, default=-1
    keepdims : bool, default=False
        Keep the axis, with length 1.
    out : ndarray, default=None
        Takes the result.
    n_jobs : int, default=None

    Returns
    -------
    ndarray or scalar
        Of the type of `softmax` and the shape of ``x`` without the axis; ``out`` if it was given.

    Raises
    ------
    ValueError
        An axis without entries, an ``out`` that does not fit, complex data.

    Notes
    -----
    NaN where the axis holds NaN, else ``+inf`` where it holds that, and ``-inf`` where nothing else is there.
    Bytes moved: ``x`` is read once, or three times where rows are beyond the cache and out of the two-pass reach.

    Examples
    --------
    >>> import gramian as gm
    >>> round(float(gm.logsumexp([1000.0, 1000.0])) - 1000.0, 9)
    0.693147181
    """
    x = _real(x, "x")
    axis = _axis_of(axis, x, "x")
    _check_length(x, axis)
    kept = (*x.shape[:axis], 1, *x.shape[axis + 1 :])
    shape = kept if keepdims else (*x.shape[:axis], *x.shape[axis + 1 :])
    if out is not None:
        _check_out(out, shape, x.dtype)
    threads = thread_count(n_jobs)
    order = _memory_order(x)
    source = _as_three(x, order, axis)
    if source is None:
        order = list(range(x.ndim))
        source = _as_three(np.ascontiguousarray(x), order, axis)
    result = np.empty((source.shape[0], 1, source.shape[2]), x.dtype)
    if result.size:
        _core.softmax(source, result, "logsumexp", False, 0, threads)
    # Back from the order of memory to that of the axes.
    result = result.reshape([kept[k] for k in order]).transpose(np.argsort(order)).reshape(shape)
    if out is None:
        return result[()] if result.ndim == 0 else result
    out[...] = result
    return out
