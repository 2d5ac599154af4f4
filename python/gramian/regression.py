"""Least squares as accurate as Householder's QR, by the method that the shape and the condition favour."""

import operator
from dataclasses import dataclass, fields

import numpy as np

from . import _core, _validate
from .base import draw_seed, thread_count

_METHODS = ("auto", "qr", "cholesky", "preconditioned_cholesky", "spir", "fossils", "sketch_and_solve")


@dataclass(frozen=True, eq=False)
class LstsqResult:
    """What `lstsq` found. Two results are equal only if they are the same object.

    Attributes
    ----------
    x : ndarray of shape (d,) or (d, k)
    method : str
        That gave ``x``.
    residual_norm : float or ndarray of shape (k,)
        ``|b - A x|``, column by column.
    backward_error : float or ndarray of shape (k,)
        Estimate of ``|dA|_F / |A|_F`` for the smallest ``dA`` with which ``x`` is exact; about 1e-16 is all that a
        computation in double can reach. 0 only where the residual or its gradient is exactly zero.
    iterations : int
        Readings of ``A``.
    rank : int
        Singular values of ``A`` above ``rtol`` times the largest.
    condition : float
        Estimated, with the columns of ``A`` scaled to equal length (of the singular values in use where the rank is
        below d).
    sketch_rows : int
        Rows of the sketch, 0 where none was made.
    why : str
        Why this method: chosen, asked for, or fallen back to, and from what; and whether the sketch was drawn anew.
    """

    x: np.ndarray
    method: str
    residual_norm: object
    backward_error: object
    iterations: int
    rank: int
    condition: float
    sketch_rows: int
    why: str


@dataclass(frozen=True)
class LstsqSpeeds:
    """What a machine does in a second; what the choice of a method counts on.

    Attributes
    ----------
    flops64, flops32 : float
        Operations of matrix products in float64 and float32.
    qr_flops : float
        Operations of Householder's QR of a tall matrix.
    small_flops : float
        Operations of a factorisation of one small matrix.
    bandwidth : float
        Bytes read.
    """

    flops64: float
    flops32: float
    qr_flops: float
    small_flops: float
    bandwidth: float

    @classmethod
    def default(cls):
        """Fixed figures of two server cores, the same in every run."""
        return cls(**_core.default_lstsq_speeds())

    @classmethod
    def measure(cls, *, device="cpu", n_jobs=None):
        """Of this machine, in about half a second."""
        return cls(**_core.measure_lstsq_speeds(_validate.device_name(device), thread_count(n_jobs)))


@dataclass(frozen=True)
class LstsqPlan:
    """Which method `lstsq` would take, and what all of them would cost. Prints as a table.

    Attributes
    ----------
    method : str
    seconds : float
        Expected.
    costs : list of dict
        For each method its ``seconds`` (infinite where it does not apply), ``readings`` of ``A``, ``flops`` and whether
        products are made in float32 (``single``).
    """

    method: str
    seconds: float
    costs: list

    def __hash__(self):
        return hash((self.method, self.seconds))

    def __str__(self):
        lines = [f"{'method':<25}{'seconds':>10}{'readings':>10}{'Gflop':>10}"]
        for cost in self.costs:
            name = cost["method"] + (" (float32)" if cost["method"] == "cholesky" and cost["single"] else "")
            chosen = " <-" if (cost["method"], cost["seconds"]) == (self.method, self.seconds) else ""
            if not np.isfinite(cost["seconds"]):
                lines.append(f"{name:<25}{'-':>10}{'-':>10}{'-':>10}")
                continue
            lines.append(
                f"{name:<25}{cost['seconds']:>10.3g}{cost['readings']:>10.0f}{cost['flops'] / 1e9:>10.3g}{chosen}"
            )
        return "\n".join(lines)


def _speeds_in(speeds):
    if speeds is None:
        return None
    if not isinstance(speeds, LstsqSpeeds):
        raise TypeError(f"speeds must be None or an LstsqSpeeds, got {type(speeds).__name__}")
    return {field.name: _validate.check_number(getattr(speeds, field.name), field.name) for field in fields(speeds)}


# No array is larger, and products of two still fit 64 bits on the way.
_MOST = 2**40


def _check_size(value, name, low=1):
    count = _validate.check_count(value, name, low)
    if count > _MOST:
        raise ValueError(f"{name} must be at most 2**40, got {value}")
    return count


def lstsq_plan(n, d, k=1, *, condition=None, dtype="float64", density=None, rows=True, speeds=None):
    """The choice that `lstsq` makes for a matrix of this shape and condition, without a problem.

    `lstsq` itself looks at some rows for a hint of the condition, and turns to another method where its choice does not
    reach the accuracy of QR.

    Parameters
    ----------
    n, d, k : int
        ``A`` is n x d with n >= d, ``b`` has k columns.
    condition : float, default=None
        Of ``A`` with columns of equal length. None: not known, so that "cholesky" is out.
    dtype : {"float64", "float32"}, default="float64"
        Of ``A``.
    density : float, default=None
        Share of the entries that a sparse ``A`` stores, at most 1; None for a dense one.
    rows : bool, default=True
        False for a linear operator. One with n <= 24 d is planned as `lstsq` solves it: as the matrix that its products
        form.
    speeds : LstsqSpeeds, default=None
        None for `LstsqSpeeds.default()`.

    Returns
    -------
    LstsqPlan

    Examples
    --------
    >>> from gramian import lstsq_plan
    >>> lstsq_plan(200_000, 500, condition=10.0).method, lstsq_plan(200_000, 500, condition=1e9).method
    ('cholesky', 'preconditioned_cholesky')
    """
    n, d, k = (_check_size(value, name) for value, name in ((n, "n"), (d, "d"), (k, "k")))
    if n < d:
        raise ValueError(f"n must be at least d, got n={n} and d={d}; fewer rows than columns are solved by QR")
    condition = 0.0 if condition is None else _validate.check_number(condition, "condition", low=1.0)
    density = None if density is None else _validate.check_number(density, "density")
    if density is not None and density > 1:
        raise ValueError(f"density must lie between 0 and 1, got {density!r}")
    stored = -1.0 if density is None else density * n * d
    single = _validate.product_dtype(dtype) == "float32"
    choice, costs = _core.lstsq_plan(n, d, k, 4 if single else 8, stored, bool(rows), condition, _speeds_in(speeds))
    return LstsqPlan(choice["method"], choice["seconds"], costs)


def _is_operator(A):
    return not isinstance(A, np.ndarray) and hasattr(A, "matvec") and hasattr(A, "rmatvec") and hasattr(A, "shape")


def _operator_shape(A):
    """(n, d) of a linear operator."""
    try:
        n, d = (operator.index(side) for side in A.shape)
    except (TypeError, ValueError):
        raise ValueError(f"A.shape must be two integers, got {A.shape!r}") from None
    return _check_size(n, "A.shape[0]"), _check_size(d, "A.shape[1]")


def _refuse_complex_operator(A, name="A"):
    """By its dtype, where it has one; what others call a dtype says nothing."""
    try:
        dtype = np.dtype(getattr(A, "dtype", None) or np.float64)
    except TypeError:
        return
    if dtype.kind == "c":
        raise TypeError(f"{name} must have real entries, not complex ones: its dtype is {dtype}")


def _product(function, name, X, rows):
    """What a method of a linear operator returns, as float64 of shape (rows,) + X.shape[1:]."""
    values = np.asarray(function(X))
    if values.dtype.kind == "c":
        raise TypeError(f"{name} must return real numbers, not complex ones")
    shape = (rows, *X.shape[1:])
    # A vector may come as a column.
    if values.shape != shape and not (X.ndim == 1 and values.size == rows):
        raise ValueError(f"{name} must give an array of shape {shape}, got {values.shape}")
    try:
        return values.reshape(shape).astype(np.float64, copy=False)
    except (TypeError, ValueError):
        raise TypeError(f"{name} must give an array of numbers, got dtype {values.dtype}") from None


def _products(A, single, several, rows, name="A"):
    """A function of an array of k columns from the methods of a linear operator, by columns where it knows no more."""
    many = getattr(A, several, None)
    if many is not None:
        return lambda X: _product(many, f"{name}.{several}", X, rows)
    one = getattr(A, single)
    return lambda X: np.stack([_product(one, f"{name}.{single}", column, rows) for column in X.T], axis=1)


def _right_hand_sides(b, who="lstsq"):
    """b as columns, and whether it had one dimension."""
    if b is None:
        raise ValueError(f"b is None: {who} needs an array of shape (n,) or (n, k)")
    b = b.toarray() if _validate.is_sparse(b) else np.asarray(b)
    if b.ndim not in (1, 2):
        raise ValueError(f"b must have 1 or 2 dimensions, got an array of shape {b.shape}")
    b = _validate.readable(b, "b")
    if b.ndim == 2 and b.shape[1] == 0:
        raise ValueError("b has no columns")
    return _validate.as_columns(b), b.ndim == 1


def lstsq(
    A,
    b,
    *,
    method="auto",
    ridge=0.0,
    rtol=None,
    sketch_rows=None,
    inner_steps=None,
    speeds=None,
    device="cpu",
    n_jobs=None,
    random_state=0,
):
    """Minimises ``|A x - b|^2 + ridge |x|^2``.

    Parameters
    ----------
    A : array-like, CSR matrix or linear operator of shape (n, d)
        Finite. CSR and row-major float32 and float64 are read in place; other layouts are copied once. A linear
        operator has ``shape``, ``matvec`` and ``rmatvec`` (and ``matmat``, ``rmatmat`` if it can), as scipy's have.
    b : array-like of shape (n,) or (n, k)
        Copied: ``b`` and the residual take 16 bytes an entry.
    method : str, default="auto"
        "qr": the triangle of ``[A b]``, block by block. "cholesky": Cholesky factor of ``A'A`` and refinement, for a
        condition up to about 1e7. "preconditioned_cholesky": the same with ``A R^-1``, R from a sketch; any condition.
        "spir" and "fossils": conjugate gradients and momentum with the sketch as a preconditioner, restarted once.
        "sketch_and_solve": the sketched problem alone, two or three digits. "auto": the cheapest accurate one by a cost
        model (`lstsq_plan`); where that does not reach the accuracy of QR, the next. A sketch that has lost rank which
        ``A`` has is drawn anew with twice the rows, at most three times.
    ridge : float, default=0.0
    rtol : float, default=None
        Singular values of ``A`` up to ``rtol`` times the largest count as zero; where there are such, or n < d, ``x``
        has least norm. None for 8 eps, or 32 eps beyond 25 columns, which keeps conditions of 1e14. Where a solution
        leaves a residual longer than ``b``, ``rtol`` was too small for the matrix: it is raised, and ``why`` says so.
    sketch_rows : int, default=None
        At least d; None for 12 d ("preconditioned_cholesky": 4 d).
    inner_steps : int, default=None
        Of "spir" and "fossils" in each round; None for as many as the sketch needs (18 for 12 d rows).
    speeds : LstsqSpeeds, default=None
        What the choice counts on; None for fixed figures, so that every run chooses alike.
    device : str, default="cpu"
        "cpu", "cuda" or "cuda:1".
    n_jobs : int, default=None
        Threads; None for the library's default, -1 for all processors. The result is the same bits for any number.
    random_state : int, RandomState, Generator or None, default=0
        Seeds the sketch.

    Returns
    -------
    LstsqResult
        ``x`` is float64 also for a float32 ``A``: its residuals are made in double.

    Raises
    ------
    ValueError
        Shapes that do not fit; NaN or infinity (names the first such row of ``A`` or ``b``); an ``rmatvec`` that is not
        the adjoint of ``matvec``, to single precision.
    TypeError
        A linear operator that is complex, or returns complex numbers or no numbers.
    numpy.linalg.LinAlgError
        A method that was asked for breaks down, or no method solves the problem: the backward error stays above 1e-13
        ("sketch_and_solve" apart), ``rtol`` cuts through the singular values of a linear operator, or the solution
        leaves the range of float64.

    Notes
    -----
    Flops: "qr" 2 n d^2, "cholesky" n d^2 (float32 products where the condition is below about 300),
    "preconditioned_cholesky" 2 n d^2 (half in float32) and four or five readings of ``A``, "spir" and "fossils" about
    40 readings. Memory beside ``A``: blocks of rows, the sketch, some d x d matrices, and 16 bytes for each entry of
    ``b``; a linear operator with n <= 24 d, or with a method that needs rows, is formed, 8 n d bytes. Any scale of
    ``A``, of each column of ``b`` and of ``ridge`` is as good as another: the last two are brought near 1 by powers of
    two, and ``A`` (in a copy) where its norm lies outside 1e-60 .. 1e60. After "Fast randomized
    least-squares solvers can be just as accurate and stable as classical direct solvers" (SPIR, FOSSILS), with the
    outer corrections of that paper around every preconditioner.

    Examples
    --------
    >>> import numpy as np
    >>> from gramian import lstsq
    >>> A = np.vander(np.linspace(0, 1, 50), 4, increasing=True)
    >>> result = lstsq(A, A @ [1.0, -2.0, 0.0, 3.0])
    >>> result.x.round(9) + 0.0, result.method
    (array([ 1., -2.,  0.,  3.]), 'cholesky')
    """
    if method not in _METHODS:
        raise ValueError(f"method must be one of {', '.join(_METHODS)}, got {method!r}")
    right, flat = _right_hand_sides(b)
    options = {
        "method": method,
        "ridge": _validate.check_number(ridge, "ridge"),
        "rtol": -1.0 if rtol is None else _validate.check_number(rtol, "rtol"),
        "seed": draw_seed(random_state),
        "sketch_rows": 0 if sketch_rows is None else _check_size(sketch_rows, "sketch_rows"),
        "inner_steps": 0 if inner_steps is None else min(_validate.check_count(inner_steps, "inner_steps"), 10**6),
        "speeds": _speeds_in(speeds),
    }
    device, threads = _validate.device_name(device), thread_count(n_jobs)
    if _is_operator(A):
        n, d = _operator_shape(A)
        _refuse_complex_operator(A)
        _check_rows_of_b(right, n)
        apply, adjoint = _products(A, "matvec", "matmat", n), _products(A, "rmatvec", "rmatmat", d)
        out = _core.lstsq_map(n, d, apply, adjoint, right, options, device, threads)
    else:
        rows = _validate.check_rows(A, "lstsq", name="A")
        _check_rows_of_b(right, rows.shape[0])
        out = _core.lstsq(rows, right, options, device, threads)

    def columns(values):
        return float(values[0]) if flat else values

    return LstsqResult(
        x=out["x"][:, 0] if flat else out["x"],
        method=out["method"],
        residual_norm=columns(out["residual_norms"]),
        backward_error=columns(out["backward_errors"]),
        iterations=out["iterations"],
        rank=out["rank"],
        condition=out["condition"],
        sketch_rows=out["sketch_rows"],
        why=out["why"],
    )


def _check_rows_of_b(right, n):
    if right.shape[0] != n:
        raise ValueError(f"A has {n} rows, but b has {right.shape[0]}")


_FAMILIES = ("srht", "hdhd", "gaussian", "rademacher", "sparse_sign", "count_sketch", "dct")


@dataclass(frozen=True)
class LinfResult:
    """What `linf_lstsq` found.

    Attributes
    ----------
    x : ndarray of shape (d,) or (d, k)
    bound : float or ndarray of shape (k,)
        Of ``max |x - x*|``, certified after the fact: the largest of ``bounds``.
    bounds : ndarray of the shape of x
        Of ``|x - x*|``, coordinate by coordinate, rounding included; all but for a chance of about 1e-3. Infinite where
        an exact solution is not determined by the data to within rounding (the rank is below d, or nearly).
    target : float or ndarray of shape (k,)
        ``eps / sqrt(d) |r| |A^+|``, what was promised beforehand with probability 1 - delta; ``|r|`` and ``|A^+|`` as
        the sketch gives them.
    residual_norm : float or ndarray of shape (k,)
    n_rows : int
        Rows of the sketch; 0 where there was none.
    family : str
    exact : bool
        Solved without a sketch.
    redraws : int
        Sketches that were thrown away because they had lost rank.
    rank : int
    why : str
        Of the number of rows, or of the exact solution.
    """

    x: np.ndarray
    bound: object
    bounds: np.ndarray
    target: object
    residual_norm: object
    n_rows: int
    family: str
    exact: bool
    redraws: int
    rank: int
    why: str


def _between_zero_and_one(value, name):
    number = _validate.check_number(value, name, strict=True)
    if number >= 1:
        raise ValueError(f"{name} must lie between 0 and 1, got {value!r}")
    return number


def linf_rows(n, d, eps=0.5, delta=0.05, rows="calibrated"):
    """Rows that a sketch needs so that every coordinate of the solution is right with probability 1 - delta.

    Parameters
    ----------
    n, d : int
    eps, delta : float
        Between 0 and 1.
    rows : {"calibrated", "theorem"}, default="calibrated"
        As in `linf_lstsq`.

    Returns
    -------
    int

    Examples
    --------
    >>> from gramian import linf_rows
    >>> linf_rows(8192, 64), linf_rows(8192, 64, rows="theorem")
    (2959, 443104)
    """
    n, d = _validate.check_count(n, "n"), _validate.check_count(d, "d")
    return _core.linf_rows(
        _check_rule(rows), n, d, _between_zero_and_one(eps, "eps"), _between_zero_and_one(delta, "delta")
    )


def _check_rule(rows):
    if not isinstance(rows, str) or rows not in ("calibrated", "theorem"):
        raise ValueError(f"rows must be 'calibrated', 'theorem' or an integer, got {rows!r}")
    return rows


def linf_lstsq(
    A,
    b,
    eps=0.5,
    delta=0.05,
    *,
    rows="calibrated",
    family="srht",
    permute=True,
    nnz=8,
    rtol=1e-12,
    redraws=3,
    device="cpu",
    n_jobs=None,
    random_state=0,
):
    """Least squares from a sketch, each coordinate within ``eps / sqrt(d) |r| |A^+|`` with probability 1 - delta.

    After the sketch is solved, one more reading of ``A`` bounds the error that was actually made (`LinfResult.bound`).

    Parameters
    ----------
    A : array-like or CSR matrix of shape (n, d)
        Finite, n >= d.
    b : array-like of shape (n,) or (n, k)
        With several columns the promise holds for all of them together.
    eps, delta : float, default=0.5, 0.05
        Between 0 and 1.
    rows : {"calibrated", "theorem"} or int, default="calibrated"
        Rows of the sketch. "theorem": eps^-2 d ln^3(n / delta), with the constant 1 in front; more than n for most
        problems, which are then solved exactly. "calibrated": the fewest rows with which the exact law of a Gaussian
        sketch keeps the promise; some 150 times fewer.
    family : str, default="srht"
        "srht", "hdhd", "gaussian", "rademacher" keep the promise. "sparse_sign" and "count_sketch" are there to
        compare: on matrices with a few large rows they break it.
    permute : bool, default=True
        Whether "srht" puts the rows into a random order first. Without it, matrices such as ``[I; 0]`` lose rank.
    nnz : int, default=8
        Entries a column of "sparse_sign".
    rtol : float, default=1e-12
        A sketch whose columns, scaled to equal length, have a smallest singular value below ``rtol`` times the largest
        is thrown away, never solved.
    redraws : int, default=3
        New sketches after that, of twice the rows each, before ``A`` itself is solved.
    device, n_jobs
        As in `lstsq`.
    random_state : int, RandomState, Generator or None, default=0

    Returns
    -------
    LinfResult

    Raises
    ------
    ValueError
        Shapes that do not fit; NaN or infinity (names the row); ``eps`` or ``delta`` out of range.

    Notes
    -----
    Sketching, 2 m (d + k)^2 flops and one reading of ``A``; for "sparse_sign", "count_sketch", "dct" and "srht" without
    ``permute`` a second, dense sketch, which certifies what they have found. Where the sketch would have as many rows
    as ``A``, or ``n`` is below ``4 d / eps^2``, the problem is solved exactly, and ``why`` says so. Columns whose
    values are beyond 2^+-150 are divided by powers of two, in a dense float64 copy.

    Memory beside ``A``: the sketch, two float64 arrays of n x k, and for "srht" and "hdhd" the rows while they are
    transformed: ``N d`` float64 values with N the power of two at or above n, but no more than 512 MiB (or 64 columns,
    if those are more), and some 50 bytes for each of the N; a CSR ``A`` is also made dense for them, in float64. The
    other families take blocks of rows.

    Method of the paper "A Nearly-Optimal Bound for Fast Regression with l_infinity Guarantee"; the calibrated rule and
    the certificate are this library's.

    Examples
    --------
    >>> import numpy as np
    >>> from gramian import linf_lstsq
    >>> rng = np.random.default_rng(0)
    >>> A = rng.normal(size=(20000, 10))
    >>> b = A @ np.ones(10) + rng.normal(size=20000)
    >>> result = linf_lstsq(A, b, eps=0.5, delta=0.05)
    >>> result.n_rows, bool(abs(result.x - np.linalg.lstsq(A, b, rcond=None)[0]).max() <= result.bound)
    (329, True)
    """
    if family not in _FAMILIES:
        raise ValueError(f"family must be one of {', '.join(_FAMILIES)}, got {family!r}")
    right, flat = _right_hand_sides(b, "linf_lstsq")
    if _is_operator(A):
        raise TypeError("linf_lstsq reads the rows of A: an array or a CSR matrix, not a linear operator (see lstsq)")
    matrix = _validate.check_rows(A, "linf_lstsq", name="A")
    _check_rows_of_b(right, matrix.shape[0])
    number = isinstance(rows, (int, np.integer)) and not isinstance(rows, (bool, np.bool_))
    options = {
        "eps": _between_zero_and_one(eps, "eps"),
        "delta": _between_zero_and_one(delta, "delta"),
        "rule": "calibrated" if number else _check_rule(rows),
        "n_rows": _validate.check_count(rows, "rows") if number else 0,
        "family": family,
        "permute": bool(permute),
        "nnz": _validate.check_count(nnz, "nnz"),
        "rtol": _between_zero_and_one(rtol, "rtol"),
        "redraws": min(_validate.check_count(redraws, "redraws", low=0), 64),
        "seed": draw_seed(random_state),
    }
    out = _core.linf_lstsq(matrix, right, options, _validate.device_name(device), thread_count(n_jobs))

    def columns(values):
        return float(values[0]) if flat else values

    return LinfResult(
        x=out["x"][:, 0] if flat else out["x"],
        bound=columns(out["bounds"].max(axis=0)),
        bounds=out["bounds"][:, 0] if flat else out["bounds"],
        target=columns(out["targets"]),
        residual_norm=columns(out["residual_norms"]),
        n_rows=out["n_rows"],
        family=family,
        exact=out["exact"],
        redraws=out["redraws"],
        rank=out["rank"],
        why=out["why"],
    )
