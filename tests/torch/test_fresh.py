"""Loaders whose samples are placed anew in each epoch: the same ones with any workers, ranks and states."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from builders import SMALL_SHARDS, Pictures, assert_same_arrays, depth_of
from kinds import Kinds
from tensors import bytes_of
from torch.utils.data import DataLoader, random_split

from fgbgpack import Dataset, SpecError, create, open_dataset
from fgbgpack.torch import Augment, FgBgDataset, collate, make_loader

pytestmark = [
    pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning"),
    pytest.mark.filterwarnings("ignore:This DataLoader will create:UserWarning"),
]

Batches = Iterable[dict[str, Any]]


@pytest.fixture(scope="module", params=["reference", "scenes"])
def stored(
    request: pytest.FixtureRequest,
    tmp_path_factory: pytest.TempPathFactory,
    pictures: Pictures,
    depth_model: Path,
) -> Dataset:
    """96 samples with layered depth, and a split."""
    path = tmp_path_factory.mktemp("fresh") / "layered.zarr"
    options: dict[str, Any] = {"placements": 8}
    if request.param == "scenes":
        options = {"samples": 96, "objects": "1-2"}
    depth = depth_of(depth_model, mode="layered", scale=2)
    create(path, pictures.spec(**options, chunk=6, depth=depth), layout=SMALL_SHARDS)
    ds = open_dataset(path)
    ds.save_split("fair", {"train": 0.6, "test": 0.4}, by="foreground")
    return ds


def check(batch: dict[str, Any], epoch: Dataset) -> None:
    """A batch has the bytes of the dataset of an epoch, placements included."""
    expected = epoch.read(batch["index"].numpy())
    found = {name: tensor.numpy() for name, tensor in batch.items() if name != "index"}
    found["image"] = found["image"].transpose(0, 2, 3, 1)
    for name in ("mask", "instance", "depth"):
        if name in found:
            found[name] = found[name][:, 0]
    assert_same_arrays(found, expected.arrays)


def all_bytes(batches: Batches) -> list[dict[str, bytes]]:
    return [bytes_of(batch) for batch in batches]


def epochs_of(loader: Any, epochs: int) -> Iterator[list[dict[str, bytes]]]:
    return (all_bytes(loader) for _ in range(epochs))


@pytest.mark.parametrize("shuffle", [True, False])
def test_each_epoch_has_the_samples_of_its_own(stored: Dataset, shuffle: bool) -> None:
    loader = make_loader(
        stored, 8, workers=0, fresh=True, placements=True, shuffle=shuffle, window=2, lanes=2
    )
    for number in range(3):
        seen = []
        for batch in loader:
            check(batch, stored.at_epoch(number))
            seen += batch["index"].tolist()
        assert sorted(seen) == list(range(len(stored)))
    loader.set_epoch(40)
    check(next(iter(loader)), stored.at_epoch(40))


OPTIONS: dict[str, Any] = {"fresh": True, "seed": 5, "augment": Augment(seed=2), "window": 2}


@pytest.mark.parametrize("workers", [1, 2])
def test_workers_change_nothing(stored: Dataset, workers: int) -> None:
    expected = list(epochs_of(make_loader(stored, 8, workers=0, **OPTIONS), 3))
    assert expected[0] != expected[1]
    loader = make_loader(stored, 8, workers=workers, persistent_workers=True, **OPTIONS)
    assert list(epochs_of(loader, 3)) == expected


@pytest.mark.slow
@pytest.mark.parametrize("stored", ["reference"], indirect=True)
def test_spawned_workers_change_nothing(stored: Dataset) -> None:
    expected = list(epochs_of(make_loader(stored, 8, workers=0, **OPTIONS), 2))
    loader = make_loader(stored, 8, workers=1, start_method="spawn", **OPTIONS)
    assert list(epochs_of(loader, 2)) == expected


def test_ranks_share_the_same_samples(stored: Dataset) -> None:
    ranks = [make_loader(stored, 8, workers=0, fresh=True, rank=rank, world_size=2) for rank in range(2)]
    for number in range(2):
        seen = []
        for loader in ranks:
            for batch in loader:
                expected = stored.at_epoch(number).image[batch["index"].numpy()]
                np.testing.assert_array_equal(batch["image"].permute(0, 2, 3, 1).numpy(), expected)
                seen += batch["index"].tolist()
        assert sorted(seen) == list(range(len(stored)))


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("steps", [None, 5, math.inf])
def test_a_state_resumes_in_the_middle(stored: Dataset, workers: int, steps: float | None) -> None:
    options: dict[str, Any] = {"fresh": True, "steps_per_epoch": steps, "window": 2}
    whole = make_loader(stored, 8, workers=0, **options)
    expected: list[dict[str, bytes]] = []
    while len(expected) < 30:
        expected += all_bytes(islice(whole, 30 - len(expected)))
    first = make_loader(stored, 8, workers=workers, **options)
    got = 0
    while got < 17:
        got += len(all_bytes(islice(first, 17 - got)))
    second = make_loader(stored, 8, workers=workers, **options)
    second.load_state_dict(json.loads(json.dumps(first.state_dict())))
    assert all_bytes(islice(second, 3)) == expected[17:20]


def test_a_stream_has_new_samples_in_each_pass(stored: Dataset) -> None:
    batches = len(stored) // 8
    stream = make_loader(stored, 8, workers=0, fresh=True, placements=True, steps_per_epoch=math.inf)
    for number, batch in enumerate(islice(stream, 3 * batches)):
        check(batch, stored.at_epoch(number // batches))


def test_a_state_of_stored_samples_is_refused(stored: Dataset) -> None:
    state = make_loader(stored, 8, workers=0).state_dict()
    with pytest.raises(SpecError) as caught:
        make_loader(stored, 8, workers=0, fresh=True).load_state_dict(state)
    assert caught.value.code == "state-differs"


def test_a_part_of_a_split_keeps_its_foregrounds(stored: Dataset) -> None:
    name = "objects/foreground" if stored.has_objects else "foreground"
    seen = {}
    for part in ("train", "test"):
        loader = make_loader(stored, 8, workers=0, fresh=True, placements=True, split=("fair", part))
        batches = [batch for _ in range(3) for batch in loader]
        found = torch.cat([batch[name].reshape(-1) for batch in batches])
        seen[part] = set(found[found >= 0].tolist())
        samples = stored.split("fair")[part]
        for batch in batches[: len(loader)]:
            check(batch, stored)
        check(batches[-1], stored.at_epoch(2, indices=samples))
    assert not seen["train"] & seen["test"]


def test_subsets_and_plain_loaders_have_them_too(stored: Dataset) -> None:
    whole = FgBgDataset(stored, fresh=True, placements=True)
    part, _ = random_split(whole, [20, len(whole) - 20], torch.Generator().manual_seed(1))
    loader = make_loader(part, 5, workers=0)
    loader.set_epoch(3)
    of_epoch = stored.at_epoch(3, indices=part.indices)
    for batch in loader:
        check(batch, of_epoch)
    check(next(iter(DataLoader(whole, batch_size=4, collate_fn=collate))), stored)
    one = whole[7]
    np.testing.assert_array_equal(one["mask"][0].numpy(), stored.mask[7])


def test_mixtures_are_fresh(stored: Dataset) -> None:
    mixture = make_loader([stored, stored], 8, weights=[1, 1], workers=0, fresh=True)
    mixture.set_epoch(6)
    batch = next(iter(mixture))
    # Each dataset has passes of its own, of 24 batches of 4 samples; an epoch has 24.
    expected = stored.at_epoch(6).mask[batch["index"].numpy()]
    np.testing.assert_array_equal(batch["mask"][:, 0].numpy(), expected)


@pytest.mark.parametrize("kind", ["imported", "depth", "guided"])
def test_what_cannot_be_composed_is_said(kinds: Kinds, kind: str) -> None:
    with pytest.raises(SpecError) as caught:
        make_loader(kinds[kind], fresh=True)
    assert caught.value.code == "samples-invalid"
    (problem,) = caught.value.problems
    assert problem.startswith("fresh: ")
    if kind != "imported":
        batch = next(iter(make_loader(kinds[kind], 8, fresh=True, fields=["image", "mask"], workers=0)))
        assert {*batch} == {"image", "mask", "index"}
