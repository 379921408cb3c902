"""Augmented batches are the same with any workers, batches and ranks, and after a state was loaded."""

from __future__ import annotations

import math
import pickle
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tensors import SAMPLES
from torch.utils.data import DataLoader

from fgbgpack import SpecError
from fgbgpack.torch import Augment, BlockShuffleSampler, FgBgDataset, collate, make_loader
from fgbgpack.torch.batches import EpochBatch, GroupBatch

pytestmark = [
    # Newer Pythons warn of forking where there are threads, which is what PyTorch's loaders do by default.
    pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning"),
    # Three workers are more than small machines have processors.
    pytest.mark.filterwarnings("ignore:This DataLoader will create:UserWarning"),
]

AUGMENT = Augment(size=(24, 32), blur_probability=1, seed=8)


@pytest.fixture(scope="module")
def expected(truth: Any) -> Any:
    """A function that gives all arrays of the dataset as they are augmented in an epoch."""
    arrays = {name: truth[name] for name in ("image", "mask", "depth")}
    return lambda epoch: AUGMENT.arrays(arrays, np.arange(SAMPLES), epoch=epoch)


def check(batch: dict[str, Any], expected: dict[str, np.ndarray]) -> list[int]:
    """A batch is augmented as expected; returns which samples it has."""
    index: list[int] = batch["index"].tolist()
    assert batch["image"].shape == (len(index), 3, 24, 32)
    assert batch["image"].dtype == torch.uint8
    np.testing.assert_array_equal(batch["image"].permute(0, 2, 3, 1).numpy(), expected["image"][index])
    np.testing.assert_array_equal(batch["mask"][:, 0].numpy(), expected["mask"][index])
    np.testing.assert_array_equal(batch["depth"][:, 0].numpy(), expected["depth"][index])
    return index


class TestLoaders:
    @pytest.mark.parametrize("workers", [0, 1, pytest.param(3, marks=pytest.mark.slow)])
    @pytest.mark.parametrize("shuffle", [True, False])
    def test_workers_and_epochs(self, path: Path, expected: Any, workers: int, shuffle: bool) -> None:
        loader = make_loader(path, 8, workers=workers, shuffle=shuffle, augment=AUGMENT, window=2)
        for epoch in range(2):
            seen = [i for batch in loader for i in check(batch, expected(epoch))]
            assert sorted(seen) == list(range(SAMPLES))
        loader.set_epoch(7)
        check(next(iter(loader)), expected(7))

    @pytest.mark.slow
    def test_workers_that_are_spawned(self, path: Path, expected: Any) -> None:
        loader = make_loader(path, 16, workers=1, start_method="spawn", augment=AUGMENT)
        assert sum(len(check(batch, expected(0))) for batch in loader) == SAMPLES

    @pytest.mark.parametrize("batch_size", [1, 7, 120])
    def test_batch_sizes(self, path: Path, expected: Any, batch_size: int) -> None:
        loader = make_loader(path, batch_size, workers=0, augment=AUGMENT, seed=3)
        assert sum(len(check(batch, expected(0))) for batch in loader) == SAMPLES

    def test_ranks(self, path: Path, expected: Any) -> None:
        seen = []
        for rank in range(2):
            loader = make_loader(path, 8, workers=0, augment=AUGMENT, rank=rank, world_size=2)
            loader.set_epoch(4)
            seen += [i for batch in loader for i in check(batch, expected(4))]
        assert sorted(seen) == list(range(SAMPLES))

    @pytest.mark.parametrize("workers", [0, 1])
    def test_a_state_within_an_epoch(self, path: Path, expected: Any, workers: int) -> None:
        first = make_loader(path, 8, workers=workers, augment=AUGMENT)
        first.set_epoch(2)
        seen = [i for batch in islice(iter(first), 5) for i in check(batch, expected(2))]
        second = make_loader(path, 8, workers=workers, augment=AUGMENT)
        second.load_state_dict(first.state_dict())
        seen += [i for batch in second for i in check(batch, expected(2))]
        assert sorted(seen) == list(range(SAMPLES))

    def test_a_sample_that_comes_twice_in_an_epoch_is_another_one(self, path: Path, expected: Any) -> None:
        passes = SAMPLES // 8
        loader = make_loader(path, 8, workers=0, augment=AUGMENT, steps_per_epoch=2 * passes)
        for number, batch in enumerate(loader):
            check(batch, expected(number // passes))
        stream = make_loader(path, 8, workers=0, augment=AUGMENT, steps_per_epoch=math.inf)
        for number, batch in enumerate(islice(iter(stream), 2 * passes)):
            check(batch, expected(number // passes))

    @pytest.mark.parametrize("workers", [0, 1])
    def test_then_floats(self, path: Path, expected: Any, workers: int) -> None:
        for batch in make_loader(path, 16, workers=workers, augment=AUGMENT, dtype=torch.float32):
            pixels = {name: (batch[name] * 255).round().byte() for name in ("image", "mask")}
            depth = {"depth": batch["depth"].half()}
            check({**pixels, **depth, "index": batch["index"]}, expected(0))

    @pytest.mark.parametrize("workers", [0, 1])
    def test_then_a_transform(self, path: Path, expected: Any, workers: int) -> None:
        loader = make_loader(path, 8, workers=workers, augment=AUGMENT, transform=rotated, placements=True)
        for batch in loader:
            check(rotated(batch), expected(0))

    def test_placements_are_those_of_the_dataset(self, path: Path, truth: Any) -> None:
        for batch in make_loader(path, 8, workers=0, augment=AUGMENT, placements=True):
            np.testing.assert_array_equal(batch["y"].numpy(), truth["y"][batch["index"].numpy()])

    def test_one_field(self, path: Path, expected: Any) -> None:
        for batch in make_loader(path, 8, workers=0, augment=AUGMENT, fields="mask"):
            index = batch["index"].numpy()
            np.testing.assert_array_equal(batch["mask"][:, 0].numpy(), expected(0)["mask"][index])

    def test_sizes_may_be_made_equal(self, path: Path, dataset: Path) -> None:
        augment = Augment(size=(20, 20))
        fields = ["image", "mask"]
        loader = make_loader([path, dataset], 8, workers=0, augment=augment, fields=fields)
        assert next(iter(loader))["image"].shape == (8, 3, 20, 20)


class TestOtherWays:
    def test_our_order_in_a_plain_loader(self, path: Path, expected: Any) -> None:
        dataset = FgBgDataset(path, augment=AUGMENT)
        loader = DataLoader(dataset, batch_sampler=BlockShuffleSampler(dataset, 8), collate_fn=collate)
        for epoch in range(2):
            for batch in loader:
                check(batch, expected(epoch))

    def test_samples_without_an_epoch(self, path: Path, expected: Any) -> None:
        dataset = FgBgDataset(path, augment=AUGMENT)
        assert dataset.size == (24, 32)
        check({name: value[None] for name, value in dataset[7].items()}, expected(0))
        for batch in DataLoader(dataset, batch_size=8, collate_fn=collate):
            check(batch, expected(0))

    def test_parts_of_batches_keep_the_epoch(self) -> None:
        positions = np.arange(10)
        group = GroupBatch(0, positions, 2, 6, 5)
        for batch in (
            group[:3],
            group + group[:1],
            EpochBatch([1, 2], 5)[1:],
            pickle.loads(pickle.dumps(group)),
        ):
            assert isinstance(batch, EpochBatch)
            assert batch.epoch == 5
        group += [1]
        sent = pickle.loads(pickle.dumps(group))
        assert type(sent) is EpochBatch
        assert (sent, sent.epoch) == ([2, 3, 4, 5, 6, 7, 1], 5)
        assert group[0] == 2

    @pytest.mark.parametrize("augment", [{"zoom": 2}, Augment(size=(2, 2))])
    def test_what_is_refused(self, path: Path, augment: Any) -> None:
        with pytest.raises(SpecError) as caught:
            make_loader(path, 8, augment=augment)
        assert caught.value.code == "samples-invalid"
        assert "augment: " in str(caught.value)


def rotated(sample: dict[str, Any]) -> dict[str, Any]:
    """Mirror the pictures once more."""
    return {name: torch.flip(v, [-1]) if v.ndim > 2 else v for name, v in sample.items()}
