"""The path of gradient descent on squared error in closed form: any time, any number of steps, from the sums alone."""

import numpy as np

from . import _core, _validate
from .base import Snapshot
from .gram import GramState


class GradientFlow(Snapshot):
    """Weights of gradient flow and gradient descent at any time, without taking a step.

    The flow ``dW/dt = -(1/n) (X'X W - X'Y + ridge W)`` and gradient descent with a fixed step are diagonal in the
    eigenvectors of the Gram matrix, so one eigen-decomposition holds the whole path. It needs the sums of a `GramState`
    only; rows are kept for `best_t` with leave-one-out and for nothing else.

    Parameters
    ----------
    X : array-like or CSR matrix of shape (n, d), default=None
    y : array-like of shape (n,) or (n, n_outputs), default=None
        Rows to learn from, or neither where `state` is given. They are borrowed for `best_t`, not copied.
    state : GramState, default=None
        The sums, instead of rows.
    start : array-like of shape (d,) or (n_outputs, d), default=None
        Weights at time 0; None for zeros.
    ridge : float, default=0.0
        Penalty added to the loss.
    momentum : float, default=0.0
        In [0, 1): the share of the last step that gradient descent adds to the next (`steps`). The flow (`t`) has none,
        and with a momentum only ``t=np.inf``, where both end, is taken for it.
    nesterov : bool, default=False
        Take the gradient where the momentum alone would lead, instead of heavy ball's present weights.
    fit_intercept : bool, default=True
        With rows: centre them, the intercept being at its optimum all along. A state has its own setting.
    device : str, default="cpu"
        With rows: "cpu", "cuda" or "cuda:1". A state has its own.
    n_jobs : int, default=None
        With rows: threads. A state has its own.

    Attributes
    ----------
    eigenvalues_ : ndarray of shape (d,)
        Of the centred Gram matrix, ascending; what is rounding is exactly 0. Without a ridge these modes are frozen:
        the path keeps their coordinates bit for bit, and the weights of features without variance.
    largest_step_ : float
        Steps from here on diverge: 2 n / (largest eigenvalue + ridge), times 1 + momentum for heavy ball and
        (1 + momentum) / (1 + 2 momentum) for Nesterov's.

    Notes
    -----
    About 9 d^3 flops once, 2 d^2 C for the weights at one time; 8 d^2 bytes. It does not pickle: pickle the
    rows or the state and make one of them again. Source: "High-dimensional dynamics of
    generalization error in neural networks".

    Momentum leaves every mode by itself as well: a recursion of two terms, whose m-th term takes O(log m) flops. Heavy
    ball is ``W+ = W - step g(W) + momentum (W - W-)``, Nesterov's ``W+ = V - step g(V)`` with
    ``V = W + momentum (W - W-)``, both from rest. Sources: "Some methods of speeding up the convergence of iteration
    methods", "On the importance of initialization and momentum in deep learning".

    Examples
    --------
    >>> import numpy as np
    >>> from gramian import GradientFlow
    >>> X = np.array([[1.0, 0.0], [0.0, 2.0], [-1.0, 0.0], [0.0, -2.0]])
    >>> flow = GradientFlow(X, X @ [1.0, 1.0])
    >>> flow.weights(1.0)[0].round(4)  # the stronger direction is learnt first
    array([[0.3935, 0.8647]])
    """

    def __init__(
        self,
        X=None,
        y=None,
        *,
        state=None,
        start=None,
        ridge=0.0,
        momentum=0.0,
        nesterov=False,
        fit_intercept=True,
        device="cpu",
        n_jobs=None,
    ):
        if (state is None) == (X is None):
            raise ValueError("GradientFlow needs either rows (X and y) or a state")
        who = type(self).__name__
        if state is None:
            rows = _validate.check_rows(X, who)
            targets = _validate.as_columns(_validate.check_targets(y, who))
            _validate.check_length(rows, targets)
            self._rows = rows, targets
            state = GramState(
                rows.shape[1], targets.shape[1], fit_intercept=fit_intercept, device=device, n_jobs=n_jobs
            ).add(rows, targets)
        elif not isinstance(state, GramState):
            raise TypeError(f"state must be a GramState, got {type(state).__name__}")
        elif y is not None:
            raise ValueError("y goes with X, not with a state")
        else:
            self._rows = None
        if state.n_outputs == 0:
            raise ValueError("the state has no outputs to learn")
        if start is not None:
            start = np.ascontiguousarray(np.asarray(start, dtype=np.float64).reshape(-1, np.shape(start)[-1]))
            expected = (state.n_outputs, state.n_features)
            if start.shape != expected:
                raise ValueError(f"start has shape {start.shape}, expected {expected}")
        self._momentum = _validate.check_number(momentum, "momentum")
        if self._momentum >= 1:
            raise ValueError(f"momentum must be in [0, 1), got {momentum!r}")
        ridge = _validate.check_number(ridge, "ridge")
        self._core = _core.GradientFlow(state._core, ridge, start, self._momentum, bool(nesterov))

    @property
    def eigenvalues_(self):
        """Eigenvalues of the centred Gram matrix, ascending."""
        return self._core.eigenvalues

    @property
    def largest_step_(self):
        """Step sizes of gradient descent from here on diverge."""
        return self._core.largest_step

    def _stop(self, t, steps, step):
        """(time, steps, step) as the compiled module takes them."""
        if (t is None) == (steps is None):
            raise ValueError("give either t, or steps together with step")
        if t is not None:
            if step is not None:
                raise ValueError("step goes with steps, not with t")
            if isinstance(t, (int, float, np.number)) and t == np.inf:
                return np.inf, 0, 0.0
            self._require_flow()
            return _validate.check_number(t, "t"), 0, 0.0
        return 0.0, _validate.check_count(steps, "steps", low=0), _validate.check_number(step, "step", strict=True)

    def _require_flow(self):
        if self._momentum > 0:
            raise ValueError("the flow at a time t has no momentum: give steps and step, or make one without momentum")

    def weights(self, t=None, *, steps=None, step=None):
        """Weights at time ``t`` of the flow, or after ``steps`` steps of gradient descent of size ``step``.

        Parameters
        ----------
        t : float, default=None
            >= 0; ``np.inf`` is the limit: least squares (ridge regression), the minimum-norm one from a start of zeros.
        steps : int, default=None
        step : float, default=None
            Below `largest_step_`. The loss is ``|Y - X W|^2 / (2 n)``, so time and steps are related by t = steps step.

        Returns
        -------
        coef : ndarray of shape (n_outputs, d)
        intercept : ndarray of shape (n_outputs,)

        Raises
        ------
        ValueError
            A step that diverges, a negative time, a finite time with a momentum.
        """
        return self._core.weights(*self._stop(t, steps, step))

    def mode_weights(self, t=None, *, steps=None, step=None):
        """Coordinates of the weights in the eigenvectors, (d, n_outputs) in the order of `eigenvalues_`."""
        return self._core.mode_weights(*self._stop(t, steps, step))

    def training_error(self, t=None, *, steps=None, step=None):
        """Mean square error on the rows, over all outputs, from the sums."""
        residual = self._core.residual_sum(*self._stop(t, steps, step))
        return residual / (self._core.weight_sum * self._core.n_outputs)

    def degrees_of_freedom(self, t=None, *, steps=None, step=None):
        """Trace of the hat matrix, the intercept counted: 0 features at time 0, all that vary in the limit."""
        return self._core.degrees_of_freedom(*self._stop(t, steps, step))

    def gcv(self, t=None, *, steps=None, step=None):
        """Generalised cross-validation score, from the sums; lower is better.

        Source: "Generalized Cross-Validation as a Method for Choosing a Good Ridge Parameter", of the hat matrix of the
        flow.
        """
        return self._core.gcv(*self._stop(t, steps, step))

    def risk(self, t=None, *, steps=None, step=None, signal=1.0, noise=1.0, per_mode=False):
        """Expected squared error of the weights for a random truth.

        Parameters
        ----------
        t, steps, step
            As in `weights`.
        signal : float, default=1.0
            Variance of each true weight around the start (around zero with a ridge).
        noise : float, default=1.0
            Variance of the targets around the truth.
        per_mode : bool, default=False
            One value per mode, in the order of `eigenvalues_`, instead of their sum.

        Notes
        -----
        ``signal (1 - s phi)^2 + noise s phi^2`` with ``s phi = 1 - exp(-t s / n)`` for the flow, smallest for each mode
        at `mode_stops`. Source: "High-dimensional dynamics of generalization error in neural networks".
        """
        signal = _validate.check_number(signal, "signal")
        noise = _validate.check_number(noise, "noise")
        risks = self._core.mode_risk(*self._stop(t, steps, step), signal, noise)
        return risks if per_mode else float(risks.sum())

    def mode_stops(self, signal=1.0, noise=1.0):
        """The best time to stop for each mode: ``n log(1 + s signal / noise) / s``; infinite for frozen modes.

        There the flow from zeros shrinks the mode by ``s / (s + noise / signal)``, as the Bayes-optimal ridge does.

        Source: "High-dimensional dynamics of generalization error in neural networks".
        """
        ratio = _validate.check_number(signal, "signal") / _validate.check_number(noise, "noise", strict=True)
        s = self._core.eigenvalues
        times = np.full(s.shape, np.inf)
        live = s > 0
        times[live] = self._core.weight_sum * np.log1p(s[live] * ratio) / s[live]
        return times

    def times(self, count=100):
        """A grid of times, equally spaced in the logarithm, from the first motion to the end of the slowest mode."""
        count = _validate.check_count(count, "count", low=2)
        s = self._core.eigenvalues
        live = s[s > 0]
        if live.size == 0:
            raise ValueError("no feature varies, so nothing is learnt at any time")
        return self._core.weight_sum * np.geomspace(1e-2 / live[-1], 10.0 / live[0], count)

    def best_t(self, loo=True, times=None):
        """The time of least estimated test error.

        Parameters
        ----------
        loo : bool, default=True
            By leave-one-out, from the rows; without rows (a state) pass False for generalised cross-validation.
        times : array-like of float, default=None
            Where to look; None for `times()`.

        Returns
        -------
        t : float
        scores : ndarray of shape (n_times,)
            Mean squared error estimated for each time.

        Notes
        -----
        Leave-one-out takes ``residual / (1 - leverage)``. That is exact for ridge regression and for the end of the
        path; along the path it is an approximation, since a row less also changes the eigenvectors.
        2 n d^2 flops, and n d (C + 2) a time. Source: textbook identity, the deleted residuals of a linear smoother.
        """
        self._require_flow()
        times = self.times() if times is None else np.asarray(times, dtype=np.float64)
        if times.ndim != 1 or times.size == 0 or not np.isfinite(times).all() or (times < 0).any():
            raise ValueError("times must be a sequence of finite numbers >= 0")
        if loo:
            if self._rows is None:
                raise ValueError("leave-one-out needs the rows; from a state use best_t(loo=False)")
            scores = self._core.loo(*self._rows, times.tolist())
        else:
            scores = np.array([self._core.gcv(t, 0, 0.0) for t in times]) / self._core.n_outputs
        if not np.isfinite(scores).any():
            raise ValueError("no time has a finite score")
        return float(times[np.nanargmin(scores)]), scores

    def __repr__(self):
        return f"GradientFlow(n_features={self._core.n_features}, n_outputs={self._core.n_outputs})"
