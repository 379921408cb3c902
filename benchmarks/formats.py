"""The same samples in other formats, each written and read as its own documentation advises.

All hold the same three arrays, exactly as the dataset has them and in its order, in which neighbours share a
background: what compresses many samples at once finds that.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import torch
import zarr
from PIL import Image
from torch.utils.data import DataLoader, Dataset, IterableDataset, get_worker_info

from fgbgpack import open_dataset

BATCH = 64
SHARD_BYTES = 1 << 26
WINDOW_CHUNKS = 16
FIELDS = ("image", "mask", "depth")

#: One batch or sample: tensors by name, and ``index``.
Tensors: TypeAlias = dict[str, Any]
Arrays: TypeAlias = dict[str, np.ndarray]


# --- what there is to store --------------------------------------------------------------------------


class Samples:
    """The samples that every format stores: those of a dataset."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.path = folder / "fgbgpack.zarr"

    @cached_property
    def dataset(self) -> Any:
        return open_dataset(self.path)

    def __len__(self) -> int:
        return len(self.dataset)

    def one(self, index: int) -> Arrays:
        sample = self.dataset[index]
        return {name: getattr(sample, name) for name in FIELDS}

    def each(self) -> Iterator[tuple[int, Arrays]]:
        for first in range(0, len(self), 1000):
            batch = self.dataset[first : first + 1000]
            for i in range(len(batch.y)):
                yield first + i, {name: getattr(batch, name)[i] for name in FIELDS}

    def check(self, batch: Tensors) -> None:
        """Refuse a batch that is not what the dataset has, or is out of order with its indices."""
        expected = self.dataset.read(np.asarray(batch["index"]))
        for name in FIELDS:
            found = batch[name]
            if found.ndim == 4 and name == "image" and found.shape[1] == 3:
                found = found.permute(0, 2, 3, 1)
            wanted = getattr(expected, name)
            if not np.array_equal(found.numpy().reshape(wanted.shape), wanted, equal_nan=name == "depth"):
                raise RuntimeError(f"{name} is not what was written")


# --- parts that several of them use ------------------------------------------------------------------


def png(name: str, array: np.ndarray) -> bytes:
    """A PNG file; of depth the 16 bits of each float, so that it is read exactly."""
    file = io.BytesIO()
    Image.fromarray(array.view(np.uint16) if name == "depth" else array).save(file, "PNG")
    return file.getvalue()


def from_png(name: str, file: Any) -> torch.Tensor:
    array = np.array(Image.open(file))
    return torch.from_numpy(
        array.astype(np.uint16, copy=False).view(np.float16) if name == "depth" else array
    )


class OneByOne(Dataset[Tensors]):
    """What reads a sample at a time, opened in the process that reads."""

    def __init__(self, count: int, opened: Callable[[], Callable[[int], Tensors]]) -> None:
        self._count, self._opened = count, opened
        self._read: Callable[[int], Tensors] | None = None

    def __len__(self) -> int:
        return self._count

    def __getitem__(self, index: int) -> Tensors:
        if self._read is None:
            self._read = self._opened()
        return self._read(index)


class BatchByBatch(Dataset[Any]):
    """What reads the samples of a batch at once, opened in the process that reads."""

    def __init__(self, count: int, opened: Callable[[], Callable[[list[int]], Arrays]]) -> None:
        self._count, self._opened = count, opened
        self._read: Callable[[list[int]], Arrays] | None = None

    def __len__(self) -> int:
        return self._count

    def __getitems__(self, indices: list[int]) -> Tensors:
        if self._read is None:
            self._read = self._opened()
        return tensors(self._read(indices), indices)


class Windows(IterableDataset[Tensors]):
    """What reads whole chunks, at random, a window of them at a time, and mixes their samples.

    This is what formats with chunks of several samples need, and what fgbgpack's own loader does.
    """

    def __init__(
        self, count: int, chunk: int, opened: Callable[[], Callable[[list[slice]], list[Arrays]]]
    ) -> None:
        self._count, self._chunk, self._opened = count, chunk, opened
        self._read: Callable[[list[slice]], list[Arrays]] | None = None
        self._epoch = 0

    def __iter__(self) -> Iterator[Tensors]:
        if self._read is None:
            self._read = self._opened()
        worker = get_worker_info()
        number, workers = (0, 1) if worker is None else (worker.id, worker.num_workers)
        random = np.random.default_rng(self._epoch)
        self._epoch += 1
        chunks = random.permutation(-(-self._count // self._chunk)).tolist()
        windows = [chunks[i : i + WINDOW_CHUNKS] for i in range(0, len(chunks), WINDOW_CHUNKS)]
        for window in windows[number::workers]:
            cuts = [slice(c * self._chunk, min((c + 1) * self._chunk, self._count)) for c in window]
            read = self._read(cuts)
            held = {name: np.concatenate([chunk[name] for chunk in read]) for name in FIELDS}
            index = np.concatenate([np.arange(cut.start, cut.stop) for cut in cuts])
            order = random.permutation(len(index))
            for start in range(0, len(order), BATCH):
                some = order[start : start + BATCH]
                yield tensors({name: array[some] for name, array in held.items()}, index[some])


def tensors(arrays: Arrays, indices: Sequence[int] | np.ndarray) -> Tensors:
    return {name: torch.from_numpy(array) for name, array in arrays.items()} | {
        "index": torch.as_tensor(indices)
    }


def as_it_is(batch: Tensors) -> Tensors:
    return batch


def loader_of(dataset: Any, workers: int, **options: Any) -> DataLoader[Any]:
    kept: dict[str, Any] = {"persistent_workers": True} if workers else {}
    return DataLoader(dataset, num_workers=workers, **kept, **options)


def bytes_of(folder: Path) -> int:
    if folder.is_file():
        return folder.stat().st_size
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


# --- the formats -------------------------------------------------------------------------------------


class Peer:
    """A format and how it is read.

    Attributes:
        name: What the table calls it.
        how: In a few words, how it is stored and read.
        packages: The packages that it needs besides fgbgpack's.
        folder: The name of what it stores in; the same for those that share it.
    """

    name: str
    how: str
    packages: tuple[str, ...] = ()
    folder: str = "fgbgpack.zarr"

    def __init__(self, samples: Samples) -> None:
        self.samples = samples
        self.path = samples.folder / self.folder

    def write(self, path: Path) -> None:
        """Store all samples."""

    def loader(self, workers: int) -> Iterable[Tensors]:
        """Shuffled batches: another order each time that it is gone through."""
        raise NotImplementedError

    def bytes(self) -> int:
        """What it takes on disk."""
        return bytes_of(self.path)


class Stored(Peer):
    name = "fgbgpack"
    how = "make_loader"

    def loader(self, workers: int) -> Iterable[Tensors]:
        from fgbgpack.torch import make_loader

        return make_loader(self.samples.path, BATCH, workers=workers)


class Recomposed(Peer):
    name = "fgbgpack, pixels recomposed"
    how = "make_loader of the virtual dataset: depth is stored"

    def loader(self, workers: int) -> Iterable[Tensors]:
        from fgbgpack.torch import make_loader

        return make_loader(self.samples.path, BATCH, workers=workers, pixels="recomposed")

    def bytes(self) -> int:
        return bytes_of(self.path) - sum(bytes_of(self.path / name) for name in FIELDS[:2])


class PngFolder(Peer):
    name = "PNG folder"
    how = "three files a sample, Pillow"
    folder = "png"

    def write(self, path: Path) -> None:
        for name in FIELDS:
            (path / name).mkdir(parents=True)
        for index, sample in self.samples.each():
            for name, array in sample.items():
                (path / name / f"{index:06d}.png").write_bytes(png(name, array))

    def _opened(self) -> Callable[[int], Tensors]:
        return lambda index: (
            {name: from_png(name, self.path / name / f"{index:06d}.png") for name in FIELDS}
            | {"index": index}
        )

    def loader(self, workers: int) -> Iterable[Tensors]:
        return loader_of(OneByOne(len(self.samples), self._opened), workers, batch_size=BATCH, shuffle=True)


class WebDataset(Peer):
    name = "WebDataset"
    how = "tar of PNG; shards and a buffer of 1,000 shuffled"
    packages = ("webdataset",)
    folder = "webdataset"

    def write(self, path: Path) -> None:
        import webdataset

        path.mkdir()
        # Several shards for each worker, though the samples are few.
        pattern = str(path / "%04d.tar")
        with webdataset.ShardWriter(pattern, maxcount=500, verbose=0) as writer:
            for index, sample in self.samples.each():
                files = {f"{name}.png": png(name, array) for name, array in sample.items()}
                writer.write({"__key__": f"{index:06d}", **files})

    def _decoded(self, files: dict[str, Any]) -> Tensors:
        arrays = {name: from_png(name, io.BytesIO(files[f"{name}.png"])) for name in FIELDS}
        return arrays | {"index": int(files["__key__"])}

    def loader(self, workers: int) -> Iterable[Tensors]:
        import webdataset

        shards = sorted(map(str, self.path.glob("*.tar")))
        samples = webdataset.WebDataset(shards, shardshuffle=len(shards)).shuffle(1000).map(self._decoded)
        batches = samples.batched(BATCH, collation_fn=torch.utils.data.default_collate)
        kept: dict[str, Any] = {"persistent_workers": True} if workers else {}
        return webdataset.WebLoader(batches, batch_size=None, num_workers=workers, **kept)


class LitData(Peer):
    name = "LitData"
    how = "tensors, chunks of 64 MB, zstd; StreamingDataset and its loader"
    packages = ("litdata", "zstd")
    folder = "litdata"

    def write(self, path: Path) -> None:
        import litdata

        litdata.optimize(
            fn=_LitDataSample(self.samples.folder),
            inputs=list(range(len(self.samples))),
            output_dir=str(path),
            chunk_bytes="64MB",
            compression="zstd",
            num_workers=1,
        )

    def loader(self, workers: int) -> Iterable[Tensors]:
        import litdata

        cache = self.samples.folder / f"litdata-cache-{workers}"
        dataset = litdata.StreamingDataset(str(self.path), cache_dir=str(cache), shuffle=True)
        kept: dict[str, Any] = {"persistent_workers": True} if workers else {}
        return litdata.StreamingDataLoader(dataset, batch_size=BATCH, num_workers=workers, **kept)


class _LitDataSample:
    """Gives LitData's process each sample; opened there."""

    def __init__(self, folder: Path) -> None:
        self._samples = Samples(folder)

    def __call__(self, index: int) -> Tensors:
        sample = self._samples.one(index)
        return {name: torch.from_numpy(array) for name, array in sample.items()} | {"index": index}


class MosaicStreaming(Peer):
    name = "MosaicML streaming"
    how = "MDS, shards of 64 MB, zstd; decompressed files kept after the first epoch"
    packages = ("mosaicml-streaming",)
    folder = "mds"

    def write(self, path: Path) -> None:
        from streaming import MDSWriter

        columns = {"index": "int"} | {
            name: f"ndarray:{array.dtype}:{','.join(map(str, array.shape))}"
            for name, array in self.samples.one(0).items()
        }
        with MDSWriter(out=str(path), columns=columns, compression="zstd", size_limit=SHARD_BYTES) as writer:
            for index, sample in self.samples.each():
                writer.write({"index": index, **sample})

    def loader(self, workers: int) -> Iterable[Tensors]:
        from streaming import StreamingDataset
        from streaming.base.util import clean_stale_shared_memory

        clean_stale_shared_memory()
        local = self.samples.folder / "mds-local"
        dataset = StreamingDataset(remote=str(self.path), local=str(local), shuffle=True, batch_size=BATCH)
        return loader_of(dataset, workers, batch_size=BATCH)


class Hdf5(Peer):
    name = "HDF5"
    how = "h5py, chunks of one sample, zstd (depth: blosc with bitshuffle); a batch read at once"
    packages = ("h5py", "hdf5plugin")
    folder = "samples.h5"

    def write(self, path: Path) -> None:
        import h5py
        import hdf5plugin

        bits = hdf5plugin.Blosc(cname="zstd", clevel=3, shuffle=hdf5plugin.Blosc.BITSHUFFLE)
        with h5py.File(path, "w") as file:
            for name, array in self.samples.one(0).items():
                codec = bits if name == "depth" else hdf5plugin.Zstd(clevel=3)
                shape = (len(self.samples), *array.shape)
                file.create_dataset(name, shape, array.dtype, chunks=(1, *array.shape), **codec)
            for index, sample in self.samples.each():
                for name, array in sample.items():
                    file[name][index] = array

    def _opened(self) -> Callable[[list[int]], Arrays]:
        import h5py
        import hdf5plugin  # noqa: F401 its filters are known once it is imported

        file = h5py.File(self.path, "r")
        arrays = [(name, file[name]) for name in FIELDS]

        def read(indices: list[int]) -> Arrays:
            batch = {}
            for name, array in arrays:
                batch[name] = np.empty((len(indices), *array.shape[1:]), array.dtype)
                for place, index in enumerate(indices):
                    array.read_direct(batch[name], np.s_[index], np.s_[place])
            return batch

        return read

    def loader(self, workers: int) -> Iterable[Tensors]:
        dataset = BatchByBatch(len(self.samples), self._opened)
        return loader_of(dataset, workers, batch_size=BATCH, shuffle=True, collate_fn=as_it_is)


class OfOurZarr(Peer):
    """Those that read the dataset itself, by whole chunks in windows or a batch from anywhere."""

    by_windows = True

    def _opened(self) -> Callable[[list[Any]], list[Arrays]]:
        """A function that reads what some slices or integers index, of all arrays."""
        raise NotImplementedError

    def _batches(self) -> Callable[[list[int]], Arrays]:
        read = self._opened()

        def batch(indices: list[int]) -> Arrays:
            samples = read(indices)
            return {name: np.stack([sample[name] for sample in samples]) for name in FIELDS}

        return batch

    def loader(self, workers: int) -> Iterable[Tensors]:
        count = len(self.samples)
        # Some of these have threads, which do not survive a fork.
        options: dict[str, Any] = {"multiprocessing_context": "forkserver"} if workers else {}
        if self.by_windows:
            chunk = self.samples.dataset.image.chunks[0]
            return loader_of(Windows(count, chunk, self._opened), workers, batch_size=None, **options)
        dataset = BatchByBatch(count, self._batches)
        return loader_of(dataset, workers, batch_size=BATCH, shuffle=True, collate_fn=as_it_is, **options)

    def __getstate__(self) -> dict[str, Any]:
        return {"path": self.path}


class TensorStore(OfOurZarr):
    name = "TensorStore"
    how = f"our Zarr, windows of {WINDOW_CHUNKS} whole chunks, mixed"
    packages = ("tensorstore",)

    def _opened(self) -> Callable[[list[Any]], list[Arrays]]:
        import tensorstore

        arrays = {
            name: tensorstore.open(
                {"driver": "zarr3", "kvstore": {"driver": "file", "path": str(self.path / name)}},
                read=True,
                open=True,
            ).result()
            for name in FIELDS
        }

        def read(indices: list[Any]) -> list[Arrays]:
            coming = [{name: array[index].read() for name, array in arrays.items()} for index in indices]
            return [{name: future.result() for name, future in one.items()} for one in coming]

        return read


class TensorStoreAnywhere(TensorStore):
    name = "TensorStore, from anywhere"
    how = "our Zarr, each sample at random"
    by_windows = False


class ZarrPython(OfOurZarr):
    name = "zarr-python"
    how = TensorStore.how

    def _opened(self) -> Callable[[list[Any]], list[Arrays]]:
        group: Any = zarr.open_group(self.path, mode="r")
        arrays = {name: group[name] for name in FIELDS}
        return lambda indices: [{name: array[index] for name, array in arrays.items()} for index in indices]


class ZarrPythonAnywhere(ZarrPython):
    name = "zarr-python, from anywhere"
    how = TensorStoreAnywhere.how
    by_windows = False


class Zarrs(ZarrPython):
    name = "zarr-python with zarrs"
    packages = ("zarrs",)

    def _opened(self) -> Callable[[list[Any]], list[Arrays]]:
        zarr.config.set({"codec_pipeline.path": "zarrs.ZarrsCodecPipeline"})
        return super()._opened()


class Memmap(Peer):
    name = "NumPy memmap"
    how = "three .npy files, not compressed; a batch read at once"
    folder = "memmap"

    def write(self, path: Path) -> None:
        path.mkdir()
        arrays = {
            name: np.lib.format.open_memmap(
                path / f"{name}.npy", "w+", array.dtype, (len(self.samples), *array.shape)
            )
            for name, array in self.samples.one(0).items()
        }
        for index, sample in self.samples.each():
            for name, array in sample.items():
                arrays[name][index] = array
        for array in arrays.values():
            array.flush()

    def _opened(self) -> Callable[[list[int]], Arrays]:
        arrays = {name: np.load(self.path / f"{name}.npy", mmap_mode="r") for name in FIELDS}
        return lambda indices: {name: array[indices] for name, array in arrays.items()}

    def loader(self, workers: int) -> Iterable[Tensors]:
        dataset = BatchByBatch(len(self.samples), self._opened)
        return loader_of(dataset, workers, batch_size=BATCH, shuffle=True, collate_fn=as_it_is)


PEERS: tuple[type[Peer], ...] = (
    Stored, Recomposed, PngFolder, WebDataset, LitData, MosaicStreaming, Hdf5, TensorStore,
    TensorStoreAnywhere, ZarrPython, ZarrPythonAnywhere, Zarrs, Memmap,
)  # fmt: skip
