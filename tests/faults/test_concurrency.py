"""Readers and writers of one dataset at once: every batch is whole, or an error.

Each is a process of its own; all work for two minutes in ``make faults``, and for seconds in ``make test``.
"""

from __future__ import annotations

import dataclasses
import pickle
import shutil
import sys
from collections import Counter

import at_once
import pytest
from builders import SMALL_SHARDS, assert_same_files, depth_of, write_depth_model
from refusals import refused
from stored import open_stored

from fgbgpack import create, fill_depth, open_dataset
from fgbgpack.depth.strategies import Networks
from fgbgpack.errors import DatasetError
from fgbgpack.pipeline import convert, verify
from fgbgpack.pipeline.replacing import Replacement

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="nothing is locked on Windows")

#: How long all work, in ``make test`` and in ``make faults``.
SECONDS = (1.5, 120)


class AtOnce:
    """Processes that work at once."""

    def __init__(self, processes) -> None:
        self._processes, self._running = processes, []

    def start(self, name, work, *arguments) -> None:
        receiver, sender = self._processes.Pipe(duplex=False)
        process = self._processes.Process(target=work, args=(sender, *arguments))
        process.start()
        sender.close()
        self._running.append((name, process, receiver))

    def end(self) -> tuple[dict[str, Counter[str]], list[str]]:
        """Wait for all; how the attempts of each kind ended, and the splits that were saved."""
        ends: dict[str, Counter[str]] = {}
        wrong, saved = [], []
        for name, process, receiver in self._running:
            found, told = receiver.recv()
            ends.setdefault(name, Counter()).update(found)
            wrong += [f"{name}: {one}" for one in told]
            if name == "splits":
                saved += receiver.recv()
            process.join()
            assert process.exitcode == 0
        assert wrong == []
        return ends, saved


@pytest.fixture
def at_work(processes):
    return AtOnce(processes)


@pytest.fixture(scope="module")
def specs(pictures, depth_model, tmp_path_factory):
    """Two specs of the same shape, and the depth of two networks."""
    other = write_depth_model(tmp_path_factory.mktemp("other"), name="other", seed=1)
    depths = [depth_of(depth_model), depth_of(other)]
    return [pictures.spec(seed=seed, chunk=5, depth=depths[0]) for seed in (0, 1)], depths


@pytest.fixture(scope="module")
def wholes(specs, tmp_path_factory):
    """The datasets that there may be, by the numbers of their spec and of their depth."""
    folder, (made, depths) = tmp_path_factory.mktemp("wholes"), specs
    paths = {}
    for i, spec in enumerate(made):
        for j, depth in enumerate(depths):
            paths[f"{i}{j}"] = folder / f"{i}{j}.zarr"
            create(paths[f"{i}{j}"], dataclasses.replace(spec, depth=depth), layout=SMALL_SHARDS)
    arrays = {name: open_stored(path).to_numpy() for name, path in paths.items()}
    (folder / "wholes").write_bytes(pickle.dumps(arrays))
    return paths, folder / "wholes"


def told(count_faults, what, ends):
    for name, found in ends.items():
        count_faults(f"{what}: {name}", found)


@pytest.mark.slow
def test_readers_a_writer_and_what_replaces_the_dataset(
    tmp_path, specs, wholes, at_work, all_faults, count_faults
):
    seconds, path, (made, depths) = SECONDS[all_faults], tmp_path / "it.zarr", specs
    shutil.copytree(wholes[0]["00"], path)
    for seed in range(2):
        at_work.start("readers", at_once.read_batches, path, wholes[1], seconds, seed)
    at_work.start("splits", at_once.save_splits, path, seconds, 7)
    at_work.start("depth", at_once.replace_depths, path, depths, SMALL_SHARDS, seconds)
    at_work.start("create", at_once.replace_all, path, made[::-1], SMALL_SHARDS, seconds)
    ends, _ = at_work.end()
    told(count_faults, "a dataset at once", ends)
    assert ends["readers"]["batches, whole"] > 20
    assert ends["create"]["replaced"] > 0
    verify(path).check()
    batch = open_dataset(path)
    known = at_once.Wholes(pickle.loads(wholes[1].read_bytes()))
    assert len(known.of(batch[:], slice(None))) == 1
    assert sorted(one.name for one in tmp_path.iterdir()) == ["it.zarr"]


@pytest.mark.slow
def test_what_a_writer_has_saved_stays_when_others_write(
    tmp_path, specs, wholes, at_work, all_faults, count_faults
):
    seconds, path, (_, depths) = SECONDS[all_faults] / 2, tmp_path / "it.zarr", specs
    shutil.copytree(wholes[0]["00"], path)
    at_work.start("readers", at_once.read_batches, path, wholes[1], seconds, 3)
    for seed in range(2):
        at_work.start("splits", at_once.save_splits, path, seconds, seed)
    at_work.start("depth", at_once.replace_depths, path, depths[::-1], SMALL_SHARDS, seconds)
    ends, saved = at_work.end()
    told(count_faults, "two writers at once", ends)
    assert set(saved) == set(open_dataset(path).splits)
    assert ends["splits"]["saved"] > 0
    fill_depth(path, depths[0], overwrite=True, layout=SMALL_SHARDS)
    assert set(saved) == set(open_dataset(path).splits)
    verify(path).check()


@pytest.mark.slow
def test_readers_a_writer_and_what_replaces_an_hdf5_file(tmp_path, wholes, at_work, all_faults, count_faults):
    seconds, path = SECONDS[all_faults], tmp_path / "it.h5"
    sources = [wholes[0]["11"], wholes[0]["00"]]
    convert(sources[1], path)
    for seed in range(2):
        at_work.start("readers", at_once.read_batches, path, wholes[1], seconds, seed)
    at_work.start("splits", at_once.save_splits, path, seconds, 7)
    at_work.start("convert", at_once.replace_file, path, sources, seconds)
    ends, _ = at_work.end()
    told(count_faults, "an HDF5 file at once", ends)
    assert ends["readers"]["batches, whole"] > 20
    assert ends["convert"]["replaced"] > 0
    verify(path).check()
    assert sorted(one.name for one in tmp_path.iterdir()) == ["it.h5"]


# --- what is replaced between two steps of a writer ------------------------------------------------


def test_depth_of_the_samples_before_is_never_filled_in(tmp_path, specs, wholes, monkeypatch):
    path, (made, depths) = tmp_path / "it.zarr", specs
    shutil.copytree(wholes[0]["00"], path)
    load = Networks.load

    def replace_and_load(depth):
        monkeypatch.undo()
        create(path, made[1], overwrite=True, layout=SMALL_SHARDS)
        return load(depth)

    monkeypatch.setattr(Networks, "load", replace_and_load)
    with refused(DatasetError, "dataset-replaced", r"it\.zarr"):
        fill_depth(path, depths[1], overwrite=True, layout=SMALL_SHARDS)
    assert_same_files(path, wholes[0]["10"])


def test_a_split_of_the_samples_before_is_not_saved(tmp_path, specs, wholes):
    path, (made, _) = tmp_path / "it.zarr", specs
    shutil.copytree(wholes[0]["00"], path)
    opened = open_dataset(path)
    opened.split({"train": 0.5, "test": 0.5})
    create(path, made[1], overwrite=True, layout=SMALL_SHARDS)
    with refused(DatasetError, "dataset-replaced", r"it\.zarr"):
        opened.save_split("mine", {"train": 0.5, "test": 0.5})
    assert_same_files(path, wholes[0]["10"])


def test_a_dataset_that_has_replaced_another_is_left_to_who_writes_it(tmp_path, specs, wholes, monkeypatch):
    path, (made, _) = tmp_path / "it.zarr", specs
    shutil.copytree(wholes[0]["00"], path)
    partial, publish = path / f"zarr.json.{'0' * 32}.partial", Replacement.publish

    def publish_and_write(replacement):
        publish(replacement)
        partial.write_text("what another process is writing", encoding="utf-8")

    monkeypatch.setattr(Replacement, "publish", publish_and_write)
    create(path, made[1], overwrite=True, layout=SMALL_SHARDS)
    assert partial.exists()
