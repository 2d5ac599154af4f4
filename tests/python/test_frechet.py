"""Frechet-mean prediction against the full table, known answers and graph searches of SciPy."""

import pickle

import numpy as np
import pytest
from reference_path import targets as reference

import gramian as gm
from gramian import FrechetPredictor, as_probabilities, embedding_metric, graph_metric, hierarchy_metric

EPS = np.finfo(np.float64).eps


def dyadic(rng, n, k):
    """Rows of multiples of 1/64 that sum to 1, with many ties."""
    return rng.multinomial(64, np.ones(k) / k, size=n) / 64


def random_tree(rng, n, depth=None):
    """Parents, with node numbers that say nothing about depth; depth: about so many nodes back."""
    order = rng.permutation(n)
    parents = np.full(n, -1)
    for place in range(1, n):
        low = 0 if depth is None else max(0, place - depth)
        parents[order[place]] = order[rng.integers(low, place)]
    return parents


def probabilities(rng, n, k, sparsity=0.3):
    P = rng.random((n, k)) * (rng.random((n, k)) > sparsity)
    P[:, 0] += 1e-3
    return P / P.sum(axis=1, keepdims=True)


def check(predictor, P, squared):
    """The predictions are minima of the full table up to rounding, and the costs its values."""
    found, costs = predictor.predict_places(P)
    table = P @ squared
    bound = 8 * P.shape[1] * EPS * max(squared.max(), 1)
    np.testing.assert_allclose(costs, table.min(axis=1), rtol=0, atol=bound)
    assert (table[np.arange(len(P)), found] <= table.min(axis=1) + 2 * bound).all()


@pytest.mark.parametrize("dtype", [None, "float32"])
@pytest.mark.parametrize("tile", [1, 3, 4096])
def test_zero_one_distances_are_argmax(rng, dtype, tile):
    P = dyadic(rng, 500, 7)
    assert (np.sort(P, axis=1)[:, -1] == np.sort(P, axis=1)[:, -2]).any()  # there are ties
    predictor = FrechetPredictor(1.0 - np.eye(7), dtype=dtype, tile=tile)
    assert np.array_equal(predictor.predict(P), np.argmax(P, axis=1))


def test_path_reaches_what_was_never_observed():
    P = [[0.5, 0.5], [1.0, 0.0], [0.0, 1.0]]
    path = np.abs(np.subtract.outer(np.arange(3), np.arange(3)))
    adjacency = path == 1
    for metric in (path, path[[0, 2]], hierarchy_metric([-1, 0, 1]), graph_metric(adjacency)):
        assert list(FrechetPredictor(metric, observed=[0, 2]).predict(P)) == [1, 0, 2]
    assert list(FrechetPredictor(embedding_metric(np.arange(3.0)[:, np.newaxis]), observed=[0, 2]).predict(P)) == [
        1,
        0,
        2,
    ]


def test_complete_graph_never_leaves_the_observed(rng):
    observed = np.array([3, 5, 8])
    complete = graph_metric(1 - np.eye(12))
    P = dyadic(rng, 300, 3)
    found = FrechetPredictor(complete, observed=observed).predict(P)
    assert np.array_equal(found, observed[np.argmax(P, axis=1)])


@pytest.mark.parametrize("n, k, depth", [(1, 1, None), (2, 2, None), (60, 9, None), (200, 200, 3), (300, 20, 2)])
@pytest.mark.parametrize("weighted", [False, True])
def test_trees(rng, n, k, depth, weighted):
    parents = random_tree(rng, n, depth)
    lengths = rng.integers(0, 5, size=n).astype(float) if weighted else None
    observed = rng.permutation(n)[:k]
    metric = hierarchy_metric(parents, lengths)
    table = reference.tree_distances(parents, np.ones(n) if lengths is None else lengths, observed)
    assert np.array_equal(metric.distances(observed), table)
    assert np.array_equal(metric.distances(observed, 1, n), table[:, 1:])
    # Whole numbers and dyadic weights: no rounding, so ties go to the lowest label exactly.
    P = dyadic(rng, 64, k)
    predictor = FrechetPredictor(metric, observed=observed)
    found, costs = predictor.predict_places(P)
    assert np.array_equal(found, reference.frechet(P, table**2))
    assert np.array_equal(costs, (P @ table**2).min(axis=1))
    assert np.array_equal(found, FrechetPredictor(table).predict(P))
    check(predictor, probabilities(rng, 64, k), table**2)


def test_trees_of_real_lengths(rng):
    parents, lengths = random_tree(rng, 150, 4), rng.random(150)
    observed = rng.permutation(150)[:25]
    table = reference.tree_distances(parents, lengths, observed)
    metric = hierarchy_metric(parents, lengths)
    np.testing.assert_allclose(metric.distances(observed), table, rtol=0, atol=600 * EPS * lengths.sum())
    found, costs = FrechetPredictor(metric, observed=observed).predict_places(probabilities(rng, 90, 25))
    rng2 = table**2
    assert costs.shape == (90,) and (costs <= rng2.max()).all()
    check(FrechetPredictor(metric, observed=observed), probabilities(rng, 90, 25), rng2)


def test_deep_tree_needs_no_stack():
    n = 200_000
    metric = hierarchy_metric(np.arange(-1, n - 1))
    assert list(FrechetPredictor(metric, observed=[0, n - 1]).predict([[0.5, 0.5], [0.25, 0.75]])) == [
        n // 2 - 1,
        round(0.75 * (n - 1)),
    ]


@pytest.mark.parametrize("weighted", [False, True])
def test_graphs(rng, weighted):
    sparse = pytest.importorskip("scipy.sparse", reason="SciPy is not installed")
    from scipy.sparse.csgraph import shortest_path

    matrix = sparse.random(120, 120, density=0.05, random_state=3, format="csr")
    ring = sparse.coo_matrix((np.full(120, 2.0), (np.arange(120), (np.arange(120) + 1) % 120)), shape=(120, 120))
    matrix = (matrix + ring).tocsr()  # directed, and every node can be reached
    observed = rng.permutation(120)[:15]
    lengths = matrix.toarray() if weighted else (matrix.toarray() != 0).astype(float)
    table = reference.graph_distances(lengths, observed)
    scipys = shortest_path(matrix, method="D", unweighted=not weighted, indices=observed)
    np.testing.assert_allclose(scipys, table, rtol=16 * EPS)
    for adjacency in (matrix, matrix.toarray(), matrix.tocoo()):
        metric = graph_metric(adjacency, weighted=weighted)
        np.testing.assert_allclose(metric.distances(observed), table, rtol=4 * EPS if weighted else 0)
    np.testing.assert_allclose(metric.distances(observed, 7, 30), table[:, 7:30], rtol=4 * EPS)
    check(FrechetPredictor(metric, observed=observed, tile=13), probabilities(rng, 40, 15), table**2)
    assert not np.array_equal(table, reference.graph_distances(lengths.T, observed))  # the control: edges have a way
    with pytest.raises(ValueError, match=r"no path leads from observed label 1 to label 0"):
        FrechetPredictor(graph_metric(np.triu(np.ones((3, 3)), 1)), observed=[1]).predict([[1.0]])


@pytest.mark.parametrize("offset", [0.0, 1e6])
def test_embedding_shortcut_is_the_full_table(rng, offset):
    vectors = rng.integers(-8, 9, size=(500, 6)) / 4.0
    observed = rng.permutation(500)[:16]
    squared = ((vectors[observed, np.newaxis] - vectors) ** 2).sum(axis=2)
    predictor = FrechetPredictor(embedding_metric(vectors + offset), observed=observed, tile=77)
    P = probabilities(rng, 200, 16)
    check(predictor, P, squared)
    expected = reference.frechet(P, squared)
    table = np.sort(P @ squared, axis=1)
    clear = table[:, 1] - table[:, 0] > 1e-9
    assert clear.mean() > 0.8
    assert np.array_equal(predictor.predict(P)[clear], expected[clear])
    assert np.array_equal(predictor.predict(3 * P), predictor.predict(P))
    # Negative control: the nearest observed label is another rule.
    assert (observed[np.argmax(P, axis=1)] != expected).any()


def test_forms_of_a_table(rng, tmp_path):
    points = rng.normal(size=(90, 3))
    table = np.sqrt(((points[:, np.newaxis] - points) ** 2).sum(axis=2))
    observed = rng.permutation(90)[:10]
    P = probabilities(rng, 300, 10)
    expected = reference.frechet(P, table[observed] ** 2)
    mapped = np.memmap(tmp_path / "table", dtype=np.float64, mode="w+", shape=(10, 90))
    mapped[:] = table[observed]
    forms = {
        "square": FrechetPredictor(table, observed=observed, tile=17),
        "rows": FrechetPredictor(table[observed], observed=observed, tile=17),
        "list": FrechetPredictor(table[observed].tolist(), observed=observed),
        "mapped": FrechetPredictor(mapped, observed=observed, tile=20),
        "squared": FrechetPredictor(table**2, observed=observed, squared=True),
        "function": FrechetPredictor(lambda a, b: table[observed, a:b], observed, labels=np.arange(90), tile=7),
        "threads": FrechetPredictor(table, observed=observed, n_jobs=3),
    }
    for name, predictor in forms.items():
        assert np.array_equal(predictor.predict(P), expected), name
    single = FrechetPredictor(table.astype(np.float32), observed=observed, dtype="float32").predict(
        P.astype(np.float32)
    )
    assert (single == expected).mean() > 0.99
    names = np.array([f"label {k:02d}" for k in range(90)])[::-1]
    named = FrechetPredictor(table, observed=names[observed], labels=names)
    assert np.array_equal(named.predict(P), names[expected])
    copy = pickle.loads(pickle.dumps(FrechetPredictor(hierarchy_metric([-1, 0, 1]), [0, 2])))
    assert list(copy.predict([[0.5, 0.5]])) == [1]
    assert "TreeMetric(3 labels)" in repr(copy)


def test_memory_grows_with_the_tile_and_not_with_labels_or_rows():
    """Section 1.14: memory is that of one tile and of 256 rows, however many labels and rows there are.

    With the law, 500,000 labels, 1,000 observed ones and tiles of 4,096 take 4 (1000 + 256) 4096 bytes and little more.
    """
    k = 64

    def peak(n_labels, n_rows, tile):
        P = np.full((n_rows, k), 1 / k, dtype=np.float32)  # dyadic: no rounding, so the first of equals wins
        predictor = FrechetPredictor(
            lambda a, b: np.ones((k, b - a), dtype=np.float32),
            labels=np.arange(n_labels),
            squared=True,
            dtype="float32",
            tile=tile,
        )
        gm._core.reset_memory_stats()
        before = gm._core.memory_stats()["live"]
        assert (predictor.predict(P) == 0).all()
        return gm._core.memory_stats()["peak"] - before

    for tile in (250, 1000, 4000):
        peaks = {peak(n_labels, 256, tile) for n_labels in (4_000, 16_000, 64_000)}
        assert len(peaks) == 1
        assert 4 * (k + 256) * tile <= min(peaks) <= 4 * (k + 256) * tile + 4 * 256 * k + 4096
        assert peak(4_000, 1024, tile) == min(peaks)
    # The control: one tile of all labels is the whole table.
    assert peak(64_000, 256, 64_000) >= 4 * (k + 256) * 64_000 > 10 * min(peaks)


def test_half_a_million_labels_in_less_than_a_gigabyte():
    """A thousand observed labels and 256 rows at a time: the table alone would be 2 GB. Few rows here, to be quick."""
    n_labels, k, rows, tile = 500_000, 1000, 8, 4000
    distances = np.ones((k, tile), dtype=np.float32)
    hit = 345_678

    def table(a, b):
        part = distances[:, : b - a]
        if a <= hit < b:
            part = part.copy()
            part[:, hit - a] = 0.5
        return part

    predictor = FrechetPredictor(table, labels=np.arange(n_labels), squared=True, dtype="float32", tile=tile)
    gm._core.reset_memory_stats()
    before = gm._core.memory_stats()["live"]
    assert (predictor.predict(np.full((rows, k), 1 / k, dtype=np.float32)) == hit).all()
    peak = gm._core.memory_stats()["peak"] - before
    assert peak <= 4 * (k * tile + rows * k + rows * tile) + 4096
    assert 4 * (k * tile + 256 * k + 256 * tile) < 2**30 < 4 * k * n_labels


def test_probabilities(rng):
    scores = 3 * rng.normal(size=(200, 6))
    found = as_probabilities(scores, "simplex_projection")
    expected = np.array([reference.project_to_simplex(row) for row in scores])
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-13)
    P = probabilities(rng, 50, 6)
    np.testing.assert_allclose(as_probabilities(P, "simplex_projection"), P, rtol=0, atol=4 * EPS)
    soft = np.exp(scores / 0.7)
    np.testing.assert_allclose(
        as_probabilities(scores, temperature=0.7), soft / soft.sum(axis=1, keepdims=True), rtol=1e-13
    )
    assert np.array_equal(as_probabilities([[1e300, -1e300]], temperature=1e-3), [[1, 0]])
    assert (scores < 0).all(axis=1).any()  # rows of which nothing is left
    np.testing.assert_allclose(as_probabilities(scores, "clip"), reference.clipped(scores), rtol=1e-14)
    np.testing.assert_allclose(as_probabilities([0.5, -3.0], "clip"), [[0.25, 0.75], [1, 0]])
    np.testing.assert_allclose(as_probabilities([0.0]), [[0.5, 0.5]])
    before = scores.copy()
    as_probabilities(scores)
    assert np.array_equal(scores, before)


def test_behind_a_classifier(rng):
    # Classes 0, 4 and 8 of a line of nine; rows between them are of the classes between.
    where = rng.choice([0.0, 4.0, 8.0], size=600)
    X = np.column_stack([np.exp(-((where[:, np.newaxis] - [0, 4, 8]) ** 2) / 8)])
    X = X + 0.01 * rng.normal(size=X.shape)
    y = where.astype(int)
    model = gm.AnalyticClassifier(ridge=1e-3).fit(X, y)
    path = hierarchy_metric(np.arange(-1, 8))
    rule = FrechetPredictor(path, observed=[0, 4, 8])
    assert (rule.wrap(model).predict(X) == y).mean() > 0.99
    for method in ("simplex_projection", "clip"):
        wrapped = rule.wrap(model, method=method)
        between = np.exp(-((np.array([[2.0]]) - [0, 4, 8]) ** 2) / 8)
        assert wrapped.predict(between)[0] in (1, 2, 3)  # never seen
        np.testing.assert_allclose(wrapped.predict_proba(X).sum(axis=1), 1, rtol=1e-14)
    with pytest.raises(ValueError, match="not the observed labels"):
        FrechetPredictor(path, observed=[0, 8, 4]).wrap(model)
    svm = pytest.importorskip("sklearn.svm", reason="scikit-learn is not installed")
    theirs = svm.LinearSVC().fit(X, y)  # scores, no probabilities
    assert (rule.wrap(theirs, temperature=0.1).predict(X) == y).mean() > 0.95


def test_bad_input():
    eye = 1.0 - np.eye(3)
    cycle = [1, 2, 1, -1]
    for call, text in (
        (lambda: hierarchy_metric([0, 0]), "one root"),
        (lambda: hierarchy_metric([-1, -1]), "it has 2"),
        (lambda: hierarchy_metric(cycle), "circle: 3 nodes"),
        (lambda: hierarchy_metric([-1, 7]), "has 7 for node 1"),
        (lambda: hierarchy_metric([-1, 0], [0, -1.0]), "that of node 1"),
        (lambda: hierarchy_metric([-1, 0], [1.0]), "lengths"),
        (lambda: hierarchy_metric([-1.0]), "whole numbers"),
        (lambda: hierarchy_metric([-1, 0]).distances([2]), "observed has 2"),
        (lambda: hierarchy_metric([-1, 0]).distances([0], 1, 5), "begin and end"),
        (lambda: graph_metric(np.ones((2, 3))), "square"),
        (lambda: graph_metric(-np.ones((2, 2)), weighted=True), "not negative"),
        (lambda: FrechetPredictor(eye).predict([[0.5, -0.5, 1.0]]), "row 0"),
        (lambda: FrechetPredictor(eye).predict([[1.0, 0, 0], [0.0, 0, 0]]), "row 1"),
        (lambda: FrechetPredictor(eye).predict([[np.nan, 0, 0]]), "NaN"),
        (lambda: FrechetPredictor(eye, observed=[0, 1]).predict([[1.0, 0, 0]]), "3 columns for 2"),
        (lambda: FrechetPredictor(eye, observed=[0, 9]).predict([[1.0, 0]]), "observed has 9"),
        (lambda: FrechetPredictor(eye, ["a", "z"], ["a", "b", "c"]).predict([[1.0, 0]]), "'z'"),
        (lambda: FrechetPredictor(eye[:2, :]).predict([[1.0, 0, 0]]), "P has 3 columns, but the metric has 2"),
        (lambda: FrechetPredictor(eye[:2, :], [0, 1, 2]).predict([[1.0, 0, 0]]), "row per label"),
        (lambda: FrechetPredictor(eye).predict([[1.0, 0]]), "P has 2 columns, but the metric has 3"),
        (lambda: FrechetPredictor(eye[:2, :]).predict([[1.0]]), "P has 1 columns, but the metric has 2"),
        (lambda: FrechetPredictor(hierarchy_metric([-1, 0])).predict([[1.0]]), "P has 1 columns, but the metric has 2"),
        (lambda: FrechetPredictor(graph_metric(eye)).predict([[1.0]]), "P has 1 columns, but the metric has 3"),
        (lambda: FrechetPredictor(embedding_metric(eye)).predict([[1.0]]), "P has 1 columns, but the metric has 3"),
        (lambda: FrechetPredictor(lambda a, b: eye[:, a:b], labels=[1, 2, 3]).predict([[1.0]]), "tile of shape"),
        (lambda: FrechetPredictor(eye, labels=["a"]).predict([[1.0, 0, 0]]), "labels must have shape"),
        (lambda: FrechetPredictor(lambda a, b: eye[:, a:b]).predict([[1.0, 0, 0]]), "needs labels"),
        (lambda: FrechetPredictor(lambda a, b: eye, labels=[1, 2, 3, 4]).predict([[1.0, 0, 0]]), "tile of shape"),
        (lambda: FrechetPredictor(eye * np.inf, observed=[0, 1, 2]).predict([[1.0, 0, 0]]), "NaN or infinity"),
        (lambda: FrechetPredictor(eye, tile=0).predict([[1.0, 0, 0]]), "tile"),
        (lambda: FrechetPredictor(hierarchy_metric([-1, 0]), squared=True).predict([[1.0, 0]]), "squared"),
        (lambda: as_probabilities([[1.0]], "best"), "method"),
        (lambda: as_probabilities([[1.0]], temperature=0), "temperature"),
        (lambda: as_probabilities([[np.inf]]), "scores"),
    ):
        with np.errstate(invalid="ignore"), pytest.raises(ValueError, match=text):
            call()
    with np.errstate(over="ignore"), pytest.raises(ValueError, match="overflow|NaN or infinity"):
        FrechetPredictor(1e300 * eye, dtype="float32").predict([[0.5, 0.5, 0.5]])
