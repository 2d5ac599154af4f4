"""8192 ReLU features of 60k x 784 into a fitted ridge, float32: time, peak memory, and share of syrk's own speed.

The peer is a scikit-learn pipeline: the same weights applied by a FunctionTransformer, then Ridge(solver="cholesky") on
one-hot targets. Each side runs in a process of its own, so that peak memory is its own.

    python tests/bench/bench_random_features.py [--rows 60000] [--features 8192]

Real Fashion-MNIST is used where GRAMIAN_DATA names its folder, random pixels elsewhere.
"""

import argparse
import json
import os
import resource
import subprocess
import sys
import time

import common

common.clean_environment()

import numpy as np  # noqa: E402


def load(rows):
    folder = os.environ.get("GRAMIAN_DATA")
    path = folder and os.path.join(folder, "fashion_mnist.npz")
    if path and os.path.exists(path):
        data = np.load(path)
        X = data["x_train"].reshape(-1, 784)[:rows].astype(np.float32) / 255
        return (
            X,
            data["y_train"][:rows].astype(np.int64),
            data["x_test"].reshape(-1, 784).astype(np.float32) / 255,
            data["y_test"].astype(np.int64),
        )
    rng = np.random.default_rng(0)
    X = rng.random((rows + 1000, 784), dtype=np.float32)
    y = rng.integers(0, 10, rows + 1000)
    return X[:rows], y[:rows], X[rows:], y[rows:]


def peak_megabytes():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def resident_megabytes():
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * resource.getpagesize() / 2**20


def ours(args):
    import gramian as gm

    X, y, X_test, y_test = load(args.rows)
    maps = gm.RandomFeatures(args.features, activation="relu", random_state=0)
    before = resident_megabytes()
    model = gm.AnalyticClassifier(maps, ridge=1.0, dtype="float32", n_jobs=args.threads)
    start = time.perf_counter()
    model.fit(X, y)
    accumulated = time.perf_counter() - start
    _ = model.coef_  # solves
    seconds = time.perf_counter() - start
    peak = peak_megabytes()
    return {
        "seconds": seconds,
        "accumulate": accumulated,
        "before_MB": before,
        "peak_MB": peak,
        "accuracy": float(model.score(X_test, y_test)),
        "report": str(model.report_),
    }


def peer(args):
    from sklearn.linear_model import Ridge
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import FunctionTransformer

    X, y, X_test, y_test = load(args.rows)
    rng = np.random.default_rng(0)
    B = rng.standard_normal((784, args.features), dtype=np.float32) / np.float32(28)

    def relu_features(rows):
        Z = rows @ B
        return np.maximum(Z, 0, out=Z)

    Y = np.eye(10, dtype=np.float32)[y]
    before = resident_megabytes()
    model = make_pipeline(FunctionTransformer(relu_features), Ridge(alpha=1.0, solver="cholesky"))
    start = time.perf_counter()
    with common.peer_threads(args.threads):
        model.fit(X, Y)
        seconds = time.perf_counter() - start
        peak = peak_megabytes()
        accuracy = float((model.predict(X_test).argmax(1) == y_test).mean())
    return {"seconds": seconds, "before_MB": before, "peak_MB": peak, "accuracy": accuracy}


def syrk(args):
    """GFLOP/s of one float32 syrk of SciPy's BLAS at this width and thread count, on 4096 rows at a time."""
    from scipy.linalg import blas

    Z = np.asfortranarray(np.random.default_rng(0).standard_normal((args.features, 4096), dtype=np.float32))
    C = np.zeros((args.features, args.features), dtype=np.float32, order="F")
    with common.peer_threads(args.threads):
        best = []
        for _ in range(4):
            start = time.perf_counter()
            blas.ssyrk(1.0, Z, beta=1.0, c=C, overwrite_c=1)
            best.append(time.perf_counter() - start)
    return {"gflops": args.features**2 * 4096 / float(np.median(best[1:])) * 1e-9}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=60_000)
    parser.add_argument("--features", type=int, default=8192)
    parser.add_argument("--threads", type=int, default=0)
    parser.add_argument("--side", choices=("ours", "peer", "syrk"))
    parser.add_argument("--repeats", type=int, default=3)
    args = parser.parse_args()
    import gramian as gm

    args.threads = args.threads or gm.build_info()["threads"]
    if args.side:
        print(json.dumps({"ours": ours, "peer": peer, "syrk": syrk}[args.side](args)))
        return
    import scipy.linalg  # noqa: F401  its LAPACK solves on the peer's side

    common.describe_machine()
    print(f"{args.rows} x 784 -> {args.features} ReLU features -> 10 classes, float32, threads {args.threads}")
    results = {"syrk": [], "ours": [], "peer": []}
    for _ in range(args.repeats):
        for side, kept in results.items():
            command = [sys.executable, __file__, "--side", side]
            command += ["--rows", str(args.rows), "--features", str(args.features), "--threads", str(args.threads)]
            kept.append(json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout))
    middle = {
        side: sorted(kept, key=lambda r: r.get("seconds", r.get("gflops")))[(len(kept) - 1) // 2]
        for side, kept in results.items()
    }
    us, them, speed = middle["ours"], middle["peer"], middle["syrk"]["gflops"]
    d = args.features
    flops = args.rows * (2 * 784 * d + d * d)
    achieved = flops / us["accumulate"] * 1e-9
    print(
        f"gramian   {us['seconds']:7.2f} s (sums {us['accumulate']:.2f} s)  peak {us['peak_MB']:.0f} MB "
        f"(before {us['before_MB']:.0f})  accuracy {us['accuracy']:.4f}"
    )
    print(
        f"pipeline  {them['seconds']:7.2f} s  peak {them['peak_MB']:.0f} MB (before {them['before_MB']:.0f})  "
        f"accuracy {them['accuracy']:.4f}"
    )
    print(
        f"time ratio pipeline/gramian {them['seconds'] / us['seconds']:.2f}; peak memory gramian/pipeline "
        f"{us['peak_MB'] / them['peak_MB']:.2f}"
    )
    gram = d * (d + 1) / 2 * 8 / 2**20
    print(
        f"beyond the Gram ({gram:.0f} MB) and a float factor ({gram / 2:.0f} MB): "
        f"{us['peak_MB'] - us['before_MB'] - 1.5 * gram:.0f} MB"
    )
    print(f"map + Gram {achieved:.1f} GFLOP/s; syrk alone {speed:.1f} GFLOP/s; share {achieved / speed:.2f}")
    print(us["report"])


if __name__ == "__main__":
    main()
