"""Out-of-scope queries of CLINC150: how well scores tell them from the 150 intents.

usage: GRAMIAN_DATA=folder python tests/bench/check_ood.py

Sentence embeddings (384 numbers of unit length) of 15,000 training queries; scores of 4,500 test queries that have an
intent and 1,000 that have none. AUROC is the share of pairs in which the query with an intent has the higher score.
Queries without an intent are used for the last line alone, where the validation queries weigh three scores together.
Fails where the Mahalanobis score separates them less well than docs/statistics-heads.md says or than a probability
does, where three layers are worse than one, or where shuffled scores separate them too.
"""

import pathlib
import sys

import numpy as np

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent))

import common  # noqa: E402

import gramian as gm  # noqa: E402
from reference.heads import auroc  # noqa: E402

LAYERS = ((400, 1), (1500, 2))  # widths and seeds of random features that stand for further layers


def load():
    """(rows, labels, split), label -1 for queries without an intent."""
    with np.load(common.data_file("text_clinc150_minilm.npz")) as data:
        return data["x"].astype(np.float64), data["y"].astype(int), data["split"]


def nearest_centroid(model, X):
    """Largest cosine to the mean of a class; the rows have unit length."""
    means = model.means_ / np.linalg.norm(model.means_, axis=1, keepdims=True)
    return (X @ means.T).max(axis=1)


def main():
    x, y, split = load()
    train, known = (split == 0) & (y >= 0), (split == 2) & (y >= 0)
    unknown = (split == 2) & (y < 0)
    gaussian = gm.GaussianClassifier().fit(x[train], y[train])
    shrunk = gm.GaussianClassifier(shrinkage="auto").fit(x[train], y[train])
    ridge = gm.AnalyticClassifier(ridge="gcv").fit(x[train], y[train])
    scores = {
        "Mahalanobis": gaussian.ood_score,
        f"Mahalanobis, shrinkage {shrunk.shrinkage_:.3f} (auto)": shrunk.ood_score,
        "largest posterior of the Gaussian model": lambda X: gaussian.predict_proba(X).max(axis=1),
        "largest probability of ridge": lambda X: ridge.predict_proba(X).max(axis=1),
        "largest score of ridge": lambda X: ridge.decision_function(X).max(axis=1),
        "cosine to the nearest centroid": lambda X: nearest_centroid(gaussian, X),
    }
    print(f"accuracy of the 150 intents: Gaussian {gaussian.score(x[known], y[known]):.4f}, "
          f"shrunk {shrunk.score(x[known], y[known]):.4f}, ridge {ridge.score(x[known], y[known]):.4f}")  # fmt: skip
    areas = {name: auroc(score(x[known]), score(x[unknown])) for name, score in scores.items()}
    for name, area in areas.items():
        print(f"AUROC {area:.4f}  {name}")
    # The input itself and two layers of random features, weighed by 3,000 + 100 validation queries.
    models = [shrunk] + [
        gm.GaussianClassifier(gm.RandomFeatures(width, random_state=seed), shrinkage="auto").fit(x[train], y[train])
        for width, seed in LAYERS
    ]

    def layers(rows):
        return np.stack([model.ood_score(x[rows]) for model in models], axis=1)

    combined = gm.combine_layers(layers((split == 1) & (y >= 0)), layers((split == 1) & (y < 0)))
    found = auroc(combined.score(layers(known)), combined.score(layers(unknown)))
    print(f"AUROC {found:.4f}  Mahalanobis of {len(models)} layers, weights from validation queries")

    mixed = np.random.default_rng(0).permutation(gaussian.ood_score(x[known | unknown]))
    by_chance = auroc(mixed[: known.sum()], mixed[known.sum() :])
    distance = areas["Mahalanobis"]
    clauses = {
        "Mahalanobis below 0.94": distance >= 0.94,
        "a probability separates better than Mahalanobis": distance
        > max(area for name, area in areas.items() if "largest p" in name),
        "three layers are worse than one": found >= distance,
        "shuffled scores separate": abs(by_chance - 0.5) <= 0.05,
        "the Gaussian model is right less often than 0.92": gaussian.score(x[known], y[known]) >= 0.92,
    }
    common.verdict([name for name, held in clauses.items() if not held])


if __name__ == "__main__":
    main()
