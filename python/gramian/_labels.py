"""Class labels between NumPy and the compiled module, which knows five kinds: boolean, integer, real, text, bytes."""

import numpy as np

from . import _validate
from .base import warn_data_conversion


class LabelledRows:
    """Labels of one call: distinct values of one kind and, for each row, the place of its label among them."""

    __slots__ = ("kind", "values", "codes", "dtype")

    def __init__(self, kind, values, codes, dtype):
        self.kind = kind
        self.values = values  # sorted array
        self.codes = codes  # int64
        self.dtype = dtype  # of y

    def listed(self):
        """The distinct labels as the compiled module takes them."""
        return to_core(self.kind, self.values)


def to_core(kind, values):
    """A list of plain Python values of one kind."""
    if kind in ("boolean", "integer"):
        return [int(value) for value in values]
    if kind == "real":
        return [float(value) for value in values]
    return [str(value) for value in values] if kind == "text" else [bytes(value) for value in values]


_KIND_OF_CODE = {"b": "boolean", "i": "integer", "u": "integer", "f": "real", "U": "text", "S": "bytes"}
_PLAIN = {"boolean": np.bool_, "integer": np.int64, "real": np.float64, "text": np.str_, "bytes": np.bytes_}
_NUMBERS = ("integer", "real")


def from_core(kind, values, dtype):
    """Labels as an array of the dtype of the first fit, or of a wider one where a label does not fit in it."""
    if kind == "none":
        return np.empty(0, dtype=dtype)
    if dtype.kind == "O":
        return np.array([bool(value) for value in values] if kind == "boolean" else values, dtype=object)
    plain = np.array(values, dtype=_PLAIN[kind])
    if kind not in _NUMBERS or _KIND_OF_CODE[dtype.kind] != kind:
        return plain
    with np.errstate(over="ignore"):
        narrow = plain.astype(dtype)
    return narrow if np.array_equal(narrow, plain) else plain


_KIND_OF_TYPE = (
    ((bool, np.bool_), "boolean"),
    ((int, np.integer), "integer"),
    ((float, np.floating), "real"),
    ((str,), "text"),
    ((bytes,), "bytes"),
)


def _kind_of_object(value):
    for types, kind in _KIND_OF_TYPE:
        if isinstance(value, types):
            return kind
    raise TypeError(f"labels must be bool, int, float, str or bytes, got {value!r} of type {type(value).__name__}")


def _first_row(values, kind):
    """Place of the first label of a kind, or of the first that is of none (None)."""
    for row, value in enumerate(values):
        try:
            if _kind_of_object(value) == kind:
                return row
        except TypeError:
            return row
    raise ValueError(f"there is no label of kind {kind}")


def kind_of(values):
    """Kind of an array of labels; objects must be of one kind."""
    code = values.dtype.kind
    if code == "O":
        try:
            kinds = {_kind_of_object(value) for value in values}
        except TypeError as error:
            raise TypeError(f"{error}, in row {_first_row(values, None)}") from None
        if kinds == {"integer", "real"}:
            return "real"
        if len(kinds) > 1:
            # NaN in the place of a missing text is the usual case, so where each kind begins is worth a look.
            found = ", ".join(f"{kind} (first in row {_first_row(values, kind)})" for kind in sorted(kinds))
            raise TypeError(f"labels of different kinds in one y: {found}")
        return kinds.pop() if kinds else "text"
    if code not in _KIND_OF_CODE:
        raise ValueError(f"Unknown label type: labels of dtype {values.dtype} are not read")
    return _KIND_OF_CODE[code]


def _refuse_continuous(values):
    _validate.check_finite_targets(values)
    if (values != np.floor(values)).any():
        raise ValueError(
            "Unknown label type: continuous. Maybe you are trying to fit a classifier, which expects discrete classes "
            "on a regression target with continuous values."
        )


def as_array(y, who):
    """``y`` as an array of one or two dimensions; text of NumPy's own variable-width type becomes objects."""
    if y is None:
        raise ValueError(f"{who} requires y to be passed, but the target y is None")
    _validate.refuse_masked(y, "y")
    y = y.toarray() if _validate.is_sparse(y) else np.asarray(y)
    if y.dtype.kind == "T":
        y = y.astype(object)
    if y.dtype.kind == "c":
        raise ValueError(f"Complex data not supported\n{y.dtype}")
    if y.ndim not in (1, 2):
        raise ValueError(f"y should be a 1d array, got an array of shape {y.shape} instead.")
    return y


_NO_INDICATOR = "A y of two dimensions must be an indicator of zeros and ones"


def is_indicator(y):
    """Is ``y`` a multi-label indicator: two columns or more? Anything but 0 and 1 in it is an error."""
    if y.ndim != 2 or y.shape[1] < 2:
        return False
    if y.dtype.kind not in "biufO":
        raise ValueError(f"Unknown label type: multiclass-multioutput, of dtype {y.dtype}. {_NO_INDICATOR}.")
    if y.dtype.kind == "f":
        _validate.check_finite_targets(y)
    for begin, block in _blocks(y):
        try:
            binary = np.isin(block, (0, 1))
        except TypeError:  # objects that have no order
            binary = np.array([[value in (0, 1) for value in row] for row in block.tolist()], dtype=bool)
        if not binary.all():
            row, column = np.unravel_index(int(np.argmin(binary)), block.shape)
            value = block[row].item(column)
            raise ValueError(
                f"Unknown label type: multiclass-multioutput. {_NO_INDICATOR}, "
                f"but row {begin + row} has {value!r} in column {column}."
            )
    return True


_ENTRIES_AT_ONCE = 1 << 17


def _blocks(y):
    """Rows of ``y``, some at a time, with the number of the first: one call of NumPy over millions of labels would keep
    a Ctrl-C waiting for seconds."""
    return ((part.start, y[part]) for part in _validate.row_blocks(y, _ENTRIES_AT_ONCE))


def _distinct(y):
    """The distinct labels, sorted, and the place of each label among them (int64), by blocks that are then merged."""
    parts = [np.unique(block, return_inverse=True) for _, block in _blocks(y)]
    if not parts:
        return y, np.empty(0, dtype=np.int64)
    values, places = np.unique(np.concatenate([values for values, _ in parts]), return_inverse=True)
    places = np.split(places.reshape(-1), np.cumsum([len(values) for values, _ in parts[:-1]]))
    codes = [place[codes.reshape(-1)] for place, (_, codes) in zip(places, parts, strict=True)]
    return values, np.concatenate(codes).astype(np.int64, copy=False)


def column_labels(classes, n_columns):
    """``classes`` of an indicator: a distinct label for each of its columns, in their order, as an array."""
    given = np.asarray(classes)
    if given.ndim != 1:
        raise ValueError(f"classes must have one dimension, got an array of shape {given.shape}")
    if len(given) != n_columns:
        raise ValueError(f"classes has {len(given)} labels, but y has {n_columns} columns: one label each is needed")
    labels = encode(given)
    if len(labels.values) != n_columns:
        twice = labels.values[np.argmax(np.bincount(labels.codes))]
        raise ValueError(f"classes names two columns of y {twice.item()!r}")
    return labels.values[labels.codes]


def encode(y):
    """Labels of one call from an array of one dimension, or of one column (with scikit-learn's warning)."""
    if y.ndim == 2:
        warn_data_conversion(
            "A column-vector y was passed when a 1d array was expected. Please change the shape of y to (n_samples, ), "
            "for example using ravel()."
        )
        y = y.ravel()
    kind, dtype = kind_of(y), y.dtype
    if kind == "real":
        values = _converted(y, np.float64)
        _refuse_continuous(values)
        if (values != y).any():
            raise ValueError("a label is not the same number as float64")
        # What is wider than float64 is kept as that: no file could tell more.
        if dtype.kind == "O" or dtype.itemsize > 8:
            y, dtype = values, dtype if dtype.kind == "O" else values.dtype
    if kind == "integer" and (dtype.kind == "O" or dtype.itemsize == 8):
        if dtype.kind == "u" and y.size and y.max() >= 2**63:
            _refuse_large()
        y = _converted(y, np.int64)
    values, codes = _distinct(y)
    if kind == "text":
        for value in values:
            _refuse_surrogates(str(value))
    return LabelledRows(kind, values, codes, dtype)


def _refuse_large():
    raise ValueError("integer labels must be at least -2**63 and below 2**63")


def _converted(y, dtype):
    try:
        with np.errstate(over="ignore"):
            return y if y.dtype == dtype else _validate.converted(y, dtype)
    except OverflowError:
        _refuse_large()


def _refuse_surrogates(text):
    try:
        text.encode()
    except UnicodeEncodeError:
        raise ValueError(f"label {text!r} holds half of a surrogate pair, so it is no text") from None


def match_kind(labels, kind):
    """Whole numbers are the same label as int and as float: takes the kind that a model knows already."""
    if labels.kind == kind or labels.kind not in _NUMBERS or kind not in _NUMBERS:
        return labels
    for number in map(int, labels.values.tolist()):
        if kind == "real" and int(float(number)) != number:
            raise ValueError(f"label {number} is not the same number as float64, which the labels seen before are")
        if kind == "integer" and not -(2**63) <= number < 2**63:
            raise ValueError(f"label {number:g} does not fit in int64, which the labels seen before are")
    return LabelledRows(kind, labels.values.astype(_PLAIN[kind]), labels.codes, labels.dtype)


def outside(values, known):
    """Those of some labels that are not among the known ones."""
    kinds = {kind_of(values), kind_of(known)}
    if len(kinds) > 1 and not kinds <= set(_NUMBERS):
        return values
    return values[~np.isin(values, known)]


def refuse_undeclared(classes, declared):
    """ValueError where a model that declares its classes (or None) shall take in others."""
    if declared is None or not len(classes):
        return
    unknown = outside(classes, declared)
    if unknown.size:
        raise ValueError(
            f"labels that are not among the declared classes cannot be merged: {unknown.tolist()!r}; declared are "
            f"{declared.tolist()!r}"
        )
