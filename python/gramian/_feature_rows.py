"""Rows that a map is fitted to: as plain arrays, some of them, or some of their columns."""

import numpy as np

from . import _core, _validate


def plain(rows):
    """float64 rows one after the other, without negative zeros: equal values in any type or layout are equal bytes."""
    return np.ascontiguousarray(rows, dtype=np.float64) + 0.0


def dense_rows(rows):
    """All rows as `plain` has them."""
    if not isinstance(rows, _validate.CSRRows):
        return plain(rows)
    out = np.zeros(rows.shape)
    stored = slice(rows.indptr[0], rows.indptr[-1])
    row_of_entry = np.repeat(np.arange(rows.shape[0]), np.diff(rows.indptr))
    np.add.at(out, (row_of_entry, rows.indices[stored]), rows.data[stored])
    return out


# Seed of the choice of rows that a map is fitted to without being made of them.
SAMPLE_SEED = 0


def sample_rows(rows, count):
    """At most ``count`` rows, drawn from all of them: the first ones may be all of one class."""
    if rows.shape[0] <= count:
        return rows
    places = np.asarray(_core.permutation_head(SAMPLE_SEED, rows.shape[0], count), dtype=np.int64)
    return pick_rows(rows, places)


def pick_rows(rows, places):
    """Some rows as `plain` has them."""
    if not isinstance(rows, _validate.CSRRows):
        return plain(rows[places])
    out = np.zeros((len(places), rows.shape[1]))
    for k, place in enumerate(places):
        stored = slice(rows.indptr[place], rows.indptr[place + 1])
        np.add.at(out[k], rows.indices[stored], rows.data[stored])
    return out


def columns(rows, start, width):
    """Some neighbouring columns."""
    if not isinstance(rows, _validate.CSRRows):
        return rows[:, start : start + width]
    indices = np.asarray(rows.indices)
    inside = (indices >= start) & (indices < start + width)
    indptr = np.concatenate([[0], np.cumsum(inside)])[np.asarray(rows.indptr)]
    indptr = indptr.astype(np.asarray(rows.indptr).dtype)
    return _validate.CSRRows(rows.data[inside], indices[inside] - start, indptr, (rows.shape[0], width))
