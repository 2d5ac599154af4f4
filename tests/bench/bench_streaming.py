"""A stream of batches of 256 rows, D features, float64: sums and one solve against recursions on the inverse.

Three rows: weights wanted once at the end, every 10 batches, and after every batch. Peers, both exact:
  literal   R <- R - R X' (I + X R X')^-1 X R, W <- W + R X' (Y - X W), as papers write it, in NumPy, which multiplies
            from left to right
  grouped   the same with (R X') K (X R) in the cheap order
  best      the same with R symmetric in place: K = X R; Cholesky of I + K X'; R <- R - V'V with dsyrk on one triangle

    python tests/bench/bench_streaming.py [--features 5000] [--batches 12]
"""

import argparse
import time

import common

common.clean_environment()

import numpy as np  # noqa: E402
from scipy.linalg import blas, cholesky, solve_triangular  # noqa: E402

import gramian as gm  # noqa: E402

RIDGE = 1.0
BATCH = 256


class Literal:
    def __init__(self, d, c):
        self.R, self.W = np.eye(d) / RIDGE, np.zeros((d, c))

    def step(self, X, Y):
        K = np.linalg.inv(np.eye(len(X)) + X @ self.R @ X.T)
        self.R = self.R - self.R @ X.T @ K @ X @ self.R
        self.W = self.W + self.R @ X.T @ (Y - X @ self.W)


class Grouped(Literal):
    def step(self, X, Y):
        left, right = self.R @ X.T, X @ self.R
        self.R = self.R - left @ np.linalg.inv(np.eye(len(X)) + X @ left) @ right
        self.W = self.W + self.R @ (X.T @ (Y - X @ self.W))


class Best:
    """Half the flops: symm, a Cholesky of 256 x 256, one triangular solve, and syrk into the triangle in place."""

    def __init__(self, d, c):
        self.R, self.W = np.asfortranarray(np.eye(d) / RIDGE), np.zeros((d, c))

    def step(self, X, Y):
        K = blas.dsymm(1.0, self.R, X.T, lower=1)  # R X', d x b
        S = np.eye(len(X)) + X @ K
        L = cholesky(S, lower=True)
        V = solve_triangular(L, K.T, lower=True)  # b x d
        self.R = blas.dsyrk(-1.0, V, beta=1.0, c=self.R, trans=1, lower=1, overwrite_c=1)
        # R_new X' = V' L^-1, so the gain needs no second product with R.
        self.W += V.T @ solve_triangular(L, Y - X @ self.W, lower=True)


def run_peer(peer, batches):
    for X, codes in batches:
        Y = np.zeros((len(X), peer.W.shape[1]))
        Y[np.arange(len(X)), codes] = 1
        peer.step(X, Y)
    return peer.W


def run_ours(d, c, batches, every):
    state = gm.GramState(d, c, fit_intercept=False)
    for k, (X, codes) in enumerate(batches, 1):
        state.add_labels(X, codes)
        if (every and k % every == 0) or k == len(batches):
            solution = state.solve(RIDGE)
    return solution.coef.T


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--features", type=int, default=5000)
    parser.add_argument("--classes", type=int, default=10)
    parser.add_argument("--batches", type=int, default=12)
    parser.add_argument("--repeats", type=int, default=3)
    args = parser.parse_args()
    rng = np.random.default_rng(0)
    batches = [
        (np.maximum(rng.standard_normal((BATCH, args.features)), 0), rng.integers(0, args.classes, BATCH))
        for _ in range(args.batches)
    ]
    common.describe_machine()
    print(f"{args.batches} batches of {BATCH} x {args.features} float64, {args.classes} classes, ridge {RIDGE:g}")
    d, c = args.features, args.classes
    results = {}

    def keep(name, job):
        def run():
            results[name] = job()

        return run

    jobs = {
        "literal recursion": keep("literal recursion", lambda: run_peer(Literal(d, c), batches)),
        "grouped recursion": keep("grouped recursion", lambda: run_peer(Grouped(d, c), batches)),
        "best recursion": keep("best recursion", lambda: run_peer(Best(d, c), batches)),
        "sums, weights at the end": keep("sums, weights at the end", lambda: run_ours(d, c, batches, 0)),
        "sums, every 10 batches": keep("sums, every 10 batches", lambda: run_ours(d, c, batches, 10)),
        "sums, every batch": keep("sums, every batch", lambda: run_ours(d, c, batches, 1)),
    }
    start = time.perf_counter()
    seconds = common.alternate(jobs, args.repeats, warmup=0)
    X = np.concatenate([x for x, _ in batches])
    Y = np.eye(c)[np.concatenate([codes for _, codes in batches])]
    joint = np.linalg.solve(X.T @ X + RIDGE * np.eye(d), X.T @ Y)
    for name, value in seconds.items():
        error = np.linalg.norm(results[name] - joint) / np.linalg.norm(joint)
        print(
            f"{name:26s} {value:8.2f} s   literal/this {seconds['literal recursion'] / value:6.2f}   "
            f"best/this {seconds['best recursion'] / value:6.2f}   error to the joint solve {error:.1e}"
        )
    print(f"({time.perf_counter() - start:.0f} s in all)")


if __name__ == "__main__":
    main()
