"""What a dataset has lost is written again with the same bytes; what nothing gives back is named."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import damage
import fsspec
import pytest
import zarr
from builders import SMALL_SHARDS, assert_same_files, tree
from refusals import refused

from fgbgpack import create, open_dataset
from fgbgpack.document import IMAGE, MASK, NAME, SOURCE_ARRAYS
from fgbgpack.errors import DatasetError, DepthModelError
from fgbgpack.pipeline import Repair, repair, verify
from fgbgpack.storage.arrays import ArrayForm
from fgbgpack.storage.sharding import read_index

MADE = ["plain", "depth", "guided", "banded", "guided-virtual"]
#: What an import cannot be given back without its files.
IMPORTED = (IMAGE, MASK, "depth", NAME)


def left(done: Repair) -> set[tuple[str, str]]:
    return {(one.fault.array, one.fault.code) for one in done.left}


@pytest.fixture
def copy(kinds, tmp_path):
    """A dataset with guided depth of the test's own."""
    return shutil.copytree(kinds["guided"], tmp_path / "copy.zarr")


class TestRestored:
    @pytest.mark.parametrize("kind", [*MADE, "imported"])
    def test_where_nothing_is_wrong_nothing_is_written(self, kinds, tmp_path, kind):
        path = next(damage.copies(kinds[kind], tmp_path))
        done = repair(path)
        assert (done.fault_count, done.restored, done.left) == (0, {}, ())
        assert_same_files(path, kinds[kind])

    @pytest.mark.slow
    @pytest.mark.parametrize("kind", MADE)
    def test_any_object_is_as_it_was(self, kinds, tmp_path, kind):
        for name in damage.arrays(kinds[kind]):
            for hurt in (damage.delete, damage.flip):
                path = next(damage.copies(kinds[kind], tmp_path))
                hurt(damage.objects(path, name)[-1])
                done = repair(path, device="cpu", workers=1)
                where = f"{hurt.__name__} of {name}: {done}"
                assert (done.left_count, done.differing) == (0, {}), where
                assert done.restored.get(name) == 1, where
                assert_same_files(path, kinds[kind])

    @pytest.mark.slow
    @pytest.mark.parametrize("kind", MADE)
    def test_objects_that_are_exchanged_or_changed_are_as_they_were(self, kinds, tmp_path, kind):
        for name in damage.arrays(kinds[kind]):
            path = next(damage.copies(kinds[kind], tmp_path))
            damage.change_value(path, name)
            if len(damage.objects(path, name)) > 1:
                damage.exchange(path, name)
            done = repair(path, device="cpu", workers=1)
            assert (done.left_count, done.differing) == (0, {}), (name, done)
            assert_same_files(path, kinds[kind])

    @pytest.mark.parametrize("kind", MADE)
    def test_all_that_a_dataset_holds_is_as_it_was(self, kinds, tmp_path, kind):
        path = next(damage.copies(kinds[kind], tmp_path))
        for name in damage.arrays(path):
            shutil.rmtree(path / name / "c")
        done = repair(path, device="cpu")
        assert (done.left_count, done.differing) == (0, {})
        assert set(done.restored) == set(damage.arrays(kinds[kind]))
        assert_same_files(path, kinds[kind])

    @pytest.mark.slow
    @pytest.mark.parametrize("kind", [*MADE, "imported"])
    def test_metadata_and_their_copies_are_as_they_were(self, kinds, tmp_path, kind):
        for hurt in (
            damage.change_metadata,
            damage.change_copy,
            lambda path, name: (path / name / "zarr.json").unlink(),
        ):
            path = next(damage.copies(kinds[kind], tmp_path))
            for name in damage.arrays(path):
                hurt(path, name)
            done = repair(path)
            assert (done.left_count, done.differing) == (0, {})
            assert_same_files(path, kinds[kind])

    @pytest.mark.parametrize("kind", [*MADE, "imported"])
    def test_a_manifest_that_is_lost_is_made_again(self, kinds, tmp_path, kind):
        path = next(damage.copies(kinds[kind], tmp_path))
        shutil.rmtree(path / "manifest")
        assert repair(path).left_count == 0
        assert_same_files(path, kinds[kind])

    def test_a_manifest_that_is_lost_with_shards_is_made_again(self, copy, kinds):
        shutil.rmtree(copy / "manifest")
        damage.flip(damage.objects(copy, "image")[1])
        damage.delete(damage.objects(copy, "depth")[1])
        done = repair(copy, device="cpu")
        assert (done.left_count, done.differing) == (0, {})
        assert_same_files(copy, kinds["guided"])

    def test_metadata_without_a_copy_follow_from_the_document(self, tmp_path, pictures):
        path = tmp_path / "it.zarr"
        create(path, pictures.spec())
        before = tree(path)
        damage.change_copy(path, "mask")
        damage.change_metadata(path, "mask")
        assert repair(path).left_count == 0
        assert tree(path) == before

    def test_a_remote_dataset_is_as_it_was(self, kinds):
        store, whole = fsspec.filesystem("memory"), tree(kinds["guided"])
        for key, value in whole.items():
            store.pipe(f"/repair.zarr/{key}", value)
        store.pipe("/repair.zarr/mask/c/1/0/0", whole["mask/c/0/0/0"])
        store.pipe("/repair.zarr/depth/c/0/0/0", whole["depth/c/0/0/0"][:-1])
        store.rm("/repair.zarr/image/c/2/0/0/0")
        done = repair("memory://repair.zarr", device="cpu")
        assert (done.left_count, done.differing) == (0, {})
        assert {key: store.cat(f"/repair.zarr/{key}") for key in whole} == whole

    def test_what_is_stopped_is_gone_on_with(self, copy, kinds):
        for place in damage.objects(copy, "image"):
            damage.flip(place)

        def stop(event):
            if getattr(event, "stage", "") == "samples" and event.done > 6:
                raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            repair(copy, on_event=stop, workers=1)
        assert repair(copy, device="cpu").left_count == 0
        assert_same_files(copy, kinds["guided"])

    def test_extremes_need_no_network(self, kinds, tmp_path):
        path = next(damage.copies(kinds["imported"], tmp_path))
        for name in ("depth_min", "depth_max"):
            shutil.rmtree(path / name / "c")
        assert repair(path).left_count == 0
        assert_same_files(path, kinds["imported"])


class TestLeft:
    @pytest.mark.slow
    def test_what_was_imported_stays_as_it_is(self, kinds, tmp_path):
        for name in IMPORTED:
            path = next(damage.copies(kinds["imported"], tmp_path))
            damage.flip(damage.objects(path, name)[0])
            before = tree(path)
            done = repair(path)
            assert left(done) == {(name, "checksum-wrong")}
            assert done.left[0].advice
            assert tree(path) == before
            with refused(DatasetError, "repair-incomplete"):
                done.check()

    def test_sources_need_the_pictures(self, tmp_path, own_pictures):
        path = tmp_path / "it.zarr"
        create(path, own_pictures.spec(chunk=5), layout=SMALL_SHARDS)
        whole = tree(path)
        moved = own_pictures.root.rename(tmp_path / "moved")
        damage.flip(damage.objects(path, SOURCE_ARRAYS[0])[0])
        damage.flip(damage.objects(path, "mask")[0])
        before = tree(path)
        assert left(repair(path)) == {(SOURCE_ARRAYS[0], "checksum-wrong"), ("mask", "checksum-wrong")}
        assert tree(path) == before
        wrong = repair(path, backgrounds=moved / "fg", foregrounds=moved / "bg")
        assert wrong.left_count == 2
        done = repair(path, backgrounds=moved / "bg", foregrounds=moved / "fg")
        assert done.left_count == 0
        assert tree(path) == whole

    def test_depth_needs_its_network(self, tmp_path, pictures, make_depth_model):
        from builders import depth_of

        model = make_depth_model()
        path = tmp_path / "it.zarr"
        create(path, pictures.spec(chunk=5, depth=depth_of(model)), layout=SMALL_SHARDS)
        model.rename(model.with_name("gone.onnx"))
        damage.flip(damage.objects(path, "depth")[0])
        damage.flip(damage.objects(path, "image")[0])
        done = repair(path)
        assert left(done) == {("depth", "checksum-wrong")}
        assert done.restored == {"image": 1}
        found = verify(path)
        assert {fault.array for fault in found.faults} == {"depth"}
        model.with_name("gone.onnx").rename(model)
        assert repair(path, device="cpu").left_count == 0
        assert verify(path).sound

    def test_depth_of_another_network_is_not_written(self, tmp_path, pictures, make_depth_model):
        from builders import depth_of

        path = tmp_path / "it.zarr"
        create(path, pictures.spec(chunk=5, depth=depth_of(make_depth_model())), layout=SMALL_SHARDS)
        make_depth_model(seed=3)
        damage.flip(damage.objects(path, "depth")[0])
        before = tree(path)
        assert left(repair(path)) == {("depth", "checksum-wrong")}
        assert tree(path) == before

    @pytest.mark.parametrize("place", [9, -1])
    def test_depth_that_fails_on_the_way_stays_as_it_is(self, copy, monkeypatch, place):
        from fgbgpack.pipeline.depth import DepthStage

        def fail(self, run, monitor):
            if run.start:
                raise DepthModelError("the device is out of memory", code="inference-failed")
            return encode(self, run, monitor)

        first, second = damage.objects(copy, "depth")[:2]
        whole, gone = first.read_bytes(), damage.objects(copy, "depth")[2]
        layout = ArrayForm.of(json.loads((copy / "depth/zarr.json").read_text()), "depth").layout
        end = int(read_index(whole, len(whole), layout.grid, "depth").reshape(-1, 2)[0].sum())
        content = bytearray(whole)
        # In the first of its chunks, or in the checksum of that.
        content[place if place > 0 else end + place] ^= 4
        first.write_bytes(content)
        damage.flip(second)
        damage.delete(gone)
        before = tree(copy)
        damage.flip(damage.objects(copy, "image")[0])
        encode = DepthStage.encode
        monkeypatch.setattr(DepthStage, "encode", fail)
        done = repair(copy, device="cpu", workers=1)
        assert left(done) == {("depth", "checksum-wrong"), ("depth", "chunk-missing")}
        assert done.restored == {"image": 1}
        assert tree(copy) == before
        monkeypatch.undo()
        first.write_bytes(whole)
        assert repair(copy, device="cpu").restored == {"depth": 2, "depth_max": 2, "depth_min": 2}
        assert verify(copy).sound

    def test_what_was_accepted_stays_as_it_is(self, copy):
        zarr.open_array(copy / "image", mode="r+")[3] = 7
        assert verify(copy, accept=True).accepted
        before = tree(copy)
        assert left(repair(copy)) == {("image", "pixels-differ")}
        assert tree(copy) == before

    def test_a_document_that_is_damaged_is_not_built_on(self, copy):
        text = (copy / "zarr.json").read_text(encoding="utf-8")
        (copy / "zarr.json").write_text(text.replace('"seed": 0', '"seed": 1', 1), encoding="utf-8")
        before = tree(copy)
        assert ("", "document-damaged") in left(repair(copy))
        assert tree(copy) == before


def test_what_differs_from_before_is_told(copy, monkeypatch):
    # As another version of ONNX Runtime does: other numbers, each within the grid.
    from fgbgpack.pipeline import depth as stage

    damage.delete(damage.objects(copy, "depth")[0])
    encode = stage.DepthStage.encode

    def other(self, run, monitor):
        chunks, extremes = encode(self, run, monitor)
        if run.start == 0:
            extremes[0, 0] += 1
        return chunks, extremes

    monkeypatch.setattr(stage.DepthStage, "encode", other)
    done = repair(copy, device="cpu")
    assert done.differing == {"depth_min": 1}
    assert done.left_count == 0
    open_dataset(copy)
    monkeypatch.undo()
    assert {fault.code for fault in verify(copy).faults} == {"extremes-differ"}


@pytest.mark.parametrize("name", ["nothing.zarr", "pictures"])
def test_what_is_no_dataset_is_refused(tmp_path: Path, name: str) -> None:
    (tmp_path / "pictures").mkdir()
    (tmp_path / "pictures" / "a.png").write_bytes(b"")
    with refused(DatasetError, "dataset-missing" if name == "nothing.zarr" else "dataset-foreign"):
        repair(tmp_path / name)
    assert not (tmp_path / "nothing.zarr").exists()


@pytest.mark.parametrize("kind", ["plain", "guided"])
def test_create_goes_on_writing_what_is_missing(kinds, tmp_path, kind):
    path = next(damage.copies(kinds[kind], tmp_path))
    damage.delete(damage.objects(path, "image")[0])
    create(path, kinds.specs[kind], layout=SMALL_SHARDS)
    assert_same_files(path, kinds[kind])
