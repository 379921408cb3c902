"""Samples as tensors: the bytes that the dataset has, in memory that is recycled."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tensors import SAMPLES, check, check_cropped, crop_by_index, indices_of
from torch.utils.data import DataLoader, Subset

from fgbgpack import Dataset, DatasetError, SpecError, open_dataset
from fgbgpack.torch import BlockShuffleSampler, FgBgDataset, collate, make_loader
from fgbgpack.torch.memory import MemoryPool

pytestmark = [
    # Newer Pythons warn of forking where there are threads, which is what PyTorch's loaders do by default.
    pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning"),
    # Three workers are more than small machines have processors.
    pytest.mark.filterwarnings("ignore:This DataLoader will create:UserWarning"),
]


class TestSamples:
    @pytest.mark.slow
    def test_a_sample_has_the_bytes_and_the_documented_shapes(self, path: Path, truth: Any) -> None:
        sample = FgBgDataset(path)[7]
        assert {name: (t.dtype, tuple(t.shape)) for name, t in sample.items()} == {
            "image": (torch.uint8, (3, 15, 25)),
            "mask": (torch.uint8, (1, 15, 25)),
            "depth": (torch.float16, (1, 15, 25)),
            "index": (torch.int64, ()),
        }
        check({name: tensor[None] for name, tensor in sample.items()}, truth)

    @pytest.mark.slow
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

    @pytest.mark.slow
    def test_batches_are_channels_last_and_not_copied(self, path: Path) -> None:
        batch = collate(FgBgDataset(path).__getitems__([1, 2, 3]))
        assert batch["image"].is_contiguous(memory_format=torch.channels_last)
        memory = {tensor.untyped_storage().data_ptr() for tensor in batch.values()}
        assert len(memory) == 1

    def test_chosen_fields_and_placements(self, path: Path, truth: Any) -> None:
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
        data = FgBgDataset(path, indices=torch.tensor([50, -1, 3]))
        assert len(data) == 3
        assert [int(data[i]["index"]) for i in (0, 1, 2, -1)] == [50, 119, 3, 3]
        check(collate(data.__getitems__([2, 0])), truth)
        assert int(data[np.int64(1)]["index"]) == 119
        assert FgBgDataset(path, indices=slice(4, 10, 3)).indices.tolist() == [4, 7]
        for position in (3, -4, 0.5):
            with pytest.raises(IndexError):
                data[position]  # type: ignore[index]

    @pytest.mark.parametrize(
        ("indices", "listed"),
        [
            (None, list(range(120))),
            (slice(4, 40, 7), list(range(4, 40, 7))),
            ([9], [9]),
            ([5, 4], [5, 4]),
            ([3, 3], [3, 3]),
            ([1, 2, 4], [1, 2, 4]),
        ],
    )
    def test_samples_are_the_same_however_they_are_named(
        self, path: Path, indices: Any, listed: list[int]
    ) -> None:
        data, same = FgBgDataset(path, indices=indices), FgBgDataset(path, indices=np.array(listed))
        assert len(data) == len(listed)
        assert data.indices.dtype == np.int64
        assert data.indices.tolist() == same.indices.tolist() == listed
        assert data.indices_digest == same.indices_digest
        assert data.indices_digest != FgBgDataset(path, indices=[*listed, 0]).indices_digest
        assert [int(data[i]["index"]) for i in (0, -1)] == [listed[0], listed[-1]]
        some = data.subset([-1, 0])
        assert some.indices.tolist() == [listed[-1], listed[0]]
        for position in (len(listed), -len(listed) - 1):
            with pytest.raises(IndexError):
                data[position]
            with pytest.raises(IndexError):
                collate(data.__getitems__([0, position]))

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

    def test_all_problems_are_reported_together(self, dataset: Path) -> None:
        with pytest.raises(SpecError) as caught:
            FgBgDataset(dataset, fields=["colour", "depth"], dtype=torch.int32, indices=[3, 36])
        assert caught.value.code == "samples-invalid"
        assert len(caught.value.problems) == 4
        for part in ("'colour'", "no depth; fill it with fgbgpack depth", "torch.int32", "index 36 is out"):
            assert part in str(caught.value)

    @pytest.mark.parametrize(
        ("options", "part"),
        [
            ({"fields": []}, "fields: found none"),
            ({"indices": []}, "indices: found none"),
            ({"indices": [0.5]}, "float64"),
            ({"indices": [[1]]}, "shape (1, 1)"),
            ({"indices": [-121]}, "indices: index -121"),
            ({"split": "two"}, "names of a split and of one of its parts"),
            ({"split": ("three", "train")}, "no split 'three'; it has two"),
            ({"split": ("two", "val")}, "no part 'val'; it has train, test"),
            ({"split": ("two", "test"), "indices": [1]}, "split: found indices as well"),
        ],
    )
    def test_a_wrong_option_is_named(self, path: Path, options: Any, part: str) -> None:
        with pytest.raises(SpecError) as caught:
            FgBgDataset(path, **options)
        (problem,) = caught.value.problems
        assert part in problem

    def test_no_dataset(self, tmp_path: Path) -> None:
        with pytest.raises(DatasetError) as caught:
            FgBgDataset(tmp_path / "no.zarr")
        assert caught.value.code == "dataset-missing"


class TestCollate:
    def test_samples_that_differ_are_refused(self) -> None:
        samples = [{"image": torch.zeros(3, 8, n)} for n in (4, 5)]
        with pytest.raises(SpecError) as caught:
            collate(samples)
        assert caught.value.code == "samples-differ"
        for kind in ("float32 of shape (3, 8, 4)", "float32 of shape (3, 8, 5)"):
            assert kind in caught.value.message

    def test_a_list_of_dictionaries_is_stacked(self) -> None:
        batch = collate([{"a": torch.full((2,), i), "b": i, "c": str(i)} for i in range(3)])
        assert batch["a"].tolist() == [[0, 0], [1, 1], [2, 2]]
        assert batch["b"].tolist() == [0, 1, 2]
        assert batch["c"] == ["0", "1", "2"]


class TestMemoryPool:
    SIZE = 2 << 20

    def test_memory_is_recycled_once_no_tensor_of_it_is_left(self) -> None:
        pool = MemoryPool()
        first = pool(self.SIZE).tensor
        part = first[5:9].view(2, 2)
        place = first.data_ptr()
        del first
        assert pool(self.SIZE).tensor.data_ptr() != place
        kept = pool(self.SIZE)
        del part
        assert pool(self.SIZE // 2).tensor.data_ptr() == place
        assert pool(self.SIZE).tensor.data_ptr() == place
        assert pool(self.SIZE // 2 - 1).tensor.data_ptr() != place
        assert len(kept.tensor) == self.SIZE

    def test_little_of_it_is_kept(self) -> None:
        pool = MemoryPool()
        buffers = [pool(self.SIZE + i) for i in range(30)]
        del buffers
        for _ in range(3):
            larger = pool(8 * self.SIZE)
            del larger
        assert len(pool._free) <= 9

    def test_a_dataset_reads_into_it(self, path: Path, truth: Any) -> None:
        data = FgBgDataset(path)
        positions = [*range(SAMPLES)] * 10
        places = set()
        for _ in range(4):
            batch = collate(data.__getitems__(positions))
            check(batch, truth)
            places.add(batch["image"].data_ptr())
        assert len(places) == 2  # a batch is dropped only when the next one is there


class TestPlainLoader:
    """``torch.utils.data.DataLoader`` with our dataset alone."""

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
        sampler.set_epoch(0)
        assert [batch["index"].tolist() for batch in batches] == [list(batch) for batch in sampler]
        for batch in batches:
            check(batch, truth)


def test_subsets_are_loaded_as_such(path: Path, truth: Any) -> None:
    data = FgBgDataset(path, indices=range(0, 100, 2))
    one, two = torch.utils.data.random_split(data, [0.6, 0.4], torch.Generator().manual_seed(1))
    loaders = [make_loader(part, 8, workers=0) for part in (one, torch.utils.data.Subset(two, range(20)))]
    assert [len(loader.dataset) for loader in loaders] == [30, 20]
    seen = [batch for loader in loaders for batch in loader]
    assert sorted(indices_of(seen)) == list(range(0, 100, 2))
    for batch in seen:
        check(batch, truth)
    with pytest.raises(SpecError) as caught:
        make_loader(torch.utils.data.Subset([1, 2], [0]))  # type: ignore[arg-type]
    assert caught.value.code == "samples-invalid"
