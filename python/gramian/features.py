"""Fixed maps from input rows to feature rows: nothing is trained, and what is random is drawn from a seed.

The maps themselves stand in files of their own, by family; here are their names, and how models fit them and read them
from files.
"""

import itertools
import json

import numpy as np

from . import _validate
from ._feature_map import FeatureMap, check_map, seed_from_json
from .base import draw_seed
from .composition import FeatureChain
from .fusion import FusedFeatures
from .random_features import RandomFeatures
from .rbf_features import RBFFeatures, unrecorded_origin

__all__ = ["FeatureChain", "FeatureMap", "FusedFeatures", "RBFFeatures", "RandomFeatures"]


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
    if description["type"] == "RBFFeatures":
        if params["centers"] is None:
            params["centers"] = fitted.centers_
        params.setdefault("origin", unrecorded_origin(params["centers"]))
    if description["type"] == "FusedFeatures":
        parts = params["maps"]
        if isinstance(parts, list):
            pairs = zip(parts, fitted.maps_, strict=True)
            params["maps"] = [None if part is None else with_params(part, have) for part, have in pairs]
        elif parts is not None:
            params["maps"] = with_params(parts, fitted.maps_[0])
    kinds = {"RandomFeatures": RandomFeatures, "RBFFeatures": RBFFeatures, "FusedFeatures": FusedFeatures}
    return kinds[description["type"]](**params)
