"""Steps scaled by the diagonal of the Hessian, and its estimate from products with vectors of signs."""

from . import _core, _validate
from .base import draw_seed


def hutchinson_diagonal(hessian_product, n_params, n_samples=1, random_state=0):
    """Hutchinson's estimate of the diagonal of a symmetric matrix from products with random signs.

    Parameters
    ----------
    hessian_product : callable
        Receives z of shape (n_params,), returns ``H z``.
    n_params : int
    n_samples : int, default=1
        Products. The variance of entry i is the sum of the squares of the rest of its row over ``n_samples``.
    random_state : int, Generator or None, default=0

    Returns
    -------
    diagonal, error : ndarray of shape (n_params,)
        The estimate, which is unbiased and exact for a diagonal matrix, and its standard error (zeros for one sample).

    Notes
    -----
    Source: "ADAHESSIAN: An Adaptive Second Order Optimizer for Machine Learning" for its use here.
    """
    if not callable(hessian_product):
        raise TypeError(f"hessian_product must be a function of a vector, got {hessian_product!r}")
    return _core.hutchinson_diagonal(
        hessian_product,
        _validate.check_count(n_params, "n_params"),
        _validate.check_count(n_samples, "n_samples"),
        draw_seed(random_state),
    )


def _step(state, params, gradient, diagonal):
    if state is None:
        state = _core.StepState()
    params = _validate.check_vector(params, "params")
    gradient = _validate.check_vector(gradient, "gradient", len(params))
    diagonal = None if diagonal is None else _validate.check_vector(diagonal, "diagonal", len(params))
    return state, params, gradient, diagonal


def adahessian_step(
    params,
    gradient,
    diagonal,
    state=None,
    learning_rate=0.15,
    beta1=0.9,
    beta2=0.999,
    eps=1e-8,
    power=1.0,
    average=1,
):
    """One AdaHessian step: Adam with the diagonal of the Hessian in the place of the gradient's size.

    Parameters
    ----------
    params, gradient, diagonal : array-like of shape (n_params,)
        ``diagonal`` from `hutchinson_diagonal`, one sample being enough.
    state : StepState, default=None
        What the step before returned; None begins a run.
    learning_rate, beta1, beta2, eps : float
    power : float, default=1.0
        Of the averaged diagonal: 1 is Newton's scaling, 0 none.
    average : int, default=1
        Neighbours whose diagonals are averaged (the paper's spatial averaging, for filters of that size).

    Returns
    -------
    params : ndarray of shape (n_params,)
        The next parameters; the arguments are not changed.
    state : StepState
        The next one.

    Raises
    ------
    ValueError
        NaN or infinity in what is given, or in what would come of it.

    Notes
    -----
    O(n_params). Source: "ADAHESSIAN: An Adaptive Second Order Optimizer for Machine Learning".
    """
    state, params, gradient, diagonal = _step(state, params, gradient, diagonal)
    out, _, state = state.adahessian(
        params,
        gradient,
        diagonal,
        _validate.check_number(learning_rate, "learning_rate"),
        _validate.check_fraction(beta1, "beta1"),
        _validate.check_fraction(beta2, "beta2"),
        _validate.check_number(eps, "eps"),
        _validate.check_number(power, "power"),
        _validate.check_count(average, "average"),
    )
    return out, state


def sophia_step(
    params, gradient, diagonal=None, state=None, learning_rate=0.05, beta1=0.9, beta2=0.99, scale=1.0, eps=1e-12
):
    """One Sophia step: averaged gradients over averaged diagonals, no entry moving by more than the learning rate.

    Parameters
    ----------
    params, gradient : array-like of shape (n_params,)
    diagonal : array-like of shape (n_params,), default=None
        None between estimates; the first step needs one.
    state : StepState, default=None
        What the step before returned; None begins a run.
    learning_rate, beta1, beta2, eps : float
    scale : float, default=1.0
        The paper's gamma: diagonals count this much, so a smaller one clips more.

    Returns
    -------
    params : ndarray of shape (n_params,)
        The next parameters; the arguments are not changed.
    state : StepState
        The next one.
    clipped : float
        Share of the entries that moved by the whole learning rate.

    Raises
    ------
    ValueError
        NaN or infinity in what is given, or in what would come of it.

    Notes
    -----
    O(n_params). Source: "Sophia: A Scalable Stochastic Second-order Optimizer for Language Model Pre-training".
    """
    state, params, gradient, diagonal = _step(state, params, gradient, diagonal)
    out, clipped, state = state.sophia(
        params,
        gradient,
        diagonal,
        _validate.check_number(learning_rate, "learning_rate"),
        _validate.check_fraction(beta1, "beta1"),
        _validate.check_fraction(beta2, "beta2"),
        _validate.check_number(scale, "scale", strict=True),
        _validate.check_number(eps, "eps"),
    )
    return out, state, clipped
