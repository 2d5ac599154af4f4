"""Kernels of networks of infinite width and any depth, and what they tend to with depth."""

import math
from dataclasses import dataclass

import numpy as np

from . import _core, _validate
from .base import Estimator, thread_count

_NAMED = ("relu", "erf")
# Gauss-Hermite nodes; with more, the outermost weights fall below the least double.
_NODES = 160


def hermite_coefficients(function, degree=40):
    """Coefficients of an activation in the orthonormal Hermite polynomials, by Gauss-Hermite quadrature.

    Parameters
    ----------
    function : callable
        Takes and returns an array, for example ``np.tanh``.
    degree : int, default=40
        Of the last coefficient, at most 100.

    Returns
    -------
    ndarray of shape (degree + 1,)
        ``a_k = E f(u) h_k(u)`` for standard normal u. The squares sum to ``E f(u)^2`` less what lies beyond `degree`,
        which is much for activations with a kink.

    Raises
    ------
    ValueError
        Values that are not finite.

    Notes
    -----
    Source: "Wide and Deep Neural Networks Achieve Optimality for Classification"; the quadrature is a textbook
    identity.
    """
    degree = _validate.check_count(degree, "degree", low=0)
    if degree > 100:
        raise ValueError(f"degree must be at most 100, got {degree}")
    nodes, weights = np.polynomial.hermite_e.hermegauss(_NODES)
    weights = weights / weights.sum()
    values = np.asarray(function(nodes), dtype=np.float64) * np.ones_like(nodes)
    if values.shape != nodes.shape or not np.isfinite(values).all():
        raise ValueError("the activation must return one finite value for each of its arguments")
    out = np.empty(degree + 1)
    before, now = np.zeros_like(nodes), np.ones_like(nodes)
    for k in range(degree + 1):
        out[k] = weights @ (values * now)
        before, now = now, (nodes * now - math.sqrt(k) * before) / math.sqrt(k + 1)
    # What quadrature leaves of coefficients that are zero (odd ones of an even function) would change the limit.
    out[np.abs(out) < 1e-13 * np.linalg.norm(out)] = 0.0
    return out


def _core_kernel(activation, depth, kind, bias, lift):
    if kind not in ("nngp", "ntk"):
        raise ValueError(f"kind must be 'nngp' or 'ntk', got {kind!r}")
    if isinstance(activation, str):
        if activation not in _NAMED:
            raise ValueError(
                f"activation must be one of {list(_NAMED)}, a function or Hermite coefficients, got {activation!r}"
            )
        name, coefficients = activation, []
    else:
        values = hermite_coefficients(activation) if callable(activation) else activation
        try:
            values = np.asarray(values, dtype=np.float64)
        except (TypeError, ValueError):
            values = np.empty(0)
        if values.ndim != 1 or values.size == 0:
            raise ValueError("activation must be a name, a function or a sequence of Hermite coefficients")
        name, coefficients = "hermite", values.tolist()
    return _core.DeepKernel(
        name,
        coefficients,
        _validate.check_number(bias, "bias"),
        _validate.check_count(depth, "depth", low=0),
        kind == "ntk",
        _validate.check_number(lift, "lift"),
    )


@dataclass(frozen=True)
class KernelLimit:
    """What networks with an activation tend to with depth.

    Attributes
    ----------
    kind : {"nearest", "singular", "majority", "linear", "constant"}
        "nearest": the nearest neighbour. "singular": the smoother ``|x - x_i|^-alpha``. "majority": the most frequent
        class, the kernel being a constant off its diagonal. The last two are no limits of classification: "linear"
        leaves the kernel as it is, and with "constant" the whole matrix becomes a constant, so that only a ridge > 0
        gives an answer (the most frequent class).
    alpha : float or None
        ``-4 log|a1| / log B`` for "singular", infinity for "nearest", 0 for "majority".
    mean, first : float
        ``|E f|`` and ``|E f'|`` of the activation scaled to ``E f^2 = 1``.
    expansion : float
        ``B = E f'^2``: what a layer multiplies small gaps by.
    """

    kind: str
    alpha: float | None
    mean: float
    first: float
    expansion: float


def kernel_limit(activation, bias=0.0):
    """The limit of infinite depth for an activation.

    Parameters
    ----------
    activation : {"relu", "erf"}, callable, sequence of float or DeepKernel
        As for `DeepKernel`.
    bias : float, default=0.0
        Variance of the biases next to weights of variance 1.

    Returns
    -------
    KernelLimit

    Notes
    -----
    Near 1 a layer multiplies the gap ``1 - xi`` by B, so it takes ``log(1 / gap) / log B`` layers to leave the
    neighbourhood; from there each layer multiplies xi by ``a1^2``. Without the number of layers the two give the
    exponent of ``|x - x_i|``. Source: "Wide and Deep Neural Networks Achieve Optimality for Classification".

    Examples
    --------
    >>> from gramian import kernel_limit
    >>> limit = kernel_limit([0, 0.5**0.5, 0, 0.5**0.5])
    >>> limit.kind, round(limit.alpha, 6)
    ('singular', 2.0)
    """
    if isinstance(activation, DeepKernel):
        core = activation._kernel()
    else:
        core = _core_kernel(activation, 0, "nngp", bias, 0.0)
    mean, first, expansion = core.mean, core.first, core.expansion
    if mean > 0:
        kind, alpha = ("majority", 0.0) if expansion > 1 else ("constant", None)
    elif first == 0:
        kind, alpha = "nearest", math.inf
    elif expansion <= 1 + 1e-12:
        kind, alpha = "linear", None
    else:
        kind, alpha = "singular", -4 * math.log(first) / math.log(expansion)
    return KernelLimit(kind, alpha, mean, first, expansion)


class DeepKernel(Estimator):
    """The kernel of an infinitely wide network of any depth, on rows scaled to unit length.

    Parameters
    ----------
    activation : {"relu", "erf"}, callable or sequence of float, default="relu"
        A name (closed form), a function (its Hermite coefficients are taken by quadrature) or Hermite coefficients
        ``[a_0, a_1, ...]``. It is scaled to ``E f(u)^2 = 1``.
    depth : int, default=2
        Layers; 0 is the linear kernel.
    kind : {"nngp", "ntk"}, default="nngp"
        The network at random weights or in training.
    bias : float, default=0.0
        Variance of the biases next to weights of variance 1.
    lift : float, default=0.0
        A constant appended to every row before it is scaled, so that length matters too; 0 uses directions alone.
    device : str, default="cpu"
        "cpu", "cuda" or "cuda:1"; the inner products run there, the recursion on the host.
    n_jobs : int, default=None

    Notes
    -----
    ``S_{l+1} = c(S_l)`` and ``K_{l+1} = S_{l+1} + K_l c'(S_l)`` with the dual map ``c(xi) = sum a_k^2 xi^k``, run on
    the gap ``1 - xi = |x - y|^2 / 2`` near 1 and on ``log S`` near 0: close rows keep full relative precision, and
    `log_kernel` orders rows whose kernel is far below the least double. 2 n m d + O(n m depth) flops.
    Source: "Wide and Deep Neural Networks Achieve Optimality for Classification".

    Examples
    --------
    >>> import numpy as np
    >>> from gramian import DeepKernel
    >>> DeepKernel("relu", depth=1).kernel(np.eye(2)).round(4)
    array([[1.    , 0.3183],
           [0.3183, 1.    ]])
    """

    def __init__(self, activation="relu", depth=2, kind="nngp", bias=0.0, lift=0.0, device="cpu", n_jobs=None):
        self.activation = activation
        self.depth = depth
        self.kind = kind
        self.bias = bias
        self.lift = lift
        self.device = device
        self.n_jobs = n_jobs

    def _kernel(self):
        return _core_kernel(self.activation, self.depth, self.kind, self.bias, self.lift)

    def _as_json(self):
        """Type and parameters, for a model file: a function as its coefficients, which are what is used of it."""
        activation = self.activation
        if not isinstance(activation, str):
            values = hermite_coefficients(activation) if callable(activation) else activation
            activation = np.asarray(values, dtype=np.float64).tolist()
        params = {
            "activation": activation,
            "depth": int(self.depth),
            "kind": self.kind,
            "bias": float(self.bias),
            "lift": float(self.lift),
        }
        return {"type": "DeepKernel", "params": params}

    def _matrix(self, X, Y, output):
        rows = _validate.check_rows(X, type(self).__name__, min_rows=0)
        columns = None
        if Y is not None:
            columns = _validate.check_rows(Y, type(self).__name__, min_rows=0, name="Y")
            if columns.shape[1] != rows.shape[1]:
                raise ValueError(f"X has {rows.shape[1]} features, but Y has {columns.shape[1]}")
        where = _validate.device_name(self.device), thread_count(self.n_jobs)
        return self._kernel().matrix(rows, columns, output, *where)

    def kernel(self, X, Y=None):
        """Kernel of all pairs of rows.

        Parameters
        ----------
        X : array-like or CSR matrix of shape (n, d)
        Y : array-like or CSR matrix of shape (m, d), default=None
            None for X itself; the matrix is then symmetric to the last bit.

        Returns
        -------
        ndarray of shape (n, m)
            float64. The diagonal is 1 for "nngp" and ``1 + B + ... + B^depth`` for "ntk", which may overflow.

        Raises
        ------
        ValueError
            A row of zeros without a lift, NaN or infinity (names the row).
        """
        return self._matrix(X, Y, "value")

    __call__ = kernel

    def log_kernel(self, X, Y=None):
        """(sign, log|kernel|) of all pairs, where the kernel itself is below or above the range of a double."""
        return self._matrix(X, Y, "sign"), self._matrix(X, Y, "log_abs")

    def dual(self, xi):
        """The dual map c of one layer, at an inner product in [-1, 1]."""
        return self._kernel().dual(_validate.check_number(xi, "xi", low=-1.0))
