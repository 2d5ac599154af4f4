"""Sketches against their peers and against the memory: sparse sign and CountSketch of 1M x 64 float64 (S @ A of
scipy.sparse; share of the measured read bandwidth), and SRHT of 20k x 1000 -> 1000 float32 (scikit-learn's Gaussian
projection).

python tests/bench/bench_sketch.py [--rows 1000000] [--repeats 5] [--ours-only]
"""

import argparse

import common

common.clean_environment()

import numpy as np  # noqa: E402
import scipy.sparse  # noqa: E402

import gramian as gm  # noqa: E402


def as_matrix(s, n):
    """S of a sparse sketch as a CSR matrix, from its own entries."""
    blocks = []
    for begin in range(0, n, 4096):
        blocks.append(scipy.sparse.csc_matrix(s.materialise(columns=(begin, min(n, begin + 4096)))))
    return scipy.sparse.hstack(blocks, format="csr")


def sparse(args, threads):
    rng = np.random.default_rng(0)
    A = rng.standard_normal((args.rows, args.columns))
    gigabytes = A.nbytes * 1e-9
    sketches = {
        "SparseSign(512, nnz=8)": gm.sketch.SparseSign(512, args.rows, n_jobs=threads),
        "SparseSign(4096, nnz=8)": gm.sketch.SparseSign(4096, args.rows, n_jobs=threads),
        "CountSketch(512)": gm.sketch.CountSketch(512, args.rows, n_jobs=threads),
        "CountSketch(4096)": gm.sketch.CountSketch(4096, args.rows, n_jobs=threads),
    }
    # Reading at the pace of the memory: every row summed, by as many threads as the sketches have.
    ones = np.ones(args.columns)
    jobs = {"read (A @ 1)": lambda: A @ ones}
    jobs |= {name: (lambda s=s: s.apply(A)) for name, s in sketches.items()}
    if not args.ours_only:
        for name in ("SparseSign(512, nnz=8)", "CountSketch(512)"):
            S = as_matrix(sketches[name], args.rows)
            jobs[f"scipy.sparse {name} @ A"] = lambda S=S: S @ A
    with common.peer_threads(threads):
        seconds = common.alternate(jobs, args.repeats)
    floor = seconds["read (A @ 1)"]
    print(f"{args.rows} x {args.columns} float64, {gigabytes:.2f} GB")
    for name, value in seconds.items():
        print(
            f"threads={threads}  {name:38s} {value * 1e3:9.1f} ms  {gigabytes / value:6.2f} GB/s  "
            f"{100 * floor / value:5.1f} % of read"
        )
    for name in ("SparseSign(512, nnz=8)", "CountSketch(512)"):
        peer = seconds.get(f"scipy.sparse {name} @ A")
        if peer is not None:
            print(f"  {name}: scipy/ours {peer / seconds[name]:.1f}")


def projection(args, threads):
    rng = np.random.default_rng(1)
    X = rng.standard_normal((args.samples, 1000)).astype(np.float32)
    families = [gm.sketch.SRHT, gm.sketch.HDHD, gm.sketch.Gaussian]
    made = {f"{family.__name__}(1000, 1000).project": family(1000, 1000, n_jobs=threads) for family in families}
    jobs = {name: (lambda s=s: s.project(X)) for name, s in made.items()}
    if not args.ours_only:
        from sklearn.random_projection import GaussianRandomProjection

        peer = GaussianRandomProjection(1000, random_state=0).fit(X)
        jobs["GaussianRandomProjection.transform"] = lambda: peer.transform(X)
    with common.peer_threads(threads):
        seconds = common.alternate(jobs, args.repeats)
    print(f"{args.samples} x 1000 -> 1000 float32")
    for name, value in seconds.items():
        print(f"threads={threads}  {name:38s} {value * 1e3:9.1f} ms")
    if not args.ours_only:
        ratio = seconds["GaussianRandomProjection.transform"] / seconds["SRHT(1000, 1000).project"]
        print(f"  peer/SRHT {ratio:.1f} (bar: 8)")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--columns", type=int, default=64)
    parser.add_argument("--samples", type=int, default=20_000)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--ours-only", action="store_true", help="without the peers, for profiles")
    args = parser.parse_args()
    common.describe_machine()
    threads = gm.build_info()["threads"]
    sparse(args, threads)
    projection(args, threads)


if __name__ == "__main__":
    main()
