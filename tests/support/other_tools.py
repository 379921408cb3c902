"""Programs of other tools that read exports: each runs in a process of its own, with packages of its own."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
from importlib.util import find_spec
from pathlib import Path

import pytest

#: Where make puts what requires other versions of packages than the rest of .venv, without needing them.
MDS, READERS = (Path(sys.prefix) / name for name in ("mds", "readers"))


def printed_by(code: str, *arguments: object, cwd: Path, packages: Path | None = None, **environment) -> str:
    """What a program prints that has the packages in a folder; it fails as the program does."""
    own = {name: str(value) for name, value in environment.items()}
    if packages is not None:
        own["PYTHONPATH"] = str(packages)
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code), *map(str, arguments)],
        env=os.environ | {"TMPDIR": str(cwd)} | own,
        cwd=cwd, capture_output=True, text=True, timeout=300,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done.stdout


def needs(*names: str, packages: Path | None = None) -> pytest.MarkDecorator:
    """Skips tests of tools that are not there, in a folder of their own or beside the rest."""
    missing = [name for name in names if not _is_there(name, packages)]
    where = "" if packages is None else f" in {packages}, where make puts it"
    return pytest.mark.skipif(bool(missing), reason=f"{' and '.join(missing)} is not installed{where}")


def _is_there(name: str, packages: Path | None) -> bool:
    own = packages is not None and (packages / name).exists()
    return own or find_spec(name) is not None
