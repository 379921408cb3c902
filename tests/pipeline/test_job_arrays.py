"""A dataset made in parts is, file by file, the one that a single command makes."""

from __future__ import annotations

import json
import random
import shutil
from collections import Counter
from dataclasses import replace

import pytest
from builders import SMALL_SHARDS, Stop, assert_same_files, depth_of, names_in, tree, write_depth_model
from children import write_parts
from killed_runs import SHARDS, Run
from kinds import MADE, layout_of
from refusals import refused
from small_disks import needs_small_disk, small_disk

from fgbgpack import begin_create, create, create_part, fill_depth, finish_create, open_dataset
from fgbgpack.document import DeviceInfo
from fgbgpack.errors import (
    DatasetError,
    IncompleteDatasetError,
    RecipeMismatchError,
    SourceError,
    SpecError,
)
from fgbgpack.files import locked
from fgbgpack.pipeline import Notice, verify
from fgbgpack.pipeline.part import Part

N = 36


@pytest.fixture
def begun(kinds, tmp_path):
    """A function that begins a dataset of a kind."""

    def begin(kind="depth"):
        made, _, virtual = kind.partition("-")
        path = tmp_path / "it.zarr"
        begin_create(path, kinds.specs[made], virtual=bool(virtual), layout=layout_of(made))
        return path

    return begin


@pytest.mark.parametrize("kind", [*MADE, "depth-virtual", "plain-virtual"])
def test_parts_in_any_order_give_the_same_files(kinds, begun, kind):
    path = begun(kind)
    order = random.Random(1).sample(range(10), 10)
    written = [create_part(path, part, 10, workers=1) for part in [*order, *order[:3]]]
    made, _, virtual = kind.partition("-")
    assert sum(report.created for report in written) == (0 if virtual else N)
    assert sum(report.depth_filled for report in written) == (N if kinds.specs[made].depth else 0)
    assert [(report.created, report.depth_filled) for report in written[10:]] == [(0, 0)] * 3
    assert not any(report.complete for report in written)
    report = finish_create(path)
    assert (report.complete, report.samples, report.virtual) == (True, N, bool(virtual))
    assert_same_files(path, kinds[kind])
    assert names_in(path) == names_in(kinds[kind])


@pytest.mark.parametrize("count", [1, 2, 7, 100])
@pytest.mark.parametrize("shards", [1, 2, 7, 16, 99, 100, 101])
def test_every_shard_is_of_one_part_and_parts_are_alike(count, shards):
    parts = [Part(number, count) for number in range(count)]
    assert [shard for part in parts for shard in part.of(shards)] == list(range(shards))
    assert {len(part.of(shards)) for part in parts} <= {shards // count, shards // count + 1}
    assert all(Part.with_shard(s, shards, count) == part for part in parts for s in part.of(shards))


def test_neither_pictures_nor_options_are_needed(tmp_path, own_pictures, depth_model, guide_model):
    depth = depth_of(depth_model, guide=str(guide_model), scale=2)
    spec = own_pictures.spec(chunk=5, depth=depth)
    create(tmp_path / "alone.zarr", spec, layout=SMALL_SHARDS)
    begin_create(tmp_path / "it.zarr", spec, layout=SMALL_SHARDS)
    shutil.rmtree(own_pictures.root)
    shutil.move(tmp_path / "it.zarr", tmp_path / "moved.zarr")
    for part in (1, 0):
        create_part(tmp_path / "moved.zarr", part, 2)
    finish_create(tmp_path / "moved.zarr")
    assert_same_files(tmp_path / "moved.zarr", tmp_path / "alone.zarr")


def test_depth_of_each_sample_larger_than_it_needs_the_originals(tmp_path, own_pictures, depth_model):
    spec = own_pictures.spec(depth=depth_of(depth_model, scale=2))
    begin_create(tmp_path / "it.zarr", spec, layout=SMALL_SHARDS)
    shutil.rmtree(own_pictures.root)
    with pytest.raises(SourceError):
        create_part(tmp_path / "it.zarr", 0, 1)


# --- in the wrong order ----------------------------------------------------------------------------


@pytest.mark.parametrize("phase", [lambda path: create_part(path, 0, 2), finish_create])
def test_what_has_not_begun_is_neither_written_nor_finished(tmp_path, kinds, phase):
    path = tmp_path / "it.zarr"
    with refused(DatasetError, "dataset-missing"):
        phase(path)
    assert not path.exists()
    with pytest.raises(KeyboardInterrupt):
        create(path, kinds.specs["depth"], layout=SMALL_SHARDS, on_event=Stop("depth", 1))
    before = tree(path)
    with refused(DatasetError, "parts-not-begun"):
        phase(path)
    assert tree(path) == before
    begin_create(path, kinds.specs["depth"], layout=SMALL_SHARDS)
    create_part(path, 0, 1)
    finish_create(path)
    assert_same_files(path, kinds["depth"])


def test_one_that_was_only_half_begun_has_not_begun(tmp_path, kinds):
    path = tmp_path / "it.zarr"
    with pytest.raises(KeyboardInterrupt):
        begin_create(path, kinds.specs["guided"], layout=SMALL_SHARDS, on_event=Stop("backgrounds", 0))
    with refused(DatasetError, "parts-not-begun"):
        create_part(path, 0, 1)
    begin_create(path, kinds.specs["guided"], layout=SMALL_SHARDS)
    create_part(path, 0, 1)
    finish_create(path)
    assert_same_files(path, kinds["guided"])


@pytest.mark.parametrize("part", [(-1, 2), (2, 2), (0, 0), (0, -1), (0.5, 2), ("0", 2), (True, 2)])
def test_there_is_no_such_part(begun, part):
    with refused(SpecError, "part-invalid"):
        create_part(begun(), *part)


def test_an_hdf5_file_has_one_writer(tmp_path, kinds):
    path = tmp_path / "it.h5"
    for phase in (
        lambda: begin_create(path, kinds.specs["plain"]),
        lambda: create_part(path, 0, 2),
        lambda: finish_create(path),
    ):
        with refused(SpecError, "parts-of-hdf5"):
            phase()
    assert not path.exists()


def test_of_a_complete_one_nothing_is_written(tmp_path, kinds):
    path = tmp_path / "it.zarr"
    shutil.copytree(kinds["guided"], path)
    for phase in (
        lambda tell: begin_create(path, kinds.specs["guided"], on_event=tell),
        lambda tell: create_part(path, 0, 2, on_event=tell),
        lambda tell: finish_create(path, on_event=tell),
    ):
        events = []
        assert phase(events.append).complete
        assert Notice(f"{path} is complete already.") in events
    assert_same_files(path, kinds["guided"])


def test_begun_again_it_stays_and_with_other_options_it_is_refused(kinds, begun):
    path, spec = begun(), kinds.specs["depth"]
    create_part(path, 0, 2)
    before = tree(path)
    events = []
    begin_create(path, spec, layout=SMALL_SHARDS, on_event=events.append)
    assert Notice(f"{path} has begun already.") in events
    for other in (replace(spec, seed=1), replace(spec, depth=replace(spec.depth, bits=8))):
        with refused(RecipeMismatchError, "dataset-differs"):
            begin_create(path, other, layout=SMALL_SHARDS)
    assert tree(path) == before
    begin_create(path, replace(spec, seed=1), layout=SMALL_SHARDS, overwrite=True)
    with refused(IncompleteDatasetError, "parts-missing"):
        finish_create(path)
    create_part(path, 0, 1)
    finish_create(path)
    assert_same_files(path, kinds["depth-older"])


def test_a_complete_one_is_replaced_at_once(tmp_path, kinds):
    path = tmp_path / "it.zarr"
    shutil.copytree(kinds["depth-older"], path)
    begin_create(path, kinds.specs["depth"], layout=SMALL_SHARDS, overwrite=True)
    assert not (path / "image/c").exists()
    create_part(path, 0, 1)
    finish_create(path)
    assert_same_files(path, kinds["depth"])


@pytest.mark.parametrize("stage", ["samples", "depth"])
def test_one_command_finishes_what_parts_began(kinds, begun, stage):
    path = begun("guided")
    create_part(path, 0, 2)
    with pytest.raises(KeyboardInterrupt):
        create(path, kinds.specs["guided"], layout=SMALL_SHARDS, on_event=Stop(stage, 1))
    create(path, kinds.specs["guided"], layout=SMALL_SHARDS)
    assert_same_files(path, kinds["guided"])
    assert names_in(path) == names_in(kinds["guided"])


def test_depth_alone_is_filled_in_parts(tmp_path, kinds):
    path = tmp_path / "it.zarr"
    with pytest.raises(KeyboardInterrupt):
        create(path, kinds.specs["guided"], layout=SMALL_SHARDS, on_event=Stop("depth", 1))
    begin_create(path, kinds.specs["guided"], layout=SMALL_SHARDS)
    done = [create_part(path, part, 3) for part in range(3)]
    assert {report.created for report in done} == {0}
    finish_create(path)
    assert_same_files(path, kinds["guided"])


def test_other_depth_takes_the_place_of_what_is_begun(begun, depth_model, kinds):
    path = begun("guided")
    create_part(path, 0, 1)
    with refused(DatasetError, "dataset-incomplete"):
        fill_depth(path, depth_of(depth_model), overwrite=True, layout=SMALL_SHARDS)
    finish_create(path)
    assert_same_files(path, kinds["guided"])


def test_a_network_of_the_same_name_that_is_another_one_is_refused(tmp_path, pictures):
    model = write_depth_model(tmp_path / "models")
    spec = pictures.spec(depth=depth_of(model))
    begin_create(tmp_path / "it.zarr", spec, layout=SMALL_SHARDS)
    write_depth_model(tmp_path / "models", seed=1)
    before = tree(tmp_path / "it.zarr")
    with refused(RecipeMismatchError, "dataset-differs", "networks on this machine"):
        create_part(tmp_path / "it.zarr", 0, 1)
    assert tree(tmp_path / "it.zarr") == before


# --- missing, damaged, at once ---------------------------------------------------------------------


def test_what_is_missing_is_named_by_its_parts(begun):
    path = begun()
    for part in (0, 1, 3):
        create_part(path, part, 4)
    with refused(IncompleteDatasetError, "parts-missing") as caught:
        finish_create(path)
    assert [line.partition(":")[0] for line in caught.value.problems] == ["2/4"]
    assert "--shards 2/4" in caught.value.message
    assert open_dataset(path, allow_incomplete=True).document.in_parts


@pytest.mark.parametrize(
    ("array", "shard"), [("image", 1), ("mask", 0), ("depth", 2), ("depth_min", 1), ("depth_max", 0)]
)
@pytest.mark.parametrize("damage", ["flipped", "cut", "empty", "gone"])
def test_a_damaged_shard_is_written_again_by_its_part(kinds, begun, array, shard, damage):
    path = begun()
    for part in range(3):
        create_part(path, part, 3)
    file = next((path / array / "c" / str(shard)).rglob("*"), path / array / "c" / str(shard))
    while file.is_dir():
        file = next(file.iterdir())
    content = bytearray(file.read_bytes())
    content[len(content) // 3] ^= 1
    if damage == "gone":
        file.unlink()
    else:
        file.write_bytes({"flipped": content, "cut": content[:-3], "empty": b""}[damage])
    with refused(IncompleteDatasetError, "parts-missing") as caught:
        finish_create(path)
    (line,) = caught.value.problems
    assert f"shard {shard} of /{array}" in line
    written = [create_part(path, part, 3) for part in range(3)]
    assert [i for i, report in enumerate(written) if report.created or report.depth_filled] == [
        int(line.partition("/")[0])
    ]
    finish_create(path)
    assert_same_files(path, kinds["depth"])


@pytest.mark.parametrize(
    "name", ["sources/background/c/0/0/0/0", "x/c/0", "sources/background_depth/c/0/0/0"]
)
@pytest.mark.parametrize("is_gone", [False, True])
def test_what_shards_are_made_of_is_checked_too(kinds, begun, name, is_gone):
    path = begun("guided")
    create_part(path, 0, 1)
    content = bytearray((path / name).read_bytes())
    content[len(content) // 3] ^= 1
    (path / name).write_bytes(content)
    if is_gone:
        (path / name).unlink()
    with refused(DatasetError, "recipe-damaged"):
        finish_create(path)
    (path / name).unlink(missing_ok=True)
    begin_create(path, kinds.specs["guided"], layout=SMALL_SHARDS)
    assert create_part(path, 0, 1).created == 0
    finish_create(path)
    assert_same_files(path, kinds["guided"])


def test_sources_that_are_damaged_make_no_shard(begun):
    path = begun()
    file = path / "sources/background/c/0/0/0/0"
    content = bytearray(file.read_bytes())
    content[len(content) // 3] ^= 1
    file.write_bytes(content)
    with pytest.raises(DatasetError):
        create_part(path, 0, 1)
    assert not (path / "image/c").exists()


def test_parts_keep_others_out_and_not_each_other(begun, kinds):
    path = begun()
    refusals = []

    def try_all(event):
        if not refusals:
            for other in (
                lambda: finish_create(path),
                lambda: create(path, kinds.specs["depth"], layout=SMALL_SHARDS),
                lambda: begin_create(path, replace(kinds.specs["depth"], seed=1), overwrite=True),
            ):
                with refused(DatasetError, "dataset-locked"):
                    other()
                refusals.append(other)
            create_part(path, 1, 2)

    create_part(path, 0, 2, on_event=try_all)
    assert len(refusals) == 3
    with locked(path, "busy"), refused(DatasetError, "dataset-locked"):
        create_part(path, 0, 2)
    finish_create(path)
    assert_same_files(path, kinds["depth"])


@pytest.mark.slow
@needs_small_disk
def test_a_full_disk_is_said_so_and_the_part_is_run_again(tmp_path, kinds):
    with small_disk(tmp_path / "disk", "152k") as enlarge:
        path = tmp_path / "disk/it.zarr"
        begin_create(path, kinds.specs["depth"], layout=SMALL_SHARDS)
        with refused(DatasetError, "disk-full"):
            create_part(path, 0, 1)
        enlarge()
        create_part(path, 0, 1)
        finish_create(path)
        assert_same_files(path, kinds["depth"])


@pytest.mark.slow
def test_killed_parts_that_run_at_once_lose_nothing(
    tmp_path, pictures, depth_model, processes, count_faults, all_faults
):
    """Four processes take parts in any order, several the same; most are killed, and run again."""
    spec = pictures.spec(placements=8, depth=depth_of(depth_model))
    create(tmp_path / "alone.zarr", spec, layout=SHARDS)
    rng = random.Random(3)
    killed = finished = 0
    for attempt in range(10 if all_faults else 1):
        path = tmp_path / f"{attempt}.zarr"
        begin_create(path, spec, layout=SHARDS)
        for _ in range(2):
            orders = [rng.sample(range(8), 8) for _ in range(4)]
            runs = [Run(processes, write_parts, path, order, 8) for order in orders]
            for run in runs:
                run.receiver.poll(rng.uniform(0.3, 0.9))
                killed += run.kill()
        runs = [Run(processes, write_parts, path, rng.sample(range(8), 8), 8) for _ in range(4)]
        for run in runs:
            run.finish()
            finished += 1
        finish_create(path)
        assert_same_files(path, tmp_path / "alone.zarr")
        assert names_in(path) == names_in(tmp_path / "alone.zarr")
        verify(path).check()
    assert killed
    count_faults("processes that write parts at once", Counter(killed=killed, finished=finished))


# --- devices ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["depth", "guided"])
def test_the_document_says_which_device_filled_which_part(kinds, begun, kind, monkeypatch):
    path = begun(kind)
    real = create_part(path, 0, 3)
    assert real.depth_filled
    monkeypatch.setattr("fgbgpack.pipeline.depth_modes._device_of", lambda session: other)
    other = DeviceInfo("CPUExecutionProvider", "another processor", "1.0")
    filled = create_part(path, 1, 3).depth_filled
    create_part(path, 1, 3)
    monkeypatch.undo()
    create_part(path, 2, 3)
    finish_create(path)
    depth = open_dataset(path).document.depth
    one, last = depth.devices if depth.guide is None else depth.guide.devices
    assert last.ranges is None
    assert last.hardware != "another processor"
    assert one.hardware == "another processor"
    ((start, stop),) = one.ranges
    assert (start, stop - start) == (real.depth_filled, filled)
    assert not depth.guide or len(depth.devices) == 1
    assert "in_parts" not in json.dumps(open_dataset(path).document.to_dict())
