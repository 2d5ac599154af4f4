"""Devices and threads as parameters: what is not there is an error that says so, never another device."""

import os
import signal
import subprocess
import sys
import threading

import device_checks
import latency
import numpy as np
import pytest

import gramian
from gramian import AnalyticClassifier, AnalyticRegressor, BackendError, GramState, RandomFeatures, _core
from gramian.base import thread_count


def test_missing_device_is_an_error(rng):
    if gramian.cuda_available():
        pytest.skip("a device answers")
    X = rng.normal(size=(10, 3))
    for call in (
        lambda: AnalyticRegressor(device="cuda").fit(X, X[:, 0]),
        lambda: GramState(3, device="cuda"),
        lambda: gramian.ridge_solve(X, X[:, 0], device="cuda"),
    ):
        with pytest.raises((NotImplementedError, BackendError)):
            call()


@pytest.mark.parametrize("device", ["cpu", pytest.param("cuda", marks=pytest.mark.gpu)])
@pytest.mark.parametrize("check", device_checks.CHECKS, ids=lambda check: check.__name__)
def test_on_a_device(check, device, rng, tmp_path):
    if device == "cpu" and check is device_checks.interrupt_ends_a_call:
        pytest.skip("TestInterrupt asks the CPU")
    check(device, rng, tmp_path)


def test_device_checks_need_numpy_alone():
    """`make test-gpu` runs them on machines that have nothing else."""
    code = (
        "import sys\n"
        "class Refuse:\n"
        "    def find_spec(self, name, path=None, target=None):\n"
        "        if name.partition('.')[0] in ('pytest', 'scipy', 'sklearn'): raise ModuleNotFoundError(name)\n"
        "sys.meta_path.insert(0, Refuse())\n"
        "import device_checks\n"
        "status = device_checks.main()\n"
        "assert not {'pytest', 'scipy', 'sklearn'} & set(sys.modules)\n"
        "sys.exit(status)"
    )
    folder = os.path.dirname(device_checks.__file__)
    run = subprocess.run([sys.executable, "-c", code], cwd=folder, capture_output=True, text=True)
    assert run.returncode == 0, run.stdout + run.stderr
    lines = run.stdout.splitlines()
    assert len(lines) == len(device_checks.CHECKS)
    if not gramian.cuda_available():
        assert all(line.endswith(": skipped: no device") for line in lines)


def test_negative_n_jobs_count_the_processors_of_this_process(monkeypatch):
    monkeypatch.setattr(_core, "available_processors", lambda: 5)
    assert [thread_count(n) for n in (-1, -2, -5, -6, -1000)] == [5, 4, 1, 1, 1]


@pytest.mark.parametrize("variables", [{}, {"GRAMIAN_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"}])
def test_all_processors_whatever_the_environment_says_of_threads(variables):
    environment = {name: value for name, value in os.environ.items() if not name.endswith("_NUM_THREADS")}
    code = (
        "from gramian import _core, base\n"
        "print(base.thread_count(-1), _core.available_processors(), _core.default_threads(), base.thread_count(None))"
    )
    call = [sys.executable, "-c", code]
    run = subprocess.run(call, env={**environment, **variables}, capture_output=True, text=True, check=True)
    every, available, default, unset = map(int, run.stdout.split())
    assert every == available == _core.available_processors() >= 1
    assert default == (1 if variables else available)
    assert unset == 0
    if hasattr(os, "sched_getaffinity"):
        assert available <= len(os.sched_getaffinity(0))


@pytest.mark.parametrize("n_jobs", [1, 2, 3, -1, -1000])
def test_threads_do_not_change_a_bit(rng, n_jobs):
    X, y = rng.normal(size=(3000, 20)), np.arange(3000) % 4
    expected = AnalyticClassifier(RandomFeatures(200), n_jobs=1).fit(X, y)
    found = AnalyticClassifier(RandomFeatures(200), n_jobs=n_jobs).fit(X, y)
    assert np.array_equal(found.coef_, expected.coef_)
    found.set_params(n_jobs=2)
    assert np.array_equal(found.decision_function(X), expected.decision_function(X))


def test_predicting_and_learning_threads_share_a_model(rng):
    X, y = rng.normal(size=(400, 10)), np.arange(400) % 3
    model = AnalyticClassifier(RandomFeatures(50)).fit(X, y)
    errors = []

    def predict():
        try:
            for _ in range(20):
                labels = model.predict(X)
                assert set(labels) <= set(range(9))
                assert model.predict_proba(X).shape[0] == 400
        except BaseException as error:  # noqa: BLE001  handed to the test
            errors.append(error)

    def learn(offset):
        try:
            for _ in range(5):
                model.partial_fit(X, y + offset)
                model.forget(X, y + offset)
        except BaseException as error:  # noqa: BLE001
            errors.append(error)

    threads = [threading.Thread(target=predict) for _ in range(3)]
    threads += [threading.Thread(target=learn, args=(offset,)) for offset in (3, 6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not errors
    assert np.array_equal(model.class_count_, np.bincount(y))


def test_merging_each_other_from_two_threads_ends(rng):
    X, y = rng.normal(size=(50, 4)), np.arange(50.0)
    one, two = AnalyticRegressor().fit(X, y), AnalyticRegressor().fit(X, y)
    threads = [
        threading.Thread(target=lambda a=a, b=b: [a.merge(b) for _ in range(5)]) for a, b in ((one, two), (two, one))
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=60)
    assert not any(thread.is_alive() for thread in threads)
    assert one.merge(one).n_samples_seen_ % 100 == 0


class TestInterrupt:
    """Ctrl-C ends a call soon, and the model is what it was."""

    @pytest.fixture
    def long_job(self, rng):
        X = rng.normal(size=(2000, 20)).astype(np.float32)
        rows = np.broadcast_to(X, (2000, 2000, 20)).reshape(-1, 20)[:2_000_000]
        return rows, np.arange(len(rows)) % 3

    @pytest.fixture(autouse=True)
    def handler(self):
        with latency.python_handles_sigint():
            yield

    @pytest.mark.parametrize("verb", ["fit", "partial_fit"])
    def test_model_is_kept(self, long_job, rng, verb):
        X, y = rng.normal(size=(100, 20)), np.arange(100) % 3
        model = AnalyticClassifier(RandomFeatures(1500)).fit(X, y)
        before = model.coef_
        assert latency.are_soon(latency.attempts(lambda: getattr(model, verb)(*long_job), after=1.0))
        assert model.n_samples_seen_ == 100
        assert np.array_equal(model.coef_, before)

    def test_in_place(self, long_job):
        rows, y = long_job
        models = []
        waits = latency.attempts(
            lambda: models[-1].partial_fit(rows, y, atomic=False),
            after=1.0,
            prepare=lambda: models.append(AnalyticClassifier(RandomFeatures(1500))),
        )
        assert latency.are_soon(waits)
        model = models[-1]
        seen = model.n_samples_seen_
        assert 0 < seen < len(rows)
        expected = AnalyticClassifier(RandomFeatures(1500)).fit(rows[:seen], y[:seen])
        np.testing.assert_allclose(model.decision_function(rows[:50]), expected.decision_function(rows[:50]), atol=1e-6)

    def test_other_handlers_speak_for_themselves(self, long_job):
        class Alarm(Exception):
            pass

        def ring(number, frame):
            raise Alarm

        old = signal.signal(signal.SIGALRM, ring)
        signal.setitimer(signal.ITIMER_REAL, 0.5)
        try:
            with pytest.raises(Alarm):
                AnalyticClassifier(RandomFeatures(1500)).fit(*long_job)
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0)
            signal.signal(signal.SIGALRM, old)
