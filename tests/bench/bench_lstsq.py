"""gm.lstsq against SciPy's gelsd and gelsy, numpy's QR and the normal equations, at their accuracy.

For each condition number: seconds in alternating runs on the same threads, and the backward error beside them, for a
method is only as fast as it is right. Then the crossover table: what the cost model picks, by shape and condition, from
speeds measured here.

    python tests/bench/bench_lstsq.py [--rows 200000] [--columns 500] [--conditions 10,1e4,1e8,1e12] [--repeats 3]
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


def problem(n, d, condition, residual, seed=0):
    """A with singular values evenly spaced in their logarithm, nearly: random columns mixed by a d x d matrix."""
    rng = np.random.default_rng(seed)
    A = rng.standard_normal((n, d))
    left, right = (np.linalg.qr(rng.standard_normal((d, d)))[0] for _ in range(2))
    A = A @ ((left * np.logspace(0, -np.log10(condition), d)) @ right) / np.sqrt(n)
    x = rng.standard_normal(d)
    return A, A @ (x / np.linalg.norm(x)) + residual * rng.standard_normal(n) / np.sqrt(n)


def backward_error(A, b, x, R):
    """Karlson and Walden's estimate over |A|_F; R is that of a QR of A, and the gradient is made in blocks."""
    r = b - A @ x
    eta = np.linalg.norm(r) / np.linalg.norm(x)
    g = np.zeros(A.shape[1], dtype=np.longdouble)
    for begin in range(0, len(A), 4096):
        block = A[begin : begin + 4096]
        exact = b[begin : begin + 4096].astype(np.longdouble) - block.astype(np.longdouble) @ x.astype(np.longdouble)
        g += block.astype(np.longdouble).T @ exact
    _, s, Vt = np.linalg.svd(R)
    damped = np.linalg.norm((Vt @ g.astype(float)) / np.sqrt(s**2 + eta**2))
    return float(damped / np.linalg.norm(x) / np.linalg.norm(A))


def normal_equations(A, b):
    try:
        return scipy.linalg.cho_solve(scipy.linalg.cho_factor(A.T @ A), A.T @ b)
    except np.linalg.LinAlgError:
        return np.full(A.shape[1], np.nan)


def numpy_qr(A, b):
    Q, R = np.linalg.qr(A)
    return scipy.linalg.solve_triangular(R, Q.T @ b)


def compare(args, condition, threads):
    A, b = problem(args.rows, args.columns, condition, args.residual)
    answers = {}

    def keep(name, solve):
        def job():
            answers[name] = solve()

        return job

    ours = {"gm.lstsq": "auto"}
    if args.methods:
        ours.update({f"gm.lstsq {name}": name for name in args.methods.split(",")})
    jobs = {name: keep(name, lambda m=m: gm.lstsq(A, b, method=m, n_jobs=threads)) for name, m in ours.items()}
    jobs["normal equations"] = keep("normal equations", lambda: normal_equations(A, b))
    if not args.ours_only:
        jobs["scipy gelsd"] = keep("scipy gelsd", lambda: scipy.linalg.lstsq(A, b, lapack_driver="gelsd")[0])
        jobs["scipy gelsy"] = keep("scipy gelsy", lambda: scipy.linalg.lstsq(A, b, lapack_driver="gelsy")[0])
        jobs["numpy qr"] = keep("numpy qr", lambda: numpy_qr(A, b))
    with common.peer_threads(threads):
        seconds = common.alternate(jobs, args.repeats, warmup=1 if args.repeats > 1 else 0)
    R = np.linalg.qr(A, mode="r") if args.accuracy else None
    reading = args.rows * args.columns * 8 / args.speeds.bandwidth
    product = args.rows * args.columns**2 / args.speeds.flops64
    print(f"\ncondition {condition:.0e}, residual {args.residual:g}")
    print(f"  floors: one reading of A {reading:.3f} s, A'A {product:.3f} s")
    for name, value in seconds.items():
        answer = answers[name]
        x = answer.x if isinstance(answer, gm.LstsqResult) else answer
        error = backward_error(A, b, x, R) if args.accuracy and np.isfinite(x).all() else np.nan
        note = f"{answer.method}, {answer.iterations} readings" if isinstance(answer, gm.LstsqResult) else ""
        print(
            f"  {name:34s} {value:7.3f} s   gm.lstsq is {value / seconds['gm.lstsq']:5.2f} x   "
            f"backward error {error:8.1e}   {note}"
        )


def crossover(speeds):
    print("\nmethod by shape and condition, from the speeds above (d across; n = 100 d and n = 1000 d)")
    widths = (20, 50, 100, 200, 500, 1000, 2000, 5000)
    for condition in (10, 1e4, 1e8, 1e12):
        for factor in (20, 100, 1000):
            cells = [gm.lstsq_plan(factor * d, d, condition=condition, speeds=speeds) for d in widths]
            names = "  ".join(f"{cell.method[:14]:14s}" for cell in cells)
            print(f"  condition {condition:6.0e}  n = {factor:4d} d  {names}")
    print("  d =" + " " * 30 + "  ".join(f"{d:<14d}" for d in widths))


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=200_000)
    parser.add_argument("--columns", type=int, default=500)
    parser.add_argument("--conditions", default="10,1e4,1e8,1e12")
    parser.add_argument("--residual", type=float, default=1e-3)
    parser.add_argument("--methods", default="", help="methods beside auto, joined by commas")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--ours-only", action="store_true", help="without gelsd, gelsy and numpy's QR")
    parser.add_argument("--no-accuracy", dest="accuracy", action="store_false")
    args = parser.parse_args()
    common.describe_machine()
    threads = gm.build_info()["threads"]
    args.speeds = gm.LstsqSpeeds.measure(n_jobs=threads)
    print("measured: " + ", ".join(f"{k} {v:.3g}" for k, v in vars(args.speeds).items()))
    print(f"{args.rows} x {args.columns}, float64, threads={threads}")
    for condition in args.conditions.split(","):
        compare(args, float(condition), threads)
    crossover(args.speeds)


if __name__ == "__main__":
    main()
