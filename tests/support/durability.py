"""A record of what is synced and renamed, and in which order."""

from __future__ import annotations

import os
from pathlib import Path

from fgbgpack import system


class Calls(list):
    """``("syncfs", folder)``, ``("sync", path)`` and ``("rename", path)`` in the order of the calls."""

    def check_published_last(self, name: str, folder: str = ".") -> None:
        """The file was published after all else was synced, and is durable itself."""
        path = f"{folder}/{name}" if folder != "." else name
        renames = [i for i, (kind, _) in enumerate(self) if kind == "rename"]
        assert self[renames[-1]] == ("rename", path)
        before = self[renames[-2] + 1 : renames[-1]] if len(renames) > 1 else self[: renames[-1]]
        kinds = [kind for kind, _ in before]
        assert len(renames) == 1 or "syncfs" in kinds, self
        assert before[-1][0] == "sync"
        assert before[-1][1].startswith(f"{path}."), self
        assert self[renames[-1] + 1] == ("sync", folder)


def recorded(monkeypatch, root: Path, *, syncfs: bool = True) -> Calls:
    """Records the calls from now on, with paths below ``root``; or as if ``syncfs`` were not there."""
    calls = Calls()

    def relative(path) -> str:
        path = Path(path)
        return path.relative_to(root).as_posix() if path.is_relative_to(root) else "outside"

    def path_of(descriptor: int) -> str:
        return relative(Path(f"/proc/self/fd/{descriptor}").readlink())

    def wrap(owner, name, kind, path_from):
        real = getattr(owner, name)

        def wrapper(*arguments, **options):
            calls.append((kind, path_from(*arguments)))
            return real(*arguments, **options)

        monkeypatch.setattr(owner, name, wrapper)

    wrap(os, "fsync", "sync", path_of)
    for name in ("replace", "rename"):
        wrap(os, name, "rename", lambda _, target: relative(target))
    wrap(system, "exchange", "rename", lambda _, target: relative(target))
    if syncfs:
        wrap(system, "syncfs", "syncfs", path_of)
    else:
        monkeypatch.setattr(system, "syncfs", lambda descriptor: False)
    return calls
