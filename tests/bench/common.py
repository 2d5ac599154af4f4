"""What every measurement shares: a clean environment, alternating runs, medians, and a line about the machine."""

import os
import pathlib
import statistics
import sys
import time

SPIN_SECONDS = 0.2


def clean_environment():
    """Starts this script again without variables that force a core type or threads on OpenBLAS.

    A forced type slows peers and us by different factors, and a ratio measured under it means nothing. The variables
    are read when the libraries load, so unsetting them here would be too late.
    """
    forced = [name for name in os.environ if name.startswith("OPENBLAS_")]
    if forced:
        environment = {key: value for key, value in os.environ.items() if key not in forced}
        os.execve(sys.executable, [sys.executable, *sys.argv], environment)


# Exit status of a check that cannot run here, as automake and Meson know it.
SKIPPED = 77


def data_file(name):
    """The path of a file of the real data. Ends the script as skipped, with the reason, where it is not there."""
    folder = os.environ.get("GRAMIAN_DATA")
    path = pathlib.Path(folder or ".") / name
    if not folder or not path.exists():
        print(f"skipped: {f'no {name} in the folder {folder}' if folder else f'GRAMIAN_DATA is not set, no {name}'}")
        sys.exit(SKIPPED)
    return path


def verdict(failures):
    """Ends a check: prints what did not hold, and exits with 1 if there is anything."""
    print("failed: " + "; ".join(failures) if failures else "all held")
    sys.exit(bool(failures))


def describe_machine():
    """Prints what the figures below depend on: processor, load, and the BLAS core on both sides."""
    import gramian

    info = gramian.build_info()
    model = "unknown processor"
    try:
        with open("/proc/cpuinfo") as lines:
            model = next(line.split(":", 1)[1].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        pass
    print(
        f"{model}; load {os.getloadavg()[0]:.1f}; gramian {info['version']}: kernels {info['kernel_isa']}, "
        f"BLAS core {info['blas_core'] or info['blas_provider']}, threads {info['threads']}"
    )
    try:
        import numpy  # noqa: F401
        import threadpoolctl

        for library in threadpoolctl.threadpool_info():
            if library.get("internal_api") == "openblas":
                print(
                    f"peer BLAS: {library['prefix']} core {library.get('architecture')}, "
                    f"threads {library['num_threads']}"
                )
    except ImportError:
        print("peer BLAS: unknown (threadpoolctl is missing)")


def alternate(jobs, repeats=5, warmup=1, threads=None):
    """Runs the jobs in turn, A B C A B C ..., and returns the median seconds of each.

    Before each there is a pause: idle workers of a BLAS spin before they sleep, and would take a core from whoever is
    timed next.

    Parameters
    ----------
    jobs : dict of str to callable
    threads : int, default=None
        BLAS threads of the peers; None for as many as gramian takes by itself.
    """
    import gramian

    times = {name: [] for name in jobs}
    with peer_threads(threads or gramian.build_info()["threads"]):
        for run in range(warmup + repeats):
            for name, job in jobs.items():
                time.sleep(SPIN_SECONDS)
                start = time.perf_counter()
                job()
                elapsed = time.perf_counter() - start
                if run >= warmup:
                    times[name].append(elapsed)
    return {name: statistics.median(values) for name, values in times.items()}


def peer_threads(count):
    """Limits the BLAS threads of NumPy and SciPy to `count` (a context manager)."""
    import threadpoolctl

    return threadpoolctl.threadpool_limits(limits=count, user_api="blas")
