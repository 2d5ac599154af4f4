"""A classifier that fills small classes up with Gaussian rows which are never drawn."""

from .heads import _MomentClassifier

SPACES = ("features", "inputs")


class ReplayClassifier(_MomentClassifier):
    """Ridge regression on the rows and on as many Gaussian ones as each class lacks to the largest, in expectation.

    A class of ``n_c`` rows is filled up to the largest one by ``m = max n - n_c`` rows of a Gaussian with its mean and
    the variances of its features, uncorrelated. On average these add ``m (mean mean' + diag(variance))`` to the Gram
    matrix and ``m mean`` to the column of the class, which is what is added here: the limit of drawing ever more rows
    that count ever less. Rows of the largest class stay what they are, and no class loses weight. With
    ``space="inputs"`` the Gaussians are those of the rows in front of the feature map, and ``mean`` and the second
    moments are what the map makes of them on average, exactly.

    Parameters
    ----------
    feature_map : RandomFeatures, RBFFeatures or FeatureChain, default=None
        Fixed map in front. ``space="inputs"`` needs `RandomFeatures` with ``activation="relu"`` or "identity", of any
        kind, or None.
    ridge, ridges, standardize, fit_intercept
        Of the ridge regression; see `AnalyticClassifier`.
    dtype, device, n_jobs, random_state, verbose
        See `AnalyticClassifier`.
    space : {"features", "inputs"}, default="features"
        Where the Gaussians are: behind the feature map, or in front of it, as published. Without a map both are one.

    Attributes
    ----------
    classes_, coef_, intercept_, class_count_, ridge_, report_, n_features_in_, feature_names_in_, state_
        As of `AnalyticClassifier`; ``class_count_`` counts rows that were there.

    Notes
    -----
    With `sample_weight`, "rows" are weights; variances are biased (divided by the weight). Memory is 4 d^2 bytes a
    class, so that rows can be forgotten exactly; the weights cost C d^2 + d^3 / 3 flops for C classes and d features.
    Balanced classes (``class_weight="air"``) give small classes the same total weight with their full covariances.

    ``space="inputs"`` takes 4 p^2 bytes a class more for p inputs and, for each class that is filled up, p d^2 flops
    and d^2 / 2 covariances of two rectified normal numbers (arc-cosine moments, for means that are not zero), each an
    integral of a smooth function by 10 exponentials, 20 where the correlation is above 0.3, and more above 0.75; these
    are taken on the CPU, whatever the device.

    References: "Online Analytic Exemplar-Free Continual Learning with Large Models for Imbalanced Autonomous Driving
    Task" (AEF-OCL), whose generator draws the rows; "Kernel Methods for Deep Learning" (the moments for means of zero).

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

    def __init__(
        self,
        feature_map=None,
        ridge=1.0,
        ridges=None,
        standardize=False,
        fit_intercept=True,
        dtype=None,
        device="cpu",
        n_jobs=None,
        random_state=0,
        verbose=0,
        space="features",
    ):
        super().__init__(
            feature_map, ridge, ridges, standardize, fit_intercept, dtype, device, n_jobs, random_state, verbose
        )
        self.space = space

    def _params_to_json(self):
        if not isinstance(self.space, str) or self.space not in SPACES:
            raise ValueError(f"space must be one of {SPACES}, got {self.space!r}")
        # Files of features do not say so, as those of versions that knew no other space.
        return {**self._ridge_config(), **({"space": "inputs"} if self._keeps_inputs() else {})}

    def _config(self):
        self._params_to_json()
        return super()._config()

    def _keeps_inputs(self):
        return self.space == "inputs"

    @staticmethod
    def _params_from_solver(solver):
        return {"space": "features", **_MomentClassifier._params_from_solver(solver)}

    @staticmethod
    def _solve(learnt):
        return learnt.model.topped_up(**{name: value for name, value in learnt.params.items() if name != "space"})
