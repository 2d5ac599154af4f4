"""All widths from one factor: weights, losses, leave-one-out errors, and files of which the beginning is enough."""

import os

import numpy as np
import pytest
from reference_path import leave_one_out

import gramian as gm
from gramian import FormatError


def problem(rng, n=70, d=12, k=3):
    X = rng.normal(size=(n, d)) + 2.0
    Y = X[:, : d // 2] @ rng.normal(size=(d // 2, k)) + rng.normal(size=(n, k))
    return X, Y


@pytest.mark.parametrize("standardize", [False, True])
@pytest.mark.parametrize("fit_intercept", [False, True])
@pytest.mark.parametrize("weighted", [False, True])
def test_the_three_identities(rng, standardize, fit_intercept, weighted):
    X, Y = problem(rng)
    weight = rng.uniform(0.0, 3.0, size=len(X)) if weighted else None
    options = {"fit_intercept": fit_intercept, "standardize": standardize}
    state = gm.GramState(X.shape[1], Y.shape[1], fit_intercept=fit_intercept).add(X, Y, weight)
    widths = np.arange(1, X.shape[1] + 1)
    found = state.prefix(widths, 0.3, standardize=standardize)
    curve = gm.nested_curve(X, Y, 0.3, sample_weight=weight, **options)
    losses = state.nested_losses(0.3, standardize=standardize)
    assert np.array_equal(losses, curve.losses)
    assert (np.diff(losses) <= 0).all()
    for k, solution in zip(widths, found, strict=True):
        alone = gm.GramState(k, Y.shape[1], fit_intercept=fit_intercept).add(X[:, :k], Y, weight)
        expected = alone.solve(0.3, standardize=standardize)
        assert solution.coef.shape == (Y.shape[1], k)
        np.testing.assert_allclose(solution.coef, expected.coef, rtol=1e-11, atol=1e-13)
        np.testing.assert_allclose(solution.intercept, expected.intercept, rtol=1e-11, atol=1e-12)
        loss = leave_one_out.prefix_loss(X, Y, k, 0.3, weight, fit_intercept, standardize)
        assert losses[k - 1] == pytest.approx(loss, rel=1e-11)
        score = leave_one_out.loo_score(X[:, :k], Y, 0.3, weight, fit_intercept, standardize)
        assert curve.scores[k - 1] == pytest.approx(score, rel=1e-10)
        assert solution.report.size == k
        assert solution.report.residual < 1e-15
        assert 1 <= solution.report.condition <= expected.report.condition * 1.5
    assert curve.best == np.argmin(curve.scores) + 1


def test_the_leading_block_of_an_inverse_is_no_nested_model(rng):
    X, Y = problem(rng, n=200, d=60)
    state = gm.GramState(60, 3, fit_intercept=False).add(X, Y)
    gram, cross = state.moments()
    inverse = np.linalg.inv(gram + np.eye(60))
    wrong = inverse[:30, :30] @ cross.T[:30]
    right = state.prefix([30], 1.0)[0].coef.T
    expected = np.linalg.solve(gram[:30, :30] + np.eye(30), cross.T[:30])
    np.testing.assert_allclose(right, expected, rtol=1e-9, atol=1e-12)
    assert np.linalg.norm(wrong - expected) > 0.1 * np.linalg.norm(expected)


def test_widths_across_tiles_in_both_types(rng):
    # More features than a tile of the factor has rows.
    X = rng.normal(size=(900, 530))
    Y = X[:, :40].sum(axis=1) + rng.normal(size=900)
    double = gm.nested_curve(X, Y, 1.0)
    single = gm.nested_curve(X, Y, 1.0, dtype="float32")
    for k in (1, 255, 256, 257, 530):
        errors = gm.loo_errors(X, Y, 1.0, width=k)
        assert double.scores[k - 1] == pytest.approx((errors**2).mean(), rel=1e-10)
        alone = gm.loo_errors(X[:, :k], Y, 1.0)
        np.testing.assert_allclose(errors, alone, rtol=1e-8, atol=1e-10)
    np.testing.assert_allclose(single.scores, double.scores, rtol=530 * 4 * 6e-8)


def test_bad_widths(rng):
    X, Y = problem(rng)
    state = gm.GramState(12, 3).add(X, Y)
    for widths in ([0], [13], [[1]], [1.5], "all"):
        with pytest.raises(ValueError, match="widths"):
            state.prefix(widths, 1.0)
    assert state.prefix([], 1.0) == []
    with pytest.raises(ValueError, match="ridge"):
        state.prefix([1], -1.0)
    with pytest.raises(np.linalg.LinAlgError):
        gm.GramState(3, 1).add(np.ones((5, 3)), np.arange(5.0)).prefix([1], 0.0)
    for width in (0, 13, -2):
        with pytest.raises(ValueError, match="width"):
            gm.AnalyticRegressor(width=width).fit(X, Y)
    with pytest.raises(ValueError, match="width must be None, an integer or 'loo'"):
        gm.AnalyticRegressor(width="best").fit(X, Y)
    with pytest.raises(ValueError, match="row 3"):
        gm.nested_curve(np.where(np.arange(70)[:, np.newaxis] == 3, np.nan, X), Y)


def test_estimators_predict_with_a_width(rng):
    X, Y = problem(rng)
    y = np.argmax(Y, axis=1)
    for kind, target in ((gm.AnalyticRegressor, Y), (gm.AnalyticClassifier, y)):
        narrow, alone = kind(width=5).fit(X, target), kind().fit(X[:, :5], target)
        method = "predict" if kind is gm.AnalyticRegressor else "decision_function"
        np.testing.assert_allclose(getattr(narrow, method)(X), getattr(alone, method)(X[:, :5]), rtol=1e-10, atol=1e-12)
        assert narrow.width_ == 5
        assert kind().fit(X, target).width_ == 12
        assert narrow.coef_.shape[-1] == 12
        assert not narrow.coef_[:, 5:].any()
        again = kind(width=5).partial_fit(X[:30], target[:30]).partial_fit(X[30:], target[30:])
        np.testing.assert_allclose(getattr(again, method)(X), getattr(narrow, method)(X), rtol=1e-10, atol=1e-12)
    narrow, alone = gm.AnalyticClassifier(width=5).fit(X, y), gm.AnalyticClassifier().fit(X[:, :5], y)
    np.testing.assert_allclose(narrow.predict_proba(X), alone.predict_proba(X[:, :5]), rtol=1e-9)
    sparse = pytest.importorskip("scipy.sparse")
    np.testing.assert_allclose(narrow.decision_function(sparse.csr_matrix(X)), narrow.decision_function(X), rtol=1e-10)


def test_width_by_leave_one_out(rng):
    X, Y = problem(rng, n=60, d=30)
    model = gm.AnalyticRegressor(ridge=0.5, width="loo").fit(X, Y)
    expected = np.array([leave_one_out.loo_score(X[:, :k], Y, 0.5) for k in range(1, 31)])
    np.testing.assert_allclose(model.loo_curve_, expected, rtol=1e-9)
    assert model.width_ == np.argmin(expected) + 1 < 30
    fixed = gm.AnalyticRegressor(ridge=0.5, width=model.width_).fit(X, Y)
    assert np.array_equal(model.coef_, fixed.coef_)
    grid = [1e-3, 1.0, 50.0]
    both = gm.AnalyticRegressor(ridge="loo", ridges=grid, width="loo").fit(X, Y)
    table = np.array([[leave_one_out.loo_score(X[:, :k], Y, r) for k in range(1, 31)] for r in grid])
    np.testing.assert_allclose(both.loo_scores_, table.min(axis=1), rtol=1e-9)
    place = np.unravel_index(table.argmin(), table.shape)
    assert (both.ridge_, both.width_) == (grid[place[0]], place[1] + 1)
    set_width = gm.AnalyticRegressor(ridge="loo", ridges=grid, width=7).fit(X, Y)
    np.testing.assert_allclose(set_width.loo_scores_, table[:, 6], rtol=1e-9)
    by_gcv = gm.AnalyticRegressor(ridge="gcv", ridges=grid, width="loo").fit(X, Y)
    assert by_gcv.ridge_ == gm.AnalyticRegressor(ridge="gcv", ridges=grid).fit(X, Y).ridge_
    mapped = gm.AnalyticRegressor(gm.RandomFeatures(40, activation="tanh"), width="loo").fit(X, Y)
    Z = mapped.feature_map_.transform(X)
    assert mapped.loo_curve_[19] == pytest.approx(leave_one_out.loo_score(Z[:, :20], Y, 1.0), rel=1e-8)
    for stream in (mapped, gm.AnalyticRegressor(width="loo")):
        with pytest.raises(ValueError, match="width='loo' needs all rows"):
            stream.partial_fit(X, Y)


def model_of(kind, rng, **params):
    X, Y = problem(rng)
    if kind == "regressor":
        return X, gm.AnalyticRegressor(ridge=0.5, **params).fit(X, Y)
    if kind == "mapped":
        return X, gm.AnalyticRegressor(gm.RBFFeatures(20), ridge=0.5, standardize=True, **params).fit(X, Y)
    return X, gm.AnalyticClassifier(ridge=0.5, **params).fit(X, np.array(["x", "y", "z"])[np.argmax(Y, axis=1)])


def scores(model, X):
    return model.decision_function(X) if isinstance(model, gm.AnalyticClassifier) else model.predict(X)


@pytest.mark.parametrize("kind", ["regressor", "mapped", "classifier"])
def test_the_beginning_of_a_nested_file_is_enough(rng, tmp_path, kind):
    X, model = model_of(kind, rng)
    path, cut = tmp_path / "nested", tmp_path / "cut"
    model.save(path, what="nested")
    whole = path.read_bytes()
    d, c = model.coef_.shape[-1], model.state_.n_outputs
    tail = 8 * (d * (d + 1) // 2 + d * (c + 2))  # the rows are the last thing in the file
    for k in (1, 5, d - 1, d):
        _, told = model_of(kind, np.random.default_rng(20240611), width=k)
        needed = len(whole) - tail + 8 * (k * (k + 1) // 2 + k * (c + 2))
        cut.write_bytes(whole[:needed])
        for source in (path, cut):
            found = gm.load(source, width=k)
            assert found.width_ == k
            assert found.ridge_ == 0.5
            np.testing.assert_allclose(scores(found, X), scores(told, X), rtol=1e-10, atol=1e-11)
            np.testing.assert_allclose(found.coef_, told.coef_, rtol=1e-9, atol=1e-12)
            if kind == "classifier":
                assert np.array_equal(found.predict(X), told.predict(X))
                np.testing.assert_allclose(found.predict_proba(X), told.predict_proba(X), rtol=1e-8)
        cut.write_bytes(whole[: needed - 1])
        with pytest.raises(FormatError, match="truncated"):
            gm.load(cut, width=k)
    cut.write_bytes(whole[:-8])
    with pytest.raises(FormatError, match="truncated"):
        gm.load(cut)
    everything = gm.load(path)
    assert everything.width_ == d
    np.testing.assert_allclose(scores(everything, X), scores(model, X), rtol=1e-10, atol=1e-11)
    with pytest.raises(NotImplementedError):
        everything.partial_fit(X, X[:, :3])


def test_nested_files_are_checked(rng, tmp_path):
    X, model = model_of("regressor", rng, width=4)
    path = tmp_path / "nested"
    model.save(path, what="nested")
    assert gm.load(path).width_ == 4
    np.testing.assert_allclose(gm.load(path).predict(X), model.predict(X), rtol=1e-11)
    for width in (0, 13, -1):
        with pytest.raises(ValueError, match="width"):
            gm.load(path, width=width)
    with pytest.raises(ValueError, match="width"):
        gm.load(path, width="3")
    again = tmp_path / "again"
    gm.load(path, width=3).save(again, what="weights")
    assert gm.load(again).width_ == 3
    assert np.array_equal(gm.load(again).predict(X), gm.load(path, width=3).predict(X))
    for what in ("full", "nested"):
        with pytest.raises(NotImplementedError):
            gm.load(path).save(again, what=what)
    model.save(path, what="full")
    with pytest.raises(ValueError, match="nested"):
        gm.load(path, width=3)
    model.state_.save(path)
    with pytest.raises(ValueError, match="nested"):
        gm.load(path, width=3)
    model.save(path, what="nested")
    damaged = bytearray(path.read_bytes())
    damaged[-8 * 5 - 1] = 0xFF  # the last diagonal of the factor
    path.write_bytes(damaged)
    with pytest.raises(FormatError):
        gm.load(path, width=12)
    assert gm.load(path, width=11).width_ == 11
    assert os.listdir(tmp_path).count("nested") == 1


@pytest.mark.parametrize("standardize", [False, True])
def test_the_bound_of_removals_is_read_again(rng, tmp_path, standardize):
    X, Y = problem(rng, d=20)
    gone = 1e3 * rng.normal(size=(10, 20)), rng.normal(size=(10, Y.shape[1]))
    model = gm.AnalyticRegressor(ridge=0.5, standardize=standardize).fit(X, Y)
    model.save(tmp_path / "model", what="nested")
    assert gm.load(tmp_path / "model").report_.removal_bound == 0
    model.partial_fit(*gone).forget(*gone)
    model.save(tmp_path / "model", what="nested")
    for width in (7, 20):
        direct = gm.AnalyticRegressor(ridge=0.5, standardize=standardize, width=width)
        direct.fit(X, Y).partial_fit(*gone).forget(*gone)
        told, found = direct.report_.removal_bound, gm.load(tmp_path / "model", width=width).report_.removal_bound
        # The file has the ridge alone as a bound of the smallest eigenvalue, which an estimate of at most ten times it
        # replaces where the sums are at hand.
        kept = X[:, :width] / (X[:, :width].std(axis=0) if standardize else 1.0)
        smallest = np.linalg.eigvalsh(np.cov(kept.T, bias=True) * len(X)).min() + 0.5
        assert told * (1 - 1e-6) <= found <= 10 * told * smallest / 0.5
        assert found > 1e-12


def test_the_choice_is_saved_with_a_nested_file(rng, tmp_path):
    X, Y = problem(rng, d=20)
    model = gm.AnalyticRegressor(ridge="loo", ridges=[0.1, 5.0], width="loo").fit(X, Y)
    for what in ("nested", "full", "weights"):
        model.save(tmp_path / "model", what=what)
        found = gm.load(tmp_path / "model")
        assert (found.width_, found.ridge_) == (model.width_, model.ridge_)
        assert np.array_equal(found.loo_curve_, model.loo_curve_)
        np.testing.assert_allclose(found.predict(X), model.predict(X), rtol=1e-10)
