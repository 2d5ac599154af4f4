"""Prints the folder of Eigen's headers in the cmeel-eigen wheel, or nothing where it is not installed."""

from importlib.metadata import PackageNotFoundError, distribution

try:
    print(distribution("cmeel-eigen").locate_file("cmeel.prefix/include/eigen3"))
except PackageNotFoundError:
    pass
