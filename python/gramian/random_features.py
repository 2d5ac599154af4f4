"""Random features, drawn from a seed and from nothing else."""

import numpy as np

from . import _core, _validate
from ._feature_map import FeatureMap
from .base import draw_seed

KINDS = ("gaussian", "rademacher", "hadamard", "orthogonal", "sparse")
ACTIVATIONS = ("identity", "relu", "tanh", "sigmoid", "cos", "sign")


class RandomFeatures(FeatureMap):
    """Random features ``z = f(scale * x B + b)`` with weights ``B`` drawn from a seed.

    The weights are regenerated from the seed wherever they are needed and are in no model and no file. Every device,
    instruction set and number of threads draws the same bits, and the first features do not depend on how many there
    are (but for the common factor of "cos").

    Parameters
    ----------
    n_features : int, default=100
        Number of features.
    kind : {"gaussian", "rademacher", "hadamard", "orthogonal", "sparse"}, default="gaussian"
        Standard normal weights, signs, or products of sign diagonals and Walsh-Hadamard matrices: O(P log P) instead of
        O(d P) operations for P = d rounded up to a power of two. "orthogonal": blocks of d features with orthogonal
        weights and the lengths of standard normal ones, so that d features repeat nothing; drawing them costs
        4 d^2 n_features flops once. "sparse": a few signs a feature, O(n_nonzero) operations each.
    activation : {"identity", "relu", "tanh", "sigmoid", "cos", "sign"}, default="relu"
        ``f``. "cos" has uniform phases and the factor sqrt(2 / n_features): random Fourier features of the Gaussian
        kernel ``exp(-scale^2 |x - y|^2 / 2)``.
    scale : float, default=None
        None stands for ``1 / sqrt(d)``.
    bias : float, default=0.0
        Standard deviation of the random offsets ``b``; without effect for "cos".
    random_state : int, RandomState, Generator or None, default=0
        The seed, in [0, 2**64). A generator draws one at ``fit``; None takes one from NumPy's global generator, or
        from the estimator that the map is a part of.
    n_nonzero : int, default=None
        Weights a feature of kind "sparse", at most d; None stands for sqrt(d), rounded. Without effect for other kinds.

    Attributes
    ----------
    n_features_in_ : int
    feature_names_in_ : ndarray of shape (n_features_in_,)
        Only where ``X`` has column names that are all strings.
    seed_ : int
        The seed in use. With the parameters, it is the whole state.

    Notes
    -----
    2 n d D flops for n rows and D features, 2 n n_nonzero D for "sparse". The weights of "orthogonal" are equal on all
    machines up to rounding, those of the other kinds bit for bit. References: "Random Features for Large-Scale Kernel
    Machines"; "Orthogonal Random Features"; "Very Sparse Random Projections".

    Examples
    --------
    >>> import numpy as np
    >>> from gramian import RandomFeatures
    >>> RandomFeatures(n_features=64).fit_transform(np.ones((3, 5))).shape
    (3, 64)
    """

    def __init__(
        self, n_features=100, kind="gaussian", activation="relu", scale=None, bias=0.0, random_state=0, n_nonzero=None
    ):
        self.n_features = n_features
        self.kind = kind
        self.activation = activation
        self.scale = scale
        self.bias = bias
        self.random_state = random_state
        self.n_nonzero = n_nonzero

    _reads_rows = False

    def _fit_rows(self, rows):
        if self.kind not in KINDS:
            raise ValueError(f"kind must be one of {KINDS}, got {self.kind!r}")
        if self.activation not in ACTIVATIONS:
            raise ValueError(f"activation must be one of {ACTIVATIONS}, got {self.activation!r}")
        recipe = {
            "n_inputs": int(rows.shape[1]),
            "n_features": _validate.check_count(self.n_features, "n_features"),
            "kind": self.kind,
            "activation": self.activation,
            "scale": 0.0 if self.scale is None else _validate.check_number(self.scale, "scale", strict=True),
            "bias": _validate.check_number(self.bias, "bias"),
            "seed": draw_seed(self.random_state),
            "n_nonzero": 0 if self.n_nonzero is None else _validate.check_count(self.n_nonzero, "n_nonzero"),
        }
        if self.kind == "sparse" and recipe["n_nonzero"] > recipe["n_inputs"]:
            raise ValueError(f"n_nonzero is {self.n_nonzero}, but X has only {recipe['n_inputs']} features")
        self._take(recipe)
        self.seed_ = recipe["seed"]

    def _can_have_made(self, fitted):
        # Only the width of the rows matters. A seed drawn from a generator may have been any.
        probe = RandomFeatures(**self.get_params(deep=False))
        if not isinstance(self.random_state, (int, np.integer)):
            probe.random_state = fitted.seed_
        probe._fit_rows(np.empty((1, fitted.n_features_in_)))
        return probe._map.describe()[0] == fitted._map.describe()[0]

    @staticmethod
    def _build(recipe):
        return _core.random_features(**recipe)

    def _params_json(self):
        return {
            "n_features": int(self.n_features),
            "kind": self.kind,
            "activation": self.activation,
            "scale": None if self.scale is None else float(self.scale),
            "bias": float(self.bias),
            "n_nonzero": None if self.n_nonzero is None else int(self.n_nonzero),
        }
