"""Second-order engines: running inverses, Kronecker factors and inverse Fisher products.

The rest of the family, the steps that need a diagonal alone and the logistic head, has modules of its own; all of its
names are here too.
"""

import inspect

import numpy as np

from . import _core, _validate
from ._composite import InParts, Parts
from .base import thread_count
from .diagonal_steps import adahessian_step, hutchinson_diagonal, sophia_step
from .logistic_head import LogisticHead, LogisticLoss

__all__ = [
    "MFAC",
    "MKOR",
    "LogisticHead",
    "LogisticLoss",
    "RunningInverse",
    "adahessian_step",
    "hutchinson_diagonal",
    "sophia_step",
]


def _rows(values, name, width=None):
    """Rows (or one vector as a row) in a dtype that the compiled module reads."""
    array = values if _validate.is_sparse(values) else np.asarray(values)
    if array.ndim == 1:
        array = array[np.newaxis, :]
    rows = _validate.check_rows(array, "this method", name=name)
    if width is not None and rows.shape[1] != width:
        raise ValueError(f"{name} has {rows.shape[1]} columns, expected {width}")
    return rows


class _Engine(InParts):
    """What the engines share: a compiled state that a pickle and a file keep to the last bit.

    A class stores the arguments of its ``__init__`` under their own names and makes its compiled object in `_make`.
    """

    _held = ("_core",)

    @classmethod
    def _parameter_names(cls):
        return [name for name in inspect.signature(cls.__init__).parameters if name != "self"]

    def _params_in_file(self):
        return {name: getattr(self, name) for name in self._parameter_names()}

    def _make(self, learnt):
        raise NotImplementedError

    def _parts(self):
        if self._core is None:
            raise ValueError(f"this {type(self).__name__} has seen nothing yet, so there is nothing to save")
        learnt, arrays = _split(self._core.state())
        return Parts({**learnt, **self._learnt()}, {name: array for name, array in arrays.items() if array.size})

    def _learnt(self):
        return {}

    def _take_parts(self, parts, device, n_jobs):
        core = self._make(parts.learnt)
        numbers, arrays = _split(core.state())
        for name, number in numbers.items():
            if type(parts.learnt[name]) is not type(number):
                raise ValueError(f"{name} is {parts.learnt[name]!r}")
            numbers[name] = parts.learnt[name]
        for name, array in arrays.items():
            # An array without entries is in no file.
            if name in parts.arrays or array.size:
                arrays[name] = parts.array(name, array.dtype, (-1,))
        core.restore(_joined(numbers, arrays))
        self._core = core

    def __setstate__(self, state):
        self._core = None
        super().__setstate__(state)


def _split(state, prefix=""):
    """The numbers and the arrays of a compiled state; those of a part are named ``part.name``."""
    numbers, arrays = {}, {}
    for name, value in state.items():
        if isinstance(value, dict):
            inner, outer = _split(value, f"{prefix}{name}.")
            numbers.update(inner)
            arrays.update(outer)
        else:
            (arrays if isinstance(value, np.ndarray) else numbers)[prefix + name] = value
    return numbers, arrays


def _joined(numbers, arrays):
    """The opposite of `_split`."""
    state = {}
    for name, value in [*numbers.items(), *arrays.items()]:
        part, _, last = name.rpartition(".")
        (state.setdefault(part, {}) if part else state)[last] = value
    return state


class RunningInverse(_Engine):
    """The inverse P of a matrix H that ages and takes rows: ``H <- forgetting H + weight X'X``.

    For where the inverse itself is wanted: gains, leverages, preconditioners. For weights, `AnalyticRegressor` with
    ``low_latency=True`` and ``forgetting`` is recursive least squares with a Cholesky factor, which stays exact.

    Parameters
    ----------
    n_features : int
    ridge : float, default=1.0
        H begins as ``ridge * I``; > 0.
    forgetting : float, default=1.0
        Of each update, in (0, 1].
    max_trace : float, default=None
        An update after which the trace of P would be above this does not age: without it, directions that no row looks
        into grow by 1 / forgetting a step until they overflow. `held_back_` counts.
    keep_matrix : bool, default=False
        Keep H beside P, so that P can be checked and renewed.
    check_every : int, default=None
        Updates between checks of the residual; P is renewed where it is above ``refresh_above``. Needs ``keep_matrix``.
    refresh_above : float, default=1e-10
    device : str, default="cpu"
    n_jobs : int, default=None

    Notes
    -----
    An update by k rows costs 4 k d^2 flops and, for any k, reads P three times and writes it once; P is one triangle, 4
    d^2 bytes (as many again for H). A check costs 16 d^2 flops, a Newton-Schulz step 4 d^3, a rebuild d^3. Sources:
    textbook identities, the inverse after a low-rank change and the Newton-Schulz step.

    Examples
    --------
    >>> from gramian.second_order import RunningInverse
    >>> inverse = RunningInverse(2, ridge=1.0).update([[1.0, 0.0]])
    >>> inverse.matrix()
    array([[0.5, 0. ],
           [0. , 1. ]])
    """

    def __init__(
        self,
        n_features,
        ridge=1.0,
        forgetting=1.0,
        max_trace=None,
        keep_matrix=False,
        check_every=None,
        refresh_above=1e-10,
        device="cpu",
        n_jobs=None,
    ):
        self.n_features = _validate.check_count(n_features, "n_features")
        self.ridge = _validate.check_number(ridge, "ridge", strict=True)
        self.forgetting = _validate.check_number(forgetting, "forgetting", strict=True)
        if self.forgetting > 1:
            raise ValueError(f"forgetting must be above 0 and at most 1, got {forgetting!r}")
        if check_every is not None and not keep_matrix:
            raise ValueError("check_every needs keep_matrix=True: a check compares the inverse with the matrix")
        self.max_trace = None if max_trace is None else _validate.check_number(max_trace, "max_trace", strict=True)
        self.keep_matrix = bool(keep_matrix)
        self.check_every = None if check_every is None else _validate.check_count(check_every, "check_every")
        self.refresh_above = _validate.check_number(refresh_above, "refresh_above")
        self.device = _validate.device_name(device)
        self.n_jobs = n_jobs
        self._core = self._make()

    def _make(self, learnt=None):
        return _core.RunningInverse(
            self.n_features,
            self.ridge,
            np.inf if self.max_trace is None else self.max_trace,
            self.keep_matrix,
            0 if self.check_every is None else self.check_every,
            self.refresh_above,
            self.device,
            thread_count(self.n_jobs),
        )

    def update(self, X, weight=1.0, together=True):
        """Ages H and adds rows; a negative weight takes rows out.

        Parameters
        ----------
        X : array-like of shape (k, n_features) or (n_features,)
        weight : float, default=1.0
            Not 0.
        together : bool, default=True
            All rows in one update, which ages once; False makes k updates, as if the rows came one by one.

        Returns
        -------
        self

        Raises
        ------
        numpy.linalg.LinAlgError
            Where the matrix would be singular without a row, or where a new row is so long that P along it would be
            rounding (its ``x P x'`` above 1e15 times ``forgetting / weight``) and no H is kept, or none that P could be
            made anew from. Nothing has changed then (with ``together=False`` the rows before it are in).
        ValueError
            NaN, infinity, or rows whose products with P overflow.
        """
        weight = _validate.check_number(weight, "weight", low=-np.inf)
        if weight == 0:
            raise ValueError("weight must not be 0")
        self._core.update(_rows(X, "X", self.n_features), self.forgetting, weight, not together)
        return self

    def multiply(self, X):
        """``X P`` for rows X, (k, n_features)."""
        return self._core.multiply(_rows(X, "X", self.n_features))

    def matrix(self):
        """P, (n_features, n_features)."""
        return self._core.matrix()

    def residual(self):
        """``|I - P H|_F / sqrt(n_features)`` estimated from four vectors of signs. Needs ``keep_matrix``."""
        return self._core.residual()

    def refine(self):
        """One Newton-Schulz step ``P <- 2 P - P H P``: squares a residual below 1. Needs ``keep_matrix``."""
        self._core.refine()
        return self

    def rebuild(self):
        """P from a Cholesky factor of H. Needs ``keep_matrix``."""
        self._core.rebuild()
        return self

    @property
    def trace_(self):
        """Trace of P."""
        return self._core.trace

    @property
    def held_back_(self):
        """Updates that did not age because of ``max_trace``."""
        return self._core.held_back

    @property
    def refreshes_(self):
        """How often P was renewed from H."""
        return self._core.refreshes

    @property
    def n_updates_(self):
        """Updates made."""
        return self._core.updates


class MKOR(_Engine):
    """Kronecker-factored curvature of a layer with running inverses: ``W <- W - rate L^-1 dW R^-1``.

    Parameters
    ----------
    n_out, n_in : int
        Shape of the weights.
    learning_rate : float, default=0.1
    decay : float, default=0.95
        In (0, 1).
    mode : {"exact", "paper"}, default="exact"
        "exact": L and R begin as identities and are averages, ``L <- decay L + (1 - decay) l l'``; what is applied is
        their inverse. "paper": the rule of the published program, ``P <- decay P + (1 - decay) I`` followed by the
        Sherman-Morrison formula for ``+ l l'``. That is the inverse of no average of ``l l'``; it is bounded by the
        blend, not by what the gradients were. The two do not agree, and neither is a limit of the other.
    rescale : bool, default=True
        Give the step the Frobenius norm of the gradient, as published.
    limit : float, default=2.0
        "paper" only: an entry of either inverse above it resets both at the next update, whose vectors are not used.
    stabilisation : float, default=0.1
        "paper" only: the share of the identity that a reset mixes in; 1 starts again from the identity.
    max_trace : float, default=1e8
        "exact" only: mean diagonal entry of an inverse above which it does not age (see `RunningInverse`).
    device : str, default="cpu"
    n_jobs : int, default=None

    Notes
    -----
    6 (n_out^2 + n_in^2) flops an update, 2 n_out n_in (n_out + n_in) a step, 4 (n_out^2 + n_in^2) bytes.
    Source: "MKOR: Momentum-Enabled Kronecker-Factor-Based Optimizer Using Rank-1 Updates".

    Examples
    --------
    >>> import numpy as np
    >>> from gramian import MKOR
    >>> layer = MKOR(2, 3, decay=0.5, learning_rate=1.0, rescale=False)
    >>> layer.update([1.0, 0.0], [0.0, 0.0, 1.0]).step(np.zeros((2, 3)), np.ones((2, 3))).round(2)
    array([[-2., -2., -1.],
           [-4., -4., -2.]])
    """

    def __init__(
        self,
        n_out,
        n_in,
        learning_rate=0.1,
        decay=0.95,
        mode="exact",
        rescale=True,
        limit=2.0,
        stabilisation=0.1,
        max_trace=1e8,
        device="cpu",
        n_jobs=None,
    ):
        if mode not in ("exact", "paper"):
            raise ValueError(f"mode must be 'exact' or 'paper', got {mode!r}")
        self.n_out = _validate.check_count(n_out, "n_out")
        self.n_in = _validate.check_count(n_in, "n_in")
        self.learning_rate = _validate.check_number(learning_rate, "learning_rate")
        self.mode = mode
        self.rescale = bool(rescale)
        self.decay = _validate.check_fraction(decay, "decay")
        self.limit = _validate.check_number(limit, "limit", strict=True)
        self.stabilisation = _validate.check_number(stabilisation, "stabilisation", strict=True)
        self.max_trace = _validate.check_number(max_trace, "max_trace", strict=True)
        self.device = _validate.device_name(device)
        self.n_jobs = n_jobs
        self._core = self._make()

    def _make(self, learnt=None):
        return _core.KroneckerInverse(
            self.n_out,
            self.n_in,
            self.mode == "paper",
            self.decay,
            self.limit,
            self.stabilisation,
            self.max_trace,
            self.device,
            thread_count(self.n_jobs),
        )

    def update(self, output_gradient, activation):
        """Takes one pair of vectors in: the gradient at the layer's output and its input. On an error nothing changes.

        Parameters
        ----------
        output_gradient : array-like of shape (n_out,) or (n, n_out)
            Of a batch the mean counts, as published.
        activation : array-like of shape (n_in,) or (n, n_in)

        Returns
        -------
        self
        """
        left, right = (
            _validate.readable(np.asarray(value), name).astype(np.float64, copy=False)
            for value, name in ((output_gradient, "output_gradient"), (activation, "activation"))
        )
        left, right = (value.mean(axis=0) if value.ndim == 2 and len(value) else value for value in (left, right))
        self._core.update(
            _validate.check_vector(left, "output_gradient", self.n_out)[np.newaxis, :],
            _validate.check_vector(right, "activation", self.n_in)[np.newaxis, :],
        )
        return self

    def precondition(self, gradient):
        """``L^-1 gradient R^-1``, (n_out, n_in)."""
        rows = _rows(gradient, "gradient", self.n_in)
        return self._core.precondition(rows)

    def step(self, W, dW):
        """The weights after one step; W is not changed.

        Parameters
        ----------
        W, dW : array-like of shape (n_out, n_in)
            Weights and the gradient of the loss.

        Returns
        -------
        ndarray of shape (n_out, n_in)
        """
        W = _validate.readable(np.asarray(W), "W").astype(np.float64, copy=False)
        if W.shape != (self.n_out, self.n_in):
            raise ValueError(f"W has the shape {W.shape}, expected {(self.n_out, self.n_in)}")
        _validate.check_finite(W, "W")
        dW = _validate.readable(np.asarray(dW), "dW").astype(np.float64, copy=False)
        # The step is linear in dW: brought to about 1 by a power of two, its squares stay in range.
        power = int(np.frexp(np.abs(dW).max(initial=0.0))[1])
        dW = np.ldexp(dW, -power)
        move = self.precondition(dW)
        if self.rescale:
            size = np.linalg.norm(move)
            move *= np.linalg.norm(dW) / size if size > 0 else 0.0
        with np.errstate(over="ignore", invalid="ignore"):
            moved = W - self.learning_rate * np.ldexp(move, power)
        if not np.isfinite(moved).all():
            raise ValueError("the step overflows")
        return moved

    @property
    def left_inverse_(self):
        """L^-1, (n_out, n_out)."""
        return self._core.factor(True)

    @property
    def right_inverse_(self):
        """R^-1, (n_in, n_in)."""
        return self._core.factor(False)

    @property
    def resets_(self):
        """Resets of both factors ("paper")."""
        return self._core.resets

    @property
    def held_back_(self):
        """Updates of a factor that did not age because of ``max_trace`` ("exact")."""
        return self._core.held_back


class MFAC(_Engine):
    """Products with the inverse of an empirical Fisher matrix ``F = ridge I + G'G / n_gradients``, matrix-free.

    Parameters
    ----------
    n_gradients : int
        Gradients that the window holds (m). While it holds fewer, those that are missing count as zeros.
    ridge : float, default=1e-5
        > 0.
    dynamic : bool, default=True
        The window moves: each gradient beyond ``n_gradients`` takes the place of the oldest. False takes all gradients
        in one call and keeps ``L^-1 G`` in their place, so that an element of the inverse costs O(m).
    dtype : {"float64", "float32"}, default="float64"
        How gradients are kept. All sums are float64 in either case: the answers are those of the gradients as stored
        (with ``dynamic=False`` of ``L^-1 G`` as stored).
    device : str, default="cpu"
    n_jobs : int, default=None

    Notes
    -----
    For d parameters: memory d m values and 12 m^2 bytes. A gradient costs 2 d m + 8 m^2 flops: the Cholesky factor of
    ``m ridge I + G G'`` is kept in the order of age, so that a replacement is an update by one row (for the gradient
    that leaves) and a bordered row (for the one that comes), both free of cancellation. `ivp` costs 4 d m, two passes
    over the gradients; `diag` 3 d m^2 (2 d m where static).
    Source: "M-FAC: Efficient Matrix-Free Approximations of Second-Order Information"; pruning as in "Second Order
    Derivatives for Network Pruning: Optimal Brain Surgeon".

    Examples
    --------
    >>> import numpy as np
    >>> from gramian import MFAC
    >>> fisher = MFAC(n_gradients=1, ridge=1.0).push([1.0, 1.0])
    >>> fisher.ivp([1.0, 0.0]).round(4)
    array([ 0.6667, -0.3333])
    """

    def __init__(self, n_gradients, ridge=1e-5, dynamic=True, dtype="float64", device="cpu", n_jobs=None):
        self.n_gradients = _validate.check_count(n_gradients, "n_gradients")
        self.ridge = _validate.check_number(ridge, "ridge", strict=True)
        self.dynamic = bool(dynamic)
        self.dtype = _validate.product_dtype(dtype)
        self.device = _validate.device_name(device)
        self.n_jobs = n_jobs
        thread_count(n_jobs)
        self._core = None
        self.n_params_ = None

    def _make(self, learnt):
        return _core.Mfac(
            self.n_gradients,
            _validate.check_count(learnt["n_params"], "n_params"),
            self.ridge,
            self.dtype == "float32",
            self.dynamic,
            self.device,
            thread_count(self.n_jobs),
        )

    def _learnt(self):
        return {"n_params": self.n_params_}

    def _take_parts(self, parts, device, n_jobs):
        super()._take_parts(parts, device, n_jobs)
        self.n_params_ = parts.learnt["n_params"]

    def push(self, gradients):
        """Takes gradients in, the oldest first.

        Parameters
        ----------
        gradients : array-like of shape (n_params,) or (k, n_params)

        Returns
        -------
        self

        Raises
        ------
        ValueError
            For NaN or infinity, naming the row, and a second call of a static window.
        numpy.linalg.LinAlgError
            Where ``m ridge I + G G'`` is singular to rounding. Nothing has changed after an error.
        """
        rows = _rows(gradients, "gradients", self.n_params_)
        core = self._core
        if core is None:
            core = self._make({"n_params": rows.shape[1]})
        core.push(rows)
        self._core, self.n_params_ = core, rows.shape[1]
        return self

    def replace(self, age, gradient):
        """Puts a gradient in the place of the one of this age (0: the oldest), and gives it that age. Returns self."""
        core = self._ready()
        age = _validate.check_count(age, "age", low=0)
        core.replace(age, _rows(gradient, "gradients", self.n_params_))
        return self

    def refresh(self):
        """Factors ``m ridge I + G G'`` anew: m^3 / 3 flops. Done by itself every ``n_gradients`` gradients."""
        self._ready().refresh()
        return self

    def ivp(self, v):
        """``F^-1 v``.

        Parameters
        ----------
        v : array-like of shape (n_params,) or (k, n_params)

        Returns
        -------
        ndarray of the same shape
            To about eps ``|v| / ridge``: of a v within the span of the gradients little is left, so with a ridge far
            below their squares its digits go.
        """
        core = self._ready()
        array = np.asarray(v)
        rows = np.ascontiguousarray(_rows(array, "v", self.n_params_), dtype=np.float64)
        _validate.check_finite(rows, "v")
        out = core.solve(rows)
        return out[0] if array.ndim == 1 else out

    def diag(self):
        """The diagonal of ``F^-1``, (n_params,).

        Relative error about eps / (ridge times the entry), but never below ``1 / F_ii``, which bounds it (a static
        window bounds that in turn): entries are above 0 whatever the rounding.
        """
        return self._ready().diagonal()

    def inverse_block(self, indices):
        """``F^-1`` at these parameters, (q, q) for q indices: q^2 m flops, and q m^2 where the window moves."""
        return self._ready().block(self._indices(indices))

    def obs_scores(self, weights):
        """How much the loss grows, to second order, when each weight is set to 0: ``w^2 / (2 diag F^-1)``."""
        core = self._ready()
        weights = _validate.check_vector(weights, "weights", self.n_params_)
        return weights**2 / (2 * core.diagonal())

    def obs_update(self, weights, indices):
        """Weights after setting some to 0 and moving the others to where the loss grows least.

        Parameters
        ----------
        weights : array-like of shape (n_params,)
        indices : int or sequence of int
            Removed together, which costs less loss than one after the other without looking at the rest.

        Returns
        -------
        ndarray of shape (n_params,)
        """
        core = self._ready()
        weights = _validate.check_vector(weights, "weights", self.n_params_)
        indices = self._indices(np.atleast_1d(indices))
        if len(set(indices)) != len(indices):
            raise ValueError("indices must be different from each other")
        units = np.zeros((len(indices), self.n_params_))
        units[np.arange(len(indices)), indices] = 1
        out = weights - np.linalg.solve(core.block(indices), weights[indices]) @ core.solve(units)
        out[indices] = 0
        return out

    @property
    def n_held_(self):
        """Gradients in the window."""
        return 0 if self._core is None else self._core.size

    @property
    def effective_dimension_(self):
        """How many directions the window tells from the ridge: ``trace (m ridge I + G G')^-1 G G'``."""
        return self._ready().effective_dimension()

    @property
    def refreshes_(self):
        """Factors made anew."""
        return self._ready().refreshes

    def _indices(self, indices):
        array = np.asarray(indices)
        if array.ndim != 1 or array.size == 0 or array.dtype.kind not in "iu":
            raise ValueError(f"indices must be a sequence of integers, got {indices!r}")
        if array.min() < 0 or array.max() >= self.n_params_:
            raise ValueError(
                f"indices must lie in 0 .. {self.n_params_ - 1}, got {int(array.min())} .. {int(array.max())}"
            )
        return array.tolist()

    def _ready(self):
        if self._core is None:
            raise ValueError("the window holds no gradient yet; push one first")
        return self._core

    def __repr__(self):
        return f"MFAC(n_gradients={self.n_gradients}, ridge={self.ridge:g}, dynamic={self.dynamic})"
