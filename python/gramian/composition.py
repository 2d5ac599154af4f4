"""Maps one after the other."""

from . import _core
from ._feature_map import FeatureMap, check_map
from ._feature_rows import sample_rows

# Rows that pass through a chain while it is fitted.
_CHAIN_ROWS = 10_000


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
                current = part._map.transform(sample_rows(current, _CHAIN_ROWS), False, "cpu", 0)
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
