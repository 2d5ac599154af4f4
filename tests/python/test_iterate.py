"""Conjugate directions from any source, against textbook methods and misbehaving callbacks."""

import numpy as np
import pytest
from reference_path import second_order as ref

from gramian import flexible_cg

sparse = pytest.importorskip("scipy.sparse", reason="SciPy is not installed")


def problem(rng, n=80, condition=100.0):
    Q, _ = np.linalg.qr(rng.normal(size=(n, n)))
    A = (Q * np.geomspace(1, condition, n)) @ Q.T
    A = (A + A.T) / 2
    return A, rng.normal(size=n)


def energies(A, x_star, iterates):
    return np.array([(x - x_star) @ A @ (x - x_star) for x in iterates])


def after(A, b, steps, **arguments):
    """x after so many steps."""
    with pytest.warns(Warning, match="stopped"):
        return flexible_cg(A, b, rtol=0.0, max_iter=steps, **arguments).x


def test_identity_is_conjugate_gradients(rng):
    """While rounding is not amplified: a textbook run started 1e-16 away parts from itself as far later on."""
    A, b = problem(rng, condition=10.0)
    iterates = ref.conjugate_gradients(A, b, steps=25)
    for steps in (1, 2, 5, 12, 25):
        for callback in (None, lambda r: r, lambda r: 1e-3 * r):
            found = after(A, b, steps, precondition=callback, stall_window=0)
            assert np.linalg.norm(found - iterates[steps - 1]) <= 1e-10 * np.linalg.norm(iterates[-1])


def test_positive_definite_callback_is_preconditioned_cg(rng):
    A, b = problem(rng, condition=1e4)
    M = np.linalg.inv(A + 5 * np.eye(len(b)))
    M = (M + M.T) / 2
    iterates = ref.conjugate_gradients(A, b, M=M, steps=15)
    for callback in (M, lambda r: M @ r):
        for directions in (1, 2):
            found = after(A, b, 15, precondition=callback, directions=directions)
            assert np.linalg.norm(found - iterates[-1]) <= 1e-10 * np.linalg.norm(iterates[-1])
    plain = ref.conjugate_gradients(A, b, steps=15)
    assert np.linalg.norm(plain[-1] - iterates[-1]) > 0.1 * np.linalg.norm(iterates[-1])  # the oracles differ


def test_exact_inverse_takes_one_step(rng):
    A, b = problem(rng)
    inverse = np.linalg.inv(A)
    for scale in (1.0, -3.0, 1e-20, 1e20):
        found = flexible_cg(A, b, precondition=lambda r, scale=scale: scale * (inverse @ r), rtol=1e-10)
        assert found.n_iter == 1 and found.converged
    assert np.linalg.norm(A @ found.x - b) <= 1e-10 * np.linalg.norm(b)


@pytest.mark.parametrize("size", [1e-300, 1e-170, 1e-100, 1e100, 1e160, 1e300])
def test_right_hand_sides_and_matrices_of_any_size(rng, size):
    """Squares of such numbers leave the range of float64: neither an answer of zeros nor another method comes of it."""
    A, b = problem(rng)
    jacobi = np.diag(A)
    for callback in (None, lambda r: r / jacobi):
        plain = flexible_cg(A, b, precondition=callback)
        for matrix, side, unit in ((A, size * b, size), (size * A, b, 1 / size)):
            found = flexible_cg(matrix, side, precondition=callback)
            assert found.converged and abs(found.n_iter - plain.n_iter) <= 2
            assert found.switched_at is None
            assert np.linalg.norm(found.x / unit - plain.x) <= 1e-6 * np.linalg.norm(plain.x)
    found = flexible_cg(A, size * b)
    assert found.residual_norm <= 1e-8 * np.linalg.norm(b) * size
    tight = flexible_cg(A, size * b, rtol=0.0, atol=1e-9 * size)
    assert tight.converged and tight.residual_norm <= 1e-9 * size
    many = flexible_cg(A, np.column_stack([b, size * b, 0 * b]))
    assert np.linalg.norm(many.x[:, 1] / size - many.x[:, 0]) <= 1e-6 * np.linalg.norm(many.x[:, 0])
    assert (many.x[:, 2] == 0).all()
    started = flexible_cg(A, size * b, x0=size * plain.x)
    assert started.n_iter == 0 and np.array_equal(started.x, size * plain.x)


@pytest.mark.parametrize("size", [1e-320, 1e-300, 1e-200, -1e200, 1e300])
def test_the_length_of_an_answer_does_not_matter(rng, size):
    A, b = problem(rng)
    inverse = np.linalg.inv(A)
    found = flexible_cg(A, b, precondition=lambda r: size * (inverse @ r), rtol=1e-10)
    # Of 1e-320 only the first digits of an answer are there.
    assert found.n_fallbacks == 0 and found.n_iter <= (1 if abs(size) > 1e-310 else 10)


def test_negative_curvature_is_an_error_wherever_the_direction_came_from(rng):
    """Such a direction proves that A is indefinite; a run that goes on ends at residuals of 1e70."""
    Q, _ = np.linalg.qr(rng.normal(size=(30, 30)))
    A = (Q * np.concatenate([-np.geomspace(1, 10, 3), np.geomspace(1, 100, 27)])) @ Q.T
    A, b = (A + A.T) / 2, rng.normal(size=30)
    for callback in (None, lambda r: r / 3, lambda r: Q[:, 0]):
        with pytest.raises(np.linalg.LinAlgError, match="not positive definite"):
            flexible_cg(A, b, precondition=callback)
    # The control: a singular matrix has none.
    S = (Q * np.concatenate([np.zeros(5), np.geomspace(1, 100, 25)])) @ Q.T
    S = (S + S.T) / 2
    assert flexible_cg(S, S @ b).converged


def test_callbacks_own_what_they_are_given(rng):
    """They may change it, keep it and return it."""
    A, b = problem(rng)
    plain, kept = flexible_cg(A, b), []

    def doubled(r):
        r *= 2
        return r

    def spoiled(v):
        out = A @ v
        v[:] = np.nan
        return out

    def hoarded(r):
        for old in kept:
            old[:] = 7.0
        kept.append(r)
        return r

    for matrix, callback in ((A, doubled), (spoiled, None), (A, hoarded)):
        found = flexible_cg(matrix, b, precondition=callback)
        assert np.linalg.norm(found.x - plain.x) <= 1e-6 * np.linalg.norm(plain.x)
        assert abs(found.n_iter - plain.n_iter) <= 2


def test_random_directions_still_descend(rng):
    A, b = problem(rng)
    x_star = np.linalg.solve(A, b)
    draw = np.random.default_rng(1)
    seen = [np.zeros_like(b)]
    arguments = {"precondition": lambda r: draw.normal(size=r.shape), "stall_window": 0}
    with pytest.warns(Warning, match="stopped"):
        found = flexible_cg(A, b, max_iter=60, **arguments)
    assert (found.energy_decrease >= 0).all()
    for steps in (5, 20, 60):
        draw = np.random.default_rng(1)
        seen.append(after(A, b, steps, **arguments))
    falls = energies(A, x_star, seen)
    assert (np.diff(falls) < 0).all()
    # The provable bookkeeping: what fell is what is missing.
    assert falls[0] - falls[-1] == pytest.approx(found.energy_decrease.sum(), rel=1e-9)


@pytest.mark.parametrize(
    "callback",
    [
        lambda r: np.zeros_like(r),
        lambda r: -r,
        lambda r: np.full_like(r, np.nan),
        lambda r: np.full_like(r, np.inf),
        lambda r: np.where(np.arange(len(r)) == 0, np.nan, r),
    ],
)
def test_adversarial_callbacks_cost_no_steps(rng, callback):
    A, b = problem(rng)
    plain = flexible_cg(A, b)
    found = flexible_cg(A, b, precondition=callback)
    assert found.converged
    assert found.n_iter <= plain.n_iter + 1
    np.testing.assert_allclose(found.x, plain.x, rtol=0, atol=1e-7 * np.linalg.norm(plain.x))


def test_a_callback_that_does_not_earn_its_place_is_left(rng):
    A, b = problem(rng, n=200, condition=1e4)
    draw = np.random.default_rng(2)
    found = flexible_cg(A, b, precondition=lambda r: draw.normal(size=r.shape), stall_window=10)
    assert found.converged
    assert found.switched_at == 10
    assert found.switched_to == "nystrom"
    assert np.linalg.norm(A @ found.x - b) <= 1e-8 * np.linalg.norm(b)
    found = flexible_cg(A, b, precondition=lambda r: draw.normal(size=r.shape), stall_window=10, fallback_rank=0)
    assert found.switched_to == "residual" and found.converged
    flat, b = problem(rng, n=200, condition=2.0)
    found = flexible_cg(flat, b, precondition=lambda r: draw.normal(size=r.shape), stall_window=10)
    assert found.switched_to == "residual"  # of a flat spectrum, a few directions less are no help
    jacobi = np.diag(np.geomspace(1, 1e4, 200)) + 0.1 * A / np.abs(A).max()
    found = flexible_cg(jacobi, b, precondition=lambda r: r / np.diag(jacobi))
    assert found.switched_at is None


def test_a_callback_that_is_not_linear(rng):
    """Only conjugate directions, not their span, are asked of it: it may change its mind in each step."""
    A, b = problem(rng, condition=1e4)
    calls = []

    def moody(r):
        calls.append(np.linalg.norm(r))
        return np.sign(r) if len(calls) % 3 else r**3

    found = flexible_cg(A, b, precondition=moody, directions="all", restart=30, stall_window=0, max_iter=5000)
    assert found.converged
    assert found.n_restarts > 0
    np.testing.assert_allclose(calls, 1.0, rtol=1e-12)  # scale invariance: it sees unit residuals


def test_sources_of_products_agree(rng):
    A, b = problem(rng, n=40)
    A[np.abs(A) < 0.05] = 0
    A = (A + A.T) / 2 + 10 * np.eye(40)
    dense = flexible_cg(A, b)
    # Each stops at a residual of 1e-8 |b|.
    apart = 2e-8 * np.linalg.norm(b) / np.linalg.eigvalsh(A).min()
    for other in (sparse.csr_matrix(A), sparse.csc_array(A), lambda v: A @ v, np.asfortranarray(A), A.tolist()):
        assert np.linalg.norm(flexible_cg(other, b).x - dense.x) <= apart
    operator = pytest.importorskip("scipy.sparse.linalg").aslinearoperator(A)
    assert np.linalg.norm(flexible_cg(operator, b).x - dense.x) <= apart
    np.testing.assert_allclose(flexible_cg(A.astype(np.float32), b).x, dense.x, rtol=0, atol=1e-5)
    assert flexible_cg(A, b, x0=dense.x).n_iter == 0


def test_many_right_hand_sides(rng):
    A, _ = problem(rng, n=50)
    B = rng.normal(size=(50, 4))
    B[:, 2] = 0
    shapes = set()

    def half(R):
        shapes.add(R.shape)
        return 0.5 * R

    for source in (A, sparse.csr_matrix(A), lambda V: A @ V):
        found = flexible_cg(source, B, precondition=half)
        assert found.x.shape == (50, 4) and found.converged
        assert (found.x[:, 2] == 0).all()
        assert found.residual_norm.shape == (4,)
        for j in range(4):
            # Both stop at a residual of 1e-8 |b|, and the smallest eigenvalue is 1.
            distance = np.linalg.norm(found.x[:, j] - flexible_cg(A, B[:, j]).x)
            assert distance <= 2e-8 * np.linalg.norm(B[:, j])
    assert shapes == {(50, 4)}


def test_same_bits_for_any_number_of_threads(rng):
    A, b = problem(rng, n=300)
    assert np.array_equal(flexible_cg(A, b, n_jobs=1).x, flexible_cg(A, b, n_jobs=3).x)


def test_refuses(rng):
    A, b = problem(rng, n=6)
    bent = A.copy()
    bent[0, 1] += 1
    with pytest.raises(ValueError, match=r"not symmetric: the entries \(0, 1\)"):
        flexible_cg(bent, b)
    with pytest.raises(ValueError, match="not symmetric"):
        flexible_cg(sparse.csr_matrix(bent), b)
    with pytest.raises(np.linalg.LinAlgError, match="not positive definite"):
        flexible_cg(-A, b)
    with pytest.raises(ValueError, match="shape"):
        flexible_cg(A, b[:4])
    with pytest.raises(ValueError, match="b contains NaN"):
        flexible_cg(A, np.full(6, np.nan))
    with pytest.raises(ValueError, match="A contains NaN"):
        flexible_cg(np.full((6, 6), np.nan), b)
    with pytest.raises(ValueError, match="directions"):
        flexible_cg(A, b, directions=0)
    with pytest.raises(ValueError, match="x0 has the shape"):
        flexible_cg(A, b, x0=np.zeros(5))
    with pytest.raises(ValueError, match="precondition must return"):
        flexible_cg(A, b, precondition=lambda r: r[:2])
    with pytest.raises(TypeError, match="array of numbers"):
        flexible_cg(A, b, precondition=lambda r: "no")
    with pytest.raises(TypeError, match="precondition must return real numbers"):
        flexible_cg(A, b, precondition=lambda r: r * 1j)
    with pytest.raises(ValueError, match="Complex data"):
        flexible_cg(A, b, x0=b * 1j)
    with pytest.raises(ValueError, match="product with A contains NaN"):
        flexible_cg(lambda v: np.full_like(v, np.nan), b)
    with pytest.raises(ZeroDivisionError):
        flexible_cg(A, b, precondition=lambda r: 1 / 0)
    with pytest.raises(ValueError, match="fallback_rank"):
        flexible_cg(A, b, fallback_rank=7)
