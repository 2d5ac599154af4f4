"""Feature maps: against plain formulas, drawn the same everywhere, and the same inside a model."""

import pickle

import numpy as np
import pytest
from oracle import relative_error, ridge_weights

from gramian import AnalyticClassifier, AnalyticRegressor, FeatureChain, FusedFeatures, RandomFeatures, RBFFeatures

ACTIVATIONS = {
    "identity": lambda z: z,
    "relu": lambda z: np.maximum(z, 0),
    "tanh": np.tanh,
    "sigmoid": lambda z: 1 / (1 + np.exp(-z)),
    "sign": np.sign,
}


@pytest.fixture
def X(rng):
    return rng.normal(size=(50, 6))


@pytest.mark.parametrize("kind", ["gaussian", "rademacher", "hadamard", "orthogonal", "sparse"])
@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_activation_of_a_linear_map(X, kind, activation):
    linear = RandomFeatures(40, kind=kind, activation="identity", scale=0.7)
    weights = linear.fit(X).transform(np.eye(6))
    sums = X @ weights
    expected = ACTIVATIONS[activation](sums)
    found = RandomFeatures(40, kind=kind, activation=activation, scale=0.7).fit_transform(X)
    if activation == "sign":  # structured weights cancel exactly, up to rounding
        expected = np.where(np.abs(sums) < 1e-12, found, expected)
    np.testing.assert_allclose(found, expected, rtol=1e-10, atol=1e-12)


def test_weights_look_like_their_distribution():
    eye = np.eye(64)
    gaussian = RandomFeatures(512, activation="identity", scale=1.0).fit_transform(eye)
    assert abs(gaussian.mean()) < 0.02 and abs(gaussian.std() - 1) < 0.02
    signs = RandomFeatures(512, kind="rademacher", activation="identity", scale=1.0).fit_transform(eye)
    assert set(np.unique(signs)) == {-1.0, 1.0}
    hadamard = RandomFeatures(512, kind="hadamard", activation="identity", scale=1.0).fit_transform(eye)
    for block in np.split(hadamard, 8, axis=1):
        np.testing.assert_allclose(block.T @ block, 64 * np.eye(64), atol=1e-9)
    default = RandomFeatures(512, activation="identity").fit_transform(eye)
    np.testing.assert_allclose(default, gaussian / 8, rtol=1e-12)


def test_cos_approximates_the_gaussian_kernel(X):
    Z = RandomFeatures(20000, activation="cos", scale=0.5).fit_transform(X)
    squares = ((X[:, np.newaxis] - X) ** 2).sum(axis=2)
    assert np.abs(Z @ Z.T - np.exp(-0.25 * squares / 2)).max() < 0.05


def test_bias(X):
    with_bias = RandomFeatures(30, activation="identity", bias=2.0).fit(X)
    without = RandomFeatures(30, activation="identity").fit(X)
    offsets = with_bias.transform(X) - without.transform(X)
    np.testing.assert_allclose(offsets, np.tile(offsets[:1], (50, 1)), atol=1e-12)
    assert 1.0 < offsets[0].std() < 3.0


@pytest.mark.parametrize("kind", ["gaussian", "rademacher", "hadamard", "orthogonal", "sparse"])
def test_first_features_do_not_depend_on_the_number(X, kind):
    few, many = (RandomFeatures(n, kind=kind).fit_transform(X) for n in (10, 70))
    np.testing.assert_allclose(few, many[:, :10], rtol=1e-13, atol=1e-14)


def test_blocks_and_rows_alone(X):
    many = np.vstack([X] * 50)
    chosen = RandomFeatures(33, activation="tanh").fit(many)
    np.testing.assert_allclose(chosen.transform(many)[:50], chosen.transform(X), rtol=1e-13, atol=1e-14)
    np.testing.assert_allclose(chosen.transform(X[7:8]), chosen.transform(X)[7:8], rtol=1e-13, atol=1e-14)


def test_float32(X):
    single = RandomFeatures(20).fit_transform(X.astype(np.float32))
    assert single.dtype == np.float32
    np.testing.assert_allclose(single, RandomFeatures(20).fit_transform(X), rtol=1e-4, atol=1e-5)
    assert RandomFeatures(20).fit_transform(X.astype(np.float16)).dtype == np.float64


def test_seeds(X):
    same, again, other = (RandomFeatures(20, random_state=s).fit_transform(X) for s in (1, 1, 2**64 - 1))
    assert np.array_equal(same, again)
    assert not np.allclose(same, other)
    np.random.seed(0)
    assert RandomFeatures(20, random_state=None).fit(X).seed_ != RandomFeatures(20, random_state=None).fit(X).seed_
    assert RandomFeatures(20, random_state=np.random.RandomState(3)).fit(X).seed_ > 0
    for wrong in (-1, 2**64, "seed"):
        with pytest.raises(ValueError):
            RandomFeatures(random_state=wrong).fit(X)


@pytest.mark.parametrize(
    "params, message",
    [
        ({"n_features": 0}, "n_features must be at least 1"),
        ({"n_features": 2.5}, "n_features must be an integer"),
        ({"kind": "uniform"}, "kind must be one of"),
        ({"activation": "gelu"}, "activation must be one of"),
        ({"scale": 0.0}, "scale must be a finite number > 0"),
        ({"bias": -1.0}, "bias must be a finite number >= 0"),
    ],
)
def test_parameters_that_are_refused(X, params, message):
    with pytest.raises(ValueError, match=message):
        RandomFeatures(**params).fit(X)


def test_rbf(X):
    centers = X[:7] + 0.1
    found = RBFFeatures(centers, gamma=0.3).fit_transform(X + 1000.0 * 0)
    squares = ((X[:, np.newaxis] - centers) ** 2).sum(axis=2)
    np.testing.assert_allclose(found, np.exp(-0.3 * squares), rtol=1e-10, atol=1e-14)
    far = RBFFeatures(centers + 1e4, gamma=0.3).fit_transform(X + 1e4)
    np.testing.assert_allclose(far, found, rtol=1e-6, atol=1e-9)


def test_rbf_median_and_drawn_centers(X):
    chosen = RBFFeatures(centers=9).fit(X)
    assert chosen.centers_.shape == (9, 6)
    assert all(any(np.array_equal(center, row) for row in X) for center in chosen.centers_)
    assert len(np.unique(chosen.centers_, axis=0)) == 9
    distances = np.sqrt(((X[:, np.newaxis] - chosen.centers_) ** 2).sum(axis=2))
    sigma = np.median(distances[distances > 0])
    assert chosen.gamma_ == pytest.approx(1 / (2 * sigma**2), rel=1e-6)
    assert RBFFeatures(centers=1000).fit(X).centers_.shape == (50, 6)
    for wrong in ({"gamma": 0.0}, {"gamma": "mean"}, {"centers": 0}, {"centers": np.zeros((3, 5))}):
        with pytest.raises(ValueError):
            RBFFeatures(**wrong).fit(X)


@pytest.mark.parametrize("n", [60, 1300])
def test_rbf_files_depend_on_the_values_alone(n):
    sparse = pytest.importorskip("scipy.sparse")
    rng = np.random.default_rng(3)
    X = np.round(2 * rng.normal(size=(n, 5)))
    assert np.signbit(X[X == 0]).any()  # which whole numbers and CSR do not have
    y = np.arange(n) % 3
    model = AnalyticClassifier(RBFFeatures(20))
    files = {
        name: model.fit(rows, y).to_bytes()
        for name, rows in {
            "float": X,
            "int": X.astype(np.int64),
            "short": X.astype(np.int16),
            "single": X.astype(np.float32),
            "columns": np.asfortranarray(X),
            "strided": np.repeat(X, 2, axis=1)[:, ::2],
            "csr": sparse.csr_matrix(X),
            "whole csr": sparse.csr_matrix(X.astype(np.int64)),
        }.items()
    }
    assert {name for name, file in files.items() if file != files["float"]} == set()
    given = [RBFFeatures(rows[:4], gamma=0.1).fit(rows) for rows in (X, X.astype(np.int64))]
    assert given[0].centers_.tobytes() == given[1].centers_.tobytes()


def test_rbf_of_sparse_rows(X):
    sparse = pytest.importorskip("scipy.sparse", reason="SciPy is not installed")
    dense = np.where(np.abs(X) > 0.8, X, 0.0)
    found, expected = (RBFFeatures(9).fit(rows) for rows in (sparse.csr_matrix(dense), dense))
    np.testing.assert_allclose(found.centers_, expected.centers_)
    np.testing.assert_allclose(found.transform(dense), expected.transform(dense), rtol=1e-10)


def test_chain(X):
    first, second = RandomFeatures(25), RandomFeatures(10, activation="tanh", random_state=5)
    found = FeatureChain([first, second]).fit_transform(X)
    np.testing.assert_allclose(found, second.fit_transform(first.fit_transform(X)), rtol=1e-12, atol=1e-13)
    assert not hasattr(first, "n_features_in_") or first.n_features_in_ == 6
    chain = FeatureChain([RandomFeatures(25), RBFFeatures(6)]).fit(X)
    assert chain.transform(X).shape == (50, 6)
    assert chain.maps_[1].centers_.shape == (6, 25)
    for wrong in ([], None, ["relu"]):
        with pytest.raises((ValueError, TypeError)):
            FeatureChain(wrong).fit(X)


@pytest.mark.parametrize(
    "feature_map",
    [
        RandomFeatures(30, bias=0.5),
        RandomFeatures(30, kind="hadamard", activation="cos"),
        RandomFeatures(30, kind="orthogonal", activation="cos"),
        RandomFeatures(30, kind="sparse", bias=0.5, n_nonzero=2),
        FusedFeatures(3, maps=RandomFeatures(9), mode="mean"),
        RBFFeatures(8),
        FeatureChain([RandomFeatures(12), RandomFeatures(30, activation="sigmoid", random_state=2)]),
    ],
    ids=["random", "hadamard", "orthogonal", "sparse", "fused", "rbf", "chain"],
)
def test_inside_a_model(X, feature_map, rng):
    y = rng.normal(size=50)
    model = AnalyticRegressor(feature_map, ridge=0.2).fit(X[:30], y[:30]).partial_fit(X[30:], y[30:])
    Z = model.feature_map_.transform(X)
    coef, intercept = ridge_weights(Z, y, 0.2)
    assert relative_error(model.coef_, coef[0]) < 1e-9
    np.testing.assert_allclose(model.predict(X), Z @ coef[0] + intercept[0], rtol=1e-8, atol=1e-10)
    assert not hasattr(feature_map, "n_features_in_")


def test_seed_of_the_estimator(X, rng):
    y = rng.normal(size=50)

    def weights(seed):
        return AnalyticRegressor(RandomFeatures(20, random_state=None), random_state=seed).fit(X, y).coef_

    assert np.array_equal(weights(1), weights(1))
    assert not np.allclose(weights(1), weights(2))
    given = AnalyticRegressor(RandomFeatures(20, random_state=1)).fit(X, y).coef_
    assert np.array_equal(weights(1), given)


@pytest.mark.parametrize("feature_map", [RandomFeatures(9), RBFFeatures(4), FeatureChain([RandomFeatures(5)])])
def test_pickle_holds_no_weights(X, feature_map):
    fitted = pickle.loads(pickle.dumps(feature_map)).fit(X)
    again = pickle.loads(pickle.dumps(fitted))
    assert np.array_equal(again.transform(X), fitted.transform(X))
    large = RandomFeatures(100_000).fit(X)
    assert len(pickle.dumps(large)) < 1000


def test_names(X):
    chosen = RandomFeatures(3).fit(X)
    assert list(chosen.get_feature_names_out()) == ["randomfeatures0", "randomfeatures1", "randomfeatures2"]


def test_rows_that_are_not_finite_are_named_as_x_has_them(X, rng):
    X[37, 2] = np.nan
    for feature_map in (RBFFeatures(45), RBFFeatures(X[:4]), RandomFeatures(5)):
        with pytest.raises(ValueError, match="row 37"):
            feature_map.fit(X)
        with pytest.raises(ValueError, match="row 37"):
            AnalyticRegressor(feature_map).fit(X, np.arange(50.0))


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_features_that_overflow(X, dtype):
    chosen = RandomFeatures(20, activation="identity", scale=1e10).fit(X)
    rows = X.astype(dtype)
    rows[7] *= np.finfo(dtype).max / 100
    with pytest.raises(ValueError, match=f"features of row 7 overflow {np.dtype(dtype)}"):
        chosen.transform(rows)


def test_data_frames_out(X):
    pandas = pytest.importorskip("pandas", reason="pandas is not installed")
    pytest.importorskip("sklearn", reason="scikit-learn is not installed")
    from sklearn.base import clone
    from sklearn.pipeline import make_pipeline

    frame = pandas.DataFrame(X, index=np.arange(50) + 100)
    chosen = RandomFeatures(3).set_output(transform="pandas")
    found = clone(chosen).fit_transform(frame)
    assert list(found.columns) == ["randomfeatures0", "randomfeatures1", "randomfeatures2"]
    assert list(found.index) == list(frame.index)
    np.testing.assert_array_equal(found.to_numpy(), RandomFeatures(3).fit_transform(X))
    both = make_pipeline(RandomFeatures(3), RBFFeatures(2)).set_output(transform="pandas").fit_transform(frame)
    assert list(both.columns) == ["rbffeatures0", "rbffeatures1"]
    assert isinstance(chosen.set_output(transform="default").fit_transform(frame), np.ndarray)
