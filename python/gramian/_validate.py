"""Arguments in, arrays the compiled module reads out. The messages are those scikit-learn users know.

Everything here is cheap: no copy of ``X`` is made unless its dtype cannot be read as it is, and then some rows at a
time. Whether the values are finite is found where they are read, block by block, and the error names the row.
"""

import itertools
import math
import os
import stat
import sys
import warnings

import numpy as np

from . import _core

# Read as they are, in any layout: widened block by block.
# In the byte order of this machine: a dtype of the other one is not equal.
_READABLE = frozenset(map(np.dtype, "float16 float32 float64 bool uint8 int16 int32 int64".split()))


class CSRRows:
    """Rows in compressed sparse form, as the compiled module borrows them."""

    __slots__ = ("data", "indices", "indptr", "shape")

    def __init__(self, data, indices, indptr, shape):
        self.data = data
        self.indices = indices
        self.indptr = indptr
        self.shape = shape

    @property
    def dtype(self):
        return self.data.dtype


def is_sparse(X):
    """Is ``X`` a matrix of scipy.sparse? (Without importing it: if nobody has, it is not.)"""
    scipy_sparse = sys.modules.get("scipy.sparse")
    return scipy_sparse is not None and scipy_sparse.issparse(X)


def column_names(X):
    """Names of the columns of a data frame whose names are all strings, else None."""
    if isinstance(X, np.ndarray) or not hasattr(X, "columns"):
        return None
    columns = list(X.columns)
    texts = sum(isinstance(name, str) for name in columns)
    if texts == len(columns) and texts > 0:
        return np.array(columns, dtype=object)
    if texts > 0:
        types = sorted({type(name).__qualname__ for name in columns})
        raise TypeError(
            "Feature names are only supported if all input features have string names, but your input has "
            f"{types} as feature name / column name types. If you want feature names to be stored and validated, you "
            "must convert them all to strings, by using X.columns = X.columns.astype(str) for example. Otherwise you "
            "can remove feature / column names from your input data, or convert them all to a non-string data type."
        )
    return None


def check_column_names(X, fitted, who):
    """Compares the column names of ``X`` with those of the fit (None: there were none)."""
    names = column_names(X)
    if fitted is None and names is None:
        return
    if fitted is None:
        warnings.warn(f"X has feature names, but {who} was fitted without feature names", UserWarning, stacklevel=4)
        return
    if names is None:
        warnings.warn(
            f"X does not have valid feature names, but {who} was fitted with feature names", UserWarning, stacklevel=4
        )
        return
    compare_names(fitted, names)


def compare_names(fitted, names):
    """ValueError that tells the difference, unless the column names are the same."""
    if len(fitted) == len(names) and all(fitted == names):
        return
    unexpected = sorted(set(names) - set(fitted))
    missing = sorted(set(fitted) - set(names))

    def listed(some):
        return "".join(f"- {name}\n" for name in some[:5]) + ("- ...\n" if len(some) > 5 else "")

    message = "The feature names should match those that were passed during fit.\n"
    if unexpected:
        message += "Feature names unseen at fit time:\n" + listed(unexpected)
    if missing:
        message += "Feature names seen at fit time, yet now missing:\n" + listed(missing)
    if not unexpected and not missing:
        message += "Feature names must be in the same order as they were in fit.\n"
    raise ValueError(message)


# What one call of NumPy copies, converts or looks at: Ctrl-C is answered between two calls.
_ENTRIES_AT_ONCE = 1 << 18


def row_blocks(array, entries=None):
    """Slices of rows that take in a whole array, of about so many entries each."""
    width = max(1, math.prod(array.shape[1:]))
    rows = max(1, (_ENTRIES_AT_ONCE if entries is None else entries) // width)
    return (slice(begin, begin + rows) for begin in range(0, array.shape[0], rows))


def by_blocks(array, dtype, function):
    """``function`` of an array, entry by entry, as an array of this dtype; some rows at a time."""
    if array.ndim == 0:
        return np.asarray(function(array)).astype(dtype)
    out = np.empty_like(array, dtype=dtype, subok=False)
    for part in row_blocks(array):
        out[part] = function(array[part])
    return out


def converted(array, dtype):
    """``array.astype(dtype)``, a copy in any case, some rows at a time."""
    return by_blocks(array, dtype, lambda part: part)


def as_float64(array):
    """The array itself where it is float64, else a copy."""
    return array if array.dtype == np.float64 else converted(array, np.float64)


def _vector(values, dtype):
    """The same for one contiguous vector."""
    return values if values.dtype == dtype and values.flags.c_contiguous else converted(values, dtype)


def _refuse_complex(dtype):
    if dtype.kind == "c":
        raise ValueError(f"Complex data not supported\n{dtype}")


def readable(array, name):
    """The array itself where the compiled module reads its dtype, else a float64 copy."""
    dtype = array.dtype
    if dtype in _READABLE:
        return array if array.flags.aligned else converted(array, dtype)
    _refuse_complex(dtype)
    if dtype.name == "bfloat16":
        raise TypeError(f"{name} has dtype bfloat16, which is not read; convert it, for example .astype('float32')")
    if dtype.kind in "US":
        raise ValueError(
            "dtype='numeric' is not compatible with arrays of bytes/strings. Convert your data to numeric values "
            "explicitly instead."
        )
    if dtype.kind not in "fiubO":
        raise TypeError(f"{name} has dtype {dtype}, which cannot be converted to float64")
    if dtype.kind == "O":
        _refuse_objects(array, name)
    try:
        return converted(array, np.float64)
    except OverflowError:
        raise ValueError(f"Input {name} contains an integer that is too large for float64.") from None


def refuse_masked(array, name):
    """ValueError where a masked array has masked entries: what stands behind the mask is no value."""
    if isinstance(array, np.ma.MaskedArray) and np.ma.is_masked(array):
        mask = np.ma.getmaskarray(array)
        row = np.unravel_index(int(np.argmax(mask)), mask.shape)[0] if mask.ndim else 0
        raise ValueError(f"Input {name} contains masked entries, first in row {row}.")


def _refuse_objects(array, name):
    for place, value in enumerate(array.flat):
        if isinstance(value, complex):
            raise ValueError(f"Complex data not supported\n{array.dtype}")
        if type(value).__name__ == "NAType":  # of pandas, which need not be there
            row = np.unravel_index(place, array.shape)[0] if array.ndim else 0
            raise ValueError(f"Input {name} contains missing values (pandas.NA), first in row {row}.")


def _csr(X, name):
    if X.ndim != 2:
        raise ValueError(f"Expected 2D array, got a sparse array with {X.ndim} dimension(s) instead.")
    X = X.tocsr()
    _refuse_complex(X.dtype)
    data = X.data
    if data.dtype.name != "float32" or not data.dtype.isnative:
        data = as_float64(readable(data, name))
    indices, indptr = X.indices, X.indptr
    index_type = np.int32 if indices.dtype == np.int32 and indptr.dtype == np.int32 else np.int64
    return CSRRows(
        _vector(data, data.dtype),
        _vector(indices, index_type),
        _vector(indptr, index_type),
        tuple(int(side) for side in X.shape),
    )


def _refuse_shape(array, who, name):
    kind = "scalar" if array.ndim == 0 else "1D"
    if array.ndim < 2:
        raise ValueError(
            f"Expected 2D array, got {kind} array instead:\narray={array}.\nReshape your data either using "
            "array.reshape(-1, 1) if your data has a single feature or array.reshape(1, -1) if it contains a single "
            "sample."
        )
    raise ValueError(f"Found array with dim {array.ndim}, while dim <= 2 is required by {who}. ({name})")


def check_rows(X, who, *, min_rows=1, name="X"):
    """Two-dimensional rows that the compiled module can read.

    Parameters
    ----------
    X : array-like or sparse matrix of shape (n, d)
    who : str
        Name of the estimator, for messages.
    min_rows : int, default=1

    Returns
    -------
    ndarray or CSRRows
        ``X`` itself, a view of it, or a converted copy where its dtype is not read.
    """
    if X is None:
        raise ValueError(f"{name} is None: {who} needs an array of shape (n_samples, n_features)")
    if is_sparse(X):
        rows = _csr(X, name)
    else:
        refuse_masked(X, name)
        rows = np.asarray(X)
        if rows.ndim != 2:
            _refuse_complex(rows.dtype)
            _refuse_shape(rows, who, name)
        rows = readable(rows, name)
    if rows.shape[0] < min_rows:
        raise ValueError(
            f"Found array with {rows.shape[0]} sample(s) (shape={rows.shape}) while a minimum of {min_rows} is "
            f"required by {who}."
        )
    if rows.shape[1] < 1:
        raise ValueError(
            f"Found array with 0 feature(s) (shape={rows.shape}) while a minimum of 1 is required by {who}."
        )
    return rows


def check_structure(rows, name="X"):
    """ValueError that names the index where the structure of CSR rows is damaged; one pass over the indices.

    The compiled module looks itself; this is for code that reads CSR rows before it.
    """
    if isinstance(rows, CSRRows):
        _core.check_csr(rows, name)


def for_products(rows, products):
    """Rows or targets as they can be read for products of this type: wide integers do not become float32 unasked."""
    if products == "float32" and rows is not None and rows.dtype.name in ("int32", "int64"):
        return as_float64(rows)
    return rows


def check_finite(rows, name="X"):
    """ValueError naming the first row with NaN or infinity."""
    row = first_bad_row(rows)
    if row is not None:
        refuse_row(row, name)


def refuse_row(row, name="X"):
    """The ValueError of a row with NaN or infinity."""
    raise ValueError(f"Input {name} contains NaN or infinity, first in row {row}.")


def first_bad_row(rows):
    """Number of the first row with NaN or infinity, or None."""
    if isinstance(rows, CSRRows):
        stored = rows.data[rows.indptr[0] : rows.indptr[-1]]
        for part in row_blocks(stored):
            finite = np.isfinite(stored[part])
            if not finite.all():
                place = rows.indptr[0] + part.start + np.argmin(finite)
                return int(np.searchsorted(rows.indptr, place, "right")) - 1
    elif rows.dtype.kind == "f":
        for part in row_blocks(rows):
            finite = np.isfinite(rows[part]).all(axis=1)
            if not finite.all():
                return part.start + int(np.argmin(finite))
    return None


def take_rows(rows, places):
    """Copies of some rows, by their numbers; the structure of CSR rows must be sound."""
    if not isinstance(rows, CSRRows):
        out = np.empty((len(places), *rows.shape[1:]), dtype=rows.dtype)
        for part in row_blocks(out):
            out[part] = rows[places[part]]
        return out
    starts = np.asarray(rows.indptr, dtype=np.int64)[places]
    lengths = np.asarray(rows.indptr, dtype=np.int64)[places + 1] - starts
    indptr = np.concatenate([[0], np.cumsum(lengths)])
    data, indices = (np.empty(indptr[-1], dtype=array.dtype) for array in (rows.data, rows.indices))
    for part in _entry_blocks(indptr):
        begin, end = indptr[part.start], indptr[part.stop]
        stored = np.repeat(starts[part] - indptr[part.start : part.stop], lengths[part]) + np.arange(begin, end)
        data[begin:end], indices[begin:end] = rows.data[stored], rows.indices[stored]
    return CSRRows(data, indices, indptr.astype(rows.indptr.dtype), (len(places), rows.shape[1]))


def _entry_blocks(indptr):
    """Slices of the rows of a CSR matrix, by the entries that they hold: as many as NumPy takes at once, and a row."""
    edges = np.searchsorted(indptr, np.arange(indptr[0], indptr[-1], _ENTRIES_AT_ONCE))
    return itertools.starmap(slice, itertools.pairwise(sorted({0, *edges.tolist(), len(indptr) - 1})))


def counting(weight, rows, *others):
    """Rows of positive weight alone, what else there is for each of them, and their weights."""
    if weight is None or weight.all():
        return (rows, *others, weight)
    places = np.flatnonzero(weight)
    return (take_rows(rows, places), *(take_rows(other, places) for other in others), weight[places])


def blanked(rows, weight):
    """The rows, those of weight 0 as zeros: for code that looks at all values, yet must name rows by their places."""
    if weight is None or weight.all() or rows.dtype.kind != "f":
        return rows
    empty = weight == 0
    if isinstance(rows, CSRRows):
        check_structure(rows)
        data = converted(rows.data, rows.data.dtype)
        for part in _entry_blocks(rows.indptr):
            starts = rows.indptr[part.start : part.stop + 1]
            data[starts[0] : starts[-1]][np.repeat(empty[part], np.diff(starts))] = 0
        return CSRRows(data, rows.indices, rows.indptr, rows.shape)
    rows = converted(rows, rows.dtype)
    for part in row_blocks(rows):
        rows[part][empty[part]] = 0
    return rows


def check_width(rows, n_features, who):
    """The rows must be as wide as those of the fit."""
    if rows.shape[1] != n_features:
        raise ValueError(f"X has {rows.shape[1]} features, but {who} is expecting {n_features} features as input.")


def check_length(rows, y):
    """As many targets as rows."""
    if len(y) != rows.shape[0]:
        raise ValueError(f"Found input variables with inconsistent numbers of samples: [{rows.shape[0]}, {len(y)}]")


def check_weight(sample_weight, n_rows):
    """None or one finite weight >= 0 per row, as float64."""
    if sample_weight is None:
        return None
    refuse_masked(sample_weight, "sample_weight")
    weight = as_float64(readable(np.asarray(sample_weight), "sample_weight"))
    if weight.ndim == 0:
        weight = np.full(n_rows, float(weight))
    if weight.ndim != 1:
        raise ValueError("Sample weights must be 1D array or scalar")
    if weight.shape != (n_rows,):
        raise ValueError(f"sample_weight.shape == {weight.shape}, expected {(n_rows,)}!")
    check_finite(weight[:, np.newaxis], "sample_weight")
    if (weight < 0).any():
        raise ValueError(f"Negative values in data passed to `sample_weight`, first in row {np.argmax(weight < 0)}")
    return np.ascontiguousarray(weight)


def check_weight_of_score(sample_weight, n_rows):
    """The same for a score, which needs some weight."""
    weight = check_weight(sample_weight, n_rows)
    if weight is not None and not weight.any():
        raise ValueError("sample_weight is zero for all rows, so there is no score")
    return weight


def check_targets(y, who):
    """Numeric targets of a regressor, (n,) or (n, k), finite."""
    if y is None:
        raise ValueError(f"{who} requires y to be passed, but the target y is None")
    refuse_masked(y, "y")
    y = y.toarray() if is_sparse(y) else np.asarray(y)
    _refuse_complex(y.dtype)
    if y.dtype.kind in "US":
        y = converted(y, np.float64)
    if y.ndim not in (1, 2):
        raise ValueError(f"y must have 1 or 2 dimensions, got an array of shape {y.shape}")
    y = readable(y, "y")
    if y.ndim == 2 and y.shape[1] == 0:
        raise ValueError("y has no columns")
    check_finite_targets(y)
    return y


def check_finite_targets(y):
    """ValueError naming the first row of ``y`` with NaN or infinity, in words like scikit-learn's."""
    if y.dtype.kind != "f" or (y.size <= _ENTRIES_AT_ONCE and np.isfinite(y).all()):
        return
    row = first_bad_row(as_columns(y))
    if row is None:
        return
    found = "NaN" if np.isnan(y[row]).any() else f"infinity or a value too large for dtype('{y.dtype}')"
    raise ValueError(f"Input y contains {found}, first in row {row}.")


def as_columns(y):
    """Targets with a column per output; a view."""
    return y[:, np.newaxis] if y.ndim == 1 else y


def check_readable(path):
    """The system's own error for a file that is not there, is a folder or may not be read; a number is no path.

    What is no file (a pipe, a device) is left for the compiled module to refuse: opening a pipe waits for its writer.
    """
    path = os.fspath(path)
    mode = os.stat(path).st_mode
    if stat.S_ISREG(mode) or stat.S_ISDIR(mode):
        with open(path, "rb"):
            pass


def check_number(value, name, *, low=0.0, strict=False):
    """A finite float that is not below ``low``."""
    try:
        if isinstance(value, (str, bytes, bool, np.bool_)) or np.ndim(value) != 0:
            raise TypeError
        number = float(value)
    except (TypeError, ValueError, OverflowError):
        raise ValueError(f"{name} must be a number, got {value!r}") from None
    if not np.isfinite(number) or number < low or (strict and number == low):
        raise ValueError(f"{name} must be a finite number {'>' if strict else '>='} {low:g}, got {value!r}")
    return number


def check_count(value, name, low=1):
    """An integer that is not below ``low`` and fits into 64 bits."""
    if isinstance(value, (bool, np.bool_)) or not isinstance(value, (int, np.integer)):
        raise ValueError(f"{name} must be an integer, got {value!r}")
    if value < low:
        raise ValueError(f"{name} must be at least {low}, got {value}")
    if value >= 2**63:
        raise ValueError(f"{name} must be below 2^63, got {value}")
    return int(value)


def check_fraction(value, name):
    """A float strictly between 0 and 1."""
    number = check_number(value, name, strict=True)
    if number >= 1:
        raise ValueError(f"{name} must lie strictly between 0 and 1, got {value!r}")
    return number


def check_vector(values, name, length=None):
    """A finite, contiguous float64 vector (of this many entries)."""
    out = np.ascontiguousarray(readable(np.asarray(values), name), dtype=np.float64)
    if out.ndim != 1:
        raise ValueError(f"{name} must have 1 dimension, got an array of shape {out.shape}")
    if length is not None and len(out) != length:
        raise ValueError(f"{name} has {len(out)} entries, expected {length}")
    check_finite(out[:, np.newaxis], name)
    return out


def with_article(word):
    """The word with "a" or "an" before it."""
    return f"{'an' if word[0] in 'AEIOUaeiou' else 'a'} {word}"


def check_ridges(ridges):
    """A grid of ridges as a list of floats >= 0."""
    try:
        grid = np.asarray(ridges, dtype=np.float64)
    except (TypeError, ValueError, OverflowError):
        grid = np.empty(0)
    if grid.ndim != 1 or grid.size == 0 or not np.isfinite(grid).all() or (grid < 0).any():
        raise ValueError(f"ridges must be a sequence of finite numbers >= 0, got {ridges!r}")
    return grid.tolist()


def device_name(device):
    """The name of a device as the compiled module reads it."""
    if not isinstance(device, str):
        raise TypeError(f"device must be a text such as 'cpu', 'cuda' or 'cuda:1', got {device!r}")
    return device


def product_dtype(dtype):
    """ "float64" or "float32" from a ``dtype`` parameter."""
    if dtype is None:
        return "float64"
    try:
        name = np.dtype(dtype).name
    except TypeError:
        name = None
    if name not in ("float64", "float32"):
        raise ValueError(f"dtype must be None, 'float64' or 'float32', got {dtype!r}")
    return name
