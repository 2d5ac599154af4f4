"""Class probabilities: calibration beside scikit-learn's sigmoid-calibrated RidgeClassifier.

Both see the same random features, the same training rows and the same held-out rows for calibration. Printed are
accuracy, expected calibration error of the predicted class (15 bins of equal width) and log loss on test rows. Digits:
mean over ten random splits. With GRAMIAN_DATA also the sentence-embedding intents, in the splits of the data set.

usage: bench_calibration.py [--json FILE]
"""

import argparse
import json
import os

import numpy as np
from sklearn.calibration import CalibratedClassifierCV
from sklearn.datasets import load_digits
from sklearn.linear_model import RidgeClassifier

import gramian

RIDGE = 1.0
BINS = 15


def calibration_error(proba, y, classes):
    """Mean over bins of |accuracy - confidence|, weighted by rows."""
    confidence, right = proba.max(axis=1), classes[proba.argmax(axis=1)] == y
    place = np.minimum((confidence * BINS).astype(int), BINS - 1)
    gaps = [abs(right[place == k].sum() - confidence[place == k].sum()) for k in range(BINS)]
    return sum(gaps) / len(y)


def figures(model, x, y):
    proba = model.predict_proba(x)
    chance = proba[np.arange(len(y)), np.searchsorted(model.classes_, y)]
    return {
        "accuracy": float((model.classes_[proba.argmax(axis=1)] == y).mean()),
        "ece": float(calibration_error(proba, y, model.classes_)),
        "log_loss": float(-np.log(np.maximum(chance, 1e-15)).mean()),
    }


def sigmoid_calibrated(model, x, y):
    """scikit-learn's calibration of a fitted model on held-out rows."""
    try:
        from sklearn.frozen import FrozenEstimator
    except ImportError:  # before 1.6
        return CalibratedClassifierCV(model, method="sigmoid", cv="prefit").fit(x, y)
    return CalibratedClassifierCV(FrozenEstimator(model), method="sigmoid").fit(x, y)


def compare(train, held_out, test, n_features):
    """Figures of the three ways for one split."""
    feature_map = gramian.RandomFeatures(n_features).fit(train[0])
    ours = gramian.AnalyticClassifier(feature_map, ridge=RIDGE).fit(*train)
    out = {"gramian, default temperature": figures(ours, *test)}
    out["gramian, calibrate(held-out)"] = figures(ours.calibrate(*held_out), *test)
    mapped = [(feature_map.transform(x), y) for x, y in (train, held_out, test)]
    ridge = RidgeClassifier(alpha=RIDGE).fit(*mapped[0])
    out["RidgeClassifier, sigmoid on held-out"] = figures(sigmoid_calibrated(ridge, *mapped[1]), *mapped[2])
    return out


def digits():
    x, y = load_digits(return_X_y=True)
    x = x / 16.0
    runs = []
    for seed in range(10):
        order = np.random.default_rng(seed).permutation(len(y))
        parts = [(x[places], y[places]) for places in np.split(order, [1077, 1437])]
        runs.append(compare(*parts, n_features=1000))
    return {way: {name: float(np.mean([run[way][name] for run in runs])) for name in runs[0][way]} for way in runs[0]}


def intents(folder):
    with np.load(os.path.join(folder, "text_clinc150_minilm.npz"), allow_pickle=False) as file:
        x, y, split = file["x"].astype(np.float64), file["y"].astype(np.int64), file["split"]
    return compare(*[(x[chosen], y[chosen]) for chosen in ((split == k) & (y >= 0) for k in range(3))], n_features=2000)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", metavar="FILE", help="also write the figures there")
    arguments = parser.parse_args()
    tables = {"digits": digits()}
    folder = os.environ.get("GRAMIAN_DATA")
    if folder and os.path.exists(os.path.join(folder, "text_clinc150_minilm.npz")):
        tables["intents"] = intents(folder)
    for name, table in tables.items():
        print(f"{name:38}  accuracy     ECE  log loss")
        for way, row in table.items():
            print(f"  {way:36}  {row['accuracy']:8.4f}  {row['ece']:6.4f}  {row['log_loss']:8.4f}")
    if arguments.json:
        with open(arguments.json, "w") as file:
            json.dump(tables, file, indent=2)


if __name__ == "__main__":
    main()
