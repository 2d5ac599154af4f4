"""Orthogonal and sparse expansions, drawn centres, ridges by held-out rows, fused layers and truncated directions."""

import json
import pickle

import numpy as np
import pytest
from oracle import one_hot, relative_error, ridge_weights
from reference_path import checks, features, random_expansion

import gramian as gm

EPS = np.finfo(np.float64).eps


def weights_of(kind, n_inputs, n_features, **params):
    chosen = gm.RandomFeatures(n_features, kind=kind, activation="identity", scale=1.0, **params)
    return chosen.fit_transform(np.eye(n_inputs))


# --- orthogonal -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("n_inputs, n_features", [(1, 4), (5, 23), (64, 64), (100, 250), (130, 131)])
def test_orthogonal_weights_follow_the_law(n_inputs, n_features):
    found = weights_of("orthogonal", n_inputs, n_features, random_state=3)
    expected = features.weights(n_inputs, n_features, "orthogonal", 1.0, 3)
    bound = features.orthogonal_error(n_inputs, n_features, 3) * np.linalg.norm(expected, axis=0)
    assert (np.linalg.norm(found - expected, axis=0) <= bound).all()
    gaussian = weights_of("gaussian", n_inputs, n_features, random_state=3)
    np.testing.assert_allclose(found[:, 0], gaussian[:, 0], rtol=1e-12)  # the first of a block is the Gaussian row


@pytest.mark.parametrize("n_inputs", [3, 64, 100, 200])
def test_orthogonal_blocks_are_orthogonal(n_inputs):
    n_features = 2 * n_inputs + min(n_inputs - 1, 7)
    B = weights_of("orthogonal", n_inputs, n_features)
    for block in np.split(B, [n_inputs, 2 * n_inputs], axis=1):
        unit = block / np.linalg.norm(block, axis=0)
        assert np.abs(unit.T @ unit - np.eye(unit.shape[1])).max() < 1e-12
    gaussian = weights_of("gaussian", n_inputs, n_features)
    np.testing.assert_allclose(np.linalg.norm(B, axis=0), np.linalg.norm(gaussian, axis=0), rtol=1e-12)
    # Negative control: the Gaussian block is not.
    unit = gaussian[:, :n_inputs] / np.linalg.norm(gaussian[:, :n_inputs], axis=0)
    assert np.abs(unit.T @ unit - np.eye(n_inputs)).max() > 0.1


@pytest.mark.parametrize("kind", ["orthogonal", "sparse"])
def test_lengths_are_kept_on_average(rng, kind):
    x = rng.normal(size=(20, 48))
    squares = np.mean(
        [gm.RandomFeatures(96, kind, "identity", 1.0, random_state=s).fit_transform(x) ** 2 for s in range(200)],
        axis=(0, 2),
    )
    # 19200 squares of about |x|^2 chi^2_1 (sparse: heavier tails of few terms): 5 standard errors.
    np.testing.assert_allclose(squares, (x**2).sum(axis=1), rtol=5 * np.sqrt(3 / (200 * 96)) * 1.2)


def test_orthogonal_features_spread_less_than_gaussian_ones(rng):
    """A kernel estimate of orthogonal features varies less, which is what they are for."""
    x, y = rng.normal(size=(2, 1, 16)) * 0.4
    exact = np.exp(-((x - y) ** 2).sum() / 2)

    def error(kind):
        out = []
        for seed in range(300):
            chosen = gm.RandomFeatures(16, kind, "cos", 1.0, random_state=seed).fit(x)
            phases = chosen.transform(np.vstack([x, y]))
            out.append(phases[0] @ phases[1] - exact)
        return np.mean(np.square(out))

    assert error("orthogonal") < error("gaussian")


# --- sparse ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("n_inputs, n_nonzero", [(1, None), (10, 1), (10, 3), (10, 10), (100, None), (97, 13)])
def test_sparse_weights_follow_the_law_to_the_bit(n_inputs, n_nonzero):
    found = weights_of("sparse", n_inputs, 300, n_nonzero=n_nonzero, random_state=11)
    expected = features.weights(n_inputs, 300, "sparse", 1.0, 11, n_nonzero=n_nonzero)
    assert np.array_equal(found, expected)
    count = features.default_n_nonzero(n_inputs) if n_nonzero is None else n_nonzero
    assert (np.count_nonzero(found, axis=0) == count).all()
    np.testing.assert_allclose((found**2).sum(axis=0), n_inputs, rtol=n_inputs * EPS * 4)


def test_sparse_weights_reach_all_inputs_alike():
    found = weights_of("sparse", 40, 20_000, n_nonzero=7)
    np.testing.assert_allclose((found**2).mean(axis=1), 1.0, atol=5 * np.sqrt(6 / 20_000))
    assert abs(found.mean()) < 5 / np.sqrt(40 * 20_000)


def test_sparse_expansion_of_sparse_rows_strides_and_threads(rng):
    sparse = pytest.importorskip("scipy.sparse", reason="SciPy is not installed")
    X = np.where(rng.random((700, 30)) < 0.2, rng.normal(size=(700, 30)), 0.0)
    for kind in ("sparse", "orthogonal"):
        chosen = gm.RandomFeatures(90, kind, "tanh").fit(X)
        expected, bound = features.random_features(X, 90, kind, "tanh")
        for rows in (X, sparse.csr_matrix(X), np.asfortranarray(X), np.repeat(X, 2, axis=1)[:, ::2]):
            assert (np.abs(chosen.transform(rows) - expected) <= bound).all()


def test_sparse_costs_and_refusals(rng):
    X = rng.normal(size=(5, 100))
    assert gm.RandomFeatures(50, "sparse", n_nonzero=4).fit(X)._map.flops_per_row == 2 * 4 * 50
    for wrong in (0, 101, 2.5):
        with pytest.raises(ValueError, match="n_nonzero"):
            gm.RandomFeatures(50, "sparse", n_nonzero=wrong).fit(X)


@pytest.mark.parametrize(
    "chosen",
    [
        gm.RandomFeatures(40, "orthogonal"),
        gm.RandomFeatures(40, "sparse", n_nonzero=3),
        gm.FusedFeatures([2, 4, 3], mode="project", n_features=8),
        gm.FusedFeatures(3, [gm.RandomFeatures(5), None, gm.RBFFeatures(4)]),
        gm.FeatureChain([gm.FusedFeatures(3, mode="mean"), gm.RandomFeatures(20, "sparse")]),
    ],
    ids=["orthogonal", "sparse", "project", "mixed", "chain"],
)
@pytest.mark.parametrize("how", ["file", "pickle"])
def test_maps_in_files(rng, chosen, how):
    X, y = rng.normal(size=(80, 9)), rng.integers(0, 3, 80)
    model = gm.AnalyticClassifier(chosen, ridge=0.5).fit(X, y)
    again = checks.reloaded(model, how, gm.load)
    assert np.array_equal(again.decision_function(X), model.decision_function(X))
    assert repr(again.feature_map.get_params()) == repr(model.feature_map.get_params())
    again.partial_fit(X, y)
    model.partial_fit(X, y)
    assert np.array_equal(again.coef_, model.coef_)
    total = gm.AnalyticClassifier(chosen, ridge=0.5).merge(model)
    np.testing.assert_allclose(total.coef_, model.coef_, rtol=1e-9, atol=1e-12)
    assert np.array_equal(pickle.loads(pickle.dumps(model.feature_map_)).transform(X), model.feature_map_.transform(X))


# --- drawn centres --------------------------------------------------------------------------------------------------


def sorted_by_class(rng, classes=10, rows=200, d=6):
    y = np.repeat(np.arange(classes), rows)
    return rng.normal(size=(classes, d))[y] * 3 + rng.normal(size=(len(y), d)), y


def test_centres_come_from_all_classes(rng):
    X, y = sorted_by_class(rng)
    label_of = {row.tobytes(): label for row, label in zip(X, y, strict=True)}
    for seed in range(5):
        drawn = [label_of[c.tobytes()] for c in gm.RBFFeatures(200, random_state=seed).fit(X).centers_]
        assert set(drawn) == set(range(10))
        assert np.bincount(drawn).max() < 50  # 20 expected of each
    # Negative control: the first rows are of the first class.
    assert set(y[:200]) == {0}
    # The median distance does not stem from the first class either: it is that of a shuffled copy, about.
    shuffled = X[rng.permutation(len(X))]
    one, other = (gm.RBFFeatures(X[:50]).fit(rows).gamma_ for rows in (X, shuffled))
    assert one == pytest.approx(other, rel=0.15)
    chain = gm.FeatureChain([gm.RandomFeatures(6, activation="identity"), gm.RBFFeatures(100)])
    many, labels = sorted_by_class(rng, rows=2000)
    centers = chain.fit(many).maps_[1].centers_
    mapped = chain.maps_[0].transform(many)
    nearest = [labels[((mapped - c) ** 2).sum(axis=1).argmin()] for c in centers]
    assert set(nearest) == set(range(10))


def test_centres_of_a_stream_are_those_of_its_rows(rng):
    """The same centres whatever the batches, from all classes of a sorted stream; each row has the same chance."""
    sparse = pytest.importorskip("scipy.sparse", reason="SciPy is not installed")
    X, y = sorted_by_class(rng)
    expected = random_expansion.stream_centres(X, 60, 5)
    for step in (1, 7, 200, 2000):
        batches = (X[begin : begin + step] for begin in range(0, 2000, step))
        drawn = gm.RBFFeatures.from_stream(batches, centers=60, random_state=5)
        assert np.array_equal(drawn.centers, expected)
        assert drawn.gamma == gm.RBFFeatures.from_stream([X], centers=60, random_state=5).gamma
    csr = gm.RBFFeatures.from_stream([sparse.csr_matrix(X[:900]), X[900:900], X[900:]], centers=60, random_state=5)
    assert np.array_equal(csr.centers, expected)
    label_of = {row.tobytes(): label for row, label in zip(X, y, strict=True)}
    assert {label_of[center.tobytes()] for center in expected} == set(range(10))
    # gamma is that of the median distance, as one call on a shuffled copy has it.
    shuffled = gm.RBFFeatures(drawn.centers).fit(X[rng.permutation(2000)])
    assert drawn.gamma == pytest.approx(shuffled.gamma_, rel=0.15)
    # Inclusion: binomial counts of 1000 draws of 5 among 20 rows, four standard errors.
    rows = np.arange(20.0)[:, np.newaxis]
    counts = np.zeros(20)
    for seed in range(1000):
        drawn = gm.RBFFeatures.from_stream(np.split(rows, 2), centers=5, gamma=1.0, random_state=seed).centers
        counts[drawn[:, 0].astype(int)] += 1
    assert np.abs(counts - 250).max() <= 4 * np.sqrt(1000 * 0.25 * 0.75)
    # Negative control: the rows of the first call, of which partial_fit draws, are of one class.
    first = gm.presets.gkeal(60).partial_fit(X[:200], y[:200])
    assert {label_of[center.tobytes()] for center in first.feature_map_.centers_} == {0}


def test_two_passes_learn_what_one_fit_learns(rng):
    X, y = sorted_by_class(rng, classes=5, rows=100)
    batches = [slice(begin, begin + 50) for begin in range(0, 500, 50)]
    centres = gm.RBFFeatures.from_stream((X[rows] for rows in batches), centers=40, random_state=1)
    model = gm.presets.gkeal(centres, ridge=0.1)
    for rows in batches:
        model.partial_fit(X[rows], y[rows])
    fitted = model.feature_map_
    K = np.exp(-fitted.gamma_ * ((X[:, np.newaxis] - centres.centers) ** 2).sum(axis=2))
    W = np.linalg.solve(K.T @ K + 0.1 * np.eye(40), K.T @ one_hot(y, range(5)))
    assert relative_error(model.coef_.T, W) < 1e-8
    assert relative_error(gm.presets.gkeal(centres, ridge=0.1).fit(X, y).coef_, model.coef_) < 1e-8
    # Few rows, as the map itself has it, and what the record of a deletion says of centres that are rows: those that
    # are no centre may have made the gamma.
    assert gm.RBFFeatures.from_stream([X[:6], X[6:12]], centers=30).centers.shape == (12, X.shape[1])
    mixed = gm.RBFFeatures.from_stream([X[:6], X[6:12]], centers=30, too_few="mix").centers
    assert mixed.shape == (30, X.shape[1]) and (mixed <= X[:12].max(axis=0) + 1e-12).all()
    is_centre = (X[:, np.newaxis] == centres.centers).all(axis=2).any(axis=1)
    among, others = np.flatnonzero(is_centre)[:2], np.flatnonzero(~is_centre)[:2]
    for rows, status in ((others, "unknown"), (among, "depends")):
        record = gm.unlearn(model, X[rows], y[rows])
        assert next(one.status for one in record.dependencies if one.what == "feature map") == status
    for call, text in (
        (lambda: gm.RBFFeatures.from_stream([]), "no rows"),
        (lambda: gm.RBFFeatures.from_stream([X[:2, :3], X[:2]]), "a batch has 6 features, those before it have 3"),
        (lambda: gm.RBFFeatures.from_stream([X, X * np.nan]), "batch 1 contains NaN or infinity, first in row 0"),
        (lambda: gm.RBFFeatures.from_stream([X], centers=0), "centers"),
        (lambda: gm.RBFFeatures.from_stream([X[:5]], centers=9, too_few="raise"), "the stream has only 5 rows"),
        (lambda: gm.RBFFeatures.from_stream([X], too_few="first"), "too_few must be one of"),
        (lambda: gm.RBFFeatures.from_stream([X], gamma="mean").fit(X), "gamma must be"),
    ):
        with pytest.raises(ValueError, match=text):
            call()


def test_gkeal_equals_ridge_on_the_kernel(rng):
    pytest.importorskip("sklearn")
    from sklearn.linear_model import Ridge
    from sklearn.metrics.pairwise import rbf_kernel

    X, y = sorted_by_class(rng, classes=4, rows=100)
    model = gm.presets.gkeal(64, ridge=0.1)
    model.fit(X, y)
    fitted = model.feature_map_
    K = rbf_kernel(X, fitted.centers_, gamma=fitted.gamma_)
    theirs = Ridge(alpha=0.1, fit_intercept=False, solver="cholesky").fit(K, one_hot(y, range(4)))
    assert relative_error(model.coef_, theirs.coef_) < 1e-8
    np.testing.assert_allclose(model.decision_function(X), K @ theirs.coef_.T, atol=1e-8)
    # With all rows as centres: W = (K K + ridge I)^-1 K Y, which is not kernel ridge regression.
    every = gm.AnalyticClassifier(gm.RBFFeatures(X, gamma=0.02), ridge=1.0, fit_intercept=False).fit(X, y)
    K = rbf_kernel(X, gamma=0.02)
    expected = np.linalg.solve(K @ K + np.eye(len(K)), K @ one_hot(y, range(4)))
    assert relative_error(every.coef_.T, expected) < 1e-8
    dual = np.linalg.solve(K + np.eye(len(K)), one_hot(y, range(4)))
    assert relative_error(dual, expected) > 0.1


def test_fewer_rows_than_centres(rng):
    X = rng.normal(size=(12, 3))
    assert gm.RBFFeatures(30).fit(X).centers_.shape == (12, 3)
    with pytest.raises(ValueError, match="centers is 30, but X has only 12 rows"):
        gm.RBFFeatures(30, too_few="raise").fit(X)
    with pytest.raises(ValueError, match="too_few must be one of"):
        gm.RBFFeatures(30, too_few="first").fit(X)
    mixed = gm.RBFFeatures(500, too_few="mix").fit(X).centers_
    assert mixed.shape == (500, 3)
    # Mixtures lie among the rows, and their mean is that of the rows.
    assert (mixed <= X.max(axis=0) + 1e-12).all() and (mixed >= X.min(axis=0) - 1e-12).all()
    constant = gm.RBFFeatures(500, too_few="mix").fit(np.ones((12, 3)) * 7).centers_
    np.testing.assert_allclose(constant, 7.0, rtol=1e-14)  # rows of weights that sum to 1
    spread = X.std(axis=0) / np.sqrt(12 * 488)
    assert (np.abs(mixed[12:].mean(axis=0) - X.mean(axis=0)) < 5 * spread).all()
    model = gm.presets.gkeal(40)
    model.partial_fit(X, np.arange(12) % 3)
    assert model.coef_.shape == (3, 40)


# --- ridges by held-out rows ----------------------------------------------------------------------------------------


def problem(seed, n=400, d=24, classes=5, noise=2.0):
    rng = np.random.default_rng(seed)
    y = rng.integers(0, classes, n)
    X = rng.normal(size=(classes, d))[y] + noise * rng.normal(size=(n, d)) * (0.05 + rng.random(d))
    return X + 0.3, y


@pytest.mark.parametrize("fit_intercept", [True, False])
@pytest.mark.parametrize("standardize", [True, False])
def test_moments_equal_explicit_errors(fit_intercept, standardize):
    ridges = np.logspace(-4, 4, 9)
    for seed in range(10):
        X, y = problem(seed)
        Y = one_hot(y, range(5))
        first, last = slice(0, 300), slice(300, None)
        states = [gm.GramState(24, 5, fit_intercept=fit_intercept).add(X[s], Y[s]) for s in (first, last)]
        curve = states[0].holdout(states[1], ridges, standardize=standardize, full=True)
        scale = X[first].std(axis=0) if standardize else np.ones(24)
        for ridge, score in zip(ridges, curve.scores, strict=True):
            coef, intercept = ridge_weights(X[first] / scale, Y[first], ridge, fit_intercept=fit_intercept)
            explicit = np.mean((Y[last] - X[last] / scale @ coef.T - intercept) ** 2)
            assert score == pytest.approx(explicit, rel=1e-9)
        assert curve.ridge == ridges[curve.scores.argmin()] and curve.evaluated == 9
    W = np.linalg.solve(X.T @ X + np.eye(24), X.T @ Y)
    moments = random_expansion.moment_error(X.T @ X, X.T @ Y, (Y**2).sum(), len(X), W)
    assert moments == pytest.approx(np.mean((Y - X @ W) ** 2), rel=1e-9)


def test_far_away_rows_cost_no_digits():
    X, y = problem(3)
    Y = one_hot(y, range(5))
    curves = []
    for offset in (0.0, 2.0**20):
        moved = np.round(X * 1024) / 1024 + offset  # the same differences exactly
        states = [gm.GramState(24, 5).add(moved[s], Y[s]) for s in (slice(0, 300), slice(300, None))]
        curves.append(states[0].holdout(states[1], np.logspace(-2, 3, 6), full=True).scores)
    np.testing.assert_allclose(*curves, rtol=1e-9)


def test_the_published_rule_picks_the_published_ridge():
    for seed in range(20):
        rng = np.random.default_rng(seed)
        tasks = [problem(100 * seed + t, n=int(rng.integers(60, 400)), noise=3.0) for t in range(3)]
        model = gm.presets.ranpac(n_features=60, rule="ranpac", random_state=seed)
        mapped = []
        for X, y in tasks:
            model.partial_fit(X, y)
            mapped.append((model.feature_map_.transform(X), one_hot(y, range(5))))
        W, ridge = random_expansion.published_weights(mapped)
        assert model.ridge_ == ridge
        assert relative_error(model.coef_, W.T) < 1e-8
        losses = random_expansion.published_losses(*mapped[-1])
        curve = model.holdout_curve_
        known = np.isfinite(curve.scores)
        np.testing.assert_allclose(curve.scores[known], losses[known], rtol=1e-6)


def test_coarse_to_fine_equals_the_full_grid():
    ridges = np.logspace(-8, 8, 17)
    chosen, counts, valleys, same = set(), [], 0, 0
    for seed in range(40):
        X, y = problem(seed, n=150, noise=10.0 ** (seed % 5 - 1))
        Y = one_hot(y, range(5))
        states = [gm.GramState(24, 5).add(X[s], Y[s]) for s in (slice(0, 110), slice(110, None))]
        fast, full = (states[0].holdout(states[1], ridges, full=f) for f in (False, True))
        known = ~np.isnan(fast.scores)
        assert known.sum() == fast.evaluated and full.evaluated == 17
        np.testing.assert_array_equal(fast.scores[known], full.scores[known])
        # The places and the choice of the search by its definition, on the scores of the whole grid.
        places, best = random_expansion.coarse_to_fine(full.scores)
        assert np.array_equal(np.flatnonzero(known), places) and fast.best == best
        counts.append(fast.evaluated)
        valleys += random_expansion.is_valley(full.scores, flat=0.0)
        same += fast.ridge == full.ridge
        # Not worse than the best of the grid by more than what a second valley behind its back may hide.
        assert full.scores[fast.best] <= full.scores.min() * (1 + 1e-2)
        chosen.add(fast.ridge)
    # One valley is found at 5 or 6 of 17 ridges, and it is the one of the whole grid.
    assert valleys >= 30 and same >= valleys
    assert set(counts) <= {5, 6, 17} and counts.count(17) < 5
    assert len(chosen) > 3


def test_a_second_valley_brings_the_full_grid(rng):
    """Two features of very different size, one that overfits and one that helps: the curve has two valleys."""
    n = 40
    signal = rng.normal(size=n)
    X = np.column_stack([1e-3 * signal, 1e3 * (signal + 3 * rng.normal(size=n))])
    y = signal[:, np.newaxis] + 0.01 * rng.normal(size=(n, 1))
    held = np.column_stack([1e-3 * signal, -2e3 * signal])
    states = [gm.GramState(2, 1, fit_intercept=False).add(rows, y) for rows in (X, held)]
    full = states[0].holdout(states[1], np.logspace(-9, 9, 19), full=True)
    falls = np.diff(np.sign(np.diff(full.scores)))
    assert (falls < 0).any()  # it rises and falls again
    fast = states[0].holdout(states[1], np.logspace(-9, 9, 19))
    places, best = random_expansion.coarse_to_fine(full.scores)
    assert fast.evaluated == len(places) and fast.best == best
    # The choice of the definition where a search sees two valleys, and where one lies behind its back.
    curves = rng.normal(size=(200, 17)).cumsum(axis=1)
    looked = [len(random_expansion.coarse_to_fine(curve)[0]) for curve in curves]
    assert set(looked) == {5, 6, 17}
    assert all(
        random_expansion.coarse_to_fine(curve)[1] == curve.argmin()
        for curve, places in zip(curves, looked, strict=True)
        if places == 17
    )
    unsorted = states[0].holdout(states[1], np.logspace(-9, 9, 19)[::-1])
    assert unsorted.evaluated == 19 and unsorted.ridge == full.ridge


@pytest.mark.parametrize("kind", ["classifier", "regressor"])
def test_held_out_rows_do_not_depend_on_order_batches_or_form(rng, kind):
    sparse = pytest.importorskip("scipy.sparse", reason="SciPy is not installed")
    X, y = problem(7, n=600)
    X = np.where(rng.random(X.shape) < 0.3, 0.0, X)
    target = y if kind == "classifier" else X[:, :2] @ [[1.0, 2.0], [0.0, 1.0]] + rng.normal(size=(600, 2))
    make = gm.AnalyticClassifier if kind == "classifier" else gm.AnalyticRegressor
    whole = make(ridge="holdout").fit(X, target)
    order = rng.permutation(600)
    parts = make(ridge="holdout")
    for k, rows in enumerate(np.array_split(order, 7)):
        batch = sparse.csr_matrix(X[rows]) if k % 2 else np.asfortranarray(X[rows])
        parts.partial_fit(batch, target[rows])
    assert parts.ridge_ == pytest.approx(whole.ridge_, rel=1e-12)  # the grid follows the variances
    np.testing.assert_allclose(
        parts.holdout_curve_.scores, whole.holdout_curve_.scores, rtol=1e-9
    )  # NaN at the same places
    assert relative_error(parts.coef_, whole.coef_) < 1e-9
    merged = make(ridge="holdout").fit(X[:250], target[:250]).merge(make(ridge="holdout").fit(X[250:], target[250:]))
    np.testing.assert_allclose(merged.holdout_curve_.scores, whole.holdout_curve_.scores, rtol=1e-9)
    # Forgetting takes the same rows out of the held-out sums.
    extra = rng.normal(size=(100, 24)), target[:100]
    parts.partial_fit(*extra).forget(*extra)
    np.testing.assert_allclose(parts.holdout_curve_.scores, whole.holdout_curve_.scores, rtol=1e-7)
    # The errors are those of the rows that were held out, and these are a fifth of all.
    ridge = whole.holdout_curve_.ridge
    hashed = _held_out(X, seed=0)
    assert 0.12 < hashed.mean() < 0.28
    Y = one_hot(y, range(5)) if kind == "classifier" else target
    coef, intercept = ridge_weights(X[~hashed], Y[~hashed], ridge)
    explicit = np.mean((Y[hashed] - X[hashed] @ coef.T - intercept) ** 2)
    assert whole.holdout_curve_.scores[whole.holdout_curve_.best] == pytest.approx(explicit, rel=1e-9)
    # Solved with all rows in the end.
    coef, intercept = ridge_weights(X, Y, ridge)
    assert relative_error(whole.coef_, coef) < 1e-9


def _held_out(X, seed, fraction=0.2):
    """The law of the held-out rows in NumPy."""
    from reference_path import philox

    mask = 2**64 - 1
    out = []
    for row in X:
        chains = [1, 2, 3, 4]
        for c, bits in enumerate((row + 0.0).view(np.uint64).tolist()):
            h = ((chains[c % 4] ^ bits) * 0x9E3779B97F4A7C15) & mask
            chains[c % 4] = h ^ (h >> 29)
        index = 0
        for h in chains:
            index = ((index ^ h) * 0xBF58476D1CE4E5B9 + 1) & mask
        out.append(float(philox.Stream(seed, "features", 18).uniform(np.uint64(index))) < fraction)
    return np.array(out)


@pytest.mark.parametrize("rule", ["moments", "ranpac"])
@pytest.mark.parametrize("how", ["file", "pickle"])
def test_held_out_sums_in_files(rule, how):
    X, y = problem(5)
    model = gm.AnalyticClassifier(ridge="holdout", holdout_rule=rule, holdout_fraction=0.3, random_state=9)
    model.partial_fit(X[:200], y[:200])
    again = checks.reloaded(model, how, gm.load)
    assert again.get_params()["holdout_rule"] == rule and again.holdout_fraction == 0.3
    assert np.array_equal(again.holdout_curve_.scores, model.holdout_curve_.scores, equal_nan=True)
    for one in (model, again):
        one.partial_fit(X[200:], y[200:])
    assert np.array_equal(again.coef_, model.coef_) and again.ridge_ == model.ridge_
    small = checks.file_bytes(model, "weights")
    assert len(small) < len(checks.file_bytes(model)) / 2


def test_an_error_leaves_both_sums_as_they_were():
    X, y = problem(5)
    model = gm.AnalyticClassifier(ridge="holdout").fit(X, y)
    before = checks.file_bytes(model)
    bad = X[:50].copy()
    bad[37, 3] = np.nan
    with pytest.raises(ValueError, match="row 37"):
        model.partial_fit(bad, np.full(50, 77))
    with pytest.raises(ValueError, match="never saw it"):
        model.forget(X[:3], [99, 99, 99])
    assert checks.file_bytes(model) == before
    with pytest.raises(ValueError, match="different rules, fractions or seeds"):
        model.merge(gm.AnalyticClassifier(ridge="holdout", random_state=1).fit(X, y))
    assert checks.file_bytes(model) == before
    with pytest.raises(ValueError, match="holdout_fraction must be below 1"):
        gm.AnalyticClassifier(ridge="holdout", holdout_fraction=1.0).fit(X, y)
    with pytest.raises(ValueError, match="holdout_rule must be"):
        gm.AnalyticClassifier(ridge="holdout", holdout_rule="last").fit(X, y)
    with pytest.raises(AttributeError, match="no holdout_curve_"):
        gm.AnalyticClassifier().fit(X, y).holdout_curve_  # noqa: B018


def test_few_rows_leave_the_choice_to_gcv():
    X, y = problem(2, n=6)
    model = gm.AnalyticClassifier(ridge="holdout", holdout_fraction=1e-9).fit(X, y)
    assert model.ridge_ == gm.AnalyticClassifier(ridge="gcv").fit(X, y).ridge_
    assert not hasattr(model, "holdout_curve_")


def test_without_projection_the_prototypes_are_decorrelated():
    X, y = problem(11)
    model = gm.presets.ranpac(n_features=0).fit(X, y)
    assert relative_error(model.coef_.T, random_expansion.prototypes(X, y, model.ridge_)) < 1e-9
    with pytest.raises(ValueError, match="rule must be"):
        gm.presets.ranpac(rule="loo")
    assert gm.presets.ranpac(50, rule="gcv").fit(X, y).score(X, y) > 0.5


# --- fused layers ---------------------------------------------------------------------------------------------------


def test_the_mean_of_copies_is_the_layer(rng):
    layer = rng.normal(size=(30, 7))
    for copies in (1, 2, 3, 5):
        stacked = np.tile(layer, copies)
        fused = gm.FusedFeatures(copies, mode="mean").fit_transform(stacked)
        np.testing.assert_allclose(fused, layer, rtol=2 * copies * EPS)
        mapped = gm.FusedFeatures(copies, gm.RandomFeatures(12), mode="mean").fit_transform(stacked)
        np.testing.assert_allclose(mapped, gm.RandomFeatures(12).fit_transform(layer), rtol=1e-13, atol=1e-13)
    # Negative control: other seeds are other features.
    maps = [gm.RandomFeatures(12, random_state=k) for k in range(2)]
    other = gm.FusedFeatures(2, maps, mode="mean").fit_transform(np.tile(layer, 2))
    assert np.abs(other - gm.RandomFeatures(12).fit_transform(layer)).max() > 0.1


def test_fused_blocks(rng):
    sparse = pytest.importorskip("scipy.sparse", reason="SciPy is not installed")
    X = np.where(rng.random((50, 9)) < 0.5, rng.normal(size=(50, 9)), 0.0)
    widths = [2, 4, 3]
    maps = [gm.RandomFeatures(6, random_state=1), None, gm.RBFFeatures(5)]
    starts = np.cumsum([0, *widths])
    blocks = [X[:, a:b] for a, b in zip(starts, starts[1:], strict=False)]
    functions = [
        gm.RandomFeatures(6, random_state=1).fit(blocks[0]).transform,
        lambda block: block,
        gm.RBFFeatures(5).fit(blocks[2]).transform,
    ]
    expected = random_expansion.fused(X, widths, functions, "concat")
    for rows in (X, sparse.csr_matrix(X)):
        np.testing.assert_allclose(gm.FusedFeatures(widths, maps).fit_transform(rows), expected, rtol=1e-12, atol=1e-13)
    assert gm.FusedFeatures(widths, maps).fit_transform(X.astype(np.float32)).dtype == np.float32
    projected = gm.FusedFeatures(widths, mode="project", n_features=10, random_state=4).fit_transform(X)
    expected = [
        gm.RandomFeatures(10, activation="identity", random_state=4 + k).fit_transform(block)
        for k, block in enumerate(blocks)
    ]
    np.testing.assert_allclose(projected, np.hstack(expected), rtol=1e-12, atol=1e-13)
    assert list(gm.FusedFeatures(3).fit(X).get_feature_names_out()[:2]) == ["fusedfeatures0", "fusedfeatures1"]


@pytest.mark.parametrize(
    "params, message",
    [
        ({"blocks": 4}, "cannot be 4 blocks of equal width"),
        ({"blocks": [4, 4]}, "the blocks are"),
        ({"blocks": 0}, "blocks must be at least 1"),
        ({"blocks": [4, 5], "mode": "mean"}, "equal widths"),
        ({"blocks": 3, "maps": [None]}, "1 maps for 3 blocks"),
        ({"blocks": 3, "mode": "sum"}, "mode must be one of"),
        ({"blocks": 3, "mode": "project"}, "needs n_features"),
        ({"blocks": 3, "n_features": 5}, "must be None otherwise"),
    ],
)
def test_blocks_that_are_refused(params, message):
    with pytest.raises(ValueError, match=message):
        gm.FusedFeatures(**params).fit(np.ones((3, 9)))
    with pytest.raises(TypeError, match="maps"):
        gm.FusedFeatures(3, maps="relu").fit(np.ones((3, 9)))


# --- truncated directions -------------------------------------------------------------------------------------------


def low_rank(rng, n=600, d=40, classes=6):
    y = rng.integers(0, classes, n)
    X = rng.normal(size=(classes, d))[y] + rng.normal(size=(n, d)) @ np.diag(0.9 ** np.arange(d)) + 2.0
    return X, y


@pytest.mark.parametrize("fit_intercept", [True, False])
def test_full_rank_equals_the_joint_solution(rng, fit_intercept):
    X, y = low_rank(rng)
    Y = one_hot(y, range(6))
    order = np.argsort(y, kind="stable")
    model = gm.TruncatedRidgeClassifier(rank=40, fit_intercept=fit_intercept)
    for rows in np.array_split(order, 17):
        model.partial_fit(X[rows], y[rows])
    coef, intercept = ridge_weights(X, Y, 0.0, fit_intercept=fit_intercept)
    assert relative_error(model.coef_, coef) < 1e-10
    np.testing.assert_allclose(model.intercept_, intercept, atol=1e-10)
    Xc = X - X.mean(axis=0) if fit_intercept else X
    np.testing.assert_allclose(model.singular_values_, np.linalg.svd(Xc, compute_uv=False), rtol=1e-10)
    np.testing.assert_allclose(model.components_ @ model.components_.T, np.eye(40), atol=1e-12)
    assert model.dropped_energy_ <= 1e-20 * (Xc**2).sum()
    ridged = gm.TruncatedRidgeClassifier(rank=40, ridge=5.0, fit_intercept=fit_intercept).fit(X, y)
    assert relative_error(ridged.coef_, ridge_weights(X, Y, 5.0, fit_intercept=fit_intercept)[0]) < 1e-10


def test_fewer_rows_than_features_have_least_norm(rng):
    X, y = low_rank(rng, n=30, d=80)
    model = gm.TruncatedRidgeClassifier(rank=80, fit_intercept=False)
    for k in range(0, 30, 4):
        model.partial_fit(X[k : k + 4], y[k : k + 4])
    expected = np.linalg.pinv(X) @ one_hot(y, np.unique(y))
    assert relative_error(model.coef_, expected.T) < 1e-8
    assert model.rank_ == 30
    assert relative_error(model.decision_function(X), one_hot(y, np.unique(y))) < 1e-8


@pytest.mark.parametrize("fit_intercept", [True, False])
@pytest.mark.parametrize("rank", [5, 12, 30])
def test_the_error_of_truncation_is_bounded(rng, rank, fit_intercept):
    X, y = low_rank(rng)
    model = gm.TruncatedRidgeClassifier(rank=rank, fit_intercept=fit_intercept)
    for rows in np.array_split(np.arange(600), 9):
        model.partial_fit(X[rows], y[rows])
    Xc = X - X.mean(axis=0) if fit_intercept else X
    kept = (model.components_.T * model.singular_values_**2) @ model.components_
    difference = Xc.T @ Xc - kept
    rounding = 1e-12 * (Xc**2).sum()
    assert np.linalg.eigvalsh(difference)[0] > -rounding  # only ever less
    assert np.linalg.norm(difference, 2) <= model.dropped_energy_ + rounding
    assert np.trace(difference) == pytest.approx(model.dropped_energy_, abs=rounding)
    assert model.dropped_energy_ > 1e-5 * (Xc**2).sum()
    # Negative control: half of what was dropped is no bound of the trace.
    assert np.trace(difference) > 0.5 * model.dropped_energy_


@pytest.mark.parametrize("rank", [5, 12, 30])
def test_truncation_is_a_singular_value_decomposition_a_batch(rng, rank):
    X, y = low_rank(rng)
    model = gm.TruncatedRidgeClassifier(rank=rank, fit_intercept=False)
    for rows in np.array_split(np.arange(600), 9):
        model.partial_fit(X[rows], y[rows])
    batches = [X[rows][k : k + 64] for rows in np.array_split(np.arange(600), 9) for k in range(0, len(rows), 64)]
    V, s, dropped = random_expansion.truncated(batches, rank, 40)
    np.testing.assert_allclose(model.singular_values_, s, rtol=1e-9)
    assert model.dropped_energy_ == pytest.approx(dropped, rel=1e-9)
    assert np.linalg.norm(V.T @ V - model.components_.T @ model.components_) < 1e-6


def test_tau_drops_weak_directions(rng):
    X, y = low_rank(rng)
    s = np.linalg.svd(X - X.mean(axis=0), compute_uv=False)
    tau = np.sqrt(s[14] * s[15])
    model = gm.TruncatedRidgeClassifier(rank=40, tau=tau).fit(X[:64], y[:64])
    assert (model.singular_values_ > tau).all() and model.rank_ < 40
    assert model.nbytes < gm.TruncatedRidgeClassifier(rank=40).fit(X, y).nbytes


def test_truncated_learns_new_classes_in_files_and_streams(rng):
    X, y = low_rank(rng)
    names = np.array(["ant", "bee", "cat", "dog", "elk", "fox"])[y]
    chosen = gm.RandomFeatures(200, scale=0.3)
    model = gm.TruncatedRidgeClassifier(chosen, rank=120, random_state=3)
    for label in np.unique(names):
        model.partial_fit(X[names == label], names[names == label])
    assert list(model.classes_) == sorted(set(names)) and model.class_count_.sum() == 600 == model.n_samples_seen_
    assert model.score(X, names) > 0.9
    for how in ("file", "pickle"):
        again = checks.reloaded(model, how, gm.load)
        assert np.array_equal(again.decision_function(X), model.decision_function(X))
        assert repr(again) == repr(model)
        again.partial_fit(X[:50], names[:50])
        assert again.n_samples_seen_ == 650
    data = checks.file_bytes(model)
    before = model.decision_function(X)
    bad = X[:20].copy()
    bad[7, 1] = np.inf
    with pytest.raises(ValueError, match="row 7"):
        model.partial_fit(bad, ["new"] * 20)
    assert checks.file_bytes(model) == data and np.array_equal(model.decision_function(X), before)
    for params, message in (
        ({"rank": 0}, "rank must be at least 1"),
        ({"tau": -1.0}, "tau must be"),
        ({"ridge": np.nan}, "ridge must be"),
    ):
        with pytest.raises(ValueError, match=message):
            gm.TruncatedRidgeClassifier(**params).fit(X, y)
    with pytest.raises(ValueError, match="one label per row"):
        gm.TruncatedRidgeClassifier().fit(X, one_hot(y, range(6)))
    with pytest.raises(ValueError, match="not fitted"):
        gm.TruncatedRidgeClassifier().predict(X)


@pytest.mark.parametrize("size", [1e-100, 1e-155, 1e-160, 1e-200, 1e-300])
@pytest.mark.parametrize("fit_intercept", [True, False])
def test_truncated_takes_tiny_features(rng, size, fit_intercept):
    """Their squares underflow: the answer is that of ordinary features all the same."""
    X, y = low_rank(rng, d=12)
    plain = gm.TruncatedRidgeClassifier(rank=12, fit_intercept=fit_intercept).fit(X, y)
    model = gm.TruncatedRidgeClassifier(rank=12, fit_intercept=fit_intercept)
    for rows in np.array_split(np.argsort(y, kind="stable"), 9):
        model.partial_fit(X[rows] * size, y[rows])
    assert model.rank_ == 12
    assert relative_error(model.decision_function(X * size), plain.decision_function(X)) < 1e-9
    np.testing.assert_allclose(model.singular_values_, plain.singular_values_ * size, rtol=1e-9)
    again = checks.reloaded(model, "file", gm.load)
    assert np.array_equal(again.decision_function(X * size), model.decision_function(X * size))
    # A ridge of ordinary size leaves nothing of them.
    ridged = gm.TruncatedRidgeClassifier(rank=12, ridge=1.0, fit_intercept=fit_intercept).fit(X * size, y)
    np.testing.assert_allclose(
        ridged.decision_function(X * size), np.broadcast_to(ridged.intercept_, (600, 6)), atol=1e-90
    )


def test_truncated_tiny_features_before_ordinary_ones(rng):
    X, y = low_rank(rng, d=12)
    first = X[:100] * 1e-200
    model = gm.TruncatedRidgeClassifier(rank=12).partial_fit(first, y[:100]).partial_fit(X[100:], y[100:])
    whole = gm.TruncatedRidgeClassifier(rank=12).fit(np.vstack([first, X[100:]]), y)
    assert relative_error(model.decision_function(X), whole.decision_function(X)) < 1e-9
    zeros = np.zeros((100, 12))
    like = gm.TruncatedRidgeClassifier(rank=12).partial_fit(zeros, y[:100]).partial_fit(X[100:], y[100:])
    assert relative_error(model.decision_function(X), like.decision_function(X)) < 1e-9
    assert like.rank_ == 12 and np.isfinite(like.coef_).all()
    # Ordinary rows do not move by what comes behind them, and huge ones still overflow.
    assert np.isfinite(model.partial_fit(first, y[:100]).coef_).all()
    with pytest.raises(ValueError, match="overflow"):
        model.partial_fit(X[:5] * 1e160, y[:5])
    # Constant features have no direction, whatever their size.
    flat = gm.TruncatedRidgeClassifier(rank=12).fit(np.full((30, 3), 1e-200), np.arange(30) % 2)
    assert flat.rank_ == 0 and np.array_equal(flat.coef_, np.zeros((1, 3)))


def test_truncated_weights_that_overflow_are_an_error(rng):
    X, y = low_rank(rng, d=12)
    model = gm.TruncatedRidgeClassifier(rank=12).fit(X * 1e-310, y)
    with pytest.raises(np.linalg.LinAlgError, match="rank 12 of 12"):
        model.predict(X)


def test_truncated_files_that_lie(rng, tmp_path):
    X, y = low_rank(rng)
    path = tmp_path / "model"
    gm.TruncatedRidgeClassifier(rank=10).fit(X, y).save(path)
    data = path.read_bytes()
    assert data.count(b'rank\\":10') >= 1
    for wrong in (data[:-8], data[: len(data) // 2], data.replace(b'rank\\":10', b'rank\\":09')):
        path.write_bytes(wrong)
        with pytest.raises(gm.FormatError):
            gm.load(path)
    gm.TruncatedRidgeClassifier(rank=10).fit(X * 1e-160, y).save(path)
    tiny = path.read_bytes()
    assert tiny.count(b'unit\\":320') == 1
    path.write_bytes(tiny.replace(b'unit\\":320', b'unit\\":961'))
    with pytest.raises(gm.FormatError, match="unit"):
        gm.load(path)
    model, config = gm._core.load_truncated_bytes(data, "cpu", 0)
    config = json.loads(config)
    for names in (5, "x", ["a"], [1] * X.shape[1]):
        config["extra"]["learnt"]["feature_names_in"] = names
        with pytest.raises(gm.FormatError, match="column names"):
            gm.TruncatedRidgeClassifier._loaded((model, json.dumps(config)), "cpu", None)
