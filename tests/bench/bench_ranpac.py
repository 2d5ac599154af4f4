"""The ridge of a random projection by held-out rows: sums and Cholesky against 17 LU solves, as published.

The peer is the published arithmetic in NumPy: float32 sums of the first 80 % of the rows, one LU solve for each of 17
ridges, the mean squared error of the other rows by predicting them. Ours gets the same features, as the sums of the
same two sets of rows. Both times leave out the pass over the rows that makes the sums; it is printed apart.

python tests/bench/bench_ranpac.py [--features 5000] [--rows 8000] [--repeats 3]
"""

import argparse
import time

import common

common.clean_environment()

import numpy as np  # noqa: E402

import gramian as gm  # noqa: E402

RIDGES = 10.0 ** np.arange(-8, 9)


def task(rows, inputs, classes, noise, rng):
    """Clusters as a frozen network makes them, with one-hot targets."""
    y = rng.integers(0, classes, rows)
    X = rng.standard_normal((classes, inputs))[y] + noise * rng.standard_normal((rows, inputs))
    return X.astype(np.float32), y


def peer_choice(G, Q, Z, Y):
    """Errors of the held-out rows for 17 ridges: float32 LU solves, as published."""
    losses = []
    for ridge in RIDGES:
        W = np.linalg.solve(G + np.float32(ridge) * np.eye(len(G), dtype=np.float32), Q)
        losses.append(np.mean((Y - Z @ W) ** 2))
    return np.array(losses)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--features", type=int, default=5000)
    parser.add_argument("--rows", type=int, default=8000)
    parser.add_argument("--inputs", type=int, default=768)
    parser.add_argument("--classes", type=int, default=100)
    parser.add_argument("--noise", type=float, default=3.0)
    parser.add_argument("--repeats", type=int, default=3)
    args = parser.parse_args()

    rng = np.random.default_rng(0)
    X, y = task(args.rows, args.inputs, args.classes, args.noise, rng)
    Z = gm.RandomFeatures(args.features, scale=1.0).fit_transform(X)
    Y = np.eye(args.classes, dtype=np.float32)[y]
    kept = int(args.rows * 0.8)
    common.describe_machine()
    threads = gm.build_info()["threads"]
    print(f"{kept} + {args.rows - kept} rows x {args.features} features -> {args.classes} classes, 17 ridges")

    start = time.perf_counter()
    G, Q = Z[:kept].T @ Z[:kept], Z[:kept].T @ Y[:kept]
    middle = time.perf_counter()
    train, held = (
        gm.GramState(args.features, args.classes, fit_intercept=False, dtype="float32").add(Z[part], Y[part])
        for part in (slice(0, kept), slice(kept, None))
    )
    ours = time.perf_counter() - middle
    print(f"the sums: peer {middle - start:.2f} s (training rows), ours {ours:.2f} s (all rows)")

    found = {}
    jobs = {
        "17 LU solves, float32": lambda: found.update(peer=peer_choice(G, Q, Z[kept:], Y[kept:])),
        "sums, coarse to fine": lambda: found.update(fine=train.holdout(held, RIDGES)),
        "sums, full grid": lambda: found.update(full=train.holdout(held, RIDGES, full=True)),
    }
    # A run takes a minute and more: nothing to warm up.
    seconds = common.alternate(jobs, args.repeats, warmup=0, threads=threads)
    peer = seconds["17 LU solves, float32"]
    # Exact scores of both choices, in float64 from the rows.
    G64, Q64 = Z[:kept].astype(np.float64).T @ Z[:kept], Z[:kept].astype(np.float64).T @ Y[:kept]

    def exact(ridge):
        W = np.linalg.solve(G64 + ridge * np.eye(args.features), Q64)
        return float(np.mean((Y[kept:] - Z[kept:] @ W) ** 2))

    chosen = {"17 LU solves, float32": float(RIDGES[found["peer"].argmin()])}
    for name, curve in (("sums, coarse to fine", found["fine"]), ("sums, full grid", found["full"])):
        chosen[name] = curve.ridge
        print(f"{name}: {curve.evaluated} ridges solved")
    errors = {ridge: exact(ridge) for ridge in set(chosen.values())}
    for name, value in seconds.items():
        print(
            f"threads={threads}  {name:24s} {value:7.3f} s  peer/this {peer / value:5.2f}  ridge {chosen[name]:.0e}  "
            f"held-out error {errors[chosen[name]]:.6f}"
        )
    # What the peer's way cannot go below at the speed of its own matrix product: 17 (2/3 M^3 + 2 M^2 C) flops.
    size = args.features
    with common.peer_threads(threads):
        A = Z[: min(args.rows, 4000)]
        start = time.perf_counter()
        A.T @ A[:, :2000]
        rate = 2 * len(A) * size * 2000 / (time.perf_counter() - start)
    flops = 17 * (2 / 3 * size**3 + 2 * size**2 * args.classes + 2 * (args.rows - kept) * size * args.classes)
    least = 6 * (size**3 / 3 + 4 * size**2 * args.classes)
    print(
        f"ceiling: the peer's {flops:.2e} flops take {flops / rate:.2f} s at its product's {rate * 1e-9:.0f} GFLOP/s; "
        f"six factors and their scores need {least:.2e} flops, so peer/this could reach {flops / least:.1f}"
    )


if __name__ == "__main__":
    main()
