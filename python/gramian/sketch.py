"""Sketches: random linear maps that make many rows few.

A sketch is a matrix S of ``n_out`` rows and ``n_in`` columns that is never stored: every entry is a function of the
seed and of its own place, the same bits on every machine and for every number of threads. ``E[S'S] = I``, so ``S @ A``
has, up to a distortion that falls with ``n_out``, the norms and inner products of ``A``.

=================  =======================================================  =====================
family             entries                                                  cost of S A, A n x d
=================  =======================================================  =====================
Gaussian           N(0, 1 / n_out)                                          2 n_out n d flops
Rademacher         +-1 / sqrt(n_out)                                        2 n_out n d flops
SRHT, HDHD         rows of a signed Hadamard matrix                         n d log2(n) additions
CountSketch        one +-1 in each column                                   n d additions, one pass
SparseSign         nnz of +-1 / sqrt(nnz) in each column                    nnz n d additions
LongAxisSparse     nnz nonzeros in each row                                 reads nnz n_out rows
RowSampling        rows by scores, with replacement                         reads n_out rows
TensorSketch       CountSketch of a product of vectors                      q FFTs for each product
TensorSRHT         SRHT of a product of vectors                             q transforms
DCT                rows of the cosine transform, drawn or chosen            2 n_out n d flops
=================  =======================================================  =====================
"""

import json
import os
import tempfile

import numpy as np

from . import _core, _validate
from .base import draw_seed, thread_count

__all__ = [
    "CountSketch",
    "DCT",
    "Gaussian",
    "HDHD",
    "LongAxisSparse",
    "Rademacher",
    "RowSampling",
    "SRHT",
    "Sketch",
    "SparseSign",
    "TensorSRHT",
    "TensorSketch",
    "from_bytes",
    "load",
]

_SINGLE = frozenset(("float16", "float32", "bool", "uint8", "int16"))


def _check_seed(seed):
    if isinstance(seed, (bool, np.bool_)) or not isinstance(seed, (int, np.integer)) or not 0 <= seed < 2**64:
        raise ValueError(f"seed must be an integer from 0 to 2^64 - 1, got {seed!r}")
    return int(seed)


def _whole(values, name):
    array = np.asarray(values)
    if array.ndim != 1 or array.dtype.kind not in "iu":
        raise ValueError(f"{name} must be a sequence of integers, got {values!r}")
    return [int(value) for value in array]


def _range(values, name, end):
    """A half-open range (begin, end) inside [0, end), end None where it is not known: 2^62 then."""
    both = _whole(values, name)
    if len(both) != 2:
        raise ValueError(f"{name} must be a pair (begin, end), got {values!r}")
    end = 2**62 if end is None else end
    if not 0 <= both[0] <= both[1] <= end:
        raise ValueError(f"{name} must be (begin, end) with 0 <= begin <= end <= {end}; {values!r} is not inside")
    return both


class Sketch:
    """What the families share. Make one of them, not this.

    A sketch is a constant operator (`apply`, `apply_adjoint`, `project`, `materialise`) and, once `update` was called,
    also the sum ``S[:, rows] @ A[rows]`` over the rows it was given.

    Parameters
    ----------
    n_out : int
        Rows of S.
    n_in : int or None
        Columns of S: rows of the data. None where the family can do without.
    seed : int, default=0
    device : str, default="cpu"
    n_jobs : int or None, default=None
        Threads. The results do not depend on them.

    Attributes
    ----------
    n_rows_seen_ : int
        Rows in the sum.
    """

    _kind = None

    def __init__(self, n_out, n_in=None, *, seed=0, device="cpu", n_jobs=None, **options):
        dist = {
            "kind": self._kind,
            "n_out": _validate.check_count(n_out, "n_out"),
            "n_in": 0 if n_in is None else _validate.check_count(n_in, "n_in"),
            "seed": _check_seed(seed),
            "nnz": 8,
            "permute": True,
            "appended": [],
            "dims": [],
            "scores": [],
            "columns": [],
        }
        dist.update(options)
        self._set_up(dist, device, n_jobs)

    def _set_up(self, dist, device, n_jobs):
        self._dist = dist
        self._device = _validate.device_name(device)
        self._n_jobs = n_jobs
        thread_count(n_jobs)
        self._core = _core.Sketch(**dist)
        self._sum = None
        self._single = None

    @classmethod
    def _of(cls, dist, device, n_jobs):
        made = _FAMILIES[dist["kind"]].__new__(_FAMILIES[dist["kind"]])
        made._set_up(dist, device, n_jobs)
        return made

    # --- what it is

    @property
    def n_out(self):
        """Rows of S."""
        return self._dist["n_out"]

    @property
    def n_in(self):
        """Columns of S, or None where they are not known."""
        return self._dist["n_in"] or None

    @property
    def seed(self):
        """The seed of all draws."""
        return self._dist["seed"]

    @property
    def shape(self):
        """(n_out, n_in)"""
        return self.n_out, self.n_in

    def __repr__(self):
        shown = [str(self.n_out), str(self.n_in), f"seed={self.seed}"]
        if self._kind in ("sparse_sign", "long_axis"):
            shown.append(f"nnz={self._dist['nnz']}")
        if self._kind == "srht" and not self._dist["permute"]:
            shown.append("permute=False")
        return f"{type(self).__name__}({', '.join(shown)})"

    def describe(self):
        """The distribution as a dict of plain values: all that another program needs to draw the same matrix."""
        return json.loads(self._core.describe())

    def append(self, n_more):
        """The sketch with `n_more` independent rows below the old ones.

        The old rows keep their draws, so ``S @ A`` needs the new ones only; they are scaled by
        ``sqrt(n_out / (n_out + n_more))``. Returns a new sketch with an empty sum.
        """
        n_more = _validate.check_count(n_more, "n_more")
        dist = dict(self._dist, n_out=self.n_out + n_more, appended=[*self._dist["appended"], n_more])
        return self._of(dist, self._device, self._n_jobs)

    # --- the operator

    def _threads(self):
        return thread_count(self._n_jobs)

    @staticmethod
    def _rows(A, dtype, name="A"):
        """(rows as the compiled module reads them, float32?, was it a vector?)"""
        vector = not _validate.is_sparse(A) and np.ndim(A) == 1
        if vector:
            A = np.asarray(A)[:, np.newaxis]
        rows = _validate.check_rows(A, "a sketch", min_rows=0, name=name)
        if dtype is None:
            return rows, rows.dtype.name in _SINGLE, vector
        return rows, _validate.product_dtype(dtype) == "float32", vector

    def apply(self, A, *, dtype=None):
        """``S @ A``.

        Parameters
        ----------
        A : array or CSR matrix of shape (n_in, d) or array of shape (n_in,)
            Any layout and dtype, read as it is. float32 and float64 in row-major order are read in place.
        dtype : "float32" or "float64", default=None
            Of the sums and the result. None: float32 for float32 and narrower types, else float64.

        Returns
        -------
        ndarray of shape (n_out, d) or (n_out,)

        Raises
        ------
        ValueError
            For another number of rows, and for NaN or infinity in a row that is read; names the row.
        """
        rows, single, vector = self._rows(A, dtype)
        out = self._core.apply(rows, single, self._device, self._threads())
        return out[:, 0] if vector else out

    def __matmul__(self, A):
        return self.apply(A)

    def apply_adjoint(self, Y, *, start=0, n_rows=None, dtype=None):
        """``S[:, start:start + n_rows].T @ Y``.

        Parameters
        ----------
        Y : array of shape (n_out, k) or (n_out,)
        start : int, default=0
        n_rows : int, default=None
            None: to the end of the ``n_in`` columns of S.

        Returns
        -------
        ndarray of shape (n_rows, k) or (n_rows,)
        """
        Y = np.asarray(Y)
        vector = Y.ndim == 1
        rows, single, _ = self._rows(Y[:, np.newaxis] if vector else Y, dtype, name="Y")
        _validate.check_finite(rows, "Y")
        start = _validate.check_count(start, "start", 0)
        if n_rows is None:
            if self.n_in is None:
                raise ValueError("n_rows must be given, since this sketch has no n_in")
            n_rows = max(0, self.n_in - start)
        n_rows = _validate.check_count(n_rows, "n_rows", 0)
        out = self._core.apply_adjoint(rows, start, n_rows, single, self._device, self._threads())
        return out[:, 0] if vector else out

    def project(self, A, *, dtype=None):
        """``A @ S.T``: each row of `A`, a vector of length ``n_in``, becomes one of length ``n_out``.

        Parameters
        ----------
        A : array or CSR matrix of shape (n, n_in)

        Returns
        -------
        ndarray of shape (n, n_out)
        """
        rows, single, _ = self._rows(A, dtype)
        return self._core.project(rows, single, self._device, self._threads())

    def materialise(self, rows=None, columns=None, *, dtype="float64"):
        """A block of S as an array.

        Parameters
        ----------
        rows, columns : (int, int), default=None
            Half-open ranges; None: all (of the ``n_in`` columns).
        dtype : "float64" or "float32"

        Returns
        -------
        ndarray
        """
        if columns is None and self.n_in is None:
            raise ValueError("columns must be given, since this sketch has no n_in")
        i0, i1 = (0, self.n_out) if rows is None else _range(rows, "rows", self.n_out)
        j0, j1 = (0, self.n_in) if columns is None else _range(columns, "columns", self.n_in)
        single = _validate.product_dtype(dtype) == "float32"
        return self._core.materialise(i0, i1, j0, j1, single, self._device, self._threads())

    # --- the sum

    @property
    def n_rows_seen_(self):
        """Rows in the sum, those taken out not counted."""
        return 0 if self._sum is None else self._sum.rows

    @property
    def nbytes(self):
        """Bytes of the sum."""
        return 0 if self._sum is None else self._sum.nbytes

    def _add(self, A, start, weight, dtype):
        rows, single, _ = self._rows(A, dtype)
        if self._sum is None:
            kind = _core.SketchSum32 if single else _core.SketchSum64
            made = kind(self._core, rows.shape[1], self._device)
            made.update(rows, start, weight, self._device, self._threads())
            self._sum, self._single = made, single
        else:
            if dtype is not None and single != self._single:
                raise ValueError(f"the sum is {'float32' if self._single else 'float64'} already, got dtype={dtype!r}")
            self._sum.update(rows, start, weight, self._device, self._threads())
        return self

    def update(self, A, start, *, dtype=None):
        """Adds ``S[:, start:start + n] @ A`` to the sum, A being rows ``start ..`` of the data.

        Rows that come in order give the same bits however they were cut, and so do parts that begin at multiples of
        4096 rows and are merged; those of `apply` too, but for `SRHT`, `HDHD` and `TensorSRHT`, which transform all
        rows at once there. The first call fixes the number of columns and the type of the sum (`dtype`, or that
        of `A`). On an error the sum is what it was.

        Returns
        -------
        self
        """
        return self._add(A, _validate.check_count(start, "start", 0), 1.0, dtype)

    def downdate(self, A, start, *, dtype=None):
        """Takes rows out of the sum again: the opposite of `update`, up to rounding."""
        return self._add(A, _validate.check_count(start, "start", 0), -1.0, dtype)

    def merge(self, other):
        """Adds the sum of another sketch, which must have the same distribution. Returns self."""
        if not isinstance(other, Sketch) or other._dist != self._dist:
            raise ValueError(f"only a sketch with the same distribution can be merged into {self!r}, got {other!r}")
        if other._sum is None:
            return self
        if self._sum is None:
            self._restore(other.to_bytes())
            return self
        if other._single != self._single:
            raise ValueError("a float32 sum and a float64 sum cannot be merged")
        self._sum.merge(other._sum, self._device)
        return self

    def result(self):
        """``S @ A`` for the rows in the sum: ndarray of shape (n_out, d)."""
        if self._sum is None:
            raise ValueError("no rows yet: call update first")
        return self._sum.result(self._device, self._threads())

    def reset(self):
        """Forgets the sum. Returns self."""
        self._sum = self._single = None
        return self

    # --- files

    def to_bytes(self):
        """The distribution and the sum as a model file; the same bytes on every machine."""
        if self._sum is None:
            return _core.SketchSum64(self._core, 1, self._device).save(self._device)
        return self._sum.save(self._device)

    def save(self, path):
        """Writes `to_bytes` to a file; `path` holds the old file or the whole new one, never a part."""
        path = os.fspath(path)
        handle, temporary = tempfile.mkstemp(dir=os.path.dirname(os.path.abspath(path)))
        try:
            with os.fdopen(handle, "wb") as file:
                file.write(self.to_bytes())
                file.flush()
                os.fsync(file.fileno())
            os.replace(temporary, path)
        except BaseException:
            os.unlink(temporary)
            raise

    def _restore(self, data):
        _, _, single = _core.sketch_sum_header(data)
        kind = _core.SketchSum32 if single else _core.SketchSum64
        restored = kind.load(data, self._device)
        if restored.rows or restored.nbytes:
            self._sum, self._single = restored, single

    def __reduce__(self):
        return from_bytes, (self.to_bytes(), self._device, self._n_jobs)


def from_bytes(data, device="cpu", n_jobs=None):
    """The sketch, and its sum, from `Sketch.to_bytes`. Raises FormatError for anything else."""
    data = bytes(memoryview(data))
    text, _, _ = _core.sketch_sum_header(data)
    dist = json.loads(text)
    dist["seed"] = int(dist["seed"])
    if dist.pop("generation"):
        raise _core.FormatError("the sketch begins with a later generation")
    made = Sketch._of(dist, device, n_jobs)
    made._restore(data)
    return made


def load(path, *, device="cpu", n_jobs=None):
    """Reads what `Sketch.save` wrote. Raises FormatError for anything else."""
    with open(os.fspath(path), "rb") as file:
        return from_bytes(file.read(), device, n_jobs)


class Gaussian(Sketch):
    """Independent entries N(0, 1 / n_out).

    The reference: sharp constants, an exact law for regression errors, safe for every design. Streams with `n_in`
    unknown. S is made tile by tile in cache; below some 32 columns of data making it costs more than multiplying.
    """

    _kind = "gaussian"


class Rademacher(Sketch):
    """Independent entries +-1 / sqrt(n_out), one random bit each. Otherwise as `Gaussian`; exact for whole numbers."""

    _kind = "rademacher"


class SRHT(Sketch):
    """Subsampled randomized Hadamard transform, ``sqrt(N / n_out) P H pi D``.

    Rows get random signs and, with ``permute=True``, a random order; they are padded with zeros to the power of two N,
    transformed, and `n_out` of the N results are drawn without replacement.

    Parameters
    ----------
    n_out, n_in, seed, device, n_jobs
        See `Sketch`; ``n_out <= N``.
    permute : bool, default=True
        Without it structured data (a few dense rows at the top, say) can make ``S @ A`` singular. Leave it on.

    Notes
    -----
    Source: "Improved analysis of the subsampled randomized Hadamard transform". `apply` transforms all rows at once; a
    sum fed by `update` multiplies by tiles of S, 2 n_out d flops for each row.
    """

    _kind = "srht"

    def __init__(self, n_out, n_in, *, seed=0, permute=True, device="cpu", n_jobs=None):
        super().__init__(n_out, n_in, seed=seed, device=device, n_jobs=n_jobs, permute=bool(permute))


class HDHD(Sketch):
    """Two rounds of random signs and Hadamard transform, then rows without replacement: safe without a permutation.

    A sum fed by `update` costs a whole transform for each 4096 rows; `apply` costs two for all.
    """

    _kind = "hdhd"

    def __init__(self, n_out, n_in, *, seed=0, device="cpu", n_jobs=None):
        super().__init__(n_out, n_in, seed=seed, device=device, n_jobs=n_jobs)


class CountSketch(Sketch):
    """One +-1 in each column: the cheapest sketch, one pass of additions, exact for whole numbers.

    Source: "Low rank approximation and regression in input sparsity time". Needs about d^2 rows for a subspace of
    dimension d, and its regression errors are not evenly spread over the coordinates.
    """

    _kind = "count_sketch"


class SparseSign(Sketch):
    """`nnz` entries +-1 / sqrt(nnz) in each column, one in each of `nnz` blocks of rows.

    The default for preconditioning: with ``nnz=8`` and ``n_out`` from 2 to 12 times the number of columns it is as good
    as a Gaussian there, at the cost of reading the data once.

    Parameters
    ----------
    n_out, n_in, seed, device, n_jobs
        See `Sketch`.
    nnz : int, default=8
        At most `n_out`; where `n_out` is smaller and `nnz` was left as it is, `n_out`.

    Notes
    -----
    Source: "OSNAP: faster numerical linear algebra algorithms via sparser subspace embeddings".
    """

    _kind = "sparse_sign"

    def __init__(self, n_out, n_in=None, *, seed=0, nnz=None, device="cpu", n_jobs=None):
        n_out = _validate.check_count(n_out, "n_out")
        nnz = min(8, n_out) if nnz is None else _validate.check_count(nnz, "nnz")
        super().__init__(n_out, n_in, seed=seed, device=device, n_jobs=n_jobs, nnz=nnz)


class LongAxisSparse(Sketch):
    """`nnz` entries +-sqrt(n_in / (nnz n_out)) in each row, one in each of `nnz` blocks of columns.

    Reads only the rows it drew. As sampling by uniform chance it needs incoherent data: no row may matter much more
    than the others.
    """

    _kind = "long_axis"

    def __init__(self, n_out, n_in, *, seed=0, nnz=None, device="cpu", n_jobs=None):
        n_in = _validate.check_count(n_in, "n_in")
        nnz = min(8, n_in) if nnz is None else _validate.check_count(nnz, "nnz")
        super().__init__(n_out, n_in, seed=seed, device=device, n_jobs=n_jobs, nnz=nnz)


class RowSampling(Sketch):
    """Rows drawn with replacement, row i with probability ``scores[i] / sum(scores)``, times ``1 / sqrt(n_out p_i)``.

    Parameters
    ----------
    n_out : int
    scores : array of shape (n_in,)
        Not negative, with a positive sum: leverage scores, or bounds of them. A row of score 0 is never drawn.
    seed, device, n_jobs
        See `Sketch`.
    """

    _kind = "row_sampling"

    def __init__(self, n_out, scores, *, seed=0, device="cpu", n_jobs=None):
        scores = np.asarray(scores, dtype=np.float64)
        if scores.ndim != 1 or scores.size == 0:
            raise ValueError(f"scores must be one-dimensional and not empty, got shape {scores.shape}")
        super().__init__(n_out, scores.size, seed=seed, device=device, n_jobs=n_jobs, scores=scores.tolist())


class _Tensor(Sketch):
    """A sketch of Kronecker products of vectors of the lengths `dims`."""

    def __init__(self, n_out, dims, *, seed=0, device="cpu", n_jobs=None):
        dims = _whole(dims, "dims")
        n_in = 1
        for dim in dims:
            n_in *= _validate.check_count(dim, "dims")
        if n_in > 2**40:
            raise ValueError(f"the product of dims must be at most 2^40, got {n_in}")
        super().__init__(n_out, max(1, n_in), seed=seed, device=device, n_jobs=n_jobs, dims=dims)

    @property
    def dims(self):
        """Lengths of the factors."""
        return list(self._dist["dims"])

    def apply_factors(self, factors, *, dtype=None):
        """Row r of the result is ``S @ kron(factors[0][r], factors[1][r], ...)``; the product is never formed.

        Parameters
        ----------
        factors : sequence of arrays or CSR matrices of shape (n, dims[f])
        dtype : "float32" or "float64", default=None
            None: float64 if one of the factors asks for it, else float32.

        Returns
        -------
        ndarray of shape (n, n_out)
        """
        read = [self._rows(factor, dtype, name=f"factors[{k}]") for k, factor in enumerate(factors)]
        single = all(part[1] for part in read)
        return self._core.apply_factors([part[0] for part in read], single, self._device, self._threads())


class TensorSketch(_Tensor):
    """CountSketch of a Kronecker product, hashed by the sum of the factors' hashes.

    Computed as the circular convolution of the factors' CountSketches. Source: "Fast and scalable polynomial kernels
    via explicit feature maps".

    Parameters
    ----------
    n_out : int
    dims : sequence of int
        Lengths of the factors, two or more; ``n_in`` is their product, the last index running fastest.
    seed, device, n_jobs
        See `Sketch`.
    """

    _kind = "tensor_sketch"


class TensorSRHT(_Tensor):
    """Rows of the Kronecker product of signed Hadamard matrices, drawn with replacement.

    For more than two factors neighbours are sketched in pairs, then the pairs: the work is linear in their number.
    Source: "Oblivious sketching of high-degree polynomial kernels".

    Parameters
    ----------
    n_out : int
    dims : sequence of int
        Lengths of the factors, two or more; ``n_in`` is their product, the last index running fastest.
    seed, device, n_jobs
        See `Sketch`.
    """

    _kind = "tensor_srht"


class DCT(Sketch):
    """Rows of the orthonormal discrete cosine transform (type II) of length `n_in`.

    Parameters
    ----------
    n_out : int
    n_in : int
    columns : sequence of int, default=None
        The `n_out` frequencies to keep, scaled so that ``S @ S.T = I``: ``range(n_out)`` keeps what is smooth. None:
        frequencies drawn without replacement after random signs, scaled so that ``E[S.T @ S] = I``.
    seed, device, n_jobs
        See `Sketch`.
    """

    _kind = "dct"

    def __init__(self, n_out, n_in, *, columns=None, seed=0, device="cpu", n_jobs=None):
        columns = [] if columns is None else _whole(columns, "columns")
        super().__init__(n_out, n_in, seed=seed, device=device, n_jobs=n_jobs, columns=columns)


def leverage_scores(
    A,
    method="auto",
    *,
    eps=0.5,
    delta=0.01,
    n_projections=None,
    rtol=None,
    random_state=0,
    device="cpu",
    n_jobs=None,
):
    """Leverage scores of the rows of ``A``: squared lengths of the rows of an orthonormal basis of its columns.

    They are the probabilities (up to a factor) with which `RowSampling` should draw rows.

    Parameters
    ----------
    A : array-like or CSR matrix of shape (n, d)
    method : {"auto", "exact", "sketched"}, default="auto"
        "exact": a thin QR, accurate to rounding whatever the condition. "sketched": R of a sketch, and where d is large
        a random projection of the rows; every score within the relative error `eps`, but for a chance below 1e-3 and
        that of the projection. "auto": "sketched" where the sketch has at most a quarter of the rows.
    eps : float, default=0.5
        Between 0 and 1.
    delta : float, default=0.01
        Chance that the projection misses `eps` in some row.
    n_projections : int, default=None
        Columns of the projection of "sketched". None: as `eps` and `delta` want, or no projection where it is no less
        work. With c of them, a score is that of the sketch times a chi-square variable of c degrees over c.
    rtol : float, default=None
        Singular values (the columns scaled to equal length) up to ``rtol`` times the largest count as zero; None for
        8 eps, or 32 eps beyond 25 columns, which keeps conditions of 1e14.
    random_state : int, RandomState, Generator or None, default=0
    device : str, default="cpu"
    n_jobs : int, default=None

    Returns
    -------
    ndarray of shape (n,)
        At least 0; the sum is the rank of ``A`` (nearly, if sketched). A zero row has the score 0.

    Raises
    ------
    ValueError
        NaN or infinity (names the row); a parameter out of range.

    Notes
    -----
    "exact" takes 6 n d^2 flops and two float64 arrays of the size of ``A``; "sketched" 2 n d min(d, c) with c about
    20 log(n) / eps^2 and two readings. Columns whose values are beyond 2^+-150 are divided by powers of two, in one
    more copy. Source: "Fast approximation of matrix coherence and statistical leverage".

    Examples
    --------
    >>> import numpy as np
    >>> from gramian import sketch
    >>> A = np.vstack([np.eye(3), np.zeros((2, 3))])
    >>> sketch.leverage_scores(A, "exact").round(3)
    array([1., 1., 1., 0., 0.])
    """
    if method not in ("auto", "exact", "sketched"):
        raise ValueError(f"method must be 'auto', 'exact' or 'sketched', got {method!r}")
    for value, name in ((eps, "eps"), (delta, "delta")):
        if not 0 < _validate.check_number(value, name) < 1:
            raise ValueError(f"{name} must lie between 0 and 1, got {value!r}")
    out = _core.leverage_scores(
        _validate.check_rows(A, "leverage_scores", name="A"),
        method,
        float(eps),
        float(delta),
        0 if n_projections is None else _validate.check_count(n_projections, "n_projections"),
        -1.0 if rtol is None else _validate.check_number(rtol, "rtol"),
        draw_seed(random_state),
        _validate.device_name(device),
        thread_count(n_jobs),
    )
    return out["scores"]


_FAMILIES = {
    family._kind: family
    for family in (
        Gaussian,
        Rademacher,
        SRHT,
        HDHD,
        CountSketch,
        SparseSign,
        LongAxisSparse,
        RowSampling,
        TensorSketch,
        TensorSRHT,
        DCT,
    )
}
