"""The CUDA module is opened at run time: one that does not fit is refused with its reason, and the CPU goes on.

Tiny stand-ins are compiled with the system's C++ compiler: an empty driver library, so that the search goes past the
driver, and modules that are wrong in one way each.
"""

import os
import pathlib
import shutil
import subprocess
import sys

import pytest

ROOT = pathlib.Path(__file__).resolve().parents[2]
COMPILER = shutil.which(os.environ.get("CXX", "").split(" ")[0] or "c++") or shutil.which("g++")

pytestmark = [
    pytest.mark.skipif(not sys.platform.startswith("linux"), reason="the CUDA module exists on Linux only"),
    pytest.mark.skipif(COMPILER is None, reason="no C++ compiler"),
]

# A table of this version whose every other field is null, but for the two that are asked first.
TABLE = """
#include "backend/op_table.h"
static int refuse(int, void**) { return GRAMIAN_STATUS_BACKEND; }
static const char* text() { return "cuda: open: a stand-in has no device"; }
static gramian_op_table make() {
  gramian_op_table table = {};
  table.api_version = VERSION;
  table.struct_size = BYTES;
  table.open = refuse;
  table.error_text = text;
  return table;
}
static const gramian_op_table table = make();
extern "C" __attribute__((visibility("default"))) const gramian_op_table* gramian_backend_v1() { return &table; }
"""
NO_TABLE = """
struct gramian_op_table;
extern "C" const gramian_op_table* gramian_backend_v1() { return nullptr; }
"""
# What the driver's library is asked for before the module: that it can be opened.
DRIVER = "extern int nothing; int nothing = 0;"

PROGRAM = """
import numpy as np, gramian
X, y = np.random.default_rng(0).normal(size=(200, 5)), np.arange(200) % 3
print(gramian.cuda_available())
for _ in range(2):
    try:
        gramian.AnalyticClassifier(device="cuda").fit(X, y)
    except Exception as error:
        print(type(error).__name__, error, sep=": ")
model = gramian.AnalyticClassifier().fit(X, y)
Z = np.hstack([X, np.ones((200, 1))])
D = np.diag([1.0] * 5 + [0.0])
weights = np.linalg.solve(Z.T @ Z + D, Z.T @ np.eye(3)[y])
print(np.abs(model.coef_ - weights[:-1].T).max() <= 1e-12)
"""


def compile_library(path, source, *options):
    subprocess.run(
        [COMPILER, "-shared", "-fPIC", "-std=c++17", "-x", "c++", "-", "-o", str(path), f"-I{ROOT / 'cpp'}", *options],
        input=source,
        text=True,
        check=True,
        capture_output=True,
    )


@pytest.fixture(scope="module")
def driver(tmp_path_factory):
    folder = tmp_path_factory.mktemp("driver")
    compile_library(folder / "libcuda.so.1", DRIVER, "-Wl,-soname,libcuda.so.1")
    return folder


def answers(driver, module):
    """What PROGRAM says with `module` as the CUDA module: is there a device, the two errors, is the CPU right."""
    environment = {**os.environ, "GRAMIAN_CUDA_MODULE": str(module), "LD_LIBRARY_PATH": str(driver)}
    run = subprocess.run([sys.executable, "-c", PROGRAM], env=environment, capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
    available, first, second, cpu = run.stdout.splitlines()
    assert (available, cpu) == ("False", "True")
    assert first == second  # the answer of the first request is kept
    return first


@pytest.fixture(scope="module")
def this_version(tmp_path_factory):
    """Version and size of this library's table."""
    program = tmp_path_factory.mktemp("version") / "version"
    source = '#include <cstdio>\n#include "backend/op_table.h"\nint main() { std::printf("%d %zu", '
    source += "GRAMIAN_OP_API_VERSION, sizeof(gramian_op_table)); }"
    call = [COMPILER, "-std=c++17", "-x", "c++", "-", "-o", str(program), f"-I{ROOT / 'cpp'}"]
    subprocess.run(call, input=source, text=True, check=True, capture_output=True)
    return tuple(map(int, subprocess.check_output([str(program)], text=True).split()))


@pytest.mark.parametrize("newer, longer", [(1, 0), (-1, 0), (0, 8), (0, -8), (1, 8)])
def test_module_of_another_version(driver, this_version, tmp_path, newer, longer):
    version, size = this_version
    module = tmp_path / "libgramian_cuda.so"
    compile_library(module, TABLE, f"-DVERSION={version + newer}", f"-DBYTES={size + longer}")
    assert answers(driver, module) == (
        f"BackendError: {module} belongs to another version of gramian: its table of operations is version "
        f"{version + newer} with {size + longer} bytes, this library needs version {version} with {size}"
    )


def test_module_of_this_version_is_opened(driver, this_version, tmp_path):
    """The control: with the right version and size the stand-in is taken, and its own open() is what fails."""
    module = tmp_path / "libgramian_cuda.so"
    version, size = this_version
    compile_library(module, TABLE, f"-DVERSION={version}", f"-DBYTES={size}")
    assert answers(driver, module) == "BackendError: cuda: open: a stand-in has no device"


def test_module_without_a_table(driver, tmp_path):
    module = tmp_path / "libgramian_cuda.so"
    compile_library(module, NO_TABLE)
    assert answers(driver, module) == f"BackendError: {module} gives no table of operations"


def test_what_is_no_module(driver, tmp_path):
    other = tmp_path / "libother.so"
    compile_library(other, DRIVER)
    assert answers(driver, other).startswith(f"BackendError: {other} is no CUDA module of gramian: ")
    text = tmp_path / "libtext.so"
    text.write_text("no library\n")
    assert answers(driver, text).startswith("BackendError: the CUDA module cannot be opened: ")
    missing = tmp_path / "libmissing.so"
    assert answers(driver, missing) == f"NotImplementedError: no CUDA module: looked for {missing}"


def test_no_driver(tmp_path):
    """The error of a machine without a driver, where the stand-in for it is no library."""
    (tmp_path / "libcuda.so.1").write_text("no library\n")
    said = answers(tmp_path, tmp_path / "libgramian_cuda.so")
    if not said.startswith("NotImplementedError"):  # the loader goes on to the system's own driver where there is one
        assert said == "BackendError: no NVIDIA driver (libcuda.so.1) on this machine"
