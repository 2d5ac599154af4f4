"""The nodes of a broad learning system, by the formulas, and their ridge regression."""

import hashlib

import numpy as np

from . import features


def group_seed(seed, kind, place):
    """Seed of the nodes that came together, the place-th group of all: a hash of the model's seed, kind and place."""
    text = seed.to_bytes(8, "little") + place.to_bytes(8, "little") + kind.encode()
    return int.from_bytes(hashlib.blake2b(text, digest_size=8, person=b"BroadLearner").digest(), "little")


def nodes(X, groups, bias, seed):
    """Z = f(X W + b) for mapped groups, H = g([Z ...] V + c) for enhancement groups on the mapped ones so far.

    groups: (kind, count, activation) in the order in which they came; kind is "mapped" or "enhancement". Nodes stand in
    that order too.
    """
    mapped, out = np.empty((len(X), 0)), []
    for place, (kind, count, activation) in enumerate(groups):
        source = X if kind == "mapped" else mapped
        made, _ = features.random_features(
            source, count, "gaussian", activation, bias=bias, seed=group_seed(seed, kind, place)
        )
        if kind == "mapped":
            mapped = np.hstack([mapped, made])
        out.append(made)
    return np.hstack(out)
