"""Conjugate directions for symmetric positive definite systems, with any source of directions."""

import dataclasses

import numpy as np

from . import _core, _validate
from .base import draw_seed, thread_count, warn_not_converged
from .regression import _refuse_complex_operator

_WHO = "flexible_cg"


@dataclasses.dataclass(frozen=True)
class FlexibleCgResult:
    """What `flexible_cg` found and how.

    Attributes
    ----------
    x : ndarray of the shape of b
    converged : bool
    n_iter : int
    residual_norm : float or ndarray of shape (k,)
        ``|b - A x|``, computed from x at the end.
    energy_decrease : ndarray or list of ndarray
        How far the squared A-norm of the error fell in each step, one array per right-hand side. Never negative.
    n_products : int
        Vectors that A was applied to.
    n_fallbacks : int
        Answers of the callback that could not be used, each replaced by the residual.
    n_restarts : int
    switched_at : int or None
        The step from which the callback was not asked any more: its steps gained less than plain gradient steps.
    switched_to : {"nystrom", "residual", None}
    """

    x: np.ndarray
    converged: bool
    n_iter: int
    residual_norm: object
    energy_decrease: object
    n_products: int
    n_fallbacks: int
    n_restarts: int
    switched_at: object
    switched_to: object


def _as_map(value, n, name, flat):
    """A function of vectors, or rows that the compiled module reads."""
    if value is None:
        return None
    operation = "matvec" if flat else "matmat"
    if hasattr(value, operation) and not _validate.is_sparse(value) and not isinstance(value, np.ndarray):
        _refuse_complex_operator(value, name)
        return getattr(value, operation)
    if callable(value):
        return value
    rows = _validate.check_rows(value, _WHO, name=name)
    if rows.shape != (n, n):
        raise ValueError(f"{name} has the shape {rows.shape}, expected {(n, n)} for b of length {n}")
    _check_symmetric(value, rows, name)
    return rows


def _check_symmetric(value, rows, name):
    if isinstance(rows, np.ndarray):
        gap = np.abs(rows.astype(np.float64, copy=False) - rows.T)
        if np.isfinite(gap).all() and gap.max() > 1e-8 * np.abs(rows).max():
            i, j = np.unravel_index(gap.argmax(), gap.shape)
            raise ValueError(
                f"{name} is not symmetric: the entries ({i}, {j}) and ({j}, {i}) differ by {gap[i, j]:.2g}"
            )
        return
    gap = abs(value - value.T)
    if gap.nnz and gap.max() > 1e-8 * abs(value).max():
        raise ValueError(f"{name} is not symmetric: entries differ by {gap.max():.2g} from those of its transpose")


def flexible_cg(
    A,
    b,
    precondition=None,
    x0=None,
    *,
    directions=2,
    restart=50,
    rtol=1e-8,
    atol=0.0,
    max_iter=None,
    stall_window=20,
    fallback_rank=None,
    random_state=0,
    device="cpu",
    n_jobs=None,
):
    """Solves ``A x = b`` for symmetric positive definite A by conjugate directions from any source.

    Each direction is made conjugate to the ones before it and the exact minimum along it is taken, so the A-norm of the
    error never rises, whatever the callback returns. With no callback this is the method of conjugate gradients; with a
    fixed symmetric positive definite one, its preconditioned form.

    Parameters
    ----------
    A : array-like or CSR matrix of shape (n, n), LinearOperator or callable
        A callable receives a vector of shape (n,) where b has one dimension, else (n, k), and returns the product.
    b : array-like of shape (n,) or (n, k)
    precondition : None, matrix of shape (n, n) or callable, default=None
        Where directions come from: a function of the residual, scaled to unit length, in the shapes of A. It need not
        be linear, symmetric or the same in each step, and the length of what it returns does not matter. A matrix is
        multiplied with the residual. None takes the residual.
    x0 : array-like of the shape of b, default=None
        Start; zeros for None.
    directions : int or "all", default=2
        Earlier directions that a new one is made conjugate to. One is enough for a fixed preconditioner.
    restart : int, default=50
        With "all": how many are kept before all are dropped.
    rtol, atol : float
        Stop at ``|b - A x| <= max(rtol |b|, atol)``.
    max_iter : int, default=None
        10 n for None.
    stall_window : int, default=20
        After as many steps the callback must have gained as much as plain gradient steps would; otherwise it is not
        asked any more (one product with A each time). 0 never looks.
    fallback_rank : int, default=None
        Rank of the Nystrom preconditioner that takes the place of such a callback; ``min(n // 4, 50)`` for None, 0 for
        residuals alone. Where the spectrum is too flat for it, residuals are used.
    random_state : int, Generator or None, default=0
        Of that preconditioner.
    device : str, default="cpu"
        Callbacks receive host arrays for any device.
    n_jobs : int, default=None

    Returns
    -------
    FlexibleCgResult

    Raises
    ------
    TypeError
        ``A`` or ``precondition`` returns complex numbers, or no numbers.
    numpy.linalg.LinAlgError
        Where a direction has negative curvature beyond rounding, or a residual none: A is not positive definite.

    Notes
    -----
    A step costs one product with A and ``16 n directions`` flops a right-hand side; memory 2 directions + 6 vectors.
    An answer of zero, with NaN or infinity, of no positive curvature or within the span of the last directions is
    replaced by the residual. All arithmetic is float64; b, A and answers may be of any size that float64 holds.
    Source: "A Deep Conjugate Direction Method for Iteratively Solving Linear Systems"; the fallback is that of
    "Randomized Nystrom Preconditioning".

    Examples
    --------
    >>> import numpy as np
    >>> from gramian import flexible_cg
    >>> A = np.array([[4.0, 1.0], [1.0, 3.0]])
    >>> found = flexible_cg(A, [1.0, 2.0], precondition=lambda r: r / np.diag(A))
    >>> found.x.round(4), found.converged
    (array([0.0909, 0.6364]), True)
    """
    rhs = _validate.readable(np.asarray(b), "b")
    if rhs.ndim not in (1, 2) or rhs.size == 0:
        raise ValueError(f"b must have the shape (n,) or (n, k), got {rhs.shape}")
    flat = rhs.ndim == 1
    columns = np.ascontiguousarray(np.atleast_2d(rhs.T), dtype=np.float64)
    n = columns.shape[1]
    _validate.check_finite(columns.T, "b")
    start = np.zeros_like(columns)
    if x0 is not None:
        given = _validate.readable(np.asarray(x0), "x0").astype(np.float64)
        if given.shape != rhs.shape:
            raise ValueError(f"x0 has the shape {given.shape}, b has {rhs.shape}")
        _validate.check_finite(np.atleast_2d(given), "x0")
        start = np.ascontiguousarray(np.atleast_2d(given.T))
    if isinstance(directions, str):
        if directions != "all":
            raise ValueError(f"directions must be an integer or 'all', got {directions!r}")
        kept = 0
    else:
        kept = _validate.check_count(directions, "directions")
    if A is None:
        raise ValueError("A is None: a matrix or a function is needed")
    rank = -1 if fallback_rank is None else _validate.check_count(fallback_rank, "fallback_rank", low=0)
    if rank > n:
        raise ValueError(f"fallback_rank must be at most {n}, the length of b, got {rank}")
    x, report = _core.flexible_cg(
        _as_map(A, n, "A", flat),
        columns,
        start,
        _as_map(precondition, n, "precondition", flat),
        flat,
        kept,
        _validate.check_count(restart, "restart"),
        0 if max_iter is None else _validate.check_count(max_iter, "max_iter"),
        _validate.check_number(rtol, "rtol"),
        _validate.check_number(atol, "atol"),
        _validate.check_count(stall_window, "stall_window", low=0),
        rank,
        draw_seed(random_state),
        _validate.device_name(device),
        thread_count(n_jobs),
    )
    if not report["converged"]:
        warn_not_converged(
            f"{_WHO} stopped after {report['iterations']} steps with a residual of {max(report['residual']):.1e}"
        )
    return FlexibleCgResult(
        x=x[0] if flat else np.ascontiguousarray(x.T),
        converged=report["converged"],
        n_iter=report["iterations"],
        residual_norm=float(report["residual"][0]) if flat else report["residual"],
        energy_decrease=report["decrease"][0] if flat else report["decrease"],
        n_products=report["products"],
        n_fallbacks=report["fallbacks"],
        n_restarts=report["restarts"],
        switched_at=report["switched_at"] if report["switched_at"] >= 0 else None,
        switched_to=report["then"] or None,
    )
