"""Exact deletion of rows with a record of it: what changed, how large the error can be, what else knew the rows."""

import copy
import hashlib
import json
import math
import struct
from dataclasses import asdict, dataclass, field, fields

import numpy as np

from . import _core, _labels, _validate
from ._analytic_base import Learnt
from ._feature_rows import columns, dense_rows
from ._model_config import _label_to_json
from ._plain_models import check_kind

_FORMAT = 1


@dataclass(frozen=True)
class Dependency:
    """One thing beside the sums that may have been made from the deleted rows.

    Attributes
    ----------
    what : str
        "feature map", "ridge", "standardisation", "shift", "classes", "temperature", "width", "error account" or
        "preprocessing".
    status : {"clean", "depends", "unknown", "counts", "outside"}
        "clean": nothing of the rows is left in it. "depends": something is, or may well be, and deletion does not take
        it out. "unknown": cannot be told from the model. "counts": how many operations there were and how large the
        sums got, to a power of two, is left, because the error bound is made of it; ``strict`` allows it. "outside":
        not a part of the model, so for its owner to check.
    why : str
    remedy : str
        What to do about it, "" where there is nothing to do.
    """

    what: str
    status: str
    why: str
    remedy: str = ""


@dataclass(frozen=True)
class DeletionRecord:
    """What `unlearn` did, in a form that can be kept, handed over and checked. It holds none of the rows.

    Attributes
    ----------
    library_version, model : str
        Of the writer; class of the estimator.
    rows : int
        Rows deleted (of positive weight).
    classes : tuple of (label, rows)
        Rows deleted per class, of a classifier with one label per row; a label is (kind, value).
    classes_removed : tuple of labels
        Classes that left with their last row.
    state_before, state_after : str
        SHA-256 of the model: its sums, labels, feature map and settings, as its file holds them, without the version of
        the writer.
    contribution : str
        SHA-256 of the model of the deleted rows alone, in the order they were presented, at the same settings.
    error_bound : float
        Bound of the relative error of the weights that all removals so far can have caused (``report_.removal_bound``).
    budget : float or None
        What was allowed.
    dependencies : tuple of Dependency
    previous : str or None
        Digest of the record before this one, where they are chained.
    time : str or None
        As the caller gave it. The only part that is not in the digest.

    Notes
    -----
    Source: "Attribute-to-Delete: Machine Unlearning via Datamodel Matching".
    """

    library_version: str
    model: str
    rows: int
    classes: tuple
    classes_removed: tuple
    state_before: str
    state_after: str
    contribution: str
    error_bound: float
    budget: float | None
    dependencies: tuple
    previous: str | None = None
    time: str | None = field(default=None, compare=False)

    def to_json(self):
        """JSON text of the record and its digest."""
        return json.dumps({"format": _FORMAT, **asdict(self), "digest": self.digest()}, indent=1, allow_nan=False)

    @classmethod
    def from_json(cls, text):
        """The record of a JSON text. ValueError where that is none, or was changed after it was written."""
        try:
            parts = json.loads(text)
            stored, version = parts.pop("digest"), parts.pop("format")
            if version != _FORMAT:
                raise ValueError(f"format {version!r}, only {_FORMAT} is known")
            parts["dependencies"] = tuple(Dependency(**one) for one in parts["dependencies"])
            parts["classes"] = tuple((tuple(label), rows) for label, rows in parts["classes"])
            parts["classes_removed"] = tuple(map(tuple, parts["classes_removed"]))
            record = cls(**parts)
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise ValueError(f"not a deletion record: {error}") from error
        if record.digest() != stored:
            raise ValueError("the deletion record does not match its own digest: it was changed after it was written")
        return record

    def digest(self):
        """SHA-256 of the record without its time: what to sign, and what the next record of a chain names."""
        parts = asdict(self)
        parts.pop("time")
        return hashlib.sha256(json.dumps(parts, sort_keys=True, allow_nan=False).encode()).hexdigest()

    def verify(self, model, X=None, y=None, sample_weight=None):
        """Is this model in the state that the deletion left, and (where rows are given) were these the rows?

        Parameters
        ----------
        model : AnalyticClassifier or AnalyticRegressor
        X, y, sample_weight
            The deleted rows in the order they were presented; None checks the state alone.

        Returns
        -------
        bool
        """
        learnt = _checked(model)
        if _digest_of(learnt) != self.state_after:
            return False
        return X is None or _contribution(model, learnt, X, y, sample_weight) == self.contribution

    def follows(self, previous):
        """Does this record begin where another one ended, and name it?"""
        return self.previous == previous.digest() and self.state_before == previous.state_after

    @property
    def clean(self):
        """Whether nothing inside the model is known or suspected to remember the rows."""
        return not _doubtful(self.dependencies)

    def __str__(self):
        lines = [f"{one.name:>16}: {getattr(self, one.name)}" for one in fields(self) if one.name != "dependencies"]
        lines += [f"{one.what:>16}: {one.status}. {one.why} {one.remedy}".rstrip() for one in self.dependencies]
        return "DeletionRecord\n" + "\n".join(lines)


def unlearn(model, X, y, sample_weight=None, *, budget=None, strict=False, previous=None, time=None):
    """Takes rows out of a model exactly and says so in a record.

    The model is afterwards that of the rows that are left, as after ``forget``; on any error it is unchanged.

    Parameters
    ----------
    model : AnalyticClassifier or AnalyticRegressor
        Fitted, with its sums.
    X, y, sample_weight
        Rows as they were added. That they were cannot be checked beyond the counts.
    budget : float, default=None
        Largest relative error of the weights that this and all earlier removals together may have caused, by its bound.
        Where the bound is larger, the deletion is refused before anything changes.
    strict : bool, default=False
        Refuse where anything inside the model depends, or may depend, on rows: centres taken from data, a ridge or a
        width chosen on rows, a fitted temperature.
    previous : DeletionRecord, default=None
        The record of the last deletion, to make a chain. The model must be in the state that one left.
    time : str, default=None
        Written into the record as it is.

    Returns
    -------
    DeletionRecord

    Raises
    ------
    TypeError
        Another kind of model: what such a model keeps beside the sums is not known here.
    ValueError
        Bad rows, a spent budget, a dependency with ``strict``, a ``previous`` that does not fit.
    numpy.linalg.LinAlgError
        ``ridge=0`` and the rows that are left have no full rank.

    Notes
    -----
    Works on a copy, so it needs the memory of a second model; n d^2 flops and one solve. The bound is that of a worst
    case: 4 k eps (T + sqrt(T E) / |weights|) / (smallest eigenvalue left), with k the terms of the longest sum and the
    calls, T the largest trace of the Gram matrix and E the largest sum of squared targets ever held.
    References: "Making AI Forget You: Data Deletion in Machine Learning"; "Attribute-to-Delete: Machine Unlearning via
    Datamodel Matching".

    Examples
    --------
    >>> import numpy as np
    >>> from gramian import AnalyticRegressor, unlearn
    >>> X, y = np.arange(10.0).reshape(5, 2) ** 2, np.arange(5.0)
    >>> model = AnalyticRegressor().fit(X, y)
    >>> record = unlearn(model, X[:1], y[:1], budget=1e-9)
    >>> record.rows, record.clean, record.verify(model)
    (1, True, True)
    """
    _checked(model)
    budget = None if budget is None else _validate.check_number(budget, "budget")
    with model._lock():
        learnt = model._trainable()
        before = _digest_of(learnt)
        if previous is not None and previous.state_after != before:
            raise ValueError(
                "previous does not end in the state this model is in: something else changed the model in between"
            )
        trial = copy.copy(model)
        trial.__dict__.pop("_mutex", None)
        trial._learnt = _copied(learnt)
        trial.forget(X, y, sample_weight)
        rest = trial._learnt
        bound = trial.report_.removal_bound if rest.model.n_rows else 0.0
        if budget is not None and not bound <= budget:
            raise ValueError(
                f"the removals would leave an error of up to {bound:.3g} in the weights, above the budget of "
                f"{budget:.3g}; nothing was changed. To begin a new account, fit a new model on the rows that are "
                "left, or merge models of parts that hold none of the deleted rows; float64 products (dtype) and a "
                "larger ridge lower the bound"
            )
        dependencies = _dependencies(model, learnt, rest, X)
        doubtful = _doubtful(dependencies)
        if strict and doubtful:
            raise ValueError(
                "the model would not be free of the rows after this deletion; nothing was changed. "
                + " ".join(f"{one.what}: {one.why} {one.remedy}" for one in doubtful)
            )
        counts, removed = _class_changes(learnt, rest)
        record = DeletionRecord(
            library_version=_core.__version__,
            model=type(model).__name__,
            rows=int(learnt.model.n_rows - rest.model.n_rows),
            classes=counts,
            classes_removed=removed,
            state_before=before,
            state_after=_digest_of(rest),
            contribution=_contribution(model, learnt, X, y, sample_weight),
            error_bound=float(bound) if math.isfinite(bound) else 1e308,
            budget=budget,
            dependencies=dependencies,
            previous=None if previous is None else previous.digest(),
            time=None if time is None else str(time),
        )
        model._learnt = rest
    return record


def _checked(model):
    check_kind(model)
    return model._trainable()


def _copied(learnt):
    return Learnt.unpacked(*learnt.packed())


def _parts_of_file(data):
    """(header, data behind it) of the bytes of a safetensors container."""
    (size,) = struct.unpack("<Q", data[:8])
    return json.loads(data[8 : 8 + size]), data[8 + size :]


def _digest(data):
    """SHA-256 of a model file, whichever version of the library wrote it."""
    header, tensors = _parts_of_file(data)
    header["__metadata__"].pop("lib_version", None)
    # Places in the file, not the content: padding moves with the length of the version.
    return hashlib.sha256(json.dumps(header, sort_keys=True).encode() + tensors).hexdigest()


def _digest_of(learnt):
    return _digest(learnt.model.save_bytes(False, ""))


def _contribution(model, learnt, X, y, sample_weight):
    """SHA-256 of the model of these rows alone."""
    alone = copy.copy(model)
    alone.__dict__.pop("_mutex", None)
    # A choice that is made by fit would ask for all of its rows; it is no part of what these rows add.
    if isinstance(alone.ridge, str) and (alone.ridge == "loo" or alone.low_latency):
        alone.ridge, alone.ridges = 1.0, None
    if isinstance(alone.width, str):
        alone.width = None
    n_outputs = learnt.model.n_outputs if isinstance(learnt.model, _core.Regressor) else None
    alone._learnt = alone._empty(
        alone._config(), learnt.model.n_inputs, learnt.feature_map, learnt.names, copy.copy(learnt.form), n_outputs
    )
    alone.partial_fit(X, y, sample_weight=sample_weight)
    return _digest_of(alone._learnt)


def _class_changes(before, after):
    """Rows deleted per class and classes that are gone, by label."""
    if not isinstance(before.model, _core.Classifier):
        return (), ()

    def counted(learnt):
        kind, values, counts = learnt.model.classes()
        labels = _labels.from_core(kind, values, learnt.form.dtype).tolist()
        return {tuple(_label_to_json(label)): int(count) for label, count in zip(labels, counts, strict=True)}

    old, new = counted(before), counted(after)
    changed = tuple((label, count - new.get(label, 0)) for label, count in old.items() if count != new.get(label, 0))
    return changed, tuple(label for label in old if label not in new)


# What else depended on the rows.


def _doubtful(dependencies):
    return [one for one in dependencies if one.status in ("depends", "unknown")]


def _dependencies(model, before, after, X):
    return (
        _of_map(before, X),
        _of_ridge(before),
        _of_width(before),
        Dependency(
            "standardisation",
            "clean",
            "Scales are computed from the sums at each solve."
            if before.model.config["standardize"]
            else "The model scales nothing.",
        ),
        Dependency("shift", "clean", "Sums are moved to the mean of the rows that are left."),
        _of_classes(before, after),
        _of_temperature(before),
        _of_account(after),
        Dependency(
            "preprocessing",
            "outside",
            "Scalers, imputers, networks and the like in front of the model are not known to it.",
            "Where they were fitted on the deleted rows, fit them again without these, and the model after them.",
        ),
    )


def _of_map(learnt, X):
    description = learnt.params["feature_map"]
    if description is None:
        return Dependency("feature map", "clean", "There is none.")
    status, why = _map_status(description, learnt.feature_map, X)
    remedy = "" if status == "clean" else "Give centres and gamma, or use RandomFeatures, and fit again."
    return Dependency("feature map", status, why, remedy)


def _map_status(description, fitted, X):
    """(status, why) of one map; X: rows as it sees them, or None where that is not known."""
    if description is None:
        return "clean", "A block that no map changes."
    if description["type"] == "FeatureChain":
        places = enumerate(zip(description["maps"], fitted.maps_, strict=True))
        return _worst([_map_status(part, made, X if place == 0 else None) for place, (part, made) in places])
    if description["type"] == "FusedFeatures":
        return _worst(_statuses_of_blocks(description["params"], fitted, X))
    if description["type"] == "RandomFeatures":
        return "clean", "Drawn from a seed, without any row."
    if description["type"] != "RBFFeatures":
        return "unknown", f"How {description['type']} was fitted is not known."
    params = description["params"]
    from_rows = params["centers"] is not None
    if X is None:
        what = "are features of rows of the first X" if from_rows else "were given, and may be features of rows"
        return "unknown", f"Its centres {what}."
    # Given centres may be rows as well, as those of RBFFeatures.from_stream are.
    hit = _rows_among(X, fitted.centers_)
    if hit:
        return "depends", f"{hit} of the deleted rows are centres, and stay in the model and in its file."
    if isinstance(params["gamma"], str):
        return "unknown", "Its gamma is a median over rows of the first X."
    if from_rows:
        return "clean", "Its centres are rows of the first X, none of them a deleted one."
    origin = params.get("origin")
    if origin is None:
        return "unknown", "Its file is from before maps said what their centres and gamma were made from."
    if origin == "rows":
        return "unknown", "Its centres, its gamma or both were made from rows, which may have been among these."
    return "clean", "Its centres and gamma were given."


def _worst(statuses):
    rank = {"clean": 0, "unknown": 1, "depends": 2}
    return max(statuses, key=lambda status: rank[status[0]])


def _statuses_of_blocks(params, fitted, X):
    """(status, why) of the map of each block of columns."""
    if params["mode"] == "project":
        return [("clean", "Drawn from a seed, without any row.")]
    maps = params["maps"] if isinstance(params["maps"], list) else [params["maps"]] * len(fitted.widths_)
    rows = None
    if X is not None:
        rows = _validate.check_rows(X, "unlearn")
        _validate.check_structure(rows)
        rows = dense_rows(rows)
    statuses, start = [], 0
    for part, made, width in zip(maps, fitted.maps_, fitted.widths_, strict=True):
        block = None if rows is None else columns(rows, start, width)
        statuses.append(_map_status(part, made, block))
        start += width
    return statuses


def _rows_among(X, centers):
    """How many rows of X are centres, exactly."""
    rows = _validate.check_rows(X, "unlearn")
    _validate.check_structure(rows)
    rows = dense_rows(rows)  # without negative zeros, which older files may have among their centres
    one_row = np.dtype((np.void, rows.shape[1] * rows.itemsize))
    as_items = [np.ascontiguousarray(part).view(one_row).ravel() for part in (rows, centers + 0.0)]
    return int(np.isin(*as_items).sum())


def _of_ridge(learnt):
    config = learnt.model.config
    if config["rule"] == "gcv" and not config["low_latency"]:
        return Dependency("ridge", "clean", "Chosen again from the sums that are left, by cross-validation.")
    if config["holdout"] == "moments":
        return Dependency("ridge", "clean", "Chosen again from the sums that are left, by held-out rows.")
    if config["holdout"] == "ranpac":
        return Dependency("ridge", "clean", "What was held out is dropped; cross-validation chooses from what is left.")
    chosen = learnt.params["ridge"]
    if isinstance(chosen, str):
        return Dependency(
            "ridge",
            "depends",
            f"Chosen by {chosen!r} with rows that may have been among these.",
            "Choose it again: fit.",
        )
    return Dependency(
        "ridge", "clean", "Given as a number.", "Where it was chosen with the deleted rows, choose it again and fit."
    )


def _of_width(learnt):
    chosen = learnt.params.get("width")
    if isinstance(chosen, str):
        return Dependency("width", "depends", f"Chosen by {chosen!r} with rows.", "Choose it again: fit.")
    return Dependency("width", "clean", "Not chosen from rows.")


def _of_classes(before, after):
    _, removed = _class_changes(before, after)
    declared = getattr(before.form, "declared", None)
    if not removed:
        return Dependency("classes", "clean", "No class lost its last row.")
    names = ", ".join(str(value) for _, value in removed)
    if declared is not None:
        return Dependency(
            "classes",
            "depends",
            f"{names} lost their last row and left, but were declared in partial_fit and still may come.",
            "Fit again with fewer classes declared.",
        )
    return Dependency("classes", "clean", f"{names} lost their last row and left.")


def _of_account(after):
    if after.model.n_rows == 0:
        return Dependency("error account", "clean", "No row is left, and the sums began anew.")
    return Dependency(
        "error account",
        "counts",
        "Counts of operations and powers of two that bound the largest sums ever held remain, since the error bound is "
        "made of them, and so do the rounding errors that it bounds.",
        "Where that is too much, fit a new model on the rows that are left.",
    )


def _of_temperature(learnt):
    if isinstance(learnt.model, _core.Classifier):
        header, _ = _parts_of_file(learnt.model.save_bytes(False, ""))
        if json.loads(header["__metadata__"]["config"]).get("temperature", 0) > 0:
            return Dependency(
                "temperature",
                "unknown",
                "Fitted by calibrate, with rows that may have been among these.",
                "Calibrate again with rows that may be used.",
            )
    return Dependency("temperature", "clean", "Not fitted to rows; its default comes from the sums.")
