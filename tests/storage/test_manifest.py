"""What is missing, exchanged, of an older copy or changed by something else is told, and made again."""

from __future__ import annotations

import json
import pickle
import shutil
from contextlib import suppress
from dataclasses import replace

import numpy as np
import pytest
import zarr
from builders import SMALL_SHARDS, depth_of, tree
from refusals import refused
from sealing import accept, edit_document, is_manifest
from zarr.storage import LocalStore, MemoryStore

from fgbgpack import create, open_dataset
from fgbgpack.document import ATTRIBUTE, DIGEST
from fgbgpack.errors import DatasetError, FgbgError
from fgbgpack.pipeline.events import Notice
from fgbgpack.storage.layout import Layout
from fgbgpack.storage.manifest import (
    PART,
    ShardChecksums,
    WrittenChunks,
    checksums_of,
    chunk_count,
    is_within,
    metadata_digest,
    parts_of,
)
from fgbgpack.storage.sharding import join, read_index
from fgbgpack.storage.store import DatasetStore


@pytest.fixture
def copy(guided_dataset, tmp_path):
    return shutil.copytree(guided_dataset, tmp_path / "copy.zarr")


def read_all(path):
    """Every array of a dataset, as fgbgpack reads it."""
    ds = open_dataset(path, pixels="stored")
    arrays = {name: ds.whole(name) for name in ds.document.whole_arrays}
    return {**arrays, "names": ds.names}


def objects(path):
    """The files of chunks and shards of all arrays, by their keys."""
    return sorted(key for key in tree(path) if "/c/" in key and not is_manifest(key))


def test_every_object_that_is_missing_or_empty_is_told(copy):
    keys = objects(copy)
    assert {key.split("/c/")[0] for key in keys} == set(open_dataset(copy).document.whole_arrays)
    for key in keys:
        whole = (copy / key).read_bytes()
        for content in (None, b""):
            (copy / key).unlink()
            if content is not None:
                (copy / key).write_bytes(content)
            with pytest.raises(DatasetError) as caught:
                read_all(copy)
            assert caught.value.code in {
                "chunk-missing",
                "chunk-foreign",
                "shard-cut-short",
                "checksum-wrong",
            }
            (copy / key).write_bytes(whole)
    read_all(copy)


def test_objects_that_are_exchanged_are_told(copy):
    of_arrays = {}
    for key in objects(copy):
        of_arrays.setdefault(key.split("/c/")[0], []).append(copy / key)
    several = {name: files for name, files in of_arrays.items() if len(files) > 1}
    assert {"depth", "depth_min", "sources/background_depth"} <= set(several)
    for name, (one, other, *_) in several.items():
        first, second = one.read_bytes(), other.read_bytes()
        assert first != second, name
        one.write_bytes(second)
        other.write_bytes(first)
        with refused(DatasetError, "chunk-foreign", name):
            read_all(copy)
        one.write_bytes(first)
        other.write_bytes(second)


def test_an_older_copy_of_an_object_is_told(tmp_path, pictures):
    path = tmp_path / "it.zarr"
    create(path, pictures.spec(), layout=SMALL_SHARDS)
    old = tree(path)
    create(path, replace(pictures.spec(), seed=7), layout=SMALL_SHARDS, overwrite=True)
    key = next(
        key for key in objects(path) if key.startswith("image/c/") and old[key] != (path / key).read_bytes()
    )
    (path / key).write_bytes(old[key])
    with refused(DatasetError, "chunk-foreign", key):
        read_all(path)


def test_a_reader_never_mixes_two_datasets(tmp_path, pictures):
    path = tmp_path / "it.zarr"
    create(path, pictures.spec(), layout=SMALL_SHARDS)
    before, reader = read_all(path), open_dataset(path)
    loaded = open_dataset(path)
    np.testing.assert_array_equal(loaded.image[0], before["image"][0])
    create(path, replace(pictures.spec(), seed=7), layout=SMALL_SHARDS, overwrite=True)
    for ds in (reader, loaded):
        for name in ("image", "mask", "y"):
            with suppress(DatasetError):
                np.testing.assert_array_equal(ds.whole(name), before[name])
    assert (read_all(path)["y"] != before["y"]).any()


@pytest.mark.parametrize("where", ["array", "copy"])
def test_metadata_that_something_else_has_changed_are_told(copy, where):
    file = copy / ("image/zarr.json" if where == "array" else "zarr.json")
    node = json.loads(file.read_text(encoding="utf-8"))
    (node if where == "array" else node["consolidated_metadata"]["metadata"]["image"])["fill_value"] = 7
    file.write_text(json.dumps(node), encoding="utf-8")
    with refused(DatasetError, "metadata-foreign", "/image"):
        open_dataset(copy)


def test_a_document_that_something_else_has_changed_is_told(copy):
    root = json.loads((copy / "zarr.json").read_text(encoding="utf-8"))
    for change in ("seed", "samples"):
        changed = json.loads(json.dumps(root))
        part = changed["attributes"][ATTRIBUTE]["spec" if change == "seed" else "recipe"]
        part[change] += 1
        (copy / "zarr.json").write_text(json.dumps(changed), encoding="utf-8")
        with refused(DatasetError, "document-damaged"):
            open_dataset(copy)
    # In another order and with other spaces it says the same.
    node = dict(reversed(root["attributes"][ATTRIBUTE].items()))
    root["attributes"][ATTRIBUTE] = node
    (copy / "zarr.json").write_text(json.dumps(root, indent=7), encoding="utf-8")
    open_dataset(copy)


def test_a_manifest_that_is_missing_or_another_one_is_told(copy):
    (folder,) = (copy / "manifest").glob("*/c")
    content = (folder / "0").read_bytes()
    for damage in (None, content[:-1] + bytes([content[-1] ^ 1])):
        (folder / "0").unlink()
        if damage is not None:
            (folder / "0").write_bytes(damage)
        with pytest.raises(DatasetError) as caught:
            read_all(copy)
        assert caught.value.code in {"manifest-foreign", "checksum-wrong"}
        (folder / "0").write_bytes(content)
    edit_document(copy, lambda document: document["manifest"].update(parts=["00000000"]))
    with refused(DatasetError, "manifest-foreign"):
        read_all(copy)


def test_manifests_that_killed_writers_have_left_are_swept(copy):
    before = tree(copy)
    (manifest,) = (path for path in (copy / "manifest").iterdir() if path.is_dir())

    def leave():
        shutil.copytree(manifest, copy / "manifest/0123456789abcdef")
        # Its files were deleted, and then its writer was killed.
        (copy / "manifest/fedcba9876543210/c").mkdir(parents=True)

    leave()
    with DatasetStore.open(copy, read_only=False).exclusive():
        assert tree(copy) == before
    assert sorted(path.name for path in (copy / "manifest").iterdir()) == [manifest.name, "zarr.json"]
    # Nobody knows which is right where the document does not say.
    edit = json.loads((copy / "zarr.json").read_text(encoding="utf-8"))
    edit["attributes"][ATTRIBUTE]["manifest"]["path"] = "manifest/0123456789abcdef"
    (copy / "zarr.json").write_text(json.dumps(edit), encoding="utf-8")
    leave()
    found = tree(copy)
    with DatasetStore.open(copy, read_only=False).exclusive():
        assert tree(copy) == found


def test_the_same_command_makes_again_what_is_missing_or_another_one(tmp_path, pictures):
    path, spec = tmp_path / "it.zarr", pictures.spec(chunk=5)
    create(path, spec, layout=SMALL_SHARDS)
    whole = tree(path)
    damages = dict.fromkeys(objects(path)) | {"image/zarr.json": None, "x/zarr.json": b"{}"}
    shards = [key for key in objects(path) if key.startswith("mask/c/")]
    for key, content in damages.items():
        (path / key).unlink()
        if content is not None:
            (path / key).write_bytes(content)
        events = []
        report = create(path, spec, layout=SMALL_SHARDS, on_event=events.append)
        assert report.complete
        assert tree(path) == whole, key
        assert "missing or damaged" in "".join(e.message for e in events if isinstance(e, Notice)), key
    (path / shards[0]).write_bytes(whole[shards[1]])
    create(path, spec, layout=SMALL_SHARDS)
    assert tree(path) == whole


def test_depth_stays_as_it_is_where_pixels_are_made_again(tmp_path, pictures, depth_model):
    path, spec = tmp_path / "it.zarr", pictures.spec(depth=depth_of(depth_model))
    create(path, spec)
    before = tree(path)
    (path / "image/c/0/0/0/0").unlink()
    create(path, spec)
    assert tree(path) == before


def test_the_generation_follows_from_what_the_arrays_hold(tmp_path, pictures):
    for name in ("a", "b"):
        create(tmp_path / name, pictures.spec())
    create(tmp_path / "c", replace(pictures.spec(), seed=9))
    one, same, other = (open_dataset(tmp_path / name).document.generation for name in "abc")
    assert one == same != other
    open_dataset(tmp_path / "a").save_split("halves", {"a": 0.5, "b": 0.5})
    assert open_dataset(tmp_path / "a").document.generation == one


def test_what_somebody_has_changed_can_be_accepted(copy):
    images = zarr.open_array(copy / "image", mode="r+")
    images[5, 3, 4] = [1, 2, 3]
    with refused(DatasetError, "chunk-foreign"):
        open_dataset(copy, pixels="stored").image[5]
    before = open_dataset(copy).document.generation
    accept(copy)
    ds = open_dataset(copy)
    assert ds.pixels == "stored", "the recipe gives others"
    assert ds.image[5, 3, 4].tolist() == ds[5].image[3, 4].tolist() == [1, 2, 3]
    assert ds.document.generation != before
    assert len(list((copy / "manifest").glob("*/zarr.json"))) == 1
    (copy / objects(copy)[0]).write_bytes(b"rubbish")
    with pytest.raises(FgbgError):
        accept(copy)


def test_two_writers_of_one_store_do_not_mix(pictures):
    store, others = MemoryStore(), []

    def meanwhile(event):
        if getattr(event, "stage", None) == "samples" and not others:
            others.append(1)
            create(store, replace(pictures.spec(), seed=5), overwrite=True)

    with refused(DatasetError, "dataset-replaced"):
        create(store, pictures.spec(), on_event=meanwhile)
    try:
        ds = open_dataset(store)
        found, expected = ds.image[:], open_dataset(store, pixels="recomposed").image[:]
    except DatasetError:
        pass
    else:
        np.testing.assert_array_equal(found, expected)


class Counting(LocalStore):
    """Counts the bytes of values that are read."""

    read = 0

    async def get(self, key, prototype, byte_range=None):
        value = await super().get(key, prototype, byte_range)
        if value is not None and key.partition("/")[0] in ("image", "mask") and "/c/" in key:
            Counting.read += len(value)
        return value


def test_pixels_are_not_read_back_for_the_manifest(tmp_path, pictures):
    Counting.read = 0
    path = tmp_path / "it.zarr"
    create(Counting(path), pictures.spec(), layout=SMALL_SHARDS)
    indexes = Counting.read
    assert (
        indexes
        < sum(len(value) for key, value in tree(path).items() if key.split("/")[0] in ("image", "mask")) / 4
    )
    Counting.read = 0
    store = DatasetStore(Counting(path), "it")
    store.commit(store.existing_document())
    assert Counting.read == 0


def test_checksums_are_the_last_bytes_of_chunks():
    chunks = [b"one....1234", None, b"two...5678"]
    shard = join(chunks, (2, 2))
    index = read_index(shard, len(shard), (2, 2), "it").reshape(-1, 2)
    assert [value.to_bytes(4, "little") for value in checksums_of(shard, index).tolist()] == [
        b"1234",
        bytes(4),
        b"5678",
        bytes(4),
    ]
    assert checksums_of(b"abcdefgh", None).tolist() == [int.from_bytes(b"efgh", "little")]


def test_chunks_beyond_the_last_sample_are_known(dataset):
    store = DatasetStore.open(dataset, read_only=True)
    store.document()
    layout = store.layout("image")
    per_shard = chunk_count(layout) // layout.shards
    for shard in range(layout.shards):
        index = read_index(
            (value := store.get(f"image/{layout.key(shard)}")), len(value), layout.grid, "it"
        ).reshape(-1, 2)
        there = index[:, 0] != 2**64 - 1
        within = [is_within(layout, shard * per_shard + i) for i in range(per_shard)]
        assert there.tolist() == within


def test_a_digest_does_not_depend_on_how_json_is_written():
    assert metadata_digest({"b": [1, 2], "a": "ä"}) == metadata_digest(
        json.loads('{"a" : "\\u00e4", "b":[1,2]}')
    )
    assert metadata_digest({"a": 1}) != metadata_digest({"a": "1"})
    assert DIGEST != ATTRIBUTE


# --- many shards -----------------------------------------------------------------------------------


def test_checksums_of_shards_are_a_mapping_of_those_that_are_known():
    layout = Layout((10, 4), (2, 4), (4, 4))
    found = ShardChecksums(layout)
    assert (dict(found), len(found), found.all.tolist()) == ({}, 0, [0] * 6)
    found[2] = np.array([5, 6], np.uint32)
    found[0] = np.array([1, 2], np.uint32)
    found[3] = np.array([7, 8], np.uint32)  # the array has three shards
    assert ([*found], found.all.tolist()) == ([0, 2], [1, 2, 0, 0, 5, 6])
    assert found[2].tolist() == [5, 6]
    assert 1 not in found
    assert found.pop(1, None) is None
    del found[0]
    assert ([*found], found.all.tolist()) == ([2], [0, 0, 0, 0, 5, 6])
    for shard in (0, 1, 3, -1):
        with pytest.raises(KeyError):
            found[shard]


@pytest.mark.parametrize(
    "sizes", [(), (0,), (1,), (PART,), (PART - 1, 2), (3, PART, 0, 2 * PART + 5), (PART, PART)]
)
def test_parts_of_a_manifest_are_those_of_all_checksums_together(sizes):
    rng = np.random.default_rng(0)
    arrays = [rng.integers(0, 2**32, size, dtype=np.uint32) for size in sizes]
    everything = np.concatenate([np.zeros(0, np.uint32), *arrays])
    parts = [*parts_of(arrays)]
    assert [len(part) for part in parts[:-1]] == [PART] * (len(parts) - 1)
    assert np.array_equal(np.concatenate([np.zeros(0, np.uint32), *parts]), everything)
    assert all(0 < len(part) <= PART for part in parts)


def test_what_other_writers_have_written_is_taken_from_their_notes():
    layout = Layout((10, 4), (2, 4), (4, 4))
    values = {
        f"a/c/{shard}/0": join([bytes([shard, chunk]) * 4 for chunk in (0, 1)], (2, 1)) for shard in (2, 0)
    }
    mine, alone = WrittenChunks(), WrittenChunks()
    for one in (mine, alone):
        one.declare("a", layout, sharded=True)
    other = pickle.loads(pickle.dumps(mine))
    for key, value in values.items():
        other.note(key, value)
        alone.note(key, value)
    assert other.of("a", layout).all.tolist() == alone.of("a", layout).all.tolist()
    notes = pickle.loads(pickle.dumps(other.pop(values)))
    assert len(other.of("a", layout)) == 0
    assert not other.has("a/c/2/0")
    mine.take(notes)
    assert [*mine.of("a", layout)] == [0, 2]
    assert mine.of("a", layout).all.tolist() == alone.of("a", layout).all.tolist()
    assert len(mine.of("a", Layout((10, 4), (4, 4), (4, 4)))) == 0, "it is cut otherwise"
    assert mine.changed == {"a"}
    assert not mine.is_other("a/c/2/0", len(values["a/c/2/0"]), values["a/c/2/0"])
    assert mine.is_other("a/c/2/0", len(values["a/c/2/0"]) + 1, values["a/c/2/0"])
    mine.forget("a/c/0/0")
    assert [*mine.of("a", layout)] == [2]
    mine.forget("a")
    assert len(mine.of("a", layout)) == 0
