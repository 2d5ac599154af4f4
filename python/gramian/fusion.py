"""Maps side by side: blocks of columns fused into one input."""

import numpy as np

from . import _core, _validate
from ._feature_map import FeatureMap, check_map
from ._feature_rows import columns
from .base import draw_seed
from .random_features import RandomFeatures

FUSIONS = ("concat", "mean", "project")


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
