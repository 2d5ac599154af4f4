"""The demo: what it prints is true, and it would notice if it were not."""

import dataclasses
import math
import sys

import numpy as np
import pytest

import gramian
from gramian import cli, demo


@pytest.fixture(scope="module")
def digits(tmp_path_factory):
    """One run without a data folder: its outcome and the folder it wrote to."""
    pytest.importorskip("sklearn")
    out = tmp_path_factory.mktemp("demo")
    (outcome,) = demo.run(None, out=out)
    return outcome, out


def test_stream_equals_joint_training(digits):
    outcome, _ = digits
    assert len(outcome.weight_difference) == 5
    assert max(outcome.weight_difference) <= 1e-10
    assert outcome.accuracy == outcome.joint_accuracy
    assert outcome.accuracy[-1] > 0.97
    assert outcome.differing_predictions == 0


def test_forgetting_equals_never_having_seen(digits):
    outcome, _ = digits
    assert outcome.forgotten > 100
    assert outcome.forget_difference <= 1e-10
    assert outcome.forget_difference <= outcome.removal_bound


def test_model_file_gives_the_same_answers(digits):
    outcome, out = digits
    assert outcome.reload_equal
    (path,) = out.glob("digits*.gramian")
    assert gramian.load(path).n_samples_seen_ == 1437 - outcome.forgotten


def test_size_does_not_grow_with_the_rows(digits):
    sizes = digits[0].model_bytes
    # Eight classes more: a column of 1000 weights and change each, and nothing for the rows.
    assert sizes[-1] - sizes[0] <= 8 * (8 * 1000 + 256)


def test_picture(digits):
    pytest.importorskip("matplotlib")
    assert (digits[1] / "gramian-demo.png").read_bytes().startswith(b"\x89PNG")


def test_a_wrong_joint_answer_is_noticed(monkeypatch, tmp_path):
    right = demo._ridge
    monkeypatch.setattr(demo, "_ridge", lambda n, z, y, gram, cross: right(n, z, y, 1.001 * gram, cross))
    (outcome,) = demo.run(None, out=tmp_path, plot=False)
    assert min(outcome.weight_difference) > 1e-6
    assert outcome.forget_difference > 1e-6
    assert len(outcome.failures()) == 2


def test_the_command_succeeds_where_all_holds(monkeypatch, capsys, digits):
    outcome, _ = digits
    assert outcome.failures() == []
    monkeypatch.setattr(demo, "run", lambda *args, **kwargs: [outcome])
    assert cli.main(["demo"]) == 0
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize(
    "wrong, message",
    [
        ({"reload_equal": False}, "the model read back from its file answers otherwise"),
        ({"weight_difference": [None, 1e-12, 1e-7]}, "are not those of joint training"),
        ({"weight_difference": [1e-12, math.nan]}, "are not those of joint training"),
        ({"weight_difference": []}, "are not those of joint training"),
        ({"forget_difference": 1e-7}, "not those of never having seen"),
        ({"forget_difference": math.nan}, "not those of never having seen"),
    ],
)
def test_the_command_fails_where_something_does_not_hold(monkeypatch, capsys, digits, wrong, message):
    right = digits[0]
    outcomes = [right, dataclasses.replace(right, title="Second", **wrong)]
    monkeypatch.setattr(demo, "run", lambda *args, **kwargs: outcomes)
    assert cli.main(["demo"]) == 1
    error = capsys.readouterr().err
    assert error.startswith("gramian: Second: ") and message in error


def test_a_reloaded_model_that_differs_is_noticed(monkeypatch, tmp_path, capsys):
    """Whatever is read back is a model of other rows: the demo says so, and the command fails."""
    pytest.importorskip("sklearn")
    monkeypatch.setitem(demo.FEATURES, "digits", 100)
    real = demo.load

    def other(path):
        model = real(path)
        rows = np.random.default_rng(0).integers(0, 17, (9, model.n_features_in_))
        return model.partial_fit(rows, [0] * 9) if model._learnt.model.has_state else model

    monkeypatch.setattr(demo, "load", other)
    assert cli.main(["demo", "--no-plot", "--data", str(tmp_path), "--out", str(tmp_path / "out")]) == 1
    found = capsys.readouterr()
    assert "scores and predictions are NOT EQUAL" in found.out
    assert "NOT AS PROMISED: Digits" in found.out
    assert "answers otherwise" in found.err


def test_generated_rows_without_scikit_learn(monkeypatch, tmp_path, capsys):
    monkeypatch.setitem(sys.modules, "sklearn.datasets", None)
    (outcome,) = demo.run(None, out=tmp_path, plot=False)
    assert outcome.title.startswith("Generated")
    assert max(outcome.weight_difference) <= 1e-10
    assert "Generated, mixed classes" in capsys.readouterr().out


def test_no_matplotlib_is_no_error(monkeypatch, tmp_path, capsys):
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    demo._draw([demo.Outcome("one", [0.5], [None])], tmp_path)
    assert "matplotlib is not installed" in capsys.readouterr().out
    assert not list(tmp_path.iterdir())


def test_data_folder(tmp_path, capsys, rng, monkeypatch):
    """Small files of the same form as the real ones: the float32 streams and the 15 phases."""
    images, labels = rng.integers(0, 256, (700, 28, 28), dtype=np.uint8), np.arange(700) % 10
    images[np.arange(700), labels] = 255  # one bright line per class
    np.savez(
        tmp_path / "fashion_mnist.npz",
        x_train=images[:600],
        y_train=labels[:600],
        x_test=images[600:],
        y_test=labels[600:],
    )
    x, y = rng.standard_normal((900, 24)).astype(np.float16), np.arange(900) % 150
    np.savez(
        tmp_path / "text_clinc150_minilm.npz",
        x=x,
        y=np.where(y == 7, -1, y),
        split=(np.arange(900) % 3).astype(np.uint8),
    )
    monkeypatch.setattr(demo, "FEATURES", dict.fromkeys(demo.FEATURES, 200))
    outcomes = demo.run(tmp_path, out=tmp_path / "out", plot=False)
    assert [len(outcome.accuracy) for outcome in outcomes] == [5, 5, 5, 15]
    assert all(outcome.reload_equal for outcome in outcomes)
    disjoint, blurry, intents = outcomes[1:]
    assert disjoint.joint_accuracy[:-1] == [None] * 4
    assert max(disjoint.weight_difference[-1], blurry.weight_difference[-1]) <= 1e-3  # float32 products
    assert max(intents.weight_difference) <= 1e-10
    assert "class" in capsys.readouterr().out


def test_phases_mix_old_and_new_classes():
    y = np.repeat(np.arange(10), 200)
    for phases in (demo._mixed_phases(y, 5, 0.25), demo._blurry_phases(y, 5), demo._phases_of_classes(y, 5)):
        assert np.array_equal(np.sort(np.concatenate(phases)), np.arange(len(y)))
    mixed = demo._mixed_phases(y, 5, 0.25)
    seen = set()
    for number, phase in enumerate(mixed):
        labels = set(y[phase])
        assert labels - seen, "every phase brings new classes"
        assert number == 0 or labels & seen, "and old ones"
        seen |= labels
    assert [set(y[phase]) for phase in demo._phases_of_classes(y, 5)] == [{2 * k, 2 * k + 1} for k in range(5)]
