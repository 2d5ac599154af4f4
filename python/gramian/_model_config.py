"""Estimators in model files: what Python knows beside the model itself, as JSON under "extra" of the configuration."""

import json

import numpy as np

from . import _core, _labels, _validate
from ._feature_map import seed_from_json, seed_to_json
from .features import from_handle, unfitted, with_params

# Values of class_weight under which all classes have the same total weight, as the compiled module calls them.
BALANCES = {"balanced": "rows", "air": "classes"}


def _label_to_json(label):
    alone = np.empty(1, dtype=object)
    alone[0] = label
    labels = _labels.encode(alone)
    (value,) = labels.listed()
    return [labels.kind, value.hex() if labels.kind == "bytes" else bool(value) if labels.kind == "boolean" else value]


_JSON_TYPES = {"boolean": bool, "integer": int, "real": float, "text": str, "bytes": str}


def _label_from_json(pair):
    kind, value = pair
    if type(value) is not _JSON_TYPES[kind]:
        raise ValueError(f"{value!r} is no label of kind {kind}")
    return bytes.fromhex(value) if kind == "bytes" else value


def _declared_from_json(pairs, known, n_columns=None):
    """A sorted array of labels of one kind, which goes with the kind that is known already ("none": any), or None.

    n_columns: of an indicator, whose columns the labels stand for in this order.
    """
    if pairs is None:
        return None
    if not isinstance(pairs, list) or not pairs or len({kind for kind, _ in pairs}) != 1:
        raise ValueError(f"declared labels that are not labels of one kind: {pairs!r}")
    labels = np.array([_label_from_json(pair) for pair in pairs])
    if n_columns is not None:
        return _labels.column_labels(labels, n_columns)
    labels = _labels.encode(labels)
    if known not in ("none", labels.kind) and not {known, labels.kind} <= {"integer", "real"}:
        raise ValueError(f"declared labels of kind {labels.kind} for classes of kind {known}")
    return labels.values


def names_from_json(listed, width):
    """Column names as a file lists them, one for each of the columns, or None."""
    if listed is None:
        return None
    if not isinstance(listed, list) or len(listed) != width or any(type(name) is not str for name in listed):
        raise ValueError(f"column names that are not {width} texts")
    return np.array(listed, dtype=object)


def _class_weight_to_json(class_weight):
    if not isinstance(class_weight, dict):
        return class_weight
    return [[_label_to_json(label), float(weight)] for label, weight in class_weight.items()]


def _class_weight_from_json(value):
    if value is None or (isinstance(value, str) and value in BALANCES):
        return value
    return _numbers_of_labels(value, "class_weight")


def _numbers_of_labels(pairs, name):
    if not isinstance(pairs, list):
        raise ValueError(f"{name} is {pairs!r}")
    return {_label_from_json(label): _validate.check_number(number, name) for label, number in pairs}


def params_of(estimator):
    """The parameters that make a model what it is, for JSON. Checked ones are expected."""
    if hasattr(estimator, "_params_to_json"):  # parameters of its own
        return estimator._params_to_json()
    dtype = estimator.dtype
    params = {
        "feature_map": None if estimator.feature_map is None else estimator.feature_map._as_json(),
        "ridge": estimator.ridge if isinstance(estimator.ridge, str) else float(estimator.ridge),
        "ridges": None if estimator.ridges is None else [float(ridge) for ridge in estimator.ridges],
        "standardize": bool(estimator.standardize),
        "fit_intercept": bool(estimator.fit_intercept),
        "low_latency": bool(estimator.low_latency),
        "forgetting": float(estimator.forgetting),
        "dtype": None if dtype is None else np.dtype(dtype).name,
        "random_state": seed_to_json(estimator),
        "verbose": int(estimator.verbose),
        "holdout_fraction": float(estimator.holdout_fraction),
        "holdout_rule": estimator.holdout_rule,
    }
    if estimator.width is not None:
        params["width"] = estimator.width if isinstance(estimator.width, str) else int(estimator.width)
    if hasattr(estimator, "class_weight"):
        params["class_weight"] = _class_weight_to_json(estimator.class_weight)
    known = estimator.get_params(deep=False)
    params = {name: value for name, value in params.items() if name in known}
    if hasattr(estimator, "_more_params"):
        params.update(estimator._more_params())
    return params


def description_of(kind, learnt):
    """JSON text of an estimator: the parameters it was fitted with and what it learnt outside of the compiled model."""
    about = {"feature_names_in": None if learnt.names is None else list(learnt.names), **learnt.form.to_json()}
    return json.dumps({"estimator": kind, "params": learnt.params, "learnt": about}, allow_nan=False)


class LabelForm:
    """Targets of a classifier."""

    def __init__(self, multi, dtype, declared, class_weight, class_counts=None):
        self.multi = multi  # several labels per row?
        self.dtype = dtype  # of the first y
        self.declared = declared  # sorted array of the labels that may come, or those of the columns; or None
        self.class_weight = class_weight  # as it was when the model was begun
        self.class_counts = {} if class_counts is None else class_counts  # declared ones of balanced classes

    def to_json(self):
        """Parts of a description."""
        declared = None if self.declared is None else [_label_to_json(label) for label in self.declared.tolist()]
        out = {"multi_label": self.multi, "label_dtype": self.dtype.str, "declared": declared}
        if self.class_counts:
            out["class_counts"] = _class_weight_to_json(self.class_counts)
        return out

    @classmethod
    def from_json(cls, learnt, model, class_weight, kind=None):
        """The opposite of to_json; what is missing comes from the model. kind: of its labels, where it has none."""
        multi = bool(learnt.get("multi_label", False))
        columns = model.n_outputs if multi and kind is None else None
        if kind is None:
            kind = "none" if multi else model.classes()[0]
        dtype = label_dtype(learnt.get("label_dtype"), kind)
        declared = _declared_from_json(learnt.get("declared"), kind, columns)
        counts = learnt.get("class_counts")
        counts = {} if counts is None else _numbers_of_labels(counts, "class_counts")
        return cls(multi, dtype, declared, class_weight, counts)


class ValueForm:
    """Targets of a regressor."""

    def __init__(self, flat):
        self.flat = flat  # of one dimension?

    def to_json(self):
        """Parts of a description."""
        return {"flat": self.flat}

    @classmethod
    def from_json(cls, learnt, model):
        """The opposite of to_json; what is missing comes from the model."""
        return cls(bool(learnt.get("flat", model.n_outputs == 1)))


def _params_of_model(model, fitted_map):
    """Parameters of a model that no estimator wrote."""
    config = model.config
    balanced = [name for name, balance in BALANCES.items() if config["balance"] == balance]
    held_out = config["holdout"] != "none"
    return {
        "feature_map": None if fitted_map is None else unfitted(fitted_map),
        "ridge": "holdout" if held_out else config["ridge"] if config["rule"] == "fixed" else config["rule"],
        "ridges": config["ridges"] or None if held_out or config["rule"] != "fixed" else None,
        "holdout_fraction": config["holdout_fraction"],
        "holdout_rule": config["holdout"] if held_out else "moments",
        "width": {-1: "loo", 0: None}.get(config["width"], config["width"]),
        "standardize": config["standardize"],
        "fit_intercept": config["intercept"],
        "low_latency": config["low_latency"],
        "forgetting": config["forgetting"],
        "dtype": None if config["products"] == "float64" else config["products"],
        **({"class_weight": balanced[0]} if balanced else {}),
    }


def _params_of_file(params, fitted_map):
    params = dict(params)
    params["feature_map"] = with_params(params["feature_map"], fitted_map)
    params["random_state"] = seed_from_json(params["random_state"])
    if "class_weight" in params:
        params["class_weight"] = _class_weight_from_json(params["class_weight"])
    return params


_DTYPE_OF_KIND = {"none": "int64", "boolean": "bool", "integer": "int64", "real": "float64", "text": "U", "bytes": "S"}


def label_dtype(text, kind):
    """The dtype of labels that a file names, or the plain one of their kind."""
    dtype = np.dtype(_DTYPE_OF_KIND[kind] if text is None else text)
    if dtype.kind not in "biufUSO":
        raise ValueError(f"labels of dtype {dtype}")
    return dtype


def parts_from_json(classes, model, config):
    """Of a model file: the estimator, not fitted, and its fitted map, column names, form and parameters.

    ``classes`` has the estimators there are, by name.
    """
    fitted_map = from_handle(model.feature_map)
    by_model = "AnalyticClassifier" if isinstance(model, _core.Classifier) else "AnalyticRegressor"
    # Whatever stands there may have been written by another program, so nothing about its form is taken on trust.
    try:
        extra = json.loads(config).get("extra")
        if isinstance(extra, dict) and extra.get("estimator") in classes:
            name, learnt = extra["estimator"], extra["learnt"]
            params = _params_of_file(extra["params"], fitted_map)
            if hasattr(classes[name], "_params_from_json"):
                params = classes[name]._params_from_json(params)
            estimator = classes[name](**params)
        else:
            name, learnt = by_model, {}
            estimator = classes[name](**_params_of_model(model, fitted_map))
        of_labels = hasattr(estimator, "predict_proba") and not hasattr(estimator, "_form_from_json")
        multi_label = of_labels and bool(learnt.get("multi_label", False))
        if (of_labels and not multi_label) != (by_model == "AnalyticClassifier"):
            raise ValueError(f"{name} cannot hold this kind of model")
        names = names_from_json(learnt.get("feature_names_in"), model.n_inputs)
        if of_labels:
            form = LabelForm.from_json(learnt, model, getattr(estimator, "class_weight", None))
        elif hasattr(estimator, "_form_from_json"):
            form = estimator._form_from_json(learnt, model)
        else:
            form = ValueForm.from_json(learnt, model)
        return estimator, fitted_map, names, form, params_of(estimator)
    except (KeyError, TypeError, ValueError, AttributeError, IndexError, OverflowError) as error:
        raise _core.FormatError(f"the description of the estimator in the file is damaged: {error}") from error
