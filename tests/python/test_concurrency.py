"""Threads of one program that begin, replace, copy and read a model at the same time lose nothing."""

import copy
import pickle
import threading

import numpy as np
import pytest

import gramian
from gramian import (
    AlignedClassifier,
    AnalyticClassifier,
    AnalyticRegressor,
    BroadLearner,
    CodedClassifier,
    DualStreamClassifier,
    GaussianClassifier,
    RandomFeatures,
    ReplayClassifier,
    SingularKernelClassifier,
    TranslatedClassifier,
    TruncatedRidgeClassifier,
)

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


LEARNERS = {
    "AnalyticClassifier": lambda: AnalyticClassifier(RandomFeatures(60)),
    "AnalyticRegressor": lambda: AnalyticRegressor(RandomFeatures(60)),
    "DualStreamClassifier": lambda: DualStreamClassifier(60),
    "TruncatedRidgeClassifier": lambda: TruncatedRidgeClassifier(RandomFeatures(60), rank=20),
    "BroadLearner": lambda: BroadLearner(20, 30),
    "GaussianClassifier": lambda: GaussianClassifier(RandomFeatures(60)),
    "AlignedClassifier": lambda: AlignedClassifier(RandomFeatures(60)),
    "AlignedClassifier, full": lambda: AlignedClassifier(RandomFeatures(60), covariance="full"),
    "ReplayClassifier": lambda: ReplayClassifier(RandomFeatures(60)),
    "TranslatedClassifier": lambda: TranslatedClassifier(RandomFeatures(60)),
    "SingularKernelClassifier": lambda: SingularKernelClassifier(),
    "CodedClassifier": lambda: CodedClassifier("random", 64, RandomFeatures(60)),
}


def test_every_learner_of_streams_is_tried():
    with_batches = {name for name in gramian.__all__ if hasattr(getattr(gramian, name), "partial_fit")}
    assert with_batches - {"FrequentDirections"} == {type(make()).__name__ for make in LEARNERS.values()}


def test_batches_of_many_threads_lose_no_row_of_a_sketch(rng):
    X = rng.normal(size=(40, 4))
    for _ in range(10):
        sketch = gramian.FrequentDirections(8)
        sketch.partial_fit(X)
        together([lambda sketch=sketch: sketch.partial_fit(X) for _ in range(N_THREADS)])
        assert sketch.n_rows == 40 * (1 + N_THREADS)
        # Of rank 4 in 8 rows: nothing is shed.
        np.testing.assert_allclose(sketch.B.T @ sketch.B, (1 + N_THREADS) * X.T @ X, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("fitted", [False, True])
@pytest.mark.parametrize("learner", LEARNERS)
def test_batches_of_many_threads_lose_no_row(rng, learner, fitted):
    X, y = rng.normal(size=(40, 4)), np.arange(40) % 2
    for _ in range(10):
        model = LEARNERS[learner]()
        if fitted:
            model.partial_fit(X, y)
        # Each thread brings a class of its own, so that the classes change too.
        targets = [y if learner == "AnalyticRegressor" else y * (k + 1) for k in range(N_THREADS)]
        together([lambda t=t, model=model: model.partial_fit(X, t) for t in targets])
        assert model.n_samples_seen_ == 40 * (N_THREADS + fitted)
        if learner != "AnalyticRegressor":
            assert np.array_equal(model.classes_, np.arange(N_THREADS + 1))
            assert set(model.predict(X)) <= set(range(N_THREADS + 1))


@pytest.mark.parametrize("learner", LEARNERS)
def test_a_reader_meanwhile_leaves_nothing_old(rng, learner):
    X, y = rng.normal(size=(60, 4)), np.arange(60) % 3
    model, whole = LEARNERS[learner](), LEARNERS[learner]()
    model.partial_fit(X[:6], y[:6])
    stop = threading.Event()

    def read():
        while not stop.is_set():
            model.predict(X)

    def learn():
        try:
            for k in range(6, 60, 6):
                model.partial_fit(X[k : k + 6], y[k : k + 6])
        finally:
            stop.set()

    together([learn, read, read])
    for k in range(0, 60, 6):
        whole.partial_fit(X[k : k + 6], y[k : k + 6])
    np.testing.assert_allclose(model.predict(X), whole.predict(X), rtol=0, atol=1e-12)


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


@pytest.mark.parametrize("learner", LEARNERS)
@pytest.mark.parametrize("duplicate", [copy.copy, copy.deepcopy, lambda model: pickle.loads(pickle.dumps(model))])
def test_copies_of_every_learner_are_their_own(rng, duplicate, learner):
    X, y = rng.normal(size=(40, 4)), np.arange(40) % 2
    model = LEARNERS[learner]().partial_fit(X, y)
    found = duplicate(model).partial_fit(X, y)
    assert (model.n_samples_seen_, found.n_samples_seen_) == (40, 80)
    assert found._lock() is not model._lock()


@pytest.mark.parametrize("duplicate", [copy.copy, copy.deepcopy, lambda model: pickle.loads(pickle.dumps(model))])
def test_copies_have_locks_and_sums_of_their_own(rng, duplicate):
    X, y = rng.normal(size=(40, 4)), np.arange(40) % 2
    model = AnalyticClassifier().partial_fit(X, y)
    found = duplicate(model)
    with model._lock():
        found.partial_fit(X, y.astype(float)).forget(X, y)
    assert found.n_samples_seen_ == model.n_samples_seen_ == 40
    assert duplicate(AnalyticClassifier().set_params(ridge=2.0)).partial_fit(X, y).n_samples_seen_ == 40
