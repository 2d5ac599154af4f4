"""Where a solve had to leave directions out in spite of a ridge, it says so: once after each change of a model."""

import contextlib
import subprocess
import sys
import textwrap
import warnings

import numpy as np
import pytest
from sklearn.exceptions import ConvergenceWarning

import gramian as gm

RIDGE = 1e-14  # far below what rounding leaves of an eigenvalue of zero


def data(seed=0):
    """300 rows of 9 features, the first of them twice, and a target in their span."""
    rng = np.random.default_rng(seed)
    X = rng.normal(size=(300, 9))
    X = np.hstack([X, X[:, :1]])
    return X, X[:, :9] @ np.arange(1.0, 10.0)


def names_the_rank():
    return pytest.warns(ConvergenceWarning, match=r"ridge=1e-14: its rank is 9 of 10\. .*larger ridge")


@contextlib.contextmanager
def silent():
    """Inside of it no warning of any kind is allowed."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        yield


MODELS = {
    "regressor": lambda: (gm.AnalyticRegressor(ridge=RIDGE), lambda y: y),
    "classifier": lambda: (gm.AnalyticClassifier(ridge=RIDGE), lambda y: y > 0),
}


@pytest.mark.parametrize("kind", MODELS)
def test_once_after_each_change(kind):
    X, y = data()
    model, labels = MODELS[kind]()
    with silent():
        model.fit(X, labels(y))
    with names_the_rank() as caught:
        model.predict(X)
    assert len(caught) == 1
    assert caught[0].filename == __file__  # the line of the caller, not one of this package
    with silent():
        model.predict(X)
        assert model.report_.rank == 9
        model.partial_fit(X[:50], labels(y[:50]))
    with names_the_rank() as caught:
        assert model.report_.rank == 9
    assert len(caught) == 1 and caught[0].filename == __file__
    with silent():
        _ = model.coef_, model.intercept_, model.report_
        model.forget(X[:50], labels(y[:50]))
    with names_the_rank():
        _ = model.coef_


def test_as_an_error_it_leaves_a_model_that_works():
    X, y = data()
    model = gm.AnalyticRegressor(ridge=RIDGE).fit(X, y)
    with silent(), pytest.raises(ConvergenceWarning):
        model.predict(X)
    with silent():
        assert np.abs(model.predict(X) - y).max() <= 1e-6


def test_a_ridge_that_is_felt_is_no_reason():
    X, y = data()
    with silent():
        model = gm.AnalyticRegressor(ridge=1e-3).fit(X, y)
        assert model.report_.rank == 10
        gm.GramState(10, 1).add(X, y).solve(1e-3)
        gm.GramState(10, 1).add(X, y).path(np.geomspace(1e-3, 1, 60))
        gm.ridge_solve(X, y, 1e-3)
        gm.GramState(10, 1).solve(1e-3)  # no rows
    with silent(), pytest.raises(np.linalg.LinAlgError, match="rank is 9 of 10"):
        gm.AnalyticRegressor(ridge=0.0).fit(X, y).predict(X)


def test_a_hard_system_of_full_rank_is_no_reason():
    """An eigen-decomposition answered, and kept every direction."""
    rng = np.random.default_rng(1)
    x = rng.normal(size=(400, 1))
    X = np.hstack([x, x + 2e-7 * rng.normal(size=(400, 1))])
    with silent():
        report = gm.GramState(2, 1, fit_intercept=False).add(X, x).solve(1e-30).report
    assert report.method == "eigh" and report.rank == 2


def test_states_and_rows():
    X, y = data()
    state = gm.GramState(10, 1).add(X, y)
    for _ in range(2):  # there is a report in hand each time
        with names_the_rank() as caught:
            assert state.solve(RIDGE).report.rank == 9
        assert len(caught) == 1 and caught[0].filename == __file__
    for count in (3, 60):  # one Cholesky factor for each ridge, or a spectrum for all
        with pytest.warns(ConvergenceWarning, match="rank is 9 of 10 .*other ridges") as caught:
            state.path(np.concatenate([[RIDGE, 2 * RIDGE, 3 * RIDGE], np.geomspace(1e-2, 1, count - 2)]))
        assert len(caught) == 1 and caught[0].filename == __file__
    with names_the_rank():
        gm.ridge_solve(X, y, RIDGE, form="primal")
    # Of the products of 5 rows around their mean, four are independent.
    with pytest.warns(ConvergenceWarning, match="rank is 4 of 5"):
        gm.ridge_solve(X[:5], y[:5], RIDGE, form="dual")


def test_kernel_machines():
    rng = np.random.default_rng(2)
    X = rng.normal(size=(40, 3))
    X[1] = X[0]
    with pytest.warns(ConvergenceWarning, match="rank is 39 of 40") as caught:
        gm.DeepKernelRegressor(ridge=1e-18).fit(X, X[:, 0])
    assert len(caught) == 1 and caught[0].filename == __file__


def test_a_loaded_model_tells_it_again(tmp_path):
    X, y = data()
    model = gm.AnalyticRegressor(ridge=RIDGE).fit(X, y)
    with names_the_rank():
        model.predict(X)
    with silent():
        model.save(tmp_path / "full")
        model.save(tmp_path / "weights", what="weights")
    for what in ("full", "weights"):
        with names_the_rank():
            gm.load(tmp_path / what).predict(X)


def test_without_scikit_learn_it_is_a_user_warning():
    script = """
        import sys, warnings
        sys.modules["sklearn.exceptions"] = None
        import numpy as np, gramian as gm
        X = np.random.default_rng(0).normal(size=(100, 3))
        X[:, 1] = X[:, 0]
        model = gm.AnalyticRegressor(ridge=1e-14).fit(X, X[:, 0])
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            model.predict(X)
        assert [w.category for w in caught] == [UserWarning], caught
        assert "rank is 2 of 3" in str(caught[0].message)
    """
    out = subprocess.run([sys.executable, "-c", textwrap.dedent(script)], capture_output=True, text=True)
    assert out.returncode == 0, out.stderr
