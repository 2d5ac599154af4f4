"""gm.FrequentDirections: both inequalities of its guarantee, for streams, merges and files."""

import pickle

import numpy as np
import pytest
import scipy.sparse
from tests.reference import lowrank as reference

import gramian as gm


def gap(A, sketch):
    """Eigenvalues of A'A - B'B, ascending."""
    B = sketch.B if hasattr(sketch, "B") else sketch
    return np.linalg.eigvalsh(A.T @ A - B.T @ B)


def check(A, sketch):
    """0 <= A'A - B'B <= error_bound I, error_bound <= |A - A_k|_F^2 / (ell - k) for all k < ell."""
    total = (np.asarray(A, dtype=float) ** 2).sum()
    values = gap(np.asarray(A, dtype=float), sketch)
    assert values[0] >= -1e-10 * total
    assert values[-1] <= sketch.error_bound + 1e-10 * total
    assert sketch.error_bound <= reference.tail_bound(np.asarray(A, dtype=float), sketch.ell) + 1e-10 * total
    assert sketch.error_bound * sketch.ell <= total - (sketch.B**2).sum() + 1e-10 * total
    assert len(sketch.B) <= sketch.ell
    np.testing.assert_allclose(sketch.squared_norm, total, rtol=1e-12)


def stream(seed):
    """Random, sorted, adversarial and degenerate streams."""
    rng = np.random.default_rng(seed)
    n, d = int(rng.integers(5, 400)), int(rng.integers(1, 60))
    kind = seed % 6
    A = rng.normal(size=(n, d)) * 0.8 ** np.arange(d)
    if kind == 1:  # small rows first, large ones last
        A = A[np.argsort(np.linalg.norm(A, axis=1))] * np.logspace(-3, 3, n)[:, None]
    elif kind == 2:  # directions one after the other
        A = np.repeat(np.eye(d), -(-n // d), axis=0)[:n] * (1 + rng.random((n, 1)))
    elif kind == 3:
        A[rng.random(n) < 0.5] = 0
    elif kind == 4:
        A = rng.standard_t(2, size=(n, d))
    elif kind == 5:  # of low rank
        A = rng.normal(size=(n, 3)) @ rng.normal(size=(3, d))
    return A


@pytest.mark.parametrize("seed", range(30))
def test_guarantee(seed):
    A = stream(seed)
    for ell in (1, 2, 5, 16, 100):
        sketch = gm.FrequentDirections(ell)
        for block in np.array_split(A, 1 + seed % 7):
            if len(block):
                sketch.partial_fit(block)
        check(A, sketch)
        if np.linalg.matrix_rank(A) < ell:
            assert sketch.error_bound == 0 and np.abs(gap(A, sketch)).max() <= 1e-10 * (A**2).sum()


def test_without_shrinking_the_guarantee_breaks():
    # The control: keeping the best rows of each buffer forgets a direction that comes in small steps for ever.
    A = np.vstack([10 * np.eye(9)[:7], np.tile(np.eye(9)[7], (4000, 1))])
    good = gm.FrequentDirections(8).partial_fit(A)
    check(A, good)
    bound = reference.tail_bound(A, 8)
    assert gap(A, good)[-1] <= bound < 0.2 * gap(A, reference.truncated_stream(A, 8))[-1]


def test_equals_the_definition():
    A = stream(0)
    B, delta = reference.frequent_directions(A, 6)
    sketch = gm.FrequentDirections(6).partial_fit(A)
    np.testing.assert_allclose(sketch.B.T @ sketch.B, B.T @ B, atol=1e-10 * (A**2).sum())
    np.testing.assert_allclose(sketch.error_bound, delta, rtol=1e-8)


def test_chunks_do_not_matter():
    A = stream(4)
    whole = gm.FrequentDirections(5).partial_fit(A)
    rows = gm.FrequentDirections(5)
    for row in A:
        rows.partial_fit(row[None])
    np.testing.assert_allclose(rows.B.T @ rows.B, whole.B.T @ whole.B, atol=1e-10 * (A**2).sum())
    for threads in (1, 2, 3):
        other = gm.FrequentDirections(5, n_jobs=threads).partial_fit(A)
        assert other.B.tobytes() == whole.B.tobytes() and other.error_bound == whole.error_bound


def test_a_thousand_sketches_merge():
    rng = np.random.default_rng(0)
    A = rng.normal(size=(5000, 20)) * 0.7 ** np.arange(20)
    parts = [gm.FrequentDirections(6).partial_fit(block) for block in np.array_split(A, 1000)]
    order = rng.permutation(1000)
    left = gm.FrequentDirections(6)
    for k in order:
        left.merge(parts[k])
    check(A, left)
    assert left.n_rows == 5000
    while len(parts) > 1:  # a tree
        parts = [parts[k].merge(parts[k + 1]) if k + 1 < len(parts) else parts[k] for k in range(0, len(parts), 2)]
    check(A, parts[0])
    own = gm.FrequentDirections(6).partial_fit(A[:50])
    own.merge(own)
    check(np.vstack([A[:50], A[:50]]), own)


def test_types_and_sparse_rows():
    A = stream(6)
    base = gm.FrequentDirections(7).partial_fit(A)
    sparse = gm.FrequentDirections(7).partial_fit(scipy.sparse.csr_matrix(A))
    assert sparse.B.tobytes() == base.B.tobytes()
    single = A.astype("float32")
    check(single, gm.FrequentDirections(7).partial_fit(single))
    check(single, gm.FrequentDirections(7).partial_fit(np.asfortranarray(single)))


def test_edges():
    A = np.random.default_rng(0).normal(size=(6, 9))
    more = gm.FrequentDirections(50).partial_fit(A)
    np.testing.assert_allclose(more.B, A) and more.error_bound == 0
    zeros = gm.FrequentDirections(3).partial_fit(np.zeros((100, 4)))
    assert zeros.error_bound == 0 and not zeros.B.any() and zeros.n_rows == 100
    check(np.ones((50, 1)), gm.FrequentDirections(2).partial_fit(np.ones((50, 1))))
    empty = gm.FrequentDirections(3)
    assert empty.n_rows == 0 and empty.n_features is None and empty.error_bound == 0
    with pytest.raises(ValueError, match="no rows"):
        empty.B  # noqa: B018
    assert pickle.loads(pickle.dumps(empty)).ell == 3
    assert empty.merge(gm.FrequentDirections(3)).n_rows == 0


def test_errors_leave_it_as_it_was():
    A = stream(12)
    sketch = gm.FrequentDirections(4).partial_fit(A)
    before = pickle.dumps(sketch)
    bad = np.ones((40, A.shape[1]))
    bad[33, 0] = np.inf
    for rows, match in [(bad, "row 33"), (bad[32:35], "row 1"), (np.ones((2, A.shape[1] + 1)), "features")]:
        with pytest.raises(ValueError, match=match):
            sketch.partial_fit(rows)
        assert pickle.dumps(sketch) == before
    with pytest.raises(ValueError, match="ell"):
        sketch.merge(gm.FrequentDirections(5).partial_fit(A))
    with pytest.raises(ValueError, match="cannot be merged"):
        sketch.merge(gm.FrequentDirections(4).partial_fit(np.ones((3, A.shape[1] + 1))))
    with pytest.raises(TypeError):
        sketch.merge(A)
    with pytest.raises(ValueError, match="at least 1"):
        gm.FrequentDirections(0)
    assert pickle.dumps(sketch) == before


def test_files(tmp_path):
    A = stream(18)
    sketch = gm.FrequentDirections(6).partial_fit(A)
    path = tmp_path / "sketch.gramian"
    sketch.save(path)
    for same in (gm.FrequentDirections.load(path), pickle.loads(pickle.dumps(sketch))):
        assert same.B.tobytes() == sketch.B.tobytes() and same.error_bound == sketch.error_bound
        assert (same.n_rows, same.squared_norm) == (sketch.n_rows, sketch.squared_norm)
        assert same.partial_fit(A).B.tobytes() == pickle.loads(pickle.dumps(sketch)).partial_fit(A).B.tobytes()
    data = path.read_bytes()
    for damaged in (data[:-8], b"", data.replace(b'"ell', b'"elk')):
        path.write_bytes(damaged)
        with pytest.raises(gm.FormatError):
            gm.FrequentDirections.load(path)
    gm.RFactor(3).add(np.ones((4, 3))).save(path)
    with pytest.raises(gm.FormatError, match="r_factor"):
        gm.FrequentDirections.load(path)
    with pytest.raises(FileNotFoundError):
        gm.FrequentDirections.load(tmp_path / "none")


def test_directions_below_rounding_of_the_largest_add_up():
    # Each step alone loses less than the rounding of the first row; the bound must not forget them.
    n, ell = 60_000, 4
    first = np.zeros((1, 40))
    first[0, 0] = 1e7
    sketch = gm.FrequentDirections(ell).partial_fit(first)
    sketch.partial_fit(np.tile(np.eye(40)[1], (n, 1)))
    assert n - (sketch.B[:, 1] ** 2).sum() <= sketch.error_bound + 1e-12 * sketch.squared_norm
    several = np.zeros((n, 40))
    several[np.arange(n), 1 + np.arange(n) % 8] = 1
    sketch = gm.FrequentDirections(ell).partial_fit(first).partial_fit(several)
    lost = np.diag(several.T @ several - sketch.B[:, :].T @ sketch.B)[1:9].max()
    assert lost > 5000 and lost <= sketch.error_bound + 1e-12 * sketch.squared_norm
    whole = np.vstack([first, several])
    assert sketch.error_bound <= reference.tail_bound(whole, ell) + 1e-10 * sketch.squared_norm


def test_what_is_shed():
    A = np.random.default_rng(0).normal(size=(20, 15))
    for rows in (20, 15, 7):
        sketch = gm.FrequentDirections(10).partial_fit(A[:rows])
        np.testing.assert_allclose(sketch.shed_mass, (A[:rows] ** 2).sum() - (sketch.B**2).sum(), atol=1e-10)
        assert sketch.ell * sketch.error_bound <= sketch.shed_mass + 1e-10
    assert sketch.shed_mass == 0


@pytest.mark.parametrize("scale", [1e-320, 1e-300, 1e-200, 1e-160, 1e-100, 1e100, 1e150])
def test_scale_does_not_matter(scale):
    A = stream(0)
    base = gm.FrequentDirections(6).partial_fit(A)
    found = gm.FrequentDirections(6).partial_fit(A * scale)
    B = found.B / scale
    tolerance = 1e-3 if scale < 1e-310 else 1e-9
    np.testing.assert_allclose(B.T @ B, base.B.T @ base.B, atol=tolerance * (A**2).sum())
    assert found.error_bound > 0
    if scale >= 1e-150:
        np.testing.assert_allclose(found.error_bound / scale / scale, base.error_bound, rtol=1e-9)


def test_sizes_without_overflow():
    for ell in (2**30, 2**40, 2**62, 2**63 - 1):
        with pytest.raises(ValueError, match="2\\^30"):
            gm.FrequentDirections(ell).partial_fit(np.ones((2, 3)))
