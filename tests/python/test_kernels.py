"""Deep kernels against their recursion, the limits of infinite depth, and learning a permutation."""

import math
import pickle

import numpy as np
import pytest
from reference_path import checks, kernels

import gramian as gm
from gramian import _core


def on_sphere(n, d, seed=0):
    X = np.random.default_rng(seed).normal(size=(n, d))
    return X / np.linalg.norm(X, axis=1, keepdims=True)


DUALS = {
    "relu": ("relu", kernels.relu_dual),
    "erf": ("erf", kernels.erf_dual),
    "cubic": (np.sqrt([0, 0.5, 0, 0.5]), lambda xi: kernels.dual_values([0, 0.5, 0, 0.5], xi)),
    "even": ([0.0, 0.0, 1.0], lambda xi: kernels.dual_values([0, 0, 1], xi)),
    "mean": (np.sqrt([0.3, 0.3, 0, 0.4]), lambda xi: kernels.dual_values([0.3, 0.3, 0, 0.4], xi)),
}


@pytest.mark.parametrize("kind", ["nngp", "ntk"])
@pytest.mark.parametrize("depth", [0, 1, 3, 8])
@pytest.mark.parametrize("name", DUALS)
def test_the_recursion(name, depth, kind):
    activation, dual = DUALS[name]
    X, Y = on_sphere(30, 5), on_sphere(20, 5, seed=1)
    found = gm.DeepKernel(activation, depth, kind).kernel(3.0 * X, 0.1 * Y)
    xi = (X.astype(np.longdouble) @ Y.T.astype(np.longdouble)) / np.outer(
        np.linalg.norm(X.astype(np.longdouble), axis=1), np.linalg.norm(Y.astype(np.longdouble), axis=1)
    )
    expected = kernels.deep_kernel(xi, dual, depth, kind)
    # An inner product of 5 terms is off by some eps, and every layer multiplies that by B at most.
    growth = gm.kernel_limit(activation).expansion ** depth * max(depth, 1)
    assert np.abs(found - expected).max() <= 40 * checks.EPS * growth * max(1, float(np.abs(expected).max()))


def test_symmetric_to_the_last_bit():
    X = on_sphere(700, 4)
    K = gm.DeepKernel("relu", 3, "ntk").kernel(X)
    assert np.array_equal(K, K.T)
    assert np.array_equal(np.diag(gm.DeepKernel("erf", 5).kernel(X)), np.ones(700))
    for threads in (1, 2):
        assert np.array_equal(gm.DeepKernel("relu", 3, "ntk", n_jobs=threads).kernel(X), K)


def test_close_rows_keep_their_digits():
    """1 - K for a gap of 1e-18: far below the rounding of an inner product. One layer multiplies it by B."""
    base = np.array([0.6, 0.8, 0.0])
    for step in (1e-3, 1e-9):
        near = np.array([[0.6, 0.8, step]])
        for name in ("erf", "cubic"):
            activation, dual = DUALS[name]
            # The kernel itself rounds to 1, so the gap is grown by 30 layers first.
            found = gm.DeepKernel(activation, 30).kernel(base[np.newaxis], near)[0, 0]
            gap = np.longdouble(step) ** 2 / 2 / (1 + np.longdouble(step) ** 2)
            xi = 1 - gap * (1 + np.longdouble(step) ** 2 / 4)
            if name == "erf" and step == 1e-9:
                # Below longdouble too: the gap grows by B per layer until it is no longer small.
                growth = gm.kernel_limit(activation).expansion
                assert (1 - found) == pytest.approx(float(gap) * growth**30, rel=1e-6)
            elif step == 1e-3:
                assert 1 - found == pytest.approx(float(1 - kernels.deep_kernel(xi, dual, 30, "nngp")), rel=1e-8)


@pytest.mark.parametrize("squares, alpha", [((0.5, 3), 2.0), ((0.2, 3), 3.369), ((0.3, 5), 1.804)])
def test_slope_in_log_distance(squares, alpha):
    """NNGP ~ |x - y|^-alpha, to 1e-3; at the same depth the NTK is steeper by about 2."""
    first, power = squares
    coefficients = np.zeros(power + 1)
    coefficients[1], coefficients[power] = np.sqrt([first, 1 - first])
    limit = gm.kernel_limit(coefficients)
    assert limit.kind == "singular" and limit.alpha == pytest.approx(alpha, abs=1e-3)
    # Distances a whole number of layers apart, so that the bounded periodic factor is the same at both.
    ratio = limit.expansion**0.5
    distances = 1e-7 * ratio ** np.arange(0, 12)
    Y = np.stack([np.cos(distances), np.sin(distances)], axis=1)

    def slope(kind):
        sign, log_k = gm.DeepKernel(coefficients, 120, kind).log_kernel(np.array([[1.0, 0.0]]), Y)
        assert (sign == 1).all()
        return np.polyfit(np.log(distances), log_k[0], 1)[0]

    assert slope("nngp") == pytest.approx(-limit.alpha, abs=1e-3)
    assert slope("ntk") < -limit.alpha - 1.5  # the trap


def test_tangent_kernel_needs_more_layers_than_one_over_the_squared_distance():
    """Section 1.16: its slope is -(alpha + 2) until the depth is far beyond that, and -alpha from then on."""
    coefficients = np.sqrt([0, 0.5, 0, 0.5])  # alpha = 2, and distances grow by sqrt(2) a layer

    def slope(distance, depth):
        distances = distance * np.sqrt(2.0) ** np.arange(5)
        Y = np.stack([np.cos(distances), np.sin(distances)], axis=1)
        sign, log_k = gm.DeepKernel(coefficients, depth, "ntk").log_kernel(np.array([[1.0, 0.0]]), Y)
        assert (sign == 1).all()
        return np.polyfit(np.log(distances), log_k[0], 1)[0]

    slopes = [slope(0.015, depth) for depth in (100, 10**4, 10**6)]
    assert slopes[0] < -3.8  # depth 100 "disproves" the theorem
    assert slopes[0] < slopes[1] - 0.5 < slopes[2] - 1.0
    assert slopes[2] == pytest.approx(-2, abs=0.02)
    assert slope(1e-3, 10**6) < -3  # nearer rows need more layers still


SMOOTH = {
    "cubic": np.sqrt([0, 0.5, 0, 0.5]),
    "steep": np.sqrt([0, 0.2, 0, 0.8]),
    "fifth": np.sqrt([0, 0.3, 0, 0, 0, 0.7]),
    "mixed": [0, 0.8, -0.5, 0.3, 0.1],
    "scaled": 7.0 * np.sqrt([0, 0.6, 0.1, 0.3]),
}


@pytest.mark.parametrize("name", SMOOTH)
def test_exponent_is_what_the_recursion_shows(name):
    """The formula, and the slope of the recursion itself, run in extended precision on gaps."""
    found = gm.kernel_limit(SMOOTH[name])
    kind, alpha = kernels.limit(SMOOTH[name])
    assert found.kind == kind == "singular" and found.alpha == pytest.approx(alpha, rel=1e-12)
    assert kernels.measured_exponent(SMOOTH[name]) == pytest.approx(found.alpha, rel=1e-5)
    # Negative control: the exponent of the NTK at finite depth, larger by 2, is another one.
    assert abs(kernels.measured_exponent(SMOOTH[name]) - (found.alpha + 2)) > 1


def test_kinds_are_those_of_the_definition():
    rng = np.random.default_rng(0)
    seen = set()
    for _ in range(300):
        coefficients = rng.normal(size=rng.integers(1, 6)) * (rng.random(size=1) < 0.9)
        coefficients = coefficients * (rng.random(size=coefficients.shape) < 0.5)
        if not coefficients.any():
            coefficients[-1] = 1.0
        found, (kind, alpha) = gm.kernel_limit(coefficients), kernels.limit(coefficients)
        assert found.kind == kind, coefficients
        assert found.alpha == alpha if alpha is None or np.isinf(alpha) else found.alpha == pytest.approx(alpha)
        seen.add(kind)
    assert seen == {"nearest", "singular", "majority", "linear", "constant"}


@pytest.mark.parametrize("kernel", [gm.DeepKernel("erf", 1), gm.DeepKernel("relu", 1, "ntk")], ids=repr)
@pytest.mark.parametrize("k", [2, 5, 8])
def test_threshold_is_that_of_the_fits(kernel, k):
    cut = gm.permutation_threshold(kernel, k)
    low, high = kernels.threshold(kernel, k)
    assert cut.threshold == pytest.approx((low + high) / 2, rel=1e-9)
    assert cut.margin == pytest.approx((high - low) / 2, rel=1e-9)


def test_limit_of_each_kind():
    assert gm.kernel_limit([0, 0, 1.0]).kind == "nearest"
    assert gm.kernel_limit([0, 0, 1.0]).alpha == math.inf
    assert gm.kernel_limit(np.sqrt([0.2, 0.3, 0, 0.5])).kind == "majority"
    assert gm.kernel_limit("relu").kind == "constant"
    assert gm.kernel_limit([0, 2.0]).kind == "linear"
    erf = gm.kernel_limit("erf")
    assert erf.kind == "singular"
    by_quadrature = gm.kernel_limit(lambda u: np.array([math.erf(v) for v in u]))
    assert by_quadrature.alpha == pytest.approx(erf.alpha, rel=1e-3)
    assert by_quadrature.first == pytest.approx(erf.first, rel=1e-3)
    assert gm.kernel_limit("erf", bias=0.5).kind in ("majority", "constant")
    assert gm.kernel_limit(gm.DeepKernel("erf")) == erf


def test_hermite_coefficients():
    # u^3 = 3 h_1 + sqrt(6) h_3; a rectifier has a_0 = 1 / sqrt(2 pi), a_1 = 1 / 2.
    np.testing.assert_allclose(gm.hermite_coefficients(lambda u: u**3, 5), [0, 3, 0, 6**0.5, 0, 0], atol=1e-12)
    for function in (np.tanh, np.sin, lambda u: np.exp(-u * u / 8), lambda u: u**4 - 0.3 * u):
        expected = kernels.hermite(function, 12)
        # Quadrature at 160 nodes: the tail of tanh, which is analytic in a strip of pi / 2 only, is what is left.
        np.testing.assert_allclose(gm.hermite_coefficients(function, 12), expected, rtol=0, atol=2e-8)
    relu = gm.hermite_coefficients(lambda u: np.maximum(u, 0), 3)
    np.testing.assert_allclose(relu[:2], [1 / math.sqrt(2 * math.pi), 0.5], atol=1e-2)  # a kink converges slowly
    assert not gm.hermite_coefficients(np.tanh)[::2].any()
    with pytest.raises(ValueError, match="finite"):
        gm.hermite_coefficients(lambda u: np.full_like(u, np.nan))


def blobs(n, d, classes, seed):
    rng = np.random.default_rng(seed)
    return np.abs(rng.normal(size=(n, d))), rng.integers(classes, size=n)


def test_nearest_limit_at_depth_60():
    """An even dual map ranks by |cos|, so the rows are non-negative; every off-diagonal value is 0 in float64."""
    X, y = blobs(300, 6, 3, 0)
    queries, _ = blobs(2000, 6, 3, 1)
    kernel = gm.DeepKernel([0, 0, 1.0], depth=60)
    assert np.count_nonzero(kernel.kernel(X)) == 300
    model = gm.DeepKernelClassifier(kernel, ridge=0.0).fit(X, y)
    cosines = queries @ X.T / np.linalg.norm(X, axis=1)
    nearest = y[cosines.argmax(axis=1)]
    assert np.mean(model.predict(queries) == nearest) >= 0.999
    assert np.count_nonzero(model.decision_function(queries)) == 0  # the plain scores know nothing
    ntk = gm.DeepKernelClassifier(gm.DeepKernel([0, 0, 1.0], 60, "ntk"), ridge=0.0).fit(X, y)
    assert np.mean(ntk.predict(queries) == nearest) >= 0.999
    # Negative control: one layer is not yet the nearest neighbour.
    shallow = gm.DeepKernelClassifier(gm.DeepKernel([0, 0, 1.0], 1), ridge=1e-3).fit(X, y)
    assert np.mean(shallow.predict(queries) == nearest) < 0.9


def test_majority_limit_at_depth_60():
    X, y = blobs(200, 6, 2, 0)
    y[:130] = 1
    queries, _ = blobs(2000, 6, 2, 1)
    majority = np.bincount(y).argmax()
    coefficients = np.sqrt([0.2, 0.3, 0, 0.5])
    model = gm.DeepKernelClassifier(gm.DeepKernel(coefficients, 60), ridge=0.0).fit(X, y)
    assert np.mean(model.predict(queries) == majority) >= 0.999
    shallow = gm.DeepKernelClassifier(gm.DeepKernel(coefficients, 1), ridge=1e-3).fit(X, y)
    assert np.mean(shallow.predict(queries) == majority) < 0.95


def test_kernel_regression_by_hand():
    rng = np.random.default_rng(0)
    X, Y, queries = rng.normal(size=(60, 4)), rng.normal(size=(60, 2)) + 3.0, rng.normal(size=(25, 4))
    for kind in ("nngp", "ntk"):
        kernel = gm.DeepKernel("erf", 2, kind, lift=1.0)
        model = gm.DeepKernelRegressor(kernel, ridge=1e-2).fit(X, Y)
        K, Kx = kernel.kernel(X), kernel.kernel(queries, X)
        scale = K[0, 0]
        alpha = np.linalg.solve(K / scale + 1e-2 * np.eye(60), Y - Y.mean(axis=0))
        expected = Kx / scale @ alpha + Y.mean(axis=0)
        assert checks.relative_error(model.predict(queries), expected) <= 60 * checks.EPS * np.linalg.cond(
            K / scale + 1e-2 * np.eye(60)
        )
        copy = pickle.loads(pickle.dumps(model))
        assert np.array_equal(copy.predict(queries), model.predict(queries))


def test_lift_tells_lengths_apart():
    X = np.array([[0.1], [0.2], [1.0], [1.5]])
    y = ["low", "low", "high", "high"]
    model = gm.DeepKernelClassifier(gm.DeepKernel("relu", 2, lift=1.0), ridge=1e-6).fit(X, y)
    assert list(model.predict([[0.0], [1.2]])) == ["low", "high"]
    with pytest.raises(ValueError, match="row 1 of X is zero"):
        gm.DeepKernel().kernel([[1.0], [0.0]])
    assert gm.DeepKernel().kernel([[0.1]], [[5.0]])[0, 0] == 1.0  # directions alone


# The singular kernel.


@pytest.mark.parametrize("alpha", [0.0, 0.5, 3.0, 40.0, 1e4])
def test_singular_shares(alpha):
    rng = np.random.default_rng(0)
    X, y, queries = rng.normal(size=(80, 3)) + 100.0, rng.integers(3, size=80), rng.normal(size=(30, 3)) + 100.0
    model = gm.SingularKernelClassifier(alpha).fit(X, y)
    expected = kernels.singular_shares(X, y, queries, alpha, 3)
    # A relative error of a distance becomes alpha times that of its power.
    np.testing.assert_allclose(model.predict_proba(queries), expected, atol=200 * checks.EPS * max(alpha, 1))


def test_ends_of_alpha():
    rng = np.random.default_rng(1)
    X, y, queries = rng.normal(size=(300, 4)), rng.integers(4, size=300), rng.normal(size=(3000, 4))
    nearest = y[((queries[:, np.newaxis] - X) ** 2).sum(axis=2).argmin(axis=1)]
    for alpha in (np.inf, 1e6):
        assert np.array_equal(gm.SingularKernelClassifier(alpha).fit(X, y).predict(queries), nearest)
    majority = np.bincount(y).argmax()
    assert (gm.SingularKernelClassifier(0.0).fit(X, y).predict(queries) == majority).all()
    assert not np.array_equal(gm.SingularKernelClassifier(1.0).fit(X, y).predict(queries), nearest)
    assert gm.SingularKernelClassifier().fit(X, y).alpha_ == 4.0


@pytest.mark.parametrize("alpha", [0.5, 3.0, np.inf])
@pytest.mark.parametrize("unit", [1e-200, 1e200, 2.0**-1000])
def test_shares_do_not_depend_on_the_unit(alpha, unit):
    """Squares of such distances are zero or infinite; their ratios are what they are for all others."""
    rng = np.random.default_rng(5)
    X, y, queries = rng.normal(size=(80, 3)), rng.integers(3, size=80), rng.normal(size=(30, 3))
    plain = gm.SingularKernelClassifier(alpha).fit(X, y)
    scaled = gm.SingularKernelClassifier(alpha).fit(unit * X, y)
    # unit * X is rounded, which moves a distance by a few eps of the largest value.
    bound = 1e4 * checks.EPS * (1 if np.isinf(alpha) else max(alpha, 1))
    np.testing.assert_allclose(scaled.predict_proba(unit * queries), plain.predict_proba(queries), atol=bound)
    assert np.array_equal(scaled.predict(unit * X), y)


def test_rows_of_the_model_are_answered_by_their_label():
    rng = np.random.default_rng(2)
    X = 1e8 + rng.normal(size=(500, 3))  # far from the origin: squares of differences are nothing beside the norms
    y = rng.integers(5, size=500)
    for alpha in (0.1, 3.0, np.inf):
        model = gm.SingularKernelClassifier(alpha).fit(X, y)
        assert np.array_equal(model.predict(X), y)
        assert np.array_equal(model.predict_proba(X)[np.arange(500), y], np.ones(500))
    tied = gm.SingularKernelClassifier(2.0).fit([[0.0], [0.0], [0.0], [1.0]], [0, 1, 1, 0])
    np.testing.assert_allclose(tied.predict_proba([[0.0]]), [[1 / 3, 2 / 3]])


def circle(n, rng):
    """Two overlapping densities on the circle: P(1 | angle) = (1 + 0.8 cos angle) / 2."""
    angle = rng.uniform(0, 2 * np.pi, n)
    return np.stack([np.cos(angle), np.sin(angle)], axis=1), (rng.random(n) < (1 + 0.8 * np.cos(angle)) / 2).astype(int)


def test_consistency_at_the_dimension_and_not_above():
    queries = np.linspace(0, 2 * np.pi, 400, endpoint=False) + 1e-3
    Q = np.stack([np.cos(queries), np.sin(queries)], axis=1)
    cost = 0.8 * np.abs(np.cos(queries))  # of a decision other than that of Bayes
    bayes = np.cos(queries) > 0

    def excess(alpha, n):
        risks = []
        for seed in range(6):
            X, y = circle(n, np.random.default_rng([seed, n]))
            risks.append((cost * (gm.SingularKernelClassifier(alpha).fit(X, y).predict(Q) != bayes)).mean())
        return np.mean(risks)

    at_dimension = [excess(1.0, n) for n in (50, 500, 5000)]
    assert at_dimension[0] > 1.3 * at_dimension[1] > 1.3 * 1.1 * at_dimension[2]
    far_above = [excess(20.0, n) for n in (50, 500, 5000)]
    assert far_above[2] > 0.7 * far_above[0]  # stays near that of the nearest neighbour
    assert at_dimension[2] < 0.5 * far_above[2]


def test_stream_and_forget():
    rng = np.random.default_rng(3)
    X, y = rng.normal(size=(90, 3)).astype(np.float32), np.array(["a", "b", "c"])[rng.integers(3, size=90)]
    order = np.argsort(y == "a", kind="stable")
    whole = gm.SingularKernelClassifier(2.0).fit(X, y)
    parts = gm.SingularKernelClassifier(2.0)
    for rows in np.array_split(order, 4):
        parts.partial_fit(X[rows], y[rows])
    queries = rng.normal(size=(40, 3))
    np.testing.assert_allclose(parts.predict_proba(queries), whole.predict_proba(queries), atol=1e-13)
    parts.forget(X[:30], y[:30])
    rest = gm.SingularKernelClassifier(2.0).fit(X[30:], y[30:])
    np.testing.assert_allclose(parts.predict_proba(queries), rest.predict_proba(queries), atol=1e-13)
    before = parts.predict_proba(queries)
    with pytest.raises(ValueError, match="row 1 of X is not in the model"):
        parts.forget(X[[40, 0]], y[[40, 0]])
    assert np.array_equal(parts.predict_proba(queries), before)
    copy = pickle.loads(pickle.dumps(parts))
    assert np.array_equal(copy.predict_proba(queries), before)
    gone = y[30:] == "a"
    parts.forget(X[30:][gone], y[30:][gone])
    assert list(parts.classes_) == ["b", "c"]
    with pytest.raises(ValueError, match="label 'z'"):
        parts.forget(X[:1], ["z"])


# Learning a permutation from k unit vectors.

K_BITS = 8
PERMUTERS = [gm.DeepKernel("erf", 1), gm.DeepKernel("erf", 2, "ntk"), gm.DeepKernel("relu", 1, "ntk")]


@pytest.mark.parametrize("kernel", PERMUTERS, ids=repr)
def test_the_mean_is_right_on_all_binary_rows(kernel):
    rng = np.random.default_rng(0)
    permutation = rng.permutation(K_BITS)
    rows = kernels.binary_rows(K_BITS)
    expected = kernels.permuted(rows, permutation)
    model = gm.InfiniteWidthEnsemble(kernel).fit(np.eye(K_BITS), kernels.permuted(np.eye(K_BITS), permutation))
    mean, covariance = model.distribution(rows)
    cut = gm.permutation_threshold(kernel, K_BITS)
    assert np.array_equal(mean > cut.threshold, expected == 1)
    # The closed form of the outputs, and the margin it promises.
    ones = rows.sum(axis=1).astype(int)
    predicted = np.where(expected == 1, cut.on[ones - 1, np.newaxis], cut.off[ones - 1, np.newaxis])
    np.testing.assert_allclose(mean, predicted, atol=1e-12)
    assert np.abs(mean - cut.threshold).min() == pytest.approx(cut.margin, rel=1e-9)
    assert np.array_equal(covariance, covariance.T)


@pytest.mark.parametrize("kernel", PERMUTERS, ids=repr)
def test_the_ensemble_is_right_on_all_binary_rows(kernel):
    permutation = np.random.default_rng(1).permutation(K_BITS)
    rows = kernels.binary_rows(K_BITS)
    expected = kernels.permuted(rows, permutation)
    cut = gm.permutation_threshold(kernel, K_BITS)
    model = gm.InfiniteWidthEnsemble(kernel, random_state=3).fit(
        np.eye(K_BITS), kernels.permuted(np.eye(K_BITS), permutation)
    )
    model.n_members = model.members_needed(rows, cut.margin, failure=1e-3)
    # The Gaussian tail and the union over 255 x 8 outputs.
    _, covariance = model.distribution(rows)
    bound = 2 * np.diag(covariance).max() / cut.margin**2 * np.log(255 * 8 / 1e-3)
    assert model.n_members == math.ceil(bound)
    assert np.array_equal(model.predict_bits(rows, cut.threshold), expected)
    # Negative control: a single network is not.
    model.n_members = 1
    assert not np.array_equal(model.predict_bits(rows, cut.threshold), expected)


def test_distribution_of_the_members():
    rng = np.random.default_rng(5)
    X, Y, queries = rng.normal(size=(12, 3)), rng.normal(size=(12, 2)), rng.normal(size=(4, 3))
    for kind in ("nngp", "ntk"):
        kernel = gm.DeepKernel("erf", 2, kind)
        prior = gm.DeepKernel("erf", 2)
        ridge = 0.05
        model = gm.InfiniteWidthEnsemble(kernel, n_members=20_000, ridge=ridge).fit(X, Y)
        scale = kernel.kernel(X[:1])[0, 0]
        mean, covariance = kernels.predictive(
            kernel.kernel(X) / scale,
            kernel.kernel(queries, X) / scale,
            kernel.kernel(queries) / scale,
            prior.kernel(X),
            prior.kernel(queries, X),
            prior.kernel(queries),
            Y,
            ridge,
        )
        found, spread = model.distribution(queries)
        np.testing.assert_allclose(found, mean, atol=1e-10)
        np.testing.assert_allclose(spread, covariance, atol=1e-10)
        draws = model.sample(queries)
        error = np.sqrt(np.diag(covariance) / 20_000)[:, np.newaxis]
        assert (np.abs(draws.mean(axis=0) - mean) < 5 * error).all()
        sampled = np.cov(draws[:, :, 0].T)
        assert np.abs(sampled - covariance).max() < 5 * np.diag(covariance).max() * np.sqrt(2 / 20_000)
    assert np.array_equal(model.sample(queries, 3), draws[:3])


def test_draws_come_by_the_symmetric_root():
    """So they follow from the covariance: eigenvectors have signs of LAPACK's choice, and turn where values meet."""
    rng = np.random.default_rng(7)
    m, members = 6, 5
    basis = np.linalg.qr(rng.normal(size=(m, m)))[0]
    covariance = (basis * [3.0, 2.0, 2.0, 1e-3, 0.0, 0.0]) @ basis.T
    covariance = (covariance + covariance.T) / 2
    mean = rng.normal(size=(m, 2))

    def draws(mean, covariance):
        return _core.draw_gaussians(mean, covariance, 11, 0, members, "cpu", 1).reshape(members, m, 2)

    standard = draws(np.zeros((m, 2)), np.eye(m))
    values, vectors = np.linalg.eigh(covariance)
    root = (vectors * np.sqrt(values.clip(0))) @ vectors.T
    # The root of a value that is 0 but for rounding is that of the rounding.
    bound = 10 * m * np.sqrt(checks.EPS * 3.0) * np.abs(standard).max()
    np.testing.assert_allclose(draws(mean, covariance), mean + root @ standard, atol=bound)
    # Negative control: by eigenvectors they would be others.
    assert np.abs(vectors * np.sqrt(values.clip(0)) @ standard - root @ standard).max() > 1e3 * bound


def test_posterior_of_the_gaussian_process():
    rng = np.random.default_rng(6)
    X, Y, queries = rng.normal(size=(15, 3)), rng.normal(size=15), rng.normal(size=(6, 3))
    kernel = gm.DeepKernel("erf", 1)
    mean, covariance = gm.InfiniteWidthEnsemble(kernel).fit(X, Y).distribution(queries)
    K, Kx = kernel.kernel(X), kernel.kernel(queries, X)
    bound = 1e3 * checks.EPS * np.linalg.cond(K)
    np.testing.assert_allclose(mean[:, 0], Kx @ np.linalg.solve(K, Y), atol=bound * np.abs(Y).max())
    np.testing.assert_allclose(covariance, kernel.kernel(queries) - Kx @ np.linalg.solve(K, Kx.T), atol=bound)


def test_bad_input():
    X = np.eye(3)
    for call, text in (
        (lambda: gm.DeepKernel("tanhh").kernel(X), "activation must be one of"),
        (lambda: gm.DeepKernel(kind="both").kernel(X), "kind must be"),
        (lambda: gm.DeepKernel([]).kernel(X), "activation must be"),
        (lambda: gm.DeepKernel([0.0]).kernel(X), "not zero"),
        (lambda: gm.DeepKernel(depth=-1).kernel(X), "depth"),
        (lambda: gm.DeepKernel(bias=-1.0).kernel(X), "bias"),
        (lambda: gm.DeepKernel().kernel(X, np.eye(2)), "3 features, but Y has 2"),
        (lambda: gm.DeepKernel().kernel([[np.nan, 1.0]]), "NaN"),
        (lambda: gm.DeepKernelClassifier().fit(X, [1, 1, 1]), "two classes"),
        (lambda: gm.DeepKernelClassifier(ridge=-1).fit(X, [0, 1, 1]), "ridge"),
        (lambda: gm.SingularKernelClassifier(-1.0).fit(X, [0, 1, 1]), "alpha"),
        (lambda: gm.SingularKernelClassifier("big").fit(X, [0, 1, 1]), "alpha"),
        (lambda: gm.SingularKernelClassifier(np.nan).fit(X, [0, 1, 1]), "alpha"),
        (lambda: gm.permutation_threshold(gm.DeepKernel(), 1), "k must be"),
        (lambda: gm.InfiniteWidthEnsemble(n_members=0).fit(X, X), "n_members"),
        (lambda: gm.InfiniteWidthEnsemble().fit(X, X).members_needed(X, 0.0), "margin"),
    ):
        with pytest.raises(ValueError, match=text):
            call()
    with pytest.raises(TypeError, match="DeepKernel"):
        gm.DeepKernelClassifier("relu").fit(X, [0, 1, 1])


def test_a_smoother_without_rows_takes_labels_of_any_kind(rng):
    X, y = rng.normal(size=(40, 3)), rng.integers(3, size=40)
    text = np.array(["p", "q", "r"])[y]
    model = gm.SingularKernelClassifier(2.0).fit(X, y)
    with pytest.raises(ValueError, match="labels are text"):
        model.partial_fit(X, text)  # while there are rows
    with pytest.raises(ValueError):
        model.forget(X, y).forget(X[:1], ["p"])
    model.partial_fit(X, text)
    assert list(model.classes_) == ["p", "q", "r"]
    expected = gm.SingularKernelClassifier(2.0).fit(X, text)
    assert np.array_equal(model.predict_proba(X + 0.1), expected.predict_proba(X + 0.1))


def test_default_ensemble_takes_rows_of_zeros(rng):
    X, y = np.vstack([np.zeros(3), rng.normal(size=(20, 3))]), rng.normal(size=21)
    lifted = gm.DeepKernel(kind="ntk", lift=1.0)
    found = gm.InfiniteWidthEnsemble(ridge=0.1).fit(X, y).distribution(X)[0]
    assert np.array_equal(found, gm.InfiniteWidthEnsemble(lifted, ridge=0.1).fit(X, y).distribution(X)[0])
    with pytest.raises(ValueError):  # what the published kernel says of it
        gm.InfiniteWidthEnsemble(gm.DeepKernel(kind="ntk"), ridge=0.1).fit(X, y)
