"""A dataset made in parts in a store without locks."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import pytest

pytest.importorskip("obstore")

from builders import SMALL_SHARDS, depth_of, tree
from object_stores import ALL_STORES, EXACT_STORES, contents
from refusals import refused
from zarr.core.buffer import default_buffer_prototype
from zarr.core.sync import sync

from fgbgpack import begin_create, create, create_part, finish_create, open_dataset
from fgbgpack.errors import DatasetError, IncompleteDatasetError, SpecError
from fgbgpack.pipeline import merge
from fgbgpack.pipeline.events import Progress
from fgbgpack.storage.store import DatasetStore


@pytest.fixture(scope="module")
def guided(pictures, depth_model, guide_model):
    return pictures.spec(depth=depth_of(depth_model, guide=str(guide_model), scale=2))


@pytest.mark.slow
@pytest.mark.parametrize("kind", ALL_STORES)
def test_parts_at_once_give_the_same_objects_in_every_store(new_store, guided, guided_dataset, kind):
    store = new_store(kind)
    begin_create(store, guided, layout=SMALL_SHARDS)
    with refused(IncompleteDatasetError, "parts-missing"):
        finish_create(store)
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda part: create_part(store, part, 3, workers=1), [0, 1, 1, 2, 0]))
    assert begin_create(store, guided, layout=SMALL_SHARDS).complete is False
    assert finish_create(store).complete
    assert contents(store) == tree(guided_dataset)
    assert create_part(store, 0, 3).complete


@pytest.mark.parametrize("kind", EXACT_STORES)
def test_parts_stop_when_another_writer_begins(new_store, pictures, expected, kind):
    store, spec = new_store(kind), pictures.spec()
    begin_create(store, spec, layout=SMALL_SHARDS)
    others = []

    def begin(event):
        if isinstance(event, Progress) and event.stage == "samples" and not others:
            others.append(create(store, spec, layout=SMALL_SHARDS))

    with refused(DatasetError, "dataset-replaced"):
        create_part(store, 0, 1, on_event=begin)
    assert contents(store) == expected(0)


@pytest.mark.parametrize("kind", ALL_STORES)
def test_what_others_may_be_writing_is_not_deleted(new_store, pictures, expected, kind):
    store, spec = new_store(kind), pictures.spec()
    begin_create(store, spec, layout=SMALL_SHARDS)
    create_part(store, 0, 1)
    before = contents(store)
    with refused(DatasetError, "dataset-unfinished"):
        begin_create(store, replace(spec, seed=5), layout=SMALL_SHARDS, overwrite=True)
    assert contents(store) == before
    finish_create(store)
    assert contents(store) == expected(0)
    begin_create(store, replace(spec, seed=5), layout=SMALL_SHARDS, overwrite=True)
    assert not open_dataset(store, allow_incomplete=True).complete
    create_part(store, 0, 1)
    finish_create(store)
    assert contents(store) == expected(5)


@pytest.mark.parametrize("kind", EXACT_STORES)
def test_damage_in_a_store_is_found_and_written_again(new_store, guided, guided_dataset, kind):
    store = new_store(kind)
    begin_create(store, guided, layout=SMALL_SHARDS)
    create_part(store, 0, 1)
    files = DatasetStore(store, "it")
    for key in ("mask/c/0/0/0", "depth_min/c/0"):
        value = bytearray(files.get(key) or b"")
        value[len(value) // 3] ^= 1
        sync(store.set(key, buffer_of(bytes(value))))
    with refused(IncompleteDatasetError, "parts-missing") as caught:
        finish_create(store)
    assert caught.value.problems == ("0/1: shard 0 of /mask, /depth_min",)
    create_part(store, 0, 1)
    finish_create(store)
    assert contents(store) == tree(guided_dataset)


@pytest.mark.slow
@pytest.mark.parametrize("kind", ALL_STORES)
def test_datasets_in_stores_are_merged(new_store, guided, guided_dataset, kind):
    stores = [new_store(kind) for _ in range(3)]
    for store in stores[:2]:
        create(store, guided, layout=SMALL_SHARDS, virtual=store is stores[1])
    before = contents(stores[0])
    merge(stores[:2], stores[2], layout=SMALL_SHARDS)
    found, expected = contents(stores[2]), tree(guided_dataset)
    assert len(open_dataset(stores[2]).document.merged) == 2
    assert found.pop("zarr.json") != expected.pop("zarr.json")
    assert found == expected
    assert contents(stores[0]) == before
    for store in stores[:2]:
        with refused(SpecError, "target-is-source"):
            merge(stores[:2], store, overwrite=True)


def buffer_of(value):
    return default_buffer_prototype().buffer.from_bytes(value)
