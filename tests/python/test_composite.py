"""Model files of estimators that are more than one compiled model: round trips, and files that are none."""

import pickle

import numpy as np
import pytest

import gramian as gm
from gramian import _composite
from gramian._composite import HOMES

safetensors_numpy = pytest.importorskip("safetensors.numpy")

N, D = 60, 5


def data():
    rng = np.random.default_rng(7)
    X = rng.normal(size=(N, D)) + 1.0
    return X, rng.integers(0, 3, N), X @ rng.normal(size=D) + 0.1 * rng.normal(size=N)


def levels_of(y):
    """Predictions of two models at three levels."""
    rng = np.random.default_rng(1)
    middle = y[:, np.newaxis] + 0.3 * rng.normal(size=(len(y), 2))
    return middle[:, :, np.newaxis] + np.array([-1.0, 0.0, 1.0])


def grown(X, y):
    model = gm.BroadLearner(8, 10, random_state=2**64 - 1).fit(X[:40], y[:40]).partial_fit(X[40:], y[40:])
    return model.add_nodes(X, y, mapped=3, enhancement=4).delete_nodes([2, 9])


def second_phase(X, y):
    model = gm.TranslatedClassifier(gm.RandomFeatures(7), ridge="gcv", ridges=[0.1, 1.0]).fit(X[y < 2], y[y < 2])
    return model.end_phase().partial_fit(X[y == 2], y[y == 2])


def test_every_composite_has_its_home():
    composites = {
        name
        for name in gm.__all__
        if isinstance(getattr(gm, name), type) and issubclass(getattr(gm, name), _composite.Composite)
    }
    assert composites == set(HOMES)
    assert composites <= {name.partition(",")[0] for name in CASES}


TEXT = np.array(["a", "é", "zz"])
CASES = {
    "DeepKernelClassifier": lambda X, y, t: gm.DeepKernelClassifier().fit(X, TEXT[y]),
    "DeepKernelClassifier, tanh": lambda X, y, t: gm.DeepKernelClassifier(
        gm.DeepKernel(np.tanh, 3, "ntk", lift=0.5)
    ).fit(X, y.astype(np.int8)),
    "DeepKernelClassifier, bytes": lambda X, y, t: gm.DeepKernelClassifier(ridge=0.1).fit(
        X, np.array([b"a", b"bc", b"\xff"])[y]
    ),
    "DeepKernelClassifier, objects": lambda X, y, t: gm.DeepKernelClassifier(ridge=0.1).fit(X, TEXT[y].astype(object)),
    "DeepKernelRegressor": lambda X, y, t: gm.DeepKernelRegressor(gm.DeepKernel("erf", bias=0.2)).fit(X, t),
    "DeepKernelRegressor, two": lambda X, y, t: gm.DeepKernelRegressor(fit_intercept=False).fit(
        X, np.stack([t, -t], 1)
    ),
    "InfiniteWidthEnsemble": lambda X, y, t: gm.InfiniteWidthEnsemble(n_members=4, ridge=0.1, random_state=3).fit(X, t),
    "InfiniteWidthEnsemble, no seed": lambda X, y, t: gm.InfiniteWidthEnsemble(
        gm.DeepKernel("erf", 1), 4, random_state=None
    ).fit(X, np.stack([t, t], 1)),
    "ReplayClassifier": lambda X, y, t: gm.ReplayClassifier(ridge=0.3).fit(X, TEXT[y]),
    "SingularKernelClassifier": lambda X, y, t: (
        gm.SingularKernelClassifier().fit(X[:30], TEXT[y[:30]]).partial_fit(X[30:], TEXT[y[30:]])
    ),
    "SingularKernelClassifier, nearest": lambda X, y, t: gm.SingularKernelClassifier(np.inf).fit(X, y == 1),
    "SingularKernelClassifier, late labels": lambda X, y, t: (
        gm.SingularKernelClassifier(3.0).fit(X[:30], y[:30] + 5.0).partial_fit(X[30:], 1.0 * y[30:])
    ),
    "AlignedClassifier": lambda X, y, t: gm.AlignedClassifier(class_totals=[1.0, 2.0, 3.0]).fit(X, TEXT[y]),
    "AlignedClassifier, low rank": lambda X, y, t: gm.AlignedClassifier(covariance="low_rank", rank=2).fit(X, TEXT[y]),
    "AlignedClassifier, full": lambda X, y, t: gm.AlignedClassifier(
        gm.RBFFeatures(9), covariance="full", ridge="gcv", ridges=[0.5, 2.0], dtype=np.float32
    ).fit(X, y),
    "TranslatedClassifier": lambda X, y, t: second_phase(X, y),
    "BroadLearner": lambda X, y, t: grown(X, TEXT[y]),
    "BroadLearner, no intercept": lambda X, y, t: gm.BroadLearner(8, 0, fit_intercept=False).fit(X, y == 0),
    "JackknifePlus": lambda X, y, t: gm.JackknifePlus(gm.RandomFeatures(12), ridge=0.5, method="minmax").fit(X, t),
    "JackknifePlus, folds": lambda X, y, t: gm.JackknifePlus(ridge="gcv", ridges=[0.1, 1.0], method="cv+", cv=7).fit(
        X, np.stack([t, t**2], 1)
    ),
    "ConformalRidge": lambda X, y, t: gm.ConformalRidge(gm.RBFFeatures(6), residual="plain", alpha=0.2).fit(X, t),
    "ConformalClassifier": lambda X, y, t: gm.ConformalClassifier(by_class=False).fit(X, TEXT[y]),
    "LogisticHead": lambda X, y, t: gm.LogisticHead(ridge=0.5).fit(X, TEXT[y]),
    "LogisticHead, two": lambda X, y, t: gm.LogisticHead(solver="adahessian", ridge=9.0).fit(X, y == 1),
    "SketchedRidge": lambda X, y, t: gm.SketchedRidge(0.3).fit(X, t),
    "SketchedRidge, chosen": lambda X, y, t: gm.SketchedRidge("loo", [0.1, 1.0], fit_intercept=False).fit(
        X, np.stack([t, -t], 1)
    ),
    "SoftmaxRegression": lambda X, y, t: gm.SoftmaxRegression(ridge=1e-3).fit(X, np.exp(t) / np.exp(t).sum()),
    "QuantileAggregator": lambda X, y, t: (
        gm.QuantileAggregator([0.1, 0.5, 0.9], "stacked").fit(levels_of(t), t).calibrate(levels_of(t)[:6], t[:6])
    ),
    "QuantileAggregator, pairs": lambda X, y, t: gm.QuantileAggregator(
        np.array([0.1, 0.5, 0.9]), [1, 3], repair="isotonic", calibration="pairs"
    ).fit(levels_of(t), t),
}
MAPS = {
    "RandomFeatures": lambda: gm.RandomFeatures(9, kind="sparse", random_state=2**64 - 1),
    "RandomFeatures, cos": lambda: gm.RandomFeatures(9, "orthogonal", "cos", scale=0.3),
    "RBFFeatures": lambda: gm.RBFFeatures(7),
    "RBFFeatures, given": lambda: gm.RBFFeatures(np.eye(D), gamma=0.5),
    "FusedFeatures": lambda: gm.FusedFeatures([2, 3], [gm.RandomFeatures(4), None]),
    "FeatureChain": lambda: gm.FeatureChain([gm.RandomFeatures(8), gm.RBFFeatures(5)]),
}
ANSWERS = (
    "decision_function",
    "distribution",
    "p_values",
    "predict",
    "predict_interval",
    "predict_proba",
    "predict_set",
    "sample",
)
ATTRIBUTES = (
    "alpha_",
    "centroids_",
    "class_count_",
    "classes_",
    "coef_",
    "feature_names_in_",
    "held_out_residuals_",
    "intercept_",
    "levels_",
    "n_features_in_",
    "n_nodes_",
    "n_samples_seen_",
    "past_",
    "ridge_",
    "shifts_",
    "weights_",
)


def same(one, two):
    if isinstance(one, (tuple, list)):
        return len(one) == len(two) and all(map(same, one, two))
    one, two = np.asarray(one), np.asarray(two)
    return one.dtype == two.dtype and np.array_equal(one, two)


def assert_same(one, two, queries):
    """Every answer and every attribute, to the last bit."""
    assert type(one) is type(two)
    tried = 0
    for name in ANSWERS:
        assert hasattr(one, name) == hasattr(two, name), name
        if hasattr(one, name):
            tried += 1
            assert same(getattr(one, name)(queries), getattr(two, name)(queries)), name
    for name in ATTRIBUTES:
        assert hasattr(one, name) == hasattr(two, name), name
        if hasattr(one, name):
            assert same(getattr(one, name), getattr(two, name)), name
    assert tried >= 1


def queries_of(name, X, t):
    return levels_of(t) if name.startswith("Quantile") else X[:20] + 0.1


def test_every_estimator_that_a_file_may_name_is_tried():
    assert {name.partition(",")[0] for name in CASES} == set(HOMES)
    for name, home in HOMES.items():
        assert getattr(gm, name).__module__ == f"gramian.{home}"


def test_every_fitted_estimator_can_be_saved():
    for name in gm.__all__:
        kind = getattr(gm, name)
        if isinstance(kind, type) and hasattr(kind, "fit"):
            assert hasattr(kind, "save"), name


def test_maps(tmp_path):
    X, *_ = data()
    assert {name.partition(",")[0] for name in MAPS} == set(_composite.MAPS)
    pandas = pytest.importorskip("pandas")
    for name, make in MAPS.items():
        for rows in (X, pandas.DataFrame(X, columns=list("abcde"))):
            fitted, path = make().fit(rows), tmp_path / "map"
            fitted.save(path)
            loaded = gm.load(path)
            assert same(loaded.transform(rows), fitted.transform(rows)), name
            assert repr(loaded) == repr(fitted)
            assert vars(loaded).keys() == vars(fitted).keys()
            assert safetensors_numpy.load_file(path).keys() <= {"centers", "_pad0", "_pad1", "_pad2", "1.centers"}
            loaded.save(tmp_path / "again")
            assert (tmp_path / "again").read_bytes() == path.read_bytes()
        good = path.read_bytes()
        for size in (0, 64, len(good) - 64):
            with pytest.raises(gm.FormatError):
                load_of(good[:size], tmp_path)
        with pytest.raises(gm.FormatError):
            load_of(with_text(good, b'\\"learnt\\"', b'\\"forgot\\"'), tmp_path)
        with pytest.raises(ValueError, match="not fitted"):
            make().save(path)
        assert path.read_bytes() == good


@pytest.mark.parametrize("name", CASES)
def test_files_and_pickles_give_the_same_bits(name, tmp_path):
    X, y, t = data()
    model = CASES[name](X, y, t)
    queries, path = queries_of(name, X, t), tmp_path / "model.gramian"
    model.save(path)
    loaded = gm.load(path)
    assert_same(model, loaded, queries)
    assert_same(model, pickle.loads(pickle.dumps(model)), queries)
    # Written again it is the same file, but for what a function became.
    loaded.save(tmp_path / "again")
    assert (tmp_path / "again").read_bytes() == path.read_bytes()
    if "tanh" not in name and "dtype=" not in repr(model) and "array" not in repr(model):
        assert repr(loaded) == repr(model)
    # The old file stays where a new one cannot be written.
    before = path.read_bytes()
    with pytest.raises(OSError):
        model.save(tmp_path / "no such folder" / "model")
    assert path.read_bytes() == before


@pytest.mark.parametrize("name", CASES)
def test_safetensors_reads_them(name, tmp_path):
    X, y, t = data()
    CASES[name](X, y, t).save(tmp_path / "model.gramian")
    tensors = safetensors_numpy.load_file(tmp_path / "model.gramian")
    with safetensors_numpy.safe_open(tmp_path / "model.gramian", framework="numpy") as file:
        metadata = file.metadata()
    assert metadata["format"] == "gramian" and metadata["model"] == "composite" and metadata["schema"] == "1"
    named = {key: value for key, value in tensors.items() if not key.startswith("_pad")}
    assert named
    # Written again by that package, it is still a model.
    safetensors_numpy.save_file(named, tmp_path / "again", metadata=metadata)
    queries = queries_of(name, X, t)
    assert_same(gm.load(tmp_path / "model.gramian"), gm.load(tmp_path / "again"), queries)


def header_of(content):
    length = int.from_bytes(content[:8], "little")
    return content[8 : 8 + length], content[8 + length :]


def with_text(content, old, new):
    """The file with a text in its header replaced."""
    header, rest = header_of(content)
    assert old in header
    header = header.rstrip().replace(old, new, 1)
    header += b" " * (-(8 + len(header)) % 64)
    return len(header).to_bytes(8, "little") + header + rest


def load_of(content, tmp_path):
    (tmp_path / "hostile").write_bytes(content)
    return gm.load(tmp_path / "hostile")


@pytest.mark.parametrize("name", CASES)
def test_cut_foreign_and_newer_files(name, tmp_path):
    X, y, t = data()
    model = CASES[name](X, y, t)
    queries, path = queries_of(name, X, t), tmp_path / "model.gramian"
    before = model.predict(queries)
    model.save(path)
    good = path.read_bytes()
    for size in (0, 7, 64, len(header_of(good)[0]), len(good) - 64, len(good) - 1):
        with pytest.raises(gm.FormatError):
            load_of(good[:size], tmp_path)
    with pytest.raises(gm.FormatError, match="not a gramian model"):
        load_of(with_text(good, b'"format":"gramian"', b'"format":"another"'), tmp_path)
    with pytest.raises(gm.FormatError, match="schema"):
        load_of(with_text(good, b'"schema":"1"', b'"schema":"9"'), tmp_path)
    kind = type(model).__name__.encode()
    with pytest.raises(gm.FormatError, match="unknown estimator 'Nothing', written by gramian"):
        load_of(with_text(good, kind, b"Nothing"), tmp_path)
    with pytest.raises(gm.FormatError, match="unknown kind of model"):
        load_of(with_text(good, b'"model":"composite"', b'"model":"nothing"'), tmp_path)
    with pytest.raises(gm.FormatError):
        load_of(with_text(good, b'\\"learnt\\"', b'\\"forgot\\"'), tmp_path)
    assert same(model.predict(queries), before)
    with pytest.raises(ValueError, match="nested"):
        gm.load(path, width=2)


@pytest.mark.parametrize("name", CASES)
def test_damaged_numbers_give_a_model_or_a_format_error(name, tmp_path):
    """Every integer and every list of the description, made wrong one by one."""
    import json

    X, y, t = data()
    CASES[name](X, y, t).save(tmp_path / "model.gramian")
    good = (tmp_path / "model.gramian").read_bytes()
    header, rest = header_of(good)
    table = json.loads(header)
    config = json.loads(table["__metadata__"]["config"])

    def changes(value):
        if isinstance(value, dict):
            for key in value:
                for other in changes(value[key]):
                    yield {**value, key: other}
                yield {k: v for k, v in value.items() if k != key}
        elif isinstance(value, list):
            yield from ([], value + value[:1], "x")
        elif isinstance(value, bool):
            yield "yes"
        elif isinstance(value, (int, float)):
            yield from (-1, 10**7, "x", None)
        elif isinstance(value, str):
            yield from ("", 3)
        else:
            yield from (3, "x", {})

    tried = 0
    for part in ("learnt", "models"):
        for changed in changes(config[part]):
            table["__metadata__"]["config"] = json.dumps({**config, part: changed})
            text = json.dumps(table).encode()
            text += b" " * (-(8 + len(text)) % 64)
            tried += 1
            try:
                model = load_of(len(text).to_bytes(8, "little") + text + rest, tmp_path)
            except gm.FormatError:
                continue
            assert type(model).__name__ == config["estimator"]
    assert tried >= 1 or not config["learnt"]


def test_wrong_rows_of_an_order_are_refused(tmp_path):
    """Places that lie outside of the rows, or stand twice, would be written to."""
    X, y, t = data()
    gm.JackknifePlus().fit(X, t).save(tmp_path / "model.gramian")
    tensors = safetensors_numpy.load_file(tmp_path / "model.gramian")
    with safetensors_numpy.safe_open(tmp_path / "model.gramian", framework="numpy") as file:
        metadata = file.metadata()
    for place, value in ((3, N), (3, -1), (3, 4)):
        changed = {key: np.array(value) for key, value in tensors.items() if not key.startswith("_pad")}
        changed["order"][place] = value
        safetensors_numpy.save_file(changed, tmp_path / "changed", metadata=metadata)
        with pytest.raises(gm.FormatError, match="order"):
            gm.load(tmp_path / "changed")


def test_column_names_and_places(tmp_path):
    pandas = pytest.importorskip("pandas")
    X, y, t = data()
    frame = pandas.DataFrame(X, columns=list("abcde"))
    for model in (gm.DeepKernelRegressor(), gm.ConformalRidge(), gm.SingularKernelClassifier(), gm.BroadLearner(5, 5)):
        model.fit(frame, t if model._estimator_type == "regressor" else y).save(tmp_path / "model")
        loaded = gm.load(tmp_path / "model", n_jobs=1)
        assert list(loaded.feature_names_in_) == list("abcde")
        assert loaded.get_params().get("n_jobs", 1) == 1
        assert same(loaded.predict(frame), model.predict(frame))
        with pytest.raises(ValueError, match="feature names"):
            loaded.predict(frame.rename(columns={"a": "q"}))


def test_not_fitted_and_going_on(tmp_path):
    X, y, t = data()
    for name in HOMES:
        kind = getattr(gm, name)
        with pytest.raises(ValueError, match="not fitted"):
            (kind([0.5]) if name == "QuantileAggregator" else kind()).save(tmp_path / "model")
    assert not (tmp_path / "model").exists()
    for make in (gm.BroadLearner, gm.SingularKernelClassifier, gm.TranslatedClassifier, gm.AlignedClassifier):
        make().fit(X[:40], y[:40]).save(tmp_path / "model")
        loaded = gm.load(tmp_path / "model").partial_fit(X[40:], y[40:])
        whole = make().fit(X[:40], y[:40]).partial_fit(X[40:], y[40:])
        assert np.array_equal(loaded.predict(X), whole.predict(X))
        assert loaded.n_samples_seen_ == N


def test_what_was_fitted_is_kept_when_parameters_change(tmp_path):
    """A parameter set after the fit is for the next one, in files and pickles as in the model itself."""
    X, y, t = data()
    kernel = gm.DeepKernel(depth=2, lift=1.0)
    model = gm.DeepKernelRegressor(kernel).fit(X, t)
    expected = model.predict(X)
    model.set_params(kernel__depth=7, kernel__activation="erf")
    model.save(tmp_path / "model")
    for other in (model, gm.load(tmp_path / "model"), pickle.loads(pickle.dumps(model))):
        assert np.array_equal(other.predict(X), expected)
        assert other.kernel.depth == 7
    model = gm.AlignedClassifier(ridge=0.1, covariance="full").fit(X, y)
    expected = model.decision_function(X)
    model.set_params(ridge=50.0, covariance="tied")
    model.save(tmp_path / "model")
    for other in (gm.load(tmp_path / "model"), pickle.loads(pickle.dumps(model))):
        assert np.array_equal(other.decision_function(X), expected)
    model = gm.JackknifePlus(method="minmax").fit(X, t)
    expected = model.predict_interval(X)
    model.set_params(method="plus")
    model.save(tmp_path / "model")
    assert np.array_equal(gm.load(tmp_path / "model").predict_interval(X), expected)


def test_the_parameter_of_an_ensemble_is_not_touched(monkeypatch):
    """A fit that fails, or another thread, must never see another kernel."""
    X, _, t = data()
    model = gm.InfiniteWidthEnsemble()
    seen = []
    learn = gm.InfiniteWidthEnsemble._learn

    def watched(self, *args, **kwargs):
        seen.append(self.kernel)
        return learn(self, *args, **kwargs)

    monkeypatch.setattr(gm.InfiniteWidthEnsemble, "_learn", watched)
    model.fit(X, t)
    assert seen == [None] and model.kernel is None
    assert model._ready().kernel.kind == "ntk"
