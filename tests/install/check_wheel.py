"""A wheel works in an environment that has what the wheel says it needs, and nothing else. Takes seconds, no network.

usage: check_wheel.py WHEEL ...      by the interpreter whose NumPy and scipy-openblas32 are lent to that environment
"""

import json
import re
import sys
import venv
from importlib.metadata import distribution
from pathlib import Path

from common import RUN_TIME_PACKAGES, Failure, do_the_job, main, must, run, work_folder

SITE = "import sysconfig; print(sysconfig.get_path('purelib'))"
REQUIRES = (
    "import json; from importlib.metadata import distribution; "
    "print(json.dumps([r for r in distribution('gramian').requires if 'extra ==' not in r]))"
)


def lend(package, site):
    """Puts links to the files of an installed package into another environment."""
    own = distribution(package)
    tops = {file.parts[0] for file in own.files} - {"..", "__pycache__"}
    for top in tops:
        (site / top).symlink_to(own.locate_file(top))


def check_one(wheel, folder):
    venv.create(folder / "env", with_pip=False, symlinks=True)
    python = folder / "env/bin/python"
    site = Path(run(python, "-I", "-c", SITE, cwd=folder).strip())
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-index"]
    run(*pip, "--target", site, wheel, cwd=folder)
    requirements = json.loads(run(python, "-I", "-c", REQUIRES, cwd=folder))
    names = {re.match(r"[\w.-]+", line).group().lower() for line in requirements}
    must(names == RUN_TIME_PACKAGES, f"{wheel.name} needs {sorted(names)} at run time")

    lend("numpy", site)
    # The control: with one of the two missing, the job cannot be done, and one line says what to install.
    try:
        do_the_job(python, folder / "elsewhere")
    except Failure as failure:
        wanted = "ImportError: gramian needs the package scipy-openblas32, which was not found: pip install "
        must(str(failure).strip().splitlines()[-1].startswith(wanted), f"without scipy-openblas32: {failure}")
    else:
        raise Failure(f"{wheel.name} works without scipy-openblas32, so the environment is not empty")

    lend("scipy-openblas32", site)
    file = do_the_job(python, folder / "elsewhere")
    must(file.is_relative_to(site), f"{file} was imported, which is not in {site}")
    # --target makes no command that belongs to this environment; what it would call is called.
    command = "import sys; from gramian.cli import main; sys.exit(main(['info', 'job.gramian']))"
    said = run(python, "-I", "-c", command, cwd=folder / "elsewhere")
    must("AnalyticClassifier" in said, f"the command line says:\n{said}")
    print(f"{wheel.name}: works in an environment with NumPy and scipy-openblas32 alone")


def check():
    wheels = [Path(name).resolve() for name in sys.argv[1:]]
    must(wheels, __doc__)
    for wheel in wheels:
        with work_folder() as folder:
            check_one(wheel, folder)


if __name__ == "__main__":
    main(check)
