"""AnalyticClassifier(ridge="loo") against RidgeClassifierCV: 5 ridges, 100k x 1000 -> 100 classes, float32.

python tests/bench/bench_loo.py [--rows 100000] [--repeats 3] [--ours-only]
"""

import argparse
import time

import common

common.clean_environment()

import numpy as np  # noqa: E402
from sklearn.linear_model import RidgeClassifierCV  # noqa: E402

import gramian as gm  # noqa: E402


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=100_000)
    parser.add_argument("--features", type=int, default=1000)
    parser.add_argument("--classes", type=int, default=100)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--ours-only", action="store_true", help="without the peer, for profiles")
    args = parser.parse_args()

    rng = np.random.default_rng(0)
    y = rng.integers(0, args.classes, size=args.rows)
    X = rng.standard_normal((args.rows, args.features), dtype=np.float32)
    X += 0.12 * rng.standard_normal((args.classes, args.features), dtype=np.float32)[y]
    # Around the best ridge of these rows, which is near 10^4 whatever their number: noise over the size of the weights.
    ridges = np.logspace(1, 5, 5)
    common.describe_machine()
    print(f"{args.rows} x {args.features} -> {args.classes} classes, float32, ridges {ridges.tolist()}")
    threads = gm.build_info()["threads"]
    ours = gm.AnalyticClassifier(ridge="loo", ridges=ridges, dtype="float32", n_jobs=threads)
    # The flops that one Gram matrix, one set of leverages and the predictions of all ridges take.
    flops = args.rows * args.features * (2 * args.features + 2 * args.classes * len(ridges))
    fixed = gm.AnalyticClassifier(dtype="float32", n_jobs=threads)
    jobs = {
        "AnalyticClassifier(ridge=1)": lambda: fixed.fit(X, y).coef_,
        "AnalyticClassifier(ridge='loo')": lambda: ours.fit(X, y).coef_,
    }
    if not args.ours_only:
        theirs = RidgeClassifierCV(alphas=ridges)
        jobs["RidgeClassifierCV"] = lambda: theirs.fit(X, y)
    seconds = common.alternate(jobs, args.repeats, warmup=0 if args.repeats == 1 else 1, threads=threads)
    for name, value in seconds.items():
        print(f"threads={threads}  {name:32s} {value:7.3f} s  {flops / value * 1e-9:6.1f} GFLOP/s of needed work")
    targets = np.eye(args.classes, dtype=np.float32)[y]
    began = time.perf_counter()
    curve = gm.loo_curve(X, targets, ridges, dtype="float32", n_jobs=threads)
    print(f"loo_curve with numeric targets: {time.perf_counter() - began:.3f} s, passes {curve.passes}, largest bound ")
    print(f"  {curve.bounds.max():.1e}, scores {np.array2string(curve.scores, precision=9)}")
    print(f"chosen: ours {ours.ridge_:g}, at an edge of the grid: {ours.loo_at_edge_}")
    if not args.ours_only:
        ratio = seconds["RidgeClassifierCV"] / seconds["AnalyticClassifier(ridge='loo')"]
        print(f"chosen: peer {theirs.alpha_:g};  peer/ours {ratio:.2f} (bar: 12)")


if __name__ == "__main__":
    main()
