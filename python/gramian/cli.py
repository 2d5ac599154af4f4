"""The command ``gramian``: learn, forget, predict and look into models from a shell."""

import argparse
import contextlib
import json
import os
import re
import sys

import numpy as np

from . import _core, _io, _labels
from ._composite import InParts
from ._feature_map import FeatureMap
from ._progress import Progress
from ._validate import with_article
from .classifier import AnalyticClassifier
from .dual_stream import DualStreamClassifier
from .gram import GramState
from .model_files import load
from .random_features import ACTIVATIONS, KINDS, RandomFeatures
from .regressor import AnalyticRegressor
from .truncated import TruncatedRidgeClassifier

OK, FAILED, USAGE, BAD_INPUT, INTERRUPTED = 0, 1, 2, 3, 130

_EXIT_CODES = """exit codes:
  0    done
  1    failed while running: no memory, disk full, no solution, a device that is not there; for demo, that its
       answers are not those of joint training
  2    wrong usage
  3    bad input: a data or model file that is missing, damaged or does not fit
  130  interrupted (Ctrl-C); model files are as they were
"""

_DESCRIPTION = """Exact incremental learning: a model is a set of sums over rows, so it can learn more rows and new
classes at any time, forget rows exactly, and is always the ridge regression on the rows that are in."""

_MAIN_EXAMPLES = """examples:
  gramian demo
  gramian fit digits.gramian monday.npz --features 1000
  gramian update digits.gramian tuesday.npz
  gramian forget digits.gramian withdrawn.npz
  gramian evaluate digits.gramian test.npz
  gramian predict digits.gramian new.npy --output labels.csv
  gramian info digits.gramian

"""

_DATA_HELP = """data files:
  .npy   rows of shape (n, d), mapped and read block by block; labels in a second file (--labels)
  .npz   arrays X (or x) and y; other names by --x-key and --y-key; images are flattened
  .csv   a column per feature; the label is the column named label, target, class or y, else the last
         (another one by --target); the first line may be names

"""

_EXAMPLES = {
    "demo": """examples:
  gramian demo
  gramian demo --data ~/data --out results
  gramian demo --full

""",
    "fit": """examples:
  gramian fit model.gramian train.npz
  gramian fit model.gramian rows.npy --labels labels.npy --features 5000 --dtype float32
  gramian fit model.gramian flowers.csv --target species --ridge gcv
  gramian fit price.gramian houses.csv --task regress --target price

""",
    "update": """examples:
  gramian update model.gramian more.npz
  gramian update model.gramian rows.npy --labels labels.npy

""",
    "forget": """examples:
  gramian forget model.gramian withdrawn.npz

""",
    "predict": """examples:
  gramian predict model.gramian rows.npy                          (labels to stdout, one per line)
  gramian predict model.gramian rows.npy --output labels.npy
  gramian predict model.gramian rows.csv --proba --output chances.csv

""",
    "evaluate": """examples:
  gramian evaluate model.gramian test.npz
  gramian evaluate model.gramian test.npz --json | jq .accuracy

""",
    "info": """examples:
  gramian info model.gramian
  gramian info model.gramian --json | jq .n_samples_seen

""",
}


class _Failure(Exception):
    """A message for the user and the exit code that goes with it."""

    def __init__(self, code, message):
        super().__init__(message)
        self.code = code


def main(argv=None):
    """Runs one command.

    Parameters
    ----------
    argv : list of str, default=None
        Arguments; None for those of the process.

    Returns
    -------
    int
        The exit code.
    """
    parser = _parser()
    try:
        arguments = parser.parse_args(argv)
    except SystemExit as stop:  # argparse has said why
        return stop.code
    try:
        if getattr(arguments, "n_jobs", None) is None:
            _check_default_threads()
        arguments.run(arguments)
        sys.stdout.flush()
    except KeyboardInterrupt:
        print("\ngramian: interrupted; model files are as they were", file=sys.stderr)
        return INTERRUPTED
    except _Failure as failure:
        return _complain(failure.code, failure)
    except BrokenPipeError:
        # The reader of our output has had enough. Python would complain once more when it closes stdout.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return FAILED
    except (_io.InputError, _core.FormatError) as error:
        return _complain(BAD_INPUT, error)
    except MemoryError as error:
        return _complain(FAILED, f"out of memory {error}".strip())
    except np.linalg.LinAlgError as error:  # a ValueError too, so it comes first
        return _complain(FAILED, error)
    except (ValueError, TypeError) as error:
        return _complain(BAD_INPUT, error)
    except (OSError, NotImplementedError, RuntimeError) as error:
        return _complain(FAILED, error)
    return OK


def _check_default_threads():
    """Reads the number of threads from the environment, which no file is to blame for."""
    try:
        _core.default_threads()
    except ValueError as error:
        raise _Failure(FAILED, error) from error


def _complain(code, message):
    print(f"gramian: {message}", file=sys.stderr)
    return code


# The commands and their arguments.


def _parser():
    parser = argparse.ArgumentParser(
        prog="gramian",
        description=_DESCRIPTION,
        epilog=_MAIN_EXAMPLES + _EXIT_CODES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"gramian {_core.__version__}")
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)

    demo = _command(commands, "demo", _demo, "stream real data through an exact incremental learner", data=False)
    demo.add_argument("--full", action="store_true", help="8192 features, and joint training after every phase")
    demo.add_argument(
        "--data",
        metavar="DIR",
        help="folder with fashion_mnist.npz and text_clinc150_minilm.npz; default: GRAMIAN_DATA",
    )
    demo.add_argument("--out", metavar="DIR", help="keep the models and the picture here")
    demo.add_argument("--no-plot", action="store_true", help="draw no picture")

    fit = _command(commands, "fit", _fit, "make a model from rows and their labels")
    _add_data(fit)
    _add_fit(fit)

    update = _command(commands, "update", _update, "add rows to a model; new classes may be among them")
    _add_data(update)
    _add_machine(update)

    forget = _command(commands, "forget", _forget, "take rows out of a model, as if they had never been in")
    _add_data(forget)
    _add_machine(forget)

    predict = _command(commands, "predict", _predict, "labels or numbers for new rows")
    _add_data(predict, labels=False)
    predict.add_argument("--proba", action="store_true", help="probabilities of the classes instead of labels")
    predict.add_argument("--output", "-o", metavar="FILE", help=".npy or .csv; default: text to stdout")
    _add_machine(predict)

    evaluate = _command(commands, "evaluate", _evaluate, "accuracy or R^2 on rows with labels")
    _add_data(evaluate)
    evaluate.add_argument("--json", action="store_true", help="one JSON object instead of text")
    _add_machine(evaluate)

    info = _command(commands, "info", _info, "what a model file holds", data=False)
    info.add_argument("model", metavar="MODEL", help="model file")
    info.add_argument("--json", action="store_true", help="one JSON object instead of text")
    return parser


def _command(commands, name, run, summary, data=True):
    parser = commands.add_parser(
        name,
        help=summary,
        description=summary[0].upper() + summary[1:] + ".",
        epilog=_EXAMPLES[name] + (_DATA_HELP if data else "") + _EXIT_CODES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.set_defaults(run=run)
    return parser


def _add_data(parser, labels=True):
    parser.add_argument("model", metavar="MODEL", help="model file")
    parser.add_argument("data", metavar="DATA", help=".npy, .npz or .csv")
    group = parser.add_argument_group("where the rows and labels are")
    if labels:
        group.add_argument("--labels", metavar="FILE", help="labels: .npy, or text with one per line")
        group.add_argument("--y-key", metavar="NAME", help="array of labels in an .npz (default: y or Y)")
    group.add_argument("--x-key", metavar="NAME", help="array of rows in an .npz (default: X or x)")
    group.add_argument("--target", metavar="COLUMN", help="label column of a .csv: name or number, from 0")
    group.add_argument(
        "--header",
        choices=("auto", "yes", "no"),
        default="auto",
        help="is the first line of a .csv names? (default: auto)",
    )


def _add_machine(parser):
    group = parser.add_argument_group("machine")
    group.add_argument("--n-jobs", type=_threads, metavar="N", help="threads; -1 for all processors")
    group.add_argument("--device", type=_device, default="cpu", help="cpu, cuda or cuda:1 (default: cpu)")
    group.add_argument(
        "--progress", action="store_true", default=None, help="progress on stderr also where that is no terminal"
    )


def _add_fit(parser):
    group = parser.add_argument_group("model")
    group.add_argument("--task", choices=("classify", "regress"), default="classify", help="default: classify")
    group.add_argument("--ridge", type=_ridge, default=1.0, metavar="R|gcv", help="penalty of the weights (default: 1)")
    group.add_argument("--dtype", choices=("float64", "float32"), help="type of the products (default: float64)")
    group.add_argument("--no-intercept", action="store_true", help="no constant term")
    group = parser.add_argument_group("random features in front of the regression (default: none)")
    group.add_argument("--features", type=_positive, metavar="N", help="how many")
    group.add_argument("--kind", choices=KINDS, help="law of the weights (default: gaussian)")
    group.add_argument("--activation", choices=ACTIVATIONS, help="default: relu")
    group.add_argument("--scale", type=_above_zero, help="factor of the weights (default: 1 / sqrt(width))")
    group.add_argument("--seed", type=_seed, help="the same seed draws the same weights on every machine (default: 0)")
    _add_machine(parser)


def _argument(parse, accepts, wanted):
    """Converter of one argument, with a message that says what is wanted."""

    def convert(text):
        try:
            value = parse(text)
        except ValueError:
            value = None
        if value is None or not accepts(value):
            raise argparse.ArgumentTypeError(f"{wanted} is needed, got {text}")
        return value

    return convert


_ridge = _argument(
    lambda text: text if text == "gcv" else float(text),
    lambda value: value == "gcv" or (np.isfinite(value) and value >= 0),
    "a number >= 0 or gcv",
)
_above_zero = _argument(float, lambda value: np.isfinite(value) and value > 0, "a number > 0")
_positive = _argument(int, lambda value: value >= 1, "a whole number >= 1")
_threads = _argument(int, lambda value: value != 0 and value < 2**31, "a whole number below 2^31 that is not 0")
# The numbers are as long as the compiled module reads them.
_device = _argument(str, re.compile("cpu|cuda(:[0-9]{1,4})?").fullmatch, "cpu, cuda or cuda:1")
_seed = _argument(int, lambda value: 0 <= value < 2**64, "a whole number in [0, 2^64)")


# What the commands do.


def _demo(arguments):
    from . import demo  # only this command needs it

    folder = arguments.data if arguments.data is not None else os.environ.get("GRAMIAN_DATA")
    if folder and not os.path.isdir(folder):
        raise _Failure(BAD_INPUT, f"no folder {folder}")
    outcomes = demo.run(folder or None, full=arguments.full, out=arguments.out, plot=not arguments.no_plot)
    failures = [failure for outcome in outcomes for failure in outcome.failures()]
    if failures:
        raise _Failure(FAILED, "; ".join(failures))


def _fit(arguments):
    regress = arguments.task == "regress"
    model = (AnalyticRegressor if regress else AnalyticClassifier)(
        feature_map=_feature_map(arguments),
        ridge=arguments.ridge,
        fit_intercept=not arguments.no_intercept,
        dtype=arguments.dtype,
        device=arguments.device,
        n_jobs=arguments.n_jobs,
    )
    table = _table(arguments, regress=regress)
    # Nothing of an old file is touched before the new model is complete.
    _feed(model.partial_fit, table, "fit", arguments)
    _solve_and_save(model, arguments.model)


def _feature_map(arguments):
    given = {name: getattr(arguments, name) for name in ("kind", "activation", "scale", "seed")}
    given = {name: value for name, value in given.items() if value is not None}
    if arguments.features is None:
        if given:
            raise _Failure(USAGE, f"--{next(iter(given))} is for random features: give their number by --features")
        return None
    return RandomFeatures(arguments.features, random_state=given.pop("seed", 0), **given)


def _update(arguments):
    model = _load_learner(arguments)
    _feed(model.partial_fit, _table(arguments, model), "update", arguments)
    _solve_and_save(model, arguments.model)


def _forget(arguments):
    model = _load_learner(arguments)
    _feed(model.forget, _table(arguments, model), "forget", arguments)
    _solve_and_save(model, arguments.model)


def _feed(learn, table, label, arguments):
    """Calls partial_fit or forget block by block. The model is this process's own, so no call needs a second state."""
    if table.y is None:
        raise _io.InputError(f"{table.name}: no labels; name their file by --labels")
    begin = 0
    with Progress(label, len(table), arguments.progress) as progress:
        for rows, y in table.blocks():
            with _naming(table, begin):
                learn(rows, y, atomic=False)
            begin += len(rows)
            progress.add(len(rows))


@contextlib.contextmanager
def _naming(table, begin):
    """Errors about rows say which file, and where the rows begin that they count."""
    try:
        yield
    except np.linalg.LinAlgError:  # about the sums, not the rows
        raise
    except (ValueError, TypeError) as error:
        where = f", in the rows from {begin} on" if begin else ""
        raise _io.InputError(f"{table.name}{where}: {error}") from error


def _predict(arguments):
    model = _load_fitted(arguments)
    if arguments.proba and not hasattr(model, "predict_proba"):
        held = with_article(type(model).__name__)
        raise _Failure(USAGE, f"--proba is for models that give probabilities, which {held} does not")
    suffix = None if arguments.output is None else os.path.splitext(arguments.output)[1].lower()
    if suffix not in (None, ".npy", ".csv"):
        raise _Failure(USAGE, f"--output must end in .npy or .csv, got {arguments.output}")
    table = _table(arguments, model, wanted=False)
    header = [_text(label) for label in model.classes_] if arguments.proba else None
    answer = model.predict_proba if arguments.proba else model.predict
    if suffix == ".npy":
        found = np.concatenate(list(_answers(answer, table, arguments)))
        if found.dtype.kind == "O":  # labels that were objects in Python: all are of one kind
            found = np.array(found.tolist())
        with _written(arguments.output) as temporary, open(temporary, "wb") as file:
            np.save(file, found, allow_pickle=False)
    elif suffix == ".csv":
        with _written(arguments.output) as temporary, open(temporary, "w", newline="", encoding="utf-8") as file:
            _write_rows(file, header, _answers(answer, table, arguments))
    else:
        if arguments.progress is None and sys.stdout.isatty():
            arguments.progress = False  # it would stand among the answers
        _write_rows(sys.stdout, header, _answers(answer, table, arguments))


@contextlib.contextmanager
def _written(path):
    """A temporary name that becomes `path`; what the system says about it names `path`."""
    try:
        with _io.replacing(path) as temporary:
            yield temporary
    except OSError as error:
        raise _Failure(FAILED, f"{path}: {error.strerror or error}") from error


def _answers(answer, table, arguments):
    with Progress("predict", len(table), arguments.progress) as progress:
        for rows, _ in table.blocks():
            with _naming(table, 0):
                found = answer(rows)
            yield found
            progress.add(len(rows))


def _write_rows(file, header, blocks):
    import csv

    writer = csv.writer(file, lineterminator="\n")
    if header is not None:
        writer.writerow(header)
    for block in blocks:
        for row in block.reshape(len(block), -1).tolist():
            writer.writerow([_text(value) for value in row])


def _text(value):
    return value.decode("utf-8", "backslashreplace") if isinstance(value, bytes) else value


def _evaluate(arguments):
    model = _load_fitted(arguments)
    table = _table(arguments, model)
    if table.y is None:
        raise _io.InputError(f"{table.name}: no labels to compare with; name their file by --labels")
    found = np.concatenate(list(_answers(model.predict, table, arguments)))
    if isinstance(model, AnalyticRegressor):
        report = _regression_report(table, found)
    elif found.ndim == 2:
        report = _multi_label_report(table, found)
    else:
        report = _class_report(table, found)
    _show(report, arguments.json)


_NUMBERS = {"boolean", "integer", "real"}


def _class_report(table, found):
    y = table.y
    if y.ndim != 1:
        raise _io.InputError(f"{table.name}: one label per row is needed, y has shape {y.shape}")
    # What Python compares: booleans are numbers there.
    kinds = [_labels.kind_of(values) for values in (y, found)]
    if kinds[0] != kinds[1] and not _NUMBERS.issuperset(kinds):
        raise _io.InputError(f"{table.name}: labels of kind {kinds[0]}, but those of the model are of kind {kinds[1]}")
    # Labels that only one side has are classes of the table too: rows of a class never learnt count as wrong.
    classes = []
    for label in np.unique(np.concatenate([np.unique(y), np.unique(found)])):
        of_class, as_class = y == label, found == label
        right, rows, predicted = int((of_class & as_class).sum()), int(of_class.sum()), int(as_class.sum())
        classes.append(
            {
                "class": _plain(label),
                "rows": rows,
                "predicted": predicted,
                "recall": right / rows if rows else None,
                "precision": right / predicted if predicted else None,
            }
        )
    return {"rows": len(y), "accuracy": float((y == found).mean()), "classes": classes}


def _multi_label_report(table, found):
    if table.y.shape != found.shape:
        raise _io.InputError(f"{table.name}: y has shape {table.y.shape}, the predictions {found.shape}")
    right = table.y == found
    return {
        "rows": len(found),
        "exact_match": float(right.all(axis=1).mean()),
        "label_accuracy": float(right.mean()),
    }


def _regression_report(table, found):
    y, found = table.y.reshape(len(table), -1), found.reshape(len(found), -1)
    if y.shape != found.shape:
        raise _io.InputError(f"{table.name}: {y.shape[1]} targets, but the model has {found.shape[1]}")
    residual, spread = ((y - found) ** 2).mean(axis=0), y.var(axis=0)
    constant = spread == 0
    r2 = np.where(constant, np.where(residual == 0, 1.0, 0.0), 1 - residual / np.where(constant, 1.0, spread))
    outputs = [
        {"output": k, "r2": float(a), "rmse": float(b)}
        for k, (a, b) in enumerate(zip(r2, np.sqrt(residual), strict=True))
    ]
    return {"rows": len(y), "r2": float(r2.mean()), "rmse": float(np.sqrt(residual.mean())), "outputs": outputs}


def _info(arguments):
    model = _read_model(arguments.model, "cpu", None)
    metadata = _metadata(arguments.model)
    report = {
        "file": arguments.model,
        "file_bytes": os.path.getsize(arguments.model),
        "kind": type(model).__name__,
        "written_by": f"gramian {metadata.get('lib_version', 'unknown')}",
        "schema": metadata.get("schema"),
    }
    report.update(_INFO.get(type(model), _estimator_info)(model))
    _show(report, arguments.json)


def _metadata(path):
    """The metadata of a model file that has been read and so is known to be sound."""
    with open(path, "rb") as file:
        length = int.from_bytes(file.read(8), "little")
        return json.loads(file.read(length))["__metadata__"]


def _state_info(state):
    return {
        "n_features": state.n_features,
        "n_outputs": state.n_outputs,
        "n_samples_seen": state.n_rows,
        "sums_bytes": state.nbytes,
        "dtype": state.dtype,
        "intercept": state.fit_intercept,
    }


def _estimator_info(model):
    compiled = model._learnt.model
    full = compiled.has_state
    config = compiled.config
    report = {
        "holds": "sums and weights" if full else "weights only: predicts, cannot learn",
        "n_inputs": model.n_features_in_,
        "n_features": compiled.n_features,
        "n_outputs": compiled.n_outputs,
        "feature_map": "none" if model.feature_map_ is None else repr(model.feature_map_),
        "ridge": config["ridge"] if config["rule"] == "fixed" else config["rule"],
        "standardize": config["standardize"],
        "dtype": compiled.products,
        "intercept": config["intercept"],
    }
    if full:
        report["n_samples_seen"] = model.n_samples_seen_
        report["sums_bytes"] = model.nbytes
    if isinstance(model, AnalyticClassifier) and model._learnt.form.multi:
        report["classes"] = [{"class": _plain(label)} for label in model.classes_]  # nobody counts the rows of a column
    elif isinstance(model, AnalyticClassifier):
        report["classes"] = _counted_classes(model)
    return report


def _counted_classes(model):
    return [
        {"class": _plain(label), "rows": int(count)}
        for label, count in zip(model.classes_, model.class_count_, strict=True)
    ]


def _truncated_info(model):
    return {
        "holds": "directions and weights",
        "n_inputs": model.n_features_in_,
        "feature_map": "none" if model.feature_map_ is None else repr(model.feature_map_),
        "rank": model.rank,
        "directions": model.rank_,
        "ridge": model.ridge,
        "intercept": model.fit_intercept,
        "n_samples_seen": model.n_samples_seen_,
        "state_bytes": model.nbytes,
        "classes": _counted_classes(model),
    }


def _dual_stream_info(model):
    full = model._learnt.model.has_state
    report = {
        "holds": "sums and weights of two streams" if full else "weights only: predicts, cannot learn",
        "n_inputs": model.n_features_in_,
        "n_features": model.n_features,
        "ridge": model.ridge,
        "compensation": model.compensation,
        "variant": model.variant,
        "dtype": model.dtype or "float64",
        "phases": model.n_phases_,
    }
    if full:
        report["n_samples_seen"] = model.n_samples_seen_
        report["sums_bytes"] = model.nbytes
    return {**report, "classes": _counted_classes(model)}


# Of the kinds that are not told about by `_estimator_info`.
_INFO = {
    GramState: _state_info,
    TruncatedRidgeClassifier: _truncated_info,
    DualStreamClassifier: _dual_stream_info,
}


# Models, tables and text.


def _load_model(arguments):
    model = _read_model(arguments.model, arguments.device, arguments.n_jobs)
    if isinstance(model, GramState):
        raise _Failure(BAD_INPUT, f"{arguments.model}: holds a GramState, not an estimator")
    return model


def _load_learner(arguments):
    """A model that update and forget can change."""
    model = _load_model(arguments)
    if isinstance(model, (TruncatedRidgeClassifier, DualStreamClassifier)):
        held = with_article(type(model).__name__)
        raise _Failure(BAD_INPUT, f"{arguments.model}: holds {held}, which update and forget do not work with")
    return model


def _load_fitted(arguments):
    """A model that has something to answer with."""
    model = _load_model(arguments)
    if not model.__sklearn_is_fitted__():
        raise _Failure(BAD_INPUT, f"{arguments.model}: there are no rows in the model, so it cannot predict")
    return model


def _read_model(path, device, n_jobs):
    try:
        model = load(path, device=device, n_jobs=n_jobs)
    except OSError as error:
        raise _Failure(BAD_INPUT, f"{path}: {error.strerror or error}") from error
    if isinstance(model, (InParts, FeatureMap)):
        held = with_article(type(model).__name__)
        raise _Failure(BAD_INPUT, f"{path}: holds {held}, which the commands do not work with; gramian.load reads it")
    return model


def _solve_and_save(model, path):
    # Weights are solved when they are first read: here, so that sums without a solution replace no file. The library
    # also loads models that solve nothing and have no report.
    try:
        getattr(model, "report_", None)
    except ValueError as error:  # the rows are sound, each by itself
        raise _Failure(FAILED, error) from error
    try:
        model.save(path)
    except OSError as error:
        raise _Failure(FAILED, f"{path}: {error.strerror or error}") from error
    _say_what_is_in(model, path)


def _table(arguments, model=None, regress=False, wanted=True):
    """The rows of a command, with their labels if they are wanted, in the form that its model expects."""
    suffix = os.path.splitext(arguments.data)[1].lower()
    for option, kind in (("target", ".csv"), ("x_key", ".npz"), ("y_key", ".npz")):
        if getattr(arguments, option, None) is not None and suffix in (".csv", ".npy", ".npz") and suffix != kind:
            raise _Failure(USAGE, f"--{option.replace('_', '-')} is for {kind} files, {arguments.data} is none")
    try:
        return _io.read_table(
            arguments.data,
            labels=getattr(arguments, "labels", None),
            x_key=arguments.x_key,
            y_key=getattr(arguments, "y_key", None),
            target=arguments.target,
            header=arguments.header,
            width=None if model is None else model.n_features_in_,
            regress=regress or isinstance(model, AnalyticRegressor),
            text=_knows_text(model),
            wanted=wanted,
        )
    except OSError as error:
        raise _Failure(BAD_INPUT, f"{error.filename or arguments.data}: {error.strerror or error}") from error


def _knows_text(model):
    """Are the labels of rows that this model (or None) was made of text?"""
    if getattr(model, "_estimator_type", None) != "classifier":
        return False
    classes = model.classes_
    if isinstance(model, AnalyticClassifier) and model._learnt.form.multi:
        return False
    return _labels.kind_of(classes) == "text" if len(classes) else classes.dtype.kind == "U"


def _plain(label):
    """A label as JSON knows it."""
    value = label.item() if isinstance(label, np.generic) else label
    return _text(value)


def _say_what_is_in(model, path):
    text = f"{path}: {model.n_samples_seen_:,} rows"
    if isinstance(model, AnalyticClassifier):
        text += f", {len(model.classes_):,} classes"
    with contextlib.suppress(OSError):
        text += f", {os.path.getsize(path):,} bytes"
    print(text, file=sys.stderr)


_SHOWN_ROWS = 200


def _show(report, as_json):
    """Prints a report: its plain values as lines, its lists as tables."""
    if as_json:
        print(json.dumps(report, indent=2, ensure_ascii=False))
        return
    tables = [value for value in report.values() if isinstance(value, list) and value]
    plain = {name: value for name, value in report.items() if not isinstance(value, list)}
    width = max(len(name) for name in plain)
    for name, value in plain.items():
        print(f"{name.replace('_', ' '):<{width}}  {_cell(value)}")
    for rows in tables:
        print()
        cells = [list(rows[0])] + [[_cell(value) for value in row.values()] for row in rows[:_SHOWN_ROWS]]
        widths = [max(len(row[k]) for row in cells) for k in range(len(cells[0]))]
        for row in cells:
            print("  ".join(f"{cell:>{width}}" for cell, width in zip(row, widths, strict=True)))
        if len(rows) > _SHOWN_ROWS:
            print(f"... and {len(rows) - _SHOWN_ROWS} more (--json has all)")


def _cell(value):
    if value is None:
        return "-"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:.6g}"
    return str(value)
