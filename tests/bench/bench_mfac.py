"""Replacing one gradient of a window and asking for one product with the inverse Fisher matrix.

  window      MFAC: a Cholesky factor of the m x m matrix that follows the window, O(d m + m^2) a gradient
  refactor    NumPy: one row of G G' made anew, the m x m system factored at each gradient, O(d m + m^3)
  read        the gradients read twice (a sum over them), which any form must do for a product

The error of the product against a solve with a fresh m x m factor is printed beside the time.

    python tests/bench/bench_mfac.py [--gradients 1024] [--params 20000]
"""

import argparse

import common

common.clean_environment()

import numpy as np  # noqa: E402
from scipy.linalg import cho_factor, cho_solve  # noqa: E402

from gramian import MFAC  # noqa: E402

RIDGE = 1e-3


class Refactor:
    def __init__(self, G):
        self.G, self.K, self.next = G.copy(), G @ G.T, 0

    def push(self, g):
        at, self.next = self.next, (self.next + 1) % len(self.G)
        self.G[at] = g
        self.K[at] = self.K[:, at] = self.G @ g

    def ivp(self, v):
        m = len(self.G)
        factor = cho_factor(self.K + m * RIDGE * np.eye(m), lower=True)
        return (v - cho_solve(factor, self.G @ v) @ self.G) / RIDGE


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--gradients", type=int, default=1024)
    parser.add_argument("--params", type=int, default=20000)
    arguments = parser.parse_args()
    m, d = arguments.gradients, arguments.params
    common.describe_machine()
    rng = np.random.default_rng(0)
    G, stream, v = rng.normal(size=(m, d)), rng.normal(size=(64, d)), rng.normal(size=d)
    ours, theirs = MFAC(m, ridge=RIDGE).push(G), Refactor(G)
    turn = {"ours": 0, "theirs": 0}

    def one(name, model):
        model.push(stream[turn[name] % len(stream)])
        turn[name] += 1
        return model.ivp(v)

    times = common.alternate(
        {
            "window": lambda: one("ours", ours),
            "refactor": lambda: one("theirs", theirs),
            "read": lambda: (G.sum(), G.sum()),
        }
    )
    a, b = ours.ivp(v), theirs.ivp(v)
    print(f"{m} gradients of {d} parameters: one replacement and one product")
    for name, seconds in times.items():
        print(f"  {name:9} {1e3 * seconds:9.2f} ms   {times['refactor'] / seconds:6.2f} x refactor")
    print(f"  difference of the two answers {np.linalg.norm(a - b) / np.linalg.norm(b):.1e}")


if __name__ == "__main__":
    main()
