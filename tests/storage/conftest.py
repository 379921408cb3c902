"""Files of the tests of storage."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import pytest
from builders import SMALL_SHARDS, tree

from fgbgpack import create


@pytest.fixture
def own(kinds, tmp_path):
    """A function that copies a dataset as HDF5 for the test alone."""

    def copy(kind="depth", form="normal"):
        return Path(shutil.copy(kinds.hdf5(kind, form), tmp_path / "own.h5"))

    return copy


@pytest.fixture(scope="session")
def moto():
    """The address of another implementation of the same protocol."""
    from object_stores import moto_server

    with moto_server() as address:
        yield address


@pytest.fixture(params=["s3", "moto"])
def server(request):
    """The addresses of both, one after the other."""
    return request.getfixturevalue(request.param)


@pytest.fixture
def new_store(request, tmp_path):
    """A function that makes an empty Zarr store of a kind."""
    from object_stores import make_store

    return lambda kind: make_store(kind, tmp_path, lambda: request.getfixturevalue("s3"))


@pytest.fixture(scope="session")
def expected(tmp_path_factory, pictures):
    """A function that gives all files of a dataset of a seed, made in a folder."""
    made = {}

    def get(seed):
        if seed not in made:
            path = tmp_path_factory.mktemp("alone") / "it.zarr"
            create(path, replace(pictures.spec(), seed=seed), layout=SMALL_SHARDS)
            made[seed] = tree(path)
        return made[seed]

    return get
