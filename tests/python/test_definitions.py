"""Every public name of the analytic family has a plain definition in tests/reference, and a test that uses it."""

import importlib
import inspect
import pathlib
import re

import pytest
import reference_path  # noqa: F401  makes the definitions importable
from test_docstring_sources import RECORDS, public_names

# Names of other families, whose definitions stand in files of their own.
OTHERS = ("diagonal_steps", "logistic_head", "second_order", "softmax_regression")

DEFINITIONS = {
    "AlignedClassifier": ("heads.aligned", "heads.short_scatter", "heads.ridge_of_sums"),
    "AnalyticClassifier": (
        "analytic.joint_classifier",
        "analytic.incremental",
        "analytic.noise_variance",
        "analytic.best_temperature",
        "class_incremental.balanced_classifier",
    ),
    "AnalyticRegressor": ("analytic.ridge", "analytic.Problem", "update.aged_ridge"),
    "BroadLearner": ("broad.nodes",),
    "CalibratedNoise": ("federated.gaussian_sigma",),
    "CodedClassifier": ("targets.simplex",),
    "ConformalClassifier": ("conformal.class_p_values",),
    "ConformalRidge": ("conformal.conforms",),
    "DeepKernel": ("kernels.deep_kernel", "kernels.relu_dual", "kernels.erf_dual", "kernels.dual_values"),
    "DeepKernelClassifier": ("kernels.deep_kernel",),
    "DeepKernelRegressor": ("kernels.deep_kernel",),
    "DeletionRecord": ("influence.without", "influence.membership_advantage"),
    "DualStreamClassifier": ("class_incremental.dual_stream",),
    "FeatureChain": ("features.random_features",),
    "FixedPointCodec": ("federated.fixed", "federated.words"),
    "FrechetPredictor": ("targets.frechet",),
    "FusedFeatures": ("random_expansion.fused",),
    "GaussianClassifier": (
        "heads.mahalanobis",
        "heads.discriminant",
        "heads.pooled_covariance",
        "heads.oracle_shrinkage",
        "heads.ood_gradient",
    ),
    "GaussianMechanism": ("federated.gaussian_delta", "federated.gaussian_sigma"),
    "GradientFlow": ("risk.gradient_flow", "risk.gradient_descent", "risk.flow_left_out"),
    "GramState": ("analytic.Problem", "random_expansion.moment_error", "random_expansion.coarse_to_fine"),
    "InfiniteWidthEnsemble": ("kernels.predictive", "kernels.permuted"),
    "JackknifePlus": ("conformal.jackknife_plus", "conformal.left_out"),
    "LayerCombination": ("heads.combine_layers",),
    "PrivacyAccountant": ("federated.composed_epsilon",),
    "QuantileAggregator": ("conformal.calibrated_shifts", "conformal.repaired", "conformal.stacking_weights"),
    "RBFFeatures": ("random_expansion.stream_centres", "features.rbf"),
    "RandomFeatures": ("features.weights", "features.random_features"),
    "ReplayClassifier": ("heads.topped_up", "heads.topped_up_inputs", "heads.drawn_rows"),
    "RidgeInfluence": ("influence.without", "influence.hat_matrix", "influence.greedy"),
    "RiskCurve": ("risk.predict", "risk.predict_best", "risk.simulate", "risk.Pilot"),
    "SingularKernelClassifier": ("kernels.singular_shares",),
    "TranslatedClassifier": ("heads.translated_rows",),
    "TruncatedRidgeClassifier": ("random_expansion.truncated",),
    "VectorCodec": ("federated.fixed",),
    "as_probabilities": ("targets.project_to_simplex", "targets.clipped"),
    "combine_layers": ("heads.combine_layers",),
    "graph_metric": ("targets.graph_distances",),
    "hermite_coefficients": ("kernels.hermite",),
    "hierarchy_metric": ("targets.tree_distances",),
    "kernel_limit": ("kernels.limit", "kernels.measured_exponent"),
    "leverage": ("leave_one_out.leverages",),
    "loo_curve": ("leave_one_out.loo_score",),
    "loo_errors": ("leave_one_out.loo_errors",),
    "nested_curve": ("leave_one_out.prefix_loss", "leave_one_out.loo_errors"),
    "permutation_threshold": ("kernels.threshold",),
    "pinball_loss": ("conformal.pinball",),
    "plan_width": ("risk.plan_width",),
    "ridge_solve": ("analytic.ridge",),
    "unlearn": ("influence.without", "influence.membership_advantage"),
    "codes.equiangular": ("targets.coherence", "targets.welch_bound"),
    "codes.simplex": ("targets.simplex",),
    "codes.soft_bins": ("targets.two_hot", "targets.normal_bins", "targets.decoded_bins"),
    "codes.soft_labels": ("targets.vote_posterior",),
    "federated.clip_rows": ("federated.clipped",),
    "federated.factor_update": ("federated.triangular_factor",),
    "federated.aggregate": ("federated.pairwise_aggregate",),
    "federated.gaussian_epsilon": ("federated.gaussian_delta",),
    "federated.gaussian_sigma": ("federated.gaussian_sigma",),
    "presets.gkeal": ("random_expansion.stream_centres",),
    "presets.ranpac": ("random_expansion.published_weights", "random_expansion.published_losses"),
}
# What these give is a formula in one line of its test, a draw whose law is tested, or another name's answer by another
# way, which a test compares with that.
ONE_LINE = {
    "balanced_memory": "test_balanced.py",
    "embedding_metric": "test_frechet.py",
    "codes.custom": "test_codes.py",
    "codes.decode": "test_codes.py",
    "codes.one_hot": "test_codes.py",
    "codes.random": "test_codes.py",
    "federated.client_update": "test_federated.py",
    "federated.merge_factors": "test_federated.py",
    "federated.merge_sums": "test_federated.py",
    "federated.remove_client": "test_federated.py",
    "presets.acil": "test_presets.py",
    "presets.air": "test_presets.py",
    "presets.ds_al": "test_presets.py",
    "presets.f_oal": "test_presets.py",
    "presets.g_acil": "test_presets.py",
}


def family():
    """Names as users write them."""
    out = set()
    for name, one in public_names():
        _, home, short = name.split(".")
        if home in OTHERS or short in RECORDS:
            continue
        out.add(f"{home}.{short}" if home in ("codes", "federated", "presets") and inspect.isfunction(one) else short)
    return out


def test_every_name_has_a_definition():
    assert family() == DEFINITIONS.keys() | ONE_LINE.keys()
    assert not DEFINITIONS.keys() & ONE_LINE.keys()


TESTS = {path.name: path.read_text(encoding="utf-8") for path in pathlib.Path(__file__).parent.glob("test_*.py")}


@pytest.mark.parametrize("definition", sorted({one for group in DEFINITIONS.values() for one in group}))
def test_every_definition_is_there_explained_and_used(definition):
    module, name = definition.split(".")
    one = getattr(importlib.import_module(f"reference.{module}"), name)
    assert inspect.getdoc(one)
    assert any(re.search(rf"\.{name}\b|\b{name}\(", text) for text in TESTS.values()), f"no test calls {definition}"


@pytest.mark.parametrize("name", sorted(ONE_LINE))
def test_names_of_one_line_are_tested(name):
    assert re.search(rf"\b{name.split('.')[-1]}\(", TESTS[ONE_LINE[name]])
