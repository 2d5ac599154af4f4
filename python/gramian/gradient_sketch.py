"""Gradients that travel as sketches: few numbers per round, an unbiased estimate, and noise where privacy is promised.

Client and server share a seed. In round t a client sends ``R_t g``, ``n_sketch`` numbers in place of ``n_params``, and
the server takes ``R_t.T`` of the mean for the mean gradient ("Sketching for First Order Method: Efficient Algorithm for
Low-Bandwidth Channel and Vulnerability"). R_t is drawn anew in every round and is never sent.

`GradSketch` encodes and decodes, and knows the exact second moment of its estimate, from which the largest safe step
follows. `GradientMechanism` is clipping and calibrated noise, `ErrorFeedback` the biased variant that remembers what it
could not send, `sketched_descent` the whole loop. `reconstruct_gradient` and `reconstruct_sample` are attacks: a sketch
hides nothing by itself, and they show how much.
"""

import math
import secrets
from dataclasses import dataclass

import numpy as np

from . import _core, _validate
from .base import thread_count
from .federated import CalibratedNoise, PrivacyAccountant, VectorCodec
from .iterate import flexible_cg
from .regression import lstsq
from .sketch import Sketch, _check_seed

__all__ = [
    "DescentResult",
    "ErrorFeedback",
    "GradSketch",
    "GradientMechanism",
    "reconstruct_gradient",
    "reconstruct_sample",
    "sketched_descent",
]

_KINDS = ("srht", "hdhd", "dct", "gaussian", "rademacher", "sparse_sign", "count_sketch")
_PLACES = ("sketch", "gradient")


def _round_number(value):
    number = _validate.check_count(value, "round_number", low=0)
    if number >= 2**64:
        raise ValueError(f"round_number must be below 2^64, got {value!r}")
    return number


@dataclass(frozen=True)
class GradientMechanism(CalibratedNoise):
    """Clipping and calibrated Gaussian noise: (epsilon, delta) differential privacy for one client more or less.

    Parameters
    ----------
    epsilon, delta : float
        The promise for all `rounds` together.
    clip : float
        Longer gradients are shortened to this Euclidean norm before anything else.
    rounds : int, default=1
        How often a client's data are used. Gaussian mechanisms compose exactly, so the noise of each round is
        sqrt(rounds) times that of one.
    place : {"sketch", "gradient"}, default="sketch"
        "sketch": noise on ``R g``. That takes a bound of ``|R|``, which kinds with orthogonal rows have: "srht", "hdhd"
        and "dct". "gradient": noise on g; the sketch is then made of what is private already, so any kind will do. The
        energy of the decoded noise is the same for both where n_params is a power of two.
    replace : bool, default=False
        The promise for exchanging one client's data for other data, which moves the sum twice as far.

    Notes
    -----
    The promise is about the sum over clients to which this noise was added once, and about one client who takes part or
    does not (`replace`: who brings these data or others). Noise in each client's message
    (``n_clients=1`` of `GradSketch.encode`) protects every client from the server as well; where messages are summed
    under masks, clients can share the noise (``n_clients`` of them, each a part). Noise is drawn with Philox, a
    statistical generator, from 64 bits of the system's entropy; floating-point noise can leak in theory, whoever draws
    it.
    """

    clip: float
    rounds: int = 1
    place: str = "sketch"
    replace: bool = False

    def __post_init__(self):
        super().__post_init__()
        object.__setattr__(self, "clip", _validate.check_number(self.clip, "clip", strict=True))
        object.__setattr__(self, "rounds", _validate.check_count(self.rounds, "rounds"))
        object.__setattr__(self, "replace", bool(self.replace))
        if self.place not in _PLACES:
            raise ValueError(f"place must be 'sketch' or 'gradient', got {self.place!r}")

    @property
    def sigma(self):
        """Standard deviation of the noise of one round in units of the sensitivity."""
        return math.sqrt(self.rounds) * super().sigma

    def deviation(self, sketch):
        """Standard deviation of the noise per entry, on a sketch or on a gradient as `place` says.

        Raises
        ------
        ValueError
            Noise on a sketch of a kind whose norm has no bound.
        """
        scale = self.sigma * self.clip * (2.0 if self.replace else 1.0)
        if self.place == "gradient":
            return scale
        if not math.isfinite(sketch.norm_bound_):
            raise ValueError(
                f"the norm of a {sketch.kind!r} sketch has no bound, so noise on it can promise nothing: "
                "use place='gradient', or kind='srht', 'hdhd' or 'dct'"
            )
        return scale * sketch.norm_bound_


class GradSketch:
    """Encodes gradients as ``R_t g`` and decodes them as ``R_t.T y``, with a fresh R_t in every round.

    Parameters
    ----------
    n_params : int
        Entries of a gradient (d).
    n_sketch : int
        Numbers that are sent (s).
    kind : {"srht", "hdhd", "dct", "gaussian", "rademacher", "sparse_sign", "count_sketch"}, default="srht"
        The family of R_t; see `gramian.sketch`.
    nnz : int, default=None
        Nonzeros per column of "sparse_sign"; None is 8, or n_sketch where that is less.
    seed : int, default=0
        Shared by all; with the number of the round it names R_t, the same bits on every machine.
    device : str, default="cpu"
    n_jobs : int or None, default=None
        Threads. The results do not depend on them.

    Attributes
    ----------
    second_moment_ : float
        ``E |R.T R g|^2 / |g|^2``, exactly, the same for every g.
    norm_bound_ : float
        What ``|R|`` can be at most; inf for kinds without a bound.

    Notes
    -----
    The estimate has no bias. Second moments, with N the power of two at or above d:

    ==========================  ===============================================================
    gaussian                    1 + (d + 1) / s
    rademacher, count_sketch    1 + (d - 1) / s
    sparse_sign                 1 + (d - 1) / s where nnz divides s; else the mean over its blocks of rows
    srht                        1 + (d - 1) (N - s) / (s (N - 1)), which is d / s for d = N
    hdhd                        1 + (2 - 2 / N + (d - 1) (1 - 2 / N)) (N - s) / (s (N - 1)), d / s for d = N
    dct                         d / s
    ==========================  ===============================================================

    Examples
    --------
    >>> import numpy as np
    >>> from gramian.gradient_sketch import GradSketch
    >>> sketch = GradSketch(n_params=256, n_sketch=32, seed=7)
    >>> sketch.second_moment_, sketch.step_size(smoothness=1.0)
    (8.0, 0.125)
    >>> gradients = np.ones((3, 256))
    >>> sent = sketch.encode(gradients, round_number=0)
    >>> sent.shape, sketch.decode(sent.mean(axis=0), round_number=0).shape
    ((3, 32), (256,))
    """

    def __init__(self, n_params, n_sketch, kind="srht", *, nnz=None, seed=0, device="cpu", n_jobs=None):
        self.n_params = _validate.check_count(n_params, "n_params")
        self.n_sketch = _validate.check_count(n_sketch, "n_sketch")
        if kind not in _KINDS:
            raise ValueError(f"kind must be one of {', '.join(map(repr, _KINDS))}, got {kind!r}")
        self.kind = kind
        self.nnz = min(8, self.n_sketch) if nnz is None else _validate.check_count(nnz, "nnz")
        self.seed = _check_seed(seed)
        self.device = _validate.device_name(device)
        self.n_jobs = n_jobs
        thread_count(n_jobs)
        self._core = self._make()

    def _make(self):
        return _core.GradientSketch(self.kind, self.n_params, self.n_sketch, self.seed, self.nnz)

    def __getstate__(self):
        return {name: value for name, value in self.__dict__.items() if name != "_core"}

    def __setstate__(self, state):
        self.__dict__.update(state)
        self._core = self._make()

    def __repr__(self):
        return f"GradSketch({self.n_params}, {self.n_sketch}, kind={self.kind!r}, seed={self.seed})"

    @property
    def second_moment_(self):
        """``E |R.T R g|^2 / |g|^2``."""
        return self._core.second_moment

    @property
    def norm_bound_(self):
        """A bound of ``|R|``."""
        return self._core.norm_bound

    def step_size(self, smoothness, local_steps=1):
        """The largest step for which every round is proved to go down in the mean.

        Parameters
        ----------
        smoothness : float
            L: the gradient changes by at most L times the distance.
        local_steps : int, default=1
            Steps K that a client makes on its own before it sends their sum.

        Returns
        -------
        float
            ``1 / (L second_moment)`` for one local step, ``1 / (L K (1 + second_moment))`` for more.

        Notes
        -----
        ``E f(x - eta R'R g) <= f(x) - eta |g|^2 + eta^2 L second_moment |g|^2 / 2``, the least of which stands at this
        eta; with strong convexity mu the excess loss shrinks by ``1 - mu / (L second_moment)`` a round in the mean.
        Twice this step promises nothing, and a step made for plain gradients, 1 / L, diverges as soon as the second
        moment is above 2. K local steps of convex clients that agree lose another ``eta L K / 2`` of the first term;
        where clients differ, the point they meet at is off by a term in eta, as without sketches.
        """
        smoothness = _validate.check_number(smoothness, "smoothness", strict=True)
        steps = _validate.check_count(local_steps, "local_steps")
        if steps == 1:
            return 1.0 / (smoothness * self.second_moment_)
        return 1.0 / (smoothness * steps * (1.0 + self.second_moment_))

    def sketch(self, round_number):
        """R_t as a `gramian.sketch.Sketch`."""
        seed = _core.round_seed(self.seed, _round_number(round_number))
        dist = {
            "kind": self.kind,
            "n_out": self.n_sketch,
            "n_in": self.n_params,
            "seed": seed,
            "nnz": self.nnz,
            "permute": True,
            "appended": [],
            "dims": [],
            "scores": [],
            "columns": [],
        }
        return Sketch._of(dist, self.device, self.n_jobs)

    def encode(self, gradients, round_number, *, clip=None, mechanism=None, n_clients=1, noise_seed=None, dtype=None):
        """``R_t g`` of one gradient or of many.

        Parameters
        ----------
        gradients : array-like of shape (n_params,) or (k, n_params)
            CSR is taken as well. Read in place where nothing is clipped and no noise goes in.
        round_number : int
            Use each number once: with the same R_t in every round a descent never leaves a subspace of n_sketch
            dimensions.
        clip : float, default=None
            Shorten longer gradients to this norm first. A mechanism has its own.
        mechanism : GradientMechanism, default=None
        n_clients : int, default=1
            Clients that share the noise: each message carries 1 / sqrt(n_clients) of its deviation, and only the sum of
            all of them is private.
        noise_seed : int, default=None
            None draws one from the system for every call. Anything else is for tests: noise that is used twice cancels
            in the difference.
        dtype : "float32" or "float64", default=None
            Of the sketch. None: float32 for float32 and narrower gradients, else float64.

        Returns
        -------
        ndarray of shape (n_sketch,) or (k, n_sketch)

        Raises
        ------
        ValueError
            For another length, and NaN or infinity, naming the row.
        """
        round_number = _round_number(round_number)
        n_clients = _validate.check_count(n_clients, "n_clients")
        place, deviation = "none", 0.0
        if mechanism is not None:
            if not isinstance(mechanism, GradientMechanism):
                raise TypeError(f"mechanism must be a GradientMechanism, got {type(mechanism).__name__}")
            if clip is not None:
                raise ValueError("clip and mechanism cannot be given together: the mechanism clips at its own bound")
            clip, place = mechanism.clip, mechanism.place
            deviation = mechanism.deviation(self) / math.sqrt(n_clients)
        clip = 0.0 if clip is None else _validate.check_number(clip, "clip", strict=True)
        noise_seed = secrets.randbits(64) if noise_seed is None else _check_seed(noise_seed)
        rows, vector, single = self._rows(gradients, "gradients", self.n_params, dtype)
        out = self._core.encode(
            rows,
            round_number,
            clip,
            place,
            deviation,
            noise_seed,
            single,
            self.device,
            thread_count(self.n_jobs),
        )
        return out[0] if vector else out

    def decode(self, sketches, round_number, *, dtype=None):
        """``R_t.T y``: the estimate of the gradient, or of the mean where y is a mean of sketches.

        Parameters
        ----------
        sketches : array-like of shape (n_sketch,) or (k, n_sketch)
        round_number : int
        dtype : "float32" or "float64", default=None

        Returns
        -------
        ndarray of shape (n_params,) or (k, n_params)
        """
        round_number = _round_number(round_number)
        rows, vector, single = self._rows(sketches, "sketches", self.n_sketch, dtype)
        if _validate.is_sparse(rows):
            raise ValueError("sketches must be a dense array")
        _validate.check_finite(rows, "sketches")
        out = self._core.decode(rows, round_number, single, self.device, thread_count(self.n_jobs))
        return out[0] if vector else out

    def privatize(self, total, round_number, mechanism, *, noise_seed=None):
        """A sum of clipped sketches with the noise of a mechanism: what a trusted server may hand on.

        Parameters
        ----------
        total : ndarray of shape (n_sketch,)
            Of messages ``encode(g, round_number, clip=mechanism.clip)``.
        round_number : int
        mechanism : GradientMechanism
        noise_seed : int, default=None
            See `encode`.

        Returns
        -------
        ndarray of shape (n_sketch,)
        """
        total = _validate.readable(np.asarray(total), "total").astype(np.float64, copy=False)
        if total.shape != (self.n_sketch,):
            raise ValueError(f"total has shape {total.shape}, expected {(self.n_sketch,)}")
        _validate.check_finite(total[np.newaxis, :], "total")
        nothing = np.zeros(self.n_params)
        return total + self.encode(nothing, round_number, mechanism=mechanism, noise_seed=noise_seed)

    @staticmethod
    def _rows(values, name, width, dtype):
        array = values if _validate.is_sparse(values) else np.asarray(values)
        vector = array.ndim == 1
        rows, single, _ = Sketch._rows(array.reshape(1, -1) if vector else array, dtype, name=name)
        if rows.shape[1] != width:
            raise ValueError(f"{name} have {rows.shape[1]} entries, expected {width}")
        return rows, vector, single


class ErrorFeedback:
    """A client that remembers what its sketches left out: biased messages that add up to everything.

    Sends ``R_t (g + e) / second_moment`` and keeps ``e = (g + e) - decoded``. The decoded message is then a
    contraction: ``E |v - decoded|^2 = (1 - 1 / second_moment) |v|^2``, the share of the rows that "srht" leaves out.

    Parameters
    ----------
    sketch : GradSketch

    Attributes
    ----------
    residual_ : ndarray of shape (n_params,)

    Examples
    --------
    >>> import numpy as np
    >>> from gramian.gradient_sketch import ErrorFeedback, GradSketch
    >>> sketch = GradSketch(64, 16)
    >>> client = ErrorFeedback(sketch)
    >>> got = sum(sketch.decode(client.encode(np.ones(64), t), t) for t in range(5))
    >>> bool(np.allclose(got + client.residual_, 5 * np.ones(64)))
    True
    """

    def __init__(self, sketch):
        if not isinstance(sketch, GradSketch):
            raise TypeError(f"sketch must be a GradSketch, got {type(sketch).__name__}")
        self.sketch = sketch
        self.residual_ = np.zeros(sketch.n_params)

    def encode(self, gradient, round_number):
        """The message of one round, of shape (n_sketch,). On an error the memory is what it was."""
        gradient = _validate.readable(np.asarray(gradient), "gradient").astype(np.float64, copy=False)
        if gradient.shape != (self.sketch.n_params,):
            raise ValueError(f"gradient has shape {gradient.shape}, expected {(self.sketch.n_params,)}")
        whole = gradient + self.residual_
        sent = self.sketch.encode(whole, round_number) / self.sketch.second_moment_
        self.residual_ = whole - self.sketch.decode(sent, round_number)
        return sent


@dataclass(frozen=True)
class DescentResult:
    """What `sketched_descent` found.

    Attributes
    ----------
    x : ndarray of shape (n_params,)
    n_rounds : int
    step : float
    numbers_sent : int
        By each client.
    """

    x: np.ndarray
    n_rounds: int
    step: float
    numbers_sent: int


def sketched_descent(
    clients,
    start,
    sketch,
    *,
    n_rounds,
    smoothness=None,
    step=None,
    local_steps=1,
    clip=None,
    mechanism=None,
    accountant=None,
    error_feedback=False,
    noise_seed=None,
    callback=None,
):
    """Gradient descent whose clients send sketches, and whose server adds them up in integers.

    Parameters
    ----------
    clients : sequence of callable
        Each receives x of shape (n_params,) and returns the gradient of its loss. What goes down is their mean.
    start : array-like of shape (n_params,)
    sketch : GradSketch
    n_rounds : int
    smoothness : float, default=None
        L, from which the step is ``sketch.step_size(L, local_steps)``. Give this or `step`.
    step : float, default=None
    local_steps : int, default=1
        Steps of a client on its own in each round; it sends the sum of their gradients.
    clip : float, default=None
        Bound of what a client sends, before the sketch. A mechanism has its own.
    mechanism : GradientMechanism, default=None
        Clients share its noise, so the sum of a round is private and single messages are not: they belong under masks
        (`gramian.federated.VectorCodec`). Its promise covers ``mechanism.rounds`` rounds: more are refused where no
        accountant says what they cost.
    accountant : PrivacyAccountant, default=None
        Told of every round.
    error_feedback : bool, default=False
        Clients remember what was left out (`ErrorFeedback`). Not with clipping or noise.
    noise_seed : int, default=None
        See `GradSketch.encode`; round t takes the t-th seed from it.
    callback : callable, default=None
        Receives the number of rounds made and x (not to be changed); a true answer ends the descent.

    Returns
    -------
    DescentResult

    Raises
    ------
    ValueError
        A gradient of another length or with NaN or infinity, naming the client and the round; numbers that have left
        the range of the integers, as those of a step that diverges will.

    Notes
    -----
    Totals are exact, so the result is the same bits for any order of the clients. They are made of whole multiples of
    2^-64: where messages fall to 1e-19 x stays, so a loss whose gradients begin near there should be scaled first.
    """
    clients = list(clients)
    if not clients or not all(callable(client) for client in clients):
        raise TypeError("clients must be functions of x, at least one")
    if not isinstance(sketch, GradSketch):
        raise TypeError(f"sketch must be a GradSketch, got {type(sketch).__name__}")
    x = np.array(_validate.readable(np.asarray(start), "start"), dtype=np.float64)
    if x.shape != (sketch.n_params,):
        raise ValueError(f"start has shape {x.shape}, expected {(sketch.n_params,)}")
    _validate.check_finite(x[np.newaxis, :], "start")
    n_rounds = _validate.check_count(n_rounds, "n_rounds")
    local_steps = _validate.check_count(local_steps, "local_steps")
    if (smoothness is None) == (step is None):
        raise ValueError("give either smoothness or step")
    if step is None:
        step = sketch.step_size(smoothness, local_steps)
    step = _validate.check_number(step, "step", strict=True)
    if error_feedback and (clip is not None or mechanism is not None):
        raise ValueError("error_feedback goes with neither clip nor mechanism: what is remembered has no bound")
    if mechanism is not None and not isinstance(mechanism, GradientMechanism):
        raise TypeError(f"mechanism must be a GradientMechanism, got {type(mechanism).__name__}")
    if mechanism is not None and accountant is None and n_rounds > mechanism.rounds:
        raise ValueError(
            f"n_rounds is {n_rounds}, and the mechanism promises its epsilon for {mechanism.rounds} round(s): make it "
            f"with rounds={n_rounds}, or give an accountant that adds up what more of them cost"
        )
    if accountant is not None and (mechanism is None or not isinstance(accountant, PrivacyAccountant)):
        raise TypeError("accountant must be a PrivacyAccountant, and there must be a mechanism for it to count")
    codec = VectorCodec(sketch.n_sketch, n_clients=len(clients))
    memories = [ErrorFeedback(sketch) for _ in clients] if error_feedback else None
    made = 0
    for t in range(n_rounds):
        round_noise = None if noise_seed is None else _core.round_seed(_check_seed(noise_seed), t)
        total = codec.zeros()
        for place, client in enumerate(clients):
            try:
                gradient = _local_gradient(client, x, step, local_steps)
                if memories is not None:
                    sent = memories[place].encode(gradient, t)
                else:
                    sent = sketch.encode(
                        gradient,
                        t,
                        clip=clip,
                        mechanism=mechanism,
                        n_clients=len(clients),
                        noise_seed=None if round_noise is None else _core.round_seed(round_noise, place),
                    )
                codec.add(total, codec.encode(sent))
            except ValueError as error:
                raise ValueError(f"client {place} in round {t}: {error}") from error
        if accountant is not None:
            accountant.spend(mechanism)
        x = x - step * sketch.decode(codec.decode(total) / len(clients), t)
        made = t + 1
        if callback is not None and callback(made, x):
            break
    return DescentResult(x, made, step, made * sketch.n_sketch)


def _local_gradient(client, x, step, local_steps):
    total = np.zeros_like(x)
    for _ in range(local_steps):
        gradient = _validate.readable(np.asarray(client(x - step * total)), "gradient").astype(np.float64, copy=False)
        if gradient.shape != x.shape:
            raise ValueError(f"the gradient has shape {gradient.shape}, expected {x.shape}")
        total += gradient
    return total


# Attacks, with what anybody who sees the messages knows.


def reconstruct_gradient(sketch, observations, rounds, *, rtol=1e-10, max_iter=None):
    """The gradient behind sketches of it, by least squares: an audit of what messages give away.

    Parameters
    ----------
    sketch : GradSketch
    observations : array-like of shape (n_sketch,) or (k, n_sketch)
        Messages that are sketches of one gradient, or of gradients that hardly change.
    rounds : int or sequence of k int
        Rounds of the messages.
    rtol : float, default=1e-10
    max_iter : int, default=None
        10 n_params for None.

    Returns
    -------
    ndarray of shape (n_params,)
        The shortest vector whose sketches are nearest to the messages.

    Notes
    -----
    Where the messages hold as many independent numbers as a gradient, that is for ``n_sketch >= n_params`` or after
    n_params / n_sketch rounds of a gradient that stays what it is, nothing is hidden: the result is the gradient. With
    the same R in every round the messages say the same thing again, and what was hidden stays hidden (from this attack
    alone: see `reconstruct_sample`), but a descent does not arrive either. With calibrated noise of deviation s on the
    messages the squared error is ``s^2 trace (sum R'R)^-1``, which no attack without other knowledge can get below.
    """
    observations = _validate.readable(np.asarray(observations), "observations").astype(np.float64, copy=False)
    observations = np.atleast_2d(observations)
    rounds = [_round_number(value) for value in np.atleast_1d(rounds).tolist()]
    if observations.shape != (len(rounds), sketch.n_sketch):
        raise ValueError(
            f"observations have shape {observations.shape}, expected {(len(rounds), sketch.n_sketch)}: one per round"
        )
    _validate.check_finite(observations, "observations")
    maps = [sketch.sketch(number) for number in rounds]
    image = sum(one.apply_adjoint(y) for one, y in zip(maps, observations, strict=True))
    if not image.any():
        return np.zeros(sketch.n_params)
    found = flexible_cg(
        lambda v: sum(one.apply_adjoint(one.apply(v)) for one in maps), image, rtol=rtol, max_iter=max_iter
    )
    return found.x


def reconstruct_sample(sketch, observation, round_number, shape, *, rank=1, n_iter=100, random_state=0):
    """The gradient of a linear layer from one sketch of it, and so the rows that it was made of.

    The gradient of a layer with `shape` outputs and inputs on a batch is a sum of products, an output error times an
    input row each. Of rank r it has r (outputs + inputs) unknowns, far fewer than n_params: a sketch that is too short
    for any gradient is long enough for this one.

    Parameters
    ----------
    sketch : GradSketch
        ``n_params = shape[0] * shape[1]``.
    observation : array-like of shape (n_sketch,)
    round_number : int
    shape : (int, int)
        Outputs and inputs of the layer.
    rank : int, default=1
        Rows of the batch.
    n_iter : int, default=100
        Sweeps of alternating least squares at most.
    random_state : int, default=0
        Of the start's small disturbance.

    Returns
    -------
    errors : ndarray of shape (shape[0], rank)
    rows : ndarray of shape (shape[1], rank)
        ``errors @ rows.T`` is the gradient. For a batch of one the row is the client's data, up to its length; for
        more their span.
    misfit : float
        ``|R vec(errors @ rows.T) - observation| / |observation|``: rounding where the attack succeeded.

    Notes
    -----
    A sweep builds ``R (errors x I)``, n_params shape[1] rank numbers: meant for layers of some thousand parameters.
    """
    outputs, inputs = (_validate.check_count(value, "shape") for value in shape)
    rank = _validate.check_count(rank, "rank")
    n_iter = _validate.check_count(n_iter, "n_iter")
    if outputs * inputs != sketch.n_params:
        raise ValueError(f"a layer of shape {(outputs, inputs)} has not n_params = {sketch.n_params} weights")
    if rank > min(outputs, inputs) or rank * max(outputs, inputs) > sketch.n_sketch:
        raise ValueError(
            f"rank {rank} is too large for a layer of shape {(outputs, inputs)} and {sketch.n_sketch} numbers"
        )
    y = _validate.readable(np.asarray(observation), "observation").astype(np.float64, copy=False)
    if y.shape != (sketch.n_sketch,):
        raise ValueError(f"observation has shape {y.shape}, expected {(sketch.n_sketch,)}")
    _validate.check_finite(y[np.newaxis, :], "observation")
    # Brought to about 1 by a power of two, for messages whose squares are no doubles.
    power = int(np.frexp(np.abs(y).max())[1])
    y = np.ldexp(y, -power)
    size = np.linalg.norm(y)
    if size == 0:
        return np.zeros((outputs, rank)), np.zeros((inputs, rank)), 0.0
    one = sketch.sketch(round_number)
    start = one.apply_adjoint(y).reshape(outputs, inputs)
    errors = np.linalg.svd(start, full_matrices=False)[0][:, :rank]
    errors = errors + 1e-6 * np.random.default_rng(random_state).normal(size=errors.shape)
    misfit, rows = math.inf, None
    for _ in range(n_iter):
        # For fixed errors the gradient is linear in the rows, and the other way round.
        basis = np.linalg.qr(errors)[0]
        rows = _nearest(one, y, np.kron(basis, np.eye(inputs))).reshape(rank, inputs).T
        rows = np.linalg.qr(rows)[0]
        errors = _nearest(one, y, np.kron(np.eye(outputs), rows)).reshape(outputs, rank)
        before, misfit = misfit, np.linalg.norm(one.apply((errors @ rows.T).ravel()) - y) / size
        if misfit <= 1e-13 or misfit >= (1 - 1e-9) * before:
            break
    return np.ldexp(errors, power), rows, float(misfit)


def _nearest(one, y, basis):
    return lstsq(one.apply(basis), y, method="qr").x
