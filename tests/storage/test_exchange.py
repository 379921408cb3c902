"""A dataset in a store without folders is replaced by one put, whatever happens on the way."""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from threading import Barrier

import numpy as np
import pytest

pytest.importorskip("obstore")

import obstore
import zarr
from builders import SMALL_SHARDS, Stop, depth_of, write_depth_model
from object_stores import ALL_STORES, EXACT_STORES, contents
from obstore.store import MemoryStore as ObstoreMemory
from refusals import refused
from stored import open_stored
from zarr.core.buffer import default_buffer_prototype
from zarr.storage import MemoryStore, ObjectStore

from fgbgpack import create, fill_depth, open_dataset
from fgbgpack.errors import DatasetError, FgbgError
from fgbgpack.pipeline import convert
from fgbgpack.storage.beside import HIDDEN, WRITING


def spec_of(pictures, seed):
    return replace(pictures.spec(), seed=seed)


def overwrite(store, pictures, seed, **options):
    return create(store, spec_of(pictures, seed), layout=SMALL_SHARDS, workers=1, overwrite=True, **options)


def filled(store, values):
    """The store with these values in it."""

    async def fill():
        for key, value in values.items():
            await store.set(key, default_buffer_prototype().buffer.from_bytes(value))

    asyncio.run(fill())
    return store


@pytest.mark.slow
@pytest.mark.parametrize("kind", ALL_STORES)
def test_the_old_dataset_is_whole_until_the_new_one_is(new_store, pictures, expected, kind):
    store = filled(new_store(kind), expected(0))
    reader, seeds = open_stored(store), set()
    images = reader.image[:]

    def look(event):
        ds = open_dataset(store)
        seeds.add(ds.document.spec.seed)
        np.testing.assert_array_equal(ds.image[:], images)

    overwrite(store, pictures, 5, on_event=look)
    assert seeds == {0}
    assert contents(store) == expected(5)
    with pytest.raises(DatasetError):
        reader.mask[:]
    assert open_dataset(store).document.spec.seed == 5


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["obstore memory", "zarr memory"])
def test_one_that_somebody_still_makes_is_replaced_too_and_not_met(new_store, pictures, expected, kind):
    store, keys = new_store(kind), []

    def overtake(event):
        if getattr(event, "stage", None) == "samples" and not keys:
            keys.append(json.loads(contents(store)["zarr.json"])["attributes"][WRITING])
            overwrite(store, pictures, 5)

    with refused(DatasetError, "dataset-replaced"):
        create(store, spec_of(pictures, 0), layout=SMALL_SHARDS, workers=1, on_event=overtake)
    assert keys
    assert contents(store) == expected(5)


@pytest.mark.slow
def test_depth_that_was_begun_is_replaced_beside_it(tmp_path, pictures, depth_model):
    other = write_depth_model(tmp_path / "other", name="other", seed=1)
    store, alone = ObjectStore(ObstoreMemory()), MemoryStore()
    create(store, pictures.spec(), layout=SMALL_SHARDS)
    with pytest.raises(KeyboardInterrupt):
        fill_depth(store, depth_of(depth_model), layout=SMALL_SHARDS, workers=1, on_event=Stop("depth", 2))
    fill_depth(store, depth_of(other), overwrite=True, layout=SMALL_SHARDS)
    create(alone, pictures.spec(depth=depth_of(other)), layout=SMALL_SHARDS)
    found, made = contents(store), contents(alone)
    assert found.keys() == made.keys()
    assert [key for key in made if found[key] != made[key]] in ([], ["zarr.json"])
    np.testing.assert_array_equal(open_dataset(store).depth[:], open_dataset(alone).depth[:])


@pytest.mark.slow
@pytest.mark.parametrize("kind", EXACT_STORES)
def test_of_those_that_replace_it_at_once_exactly_one_does(
    new_store, pictures, expected, kind, count_faults, all_faults
):
    outcomes = Counter()
    for _ in range(40 if all_faults else 4):
        store, barrier = filled(new_store(kind), expected(0)), Barrier(2)

        def write(seed, store=store, barrier=barrier):
            barrier.wait()
            try:
                overwrite(store, pictures, seed)
            except FgbgError as exc:
                return exc.code

        with ThreadPoolExecutor(2) as pool:
            codes = list(pool.map(write, (5, 6)))
        assert codes.count(None) == 1, codes
        winner = (5, 6)[codes.index(None)]
        outcomes[next(code for code in codes if code)] += 1
        create(store, spec_of(pictures, winner), layout=SMALL_SHARDS)
        assert contents(store) == expected(winner)
    assert set(outcomes) == {"dataset-replaced"}
    count_faults(f"two that replace the dataset in a store of {kind}", outcomes)


class Killed(BaseException):
    """The process is no more."""


class Mortal:
    """What changes a store, up to the n-th change, and nothing thereafter."""

    def __init__(self, n):
        self.left = n

    def step(self):
        self.left -= 1
        if self.left < 0:
            raise Killed

    @property
    def is_dead(self):
        return self.left < 0


class MortalMemory(MemoryStore):
    """A store in memory whose process is killed."""

    mortal = Mortal(1 << 30)

    async def set(self, *arguments):
        self.mortal.step()
        await super().set(*arguments)

    async def delete(self, *arguments):
        self.mortal.step()
        await super().delete(*arguments)

    async def delete_dir(self, prefix):
        for key in [key async for key in self.list_prefix(f"{prefix}/")]:
            await self.delete(key)


def zarr_memory(values, mortal, patch):
    patch.setattr(MortalMemory, "mortal", Mortal(1 << 30))
    store = filled(MortalMemory(), values)
    patch.setattr(MortalMemory, "mortal", mortal)
    return store


def obstore_memory(values, mortal, patch):
    store = filled(ObjectStore(ObstoreMemory()), values)
    for name in ("put_async", "delete_async", "copy_async"):
        change = getattr(obstore, name)

        async def mortally(*arguments, change=change, **options):
            mortal.step()
            return await change(*arguments, **options)

        patch.setattr(obstore, name, mortally)
    return store


@pytest.mark.slow
@pytest.mark.parametrize("make", [obstore_memory, zarr_memory])
def test_a_kill_at_any_change_leaves_the_old_dataset_or_the_new_one(
    pictures, expected, make, all_faults, count_faults
):
    images = {seed: open_dataset(filled(MemoryStore(), expected(seed))).image[:] for seed in (0, 5)}
    outcomes, n, step = Counter(), 0, 1 if all_faults else 7
    while True:
        with pytest.MonkeyPatch.context() as patch:
            mortal = Mortal(n)
            store = make(expected(0), mortal, patch)
            try:
                overwrite(store, pictures, 5)
            except Killed:
                pass
            except DatasetError:
                assert mortal.is_dead
            if not mortal.is_dead:
                break
            mortal.left = 1 << 30
            ds = open_dataset(store)
            seed = ds.document.spec.seed
            np.testing.assert_array_equal(ds.image[:], images[seed])
            assert ds.mask[:].any()
            values = contents(store)
            moving = json.loads(values["zarr.json"])["attributes"].get(WRITING, {}).get("moving", False)
            outcomes[
                {0: "the old one", 5: "the new one"}[seed] + (", not in its place" if moving else "")
            ] += 1
            # The same command makes the same of it as if nothing had been; another one that changes nothing
            # leaves nothing of it either.
            overwrite(store, pictures, 5)
            assert contents(store) == expected(5), n
            other = filled(MemoryStore(), values)
            create(other, spec_of(pictures, seed), layout=SMALL_SHARDS)
            assert contents(other) == expected(seed), n
        n += step
    assert outcomes["the old one"] > 0
    assert outcomes["the new one, not in its place"] > 0
    count_faults(f"kills of what replaces the dataset in {make.__name__}", outcomes)


@pytest.mark.slow
def test_a_kill_while_depth_is_replaced_leaves_the_old_one_or_the_new_one(
    tmp_path, pictures, depth_model, all_faults, count_faults
):
    other = write_depth_model(tmp_path / "other", name="other", seed=1)
    store = MemoryStore()
    create(store, pictures.spec(depth=depth_of(depth_model)), layout=SMALL_SHARDS)
    before = contents(store)

    def replace_depth(store):
        fill_depth(store, depth_of(other), overwrite=True, layout=SMALL_SHARDS, workers=1)

    depths = [open_dataset(store).depth[:].tobytes()]
    replace_depth(store)
    after = contents(store)
    depths.append(open_dataset(store).depth[:].tobytes())
    outcomes, n = Counter(), 0
    while True:
        with pytest.MonkeyPatch.context() as patch:
            mortal = Mortal(n)
            store = obstore_memory(before, mortal, patch)
            try:
                replace_depth(store)
            except (Killed, DatasetError):
                assert mortal.is_dead
            if not mortal.is_dead:
                break
            mortal.left = 1 << 30
            ds = open_dataset(store)
            outcomes[("the old one", "the new one")[depths.index(ds.depth[:].tobytes())]] += 1
            assert ds.image[:].any()
            replace_depth(store)
            assert contents(store) == after, n
        n += 1 if all_faults else 6
    assert set(outcomes) == {"the old one", "the new one"}
    count_faults("kills of what replaces depth in obstore_memory", outcomes)


def test_while_it_is_not_in_its_place_it_is_read_and_not_changed(pictures, expected, tmp_path):
    store = filled(MemoryStore(), expected(0))
    zarr.create_array(store, name="mine", data=np.arange(5))
    zarr.open_group(store, mode="r+", use_consolidated=False).attrs["note"] = "of mine"
    with pytest.MonkeyPatch.context() as patch:
        values = contents(store)
        n = 0
        while True:
            mortal = Mortal(n)
            store = zarr_memory(values, mortal, patch)
            with pytest.raises((Killed, DatasetError)):
                overwrite(store, pictures, 5)
            mortal.left = 1 << 30
            if "moving" in json.loads(contents(store)["zarr.json"])["attributes"].get(WRITING, {}):
                break
            n += 1
    ds = open_dataset(store)
    assert ds.document.spec.seed == 5
    with refused(DatasetError, "dataset-locked", "is being replaced by another process"):
        ds.save_split("mine", {"train": 0.5, "test": 0.5})
    convert(store, tmp_path / "it.h5")
    found = open_dataset(tmp_path / "it.h5")
    np.testing.assert_array_equal(found.image[:], ds.image[:])
    overwrite(store, pictures, 5)
    assert not [key for key in contents(store) if key.startswith(HIDDEN)]
    assert zarr.open_array(store, path="mine", mode="r")[:].tolist() == [0, 1, 2, 3, 4]
    assert zarr.open_group(store, mode="r").attrs["note"] == "of mine"


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["obstore memory", "fsspec memory"])
def test_depth_is_replaced_beside_the_pixels(new_store, tmp_path, pictures, depth_model, kind):
    other = write_depth_model(tmp_path / "other", name="other", seed=1)
    store, alone = new_store(kind), new_store(kind)
    create(store, pictures.spec(depth=depth_of(depth_model)), layout=SMALL_SHARDS)
    create(alone, pictures.spec(depth=depth_of(other)), layout=SMALL_SHARDS)
    ds = open_dataset(store)
    ds.save_split("mine", {"train": 0.5, "test": 0.5})
    depth, hidden = ds.depth[:], set()

    def look(event):
        hidden.update(key.split("/")[2] for key in contents(store) if key.startswith(HIDDEN))
        np.testing.assert_array_equal(open_dataset(store).depth[:], depth)

    fill_depth(store, depth_of(other), overwrite=True, layout=SMALL_SHARDS, on_event=look)
    assert "depth" in hidden
    assert "image" not in hidden
    found, made = contents(store), contents(alone)
    assert found.keys() == made.keys()
    assert [key for key in made if found[key] != made[key]] == ["zarr.json"]
    found = open_dataset(store)
    assert found.depth[:].tobytes() == open_dataset(alone).depth[:].tobytes()
    assert list(found.document.splits) == ["mine"]


@pytest.mark.parametrize(
    "told",
    [
        "moving",
        {"moving": True, "beside": "../other", "paths": ["image"]},
        {"moving": True, "beside": f"{HIDDEN}../x", "paths": ["image"]},
        {"moving": True, "beside": f"{HIDDEN}x", "paths": ["mine"]},
        {"moving": True, "beside": f"{HIDDEN}x", "paths": 3},
        {"moving": 1, "beside": f"{HIDDEN}x", "paths": ["image"]},
    ],
)
def test_what_others_wrote_there_leads_nowhere(expected, told):
    values = dict(expected(0))
    root = json.loads(values["zarr.json"])
    root["attributes"][WRITING] = told
    store = filled(MemoryStore(), values | {"zarr.json": json.dumps(root).encode()})
    assert len(open_dataset(store).image[:]) == 36
    open_dataset(store).save_split("mine", {"train": 0.5, "test": 0.5})
