"""What every feature map is, and how a seed stands in a file."""

import sys

import numpy as np

from . import _validate
from .base import Estimator


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
        self.__dict__.update(self._with_defaults(state))
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


def check_map(feature_map, name):
    """TypeError unless it is one of ours."""
    if not isinstance(feature_map, FeatureMap):
        raise TypeError(
            f"{name}: RandomFeatures, RBFFeatures, FusedFeatures or FeatureChain needed, got "
            f"{type(feature_map).__name__}"
        )
