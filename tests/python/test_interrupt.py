"""Ctrl-C: it returns soon, and the model is the old one, whole.

Each case runs in a process of its own, which sends itself SIGINT from another thread while the call is at work.
"""

import sys

import child
import latency
import pytest

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="this system has no SIGINT of this kind")

PRELUDE = """
import json, warnings
import numpy as np, gramian as gm
import sklearn.exceptions
import latency

rng = np.random.default_rng(0)
N, P, D = 120_000, 32, 2048
X, y = rng.normal(size=(N, P)), rng.integers(0, 10, N)
few = slice(0, 2000)
waits = []  # seconds of the attempts at each interruption

def interrupted(call, after=0.6, prepare=None):
    waits.append(latency.attempts(call, after, prepare))

def everything(model):
    return model.state_.to_bytes() + model.predict_proba(X[few]).tobytes() + repr(model.classes_).encode()

def new_model(**params):
    return gm.AnalyticClassifier(gm.RandomFeatures(D), ridge=0.1, **params)

def report(**values):
    print(json.dumps({"waits": waits, **values}))
"""


def run(script, soon=True):
    values = child.run(PRELUDE, script)
    assert values["waits"]
    assert not soon or all(map(latency.are_soon, values["waits"])), values["waits"]
    return values


@pytest.mark.parametrize("n_jobs", [1, 2])
def test_fit_keeps_the_old_model(n_jobs):
    values = run(f"""
        model = new_model(n_jobs={n_jobs}).fit(X[few], y[few])
        before = everything(model)
        interrupted(lambda: model.fit(X, y + 5))
        same = everything(model) == before
        fresh = new_model()
        interrupted(lambda: fresh.fit(X, y))
        model.partial_fit(X[2000:2500], y[2000:2500])
        whole = new_model(n_jobs={n_jobs}).fit(X[few], y[few]).partial_fit(X[2000:2500], y[2000:2500])
        goes_on = everything(model) == everything(whole)
        report(same=same, fresh=hasattr(fresh, "classes_"), goes_on=goes_on)
    """)
    assert values["same"] and values["goes_on"] and not values["fresh"]


def test_partial_fit_takes_its_rows_back():
    values = run("""
        model = new_model().fit(X[few], y[few])
        before = everything(model)
        interrupted(lambda: model.partial_fit(X, np.where(y == 3, 77, y)))
        report(same=everything(model) == before)
    """)
    assert values["same"]


def test_forget_leaves_its_rows_in():
    values = run("""
        model = new_model(dtype="float32").partial_fit(X[:30_000], y[:30_000])
        before = everything(model)
        interrupted(lambda: model.forget(X[:29_000], y[:29_000]), after=0.3)
        report(same=everything(model) == before)
    """)
    assert values["same"]


def test_in_place_the_rows_before_stay():
    values = run("""
        def prepare():
            global model
            model = new_model().fit(X[few], y[few])

        interrupted(lambda: model.partial_fit(X[2000:], y[2000:], atomic=False), prepare=prepare)
        seen = model.n_samples_seen_
        same = new_model().fit(X[few], y[few]).partial_fit(X[2000:seen], y[2000:seen], atomic=False)
        report(seen=seen, same=everything(model) == everything(same))
    """)
    assert 2000 < values["seen"] < 120_000
    assert values["same"]


def test_a_first_call_in_place():
    values = run("""
        def prepare():
            global model
            model = new_model()

        interrupted(lambda: model.partial_fit(X, y, atomic=False), prepare=prepare)
        seen = model.n_samples_seen_
        same = new_model().partial_fit(X[:seen], y[:seen], atomic=False)
        report(seen=seen, same=everything(model) == everything(same))
    """)
    assert 0 < values["seen"] < 120_000
    assert values["same"]


def test_in_place_forgetting_leaves_the_rest():
    values = run("""
        def prepare():
            global model
            model = new_model(dtype="float32").partial_fit(X[:40_000], y[:40_000])

        interrupted(lambda: model.forget(X[:38_000], y[:38_000], atomic=False), after=0.3, prepare=prepare)
        seen = model.n_samples_seen_
        left = slice(40_000 - seen, 40_000)
        fresh = new_model(dtype="float32").partial_fit(X[left], y[left])
        counts = np.array_equal(model.class_count_, fresh.class_count_)
        error = np.abs(model.decision_function(X[few]) - fresh.decision_function(X[few])).max()
        report(seen=seen, counts=counts, error=float(error), bound=model.report_.removal_bound)
    """)
    assert 2000 < values["seen"] < 40_000
    assert values["counts"]
    assert values["bound"] > 0
    assert values["error"] < 1e-3


def test_the_other_learners():
    values = run("""
        big = np.random.default_rng(1).normal(size=(40_000, 1500))
        state = gm.GramState(1500, 2).add(big[:100], big[:100, :2])
        before = state.to_bytes()
        interrupted(lambda: state.add(big, big[:, :2]), after=0.4)
        same = state.to_bytes() == before
        model = gm.AnalyticRegressor(gm.RandomFeatures(D)).fit(X[few], y[few])
        old = model.state_.to_bytes()
        interrupted(lambda: model.partial_fit(X, y))
        report(same=same and model.state_.to_bytes() == old)
    """)
    assert values["same"]


def test_sparse_rows_too():
    """CSR rows, through a map and without one: taken back, the old model kept, and in place."""
    values = run("""
        import scipy.sparse

        def sparse(n, d, per_row):
            indices = np.sort(rng.integers(0, d // per_row, (n, per_row)) + np.arange(per_row) * (d // per_row), axis=1)
            data = rng.normal(size=n * per_row)
            return scipy.sparse.csr_matrix((data, indices.ravel(), np.arange(0, n * per_row + 1, per_row)), (n, d))

        S, first = sparse(40_000, 2000, 20), slice(0, 300)
        model = new_model().fit(S[first], y[first])
        before = model.state_.to_bytes()
        interrupted(lambda: model.partial_fit(S, y[:40_000]), after=0.25)
        interrupted(lambda: model.fit(S, y[:40_000]), after=0.25)
        same = model.state_.to_bytes() == before

        def prepare():
            global model
            model = new_model().fit(S[first], y[first])

        interrupted(lambda: model.partial_fit(S[300:], y[300:40_000], atomic=False), after=0.25, prepare=prepare)
        seen = model.n_samples_seen_
        begun = new_model().fit(S[first], y[first]).partial_fit(S[300:seen], y[300:seen], atomic=False)
        in_place = model.state_.to_bytes() == begun.state_.to_bytes()

        wide = sparse(50_000, 1500, 100)  # no map: the sums of sparse rows themselves
        state = gm.GramState(1500, 2).add(wide[:100], X[:100, :2])
        old = state.to_bytes()
        targets = X[:50_000, :2]
        interrupted(lambda: state.add(wide, targets), after=0.2)
        report(same=same and state.to_bytes() == old, in_place=in_place, seen=seen)
    """)
    assert values["same"] and values["in_place"]
    assert 300 < values["seen"] < 40_000


def test_the_regressor_in_place():
    values = run("""
        Y, first = rng.normal(size=(N, 3)), slice(0, 300)

        def new_regressor():
            return gm.AnalyticRegressor(gm.RandomFeatures(D), ridge=0.1)

        def prepare():
            global model
            model = new_regressor().fit(X[first], Y[first])

        interrupted(lambda: model.partial_fit(X[300:], Y[300:], atomic=False), after=0.25, prepare=prepare)
        seen = model.n_samples_seen_
        begun = new_regressor().fit(X[first], Y[first]).partial_fit(X[300:seen], Y[300:seen], atomic=False)
        same = model.state_.to_bytes() == begun.state_.to_bytes()

        # 32 times 1000 rows, by merging: forgetting most of them is 1e11 flops, learning them one thirty-second.
        rows, targets = np.tile(X[:1000], (32, 1)), np.tile(Y[:1000], (32, 1))

        def many():
            global model
            model = new_regressor().fit(X[:1000], Y[:1000])
            for _ in range(5):
                model.merge(model)

        interrupted(lambda: model.forget(rows[:31_000], targets[:31_000], atomic=False), after=0.25, prepare=many)
        left = model.n_samples_seen_
        gone = np.bincount(np.arange(32_000 - left) % 1000, minlength=1000)
        rest = new_regressor().fit(X[:1000], Y[:1000], sample_weight=32.0 - gone)
        error = float(np.abs(model.predict(X[few]) - rest.predict(X[few])).max())
        report(seen=seen, same=same, left=left, error=error, bound=model.report_.removal_bound)
    """)
    assert 300 < values["seen"] < 120_000
    assert values["same"]
    assert 1000 < values["left"] < 32_000
    # The predictions are of order one, so relative and absolute are the same here.
    assert 0 < values["bound"] and values["error"] <= max(1e-9, values["bound"])


def test_conversions_can_be_stopped():
    """Against the same work in one call of NumPy on the same machine, of which three quarters would be waited for."""
    values = run("""
        import time

        n, alone = 400_000, []
        y, weight = np.arange(n) % 2, np.ones(n)
        weight[0] = 0

        def seconds(call):
            began = time.perf_counter()
            call()
            return time.perf_counter() - began

        def attempt(X, weight=None, **params):
            alone.append(min(seconds(lambda: X.astype(np.float64)) for _ in range(3)))
            model = gm.AnalyticRegressor(**params)
            interrupted(lambda: model.fit(X, y, sample_weight=weight), after=alone[-1] / 4)

        attempt(np.ones((n, 100), np.uint32))
        attempt(np.ones((n, 100), ">f8"))
        attempt(np.ones((n, 100), np.int32), dtype="float32")
        attempt(np.ones((n, 100)), weight, ridge="holdout")
        report(alone=alone)
    """)
    # The shortest wait: other work on the machine only makes waits longer, and without the blocks all are as long.
    for waits, alone in zip(values["waits"], values["alone"], strict=True):
        assert min(waits) < alone / 2, (waits, alone)


def test_predicting_can_be_stopped():
    values = run("""
        model = new_model(dtype="float32").fit(X[few], y[few])
        expected = model.predict(X[few])
        rows = np.broadcast_to(X[:1], (4_000_000, P))
        interrupted(lambda: model.predict(rows))
        report(same=bool((model.predict(X[few]) == expected).all()))
    """)
    assert values["same"]


def test_drawing_of_weights_can_be_stopped():
    values = run("""
        wide = rng.normal(size=(10, 8000))
        interrupted(lambda: gm.RandomFeatures(20_000).fit_transform(wide))
        report()
    """)
    assert values["waits"]


def test_a_handler_of_the_program_decides():
    """A signal handler that raises something else: that is what comes out, and the model is whole."""
    values = run("""
        class Stop(Exception):
            pass

        def handler(number, frame):
            raise Stop("enough")

        signal.signal(signal.SIGINT, handler)
        model = new_model().fit(X[few], y[few])
        before = everything(model)
        text = None
        def call():
            global text
            try:
                model.partial_fit(X, y)
            except Stop as error:
                text = str(error)
                raise KeyboardInterrupt
        interrupted(call)
        report(text=text, same=everything(model) == before)
    """)
    assert values["text"] == "enough"
    assert values["same"]


DEFICIENT = """
rows = rng.normal(size=(2500, 2000))
rows[:, 1] = rows[:, 0]
targets = rows[:, :3] + 1.0
warnings.simplefilter("ignore", sklearn.exceptions.ConvergenceWarning)
"""


def test_a_solve_that_cholesky_gave_up():
    """A rank below the width, and a ridge that rounding hides: the eigenvectors of 2,000 features, in one call."""
    values = run(
        DEFICIENT
        + """
state = gm.GramState(2000, 3).add(rows, targets)
before = state.to_bytes()
for after in (0.5, 0.8):
    interrupted(lambda: state.solve(1e-14), after=after)
same = state.to_bytes() == before

def prepare():
    global model
    model = gm.AnalyticRegressor(ridge=1e-14).fit(rows, targets)

interrupted(lambda: model.predict(rows[:5]), after=0.5, prepare=prepare)
interrupted(lambda: gm.AnalyticRegressor(ridge=1e-14).fit(rows, targets).predict(rows[:5]), after=0.9)
error = float(np.abs(model.predict(rows[:5]) - targets[:5]).max())
report(same=same, method=model.report_.method, rank=model.report_.rank, error=error)
"""
    )
    assert values["same"]
    assert values["method"] == "eigh" and values["rank"] == 1999
    assert values["error"] < 1e-6


def test_a_spectrum_for_many_ridges():
    """60 ridges share one eigen-decomposition; afterwards the same call gives the bits of one that nobody stopped."""
    values = run(
        DEFICIENT
        + """
state = gm.GramState(2000, 3).add(rows, targets)
ridges = np.geomspace(1e-2, 1e4, 60)
whole = state.gcv(ridges).scores.tobytes()
interrupted(lambda: state.gcv(ridges), after=0.4)
interrupted(lambda: state.path(ridges), after=0.4)
report(same=state.gcv(ridges).scores.tobytes() == whole)
"""
    )
    assert values["same"]


@pytest.mark.parametrize("n_jobs", [1, 2])
def test_orthogonal_factors(n_jobs):
    """Tall QR factorisations, and a singular value decomposition of 2,000 columns."""
    run(f"""
        tall = rng.normal(size=(9000, 2000))
        interrupted(lambda: gm.lstsq(tall, tall[:, :2], method="qr", n_jobs={n_jobs}), after=0.6)
        interrupted(lambda: gm.RFactor(2000, n_jobs={n_jobs}).add(tall), after=0.6)
        interrupted(lambda: gm.sketch.leverage_scores(tall, "exact", n_jobs={n_jobs}), after=0.8)
        tall[:, 1] = tall[:, 0]
        factor = gm.RFactor(2000, 1, n_jobs={n_jobs}).add(tall, tall[:, 0])
        interrupted(lambda: factor.solve(), after=0.5)
        report()
    """)


def test_wide_states_too():
    """8,192 features, where a block of rows is up to 7e10 flops. Five signals at different places of the work."""
    values = run("""
        model = gm.AnalyticClassifier(gm.RandomFeatures(8192), ridge=0.1, n_jobs=2).partial_fit(X[:300], y[:300])
        before = model.state_.to_bytes()
        for after in (0.6, 0.75, 0.9, 1.05, 1.2):
            interrupted(lambda: model.partial_fit(X, y), after=after)
        report(same=model.state_.to_bytes() == before)
    """)
    assert values["same"]
    assert len(values["waits"]) == 5


def test_forgetting_from_wide_states_too():
    """8,192 features: taking 3,000 rows out is 2e11 flops, and the sums are 268 MB."""
    values = run("""
        model = gm.AnalyticClassifier(gm.RandomFeatures(8192), ridge=0.1, dtype="float32")
        model.partial_fit(X[:200], y[:200])
        for _ in range(4):
            model.merge(model)
        rows, labels = np.tile(X[:200], (15, 1)), np.tile(y[:200], 15)
        before = model.state_.to_bytes()
        interrupted(lambda: model.forget(rows, labels), after=0.25)
        report(same=model.state_.to_bytes() == before, seen=model.n_samples_seen_)
    """)
    assert values["same"] and values["seen"] == 3200


def test_the_bar_can_be_missed():
    """Compiled work of two seconds that never asks for signals: each attempt sees it, and none is excused."""
    values = run(
        """
        import hashlib, time

        def work(iterations):
            began = time.process_time()
            hashlib.pbkdf2_hmac("sha256", b"word", b"salt", iterations)
            return time.process_time() - began

        iterations = int(2e5 / min(work(100_000) for _ in range(5)))
        interrupted(lambda: work(iterations), after=0.2)
        report()
    """,
        soon=False,
    )
    assert len(values["waits"][0]) == latency.ATTEMPTS
    assert min(values["waits"][0]) > 1.2 * latency.BAR
    assert not latency.are_soon(values["waits"][0])


def test_what_counts_as_soon():
    bar, once = latency.BAR, latency.ONCE
    assert latency.are_soon([0.1, bar]) and latency.are_soon([0.1, once, bar])
    assert not latency.are_soon([0.1, 1.01 * bar, 1.01 * bar])
    assert not latency.are_soon([0.1, 0.1, 1.01 * once])
