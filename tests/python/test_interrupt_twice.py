"""Ctrl-C, and Ctrl-C again: the model can go on learning, and a call is in the model whole or not at all.

A test that sends signals runs in a process of its own.
"""

import pathlib
import sys
import threading

import child
import latency
import numpy as np
import pytest

import gramian as gm
from gramian.base import Estimator

signals = pytest.mark.skipif(sys.platform == "win32", reason="this system has no SIGINT of this kind")

PRELUDE = """
import json, os, signal, threading, time
import numpy as np, gramian as gm
import latency

rng = np.random.default_rng(0)

def report(**values):
    print(json.dumps(values))
"""


def run(script):
    return child.run(PRELUDE, script)


def estimators():
    public = [getattr(gm, name) for name in gm.__all__]
    found = {value for value in public if isinstance(value, type) and issubclass(value, Estimator)}
    return sorted(found, key=lambda kind: kind.__name__)


OURS = (str(pathlib.Path(gm.__file__).parent), __file__)


def raises_on_exit(body):
    """Runs ``body`` with a KeyboardInterrupt at the begin of the first ``__exit__`` that the package (or this file) has
    in Python, which is where one comes that was sent while an error was on its way. True where there was one."""
    hits = []

    def trace(frame, event, arg):
        code = frame.f_code
        if event == "call" and code.co_name == "__exit__" and code.co_filename.startswith(OURS) and not hits:
            hits.append(code)
            raise KeyboardInterrupt

    before = sys.gettrace()
    sys.settrace(trace)
    try:
        body()
    except KeyboardInterrupt:
        pass
    finally:
        sys.settrace(before)
    return bool(hits)


@pytest.mark.parametrize("kind", estimators())
def test_locks_are_those_of_the_interpreter(kind):
    lock = kind.__new__(kind)._lock()
    assert type(lock) in (type(threading.Lock()), type(threading.RLock()))


@pytest.mark.parametrize(
    "model",
    [
        gm.AnalyticClassifier(),
        gm.AnalyticRegressor(),
        gm.GaussianClassifier(),
        gm.AlignedClassifier(),
        gm.CodedClassifier(),
    ],
    ids=lambda model: type(model).__name__,
)
def test_a_signal_on_the_way_out_leaves_the_lock_free(model):
    X, y = np.random.default_rng(0).normal(size=(40, 3)), np.arange(40) % 3
    model.fit(X, y)
    bad = X.copy()
    bad[7, 1] = np.nan

    def refused():
        with pytest.raises(ValueError, match="NaN"):
            model.partial_fit(bad, y)

    assert not raises_on_exit(refused)
    assert not model._lock().locked()
    model.partial_fit(X, y)


class PythonLock:
    """A lock as it should not be."""

    def __init__(self):
        self.mutex = threading.Lock()

    def __enter__(self):
        self.mutex.acquire()

    def __exit__(self, *_):
        self.mutex.release()


def test_a_lock_in_python_is_seen():
    lock = PythonLock()

    def body():
        with lock:
            raise ValueError

    assert raises_on_exit(body)
    assert lock.mutex.locked()


@signals
def test_two_signals():
    values = run("""
        X, y = rng.normal(size=(60_000, 64)), rng.integers(0, 5, 60_000)
        model = gm.AnalyticClassifier(gm.RandomFeatures(1500)).partial_fit(X[:500], y[:500])
        before = model.to_bytes()
        held = interrupted = 0
        for trial in range(12):
            def send():
                os.kill(os.getpid(), signal.SIGINT)
                time.sleep(0.01 + 0.02 * (trial % 5))
                os.kill(os.getpid(), signal.SIGINT)
            sender = threading.Timer(0.15, send)
            try:
                try:
                    sender.start()
                    model.partial_fit(X, y)
                except KeyboardInterrupt:
                    interrupted += 1
                    time.sleep(0.5)
            except KeyboardInterrupt:
                pass
            while sender.is_alive():
                try:
                    sender.join()
                except KeyboardInterrupt:
                    pass
            held += model._lock().locked()
        same = model.to_bytes() == before
        model.partial_fit(X[:10], y[:10])
        report(held=held, interrupted=interrupted, same=same, seen=model.n_samples_seen_)
    """)
    assert values["held"] == 0 and values["interrupted"] >= 6
    assert values["same"] and values["seen"] == 510


def test_what_was_derived_follows_every_change():
    """Also where nothing of Python runs after it: the compiled model is changed behind the estimator's back."""
    X, y = np.random.default_rng(0).normal(size=(60, 3)), np.arange(60) % 3
    more = slice(0, 20)
    for model in (gm.GaussianClassifier(), gm.AlignedClassifier(), gm.AlignedClassifier(covariance="full")):
        model.fit(X, y)
        old = model.decision_function(X)
        held = model._learnt._derived
        assert held is not None and model.decision_function(X) is not old and model._learnt._derived is held
        model._learnt.model.partial_fit(X[more] + 1, "integer", [0, 1, 2], y[more], None, True)
        expected = type(model)(**model.get_params()).fit(X, y).partial_fit(X[more] + 1, y[more])
        assert np.array_equal(model.decision_function(X), expected.decision_function(X))
        assert not np.array_equal(model.decision_function(X), old)
        # A change that fails counts too: with atomic=False it leaves rows in.
        changes = model._learnt.model.changes
        with pytest.raises(ValueError, match="NaN"):
            model.partial_fit(np.full((3, 3), np.nan), [0, 1, 2])
        assert model._learnt.model.changes == changes + 1


@signals
@pytest.mark.parametrize("verb", ["partial_fit", "forget"])
@pytest.mark.parametrize("size", [(5000, 1000), (1500, 2500), (16_000, 600)])
def test_rows_of_an_interrupted_call_are_out(size, verb):
    """Calls of one block and of two: signals at 8 places of the work, of which at most one may hit the commit."""
    back = "forget" if verb == "partial_fit" else "partial_fit"
    values = run(f"""
        n, d = {size}
        X, y = rng.normal(size=(n, d)), rng.integers(0, 5, n)
        model = gm.AnalyticClassifier(ridge=1.0).partial_fit(X, y)
        model.partial_fit(X[:50], y[:50]).forget(X[:50], y[:50])
        began = time.perf_counter()
        model.partial_fit(X, y)
        takes = time.perf_counter() - began
        before = model.n_samples_seen_
        kept = changed = 0
        for share in np.linspace(0.05, 0.75, 8):
            bytes_before = model.to_bytes()
            timer = threading.Timer(takes * share, lambda: os.kill(os.getpid(), signal.SIGINT))
            done = False
            try:
                timer.start()
                model.{verb}(X, y)
                done = True
                timer.join()
                time.sleep(0.05)
            except KeyboardInterrupt:
                if not done:
                    kept += model.n_samples_seen_ == before
                    changed += model.n_samples_seen_ != before
            if model.n_samples_seen_ == before:
                assert model.to_bytes() == bytes_before
            else:
                assert abs(model.n_samples_seen_ - before) == n
                model.{back}(X, y)
        report(kept=int(kept), changed=int(changed), takes=takes)
    """)
    assert values["kept"] >= 4 and values["changed"] <= 1, values


@signals
def test_many_outputs_are_left_soon():
    """8192 x 1000 features times 4000 targets: 7e10 flops, of which the squares of the features are 8e9."""
    values = run("""
        n, d, k = 8192, 1000, 4000
        X, Y = rng.normal(size=(n, d)), np.zeros((n, k))
        Y[:, 0], Y[:, 1] = 1, rng.normal(size=n)
        model = gm.AnalyticRegressor().partial_fit(X[:10], Y[:10])
        waits = [latency.attempts(lambda: model.partial_fit(X, Y), after) for after in (0.4, 0.8, 1.2)]
        report(waits=waits, seen=model.n_samples_seen_)
    """)
    assert all(map(latency.are_soon, values["waits"])), values
    assert values["seen"] == 10


@signals
@pytest.mark.parametrize("kind", ["indicator", "text"])
def test_millions_of_labels_are_left_soon(kind):
    values = run(f"""
        n, kind = 3_000_000, {kind!r}
        X = np.ones((n, 2), np.float32)
        if kind == "text":
            y = rng.integers(0, 100, n).astype("U8")
        else:
            y = (rng.random((n, 20)) < 0.1).astype(int)
        model = gm.AnalyticClassifier().partial_fit(X[:100], y[:100])
        waits = [latency.attempts(lambda: getattr(model, verb)(X, y), 0.1) for verb in ("partial_fit", "forget")]
        report(waits=waits, seen=model.n_samples_seen_)
    """)
    assert all(map(latency.are_soon, values["waits"])), values
    assert values["seen"] == 100


@signals
def test_declared_classes_come_with_the_rows():
    """Ctrl-C right after the rows went in: what the call declared is in with them."""
    X, y = np.random.default_rng(0).normal(size=(40, 3)), np.arange(40) % 2
    model = gm.AnalyticClassifier().partial_fit(X, y)

    class Interrupted:
        def __init__(self, model, before):
            self.model, self.before = model, before

        def __getattr__(self, name):
            return getattr(self.model, name)

        def partial_fit(self, *args, **kwargs):
            if not self.before:
                self.model.partial_fit(*args, **kwargs)
            raise KeyboardInterrupt

    learnt = model._learnt
    compiled = learnt.model
    for before in (True, False):
        learnt.model = Interrupted(compiled, before)
        with pytest.raises(KeyboardInterrupt):
            model.partial_fit(X, y, classes=[0, 1, 2])
        learnt.model = compiled
        assert model.n_samples_seen_ == (40 if before else 80)
        assert (learnt.form.declared is None) == before
    with pytest.raises(ValueError, match="not in classes"):
        model.partial_fit(X, y + 2)
