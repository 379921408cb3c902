"""The Zarr stores of this package keep to what Zarr expects of stores, by Zarr's own tests."""

from __future__ import annotations

import inspect
import pickle
import uuid

import numpy as np
import pytest
import zarr

pytest.importorskip("obstore")

import obstore
from object_stores import s3_store
from obstore.store import MemoryStore as ObstoreMemory
from store_contract import READING, StoreContract, in_loop
from zarr.abc.store import OffsetByteRequest, RangeByteRequest, SuffixByteRequest
from zarr.core.buffer import default_buffer_prototype
from zarr.core.sync import _collect_aiterator, sync
from zarr.storage import LocalStore, MemoryStore

import fgbgpack
from fgbgpack.pipeline import convert, pack, virtualize
from fgbgpack.storage.beside import BesideStore
from fgbgpack.storage.hdf5 import Hdf5Store
from fgbgpack.storage.objects import RemoteStore
from fgbgpack.storage.zipped import RemoteZipStore


class RemoteContract(StoreContract):
    """Of stores of obstore, whose values are set and got by obstore."""

    store_cls = RemoteStore

    async def set(self, store, key, value):
        await obstore.put_async(store.store, key, value.to_bytes())

    async def get(self, store, key):
        result = await obstore.get_async(store.store, key)
        return self.buffer_cls.from_bytes(bytes(await result.bytes_async()))


@in_loop
class TestRemoteStoreInMemory(RemoteContract):
    @pytest.fixture
    def store_kwargs(self):
        return {"store": ObstoreMemory(), "read_only": False, "name": "RemoteStore"}

    @pytest.mark.skip(reason="what is in memory is not pickled")
    def test_serializable_store(self, store):
        pass


@in_loop
@pytest.mark.slow
class TestRemoteStoreOnAServer(RemoteContract):
    @pytest.fixture
    def store_kwargs(self, s3):
        return {"store": s3_store(s3, uuid.uuid4().hex).store, "read_only": False, "name": "RemoteStore"}


class OpenBeside(BesideStore):
    """One that is made and opened as Zarr's tests do."""

    def __init__(self, store, prefix, paths=None, *, read_only=False):
        super().__init__(
            store.with_read_only(read_only) if store.read_only != read_only else store, prefix, paths
        )

    def _with_store(self, store):
        return OpenBeside(store, self.prefix, self.paths, read_only=store.read_only)

    @classmethod
    async def open(cls, **options):
        opened = cls(**options)
        await opened._open()
        return opened


@in_loop
@pytest.mark.parametrize("paths", [None, ("foo", "c", "a", "key", "k", "k2", "spam")])
class TestBesideStore(StoreContract):
    store_cls = OpenBeside

    @pytest.fixture
    def store_kwargs(self, paths):
        return {"store": MemoryStore(), "prefix": ".fgbgpack/abc", "paths": paths}

    async def set(self, store, key, value):
        below, place = store.located(key)
        await below.set(place, value)

    async def get(self, store, key):
        below, place = store.located(key)
        return await below.get(place, default_buffer_prototype())

    def test_store_repr(self, store):
        assert str(store).endswith(".fgbgpack/abc")


# --- stores that are made of something, to be read --------------------------------------------------


@pytest.fixture(scope="module", params=["hdf5", "virtual", "virtual hdf5", "zip elsewhere"])
def pair(request, depth_dataset, tmp_path_factory):
    """A store that is to be read only, and the folder that it is to be the same as."""
    folder = tmp_path_factory.mktemp("pair")
    if request.param == "hdf5":
        convert(depth_dataset, folder / "it.h5")
        return Hdf5Store(folder / "it.h5"), LocalStore(depth_dataset, read_only=True)
    if request.param == "zip elsewhere":
        pack(depth_dataset, folder / "it.zip")
        below = LocalStore(folder, read_only=True)
        return RemoteZipStore(below, "it.zip", "it.zip"), LocalStore(depth_dataset, read_only=True)
    place = folder / ("it.h5" if "hdf5" in request.param else "it.zarr")
    virtualize(depth_dataset, place)
    return fgbgpack.store(place), None


@pytest.mark.parametrize("name", READING)
def test_a_store_that_is_only_read_passes_the_tests_that_write_nothing(pair, name):
    store = pickle.loads(pickle.dumps(pair[0]))

    class Opener:
        """Opens that store, in the place of its class."""

        @staticmethod
        async def open(**_):
            if not store._is_open:
                await store._open()
            return store

    is_type = name == "test_store_type"
    tests = type("Tests", (StoreContract,), {"store_cls": type(store) if is_type else Opener})()
    test = getattr(tests, name)
    arguments = inspect.signature(test).parameters
    done = test(**{key: {"store": store, "open_kwargs": {}}[key] for key in arguments})
    if inspect.iscoroutine(done):
        sync(done)


def test_all_keys_of_a_store_that_is_only_read_are_consistent(pair):
    store, same = pair
    prototype = default_buffer_prototype()
    keys = sorted(sync(_collect_aiterator(store.list())))
    assert len(keys) > 10
    assert store == pickle.loads(pickle.dumps(store))
    if same is not None:
        assert keys == sorted(sync(_collect_aiterator(same.list())))
    for key in keys:
        value = sync(store.get(key, prototype)).to_bytes()
        assert sync(store.exists(key))
        assert sync(store.getsize(key)) == len(value), key
        parts = [RangeByteRequest(1, 5), OffsetByteRequest(3), SuffixByteRequest(4)]
        found = sync(store.get_partial_values(prototype, [(key, part) for part in parts]))
        assert [part.to_bytes() for part in found] == [value[1:5], value[3:], value[-4:]], key
        if same is not None:
            assert value == sync(same.get(key, prototype)).to_bytes(), key
    for prefix in ("", "image", "image/", "image/c", "sources", "sources/foreground"):
        folder = f"{prefix.strip('/')}/" if prefix else ""
        below = {key.removeprefix(folder).partition("/")[0] for key in keys if key.startswith(folder)}
        assert set(sync(_collect_aiterator(store.list_dir(prefix)))) == below, prefix
    assert sync(store.get("image/c/999/0/0/0", prototype)) is None
    assert not sync(store.exists("nothing"))
    with pytest.raises(AttributeError):
        store.read_only = False


def test_zarr_reads_arrays_from_a_store_that_is_only_read(pair, depth_dataset):
    """As itself does, by whatever methods of stores its version calls."""
    found, expected = (zarr.open_group(store, mode="r") for store in (pair[0], depth_dataset))
    for name in ("image", "mask", "x"):
        np.testing.assert_array_equal(found[name][1:-1], expected[name][1:-1])
