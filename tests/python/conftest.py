"""Shared fixtures. GRAMIAN_DATA names a folder of real data sets, where there is one."""

import os
import pathlib

import numpy as np
import pytest

import gramian


def pytest_collection_modifyitems(items):
    """Tests that need a device say so where there is none."""
    if gramian.cuda_available():
        return
    for item in items:
        if "gpu" in item.keywords:
            item.add_marker(pytest.mark.skip(reason="skipped: no device"))


@pytest.fixture(scope="session")
def data_dir():
    """Folder of the real data sets."""
    folder = os.environ.get("GRAMIAN_DATA")
    if not folder:
        pytest.skip("GRAMIAN_DATA names no folder of data sets")
    path = pathlib.Path(folder)
    if not path.is_dir():
        pytest.skip(f"GRAMIAN_DATA={folder} is no folder")
    return path


@pytest.fixture
def rng():
    """A generator with a fixed seed."""
    return np.random.default_rng(20240611)


@pytest.fixture
def other_kinds():
    """Estimators that are more, or other, than the ridge regression of their sums."""
    return [
        gramian.AlignedClassifier,
        gramian.BroadLearner,
        gramian.CodedClassifier,
        gramian.DualStreamClassifier,
        gramian.GaussianClassifier,
        gramian.ReplayClassifier,
        gramian.TranslatedClassifier,
        gramian.TruncatedRidgeClassifier,
    ]
