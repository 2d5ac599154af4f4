"""Ridge regression by a sketch as large as the effective dimension asks for, for one ridge or a whole path.

The names are those of `gramian` itself: a public module of this name would hide its function ``sketched_ridge``.
"""

import sys
import time
from dataclasses import dataclass

import numpy as np

from . import _core, _validate
from ._composite import Composite, Parts, names_from_json, names_to_json
from .base import Estimator, draw_seed, thread_count, warn_not_converged
from .regressor import AnalyticRegressor

_KINDS = ("sparse_sign", "gaussian", "rademacher", "srht", "hdhd", "count_sketch", "dct")
_RULES = ("gcv", "loo")


@dataclass(frozen=True, eq=False)
class SketchedRidgeResult:
    """What `sketched_ridge` found for one ridge.

    Attributes
    ----------
    x : ndarray of shape (d,) or (d, k)
    intercept : float or ndarray of shape (k,)
        0 without ``fit_intercept``.
    ridge : float
    effective_dimension : float
        ``tr A'A (A'A + ridge)^-1`` as the sketch has it, its bias taken out; an intercept is not counted. Fewer
        ``sketch_rows`` than there are dimensions, if asked for, cannot show more than their number. Where `lstsq` has
        solved the problem it is exact.
    sketch_rows : int
        0 where ``A`` itself took the place of a sketch.
    iterations : int
    error : float
        Estimate of ``|x - x*| / |x*|``, the largest over the columns of ``b``. Where `lstsq` has solved the problem,
        the backward error times the condition, or its square where the residual is large: what float64 can promise.
    backward_error : float
        Bound of ``|dA| / |A|`` for the smallest ``dA`` with which ``x`` is exact, ``A`` with its ``sqrt(ridge) I``
        below, up to the distortion of the sketch.
    residual_norm : float or ndarray of shape (k,)
        ``|b - A x - intercept|``, weighted.
    gcv : float
        Generalised cross-validation: mean squared residual over ``(1 - D / n)^2``, summed over outputs. Infinity where
        squares of ``b`` leave the range of float64.
    readings : int
        Of ``A``.
    converged : bool
        The error is within ``4 rtol``, or within what rounding of ``A'A`` allows, ``eps |A|^2 / ridge`` (at most 1e-6).
    why : str
        Of the number of rows.
    """

    x: np.ndarray
    intercept: object
    ridge: float
    effective_dimension: float
    sketch_rows: int
    iterations: int
    error: float
    backward_error: float
    residual_norm: object
    gcv: float
    readings: int
    converged: bool
    why: str


@dataclass(frozen=True, eq=False)
class SketchedRidgePath:
    """Solutions for many ridges from one sketch.

    Attributes
    ----------
    ridges : ndarray of shape (n_ridges,)
    coef : ndarray of shape (n_ridges, d) or (n_ridges, k, d)
    intercept : ndarray of shape (n_ridges,) or (n_ridges, k)
    effective_dimension, error, backward_error, gcv : ndarray of shape (n_ridges,)
        As in `SketchedRidgeResult`.
    iterations : ndarray of int of shape (n_ridges,)
        Neighbours share readings of ``A``.
    loo : ndarray of shape (n_ridges,) or None
        Mean squared leave-one-out error, summed over outputs; infinity where a row cannot be left out, or squares of
        ``b`` leave the range of float64.
    best_gcv, best_loo : int
        What `best` returns, -1 where no ridge has a score. Scores are compared before they are rounded to float64, so
        the choice also holds for a ``b`` whose squares overflow or vanish.
    leverages : ndarray of shape (n_ridges, n) or None
        Diagonals of the hat matrices, an intercept counted: row i left out misses its target by
        ``residual_i / (1 - leverages[j, i])``.
    residual_norm : ndarray of shape (n_ridges,) or (n_ridges, k)
    converged : ndarray of bool of shape (n_ridges,)
    sketch_rows : int
        Of the sketch for all ridges; 0 where ``A`` itself took its place.
    refined_rows : int
        Whose leverages were made from ``A'A``, because the sketch could not promise them.
    readings : int
        Of ``A``.
    why : str
        Of the number of rows.
    """

    ridges: np.ndarray
    coef: np.ndarray
    intercept: np.ndarray
    effective_dimension: np.ndarray
    iterations: np.ndarray
    error: np.ndarray
    backward_error: np.ndarray
    gcv: np.ndarray
    loo: object
    leverages: object
    residual_norm: np.ndarray
    converged: np.ndarray
    sketch_rows: int
    refined_rows: int
    readings: int
    why: str
    best_gcv: int
    best_loo: int

    def best(self, rule="gcv"):
        """Place of the ridge with the lowest score by ``rule``, "gcv" or "loo"."""
        if rule not in _RULES:
            raise ValueError(f"rule must be 'gcv' or 'loo', got {rule!r}")
        if rule == "loo" and self.loo is None:
            raise ValueError("the path was made without leave-one-out errors: pass loo=True")
        found = self.best_gcv if rule == "gcv" else self.best_loo
        if found < 0:
            raise ValueError(f"no ridge has a finite score by {rule!r}; larger ones are needed")
        return found


def _targets(b, who, name):
    if b is None:
        raise ValueError(f"{name} is None: {who} needs an array of shape (n,) or (n, k)")
    b = _validate.check_targets(b, who)
    return _validate.as_columns(b), b.ndim == 1


def _solve(rows, right, weight, ridges, options, device, n_jobs, loo=False):
    """The compiled call. options: parameters under their public names."""
    if options["kind"] not in _KINDS:
        raise ValueError(f"kind must be one of {', '.join(_KINDS)}, got {options['kind']!r}")
    rtol = _validate.check_number(options["rtol"], "rtol", strict=True)
    if rtol >= 1:
        raise ValueError(f"rtol must be below 1, got {rtol!r}")
    wanted = options["sketch_rows"]
    given = {
        "ridges": ridges,
        "intercept": bool(options["fit_intercept"]),
        "rtol": rtol,
        "refine": bool(options.get("refine", True)),
        "loo": loo,
        "loo_rtol": _validate.check_number(options.get("loo_rtol", 0.01), "loo_rtol", strict=True),
        "sketch_rows": 0 if wanted is None else _validate.check_count(wanted, "sketch_rows"),
        "max_iterations": _validate.check_count(options["max_iter"], "max_iter"),
        "kind": options["kind"],
        "nnz": _validate.check_count(options["nnz"], "nnz"),
        "permute": True,
        "name": options.get("name", "X"),
        "seed": draw_seed(options["random_state"]),
    }
    _validate.check_length(rows, right)
    return _core.sketched_ridge(rows, right, weight, given, _validate.device_name(device), thread_count(n_jobs))


def _path_of(out, flat):
    def outputs(values):
        return values[:, 0] if flat else values

    return SketchedRidgePath(
        ridges=out["ridges"],
        coef=outputs(out["coef"]),
        intercept=outputs(out["intercept"]),
        effective_dimension=out["effective_dimension"],
        iterations=out["iterations"].astype(np.int64),
        error=out["error"],
        backward_error=out["backward_error"],
        gcv=out["gcv"],
        loo=None if out["leverages"] is None else out["loo"],
        leverages=out["leverages"],
        residual_norm=outputs(out["residual_norms"]),
        converged=out["converged"].astype(bool),
        sketch_rows=out["sketch_rows"],
        refined_rows=out["refined_rows"],
        readings=out["readings"],
        why=out["why"],
        best_gcv=out["best_gcv"],
        best_loo=out["best_loo"],
    )


def sketched_ridge(
    A,
    b,
    ridge,
    *,
    fit_intercept=False,
    sample_weight=None,
    loo=False,
    loo_rtol=0.01,
    refine=True,
    kind="sparse_sign",
    nnz=8,
    sketch_rows=None,
    rtol=1e-10,
    max_iter=1000,
    device="cpu",
    n_jobs=None,
    random_state=0,
):
    """Minimises ``sum_i w_i |b_i - c - a_i x|^2 + ridge |x|^2``, by a sketch as large as the problem needs.

    Rows of a sketch ``S A`` are appended until there are some eight for each effective dimension
    ``D = tr A'A (A'A + ridge)^-1``; with it as a preconditioner, conjugate gradients on ``A`` take some 15 to 20 steps
    for ten digits, whatever the condition of ``A`` is. D may be far below d, and below n: wide problems are treated
    alike, the system that is factored being m x m.

    Parameters
    ----------
    A : array-like or CSR matrix of shape (n, d)
        Finite, any n and d. Row-major float32 and float64 are read in place. The solution is float64 and has its
        accuracy also where ``A`` is float32.
    b : array-like of shape (n,) or (n, k)
    ridge : float or array-like of float
        One, or the ridges of a path, which all share one sketch and are solved together. Above 0; a single one may be
        0, which `lstsq` then solves.
    fit_intercept : bool, default=False
        An intercept that is not penalised. ``A`` is centred without being copied.
    sample_weight : array-like of shape (n,), default=None
        >= 0, not all zero.
    loo : bool, default=False
        Leave-one-out errors and leverages, for a path.
    loo_rtol : float, default=0.01
        Relative error of each leave-one-out error. A leverage from a sketch is right to some ``5 sqrt(2 / m)`` of
        itself, which is enough for small ones; where it is not enough for some row, ``A'A`` is made after all, n d^2
        flops, and those rows' leverages come from there.
    refine : bool, default=True
        False returns the solution with the Gram matrix of the sketch: one or two digits, no iteration.
    kind : str, default="sparse_sign"
        "sparse_sign", "gaussian", "rademacher", "srht", "hdhd", "count_sketch" or "dct", as in `gramian.sketch`.
    nnz : int, default=8
        Entries a column of "sparse_sign".
    sketch_rows : int, default=None
        None: by the effective dimension.
    rtol : float, default=1e-10
        Of ``x``, by the estimate that the preconditioner gives; the true error is at most some three times that, unless
        the ``sketch_rows`` asked for are fewer than the dimensions.
    max_iter : int, default=1000
    device : str, default="cpu"
    n_jobs : int, default=None
        The result is the same bits for any number of threads.
    random_state : int, RandomState, Generator or None, default=0
        Seeds the sketch.

    Returns
    -------
    SketchedRidgeResult
        For one ridge.
    SketchedRidgePath
        For several.

    Raises
    ------
    ValueError
        Shapes that do not fit; NaN or infinity (names the first such row); a ridge that is negative, or 0 in a path.

    Notes
    -----
    Three to five readings of ``A`` for the sketch, one for each iteration of 32 right-hand sides; 4 n d flops for each
    iteration, ridge and output; a path takes an eigendecomposition of order p = min(m, d), 9 p^3 flops on one thread,
    a single ridge above p = 512 a Cholesky factor. Memory: the sketch while m < d, else d^2; n values for each of 32
    right-hand sides; ``loo`` 8 bytes for each row and ridge; a float64 copy of ``A`` where squares of its values, the
    weights or a ridge leave 1e+-60, for all are divided by powers of two then. Sources: "Effective Dimension Adaptive
    Sketching Methods for Faster Regularized Least-Squares Optimization" (the idea; the rule of rows is this library's),
    "Asymptotics of the Sketched Pseudoinverse" (bias of the effective dimension and of leverages).

    Examples
    --------
    >>> import numpy as np
    >>> from gramian import sketched_ridge
    >>> rng = np.random.default_rng(0)
    >>> A = rng.normal(size=(5000, 200)) / np.arange(1, 201)
    >>> b = A @ np.ones(200) + 0.1 * rng.normal(size=5000)
    >>> result = sketched_ridge(A, b, 10.0)
    >>> exact = np.linalg.solve(A.T @ A + 10.0 * np.eye(200), A.T @ b)
    >>> bool(np.linalg.norm(result.x - exact) < 1e-8 * np.linalg.norm(exact)), result.sketch_rows < 500
    (True, True)
    >>> path = sketched_ridge(A, b, np.logspace(-2, 3, 50), loo=True)
    >>> bool(path.ridges[path.best("loo")] < 10)
    True
    """
    who = "sketched_ridge"
    rows = _validate.check_rows(A, who, name="A")
    right, flat = _targets(b, who, "b")
    weight = _validate.check_weight(sample_weight, rows.shape[0])
    single = np.ndim(ridge) == 0
    if single and loo:
        raise ValueError("loo=True needs a path: pass a sequence of ridges")
    ridges = [_validate.check_number(ridge, "ridge")] if single else _validate.check_ridges(ridge)
    options = {
        "name": "A",
        "fit_intercept": fit_intercept,
        "rtol": rtol,
        "refine": refine,
        "loo_rtol": loo_rtol,
        "sketch_rows": sketch_rows,
        "max_iter": max_iter,
        "kind": kind,
        "nnz": nnz,
        "random_state": random_state,
    }
    out = _solve(rows, right, weight, ridges, options, device, n_jobs, bool(loo))
    path = _path_of(out, flat)
    if refine and not path.converged.all():
        warn_not_converged(_complaint(who, path))
    if not single:
        return path
    return SketchedRidgeResult(
        x=path.coef[0].T,
        intercept=float(path.intercept[0]) if flat else path.intercept[0],
        ridge=ridges[0],
        effective_dimension=float(path.effective_dimension[0]),
        sketch_rows=path.sketch_rows,
        iterations=int(path.iterations[0]),
        error=float(path.error[0]),
        backward_error=float(path.backward_error[0]),
        residual_norm=float(path.residual_norm[0]) if flat else path.residual_norm[0],
        gcv=float(path.gcv[0]),
        readings=path.readings,
        converged=bool(path.converged[0]),
        why=path.why,
    )


def _complaint(who, path):
    worst = int(np.argmax(np.where(path.converged, -1.0, path.error)))
    # What least squares leaves is the condition of the problem.
    remedy = "more iterations (max_iter) or more sketch_rows help"
    if "least squares" in path.why:
        remedy = "a larger ridge helps"
    return (
        f"{who} stopped after {path.iterations[worst]} iterations with an error of about {path.error[worst]:.1e} at "
        f"ridge {path.ridges[worst]:.3g}; {remedy}"
    )


_REPORT = {
    "ridge": float,
    "effective_dimension": float,
    "sketch_rows": int,
    "iterations": int,
    "error": float,
    "backward_error": float,
    "gcv": float,
    "readings": int,
    "converged": bool,
    "why": str,
}


class SketchedRidge(Composite, Estimator):
    """Ridge regression with an effective-dimension-adaptive sketch: the exact solution from a few readings of the rows.

    What `sketched_ridge` does, as an estimator that chooses its ridge.

    Parameters
    ----------
    ridge : float, "gcv" or "loo", default=1.0
        Penalty of the squared weights (scikit-learn's ``alpha``). "gcv" and "loo" solve a path over ``ridges`` from one
        sketch and take the one with the lowest score; 0 is least squares.
    ridges : array-like of float, default=None
        The path, all above 0. None: 50 from 1e-7 to 100 times the mean square of a centred feature.
    fit_intercept : bool, default=True
        Not penalised; the rows are centred without being copied.
    kind : str, default="sparse_sign"
        Of the sketch, as in `sketched_ridge`.
    nnz : int, default=8
        Entries a column of "sparse_sign".
    sketch_rows : int, default=None
        None: as many as the effective dimension asks for.
    rtol : float, default=1e-10
        Of the weights; they agree with the exact ones to 1e-8.
    max_iter : int, default=1000
    device : str, default="cpu"
    n_jobs : int, default=None
    random_state : int, RandomState, Generator or None, default=0
        Seeds the sketch.
    verbose : int, default=0
        1 writes a line to stderr after each fit.

    Attributes
    ----------
    coef_ : ndarray of shape (n_features,) or (n_outputs, n_features)
    intercept_ : float or ndarray of shape (n_outputs,)
    ridge_ : float
        The ridge in use.
    effective_dimension_ : float
    sketch_rows_ : int
        0 where the rows themselves took the place of a sketch.
    n_iter_ : int
    report_ : dict
        "ridge", "effective_dimension", "sketch_rows", "iterations", "error" (estimate, relative, of the weights),
        "backward_error", "gcv", "readings" of the rows, "converged" and "why" there are so many rows.
    ridges_, scores_ : ndarray of shape (n_ridges,)
        The path and its scores, only with ``ridge="gcv"`` and ``"loo"``. The choice does not depend on whether scores,
        which are squares of targets, overflow to infinity or vanish in float64.
    n_features_in_ : int
    feature_names_in_ : ndarray, only where ``X`` has column names that are all strings.

    Notes
    -----
    Cost and sources are those of `sketched_ridge`. Rows of weight 0 take no part.

    Examples
    --------
    >>> import numpy as np
    >>> from gramian import RandomFeatures, SketchedRidge
    >>> X = np.linspace(-2, 2, 1000)[:, np.newaxis]
    >>> Z = RandomFeatures(200, activation="tanh").fit_transform(X)
    >>> model = SketchedRidge(ridge="gcv").fit(Z, np.sin(3 * X[:, 0]))
    >>> model.score(Z, np.sin(3 * X[:, 0])) > 0.99, model.effective_dimension_ < 30
    (True, True)
    """

    _estimator_type = "regressor"
    _held = ("coef_", "intercept_", "n_features_in_", "report_", "ridges_", "scores_", "feature_names_in_")

    def __init__(
        self,
        ridge=1.0,
        ridges=None,
        fit_intercept=True,
        kind="sparse_sign",
        nnz=8,
        sketch_rows=None,
        rtol=1e-10,
        max_iter=1000,
        device="cpu",
        n_jobs=None,
        random_state=0,
        verbose=0,
    ):
        self.ridge = ridge
        self.ridges = ridges
        self.fit_intercept = fit_intercept
        self.kind = kind
        self.nnz = nnz
        self.sketch_rows = sketch_rows
        self.rtol = rtol
        self.max_iter = max_iter
        self.device = device
        self.n_jobs = n_jobs
        self.random_state = random_state
        self.verbose = verbose

    def _run(self, X, y, sample_weight, ridges, loo):
        who = type(self).__name__
        y = _validate.check_targets(y, who)
        rows = _validate.check_rows(X, who)
        _validate.check_length(rows, y)
        weight = _validate.check_weight(sample_weight, rows.shape[0])
        options = self.get_params(deep=False)
        out = _solve(rows, _validate.as_columns(y), weight, ridges, options, self.device, self.n_jobs, loo)
        return rows, _path_of(out, y.ndim == 1)

    def _grid(self, ridges):
        return [] if ridges is None else _validate.check_ridges(ridges)

    def path(self, X, y, ridges=None, *, sample_weight=None, loo=True):
        """Solutions for many ridges from one sketch. The estimator is not changed.

        Parameters
        ----------
        X : array-like or CSR matrix of shape (n, d)
        y : array-like of shape (n,) or (n, k)
        ridges : array-like of float, default=None
            None: those of the parameter, or its default.
        sample_weight : array-like of shape (n,), default=None
        loo : bool, default=True
            Leave-one-out errors too.

        Returns
        -------
        SketchedRidgePath
        """
        grid = self._grid(self.ridges if ridges is None else ridges)
        return self._run(X, y, sample_weight, grid, bool(loo))[1]

    def fit(self, X, y, sample_weight=None):
        """Learns from these rows. The old model is kept until the new one is complete.

        Parameters
        ----------
        X : array-like or CSR matrix of shape (n, d)
        y : array-like of shape (n,) or (n, k)
        sample_weight : array-like of shape (n,), default=None
            >= 0, not all zero.

        Returns
        -------
        self
        """
        began = time.perf_counter()
        chooses = isinstance(self.ridge, str)
        if chooses and self.ridge not in _RULES:
            raise ValueError(f"ridge must be a number, 'gcv' or 'loo', got {self.ridge!r}")
        grid = self._grid(self.ridges) if chooses else [_validate.check_number(self.ridge, "ridge")]
        rows, path = self._run(X, y, sample_weight, grid, self.ridge == "loo")
        if chooses and rows.shape[0] == 1:
            raise ValueError(f"{type(self).__name__} cannot choose a ridge by {self.ridge!r} from 1 sample")
        best = path.best(self.ridge) if chooses else 0
        names = _validate.column_names(X)
        self.coef_ = np.ascontiguousarray(path.coef[best])
        self.intercept_ = float(path.intercept[best]) if path.intercept.ndim == 1 else path.intercept[best].copy()
        self.n_features_in_ = rows.shape[1]
        self.report_ = {
            "ridge": float(path.ridges[best]),
            "effective_dimension": float(path.effective_dimension[best]),
            "sketch_rows": path.sketch_rows,
            "iterations": int(path.iterations[best]),
            "error": float(path.error[best]),
            "backward_error": float(path.backward_error[best]),
            "gcv": float(path.gcv[best]),
            "readings": path.readings,
            "converged": bool(path.converged[best]),
            "why": path.why,
        }
        self._set_scores(path.ridges, path.gcv if self.ridge == "gcv" else path.loo, chooses)
        self._set_feature_names(names)
        if self.verbose:
            print(
                f"[{type(self).__name__}] {rows.shape[0]} rows, ridge {self.ridge_:.3g}, effective dimension "
                f"{self.effective_dimension_:.4g}, {self.sketch_rows_} rows of a sketch, {self.n_iter_} iterations in "
                f"{time.perf_counter() - began:.2f} s",
                file=sys.stderr,
            )
        if not path.converged[best]:
            warn_not_converged(_complaint(type(self).__name__, path))
        return self

    def _set_scores(self, ridges, scores, chooses):
        for name, values in (("ridges_", ridges), ("scores_", scores)):
            if chooses:
                setattr(self, name, values)
            elif hasattr(self, name):
                delattr(self, name)

    def _reported(self, name):
        if not hasattr(self, "coef_"):
            self._raise_not_fitted()
        return self.report_[name]

    @property
    def ridge_(self):
        """The ridge in use."""
        return self._reported("ridge")

    @property
    def effective_dimension_(self):
        """``tr A'A (A'A + ridge)^-1`` of the centred rows."""
        return self._reported("effective_dimension")

    @property
    def sketch_rows_(self):
        """Rows of the sketch."""
        return self._reported("sketch_rows")

    @property
    def n_iter_(self):
        """Iterations, at least one."""
        return max(1, self._reported("iterations"))

    def predict(self, X):
        """Predicted targets, (n,) or (n, k) as the ``y`` of the fit."""
        if not hasattr(self, "coef_"):
            self._raise_not_fitted()
        who = type(self).__name__
        _validate.check_column_names(X, getattr(self, "feature_names_in_", None), who)
        rows = _validate.check_rows(X, who)
        _validate.check_width(rows, self.n_features_in_, who)
        weights = np.vstack([np.atleast_2d(self.coef_).T, np.atleast_1d(self.intercept_)])
        out = _core.linear_scores(rows, weights, True, _validate.device_name(self.device), thread_count(self.n_jobs))
        return out[:, 0] if self.coef_.ndim == 1 else out

    score = AnalyticRegressor.score  # of what `predict` says

    def _parts(self):
        if not hasattr(self, "coef_"):
            self._raise_not_fitted()
        learnt = {
            # JSON has no infinity: float() reads the word.
            "report": {
                name: str(value) if isinstance(value, float) and not np.isfinite(value) else value
                for name, value in self.report_.items()
            },
            "names": names_to_json(getattr(self, "feature_names_in_", None)),
            "flat": self.coef_.ndim == 1,
        }
        arrays = {"coef": np.atleast_2d(self.coef_), "intercept": np.atleast_1d(self.intercept_)}
        if hasattr(self, "ridges_"):
            arrays.update(ridges=self.ridges_, scores=_listed(self.scores_))
        return Parts(learnt, arrays)

    def _take_parts(self, parts, device, n_jobs):
        coef = parts.array("coef", np.float64, (-1, -1))
        intercept = parts.array("intercept", np.float64, (len(coef),))
        flat = bool(parts.learnt["flat"])
        if flat and len(coef) != 1:
            raise ValueError(f"{len(coef)} outputs of a model of one")
        report = {name: kind(parts.learnt["report"][name]) for name, kind in _REPORT.items()}
        names = names_from_json(parts.learnt["names"], coef.shape[1])
        chooses = "ridges" in parts.arrays
        ridges = scores = None
        if chooses:
            ridges = parts.array("ridges", np.float64, (-1,))
            scores = parts.array("scores", np.float64, (len(ridges),))
            scores[scores == _WORST] = np.inf
        self.coef_, self.intercept_ = (coef[0], float(intercept[0])) if flat else (coef, intercept)
        self.n_features_in_, self.report_ = coef.shape[1], report
        self._set_scores(ridges, scores, chooses)
        self._set_feature_names(names)

    def __sklearn_tags__(self):
        from sklearn.utils import RegressorTags

        tags = self._tags("regressor", target_required=True)
        tags.target_tags.multi_output = True
        tags.regressor_tags = RegressorTags()
        return tags


# Arrays in files are finite: an infinite score is the largest double there.
_WORST = np.finfo(np.float64).max


def _listed(scores):
    return np.where(np.isinf(scores), _WORST, scores)
