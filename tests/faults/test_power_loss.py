"""What a power loss may leave: nothing that counts before it is on disk, and files cut short are made anew.

Nothing here cuts the power. The order of syncing and renaming is recorded, and files are cut short as a file
system does with what was renamed but not written.
"""

from __future__ import annotations

import errno
import os
import shutil
import sys

import pytest
from builders import depth_of, tree
from durability import recorded
from refusals import refused

from fgbgpack import begin_create, create, create_part, fill_depth, finish_create, open_dataset, system
from fgbgpack.cards import write_cards
from fgbgpack.errors import DatasetError, IncompleteDatasetError
from fgbgpack.files import FolderSync
from fgbgpack.pipeline import Progress, convert, materialize, virtualize
from fgbgpack.storage.store import DatasetStore

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="looks at /proc")


class StoppedError(Exception):
    """A run that is stopped."""


def stop_after(stage):
    """Stops a run when all of a stage is written, before the document says so."""

    def on_event(event):
        if isinstance(event, Progress) and event.stage == stage and event.done == event.total:
            raise StoppedError

    return on_event


# --- the order -------------------------------------------------------------------------------------


@pytest.mark.parametrize("virtual", [False, True])
def test_a_dataset_is_on_disk_before_its_document_is(tmp_path, pictures, monkeypatch, virtual):
    calls = recorded(monkeypatch, tmp_path)
    create(tmp_path / "it.zarr", pictures.spec(), virtual=virtual)
    calls.check_published_last("zarr.json", "it.zarr")


def test_shards_of_a_part_are_on_disk_when_it_ends(tmp_path, pictures, monkeypatch):
    path = tmp_path / "it.zarr"
    with monkeypatch.context() as patch:
        calls = recorded(patch, tmp_path)
        begin_create(path, pictures.spec())
        calls.check_published_last("zarr.json", "it.zarr")
    with monkeypatch.context() as patch:
        calls = recorded(patch, tmp_path)
        create_part(path, 0, 1)
        assert calls[-1] == ("syncfs", "it.zarr")
    with monkeypatch.context() as patch:
        calls = recorded(patch, tmp_path)
        finish_create(path)
        calls.check_published_last("zarr.json", "it.zarr")


@pytest.mark.slow
def test_each_step_that_changes_a_dataset_is_on_disk_before_its_document_is(
    tmp_path, pictures, depth_model, monkeypatch
):
    path, other = tmp_path / "it.zarr", tmp_path / "other.zarr"
    create(path, pictures.spec(), virtual=True)
    steps = {
        "it.zarr": [
            lambda: materialize(path),
            lambda: fill_depth(path, depth_of(depth_model)),
        ],
        "other.zarr": [lambda: virtualize(path, other)],
    }
    for folder, actions in steps.items():
        for action in actions:
            with monkeypatch.context() as patch:
                calls = recorded(patch, tmp_path)
                action()
                calls.check_published_last("zarr.json", folder)


@pytest.mark.slow
def test_what_replaces_a_dataset_is_on_disk_before_it_takes_its_name(
    tmp_path, pictures, depth_model, make_depth_model, monkeypatch
):
    path = tmp_path / "it.zarr"
    create(path, pictures.spec(depth=depth_of(depth_model)))
    for action in (
        lambda: fill_depth(path, depth_of(make_depth_model(name="other", seed=1)), overwrite=True),
        lambda: create(path, pictures.spec(seed=1), overwrite=True),
    ):
        with monkeypatch.context() as patch:
            calls = recorded(patch, tmp_path)
            action()
        # Only then the old one loses its name, to be deleted.
        assert calls[-3:] == [("rename", "it.zarr"), ("sync", "."), ("rename", ".it.zarr.new.removed")]
        del calls[-3:]
        calls.check_published_last("zarr.json", ".it.zarr.new")


def test_a_file_is_on_disk_before_it_has_its_name(tmp_path, dataset, monkeypatch):
    calls = recorded(monkeypatch, tmp_path)
    convert(dataset, tmp_path / "it.h5")
    calls.check_published_last("it.h5")
    calls.clear()
    convert(tmp_path / "it.h5", tmp_path / "back.zarr")
    calls.check_published_last("zarr.json", "back.zarr")


def test_without_one_call_for_all_each_file_is_synced_before_the_document(tmp_path, pictures, monkeypatch):
    calls = recorded(monkeypatch, tmp_path, syncfs=False)
    create(tmp_path / "it.zarr", pictures.spec())
    published = max(i for i, call in enumerate(calls) if call == ("rename", "it.zarr/zarr.json"))
    synced = {path for kind, path in calls[:published] if kind == "sync"}
    files = {f"it.zarr/{name}" for name in tree(tmp_path / "it.zarr")} - {"it.zarr/zarr.json"}
    folders = {"/".join(name.split("/")[:-1]) for name in files}
    assert files | folders | {"."} <= synced
    assert calls[published + 1 :][:1] == [("sync", "it.zarr")]


def test_a_split_costs_no_more_than_its_document(tmp_path, dataset, monkeypatch):
    path = tmp_path / "it.zarr"
    shutil.copytree(dataset, path)
    opened = open_dataset(path)
    calls = recorded(monkeypatch, tmp_path)
    opened.save_split("fair", {"train": 0.5, "test": 0.5})
    partial = f"it.zarr/zarr.json.{'0' * 32}.partial"
    assert calls == [("sync", partial), ("rename", "it.zarr/zarr.json"), ("sync", "it.zarr")]


def test_what_a_stopped_run_wrote_is_synced_by_the_one_that_finds_nothing_left_to_write(
    tmp_path, pictures, monkeypatch
):
    path = tmp_path / "it.zarr"
    with pytest.raises(StoppedError):
        create(path, pictures.spec(), on_event=stop_after("samples"))
    calls = recorded(monkeypatch, tmp_path)
    create(path, pictures.spec())
    renamed = [path for kind, path in calls if kind == "rename"]
    assert [path for path in renamed if "/manifest/" not in path] == ["it.zarr/zarr.json"]
    calls.check_published_last("zarr.json", "it.zarr")
    assert ("syncfs", "it.zarr") in calls


def test_large_files_begin_to_go_to_the_disk_at_once_and_small_ones_do_not(tmp_path, monkeypatch):
    started = []
    real = system.start_writing
    monkeypatch.setattr(system, "start_writing", lambda descriptor: started.append(real(descriptor)))
    store = DatasetStore.open(tmp_path / "it.zarr", read_only=False)
    store.put("image/c/0/0/0/0", bytes(1 << 20))
    store.put("image/c/1/0/0/0", bytes(1000))
    assert started == [True]
    FolderSync(tmp_path).start("missing")
    assert started == [True]


def test_cards_are_durable(tmp_path, dataset, monkeypatch):
    path = tmp_path / "it.zarr"
    shutil.copytree(dataset, path)
    calls = recorded(monkeypatch, tmp_path)
    write_cards(path, preview=True)
    for name in ("croissant.json", "DATACARD.md", "preview.png"):
        at = calls.index(("rename", f"it.zarr/{name}"))
        assert calls[at - 1] == ("sync", f"it.zarr/{name}.{'0' * 32}.partial")
        assert calls[at + 1] == ("sync", "it.zarr")


@pytest.mark.parametrize(("number", "code"), [(errno.EIO, "io-failed"), (errno.ENOSPC, "disk-full")])
def test_what_the_disk_did_not_take_is_not_called_complete(tmp_path, pictures, monkeypatch, number, code):
    def syncfs(descriptor):
        raise OSError(number, os.strerror(number))

    path = tmp_path / "it.zarr"
    with monkeypatch.context() as patch:
        patch.setattr(system, "syncfs", syncfs)
        with refused(DatasetError, code, "it.zarr"):
            create(path, pictures.spec())
    with pytest.raises(IncompleteDatasetError):
        open_dataset(path)
    assert create(path, pictures.spec()).complete


# --- what is cut short -----------------------------------------------------------------------------


def cut_short(path, names, keep):
    """Leaves a part of each file: 0.5 for half of it."""
    for name in names:
        content = (path / name).read_bytes()
        (path / name).write_bytes(content[: int(len(content) * keep)])


@pytest.mark.parametrize("keep", [0, 0.5])
def test_files_that_were_cut_short_are_made_anew(tmp_path, pictures, keep):
    path = tmp_path / "it.zarr"
    create(tmp_path / "whole.zarr", pictures.spec())
    with pytest.raises(StoppedError):
        create(path, pictures.spec(), on_event=stop_after("samples"))
    cut_short(path, tree(path).keys() - {"zarr.json"}, keep)
    create(path, pictures.spec())
    assert tree(path) == tree(tmp_path / "whole.zarr")


@pytest.mark.parametrize(
    ("stage", "name"),
    [
        ("samples", "image/c/0/0/0/0"),
        ("samples", "mask/c/0/0/0"),
        ("depth", "depth/c/0/0/0"),
        ("depth", "depth_max/c/0"),
        ("depth", "sources/background_depth/c/0/0/0"),
    ],
)
def test_a_file_with_a_hole_is_made_anew(tmp_path, pictures, depth_model, guide_model, stage, name):
    path = tmp_path / "it.zarr"
    guide = str(guide_model) if "background" in name else None
    spec = pictures.spec(depth=depth_of(depth_model, guide=guide))
    create(tmp_path / "whole.zarr", spec)
    with pytest.raises(StoppedError):
        create(path, spec, on_event=stop_after(stage))
    # The end was written, the index of a shard perhaps, and what is before it was not.
    content = (path / name).read_bytes()
    hole = min(4096, len(content) // 2)
    (path / name).write_bytes(bytes(hole) + content[hole:])
    create(path, spec)
    assert tree(path) == tree(tmp_path / "whole.zarr")


@pytest.mark.slow
@pytest.mark.parametrize("keep", [0, 0.5])
@pytest.mark.parametrize("guided", [False, True])
def test_depth_that_was_cut_short_is_made_anew(tmp_path, pictures, depth_model, guide_model, keep, guided):
    path = tmp_path / "it.zarr"
    depth = depth_of(depth_model, guide=str(guide_model) if guided else None)
    spec = pictures.spec(depth=depth)
    create(tmp_path / "whole.zarr", spec)
    with pytest.raises(StoppedError):
        create(path, spec, on_event=stop_after("depth"))
    names = [name for name in tree(path) if name.startswith(("depth", "sources/background_depth"))]
    assert len(names) >= 6
    cut_short(path, names, keep)
    create(path, spec)
    assert tree(path) == tree(tmp_path / "whole.zarr")


@pytest.mark.parametrize("content", [b"", bytes(1000)])
def test_the_same_command_mends_an_empty_document_and_others_tell_of_it(tmp_path, dataset, pictures, content):
    path = tmp_path / "it.zarr"
    shutil.copytree(dataset, path)
    (path / "zarr.json").write_bytes(content)
    before = tree(path)
    for action in (
        lambda: open_dataset(path),
        lambda: create(path, pictures.spec(seed=1), overwrite=True),
        lambda: create(path, pictures.spec(placements=1), overwrite=True),
    ):
        with refused(DatasetError, "document-empty", "zarr.json of .* is empty"):
            action()
        assert tree(path) == before
    (path / "y/c/0").write_bytes(bytes(50))
    (path / "image/zarr.json").write_bytes(b"")
    notices = []
    assert create(path, pictures.spec(), on_event=lambda event: notices.append(str(event))).complete
    assert any("is empty, as after a power loss" in notice for notice in notices)
    assert tree(path) == tree(dataset)
