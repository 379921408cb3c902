"""How HDF5 files come to be: whole or not at all, whatever happens, never in the place of something else."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from functools import partial
from pathlib import Path

import h5py
import numpy as np
import pytest
from builders import SMALL_SHARDS, Stop, depth_of, tree
from children import stop_at
from killed_runs import Run
from refusals import refused
from typer.testing import CliRunner

from fgbgpack import create, fill_depth, open_dataset
from fgbgpack.cli import app
from fgbgpack.errors import (
    DatasetError,
    IncompleteDatasetError,
    MissingPackageError,
    RecipeMismatchError,
    SpecError,
)
from fgbgpack.pipeline import Notice, Progress, convert, materialize, staging, virtualize
from fgbgpack.storage.hdf5 import Hdf5Store

PARTS = {"train": 0.5, "test": 0.5}
create_small = partial(create, layout=SMALL_SHARDS)
fill_depth_small = partial(fill_depth, layout=SMALL_SHARDS)
materialize_small = partial(materialize, layout=SMALL_SHARDS)
kills = pytest.mark.skipif(sys.platform == "win32", reason="there is no SIGKILL on Windows")


@pytest.fixture(scope="module")
def files(tmp_path_factory, dataset, depth_dataset, guided_dataset):
    """The datasets of all tests as HDF5; not to be changed."""
    folder = tmp_path_factory.mktemp("hdf5")
    found = {}
    for path in (dataset, depth_dataset, guided_dataset):
        found[path.stem] = folder / f"{path.stem}.h5"
        convert(path, found[path.stem])
    convert(guided_dataset, folder / "portable.h5", portable=True)
    return found | {"portable": folder / "portable.h5"}


def names_in(folder):
    """What lies in a folder."""
    return sorted(path.name for path in folder.iterdir())


def notices(call, *arguments, **options):
    """What a call tells of."""
    told = []
    call(*arguments, on_event=told.append, **options)
    return [event.message for event in told if isinstance(event, Notice)]


# --- where a file may be made ----------------------------------------------------------------------


@pytest.mark.slow
def test_progress_counts_all_chunks(guided_dataset, files, tmp_path):
    for source, target in ((guided_dataset, "it.h5"), (files["guided"], "it.zarr")):
        told = []
        done = convert(source, tmp_path / target, on_event=told.append)
        counts = [event.done for event in told if isinstance(event, Progress)]
        assert counts[0] == 0
        assert counts == sorted(counts)
        assert {event.total for event in told} == {counts[-1]} == {done.chunks}
        assert done.to_dict()["chunks"] == sum(
            len(array.chunks) for array in Hdf5Store(files["guided"]).file.arrays.values()
        )


@pytest.mark.slow
def test_folders_on_the_way_are_made(dataset, files, tmp_path):
    convert(dataset, tmp_path / "a" / "b" / "it.HDF5")
    assert (tmp_path / "a/b/it.HDF5").read_bytes() == files["plain"].read_bytes()


@pytest.mark.slow
def test_the_same_dataset_is_written_again(dataset, files, tmp_path):
    path = tmp_path / "it.h5"
    for portable in (True, False):
        convert(dataset, path, portable=portable)
    assert path.read_bytes() == files["plain"].read_bytes()
    before = tree(dataset)
    convert(path, tmp_path / "it.zarr")
    done = convert(path, tmp_path / "it.zarr")
    assert done.chunks == 0
    assert notices(convert, path, tmp_path / "it.zarr") == [f"{tmp_path / 'it.zarr'} is complete already."]
    assert tree(tmp_path / "it.zarr") == before


@pytest.mark.slow
def test_another_dataset_is_replaced_only_if_told_so(dataset, guided_dataset, files, tmp_path):
    path, folder = tmp_path / "it.h5", tmp_path / "it.zarr"
    shutil.copy(files["guided"], path)
    shutil.copytree(guided_dataset, folder)
    for source, target in ((dataset, path), (files["plain"], folder)):
        before = tree(tmp_path)
        with refused(RecipeMismatchError, "dataset-differs"):
            convert(source, target)
        assert tree(tmp_path) == before
        convert(source, target, overwrite=True)
    assert path.read_bytes() == files["plain"].read_bytes()
    assert tree(folder) == tree(dataset)


def test_what_is_no_dataset_is_never_replaced(dataset, files, tmp_path):
    path = tmp_path / "it.h5"
    with h5py.File(path, "w") as file:
        file["mine"] = np.arange(5)
    others = path.read_bytes()
    for content, said in (
        (others, "did not make"),
        (b"text", "not HDF5"),
        (b"", "not HDF5"),
        (files["plain"].read_bytes()[:-100], "cut short"),
    ):
        path.write_bytes(content)
        for overwrite in (False, True):
            with refused(DatasetError, "dataset-foreign", said):
                convert(dataset, path, overwrite=overwrite)
        assert path.read_bytes() == content
    path.unlink()
    path.mkdir()
    with refused(DatasetError, "target-is-folder"):
        convert(dataset, path, overwrite=True)
    (tmp_path / "it.zarr").mkdir()
    (tmp_path / "it.zarr" / "mine").write_text("mine")
    with refused(DatasetError, "dataset-foreign"):
        convert(files["plain"], tmp_path / "it.zarr", overwrite=True)
    assert (tmp_path / "it.zarr" / "mine").read_text() == "mine"


def test_a_file_never_replaces_itself(files, tmp_path):
    path = Path(shutil.copy(files["plain"], tmp_path / "it.h5"))
    (tmp_path / "link.h5").symlink_to(path)
    (tmp_path / "name.h5").hardlink_to(path)
    for other in ("it.h5", "link.h5", "name.h5"):
        with refused(SpecError, "target-is-source"):
            convert(path, tmp_path / other, overwrite=True)
        assert path.read_bytes() == files["plain"].read_bytes()


def test_zarr_is_not_copied_to_zarr(dataset, tmp_path):
    with refused(SpecError, "target-not-hdf5"):
        convert(dataset, tmp_path / "it.zarr")
    assert names_in(tmp_path) == []


def test_an_incomplete_dataset_is_refused(pictures, tmp_path):
    with pytest.raises(KeyboardInterrupt):
        create_small(tmp_path / "it.zarr", pictures.spec(chunk=5), on_event=Stop("samples", 1))
    with refused(IncompleteDatasetError, "dataset-incomplete"):
        convert(tmp_path / "it.zarr", tmp_path / "it.h5")
    with refused(DatasetError, "dataset-missing"):
        convert(tmp_path / "nothing.zarr", tmp_path / "it.h5")
    assert names_in(tmp_path) == ["it.zarr"]


def test_workers_are_checked(dataset, tmp_path):
    with refused(SpecError, "workers-invalid"):
        convert(dataset, tmp_path / "it.h5", workers=0)


# --- whole or not at all ---------------------------------------------------------------------------


@pytest.mark.parametrize("portable", [False, True])
def test_ctrl_c_leaves_no_file(guided_dataset, files, tmp_path, portable):
    for n in (0, 3):
        with pytest.raises(KeyboardInterrupt):
            convert(guided_dataset, tmp_path / "it.h5", portable=portable, on_event=Stop("chunks", n))
        assert names_in(tmp_path) == []
    shutil.copy(files["guided"], tmp_path / "it.h5")
    with pytest.raises(KeyboardInterrupt):
        convert(guided_dataset, tmp_path / "it.h5", portable=portable, on_event=Stop("chunks", 3))
    assert names_in(tmp_path) == ["it.h5"]
    assert (tmp_path / "it.h5").read_bytes() == files["guided"].read_bytes()


@pytest.mark.slow
def test_ctrl_c_leaves_zarr_that_is_resumed(guided_dataset, files, tmp_path):
    path = tmp_path / "it.zarr"
    total = convert(files["guided"], tmp_path / "whole.zarr").chunks
    for n in (2, 4):
        with pytest.raises(KeyboardInterrupt):
            convert(files["guided"], path, workers=1, on_event=Stop("chunks", n))
        with pytest.raises(IncompleteDatasetError):
            open_dataset(path)
    told = []
    done = convert(files["guided"], path, on_event=told.append)
    assert told[0] == Notice(f"Resuming {path}.")
    assert 0 < done.chunks < total
    assert tree(path) == tree(guided_dataset)


def killed(processes, *arguments, **options):
    """Kill a process where ``stop_at`` stands still; before that, do what is in ``meanwhile``."""
    meanwhile = options.pop("meanwhile", lambda: None)
    run = Run(processes, stop_at, *arguments, options)
    assert run.reach("there")
    meanwhile()
    assert run.kill()


@pytest.mark.slow
@kills
@pytest.mark.parametrize("portable", [False, True])
def test_a_killed_conversion_leaves_nothing_that_opens(processes, guided_dataset, files, tmp_path, portable):
    path = tmp_path / "it.h5"
    expected = files["portable" if portable else "guided"].read_bytes()

    def another_one():
        """Makes the file while the first still writes, and leaves alone what that writes."""
        (left,) = names_in(tmp_path)
        convert(guided_dataset, path, portable=portable)
        assert names_in(tmp_path) == ["it.h5", left]
        path.unlink()

    for n in (0, 5):
        arguments = (processes, convert, "chunks", n, guided_dataset, path)
        killed(*arguments, portable=portable, workers=2, meanwhile=another_one)
        (left,) = names_in(tmp_path)
        assert left.endswith(".partial")
        with pytest.raises(DatasetError):
            open_dataset(path)
        with pytest.raises(DatasetError):
            open_dataset(tmp_path / left)
        # What is called much the same is no left-over.
        (tmp_path / "it.h5.partial").touch()
        (tmp_path / f"other{left}").touch()
        convert(guided_dataset, path, portable=portable)
        assert names_in(tmp_path) == sorted(["it.h5", "it.h5.partial", f"other{left}"])
        assert path.read_bytes() == expected
        for file in tmp_path.iterdir():
            file.unlink()


@pytest.mark.slow
@kills
def test_a_killed_conversion_to_zarr_is_resumed(processes, guided_dataset, files, tmp_path):
    path = tmp_path / "it.zarr"

    def another_one():
        with refused(DatasetError, "dataset-locked", "it.zarr"):
            convert(files["guided"], path)

    for n in (1, 3, 2):
        killed(processes, convert, "chunks", n, files["guided"], path, workers=1, meanwhile=another_one)
        with pytest.raises(IncompleteDatasetError):
            open_dataset(path)
        expected = tree(guided_dataset)
        for name, content in tree(path).items():
            assert name == "zarr.json" or ".partial" in name or content == expected[name]
    convert(files["guided"], path)
    assert tree(path) == expected


LOCKED = """
import sys
from pathlib import Path
from fgbgpack.pipeline import convert
from fgbgpack.files import _sweep as sweep
source, path = sys.argv[1:]
def tell(event):
    assert list(Path(path).parent.glob("*.partial"))
    sweep(Path(path))
    assert list(Path(path).parent.glob("*.partial"))
convert(source, path, on_event=tell)
assert not list(Path(path).parent.glob("*.partial"))
"""


@pytest.mark.slow
@pytest.mark.skipif(os.name != "posix", reason="nothing is swept where there are no such locks")
@pytest.mark.parametrize("locking", ["TRUE", "FALSE"])
def test_what_is_being_written_stays_whatever_hdf5_is_told_of_locks(dataset, files, tmp_path, locking):
    command = [sys.executable, "-c", LOCKED, str(dataset), str(tmp_path / "it.h5")]
    subprocess.run(command, check=True, env={**os.environ, "HDF5_USE_FILE_LOCKING": locking})
    assert (tmp_path / "it.h5").read_bytes() == files["plain"].read_bytes()


FULL = """
import resource, signal, sys
from dataclasses import replace
from pathlib import Path
from fgbgpack.pipeline import convert
from fgbgpack.errors import DatasetError
from fgbgpack.storage.hdf5 import Hdf5Store
from fgbgpack.storage.store import DatasetStore
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
source, path, split = sys.argv[1:4]
for limit in map(int, sys.argv[4:]):
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, resource.RLIM_INFINITY))
    for portable in (False, True):
        try:
            convert(source, path, portable=portable)
        except DatasetError as error:
            print(error)
        else:
            sys.exit(f"{limit} bytes are enough")
    if limit > 20_000:
        # Splits for which the document has no room: only then is the file written anew.
        try:
            store = DatasetStore(Hdf5Store(Path(split), read_only=False), split)
            parts = {"by": "sample", "seed": 0, "parts": {"a": 0.5}}
            names = [f"{i:03}" + "x" * 200 for i in range(300)]
            store.commit(replace(store.existing_document(), splits=dict.fromkeys(names, parts)))
        except DatasetError as error:
            print(error)
        else:
            sys.exit(f"{limit} bytes are enough")
"""


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="there are no such limits on Windows")
def test_a_full_disk_is_told_of_and_leaves_nothing(guided_dataset, files, tmp_path):
    split = Path(shutil.copy(files["guided"], tmp_path / "split.h5"))
    size = files["guided"].stat().st_size
    limits = [0, 100, 3_000, 30_000, size // 2, size * 3 // 4]
    command = [sys.executable, "-c", FULL, guided_dataset, tmp_path / "it.h5", split, *map(str, limits)]
    done = subprocess.run(list(map(str, command)), capture_output=True, text=True, check=True)
    lines = done.stdout.splitlines()
    assert len(lines) == 2 * len(limits) + 3
    for line in lines:
        if "split" in line:
            assert line.startswith(f"{split} cannot be read or written: ")
        else:
            assert line == f"{tmp_path / 'it.h5'} cannot be written: File too large."
    assert done.stderr == ""
    assert names_in(tmp_path) == ["split.h5"]
    assert split.read_bytes() == files["guided"].read_bytes()


# --- made and changed as files ---------------------------------------------------------------------


@pytest.fixture
def spec(pictures):
    return pictures.spec(chunk=5)


@pytest.mark.slow
@pytest.mark.parametrize("virtual", [False, True])
def test_create_makes_the_file_that_convert_makes_of_the_zarr(tmp_path, pictures, depth_model, virtual):
    spec = pictures.spec(chunk=5, depth=depth_of(depth_model))
    create_small(tmp_path / "it.zarr", spec, virtual=virtual)
    convert(tmp_path / "it.zarr", tmp_path / "converted.h5")
    report = create_small(tmp_path / "it.h5", spec, virtual=virtual)
    assert (report.path, report.complete, report.virtual) == (str(tmp_path / "it.h5"), True, virtual)
    assert names_in(tmp_path) == ["converted.h5", "it.h5", "it.zarr"]
    expected = (tmp_path / "converted.h5").read_bytes()
    assert (tmp_path / "it.h5").read_bytes() == expected
    # The same command again does nothing.
    (notice,) = notices(create_small, tmp_path / "it.h5", spec, virtual=virtual)
    assert notice == f"{tmp_path / 'it.h5'} is complete already."
    assert names_in(tmp_path) == ["converted.h5", "it.h5", "it.zarr"]
    assert (tmp_path / "it.h5").read_bytes() == expected


@pytest.mark.slow
def test_create_is_resumed_in_a_folder_beside(tmp_path, spec):
    path = tmp_path / "it.h5"
    create_small(tmp_path / "whole.h5", spec)
    for stage, n in (("samples", 0), ("samples", 1), ("chunks", 0), ("chunks", 4)):
        with pytest.raises(KeyboardInterrupt):
            create_small(path, spec, workers=1, on_event=Stop(stage, n))
        if (stage, n) == ("samples", 1):
            (tmp_path / "it.h5.unfinished/image/c/0/0/0/0").unlink(missing_ok=True)
        assert names_in(tmp_path) == ["it.h5.unfinished", "whole.h5"]
        with refused(IncompleteDatasetError, "dataset-incomplete", str(path)):
            open_dataset(path)
    with refused(RecipeMismatchError, "dataset-differs", rf"^{path} was"):
        create_small(path, spec.__class__.from_dict({**spec.to_dict(), "seed": 5}))
    told = notices(create_small, path, spec)
    assert told[0] == f"{path} is complete already."
    assert names_in(tmp_path) == ["it.h5", "whole.h5"]
    assert path.read_bytes() == (tmp_path / "whole.h5").read_bytes()


@pytest.mark.slow
def test_a_refused_command_leaves_the_file_alone_and_no_folder(tmp_path, spec, files, own_pictures):
    path = tmp_path / "it.h5"
    create_small(path, spec)
    before = path.read_bytes()
    other = spec.__class__.from_dict({**spec.to_dict(), "seed": 5})
    with refused(RecipeMismatchError, "dataset-differs", rf"^{path} was"):
        create_small(path, other)
    with refused(DatasetError, "pixels-stored"):
        materialize_small(path, tmp_path / "new.h5")
    with refused(RecipeMismatchError, "dataset-differs", rf"^{path} is"):
        virtualize(files["depth"], path)
    assert names_in(tmp_path) == ["it.h5", "pictures"]
    assert path.read_bytes() == before
    create_small(path, other, overwrite=True)
    assert open_dataset(path).document.spec.seed == 5
    assert names_in(tmp_path) == ["it.h5", "pictures"]
    create_small(tmp_path / "other.h5", other)
    assert path.read_bytes() == (tmp_path / "other.h5").read_bytes()


def test_what_is_no_dataset_is_refused_before_any_work(tmp_path, spec):
    path = tmp_path / "it.h5"
    with h5py.File(path, "w") as file:
        file["mine"] = np.arange(5)
    before = path.read_bytes()
    for overwrite in (False, True):
        with refused(DatasetError, "dataset-foreign"):
            create(path, spec, overwrite=overwrite)
    assert path.read_bytes() == before
    assert names_in(tmp_path) == ["it.h5"]


def test_missing_packages_are_told_of_before_any_work(tmp_path, spec, files, monkeypatch):
    shutil.copy(files["plain"], tmp_path / "there.h5")
    for package in ("hdf5plugin", "h5py"):
        monkeypatch.setitem(sys.modules, package, None)
        for path in (tmp_path / "it.h5", tmp_path / "there.h5"):
            with refused(MissingPackageError, "extra-missing", package):
                create(path, spec, overwrite=True, on_event=pytest.fail)
    assert names_in(tmp_path) == ["there.h5"]


@pytest.mark.slow
@pytest.mark.parametrize("form", ["normal", "portable"])
def test_depth_is_filled_in_a_file(tmp_path, spec, depth_model, form):
    path, depth = tmp_path / "it.h5", depth_of(depth_model)
    create_small(tmp_path / "it.zarr", spec)
    convert(tmp_path / "it.zarr", path, portable=form == "portable")
    before = path.read_bytes()
    reader = open_dataset(path)
    with pytest.raises(KeyboardInterrupt):
        fill_depth_small(path, depth, workers=1, on_event=Stop("depth", 1))
    (tmp_path / "it.h5.unfinished/depth/c/0/0/0").unlink()
    # Until it is whole, the file is the one that it was.
    assert path.read_bytes() == before
    assert names_in(tmp_path) == ["it.h5", "it.h5.unfinished", "it.zarr"]
    assert notices(fill_depth_small, path, depth)[0] == f"Resuming the depth of {path}."
    fill_depth_small(tmp_path / "it.zarr", depth)
    convert(tmp_path / "it.zarr", tmp_path / "expected.h5", portable=form == "portable")
    assert path.read_bytes() == (tmp_path / "expected.h5").read_bytes()
    assert names_in(tmp_path) == ["expected.h5", "it.h5", "it.zarr"]
    assert np.isnan(reader.depth[:]).all()
    assert not np.isnan(open_dataset(path).depth[:]).any()


@pytest.mark.slow
def test_pixels_are_stored_and_left_out_in_files(tmp_path, spec):
    create_small(tmp_path / "stored.zarr", spec)
    create_small(tmp_path / "virtual.zarr", spec, virtual=True)
    for kind in ("stored", "virtual"):
        convert(tmp_path / f"{kind}.zarr", tmp_path / f"{kind}.h5")
    stored, virtual = ((tmp_path / f"{kind}.h5").read_bytes() for kind in ("stored", "virtual"))

    virtualize(tmp_path / "stored.zarr", tmp_path / "a.h5")
    virtualize(tmp_path / "stored.h5", tmp_path / "b.h5")
    assert (tmp_path / "a.h5").read_bytes() == (tmp_path / "b.h5").read_bytes() == virtual
    materialize_small(tmp_path / "virtual.zarr", tmp_path / "c.h5")
    materialize_small(tmp_path / "virtual.h5", tmp_path / "d.h5")
    assert (tmp_path / "c.h5").read_bytes() == (tmp_path / "d.h5").read_bytes() == stored
    virtualize(tmp_path / "stored.h5", tmp_path / "e.zarr")
    assert tree(tmp_path / "e.zarr") == tree(tmp_path / "virtual.zarr")

    with pytest.raises(KeyboardInterrupt):
        materialize_small(tmp_path / "a.h5", workers=1, on_event=Stop("checks", 0))
    (tmp_path / "a.h5.unfinished/image/c/1/0/0/0").unlink()
    assert (tmp_path / "a.h5").read_bytes() == virtual
    # What is stored already is not made again.
    assert 0 < materialize_small(tmp_path / "a.h5").written < 36
    assert (tmp_path / "a.h5").read_bytes() == stored
    assert not [name for name in names_in(tmp_path) if "unfinished" in name or "partial" in name]


def test_a_file_is_not_made_of_itself(tmp_path, files):
    path = Path(shutil.copy(files["depth"], tmp_path / "it.h5"))
    before = path.read_bytes()
    for call in (virtualize, materialize):
        with refused(SpecError, "target-is-source"):
            call(path, path, overwrite=True)
    assert path.read_bytes() == before
    assert names_in(tmp_path) == ["it.h5"]


@pytest.mark.slow
def test_a_folder_left_behind_never_replaces_another_file(tmp_path, spec, files, depth_model):
    path, folder = tmp_path / "it.h5", tmp_path / "it.h5.unfinished"
    with pytest.raises(KeyboardInterrupt):
        create_small(path, spec, on_event=Stop("samples", 0))
    shutil.copy(files["guided"], path)
    before = tree(tmp_path)
    said = rf"^{path} has changed since {folder} was begun, .* delete the one that you do not need"
    for call in (
        lambda: create_small(path, spec),
        lambda: create_small(path, spec, overwrite=True),
        lambda: fill_depth_small(path, depth_of(depth_model)),
        lambda: materialize_small(path),
    ):
        with refused(DatasetError, "staging-stale", said):
            call()
        assert tree(tmp_path) == before
    shutil.rmtree(folder)
    with pytest.raises(RecipeMismatchError):
        create_small(path, spec)
    assert names_in(tmp_path) == ["it.h5"]
    assert path.read_bytes() == files["guided"].read_bytes()


@pytest.mark.slow
def test_a_split_that_is_saved_while_depth_is_unfinished_is_not_lost(tmp_path, spec, depth_model):
    path, depth = tmp_path / "it.h5", depth_of(depth_model)
    create_small(path, spec)
    with pytest.raises(KeyboardInterrupt):
        fill_depth_small(path, depth, workers=1, on_event=Stop("depth", 0))
    open_dataset(path).save_split("mine", PARTS)
    with refused(DatasetError, "staging-stale"):
        fill_depth_small(path, depth)
    shutil.rmtree(tmp_path / "it.h5.unfinished")
    fill_depth_small(path, depth)
    assert "mine" in open_dataset(path).splits


@pytest.mark.slow
@kills
def test_a_file_that_is_killed_on_the_way_is_finished(processes, tmp_path, spec, depth_model):
    path, depth = tmp_path / "it.h5", depth_of(depth_model)
    create_small(tmp_path / "it.zarr", spec)
    convert(tmp_path / "it.zarr", tmp_path / "plain.h5")
    plain = (tmp_path / "plain.h5").read_bytes()
    fill_depth_small(tmp_path / "it.zarr", depth)
    convert(tmp_path / "it.zarr", tmp_path / "depth.h5")

    def another_one():
        with refused(DatasetError, "dataset-locked", rf"{path}:"):
            create_small(path, spec)

    killed(processes, create_small, "samples", 0, path, spec, workers=1, meanwhile=another_one)
    killed(processes, create_small, "samples", 1, path, spec, workers=1)
    killed(processes, create_small, "chunks", 2, path, spec, workers=1, meanwhile=another_one)
    assert not path.exists()
    create_small(path, spec)
    assert path.read_bytes() == plain
    # First it is unpacked, which is killed, too.
    for stage, n in (("chunks", 3), ("chunks", 5), ("depth", 0), ("depth", 1)):
        killed(processes, fill_depth_small, stage, n, path, depth, workers=1)
        assert path.read_bytes() == plain
        assert len(open_dataset(path)) == 36
    fill_depth_small(path, depth)
    assert path.read_bytes() == (tmp_path / "depth.h5").read_bytes()
    assert names_in(tmp_path) == ["depth.h5", "it.h5", "it.zarr", "plain.h5"]


@pytest.mark.slow
def test_a_kill_between_the_file_and_the_end_of_the_folder_is_nothing(
    tmp_path, spec, monkeypatch, depth_model
):
    path, depth, remove = tmp_path / "it.h5", depth_of(depth_model), shutil.rmtree

    def stop(folder):
        raise KeyboardInterrupt

    def stop_halfway(folder, *options):
        if Path(folder).name == ".it.h5.unfinished.removed" and folder.exists():
            remove(folder / "image")
            (folder / "zarr.json").unlink()
            raise KeyboardInterrupt
        remove(folder, *options)

    def once(is_begun, call, *arguments):
        with monkeypatch.context() as patch:
            if is_begun:
                patch.setattr(shutil, "rmtree", stop_halfway)
            else:
                patch.setattr(staging, "remove_folder", stop)
            with pytest.raises(KeyboardInterrupt):
                call(*arguments)
        left = ".it.h5.unfinished.removed" if is_begun else "it.h5.unfinished"
        assert names_in(tmp_path) == sorted(["it.h5", left])

    for is_begun in (False, True):
        once(is_begun, create, path, spec)
        before = path.read_bytes()
        create_small(path, spec)
        assert names_in(tmp_path) == ["it.h5"]
        assert path.read_bytes() == before
        once(is_begun, fill_depth, path, depth)
        filled = path.read_bytes()
        fill_depth_small(path, depth)
        assert names_in(tmp_path) == ["it.h5"]
        assert path.read_bytes() == filled != before
        path.unlink()


# --- the command -----------------------------------------------------------------------------------


def run(*arguments):
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


@pytest.mark.slow
def test_the_command_says_what_it_made(dataset, files, tmp_path):
    path, back = tmp_path / "it.h5", tmp_path / "it.zarr"
    done = run("convert", dataset, path)
    assert done.exit_code == 0
    assert "HDF5 file of 36 samples" in done.stdout
    assert "copied in" in done.stdout
    assert f"fgbgpack info {path}" in done.stdout
    assert "hdf5plugin" in done.stdout
    assert path.read_bytes() == files["plain"].read_bytes()
    assert "plugin" not in run("convert", dataset, path, "--portable").stdout
    done = run("convert", path, back, "--json")
    assert done.exit_code == 0
    told = json.loads(done.stdout)
    assert told["kind"] == "zarr"
    assert told["path"] == str(back)
    assert tree(back) == tree(dataset)
    assert run("convert", back, tmp_path / "quiet.h5", "--quiet").output == ""


def test_the_command_has_help():
    done = run("convert", "--help")
    assert done.exit_code == 0
    for word in ("DATASET", "DST", "--portable", "--overwrite", "--json", "lobby.h5"):
        assert word in done.stdout


@pytest.mark.slow
def test_the_command_exits_with_the_code_of_what_is_wrong(dataset, guided_dataset, tmp_path):
    def told(*arguments):
        done = run("convert", *arguments)
        assert "Traceback" not in done.output
        return done.exit_code, done.stderr

    path = tmp_path / "it.h5"
    code, said = told(tmp_path / "nothing.zarr", path)
    assert code == 4
    assert "no dataset at" in said
    code, said = told(dataset, tmp_path / "it.zarr")
    assert code == 2
    assert "are both Zarr" in said
    code, said = told(dataset, tmp_path / "it.zarr", "--portable")
    assert code == 2
    assert "portable" in said
    assert told(dataset, path, "--workers", "none")[0] == 2
    assert told(dataset, path)[0] == 0
    code, said = told(guided_dataset, path)
    assert code == 4
    assert "--overwrite" in said
    assert told(guided_dataset, path, "--overwrite")[0] == 0
    assert told(dataset)[0] == 2
    assert names_in(tmp_path) == ["it.h5"]


@pytest.mark.slow
@kills
def test_the_command_is_stopped_by_ctrl_c(guided_dataset, tmp_path):
    script = (
        "import sys, time\n"
        "from importlib import import_module\n"
        "convert = import_module('fgbgpack.pipeline.convert')\n"
        "made = convert.recode\n"
        "def slow(*given):\n"
        "    time.sleep(0.2)\n"
        "    return made(*given)\n"
        "convert.recode = slow\n"
        "from fgbgpack.cli import main\n"
        "main()\n"
    )
    command = [sys.executable, "-c", script, "convert", str(guided_dataset), str(tmp_path / "it.h5")]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    while not names_in(tmp_path):
        assert process.poll() is None
        time.sleep(0.01)
    process.send_signal(signal.SIGINT)
    said = process.communicate()[1]
    assert process.returncode == 130
    assert "interrupted: Nothing was written." in said
    assert "Traceback" not in said
    assert names_in(tmp_path) == []


@pytest.mark.slow
def test_a_command_that_changes_a_file_keeps_what_others_added(tmp_path, files, depth_model):
    path = Path(shutil.copy(files["plain"], tmp_path / "it.h5"))
    with h5py.File(path, "r+") as file:
        file["labels"] = np.arange(36)
        file["names"] = ["a", "b"]
    before = path.read_bytes()
    with refused(DatasetError, "own-array-unknown", "/names"):
        fill_depth_small(path, depth_of(depth_model))
    assert path.read_bytes() == before
    with h5py.File(path, "r+") as file:
        del file["names"]
    fill_depth_small(path, depth_of(depth_model))
    assert names_in(tmp_path) == ["it.h5"]
    assert open_dataset(path).document.depth is not None
    with h5py.File(path) as file:
        np.testing.assert_array_equal(file["labels"], np.arange(36))


@pytest.mark.parametrize("change", ["lacks an array", "is not there"])
def test_what_is_copied_follows_from_the_document(dataset, files, tmp_path, change):
    shutil.copytree(dataset, tmp_path / "it.zarr")
    root = json.loads((dataset / "zarr.json").read_text())
    if change == "is not there":
        del root["consolidated_metadata"]
    else:
        del root["consolidated_metadata"]["metadata"]["mask"]
    (tmp_path / "it.zarr/zarr.json").write_text(json.dumps(root))
    convert(tmp_path / "it.zarr", tmp_path / "it.h5")
    assert (tmp_path / "it.h5").read_bytes() == files["plain"].read_bytes()
