"""The job of stream.cc from Python: the same data, the same weights.

usage: stream.py MODEL [PREDICTIONS]     both as written by the C++ program

Exits with 0 where the weights agree to 1e-12 (relative) and the predictions are equal.
"""

import json
import sys
import tempfile
from pathlib import Path

import numpy as np

import gramian

N_INPUTS, N_FEATURES, N_CLASSES, N_PHASES, ROWS_PER_PHASE = 24, 160, 10, 5, 600
N_ROWS, N_TEST, SEED, RIDGE = N_PHASES * ROWS_PER_PHASE, 500, 7, 0.1


def mixed(x):
    """The finaliser of SplitMix64 on an array of uint64."""
    x = x + np.uint64(0x9E3779B97F4A7C15)
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return x ^ (x >> np.uint64(31))


def draw(rows, n_cols):
    """Multiples of 2^-15 in [-1, 1): rows x n_cols."""
    index = rows.astype(np.uint64)[:, None] * np.uint64(0x100000001) + np.arange(n_cols, dtype=np.uint64)
    return (mixed(index) >> np.uint64(48)).astype(np.float64) / 32768.0 - 1.0


def stream_rows(begin, count):
    """Rows and labels of the stream; see stream_data.h."""
    rows = np.arange(begin, begin + count, dtype=np.uint64)
    random = mixed(rows + np.uint64(1 << 40)).astype(object)  # Python integers: no surprises in % and >>
    labels = np.empty(count, dtype=np.int64)
    for r, (row, bits) in enumerate(zip(range(begin, begin + count), random, strict=True)):
        phase, place = row // ROWS_PER_PHASE, bits % N_CLASSES
        if row < N_ROWS:
            old = phase > 0 and (bits >> 16) % 4 == 0
            place = (bits >> 24) % (2 * phase) if old else 2 * phase + (bits >> 8) % 2
        labels[r] = 100 + 3 * place
    return draw(1000000 + labels, N_INPUTS) + draw(rows, N_INPUTS), labels


def streamed_model():
    """The classifier after all phases."""
    features = gramian.RandomFeatures(N_FEATURES, kind="gaussian", activation="relu", random_state=SEED)
    model = gramian.AnalyticClassifier(features, ridge=RIDGE)
    for phase in range(N_PHASES):
        model.partial_fit(*stream_rows(phase * ROWS_PER_PHASE, ROWS_PER_PHASE))
    return model


def read_tensors(path):
    """Float64 tensors of a model file (a safetensors container) by name."""
    data = Path(path).read_bytes()
    start = 8 + int.from_bytes(data[:8], "little")
    header = json.loads(data[8:start])
    tensors = {}
    for name, entry in header.items():
        if name != "__metadata__" and entry["dtype"] == "F64":
            begin, end = entry["data_offsets"]
            tensors[name] = np.frombuffer(data[start + begin : start + end], dtype="<f8")
    return tensors


def relative_difference(a, b):
    """|a - b| / |b|, and |a - b| where b is zero."""
    return float(np.linalg.norm(a - b) / (np.linalg.norm(b) or 1.0))


def compare(model_path, predictions_path=None):
    """Largest relative difference of weights and sums between the C++ program's file and Python; checks predictions."""
    model = streamed_model()
    theirs = gramian.load(model_path)
    differences = {"coef_": relative_difference(model.coef_, theirs.coef_)}
    differences["intercept_"] = relative_difference(model.intercept_, theirs.intercept_)
    with tempfile.TemporaryDirectory() as folder:
        mine_path = str(Path(folder) / "model.safetensors")
        model.save(mine_path)
        mine, other = read_tensors(mine_path), read_tensors(model_path)
    assert mine.keys() == other.keys() and mine, (sorted(mine), sorted(other))
    for name, tensor in mine.items():
        differences[name] = relative_difference(tensor, other[name])
    if predictions_path is not None:
        x, _ = stream_rows(N_ROWS, N_TEST)
        expected = np.fromfile(predictions_path, dtype=np.int64)
        assert np.array_equal(model.predict(x), expected), "predictions differ"
        assert np.array_equal(theirs.predict(x), expected), "predictions of the loaded model differ"
    return differences


def main():
    """Prints the differences; see the top."""
    if len(sys.argv) not in (2, 3):
        sys.exit(__doc__)
    differences = compare(*sys.argv[1:])
    for name, value in differences.items():
        print(f"{name:24} {value:.2e}")
    sys.exit(0 if max(differences.values()) <= 1e-12 else 1)


if __name__ == "__main__":
    main()
