"""Fixed maps from input rows to feature rows: nothing is trained, and what is random is drawn from a seed."""

import itertools
import json
import sys

import numpy as np

from . import _core, _validate
from .base import Estimator, draw_seed

KINDS = ("gaussian", "rademacher", "hadamard", "orthogonal", "sparse")
TOO_FEW = ("all", "mix", "raise")
ORIGINS = ("given", "rows")
FUSIONS = ("concat", "mean", "project")
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

    _reads_rows = True  # does fitting look at more than the width of the rows?

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
        _validate.check_structure(rows)
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

    def save(self, path):
        """Writes the fitted map to one file, in the safetensors container; `gramian.load` reads it.

        Parameters
        ----------
        path : path-like
            It holds the old file or the whole new one, never a part.
        """
        from ._composite import save_map  # which builds on the maps here

        save_map(self, path)

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


# Rows that the median distance is taken over, and rows that pass through a chain while it is fitted.
_MEDIAN_ROWS = 1000
_CHAIN_ROWS = 10_000


def _plain(rows):
    """float64 rows one after the other, without negative zeros: equal values in any type or layout are equal bytes."""
    return np.ascontiguousarray(rows, dtype=np.float64) + 0.0


def _dense_rows(rows):
    """All rows as `_plain` has them."""
    if not isinstance(rows, _validate.CSRRows):
        return _plain(rows)
    out = np.zeros(rows.shape)
    stored = slice(rows.indptr[0], rows.indptr[-1])
    row_of_entry = np.repeat(np.arange(rows.shape[0]), np.diff(rows.indptr))
    np.add.at(out, (row_of_entry, rows.indices[stored]), rows.data[stored])
    return out


# Seed of the choice of rows that a map is fitted to without being made of them.
_SAMPLE_SEED = 0


def _sample(rows, count):
    """At most ``count`` rows, drawn from all of them: the first ones may be all of one class."""
    if rows.shape[0] <= count:
        return rows
    places = np.asarray(_core.permutation_head(_SAMPLE_SEED, rows.shape[0], count), dtype=np.int64)
    return _pick_rows(rows, places)


def _pick_rows(rows, places):
    """Some rows as `_plain` has them."""
    if not isinstance(rows, _validate.CSRRows):
        return _plain(rows[places])
    out = np.zeros((len(places), rows.shape[1]))
    for k, place in enumerate(places):
        stored = slice(rows.indptr[place], rows.indptr[place + 1])
        np.add.at(out[k], rows.indices[stored], rows.data[stored])
    return out


class _Reservoir:
    """The rows of the smallest priorities among all that came, in the order of these."""

    def __init__(self, count, key):
        self._count = count
        self._bits = np.random.Philox(key=key)  # one number a row, in the order in which rows come
        self._priorities = np.empty(0, dtype=np.uint64)
        self.rows = None
        self.seen = 0

    def add(self, rows):
        """Rows that come next."""
        fresh = self._bits.random_raw(rows.shape[0])
        self.seen += rows.shape[0]
        if len(self._priorities) == self._count:
            places = np.flatnonzero(fresh < self._priorities[-1])
        else:
            places = np.arange(rows.shape[0])
        places = places[np.argsort(fresh[places], kind="stable")[: self._count]]
        picked = _pick_rows(rows, places)
        held = picked if self.rows is None else np.vstack([self.rows, picked])
        priorities = np.concatenate([self._priorities, fresh[places]])
        order = np.argsort(priorities, kind="stable")[: self._count]
        self.rows, self._priorities = held[order], priorities[order]


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
        The centres, or how many rows to draw as centres, all rows of the first ``X`` having the same chance: those of
        ``fit``, or of the first ``partial_fit`` of a model, and of no later call. `from_stream` draws them from more.
    gamma : float or "median", default="median"
        "median" stands for ``1 / (2 sigma^2)`` with sigma the median distance between the centres and 1000 rows drawn
        from the ``X`` of ``fit``.
    random_state : int, RandomState, Generator or None, default=0
        Picks the rows, where ``centers`` is a number.
    too_few : {"all", "mix", "raise"}, default="all"
        Where ``X`` has fewer rows than ``centers``: take all rows and have fewer features; add convex mixtures of the
        rows (weights uniform on the simplex, so each mixture lies among them); or raise ValueError.
    origin : {"given", "rows"}, default="given"
        What given ``centers`` and ``gamma`` were made from: "rows" where they were drawn, clustered or otherwise
        computed from rows, as `from_stream` says of its own. The features are the same, but the record of `unlearn`
        does not call such a map clean. Without effect where ``centers`` is a number: those are rows.

    Attributes
    ----------
    centers_ : ndarray of shape (k, d)
    gamma_ : float
    n_features_in_ : int
    feature_names_in_ : ndarray of shape (n_features_in_,)
        Only where ``X`` has column names that are all strings.

    Notes
    -----
    2 n k d flops. Sums of kernel features cannot change their centres after the rows are gone, so a model has those it
    began with. They are part of a model and of its file: where they are rows of ``X``, so are these rows, and
    ``forget`` does not take them out. Which rows are drawn depends on the seed and the number of rows alone, by the
    keyed permutation of the row numbers, and never on where the rows stand. Reference: "GKEAL: Gaussian Kernel Embedded
    Analytic Learning for Few-Shot Class Incremental Task".

    Examples
    --------
    >>> import numpy as np
    >>> from gramian import RBFFeatures
    >>> RBFFeatures(centers=[[0.0], [1.0]], gamma=1.0).fit_transform([[0.0]]).round(4)
    array([[1.    , 0.3679]])
    """

    def __init__(self, centers=100, gamma="median", random_state=0, too_few="all", origin="given"):
        self.centers = centers
        self.gamma = gamma
        self.random_state = random_state
        self.too_few = too_few
        self.origin = origin

    @classmethod
    def from_stream(cls, batches, centers=100, gamma="median", random_state=0, too_few="all"):
        """A map whose centres are drawn from all rows of a stream: a first pass, before the one that learns.

        Parameters
        ----------
        batches : iterable of array-like or CSR matrix of shape (n_i, d)
            Taken once, one after the other; a generator will do.
        centers : int, default=100
            How many rows to draw, all of them having the same chance.
        gamma : float or "median", default="median"
            As for the map; the 1000 rows behind the median are drawn from the whole stream too.
        random_state : int, RandomState, Generator or None, default=0
        too_few : {"all", "mix", "raise"}, default="all"
            As for the map, where the stream has fewer rows than ``centers``.

        Returns
        -------
        RBFFeatures
            With the centres and the gamma as its parameters, so it is the same map in front of any model, and with
            ``origin="rows"``.

        Raises
        ------
        ValueError
            No rows, batches of different widths, NaN or infinity (names the batch and its row).

        Notes
        -----
        Each row has a priority that depends on the seed and its number in the stream alone, and those of the smallest
        priorities are kept: a uniform draw without replacement, the same however the rows are cut into batches. It is
        not the draw that ``fit`` makes, which knows the number of rows. Memory: centers + 1000 rows and a batch.

        Source: "Random Sampling with a Reservoir".

        Examples
        --------
        >>> import numpy as np
        >>> from gramian import RBFFeatures
        >>> rows = np.arange(1000.0)[:, np.newaxis]
        >>> drawn = RBFFeatures.from_stream(np.split(rows, 10), centers=5)
        >>> np.array_equal(drawn.centers, RBFFeatures.from_stream([rows], centers=5).centers)
        True
        """
        wanted, seed = _validate.check_count(centers, "centers"), draw_seed(random_state)
        if too_few not in TOO_FEW:
            raise ValueError(f"too_few must be one of {TOO_FEW}, got {too_few!r}")
        drawn, near = _Reservoir(wanted, (seed, 0)), _Reservoir(_MEDIAN_ROWS, (_SAMPLE_SEED, 1))
        width = None
        for number, X in enumerate(batches):
            rows = _validate.check_rows(X, cls.__name__, min_rows=0)
            _validate.check_structure(rows)
            bad = _validate.first_bad_row(rows)
            if bad is not None:
                raise ValueError(f"batch {number} contains NaN or infinity, first in row {bad}")
            if width not in (None, rows.shape[1]):
                raise ValueError(f"a batch has {rows.shape[1]} features, those before it have {width}")
            width = rows.shape[1]
            for reservoir in (drawn, near):
                reservoir.add(rows)
        if drawn.seen == 0:
            raise ValueError("the stream has no rows to draw centres from")
        if wanted > drawn.seen and too_few == "raise":
            raise ValueError(f"centers is {wanted}, but the stream has only {drawn.seen} rows to draw them from")
        chosen = drawn.rows
        if wanted > drawn.seen and too_few == "mix":
            chosen = np.vstack([chosen, _core.convex_weights(seed, wanted - drawn.seen, drawn.seen) @ chosen])
        if isinstance(gamma, str) and gamma == "median":
            gamma = 0.5 / _median_distance(near.rows, chosen) ** 2
        return cls(chosen, gamma=gamma, random_state=random_state, too_few=too_few, origin="rows")

    def _drawn_centers(self, rows):
        wanted, have, seed = _validate.check_count(self.centers, "centers"), rows.shape[0], draw_seed(self.random_state)
        if wanted > have and self.too_few == "raise":
            raise ValueError(f"centers is {wanted}, but X has only {have} rows to draw them from")
        places = _core.permutation_head(seed, have, min(wanted, have))
        centers = _pick_rows(rows, np.asarray(places, dtype=np.int64))
        if wanted > have and self.too_few == "mix":
            centers = np.vstack([centers, _core.convex_weights(seed, wanted - have, have) @ centers])
        return centers

    def _fit_rows(self, rows):
        if self.too_few not in TOO_FEW:
            raise ValueError(f"too_few must be one of {TOO_FEW}, got {self.too_few!r}")
        if self.origin not in ORIGINS:
            raise ValueError(f"origin must be one of {ORIGINS}, got {self.origin!r}")
        if isinstance(self.centers, (int, np.integer)):
            centers = self._drawn_centers(rows)
        else:
            centers = self._given_centers()
            if centers.shape[1] != rows.shape[1]:
                raise ValueError(f"X has {rows.shape[1]} features, but the centers have {centers.shape[1]}")
        sample = _dense_rows(_sample(rows, _MEDIAN_ROWS))
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
        _validate.check_structure(centers, "centers")
        _validate.check_finite(centers, "centers")
        return _dense_rows(centers)

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
            "too_few": self.too_few,
            "origin": self.origin,
        }


class FeatureChain(FeatureMap):
    """Maps one after the other, as one map.

    Parameters
    ----------
    maps : list of RandomFeatures, RBFFeatures, FusedFeatures or FeatureChain
        The first one sees the input rows. They are not changed: ``fit`` works on copies.

    Attributes
    ----------
    maps_ : list
        The fitted copies.
    n_features_in_ : int
    feature_names_in_ : ndarray of shape (n_features_in_,)
        Only where ``X`` has column names that are all strings.

    Notes
    -----
    Source: textbook identity, the composition of maps.

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

    @property
    def _reads_rows(self):
        return any(part._reads_rows for part in self._checked_maps())

    def _fit_rows(self, rows):
        unseeded = iter(lambda: None, 0)  # parts without a seed draw their own
        parts = [part._fresh(unseeded) for part in self._checked_maps()]
        # A map that is fitted to its rows needs no more than a sample, so only that goes through the maps before it.
        current = rows
        for part in parts:
            part._fit_rows(current)
            if part is not parts[-1]:
                current = part._map.transform(_sample(current, _CHAIN_ROWS), False, "cpu", 0)
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


class FusedFeatures(FeatureMap):
    """Several blocks of columns, such as layers of one network side by side, fused into one input.

    Parameters
    ----------
    blocks : int or list of int
        Widths of the blocks, in the order of the columns of ``X``; a number stands for that many of equal width.
    maps : feature map, None, or list of these, default=None
        What each block goes through first; one map stands for a copy per block. None passes a block on as it is. They
        are not changed: ``fit`` works on copies.
    mode : {"concat", "mean", "project"}, default="concat"
        Side by side; the average of blocks of equal widths; or each block through a random projection of its own
        (``RandomFeatures`` without activation, ``n_features`` wide, consecutive seeds), which ``maps`` must not be
        given with, and then side by side, so that wide layers do not outweigh narrow ones.
    n_features : int, default=None
        Features per block for "project".
    random_state : int, RandomState, Generator or None, default=0
        Seed of "project". Copies of one map have its own seed, so that equal blocks become equal features.

    Attributes
    ----------
    maps_ : list
        The fitted copies, or None.
    widths_ : list of int
    n_features_in_ : int
    feature_names_in_ : ndarray of shape (n_features_in_,)
        Only where ``X`` has column names that are all strings.

    Notes
    -----
    The flops of the maps, and one pass over their features. Reference: "REAL: Representation Enhanced Analytic Learning
    for Exemplar-free Class-incremental Learning" (its fusion of layers; its training of the network is none of it).

    Examples
    --------
    >>> import numpy as np
    >>> from gramian import FeatureChain, FusedFeatures, RandomFeatures
    >>> layers = np.arange(12.0).reshape(2, 6)
    >>> FusedFeatures(3, mode="mean").fit_transform(layers)
    array([[2., 3.],
           [8., 9.]])
    >>> projected = FusedFeatures([4, 2], mode="project", n_features=8)
    >>> FeatureChain([projected, RandomFeatures(64)]).fit_transform(layers).shape
    (2, 64)
    """

    def __init__(self, blocks=1, maps=None, mode="concat", n_features=None, random_state=0):
        self.blocks = blocks
        self.maps = maps
        self.mode = mode
        self.n_features = n_features
        self.random_state = random_state

    def _checked_widths(self, total):
        if isinstance(self.blocks, (list, tuple, np.ndarray)):
            widths = [_validate.check_count(width, "blocks") for width in self.blocks]
            if not widths or sum(widths) != total:
                raise ValueError(f"X has {total} features, but the blocks are {widths}, {sum(widths)} columns in all")
            return widths
        count = _validate.check_count(self.blocks, "blocks")
        if total % count:
            raise ValueError(f"X has {total} features, which cannot be {count} blocks of equal width")
        return [total // count] * count

    def _checked_parts(self, count):
        """Copies of the maps, one per block, not fitted."""
        if self.mode not in FUSIONS:
            raise ValueError(f"mode must be one of {FUSIONS}, got {self.mode!r}")
        if self.mode == "project":
            if self.maps is not None or self.n_features is None:
                raise ValueError("mode='project' needs n_features, and makes its maps itself")
            width, seed = _validate.check_count(self.n_features, "n_features"), draw_seed(self.random_state)
            return [RandomFeatures(width, activation="identity", random_state=(seed + k) % 2**64) for k in range(count)]
        if self.n_features is not None:
            raise ValueError("n_features is the width of mode='project' and must be None otherwise")
        maps = self.maps if isinstance(self.maps, (list, tuple)) else [self.maps] * count
        if len(maps) != count:
            raise ValueError(f"maps has {len(maps)} maps for {count} blocks of columns")
        for part in maps:
            if part is not None:
                check_map(part, "maps")
        unseeded = iter(lambda: None, 0)  # parts without a seed draw their own
        return [None if part is None else part._fresh(unseeded) for part in maps]

    @property
    def _reads_rows(self):
        parts = self.maps if isinstance(self.maps, (list, tuple)) else [self.maps]
        return any(isinstance(part, FeatureMap) and part._reads_rows for part in parts)

    def _fit_rows(self, rows):
        widths = self._checked_widths(int(rows.shape[1]))
        parts = self._checked_parts(len(widths))
        start = 0
        for part, width in zip(parts, widths, strict=True):
            if part is not None:
                part._fit_rows(columns(rows, start, width))
            start += width
        self._take({"widths": widths, "maps": parts, "mean": self.mode == "mean"})

    def _can_have_made(self, fitted):
        try:
            if self._checked_widths(fitted.n_features_in_) != fitted.widths_:
                return False
            probe = FusedFeatures(**self.get_params(deep=False))
            parts = probe._checked_parts(len(fitted.widths_))
        except ValueError:
            return False
        if (self.mode == "mean") != fitted._recipe["mean"]:
            return False
        return all(
            part is made if part is None or made is None else type(part) is type(made) and part._can_have_made(made)
            for part, made in zip(parts, fitted.maps_, strict=True)
        )

    @staticmethod
    def _build(recipe):
        maps = [None if part is None else part._map for part in recipe["maps"]]
        return _core.fusion(recipe["widths"], maps, recipe["mean"])

    @property
    def maps_(self):
        """The fitted copies of the maps."""
        self._handle()
        return list(self._recipe["maps"])

    @property
    def widths_(self):
        """Widths of the blocks."""
        self._handle()
        return list(self._recipe["widths"])

    def _fresh(self, seeds):
        def fresh(part):
            return None if part is None else part._fresh(seeds)

        copy = super()._fresh(seeds)
        copy.maps = [fresh(part) for part in self.maps] if isinstance(self.maps, (list, tuple)) else fresh(self.maps)
        return copy

    def _params_json(self):
        def described(part):
            return None if part is None else part._as_json()

        many = isinstance(self.maps, (list, tuple))
        return {
            "blocks": [int(width) for width in self.blocks] if np.ndim(self.blocks) else int(self.blocks),
            "maps": [described(part) for part in self.maps] if many else described(self.maps),
            "mode": self.mode,
            "n_features": None if self.n_features is None else int(self.n_features),
        }


def columns(rows, start, width):
    """Some neighbouring columns."""
    if not isinstance(rows, _validate.CSRRows):
        return rows[:, start : start + width]
    indices = np.asarray(rows.indices)
    inside = (indices >= start) & (indices < start + width)
    indptr = np.concatenate([[0], np.cumsum(inside)])[np.asarray(rows.indptr)]
    indptr = indptr.astype(np.asarray(rows.indptr).dtype)
    return _validate.CSRRows(rows.data[inside], indices[inside] - start, indptr, (rows.shape[0], width))


def check_map(feature_map, name):
    """TypeError unless it is one of ours."""
    if not isinstance(feature_map, FeatureMap):
        raise TypeError(
            f"{name}: RandomFeatures, RBFFeatures, FusedFeatures or FeatureChain needed, got "
            f"{type(feature_map).__name__}"
        )


def fit_map(feature_map, rows, random_state, weight=None):
    """A fitted copy of a map; parts without a seed of their own take consecutive ones from ``random_state``.

    weight: of the rows, or None; those of weight 0 are as if they were not there.
    """
    check_map(feature_map, "feature_map")

    def seeds():
        seed = draw_seed(random_state)
        while True:
            yield seed % 2**64
            seed += 1

    fitted = feature_map._fresh(seeds())
    _validate.check_structure(rows)  # maps look at rows before the compiled module does
    if weight is None or weight.all() or not fitted._reads_rows:
        fitted._fit_rows(rows)
        return fitted
    places = np.flatnonzero(weight)
    if not places.size:
        raise ValueError(f"sample_weight is zero for all rows, so {feature_map!r} has no rows to be fitted to")
    there = _validate.take_rows(rows, places)
    try:
        fitted._fit_rows(there)
    except ValueError:
        row = _validate.first_bad_row(there)
        if row is None:
            raise
        _validate.refuse_row(places[row])
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
    return from_description(json.loads(text), tensors)


def from_description(description, tensors, prefix=""):
    """A fitted map from what the compiled module tells of it."""
    kind = description["type"]
    if kind == "random":
        seed = int(description["seed"])
        names = ("n_features", "kind", "activation", "scale", "bias")
        nonzero = description.get("n_nonzero")
        fitted = RandomFeatures(**{name: description[name] for name in names}, random_state=seed, n_nonzero=nonzero)
        recipe = {name: description[name] for name in names}
        fitted._take({"n_inputs": description["n_inputs"], "seed": seed, "n_nonzero": nonzero or 0, **recipe})
        fitted.seed_ = seed
    elif kind == "rbf":
        centers = np.array(tensors[prefix + "centers"])
        fitted = RBFFeatures(centers=centers, gamma=float(description["gamma"]))
        fitted._take({"centers": centers, "gamma": fitted.gamma})
    elif kind == "fusion":
        parts = [
            None if part is None else from_description(part, tensors, f"{prefix}{k}.")
            for k, part in enumerate(description["maps"])
        ]
        mean = bool(description["mean"])
        fitted = FusedFeatures(list(description["widths"]), parts, "mean" if mean else "concat")
        fitted._take({"widths": list(description["widths"]), "maps": parts, "mean": mean})
    else:
        parts = [from_description(part, tensors, f"{prefix}{k}.") for k, part in enumerate(description["maps"])]
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
    if description["type"] == "FusedFeatures":
        parts = params["maps"]
        if isinstance(parts, list):
            pairs = zip(parts, fitted.maps_, strict=True)
            params["maps"] = [None if part is None else with_params(part, have) for part, have in pairs]
        elif parts is not None:
            params["maps"] = with_params(parts, fitted.maps_[0])
    kinds = {"RandomFeatures": RandomFeatures, "RBFFeatures": RBFFeatures, "FusedFeatures": FusedFeatures}
    return kinds[description["type"]](**params)
