"""Reading of model files, whatever wrote them."""

import os

from . import _core, _validate
from ._analytic_base import Learnt
from ._composite import load_composite
from ._model_config import parts_from_json
from .base import thread_count
from .classifier import AnalyticClassifier
from .coded_classifier import CodedClassifier
from .dual_stream import DualStreamClassifier
from .gram import GramState
from .heads import GaussianClassifier
from .regressor import AnalyticRegressor
from .truncated import TruncatedRidgeClassifier

DUAL_STREAM = "dual_stream_classifier"


def load(path, *, width=None, device="cpu", n_jobs=None):
    """Reads a model file: an estimator with the parameters it was saved with, or a GramState.

    Parameters
    ----------
    path : path-like
    width : int, default=None
        Of a file of ``save(path, what="nested")``: read the model on the first ``width`` features, and nothing of the
        file behind it, which may be missing. None reads the width that was in use.
    device : str, default="cpu"
        Where the model shall work, whatever it was made on.
    n_jobs : int, default=None
        Threads.

    Returns
    -------
    Any estimator that has a `save`, or a GramState
        From a file that a C++ program wrote, with the parameters that the model knows of.

    Raises
    ------
    OSError
        The file cannot be read.
    FormatError
        It is no model file, damaged, or from a newer version.
    ValueError
        ``width`` is not in 1 .. n_features, or the file is not one of ``what="nested"``.
    """
    _validate.check_readable(path)
    if width is None and _core.is_composite(os.fsencode(path)):
        thread_count(n_jobs)
        return load_composite(path, _validate.device_name(device), n_jobs)
    return _load_single(path, width, device, n_jobs)


def load_bytes(data, *, device="cpu", n_jobs=None):
    """The same from the content of a file, such as `to_bytes` of an estimator makes.

    Parameters
    ----------
    data : bytes-like
    device, n_jobs
        As in `load`.

    Returns
    -------
    AnalyticClassifier, AnalyticRegressor, CodedClassifier, DualStreamClassifier or GaussianClassifier
    """
    device = _validate.device_name(device)
    loaded = _core.load_model_bytes(bytes(memoryview(data)), device, thread_count(n_jobs))
    if loaded[0] == DUAL_STREAM:
        read = _core.load_dual_stream_bytes(bytes(memoryview(data)), device, thread_count(n_jobs))
        return DualStreamClassifier._from_model(*read, device, n_jobs)
    return _estimator_of(loaded, "data", device, n_jobs)


def _load_single(path, width, device, n_jobs):
    """A model that is one state, which all but the composites are."""
    device = _validate.device_name(device)
    wanted = 0 if width is None else _validate.check_count(width, "width")
    loaded = _core.load_model(os.fsencode(path), device, thread_count(n_jobs), wanted)
    if width is not None and loaded[1] is None:
        held = _validate.with_article(loaded[0])
        raise ValueError(f"{os.fspath(path)} holds {held}: only a file of what='nested' is read by a width")
    if loaded[0] == "gram_state":
        return GramState.load(path, device=device, n_jobs=n_jobs)
    if loaded[0] == DUAL_STREAM:
        read = _core.load_dual_stream(os.fsencode(path), device, thread_count(n_jobs))
        return DualStreamClassifier._from_model(*read, device, n_jobs)
    if loaded[0] == "truncated_classifier":
        return TruncatedRidgeClassifier._load(path, device, n_jobs)
    return _estimator_of(loaded, os.fspath(path), device, n_jobs)


def _estimator_of(loaded, name, device, n_jobs):
    kind, model, config, version = loaded
    if model is None:
        raise _core.FormatError(f"{name}: unknown kind of model {kind!r}, written by gramian {version}")
    known = (AnalyticClassifier, AnalyticRegressor, CodedClassifier, GaussianClassifier)
    kinds = {kind.__name__: kind for kind in known}
    estimator, *parts = parts_from_json(kinds, model, config)
    estimator.device, estimator.n_jobs = device, n_jobs
    estimator._learnt = Learnt(model, *parts, device, thread_count(n_jobs))
    return estimator
