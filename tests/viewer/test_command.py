"""The command as users run it."""

from __future__ import annotations

import json
import re
import signal
import socket
import subprocess
import sys
import urllib.request

import pytest
from command_line import PROGRAM, run
from pages import port_of, served


@pytest.mark.slow
@pytest.mark.parametrize("sign", [signal.SIGINT, signal.SIGTERM])
def test_a_page_is_served_until_it_is_stopped(sign, kinds):
    command = [*PROGRAM, "view", str(kinds["depth"]), "--no-browser", "--port", "0"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        address = re.search(r"http://127\.0\.0\.1:\d+/", process.stdout.readline())
        assert address is not None
        with urllib.request.urlopen(f"{address[0]}api/datasets") as answer:
            assert json.load(answer)["datasets"][0]["samples"] == 36
        # Browsers keep connections open, on which nothing is asked.
        with socket.create_connection(("127.0.0.1", port_of(address[0])), timeout=20) as browser:
            browser.sendall(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")
            assert browser.recv(1)
            process.send_signal(sign)
            assert process.wait(60) == 0
        assert process.stdout.read() == "Stop it with Ctrl-C.\n"
        assert process.stderr is not None
        assert process.stderr.read() == ""


@pytest.mark.parametrize("name", ["starlette", "uvicorn"])
def test_a_missing_server_is_named_with_its_extra(name, kinds, monkeypatch):
    for module in [module for module in sys.modules if module.startswith("fgbgpack.viewer")]:
        monkeypatch.delitem(sys.modules, module)
    monkeypatch.setitem(sys.modules, name, None)
    result = run("view", kinds["depth"], "--no-browser")
    assert result.exit_code == 2
    assert f"needs {name}" in result.stderr
    assert "pip install 'fgbgpack[view]'" in result.stderr


def test_the_next_free_port_is_taken(kinds, monkeypatch):
    from fgbgpack import open_dataset
    from fgbgpack.viewer import server

    ds = open_dataset(kinds["depth"])
    with served(ds) as first:
        monkeypatch.setattr(server, "DEFAULT_PORT", port_of(first))
        monkeypatch.setattr("pages.Place", lambda host, port: server.Place(host, None))
        with served(ds) as second:
            assert port_of(first) < port_of(second) < port_of(first) + 20
