"""Files of the tests of storage."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest


@pytest.fixture
def own(kinds, tmp_path):
    """A function that copies a dataset as HDF5 for the test alone."""

    def copy(kind="depth", form="normal"):
        return Path(shutil.copy(kinds.hdf5(kind, form), tmp_path / "own.h5"))

    return copy
