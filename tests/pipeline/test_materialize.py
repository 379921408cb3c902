"""From a virtual dataset to one that stores its pixels, and back: the same files, stopped anywhere or not."""

from __future__ import annotations

import random
import shutil
import sys
import time

import numpy as np
import pytest
import zarr
from builders import SMALL_SHARDS, Pictures, Stop, assert_same_files, depth_of, tree
from children import store_pixels
from killed_runs import SHARDS, Run
from kinds import MADE, layout_of
from refusals import refused
from sealing import accept, is_manifest
from stored import open_stored

from fgbgpack import create, open_dataset
from fgbgpack.errors import DatasetError, IncompleteDatasetError, RecipeMismatchError, SpecError
from fgbgpack.pipeline import Notice, materialize, virtualize
from fgbgpack.spec import DatasetSpec

N = 36
ARRAYS = ("image", "mask")


@pytest.mark.slow
@pytest.mark.parametrize("kind", MADE)
def test_materialized_it_is_as_if_it_had_never_been_virtual(tmp_path, kinds, kind):
    _, stored, virtual = kinds.twins(kind)
    before = tree(virtual)
    options = {"layout": layout_of(kind)}
    done = materialize(virtual, tmp_path / "other.zarr", workers=2, **options)
    assert (done.samples, done.written, done.checked, done.virtual) == (N, N, N, False)
    assert_same_files(tmp_path / "other.zarr", stored)
    assert tree(virtual) == before
    shutil.copytree(virtual, tmp_path / "itself.zarr")
    done = materialize(tmp_path / "itself.zarr", workers=1, **options)
    assert (done.written, done.total_bytes) == (N, sum(map(len, tree(stored).values())))
    assert_same_files(tmp_path / "itself.zarr", stored)


@pytest.mark.parametrize("kind", MADE)
def test_virtualized_it_is_as_if_it_had_never_been_stored(tmp_path, kinds, kind):
    _, stored, virtual = kinds.twins(kind)
    before = tree(stored)
    done = virtualize(stored, tmp_path / "v.zarr", workers=2)
    assert (done.samples, done.written, done.checked, done.virtual) == (N, 0, N, True)
    assert done.pixel_bytes == sum(len(before[name]) for name in before if name.split("/")[0] in ARRAYS)
    assert_same_files(tmp_path / "v.zarr", virtual)
    assert tree(stored) == before


@pytest.mark.slow
def test_what_is_done_already_is_not_done_again(tmp_path, kinds):
    _, stored, virtual = kinds.twins("depth")
    for run, source, kind, options in (
        (materialize, virtual, stored, {"layout": SMALL_SHARDS}),
        (virtualize, stored, virtual, {}),
    ):
        path = tmp_path / f"{run.__name__}.zarr"
        run(source, path, **options)
        notices = []
        done = run(source, path, on_event=notices.append, **options)
        assert (done.written, done.checked) == (0, 0)
        assert notices == [Notice(f"{path} is complete already.")]
        assert_same_files(path, kind)
    path = tmp_path / "materialize.zarr"
    assert materialize(path, layout=SMALL_SHARDS).written == 0


@pytest.mark.parametrize(("stage", "n"), [("samples", 0), ("samples", 1), ("checks", 0), ("checks", 1)])
def test_a_dataset_stays_virtual_and_whole_until_all_its_pixels_are_there(tmp_path, kinds, stage, n):
    _, stored, virtual = kinds.twins("depth")
    path = tmp_path / "it.zarr"
    shutil.copytree(virtual, path)
    with pytest.raises(KeyboardInterrupt):
        materialize(path, workers=1, layout=SMALL_SHARDS, on_event=Stop(stage, n))
    ds = open_dataset(path)
    assert ds.pixels == "recomposed"
    np.testing.assert_array_equal(ds.image[:], open_stored(stored).image[:])
    assert "image" not in zarr.open_group(path, mode="r")
    materialize(path, layout=SMALL_SHARDS)
    assert_same_files(path, stored)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("kind", "stage", "n"),
    [("depth", "samples", 1), ("depth", "checks", 0), ("depth", "depth", 1), ("guided", "backgrounds", 0)],
)
def test_a_copy_that_was_interrupted_is_not_taken_for_whole_and_resumed(tmp_path, kinds, kind, stage, n):
    _, stored, virtual = kinds.twins(kind)
    path = tmp_path / "it.zarr"
    with pytest.raises(KeyboardInterrupt):
        materialize(virtual, path, workers=1, layout=SMALL_SHARDS, on_event=Stop(stage, n))
    with refused(IncompleteDatasetError, "dataset-incomplete"):
        open_dataset(path)
    for run in (materialize, virtualize):
        with refused(IncompleteDatasetError, "dataset-incomplete"):
            run(path, tmp_path / "more.zarr")
    events = []
    materialize(virtual, path, layout=SMALL_SHARDS, on_event=events.append)
    assert Notice(f"Resuming {path}.") in events
    assert_same_files(path, stored)


@pytest.mark.slow
def test_what_a_copy_began_create_can_finish(tmp_path, kinds):
    spec, stored, virtual = kinds.twins("depth")
    with pytest.raises(KeyboardInterrupt):
        materialize(virtual, tmp_path / "it.zarr", workers=1, layout=SMALL_SHARDS, on_event=Stop("depth", 1))
    create(tmp_path / "it.zarr", spec, layout=SMALL_SHARDS)
    assert_same_files(tmp_path / "it.zarr", stored)


@pytest.mark.slow
def test_stale_shards_of_pixels_are_found_before_they_are_taken(tmp_path, kinds, pictures):
    _, stored, virtual = kinds.twins("plain")
    path = tmp_path / "it.zarr"
    shutil.copytree(virtual, path)
    create(tmp_path / "other.zarr", pictures.spec(chunk=5, seed=3), layout=SMALL_SHARDS)
    shutil.copytree(tmp_path / "other.zarr" / "mask" / "c", path / "mask" / "c")
    shutil.copytree(stored / "image" / "c", path / "image" / "c")
    with refused(DatasetError, "pixels-differ", "mask/c") as caught:
        materialize(path, layout=SMALL_SHARDS)
    assert caught.value.problems[0].startswith("/mask[0, ")
    assert open_dataset(path).pixels == "recomposed"
    shutil.rmtree(path / "mask" / "c")
    materialize(path, layout=SMALL_SHARDS)
    assert_same_files(path, stored)


class TestRefused:
    @pytest.mark.slow
    def test_another_dataset_is_replaced_only_when_told_to(self, tmp_path, kinds, pictures, depth_model):
        _, stored, virtual = kinds.twins("plain")
        path = tmp_path / "there.zarr"
        for run, source, spec, words in (
            (materialize, virtual, pictures.spec(chunk=5, seed=9), ["seed"]),
            (virtualize, stored, pictures.spec(chunk=5, placements=2), ["placements", "pixels"]),
            (virtualize, stored, pictures.spec(chunk=5), ["pixels"]),
            (materialize, virtual, pictures.spec(chunk=5, depth=depth_of(depth_model)), ["depth"]),
        ):
            create(path, spec, overwrite=True)
            before = tree(path)
            with refused(RecipeMismatchError, "dataset-differs", "--overwrite") as caught:
                run(source, path)
            assert all(word in "\n".join(caught.value.problems) for word in words)
            assert tree(path) == before
            run(source, path, overwrite=True)
            assert open_dataset(path).document.is_virtual == (run is virtualize)
            np.testing.assert_array_equal(open_stored(path).image[:], open_stored(stored).image[:])

    def test_a_dataset_is_not_replaced_by_itself(self, tmp_path, kinds):
        for run, path in ((materialize, kinds["plain-virtual"]), (virtualize, kinds["plain"])):
            before = tree(path)
            (tmp_path / run.__name__).symlink_to(path)
            for other in (path, tmp_path / run.__name__):
                with refused(SpecError, "target-is-source"):
                    run(path, other, overwrite=True)
            assert tree(path) == before

    def test_it_is_of_the_right_kind(self, tmp_path, kinds):
        _, stored, virtual = kinds.twins("plain")
        with refused(DatasetError, "pixels-stored"):
            materialize(stored, tmp_path / "it.zarr")
        with refused(DatasetError, "pixels-not-stored"):
            virtualize(virtual, tmp_path / "it.zarr")
        with refused(DatasetError, "dataset-missing", r"nothing\.zarr"):
            materialize(tmp_path / "nothing.zarr")
        (tmp_path / "full").mkdir()
        (tmp_path / "full" / "thesis.txt").write_text("mine")
        with refused(DatasetError, "dataset-foreign", r"thesis\.txt"):
            virtualize(stored, tmp_path / "full", overwrite=True)
        with refused(SpecError, "workers-invalid", "--workers is 0"):
            virtualize(stored, tmp_path / "it.zarr", workers=0)
        assert not (tmp_path / "it.zarr").exists()

    @pytest.mark.parametrize("part", ["sources/background", "sources/foreground", "x", "flip"])
    def test_a_recipe_that_is_damaged_is_not_gone_on_with(self, tmp_path, kinds, part):
        path = tmp_path / "it.zarr"
        shutil.copytree(kinds["plain-virtual"], path)
        array = zarr.open_array(path / part, mode="r+")
        first = (0,) * array.ndim
        array[first] = 1 - array[first] if part == "flip" else array[first] ^ 1
        with refused(DatasetError, "chunk-foreign", r"it\.zarr"):
            materialize(path)
        accept(path)
        with refused(DatasetError, "recipe-damaged", r"it\.zarr"):
            materialize(path)
        assert not (path / "image").exists()

    def test_pixels_that_are_not_of_the_recipe_are_named(self, tmp_path, kinds):
        _, stored, _ = kinds.twins("banded")
        path = tmp_path / "it.zarr"
        shutil.copytree(stored, path)
        images, masks = (zarr.open_array(path / name, mode="r+") for name in ARRAYS)
        was = images[30, 20, 2].tolist()
        images[30, 20, 2] = [1, 2, 3]
        masks[7, 9, 4] ^= 255
        images[7, 13, 32, 1] ^= 16
        accept(path)
        with refused(DatasetError, "pixels-differ") as caught:
            virtualize(path, tmp_path / "v.zarr")
        lines = caught.value.problems
        assert [line.split(":")[0] for line in lines] == [
            "/image[7, 13, 32]",
            "/mask[7, 9, 4]",
            "/image[30, 20, 2]",
        ]
        assert lines[2].endswith(f"found [1, 2, 3], expected {was}")
        assert not (tmp_path / "v.zarr").exists()
        images[10:20] = 0
        accept(path)
        with refused(DatasetError, "pixels-differ") as caught:
            virtualize(path, tmp_path / "v.zarr")
        assert len(caught.value.problems) == 6
        assert caught.value.problems[-1] == f"... 12 of {N} samples in all"

    def test_a_damaged_shard_is_named(self, tmp_path, kinds):
        _, stored, _ = kinds.twins("plain")
        path = tmp_path / "it.zarr"
        shutil.copytree(stored, path)
        shard = path / "mask" / "c" / "1" / "0" / "0"
        content = bytearray(shard.read_bytes())
        content[20] ^= 1
        shard.write_bytes(content)
        with refused(DatasetError, "checksum-wrong", "mask/c/1/0/0"):
            virtualize(path, tmp_path / "v.zarr")

    def test_damaged_depth_is_not_copied(self, tmp_path, kinds):
        _, stored, _ = kinds.twins("depth")
        path = tmp_path / "it.zarr"
        shutil.copytree(stored, path)
        (path / "depth" / "c" / "1" / "0" / "0").write_bytes(b"")
        with refused(DatasetError, "shard-damaged", "depth/c/1/0/0"):
            virtualize(path, tmp_path / "v.zarr")
        with refused(IncompleteDatasetError, "dataset-incomplete"):
            open_dataset(tmp_path / "v.zarr")


# --- killed ----------------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="there is no SIGKILL on Windows")
@pytest.mark.parametrize("in_place", [True, False])
def test_killed_at_random_it_is_resumed_to_the_same_bytes(tmp_path, processes, depth_model, in_place):
    pictures = Pictures(tmp_path / "large", 6, 4, size=(96, 128), patch=(60, 40))
    spec = pictures.spec(width=96, height=64, foreground_height=40, placements=16, chunk=6)
    spec = DatasetSpec.from_dict({**spec.to_dict(), "depth": vars(depth_of(depth_model))})
    stored, virtual, path = (tmp_path / f"{name}.zarr" for name in ("stored", "virtual", "it"))
    create(stored, spec, layout=SHARDS)
    create(virtual, spec, virtual=True, layout=SHARDS)
    expected = tree(stored)
    source, target = (path, None) if in_place else (virtual, path)
    if in_place:
        shutil.copytree(virtual, path)
    rng = random.Random(0)
    kills = 0
    for stage in ("samples", "checks", "samples"):
        one = Run(processes, store_pixels, source, target)
        if stage != "start":
            one.reach(stage)
        time.sleep(rng.uniform(0, 0.05))
        kills += one.kill()
        for name, content in tree(path).items() if path.exists() else ():
            if "/c/" in name and not name.endswith(".partial") and not is_manifest(name):
                assert content == expected[name], name
        if in_place:
            assert len(open_dataset(path)) == 6 * 4 * 32
    one = Run(processes, store_pixels, source, target)
    one.process.join()
    assert one.kill() is False
    assert kills > 0
    assert_same_files(path, stored)
