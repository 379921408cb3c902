"""What tests of open datasets compare with."""

from __future__ import annotations

import pytest
import zarr

from fgbgpack.document import FIELDS, PLACEMENTS


@pytest.fixture(scope="session")
def everything(depth_dataset):
    """All arrays of the dataset with depth, as zarr-python reads them."""
    group = zarr.open_group(depth_dataset, mode="r")
    return {name: group[name][...] for name in (*FIELDS, *PLACEMENTS)}
