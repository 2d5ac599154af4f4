"""The same calls give the same bits: for any number of threads, any layout of the same values, in worker processes."""

import multiprocessing
import os
import subprocess
import sys
import threading

import numpy as np
import pytest
from reference_path import analytic, checks

import gramian as gm

MAPS = {
    "none": None,
    "gaussian": gm.RandomFeatures(70),
    "rademacher_cos": gm.RandomFeatures(70, kind="rademacher", activation="cos"),
    "hadamard": gm.RandomFeatures(70, kind="hadamard", activation="tanh"),
    "radial": gm.RBFFeatures(33),
    "chain": gm.FeatureChain([gm.RandomFeatures(20), gm.RandomFeatures(40, random_state=2)]),
}
THREADS = (1, 2, 3, 4)


@pytest.fixture(scope="module")
def rows():
    rng = np.random.default_rng(3)
    X = rng.normal(size=(20_000, 37)) + 0.5
    return X, rng.integers(0, 7, len(X)), rng.random(len(X)) * (rng.random(len(X)) < 0.9)


def everything(model, X):
    """All that a model answers with, as bytes."""
    answers = [model.coef_, model.intercept_, model.predict(X)]
    if hasattr(model, "classes_"):
        answers += [model.predict_proba(X), model.decision_function(X)]
    return b"".join(np.ascontiguousarray(answer).tobytes() for answer in answers)


@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("name", MAPS)
def test_threads_change_no_bit_of_a_classifier(rows, name, dtype):
    X, y, weight = rows
    seen = set()
    for n_jobs in THREADS:
        model = gm.AnalyticClassifier(MAPS[name], ridge=0.1, dtype=dtype, n_jobs=n_jobs)
        model.partial_fit(X[:300], y[:300])
        model.partial_fit(X[300:17_000], y[300:17_000], sample_weight=weight[300:17_000])
        model.forget(X[:100], y[:100])
        other = gm.AnalyticClassifier(MAPS[name], ridge=0.1, dtype=dtype, n_jobs=n_jobs)
        if name != "radial":  # whose centres are rows
            model.merge(other.fit(X[17_000:], y[17_000:]))
        seen.add((model.state_.to_bytes(), everything(model, X[:3000])))
    assert len(seen) == 1


@pytest.mark.parametrize("d", [37, 300])
def test_threads_change_no_bit_of_a_state(rows, d):
    X = rows[0] if d == 37 else np.hstack([rows[0][:3000]] * 9)[:, :d] + np.random.default_rng(1).normal(size=(3000, d))
    Y = X[:, :5] + np.random.default_rng(2).normal(size=(len(X), 5))
    ridges = [0.01, 1.0, 100.0]
    seen = set()
    for n_jobs in THREADS:
        state = gm.GramState(d, 5, n_jobs=n_jobs).add(X, Y).remove(X[:1000], Y[:1000])
        answers = [state.solve(0.1).coef] + [part.coef for part in state.path(ridges)] + [state.gcv(ridges).scores]
        dual = gm.ridge_solve(X[:90], Y[:90], 0.1, form="dual", n_jobs=n_jobs).coef
        seen.add((state.to_bytes(), b"".join(answer.tobytes() for answer in answers), dual.tobytes()))
    assert len(seen) == 1


def test_a_large_factor_is_the_same_for_all_threads():
    """d above 2048, where the factor is in single precision and tiled."""
    rng = np.random.default_rng(5)
    X = rng.normal(size=(600, 2100))
    Y = X[:, :3] + rng.normal(size=(600, 3))
    state = gm.GramState(2100, 3).add(X, Y)
    seen = set()
    for n_jobs in (1, 2, 3):
        twin = gm.GramState.from_bytes(state.to_bytes(), n_jobs=n_jobs)
        solution = twin.solve(50.0)
        seen.add(solution.coef.tobytes())
    assert len(seen) == 1
    coef, _ = analytic.ridge(X, Y, 50.0)
    size = ((X - X.mean(axis=0)) ** 2).sum()  # trace of the Gram matrix, whose smallest eigenvalue is 0 here
    assert checks.relative_error(solution.coef, coef) <= 8 * checks.EPS * size / 50.0


def test_the_number_of_threads_of_the_process_changes_no_bit():
    script = """
import hashlib, sys, numpy as np, gramian as gm
if len(sys.argv) > 1: gm.set_num_threads(int(sys.argv[1]))
rng = np.random.default_rng(0)
X, y = rng.normal(size=(9000, 20)), rng.integers(0, 4, 9000)
model = gm.AnalyticClassifier(gm.RandomFeatures(50)).fit(X, y)
print(gm.build_info()["threads"], hashlib.sha256(model.state_.to_bytes() + model.coef_.tobytes()).hexdigest())
"""
    calls = [([], {"GRAMIAN_NUM_THREADS": "3"}), ([], {"OMP_NUM_THREADS": "1"}), (["2"], {"GRAMIAN_NUM_THREADS": "4"})]
    found = []
    for arguments, variables in calls:
        environment = {k: v for k, v in os.environ.items() if k not in ("GRAMIAN_NUM_THREADS", "OMP_NUM_THREADS")}
        out = subprocess.run(
            [sys.executable, "-c", script, *arguments],
            env={**environment, **variables},
            capture_output=True,
            text=True,
            check=True,
            timeout=120,
        )
        found.append(out.stdout.split())
    assert [int(threads) for threads, _ in found] == [3, 1, 2]
    assert len({digest for _, digest in found}) == 1


def strided_rows(X):
    wide = np.zeros((2 * len(X) + 1, X.shape[1] + 3), dtype=X.dtype)
    wide[1::2, 2:-1] = X
    return wide[1::2, 2:-1]


def read_only(X):
    X = X.copy()
    X.flags.writeable = False
    return X


def mapped_file(X):
    return np.frombuffer(b"\0\0\0" + X.tobytes(), dtype=np.uint8)[3:].view(X.dtype).reshape(X.shape)


LAYOUTS = {
    "fortran": np.asfortranarray,
    "rows_and_columns_apart": strided_rows,
    "every_other_column": lambda X: np.repeat(X, 2, axis=1)[:, 1::2],
    "rows_backwards": lambda X: X[::-1].copy()[::-1],
    "columns_backwards": lambda X: X[:, ::-1].copy()[:, ::-1],
    "transposed_view": lambda X: X.T.copy().T,
    "read_only": read_only,
    "unaligned": mapped_file,
    "big_endian": lambda X: X.astype(X.dtype.newbyteorder(">")),
    "three_axes_cut": lambda X: np.stack([X, -X], axis=2)[:, :, 0],
}


@pytest.mark.parametrize("dtype", ["float64", "float32", "int16", "uint8"])
@pytest.mark.parametrize("layout", LAYOUTS)
def test_layout_changes_no_bit(rows, layout, dtype):
    X = rows[0][:9000] if dtype.startswith("float") else np.abs(rows[0][:9000] * 20)
    X = X.astype(dtype)
    y, weight = rows[1][:9000], rows[2][:9000]
    same = LAYOUTS[layout](X)
    assert np.array_equal(same, X)
    for products in ("float64", "float32"):
        models = [
            gm.AnalyticClassifier(gm.RandomFeatures(20), ridge=0.1, dtype=products).fit(some, y, sample_weight=weight)
            for some in (X, same)
        ]
        assert models[0].state_.to_bytes() == models[1].state_.to_bytes()
        assert everything(models[0], X[:500]) == everything(models[1], same[:500])


def test_layout_of_targets_changes_no_bit(rows):
    X = rows[0][:9000]
    Y = X[:, :3] * 2 + 1
    expected = gm.GramState(37, 3).add(X, Y, rows[2][:9000]).to_bytes()
    for change in LAYOUTS.values():
        weight = np.repeat(rows[2][:9000], 2)[::2]
        assert gm.GramState(37, 3).add(X, change(Y), weight).to_bytes() == expected


def test_runs_repeat_to_the_bit(rows):
    X, y, _ = rows
    models = [gm.AnalyticClassifier(gm.RandomFeatures(70), ridge=0.1).fit(X, y) for _ in range(3)]
    assert len({checks.file_bytes(model) for model in models}) == 1


def test_python_threads_share_a_model(rows):
    """Readers while another thread learns: every answer is that of some state between the first and the last."""
    X, y, _ = rows
    model = gm.AnalyticClassifier(gm.RandomFeatures(30), ridge=0.1).fit(X[:500], y[:500])
    reference = gm.AnalyticClassifier(gm.RandomFeatures(30), ridge=0.1).fit(X[:500], y[:500])
    allowed = {reference.decision_function(X[:50]).tobytes()}
    steps = [(X[k : k + 500], y[k : k + 500]) for k in range(500, 5500, 500)]
    for step in steps:
        allowed.add(reference.partial_fit(*step).decision_function(X[:50]).tobytes())
    seen, failures, done = set(), [], threading.Event()

    def read():
        try:
            while not done.is_set():
                seen.add(model.decision_function(X[:50]).tobytes())
        except BaseException as error:
            failures.append(error)

    readers = [threading.Thread(target=read) for _ in range(3)]
    for reader in readers:
        reader.start()
    for step in steps:
        model.partial_fit(*step)
    done.set()
    for reader in readers:
        reader.join(timeout=60)
    assert not failures
    assert seen <= allowed
    assert model.decision_function(X[:50]).tobytes() == reference.decision_function(X[:50]).tobytes()


# --- worker processes -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", [gm.AnalyticClassifier, gm.AnalyticRegressor])
def test_grid_search_in_workers(kind):
    selection = pytest.importorskip("sklearn.model_selection")
    rng = np.random.default_rng(0)
    X = rng.normal(size=(400, 8))
    y = (X[:, 0] + X[:, 1] ** 2 > 0.8).astype(int) + (X[:, 2] > 1)
    grid = {"ridge": [1e-3, 0.1, 10.0, 1e3], "feature_map__n_features": [20, 40]}
    model = kind(gm.RandomFeatures(20))
    found = [selection.GridSearchCV(model, grid, cv=3, n_jobs=n_jobs).fit(X, y) for n_jobs in (1, 2)]
    assert found[0].best_params_ == found[1].best_params_
    for key in ("mean_test_score", "std_test_score"):
        assert np.array_equal(found[0].cv_results_[key], found[1].cv_results_[key])
    assert len(set(found[0].cv_results_["mean_test_score"])) > 2
    assert np.array_equal(found[0].predict(X), found[1].predict(X))


def _child(queue, X, y):
    model = gm.AnalyticClassifier(gm.RandomFeatures(60), ridge=0.1, n_jobs=3).fit(X, y)
    queue.put(model.state_.to_bytes())


@pytest.mark.skipif("fork" not in multiprocessing.get_all_start_methods(), reason="this system has no fork")
@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
def test_after_a_fork(rows):
    """The pool of the parent is running; each child starts its own, and the parent's goes on."""
    X, y = rows[0][:9000], rows[1][:9000]
    expected = gm.AnalyticClassifier(gm.RandomFeatures(60), ridge=0.1, n_jobs=3).fit(X, y).state_.to_bytes()
    context = multiprocessing.get_context("fork")
    queue = context.Queue()
    children = [context.Process(target=_child, args=(queue, X, y)) for _ in range(3)]
    for child in children:
        child.start()
    again = gm.AnalyticClassifier(gm.RandomFeatures(60), ridge=0.1, n_jobs=3).fit(X, y).state_.to_bytes()
    answers = [queue.get(timeout=60) for _ in children]
    for child in children:
        child.join(timeout=60)
        assert child.exitcode == 0
    assert answers == [expected] * 3
    assert again == expected
