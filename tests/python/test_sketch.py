"""Sketches: bits, algebra, distortion, streams, files and wrong arguments."""

import hashlib
import itertools
import json
import os
import pathlib
import pickle
import subprocess
import sys

import numpy as np
import pytest
from reference_path import sketch as ref

import gramian as gm
from gramian import _core

GOLDEN = json.loads((pathlib.Path(__file__).parents[1] / "golden" / "sketches.json").read_text())
U = {"float32": 2.0**-24, "float64": 2.0**-53}


def golden_sketch(description):
    """The sketch of a golden description."""
    return gm.sketch.from_bytes(_bytes_of(description))


def _bytes_of(description):
    d = dict(description, seed=int(description["seed"]))
    del d["generation"]
    return _core.SketchSum64(_core.Sketch(**d), 1, "cpu").save("cpu")


MAKERS = {
    "gaussian": gm.sketch.Gaussian,
    "rademacher": gm.sketch.Rademacher,
    "count_sketch": gm.sketch.CountSketch,
    "sparse_sign": gm.sketch.SparseSign,
    "long_axis": gm.sketch.LongAxisSparse,
    "row_sampling": lambda m, n, **options: gm.sketch.RowSampling(m, 1.0 + np.arange(n) % 5, **options),
    "tensor_sketch": lambda m, n, **options: gm.sketch.TensorSketch(m, _dims(n), **options),
    "tensor_srht": lambda m, n, **options: gm.sketch.TensorSRHT(m, _dims(n), **options),
    "srht": gm.sketch.SRHT,
    "srht_plain": lambda m, n, **options: gm.sketch.SRHT(m, n, permute=False, **options),
    "hdhd": gm.sketch.HDHD,
    "dct": gm.sketch.DCT,
}


def one_of(kind, m, n, seed=3, **options):
    """A sketch of the family that maps n rows to m."""
    return MAKERS[kind](m, n, seed=seed, **options)


def families(m, n):
    """One of each family that can map n rows to m."""
    most = {"srht": ref.power_of_two(n), "srht_plain": ref.power_of_two(n), "hdhd": ref.power_of_two(n), "dct": n}
    return {kind: one_of(kind, m, n) for kind in MAKERS if m <= most.get(kind, m)}


def _dims(n):
    """Two factors of n."""
    first = next(k for k in range(int(n**0.5), 0, -1) if n % k == 0)
    return [first, n // first]


KINDS = sorted(MAKERS)
STREAMED = [kind for kind in KINDS if kind not in ("srht", "srht_plain", "tensor_srht", "hdhd")]


# --- the bits


@pytest.mark.parametrize("number", range(len(GOLDEN)))
def test_golden_digests(number):
    golden = GOLDEN[number]
    s = golden_sketch(golden["sketch"]).materialise()
    assert hashlib.sha256(s.astype("<f8").tobytes()).hexdigest() == golden["sha256"]


def test_there_are_twenty_golden_sketches():
    assert len(GOLDEN) == 20
    assert len({golden["sha256"] for golden in GOLDEN}) == 20


def test_known_answers_of_the_law():
    s = gm.sketch.CountSketch(100, 5, seed=12345).materialise()
    rows = np.abs(s).argmax(axis=0)
    assert list(zip(rows, s[rows, range(5)], strict=True)) == [(22, -1), (40, 1), (4, -1), (97, 1), (80, 1)]
    column = gm.sketch.SparseSign(100, 6, seed=12345).materialise(columns=(5, 6))[:, 0]
    places = np.flatnonzero(column)
    assert places.tolist() == [0, 17, 33, 42, 54, 72, 76, 96]
    assert "".join("-" if value < 0 else "+" for value in column[places]) == "-++-+--+"
    gaussian = gm.sketch.Gaussian(4, seed=12345).materialise(columns=(0, 1))[:, 0] * 2
    known = ["-0x1.b670113a6c795p+0", "0x1.1f6a1743dc6d8p+0", "0x1.3e63585c39ce9p-1", "0x1.261579963123cp+0"]
    assert gaussian.tolist() == [float.fromhex(text) for text in known]
    far = gm.sketch.Gaussian(1, seed=12345).materialise(columns=(2**32, 2**32 + 1))
    assert far[0, 0] == float.fromhex("-0x1.71b8347f778b7p-2")
    bits = gm.sketch.Rademacher(64, seed=12345).materialise(rows=(0, 32), columns=(3, 4))[:, 0] < 0
    assert "".join("01"[int(bit)] for bit in bits) == "10011010111101000111111111100010"
    # Row 0 of H is all ones, so a sketch that keeps every row of N shows the signs where place 0 was drawn.
    plain = gm.sketch.SRHT(32, 32, seed=12345, permute=False).materialise()
    constant = np.flatnonzero([ref.Stream(12345, "srht", 5).permute(32, q) == 0 for q in range(32)])[0]
    signs = "".join("01"[int(value < 0)] for value in plain[constant])
    assert signs == "01001001001010011001101101001110"
    assert [ref.Stream(12345, "srht", 4).permute(10, q) for q in range(10)] == [4, 2, 1, 6, 3, 8, 9, 7, 5, 0]
    assert [ref.Stream(12345, "srht", 5).permute(10**6, q) for q in range(4)] == [176929, 924209, 672198, 395814]


@pytest.mark.parametrize("kind", KINDS)
def test_materialise_is_the_definition(kind):
    s = one_of(kind, 23, 90)
    expected = ref.matrix(s.describe())
    assert np.array_equal(s.materialise(), expected)
    assert np.array_equal(s.materialise(dtype="float32"), expected.astype(np.float32))


def test_tensor_srht_of_many_factors_is_the_definition():
    for dims in ([3, 2, 4], [2, 3, 2, 5], [2, 2, 3, 2, 2]):
        s = gm.sketch.TensorSRHT(16, dims, seed=5)
        expected = ref.matrix(s.describe())
        # A chain of transforms of length 16 and the longest factor: about 8 additions a level.
        assert np.abs(s.materialise() - expected).max() <= 64 * U["float64"] * np.abs(expected).max()


@pytest.mark.parametrize("kind", KINDS)
def test_a_block_is_the_slice(kind):
    s = one_of(kind, 40, 96)
    full = s.materialise()
    for (i0, i1), (j0, j1) in itertools.product([(0, 40), (3, 4), (7, 31), (5, 5)], [(0, 96), (1, 2), (30, 65)]):
        assert np.array_equal(s.materialise((i0, i1), (j0, j1)), full[i0:i1, j0:j1])


def test_draws_do_not_depend_on_the_shape():
    long, short = gm.sketch.Gaussian(10, 500, seed=1), gm.sketch.Gaussian(10, 20, seed=1)
    assert np.array_equal(long.materialise(columns=(0, 20)), short.materialise())
    one, eight = gm.sketch.SparseSign(64, 50, seed=1).materialise(), gm.sketch.SparseSign(64, 900, seed=1)
    assert np.array_equal(one, eight.materialise(columns=(0, 50)))


# --- the algebra


SIZES = [1, 2, 3, 63, 64, 65, 1000, 4097]


@pytest.mark.parametrize("n", SIZES)
@pytest.mark.parametrize("m", [1, 2, 7, 64])
def test_apply_is_the_product(n, m, rng):
    A = rng.standard_normal((n, 5))
    Y = rng.standard_normal((m, 3))
    for kind, s in families(m, n).items():
        S = s.materialise()
        # Of the norms, since the inner sums of two transforms are larger than what comes out of them.
        size = 1e-12 * np.linalg.norm(S)
        assert np.abs(s.apply(A) - S @ A).max() <= size * np.linalg.norm(A), kind
        assert np.abs(s.apply_adjoint(Y) - S.T @ Y).max() <= size * np.linalg.norm(Y), kind
        assert np.abs(s.project(A.T) - A.T @ S.T).max() <= size * np.linalg.norm(A), kind
        # The adjoint by its definition.
        left, right = np.sum(s.apply(A[:, :3]) * Y), np.sum(A[:, :3] * s.apply_adjoint(Y))
        assert abs(left - right) <= 1e-12 * np.linalg.norm(S) * np.linalg.norm(A) * np.linalg.norm(Y), kind


@pytest.mark.parametrize("kind", KINDS)
def test_linear(kind, rng):
    n = 1000
    A, B = rng.standard_normal((2, n, 4))
    s = one_of(kind, 32, n)
    S = s.materialise()
    norms = np.linalg.norm(S, axis=1)[:, np.newaxis] * np.linalg.norm(np.abs(A) + np.abs(B), axis=0)
    bound = 4 * U["float64"] * np.sqrt(n) * norms
    assert (np.abs(s.apply(A + B) - s.apply(A) - s.apply(B)) <= bound).all()


@pytest.mark.parametrize("kind", KINDS)
def test_blocks_of_the_adjoint(kind, rng):
    s = one_of(kind, 16, 300)
    Y = rng.standard_normal((16, 4))
    whole = s.materialise().T @ Y
    for start, count in ((0, 300), (0, 1), (57, 100), (299, 1), (10, 0)):
        part = s.apply_adjoint(Y, start=start, n_rows=count)
        assert np.allclose(part, whole[start : start + count], rtol=0, atol=1e-12 * np.abs(whole).max())


@pytest.mark.parametrize("kind", KINDS)
def test_appended_rows(kind, rng):
    s = one_of(kind, 20, 128)
    more = s.append(12).append(8)
    assert more.shape == (40, 128)
    A = rng.standard_normal((128, 3))
    S = more.materialise()
    assert np.allclose(S, ref.matrix(more.describe()), rtol=4 * U["float64"], atol=0)
    # The old rows keep their draws.
    assert np.allclose(S[:20], s.materialise() * np.sqrt(20 / 40), rtol=4 * U["float64"], atol=0)
    assert np.allclose(more.apply(A), S @ A, rtol=0, atol=1e-12)
    assert np.allclose(more.apply_adjoint(S @ A), S.T @ (S @ A), rtol=0, atol=1e-11)
    assert np.allclose(more.project(A.T), A.T @ S.T, rtol=0, atol=1e-12)
    more.update(A[:50], 0).update(A[50:], 50)
    assert np.allclose(more.result(), S @ A, rtol=0, atol=1e-12)


@pytest.mark.parametrize("kind", KINDS)
def test_unbiased(kind):
    m, n, runs = 16, 64, 1000
    total = np.zeros((n, n))
    for seed in range(runs):
        S = one_of(kind, m, n, seed).materialise()
        total += S.T @ S
    assert np.linalg.norm(total / runs - np.eye(n)) / np.sqrt(n) <= 6 * np.sqrt(n / (m * runs))


def distortion(kind, m, U_basis, seed):
    """Singular values of S U."""
    return np.linalg.svd(one_of(kind, m, len(U_basis), seed).apply(U_basis), compute_uv=False)


@pytest.mark.parametrize("kind", ["gaussian", "rademacher", "srht", "hdhd"])
def test_distortion_of_dense_families(kind, rng):
    n, d, m, delta = 1024, 16, 256, 1e-3
    bound = np.sqrt(d / m) + 3 * np.sqrt(np.log(1 / delta) / m)
    bases = [np.linalg.qr(rng.standard_normal((n, d)))[0], np.eye(n)[:, :d]]
    for basis, seed in itertools.product(bases, range(20)):
        values = distortion(kind, m, basis, seed)
        assert np.abs(values - 1).max() <= bound


def test_distortion_of_sparse_sign(rng):
    n, d = 1024, 16
    bases = [np.linalg.qr(rng.standard_normal((n, d)))[0], np.eye(n)[:, :d]]
    for basis in bases:
        for seed in range(1000):
            s = gm.sketch.SparseSign(12 * d, n, seed=seed)
            values = np.linalg.svd(s.apply(basis), compute_uv=False)
            assert 0.5 <= values[-1] and values[0] <= 1.5


def test_count_sketch_breaks_on_a_coherent_design():
    """The negative control: with as many rows a CountSketch of [I; 0] is often singular."""
    n, d = 1024, 64
    basis = np.eye(n)[:, :d]
    count = sum(distortion("count_sketch", 4 * d, basis, seed)[-1] < 1e-12 for seed in range(20))
    permuted = sum(distortion("srht", 4 * d, basis, seed)[-1] < 1e-12 for seed in range(20))
    natural = sum(distortion("srht_plain", 4 * d, basis, seed)[-1] < 1e-12 for seed in range(20))
    assert count >= 18
    assert permuted == 0
    assert natural >= 5


# --- exactness and the tree


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("kind", ["count_sketch", "sparse_sign", "rademacher", "srht", "srht_plain", "hdhd"])
def test_whole_numbers_are_exact(kind, dtype, rng):
    n, m = 5000, 64
    A = rng.integers(-3, 4, size=(n, 6)).astype(dtype)
    s = one_of(kind, m, n)
    units = {"count_sketch": 1.0, "sparse_sign": 1 / np.sqrt(8), "hdhd": 1 / np.sqrt(m * ref.power_of_two(n))}
    unit = units.get(kind, 1 / np.sqrt(m))
    whole = np.rint(s.materialise() / unit)
    expected = (whole @ A.astype(np.float64)).astype(dtype) * np.dtype(dtype).type(unit)
    assert np.array_equal(s.apply(A), expected)  # one rounding of an exact sum times the factor
    assert np.array_equal(s.update(A, 0).result(), expected)


def tree_reference(s, A):
    """The sum of a sparse sketch by its definition: rows in order inside a block, then pairwise; the factor last."""
    S = np.sign(s.materialise())
    blocks = []
    for begin in range(0, len(A), 4096):
        total = np.zeros((s.n_out, A.shape[1]))
        for j in range(begin, min(begin + 4096, len(A))):
            rows = np.flatnonzero(S[:, j])
            total[rows] += S[rows, j][:, np.newaxis] * A[j]
        blocks.append(total)
    return ref.tree_sum(blocks)


@pytest.mark.parametrize("kind", ["count_sketch", "sparse_sign"])
def test_the_tree_is_the_one_of_the_law(kind, rng):
    n = 5 * 4096 + 77
    A = rng.standard_normal((n, 3)) * 10.0 ** rng.integers(-8, 8, size=(n, 3))
    s = one_of(kind, 16, n)
    factor = 1.0 if kind == "count_sketch" else 1 / np.sqrt(8)
    assert np.array_equal(s.apply(A), tree_reference(s, A) * factor)
    # The control: another order of the blocks is another sum.
    assert not np.array_equal(s.apply(A), np.sign(s.materialise()) @ A * factor)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("kind", KINDS)
def test_streams_and_merges_are_bit_equal(kind, dtype, rng):
    n, d = 3 * 4096 + 1000, 5
    A = rng.standard_normal((n, d)).astype(dtype)
    make = lambda: one_of(kind, 24, n)  # noqa: E731
    one = make().update(A, 0).result()
    if kind in STREAMED:
        assert np.array_equal(one, make().apply(A))
    else:  # apply transforms all rows at once
        assert np.allclose(one, make().apply(A), rtol=0, atol=1e3 * U[dtype] * np.abs(one).max())
    for cuts in ([1, 100, 4096, 5000, 12000], [4095, 4097, 8191], list(range(700, n, 700))):
        stream = make()
        for begin, end in itertools.pairwise([0, *cuts, n]):
            stream.update(A[begin:end], begin)
        assert np.array_equal(stream.result(), one)
        assert stream.n_rows_seen_ == n
    for cut in (4096, 8192):
        left, right = make().update(A[:cut], 0), make().update(A[cut:], cut)
        assert np.array_equal(left.merge(right).result(), one)
        assert np.array_equal(make().update(A[cut:], cut).update(A[:cut], 0).result(), one)


def test_merges_elsewhere_are_equal_to_rounding(rng):
    A = rng.standard_normal((9000, 4))
    for kind, s in families(24, 9000).items():
        one = s.apply(A)
        left, right = one_of(kind, 24, 9000).update(A[:1234], 0), one_of(kind, 24, 9000).update(A[1234:], 1234)
        assert np.allclose(left.merge(right).result(), one, rtol=0, atol=1e-12 * np.abs(one).max())


@pytest.mark.parametrize("kind", KINDS)
def test_rows_can_be_taken_out(kind, rng):
    n = 9000
    A = rng.integers(-4, 5, size=(n, 3)).astype(np.float64)
    s = one_of(kind, 16, n)
    s.update(A, 0).downdate(A[100:8500], 100)
    assert s.n_rows_seen_ == 600
    kept = np.zeros_like(A)
    kept[:100], kept[8500:] = A[:100], A[8500:]
    expected = one_of(kind, 16, n).apply(kept)
    assert np.allclose(s.result(), expected, rtol=0, atol=1e-10 * max(1, np.abs(A).sum()))


def test_many_merges_in_any_order(rng):
    A = rng.standard_normal((64 * 4096, 2))
    one = gm.sketch.CountSketch(8, 64 * 4096, seed=1).apply(A)
    starts = range(0, 64 * 4096, 4096)
    parts = [gm.sketch.CountSketch(8, 64 * 4096, seed=1).update(A[k : k + 4096], k) for k in starts]
    while len(parts) > 1:
        k = int(rng.integers(len(parts) - 1))
        parts[k].merge(parts.pop(int(rng.integers(k + 1, len(parts)))))
    assert np.array_equal(parts[0].result(), one)


def test_threads_do_not_change_bits(rng):
    n = 6 * 4096 + 10
    A = rng.standard_normal((n, 70)).astype(np.float32)
    for kind in KINDS:
        digests = set()
        for jobs in (1, 2, 3, 4, 64):
            s = one_of(kind, 130, n, n_jobs=jobs)
            digests.add(hashlib.sha256(s.apply(A).tobytes() + s.apply_adjoint(s.apply(A[:, :2])).tobytes()).hexdigest())
        assert len(digests) == 1, kind


TABLES = """
import hashlib, json, sys
import numpy as np
import gramian as gm
k = np.arange(3 * 4096 * 5 + 35)
A = ((k * 7919) % 11 - 5.0).reshape(-1, 5)
n = len(A)
made = [gm.sketch.Rademacher(40, n), gm.sketch.CountSketch(40, n), gm.sketch.SparseSign(40, n), gm.sketch.SRHT(40, n),
        gm.sketch.HDHD(40, n), gm.sketch.LongAxisSparse(40, n), gm.sketch.Gaussian(40, n), gm.sketch.DCT(40, n),
        gm.sketch.TensorSketch(40, [41, 299]), gm.sketch.TensorSRHT(40, [41, 299]),
        gm.sketch.RowSampling(40, 1.0 + np.arange(n) % 5)]
out = []
for dtype in (np.float32, np.float64):
    for s in made:
        rows = A[: s.n_in].astype(dtype)
        out.append(hashlib.sha256(s.materialise(columns=(0, 200), dtype=dtype).tobytes()).hexdigest())
        if not isinstance(s, (gm.sketch.Gaussian, gm.sketch.DCT)):
            out.append(hashlib.sha256(s.apply(rows).tobytes()).hexdigest())
            out.append(hashlib.sha256(s.update(rows, 0).result().tobytes()).hexdigest())
print(json.dumps([gm.build_info()["kernel_isa"], gm.build_info()["blas_provider"], out]))
"""


def test_every_table_draws_and_sums_whole_numbers_alike():
    found = {}
    choices = [("", "")]
    for isa in gm.build_info()["compiled_isas"].split(", "):
        choices += [(isa, "eigen"), (isa, "openblas")]
    for isa, provider in choices:
        variables = dict(os.environ, GRAMIAN_FORCE_ISA=isa, GRAMIAN_BLAS_PROVIDER=provider)
        run = subprocess.run([sys.executable, "-c", TABLES], env=variables, capture_output=True, text=True, timeout=300)
        if run.returncode != 0:
            assert "possible here" in run.stderr  # this machine has no such table
            continue
        name, blas, digests = json.loads(run.stdout)
        found[name, blas] = digests
    assert len(found) >= 2
    assert len({tuple(digests) for digests in found.values()}) == 1


# --- what is read


@pytest.mark.parametrize("kind", KINDS)
def test_layouts_and_types(kind, rng):
    n = 4096 + 300
    A = np.asfortranarray(rng.integers(-3, 4, size=(n, 9)).astype(np.float64))
    s = one_of(kind, 24, n)
    expected = s.apply(np.ascontiguousarray(A))
    assert expected.dtype == np.float64
    assert np.array_equal(s.apply(A), expected)  # column-major
    assert np.array_equal(s.apply(np.repeat(A, 2, axis=0)[::2]), expected)
    assert np.array_equal(s.apply(A[::-1])[::1], s.apply(np.ascontiguousarray(A[::-1])))
    assert np.array_equal(s.apply(np.repeat(A, 2, axis=1)[:, ::2]), expected)
    assert np.array_equal(s.apply(A.astype(np.int64)), expected)
    assert np.array_equal(s.apply(A.astype(np.int32)), expected)
    single = s.apply(np.ascontiguousarray(A, dtype=np.float32))
    assert single.dtype == np.float32
    assert np.array_equal(s.apply(A, dtype="float32"), single)
    for dtype in (np.float16, np.int16, np.float32):
        assert np.array_equal(s.apply(A.astype(dtype)), single)
    assert np.array_equal(s.apply(A[:, 2]), expected[:, 2])
    assert np.array_equal((s @ A), expected)
    readonly = np.ascontiguousarray(A)
    readonly.flags.writeable = False
    assert np.array_equal(s.apply(readonly), expected)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_csr(kind, dtype, rng):
    sparse = pytest.importorskip("scipy.sparse")
    n = 2 * 4096 + 50
    A = sparse.random(n, 40, density=0.05, format="csr", random_state=1, dtype=dtype)
    s = one_of(kind, 24, n)
    dense = s.apply(A.toarray())
    bound = 64 * U[dtype] * np.sqrt(n) * np.abs(dense).max()
    for matrix in (A, A.tocsc(), A.tocoo()):
        found = s.apply(matrix)
        assert found.dtype == dtype
        assert np.abs(found - dense).max() <= bound
    assert np.abs(s.update(A[:5000], 0).update(A[5000:], 5000).result() - dense).max() <= bound
    B = sparse.random(30, n, density=0.02, format="csr", random_state=2, dtype=dtype)
    assert np.abs(s.project(B) - s.project(B.toarray())).max() <= bound
    wide = A.copy()
    wide.indices, wide.indptr = wide.indices.astype(np.int64), wide.indptr.astype(np.int64)
    assert np.abs(s.apply(wide) - dense).max() <= bound


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_not_finite_names_the_row(kind, bad, rng):
    n = 4096 + 200
    A = rng.standard_normal((n, 3))
    s = one_of(kind, 24, n)
    before = s.update(A, 0).result()
    row = 4096 + 17
    if kind in ("long_axis", "row_sampling"):  # they read only what they drew
        row = int(np.flatnonzero(np.abs(s.materialise()).sum(axis=0))[-1])
    A[row, 1] = bad
    with pytest.raises(ValueError, match=f"row {row}"):
        one_of(kind, 24, n).apply(A)
    with pytest.raises(ValueError, match=rf"row {row}"):
        s.update(A, 0)
    assert np.array_equal(s.result(), before)
    with pytest.raises(ValueError, match="row 1"):
        s.project(np.where(np.arange(3)[:, np.newaxis] == 1, A[:, 1], 1.0))


def _up_to_the_end(dtype, *arrays):
    """The power of two that brings the largest value of some arrays next to the end of the range."""
    largest = max(np.abs(array).max() for array in arrays)
    return np.finfo(dtype).maxexp - 1 - int(np.ceil(np.log2(largest)))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_values_near_the_end_of_the_range(kind, dtype, rng):
    """A result that float holds is given although sums on the way overflow; one that it does not hold is an error."""
    n = 4096 + 200
    s = one_of(kind, 24, n)
    A, V, Y = (rng.uniform(-1, 1, size=shape).astype(dtype) for shape in ((n, 3), (3, n), (24, 2)))
    streamed = one_of(kind, 24, n)

    def stream(rows):
        return streamed.reset().update(rows, 0).result()

    for operation, given in ((s.apply, A), (s.project, V), (s.apply_adjoint, Y), (stream, A)):
        base = operation(given)
        power = _up_to_the_end(dtype, base, given)
        # In float64 the same operations on other exponents; in float32 the sums are made again in float64.
        bound = 0 if dtype == "float64" else 64 * U[dtype] * np.sqrt(n) * np.abs(base).max()
        try:
            found = operation(np.ldexp(given, power))
        except ValueError as error:  # sums of a stream cannot be made again
            assert operation is stream and "overflows: values lie outside the range" in str(error)
            continue
        assert found.dtype == dtype and np.isfinite(found).all()
        assert np.abs(np.ldexp(found, -power) - base).max() <= bound
    row = s.materialise((0, 1), dtype="float64")[0]
    largest = np.finfo(dtype).max
    beyond = (np.where(row < 0, -largest, largest)[:, np.newaxis]).astype(dtype)
    assert np.abs(row).sum() > 2
    for operation, given in ((s.apply, beyond), (s.project, beyond.T), (stream, beyond)):
        with pytest.raises(ValueError, match=f"overflows: values lie outside the range of {dtype}"):
            operation(given)
    assert np.isfinite(stream(A)).all()


@pytest.mark.parametrize("kind", [gm.sketch.TensorSketch, gm.sketch.TensorSRHT])
@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_products_of_factors_of_any_size(kind, dtype, rng):
    unit = 700 if dtype == "float64" else 90  # powers of two; products of two such overflow, or vanish
    two, three = kind(16, [5, 6], seed=1), kind(16, [5, 6, 7], seed=1)
    x, y, z = (rng.standard_normal((2, dim)).astype(dtype) for dim in (5, 6, 7))
    for sketch, factors, powers in (
        (two, (x, y), [(unit, -unit), (-unit, unit)]),
        (three, (x, y, z), [(unit, unit, -unit), (-unit, unit, unit)]),
        (three, (x, y, z), [(-unit, -unit, unit), (unit, -unit, -unit)]),
        (three, (x, y, z), [(unit, -unit, unit), (-unit, unit, -unit)]),
    ):
        base = sketch.apply_factors(factors)
        scaled = [np.ldexp(factor, [[row[f]] for row in powers]) for f, factor in enumerate(factors)]
        found = sketch.apply_factors(scaled)
        assert found.dtype == dtype
        back = np.ldexp(found, -np.array([sum(row) for row in powers])[:, np.newaxis])
        # Rounding of the transforms, of length at most 16, and of the largest values that are in them.
        size = np.prod([np.linalg.norm(factor, axis=1) for factor in factors], axis=0)[:, np.newaxis]
        assert (np.abs(back - base) <= 200 * U[dtype] * size).all()
    huge = 1e200 if dtype == "float64" else 1e30
    for sketch, factors in ((two, (x, y)), (three, (x, y, z))):
        with pytest.raises(ValueError, match="the sketch of the product of the factors overflows: values lie outside"):
            sketch.apply_factors([(huge * factor).astype(dtype) for factor in factors])
        bad = [factor.copy() for factor in factors]
        bad[1][1, 2] = np.nan
        with pytest.raises(ValueError, match="row 1"):
            sketch.apply_factors(bad)
        # What really vanishes is zero.
        assert (sketch.apply_factors([(factor / huge).astype(dtype) for factor in factors]) == 0).all()


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_rows_that_overlap_or_run_backwards(kind, dtype, rng):
    """A vector as a row, one row broadcast, a window that slides, rows from the last to the first: any strides."""
    s = one_of(kind, 24, 60)
    v = rng.standard_normal(60 + 4).astype(dtype)
    slid = np.lib.stride_tricks.sliding_window_view(v, 60)
    for A in (v[np.newaxis, :60], np.broadcast_to(v[:60], (5, 60)), slid, np.ascontiguousarray(slid)[::-1]):
        assert np.array_equal(s.project(A), s.project(np.ascontiguousarray(A)))
        back = A.T
        assert np.array_equal(s.apply(back), s.apply(np.ascontiguousarray(back)))
    for A in (np.broadcast_to(v[:7], (60, 7)), np.lib.stride_tricks.sliding_window_view(v, 5)[::-1]):
        assert np.array_equal(s.apply(A), s.apply(np.ascontiguousarray(A)))
        started = one_of(kind, 24, 60).update(A, 0).result()
        assert np.array_equal(started, one_of(kind, 24, 60).update(np.ascontiguousarray(A), 0).result())


# --- tensors


@pytest.mark.parametrize("family", [gm.sketch.TensorSketch, gm.sketch.TensorSRHT])
@pytest.mark.parametrize("dims", [[5, 7], [16, 16], [3, 4, 5], [2, 3, 2, 3], [3, 1, 2, 2, 3]])
@pytest.mark.parametrize("m", [1, 8, 33, 100])
def test_factors_against_the_product(family, dims, m, rng):
    factors = [rng.standard_normal((20, dim)) for dim in dims]
    product = factors[0]
    for factor in factors[1:]:
        product = np.einsum("ri,rj->rij", product, factor).reshape(20, -1)
    s = family(m, dims, seed=11)
    expected = product @ s.materialise().T
    assert np.abs(s.apply_factors(factors) - expected).max() <= 1e-10 * np.abs(expected).max()
    assert np.abs(s.apply(product.T).T - expected).max() <= 1e-10 * np.abs(expected).max()
    single = s.apply_factors([factor.astype(np.float32) for factor in factors])
    assert single.dtype == np.float32
    assert np.abs(single - expected).max() <= 1e-4 * np.abs(expected).max()


def test_tensor_sketch_keeps_inner_products_of_polynomials(rng):
    x, y = rng.standard_normal((2, 30))
    s = [gm.sketch.TensorSketch(512, [30, 30], seed=seed) for seed in range(300)]
    values = [float((t.apply_factors([x[None], x[None]]) @ t.apply_factors([y[None], y[None]]).T)[0, 0]) for t in s]
    spread = np.std(values) / np.sqrt(len(values))
    assert abs(np.mean(values) - (x @ y) ** 2) <= 5 * spread


# --- cosine transform and sampling


def test_dct_is_that_of_scipy():
    fft = pytest.importorskip("scipy.fft")
    n = 75
    s = gm.sketch.DCT(n, n, columns=range(n)).materialise()
    assert np.abs(s - fft.dct(np.eye(n), norm="ortho", axis=0)).max() <= 8 * U["float64"]
    assert np.abs(s @ s.T - np.eye(n)).max() <= 1e-14
    low = gm.sketch.DCT(5, n, columns=[0, 3, 1, 70, 2])
    assert np.array_equal(low.materialise(), s[[0, 3, 1, 70, 2]])


def test_rows_of_score_zero_are_never_drawn():
    scores = np.zeros(50)
    scores[[7, 30]] = 1.0, 3.0
    s = gm.sketch.RowSampling(4000, scores, seed=2).materialise()
    drawn = np.flatnonzero(np.abs(s).sum(axis=0))
    assert drawn.tolist() == [7, 30]
    share = (s[:, 30] > 0).mean()
    assert abs(share - 0.75) <= 5 * np.sqrt(0.75 * 0.25 / 4000)


def test_srht_rows_come_without_replacement():
    s = gm.sketch.SRHT(256, 256, seed=4).materialise()
    assert np.abs(s @ s.T - np.eye(256)).max() <= 1e-12  # m = N: an orthogonal matrix


# --- statistics of the draws


def test_moments_of_the_entries():
    count = 2**22
    draws = gm.sketch.Gaussian(4096, 1024, seed=9).materialise().ravel() * 64
    assert abs(draws.mean()) <= 5 / np.sqrt(count)
    assert abs(draws.var() - 1) <= 5 * np.sqrt(2 / count)
    assert abs((draws**4).mean() - 3) <= 5 * np.sqrt(96 / count)
    signs = gm.sketch.Rademacher(4096, 1024, seed=9).materialise().ravel() * 64
    assert abs(signs.mean()) <= 5 / np.sqrt(count)


def test_row_hash_is_uniform():
    m, n = 100, 200_000
    stats = pytest.importorskip("scipy.stats")
    S = gm.sketch.CountSketch(m, n, seed=17)
    counts = np.abs(S.materialise()).sum(axis=1)
    assert stats.chisquare(counts).pvalue > 1e-6
    balance = S.apply(np.ones((n, 1))).sum()
    assert abs(balance) <= 5 * np.sqrt(n)


# --- files


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("kind", KINDS)
def test_bytes_pickle_and_file(kind, dtype, rng, tmp_path):
    n = 9000
    A = rng.standard_normal((n, 4)).astype(dtype)
    s = one_of(kind, 24, n)
    empty = pickle.loads(pickle.dumps(s))
    assert repr(empty) == repr(s)
    assert np.array_equal(empty.materialise((0, 3)), s.materialise((0, 3)))
    s.update(A[:8192], 0)
    assert gm.sketch.from_bytes(s.to_bytes()).to_bytes() == s.to_bytes()
    copy = pickle.loads(pickle.dumps(s))
    s.save(tmp_path / "sketch.gramian")
    loaded = gm.sketch.load(tmp_path / "sketch.gramian")
    for part in (s, copy, loaded):
        part.update(A[8192:], 8192)
        assert np.array_equal(part.result(), s.result())
        assert part.result().dtype == dtype
    assert os.listdir(tmp_path) == ["sketch.gramian"]


def test_damaged_bytes_are_refused(rng):
    s = gm.sketch.CountSketch(8, 100).update(rng.standard_normal((100, 2)), 0)
    data = s.to_bytes()
    for wrong in (b"", data[:50], data[:-8], data + b"0", data.replace(b"count_sketch", b"kount_sketch")):
        with pytest.raises(gm.FormatError):
            gm.sketch.from_bytes(wrong)
    with pytest.raises(gm.FormatError, match="not a sketch"):
        gm.sketch.from_bytes(gm.GramState(3).to_bytes())


# --- wrong arguments


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: gm.sketch.Gaussian(0, 5), "n_out"),
        (lambda: gm.sketch.Gaussian(2.5, 5), "n_out"),
        (lambda: gm.sketch.Gaussian(3, -1), "n_in"),
        (lambda: gm.sketch.Gaussian(3, 5, seed=-1), "seed"),
        (lambda: gm.sketch.Gaussian(3, 5, seed="a"), "seed"),
        (lambda: gm.sketch.SRHT(9, 8), "without replacement"),
        (lambda: gm.sketch.HDHD(9, 8), "without replacement"),
        (lambda: gm.sketch.SparseSign(4, 8, nnz=5), "nnz"),
        (lambda: gm.sketch.SparseSign(4, 8, nnz=0), "nnz"),
        (lambda: gm.sketch.LongAxisSparse(4, 8, nnz=9), "nnz"),
        (lambda: gm.sketch.RowSampling(4, []), "scores"),
        (lambda: gm.sketch.RowSampling(4, [0.0, 0.0]), "scores"),
        (lambda: gm.sketch.RowSampling(4, [1.0, -1.0]), "scores"),
        (lambda: gm.sketch.RowSampling(4, [1.0, np.nan]), "scores"),
        (lambda: gm.sketch.TensorSketch(4, [3]), "dims"),
        (lambda: gm.sketch.TensorSketch(4, [3, 0]), "dims"),
        (lambda: gm.sketch.TensorSketch(4, [3.5, 2]), "dims"),
        (lambda: gm.sketch.DCT(9, 8), "without replacement"),
        (lambda: gm.sketch.DCT(2, 8, columns=[1, 8]), "columns"),
        (lambda: gm.sketch.DCT(2, 8, columns=[1, 2, 3]), "columns"),
        (lambda: gm.sketch.DCT(2, 8, columns=[1, 2]).append(1), "chosen"),
        (lambda: gm.sketch.SRHT(6, 8).append(9), "without replacement"),
        (lambda: gm.sketch.Gaussian(10**30, 5), r"n_out must be below 2\^63"),
        (lambda: gm.sketch.Gaussian(5, 10**30), r"n_in must be below 2\^63"),
        (lambda: gm.sketch.Gaussian(5, 2**62), r"n_in must not be negative nor above 2\^40"),
        (lambda: gm.sketch.SparseSign(5, 50, nnz=10**30), r"nnz must be below 2\^63"),
        (lambda: gm.sketch.TensorSketch(5, [2**40] * 2), r"product of dims must be at most 2\^40"),
        (lambda: gm.sketch.TensorSketch(5, [-3, -3]), "dims must be at least 1"),
    ],
)
def test_wrong_sketches(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def test_wrong_calls(rng):
    A = rng.standard_normal((20, 3))
    s = gm.sketch.CountSketch(8, 20)
    with pytest.raises(ValueError, match="20 rows"):
        s.apply(A[:19])
    with pytest.raises(ValueError, match="n_in = 20"):
        s.project(A)
    with pytest.raises(ValueError, match="shape"):
        s.apply_adjoint(np.ones((7, 2)))
    with pytest.raises(ValueError, match="not inside"):
        s.apply_adjoint(np.ones((8, 2)), start=15, n_rows=6)
    with pytest.raises(ValueError, match="row 3"):
        s.apply_adjoint(np.where(np.arange(8) == 3, np.nan, 1.0))
    with pytest.raises(ValueError, match="not inside"):
        s.update(A, 1)
    with pytest.raises(ValueError, match="start"):
        s.update(A, -1)
    with pytest.raises(ValueError, match=r"start must be below 2\^63"):
        s.update(A, 10**30)
    for start in (2**62 - 19, 2**63 - 1):
        with pytest.raises(ValueError, match=r"start must be below 2\^62"):
            gm.sketch.CountSketch(8).update(A, start)
    streamed = gm.sketch.Gaussian(8)
    for start in (2**62 - 1, 2**62, 2**63 - 2):
        with pytest.raises(ValueError, match=r"start must be below 2\^62"):
            streamed.apply_adjoint(np.ones(8), start=start, n_rows=5)
    for columns in ((2**62, 2**62 + 1), (2**63 - 2, 2**63 - 1), (2**63, 2**63 + 1)):
        with pytest.raises(ValueError, match="columns must be"):
            streamed.materialise(columns=columns)
    for rows in ((0, 1, 2), (3,), (5, 2), (-1, 2), (0, 9), (0, 2**70), 3):
        with pytest.raises(ValueError, match="rows must be"):
            s.materialise(rows=rows)
    with pytest.raises(ValueError, match=r"columns must be \(begin, end\) with 0 <= begin <= end <= 20"):
        s.materialise(columns=(0, 21))
    with pytest.raises(ValueError, match="no rows yet"):
        s.result()
    s.update(A[:10], 0)
    with pytest.raises(ValueError, match="columns"):
        s.update(A[10:, :2], 10)
    with pytest.raises(ValueError, match="float64 already"):
        s.update(A[10:], 10, dtype="float32")
    with pytest.raises(ValueError, match="same distribution"):
        s.merge(gm.sketch.CountSketch(8, 20, seed=1).update(A, 0))
    with pytest.raises(ValueError, match="same distribution"):
        s.merge(None)
    with pytest.raises(ValueError, match="columns"):
        s.merge(gm.sketch.CountSketch(8, 20).update(A[:, :2], 0))
    with pytest.raises(ValueError, match="float32 sum"):
        s.merge(gm.sketch.CountSketch(8, 20).update(A.astype(np.float32), 0))
    with pytest.raises(ValueError, match="n_rows"):
        gm.sketch.CountSketch(8).apply_adjoint(np.ones((8, 1)))
    with pytest.raises(ValueError, match="columns must be given"):
        gm.sketch.CountSketch(8).materialise()
    with pytest.raises(ValueError, match="not inside"):
        s.materialise((0, 9))
    with pytest.raises(ValueError, match="dim <= 2"):
        s.apply(np.ones((2, 2, 2)))
    with pytest.raises(ValueError, match="factors"):
        gm.sketch.TensorSketch(4, [2, 3]).apply_factors([np.ones((5, 2))])
    with pytest.raises(ValueError, match="factor 1"):
        gm.sketch.TensorSketch(4, [2, 3]).apply_factors([np.ones((5, 2)), np.ones((5, 2))])
    with pytest.raises(ValueError, match="dtype"):
        s.apply(A, dtype="int8")
    assert np.array_equal(s.result(), gm.sketch.CountSketch(8, 20).update(A[:10], 0).result())


def test_streams_of_unknown_length(rng):
    A = rng.standard_normal((5000, 3))
    for family in (gm.sketch.Gaussian, gm.sketch.Rademacher, gm.sketch.CountSketch, gm.sketch.SparseSign):
        known, unknown = family(32, 5000, seed=1), family(32, seed=1)
        assert unknown.shape == (32, None)
        assert np.array_equal(known.apply(A), unknown.apply(A))
        far = family(32, seed=1).update(A, 10**12).result()
        S = unknown.materialise(columns=(10**12, 10**12 + 5000))
        assert np.allclose(far, S @ A, rtol=0, atol=1e-11)


def test_no_rows_and_an_empty_sum():
    s = gm.sketch.SparseSign(8)
    assert np.array_equal(s.apply(np.ones((0, 2))), np.zeros((8, 2)))
    assert np.array_equal(s.update(np.ones((0, 2)), 0).result(), np.zeros((8, 2)))
    assert s.n_rows_seen_ == 0
    assert s.reset().nbytes == 0
