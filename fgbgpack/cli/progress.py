"""The progress of a download on stderr."""

from __future__ import annotations

import time

from rich.progress import DownloadColumn, TimeRemainingColumn, TransferSpeedColumn

from fgbgpack.pipeline.display import Display
from fgbgpack.terminal import amount


class TransferDisplay(Display):
    """Shows a download: the ``on_progress`` and ``on_notice`` of the library's functions."""

    def __init__(self, title: str, *, quiet: bool = False) -> None:
        columns = DownloadColumn(), TransferSpeedColumn(), TimeRemainingColumn(compact=True)
        super().__init__(*columns, quiet=quiet)
        self._title = title
        self._last_line = time.monotonic()
        self._task = None if self._bars is None else self._bars.add_task(title, total=None)

    def progress(self, done: int, total: int | None) -> None:
        """Show that ``done`` of ``total`` bytes have arrived."""
        if self._bars is not None and self._task is not None:
            self._bars.update(self._task, completed=done, total=total)
        elif time.monotonic() - self._last_line >= self._interval:
            self._last_line = time.monotonic()
            whole = f" of {amount(total)} ({done / total:.0%})" if total else ""
            self._print(f"{self._title}: {amount(done)}{whole}")
