"""Frechet-mean prediction at full size: 500,000 labels of a tree, 1,000 observed, a batch of 256 rows.

Prints the time and the peak memory of two ways to the same labels: tiles of a float32 table that never exists as a
whole (any metric can be read so), and the closed form of trees. Fails if the peak is 1 GB or more, or if a label of the
tiles is worse, in float64, than the best one by more than float32 can tell.

    python tests/bench/check_frechet.py [--labels 500000] [--observed 1000] [--rows 256]
"""

import argparse
import resource
import time

import common

common.clean_environment()

import numpy as np  # noqa: E402

import gramian as gm  # noqa: E402


def peak():
    """Most memory the process ever held, in MB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--labels", type=int, default=500_000)
    parser.add_argument("--observed", type=int, default=1000)
    parser.add_argument("--rows", type=int, default=256)
    parser.add_argument("--tile", type=int, default=4096)
    args = parser.parse_args()
    common.describe_machine()
    rng = np.random.default_rng(0)
    n, k = args.labels, args.observed
    parents = np.concatenate([[-1], (rng.random(n - 1) * np.arange(1, n)).astype(np.int64)])
    observed = rng.permutation(n)[:k]
    P = rng.dirichlet(np.full(k, 0.05), size=args.rows)
    metric = gm.hierarchy_metric(parents)
    print(f"{n:,} labels, {k:,} observed, {args.rows} rows; peak before {peak():.0f} MB")

    tiled = gm.FrechetPredictor(
        lambda begin, end: metric.distances(observed, begin, end).astype(np.float32),
        observed=observed,
        labels=np.arange(n),
        dtype="float32",
        tile=args.tile,
    )
    began = time.perf_counter()
    by_tiles = tiled.predict(P.astype(np.float32))
    print(f"tiles of float32: {time.perf_counter() - began:.2f} s, peak {peak():.0f} MB")
    direct = gm.FrechetPredictor(metric, observed=observed)
    direct.predict(P[:1])  # prepares the tree
    began = time.perf_counter()
    exact, costs = direct.predict_places(P)
    print(f"closed form of trees: {time.perf_counter() - began:.4f} s, peak {peak():.0f} MB")

    distances = np.concatenate([metric.distances(observed, label, label + 1) for label in by_tiles], axis=1)
    excess = ((P * distances.T**2).sum(axis=1) - costs) / costs
    print(f"same labels: {(by_tiles == exact).sum()} of {args.rows}; largest relative excess {excess.max():.1e}")
    failures = [f"{peak():.0f} MB of memory"] if peak() >= 1000 else []
    if not excess.max() <= 4 * k * np.finfo(np.float32).eps:
        failures.append(f"a label that is worse by {excess.max():.1e}")
    common.verdict(failures)


if __name__ == "__main__":
    main()
