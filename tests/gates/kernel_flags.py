"""What every kernel is compiled with, in the build that tempts most: Debug, with link-time optimisation asked for.

usage: kernel_flags.py --cmake CMAKE --source ROOT --work FOLDER [CMAKE ARGUMENTS]   configure, and read the commands
       kernel_flags.py --self-test                                                   prove that breaches are found

Kernels are optimised and closed to link-time optimisation whatever the build type, see the laws in
cpp/backend/cpu/kernels/README.md; each instruction set has its name for Eigen, and only its own objects have its flags.
"""

import argparse
import json
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

FLOORS = {"base", "neon", "memory"}
TEMPTATIONS = [
    "-DCMAKE_BUILD_TYPE=Debug",
    "-DCMAKE_CXX_FLAGS=-flto",
    "-DCMAKE_TRY_COMPILE_TARGET_TYPE=STATIC_LIBRARY",  # nothing is linked
    "-DCMAKE_INTERPROCEDURAL_OPTIMIZATION=ON",
    "-DCMAKE_EXPORT_COMPILE_COMMANDS=ON",
    "-DGRAMIAN_BUILD_TESTS=OFF",
    "-DGRAMIAN_BLAS=eigen",
    "-DGRAMIAN_CUDA=OFF",
]
KERNEL = re.compile(r"gramian_kernels_(\w+)\.dir")


def last(flags, pattern):
    """The one of the flags that match which the compiler obeys."""
    return next((flag for flag in reversed(flags) if re.fullmatch(pattern, flag)), None)


def kernel_breaches(isa, flags):
    if last(flags, r"-O.*") not in ("-O2", "-O3"):
        yield f"{last(flags, '-O.*')} in place of -O2"
    if last(flags, r"-flto.*|-fno-lto") != "-fno-lto":
        yield "no -fno-lto behind all others"
    if any(re.fullmatch(r"-Ofast|-ffast-math|-funsafe.*|-ffinite.*|-fassociative.*", flag) for flag in flags):
        yield "arithmetic that is not IEEE's"
    if any(flag.startswith("-fsanitize") or flag in ("--coverage", "-fprofile-arcs") for flag in flags):
        yield "instrumented"
    if "-fvisibility=hidden" not in flags:
        yield "no -fvisibility=hidden"
    if isa != "memory" and not {f"-DEigen=Eigen_{isa}", f"-DGRAMIAN_ISA={isa}"} <= set(flags):
        yield f"not named {isa}"


def breaches(commands):
    """`commands`: (output or file, flags) of every object of the project."""
    kernels = {}
    for output, flags in commands:
        match = KERNEL.search(output)
        isa = match.group(1) if match else None
        machine = {flag for flag in flags if re.match(r"-m[a-z]", flag)}
        if isa is None or isa in FLOORS:
            for flag in sorted(machine):
                yield f"{output}: {flag} in code that runs on every processor"
        if isa is None:
            continue
        kernels.setdefault(isa, []).append((output, machine))
        for what in kernel_breaches(isa, flags):
            yield f"{output}: {what}"
    for isa, objects in kernels.items():
        if isa not in FLOORS and any(not machine for _, machine in objects):
            yield f"{isa}: compiled for the floor"
        if len({frozenset(machine) for _, machine in objects}) > 1:
            yield f"{isa}: not all objects for the same processor"
    if not set(kernels) & FLOORS - {"memory"}:
        yield "no kernel was found"


def configured(cmake, source, work, arguments):
    shutil.rmtree(work, ignore_errors=True)
    command = [cmake, "-S", source, "-B", work, *TEMPTATIONS, *arguments]
    run = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    if run.returncode != 0:
        raise SystemExit(f"kernel_flags: {' '.join(map(str, command))} failed:\n{run.stdout}")
    entries = json.loads((Path(work) / "compile_commands.json").read_text(encoding="utf-8"))
    for entry in entries:
        flags = shlex.split(entry["command"])
        output = entry.get("output") or flags[flags.index("-o") + 1]
        yield output, flags


def self_test():
    floor = "-O2 -g -flto -fno-fat-lto-objects -O2 -fno-lto -fvisibility=hidden -DEigen=Eigen_base -DGRAMIAN_ISA=base"
    wide = floor.replace("base", "avx2") + " -mavx2 -mfma"
    here, there, other = (f"gramian_kernels_{name}.dir/a.o" for name in ("base", "avx2", "memory"))
    good = [(here, floor), (there, wide), (other, floor), ("gramian_core.dir/b.o", "-O0 -flto")]
    cases = {
        "": (None, "", ""),
        "-O0": (here, "-O2 -fno-lto", "-O0 -fno-lto"),
        "-fno-lto": (here, "-fno-lto", "-fno-lto -flto=auto"),
        "IEEE": (there, "-O2 -g", "-O2 -ffast-math"),
        "instrumented": (there, "-O2 -g", "-O2 --coverage"),
        "hidden": (here, "-fvisibility=hidden", "-fvisibility=default"),
        "not named avx2": (there, "-DEigen=Eigen_avx2", "-DEigen=Eigen"),
        "-mavx2 in code": (here, "-O2 -g", "-O2 -mavx2"),
        "-march=native in code": ("gramian_core.dir/b.o", "-O0", "-O0 -march=native"),
        "avx2: compiled for the floor": (there, " -mavx2 -mfma", ""),
    }
    right = True
    for wanted, (output, old, new) in cases.items():
        commands = [(o, (flags.replace(old, new) if o == output else flags).split()) for o, flags in good]
        found = list(breaches(commands))
        if bool(found) != bool(wanted) or not all(wanted in line for line in found[:1]):
            print(f'wanted "{wanted}", found {found}')
            right = False
    return right and list(breaches([])) == ["no kernel was found"]


def main():
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--cmake", default="cmake")
    parser.add_argument("--source")
    parser.add_argument("--work")
    parser.add_argument("--self-test", action="store_true")
    options, arguments = parser.parse_known_args()
    if options.self_test:
        return 0 if self_test() else 1
    commands = list(configured(options.cmake, options.source, options.work, arguments))
    found = list(breaches(commands))
    print("\n".join(found) or f"kernel_flags: {len(commands)} commands, no breach")
    shutil.rmtree(options.work, ignore_errors=True)
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
