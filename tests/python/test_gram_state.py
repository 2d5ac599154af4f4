"""GramState: whatever was added, removed, merged and grown, the answers are those of the rows that are in."""

import copy
import pickle

import numpy as np
import pytest
from oracle import one_hot, relative_error, ridge_weights

from gramian import GramState


@pytest.fixture
def data(rng):
    X = rng.normal(size=(300, 7)) * [1, 2, 3, 1, 1, 1, 1] + 5.0
    return X, rng.normal(size=(300, 3)) + X[:, :3]


def assert_solves(state, X, Y, weight=None, ridge=0.4, bound=1e-10, fit_intercept=True):
    coef, intercept = ridge_weights(X, Y, ridge, weight, fit_intercept)
    found = state.solve(ridge)
    assert relative_error(found.coef, coef) < bound
    assert np.linalg.norm(found.intercept - intercept) <= bound * (1 + np.linalg.norm(intercept))


@pytest.mark.parametrize("fit_intercept", [True, False])
def test_batches_of_any_size(data, fit_intercept):
    X, Y = data
    state = GramState(7, 3, fit_intercept=fit_intercept)
    for begin, end in ((0, 1), (1, 2), (2, 100), (100, 300)):
        state.add(X[begin:end], Y[begin:end])
    assert state.n_rows == 300
    assert_solves(state, X, Y, fit_intercept=fit_intercept)


def test_float32_products(data):
    X, Y = data
    state = GramState(7, 3, dtype="float32").add(X, Y)
    assert state.dtype == "float32"
    assert_solves(state, X, Y, bound=1e-4)
    state.remove(X[:50], Y[:50])
    assert state.solve(0.4).report.removal_bound > 0
    assert_solves(state, X[50:], Y[50:], bound=1e-4)


def test_weights(data, rng):
    X, Y = data
    weight = rng.random(300) * (rng.random(300) < 0.7)
    state = GramState(7, 3).add(X, Y, weight)
    assert state.n_rows == np.count_nonzero(weight)
    assert state.weight_sum == pytest.approx(weight.sum())
    assert_solves(state, X, Y, weight)


def test_weighted_rows_are_counted_whatever_comes_and_goes(data, rng):
    """Against a list of the weights that are in, through every operation and through files."""
    X, Y = data
    weight = rng.choice([0.0, 0.25, 1.0, 3.0], size=300)
    parts = [slice(k, k + 30) for k in range(0, 300, 30)]
    state, inside = GramState(7, 3), set()
    for _ in range(60):
        k = int(rng.integers(10))
        rows = (X[parts[k]], Y[parts[k]], weight[parts[k]])
        if rng.random() < 0.5:
            (state.remove if k in inside else state.add)(*rows)
        else:
            other = GramState(7, 3).add(*rows)
            (state.unmerge if k in inside else state.merge)(other)
        inside ^= {k}
        if rng.random() < 0.2:
            state = pickle.loads(pickle.dumps(state))
        held = [w for j in inside for w in weight[parts[j]]]
        assert state.weighted_rows == sum(w not in (0.0, 1.0) for w in held)
        assert state.n_rows == sum(w != 0.0 for w in held)
    # Weights that had not come in: nobody knows what is left, until nothing is.
    state = GramState(7, 3).add(X[:100], Y[:100])
    state.remove(X[:10], Y[:10], np.full(10, 0.5))
    assert state.weighted_rows is None
    assert state.add(X[:10], Y[:10], np.full(10, 0.5)).weighted_rows is None
    assert (state + GramState(7, 3).add(X, Y)).weighted_rows is None
    assert state.remove(X[:100], Y[:100]).weighted_rows == 0


def test_a_long_stream_counts_its_weighted_rows(rng):
    """Blocks, a staged addition and its failure."""
    X, weight = rng.normal(size=(20_000, 3)), rng.choice([1.0, 2.0], size=20_000)
    state = GramState(3).add(X, sample_weight=weight)
    assert state.weighted_rows == np.count_nonzero(weight != 1)
    state.add(X, sample_weight=weight)
    assert state.weighted_rows == 2 * np.count_nonzero(weight != 1)
    bad = X.copy()
    bad[-1] = np.nan
    with pytest.raises(ValueError, match="19999"):
        state.add(bad, sample_weight=weight)
    assert state.weighted_rows == 2 * np.count_nonzero(weight != 1)


def test_rows_of_weight_zero_leave_the_same_bits(data):
    X, Y = data
    state = GramState(7, 3).add(X[:200], Y[:200])
    before = state.to_bytes()
    state.add(X[200:], Y[200:], np.zeros(100))
    assert state.to_bytes() == before


def test_remove(data):
    X, Y = data
    state = GramState(7, 3).add(X, Y).remove(X[:120], Y[:120])
    assert_solves(state, X[120:], Y[120:])
    state.remove(X[120:], Y[120:])
    assert state.to_bytes() == GramState(7, 3).to_bytes()
    with pytest.raises(ValueError):
        state.remove(X[:1], Y[:1])


def test_merge_and_unmerge(data):
    X, Y = data
    parts = [GramState(7, 3).add(X[k::3], Y[k::3]) for k in range(3)]
    total = parts[0] + parts[1] + parts[2]
    assert parts[0].n_rows == 100
    assert_solves(total, X, Y)
    assert_solves(total.unmerge(parts[1]), np.vstack([X[0::3], X[2::3]]), np.vstack([Y[0::3], Y[2::3]]))
    doubled = parts[0].copy()
    doubled.merge(doubled)
    assert_solves(doubled, np.vstack([X[0::3]] * 2), np.vstack([Y[0::3]] * 2))
    with pytest.raises(ValueError):
        total.merge(GramState(8, 3))
    with pytest.raises(ValueError):
        total.merge(GramState(7, 3, fit_intercept=False))
    with pytest.raises(TypeError):
        total.merge(3)


def test_labels_and_growing(data, rng):
    X = data[0]
    y = np.sort(rng.integers(0, 4, size=300))
    first = y < 2
    state = GramState(7, 2).add_labels(X[first], y[first]).grow(2)
    assert state.n_outputs == 4
    state.add_labels(X[~first], y[~first])
    assert np.array_equal(state.counts, np.bincount(y))
    assert_solves(state, X, one_hot(y, range(4)))
    with pytest.raises(ValueError, match=r"codes must be in \[0, 4\)"):
        state.add_labels(X[:1], [4])
    with pytest.raises(ValueError, match="integers"):
        state.add_labels(X[:1], [1.0])
    state.remove_labels(X[y == 3], y[y == 3])
    assert np.array_equal(state.solve(0.1).coef[3], np.zeros(7))
    with pytest.raises(ValueError):
        state.remove_labels(X[:1], [3])


def test_moments(data):
    X, Y = data
    gram, cross = GramState(7, 3).add(X, Y).moments()
    np.testing.assert_allclose(gram, X.T @ X, rtol=1e-12)
    np.testing.assert_allclose(cross, Y.T @ X, rtol=1e-11, atol=1e-9)
    mean, variance = GramState(7).add(X).feature_moments()
    np.testing.assert_allclose(mean, X.mean(axis=0), rtol=1e-12)
    np.testing.assert_allclose(variance, X.var(axis=0), rtol=1e-10)


def test_no_outputs(data):
    X = data[0]
    state = GramState(7, fit_intercept=False).add(X).remove(X[:10])
    np.testing.assert_allclose(state.moments()[0], X[10:].T @ X[10:], rtol=1e-12)
    assert state.moments()[1].shape == (0, 7)
    with pytest.raises(ValueError, match="no outputs"):
        state.add(X, X)
    with pytest.raises(ValueError, match="Y is None"):
        GramState(7, 1).add(X)


def test_path_gcv_and_standardize(data):
    X, Y = data
    state = GramState(7, 3).add(X, Y)
    for ridge, solution in zip((0.01, 1.0, 100.0), state.path([0.01, 1.0, 100.0]), strict=True):
        assert relative_error(solution.coef, ridge_weights(X, Y, ridge)[0]) < 1e-10
        assert solution.report.ridge == ridge
    scale = X.std(axis=0)
    scaled = ridge_weights(X / scale, Y, 2.0)[0] / scale
    assert relative_error(state.solve(2.0, standardize=True).coef, scaled) < 1e-10
    grid = np.logspace(-3, 5, 17)
    curve = state.gcv(grid)
    Xc, Yc = X - X.mean(axis=0), Y - Y.mean(axis=0)
    for ridge, score, freedom in zip(curve.ridges, curve.scores, curve.degrees_of_freedom, strict=True):
        hat = Xc @ np.linalg.solve(Xc.T @ Xc + ridge * np.eye(7), Xc.T)
        residual = ((Yc - hat @ Yc) ** 2).sum()
        assert freedom == pytest.approx(1 + np.trace(hat))
        assert score == pytest.approx(residual * 300 / (300 - 1 - np.trace(hat)) ** 2)
    assert curve.ridge == grid[np.argmin(curve.scores)]
    assert not curve.at_edge or curve.best in (0, 16)


def test_ridge_zero(data):
    X, Y = data
    assert_solves(GramState(7, 3).add(X, Y), X, Y, ridge=0.0)
    with pytest.raises(np.linalg.LinAlgError, match="rank"):
        GramState(7, 3).add(X[:4], Y[:4]).solve(0.0)


def test_report(data):
    report = GramState(7, 3).add(*data).solve(0.4).report
    assert report.method == "cholesky"
    assert (report.ridge, report.size, report.rank) == (0.4, 7, 7)
    assert report.condition >= 1
    assert report.residual < 1e-12
    assert "cholesky" in str(report)
    with pytest.raises(AttributeError):
        report.ridge = 1.0


def test_a_failed_call_changes_nothing(data):
    X, Y = data
    state = GramState(7, 3).add(X, Y)
    before = state.to_bytes()
    bad = np.vstack([X] * 20)
    bad[-1, 0] = np.nan
    for call in (state.add, state.remove):
        with pytest.raises(ValueError):
            call(bad, np.vstack([Y] * 20))
        assert state.to_bytes() == before


@pytest.mark.parametrize("sparse", [False, True])
def test_no_rows_at_all_are_refused(data, sparse):
    X, Y = data
    state = GramState(X.shape[1], Y.shape[1]).add(X, Y)
    labelled = GramState(X.shape[1], 2).add_labels(X, np.arange(len(X)) % 2)
    rows = X[:0]
    if sparse:
        rows = pytest.importorskip("scipy.sparse", reason="SciPy is not installed").csr_matrix(rows)
    before = state.to_bytes(), labelled.to_bytes()
    message = r"Found array with 0 sample\(s\) \(shape=\(0, 7\)\) while a minimum of 1 is required by GramState"
    for call in (
        lambda: state.add(rows, Y[:0]),
        lambda: state.remove(rows, Y[:0]),
        lambda: state.add(rows, Y),
        lambda: labelled.add_labels(rows, np.empty(0, dtype=int)),
        lambda: labelled.remove_labels(rows, np.empty(0, dtype=int)),
        lambda: GramState(X.shape[1]).add(rows),
    ):
        with pytest.raises(ValueError, match=message):
            call()
    assert (state.to_bytes(), labelled.to_bytes()) == before


def test_threads_do_not_change_a_bit(rng):
    X, Y = rng.normal(size=(5000, 40)), rng.normal(size=(5000, 3))
    states = [GramState(40, 3, n_jobs=n).add(X, Y) for n in (1, 2, 3, -1)]
    assert len({state.to_bytes() for state in states}) == 1
    assert len({state.solve(0.1).coef.tobytes() for state in states}) == 1


def test_copies_and_files(data, tmp_path):
    X, Y = data
    state = GramState(7, 3).add(X, Y)
    state.save(tmp_path / "state.gramian")
    twins = [
        state.copy(),
        copy.copy(state),
        copy.deepcopy(state),
        pickle.loads(pickle.dumps(state)),
        GramState.from_bytes(state.to_bytes()),
        GramState.load(tmp_path / "state.gramian"),
    ]
    for twin in twins:
        assert twin.to_bytes() == state.to_bytes()
        assert_solves(twin.remove(X[:10], Y[:10]), X[10:], Y[10:])
    assert state.n_rows == 300
    assert repr(state) == "GramState(n_features=7, n_outputs=3, dtype='float64', n_rows=300)"
    assert state.nbytes < 100_000
