"""Threads inside the workers of a grid search: as many as the worker may use, so that all together are no more than
there are processors."""

import json
import os
import subprocess
import sys
import textwrap

import pytest

pytest.importorskip("joblib", reason="joblib is not installed")
pytest.importorskip("sklearn", reason="scikit-learn is not installed")

# The number of threads that a call takes, and how many threads the process has more after calls that want helpers.
PRELUDE = """
import json, os, time
import joblib
import numpy as np
import gramian as gm
from sklearn.model_selection import GridSearchCV

rng = np.random.default_rng(0)
X, y = rng.normal(size=(1500, 20)), np.arange(1500) % 3
cores = gm.build_info()["threads"]

def tasks():
    return len(os.listdir("/proc/self/task")) if os.path.isdir("/proc/self/task") else 0

def learn():
    before = tasks()
    gm.AnalyticClassifier(gm.RandomFeatures(800)).fit(X, y).predict(X)
    told = os.environ.get("OMP_NUM_THREADS")
    return {"pid": os.getpid(), "threads": gm.build_info()["threads"], "started": tasks() - before, "told": told}

def threads_scored(model, X, y):
    return gm.build_info()["threads"]

def report(**values):
    print(json.dumps({"cores": cores, **values}))
"""


def run(script, **environment):
    """Runs a script without variables that say how many threads there are, but for the given ones."""
    kept = {key: value for key, value in os.environ.items() if not key.endswith("_NUM_THREADS")}
    out = subprocess.run(
        [sys.executable, "-c", PRELUDE + textwrap.dedent(script)],
        capture_output=True,
        text=True,
        timeout=300,
        env={**kept, **environment},
    )
    assert out.returncode == 0, out.stderr
    return json.loads(out.stdout.splitlines()[-1])


def test_workers_of_loky_share_the_processors():
    """joblib tells each of its processes how many threads it may use, and the library does as it is told."""
    found = run("""
        report(workers=joblib.Parallel(n_jobs=2, backend="loky")(joblib.delayed(learn)() for _ in range(6)))
    """)
    share = max(1, found["cores"] // 2)
    by_process = {}
    for worker in found["workers"]:
        assert worker["told"] == str(share)
        assert worker["threads"] == share
        by_process.setdefault(worker["pid"], []).append(worker["started"])
    assert len(by_process) <= 2
    # The pool starts what helpers a call asks for, once, and the caller works too.
    assert all(sum(started) <= share - 1 for started in by_process.values())
    assert len(by_process) * share <= max(2, found["cores"])


@pytest.mark.parametrize("n_jobs", [1, 2])
def test_grid_search(n_jobs):
    found = run(f"""
        search = GridSearchCV(
            gm.AnalyticClassifier(gm.RandomFeatures(200)), {{"ridge": [0.1, 1.0]}}, cv=3, n_jobs={n_jobs},
            scoring=threads_scored, refit=False,
        ).fit(X, y)
        splits = [search.cv_results_[f"split{{k}}_test_score"].tolist() for k in range(3)]
        report(threads=sorted(set(sum(splits, []))))
    """)
    assert found["threads"] == [max(1, found["cores"] // n_jobs)]


def test_a_number_of_our_own_goes_before():
    found = run(
        """
        report(workers=joblib.Parallel(n_jobs=2, backend="loky")(joblib.delayed(learn)() for _ in range(2)))
        """,
        GRAMIAN_NUM_THREADS="3",
    )
    assert all(worker["threads"] == 3 for worker in found["workers"])
    if sys.platform == "linux":  # the count of threads sees them
        assert max(worker["started"] for worker in found["workers"]) == 2


def test_threads_of_one_process_share_one_pool():
    """Callers in threads do not start helpers of their own each."""
    found = run("""
        import threading

        before = tasks()
        callers = [threading.Thread(target=learn) for _ in range(4)]
        for caller in callers:
            caller.start()
        for caller in callers:
            caller.join()
        left = [tasks() - before]
        while left[-1] >= cores and len(left) < 50:  # a thread that is joined takes a moment to leave the list
            time.sleep(0.02)
            left.append(tasks() - before)
        report(started=left[-1], left=left)
    """)
    assert found["started"] <= found["cores"] - 1


def test_workers_of_processes_that_fork():
    """multiprocessing tells nothing: a child that is forked from a process whose pool runs works with a new one."""
    found = run("""
        import multiprocessing

        learn()
        if "fork" in multiprocessing.get_all_start_methods():
            with multiprocessing.get_context("fork").Pool(2) as pool:
                workers = pool.starmap(learn, [()] * 4)
        else:
            workers = [learn()]
        report(workers=workers)
    """)
    assert all(worker["threads"] == found["cores"] for worker in found["workers"])
    assert all(worker["started"] <= found["cores"] - 1 for worker in found["workers"])
