"""Threads of one program that begin, replace, copy and read a model at the same time lose nothing."""

import copy
import pickle
import threading

import numpy as np
import pytest

from gramian import AnalyticClassifier, AnalyticRegressor, RandomFeatures

N_THREADS = 8


def together(calls):
    """Runs calls in threads that start at once; the first error is raised."""
    barrier, errors = threading.Barrier(len(calls)), []

    def run(call):
        try:
            barrier.wait()
            call()
        except BaseException as error:  # noqa: BLE001  handed to the test
            errors.append(error)

    threads = [threading.Thread(target=run, args=(call,)) for call in calls]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if errors:
        raise errors[0]


@pytest.mark.parametrize("kind", [AnalyticClassifier, AnalyticRegressor])
@pytest.mark.parametrize("verb", ["partial_fit", "in place", "merge"])
def test_first_calls_lose_no_row(rng, kind, verb):
    X, y = rng.normal(size=(40, 4)), np.arange(40) % 2
    part = kind(RandomFeatures(60)).fit(X, y)
    for _ in range(10):
        model = kind(RandomFeatures(60))
        learn = {
            "partial_fit": lambda model=model: model.partial_fit(X, y),
            "in place": lambda model=model: model.partial_fit(X, y, atomic=False),
            "merge": lambda model=model: model.merge(part),
        }[verb]
        together([learn] * N_THREADS)
        assert model.n_samples_seen_ == 40 * N_THREADS


def test_a_fit_meanwhile_is_seen_whole(rng):
    narrow, wide = rng.normal(size=(30, 3)), rng.normal(size=(30, 6))
    texts, numbers = np.array(["a", "b"])[np.arange(30) % 2], np.arange(30) % 3
    model = AnalyticClassifier(RandomFeatures(20)).fit(narrow, texts)
    stop = threading.Event()

    def fit():
        for _ in range(40):
            model.fit(wide, numbers)
            model.fit(narrow, texts)
        stop.set()

    def predict():
        while not stop.is_set():
            try:
                found = model.predict(narrow)
            except ValueError as error:
                assert "X has 3 features, but AnalyticClassifier is expecting 6" in str(error)
            else:
                assert set(found) <= {"a", "b"}

    together([fit, predict, predict])


@pytest.mark.parametrize("duplicate", [copy.copy, copy.deepcopy, lambda model: pickle.loads(pickle.dumps(model))])
def test_copies_have_locks_and_sums_of_their_own(rng, duplicate):
    X, y = rng.normal(size=(40, 4)), np.arange(40) % 2
    model = AnalyticClassifier().partial_fit(X, y)
    found = duplicate(model)
    with model._lock():
        found.partial_fit(X, y.astype(float)).forget(X, y)
    assert found.n_samples_seen_ == model.n_samples_seen_ == 40
    assert duplicate(AnalyticClassifier().set_params(ridge=2.0)).partial_fit(X, y).n_samples_seen_ == 40
