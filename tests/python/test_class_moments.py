"""Classifiers of rows that are known by their moments alone, against the rows themselves."""

import pickle

import numpy as np
import pytest
from oracle import one_hot, relative_error, ridge_weights
from reference_path import class_incremental, features, heads

import gramian as gm


def data(rng, labels, n=60, d=6):
    """Rows of classes, each with a mean and a covariance of its own."""
    y = np.repeat(labels, n)
    blocks = [2 * rng.normal(size=d) + rng.normal(size=(n, d)) @ rng.normal(size=(d, d)) / 2 for _ in labels]
    return np.vstack(blocks), y


def weights_of(rows, labels, ridge, weight=None, intercept=True):
    classes = np.unique(labels)
    return ridge_weights(rows, one_hot(labels, classes), ridge, weight, intercept)


@pytest.mark.parametrize("intercept", [True, False])
def test_translation_equals_ridge_on_the_pseudo_rows(rng, intercept):
    phases = [data(rng, labels) for labels in ([0, 4], [1, 3, 5], [2, 6])]
    model = gm.TranslatedClassifier(ridge=0.5, fit_intercept=intercept)
    past = {}
    for X, y in phases:
        order = rng.permutation(len(y))
        for rows in np.array_split(order, 4):
            model.partial_fit(X[rows], y[rows])
        rows, labels = heads.translated_rows(X, y, past)
        coef, offset = weights_of(rows, labels, 0.5, intercept=intercept)
        if len(coef) > 2:
            assert relative_error(model.coef_, coef) <= 1e-10
            assert np.abs(model.intercept_ - offset).max() <= 1e-10 * max(1, np.abs(offset).max())
            scores = X @ coef.T + offset
            assert np.array_equal(model.predict(X), np.unique(labels)[scores.argmax(axis=1)])
        for label, centroid in past.items():
            moved = rows[labels == label].mean(axis=0)
            np.testing.assert_allclose(moved, centroid, atol=1e-12)
            np.testing.assert_allclose(model.centroids_[label == model.classes_][0], centroid, atol=1e-13)
        assert np.array_equal(model.past_, np.isin(model.classes_, list(past)))
        # The negative control: the centroids alone, without the spread of the rows that are moved there, are not it.
        bare = rows.copy()
        for label, centroid in past.items():
            bare[labels == label] = centroid
        if past:
            assert relative_error(weights_of(bare, labels, 0.5, intercept=intercept)[0], coef) >= 0.01
        _, _, means = heads.class_means(X, y)
        past.update(zip(np.unique(y).tolist(), means, strict=True))
        model.end_phase()


def test_centroids_without_direction_and_ties(rng):
    X = np.array([[1.0, 0.0], [3.0, 0.0], [0.0, 1.0], [0.0, 3.0]])
    model = gm.TranslatedClassifier(ridge=1e-3).partial_fit(np.array([[1.0, -1.0], [-1.0, 1.0]]), [5, 5]).end_phase()
    model.partial_fit(X, [7, 7, 8, 8])
    # The centroid of 5 is zero, so both cosines are, and the first present class lends its rows.
    rows = np.vstack([X[:2] - [2.0, 0.0], X])
    coef = weights_of(rows, np.array([5, 5, 7, 7, 8, 8]), 1e-3)[0]
    assert relative_error(model.coef_, coef) <= 1e-10


def test_rows_of_past_classes_are_refused_and_change_nothing(rng):
    X, y = data(rng, [0, 1])
    more, labels = data(rng, [2, 3])
    model = gm.TranslatedClassifier().fit(X, y).end_phase()
    before = model.coef_
    with pytest.raises(ValueError, match="class '1' is of an earlier phase"):
        model.partial_fit(np.vstack([more, X[-1:]]), np.append(labels, 1))
    assert np.array_equal(model.coef_, before) and not model.past_.any()
    model.partial_fit(more, labels)
    with pytest.raises(ValueError, match="only its centroid is left"):
        model.forget(X[:1], y[:1])
    model.forget(more[:60], labels[:60])
    assert model.classes_.tolist() == [0, 1, 3]
    bytes_before = model.nbytes
    copy = pickle.loads(pickle.dumps(model))
    assert np.array_equal(copy.predict(more), model.predict(more)) and copy.nbytes == bytes_before
    for other in (model, copy):
        other.partial_fit(more[:60], labels[:60])
    assert np.array_equal(copy.coef_, model.coef_)
    model.end_phase().partial_fit(X[:3] + 9, [9, 9, 9])
    assert model.nbytes == bytes_before + 2 * 6 * 8  # sums of one class as before, four centroids instead of two


def test_translation_happens_in_feature_space(rng):
    X, y = data(rng, [0, 1])
    more, labels = data(rng, [2, 3])
    features = gm.RandomFeatures(20, random_state=1)
    mapped = gm.TranslatedClassifier(features).fit(X, y).end_phase().partial_fit(more, labels)
    Z = features.fit(X)
    plain = gm.TranslatedClassifier().fit(Z.transform(X), y).end_phase().partial_fit(Z.transform(more), labels)
    assert relative_error(mapped.coef_, plain.coef_) <= 1e-10


@pytest.mark.parametrize("weights", ["balanced", "empirical", [3.0, 20.0, 7.0]])
def test_alignment_with_biased_moments_is_weighted_ridge(rng, weights):
    X, y = data(rng, [0, 1, 2])
    keep = rng.permutation(len(y))[:110]
    X, y = X[keep], y[keep]
    counts = np.bincount(y)
    named = {"balanced": np.full(3, len(y) / 3), "empirical": counts}
    shares = named[weights] if isinstance(weights, str) else np.array(weights)
    coef, offset = weights_of(X, y, 0.3, weight=(shares / counts)[y])
    model = gm.AlignedClassifier(covariance="full", class_totals=weights, ridge=0.3).partial_fit(X[:50], y[:50])
    model.partial_fit(X[50:], y[50:])
    assert relative_error(model.coef_, coef) <= 1e-10
    assert np.abs(model.intercept_ - offset).max() <= 1e-10
    # One covariance for all: rows of every class around every mean.
    _, _, means = heads.class_means(X, y)
    residuals = X - means[y]
    rows = np.vstack([residuals + mean for mean in means])
    coef, offset = weights_of(rows, np.repeat([0, 1, 2], len(X)), 0.3, weight=np.repeat(shares, len(X)) / len(X))
    tied = gm.AlignedClassifier(class_totals=weights, ridge=0.3).fit(X, y)
    assert relative_error(tied.coef_, coef) <= 1e-10
    assert np.abs(tied.intercept_ - offset).max() <= 1e-10
    plain = gm.AnalyticClassifier(ridge=0.3).fit(X, y)
    if weights == "empirical":  # the covariances, weighed by their rows, add up to the pooled one
        assert relative_error(model.coef_, plain.coef_) <= 1e-10
        assert relative_error(tied.coef_, plain.coef_) <= 1e-10
    else:  # the negative control: weights matter
        assert relative_error(model.coef_, plain.coef_) >= 1e-3
        assert relative_error(tied.coef_, model.coef_) >= 1e-3


def test_alignment_is_the_limit_of_sampling(rng):
    """Ridge on N rows drawn from the Gaussians comes as near as N^-1/2: the slope of the error says so."""
    X, y = data(rng, [0, 1, 2], n=40)
    model = gm.AlignedClassifier(covariance="full", class_totals=[1.0, 1.0, 1.0], ridge=0.01).fit(X, y)
    _, _, means = heads.class_means(X, y)
    roots = [np.linalg.cholesky(np.cov(X[y == c].T, bias=True)) for c in range(3)]
    sizes = np.array([300, 3000, 30_000])
    errors = []
    for n in sizes:
        found = []
        for _ in range(8):
            rows = np.vstack([m + rng.normal(size=(n, 6)) @ L.T for m, L in zip(means, roots, strict=True)])
            sampled = weights_of(rows, np.repeat([0, 1, 2], n), 0.01, weight=np.full(3 * n, 1 / n))[0]
            found.append(relative_error(sampled, model.coef_) ** 2)
        errors.append(np.sqrt(np.mean(found)))
    slope = np.polyfit(np.log(sizes), np.log(errors), 1)[0]
    assert -0.65 <= slope <= -0.35
    assert errors[-1] < 0.05


@pytest.mark.parametrize("covariance", ["tied", "full"])
@pytest.mark.parametrize("intercept", [True, False])
def test_alignment_is_its_definition(rng, covariance, intercept):
    X, y = data(rng, [0, 1, 2])
    totals = [3.0, 200.0, 11.0]
    model = gm.AlignedClassifier(covariance=covariance, class_totals=totals, ridge=0.2, fit_intercept=intercept).fit(
        X, y
    )
    coef, offset = heads.aligned(X, y, totals, 0.2, covariance, intercept)
    assert relative_error(model.coef_, coef) <= 1e-10
    assert np.abs(model.intercept_ - offset).max() <= 1e-10
    other = heads.aligned(X, y, totals, 0.2, "full" if covariance == "tied" else "tied", intercept)[0]
    assert relative_error(other, coef) >= 1e-3  # negative control


def test_alignment_with_the_weights_of_air_is_air(rng):
    """w_c = pi_c n_c with AIR's pi, and biased moments: the same weights as those of balanced rows."""
    X, y = data(rng, [0, 1, 2])
    keep = rng.permutation(len(y))[:110]
    X, y = X[keep], y[keep]
    totals = np.array([class_incremental.balanced_weights(y)[y == c].sum() for c in range(3)])
    assert np.ptp(totals) <= 1e-12 * totals[0]
    model = gm.AlignedClassifier(covariance="full", class_totals=totals, ridge=0.3).fit(X, y)
    air = gm.AnalyticClassifier(ridge=0.3, class_weight="air").fit(X, y)
    assert relative_error(model.coef_, air.coef_) <= 1e-10
    assert np.abs(model.intercept_ - air.intercept_).max() <= 1e-10
    unbiased = heads.aligned(np.vstack([X, X[:1]]), np.append(y, y[0]), totals, 0.3)[0]
    assert relative_error(unbiased, air.coef_) >= 1e-6  # negative control: other moments


def imbalanced(rng, d=6):
    """Classes of 120, 30 and 9 rows."""
    X, y = data(rng, [0, 1, 2], n=120, d=d)
    keep = np.concatenate([np.flatnonzero(y == c)[:n] for c, n in enumerate((120, 30, 9))])
    keep = rng.permutation(keep)
    return X[keep], y[keep]


@pytest.mark.parametrize("intercept", [True, False])
@pytest.mark.parametrize("weighted", [True, False])
def test_replay_is_its_closed_form(rng, intercept, weighted):
    X, y = imbalanced(rng)
    weight = rng.uniform(0.5, 2.0, len(y)) if weighted else None
    coef, offset = heads.topped_up(X, y, 0.3, weight, intercept)
    for order in (np.arange(len(y)), np.argsort(y, kind="stable"), rng.permutation(len(y))):
        model = gm.ReplayClassifier(ridge=0.3, fit_intercept=intercept)
        for rows in np.array_split(order, 7):
            model.partial_fit(X[rows], y[rows], sample_weight=None if weight is None else weight[rows])
        assert relative_error(model.coef_, coef) <= 1e-10
        assert np.abs(model.intercept_ - offset).max() <= 1e-10
    assert model.class_count_.tolist() == [120, 30, 9]
    plain = gm.AnalyticClassifier(ridge=0.3, fit_intercept=intercept).fit(X, y, sample_weight=weight)
    assert relative_error(plain.coef_, coef) >= 1e-2  # negative control: the small classes were filled up
    air = gm.AnalyticClassifier(ridge=0.3, fit_intercept=intercept, class_weight="air").fit(X, y)
    assert relative_error(air.coef_, coef) >= 1e-3  # ... by diagonal Gaussians, not by their own covariances
    # Classes of one size have nothing to fill up.
    even = np.concatenate([np.flatnonzero(y == c)[:9] for c in range(3)])
    same = gm.ReplayClassifier(ridge=0.3, fit_intercept=intercept).fit(X[even], y[even])
    plain = gm.AnalyticClassifier(ridge=0.3, fit_intercept=intercept).fit(X[even], y[even])
    assert relative_error(same.coef_, plain.coef_) <= 1e-12


def test_replay_is_the_limit_of_drawing(rng):
    """Rows that are drawn, ever more of them and each counting less, come as near as the root of their number."""
    X, y = imbalanced(rng)
    model = gm.ReplayClassifier(ridge=0.3).fit(X, y)
    copies = np.array([1, 10, 100])
    errors = []
    for many in copies:
        found = []
        for _ in range(12):
            rows, labels, weight = heads.drawn_rows(X, y, many, rng)
            assert len(rows) == len(y) + (90 + 111) * many
            drawn = gm.AnalyticClassifier(ridge=0.3).fit(rows, labels, sample_weight=weight)
            found.append(relative_error(drawn.coef_, model.coef_) ** 2)
        errors.append(np.sqrt(np.mean(found)))
    slope = np.polyfit(np.log(copies), np.log(errors), 1)[0]
    assert -0.65 <= slope <= -0.35
    assert errors[-1] < 0.05
    # Negative control: Gaussians of twice the deviation do not come near.
    spread = [heads.drawn_rows(X, y, 100, rng) for _ in range(4)]
    wide = []
    for rows, labels, weight in spread:
        mean = np.array([X[y == c].mean(axis=0) for c in range(3)])[labels]
        rows = np.where((np.arange(len(rows)) < len(y))[:, np.newaxis], rows, mean + 2 * (rows - mean))
        drawn = gm.AnalyticClassifier(ridge=0.3).fit(rows, labels, sample_weight=weight)
        wide.append(relative_error(drawn.coef_, model.coef_))
    assert min(wide) > 3 * errors[-1]


def test_replay_forgets_grows_and_fills_up_behind_a_map(rng):
    X, y = imbalanced(rng)
    more, labels = data(rng, [1, 3])
    model = gm.ReplayClassifier(ridge="gcv").fit(X, y)
    coef = model.coef_
    model.partial_fit(more, labels).forget(more, labels)
    assert model.classes_.tolist() == [0, 1, 2]
    assert relative_error(model.coef_, coef) <= 1e-9
    copy = pickle.loads(pickle.dumps(model))
    assert np.array_equal(copy.coef_, model.coef_) and copy.ridge_ == model.ridge_
    features = gm.RandomFeatures(20, random_state=1)
    mapped = gm.ReplayClassifier(features, ridge=0.5).fit(X, y)
    expected, _ = heads.topped_up(features.fit(X).transform(X), y, 0.5)
    assert relative_error(mapped.coef_, expected) <= 1e-10
    with pytest.raises(ValueError, match="ridge must be"):
        gm.ReplayClassifier(ridge=-1.0).fit(X, y)
    before = model.coef_
    with pytest.raises(ValueError, match="row 0"):
        model.partial_fit(np.full((1, 6), np.nan), [0])
    assert np.array_equal(model.coef_, before)


@pytest.mark.parametrize("kind", features.KINDS)
@pytest.mark.parametrize("activation", ["relu", "identity"])
@pytest.mark.parametrize("weighted, intercept", [(False, True), (True, False)])
def test_replay_in_front_of_a_map_is_its_closed_form(rng, kind, activation, weighted, intercept):
    """Section 1.5, AEF-OCL: for features that are not linear, the moments of the mapped Gaussian."""
    X, y = imbalanced(rng)
    weight = rng.uniform(0.5, 2.0, len(y)) if weighted else None
    mapped = gm.RandomFeatures(13, kind=kind, activation=activation, bias=0.7, random_state=5)
    # The weights and the offsets of the map, from what it does.
    linear = gm.RandomFeatures(13, kind=kind, activation="identity", bias=0.7, random_state=5).fit(X)
    offset = linear.transform(np.zeros((1, 6)))[0]
    B = linear.transform(np.eye(6)) - offset
    coef, constant = heads.topped_up_inputs(X, y, 0.3, B, offset, weight, intercept, rectify=activation == "relu")
    model = gm.ReplayClassifier(mapped, ridge=0.3, fit_intercept=intercept, space="inputs")
    for rows in np.array_split(rng.permutation(len(y)), 5):
        model.partial_fit(X[rows], y[rows], sample_weight=None if weight is None else weight[rows])
    # 10 eps |G| / ridge is 1e-11 and less; the reference integrates to about 1e-13.
    assert relative_error(model.coef_, coef) <= 1e-10
    assert np.abs(model.intercept_ - constant).max() <= 1e-10
    # Negative control: Gaussians behind the map, with uncorrelated features, are another model.
    behind = gm.ReplayClassifier(mapped, ridge=0.3, fit_intercept=intercept).fit(X, y, sample_weight=weight)
    assert relative_error(behind.coef_, coef) >= 1e-2


def test_replay_in_front_of_a_map_is_the_limit_of_drawing(rng):
    """Section 1.5, AEF-OCL as published: rows drawn in front of the map come near as the root of their number."""
    X, y = imbalanced(rng)
    mapped = gm.RandomFeatures(20, bias=0.5, random_state=2)
    models = {space: gm.ReplayClassifier(mapped, ridge=1.0, space=space).fit(X, y) for space in ("inputs", "features")}
    copies = np.array([1, 10, 100])
    errors = {space: [] for space in models}
    for many in copies:
        found = {space: [] for space in models}
        for _ in range(12):
            rows, labels, weight = heads.drawn_rows(X, y, many, rng)
            drawn = gm.AnalyticClassifier(mapped, ridge=1.0).fit(rows, labels, sample_weight=weight)
            for space, model in models.items():
                found[space].append(relative_error(drawn.coef_, model.coef_) ** 2)
        for space in models:
            errors[space].append(np.sqrt(np.mean(found[space])))
    slope = np.polyfit(np.log(copies), np.log(errors["inputs"]), 1)[0]
    assert -0.65 <= slope <= -0.35
    assert errors["inputs"][-1] < 0.06
    # Negative control: what the Gaussians behind the map give is not the limit, however much is drawn.
    assert errors["features"][-1] > 3 * errors["inputs"][-1]


def test_replay_of_classes_that_do_not_vary(rng):
    """A class of one row, and a constant input: the Gaussian is the row, or has no width in that direction."""
    X, y = imbalanced(rng)
    X[:, 2] = 1.5
    one = np.flatnonzero(y == 2)[0]
    rows = np.append(np.flatnonzero(y == 0), one)
    mapped = gm.RandomFeatures(15, bias=0.5, random_state=3)
    model = gm.ReplayClassifier(mapped, ridge=0.2, space="inputs").fit(X[rows], y[rows])
    weight = np.where(y[rows] == 2, 120.0, 1.0)
    plain = gm.AnalyticClassifier(mapped, ridge=0.2).fit(X[rows], y[rows], sample_weight=weight)
    assert relative_error(model.coef_, plain.coef_) <= 1e-9
    again = gm.ReplayClassifier(mapped, ridge=0.2, space="inputs").fit(X, y)
    assert np.isfinite(again.coef_).all()


def test_replay_in_front_of_a_map_forgets_and_is_kept_whole(rng, tmp_path):
    X, y = imbalanced(rng)
    more, labels = data(rng, [1, 3])
    mapped = gm.RandomFeatures(16, random_state=1)
    model = gm.ReplayClassifier(mapped, ridge="gcv", space="inputs").fit(X, y)
    coef = model.coef_
    model.partial_fit(more, labels)
    assert relative_error(model.coef_[:3], coef) >= 1e-3
    model.forget(more, labels)
    assert relative_error(model.coef_, coef) <= 1e-9
    model.save(tmp_path / "model")
    gm.ReplayClassifier(mapped, ridge=2.0).fit(X, y).set_params(space="inputs").save(tmp_path / "behind")
    assert gm.load(tmp_path / "behind").space == "features"  # as it was when it learnt
    older = gm.ReplayClassifier(ridge=2.0).fit(X, y)
    state = older.__getstate__()
    del state["space"]  # a pickle of a version that knew one space
    unpickled = gm.ReplayClassifier.__new__(gm.ReplayClassifier)
    unpickled.__setstate__(state)
    assert unpickled.space == "features" and np.array_equal(unpickled.coef_, older.coef_)
    for copy in (pickle.loads(pickle.dumps(model)), gm.load(tmp_path / "model")):
        assert copy.space == "inputs" and np.array_equal(copy.coef_, model.coef_)
        once_more = pickle.loads(pickle.dumps(model)).partial_fit(more, labels)
        assert np.array_equal(copy.partial_fit(more, labels).coef_, once_more.coef_)
    # Without a map both spaces are one.
    both = [gm.ReplayClassifier(ridge=0.3, space=space).fit(X, y).coef_ for space in ("features", "inputs")]
    assert np.array_equal(*both)
    answers = {
        gm.ReplayClassifier(mapped, space="inputs", n_jobs=n_jobs).fit(X, y).coef_.tobytes() for n_jobs in (1, 2, 3, -1)
    }
    assert len(answers) == 1


def test_files_of_replay_that_lie_about_inputs(rng):
    X, y = imbalanced(rng)
    mapped = gm.RandomFeatures(8)
    model = gm.ReplayClassifier(mapped, space="inputs").fit(X, y)
    data = model._learnt.model.save_bytes("")
    assert gm._core.load_class_moments(data, "cpu", 0)[0].keeps_inputs
    said = b'\\"inputs\\":true'
    assert data.count(said) == 1
    for lie in (b'\\"inputs\\":1   ', b'\\"inputs\\":null'):
        with pytest.raises(gm.FormatError):
            gm._core.load_class_moments(data.replace(said, lie), "cpu", 0)
    # Sums without those of the inputs, or with them, in the place of the others.
    behind = gm.ReplayClassifier(mapped).fit(X, y)
    for one, other in ((model, behind), (behind, model)):
        parts = one._parts()
        parts.models["moments"] = other._parts().models["moments"]
        with pytest.raises(ValueError, match="sums of other rows"):
            gm.ReplayClassifier(mapped)._take_parts(parts, "cpu", None)


def test_maps_that_replay_does_not_know_are_refused(rng):
    X, y = imbalanced(rng)
    for wrong, named in (
        (gm.RandomFeatures(8, activation="tanh"), "'tanh'"),
        (gm.RBFFeatures(5), "none of its own"),
        (gm.FeatureChain([gm.RandomFeatures(8)]), "none of its own"),
    ):
        with pytest.raises(ValueError, match=f"activation 'relu' or 'identity' alone.*{named}"):
            gm.ReplayClassifier(wrong, space="inputs").fit(X, y)
        gm.ReplayClassifier(wrong).fit(X, y)
    with pytest.raises(ValueError, match="space must be one of"):
        gm.ReplayClassifier(space="rows").fit(X, y)


@pytest.mark.parametrize("covariance", ["tied", "full"])
def test_alignment_forgets_and_pickles(rng, covariance):
    X, y = data(rng, [0, 1, 2])
    more, labels = data(rng, [1, 3])
    model = gm.AlignedClassifier(covariance=covariance, ridge="gcv").fit(X, y)
    coef = model.coef_
    model.partial_fit(more, labels).forget(more, labels)
    assert model.classes_.tolist() == [0, 1, 2]
    assert relative_error(model.coef_, coef) <= 1e-9
    copy = pickle.loads(pickle.dumps(model))
    assert np.array_equal(copy.coef_, model.coef_) and np.array_equal(copy.class_count_, model.class_count_)
    assert copy.ridge_ == model.ridge_ and copy.report_.method == "cholesky"
    np.testing.assert_allclose(copy.predict_proba(X).sum(axis=1), 1.0)


def many_features(rng, counts=(300, 90, 40), d=24):
    """Classes whose covariances have few strong directions, each its own."""
    y = np.repeat(np.arange(len(counts)), counts)
    spread = 0.8 ** np.arange(d)
    blocks = [
        rng.normal(size=d) + rng.normal(size=(n, d)) * spread @ np.linalg.qr(rng.normal(size=(d, d)))[0] for n in counts
    ]
    order = rng.permutation(len(y))
    return np.vstack(blocks)[order], y[order]


def batches_of(X, y, size, step=64):
    """The rows of each class as the classifier takes them: by calls, and by blocks of 64 within a call."""
    out = {c: [] for c in np.unique(y)}
    for begin in range(0, len(y), size):
        for c, blocks in out.items():
            rows = X[begin : begin + size][y[begin : begin + size] == c]
            blocks += [rows[k : k + step] for k in range(0, len(rows), step)]
    return out


@pytest.mark.parametrize("intercept", [True, False])
@pytest.mark.parametrize("rank", [0, 1, 5, 23])
@pytest.mark.parametrize("size", [50, 430])
def test_short_covariances_are_their_definition(rng, rank, size, intercept):
    """A few directions and the variances of each class, by one SVD a block; the bound holds, and says something."""
    X, y = many_features(rng)
    totals = np.array([50.0, 100.0, 200.0])
    params = {"covariance": "diagonal"} if rank == 0 else {"covariance": "low_rank", "rank": rank}
    model = gm.AlignedClassifier(class_totals=totals, ridge=2.0, fit_intercept=intercept, **params)
    for begin in range(0, len(y), size):
        model.partial_fit(X[begin : begin + size], y[begin : begin + size])
    G, Q, bound = np.zeros((24, 24)), np.zeros((24, 3)), 0.0
    for c, blocks in batches_of(X, y, size).items():
        n = sum(len(rows) for rows in blocks)
        mean, S, most = heads.short_scatter(blocks, rank)
        G += totals[c] * (S / n + np.outer(mean, mean))
        Q[:, c] = totals[c] * mean
        bound += totals[c] / n * most
    means = Q / totals
    coef, offset = heads.ridge_of_sums(totals.sum(), means @ totals, totals, G, Q, 2.0, intercept)
    assert relative_error(model.coef_, coef) <= 1e-9
    assert np.abs(model.intercept_ - offset).max() <= 1e-9
    assert model.gram_error_bound_ == pytest.approx(bound, rel=1e-9)
    full = gm.AlignedClassifier(None, "full", totals, ridge=2.0, fit_intercept=intercept).fit(X, y)
    assert full.gram_error_bound_ == 0
    gap = model.state_.moments()[0] - full.state_.moments()[0]
    rounding = 1e-11 * np.linalg.norm(full.state_.moments()[0])
    assert np.abs(np.diag(gap)).max() <= rounding  # variances are exact, and so is the trace
    error = np.linalg.norm(gap, 2)
    assert 0.02 * bound <= error <= bound
    assert np.linalg.norm(full.coef_ - model.coef_) <= bound / 2.0 * np.linalg.norm(model.coef_)
    # Negative control: the directions matter, and half of the true error is no bound.
    variances = gm.AlignedClassifier(None, "diagonal", totals, ridge=2.0, fit_intercept=intercept).fit(X, y)
    if rank == 23:
        assert error < 0.01 * np.linalg.norm(variances.state_.moments()[0] - full.state_.moments()[0], 2)
    assert model.nbytes == 3 * 24 * (min(rank, 24) + 2) * 8 < full.nbytes


def test_all_directions_are_the_full_covariances(rng):
    X, y = many_features(rng)
    full = gm.AlignedClassifier(covariance="full", ridge="gcv").fit(X, y)
    for rank in (24, 1000):
        model = gm.AlignedClassifier(covariance="low_rank", rank=rank, ridge="gcv").fit(X, y)
        assert relative_error(model.coef_, full.coef_) <= 1e-9
        assert model.gram_error_bound_ <= 1e-10
        assert model.nbytes == 3 * 24 * 26 * 8
    # Weights of rows, behind a map, sparse rows, far from the origin.
    weight = rng.integers(1, 4, len(y)).astype(float)
    features = gm.RandomFeatures(15, random_state=1)
    for rows in (X, X + 1e5):
        expected = gm.AlignedClassifier(features, "full").fit(rows, y, sample_weight=weight)
        model = gm.AlignedClassifier(features, "low_rank", rank=15).fit(rows, y, sample_weight=weight)
        assert relative_error(model.decision_function(rows), expected.decision_function(rows)) <= 1e-7
    repeated = gm.AlignedClassifier(covariance="low_rank", rank=24).fit(
        np.repeat(X, weight.astype(int), axis=0), np.repeat(y, weight.astype(int))
    )
    totals = np.full(3, repeated.n_samples_seen_ / 3)
    weighted = gm.AlignedClassifier(covariance="low_rank", rank=24, class_totals=totals)
    assert relative_error(weighted.fit(X, y, sample_weight=weight).coef_, repeated.coef_) <= 1e-9
    sparse = pytest.importorskip("scipy.sparse")
    thin = np.where(np.abs(X) > 0.5, X, 0.0)
    dense = gm.AlignedClassifier(covariance="low_rank", rank=3).fit(thin, y)
    csr = gm.AlignedClassifier(covariance="low_rank", rank=3).fit(sparse.csr_matrix(thin), y)
    assert relative_error(csr.coef_, dense.coef_) <= 1e-9


@pytest.mark.parametrize("params", [{"covariance": "diagonal"}, {"covariance": "low_rank", "rank": 4}])
def test_short_covariances_in_files_and_errors(rng, tmp_path, params):
    X, y = many_features(rng)
    names = np.array(["ant", "bee", "cat"])[y]
    model = gm.AlignedClassifier(ridge=0.5, **params).fit(X[:300], names[:300])
    model.save(tmp_path / "model")
    for again in (gm.load(tmp_path / "model"), pickle.loads(pickle.dumps(model))):
        assert repr(again) == repr(model)
        assert np.array_equal(again.decision_function(X), model.decision_function(X))
        assert again.gram_error_bound_ == model.gram_error_bound_
        again.partial_fit(X[300:], names[300:])
        assert again.n_samples_seen_ == len(y)
    before, bound = model.coef_, model.gram_error_bound_
    bad = X[:9].copy()
    bad[7, 1] = np.inf
    with pytest.raises(ValueError, match="row 7"):
        model.partial_fit(bad, names[:9])
    with pytest.raises(ValueError, match="overflow"):
        model.partial_fit(1e200 * X[:9], names[:9])
    with pytest.raises(ValueError, match="only its strongest directions and its variances are kept"):
        model.forget(X[:3], names[:3])
    assert np.array_equal(model.coef_, before) and model.gram_error_bound_ == bound
    assert np.array_equal(model.class_count_, np.unique(names[:300], return_counts=True)[1])
    with pytest.raises(AttributeError, match="no gram_error_bound_"):
        gm.AlignedClassifier().fit(X, y).gram_error_bound_  # noqa: B018


def test_the_cut_of_air_by_directions(rng):
    """Balanced classes in few numbers: near those of all sums, and the nearer the more directions; with all, equal."""
    X, y = many_features(rng)
    air = gm.AnalyticClassifier(ridge=0.3, class_weight="air").fit(X, y)
    totals = np.array([class_incremental.balanced_weights(y)[y == c].sum() for c in range(3)])
    errors = []
    for rank in (0, 3, 9, 24):
        short = gm.AlignedClassifier(covariance="low_rank", rank=rank, class_totals=totals, ridge=0.3)
        for begin in range(0, len(y), 40):
            short.partial_fit(X[begin : begin + 40], y[begin : begin + 40])
        errors.append(relative_error(short.coef_, air.coef_))
        most = short.gram_error_bound_ / 0.3 * np.linalg.norm(short.coef_)
        assert errors[-1] * np.linalg.norm(air.coef_) <= most + 1e-9
    assert errors == sorted(errors, reverse=True) and errors[2] < 0.5 * errors[0] and errors[3] < 1e-9
    memory = gm.balanced_memory(3, 24, rank=9)
    assert memory["rank and variances"] == 3 * 24 * 11 * 8


@pytest.mark.parametrize(
    "params, message",
    [
        ({"covariance": "block"}, "covariance must be"),
        ({"covariance": "low_rank", "rank": -1}, "rank must be"),
        ({"covariance": "low_rank", "rank": 1.5}, "rank must be"),
        ({"class_totals": "equal"}, "class_totals must be"),
        ({"class_totals": [1.0, 0.0]}, "class_totals must be"),
        ({"ridge": -1.0}, "ridge must be"),
    ],
)
def test_bad_parameters(params, message):
    with pytest.raises(ValueError, match=message):
        gm.AlignedClassifier(**params).fit(np.eye(4), [0, 1, 0, 1])


def test_bad_input(rng):
    X, y = data(rng, [0, 1, 2])
    with pytest.raises(ValueError, match="class_totals has 2 values for 3 classes"):
        gm.AlignedClassifier(class_totals=[1.0, 2.0]).fit(X, y).predict(X)
    model = gm.TranslatedClassifier().fit(X, y)
    bad = X[:4].copy()
    bad[2, 0] = np.nan
    before = model.coef_
    with pytest.raises(ValueError, match="row 2"):
        model.partial_fit(bad, [0, 0, 3, 0])
    assert model.classes_.tolist() == [0, 1, 2] and np.array_equal(model.coef_, before)
    for name in ("merge", "calibrate"):
        assert not hasattr(model, name)


KINDS = {
    "translated": lambda: gm.TranslatedClassifier(ridge=0.5),
    "tied": lambda: gm.AlignedClassifier(ridge=0.5),
    "full": lambda: gm.AlignedClassifier(ridge=0.5, covariance="full"),
    "replay": lambda: gm.ReplayClassifier(ridge=0.5),
    "replay in front": lambda: gm.ReplayClassifier(gm.RandomFeatures(12), ridge=0.5, space="inputs"),
    "low_rank": lambda: gm.AlignedClassifier(ridge=0.5, covariance="low_rank", rank=2),
    "diagonal": lambda: gm.AlignedClassifier(ridge=0.5, covariance="diagonal"),
}
FORGETTING = [kind for kind in KINDS if kind not in ("low_rank", "diagonal")]


@pytest.mark.parametrize("kind", FORGETTING)
def test_every_change_is_seen_by_the_next_answer(rng, kind):
    X, y = data(rng, [0, 1, 2])
    second = np.arange(len(y)) % 3 == 0
    whole, rest = KINDS[kind]().fit(X, y), KINDS[kind]().fit(X[~second], y[~second])
    expected = {True: whole.decision_function(X), False: rest.decision_function(X)}
    assert np.abs(expected[True] - expected[False]).max() > 1e-4  # what a stale answer would be off by
    model = KINDS[kind]().fit(X[~second], y[~second])
    for change, there in (
        (lambda: model.partial_fit(X[second], y[second]), True),
        (lambda: model.forget(X[second], y[second]), False),
        (lambda: model.fit(X, y), True),
    ):
        change()
        np.testing.assert_allclose(model.decision_function(X), expected[there], rtol=0, atol=1e-9)
        assert relative_error(model.coef_, (whole if there else rest).coef_) <= 1e-9


@pytest.mark.parametrize("kind", KINDS)
def test_what_there_is_not_says_so(rng, kind):
    X, y = data(rng, [0, 1, 2])
    model = KINDS[kind]().fit(X, y)
    before = model.decision_function(X)
    for name in ("merge", "unmerge", "to_bytes", "calibrate", "close_classes"):
        assert not hasattr(model, name)
        with pytest.raises(AttributeError, match=f"an? {type(model).__name__} has no {name}"):
            getattr(model, name)
    with pytest.raises(AttributeError, match="has no unmerge"):
        gm.federated.remove_client(model, model)
    with pytest.raises(AttributeError, match="has no merge_sums"):
        gm.federated.merge_sums(model, gm.AnalyticClassifier().fit(X, y).state_, [0, 1, 2])
    assert np.array_equal(model.decision_function(X), before)


@pytest.mark.parametrize("covariance", ["tied", "full", "diagonal", "low_rank"])
def test_threads_do_not_change_a_bit_of_an_alignment(rng, covariance):
    X, y = rng.uniform(size=(30, 3)), np.arange(30) % 3
    answers = set()
    for n_jobs in (None, 1, 2, 3, 8) * 4:
        model = gm.AlignedClassifier(covariance=covariance, n_jobs=n_jobs).fit(X, y)
        model.score(X, y)
        answers.add(model.partial_fit(X, y).decision_function(X).tobytes())
    assert len(answers) == 1


@pytest.mark.parametrize("size", [1e-300, 1e-160, 1e150])
def test_small_weights_do_not_change_an_aligned_head(rng, size):
    X, y = data(rng, [0, 1, 2], n=30, d=4)
    plain, scaled = (
        gm.AlignedClassifier(class_totals=[1.0, 1.0, 1.0]).fit(X, y, sample_weight=np.full(len(X), s))
        for s in (1.0, size)
    )
    assert relative_error(scaled.decision_function(X), plain.decision_function(X)) < 1e-10
