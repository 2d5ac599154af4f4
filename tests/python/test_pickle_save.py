"""A model that was pickled, copied or saved is the same model, and files that are none are refused."""

import copy
import dataclasses
import json
import os
import pickle

import numpy as np
import pytest

import gramian
from gramian import (
    AnalyticClassifier,
    AnalyticRegressor,
    CodedClassifier,
    FeatureChain,
    FormatError,
    FusedFeatures,
    GramState,
    RandomFeatures,
    RBFFeatures,
    _model_config,
)


@pytest.fixture
def data(rng):
    X = rng.normal(size=(80, 4))
    return X, np.array(["b", "a", "c"])[np.arange(80) % 3]


CENTERS = np.random.default_rng(1).normal(size=(5, 4))
MODELS = {
    "plain": AnalyticClassifier(ridge=0.4),
    "gcv": AnalyticClassifier(ridge="gcv", ridges=[0.1, 1.0, 10.0], standardize=True),
    "float32": AnalyticClassifier(dtype="float32", fit_intercept=False),
    "random features": AnalyticClassifier(RandomFeatures(30, activation="tanh", bias=0.2, random_state=2**63 + 7)),
    "seed of the estimator": AnalyticClassifier(RandomFeatures(30, random_state=None), random_state=5),
    "drawn centers": AnalyticClassifier(RBFFeatures(7)),
    "given centers": AnalyticClassifier(RBFFeatures(CENTERS, gamma=0.5)),
    "chain": AnalyticClassifier(FeatureChain([RandomFeatures(20, kind="hadamard"), RBFFeatures(6)])),
    "class weight": AnalyticClassifier(class_weight={"a": 2.0, "b": 0.5}),
}


def assert_same(found, expected, X):
    assert type(found) is type(expected)
    assert repr(found) == repr(expected)
    assert np.array_equal(found.decision_function(X), expected.decision_function(X))
    assert np.array_equal(found.predict(X), expected.predict(X))
    assert found.classes_.dtype == expected.classes_.dtype
    assert np.array_equal(found.classes_, expected.classes_)
    assert found.n_features_in_ == expected.n_features_in_
    assert found.ridge_ == expected.ridge_
    if expected.feature_map is not None:
        np.testing.assert_allclose(found.feature_map_.transform(X), expected.feature_map_.transform(X))


@pytest.mark.parametrize("name", MODELS)
def test_full_file(data, tmp_path, name):
    X, y = data
    model = MODELS[name].fit(X[:60], y[:60])
    model.save(tmp_path / "model.gramian")
    found = gramian.load(tmp_path / "model.gramian")
    assert_same(found, model, X)
    for one in (found, model):
        one.partial_fit(X[60:], y[60:]).forget(X[:10], y[:10])
    assert_same(found, model, X)
    assert len(list(tmp_path.iterdir())) == 1


@pytest.mark.parametrize("name", MODELS)
def test_weights_only_file(data, tmp_path, name):
    X, y = data
    model = MODELS[name].fit(X, y)
    model.save(tmp_path / "weights.gramian", what="weights")
    found = gramian.load(tmp_path / "weights.gramian")
    assert_same(found, model, X)
    assert dataclasses.replace(model.report_, seconds=0.0) == found.report_
    np.testing.assert_allclose(found.predict_proba(X), model.predict_proba(X), rtol=1e-12)
    assert_same(pickle.loads(pickle.dumps(found)), model, X)
    for call in (
        lambda: found.partial_fit(X, y),
        lambda: found.forget(X, y),
        lambda: found.merge(model),
        lambda: found.save(tmp_path / "full.gramian"),
        lambda: found.state_,
    ):
        with pytest.raises(NotImplementedError, match="weights only"):
            call()
    found.save(tmp_path / "again.gramian", what="weights")
    assert_same(gramian.load(tmp_path / "again.gramian"), model, X)
    found.fit(X, y)
    assert_same(found, model, X)


@pytest.mark.filterwarnings("ignore:.*rank")
def test_weights_say_how_they_were_solved(data, tmp_path):
    X, _ = data
    model = gramian.AnalyticRegressor(ridge=1e-13).fit(np.c_[X, X], X[:, 0])
    assert model.report_.method == "eigh" and model.report_.rank == X.shape[1] and model.report_.fallback
    model.save(tmp_path / "weights.gramian", what="weights")
    assert gramian.load(tmp_path / "weights.gramian").report_ == dataclasses.replace(model.report_, seconds=0.0)


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("duplicate", [copy.deepcopy, lambda model: pickle.loads(pickle.dumps(model))])
def test_pickle_and_deepcopy(data, name, duplicate):
    X, y = data
    model = MODELS[name].fit(X[:60], y[:60])
    found = duplicate(model)
    assert_same(found, model, X)
    before = model.n_samples_seen_
    found.partial_fit(X[60:], y[60:])
    assert model.n_samples_seen_ == before


def test_regressor_files(data, tmp_path, rng):
    X = data[0]
    for Y in (rng.normal(size=80), rng.normal(size=(80, 1)), rng.normal(size=(80, 3))):
        model = AnalyticRegressor(RandomFeatures(12), ridge=0.2).fit(X, Y)
        for what in ("full", "weights"):
            model.save(tmp_path / "model.gramian", what=what)
            found = gramian.load(tmp_path / "model.gramian")
            assert isinstance(found, AnalyticRegressor)
            assert np.array_equal(found.predict(X), model.predict(X))
            assert found.predict(X).shape == Y.shape
            assert repr(found) == repr(model)


def test_multi_label_files(data, tmp_path):
    X = data[0]
    model = AnalyticClassifier().fit(X, (X[:, :3] > 0).astype(int))
    model.save(tmp_path / "model.gramian")
    for found in (gramian.load(tmp_path / "model.gramian"), pickle.loads(pickle.dumps(model))):
        assert isinstance(found, AnalyticClassifier)
        assert np.array_equal(found.predict(X), model.predict(X))
        assert np.array_equal(found.predict_proba(X), model.predict_proba(X))


@pytest.mark.parametrize(
    "y",
    [
        np.arange(80) % 2 == 0,
        (np.arange(80) % 3).astype(np.int16),
        (np.arange(80) % 3).astype(np.float32),
        np.array([b"x", b"\xfe"])[np.arange(80) % 2],
        np.array(["x", "y"], dtype=object)[np.arange(80) % 2],
    ],
    ids=lambda y: str(y.dtype),
)
def test_labels_in_files(data, tmp_path, y):
    X = data[0]
    model = AnalyticClassifier().partial_fit(X, y, classes=np.unique(y))
    model.save(tmp_path / "model.gramian")
    found = gramian.load(tmp_path / "model.gramian")
    assert_same(found, model, X)
    assert np.array_equal(found.class_count_, model.class_count_)
    found.partial_fit(X, y)


def test_calibration_and_column_names_in_files(data, tmp_path):
    pandas = pytest.importorskip("pandas", reason="pandas is not installed")
    X, y = data
    frame = pandas.DataFrame(X, columns=list("wxyz"))
    model = AnalyticClassifier().fit(frame, y).calibrate(frame, y)
    model.save(tmp_path / "model.gramian")
    found = gramian.load(tmp_path / "model.gramian")
    assert list(found.feature_names_in_) == list("wxyz")
    assert found.temperature_ == model.temperature_
    with pytest.raises(ValueError, match="feature names"):
        found.predict(frame[list("zyxw")])


def test_file_of_a_state(tmp_path, rng):
    state = GramState(3, 1).add(rng.normal(size=(9, 3)), rng.normal(size=9))
    state.save(tmp_path / "state.gramian")
    found = gramian.load(tmp_path / "state.gramian")
    assert isinstance(found, GramState)
    assert found.to_bytes() == state.to_bytes()
    AnalyticRegressor().fit(rng.normal(size=(9, 3)), rng.normal(size=9)).save(tmp_path / "model.gramian")
    with pytest.raises(FormatError):
        GramState.load(tmp_path / "model.gramian")


def test_file_of_another_program(data, tmp_path):
    """A model that no Python estimator described: the parameters come from the model."""
    X, y = data
    model = AnalyticClassifier(
        FeatureChain([RandomFeatures(20, random_state=3), RBFFeatures(CENTERS @ np.ones((4, 20)), gamma=0.01)]),
        ridge=0.3,
        dtype="float32",
    ).fit(X, y)
    model._learnt.model.save(str(tmp_path / "model.gramian"), False, "")
    found = gramian.load(tmp_path / "model.gramian")
    assert isinstance(found, AnalyticClassifier)
    assert (found.ridge, found.dtype) == (0.3, "float32")
    assert found.feature_map.maps[0].random_state == 3
    assert np.array_equal(found.decision_function(X), model.decision_function(X))
    again = AnalyticClassifier(**found.get_params(deep=False)).fit(X, y)
    np.testing.assert_allclose(again.decision_function(X), model.decision_function(X))


def test_files_that_are_refused(data, tmp_path):
    X, y = data
    path = tmp_path / "model.gramian"
    AnalyticClassifier(RandomFeatures(10)).fit(X, y).save(path)
    whole = path.read_bytes()
    for damaged in (b"", b"not a model", whole[:100], whole[:-1], whole + b"\0", b"\xff" * 8 + whole[8:]):
        path.write_bytes(damaged)
        with pytest.raises(FormatError):
            gramian.load(path)
    with pytest.raises(FileNotFoundError):
        gramian.load(tmp_path / "missing.gramian")
    with pytest.raises(IsADirectoryError):
        gramian.load(tmp_path)
    path.write_bytes(whole)
    assert gramian.load(path).n_samples_seen_ == 80


def test_description_that_is_damaged(data, tmp_path):
    X, y = data
    model = AnalyticClassifier().fit(X, y)
    for extra in (
        '{"estimator": "AnalyticClassifier"}',
        '{"estimator": "AnalyticClassifier", "params": 3, "learnt": {}}',
        '{"estimator": "AnalyticRegressor", "params": {"feature_map": null, "random_state": null}, "learnt": {}}',
        '{"estimator": "AnalyticClassifier", "params": {"feature_map": null, "random_state": null, "evil": 1},'
        ' "learnt": {}}',
    ):
        model._learnt.model.save(str(tmp_path / "model.gramian"), False, extra)
        with pytest.raises(FormatError, match="description of the estimator"):
            gramian.load(tmp_path / "model.gramian")


DAMAGED = {
    "a number of names": ("learnt", {"feature_names_in": 5}),
    "a text of names": ("learnt", {"feature_names_in": "x"}),
    "names that are anything": ("learnt", {"feature_names_in": [[1], 2, {}, None]}),
    "names of other things": ("learnt", {"feature_names_in": [1, 2, 3, 4]}),
    "too few names": ("learnt", {"feature_names_in": ["a"]}),
    "declared as an object": ("learnt", {"declared": {}}),
    "declared as a text": ("learnt", {"declared": "x"}),
    "none declared": ("learnt", {"declared": []}),
    "declared of two kinds": ("learnt", {"declared": [["integer", 1], ["text", "a"]]}),
    "declared of an unknown kind": ("learnt", {"declared": [["colour", 1]]}),
    "declared of a wrong type": ("learnt", {"declared": [["integer", "a"]]}),
    "declared of another kind": ("learnt", {"declared": [["integer", 1]]}),
    "declared lists": ("learnt", {"declared": [["integer", [1]]]}),
    "class_weight as a text": ("params", {"class_weight": "x"}),
    "class_weight as a number": ("params", {"class_weight": 2}),
    "class_weight as an object": ("params", {"class_weight": {"0": 1.0}}),
    "class_weight of a text": ("params", {"class_weight": [[["integer", 0], "heavy"]]}),
    "class_weight below 0": ("params", {"class_weight": [[["integer", 0], -1.0]]}),
    "class_counts as a number": ("learnt", {"class_counts": 3}),
    "class_counts of a list": ("learnt", {"class_counts": [[["integer", 0], [1]]]}),
}


def load_with(model, part, values, path):
    """The model read back from a file whose description has other values in one part."""
    description = json.loads(_model_config.description_of(type(model).__name__, model._learnt))
    description[part].update(values)
    model._learnt.model.save(str(path), False, json.dumps(description))
    return gramian.load(path)


@pytest.mark.parametrize("name", DAMAGED)
def test_names_labels_and_weights_of_classes_that_are_damaged(data, tmp_path, name):
    X, y = data
    model = AnalyticClassifier().partial_fit(X, y, classes=np.unique(y))
    with pytest.raises(FormatError, match="description of the estimator"):
        load_with(model, *DAMAGED[name], tmp_path / "model.gramian")


@pytest.mark.parametrize(
    "part, values",
    [
        ("learnt", {"feature_names_in": ["a", "b", "c", "d"]}),
        ("learnt", {"declared": None}),
        ("learnt", {"declared": [["text", "z"], ["text", "a"], ["text", "b"], ["text", "c"]]}),
        ("params", {"class_weight": None}),
        ("params", {"class_weight": "balanced"}),
        ("params", {"class_weight": "air"}),
        ("params", {"class_weight": [[["text", "a"], 2.0]]}),
    ],
)
def test_names_labels_and_weights_of_classes_that_are_whole(data, tmp_path, part, values):
    X, y = data
    model = AnalyticClassifier().partial_fit(X, y, classes=np.unique(y))
    found = load_with(model, part, values, tmp_path / "model.gramian")
    assert np.array_equal(found.coef_, model.coef_)
    if "feature_names_in" in values:
        assert list(found.feature_names_in_) == values["feature_names_in"]


def test_other_models_with_damaged_names(data, tmp_path):
    X, y = data
    with pytest.raises(FormatError, match="declared labels of kind integer"):
        load_with(CodedClassifier().fit(X, y), "learnt", {"declared": [["integer", 1]]}, tmp_path / "model.gramian")
    models = AnalyticRegressor().fit(X, X), CodedClassifier().fit(X, y), AnalyticClassifier(RandomFeatures(9)).fit(X, y)
    for model in models:
        for names in (5, "x", ["a"], ["a"] * 9, [[1], 2, {}, None]):
            with pytest.raises(FormatError, match="column names"):
                load_with(model, "learnt", {"feature_names_in": names}, tmp_path / "model.gramian")


def test_saving_nowhere(data, tmp_path):
    model = AnalyticClassifier().fit(*data)
    with pytest.raises(OSError):
        model.save(tmp_path / "no such folder" / "model.gramian")
    with pytest.raises(ValueError, match="what must be"):
        model.save(tmp_path / "model.gramian", what="half")


def test_size_does_not_depend_on_rows(rng):
    sizes = set()
    for n in (50, 500):
        X = rng.normal(size=(n, 6))
        sizes.add(AnalyticRegressor().fit(X, X[:, 0]).nbytes)
    assert len(sizes) == 1


JUNK = {"feature_map": 3, "ridge": object(), "ridges": "x", "verbose": "x", "random_state": [], "dtype": "int"}


@pytest.mark.parametrize("name", MODELS)
def test_a_file_has_the_parameters_of_the_fit(data, tmp_path, name):
    X, y = data
    model = copy.deepcopy(MODELS[name]).fit(X, y)
    before = repr(model)
    for later in ({"feature_map": FeatureChain([RandomFeatures(3)])}, {"feature_map": RBFFeatures(2)}, JUNK):
        model.set_params(**later).save(tmp_path / "model.gramian")
        found = gramian.load(tmp_path / "model.gramian")
        assert repr(found) == before
        assert np.array_equal(found.decision_function(X), model.decision_function(X))


def test_weights_alone_have_no_attributes_of_sums(data, tmp_path):
    AnalyticClassifier().fit(*data).save(tmp_path / "weights.gramian", what="weights")
    found = gramian.load(tmp_path / "weights.gramian")
    for name in ("n_samples_seen_", "state_", "nbytes"):
        assert not hasattr(found, name)
    assert hasattr(found, "coef_")


def test_the_map_of_another_program_is_not_fitted(data, tmp_path):
    X, y = data
    chain = FeatureChain([RandomFeatures(20), RBFFeatures(4)])
    AnalyticClassifier(chain).fit(X, y)._learnt.model.save(str(tmp_path / "model.gramian"), False, "")
    found = gramian.load(tmp_path / "model.gramian")
    for part in (found.feature_map, *found.feature_map.maps):
        assert not hasattr(part, "n_features_in_")
    assert found.feature_map_.n_features_in_ == 4


def test_paths_that_are_not_utf8(data, tmp_path):
    model = AnalyticClassifier().fit(*data)
    path = os.fspath(tmp_path / "model-\udcff.gramian")
    model.save(path)
    assert gramian.load(path).n_samples_seen_ == 80
    with open(path, "wb") as file:
        file.write(b"no model at all")
    with pytest.raises(FormatError):
        gramian.load(path)
    model.state_.save(path)
    assert GramState.load(path).n_rows == 80
    with pytest.raises(OSError, match="xff"):
        model.save(os.fspath(tmp_path / "no\udcff" / "model.gramian"))


@pytest.mark.parametrize(
    ("model", "home", "once"),
    [
        (gramian.LogisticHead(), b"gramian.logistic_head", b"gramian.second_order"),
        (gramian.SketchedRidge(), b"gramian._sketched_ridge", b"gramian.ridge_sketch"),
    ],
    ids=["LogisticHead", "SketchedRidge"],
)
def test_pickles_that_name_an_earlier_module(model, home, once):
    X = np.random.default_rng(0).normal(size=(60, 3))
    model.fit(X, (X[:, 0] > 0).astype(int))
    text = pickle.dumps(model, protocol=0)  # which has names as text
    assert text.count(home) >= 1
    back = pickle.loads(text.replace(home, once))
    assert type(back) is type(model)
    assert np.array_equal(back.predict(X), model.predict(X))
    # A module of the name of a function would hide the function once it is imported.
    assert callable(gramian.sketched_ridge)


OLDER_MAPS = [
    (RandomFeatures(6, bias=0.5, random_state=3), b"random_features", ["n_nonzero"]),
    (RBFFeatures(4), b"rbf_features", ["origin"]),
    (RBFFeatures(CENTERS, gamma=0.5), b"rbf_features", ["origin", "too_few"]),
    (FeatureChain([RandomFeatures(6)]), b"composition", []),
    (FusedFeatures(2, RandomFeatures(6)), b"fusion", ["n_features"]),
]


@pytest.mark.parametrize(("feature_map", "home", "younger"), OLDER_MAPS, ids=lambda v: type(v).__name__)
def test_pickles_of_maps_of_earlier_versions(data, feature_map, home, younger):
    """They name the module of all maps, and lack the parameters that came later: these are what they were without."""
    X, y = data
    for fitted in (False, True):
        older = copy.deepcopy(feature_map.fit(X) if fitted else feature_map)
        for name in younger:
            del older.__dict__[name]
        text = pickle.dumps(older, protocol=0)
        assert text.count(b"gramian." + home) >= 1
        back = pickle.loads(text.replace(b"gramian." + home, b"gramian.features"))
        assert type(back) is type(feature_map)
        expected = feature_map.get_params()
        if isinstance(feature_map, RBFFeatures) and not isinstance(feature_map.centers, int):
            expected["origin"] = "rows"  # nobody knows, and an unlearning record must not call it clean
        found = back.get_params()
        assert found.keys() == expected.keys()
        assert repr(back) == repr(type(feature_map)(**{name: expected[name] for name in found if "__" not in name}))
        again = pickle.loads(pickle.dumps(back))
        made = feature_map.fit_transform(X)
        assert np.array_equal(again.transform(X) if fitted else again.fit_transform(X), made)
        model = AnalyticClassifier(back).fit(X, y)
        assert np.array_equal(model.predict(X), AnalyticClassifier(feature_map).fit(X, y).predict(X))


def test_unknown_origin_of_centres_in_files(data, tmp_path, monkeypatch):
    """A file from before maps said what their centres were made from is not clean, however often it is saved again."""
    X, y = data
    described = RBFFeatures._params_json
    with monkeypatch.context() as earlier:
        earlier.setattr(
            RBFFeatures, "_params_json", lambda self: {k: v for k, v in described(self).items() if k != "origin"}
        )
        for name, centers in (("given", CENTERS), ("drawn", 4)):
            AnalyticClassifier(RBFFeatures(centers, gamma=0.5)).fit(X, y).save(tmp_path / name)
    found = {name: gramian.load(tmp_path / name) for name in ("given", "drawn")}
    assert {name: model.feature_map.origin for name, model in found.items()} == {"given": "rows", "drawn": "given"}
    fresh = AnalyticClassifier(found["given"].feature_map).fit(X, y)
    for model in (found["given"], pickle.loads(pickle.dumps(found["given"])), fresh):
        record = gramian.unlearn(model, X[:3], y[:3])
        assert [one.status for one in record.dependencies if one.what == "feature map"] == ["unknown"]
