"""Rows taken out of a model, and its weights after that, against fitting again to those that are left.

python tests/bench/bench_removal.py [--rows 100000] [--features 4096] [--classes 10] [--removed 1000]
"""

import argparse
import statistics
import time

import common

common.clean_environment()

import numpy as np  # noqa: E402

from gramian import AnalyticRegressor  # noqa: E402


def seconds_of(job):
    """How long it takes."""
    start = time.perf_counter()
    job()
    return time.perf_counter() - start


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=100_000)
    parser.add_argument("--features", type=int, default=4096)
    parser.add_argument("--classes", type=int, default=10)
    parser.add_argument("--removed", type=int, default=1000)
    parser.add_argument("--repeats", type=int, default=3)
    args = parser.parse_args()
    common.describe_machine()
    rng = np.random.default_rng(0)
    X = rng.standard_normal((args.rows, args.features), dtype=np.float32)  # widened block by block
    Y = np.eye(args.classes, dtype=np.float32)[rng.integers(0, args.classes, args.rows)]
    model = AnalyticRegressor(ridge=1.0).fit(X, Y)
    first = model.coef_

    def remove():
        model.forget(X[: args.removed], Y[: args.removed])
        model.coef_  # noqa: B018

    fresh = AnalyticRegressor(ridge=1.0)
    removals, refits = [], []
    for _ in range(args.repeats):
        removals.append(seconds_of(remove))
        after = model.coef_
        model.partial_fit(X[: args.removed], Y[: args.removed])
        refits.append(seconds_of(lambda: fresh.fit(X[args.removed :], Y[args.removed :]).coef_))
    removal, refit = statistics.median(removals), statistics.median(refits)
    error = np.linalg.norm(after - fresh.coef_) / np.linalg.norm(fresh.coef_)
    moved = np.linalg.norm(after - first) / np.linalg.norm(first)
    print(f"{args.removed} of {args.rows} rows, {args.features} features, {args.classes} outputs, float64 products")
    print(f"  removed, with new weights {removal:8.3f} s")
    print(f"  fitted again              {refit:8.3f} s   / removed {refit / removal:.1f}")
    print(f"  weights apart {error:.1e}; the removal moved them by {moved:.1e}")


if __name__ == "__main__":
    main()
