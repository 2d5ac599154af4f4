"""The mergeable triangle: against NumPy's QR, merging, rank, files and bad input."""

import pickle

import numpy as np
import pytest
import scipy.sparse
from reference_path import lstsq as reference

from gramian import FormatError, RFactor

EPS = np.finfo(float).eps


def data(n=700, d=11, k=2, seed=0):
    rng = np.random.default_rng(seed)
    return rng.normal(size=(n, d)), rng.normal(size=(n, k))


def test_is_the_triangle_of_numpy():
    X, Y = data()
    state = RFactor(11, 2).add(X, Y)
    scale = np.linalg.norm(X)
    # R is as stable as its condition number, here about 1.3; both factorisations are backward stable.
    np.testing.assert_allclose(state.R, reference.r_factor(X), atol=200 * EPS * scale)
    full = reference.r_factor(np.hstack([X, Y]))
    np.testing.assert_allclose(state.QtY, full[:11, 11:], atol=200 * EPS * scale)
    assert state.n_rows == 700
    assert (np.diag(state.R) >= 0).all()


@pytest.mark.parametrize("make", [np.float32, np.asfortranarray, scipy.sparse.csr_matrix, lambda X: X[::-1][::-1]])
def test_reads_every_kind_of_rows(make):
    X, Y = data()
    X = np.float32(X)
    np.testing.assert_allclose(RFactor(11, 2).add(make(X), Y).R, RFactor(11, 2).add(X, Y).R, rtol=0, atol=1e-12)


def test_blocks_and_merges_are_one_factorisation():
    X, Y = data(5000)
    whole = RFactor(11, 2).add(X, Y)
    streamed = RFactor(11, 2)
    for begin in range(0, 5000, 613):
        streamed.add(X[begin : begin + 613], Y[begin : begin + 613])
    rng = np.random.default_rng(1)
    parts = [RFactor(11, 2).add(X[i::40], Y[i::40]) for i in range(40)]
    while len(parts) > 1:
        i, j = sorted(rng.choice(len(parts), 2, replace=False))
        parts[i].merge(parts.pop(j))
    scale = np.linalg.norm(whole.R)
    for other in (streamed, parts[0]):
        assert other.n_rows == 5000
        np.testing.assert_allclose(other.R, whole.R, atol=1e-13 * scale)
        np.testing.assert_allclose(other.solve().x, whole.solve().x, atol=1e-13)


@pytest.mark.parametrize("condition", [1e2, 1e8, 1e12])
def test_as_accurate_as_qr_where_sums_are_not(condition):
    rng = np.random.default_rng(3)
    A, b = reference.problem(rng, 900, 30, condition, 1e-3)
    state = RFactor(30, 1)
    for begin in range(0, 900, 200):
        state.add(A[begin : begin + 200], b[begin : begin + 200])
    measure = reference.BackwardError(A)
    theirs = measure(b, np.linalg.lstsq(A, b, rcond=None)[0])
    solution = state.solve()
    assert solution.x.shape == (30,)
    assert measure(b, solution.x) <= 10 * theirs + EPS
    np.testing.assert_allclose(solution.residual_norm, np.linalg.norm(b - A @ solution.x), rtol=1e-9)
    if condition == 1e8:
        # What a squared condition number does: the same test fails for the normal equations.
        squared = np.linalg.solve(A.T @ A, A.T @ b)
        assert measure(b, squared) > 10 * theirs + EPS


def test_weights_are_repeated_rows():
    X, Y = data(60)
    weight = np.arange(60) % 3
    repeated = RFactor(11, 2).add(np.repeat(X, weight, axis=0), np.repeat(Y, weight, axis=0))
    weighted = RFactor(11, 2).add(X, Y, weight)
    np.testing.assert_allclose(weighted.R, repeated.R, atol=1e-12)
    assert weighted.n_rows == (weight > 0).sum()


def test_rank_deficient_is_least_norm():
    X, Y = data(300)
    X = np.hstack([X, X[:, :2] + X[:, 2:4], np.zeros((300, 1))])
    solution = RFactor(14, 2).add(X, Y).solve()
    assert solution.rank == 11
    np.testing.assert_allclose(solution.x, reference.min_norm(X, Y, 1e-10), atol=1e-12)
    np.testing.assert_allclose(solution.residual_norm, np.linalg.norm(Y - X @ solution.x, axis=0), rtol=1e-12)


def test_fewer_rows_than_features_is_least_norm():
    X, Y = data(7)
    solution = RFactor(11, 2).add(X, Y).solve()
    assert solution.rank == 7
    np.testing.assert_allclose(solution.x, np.linalg.pinv(X) @ Y, atol=1e-12)


def test_ridge():
    X, Y = data(40)
    X = np.hstack([X, X[:, :1]])  # a ridge makes any rank full
    solution = RFactor(12, 2).add(X, Y).solve(ridge=0.3)
    np.testing.assert_allclose(solution.x, np.linalg.solve(X.T @ X + 0.3 * np.eye(12), X.T @ Y), atol=1e-11)
    np.testing.assert_allclose(solution.residual_norm, np.linalg.norm(Y - X @ solution.x, axis=0), rtol=1e-12)


def test_condition_is_about_right():
    rng = np.random.default_rng(4)
    for condition in (1.0, 1e3, 1e9, 1e15):
        A, _ = reference.design(rng, 200, 20, condition)
        found = RFactor(20).add(A).solve(rtol=0.0).condition
        assert condition / 10 <= found <= 10 * max(condition, np.sqrt(20))


def test_bits_do_not_depend_on_threads():
    X, Y = data(60000)
    one = RFactor(11, 2, n_jobs=1).add(X, Y)
    many = RFactor(11, 2, n_jobs=4).add(X, Y)
    assert (one.R == many.R).all() and (one.solve().x == many.solve().x).all()


def test_files_and_pickles(tmp_path):
    X, Y = data()
    state = RFactor(11, 2).add(X, Y)
    state.save(tmp_path / "r")
    for copy in (RFactor.load(tmp_path / "r"), pickle.loads(pickle.dumps(state))):
        assert (copy.R == state.R).all() and (copy.QtY == state.QtY).all() and copy.n_rows == state.n_rows
        assert (copy.add(X[:5], Y[:5]).R != state.R).any()
    (tmp_path / "bad").write_bytes((tmp_path / "r").read_bytes()[:-8])
    with pytest.raises(FormatError):
        RFactor.load(tmp_path / "bad")
    with pytest.raises(FileNotFoundError):
        RFactor.load(tmp_path / "missing")


@pytest.mark.parametrize("columns", [False, True])
def test_files_keep_the_dimensions_of_the_targets(tmp_path, columns):
    X, Y = data(k=1)
    state = RFactor(11, 1).add(X, Y if columns else Y[:, 0])
    wanted = (11, 1) if columns else (11,)
    state.save(tmp_path / "r")
    loaded, solved = RFactor.load(tmp_path / "r"), state.solve().x
    for copy in (state, loaded, pickle.loads(pickle.dumps(state)), pickle.loads(pickle.dumps(loaded))):
        found = copy.solve()
        assert found.x.shape == wanted and np.shape(found.residual_norm) == wanted[1:]
        assert (found.x == solved).all()
        # As in the state itself, columns once are columns for good.
        assert copy.add(X[:2], Y[:2, 0]).solve().x.shape == wanted
        assert RFactor(11, 1).merge(copy).solve().x.shape == wanted
        assert RFactor(11, 1).add(X, Y[:, 0]).merge(copy).solve().x.shape == wanted


def test_the_first_files_count_as_one_dimensional(tmp_path):
    X, Y = data(k=1)
    state = RFactor(11, 1).add(X, Y)
    state.save(tmp_path / "new")
    data_of_file = (tmp_path / "new").read_bytes()

    def rewritten(before, after):
        size = int.from_bytes(data_of_file[:8], "little")
        header = data_of_file[8 : 8 + size]
        assert header.count(before) == 1
        # Headers are padded with spaces, so that the values stay where they are.
        return data_of_file[:8] + header.replace(before, after).rstrip().ljust(size) + data_of_file[8 + size :]

    field = rb",\"target_dims\":2"
    (tmp_path / "old").write_bytes(rewritten(field, b""))
    old = RFactor.load(tmp_path / "old")
    assert old.solve().x.shape == (11,) and (old.R == state.R).all()
    for damaged in (rb",\"target_dims\":3", rb",\"target_dims\":0", rb",\"target_dims\":[]"):
        (tmp_path / "bad").write_bytes(rewritten(field, damaged))
        with pytest.raises(FormatError):
            RFactor.load(tmp_path / "bad")
    # What pickles of those versions call.
    from gramian import r_factor

    bytes_of_old = (tmp_path / "old").read_bytes()
    assert r_factor._unpickle(bytes_of_old, "cpu", None, True).solve().x.shape == (11,)
    assert r_factor._unpickle(bytes_of_old, "cpu", None, False).solve().x.shape == (11, 1)


def test_rows_beyond_the_range_of_squares():
    """A triangle of them would be one of other rows: refused, and the state is as before."""
    X, Y = data(300)
    for factor, message in ((1e306, "too large"), (1e200, "too large"), (1e-200, "too small"), (1e-310, "too small")):
        state = RFactor(11, 2)
        with pytest.raises(ValueError, match=message):
            state.add(X * factor, Y)
        assert state.n_rows == 0 and not state.R.any()
    signs = np.where(X > 0, 1.5e308, -1.5e308)
    with pytest.raises(ValueError, match="too large"):
        RFactor(11).add(signs)
    state = RFactor(11, 2).add(X, Y)
    before = state.R
    for wrong in (X * 1e200, signs):
        with pytest.raises(ValueError, match="too large"):
            state.add(wrong, Y)
    assert (state.R == before).all() and state.n_rows == 300
    # What is small beside other rows, and zeros, are fine; so is Y, which is not squared.
    state.add(X * 1e-200, Y).add(np.zeros((3, 11)), np.zeros((3, 2)))
    assert RFactor(11).add(np.zeros((20, 11))).n_rows == 20
    small = RFactor(11, 2).add(X, Y * 1e-200).solve().x
    np.testing.assert_allclose(small * 1e200, RFactor(11, 2).add(X, Y).solve().x, rtol=1e-12)
    for sizes in ((10**30,), (2**40,), (3, 2**40)):
        with pytest.raises(ValueError, match=r"2\^(63|30)"):
            RFactor(*sizes)


def test_bad_input_leaves_the_state():
    X, Y = data(9000)
    state = RFactor(11, 2).add(X, Y)
    before = state.R
    bad = X.copy()
    bad[8000, 3] = np.inf
    bad[5123, 0] = np.nan
    with pytest.raises(ValueError, match="X contains NaN or infinity, first in row 5123"):
        state.add(bad, Y)
    with pytest.raises(ValueError, match="row 17"):
        broken = Y.copy()
        broken[17] = np.nan
        state.add(X, broken)
    with pytest.raises(ValueError, match="10 features"):
        state.add(X[:, :10], Y)
    with pytest.raises(ValueError, match="inconsistent numbers of samples"):
        state.add(X, Y[:-1])
    with pytest.raises(ValueError, match="1 columns"):
        state.add(X, Y[:, :1])
    with pytest.raises(ValueError, match="Y is None"):
        state.add(X)
    with pytest.raises(ValueError, match="Negative values"):
        state.add(X, Y, -np.ones(9000))
    with pytest.raises(ValueError, match="cannot be merged"):
        state.merge(RFactor(11, 1))
    with pytest.raises(TypeError, match="RFactor"):
        state.merge(3)
    with pytest.raises(ValueError, match="rtol"):
        state.solve(rtol=1.5)
    with pytest.raises(ValueError, match="ridge"):
        state.solve(ridge=-1)
    with pytest.raises(ValueError, match="no rows"):
        RFactor(3).solve()
    assert (state.R == before).all() and state.n_rows == 9000


@pytest.mark.parametrize("scale", [1e-130, 1e-160, 1e-200, 1e-300])
def test_residuals_of_targets_that_vanish_when_squared(scale):
    rng = np.random.default_rng(0)
    X, Y = rng.normal(size=(60, 4)), rng.normal(size=(60, 3))
    sizes = np.array([1.0, scale, 0.0])
    base = RFactor(4, 3).add(X, Y).solve()
    whole = RFactor(4, 3).add(X, Y * sizes)
    halves = RFactor(4, 3).add(X[:30], Y[:30] * sizes).merge(RFactor(4, 3).add(X[30:], Y[30:] * sizes))
    for found in (whole.solve(), halves.solve(), pickle.loads(pickle.dumps(halves)).solve()):
        np.testing.assert_allclose(found.x[:, 1] / scale, base.x[:, 1], rtol=1e-10)
        np.testing.assert_allclose(found.residual_norm[1] / scale, base.residual_norm[1], rtol=1e-12)
        np.testing.assert_allclose(found.residual_norm[[0, 2]], [base.residual_norm[0], 0], rtol=1e-12)
    # At right angles to X nothing but the residual is left.
    one = RFactor(1, 1).add([[1.0], [0.0]], [0.0, scale]).solve()
    assert one.x[0] == 0 and one.residual_norm == scale


@pytest.mark.parametrize("ridge", [1e4, 1e8, 1e16, 1e20, 1e100, 1e300, 1.7e308])
def test_large_ridges_keep_all_digits(ridge):
    rng = np.random.default_rng(0)
    X, Y = rng.normal(size=(60, 4)), rng.normal(size=(60, 2))
    found = RFactor(4, 2).add(X, Y).solve(ridge=ridge)
    exact = np.linalg.solve(X.T @ X / ridge + np.eye(4), X.T @ Y)
    np.testing.assert_allclose(found.x * ridge, exact, rtol=1e-13)
    np.testing.assert_allclose(found.residual_norm, np.linalg.norm(Y - X @ (exact / ridge), axis=0), rtol=1e-13)
    assert found.rank == 4 and 1 <= found.condition < 2
    assert found == found and hash(found) == hash(found)
