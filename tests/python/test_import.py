"""Importing is light, the public names are there, the examples in the docstrings run."""

import doctest
import importlib
import inspect
import json
import pathlib
import subprocess
import sys

import pytest

import gramian


def in_fresh_python(code):
    return subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout


def test_import_takes_no_heavy_package_along():
    found = json.loads(
        in_fresh_python(
            "import json, sys, gramian; "
            "print(json.dumps([m for m in ('sklearn', 'scipy', 'matplotlib', 'pandas') if m in sys.modules]))"
        )
    )
    assert found == []


def test_use_takes_no_heavy_package_along():
    found = in_fresh_python(
        "import sys, numpy as np, gramian, pickle\n"
        "X = np.random.default_rng(0).normal(size=(50, 4)); y = (X[:, 0] > 0).astype(int)\n"
        "m = gramian.AnalyticClassifier(gramian.RandomFeatures(16)).fit(X, y)\n"
        "m.partial_fit(X, y); m.forget(X, y); m.predict_proba(X); m.score(X, y); repr(m); pickle.dumps(m)\n"
        "print([m for m in ('sklearn', 'scipy', 'matplotlib', 'pandas') if m in sys.modules])"
    )
    assert found.strip() == "[]"


def test_without_scikit_learn():
    found = in_fresh_python(
        "import sys, warnings; sys.modules['sklearn'] = None\n"
        "import numpy as np, gramian\n"
        "X = np.random.default_rng(0).normal(size=(50, 4)); y = np.arange(50) % 2\n"
        "for call in (lambda m: m.predict(X), lambda m: m.fit(X, y).forget(X, y).predict(X)):\n"
        "    try:\n"
        "        call(gramian.AnalyticClassifier())\n"
        "    except (ValueError, AttributeError) as error:\n"
        "        print(isinstance(error, ValueError), isinstance(error, AttributeError))\n"
        "with warnings.catch_warnings(record=True) as caught:\n"
        "    warnings.simplefilter('always')\n"
        "    gramian.AnalyticClassifier().fit(X, y[:, None])\n"
        "print([str(w.category.__name__) for w in caught])"
    )
    assert found.split("\n")[:3] == ["True True", "True True", "['UserWarning']"]


def test_public_names():
    assert set(gramian.__all__) <= set(dir(gramian))
    for name in gramian.__all__:
        thing = getattr(gramian, name)
        assert name == "__version__" or inspect.getdoc(thing), f"{name} has no docstring"
    assert gramian.__version__ == gramian.build_info()["version"]


def test_build_info():
    info = gramian.build_info()
    assert info["threads"] >= 1
    assert info["kernel_isa"] in [isa.strip() for isa in info["compiled_isas"].split(",")]
    assert info["blas_provider"] in ("openblas", "eigen")


def test_set_num_threads():
    before = gramian.build_info()["threads"]
    try:
        gramian.set_num_threads(3)
        assert gramian.build_info()["threads"] == 3
    finally:
        gramian.set_num_threads(None)
    assert gramian.build_info()["threads"] == before
    for wrong in (0, -1, 1.5, "2"):
        with pytest.raises(ValueError, match="n must be"):
            gramian.set_num_threads(wrong)


MODULES = sorted(path.stem for path in pathlib.Path(gramian.__file__).parent.glob("*.py") if path.stem != "__init__")


@pytest.mark.parametrize("module", MODULES)
def test_docstring_examples(module):
    assert doctest.testmod(importlib.import_module(f"gramian.{module}")).failed == 0


def test_learners_have_examples():
    for name in gramian.__all__:
        thing = getattr(gramian, name)
        if isinstance(thing, type) and hasattr(thing, "fit"):
            assert ">>>" in thing.__doc__, name


def test_stub_names_what_the_module_has():
    import ast

    stub = ast.parse((pathlib.Path(gramian.__file__).parent / "_core.pyi").read_text())
    core = importlib.import_module("gramian._core")

    def public(names):
        return {name for name in names if not name.startswith("_")}

    def members(node):
        return {part.name for part in node.body if isinstance(part, ast.FunctionDef)}

    classes = {node.name: node for node in stub.body if isinstance(node, ast.ClassDef)}
    functions = {node.name for node in stub.body if isinstance(node, ast.FunctionDef)}
    assert public(set(classes) | functions) == public(dir(core))
    for name, node in classes.items():
        if name.startswith("_") or name in ("BackendError", "FormatError"):
            continue
        listed = members(node).union(*(members(classes[base.id]) for base in node.bases))
        assert public(listed) == public(dir(getattr(core, name))), name
