"""Open datasets on a server, in the memory of fsspec and of Zarr, and ones that are moved away."""

from __future__ import annotations

import http.server
import json
import pickle
import re
import shutil
import threading
import time
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
import zarr
from builders import assert_same_batch
from refusals import refused
from zarr.storage import MemoryStore

from fgbgpack import create, open_dataset
from fgbgpack.document import PLACEMENTS
from fgbgpack.errors import DatasetError, SpecError
from fgbgpack.pipeline import pack
from fgbgpack.storage import answers as answers_module
from fgbgpack.storage.zip_directory import TAIL_BYTES


class Log(list):
    """The path and the size of each answer."""

    fails = False
    #: Whether ranges are ignored, answers are cut short, or none comes until it is set to something else.
    answers = ""
    #: What the header X-Token must be.
    token: str | None = None


class Ranges(http.server.SimpleHTTPRequestHandler):
    """Files below a folder, whole or in ranges, and a note of each request."""

    def __init__(self, *args, log, **options):
        self._log = log
        super().__init__(*args, **options)

    def do_GET(self):
        path = Path(self.translate_path(self.path))
        if self._log.token not in (None, self.headers.get("X-Token")):
            self.send_error(403)
            return
        if self._log.fails:
            self.send_error(500)
            return
        if not path.is_file():
            self.send_error(404)
            return
        content = path.read_bytes()
        asked = re.fullmatch(r"bytes=(\d*)-(\d*)", self.headers.get("Range", ""))
        start, stop = 0, len(content)
        while self._log.answers == "late" and "/c/" in self.path:
            time.sleep(0.01)
        if self._log.answers == "whole":
            asked = None
        if asked:
            first, last = asked.groups()
            if first:
                start, stop = int(first), min(int(last) + 1 if last else stop, stop)
            else:
                start = max(0, stop - int(last))
        if self._log.answers == "short" and asked:
            stop -= (stop - start) // 2
        part = content[start:stop]
        self._log.append((self.path.lstrip("/"), len(part)))
        self.send_response(206 if asked else 200)
        if asked:
            self.send_header("Content-Range", f"bytes {start}-{stop - 1}/{len(content)}")
        self.send_header("Content-Length", str(len(part)))
        self.end_headers()
        self.wfile.write(part)

    def do_HEAD(self):
        path = Path(self.translate_path(self.path))
        if not path.is_file():
            self.send_error(404)
            return
        self.send_response(200)
        self.send_header("Accept-Ranges", "bytes")
        self.send_header("Content-Length", str(path.stat().st_size))
        self.end_headers()

    def log_message(self, *args):
        pass


@contextmanager
def serving(folder):
    """A server of the files of a folder: its address, and what was asked of it."""
    log = Log()
    server = http.server.ThreadingHTTPServer(
        ("127.0.0.1", 0), lambda *args: Ranges(*args, log=log, directory=str(folder))
    )
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}", log
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


@pytest.fixture
def served(depth_dataset):
    """The dataset with depth on a server of this machine: its address, and what was asked of it."""
    with serving(depth_dataset.parent) as (address, log):
        yield f"{address}/{depth_dataset.name}", log


@pytest.mark.slow
def test_a_zip_file_on_a_server_is_read_in_ranges(depth_dataset, everything, tmp_path):
    pytest.importorskip("aiohttp", reason="fsspec needs it for http")
    size = pack(depth_dataset, tmp_path / "it.zip").total_bytes
    with serving(tmp_path) as (address, log):
        ds = open_dataset(f"{address}/it.zip?signature=of+mine/")
        batch = ds.read([17], ["mask"])
        tail, *others = [count for _, count in log]
        assert (tail, sum(others) < size // 2) == (min(TAIL_BYTES, size), True)
        np.testing.assert_array_equal(batch.mask[0], everything["mask"][17])
        for some in ([3, 35, 0], range(36)):
            assert_same_batch(ds.read(some), everything, some)
        log.answers = "whole"
        assert_same_batch(open_dataset(f"{address}/it.zip").read([5, 30]), everything, [5, 30])
        with refused(DatasetError, "dataset-missing"):
            open_dataset(f"{address}/none.zip")


@pytest.mark.slow
def test_a_dataset_on_a_server_is_read_in_ranges(served, depth_dataset, everything):
    pytest.importorskip("aiohttp", reason="fsspec needs it for http")
    url, log = served
    ds = open_dataset(url, pixels="stored")
    asked = {path.removeprefix(f"{depth_dataset.name}/").split("/c/")[0] for path, _ in log if "/c/" in path}
    assert all(path.startswith("manifest/") or path == "sources/foreground_size" for path in asked)
    assert_same_batch(ds.read([17, 3, 30]), everything, [17, 3, 30])
    log.clear()
    assert_same_batch(ds.read([16, 4]), everything, [16, 4])
    asked = [path.removeprefix(f"{depth_dataset.name}/") for path, _ in log]
    assert asked, "other chunks than before"
    assert not any("zarr.json" in path or path.split("/")[0] in PLACEMENTS for path in asked)
    whole = {path: (depth_dataset / path).stat().st_size for path in asked}
    for path, (_, size) in zip(asked, log, strict=True):
        assert size < whole[path], "only the chunks that are needed, and no index again"
    samples = ds.where(background="b1.png")
    assert_same_batch(ds.read(samples), everything, samples)
    again = pickle.loads(pickle.dumps(ds))
    assert_same_batch(again.read([2]), everything, [2])
    np.testing.assert_array_equal(ds.depth[5, 3:9], everything["depth"][5, 3:9])


@pytest.mark.slow
def test_pixels_on_a_server_are_made_of_sources_that_come_once(served, depth_dataset, everything):
    pytest.importorskip("aiohttp", reason="fsspec needs it for http")
    url, log = served
    ds = open_dataset(url)
    assert ds.pixels == "recomposed"
    for samples in ([9, 1], [35], range(36)):
        batch = ds.read(samples, ["image", "mask"])
        for name, array in batch.arrays.items():
            np.testing.assert_array_equal(array, everything[name][samples], err_msg=name)
    asked = [path.removeprefix(f"{depth_dataset.name}/") for path, _ in log if "/c/" in path]
    assert {path.split("/")[0] for path in asked} == {"manifest", "sources"}
    assert len(asked) == len(set(asked))


@pytest.mark.slow
def test_a_server_that_cannot_be_written_refuses_a_split(served):
    pytest.importorskip("aiohttp", reason="fsspec needs it for http")
    with refused(DatasetError, "io-failed", re.escape(served[0])):
        open_dataset(served[0]).save_split("it", {"all": 1.0})


@pytest.mark.slow
def test_a_server_that_fails_is_an_error_that_says_why(served):
    pytest.importorskip("aiohttp", reason="fsspec needs it for http")
    ds = open_dataset(served[0], pixels="stored")
    _ = ds.placements
    served[1].fails = True
    others = lambda: open_dataset(served[0])[0], lambda: open_dataset(served[0], pixels="recomposed")
    for action in (lambda: ds[0], lambda: ds.image[3], *others):
        with refused(DatasetError, "store-busy", "500"):
            action()


@pytest.mark.slow
def test_a_server_that_knows_no_ranges_is_read_whole(served, everything):
    pytest.importorskip("aiohttp", reason="fsspec needs it for http")
    url, log = served
    log.answers = "whole"
    for pixels in ("stored", "recomposed"):
        assert_same_batch(open_dataset(url, pixels=pixels).read([17, 3, 30]), everything, [17, 3, 30])


@pytest.mark.slow
def test_an_answer_that_is_cut_short_is_an_error_that_says_so(served, everything):
    pytest.importorskip("aiohttp", reason="fsspec needs it for http")
    url, log = served
    ds = open_dataset(url, pixels="stored")
    _ = ds.placements, ds[20]
    log.answers = "short"
    with refused(DatasetError, "shard-cut-short", r"/c/.* cut short: \d{1,6} bytes"):
        ds.read([3])
    with refused(DatasetError, "shard-cut-short", r"/c/.* cut short: \d{1,6} bytes"):
        open_dataset(url).read([3])
    log.answers = ""
    assert_same_batch(ds.read([3]), everything, [3])


@pytest.mark.slow
def test_a_server_that_does_not_answer_is_an_error_that_says_so(served, everything, monkeypatch):
    pytest.importorskip("aiohttp", reason="fsspec needs it for http")
    url, log = served
    ds = open_dataset(url, pixels="stored")
    _ = ds.placements, ds[20]
    log.answers = "late"
    with monkeypatch.context() as patch:
        patch.setattr(answers_module, "_TIMEOUT", 0.3)
        with refused(DatasetError, "store-timeout", "/c/"):
            ds.read([3])
    log.answers = ""
    assert_same_batch(ds.read([3]), everything, [3])


@pytest.mark.slow
def test_a_server_without_a_dataset_is_an_error(served):
    pytest.importorskip("aiohttp", reason="fsspec needs it for http")
    with refused(DatasetError, "dataset-missing", "nothing"):
        open_dataset(f"{served[0]}/nothing")


@pytest.mark.parametrize("pixels", ["stored", "recomposed"])
def test_a_dataset_in_the_memory_of_fsspec_is_read_alike(depth_dataset, everything, pixels):
    fsspec = pytest.importorskip("fsspec", reason="a URL needs fsspec, which is not a dependency")
    memory = fsspec.filesystem("memory")
    memory.put(f"{depth_dataset}/", "/far/away.zarr/", recursive=True)
    try:
        ds = open_dataset("memory://far/away.zarr", pixels=pixels)
        order = np.random.default_rng(1).permutation(36)
        assert_same_batch(ds.read(order), everything, order)
        found = list(ds.batches(8, shuffle=True, window=2))
        assert sum(len(batch.y) for batch in found) == 36
        ds.save_split("halves", {"a": 0.5, "b": 0.5}, by="sample")
        assert [*open_dataset("memory://far/away.zarr").splits] == ["halves"]
    finally:
        memory.rm("/far", recursive=True)


def test_a_store_in_memory_is_pickled_with_what_it_holds(pictures):
    store = MemoryStore()
    create(store, pictures.spec())
    ds = open_dataset(store)
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(ds))[3].image, ds[3].image)


def test_a_dataset_that_is_moved_while_it_is_open_is_an_error_that_says_so(depth_dataset, tmp_path):
    path = shutil.copytree(depth_dataset, tmp_path / "copy.zarr")
    ds = open_dataset(path)
    path.rename(tmp_path / "elsewhere.zarr")
    with refused(DatasetError, "array-missing", r"copy\.zarr"):
        ds[0]


@pytest.mark.slow
def test_options_for_urls(served, everything, monkeypatch):
    pytest.importorskip("aiohttp", reason="fsspec needs it for http")
    url, log = served
    log.token = "secret"
    with refused(DatasetError, "store-denied", "403"):
        open_dataset(url)
    options = {"headers": {"X-Token": "secret"}}
    ds = open_dataset(url, storage_options=options)
    assert_same_batch(pickle.loads(pickle.dumps(ds)).read([5]), everything, [5])
    loaders = pytest.importorskip("fgbgpack.torch")
    assert len(loaders.make_loader(url, 8, workers=0, storage_options=options).dataset) == 36
    monkeypatch.setenv("FGBGPACK_STORAGE_OPTIONS", json.dumps(options))
    assert_same_batch(open_dataset(url).read([7]), everything, [7])


@pytest.mark.parametrize("text", ["{", "3", "[1]"])
def test_options_of_the_environment_that_cannot_be_used(monkeypatch, text):
    monkeypatch.setenv("FGBGPACK_STORAGE_OPTIONS", text)
    with refused(SpecError, "option-invalid", "FGBGPACK_STORAGE_OPTIONS"):
        open_dataset("memory://somewhere")


def test_options_without_a_url_are_refused(depth_dataset):
    with refused(SpecError, "options-conflict"):
        open_dataset(depth_dataset, storage_options={"anon": True})


def test_the_root_group_of_a_store_is_a_dataset_and_no_other_is(depth_dataset, everything):
    group = zarr.open_group(depth_dataset, mode="r")
    assert_same_batch(open_dataset(group).read([5, 2]), everything, [5, 2])
    with refused(DatasetError, "target-unsupported", "sources"):
        open_dataset(group["sources"])
