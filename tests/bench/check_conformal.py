"""Coverage and width of 90 % prediction intervals on real regression sets, over random splits.

For each set, without a map and with random cosine features: jackknife+, CV+, full conformal, and, as the control, the
90 % quantile of the training residuals. Features and targets are standardised by the training rows of each split;
widths are in deviations of the target. Also compares jackknife+ with as many fits as rows on 300 of them.
Fails where jackknife+ misses 90 % by more than 1.5 points, or 300 fits by more than 1e-9, or where the control, which
must miss somewhere, covers as well.

    GRAMIAN_DATA=... python tests/bench/check_conformal.py [--splits 50] [--rows 400] [--features 300]
"""

import argparse
import pathlib
import sys

import common

common.clean_environment()

import numpy as np  # noqa: E402

import gramian as gm  # noqa: E402

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))

from reference import conformal  # noqa: E402

SETS = ("reg_concrete", "reg_energy", "reg_bike")
ALPHA = 0.1
MARGIN = 0.015  # of the coverage
TEST_ROWS = 300


def residual_intervals(feature_map, X, y, queries):
    """The control: no row is left out of anything."""
    model = gm.AnalyticRegressor(feature_map).fit(X, y)
    margin = np.quantile(np.abs(y - model.predict(X)), 1 - ALPHA)
    return model.predict(queries)[:, np.newaxis] + [-margin, margin]


METHODS = {
    "jackknife+": lambda m, X, y, q: gm.JackknifePlus(m, alpha=ALPHA).fit(X, y).predict_interval(q),
    "CV+ (10 folds)": lambda m, X, y, q: gm.JackknifePlus(m, alpha=ALPHA, method="cv+").fit(X, y).predict_interval(q),
    "full conformal": lambda m, X, y, q: gm.ConformalRidge(m, alpha=ALPHA).fit(X, y).predict_interval(q),
    "training residuals": residual_intervals,
}


def standardised(X, y, train, test):
    centre, scale = X[train].mean(axis=0), X[train].std(axis=0)
    X = (X - centre) / np.where(scale > 0, scale, 1)
    y = (y - y[train].mean()) / y[train].std()
    return X[train], y[train], X[test], y[test]


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--splits", type=int, default=50)
    parser.add_argument("--rows", type=int, default=400)
    parser.add_argument("--features", type=int, default=300)
    args = parser.parse_args()
    paths = {name: common.data_file(f"{name}.npz") for name in SETS}
    failures, control_misses = [], False
    maps = {"none": None, f"{args.features} cos": gm.RandomFeatures(args.features, activation="cos", scale=0.3)}
    print("| data | map | method | coverage | width |\n|---|---|---|---|---|")
    for name in SETS:
        data = np.load(paths[name])
        X, y = data["x"].astype(np.float64), data["y"].astype(np.float64)
        for map_name, feature_map in maps.items():
            hits, widths = ({method: [] for method in METHODS} for _ in range(2))
            rng = np.random.default_rng(0)
            for _ in range(args.splits):
                rows = rng.permutation(len(X))
                train, test = rows[: args.rows], rows[args.rows : args.rows + TEST_ROWS]
                X_train, y_train, X_test, y_test = standardised(X, y, train, test)
                for method, make in METHODS.items():
                    low, high = make(feature_map, X_train, y_train, X_test).T
                    hits[method].append(((low <= y_test) & (y_test <= high)).mean())
                    widths[method].append((high - low).mean())
            for method in METHODS:
                print(
                    f"| {name[4:]} | {map_name} | {method} | {100 * np.mean(hits[method]):.1f} % "
                    f"| {np.mean(widths[method]):.2f} |",
                    flush=True,
                )
            if not abs(np.mean(hits["jackknife+"]) - (1 - ALPHA)) <= MARGIN:
                failures.append(f"coverage of jackknife+, {name[4:]}, {map_name}")
            control_misses |= abs(np.mean(hits["training residuals"]) - (1 - ALPHA)) > MARGIN
        rows = np.random.default_rng(1).permutation(len(X))
        X_train, y_train, X_test, _ = standardised(X, y, rows[:300], rows[300:330])
        found = METHODS["jackknife+"](None, X_train, y_train, X_test)
        expected = conformal.jackknife_plus(X_train, y_train, 1.0, X_test, ALPHA)
        error = np.abs(found - expected).max()
        print(f"{name[4:]}: largest difference to 300 fits {error:.1e}", file=sys.stderr)
        if not error <= 1e-9:
            failures.append(f"jackknife+ is not that of 300 fits, {name[4:]}")
    if not control_misses:
        failures.append("the training residuals cover as well, so the coverage shows nothing")
    common.verdict(failures)


if __name__ == "__main__":
    main()
