"""A C++ program that streams the same data has the same weights.

GRAMIAN_CPP_STREAM names the program (tests/cpp/install/stream.cc, built); else it is looked for in the build folder.
"""

import importlib.util
import os
import pathlib
import subprocess

import numpy as np
import pytest

ROOT = pathlib.Path(__file__).resolve().parents[2]
SOURCE = ROOT / "tests" / "cpp" / "install"


@pytest.fixture(scope="module")
def program():
    named = os.environ.get("GRAMIAN_CPP_STREAM")
    if named:
        assert os.access(named, os.X_OK), f"GRAMIAN_CPP_STREAM={named} is no program"
        return named
    build = ROOT / "build" / "dev"
    found = [path for path in sorted(build.rglob("stream_cpp*")) if path.is_file() and os.access(path, os.X_OK)]
    if not found:
        pytest.skip("the C++ program is not built (tests/cpp/install); GRAMIAN_CPP_STREAM may name it")
    return str(found[0])


@pytest.fixture(scope="module")
def stream():
    spec = importlib.util.spec_from_file_location("gramian_stream_of_the_install_test", SOURCE / "stream.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_same_weights_sums_and_predictions(program, stream, tmp_path):
    model, predictions = tmp_path / "model.safetensors", tmp_path / "predictions.bin"
    subprocess.run([program, str(model), str(predictions)], check=True, timeout=300, capture_output=True)
    differences = stream.compare(str(model), str(predictions))
    assert {"coef_", "intercept_"} < set(differences)
    assert max(differences.values()) <= 1e-12


def test_the_comparison_can_fail(program, stream, tmp_path):
    """One bit in one sum is noticed."""
    path = tmp_path / "model.safetensors"
    subprocess.run(
        [program, str(path), str(tmp_path / "predictions.bin")], check=True, timeout=300, capture_output=True
    )
    data = bytearray(path.read_bytes())
    header = 8 + int.from_bytes(data[:8], "little")
    place = header + 8 * 500  # somewhere in the first large tensor
    value = np.frombuffer(bytes(data[place : place + 8]), dtype="<f8")[0]
    data[place : place + 8] = np.float64(value * 1.001 + 1.0).tobytes()
    path.write_bytes(bytes(data))
    assert max(stream.compare(str(path)).values()) > 1e-12


def test_the_python_side_alone(stream):
    """The stream is what its description says: old and new classes mixed, all ten in the end."""
    model = stream.streamed_model()
    assert len(model.classes_) == stream.N_CLASSES
    assert model.n_samples_seen_ == stream.N_ROWS
    X, y = stream.stream_rows(stream.N_ROWS, stream.N_TEST)
    assert model.score(X, y) > 0.9
    phases = [
        set(stream.stream_rows(k * stream.ROWS_PER_PHASE, stream.ROWS_PER_PHASE)[1]) for k in range(stream.N_PHASES)
    ]
    seen = set()
    for k, labels in enumerate(phases):
        assert labels - seen  # new ones
        assert k == 0 or labels & seen  # and old ones
        seen |= labels
