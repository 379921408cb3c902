"""Loaders of datasets in object stores: every start method, after the parent has read, through faults."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from object_stores import s3_store, uploaded
from proxy import SLOW, TRUNCATED, at_random, proxy
from tensors import SAMPLES, check
from time_limits import time_limit
from zarr.storage import FsspecStore

from fgbgpack import open_dataset
from fgbgpack.document import FIELDS, PLACEMENTS
from fgbgpack.torch import make_loader

pytestmark = [
    pytest.mark.slow,
    pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning"),
    pytest.mark.filterwarnings("ignore:This DataLoader will create:UserWarning"),
]
METHODS = ("fork", "spawn", "forkserver")


@pytest.fixture(autouse=True)
def no_hang() -> Iterator[None]:
    """A test that waits for ever fails."""
    with time_limit(300):
        yield


@pytest.fixture(scope="module")
def on_s3(s3: str, path: Path) -> str:
    """The folder of a copy of the dataset on a server of S3."""
    return uploaded(s3, path)


def over_http(address: str, name: str) -> FsspecStore:
    """The same folder, by fsspec over HTTP."""
    pytest.importorskip("aiohttp", reason="fsspec needs it for http")
    return FsspecStore.from_url(f"{address}/bucket/{name}", read_only=True)


def orders(loader: Any, truth: Any, epochs: int) -> list[list[list[int]]]:
    """The samples of each batch of some epochs, which are found right."""
    found = []
    for _ in range(epochs):
        batches = []
        for batch in loader:
            check(batch, truth)
            batches.append(batch["index"].tolist())
        found.append(batches)
    return found


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("kind", ["obstore", "http"])
def test_workers_read_after_their_parent(
    s3: str, on_s3: str, path: Path, truth: Any, kind: str, method: str
) -> None:
    ds = open_dataset(s3_store(s3, on_s3) if kind == "obstore" else over_http(s3, on_s3))
    options: dict[str, Any] = {"seed": 3, "window": 2, "lanes": 2}
    local = orders(make_loader(path, 8, workers=0, adjacent=ds.adjacent, **options), truth, 2)
    assert orders(make_loader(ds, 8, workers=0, **options), truth, 2) == local
    # Who gets what is the same for all methods, and without fork a worker takes seconds to start.
    for workers in (1, 2) if method == "fork" else (1,):
        loader = make_loader(ds, 8, workers=workers, start_method=method, persistent_workers=True, **options)
        assert orders(loader, truth, 2) == local
        ds.read(range(0, SAMPLES, 7))
        again = make_loader(ds, 8, workers=workers, start_method=method, **options)
        for number, _ in enumerate(loader):
            if number == 4:
                break
        again.load_state_dict(loader.state_dict())
        del loader
        rest = [batch["index"].tolist() for batch in again]
        whole = [batch["index"].tolist() for batch in at_epoch(make_loader(path, 8, workers=0, **options), 2)]
        assert rest == whole[5:]


def at_epoch(loader: Any, epoch: int) -> Any:
    loader.set_epoch(epoch)
    return loader


@pytest.mark.parametrize("method", [None, *METHODS])
def test_placements_are_computed_by_workers(
    s3: str, on_s3: str, path: Path, truth: Any, method: str | None
) -> None:
    stored = open_dataset(path).placements
    with proxy(s3) as line:
        workers = {None: 0, "fork": 2}.get(method, 1)
        loader = make_loader(
            s3_store(line.address, on_s3),
            8,
            workers=workers,
            start_method=method,
            placements=True,
            pixels="stored",
        )
        for batch in loader:
            check(batch, truth)
            for name in PLACEMENTS:
                np.testing.assert_array_equal(batch[name], getattr(stored, name)[batch["index"]])
        asked = {request.path.partition(f"{on_s3}/")[2].partition("/")[0] for request in line.requests}
        assert asked == {"zarr.json", "manifest", "sources", *FIELDS}


@pytest.mark.parametrize("cached", [False, True])
def test_epochs_through_faults(s3: str, on_s3: str, truth: Any, tmp_path: Path, cached: bool) -> None:
    options: dict[str, Any] = {"pixels": "stored"} | ({"cache": tmp_path} if cached else {})
    faults = ("500", "503", "reset", "lost", SLOW, TRUNCATED)
    with proxy(s3, at_random(0.1, 1, faults)) as line:
        line.slow_seconds = 0.1
        loader = make_loader(s3_store(line.address, on_s3), 8, workers=2, start_method="fork", **options)
        epochs = orders(loader, truth, 3)
        assert all(sorted(np.concatenate(epoch).tolist()) == list(range(SAMPLES)) for epoch in epochs)
        assert line.faults
        requests = len(line.requests)
        del loader
        warm = make_loader(s3_store(line.address, on_s3), 8, workers=2, start_method="fork", **options)
        assert sorted(np.concatenate(orders(warm, truth, 1)[0]).tolist()) == list(range(SAMPLES))
        shards = [one for one in line.requests[requests:] if "/image/c/" in one.path]
        assert (not shards) == cached
