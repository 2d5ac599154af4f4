"""gm.randomized_svd against scikit-learn's randomized_svd, at equal certified error and on the same threads.

Both results are certified alike, by the same Gaussian probes through one power of E'E, outside the timing (the time of
gm.randomized_svd contains its own certificate). Ours takes as many steps as it needs to be no worse.

    python tests/bench/bench_lowrank.py [--rows 100000] [--columns 2000] [--rank 50] [--repeats 3]
"""

import argparse
import time

import common

common.clean_environment()

import numpy as np  # noqa: E402

import gramian as gm  # noqa: E402

# Two approximations that are both as good as can be differ by as much in a bound that rests on ten vectors.
RESOLUTION = 1.005


def problem(n, d, decay, seed=0):
    """float32 rows with singular values near i^-decay over a floor of noise."""
    rng = np.random.default_rng(seed)
    rank = min(n, d, 300)
    left = rng.standard_normal((n, rank), dtype=np.float32) * (np.arange(1, rank + 1) ** -decay).astype(np.float32)
    right = rng.standard_normal((rank, d), dtype=np.float32) / np.float32(np.sqrt(d))
    A = np.empty((n, d), dtype=np.float32)
    for begin in range(0, n, 8192):
        rows = A[begin : begin + 8192]
        rng.standard_normal(dtype=np.float32, out=rows)
        rows *= np.float32(1e-3 / np.sqrt(d))
        rows += left[begin : begin + 8192] @ right
    A /= np.float32(np.sqrt(n))
    return A


def certified(A, U, s, Vt, probes=10, powers=2, seed=1):
    """The bound of gm.randomized_svd, for anybody's triplets: 10 sqrt(2 / pi) max |E (E'E)^p w|, to the root."""
    E_right = lambda x: A @ x - U @ (s[:, None] * (Vt @ x))  # noqa: E731
    E_left = lambda y: A.T @ y - Vt.T @ (s[:, None] * (U.T @ y))  # noqa: E731
    w = np.random.default_rng(seed).standard_normal((A.shape[1], probes)).astype(A.dtype)
    y = E_right(w)
    logs = np.zeros(probes)
    for _ in range(powers):
        length = np.linalg.norm(y.astype(float), axis=0)
        logs += np.log(length)
        y = E_right(E_left((y / length).astype(A.dtype)))
    logs += np.log(np.linalg.norm(y.astype(float), axis=0))
    return float(np.exp((np.log(10 * np.sqrt(2 / np.pi)) + logs.max()) / (2 * powers + 1)))


def main():
    from sklearn.utils.extmath import randomized_svd as peer

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=100_000)
    parser.add_argument("--columns", type=int, default=2000)
    parser.add_argument("--rank", type=int, default=50)
    parser.add_argument("--decay", type=float, default=1.0)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--steps", type=int, default=None, help="power iterations of ours; default: found first")
    parser.add_argument("--warmup", type=int, default=0)
    args = parser.parse_args()
    common.describe_machine()
    threads = gm.build_info()["threads"]
    A = problem(args.rows, args.columns, args.decay)
    print(f"{args.rows} x {args.columns} float32, rank {args.rank}, decay {args.decay}, threads {threads}")
    found = {}

    def run_peer():
        found["sklearn"] = peer(A, args.rank, random_state=0)

    def run_ours(steps):
        found["gramian"] = gm.randomized_svd(A, args.rank, power_iterations=steps, n_jobs=threads)

    with common.peer_threads(threads):
        run_peer()
        theirs = certified(A, *found["sklearn"])
        steps = args.steps
        if steps is None:
            for steps in range(1, 8):
                run_ours(steps)
                if certified(A, *found["gramian"]) <= theirs * RESOLUTION:
                    break
        else:
            run_ours(steps)
        ours = certified(A, *found["gramian"])
    start = time.perf_counter()
    float(np.einsum("ij,ij->", A, A))
    reading = time.perf_counter() - start
    print(
        f"certified error: scikit-learn {theirs:.6g}, gramian {ours:.6g} with {steps} steps "
        f"({found['gramian'].passes} products, own certificate {found['gramian'].error:.6g})"
    )
    seconds = common.alternate(
        {"gramian": lambda: run_ours(steps), "sklearn": run_peer}, args.repeats, warmup=args.warmup, threads=threads
    )
    ratio = seconds["sklearn"] / seconds["gramian"]
    print(
        f"gm.randomized_svd {seconds['gramian']:.3f} s, sklearn {seconds['sklearn']:.3f} s, ratio {ratio:.2f} x; "
        f"one reading on one thread {reading:.3f} s"
    )


if __name__ == "__main__":
    main()
