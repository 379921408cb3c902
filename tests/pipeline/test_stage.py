"""Stages: the same bytes from any process, and nothing but what is missing."""

from __future__ import annotations

import dataclasses
import pickle
import shutil
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

import pytest
from builders import SMALL_SHARDS, assert_same_files, depth_of
from zarr.storage import WrapperStore

from fgbgpack import create, open_dataset
from fgbgpack.depth.strategies import Networks
from fgbgpack.document import DEPTH, IMAGE
from fgbgpack.errors import DatasetError
from fgbgpack.export import export
from fgbgpack.pipeline import depth_modes, import_folder
from fgbgpack.pipeline.convert import Source, _ChunkCopy
from fgbgpack.pipeline.depth import DepthFilling, DepthStage
from fgbgpack.pipeline.depth_modes import BackgroundDepthStage, DepthJob
from fgbgpack.pipeline.events import Progress, silent
from fgbgpack.pipeline.executor import Monitor, Threads
from fgbgpack.pipeline.import_probe import Failures
from fgbgpack.pipeline.import_samples import _DepthFiles, _layouts, _new_document, _PixelFiles
from fgbgpack.pipeline.import_scan import ImportScan, ImportSpec
from fgbgpack.pipeline.materialize import _ShardCopy
from fgbgpack.pipeline.pixels import Pixels
from fgbgpack.pipeline.stage import Stage, execute
from fgbgpack.storage.store import DatasetStore


def produced(pickled: bytes, shard: int) -> dict[str, bytes]:
    """What a stage makes in another process, which has nothing but the pickle."""
    stage: Stage = pickle.loads(pickled)
    return dict(stage.produce(shard, Monitor()).values)


@pytest.fixture(scope="module")
def other_process():
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        yield pool


def depth_stages(path: Path, depth) -> list[Stage]:
    """The stages of the depth of a dataset that has it."""
    dataset = open_dataset(path)
    networks = Networks.load(depth)
    job = DepthJob(dataset.recipe, depth, networks, "cpu", Threads(1), SMALL_SHARDS, silent)
    filling = DepthFilling.of(job, dataset.document.depth, dataset.store)
    stages: list[Stage] = [DepthStage(job, filling.mode, dataset.store, dataset.document.depth.step)]
    return stages if networks.guide is None else [BackgroundDepthStage(job, None), *stages]


@pytest.fixture(scope="module")
def sharded(tmp_path_factory, pictures) -> Path:
    """A dataset whose pixels are in three shards, not to be changed."""
    path = tmp_path_factory.mktemp("datasets") / "sharded.zarr"
    create(path, pictures.spec(chunk=4), layout=SMALL_SHARDS)
    return path


@pytest.mark.slow
def test_pixels_are_the_same_from_another_process(sharded, other_process):
    check(Pixels(open_dataset(sharded).recipe, SMALL_SHARDS), sharded, other_process)


@pytest.mark.slow
def test_depth_is_the_same_from_another_process(
    depth_dataset, guided_dataset, depth_model, guide_model, other_process
):
    guided = depth_of(depth_model, guide=str(guide_model), scale=2)
    for path, depth in ((depth_dataset, depth_of(depth_model)), (guided_dataset, guided)):
        for stage in depth_stages(path, depth):
            check(stage, path, other_process)


@pytest.mark.parametrize("mode", ["per-sample", "guided"])
def test_depth_of_a_large_shard_is_filled_in_even_parts(
    tmp_path, pictures, depth_model, guide_model, monkeypatch, mode
):
    depth = depth_of(depth_model, guide=str(guide_model)) if mode == "guided" else depth_of(depth_model)
    layout = dataclasses.replace(
        SMALL_SHARDS, guided_chunk_samples=3, guided_shard_bytes=1 << 20, depth_shard_bytes=1 << 20
    )
    create(tmp_path / "whole.zarr", pictures.spec(depth=depth), layout=layout)
    recipe = open_dataset(tmp_path / "whole.zarr").recipe
    job = DepthJob(recipe, depth, Networks.load(depth), "cpu", Threads(1), layout, silent)
    chunk, shard = job.depth_layout.chunk[0], job.depth_layout.shard[0]
    assert job.together == shard >= 4 * chunk
    monkeypatch.setattr(depth_modes, "_HELD_BYTES", 1)
    assert job.together == chunk
    create(tmp_path / "parts.zarr", pictures.spec(depth=depth), layout=layout)
    assert_same_files(tmp_path / "parts.zarr", tmp_path / "whole.zarr")


@pytest.mark.slow
def test_copies_are_the_same_from_another_process(guided_dataset, other_process):
    source = Source.open(guided_dataset)
    check(_ChunkCopy(source), guided_dataset, other_process)
    check(_ShardCopy(source.store, DEPTH, source.forms[DEPTH].layout), guided_dataset, other_process)


@pytest.mark.slow
def test_imports_are_the_same_from_another_process(tmp_path, depth_dataset, other_process):
    export(depth_dataset, tmp_path / "files", to="folder")
    spec = ImportSpec(str(tmp_path / "files"), chunk=5)
    import_folder(tmp_path / "it.zarr", spec, layout=SMALL_SHARDS)
    scan = ImportScan(spec, Threads(1), silent)
    layouts = _layouts(scan, _new_document(scan), SMALL_SHARDS)
    for kind in (_PixelFiles, _DepthFiles):
        check(kind(scan.files, layouts, Failures()), tmp_path / "it.zarr", other_process)


def check(stage: Stage, path: Path, other_process: ProcessPoolExecutor) -> None:
    """A shard of a stage is what lies in a dataset, whoever makes it; and a complete dataset lacks none."""
    store = DatasetStore.open(path, read_only=True)
    for shard in (0, 1):
        values = other_process.submit(produced, pickle.dumps(stage), shard).result()
        assert values
        for key, value in values.items():
            assert store.get(key) == value, key
        assert values == dict(stage.produce(shard, Monitor()).values)


def test_only_missing_and_damaged_shards_are_made(tmp_path, sharded):
    path = shutil.copytree(sharded, tmp_path / "it.zarr")
    store = DatasetStore.open(path, read_only=False)
    stage = Pixels(open_dataset(path).recipe, SMALL_SHARDS)
    assert stage.missing(store) == []
    (path / "image/c/0/0/0/0").unlink()
    (path / "mask/c/2/0/0").write_bytes(b"half of it")
    assert stage.missing(store) == [0, 2]
    events: list[Progress] = []
    written = execute(stage, store, Threads(1), events.append)
    assert written == stage.size(0) + stage.size(2)
    assert (events[0].done, events[-1].done, events[-1].total) == (36 - written, 36, 36)
    assert stage.missing(store) == []
    assert (path / "image/c/0/0/0/0").read_bytes() == (sharded / "image/c/0/0/0/0").read_bytes()


def test_a_store_that_loses_a_shard_is_an_error(tmp_path, sharded):
    class Forgetful(WrapperStore):
        async def set(self, key, value, byte_interval=None):
            if not key.startswith(f"{IMAGE}/c/1/"):
                await super().set(key, value)

    path = shutil.copytree(sharded, tmp_path / "it.zarr")
    (path / "image/c/1/0/0/0").unlink()
    store = DatasetStore.open(path, read_only=False)
    stage = Pixels(open_dataset(path).recipe, SMALL_SHARDS)
    with pytest.raises(DatasetError) as error:
        execute(stage, DatasetStore(Forgetful(store.store), "forgetful"), Threads(1), silent)
    assert error.value.code == "shards-lost"
