"""A site on loopback that networks are downloaded from."""

from __future__ import annotations

import hashlib
import threading
import time
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import numpy as np

CONTENT = np.random.default_rng(1).bytes(300_000)
OTHER = np.random.default_rng(2).bytes(300_000)


def sha(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


@dataclass
class Site:
    """What a server gives, and what it was asked for."""

    url: str = ""
    content: bytes = CONTENT
    etag: str | None = '"one"'
    ranges: bool = True
    #: Bytes after which a connection is cut, one for each request, while there are any.
    cuts: list[int] = field(default_factory=list)
    #: Statuses to answer with instead, one for each request, while there are any.
    statuses: list[int] = field(default_factory=list)
    #: Seconds to wait before answering, likewise.
    waits: list[float] = field(default_factory=list)
    #: Range and If-Range of each request.
    asked: list[tuple[str | None, str | None]] = field(default_factory=list)
    redirect: str | None = None
    length: bool = True


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        site: Site = self.server.site  # type: ignore[attr-defined]
        wanted, condition = self.headers.get("Range"), self.headers.get("If-Range")
        site.asked.append((wanted, condition))
        if site.waits:
            time.sleep(site.waits.pop(0))
        if site.redirect and self.path == "/model":
            return self.answer(302, {"Location": site.redirect})
        if site.statuses:
            return self.answer(site.statuses.pop(0), {})
        headers, status, body = {}, 200, site.content
        if site.etag:
            headers["ETag"] = site.etag
        if wanted and site.ranges and condition == site.etag:
            start = int(wanted.removeprefix("bytes=").removesuffix("-"))
            if start >= len(body):
                return self.answer(416, {"Content-Range": f"bytes */{len(body)}"})
            headers["Content-Range"] = f"bytes {start}-{len(body) - 1}/{len(body)}"
            status, body = 206, body[start:]
        if site.length:
            headers["Content-Length"] = str(len(body))
        else:
            headers["Connection"] = "close"
        cut = site.cuts.pop(0) if site.cuts else len(body)
        self.answer(status, headers, body[:cut])
        return None

    def answer(self, status: int, headers: dict[str, str], body: bytes = b"") -> None:
        self.send_response(status)
        for name, value in ({"Content-Length": "0"} if not body else {} | headers).items():
            self.send_header(name, value)
        if not body:
            for name, value in headers.items():
                if name != "Content-Length":
                    self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)
        self.close_connection = True

    def log_message(self, *_: object) -> None:
        pass


@contextmanager
def serving(site: Site):
    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.site = site  # type: ignore[attr-defined]
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    site.url = f"http://127.0.0.1:{server.server_address[1]}/model"
    try:
        yield site
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
