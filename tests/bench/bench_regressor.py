"""AnalyticRegressor.fit against scikit-learn's Ridge(solver="cholesky"): 100k x 1000 -> 100 targets, float32.

python tests/bench/bench_regressor.py [--rows 100000] [--repeats 5]
"""

import argparse

import common

common.clean_environment()

import numpy as np  # noqa: E402
from sklearn.linear_model import Ridge  # noqa: E402

import gramian as gm  # noqa: E402


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=100_000)
    parser.add_argument("--features", type=int, default=1000)
    parser.add_argument("--targets", type=int, default=100)
    parser.add_argument("--repeats", type=int, default=5)
    args = parser.parse_args()

    rng = np.random.default_rng(0)
    X = rng.standard_normal((args.rows, args.features), dtype=np.float32)
    Y = X @ rng.standard_normal((args.features, args.targets), dtype=np.float32)
    Y += rng.standard_normal(Y.shape, dtype=np.float32)
    common.describe_machine()
    print(f"{args.rows} x {args.features} -> {args.targets}, float32")
    # The flops no method can avoid: the lower half of X'X, X'Y, and the factor.
    flops = args.rows * args.features * (args.features + 2 * args.targets) + args.features**3 / 3
    for threads in (1, gm.build_info()["threads"]):
        jobs = {
            "Ridge(solver='cholesky')": lambda: Ridge(solver="cholesky").fit(X, Y),
            "AnalyticRegressor float32": lambda n=threads: (
                gm.AnalyticRegressor(dtype="float32", n_jobs=n).fit(X, Y).coef_
            ),
            "AnalyticRegressor float64": lambda n=threads: gm.AnalyticRegressor(n_jobs=n).fit(X, Y).coef_,
        }
        seconds = common.alternate(jobs, args.repeats, threads=threads)
        peer = seconds["Ridge(solver='cholesky')"]
        for name, value in seconds.items():
            print(
                f"threads={threads}  {name:28s} {value:7.3f} s  {flops / value * 1e-9:6.1f} GFLOP/s  "
                f"peer/this {peer / value:.2f}"
            )
        if threads == gm.build_info()["threads"]:
            break
    peer_fit = Ridge(solver="cholesky").fit(X.astype(np.float64), Y.astype(np.float64))
    for dtype in ("float32", "float64"):
        ours = gm.AnalyticRegressor(dtype=dtype).fit(X, Y)
        difference = np.linalg.norm(ours.coef_ - peer_fit.coef_) / np.linalg.norm(peer_fit.coef_)
        print(f"relative weight difference to Ridge in float64, products in {dtype}: {difference:.1e}")


if __name__ == "__main__":
    main()
