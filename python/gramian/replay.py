"""A classifier that fills small classes up with Gaussian rows which are never drawn."""

from .heads import _MomentClassifier


class ReplayClassifier(_MomentClassifier):
    """Ridge regression on the rows and on as many Gaussian ones as each class lacks to the largest, in expectation.

    A class of ``n_c`` rows is filled up to the largest one by ``m = max n - n_c`` rows of a Gaussian with its mean and
    the variances of its features, uncorrelated. On average these add ``m (mean mean' + diag(variance))`` to the Gram
    matrix and ``m mean`` to the column of the class, which is what is added here: the limit of drawing ever more rows
    that count ever less. Rows of the largest class stay what they are, and no class loses weight.

    Parameters
    ----------
    feature_map : RandomFeatures, RBFFeatures or FeatureChain, default=None
        Fixed map in front; the Gaussians are those of the mapped features.
    ridge, ridges, standardize, fit_intercept
        Of the ridge regression; see `AnalyticClassifier`.
    dtype, device, n_jobs, random_state, verbose
        See `AnalyticClassifier`.

    Attributes
    ----------
    classes_, coef_, intercept_, class_count_, ridge_, report_, n_features_in_, feature_names_in_, state_
        As of `AnalyticClassifier`; ``class_count_`` counts rows that were there.

    Notes
    -----
    With `sample_weight`, "rows" are weights; variances are biased (divided by the weight). Memory is 4 d^2 bytes a
    class, so that rows can be forgotten exactly; the weights cost C d^2 + d^3 / 3 flops for C classes and d features.
    Balanced classes (``class_weight="air"``) give small classes the same total weight with their full covariances.

    Reference: "Online Analytic Exemplar-Free Continual Learning with Large Models for Imbalanced Autonomous Driving
    Task" (AEF-OCL), whose generator draws the rows.

    Examples
    --------
    >>> import numpy as np
    >>> from gramian import AnalyticClassifier, ReplayClassifier
    >>> X = np.array([[0.0], [0.2], [0.1], [0.3], [0.2], [0.4], [1.0], [1.2]])
    >>> y = [0, 0, 0, 0, 0, 0, 1, 1]
    >>> models = [kind(ridge=0.01).fit(X, y) for kind in (AnalyticClassifier, ReplayClassifier)]
    >>> plain, filled = [float(-model.intercept_[0] / model.coef_[0, 0]) for model in models]
    >>> filled < plain  # the edge moves away from the class that was small
    True
    """

    @staticmethod
    def _solve(learnt):
        return learnt.model.topped_up(**learnt.params)
