"""What is wrong with a dataset is found and named; what is sound is not blamed."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import damage
import numpy as np
import pytest
import zarr
from builders import SMALL_SHARDS, Stop, depth_of, tree
from kinds import MADE
from refusals import refused
from zarr.core.buffer.cpu import Buffer
from zarr.core.sync import sync
from zarr.storage import MemoryStore, ZipStore

from fgbgpack import create, open_dataset
from fgbgpack.document import VERIFIED
from fgbgpack.errors import DatasetError, IncompleteDatasetError, SpecError
from fgbgpack.pipeline import Progress, Verification, verify
from fgbgpack.visual.info import describe

KINDS = (*MADE, "depth-virtual", "guided-virtual", "split", "imported", "imported-plain")


def codes(found: Verification) -> set[tuple[str, str]]:
    """Each array with what is wrong with it."""
    return {(fault.array, fault.code) for fault in found.faults}


@pytest.fixture
def copy(kinds, tmp_path):
    """A dataset with guided depth of the test's own."""
    return shutil.copytree(kinds["guided"], tmp_path / "copy.zarr")


class TestSound:
    @pytest.mark.parametrize("kind", KINDS)
    def test_a_dataset_of_every_kind_is_sound(self, kinds, kind):
        before = tree(kinds[kind])
        found = verify(kinds[kind], workers=2)
        found.check()
        assert (found.sound, found.complete, found.faults) == (True, True, ())
        assert set(found.arrays) == set(damage.arrays(kinds[kind]))
        is_made = not kind.startswith("imported")
        assert found.placed == (36 if is_made else 0)
        assert found.recomposed == (36 if is_made and "virtual" not in kind else 0)
        assert tree(kinds[kind]) == before

    def test_every_object_and_chunk_is_counted(self, kinds):
        path = kinds["banded"]
        found, group = verify(path), zarr.open_group(path, mode="r")
        for name, counts in found.arrays.items():
            array = group[name]
            assert counts.objects == len(damage.objects(path, name)), name
            assert counts.chunks == int(np.prod(np.array(array.cdata_shape)[:2])), name

    def test_progress_counts_every_chunk_once(self, kinds):
        events = []
        found = verify(kinds["guided"], on_event=events.append, workers=1)
        steps = [event for event in events if isinstance(event, Progress) and event.stage == "verify"]
        total = sum(counts.chunks for counts in found.arrays.values())
        assert {event.total for event in steps} == {total}
        assert [steps[0].done, steps[-1].done] == [0, total]

    def test_any_zarr_store_is_verified(self, kinds, tmp_path):
        memory, path = MemoryStore(), kinds["guided"]
        with ZipStore(tmp_path / "it.zip", mode="w") as archive:
            for key, value in tree(path).items():
                for store in (memory, archive):
                    sync(store.set(key, Buffer.from_bytes(value)))
        assert verify(memory).sound
        assert verify(sync(ZipStore.open(tmp_path / "it.zip", mode="r"))).sound
        memory._store_dict["image/c/1/0/0/0"] = memory._store_dict["image/c/0/0/0/0"]
        del memory._store_dict["depth/c/0/0/0"]
        assert codes(verify(memory)) == {("image", "chunk-foreign"), ("depth", "chunk-missing")}

    @pytest.mark.parametrize("form", ["normal", "portable"])
    def test_an_hdf5_file_is_verified(self, kinds, form):
        found = verify(kinds.hdf5("guided", form))
        assert (found.sound, found.recomposed) == (True, 36)
        assert set(found.arrays) == set(damage.arrays(kinds["guided"]))

    def test_one_that_is_not_complete_is_sound_as_far_as_it_is_there(self, tmp_path, pictures, depth_model):
        path, spec = tmp_path / "it.zarr", pictures.spec(chunk=5, depth=depth_of(depth_model))
        with pytest.raises(KeyboardInterrupt):
            create(path, spec, workers=1, layout=SMALL_SHARDS, on_event=Stop("depth", 2))
        found = verify(path)
        assert (found.sound, found.complete) == (True, False)
        assert 0 < found.arrays["depth"].unwritten < found.arrays["depth"].objects
        assert found.recomposed == 36
        with refused(IncompleteDatasetError, "dataset-incomplete"):
            found.check()
        damage.flip(damage.objects(path, "depth")[0])
        damage.delete(damage.objects(path, "image")[1])
        assert codes(verify(path)) == {("depth", "checksum-wrong"), ("image", "chunk-missing")}


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["plain", "guided", "banded", "guided-virtual", "imported"])
class TestDamage:
    def test_any_damage_of_any_array_is_named(self, kinds, tmp_path, kind):
        for name in damage.arrays(kinds[kind]):
            for hurt, expected in damage.DAMAGES.items():
                path = next(damage.copies(kinds[kind], tmp_path))
                place = damage.objects(path, name)[-1]
                hurt(place)
                found = verify(path, workers=1)
                where = f"{hurt.__name__} of {name}: {found.faults}"
                assert not found.sound, where
                assert {array for array, _ in codes(found)} == {name}, where
                assert {code for _, code in codes(found)} <= expected, where
                assert {fault.key for fault in found.faults} == {place.relative_to(path).as_posix()}, where

    def test_objects_that_are_exchanged_or_of_another_time_are_named(self, kinds, tmp_path, kind):
        for name in damage.arrays(kinds[kind]):
            path = next(damage.copies(kinds[kind], tmp_path))
            if len(damage.objects(path, name)) > 1:
                damage.exchange(path, name)
                assert (name, "chunk-foreign") in codes(verify(path, workers=1)), name
            path = next(damage.copies(kinds[kind], tmp_path))
            damage.change_value(path, name)
            assert (name, "chunk-foreign") in codes(verify(path, workers=1)), name

    def test_metadata_that_changed_is_named(self, kinds, tmp_path, kind):
        for name in damage.arrays(kinds[kind]):
            path = next(damage.copies(kinds[kind], tmp_path))
            damage.change_metadata(path, name)
            assert codes(verify(path, workers=1)) == {(name, "metadata-foreign")}
            path = next(damage.copies(kinds[kind], tmp_path))
            (path / name / "zarr.json").unlink()
            assert codes(verify(path, workers=1)) == {(name, "array-missing")}
            path = next(damage.copies(kinds[kind], tmp_path))
            damage.change_copy(path, name)
            assert codes(verify(path, workers=1)) == {("", "metadata-foreign")}

    def test_a_manifest_that_is_lost_or_damaged_is_named(self, kinds, tmp_path, kind):
        path = next(damage.copies(kinds[kind], tmp_path))
        manifest = damage.manifest_folder(path)
        shutil.rmtree(manifest)
        name = manifest.relative_to(path).as_posix()
        assert codes(verify(path)) == {(name, "manifest-foreign"), (name, "metadata-foreign")}
        path = next(damage.copies(kinds[kind], tmp_path))
        damage.flip(damage.objects(path, name)[0])
        assert {array for array, _ in codes(verify(path))} == {name}


class TestValues:
    def test_the_first_faults_are_named_and_all_are_counted(self, copy):
        for place in damage.objects(copy, "image"):
            damage.flip(place)
        shutil.rmtree(copy / "depth/c")
        found = verify(copy)
        shards = found.arrays["image"].objects + found.arrays["depth"].objects
        assert found.fault_count == shards
        assert found.arrays["depth"].faulty == found.arrays["depth"].objects
        with refused(DatasetError, "dataset-damaged"):
            found.check()

    @pytest.mark.parametrize(
        ("name", "code"),
        [
            ("image", "pixels-differ"),
            ("mask", "pixels-differ"),
            ("depth", "extremes-differ"),
            ("depth_min", "extremes-differ"),
            ("x", "placements-differ"),
            ("flip", "placements-differ"),
            ("background", "placements-differ"),
            ("sources/background", "recipe-damaged"),
        ],
    )
    def test_values_that_were_accepted_are_compared_with_the_recipe(self, copy, name, code):
        array = zarr.open_array(copy / name, mode="r+")
        before = array[7 if name != "sources/background" else 1]
        array[7 if name != "sources/background" else 1] = (
            ~before if array.dtype == bool else before * 0 if name == "depth" else 1 - (before > 0)
        )
        accepted = verify(copy, accept=True)
        assert accepted.accepted
        assert accepted.changed[name] == 1
        found = verify(copy)
        assert {fault.code for fault in found.faults} == {code}
        if code not in ("recipe-damaged",):
            assert {fault.samples for fault in found.faults} == {(7, 8)}

    def test_values_out_of_range_are_named(self, copy):
        for name, value in (("x", 33), ("y", -1), ("foreground", 2), ("background", -1)):
            zarr.open_array(copy / name, mode="r+")[5] = value
        found = verify(copy)
        outside = {fault.array for fault in found.faults if fault.code == "placement-outside"}
        assert outside == {"x", "y", "foreground", "background"}
        assert not verify(copy, accept=True).accepted


class TestAgainst:
    def test_the_pictures_are_those_that_the_dataset_was_made_of(self, kinds, own_pictures):
        folders = [own_pictures.backgrounds, own_pictures.foregrounds]
        found = verify(kinds["plain"], against=folders)
        assert (found.sound, found.pictures) == (True, 5)
        (own_pictures.backgrounds / "b0.png").unlink()
        shutil.copyfile(own_pictures.foregrounds / "f1.png", own_pictures.foregrounds / "f0.png")
        found = verify(kinds["plain"], against=folders)
        assert {(fault.key, fault.code) for fault in found.faults} == {
            ("background/b0.png", "source-missing"),
            ("foreground/f0.png", "source-differs"),
        }


class TestDepth:
    @pytest.mark.parametrize("kind", ["depth", "guided", "guided-virtual"])
    def test_the_networks_give_the_same_depth_again(self, kinds, kind):
        found = verify(kinds[kind], depth=5, seed=1, device="cpu")
        assert (found.sound, found.depth_inferred) == (True, 5)
        assert verify(kinds[kind], depth=500, device="cpu").depth_inferred == 36

    def test_depth_of_something_else_is_named(self, copy):
        array = zarr.open_array(copy / "depth", mode="r+")
        low, high = array[7].min(), array[7].max()
        array[7] = np.clip(array[7][::-1], low, high)
        verify(copy, accept=True)
        assert verify(copy).sound
        found = verify(copy, depth=36, device="cpu")
        assert [(fault.code, fault.samples) for fault in found.faults] == [("depth-differs", (7, 8))]

    @pytest.mark.parametrize("kind", ["plain", "imported"])
    def test_where_no_network_filled_it_none_can_give_it_again(self, kinds, kind):
        with refused(SpecError, "depth-impossible"):
            verify(kinds[kind], depth=3)


class TestAccept:
    def test_what_another_tool_wrote_is_taken_as_right(self, copy):
        zarr.open_array(copy / "image", mode="r+")[3] = 7
        damage.change_metadata(copy, "mask")
        with refused(DatasetError, "metadata-foreign"):
            open_dataset(copy)
        found = verify(copy, accept=True)
        assert (found.sound, found.accepted) == (True, True)
        assert found.changed == {"image": 1, "mask": 1}
        assert (open_dataset(copy).image[3] == 7).all()

    def test_what_is_damaged_is_not(self, copy):
        damage.flip(damage.objects(copy, "mask")[0])
        before = tree(copy)
        found = verify(copy, accept=True)
        assert (found.sound, found.accepted) == (False, False)
        assert tree(copy) == before

    def test_a_document_that_was_edited_is_taken_too(self, copy):
        root = json.loads((copy / "zarr.json").read_text(encoding="utf-8"))
        root["attributes"]["fgbgpack"]["splits"] = {"a": {"by": "sample", "seed": 0, "parts": {"b": 0.5}}}
        (copy / "zarr.json").write_text(json.dumps(root), encoding="utf-8")
        assert codes(verify(copy)) == {("", "document-damaged")}
        assert verify(copy, accept=True).changed == {"document": 1}
        assert "a" in open_dataset(copy).splits

    def test_nothing_is_written_where_nothing_changed(self, copy):
        before = tree(copy)
        assert verify(copy, accept=True).changed == {}
        assert tree(copy) == before


class TestRecord:
    def test_the_dataset_says_when_it_was_verified_until_it_changes(self, copy):
        before, opened = tree(copy), open_dataset(copy)
        assert verify(copy, record=True).recorded
        after = tree(copy)
        assert {key for key in after if after[key] != before[key]} == {"zarr.json"}
        root = json.loads(after["zarr.json"])
        assert root["attributes"].pop(VERIFIED)["samples"] == 36
        assert root == json.loads(before["zarr.json"])
        assert (opened.image[:] == open_dataset(copy).image[:]).all()

    def test_one_that_is_not_sound_says_nothing(self, copy):
        damage.flip(damage.objects(copy, "mask")[0])
        before = tree(copy)
        assert not verify(copy, record=True).recorded
        assert tree(copy) == before


class TestInfo:
    def test_it_says_what_a_complete_dataset_lacks(self, copy):
        assert describe(open_dataset(copy))["faulty"] == {}
        damage.delete(damage.objects(copy, "image")[0])
        damage.exchange(copy, "mask")
        damage.delete(damage.objects(copy, "x")[0])
        found = describe(open_dataset(copy))
        counts = {name: len(damage.objects(copy, name)) for name in ("image", "mask")}
        assert found["faulty"] == {
            "image": {"objects": 1, "of": counts["image"] + 1},
            "mask": {"objects": 2, "of": counts["mask"]},
            "x": {"objects": 1, "of": 1},
        }
        assert found["arrays"]["image"]["filled"] < 36
        assert found["arrays"]["mask"]["filled"] < 36

    def test_it_says_when_a_dataset_was_verified_unless_it_has_changed_since(self, copy):
        assert describe(open_dataset(copy))["verified"] is None
        verify(copy, record=True)
        assert describe(open_dataset(copy))["verified"]["recomposed"] == 36
        zarr.open_array(copy / "mask", mode="r+")[3] = 7
        assert verify(copy, accept=True).accepted
        assert describe(open_dataset(copy))["verified"] is None

    def test_a_manifest_that_is_lost_does_not_keep_it_from_telling(self, copy):
        shutil.rmtree(damage.manifest_folder(copy))
        (path,) = describe(open_dataset(copy))["faulty"]
        assert path.startswith("manifest/")


@pytest.mark.parametrize("name", ["nothing.zarr", "pictures"])
def test_what_is_no_dataset_is_refused(tmp_path: Path, name: str) -> None:
    (tmp_path / "pictures").mkdir()
    (tmp_path / "pictures" / "a.png").write_bytes(b"")
    with refused(DatasetError, "dataset-missing" if name == "nothing.zarr" else "dataset-foreign"):
        verify(tmp_path / name)
