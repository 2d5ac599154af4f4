"""Ensembles of networks of infinite width, and the threshold with which they learn a permutation."""

import math
from dataclasses import dataclass

import numpy as np

from . import _core, _validate
from .base import draw_seed, thread_count
from .deep_kernel import DeepKernel
from .kernel_machine import KernelEstimator
from .regressor import AnalyticRegressor


@dataclass(frozen=True)
class PermutationThreshold:
    """Where to round what a network says after it has seen the k unit vectors with their permuted images.

    Attributes
    ----------
    threshold : float
        Middle between the largest output that means 0 and the smallest that means 1.
    margin : float
        Half their distance.
    on, off : ndarray of shape (k,)
        The mean output for a bit that is set and for one that is not, in a row with 1 .. k ones.
    """

    threshold: float
    margin: float
    on: np.ndarray
    off: np.ndarray


def permutation_threshold(kernel, k):
    """One threshold with which a network fitted on k unit vectors is right on all 2^k - 1 binary rows.

    Parameters
    ----------
    kernel : DeepKernel
    k : int
        Bits, at least 2.

    Returns
    -------
    PermutationThreshold

    Raises
    ------
    ValueError
        No single threshold separates the outputs of this kernel.

    Notes
    -----
    With a = k(e_i, e_i), b = k(e_i, e_j) and p = k(x, e_i) for a bit i that is one of s set in x, the kernel matrix is
    (a - b) I + b 11', and with T = (s p + (k - s) b) / (a + (k - 1) b) the mean output is (p - b T) / (a - b) for a set
    bit and b (1 - T) / (a - b) for another one: their difference (p - b) / (a - b) is positive, since the dual map
    rises on [0, 1]. Where b = 0 (an odd activation), the second is 0 and the first never below p at s = k. Source:
    "Wide and Deep Neural Networks Achieve Optimality for Classification" for the kernel; the outputs are a textbook
    identity, the inverse of a rank-one change of a multiple of I.

    Examples
    --------
    >>> from gramian import DeepKernel, permutation_threshold
    >>> round(float(permutation_threshold(DeepKernel("erf", depth=1), 8).threshold), 3)
    0.163
    """
    if not isinstance(kernel, DeepKernel):
        raise TypeError(f"kernel must be a DeepKernel, got {kernel!r}")
    k = _validate.check_count(k, "k", low=2)
    values = kernel.kernel(np.tril(np.ones((k, k))), np.eye(k))
    a, b, p = values[0, 0], values[0, 1], values[:, 0]
    s = np.arange(1, k + 1)
    total = (s * p + np.where(s < k, (k - s) * values[:, -1], 0.0)) / (a + (k - 1) * b)
    on, off = (p - b * total) / (a - b), b * (1 - total) / (a - b)
    low, high = off[:-1].max(), on.min()  # in the row of all ones no bit is off
    if not high > low:
        raise ValueError(f"no single threshold separates {kernel!r}: {high:g} means 1 where {low:g} means 0")
    return PermutationThreshold(float(low + high) / 2, float(high - low) / 2, on, off)


class InfiniteWidthEnsemble(KernelEstimator):
    """Networks of infinite width, drawn one by one: each is trained from its own random weights.

    Over the random weights the trained networks are Gaussian: ``f = f_0 + k(x, X) (K + ridge I)^-1 (Y - f_0(X))`` with
    f_0 a draw of the network at random weights. An ensemble averages ``n_members`` draws.

    Parameters
    ----------
    kernel : DeepKernel, default=None
        ``kind="nngp"`` trains the last layer only (with ridge 0 the members are draws of the Gaussian process
        posterior), "ntk" all of them. None for ``DeepKernel(kind="ntk", lift=1.0)``, which takes rows of zeros too; the
        published networks have no lift.
    n_members : int, default=100
    ridge : float, default=0.0
    random_state : int, RandomState, Generator or None, default=0
    verbose : int, default=0

    Attributes
    ----------
    n_features_in_, feature_names_in_, report_
        As of `DeepKernelClassifier`.

    Notes
    -----
    The covariance of m queries takes m^2 memory and 9 m^3 flops, so queries come some thousand at a time. Predictions
    of several calls are draws of the same members only where they are of the same rows: a member is not stored as a
    function. Source: "Wide and Deep Neural Networks Achieve Optimality for Classification"; the law of the trained
    networks is a textbook identity, the conditional Gaussian.

    Examples
    --------
    >>> import numpy as np
    >>> from gramian import DeepKernel, InfiniteWidthEnsemble, permutation_threshold
    >>> kernel = DeepKernel("erf", depth=1)
    >>> model = InfiniteWidthEnsemble(kernel, n_members=500).fit(np.eye(3), np.eye(3)[[2, 0, 1]])
    >>> model.predict_bits([[1.0, 1.0, 0.0]], permutation_threshold(kernel, 3).threshold)
    array([[1., 0., 1.]])
    """

    _estimator_type = "regressor"

    def __init__(self, kernel=None, n_members=100, ridge=0.0, random_state=0, verbose=0):
        self.kernel = kernel
        self.n_members = n_members
        self.ridge = ridge
        self.random_state = random_state
        self.verbose = verbose

    def fit(self, X, Y):
        """Learns from rows (n, d) and targets (n,) or (n, k). Returns self."""
        who = type(self).__name__
        _validate.check_count(self.n_members, "n_members")
        y = _validate.check_targets(Y, who)
        rows = _validate.check_rows(X, who)
        _validate.check_length(rows, y)
        seed = draw_seed(self.random_state)
        default = DeepKernel(kind="ntk", lift=1.0)
        return self._learn(X, rows, _validate.as_columns(y), False, default, flat=y.ndim == 1, seed=seed)

    def distribution(self, X):
        """Mean and covariance over the members.

        Returns
        -------
        mean : ndarray of shape (m, k)
        covariance : ndarray of shape (m, m)
            Of the rows, the same for each output; outputs are independent.
        """
        fitted, rows = self._query(X)
        return fitted.machine.distribution(rows)

    def sample(self, X, n_members=None):
        """Draws: ndarray of shape (n_members, m, k). The first members do not depend on how many are drawn."""
        fitted, rows = self._query(X)
        count = self.n_members if n_members is None else n_members
        count = _validate.check_count(count, "n_members")
        mean, covariance = fitted.machine.distribution(rows)
        where = _validate.device_name(fitted.kernel.device), thread_count(fitted.kernel.n_jobs)
        draws = _core.draw_gaussians(mean, covariance, fitted.seed, 0, count, *where)
        return draws.reshape(count, *mean.shape)

    def predict(self, X):
        """Mean of ``n_members`` draws, (m,) or (m, k) as the ``Y`` of the fit."""
        mean = self.sample(X).mean(axis=0)
        return mean[:, 0] if self._ready().flat else mean

    score = AnalyticRegressor.score  # of what `predict` says

    def predict_bits(self, X, threshold):
        """`predict` rounded to bits, for targets of zeros and ones: 1.0 where it exceeds the threshold.

        Outputs fall with the number of ones in a row, which is scaled to unit length, so 1 / 2 is seldom the place to
        cut; `permutation_threshold` gives one.
        """
        return (self.predict(X) > _validate.check_number(threshold, "threshold", low=-np.inf)).astype(np.float64)

    def members_needed(self, X, margin, failure=0.01):
        """Members with which the mean of every output of every row is within ``margin`` of its limit.

        Parameters
        ----------
        X : array-like of shape (m, d)
        margin : float or array-like of shape (m,)
            > 0: distance from the limit to where rounding would go wrong.
        failure : float, default=0.01
            Probability that this is not so.

        Returns
        -------
        int
            The least M with ``m k exp(-M margin^2 / (2 variance)) <= failure``.

        Notes
        -----
        Source: textbook bounds, the Gaussian tail and the union over outputs.
        """
        mean, covariance = self.distribution(X)
        margin = np.broadcast_to(np.asarray(margin, dtype=np.float64), mean.shape[:1])
        if not (margin > 0).all():
            raise ValueError("margin must be above 0")
        if not 0 < failure < 1:
            raise ValueError(f"failure must be between 0 and 1, got {failure!r}")
        noise = np.maximum(np.diag(covariance), 0.0) / margin**2
        return max(1, math.ceil(2 * noise.max() * math.log(mean.size / failure)))

    def __sklearn_tags__(self):
        from sklearn.utils import RegressorTags

        tags = self._tags("regressor", target_required=True)
        tags.target_tags.multi_output = True
        tags.regressor_tags = RegressorTags()
        return tags
