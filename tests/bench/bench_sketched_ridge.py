"""A path of ridges from one sketch against one dense solve: the normal equations by Cholesky in NumPy and SciPy.

Alternating runs on the same threads. The bar of the path (solutions and GCV scores for all ridges) is twice the time of
the one dense solve; the path with leave-one-out errors (--loo), one ridge alone, and errors of solutions stand beside.

    python tests/bench/bench_sketched_ridge.py [--rows 20000] [--columns 2000] [--ridges 50] [--decay 0.75] [--loo]
"""

import argparse

import common

common.clean_environment()

import numpy as np  # noqa: E402
import scipy.linalg  # noqa: E402

import gramian as gm  # noqa: E402


def problem(n, d, decay, seed=0):
    """Columns that shrink like i^-decay, mixed by reflections: the spectrum falls, no column tells."""
    rng = np.random.default_rng(seed)
    A = rng.standard_normal((n, d)) * np.arange(1, d + 1) ** -decay
    for _ in range(3):
        v = rng.standard_normal(d)
        A -= np.outer(A @ v, 2 * v / (v @ v))
    x = rng.standard_normal(d)
    return A, A @ (x / np.linalg.norm(x)) + rng.standard_normal(n)


def dense(A, b, ridge):
    G = A.T @ A
    G[np.diag_indices_from(G)] += ridge
    return scipy.linalg.cho_solve(scipy.linalg.cho_factor(G, overwrite_a=True, check_finite=False), A.T @ b)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=20_000)
    parser.add_argument("--columns", type=int, default=2_000)
    parser.add_argument("--ridges", type=int, default=50)
    parser.add_argument("--decay", type=float, default=0.75)
    parser.add_argument("--low", type=float, default=1.0, help="smallest ridge, as a decade")
    parser.add_argument("--high", type=float, default=5.0, help="largest ridge, as a decade")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--loo", action="store_true", help="leave-one-out errors too")
    args = parser.parse_args()
    common.describe_machine()
    A, b = problem(args.rows, args.columns, args.decay)
    ridges = np.logspace(args.low, args.high, args.ridges)
    jobs = {
        "dense": lambda: dense(A, b, ridges[0]),
        "path": lambda: gm.sketched_ridge(A, b, ridges),
        "one": lambda: gm.sketched_ridge(A, b, ridges[0]),
    }
    if args.loo:
        jobs["loo"] = lambda: gm.sketched_ridge(A, b, ridges, loo=True)
    seconds = common.alternate(jobs, repeats=args.repeats)
    path = gm.sketched_ridge(A, b, ridges)
    places = sorted({0, len(ridges) // 2, len(ridges) - 1})
    errors = [
        np.linalg.norm(path.coef[j] - x) / np.linalg.norm(x) for j in places for x in [dense(A, b, path.ridges[j])]
    ]
    print(
        f"{args.rows} x {args.columns}, {args.ridges} ridges, effective dimension {path.effective_dimension.max():.0f} "
        f"to {path.effective_dimension.min():.0f}, {path.sketch_rows} rows of a sketch, {path.readings} readings, "
        f"{path.iterations.min()} to {path.iterations.max()} iterations, errors up to {max(errors):.1e}"
    )
    for name, value in seconds.items():
        print(f"{name:<8}{value:>9.3f} s{value / seconds['dense']:>9.2f} of the dense solve")


if __name__ == "__main__":
    main()
