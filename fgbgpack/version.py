"""Which fgbgpack this is: its version, its commit, and the packages that it writes with."""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import cache
from pathlib import Path

__version__ = "0.1.0"

#: The file beside this one in a wheel that holds the commit it was built from; hatch_build.py writes it.
COMMIT_FILE = "COMMIT"

_PACKAGES = ("zarr", "numcodecs", "numpy", "numba", "pillow")
_HASH = re.compile(r"[0-9a-f]{40}(?:[0-9a-f]{24})?")


@cache
def commit() -> str | None:
    """The commit of this code, 40 hexadecimal digits (64 in a SHA-256 repository).

    It comes from the wheel or, in a checkout, from git's files, which do not tell of uncommitted changes.
    ``None`` where neither is there.
    """
    package = Path(__file__).resolve().parent
    return recorded_commit(package) or checkout_commit(package.parent)


def software() -> dict[str, str]:
    """The versions of fgbgpack and of the packages that write a dataset, and fgbgpack's commit if known."""
    known = commit()
    return {
        "fgbgpack": __version__,
        **({} if known is None else {"fgbgpack-commit": known}),
        **{package: _installed(package) for package in _PACKAGES},
    }


@cache
def _installed(package: str) -> str:
    from importlib import metadata  # takes a third of the time of --help

    return metadata.version(package)


def describe_software(versions: Mapping[str, str]) -> str:
    """Versions for people: ``"fgbgpack 0.1.0 (commit 1a2b3c4d5e6f), zarr 3.1.6"``."""
    told = {name: f"{name} {version}" for name, version in versions.items() if name != "fgbgpack-commit"}
    if "fgbgpack-commit" in versions:
        told["fgbgpack"] = f"{told['fgbgpack']} (commit {versions['fgbgpack-commit'][:12]})"
    return ", ".join(told.values())


def recorded_commit(package: Path) -> str | None:
    """The commit that a build recorded in the package's folder."""
    return _read_hash(package / COMMIT_FILE)


def checkout_commit(root: Path) -> str | None:
    """The commit that is checked out in a folder, read from git's files; ``None`` if it is no checkout."""
    try:
        git = root / ".git"
        if git.is_file():  # a worktree or a submodule: the file names the folder
            git = root / git.read_text(encoding="utf-8").removeprefix("gitdir:").strip()
        head = (git / "HEAD").read_text(encoding="utf-8").strip()
        if not head.startswith("ref:"):
            return head if _HASH.fullmatch(head) else None
        ref = head.removeprefix("ref:").strip()
        shared = git / "commondir"
        common = git / shared.read_text(encoding="utf-8").strip() if shared.is_file() else git
        loose = _read_hash(git / ref) or _read_hash(common / ref)
        if loose is not None:
            return loose
        packed = (common / "packed-refs").read_text(encoding="utf-8")
        match = re.search(rf"^({_HASH.pattern}) {re.escape(ref)}$", packed, re.MULTILINE)
        return match and match[1]
    except (OSError, UnicodeDecodeError):
        return None


def _read_hash(path: Path) -> str | None:
    try:
        text = path.read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError):
        return None
    return text if _HASH.fullmatch(text) else None
