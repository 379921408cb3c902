"""The store of one dataset: keys, shards, the document and the lock, wherever it is."""

from __future__ import annotations

import asyncio
import json
import os
import pickle
import shutil
from dataclasses import replace

import numpy as np
import pytest
from builders import names_in, tree
from refusals import refused
from zarr.storage import LocalStore, MemoryStore, WrapperStore

from fgbgpack.document import DEPTH, IMAGE, MASK
from fgbgpack.errors import DatasetError, IncompleteDatasetError
from fgbgpack.storage.sealing import missing_shards, sweep
from fgbgpack.storage.store import DatasetStore


@pytest.fixture(params=["folder", "memory", "url"])
def store(request, tmp_path):
    """An empty store that can be written."""
    if request.param == "memory":
        return DatasetStore(MemoryStore(), "it")
    place = f"file://{tmp_path}/it" if request.param == "url" else tmp_path / "it"
    return DatasetStore.open(place, read_only=False)


@pytest.fixture
def written(kinds, tmp_path):
    """The store of a dataset of the test's own, in many shards."""
    path = shutil.copytree(kinds["depth"], tmp_path / "own.zarr")
    return DatasetStore.open(path, read_only=False)


# --- keys ------------------------------------------------------------------------------------------


def test_values_are_published_found_and_deleted(store):
    assert store.get("a/b") is None
    for key in ("a/b", "a/c/1", "d"):
        store.put(key, key.encode())
    assert store.get("a/c/1") == b"a/c/1"
    assert store.get_all(["d", "nothing", "a/b"]) == [b"d", None, b"a/b"]
    assert store.find() == ["a/b", "a/c/1", "d"]
    assert store.find("a/") == ["a/b", "a/c/1"]
    assert len(store.find(at_most=2)) == 2
    store.delete_below("a")
    assert store.find() == ["d"]
    assert pickle.loads(pickle.dumps(store)).name == store.name


class Asked(WrapperStore):
    """A store that answers in its own time, and counts what it is asked at once; ``bad`` cannot be read."""

    def __init__(self, store, bad=None):
        super().__init__(store)
        self.bad, self.asked, self.at_once, self.tasks = bad, 0, 0, 0

    async def get(self, key, prototype, byte_range=None):
        self.asked += 1
        self.at_once += 1
        self.tasks = max(self.tasks, len(asyncio.all_tasks()))
        assert self.at_once <= 128
        await asyncio.sleep(0)
        self.at_once -= 1
        if key == self.bad:
            raise OSError("gone")
        return await super().get(key, prototype, byte_range)


def test_many_keys_are_asked_for_a_few_at_once_and_none_after_an_error():
    keys = [f"a/{number}" for number in range(2000)]
    inner = MemoryStore()
    for key in keys[::2]:
        DatasetStore(inner, "it").put(key, key.encode())
    asked = Asked(inner)
    values = DatasetStore(asked, "it").get_all(keys)
    assert values == [key.encode() if number % 2 == 0 else None for number, key in enumerate(keys)]
    assert asked.asked == 2000
    # However many keys there are, so many are in the making.
    assert asked.tasks < 500
    broken = Asked(inner, bad="a/100")
    with refused(DatasetError, "io-failed"):
        DatasetStore(broken, "it").get_all(keys)
    assert broken.asked < 500
    assert DatasetStore(inner, "it").get_all([]) == []


def test_a_value_that_is_there_already_is_not_written_again(tmp_path):
    store = DatasetStore.open(tmp_path, read_only=False)
    store.put_changed("a", b"one")
    file = tmp_path / "a"
    os.utime(file, (1, 1))
    store.put_changed("a", b"one")
    assert file.stat().st_mtime == 1
    store.put_changed("a", b"two")
    assert file.stat().st_mtime > 1
    assert file.read_bytes() == b"two"


def test_what_a_writer_has_not_finished_is_not_found_and_swept(tmp_path):
    store = DatasetStore.open(tmp_path, read_only=False)
    store.put("image/c/0", b"whole")
    for name in (f"1.{'0' * 32}.partial", "mine.partial"):
        (tmp_path / "image/c" / name).write_bytes(b"half")
    assert store.find() == ["image/c/0", "image/c/mine.partial"]
    sweep(store)
    assert names_in(tmp_path / "image/c") == ["0", "mine.partial"]


def test_a_store_is_the_same_place_as_itself_only(tmp_path):
    (tmp_path / "one").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "one")
    one, link, other = (DatasetStore.open(tmp_path / n, read_only=False) for n in ("one", "link", "other"))
    assert one.same_place_as(one)
    assert one.same_place_as(link)
    assert not one.same_place_as(other), "it is not there yet"
    memory = DatasetStore(MemoryStore(), "it")
    assert memory.same_place_as(memory)
    assert not memory.same_place_as(one)


@pytest.mark.parametrize(("target", "code"), [("magic://x/y", "url-unknown"), ("file.txt", "target-is-file")])
def test_places_that_cannot_be_written_are_named(tmp_path, target, code):
    (tmp_path / "file.txt").write_text("mine")
    place = target if "://" in target else tmp_path / target
    with refused(DatasetError, code, target):
        DatasetStore.open(place, read_only=False)


class Broken(WrapperStore):
    """A store whose line is cut."""

    async def get(self, key, prototype, byte_range=None):
        raise ConnectionError("the line is cut")


def test_errors_of_a_store_name_it():
    with refused(DatasetError, "store-cut-off", "^GET of lobby/zarr.json .*tried .*the line is cut"):
        DatasetStore(Broken(MemoryStore()), "lobby").get("zarr.json")


# --- the document ----------------------------------------------------------------------------------


@pytest.mark.slow
def test_a_document_is_committed_beside_other_attributes_and_with_all_metadata_once_it_is_complete(written):
    def root():
        return json.loads(written.get("zarr.json"))

    written.put("zarr.json", json.dumps(root() | {"attributes": root()["attributes"] | {"mine": 3}}).encode())
    document = written.existing_document(complete=True)
    copies = root()["consolidated_metadata"]["metadata"]
    written.commit(document.begun())
    assert "consolidated_metadata" not in root()
    begun = written.document()
    assert begun.manifest is None
    assert begun == replace(document.begun(), generation=begun.generation, manifest=None)
    assert root()["attributes"]["mine"] == 3
    with refused(IncompleteDatasetError, "dataset-incomplete", r"own\.zarr"):
        written.existing_document(complete=True)
    written.commit(document)
    assert root()["consolidated_metadata"]["metadata"] == copies
    assert list(copies) == list(document.nodes)
    assert written.existing_document() == document


def test_a_document_that_breaks_its_schema_is_not_committed(written):
    before = written.get("zarr.json")
    document = written.existing_document()
    with refused(DatasetError, "schema-violated", "document to be written"):
        written.commit(replace(document, recipe=replace(document.recipe, samples=0)))
    assert written.get("zarr.json") == before


# --- shards ----------------------------------------------------------------------------------------


def test_shards_are_missing_that_are_not_there_or_not_sound(written):
    layouts = {name: written.layout(name) for name in (IMAGE, MASK)}
    count = layouts[IMAGE].shards
    assert count == 3
    assert missing_shards(written, layouts) == []
    assert written.sound_shards(IMAGE, layouts[IMAGE]) == {0, 1, 2}
    key = f"{MASK}/{layouts[MASK].key(1)}"
    whole = written.get(key)
    for content in (b"", whole[:-1], whole[:-3] + b"\0\0\0", whole[40:]):
        written.put(key, content)
        assert missing_shards(written, layouts) == [1]
    written.put(key, whole)
    written.delete_below(f"{IMAGE}/c/2")
    assert missing_shards(written, layouts) == [2]
    # What is no shard of the array is not looked at.
    written.put(f"{IMAGE}/c/99/0/0/0", b"more")
    assert written.sound_shards(IMAGE, layouts[IMAGE]) == {0, 1}
    assert written.layout("nothing") is None


def test_bytes_are_those_on_disk_without_what_lies_beside_the_dataset(written, tmp_path):
    (tmp_path / "own.zarr/CARD.md").write_text("a card")
    files = tree(tmp_path / "own.zarr")
    stored = written.stored_bytes()
    assert sum(stored.values()) == sum(map(len, files.values())) - len(files["CARD.md"])
    for name in (DEPTH, "sources/background"):
        assert stored[name] == sum(
            len(content) for path, content in files.items() if path.startswith(f"{name}/")
        )


def test_arrays_are_read_whole(written):
    image, x = written.read(IMAGE, "x")
    np.testing.assert_array_equal(image, written.reader(IMAGE).read(np.arange(36)))
    assert (image.shape, x.shape) == ((36, 21, 33, 3), (36,))
    with refused(DatasetError, "array-missing", r"own\.zarr.*/nothing"):
        written.read("x", "nothing")


# --- the lock --------------------------------------------------------------------------------------


def test_one_at_a_time_writes_a_folder(written):
    again = DatasetStore.open(written.name, read_only=False)
    with written.exclusive(), refused(DatasetError, "dataset-locked", r"own\.zarr"), again.exclusive():
        pass
    with again.exclusive():
        pass


def test_a_folder_in_which_nothing_was_written_does_not_stay(tmp_path):
    store = DatasetStore.open(tmp_path / "new" / "it", read_only=False)
    with store.exclusive():
        assert (tmp_path / "new" / "it").is_dir()
    assert not (tmp_path / "new" / "it").exists()
    with store.exclusive():
        store.put("zarr.json", b"{}")
    assert names_in(tmp_path / "new" / "it") == ["zarr.json"]


def test_other_stores_are_not_locked():
    store = DatasetStore(MemoryStore(), "it")
    with store.exclusive(), store.exclusive():
        store.put("a", b"1")
    assert isinstance(DatasetStore.open("x", read_only=False).store, LocalStore)
