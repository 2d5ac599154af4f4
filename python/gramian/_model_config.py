"""Estimators in model files: what Python knows beside the model itself, as JSON under "extra" of the configuration."""

import json

import numpy as np

from . import _core, _labels
from .features import from_handle, seed_from_json, seed_to_json, with_params


def _label_to_json(label):
    kind = _labels.kind_of(np.array([label], dtype=object))
    return [kind, label.hex() if kind == "bytes" else label.item() if isinstance(label, np.generic) else label]


def _label_from_json(pair):
    kind, value = pair
    return bytes.fromhex(value) if kind == "bytes" else value


def _class_weight_to_json(class_weight):
    if not isinstance(class_weight, dict):
        return class_weight
    return [[_label_to_json(label), float(weight)] for label, weight in class_weight.items()]


def _class_weight_from_json(value):
    return {_label_from_json(label): weight for label, weight in value} if isinstance(value, list) else value


def params_to_json(estimator):
    """JSON text of an estimator's parameters and of what it learnt outside of the compiled model."""
    dtype = estimator.dtype
    params = {
        "feature_map": None if estimator.feature_map is None else estimator.feature_map._as_json(),
        "ridge": estimator.ridge if isinstance(estimator.ridge, str) else float(estimator.ridge),
        "ridges": None if estimator.ridges is None else [float(ridge) for ridge in estimator.ridges],
        "standardize": bool(estimator.standardize),
        "fit_intercept": bool(estimator.fit_intercept),
        "dtype": None if dtype is None else np.dtype(dtype).name,
        "random_state": seed_to_json(estimator),
        "verbose": int(estimator.verbose),
    }
    names = getattr(estimator, "feature_names_in_", None)
    learnt = {"feature_names_in": None if names is None else list(names)}
    if hasattr(estimator, "class_weight"):
        params["class_weight"] = _class_weight_to_json(estimator.class_weight)
        declared = estimator._declared
        learnt["multi_label"] = estimator._multi
        learnt["label_dtype"] = estimator._label_dtype.str
        learnt["declared"] = None if declared is None else [_label_to_json(label) for label in declared.tolist()]
    else:
        learnt["flat"] = estimator._flat
    kind = "AnalyticClassifier" if hasattr(estimator, "class_weight") else "AnalyticRegressor"
    return json.dumps({"estimator": kind, "params": params, "learnt": learnt}, allow_nan=False)


def _params_of_model(model, fitted_map):
    """Parameters of a model that no estimator wrote."""
    config = model.config
    return {
        "feature_map": fitted_map,
        "ridge": "gcv" if config["gcv"] else config["ridge"],
        "ridges": config["ridges"] or None if config["gcv"] else None,
        "standardize": config["standardize"],
        "fit_intercept": config["intercept"],
        "dtype": None if config["products"] == "float64" else config["products"],
    }


def _params_of_file(params, fitted_map):
    params = dict(params)
    params["feature_map"] = with_params(params["feature_map"], fitted_map)
    params["random_state"] = seed_from_json(params["random_state"])
    if "class_weight" in params:
        params["class_weight"] = _class_weight_from_json(params["class_weight"])
    return params


_DTYPE_OF_KIND = {"none": "int64", "boolean": "bool", "integer": "int64", "real": "float64", "text": "U", "bytes": "S"}


def _label_dtype(text, kind):
    """The dtype of labels that a file names, or the plain one of their kind."""
    dtype = np.dtype(_DTYPE_OF_KIND[kind] if text is None else text)
    if dtype.kind not in "biufUSO":
        raise ValueError(f"labels of dtype {dtype}")
    return dtype


def _restore(estimator, model, learnt, fitted_map):
    names = learnt.get("feature_names_in")
    estimator._adopt(model, fitted_map, None if names is None else np.array(names, dtype=object))
    if hasattr(estimator, "class_weight"):
        estimator._multi = bool(learnt.get("multi_label", False))
        kind = "none" if estimator._multi else model.classes()[0]
        estimator._label_dtype = _label_dtype(learnt.get("label_dtype"), kind)
        declared = learnt.get("declared")
        if declared is not None:
            declared = np.unique(np.array([_label_from_json(label) for label in declared]))
        estimator._declared = declared
    else:
        estimator._flat = bool(learnt.get("flat", model.n_outputs == 1))


def params_from_json(classes, model, config):
    """The estimator of a model file; ``classes`` has those there are, by name."""
    fitted_map = from_handle(model.feature_map)
    by_model = "AnalyticClassifier" if isinstance(model, _core.Classifier) else "AnalyticRegressor"
    # Whatever stands there may have been written by another program, so nothing about its form is taken on trust.
    try:
        extra = json.loads(config).get("extra")
        if isinstance(extra, dict) and extra.get("estimator") in classes:
            name, learnt = extra["estimator"], extra["learnt"]
            estimator = classes[name](**_params_of_file(extra["params"], fitted_map))
        else:
            name, learnt = by_model, {}
            estimator = classes[name](**_params_of_model(model, fitted_map))
        multi_label = name == "AnalyticClassifier" and bool(learnt.get("multi_label", False))
        if (name == "AnalyticClassifier" and not multi_label) != (by_model == "AnalyticClassifier"):
            raise ValueError(f"{name} cannot hold this kind of model")
        _restore(estimator, model, learnt, fitted_map)
    except (KeyError, TypeError, ValueError, AttributeError, IndexError) as error:
        raise _core.FormatError(f"the description of the estimator in the file is damaged: {error}") from error
    return estimator
