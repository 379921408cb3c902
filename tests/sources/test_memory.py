"""The memory that decoded pictures take together."""

from __future__ import annotations

import subprocess
import sys
import threading

import pytest
from PIL import Image

from fgbgpack.sources.memory import Budget


def test_a_thread_waits_until_others_have_given_back():
    budget, order = Budget(100), []
    first_has, first_may_end = threading.Event(), threading.Event()

    def first():
        with budget.scope():
            budget.take(80)
            first_has.set()
            first_may_end.wait()
            order.append("first")

    def second():
        first_has.wait()
        with budget.scope():
            budget.take(20)
            budget.take(50)  # it has some, and so does not wait
            order.append("fits")
        with budget.scope():
            budget.take(90)
            order.append("second")

    threads = [threading.Thread(target=work) for work in (first, second)]
    for thread in threads:
        thread.start()
    while not order:
        pass
    first_may_end.set()
    for thread in threads:
        thread.join()
    assert order == ["fits", "first", "second"]


def test_what_is_alone_is_never_too_large_and_errors_give_back():
    budget = Budget(10)

    def fail():
        with budget.scope():
            budget.take(1000)
            raise ValueError

    for _ in range(3):
        with pytest.raises(ValueError):
            fail()
    with budget.scope(), budget.scope():
        budget.take(1000)
    budget.take(1000)  # outside of all scopes it is nobody's
    with budget.scope():
        budget.take(1)


CHILD = """
import re, sys
from pathlib import Path
from fgbgpack.sources import problems
from fgbgpack.sources.catalog import load_catalog
from fgbgpack.sources.listing import find_sources
problems._THREADS = 4
root = Path(sys.argv[1])
found = find_sources(root / "bg", root / "fg", root / "masks")
catalog = load_catalog(found, height=64, width=64, fit="crop", foreground_height=30)
assert len(catalog.background) == len(catalog.foreground) == 2
# What resource.getrusage says counts the process that started this one.
print(re.search(r"VmHWM:\\s*([0-9]+) kB", Path("/proc/self/status").read_text())[1])
"""


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="needs /proc")
def test_pictures_of_88_megapixels_on_four_threads(tmp_path):
    size = (11_000, 8_000)
    for folder in ("bg", "fg", "masks"):
        (tmp_path / folder).mkdir()
    Image.new("RGB", size, (90, 120, 30)).save(tmp_path / "large.jpg")
    mask = Image.new("L", size)
    mask.paste(255, (3000, 1000, 8000, 7000))
    mask.save(tmp_path / "mask.png", compress_level=1)
    for i in range(2):
        (tmp_path / f"bg/{i}.jpg").symlink_to(tmp_path / "large.jpg")
        (tmp_path / f"fg/{i}.jpg").symlink_to(tmp_path / "large.jpg")
        (tmp_path / f"masks/{i}.png").symlink_to(tmp_path / "mask.png")
    found = subprocess.run(
        [sys.executable, "-c", CHILD, str(tmp_path)], capture_output=True, text=True, check=True
    )
    assert int(found.stdout) * 1024 < 1_500_000_000, found.stdout
