"""What a device must do through the Python module, with NumPy and nothing else.

    python tests/python/device_checks.py    every check on the CUDA device; "skipped: no device" where there is none

Under pytest the same checks run on the CPU too (test_devices.py), where they show that they ask for the right thing.
"""

import pathlib
import sys
import tempfile
import time

import latency
import numpy as np

import gramian
from gramian import AnalyticClassifier, AnalyticRegressor, GramState, RandomFeatures
from gramian._validate import CSRRows

CHECKS = []


def check(function):
    """``function(device, rng, folder)`` raises where the device does something else than the CPU."""
    CHECKS.append(function)
    return function


def raises(kind, call, *parts):
    """The message of the error that ``call`` must raise, with all the ``parts`` in it."""
    try:
        call()
    except kind as error:
        missing = [part for part in parts if part not in str(error)]
        assert not missing, f"{missing} not in: {error}"
        return
    raise AssertionError(f"no {kind.__name__}")


@check
def same_weights(device, rng, folder):
    X = rng.normal(size=(3000, 200))
    y = np.arange(3000) % 5
    host = AnalyticClassifier(RandomFeatures(300), ridge=0.5).fit(X, y)
    model = AnalyticClassifier(RandomFeatures(300), ridge=0.5, device=device)
    model.partial_fit(X[:1000], y[:1000]).partial_fit(X[1000:], y[1000:])
    np.testing.assert_allclose(model.coef_, host.coef_, rtol=1e-7, atol=1e-9)
    np.testing.assert_allclose(model.decision_function(X), host.decision_function(X), rtol=1e-7, atol=1e-9)
    model.forget(X[:500], y[:500])
    host.forget(X[:500], y[:500])
    np.testing.assert_allclose(model.coef_, host.coef_, rtol=1e-7, atol=1e-9)


@check
def float32_products(device, rng, folder):
    """The bars of float32 products: 1e-4 of the weights' norm, 999 of 1000 predictions."""
    X = rng.normal(size=(4000, 60)).astype(np.float32)
    y = np.argmax(X[:, :4] + 0.5 * rng.normal(size=(4000, 4)), axis=1)
    host = AnalyticClassifier(RandomFeatures(300)).fit(X, y)
    model = AnalyticClassifier(RandomFeatures(300), dtype="float32", device=device).fit(X, y)
    assert np.linalg.norm(model.coef_ - host.coef_) <= 1e-4 * np.linalg.norm(host.coef_)
    assert np.mean(model.predict(X) == host.predict(X)) >= 0.999


@check
def float32_rows(device, rng, folder):
    """Rows in float32 and products in float64: nothing is lost but the order of sums."""
    X = rng.normal(size=(2000, 40)).astype(np.float32)
    y = X[:, 0] - 2.0 * X[:, 1]
    host, model = AnalyticRegressor().fit(X, y), AnalyticRegressor(device=device).fit(X, y)
    np.testing.assert_allclose(model.coef_, host.coef_, rtol=1e-7, atol=1e-9)


@check
def uint8_rows(device, rng, folder):
    X = rng.integers(0, 256, size=(2000, 50), dtype=np.uint8)
    y = np.arange(2000) % 3
    host, model = AnalyticClassifier().fit(X, y), AnalyticClassifier(device=device).fit(X, y)
    np.testing.assert_allclose(model.coef_, host.coef_, rtol=1e-7, atol=1e-9)


@check
def sparse_rows(device, rng, folder):
    """CSR rows, as the estimators make them of what scipy.sparse holds; one row is empty, one column never stored."""
    dense = rng.normal(size=(700, 90)) * (rng.random(size=(700, 90)) < 0.1)
    dense[3], dense[:, 7] = 0.0, 0.0
    y = dense @ rng.normal(size=90)
    stored = dense != 0.0
    indptr = np.concatenate([[0], np.cumsum(stored.sum(axis=1))])
    for index_type in (np.int32, np.int64):
        indices = np.nonzero(stored)[1].astype(index_type)
        rows = CSRRows(dense[stored], indices, indptr.astype(index_type), dense.shape)
        state, host = GramState(90, 1, device=device), GramState(90, 1).add(dense, y)
        state._core.add(rows, y.reshape(-1, 1), None, None, True)
        found, expected = state.solve(0.1), host.solve(0.1)
        np.testing.assert_allclose(found.coef, expected.coef, rtol=1e-7, atol=1e-9)


@check
def bad_rows_are_named(device, rng, folder):
    X, y = rng.normal(size=(500, 20)), np.arange(500) % 3
    for bad in (np.nan, np.inf):
        model = AnalyticClassifier(RandomFeatures(50), device=device).fit(X, y)
        before = model.coef_.copy()
        worse = X.copy()
        worse[317, 4] = bad
        raises(ValueError, lambda model=model, worse=worse: model.partial_fit(worse, y), "row 317")
        assert model.n_samples_seen_ == 500
        assert np.array_equal(model.coef_, before)


@check
def interrupt_ends_a_call(device, rng, folder):
    """Ctrl-C returns within the bar and leaves the state as it was."""
    width = 4096
    row = rng.normal(size=(1, width)).astype(np.float32)
    state = GramState(width, device=device).add(np.broadcast_to(row, (2000, width)))
    began = time.perf_counter()
    state.add(np.broadcast_to(row, (20_000, width)))
    rate = 20_000 / (time.perf_counter() - began)
    before = state.to_bytes()
    # One row in memory stands for as many as keep the device busy for a while.
    rows = np.broadcast_to(row, (int(20 * rate) + 20_000, width))
    with latency.python_handles_sigint():
        assert latency.are_soon(latency.attempts(lambda: state.add(rows), after=1.0))
    assert state.to_bytes() == before


@check
def file_works_on_the_host(device, rng, folder):
    X = rng.normal(size=(100, 5))
    model = AnalyticRegressor(device=device).fit(X, X[:, 0])
    model.save(folder / "model.gramian")
    found = gramian.load(folder / "model.gramian")
    assert found.device == "cpu"
    np.testing.assert_allclose(found.predict(X), model.predict(X), rtol=1e-9, atol=1e-10)


@check
def second_order_engines(device, rng, folder):
    G, v = rng.normal(size=(90, 700)), rng.normal(size=(3, 700))
    for dtype in ("float64", "float32"):
        windows = [gramian.MFAC(40, ridge=1e-2, dtype=dtype, device=where) for where in ("cpu", device)]
        for window in windows:
            window.push(G[:50])
            for g in G[50:]:
                window.push(g)
            window.replace(7, G[0])
        host, found = windows
        np.testing.assert_allclose(found.ivp(v), host.ivp(v), rtol=0, atol=1e-8)
        np.testing.assert_allclose(found.diag(), host.diag(), rtol=0, atol=1e-8)
        np.testing.assert_allclose(found.inverse_block([3, 600]), host.inverse_block([3, 600]), rtol=0, atol=1e-8)
    inverses = [gramian.second_order.RunningInverse(300, keep_matrix=True, device=where) for where in ("cpu", device)]
    for inverse in inverses:
        inverse.update(G[:, :300]).update(G[0, :300], weight=-0.5)
    np.testing.assert_allclose(inverses[1].matrix(), inverses[0].matrix(), rtol=0, atol=1e-10)
    assert inverses[1].refine().residual() <= 1e-10


@check
def iterations(device, rng, folder):
    X, y = rng.normal(size=(600, 8)), np.arange(600) % 3
    A = X.T @ X + np.eye(8)
    host, found = (
        gramian.flexible_cg(A, X[0], precondition=lambda r: r / np.diag(A), device=where) for where in ("cpu", device)
    )
    np.testing.assert_allclose(found.x, host.x, rtol=0, atol=1e-7)
    host, found = (gramian.LogisticHead(device=where).fit(X, y) for where in ("cpu", device))
    np.testing.assert_allclose(found.coef_, host.coef_, rtol=0, atol=1e-7)
    b = np.exp(X @ rng.normal(size=8))
    host, found = (gramian.SoftmaxRegression(device=where).fit(X, b / b.sum()) for where in ("cpu", device))
    np.testing.assert_allclose(found.x_, host.x_, rtol=0, atol=1e-8)


def main():
    failures = 0
    for function in CHECKS:
        if not gramian.cuda_available():
            print(f"{function.__name__}: skipped: no device")
            continue
        try:
            with tempfile.TemporaryDirectory() as folder:
                function("cuda", np.random.default_rng(20240611), pathlib.Path(folder))
            print(f"{function.__name__}: passed")
        except Exception as error:  # noqa: BLE001  every check is run and told
            failures += 1
            print(f"{function.__name__}: FAILED: {type(error).__name__}: {error}")
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
