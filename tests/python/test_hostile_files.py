"""Model files: what the safetensors package reads, what a crash leaves, and what damaged or foreign files do."""

import json
import os
import pickle
import subprocess
import sys

import numpy as np
import pytest
from reference_path import checks

import gramian as gm

safetensors = pytest.importorskip("safetensors")
safetensors_numpy = pytest.importorskip("safetensors.numpy")


def trained(seed=0):
    rng = np.random.default_rng(seed)
    X, y = rng.normal(size=(90, 6)), rng.integers(0, 3, 90)
    return X, y


MAKE = {
    "classifier": lambda X, y: gm.AnalyticClassifier(gm.RandomFeatures(10), ridge=0.3).fit(X, y),
    "text_labels": lambda X, y: gm.AnalyticClassifier(ridge=0.3).fit(X, np.array(["a", "é", "zz"])[y]),
    "multi_label": lambda X, y: gm.AnalyticClassifier().fit(X, np.eye(3, dtype=int)[y]),
    "regressor": lambda X, y: gm.AnalyticRegressor(gm.RBFFeatures(7), dtype="float32").fit(X, y),
    "chain": lambda X, y: gm.AnalyticRegressor(gm.FeatureChain([gm.RandomFeatures(8), gm.RBFFeatures(5)])).fit(
        X, X[:, :2]
    ),
    "balanced": lambda X, y: (
        gm.AnalyticClassifier(gm.RandomFeatures(70), class_weight="air")
        .partial_fit(X[:80], y[:80])
        .close_classes([0])
        .partial_fit(X[:9] + 1, np.full(9, 3))
    ),
    "dual_stream": lambda X, y: gm.DualStreamClassifier(10).partial_fit(X, y).end_phase().partial_fit(X, y + 1),
    "state": lambda X, y: gm.GramState(6, 3).add_labels(X, y),
}


def header_of(data):
    length = int.from_bytes(data[:8], "little")
    return json.loads(data[8 : 8 + length]), length


def with_header(data, change):
    """The file with its header changed by ``change`` and padded to 64 bytes again."""
    header, length = header_of(data)
    header = change(header) or header
    text = json.dumps(header).encode()
    text += b" " * (-(8 + len(text)) % 64)
    return len(text).to_bytes(8, "little") + text + data[8 + length :]


def with_metadata(data, **values):
    return with_header(data, lambda header: header["__metadata__"].update(values))


def with_config(data, change):
    """The file with its configuration changed by ``change``."""

    def apply(header):
        config = json.loads(header["__metadata__"]["config"])
        config = change(config) or config
        header["__metadata__"]["config"] = json.dumps(config)

    return with_header(data, apply)


def load_bytes(data, tmp_path):
    path = tmp_path / "hostile"
    path.write_bytes(data)
    return gm.load(path)


# --- good files -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", [name for name in MAKE if name != "dual_stream"])
def test_safetensors_reads_them(name, tmp_path):
    model = MAKE[name](*trained())
    path = tmp_path / "model.gramian"
    for what in ("full",) if name == "state" else ("full", "weights"):
        data = checks.file_bytes(model, what)
        path.write_bytes(data)
        tensors = safetensors_numpy.load_file(path)
        with safetensors.safe_open(path, framework="numpy") as file:
            metadata = file.metadata()
        assert metadata["format"] == "gramian" and metadata["schema"] == "1"
        assert metadata["lib_version"] == gm.__version__
        json.loads(metadata["config"])
        header, length = header_of(data)
        assert (8 + length) % 64 == 0
        for key, entry in header.items():
            if key != "__metadata__" and not key.startswith("_pad"):
                assert entry["data_offsets"][0] % 64 == 0, key
        named = {key: value for key, value in tensors.items() if not key.startswith("_pad")}
        if what == "full":
            gram = next(value for key, value in named.items() if key.endswith("gram"))
            d = model.n_features if name == "state" else model.state_.n_features
            assert gram.dtype == np.float64 and gram.shape == (d * (d + 1) // 2,)
        else:
            coef = next(value for key, value in named.items() if key.endswith("coef"))
            assert not any(key.endswith("gram") for key in named)
            assert coef.shape[0] == len(model.state_.solve(model.ridge).coef)
        # Written again by that package, it is still a model of ours.
        safetensors_numpy.save_file(named, tmp_path / "again", metadata=metadata)
        again = gm.load(tmp_path / "again")
        if name == "state":
            assert again.to_bytes() == data
        else:
            X = trained(1)[0]
            assert np.array_equal(again.predict(X), gm.load(path).predict(X))


def test_the_packed_triangle_is_the_gram_matrix(tmp_path):
    X, y = trained()
    gm.GramState(6, 3, fit_intercept=False).add_labels(X, y).save(tmp_path / "state")
    tensors = safetensors_numpy.load_file(tmp_path / "state")
    gram = next(value for key, value in tensors.items() if key.endswith("gram"))
    np.testing.assert_allclose(gram, (X.T @ X)[np.tril_indices(6)], rtol=1e-12)


@pytest.mark.parametrize("name", [name for name in MAKE if name not in ("state", "dual_stream")])
def test_weights_only(name, tmp_path):
    X, y = trained()
    model = MAKE[name](X, y)
    model.save(tmp_path / "weights", what="weights")
    loaded = gm.load(tmp_path / "weights")
    test = trained(1)[0]
    assert np.array_equal(loaded.predict(test), model.predict(test))
    assert np.array_equal(loaded.coef_, model.coef_)
    if hasattr(model, "classes_"):
        assert np.array_equal(loaded.predict_proba(test), model.predict_proba(test))
        assert np.array_equal(loaded.classes_, model.classes_)
    before = checks.file_bytes(loaded, "weights")
    for call in (
        lambda: loaded.partial_fit(X, y),
        lambda: loaded.forget(X, y),
        lambda: loaded.merge(model),
        lambda: model.merge(loaded),
        lambda: loaded.state_,
        lambda: loaded.save(tmp_path / "full"),
    ):
        with pytest.raises(NotImplementedError, match="weights"):
            call()
    assert not (tmp_path / "full").exists()
    assert checks.file_bytes(loaded, "weights") == before
    assert os.path.getsize(tmp_path / "weights") < 6000


@pytest.mark.parametrize("name", MAKE)
def test_equal_models_make_equal_bytes(name, tmp_path):
    one, other = (checks.file_bytes(MAKE[name](*trained())) for _ in range(2))
    assert one == other
    loaded = load_bytes(one, tmp_path)
    assert checks.file_bytes(loaded) == one


# --- what is no model -----------------------------------------------------------------------------------------------


@pytest.fixture
def good():
    return checks.file_bytes(MAKE["classifier"](*trained()))


def is_refused(data, tmp_path, match="."):
    path = tmp_path / "hostile"
    path.write_bytes(data)
    for reader in (gm.load, gm.GramState.load):
        with pytest.raises(gm.FormatError):
            reader(path)
    with pytest.raises(gm.FormatError, match=match):
        gm.load(path)
    with pytest.raises(gm.FormatError):
        gm.GramState.from_bytes(data)


def test_no_file(tmp_path):
    with pytest.raises(FileNotFoundError):
        gm.load(tmp_path / "none")
    with pytest.raises(IsADirectoryError):
        gm.load(tmp_path)
    assert issubclass(gm.FormatError, ValueError)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="this system has no pipes with names")
@pytest.mark.parametrize("reader", ["load", "GramState.load", "RFactor.load", "FrequentDirections.load"])
def test_a_pipe_is_refused_and_not_waited_for(reader, tmp_path):
    path = tmp_path / "pipe"
    os.mkfifo(path)
    script = f"import gramian as gm; gm.{reader}({str(path)!r})"
    out = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60)
    assert out.returncode == 1
    assert out.stderr.strip().splitlines()[-1] == f"OSError: cannot open {path}: not a regular file"


def test_more_rows_than_are_counted():
    rng = np.random.default_rng(0)
    X = rng.normal(size=(60, 5))
    data = gm.AnalyticRegressor().fit(X, X[:, 0]).to_bytes()

    def with_rows(rows):
        config = json.loads(header_of(data)[0]["__metadata__"]["config"])
        config["head"]["state"]["n_rows"] = rows
        return with_metadata(data, config=json.dumps(config))

    for rows in (2**63 - 1, 2**53 + 1, -1):
        with pytest.raises(gm.FormatError, match="impossible counts"):
            gm.model_files.load_bytes(with_rows(rows))
    # As many as are counted: its own file is read again, and more rows are refused.
    model = gm.model_files.load_bytes(with_rows(2**53 - 60))
    model.partial_fit(X, X[:, 0])
    assert model.n_samples_seen_ == 2**53
    before = model.to_bytes()
    with pytest.raises(ValueError, match="2\\^53"):
        model.partial_fit(X, X[:, 0])
    with pytest.raises(ValueError, match="2\\^53"):
        model.merge(model)
    assert model.to_bytes() == before
    assert gm.model_files.load_bytes(before).n_samples_seen_ == 2**53


@pytest.mark.parametrize(
    ("empty", "verb"),
    [(lambda: gm.RFactor(5), "add"), (lambda: gm.FrequentDirections(5), "partial_fit")],
    ids=["r_factor", "frequent_directions"],
)
def test_other_states_count_as_far(empty, verb, tmp_path):
    X = np.random.default_rng(0).normal(size=(60, 5))
    state, path = empty(), tmp_path / "state"
    getattr(state, verb)(X)
    state.save(path)
    data = path.read_bytes()
    for count in (2**63 - 1, 2**53 + 1, -1):
        path.write_bytes(with_config(data, lambda config, count=count: config["state"].update(n_rows=count)))
        with pytest.raises(gm.FormatError, match="impossible"):
            type(state).load(path)
    path.write_bytes(with_config(data, lambda config: config["state"].update(n_rows=2**53 - 60)))
    full = type(state).load(path)
    full.merge(state)
    assert full.n_rows == 2**53
    before = pickle.dumps(full)
    for refused in (lambda: full.merge(state), lambda: getattr(full, verb)(X)):
        with pytest.raises(ValueError, match="2\\^53"):
            refused()
    assert pickle.dumps(full) == before


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\0",
        b"\0" * 7,
        b"\0" * 8,
        b"\0" * 4096,
        b"\xff" * 8,
        b"\xff" * 4096,
        b"PK\x03\x04 a zip file" * 20,
        b"\x93NUMPY\x01\x00" + b" " * 200,
        (1 << 40).to_bytes(8, "little") + b"{}" * 100,
        (2**64 - 1).to_bytes(8, "little") + b"{}" * 100,
        (2**63).to_bytes(8, "little") + b"{}" * 100,
        (2).to_bytes(8, "little") + b"{}",
        (2).to_bytes(8, "little") + b"[]",
        (20).to_bytes(8, "little") + b"[" * 20,
        (4096).to_bytes(8, "little") + b"[" * 4096,
        (4096).to_bytes(8, "little") + b'{"a":' * 819 + b"1",
        (17 << 20).to_bytes(8, "little") + b" " * (17 << 20),
    ],
)
def test_rubbish(data, tmp_path):
    is_refused(data, tmp_path)


def test_a_safetensors_file_of_something_else(tmp_path):
    path = tmp_path / "other.safetensors"
    safetensors_numpy.save_file({"weight": np.ones((3, 4), dtype=np.float32)}, path)
    is_refused(path.read_bytes(), tmp_path, "not a gramian model")
    safetensors_numpy.save_file({"weight": np.ones(3)}, path, metadata={"format": "pt"})
    is_refused(path.read_bytes(), tmp_path, "not a gramian model")


def test_cut_short_at_every_length(good, tmp_path):
    assert load_bytes(good, tmp_path).n_samples_seen_ == 90
    _, length = header_of(good)
    for size in [*range(0, 8 + length, 97), *range(8 + length, len(good), 41), len(good) - 1]:
        is_refused(good[:size], tmp_path)
    for extra in (b"\0", b"\0" * 64, good):
        is_refused(good + extra, tmp_path)


def test_from_a_newer_version(good, tmp_path):
    is_refused(with_metadata(good, schema="2", lib_version="9.8.7"), tmp_path, r"9\.8\.7")
    is_refused(with_metadata(good, schema="999999999999999999999"), tmp_path)
    is_refused(with_metadata(good, schema="-1"), tmp_path)
    is_refused(with_metadata(good, schema="one"), tmp_path)


def test_another_kind_of_model(good, tmp_path):
    is_refused(with_metadata(good, model="future_learner"), tmp_path, "future_learner")
    state = checks.file_bytes(MAKE["state"](*trained()))
    path = tmp_path / "state"
    path.write_bytes(good)
    with pytest.raises(gm.FormatError):
        gm.GramState.load(path)
    assert isinstance(load_bytes(state, tmp_path), gm.GramState)
    is_refused(with_metadata(good, model="analytic_regressor"), tmp_path)
    is_refused(with_metadata(good, format="GRAMIAN"), tmp_path, "not a gramian model")


def first_tensor(header, ending):
    return next(key for key in header if key.endswith(ending))


HEADERS = {
    "unknown_type": lambda h: h[first_tensor(h, "gram")].update(dtype="F128"),
    "narrower_type": lambda h: h[first_tensor(h, "gram")].update(dtype="F32"),
    "negative_shape": lambda h: h[first_tensor(h, "gram")].update(shape=[-55]),
    "overflowing_shape": lambda h: h[first_tensor(h, "gram")].update(shape=[2**62, 2**62]),
    "overflowing_with_zero": lambda h: h[first_tensor(h, "gram")].update(shape=[2**62, 2**62, 0]),
    "fractional_shape": lambda h: h[first_tensor(h, "gram")].update(shape=[55.5]),
    "text_shape": lambda h: h[first_tensor(h, "gram")].update(shape="55"),
    "deep_shape": lambda h: h[first_tensor(h, "gram")].update(shape=[1] * 60 + [55]),
    "another_shape": lambda h: h[first_tensor(h, "gram")].update(shape=[5, 11]),
    "offsets_beyond": lambda h: h[first_tensor(h, "gram")].update(data_offsets=[2**40, 2**40 + 440]),
    "offsets_backwards": lambda h: h[first_tensor(h, "gram")].update(data_offsets=[440, 0]),
    "offsets_negative": lambda h: h[first_tensor(h, "gram")].update(data_offsets=[-440, 0]),
    "overlap": lambda h: h[first_tensor(h, "cross")].update(data_offsets=h[first_tensor(h, "gram")]["data_offsets"]),
    "missing": lambda h: {k: v for k, v in h.items() if not k.endswith("gram")},
    "no_metadata": lambda h: {k: v for k, v in h.items() if k != "__metadata__"},
    "metadata_number": lambda h: h["__metadata__"].update(schema=1),
    "no_config": lambda h: {**h, "__metadata__": {k: v for k, v in h["__metadata__"].items() if k != "config"}},
    "config_not_json": lambda h: h["__metadata__"].update(config="{"),
    "config_a_list": lambda h: h["__metadata__"].update(config="[]"),
    "extra_key": lambda h: h[first_tensor(h, "gram")].update(surprise=1),
}


@pytest.mark.parametrize("name", HEADERS)
def test_damaged_headers(good, name, tmp_path):
    is_refused(with_header(good, HEADERS[name]), tmp_path)


def test_a_key_twice(good, tmp_path):
    _, length = header_of(good)
    header = good[8 : 8 + length].rstrip(b" ")
    doubled = header[:-1] + b',"__metadata__":{"format":"gramian"}}'
    doubled += b" " * (-(8 + len(doubled)) % 64)
    is_refused(len(doubled).to_bytes(8, "little") + doubled + good[8 + length :], tmp_path)


def nested(config, name, value):
    """Sets every entry of this name, wherever it stands; True if there was one."""
    found = False
    if isinstance(config, dict):
        for key in config:
            if key == name:
                config[key] = value
                found = True
            elif nested(config[key], name, value):
                found = True
    return found


IMPOSSIBLE = {
    "n_features": [-1, 0, 2**40, 11, "ten", 10.5, None],
    "n_outputs": [-1, 2**40, 7, "three"],
    "n_inputs": [-1, 0],
    "n_rows": [-1, 5, "many", 1e300],
    "weight_sum": [-1.0, 0.0, "much", None],
    "weighted_rows": [-1, 10**6, "few", 0.5, None],
    "longest_sum": [-5, 1.5],
    "operations": [-5, "few"],
    "products": ["float16", 3],
    "targets": ["rows", 1],
    "class_counts": [[1, 2], [-1, 90, 1], "many", [30, 30, 31]],
    "labels": [[], {"kind": "integer", "values": [2, 1, 0]}, {"kind": "colour", "values": [0, 1, 2]}],
    "temperature": [-1.0, "hot"],
    "kind": ["uniform", 3],
    "activation": ["gelu"],
    "seed": ["-1", "x", "99999999999999999999999", 5],
    "scale": [-1.0, "wide"],
    "type": ["forest", 7],
}


@pytest.mark.parametrize("name, value", [(name, value) for name, values in IMPOSSIBLE.items() for value in values])
def test_impossible_configurations(good, name, value, tmp_path):
    found = []
    data = with_config(good, lambda config: found.append(nested(config, name, value)))
    assert found == [True], f"the configuration has no {name}"
    with pytest.raises(gm.FormatError):
        load_bytes(data, tmp_path)


SUMS = ("gram", "cross", "feature_sum", "feature_shift", "target_sum", "target_shift", "target_energy")


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize(
    "what, tensor", [("full", name) for name in SUMS] + [("weights", "coef"), ("weights", "intercept")]
)
def test_numbers_that_are_none(what, tensor, value, tmp_path):
    """Not a model that answers NaN."""
    data = checks.file_bytes(MAKE["classifier"](*trained()), what)
    header, length = header_of(data)
    begin = 8 + length + header[first_tensor(header, tensor)]["data_offsets"][0]
    data = data[:begin] + np.float64(value).tobytes() + data[begin + 8 :]
    with pytest.raises(gm.FormatError, match="NaN|infinity"):
        load_bytes(data, tmp_path)


@pytest.mark.filterwarnings("ignore:the system is singular")  # so may be what the bytes have become
@pytest.mark.parametrize("name", ["classifier", "regressor", "chain", "state"])
def test_flipped_bytes_never_crash(name, tmp_path):
    """Bytes all over the header and in the data, changed in turn: an error that says so, or a model that answers."""
    data = checks.file_bytes(MAKE[name](*trained()))
    _, length = header_of(data)
    rng = np.random.default_rng(1)
    X = trained(1)[0]
    path = tmp_path / "flipped"
    refused = 0
    places = [*range(16), *range(16, 8 + length, 4), *rng.integers(8 + length, len(data), 50)]
    for place in places:
        mask = int(rng.choice([1, 2, 16, 128, 255]))
        path.write_bytes(data[:place] + bytes([data[place] ^ mask]) + data[place + 1 :])
        try:
            model = gm.load(path)
            if name == "state":
                model.solve(1.0)
            else:
                assert len(model.predict(X)) == len(X)
        except gm.FormatError:
            refused += 1
        except ValueError as error:  # the file was whole; what is in it cannot be computed with
            assert str(error)
        except np.linalg.LinAlgError:
            pass
    assert refused > 0.3 * length / 4


@pytest.mark.parametrize("name", MAKE)
def test_cut_and_spliced_pickles(name):
    """The bytes inside a pickle are checked by the same reader."""
    model = MAKE[name](*trained())
    if name == "state":
        with pytest.raises(gm.FormatError):
            gm.GramState.from_bytes(model.to_bytes()[:-1])
        return
    state = model.__getstate__()
    other = type(model).__new__(type(model))
    with pytest.raises(gm.FormatError):
        other.__setstate__({**state, "_bytes": state["_bytes"][:-1]})


# --- saving is all or nothing ---------------------------------------------------------------------------------------

FULL_DISK = """
import os, resource, signal, sys
import numpy as np, gramian as gm
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
path = sys.argv[1]
X = np.random.default_rng(0).normal(size=(200, 300))
small = gm.AnalyticRegressor().fit(X[:, :5], X[:, 0])
small.save(path)
old = open(path, "rb").read()
big = gm.AnalyticRegressor().fit(X, X[:, 0])
resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))
for what in ("full", "state"):
    try:
        (big if what == "full" else big.state_).save(path)
    except OSError as error:
        print("refused", error)
    else:
        print("saved")
    assert open(path, "rb").read() == old
    assert os.listdir(os.path.dirname(path)) == [os.path.basename(path)], os.listdir(os.path.dirname(path))
try:
    big.save(path + ".new")
except OSError:
    print("refused")
assert not os.path.exists(path + ".new")
print(gm.load(path).predict(X[:1, :5]).shape)
"""


@pytest.mark.skipif(sys.platform == "win32", reason="this system has no RLIMIT_FSIZE")
def test_a_full_disk_leaves_the_old_file(tmp_path):
    path = tmp_path / "model"
    out = subprocess.run(
        [sys.executable, "-c", FULL_DISK, str(path)], capture_output=True, text=True, timeout=120, check=False
    )
    assert out.returncode == 0, out.stderr
    lines = out.stdout.splitlines()
    assert [line.split()[0] for line in lines[:3]] == ["refused"] * 3
    assert str(path) in lines[0] or "model" in lines[0]
    assert gm.load(path).n_features_in_ == 5


KILLED = """
import sys
import numpy as np, gramian as gm
X = np.random.default_rng(0).normal(size=(100, 700))
model = gm.GramState(700, 1).add(X, X[:, 0])
print("ready", flush=True)
while True:
    model.save(sys.argv[1])
"""


@pytest.mark.skipif(sys.platform == "win32", reason="this system has no SIGKILL")
def test_a_killed_process_leaves_a_whole_file(tmp_path):
    path = tmp_path / "state"
    for delay in (0.05, 0.11, 0.23):
        process = subprocess.Popen([sys.executable, "-c", KILLED, str(path)], stdout=subprocess.PIPE, text=True)
        try:
            assert process.stdout.readline() == "ready\n"
            with pytest.raises(subprocess.TimeoutExpired):
                process.wait(timeout=delay + 0.3)
        finally:
            process.kill()
            process.wait()
            process.stdout.close()
        assert gm.GramState.load(path).n_rows == 100


def test_where_nothing_can_be_written(tmp_path, good):
    model = MAKE["classifier"](*trained())
    with pytest.raises(OSError):
        model.save(tmp_path / "no" / "such" / "folder")
    with pytest.raises(OSError):
        model.save(tmp_path)
    with pytest.raises(ValueError, match="what must be"):
        model.save(tmp_path / "model", what="half")
    path = tmp_path / "model"
    path.write_bytes(b"not ours")
    model.save(path)  # a plain file is replaced
    assert path.read_bytes() == good
    link = tmp_path / "link"
    link.symlink_to(path)
    MAKE["regressor"](*trained()).save(link)
    assert link.is_symlink() and isinstance(gm.load(path), gm.AnalyticRegressor)
    assert sorted(os.listdir(tmp_path)) == ["link", "model"]


def test_saving_over_a_file_in_use(tmp_path):
    X, y = trained()
    path = tmp_path / "model"
    MAKE["classifier"](X, y).save(path)
    loaded = gm.load(path)
    expected = loaded.predict(X)
    MAKE["chain"](X, y).save(path)
    assert np.array_equal(loaded.predict(X), expected)
    assert checks.file_bytes(loaded) == checks.file_bytes(MAKE["classifier"](X, y))
