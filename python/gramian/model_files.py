"""Reading of model files, whatever wrote them."""

import os

from . import _core, _validate, analytic
from ._composite import load_composite
from .base import thread_count


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
    if width is None:
        _validate.check_readable(path)
        if _core.is_composite(os.fsencode(path)):
            thread_count(n_jobs)
            return load_composite(path, _validate.device_name(device), n_jobs)
    return analytic.load(path, width=width, device=device, n_jobs=n_jobs)
