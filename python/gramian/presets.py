"""Published class-incremental methods as configured estimators.

Each function returns an estimator that is not fitted, with the settings of the paper or of its public code as defaults.
Where that code does something else than the formula it stands for, the docstring says so: these estimators follow the
formula, so that after any stream the weights are those of one regression on all rows.

All random projections here are standard normal, divided by the square root of the number of inputs d. The public code
draws uniform weights in +-1 / sqrt(d), whose standard deviation is sqrt(3) times smaller. For relu features this only
says what a ridge is worth: pass ``scale=(3 * d) ** -0.5`` for features of the published size.
"""

from .classifier import AnalyticClassifier
from .dual_stream import DualStreamClassifier
from .features import RandomFeatures, RBFFeatures

__all__ = ["acil", "air", "ds_al", "f_oal", "g_acil", "gkeal", "ranpac"]


def _on_random_features(n_features, activation, scale, ridge, random_state, params):
    """A classifier without intercept behind a random projection, other parameters as they are given."""
    features = RandomFeatures(n_features, activation=activation, scale=scale, random_state=random_state)
    return AnalyticClassifier(features, ridge=ridge, **{"fit_intercept": False, **params})


def acil(n_features=8192, ridge=0.1, scale=None, random_state=0, **params):
    """ACIL: class-incremental ridge regression on relu random features, every class in one phase.

    Parameters
    ----------
    n_features : int, default=8192
    ridge : float, default=0.1
        The command-line default of the public code (its class has 1e-3).
    scale : float, default=None
        Of the projection, see the module.
    random_state : int, RandomState, Generator or None, default=0
    **params
        More parameters of `AnalyticClassifier`.

    Returns
    -------
    AnalyticClassifier

    Notes
    -----
    The public code carries the inverse of the Gram matrix from batch to batch; here sums are carried and the weights
    solved once, which gives the same weights with errors that depend neither on the number of batches nor on the ridge.
    Classes that come back are no special case, so `acil` and `g_acil` differ in their settings only.

    Source: "ACIL: Analytic Class-Incremental Learning with Absolute Memorization and Privacy Protection".
    """
    return _on_random_features(n_features, "relu", scale, ridge, random_state, params)


def g_acil(n_features=5000, ridge=100.0, scale=None, random_state=0, **params):
    """G-ACIL (GACL): the same for streams in which old and new classes are mixed in any batch.

    Parameters
    ----------
    n_features : int, default=5000
    ridge : float, default=100.0
        What the public code is started with. Its launch scripts feed every batch three times, which is exactly joint
        ridge regression with a third of this ridge: pass ``ridge=100 / 3`` to reproduce them with one pass.
    scale, random_state, **params
        As in `acil`.

    Returns
    -------
    AnalyticClassifier

    Notes
    -----
    Source: "G-ACIL: Analytic Learning for Exemplar-Free Generalized Class Incremental Learning".
    """
    return _on_random_features(n_features, "relu", scale, ridge, random_state, params)


def air(n_features=8192, ridge=0.1, scale=None, random_state=0, **params):
    """AIR: ACIL in which every class has the same total weight, whatever its number of rows.

    Parameters
    ----------
    n_features, ridge
        Those of `acil`, which AIR builds on.
    scale, random_state, **params
        As in `acil`. ``class_weight="balanced"`` has scikit-learn's constant in the weights instead of AIR's.

    Returns
    -------
    AnalyticClassifier
        With ``class_weight="air"``.

    Notes
    -----
    A row of a class of n_c rows has the weight s / n_c, the constant such that these average to one over the classes.
    The public code keeps a d x d matrix for each class; here small classes, closed classes and declared counts take
    less (`gramian.balanced_memory`), and the weights are the same.

    Source: "AIR: Analytic Imbalance Rectifier for Continual Learning".
    """
    return _on_random_features(n_features, "relu", scale, ridge, random_state, {"class_weight": "air", **params})


def f_oal(n_features=1000, ridge=1.0, scale=None, random_state=0, **params):
    """F-OAL: online class-incremental ridge regression on sigmoid random features.

    Parameters
    ----------
    n_features : int, default=1000
    ridge : float, default=1.0
        The published recursion starts from the identity, which is this.
    scale, random_state, **params
        As in `acil`.

    Returns
    -------
    AnalyticClassifier

    Notes
    -----
    The public code drops the last incomplete batch of every task and must know the number of classes at the start; here
    all rows are used and classes come as they come. The paper's features are means over the blocks of a vision
    transformer: give these as ``X``.

    Source: "F-OAL: Forward-only Online Analytic Learning with Fast Training and Low Memory Footprint in Class
    Incremental Learning".
    """
    return _on_random_features(n_features, "sigmoid", scale, ridge, random_state, params)


def ds_al(n_features=8192, ridge=0.1, compensation_ridge=0.1, compensation=0.6, scale=None, random_state=0, **params):
    """DS-AL: ACIL and a second head on tanh features of the same projection that learns what ACIL leaves over.

    Parameters
    ----------
    n_features : int, default=8192
    ridge, compensation_ridge : float, default=0.1
        The command-line defaults of the public code.
    compensation : float, default=0.6
        The paper's for CIFAR-100; it has 1.5 for ImageNet-1k, and searches from 0 to 2.
    scale, random_state
        As in `acil`.
    **params
        More parameters of `DualStreamClassifier`. ``variant="published"`` takes the residual after each batch, as the
        public code does, and so depends on the batches; the default takes it at the end of each phase.

    Returns
    -------
    DualStreamClassifier

    Notes
    -----
    Source: "DS-AL: A Dual-Stream Analytic Learning for Exemplar-Free Class-Incremental Learning".
    """
    return DualStreamClassifier(
        n_features,
        scale=scale,
        ridge=ridge,
        compensation_ridge=compensation_ridge,
        compensation=compensation,
        random_state=random_state,
        **params,
    )


def gkeal(n_centers=512, gamma="median", ridge=0.1, random_state=0, **params):
    """Kernel embedding: radial features around rows drawn from the first call, then class-incremental ridge.

    Use it when classes are few-shot and not linear in the features.

    Parameters
    ----------
    n_centers : int or RBFFeatures, default=512
        Centres, drawn from all rows of the first call that learns; where it has fewer rows, convex mixtures of them
        are added. In one pass over a stream they are therefore rows of its first batch, so feed it the whole first
        phase at once. Centres drawn from all rows of a stream take two passes: ``RBFFeatures.from_stream`` of its
        batches, which stands here instead of the number, and then the pass that learns.
    gamma : float or "median", default="median"
        ``1 / (2 sigma^2)``; the published sigma is 10. That of an RBFFeatures is its own.
    ridge : float, default=0.1
    random_state : int, default=0
        Draws the centres.
    **params
        Other parameters of `AnalyticClassifier`.

    Returns
    -------
    AnalyticClassifier

    Notes
    -----
    The published code takes the first rows as centres, which are of few classes where the rows are sorted, and
    normalises its mixtures along the wrong axis; this one does neither. Centres are fixed once rows are in: the sums of
    kernel features say nothing about other centres, and the rows are gone. Reference: "GKEAL: Gaussian Kernel Embedded
    Analytic Learning for Few-Shot Class Incremental Task".
    """
    chosen = n_centers
    if not isinstance(chosen, RBFFeatures):
        chosen = RBFFeatures(n_centers, gamma=gamma, random_state=random_state, too_few="mix")
    return AnalyticClassifier(
        chosen, **{"ridge": ridge, "fit_intercept": False, "random_state": random_state, **params}
    )


def ranpac(n_features=10_000, rule="moments", random_state=0, **params):
    """Random projection with ReLU and a ridge chosen by held-out rows.

    Use it when features come from a frozen network and no ridge is known.

    Parameters
    ----------
    n_features : int, default=10000
        Width of the projection; 0 for none, which makes decorrelated prototypes of the features themselves.
    rule : {"moments", "gcv", "ranpac"}, default="moments"
        How the ridge is chosen: by rows of all calls of which only sums are kept; by generalised cross-validation; or
        as published, by the last fifth of the last call alone, from 10^-8 .. 10^8.
    random_state : int, default=0
        Draws the projection and the held-out rows.
    **params
        Other parameters of `AnalyticClassifier`.

    Returns
    -------
    AnalyticClassifier

    Notes
    -----
    Reference: "RanPAC: Random Projections and Pre-trained Models for Continual Learning". Weights are standard normal,
    as there.
    """
    if rule not in ("moments", "gcv", "ranpac"):
        raise ValueError(f"rule must be 'moments', 'gcv' or 'ranpac', got {rule!r}")
    chosen = None if n_features == 0 else RandomFeatures(n_features, scale=1.0, random_state=random_state)
    choice = {"ridge": "gcv"} if rule == "gcv" else {"ridge": "holdout", "holdout_rule": rule}
    return AnalyticClassifier(chosen, **{**choice, "fit_intercept": False, "random_state": random_state, **params})
