#!/usr/bin/env python3
"""Fails when code of one instruction set could run where it must not.

Given the kernel objects of each instruction set (--isa NAME=a.o|b.o, repeated), no two sets may define the same weak
symbol, and the objects of the floor may use no ymm or zmm register. Each object defines nothing for others but its
hidden functions gramian_fill_<stem>_<isa> and what it instantiates of Eigen_<isa>, calls nothing but C and, with Eigen,
what carries an exception to its handler; it has no static initialiser and nothing for a link-time optimiser. Given the
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
# What a kernel may call: C that every processor's library has.
C_FUNCTIONS = {
    "_GLOBAL_OFFSET_TABLE_", "abort", "calloc", "free", "malloc", "memcmp", "memcpy", "memmove", "memset", "realloc",
    "acos", "asin", "atan", "atan2", "ceil", "cos", "cosf", "erf", "erfc", "exp", "expf", "floor", "fma", "fmaf",
    "frexp", "hypot", "ldexp", "log", "log1p", "logf", "nearbyint", "pow", "rint", "round", "sin", "sincos", "sincosf",
    "sinf", "sqrt", "sqrtf", "tan", "tanh", "trunc",
}  # fmt: skip
# What Eigen needs to fail for want of memory, `guarded` to stop that, and Eigen to ask once for the sizes of caches.
EXCEPTIONS = {
    "_Unwind_Resume", "__gxx_personality_v0", "__cxa_allocate_exception", "__cxa_begin_catch", "__cxa_end_catch",
    "__cxa_free_exception", "__cxa_throw", "__cxa_guard_acquire", "__cxa_guard_release", "__cxa_guard_abort",
    "_ZNSt9bad_allocD1Ev", "_ZTISt9bad_alloc", "_ZTVSt9bad_alloc", "_ZSt9terminatev",
}  # fmt: skip
LINK_TIME = (".gnu.lto_", ".llvm.lto", ".llvmbc")
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

    def undefined(self, path):
        text = run([self.nm, "--undefined-only", "--format=posix", path])
        return {line.split()[0].partition("@")[0] for line in text.splitlines() if line.strip()}

    def hidden(self, path):
        """Names of the symbols that only this library sees."""
        text = run([self.objdump, "--syms", path])
        return {line.split()[-1] for line in text.splitlines() if " .hidden " in line}

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


def section_faults(tools, sets):
    for isa, paths in sets.items():
        for path in paths:
            for section in tools.sections(path):
                if section.startswith(INITIALISERS):
                    yield f"{isa}: {os.path.basename(path)} has a static initialiser ({section})"
                if section.startswith(LINK_TIME):
                    yield f"{isa}: {os.path.basename(path)} is open to link-time optimisation ({section})"


def definition_faults(tools, sets):
    for isa, paths in sets.items():
        renamed = f"{len('Eigen_' + isa)}Eigen_{isa}"
        entry = re.compile(rf"gramian_fill_[a-z]+_{isa}")
        for path in paths:
            name, hidden = os.path.basename(path), tools.hidden(path)
            for letter, symbol in tools.symbols(path):
                if letter in "WVuwv":
                    if renamed not in symbol and symbol not in SHARED_BY_DESIGN:
                        yield f"{isa}: {name} defines {symbol} outside Eigen_{isa}"
                elif letter.isupper():
                    if not entry.fullmatch(symbol):
                        yield f"{isa}: {name} defines {symbol} for others"
                    elif symbol not in hidden:
                        yield f"{isa}: {name} shows {symbol} outside the library"


def call_faults(tools, sets):
    for isa, paths in sets.items():
        for path in paths:
            with_eigen = any(f"Eigen_{isa}" in symbol for _, symbol in tools.symbols(path))
            allowed = C_FUNCTIONS | EXCEPTIONS if with_eigen else C_FUNCTIONS
            for symbol in sorted(tools.undefined(path) - allowed):
                yield f"{isa}: {os.path.basename(path)} calls {symbol}"


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
    faults = []
    for kind in (weak_symbol_faults, definition_faults, call_faults, section_faults):
        faults += kind(tools, sets)
    return faults + list(wide_register_faults(tools, sets, library))


ENTRY = 'extern "C" __attribute__((visibility("hidden"))) int gramian_fill_work_ISA(double* x)'
CLEAN = f"""
namespace {{ template <class T> __attribute__((noinline)) int work(T* x) {{
  for (int i = 0; i < 1024; ++i) x[i] *= 2;
  return 0;
}} }}
{ENTRY} {{ return work(x); }}
"""
SHARED_WEAK = f"""
template <class T> __attribute__((noinline)) void shared(T* x) {{ for (int i = 0; i < 1024; ++i) x[i] *= 2; }}
{ENTRY} {{ shared(x); return 0; }}
"""
OWN_WEAK = SHARED_WEAK.replace("shared", "own_ISA")
OWN_STRONG = 'extern "C" int helper_ISA(int level) { return level + 1; }' + CLEAN
VISIBLE = CLEAN.replace("hidden", "default")
OF_EIGEN = f"""
#include <new>
namespace Eigen_ISA {{
template <class T> __attribute__((noinline)) void check(T* x) {{ if (x == nullptr) throw std::bad_alloc(); }}
}}
{ENTRY} {{ try {{ Eigen_ISA::check(x); }} catch (...) {{ return 1; }} return 0; }}
"""
THROWS = f"""
{ENTRY} {{ if (x == nullptr) throw 1; return 0; }}
"""
CALLS = f"""
extern "C" int puts(const char*);
{ENTRY} {{ return x == nullptr ? puts("none") : 0; }}
"""
INITIALISER = f"""
namespace {{ int ask() __attribute__((noinline, noipa)); int ask() {{ return 1; }} int level = ask(); }}
{ENTRY} {{ return x == nullptr ? level : 0; }}
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

        def sets_of(name, source, *more):
            return {isa: [compiled(f"{name}_{isa}", source.replace("ISA", isa), [*flags[isa], *more])] for isa in flags}

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
            ("a weak symbol of its own", sets_of("own_weak", OWN_WEAK), None, "outside Eigen_avx2"),
            ("a function of its own", sets_of("own", OWN_STRONG), None, "defines helper_avx2 for others"),
            ("an entry in sight", sets_of("seen", VISIBLE), None, "outside the library"),
            ("an exception of Eigen", sets_of("eigen", OF_EIGEN), None, None),
            ("another one", sets_of("other", OF_EIGEN.replace("std::bad_alloc()", "1")), None, "calls _ZTIi"),
            ("an exception", sets_of("throws", THROWS), None, "calls __cxa_throw"),
            ("a stream", sets_of("calls", CALLS), None, "calls puts"),
            ("link-time optimisation", sets_of("lto", CLEAN, "-flto", "-ffat-lto-objects"), None, "link-time"),
            ("a static initialiser", sets_of("init", INITIALISER), None, "static initialiser"),
            ("a wide register outside", clean, linked("wide", clean, [wide]), "outside the kernels"),
            ("a namesake outside", clean, linked("namesake", clean, [namesake]), "outside the kernels"),
            ("a wide floor", wide_floor, None, "o uses a wide register"),
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
