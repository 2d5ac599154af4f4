"""Fixed maps from input rows to feature rows: nothing is trained, and what is random is drawn from a seed."""

import itertools
import json
import sys

import numpy as np

from . import _core, _validate
from .base import Estimator, draw_seed

KINDS = ("gaussian", "rademacher", "hadamard")
ACTIVATIONS = ("identity", "relu", "tanh", "sigmoid", "cos", "sign")


def seed_to_json(estimator):
    """Its random_state for a model file: a text, since a JSON number has not 64 bits; a generator cannot be kept."""
    seed = estimator.random_state
    return str(int(seed)) if isinstance(seed, (int, np.integer)) else None


def seed_from_json(text):
    """The opposite of seed_to_json."""
    return None if text is None else int(text)


class FeatureMap(Estimator):
    """What all maps share: a scikit-learn transformer around a map of the compiled module."""

    def fit(self, X, y=None):
        """Fixes the map for rows of this width.

        Parameters
        ----------
        X : array-like or CSR matrix of shape (n, d)
        y : ignored

        Returns
        -------
        self
        """
        names = _validate.column_names(X)
        rows = _validate.check_rows(X, type(self).__name__)
        _validate.check_finite(rows)
        self._fit_rows(rows)
        self._set_feature_names(names)
        return self

    def transform(self, X):
        """Features of rows.

        Parameters
        ----------
        X : array-like or CSR matrix of shape (n, d)

        Returns
        -------
        ndarray of shape (n, n_features_out)
            float32 for a float32 ``X``, else float64; a data frame where `set_output` asks for one.

        Raises
        ------
        ValueError
            NaN or infinity in ``X``, or in the features of rows that are too large.
        """
        handle = self._handle()
        who = type(self).__name__
        _validate.check_column_names(X, getattr(self, "feature_names_in_", None), who)
        rows = _validate.check_rows(X, who)
        _validate.check_width(rows, self.n_features_in_, who)
        features = handle.transform(rows, rows.dtype == np.float32, "cpu", 0)
        row = _validate.first_bad_row(features)
        if row is not None:
            raise ValueError(f"the features of row {row} overflow {features.dtype}: X is too large")
        return self._in_container(features, X)

    def set_output(self, *, transform=None):
        """What `transform` returns, as scikit-learn (which must be there) knows it.

        Parameters
        ----------
        transform : {"default", "pandas", "polars", None}
            None leaves it as it is.

        Returns
        -------
        self
        """
        if transform is not None:
            self._sklearn_output_config = {"transform": transform}
        return self

    # scikit-learn asks for this before it wraps anything.
    _sklearn_auto_wrap_output_keys = frozenset(["transform"])

    def _in_container(self, features, X):
        # Where nobody has imported scikit-learn, nobody has asked it for anything but arrays.
        if "sklearn" not in sys.modules and "_sklearn_output_config" not in self.__dict__:
            return features
        from sklearn.utils._set_output import _wrap_data_with_container

        return _wrap_data_with_container("transform", features, X, self)

    def fit_transform(self, X, y=None):
        """``fit(X).transform(X)``."""
        return self.fit(X, y).transform(X)

    def get_feature_names_out(self, input_features=None):
        """Names of the features: the class name in lower case and a number.

        Parameters
        ----------
        input_features : array-like of str, default=None
            Only checked: the names of the columns of the fit, if given.

        Returns
        -------
        ndarray of str objects
        """
        handle = self._handle()
        if input_features is not None:
            names = np.asarray(input_features, dtype=object)
            fitted = getattr(self, "feature_names_in_", None)
            if len(names) != self.n_features_in_:
                raise ValueError(
                    f"input_features should have length equal to number of features ({self.n_features_in_}), got "
                    f"{len(names)}"
                )
            if fitted is not None and not np.array_equal(names, fitted):
                raise ValueError("input_features is not equal to feature_names_in_")
        stem = type(self).__name__.lower()
        return np.array([f"{stem}{i}" for i in range(handle.n_features)], dtype=object)

    @property
    def _n_features_out(self):
        return self._handle().n_features

    def _handle(self):
        """The fitted map of the compiled module."""
        handle = self.__dict__.get("_map")
        if handle is None:
            self._raise_not_fitted()
        return handle

    def _take(self, recipe):
        """Builds the map from what is enough to build it again, and keeps both."""
        self._map = self._build(recipe)
        self._recipe = recipe
        self.n_features_in_ = self._map.n_inputs

    def __getstate__(self):
        state = dict(self.__dict__)
        state.pop("_map", None)
        return state

    def __setstate__(self, state):
        self.__dict__.update(state)
        if "_recipe" in state:
            self._map = self._build(state["_recipe"])

    def __sklearn_is_fitted__(self):
        return "_map" in self.__dict__

    def __sklearn_tags__(self):
        from sklearn.utils import TransformerTags

        tags = self._tags(None, target_required=False)
        tags.transformer_tags = TransformerTags(preserves_dtype=["float64", "float32"])
        return tags

    def _fresh(self, seeds):
        """An unfitted map with the same parameters; a missing seed comes from the iterator ``seeds``."""
        copy = type(self)(**self.get_params(deep=False))
        if copy.random_state is None:
            copy.random_state = next(seeds)
        return copy

    def _as_json(self):
        """Type and parameters, for a model file."""
        return {"type": type(self).__name__, "params": {**self._params_json(), "random_state": seed_to_json(self)}}


class RandomFeatures(FeatureMap):
    """Random features ``z = f(scale * x B + b)`` with weights ``B`` drawn from a seed.

    The weights are regenerated from the seed wherever they are needed and are in no model and no file. Every device,
    instruction set and number of threads draws the same bits, and the first features do not depend on how many there
    are (but for the common factor of "cos").

    Parameters
    ----------
    n_features : int, default=100
        Number of features.
    kind : {"gaussian", "rademacher", "hadamard"}, default="gaussian"
        Standard normal weights, signs, or products of sign diagonals and Walsh-Hadamard matrices: O(P log P) instead of
        O(d P) operations for P = d rounded up to a power of two.
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

    Attributes
    ----------
    n_features_in_ : int
    feature_names_in_ : ndarray of shape (n_features_in_,)
        Only where ``X`` has column names that are all strings.
    seed_ : int
        The seed in use. With the parameters, it is the whole state.

    Notes
    -----
    2 n d D flops for n rows and D features. References: "Random Features for Large-Scale Kernel Machines";
    "Orthogonal Random Features".

    Examples
    --------
    >>> import numpy as np
    >>> from gramian import RandomFeatures
    >>> RandomFeatures(n_features=64).fit_transform(np.ones((3, 5))).shape
    (3, 64)
    """

    def __init__(self, n_features=100, kind="gaussian", activation="relu", scale=None, bias=0.0, random_state=0):
        self.n_features = n_features
        self.kind = kind
        self.activation = activation
        self.scale = scale
        self.bias = bias
        self.random_state = random_state

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
        }
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
        }


# Rows that the median distance is taken over.
_MEDIAN_ROWS = 1000


def _dense_rows(rows, count):
    """The first rows as float64."""
    if not isinstance(rows, _validate.CSRRows):
        return np.asarray(rows[:count], dtype=np.float64)
    out = np.zeros((min(count, rows.shape[0]), rows.shape[1]))
    stored = slice(rows.indptr[0], rows.indptr[out.shape[0]])
    row_of_entry = np.repeat(np.arange(out.shape[0]), np.diff(rows.indptr[: out.shape[0] + 1]))
    np.add.at(out, (row_of_entry, rows.indices[stored]), rows.data[stored])
    return out


def _pick_rows(rows, places):
    """Some rows as float64."""
    if not isinstance(rows, _validate.CSRRows):
        return np.asarray(rows[places], dtype=np.float64)
    out = np.zeros((len(places), rows.shape[1]))
    for k, place in enumerate(places):
        stored = slice(rows.indptr[place], rows.indptr[place + 1])
        np.add.at(out[k], rows.indices[stored], rows.data[stored])
    return out


def _median_distance(rows, centers):
    """Median distance between up to 1000 rows and up to 1000 centres, pairs of equal points left out."""
    middle = centers.mean(axis=0)
    rows, centers = rows - middle, centers[:_MEDIAN_ROWS] - middle
    squares = (rows**2).sum(axis=1)[:, np.newaxis] + (centers**2).sum(axis=1) - 2 * (rows @ centers.T)
    positive = squares[squares > 1e-12 * max(squares.max(), 1e-300)]
    return float(np.sqrt(np.median(positive))) if positive.size else 1.0


class RBFFeatures(FeatureMap):
    """Radial features ``z_j = exp(-gamma |x - centre_j|^2)``.

    Parameters
    ----------
    centers : int or array-like of shape (k, d), default=100
        The centres, or how many distinct rows of the first ``X`` to take as centres (all of them, if it has fewer).
    gamma : float or "median", default="median"
        "median" stands for ``1 / (2 sigma^2)`` with sigma the median distance between the centres and the first 1000
        rows of the ``X`` of ``fit``.
    random_state : int, RandomState, Generator or None, default=0
        Picks the rows, where ``centers`` is a number.

    Attributes
    ----------
    centers_ : ndarray of shape (k, d)
    gamma_ : float
    n_features_in_ : int
    feature_names_in_ : ndarray of shape (n_features_in_,)
        Only where ``X`` has column names that are all strings.

    Notes
    -----
    2 n k d flops. The centres are part of a model and of its file: where they are rows of ``X``, so are these rows, and
    ``forget`` does not take them out.

    Examples
    --------
    >>> import numpy as np
    >>> from gramian import RBFFeatures
    >>> RBFFeatures(centers=[[0.0], [1.0]], gamma=1.0).fit_transform([[0.0]]).round(4)
    array([[1.    , 0.3679]])
    """

    def __init__(self, centers=100, gamma="median", random_state=0):
        self.centers = centers
        self.gamma = gamma
        self.random_state = random_state

    def _fit_rows(self, rows):
        if isinstance(self.centers, (int, np.integer)):
            count = min(_validate.check_count(self.centers, "centers"), rows.shape[0])
            places = _core.permutation_head(draw_seed(self.random_state), rows.shape[0], count)
            centers = _pick_rows(rows, np.asarray(places, dtype=np.int64))
        else:
            centers = self._given_centers()
            if centers.shape[1] != rows.shape[1]:
                raise ValueError(f"X has {rows.shape[1]} features, but the centers have {centers.shape[1]}")
        sample = _dense_rows(rows, _MEDIAN_ROWS)
        if not (np.isfinite(centers).all() and np.isfinite(sample).all()):
            _validate.check_finite(rows)  # names the row as X has it
        if isinstance(self.gamma, str):
            if self.gamma != "median":
                raise ValueError(f"gamma must be a number > 0 or 'median', got {self.gamma!r}")
            gamma = 0.5 / _median_distance(sample, centers) ** 2
        else:
            gamma = _validate.check_number(self.gamma, "gamma", strict=True)
        self._take({"centers": np.ascontiguousarray(centers), "gamma": float(gamma)})

    def _given_centers(self):
        centers = _validate.check_rows(self.centers, "RBFFeatures", name="centers")
        _validate.check_finite(centers, "centers")
        return _dense_rows(centers, centers.shape[0])

    def _can_have_made(self, fitted):
        # What was chosen by the rows that were there is not known any more.
        if isinstance(self.centers, (int, np.integer)):
            same = len(fitted.centers_) <= self.centers
        else:
            same = np.array_equal(self._given_centers(), fitted.centers_)
        return same and (isinstance(self.gamma, str) or self.gamma == fitted.gamma_)

    @staticmethod
    def _build(recipe):
        return _core.rbf_features(**recipe)

    @property
    def centers_(self):
        """The centres in use."""
        self._handle()
        return self._recipe["centers"]

    @property
    def gamma_(self):
        """The gamma in use."""
        self._handle()
        return self._recipe["gamma"]

    def _params_json(self):
        given = isinstance(self.centers, (int, np.integer))
        return {
            "centers": int(self.centers) if given else None,  # None: those of the map in the file
            "gamma": self.gamma if isinstance(self.gamma, str) else float(self.gamma),
        }


class FeatureChain(FeatureMap):
    """Maps one after the other, as one map.

    Parameters
    ----------
    maps : list of RandomFeatures, RBFFeatures or FeatureChain
        The first one sees the input rows. They are not changed: ``fit`` works on copies.

    Attributes
    ----------
    maps_ : list
        The fitted copies.
    n_features_in_ : int
    feature_names_in_ : ndarray of shape (n_features_in_,)
        Only where ``X`` has column names that are all strings.

    Examples
    --------
    >>> import numpy as np
    >>> from gramian import FeatureChain, RandomFeatures
    >>> chain = FeatureChain([RandomFeatures(32), RandomFeatures(16, activation="tanh", random_state=1)])
    >>> chain.fit_transform(np.ones((3, 5))).shape
    (3, 16)
    """

    def __init__(self, maps):
        self.maps = maps

    def _checked_maps(self):
        if not isinstance(self.maps, (list, tuple)) or not self.maps:
            raise ValueError("maps must be a list of one feature map or more")
        for part in self.maps:
            check_map(part, "maps")
        return self.maps

    def _fit_rows(self, rows):
        unseeded = iter(lambda: None, 0)  # parts without a seed draw their own
        parts = [part._fresh(unseeded) for part in self._checked_maps()]
        # A map that is fitted to its rows looks at the first ones only, so only they go through the maps before it.
        current = rows
        for part in parts:
            part._fit_rows(current)
            if part is not parts[-1]:
                current = part._map.transform(_head(current), False, "cpu", 0)
        self._take(parts)

    def _can_have_made(self, fitted):
        same = len(self.maps) == len(fitted.maps_)
        return same and all(
            type(part) is type(made) and part._can_have_made(made)
            for part, made in zip(self.maps, fitted.maps_, strict=True)
        )

    @staticmethod
    def _build(recipe):
        return _core.composition([part._map for part in recipe])

    @property
    def maps_(self):
        """The fitted copies of the maps."""
        self._handle()
        return list(self._recipe)

    def _fresh(self, seeds):
        return FeatureChain([part._fresh(seeds) for part in self._checked_maps()])

    def _as_json(self):
        return {"type": "FeatureChain", "maps": [part._as_json() for part in self.maps]}


def _head(rows, count=10 * _MEDIAN_ROWS):
    """The first rows, not copied."""
    if not isinstance(rows, _validate.CSRRows):
        return rows[:count]
    count = min(count, rows.shape[0])
    return _validate.CSRRows(rows.data, rows.indices, rows.indptr[: count + 1], (count, rows.shape[1]))


def check_map(feature_map, name):
    """TypeError unless it is one of ours."""
    if not isinstance(feature_map, FeatureMap):
        raise TypeError(f"{name}: RandomFeatures, RBFFeatures or FeatureChain needed, got {type(feature_map).__name__}")


def fit_map(feature_map, rows, random_state):
    """A fitted copy of a map; parts without a seed of their own take consecutive ones from ``random_state``."""
    check_map(feature_map, "feature_map")

    def seeds():
        seed = draw_seed(random_state)
        while True:
            yield seed % 2**64
            seed += 1

    fitted = feature_map._fresh(seeds())
    fitted._fit_rows(rows)
    return fitted


def can_have_made(feature_map, fitted, random_state):
    """Can `fit_map` have made this fitted map (or None) from that one (or None), of whatever rows?"""
    if feature_map is None or fitted is None:
        return feature_map is fitted
    check_map(feature_map, "feature_map")
    seed = int(random_state) if isinstance(random_state, (int, np.integer)) else None

    def seeds():
        for k in itertools.count():
            yield None if seed is None else (seed + k) % 2**64

    return type(feature_map) is type(fitted) and feature_map._fresh(seeds())._can_have_made(fitted)


def unfitted(feature_map):
    """A map of the same parameters that has seen no rows."""
    return feature_map._fresh(iter(()))


def from_handle(handle):
    """A fitted map with the parameters that describe it, from one of the compiled module (or None)."""
    if handle is None:
        return None
    text, tensors = handle.describe()
    return _from_description(json.loads(text), tensors, "")


def _from_description(description, tensors, prefix):
    kind = description["type"]
    if kind == "random":
        seed = int(description["seed"])
        names = ("n_features", "kind", "activation", "scale", "bias")
        fitted = RandomFeatures(**{name: description[name] for name in names}, random_state=seed)
        recipe = {name: description[name] for name in names}
        fitted._take({"n_inputs": description["n_inputs"], "seed": seed, **recipe})
        fitted.seed_ = seed
    elif kind == "rbf":
        centers = np.array(tensors[prefix + "centers"])
        fitted = RBFFeatures(centers=centers, gamma=float(description["gamma"]))
        fitted._take({"centers": centers, "gamma": fitted.gamma})
    else:
        parts = [_from_description(part, tensors, f"{prefix}{k}.") for k, part in enumerate(description["maps"])]
        fitted = FeatureChain(parts)
        fitted._take(parts)
    return fitted


def with_params(description, fitted):
    """The unfitted map that the user gave, from `FeatureMap._as_json` and the fitted map of the same file."""
    if description is None:
        return None
    if description["type"] == "FeatureChain":
        pairs = zip(description["maps"], fitted.maps_, strict=True)
        return FeatureChain([with_params(part, have) for part, have in pairs])
    params = dict(description["params"])
    params["random_state"] = seed_from_json(params["random_state"])
    if description["type"] == "RBFFeatures" and params["centers"] is None:
        params["centers"] = fitted.centers_
    return {"RandomFeatures": RandomFeatures, "RBFFeatures": RBFFeatures}[description["type"]](**params)
