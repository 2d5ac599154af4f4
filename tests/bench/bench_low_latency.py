"""Weights current after every batch: a factor that follows the rows against the forms that people write.

lazy        our default: sums, and the weights solved after each batch
follow      low_latency=True: sums, a Cholesky factor and the weights, all current after each batch
literal     R <- R - R X' (I + X R X')^-1 X R, W <- W + R X' (Y - X W), as papers write it, in NumPy
outer       for one row: R - outer(k, k) / (1 + x'k), the usual NumPy form; else the grouped form of the recursion
symmetric   the same with dsymm and dsyrk on one triangle in place, the fastest form SciPy has; no form with R is
            backward stable, so the error of the weights against the joint solution is printed beside the time
copy        the triangle of the Gram matrix copied (d (d + 1) / 2 numbers): what reading and writing it costs
river       one row into BayesianLinearRegression of the package river, which has one output (--river)

  python tests/bench/bench_low_latency.py [--features 1024 4096] [--rows 1 16 256] [--classes 10] [--river]
"""

import argparse
import time

import common

common.clean_environment()

import numpy as np  # noqa: E402
from scipy.linalg import blas, cholesky, solve_triangular  # noqa: E402

from gramian import AnalyticRegressor  # noqa: E402

RIDGE = 1e-3
WARM_ROWS = 512
START_ROWS = 256
LITERAL_FEATURES = 2000  # beyond, its d^3 a row says nothing new and takes minutes


class Literal:
    """Starts from no rows, as papers do, and takes those before the measurement in large batches."""

    def __init__(self, X, Y):
        d = X.shape[1]
        self.R = np.asfortranarray(np.eye(d) / RIDGE)
        self.W = np.zeros((d, Y.shape[1]))
        for begin in range(0, len(X), START_ROWS):
            self.step(X[begin : begin + START_ROWS], Y[begin : begin + START_ROWS])

    def step(self, X, Y):
        K = np.linalg.inv(np.eye(len(X)) + X @ self.R @ X.T)
        self.R = self.R - self.R @ X.T @ K @ X @ self.R
        self.W = self.W + self.R @ X.T @ (Y - X @ self.W)


class Outer(Literal):
    def step(self, X, Y):
        left = self.R @ X.T
        if len(X) == 1:
            k = left[:, 0]
            share = 1 + X[0] @ k
            self.R = self.R - np.outer(k, k) / share
            self.W = self.W + np.outer(k / share, Y[0] - X[0] @ self.W)
        else:
            self.R = self.R - left @ np.linalg.inv(np.eye(len(X)) + X @ left) @ left.T
            self.W = self.W + self.R @ (X.T @ (Y - X @ self.W))


class Symmetric(Literal):
    def step(self, X, Y):
        if len(X) == 1:
            k = blas.dsymv(1.0, self.R, X[0], lower=1)
            # SciPy's BLAS alone: threads of NumPy's would wait for its threads, and they for those.
            share = 1 + blas.ddot(X[0], k)
            self.R = blas.dsyr(-1.0 / share, k, a=self.R, lower=1, overwrite_a=1)
            self.W += np.outer(k / share, Y[0] - blas.dgemv(1.0, self.W.T, X[0]))
            return
        K = blas.dsymm(1.0, self.R, X.T, lower=1)
        L = cholesky(np.eye(len(X)) + X @ K, lower=True)
        V = solve_triangular(L, K.T, lower=True)
        self.R = blas.dsyrk(-1.0, V, beta=1.0, c=self.R, trans=1, lower=1, overwrite_c=1)
        self.W += V.T @ solve_triangular(L, Y - X @ self.W, lower=True)


class River:
    def __init__(self, X, Y):
        from river.linear_model import BayesianLinearRegression

        self.model = BayesianLinearRegression()
        self.step(X[:1], Y[:1])

    def step(self, X, Y):
        self.model.learn_one(dict(enumerate(X[0].tolist())), float(Y[0, 0]))


class Ours:
    def __init__(self, X, Y, low_latency):
        self.model = AnalyticRegressor(ridge=RIDGE, low_latency=low_latency, fit_intercept=False).fit(X, Y)
        self.probe = X[:1]
        self.model.predict(self.probe)

    def step(self, X, Y):
        self.model.partial_fit(X, Y)
        self.model.predict(self.probe)  # which needs the weights

    @property
    def W(self):
        return np.atleast_2d(self.model.coef_).T


def measure(d, classes, b, batches, repeats, river):
    """Prints the time of one batch for each form, and the error that the weights have at the end."""
    rng = np.random.default_rng(0)
    total = WARM_ROWS + d + b * batches * (repeats + 1)
    X = np.maximum(rng.standard_normal((total, d)), 0)
    Y = np.eye(classes)[rng.integers(0, classes, total)]
    first = WARM_ROWS + d
    forms = {
        "lazy": Ours(X[:first], Y[:first], False),
        "follow": Ours(X[:first], Y[:first], True),
        **({"literal": Literal(X[:first], Y[:first])} if d <= LITERAL_FEATURES else {}),
        "outer": Outer(X[:first], Y[:first]),
        "symmetric": Symmetric(X[:first], Y[:first]),
    }
    at = dict.fromkeys(forms, first)
    triangle = rng.standard_normal(d * (d + 1) // 2)  # written memory: zeros are one page read again and again
    target = np.ones_like(triangle)

    def run(name):
        for _ in range(batches):
            part = slice(at[name], at[name] + b)
            forms[name].step(X[part], Y[part])
            at[name] += b

    jobs = {name: (lambda name=name: run(name)) for name in forms}
    jobs["copy"] = lambda: [np.copyto(target, triangle) for _ in range(batches)]
    seconds = common.alternate(jobs, repeats)
    if river and b == 1:
        peer, steps = River(X, Y), []
        for k in range(1, 4):
            start = time.perf_counter()
            peer.step(X[k : k + 1], Y[k : k + 1])
            steps.append(time.perf_counter() - start)
        seconds["river"] = batches * sorted(steps)[1]
    joint = np.linalg.solve(X.T @ X + RIDGE * np.eye(d), X.T @ Y)
    print(f"d = {d}, {classes} outputs, batches of {b}: milliseconds a batch with current weights")
    for name, value in seconds.items():
        line = f"  {name:10s} {1e3 * value / batches:9.3f}   / copy {value / seconds['copy']:7.2f}"
        line += f"   this / follow {value / seconds['follow']:7.2f}"
        if name in forms:
            error = np.linalg.norm(forms[name].W - joint) / np.linalg.norm(joint)
            line += f"   error of the weights {error:.1e}"
        print(line)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--features", type=int, nargs="+", default=[1024, 4096])
    parser.add_argument("--rows", type=int, nargs="+", default=[1, 16, 256], help="of a batch")
    parser.add_argument("--classes", type=int, default=10)
    parser.add_argument("--batches", type=int, default=8)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--river", action="store_true", help="river as well (pip install river)")
    args = parser.parse_args()
    common.describe_machine()
    for d in args.features:
        for b in args.rows:
            measure(d, args.classes, b, args.batches, args.repeats, args.river)


if __name__ == "__main__":
    main()
