"""Tables of the command line: rows and labels from .npy, .npz and .csv files, and results into files."""

import contextlib
import csv
import decimal
import math
import os
import tempfile

import numpy as np

from . import _labels

# Rows handed over at a time: a mapped file is never in memory as a whole.
BLOCK_ROWS = 4096

_LABEL_NAMES = ("label", "labels", "target", "class", "y")


class InputError(ValueError):
    """A file that does not hold what is asked of it."""


class Table:
    """Rows of one file, and their labels or targets where it has them.

    Attributes
    ----------
    X : ndarray of shape (n, d)
        Memory-mapped for .npy.
    y : ndarray of shape (n,) or (n, k), or None
    name : str
        Of the file, for messages.
    """

    def __init__(self, X, y, name):
        if X.ndim != 2:
            raise InputError(f"{name}: rows of shape (n, d) are needed, the array has shape {X.shape}")
        if X.dtype.kind not in "fiub":
            raise InputError(f"{name}: the rows have dtype {X.dtype}, numbers are needed")
        if y is not None and y.ndim == 0:
            raise InputError(f"{name}: a label per row is needed, there is a single value")
        if y is not None and len(y) != len(X):
            raise InputError(f"{name}: {len(X)} rows, but {len(y)} labels")
        if not len(X):
            raise InputError(f"{name}: no rows")
        self.X, self.y, self.name = X, y, name

    def __len__(self):
        return len(self.X)

    def blocks(self):
        """Pairs of (rows, labels or None), some thousand rows at a time, checked to be finite."""
        for begin in range(0, len(self.X), BLOCK_ROWS):
            rows = self.X[begin : begin + BLOCK_ROWS]
            # Checked here too, since here the number of the row in the file is known.
            if rows.dtype.kind == "f":
                finite = np.isfinite(rows).all(axis=1)
                if not finite.all():
                    raise InputError(f"{self.name}: NaN or infinity in row {begin + int(np.argmin(finite))}")
            yield rows, None if self.y is None else self.y[begin : begin + BLOCK_ROWS]


def read_table(
    path,
    *,
    labels=None,
    x_key=None,
    y_key=None,
    target=None,
    header="auto",
    width=None,
    regress=False,
    text=False,
    wanted=True,
):
    """A Table from a file.

    Parameters
    ----------
    path : str
        .npy, .npz or .csv.
    labels : str, default=None
        File with the labels of a .npy (or of an .npz without).
    x_key, y_key : str, default=None
        Arrays of an .npz; None takes X or x, y or Y.
    target : str, default=None
        Column of a .csv, by name or number, or several joined by commas (regression).
    header : {"auto", "yes", "no"}, default="auto"
        Whether the first line of a .csv is names.
    width : int, default=None
        Features that a model expects: a .csv of this width has no labels.
    regress : bool, default=False
        Whether the labels are numbers to regress on.
    text : bool, default=False
        Whether labels of a .csv stay text, where a model knows text, although all of them are whole numbers.
    wanted : bool, default=True
        False: labels are left out, whatever they are.

    Raises
    ------
    InputError
        The file does not hold such data.
    OSError
        It cannot be read.
    """
    name, suffix = os.path.basename(path), os.path.splitext(path)[1].lower()
    # Labels that nobody asked for are not even read: they may be missing, damaged or of any kind.
    inside = wanted and labels is None
    lines = None  # the number of the line of each label, where it is text
    if suffix == ".csv":
        X, y, lines = _read_csv(path, name, target, header, width, inside)
    elif suffix == ".npy":
        X, y = _load_array(path, name, mmap_mode="r"), None
    elif suffix == ".npz":
        X, y = _read_npz(path, name, x_key, y_key, inside)
    else:
        raise InputError(f"{name}: .npy, .npz or .csv is needed, the suffix is {suffix!r}")
    if not wanted:
        return Table(X, None, name)
    if labels is not None:
        y, lines = _read_labels(labels)
    if y is not None and y.ndim > 0:
        source = name if labels is None else os.path.basename(labels)
        y = _targets(y, source, lines) if regress else _checked_labels(_as_labels(y, text), source)
    return Table(X, y, name)


def _load(path, name, mmap_mode=None):
    # A file that is not there or may not be read keeps the system's own error.
    with open(path, "rb"):
        pass
    try:
        return np.load(path, mmap_mode=mmap_mode, allow_pickle=False)
    except (ValueError, EOFError, OSError) as error:
        # NumPy takes whatever it does not know for a pickle, and explains how to run it.
        reason = "no NumPy file, or objects that are pickled" if "allow_pickle" in str(error) else error
        raise InputError(f"{name}: not a NumPy file of plain arrays ({reason})") from error
    except Exception as error:  # zipfile.BadZipFile and what else a damaged archive raises
        raise InputError(f"{name}: damaged ({error})") from error


def _load_array(path, name, mmap_mode=None):
    # NumPy looks at the content, not at the suffix.
    array = _load(path, name, mmap_mode)
    if isinstance(array, np.ndarray):
        return array
    array.close()
    raise InputError(f"{name}: an archive of arrays, whose suffix should be .npz")


def _read_npz(path, name, x_key, y_key, with_labels):
    archive = _load(path, name)
    if isinstance(archive, np.ndarray):
        raise InputError(f"{name}: a single array, whose suffix should be .npy")
    with archive:

        def pick(key, usual, needed):
            for candidate in usual if key is None else (key,):
                if candidate in archive.files:
                    try:
                        return archive[candidate]
                    except Exception as error:  # pickles, damaged members
                        raise InputError(f"{name}: the array {candidate!r} cannot be read ({error})") from error
            if key is None and not needed:
                return None
            wanted = " or ".join(usual) if key is None else key
            raise InputError(f"{name}: no array {wanted}; it has {', '.join(archive.files) or 'none'}")

        X = pick(x_key, ("X", "x"), True)
        y = pick(y_key, ("y", "Y"), False) if with_labels else None
    # Images and the like: everything behind the first axis is one row.
    return (X.reshape(len(X), math.prod(X.shape[1:])) if X.ndim > 2 else X), y


def _read_labels(path):
    name = os.path.basename(path)
    if path.lower().endswith(".npy"):
        return _load_array(path, name), None
    lines = _csv_lines(path)
    if any(len(row) != 1 for _, row in lines):
        raise InputError(f"{name}: one label per line is needed")
    return np.array([row[0] for _, row in lines], dtype=np.str_), [number for number, _ in lines]


def _csv_lines(path):
    """(line number, cells) of the lines that are not empty."""
    name = os.path.basename(path)
    try:
        with open(path, newline="", encoding="utf-8-sig") as file:
            first = file.readline()
            delimiter = max(",;\t", key=first.count)
            file.seek(0)
            reader = csv.reader(file, delimiter=delimiter, strict=True)  # a quote that never ends is an error
            lines = [(reader.line_num, [cell.strip() for cell in row]) for row in reader]
    except (UnicodeDecodeError, csv.Error) as error:
        raise InputError(f"{name}: not a table of text ({error})") from error
    for number, row in lines:
        if any("\0" in cell for cell in row):  # arrays of text lose it at the end of a label
            raise InputError(f"{name}, line {number}: a NUL character, which no cell of text has")
    return [(number, row) for number, row in lines if any(row)]


def _is_number(cell):
    """Is the text of a cell a number? NaN and infinity are some."""
    try:
        float(cell)
    except ValueError:
        return False
    return "_" not in cell  # 1_0 is a number in a program only


def _read_csv(path, name, target, header, width, with_labels):
    lines = _csv_lines(path)
    if not lines:
        raise InputError(f"{name}: empty")
    first = lines[0][1]
    named = header == "yes" or (header == "auto" and not any(_is_number(cell) for cell in first))
    names = first if named else None
    lines = lines[1:] if named else lines
    n_columns = len(first)
    for number, row in lines:
        if len(row) != n_columns:
            raise InputError(f"{name}, line {number}: {len(row)} cells, where the first line has {n_columns}")
    targets = _target_columns(target, names, n_columns, name, width)
    features = [column for column in range(n_columns) if column not in targets]
    if not features:
        raise InputError(f"{name}: no columns beside the label")
    X = np.empty((len(lines), len(features)))
    for place, (number, row) in enumerate(lines):
        try:
            cells = [row[column] for column in features]
            X[place] = cells
            wrong = "_" in "".join(cells)
        except ValueError:
            wrong = True
        if wrong:
            _refuse_cell(f"{name}, line {number}", row, features, names, _is_number, "no number")
    bad = ~np.isfinite(X).all(axis=1)
    if bad.any():
        number, row = lines[int(np.argmax(bad))]
        _refuse_cell(f"{name}, line {number}", row, features, names, _is_finite, "NaN or infinity")
    if not (targets and with_labels):
        return X, None, None
    for number, row in lines:
        if not all(row[column] for column in targets):
            raise InputError(f"{name}, line {number}: the label is missing")
    y = np.array([[row[column] for column in targets] for _, row in lines], dtype=np.str_)
    y = y.reshape(len(lines), len(targets))
    return X, y[:, 0] if len(targets) == 1 else y, [number for number, _ in lines]


def _is_finite(cell):
    return math.isfinite(float(cell))


def _refuse_cell(line, row, columns, names, accepts, found):
    """The InputError of the first of these cells of a row that is not accepted."""
    bad = next(column for column in columns if not accepts(row[column]))
    where = names[bad] if names else bad
    raise InputError(f"{line}, column {where}: {row[bad]!r} is {found}")


def _target_columns(target, names, n_columns, name, width):
    """Columns of the labels: those asked for, else one with a usual name, else the last."""
    if target is not None:
        columns = [_column(part.strip(), names, n_columns, name) for part in target.split(",")]
        if len(set(columns)) < len(columns):
            raise InputError(f"{name}: {target!r} names a column twice")
        return columns
    if n_columns == width:
        return []
    for column, text in enumerate(names or ()):
        if text.lower() in _LABEL_NAMES:
            return [column]
    return [n_columns - 1]


def _column(text, names, n_columns, name):
    if names and text in names:
        return names.index(text)
    try:
        column = int(text)
    except ValueError:
        column = n_columns
    if not -n_columns <= column < n_columns:
        known = f"the columns are {', '.join(names)}" if names else f"the {n_columns} columns have no names"
        raise InputError(f"{name}: no column {text!r}; {known}")
    return column % n_columns


def _as_labels(y, text):
    """Labels, or an indicator; text of a .csv that is whole numbers throughout becomes integers."""
    if y.ndim == 2 and y.shape[1] == 1:
        y = y[:, 0]
    if y.dtype.kind == "U" and not text and not (np.char.find(y, "_") >= 0).any():
        with contextlib.suppress(ValueError, OverflowError):
            return y.astype(np.int64)
        labels, places = np.unique(y, return_inverse=True)
        numbers = [_whole_number(label) for label in labels.tolist()]
        if None not in numbers:
            return np.array(numbers, dtype=np.int64)[places].reshape(y.shape)
    return y


def _checked_labels(y, name):
    """The labels, once it is known that they are some: learning takes them block by block, and an error there would
    count rows from the first of its block."""
    try:
        y = _labels.as_array(y, name)
        if not _labels.is_indicator(y):
            _labels.encode(y)
    except (ValueError, TypeError) as error:
        raise InputError(f"{name}: {error}") from error
    return y


def _whole_number(text):
    """The integer that 1.0, 1e0 and the like stand for; None where it is none, or none of 64 bits."""
    # Not by way of a float, which would join labels above 2^53.
    try:
        number = decimal.Decimal(text)
    except decimal.InvalidOperation:
        return None
    if not number.is_finite() or not -(2**63) <= number < 2**63 or number != number.to_integral_value():
        return None
    return int(number)


def _targets(y, name, lines):
    """Numbers to regress on; lines: the number of each of their lines in a file of text, or None."""
    if y.dtype.kind not in "fiubU" or y.ndim not in (1, 2):
        raise InputError(f"{name}: targets of dtype {y.dtype} and shape {y.shape} are no numbers to regress on")

    def place(row):
        return f"row {row}" if lines is None else f"line {lines[row]}"

    if y.dtype.kind == "U":
        for row, cells in enumerate(y.reshape(len(y), -1).tolist()):
            for cell in cells:
                if not _is_number(cell):
                    raise InputError(f"{name}: the target {cell!r} in {place(row)} is no number")
    y = y.astype(np.float64)
    bad = ~np.isfinite(y.reshape(len(y), -1)).all(axis=1)
    if bad.any():
        raise InputError(f"{name}: NaN or infinity in the target of {place(int(np.argmax(bad)))}")
    return y


@contextlib.contextmanager
def replacing(path):
    """A temporary name beside ``path`` that takes its place when the block ends well, and is removed otherwise."""
    path = os.path.realpath(path)  # a link goes on leading to the file
    folder = os.path.dirname(path) or "."
    handle, temporary = tempfile.mkstemp(prefix=".gramian-", suffix=".tmp", dir=folder)
    os.close(handle)
    try:
        yield temporary
        # mkstemp gives 0600; a result has the permissions of the file it replaces, or of any new one.
        mask = os.umask(0)
        os.umask(mask)
        mode = os.stat(path).st_mode & 0o777 if os.path.exists(path) else 0o666 & ~mask
        os.chmod(temporary, mode)
        os.replace(temporary, path)
    except BaseException:
        os.unlink(temporary)
        raise
