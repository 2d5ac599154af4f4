"""Who may include whom, read off the #include lines.

usage: include_rule.py ROOT        check the tree; every line of output is one breach
       include_rule.py --self-test prove that breaches are found
"""

import re
import sys
import tempfile
from pathlib import Path

FLOORS = ["core", "io", "linalg", "sketch", "features", "gram"]  # each may use those before it, io only core
FAMILIES = ["analytic", "projection", "regression", "completion"]
PUBLIC = {*FLOORS, *FAMILIES, "capi", "umbrella"}
TABLE, MATH, REGISTRY = "backend/op_table.h", "backend/portable_math.h", "backend/registry.h"
KERNEL_LIST = "backend/cpu/kernels/kernels.h"  # names the kernels' tables; plain C

# layer -> layers and single files it may include; its own layer is always allowed
ALLOWED = {
    "core": {MATH, TABLE, REGISTRY},  # its sources only: Exec keeps the table that linalg computes with
    "io": {"core"},
    "linalg": {"core", TABLE, REGISTRY},
    "sketch": {"core", "io", "linalg"},
    "features": {"core", "io", "linalg", "sketch"},
    "gram": {"core", "io", "linalg", "features"},
    **{family: set(FLOORS) for family in FAMILIES},
    "capi": PUBLIC,
    "umbrella": PUBLIC,
    TABLE: set(),
    MATH: {TABLE},
    REGISTRY: {"core", TABLE, "backend/cpu", KERNEL_LIST},
    "backend/cpu": {"core", TABLE, REGISTRY},
    "backend/kernels": {TABLE, MATH},
    "backend/cuda": {TABLE, MATH},
    "bindings": PUBLIC,
    "tests": PUBLIC,
    "tests/backend": {*PUBLIC, TABLE, MATH, REGISTRY, "backend/cpu", "tests"},
}
# outside headers that only these layers may see
OUTSIDE = {
    r"(unsupported/)?Eigen/": {"backend/kernels"},
    r"(cuda|cublas|cusolver|cusparse|thrust/|cub/)": {"backend/cuda"},
    r"(pybind11/|Python\.h)": {"bindings"},
    r"(gtest|gmock)/": {"tests", "tests/backend"},
    r"(omp\.h|tbb/)": set(),
}
# what the kernels may take from the standard library: nothing that leaves shared inline functions behind
KERNEL_STD = {
    "cmath", "cfloat", "climits", "cstddef", "cstdint", "cstdlib", "cstring", "limits", "type_traits",
    "math.h", "float.h", "limits.h", "stddef.h", "stdint.h", "stdlib.h", "string.h", "immintrin.h", "arm_neon.h",
}  # fmt: skip
INCLUDE = re.compile(r'^\s*#\s*include\s*([<"])([^>"]+)[>"]')


def layer_of(path):
    """Layer of a source file of this tree, given by its path from the root."""
    parts = Path(path).parts
    if parts[:2] == ("python", "bindings"):
        return "bindings"
    if parts[:2] == ("tests", "cpp"):
        return "tests/backend" if parts[2] in {"backend", "conformance", "core"} else "tests"
    if parts[:2] == ("include", "gramian"):
        if len(parts) == 3:
            return "umbrella" if parts[2] == "gramian.hpp" else "core"
        return parts[2]
    if parts[:2] == ("cpp", "backend"):
        if parts[2:4] == ("cpu", "kernels"):
            return "backend/kernels"
        if len(parts) > 3:
            return f"backend/{parts[2]}"
        return REGISTRY if Path(path).stem == "registry" else "/".join(parts[1:])
    return parts[1]


def find(root, source, name):
    """Path from the root of the file that `#include "name"` in `source` means, or None."""
    for folder in (source.parent, root / "include", root / "cpp", root / "tests/cpp"):
        if (folder / name).is_file():
            return (folder / name).resolve().relative_to(root).as_posix()
    return None


def breaches(root):
    root = Path(root).resolve()
    files = [f for d in ("include", "cpp", "python/bindings", "tests/cpp") for f in sorted((root / d).rglob("*"))]
    for source in files:
        if source.suffix not in {".h", ".hpp", ".c", ".cc", ".cu", ".cuh"}:
            continue
        layer = layer_of(source.relative_to(root).as_posix())
        public_header = "include" in source.relative_to(root).parts[:1]
        for number, line in enumerate(source.read_text(encoding="utf-8").splitlines(), 1):
            match = INCLUDE.match(line)
            if not match:
                continue
            quote, name = match.groups()
            target = find(root, source, name) if quote == '"' or name.startswith("gramian/") else None
            if target is not None:
                other = layer_of(target)
                bad = other != layer and not {other, target.removeprefix("cpp/")} & ALLOWED.get(layer, set())
                bad = bad or (public_header and not target.startswith("include/"))
            else:
                bad = any(re.match(p, name) and layer not in who for p, who in OUTSIDE.items())
                bad = bad or (layer == "backend/kernels" and not name.startswith("Eigen/") and name not in KERNEL_STD)
                # A quoted name that stands nowhere in the tree: a path no rule can judge.
                bad = bad or (quote == '"' and layer not in ("bindings", "tests", "tests/backend", "backend/cuda"))
            if bad:
                yield f"{source.relative_to(root)}:{number}: {layer} may not include {name}"


def self_test():
    """One breach of each kind among allowed lines: all the breaches are found, and nothing else."""
    good = {
        "include/gramian/core/a.hpp": "#include <vector>",
        "include/gramian/linalg/b.hpp": '#include "gramian/core/a.hpp"',
        "include/gramian/gram/g.hpp": '#include "gramian/linalg/b.hpp"',
        "include/gramian/analytic/c.hpp": '#include "gramian/gram/g.hpp"',
        "include/gramian/regression/r.hpp": "#include <cstdint>",
        "cpp/backend/op_table.h": "#include <stdint.h>",
        "cpp/backend/registry.h": '#include "backend/op_table.h"',
        "cpp/linalg/b.cc": '#include "backend/registry.h"',
        "cpp/backend/cpu/kernels/k.cc": '#include <Eigen/Core>\n#include "backend/op_table.h"',
        "cpp/backend/cuda/m.cu": '#include <cublas_v2.h>\n#include "backend/op_table.h"',
        "python/bindings/m.cc": '#include <pybind11/pybind11.h>\n#include "gramian/analytic/c.hpp"',
        "tests/cpp/conformance/c.cc": '#include "backend/registry.h"',
    }
    bad = {
        "include/gramian/core/x.hpp": '#include "backend/op_table.h"',
        "cpp/core/x.cc": '#include "gramian/linalg/b.hpp"',
        "cpp/io/x.cc": '#include "backend/registry.h"',
        "cpp/gram/x.cc": '#include "backend/registry.h"',
        "cpp/analytic/x.cc": '#include "gramian/regression/r.hpp"',
        "cpp/linalg/x.cc": "#include <Eigen/Dense>",
        "cpp/linalg/y.cc": '#include "gramian/gram/g.hpp"',
        "cpp/backend/cpu/kernels/x.cc": "#include <vector>",
        "cpp/backend/cpu/kernels/z.cc": "#include <algorithm>",
        "cpp/backend/cpu/kernels/y.cc": '#include "gramian/core/a.hpp"',
        "cpp/backend/cuda/x.cu": "#include <Eigen/Core>",
        "cpp/backend/cpu/x.cc": "#include <omp.h>",
        "include/gramian/linalg/x.hpp": '#include "backend/op_table.h"',
        "python/bindings/x.cc": '#include "backend/registry.h"',
        "tests/cpp/gram/x.cc": '#include "backend/registry.h"',
    }
    with tempfile.TemporaryDirectory() as folder:
        for name, text in {**good, **bad}.items():
            path = Path(folder, name)
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text + "\n", encoding="utf-8")
        found = {line.split(":")[0] for line in breaches(folder)}
    for name in sorted(set(bad) - found):
        print(f"not found: {name}: {bad[name]}")
    for name in sorted(found - set(bad)):
        print(f"false alarm: {name}: {good[name]}")
    return found == set(bad)


def main():
    if sys.argv[1:] == ["--self-test"]:
        return 0 if self_test() else 1
    found = list(breaches(sys.argv[1]))
    print("\n".join(found) or "include rule: no breach")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
