"""Statistics are those of all pixels, whatever the dataset, and are kept until it changes."""

from __future__ import annotations

import dataclasses
import json
import math
import shutil
from decimal import Decimal, localcontext
from fractions import Fraction

import damage
import numpy as np
import pytest
from builders import SMALL_SHARDS, Pictures, depth_of, tree
from hypothesis import given
from hypothesis import strategies as st
from naive_stats import assert_are_of, naive_counts, naive_sums
from refusals import refused

from fgbgpack import create, fill_depth, open_dataset, schema
from fgbgpack.cards import write_cards
from fgbgpack.dataset import measuring, selection
from fgbgpack.dataset.kept_stats import STATS
from fgbgpack.dataset.stats import Stats, quartiles, root
from fgbgpack.dataset.stats_kernels import add_depths, add_images, add_masks, fill_reference
from fgbgpack.errors import IncompleteDatasetError, SpecError
from fgbgpack.pipeline import convert, verify
from fgbgpack.visual.info import describe


@pytest.fixture(scope="module")
def scenes(pictures, tmp_path_factory, depth_model):
    """Scenes in several categories, with depth in layers."""
    folder = tmp_path_factory.mktemp("scenes")
    own = Pictures(folder / "pictures")
    for i in range(3):
        (own.foregrounds / f"kind{i % 2}").mkdir(exist_ok=True)
        own.foreground(f"kind{i % 2}/more{i}.png", 24, 14 + i, seed=50 + i)
    spec = own.spec(
        samples=50,
        objects="1-3",
        empty=0.2,
        foreground_height="6-12",
        overlap=0.9,
        classes=True,
        depth=depth_of(depth_model, mode="layered", scale=2),
    )
    create(folder / "it.zarr", spec, layout=SMALL_SHARDS)
    return folder / "it.zarr"


@pytest.fixture
def copy(kinds, tmp_path):
    """A dataset of 36 samples with depth and two splits."""
    return shutil.copytree(kinds["split"], tmp_path / "copy.zarr")


def unfinish(path):
    """Have the document of a dataset say that pixels are still being written."""
    node = json.loads((path / "zarr.json").read_text(encoding="utf-8"))
    document = node["attributes"]["fgbgpack"]
    document["complete"] = document["pixels"]["complete"] = False
    (path / "zarr.json").write_text(json.dumps(node), encoding="utf-8")


class TestCounting:
    @pytest.mark.parametrize("kind", ["plain", "guided", "banded", "layered-virtual", "imported", "scenes"])
    def test_statistics_are_those_of_the_whole_arrays(self, kinds, scenes, kind):
        ds = open_dataset(scenes if kind == "scenes" else kinds[kind])
        found, all_of = ds.stats(), ds.to_numpy()
        assert_are_of(found.whole, all_of["image"], all_of["mask"], all_of.get("depth"))
        assert (found.total, found.height, found.width) == (len(ds), ds.height, ds.width)
        if found.whole.depth is not None:
            assert found.whole.depth.quantity == ds.depth.attrs["quantity"]
        seen = (all_of["mask"] > 127).sum(axis=0)
        rows = [i * ds.height // len(found.places) for i in range(len(found.places) + 1)]
        columns = [i * ds.width // len(found.places[0]) for i in range(len(found.places[0]) + 1)]
        for i, row in enumerate(found.places):
            for j, count in enumerate(row):
                cell = seen[rows[i] : rows[i + 1], columns[j] : columns[j + 1]]
                assert count == cell.sum()
        assert schema.problems("stats", found.to_dict()) == []
        assert Stats.from_dict(json.loads(json.dumps(found.to_dict()))) == found

    def test_an_hdf5_file_has_those_of_its_zarr_dataset(self, kinds):
        found = open_dataset(kinds.hdf5("depth")).stats()
        assert found.whole == open_dataset(kinds["depth"]).stats().whole

    @pytest.mark.parametrize("cores", [1, 3])
    def test_threads_and_the_order_of_work_do_not_show(self, kinds, monkeypatch, cores):
        expected = open_dataset(kinds["depth"]).stats()
        monkeypatch.setattr(measuring, "usable_cores", lambda: cores)
        monkeypatch.setattr(measuring, "_READ_BYTES", 1)
        monkeypatch.setattr(measuring, "_TOGETHER", 3)
        told = []
        found = open_dataset(kinds["depth"]).stats(on_samples=lambda *done: told.append(done))
        assert found == expected
        assert told[0] == (0, 36)
        assert told[-1] == (36, 36)

    def test_objects_of_scenes_are_counted(self, scenes):
        ds = open_dataset(scenes)
        found, objects = ds.stats(), ds.objects
        there = objects.foreground >= 0
        assert sum(found.counts.foregrounds) == there.sum()
        assert found.counts.foregrounds == tuple(
            int((objects.foreground == i).sum()) for i in range(len(found.counts.foregrounds))
        )
        assert found.counts.objects == tuple(np.bincount(there.sum(axis=1), minlength=4).tolist())
        assert found.counts.mirrored == (objects.flip == 1).sum()
        assert found.counts.categories == {
            name: int((objects.category == i).sum()) for i, name in enumerate(ds.categories)
        }
        seen = there & (objects.box[..., 2] > objects.box[..., 0])
        assert (found.sizes.objects, found.sizes.hidden) == (seen.sum(), (there & ~seen).sum())
        heights = (objects.box[..., 2] - objects.box[..., 0])[seen]
        assert found.sizes.height[0::4] == (heights.min(), heights.max())
        assert sum(found.sizes.heights.counts) == sum(found.sizes.visible.counts) == len(heights)
        assert found.sizes.visible.counts[-1] == (objects.visible[seen] >= 0.95).sum()

    def test_pasted_foregrounds_are_counted(self, kinds):
        ds = open_dataset(kinds["plain"])
        found, box = ds.stats(), ds.bbox
        assert found.counts.backgrounds == (12, 12, 12)
        assert found.counts.foregrounds == (18, 18)
        assert (found.counts.mirrored, found.counts.objects) == (18, (0, 36))
        assert found.sizes.height == tuple(
            np.quantile(box[:, 2] - box[:, 0], np.arange(5) / 4, method="inverted_cdf").tolist()
        )
        assert found.sizes.width[-1] == (box[:, 3] - box[:, 1]).max()

    def test_of_imported_samples_sizes_are_measured_and_sources_unknown(self, kinds):
        ds = open_dataset(kinds["imported"])
        found, box = ds.stats(), ds.bbox
        assert (found.counts, found.same_samples, found.whole.backgrounds) == (None, None, None)
        assert found.sizes.height[-1] == (box[:, 2] - box[:, 0]).max()
        assert found.sizes.visible is None

    def test_of_an_unfinished_dataset_those_are_counted_that_are_there(self, copy):
        damage.delete(damage.objects(copy, "image")[0])
        damage.delete(damage.objects(copy, "mask")[1])
        unfinish(copy)
        ds = open_dataset(copy, allow_incomplete=True)
        there = ds.image[:].any(axis=(1, 2, 3)) & ds.mask[:].any(axis=(1, 2))
        assert 0 < there.sum() < 36
        found = ds.stats()
        assert (found.whole.samples, found.total) == (there.sum(), 36)
        assert_are_of(found.whole, ds.image[:][there], ds.mask[:][there], ds.depth[:][there])
        with refused(IncompleteDatasetError, "dataset-incomplete"):
            ds.save_stats(found)

    def test_one_without_a_sample_says_so(self, copy):
        for path in damage.objects(copy, "image"):
            damage.delete(path)
        unfinish(copy)
        with refused(IncompleteDatasetError, "dataset-incomplete"):
            open_dataset(copy, allow_incomplete=True).stats()


def test_an_epoch_has_statistics_of_its_own_which_are_not_kept(copy):
    ds = open_dataset(copy)
    ds.save_stats(ds.stats())
    epoch = ds.at_epoch(2)
    found = epoch.stats()
    all_of = epoch.to_numpy(["image", "mask"])
    assert_are_of(dataclasses.replace(found.whole, depth=None), all_of["image"], all_of["mask"])
    assert found.mean != ds.stats().mean
    for opened in (ds, epoch):
        with refused(SpecError, "stats-foreign"):
            opened.save_stats(found)


def of_few_backgrounds(rng, shape, most, dtype):
    """Pictures (n, rows, width) that have one of two backgrounds, most of them with an object before it: of
    some rows, of all, or of one pixel in the first row or in the last.
    """
    n, rows, width = shape
    backgrounds = rng.integers(0, most + 1, (2, rows, width), dtype)
    samples = backgrounds[rng.integers(0, 2, n)]
    for sample in samples:
        top, left = rng.integers(0, rows), rng.integers(0, width)
        kind = rng.integers(0, 5)
        if kind == 1:
            sample[:] = most
        elif kind == 2:
            sample[top : top + 3, left : left + 4] = rng.integers(0, most + 1)
        elif kind >= 3:
            sample[-(kind % 2), left] ^= 1
    return samples


class TestKernels:
    """Each is what its naive twin gives."""

    @pytest.mark.parametrize("n", [1, 2, 3, 40])
    def test_images(self, n):
        rng = np.random.default_rng(n)
        image = of_few_backgrounds(rng, (n, 7, 15), 255, np.uint8)
        part = rng.integers(0, 3, n)
        total, squares = np.ones((3, 3), np.int64), np.ones((3, 3), np.int64)
        add_images(image, part, total, squares)
        expected = naive_sums(image.reshape(n, 7, 5, 3), part, 3)
        np.testing.assert_array_equal(total - 1, expected[0])
        np.testing.assert_array_equal(squares - 1, expected[1])

    @pytest.mark.slow
    @pytest.mark.parametrize("others", [0, 1])
    def test_sums_of_very_high_images_do_not_overflow(self, others):
        """White, compared with itself and with a black picture."""
        image = np.zeros((2 * others + 1, 70_000, 3), np.uint8)
        image[-1] = 255
        total, squares = np.zeros((1, 3), np.int64), np.zeros((1, 3), np.int64)
        add_images(image, np.zeros(len(image), np.int64), total, squares)
        assert total.tolist() == [[70_000 * 255] * 3]
        assert squares.tolist() == [[70_000 * 255**2] * 3]

    def test_masks(self):
        mask = np.array([[[0, 127], [128, 255]], [[255, 255], [0, 0]]], np.uint8)
        seen, area, alpha = np.ones((2, 2), np.int64), np.zeros(2, np.int64), np.zeros(2, np.int64)
        add_masks(mask, seen, area, alpha)
        assert (seen.tolist(), area.tolist(), alpha.tolist()) == ([[2, 2], [2, 2]], [2, 2], [510, 510])

    @pytest.mark.slow
    @pytest.mark.parametrize("shape", [(70_000, 1, 2), (2, 70_000, 1)])
    def test_counts_of_many_masks_and_of_high_ones_do_not_overflow(self, shape):
        mask = np.full(shape, 255, np.uint8)
        mask[0] = 0
        n, *size = shape
        seen, area, alpha = np.zeros(size, np.int64), np.ones(n, np.int64), np.ones(n, np.int64)
        add_masks(mask, seen, area, alpha)
        pixels = size[0] * size[1]
        assert (seen == n - 1).all()
        assert (area[0], alpha[0]) == (0, 0)
        assert (area[1:] == pixels).all()
        assert (alpha[1:] == 255 * pixels).all()

    @pytest.mark.parametrize("n", [1, 2, 3, 40])
    def test_depths(self, n):
        rng = np.random.default_rng(n)
        depth = of_few_backgrounds(rng, (n, 5, 6), 9, np.uint16).astype(np.float16)
        depth[n // 2, :2] = np.nan
        part = rng.integers(0, 2, n)
        counts = np.ones((2, 1 << 16), np.int64)
        add_depths(depth.view(np.uint16), part, counts)
        np.testing.assert_array_equal(counts - 1, naive_counts(depth, part, 2))

    def test_the_reference_is_the_background_where_two_samples_in_a_row_show_it(self):
        background = np.arange(12, dtype=np.uint8).reshape(4, 3)
        samples = np.repeat(background[None], 4, axis=0)
        samples[0], samples[1, 1:], samples[3, 3] = 99, 98, 97
        reference = np.zeros_like(background)
        fill_reference(samples, reference)
        # No two that follow one another have the last row.
        assert reference.tolist() == [*background[:3].tolist(), [97] * 3]


@given(st.integers(0, 2**200), st.integers(1, 2**200))
def test_a_root_is_rounded_once(numerator, denominator):
    found = root(Fraction(numerator, denominator))
    with localcontext(prec=120):
        expected = float((Decimal(numerator) / Decimal(denominator)).sqrt())
    assert found == expected


@given(st.lists(st.integers(0, 40), min_size=1, max_size=50))
def test_quartiles_are_values_that_are_there(values):
    expected = np.quantile(values, np.arange(5) / 4, method="inverted_cdf")
    assert quartiles(np.bincount(values)) == tuple(expected.tolist())


class TestSplits:
    def test_each_part_has_its_own(self, kinds):
        ds = open_dataset(kinds["split"])
        found, parts, all_of = ds.stats("fälle"), ds.split("fälle"), ds.to_numpy()
        assert list(found.parts) == list(parts)
        for name, part in found.parts.items():
            assert_are_of(part, *(all_of[field][parts[name]] for field in ("image", "mask", "depth")))
            assert part.backgrounds == len(np.unique(all_of["background"][parts[name]]))
        assert found.without_split() == ds.stats()
        assert [shared.backgrounds for shared in found.shared] == [0, 0]
        assert [shared.foregrounds for shared in found.shared] == [2, 2]
        assert {shared.samples for shared in found.shared} == {0}

    def test_samples_of_no_part_count_for_the_whole_alone(self, kinds):
        ds = open_dataset(kinds["split"])
        found, parts = ds.stats("both"), ds.split("both")
        assert sum(map(len, parts.values())) < 36
        assert found.whole.samples == 36
        assert {name: part.samples for name, part in found.parts.items()} == {
            name: len(samples) for name, samples in parts.items() if len(samples)
        }

    def test_what_parts_share_is_told_by_content(self, tmp_path):
        pictures = Pictures(tmp_path / "pictures", backgrounds=4, foregrounds=1, patch=(20, 32))
        shutil.copy(pictures.backgrounds / "b0.png", pictures.backgrounds / "b9.png")
        # Foregrounds as large as the picture have one place: every sample is there twice, for each copy.
        create(tmp_path / "it.zarr", pictures.spec(width=16, height=10, flip=False))
        ds = open_dataset(tmp_path / "it.zarr")
        ds.save_split("mixed", {"train": 0.5, "test": 0.5}, by="sample", seed=1)
        found, parts = ds.stats("mixed"), ds.split("mixed")
        images = {i: ds.image[i].tobytes() for i in range(len(ds))}
        assert (found.same_backgrounds, found.same_foregrounds) == (1, 0)
        assert found.same_samples == len(ds) - len(set(images.values())) > 0
        for shared in found.shared:
            first, second = ([images[i] for i in parts[name].tolist()] for name in shared.parts)
            assert shared.samples == sum(image in set(first) for image in second)
            used = [set(ds.placements.background[parts[name]] % 4) for name in shared.parts]
            assert shared.backgrounds == len(used[0] & used[1])
            assert shared.background_samples == sum(
                int(b) % 4 in used[0] for b in ds.placements.background[parts[shared.parts[1]]]
            )

    def test_a_split_that_is_not_there_is_refused(self, kinds):
        with refused(SpecError, "split-unknown"):
            open_dataset(kinds["split"]).stats("none")


class TestKeeping:
    def test_they_are_kept_until_the_dataset_changes(self, copy, depth_model):
        ds = open_dataset(copy)
        found, before = ds.stats("fälle"), tree(copy)
        assert ds.saved_stats is None
        ds.save_stats(found)
        after = tree(copy)
        assert {key for key in after if after[key] != before[key]} == {"zarr.json"}
        again = open_dataset(copy)
        assert again.saved_stats == found
        told = []
        assert again.stats("fälle", on_samples=lambda *done: told.append(done)) == found
        assert again.stats(on_samples=lambda *done: told.append(done)) == found.without_split()
        assert told == []
        assert describe(again)["stats"]["mean"] == list(found.mean)
        assert verify(copy).sound
        # Those of all samples are there already.
        again.save_stats(found.without_split())
        assert open_dataset(copy).saved_stats == found
        fill_depth(copy, depth_of(depth_model, bits=6), overwrite=True)
        changed = open_dataset(copy)
        assert changed.saved_stats is None
        assert describe(changed)["stats"] is None
        assert changed.stats().whole.depth != found.whole.depth
        with refused(SpecError, "stats-foreign"):
            changed.save_stats(found)

    def test_those_of_a_split_are_returned_without_dealing_it_out(self, copy, monkeypatch):
        ds = open_dataset(copy)
        found = ds.stats("fälle")
        ds.save_stats(found)
        monkeypatch.delattr(selection, "split")
        assert open_dataset(copy).stats("fälle") == found

    def test_a_split_of_the_same_name_has_its_own(self, copy):
        ds = open_dataset(copy)
        ds.save_stats(ds.stats("fälle"))
        ds.save_split("fälle", {"all": 1.0}, seed=5)
        again = open_dataset(copy)
        assert again.saved_stats.parts == {}
        assert list(again.stats("fälle").parts) == ["all"]

    @pytest.mark.parametrize("changed", ["mean", "generation", "sha256"])
    def test_kept_ones_that_are_damaged_are_counted_again(self, copy, changed):
        ds = open_dataset(copy)
        found = ds.stats()
        ds.save_stats(found)
        root_node = json.loads((copy / "zarr.json").read_text(encoding="utf-8"))
        kept = root_node["attributes"][STATS]
        if changed == "mean":
            kept["whole"]["image"]["mean"][0] = 0.25
        else:
            kept[changed] = kept[changed][::-1]
        (copy / "zarr.json").write_text(json.dumps(root_node), encoding="utf-8")
        again = open_dataset(copy)
        assert again.saved_stats is None
        assert again.stats() == found

    def test_an_hdf5_file_keeps_them(self, kinds, tmp_path):
        path = shutil.copy(kinds.hdf5("depth"), tmp_path / "it.h5")
        ds = open_dataset(path)
        found = ds.stats()
        ds.save_stats(found)
        assert open_dataset(path).saved_stats == found

    def test_a_copy_in_another_form_keeps_those_that_are_true_of_it(self, copy, tmp_path):
        ds = open_dataset(copy)
        ds.save_stats(ds.stats())
        convert(copy, tmp_path / "it.h5")
        other = open_dataset(tmp_path / "it.h5")
        assert other.saved_stats is None or other.saved_stats.whole == ds.stats().whole

    def test_the_data_card_tells_them(self, copy):
        ds = open_dataset(copy)
        ds.save_stats(ds.stats("fälle"))
        text = write_cards(copy).datacard.read_text(encoding="utf-8")
        assert "## Statistics" in text
        assert ", ".join(f"{one:.4f}" for one in ds.stats().mean) in text


def test_a_standard_deviation_of_nothing_but_one_colour_is_zero():
    assert root(Fraction(0)) == 0.0
    assert math.isclose(root(Fraction(1, 4)), 0.5)
