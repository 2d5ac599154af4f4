"""Estimators that are more than one compiled model: JSON, arrays and whole models in one file, and in a pickle."""

import importlib
import json
import os

import numpy as np

from . import _core, _labels
from ._feature_map import seed_from_json, seed_to_json
from ._model_config import label_dtype, names_from_json
from .features import from_description, with_params

# Modules of the estimators that a file may name, and of no others.
HOMES = {
    "AlignedClassifier": "heads",
    "BroadLearner": "broad",
    "ConformalClassifier": "conformal",
    "ConformalRidge": "conformal",
    "DeepKernelClassifier": "kernel_machine",
    "DeepKernelRegressor": "kernel_machine",
    "InfiniteWidthEnsemble": "width_ensemble",
    "JackknifePlus": "conformal",
    "LogisticHead": "logistic_head",
    "QuantileAggregator": "quantiles",
    "ReplayClassifier": "replay",
    "SingularKernelClassifier": "singular_kernel",
    "SketchedRidge": "_sketched_ridge",
    "SoftmaxRegression": "softmax_regression",
    "TranslatedClassifier": "heads",
}
# Engines that are no estimators, and are saved like them.
ENGINES = {"MFAC": "second_order", "MKOR": "second_order", "RunningInverse": "second_order"}
MAPS = ("FeatureChain", "FusedFeatures", "RBFFeatures", "RandomFeatures")


class Parts:
    """What an estimator learnt.

    Attributes
    ----------
    learnt : dict
        For JSON.
    arrays : dict of ndarray
        Of dtype float64, float32, int64 or uint8.
    models : dict of bytes
        Model files.
    """

    def __init__(self, learnt, arrays=None, models=None):
        self.learnt = learnt
        self.arrays = {} if arrays is None else arrays
        self.models = {} if models is None else models

    def array(self, name, dtype, shape):
        """An array of this dtype and shape (-1: any extent) without NaN and infinity, or ValueError."""
        array = self.arrays[name]
        fits = array.ndim == len(shape) and all(want in (-1, got) for want, got in zip(shape, array.shape, strict=True))
        if array.dtype != dtype or not fits:
            raise ValueError(f"{name} is {array.dtype} of shape {array.shape}, expected {np.dtype(dtype)} of {shape}")
        if array.dtype.kind == "f" and not np.isfinite(array).all():
            raise ValueError(f"{name} has NaN or infinity")
        return array


class InParts:
    """Base of what is saved in parts.

    A class names in `_held` the attributes that hold what was learnt, the first of which says whether there is any, and
    turns them into parts and back.
    """

    _held = ()

    def _parts(self):
        """What was learnt (Parts). An estimator that is not fitted raises."""
        raise NotImplementedError

    def _take_parts(self, parts, device, n_jobs):
        """The opposite of `_parts`. Nothing about the parts may be taken on trust."""
        raise NotImplementedError

    def _fitted_map(self):
        """The fitted feature map, of which the parameter may be a copy."""
        return None

    def _params_in_file(self):
        """Parameters for a file."""
        return self.get_params(deep=False)

    def save(self, path):
        """Writes the model to one file, in the safetensors container; `gramian.load` reads it.

        Parameters
        ----------
        path : path-like
            It holds the old file or the whole new one, never a part.

        Notes
        -----
        A ``random_state`` that is a generator is not kept: the loaded model has None.
        """
        parts = self._parts()
        described = {
            "estimator": type(self).__name__,
            "params": {
                name: seed_to_json(self) if name == "random_state" else _value_to_json(name, value)
                for name, value in self._params_in_file().items()
                if name not in ("device", "n_jobs")
            },
            "learnt": parts.learnt,
        }
        _core.save_composite(os.fsencode(path), _text(described), parts.arrays, parts.models)

    def _places(self):
        """Where the estimator computes: device and n_jobs."""
        return getattr(self, "device", "cpu"), getattr(self, "n_jobs", None)

    def _set_places(self, device, n_jobs):
        for name, value in (("device", device), ("n_jobs", n_jobs)):
            if name in self._parameter_names():
                setattr(self, name, value)

    def __getstate__(self):
        state = {name: value for name, value in self.__dict__.items() if name not in self._held}
        state.pop("_mutex", None)
        if self.__dict__.get(self._held[0]) is not None:
            parts = self._parts()
            state["_bytes"] = _core.composite_bytes(_text({"learnt": parts.learnt}), parts.arrays, parts.models)
        return state

    def __setstate__(self, state):
        state = dict(state)
        data = state.pop("_bytes", None)
        self.__dict__.update(state)
        if data is not None:
            config, _, arrays, models = _core.load_composite_bytes(data)
            self._take_parts(Parts(json.loads(config)["learnt"], arrays, models), *self._places())


class Composite(InParts):
    """Base of the estimators that are saved in parts: `_held` is what their fit makes."""

    def __setstate__(self, state):
        super().__setstate__(self._with_defaults(state))


def _text(value):
    return json.dumps(value, allow_nan=False)


def save_map(feature_map, path):
    """Writes a fitted feature map."""
    text, tensors = feature_map._handle().describe()
    names = names_to_json(getattr(feature_map, "feature_names_in_", None))
    described = {
        "estimator": type(feature_map).__name__,
        "params": feature_map._as_json(),
        "learnt": {"map": json.loads(text), "names": names},
    }
    _core.save_composite(os.fsencode(path), _text(described), tensors, {})


def _map_of(described, arrays):
    fitted = from_description(described["learnt"]["map"], arrays)
    out = with_params(described["params"], fitted)
    if type(out) is not type(fitted) or type(out).__name__ != described["estimator"]:
        raise ValueError(f"a map that is no {described['estimator']}")
    names = names_from_json(described["learnt"]["names"], fitted.n_features_in_)
    params = out.get_params(deep=False)
    out.__dict__.update((name, value) for name, value in fitted.__dict__.items() if name not in params)
    out._set_feature_names(names)
    return out


def load_composite(path, device, n_jobs):
    """What a file holds that `InParts.save` or `save_map` wrote."""
    config, version, arrays, models = _core.load_composite(os.fsencode(path))
    described = json.loads(config)
    name = described.get("estimator")
    homes = {**HOMES, **ENGINES}
    if not isinstance(name, str) or name not in (*homes, *MAPS):
        raise _core.FormatError(f"{os.fspath(path)}: unknown estimator {name!r}, written by gramian {version}")
    # Whatever stands there may have been written by another program, so nothing about its form is taken on trust.
    try:
        if name in MAPS:
            return _map_of(described, arrays)
        kind = getattr(importlib.import_module(f".{homes[name]}", __package__), name)
        params = dict(described["params"])
        feature_map = params.pop("feature_map", None)
        seed = {"random_state": seed_from_json(params.pop("random_state"))} if "random_state" in params else {}
        out = kind(**{key: _value_from_json(value) for key, value in params.items()}, **seed)
        out._set_places(device, n_jobs)
        out._take_parts(Parts(described["learnt"], arrays, models), device, n_jobs)
        if feature_map is not None:
            out.feature_map = with_params(feature_map["object"], out._fitted_map())
        return out
    except _core.FormatError:
        raise
    except (
        KeyError,
        TypeError,
        ValueError,
        AttributeError,
        IndexError,
        OverflowError,
        np.linalg.LinAlgError,
    ) as error:
        raise _core.FormatError(f"the description of the estimator in the file is damaged: {error}") from error


# Values of parameters. JSON has no infinity, and tells arrays from nothing else.


def _value_to_json(name, value):
    if name == "dtype" and value is not None:
        return np.dtype(value).name
    if hasattr(value, "_as_json"):
        return {"object": value._as_json()}
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, float) and np.isinf(value):
        return {"infinity": value > 0}
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    return {"values": [float(one) for one in value]}


def _value_from_json(value):
    if not isinstance(value, dict):
        return value
    if "infinity" in value:
        return np.inf if value["infinity"] else -np.inf
    if "values" in value:
        return [float(one) for one in value["values"]]
    return object_from_json(value["object"])


def object_from_json(description):
    """A parameter that is an object; feature maps are made when the fitted ones are there."""
    from .deep_kernel import DeepKernel

    if description["type"] != "DeepKernel":
        raise ValueError(f"a parameter of type {description['type']!r}")
    return DeepKernel(**description["params"])


def labels_to_json(values, dtype):
    """Distinct labels in their order."""
    kind = _labels.kind_of(values)
    listed = _labels.to_core(kind, values.tolist())
    return {"kind": kind, "values": [v.hex() for v in listed] if kind == "bytes" else listed, "dtype": dtype.str}


def labels_from_json(described):
    """The opposite of labels_to_json: the array, its kind and the dtype."""
    kind, listed = described["kind"], described["values"]
    plain = {"boolean": int, "integer": int, "real": float, "text": str, "bytes": str}[kind]
    if not isinstance(listed, list) or not listed or any(type(value) is not plain for value in listed):
        raise ValueError(f"labels that are not of kind {kind}")
    if kind == "bytes":
        listed = [bytes.fromhex(value) for value in listed]
    if len(set(listed)) != len(listed):
        raise ValueError("a label stands twice")
    dtype = label_dtype(described["dtype"], kind)
    values = _labels.from_core(kind, listed, dtype)
    return values, kind, dtype


def names_to_json(names):
    """Column names, or None."""
    return None if names is None else [str(name) for name in names]
