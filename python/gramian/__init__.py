"""Exact incremental learning from Gram matrices.

A model is a set of sums over rows (`GramState`) and a seed (`RandomFeatures`): rows can be added, removed and merged
exactly, and the weights are always those of one ridge regression on the rows that are in.
"""

import importlib  # noqa: I001  the order below matters
from typing import TYPE_CHECKING

from . import _preload  # noqa: F401  opens the BLAS library that the compiled module needs, so it comes first
from ._core import BackendError, FormatError, __version__
from .classifier import AnalyticClassifier
from .regressor import AnalyticRegressor
from .features import FeatureChain, FusedFeatures, RBFFeatures, RandomFeatures
from .gram import GcvCurve, GramState, HoldoutCurve, Solution, SolveReport, ridge_solve
from .model_files import load
from .runtime import build_info, cuda_available, set_num_threads

if TYPE_CHECKING:
    from . import codes, federated, gradient_sketch, presets, second_order, sketch
    from ._sketched_ridge import SketchedRidge, SketchedRidgePath, SketchedRidgeResult, sketched_ridge
    from .balance import balanced_memory
    from .broad import BroadLearner
    from .coded_classifier import CodedClassifier
    from .conformal import ConformalClassifier, ConformalRidge, JackknifePlus
    from .dual_stream import DualStreamClassifier
    from .flow import GradientFlow
    from .frechet import FrechetPredictor, as_probabilities, embedding_metric, graph_metric, hierarchy_metric
    from .heads import AlignedClassifier, GaussianClassifier, LayerCombination, TranslatedClassifier, combine_layers
    from .influence import HarmfulRows, HeldOut, RidgeInfluence
    from .iterate import FlexibleCgResult, flexible_cg
    from .kernels import (
        DeepKernel,
        DeepKernelClassifier,
        DeepKernelRegressor,
        InfiniteWidthEnsemble,
        SingularKernelClassifier,
        hermite_coefficients,
        kernel_limit,
        permutation_threshold,
    )
    from .leave_one_out import LooCurve, NestedCurve, leverage, loo_curve, loo_errors, nested_curve
    from .logistic_head import LogisticHead
    from .low_rank import (
        FrequentDirections,
        NystromPcgResult,
        NystromResult,
        SvdResult,
        nystrom,
        nystrom_pcg,
        randomized_svd,
    )
    from .quantiles import QuantileAggregator, pinball_loss
    from .r_factor import RFactor, TriangularSolution
    from .regression import LinfResult, LstsqPlan, LstsqResult, LstsqSpeeds, linf_lstsq, linf_rows, lstsq, lstsq_plan
    from .replay import ReplayClassifier
    from .risk import RiskCurve, plan_width
    from .second_order import MFAC, MKOR
    from .softmax_regression import SoftmaxRegression
    from .transforms import fwht, log_softmax, logsumexp, softmax
    from .truncated import TruncatedRidgeClassifier
    from .unlearning import DeletionRecord, unlearn

# The rest of the family is imported when it is first asked for, so that a program pays for what it uses alone.
_HOMES = {
    "_sketched_ridge": ("SketchedRidge", "SketchedRidgePath", "SketchedRidgeResult", "sketched_ridge"),
    "balance": ("balanced_memory",),
    "broad": ("BroadLearner",),
    "coded_classifier": ("CodedClassifier",),
    "codes": ("codes",),
    "conformal": ("ConformalClassifier", "ConformalRidge", "JackknifePlus"),
    "dual_stream": ("DualStreamClassifier",),
    "federated": ("federated",),
    "flow": ("GradientFlow",),
    "frechet": ("FrechetPredictor", "as_probabilities", "embedding_metric", "graph_metric", "hierarchy_metric"),
    "gradient_sketch": ("gradient_sketch",),
    "heads": ("AlignedClassifier", "GaussianClassifier", "LayerCombination", "TranslatedClassifier", "combine_layers"),
    "influence": ("HarmfulRows", "HeldOut", "RidgeInfluence"),
    "iterate": ("FlexibleCgResult", "flexible_cg"),
    "kernels": (
        "DeepKernel",
        "DeepKernelClassifier",
        "DeepKernelRegressor",
        "InfiniteWidthEnsemble",
        "SingularKernelClassifier",
        "hermite_coefficients",
        "kernel_limit",
        "permutation_threshold",
    ),
    "leave_one_out": ("LooCurve", "NestedCurve", "leverage", "loo_curve", "loo_errors", "nested_curve"),
    "logistic_head": ("LogisticHead",),
    "low_rank": (
        "FrequentDirections",
        "NystromPcgResult",
        "NystromResult",
        "SvdResult",
        "nystrom",
        "nystrom_pcg",
        "randomized_svd",
    ),
    "presets": ("presets",),
    "quantiles": ("QuantileAggregator", "pinball_loss"),
    "r_factor": ("RFactor", "TriangularSolution"),
    "regression": (
        "LinfResult",
        "LstsqPlan",
        "LstsqResult",
        "LstsqSpeeds",
        "linf_lstsq",
        "linf_rows",
        "lstsq",
        "lstsq_plan",
    ),
    "replay": ("ReplayClassifier",),
    "risk": ("RiskCurve", "plan_width"),
    "second_order": ("MFAC", "MKOR", "second_order"),
    "sketch": ("sketch",),
    "softmax_regression": ("SoftmaxRegression",),
    "transforms": ("fwht", "log_softmax", "logsumexp", "softmax"),
    "truncated": ("TruncatedRidgeClassifier",),
    "unlearning": ("DeletionRecord", "unlearn"),
}
_HOME_OF = {name: home for home, names in _HOMES.items() for name in names}


def __getattr__(name):
    home = _HOME_OF.get(name)
    if home is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    module = importlib.import_module(f".{home}", __name__)
    value = module if name == home else getattr(module, name)
    globals()[name] = value
    return value


def __dir__():
    return sorted({*globals(), *__all__})


__all__ = [
    "AlignedClassifier",
    "AnalyticClassifier",
    "AnalyticRegressor",
    "BackendError",
    "BroadLearner",
    "CodedClassifier",
    "ConformalClassifier",
    "ConformalRidge",
    "DeepKernel",
    "DeepKernelClassifier",
    "DeepKernelRegressor",
    "DeletionRecord",
    "DualStreamClassifier",
    "FeatureChain",
    "FlexibleCgResult",
    "FormatError",
    "FrechetPredictor",
    "FrequentDirections",
    "FusedFeatures",
    "GaussianClassifier",
    "GcvCurve",
    "GradientFlow",
    "GramState",
    "HarmfulRows",
    "HeldOut",
    "HoldoutCurve",
    "InfiniteWidthEnsemble",
    "JackknifePlus",
    "LayerCombination",
    "LinfResult",
    "LogisticHead",
    "LooCurve",
    "LstsqPlan",
    "LstsqResult",
    "LstsqSpeeds",
    "MFAC",
    "MKOR",
    "NestedCurve",
    "NystromPcgResult",
    "NystromResult",
    "QuantileAggregator",
    "RBFFeatures",
    "RFactor",
    "RandomFeatures",
    "ReplayClassifier",
    "RidgeInfluence",
    "RiskCurve",
    "SingularKernelClassifier",
    "SketchedRidge",
    "SketchedRidgePath",
    "SketchedRidgeResult",
    "SoftmaxRegression",
    "Solution",
    "SolveReport",
    "SvdResult",
    "TranslatedClassifier",
    "TriangularSolution",
    "TruncatedRidgeClassifier",
    "__version__",
    "as_probabilities",
    "balanced_memory",
    "build_info",
    "codes",
    "combine_layers",
    "cuda_available",
    "embedding_metric",
    "federated",
    "flexible_cg",
    "fwht",
    "gradient_sketch",
    "graph_metric",
    "hermite_coefficients",
    "hierarchy_metric",
    "kernel_limit",
    "leverage",
    "linf_lstsq",
    "linf_rows",
    "load",
    "log_softmax",
    "logsumexp",
    "loo_curve",
    "loo_errors",
    "lstsq",
    "lstsq_plan",
    "nested_curve",
    "nystrom",
    "nystrom_pcg",
    "permutation_threshold",
    "pinball_loss",
    "plan_width",
    "presets",
    "randomized_svd",
    "ridge_solve",
    "second_order",
    "set_num_threads",
    "sketch",
    "sketched_ridge",
    "softmax",
    "unlearn",
]
