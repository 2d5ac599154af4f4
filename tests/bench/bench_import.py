"""Seconds of `import gramian` beyond NumPy's own import, in fresh processes.

python tests/bench/bench_import.py
"""

import statistics
import subprocess
import sys
import time

import common

common.clean_environment()


def seconds(code):
    start = time.perf_counter()
    subprocess.run([sys.executable, "-c", code], check=True)
    return time.perf_counter() - start


def main():
    common.describe_machine()
    numpy, both = [], []
    for run in range(12):
        a, b = seconds("import numpy"), seconds("import numpy; import gramian")
        if run >= 2:
            numpy.append(a)
            both.append(b)
    print(
        f"import numpy {statistics.median(numpy) * 1e3:.0f} ms, with gramian {statistics.median(both) * 1e3:.0f} ms: "
        f"{(statistics.median(both) - statistics.median(numpy)) * 1e3:.0f} ms more"
    )


if __name__ == "__main__":
    main()
