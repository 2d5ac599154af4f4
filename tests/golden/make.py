"""Writes the golden files of the present version: python tests/golden/make.py VERSION."""

import json
import sys
from pathlib import Path

import numpy as np

import gramian as gm

HERE = Path(__file__).parent


def rows(n, p):
    """Rows that any language can make: small fractions from an integer formula."""
    k = np.arange(n * p, dtype=np.int64)
    return ((k * 7919 + k // p * 104729) % 1009 / 1009.0 - 0.5).reshape(n, p)


def main(version):
    X, test = rows(60, 5), rows(75, 5)[60:]
    y = np.array(["ash", "birch", "cedar"])[(X[:, 0] > 0).astype(int) + (X[:, 1] > 0.1)]
    classifier = gm.AnalyticClassifier(gm.RandomFeatures(12, random_state=3), ridge=0.5).fit(X, y)
    regressor = gm.AnalyticRegressor(ridge=0.1).fit(X, X[:, :2] @ [[1.0, 2.0], [0.5, -1.0]] + 3)
    expected = {
        "classes": classifier.classes_.tolist(),
        "scores": classifier.decision_function(test).tolist(),
        "values": regressor.predict(test).tolist(),
    }
    classifier.save(HERE / f"classifier-{version}.gramian")
    classifier.save(HERE / f"classifier-weights-{version}.gramian", what="weights")
    regressor.save(HERE / f"regressor-{version}.gramian")
    (HERE / f"expected-{version}.json").write_text(json.dumps(expected, indent=1) + "\n")


if __name__ == "__main__":
    main(sys.argv[1])
