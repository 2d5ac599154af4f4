"""The command ``gramian demo``: class-incremental learning on a stream, checked against joint training in plain NumPy.

Real rows arrive in phases that mix old and new classes in unknown counts. No row is kept. After the stream the weights
are compared with those of one ridge regression on all rows at once, computed with NumPy alone.
"""

import contextlib
import ctypes
import math
import os
import sys
import tempfile
import time
from dataclasses import dataclass, field
from functools import partial

import numpy as np

from . import plot as _plot
from .classifier import AnalyticClassifier
from .features import RandomFeatures
from .model_files import load
from .runtime import build_info

BATCH_ROWS = 2048
RIDGE = 1.0
FORGET_ROWS = 1000
# Random features per data set: what two cores stream, and train jointly in NumPy, within a minute or so.
FEATURES = {"digits": 1000, "fashion": 2048, "intents": 2000}
FULL_FEATURES = 8192
# Largest relative difference of weights to joint training in NumPy that is rounding: with 8192 features and ridge 1
# it is 3e-12 in float64, and 7e-4 for products in float32.
ROUNDING = {"float64": 1e-8, "float32": 1e-2}


@dataclass(frozen=True)
class Data:
    """Rows to learn from and rows to test on.

    Attributes
    ----------
    x, x_test : ndarray of shape (n, d)
        As they lie in the file: uint8 and float16 are widened where they are used.
    y, y_test : integer ndarray of shape (n,)
    unit : float
        What the values are divided by before anything else. Spent in the scale of the random weights, so the rows stay
        small.
    """

    name: str
    x: np.ndarray
    y: np.ndarray
    x_test: np.ndarray
    y_test: np.ndarray
    unit: float = 1.0


@dataclass(frozen=True)
class Job:
    """One stream.

    Attributes
    ----------
    phases : list of ndarray
        Places of the rows of each phase, in order of arrival.
    joint_each : bool
        Joint training after every phase, not only after the last.
    """

    title: str
    data: Data
    phases: list
    n_features: int
    dtype: str = "float64"
    joint_each: bool = True


@dataclass
class Outcome:
    """The figures of one stream.

    Attributes
    ----------
    accuracy, joint_accuracy, weight_difference : list of float
        After each phase. The last two are None where joint training was not asked for.
    differing_predictions : int
        Test rows whose label after the last phase is not that of joint training.
    forget_difference : float
        Relative difference of the weights to those of a model that never saw the forgotten rows.
    forgotten : int
    removal_bound : float
        What the report of the solve bounds the difference by.
    reload_equal : bool
        Whether the model read back from its file gives the same scores, bit for bit.
    model_bytes : list of int
    rounding : float
        Largest difference of weights that is rounding.
    """

    title: str
    accuracy: list = field(default_factory=list)
    joint_accuracy: list = field(default_factory=list)
    weight_difference: list = field(default_factory=list)
    differing_predictions: int = 0
    forgotten: int = 0
    forget_difference: float = math.nan
    removal_bound: float = math.nan
    reload_equal: bool = False
    model_bytes: list = field(default_factory=list)
    rounding: float = 0.0

    def failures(self):
        """What did not come out as the demo says it does, one sentence each."""
        known = [value for value in self.weight_difference if value is not None]
        out = []
        # Written so that NaN fails too.
        if not known or not all(value <= self.rounding for value in known):
            out.append(f"{self.title}: the weights of the stream are not those of joint training")
        if not self.forget_difference <= self.rounding:
            out.append(f"{self.title}: the weights after forgetting are not those of never having seen the rows")
        if not self.reload_equal:
            out.append(f"{self.title}: the model read back from its file answers otherwise")
        return out


def run(folder=None, *, full=False, out=None, plot=True):
    """Runs all streams there are data for and prints what happens.

    Parameters
    ----------
    folder : path-like, default=None
        With fashion_mnist.npz and text_clinc150_minilm.npz, or one of them.
    full : bool, default=False
        8192 features, and joint training after every phase.
    out : path-like, default=None
        Where the models and the picture are kept; None keeps the picture alone, in the current folder.
    plot : bool, default=True

    Returns
    -------
    list of Outcome
    """
    began = time.perf_counter()
    _print_machine()
    if out is not None:
        os.makedirs(out, exist_ok=True)
    outcomes = []
    with tempfile.TemporaryDirectory(prefix="gramian-demo-") as scratch:
        joint = {}  # streams of the same rows share their joint training
        for job in _jobs(folder, full):
            outcomes.append(_run_job(job, out or scratch, scratch, joint))
    if plot:
        _draw(outcomes, out or ".")
    for failure in (failure for outcome in outcomes for failure in outcome.failures()):
        print(f"\nNOT AS PROMISED: {failure}")
    print(f"\nTotal: {time.perf_counter() - began:.0f} s")
    return outcomes


def _print_machine():
    info = build_info()
    print(f"gramian {info['version']}: {info['kernel_isa']} kernels, {info['threads']} threads")
    print(f"BLAS: {info['blas_provider']}, core {info['blas_core']}; NumPy {np.__version__} for joint training")
    # They make NumPy's OpenBLAS and ours choose slower code than the processor has.
    forced = [name for name in ("OPENBLAS_CORETYPE", "OPENBLAS_L2_SIZE") if name in os.environ]
    if forced:
        print(f"note: {' and '.join(forced)} set in the environment, so BLAS may be slower than this machine")
    print(
        "rows/s: learning alone; peak MB: of this process; growth MB: of it since the stream began; model MB: the sums"
    )


# The data and how they arrive.


def _jobs(folder, full):
    """The streams, one after the other, so that only one data set is in memory."""
    width = FULL_FEATURES if full else None
    digits = _digits()
    yield Job(f"{digits.name}, mixed classes", digits, _mixed_phases(digits.y, 5, 0.25), width or FEATURES["digits"])
    del digits
    if folder is None:
        print("\nWith --data DIR or GRAMIAN_DATA also Fashion-MNIST and sentence embeddings (README, 'Data').")
        return
    for file, jobs in (("fashion_mnist.npz", _fashion_jobs), ("text_clinc150_minilm.npz", _intent_jobs)):
        path = os.path.join(folder, file)
        if os.path.exists(path):
            yield from jobs(path, full, width)
        else:
            print(f"\n{file} is not in {folder}: left out")


def _digits():
    """scikit-learn's digits; generated rows where scikit-learn is not installed."""
    try:
        from sklearn.datasets import load_digits
    except ImportError:
        return _generated()
    x, y = load_digits(return_X_y=True)
    order = np.random.default_rng(0).permutation(len(y))
    test, train = order[:360], order[360:]
    return Data("Digits", x[train], y[train], x[test], y[test], unit=16.0)


def _generated():
    """Ten classes, each two clouds of points."""
    rng = np.random.default_rng(0)
    middles = rng.standard_normal((20, 32))
    cloud = rng.integers(20, size=2400)
    x, y = middles[cloud] + 0.8 * rng.standard_normal((2400, 32)), cloud % 10
    return Data("Generated", x[:2000], y[:2000], x[2000:], y[2000:])


def _fashion_jobs(path, full, width):
    with np.load(path, allow_pickle=False) as file:
        data = Data(
            "Fashion-MNIST",
            file["x_train"].reshape(-1, 784),
            file["y_train"].astype(np.int64),
            file["x_test"].reshape(-1, 784),
            file["y_test"].astype(np.int64),
            unit=255.0,
        )
    common = {"n_features": width or FEATURES["fashion"], "dtype": "float32", "joint_each": full}
    yield Job("Fashion-MNIST, 5 phases of 2 classes", data, _phases_of_classes(data.y, 5), **common)
    yield Job("Fashion-MNIST, blurry", data, _blurry_phases(data.y, 5), **common)


def _intent_jobs(path, full, width):
    with np.load(path, allow_pickle=False) as file:
        x, y, split = file["x"], file["y"].astype(np.int64), file["split"]
    train, test = (split == 0) & (y >= 0), (split == 2) & (y >= 0)  # -1: out of scope
    data = Data("Intents", x[train], y[train], x[test], y[test])
    yield Job(
        "Sentence-embedding intents, mixed classes", data, _mixed_phases(data.y, 15, 0.2), width or FEATURES["intents"]
    )


def _phases_of_classes(y, n_phases):
    """Each phase brings classes of its own, in the order of their numbers."""
    rng = np.random.default_rng(1)
    return [rng.permutation(np.flatnonzero(np.isin(y, part))) for part in np.array_split(np.unique(y), n_phases)]


def _mixed_phases(y, n_phases, late):
    """Each phase brings new classes, of which about a share ``late`` of the rows comes in later phases, mixed with the
    classes that are new there."""
    rng = np.random.default_rng(1)
    phase_of_row = np.empty(len(y), dtype=np.int64)
    for home, part in enumerate(np.array_split(rng.permutation(np.unique(y)), n_phases)):
        rows = np.flatnonzero(np.isin(y, part))
        stays = (rng.random(len(rows)) >= late) | (home == n_phases - 1)
        phase_of_row[rows] = np.where(stays, home, rng.integers(min(home + 1, n_phases - 1), n_phases, size=len(rows)))
    return [rng.permutation(np.flatnonzero(phase_of_row == phase)) for phase in range(n_phases)]


def _blurry_phases(y, n_phases):
    """Half of the classes come each in one phase alone, the others in all phases in very uneven parts."""
    rng = np.random.default_rng(2)
    classes = rng.permutation(np.unique(y))
    phase_of_row = np.empty(len(y), dtype=np.int64)
    for place, label in enumerate(classes):
        rows = np.flatnonzero(y == label)
        alone = place < len(classes) // 2
        shares = np.eye(n_phases)[place % n_phases] if alone else rng.dirichlet(np.full(n_phases, 0.5))
        phase_of_row[rows] = rng.choice(n_phases, size=len(rows), p=shares)
    return [rng.permutation(np.flatnonzero(phase_of_row == phase)) for phase in range(n_phases)]


# One stream.


def _run_job(job, folder, scratch, joint_of):
    print(f"\n== {job.title}")
    data = job.data
    print(
        f"{len(data.y):,} rows of {data.x.shape[1]}, {len(np.unique(data.y))} classes, {len(job.phases)} phases; "
        f"{job.n_features} random ReLU features, ridge {RIDGE:g}, {job.dtype} products"
    )
    outcome = Outcome(job.title, rounding=ROUNDING[job.dtype])
    model = _stream(job, scratch, outcome)

    forgotten = np.flatnonzero(data.y == data.y.min())[:FORGET_ROWS]
    began = time.perf_counter()
    for rows in _batches(forgotten):
        model.forget(data.x[rows], data.y[rows])
    outcome.removal_bound = model.report_.removal_bound
    seconds = time.perf_counter() - began

    # Streams of the same rows share one joint training, since that does not depend on the order of arrival.
    joint = None if job.joint_each else joint_of.get(data.name)
    if joint is None:
        joint = joint_of[data.name] = _train_jointly(job, forgotten)
        effort = f"{joint.seconds:.1f} s"
    else:
        effort = "the same as above"
    _compare(job, joint, effort, scratch, outcome)

    outcome.forgotten, outcome.forget_difference = len(forgotten), _difference(_weights(model), joint.without)
    print(
        f"Forgot {len(forgotten):,} rows of class {data.y.min()} in {seconds:.2f} s: relative weight difference to "
        f"never having seen them {outcome.forget_difference:.1e} (worst case {outcome.removal_bound:.1e})"
    )
    _save_and_reload(job, model, folder, outcome)
    return outcome


def _stream(job, scratch, outcome):
    """Learns phase by phase and prints the table."""
    data = job.data
    # relu(c x B) = c relu(x B), so a unit inside of the scale does what dividing all rows would do.
    feature_map = RandomFeatures(job.n_features, scale=_scale(data))
    model = AnalyticClassifier(feature_map, ridge=RIDGE, dtype=job.dtype)
    at_start = _restart_peak_memory()
    print("phase  classes   new rows  accuracy     rows/s  peak MB  growth MB  model MB")
    for number, phase in enumerate(job.phases, 1):
        began = time.perf_counter()
        for rows in _batches(phase):
            model.partial_fit(data.x[rows], data.y[rows])
        rate = len(phase) / (time.perf_counter() - began)
        seen = np.flatnonzero(np.isin(data.y_test, model.classes_))
        accuracy = _accuracy(model.predict, data, seen)
        # The weights of this moment go to a file, so that comparing them later takes no memory from the stream.
        model.save(_weights_file(scratch, number), what="weights")
        peak = _peak_memory()
        print(
            f"{number:5}  {len(model.classes_):7}  {len(phase):9,}  {accuracy:8.4f}  {rate:9,.0f}  "
            f"{peak / 2**20:7.0f}  {max(0, peak - at_start) / 2**20:9.0f}  {model.nbytes / 2**20:8.1f}",
            flush=True,
        )
        outcome.accuracy.append(accuracy)
        outcome.model_bytes.append(model.nbytes)
    return model


def _compare(job, joint, effort, scratch, outcome):
    """Prints how far the stream is from joint training, after each phase that this is known of."""
    data = job.data
    for number in range(1, len(job.phases) + 1):
        if number not in joint.weights:
            outcome.joint_accuracy.append(None)
            outcome.weight_difference.append(None)
            continue
        weights, classes = joint.weights[number]
        streamed = load(_weights_file(scratch, number))
        outcome.weight_difference.append(_difference(_weights(streamed), weights))
        seen = np.flatnonzero(np.isin(data.y_test, classes))
        outcome.joint_accuracy.append(_accuracy(partial(joint.predict, weights=weights, classes=classes), data, seen))
    rows = np.flatnonzero(np.isin(data.y_test, classes))
    differing = sum(
        int((streamed.predict(data.x_test[part]) != joint.predict(data.x_test[part], weights, classes)).sum())
        for part in _batches(rows)
    )
    outcome.differing_predictions = differing
    known = [value for value in outcome.weight_difference if value is not None]
    accuracies = zip(outcome.accuracy, outcome.joint_accuracy, strict=True)
    gap = max(abs(ours - theirs) for ours, theirs in accuracies if theirs is not None)
    print(
        f"Joint training (plain NumPy float64, {effort}): accuracy {outcome.joint_accuracy[-1]:.4f}, "
        f"{differing} of {len(rows):,} predictions differ"
    )
    print(
        f"Largest difference to it after {_phases(len(known))}: weights {max(known):.1e} (relative), accuracy {gap:.4f}"
    )


def _phases(count):
    return "the last phase" if count == 1 else f"each of {count} phases"


def _save_and_reload(job, model, folder, outcome):
    path = os.path.join(folder, "".join(c if c.isalnum() else "-" for c in job.title.lower()) + ".gramian")
    model.save(path)
    again = load(path)
    outcome.reload_equal = all(
        np.array_equal(model.decision_function(rows), again.decision_function(rows))
        and np.array_equal(model.predict(rows), again.predict(rows))
        for rows in (job.data.x_test[part] for part in _batches(np.arange(len(job.data.y_test))))
    )
    print(
        f"Saved ({os.path.getsize(path) / 2**20:.1f} MB), read back: scores and predictions are "
        f"{'equal bit for bit' if outcome.reload_equal else 'NOT EQUAL'}",
        flush=True,
    )


def _scale(data):
    return 1.0 / (data.unit * math.sqrt(data.x.shape[1]))


def _batches(places, size=BATCH_ROWS):
    return (places[begin : begin + size] for begin in range(0, len(places), size))


def _accuracy(predict, data, places):
    """Mean accuracy on some test rows, which are copied part by part."""
    right = sum(int((predict(data.x_test[rows]) == data.y_test[rows]).sum()) for rows in _batches(places))
    return right / max(1, len(places))


def _weights_file(scratch, number):
    return os.path.join(scratch, f"weights-{number}.gramian")


def _weights(model):
    """Weights and intercepts, one row of n_features + 1 per class (coef_ folds two classes into one row)."""
    coef, intercept, _ = model._learnt.model.solution()
    return np.column_stack([coef, intercept])


def _difference(found, expected):
    return float(np.linalg.norm(found - expected) / np.linalg.norm(expected))


# Memory of this process.


def _peak_memory():
    """Largest resident size so far, in bytes; 0 where the system does not tell."""
    try:
        import resource
    except ImportError:
        return 0
    # Linux counts kilobytes, macOS bytes.
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def _restart_peak_memory():
    """Sets the peak back to the present size where the system allows that (Linux). Returns the peak it is now."""
    # Memory that earlier streams have freed would hide what this one needs: glibc keeps it until it is asked.
    with contextlib.suppress(OSError, AttributeError, TypeError):
        ctypes.CDLL(None).malloc_trim(0)
    with contextlib.suppress(OSError), open("/proc/self/clear_refs", "w") as file:
        file.write("5")
    return _peak_memory()


# Joint training. Nothing below is computed by this library, but for the random weights.


class _Sums:
    """n, sum z, sum y, Z'Z and Z'Y of feature rows z and one-hot targets y, in float64."""

    def __init__(self, n_features, n_classes):
        self.n, self.z, self.y = 0, np.zeros(n_features), np.zeros(n_classes)
        self.gram, self.cross = np.zeros((n_features, n_features)), np.zeros((n_features, n_classes))

    def add(self, Z, codes):
        Y = np.zeros((len(Z), len(self.y)))
        Y[np.arange(len(Z)), codes] = 1.0
        self.n += len(Z)
        self.z += Z.sum(axis=0)
        self.y += Y.sum(axis=0)
        self.gram += Z.T @ Z
        self.cross += Z.T @ Y

    def solve(self):
        """Weights and intercepts of ridge regression, the intercepts unpenalised."""
        return _ridge(self.n, self.z, self.y, self.gram, self.cross)

    def solve_with(self, other):
        """The same for the rows of both."""
        return _ridge(
            self.n + other.n, self.z + other.z, self.y + other.y, self.gram + other.gram, self.cross + other.cross
        )


def _ridge(n, z, y, gram, cross):
    mean = z / n
    system = gram - np.outer(z, mean)
    system.flat[:: len(system) + 1] += RIDGE
    coef = np.linalg.solve(system, cross - np.outer(mean, y))
    return np.column_stack([coef.T, y / n - mean @ coef])


@dataclass
class _Joint:
    """Weights by joint training.

    Attributes
    ----------
    matrix : ndarray of shape (d, n_features)
        Random weights.
    weights : dict
        By number of the phase: weights and intercepts on all rows up to it, and the classes of their rows.
    without : ndarray
        Weights and intercepts on all rows but the forgotten ones.
    seconds : float
    """

    matrix: np.ndarray
    weights: dict
    without: np.ndarray
    seconds: float

    def predict(self, x, weights, classes):
        return classes[np.argmax(_relu_features(x, self.matrix) @ weights[:, :-1].T + weights[:, -1], axis=1)]


def _relu_features(x, matrix):
    return np.maximum(x.astype(np.float64) @ matrix, 0.0)


def _train_jointly(job, forgotten):
    """Ridge regression on all rows of the phases, and on those that are not forgotten."""
    began = time.perf_counter()
    data, classes = job.data, np.unique(job.data.y)
    # The random weights are the one thing taken from the library, since both sides must use the same ones. With
    # activation "identity" a map is z = x B in float64, so its image of the identity matrix is B.
    source = RandomFeatures(job.n_features, activation="identity", scale=_scale(data))
    matrix = source.fit_transform(np.eye(data.x.shape[1]))

    # Two sums, apart from the first row on, so that nothing is ever subtracted to leave rows out.
    kept, gone = (_Sums(job.n_features, len(classes)) for _ in range(2))
    weights = {}
    for number, phase in enumerate(job.phases, 1):
        is_gone = np.isin(phase, forgotten)
        for sums, places in ((kept, phase[~is_gone]), (gone, phase[is_gone])):
            for rows in _batches(places):
                sums.add(_relu_features(data.x[rows], matrix), np.searchsorted(classes, data.y[rows]))
        if job.joint_each or number == len(job.phases):
            seen = kept.y + gone.y > 0
            weights[number] = kept.solve_with(gone)[seen], classes[seen]
    without = kept.solve()[kept.y > 0]
    return _Joint(matrix, weights, without, time.perf_counter() - began)


def _draw(outcomes, folder):
    path = os.path.join(folder, "gramian-demo.png")
    curves = [(outcome.title, outcome.accuracy, outcome.joint_accuracy) for outcome in outcomes]
    if _plot.accuracy_curves(curves, path):
        print(f"\nAccuracy after each phase: {path}")
    else:
        print("\nNo picture: matplotlib is not installed")
