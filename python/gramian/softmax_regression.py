"""Softmax regression: the weights whose softmax over the rows is nearest to a given vector."""

import numpy as np

from . import _core, _validate
from ._composite import Composite, Parts, names_from_json, names_to_json
from .base import Estimator, thread_count, warn_not_converged

_REPORT = {
    "loss": float,
    "start_loss": float,
    "gradient": float,
    "iterations": int,
    "gauss_newton_steps": int,
    "rows_left_out": int,
    "converged": bool,
}


class SoftmaxRegression(Composite, Estimator):
    """Minimises ``|softmax(A x) - b|^2 / 2 + ridge |x|^2 / 2``, the softmax taken over the rows of A.

    A prediction normalises over all of its rows, so this is no regressor in scikit-learn's sense: a row has no
    prediction of its own.

    Parameters
    ----------
    ridge : float, default=0.0
        >= 0. The problem is not convex without a large one: what is found is a point without slope, the exact answer
        where ``softmax(A x) = b`` has one.
    start : {"closed_form", "zeros"}, default="closed_form"
        "closed_form" is the weighted least squares solution of ``A x = log b + mu 1`` (weights b), exact where b can be
        met; rows with ``b <= 0`` take no part in it. Where fewer than two rows are positive, zeros.
    max_iter : int, default=100
    tol : float, default=1e-10
        Stop at ``|gradient| <= tol max_i |a_i|``, both for columns around their means that are scaled by powers of two
        to a deviation between 1 and 2: units and means of the columns of A do not count.
    device : str, default="cpu"
    n_jobs : int, default=None

    Attributes
    ----------
    x_ : ndarray of shape (d,)
    loss_ : float
    n_iter_ : int
    n_features_in_ : int
    feature_names_in_ : ndarray of shape (n_features_in_,)
        Only where ``A`` has column names that are all strings.
    report_ : dict
        "start_loss", "gradient" (its norm, as `tol` counts it), "iterations", "gauss_newton_steps" (steps for which
        the Hessian was indefinite), "rows_left_out" (of the start), "converged".

    Notes
    -----
    A step is one of Levenberg and Marquardt's on the full Hessian, a weighted Gram matrix and rank two: n d^2 flops and
    d^3 / 3. The work is done in columns around their means, scaled to one deviation, which take three passes over A to
    find. Directions in which no row differs (a constant column of A) have no slope and stay as they are.
    Source: "The Closeness of In-Context Learning and Weight Shifting for Softmax Regression" and "Attention Scheme
    Inspired Softmax Regression".

    Examples
    --------
    >>> import numpy as np
    >>> from gramian import SoftmaxRegression
    >>> A = np.array([[0.0, 1.0], [1.0, 0.0], [2.0, 2.0], [0.5, -1.0]])
    >>> b = np.exp(A @ [0.3, -0.7])
    >>> SoftmaxRegression().fit(A, b / b.sum()).x_.round(6)
    array([ 0.3, -0.7])
    """

    _held = ("x_", "loss_", "n_iter_", "report_", "n_features_in_", "feature_names_in_")

    def __init__(self, ridge=0.0, start="closed_form", max_iter=100, tol=1e-10, device="cpu", n_jobs=None):
        self.ridge = ridge
        self.start = start
        self.max_iter = max_iter
        self.tol = tol
        self.device = device
        self.n_jobs = n_jobs

    def _objective(self, rows, target, ridge):
        return _core.SoftmaxObjective(
            rows, target, ridge, _validate.device_name(self.device), thread_count(self.n_jobs)
        )

    def _problem(self, A, b):
        who = type(self).__name__
        rows = _validate.check_rows(A, who, name="A")
        if b is None:
            raise ValueError(f"{who} requires y to be passed, but the target y is None (here it is called b)")
        target = np.ascontiguousarray(_validate.readable(np.asarray(b), "b"), dtype=np.float64)
        if target.shape != (rows.shape[0],):
            raise ValueError(f"b has the shape {target.shape}, expected {(rows.shape[0],)}: one entry per row of A")
        _validate.check_finite(target[:, np.newaxis], "b")
        ridge = _validate.check_number(self.ridge, "ridge")
        return self._objective(rows, target, ridge), rows.shape[1], target

    @staticmethod
    def _point(x, width, name="x"):
        x = np.ascontiguousarray(_validate.readable(np.asarray(x), name), dtype=np.float64)
        if x.shape != (width,):
            raise ValueError(f"{name} has the shape {x.shape}, expected {(width,)}: one entry per column of A")
        _validate.check_finite(x[:, np.newaxis], name)
        return x

    def fit(self, A, b, x0=None):
        """Finds x.

        Parameters
        ----------
        A : array-like or CSR matrix of shape (n, d)
        b : array-like of shape (n,)
            Any finite vector; probabilities have an exact answer more often.
        x0 : array-like of shape (d,), default=None
            Start in the place of the one of ``start``.

        Returns
        -------
        self
        """
        if self.start not in ("closed_form", "zeros"):
            raise ValueError(f"start must be 'closed_form' or 'zeros', got {self.start!r}")
        max_iter = _validate.check_count(self.max_iter, "max_iter")
        tol = _validate.check_number(self.tol, "tol")
        names = _validate.column_names(A)
        problem, width, target = self._problem(A, b)
        left_out = 0
        if x0 is not None:
            start = self._point(x0, width, "x0")
        elif self.start == "closed_form" and (target > 0).sum() >= 2:
            start, left_out = problem.start()
        else:
            start = np.zeros(width)
        x, report = problem.fit(start, max_iter, tol)
        self.x_ = x
        self.loss_ = report["loss"]
        self.n_iter_ = report["iterations"]
        self.report_ = {**report, "rows_left_out": left_out}
        self.n_features_in_ = width
        self._set_feature_names(names)
        if not report["converged"]:
            warn_not_converged(
                f"SoftmaxRegression stopped after {report['iterations']} steps with a gradient of "
                f"{report['gradient']:.1e}; more steps (max_iter) or a ridge help"
            )
        return self

    def predict(self, A):
        """``softmax(A x_)`` over the rows of A, (n,)."""
        if not hasattr(self, "x_"):
            self._raise_not_fitted()
        who = type(self).__name__
        _validate.check_column_names(A, getattr(self, "feature_names_in_", None), who)
        rows = _validate.check_rows(A, who, name="A")
        _validate.check_width(rows, self.n_features_in_, who)
        problem = self._objective(rows, np.zeros(rows.shape[0]), 0.0)
        return problem.evaluate(self.x_, False)[2]

    def value_gradient(self, A, b, x):
        """(loss, gradient of shape (d,)) at x."""
        problem, width, _ = self._problem(A, b)
        return problem.evaluate(self._point(x, width), False)[:2]

    def hessian(self, A, b, x, gauss_newton=False):
        """The Hessian at x, (d, d), or its Gauss-Newton part, which is never indefinite."""
        problem, width, _ = self._problem(A, b)
        return problem.evaluate(self._point(x, width), True)[4 if gauss_newton else 3]

    def weight_shift(self, A, b, x0, eta):
        """One gradient step as a change of the data: what in-context learning is said to do.

        Parameters
        ----------
        A, b
            As in `fit`.
        x0 : array-like of shape (d,)
        eta : float
            Length of the step.

        Returns
        -------
        x1 : ndarray of shape (d,)
            ``x0 - eta gradient(x0)``.
        delta : ndarray of shape (n,)
            ``softmax(A x1) - softmax(A x0)``: without a ridge the loss at x1 for b is the loss at x0 for ``b - delta``.
        """
        problem, width, _ = self._problem(A, b)
        x0 = self._point(x0, width, "x0")
        eta = _validate.check_number(eta, "eta", low=-np.inf)
        _, gradient, before, _, _ = problem.evaluate(x0, False)
        x1 = x0 - eta * gradient
        return x1, problem.evaluate(x1, False)[2] - before

    def _parts(self):
        if not hasattr(self, "x_"):
            self._raise_not_fitted()
        names = names_to_json(getattr(self, "feature_names_in_", None))
        return Parts({"report": self.report_, "names": names}, {"x": self.x_})

    def _take_parts(self, parts, device, n_jobs):
        x = parts.array("x", np.float64, (-1,))
        report = {name: kind(parts.learnt["report"][name]) for name, kind in _REPORT.items()}
        # Files of older versions hold no names.
        names = names_from_json(parts.learnt.get("names"), len(x))
        self.x_, self.loss_, self.n_iter_, self.report_ = x, report["loss"], report["iterations"], report
        self.n_features_in_ = len(x)
        self._set_feature_names(names)

    def __sklearn_tags__(self):
        return self._tags(None, target_required=True)
