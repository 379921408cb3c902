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
    """The behaviour of a server, and the requests that it got."""

    url: str = ""
    content: bytes = CONTENT
    etag: str | None = '"one"'
    ranges: bool = True
    #: Bytes after which to cut the connection, one for each request, until the list is empty.
    cuts: list[int] = field(default_factory=list)
    #: Statuses to respond with instead, likewise.
    statuses: list[int] = field(default_factory=list)
    #: Seconds to wait before responding, likewise.
    waits: list[float] = field(default_factory=list)
    #: Range and If-Range of each request.
    requests: list[tuple[str | None, str | None]] = field(default_factory=list)
    redirect: str | None = None
    length: bool = True


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        site: Site = self.server.site  # type: ignore[attr-defined]
        ranged, condition = self.headers.get("Range"), self.headers.get("If-Range")
        site.requests.append((ranged, condition))
        if site.waits:
            time.sleep(site.waits.pop(0))
        if site.redirect and self.path == "/model":
            return self.respond(302, {"Location": site.redirect})
        if site.statuses:
            return self.respond(site.statuses.pop(0), {})
        headers, status, body = {}, 200, site.content
        if site.etag:
            headers["ETag"] = site.etag
        if ranged and site.ranges and condition == site.etag:
            start = int(ranged.removeprefix("bytes=").removesuffix("-"))
            if start >= len(body):
                return self.respond(416, {"Content-Range": f"bytes */{len(body)}"})
            headers["Content-Range"] = f"bytes {start}-{len(body) - 1}/{len(body)}"
            status, body = 206, body[start:]
        if site.length:
            headers["Content-Length"] = str(len(body))
        else:
            headers["Connection"] = "close"
        cut = site.cuts.pop(0) if site.cuts else len(body)
        self.respond(status, headers, body[:cut])
        return None

    def respond(self, status: int, headers: dict[str, str], body: bytes = b"") -> None:
        self.send_response(status)
        for name, value in (headers | ({} if body else {"Content-Length": "0"})).items():
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
