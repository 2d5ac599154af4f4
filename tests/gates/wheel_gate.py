"""What a wheel may weigh and hold: at most 5 MB, no BLAS and no OpenMP of its own, libscipy_openblas the only library
it needs beyond the system's.

usage: wheel_gate.py WHEEL ...        check wheels
       wheel_gate.py --module FILE    check one compiled module
"""

import re
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

MAX_BYTES = 5_000_000
SYSTEM = re.compile(
    r"(libc|libm|libdl|librt|libpthread|libstdc\+\+|libgcc_s|ld-linux[-\w]*|libc\.musl[-\w]*)\.so(\.\d+)*$"
)
OPENBLAS = "libscipy_openblas.so"
FOREIGN = re.compile(r"(blas|lapack|gomp|libomp|iomp|gfortran|mkl|cuda)", re.IGNORECASE)
# Names these libraries define; a module that holds one has them linked in.
FOREIGN_SYMBOL = re.compile(r"\b(GOMP_\w+|__kmpc_\w+|(scipy_)?openblas_\w+|(scipy_)?cblas_\w+|_gfortran_\w+)$")


def output(*command):
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


def module_faults(path, installed):
    """What is wrong with one module; only an installed one is held to its search path, a build tree has its own."""
    dynamic = output("readelf", "--dynamic", "--wide", str(path))
    for name in re.findall(r"\(NEEDED\).*\[(.+)\]", dynamic):
        if name != OPENBLAS and not SYSTEM.match(name):
            yield f"{path.name} needs {name}"
    for runpath in re.findall(r"\((?:RPATH|RUNPATH)\).*\[(.*)\]", dynamic):
        for folder in filter(None, runpath.split(":")):
            if installed and not folder.startswith("$ORIGIN"):
                yield f"{path.name} looks for libraries in {folder}"
    for line in output("readelf", "--symbols", "--wide", str(path)).splitlines():
        fields = line.split()
        if len(fields) >= 8 and fields[6] != "UND" and FOREIGN_SYMBOL.search(fields[7].split("@")[0]):
            yield f"{path.name} contains {fields[7]}"


def wheel_faults(wheel):
    size = wheel.stat().st_size
    if size > MAX_BYTES:
        yield f"{wheel.name} has {size} bytes, more than {MAX_BYTES}"
    with zipfile.ZipFile(wheel) as archive, tempfile.TemporaryDirectory() as folder:
        modules = [n for n in archive.namelist() if re.search(r"\.(so|dylib|dll|pyd)(\.|$)", n)]
        if not any(Path(n).name.startswith("_core") for n in modules):
            yield f"{wheel.name} holds no compiled module"
        for name in archive.namelist():
            if name.startswith(("include/", "lib/", "lib64/")) or name.endswith((".a", ".hpp", ".h")):
                yield f"{wheel.name} holds the development file {name}"
        for name in modules:
            if FOREIGN.search(Path(name).name):
                yield f"{wheel.name} holds {name}"
            yield from module_faults(Path(archive.extract(name, folder)), installed=True)
    print(f"{wheel.name}: {size / 1e6:.2f} MB, {len(modules)} compiled module(s)")


def main():
    arguments = sys.argv[1:]
    if arguments[:1] == ["--module"]:
        faults = list(module_faults(Path(arguments[1]), installed=False))
    else:
        faults = [fault for name in arguments for fault in wheel_faults(Path(name))]
    print("\n".join(faults) or "wheel gate: nothing found")
    return 1 if faults or not arguments else 0


if __name__ == "__main__":
    sys.exit(main())
