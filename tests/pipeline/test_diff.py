"""What is said to differ is what differs; the same samples in another form are equal."""

from __future__ import annotations

import dataclasses
import json
import shutil

import numpy as np
import pytest
import zarr
from builders import SMALL_SHARDS, Pictures, depth_of
from refusals import refused

from fgbgpack import create, fill_depth, open_dataset
from fgbgpack.errors import DatasetError, SpecError
from fgbgpack.pipeline import diff, verify


@pytest.fixture
def copy(kinds, tmp_path):
    return shutil.copytree(kinds["depth"], tmp_path / "copy.zarr")


def outcomes(found):
    return {name: array.outcome for name, array in found.arrays.items() if array.outcome != "same"}


class TestEqual:
    def test_a_copy_is_equal_by_checksums_and_nothing_is_decoded(self, kinds, copy):
        found = diff(kinds["depth"], copy)
        assert found.equal
        assert found.layout == ()
        assert {array.by for array in found.arrays.values()} == {"checksums"}
        assert json.loads(json.dumps(found.to_dict()))["equal"] is True

    @pytest.mark.parametrize("kind", ["depth", "guided", "imported"])
    def test_hdf5_is_equal_in_another_form(self, kinds, kind):
        found = diff(kinds[kind], kinds.hdf5(kind, "portable"))
        assert found.equal
        assert [one.what for one in found.layout] == ["form"]
        assert {array.by for array in found.arrays.values()} == {"values"}

    def test_a_virtual_twin_is_equal(self, kinds):
        found = diff(kinds["guided"], kinds["guided-virtual"])
        assert found.equal
        assert [(one.first, one.second) for one in found.layout] == [("stored", "virtual")]
        assert found.arrays["image"].by == "values"
        assert found.arrays["y"].by == "checksums"

    def test_two_virtual_ones_of_one_recipe_are_not_composed(self, kinds, tmp_path):
        twin = shutil.copytree(kinds["layered-virtual"], tmp_path / "twin.zarr")
        found = diff(kinds["layered-virtual"], twin)
        assert found.equal
        assert {found.arrays[name].by for name in ("image", "mask", "depth")} == {"recipe"}

    def test_other_chunks_are_another_form(self, kinds, pictures, tmp_path):
        create(tmp_path / "it.zarr", dataclasses.replace(kinds.specs["plain"], chunk=3), layout=SMALL_SHARDS)
        found = diff(kinds["plain"], tmp_path / "it.zarr")
        assert found.equal
        assert {one.what for one in found.layout} >= {"chunks of image", "chunks of mask"}

    def test_where_pictures_were_does_not_count(self, kinds, tmp_path):
        moved = Pictures(tmp_path / "moved")
        spec = dataclasses.replace(kinds.specs["plain"], backgrounds=str(moved.backgrounds))
        create(tmp_path / "it.zarr", spec, layout=SMALL_SHARDS)
        assert diff(kinds["plain"], tmp_path / "it.zarr").equal


class TestDiffering:
    def test_another_seed_moves_foregrounds(self, kinds):
        first, second = open_dataset(kinds["depth"]), open_dataset(kinds["depth-older"])
        found = diff(kinds["depth"], kinds["depth-older"], samples=36)
        assert not found.equal
        assert [one.what for one in found.spec] == ["seed"]
        assert [one.what for one in found.recipe] == ["digest"]
        assert (found.sources, found.splits) == ((), ())
        for name in ("image", "mask", "depth", "y", "x"):
            one, other = first.whole(name), second.whole(name)
            differs = (one != other).reshape(36, -1).any(axis=1)
            assert (found.arrays[name].outcome, found.arrays[name].samples) == ("differs", differs.sum())
            apart = np.abs(one.astype(np.float64) - other.astype(np.float64)).max()
            assert found.arrays[name].largest == apart
            assert {one.sample for one in found.samples if name in one.arrays} == set(
                np.flatnonzero(differs).tolist()
            )
        assert outcomes(found).keys() <= {"image", "mask", "depth", "depth_min", "depth_max", "y", "x"}
        for one in found.samples:
            assert (one.first["y"], one.first["x"]) == tuple(
                int(first.sample_arrays[axis][one.sample]) for axis in "yx"
            )

    def test_one_changed_sample_is_found_in_its_chunk(self, kinds, copy):
        zarr.open_array(copy / "mask", mode="r+")[17, 3, 4] ^= 1
        assert verify(copy, accept=True).accepted
        found = diff(kinds["depth"], copy)
        assert outcomes(found) == {"mask": "differs"}
        assert (found.arrays["mask"].samples, found.arrays["mask"].largest) == (1, 1.0)
        assert [(one.sample, one.arrays) for one in found.samples] == [(17, ("mask",))]
        assert diff(kinds["depth"], copy, samples=0).samples == ()

    def test_other_depth_is_told_by_network_and_values(self, kinds, copy, make_depth_model):
        fill_depth(copy, depth_of(make_depth_model(name="other", seed=3)), overwrite=True)
        found = diff(kinds["depth"], copy)
        assert "network" in {one.what for one in found.depth}
        assert set(outcomes(found)) == {"depth", "depth_min", "depth_max"}

    def test_depth_of_one_alone(self, kinds):
        found = diff(kinds["plain"], kinds["depth"])
        assert outcomes(found) == dict.fromkeys(("depth", "depth_min", "depth_max"), "second only")
        assert [(one.first, one.second) for one in found.depth] == [(None, "per-sample")]

    def test_another_picture_and_size(self, kinds, tmp_path):
        other = Pictures(tmp_path / "pictures")
        other.background("b1.png", 40, 60, seed=9)
        create(tmp_path / "it.zarr", other.spec(chunk=5), layout=SMALL_SHARDS)
        found = diff(kinds["plain"], tmp_path / "it.zarr")
        assert [one.what for one in found.sources] == ["background 1"]
        assert {one.sample // 12 for one in found.samples} == {1}
        create(tmp_path / "wide.zarr", other.spec(width=40), layout=SMALL_SHARDS)
        found = diff(kinds["plain"], tmp_path / "wide.zarr")
        assert outcomes(found)["image"] == "shape"
        assert "size" in {one.what for one in found.spec}

    def test_the_samples_of_a_spec_are_not_their_number(self, kinds, tmp_path, own_pictures):
        create(tmp_path / "it.zarr", own_pictures.spec(samples=6, chunk=5))
        names = [one.what for one in diff(kinds["plain"], tmp_path / "it.zarr").spec]
        assert {"number of samples", "samples"} <= set(names)
        assert len(set(names)) == len(names)

    def test_splits(self, kinds, copy):
        open_dataset(copy).save_split("fair", {"all": 1.0})
        found = diff(kinds["depth"], copy)
        assert not found.equal
        assert [(one.what, one.first) for one in found.splits] == [("fair", None)]
        assert outcomes(found) == {}

    def test_one_that_was_made_and_one_that_was_imported(self, kinds):
        found = diff(kinds["depth"], kinds["imported"])
        assert not found.equal
        assert outcomes(found)["name"] == "second only"
        assert outcomes(found)["y"] == "first only"


def test_what_cannot_be_compared_is_refused(kinds, tmp_path):
    with refused(DatasetError, "dataset-missing"):
        diff(kinds["plain"], tmp_path / "nothing.zarr")
    with refused(SpecError, "option-invalid"):
        diff(kinds["plain"], kinds["plain"], samples=-1)
