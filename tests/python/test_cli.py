"""The command line: files in, files out, exit codes, and models that survive every failure."""

import json
import os
import pathlib
import signal
import subprocess
import sys

import numpy as np
import pytest

import gramian
from gramian import _io, cli


@pytest.fixture
def data(tmp_path, rng, monkeypatch):
    """Three classes in five dimensions, as all kinds of file; the current folder is the one they lie in."""
    monkeypatch.chdir(tmp_path)
    y = rng.integers(0, 3, 300)
    X = rng.standard_normal((300, 5)) + 3 * np.eye(3, 5)[y]
    np.savez("all.npz", X=X, y=y)
    np.savez("first.npz", X=X[:200], y=y[:200])
    np.savez("last.npz", X=X[200:], y=y[200:])
    np.save("rows.npy", X)
    np.save("labels.npy", y)
    names = np.array(["ant", "bee", "cat"])[y]
    lines = ["a,b,c,d,e,label"] + [
        ",".join(map(repr, row)) + f",{name}" for row, name in zip(X.tolist(), names, strict=True)
    ]
    (tmp_path / "all.csv").write_text("\n".join(lines) + "\n")
    (tmp_path / "headless.csv").write_text("\n".join(lines[1:]) + "\n")
    return X, y, names


def run(*arguments):
    return cli.main([str(argument) for argument in arguments])


def reference(X, y, **kwargs):
    return gramian.AnalyticClassifier(**kwargs).fit(X, y)


def same_weights(path, model):
    loaded = gramian.load(path)
    np.testing.assert_array_equal(loaded.classes_, model.classes_)
    np.testing.assert_allclose(loaded.coef_, model.coef_, rtol=1e-9, atol=1e-12)


def test_fit_update_forget_are_the_library(data, capsys):
    X, y, _ = data
    assert run("fit", "m", "first.npz") == 0
    same_weights("m", reference(X[:200], y[:200]))
    assert run("update", "m", "last.npz") == 0
    same_weights("m", reference(X, y))
    assert run("forget", "m", "first.npz") == 0
    same_weights("m", reference(X[200:], y[200:]))
    out, err = capsys.readouterr()
    assert out == ""
    assert "m: 100 rows, 3 classes" in err


def test_npy_with_labels_in_blocks(data, monkeypatch):
    X, y, _ = data
    monkeypatch.setattr(_io, "BLOCK_ROWS", 64)
    assert run("fit", "m", "rows.npy", "--labels", "labels.npy", "--ridge", 0.5) == 0
    same_weights("m", reference(X, y, ridge=0.5))


def test_npy_is_mapped(data):
    table = _io.read_table("rows.npy")
    assert isinstance(table.X, np.memmap)


@pytest.mark.parametrize("file", ["all.csv", "headless.csv"])
def test_csv(data, file):
    X, _, names = data
    assert run("fit", "m", file) == 0
    same_weights("m", reference(X, names))


def test_csv_target_and_labels_of_whole_numbers(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "t.csv").write_text("kind;u;v\n1;0.5;2\n2;1.5;3\n2;2.5;3\n")
    assert run("fit", "m", "t.csv", "--target", "kind") == 0
    assert gramian.load("m").classes_.tolist() == [1, 2]
    assert run("fit", "m", "t.csv", "--target", 0) == 0
    assert gramian.load("m").classes_.tolist() == [1, 2]
    assert run("fit", "m", "t.csv", "--target", "nothing") == 3


def test_csv_whole_numbers_stay_text_for_a_model_of_text(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "a.csv").write_text("0,1,x\n1,0,7\n")
    (tmp_path / "b.csv").write_text("2,1,7\n1,3,8\n")
    assert run("fit", "m", "a.csv") == 0
    assert run("update", "m", "b.csv") == 0
    assert gramian.load("m").classes_.tolist() == ["7", "8", "x"]


WHOLE = {
    "savetxt": (["1.000000000000000000e+00", "2.000000000000000000e+00"], [1, 2]),
    "mixed": (["1", "-2.0", "3e0", "-0.0"], [1, -2, 3, 0]),
    "beyond doubles": (["9007199254740993.0", "9007199254740992.0"], [9007199254740993, 9007199254740992]),
    "limits": (["-9223372036854775808.0", "9223372036854775807.0"], [-(2**63), 2**63 - 1]),
}
TEXT = {
    "fraction": ["1.0", "2.5"],
    "word": ["1.0", "x"],
    "nan": ["1.0", "nan"],
    "infinity": ["1.0", "inf"],
    "too large": ["1.0", "9223372036854775808.0"],
    "far too large": ["1.0", "1e999999"],
    "too large an integer": ["1", "9223372036854775808"],
    "an integer of a program": ["1", "1_0"],
}


def labels_of_csv(path, labels):
    path.write_text("".join(f"0.5,{row},{label}\n" for row, label in enumerate(labels)))
    return _io.read_table(str(path)).y


@pytest.mark.parametrize("kind", WHOLE)
def test_csv_whole_numbers_are_integers_however_written(tmp_path, kind):
    labels, expected = WHOLE[kind]
    y = labels_of_csv(tmp_path / "t.csv", labels)
    assert y.dtype == np.int64
    assert y.tolist() == expected
    (tmp_path / "labels.txt").write_text("\n".join(labels))
    np.save(tmp_path / "rows.npy", np.zeros((len(labels), 2)))
    y = _io.read_table(str(tmp_path / "rows.npy"), labels=str(tmp_path / "labels.txt")).y
    assert y.dtype == np.int64
    assert y.tolist() == expected


@pytest.mark.parametrize("kind", TEXT)
def test_csv_labels_that_are_not_whole_stay_text(tmp_path, kind):
    assert labels_of_csv(tmp_path / "t.csv", TEXT[kind]).tolist() == TEXT[kind]


def test_csv_of_savetxt(data, tmp_path):
    X, y, _ = data
    np.savetxt("saved.csv", np.column_stack([X, y]), delimiter=",")
    assert run("fit", "m", "saved.csv") == 0
    assert gramian.load("m").classes_.dtype == np.int64
    same_weights("m", reference(X, y))
    assert run("update", "m", "all.npz") == 0
    # An indicator keeps its shape.
    indicator = np.eye(3)[y]
    np.savetxt("multi.csv", np.column_stack([X, indicator]), delimiter=",")
    table = _io.read_table("multi.csv", target="5,6,7")
    assert table.y.dtype == np.int64
    np.testing.assert_array_equal(table.y, indicator)


def test_random_features_and_options(data):
    X, y, _ = data
    options = ["--features", 64, "--kind", "rademacher", "--activation", "tanh", "--scale", 0.3, "--seed", 5]
    assert run("fit", "m", "all.npz", *options, "--dtype", "float32", "--no-intercept", "--n-jobs", 1) == 0
    feature_map = gramian.RandomFeatures(64, kind="rademacher", activation="tanh", scale=0.3, random_state=5)
    expected = reference(X, y, feature_map=feature_map, dtype="float32", fit_intercept=False)
    np.testing.assert_array_equal(gramian.load("m").predict(X), expected.predict(X))
    assert run("fit", "m", "all.npz", "--seed", 5) == 2


def test_gcv(data):
    X, y, _ = data
    assert run("fit", "m", "all.npz", "--ridge", "gcv") == 0
    assert gramian.load("m").ridge_ == pytest.approx(reference(X, y, ridge="gcv").ridge_)


def test_predict(data, capsys):
    X, y, _ = data
    run("fit", "m", "all.npz")
    expected = reference(X, y)
    assert run("predict", "m", "rows.npy", "-o", "out.npy") == 0
    np.testing.assert_array_equal(np.load("out.npy"), expected.predict(X))
    assert run("predict", "m", "rows.npy", "--proba", "-o", "p.npy") == 0
    np.testing.assert_allclose(np.load("p.npy"), expected.predict_proba(X), rtol=1e-6)
    capsys.readouterr()
    assert run("predict", "m", "rows.npy") == 0
    assert capsys.readouterr().out.split() == [str(label) for label in expected.predict(X)]
    assert run("predict", "m", "all.npz", "--proba", "-o", "p.csv") == 0
    header, *rows = pathlib.Path("p.csv").read_text().splitlines()
    assert header == "0,1,2"
    np.testing.assert_allclose(np.loadtxt(rows, delimiter=","), expected.predict_proba(X), rtol=1e-6)
    assert run("predict", "m", "rows.npy", "-o", "out.txt") == 2


def test_predict_csv_with_and_without_labels(data, tmp_path, capsys):
    X, _, names = data
    run("fit", "m", "all.csv")
    (tmp_path / "bare.csv").write_text("\n".join(",".join(map(repr, row)) for row in X.tolist()))
    expected = reference(X, names).predict(X).tolist()
    capsys.readouterr()
    for file in ("bare.csv", "all.csv", "headless.csv"):
        assert run("predict", "m", file) == 0
        assert capsys.readouterr().out.split() == expected
    run("predict", "m", "bare.csv", "-o", "out.npy")
    assert np.load("out.npy").tolist() == expected


def test_labels_that_nobody_asks_for_are_not_read(data, capsys):
    X, y, _ = data
    expected = reference(X, y).predict(X).tolist()
    run("fit", "m", "all.npz")
    np.savez("objects.npz", X=X, y=np.array([{}] * 300, dtype=object))
    np.savez("short.npz", X=X, y=y[:7])
    (content,) = [pathlib.Path("all.npz").read_bytes()]
    place = content.index(b"y.npy") + 200  # into the labels: their checksum no longer fits
    pathlib.Path("damaged.npz").write_bytes(content[:place] + bytes([content[place] ^ 1]) + content[place + 1 :])
    for name in ("objects.npz", "short.npz", "damaged.npz"):
        capsys.readouterr()
        assert run("predict", "m", name) == 0
        assert list(map(int, capsys.readouterr().out.split())) == expected
        assert run("evaluate", "m", name, "--labels", "labels.npy") == 0  # nor where they are named elsewhere
        assert run("evaluate", "m", name) == 3
        assert run("update", "m", name) == 3
    pathlib.Path("hidden.csv").write_text("".join(",".join(map(repr, row)) + ",\n" for row in X.tolist()))
    capsys.readouterr()
    assert run("predict", "m", "hidden.csv") == 0
    assert list(map(int, capsys.readouterr().out.split())) == expected
    assert run("evaluate", "m", "hidden.csv") == 3
    assert "hidden.csv, line 1: the label is missing" in capsys.readouterr().err
    assert run("evaluate", "m", "hidden.csv", "--labels", "labels.npy") == 0


def test_columns_of_an_indicator_may_be_named(data, capsys):
    X, y, _ = data
    Y = np.eye(3, dtype=int)[y]
    gramian.AnalyticClassifier().partial_fit(X, Y, classes=["ant", "cat", "bee"]).save("m")
    np.savetxt("multi.csv", np.column_stack([X, Y]), delimiter=",")
    assert run("update", "m", "multi.csv", "--target", "5,6,7") == 0
    assert run("predict", "m", "rows.npy", "--proba", "-o", "p.csv") == 0
    assert pathlib.Path("p.csv").read_text().splitlines()[0] == "ant,cat,bee"
    capsys.readouterr()
    assert run("info", "m", "--json") == 0
    assert json.loads(capsys.readouterr().out)["classes"] == [{"class": name} for name in ("ant", "cat", "bee")]


def test_evaluate(data, capsys):
    X, y, _ = data
    run("fit", "m", "first.npz")
    capsys.readouterr()
    assert run("evaluate", "m", "last.npz", "--json") == 0
    report = json.loads(capsys.readouterr().out)
    model = reference(X[:200], y[:200])
    assert report["accuracy"] == pytest.approx(model.score(X[200:], y[200:]))
    found = model.predict(X[200:])
    for row in report["classes"]:
        of_class = y[200:] == row["class"]
        assert row["rows"] == of_class.sum()
        assert row["recall"] == pytest.approx((found[of_class] == row["class"]).mean())
    assert run("evaluate", "m", "last.npz") == 0
    assert "accuracy" in capsys.readouterr().out
    assert run("evaluate", "m", "rows.npy") == 3


def test_regression(tmp_path, monkeypatch, rng, capsys):
    monkeypatch.chdir(tmp_path)
    X = rng.standard_normal((50, 3))
    y = X @ [1.0, 2.0, 3.0] + 4
    np.savez("d.npz", X=X, y=y)
    (tmp_path / "d.csv").write_text(
        "".join(f"{','.join(map(repr, r))},{t!r}\n" for r, t in zip(X.tolist(), y.tolist(), strict=True))
    )
    for file in ("d.npz", "d.csv"):
        assert run("fit", "m", file, "--task", "regress", "--ridge", 1e-6) == 0
        capsys.readouterr()
        assert run("evaluate", "m", file, "--json") == 0
        assert json.loads(capsys.readouterr().out)["r2"] == pytest.approx(1.0)
    assert run("predict", "m", "d.csv", "-o", "o.csv") == 0
    np.testing.assert_allclose(np.loadtxt("o.csv"), y, rtol=1e-5)
    assert run("predict", "m", "d.csv", "--proba") == 2


def test_info(data, capsys):
    run("fit", "m", "all.csv", "--features", 32)
    capsys.readouterr()
    assert run("info", "m", "--json") == 0
    report = json.loads(capsys.readouterr().out)
    assert report["kind"] == "AnalyticClassifier"
    assert report["written_by"] == f"gramian {gramian.__version__}"
    assert (report["n_inputs"], report["n_features"], report["n_samples_seen"]) == (5, 32, 300)
    assert report["file_bytes"] == os.path.getsize("m")
    assert [row["class"] for row in report["classes"]] == ["ant", "bee", "cat"]
    assert sum(row["rows"] for row in report["classes"]) == 300
    assert run("info", "m") == 0
    assert "RandomFeatures(n_features=32" in capsys.readouterr().out
    gramian.load("m").save("w", what="weights")
    assert run("info", "w") == 0
    assert "weights only" in capsys.readouterr().out
    for what in ("weights", "nested"):
        gramian.load("m").save("w", what=what)
        assert run("info", "w", "--json") == 0
        assert json.loads(capsys.readouterr().out)["classes"] == report["classes"]
    gramian.GramState(3, 1).add(np.ones((2, 3)), np.ones(2)).save("s")
    assert run("info", "s") == 0
    assert "GramState" in capsys.readouterr().out


BAD_DATA = {
    "missing.npz": None,
    "text.npz": b"no archive",
    "text.npy": b"no array",
    "empty.csv": b"",
    "ragged.csv": b"1,2,0\n1,2\n",
    "word.csv": b"a,b,label\n1,2,0\n1,two,0\n",
    "wide.csv": b"1,2,3,4,5,6,7,0\n",
    "nan.csv": b"1,2,3,4,5,0\n1,nan,3,4,5,0\n",
    "binary.csv": b"\xff\xfe\x00",
    "data.parquet": b"",
}


@pytest.mark.parametrize("name", BAD_DATA)
def test_bad_data_is_exit_3_and_leaves_the_model(data, tmp_path, capsys, name):
    run("fit", "m", "all.npz")
    before = pathlib.Path("m").read_bytes()
    if BAD_DATA[name] is not None:
        (tmp_path / name).write_bytes(BAD_DATA[name])
    capsys.readouterr()
    for command in ("update", "forget", "evaluate", "predict"):
        assert run(command, "m", name) == 3
        error = capsys.readouterr().err
        assert error.startswith("gramian: ") and "Traceback" not in error
    assert pathlib.Path("m").read_bytes() == before


BAD_FILES = {
    "header.csv": (b"a,b,label\n", "header.csv: no rows"),
    "quote.csv": (b'1,2,"x\n3,4,y\n', "quote.csv: not a table of text"),
    "unlabelled.csv": (b"1,2,x\n3,4,\n", "unlabelled.csv, line 2: the label is missing"),
    "program.csv": (b"a,b,label\n\n1,2_0,x\n", "program.csv, line 3, column b: '2_0' is no number"),
    "nan.csv": (b"a,b,label\n\n1,nan,x\n", "nan.csv, line 3, column b: 'nan' is NaN or infinity"),
    "large.csv": (b"1,2,x\n1e999,2,x\n", "large.csv, line 2, column 0: '1e999' is NaN or infinity"),
    "nul.csv": (b"1,2,x\n3,4,y\0\n", "nul.csv"),
}
BAD_TARGETS = {
    "0.5,nan\n": "NaN or infinity in the target of line 4",
    "0.5,1_0\n": "the target '1_0' in line 4 is no number",
    "0.5,much\n": "the target 'much' in line 4 is no number",
}
BAD_ARRAYS = {
    "one label": ({"y": 1}, "a label per row is needed, there is a single value"),
    "no images": ({"X": np.zeros((0, 2, 2)), "y": []}, "no rows"),
    "three axes": ({"y": np.zeros((9000, 2, 2))}, "y should be a 1d array"),
    "dates": ({"y": np.zeros(9000, dtype="M8[s]")}, "labels of dtype datetime64"),
    "complex": ({"y": np.zeros(9000, dtype=complex)}, "Complex data"),
    "fractions": ({"y": np.full(9000, 0.5)}, "continuous"),
    "a label that is NaN": (
        {"y": np.where(np.arange(9000) == 8500, np.nan, 1)},
        "Input y contains NaN, first in row 8500",
    ),
    "no indicator": ({"y": np.eye(9000, 2, k=-8500, dtype=int) * 3}, "row 8500 has 3 in column 0"),
    "squares": (
        {"X": np.where(np.arange(9000) == 8500, 1e200, 1)[:, np.newaxis]},
        "in the rows from 8192 on: the squares of the features or targets in rows",
    ),
}


@pytest.mark.parametrize("name", BAD_FILES)
def test_bad_csv_names_its_line(name, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    content, message = BAD_FILES[name]
    pathlib.Path(name).write_bytes(content)
    assert run("fit", "m", name) == 3
    assert message in capsys.readouterr().err
    assert not os.path.exists("m")


@pytest.mark.parametrize("row", BAD_TARGETS)
def test_bad_targets_name_their_line(row, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    pathlib.Path("t.csv").write_text("0.5,1\n\n0.25,2\n" + row)
    assert run("fit", "m", "t.csv", "--task", "regress") == 3
    assert f"t.csv: {BAD_TARGETS[row]}" in capsys.readouterr().err
    pathlib.Path("t.txt").write_text("1\n\n2\n" + row.split(",")[1])
    np.save("x.npy", np.eye(3))
    assert run("fit", "m", "x.npy", "--labels", "t.txt", "--task", "regress") == 3
    assert f"t.txt: {BAD_TARGETS[row]}" in capsys.readouterr().err


@pytest.mark.parametrize("case", BAD_ARRAYS)
def test_bad_arrays_name_their_file_and_row(case, tmp_path, monkeypatch, capsys):
    """Also in files of several blocks, where learning counts the rows of a block."""
    monkeypatch.chdir(tmp_path)
    wrong, message = BAD_ARRAYS[case]
    np.savez("data.npz", **{"X": np.ones((9000, 1)), "y": np.arange(9000) % 2, **wrong})
    assert run("fit", "m", "data.npz") == 3
    error = capsys.readouterr().err
    assert error.startswith("gramian: data.npz") and message in error
    assert not os.path.exists("m")


def test_suffixes_that_lie(data, capsys):
    os.rename("rows.npy", "rows.npz")
    os.rename("all.npz", "all.npy")
    pathlib.Path("words.npy").write_text("hello")
    for name, message in (
        ("rows.npz", "a single array, whose suffix should be .npy"),
        ("all.npy", "an archive of arrays, whose suffix should be .npz"),
        ("words.npy", "no NumPy file, or objects that are pickled"),
    ):
        assert run("fit", "m", name, "--labels", "labels.npy") == 3
        assert f"gramian: {name}: " in (error := capsys.readouterr().err) and message in error
    assert run("fit", "m", "first.npz", "--labels", "all.npy") == 3


def test_options_of_another_kind_of_file_are_usage(data, capsys):
    for arguments in (("all.npz", "--target", "2"), ("all.csv", "--x-key", "X"), ("rows.npy", "--y-key", "y")):
        assert run("fit", "m", *arguments) == 2
        assert f"{arguments[1]} is for " in capsys.readouterr().err
    assert run("fit", "m", "all.csv", "--target", "a,a") == 3
    assert "names a column twice" in capsys.readouterr().err


@pytest.mark.skipif(sys.platform == "win32", reason="permissions and links")
def test_an_output_keeps_its_permissions_and_its_link(data, tmp_path):
    run("fit", "m", "all.npz")
    (tmp_path / "private.csv").write_text("old")
    os.chmod("private.csv", 0o600)
    os.symlink("private.csv", "link.csv")
    assert run("predict", "m", "rows.npy", "-o", "link.csv") == 0
    assert os.path.islink("link.csv")
    assert os.stat("private.csv").st_mode & 0o777 == 0o600
    assert len(pathlib.Path("private.csv").read_text().splitlines()) == 300
    os.mkdir("folder.csv")
    assert run("predict", "m", "rows.npy", "-o", "folder.csv") == 1


def test_messages_name_the_place(data, tmp_path, capsys, monkeypatch):
    (tmp_path / "word.csv").write_bytes(BAD_DATA["word.csv"])
    run("fit", "m", "word.csv")
    assert "word.csv, line 3, column b: 'two' is no number" in capsys.readouterr().err
    X = np.ones((100, 3))
    X[70, 1] = np.inf
    np.savez("inf.npz", X=X, y=np.arange(100) % 2)
    monkeypatch.setattr(_io, "BLOCK_ROWS", 32)
    assert run("fit", "m", "inf.npz") == 3
    assert "row 70" in capsys.readouterr().err
    np.savez("odd.npz", data=X)
    assert run("fit", "m", "odd.npz") == 3
    assert "no array X or x; it has data" in capsys.readouterr().err
    np.savez("pickle.npz", X=np.array([[{}]], dtype=object), y=[1])
    assert run("fit", "m", "pickle.npz") == 3
    assert not os.path.exists("m")


def test_bad_models(data, tmp_path):
    run("fit", "m", "all.npz")
    content = pathlib.Path("m").read_bytes()
    (tmp_path / "cut").write_bytes(content[: len(content) // 2])
    (tmp_path / "foreign").write_bytes(b"x" * 1000)
    for name in ("cut", "foreign", "missing"):
        assert run("info", name) == 3
        assert run("update", name, "all.npz") == 3
    gramian.load("m").save("w", what="weights")
    assert run("update", "w", "all.npz") == 1
    assert run("predict", "w", "rows.npy", "-o", "o.npy") == 0


SINGLE = {
    "AnalyticClassifier": {},
    "AnalyticRegressor": {},
    "CodedClassifier": {},
    "DualStreamClassifier": {"n_features": 20},
    "GaussianClassifier": {},
    "TruncatedRidgeClassifier": {"rank": 2},
}
CANNOT_FORGET = ("DualStreamClassifier", "TruncatedRidgeClassifier")
IN_PARTS = {
    "AlignedClassifier": {},
    "BroadLearner": {},
    "ConformalClassifier": {},
    "ConformalRidge": {},
    "DeepKernelClassifier": {},
    "DeepKernelRegressor": {},
    "InfiniteWidthEnsemble": {},
    "JackknifePlus": {},
    "LogisticHead": {},
    "RandomFeatures": {"n_features": 4},
    "ReplayClassifier": {},
    "SingularKernelClassifier": {},
    "SketchedRidge": {},
    "SoftmaxRegression": {},
    "TranslatedClassifier": {},
}
COMMANDS = {
    "info": ["info", "m"],
    "info as JSON": ["info", "m", "--json"],
    "predict": ["predict", "m", "few.npz"],
    "probabilities": ["predict", "m", "few.npz", "--proba"],
    "evaluate": ["evaluate", "m", "few.npz"],
    "update": ["update", "m", "few.npz"],
    "forget": ["forget", "m", "few.npz"],
}


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("kind", [*SINGLE, *IN_PARTS])
def test_every_kind_of_model_with_every_command(data, capsys, kind):
    X, y, _ = data
    np.savez("few.npz", X=X[:60], y=y[:60])
    model = getattr(gramian, kind)(**{**SINGLE, **IN_PARTS}[kind])
    model.fit(X[:60], y[:60]).save("m")
    before = pathlib.Path("m").read_bytes()
    held = f"m: holds a{'n' if kind[0] in 'AI' else ''} {kind}"
    for command, arguments in COMMANDS.items():
        pathlib.Path("m").write_bytes(before)
        capsys.readouterr()
        code = run(*arguments)
        out, err = capsys.readouterr()
        if kind in IN_PARTS or (kind in CANNOT_FORGET and command in ("update", "forget")):
            assert code == 3 and err.startswith(f"gramian: {held}, which ") and err.count("\n") == 1, command
        elif command == "probabilities" and not hasattr(model, "predict_proba"):
            assert code == 2 and f"{kind} does not" in err, command
        else:
            assert code == 0, (command, err)
        if command == "info as JSON" and kind in SINGLE:
            report = json.loads(out)
            assert (report["kind"], report["n_inputs"], report["n_samples_seen"]) == (kind, 5, 60)
            if kind in CANNOT_FORGET:
                counts = np.bincount(y[:60]).tolist()
                assert report["classes"] == [{"class": k, "rows": count} for k, count in enumerate(counts)]
    if kind in CANNOT_FORGET:
        assert pathlib.Path("m").read_bytes() == before


def test_every_kind_that_a_file_may_name_is_tried():
    """Those in parts, but for tables of quantiles, engines and maps, which are tried by one of them."""
    from gramian import _composite

    assert set(_composite.HOMES) - {"QuantileAggregator"} <= set(IN_PARTS)


def test_dual_streams_of_weights_only(data, capsys):
    X, y, _ = data
    gramian.DualStreamClassifier(n_features=20).fit(X, y).save("m", what="weights")
    assert run("info", "m", "--json") == 0
    report = json.loads(capsys.readouterr().out)
    assert "weights only" in report["holds"] and "n_samples_seen" not in report
    assert run("predict", "m", "rows.npy", "-o", "o.npy") == 0


def test_forgetting_too_much_leaves_the_model(data):
    run("fit", "m", "first.npz")
    before = pathlib.Path("m").read_bytes()
    assert run("forget", "m", "all.npz") == 3
    assert pathlib.Path("m").read_bytes() == before


def test_failures_while_running(data, tmp_path):
    assert run("fit", tmp_path / "no" / "folder", "all.npz") == 1
    run("fit", "m", "all.npz")
    assert run("predict", "m", "rows.npy", "-o", tmp_path / "no" / "out.npy") == 1


def test_no_solution_is_exit_1_and_leaves_the_file(data, capsys):
    np.savez("flat.npz", X=np.ones((5, 5)), y=[0, 1, 0, 1, 0])
    np.savez("numbers.npz", X=np.ones((5, 5)), y=[0.5, 1, 0, 1, 0])
    for options in (["flat.npz"], ["numbers.npz", "--task", "regress"]):
        assert run("fit", "new", *options, "--ridge", 0) == 1
        assert "full rank" in capsys.readouterr().err
        assert not os.path.exists("new")
    np.savez("one.npz", X=np.ones((1, 5)), y=[1])
    assert run("fit", "new", "one.npz", "--ridge", "gcv") == 1  # no errors to choose by
    assert not os.path.exists("new")
    run("fit", "m", "all.npz", "--ridge", 0)
    before = pathlib.Path("m").read_bytes()
    assert run("fit", "m", "flat.npz", "--ridge", 0) == 1
    assert run("forget", "m", "first.npz") == 0  # what is left has full rank
    pathlib.Path("m").write_bytes(before)
    X, y = data[:2]
    np.savez("most.npz", X=X[3:], y=y[3:])
    assert run("forget", "m", "most.npz") == 1
    assert pathlib.Path("m").read_bytes() == before
    run("fit", "m", "flat.npz")  # with a ridge there is a solution
    flat = gramian.AnalyticClassifier(ridge=0).fit(np.ones((5, 5)), [0, 1, 0, 1, 0])
    with pytest.raises(np.linalg.LinAlgError):
        _ = flat.coef_
    flat.save("m")
    before = pathlib.Path("m").read_bytes()
    assert run("update", "m", "flat.npz") == 1
    assert pathlib.Path("m").read_bytes() == before
    assert run("predict", "m", "flat.npz") == 1
    assert run("update", "m", "all.npz") == 0
    assert run("predict", "m", "flat.npz") == 0


@pytest.mark.parametrize("ridge", [1, "gcv"])
def test_all_rows_can_be_forgotten(data, ridge):
    run("fit", "m", "all.npz", "--ridge", ridge)
    assert run("forget", "m", "all.npz") == 0
    assert gramian.load("m").n_samples_seen_ == 0
    assert run("update", "m", "first.npz") == 0
    assert gramian.load("m").n_samples_seen_ == 200


@pytest.mark.parametrize(
    "arguments",
    [[], ["fit"], ["nonsense"], ["fit", "m", "d", "--ridge", "-1"], ["fit", "m", "d", "--features", "0"],
     ["fit", "m", "d", "--ridge", "much"], ["fit", "m", "d", "--n-jobs", "0"], ["fit", "m", "d", "--seed", "-1"]],
)  # fmt: skip
def test_usage_is_exit_2(arguments, capsys):
    assert run(*arguments) == 2
    assert "usage: gramian" in capsys.readouterr().err


@pytest.mark.parametrize("device", ["foo", "cuda:-1", "cuda:", "cuda:12345", "cpu:0", ""])
def test_an_unknown_device_is_usage(data, capsys, device):
    assert run("fit", "m", "all.npz", "--device", device) == 2
    assert "argument --device: cpu, cuda or cuda:1 is needed" in capsys.readouterr().err
    run("fit", "m", "all.npz")
    capsys.readouterr()
    for command in ("update", "forget", "predict", "evaluate"):
        assert run(command, "m", "all.npz", f"--device={device}") == 2
        assert "argument --device" in capsys.readouterr().err


@pytest.mark.parametrize("setting", ["GRAMIAN_NUM_THREADS=abc", "GRAMIAN_FORCE_ISA=zz"])
def test_a_bad_environment_is_no_fault_of_a_file(data, setting):
    run("fit", "m", "all.npz")
    name, value = setting.split("=")
    for arguments in (["fit", "new", "all.npz"], ["predict", "m", "rows.npy"]):
        process = subprocess.run(
            [*PROGRAM, *arguments], env={**os.environ, name: value}, capture_output=True, text=True
        )
        assert process.returncode == 1
        assert process.stderr.startswith(f"gramian: {name}")
    assert not os.path.exists("new")


def test_a_model_without_rows_is_to_blame(data, capsys):
    for options in ([], ["--task", "regress"]):
        run("fit", "m", "all.npz", *options)
        run("forget", "m", "all.npz")
        for command in ("predict", "evaluate"):
            capsys.readouterr()
            assert run(command, "m", "all.npz") == 3
            assert capsys.readouterr().err == "gramian: m: there are no rows in the model, so it cannot predict\n"


def test_kinds_of_labels_are_compared_not_their_types(data, tmp_path, capsys):
    X, y, names = data
    gramian.AnalyticClassifier().fit(X, names.astype(object)).save("m")
    for file, labels in (("all.npz", None), ("bytes.npz", names.astype("S"))):
        if labels is not None:
            np.savez(file, X=X, y=labels)
        capsys.readouterr()
        assert run("evaluate", "m", file) == 3
        kind = "integer" if labels is None else "bytes"
        assert f"{file}: labels of kind {kind}, but those of the model are of kind text" in capsys.readouterr().err
    assert run("evaluate", "m", "all.csv", "--json") == 0
    assert json.loads(capsys.readouterr().out)["accuracy"] == pytest.approx(reference(X, names).score(X, names))
    # Whole numbers in a .csv are text for a model of text, whatever array its labels came in.
    gramian.AnalyticClassifier().fit(X, np.array(["1", "2", "x"], dtype=object)[y]).save("m")
    (tmp_path / "w.csv").write_text("".join(",".join(map(repr, row)) + ",1\n" for row in X[:9].tolist()))
    assert run("evaluate", "m", "w.csv", "--json") == 0
    assert json.loads(capsys.readouterr().out)["rows"] == 9
    # Booleans, integers and reals are numbers.
    gramian.AnalyticClassifier().fit(X, y > 0).save("m")
    np.savez("numbers.npz", X=X, y=(y > 0).astype(float))
    assert run("evaluate", "m", "numbers.npz", "--json") == 0
    score = reference(X, y > 0).score(X, y > 0)
    assert json.loads(capsys.readouterr().out)["accuracy"] == pytest.approx(score)


def test_help_has_examples_and_exit_codes(capsys):
    for command in ("demo", "fit", "update", "forget", "predict", "evaluate", "info"):
        assert run(command, "--help") == 0
        text = capsys.readouterr().out
        assert "examples:" in text and f"gramian {command}" in text and "exit codes:" in text
    assert run("--version") == 0


def test_progress_only_where_asked(data, capsys):
    run("fit", "m", "all.npz")
    assert "rows/s" not in capsys.readouterr().err
    run("fit", "m", "all.npz", "--progress")
    assert "fit: 300 of 300 rows (100 %)" in capsys.readouterr().err


def test_temporary_files_are_gone(data, tmp_path):
    run("fit", "m", "all.npz")
    run("predict", "m", "rows.npy", "-o", "o.csv")
    np.savez("inf.npz", X=np.full((2, 5), np.inf))
    run("predict", "m", "inf.npz", "-o", "o.csv")
    assert not [name for name in os.listdir(tmp_path) if name.endswith(".tmp")]
    assert len(pathlib.Path("o.csv").read_text().splitlines()) == 300


# A run of the tests that was started with SIGINT ignored (nohup, a background job) hands that on: here it is undone.
MAIN = """
import signal, sys
signal.signal(signal.SIGINT, signal.default_int_handler)
from gramian.cli import main
sys.exit(main())
"""
PROGRAM = [sys.executable, "-c", MAIN]


@pytest.mark.skipif(sys.platform == "win32", reason="signals")
def test_interrupt_leaves_the_model(data, tmp_path, rng):
    run("fit", "m", "all.npz", "--features", 4000)
    before = pathlib.Path("m").read_bytes()
    np.save("big.npy", rng.standard_normal((65536, 5), dtype=np.float32))
    np.save("big-labels.npy", np.arange(65536) % 5)
    update = ["update", "m", "big.npy", "--labels", "big-labels.npy", "--progress"]
    process = subprocess.Popen([*PROGRAM, *update], stderr=subprocess.PIPE)
    assert process.stderr.read(1)  # the first block is in
    process.send_signal(signal.SIGINT)
    _, error = process.communicate(timeout=60)
    assert process.returncode == 130
    assert b"interrupted" in error and b"Traceback" not in error
    assert pathlib.Path("m").read_bytes() == before
    assert not list(tmp_path.glob("*.tmp"))


@pytest.mark.skipif(sys.platform == "win32", reason="pipes")
def test_closed_pipe_is_quiet(data):
    run("fit", "m", "all.npz")
    np.save("long.npy", np.ones((200_000, 5)))
    command = [*PROGRAM, "predict", "m", "long.npy"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout.readline()
        process.stdout.close()
        assert process.stderr.read() == b""
    assert process.returncode == 1
