"""A script in a process of its own, for tests that send it signals."""

import json
import os
import pathlib
import subprocess
import sys
import textwrap

# A process that is started with SIGINT ignored (nohup, a background job) hands that on to its children, and Python then
# installs no handler of its own: each child installs it.
_PRELUDE = f"""
import json, signal, sys
sys.path.insert(0, {str(pathlib.Path(__file__).parent)!r})
signal.signal(signal.SIGINT, signal.default_int_handler)
"""


def run(prelude, script):
    """What the last line that the script prints says in JSON. Modules of this folder are at hand in it."""
    out = subprocess.run(
        [sys.executable, "-c", _PRELUDE + prelude + textwrap.dedent(script)],
        capture_output=True,
        text=True,
        timeout=300,
        env={**os.environ, "PYTHONUNBUFFERED": "1"},
    )
    assert out.returncode == 0, out.stderr
    return json.loads(out.stdout.splitlines()[-1])
