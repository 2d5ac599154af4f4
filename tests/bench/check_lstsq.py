"""Backward errors of gm.lstsq over the grid: condition 1 to 1e14, residual 0 to 1e3, many seeds, and hard designs.

Each must stay within ten times that of LAPACK's gelsy (or a sixteenth of eps). Prints, for each method, the worst ratio
and how many of how many problems held; exits with 1 if one did not.

    python tests/bench/check_lstsq.py [--seeds 20] [--rows 1000] [--columns 30]
"""

import argparse
import pathlib
import sys

import common

common.clean_environment()

import numpy as np  # noqa: E402
import scipy.linalg  # noqa: E402

import gramian as gm  # noqa: E402

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))

from reference import lstsq as reference  # noqa: E402

METHODS = ("auto", "qr", "preconditioned_cholesky", "spir", "fossils", "cholesky")
CONDITIONS = (1e0, 1e2, 1e4, 1e6, 1e8, 1e10, 1e12, 1e14)
RESIDUALS = (0.0, 1e-12, 1e-3, 1e3)
FLOOR = np.finfo(float).eps / 16


def problems(args):
    for condition in CONDITIONS:
        for residual in RESIDUALS:
            for seed in range(args.seeds):
                rng = np.random.default_rng([seed, int(np.log10(condition)), RESIDUALS.index(residual)])
                A, b = reference.problem(rng, args.rows, args.columns, condition, residual)
                yield f"condition {condition:.0e}, residual {residual:g}", condition, A, b
    for seed in range(args.seeds):
        rng = np.random.default_rng([seed, 99])
        A, _ = reference.linf_design("D4", args.rows, args.columns, seed)
        yield "heavy tails", 1e6, A, A @ rng.normal(size=args.columns) + rng.standard_t(3, size=args.rows)
        for width in (8, 12, 20):
            V = np.vander(np.linspace(0, 1, args.rows), width, increasing=True)
            yield f"Vandermonde {width}", 10.0**width, V, V @ rng.normal(size=width) + 1e-3 * rng.normal(size=args.rows)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=20)
    parser.add_argument("--rows", type=int, default=1000)
    parser.add_argument("--columns", type=int, default=30)
    args = parser.parse_args()
    common.describe_machine()
    held = {method: [0, 0] for method in METHODS}
    worst = {method: (0.0, "") for method in METHODS}
    for name, condition, A, b in problems(args):
        measure = reference.BackwardError(A)
        bar = 10 * measure(b, scipy.linalg.lstsq(A, b, lapack_driver="gelsy")[0]) + FLOOR
        for method in METHODS:
            if method == "cholesky" and condition > 1e6:
                continue
            error = measure(b, gm.lstsq(A, b, method=method).x)
            held[method][0] += error <= bar
            held[method][1] += 1
            if error / bar > worst[method][0]:
                worst[method] = (error / bar, f"{name}: {error:.1e} against {bar:.1e}")
    for method in METHODS:
        kept, total = held[method]
        print(f"{method:25s} {kept} of {total} within the bar; worst {worst[method][0]:.2f} of it, {worst[method][1]}")
    common.verdict([f"{method} beyond the bar" for method, (kept, total) in held.items() if kept < total])


if __name__ == "__main__":
    main()
