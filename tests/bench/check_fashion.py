"""Fashion-MNIST with 8192 ReLU features: five blurry phases with float32 products against plain NumPy in float64.

Prints the accuracy, the rows whose prediction differs from the joint solve although their margin exceeds the error
bound (there should be none), and how many predictions the ablation without the label gain of exposed classes changes.

    GRAMIAN_DATA=... python tests/bench/check_fashion.py [--features 8192]
"""

import argparse

import common

common.clean_environment()

import numpy as np  # noqa: E402

import gramian as gm  # noqa: E402

RIDGE = 1.0
BLOCK = 4096


def phases_of(y, rng):
    """Two main classes a phase; three rows in ten come in any phase."""
    phase = y // 2
    moved = rng.random(len(y)) < 0.3
    phase[moved] = rng.integers(0, 5, moved.sum())
    return [np.flatnonzero(phase == k) for k in range(5)]


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--features", type=int, default=8192)
    args = parser.parse_args()
    folder = common.data_folder("no Fashion-MNIST to check")
    data = np.load(folder / "fashion_mnist.npz")
    X, y = data["x_train"].reshape(-1, 784).astype(np.float32) / 255, data["y_train"].astype(np.int64)
    X_test, y_test = data["x_test"].reshape(-1, 784).astype(np.float32) / 255, data["y_test"].astype(np.int64)
    d = args.features
    common.describe_machine()

    model = gm.AnalyticClassifier(gm.RandomFeatures(d), ridge=RIDGE, dtype="float32", fit_intercept=False)
    # The identity through the linear map gives its matrix: the one thing taken from the library.
    B = gm.RandomFeatures(d, activation="identity").fit(X[:1]).transform(np.eye(784))
    G, Q, W = np.zeros((d, d)), np.zeros((d, 10)), np.zeros((d, 10))
    seen = np.zeros(10, dtype=bool)
    sizes = []
    for rows in phases_of(y.copy(), np.random.default_rng(0)):
        model.partial_fit(X[rows], y[rows])
        sizes.append(model.nbytes)
        G_phase, Q_phase = np.zeros((d, d)), np.zeros((d, 10))
        for begin in range(0, len(rows), BLOCK):
            part = rows[begin : begin + BLOCK]
            Z = np.maximum(X[part].astype(np.float64) @ B, 0)
            G_phase += Z.T @ Z
            Q_phase += Z.T @ np.eye(10)[y[part]]
        G += G_phase
        Q += Q_phase
        # No gain: classes seen before only lose what the new rows explain, new classes get their own solution.
        update = np.linalg.solve(G + RIDGE * np.eye(d), np.hstack([G_phase @ W, Q_phase]))
        W = np.where(seen, W - update[:, :10], update[:, 10:])
        seen |= np.bincount(y[rows], minlength=10) > 0
    joint = np.linalg.solve(G + RIDGE * np.eye(d), Q)

    Z = np.maximum(X_test.astype(np.float64) @ B, 0)
    scores = Z @ joint
    ours = model.coef_.T
    top = np.sort(scores, axis=1)
    margin = top[:, -1] - top[:, -2]
    # Two scores, each off by at most |z| |dw|, and the rounding of a float32 product of d terms.
    size = np.linalg.norm(Z, axis=1)
    rounding = np.sqrt(d) * np.finfo(np.float32).eps * np.linalg.norm(ours, axis=0).max()
    bound = 2 * size * (np.linalg.norm(ours - joint, axis=0).max() + rounding)
    predicted, expected = model.predict(X_test), scores.argmax(1)
    clear = margin > bound
    print(f"accuracy {np.mean(predicted == y_test):.4f}, joint {np.mean(expected == y_test):.4f}")
    print(f"relative weight error {np.linalg.norm(ours - joint) / np.linalg.norm(joint):.1e}")
    print(
        f"margin bound: median {np.median(bound):.1e}, largest {bound.max():.1e}; {clear.sum()} of {len(clear)} rows "
        f"clear it, {np.sum(predicted[clear] != expected[clear])} of them predicted otherwise; below it "
        f"{np.sum(predicted[~clear] != expected[~clear])} of {np.sum(~clear)} differ"
    )
    print(f"without the gain: {np.mean((Z @ W).argmax(1) != expected) * 100:.1f} % of the predictions differ")
    print(f"model bytes after each phase: {sizes}")


if __name__ == "__main__":
    main()
