"""Writes sketches.json, the SHA-256 of 20 sketches by the NumPy definition: python tests/golden/make_sketches.py

The file is frozen with the law of the draws: run this again only to compare.
"""

import hashlib
import json
import sys
from pathlib import Path

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE.parent))

import numpy as np  # noqa: E402

from reference import sketch  # noqa: E402


def description(kind, n_out, n_in, seed, **options):
    """All fields of a distribution."""
    plain = {"nnz": 8, "permute": True, "generation": 0, "appended": [], "dims": [], "scores": [], "columns": []}
    return {"kind": kind, "n_out": n_out, "n_in": n_in, "seed": str(seed), **plain, **options}


CASES = [
    description("gaussian", 7, 65, 0),
    description("gaussian", 64, 300, 12345),
    description("rademacher", 130, 70, 12345),
    description("rademacher", 3, 1000, 2**64 - 1),
    description("srht", 16, 64, 12345),
    description("srht", 50, 200, 7),
    description("srht", 50, 200, 7, permute=False),
    description("hdhd", 32, 100, 12345),
    description("count_sketch", 100, 50, 12345),
    description("count_sketch", 1, 9, 3),
    description("sparse_sign", 100, 40, 12345),
    description("sparse_sign", 97, 300, 99, nnz=5),
    description("sparse_sign", 20, 30, 4, nnz=20),
    description("long_axis", 40, 500, 12345),
    description("long_axis", 6, 100, 8, nnz=31),
    description("row_sampling", 60, 40, 12345, scores=[(3 * i) % 7 / 4.0 for i in range(40)]),
    description("tensor_sketch", 50, 60, 12345, dims=[3, 4, 5]),
    description("tensor_srht", 64, 77, 12345, dims=[7, 11]),
    description("dct", 30, 100, 12345),
    description("dct", 10, 37, 0, columns=list(range(10))),
]


def digest(matrix):
    """SHA-256 of the float64 matrix, little-endian, rows after each other."""
    return hashlib.sha256(np.ascontiguousarray(matrix, dtype="<f8").tobytes()).hexdigest()


def main():
    golden = [{"sketch": case, "sha256": digest(sketch.matrix(case))} for case in CASES]
    (HERE / "sketches.json").write_text(json.dumps(golden, indent=1) + "\n")


if __name__ == "__main__":
    main()
