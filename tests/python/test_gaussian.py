"""Gaussian classes on streams, against their definitions, scikit-learn and facts about Gaussians."""

import pickle

import numpy as np
import pytest
from reference_path import checks, heads

import gramian as gm

EPS = np.finfo(np.float64).eps


def blobs(rng, n=600, d=8, k=5, spread=1.0, correlated=True):
    """Gaussian classes with one covariance."""
    mixing = rng.normal(size=(d, d)) / np.sqrt(d) + np.eye(d) if correlated else np.eye(d)
    centres = spread * rng.normal(size=(k, d))
    y = rng.integers(0, k, size=n)
    return centres[y] + rng.normal(size=(n, d)) @ mixing, y


def error_bound(S, squares):
    """What rounding may do to distances: 64 d eps cond(S) of the squares they are the difference of."""
    return 64 * len(S) * EPS * np.linalg.cond(S) * squares


@pytest.mark.parametrize("weighted", [False, True])
def test_distances_and_scores_are_their_definitions(rng, weighted):
    X, y = blobs(rng)
    weight = rng.integers(1, 4, size=len(X)).astype(float) if weighted else None
    model = gm.GaussianClassifier().fit(X, y, sample_weight=weight)
    _, total, means = heads.class_means(X, y, weight)
    S = heads.pooled_covariance(X, y, weight=weight)
    expected = heads.mahalanobis(X[:50], means, S)
    bound = error_bound(S, expected.max() + 1)
    assert np.abs(model.mahalanobis(X[:50]) - expected).max() <= bound
    assert np.abs(model.ood_score(X[:50]) + expected.min(axis=1)).max() <= bound
    scores = heads.discriminant(X, means, S, total / total.sum())
    assert np.abs(model.decision_function(X) - scores).max() <= error_bound(S, np.abs(scores).max() + 1)
    assert np.array_equal(model.predict(X), scores.argmax(axis=1))
    np.testing.assert_allclose(X @ model.coef_.T + model.intercept_, scores, atol=1e-10)
    np.testing.assert_allclose(model.means_, means, atol=1e-13)
    np.testing.assert_allclose(model.priors_, total / total.sum(), rtol=1e-14)
    proba = np.exp(scores - scores.max(axis=1, keepdims=True))
    np.testing.assert_allclose(model.predict_proba(X), proba / proba.sum(axis=1, keepdims=True), atol=1e-12)
    assert model.ridge_ == 0 and model.shrinkage_ == 0


@pytest.mark.parametrize("shrinkage", [None, 0.2, 1.0])
@pytest.mark.parametrize("classes", [2, 5])
@pytest.mark.parametrize("solver", ["lsqr", "eigen"])
def test_same_as_linear_discriminant_analysis(rng, shrinkage, classes, solver):
    lda = pytest.importorskip("sklearn.discriminant_analysis").LinearDiscriminantAnalysis
    X, y = blobs(rng, k=classes)
    model = gm.GaussianClassifier(shrinkage=shrinkage).fit(X, y)
    theirs = lda(solver=solver, shrinkage=shrinkage).fit(X, y)
    scores = theirs.decision_function(X)
    np.testing.assert_allclose(model.decision_function(X), scores, rtol=0, atol=1e-8 * np.abs(scores).max())
    np.testing.assert_allclose(model.coef_, theirs.coef_, atol=1e-8)
    np.testing.assert_allclose(model.intercept_, theirs.intercept_, atol=1e-8)
    np.testing.assert_allclose(model.predict_proba(X), theirs.predict_proba(X), rtol=0, atol=1e-8)


def test_same_distances_as_empirical_covariance(rng):
    """The route of the out-of-distribution literature: residuals of all classes into one EmpiricalCovariance."""
    covariance = pytest.importorskip("sklearn.covariance")
    X, y = blobs(rng)
    classes, _, means = heads.class_means(X, y)
    residuals = X - means[y]
    theirs = covariance.EmpiricalCovariance(assume_centered=True).fit(residuals)
    expected = np.stack([theirs.mahalanobis(X - mean) for mean in means], axis=1)
    found = gm.GaussianClassifier().fit(X, y).mahalanobis(X)
    assert np.abs(found - expected).max() <= 1e-8 * expected.max()
    automatic = gm.GaussianClassifier(shrinkage="auto").fit(X, y)
    oas = covariance.OAS(assume_centered=True).fit(residuals)
    assert automatic.shrinkage_ == pytest.approx(oas.shrinkage_, rel=1e-10)
    by_hand = heads.oracle_shrinkage(heads.pooled_covariance(X, y), len(X))
    assert automatic.shrinkage_ == pytest.approx(by_hand, rel=1e-10)
    assert heads.oracle_shrinkage(heads.pooled_covariance(X, y), len(X) / 2) != pytest.approx(by_hand, rel=0.1)
    expected = np.stack([oas.mahalanobis(X - mean) for mean in means], axis=1)
    assert np.abs(automatic.mahalanobis(X) - expected).max() <= 1e-8 * expected.max()


def streams(X, y, rng):
    """The same rows in several orders and batches."""
    yield "sorted by class", np.array_split(np.argsort(y, kind="stable"), 9)
    yield "backwards, one batch a class", [np.flatnonzero(y == c) for c in range(y.max(), -1, -1)]
    yield "shuffled", np.array_split(rng.permutation(len(y)), 7)
    yield "row by row", [[r] for r in range(len(y))]


def test_streams_equal_the_batch_in_any_order(rng):
    X, y = blobs(rng, n=300)
    batch = gm.GaussianClassifier().fit(X, y)
    expected, scores = batch.mahalanobis(X), batch.decision_function(X)
    for name, parts in streams(X, y, rng):
        model = gm.GaussianClassifier()
        for rows in parts:
            model.partial_fit(X[rows], y[rows])
        assert checks.relative_error(model.mahalanobis(X), expected) <= 1e-12, name
        assert checks.relative_error(model.decision_function(X), scores) <= 1e-12, name
    merged = gm.GaussianClassifier()
    for k in range(4):
        merged.merge(gm.GaussianClassifier().fit(X[k::4], y[k::4]))
    assert checks.relative_error(merged.mahalanobis(X), expected) <= 1e-12
    more, labels = blobs(rng, n=80, k=7)
    model = gm.GaussianClassifier().partial_fit(more, labels).partial_fit(X, y).forget(more, labels)
    assert np.array_equal(model.classes_, batch.classes_)
    assert checks.relative_error(model.mahalanobis(X), expected) <= 1e-12


def close_classes(rng, n, d, k=4, condition=1e4, offset=0.0):
    """Classes a standard deviation apart whose covariance has this condition, in axes that are no features."""
    mixing = np.logspace(0, -np.log10(condition) / 2, d)[:, np.newaxis] * np.linalg.qr(rng.normal(size=(d, d)))[0]
    centres = rng.normal(size=(k, d))
    y = rng.integers(0, k, size=n)
    centres /= np.linalg.norm(centres, axis=1, keepdims=True)
    return (centres[y] + rng.normal(size=(n, d))) @ mixing + offset, y


def awkward_orders(X, y, rng):
    """Orders whose first rows say little about the rest."""
    distance = np.linalg.norm(X - X.mean(axis=0), axis=1)
    return {
        "as they come": np.arange(len(y)),
        "sorted by class": np.argsort(y, kind="stable"),
        "the last class first": np.argsort(-y, kind="stable"),
        "the farthest rows first": np.argsort(-distance),
        "the nearest rows first": np.argsort(distance),
        "shuffled": rng.permutation(len(y)),
    }


@pytest.mark.parametrize("condition", [1e1, 1e3, 1e5, 1e7])
@pytest.mark.parametrize("d", [4, 16])
def test_what_a_stream_row_by_row_may_cost(d, condition):
    """eps cond(S) sqrt(batches) / 2, in any order, and 1e-12 where the condition is a thousand or less.

    Each row rounds the sums once, at random, so n rows cost the root of n of what one costs: half an eps of the sums,
    which the inverse of S multiplies by its condition. No order has another term, as the sums stand around a point that
    follows the mean.
    """
    n, worst = 400, 0.0
    for seed in range(2):
        rng = np.random.default_rng(seed)
        X, y = close_classes(rng, n, d, condition=condition)
        batch = gm.GaussianClassifier().fit(X, y)
        expected = batch.mahalanobis(X)
        bound = EPS * np.linalg.cond(heads.pooled_covariance(X, y)) * np.sqrt(n) / 2
        for name, order in awkward_orders(X, y, rng).items():
            model = gm.GaussianClassifier()
            for row in order:
                model.partial_fit(X[[row]], y[[row]])
            error = checks.relative_error(model.mahalanobis(X), expected)
            assert error <= bound, (seed, name)
            if condition <= 1e3:
                assert error <= 1e-12, (seed, name)
            worst = max(worst, error / bound)
    assert worst > 1e-3  # the bound is no more than a thousand times what happens, whatever the order of additions


@pytest.mark.parametrize("offset", [0.0, 30.0])
@pytest.mark.parametrize("d", [8, 24])
def test_no_order_and_no_batch_costs_digits(rng, d, offset):
    """At condition 1e4, where a sum around a far point loses four digits more than it must."""
    X, y = close_classes(rng, 400, d, offset=offset)
    batch = gm.GaussianClassifier().fit(X, y)
    expected, scores = batch.mahalanobis(X), batch.decision_function(X)
    if np.finfo(np.longdouble).eps < 1e-18:
        assert checks.relative_error(expected, heads.long_distances(X, y)) <= 5e-13
    for name, order in awkward_orders(X, y, rng).items():
        for size in (1, 3, 50, 399):
            model = gm.GaussianClassifier()
            for begin in range(0, len(y), size):
                rows = order[begin : begin + size]
                model.partial_fit(X[rows], y[rows])
            where = f"{name}, {size} at a time"
            assert checks.relative_error(model.mahalanobis(X), expected) <= 1e-12, where
            assert checks.relative_error(model.decision_function(X), scores) <= 1e-12, where
    # Merged one by one, from single rows on.
    order = awkward_orders(X, y, rng)["the farthest rows first"][:60]
    merged, whole = gm.GaussianClassifier(), gm.GaussianClassifier().fit(X[order], y[order])
    for row in order:
        merged.merge(gm.GaussianClassifier().fit(X[[row]], y[[row]]))
    assert checks.relative_error(merged.mahalanobis(X), whole.mahalanobis(X)) <= 1e-12
    # What is taken out again leaves no digits behind: rows a hundred deviations away, before and after.
    far, labels = close_classes(rng, 50, d, offset=offset + 100.0)
    model = gm.GaussianClassifier().partial_fit(far, labels).partial_fit(X, y).forget(far, labels)
    bound = 64 * EPS * np.linalg.cond(heads.pooled_covariance(X, y)) * 100.0**2 * len(far) / len(X)
    assert checks.relative_error(model.mahalanobis(X), expected) <= bound


def test_sums_around_a_far_point_do_cost_digits():
    """Negative controls: one fixed point, the origin or the farthest row."""
    for d, offset, point in ((8, 30.0, "origin"), (24, 30.0, "origin"), (8, 0.0, "row")):
        rng = np.random.default_rng(0)
        X, y = close_classes(rng, 400, d, offset=offset)
        order = awkward_orders(X, y, rng)["the farthest rows first"]
        X, y = X[order], y[order]
        S, means = heads.pooled_of_sums(X, y, X[0] if point == "row" else 0.0)
        found = heads.mahalanobis(X, means, S)
        expected = gm.GaussianClassifier().fit(X, y).mahalanobis(X)
        assert checks.relative_error(found, expected) > 1e-12, (d, offset, point)


def test_update_by_class_counts_is_exact_and_the_common_one_is_not(rng):
    """The row-by-row update with class counts is the pooled scatter; with the count of all rows it is 1 % off."""
    X, y = blobs(rng, n=3000, d=6, k=5)
    S = heads.pooled_covariance(X, y)
    for order in (np.arange(len(y)), np.argsort(y, kind="stable")):
        assert checks.relative_error(heads.streamed_scatter(X[order], y[order]) / len(y), S) <= 1e-13
    wrong = heads.streamed_scatter(X, y, by_class=False) / len(y)
    assert checks.relative_error(wrong, S) >= 3e-3
    model = gm.GaussianClassifier()
    for rows in np.array_split(np.arange(len(y)), 50):
        model.partial_fit(X[rows], y[rows])
    _, _, means = heads.class_means(X, y)
    found = model.mahalanobis(X[:30])
    assert checks.relative_error(found, heads.mahalanobis(X[:30], means, S)) <= 1e-12
    assert checks.relative_error(found, heads.mahalanobis(X[:30], means, wrong)) >= 1e-3


def test_affine_maps_leave_distances_alone(rng):
    X, y = blobs(rng)
    T = rng.normal(size=(8, 8)) + 3 * np.eye(8)
    move = 10 * rng.normal(size=8)
    plain = gm.GaussianClassifier().fit(X, y).mahalanobis(X)
    mapped = gm.GaussianClassifier().fit(X @ T + move, y).mahalanobis(X @ T + move)
    bound = error_bound(T.T @ heads.pooled_covariance(X, y) @ T, plain.max())
    assert np.abs(mapped - plain).max() <= bound
    # The negative control: with a ridge the unit of the features matters.
    ridged = [gm.GaussianClassifier(ridge=1.0).fit(A, y).mahalanobis(A) for A in (X, X @ T + move)]
    assert np.abs(ridged[0] - ridged[1]).max() >= 1e-2 * plain.max()


def test_own_class_distance_is_chi_squared(rng):
    stats = pytest.importorskip("scipy.stats")
    d = 6
    mixing = rng.normal(size=(d, d))
    centres = 0.7 * rng.normal(size=(4, d)) @ mixing  # classes that overlap
    y = rng.integers(0, 4, size=40_000)
    X = centres[y] + rng.normal(size=(len(y), d)) @ mixing
    model = gm.GaussianClassifier().fit(X[:38_000], y[:38_000])
    distances = model.mahalanobis(X[38_000:])
    own = distances[np.arange(2000), y[38_000:]]
    assert stats.kstest(own, "chi2", args=(d,)).pvalue > 1e-3
    assert stats.kstest(distances.min(axis=1), "chi2", args=(d,)).pvalue < 1e-6  # the nearest one is nearer


def test_auroc_is_one_half_where_nothing_is_out(rng):
    X, y = blobs(rng, n=6000)
    model = gm.GaussianClassifier().fit(X[:2000], y[:2000])
    score = model.ood_score(X[2000:])
    # Four standard errors of the statistic of two samples of 2000 rows.
    assert abs(heads.auroc(score[:2000], score[2000:]) - 0.5) <= 4 * np.sqrt(4001 / (12 * 2000 * 2000))
    far = model.ood_score(X[2000:] + 8.0)
    assert heads.auroc(score, far) >= 0.95
    assert heads.auroc(np.array([1.0, 2.0]), np.array([1.0, 0.0])) == 0.875


def test_ridge_and_discriminant_have_one_direction(rng):
    X, y = blobs(rng, k=2)
    gaussian = gm.GaussianClassifier().fit(X, y).coef_[0]
    ridge = gm.AnalyticClassifier(ridge=1e-9).fit(X, y).coef_[0]
    cosine = gaussian @ ridge / np.linalg.norm(gaussian) / np.linalg.norm(ridge)
    assert abs(cosine - 1) <= 1e-12
    strong = gm.AnalyticClassifier(ridge=1e4).fit(X, y).coef_[0]
    assert gaussian @ strong / np.linalg.norm(gaussian) / np.linalg.norm(strong) < 0.9999
    # More classes: the weights of both span the same discriminants.
    X, y = blobs(rng, k=4)
    gaussian = gm.GaussianClassifier().fit(X, y).coef_
    ridge = gm.AnalyticClassifier(ridge=1e-9).fit(X, y).coef_
    ridge, gaussian = ridge - ridge.mean(axis=0), gaussian - gaussian.mean(axis=0)
    together = np.linalg.svd(np.vstack([ridge / np.linalg.norm(ridge), gaussian / np.linalg.norm(gaussian)]))[1]
    assert (together > 1e-9).sum() == 3


def test_a_large_offset_costs_no_digits(rng):
    X, y = blobs(rng)
    plain = gm.GaussianClassifier().fit(X, y)
    moved = gm.GaussianClassifier().fit(X + 1e6, y)
    # The rows themselves lose digits by the move: eps 1e6 each.
    assert np.abs(moved.mahalanobis(X + 1e6) - plain.mahalanobis(X)).max() <= 1e-6
    assert np.array_equal(moved.predict(X + 1e6), plain.predict(X))


@pytest.mark.parametrize("apart", [1e2, 1e4, 1e6])
def test_classes_far_apart_cost_the_digits_they_must(rng, apart):
    """The sums hold the classes' squares, so what is within classes has an error of eps times what is between them."""
    X = rng.normal(size=(400, 4))
    y = np.arange(400) % 2
    X[y == 1, 0] += apart
    _, _, means = heads.class_means(X, y)
    own = gm.GaussianClassifier().fit(X, y).mahalanobis(X)[np.arange(400), y]
    expected = heads.mahalanobis(X, means, heads.pooled_covariance(X, y))[np.arange(400), y]
    assert (own >= 0).all()
    assert np.abs(own - expected).max() <= 64 * EPS * (apart**2 / 4 + 1) * (1 + expected.max())


def test_priors(rng):
    X, y = blobs(rng, k=3)
    y[: len(y) // 2] = 0
    uniform = gm.GaussianClassifier(priors="uniform").fit(X, y)
    given = gm.GaussianClassifier(priors=[2, 2, 2]).fit(X, y)
    assert np.array_equal(uniform.decision_function(X), given.decision_function(X))
    empirical = gm.GaussianClassifier().fit(X, y)
    shares = np.bincount(y) / len(y)
    difference = empirical.decision_function(X) - uniform.decision_function(X)
    np.testing.assert_allclose(difference, np.broadcast_to(np.log(3 * shares), difference.shape), atol=1e-10)
    short = gm.GaussianClassifier(priors=[0.5, 0.5]).fit(X, y)
    with pytest.raises(ValueError, match="priors has 2 values for 3 classes"):
        short.predict(X)


def test_without_full_rank(rng):
    X, y = blobs(rng)
    double = np.hstack([X, X[:, :1]])
    model = gm.GaussianClassifier().fit(double, y)
    level = np.trace(heads.pooled_covariance(double, y)) / 9
    assert model.ridge_ == pytest.approx(1e-8 * level)
    assert (model.predict(double) == gm.GaussianClassifier().fit(X, y).predict(X)).mean() > 0.99
    with pytest.raises(np.linalg.LinAlgError):
        gm.GaussianClassifier(ridge=0).fit(np.hstack([X, np.ones((len(X), 1))]), y).predict(np.ones((1, 9)))
    points = gm.GaussianClassifier().fit(np.eye(3), [0, 1, 2])
    assert points.ridge_ == 1.0
    np.testing.assert_allclose(points.mahalanobis(np.eye(3)), 2 * (1 - np.eye(3)), atol=1e-14)
    tiny = gm.GaussianClassifier().fit(X * np.logspace(-9, 0, 8), y)
    assert tiny.ridge_ == 0  # small units are no lack of rank


def test_gradient_and_perturbation(rng):
    X, y = blobs(rng)
    model = gm.GaussianClassifier(shrinkage=0.1).fit(X, y)
    gradient = model.ood_gradient(X[:20])
    _, _, means = heads.class_means(X, y)
    S = heads.pooled_covariance(X, y, shrinkage=0.1)
    expected = heads.ood_gradient(X[:20], means, S)
    assert np.abs(gradient - expected).max() <= error_bound(S, np.abs(expected).max())
    wrong = heads.ood_gradient(X[:20], np.roll(means, 1, axis=0), heads.pooled_covariance(X, y))
    assert np.abs(gradient - wrong).max() > 1e-2 * np.abs(expected).max()  # the control: without the shrinkage
    step = 1e-5
    for j in range(X.shape[1]):
        e = step * np.eye(X.shape[1])[j]
        slope = (model.ood_score(X[:20] + e) - model.ood_score(X[:20] - e)) / (2 * step)
        np.testing.assert_allclose(gradient[:, j], slope, atol=1e-4 * np.abs(gradient).max())
    moved = model.ood_perturb(X[:20], 1e-3)
    np.testing.assert_array_equal(moved, X[:20] + 1e-3 * np.sign(gradient))
    assert (model.ood_score(moved) > model.ood_score(X[:20])).all()
    assert np.array_equal(model.ood_perturb(X[:20], 0.0), X[:20])
    mapped = gm.GaussianClassifier(gm.RandomFeatures(30)).fit(X, y)
    assert mapped.ood_gradient(X[:4]).shape == (4, 30)
    with pytest.raises(ValueError, match="feature map"):
        mapped.ood_perturb(X, 0.1)
    with pytest.raises(ValueError, match="magnitude"):
        model.ood_perturb(X, -1.0)


def test_feature_maps_float32_and_sparse_rows(rng):
    sparse = pytest.importorskip("scipy.sparse")
    X, y = blobs(rng)
    features = gm.RandomFeatures(40, activation="tanh", random_state=3)
    mapped = gm.GaussianClassifier(features).fit(X, y)
    plain = gm.GaussianClassifier().fit(features.fit(X).transform(X), y)
    expected = plain.mahalanobis(features.transform(X))
    assert checks.relative_error(mapped.mahalanobis(X), expected) <= 1e-9
    single = gm.GaussianClassifier(dtype="float32").fit(X.astype(np.float32), y)
    double = gm.GaussianClassifier().fit(X, y)
    assert checks.relative_error(single.mahalanobis(X), double.mahalanobis(X)) <= 1e-4
    rows = sparse.csr_matrix(np.where(np.abs(X) > 0.5, X, 0))
    of_csr = gm.GaussianClassifier().fit(rows, y).mahalanobis(rows)
    assert checks.relative_error(of_csr, gm.GaussianClassifier().fit(rows.toarray(), y).mahalanobis(rows)) <= 1e-12


@pytest.mark.parametrize("labels", ["int", "text"])
def test_files_pickles_and_going_on(rng, tmp_path, labels):
    X, y = blobs(rng)
    y = np.array(["a", "b", "c", "d", "e"])[y] if labels == "text" else y
    model = gm.GaussianClassifier(shrinkage=0.1, priors="uniform", ridge=0.01).fit(X[:400], y[:400])
    model.save(tmp_path / "model.gramian")
    loaded = gm.load(tmp_path / "model.gramian")
    assert repr(loaded) == repr(model)
    for other in (loaded, pickle.loads(pickle.dumps(model))):
        assert np.array_equal(other.mahalanobis(X), model.mahalanobis(X))
        other.partial_fit(X[400:], y[400:])
        whole = gm.GaussianClassifier(shrinkage=0.1, priors="uniform", ridge=0.01).fit(X, y)
        assert checks.relative_error(other.mahalanobis(X), whole.mahalanobis(X)) <= 1e-12
        assert np.array_equal(other.predict(X), whole.predict(X))
    # The file of a ridge classifier is no file of this one.
    gm.AnalyticClassifier().fit(X, y).save(tmp_path / "ridge.gramian")
    assert type(gm.load(tmp_path / "ridge.gramian")) is gm.AnalyticClassifier


def test_answers_follow_every_change(rng):
    X, y = blobs(rng)
    model = gm.GaussianClassifier().fit(X[:100], y[:100])
    first = model.mahalanobis(X)
    assert np.array_equal(model.mahalanobis(X), first)
    model.partial_fit(X[100:], y[100:])
    second = model.mahalanobis(X)
    assert not np.array_equal(first, second)
    model.forget(X[100:], y[100:])
    assert checks.relative_error(model.mahalanobis(X), first) <= 1e-12
    with pytest.raises(ValueError):
        model.partial_fit(np.full((1, 8), np.nan), [0])
    assert checks.relative_error(model.mahalanobis(X), first) <= 1e-12
    model.forget(X[:100], y[:100])
    with pytest.raises(ValueError, match="not fitted"):
        model.predict(X)


@pytest.mark.parametrize(
    "params, message",
    [
        ({"priors": "equal"}, "priors must be"),
        ({"priors": [0.5, 0.0]}, "priors must be"),
        ({"priors": [[0.5], [0.5]]}, "priors must be"),
        ({"shrinkage": 1.5}, "shrinkage must be"),
        ({"shrinkage": "ledoit"}, "shrinkage must be"),
        ({"ridge": -1.0}, "ridge must be"),
    ],
)
def test_bad_parameters(params, message):
    with pytest.raises(ValueError, match=message):
        gm.GaussianClassifier(**params).fit(np.eye(4), [0, 1, 0, 1])


def test_bad_input(rng):
    X, y = blobs(rng)
    model = gm.GaussianClassifier().fit(X, y)
    with pytest.raises(ValueError, match="features"):
        model.mahalanobis(X[:, :3])
    bad = X[:5].copy()
    bad[3, 1] = np.inf
    with pytest.raises(ValueError, match="row 3"):
        model.ood_score(bad)
    with pytest.raises(ValueError, match="Multi-label"):
        gm.GaussianClassifier().fit(X, np.eye(5)[y])
    for name in ("temperature_", "report_", "calibrate", "gcv_at_edge_"):
        assert not hasattr(model, name)


def test_combination_is_logistic_regression(rng):
    linear_model = pytest.importorskip("sklearn.linear_model")
    n = 300
    inside = np.c_[rng.normal(1.0, 1.0, n), 1e3 * rng.normal(0.3, 1.0, n), rng.normal(size=n)]
    outside = np.c_[rng.normal(-1.0, 1.0, n // 2), 1e3 * rng.normal(-0.3, 1.0, n // 2), rng.normal(size=n // 2)]
    for ridge in (1e-2, 1.0, 30.0):
        combined = gm.combine_layers(inside, outside, ridge=ridge)
        table = np.vstack([inside, outside])
        scaled = (table - table.mean(axis=0)) / table.std(axis=0)
        labels = np.r_[np.ones(n), np.zeros(n // 2)]
        theirs = linear_model.LogisticRegression(C=1 / ridge, tol=1e-12, max_iter=10_000).fit(scaled, labels)
        np.testing.assert_allclose(combined.coef_ * table.std(axis=0), theirs.coef_[0], atol=1e-6)
        np.testing.assert_allclose(combined.score(table), theirs.decision_function(scaled), atol=1e-5)
        # The gradient of the loss is zero there, far below what scikit-learn's solver reaches.
        p = 1 / (1 + np.exp(-combined.score(table)))
        gradient = scaled.T @ (p - labels) + ridge * combined.coef_ * table.std(axis=0)
        assert np.abs(gradient).max() <= 1e-5
    best = max(heads.auroc(inside[:, j], outside[:, j]) for j in range(3))
    assert heads.auroc(combined.score(inside), combined.score(outside)) >= best
    # Rows that one score parts completely have no weights without a penalty, and finite ones with it.
    assert np.isfinite(gm.combine_layers([[1.0], [2.0]], [[-1.0], [-2.0]], ridge=1e-3).coef_).all()
    with pytest.raises(ValueError, match="ridge"):
        gm.combine_layers(inside, outside, ridge=0.0)
    with pytest.raises(ValueError, match="columns"):
        gm.combine_layers(inside, outside[:, :2])
    with pytest.raises(ValueError, match="columns"):
        combined.score(inside[:, :2])


@pytest.mark.parametrize("ridge", [1e-2, 1.0, 30.0])
def test_combination_is_newtons_method(rng, ridge):
    """Against a plain Newton iteration: both are at the one optimum, to what the flatness of the loss leaves."""
    inside = np.c_[rng.normal(1.0, 1.0, 300), 1e3 * rng.normal(0.3, 1.0, 300), rng.normal(size=300)]
    outside = np.c_[rng.normal(-1.0, 1.0, 150), 1e3 * rng.normal(-0.3, 1.0, 150), rng.normal(size=150)]
    combined = gm.combine_layers(inside, outside, ridge=ridge)
    coef, intercept = heads.combine_layers(inside, outside, ridge)
    deviation = np.vstack([inside, outside]).std(axis=0)
    # The loss is even to 1e-12 of itself within about 1e-6 of the optimum.
    np.testing.assert_allclose(combined.coef_ * deviation, coef * deviation, rtol=0, atol=2e-6)
    assert combined.intercept_ == pytest.approx(intercept, abs=5e-6)
    other, _ = heads.combine_layers(inside, outside, 3 * ridge)
    assert np.abs((combined.coef_ - other) * deviation).max() > 1e-4  # negative control: another ridge


def same_model(found, expected, X):
    np.testing.assert_allclose(found.mahalanobis(X), expected.mahalanobis(X), rtol=0, atol=1e-9)
    np.testing.assert_allclose(found.decision_function(X), expected.decision_function(X), rtol=0, atol=1e-9)
    np.testing.assert_allclose(found.means_, expected.means_, rtol=0, atol=1e-12)


def test_every_change_is_seen_by_the_next_answer(rng):
    X, y = blobs(rng, n=300, d=4, k=3)
    first, second = slice(0, 200), slice(200, 300)
    whole, rest = gm.GaussianClassifier().fit(X, y), gm.GaussianClassifier().fit(X[first], y[first])
    part = gm.GaussianClassifier().fit(X[second], y[second])
    assert np.abs(whole.mahalanobis(X) - rest.mahalanobis(X)).max() > 1e-3  # what a stale answer would be off by
    sums, classes = part.state_, part.classes_
    model = gm.GaussianClassifier().fit(X[first], y[first])
    same_model(model, rest, X)
    changes = [
        (lambda: model.partial_fit(X[second], y[second]), whole),
        (lambda: model.forget(X[second], y[second]), rest),
        (lambda: model.partial_fit(X[second], y[second], atomic=False), whole),
        (lambda: model.forget(X[second], y[second], atomic=False), rest),
        (lambda: model.merge(part), whole),
        (lambda: model.unmerge(part), rest),
        (lambda: gm.federated.merge_sums(model, sums, classes), whole),
        (lambda: gm.federated.remove_client(model, part), rest),
        (lambda: gm.federated.aggregate(model, [gm.federated.client_update(part)]), whole),
        (lambda: gm.federated.remove_client(model, gm.federated.client_update(part)), rest),
        (lambda: model.fit(X, y), whole),
        (lambda: model.forget(X[second], y[second]), rest),
    ]
    for change, expected in changes:
        change()
        same_model(model, expected, X)
    with pytest.raises(ValueError):
        model.unmerge(whole)
    same_model(model, rest, X)


@pytest.mark.parametrize("unit", [1e-140, 1e-90, 1e-82, 1e78, 1e90, 1e140])
def test_shrinkage_does_not_depend_on_the_unit(rng, unit):
    # tr(S^2) leaves the range of double where S itself is well inside of it.
    X, y = blobs(rng, n=60, d=4, k=3)
    plain, scaled = (gm.GaussianClassifier(shrinkage="auto").fit(X * s, y) for s in (1.0, unit))
    assert 0 < plain.shrinkage_ < 1
    assert scaled.shrinkage_ == pytest.approx(plain.shrinkage_, rel=1e-10)
    assert np.abs(scaled.mahalanobis(X * unit) / plain.mahalanobis(X) - 1).max() <= 1e-9


@pytest.mark.parametrize("size", [1e-300, 1e-200, 1e-160, 1e-156, 1e150])
def test_small_weights_are_as_good_as_others(rng, size):
    X, y = blobs(rng, n=80, d=4, k=3)
    weight = rng.uniform(0.5, 2.0, size=80)
    plain, scaled = (gm.GaussianClassifier().fit(X, y, sample_weight=weight * s) for s in (1.0, size))
    assert np.abs(scaled.mahalanobis(X) / plain.mahalanobis(X) - 1).max() <= 1e-9
    np.testing.assert_allclose(scaled.predict_proba(X), plain.predict_proba(X), rtol=0, atol=1e-10)
    # Negative control: weights that are unlike are not without effect.
    assert np.abs(gm.GaussianClassifier().fit(X, y).mahalanobis(X) / plain.mahalanobis(X) - 1).max() > 1e-3
