"""Progress of a download on stderr: a bar on a terminal, a line now and then in a log."""

from __future__ import annotations

import time
from types import TracebackType
from typing import Self

from rich.progress import BarColumn, DownloadColumn, TextColumn, TimeRemainingColumn, TransferSpeedColumn
from rich.progress import Progress as Bars
from rich.text import Text

from fgbgpack.cli.console import amount, on_terminal, stderr, visible


class TransferDisplay:
    """Shows how far a download is: the ``on_progress`` and ``on_notice`` of the library's functions.

    Args:
        title: What is being fetched.
        quiet: Show nothing at all.
        interval: Seconds between two lines where there is no terminal to draw a bar on.
    """

    def __init__(self, title: str, *, quiet: bool = False, interval: float = 10.0) -> None:
        self._console = stderr()
        self._title = title
        self._quiet = quiet
        self._interval = interval
        self._said = time.monotonic()
        self._bars: Bars | None = None
        if not quiet and on_terminal(self._console):
            columns = (
                TextColumn("{task.description}"),
                BarColumn(bar_width=None),
                DownloadColumn(),
                TransferSpeedColumn(),
                TimeRemainingColumn(compact=True),
            )
            self._bars = Bars(*columns, console=self._console, expand=True)
            self._task = self._bars.add_task(title, total=None)

    def __enter__(self) -> Self:
        if self._bars is not None:
            self._bars.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self._bars is not None:
            self._bars.stop()

    def progress(self, done: int, total: int | None) -> None:
        """Show that ``done`` of ``total`` bytes are there."""
        if self._bars is not None:
            self._bars.update(self._task, completed=done, total=total)
        elif not self._quiet and time.monotonic() - self._said >= self._interval:
            self._said = time.monotonic()
            whole = f" of {amount(total)} ({done / total:.0%})" if total else ""
            self._console.print(Text(f"{self._title}: {amount(done)}{whole}"))

    def notice(self, line: str) -> None:
        """Show a line."""
        if not self._quiet:
            self._console.print(Text(visible(line), style="dim"))
