"""Which samples belong to which part, and in what order they come: exact, whole, and apart."""

from __future__ import annotations

import hashlib
import itertools
import json
import shutil

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from refusals import refused
from zarr.storage import LocalStore, MemoryStore

from fgbgpack import create, open_dataset, schema
from fgbgpack.composition.placement import Plan
from fgbgpack.dataset.mixing import Mixing
from fgbgpack.dataset.splits import Split, shuffled
from fgbgpack.document import DIGEST
from fgbgpack.errors import DatasetError, SpecError

#: What was found when this was written.
KNOWN = {
    "train": [0, 1, 3, 4, 5, 7, 8, 9],
    "val": [2],
    "test": [6],
    "few": [41, 51, 81, 146, 158, 171, 189, 382],
}
EIGHTY = {"train": 0.8, "val": 0.1, "test": 0.1}


def digests(count, kind):
    return [hashlib.sha256(f"{kind} {i}".encode()).hexdigest() for i in range(count)]


def samples_of(split, backgrounds=10, foregrounds=10, placements=2, order=None):
    """The parts of a dataset of so many sources, and its placements."""
    names = [digests(backgrounds, "bg"), digests(foregrounds, "fg")]
    if order is not None:
        names = [[names[0][i] for i in order], names[1]]
    plan = Plan(
        height=8,
        width=8,
        background_words=tuple(int(d[:8], 16) for d in names[0]),
        foreground_words=tuple(int(d[:8], 16) for d in names[1]),
        foreground_sizes=((4, 4),) * foregrounds,
        placements=placements,
        flip=True,
        seed=0,
    )
    placed = plan.placements_of(range(plan.samples))
    cut = min(7, plan.samples)
    parts = split.samples(lambda: iter([vars(placed[:cut]), vars(placed[cut:])]), *names)
    return parts, placed


# --- parts -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("by", ["background", "foreground"])
def test_no_source_is_in_two_parts(by):
    parts, placed = samples_of(Split(EIGHTY, by))
    assert list(parts) == ["train", "val", "test"]
    used = {name: set(getattr(placed, by)[samples].tolist()) for name, samples in parts.items()}
    assert [len(used[name]) for name in EIGHTY] == [8, 1, 1]
    for one, other in itertools.combinations(used.values(), 2):
        assert not one & other
    assert sorted(np.concatenate([*parts.values()])) == list(range(len(placed)))


def test_by_both_no_source_of_either_kind_is_in_two_parts():
    parts, placed = samples_of(Split(EIGHTY, "both"))
    for kind in ("background", "foreground"):
        used = [set(getattr(placed, kind)[samples].tolist()) for samples in parts.values()]
        for one, other in itertools.combinations(used, 2):
            assert not one & other
    # 8 x 8, 1 x 1 and 1 x 1 of 10 x 10 pairs, of 4 samples each.
    assert [len(samples) for samples in parts.values()] == [256, 4, 4]


def test_by_sample_every_sample_is_in_one_part():
    parts, placed = samples_of(Split(EIGHTY, "sample", 3))
    assert [len(samples) for samples in parts.values()] == [320, 40, 40]
    assert sorted(np.concatenate([*parts.values()])) == list(range(len(placed)))
    assert len(set(placed.background[parts["test"]].tolist())) > 5, "samples of all backgrounds are mixed"
    assert len(set(placed.flip[parts["test"]].tolist())) == 2


@pytest.mark.parametrize("by", ["background", "foreground", "both", "sample"])
def test_samples_are_in_ascending_order_and_the_seed_changes_them(by):
    found = []
    for seed in (0, 1, 2**64 - 1):
        parts, _ = samples_of(Split(EIGHTY, by, seed), 20, 20)
        again, _ = samples_of(Split(EIGHTY, by, seed), 20, 20)
        for name, samples in parts.items():
            assert samples.dtype == np.int64
            assert (np.diff(samples) > 0).all()
            np.testing.assert_array_equal(samples, again[name])
        found.append(parts["train"].tolist())
    assert found[0] != found[1] != found[2] != found[0]


def test_a_source_has_its_part_wherever_it_stands_and_whatever_is_done_with_it():
    order = [7, 2, 9, 0, 1, 3, 8, 4, 6, 5]
    first, placed = samples_of(Split(EIGHTY))
    second, placed_again = samples_of(Split(EIGHTY), placements=5, order=order)
    for name in EIGHTY:
        before = set(placed.background[first[name]].tolist())
        after = {order[i] for i in placed_again.background[second[name]].tolist()}
        assert before == after


def test_parts_are_the_same_in_whatever_order_they_are_named():
    first, _ = samples_of(Split(EIGHTY))
    second, _ = samples_of(Split(dict(reversed(EIGHTY.items()))))
    assert list(second) == ["test", "val", "train"]
    for name in EIGHTY:
        np.testing.assert_array_equal(first[name], second[name])


@pytest.mark.parametrize("copies", [(0, 0, 0, 0, 0, 1), (0, 1, 2, 0, 1, 2), (3, 0, 0, 1, 1, 2)])
def test_files_with_the_same_content_are_one_source(copies):
    names = [digests(4, "bg")[i] for i in copies]
    plan = Plan(8, 8, tuple(int(d[:8], 16) for d in names), (5,), ((4, 4),), 1, False, 0)
    placed = plan.placements_of(range(6))
    parts = Split({"a": 0.5, "b": 0.5}).samples(lambda: iter([vars(placed)]), names, digests(1, "fg"))
    used = [{copies[i] for i in placed.background[samples]} for samples in parts.values()]
    assert not used[0] & used[1]
    assert used[0] | used[1] == set(copies)


def test_the_parts_of_these_sources_never_change():
    """Written down once: who has split a dataset must find the same parts for ever."""
    parts, placed = samples_of(Split(EIGHTY, "background", 5))
    assert {name: sorted(set(placed.background[s].tolist())) for name, s in parts.items()} == {
        "train": KNOWN["train"],
        "val": KNOWN["val"],
        "test": KNOWN["test"],
    }
    parts, _ = samples_of(Split({"few": 0.02}, "sample", 5))
    assert parts["few"].tolist() == KNOWN["few"]


@pytest.mark.slow
@given(
    st.lists(st.floats(0.001, 1), min_size=1, max_size=6),
    st.integers(1, 60),
    st.sampled_from([1.0, 0.999, 0.5]),
)
def test_counts_are_within_one_of_the_fractions_and_no_part_is_empty(weights, count, whole):
    fractions = {f"p{i}": whole * w / sum(weights) for i, w in enumerate(weights)}
    split = Split(fractions, "background")
    if count < len(weights):
        with refused(SpecError, "split-impossible", str(len(weights))):
            samples_of(split, count, 1, 1)
        return
    parts, placed = samples_of(split, count, 1, 1)
    sizes = [len(set(placed.background[samples].tolist())) for samples in parts.values()]
    assert min(sizes) >= 1
    assert sum(sizes) <= count
    exact = [fraction * count for fraction in fractions.values()]
    if whole == 1:
        assert sum(sizes) == count
    if min(exact) >= 1:
        for size, expected in zip(sizes, exact, strict=True):
            assert abs(size - expected) < 1 + 1e-6


@pytest.mark.parametrize(
    ("fields", "problems"),
    [
        ({"parts": {}}, ["found none"]),
        ({"parts": {"train": 0.8, "test": 0.3}}, ["add up to 1.1"]),
        (
            {"parts": {"train": 0, "test": -1, "": 0.5, "x": True, "y": "z"}},
            ["train is 0", "test is -1", "a name", "x is True", "y is 'z'"],
        ),
        ({"by": "colour", "seed": -1}, ["by: found 'colour'", "seed: found -1"]),
        ({"seed": 2**64}, ["seed"]),
        ({"seed": 1.5}, ["seed"]),
    ],
)
def test_what_is_no_split_is_refused_with_all_its_problems(fields, problems):
    with refused(SpecError, "split-invalid") as caught:
        Split(**({"parts": EIGHTY} | fields))
    for problem in problems:
        assert problem in str(caught.value)


# --- order -----------------------------------------------------------------------------------------


@pytest.mark.slow
@given(
    st.lists(st.integers(0, 500), max_size=200, unique=True),
    st.integers(1, 50),
    st.integers(1, 6),
    st.integers(0, 2**64 - 1),
    st.integers(0, 2**32 - 1),
)
def test_an_order_has_each_sample_once_and_windows_of_whole_chunks(samples, chunk, window, seed, epoch):
    given_samples = np.array(samples, np.int64)
    windows = shuffled(given_samples, Mixing.of_chunks(window, chunk), seed=seed, epoch=epoch)
    chunks = [set((w // chunk).tolist()) for w in windows]
    assert sorted(itertools.chain(*(w.tolist() for w in windows))) == sorted(samples)
    assert all(len(held) == window for held in chunks[:-1])
    for one, other in itertools.combinations(chunks, 2):
        assert not one & other, "a chunk is in one window, so it is decoded once"
    same = shuffled(given_samples[::-1], Mixing.of_chunks(window, chunk), seed=seed, epoch=epoch)
    for one, other in zip(windows, same, strict=True):
        np.testing.assert_array_equal(one, other)


def test_seed_and_epoch_change_the_order_of_chunks_and_of_samples():
    def order(**keys):
        return np.concatenate(shuffled(np.arange(400), Mixing.of_chunks(4, 10), **keys))

    orders = [order(), order(seed=1), order(epoch=1), order(seed=1, epoch=1), order(seed=1 << 32)]
    for one, other in itertools.combinations(orders, 2):
        assert (one // 10 != other // 10).mean() > 0.5
        assert (one % 10 != other % 10).mean() > 0.5
    first = orders[0][:40]
    assert (np.diff(first) == 1).mean() < 0.2
    assert len(set((first[:10] // 10).tolist())) > 2, "chunks of a window are mixed"


@pytest.mark.slow
def test_every_place_of_a_window_is_as_likely_for_every_chunk():
    """Over many epochs a chunk is in the first window as often as any other: 2 of 8 chunks fill it."""
    counts = np.zeros(8)
    for epoch in range(2000):
        counts[np.unique(shuffled(np.arange(16), Mixing.of_chunks(2, 2), epoch=epoch)[0] // 2)] += 1
    # Four standard deviations of a binomial with 2000 draws of probability 1/4.
    assert np.abs(counts - 500).max() < 4 * np.sqrt(2000 * 0.25 * 0.75)


def test_this_order_never_changes():
    assert [w.tolist() for w in shuffled(np.arange(8), Mixing.of_chunks(2, 2), seed=7)] == [
        [3, 7, 6, 2],
        [0, 5, 1, 4],
    ]


def test_numbers_out_of_range_are_named_together():
    with refused(SpecError, "option-invalid") as caught:
        shuffled(np.arange(3), Mixing.of_chunks(0, 0), seed=2**64, epoch=-1)
    for name in ("chunk", "window", "seed", "epoch"):
        assert name in str(caught.value)


# --- splits of a dataset ---------------------------------------------------------------------------


@pytest.fixture
def copy(dataset, tmp_path):
    """A dataset of the test's own: 3 backgrounds, 2 foregrounds, 36 samples."""
    return shutil.copytree(dataset, tmp_path / "copy.zarr")


THIRDS = {"train": 1 / 3, "val": 1 / 3, "test": 1 / 3}


def test_a_dataset_is_split(dataset):
    ds = open_dataset(dataset)
    parts = ds.split(THIRDS)
    for samples in parts.values():
        assert len(samples) == 12
        assert len(set(ds[samples].background.tolist())) == 1
    halves = ds.split({"a": 0.5, "b": 0.5}, by="foreground", seed=3)
    assert set(ds[halves["a"]].foreground.tolist()).isdisjoint(ds[halves["b"]].foreground.tolist())
    with refused(SpecError, "split-impossible", "2 different foregrounds .* 3 parts"):
        ds.split(THIRDS, by="foreground")


def test_a_split_is_saved_in_the_dataset_and_read_back(copy, pictures):
    before = open_dataset(copy)
    root = json.loads((copy / "zarr.json").read_text())
    assert before.splits == {}
    saved = before.save_split("fair", THIRDS, seed=8)
    before.save_split("halves", {"a": 0.5, "b": 0.5}, by="sample", seed=2**64 - 1)
    for ds in (before, open_dataset(copy)):
        assert ds.splits == {
            "fair": {"by": "background", "seed": 8, "parts": THIRDS},
            "halves": {"by": "sample", "seed": 2**64 - 1, "parts": {"a": 0.5, "b": 0.5}},
        }
        found = ds.split("fair")
        assert list(found) == ["train", "val", "test"]
        for name, samples in found.items():
            np.testing.assert_array_equal(samples, saved[name])
        assert schema.problems("dataset", ds.document.to_dict()) == []
    # Nothing else in the root has changed, and the dataset is as complete as before.
    after = json.loads((copy / "zarr.json").read_text())
    assert after["consolidated_metadata"] == root["consolidated_metadata"]
    assert after["attributes"]["fgbgpack"].pop("splits")
    assert after["attributes"].pop(DIGEST) != root["attributes"].pop(DIGEST)
    assert after["attributes"] == root["attributes"]
    assert create(copy, pictures.spec()).created == 0
    assert list(open_dataset(copy).splits) == ["fair", "halves"]


def test_a_saved_split_can_be_replaced(copy):
    ds = open_dataset(copy)
    ds.save_split("it", THIRDS)
    ds.save_split("it", {"all": 1.0})
    assert [*open_dataset(copy).split("it")] == ["all"]
    assert len(ds.split("it")["all"]) == 36


def test_what_was_saved_by_another_process_meanwhile_is_kept(copy):
    one, other = open_dataset(copy), open_dataset(copy)
    one.save_split("one", THIRDS)
    other.save_split("other", THIRDS)
    assert [*other.splits] == [*open_dataset(copy).splits] == ["one", "other"]


def test_a_split_that_is_not_there_is_an_error_that_names_those_that_are(copy):
    ds = open_dataset(copy)
    with refused(SpecError, "split-unknown", "'fair'.* none"):
        ds.split("fair")
    ds.save_split("fair", THIRDS)
    with refused(SpecError, "split-unknown", "'unfair'; it has fair"):
        ds.split("unfair")
    for own in ({"seed": 3}, {"by": "sample"}):
        with refused(SpecError, "split-invalid", "'fair'"):
            ds.split("fair", **own)
    with refused(SpecError, "split-invalid"):
        ds.save_split("", THIRDS)


def test_a_split_that_cannot_be_dealt_out_is_not_saved(copy):
    before = (copy / "zarr.json").read_bytes()
    with refused(SpecError, "split-invalid"):
        open_dataset(copy).save_split("it", {"a": 0.5, "b": 0.6})
    with refused(SpecError, "split-impossible"):
        open_dataset(copy).save_split("it", {f"p{i}": 0.1 for i in range(10)})
    assert (copy / "zarr.json").read_bytes() == before


def test_splits_are_saved_in_any_store_that_can_be_written(pictures, copy):
    store = MemoryStore()
    create(store, pictures.spec())
    open_dataset(store).save_split("fair", THIRDS)
    assert [*open_dataset(store).splits] == ["fair"]

    class Fixed(LocalStore):
        def with_read_only(self, read_only=False):
            raise NotImplementedError("it is carved in stone")

    with refused(DatasetError, "store-read-only", "carved in stone"):
        open_dataset(Fixed(copy, read_only=True)).save_split("fair", THIRDS)


@pytest.mark.parametrize(
    "change",
    [
        lambda splits: splits.update(it={"by": "colour", "seed": 0, "parts": {"a": 1}}),
        lambda splits: splits.update(it={"by": "sample", "seed": -1, "parts": {"a": 1}}),
        lambda splits: splits.update(it={"by": "sample", "seed": 0, "parts": {}}),
        lambda splits: splits.update(it={"by": "sample", "seed": 0, "parts": {"a": 2}}),
        lambda splits: splits.update(it={"by": "sample", "seed": 0}),
    ],
)
def test_damaged_splits_are_refused(copy, change):
    root = json.loads((copy / "zarr.json").read_text())
    change(root["attributes"]["fgbgpack"].setdefault("splits", {}))
    (copy / "zarr.json").write_text(json.dumps(root))
    with refused(DatasetError, "schema-violated", r"splits\.it"):
        open_dataset(copy)
