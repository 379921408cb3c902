"""HDF5 files that are damaged are repaired with the same bytes; those that others changed can be accepted."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from functools import partial
from pathlib import Path

import h5py
import hdf5plugin  # noqa: F401 - its filters are what chunks are written with
import numpy as np
import pytest
from builders import SMALL_SHARDS, assert_same_arrays, names_in
from damage import flip_hdf5_chunk, put_bytes
from kinds import layout_of
from refusals import refused

from fgbgpack import create, fill_depth, open_dataset
from fgbgpack.document import IMAGE, MASK, SOURCE_ARRAYS
from fgbgpack.errors import DatasetError, FgbgError, IncompleteDatasetError
from fgbgpack.pipeline import Notice, convert, repair, verify
from fgbgpack.storage.hdf5 import Hdf5Store
from fgbgpack.storage.hdf5.parts import find_front

FORMS = ("normal", "portable")
MADE = ("plain", "depth", "guided", "guided-virtual")


@pytest.fixture
def own(kinds, tmp_path):
    """A function that copies a dataset as HDF5 for the test alone."""

    def copy(kind="guided", form="normal"):
        return Path(shutil.copy(kinds.hdf5(kind, form), tmp_path / "own.h5"))

    return copy


def parts_of(path: Path) -> tuple[int, int, tuple[int, int]]:
    """Offset and size of a slot of the document, and of the index."""
    with path.open("rb") as file:
        front = find_front(file.fileno())
    assert front is not None
    return front.at, front.capacity, front.index


def cut(path: Path, share: float) -> None:
    os.truncate(path, int(path.stat().st_size * share))


def damage_index(path: Path) -> None:
    offset, size = parts_of(path)[2]
    put_bytes(path, offset + size // 2, b"\xff" * 40)


def damage_slots(path: Path) -> None:
    at, capacity, _ = parts_of(path)
    for number in range(2):
        put_bytes(path, at + number * capacity + 700, b"\xff" * 40)


def damage_rest(path: Path) -> None:
    """Damage what only the HDF5 library reads: where the root group is."""
    put_bytes(path, 12, b"\xff" * 30)


def damage_signature(path: Path) -> None:
    put_bytes(path, 0, b"not HDF5")


def notices(call: Callable[..., object], *arguments: object, **options: object) -> list[str]:
    told = []
    call(*arguments, on_event=told.append, **options)
    return [event.message for event in told if isinstance(event, Notice)]


class TestRepair:
    @pytest.mark.parametrize("form", FORMS)
    def test_where_nothing_is_wrong_nothing_is_written(self, own, kinds, tmp_path, form):
        path = own(form=form)
        before = path.stat()
        done = repair(path)
        assert (done.fault_count, done.restored, done.left) == (0, {}, ())
        assert path.stat().st_ino == before.st_ino
        assert path.stat().st_mtime_ns == before.st_mtime_ns
        assert names_in(tmp_path) == ["own.h5"]

    @pytest.mark.parametrize("form", FORMS)
    @pytest.mark.parametrize("kind", MADE)
    def test_a_damaged_chunk_of_any_array_is_as_it_was(self, own, kinds, tmp_path, kind, form):
        path = own(kind, form)
        arrays = [
            name
            for name, array in Hdf5Store(path).file.arrays.items()
            if array.span(0) and not name.startswith("manifest/")
        ]
        for name in arrays:
            flip_hdf5_chunk(path, name)
        assert not verify(path).sound
        done = repair(path, device="cpu")
        assert (done.left_count, done.differing) == (0, {})
        assert set(done.restored) == set(arrays)
        assert path.read_bytes() == kinds.hdf5(kind, form).read_bytes()
        assert names_in(tmp_path) == ["own.h5"]

    @pytest.mark.parametrize("form", FORMS)
    def test_a_damaged_manifest_is_as_it_was(self, own, kinds, form):
        path = own(form=form)
        (manifest,) = (name for name in Hdf5Store(path).file.arrays if name.startswith("manifest/"))
        flip_hdf5_chunk(path, manifest)
        assert repair(path).left_count == 0
        assert path.read_bytes() == kinds.hdf5("guided", form).read_bytes()

    @pytest.mark.parametrize("form", FORMS)
    @pytest.mark.parametrize("hurt", [damage_index, damage_rest, damage_signature])
    def test_what_says_where_the_chunks_are_is_as_it_was(self, own, kinds, hurt, form):
        path = own(form=form)
        hurt(path)
        done = repair(path)
        assert (done.left_count, done.differing) == (0, {})
        assert set(done.restored) == {"fgbgpack"}
        assert path.read_bytes() == kinds.hdf5("guided", form).read_bytes()

    @pytest.mark.parametrize("share", [0.95, 0.7, 0.4])
    def test_a_file_that_is_cut_short_is_as_it_was(self, own, kinds, tmp_path, share):
        path = own()
        cut(path, share)
        with refused(DatasetError, "file-cut-short"):
            open_dataset(path)
        done = repair(path, device="cpu")
        assert (done.left_count, done.differing) == (0, {})
        assert path.read_bytes() == kinds.hdf5("guided").read_bytes()
        # Nobody can say whether others had added something.
        assert names_in(tmp_path) == ["own.h5", "own.h5.damaged"]

    @pytest.mark.parametrize("form", FORMS)
    def test_an_index_that_is_lost_is_found(self, own, form):
        path = own(form=form)
        damage_index(path)
        found = verify(path)
        assert [(fault.array, fault.code) for fault in found.faults] == [("fgbgpack", "file-damaged")]

    def test_without_sources_the_pictures_give_them_back(self, own, kinds, tmp_path, pictures):
        path = own("plain")
        for name in SOURCE_ARRAYS:
            flip_hdf5_chunk(path, name)
        flip_hdf5_chunk(path, MASK)
        whole, before = kinds.hdf5("plain").read_bytes(), path.read_bytes()
        done = repair(path, backgrounds=tmp_path, foregrounds=pictures.foregrounds)
        assert done.left_count == len(SOURCE_ARRAYS) + 1
        assert done.restored == {}
        assert path.read_bytes() == before
        assert names_in(tmp_path) == ["own.h5"]
        assert repair(path).left_count == 0
        assert path.read_bytes() == whole

    def test_what_an_import_has_lost_is_named_and_the_file_stays(self, own, tmp_path):
        path = own("imported")
        flip_hdf5_chunk(path, IMAGE)
        flip_hdf5_chunk(path, "depth_min")
        before = path.read_bytes()
        told = notices(repair, path)
        assert any("stays as it is" in line for line in told)
        done = repair(path)
        assert [one.fault.array for one in done.left] == [IMAGE]
        assert "fgbgpack import" in done.left[0].advice
        assert (done.fault_count, done.restored) == (2, {})
        with refused(DatasetError, "repair-incomplete"):
            done.check()
        assert path.read_bytes() == before
        assert names_in(tmp_path) == ["own.h5"]

    @pytest.mark.parametrize("form", FORMS)
    def test_a_lost_document_is_one_clear_error(self, own, pictures, kinds, tmp_path, form):
        path = own("plain", form)
        damage_slots(path)
        before = path.read_bytes()
        calls = (
            partial(repair, path),
            partial(create, path, kinds.specs["plain"]),
            partial(create, path, kinds.specs["plain"], overwrite=True),
            partial(fill_depth, path),
            partial(verify, path),
            partial(verify, path, accept=True),
        )
        for call in calls:
            with refused(DatasetError, "document-damaged", "Restore it from a copy"):
                call()
        assert path.read_bytes() == before
        assert names_in(tmp_path) == ["own.h5"]

    def test_one_copy_of_the_document_is_enough(self, own, kinds):
        path = own()
        at, *_ = parts_of(path)
        put_bytes(path, at + 700, b"\xff" * 40)
        flip_hdf5_chunk(path, IMAGE, 3)
        assert repair(path).left_count == 0
        assert path.read_bytes() == kinds.hdf5("guided").read_bytes()

    def test_what_others_added_and_saved_splits_are_kept(self, own, kinds):
        path = own()
        open_dataset(path).save_split("mine", {"a": 0.5, "b": 0.5})
        with h5py.File(path, "r+") as file:
            file["labels"] = np.arange(36)
            file["labels"].attrs["unit"] = "none"
            file["labels"].attrs["weights"] = [0.5, 2.0]
            file.create_group("mine").attrs["of"] = 3
        flip_hdf5_chunk(path, IMAGE, 2)
        assert repair(path).left_count == 0
        with h5py.File(path) as file:
            assert file["labels"][:].tolist() == list(range(36))
            assert file["labels"].attrs["unit"] == "none"
            assert file["labels"].attrs["weights"].tolist() == [0.5, 2.0]
            assert file["mine"].attrs["of"] == 3
        ds = open_dataset(path)
        assert list(ds.splits) == ["mine"]
        assert_same_arrays(ds.to_numpy(), open_dataset(kinds["guided"]).to_numpy())

    def test_a_kill_in_mid_repair_leaves_the_file_and_is_gone_on_with(
        self, own, kinds, tmp_path, monkeypatch
    ):
        path = own()
        flip_hdf5_chunk(path, IMAGE, 2)
        before = path.read_bytes()

        def stop(event: object) -> None:
            if getattr(event, "stage", "") == "samples":
                raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            repair(path, on_event=stop)
        assert path.read_bytes() == before
        assert repair(path).left_count == 0
        assert path.read_bytes() == kinds.hdf5("guided").read_bytes()
        assert names_in(tmp_path) == ["own.h5"]

    def test_what_another_command_has_begun_is_finished_first(self, own, kinds, tmp_path):
        path = own("plain")

        def stop(event: object) -> None:
            if getattr(event, "stage", "") == "depth":
                raise KeyboardInterrupt

        depth = partial(fill_depth, path, kinds.specs["depth"].depth, layout=SMALL_SHARDS, device="cpu")
        with pytest.raises(KeyboardInterrupt):
            depth(on_event=stop)
        flip_hdf5_chunk(path, IMAGE)
        with refused(IncompleteDatasetError, "dataset-incomplete", "own.h5.unfinished"):
            repair(path)
        # It has copied the chunk when that was sound.
        depth()
        assert verify(path).sound
        assert names_in(tmp_path) == ["own.h5"]


class TestTheSameCommandAgain:
    """What makes a file, or fills its depth, writes again what is missing of it."""

    @pytest.mark.parametrize("form", FORMS)
    @pytest.mark.parametrize("kind", ["guided", "guided-virtual"])
    def test_create_mends_chunks(self, own, kinds, tmp_path, kind, form):
        path = own(kind, form)
        for name, array in Hdf5Store(path).file.arrays.items():
            if array.span(0) and not name.startswith("manifest/"):
                flip_hdf5_chunk(path, name)
        spec = kinds.specs["guided"]
        create(path, spec, layout=layout_of(kind), device="cpu", virtual=kind.endswith("virtual"))
        assert path.read_bytes() == kinds.hdf5(kind, form).read_bytes()
        assert names_in(tmp_path) == ["own.h5"]

    @pytest.mark.parametrize("share", [0.9, 0.75])
    def test_create_finishes_a_file_that_is_cut_short(self, own, kinds, share):
        path = own()
        cut(path, share)
        create(path, kinds.specs["guided"], layout=layout_of("guided"), device="cpu")
        assert path.read_bytes() == kinds.hdf5("guided").read_bytes()

    def test_without_a_manifest_create_says_what_to_do(self, own, kinds, tmp_path):
        path = own()
        (manifest,) = (name for name in Hdf5Store(path).file.arrays if name.startswith("manifest/"))
        flip_hdf5_chunk(path, manifest)
        before = path.read_bytes()
        with refused(DatasetError, "manifest-foreign", "fgbgpack repair"):
            create(path, kinds.specs["guided"], layout=layout_of("guided"), device="cpu")
        assert path.read_bytes() == before
        assert names_in(tmp_path) == ["own.h5"]

    @pytest.mark.parametrize("hurt", [damage_index, damage_rest, damage_signature])
    def test_create_mends_what_says_where_the_chunks_are(self, own, kinds, hurt):
        path = own()
        hurt(path)
        create(path, kinds.specs["guided"], layout=layout_of("guided"), device="cpu")
        assert path.read_bytes() == kinds.hdf5("guided").read_bytes()

    def test_depth_mends_depth(self, own, kinds):
        path = own()
        flip_hdf5_chunk(path, "depth", 1)
        flip_hdf5_chunk(path, "depth_max")
        fill_depth(path, kinds.specs["guided"].depth, layout=SMALL_SHARDS, device="cpu")
        assert path.read_bytes() == kinds.hdf5("guided").read_bytes()

    def test_depth_refuses_damaged_images_and_create_mends_them(self, own, kinds, tmp_path):
        path = own()
        flip_hdf5_chunk(path, IMAGE, 1)
        before = path.read_bytes()
        with refused(DatasetError, "dataset-incomplete", "fgbgpack create"):
            fill_depth(path, kinds.specs["guided"].depth, layout=SMALL_SHARDS, device="cpu")
        assert path.read_bytes() == before
        create(path, kinds.specs["guided"], layout=layout_of("guided"), device="cpu")
        assert path.read_bytes() == kinds.hdf5("guided").read_bytes()
        assert names_in(tmp_path) == ["own.h5"]


def change(path: Path, array: str, sample: int) -> None:
    """Another program changes a sample; h5py may give its chunk another place."""
    with h5py.File(path, "r+") as file:
        file[array][sample] = np.random.default_rng(0).integers(0, 255, file[array].shape[1:])


class TestAccept:
    @pytest.mark.parametrize("form", FORMS)
    def test_an_array_that_h5py_has_changed_is_refused_and_can_be_accepted(self, own, kinds, tmp_path, form):
        path = own(form=form)
        change(path, MASK, 3)
        with h5py.File(path) as file:
            expected = file[MASK][:]
        with refused(DatasetError, "file-changed", "--accept"):
            verify(path)
        done = verify(path, accept=True, record=True)
        assert (done.sound, dict(done.changed)) == (True, {MASK: 1})
        ds = open_dataset(path)
        assert Hdf5Store(path).file.sealed
        np.testing.assert_array_equal(ds.mask[:], expected)
        np.testing.assert_array_equal(ds.image[:], open_dataset(kinds["guided"]).image[:])
        assert Hdf5Store(path).file.portable == (form == "portable")
        assert names_in(tmp_path) == ["own.h5"]
        assert {fault.code for fault in verify(path).faults} == {"pixels-differ"}
        # It goes to Zarr with its manifest.
        convert(path, tmp_path / "it.zarr")
        assert {fault.code for fault in verify(tmp_path / "it.zarr").faults} == {"pixels-differ"}
        np.testing.assert_array_equal(open_dataset(tmp_path / "it.zarr").mask[:], expected)

    def test_a_change_that_leaves_a_chunk_where_it_was_is_no_damage(self, own, kinds):
        path = own()
        with h5py.File(path, "r+") as file:
            # As long as before, and so at the same place.
            file["flip"][:] = file["flip"][:][::-1]
            expected = file["flip"][:]
        found = verify(path)
        assert {(fault.array, fault.code) for fault in found.faults} == {("flip", "chunk-foreign")}
        with refused(DatasetError, "dataset-damaged", "--accept"):
            found.check()
        assert dict(verify(path, accept=True).changed) == {"flip": 1}
        np.testing.assert_array_equal(open_dataset(path).whole("flip"), expected)

    @pytest.mark.parametrize("form", FORMS)
    def test_of_a_sound_file_nothing_is_written(self, own, tmp_path, form):
        path = own(form=form)
        before = path.stat().st_ino
        done = verify(path, accept=True)
        assert (done.sound, done.accepted, dict(done.changed)) == (True, True, {})
        assert path.stat().st_ino == before
        assert names_in(tmp_path) == ["own.h5"]

    def test_what_is_damaged_is_not_accepted(self, own, tmp_path):
        path = own()
        change(path, MASK, 3)
        with h5py.File(path) as file:
            offset = file[IMAGE].id.get_chunk_info(0).byte_offset
        put_bytes(path, offset + 5, bytes([path.read_bytes()[offset + 5] ^ 4]))
        before = path.read_bytes()
        with refused(DatasetError, "checksum-wrong"):
            verify(path, accept=True)
        assert path.read_bytes() == before
        assert names_in(tmp_path) == ["own.h5"]

    def test_a_change_that_is_not_accepted_is_undone_by_repair(self, own, kinds):
        path = own()
        change(path, MASK, 3)
        assert repair(path).left_count == 0
        assert path.read_bytes() == kinds.hdf5("guided").read_bytes()

    def test_an_array_that_is_cut_otherwise_is_refused_with_what_to_do(self, own):
        path = own()
        with h5py.File(path, "r+") as file:
            values = file[MASK][:]
            del file[MASK]
            file[MASK] = values
        with pytest.raises(FgbgError) as caught:
            verify(path, accept=True)
        assert caught.value.code == "array-foreign"
