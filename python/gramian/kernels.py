"""Networks of infinite width and depth: kernels, the estimators on them, and what they tend to with depth."""

from .deep_kernel import DeepKernel, KernelLimit, hermite_coefficients, kernel_limit
from .kernel_machine import DeepKernelClassifier, DeepKernelRegressor
from .singular_kernel import SingularKernelClassifier
from .width_ensemble import InfiniteWidthEnsemble, PermutationThreshold, permutation_threshold

__all__ = [
    "DeepKernel",
    "DeepKernelClassifier",
    "DeepKernelRegressor",
    "InfiniteWidthEnsemble",
    "KernelLimit",
    "PermutationThreshold",
    "SingularKernelClassifier",
    "hermite_coefficients",
    "kernel_limit",
    "permutation_threshold",
]
