"""The Walsh-Hadamard transform and softmax beside copies, peers and the textbook, in turns; medians.

Every row names its share of the machine: seconds of a plain copy (NumPy's, one thread) or of one in-place
read-and-write pass over the same array, with the same number of threads where that is ours to choose.

usage: bench_transforms.py [--threads N] [--repeats N] [--quick] [--json FILE]
"""

import argparse
import json
import sys
import threading

import common
import numpy as np

common.clean_environment()

import gramian as gm  # noqa: E402
from gramian import transforms  # noqa: E402


def line(results, name, seconds, base, base_name, bar, moved=None):
    """Prints and keeps one ratio. bar: (text, holds)."""
    ratio = seconds / base
    rate = "" if moved is None else f"  {moved / seconds / 1e9:5.1f} GB/s"
    verdict = "" if bar is None else f"   bar {bar[0]}: {'met' if bar[1] else 'MISSED'}"
    print(f"  {name:44} {seconds * 1e3:9.2f} ms  {ratio:6.2f} x {base_name}{rate}{verdict}")
    results[name] = {"seconds": seconds, "ratio": ratio, "base": base_name}


def in_place_pass(x, threads):
    """One read and one write of x: a product with -1, on as many threads as are compared."""
    parts = np.array_split(x.reshape(-1), threads)

    def negate(part):
        np.negative(part, out=part)

    def run():
        if threads == 1:
            return negate(parts[0])
        others = [threading.Thread(target=negate, args=(part,)) for part in parts[1:]]
        for other in others:
            other.start()
        negate(parts[0])
        for other in others:
            other.join()
        return None

    return run


def butterfly(x):
    """The transform of rows as NumPy users write it: a pass over the array per stage, in place."""
    n = x.shape[-1]
    step = 1
    while step < n:
        pairs = x.reshape(-1, n // (2 * step), 2, step)
        first, second = pairs[:, :, 0, :], pairs[:, :, 1, :]
        total = first + second
        np.subtract(first, second, out=second)
        first[...] = total
        step *= 2
    return x


def butterfly_columns(x):
    """The same down the columns."""
    n = x.shape[0]
    step = 1
    while step < n:
        pairs = x.reshape(n // (2 * step), 2, step, x.shape[1])
        first, second = pairs[:, 0], pairs[:, 1]
        total = first + second
        np.subtract(first, second, out=second)
        first[...] = total
        step *= 2
    return x


def bench_rows(results, rows, threads, repeats):
    n = 1024
    x = np.random.default_rng(0).standard_normal((rows, n), dtype=np.float32)
    other = np.empty_like(x)
    moved = 2 * x.nbytes
    few = x[: max(1, rows // 50)].copy()
    t = common.alternate(
        {
            "copy": lambda: np.copyto(other, x),
            "pass": in_place_pass(x, threads),
            "fwht in place": lambda: gm.fwht(x, out=x, norm="ortho", n_jobs=threads),
            "fwht into out": lambda: gm.fwht(x, out=other, norm="ortho", n_jobs=threads),
            "butterfly of a fiftieth": lambda: butterfly(few),
        },
        repeats,
    )
    print(f"FWHT, {rows} rows of {n}, float32, {threads} thread(s)")
    line(results, "copy", t["copy"], t["copy"], "copy", None, moved)
    for name in ("fwht in place", "fwht into out"):
        line(results, name, t[name], t["copy"], "copy", ("<= 1.6", t[name] <= 1.6 * t["copy"]), moved)
    line(results, "fwht in place ", t["fwht in place"], t["pass"], "read+write pass", None, moved)
    naive = t["butterfly of a fiftieth"] * rows / len(few)
    gain = naive / t["fwht in place"]
    line(results, f"NumPy butterfly, {gain:.0f}x ours", naive, t["copy"], "copy", None)


def bench_columns(results, log_n, cols, threads, repeats):
    n = 1 << log_n
    x = np.random.default_rng(1).standard_normal((n, cols))
    moved = 2 * x.nbytes
    t = common.alternate(
        {
            "pass": in_place_pass(x, threads),
            "fwht": lambda: gm.fwht(x, axis=0, out=x, norm="ortho", n_jobs=threads),
        },
        repeats,
    )
    naive = common.alternate({"butterfly": lambda: butterfly_columns(x)}, 1, 0)["butterfly"]
    print(f"FWHT, columns of 2^{log_n} x {cols}, float64, {threads} thread(s)")
    line(results, f"pass 2^{log_n}", t["pass"], t["pass"], "read+write pass", None, moved)
    bar = ("<= 3.5", t["fwht"] <= 3.5 * t["pass"])
    line(results, f"fwht 2^{log_n} x {cols}", t["fwht"], t["pass"], "read+write pass", bar, moved)
    gain = naive / t["fwht"]
    line(results, f"NumPy butterfly, {gain:.0f}x ours ", naive, t["pass"], "read+write pass",
         (">= 50x", gain >= 50))  # fmt: skip


def bench_softmax(results, rows, threads, repeats):
    from scipy import special

    x = np.random.default_rng(2).standard_normal((rows, 1000), dtype=np.float32)
    out = np.empty_like(x)
    moved = 2 * x.nbytes
    few = x[: max(1, rows // 10)]
    t = common.alternate(
        {
            "copy": lambda: np.copyto(out, x),
            "softmax": lambda: gm.softmax(x, out=out, n_jobs=threads),
            "log_softmax": lambda: gm.log_softmax(x, out=out, n_jobs=threads),
            "logsumexp": lambda: gm.logsumexp(x, n_jobs=threads),
            "down the columns": lambda: gm.softmax(x, axis=0, out=out, n_jobs=threads),
            "scipy of a tenth": lambda: special.softmax(few, axis=-1),
        },
        repeats,
    )
    print(f"softmax, {rows} x 1000, float32, {threads} thread(s)")
    line(results, "copy ", t["copy"], t["copy"], "copy", None, moved)
    bar = ("<= 2.2", t["softmax"] <= 2.2 * t["copy"])
    line(results, "softmax", t["softmax"], t["copy"], "copy", bar, moved)
    for name in ("log_softmax", "logsumexp", "down the columns"):
        line(results, name, t[name], t["copy"], "copy", None)
    scipy_seconds = t["scipy of a tenth"] * rows / len(few)
    gain = scipy_seconds / t["softmax"]
    line(results, f"scipy.special.softmax, {gain:.1f}x ours", scipy_seconds, t["copy"], "copy",
         (">= 4x", gain >= 4))  # fmt: skip


def bench_passes(results, logs, repeats):
    """Two passes against three on single rows, one thread each."""
    print("softmax of one float32 row: two passes against three, 1 thread")
    for log_n in logs:
        x = np.random.default_rng(3).standard_normal((1, 1 << log_n), dtype=np.float32)
        out = np.empty_like(x)

        def run(passes, x=x, out=out):
            return lambda: transforms._softmax(x, -1, out, "softmax", False, 1, passes)

        t = common.alternate({"copy": lambda x=x, out=out: np.copyto(out, x), "2": run(2), "3": run(3)}, repeats)
        gain = t["3"] / t["2"]
        bar = (">= 1.25 beyond the cache", gain >= 1.25) if log_n >= 24 else None
        print(
            f"  2^{log_n}: {gain:.2f}x" + ("" if bar is None else f"   bar {bar[0]}: {'met' if bar[1] else 'MISSED'}")
        )
        line(results, f"three passes 2^{log_n}", t["3"], t["copy"], "copy", None, 4 * x.nbytes)
        line(results, f"two passes 2^{log_n}", t["2"], t["copy"], "copy", None, 3 * x.nbytes)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--quick", action="store_true", help="a tenth of the sizes")
    parser.add_argument("--only", choices=["rows", "columns", "softmax", "passes"])
    parser.add_argument("--json", metavar="FILE", help="also write the figures there")
    arguments = parser.parse_args()
    common.describe_machine()
    part = 10 if arguments.quick else 1
    results, wanted = {}, arguments.only
    if wanted in (None, "rows"):
        bench_rows(results, 50_000 // part, arguments.threads, arguments.repeats)
    if wanted in (None, "columns"):
        bench_columns(results, 17 if arguments.quick else 20, 64, arguments.threads, arguments.repeats)
    if wanted in (None, "softmax"):
        bench_softmax(results, 100_000 // part, arguments.threads, arguments.repeats)
    if wanted in (None, "passes"):
        bench_passes(results, (12, 16, 20, 22) if arguments.quick else (12, 16, 20, 22, 24, 26), arguments.repeats)
    if arguments.json:
        with open(arguments.json, "w") as file:
            json.dump(results, file, indent=2)
    return 0


if __name__ == "__main__":
    sys.exit(main())
