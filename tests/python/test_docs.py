"""Every Python example of the README and of docs/ runs as it stands, and links lead somewhere."""

import inspect
import os
import pathlib
import re

import numpy as np
import pytest

import gramian

ROOT = pathlib.Path(__file__).resolve().parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
BLOCK = re.compile(r"^```python\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def blocks_of(page):
    """(line number, code) of the Python blocks of a page."""
    text = page.read_text(encoding="utf-8")
    return [(text[: found.start(1)].count("\n") + 1, found[1]) for found in BLOCK.finditer(text)]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """The current folder of all examples, with a model for the pages that read one."""
    path = tmp_path_factory.mktemp("docs")
    model = gramian.AnalyticClassifier().fit(np.eye(4), [0, 1, 0, 1])
    model.save(path / "model.gramian")
    return path


@pytest.mark.parametrize("page", [page for page in PAGES if blocks_of(page)], ids=lambda page: page.name)
def test_examples_run(page, folder, monkeypatch):
    pytest.importorskip("sklearn")
    monkeypatch.chdir(folder)
    names = {"__name__": "example"}  # the blocks of a page continue each other
    for line, code in blocks_of(page):
        if "GRAMIAN_DATA" in code and not os.environ.get("GRAMIAN_DATA"):
            continue
        # Empty lines in front, so that a traceback has the line numbers of the page.
        exec(compile("\n" * (line - 1) + code, str(page), "exec"), names)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page):
    text = page.read_text(encoding="utf-8")
    for target in re.findall(r"\]\(([^)\s]+)\)", text):
        path, _, anchor = target.partition("#")
        if "://" in target:
            continue
        file = (page.parent / path).resolve() if path else page
        assert file.exists(), target
        if anchor:
            titles = re.findall(r"^#+ (.*)$", file.read_text(encoding="utf-8"), re.MULTILINE)
            slugs = [re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles]
            assert anchor in slugs, target


def test_pages_are_found():
    assert {page.name for page in PAGES} >= {
        "README.md",
        "analytic.md",
        "guarantees.md",
        "command-line.md",
        "design.md",
        "environment.md",
    }
    assert sum(len(blocks_of(page)) for page in PAGES) >= 12


def test_every_public_class_has_its_place():
    """In the table of uses of the analytic family, or on the page of another family."""
    text = (ROOT / "docs" / "analytic.md").read_text(encoding="utf-8")
    text = text[text.index("## The whole family: when to use what") : text.index("## References")]
    for page in OTHER_FAMILIES:
        text += (ROOT / "docs" / f"{page}.md").read_text(encoding="utf-8")
    for name in gramian.__all__:
        if isinstance(getattr(gramian, name), type):
            assert re.search(rf"`(gm\.)?{name}\b", text), name


def test_every_function_has_its_line():
    """What is no class: each function of the analytic family, with when to use it, in a table of its page."""
    from test_docstring_sources import public_names

    page = (ROOT / "docs" / "functions.md").read_text(encoding="utf-8")
    lines = dict(re.findall(r"^\| `([\w.]+)` \| (.{20,}?) \|$", page, re.MULTILINE))
    expected = set()
    for name, one in public_names():
        _, home, short = name.split(".")
        if inspect.isfunction(one) and home not in SOLVERS:
            expected.add(f"{home}.{short}" if home in ("codes", "federated", "presets") else short)
    assert lines.keys() == expected


SOLVERS = (
    "_sketched_ridge",
    "diagonal_steps",
    "gradient_sketch",
    "iterate",
    "logistic_head",
    "low_rank",
    "r_factor",
    "regression",
    "second_order",
    "sketch",
    "softmax_regression",
    "transforms",
)
# Results stand on the page of what returns them; a Sketch is one of its families.
RESULTS = re.compile(r".*(Result|Plan|Path|Solution)|Sketch")


def test_every_solver_has_its_line():
    """Each public function and class of regression, sketches and solvers, with when to use it."""
    page = (ROOT / "docs" / "regression-by-use.md").read_text(encoding="utf-8")
    lines = re.findall(r"^\| `([\w.]+)` \| (.{20,}?) \|$", page, re.MULTILINE)
    homes = {f"gramian.{name}" for name in SOLVERS}
    expected = set()
    for name in gramian.__all__:
        one = getattr(gramian, name)
        if getattr(one, "__module__", None) in homes and not RESULTS.fullmatch(name):
            expected.add(name)
    for module in (gramian.gradient_sketch, gramian.second_order, gramian.sketch):
        short = module.__name__.split(".")[-1]
        for name in {*module.__all__, *(["leverage_scores"] if short == "sketch" else [])} - expected:
            if not RESULTS.fullmatch(name):
                expected.add(f"{short}.{name}")
    assert {name for name, _ in lines} == expected and len(lines) == len(expected)
    assert len({use for _, use in lines}) == len(lines)  # no line is a copy


def test_every_page_of_solvers_says_when():
    for page in OTHER_FAMILIES:
        text = (ROOT / "docs" / f"{page}.md").read_text(encoding="utf-8")
        assert re.search(r"[Uu]se it when", text), page


FAMILY = (
    "analytic",
    "class-incremental",
    "federated",
    "functions",
    "kernel-limits",
    "knowing",
    "low-latency",
    "model-choice",
    "random-expansion",
    "risk-curves",
    "statistics-heads",
    "targets",
)


OTHER_FAMILIES = (
    "federated-sketches",
    "iterative-solvers",
    "least-squares",
    "low-rank",
    "regression-by-use",
    "second-order",
    "sketched-ridge",
    "sketching",
    "transforms",
)


@pytest.mark.parametrize("page", FAMILY + OTHER_FAMILIES)
def test_every_page_of_the_family_has_examples(page):
    assert blocks_of(ROOT / "docs" / f"{page}.md")


def test_every_page_stands_in_the_index():
    index = (ROOT / "docs" / "index.md").read_text(encoding="utf-8")
    for page in (ROOT / "docs").glob("*.md"):
        assert page.name == "index.md" or f"({page.name})" in index, page.name


READS = [
    (("*.cc", "*.h", "*.hpp", "*.cu"), r"\b(?:getenv|variable)\(\s*\"([A-Z][A-Z0-9_]*)\""),
    (("*.py",), r"\b(?:environ\.get|getenv)\(\s*[\"']([A-Z][A-Z0-9_]*)[\"']"),
    (("*.py",), r"\benviron\[\s*[\"']([A-Z][A-Z0-9_]*)[\"']"),
    (("CMakeLists.txt", "*.cmake", "*.cmake.in"), r"\bENV\{([A-Z][A-Z0-9_]*)\}"),
    (("Makefile",), r"^([A-Z][A-Z0-9_]*) \?="),
]
OF_MAKE_ALONE = {"ARM_ROOT", "AVX512_RUNS", "KERNEL"}  # on the command line of one target; no one sets them for good


def variables_read():
    """Environment variables that the sources read, by the calls that read them."""
    files = [ROOT / "Makefile", ROOT / "CMakeLists.txt"]
    for folder in ("cpp", "include", "python", "tests", "third_party"):
        files += [path for path in (ROOT / folder).rglob("*") if path.is_file()]
    found = set()
    for patterns, call in READS:
        for file in files:
            if any(file.match(pattern) for pattern in patterns):
                found.update(re.findall(call, file.read_text(encoding="utf-8"), re.MULTILINE))
    return found


def test_environment_variables_are_those_of_the_page():
    read = variables_read() - OF_MAKE_ALONE
    assert read >= {
        "CUDAARCHS",
        "GRAMIAN_BLAS_PROVIDER",
        "GRAMIAN_CPP_STREAM",
        "GRAMIAN_CUDA_MODULE",
        "GRAMIAN_DATA",
        "GRAMIAN_EIGEN_DIR",
        "GRAMIAN_FORCE_ISA",
        "GRAMIAN_NUM_THREADS",
        "OMP_NUM_THREADS",
    }
    page = (ROOT / "docs" / "environment.md").read_text(encoding="utf-8")
    listed = set(re.findall(r"^\| `([A-Z][A-Z0-9_]*)` \|", page, re.MULTILINE))
    assert read <= listed, f"not in docs/environment.md: {sorted(read - listed)}"
    nobody = {name for name in listed - read if name.startswith("GRAMIAN_")}
    assert not nobody, f"in docs/environment.md, but nothing reads them: {sorted(nobody)}"


def cmake_options():
    """Options that the CMake files declare, and the default of each as it is written."""
    files = [ROOT / "CMakeLists.txt"]
    for folder in ("cpp", "python", "tests", "third_party"):
        files += [path for path in (ROOT / folder).rglob("*") if path.match("CMakeLists.txt") or path.match("*.cmake")]
    found = {}
    for file in files:
        text = file.read_text(encoding="utf-8")
        found.update(re.findall(r"^ *option\((\w+) \"[^\"]*\" ([^)]+)\)", text, re.MULTILINE))
        found.update(re.findall(r"^ *set\((GRAMIAN_\w+) \"([^\"]*)\" CACHE", text, re.MULTILINE))
    return found


def test_cmake_options_are_those_of_the_page():
    declared = cmake_options()
    assert declared.keys() >= {"BUILD_SHARED_LIBS", "GRAMIAN_BLAS", "GRAMIAN_CUDA", "GRAMIAN_FUZZ", "GRAMIAN_EIGEN_DIR"}
    page = (ROOT / "docs" / "embedding.md").read_text(encoding="utf-8")
    listed = dict(re.findall(r"^\| `((?:GRAMIAN|BUILD)_\w+)` \| (.*?) \|", page, re.MULTILINE))
    assert listed.keys() == declared.keys()
    for name, default in declared.items():
        if default in ("", "${PROJECT_IS_TOP_LEVEL}"):
            continue
        assert listed[name].startswith(f"`{default}`"), f"{name}: the default is {default}"


def test_exit_codes_of_the_page_are_those_of_the_command():
    from gramian import cli

    table = (ROOT / "docs" / "command-line.md").read_text(encoding="utf-8")
    codes = {int(code) for code in re.findall(r"^\| (\d+) \|", table, re.MULTILINE)}
    assert codes == {cli.OK, cli.FAILED, cli.USAGE, cli.BAD_INPUT, cli.INTERRUPTED}
