"""The machine: what was built, how many threads, which devices."""

from . import _core, _validate


def build_info():
    """What was built and what it runs on.

    Returns
    -------
    dict
        version, compiler, kernel_isa (instruction set of our kernels in use), compiled_isas, blas_provider, blas_core
        (the core name that OpenBLAS chose for itself), blas_version, cuda_module, threads.
    """
    return _core.build_info()


def set_num_threads(n):
    """Sets the number of threads where no ``n_jobs`` says otherwise.

    Parameters
    ----------
    n : int or None
        None returns to the environment's answer: ``GRAMIAN_NUM_THREADS``, else ``OMP_NUM_THREADS``, else the
        processors that this process may use.
    """
    _core.set_default_threads(0 if n is None else _validate.check_count(n, "n"))


def cuda_available():
    """Does a CUDA device answer? False where the CUDA module, the driver or a device is missing."""
    return _core.device_available("cuda")[0]
