"""How far results may be apart, and what is compared."""

import os
import pickle
import tempfile

import numpy as np

EPS = np.finfo(np.float64).eps
EPS32 = float(np.finfo(np.float32).eps)


def relative_error(found, expected):
    """Frobenius norm of the difference over that of what was expected."""
    found, expected = np.asarray(found), np.asarray(expected)
    assert found.shape == expected.shape, (found.shape, expected.shape)
    return float(np.linalg.norm((found - expected).astype(np.float64))) / max(
        float(np.linalg.norm(expected.astype(np.float64))), 1e-300
    )


def stacked(coef, intercept):
    """Weights and intercepts as one matrix, a row per output."""
    return np.hstack([np.asarray(coef), np.asarray(intercept)[:, np.newaxis]])


def weight_bound(X, ridge, terms, eps=EPS, fit_intercept=True, weight=None, factor=4):
    """Relative error of weights from sums of ``terms`` terms: factor * terms * eps * trace(G) / lambda_min.

    First order: dW = A^-1 (dQ - dG W), |dG| <= terms * eps * trace(G).
    """
    X = np.asarray(X, dtype=np.float64)
    w = np.ones(len(X)) if weight is None else np.asarray(weight, dtype=np.float64)
    centre = np.average(X, axis=0, weights=w) if fit_intercept else 0.0
    Xc = (X - centre) * np.sqrt(w)[:, np.newaxis]
    G = Xc.T @ Xc
    return factor * terms * eps * np.trace(G) / (max(np.linalg.eigvalsh(G)[0], 0.0) + ridge)


def file_bytes(model, what="full"):
    """The bytes of the file that ``save`` writes: everything that a model is."""
    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, "model")
        if what == "full":
            model.save(path)
        else:
            model.save(path, what=what)
        with open(path, "rb") as file:
            return file.read()


def reloaded(model, how, load):
    """The model after a round trip: through a file (read by ``load``), a pickle or its bytes."""
    if how == "pickle":
        return pickle.loads(pickle.dumps(model))
    if how == "bytes":
        return type(model).from_bytes(model.to_bytes())
    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, "model")
        model.save(path)
        return load(path)
