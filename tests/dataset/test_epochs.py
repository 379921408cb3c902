"""Other epochs of a dataset: the same recipe placed anew, composed as it is read."""

from __future__ import annotations

import multiprocessing
import pickle
from dataclasses import replace

import naive
import naive_scenes
import numpy as np
import pytest
from builders import Pictures, assert_same_arrays, depth_of
from hypothesis import given
from hypothesis import strategies as st

from fgbgpack import DatasetError, SpecError, create, open_dataset
from fgbgpack.composition.placement import epoch_seed
from fgbgpack.dataset.dataset import Dataset
from fgbgpack.document import OBJECT_ARRAYS
from fgbgpack.pipeline.create import load_recipe
from fgbgpack.pipeline.events import silent

SCENES = {
    "pairs": {"placements": 2, "objects": "1-3", "foreground_height": "7-12", "shadow": True},
    "random": {"samples": 30, "objects": "1-3", "empty": 0.1, "foreground_height": "6-13", "overlap": 0.2},
}


@pytest.fixture(scope="module", params=["plain", "guided", "layered", "layered-virtual", *SCENES])
def stored(request, kinds, tmp_path_factory, pictures, depth_model) -> Dataset:
    """An open dataset with a recipe, of each kind."""
    if request.param not in SCENES:
        return open_dataset(kinds[request.param])
    path = tmp_path_factory.mktemp("epochs") / "scenes.zarr"
    depth = depth_of(depth_model, mode="layered", scale=2)
    create(path, pictures.spec(**SCENES[request.param], depth=depth))
    return open_dataset(path)


def made_with(tmp_path, pictures: Pictures, stored: Dataset, seed: int) -> Dataset:
    """A dataset of the same spec with another seed."""
    spec = stored.document.spec
    assert spec is not None
    create(tmp_path / "made.zarr", replace(spec, seed=seed))
    return open_dataset(tmp_path / "made.zarr")


# --- seeds -----------------------------------------------------------------------------------------

SEEDS = st.integers(0, 2**64 - 1)


@given(SEEDS, st.integers(0, 2**62 - 1), st.integers(0, 2**62 - 1))
def test_epochs_of_a_seed_never_coincide(seed, one, other):
    assert epoch_seed(seed, 0) == seed
    assert 0 <= epoch_seed(seed, one) < 2**64
    assert (epoch_seed(seed, one) == epoch_seed(seed, other)) == (one == other)


def test_seeds_that_are_near_have_no_epochs_in_common():
    """The multiples of a number that come nearest to 0 are those of Euclid's algorithm: no other multiple of
    a smaller number comes as near.
    """
    larger, smaller = 2**64, epoch_seed(0, 1)
    before, epochs = 0, 1
    nearest = []
    while smaller:
        nearest.append((epochs, smaller))
        quotient, rest = divmod(larger, smaller)
        larger, smaller = smaller, rest
        before, epochs = epochs, before + quotient * epochs
    distances = [distance for number, distance in nearest if number < 2**31]
    for number, distance in nearest[:40]:
        assert distance in (epoch_seed(0, number), 2**64 - epoch_seed(0, number))
    assert len(distances) > 40
    assert min(distances) >= 2**32


# --- samples ---------------------------------------------------------------------------------------


def test_epoch_0_is_the_dataset_itself(stored):
    fields = [name for name in stored.fields if name != "depth" or stored.document.is_layered]
    epoch = stored.at_epoch(0)
    assert_same_arrays(epoch.to_numpy(fields), stored.to_numpy(fields))
    assert epoch.document.recipe == stored.document.recipe
    assert epoch.seed == stored.document.spec.seed


def test_an_epoch_is_the_dataset_of_its_seed(tmp_path, pictures, stored):
    epoch = stored.at_epoch(7)
    made = made_with(tmp_path, pictures, stored, epoch.seed)
    assert epoch.document.recipe == made.document.recipe
    fields = epoch.fields
    assert ("depth" in fields) == stored.document.is_layered
    whole = made.to_numpy(fields)
    assert_same_arrays(epoch.to_numpy(fields), whole)
    rng = np.random.default_rng(1)
    samples = rng.integers(0, len(stored), 9)
    assert_same_arrays(epoch.read(samples, fields).arrays, {name: a[samples] for name, a in whole.items()})
    for name in fields:
        np.testing.assert_array_equal(getattr(epoch, name)[3:9, 2:11, ::3], whole[name][3:9, 2:11, ::3])
    batches = [ds.batches(8, shuffle=True, fields=fields) for ds in (epoch, made)]
    for batch, expected in zip(*batches, strict=True):
        assert_same_arrays(batch.arrays, expected.arrays)
    assert_same_arrays(epoch.sample_arrays, made.sample_arrays)
    for name in ("bbox", "area"):
        np.testing.assert_array_equal(getattr(epoch, name), getattr(made, name))
    if "depth" in fields:
        np.testing.assert_array_equal(epoch.depth_min, made.depth_min)
        np.testing.assert_array_equal(epoch.depth_max, made.depth_max)
    names = [*epoch.background_fields]
    if stored.document.depth is None or stored.document.is_layered:
        assert_same_arrays(epoch.read(samples, names).arrays, made.read(samples, names).arrays)


def test_threads_and_parts_of_reads_change_nothing(stored):
    epoch, fields = stored.at_epoch(3), [*stored.document.planes]
    whole = epoch.read(slice(None), fields, threads=1)
    assert_same_arrays(epoch.read(slice(None), fields, threads=3).arrays, whole.arrays)
    for name in fields:
        one = epoch.read([4, 4, 0], name)
        np.testing.assert_array_equal(one.arrays[name], whole.arrays[name][[4, 4, 0]])
    assert (whole.image != stored.image[:]).any(axis=(1, 2, 3)).mean() > 0.5
    assert (whole.image != stored.at_epoch(4).image[:]).any(axis=(1, 2, 3)).mean() > 0.5


def test_other_processes_read_the_same(stored):
    epoch = stored.at_epoch(5)
    expected = epoch.read([3, 1]).arrays
    assert_same_arrays(pickle.loads(pickle.dumps(epoch)).read([3, 1]).arrays, expected)
    context = multiprocessing.get_context("fork")
    with context.Pool(1) as pool:
        assert_same_arrays(pool.apply(epoch.read, ([3, 1],)).arrays, expected)
    epoch.close()
    assert_same_arrays(epoch.read([3, 1]).arrays, expected)


def test_epochs_of_an_epoch_are_those_of_the_dataset(stored):
    fields = [*stored.document.planes]
    again = stored.at_epoch(5).at_epoch(2)
    assert_same_arrays(again.read([3], fields).arrays, stored.at_epoch(2).read([3], fields).arrays)
    assert "epoch 2 of" in repr(again)


@given(SEEDS, st.integers(0, 2**62 - 1))
def test_corners_are_the_naive_ones(pictures, seed, epoch):
    recipe = load_recipe(pictures.spec(seed=seed), silent)
    placed = recipe.at_epoch(epoch).placements(np.arange(len(recipe)))
    key = seed
    key = (key + epoch * 0x9E3779B97F4A7C15) % 2**64
    for i in range(0, len(recipe), 7):
        counter = (
            recipe.plan.background_words[placed.background[i]],
            recipe.plan.foreground_words[placed.foreground[i]],
            placed.flip[i],
            placed.replica[i],
        )
        words = naive.philox4x32(counter, (key % 2**32, key >> 32))
        height, width = recipe.plan.foreground_sizes[placed.foreground[i]]
        assert placed.y[i] == naive.multiply_high(words[0], recipe.height - height + 1)
        assert placed.x[i] == naive.multiply_high(words[1], recipe.width - width + 1)


# --- what foregrounds there are --------------------------------------------------------------------


@pytest.fixture(scope="module")
def many(tmp_path_factory) -> Dataset:
    """Scenes of six foregrounds."""
    path = tmp_path_factory.mktemp("many")
    own = Pictures(path / "pictures", backgrounds=4, foregrounds=6)
    create(path / "many.zarr", own.spec(samples=200, objects="1-2", empty=0.2, foreground_height="5-9"))
    return open_dataset(path / "many.zarr")


@pytest.mark.parametrize("by", ["foreground", "both", "background"])
def test_parts_of_a_split_have_no_source_in_common_in_any_epoch(many, by):
    parts = many.split({"train": 0.5, "test": 0.5}, by=by)
    seen = {}
    for name, samples in parts.items():
        epochs = [many.at_epoch(e, indices=samples) for e in range(4)]
        objects = np.concatenate([epoch.objects.foreground[samples] for epoch in epochs])
        backgrounds = many.sample_arrays["background"][samples]
        assert all((e.sample_arrays["background"][samples] == backgrounds).all() for e in epochs)
        seen[name] = set(np.unique(objects[objects >= 0])), set(backgrounds)
        assert (epochs[1].objects.foreground[samples] != epochs[2].objects.foreground[samples]).any()
        np.testing.assert_array_equal(epochs[0].objects.foreground, many.objects.foreground)
    if by != "background":
        assert not seen["train"][0] & seen["test"][0]
    if by != "foreground":
        assert not seen["train"][1] & seen["test"][1]


def test_objects_drawn_from_some_foregrounds_are_the_naive_ones(many):
    recipe = many.recipe.at_epoch(2, (1, 4))
    known = naive_scenes.all_sprites(recipe)
    objects = recipe.objects(np.arange(12))
    for i in range(12):
        _, expected = naive_scenes.sample_objects(recipe, i, known)
        assert objects.count[i] == len(expected)
        for k, one in enumerate(expected):
            assert one["foreground"] in (1, 4)
            for name in ("foreground", "flip", "y", "x", "height", "width"):
                assert getattr(objects, name)[i, k] == one[name]


def test_the_foregrounds_of_a_part_are_found_without_all_objects(many):
    own = open_dataset(many.path)
    found = own.drawn_from([7, 5, -1])
    assert not {"sample_arrays", "objects"} & vars(own).keys()
    objects = many.objects.foreground[[7, 5, -1]]
    assert found == tuple(np.unique(objects[objects >= 0]).tolist())
    assert own.drawn_from(None) is None


def test_samples_without_objects_have_none_in_any_epoch_of_their_own(many):
    empty = np.flatnonzero(many.objects.count == 0)
    assert len(empty) > 3
    epoch = many.at_epoch(1, indices=empty)
    assert (epoch.objects.foreground == -1).all()
    assert not epoch.mask[:5].any()
    assert {*epoch.sample_arrays} == {*many.sample_arrays}
    assert {*OBJECT_ARRAYS} <= {*epoch.sample_arrays}


def test_splits_of_an_epoch_deal_out_its_own_objects(tmp_path, many):
    create(tmp_path / "own.zarr", many.document.spec)
    epoch = open_dataset(tmp_path / "own.zarr").at_epoch(3)
    parts = epoch.save_split("fair", {"train": 0.5, "test": 0.5}, by="foreground")
    assert_same_arrays(parts, open_dataset(tmp_path / "own.zarr").at_epoch(3).split("fair"))
    found = [set(np.unique(epoch.objects.foreground[part])) - {-1} for part in parts.values()]
    assert not found[0] & found[1]


# --- what cannot be --------------------------------------------------------------------------------


def test_imported_samples_have_no_epochs(kinds):
    with pytest.raises(DatasetError) as caught:
        open_dataset(kinds["imported"]).at_epoch(1)
    assert caught.value.code == "recipe-missing"


@pytest.mark.parametrize("epoch", [-1, 2**62, 1.5, "1"])
def test_epochs_are_whole_numbers(kinds, epoch):
    with pytest.raises(SpecError):
        open_dataset(kinds["plain"]).at_epoch(epoch)


@pytest.mark.parametrize("kind", ["plain", "depth", "guided"])
def test_depth_of_a_network_is_that_of_the_stored_samples(kinds, kind):
    code = "depth-missing" if kind == "plain" else "depth-not-composed"
    epoch = open_dataset(kinds[kind]).at_epoch(1)
    assert epoch.fields == ("image", "mask")
    for read in (lambda: epoch.depth, lambda: epoch.read([1], "depth")):
        with pytest.raises(DatasetError) as caught:
            read()
        assert caught.value.code == code
    assert epoch.depth_min is None
    assert ("background_depth" in epoch.background_fields) == (kind == "guided")
