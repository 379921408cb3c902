"""Progress on stderr: bars on a terminal, a line now and then in a log."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from types import TracebackType
from typing import Self

from rich.console import Console, ConsoleOptions, RenderableType, RenderResult
from rich.progress import (
    BarColumn,
    DownloadColumn,
    ProgressColumn,
    Task,
    TaskID,
    TaskProgressColumn,
    TextColumn,
    TimeRemainingColumn,
    TransferSpeedColumn,
)
from rich.progress import Progress as Bars
from rich.text import Text

from fgbgpack.cli.console import amount, duration, on_terminal, stderr, visible
from fgbgpack.pipeline import Event, Notice, Progress

_TITLES = {
    "sources": "Pictures",
    "samples": "Samples",
    "backgrounds": "Backgrounds",
    "depth": "Depth",
    "checks": "Checking",
    "chunks": "Chunks",
    "export": "Samples",
    "verify": "Verifying",
}


class _Display:
    """What both displays share: bars if there is a terminal, notices, silence if it is asked for.

    Without a terminal, ``interval`` seconds lie between two lines.
    """

    def __init__(
        self, *columns: ProgressColumn, quiet: bool, console: Console | None = None, interval: float = 10.0
    ) -> None:
        self._console = console or stderr()
        self._quiet = quiet
        self._interval = interval
        self._bars: Bars | None = None
        if not quiet and on_terminal(self._console):
            description, bar = TextColumn("{task.description}"), BarColumn(bar_width=None)
            self._bars = _Bars(description, bar, *columns, console=self._console, expand=True)

    def __enter__(self) -> Self:
        if self._bars is not None:
            self._bars.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self._bars is not None:
            self._bars.stop()
            self._console.print()

    def notice(self, line: str) -> None:
        """Show a line."""
        self._print(visible(line), style="dim")

    def _print(self, line: str, style: str = "") -> None:
        if not self._quiet:
            self._console.print(Text(line, style=style))


@dataclass
class _Stage:
    """One stage of the work; ``initial`` is what an earlier run had done."""

    title: str
    initial: int
    bar: TaskID | None
    started: float = field(default_factory=time.monotonic)
    last_line: float = field(default_factory=time.monotonic)
    finished: bool = False


class ProgressDisplay(_Display):
    """Shows the events of a long call: the ``on_event`` of the library's functions."""

    def __init__(
        self, *, quiet: bool = False, console: Console | None = None, interval: float = 10.0
    ) -> None:
        super().__init__(
            TaskProgressColumn(),
            _CountColumn(),
            _RateColumn(),
            TimeRemainingColumn(compact=True, elapsed_when_finished=True),
            quiet=quiet,
            console=console,
            interval=interval,
        )
        self._stages: dict[str, _Stage] = {}

    def __call__(self, event: Event) -> None:
        """Show one event."""
        if isinstance(event, Notice):
            self.notice(event.message)
        else:
            self._advance(event)

    def _advance(self, event: Progress) -> None:
        stage = self._stages.get(event.stage)
        if stage is None:
            stage = self._stages[event.stage] = self._start(event)
        if stage.bar is not None and self._bars is not None:
            self._bars.update(stage.bar, completed=event.done, total=event.total)
            if event.done >= event.total:
                self._bars.refresh()
        elif event.done > stage.initial and not stage.finished:
            self._report(stage, event.done, event.total)
        stage.finished = event.done >= event.total

    def _start(self, event: Progress) -> _Stage:
        title, bar = _TITLES.get(event.stage, event.stage), None
        if self._bars is None:
            self._print(f"{title}: {event.done:,} of {event.total:,}")
        else:
            bar = self._bars.add_task(title, completed=event.done, total=event.total, initial=event.done)
        return _Stage(title, event.done, bar)

    def _report(self, stage: _Stage, done: int, total: int) -> None:
        now = time.monotonic()
        seconds = now - stage.started
        rate = (done - stage.initial) / seconds if seconds > 0 else 0.0
        if done >= total:
            self._print(f"{stage.title}: {done:,} of {total:,} in {duration(seconds)}, {rate:,.0f}/s")
        elif now - stage.last_line >= self._interval:
            stage.last_line = now
            left = f", {duration((total - done) / rate)} left" if rate > 0 else ""
            self._print(f"{stage.title}: {done:,} of {total:,} ({done / total:.0%}), {rate:,.0f}/s{left}")


class TransferDisplay(_Display):
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


@dataclass
class _Narrow:
    """Leaves space at the right edge: a "^C" that does not fit there would shift all lines."""

    inner: RenderableType

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        yield from console.render(self.inner, options.update_width(options.max_width - len("^C") - 1))


class _Bars(Bars):
    def get_renderable(self) -> RenderableType:
        return _Narrow(super().get_renderable())


class _CountColumn(ProgressColumn):
    """Done and total, with a width that does not change."""

    def render(self, task: Task) -> Text:
        total = f"{task.total or 0:,.0f}"
        return Text(f"{task.completed:>{len(total)},.0f}/{total}", style="progress.download", no_wrap=True)


class _RateColumn(ProgressColumn):
    """Items per second: recent while it runs, average once it is finished."""

    def render(self, task: Task) -> Text:
        rate = task.speed
        if task.finished and task.finished_time:
            rate = (task.completed - task.fields["initial"]) / task.finished_time
        shown = f"{rate:,.0f}/s" if rate else ""
        return Text(f"{shown:>10}", style="progress.data.speed", no_wrap=True)
