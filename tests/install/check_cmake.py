"""The builds of docs/embedding.md and CONTRIBUTING.md without Python: plain CMake with a test, the library as a part of
another project, and as an installed shared library.

usage: check_cmake.py      takes minutes, because the library is built twice; needs Eigen and GoogleTest to be installed

CMake is the one beside this interpreter. The shared library has the lowest instruction set and no BLAS, to be built
sooner.
"""

import sys
from pathlib import Path

from common import main, must, run, step, unpacked_sources, work_folder

BIN = Path(sys.executable).parent
NINJA = ["-G", "Ninja", f"-DCMAKE_MAKE_PROGRAM={BIN / 'ninja'}"]


def cmake(*arguments, cwd):
    return run(BIN / "cmake", *arguments, cwd=cwd)


def ctest(build, *arguments):
    """Runs tests and gives how many there were; none at all is a failure of ctest's."""
    said = run(BIN / "ctest", "--test-dir", build, "--output-on-failure", "--no-tests=error", *arguments, cwd=build)
    return int(said.rpartition("tests passed")[2].rpartition("out of ")[2].split()[0])


def plain(sources, folder):
    build = folder / "plain"
    with step("cmake -S . -B build"):
        said = cmake("-S", sources, "-B", build, *NINJA, "-DGRAMIAN_CUDA=OFF", cwd=folder)
        must("gramian: Eigen" in said, f"CMake names no Eigen:\n{said}")
    with step("cmake --build build, the library and the tests of its C interface"):
        cmake("--build", build, "--target", "gramian_core", "gramian_test_capi", cwd=folder)
    must(list(build.rglob("libgramian.a")), "there is no static library")
    must(not list(build.rglob("_core*")), "a Python module was built, though none was asked for")
    with step("ctest --test-dir build"):
        must(ctest(build, "-R", "^(unit_capi|gate_install)$") == 2, "not both tests were run")


def part_of_a_project(sources, folder):
    build = folder / "host"
    with step("add_subdirectory, with a shared library"):
        cmake(
            *["-S", sources / "tests/cpp/install", "-B", build, *NINJA, f"-DGRAMIAN_SOURCE={sources}"],
            *["-DBUILD_SHARED_LIBS=ON", "-DGRAMIAN_INSTALL=ON"],
            *["-DGRAMIAN_CUDA=OFF", "-DGRAMIAN_BLAS=eigen", "-DGRAMIAN_ISA=base", "-DCMAKE_BUILD_TYPE=Release"],
            cwd=folder,
        )
        cmake("--build", build, cwd=folder)
    must(list(build.rglob("libgramian.so")), "there is no shared library")
    must(not list(build.rglob("libgramian.a")), "there is a static library beside the shared one")
    must(not list(build.rglob("gramian_test_*")), "the library's own tests are built inside another project")
    with step("its programs in C++, C, and C++ without exceptions"):
        must(ctest(build) == 3, "not every program was run")
    return build


def installed(sources, build, folder):
    prefix = folder / "moved"
    with step("cmake --install, then find_package from another place"):
        cmake("--install", build, "--component", "development", "--prefix", folder / "prefix", cwd=folder)
        (folder / "prefix").rename(prefix)
        must(list(prefix.rglob("gramianConfig.cmake")), "no package was installed")
        # Nothing may come from the build that made it.
        build.rename(folder / "away")
        consumer = folder / "consumer"
        package = [f"-DCMAKE_PREFIX_PATH={prefix}", "-DCMAKE_BUILD_TYPE=Release"]
        cmake("-S", sources / "tests/cpp/install", "-B", consumer, *NINJA, *package, cwd=folder)
        cmake("--build", consumer, cwd=folder)
    with step("its programs in C++, C, and C++ without exceptions"):
        must(ctest(consumer) == 3, "not every program was run")


def check():
    with work_folder() as folder:
        with step("source distribution"):
            sources = unpacked_sources(folder)
        plain(sources, folder)
        build = part_of_a_project(sources, folder)
        installed(sources, build, folder)


if __name__ == "__main__":
    main(check)
