"""The proxy that other tests put before servers does what it says."""

from __future__ import annotations

import http.client
from urllib.parse import urlsplit

import pytest

pytest.importorskip("obstore")

import proxy as proxies
from object_stores import careless_server
from proxy import at_random, proxy

BODY = bytes(range(256)) * 4096


@pytest.fixture
def server():
    with careless_server() as address:
        yield address


def ask(address, method, path, body=None, timeout=10):
    parts = urlsplit(address)
    connection = http.client.HTTPConnection(parts.hostname, parts.port, timeout=timeout)
    try:
        connection.request(method, path, body=body)
        answer = connection.getresponse()
        return answer.status, answer.read()
    finally:
        connection.close()


def test_without_faults_what_comes_through_is_the_same(server):
    with proxy(server) as between:
        assert ask(between.address, "GET", "/a") == (404, b"")
        assert ask(between.address, "PUT", "/a?x=1", BODY)[0] == 200
        assert ask(between.address, "GET", "/a?x=1") == (200, BODY)
        assert ask(between.address, "HEAD", "/a?x=1") == (200, b"")
        assert between.counts() == {"GET": 2, "PUT": 1, "HEAD": 1}
        put = between.requests[1]
        assert (put.path, put.query, put.length) == ("/a", "x=1", len(BODY))


@pytest.mark.parametrize("fault", [proxies.RESET, proxies.LOST])
def test_a_put_is_cut_off_before_or_after_the_server_has_done_it(server, fault):
    with proxy(server, lambda request: fault if request.number == 0 else None) as between:
        with pytest.raises(ConnectionResetError):
            ask(between.address, "PUT", "/a", BODY)
        assert ask(between.address, "GET", "/a") == ((200, BODY) if fault == proxies.LOST else (404, b""))
        assert between.faults == {0: fault}


def test_an_answer_can_be_cut_late_or_missing_or_another(server):
    faults = [None, proxies.TRUNCATED, proxies.SLOW, proxies.SILENT, "503"]
    with proxy(server, lambda request: faults[request.number]) as between:
        ask(between.address, "PUT", "/a", BODY)
        with pytest.raises(http.client.IncompleteRead) as cut:
            ask(between.address, "GET", "/a")
        assert 0 < len(cut.value.partial) < len(BODY)
        assert cut.value.partial == BODY[: len(cut.value.partial)]
        assert ask(between.address, "GET", "/a") == (200, BODY)
        with pytest.raises(TimeoutError):
            ask(between.address, "GET", "/a", timeout=0.2)
        status, body = ask(between.address, "GET", "/a")
        assert status == 503
        assert b"<Error>" in body


def test_faults_are_a_function_of_the_seed_and_the_number(server):
    def choices(seed):
        choose = at_random(0.05, seed)
        return [choose(proxies.Request(i, "GET", "/a", "", None, None, 0)) for i in range(4000)]

    assert choices(1) == choices(1)
    assert choices(1) != choices(2)
    struck = [fault for fault in choices(1) if fault is not None]
    assert 140 < len(struck) < 260
    assert set(struck) == set(proxies.BAD_DAY)
