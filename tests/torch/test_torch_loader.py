"""Workers, ranks and states: every sample once, in one order, whichever process reads it."""

from __future__ import annotations

import gc
import mmap
import multiprocessing
import os
import re
import shutil
import signal
import sys
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tensors import SAMPLES, bytes_of, check, check_cropped, crop_by_index, indices_of
from torch.utils.data import DataLoader, get_worker_info

from fgbgpack import ClusterError, DatasetError, SpecError, open_dataset
from fgbgpack.storage.reading.threads import usable_cores
from fgbgpack.torch import Augment, FgBgDataset, FgBgLoader, collate, make_loader
from fgbgpack.torch.memory import SharedBuffers

pytestmark = [
    # Newer Pythons warn of forking where there are threads, which is what PyTorch's loaders do by default.
    pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning"),
    # Three workers are more than small machines have processors.
    pytest.mark.filterwarnings("ignore:This DataLoader will create:UserWarning"),
]


class TestWorkers:
    @pytest.mark.slow
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

    @pytest.mark.parametrize(
        ("method", "opened"),
        [
            ("fork", False),
            ("fork", True),
            pytest.param("spawn", True, marks=pytest.mark.slow),
            pytest.param("forkserver", False, marks=pytest.mark.slow),
        ],
    )
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

    @pytest.mark.slow
    @pytest.mark.parametrize("options", [{}, {"dtype": torch.float32}, {"shuffle": False}])
    def test_batches_in_use_do_not_change(self, path: Path, truth: Any, options: Any) -> None:
        """More than there is shared memory for, through several epochs that use it again."""
        loader = make_loader(path, 4, workers=2, window=1, prefetch=1, **options)
        for _ in range(3):
            kept = list(loader)
            assert len(kept) == 30
            for batch in kept:
                if options.get("dtype"):
                    batch = batch | {name: (batch[name] * 255).round() for name in ("image", "mask")}
                check(batch, truth)

    @pytest.mark.slow
    def test_shared_memory_is_recycled(self, path: Path) -> None:
        loader = make_loader(path, 4, workers=2, window=1, prefetch=1)
        buffers = set()
        for _ in range(3):
            for batch in loader:
                buffers.add(batch["image"].untyped_storage().data_ptr())
        shared = loader.collate_fn.keywords["shared"]
        assert isinstance(shared, SharedBuffers)
        assert len(buffers) <= shared.count

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
            assert batch["image"].shape == (8, 3, 60, 100)

    @pytest.mark.parametrize("workers", [0, 2])
    def test_floats(self, path: Path, truth: Any, workers: int) -> None:
        for batch in make_loader(path, 8, workers=workers, dtype=torch.float32):
            assert batch["image"].is_contiguous(memory_format=torch.channels_last)
            expected = truth["image"][batch["index"].numpy()].astype(np.float32) / np.float32(255)
            np.testing.assert_array_equal(batch["image"].permute(0, 2, 3, 1).numpy(), expected)

    def test_another_collate_function_may_wrap_ours(self, path: Path, truth: Any) -> None:
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

    def test_a_worker_gets_its_number_when_it_starts(self, path: Path, tmp_path: Path) -> None:
        loader = make_loader(path, 8, workers=2, worker_init=Noting(tmp_path))
        assert len(list(loader)) == 15
        assert sorted(file.name for file in tmp_path.iterdir()) == ["worker 0", "worker 1"]

    def test_defaults(self, path: Path) -> None:
        loader = make_loader(path)
        assert isinstance(loader, FgBgLoader)
        assert loader.pin_memory == torch.cuda.is_available()
        assert sorted(indices_of(loader)) == list(range(SAMPLES))

    def test_options_belong_to_the_dataset_that_has_them(self, path: Path) -> None:
        with pytest.raises(SpecError) as caught:
            make_loader(FgBgDataset(path), fields=["image"], dtype=torch.float32)
        assert caught.value.code == "options-conflict"

    @pytest.mark.skipif(torch.cuda.is_available(), reason="there is CUDA here")
    def test_no_memory_is_pinned_for_nothing(self, path: Path) -> None:
        with pytest.raises(SpecError) as caught:
            make_loader(path, pin_memory=True)
        assert caught.value.code == "device-missing"


class TestThread:
    """Without workers a thread reads ahead."""

    @pytest.mark.parametrize(
        "options", [{}, {"shuffle": False}, {"dtype": torch.float32}, {"steps_per_epoch": 4}]
    )
    def test_it_changes_nothing(self, path: Path, options: Any) -> None:
        found = []
        for prefetch in (0, 1, 2, 7, 100):
            loader = make_loader(path, 8, workers=0, prefetch=prefetch, window=2, **options)
            assert ("on a thread" in repr(loader)) == (prefetch > 0)
            found.append([bytes_of(batch) for _ in range(3) for batch in loader])
        assert len(found[0]) == 3 * len(loader)
        assert all(batches == found[0] for batches in found[1:])

    def test_it_ends_with_the_iteration(self, path: Path) -> None:
        before = set(threading.enumerate())
        loader = make_loader(path, 8, workers=0)
        batches = iter(loader)
        next(batches)
        (thread,) = {one for one in set(threading.enumerate()) - before if "loader" in one.name}
        batches.close()  # type: ignore[attr-defined]
        assert not thread.is_alive()
        list(loader)
        for _ in loader:
            break
        gc.collect()
        assert not [one for one in threading.enumerate() if "fgbgpack-loader" in one.name]

    def test_two_iterations_at_a_time_have_their_own(self, path: Path, truth: Any) -> None:
        loader = make_loader(path, 8, workers=0, window=2)
        first, second = iter(loader), iter(loader)
        for one, other in zip(first, second, strict=True):
            check(one, truth)
            check(other, truth)

    def test_transforms_run_where_they_are_asked_for(self, path: Path) -> None:
        threads = set()

        def transform(sample: dict[str, Any]) -> dict[str, Any]:
            threads.add(threading.get_ident())
            return sample

        loader = make_loader(path, 8, workers=0, transform=transform)
        assert len(list(loader)) == 15
        assert threads == {threading.get_ident()}
        assert "when they are requested" in repr(loader)

    def test_workers_are_chosen_where_they_help(self, path: Path) -> None:
        most = 0 if usable_cores() == 1 else min(4, usable_cores())
        composed: dict[str, Any] = {"pixels": "recomposed", "fields": ["image", "mask"]}
        for options in ({"fields": ["depth"]}, {"transform": enlarge}, {"augment": Augment()}):
            assert make_loader(path, 8, **composed | options).num_workers == most
        loader = make_loader(path, 8, **composed)
        assert loader.num_workers == 0
        assert "read by this process on a thread" in repr(loader)
        assert "2 workers" in repr(make_loader(path, 8, workers=2))
        mixture = make_loader([path, path], 8, **composed | {"fields": ["depth"]})
        assert [part.num_workers for part in mixture.loaders] == [-(-most // 2)] * 2

    @pytest.mark.parametrize("options", [{"workers": 1, "prefetch": 0}, {"workers": 0, "prefetch": -1}])
    def test_workers_read_at_least_one_batch_ahead(self, path: Path, options: Any) -> None:
        with pytest.raises(SpecError):
            make_loader(path, 8, **options)

    def test_workers_read_a_group_ahead(self, path: Path) -> None:
        loader = make_loader(path, 2, workers=1, window=4)
        assert loader.prefetch_factor == loader.order.batches_per_group == 10
        assert make_loader(path, 1, workers=1, window=24).prefetch_factor == 32
        assert make_loader(path, 8, workers=1, shuffle=False).prefetch_factor == 4


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
    return {"image": sample["image"].repeat(1, 4, 4)}


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


def error_of(loader: FgBgLoader) -> Exception:
    """The error that ends an epoch, after which no worker is left."""
    others = set(multiprocessing.active_children())
    with pytest.raises(Exception) as caught:
        list(loader)
    assert set(multiprocessing.active_children()) <= others
    return caught.value


def shared_bytes() -> int:
    """Bytes of memory that this process shares with others and that has no name."""
    found = 0
    for line in Path("/proc/self/maps").read_text().splitlines():
        addresses, mode, *_ = line.split()
        if mode.startswith("rw") and mode.endswith("s") and line.endswith("(deleted)"):
            start, end = (int(address, 16) for address in addresses.split("-"))
            found += end - start if end - start > mmap.PAGESIZE else 0  # less is a lock
    return found


@pytest.mark.skipif(sys.platform != "linux", reason="looks at what Linux tells of processes")
class TestLostWorkers:
    @pytest.mark.parametrize("how", [leave, be_killed])
    def test_a_worker_that_dies_is_an_error(self, path: Path, how: Any) -> None:
        gc.collect()
        before = shared_bytes()
        loader = make_loader(path, 8, workers=2, transform=how)
        assert shared_bytes() > before
        error = error_of(loader)
        assert type(error) is ClusterError
        assert error.code == "worker-lost"
        assert re.search(r"DataLoader worker .* (exited|killed)", str(error))
        del loader, error
        gc.collect()
        assert shared_bytes() == before
        assert not list(Path("/dev/shm").glob(f"*_{os.getpid()}_*"))


class TestErrors:
    @pytest.mark.parametrize("workers", [0, 2])
    def test_a_damaged_shard_is_named(self, path: Path, tmp_path: Path, workers: int) -> None:
        copy = tmp_path / "damaged.zarr"
        shutil.copytree(path, copy)
        shard = sorted((copy / "mask" / "c").rglob("0"))[-1]
        content = bytearray(shard.read_bytes())
        content[20] ^= 255
        shard.write_bytes(content)
        error = error_of(make_loader(copy, 8, workers=workers, pixels="stored"))
        assert type(error) is DatasetError
        assert "damaged.zarr/mask" in str(error)

    def test_batches_before_an_error_are_returned(self, path: Path, tmp_path: Path) -> None:
        copy = tmp_path / "damaged.zarr"
        shutil.copytree(path, copy)
        shards = sorted(file for file in (copy / "depth" / "c").rglob("*") if file.is_file())
        for shard in shards[len(shards) // 2 :]:
            shard.write_bytes(b"")
        found = []
        for prefetch in (0, 1, 6, 40):
            batches: list[list[int]] = []
            loader = make_loader(copy, 8, workers=0, prefetch=prefetch, shuffle=False)
            with pytest.raises(DatasetError):
                batches.extend(batch["index"].tolist() for batch in loader)
            found.append(batches)
        assert 0 < len(found[0]) < SAMPLES // 8
        assert found[0] == found[1] == found[2] == found[3]

    def test_samples_that_differ_are_named_from_a_worker(self, path: Path) -> None:
        error = error_of(make_loader(path, 8, workers=1, transform=ragged))
        assert type(error) is SpecError
        assert "must have equal shapes and types, but image is" in str(error)


def ragged(sample: dict[str, Any]) -> dict[str, Any]:
    return {"image": sample["image"][:, :, : 5 + int(sample["index"]) % 9]}
