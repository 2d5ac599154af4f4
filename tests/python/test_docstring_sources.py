"""Every public function and class of the analytic family says where its method comes from."""

import importlib
import inspect
import re

import pytest

import gramian as gm

# Modules whose public names compute something that was published or stands in a textbook.
FAMILY = (
    "balance",
    "broad",
    "classifier",
    "coded_classifier",
    "codes",
    "composition",
    "conformal",
    "deep_kernel",
    "diagonal_steps",
    "dual_stream",
    "federated",
    "flow",
    "frechet",
    "fusion",
    "gram",
    "heads",
    "influence",
    "kernel_machine",
    "leave_one_out",
    "logistic_head",
    "presets",
    "quantiles",
    "random_features",
    "rbf_features",
    "regressor",
    "replay",
    "risk",
    "second_order",
    "singular_kernel",
    "softmax_regression",
    "truncated",
    "unlearning",
    "width_ensemble",
)
# Records of what another name computed, which has the source.
RECORDS = {
    "BalancedMemory",
    "EmbeddingMetric",
    "FrechetClassifier",
    "GcvCurve",
    "GraphMetric",
    "HarmfulRows",
    "HeldOut",
    "HoldoutCurve",
    "KernelLimit",
    "LooCurve",
    "NestedCurve",
    "RiskPoint",
    "SoftBins",
    "Solution",
    "SolveReport",
    "TargetCode",
    "TreeMetric",
    "WidthPlan",
}
# A title in quotation marks, which begins with a capital letter, or a textbook.
SOURCE = re.compile(r"\b(?:Source|Reference)s?:\s.*?(?:\"[A-Z][^\"]{7,}\"|textbook)", re.DOTALL)


def public_names():
    """(name, object) of what is public at the top and in the public modules, and at home in the family."""
    homes = {f"gramian.{name}" for name in FAMILY}
    found = {}
    for module in (gm, gm.codes, gm.federated, gm.presets, gm.second_order):
        listed = getattr(module, "__all__", None) or [name for name in vars(module) if not name.startswith("_")]
        for name in listed:
            one = getattr(module, name)
            if (inspect.isclass(one) or inspect.isfunction(one)) and one.__module__ in homes:
                found[f"{one.__module__}.{name}"] = one
    return sorted(found.items())


@pytest.mark.parametrize("name, one", public_names(), ids=[name for name, _ in public_names()])
def test_names_its_source(name, one):
    if one.__name__ not in RECORDS:
        assert SOURCE.search(inspect.getdoc(one) or ""), f"{name} names no source"


# Methods that compute something that the source of their class does not cover.
METHODS = (
    "AnalyticClassifier.calibrate",
    "GaussianClassifier.ood_perturb",
    "GaussianClassifier.ood_score",
    "GradientFlow.best_t",
    "GradientFlow.gcv",
    "GradientFlow.mode_stops",
    "GradientFlow.risk",
    "GramState.gcv",
    "GramState.holdout",
    "GramState.prefix",
    "InfiniteWidthEnsemble.members_needed",
    "QuantileAggregator.calibrate",
    "RBFFeatures.from_stream",
    "RiskCurve.from_pilot",
)
# They explain how they write a file.
FILES = ("save",)


@pytest.mark.parametrize("name", METHODS)
def test_method_names_its_source(name):
    owner, method = name.split(".")
    assert SOURCE.search(inspect.getdoc(getattr(getattr(gm, owner), method)) or ""), f"{name} names no source"


def own_methods(one):
    """(name, docstring) of the public methods that a class defines itself."""
    for name, value in vars(one).items():
        function = value.fget if isinstance(value, property) else getattr(value, "__func__", value)
        if not name.startswith("_") and callable(function):
            yield name, inspect.getdoc(function) or ""


@pytest.mark.parametrize("name, one", public_names(), ids=[name for name, _ in public_names()])
def test_methods_with_notes_name_a_source_in_them(name, one):
    """Notes are where a method says how it computes, so that is where the source stands."""
    if inspect.isclass(one) and one.__name__ not in RECORDS:
        for method, text in own_methods(one):
            assert "\nNotes\n" not in text or method in FILES or SOURCE.search(text), f"{name}.{method}"


def test_the_list_is_of_this_family():
    for name in FAMILY:
        assert importlib.import_module(f"gramian.{name}")
    assert len(public_names()) > 60


@pytest.mark.parametrize(
    "text, found",
    [
        ('Notes\n-----\nSource: "More is Better in Modern Machine Learning".', True),
        ('References: "Equiangular Basis Vectors" (the idea).', True),
        ("Source: textbook identity, the hat matrix.", True),
        ('kind : {"nngp", "ntk"}, default="ntk"', False),
        ('Source: see "ntk".', False),
        ("Exact, as everyone knows.", False),
    ],
)
def test_what_counts_as_one(text, found):
    assert bool(SOURCE.search(text)) == found
