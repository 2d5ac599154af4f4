#!/usr/bin/env python3
"""Fails when code of one instruction set could run where it must not.

Given the kernel objects of each instruction set (--isa NAME=a.o|b.o, repeated), no two sets may define the same weak
symbol, no object may have a static initialiser, and the objects of the floor may use no ymm or zmm register. Given the
library too (--library, not stripped), it may have no more functions with such registers, name by name, than the objects
of the other sets have: local names repeat between the sets, so a name alone would excuse its namesakes.
"""

import argparse
import collections
import os
import re
import subprocess
import sys
import tempfile

# Data that only names the handler of C++ exceptions: the same for every instruction set.
SHARED_BY_DESIGN = {"DW.ref.__gxx_personality_v0"}
FLOORS = {"base", "neon"}
INITIALISERS = (".init_array", ".ctors", ".preinit_array")
WIDE_REGISTER = re.compile(r"%[yz]mm\d")
FUNCTION = re.compile(r"^[0-9a-f]+ <(.+)>:$")


class Tools:
    def __init__(self, nm, objdump):
        self.nm = nm
        self.objdump = objdump

    def symbols(self, path):
        """(type letter, name) of every defined symbol."""
        text = run([self.nm, "--defined-only", "--format=posix", path])
        fields = (line.split() for line in text.splitlines())
        return [(field[1], field[0]) for field in fields if len(field) >= 2 and len(field[1]) == 1]

    def sections(self, path):
        text = run([self.objdump, "--section-headers", path])
        return [line.split()[1] for line in text.splitlines() if re.match(r"^\s*\d+ \S", line)]

    def wide_functions(self, path):
        """How many functions of each name use a wide register."""
        process = subprocess.Popen(
            [self.objdump, "--disassemble", "--no-show-raw-insn", path], stdout=subprocess.PIPE, text=True
        )
        found, current, counted = collections.Counter(), "?", False
        for line in process.stdout:
            header = FUNCTION.match(line)
            if header:
                current, counted = header.group(1), False
            elif not counted and WIDE_REGISTER.search(line):
                found[current] += 1
                counted = True
        if process.wait() != 0:
            raise SystemExit(f"symbol_gate: objdump failed on {path}")
        return found


def run(command):
    return subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout


def weak_symbol_faults(tools, sets):
    weak = {isa: {n for p in paths for t, n in tools.symbols(p) if t in "WVuwv"} for isa, paths in sets.items()}
    names = list(weak)
    for i, first in enumerate(names):
        for second in names[i + 1 :]:
            for symbol in sorted((weak[first] & weak[second]) - SHARED_BY_DESIGN):
                yield f"{first} and {second} both define the weak symbol {symbol}"


def initialiser_faults(tools, sets):
    for isa, paths in sets.items():
        for path in paths:
            for section in tools.sections(path):
                if section.startswith(INITIALISERS):
                    yield f"{isa}: {os.path.basename(path)} has a static initialiser ({section})"


def wide_register_faults(tools, sets, library):
    allowed = collections.Counter()
    for isa, paths in sets.items():
        for path in paths:
            found = tools.wide_functions(path)
            if isa not in FLOORS:
                allowed += found
                continue
            for name in found:
                yield f"{isa}: {name} in {os.path.basename(path)} uses a wide register"
    if not library:
        return
    found = tools.wide_functions(library)
    if allowed and not found:
        yield f"{os.path.basename(library)} shows no wide register at all"
    for name, count in (found - allowed).items():
        yield f"{os.path.basename(library)}: {count} {name} outside the kernels uses a wide register"


def check(tools, sets, library):
    faults = list(weak_symbol_faults(tools, sets)) + list(initialiser_faults(tools, sets))
    return faults + list(wide_register_faults(tools, sets, library))


CLEAN = """
namespace { template <class T> __attribute__((noinline)) void work(T* x) { for (int i = 0; i < 1024; ++i) x[i] *= 2; } }
extern "C" void fill_ISA(double* x) { work(x); }
"""
SHARED_WEAK = """
template <class T> __attribute__((noinline)) void shared(T* x) { for (int i = 0; i < 1024; ++i) x[i] *= 2; }
extern "C" void fill_ISA(double* x) { shared(x); }
"""
INITIALISER = """
extern "C" int ask_processor();
namespace { int level = ask_processor(); }
extern "C" int fill_ISA(double*) { return level; }
"""
OUTSIDE = 'extern "C" void outside(double* x) { for (int i = 0; i < 1024; ++i) x[i] += 1; }\n'


def self_test(tools, compiler):
    """The gate passes clean objects and fails each kind of dirty ones."""
    flags = {"base": [], "avx2": ["-mavx2"]}
    with tempfile.TemporaryDirectory() as folder:

        def compiled(name, source, options):
            path = os.path.join(folder, name)
            with open(path + ".cc", "w", encoding="ascii") as file:
                file.write(source)
            run([compiler, "-O3", "-fPIC", *options, "-c", path + ".cc", "-o", path + ".o"])
            return path + ".o"

        def sets_of(name, source):
            return {isa: [compiled(f"{name}_{isa}", source.replace("ISA", isa), flags[isa])] for isa in flags}

        def linked(name, sets, others):
            path = os.path.join(folder, name + ".so")
            run([compiler, "-shared", "-o", path, *(p for paths in sets.values() for p in paths), *others])
            return path

        clean = sets_of("clean", CLEAN)
        narrow = compiled("narrow", OUTSIDE, [])
        wide = compiled("wide", OUTSIDE, ["-mavx2"])
        namesake = compiled("namesake", CLEAN.replace("ISA", "again"), ["-mavx2"])
        wide_floor = {"base": clean["avx2"]}
        cases = [
            ("clean objects", clean, linked("clean", clean, [narrow]), None),
            ("a shared weak symbol", sets_of("weak", SHARED_WEAK), None, "weak symbol"),
            ("a static initialiser", sets_of("init", INITIALISER), None, "static initialiser"),
            ("a wide register outside", clean, linked("wide", clean, [wide]), "outside the kernels"),
            ("a namesake outside", clean, linked("namesake", clean, [namesake]), "outside the kernels"),
            ("a wide floor", wide_floor, None, "base: "),
        ]
        failures = 0
        for title, sets, library, expected in cases:
            faults = check(tools, sets, library)
            right = not faults if expected is None else any(expected in fault for fault in faults)
            failures += not right
            print(f"{'ok  ' if right else 'FAIL'} {title}: {faults}")
    return failures


def parse_set(text):
    name, _, paths = text.partition("=")
    return name, [path for path in paths.split("|") if path]


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--isa", action="append", default=[], type=parse_set, metavar="NAME=OBJECT|OBJECT")
    parser.add_argument("--library", metavar="FILE")
    parser.add_argument("--nm", default="nm")
    parser.add_argument("--objdump", default="objdump")
    parser.add_argument("--self-test", metavar="COMPILER")
    options = parser.parse_args()
    tools = Tools(options.nm, options.objdump)
    if options.self_test:
        return 1 if self_test(tools, options.self_test) else 0
    sets = dict(options.isa)
    if not sets or not all(sets.values()):
        parser.error("an instruction set without objects proves nothing")
    faults = check(tools, sets, options.library)
    for fault in faults:
        print(f"symbol_gate: {fault}", file=sys.stderr)
    if not faults:
        print(f"symbol_gate: {sum(map(len, sets.values()))} objects of {', '.join(sets)} are clean")
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
