"""One round of many clients gives the weights of one fit on all rows, in any order and under masks."""

import pickle
from fractions import Fraction

import numpy as np
import pytest
from reference_path import federated as reference

import gramian as gm
from gramian import federated as fed

EPS = np.finfo(np.float64).eps


def problem(n=1200, d=20, c=4, seed=0):
    rng = np.random.default_rng(seed)
    X = rng.normal(size=(n, d)) + rng.normal(size=d)
    y = rng.integers(0, c, n)
    return X, y


def parts_of(n, clients, seed=0):
    return np.array_split(np.random.default_rng(seed).permutation(n), clients)


def bound(X, ridge):
    """c k eps cond of the system: what two orders of summation may differ by."""
    A = X - X.mean(axis=0)
    return 100 * EPS * np.linalg.cond(A.T @ A + ridge * np.eye(X.shape[1]))


class TestAggregate:
    @pytest.mark.parametrize("clients", [1, 2, 10, 1000, 1200])
    def test_any_number_of_clients(self, clients):
        X, y = problem()
        joint = gm.AnalyticClassifier(ridge=0.1).fit(X, y)
        updates = [
            fed.client_update(gm.AnalyticClassifier(ridge=7.0).fit(X[rows], y[rows]))
            for rows in parts_of(len(X), clients)
        ]
        server = fed.aggregate(gm.AnalyticClassifier(ridge=0.1), updates)
        assert np.linalg.norm(server.coef_ - joint.coef_) <= 1e-10 * np.linalg.norm(joint.coef_)
        assert np.array_equal(server.class_count_, joint.class_count_)

    def test_one_class_per_client(self):
        X, y = problem()
        joint = gm.AnalyticClassifier(ridge=0.1).fit(X, y)
        updates = [gm.AnalyticClassifier().fit(X[y == k], y[y == k]).to_bytes() for k in (2, 0, 3, 1)]
        server = fed.aggregate(gm.AnalyticClassifier(ridge=0.1), updates)
        assert np.linalg.norm(server.coef_ - joint.coef_) <= 1e-10 * np.linalg.norm(joint.coef_)
        assert np.array_equal(server.predict(X), joint.predict(X))

    def test_beats_the_pairwise_law(self):
        X, _ = problem(2000, 20)
        Y = X @ np.random.default_rng(1).normal(size=(20, 3)) + np.random.default_rng(2).normal(size=(2000, 3))
        parts = parts_of(2000, 40)
        exact = np.linalg.lstsq(X.astype(np.longdouble).astype(float), Y, rcond=None)[0]
        pairwise = reference.pairwise_aggregate([(X[p], Y[p]) for p in parts], 1.0)
        server = gm.AnalyticRegressor(ridge=0.0, fit_intercept=False)
        fed.aggregate(server, [gm.AnalyticRegressor(fit_intercept=False).fit(X[p], Y[p]) for p in parts])
        ours = np.linalg.norm(server.coef_.T - exact)
        assert ours <= bound(X, 0) * np.linalg.norm(exact)
        # The same answer, so the law is the sum; and without its clean-up it is another one (negative control).
        assert np.linalg.norm(pairwise - exact) <= 1e-8 * np.linalg.norm(exact)
        surplus = gm.AnalyticRegressor(ridge=40.0, fit_intercept=False).fit(X, Y)
        assert np.linalg.norm(surplus.coef_.T - exact) > 1e-3 * np.linalg.norm(exact)

    def test_client_leaves_and_comes_back(self):
        X, y = problem()
        parts = parts_of(len(X), 5)
        updates = [fed.client_update(gm.AnalyticClassifier().fit(X[p], y[p])) for p in parts]
        server = fed.aggregate(gm.AnalyticClassifier(ridge=0.1), updates)
        before = server.coef_
        fed.remove_client(server, updates[2])
        rest = np.concatenate([parts[k] for k in (0, 1, 3, 4)])
        never = gm.AnalyticClassifier(ridge=0.1).fit(X[rest], y[rest])
        assert np.linalg.norm(server.coef_ - never.coef_) <= bound(X[rest], 0.1) * np.linalg.norm(never.coef_)
        assert server.n_samples_seen_ == len(rest)
        fed.aggregate(server, updates[2:3])
        assert np.linalg.norm(server.coef_ - before) <= bound(X, 0.1) * np.linalg.norm(before)

    def test_last_client_leaves_nothing(self):
        X, y = problem(100)
        update = fed.client_update(gm.AnalyticClassifier().fit(X, y))
        server = fed.aggregate(gm.AnalyticClassifier(), [update])
        fed.remove_client(server, update)
        assert server.n_samples_seen_ == 0
        assert len(server.classes_) == 0

    def test_a_class_of_one_client_leaves_with_it(self):
        X, y = problem(200)
        y = np.array(["a", "b", "c", "d"])[y]
        update = fed.client_update(gm.AnalyticClassifier().fit(X[y == "c"], y[y == "c"]))
        server = gm.AnalyticClassifier().fit(X, y)
        fed.remove_client(server, update)
        assert list(server.classes_) == ["a", "b", "d"]

    def test_clients_without_rows_change_nothing(self):
        X, y = problem(200)
        some = fed.client_update(gm.AnalyticClassifier().fit(X, y))
        gone = gm.AnalyticClassifier().fit(X[:5], y[:5]).forget(X[:5], y[:5])
        assert gone.n_samples_seen_ == 0
        alone = fed.aggregate(gm.AnalyticClassifier(), [some])
        with_nobody = fed.aggregate(gm.AnalyticClassifier(), [gone, some, fed.client_update(gone)])
        assert np.array_equal(with_nobody.coef_, alone.coef_)
        assert np.array_equal(with_nobody.classes_, alone.classes_)
        assert with_nobody.n_samples_seen_ == 200

    def test_with_a_feature_map(self):
        X, y = problem()
        new = lambda: gm.AnalyticClassifier(gm.RandomFeatures(64, random_state=3), ridge=0.1)  # noqa: E731
        joint = new().fit(X, y)
        server = fed.aggregate(new(), [fed.client_update(new().fit(X[p], y[p])) for p in parts_of(len(X), 7)])
        assert np.linalg.norm(server.coef_ - joint.coef_) <= 1e-10 * np.linalg.norm(joint.coef_)

    def test_bad_updates(self):
        X, y = problem(100)
        server = gm.AnalyticClassifier().fit(X, y)
        before = server.to_bytes()
        narrow = fed.client_update(gm.AnalyticClassifier().fit(X[:, :3], y))
        with pytest.raises(ValueError, match="update 0: .*inputs"):
            fed.aggregate(server, [narrow])
        with pytest.raises(gm.FormatError):
            fed.aggregate(server, [b"nothing"])
        with pytest.raises(ValueError, match="holds"):
            fed.remove_client(server, gm.AnalyticClassifier().fit(np.vstack([X, X]), np.concatenate([y, y])))
        with pytest.raises(ValueError, match="never saw"):
            fed.remove_client(server, gm.AnalyticClassifier().fit(X, y + 100))
        with pytest.raises(TypeError, match="AnalyticClassifier"):
            fed.client_update(X)
        with pytest.raises(TypeError, match="AnalyticClassifier is needed"):
            server.unmerge(gm.AnalyticRegressor().fit(X, y))
        assert server.to_bytes() == before


class TestFactors:
    @pytest.mark.parametrize("n, d", [(1, 3), (2, 5), (7, 30), (40, 6), (15, 12)])
    def test_is_the_triangle_of_the_rows(self, n, d):
        rng = np.random.default_rng(n)
        X, Y = rng.normal(size=(n, d)) + 3.0, rng.normal(size=(n, 2))
        factor = fed.factor_update(X, Y)
        assert factor.shape == (min(n, d + 3), d + 3)
        assert not np.tril(factor, -1).any() and (np.diagonal(factor) >= 0).all()
        rows = np.hstack([np.ones((n, 1)), X, Y])
        size = np.linalg.norm(rows) ** 2
        assert np.abs(factor.T @ factor - rows.T @ rows).max() <= 10 * rows.shape[1] * EPS * size
        # Gram-Schmidt and Householder: R is determined by the rows, and so is what a client tells.
        expected = reference.triangular_factor(X, Y)
        first = rows[:, : len(factor)]
        assert np.abs(factor - expected).max() <= 100 * EPS * np.linalg.cond(first) * np.linalg.norm(rows)
        turned = np.linalg.qr(rng.normal(size=(n, n)))[0] @ rows
        assert np.abs(np.abs(np.linalg.qr(turned, mode="r")) - np.abs(factor)).max() <= 1e-9 * np.linalg.norm(rows)

    @pytest.mark.parametrize("clients", [1, 7, 200, 600])
    @pytest.mark.parametrize("fit_intercept", [True, False])
    def test_factors_give_what_rows_give(self, clients, fit_intercept):
        X, y = problem(600, d=30)
        y = np.array(["a", "b", "c", "d"])[y]
        classes = ["a", "b", "c", "d"]
        parts = parts_of(600, clients)
        server = gm.AnalyticClassifier(ridge=0.1, fit_intercept=fit_intercept)
        fed.merge_factors(server, (fed.factor_update(X[p], y[p], classes) for p in parts), classes)
        joint = gm.AnalyticClassifier(ridge=0.1, fit_intercept=fit_intercept).fit(X, y)
        assert np.linalg.norm(server.coef_ - joint.coef_) <= 1e-10 * np.linalg.norm(joint.coef_)
        assert np.abs(server.intercept_ - joint.intercept_).max() <= 1e-9
        assert np.array_equal(server.class_count_, joint.class_count_)
        assert server.n_samples_seen_ == 600
        np.testing.assert_allclose(server.temperature_, joint.temperature_, rtol=1e-9)
        # A class that a client does not have, rows afterwards, and a client that goes.
        server.partial_fit(X[:10], y[:10]).forget(X[:10], y[:10])
        gone = gm.AnalyticClassifier(ridge=0.1, fit_intercept=fit_intercept).fit(X[parts[0]], y[parts[0]])
        if clients > 1:
            fed.remove_client(server, gone)
            rest = np.concatenate(parts[1:])
            never = gm.AnalyticClassifier(ridge=0.1, fit_intercept=fit_intercept).fit(X[rest], y[rest])
            assert np.linalg.norm(server.coef_ - never.coef_) <= 1e-9 * np.linalg.norm(never.coef_)
        # Negative control: without one client it is another model.
        some = fed.merge_factors(
            gm.AnalyticClassifier(ridge=0.1, fit_intercept=fit_intercept),
            [fed.factor_update(X[p], y[p], classes) for p in parts[1:]] or [fed.factor_update(X[:9], y[:9], classes)],
            classes,
        )
        assert np.linalg.norm(some.coef_ - joint.coef_) >= 1e-5 * np.linalg.norm(joint.coef_)

    @pytest.mark.parametrize("fit_intercept", [True, False])
    def test_numeric_targets(self, fit_intercept):
        rng = np.random.default_rng(3)
        X = rng.normal(size=(300, 40)) + rng.normal(size=40)
        Y = X @ rng.normal(size=(40, 2)) + rng.normal(size=(300, 2)) + 5.0
        joint = gm.AnalyticRegressor(ridge=0.2, fit_intercept=fit_intercept).fit(X, Y)
        server = gm.AnalyticRegressor(ridge=0.2, fit_intercept=fit_intercept)
        fed.merge_factors(server, [fed.factor_update(X[p], Y[p]) for p in parts_of(300, 20)], n_outputs=2)
        assert np.linalg.norm(server.coef_ - joint.coef_) <= 1e-10 * np.linalg.norm(joint.coef_)
        assert np.abs(server.intercept_ - joint.intercept_).max() <= 1e-9
        residuals = [np.asarray(m.state_.moments()[0]) for m in (server, joint)]
        assert np.linalg.norm(residuals[0] - residuals[1]) <= 1e-12 * np.linalg.norm(residuals[1])

    def test_a_large_mean_costs_no_digits(self):
        """Sums around the origin lose them; the first row of a factor takes the mean out before anything is squared."""
        rng = np.random.default_rng(4)
        X = rng.normal(size=(20, 30)) + 1e6
        Y = rng.normal(size=(20, 1))
        joint = gm.AnalyticRegressor(ridge=1.0).fit(X, Y)
        server = fed.merge_factors(gm.AnalyticRegressor(ridge=1.0), [fed.factor_update(X, Y)])
        assert np.linalg.norm(server.coef_ - joint.coef_) <= 1e-8 * np.linalg.norm(joint.coef_)
        rows = np.hstack([X, Y])
        total, squares = rows.sum(axis=0), rows.T @ rows
        centred = squares - np.outer(total, total) / 20
        naive = np.linalg.solve(centred[:30, :30] + np.eye(30), centred[:30, 30])
        assert np.linalg.norm(naive - joint.coef_.ravel()) >= 1e-4 * np.linalg.norm(joint.coef_)

    def test_it_is_the_smaller_upload_for_few_rows(self):
        X, y = problem(60, d=300)
        factor = fed.factor_update(X[:30], y[:30], range(4))
        update = fed.client_update(gm.AnalyticClassifier().fit(X[:30], y[:30]))
        assert np.count_nonzero(factor) * 8 < 0.25 * len(update)
        # In single precision too, at its digits.
        X = np.random.default_rng(0).normal(size=(60, 300))
        halves = [fed.factor_update(X[k : k + 30], y[k : k + 30], range(4)).astype(np.float32) for k in (0, 30)]
        server = fed.merge_factors(gm.AnalyticClassifier(ridge=1.0), halves, range(4))
        joint = gm.AnalyticClassifier(ridge=1.0).fit(X, y)
        assert np.linalg.norm(server.coef_ - joint.coef_) <= 1e-4 * np.linalg.norm(joint.coef_)
        assert np.array_equal(server.class_count_, joint.class_count_)

    def test_bad_input(self):
        X, y = problem(30, d=5)
        server = gm.AnalyticClassifier().fit(X, y)
        before = server.to_bytes()
        good = fed.factor_update(X, y, range(4))
        low = good.copy()
        low[2, 1] = 1.0
        corner, labels = good.copy(), good.copy()
        corner[0, 0] = 0.3
        labels[0, -1] *= 1.5
        for bad, text in (
            (good[:, :4], "a factor is a float array"),
            (np.ones((3, 10), dtype=int), "a factor is a float array"),
            (low, "upper triangular"),
            (np.full((2, 10), np.nan), "upper triangular"),
            (corner, "its corner says"),
            (labels, "not one-hot"),
            (fed.factor_update(X[:, :4], y, range(4)), "features"),
        ):
            with pytest.raises(ValueError, match=f"factor 1: .*{text}"):
                fed.merge_factors(server, [good, bad], range(4))
            assert server.to_bytes() == before
        with pytest.raises(ValueError, match="classes must be given"):
            fed.merge_factors(server, [good])
        with pytest.raises(ValueError, match="not among the classes"):
            fed.factor_update(X, y, [0, 1])
        with pytest.raises(ValueError, match="sorted"):
            fed.factor_update(X, y, [1, 0, 2, 3])
        with pytest.raises(ValueError, match="row 1"):
            fed.factor_update([[0.0], [np.nan]], [0.0, 1.0])
        with pytest.raises(TypeError, match="AnalyticClassifier"):
            fed.merge_factors(X, [good], range(4))
        assert fed.merge_factors(server, [], range(4)).to_bytes() == before


class TestFixedPoint:
    @pytest.mark.parametrize("bits", [0, 10, 64, 100])
    def test_encoding_is_the_rounded_number(self, bits):
        rng = np.random.default_rng(0)
        x = np.concatenate(
            [rng.normal(size=200) * 10.0 ** rng.integers(-12, 6, 200), [0.0, -0.0, 0.5, 1.5, -2.5, 2.0**-60]]
        )
        words = gm._core.encode_fixed(x, bits, 1)
        assert [tuple(int(w) for w in row) for row in words] == [
            reference.words(reference.fixed(float(v), bits)) for v in x
        ]

    def test_decoding_rounds_once(self):
        rng = np.random.default_rng(1)
        numbers = [int(rng.integers(0, 2**62)) * int(rng.integers(1, 2**62)) * (-1) ** k for k in range(300)]
        numbers += [2**64, -(2**64), 2**64 - 1, 2**126 - 1, -(2**126), 2**53 + 1, 2**117 + 2**64 + 1, 0, -1]
        words = np.array([reference.words(k) for k in numbers], dtype=np.uint64)
        decoded = gm._core.decode_fixed(words, 40)
        assert decoded.tolist() == [float(Fraction(k, 2**40)) for k in numbers]

    def test_totals_are_the_same_bits_in_any_order(self):
        X, y = problem()
        codec = fed.FixedPointCodec(20, 4, n_clients=30, codes=True, center=X[0].tolist())
        encoded = []
        for rows in parts_of(len(X), 30):
            encoded.append(codec.encode(gm.GramState(20, 4).add_labels(X[rows], y[rows])))
        totals = []
        for seed in range(5):
            total = codec.zeros()
            for k in np.random.default_rng(seed).permutation(30):
                codec.add(total, encoded[k])
            totals.append(total)
        assert all(np.array_equal(totals[0], total) for total in totals)
        # Sums of doubles are not (negative control).
        parts = [
            gm.GramState(20, 4).add_labels(X[rows], y[rows])._core.moments([0.0] * 20, [0.0] * 4)
            for rows in parts_of(len(X), 30)
        ]
        assert not np.array_equal(sum(parts), sum(parts[::-1]))
        state = codec.decode(totals[0])
        server = fed.merge_sums(gm.AnalyticClassifier(ridge=0.1), state, classes=[0, 1, 2, 3])
        joint = gm.AnalyticClassifier(ridge=0.1).fit(X, y)
        assert np.linalg.norm(server.coef_ - joint.coef_) <= 1e-10 * np.linalg.norm(joint.coef_)
        assert np.array_equal(server.class_count_, joint.class_count_)
        assert np.array_equal(pickle.loads(pickle.dumps(server)).coef_, server.coef_)

    def test_totals_without_room_are_refused(self):
        X, y = problem()
        codec = fed.FixedPointCodec(20, 4, n_clients=2, codes=True)
        one = codec.encode(gm.GramState(20, 4).add_labels(X * (1e8 / np.abs(X).max(axis=0)), y))
        total = codec.zeros()
        codec.add(total, one)
        codec.add(total, one)
        assert codec.decode(total).n_rows == 2 * len(X)
        with pytest.raises(ValueError, match=r"feature \d+ has a sum of squares of -"):
            for _ in range(3000):  # far more than the room of two
                codec.add(total, one)
                codec.decode(total)

    def test_a_client_taken_out_was_never_there_bit_for_bit(self):
        X, y = problem()
        codec = fed.FixedPointCodec(20, 4, n_clients=30, codes=True)
        encoded = [codec.encode(gm.GramState(20, 4).add_labels(X[p], y[p])) for p in parts_of(len(X), 30)]
        total, never = codec.zeros(), codec.zeros()
        for k in range(30):
            codec.add(total, encoded[k])
        for k in (29, 3, 17):
            codec.remove(total, encoded[k])
        for k in np.random.default_rng(1).permutation([k for k in range(30) if k not in (29, 3, 17)]):
            codec.add(never, encoded[k])
        assert np.array_equal(total, never)
        states = [codec.decode(one) for one in (total, never)]
        assert states[0].to_bytes() == states[1].to_bytes()
        # Negative control: sums of doubles that lost a client are not, to the bit, those that never had it.
        parts = [state._core.moments([0.0] * 20, [0.0] * 4) for state in (codec.decode(one) for one in encoded)]
        left = sum(parts) - parts[3]
        assert not np.array_equal(left, sum(parts[:3] + parts[4:]))
        for k in range(30):
            if k not in (29, 3, 17):
                codec.remove(total, encoded[k])
        assert not total.any()
        with pytest.raises(ValueError, match="uint64 array of shape"):
            codec.remove(codec.zeros(), np.zeros((2, 2)))

    def test_masks_cancel_and_hide(self):
        X, y = problem(300)
        codec = fed.FixedPointCodec(20, 4, n_clients=3, codes=True)
        parts = parts_of(300, 3)
        plain = [codec.encode(gm.GramState(20, 4).add_labels(X[p], y[p])) for p in parts]
        secret = {(0, 1): b"a" * 32, (0, 2): b"b" * 32, (1, 2): b"c" * 32}
        masked = []
        for k in range(3):
            of_k = {other: secret[min(k, other), max(k, other)] for other in range(3) if other != k}
            masked.append(codec.mask(plain[k], k, of_k, round_number=5))
        total, open_total = codec.zeros(), codec.zeros()
        for k in (2, 0, 1):
            codec.add(total, masked[k])
            codec.add(open_total, plain[k])
        assert np.array_equal(total, open_total)
        # A masked vector looks like noise: about half of its bits differ from the plain one's.
        differ = np.unpackbits((masked[0] ^ plain[0]).view(np.uint8)).mean()
        assert abs(differ - 0.5) < 5 * 0.5 / np.sqrt(masked[0].size * 64)
        with pytest.raises(ValueError, match="no possible sums"):
            codec.decode(codec.add(codec.zeros(), masked[0]))

    def test_bad_input(self):
        codec = fed.FixedPointCodec(3, 1, n_clients=4, fraction_bits=100)
        state = gm.GramState(3, 1).add(np.full((1, 3), 1e4), [1.0])
        with pytest.raises(ValueError, match="too large for 100 fraction bits and 4 clients"):
            codec.encode(state)
        with pytest.raises(ValueError, match="3 features and 2 outputs"):
            codec.encode(gm.GramState(3, 2))
        with pytest.raises(ValueError, match="center must have shape"):
            fed.FixedPointCodec(3, 1, 4, center=[1.0])
        with pytest.raises(ValueError, match="uint64 array of shape"):
            codec.add(codec.zeros(), np.zeros((2, 2)))
        with pytest.raises(ValueError, match="16 bytes"):
            codec.mask(codec.zeros(), 0, {1: b"short"})
        with pytest.raises(ValueError, match="classes"):
            fed.merge_sums(gm.AnalyticClassifier(), state)
        with pytest.raises(ValueError, match="sorted"):
            fed.merge_sums(gm.AnalyticClassifier(), gm.GramState(3, 2), classes=["b", "a"])


class TestPrivacy:
    @pytest.mark.parametrize("epsilon", [0.1, 1.0, 5.0])
    @pytest.mark.parametrize("delta", [1e-3, 1e-5, 1e-9])
    def test_sigma_is_the_least_that_keeps_the_promise(self, epsilon, delta):
        stats = pytest.importorskip("scipy.stats")
        sigma = fed.gaussian_sigma(epsilon, delta, 2.0)

        def spent(sigma):
            a = 2.0 / sigma
            return stats.norm.cdf(a / 2 - epsilon / a) - np.exp(epsilon) * stats.norm.cdf(-a / 2 - epsilon / a)

        assert spent(sigma) <= delta * (1 + 1e-9)
        assert spent(sigma * 0.999) > delta
        assert fed.gaussian_epsilon(sigma, delta, 2.0) == pytest.approx(epsilon, rel=1e-9)
        if epsilon <= 1:  # the textbook formula, which asks for more noise
            assert sigma < 2.0 * np.sqrt(2 * np.log(1.25 / delta)) / epsilon

    @pytest.mark.parametrize("epsilon, delta", [(0.1, 1e-3), (1.0, 1e-5), (5.0, 1e-9)])
    def test_the_calibration_is_that_of_the_definition(self, epsilon, delta):
        sigma = fed.gaussian_sigma(epsilon, delta, 2.0)
        assert sigma == pytest.approx(reference.gaussian_sigma(epsilon, delta, 2.0), rel=1e-9)
        assert reference.gaussian_delta(epsilon, sigma, 2.0) == pytest.approx(delta, rel=1e-8)
        # Four releases are one of twice the sensitivity, by the same definition.
        spent = fed.gaussian_epsilon(sigma, delta, 2.0, releases=4)
        assert reference.gaussian_delta(spent, sigma, 4.0) == pytest.approx(delta, rel=1e-7)
        # Negative control: a thousandth less noise breaks the promise.
        assert reference.gaussian_delta(epsilon, 0.999 * sigma, 2.0) > delta

    def test_composition(self):
        sigma = fed.gaussian_sigma(0.5, 1e-6)
        accountant = fed.PrivacyAccountant()
        for _ in range(9):
            accountant.spend(fed.GaussianMechanism(0.5, 1e-6, 1.0))
        # Nine releases are one with a third of the noise.
        assert accountant.epsilon(1e-5) == pytest.approx(fed.gaussian_epsilon(sigma / 3, 1e-5), rel=1e-12)
        assert accountant.epsilon(1e-5) == pytest.approx(fed.gaussian_epsilon(sigma, 1e-5, releases=9), rel=1e-12)
        assert accountant.releases == 9
        assert accountant.epsilon(1e-5) == pytest.approx(reference.composed_epsilon([sigma] * 9, 1e-5), rel=1e-8)

    @pytest.mark.parametrize("delta", [1e-3, 1e-6])
    def test_account_of_different_releases(self, delta):
        """The distribution of the privacy loss of all of them, integrated; adding up epsilons promises less."""
        promised = [(0.2, 1e-6), (1.0, 1e-5), (3.0, 1e-7), (0.05, 1e-4)]
        accountant = fed.PrivacyAccountant()
        for epsilon, spent in promised:
            accountant.spend(fed.GaussianMechanism(epsilon, spent, 1.0))
        sigmas = [reference.gaussian_sigma(epsilon, spent) for epsilon, spent in promised]
        found = accountant.epsilon(delta)
        assert found == pytest.approx(reference.composed_epsilon(sigmas, delta), rel=1e-8)
        assert accountant.rho == pytest.approx(sum(1 / (2 * sigma**2) for sigma in sigmas), rel=1e-9)
        assert found <= accountant.rho + 2 * np.sqrt(accountant.rho * np.log(1 / delta))
        # Negative control: one release less is cheaper.
        assert reference.composed_epsilon(sigmas[:-1], delta) < found * (1 - 1e-5)
        assert reference.composed_epsilon(sigmas[1:], delta) < found * (1 - 1e-3)
        assert fed.PrivacyAccountant().epsilon(1e-5) == 0

    def test_one_row_moves_the_parts_by_no_more_than_their_bounds(self):
        rng = np.random.default_rng(0)
        rows = rng.normal(size=(50, 6))
        X = fed.clip_rows(rows, 2.0)
        assert np.linalg.norm(X, axis=1).max() <= 2.0
        np.testing.assert_allclose(X, reference.clipped(rows, 2.0), rtol=1e-14)
        short = np.linalg.norm(rows, axis=1) <= 2.0
        assert 0 < short.sum() < 50 and np.array_equal(X[short], rows[short])
        d, c = 6, 2
        whole = gm.GramState(d, c, fit_intercept=False).add_labels(X, np.arange(50) % 2)._core
        less = gm.GramState(d, c, fit_intercept=False).add_labels(X[1:], np.arange(1, 50) % 2)._core
        change = whole.moments([0.0] * d, [0.0] * c) - less.moments([0.0] * d, [0.0] * c)
        edges = np.cumsum([0, 1, 1, d, c, c, c, c * d, d * (d + 1) // 2])
        bounds = [1, None, 2, 1, 1, None, 2, 4]
        for begin, end, most in zip(edges[:-1], edges[1:], bounds, strict=True):
            if most is not None:
                assert np.linalg.norm(change[begin:end]) <= most * (1 + 1e-12)

    @pytest.mark.parametrize("size", [1e-310, 1e-200, 1e200, 1e307])
    def test_rows_of_any_size_are_clipped(self, size):
        """Their squares are 0 or infinity in float64, so their lengths have to be taken another way."""
        rows = np.random.default_rng(0).uniform(-1, 1, size=(4, 6)) * size
        rows[3] = 0.0
        ordinary = np.arange(6.0)[np.newaxis]
        bound = min(size, 1.0) * 1e-3
        found = fed.clip_rows(np.vstack([rows, ordinary * bound]), bound)
        power = -np.frexp(bound)[1]
        lengths = np.linalg.norm(np.ldexp(found, power), axis=1) / np.ldexp(bound, power)
        assert (lengths <= 1 + 1e-15 + 5e-324 * 6 / bound).all()
        assert np.array_equal(found[3], rows[3]) and lengths[[0, 1, 2, 4]].min() >= 1 - 1e-14 - 5e-324 * 6 / bound
        assert np.array_equal(fed.clip_rows(rows, 1.7e308 if size > 1 else 1.0)[:2], rows[:2])

    def test_noise_is_as_large_as_promised_and_sums_stay_usable(self):
        rng = np.random.default_rng(0)
        n, d = 20000, 8
        X = fed.clip_rows(rng.normal(size=(n, d)), 2.0)
        y = (X[:, 0] + 0.3 * rng.normal(size=n) > 0).astype(int)
        state = gm.GramState(d, 2).add_labels(X, y)
        mechanism = fed.GaussianMechanism(2.0, 1e-6, feature_bound=2.0)
        noisy = [mechanism.privatize(state, random_state=k) for k in range(200)]
        exact = state.moments()[1]
        spread = np.std([one.moments()[1] - exact for one in noisy])
        assert spread == pytest.approx(np.sqrt(6) * mechanism.sigma * 2.0, rel=4 / np.sqrt(2 * 200 * 2 * d))
        model = fed.merge_sums(gm.AnalyticClassifier(ridge=10.0), noisy[0], classes=[0, 1])
        assert model.score(X, y) > gm.AnalyticClassifier(ridge=10.0).fit(X, y).score(X, y) - 0.02

    def test_the_gram_matrix_is_made_positive(self):
        X = fed.clip_rows(np.random.default_rng(0).normal(size=(30, 10)), 1.0)
        state = gm.GramState(10, 1).add(X, np.zeros(30))
        noisy = fed.GaussianMechanism(0.5, 1e-6, 1.0).privatize(state, random_state=0, assume_unit_weights=True)
        gram, _ = noisy.moments()
        mean, _ = noisy.feature_moments()
        values = np.linalg.eigvalsh(gram - noisy.weight_sum * np.outer(mean, mean))
        assert values[0] >= -100 * EPS * values[-1]
        noisy.solve(1e-3)

    @pytest.mark.parametrize("fit_intercept", [True, False])
    @pytest.mark.parametrize("rare, roots", [(500, [0.5, 3.5]), (3000, [0.5, 1.5]), (3500, [0.75, 1.25])])
    def test_weights_of_classes_are_found(self, rng, rare, roots, fit_intercept):
        """Weights by class that add up to the number of rows, exactly, as balanced ones do but for rounding."""
        n = 8000
        X = fed.clip_rows(rng.normal(size=(n, 4)), 1.0)
        y = np.zeros(n, dtype=int)
        y[rng.choice(n, size=rare, replace=False)] = 1
        mechanism = fed.GaussianMechanism(1.0, 1e-6, feature_bound=1.0)
        state = gm.GramState(4, 2, fit_intercept=fit_intercept)
        state.add_labels(X, y, sample_weight=np.square(roots)[y])
        assert state.weight_sum == n  # so only the classes tell
        balanced = gm.GramState(4, 2, fit_intercept=fit_intercept)
        balanced.add_labels(X, y, sample_weight=(n / (2 * np.bincount(y)))[y])
        for assumed in (False, True):
            with pytest.raises(ValueError, match="weights"):
                mechanism.privatize(balanced, random_state=0, assume_unit_weights=assumed)
            with pytest.raises(ValueError, match="weights"):
                mechanism.privatize(state, random_state=0, assume_unit_weights=assumed)
        halves = [
            gm.GramState(4, 2, fit_intercept=fit_intercept).add_labels(X[part], y[part])
            for part in (slice(0, 3000), slice(3000, n))
        ]
        mechanism.privatize(halves[0] + halves[1], random_state=0)

    @pytest.mark.parametrize("targets", ["labels", "numbers"])
    def test_weights_of_mean_one_are_found(self, rng, targets):
        """Weights that differ within each class and have mean 1 there: only the count of weighted rows tells."""
        n = 400
        X, y = fed.clip_rows(rng.normal(size=(n, 4)), 1.0), np.repeat([0, 1], n // 2)
        weight = np.where(np.arange(n) % 2 == 0, 0.5, 1.5)
        mechanism = fed.GaussianMechanism(1.0, 1e-6, feature_bound=1.0)

        def sums(rows, weight=None):
            state = gm.GramState(4, 2 if targets == "labels" else 1)
            add = state.add_labels if targets == "labels" else state.add
            return add(X[rows], y[rows], sample_weight=weight)

        plain, weighted = sums(slice(0, n)), sums(slice(0, n), weight)
        assert (plain.weighted_rows, weighted.weighted_rows, weighted.weight_sum) == (0, n, n)
        mechanism.privatize(plain, random_state=0)
        for assumed in (False, True):
            with pytest.raises(ValueError, match="weights"):
                mechanism.privatize(weighted, random_state=0, assume_unit_weights=assumed)
        # What the sums alone tell is nothing: the control of the test.
        assert weighted.weight_sum == weighted.n_rows
        assert targets == "numbers" or np.array_equal(weighted.counts, [n // 2, n // 2])
        halves = [sums(slice(0, 300)), sums(slice(300, n), weight[300:])]
        together = halves[0] + halves[1]
        assert together.weighted_rows == 100
        with pytest.raises(ValueError, match="weights"):
            mechanism.privatize(together, random_state=0)
        assert together.unmerge(halves[1]).weighted_rows == 0
        mechanism.privatize(together, random_state=0)

    def test_sums_that_do_not_know_need_the_word_of_the_caller(self, rng):
        X, y = fed.clip_rows(rng.normal(size=(400, 4)), 1.0), np.repeat([0, 1], 200)
        mechanism = fed.GaussianMechanism(1.0, 1e-6, feature_bound=1.0)
        state = gm.GramState(4, 2).add_labels(X, y)
        once = mechanism.privatize(state, random_state=0)
        assert once.weighted_rows is None
        codec = fed.FixedPointCodec(4, 2, 1, codes=True)
        unknown = codec.decode(codec.encode(state))
        assert unknown.weighted_rows is None
        with pytest.raises(ValueError, match="assume_unit_weights"):
            mechanism.privatize(unknown, random_state=0)
        mechanism.privatize(unknown, random_state=0, assume_unit_weights=True)

    def test_weights_of_an_estimator_are_found(self, rng):
        X = fed.clip_rows(rng.normal(size=(400, 4)), 1.0)
        y = np.repeat([0, 1], 200)
        mechanism = fed.GaussianMechanism(1.0, 1e-6, feature_bound=1.0)
        with pytest.raises(ValueError, match="class weights"):
            mechanism.privatize(gm.AnalyticClassifier(class_weight={0: 0.5, 1: 1.5}).fit(X, y).state_, random_state=0)
        mechanism.privatize(gm.AnalyticClassifier().fit(X, y).state_, random_state=0)

    def test_bad_input(self):
        X = np.ones((5, 3))
        mechanism = fed.GaussianMechanism(1.0, 1e-5, feature_bound=1.0)
        with pytest.raises(ValueError, match="longer than feature_bound"):
            mechanism.privatize(gm.GramState(3).add(X), assume_unit_weights=True)
        with pytest.raises(ValueError, match="sample weights"):
            mechanism.privatize(gm.GramState(3).add(X / 10, sample_weight=[2.0, 1, 1, 1, 1]), assume_unit_weights=True)
        mechanism.privatize(gm.GramState(3, 1).add(X / 10, np.zeros(5)))
        with pytest.raises(ValueError, match="delta"):
            fed.gaussian_sigma(1.0, 1.0)
        with pytest.raises(ValueError, match="epsilon"):
            fed.GaussianMechanism(0.0, 1e-5, 1.0)
        with pytest.raises(ValueError, match="first in row 1"):
            fed.clip_rows([[1.0], [np.nan]], 1.0)


@pytest.mark.parametrize("class_weight", ["balanced", "air"])
def test_balanced_updates_are_not_taken_apart(rng, class_weight):
    """Said in both docstrings: `unmerge` and `remove_client` refuse, and the model stays as it was."""
    X, y = rng.normal(size=(60, 4)), rng.integers(0, 3, 60)
    server = gm.AnalyticClassifier(class_weight=class_weight)
    parts = [gm.AnalyticClassifier(class_weight=class_weight).partial_fit(X[k::3], y[k::3]) for k in range(3)]
    fed.aggregate(server, [fed.client_update(part) for part in parts])
    before = server.decision_function(X)
    for call in (
        lambda: server.unmerge(parts[0]),
        lambda: fed.remove_client(server, parts[0]),
        lambda: fed.remove_client(server, fed.client_update(parts[0])),
    ):
        with pytest.raises(NotImplementedError, match="cannot be taken apart"):
            call()
        assert np.array_equal(server.decision_function(X), before)
    for documented in (gm.AnalyticClassifier.unmerge, fed.remove_client):
        assert 'class_weight="balanced"' in documented.__doc__ and "NotImplementedError" in documented.__doc__
    # What the docstring names instead.
    server.forget(X[::3], y[::3])
    rest = fed.aggregate(gm.AnalyticClassifier(class_weight=class_weight), parts[1:])
    np.testing.assert_allclose(server.decision_function(X), rest.decision_function(X), rtol=0, atol=1e-10)
