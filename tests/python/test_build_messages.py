"""What the build needs and does not find is one line with the package: the Makefile's part, and the CUDA module's.

CMake's own messages are checked by tests/gates/options_check.cmake.
"""

import os
import pathlib
import shutil
import subprocess
import sys

import pytest

ROOT = pathlib.Path(__file__).resolve().parents[2]
MAKE, SHELL = shutil.which("make"), shutil.which("sh")
CMAKE = shutil.which("cmake", path=os.pathsep.join([str(pathlib.Path(sys.executable).parent), os.environ["PATH"]]))

needs_make = pytest.mark.skipif(not (MAKE and SHELL), reason="no make")
needs_cmake = pytest.mark.skipif(not (CMAKE and shutil.which("bash")), reason="no cmake or no bash")


def program(path, text):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"#!{SHELL}\n{text}\n", encoding="utf-8")
    path.chmod(0o755)
    return path


def fake_python(folder, lacks):
    """An interpreter that is this one, but for questions that have `lacks` in them: to those it answers no."""
    return program(folder / "python", f'case "$2" in *"{lacks}"*) exit 1 ;; esac\nexec "{sys.executable}" "$@"')


def make(folder, *arguments):
    """Result and printed lines of make in a copy of the Makefile."""
    for name in ("Makefile", "pyproject.toml"):
        shutil.copy(ROOT / name, folder)
    # These tests run under make themselves, which hands down its own variables and those of its command line
    # (PYTHON, CXX, GTEST): what this make is told stands in its arguments alone.
    clean = {name: os.environ[name] for name in ("PATH", "HOME", "TMPDIR", "LANG") if name in os.environ}
    run = subprocess.run([MAKE, *arguments], cwd=folder, env=clean, capture_output=True, text=True, timeout=120)
    return run.returncode, run.stdout.splitlines()


@needs_make
@pytest.mark.parametrize(
    "lacks, wanted",
    [
        ("version_info", "gramian needs Python 3.10 or newer; make PYTHON=python3.12 names another one"),
        ("ensurepip", "gramian needs Python's venv module (Debian package: python3-venv)"),
        ("Python.h", "gramian needs the Python headers, Python.h is missing (Debian package: python3-dev)"),
    ],
)
@pytest.mark.parametrize("target", ["demo", "test"])
def test_what_a_python_lacks_is_one_line(tmp_path, target, lacks, wanted):
    code, lines = make(tmp_path, target, f"PYTHON={fake_python(tmp_path, lacks)}")
    assert (code, lines) == (2, [wanted])


@needs_make
@pytest.mark.parametrize(
    "argument, wanted",
    [
        ("PYTHON=/nowhere/python", "gramian needs Python 3.10 or newer (Debian package: python3)"),
        ("CXX=/nowhere/c++", "gramian needs a C++17 compiler (Debian package: g++)"),
        ("CXX=/nowhere/ccache g++", "gramian needs a C++17 compiler (Debian package: g++)"),
    ],
)
def test_a_missing_tool_is_one_line(tmp_path, argument, wanted):
    python = fake_python(tmp_path, "nothing at all")
    code, lines = make(tmp_path, "test", f"PYTHON={python}", argument)
    assert (code, lines) == (2, [wanted])


@needs_make
def test_nothing_missing_says_nothing(tmp_path):
    """The control: the same questions, all answered with yes, let the environment be made. It is this interpreter's own
    that is not: an interpreter that makes none ends the run there."""
    python = program(tmp_path / "python", f'case "$1" in -m) echo made; exit 1 ;; esac\nexec "{sys.executable}" "$@"')
    code, lines = make(tmp_path, "--silent", "test", f"PYTHON={python}", "CXX=sh")
    assert (code, lines) == (2, ["made"])


@needs_make
@pytest.mark.parametrize(
    "tests, required, code, lines",
    [
        (0, False, 0, ["no C++ unit tests: GoogleTest is missing (Debian package: libgtest-dev)"]),
        (0, True, 2, ["no C++ unit tests: GoogleTest is missing (Debian package: libgtest-dev)"]),
        (7, False, 0, []),
        (7, True, 0, []),
    ],
)
def test_unit_tests_that_are_not_there_are_said(tmp_path, tests, required, code, lines):
    """`make test` says so and goes on; with GTEST=required it fails."""
    (tmp_path / "build").mkdir()
    stamp = tmp_path / "build/dev.stamp"
    stamp.write_text("")
    program(tmp_path / ".venv/bin/ctest", f'case "$*" in *show-only*) echo "Total Tests: {tests}" ;; esac')
    program(tmp_path / ".venv/bin/python", "exit 0")
    arguments = ["--silent", "--assume-old=build/dev.stamp", "test"]
    assert make(tmp_path, *arguments, *["GTEST=required"] * required) == (code, lines)
    assert stamp.exists() == (tests > 0)  # looked for again by the next run


def test_automation_requires_the_unit_tests():
    script = ROOT / ".ci/run"
    if not script.exists():
        pytest.skip("a source distribution has no .ci")
    assert "make test GTEST=required" in script.read_text(encoding="utf-8").splitlines()


@pytest.mark.skipif(not shutil.which("bash"), reason="no bash")
def test_missing_make_is_one_line(tmp_path):
    script = ROOT / ".ci/run"
    if not script.exists():
        pytest.skip("a source distribution has no .ci")
    (tmp_path / "dirname").symlink_to(shutil.which("dirname"))
    run = subprocess.run(
        [shutil.which("bash"), str(script)], env={"PATH": str(tmp_path)}, capture_output=True, text=True, timeout=60
    )
    assert (run.returncode, run.stdout, run.stderr) == (1, "gramian needs make (Debian package: make)\n", "")


@needs_cmake
@pytest.mark.parametrize(
    "version, headers, wanted",
    [
        ("11.8", True, "CUDA module: not compiled, the toolkit is older than 12.0 (it is 11.8)"),
        ("9.2", True, "CUDA module: not compiled, the toolkit is older than 12.0 (it is 9.2)"),
        ("12.0", False, "CUDA module: not compiled, the cuBLAS headers are missing"),
        ("13.1", False, "CUDA module: not compiled, the cuBLAS headers are missing"),
    ],
)
def test_a_cuda_toolkit_that_will_not_do_is_one_line(tmp_path, version, headers, wanted):
    code, out = compile_cuda(tmp_path, version, headers)
    if pathlib.Path("/usr/include/cublas_v2.h").exists() and not headers:
        pytest.skip("the system has the cuBLAS headers")
    assert (code, out) == (0, wanted + "\n")


@needs_cmake
def test_a_cuda_toolkit_that_cannot_compile_is_a_failure(tmp_path):
    """The control: a new enough toolkit with its headers is tried, and this one is nothing but a version."""
    code, out = compile_cuda(tmp_path, "12.0", headers=True)
    assert code != 0 and "not compiled" not in out


def compile_cuda(folder, version, headers):
    """Runs cuda_module.sh in a tree that holds no project, with an nvcc that says its version and nothing else."""
    script = pathlib.Path("tests/gates/cuda_module.sh")
    rule = pathlib.Path("cpp/cmake/cuda_version.cmake")
    for name in (script, rule):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / name, folder / name)
    program(folder / "toolkit/bin/nvcc", f"echo 'Cuda compilation tools, release {version}, V{version}.1'")
    program(folder / ".venv/bin/python", "echo /nowhere")
    program(folder / ".venv/bin/cmake", f'exec "{CMAKE}" "$@"')
    if headers:
        (folder / "toolkit/include").mkdir()
        (folder / "toolkit/include/cublas_v2.h").write_text("")
    environment = {**os.environ, "PATH": os.pathsep.join([str(folder / "toolkit/bin"), os.environ["PATH"]])}
    run = subprocess.run(
        [shutil.which("bash"), str(script)], cwd=folder, env=environment, capture_output=True, text=True, timeout=120
    )
    return run.returncode, run.stdout
