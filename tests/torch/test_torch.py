"""Datasets in PyTorch: every sample once, in one order, whoever reads it; the bytes that the dataset has."""

from __future__ import annotations

import multiprocessing
import os
import pickle
import re
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from builders import SMALL_SHARDS, Pictures, depth_of
from hypothesis import given
from hypothesis import strategies as st
from torch.utils.data import DataLoader, Subset, get_worker_info

from fgbgpack import Dataset, DatasetError, SpecError, create, open_dataset
from fgbgpack.storage import layout as plan_module
from fgbgpack.torch import BlockShuffleSampler, FgBgDataset, FgBgLoader, collate, make_loader
from fgbgpack.torch.batches import Recycled, Slots

pytestmark = [
    # Newer Pythons warn of forking where there are threads, which is what PyTorch's loaders do by default.
    pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning"),
    # Three workers are more than small machines have processors.
    pytest.mark.filterwarnings("ignore:This DataLoader will create:UserWarning"),
]

SAMPLES = 120
CHUNK = 5


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory, pictures: Pictures, depth_model: Path) -> Path:
    """120 samples with depth in 24 chunks, and a split."""
    path = tmp_path_factory.mktemp("torch") / "many.zarr"
    spec = pictures.spec(
        width=25, height=15, foreground_height=8, placements=10, chunk=CHUNK, depth=depth_of(depth_model)
    )
    with pytest.MonkeyPatch.context() as patch:
        for name, size in SMALL_SHARDS.items():
            patch.setattr(plan_module, name, size)
        create(path, spec)
    open_dataset(path).save_split("two", {"train": 2 / 3, "test": 1 / 3})
    return path


@pytest.fixture(scope="module")
def truth(path: Path) -> dict[str, np.ndarray]:
    """All arrays of the dataset."""
    return open_dataset(path).to_numpy()


def indices_of(batches: Any) -> list[int]:
    return [i for batch in batches for i in batch["index"].tolist()]


def order_of(sampler: BlockShuffleSampler) -> list[list[int]]:
    return [list(batch) for batch in sampler]


def check(batch: dict[str, torch.Tensor], truth: dict[str, np.ndarray]) -> None:
    """A batch has the dataset's bytes."""
    index = batch["index"].numpy()
    image, mask, depth = (batch[name].numpy() for name in ("image", "mask", "depth"))
    np.testing.assert_array_equal(image.transpose(0, 2, 3, 1), truth["image"][index])
    np.testing.assert_array_equal(mask[:, 0], truth["mask"][index])
    np.testing.assert_array_equal(depth[:, 0], truth["depth"][index])


# --- samples ---------------------------------------------------------------------------------------


class TestSamples:
    def test_a_sample_has_the_bytes_and_the_shapes_that_are_told(self, path: Path, truth: Any) -> None:
        sample = FgBgDataset(path)[7]
        assert {name: (t.dtype, tuple(t.shape)) for name, t in sample.items()} == {
            "image": (torch.uint8, (3, 15, 25)),
            "mask": (torch.uint8, (1, 15, 25)),
            "depth": (torch.float16, (1, 15, 25)),
            "index": (torch.int64, ()),
        }
        check({name: tensor[None] for name, tensor in sample.items()}, truth)

    def test_a_floating_type_is_zero_to_one(self, path: Path, truth: Any) -> None:
        for dtype in (torch.float32, torch.float16, torch.bfloat16, torch.float64):
            sample = FgBgDataset(path, dtype=dtype)[7]
            assert {sample[name].dtype for name in ("image", "mask", "depth")} == {dtype}
            assert sample["index"].dtype == torch.int64
            expected = (torch.from_numpy(truth["image"][7]).permute(2, 0, 1).double() / 255).to(dtype)
            torch.testing.assert_close(sample["image"], expected, rtol=0, atol=torch.finfo(dtype).eps)
            assert sample["mask"].max() == 1
            assert sample["mask"].min() == 0
            np.testing.assert_array_equal(
                sample["depth"][0].double(), torch.from_numpy(truth["depth"][7]).to(dtype).double()
            )

    def test_batches_are_channels_last_and_not_copied(self, path: Path) -> None:
        batch = collate(FgBgDataset(path).__getitems__([1, 2, 3]))
        assert batch["image"].is_contiguous(memory_format=torch.channels_last)
        memory = {tensor.untyped_storage().data_ptr() for tensor in batch.values()}
        assert len(memory) == 1

    def test_fields_and_placements_are_those_asked_for(self, path: Path, truth: Any) -> None:
        data = FgBgDataset(path, fields=["mask"], placements=True)
        placements = ["background", "foreground", "flip", "replica", "y", "x"]
        assert list(data[0]) == ["mask", "index", *placements]
        batch = collate(data.__getitems__([100, 3, 64]))
        for name in placements:
            np.testing.assert_array_equal(batch[name].numpy(), truth[name][[100, 3, 64]])
        assert batch["flip"].dtype == torch.bool

    def test_a_field_may_be_named_alone(self, path: Path) -> None:
        assert list(FgBgDataset(path, fields="image")[0]) == ["image", "index"]

    def test_a_dataset_without_depth_has_none(self, dataset: Path) -> None:
        assert list(FgBgDataset(dataset)[0]) == ["image", "mask", "index"]

    def test_some_samples(self, path: Path, truth: Any) -> None:
        data = FgBgDataset(path, indices=[50, -1, 3])
        assert len(data) == 3
        assert [int(data[i]["index"]) for i in (0, 1, 2, -1)] == [50, 119, 3, 3]
        check(collate(data.__getitems__([2, 0])), truth)
        for position in (3, -4):
            with pytest.raises(IndexError, match=f"no sample {position}: there are 3"):
                data[position]

    def test_a_part_of_a_split(self, path: Path) -> None:
        data = FgBgDataset(path, split=("two", "test"))
        assert data.indices.tolist() == open_dataset(path).split("two")["test"].tolist()
        assert len(data) == 40

    def test_an_open_dataset_serves_as_well(self, path: Path, truth: Any) -> None:
        data = FgBgDataset(open_dataset(path))
        check(collate(data.__getitems__(range(10))), truth)
        assert "120 samples" in repr(data)

    def test_recomposed_pixels_are_the_same(self, path: Path, truth: Any) -> None:
        data = FgBgDataset(path, pixels="recomposed")
        assert isinstance(data.dataset, Dataset)
        assert data.dataset.pixels == "recomposed"
        check(collate(data.__getitems__([5, 77, 6])), truth)

    def test_a_transform_gets_all_of_a_sample(self, path: Path, truth: Any) -> None:
        data = FgBgDataset(path, transform=crop_by_index)
        for batch in DataLoader(data, batch_size=8, collate_fn=collate):
            check_cropped(batch, truth)

    def test_a_pickled_dataset_reads_the_same(self, path: Path, truth: Any) -> None:
        data = FgBgDataset(path, indices=range(20))
        _ = data[0]
        check(collate(pickle.loads(pickle.dumps(data)).__getitems__([19, 4])), truth)

    def test_all_that_is_wrong_is_told_together(self, dataset: Path) -> None:
        with pytest.raises(SpecError) as caught:
            FgBgDataset(dataset, fields=["colour", "depth"], dtype=torch.int32, indices=[3, 36])
        assert len(caught.value.problems) == 4
        for words in ("'colour'", "no depth; fill it with fgbgpack depth", "torch.int32", "found 36"):
            assert words in str(caught.value)

    @pytest.mark.parametrize(
        ("options", "words"),
        [
            ({"fields": []}, "found none"),
            ({"indices": []}, "expected a list of integers"),
            ({"indices": [0.5]}, "float64"),
            ({"indices": [[1]]}, r"shape \(1, 1\)"),
            ({"indices": [-121]}, "found -121"),
            ({"split": "two"}, "names of a split and of one of its parts"),
            ({"split": ("three", "train")}, "'three', expected one that .* has: two"),
            ({"split": ("two", "val")}, "'val', expected one of train, test"),
            ({"split": ("two", "test"), "indices": [1]}, "one of the two"),
        ],
    )
    def test_a_wrong_option_is_named(self, path: Path, options: Any, words: str) -> None:
        with pytest.raises(SpecError, match=words):
            FgBgDataset(path, **options)

    def test_no_dataset(self, tmp_path: Path) -> None:
        with pytest.raises(DatasetError, match="no such folder"):
            FgBgDataset(tmp_path / "no.zarr")


def crop_by_index(sample: dict[str, Any]) -> dict[str, Any]:
    """Cut another part out of each sample, and say of what."""
    left = int(sample["index"]) % 7
    cut = {name: sample[name][:, 2:10, left : left + 12] for name in ("image", "mask", "depth")}
    return cut | {"index": sample["index"], "left": left, "name": f"sample {int(sample['index'])}"}


def check_cropped(batch: dict[str, Any], truth: dict[str, np.ndarray]) -> None:
    assert batch["image"].shape[1:] == (3, 8, 12)
    assert batch["left"].tolist() == [i % 7 for i in batch["index"].tolist()]
    assert batch["name"] == [f"sample {i}" for i in batch["index"].tolist()]
    for row, (i, left) in enumerate(zip(batch["index"].tolist(), batch["left"].tolist(), strict=True)):
        corner = np.s_[2:10, left : left + 12]
        np.testing.assert_array_equal(batch["image"][row].permute(1, 2, 0), truth["image"][i][corner])
        np.testing.assert_array_equal(batch["mask"][row, 0], truth["mask"][i][corner])
        np.testing.assert_array_equal(batch["depth"][row, 0], truth["depth"][i][corner])


class TestCollate:
    def test_samples_that_differ_are_refused(self) -> None:
        samples = [{"image": torch.zeros(3, 8, n)} for n in (4, 5)]
        with pytest.raises(SpecError, match=r"image is float32 of shape \(3, 8, 4\) and .*\(3, 8, 5\)"):
            collate(samples)

    def test_a_list_of_dictionaries_is_stacked(self) -> None:
        batch = collate([{"a": torch.full((2,), i), "b": i, "c": str(i)} for i in range(3)])
        assert batch["a"].tolist() == [[0, 0], [1, 1], [2, 2]]
        assert batch["b"].tolist() == [0, 1, 2]
        assert batch["c"] == ["0", "1", "2"]


class TestRecycledMemory:
    SIZE = 2 << 20

    def test_memory_is_used_again_once_no_tensor_of_it_is_left(self) -> None:
        own = Recycled()
        first = own(self.SIZE).tensor
        part = first[5:9].view(2, 2)
        place = first.data_ptr()
        del first
        assert own(self.SIZE).tensor.data_ptr() != place
        kept = own(self.SIZE)
        del part
        assert own(self.SIZE // 2).tensor.data_ptr() == place
        assert own(self.SIZE).tensor.data_ptr() == place
        assert own(self.SIZE // 2 - 1).tensor.data_ptr() != place
        assert len(kept.tensor) == self.SIZE

    def test_little_of_it_is_kept(self) -> None:
        own = Recycled()
        held = [own(self.SIZE + i) for i in range(30)]
        del held
        for _ in range(3):
            del_me = own(8 * self.SIZE)
            del del_me
        assert len(own._free) <= 9

    def test_a_dataset_reads_into_it(self, path: Path, truth: Any) -> None:
        data = FgBgDataset(path)
        positions = [*range(SAMPLES)] * 10
        places = set()
        for _ in range(4):
            batch = collate(data.__getitems__(positions))
            check(batch, truth)
            places.add(batch["image"].data_ptr())
        assert len(places) == 2  # a batch is only let go of when the next one is there


class TestPlainLoader:
    """``torch.utils.data.DataLoader`` with nothing of ours but the dataset."""

    @pytest.mark.parametrize("workers", [0, 2])
    @pytest.mark.parametrize("collate_fn", [None, collate])
    def test_an_epoch(self, path: Path, truth: Any, workers: int, collate_fn: Any) -> None:
        loader = DataLoader(
            FgBgDataset(path), batch_size=7, shuffle=True, num_workers=workers, collate_fn=collate_fn
        )
        seen = []
        for batch in loader:
            check(batch, truth)
            seen += batch["index"].tolist()
        assert sorted(seen) == list(range(SAMPLES))

    def test_without_batches(self, path: Path) -> None:
        samples = list(DataLoader(FgBgDataset(path), batch_size=None))
        assert [int(sample["index"]) for sample in samples] == list(range(SAMPLES))

    def test_a_subset_of_it(self, path: Path, truth: Any) -> None:
        loader = DataLoader(Subset(FgBgDataset(path), [9, 2, 40]), batch_size=2, collate_fn=collate)
        for batch in loader:
            check(batch, truth)
        assert indices_of(loader) == [9, 2, 40]

    @pytest.mark.parametrize("collate_fn", [None, collate])
    def test_our_sampler(self, path: Path, truth: Any, collate_fn: Any) -> None:
        data = FgBgDataset(path)
        sampler = BlockShuffleSampler(data, 8, window=4)
        loader = DataLoader(data, batch_sampler=sampler, num_workers=2, collate_fn=collate_fn)
        batches = list(loader)
        assert [batch["index"].tolist() for batch in batches] == order_of(sampler)
        for batch in batches:
            check(batch, truth)


# --- the order -------------------------------------------------------------------------------------


class TestOrder:
    @pytest.mark.parametrize("shuffle", [True, False])
    @given(
        samples=st.integers(1, SAMPLES),
        size=st.integers(1, 40),
        window=st.integers(1, 9),
        lanes=st.integers(1, 5),
        ranks=st.integers(1, 5),
        epoch=st.integers(0, 2**40),
    )
    def test_all_ranks_together_take_each_sample_once(
        self,
        path: Path,
        shuffle: bool,
        samples: int,
        size: int,
        window: int,
        lanes: int,
        ranks: int,
        epoch: int,
    ) -> None:
        chosen = np.random.default_rng(samples).permutation(SAMPLES)[:samples]
        data = FgBgDataset(open_once(path), indices=chosen)
        options = {"window": window, "lanes": lanes, "world_size": ranks, "shuffle": shuffle}
        if samples < ranks:
            with pytest.raises(SpecError, match="cannot be shared"):
                BlockShuffleSampler(data, size, **options)
            return
        each = []
        for rank in range(ranks):
            sampler = BlockShuffleSampler(data, size, rank=rank, **options)
            sampler.set_epoch(epoch)
            each.append(order_of(sampler))
            assert len(each[-1]) == len(sampler)
        assert sorted(i for batches in each for batch in batches for i in batch) == list(range(samples))
        assert {len(batch) for batches in each for batch in batches} <= set(range(1, size + 1))
        held = [sum(map(len, batches)) for batches in each]
        assert max(held) - min(held) <= 1
        steps = [len(batches) for batches in each]
        assert max(steps) - min(steps) <= (size == 1)
        assert max(steps) == -(-max(held) // size)

    @given(size=st.integers(1, 40), ranks=st.integers(1, 5), lanes=st.integers(1, 4))
    def test_without_what_is_left_over_all_batches_are_full(
        self, path: Path, size: int, ranks: int, lanes: int
    ) -> None:
        data = FgBgDataset(open_once(path))
        options = {"window": 3, "lanes": lanes, "world_size": ranks, "drop_last": True}
        if size * ranks > SAMPLES:
            with pytest.raises(SpecError, match="do not fill a batch"):
                BlockShuffleSampler(data, size, **options)
            return
        taken: list[int] = []
        for rank in range(ranks):
            batches = order_of(BlockShuffleSampler(data, size, rank=rank, **options))
            assert [len(batch) for batch in batches] == [size] * (SAMPLES // (size * ranks))
            taken += [i for batch in batches for i in batch]
        assert len(set(taken)) == len(taken)

    def test_an_order_never_changes(self, path: Path) -> None:
        sampler = BlockShuffleSampler(FgBgDataset(path), 6, window=3, lanes=2, seed=7)
        sampler.set_epoch(3)
        assert order_of(sampler)[:3] == [
            [12, 14, 10, 117, 13, 11],
            [106, 64, 61, 108, 105, 107],
            [90, 92, 94, 28, 27, 91],
        ]

    def test_epochs_and_seeds_have_orders_of_their_own(self, path: Path) -> None:
        data = FgBgDataset(path)
        orders = []
        for seed, epoch in ((0, 0), (0, 1), (1, 0), (1, 1)):
            sampler = BlockShuffleSampler(data, 8, seed=seed)
            sampler.set_epoch(epoch)
            orders.append(order_of(sampler))
            assert order_of(sampler) == orders[-1]
        assert all(a != b for i, a in enumerate(orders) for b in orders[:i])

    def test_without_shuffling_samples_come_in_their_own_order(self, path: Path) -> None:
        data = FgBgDataset(path, indices=[9, 4, 77, 5, 0])
        assert order_of(BlockShuffleSampler(data, 2, shuffle=False)) == [[0, 1], [2, 3], [4]]

    @pytest.mark.parametrize("lanes", [1, 3])
    def test_a_batch_comes_from_few_chunks_and_mixes_them(self, path: Path, lanes: int) -> None:
        sampler = BlockShuffleSampler(FgBgDataset(path), 10, window=4, lanes=lanes)
        touched = [len({i // CHUNK for i in batch}) for batch in sampler]
        # A lot may begin and end within a chunk.
        assert max(touched) <= 4 + 2
        assert np.mean(touched[lanes * 2 :]) > 3

    @pytest.mark.parametrize("options", [{"lanes": 1}, {"lanes": 4}, {"lanes": 4, "dtype": torch.float32}])
    def test_an_epoch_decodes_each_chunk_about_once(self, path: Path, options: Any) -> None:
        dtype = options.pop("dtype", None)
        data = FgBgDataset(path, dtype=dtype)
        loader = make_loader(data, 10, workers=0, window=4, **options)
        assert sorted(indices_of(loader)) == list(range(SAMPLES))
        decoded = data.dataset.image.chunks_decoded
        # Lots are made of whole batches, here of two chunks: none needs to be cut.
        assert decoded == SAMPLES // CHUNK

    @pytest.mark.parametrize(
        ("options", "words"),
        [
            ({"batch_size": 0}, "batch_size: found 0"),
            ({"window": 0, "lanes": 0}, "window: found 0.*\n.*lanes: found 0"),
            ({"seed": -1}, "seed: found -1"),
            ({"seed": 1.5}, "seed: found 1.5"),
            ({"rank": 2, "world_size": 2}, "rank: found 2, expected a whole number from 0 to 1"),
            ({"rank": 1}, "rank: found 1"),
        ],
    )
    def test_a_wrong_number_is_named(self, path: Path, options: Any, words: str) -> None:
        with pytest.raises(SpecError, match=words):
            BlockShuffleSampler(FgBgDataset(path), **({"batch_size": 8} | options))

    def test_a_wrong_epoch_is_named(self, path: Path) -> None:
        with pytest.raises(SpecError, match="epoch: found -1"):
            BlockShuffleSampler(FgBgDataset(path), 8).set_epoch(-1)


_open: dict[Path, Dataset] = {}


def open_once(path: Path) -> Dataset:
    """The open dataset, for tests that need it very often."""
    if path not in _open:
        _open[path] = open_dataset(path)
    return _open[path]


# --- states ----------------------------------------------------------------------------------------


class TestState:
    @pytest.mark.parametrize("workers", [0, 2])
    @pytest.mark.parametrize("given_out", [1, 5, 14, 15])
    def test_a_loader_goes_on_where_another_was(self, path: Path, workers: int, given_out: int) -> None:
        whole = make_loader(path, 8, workers=0, seed=3, window=3)
        epochs = [[batch["index"].tolist() for batch in whole] for _ in range(3)]
        first = make_loader(path, 8, workers=workers, seed=3, window=3)
        for _ in first:
            pass
        batches = iter(first)
        for _ in range(given_out):
            next(batches)
        state = first.state_dict()
        del batches

        # The seed comes with the state.
        second = make_loader(path, 8, workers=workers, window=3)
        second.load_state_dict(state)
        assert second.state_dict() == state
        rest = epochs[1][given_out:]
        if rest:
            assert second.epoch == 1
            second.set_epoch(1)
            assert [batch["index"].tolist() for batch in second] == rest
        assert second.epoch == 2
        assert [batch["index"].tolist() for batch in second] == epochs[2]

    def test_a_state_survives_torch_save(self, path: Path, tmp_path: Path) -> None:
        loader = make_loader(path, 8, workers=0)
        next(iter(loader))
        torch.save(loader.state_dict(), tmp_path / "state.pt")
        assert torch.load(tmp_path / "state.pt", weights_only=True) == loader.state_dict()

    def test_another_epoch_begins_at_its_beginning(self, path: Path) -> None:
        loader = make_loader(path, 8, workers=0)
        next(iter(loader))
        loader.load_state_dict(loader.state_dict())
        loader.set_epoch(5)
        assert len(list(loader)) == len(loader) == 15
        assert loader.state_dict()["epoch"] == 6
        assert loader.state_dict()["batches"] == 0

    def test_who_leaves_early_begins_the_same_epoch_again(self, path: Path) -> None:
        loader = make_loader(path, 8, workers=2)
        first = [batch["index"].tolist() for batch, _ in zip(loader, range(4), strict=False)]
        assert loader.epoch == 0
        assert [batch["index"].tolist() for batch in loader][:4] == first
        assert loader.epoch == 1

    def test_a_sampler_alone_counts_what_was_asked_for(self, path: Path) -> None:
        data = FgBgDataset(path)
        sampler = BlockShuffleSampler(data, 8, seed=9)
        order = order_of(sampler)
        batches = iter(sampler)
        for _ in range(4):
            next(batches)
        other = BlockShuffleSampler(data, 8)
        other.load_state_dict(sampler.state_dict())
        assert order_of(other) == order[4:]
        assert order_of(other) == order
        other.load_state_dict(sampler.state_dict(batches=2))
        assert order_of(other) == order[2:]

    def test_a_state_of_another_order_is_refused(self, path: Path) -> None:
        state = make_loader(path, 8, workers=0, window=3).state_dict()
        other = make_loader(path, 9, workers=0, window=4, indices=range(60), world_size=2)
        with pytest.raises(SpecError) as caught:
            other.load_state_dict(state)
        told = [problem.split(":")[0] for problem in caught.value.problems]
        assert told == ["samples", "batch_size", "window", "world_size"]
        assert "batch_size: found 8, expected 9" in str(caught.value)


# --- workers ---------------------------------------------------------------------------------------


class TestWorkers:
    @pytest.mark.parametrize("lanes", [1, 2, 4])
    def test_the_order_is_the_same_with_any_number(self, path: Path, truth: Any, lanes: int) -> None:
        orders = []
        for workers in range(4):
            loader = make_loader(path, 8, workers=workers, window=2, lanes=lanes, seed=1)
            batches = []
            for batch in loader:
                check(batch, truth)
                batches.append(batch["index"].tolist())
            orders.append(batches)
        assert orders[0] == orders[1] == orders[2] == orders[3]
        assert sorted(i for batch in orders[0] for i in batch) == list(range(SAMPLES))

    @pytest.mark.parametrize("method", ["fork", "spawn", "forkserver"])
    @pytest.mark.parametrize("opened", [False, True])
    def test_every_start_method(self, path: Path, truth: Any, method: str, opened: bool) -> None:
        dataset: Any = path
        if opened:
            dataset = open_dataset(path)
            # Its threads, files and decoded chunks are those of this process.
            dataset.read(range(SAMPLES), threads=4)
        workers = 2 if method == "fork" else 1  # others begin by importing everything
        loader = make_loader(dataset, 16, workers=workers, start_method=method, placements=True, window=2)
        seen = []
        for batch in loader:
            check(batch, truth)
            np.testing.assert_array_equal(batch["y"].numpy(), truth["y"][batch["index"].numpy()])
            seen += batch["index"].tolist()
        assert sorted(seen) == list(range(SAMPLES))

    @pytest.mark.parametrize("options", [{}, {"dtype": torch.float32}, {"shuffle": False}])
    def test_batches_that_are_kept_stay_as_they_are(self, path: Path, truth: Any, options: Any) -> None:
        """More than there is shared memory for, through several epochs that use it again."""
        loader = make_loader(path, 4, workers=2, window=1, prefetch=1, **options)
        for _ in range(3):
            kept = list(loader)
            assert len(kept) == 30
            for batch in kept:
                if options.get("dtype"):
                    batch = batch | {name: (batch[name] * 255).round() for name in ("image", "mask")}
                check(batch, truth)

    def test_memory_is_used_again(self, path: Path) -> None:
        loader = make_loader(path, 4, workers=2, window=1, prefetch=1)
        lots = set()
        for _ in range(3):
            for batch in loader:
                # In what is mapped again and again, a lot begins at a page.
                lots.add(batch["image"].untyped_storage().data_ptr())
        slots = loader.collate_fn.keywords["slots"]
        assert isinstance(slots, Slots)
        assert len(lots) <= slots._count

    def test_a_batch_that_was_changed_is_read_anew(self, path: Path, truth: Any) -> None:
        for workers in (0, 1):
            loader = make_loader(path, 8, workers=workers)
            for _ in range(2):
                batch = next(iter(loader))
                check(batch, truth)
                batch["image"].fill_(0)
                batch["depth"].zero_()

    @pytest.mark.parametrize("workers", [0, 2])
    def test_transforms_see_the_same_part_of_all_fields(self, path: Path, truth: Any, workers: int) -> None:
        seen = []
        for batch in make_loader(path, 8, workers=workers, transform=crop_by_index):
            check_cropped(batch, truth)
            seen += batch["index"].tolist()
        assert sorted(seen) == list(range(SAMPLES))

    @pytest.mark.parametrize("workers", [0, 1])
    def test_a_transform_may_make_samples_larger(self, path: Path, workers: int) -> None:
        for batch in make_loader(path, 8, workers=workers, transform=enlarge):
            assert batch["image"].shape == (8, 3, 150, 250)

    @pytest.mark.parametrize("workers", [0, 2])
    def test_floats(self, path: Path, truth: Any, workers: int) -> None:
        for batch in make_loader(path, 8, workers=workers, dtype=torch.float32):
            assert batch["image"].is_contiguous(memory_format=torch.channels_last)
            expected = truth["image"][batch["index"].numpy()].astype(np.float32) / np.float32(255)
            np.testing.assert_array_equal(batch["image"].permute(0, 2, 3, 1).numpy(), expected)

    def test_a_collate_of_ones_own_may_change_what_ours_gives(self, path: Path, truth: Any) -> None:
        data = FgBgDataset(path)
        loader = DataLoader(data, batch_size=8, num_workers=1, collate_fn=halved)
        for batch in loader:
            assert batch["image"].dtype == torch.float32
            assert batch["worker"] == 0
            assert "depth" not in batch
            expected = truth["image"][batch["index"].numpy()].transpose(0, 3, 1, 2) / 2
            np.testing.assert_array_equal(batch["image"].numpy(), expected)

    def test_ranks_share_an_epoch(self, path: Path) -> None:
        loaders = [make_loader(path, 8, workers=1, rank=rank, world_size=2) for rank in range(2)]
        assert [len(loader) for loader in loaders] == [8, 8]
        assert sorted(indices_of(loaders[0]) + indices_of(loaders[1])) == list(range(SAMPLES))

    def test_a_worker_is_told_its_number_when_it_starts(self, path: Path, tmp_path: Path) -> None:
        loader = make_loader(path, 8, workers=2, worker_init=Noting(tmp_path))
        assert len(list(loader)) == 15
        assert sorted(file.name for file in tmp_path.iterdir()) == ["worker 0", "worker 1"]

    def test_defaults(self, path: Path) -> None:
        loader = make_loader(path)
        assert isinstance(loader, FgBgLoader)
        assert loader.num_workers <= 4
        assert loader.pin_memory == torch.cuda.is_available()
        assert sorted(indices_of(loader)) == list(range(SAMPLES))

    def test_options_belong_to_the_dataset_that_has_them(self, path: Path) -> None:
        with pytest.raises(SpecError, match="leave out fields, dtype"):
            make_loader(FgBgDataset(path), fields=["image"], dtype=torch.float32)

    @pytest.mark.skipif(torch.cuda.is_available(), reason="there is CUDA here")
    def test_no_memory_is_pinned_for_nothing(self, path: Path) -> None:
        with pytest.raises(SpecError, match="no CUDA"):
            make_loader(path, pin_memory=True)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA here")
@pytest.mark.parametrize("workers", [0, 2])
def test_batches_are_pinned_where_cuda_is_there(path: Path, truth: Any, workers: int) -> None:
    for batch in make_loader(path, 8, workers=workers):
        assert all(tensor.is_pinned() for tensor in batch.values())
        on_device = {name: tensor.to("cuda", non_blocking=True) for name, tensor in batch.items()}
        check({name: tensor.cpu() for name, tensor in on_device.items()}, truth)


class Noting:
    """Leaves a file for each worker."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def __call__(self, number: int) -> None:
        (self.folder / f"worker {number}").touch()


def enlarge(sample: dict[str, Any]) -> dict[str, Any]:
    return {"image": sample["image"].repeat(1, 10, 10)}


def halved(samples: Any) -> dict[str, Any]:
    batch = collate(samples)
    del batch["depth"]
    worker = get_worker_info()
    assert worker is not None
    return batch | {"image": batch["image"] / 2, "worker": worker.id}


# --- what goes wrong -------------------------------------------------------------------------------


def leave(sample: dict[str, Any]) -> dict[str, Any]:
    """End the worker without a word, at a certain sample."""
    if int(sample["index"]) == 60:
        os._exit(3)
    return sample


def be_killed(sample: dict[str, Any]) -> dict[str, Any]:
    if int(sample["index"]) == 60:
        os.kill(os.getpid(), signal.SIGKILL)
    return sample


def error_of(loader: FgBgLoader) -> tuple[type[Exception], str]:
    """The error that ends an epoch, after which no worker is left."""
    others = set(multiprocessing.active_children())
    with pytest.raises(Exception) as caught:
        list(loader)
    assert set(multiprocessing.active_children()) <= others
    return caught.type, str(caught.value)


class TestTrouble:
    @pytest.mark.parametrize("how", [leave, be_killed])
    def test_a_worker_that_dies_is_an_error(self, path: Path, how: Any) -> None:
        kind, message = error_of(make_loader(path, 8, workers=2, transform=how))
        assert kind is RuntimeError
        assert re.match(r"DataLoader worker .* (exited|killed)", message)

    @pytest.mark.parametrize("workers", [0, 2])
    def test_a_damaged_shard_is_named(self, path: Path, tmp_path: Path, workers: int) -> None:
        copy = tmp_path / "damaged.zarr"
        shutil.copytree(path, copy)
        shard = sorted((copy / "mask" / "c").rglob("0"))[-1]
        content = bytearray(shard.read_bytes())
        content[20] ^= 255
        shard.write_bytes(content)
        kind, message = error_of(make_loader(copy, 8, workers=workers))
        assert kind is DatasetError
        assert "damaged.zarr/mask" in message

    def test_samples_that_differ_are_named_from_a_worker(self, path: Path) -> None:
        kind, message = error_of(make_loader(path, 8, workers=1, transform=ragged))
        assert kind is SpecError
        assert "must be alike, and image is" in message


def ragged(sample: dict[str, Any]) -> dict[str, Any]:
    return {"image": sample["image"][:, :, : 5 + int(sample["index"]) % 9]}


def test_without_pytorch_the_extra_is_named() -> None:
    code = "import sys; sys.modules['torch'] = None\nimport fgbgpack\nimport fgbgpack.torch"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1] == (
        "ModuleNotFoundError: fgbgpack.torch needs PyTorch, which is not installed: "
        'pip install "fgbgpack[torch]"'
    )
