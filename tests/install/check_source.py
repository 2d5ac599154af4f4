"""`pip install .` as the README has it: a copy of the sources, a fresh environment, build isolation, a package index.

usage: check_source.py      takes minutes, because the whole library is built
"""

import json
import sys

from common import RUN_TIME_PACKAGES, do_the_job, main, must, run, step, unpacked_sources, work_folder

TOOLS = {"pip", "setuptools", "wheel"}  # what venv puts into an environment, depending on the version


def check():
    with work_folder() as folder:
        with step("source distribution"):
            sources = unpacked_sources(folder)
        with step("fresh environment"):
            run(sys.executable, "-m", "venv", folder / "env", cwd=folder)
        python = folder / "env/bin/python"
        # pip builds in a folder of its own, which need not fit where the system's temporary files are.
        (folder / "tmp").mkdir()
        with step("pip install ."):
            pip = [python, "-m", "pip", "--disable-pip-version-check"]
            run(*pip, "install", "--quiet", ".", cwd=sources, extra={"TMPDIR": str(folder / "tmp")})
        with step("what came with it, and the job from another folder"):
            found = {entry["name"].lower() for entry in json.loads(run(*pip, "list", "--format=json", cwd=folder))}
            must(
                found - TOOLS == {"gramian", *RUN_TIME_PACKAGES},
                f"pip install . brought {sorted(found - TOOLS)} into the environment",
            )
            run(*pip, "check", cwd=folder)
            file = do_the_job(python, folder / "elsewhere")
            must(file.is_relative_to(folder / "env"), f"{file} was imported, which is not in the environment")
            said = run(folder / "env/bin/gramian", "info", "job.gramian", cwd=folder / "elsewhere")
            must("AnalyticClassifier" in said, f"the command line says:\n{said}")


if __name__ == "__main__":
    main(check)
