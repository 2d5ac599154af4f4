"""Sketched gradients: the law of the rounds, exact moments, safe steps, noise, accounts, and what is given away."""

import copy
import math
import pickle

import numpy as np
import pytest
from reference_path import federated as dense_reference
from reference_path import federated_sketches as reference

from gramian import _core
from gramian.federated import GaussianMechanism, PrivacyAccountant, VectorCodec, gaussian_sigma
from gramian.gradient_sketch import (
    ErrorFeedback,
    GradientMechanism,
    GradSketch,
    reconstruct_gradient,
    reconstruct_sample,
    sketched_descent,
)

stats = pytest.importorskip("scipy.stats")

EPS = np.finfo(np.float64).eps
KINDS = ("srht", "hdhd", "dct", "gaussian", "rademacher", "sparse_sign", "count_sketch")
ORTHOGONAL = ("srht", "hdhd", "dct")
SHAPES = ((1, 1), (3, 2), (37, 5), (64, 16), (100, 64))


def matrix_of(sketch, number):
    nnz = {"nnz": sketch.nnz} if sketch.kind == "sparse_sign" else {}
    return reference.matrix(sketch.kind, sketch.n_sketch, sketch.n_params, sketch.seed, number, **nnz)


def quadratic(d=64, seed=0, condition=10.0, clients=4):
    """Clients with losses (x - c)'H(x - c) / 2: the mean gradient, L, mu, the optimum and the excess loss."""
    rng = np.random.default_rng(seed)
    basis = np.linalg.qr(rng.normal(size=(d, d)))[0]
    H = (basis * np.geomspace(1.0, condition, d)) @ basis.T
    centres = rng.normal(size=(clients, d))
    gradients = [lambda x, c=c: H @ (x - c) for c in centres]
    best = centres.mean(axis=0)
    return gradients, condition, 1.0, best, lambda x: (x - best) @ H @ (x - best) / 2


# --- the operator ----------------------------------------------------------------------------------------------------


def test_seeds_of_rounds():
    """mix(seed + t * golden ratio); mix(0) is a known answer of the frozen law, and so round 0 of seed 0."""
    assert _core.round_seed(0, 0) == 0xE220A8397B1DCDAF
    for seed in (0, 7, 12345, 2**64 - 1):
        for number in (0, 1, 5, 2**40, 2**64 - 1):
            assert _core.round_seed(seed, number) == reference.round_seed(seed, number)
    sketch = GradSketch(40, 8, seed=2**64 - 1)
    assert sketch.sketch(3).seed == reference.round_seed(2**64 - 1, 3)
    assert len({sketch.sketch(t).seed for t in range(100)}) == 100


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("shape", SHAPES)
def test_encode_and_decode_are_the_matrix(kind, shape, rng):
    d, s = shape
    sketch = GradSketch(d, s, kind, seed=11)
    for number in (0, 9):
        R = matrix_of(sketch, number)
        gradients, sketches = rng.normal(size=(3, d)), rng.normal(size=(4, s))
        size = 20 * EPS * max(d, s) * np.linalg.norm(R)
        sent = sketch.encode(gradients, number)
        assert sent.dtype == np.float64 and sent.shape == (3, s)
        assert np.abs(sent - reference.encode(R, gradients)).max() <= size * np.linalg.norm(gradients)
        back = sketch.decode(sketches, number)
        assert np.abs(back - sketches @ R).max() <= size * np.linalg.norm(sketches)
        assert np.abs(sketch.encode(gradients[1], number) - sent[1]).max() <= size * np.linalg.norm(gradients)
        assert np.abs(sketch.decode(sketches[2], number) - back[2]).max() <= size * np.linalg.norm(sketches)
        assert np.array_equal(sketch.sketch(number).materialise(), sketch.sketch(number).materialise())
        assert np.abs(sketch.sketch(number).materialise() - R).max() <= 4 * EPS * np.abs(R).max()
    other = matrix_of(sketch, 10)
    if d > 2:  # a wrong round is another matrix
        assert np.abs(sketch.encode(gradients, 9) - reference.encode(other, gradients)).max() > 0.01


def test_types_and_layouts(rng):
    sparse = pytest.importorskip("scipy.sparse")
    gradients = rng.normal(size=(5, 70))
    gradients[gradients < 0.5] = 0.0
    for kind in KINDS:
        sketch = GradSketch(70, 12, kind)
        whole = sketch.encode(gradients, 1)
        assert np.allclose(sketch.encode(sparse.csr_matrix(gradients), 1), whole, rtol=0, atol=1e-12)
        assert np.array_equal(sketch.encode(np.asfortranarray(gradients), 1), whole)
        assert np.allclose(sketch.encode(gradients.tolist(), 1), whole, rtol=0, atol=1e-12)
        narrow = sketch.encode(gradients.astype(np.float32), 1)
        assert narrow.dtype == np.float32
        assert np.abs(narrow - whole).max() <= 100 * np.finfo(np.float32).eps * np.linalg.norm(gradients)
        assert sketch.encode(gradients, 1, dtype="float32").dtype == np.float32
        assert sketch.decode(narrow, 1).dtype == np.float32
        assert sketch.decode(narrow, 1, dtype="float64").dtype == np.float64


@pytest.mark.parametrize("kind", KINDS)
def test_bits_do_not_depend_on_threads_or_company(kind, rng):
    gradients = rng.normal(size=(9, 300))
    one = GradSketch(300, 40, kind, seed=3, n_jobs=1)
    many = GradSketch(300, 40, kind, seed=3, n_jobs=4)
    sent = one.encode(gradients, 5)
    assert np.array_equal(sent, many.encode(gradients, 5))
    assert np.array_equal(one.decode(sent, 5), many.decode(sent, 5))
    for copied in (pickle.loads(pickle.dumps(one)), copy.deepcopy(one)):
        assert np.array_equal(copied.encode(gradients, 5), sent)
        assert repr(copied) == repr(one)


# --- moments ---------------------------------------------------------------------------------------------------------

SMALL = [
    ("gaussian", 3, 1, 1),
    ("gaussian", 2, 2, 1),
    ("rademacher", 3, 2, 1),
    ("count_sketch", 3, 3, 1),
    ("sparse_sign", 3, 3, 2),
    ("sparse_sign", 2, 4, 2),
    ("srht", 1, 1, 1),
    ("srht", 3, 2, 1),
    ("srht", 3, 3, 1),
    ("srht", 4, 2, 1),
    ("hdhd", 2, 1, 1),
    ("hdhd", 3, 2, 1),
    ("hdhd", 3, 3, 1),
    ("hdhd", 4, 2, 1),
    ("dct", 3, 2, 1),
    ("dct", 4, 3, 1),
]


@pytest.mark.parametrize(("kind", "d", "s", "nnz"), SMALL)
def test_second_moment_is_the_sum_over_all_draws(kind, d, s, nnz):
    g = np.array([1.0, -2.0, 0.5, 3.0])[:d]
    expected, mean = reference.second_moment(kind, s, d, g, nnz)
    assert GradSketch(d, s, kind, nnz=nnz).second_moment_ == pytest.approx(expected, rel=1e-12)
    assert np.abs(mean - g).max() <= 1e-12


TABLE = {
    "gaussian": 1 + 513 / 32,
    "rademacher": 1 + 511 / 32,
    "count_sketch": 1 + 511 / 32,
    "sparse_sign": 1 + 511 / 32,
    "srht": 16.0,
    "hdhd": 16.0,
    "dct": 16.0,
}


def sampled_moments(kind, d, s, draws, g):
    sketch = GradSketch(d, s, kind, seed=5)
    images = np.array([sketch.decode(sketch.encode(g, t), t) for t in range(draws)])
    return sketch, images


@pytest.mark.parametrize("kind", KINDS)
def test_moments_of_the_rounds(kind, rng):
    """3,000 rounds at d=512, s=32: no bias in any coordinate, and the second moment within 4 standard errors."""
    d, s, draws = 512, 32, 3000
    g = rng.normal(size=d)
    sketch, images = sampled_moments(kind, d, s, draws, g)
    assert sketch.second_moment_ == pytest.approx(TABLE[kind], rel=1e-12)
    squares = (images**2).sum(axis=1) / (g @ g)
    error = squares.std(ddof=1) / math.sqrt(draws)
    assert abs(squares.mean() - sketch.second_moment_) <= 4 * error
    assert abs(squares.mean() - 2 * sketch.second_moment_) > 10 * error  # a wrong table is seen
    z = (images.mean(axis=0) - g) / (images.std(axis=0, ddof=1) / math.sqrt(draws))
    assert np.abs(z).max() <= stats.norm.isf(1e-4 / (2 * d))  # union bound over the coordinates
    stuck = images[:1].repeat(draws, axis=0) + 1e-3 * rng.normal(size=images.shape)  # one R for all rounds: biased
    z = (stuck.mean(axis=0) - g) / (stuck.std(axis=0, ddof=1) / math.sqrt(draws))
    assert np.abs(z).max() > 50


@pytest.mark.parametrize("kind", ["srht", "hdhd", "dct", "sparse_sign"])
def test_moments_off_the_powers_of_two(kind, rng):
    g = rng.normal(size=300)
    sketch, images = sampled_moments(kind, 300, 50, 2000, g)
    squares = (images**2).sum(axis=1) / (g @ g)
    assert abs(squares.mean() - sketch.second_moment_) <= 4 * squares.std(ddof=1) / math.sqrt(2000)


@pytest.mark.parametrize("kind", KINDS)
def test_norm_bound(kind):
    for d, s in ((64, 16), (100, 30), (5, 5)):
        sketch = GradSketch(d, s, kind, seed=1)
        bound = sketch.norm_bound_
        if kind not in ORTHOGONAL:
            assert bound == math.inf
            continue
        norms = [np.linalg.norm(sketch.sketch(t).materialise(), 2) for t in range(8)]
        assert max(norms) <= bound * (1 + 1e-12)
        if kind == "dct" or d == 64:
            assert min(norms) >= bound * (1 - 1e-12)
            assert sketch.second_moment_ == pytest.approx(bound**2, rel=1e-12)


# --- steps -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["srht", "gaussian", "count_sketch"])
def test_descent_at_the_step_of_the_rule(kind):
    """Mean excess loss below the proved rate, against plain descent, and the optimum in the end."""
    clients, L, mu, best, excess = quadratic()
    start = np.zeros(64)
    sketch = GradSketch(64, 16, kind)
    step = sketch.step_size(L)
    assert step == pytest.approx(1 / (L * sketch.second_moment_))
    rounds, ends = 60, []
    for seed in range(30):
        found = sketched_descent(clients, start, GradSketch(64, 16, kind, seed=seed), n_rounds=rounds, smoothness=L)
        ends.append(excess(found.x))
        assert found.step == step and found.n_rounds == rounds and found.numbers_sent == 16 * rounds
    rate = 1 - mu / (L * sketch.second_moment_)
    error = np.std(ends, ddof=1) / math.sqrt(len(ends))
    assert np.mean(ends) <= rate**rounds * excess(start) + 4 * error
    mean_gradient = lambda x: np.mean([client(x) for client in clients], axis=0)  # noqa: E731
    plain = excess(reference.descent(mean_gradient, start, 1 / L, rounds, None))
    assert plain < np.mean(ends)  # what the short messages cost in rounds
    long = sketched_descent(clients, start, sketch, n_rounds=1500, smoothness=L)
    assert np.linalg.norm(long.x - best) <= 1e-6 * np.linalg.norm(best)
    if kind == "srht":
        same = reference.descent(mean_gradient, start, step, 40, lambda t: matrix_of(sketch, t))
        short = sketched_descent(clients, start, sketch, n_rounds=40, smoothness=L)
        assert np.abs(short.x - same).max() <= 1e-11 * np.abs(same).max()


def test_exact_rate_on_a_round_bowl():
    """E |x_t|^2 = (1 - 2 a + a^2 second moment)^t |x_0|^2 for the loss |x|^2 / 2 at step a."""
    d, s, rounds, seeds = 32, 8, 5, 400
    for kind in ("srht", "gaussian"):
        step = GradSketch(d, s, kind).step_size(1.0)
        ends = []
        for seed in range(seeds):
            sketch = GradSketch(d, s, kind, seed=seed)
            x = np.ones(d)
            for t in range(rounds):
                x = x - step * sketch.decode(sketch.encode(x, t), t)
            ends.append(x @ x / d)
        expected = (1 - 1 / GradSketch(d, s, kind).second_moment_) ** rounds
        assert abs(np.mean(ends) - expected) <= 4 * np.std(ends, ddof=1) / math.sqrt(seeds)


def lengths(step, rounds, fixed=False, d=64, s=8):
    sketch, x, out = GradSketch(d, s, seed=2), np.ones(d), []
    for t in range(rounds):
        number = 0 if fixed else t
        x = x - step * sketch.decode(sketch.encode(x, number), number)
        out.append(math.sqrt(x @ x))
    return np.array(out), x


def test_too_long_a_step_diverges():
    """|x|^2 falls by (2 a - a^2) |P x|^2, a = step times d / s: up in every single round as soon as a > 2."""
    rule = GradSketch(64, 8).step_size(1.0)
    for factor, down in ((1.0, True), (1.9, True), (2.1, False), (8.0, False)):  # 8: the step of plain descent, 1 / L
        way, _ = lengths(factor * rule, 100)
        steps = np.diff(np.concatenate([[8.0], way]))
        assert (steps < 0).all() if down else (steps > 0).all()
    assert lengths(rule, 200)[0][-1] < 1e-4 * 8.0
    assert lengths(8.0 * rule, 100)[0][-1] > 1e6 * 8.0


def test_one_sketch_for_all_rounds_never_arrives():
    """With the same R nothing outside its s rows ever changes: what is left is the start's part there, exactly."""
    rule = GradSketch(64, 8).step_size(1.0)
    way, x = lengths(rule, 400, fixed=True)
    R = matrix_of(GradSketch(64, 8, seed=2), 0)
    rest = np.ones(64) - R.T @ np.linalg.solve(R @ R.T, R @ np.ones(64))
    assert np.abs(x - rest).max() <= 1e-12
    assert way[-1] == pytest.approx(np.linalg.norm(rest))
    assert way[-1] > 0.8 * 8.0 and lengths(rule, 400)[0][-1] < 1e-8


def test_local_steps():
    clients, L, _, best, excess = quadratic(clients=1)
    sketch = GradSketch(64, 16)
    assert sketch.step_size(L, 5) == pytest.approx(1 / (L * 5 * (1 + sketch.second_moment_)))
    ends = [excess(np.zeros(64))]
    sketched_descent(
        clients, np.zeros(64), sketch, n_rounds=300, smoothness=L, local_steps=5,
        callback=lambda made, x: ends.append(excess(x)) or False,
    )  # fmt: skip
    assert len(ends) == 301 and ends[-1] < 1e-3 * ends[0]
    stopped = sketched_descent(clients, best, sketch, n_rounds=9, step=1e-9, callback=lambda made, x: made == 4)
    assert stopped.n_rounds == 4


# --- aggregation -----------------------------------------------------------------------------------------------------


def test_totals_are_the_same_bits_in_any_order(rng):
    sketch = GradSketch(200, 24, seed=8)
    gradients = rng.normal(size=(50, 200)) * np.exp(3 * rng.normal(size=(50, 1)))
    sent = sketch.encode(gradients, 3)
    codec = VectorCodec(24, n_clients=50)
    results = []
    for seed in range(5):
        total = codec.zeros()
        for k in np.random.default_rng(seed).permutation(50):
            codec.add(total, codec.encode(sent[k]))
        results.append(codec.decode(total))
        for k in (7, 3):
            codec.remove(total, codec.encode(sent[k]))
        results[-1] = np.concatenate([results[-1], codec.decode(total)])
    assert all(np.array_equal(results[0], other) for other in results)
    # Floating-point sums in two orders are not the same bits: there was something to win.
    assert not np.array_equal(sent.sum(axis=0), sent[::-1].cumsum(axis=0)[-1])
    mean = results[0][:24] / 50
    bound = 24 * EPS * 200 * np.abs(gradients).sum(axis=0).max()
    assert np.abs(mean - sketch.encode(gradients.mean(axis=0), 3)).max() <= bound
    decoded = sketch.decode(mean, 3)
    assert np.abs(decoded - sketch.decode(sent, 3).mean(axis=0)).max() <= 10 * bound


@pytest.mark.parametrize("kind", ["rademacher", "count_sketch", "srht"])
def test_whole_numbers_add_up_exactly(kind, rng):
    """Sums of sketches are the sketch of the sum, bit for bit, where all numbers are whole and scales powers of two."""
    sketch = GradSketch(256, 64, kind, seed=4)
    gradients = rng.integers(-1000, 1000, size=(30, 256)).astype(np.float64)
    sent = sketch.encode(gradients, 2)
    assert np.array_equal(sent.sum(axis=0), sketch.encode(gradients.sum(axis=0), 2))
    codec = VectorCodec(64, n_clients=30)
    total = codec.zeros()
    for row in sent:
        codec.add(total, codec.encode(row))
    assert np.array_equal(codec.decode(total), sent.sum(axis=0))


def test_codec_of_vectors():
    codec = VectorCodec(3, n_clients=2, fraction_bits=40)
    secrets = {1: b"s" * 16}
    masked = codec.mask(codec.encode([1.0, -2.5, 0.125]), 0, secrets)
    other = codec.mask(codec.encode([0.5, 0.5, 0.5]), 1, {0: secrets[1]})
    assert not np.array_equal(masked, codec.encode([1.0, -2.5, 0.125]))
    assert np.array_equal(codec.decode(codec.add(masked, other)), [1.5, -2.0, 0.625])
    for wrong, message in (([1.0, 2.0], "shape"), ([1.0, np.nan, 0.0], "NaN"), ([1e30, 0.0, 0.0], "too large")):
        with pytest.raises(ValueError, match=message):
            codec.encode(wrong)
    with pytest.raises(ValueError, match="size"):
        VectorCodec(0, 1)
    with pytest.raises(ValueError, match="total"):
        codec.decode(np.zeros((2, 2), dtype=np.uint64))


def test_order_of_clients_does_not_matter():
    clients, L, _, _, _ = quadratic(clients=7)
    sketch = GradSketch(64, 16)
    for feedback in (False, True):
        found = [
            sketched_descent(order, np.zeros(64), sketch, n_rounds=20, smoothness=L, error_feedback=feedback).x
            for order in (clients, clients[::-1])
        ]
        assert np.array_equal(*found)


# --- error feedback --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
def test_error_feedback_loses_nothing(kind, rng):
    sketch = GradSketch(60, 12, kind)
    client = ErrorFeedback(sketch)
    gradients = rng.normal(size=(25, 60))
    got = np.zeros(60)
    for t, g in enumerate(gradients):
        got += sketch.decode(client.encode(g, t), t)
    size = np.abs(gradients).sum() * sketch.second_moment_
    assert np.abs(got + client.residual_ - gradients.sum(axis=0)).max() <= 100 * EPS * size


def test_error_feedback_is_a_contraction(rng):
    v = rng.normal(size=64)
    for kind in ("srht", "gaussian", "count_sketch"):
        sketch, left = GradSketch(64, 16, kind), []
        for t in range(1500):
            client = ErrorFeedback(sketch)
            client.encode(v, t)
            left.append(client.residual_ @ client.residual_ / (v @ v))
        error = np.std(left, ddof=1) / math.sqrt(len(left))
        assert abs(np.mean(left) - (1 - 1 / sketch.second_moment_)) <= 4 * error


def test_error_feedback_arrives():
    clients, L, _, best, excess = quadratic()
    sketch = GradSketch(64, 16)
    found = sketched_descent(
        clients, np.zeros(64), sketch, n_rounds=1500, step=sketch.step_size(L), error_feedback=True
    )
    assert np.linalg.norm(found.x - best) <= 1e-6 * np.linalg.norm(best)


# --- clipping, noise, accounts ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
def test_clipping(dtype, rng):
    sketch = GradSketch(128, 128)  # orthogonal: lengths survive
    gradients = (rng.normal(size=(40, 128)) * np.geomspace(1e-3, 1e3, 40)[:, np.newaxis]).astype(dtype)
    sent = sketch.encode(gradients, 0, clip=2.0)
    long = np.linalg.norm(gradients.astype(np.float64), axis=1)
    found = np.linalg.norm(sent.astype(np.float64), axis=1)
    slack = 50 * np.finfo(dtype).eps
    assert np.abs(found - np.minimum(long, 2.0)).max() <= 2 * slack
    cut = long > 2
    whole = sketch.encode(gradients, 0)
    assert np.allclose(sent[cut] / found[cut, None], whole[cut] / long[cut, None], rtol=0, atol=slack)
    assert np.array_equal(sent[long < 2], sketch.encode(gradients[long < 2], 0))
    assert 5 < cut.sum() < 35


@pytest.mark.parametrize("size", [1e-310, 1e-200, 1e-170, 1e160, 1e300])
def test_clipping_at_any_size(size, rng):
    """Squares of such gradients are 0 or infinity in float64; what is sent is no longer than the bound all the same."""
    sketch = GradSketch(128, 128)
    gradients = rng.normal(size=(3, 128))
    gradients *= size / np.linalg.norm(gradients, axis=1, keepdims=True)
    bound = size * 1e-6 if size > 1e-300 else size / 2
    sent = sketch.encode(gradients, 0, clip=bound)
    whole = sketch.encode(gradients, 0)
    power = -np.frexp(bound)[1]  # exact, and lengths of what it leaves are in range
    found = np.linalg.norm(np.ldexp(sent, power), axis=1) / np.ldexp(bound, power)
    loss = 5e-324 * 128 / bound  # of the last bits of subnormal numbers
    assert (found <= 1 + 1e-14 + loss).all() and (found >= 1 - 1e-13 - loss).all()
    assert np.array_equal(sketch.encode(gradients, 0, clip=min(2 * size, 1e308)), whole)
    with pytest.raises(ValueError, match="overflow"):
        sketch.encode(np.full((2, 128), 1.7e308), 0, clip=1.0)


def test_clipping_of_long_float32_gradients_keeps_the_bound(rng):
    """One float32 factor for a row of 1e35 would have few digits: the bound would be missed by 1e-5 of it."""
    sketch = GradSketch(128, 128)
    gradients = rng.normal(size=(20, 128)).astype(np.float32)
    gradients *= np.geomspace(1e30, 1e36, 20, dtype=np.float32)[:, np.newaxis]
    found = np.linalg.norm(sketch.encode(gradients, 0, clip=1e-5).astype(np.float64), axis=1)
    assert np.abs(found / 1e-5 - 1).max() <= 50 * np.finfo(np.float32).eps


@pytest.mark.parametrize("place", ["sketch", "gradient"])
@pytest.mark.parametrize("kind", ORTHOGONAL)
def test_noise_is_that_of_the_law(place, kind, rng):
    sketch = GradSketch(50, 20, kind, seed=6)
    gradients = rng.normal(size=(3, 50))
    mechanism = GradientMechanism(1.0, 1e-6, clip=1.5, place=place)
    sent = sketch.encode(gradients, 4, mechanism=mechanism, noise_seed=99)
    R, deviation = matrix_of(sketch, 4), mechanism.deviation(sketch)
    expected = reference.encode(R, gradients, 1.5, place, deviation, 99)
    assert np.abs(sent - expected).max() <= 1e-11 * np.abs(expected).max()
    parts = sketch.encode(gradients, 4, mechanism=mechanism, n_clients=4, noise_seed=99)
    clean = sketch.encode(gradients, 4, clip=1.5)
    assert np.allclose(parts - clean, (sent - clean) / 2, rtol=0, atol=1e-10 * deviation)
    assert not np.array_equal(sketch.encode(gradients, 4, mechanism=mechanism), sent)  # from the system's entropy
    total = sketch.privatize(clean.sum(axis=0), 4, mechanism, noise_seed=99)
    assert np.allclose(total - clean.sum(axis=0), (sent - clean)[0], rtol=0, atol=1e-10 * deviation)


def test_noise_is_normal():
    """Kolmogorov and Smirnov on 40,000 numbers; the same numbers fail against another deviation."""
    sketch = GradSketch(64, 64, "dct")
    mechanism = GradientMechanism(2.0, 1e-5, clip=1.0)
    sent = sketch.encode(np.zeros((625, 64)), 0, mechanism=mechanism, noise_seed=1).ravel()
    deviation = mechanism.deviation(sketch)
    assert stats.kstest(sent / deviation, "norm").pvalue > 1e-3
    assert stats.kstest(sent / (1.05 * deviation), "norm").pvalue < 1e-3
    lagged = np.corrcoef(sent[:-1], sent[1:])[0, 1]
    assert abs(lagged) <= 4 / math.sqrt(sent.size)


def test_noise_that_would_not_be_normal_is_refused(rng):
    sketch, g = GradSketch(64, 64), rng.normal(size=64)
    for dtype, clip in (("float32", 1e-33), ("float64", 1e-294)):
        mechanism = GradientMechanism(1.0, 1e-5, clip=clip)
        with pytest.raises(ValueError, match="too small"):
            sketch.encode(g, 0, mechanism=mechanism, dtype=dtype)
        good = GradientMechanism(1.0, 1e-5, clip=1e6 * clip)
        noise = sketch.encode(np.zeros(64), 0, mechanism=good, noise_seed=1, dtype=dtype)
        assert len(np.unique(noise)) == 64
        assert np.isfinite(noise).all() and noise.std() == pytest.approx(good.deviation(sketch), rel=0.4)


def test_deviation_of_the_noise():
    sketch = GradSketch(100, 32)  # padded to 128: |R| = 2 at most
    for rounds in (1, 9):
        mechanism = GradientMechanism(0.7, 1e-6, clip=3.0, rounds=rounds)
        sigma = math.sqrt(rounds) * dense_reference.gaussian_sigma(0.7, 1e-6)
        assert mechanism.sigma == pytest.approx(sigma, rel=1e-6)
        assert mechanism.deviation(sketch) == pytest.approx(sigma * 3.0 * 2.0, rel=1e-6)
        on_gradient = GradientMechanism(0.7, 1e-6, clip=3.0, rounds=rounds, place="gradient")
        assert on_gradient.deviation(GradSketch(100, 32, "gaussian")) == pytest.approx(sigma * 3.0, rel=1e-6)
        twice = GradientMechanism(0.7, 1e-6, clip=3.0, rounds=rounds, replace=True)
        assert twice.deviation(sketch) == pytest.approx(2 * mechanism.deviation(sketch))
    for kind in set(KINDS) - set(ORTHOGONAL):
        with pytest.raises(ValueError, match="no bound"):
            mechanism.deviation(GradSketch(100, 32, kind))


@pytest.mark.parametrize("kind", ORTHOGONAL)
def test_no_client_moves_a_sketch_further_than_its_sensitivity(kind, rng):
    sketch = GradSketch(100, 24, kind, seed=2)
    gradients = rng.normal(size=(200, 100)) * 10
    for number in range(3):
        R = sketch.sketch(number).materialise()
        worst = np.linalg.svd(R)[2][:1] * 10  # the direction that R makes longest
        sent = sketch.encode(np.vstack([gradients, worst]), number, clip=1.5)
        found = np.linalg.norm(sent, axis=1).max()
        assert found <= 1.5 * sketch.norm_bound_
        assert found >= 1.4 * np.linalg.norm(R, 2)


def test_accountant():
    """One mechanism for T rounds, told of T rounds: exactly the promise, and never above the bound often quoted."""
    for rounds in (1, 10, 500):
        mechanism = GradientMechanism(2.0, 1e-5, clip=1.0, rounds=rounds)
        accountant = PrivacyAccountant()
        for made in range(rounds):
            assert accountant.releases == made
            accountant.spend(mechanism)
        assert accountant.epsilon(1e-5) == pytest.approx(2.0, rel=1e-9)
        assert accountant.rho == pytest.approx(rounds / (2 * mechanism.sigma**2), rel=1e-12)
        for delta in (1e-8, 1e-5, 1e-2):
            assert accountant.epsilon(delta) <= reference.concentrated_epsilon(accountant.rho, delta)
        spent = accountant.epsilon(1e-5)
        accountant.spend(mechanism)
        assert accountant.epsilon(1e-5) > spent
    mixed = PrivacyAccountant()
    mixed.spend(GaussianMechanism(1.0, 1e-6, feature_bound=1.0))
    mixed.spend(GradientMechanism(1.0, 1e-6, clip=1.0))
    assert mixed.rho == pytest.approx(gaussian_sigma(1.0, 1e-6) ** -2, rel=1e-12)
    with pytest.raises(TypeError, match="GradientMechanism"):
        mixed.spend(1.0)


def divergence(epsilon, ratio):
    """delta of N(ratio, 1) against N(0, 1) at epsilon, as the integral it is: nothing is subtracted from anything."""
    from scipy.integrate import quad

    begin = epsilon / ratio - ratio / 2
    value, error = quad(
        lambda z: math.exp(-z * z / 2) * -math.expm1(epsilon - ratio * ratio / 2 - ratio * z), begin, begin + 12,
        epsabs=0, epsrel=1e-11, limit=200, points=[begin + 0.1, begin + 1],
    )  # fmt: skip
    return value / math.sqrt(2 * math.pi)


def test_account_of_other_hands():
    """Rounds of several mechanisms against formulas of their own: the divergence of the composition as an integral, and
    the bound by way of Renyi's."""
    for ratios in ([0.3], [0.05] * 400, [0.2, 0.7, 0.1, 1.1], [3.0, 0.5]):
        accountant = PrivacyAccountant()
        for ratio in ratios:
            # The mechanism whose sensitivity is `ratio` standard deviations.
            delta = divergence(1.0, ratio)
            mechanism = GradientMechanism(1.0, delta, clip=1.0)
            assert 1 / mechanism.sigma == pytest.approx(ratio, rel=1e-8)
            accountant.spend(mechanism)
        # A product of Gaussians is one whose distances are added as vectors.
        whole = math.sqrt(sum(ratio**2 for ratio in ratios))
        assert accountant.rho == pytest.approx(whole**2 / 2, rel=1e-7)
        for delta in (1e-9, 1e-5, 1e-2):
            epsilon = accountant.epsilon(delta)
            if epsilon == 0:
                assert divergence(1e-300, whole) <= delta * (1 + 1e-6)
                continue
            assert divergence(epsilon, whole) == pytest.approx(delta, rel=1e-6)
            alpha = 1 + np.geomspace(1e-2, 1e4, 20000)
            renyi = alpha * whole**2 / 2
            improved = renyi + np.log1p(-1 / alpha) - (np.log(delta) + np.log(alpha)) / (alpha - 1)
            assert epsilon <= improved.min() + 1e-6
            assert epsilon <= (renyi + math.log(1 / delta) / (alpha - 1)).min() + 1e-6
            assert accountant.epsilon(delta) > 0.5 * improved.min() - 1.0  # and not far below
    # The control: rounds whose distances were added as numbers would be another account.
    assert abs(divergence(accountant.epsilon(1e-5), 3.5) / 1e-5 - 1) > 0.1


@pytest.mark.parametrize("epsilon", [1e-17, 1e-15, 1e-12, 1e-9, 1e-6, 1e-3, 1.0, 30.0, 100.0])
@pytest.mark.parametrize("delta", [1e-17, 1e-15, 1e-12, 1e-9, 1e-5, 0.3])
def test_noise_keeps_its_promise_at_any_size(epsilon, delta):
    """delta is the difference of two numbers that nearly cancel: rounding may cost noise, never the promise."""
    sigma = gaussian_sigma(epsilon, delta)
    assert divergence(epsilon, 1 / sigma) <= delta * (1 + 1e-9)
    if epsilon >= 1e-6 and delta >= 1e-12:
        assert divergence(epsilon, 1.001 / sigma) > delta  # and hardly more of it than there must be


def test_a_mechanism_is_not_spent_on_more_rounds_than_it_promises():
    sketch, start, clients = GradSketch(4, 2), np.ones(4), [lambda x: x] * 3
    mechanism = GradientMechanism(4.0, 1e-5, clip=1.0, rounds=5)
    sketched_descent(clients, start, sketch, n_rounds=5, step=0.1, mechanism=mechanism)
    with pytest.raises(ValueError, match="n_rounds is 6, and the mechanism promises its epsilon for 5"):
        sketched_descent(clients, start, sketch, n_rounds=6, step=0.1, mechanism=mechanism)
    accountant = PrivacyAccountant()
    sketched_descent(clients, start, sketch, n_rounds=6, step=0.1, mechanism=mechanism, accountant=accountant)
    assert accountant.epsilon(1e-5) > 4.0
    with pytest.raises(TypeError, match="GradientMechanism"):
        sketched_descent(clients, start, sketch, n_rounds=1, step=0.1, mechanism=1.0)


def test_private_descent():
    """Noise of one budget for all rounds: the account agrees with it, and the loss goes down."""
    clients, L, _, best, excess = quadratic(d=16, clients=200)
    sketch = GradSketch(16, 8)
    rounds = 40
    mechanism = GradientMechanism(4.0, 1e-5, clip=20.0, rounds=rounds)
    accountant = PrivacyAccountant()
    found = sketched_descent(
        clients, best + 3.0, sketch, n_rounds=rounds, smoothness=L, mechanism=mechanism, accountant=accountant,
        noise_seed=1,
    )  # fmt: skip
    assert accountant.releases == rounds and accountant.epsilon(1e-5) == pytest.approx(4.0, rel=1e-9)
    assert excess(found.x) < 0.3 * excess(best + 3.0)
    again = sketched_descent(
        clients, best + 3.0, sketch, n_rounds=rounds, smoothness=L, mechanism=mechanism, noise_seed=1
    )
    assert np.array_equal(again.x, found.x)
    free = sketched_descent(clients, best + 3.0, sketch, n_rounds=rounds, smoothness=L, mechanism=mechanism)
    assert not np.array_equal(free.x, found.x)


# --- attacks ---------------------------------------------------------------------------------------------------------


def far(found, truth):
    return np.linalg.norm(found - truth) / np.linalg.norm(truth)


def messages(sketch, g, rounds, **options):
    return np.array([sketch.encode(g, t, **options) for t in rounds])


@pytest.mark.parametrize("kind", KINDS)
def test_a_long_sketch_gives_the_gradient_away(kind, rng):
    d = 64
    g = rng.normal(size=d)
    long = GradSketch(d, 64 if kind in ORTHOGONAL else 160, kind)
    rounds = [3, 4, 5, 6] if kind == "count_sketch" else [3]  # where two parameters met in one round, they part again
    assert far(reconstruct_gradient(long, messages(long, g, rounds), rounds), g) <= 1e-6
    # Too short a sketch of any gradient: the share of it that its rows do not reach.
    short = GradSketch(d, 16, kind)
    found = reconstruct_gradient(short, short.encode(g, 3), 3)
    R = matrix_of(short, 3)
    assert np.abs(found - np.linalg.pinv(R) @ (R @ g)).max() <= 1e-7 * np.abs(g).max()
    assert far(found, g) > 0.7


def test_rounds_of_one_gradient_give_it_away(rng):
    g, sketch = rng.normal(size=64), GradSketch(64, 16)
    rounds = list(range(12))
    fresh = messages(sketch, g, rounds)
    gone = [far(reconstruct_gradient(sketch, fresh[:k], rounds[:k]), g) for k in (1, 2, 12)]
    assert gone[0] > 0.7 and gone[0] > gone[1] and gone[2] <= 1e-6
    # The same R in each round says the same thing twelve times.
    stuck = messages(sketch, g, [0] * 12)
    assert far(reconstruct_gradient(sketch, stuck, [0] * 12), g) == pytest.approx(gone[0], rel=1e-6)


def test_noise_holds_the_gradient_back(rng):
    """With calibrated noise the attack's error is the one of theory, and above the gradient itself."""
    g, clip = rng.normal(size=64), 1.0
    g /= np.linalg.norm(g)
    sketch, rounds = GradSketch(64, 16), list(range(12))
    mechanism = GradientMechanism(4.0, 1e-5, clip=clip, rounds=12)
    R = np.vstack([sketch.sketch(t).materialise() for t in rounds])
    expected = mechanism.deviation(sketch) ** 2 * np.trace(np.linalg.inv(R.T @ R))
    errors = []
    for seed in range(25):
        noisy = np.array([sketch.encode(g, t, mechanism=mechanism, noise_seed=1000 * seed + t) for t in rounds])
        errors.append(((reconstruct_gradient(sketch, noisy, rounds) - g) ** 2).sum())
    assert abs(np.mean(errors) - expected) <= 4 * np.std(errors, ddof=1) / math.sqrt(len(errors))
    assert np.min(errors) > 4.0  # twice as far away as the zero vector is, at the least
    # Noise that is used twice: two rounds with the same R and the same noise differ by the gradients alone.
    other = -0.5 * g
    first = sketch.encode(g, 0, mechanism=mechanism, noise_seed=7)
    second = sketch.encode(other, 0, mechanism=mechanism, noise_seed=7)
    clean = sketch.encode(g - other, 0)
    assert np.abs(first - second - clean).max() <= 1e-11 * np.abs(first).max()


def layer_gradient(rng, outputs=10, inputs=30, batch=1):
    """The gradient of a linear classifier with softmax loss on a batch, and the batch."""
    W, X = 0.1 * rng.normal(size=(outputs, inputs)), rng.normal(size=(batch, inputs))
    scores = X @ W.T
    errors = np.exp(scores) / np.exp(scores).sum(axis=1, keepdims=True)
    errors[np.arange(batch), rng.integers(0, outputs, batch)] -= 1
    return errors.T @ X / batch, X


def test_a_sample_is_read_from_a_short_sketch(rng):
    """300 parameters, 120 numbers: too few for any gradient, enough for that of one row, and with it the row."""
    for trial in range(5):
        G, X = layer_gradient(rng)
        sketch = GradSketch(G.size, 120, seed=trial)
        sent = sketch.encode(G.ravel(), 0)
        assert far(reconstruct_gradient(sketch, sent, 0), G.ravel()) > 0.5
        errors, rows, misfit = reconstruct_sample(sketch, sent, 0, G.shape)
        assert misfit <= 1e-9
        assert far(errors @ rows.T, G) <= 1e-8
        cosine = abs(rows[:, 0] @ X[0]) / np.linalg.norm(rows) / np.linalg.norm(X[0])
        assert cosine >= 1 - 1e-12


def test_a_batch_is_read_from_a_short_sketch(rng):
    G, X = layer_gradient(rng, batch=2)
    sketch = GradSketch(G.size, 200)
    errors, rows, misfit = reconstruct_sample(sketch, sketch.encode(G.ravel(), 0), 0, G.shape, rank=2, n_iter=500)
    assert misfit <= 1e-9 and far(errors @ rows.T, G) <= 1e-8
    basis = np.linalg.qr(rows)[0]
    assert far(basis @ (basis.T @ X.T), X.T) <= 1e-8  # the rows lie in the span that was read


def test_noise_holds_the_sample_back(rng):
    cosines = []
    for trial in range(10):
        G, X = layer_gradient(rng)
        sketch = GradSketch(G.size, 120, seed=trial)
        mechanism = GradientMechanism(4.0, 1e-5, clip=1.0)
        sent = sketch.encode(G.ravel(), 0, mechanism=mechanism, noise_seed=trial)
        _, rows, _ = reconstruct_sample(sketch, sent, 0, G.shape)
        cosines.append(abs(rows[:, 0] @ X[0]) / np.linalg.norm(rows) / np.linalg.norm(X[0]))
    # A random direction has a cosine of about sqrt(2 / (pi 30)) = 0.15.
    assert np.mean(cosines) < 0.4 and np.max(cosines) < 0.8


# --- bad input -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((0, 1), "n_params"),
        ((4, 0), "n_sketch"),
        ((4, 5), "n_out|rows"),  # SRHT of 4 has 4 rows
        ((4, 2, "row_sampling"), "kind must be"),
        ((4, 2, "sparse_sign", -1), "nnz"),
    ],
)
def test_sketch_refuses(arguments, message):
    options = {"nnz": arguments[3]} if len(arguments) > 3 else {}
    with pytest.raises(ValueError, match=message):
        GradSketch(*arguments[:3], **options)


def test_encode_and_decode_refuse(rng):
    sketch, g = GradSketch(12, 4), rng.normal(size=(3, 12))
    for number in (-1, 2**64, 1.5, "0"):
        with pytest.raises(ValueError, match="round_number"):
            sketch.encode(g, number)
    with pytest.raises(ValueError, match="expected 12"):
        sketch.encode(g[:, :5], 0)
    with pytest.raises(ValueError, match="expected 4"):
        sketch.decode(g, 0)
    bad = g.copy()
    bad[2, 5] = np.inf
    for clip in (None, 1.0):
        with pytest.raises(ValueError, match="row 2|gradient 2"):
            sketch.encode(bad, 0, clip=clip)
    with pytest.raises(ValueError, match="sketches"):
        sketch.decode([1.0, np.nan, 0.0, 0.0], 0)
    for clip in (0.0, -1.0, np.nan):
        with pytest.raises(ValueError, match="clip"):
            sketch.encode(g, 0, clip=clip)
    mechanism = GradientMechanism(1.0, 1e-5, clip=1.0)
    with pytest.raises(ValueError, match="together"):
        sketch.encode(g, 0, clip=1.0, mechanism=mechanism)
    with pytest.raises(TypeError, match="GradientMechanism"):
        sketch.encode(g, 0, mechanism=GaussianMechanism(1.0, 1e-5, feature_bound=1.0))
    with pytest.raises(ValueError, match="n_clients"):
        sketch.encode(g, 0, mechanism=mechanism, n_clients=0)
    with pytest.raises(ValueError, match="seed"):
        sketch.encode(g, 0, mechanism=mechanism, noise_seed=-1)
    with pytest.raises(ValueError, match="smoothness"):
        sketch.step_size(0.0)
    with pytest.raises(ValueError, match="local_steps"):
        sketch.step_size(1.0, 0)
    with pytest.raises(ValueError, match="total"):
        sketch.privatize(np.zeros(3), 0, mechanism)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"clip": 0.0}, "clip"),
        ({"rounds": 0}, "rounds"),
        ({"place": "server"}, "place"),
        ({"epsilon": 0.0}, "epsilon"),
        ({"delta": 1.0}, "delta"),
    ],
)
def test_mechanism_refuses(arguments, message):
    with pytest.raises(ValueError, match=message):
        GradientMechanism(**{"epsilon": 1.0, "delta": 1e-5, "clip": 1.0, **arguments})


def test_descent_refuses():
    sketch, start, good = GradSketch(4, 2), np.zeros(4), lambda x: x
    wrong = [
        (([], start, sketch), {"step": 1.0}, TypeError, "clients"),
        (([good], start, None), {"step": 1.0}, TypeError, "sketch"),
        (([good], np.zeros(3), sketch), {"step": 1.0}, ValueError, "start"),
        (([good], start, sketch), {}, ValueError, "either"),
        (([good], start, sketch), {"step": 1.0, "smoothness": 1.0}, ValueError, "either"),
        (([good], start, sketch), {"step": 1.0, "clip": 1.0, "error_feedback": True}, ValueError, "error_feedback"),
        (([good], start, sketch), {"step": 1.0, "accountant": PrivacyAccountant()}, TypeError, "accountant"),
        (([good, lambda x: x[:2]], start, sketch), {"step": 1.0}, ValueError, "client 1 in round 0"),
        (([lambda x: x + np.nan], start, sketch), {"step": 1.0}, ValueError, "client 0 in round 0"),
        (([lambda x: 1e3 * (x + 1)], start, sketch), {"step": 10.0}, ValueError, "too large"),
    ]
    for arguments, options, kind, message in wrong:
        with pytest.raises(kind, match=message):
            sketched_descent(*arguments, n_rounds=50, **options)
    with pytest.raises(ValueError, match="n_rounds"):
        sketched_descent([good], start, sketch, n_rounds=0, step=1.0)
    client = ErrorFeedback(sketch)
    for bad in (np.zeros(3), [1.0, 2.0, np.nan, 0.0]):
        with pytest.raises(ValueError):
            client.encode(bad, 0)
    assert np.array_equal(client.residual_, np.zeros(4))
    with pytest.raises(TypeError, match="GradSketch"):
        ErrorFeedback(4)


@pytest.mark.parametrize("size", [1e-200, 1e200])
def test_attacks_on_messages_of_any_size(size, rng):
    g, sketch = rng.normal(size=64), GradSketch(64, 16)
    rounds = list(range(12))
    found = reconstruct_gradient(sketch, size * messages(sketch, g, rounds), rounds)
    assert far(found / size, g) <= 1e-6
    G, X = layer_gradient(rng)
    layer = GradSketch(G.size, 120)
    errors, rows, misfit = reconstruct_sample(layer, size * layer.encode(G.ravel(), 0), 0, G.shape)
    assert misfit <= 1e-9 and far(errors / size @ rows.T, G) <= 1e-8


def test_estimates_that_overflow_are_an_error():
    sketch = GradSketch(64, 16)
    for sketches in (np.full(16, 1e308), np.full((3, 16), 1e308)):
        with pytest.raises(ValueError, match="overflow"):
            sketch.decode(sketches, 0)
    with pytest.raises(ValueError, match="overflow"):
        sketch.encode(np.full(64, 1.7e308), 0)


def test_attacks_refuse():
    sketch = GradSketch(12, 8)
    with pytest.raises(ValueError, match="one per round"):
        reconstruct_gradient(sketch, np.zeros((2, 8)), [0])
    with pytest.raises(ValueError, match="NaN"):
        reconstruct_gradient(sketch, np.full(8, np.nan), 0)
    assert np.array_equal(reconstruct_gradient(sketch, np.zeros(8), 0), np.zeros(12))
    with pytest.raises(ValueError, match="n_params"):
        reconstruct_sample(sketch, np.zeros(8), 0, (5, 2))
    with pytest.raises(ValueError, match="rank"):
        reconstruct_sample(sketch, np.zeros(8), 0, (3, 4), rank=3)
    with pytest.raises(ValueError, match="shape"):
        reconstruct_sample(sketch, np.zeros(7), 0, (3, 4))
    assert reconstruct_sample(sketch, np.zeros(8), 0, (3, 4))[2] == 0.0
