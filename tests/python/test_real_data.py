"""Real streams, where the data sets are (GRAMIAN_DATA): incremental learning equals the joint NumPy solve."""

import numpy as np
import pytest
from reference_path import analytic, checks, features

import gramian as gm


def joint(Z, y, ridge):
    """The joint solve in plain NumPy, on features drawn by NumPy."""
    return analytic.joint_classifier(Z, y, ridge)


def reference_map(X, n_features, seed=0):
    """ReLU of Gaussian projections, all in NumPy."""
    B = features.weights(X.shape[1], n_features, "gaussian", features.default_scale(X.shape[1]), seed)
    return np.maximum(X @ B, 0)


def compare(model, test, Z_test, classes, coef, intercept, bound, clear_share=0.999):
    """The predictions, equal to joint ones wherever the best two scores are further apart than the bound allows."""
    scores = Z_test @ coef.T + intercept
    found = model.decision_function(test)
    assert np.abs(found - scores).max() <= bound
    ordered = np.sort(scores, axis=1)
    clear = ordered[:, -1] - ordered[:, -2] > 2 * bound
    predicted = model.predict(test)
    expected = classes[scores.argmax(axis=1)]
    assert np.array_equal(predicted[clear], expected[clear])
    assert clear.mean() > clear_share  # the comparison is about (nearly) all rows
    assert (predicted == expected).mean() >= 0.999
    return predicted


@pytest.fixture(scope="module")
def fashion(request):
    folder = request.getfixturevalue("data_dir")
    path = folder / "fashion_mnist.npz"
    if not path.exists():
        pytest.skip(f"{path.name} is not among the data sets")
    data = np.load(path)
    rng = np.random.default_rng(0)
    train, test = rng.permutation(60_000)[:12_000], rng.permutation(10_000)[:3000]
    X, X_test = (data[f"x_{part}"].reshape(-1, 784)[rows] for part, rows in (("train", train), ("test", test)))
    return X, data["y_train"][train].astype(int), X_test, data["y_test"][test].astype(int)


@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_fashion(fashion, dtype):
    X, y, X_test, y_test = fashion
    ridge, width = 30.0, 1024
    kind = np.float32 if dtype == "float32" else np.float64
    scaled, scaled_test = X.astype(kind) / kind(255), X_test.astype(kind) / kind(255)
    phases = [np.flatnonzero((y == 2 * k) | (y == 2 * k + 1)) for k in range(5)]  # five phases of two classes
    blurry = np.random.default_rng(1).permutation(len(y))[:1500]  # and rows of every class with the last three
    models = []
    for order in (phases, [np.setdiff1d(rows, blurry) for rows in phases] + np.array_split(blurry, 3)):
        model = gm.AnalyticClassifier(gm.RandomFeatures(width), ridge=ridge, dtype=dtype)
        for rows in order:
            model.partial_fit(scaled[rows], y[rows])
        models.append(model)
    Z, Z_test = reference_map(X / 255.0, width), reference_map(X_test / 255.0, width)
    classes, coef, intercept = joint(Z, y, ridge)
    unit = checks.EPS if dtype == "float64" else checks.EPS32
    for model in models:
        assert np.array_equal(model.classes_, classes)
        error = checks.relative_error(model.coef_, coef)
        assert error <= (1e-10 if dtype == "float64" else 1e-4)
        # Scores: the weights' error and that of a dot product, by the sizes of what is added up.
        size = (np.abs(Z_test) @ np.abs(coef).T).max()
        bound = max(error, 4 * width * unit) * size
        # In single precision the worst case of rounding leaves one row in a hundred open; nearly all agree anyway.
        share = 0.999 if dtype == "float64" else 0.98
        predicted = compare(model, scaled_test, Z_test, classes, coef, intercept, bound, share)
        assert (predicted == y_test).mean() > 0.84
    agreement = (models[0].predict(scaled_test) == models[1].predict(scaled_test)).mean()
    assert agreement >= (1.0 if dtype == "float64" else 0.999)


def test_fashion_pixels_are_read_as_they_are(fashion):
    X, y, X_test, _ = fashion
    bytes_in = gm.AnalyticClassifier(gm.RandomFeatures(300, scale=1 / 28 / 255), ridge=30.0).fit(X[:3000], y[:3000])
    floats_in = gm.AnalyticClassifier(gm.RandomFeatures(300, scale=1 / 28 / 255), ridge=30.0).fit(
        X[:3000].astype(float), y[:3000]
    )
    assert bytes_in.state_.to_bytes() == floats_in.state_.to_bytes()
    assert np.array_equal(bytes_in.predict(X_test), floats_in.predict(X_test.astype(float)))


def test_without_the_gain_fashion_goes_wrong(fashion):
    """The negative control on real data: it must be seen in at least one prediction in a hundred."""
    X, y, X_test, _ = fashion
    Z, Z_test = reference_map(X[:4000] / 255.0, 200), reference_map(X_test / 255.0, 200)
    batches = [(Z[k : k + 400], y[k : k + 400]) for k in range(0, 4000, 400)]
    predictions = [
        classes[(Z_test @ coef.T).argmax(axis=1)]
        for classes, coef in (analytic.incremental(batches, 10.0, gain=gain) for gain in (True, False))
    ]
    assert (predictions[0] != predictions[1]).mean() >= 0.01


@pytest.fixture(scope="module")
def intents(request):
    folder = request.getfixturevalue("data_dir")
    path = folder / "text_clinc150_minilm.npz"
    if not path.exists():
        pytest.skip(f"{path.name} is not among the data sets")
    data = np.load(path)
    known = data["y"] >= 0
    train, test = known & (data["split"] == 0), known & (data["split"] == 2)
    return data["x"][train], data["y"][train].astype(int), data["x"][test], data["y"][test].astype(int)


def test_intents_in_fifteen_phases(intents):
    X, y, X_test, y_test = intents  # float16, read as it is
    order = np.random.default_rng(7).permutation(150)
    ridge, width = 1.0, 600
    model = gm.AnalyticClassifier(gm.RandomFeatures(width), ridge=ridge)
    Z = reference_map(X.astype(np.float64), width)
    Z_test = reference_map(X_test.astype(np.float64), width)
    for phase in range(15):
        rows = np.flatnonzero(np.isin(y, order[10 * phase : 10 * phase + 10]))
        model.partial_fit(X[rows], y[rows])
        if phase in (0, 7, 14):
            seen = np.isin(y, order[: 10 * phase + 10])
            classes, coef, intercept = joint(Z[seen], y[seen], ridge)
            assert np.array_equal(model.classes_, np.sort(order[: 10 * phase + 10]))
            assert checks.relative_error(model.coef_, coef) <= 1e-10
            known = np.isin(y_test, classes)
            size = (np.abs(Z_test) @ np.abs(coef).T).max()
            bound = max(1e-10, 4 * width * checks.EPS) * size
            predicted = compare(model, X_test[known], Z_test[known], classes, coef, intercept, bound)
            assert (predicted == y_test[known]).mean() > 0.9
    # And one class's rows forgotten are rows never seen.
    gone = y == order[3]
    model.forget(X[gone], y[gone])
    classes, coef, _ = joint(Z[~gone], y[~gone], ridge)
    assert np.array_equal(model.classes_, classes)
    assert checks.relative_error(model.coef_, coef) <= max(1e-10, model.report_.removal_bound)
