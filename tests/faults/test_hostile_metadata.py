"""JSON of datasets that is damaged in every way that a seed comes upon: an error of ours, or no harm.

The damage, the limits and what is read are in ``hostile.py``. ``FGBGPACK_HOSTILE`` is how often each kind of
dataset is damaged.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import hostile
import pytest

KINDS = ("guided", "imported", "plain-virtual", "split")
#: Damages in each kind of dataset.
MANY = 750

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="there are no limits of memory on Windows")


def damage(path: Path, seed: int, count: int) -> dict:
    """Damage a dataset so often in a process of its own."""
    ran = subprocess.run(
        [sys.executable, hostile.__file__, str(path), str(seed), str(count)],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
        capture_output=True,
        text=True,
    )
    assert ran.returncode == 0, ran.stderr[-2000:]
    return json.loads(ran.stdout)


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_damaged_json_is_an_error_of_ours(kinds, kind):
    count = int(os.environ.get("FGBGPACK_HOSTILE", MANY))
    found = damage(kinds[kind], 2, count)
    counts = found["counts"]
    print(kind, counts, *found["silent"], sep="\n  ")
    assert found["others"] == []
    # There is enough damage that matters, and enough of it is noticed.
    assert counts["refused"] > count / 3


def test_the_sound_dataset_is_read_and_other_errors_are_told(kinds, tmp_path):
    path = shutil.copytree(kinds["guided"], tmp_path / "it.zarr")
    expected = hostile.everything(path)
    assert hostile.outcome(path, expected) == "same"
    assert hostile.outcome(path, "") == "differs"
    shutil.rmtree(path / "image")
    assert hostile.outcome(path, expected) == "refused"
