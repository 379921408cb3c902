"""Whatever a client sends is answered with a status from 400 to 499, or not at all."""

from __future__ import annotations

import json
import random
import re
import socket
import threading
import time
from contextlib import ExitStack, suppress
from urllib.parse import quote

import pytest
from pages import port_of, served

from fgbgpack import open_dataset
from fgbgpack.viewer.collection import Collection
from fgbgpack.viewer.connection import Patience


def exchange(address: str, request: bytes, *, closes: bool = True) -> tuple[int, dict[str, str], bytes]:
    """The answer to bytes: its status, its header fields, its body."""
    with socket.create_connection(("127.0.0.1", port_of(address)), timeout=20) as connection:
        connection.sendall(request)
        answer = bytearray()
        while part := connection.recv(1 << 16):
            answer += part
    head, _, body = bytes(answer).partition(b"\r\n\r\n")
    first, *lines = head.decode("latin-1").split("\r\n")
    fields = {name.lower(): value for name, _, value in (line.partition(": ") for line in lines)}
    return int(first.split()[1]), fields, body


def get(address: str, target: str, **fields: str) -> tuple[int, dict[str, str], bytes]:
    """The answer to a request of a target, with header fields."""
    given = {"Host": f"127.0.0.1:{port_of(address)}", "Connection": "close"} | {
        name.replace("_", "-"): value for name, value in fields.items()
    }
    lines = [f"GET {target} HTTP/1.1", *(f"{name}: {value}" for name, value in given.items()), "", ""]
    return exchange(address, "\r\n".join(lines).encode("latin-1"))


def host(address: str) -> bytes:
    return b"Host: 127.0.0.1:%d\r\nConnection: close\r\n" % port_of(address)


@pytest.mark.parametrize(
    "path",
    [
        "/../../etc/passwd",
        "/static/../server.py",
        "/static/%2e%2e/server.py",
        "/static/..%2fserver.py",
        "/static/%2fetc%2fpasswd",
        "/static//etc/passwd",
        "/static/",
        "/static/style.css%00",
        "/zarr.json",
        "/image/zarr.json",
        "/api/",
        "/api/sample/../datasets",
        "/index.html/x",
        "//127.0.0.1/",
        "/" + "a" * 4000,
    ],
)
def test_no_path_leads_anywhere_else(plain_page, path):
    status, _, body = get(plain_page, path)
    assert status == 404
    assert json.loads(body) == {"error": "There is nothing here."}


@pytest.mark.parametrize(
    ("request_line", "status"),
    [
        (b"POST / HTTP/1.1", 405),
        (b"PUT /api/sample?i=0 HTTP/1.1", 405),
        (b"DELETE / HTTP/1.1", 405),
        (b"HEAD / HTTP/1.1", 405),
        (b"OPTIONS * HTTP/1.1", 400),
        (b"CONNECT example.org:443 HTTP/1.1", 400),
        (b"TRACE / HTTP/1.1", 405),
        (b"GET http://example.org/ HTTP/1.1", 400),
        (b"GET / HTTP/2.0", 400),
        (b"GET /", 400),
        (b"get / HTTP/1.1", 405),
        (b"GET /\x00 HTTP/1.1", 400),
        (b"GET /%ff%fe HTTP/1.1", 404),
        (b"\x16\x03\x01\x02\x00\x01\x00\x01", 400),
        (b"GET /?" + b"a" * 9000 + b" HTTP/1.1", 414),
    ],
)
def test_nothing_but_get_is_answered(plain_page, request_line, status):
    found, fields, _ = exchange(plain_page, request_line + b"\r\n" + host(plain_page) + b"\r\n")
    assert found == status
    assert fields.get("allow") == ("GET" if status == 405 else None)


@pytest.mark.parametrize(
    ("lines", "status"),
    [
        (b"Content-Length: 5\r\n", 413),
        (b"Content-Length: -1\r\n", 400),
        (b"Transfer-Encoding: chunked\r\n", 413),
        (b"Content-Length: 0\r\nContent-Length: 5\r\n", 400),
        (b"Host: localhost\r\n", 400),
        (b"Bad Name: x\r\n", 400),
        (b"X : y\r\n", 400),
        (b"X: a\x00b\r\n", 400),
        (b"X: a\rY: b\r\n", 400),
        (b"nothing\r\n", 400),
        (b"X: " + b"a" * 20_000 + b"\r\n", 431),
    ],
)
def test_bad_header_fields_are_refused(plain_page, lines, status):
    request = b"GET / HTTP/1.1\r\n" + host(plain_page) + lines + b"\r\n"
    assert exchange(plain_page, request)[0] == status


@pytest.mark.parametrize(
    "lines", [b"X: a\r\n folded\r\n", b"X: a\nY: b\r\n", b"Content-Length: 0\r\nContent-Length: 0\r\n"]
)
def test_what_servers_may_read_all_the_same_is_read(plain_page, lines):
    # RFC 9112, 2.2 and 5.2, and RFC 9110, 8.6: the parser may, and it changes nothing of the answer.
    status, _, body = exchange(
        plain_page, b"GET /api/colours HTTP/1.1\r\n" + lines + host(plain_page) + b"\r\n"
    )
    assert (status, body) == (200, get(plain_page, "/api/colours")[2])


@pytest.mark.parametrize(
    "name",
    [
        "example.org",
        "127.0.0.1",
        "127.0.0.1:1",
        "localhost.example.org:{}",
        "127.0.0.1.nip.io:{}",
        "",
        "[::1",
        "0.0.0.0:{}",
    ],
)
def test_another_host_is_refused(plain_page, name):
    assert get(plain_page, "/api/datasets", Host=name.format(port_of(plain_page)))[0] == 421


def test_a_request_without_host_is_refused(plain_page):
    assert exchange(plain_page, b"GET / HTTP/1.1\r\nConnection: close\r\n\r\n")[0] == 400
    assert exchange(plain_page, b"GET / HTTP/1.0\r\nConnection: close\r\n\r\n")[0] == 421


def test_own_names_are_answered(plain_page):
    for name in ("localhost", "LOCALHOST", "127.0.0.1", "[::1]", "127.8.8.8"):
        assert get(plain_page, "/", Host=f"{name}:{port_of(plain_page)}")[0] == 200


def test_pages_of_other_sites_get_nothing(plain_page):
    for site in ("cross-site", "same-site"):
        fields = {"Sec-Fetch-Site": site, "Sec-Fetch-Mode": "no-cors"}
        assert get(plain_page, "/api/sheet?from=0&count=1", **fields)[0] == 403
        assert get(plain_page, "/static/main.js", **fields)[0] == 403
    # A link to the page may be anywhere.
    assert get(plain_page, "/", **{"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "navigate"})[0] == 200


@pytest.mark.parametrize(
    "target",
    [
        "sample?i=36",
        "sample?i=-1",
        "sample?i=99999999999999999999",
        "sample?i=1e3",
        "sample?i=",
        "sample?i=%D9%A3",
        "sample",
        "sample?i=0&d=1",
        "sample?i=0&i=1",
        "plane?i=36&layer=image",
        "plane?i=0&layer=" + quote("../../x"),
        "plane?i=0&layer=instances&d=7",
        "plane?i=0&layer=difference&of=image",
        "values?i=0&row=99&column=0",
        "values?i=0&row=0&column=4294967296",
        "rows?from=0&count=0",
        "rows?from=0&count=100000000",
        "rows?from=-1&count=1",
        "sheet?from=36&count=1",
        "sheet?from=0&count=1&cell=1",
        "sheet?from=0&count=1&cell=99999999",
        "sheet?from=0&count=1&layer=nothing",
        "sheet?from=0&count=1&scale=x",
        "difference?i=0",
        "statistics?d=1",
        "search?bg=99",
        "search?bg=" + ",".join(["1"] * 501),
        "search?bg=1e9",
        "search?fg=-1",
        "search?cat=5",
        "search?blend=x",
        "search?flip=maybe",
        "search?height=9:1",
        "search?height=a:b",
        "search?height=" + "9" * 30 + ":",
        "search?height=nan:nan",
        "search?region=1,2,3",
        "search?region=5,5,1,1",
        "search?region=1e99,0,2,2",
        "search?split=none",
        "search?split=" + "a" * 300,
        "search?sort=chaos",
        "search?desc=yes",
        "search?text=" + "a" * 201,
        "search?counts=2",
        "numbers?form=exe",
        "numbers?from=x",
        "search?%ff=1",
        "search?" + "&".join(f"a{i}=1" for i in range(101)),
    ],
)
def test_bad_parameters_are_refused(plain_page, target):
    status, fields, body = get(plain_page, f"/api/{target}")
    assert 400 <= status < 500, (status, body)
    assert fields["content-type"] == "application/json"
    assert json.loads(body)["error"]


def test_answers_restrict_what_browsers_do(plain_page):
    for target in ("/", "/static/main.js", "/api/datasets", "/api/plane?i=0&layer=image", "/nowhere"):
        _, fields, _ = get(plain_page, target)
        policy = dict(
            part.strip().partition(" ")[::2] for part in fields["content-security-policy"].split(";")
        )
        assert policy["default-src"] == "'none'"
        assert policy["script-src"] == policy["style-src"] == policy["connect-src"] == "'self'"
        assert policy["frame-ancestors"] == policy["form-action"] == policy["base-uri"] == "'none'"
        assert fields["x-content-type-options"] == "nosniff"
        assert fields["cross-origin-resource-policy"] == "same-origin"
        assert "access-control-allow-origin" not in fields
        assert "server" not in fields


def test_whatever_is_sent_is_no_bug(plain_page, caplog):
    rng, own = random.Random(0), host(plain_page)
    chunked = b"Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n"
    requests = [
        b"GET /api/rows?from=0&count=3 HTTP/1.1\r\n" + own + b"\r\n",
        b"GET /api/numbers?form=txt HTTP/1.1\r\n" + own + b"Content-Length: 3\r\n\r\nabc",
        b"GET / HTTP/1.1\r\n" + own.replace(b"close", b"upgrade") + b"Upgrade: websocket\r\n\r\n",
        b"POST / HTTP/1.1\r\n" + own + chunked,
    ]
    pieces = [b"\r\n", b"\n", b"\0", b" ", b":", b"%", b"\xff", b"?", b"HTTP/1.1", b"a" * 9000] + [
        field + b"\r\n"
        for field in (
            b"Host: x",
            b"Expect: 100-continue",
            b"Content-Length: 99999999999999999999",
            b"Transfer-Encoding: gzip, chunked",
        )
    ]
    statuses = set[int]()
    for _ in range(300):
        sent = bytearray(b"".join(rng.choices(requests, k=rng.choice((1, 1, 2, 4)))))
        for _ in range(rng.randrange(1, 4)):
            at, cut = rng.randrange(len(sent) + 1), rng.choice((0, 0, 1, 20))
            sent[at : at + cut] = rng.choice(pieces)
        with (
            socket.create_connection(("127.0.0.1", port_of(plain_page)), timeout=20) as connection,
            suppress(ConnectionError),
        ):
            connection.sendall(sent)
            connection.shutdown(socket.SHUT_WR)
            answer = bytearray()
            while part := connection.recv(1 << 16):
                answer += part
            statuses |= {int(status) for status in re.findall(rb"HTTP/1\.1 ([0-9]{3}) ", answer)}
    assert 400 in statuses
    assert max(statuses) < 500
    assert get(plain_page, "/")[0] == 200
    assert caplog.records == []


# --- slow clients ------------------------------------------------------------------------------------


def test_a_client_that_drips_its_request_is_told_so(plain_page):
    with socket.create_connection(("127.0.0.1", port_of(plain_page)), timeout=20) as connection:
        connection.sendall(b"GET / HTTP/1.1\r\nHost: x")
        assert connection.recv(1 << 16).startswith(b"HTTP/1.1 408 ")


def test_a_client_that_says_nothing_is_let_go(kinds):
    with (
        served(open_dataset(kinds["depth"]), patience=Patience(idle=1)) as address,
        socket.create_connection(("127.0.0.1", port_of(address)), timeout=20) as silent,
    ):
        assert silent.recv(1) == b""


def test_nothing_is_done_for_those_who_have_gone(kinds, monkeypatch):
    asked, go_on = [], threading.Event()
    sample = Collection.sample

    def slow(self, number):
        asked.append(number)
        assert go_on.wait(20)
        return sample(self, number)

    monkeypatch.setattr(Collection, "sample", slow)
    with served(open_dataset(kinds["depth"])) as address, ExitStack() as opened:

        def ask(number):
            connection = socket.create_connection(("127.0.0.1", port_of(address)), timeout=20)
            target = b"GET /api/sample?i=%d HTTP/1.1\r\n" % number
            connection.sendall(target + host(address) + b"\r\n")
            return opened.enter_context(connection)

        waiting = [ask(number) for number in range(6)]
        while len(asked) < 4:
            get(address, "/static/icon.svg")
        waiting[4].close()
        # What needs no thread is answered; until then the server has seen who has gone.
        assert get(address, "/static/icon.svg")[0] == 200
        go_on.set()
        assert waiting[5].recv(1 << 16).startswith(b"HTTP/1.1 200 ")
    assert sorted(asked) == [0, 1, 2, 3, 5]


def test_bodies_that_are_none_are_refused_without_a_word(plain_page, caplog):
    request = b"GET / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n" + host(plain_page) + b"\r\nno chunk\r\n"
    assert 400 <= exchange(plain_page, request)[0] < 500
    assert get(plain_page, "/")[0] == 200
    assert caplog.records == []


def test_a_client_that_takes_nothing_is_let_go(plain_page):
    with socket.socket() as connection:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        connection.connect(("127.0.0.1", port_of(plain_page)))
        connection.settimeout(20)
        # More than buffers of the system hold on the way, which nobody reads.
        request = b"GET /static/sample.js HTTP/1.1\r\n" + host(plain_page).replace(b"close", b"keep-alive")
        is_open = True
        try:
            while is_open:
                connection.sendall((request + b"\r\n") * 200)
        except OSError:
            is_open = False
        assert not is_open


def test_others_are_answered_while_one_is_slow(plain_page):
    with socket.create_connection(("127.0.0.1", port_of(plain_page)), timeout=20) as slow:
        slow.sendall(b"G")
        assert get(plain_page, "/api/datasets")[0] == 200


def test_too_many_connections_are_refused(kinds):
    with served(open_dataset(kinds["depth"]), patience=Patience(idle=20)) as address:
        port = port_of(address)
        many = [socket.create_connection(("127.0.0.1", port), timeout=20) for _ in range(257)]
        try:
            assert many[-1].recv(1 << 16).startswith(b"HTTP/1.1 429 ")
        finally:
            for one in many:
                one.close()
        deadline = time.monotonic() + 20
        while get(address, "/api/datasets")[0] != 200:
            assert time.monotonic() < deadline


def test_several_requests_come_over_one_connection(plain_page):
    request = b"GET /api/datasets HTTP/1.1\r\n" + host(plain_page).replace(b"Connection: close\r\n", b"")
    closing = b"GET /api/datasets HTTP/1.1\r\n" + host(plain_page)
    with socket.create_connection(("127.0.0.1", port_of(plain_page)), timeout=20) as connection:
        connection.sendall(request + b"\r\n" + request + b"\r\n" + closing + b"\r\n")
        answer = bytearray()
        while part := connection.recv(1 << 16):
            answer += part
    assert bytes(answer).count(b"HTTP/1.1 200 OK\r\n") == 3


# --- the token ---------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def open_page(kinds):
    """The address of a page that other machines reach, with its token."""
    with served(open_dataset(kinds["depth"]), host="0.0.0.0") as address:
        yield address


def test_a_page_for_other_machines_needs_its_token(open_page):
    token = open_page.partition("?token=")[2]
    assert len(token) >= 32
    for target in (
        "/",
        "/static/main.js",
        "/api/datasets",
        "/?token=",
        f"/?token={token[:-1]}",
        f"/api/datasets?token={token}",
    ):
        assert get(open_page, target)[0] == 401, target
    status, fields, _ = get(open_page, f"/?token={token}")
    # The token leaves the address, and stays in a cookie that no script and no other site has.
    assert (status, fields["location"], fields["cache-control"]) == (303, "/", "no-store")
    cookie, *flags = fields["set-cookie"].split("; ")
    assert {"HttpOnly", "SameSite=strict"} <= set(flags)
    assert get(open_page, "/api/datasets", Cookie=cookie)[0] == 200
    assert get(open_page, "/api/datasets", Cookie=f"other=1; {cookie}")[0] == 200
    assert get(open_page, "/api/datasets", Cookie=cookie[:-1])[0] == 401


def test_a_page_for_other_machines_is_reached_by_number_or_by_its_name(open_page):
    port = port_of(open_page)
    for name, status in (
        (socket.gethostname(), 401),
        ("192.0.2.7", 401),
        ("[2001:db8::1]", 401),
        ("example.org", 421),
    ):
        assert get(open_page, "/", Host=f"{name}:{port}")[0] == status
