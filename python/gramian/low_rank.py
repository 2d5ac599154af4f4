"""Low-rank approximations that say how good they are: randomized SVD, Nystrom, frequent directions."""

import os
from dataclasses import dataclass

import numpy as np

from . import _core, _validate
from .base import draw_seed, thread_count, warn_not_converged
from .iterate import _as_map
from .regression import _is_operator, _products, _refuse_complex_operator

_METHODS = ("krylov", "subspace")
_NARROW = frozenset("float16 float32 bool uint8 int16".split())
# Beyond it a preconditioner costs more than the steps it saves.
_MOST_PCG_RANK = 512


@dataclass(frozen=True, eq=False)
class SvdResult:
    """What `randomized_svd` found; ``U, s, Vt = result`` takes the triplets alone.

    Attributes
    ----------
    U : ndarray of shape (n, k)
        Orthonormal columns.
    s : ndarray of shape (k,)
        Descending; never more than the true ones, up to rounding.
    Vt : ndarray of shape (k, d)
        Orthonormal rows. The entry of largest magnitude of each row (the first of equals) is positive.
    error : float
        ``|A - U diag(s) Vt|_2`` is at most this, with probability ``1 - 1e-10``.
    frobenius_error : float or None
        ``|A - U diag(s) Vt|_F`` is at most this, without chance; None for a linear operator. With ``center`` it is
        ``A - mean``, here and above, with `mean` as it stands in the result.
    norm : float
        ``|A|_F``; an estimate for a linear operator. With ``center`` that of the centred matrix.
    rank : int
        Singular values above rounding. The vectors behind are orthonormal all the same.
    converged : bool
        Whether the tolerance was reached.
    passes : int
        Products with ``A`` or ``A'``.
    basis : int
        Columns of the basis the triplets were taken from.
    mean : ndarray of shape (d,) or None
        What was subtracted from each row.
    why : {"rank", "tolerance", "limit", "full"}
        What ended it: the steps that a fixed rank takes, the tolerance, `rank` as a limit, or a basis of the whole
        space.
    """

    U: np.ndarray
    s: np.ndarray
    Vt: np.ndarray
    error: float
    frobenius_error: object
    norm: float
    rank: int
    converged: bool
    passes: int
    basis: int
    mean: object
    why: str

    def __iter__(self):
        return iter((self.U, self.s, self.Vt))


def _tolerances(tol, rtol):
    rtol = 0.0 if rtol is None else _validate.check_number(rtol, "rtol")
    if rtol >= 1:
        raise ValueError(f"rtol must be below 1, got {rtol!r}")
    return 0.0 if tol is None else _validate.check_number(tol, "tol"), rtol


def randomized_svd(
    A,
    rank=None,
    *,
    tol=None,
    rtol=None,
    method="krylov",
    power_iterations=None,
    oversampling=10,
    block=32,
    center=False,
    certificate_powers=None,
    n_probes=10,
    random_state=0,
    device="cpu",
    n_jobs=None,
):
    """Leading singular triplets of a large matrix from a few readings, with a proven bound of the error.

    Parameters
    ----------
    A : array-like or CSR matrix of shape (n, d), or LinearOperator
        Real. float32 (and narrower) is multiplied in float32, everything else in float64; dense arrays of C or Fortran
        order are read where they are. A linear operator needs ``shape``, ``matvec`` and ``rmatvec`` (``matmat`` and
        ``rmatmat`` are used where they are there).
    rank : int, default=None
        Triplets to find, at most ``min(n, d)``. With a tolerance: at most as many.
    tol, rtol : float, default=None
        The basis grows until ``|A - U diag(s) Vt|_2`` is proven to be at most `tol`, or `rtol` times ``|A|_2`` (the
        larger of the two); then all triplets that the tolerance can do without are dropped.
    method : {"krylov", "subspace"}, default="krylov"
        "krylov" keeps the blocks of all steps; "subspace" the last one alone, with less memory and more readings.
    power_iterations : int, default=None
        Steps after the first; each is a product with ``A'`` and one with ``A``. None: 2, or 4 for "subspace".
        Not used with a tolerance, which goes on until it is reached.
    oversampling : int, default=10
        Columns of a block beyond `rank`.
    block : int, default=32
        Columns of a block with a tolerance.
    center : bool, default=False
        Decompose ``A - A.mean(axis=0)``, which is never formed: principal components of sparse rows stay sparse.
    certificate_powers : int, default=None
        The error is bounded through this power of ``E'E``, at two readings for `n_probes` columns each. 0 saves them
        and gives a bound that a slowly falling spectrum makes up to a hundred times larger. None: 1, or 3 with a
        tolerance.
    n_probes : int, default=10
        Gaussian vectors that the certificate rests on. More of them make the bound sharper.
    random_state : int, RandomState, Generator or None, default=0
    device : str, default="cpu"
    n_jobs : int, default=None

    Returns
    -------
    SvdResult

    Raises
    ------
    ValueError
        NaN or infinity (names the row), complex entries, `rank` above ``min(n, d)``, neither rank nor tolerance; a sum
        of squares beyond float64; a linear operator whose ``rmatvec`` is not the adjoint of its ``matvec``.

    Warns
    -----
    ConvergenceWarning
        Where `rank` or rounding kept the tolerance from being reached; ``result.error`` is then what was.

    Notes
    -----
    A product takes 2 n d b flops and one reading of ``A`` for b columns (``rank + oversampling``, or `block`); memory
    is (n + d) times the columns of the basis, and 16 bytes an entry for the transpose of a CSR matrix. The bits depend
    on the seed alone, not on the number of threads. float32 cannot be certified below some ``sqrt(d) 1e-6 |A|_F``.
    Sources: "Finding structure with randomness: probabilistic algorithms for constructing approximate matrix
    decompositions" for the method and the probes, "Randomized block Krylov methods for stronger and faster approximate
    singular value decomposition" for the basis.

    Examples
    --------
    >>> import numpy as np
    >>> from gramian import randomized_svd
    >>> rng = np.random.default_rng(0)
    >>> A = rng.normal(size=(2000, 300)) * 0.9 ** np.arange(300)
    >>> U, s, Vt = found = randomized_svd(A, 20)
    >>> bool(np.linalg.norm(A - U * s @ Vt, 2) <= found.error), found.why
    (True, 'rank')
    >>> randomized_svd(A, rtol=0.01).converged
    True
    """
    if method not in _METHODS:
        raise ValueError(f"method must be one of {', '.join(_METHODS)}, got {method!r}")
    tol, rtol = _tolerances(tol, rtol)
    adaptive = tol > 0 or rtol > 0
    if rank is None and not adaptive:
        raise ValueError("rank, tol or rtol is needed (tol and rtol above 0)")
    if adaptive and method == "subspace":
        raise ValueError("method 'subspace' needs a rank without a tolerance")
    operator = _is_operator(A) and not _validate.is_sparse(A)
    if operator:
        _refuse_complex_operator(A)
    rows = None if operator else _validate.check_rows(A, "randomized_svd", name="A")
    n, d = (int(side) for side in (A if operator else rows).shape)
    if rank is not None and _validate.check_count(rank, "rank") > min(n, d):
        raise ValueError(f"rank must be at most {min(n, d)}, the smaller side of A, got {rank}")
    options = {
        "rank": 0 if rank is None else int(rank),
        "tol": tol,
        "rtol": rtol,
        "power_iterations": -1
        if power_iterations is None
        else min(_validate.check_count(power_iterations, "power_iterations", low=0), 10_000),
        "oversampling": _validate.check_count(oversampling, "oversampling", low=0),
        "block": _validate.check_count(block, "block"),
        "krylov": method == "krylov",
        "centre": bool(center),
        "probes": min(_validate.check_count(n_probes, "n_probes"), 1000),
        "certificate_powers": (3 if adaptive else 1)
        if certificate_powers is None
        else min(_validate.check_count(certificate_powers, "certificate_powers", low=0), 100),
        "seed": draw_seed(random_state),
    }
    where = (_validate.device_name(device), thread_count(n_jobs))
    if operator:
        out = _core.randomized_svd_map(
            n, d, _products(A, "matvec", "matmat", n), _products(A, "rmatvec", "rmatmat", d), options, *where
        )
    else:
        out = _core.randomized_svd(rows, rows.dtype.name in _NARROW, options, *where)
    if not out["converged"]:
        warn_not_converged(
            f"randomized_svd stopped at rank {len(out['s'])} with a proven error of {out['error']:.2g}, above the "
            "tolerance"
        )
    return SvdResult(
        U=out["U"],
        s=out["s"],
        Vt=out["Vt"],
        error=out["error"],
        frobenius_error=None if np.isnan(out["frobenius_error"]) else out["frobenius_error"],
        norm=out["norm"],
        rank=out["rank"],
        converged=out["converged"],
        passes=out["passes"],
        basis=out["basis"],
        mean=out["mean"] if center else None,
        why=out["why"],
    )


@dataclass(frozen=True, eq=False)
class NystromResult:
    """What `nystrom` found: ``K`` is nearly ``(U * eigenvalues) @ U.T``.

    Attributes
    ----------
    U : ndarray of shape (n, k)
        Orthonormal columns.
    eigenvalues : ndarray of shape (k,)
        Descending, above rounding; never more than those of ``K``, up to rounding.
    error : float
        ``|K - U diag(eigenvalues) U'|_2`` is at most this, with probability ``1 - 1e-10``.
    products : int
        Vectors that ``K`` was applied to.
    converged : bool
        Whether the tolerance was reached.
    why : {"rank", "tolerance", "limit", "full"}
    """

    U: np.ndarray
    eigenvalues: np.ndarray
    error: float
    products: int
    converged: bool
    why: str


def _unit_of(K):
    """Relative rounding of the entries of K."""
    dtype = getattr(K, "dtype", None)
    narrow = dtype is not None and np.dtype(dtype).name in ("float16", "float32")
    return float(np.finfo(dtype if narrow else np.float64).eps)


def _symmetric(K, n, flat, who):
    """K as rows that were looked at, or as a function."""
    if hasattr(K, "matvec") and not _validate.is_sparse(K) and not isinstance(K, np.ndarray):
        if tuple(K.shape) != (n, n):
            raise ValueError(f"K has the shape {tuple(K.shape)}, expected {(n, n)}")
        _refuse_complex_operator(K, "K")
        return K.matvec if flat else _products(K, "matvec", "matmat", n, "K")
    found = _as_map(K, n, "K", flat)
    if not callable(found):
        _validate.check_finite(found, "K")
    return found


def _ranks(rank, max_rank, n):
    rank = 0 if rank is None else _validate.check_count(rank, "rank")
    most = 0 if max_rank is None else _validate.check_count(max_rank, "max_rank")
    if rank > n:
        raise ValueError(f"rank must be at most {n}, the size of K, got {rank}")
    return rank, most


def nystrom(K, rank=None, *, tol=None, rtol=None, max_rank=None, random_state=0, device="cpu", n_jobs=None):
    """Low-rank approximation of a positive semi-definite matrix from as few products, never above it.

    Parameters
    ----------
    K : array-like or CSR matrix of shape (n, n), or LinearOperator
        Symmetric positive semi-definite.
    rank : int, default=None
        Random test vectors, and so the rank. None: doubled from 16 until the tolerance is met.
    tol, rtol : float, default=None
        Proven spectral error to reach, absolute or in units of the largest eigenvalue (the larger of the two); what the
        tolerance can do without is dropped at the end.
    max_rank : int, default=None
        Test vectors at most; n for None.
    random_state : int, RandomState, Generator or None, default=0
    device : str, default="cpu"
    n_jobs : int, default=None

    Returns
    -------
    NystromResult

    Raises
    ------
    numpy.linalg.LinAlgError
        ``K`` has negative curvature: in the random subspace, or along the products with which the error is bounded. A
        negative eigenvalue that hides from both is part of ``error``.
    ValueError
        Not square or not symmetric; NaN or infinity (names the row).

    Notes
    -----
    ``rank + 20`` products with ``K`` (each time it is doubled, 20 more) and 6 n rank^2 flops; 16 n rank bytes, and for
    a dense ``K`` 16 n^2 to see whether it is symmetric. All arithmetic is float64. The shifted form of "Fixed-rank
    approximation of a positive-semidefinite matrix from streaming data": the approximation is positive semi-definite by
    construction.

    Examples
    --------
    >>> import numpy as np
    >>> from gramian import nystrom
    >>> x = np.linspace(0, 1, 400)
    >>> K = np.exp(-((x[:, None] - x) ** 2) / 0.1)
    >>> found = nystrom(K, rtol=1e-6)
    >>> found.converged, bool(np.linalg.norm(K - found.U * found.eigenvalues @ found.U.T, 2) <= found.error)
    (True, True)
    """
    shape = getattr(K, "shape", None)
    if shape is None:
        K = np.asarray(K)
        shape = K.shape
    if len(shape) != 2 or shape[0] != shape[1] or shape[0] == 0:
        raise ValueError(f"K must be square and not empty, got the shape {tuple(shape)}")
    n = int(shape[0])
    tol, rtol = _tolerances(tol, rtol)
    rank, most = _ranks(rank, max_rank, n)
    if rank and (tol > 0 or rtol > 0):
        raise ValueError("give a rank, or a tolerance with max_rank")
    if not rank and tol <= 0 and rtol <= 0:
        raise ValueError("rank, tol or rtol is needed (tol and rtol above 0)")
    options = {
        "rank": rank,
        "max_rank": most,
        "tol": tol,
        "rtol": rtol,
        "unit": _unit_of(K),
        "seed": draw_seed(random_state),
    }
    out = _core.nystrom(
        _symmetric(K, n, False, "nystrom"), n, options, _validate.device_name(device), thread_count(n_jobs)
    )
    if not out["converged"]:
        warn_not_converged(f"nystrom stopped at rank {len(out['U'])} with a proven error of {out['error']:.2g}")
    return NystromResult(
        U=out["U"].T,
        eigenvalues=out["eigenvalues"],
        error=out["error"],
        products=out["products"],
        converged=out["converged"],
        why=out["why"],
    )


@dataclass(frozen=True, eq=False)
class NystromPcgResult:
    """What `nystrom_pcg` found and how.

    Attributes
    ----------
    x : ndarray of the shape of b
    converged : bool
    n_iter : int
    residual_norm : float or ndarray of shape (k,)
        ``|b - (K + mu I) x|``, computed from x at the end.
    rank : int
        Of the preconditioner; 0 where there was none.
    preconditioned : bool
        False: the spectrum is too flat for the preconditioner to help, and plain conjugate gradients ran.
    condition : float
        Of the system that was iterated on, at most, with probability ``1 - 1e-10``, if ``K`` is positive semi-definite:
        an eigenvalue below 0 that no product shows, which ``mu`` makes up for, is not in it.
    smallest_eigenvalue : float
        That the approximation reaches down to; what matters is how it compares to ``mu``.
    n_products : int
        Vectors that ``K`` was applied to, those for the preconditioner counted.
    """

    x: np.ndarray
    converged: bool
    n_iter: int
    residual_norm: object
    rank: int
    preconditioned: bool
    condition: float
    smallest_eigenvalue: float
    n_products: int


def nystrom_pcg(
    K,
    b,
    mu,
    *,
    rank=None,
    max_rank=None,
    rtol=1e-10,
    atol=0.0,
    max_iter=None,
    random_state=0,
    device="cpu",
    n_jobs=None,
):
    """Solves the ridge system ``(K + mu I) x = b`` by conjugate gradients with a Nystrom preconditioner.

    Parameters
    ----------
    K : array-like or CSR matrix of shape (n, n), LinearOperator or callable
        Symmetric positive semi-definite. A callable receives a vector of shape (n,) where b has one dimension, else
        (n, k), and returns the product.
    b : array-like of shape (n,) or (n, k)
    mu : float
        Above 0.
    rank : int, default=None
        Of the preconditioner. None: doubled until its smallest eigenvalue is at most ``10 mu``.
    max_rank : int, default=None
        ``min(512, max(1, n // 2))`` for None.
    rtol, atol : float
        Stop at ``|b - (K + mu I) x| <= max(rtol |b|, atol)``.
    max_iter : int, default=None
        10 n for None.
    random_state : int, RandomState, Generator or None, default=0
    device : str, default="cpu"
    n_jobs : int, default=None

    Returns
    -------
    NystromPcgResult

    Raises
    ------
    numpy.linalg.LinAlgError
        ``K`` has negative curvature beyond rounding: in the random products, along a direction of the iteration, or
        for a combination of those directions (their lowest Ritz vector), also where ``mu`` makes up for it.

    Notes
    -----
    With a rank of about twice the effective dimension ``tr K (K + mu I)^-1`` the condition is a constant, and so is the
    number of steps. On a slowly falling spectrum no rank reaches far enough: where the smallest eigenvalue is not
    below a tenth of the largest (both plus mu), plain conjugate gradients run and ``preconditioned`` says so.
    Source: "Randomized Nystrom Preconditioning".

    Examples
    --------
    >>> import numpy as np
    >>> from gramian import nystrom_pcg
    >>> x = np.linspace(0, 1, 500)
    >>> K = np.exp(-((x[:, None] - x) ** 2) / 0.05)
    >>> found = nystrom_pcg(K, np.sin(9 * x), mu=1e-4)
    >>> found.converged, found.preconditioned, found.n_iter < 20
    (True, True, True)
    """
    rhs = _validate.readable(np.asarray(b), "b")
    if rhs.ndim not in (1, 2) or rhs.size == 0:
        raise ValueError(f"b must have the shape (n,) or (n, k), got {rhs.shape}")
    if K is None:
        raise ValueError("K is None: a matrix or a function is needed")
    flat = rhs.ndim == 1
    columns = np.ascontiguousarray(np.atleast_2d(rhs.T), dtype=np.float64)
    n = columns.shape[1]
    _validate.check_finite(columns.T, "b")
    rank, most = _ranks(rank, max_rank, n)
    options = {
        "rank": rank,
        "max_rank": most or min(_MOST_PCG_RANK, max(1, n // 2)),
        "tol": 0.0,
        "rtol": 0.0,
        "unit": _unit_of(K),
        "seed": draw_seed(random_state),
    }
    x, report = _core.nystrom_pcg(
        _symmetric(K, n, flat, "nystrom_pcg"),
        columns,
        _validate.check_number(mu, "mu", strict=True),
        flat,
        options,
        0 if max_iter is None else _validate.check_count(max_iter, "max_iter"),
        _validate.check_number(rtol, "rtol"),
        _validate.check_number(atol, "atol"),
        _validate.device_name(device),
        thread_count(n_jobs),
    )
    if not report["converged"]:
        warn_not_converged(
            f"nystrom_pcg stopped after {report['iterations']} steps with a residual of {max(report['residual']):.1e}"
        )
    return NystromPcgResult(
        x=x[0] if flat else np.ascontiguousarray(x.T),
        converged=report["converged"],
        n_iter=report["iterations"],
        residual_norm=float(report["residual"][0]) if flat else report["residual"],
        rank=report["rank"],
        preconditioned=report["preconditioned"],
        condition=report["condition"],
        smallest_eigenvalue=report["smallest"],
        n_products=report["products"],
    )


class FrequentDirections:
    """A few rows that stand for a stream of rows, with a bound that holds always and for any order.

    With ``A`` all rows so far and ``B`` the sketch, ``B'B <= A'A <= B'B + error_bound I``, and for every ``k < ell``
    ``error_bound <= |A - A_k|_F^2 / (ell - k)``, ``A_k`` the best approximation of rank k.

    Parameters
    ----------
    ell : int
        Rows of the sketch, below 2^30.
    device : str, default="cpu"
    n_jobs : int, default=None

    Attributes
    ----------
    B : ndarray of shape (at most ell, n_features)
        The sketch, float64. Of rows of rank below `ell` nothing is lost: then ``B'B = A'A``, up to rounding.
    error_bound : float
        ``|A'A - B'B|_2`` is at most this, up to rounding (some ``eps |A|_F^2`` for each 2 ell rows, less as signs
        alternate): the sum of what the squared singular values were made smaller by. 0 where that is below
        ``1e-12 |A|_F^2``.
    n_features, n_rows : int
    squared_norm : float
        ``|A|_F^2``.
    shed_mass : float
        ``|A|_F^2 - |B|_F^2``; ``ell`` times the error bound is never more, up to rounding.
    nbytes : int

    Notes
    -----
    A row costs some 6 ell d flops on average, memory is 16 ell d bytes. Merging stacks two sketches: the bounds add up,
    and the guarantee holds for all rows of both. The same calls give the same bits for any number of threads.
    Source: "Frequent directions: simple and deterministic matrix sketching".

    Examples
    --------
    >>> import numpy as np
    >>> from gramian import FrequentDirections
    >>> A = np.random.default_rng(0).normal(size=(5000, 30)) * 0.5 ** np.arange(30)
    >>> left, right = FrequentDirections(8).partial_fit(A[:2000]), FrequentDirections(8).partial_fit(A[2000:])
    >>> both = left.merge(right)
    >>> bool(np.linalg.norm(A.T @ A - both.B.T @ both.B, 2) <= both.error_bound), both.n_rows
    (True, 5000)
    """

    __slots__ = ("_core", "_device", "_ell", "_n_jobs", "_shown")

    def __init__(self, ell, *, device="cpu", n_jobs=None):
        self._ell = _validate.check_count(ell, "ell")
        self._device, self._n_jobs = _validate.device_name(device), n_jobs
        thread_count(n_jobs)
        self._core = None  # until the first rows say how wide they are
        self._shown = None

    @property
    def ell(self):
        """Rows of the sketch."""
        return self._ell

    @property
    def n_features(self):
        """Width of the rows; None before the first."""
        return None if self._core is None else self._core.n_features

    @property
    def n_rows(self):
        """Rows that came in."""
        return 0 if self._core is None else self._core.n_rows

    @property
    def squared_norm(self):
        """Sum of squares of all rows."""
        return 0.0 if self._core is None else self._core.squares

    @property
    def shed_mass(self):
        """Sum of squares that the sketch has lost."""
        return 0.0 if self._core is None else self._sketch()[2]

    @property
    def nbytes(self):
        """Bytes of the buffer."""
        return 0 if self._core is None else self._core.nbytes

    def _sketch(self):
        if self._core is None:
            raise ValueError("no rows have come in yet")
        if self._shown is None:
            self._shown = self._core.sketch()
        return self._shown

    @property
    def B(self):
        """The sketch."""
        return self._sketch()[0].copy()

    @property
    def error_bound(self):
        """Bound of the spectral error of ``B'B``."""
        return 0.0 if self._core is None else self._sketch()[1]

    def __repr__(self):
        return f"FrequentDirections({self._ell}, n_features={self.n_features}, n_rows={self.n_rows})"

    def partial_fit(self, X, y=None):
        """Takes more rows.

        Parameters
        ----------
        X : array-like or CSR matrix of shape (n, d)
            Finite.
        y : ignored

        Returns
        -------
        self

        Raises
        ------
        ValueError
            Another width than before; NaN or infinity (names the row). The sketch is then as it was.
        """
        rows = _validate.check_rows(X, "FrequentDirections")
        core = self._core
        if core is None:
            core = _core.FrequentDirections(self._ell, rows.shape[1], self._device, thread_count(self._n_jobs))
        core.add(rows)
        self._core, self._shown = core, None
        return self

    def merge(self, other):
        """Takes the rows of another sketch with the same `ell` and width, which stays as it is. Returns self."""
        if not isinstance(other, FrequentDirections):
            raise TypeError(f"other must be a FrequentDirections, got {type(other).__name__}")
        if other._ell != self._ell:
            raise ValueError(f"a sketch of ell = {other._ell} cannot be merged into one of ell = {self._ell}")
        if other._core is None:
            return self
        core = self._core
        if core is None:
            core = _core.FrequentDirections(self._ell, other.n_features, self._device, thread_count(self._n_jobs))
        core.merge(other._core)
        self._core, self._shown = core, None
        return self

    def save(self, path):
        """Writes the state to a file; ``path`` holds the old file or the whole new one, never a part."""
        if self._core is None:
            raise ValueError("no rows have come in yet")
        self._core.save(os.fsencode(path))

    @classmethod
    def _wrap(cls, core, device, n_jobs):
        self = cls(core.ell, device=device, n_jobs=n_jobs)
        self._core = core
        return self

    @classmethod
    def load(cls, path, *, device="cpu", n_jobs=None):
        """Reads what `save` wrote. Raises FormatError for anything else."""
        device = _validate.device_name(device)
        _validate.check_readable(path)
        return cls._wrap(_core.FrequentDirections.load(os.fsencode(path), device, thread_count(n_jobs)), device, n_jobs)

    def __reduce__(self):
        state = None if self._core is None else self._core.save_bytes()
        return _unpickle, (state, self._ell, self._device, self._n_jobs)


def _unpickle(data, ell, device, n_jobs):
    if data is None:
        return FrequentDirections(ell, device=device, n_jobs=n_jobs)
    core = _core.FrequentDirections.load_bytes(data, device, thread_count(n_jobs))
    return FrequentDirections._wrap(core, device, n_jobs)
