"""Large files over HTTP: resumed where they broke off, and in place only when whole and as expected."""

from __future__ import annotations

import hashlib
import http.client
import json
import os
import re
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from fgbgpack.depth import registry
from fgbgpack.depth.onnx_file import read_graph
from fgbgpack.errors import DepthModelError

_BLOCK = 1 << 18

#: Servers that are overloaded or restart answer with these; anything else does not go away by asking again.
_PASSING = {408, 425, 429, 500, 502, 503, 504}

#: How far a download's length may be off the one that was expected: what is expected may be rounded.
_TOLERANCE = 0.05


@dataclass(frozen=True)
class Fetched:
    """A file that is there.

    Attributes:
        path: The file.
        sha256: Its digest.
        verified: Whether a digest was known to compare that with.
        received: How many bytes came over the network now; 0 if the file was there already.
    """

    path: Path
    sha256: str
    verified: bool
    received: int


@dataclass(frozen=True)
class Fetch:
    """How to fetch one file.

    Attributes:
        url: Its address, ``https://`` or ``http://``.
        path: Where it goes. While it is on its way it is ``PATH.part``.
        sha256: Its digest, where that is known.
        size: About how many bytes it has, where that is known.
        accept: Called with the whole file before it is put in place, raises if it is not what was wanted.
        on_progress: Called with the bytes that are there and how many it will be (or ``None``).
        on_notice: Called with a line for the user: what is retried, waited for, started over.
        attempts: How many times in a row to try without receiving anything.
        pause: Seconds before the second try; they double from one to the next.
        timeout: Seconds without a byte that count as a broken connection.
    """

    url: str
    path: Path
    sha256: str | None = None
    size: int | None = None
    accept: Callable[[Path], object] = lambda _: None
    on_progress: Callable[[int, int | None], None] = lambda *_: None
    on_notice: Callable[[str], None] = lambda _: None
    attempts: int = 5
    pause: float = 1.0
    timeout: float = 30.0


def fetch(job: Fetch) -> Fetched:
    """Have a file, from the network if need be.

    What a broken connection, a kill or a full disk leaves behind is resumed by the next call, if the server
    can tell that its file is still the same (``If-Range``, RFC 9110 section 13.1.5) and else started over.
    Calls for one file, in any number of processes, wait for each other. The file is in place only when it
    is whole, and has the digest that was expected.

    Raises:
        DepthModelError: The file cannot be fetched or written, or it is another one than was expected.
    """
    try:
        job.path.parent.mkdir(parents=True, exist_ok=True)
        with _only_one(job):
            return _there(job) or _fetched(job)
    except OSError as exc:
        raise DepthModelError(
            f"{job.path} cannot be written: {exc.strerror}. Run the same again to resume."
        ) from exc


def get_model(
    name: str,
    *,
    on_progress: Callable[[int, int | None], None] = lambda *_: None,
    on_notice: Callable[[str], None] = lambda _: None,
) -> Fetched:
    """Have the file of a depth model: with fgbgpack, or else in the models folder from where its card says.

    Args:
        name: The name of a model; see :mod:`fgbgpack.depth.registry`.
        on_progress: As in :class:`Fetch`.
        on_notice: As in :class:`Fetch`.

    Raises:
        DepthModelError: There is no such model, its card knows no download, or what :func:`fetch` raises.
    """
    entry = registry.find(name)
    if entry.is_embedded:
        digest = sha256_of(entry.path)
        return Fetched(entry.path, digest, digest == entry.card.get("sha256"), received=0)
    if "download" not in entry.card:
        if entry.here:
            raise DepthModelError(f"{entry.path} is there; its card {entry.card_path} knows no download.")
        raise DepthModelError(registry.how_to_get(entry))
    return fetch(
        Fetch(
            entry.card["download"],
            entry.path,
            sha256=entry.card.get("sha256"),
            size=entry.card.get("size"),
            accept=read_graph,
            on_progress=on_progress,
            on_notice=on_notice,
        )
    )


def sha256_of(path: Path) -> str:
    """The hexadecimal digest of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _there(job: Fetch) -> Fetched | None:
    """The file, if it is there and is the one that is expected."""
    if not job.path.is_file():
        return None
    sha256 = sha256_of(job.path)
    if job.sha256 in (None, sha256):
        return Fetched(job.path, sha256, job.sha256 is not None, 0)
    job.on_notice(f"{job.path} has another digest than expected ({sha256}): fetching it anew.")
    return None


def _fetched(job: Fetch) -> Fetched:
    download = _Download(job)
    resumed = download.length() > 0
    download.run()
    try:
        sha256 = _checked(job, download.part)
    except DepthModelError:
        download.forget()
        if not resumed:
            raise
        # What an earlier call left may be the culprit; this one starts with nothing.
        job.on_notice("What was there of the file does not fit the rest: starting over.")
        download = _Download(job)
        download.run()
        try:
            sha256 = _checked(job, download.part)
        except DepthModelError:
            download.forget()
            raise
    download.part.replace(job.path)
    download.forget()
    return Fetched(job.path, sha256, job.sha256 is not None, download.received)


def _checked(job: Fetch, part: Path) -> str:
    """The digest of a whole download, if it is what was expected.

    Raises:
        DepthModelError: It is not.
    """
    sha256 = sha256_of(part)
    if job.sha256 not in (None, sha256):
        raise DepthModelError(
            f"What {job.url} gave is not the file that was expected: its SHA-256 is {sha256}, expected "
            f"{job.sha256} ({part.stat().st_size:,} bytes). It was removed. Either it was damaged on its way "
            "(try again), or the file there has been replaced by another one (then look for the old one)."
        )
    _check_size(job, part.stat().st_size)
    job.accept(part)
    return sha256


def _check_size(job: Fetch, size: int) -> None:
    if job.size is not None and abs(size - job.size) > _TOLERANCE * job.size:
        raise DepthModelError(
            f"What {job.url} gives is not the file that was expected: it has {size:,} bytes, expected about "
            f"{job.size:,}. It may be a page that says why; open the address in a browser."
        )


class _BrokenError(Exception):
    """A connection that failed, and may not the next time."""


class _Download:
    """``PATH.part`` while it grows, and ``PATH.part.json`` that says which version of which file it is of."""

    def __init__(self, job: Fetch) -> None:
        self.received = 0
        self.part = job.path.with_name(f"{job.path.name}.part")
        self._job = job
        self._notes = job.path.with_name(f"{job.path.name}.part.json")
        self._validator = self._noted()
        if self._validator is None:
            self.forget()

    def length(self) -> int:
        """How many bytes are there."""
        return self.part.stat().st_size if self.part.is_file() else 0

    def forget(self) -> None:
        """Remove what is there."""
        self.part.unlink(missing_ok=True)
        self._notes.unlink(missing_ok=True)

    def run(self) -> None:
        """Receive the whole file, over as many connections as it takes.

        Raises:
            DepthModelError: The server refuses, cannot be reached, or breaks off again and again.
        """
        failures, before = 0, self.received
        while True:
            try:
                self._connect_and_receive()
                return
            except _BrokenError as exc:
                failures = failures + 1 if self.received == before else 1
                before = self.received
                if failures >= self._job.attempts or (self.received == 0 and _is_offline(exc.__cause__)):
                    raise self._given_up(str(exc)) from exc
                pause = self._job.pause * 2 ** (failures - 1)
                self._job.on_notice(f"{exc}; trying again in {pause:g} s, from byte {self.length():,}.")
                time.sleep(pause)

    def _connect_and_receive(self) -> None:
        start = self.length() if self._validator else 0
        headers = {"User-Agent": "fgbgpack", "Accept-Encoding": "identity"}
        if start and self._validator:
            headers |= {"Range": f"bytes={start}-", "If-Range": self._validator}
        request = urllib.request.Request(self._job.url, headers=headers)  # noqa: S310 - the card's schema allows http(s) only
        try:
            with _OPENER.open(request, timeout=self._job.timeout) as response:
                self._receive(response, start)
        except urllib.error.HTTPError as exc:
            exc.close()
            if exc.code == http.HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE:
                # As much as there is, or more: whole if the server's file is that long.
                if (exc.headers.get("Content-Range") or "") != f"bytes */{start}":
                    self.forget()
                    self._validator = None
                    raise _BrokenError("The server has less of the file than is here") from exc
                return
            what = f"{self._job.url} answered {exc.code} ({exc.reason})"
            if exc.code in _PASSING:
                raise _BrokenError(what) from exc
            raise self._given_up(what) from exc
        except urllib.error.URLError as exc:
            raise _BrokenError(f"{self._job.url} cannot be reached: {exc.reason}") from (
                exc.reason if isinstance(exc.reason, OSError) else exc
            )
        except (http.client.HTTPException, TimeoutError, ConnectionError) as exc:
            raise _BrokenError(f"The connection broke off ({exc or type(exc).__name__})") from exc

    def _receive(self, response: Any, start: int) -> None:
        length = response.headers.get("Content-Length")
        total = int(length) if length and length.isdecimal() else None
        if response.status == http.HTTPStatus.PARTIAL_CONTENT:
            match = re.fullmatch(r"bytes (\d+)-\d+/(\d+|\*)", response.headers.get("Content-Range") or "")
            if match is None or int(match[1]) != start:
                self.forget()
                self._validator = None
                raise _BrokenError("The server sent another part of the file than was asked for")
            total = int(match[2]) if match[2] != "*" else None
        else:
            start = 0
        if total is not None:
            _check_size(self._job, total)
        self._note(response.headers)
        with self.part.open("r+b" if start else "wb") as file:
            file.seek(start)
            there = self._copy(response, file, start, total)
        if total is not None and there != total:
            raise _BrokenError(f"The connection broke off after {there:,} of {total:,} bytes")

    def _copy(self, response: Any, file: IO[bytes], there: int, total: int | None) -> int:
        self._job.on_progress(there, total)
        while True:
            try:
                block = response.read1(_BLOCK)
            except (http.client.HTTPException, OSError) as exc:
                raise _BrokenError(f"The connection broke off ({exc or type(exc).__name__})") from exc
            if not block:
                return there
            file.write(block)
            there += len(block)
            self.received += len(block)
            self._job.on_progress(there, total)

    def _noted(self) -> str | None:
        with suppress(OSError, ValueError):
            notes = json.loads(self._notes.read_text(encoding="utf-8"))
            if isinstance(notes, dict) and notes.get("url") == self._job.url:
                validator = notes.get("validator")
                return validator if isinstance(validator, str) and self.part.is_file() else None
        return None

    def _note(self, headers: Any) -> None:
        """Remember which version of the file this is: without, another one's end could be put to it."""
        tag = headers.get("ETag") or ""
        # A weak tag means "much the same", and cannot be used with ranges.
        self._validator = tag if tag.startswith('"') else headers.get("Last-Modified")
        notes = {"url": self._job.url, "validator": self._validator}
        self._notes.write_text(json.dumps(notes), encoding="utf-8")

    def _given_up(self, why: str) -> DepthModelError:
        kept = f" {self.length():,} bytes of it are kept, for the next try." if self.length() else ""
        return DepthModelError(
            f"{why}.{kept} To do it by hand, on any machine with a network: fetch\n  {self._job.url}\n"
            f"and put the file here, under this name:\n  {self._job.path}"
        )


def _is_offline(cause: BaseException | None) -> bool:
    """Whether that host, or any, cannot be reached at all: waiting a little does not help."""
    passing = TimeoutError | ConnectionResetError | ConnectionAbortedError | BrokenPipeError
    # What a server answers with is a URLError, which is an OSError too.
    return isinstance(cause, OSError) and not isinstance(cause, passing | urllib.error.URLError)


class _NoDowngrade(urllib.request.HTTPRedirectHandler):
    """Follows redirects, but from https to nothing else."""

    def redirect_request(self, req: Any, fp: Any, code: int, msg: str, headers: Any, newurl: str) -> Any:
        if not newurl.startswith(
            "https://" if req.full_url.startswith("https://") else ("https://", "http://")
        ):
            raise urllib.error.HTTPError(req.full_url, code, f"redirects to {newurl}", headers, fp)
        return super().redirect_request(req, fp, code, msg, headers, newurl)


_OPENER = urllib.request.build_opener(_NoDowngrade)


@contextmanager
def _only_one(job: Fetch) -> Iterator[None]:
    """Waits until no other process (or thread) fetches the same file."""
    lock = job.path.with_name(f".{job.path.name}.lock")
    descriptor = os.open(lock, os.O_RDWR | os.O_CREAT, 0o666)
    try:
        if not _try_lock(descriptor):
            job.on_notice(f"Another process is fetching {job.path.name}: waiting for it.")
            while not _try_lock(descriptor):
                time.sleep(0.1)
        yield
    finally:
        # The file stays: removing it while somebody waits for it would let two in.
        os.close(descriptor)


def _try_lock(descriptor: int) -> bool:
    """Lock a file until it is closed or the process ends; False if somebody else has it."""
    try:
        if sys.platform == "win32":
            import msvcrt

            msvcrt.locking(descriptor, msvcrt.LK_NBLCK, 1)
        else:
            import fcntl

            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    return True
