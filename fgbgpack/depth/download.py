"""Downloads of large files over HTTP: resumed after a break, verified, and put in place only when whole."""

from __future__ import annotations

import http.client
import json
import os
import re
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
from fgbgpack.files import sha256_of, sync_file, sync_folder, try_lock
from fgbgpack.inputs import read_json

_BLOCK = 1 << 18

#: Answers of servers that are overloaded or restart; any other refusal is final.
_TRANSIENT = {408, 425, 429, 500, 502, 503, 504}

#: How far the length may be off the expected one, which may be rounded.
_TOLERANCE = 0.05


def _failed(message: str) -> DepthModelError:
    return DepthModelError(message, code="download-failed")


def _mismatch(message: str) -> DepthModelError:
    return DepthModelError(message, code="download-digest-mismatch")


@dataclass(frozen=True)
class Fetched:
    """A file that is in place; ``received`` bytes came over the network now, 0 if it was there already."""

    path: Path
    sha256: str
    verified: bool  # compared with an expected digest
    received: int


@dataclass(frozen=True)
class Fetch:
    """How to fetch one file.

    Attributes:
        path: Where it goes. An unfinished download is ``PATH.part``.
        size: Its length in bytes, exact or rounded, where known.
        accept: Called with the whole file before it is put in place; raises to refuse it.
        on_progress: Called with the bytes received and the total (or ``None``).
        attempts: How many times in a row to try without receiving anything.
        pause: Seconds before the second try; they double from one to the next.
        timeout: Seconds without a byte after which a connection counts as broken.
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
    """Downloads a file unless it is in place already.

    The next call resumes what a broken connection, a kill or a full disk left, if the server can tell that
    its file is unchanged (``If-Range``, RFC 9110 section 13.1.5), and starts over otherwise. Calls for one
    file, in any number of processes, wait for each other. Raises DepthModelError where the file cannot be
    fetched or written, or is not the expected one.
    """
    try:
        job.path.parent.mkdir(parents=True, exist_ok=True)
        with _locked(job):
            return _in_place(job) or _downloaded(job)
    except OSError as exc:
        raise _failed(f"{job.path} cannot be written: {exc.strerror}. Run the same again to resume.") from exc


def get_model(
    name: str,
    *,
    on_progress: Callable[[int, int | None], None] = lambda *_: None,
    on_notice: Callable[[str], None] = lambda _: None,
) -> Fetched:
    """Downloads a depth model to the models folder, unless it is there or comes with fgbgpack. Raises
    DepthModelError where there is no such model, its card has no download, or as :func:`fetch`.
    """
    entry = registry.find(name)
    card, path = entry.card, entry.path
    if entry.is_embedded:
        sha256 = sha256_of(path)
        return Fetched(path, sha256, verified=sha256 == card.sha256, received=0)
    if card.download is None:
        why = f"{path} exists; its card {entry.card_path} has no download."
        raise DepthModelError(why if entry.here else registry.how_to_get(entry), code="model-file-missing")
    job = Fetch(card.download, path, card.sha256, card.size, read_graph, on_progress, on_notice)
    return fetch(job)


def _in_place(job: Fetch) -> Fetched | None:
    if not job.path.is_file():
        return None
    sha256 = sha256_of(job.path)
    if job.sha256 in (None, sha256):
        return Fetched(job.path, sha256, job.sha256 is not None, 0)
    job.on_notice(f"{job.path} has another digest than expected ({sha256}): downloading it again.")
    return None


def _downloaded(job: Fetch) -> Fetched:
    while True:
        part = _Part(job)
        is_resumed = part.length > 0
        part.complete()
        try:
            sha256 = _checked(job, part.path)
        except DepthModelError:
            part.remove()
            if not is_resumed:
                raise
            # What an earlier call left may be the culprit.
            job.on_notice("What an earlier call left does not fit the rest: starting over.")
        else:
            sync_file(part.path)
            part.path.replace(job.path)
            sync_folder(job.path.parent)
            part.remove()
            return Fetched(job.path, sha256, job.sha256 is not None, part.received)


def _checked(job: Fetch, part: Path) -> str:
    """The digest of a whole download, which must be the expected file."""
    sha256, size = sha256_of(part), part.stat().st_size
    if job.sha256 not in (None, sha256):
        raise _mismatch(
            f"{job.url} gave another file than expected: its SHA-256 is {sha256}, expected {job.sha256} "
            f"({size:,} bytes). It was removed. Either it was damaged on its way (try again), or the file "
            "there has been replaced by another one (then look for the old one)."
        )
    _check_size(job, size)
    job.accept(part)
    return sha256


def _check_size(job: Fetch, size: int) -> None:
    if job.size is not None and abs(size - job.size) > _TOLERANCE * job.size:
        raise _mismatch(
            f"{job.url} gives another file than expected: it has {size:,} bytes, expected about "
            f"{job.size:,}. It may be a page that says why; open the address in a browser."
        )


class _BrokenError(Exception):
    """A failed connection, worth another try."""


class _Part:
    """``PATH.part``, an unfinished download, and ``PATH.part.json``, which file and version it belongs to."""

    def __init__(self, job: Fetch) -> None:
        self.received = 0
        self.path = job.path.with_name(f"{job.path.name}.part")
        self._job = job
        self._notes = job.path.with_name(f"{job.path.name}.part.json")
        self._validator: str | None = None
        with suppress(OSError, ValueError, AttributeError):
            notes = read_json(self._notes)
            validator = notes.get("validator")
            if notes.get("url") == job.url and isinstance(validator, str) and self.path.is_file():
                self._validator = validator
        if self._validator is None:
            self.remove()

    @property
    def length(self) -> int:
        """Number of bytes received so far."""
        return self.path.stat().st_size if self.path.is_file() else 0

    def remove(self) -> None:
        """Deletes the part; the next connection starts over."""
        self.path.unlink(missing_ok=True)
        self._notes.unlink(missing_ok=True)
        self._validator = None

    def complete(self) -> None:
        """Receives the rest of the file, over as many connections as it takes, or gives up."""
        failures, before = 0, self.received
        while True:
            try:
                self._connect()
                return
            except _BrokenError as exc:
                failures = failures + 1 if self.received == before else 1
                before = self.received
                if failures >= self._job.attempts or (self.received == 0 and _is_offline(exc.__cause__)):
                    raise self._given_up(str(exc)) from exc
                pause = self._job.pause * 2 ** (failures - 1)
                self._job.on_notice(f"{exc}; trying again in {pause:g} s, from byte {self.length:,}.")
                time.sleep(pause)

    def _connect(self) -> None:
        start = self.length if self._validator else 0
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
                # The part is whole if the server's file is just as long.
                if exc.headers.get("Content-Range") == f"bytes */{start}":
                    return
                self.remove()
                raise _BrokenError("The server's file is shorter than the part received") from exc
            what = f"{self._job.url} answered {exc.code} ({exc.reason})"
            if exc.code in _TRANSIENT:
                raise _BrokenError(what) from exc
            raise self._given_up(what) from exc
        except urllib.error.URLError as exc:
            raise _BrokenError(f"{self._job.url} cannot be reached: {exc.reason}") from (
                exc.reason if isinstance(exc.reason, OSError) else exc
            )
        except (http.client.HTTPException, TimeoutError, ConnectionError) as exc:
            raise _broken_off(exc) from exc

    def _receive(self, response: Any, start: int) -> None:
        length = response.headers.get("Content-Length") or ""
        total = int(length) if length.isdecimal() else None
        if response.status == http.HTTPStatus.PARTIAL_CONTENT:
            match = re.fullmatch(r"bytes (\d+)-\d+/(\d+|\*)", response.headers.get("Content-Range") or "")
            if match is None or int(match[1]) != start:
                self.remove()
                raise _BrokenError("The server sent another part of the file than requested")
            total = int(match[2]) if match[2] != "*" else None
        else:
            start = 0
        if total is not None:
            _check_size(self._job, total)
        self._note_validator(response.headers)
        with self.path.open("r+b" if start else "wb") as file:
            file.seek(start)
            end = self._copy(response, file, start, total)
        if total is not None and end != total:
            raise _BrokenError(f"The connection broke off after {end:,} of {total:,} bytes")

    def _copy(self, response: Any, file: IO[bytes], position: int, total: int | None) -> int:
        """Writes what comes at a position of the file. Returns the position after it."""
        self._job.on_progress(position, total)
        while True:
            try:
                block = response.read1(_BLOCK)
            except (http.client.HTTPException, OSError) as exc:
                raise _broken_off(exc) from exc
            if not block:
                return position
            file.write(block)
            position += len(block)
            self.received += len(block)
            self._job.on_progress(position, total)

    def _note_validator(self, headers: Any) -> None:
        """Notes the version of the file, so that no other version's end is appended to this part."""
        tag = headers.get("ETag") or ""
        # Weak tags mean "much the same" and cannot be used with ranges.
        self._validator = tag if tag.startswith('"') else headers.get("Last-Modified")
        notes = {"url": self._job.url, "validator": self._validator}
        self._notes.write_text(json.dumps(notes), encoding="utf-8")

    def _given_up(self, why: str) -> DepthModelError:
        kept = f" {self.length:,} bytes of it are kept, for the next try." if self.length else ""
        return _failed(
            f"{why}.{kept} To do it by hand, on any machine with a network: fetch\n  {self._job.url}\n"
            f"and put the file here, under this name:\n  {self._job.path}"
        )


def _broken_off(exc: Exception) -> _BrokenError:
    return _BrokenError(f"The connection broke off ({exc or type(exc).__name__})")


def _is_offline(cause: BaseException | None) -> bool:
    """Whether that host, or any, cannot be reached at all, so that waiting a little does not help."""
    transient = TimeoutError | ConnectionResetError | ConnectionAbortedError | BrokenPipeError
    # A server's answer is a URLError, which is an OSError too.
    return isinstance(cause, OSError) and not isinstance(cause, transient | urllib.error.URLError)


class _NoDowngrade(urllib.request.HTTPRedirectHandler):
    """Follows redirects, but from https only to https."""

    def redirect_request(self, req: Any, fp: Any, code: int, msg: str, headers: Any, newurl: str) -> Any:
        allowed = ("https://",) if req.full_url.startswith("https://") else ("https://", "http://")
        if not newurl.startswith(allowed):
            raise urllib.error.HTTPError(req.full_url, code, f"redirects to {newurl}", headers, fp)
        return super().redirect_request(req, fp, code, msg, headers, newurl)


_OPENER = urllib.request.build_opener(_NoDowngrade)


@contextmanager
def _locked(job: Fetch) -> Iterator[None]:
    """Waits until no other process or thread downloads the same file."""
    descriptor = os.open(job.path.with_name(f".{job.path.name}.lock"), os.O_RDWR | os.O_CREAT, 0o666)
    try:
        if not try_lock(descriptor):
            job.on_notice(f"Another process is downloading {job.path.name}: waiting for it.")
            while not try_lock(descriptor):
                time.sleep(0.1)
        yield
    finally:
        # The lock file stays: deleting it while another process waits for it would let two in.
        os.close(descriptor)
