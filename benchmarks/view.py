"""The page of ``fgbgpack view``: what ``bench.py`` measures in its part ``view``.

The command runs as users run it, in a process of its own, and is asked over HTTP as its page asks. What the
browser adds is not in these times.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
import time
import urllib.request
from pathlib import Path
from typing import Any

#: Filters, none of which was asked for before.
FILTERS = ("bg=1", "fg=1,2&flip=yes", "region=20,20,60,60", "text=b", "height=30:60", "bg=0,2&sort=height")
#: Samples of a first screen.
FIRST = 48


def measure(path: str) -> dict[str, Any]:
    """Seconds from the start of the command to its first sheet of pictures, and for the sheet alone; of each
    filter until its first samples are known, and until its counts are; and the peak memory in bytes, if the
    system tells it.
    """
    command = [sys.executable, "-m", "fgbgpack", "view", path, "--no-browser", "--port", "0"]
    start = time.perf_counter()
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        if process.stdout is None:
            raise RuntimeError("there is no output")
        try:
            address = re.search(r"http://\S+", process.stdout.readline())
            if address is None:
                raise RuntimeError("the page has no address")
            page = address[0]
            sheet = f"sheet?layer=image&from=0&count={FIRST}"
            first = _seconds(page, sheet)
            from_start = time.perf_counter() - start
            # Where one scrolls to.
            later = [_seconds(page, f"{sheet}&sort=spread&cell={cell}") for cell in (64, 128, 256)]
            filters, counts = [], []
            for query in FILTERS:
                before = time.perf_counter()
                _searched(page, query, counts=0)
                _seconds(page, f"rows?from=0&count={FIRST}&{query}")
                filters.append(time.perf_counter() - before)
                before = time.perf_counter()
                _searched(page, query, counts=1)
                counts.append(time.perf_counter() - before)
            peak = _peak_bytes(process.pid)
        finally:
            process.terminate()
    return {
        "start": from_start,
        "first": first,
        "later": max(later),
        "filter": max(filters),
        "counts": max(counts),
        "peak_bytes": peak,
    }


def _get(page: str, path: str) -> bytes:
    with urllib.request.urlopen(f"{page}api/{path}", timeout=120) as answer:
        body: bytes = answer.read()
        return body


def _seconds(page: str, path: str) -> float:
    start = time.perf_counter()
    _get(page, path)
    return time.perf_counter() - start


def _searched(page: str, query: str, *, counts: int) -> None:
    while json.loads(_get(page, f"search?counts={counts}&{query}"))["done"] < 1:
        pass


def _peak_bytes(process: int) -> int | None:
    status = Path(f"/proc/{process}/status")
    if not status.exists():
        return None
    line = next(line for line in status.read_text().splitlines() if line.startswith("VmHWM:"))
    return int(line.split()[1]) * 1024
