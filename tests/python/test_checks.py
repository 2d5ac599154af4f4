"""The long checks of tests/bench fail when they should, and say why they are skipped. `make check-full` runs them."""

import importlib.util
import os
import pathlib
import shutil
import subprocess
import sys

import numpy as np
import pytest

BENCH = pathlib.Path(__file__).resolve().parents[1] / "bench"
CHECKS = sorted(path.name for path in BENCH.glob("check_*.py"))
# Those that read real data.
ON_DATA = ("check_conformal.py", "check_fashion.py", "check_ood.py", "check_risk_curves.py")


def run(name, *arguments, folder=None):
    environment = {key: value for key, value in os.environ.items() if key != "GRAMIAN_DATA"}
    if folder is not None:
        environment["GRAMIAN_DATA"] = str(folder)
    return subprocess.run(
        [sys.executable, BENCH / name, *map(str, arguments)], capture_output=True, text=True, env=environment
    )


@pytest.mark.parametrize("name", ON_DATA)
def test_without_data_they_are_skipped_with_a_reason(name, tmp_path):
    for folder, reason in ((None, "GRAMIAN_DATA is not set, no "), (tmp_path, f"in the folder {tmp_path}")):
        found = run(name, folder=folder)
        assert found.returncode == 77, found.stderr
        line = found.stdout.splitlines()[-1]
        assert line.startswith("skipped: ") and reason in line and ".npz" in line


@pytest.mark.skipif(shutil.which("make") is None, reason="make is missing")
def test_one_target_runs_them_all():
    makefile = BENCH.parents[1] / "Makefile"
    listed = subprocess.run(
        ["make", "-n", "-f", makefile, "-o", "build/dev.stamp", "check-full"],
        capture_output=True,
        text=True,
        cwd=makefile.parent,
        check=True,
    ).stdout
    assert CHECKS and all(name in listed for name in CHECKS)


@pytest.fixture
def fashion(tmp_path, rng):
    """Small images of the form of Fashion-MNIST: noise, and ten bright rows of pixels, one of them per class."""
    y = np.arange(2600) % 10
    images = rng.integers(0, 160, (2600, 28, 28), dtype=np.uint8)
    images[np.arange(2600), y] = 255
    np.savez(
        tmp_path / "fashion_mnist.npz", x_train=images[:2400], y_train=y[:2400], x_test=images[2400:], y_test=y[2400:]
    )
    return tmp_path


def test_fashion_passes_and_fails_by_its_exit_status(fashion):
    found = run("check_fashion.py", "--features", 150, folder=fashion)
    assert found.returncode == 0, found.stdout + found.stderr
    assert found.stdout.splitlines()[-1] == "all held"
    found = run("check_fashion.py", "--features", 150, "--accuracy", 1.01, folder=fashion)
    assert found.returncode == 1
    assert "failed: accuracy" in found.stdout


@pytest.fixture
def check_fashion(monkeypatch):
    """The script as a module. Importing one starts Python again where variables of OpenBLAS are set: not here."""
    for name in [name for name in os.environ if name.startswith("OPENBLAS_")]:
        monkeypatch.delenv(name)
    monkeypatch.syspath_prepend(str(BENCH))
    spec = importlib.util.spec_from_file_location("check_fashion", BENCH / "check_fashion.py")
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, "check_fashion", module)
    spec.loader.exec_module(module)
    monkeypatch.delitem(sys.modules, "common")
    return module


@pytest.mark.parametrize(
    "wrong, message",
    [
        ({}, None),
        ({"accuracy": 0.8799}, "accuracy 0.8799 below 0.8800"),
        ({"accuracy": float("nan")}, "accuracy nan"),
        ({"exceptions": 1}, "1 clear rows predicted otherwise"),
        ({"clear_share": 0.4}, "only 40.0% of the rows"),
        ({"ablation_share": 0.009}, "without the gain only 0.90%"),
        ({"sizes": [100, 100, 108]}, "the size depends on the rows"),
        ({"sizes": []}, "the size depends on the rows"),
    ],
)
def test_each_clause_of_fashion_can_fail(check_fashion, wrong, message):
    right = {"accuracy": 0.88, "clear_share": 0.8, "exceptions": 0, "ablation_share": 0.4, "sizes": [100] * 6}
    failures = check_fashion.Figures(**{**right, **wrong}).failures()
    assert len(failures) == (message is not None)
    assert message is None or message in failures[0]
