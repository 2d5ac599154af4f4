"""Makes the OpenBLAS of scipy-openblas32 known to the process, then imports the compiled module.

The compiled module looks for the library beside its own folder. The two packages may stand in different site folders
(``pip install --user``, ``--target``), so the library is found here by name and opened first; the dynamic loader then
takes the open one. The package itself is not imported: that would cost as much as the rest of ``import gramian``.
"""

import ctypes
import importlib.util
import os
import sys

_FILES = {"darwin": "libscipy_openblas.dylib", "win32": "libscipy_openblas.dll"}


def _openblas_path():
    """Full path of the library, or None where the package is not installed."""
    spec = importlib.util.find_spec("scipy_openblas32")
    if spec is None:
        return None
    for folder in spec.submodule_search_locations or ():
        path = os.path.join(folder, "lib", _FILES.get(sys.platform, "libscipy_openblas.so"))
        if os.path.exists(path):
            return path
    return None


def _preload():
    path = _openblas_path()
    if path is not None:
        # Local scope: its symbols reach only the modules that name it as a dependency.
        ctypes.CDLL(path)
    try:
        from . import _core  # noqa: F401
    except ImportError as error:
        # A build with the Eigen provider needs no OpenBLAS, so only the loader can tell whether it is missed.
        if "scipy_openblas" in str(error):
            raise ImportError(
                "gramian needs the package scipy-openblas32, which was not found: "
                "pip install 'scipy-openblas32>=0.3.29,<0.4'"
            ) from None
        raise


_preload()
