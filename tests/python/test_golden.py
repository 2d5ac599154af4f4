"""Files that earlier versions wrote open, learn on and predict as they did then."""

import importlib.util
import json
from pathlib import Path

import numpy as np
import pytest

import gramian as gm

GOLDEN = Path(__file__).parents[1] / "golden"
VERSIONS = sorted(path.stem.removeprefix("expected-") for path in GOLDEN.glob("expected-*.json"))


@pytest.fixture(scope="module")
def rows():
    spec = importlib.util.spec_from_file_location("golden_make", GOLDEN / "make.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.rows


def test_there_are_golden_files():
    assert "0.1" in VERSIONS


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("name", ["classifier", "classifier-weights"])
def test_classifier(version, name, rows):
    expected = json.loads((GOLDEN / f"expected-{version}.json").read_text())
    model = gm.load(GOLDEN / f"{name}-{version}.gramian")
    assert model.classes_.tolist() == expected["classes"]
    # Another machine solves with other kernels; the system's condition number is below 1e4.
    np.testing.assert_allclose(model.decision_function(rows(75, 5)[60:]), expected["scores"], rtol=0, atol=1e-11)
    if name == "classifier":
        assert model.state_.weighted_rows == (None if version == "0.1" else 0)  # 0.1 did not count
        assert model.partial_fit(rows(61, 5)[60:], ["dogwood"]).classes_.tolist()[-1] == "dogwood"


@pytest.mark.parametrize("version", VERSIONS)
def test_regressor(version, rows):
    expected = json.loads((GOLDEN / f"expected-{version}.json").read_text())
    model = gm.load(GOLDEN / f"regressor-{version}.gramian")
    np.testing.assert_allclose(model.predict(rows(75, 5)[60:]), expected["values"], rtol=0, atol=1e-11)


@pytest.mark.parametrize("path", sorted(GOLDEN.glob("*.gramian")), ids=lambda path: path.name)
def test_the_safetensors_package_reads_it(path):
    numpy_reader = pytest.importorskip("safetensors.numpy")
    tensors = numpy_reader.load_file(path)
    assert all(np.isfinite(tensor).all() for tensor in tensors.values())
