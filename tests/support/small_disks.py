"""A disk that is soon full."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

needs_small_disk = pytest.mark.skipif(
    sys.platform != "linux" or os.geteuid() != 0, reason="only root may mount a small disk"
)


@contextmanager
def small_disk(folder: Path, size: str) -> Iterator[Callable[[], object]]:
    """An empty disk of a size, such as ``120k``, at a folder that is not there yet; what makes it larger."""
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", f"size={size}", "none", str(folder)]
    if subprocess.run(mount, capture_output=True).returncode != 0:
        pytest.skip("no small disk can be mounted here")
    try:
        yield lambda: subprocess.check_call(["mount", "-o", "remount,size=10m", str(folder)])
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=True)
