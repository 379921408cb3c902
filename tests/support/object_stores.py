"""Object stores: a real server of the protocol of S3 on this machine, and what others there are."""

from __future__ import annotations

import asyncio
import hashlib
import logging
import socket
import subprocess
import sys
import time
import urllib.request
import uuid
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from urllib.error import HTTPError, URLError

import zarr
from fsspec.implementations.asyn_wrapper import AsyncFileSystemWrapper
from fsspec.implementations.memory import MemoryFileSystem
from obstore.store import LocalStore, MemoryStore, S3Store
from zarr.abc.store import Store
from zarr.core.buffer import default_buffer_prototype
from zarr.storage import FsspecStore, ObjectStore, WrapperStore

#: SeaweedFS, which its package puts beside Python.
WEED = Path(sys.executable).with_name("weed")
BUCKET = "bucket"
#: What requests are signed with; the servers here take any.
CREDENTIALS = {"access_key_id": "AKIDFORTESTS", "secret_access_key": "secret-for-tests-0123456789"}
#: Stores that keep writers apart, and all that there are here.
EXACT_STORES = ("s3", "obstore memory")
ALL_STORES = (*EXACT_STORES, "obstore folder", "fsspec memory", "zarr memory")
_PORTS = [f"{part}.port{kind}" for part in ("volume", "master", "filer", "s3") for kind in ("", ".grpc")]
_SECONDS = 60


@contextmanager
def s3_server(folder: Path) -> Iterator[str]:
    """A SeaweedFS with an empty bucket; its address."""
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in _PORTS]
    ports = [s.getsockname()[1] for s in sockets]
    for s in sockets:
        s.close()
    command = [
        str(WEED),
        "server",
        f"-dir={folder}",
        "-ip=127.0.0.1",
        "-ip.bind=127.0.0.1",
        "-filer",
        "-s3",
        "-s3.iam=false",
        # Their ports would be fixed ones.
        "-s3.port.iceberg=0",
        "-s3.port.lance=0",
        "-master.telemetry=false",
        "-master.volumeSizeLimitMB=32",
        "-master.volumePreallocate=false",
        # As many as fit on the disk.
        "-volume.max=0",
        *(f"-{name}={port}" for name, port in zip(_PORTS, ports, strict=True)),
    ]
    address = f"http://127.0.0.1:{ports[-2]}"
    with (folder / "log").open("w") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log)
    try:
        for _ in range(_SECONDS * 10):
            try:
                put = urllib.request.Request(f"{address}/{BUCKET}", method="PUT")
                urllib.request.urlopen(put).close()
                break
            except (URLError, HTTPError):
                assert process.poll() is None, (folder / "log").read_text()[-2000:]
                time.sleep(0.1)
        else:
            raise TimeoutError((folder / "log").read_text()[-2000:])
        yield address
    finally:
        process.kill()
        process.wait()


@contextmanager
def moto_server() -> Iterator[str]:
    """Moto's server with an empty bucket, in threads of this process; its address."""
    from moto.server import ThreadedMotoServer

    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    try:
        host, port = server.get_host_and_port()
        address = f"http://{host}:{port}"
        put = urllib.request.Request(f"{address}/{BUCKET}", method="PUT")
        urllib.request.urlopen(put).close()
        yield address
    finally:
        server.stop()


def s3_options(address: str, **others: object) -> dict[str, object]:
    """The storage options for URLs of a server's objects."""
    return {"endpoint": address, "region": "us-east-1", **CREDENTIALS, **others}


def option_words(options: Mapping[str, object]) -> list[str]:
    """The same on the command line."""
    return [word for key, value in options.items() for word in ("--storage-option", f"{key}={value}")]


def s3_store(address: str, prefix: str) -> ObjectStore:
    """A folder in the bucket of a server."""
    store = S3Store(
        BUCKET,
        prefix=prefix,
        config={"endpoint": address, "region": "us-east-1", **CREDENTIALS},
        client_options={"allow_http": True},
    )
    return ObjectStore(store)


def uploaded(address: str, folder: Path) -> str:
    """A new folder in the bucket of a server, with a copy of all files of another one; its name."""
    name = uuid.uuid4().hex
    target = s3_store(address, name).store
    for path in folder.rglob("*"):
        if path.is_file():
            target.put(path.relative_to(folder).as_posix(), path.read_bytes())
    return name


def make_store(kind: str, folder: Path, address: Callable[[], str]) -> Store:
    """An empty Zarr store of a kind, in a folder or at the address of a server where it is one of such."""
    name = uuid.uuid4().hex
    if kind == "s3":
        return s3_store(address(), name)
    if kind == "obstore memory":
        return ObjectStore(MemoryStore())
    if kind == "obstore folder":
        return ObjectStore(LocalStore(folder / name, mkdir=True))
    if kind == "fsspec memory":
        return FsspecStore(AsyncFileSystemWrapper(MemoryFileSystem(), asynchronous=True), path=f"/{name}")
    return zarr.storage.MemoryStore()


class _Careless(BaseHTTPRequestHandler):
    """Keeps objects as S3 does, whatever conditions come with them."""

    protocol_version = "HTTP/1.1"

    def _answer(self, status, length, content=b""):
        self.send_response(status)
        self.send_header("Content-Length", str(length))
        self.send_header("Last-Modified", "Fri, 27 Nov 2026 00:00:00 GMT")
        self.send_header("ETag", f'"{hashlib.sha256(content).hexdigest()}"')
        self.end_headers()

    def do_PUT(self):
        content = self.rfile.read(int(self.headers["Content-Length"]))
        self.server.objects[self.path] = content
        self._answer(200, 0, content)

    def do_GET(self):
        content = self.server.objects.get(self.path)
        if content is None:
            self._answer(404, 0)
        else:
            self._answer(200, len(content), content)
            if self.command == "GET":
                self.wfile.write(content)

    do_HEAD = do_GET

    def log_message(self, *_):
        pass


@contextmanager
def careless_server() -> Iterator[str]:
    """A server that speaks as much of S3 as to get and put objects, and knows no conditions; its address."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Careless)
    server.objects = {}
    thread = Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


class Counting(WrapperStore):
    """A store that notes each request, and does to some what ``change`` says."""

    requests: list
    change = None

    def __init__(self, store):
        super().__init__(store)
        self.requests = []

    async def get(self, key, prototype, byte_range=None):
        self.requests.append((key, byte_range))
        value = await self._store.get(key, prototype, byte_range)
        if self.change is not None:
            value = await self.change(key, byte_range, value, prototype)
        return value

    def __getstate__(self):
        return self.__dict__ | {"change": None}

    def arrays(self):
        """How many requests there were for each array."""
        return Counter(key.split("/")[0] for key, _ in self.requests)


def far_away(folder):
    """A dataset in a folder, which is read through obstore as a store far away."""
    return Counting(ObjectStore(LocalStore(folder), read_only=True))


def contents(store) -> dict[str, bytes]:
    """Every value of a Zarr store, by its key."""

    async def collect():
        keys = [key async for key in store.list()]
        return {key: (await store.get(key, default_buffer_prototype())).to_bytes() for key in sorted(keys)}

    return asyncio.run(collect())
