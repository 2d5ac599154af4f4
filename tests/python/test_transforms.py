"""The Walsh-Hadamard transform and softmax of arrays, against their definitions."""

import numpy as np
import pytest
from reference_path import transforms

import gramian as gm
from gramian import _core
from gramian import transforms as ours

DTYPES = ["float32", "float64"]


def eps_of(dtype):
    return float(np.finfo(dtype).eps)


def softmax_bound(dtype):
    """Relative error that rounding may cause: the exponential, sums of 16 terms in the type itself, a product."""
    return 24 * eps_of(dtype)


# --- the transform ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("n", [1, 2, 4, 8, 16, 32, 128, 512, 1024, 4096])
def test_integers_are_exact(rng, n, dtype):
    x = rng.integers(-100, 101, size=(3, n)).astype(dtype)
    expected = transforms.fwht(x)
    assert np.array_equal(gm.fwht(x), expected)
    assert np.array_equal(gm.fwht(x.T, axis=0), expected.T)
    assert np.array_equal(gm.fwht(np.repeat(x.T[:, :, None], 5, axis=2), axis=0)[:, :, 3], expected.T)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(("n", "columns"), [(2048, 33), (65536, 5), (65536, 1), (1 << 18, 3)])
def test_twice_is_n_times(rng, n, columns, dtype):
    """H H = n I, exactly while n max|x| n stays below the mantissa: ones and zeros keep that for long."""
    x = np.zeros((n, columns), dtype=dtype)
    x[rng.integers(0, n, 8), rng.integers(0, columns, 8)] = rng.integers(1, 4, 8)
    assert np.array_equal(gm.fwht(gm.fwht(x, axis=0), axis=0), n * x)
    assert np.array_equal(gm.fwht(gm.fwht(x.T)), n * x.T)


def test_an_entry_is_the_sign_of_the_common_bits():
    n = 1 << 17
    for place in (1, 4097, n - 1):
        x = np.zeros((n, 3))
        x[place, 1] = 1.0
        common = np.arange(n) & place
        parity = np.zeros(n, dtype=np.int64)
        while common.any():
            parity ^= common & 1
            common >>= 1
        out = gm.fwht(x, axis=0)
        assert np.array_equal(out[:, 1], 1.0 - 2.0 * parity)
        assert not out[:, [0, 2]].any()


@pytest.mark.parametrize("dtype", DTYPES)
def test_reals_within_the_bound_and_lengths_are_kept(rng, dtype):
    """log2(n) additions and one product: (log2 n + 2) eps times the sum of magnitudes."""
    for n, columns in [(64, 7), (1024, 20), (8192, 3)]:
        x = rng.normal(size=(n, columns)).astype(dtype)
        out = gm.fwht(x, axis=0, norm="ortho")
        expected = transforms.fwht(x, axis=0, norm="ortho") if n <= 1024 else None
        bound = (np.log2(n) + 2) * eps_of(dtype) * np.abs(x.astype(np.float64)).sum(axis=0) / np.sqrt(n)
        if expected is not None:
            assert (np.abs(out - expected) <= bound).all()
            wrong = expected.copy()
            wrong[0, 0] += 20 * bound[0]
            assert not (np.abs(out - wrong) <= bound).all()
        lengths = np.linalg.norm(x.astype(np.float64), axis=0)
        kept = np.linalg.norm(out.astype(np.float64), axis=0)
        np.testing.assert_allclose(kept, lengths, rtol=2 * (np.log2(n) + 2) * eps_of(dtype))


@pytest.mark.parametrize("dtype", DTYPES)
def test_rows_and_columns_have_the_same_bits(rng, dtype):
    for n, count in [(32, 50), (1024, 9), (1 << 14, 35)]:
        x = rng.normal(size=(count, n)).astype(dtype)
        rows = gm.fwht(x, norm="ortho")
        assert np.array_equal(rows, gm.fwht(np.ascontiguousarray(x.T), axis=0, norm="ortho").T)


@pytest.mark.parametrize("shape", [(1 << 12, 40), (1 << 15, 3), (1 << 12, 200), (6, 256, 30), (500, 8, 3), (3, 5, 64)])
def test_threads_change_no_bit_of_a_transform(rng, shape):
    x = rng.normal(size=shape)
    for axis in range(x.ndim):
        if x.shape[axis] & (x.shape[axis] - 1):
            continue
        assert len({gm.fwht(x, axis=axis, norm="ortho", n_jobs=jobs).tobytes() for jobs in (1, 2, 3, 4)}) == 1


@pytest.mark.parametrize("axis", [0, 1, 2, 3, -1])
def test_any_axis_of_any_layout(rng, axis):
    x = rng.integers(-9, 10, size=(4, 8, 2, 16)).astype(np.float32)
    expected = transforms.fwht(x, axis=axis)
    big = np.zeros((8, 16, 4, 32), dtype=np.float32)
    strided = big[::2, ::2, ::2, ::2]
    strided[...] = x
    for array in (
        x,
        np.asfortranarray(x),
        x.transpose(2, 0, 3, 1).copy().transpose(1, 3, 0, 2),
        strided,
        x[::-1][::-1],
    ):
        assert np.array_equal(gm.fwht(array, axis=axis), expected)
        out = np.full_like(array, 7.0)
        assert gm.fwht(array, axis=axis, out=out) is out
        assert np.array_equal(out, expected)
    for array in (x.copy(), np.asfortranarray(x), strided):
        assert gm.fwht(array, axis=axis, out=array) is array
        assert np.array_equal(array, expected)
    assert not big[1::2].any()
    assert not big[:, :, :, 1::2].any()


def test_overlapping_output_is_no_trap(rng):
    base = rng.integers(-9, 10, size=40).astype(np.float64)
    x, out = base[:32], base[8:]
    expected = transforms.fwht(x.copy())
    assert np.array_equal(gm.fwht(x, out=out), expected)


@pytest.mark.parametrize("length", [1, 3, 5, 100, 128])
def test_n_fills_up_or_cuts(rng, length):
    x = rng.integers(-9, 10, size=(2, length, 3)).astype(np.float64)
    for n in (1, 4, 64, 128, 256):
        expected = transforms.fwht(x, axis=1, n=n)
        assert np.array_equal(gm.fwht(x, axis=1, n=n), expected)
        out = np.empty((2, n, 3))
        assert gm.fwht(x, axis=1, n=n, out=out) is out
        assert np.array_equal(out, expected)


def test_other_types_become_the_nearest_that_holds_them():
    for dtype, kind in [("int16", "float32"), ("uint8", "float32"), ("bool", "float32"), ("float16", "float32")]:
        out = gm.fwht(np.ones(4, dtype=dtype))
        assert out.dtype == kind
        assert np.array_equal(out, [4, 0, 0, 0])
    assert gm.fwht([1, 2]).dtype == "float64"
    assert gm.fwht(np.zeros((0, 4))).shape == (0, 4)


def test_bad_transforms():
    with pytest.raises(ValueError, match=r"power of two, got 3 along axis 0.*n=4"):
        gm.fwht([1.0, 2.0, 3.0])
    with pytest.raises(ValueError, match="power of two, got 6"):
        gm.fwht(np.ones(8), n=6)
    with pytest.raises(ValueError, match="power of two, got 0"):
        gm.fwht(np.ones((2, 0)))
    with pytest.raises(ValueError, match="axis 2 is out of bounds"):
        gm.fwht(np.ones((2, 2)), axis=2)
    with pytest.raises(ValueError, match="norm"):
        gm.fwht(np.ones(4), norm="forward")
    with pytest.raises(ValueError, match="Complex"):
        gm.fwht(np.ones(4, dtype=complex))
    with pytest.raises(ValueError, match=r"out must be float64 of shape \(4,\), got float32"):
        gm.fwht(np.ones(4), out=np.ones(4, dtype=np.float32))
    with pytest.raises(TypeError, match="out must be a NumPy array"):
        gm.fwht(np.ones(4), out=[0.0] * 4)
    with pytest.raises(ValueError, match="n_jobs"):
        gm.fwht(np.ones(4), n_jobs=0)
    frozen = np.ones(4)
    frozen.flags.writeable = False
    with pytest.raises(ValueError, match="read-only"):
        gm.fwht(np.ones(4), out=frozen)
    assert np.array_equal(gm.fwht(frozen), [4, 0, 0, 0])


# --- softmax ----------------------------------------------------------------------------------------------------------


def softmax_in(passes, x, what="softmax", subnormals=False, n_jobs=None):
    """Rows of x by the algorithm that is asked for."""
    return ours._softmax(x, -1, None, what, subnormals, n_jobs, passes)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("passes", [2, 3])
@pytest.mark.parametrize("reach", [1.0, 30.0, 1e3, 1e4])
def test_softmax_within_the_bound(rng, reach, passes, dtype):
    for size in (1, 2, 15, 16, 17, 1000, 4096, 4097, 30_000):
        x = (rng.random((3, size)) * 2 - 1) * reach
        x = x.astype(dtype)
        tiny = float(np.finfo(dtype).tiny)
        expected, relative = transforms.softmax(x), softmax_bound(dtype)
        found = softmax_in(passes, x)
        assert (np.abs(found - expected) <= relative * expected + tiny * (expected < 1.001 * tiny)).all()
        assert (np.abs(found.astype(np.float64).sum(axis=1) - 1) <= 1e-6).all()
        assert (found[expected < 0.999 * tiny] == 0).all()
        log = softmax_in(passes, x, "log_softmax")
        exact = transforms.log_softmax(x)
        assert (np.abs(log - exact) <= relative + 2 * eps_of(dtype) * np.abs(exact)).all()
    wrong = expected * (1 + 3 * relative)
    assert not (np.abs(found - wrong) <= relative * wrong + tiny * (wrong < tiny)).all()


@pytest.mark.parametrize("dtype", DTYPES)
def test_sums_stay_accurate_at_any_length(rng, dtype):
    """The running sums of one type lose 3e-4 at 2**26 entries; ours must keep 1e-6 (1e-13 in float64)."""
    n = 1 << 22
    x = rng.normal(size=n).astype(dtype)
    total = np.exp(x.astype(np.longdouble)).sum()
    for passes in (2, 3):
        found = softmax_in(passes, x[np.newaxis])[0]
        expected = np.exp(x.astype(np.longdouble)) / total
        assert float(np.abs(found / expected - 1).max()) < (1e-6 if dtype == "float32" else 5e-15)
    naive = np.exp(x.astype(np.float32)).cumsum()[-1]
    assert abs(float(naive / total) - 1) > 1e-6  # the bar that a running sum does not reach


def test_sums_down_columns_stay_accurate_at_any_length(rng):
    """As along rows: a running sum of a million terms in double would be a hundred units off."""
    for n in (100_000, 1 << 20):
        x = rng.normal(size=(n, 3))
        terms = np.exp(x.astype(np.longdouble))
        expected = terms / terms.sum(axis=0)
        for columns in (x, np.asfortranarray(x)):
            found = gm.softmax(columns, axis=0)
            assert float(np.abs(found / expected - 1).max()) < 4 * eps_of("float64")
        log_sum = gm.logsumexp(x, axis=0)
        assert np.abs(log_sum - np.log(terms.sum(axis=0))).max() < 4 * eps_of("float64") * np.abs(log_sum).max()
    running = terms.astype(np.float64).cumsum(axis=0)[-1]
    assert np.abs(running / terms.sum(axis=0) - 1).max() > 4 * eps_of("float64")


@pytest.mark.parametrize("dtype", DTYPES)
def test_log_sums(rng, dtype):
    for reach in (1.0, 1e4):
        x = ((rng.random((4, 5, 6)) * 2 - 1) * reach).astype(dtype)
        for axis in range(3):
            expected = transforms.logsumexp(x, axis)
            found = gm.logsumexp(x, axis=axis)
            assert found.dtype == dtype
            bound = eps_of(dtype) * (24 + 3 * np.abs(expected) + 2 * reach)
            assert (np.abs(found - expected) <= bound).all()
            kept = gm.logsumexp(x, axis=axis, keepdims=True)
            assert kept.shape == tuple(1 if k == axis else size for k, size in enumerate(x.shape))
            assert np.array_equal(kept.squeeze(axis), found)
            out = np.empty_like(found)
            assert gm.logsumexp(np.asfortranarray(x), axis=axis, out=out) is out
            np.testing.assert_allclose(out, found, rtol=4 * eps_of(dtype))
    assert np.ndim(gm.logsumexp(np.zeros(4))) == 0


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("columns", [False, True])
def test_limits(dtype, columns):
    inf, nan = np.inf, np.nan
    far = float(np.finfo(dtype).max)

    def each(call, row):
        x = np.array(row, dtype=dtype)
        return call(np.repeat(x[:, np.newaxis], 3, axis=1), axis=0)[..., 1] if columns else call(x)

    def check(row, softmax, log_softmax, logsumexp):
        np.testing.assert_array_equal(each(gm.softmax, row), np.array(softmax, dtype=dtype))
        np.testing.assert_array_equal(each(gm.log_softmax, row), np.array(log_softmax, dtype=dtype))
        np.testing.assert_array_equal(each(gm.logsumexp, row), np.array(logsumexp, dtype=dtype))
        if not columns:
            x = np.array([row], dtype=dtype)
            close = {"rtol": 4 * eps_of(dtype), "atol": 4 * eps_of(dtype)}
            np.testing.assert_allclose(softmax_in(2, x)[0], softmax, **close)
            np.testing.assert_allclose(softmax_in(2, x, "log_softmax")[0], log_softmax, **close)

    check([3.0], [1.0], [0.0], 3.0)
    check([0.0, -inf], [1.0, 0.0], [0.0, -inf], 0.0)
    check([-inf, -inf], [nan, nan], [nan, nan], -inf)
    check([1.0, inf, 0.0], [nan] * 3, [nan] * 3, inf)
    check([inf, -inf, inf], [nan] * 3, [nan] * 3, inf)
    check([1.0, nan], [nan, nan], [nan, nan], nan)
    check([nan, inf], [nan, nan], [nan, nan], nan)
    check([nan, -inf], [nan, nan], [nan, nan], nan)
    check([far, -far], [1.0, 0.0], [0.0, -inf], far)


@pytest.mark.parametrize("dtype", DTYPES)
def test_equal_entries_are_exactly_even(dtype):
    for n in (1, 3, 7, 100, 4096, 5000, 70_000):
        for value in (0.0, 1.5, -1000.0):
            x = np.full((2, n), value, dtype=dtype)
            assert (gm.softmax(x) == np.dtype(dtype).type(1) / np.dtype(dtype).type(n)).all()
            two = softmax_in(2, x)
            assert (np.abs(two * n - 1) <= 8 * eps_of(dtype)).all()


@pytest.mark.parametrize("dtype", DTYPES)
def test_values_out_of_the_reach_of_two_passes_take_three(dtype):
    """2.2e4 in float32: beyond it the reduction of the two-pass algorithm would be wrong."""
    reach = 2.3e4 if dtype == "float32" else 8e5
    x = np.array([[reach, reach - 1, reach - 3, -reach]], dtype=dtype)
    assert np.array_equal(softmax_in(2, x), softmax_in(3, x))
    long = np.tile(x, 40_000)
    assert np.array_equal(softmax_in(2, long), softmax_in(3, long))
    low = np.array([[-reach, 0.0, -2 * reach]], dtype=dtype)  # low values beside a near one are no trouble
    assert np.array_equal(softmax_in(2, low), [[0.0, 1.0, 0.0]])


def test_results_below_the_normal_numbers():
    for dtype, low in (("float32", -90.0), ("float64", -712.0)):
        x = np.array([[0.0, low, 2 * low]], dtype=dtype)
        expected = np.exp(x.astype(np.longdouble))
        for passes in (2, 3):
            assert np.array_equal(softmax_in(passes, x), [[1.0, 0.0, 0.0]])
            kept = softmax_in(passes, x, subnormals=True)
            assert kept[0, 1] > 0
            least = float(np.finfo(dtype).smallest_subnormal)
            assert np.abs(kept - expected).max() <= 2 * least + 100 * eps_of(dtype) * float(expected[0, 1])
        assert gm.softmax(x.T, axis=0, subnormals=True)[1, 0] > 0


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("size", [10, 1000, 5000, 200_000])
def test_the_order_of_values_and_rows(rng, size, dtype):
    """Rows in another order: the same bits. Values in another order: the sum has another order, so two bounds; values
    keep their rank; a shift that is exact changes nothing."""
    x = rng.normal(size=(4, size)).astype(dtype)
    for passes in (2, 3):
        found = softmax_in(passes, x)
        order = rng.permutation(4)
        assert np.array_equal(softmax_in(passes, x[order]), found[order])
        assert np.array_equal(softmax_in(passes, x[1:2]), found[1:2])
        places = rng.permutation(size)
        np.testing.assert_allclose(
            softmax_in(passes, np.ascontiguousarray(x[:, places])), found[:, places], rtol=24 * eps_of(dtype)
        )
        ranked = np.argsort(x[0], kind="stable")
        assert (np.diff(found[0][ranked]) >= 0).all()
    coarse = np.round(x * 64) / 64
    assert np.array_equal(softmax_in(3, coarse + 8), softmax_in(3, coarse))
    np.testing.assert_allclose(softmax_in(2, coarse + 8), softmax_in(2, coarse), rtol=24 * eps_of(dtype))


@pytest.mark.parametrize("passes", [0, 2, 3])
@pytest.mark.parametrize("shape", [(1000, 33), (7, 5000), (2, 300_000), (40, 12, 9)])
def test_threads_change_no_bit_of_softmax(rng, shape, passes):
    x = rng.normal(size=shape).astype(np.float32)
    for what in ("softmax", "log_softmax"):
        assert len({softmax_in(passes, x, what, n_jobs=jobs).tobytes() for jobs in (1, 2, 3, 4)}) == 1
    for axis in range(x.ndim):
        assert len({gm.softmax(x, axis=axis, n_jobs=jobs).tobytes() for jobs in (1, 2, 3)}) == 1
        assert len({gm.logsumexp(x, axis=axis, n_jobs=jobs).tobytes() for jobs in (1, 2, 3)}) == 1


@pytest.mark.parametrize("axis", [0, 1, 2, -1])
@pytest.mark.parametrize("dtype", DTYPES)
def test_softmax_along_any_axis_of_any_layout(rng, axis, dtype):
    x = rng.normal(size=(5, 7, 70)).astype(dtype)
    expected, bound = transforms.softmax(x, axis), softmax_bound(dtype)
    strided = np.zeros((10, 14, 140), dtype=dtype)[::2, ::2, ::2]
    strided[...] = x
    for array in (x, np.asfortranarray(x), x.transpose(1, 0, 2).copy().transpose(1, 0, 2), strided):
        assert (np.abs(gm.softmax(array, axis=axis) - expected) <= bound * expected).all()
        out = np.full_like(array, 7.0)
        assert gm.softmax(array, axis=axis, out=out) is out
        assert (np.abs(out - expected) <= bound * expected).all()
        logs = gm.log_softmax(array, axis=axis)
        assert (np.abs(logs - np.log(expected)) <= bound + 2 * eps_of(dtype) * np.abs(np.log(expected))).all()
    for array in (x.copy(), np.asfortranarray(x), strided):
        assert gm.softmax(array, axis=axis, out=array) is array
        assert (np.abs(array - expected) <= bound * expected).all()


def test_large_outputs_go_past_the_caches(rng):
    """Rows at every offset from a cache line, in an output that no cache holds."""
    x = rng.normal(size=(13_001, 999)).astype(np.float32)
    found = gm.softmax(x)
    assert np.array_equal(found[:300], gm.softmax(x[:300]))
    assert np.array_equal(found[-300:], gm.softmax(x[-300:]))
    short = rng.normal(size=(3_000_001, 5)).astype(np.float32)
    assert np.array_equal(gm.softmax(short)[-1000:], gm.softmax(short[-1000:]))


def test_types_and_empty_arrays():
    assert gm.softmax(np.zeros(4, dtype=np.float16)).dtype == np.float32
    assert gm.softmax([1, 1]).dtype == np.float64
    assert gm.softmax(np.zeros((0, 3))).shape == (0, 3)
    assert gm.logsumexp(np.zeros((0, 3))).shape == (0,)
    for call in (gm.softmax, gm.log_softmax, gm.logsumexp):
        with pytest.raises(ValueError, match="no entries along axis 1"):
            call(np.zeros((3, 0)))
        with pytest.raises(ValueError, match="out of bounds"):
            call(np.zeros(3), axis=1)
        with pytest.raises(TypeError, match="axis must be an integer"):
            call(np.zeros(3), axis=None)
        with pytest.raises(ValueError, match="Complex"):
            call(np.zeros(3, dtype=complex))
        with pytest.raises(ValueError, match="out must be"):
            call(np.zeros((3, 3)), out=np.zeros((3, 4)))


def test_the_compiled_functions_refuse_what_does_not_fit():
    x = np.zeros((2, 4, 3))
    with pytest.raises(ValueError, match="three dimensions"):
        _core.fwht(x[0], x[0], 1.0, 1)
    with pytest.raises(ValueError, match="differ in shape"):
        _core.fwht(x, np.zeros((2, 2, 3)), 1.0, 1)
    with pytest.raises(ValueError, match="power of two"):
        _core.fwht(np.zeros((2, 3, 1)), np.zeros((2, 3, 1)), 1.0, 1)
    with pytest.raises(TypeError, match="float32"):
        _core.softmax(x, x.astype(np.float32), "softmax", False, 0, 1)
    with pytest.raises(ValueError, match="does not fit"):
        _core.softmax(x, x[:1], "softmax", False, 0, 1)
    with pytest.raises(ValueError, match="passes"):
        _core.softmax(np.zeros((2, 3, 1)), np.zeros((2, 3, 1)), "softmax", False, 5, 1)
