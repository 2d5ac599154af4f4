"""No memory half way through a call: MemoryError, and the model is what it was."""

import os
import subprocess
import sys

import pytest

# An address space limit a little above what is in use makes one allocation after the other fail, as k grows. The
# allocator is told to go to the system for every buffer, so that none is served from what it kept.
ALLOCATOR = {
    "MALLOC_TRIM_THRESHOLD_": "0",
    "MALLOC_MMAP_THRESHOLD_": "32768",
    "MALLOC_TOP_PAD_": "0",
    "MALLOC_ARENA_MAX": "1",
}
PROGRAM = """
import re, resource, sys
import numpy as np
import gramian as gm

verb, dtype = sys.argv[1:]
rng = np.random.default_rng(0)
X, y = rng.normal(size=(562, 20)).astype(np.float32), rng.integers(0, 3, 562)

def in_use():
    return int(re.search(r"VmSize:\\s+(\\d+) kB", open("/proc/self/status").read())[1]) * 1024

failed = changed = 0
for k in range(60):
    first = slice(0, 50 if verb == "partial_fit" else None)
    model = gm.AnalyticClassifier(gm.RandomFeatures(1500), ridge=0.1, dtype=dtype, n_jobs=2).fit(X[first], y[first])
    before = model.state_.to_bytes()
    resource.setrlimit(resource.RLIMIT_AS, (in_use() + k * 96 * 1024, -1))
    try:
        getattr(model, verb)(X[50:], y[50:])
        error = None
    except MemoryError as caught:
        error = caught
    resource.setrlimit(resource.RLIMIT_AS, (-1, -1))
    if error is not None:
        failed += 1
        changed += model.state_.to_bytes() != before
print(failed, changed)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
@pytest.mark.parametrize(
    ("verb", "dtype"), [("partial_fit", "float32"), ("partial_fit", "float64"), ("forget", "float32")]
)
def test_a_call_that_runs_out_of_memory_changes_nothing(verb, dtype):
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, verb, dtype],
        env={**os.environ, **ALLOCATOR},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    failed, changed = map(int, done.stdout.split())
    assert failed > 5
    assert changed == 0
