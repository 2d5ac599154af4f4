"""The dual-stream classifier equals its two ridge solves, in both variants, and says where it depends on batches."""

import json
import pickle

import numpy as np
import pytest
from oracle import relative_error
from reference_path import class_incremental

import gramian
from gramian import AnalyticClassifier, DualStreamClassifier, RandomFeatures

# Features of width 60 and rows of a few hundred: c k eps |G| / ridge is below 1e-9 at these ridges.
TOLERANCE = 1e-9
SETTINGS = dict(n_features=60, bias=0.5, ridge=0.5, compensation_ridge=0.2, random_state=7)


@pytest.fixture
def phases(rng):
    """Three phases with new classes; rows of old ones come back in the second and third."""
    centres = rng.normal(size=(6, 8))
    out = []
    for labels in ([0, 1, 2], [3, 4, 0], [5, 1, 3]):
        y = rng.choice(labels, size=120)
        out.append((centres[y] + 0.8 * rng.normal(size=(120, 8)), y))
    return out


def maps(X, activations=("relu", "tanh")):
    return [RandomFeatures(60, activation=f, bias=0.5, random_state=7).fit(X).transform for f in activations]


def expected(phases, cuts, variant, ridge=0.5, compensation_ridge=0.2):
    main, second = maps(phases[0][0])
    batches = [
        [(main(X[a:b]), second(X[a:b]), y[a:b]) for a, b in zip([0, *cut], [*cut, len(y)], strict=True)]
        for (X, y), cut in zip(phases, cuts, strict=True)
    ]
    return class_incremental.dual_stream(batches, ridge, compensation_ridge, variant)


def learn(phases, cuts, variant, **params):
    model = DualStreamClassifier(variant=variant, **{**SETTINGS, **params})
    for number, ((X, y), cut) in enumerate(zip(phases, cuts, strict=True)):
        for k, (a, b) in enumerate(zip([0, *cut], [*cut, len(y)], strict=True)):
            model.partial_fit(X[a:b], y[a:b], new_phase=k == 0 and number > 0)
    return model


CUTS = ([30, 31, 90], [60], [1, 2, 3])
WHOLE = ([], [], [])


@pytest.mark.parametrize("variant", ["invariant", "published"])
@pytest.mark.parametrize("cuts", [WHOLE, CUTS], ids=["whole", "cut"])
def test_equals_the_definition(phases, variant, cuts):
    model = learn(phases, cuts, variant)
    classes, main, second = expected(phases, cuts, variant)
    assert list(model.classes_) == list(classes)
    assert relative_error(model.coef_, main.T) < TOLERANCE
    assert relative_error(model.compensation_coef_, second.T) < TOLERANCE
    X = phases[1][0]
    relu, tanh = (f(X) for f in maps(X))
    scores = relu @ main + 0.6 * (tanh @ second)
    assert relative_error(model.decision_function(X), scores) < TOLERANCE
    assert np.array_equal(model.predict(X), classes[scores.argmax(axis=1)])
    assert model.n_phases_ == 2
    model.end_phase()
    assert relative_error(model.compensation_coef_, second.T) < TOLERANCE
    assert model.n_phases_ == 3


def test_one_phase_is_two_ridge_solves(phases):
    X, y = phases[0]
    relu, tanh = (f(X) for f in maps(X))
    targets = (y[:, np.newaxis] == np.unique(y)).astype(float)
    main = np.linalg.solve(relu.T @ relu + 0.5 * np.eye(60), relu.T @ targets)
    second = np.linalg.solve(tanh.T @ tanh + 0.2 * np.eye(60), tanh.T @ (targets - relu @ main))
    for variant in ("invariant", "published"):
        model = DualStreamClassifier(variant=variant, **SETTINGS).fit(X, y)
        assert relative_error(model.coef_, main.T) < TOLERANCE
        assert relative_error(model.compensation_coef_, second.T) < TOLERANCE


def test_batches_matter_to_the_published_variant_only(phases, rng):
    shuffled = []
    for X, y in phases:
        order = rng.permutation(len(y))
        shuffled.append((X[order], y[order]))
    whole = learn(phases, WHOLE, "invariant").compensation_coef_
    for other, cuts in ((phases, CUTS), (shuffled, WHOLE), (shuffled, CUTS)):
        # 1e-10 of the specification, for a system whose condition number is about 1e3.
        assert relative_error(learn(other, cuts, "invariant").compensation_coef_, whole) < 1e-10
    whole = learn(phases, WHOLE, "published")
    cut = learn(phases, CUTS, "published")
    assert relative_error(cut.compensation_coef_, whole.compensation_coef_) > 0.05
    assert relative_error(cut.coef_, whole.coef_) < TOLERANCE


@pytest.mark.parametrize("variant", ["invariant", "published"])
def test_without_compensation_it_is_acil_bit_for_bit(phases, variant):
    features = RandomFeatures(60, bias=0.5, random_state=7)
    plain = AnalyticClassifier(features, ridge=0.5, fit_intercept=False)
    model = learn(phases, CUTS, variant, compensation=0.0)
    for (X, y), cut in zip(phases, CUTS, strict=True):
        for a, b in zip([0, *cut], [*cut, len(y)], strict=True):
            plain.partial_fit(X[a:b], y[a:b])
    X = phases[2][0]
    assert np.array_equal(model.decision_function(X), plain.decision_function(X))
    assert np.array_equal(model.coef_, plain.coef_)
    scores = model.decision_function(X)
    assert not np.array_equal(model.compensate(0.6).decision_function(X), scores)
    assert relative_error(model.decision_function(X), learn(phases, CUTS, variant).decision_function(X)) < 1e-12


@pytest.mark.parametrize("variant", ["invariant", "published"])
def test_weights_are_repeated_rows(phases, rng, variant):
    times = [rng.integers(0, 3, size=120) for _ in phases]
    weighted = DualStreamClassifier(variant=variant, **SETTINGS)
    repeated = DualStreamClassifier(variant=variant, **SETTINGS)
    for (X, y), w in zip(phases, times, strict=True):
        weighted.partial_fit(X, y, sample_weight=w, new_phase=True)
        repeated.partial_fit(np.repeat(X, w, axis=0), np.repeat(y, w), new_phase=True)
    assert relative_error(weighted.compensation_coef_, repeated.compensation_coef_) < TOLERANCE
    assert weighted.n_samples_seen_ == sum(np.count_nonzero(w) for w in times)


@pytest.mark.parametrize("variant", ["invariant", "published"])
@pytest.mark.parametrize("how", ["pickle", "file"])
def test_saved_models_go_on(phases, tmp_path, variant, how):
    model = learn(phases[:2], CUTS[:2], variant)
    model.save(tmp_path / "model")
    copied = pickle.loads(pickle.dumps(model)) if how == "pickle" else gramian.load(tmp_path / "model")
    assert repr(copied) == repr(model)
    assert copied.get_params() == model.get_params()
    X, y = phases[2]
    for part in (model, copied):
        part.partial_fit(X[:50], y[:50]).end_phase().partial_fit(X[50:], y[50:])
    assert np.array_equal(copied.compensation_coef_, model.compensation_coef_)
    copied.save(tmp_path / "weights", what="weights")
    light = gramian.load(tmp_path / "weights")
    assert np.array_equal(light.decision_function(X), model.decision_function(X))
    with pytest.raises(NotImplementedError, match="weights only"):
        light.partial_fit(X, y)


def test_damaged_files(phases, tmp_path):
    learn(phases, CUTS, "invariant").save(tmp_path / "model")
    data = (tmp_path / "model").read_bytes()
    for old, new in ((b"invariant", b"inversion"), (b"compensation.phase", b"compensation.haste")):
        (tmp_path / "bad").write_bytes(data.replace(old, new))
        with pytest.raises(gramian.FormatError):
            gramian.load(tmp_path / "bad")


def test_damaged_column_names(phases, tmp_path):
    X, y = phases[0]
    DualStreamClassifier(10).fit(X, y).save(tmp_path / "model")
    model, config = gramian._core.load_dual_stream_bytes((tmp_path / "model").read_bytes(), "cpu", 0)
    config = json.loads(config)

    def read_with(names):
        config["extra"]["learnt"]["feature_names_in"] = names
        return DualStreamClassifier._from_model(model, json.dumps(config), "cpu", None)

    names = [f"x{k}" for k in range(X.shape[1])]
    assert list(read_with(names).feature_names_in_) == names
    for damaged in (5, "x", names[1:], [*names[1:], 3]):
        with pytest.raises(gramian.FormatError, match="column names"):
            read_with(damaged)


@pytest.mark.parametrize("variant", ["invariant", "published"])
def test_an_error_changes_nothing(phases, variant):
    model = learn(phases[:2], CUTS[:2], variant)
    X, y = phases[2]
    before, count = model.compensation_coef_, model.n_phases_
    bad = X.copy()
    bad[70, 1] = np.nan
    with pytest.raises(ValueError, match="row 70"):
        model.partial_fit(bad, y, new_phase=True)
    with pytest.raises((TypeError, ValueError)):
        model.partial_fit(X, y.astype(str))
    with pytest.raises(ValueError, match="not in classes"):
        model.partial_fit(X, y, classes=np.arange(5))
    assert model.n_phases_ == count
    assert list(model.classes_) == [0, 1, 2, 3, 4]
    assert np.array_equal(model.compensation_coef_, before)


@pytest.mark.parametrize("variant", ["invariant", "published"])
def test_a_refused_batch_does_not_end_the_phase(phases, variant):
    model, plain = (learn(phases[:2], WHOLE[:2], variant) for _ in range(2))
    X, y = phases[2]
    before = model.compensation_coef_
    for bad, labels in ((1e200 * X, y), (X, y.astype(str))):
        with pytest.raises((TypeError, ValueError)):
            model.partial_fit(bad, labels, new_phase=True)
        assert model.n_phases_ == 1
        assert np.array_equal(model.compensation_coef_, before)
    for part in (model, plain):  # the classes of the phase are still its own
        part.partial_fit(X[:40], y[:40])
    assert np.array_equal(model.compensation_coef_, plain.compensation_coef_)
    model.partial_fit(X[40:], y[40:], new_phase=True)
    plain.end_phase().partial_fit(X[40:], y[40:])
    assert model.n_phases_ == plain.n_phases_ == 2
    assert np.array_equal(model.coef_, plain.coef_)
    assert np.array_equal(model.compensation_coef_, plain.compensation_coef_)


@pytest.mark.parametrize("error", [KeyboardInterrupt, MemoryError])
def test_an_interrupted_batch_does_not_end_the_phase(phases, monkeypatch, error):
    model = learn(phases[:2], WHOLE[:2], "invariant")

    def interrupted(*_):
        raise error

    with monkeypatch.context() as patch:
        patch.setattr(DualStreamClassifier, "_feed", staticmethod(interrupted))
        with pytest.raises(error):
            model.partial_fit(*phases[2], new_phase=True)
    assert model.n_phases_ == 1
    assert model.partial_fit(*phases[2], new_phase=True).n_phases_ == 2


def test_bad_parameters(phases):
    X, y = phases[0]
    for name, value in (
        ("variant", "best"),
        ("ridge", 0.0),
        ("compensation_ridge", -1.0),
        ("compensation", -0.1),
        ("compensation", np.nan),
        ("activation", "step"),
        ("n_features", 0),
        ("verbose", "yes"),
    ):
        with pytest.raises(ValueError, match=name):
            DualStreamClassifier(**{name: value}).fit(X, y)
    with pytest.raises(ValueError, match="one label per row"):
        DualStreamClassifier().fit(X, np.eye(3)[y])
    with pytest.raises(ValueError, match="factor"):
        DualStreamClassifier(10).fit(X, y).compensate(-1)
    model = DualStreamClassifier(10).fit(X, y)
    for absent in ("merge", "unmerge", "forget", "state_"):
        assert not hasattr(model, absent)
    with pytest.raises(AttributeError, match="a DualStreamClassifier has no unmerge"):
        model.unmerge(model)


def test_no_file_of_nested_widths(phases, tmp_path):
    X, y = phases[0]
    model = DualStreamClassifier(10).fit(X, y)
    with pytest.raises(ValueError, match="what must be 'full' or 'weights', got 'nested'"):
        model.save(tmp_path / "model", what="nested")
    assert not list(tmp_path.iterdir())


def test_float32_is_close(phases):
    exact, single = (learn(phases, CUTS, "invariant", dtype=dtype) for dtype in (None, "float32"))
    assert relative_error(single.compensation_coef_, exact.compensation_coef_) < 1e-3
