"""What the checks of installing share: steps, a copy of the sources, environments, and the job that each must do."""

import contextlib
import json
import os
import subprocess
import sys
import tarfile
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
RUN_TIME_PACKAGES = {"numpy", "scipy-openblas32"}

# Fits, compares with NumPy, saves. What it prints, `do_the_job` reads.
JOB = """
import importlib.util, json, sys
import numpy as np
import gramian as gm

X, y = np.random.default_rng(0).normal(size=(300, 6)), np.arange(300) % 3
model = gm.AnalyticClassifier(ridge=0.5).fit(X, y)
model.save("job.gramian")

Z = np.hstack([X, np.ones((300, 1))])
weights = np.linalg.solve(Z.T @ Z + 0.5 * np.diag([1] * 6 + [0]), Z.T @ np.eye(3)[y])
json.dump({
    "file": gm.__file__,
    "provider": gm.build_info()["blas_provider"],
    "error": float(np.abs(model.coef_ - weights[:-1].T).max()),
    "others": [name for name in ("scipy", "sklearn", "matplotlib") if importlib.util.find_spec(name)],
}, sys.stdout)
"""


class Failure(Exception):
    """A check did not hold; the text says which."""


@contextlib.contextmanager
def work_folder():
    """A fresh folder below build/, so that it is on the disk of the sources; it goes when the check ends."""
    (ROOT / "build").mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="install-", dir=ROOT / "build") as folder:
        yield Path(folder)


@contextlib.contextmanager
def step(what):
    """Says what is done, and how long it took."""
    print(f"{what} ... ", end="", flush=True)
    start = time.monotonic()
    yield
    print(f"{time.monotonic() - start:.0f} s", flush=True)


def run(*command, cwd, extra=None):
    """Standard output of a command that must succeed; without what this shell's environment adds to Python and pip."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "GRAMIAN_"))}
    environment.update(extra or {})
    done = subprocess.run([str(part) for part in command], cwd=cwd, env=environment, capture_output=True, text=True)
    if done.returncode != 0:
        command = " ".join(map(str, command))
        raise Failure(f"result {done.returncode} of: {command}\n{done.stdout[-8000:]}\n{done.stderr[-8000:]}")
    return done.stdout


def must(holds, what):
    if not holds:
        raise Failure(what)


def unpacked_sources(folder):
    """The source distribution of this tree, made and unpacked below `folder`: nothing that git ignores is in it."""
    make = "import sys; from scikit_build_core.build import build_sdist; print(build_sdist(sys.argv[1]))"
    name = run(sys.executable, "-c", make, folder, cwd=ROOT).split()[-1]
    with tarfile.open(folder / name) as archive:
        archive.extractall(folder, filter="data") if hasattr(tarfile, "data_filter") else archive.extractall(folder)
    return folder / name.removesuffix(".tar.gz")


def do_the_job(python, folder):
    """The job by the interpreter `python`, from `folder`; nothing but NumPy and the library may take part in it."""
    folder.mkdir(exist_ok=True)
    found = json.loads(run(python, "-I", "-c", JOB, cwd=folder))
    must(found["error"] <= 1e-12, f"the weights differ from NumPy's by {found['error']}")
    must(found["provider"] == "openblas", f"the BLAS provider is {found['provider']}, not openblas")
    must(not found["others"], f"the environment is not empty: it has {found['others']}")
    must(str(ROOT / "python") not in found["file"], f"the sources were imported, not the package: {found['file']}")
    return Path(found["file"])


def main(check):
    """Runs check(); what failed goes to standard error."""
    try:
        check()
    except Failure as failure:
        print(f"\n{failure}", file=sys.stderr)
        sys.exit(1)
