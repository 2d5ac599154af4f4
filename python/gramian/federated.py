"""Learning from many clients in one round: each sends sums, the server adds them up.

Sums of disjoint rows add up to the sums of all rows, so one round gives the weights of one ridge regression on
everything, however the rows are spread over the clients ("AFL: A Single-Round Analytic Approach for Federated Learning
with Pre-trained Models", in the form of plain sums, which needs no inverse). Taking a client's sums out again is exact
unlearning of that client.

`client_update` and `aggregate` are the plain form. `factor_update` and `merge_factors` say the same in less space where
a client has fewer rows than features. `FixedPointCodec` turns sums into integers whose totals are the same bits in any
order and under masks that cancel, so that a server sees the total and no single client. `GaussianMechanism` adds
calibrated noise to sums, and `PrivacyAccountant` keeps the books.

Gradients that go to and fro in many rounds are the business of `gramian.gradient_sketch`.
"""

import hashlib
import math
import sys
from dataclasses import dataclass

import numpy as np

from . import _core, _labels, _validate
from ._analytic_base import AnalyticEstimator
from .base import thread_count
from .classifier import AnalyticClassifier
from .gram import GramState
from .model_files import load_bytes

__all__ = [
    "CalibratedNoise",
    "FixedPointCodec",
    "GaussianMechanism",
    "PrivacyAccountant",
    "VectorCodec",
    "aggregate",
    "client_update",
    "clip_rows",
    "factor_update",
    "gaussian_epsilon",
    "gaussian_sigma",
    "merge_factors",
    "merge_sums",
    "remove_client",
]


def client_update(model):
    """What a client sends: the sums of a fitted model as bytes, no rows and no weights.

    Parameters
    ----------
    model : AnalyticClassifier or AnalyticRegressor

    Returns
    -------
    bytes
        The content of a model file: 8 (d (d + 1) / 2 + d C) bytes and some, for d features and C outputs.

    Notes
    -----
    Source: "AFL: A Single-Round Analytic Approach for Federated Learning with Pre-trained Models", in the form of sums.
    """
    _require_estimator(model)
    return model.to_bytes()


def _require_estimator(model):
    if not isinstance(model, AnalyticEstimator):
        raise TypeError(f"an AnalyticClassifier or an AnalyticRegressor is needed, got {type(model).__name__}")


def _opened(update):
    return load_bytes(update) if isinstance(update, (bytes, bytearray, memoryview)) else update


def aggregate(model, updates):
    """Adds the updates of clients to a server's model.

    Parameters
    ----------
    model : AnalyticClassifier or AnalyticRegressor
        Fitted or not; its parameters (``ridge`` and so on) decide how weights are solved. The sums hold no ridge, so
        nothing has to be taken out again.
    updates : iterable of bytes or of estimators
        From `client_update`. An update without rows changes nothing.

    Returns
    -------
    model

    Raises
    ------
    ValueError
        An update of another width, feature map or kind; those before it are in. The message names its place.
    FormatError
        Bytes that are no model.

    Notes
    -----
    Source: "AFL: A Single-Round Analytic Approach for Federated Learning with Pre-trained Models"; sums add up where
    the paper combines weights pairwise.
    """
    _require_estimator(model)
    for place, update in enumerate(updates):
        try:
            model.merge(_opened(update))
        except (TypeError, ValueError) as error:
            raise type(error)(f"update {place}: {error}") from error
    return model


def remove_client(model, update):
    """Takes a client's update out of the model again, exactly: the model is then that of the other clients.

    Parameters
    ----------
    model : AnalyticClassifier or AnalyticRegressor
    update : bytes or estimator
        What the client sent. That it was added cannot be checked beyond its counts.

    Returns
    -------
    model

    Raises
    ------
    ValueError
        More rows than the model has, or a class it never saw; the model is then unchanged.
    NotImplementedError
        A classifier of ``class_weight="balanced"`` or "air": their updates add up, but are not taken apart. Add up the
        updates of the other clients anew, or `forget` the rows.

    Notes
    -----
    Source: "AFL: A Single-Round Analytic Approach for Federated Learning with Pre-trained Models" for the sums that are
    taken out; that this is unlearning is "Attribute-to-Delete: Machine Unlearning via Datamodel Matching".
    """
    _require_estimator(model)
    return model.unmerge(_opened(update))


def merge_sums(model, state, classes=None):
    """Adds bare sums, as a codec or a mechanism hands them out, to a model.

    Parameters
    ----------
    model : AnalyticClassifier or AnalyticRegressor
        Fitted, or with ``feature_map=None``: the sums are those of its features.
    state : GramState
        Sums over features, one output per class or per target.
    classes : array-like of shape (n_outputs,), default=None
        Sorted labels of the outputs, for a classifier.

    Returns
    -------
    model

    Notes
    -----
    Source: "AFL: A Single-Round Analytic Approach for Federated Learning with Pre-trained Models".
    """
    _require_estimator(model)
    if not isinstance(state, GramState):
        raise TypeError(f"state must be a GramState, got {type(state).__name__}")
    classifier = isinstance(model, AnalyticClassifier)
    if classifier == (classes is None):
        raise ValueError("classes must be given for a classifier, and for nothing else")
    return model._merge_sums(state, _labels.as_array(classes, "merge_sums") if classifier else None)


def factor_update(X, y, classes=None):
    """What a client with few rows sends instead of its sums: the triangular factor of its rows.

    Parameters
    ----------
    X : array-like of shape (n, d)
        Dense rows of features, behind the feature map where the server's model has one.
    y : array-like of shape (n,) or (n, n_outputs)
        Labels, or numeric targets.
    classes : array-like of shape (n_classes,), default=None
        Sorted labels that all clients agree on, for a classifier; None for numeric targets.

    Returns
    -------
    ndarray of shape (min(n, 1 + d + n_outputs), 1 + d + n_outputs)
        Upper triangular, float64: R of the QR factors of the rows ``[1, x, y]``, its diagonal not negative. Labels are
        one-hot.

    Raises
    ------
    ValueError
        A label that is not among the classes; NaN or infinity, by its row.

    Notes
    -----
    ``R'R`` holds all sums that a model keeps, and R is determined by them: a factor tells what sums tell, no less. For
    n < p = 1 + d + n_outputs it has n p - n (n - 1) / 2 numbers, where sums have d (d + 1) / 2 + d n_outputs: it is the
    smaller one for n < d, much so for n << d. Its digits are those of the rows, not of their squares, but
    `merge_factors` squares it at the server: the weights are as good as with sums, and no better. 2 n^2 p flops
    (Householder, by NumPy). Source: "AFL: A Single-Round Analytic Approach for Federated Learning with Pre-trained
    Models" for the round; that R'R is X'X is a textbook identity.

    Examples
    --------
    >>> import numpy as np
    >>> from gramian import AnalyticRegressor
    >>> from gramian.federated import factor_update, merge_factors
    >>> X, y = np.eye(3, 50), np.arange(3.0)
    >>> factor = factor_update(X, y)
    >>> factor.shape
    (3, 52)
    >>> merge_factors(AnalyticRegressor(), [factor]).n_samples_seen_
    3
    """
    who = "factor_update"
    rows = _validate.check_rows(X, who)
    if isinstance(rows, _validate.CSRRows):
        raise ValueError("factor_update needs dense rows: a factor is dense")
    _validate.check_finite(rows)
    if classes is None:
        targets = _validate.as_columns(_validate.check_targets(y, who))
    else:
        targets = _one_hot(_labels.encode(_labels.as_array(y, who)), _sorted_classes(classes))
    _validate.check_length(rows, targets)
    whole = np.hstack([np.ones((rows.shape[0], 1)), rows.astype(np.float64), targets.astype(np.float64)])
    factor = np.linalg.qr(whole, mode="r")
    # The sign of a row of R is free; this one makes the factor a function of the sums.
    return np.where(np.diagonal(factor) < 0, -1.0, 1.0)[:, np.newaxis] * factor


def merge_factors(model, factors, classes=None, n_outputs=1):
    """Adds the factors of clients to a server's model: all of them or, on an error, none.

    Parameters
    ----------
    model : AnalyticClassifier or AnalyticRegressor
        Fitted, or with ``feature_map=None``: factors are those of its features.
    factors : iterable of ndarray
        From `factor_update`.
    classes : array-like of shape (n_classes,), default=None
        For a classifier, as the clients had it.
    n_outputs : int, default=1
        Columns of the targets, for a regressor.

    Returns
    -------
    model

    Raises
    ------
    ValueError
        An array that is no factor of such rows, or of another width than the one before; the message names its place.

    Notes
    -----
    The first row of a factor is (1, mean of x, mean of y) times the square root of n, those below are a factor of the
    rows around their means: their squares are the centred sums, and nothing is subtracted. k (d^2 + 2 d n_outputs)
    flops for a factor of k rows. Source: "AFL: A Single-Round Analytic Approach for Federated Learning with Pre-trained
    Models" for the round; the sums around the means are a textbook identity.
    """
    _require_estimator(model)
    if isinstance(model, AnalyticClassifier) == (classes is None):
        raise ValueError("classes must be given for a classifier, and for nothing else")
    if classes is None:
        n_outputs = _validate.check_count(n_outputs, "n_outputs")
    else:
        n_outputs = len(_sorted_classes(classes))
    total = None
    for place, factor in enumerate(factors):
        try:
            state = _state_of_factor(factor, n_outputs, classes is not None, getattr(model, "fit_intercept", True))
            total = state if total is None else total.merge(state)
        except ValueError as error:
            raise ValueError(f"factor {place}: {error}") from error
    return model if total is None else merge_sums(model, total, classes)


def _sorted_classes(classes):
    values = _labels.as_array(classes, "factor_update")
    labels = _labels.encode(values)
    if len(labels.values) != len(values) or (labels.codes != np.arange(len(values))).any():
        raise ValueError("classes must be sorted and without repeats")
    return labels.values


def _one_hot(labels, classes):
    unknown = _labels.outside(labels.values, classes)
    if unknown.size:
        raise ValueError(f"y has labels that are not among the classes: {unknown.tolist()!r}")
    targets = np.zeros((len(labels.codes), len(classes)))
    targets[np.arange(len(targets)), np.searchsorted(classes, labels.values)[labels.codes]] = 1.0
    return targets


def _state_of_factor(factor, n_outputs, codes, fit_intercept):
    """The sums of the rows whose factor this is."""
    factor = np.asarray(factor)
    d = factor.shape[1] - 1 - n_outputs if factor.ndim == 2 else 0
    if factor.dtype.kind != "f" or d < 1 or not 1 <= len(factor) <= factor.shape[1]:
        raise ValueError(
            f"a factor is a float array of at most p rows and p = 1 + n_features + {n_outputs} columns, got "
            f"{factor.dtype} of shape {factor.shape}"
        )
    factor = factor.astype(np.float64, copy=False)
    if not np.isfinite(factor).all() or np.tril(factor, -1).any():
        raise ValueError("a factor is finite and upper triangular")
    corner = factor[0, 0] ** 2
    n = float(np.rint(corner))
    if factor[0, 0] <= 0 or n < len(factor) or abs(corner - n) > 1e-5 * n:
        raise ValueError(f"its corner says that it is made of {corner:g} rows, and it has {len(factor)} itself")
    means = factor[0, 1:] / factor[0, 0]
    totals = np.rint(n * means[d:])
    if codes and (np.abs(n * means[d:] - totals).max() > 1e-5 * n or totals.min() < 0 or totals.sum() != n):
        raise ValueError("its targets are not one-hot")
    # Rows whose squares are the sums: around the means, or around the origin without an intercept.
    rows = factor[:, 1:].copy()
    if fit_intercept:
        rows[0] = 0.0
    bare = GramState(d, n_outputs, fit_intercept=False).add(rows[:, :d], rows[:, d:])
    like = _Like(d, n_outputs, fit_intercept, [0.0] * d, [0.0] * n_outputs, codes)
    values = bare._core.moments(like._center, like._target_center)
    of_x, of_y, energies, counts = np.split(np.arange(2, 2 + d + 3 * n_outputs), d + n_outputs * np.arange(3))
    values[:2] = n
    values[of_x], values[of_y] = n * means[:d], n * means[d:]
    if fit_intercept:
        like._center[:] = means[:d].tolist()
        values[of_x] = 0.0
    if codes:
        values[of_y] = values[energies] = values[counts] = totals
    elif fit_intercept:
        like._target_center[:] = means[d:].tolist()
        values[of_y] = 0.0
    return _state_of(values, like)


class _Codec:
    """Vectors of ``size`` numbers as 128-bit integers: exact sums, and masks that cancel."""

    def __init__(self, n_clients, fraction_bits):
        self.n_clients = _validate.check_count(n_clients, "n_clients")
        self.fraction_bits = _validate.check_count(fraction_bits, "fraction_bits", low=0)

    def zeros(self):
        """The encoding of nothing, to add to."""
        return np.zeros((self.size, 2), dtype=np.uint64)

    def add(self, total, encoded):
        """``total += encoded``, in place and exactly. Returns total."""
        self._check(total, "total")
        _core.add_fixed(self._check(encoded, "encoded"), 1, total)
        return total

    def remove(self, total, encoded):
        """``total -= encoded``, in place and exactly: bit for bit the total that was never given it. Returns total."""
        self._check(total, "total")
        _core.add_fixed(self._check(encoded, "encoded"), -1, total)
        return total

    def mask(self, encoded, client, secrets, round_number=0):
        """An encoding under pairwise masks; the masks of all clients cancel in the total.

        Parameters
        ----------
        encoded : ndarray of shape (size, 2)
        client : int
            This client's number.
        secrets : dict of int to bytes
            The secret shared with each other client of the round. The client of the lower number adds the mask, the
            other one takes it off.
        round_number : int, default=0
            A secret must never make the same mask twice.

        Returns
        -------
        ndarray of shape (size, 2)
        """
        masked = self._check(encoded, "encoded").copy()
        client = _validate.check_count(client, "client", low=0)
        label = _validate.check_count(round_number, "round_number", low=0).to_bytes(8, "little")
        for other, secret in secrets.items():
            if other == client:
                raise ValueError(f"secrets holds one for client {client} itself")
            if not isinstance(secret, bytes) or len(secret) < 16:
                raise ValueError(f"the secret shared with client {other} must be at least 16 bytes")
            stream = hashlib.shake_256(b"gramian mask" + label + secret).digest(16 * self.size)
            words = np.frombuffer(stream, dtype="<u8").astype(np.uint64).reshape(self.size, 2)
            _core.add_fixed(words, 1 if client < other else -1, masked)
        return masked

    def _check(self, words, name):
        if not isinstance(words, np.ndarray) or words.dtype != np.uint64 or words.shape != (self.size, 2):
            raise ValueError(f"{name} must be a uint64 array of shape {(self.size, 2)}")
        return words


class VectorCodec(_Codec):
    """Vectors as 128-bit integers: totals are the same bits for any order of the clients, and masks cancel exactly.

    What `FixedPointCodec` is for sums of rows, for anything that is added up entry by entry: sketches of gradients.

    Parameters
    ----------
    size : int
        Entries of a vector.
    n_clients : int
        The most vectors that are ever added up; fixes the room kept for the total.
    fraction_bits : int, default=64
        Bits behind the binary point: an entry is off by at most 2^-(fraction_bits + 1) per client. Entries must stay
        below 2^(126 - fraction_bits) / n_clients.

    Notes
    -----
    Source: "Practical Secure Aggregation for Privacy-Preserving Machine Learning".

    Examples
    --------
    >>> import numpy as np
    >>> from gramian.federated import VectorCodec
    >>> codec = VectorCodec(2, n_clients=3)
    >>> total = codec.zeros()
    >>> for vector in ([1e16, 0.1], [1.0, 0.2], [-1e16, 0.3]):
    ...     total = codec.add(total, codec.encode(np.array(vector)))
    >>> codec.decode(total)
    array([1. , 0.6])
    """

    def __init__(self, size, n_clients, fraction_bits=64):
        super().__init__(n_clients, fraction_bits)
        self._size = _validate.check_count(size, "size")

    @property
    def size(self):
        """Entries of a vector."""
        return self._size

    def encode(self, vector):
        """A vector of shape (size,) as an array of uint64 of shape (size, 2)."""
        values = np.ascontiguousarray(_validate.readable(np.asarray(vector), "vector"), dtype=np.float64)
        if values.shape != (self.size,):
            raise ValueError(f"vector has shape {values.shape}, the codec is for {(self.size,)}")
        return _core.encode_fixed(values, self.fraction_bits, self.n_clients)

    def decode(self, total):
        """The sum of the vectors, each entry rounded once: ndarray of shape (size,)."""
        return _core.decode_fixed(self._check(total, "total"), self.fraction_bits)


class FixedPointCodec(_Codec):
    """Sums as 128-bit integers: totals are the same bits for any order of the clients, and masks cancel exactly.

    Parameters
    ----------
    n_features : int
    n_outputs : int
    n_clients : int
        The most vectors that are ever added up; fixes the room kept for the total.
    fraction_bits : int, default=64
        Bits behind the binary point: an entry is off by at most 2^-(fraction_bits + 1) per client. Entries must stay
        below 2^(126 - fraction_bits) / n_clients.
    codes : bool, default=False
        Whether outputs are classes (one-hot targets).
    fit_intercept : bool, default=True
    center : array-like of shape (n_features,), default=None
        A point near the data that all clients agree on; sums around it lose no digits to a large mean. None is zero.
    target_center : array-like of shape (n_outputs,), default=None

    Notes
    -----
    A vector has ``size`` = 2 + d + 3 C + C d + d (d + 1) / 2 entries of 16 bytes. Masks are drawn with SHAKE-256 from a
    secret that two clients share, a pseudorandom function fit for the purpose; exchanging the secrets and handling
    clients that drop out are the protocol's business. Source: "Practical Secure Aggregation for Privacy-Preserving
    Machine Learning".
    """

    def __init__(
        self,
        n_features,
        n_outputs,
        n_clients,
        fraction_bits=64,
        codes=False,
        fit_intercept=True,
        center=None,
        target_center=None,
    ):
        self.n_features = _validate.check_count(n_features, "n_features")
        self.n_outputs = _validate.check_count(n_outputs, "n_outputs", low=0)
        super().__init__(n_clients, fraction_bits)
        self.codes = bool(codes)
        self.fit_intercept = bool(fit_intercept)
        self._center = _point(center, self.n_features, "center")
        self._target_center = _point(target_center, self.n_outputs, "target_center")

    @property
    def size(self):
        """Entries of a vector."""
        d, c = self.n_features, self.n_outputs
        return 2 + d + 3 * c + c * d + d * (d + 1) // 2

    def encode(self, state):
        """Sums as an array of uint64 of shape (size, 2).

        Parameters
        ----------
        state : GramState
            Of the codec's sizes.
        """
        if not isinstance(state, GramState):
            raise TypeError(f"state must be a GramState, got {type(state).__name__}")
        if (state.n_features, state.n_outputs) != (self.n_features, self.n_outputs):
            raise ValueError(
                f"state has {state.n_features} features and {state.n_outputs} outputs, the codec "
                f"{self.n_features} and {self.n_outputs}"
            )
        if state.fit_intercept != self.fit_intercept:
            raise ValueError(f"state has fit_intercept={state.fit_intercept}, the codec {self.fit_intercept}")
        values = state._core.moments(self._center, self._target_center)
        return _core.encode_fixed(values, self.fraction_bits, self.n_clients)

    def decode(self, total, *, device="cpu", n_jobs=None):
        """The sums of a total whose masks have cancelled.

        Returns
        -------
        GramState

        Raises
        ------
        ValueError
            The total holds no possible sums: a client is missing, a mask did not cancel, or a total has left its
            room, which shows in a sum of squares below zero.
        """
        values = _core.decode_fixed(self._check(total, "total"), self.fraction_bits)
        if not 0 <= values[1] <= 2**53 or values[1] != np.rint(values[1]) or (values[0] > 0) != (values[1] > 0):
            raise ValueError("total holds no possible sums: a client is missing, or a mask did not cancel")
        d = self.n_features
        squares = values[self.size - d * (d + 1) // 2 :][np.arange(1, d + 1) * np.arange(2, d + 2) // 2 - 1]
        # Sums that are moved to the center may leave a rounding below zero, and each client half a unit.
        least = -(self.n_clients * 2.0**-self.fraction_bits + 1e-9 * np.abs(squares).max())
        if (squares < least).any():
            feature = int(np.argmin(squares))
            raise ValueError(
                f"total holds no possible sums: feature {feature} has a sum of squares of {squares[feature]:.6g}; more "
                f"than {self.n_clients} clients have been added, or entries were too large and wrapped"
            )
        return _state_of(values, self, device, n_jobs)


def _point(values, size, name):
    if values is None:
        return [0.0] * size
    point = np.asarray(values, dtype=np.float64)
    if point.shape != (size,):
        raise ValueError(f"{name} must have shape {(size,)}, got {point.shape}")
    return point.tolist()


def _state_of(values, like, device="cpu", n_jobs=None):
    core = _core.GramState.of_moments(
        n_features=like.n_features,
        n_outputs=like.n_outputs,
        products="float64",
        intercept=like.fit_intercept,
        moments=values,
        center=like._center,
        target_center=like._target_center,
        codes=like.codes,
        device=_validate.device_name(device),
        threads=thread_count(n_jobs),
    )
    return GramState._wrap(core, device, n_jobs)


# Differential privacy.


def _normal_cdf(x):
    return 0.5 * math.erfc(-x / math.sqrt(2.0))


def _delta(epsilon, ratio):
    # "Improving the Gaussian Mechanism for Differential Privacy: Analytical Calibration and Optimal Denoising";
    # ratio = sensitivity / sigma.
    if ratio == 0:
        return 0.0
    upper, lower = ratio / 2 - epsilon / ratio, -ratio / 2 - epsilon / ratio
    first, tail = _normal_cdf(upper), _normal_cdf(lower)
    second = math.exp(epsilon) * tail
    # A bound from above: two numbers that nearly cancel leave their rounding, that of the tails growing with the square
    # of the argument, and a promise must not be made of it. A tail among the subnormal numbers is not taken off at all.
    rounding = 4 * sys.float_info.epsilon * ((1 + upper * upper) * first + (1 + lower * lower + epsilon) * second)
    return first + rounding - (second if tail >= sys.float_info.min else 0.0)


def _check_delta(delta):
    delta = _validate.check_number(delta, "delta", strict=True)
    if delta >= 1:
        raise ValueError(f"delta must be below 1, got {delta!r}")
    return delta


def _check_epsilon(epsilon):
    epsilon = _validate.check_number(epsilon, "epsilon", strict=True)
    if epsilon > 100:
        raise ValueError(f"epsilon must be at most 100, got {epsilon!r}: that protects nobody")
    return epsilon


def gaussian_sigma(epsilon, delta, sensitivity=1.0):
    """The least standard deviation of Gaussian noise that gives (epsilon, delta) differential privacy.

    Parameters
    ----------
    epsilon : float
        In (0, 100].
    delta : float
        In (0, 1).
    sensitivity : float, default=1.0
        How far one row can move the vector, in the Euclidean norm.

    Returns
    -------
    float

    Notes
    -----
    The exact calibration, by bisection to the last digits, rounded up. Source: "Improving the Gaussian Mechanism for
    Differential Privacy: Analytical Calibration and Optimal Denoising".
    """
    epsilon, delta = _check_epsilon(epsilon), _check_delta(delta)
    sensitivity = _validate.check_number(sensitivity, "sensitivity", strict=True)
    low, high = 0.0, 1.0
    while _delta(epsilon, high) < delta:
        high *= 2
    for _ in range(200):
        middle = (low + high) / 2
        if middle in (low, high):
            break
        if _delta(epsilon, middle) <= delta:
            low = middle
        else:
            high = middle
    return sensitivity / low


def gaussian_epsilon(sigma, delta, sensitivity=1.0, releases=1):
    """The privacy that Gaussian noise gives: epsilon at this delta after some releases with the same noise.

    Gaussian mechanisms compose exactly: k of them are one whose sensitivity is sqrt(k) times as large. Source:
    "Gaussian Differential Privacy".
    """
    sigma = _validate.check_number(sigma, "sigma", strict=True)
    sensitivity = _validate.check_number(sensitivity, "sensitivity", strict=True)
    releases = _validate.check_count(releases, "releases")
    return _epsilon_of(math.sqrt(releases) * sensitivity / sigma, _check_delta(delta))


def _epsilon_of(ratio, delta):
    if ratio == 0 or _delta(0.0, ratio) <= delta:
        return 0.0
    low, high = 0.0, 1.0
    while _delta(high, ratio) > delta:
        high *= 2
        if high > 700:
            return math.inf
    for _ in range(200):
        middle = (low + high) / 2
        if middle in (low, high):
            break
        if _delta(middle, ratio) > delta:
            low = middle
        else:
            high = middle
    return high


def clip_rows(X, bound):
    """Rows of Euclidean norm at most ``bound``: longer ones are shortened, others are kept as they are.

    Parameters
    ----------
    X : array-like of shape (n, d)
    bound : float

    Returns
    -------
    ndarray of shape (n, d)

    Notes
    -----
    Source: "Deep Learning with Differential Privacy", which clips gradients so.
    """
    bound = _validate.check_number(bound, "bound", strict=True)
    rows = np.asarray(X)
    if rows.ndim != 2 or rows.dtype.kind not in "fiub":
        raise ValueError(f"X must be a numeric array of two dimensions, got {rows.dtype} of shape {rows.shape}")
    rows = rows.astype(np.result_type(rows.dtype, np.float32), copy=False)
    _validate.check_finite(rows)
    with np.errstate(over="ignore"):
        norms = np.sqrt(np.einsum("ij,ij->i", rows, rows, dtype=np.float64))
    # A hair below the bound, so that rounding cannot leave a row above it.
    short = bound * (1 - 4 * np.finfo(rows.dtype).eps)
    scale = np.where(norms > bound, short / np.maximum(norms, bound), 1.0)
    out = (rows * scale[:, np.newaxis]).astype(rows.dtype)
    # Rows whose squares left the range of float64: brought to about 1 by powers of two.
    far = np.flatnonzero((norms > 1e140) | ((norms < 1e-140) & rows.any(axis=1)))
    if far.size:
        power = np.frexp(np.abs(rows[far]).max(axis=1))[1]
        unit = np.ldexp(rows[far].astype(np.float64), -power[:, np.newaxis])
        length = np.linalg.norm(unit, axis=1)
        with np.errstate(over="ignore", under="ignore"):
            long = length > np.ldexp(bound, -power)
        out[far] = rows[far]
        out[far[long]] = unit[long] * (short / length[long])[:, np.newaxis]
    return out


@dataclass(frozen=True)
class CalibratedNoise:
    """Gaussian noise that keeps (epsilon, delta) in one release of what has sensitivity 1; the base of mechanisms.

    Parameters
    ----------
    epsilon, delta : float
        The promise for one release.

    Notes
    -----
    Source: "Improving the Gaussian Mechanism for Differential Privacy: Analytical Calibration and Optimal Denoising".
    """

    epsilon: float
    delta: float

    def __post_init__(self):
        object.__setattr__(self, "epsilon", _check_epsilon(self.epsilon))
        object.__setattr__(self, "delta", _check_delta(self.delta))
        object.__setattr__(self, "_sigma", gaussian_sigma(self.epsilon, self.delta))

    @property
    def sigma(self):
        """Standard deviation of the noise in units of the sensitivity."""
        return self._sigma


@dataclass(frozen=True)
class GaussianMechanism(CalibratedNoise):
    """Calibrated Gaussian noise on sums: (epsilon, delta) differential privacy for adding or taking out one row.

    Parameters
    ----------
    epsilon, delta : float
        The promise for one release.
    feature_bound : float
        Every row (of features, behind the feature map) has at most this Euclidean norm; see `clip_rows`.
    target_bound : float, default=1.0
        The same for rows of targets; 1 for one-hot ones.

    Notes
    -----
    Sufficient-statistics perturbation. One row moves sum 1, sum x, sum y, sum y^2, X'Y and the lower triangle of X'X by
    at most 1, B, T, T^2, B T and B^2. Each of the six parts gets noise in proportion to its own bound, so that together
    they are one Gaussian mechanism of sensitivity 1; each part then carries sqrt(6) sigma of its bound. Every row must
    have weight 1 and the bounds must hold: a row that weighs more is hidden by less noise than was promised.
    `privatize` refuses sums of rows of other weights; of the bounds, sums tell only a part, and the rest is for the
    caller to see to. The generator is seeded from the system unless ``random_state`` says otherwise; floating-point
    noise can leak in theory, whoever draws it. Source:
    "Improving the Gaussian Mechanism for Differential Privacy: Analytical Calibration and Optimal Denoising" for the
    size of the noise; that six parts in proportion to their bounds are one mechanism is a textbook identity.
    """

    feature_bound: float
    target_bound: float = 1.0

    def __post_init__(self):
        super().__post_init__()
        for name in ("feature_bound", "target_bound"):
            object.__setattr__(self, name, _validate.check_number(getattr(self, name), name, strict=True))

    def privatize(self, state, random_state=None, *, assume_unit_weights=False):
        """A state whose sums carry noise. Its Gram matrix is made positive semidefinite again, which costs no privacy.

        Parameters
        ----------
        state : GramState
            Sums of clipped, unweighted rows.
        random_state : int, Generator or None, default=None
            None draws a seed from the system; anything else is for tests.
        assume_unit_weights : bool, default=False
            The caller's word that every row was added with weight 1 (or 0). Needed where the sums do not say
            (`GramState.weighted_rows` is None); sums that contradict it are refused all the same.

        Returns
        -------
        GramState
            Its number of rows is the noisy sum of weights, rounded, at least 1.

        Raises
        ------
        ValueError
            The traces of the sums say that rows were longer than the bounds; the sums say that rows were weighted; or
            they do not say that they were not.

        Notes
        -----
        Sums count the rows whose weight is not 1 (`GramState.weighted_rows`), so weights are found whatever their mean
        is. Where the count is not known, what is left to look at is that the sum of all weights is the number of rows
        and, where all rows came with labels, the sum of the weights of each class the number of its rows; weights that
        differ within a class and have mean 1 there pass it, which is why the caller's word is asked for. Single rows
        above the bounds are not found, as long as the mean square is not.

        Source: "Improving the Gaussian Mechanism for Differential Privacy: Analytical Calibration and Optimal
        Denoising".
        """
        if not isinstance(state, GramState):
            raise TypeError(f"state must be a GramState, got {type(state).__name__}")
        d, c = state.n_features, state.n_outputs
        values = state._core.moments([0.0] * d, [0.0] * c)
        counts = values[2 + d + 2 * c : 2 + d + 3 * c]
        _require_unit_weights(state, values[2 + d : 2 + d + c], counts, assume_unit_weights)
        slack = 1 + 1e-6
        diagonal = np.cumsum(np.arange(1, d + 1)) - 1
        gram = values[2 + d + 3 * c + c * d :]
        energies = values[2 + d + c : 2 + d + 2 * c]
        if gram[diagonal].sum() > state.n_rows * self.feature_bound**2 * slack:
            raise ValueError(f"rows of X are longer than feature_bound={self.feature_bound:g}: clip them first")
        if energies.sum() > state.n_rows * self.target_bound**2 * slack:
            raise ValueError(f"rows of y are longer than target_bound={self.target_bound:g}: clip them first")
        rng = random_state if isinstance(random_state, np.random.Generator) else np.random.default_rng(random_state)
        b, t = self.feature_bound, self.target_bound
        unit = math.sqrt(6.0) * self.sigma
        noisy = values + rng.standard_normal(values.size) * np.repeat(
            [unit, 0.0, unit * b, unit * t, unit * t * t, 0.0, unit * b * t, unit * b * b],
            [1, 1, d, c, c, c, c * d, gram.size],
        )
        noisy[0] = max(1.0, noisy[0])
        noisy[1] = np.rint(noisy[0])
        noisy[2 + d + c : 2 + d + 2 * c] = np.maximum(noisy[2 + d + c : 2 + d + 2 * c], 0.0)
        # Rows per class are released through the noisy sums of the one-hot targets alone.
        codes = bool(counts.any())
        sums = noisy[2 + d : 2 + d + c]
        noisy[2 + d + 2 * c : 2 + d + 3 * c] = np.maximum(np.rint(sums), 1.0) if codes else 0.0
        noisy[1] = max(noisy[1], noisy[2 + d + 2 * c : 2 + d + 3 * c].sum())
        like = _Like(d, c, state.fit_intercept, [0.0] * d, [0.0] * c, codes)
        out = _state_of(noisy, like)
        out._core.make_positive()
        return out


def _require_unit_weights(state, class_weights, counts, assumed):
    """ValueError where sums show rows of a weight that is not 1, or, unless that is assumed, cannot show it."""
    weighted = "sample weights or class weights were used, so one row may weigh more than the noise is made for"
    if state.weighted_rows or state.weight_sum != state.n_rows:
        raise ValueError(weighted)
    # Sums of ones, taken around another point and brought back: off by some roundings of the number of rows.
    labelled = counts.any() and counts.sum() == state.n_rows
    if labelled and (np.abs(class_weights - counts) > 1e-10 * state.n_rows).any():
        raise ValueError(weighted)
    if state.weighted_rows is None and not assumed:
        raise ValueError(
            "these sums do not tell whether rows were weighted: pass assume_unit_weights=True if each row was added "
            "with weight 1"
        )


@dataclass(frozen=True)
class _Like:
    n_features: int
    n_outputs: int
    fit_intercept: bool
    _center: list
    _target_center: list
    codes: bool


class PrivacyAccountant:
    """Adds up what releases of Gaussian mechanisms cost, exactly.

    The account is about what the mechanisms are about: one row, or one client, more or less. Of mechanisms for rows and
    for clients in one account the smaller unit is what is promised. A `GradientMechanism` with ``replace=True`` counts
    with its own, larger noise: an account of such alone is about replacing, a mixed one about adding and taking out.
    No amplification by sampling is counted, so none is claimed.

    Source: "Gaussian Differential Privacy".

    Examples
    --------
    >>> from gramian.federated import GaussianMechanism, PrivacyAccountant
    >>> accountant = PrivacyAccountant()
    >>> for _ in range(4):
    ...     accountant.spend(GaussianMechanism(epsilon=0.5, delta=1e-6, feature_bound=1.0))
    >>> round(accountant.epsilon(delta=1e-5), 2)
    0.92
    """

    def __init__(self):
        self._squares = 0.0
        self.releases = 0

    def spend(self, mechanism):
        """Counts one release about the same rows, or the same clients: one call for each, whatever they release."""
        if not isinstance(mechanism, CalibratedNoise):
            raise TypeError(f"a GaussianMechanism or a GradientMechanism is needed, got {type(mechanism).__name__}")
        self._squares += mechanism.sigma**-2
        self.releases += 1

    @property
    def rho(self):
        """The same cost as zero-concentrated differential privacy counts it: the sum of 1 / (2 sigma^2)."""
        return self._squares / 2

    def epsilon(self, delta):
        """The epsilon that all releases together give at this delta.

        Exact for Gaussian mechanisms, and so never above the bound ``rho + 2 sqrt(rho log(1 / delta))`` that is often
        quoted.
        """
        return _epsilon_of(math.sqrt(self._squares), _check_delta(delta))
