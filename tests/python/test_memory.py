"""Memory: rows go through a feature map block by block, and no matrix of all rows by all features ever exists.

The library counts what its buffers allocate; the process's own peak is the second witness.
"""

import subprocess
import sys

import numpy as np
import pytest

import gramian as gm
from gramian import _core

MIB = 2**20
# 2,048 features of 40,000 rows in single precision would be 312 MiB.
N, P, D = 40_000, 32, 2048
WHOLE = N * D * 4


@pytest.fixture(scope="module")
def rows():
    rng = np.random.default_rng(0)
    return rng.normal(size=(N, P)).astype(np.float32), rng.integers(0, 10, N)


def measured(call):
    _core.reset_memory_stats()
    live = _core.memory_stats()["live"]
    result = call()
    stats = _core.memory_stats()
    return result, stats["largest"], stats["peak"] - live


def test_the_counter_counts():
    """Power: the dual form, which does hold all of its rows, is seen; and so is a state that comes and goes."""
    X = np.random.default_rng(0).normal(size=(300, 2000))
    _, largest, peak = measured(lambda: gm.ridge_solve(X, X[:, 0], form="dual"))
    assert largest == X.nbytes
    assert peak > X.nbytes
    live = _core.memory_stats()["live"]
    state = gm.GramState(1500, 2)
    assert _core.memory_stats()["live"] - live >= 1500 * 1501 // 2 * 8
    del state
    assert _core.memory_stats()["live"] == live


@pytest.mark.parametrize(
    "estimator, kind",
    [(gm.AnalyticClassifier, "gaussian"), (gm.AnalyticClassifier, "hadamard"), (gm.AnalyticRegressor, "gaussian")],
)
def test_no_matrix_of_all_rows_by_all_features(rows, estimator, kind):
    X, y = rows
    features = gm.RandomFeatures(D, kind=kind)
    model, largest, peak = measured(lambda: estimator(features, dtype="float32").fit(X, y))
    gram = D * (D + 1) // 2 * 8
    assert largest < WHOLE / 4
    assert largest <= max(64 * MIB, gram * 1.3)
    assert gram <= peak < WHOLE / 2
    assert peak < model.nbytes + 64 * MIB + P * D * 8 + 32 * MIB
    _, largest, peak = measured(lambda: model.predict(X))
    assert largest < WHOLE / 4 and largest <= gram * 1.3
    # Solving needs factors (in single precision from 2,048 features on), predicting blocks of about 8 MiB.
    assert peak < 2.5 * gram + 48 * MIB


def test_updates_stage_a_second_state_and_no_more(rows):
    X, y = rows
    model = gm.AnalyticClassifier(gm.RandomFeatures(D), dtype="float32").fit(X[:5000], y[:5000])
    for call in (
        lambda: model.partial_fit(X[5000:], y[5000:]),
        lambda: model.forget(X[5000:], y[5000:]),
    ):
        _, largest, peak = measured(call)
        assert largest < WHOLE / 4
        assert peak < 1.2 * model.nbytes + 64 * MIB + P * D * 8 + 32 * MIB
    _, _, in_place = measured(lambda: model.partial_fit(X[5000:20_000], y[5000:20_000], atomic=False))
    assert in_place < 64 * MIB + P * D * 8 + 32 * MIB  # no second state


def test_float64_blocks(rows):
    X, y = rows
    D64 = 1200
    _, largest, peak = measured(lambda: gm.AnalyticClassifier(gm.RandomFeatures(D64)).fit(X, y))
    assert largest < N * D64 * 8 / 4
    assert peak < D64 * D64 * 8 + 64 * MIB + 32 * MIB


def test_nothing_stays_behind(rows):
    X, y = rows
    live = _core.memory_stats()["live"]
    for _ in range(3):
        model = gm.AnalyticClassifier(gm.RandomFeatures(300), dtype="float32").fit(X[:3000], y[:3000])
        model.partial_fit(X[3000:9000], y[3000:9000]).predict(X[:100])
        del model
    assert _core.memory_stats()["live"] == live


def test_the_state_does_not_depend_on_the_rows(rows):
    X, y = rows
    few = gm.AnalyticClassifier(gm.RandomFeatures(200), dtype="float32").fit(X[:200], y[:200])
    many = gm.AnalyticClassifier(gm.RandomFeatures(200), dtype="float32").fit(X, y)
    assert few.nbytes == many.nbytes == few.state_.nbytes
    assert few.nbytes < 8 * (200 * 201 // 2 + 10 * 200) + 64 * 1024 + 200 * 200 * 8


def test_rows_of_other_types_are_widened_by_blocks():
    X = np.random.default_rng(0).integers(0, 255, size=(200_000, 64)).astype(np.uint8)
    Y = X[:, :2].astype(np.float16)
    state, largest, peak = measured(lambda: gm.GramState(64, 2).add(X, Y))
    assert state.n_rows == len(X)
    assert largest <= 8192 * 64 * 8 + MIB  # one block of doubles, where all rows would be 98 MiB
    assert peak < 16 * MIB
    for view in (np.asfortranarray(X), X[::-1, ::-1], np.repeat(X, 2, axis=1)[:, ::2]):
        again, _, peak = measured(lambda view=view: gm.GramState(64, 2).add(view, Y))
        assert peak < 16 * MIB
        assert again.n_rows == len(X)


SCRIPT = """
import re
import numpy as np, gramian as gm
n, p, d = {n}, {p}, {d}
X = np.random.default_rng(0).normal(size=(n, p)).astype(np.float32)
y = np.arange(n) % 10
make = lambda k: gm.AnalyticClassifier(gm.RandomFeatures(k), dtype="float32", n_jobs=2)
make(64).fit(X[:500], y[:500]).predict(X[:500])
# Not getrusage: its peak is inherited from the process that started this one.
peak = lambda: int(re.search(r"VmHWM:\\s+(\\d+) kB", open("/proc/self/status").read())[1]) * 1024
before = peak()
model = make(d).fit(X, y)
fitted = peak()
model.predict(X)
print(before, fitted - before, peak() - before)
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="this system has no /proc/self/status")
def test_the_process_says_the_same():
    out = subprocess.run(
        [sys.executable, "-c", SCRIPT.format(n=N, p=P, d=D)], capture_output=True, text=True, check=True, timeout=300
    )
    before, fitted, predicted = map(int, out.stdout.split())
    gram = D * (D + 1) // 2 * 8
    assert gram < fitted < WHOLE / 2
    assert fitted < gram + 64 * MIB + 48 * MIB
    assert predicted < 3 * gram + 64 * MIB + 64 * MIB
